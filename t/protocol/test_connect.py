"""CONNECT (RFC 9113, section 8.5) and other requests of a forward proxy."""

import socket
import struct
import threading

import pytest

from lib import backend, clients, h2raw, inside
from lib.server import PATIENCE, free_ports, wait_for

MODULES = "proxy proxy_http proxy_connect"
CONFIG = """
ProxyRequests on
H2ProxyRequests on
AllowCONNECT %(ports)s ${TLS_PORT}
SendBufferSize 65536
ReceiveBufferSize 65536
"""

#: Opened by a test when a peer may go on.
gate = threading.Event()

#: What peers have noted, of each connection.
seen = []

#: Name of a peer, or "http" or "dead", to "host:port".
places = {}


class Peer(backend._Listener):
    """What is connected to: handle(conn) for each connection."""

    def connection(self, conn):
        self.handle(conn)


def note(what):
    seen.append(what)
    return what


def peer_echo(conn):
    """Each piece back; at the end, a last word."""
    while True:
        try:
            data = conn.recv(65536)
        except ConnectionError:
            note("reset")
            raise
        if not data:
            break
        conn.sendall(data)
    note("end")
    conn.sendall(b"bye")


def peer_greet(conn):
    """Speaks first, as SMTP and SSH do."""
    conn.sendall(b"welcome\r\n")
    conn.sendall(conn.recv(100).upper())


def peer_source(conn):
    """5 MB, without being asked, and the end."""
    conn.sendall(b"0123456789" * 500000)


def peer_half(conn):
    """Ends its half first, and goes on listening."""
    conn.sendall(b"that is all")
    conn.shutdown(socket.SHUT_WR)
    data = b""
    while True:
        piece = conn.recv(65536)
        data += piece
        if not piece:
            break
    note(data)


def peer_flood(conn):
    try:
        for i in range(320):
            conn.sendall(b"f" * 65536)
            seen[:] = [i + 1]
    finally:
        note("gone")


def peer_deaf(conn):
    gate.wait(30)
    peer_echo(conn)


def peer_reset(conn):
    """What it was told back, and then a TCP reset."""
    conn.sendall(conn.recv(100))
    gate.wait(30)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))

PEERS = {name[5:]: function for name, function in list(globals().items())
         if name.startswith("peer_")}


def handle(q):
    """A backend for requests other than CONNECT."""
    data = q.body()
    q.answer("%s %s %s %s" % (q.method, q.path, q.fields["host"],
                              data.decode()))


@pytest.fixture(scope="module")
def peers():
    started = {name: Peer(function) for name, function in PEERS.items()}
    started["http"] = backend.Backend(handle)
    for name, one in started.items():
        places[name] = "127.0.0.1:%d" % one.port
        one.__enter__()
    with free_ports(1) as (dead,):
        places["dead"] = "127.0.0.1:%d" % dead
        yield places
    gate.set()
    for one in started.values():
        one.__exit__()


@pytest.fixture(scope="module")
def config(peers):
    ports = [at.rpartition(":")[2] for name, at in peers.items()
             if name != "http"]
    return CONFIG % {"ports": " ".join(ports)}


@pytest.fixture(scope="module")
def server(httpd, config):
    with httpd(config, MODULES) as server:
        server.write("index.html", "hello\n")
        yield server


@pytest.fixture(autouse=True)
def fresh():
    gate.clear()
    seen.clear()
    yield
    gate.set()


def still_good(c):
    """Another request, which goes to the backend."""
    r = c.request(scheme="http", authority=places["http"], path="/other")
    assert r.text == "GET /other %s " % places["http"]


def ended(server):
    """Until no request is under way.  Those that are refused before httpd
    looks at them are logged, but not counted as read."""
    def done():
        counted = inside.counters(server)
        return counted["read"] == counted["ended"]
    wait_for(done, what="all requests to end")


def connect(c, at, opened=True):
    """A tunnel."""
    r = c.start([(":method", "CONNECT"), (":authority", at)], end=False)
    if opened:
        c.wait_headers(r)
        assert r.status == 200 and not r.done
    return r


# --- data ---

