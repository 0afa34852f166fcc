"""Server push has bounds: how many promises there may be, and how they end
before their time."""

import array
import contextlib
import fcntl
import random
import termios

import pytest

from lib import backend, h2raw, inside, proc
from lib.server import wait_for

# x-link becomes a Link field of the response.
CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
LimitRequestFieldSize 65536
<Location />
    Header always set Link "expr=%{req_novary:X-Link}" \
        "expr=-n req_novary('X-Link')"
</Location>
<Location /impatient>
    SetHandler h2x-test
    <IfModule h2x_module>
        H2StreamTimeout 500ms
    </IfModule>
</Location>
"""
MODULES = "headers cgid alias"

CAP = 32        # promised streams that are not over, of one connection

STYLE_AND = "</style.css>; rel=preload, <%s>; rel=preload"

OTHER_BOUNDS = pytest.mark.h2x_only("has other bounds")


def files(server):
    server.write("page", "page\n")
    server.write("style.css", "style\n")
    server.write("cgi/endless", "#!/bin/sh\n"
                 "printf 'Content-Type: text/css\\n\\n'\n"
                 "while sleep 0.02; do echo line; done\n", 0o755)


def links(count, form="/t/big?n=10&i=%d", first=0):
    return ", ".join("<%s>; rel=preload" % (form % i)
                     for i in range(first, first + count))


def numbers(promises):
    """The i= of promised paths."""
    return [int(p.path.rpartition("i=")[2]) for p in promises]


@contextlib.contextmanager
def stingy(server, tls=True, **settings):
    """A connection that takes pushes and gives no window."""
    values = {h2raw.ENABLE_PUSH: 1, h2raw.INITIAL_WINDOW_SIZE: 0}
    values.update((getattr(h2raw, k), v) for k, v in settings.items())
    with server.h2(tls, settings=values) as c:
        yield c


@pytest.fixture
def push(server):
    with server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
        yield c


def change(c, **settings):
    """SETTINGS, until they are taken."""
    acked = c.settings_acked
    c.settings({getattr(h2raw, k): v for k, v in settings.items()})
    c.until(lambda: c.settings_acked > acked, what="answer to SETTINGS")


def page(c, field, path="/page"):
    """Asks, and waits for what comes without a window: all promises."""
    return c.wait_headers(c.get(path, [("x-link", field)]))


def finish(c, *responses):
    """Opens the windows, and waits for all of it."""
    change(c, INITIAL_WINDOW_SIZE=65535)
    for r in responses:
        c.wait_pushed(r)


# --- how many ----------------------------------------------------------------

@OTHER_BOUNDS
@pytest.mark.parametrize("tls", [True, False])
def test_storm(server, tls):
    """A page of 500 links for a client that takes nothing."""
    field = links(500)
    with stingy(server, tls) as c:
        r = page(c, field)
        assert numbers(r.promises) == list(range(CAP))
        c.until(lambda: all(p.headers for p in r.promises),
                what="heads of all")
        # as many again on another page: there is no room
        assert not page(c, links(10, first=600)).promises
        finish(c, r)
        assert {p.text for p in r.promises} == {"abcdefghij"}
        # what was not promised is not in the diary either
        for round in range(1, 3):
            change(c, INITIAL_WINDOW_SIZE=0)
            r = page(c, field)
            assert numbers(r.promises) == list(
                range(round * CAP, round * CAP + CAP))
            finish(c, r)
    inside.wait_settled(server)


@OTHER_BOUNDS
def test_storm_of_pages(server):
    """The bound is that of the connection."""
    with stingy(server) as c:
        pages = [page(c, links(10, first=100 * i)) for i in range(5)]
        assert [len(r.promises) for r in pages] == [10, 10, 10, 2, 0]
        with stingy(server) as other:
            assert len(page(other, links(40)).promises) == CAP
        finish(c, *pages)
        assert {p.status for p in c.promises} == {200}


@OTHER_BOUNDS
def test_room_again(server):
    """Each promise that ends makes room for one, however it ends: in full,
    cancelled by either side."""
    inside.close_gates(server)
    with stingy(server) as c:
        field = links(16) + ", " + links(16, "/t/status?code=404&i=%d", 100)
        r = page(c, field)
        assert len(r.promises) == CAP
        c.wait(*r.promises[16:])
        assert {p.reset for p in r.promises[16:]} == {h2raw.CANCEL}
        for p in r.promises[:8]:
            c.reset(p.id)
        c.credit(100, r.promises[8].id)
        c.wait(r.promises[8])
        more = page(c, links(100, first=200))
        assert len(more.promises) == 16 + 8 + 1
        for p in r.promises[:8]:
            p.reset = h2raw.CANCEL
        finish(c, r, more)


@OTHER_BOUNDS
@pytest.mark.parametrize("allowed", [0, 1, 5, 31, 1000])
def test_max_concurrent_streams(server, allowed):
    """The client's bound holds where it is less."""
    with stingy(server, MAX_CONCURRENT_STREAMS=allowed) as c:
        r = page(c, links(40))
        assert len(r.promises) == min(allowed, CAP)
        finish(c, r)
        assert {p.status for p in r.promises} <= {200}


