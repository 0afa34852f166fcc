"""Timeouts: of a connection before its first request and between requests, of
a stream whose client sends or takes nothing.  What goes on is not ended."""

import contextlib
import os
import time

import pytest

from lib import h2raw, inside
from lib.server import PATIENCE, wait_for

SIZE = 300000


def files(server):
    server.write("index.html", "hello\n")
    server.write("file", "x" * SIZE)


TIMEOUTS = """
Timeout 2
KeepAliveTimeout 1
<Location /server-status>
    SetHandler server-status
</Location>
"""


@pytest.fixture(scope="module")
def hurried(httpd):
    server = httpd(TIMEOUTS + "H2StreamTimeout 1\n", "status reqtimeout")
    files(server)
    with server:
        yield server


def since(moment):
    return time.monotonic() - moment


def talk_until(c, condition, every=0.1):
    """Asks for small things meanwhile: the client is there."""
    began = time.monotonic()
    while not condition():
        assert since(began) < 10 * PATIENCE, "no timeout"
        one = c.get("/index.html")
        if not c.windows:
            c.credit(100, one.id)
        assert c.wait(one).text == "hello\n"
        c.idle(every)


@pytest.mark.parametrize("tls", [True, False])
def test_keepalive_timeout(hurried, tls):
    """A connection without requests: GOAWAY and the end, not too soon."""
    with hurried.h2(tls) as c:
        for _ in range(2):
            assert c.request(path="/index.html").status == 200
            c.idle(0.5)
        assert not c.goaways and not c.closed
        assert c.request(path="/index.html").status == 200
        began = time.monotonic()
        assert c.wait_closed(), "closed without GOAWAY"
        assert c.goaway_code == h2raw.NO_ERROR
        assert 0.9 < since(began) < 8 * PATIENCE


@pytest.mark.parametrize("tls", [True, False])
def test_timeout_before_first_request(hurried, tls):
    """A client that greets and then asks for nothing."""
    with hurried.h2(tls) as c:
        began = time.monotonic()
        c.wait_closed()
        assert 0.9 < since(began) < 10 * PATIENCE


NO_REQUESTS = {
    "PING": h2raw.PingFrame(opaque_data=b"8 octets"),
    "SETTINGS": h2raw.SettingsFrame(settings={h2raw.ENABLE_PUSH: 0}),
    "WINDOW_UPDATE": h2raw.WindowUpdateFrame(0, window_increment=1),
    "PRIORITY": h2raw.PriorityFrame(99, depends_on=0, stream_weight=1),
}


@pytest.mark.h2x_only("each frame begins the time anew")
@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("kind", NO_REQUESTS)
@pytest.mark.parametrize("is_first", [True, False])
def test_frames_that_are_no_requests(hurried, is_first, kind, tls):
    """They make neither the time to the first request longer, nor that
    between requests."""
    with hurried.h2(tls) as c:
        c.ping()
        if not is_first:
            assert c.request(path="/index.html").status == 200
        began = time.monotonic()
        while not c.closed and not c.goaways:
            assert since(began) < 8 * PATIENCE, "no timeout"
            c.send(NO_REQUESTS[kind])
            c.idle(0.3)
        assert (2 if is_first else 1) * 0.9 < since(began)
        assert c.goaway_code == h2raw.NO_ERROR
        assert c.wait_closed()


@pytest.mark.h2x_only("each frame begins the time anew")
def test_places_become_free(httpd):
    """More clients without requests than there are threads, with worker: who
    comes last is served when others' time is over."""
    with httpd(TIMEOUTS, mpm="worker") as server, \
            contextlib.ExitStack() as stack:
        files(server)
        cs = [stack.enter_context(server.h2(False)) for _ in range(60)]
        began = time.monotonic()
        with server.h2(False, timeout=20) as last:
            r = last.get("/index.html")
            while not r.done:
                assert not last.closed and not last.goaways
                for c in cs:
                    if not c.closed:
                        with contextlib.suppress(OSError):
                            c.send(NO_REQUESTS["PING"])
                        c.poll()
                assert since(began) < 20 * PATIENCE, "not served"
                last.idle(0.3)
            assert r.text == "hello\n"
        assert any(c.goaways for c in cs)


