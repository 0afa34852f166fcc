"""Fixtures of the attacks.  Each test is a row of the table; what must hold
for all of them, stage.py looks at."""

import contextlib
import json
import os

import pytest

from lib import h2raw
from lib.faults import limited

import rivals
import stage as lib_stage

TARGET = lib_stage.TARGET
OFF = """
H2Guard 0
H2MinRate 0
H2MaxStreamErrors 0
""" * (TARGET == "off")
#: A file that gets a line of JSON for each row.
REPORT = os.environ.get("H2X_ABUSE_REPORT")

#: Short times, so that what is slow is seen in time.
TIMEOUT = 2
BASE = """
Timeout %d
KeepAliveTimeout %d
AsyncRequestWorkerFactor 20
H2MaxWorkerIdleSeconds 1
""" % (TIMEOUT, 5 * TIMEOUT)

FILES = {"small.html": "hello\n", "page.html": b"0123456789abcdef" * 1024,
         "big.bin": b"0123456789abcdef" * (1 << 18)}


def pytest_configure(config):
    config.addinivalue_line("markers", "row: see stage.row()")


def own_lines(module):
    """A file's CONFIG, with lines for one module in IfModule."""
    return BASE + OFF + getattr(module, "CONFIG", "")


@pytest.fixture(scope="module")
def target(request, httpd, certs):
    """The server of a file: as `server`, but which one is chosen."""
    module = request.module
    if TARGET == "nginx":
        one = rivals.Nginx(certs, TIMEOUT)
    else:
        more = {"env": request.getfixturevalue("faults").env} \
            if getattr(module, "FAULTS", False) else {}
        one = httpd(own_lines(module), getattr(module, "MODULES", ""),
                    load="h2x" if TARGET == "off" else TARGET, **more)
    for name, content in FILES.items():
        one.write(name, content)
    if hasattr(module, "files") and TARGET != "nginx":
        module.files(one)
    failed = request.session.testsfailed
    with limited(getattr(module, "DESCRIPTORS", None)):
        one.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(one.__exit__)
        warm_up(one, 1 if hasattr(module, "DESCRIPTORS") else 25)
        yield one
        if TARGET == "h2x":
            one.failed |= request.session.testsfailed > failed


def warm_up(server, connections):
    """What servers keep once they had much to do is no growth.  Where a busy
    machine makes this longer than Timeout, it is tried again."""
    for left in range(4, -1, -1):
        try:
            return keep_busy(server, connections)
        except ConnectionError:
            if not left:
                raise


def keep_busy(server, connections):
    at_0 = {} if TARGET == "stock" else {h2raw.INITIAL_WINDOW_SIZE: 0}
    with contextlib.ExitStack() as stack:
        for _ in range(connections):
            c = stack.enter_context(server.h2(
                tls=False, settings=at_0))
            c.answers = [c.get("/page.html") for _ in range(500 // (connections + 4))]
            c.wait_headers(c.answers[-1])
            stack.callback(c.wait, *c.answers)
            stack.callback(c.settings, {h2raw.INITIAL_WINDOW_SIZE: 65535})
    if TARGET != "nginx":
        with server.h2(tls=False) as c:     # with all threads that may be
            c.wait(*[c.get("/t/big?n=200000") for _ in range(100)])


@pytest.fixture(scope="module")
def bystander(target):
    one = lib_stage.Bystander(target)
    yield one
    one.stop()


@contextlib.contextmanager
def held_bystander(server, path):
    one = lib_stage.Bystander(server, hold=path)
    try:
        yield one
    finally:
        one.stop()


@pytest.fixture
def stage(request):
    """What watches the attack of a test, which row() begins and ends."""
    row = request.node.get_closest_marker("row").kwargs
    if TARGET not in {None: [TARGET], "h2x": ["h2x", "off"],
                      "httpd": ["h2x", "off", "stock"]}[row["needs"]]:
        write({"row": row["number"], "name": row["name"], "outcome": None,
               "wrong": [], "notes": []})
        pytest.skip("not tried with " + TARGET)
    target = request.getfixturevalue("target")
    others = held_bystander(target, row["held"]) if row["held"] else \
        contextlib.nullcontext(request.getfixturevalue("bystander"))
    with others as bystander:
        yield lib_stage.Stage(target, bystander, row, write)


def write(report):
    if REPORT:
        with contextlib.closing(open(REPORT, "a")) as f:
            f.write(json.dumps(report) + "\n")
