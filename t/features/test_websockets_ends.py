"""How WebSockets over HTTP/2 end, who waits for whom, and what is left."""

import re

import pytest
from wsproto import events

from lib import h2raw, proc, websocket
from lib.chat import (  # noqa: F401
    PROXIES, chat, config, ended, fresh, gate, hosts, open_socket, server,
    still_good)
from lib.server import PATIENCE, build_test_module, wait_for


# --- the end ---

@PROXIES
@pytest.mark.parametrize("code,reason", [
    (1000, ""), (1001, "leaving"), (1011, "x" * 123), (3000, "own"),
    (4999, "ö")])
def test_close_of_the_client(server, chat, proxy, code, reason):
    with server.h2() as c:
        w = open_socket(c, proxy + "/echo")
        assert w.close(code, reason) == (code, reason)
        visit = chat.visits[0]
        assert visit.ended.wait(10 * PATIENCE)
        assert (visit.code, visit.reason) == (code, reason)
        assert w.response.ended and w.response.reset in (None, 0)
        still_good(c)


@PROXIES
@pytest.mark.parametrize("code,reason", [
    (1000, ""), (1013, "later"), (4000, "x" * 123)])
def test_close_of_the_server(server, chat, proxy, code, reason):
    with server.h2() as c:
        w = open_socket(c, "%s/close?%d,%s" % (proxy, code, reason), say="go")
        assert w.answer_close() == (code, reason)
        assert w.response.ended and w.response.reset in (None, 0)
        visit = chat.visits[0]
        assert visit.ended.wait(10 * PATIENCE) and visit.code == code
        still_good(c)


def test_close_without_code(server, chat):
    with server.h2() as c:
        w = open_socket(c, "/ws/echo")
        c.data(w.id, b"\x88\x80\0\0\0\0")
        w.until(lambda: w.closed)
        assert w.closed[0] == 1005
        w.end()
        assert chat.visits[0].ended.wait(10 * PATIENCE)
        assert chat.visits[0].code == 1005


@PROXIES
def test_close_and_end_in_one_frame(server, chat, proxy):
    """The Close frame that END_STREAM goes with is not lost, nor is what was
    sent before it, nor its answer."""
    with server.h2() as c:
        for i in range(20):
            w = open_socket(c, proxy + "/echo?%d" % i)
            c.data(w.id, w.ws.send(websocket.frame("last words"))
                   + w.ws.send(events.CloseConnection(4001, "end")), end=True)
            w.until(lambda: w.closed)
            c.wait(w.response)
            assert w.closed == (4001, "end")
            visit = chat.visit("/echo?%d" % i)
            assert visit.ended.wait(10 * PATIENCE) and visit.code == 4001
            assert visit.received == 1


@PROXIES
def test_end_without_close(server, chat, proxy):
    """END_STREAM is for the backend what the end of TCP's half is."""
    with server.h2() as c:
        w = open_socket(c, proxy + "/echo")
        w.say("last words")
        assert w.hear() == "last words"
        c.data(w.id, b"", end=True)
        assert chat.visits[0].ended.wait(10 * PATIENCE)
        assert chat.visits[0].code == 1006
        c.wait(w.response)
        still_good(c)


@pytest.mark.parametrize("path", ["/fake/after", "/oldfake/after"])
def test_other_direction_goes_on(server, path):
    """What the backend says when the client has ended its half."""
    with server.h2() as c:
        for _ in range(5):
            w = open_socket(c, path)
            c.data(w.id, w.ws.send(websocket.frame("last words")), end=True)
            assert w.hear() == "that was 16 bytes"
            c.wait(w.response)
            assert w.response.ended


@PROXIES
@pytest.mark.parametrize("how", ["reset", "goaway", "close", "abort"])
def test_client_leaves(server, chat, proxy, how):
    """The backend hears of it, and nothing is left."""
    mark = server.access_mark()
    with server.h2() as c:
        w = open_socket(c, proxy + "/echo")
        w.say("here")
        assert w.hear() == "here"
        if how == "reset":
            c.reset(w.id)
        elif how == "goaway":
            c.goaway()
            c.close()
        else:
            getattr(c, how)()
        assert chat.visits[0].ended.wait(10 * PATIENCE)
        assert chat.visits[0].code == 1006
        if how == "reset":
            still_good(c)
    server.wait_access(1, since=mark, uri=proxy + "/echo")
    ended(server)