KEPT = """
Timeout 30
KeepAliveTimeout 1
"""
KEPT_HOSTS = {
    "one.test": "KeepAliveTimeout 20",
    "two.test": "KeepAliveTimeout 2",
}


def test_keepalive_timeout_of_last_host(httpd):
    """As over HTTP/1.1, the time is that of the host which the last request
    was for."""
    with httpd(KEPT, cleartext_hosts=KEPT_HOSTS) as server, \
            server.h2(False) as c:
        files(server)
        assert c.request(path="/index.html", authority="one.test").ended
        for _ in range(6):
            c.ping()
            c.idle(0.4)
        assert not c.goaways and not c.closed
        assert c.request(path="/index.html", authority="two.test").ended
        began = time.monotonic()
        c.wait_closed()
        assert 1.8 < since(began) < 15 * PATIENCE


@pytest.mark.parametrize("sent", [h2raw.PREFACE[:10], h2raw.PREFACE])
def test_timeout_in_preface(httpd, sent):
    """One that says half of it, or nothing after it."""
    with httpd(TIMEOUTS) as server:
        with server.h2(tls=False, greet=False) as c:
            c.raw(sent)
            c.wait_closed(timeout=20)


def test_timeout_in_head(hurried):
    """Half of a header block."""
    with hurried.h2() as c:
        c.request(path="/index.html")
        c.send(h2raw.HeadersFrame(3, c.encode(c.fields(path="/index.html"))))
        c.wait_closed(timeout=20)
    inside.wait_settled(hurried)


@pytest.mark.h2x_only("waits for the main server's Timeout, or longer")
@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("part", [0, 20, None],
                         ids=["nothing", "half a frame", "half a head"])
def test_timeout_of_virtual_host(httpd, part, tls):
    """Before the first request is complete: that of the host that TLS or the
    address has chosen, not of the main server."""
    with httpd("Timeout 60\nKeepAliveTimeout 60\n",
               hosts={"one.test": "Timeout 1"},
               cleartext_hosts={"localhost": "Timeout 1"}) as server, \
            server.h2(tls, sni="one.test") as c:
        c.ping()
        head = h2raw.HeadersFrame(1, c.encode(c.fields(path="/index.html")))
        c.raw(head.serialize()[:part])
        began = time.monotonic()
        c.wait_closed(timeout=20)
        assert 0.9 < since(began)


def test_running_request_is_no_idleness(hurried):
    """No timeout of the connection while a request runs."""
    with hurried.h2() as c:
        r = c.get("/t/wait?ms=2600")
        assert c.wait(r).text == "waited\n"
        assert not c.goaways


@pytest.mark.h2x_only("waits for the connection's Timeout")
def test_body_never_comes(hurried):
    """H2StreamTimeout: 408 or RST_STREAM; the connection goes on."""
    with hurried.h2() as c:
        asked = [c.start(c.fields("POST", "/t/upload"), end=False)
                 for _ in range(2)]
        c.data(asked[1].id, b"x" * 100)
        began = time.monotonic()
        talk_until(c, lambda: all(r.done for r in asked))
        assert 0.9 < since(began)
        assert all(r.status == 408 or r.reset is not None for r in asked)
        assert c.request(path="/index.html").text == "hello\n"
        inside.wait_settled(hurried)


def test_slow_body_is_no_timeout(hurried):
    """A body that comes in pieces, each in time."""
    with hurried.h2() as c:
        r = c.start(c.fields("POST", "/t/upload"), end=False)
        for _ in range(6):
            c.data(r.id, b"piece")
            c.idle(0.4)
        c.data(r.id, b"", end=True)
        assert c.wait(r).text.startswith("length 30\n")