@pytest.mark.parametrize("tls", [True, False])
def test_both_ways(server, peers, tls):
    mark = server.access_mark()
    with server.h2(tls=tls) as c:
        r = connect(c, peers["echo"])
        for name in ("content-length", "transfer-encoding", "connection"):
            assert r.header(name) is None
        sent = b""
        for size in (1, 10, 1000, 16384, 65535, 300000):
            data = bytes([size % 251]) * size
            assert c.upload(r, data, end=False) == size
            sent += data
            c.wait_body(r, len(sent))
        c.data(r.id, b"", end=True)
        c.wait(r)
        assert bytes(r.body) == sent + b"bye" and r.ended
        assert r.reset in (None, 0) and seen == ["end"]
        still_good(c)
    one, = server.wait_access(1, since=mark, method="CONNECT")
    assert one["line"] == "CONNECT %s HTTP/2.0" % peers["echo"]
    assert one["final"] == "200"


def test_data_with_the_request(server, peers):
    """Before the answer to it."""
    with server.h2() as c:
        r = connect(c, peers["echo"], opened=False)
        c.data(r.id, b"early", end=True)
        c.wait(r)
        assert (r.status, r.text) == (200, "earlybye")


@pytest.mark.parametrize("fields", [
    [("content-length", "5")],
    [("content-length", "5"), ("trailer", "x-late")],
    [("content-length", "0"), ("expect", "100-continue")],
], ids=["length", "length and trailers", "expect"])
def test_framing_of_the_request(server, peers, fields):
    """RFC 9110, 9.3.6: a CONNECT has no content, whatever its fields say of
    it.  What the client sends is not held back, and does not end there."""
    with server.h2() as c:
        r = c.start([(":method", "CONNECT"), (":authority", peers["echo"]),
                     *fields], end=False)
        c.wait_headers(r)
        assert r.status == 200 and not r.done
        for sent in (5, 10):
            c.data(r.id, b"hello")
            c.wait_body(r, sent)
        c.data(r.id, b"", end=True)
        assert c.wait(r).text == "hellohellobye"


def test_peer_speaks_first(server, peers):
    with server.h2() as c:
        r = connect(c, peers["greet"])
        c.wait_body(r, 9)
        assert r.text == "welcome\r\n"
        c.data(r.id, b"hello")
        c.wait_body(r, 14)
        c.data(r.id, b"", end=True)
        assert c.wait(r).text == "welcome\r\nHELLO"


@pytest.mark.h2x_only("does not tell the client")
def test_peer_closes(server, peers):
    """Its end reaches the client, who may be waiting for nothing else."""
    with server.h2() as c:
        r = connect(c, peers["source"])
        c.wait(r)
        assert bytes(r.body) == b"0123456789" * 500000
        assert r.ended and r.reset in (None, 0)
        still_good(c)


@pytest.mark.h2x_only("does not tell the client")
def test_peer_ends_its_half(server, peers):
    """END_STREAM to the client, who goes on sending."""
    with server.h2() as c:
        r = connect(c, peers["half"])
        c.until(lambda: r.ended or r.reset is not None, what="END_STREAM")
        assert r.text == "that is all" and r.ended and r.reset is None
        c.data(r.id, b"not for me")
        c.data(r.id, b", it goes on", end=True)
        wait_for(lambda: seen, what="the peer to have it all")
        assert seen == [b"not for me, it goes on"]


def test_large_both_ways(server, peers):
    data = bytes(range(256)) * 12000
    with server.h2(timeout=30) as c:
        r = connect(c, peers["echo"])
        assert c.upload(r, data) == len(data)
        c.wait(r)
        assert bytes(r.body) == data + b"bye"


@pytest.mark.h2x_only("has threads for some of them only")
def test_many(server, peers):
    with server.h2() as c:
        tunnels = [connect(c, peers["echo"]) for _ in range(15)]
        for turn in range(5):
            for r in tunnels:
                c.data(r.id, b"%d in %d " % (r.id, turn) * 100)
            still_good(c)
        for r in tunnels:
            c.data(r.id, b"", end=True)
        c.wait(*tunnels)
        for r in tunnels:
            assert r.text == "".join("%d in %d " % (r.id, turn) * 100
                                     for turn in range(5)) + "bye"


