"""Fixtures of the functional tests.  See README.md in this directory."""

import os
import signal
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

pytest.register_assert_rewrite("lib.compare")

from lib import faults as lib_faults, server as lib_server  # noqa: E402
from lib.turns import Turns  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "h2x_only(reason): what mod_http2 cannot pass")
    config.addinivalue_line(
        "markers", "alone(reason): not beside other tests")
    config.addinivalue_line("markers", "timeout: see pytest-timeout")
    # End as on Ctrl-C, so that servers are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


# --- several processes -------------------------------------------------------

turns_directory, turns = pytest.StashKey(), pytest.StashKey()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tells a process that is about to start where the locks are."""
    stash = node.config.stash
    if turns_directory not in stash:
        directory = tempfile.TemporaryDirectory(prefix="h2x-turns-")
        stash[turns_directory] = directory.name
        node.config.add_cleanup(directory.cleanup)
    node.workerinput["turns"] = stash[turns_directory]


def pytest_sessionstart(session):
    config = session.config
    if hasattr(config, "workerinput"):      # one of several processes
        config.stash[turns] = Turns(config.workerinput["turns"])


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Waits for the test's turn, before its timeout begins."""
    if turns not in item.config.stash:
        yield
        return
    with item.config.stash[turns].turn(
            is_alone(item), nextitem is not None and is_alone(nextitem)):
        yield


def is_alone(item):
    return item.get_closest_marker("alone") is not None


# -----------------------------------------------------------------------------

def pytest_collection_modifyitems(config, items):
    # attacks come last
    items.sort(key=lambda item: item.nodeid.startswith("abuse/"))
    if hasattr(config, "workerinput"):
        items.sort(key=is_alone)    # while there is work for all processes
    for item in items:
        mark = item.get_closest_marker("h2x_only")
        if mark and lib_server.STOCK:
            item.add_marker(pytest.mark.skip(
                reason="mod_http2: " + mark.args[0]))


def pytest_report_header():
    return "h2 module: %s, MPM %s%s" % (
        "stock mod_http2" if lib_server.STOCK else lib_server.MODULE_SO,
        lib_server.MPM,
        ", sanitizer " + lib_server.SANITIZE if lib_server.SANITIZE else "")


@pytest.fixture(scope="session")
def session_dir():
    with tempfile.TemporaryDirectory(
            prefix="h2x-session-",
            dir=os.environ.get("H2X_TMPDIR")) as path:
        os.chmod(path, 0o755)
        yield path


@pytest.fixture(scope="session")
def certs(session_dir):
    return lib_server.make_certs(os.path.join(session_dir, "certs"))


@pytest.fixture(scope="session")
def test_module(session_dir):
    return lib_server.build_test_module(session_dir)


@pytest.fixture(scope="module")
def faults(session_dir):
    """What a server with `env=faults.env` suffers."""
    return lib_faults.Faults(session_dir)


@pytest.fixture(scope="session")
def httpd(certs, test_module):
    """Makes servers: `with httpd(CONFIG, modules="rewrite") as server:`."""
    def make(config="", modules="", **kw):
        kw.setdefault("test_module", test_module)
        return lib_server.Server(config, modules, certs=certs, **kw)
    return make


@pytest.fixture(scope="module")
def server(request, httpd):
    """The server of a test file, from its CONFIG, MODULES, HOSTS and
    CLEARTEXT_HOSTS; its function files(server) fills htdocs before the start."""
    module = request.module
    one = httpd(getattr(module, "CONFIG", ""), getattr(module, "MODULES", ""),
                hosts=getattr(module, "HOSTS", None),
                cleartext_hosts=getattr(module, "CLEARTEXT_HOSTS", None))
    if hasattr(module, "files"):
        module.files(one)
    failed = request.session.testsfailed
    with one:
        yield one
        one.failed |= request.session.testsfailed > failed


@pytest.fixture
def h2(server):
    """A connection of its own for each test, over TLS."""
    with server.h2() as connection:
        yield connection


@pytest.fixture(params=["tls", "cleartext"])
def any_h2(request, server):
    """The test runs twice: over TLS and over cleartext."""
    with server.h2(tls=request.param == "tls") as connection:
        yield connection