@pytest.mark.h2x_only("waits for the connection's Timeout")
@pytest.mark.parametrize("window", [0, 1000])
def test_reader_takes_nothing(hurried, window):
    """H2StreamTimeout: RST_STREAM for responses that the client does not
    take, whether their handler still runs or not; the connection goes on."""
    with hurried.h2(windows=False,
                    settings={h2raw.INITIAL_WINDOW_SIZE: window}) as c:
        c.credit(1 << 20)
        mark = hurried.access_mark()
        asked = [c.get(path) for path in (
            "/t/big?n=10000000", "/t/big?n=20000", "/file")]
        began = time.monotonic()
        talk_until(c, lambda: all(r.done for r in asked))
        assert 0.9 < since(began)
        assert all(r.headers and r.reset is not None for r in asked)
        hurried.wait_access(2, since=mark, uri="/t/big")
        hurried.wait_access(1, since=mark, uri="/file")
        inside.wait_settled(hurried)


@pytest.mark.h2x_only("waits for the connection's Timeout")
@pytest.mark.parametrize("every", [0.005, 0.012, 0.03])
@pytest.mark.parametrize("path", ["/t/big?n=20000", "/file"])
def test_stalled_stream_on_busy_connection(hurried, path, every):
    """Nor does it matter what else the connection does, and how often."""
    with hurried.h2(windows=False, settings={
            h2raw.INITIAL_WINDOW_SIZE: 0}) as c:
        c.credit(1 << 20)
        stalled = c.get(path)
        began = time.monotonic()
        talk_until(c, lambda: stalled.done, every)
        assert 0.9 < since(began)
        assert stalled.headers and stalled.reset == h2raw.CANCEL
        assert not c.goaways


@pytest.mark.parametrize("path", ["/t/big?n=10000000", "/file"])
def test_quiet_reader_takes_nothing(hurried, path):
    """The same from a client that says nothing else: its stream or all of
    its connection ends."""
    with hurried.h2(windows=False,
                    settings={h2raw.INITIAL_WINDOW_SIZE: 0}) as c:
        r = c.wait_headers(c.get(path))
        c.pump(lambda: r.reset is not None, timeout=20)
    inside.wait_settled(hurried)


@pytest.mark.parametrize("path", ["/t/big?n=10000000", "/file"])
def test_slow_reader_is_no_timeout(hurried, path):
    """One that takes a little now and then."""
    with hurried.h2(windows=False) as c:
        c.credit(1 << 24)
        r = c.wait_body(c.get(path), 1000)
        for _ in range(6):
            c.credit(30000, r.id)
            c.idle(0.4)
        assert not r.done
        c.credit(1 << 24, r.id)
        c.wait(r, timeout=30)
        assert len(r.body) == (SIZE if path == "/file" else 10000000)


@pytest.mark.parametrize("path", ["/t/big?n=10000000", "/file"])
def test_full_socket(hurried, path):
    """A client that does not even read its socket: it is left after Timeout
    or so, and its requests end."""
    with hurried.h2(windows=False,
                    settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 30}) as c:
        c.credit(1 << 30)
        for i in range(60):
            c.get(path + ("&" if "?" in path else "?") + "i=%d" % i)
        wait_for(lambda: inside.counters(hurried)["read"] > 0, 10)
        inside.wait_settled(hurried, 30)


SHORT = """
Timeout 20
<Directory ${HTDOCS}/short>
    H2CopyFiles on
    H2StreamTimeout 2
</Directory>
"""
AT_0 = {h2raw.INITIAL_WINDOW_SIZE: 0}