@PROXIES
def test_client_leaves_while_messages_come(server, chat, proxy):
    """The handler is waiting for the client to read."""
    with server.h2(windows=False) as c:
        w = open_socket(c, proxy + "/flood", say="go")
        c.wait_body(w.response, 65535)
        c.reset(w.id)
        assert chat.visits[0].ended.wait(10 * PATIENCE)
        c.credit(1 << 20)
        still_good(c)


def test_client_leaves_during_the_handshake(server):
    with server.h2() as c:
        w = websocket.Socket(c, "/fake/slow")
        c.ping()
        c.reset(w.id)
        still_good(c)
        gate.set()
    ended(server)


@pytest.mark.h2x_only("leaves the stream open when the backend closes")
@PROXIES
@pytest.mark.parametrize("reset", [False, True])
def test_server_dies(server, chat, proxy, reset):
    """What it said before arrives; the stream does not stay open.  An
    orderly end is END_STREAM (RFC 8441, section 5)."""
    with server.h2() as c:
        w = open_socket(c, proxy + "/echo")
        w.say("x" * 30000)
        assert w.hear() == "x" * 30000
        chat.cut(chat.visits[0], reset)
        c.wait(w.response)
        assert w.response.ended or reset
        assert w.closed is None
        still_good(c)
    ended(server)


def impatient(server):
    return server.h2(sni="two.test", authority="two.test")


@PROXIES
def test_idle(server, chat, proxy):
    """Ended when nobody has said anything for as long as Timeout and the
    proxy's timeout allow."""
    with impatient(server) as c:
        w = open_socket(c, proxy + "/idle/echo")
        w.say("hello")
        assert w.hear() == "hello"
        c.wait(w.response, timeout=20)
        assert chat.visits[0].ended.wait(10 * PATIENCE)
        assert chat.visits[0].code == 1006
        still_good(c)


@PROXIES
@pytest.mark.parametrize("path", ["/idle/talk", "/idle/echo"])
def test_not_idle(server, chat, proxy, path):
    """One side that speaks is enough, whichever it is."""
    with impatient(server) as c:
        w = open_socket(c, proxy + path, say="tick")
        assert w.hear() == "tick"
        for _ in range(15):
            if path == "/idle/echo":
                w.say("tick")
            assert w.hear() == "tick"
            c.idle(0.2)
        assert not w.response.done
        w.close()


# --- backpressure ---

def standstill(value, patience=1):
    """Waits until value() changes no more; returns it."""
    last = [value()]

    def stands():
        before, last[0] = last[0], value()
        return before == last[0]
    wait_for(stands, 30, "a standstill", patience)
    return last[0]


def gets_room(c, stream_id):
    """Waits for the window to open; not for ever."""
    try:
        return c.pump(lambda: c.allowed(stream_id) > 0, 1)
    except h2raw.Timeout:
        return False


@pytest.mark.h2x_only("has threads for some of them only")
@PROXIES
def test_client_does_not_read(server, chat, proxy):
    """The backend is stopped, and httpd keeps little."""
    with server.h2(windows=False) as warm:      # what httpd needs once
        open_socket(warm, proxy + "/echo").close()
    before = server.rss()
    with server.h2(windows=False, timeout=60) as c:
        sockets = [open_socket(c, proxy + "/flood?%d" % i, say="go")
                   for i in range(4)]
        visits = [chat.visit("/flood?%d" % i) for i in range(4)]
        standstill(lambda: sum(v.sent for v in visits))
        assert all(v.sent < 200 for v in visits)
        assert server.rss() - before < (16 << 20) * PATIENCE
        c.windows = True
        for w in sockets:
            if len(w.response.body):
                c.credit(len(w.response.body), w.id)
        c.credit(65535)
        for w in sockets:
            w.until(lambda: len(w.messages) == 320)
            assert w.messages == [b"f" * 65536] * 320
            w.close()


@PROXIES
def test_server_does_not_read(server, chat, proxy):
    """The client is stopped, and httpd keeps a window of it, and what filters
    have taken."""
    with server.h2() as warm:
        open_socket(warm, proxy + "/echo").close()
    before = server.rss()
    with server.h2(timeout=60) as c:
        w = open_socket(c, proxy + "/deaf")
        data = w.ws.send(websocket.frame(b"u" * 65536)) * 640
        sent = 0
        while sent < len(data) and gets_room(c, w.id):
            n = min(c.allowed(w.id), 16384, len(data) - sent)
            c.data(w.id, data[sent:sent + n])
            sent += n
        assert sent < 32 << 20
        assert server.rss() - before < (40 << 20) * PATIENCE
        still_good(c)
        gate.set()
        c.upload(w.response, data[sent:], end=False)
        assert w.hear(640) == [b"u" * 65536] * 640
        w.close()


