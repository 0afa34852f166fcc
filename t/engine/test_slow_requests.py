"""One request of a connection leads: nobody waits long for that, whatever it
is stuck in, and who waits costs no processor."""

import contextlib
import os

import pytest

from lib import inside
from lib import server as lib_server

pytestmark = [
    pytest.mark.alone("a few ms decide, and processor time is measured"),
    pytest.mark.h2x_only("runs only a few requests at a time"),
]

CONFIG = """
H2MaxSessionStreams 1000
<Location /slow>
    TestFixupsSleep on
</Location>
"""
SLOW = "/slow/page?fixms=200"


def files(server):
    server.write("page", "x" * 5000)
    server.write("slow/page", "slow\n")


@pytest.mark.parametrize("count", [1, 10, 50, 100])
@pytest.mark.parametrize("kind", ["slow", "mixed"])
def test_file_behind_sleepers(server, any_h2, kind, count):
    """A file behind requests that sleep for 200 ms in a hook of which nobody
    told us, with files between them or without, comes before any of them
    is done, and so do two more; the better of a few attempts counts."""
    c = any_h2
    assert c.request(path="/page").status == 200
    paths = [SLOW, "/page"] if kind == "mixed" else [SLOW]
    for _ in range(4):
        asked = c.burst(paths * count + ["/page"])
        c.wait(asked[-1])
        for _ in range(2):
            assert c.request(path="/page").status == 200
        early = not any(r.done for r in asked[:-1:len(paths)])
        c.wait(*asked, timeout=40)
        assert {r.status for r in asked} == {200}
        if early:
            return
    pytest.fail("the file came after one that it was not to wait for")


STUCK_LOGGER = """#!/bin/sh
while [ ! -e %s ]; do sleep 0.05; done
exec cat > /dev/null
"""


def processor_time(server):
    """Seconds that the children have used."""
    ticks = 0
    for pid in server.children():
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_stuck_log_costs_no_processor(httpd):
    """Requests that are to be logged, by a logger that takes nothing, wait
    for it without using a processor."""
    server = httpd(CONFIG + """
        ServerLimit 1
        H2MaxWorkers 100
        LogFormat "%{X-Long}i" long
        CustomLog "|${DIR}/logger" long
        """)
    files(server)
    go, script = server.path("run", "go"), server.path("logger")
    with open(script, "w") as f:
        f.write(STUCK_LOGGER % go)
    os.chmod(script, 0o755)
    headers = [("x-long", "y" * 4000)]
    with server:
        with server.h2() as c:
            for _ in range(20):     # 80 KB: the pipe is full
                assert c.request(path="/page", headers=headers).status == 200
            asked = c.burst(["/page"] * 50, headers)
            c.wait(*asked)
            assert {r.status for r in asked} == {200}
            for _ in range(20):
                assert c.request(path="/page", headers=headers).status == 200
            before = processor_time(server)
            c.idle(1)
            used = processor_time(server) - before
            open(go, "w").close()
            inside.wait_settled(server, 20)
        assert used < 0.1 * lib_server.PATIENCE, "%.2f s" % used


def test_busy_processors_get_no_more_threads(httpd):
    """Requests that compute take long when they wait for a processor. More
    threads would not make that better: there are none for it while as many
    compute as there are processors, however many are late."""
    server = httpd(CONFIG + """
        ServerLimit 1
        H2MaxWorkers 100
        H2MaxWorkerIdleSeconds 60
        """)
    files(server)
    count = 4 * len(os.sched_getaffinity(0))
    with server, contextlib.ExitStack() as stack:
        cs = [stack.enter_context(server.h2()) for _ in range(count)]
        for c in cs:
            assert c.request(path="/page").status == 200
        before = server.threads()
        asked = [c.burst(["/slow/page?fixcpu=4"] * 10) for c in cs]
        for c, rs in zip(cs, asked):
            c.wait(*rs, timeout=60)
            assert {r.status for r in rs} == {200}
        # the last ones have processors to themselves
        assert server.threads() - before <= count // 2


def test_file_behind_one_that_computes(server, any_h2):
    """One request that computes for long keeps none of the others."""
    c = any_h2
    assert c.request(path="/page").status == 200
    for _ in range(4):
        asked = c.burst(["/slow/page?fixcpu=300", "/page"])
        c.wait(asked[1])
        early = not asked[0].done
        c.wait(*asked, timeout=40)
        if early:
            return
    pytest.fail("the file came after one that it was not to wait for")