@OTHER_BOUNDS
def test_max_concurrent_streams_changes(server):
    with stingy(server, MAX_CONCURRENT_STREAMS=2) as c:
        first = page(c, links(10))
        assert numbers(first.promises) == [0, 1]
        change(c, MAX_CONCURRENT_STREAMS=5)
        second = page(c, links(10))
        assert numbers(second.promises) == [2, 3, 4]
        change(c, MAX_CONCURRENT_STREAMS=1)
        third = page(c, links(10))
        assert not third.promises
        finish(c, first, second, third)
        fourth = page(c, links(10))
        c.wait_pushed(fourth)
        assert numbers(fourth.promises) == [5]


@OTHER_BOUNDS
@pytest.mark.parametrize("size", [10000, 30000])
def test_large_promises(server, push, size):
    """Fields of promises may need CONTINUATION frames."""
    cookie = "a=" + "x" * size
    r = push.get("/page", [("x-link", STYLE_AND % "/t/env"),
                           ("cookie", cookie)])
    push.wait_pushed(r)
    assert [dict(p.request)["cookie"] for p in r.promises] == [cookie] * 2
    assert cookie in r.promises[1].text
    assert (size > 16384) == any(
        isinstance(f, h2raw.ContinuationFrame) for f in push.frames)


@OTHER_BOUNDS
def test_promise_beyond_the_limit(httpd):
    """H2MaxHeaderBlockLen: the page comes without what cannot be promised."""
    server = httpd(CONFIG + "H2MaxHeaderBlockLen 3000\n", MODULES)
    files(server)
    with server, server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
        fields = [("x-link", STYLE_AND % "/page?1")]
        r = c.get("/page", fields + [("cookie", "a=" + "x" * 5000)])
        c.wait_pushed(r)
        assert r.text == "page\n" and not r.promises
        # another client request has no such cookie
        r = c.get("/page", fields)
        c.wait_pushed(r)
        assert r.text == "page\n"
        assert all(p.status == 200 for p in r.promises)
        inside.wait_settled(server)


def test_one_stream_at_a_time(httpd):
    """H2MaxSessionStreams is about streams that the client opens."""
    server = httpd(CONFIG + "H2MaxSessionStreams 1\n", MODULES)
    files(server)
    with server, server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
        for i in range(3):
            r = c.get("/t/big?n=100000", [
                ("x-link", links(5, "/t/big?n=50000&i=%d", 5 * i))])
            c.wait_pushed(r)
            assert [len(p.body) for p in r.promises] == [50000] * 5
            assert len(r.body) == 100000


@pytest.mark.h2x_only("takes all links that there are")
def test_very_many_links(httpd):
    """Of the links of a response, only so many are looked at."""
    links = ["</first>;rel=preload"] + ["<a>;rel=x"] * 4000
    links += ["</last>;rel=preload"]

    def handle(q):
        q.answer("ok", fields="".join(
            "Link: %s\r\n" % ", ".join(links[at:at + 400])
            for at in range(0, len(links), 400)))

    with backend.Backend(handle) as behind:
        config = "ProxyPass /b/ http://127.0.0.1:%d/" % behind.port
        with httpd(config, "proxy proxy_http") as server, \
                server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
            r = c.get("/b/page")
            c.wait_pushed(r)
            assert (r.status, r.text) == (200, "ok")
            assert r.promised_paths == ["/first"]