def test_a_full_one_blocks_no_other(server, chat):
    with server.h2(windows=False) as c:
        full = open_socket(c, "/ws/flood", say="go")
        c.wait_body(full.response, 65535)
        c.windows = True
        c.credit(65535)
        other = open_socket(c, "/ws/echo")
        for i in range(50):
            other.say("%d" % i * 1000)
            assert other.hear() == "%d" % i * 1000
        still_good(c)
        c.reset(full.id)
        other.close()


@pytest.mark.h2x_only("leaves the stream open when the backend closes")
def test_nothing_is_left(server, chat):
    """Descriptors and threads after many, which ended in many ways."""
    def many(count):
        with server.h2() as c:
            for i in range(count):
                w = open_socket(c, "/ws/echo?%d" % i)
                w.say("x")
                w.hear()
                if i % 3 == 0:
                    w.close()
                elif i % 3 == 1:
                    c.reset(w.id)
                else:
                    chat.cut(chat.visit("/echo?%d" % i))
                    c.wait(w.response)
                chat.visits.clear()
        ended(server)
    many(10)
    wait_for(lambda: not server.connections(), what="connections to end")
    before = server.descriptors()
    many(60)
    wait_for(lambda: server.descriptors() <= before + 3,
             what="descriptors to be closed: %d, then %d"
             % (before, server.descriptors()))


# --- http2_get_pollfd_from_conn ---

@pytest.fixture(scope="module")
def polls(httpd, session_dir):
    """A server with a handler that waits for a descriptor."""
    config = """
    LoadModule h2x_poll_module %s
    <Location /poll>
        SetHandler h2x-poll
    </Location>
    """ % build_test_module(session_dir, "h2x_poll")
    with httpd(config) as server:
        server.write("index.html", "hello\n")
        yield server


@pytest.mark.parametrize("tls", [True, False])
def test_descriptor(polls, tls):
    """Ready when there is something, and only then."""
    with polls.h2(tls=tls) as c:
        r = c.start(c.fields("POST", "/poll"), end=False)
        for i in range(20):
            c.data(r.id, b"%04d" % i * 1000)
            c.wait_body(r, 4000 * (i + 1))
            c.ping()
        c.data(r.id, b"end", end=True)
        c.wait(r)
        body, _, said = r.text.partition("end")
        assert body == "".join("%04d" % i * 1000 for i in range(20))
        ready = re.fullmatch(r"\nready (\d+) timeout 60\n", said)
        # what came in several steps may be told of as often
        assert 21 <= int(ready.group(1)) <= 60
        still_good(c)


def test_descriptor_and_all_at_once(polls):
    """What was there before the descriptor was asked for."""
    with polls.h2() as c:
        for _ in range(10):
            r = c.request("POST", "/poll", body=b"x" * 10000)
            assert r.text.startswith("x" * 10000 + "\nready ")


def test_descriptor_of_many(polls):
    with polls.h2() as c:
        asked = [c.start(c.fields("POST", "/poll"), end=False)
                 for _ in range(20)]
        for turn in range(5):
            for r in asked:
                c.data(r.id, b"%d" % r.id * 100)
        for r in asked:
            c.data(r.id, b"", end=True)
        c.wait(*asked)
        assert all(r.text.startswith("%d" % r.id * 500 + "\nready ")
                   for r in asked)


def test_descriptor_and_client_that_leaves(polls):
    with polls.h2() as c:
        r = c.start(c.fields("POST", "/poll"), end=False)
        c.data(r.id, b"here")
        c.wait_body(r, 4)
        c.reset(r.id)
        still_good(c)
        ended(polls)
    polls.wait_access(1, uri="/poll", final="500")


def test_no_descriptor_in_http1(polls):
    assert polls.http1("POST", "/poll", body=b"x").text == "no descriptor\n"


@PROXIES
def test_graceful_restart(server, chat, proxy):
    """An open WebSocket goes on, and the child ends with it."""
    with server.h2() as c:
        w = open_socket(c, proxy + "/echo")
        w.say("before")
        assert w.hear() == "before"
        old = server.children()
        server.graceful()
        c.until(lambda: c.goaways, what="GOAWAY")
        w.say("after")
        assert w.hear() == "after"
        w.close()
        wait_for(lambda: not any(proc.alive(pid) for pid in old), 20,
                 "the old generation to end")