@pytest.mark.skipif(not clients.have("node"), reason="node is not installed")
def test_node_with_tls_inside(server, peers):
    """A page over TLS, through the tunnel to this server itself."""
    script = clients.script("node_connect.js")
    result = clients.run(["node", script, server.url(""),
                          "127.0.0.1:%d" % server.tls_port, "/index.html"])
    assert result.rc == 0, result.err
    assert result.out == b"200 hello\n"


# --- what is refused ---

def refused(c, at):
    r = c.wait(connect(c, at, opened=False))
    still_good(c)
    return r


def test_port_not_allowed(server, peers):
    with server.h2() as c:
        r = refused(c, peers["http"])
        assert r.status == 403 and r.ended


def test_nobody_there(server, peers):
    with server.h2() as c:
        r = refused(c, peers["dead"])
        assert r.status == 503 and r.ended


@pytest.mark.parametrize("at", ["127.0.0.1", "127.0.0.1:0",
                                "127.0.0.1:99999", "127.0.0.1:http", ":1"])
def test_bad_target(server, at):
    with server.h2() as c:
        r = refused(c, at)
        assert r.reset == h2raw.PROTOCOL_ERROR or 400 <= r.status < 600


def connect_with_host(c, at, host):
    return c.start([(":method", "CONNECT"), (":authority", at),
                    ("host", host)], end=False)


def test_same_host(server, peers):
    with server.h2() as c:
        r = c.wait_headers(connect_with_host(c, peers["echo"], peers["echo"]))
        assert r.status == 200 and not r.done
        c.data(r.id, b"bye", end=True)
        c.wait(r)


@pytest.mark.h2x_only("looks at :authority only")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:1",
                                  "localhost", "localhost:80"])
def test_other_host(server, peers, host):
    """Without scheme no port is the default one (RFC 9113, section 8.5)."""
    with server.h2() as c:
        r = c.wait(connect_with_host(c, peers["echo"], host))
        assert r.status == 400 and r.ended
        still_good(c)
    ended(server)
    assert seen == []


@pytest.mark.h2x_only("never answers")
@pytest.mark.parametrize("directives", ["", "H2ProxyRequests off"])
def test_off(httpd, config, peers, directives):
    config = config.replace("H2ProxyRequests on", directives)
    with httpd(config, MODULES) as server:
        server.write("index.html", "hello\n")
        with server.h2() as c:
            r = c.wait(connect(c, peers["echo"], opened=False))
            assert r.status == 501 and r.ended
            server.wait_log("CONNECT needs H2ProxyRequests on")
            # nor is anything else passed on
            r = c.request(authority=peers["http"], scheme="http",
                          path="/index.html")
            assert r.text == "hello\n"


def test_without_proxy(httpd, config, peers):
    """The module allows it, but mod_proxy is no forward proxy."""
    config = config.replace("ProxyRequests on", "ProxyRequests off", 1)
    with httpd(config, MODULES) as server:
        server.write("index.html", "hello\n")
        with server.h2() as c:
            r = c.wait(connect(c, peers["echo"], opened=False))
            assert r.status is None or 400 <= r.status < 600
            assert seen == []


# --- the end ---

@pytest.mark.parametrize("how", ["reset", "close", "abort"])
def test_client_leaves(server, peers, how):
    mark = server.access_mark()
    with server.h2() as c:
        r = connect(c, peers["echo"])
        c.data(r.id, b"here")
        c.wait_body(r, 4)
        if how == "reset":
            c.reset(r.id)
            still_good(c)
        else:
            getattr(c, how)()
        wait_for(lambda: seen, what="the peer to see the end")
    server.wait_access(1, since=mark, method="CONNECT")
    ended(server)


def test_client_leaves_while_data_comes(server, peers):
    with server.h2(windows=False) as c:
        r = connect(c, peers["flood"])
        c.wait_body(r, 65535)
        c.reset(r.id)
        wait_for(lambda: "gone" in seen, what="the peer to see the end")
        c.credit(1 << 20)
        still_good(c)


