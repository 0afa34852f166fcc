"""Descriptors run out."""

from lib import h2raw
from lib.server import wait_for
from stage import MANY, row

#: The server's limit of them; see target() in conftest.py.
DESCRIPTORS = 64
CONFIG = """
ThreadsPerChild 10
MaxRequestWorkers 10
"""


def files(server):
    for i in range(100):
        server.write("p%d" % i, b"x" * 20000)


@row(34, "descriptors run out (CVE-2026-48913)", needs="httpd", log=r"",
     lines=MANY, extra=20000, kept=8 << 20)
def test_no_descriptors(stage):
    """100 files at a time; large enough to be kept open."""
    stage.server.expect_log("Too many open files|crit|emerg")
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
    rs = [c.get("/p%d" % i) for i in range(100)]
    c.pump(lambda: c.goaways or all(r.done or r.status for r in rs))
    found = sorted({str(r.status or r.reset or "none") for r in rs})
    good = {"200", "403", "500", "503", str(h2raw.REFUSED_STREAM),
            str(h2raw.INTERNAL_ERROR), str(h2raw.CANCEL)}
    stage.tell("status " + ", ".join(found))
    stage.check(set(found) <= good, "no answer: %s", found)
    if stage.server.load == "h2x":
        # files that wait are closed in time
        stage.check(found == ["200"], "not all are served: %s", found)
    c.close()
    # event replaces a child that has none left to accept with
    wait_for(lambda: stage.server.descriptors() < DESCRIPTORS - 20, 10,
             "descriptors to be closed")
    r = stage.server.h2(tls=False).request(path="/p1")
    stage.check(r.status == 200 and len(r.body) == 20000, "no recovery: %r",
                r)
