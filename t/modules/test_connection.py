"""Modules that look after connections: mod_reqtimeout, mod_logio,
mod_unique_id."""

import socket
import time

import pytest

from lib import h2raw, http1
from lib.server import wait_for
from lib.together import Case, ask

CONFIG = """
RequestReadTimeout handshake=1 header=1 body=1,MinRate=1000
Timeout 12
KeepAliveTimeout 10
LogIOTrackTTFB On
CustomLog ${DIR}/io.log "%U%q %I %O %S %^FB"
Header set X-Unique "expr=%{env:UNIQUE_ID}"
"""
MODULES = "reqtimeout unique_id headers"
LATE = 9        # seconds: later than those of mod_reqtimeout, before Timeout


def files(server):
    server.write("page.txt", "page\n")
    server.write("large.bin", b"l" * 300000)


def seconds_to_close(sock):
    """Reads to the end; how long that took."""
    began = time.monotonic()
    sock.settimeout(30)
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


# --- mod_reqtimeout ----------------------------------------------------------

def test_slow_handshake(server):
    """Before there is a protocol."""
    with socket.create_connection(("127.0.0.1", server.tls_port)) as sock:
        sock.sendall(b"\x16\x03\x01")
        assert 0.5 < seconds_to_close(sock) < LATE


@pytest.mark.parametrize("said", [h2raw.PREFACE[:10], b"GET / HTTP/1.1\r\n"],
                         ids=["h2", "http1"])
def test_slow_head(server, said):
    """Half a preface is no better than half a request line."""
    with server.connect(tls=False) as sock:
        sock.sendall(said)
        assert 0.5 < seconds_to_close(sock) < LATE


def test_connection_lives_on(h2):
    """The timers for a request's head are not those of a connection: it may
    rest, or wait for a response, for longer."""
    assert h2.request(path="/page.txt").text == "page\n"
    assert h2.idle(1.5) == 0 and not h2.closed
    assert h2.request(path="/page.txt").text == "page\n"
    r = h2.request(path="/t/trickle?n=6&ms=300&size=2")
    assert len(r.body) == 12
    assert h2.request("POST", "/t/upload", body=b"x" * 300000).status == 200
    assert not h2.goaways


def test_steady_body(h2):
    """Nor are they those of the body: it may come in pieces, at the rate
    that is asked for, for longer."""
    r = h2.start(h2.fields("POST", "/t/upload"), end=False)
    for _ in range(8):
        h2.data(r.id, b"x" * 1000)
        h2.idle(0.2)
    h2.data(r.id, b"", end=True)
    assert h2.wait(r).text.startswith("length 8000\n")


def dribble(send, done):
    """Three bytes at a time: fewer than the rate that is asked for."""
    for _ in range(80):
        send()
        if done(0.1):
            return


def test_slow_body(server, h2):
    """A body that comes too slowly is refused, and only that; over HTTP/1.1
    the same."""
    with server.connect(tls=False) as sock:
        sock.sendall(b"POST /t/upload HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 1000\r\n\r\n")
        said = bytearray()

        def answered(patience):
            sock.settimeout(patience)
            try:
                said.extend(sock.recv(1000))
            except socket.timeout:
                pass
            return said
        dribble(lambda: sock.sendall(b"abc"), answered)
        assert said.startswith(b"HTTP/1.1 408 ")
    slow = h2.start(h2.fields("POST", "/t/upload",
                              {"content-length": "1000"}), end=False)
    good = h2.start(h2.fields("POST", "/t/upload"), end=False)

    def done(patience):
        h2.data(good.id, b"x" * 1000)
        h2.idle(patience)
        return slow.done
    dribble(lambda: h2.data(slow.id, b"abc"), done)
    assert slow.status == 408
    h2.data(good.id, b"", end=True)
    assert h2.wait(good).status == 200
    assert h2.request(path="/page.txt").text == "page\n"


@pytest.mark.h2x_only("waits for Timeout")
def test_stalled_body(h2):
    """A body that stops coming at all."""
    began = time.monotonic()
    r = h2.start(h2.fields("POST", "/t/upload",
                           {"content-length": "1000"}), end=False)
    h2.data(r.id, b"abc")
    assert h2.request(path="/page.txt").text == "page\n"
    assert not r.done
    h2.wait(r, timeout=20)
    assert time.monotonic() - began < LATE
    assert r.status == 408
    assert h2.request(path="/page.txt").text == "page\n"


# --- mod_logio ---------------------------------------------------------------

def counted(server, path):
    """%I, %O, %S and %^FB of each request for this path."""
    def lines():
        with open(server.path("io.log")) as f:
            found = [line.split() for line in f]
        return [tuple(map(int, x[1:])) for x in found if x[0] == path]
    wait_for(lines, 10, "the log of " + path)
    return lines()


@pytest.mark.parametrize("method,path,size_in,size_out", [
    ("GET", "/page.txt", 0, 5), ("GET", "/large.bin", 0, 300000),
    ("HEAD", "/large.bin", 0, 0),
    ("POST", "/t/upload", 100000, 0), ("POST", "/t/echo", 100000, 100000),
    ("GET", "/t/big?n=200000", 0, 200000)])
def test_io(server, method, path, size_in, size_out):
    """Bytes in and out of each of several streams, and of HTTP/1.1; heads
    and frames take some more, but not much."""
    tag = "&q=" if "?" in path else "?q="
    path += tag + method
    body = b"x" * size_in if size_in else None
    server.http1(method, path, body=body, tls=False)
    with server.h2(tls=False) as c:
        ask(c, [Case(method, path, {}, body)] * 5)
    wait_for(lambda: len(counted(server, path)) == 6, 10, "all six")
    for sum_in, sum_out, both, _ in counted(server, path):
        assert size_in < sum_in < size_in * 1.01 + 1000
        assert size_out < sum_out < size_out * 1.05 + 1000
        assert both == sum_in + sum_out


def test_first_byte(server, h2):
    """The time to the first byte is not that to the last."""
    asked = [h2.get("/t/trickle?n=2&ms=300&size=%d" % i) for i in (3, 4)]
    asked.append(h2.get("/t/wait?ms=300"))
    h2.wait(*asked)
    for i in (3, 4):
        (*_, first), = counted(server, "/t/trickle?n=2&ms=300&size=%d" % i)
        entry, = server.access(query="?n=2&ms=300&size=%d" % i)
        assert 0 < first <= int(entry["usec"]) - 250000
    (*_, first), = counted(server, "/t/wait?ms=300")
    assert first >= 300000


# --- mod_unique_id -----------------------------------------------------------

def test_unique_ids(server):
    """One for each request, whatever it shares a connection with; modules
    see the one that is logged."""
    mark = server.access_mark()
    seen = {}
    for _ in range(3):
        with server.h2() as c:
            asked = [c.get("/%s?u=%d" % (path, i)) for i in range(30)
                     for path in ("page.txt", "t/wait")]
            c.wait(*asked)
            for i, r in enumerate(asked):
                seen[r.header("x-unique")] = "?u=%d" % (i // 2)
        one = http1.request(server.connect(False), path="/page.txt?u=one")
        seen[one.header("x-unique")] = "?u=one"
    assert len(seen) == 3 * 61
    wait_for(lambda: len(server.access(since=mark)) == 3 * 61, 10,
             "all in the access log")
    assert {e["unique"]: e["query"] for e in server.access(since=mark)} == seen