# --- the client does not want it ---------------------------------------------

def sleepers(server):
    """Processes of the endless script."""
    found = []
    for pid in server.processes():
        with contextlib.suppress(OSError):
            if set(proc.threads(pid)) & {"endless", "sleep"}:
                found.append(pid)
    return found


@pytest.mark.h2x_only("goes on after a while only")
@pytest.mark.parametrize("path,uri", [
    ("/t/trickle?n=1000000&ms=5", "/t/trickle"),
    ("/t/big?n=1000000000", "/t/big"), ("/cgi/endless", "/cgi/endless")])
def test_reset_stops_the_work(server, push, path, uri):
    """A response that would go on for hours ends at once."""
    mark = server.access_mark()
    r = push.wait(push.get("/page", [("x-link", STYLE_AND % path)]))
    style, endless = r.promises
    push.wait_body(endless, 10)
    push.reset(endless.id)
    push.ping()
    frames = len(push.frames)
    entry, = server.wait_access(1, since=mark, uri=uri)
    assert (entry["final"], entry["end"]) == ("200", "X")
    assert entry["stream"] == str(endless.id)
    wait_for(lambda: not sleepers(server), 10, "the script to end")
    assert push.request(path="/page").status == 200
    assert not [f for f in push.frames[frames:] if f.stream_id == endless.id]
    assert push.wait(style).text == "style\n"
    inside.wait_settled(server)


@pytest.mark.h2x_only("forgets some")
def test_reset_before_the_response(server, push):
    """While its handler has said nothing yet."""
    inside.close_gates(server)
    mark = server.access_mark()
    r = push.get("/page", [("x-link", STYLE_AND % "/t/wait?gate=31")])
    push.wait(r)
    style, stuck = r.promises
    push.reset(stuck.id)
    push.ping()
    assert push.wait(style).text == "style\n"
    inside.open_gate(server, 31)
    server.wait_access(1, since=mark, uri="/t/wait")
    inside.wait_settled(server)
    push.ping()
    assert not stuck.headers and not stuck.body
    assert push.request(path="/page").text == "page\n"


@OTHER_BOUNDS
@pytest.mark.parametrize("path", ["/t/big?n=500000&i=%d",
                                  "/t/trickle?n=1000000&ms=5&i=%d",
                                  "/style.css?i=%d"])
def test_reset_each_at_once(server, path):
    """As soon as the promise is there, over and over."""
    with server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
        for round in range(4):
            r = c.get("/page", [
                ("x-link", links(CAP, path, first=round * CAP))])
            gone = 0
            while not r.done or gone < len(r.promises):
                c.until(lambda: r.done or gone < len(r.promises))
                for p in r.promises[gone:]:
                    c.reset(p.id)
                gone = len(r.promises)
            assert numbers(r.promises) == list(
                range(round * CAP, round * CAP + CAP))
            c.ping()
            inside.wait_settled(server)     # there is room again
        assert c.request(path="/page").text == "page\n"


def test_page_is_refused(server, push):
    """A client that wants the page no more gets no promises for it; but may
    have them with the next."""
    inside.close_gates(server)
    r = push.get("/t/wait?gate=37", [("x-link", STYLE_AND % "/page?1")])
    push.ping()
    push.reset(r.id)
    push.ping()
    inside.open_gate(server, 37)
    inside.wait_settled(server)
    push.ping()
    assert not push.promises
    r = push.get("/page", [("x-link", STYLE_AND % "/page?1")])
    push.wait_pushed(r)
    assert [p.text for p in r.promises] == ["style\n", "page\n"]


