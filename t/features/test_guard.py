"""Budgets against abuse (H2Guard, H2MinRate): what honest clients do is far
from them.  Attacks are in abuse/."""

import json
import re

import pytest

from lib import clients, h2raw, inside
from lib.browser import CHROMIUM, Browser, load_demo, write_demo
from lib.h2raw import ContinuationFrame, HeadersFrame, PingFrame

#: Honest clients have a quarter of the budgets that there are by default.
CONFIG = """
<IfModule mod_h2x.c>
    H2Guard 25
</IfModule>
AddType image/svg+xml .svg
<Directory ${HTDOCS}>
    Options +ExecCGI
    AddHandler cgi-script .cgi
    DirectoryIndex index.html
</Directory>
"""
MODULES = "cgid"
LIMITS = """
H2Guard 10
H2StreamTimeout 1
"""
LIMITS_HOSTS = {
    "one.test": "",
    "two.test": """
        H2Guard 0
        H2MinRate 0""",
    "three.test": """
        H2Guard 1000
        H2MinRate 1""",
}


def files(server):
    write_demo(server)
    server.write("small.html", "hello\n")
    server.write("large.bin", b"0123456789abcdef" * (1 << 16))


@pytest.fixture(autouse=True)
def nothing_was_stopped(request):
    """No budget was met, and no stream taken for slow."""
    if "server" not in request.fixturenames:
        yield
        return
    server = request.getfixturevalue("server")
    mark = server.log_mark()
    yield
    told = server.error_text()[mark:]
    assert not re.search(r"CALM|too many|takes no data", told), told


# --- honest clients ---

@pytest.mark.parametrize("window", [65535, 20000, 1000, 100])
@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("path", ["/large.bin", "/t/big?n=1048576"])
def test_windows_given_back_by_frames(server, path, window, streams):
    """At once, for each frame by itself: windows come in pieces as small as
    the frames, which are small where the window is, or what a handler has
    written, and nowhere else."""
    with clients.Library(server, window=window) as c:
        numbers = [c.get(path) for _ in range(streams)]
        c.wait(lambda _: c.ended >= set(numbers), 60)
        for number in numbers:
            sizes = [len(e.data) for e in c.of("DataReceived", number)
                     if e.data]
            assert sum(sizes) == 1 << 20
            # several streams also share what is left of the connection's
            assert path != "/large.bin" or streams > 1 \
                or min(sizes[:-1]) >= min(window, 1024)


@pytest.mark.parametrize("streams", [1, 10, 100])
@pytest.mark.parametrize("path", ["/small.html", "/large.bin"])
def test_h2load(server, streams, path):
    n = 20000 if path == "/small.html" else 1000
    result = clients.h2load(server, path, n=n, c=2, m=streams)
    assert result.status_2xx == result.succeeded == n, result.out


def test_h2load_uploads(server, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * 300000)
    result = clients.h2load(server, "/t/upload", n=500, c=2, m=20,
                            args=["-d", str(body)])
    assert result.status_2xx == 500, result.out


def test_h2load_small_windows(server):
    """Windows of 1 KB (2^10 - 1 bytes): many WINDOW_UPDATE frames."""
    result = clients.h2load(server, "/large.bin", n=20, c=1, m=4,
                            args=["-w", "10", "-W", "12"])
    assert result.status_2xx == 20, result.out


@pytest.mark.parametrize("path", ["/small.html", "/large.bin"])
def test_curl(server, path):
    """50 at a time on one connection."""
    result = clients.run(
        ["curl", "-q", "-sSfk", "--http2", "-Z", "--parallel-max", "50"]
        + [server.url(path), "-o", "/dev/null"] * 200)
    assert result.rc == 0, result.err


def test_curl_slowly(server):
    """A client that takes a tenth of a second for each 100 KB."""
    r = clients.curl(server, "/large.bin", "--limit-rate", "1M")
    assert r.status == 200 and len(r.body) == 1 << 20


