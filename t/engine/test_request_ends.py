"""When the request of a stream ends: as soon as its handler has, on the thread
that ran it and before that thread begins another one.  Modules know that from
HTTP/1.1: what they have noted in a request's pool goes then."""

import pytest

from lib import h2raw, inside

pytestmark = pytest.mark.h2x_only("ends requests when they were sent")

SMALL = ["/page", "/t/env", "/missing", "/t/own?n=20000",
         "/t/own?n=60000&how=heap", "/t/interim?n=2"]


def files(server):
    server.write("page", "x" * 5000)
    server.write("large", "y" * 500000)


@pytest.mark.parametrize("path", SMALL)
def test_thread_holds_one_request(httpd, path):
    """Of requests that are there at once, none is left when the next one of
    its thread begins, and none is destroyed by another thread."""
    server = httpd()
    files(server)
    with server, server.h2() as c:
        for _ in range(5):
            c.wait(*c.burst([path] * 40))
        inside.wait_settled(server)
        counted = inside.counters(server)
    assert counted["ended"] == 200
    assert counted["held"] == 0 and counted["elsewhere"] == 0


@pytest.mark.parametrize("path", SMALL)
def test_ends_before_it_is_taken(server, path):
    """A client that takes nothing keeps a stream, but not its request."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 0}) as c:
        r = c.get(path)
        c.wait_headers(r)
        inside.wait_settled(server)
        assert not r.done
        c.credit(1 << 20)
        c.credit(1 << 20, r.id)
        c.wait(r)
    with server.h2() as c:
        again = c.request(path=path)
    assert r.status == again.status
    # the rest of /t/env differs from one connection to the other
    assert r.body[:100] == again.body[:100]


def test_file_keeps_its_request(server):
    """One whose file is still to be read is logged at its end."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1000}) as c:
        c.credit(1 << 20)
        mark = server.access_mark()
        r = c.wait_body(c.get("/large"), 1000)
        c.ping()
        assert not inside.settled(server)
        c.credit(1 << 20, r.id)
        assert len(c.wait(r).body) == 500000
        entry, = server.wait_access(1, since=mark, uri="/large")
    assert entry["sent"] == "500000"


@pytest.mark.parametrize("how", ["", "&how=heap"])
@pytest.mark.parametrize("window", [0, 10, 5000, 1 << 20])
def test_what_buckets_lend(server, how, window):
    """Bytes that are the request's own arrive as they were before its end,
    however much of them was sent by then."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: window}) as c:
        c.credit(1 << 20)
        r = c.get("/t/own?n=50000" + how)
        c.wait_headers(r)
        inside.wait_settled(server)
        c.credit(1 << 20, r.id)
        assert c.wait(r).body == b"o" * 50000


def test_reset_after_its_end(server):
    """A stream that is reset when its request has ended is not logged again;
    the log says what was known then."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 0}) as c:
        mark = server.access_mark()
        r = c.wait_headers(c.get("/page"))
        server.wait_access(1, since=mark, uri="/page")
        c.reset(r.id)
        c.ping()
        entry, = server.access(since=mark, uri="/page")
    assert entry["end"] in "+-" and entry["sent"] == "5000"