@pytest.mark.h2x_only("gives a whole response its stream timeout")
def test_steady_reader(httpd):
    """H2StreamTimeout is about progress: who takes a little all the time may
    take longer than that for the whole."""
    with httpd(SHORT) as server:
        server.write("short/steady", b"y" * 3000000)
        with server.h2(windows=False) as c:
            c.credit(1 << 30)
            began = time.monotonic()
            r = c.get("/short/steady")
            while not r.done and since(began) < 30:
                c.credit(100000, r.id)
                c.idle(.12)
            assert since(began) > 2.5
            assert (r.ended, len(r.body), r.reset) == (True, 3000000, None)


@pytest.mark.h2x_only("has one stream timeout for all")
def test_earlier_deadline(httpd):
    """A stream with a short H2StreamTimeout does not wait for the deadline of
    one with a long one."""
    with httpd(SHORT) as server:
        server.write("long", bytes(range(256)) * 16000)
        server.write("short/stalls", b"x" * 20000)
        with server.h2(settings=AT_0) as c:
            c.wait_headers(c.get("/long"))
            short = c.get("/short/stalls")
            assert c.pump(lambda: short.done, 10)
            assert short.reset not in (None, h2raw.NO_ERROR)


@pytest.mark.parametrize("config,hosts", [
    ("Timeout 1\nH2StreamTimeout 20", None),
    ("Timeout 1", {"two.test": "", "localhost": "Timeout 20"}),
], ids=["directive", "host"])
def test_upload_may_pause(httpd, config, hosts):
    """H2StreamTimeout, or the Timeout of the request's host, is for bodies
    too, whatever the default host has."""
    with httpd(config, hosts=hosts) as server, server.h2() as c:
        r = c.start(c.fields("POST", "/t/upload"), end=False)
        c.data(r.id, b"12345")
        c.idle(2.5)
        assert not r.done, (r, r.text)
        c.data(r.id, b"67890", end=True)
        c.wait(r)
        assert (r.status, r.reset) == (200, None)


CGI = """
<Directory ${HTDOCS}/cgi>
    Options ExecCGI
    SetHandler cgi-script
</Directory>
"""


@pytest.mark.h2x_only("lets the less urgent go as well")
@pytest.mark.parametrize("path", ["/cgi/large", "/t/big?n=2000000"])
def test_less_urgent_waits_its_turn(httpd, path):
    """Output that has to wait for what is more urgent, and is taken steadily,
    is not cut off: the client does take something."""
    with httpd("H2StreamTimeout 1\n" + CGI, "cgid") as server:
        server.write("cgi/large", "#!/bin/sh\n"
                     "printf 'Content-Type: text/plain\\n\\n'\n"
                     "head -c 2000000 /dev/zero\n", 0o755)
        os.truncate(server.write("urgent", b""), 1 << 30)
        window = 2 ** 31 - 1
        with server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: window},
                       windows=False) as c:
            urgent = c.get("/urgent", {"priority": "u=0"})
            c.wait_body(urgent, 60000)
            other = c.get(path, {"priority": "u=7"})
            end = time.monotonic() + 3.5
            while time.monotonic() < end and not other.done:
                c.credit(100000)
                c.idle(.05)
            assert not other.done, other
            size = len(urgent.body)
            c.reset(urgent.id)
            c.credit(1 << 30)
            c.wait(other)
            assert size > 1000000
            assert (other.ended, len(other.body)) == (True, 2000000)


def time_to_reset(c, response, timeout):
    began = time.monotonic()
    c.until(lambda: response.reset is not None, timeout, "the reset")
    return since(began)


@pytest.mark.parametrize("path", ["/large", "/t/big?n=60000",
                                  "/t/big?n=10000000"])
def test_stream_timeout_is_over_once(httpd, path):
    """A handler that waited so long in vain was given the same again."""
    with httpd("H2StreamTimeout 2\n") as server:
        os.truncate(server.write("large"), 1 << 20)
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
            c.settings({h2raw.INITIAL_WINDOW_SIZE: 1 << 20})
            c.credit(1 << 20)
            c.wait(r)
            assert r.status == 200