def test_reset_of_the_page(server, push):
    """A promise outlives the request that it was made for."""
    inside.close_gates(server)
    r = push.get("/t/trickle?n=2&gate=32",
                 [("x-link", STYLE_AND % "/t/trickle?n=2&gate=33")])
    push.wait_body(r, 10)
    style, stuck = r.promises
    push.reset(r.id)
    push.ping()
    inside.open_gate(server, 33)
    push.wait(style, stuck)
    assert style.text == "style\n"
    assert len(stuck.body) == 20 and stuck.ended
    inside.open_gate(server, 32)
    inside.wait_settled(server)


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("tls", [True, False])
def test_client_leaves(server, how, tls):
    """With promises in all states."""
    inside.close_gates(server)
    mark = server.access_mark()
    fields = [links(3, "/t/wait?gate=34&i=%d"), links(3, "/t/big?n=90000&%d"),
              links(3, "/style.css?%d"), links(3, "/t/trickle?n=99&ms=5&%d")]
    with stingy(server, tls) as c:
        r = page(c, ", ".join(fields))
        assert len(r.promises) == 12
        c.until(lambda: all(p.headers for p in r.promises[3:]),
                what="the heads")
        getattr(c, how)()
    inside.open_gate(server, 34)
    inside.wait_settled(server, 20)
    assert len(server.access(since=mark, proto="HTTP/2.0")) == 13


@pytest.mark.h2x_only("has no time limit for it")
def test_client_does_not_take_it(server):
    """H2StreamTimeout of the pushed request holds for its stream."""
    with stingy(server) as c:
        r = page(c, links(2, "/impatient/big?n=%d", first=1000))
        assert len(r.promises) == 2
        c.credit(100, r.id)
        c.wait(r, *r.promises)
        assert r.text == "page\n"
        for p in r.promises:
            assert p.status == 200 and not p.body
            assert p.reset is not None
    inside.wait_settled(server)


@pytest.mark.h2x_only("closes connections that reset much")
def test_random_ends(server):
    """Whatever is reset when: each request is logged and freed once."""
    rng = random.Random(7)
    mark = server.access_mark()
    before = inside.counters(server)
    kinds = ["/t/big?n=30000&x=%d", "/style.css?x=%d", "/none?x=%d",
             "/t/trickle?n=5&ms=3&x=%d", "/t/status?code=302&x=%d"]
    count = 0
    for life in range(6):
        with server.h2(life % 2, windows=rng.random() < 0.5,
                       settings={h2raw.ENABLE_PUSH: 1}) as c:
            c.credit(1 << 24)
            for _ in range(10):
                wanted = []
                for _ in range(6):
                    count += 1
                    wanted.append("<%s>; rel=preload"
                                  % (rng.choice(kinds) % count))
                r = c.get("/page?x=p%d" % count,
                          [("x-link", ", ".join(wanted))])
                if rng.random() < 0.7:
                    c.wait(r)
                for p in [r] + r.promises:
                    if not p.done and rng.random() < 0.5:
                        c.reset(p.id)
                        p.reset = h2raw.CANCEL
                if rng.random() < 0.2:
                    c.ping()
            if rng.random() < 0.5:
                c.abort()
    inside.wait_settled(server, 20)
    seen = inside.counters(server)["read"] - before["read"]
    entries = server.access(since=mark, proto="HTTP/2.0")
    assert len(entries) == seen > 60
    marks = [e["query"].rpartition("x=")[2] for e in entries]
    assert len(marks) == len(set(marks)), "logged twice"


# --- the connection ends -----------------------------------------------------

def test_client_says_goaway(server, push):
    """RFC 9113, 6.8: no new stream is opened by whom it was said to."""
    inside.close_gates(server)
    r = push.get("/t/wait?gate=35", [("x-link", STYLE_AND % "/page")])
    push.ping()
    push.goaway()
    push.ping()
    inside.open_gate(server, 35)
    push.wait(r)
    assert r.text == "waited\n" and not r.promises
    push.wait_closed()


GRACEFUL = "StartServers 1\nMaxRequestWorkers 1000\nServerLimit 40\n"


def old_is_gone(old):
    wait_for(lambda: not any(proc.alive(pid) for pid in old), 10,
             "the old generation to end")