def test_event_streams_closed_early(server):
    """As pages do that are left, again and again."""
    with server.h2() as c:
        for _ in range(900):
            r = c.get("/t/trickle?n=1000&ms=5")
            c.wait_headers(r)
            c.reset(r.id)
        assert c.ping() and not c.goaways
    inside.wait_settled(server)


def test_pages_left_early(server):
    """All that a page has asked for is reset before any of it comes."""
    with server.h2() as c:
        for _ in range(3):
            rs = [c.get("/t/wait?ms=100") for _ in range(30)]
            for r in rs:
                c.reset(r.id)
            assert c.request(path="/small.html").status == 200


@pytest.mark.skipif(not clients.have("node"), reason="no node")
def test_node(server):
    result = clients.run(
        ["node", clients.script("node_events.js"), server.url(""), "300",
         "/t/trickle?n=1000&ms=5", "/small.html"],
        check=True)
    assert json.loads(result.out) == {"events": 300, "pages": 300,
                                      "goaways": 0}


@pytest.mark.skipif(not CHROMIUM, reason="no chromium")
@pytest.mark.timeout(180)
def test_chromium(server, tmp_path):
    """The demonstration page, left and loaded again before it is complete;
    event streams that a page closes."""
    browser = Browser(tmp_path / "profile")
    try:
        load_demo(browser, server.url("/"))
        for _ in range(5):
            browser.call("Page.reload", browser.session)
            browser.call("Runtime.evaluate", browser.session,
                         expression="new Promise(f => setTimeout(f, 300))",
                         awaitPromise=True)
        load_demo(browser, server.url("/"))
        closed = browser.call(
            "Runtime.evaluate", browser.session, awaitPromise=True,
            returnByValue=True, expression="""(async () => {
                for (let i = 0; i < 100; ++i) {
                    const events = new EventSource(
                        '/t/trickle?n=1000&ms=5&i=' + i);
                    await new Promise(f => { events.onopen = f;
                                             events.onerror = f; });
                    events.close();
                }
                return 100;
            })()""")
        assert closed["result"]["value"] == 100
    finally:
        browser.close()


# --- the directives ---

@pytest.fixture(scope="module")
def limits(httpd):
    with httpd(LIMITS, hosts=LIMITS_HOSTS) as server:
        server.write("small.html", "hello\n")
        yield server


def pings(c, count):
    c.raw(PingFrame(opaque_data=b"12345678").serialize() * count)
    c.pump(lambda: c.goaways or len(c.pongs) == count)
    return c.goaway_code


@pytest.mark.h2x_only("has no H2Guard")
@pytest.mark.parametrize("name,good,bad", [
    ("one.test", 90, 300), ("two.test", 5000, None),
    ("three.test", 5000, 15000)])
def test_guard(limits, name, good, bad):
    """A tenth of the budget, no limit, ten times as much."""
    with limits.h2(sni=name) as c:
        assert pings(c, good) is None
        assert c.request(path="/small.html",
                         authority=name).text == "hello\n"
    if bad:
        mark = limits.log_mark()
        with limits.h2(sni=name) as c:
            assert pings(c, bad) == h2raw.ENHANCE_YOUR_CALM
        limits.wait_log(r"too many PING frames, see H2Guard \(%d\)" % (
            10 if name == "one.test" else 1000), mark)


def dribble(c, name, path):
    """A body in bytes for some seconds.  Returns the response."""
    r = c.start(c.fields("POST", path, authority=name), end=False)
    for _ in range(10):
        if not r.done:
            c.data(r.id, b"x")
            c.idle(0.3)
    if not r.done:
        c.data(r.id, b"y", end=True)
    return c.wait(r)


@pytest.mark.h2x_only("has no H2MinRate")
@pytest.mark.parametrize("name,path,status", [
    ("one.test", "/t/upload", 408), ("two.test", "/t/upload", 200),
    ("three.test", "/t/upload", 200), ("one.test", "/t/echo", 200)])
def test_min_rate(limits, name, path, status):
    """100 bytes a second by default, none, one; and none where the response
    has begun, as that is a conversation."""
    with limits.h2(sni=name) as c:
        assert dribble(c, name, path).status == status


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
