"""What was read from a socket before anybody wants it: it is dealt with when
the client says no more, and freed with the connection.  What a client says
after an error does no harm."""

import socket
import time

import pytest

from lib import h2raw, inside
from lib.h2raw import (DataFrame, GoAwayFrame, HeadersFrame, PingFrame,
                       INITIAL_WINDOW_SIZE)
from lib.server import SANITIZE, wait_for

CONFIG = """
H2MaxSessionStreams 4000
H2Guard 0
"""


def files(server):
    server.write("index.html", "hello\n")
    server.write("empty", "")
    server.write("big", b"x" * (32 << 20))


def ports(sock):
    """The server's and the client's."""
    return [name[1] for name in (sock.getpeername(), sock.getsockname())]


def connect(server, tls):
    """A client that can keep little."""
    sock = server.connect(tls, receive=4096)
    return h2raw.Connection(sock, settings={INITIAL_WINDOW_SIZE: 1 << 30},
                            windows=False, timeout=15), ports(sock)


def queues(between):
    """What the kernel holds of the server's for a client, and of a client's
    for the server."""
    with open("/proc/net/tcp") as f:
        for line in list(f)[1:]:
            fields = line.split()
            if between == [int(end.split(":")[1], 16) for end in fields[1:3]]:
                return [int(size, 16) for size in fields[4].split(":")]
    return [0, 0]


def unsent(between):
    return queues(between)[0]


def unread(between):
    return queues(between)[1]


def head(c, path, end=True):
    sid = c.new_id()
    f = HeadersFrame(sid, c.encode(c.fields("GET" if end else "POST", path)))
    f.flags.add("END_HEADERS")
    if end:
        f.flags.add("END_STREAM")
    return sid, f.serialize()


@pytest.mark.parametrize("tls", [True, False], ids=["h2", "h2c"])
@pytest.mark.parametrize("pings", [0, 1400])
def test_stuck(server, tls, pings):
    """What was read while the client took nothing is not forgotten when it
    takes all."""
    c, between = connect(server, tls)
    with c:
        assert c.request(path="/index.html").status == 200
        # the connection stays with us while this one runs
        up = c.start(c.fields("POST", "/t/upload"), end=False).id
        big = c.get("/big")
        c.wait_headers(big)
        # as much as makes the server wait for the client, and no more
        before = -1
        for _ in range(100):
            now = unsent(between)
            if now and now < before + 8000:
                break
            before = now
            c.credit(16384)
            time.sleep(0.1)
        ids, burst = [], b""
        for _ in range(10):
            sid, f = head(c, "/empty")
            ids.append(sid)
            burst += f
        c.raw(burst)
        time.sleep(1.5)         # all of them have run
        burst = PingFrame(opaque_data=b"12345678").serialize() * pings
        burst += DataFrame(up, b"x" * 10000).serialize() * 3
        last, f = head(c, "/empty")
        burst += f
        c.raw(burst)
        time.sleep(0.3)
        c.until(lambda: c.streams.get(last) and c.streams[last].done,
                what="last response (big %d, pongs %d, unsent %d, %d)" % (
                    len(big.body), len(c.pongs), before, now))
        assert c.streams[last].status == 200


def junk(server, count, tls):
    """Clients that say GOAWAY, and much after it in the same write."""
    for _ in range(count):
        with server.h2(tls=tls) as c:
            assert c.request(path="/index.html").status == 200
            try:
                # it goes, but does not stop
                c.raw(GoAwayFrame(0).serialize()
                      + DataFrame(1, b"x" * 16000).serialize() * 4)
            except OSError:
                pass
            c.wait_closed()
    wait_for(lambda: not server.connections(), what="connections to end")


@pytest.mark.skipif(bool(SANITIZE), reason="a sanitizer keeps memory")
@pytest.mark.parametrize("tls", [True, False], ids=["h2", "h2c"])
def test_leak(server, tls):
    """What nobody takes is freed with the connection."""
    junk(server, 100, tls)
    before = server.rss()
    junk(server, 400, tls)
    grown = server.rss() - before
    assert grown < 6 << 20, "grew by %d KB" % (grown >> 10)


@pytest.mark.h2x_only("closes after the handler")
@pytest.mark.parametrize("tls", [True, False], ids=["h2", "h2c"])
def test_more_after_an_error(server, tls):
    """While a handler runs, the client is told of the error (RFC 9113, 5.4.1);
    when that has ended, what the client said meanwhile resets nothing."""
    inside.close_gates(server)
    with server.h2(tls=tls) as c:
        between = ports(c.sock)
        c.get("/t/wait?gate=1")
        c.ping()
        c.raw_frame(0x0, 0, 0, b"x")    # DATA of no stream
        c.until(lambda: c.goaways)
        c.raw_frame(0x6, 0, 0, b"12345678")
        assert not c.pump(lambda: False) and c.eof
        wait_for(lambda: unread(between), 10, "what the client says")
        inside.open_gate(server, 1)
        wait_for(lambda: not unread(between), 10, "httpd to read it")
        assert c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