@pytest.mark.h2x_only("still pushes then")
@pytest.mark.parametrize("tls", [True, False])
def test_graceful_restart(httpd, tls):
    """What was promised is kept; nothing is promised after GOAWAY."""
    server = httpd(GRACEFUL + CONFIG, MODULES)
    files(server)
    with server, stingy(server, tls) as c:
        first = page(c, links(5))
        c.until(lambda: all(p.headers for p in first.promises))
        late = c.get("/t/wait?gate=36", [("x-link", links(5, first=50))])
        c.ping()
        old = set(server.children())
        server.graceful()
        c.until(lambda: len(c.goaways) > 1, what="the second GOAWAY")
        inside.open_gate(server, 36)
        change(c, INITIAL_WINDOW_SIZE=65535)
        c.wait(late, first, *first.promises)
        assert late.text == "waited\n" and late.header("link")
        assert not late.promises
        assert {p.text for p in first.promises} == {"abcdefghij"}
        c.wait_closed()
        old_is_gone(old)


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
def test_stop(httpd):
    """Stopping the server while pushes are under way."""
    server = httpd(CONFIG, MODULES)
    files(server)
    with server, stingy(server) as c:
        r = page(c, links(10) + ", " + links(5, "/t/trickle?n=9999&ms=5&i=%d"))
        assert len(r.promises) == 15
        server.stop()


def waiting(sock):
    """Bytes that can be read."""
    size = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, size)
    return size[0]


@pytest.mark.h2x_only("sends all promises after GOAWAY")
def test_goaway_while_promises_wait(httpd):
    """A client that takes no more promises, while some wait for room."""
    links = ", ".join("</%d.css>;rel=preload" % i for i in range(30))
    config = ('SendBufferSize 16384\n<Location /page>\n'
              'Header set Link "%s"\n</Location>\n' % links)
    with httpd(config, "headers") as server:
        server.write("page", "page\n")
        for i in range(30):
            server.write("%d.css" % i, "c")
        children = wait_for(server.children, what="children")
        sock = server.connect(tls=False, receive=4096)
        with h2raw.Connection(sock, {h2raw.ENABLE_PUSH: 1}) as c:
            # each promise repeats it: they do not fit into the socket
            r = c.get("/page", {"cookie": "x" * 8000})
            wait_for(lambda: waiting(sock) > 2048, what="a full socket")
            c.goaway()
            c.wait(r)
            assert len(c.promises) < 30
            c.pump(lambda: False, 10)
        assert server.http1(path="/page").status == 200
        assert server.children() == children


# --- who may -----------------------------------------------------------------

@pytest.mark.parametrize("promised", [1, 2, 3])
@pytest.mark.parametrize("together", [True, False])
def test_promise_by_client(server, h2, promised, together):
    """RFC 9113, 8.4: a client cannot push.  5.4.1: after an error of the
    connection it is closed, whatever waits for a request's body."""
    block = h2.encode(h2.fields("POST", "/t/upload"))
    promise = h2raw.PushPromiseFrame(
        1, promised_stream_id=promised, flags=["END_HEADERS"],
        data=h2.encode(h2.fields(path="/page")))
    before = inside.counters(server)["handled"]
    h2.start((), end=False, block=block, more=[promise] * together)
    if not together:
        wait_for(lambda: inside.counters(server)["handled"] > before, 10,
                 "the handler to run")
        h2.send(promise)
    h2.wait_closed()
    assert h2.goaway_code == h2raw.PROTOCOL_ERROR
    inside.wait_settled(server)


def test_frames_on_promised_streams(push):
    """A client's HEADERS or DATA there are wrong, others are not."""
    r = push.get("/t/wait?ms=1", [("x-link", STYLE_AND % "/t/big?n=5")])
    push.wait_pushed(r)
    promised = r.promises[0].id
    push.credit(10, promised)
    push.send(h2raw.PriorityFrame(promised, depends_on=1, stream_weight=9))
    push.reset(promised)
    assert push.request(path="/page").text == "page\n"
    push.send(h2raw.HeadersFrame(promised + 100, push.encode(push.fields()),
                                 flags=["END_HEADERS", "END_STREAM"]))
    push.wait_closed()
    assert push.goaway_code == h2raw.PROTOCOL_ERROR
