"""Faults that a review and an attack found, each with what showed it."""

import contextlib
import os
import time

import pytest

from lib import h2raw, inside
from lib.faults import limited
from lib.h2raw import ContinuationFrame, HeadersFrame
from lib.server import MPM, PATIENCE, wait_for

AT_0 = {h2raw.INITIAL_WINDOW_SIZE: 0}
LARGE = 1 << 20


def time_to_reset(c, response, timeout):
    began = time.monotonic()
    c.until(lambda: response.reset is not None, timeout, "the reset")
    return time.monotonic() - began


@pytest.mark.h2x_only("has no such guard")
@pytest.mark.parametrize("guard, frames, status", [
    (100, 7, 200), (100, 8, None), (500, 30, 200), (0, 60, 200)])
def test_guard_alone_limits_continuations(httpd, guard, frames, status):
    """nghttp2's own limit ended the connection without a word."""
    with httpd("H2Guard %d\n" % guard) as server, server.h2() as c:
        server.write("x", "x")
        stream_id = c.new_id()
        r = c.streams[stream_id] = h2raw.Response(stream_id)
        c.send(HeadersFrame(stream_id, c.encode(c.fields(path="/x")),
                            flags=["END_STREAM"]),
               *[ContinuationFrame(stream_id, c.encode([("x-%d" % i, "v")]))
                 for i in range(frames - 1)],
               ContinuationFrame(stream_id, c.encode([("x-last", "v")]),
                                 flags=["END_HEADERS"]))
        if status:
            c.wait(r)
            assert r.status == status
        else:
            c.wait_closed()
            assert c.goaway_code == h2raw.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("path", ["/large", "/t/big?n=60000",
                                  "/t/big?n=10000000"])
def test_stream_timeout_is_over_once(httpd, path):
    """A handler that waited so long in vain was given the same again."""
    with httpd("H2StreamTimeout 2\n") as server:
        os.truncate(server.write("large"), LARGE)
        with server.h2(settings=AT_0) as c:
            r = c.get(path)
            c.wait_headers(r)
            assert time_to_reset(c, r, 20) < 3.5 * PATIENCE


@pytest.mark.h2x_only("has one timeout for all")
@pytest.mark.parametrize("what", ["include", "autoindex"])
def test_subrequests_keep_the_timeout(httpd, what):
    """Theirs counted for all of the stream."""
    config = """
        <Location /sub>
            H2StreamTimeout 1
        </Location>
        <Directory ${HTDOCS}>
            Options +Includes +Indexes
        </Directory>
        <Files *.shtml>
            SetOutputFilter INCLUDES
        </Files>
        """
    with httpd(config, "include autoindex") as server:
        server.write("page.shtml", '<!--#include virtual="/sub/x" -->'
                     + "y" * 500000)
        server.write("dir/sub", "x")
        server.write("sub/x", "x")
        path = {"include": "/page.shtml", "autoindex": "/"}[what]
        with server.h2(settings=AT_0) as c:
            r = c.get(path)
            c.wait_headers(r)
            c.idle(2.5)
            assert r.reset is None and not c.closed
            c.settings({h2raw.INITIAL_WINDOW_SIZE: LARGE})
            c.credit(LARGE)
            c.wait(r)
            assert r.status == 200


@pytest.mark.h2x_only("sends no hints by itself")
def test_large_interim_response(httpd):
    """The response itself was not sent then."""
    config = """
        H2MaxHeaderBlockLen 400
        H2EarlyHints on
        <Location /x>
            H2EarlyHint Link "<%s>; rel=preconnect"
        </Location>
        """ % ("a" * 500)
    with httpd(config) as server, server.h2() as c:
        server.write("x", "x")
        mark = server.log_mark()
        r = c.request(path="/x")
        assert (r.status, r.text) == (200, "x")
        server.wait_log(r"cannot send response head", mark)
        assert c.request(path="/x").status == 200


@pytest.mark.h2x_only("compares nothing")
@pytest.mark.parametrize("tls, authority, host, status", [
    (True, "localhost", "localhost:443", 200),
    (True, "localhost:443", "LOCALHOST", 200),
    (True, "localhost", "localhost:80", 400),
    (False, "localhost", "localhost:80", 200),
    (False, "localhost", "localhost:443", 400),
    (True, "localhost", "localhost.example", 400)])
def test_host_with_default_port(httpd, tls, authority, host, status):
    """RFC 9113, section 8.3.1: they must not name different entities."""
    with httpd() as server, server.h2(tls) as c:
        server.write("x", "x")
        r = c.start([(":method", "GET"), (":path", "/x"),
                     (":scheme", "https" if tls else "http"),
                     (":authority", authority), ("host", host)])
        c.wait(r)
        assert r.status == status


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
@pytest.mark.skipif(MPM == "prefork", reason="one client a child")
def test_workers_for_all_connections(httpd):
    """Two connections whose requests keep all workers; a third one, whose
    thread is kept as well, has a file sent all the same."""
    with httpd("H2MaxWorkers 20\n") as server, contextlib.ExitStack() as stack:
        server.write("x", "x")
        others = [stack.enter_context(server.h2()) for _ in range(2)]
        stuck = [c.get("/t/wait?gate=1") for c in others for _ in range(40)]
        wait_for(lambda: inside.counters(server)["handled"] >= 22, 10,
                 "all workers to be busy")
        with server.h2() as c:
            mine = c.get("/t/wait?gate=1")
            for _ in range(3):
                assert c.request(path="/x").text == "x"
            assert not mine.done and not any(r.done for r in stuck)
            assert inside.counters(server)["handled"] <= 20 + 2 + 2 + 4 + 3
            inside.open_gate(server, 1)
            c.wait(mine)
        for c in others:
            c.wait(*[r for r in stuck if c.streams.get(r.id) is r])
        assert {r.text for r in stuck} == {"waited\n"}


@pytest.mark.h2x_only("keeps other descriptors")
@pytest.mark.skipif(MPM == "prefork", reason="one client a child")
@pytest.mark.parametrize("size", [1000, 20000])
def test_files_leave_descriptors(httpd, size):
    """Clients with a window of 0 keep files waiting, but no more descriptors
    for them than half of what the child may have."""
    count = 300
    server = httpd()
    server.write("file", b"x" * size)
    with contextlib.ExitStack() as stack:
        with limited(count):
            stack.enter_context(server)
        clients = [stack.enter_context(server.h2(settings=AT_0))
                   for _ in range(4)]
        rs = [(c, c.get("/file")) for c in clients for _ in range(100)]
        for c, r in rs:
            c.wait_headers(r)
            assert r.status == 200
        pid, = server.children()
        assert len(os.listdir("/proc/%d/fd" % pid)) <= count / 2 + 50
        with server.h2() as c:
            assert c.request(path="/file").body == b"x" * size
        for c in clients:
            c.settings({h2raw.INITIAL_WINDOW_SIZE: 65535})
            c.credit(100 * size)
        for c, r in rs:
            c.wait(r)
            assert r.body == b"x" * size
