"""Handlers that compute, beside mod_http2 on the same machine at the same
time: more than processors can do, whoever serves it."""

import pytest

from stage import RUNS, Bystander, percentile, row, steady

CONFIG = """
TestFixupsSleep on
<Directory ${HTDOCS}>
    Options +ExecCGI
    AddHandler cgi-script .sh
</Directory>
"""
MODULES = "cgid"
HELD = "/t/trickle?n=1000000&ms=100"
#: Some milliseconds of a shell.
CGI = """#!/bin/sh
i=0
while [ $i -lt 2000 ]; do i=$((i + 1)); done
printf 'Content-Type: text/plain\\n\\nok\\n'
"""


def files(server):
    server.write("small.html", "hello\n")
    server.write("compute.sh", CGI, 0o755)


@pytest.fixture(scope="module")
def rival(httpd):
    """mod_http2, and somebody whom it serves."""
    with httpd(CONFIG, MODULES, load="stock") as server:
        files(server)
        bystander = Bystander(server, hold=HELD)
        yield server, bystander
        bystander.stop()


def beside(server, bystander, path):
    """How late others are served while 100 of these are."""
    bystander.times()
    with server.h2(tls=False) as c:
        rs = c.burst([path] * 100)
        c.wait(*rs, timeout=60)
    assert {r.status for r in rs} == {200}
    return percentile(steady(bystander.times()))


@row(49, "100 handlers that compute", held=HELD, needs="h2x")
@pytest.mark.parametrize("path,times", [
    ("/small.html?fixcpu=10", 1), ("/compute.sh", 1.5)],
    ids=["inside", "cgi"])
def test_computing(stage, rival, path, times):
    """times: how much later than with mod_http2 others may be served."""
    for _ in range(RUNS):
        stage.busy = beside(stage.server, stage.bystander, path)
        stage.allowed = times * beside(*rival, path)
        if stage.busy <= stage.allowed:
            break
    stage.tell("%.0f ms, mod_http2: %.0f" % (
        stage.busy * 1e3, stage.allowed / times * 1e3))
