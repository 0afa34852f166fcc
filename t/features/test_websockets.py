"""WebSockets over HTTP/2 (RFC 8441), through both ways that httpd has to
backends, mod_proxy_http's upgrade= and mod_proxy_wstunnel: messages and the
handshake.  How they end is in test_websockets_ends.py."""

import asyncio
import random

import pytest
import websockets
from wsproto import events

from lib import backend, h2raw, websocket
from lib.chat import (  # noqa: F401
    MODULES, PROXIES, chat, config, ended, fresh, hosts, open_socket, refused,
    server, still_good)
from lib.server import PATIENCE


# --- messages ---

def mixed(seed, count=10000):
    """Messages of all the sizes that are framed in their own ways."""
    rnd = random.Random(seed)
    sizes = [0, 1, 2, 124, 125, 126, 127, 500, 2000]
    for i in range(count):
        size = rnd.choice(sizes)
        if i % 500 == 7:
            size = rnd.choice([16384, 65535, 65536, 100000])
        text = "%d %s" % (i, "äx" * (size // 3))
        yield text if rnd.random() < 0.5 else text.encode()


def in_parts(rnd, message):
    """The events that send a message: now and then in several parts, with
    a ping in between."""
    if rnd.random() > 0.1 or not message:
        return [websocket.frame(message)]
    cuts = sorted(rnd.randrange(len(message)) for _ in range(3))
    parts = [message[a:b] for a, b in zip([0] + cuts,
                                          cuts + [len(message)])]
    made = [websocket.frame(part, False) for part in parts[:-1]]
    made.append(events.Ping(b"between"))
    return made + [websocket.frame(parts[-1])]


@pytest.mark.parametrize("proxy,tls", [("/ws", True), ("/old", False)])
def test_10000_messages(server, chat, proxy, tls):
    rnd = random.Random(proxy)
    messages = list(mixed(proxy))
    with server.h2(tls=tls, timeout=60) as c:
        w = open_socket(c, proxy + "/echo")
        pings = 0
        for at in range(0, len(messages), 20):
            made = sum((in_parts(rnd, m) for m in messages[at:at + 20]), [])
            pings += sum(isinstance(e, events.Ping) for e in made)
            assert w.send(*made)
        w.until(lambda: len(w.messages) == len(messages))
        assert w.messages == messages
        assert pings > 100 and w.pongs == [b"between"] * pings
        assert w.close() == (1000, "")
        assert w.response.ended and w.response.reset in (None, 0)
        still_good(c)
    assert chat.visits[0].received == len(messages)
    server.wait_access(1, uri=proxy + "/echo", proto="HTTP/2.0")


@PROXIES
def test_parts_of_the_server(server, proxy):
    with server.h2() as c:
        w = open_socket(c, proxy + "/parts")
        for message in ["", "abc", "x" * 100000, b"y" * 300000]:
            w.say(message)
            assert w.hear() == message
        w.close()


@PROXIES
def test_pings_of_the_server(server, proxy):
    with server.h2() as c:
        w = open_socket(c, proxy + "/ping", say="go")
        assert w.hear(20) == ["pong %d" % i for i in range(20)]
        assert w.pings == [b"ping %d" % i for i in range(20)]
        w.close()


def test_one_byte_at_a_time(server):
    """Each in a frame of its own, some of them empty or padded."""
    with server.h2() as c:
        w = open_socket(c, "/ws/echo")
        data = w.ws.send(websocket.frame("piecemeal"))
        for i in range(len(data)):
            c.data(w.id, data[i:i + 1])
            c.data(w.id, b"")
            c.raw_frame(0, 8, w.id, b"\x05" + b"\0" * 5)
        assert w.hear() == "piecemeal"
        w.close()


def test_first_message_with_the_handshake(server):
    """What comes before the 200 waits for it."""
    with server.h2() as c:
        w = websocket.Socket(c, "/ws/echo")
        w.say("early")
        w.opened()
        assert w.hear() == "early"
        w.close()


@pytest.mark.h2x_only("lets the backend take it for the request's body")
@PROXIES
@pytest.mark.parametrize("more", [[], [("trailer", "x-late")]],
                         ids=["length", "length and trailers"])
def test_framing_of_the_handshake(server, proxy, more):
    """A Content-Length is none of the GET's that backends get: what it counts
    are messages, which are not held back until the end."""
    with server.h2() as c:
        head_and_mask = 2 + 4
        w = websocket.Socket(c, proxy + "/echo", [
            ("content-length", str(head_and_mask + len("counted"))),
            *more]).opened()
        w.say("counted")
        assert w.hear() == "counted"
        c.data(w.id, b"", end=True)
        c.wait(w.response)


@pytest.mark.h2x_only("the message stays in httpd until the next comes")
@pytest.mark.parametrize("path", ["/fake/greet", "/oldfake/greet"])
def test_message_that_comes_with_the_answer(server, path):
    """In the packet of the 101, as servers do that speak first."""
    with server.h2() as c:
        for _ in range(3):
            w = open_socket(c, path)
            assert w.hear() == "welcome"
            w.say("hey")
            assert w.hear() == "thanks"
            c.wait(w.response)


@pytest.mark.h2x_only("has threads for some of them only")
def test_many_at_once(server):
    """WebSockets and other requests on one connection."""
    with server.h2() as c:
        sockets = [open_socket(c, proxy + "/echo?%d" % i)
                   for i in range(6) for proxy in ("/ws", "/old")]
        for turn in range(10):
            asked = [c.get("/index.html") for _ in range(5)]
            asked.append(c.get("/t/big?n=300000"))
            for i, w in enumerate(sockets):
                w.say("%d in %d" % (i, turn))
                w.say(bytes([i]) * 20000)
            for i, w in enumerate(sockets):
                assert w.hear(2) == ["%d in %d" % (i, turn),
                                     bytes([i]) * 20000]
            c.wait(*asked)
            assert [r.status for r in asked] == [200] * 6
            assert len(asked[-1].body) == 300000
        for w in sockets:
            assert w.close(3000) == (3000, "")


@pytest.mark.parametrize("mpm", ["event", "worker"])
def test_mpms(httpd, config, mpm):
    with httpd(config, MODULES, mpm=mpm) as server:
        with server.h2() as c:
            sockets = [open_socket(c, "/ws/echo?%d" % i) for i in range(3)]
            for w in sockets:
                w.say("x" * 50000)
            for w in sockets:
                assert w.hear() == "x" * 50000
                w.close()


def test_over_http1(server, chat):
    """As ever, also with the directive on."""
    async def talk():
        async with websockets.connect(
                "wss://localhost:%d/ws/echo" % server.tls_port,
                ssl=server.tls_context(alpn=("http/1.1",))) as ws:
            await ws.send("one")
            assert await ws.recv() == "one"
            await ws.close(4000, "enough")
    asyncio.run(asyncio.wait_for(talk(), 10 * PATIENCE))
    assert chat.visits[0].ended.wait(10 * PATIENCE)
    assert chat.visits[0].code == 4000


# --- the handshake ---

@PROXIES
def test_fields_of_the_handshake(server, chat, proxy):
    with server.h2() as c:
        w = websocket.Socket(c, proxy + "/echo?x=1", [
            ("origin", "https://localhost"), ("cookie", "a=b"),
            ("sec-websocket-protocol", "other, chat"), ("x-own", "v"),
            ("sec-websocket-key", "of no meaning")]).opened()
        assert w.response.header("sec-websocket-protocol") == "chat"
        for name in ("connection", "upgrade", "sec-websocket-accept",
                     "content-length", "transfer-encoding"):
            assert w.response.header(name) is None, name
        fields = chat.visit("/echo?x=1").fields
        assert fields["origin"] == "https://localhost"
        assert fields["cookie"] == "a=b" and fields["x-own"] == "v"
        assert fields["sec-websocket-version"] == "13"
        assert fields.get_all("sec-websocket-key") != ["of no meaning"]
        w.close()


def test_each_handshake_has_a_key_of_its_own(server, chat):
    with server.h2() as c:
        for _ in range(5):
            open_socket(c, "/ws/echo").close()
    keys = {v.fields["sec-websocket-key"] for v in chat.visits}
    assert len(keys) == 5


def test_setting(server):
    for sni, value in (("localhost", 1), ("one.test", None)):
        with server.h2(sni=sni, authority=sni) as c:
            assert websocket.connect_protocol(c) == value
    with server.h2(tls=False) as c:
        assert websocket.connect_protocol(c) == 1


@pytest.mark.h2x_only("logs nothing")
def test_off_for_the_connection(server):
    """The client had not been told that it may; the log says which stream
    it was."""
    with server.h2(sni="one.test", authority="one.test") as c:
        mark = server.log_mark()
        r = refused(c, "/ws/echo")
        assert r.reset == h2raw.PROTOCOL_ERROR or r.status == 501
        server.wait_log(r"\[h2x:info\].*h2x\(\S+-%d\): " % r.id, since=mark)


@pytest.mark.h2x_only("logs nothing")
def test_off_for_this_host(server):
    with server.h2() as c:
        mark = server.log_mark()
        r = refused(c, "/ws/echo", authority="one.test")
        assert r.status == 501 and r.ended
        server.wait_log("websocket.*H2WebSockets", since=mark)


def test_off_by_default(httpd, config):
    config = config.replace("H2WebSockets on\n", "")
    with httpd(config, MODULES) as server, server.h2() as c:
        assert websocket.connect_protocol(c) is None


@pytest.mark.h2x_only("logs nothing")
@pytest.mark.parametrize("name", ["WebSocket", "connect-udp", "h2x"])
def test_other_protocol(server, name):
    with server.h2() as c:
        fields = c.fields("CONNECT", "/ws/echo")
        fields.insert(1, (":protocol", name))
        mark = server.log_mark()
        r = c.wait(c.start(fields, end=False))
        assert r.status == 501
        server.wait_log(":protocol '%s'" % name, since=mark)
        still_good(c)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_protocol_needs_connect(server, method):
    """RFC 8441, section 4; RFC 9113, section 8.1.1."""
    with server.h2() as c:
        fields = c.fields(method, "/ws/echo")
        fields.insert(1, (":protocol", "websocket"))
        r = c.wait(c.start(fields, end=False))
        assert r.reset == h2raw.PROTOCOL_ERROR or r.status == 400
        still_good(c)


@pytest.mark.parametrize("missing", [":scheme", ":path"])
def test_protocol_needs_scheme_and_path(server, missing):
    """RFC 8441, section 4."""
    with server.h2() as c:
        fields = c.fields("CONNECT", "/ws/echo")
        fields.insert(1, (":protocol", "websocket"))
        r = c.wait(c.start([f for f in fields if f[0] != missing], end=False))
        assert r.reset == h2raw.PROTOCOL_ERROR or r.status == 400
        still_good(c)


@PROXIES
def test_refused_by_the_backend(server, proxy):
    with server.h2() as c:
        r = refused(c, proxy + "/forbidden")
        assert (r.status, r.text, r.ended) == (403, "not you\n", True)
        assert r.header("x-why") == "no entry"
        r = refused(c, proxy + "/elsewhere")
        assert r.status == 302


@pytest.mark.parametrize("path", ["/dead/echo", "/olddead/echo"])
def test_no_backend(server, path):
    with server.h2() as c:
        r = refused(c, path)
        assert r.status == 503 and r.ended


def gets_error(server, path):
    """502 and no more, and so says the log."""
    mark = server.access_mark()
    with server.h2() as c:
        r = refused(c, path)
        assert (r.status, r.body, r.ended) == (502, b"", True)
        assert r.header("content-length") == "0"
    ended(server)
    server.wait_access(1, since=mark, uri=path, final="502")


@pytest.mark.h2x_only("resets the stream, or sends the page")
@pytest.mark.parametrize("path", ["/fake/wrong", "/fake/none",
                                  "/oldfake/wrong", "/oldfake/none"])
def test_bad_answer(server, path):
    """101 that is no answer to this handshake (RFC 6455, section 4.1)."""
    gets_error(server, path)


@pytest.mark.parametrize("path", ["/fake/other", "/oldfake/other"])
def test_other_protocol_in_the_answer(server, path):
    """mod_proxy sees that itself."""
    with server.h2() as c:
        r = refused(c, path)
        assert r.status == 502 and r.ended and b"Proxy Error" in r.body


@pytest.mark.h2x_only("resets the stream, or sends the page")
@pytest.mark.parametrize("path", [
    "/fake/page", "/oldfake/page", "/index.html", "/t/env"])
def test_success_without_switching(server, path):
    """A page is no WebSocket: to pass on its 200 would say so (RFC 8441,
    section 5; RFC 6455, section 4.1)."""
    gets_error(server, path)


@pytest.mark.parametrize("path", ["/fake/length", "/oldfake/length"])
def test_length_of_the_answer(server, path):
    """Of a 101 it says nothing, of the tunnel all (RFC 9110, section 8.6)."""
    with server.h2() as c:
        w = open_socket(c, path)
        assert w.response.header("content-length") is None
        w.say("echo")
        assert w.hear() == "thanks"


@pytest.mark.parametrize("path", ["/fake/die", "/oldfake/die"])
def test_backend_leaves_without_answer(server, path):
    with server.h2() as c:
        refused(c, path)


def test_no_such_page(server):
    with server.h2() as c:
        assert refused(c, "/nothing").status == 404


# --- virtual hosts, and what is announced ---

@pytest.fixture(scope="module")
def two_hosts(httpd, chat):  # noqa: F811
    """Makes servers with WebSockets in both hosts, and lines of their own."""
    proxy = "ProxyPass /ws/ http://127.0.0.1:%d/ upgrade=websocket" % chat.port

    def make(config, host):
        return httpd(config + "\n" + proxy, "proxy proxy_http alias", hosts={
            "one.test": "\n".join([host, "Redirect 403 /refused",
                                   "ProxyPass /refused !", proxy])})
    return make


def echoes(c, path="/ws/echo"):
    w = websocket.Socket(c, path).opened()
    w.say("hello")
    assert w.hear() == "hello"
    w.close()
    return w.response


def test_websockets_in_one_host(two_hosts):
    """The default host need not have them."""
    with two_hosts("", "H2WebSockets on") as server:
        with server.h2(sni="one.test", authority="one.test") as c:
            assert websocket.connect_protocol(c) == 1
            echoes(c)
        with server.h2() as c:
            assert websocket.connect_protocol(c) is None


@pytest.mark.parametrize("path", ["/ws/echo", "/refused"])
def test_websockets_off_at_target(two_hosts, path):
    """Refused before the host's own rules are asked."""
    with two_hosts("H2WebSockets on", "H2WebSockets off") as server, \
            server.h2() as c:
        echoes(c)
        r = websocket.Socket(c, path, authority="one.test").response
        c.wait(r)
        assert (r.status, r.ended) == (501, True)


@pytest.mark.h2x_only("passes the 200 on")
@pytest.mark.parametrize("path", ["/index.html", "/t/env", "/fake/page"])
def test_page_is_no_websocket(httpd, path):
    """200 in answer to an extended CONNECT would say that there is one (RFC
    8441, section 5)."""
    with backend.Backend(lambda q: q.answer("a page")) as behind:
        config = ("H2WebSockets on\nProxyPass /fake/ "
                  "http://127.0.0.1:%d/ upgrade=websocket\n" % behind.port)
        with httpd(config, "proxy proxy_http") as server, server.h2() as c:
            server.write("index.html", "hello\n")
            r = c.wait(websocket.Socket(c, path).response)
            assert (r.status, r.reset) == (502, None)
            assert c.request(path="/index.html").text == "hello\n"


@pytest.mark.h2x_only("announces there too")
@pytest.mark.parametrize("push", [0, 1])
def test_nothing_is_announced_for_connect(two_hosts, push):
    """No PUSH_PROMISE and no 103 on a stream that shall be a WebSocket."""
    with two_hosts("H2WebSockets on\nH2EarlyHints on\n"
                   "H2PushResource add /index.html", "") as server:
        server.write("index.html", "hello\n")
        with server.h2(settings={h2raw.ENABLE_PUSH: push}) as c:
            none = c.wait(websocket.Socket(c, "/none").response)
            for r in (echoes(c), none):
                assert (r.promises, r.interim) == ([], [])
            r = c.get("/index.html?other")
            c.wait(r)           # here, they are wanted
            assert bool(r.promises) == (push == 1)
            assert bool(r.interim) == (push == 0)