@pytest.mark.xfail(strict=True, reason="mod_proxy ends the tunnel in the same "
                   "way when the peer resets and when it closes")
@pytest.mark.h2x_only("resets with NO_ERROR")
def test_peer_resets(server, peers):
    """RFC 9113, section 8.5: an error of the TCP connection is one of the
    stream, CONNECT_ERROR."""
    with server.h2() as c:
        r = connect(c, peers["reset"])
        c.data(r.id, b"here")
        c.wait_body(r, 4)
        gate.set()
        c.wait(r)
        assert r.reset == h2raw.CONNECT_ERROR and not r.ended
        still_good(c)


def test_idle(httpd, config, peers):
    with httpd(config + "Timeout 1\nProxyTimeout 1\n", MODULES) as server:
        server.write("index.html", "hello\n")
        with server.h2() as c:
            r = connect(c, peers["echo"])
            c.wait(r, timeout=20)
            wait_for(lambda: seen, what="the peer to see the end")
            still_good(c)


# --- who waits for whom ---

def gets_room(c, stream_id):
    try:
        return c.pump(lambda: c.allowed(stream_id) > 0, 1)
    except h2raw.Timeout:
        return False


def test_peer_does_not_read(server, peers):
    with server.h2() as warm:
        r = connect(warm, peers["greet"])
        warm.wait_body(r, 9)
    before = server.rss()
    data = b"u" * (40 << 20)
    with server.h2(timeout=60) as c:
        r = connect(c, peers["deaf"])
        sent = 0
        while sent < len(data) and gets_room(c, r.id):
            n = min(c.allowed(r.id), 16384, len(data) - sent)
            c.data(r.id, data[sent:sent + n])
            sent += n
        assert sent < 32 << 20
        assert server.rss() - before < (40 << 20) * PATIENCE
        still_good(c)
        gate.set()
        c.upload(r, data[sent:])
        c.wait(r)
        assert len(r.body) == len(data) + 3


def test_client_does_not_read(server, peers):
    before = server.rss()
    with server.h2(windows=False, timeout=60) as c:
        r = connect(c, peers["flood"])
        c.wait_body(r, 65535)
        last = [None]

        def stands():
            before, last[0] = last[0], seen[:1]
            return before == last[0]
        wait_for(stands, 30, "a standstill", 0.5 * PATIENCE)
        assert seen[0] < 200
        assert server.rss() - before < (16 << 20) * PATIENCE
        c.windows = True
        c.credit(65535, r.id)
        c.credit(65535)
        c.wait_body(r, 320 * 65536)
        c.data(r.id, b"", end=True)
        c.wait(r)
        assert len(r.body) == 320 * 65536


# --- other methods ---

def test_get(server, peers):
    """The scheme and authority decide where it goes."""
    mark = server.access_mark()
    with server.h2() as c:
        r = c.request(scheme="http", authority=peers["http"],
                      path="/some?x=y")
        assert (r.status, r.text) == (200, "GET /some?x=y %s " %
                                      peers["http"])
        r = c.request("POST", scheme="http", authority=peers["http"],
                      path="/other", body=b"the body")
        assert r.text == "POST /other %s the body" % peers["http"]
        still_good(c)
    server.wait_access(1, since=mark, line="GET http://%s/some?x=y HTTP/2.0"
                       % peers["http"])


def test_own_host(server):
    """Requests for this server are not passed on, but answered."""
    mark = server.access_mark()
    with server.h2(tls=False) as c:
        r = c.request(path="/index.html",
                      authority="localhost:%d" % server.port)
        assert r.text == "hello\n"
    one, = server.wait_access(1, since=mark, uri="/index.html")
    assert one["handler"] != "proxy-server"


@pytest.mark.h2x_only("refuses it in other words")
def test_connect_is_refused(httpd):
    with httpd() as server, server.h2() as c:
        server.write("index.html", "hello\n")
        r = c.start([(":method", "CONNECT"), (":authority", "localhost:80")])
        c.wait(r)
        assert r.status == 501
        assert c.request(path="/index.html").status == 200
