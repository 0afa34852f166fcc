"""What configure finds out, and older httpds that the sources are made for."""

import ctypes
import os
import re
import shutil
import subprocess

import pytest

from lib import sources
from lib.server import BUILDDIR, MODULE_SO, STOCK, TOP

pytestmark = [
    pytest.mark.skipif(STOCK, reason="is about building mod_h2x"),
    pytest.mark.skipif(not os.path.exists(os.path.join(TOP, "configure")),
                       reason="was not built here"),
]


def run(*command, **kw):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **kw)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def variable(name):
    """The value of a variable in the Makefile of this build."""
    with open(os.path.join(BUILDDIR, "Makefile"), encoding="utf-8") as f:
        return re.search(r"^%s = *(.*)$" % name, f.read(), re.M).group(1)


def probed():
    """The functions of nghttp2 that configure looks for."""
    with open(os.path.join(TOP, "configure.ac"), encoding="utf-8") as f:
        return re.findall(r"^H2X_CHECK_NGHTTP2\(\[(\w+)\]\)", f.read(), re.M)


def library():
    """The nghttp2 that the module is linked with."""
    path = re.search(r"libnghttp2\S* => (\S+)", run("ldd", MODULE_SO)).group(1)
    return ctypes.CDLL(path)


@pytest.mark.timeout(900)
def test_warnings_do_not_change_what_is_found(tmp_path):
    """Were a limit of nghttp2 not found, the module would go without it."""
    flags = "-Wall -Wextra -Werror"
    for name in "configure", "configure.ac", "mod_h2x.c":
        shutil.copy(os.path.join(TOP, name), tmp_path)
    shutil.copytree(os.path.join(TOP, "build-aux"), tmp_path / "build-aux")
    run("./configure", "--no-create", "--with-apxs=" + variable("APXS"),
        "CFLAGS=" + flags, cwd=tmp_path)
    log = (tmp_path / "config.log").read_text(encoding="utf-8")
    found = [name for name in probed()
             if re.search("^h2x_cv_%s=yes$" % name, log, re.M)]
    assert found == [name for name in probed() if hasattr(library(), name)]
    defined = re.search("^H2X_DEFS='(.*)'$", log, re.M).group(1)
    for name in found:
        assert "-DH2X_HAVE_" + name.upper() in defined
    # what was asked without warnings is built with them
    assert re.search("^CFLAGS='%s'$" % flags, log, re.M)


#: Names that came after httpd 2.4.55, by their headers.
LATER = {
    "http_core.h": ["ap_get_pollfd_from_conn", "get_pollfd_from_conn"],
    "mod_http2.h": ["http2_get_pollfd_from_conn"],
    "httpd.h": ["CONN_STATE_ASYNC_WAITIO", "CONN_STATE_KEEPALIVE",
                "CONN_STATE_PROCESSING"],
    "ap_mpm.h": ["AP_MPMQ_CAN_WAITIO"],
}


@pytest.mark.timeout(900)
def test_oldest_httpd(tmp_path):
    """Compiles with headers that make of those here those of httpd 2.4.55:
    what came later has another name."""
    (tmp_path / "ap_mmn.h").write_text(
        "#include_next <ap_mmn.h>\n"
        "#undef MODULE_MAGIC_NUMBER_MINOR\n"
        "#define MODULE_MAGIC_NUMBER_MINOR 125\n")
    for header, names in LATER.items():
        (tmp_path / header).write_text("".join(
            ["#define %s h2x_not_yet_%s\n" % (n, n) for n in names]
            + ["#include_next <%s>\n" % header]
            + ["#undef %s\n" % n for n in names]))
    flags = " ".join(variable(name) for name in (
        "H2X_DEFS", "HTTPD_CPPFLAGS", "NGHTTP2_CFLAGS", "OPENSSL_CFLAGS"))
    run(*variable("CC").split(), "-std=gnu99", "-Wall", "-Wextra", "-Werror",
        "-fsyntax-only", "-I%s" % tmp_path, "-include", "ap_mmn.h",
        "-I" + os.path.join(TOP, "include"), '-DH2X_VERSION="0"',
        *flags.split(),
        *[os.path.join(TOP, path) for path in sources.find(".c")])
