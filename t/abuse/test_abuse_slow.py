"""Attacks with patience: clients that send or take as little as they can."""

import contextlib
import itertools
import socket
import struct
import threading
import time

import pytest

from lib import h2raw, inside, upgrade
from lib.h2raw import DataFrame, HeadersFrame, WindowUpdateFrame
from lib.server import PATIENCE, ServerError, wait_for
from stage import MANY, SECONDS, row

CONFIG = """
<Location /server-status>
    SetHandler server-status
    Require all granted
</Location>
"""
MODULES = "status"
CALM = h2raw.ENHANCE_YOUR_CALM
TIMEOUT = 2


class Every(threading.Thread):
    """Does one thing again and again, until it is stopped or cannot."""

    def __init__(self, every, do):
        super().__init__()
        self.every, self.do = every, do
        self.over = threading.Event()

    def run(self):
        with contextlib.suppress(OSError):
            while not self.over.wait(self.every):
                self.do()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


@row(17, "data dribble (CVE-2019-9511)", r"too many")
def test_dribble(stage):
    """A window of one byte, raised by one byte each time."""
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 1}, windows=False)
    rs = [c.get("/big.bin") for _ in range(10)]
    ups = b"".join(WindowUpdateFrame(r.id, window_increment=1).serialize()
                   for r in rs)
    c.blast(*[ups] * 5000)
    stage.stopped(c, CALM)
    stage.note("%d bytes in %d frames", sum(len(r.body) for r in rs),
               sum(len(r.pieces) for r in rs))


@row(18, "internal buffering (CVE-2019-9517)", needs="httpd")
def test_buffering(stage):
    """A wide window, and nothing read from the socket: what handlers have
    written and the kernel has not."""
    before = inside.counters(stage.server)["written"]
    sock = stage.server.connect(tls=False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c = h2raw.Connection(sock, windows=False, settings={
        h2raw.INITIAL_WINDOW_SIZE: 0x7fffffff})
    c.credit(0x7fffffff - 65535)
    for _ in range(100):
        c.get("/t/big?n=10000000")
    time.sleep(1)
    written = inside.counters(stage.server)["written"] - before
    kernel = unsent(sock)
    sock.close()
    stage.tell("%d KB above the socket" % ((written - kernel) >> 10))
    own = 100 * 24 << 10    # what httpd buffers for each handler, and a piece
    stage.check(written - kernel <= (512 << 10) + own, "%d KB are kept, %d "
                "in the kernel", (written - kernel) >> 10, kernel >> 10)


def unsent(sock):
    """Bytes that the kernel has for a client, on both sides."""
    mine = "%04X" % sock.getsockname()[1]
    total = 0
    with open("/proc/net/tcp") as f:
        for line in list(f)[1:]:
            fields = line.split()
            send, receive = (int(n, 16) for n in fields[4].split(":"))
            if fields[1].endswith(":" + mine):
                total += receive
            if fields[2].endswith(":" + mine):
                total += send
    return total


@row(19, "zero window (CVE-2023-43622)", r"client takes no data",
     lines=MANY, extra=0, growth=200 * (4 << 20))
def test_zero_window(stage):
    """100 requests on each of 200 connections, and never any window."""
    cs = []
    for _ in range(200):
        c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
        data = b""
        for _ in range(100):
            stream_id = c.new_id()
            block = c.encode(c.fields(path="/page.html"))
            data += b"".join(f.serialize() for f in
                             c._split(stream_id, block, True))
        c.raw(data)
        c.wait_headers(c.streams.setdefault(199, h2raw.Response(199)))
        cs.append(c)
    def is_over(c):
        return (c.goaways or c.closed
                or sum(r.done for r in c.streams.values()) == 100)
    deadline = time.monotonic() + 2 * SECONDS
    for c in cs:
        with contextlib.suppress(h2raw.Timeout):
            c.pump(lambda: is_over(c), max(0, deadline - time.monotonic()))
    over = sum(bool(is_over(c)) for c in cs)
    stage.tell("%d of 200 connections timed out" % over)
    stage.check(over == 200, "only %d connections timed out", over)


@row(19, "zero window: no thread is held", needs="httpd", log=r"no data",
     lines=MANY, growth=30 << 20)
def test_zero_window_holds_no_thread(stage):
    cs = [stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
          for _ in range(30)]
    for c in cs:
        for _ in range(30):
            c.get("/page.html")
        c.wait_headers(c.streams[59])
    wait_for(lambda: inside.busy(stage.server) <= 1, 5,
             "threads to be free: %d are not" % inside.busy(stage.server))
    stage.check(not any(r.done for c in cs for r in c.streams.values()),
                "streams are over already")
    stage.tell("%d of 25 threads" % inside.busy(stage.server))
    for c in cs:
        c.pump(lambda: c.goaways or all(r.done for r in c.streams.values()))


@row(20, "slow read (CVE-2016-1546)", r"client takes no data or little")
@pytest.mark.parametrize("whose", ["stream", "connection"])
def test_slow_read(stage, whose):
    """A byte shortly before each timeout, by a window."""
    first = 1 if whose == "stream" else 65535
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 20
                                if whose == "connection" else first},
                      windows=False)
    r = c.get("/big.bin")
    c.wait_body(r, first)
    start = time.monotonic()

    def more():
        c.credit(1, r.id if whose == "stream" else 0)
    with Every(TIMEOUT * 0.7, more), contextlib.suppress(h2raw.Timeout):
        c.pump(lambda: r.done or c.goaways, SECONDS)
    stage.tell("ended after %.0f s" % (time.monotonic() - start)
               if r.done or c.goaways or c.closed else "goes on")
    stage.check(r.done or c.goaways or c.closed, "goes on: %r", r)


@row(20, "slow read of the socket", r"h2x\(", lines=MANY)
def test_slow_socket(stage):
    """The same, by the socket."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.connect(("127.0.0.1", stage.server.port))
    c = h2raw.Connection(sock, windows=False, settings={
        h2raw.INITIAL_WINDOW_SIZE: 0x7fffffff})
    c.credit(0x7fffffff - 65535)
    c.get("/big.bin")
    with Every(TIMEOUT * 0.7, lambda: sock.recv(1)):
        begun = stage.check(wait_for(lambda: sockets(sock), 5), "no socket")
        with contextlib.suppress(ServerError):
            wait_for(lambda: not sockets(sock), SECONDS, interval=0.1)
        left = sockets(sock)
    sock.close()
    stage.tell("goes on" if left else "ended")
    stage.check(begun and not left, "goes on")


def sockets(sock):
    """The server's end, if it can still send more than it has."""
    mine = "%04X" % sock.getsockname()[1]
    with open("/proc/net/tcp") as f:
        return [line for line in list(f)[1:]
                if line.split()[2].endswith(":" + mine)
                and line.split()[3] == "01"]


@row(21, "slow POST (CVE-2018-17189)", needs="httpd")
def test_slow_post(stage):
    """100 bodies, a byte each second.  Others run handlers meanwhile."""
    c = stage.connect()
    rs = [c.start(c.fields("POST", "/t/upload"), end=False)
          for _ in range(100)]
    bytes_each = b"".join(DataFrame(r.id, b"x").serialize() for r in rs)
    slowest = 0
    with Every(1, lambda: c.raw(bytes_each)):
        start = time.monotonic()
        while (time.monotonic() - start < SECONDS
               and not all(r.done for r in rs) and not c.closed):
            c.idle(0.2)
            before = time.monotonic()
            assert stage.server.http1(path="/t/env", tls=False).status == 200
            slowest = max(slowest, time.monotonic() - before)
        ended = sum(r.done for r in rs)
        over = ended == 100 or c.closed or c.goaways
    stage.tell("ended after %.0f s" % (time.monotonic() - start) if over
               else "goes on")
    stage.note("another handler %.0f ms", slowest * 1e3)
    stage.check(over, "%d of 100 are over", ended)
    stage.check(slowest < 1, "another handler had to wait %.1f s", slowest)


HALF = h2raw.PREFACE[:12]


def part_of_head(c):
    return HeadersFrame(1, c.encode(c.fields(path="/small.html"))
                        ).serialize()


@row(22, "slow preface and heads", r"closing the connection|preface",
     lines=MANY)
def test_slow_heads(stage):
    """Half a preface; a head without an end, then silence or CONTINUATION in
    single bytes; a frame in single bytes."""
    half = stage.server.connect(tls=False)
    half.sendall(HALF)
    silent, slow, slowest = (stage.connect() for _ in range(3))
    for c in (silent, slow):
        c.raw(part_of_head(c))
    slowest.raw(struct.pack(">HBBBL", 1, 0, 1, 4, 1))
    slow.raw(struct.pack(">HBBBL", 1, 0, 9, 0, 1))

    def more():
        for c in (slow, slowest):
            with contextlib.suppress(OSError):
                c.raw(b"\x82")
    start = time.monotonic()
    with Every(TIMEOUT * 0.4, more):
        for c in (silent, slow, slowest):
            with contextlib.suppress(h2raw.Timeout):
                c.wait_closed(SECONDS)
        half.settimeout(SECONDS)
        with contextlib.suppress(OSError):
            while half.recv(1000):
                pass
            half.close()
    ends = [c.end() for c in (silent, slow, slowest)]
    stage.tell("closed after %.0f s" % (time.monotonic() - start)
               if half.fileno() == -1 and "goes on" not in ends
               else ", ".join(ends))
    stage.check(half.fileno() == -1, "half a preface is waited for")
    half.close()
    stage.check("goes on" not in ends, "not all are closed: %s", ends)


# --- clients that keep their place -------------------------------------------

#: How long a client that has just come may wait.
PROMPT = 1


def welcome(stage, until, seconds=SECONDS):
    """Comes anew, again and again, until something is so or time is over.
    Returns how long the slowest of these had to wait."""
    slowest, start = 0, time.monotonic()
    while not until() and time.monotonic() - start < seconds:
        began = time.monotonic()
        with contextlib.suppress(OSError, h2raw.Timeout):
            with stage.server.h2(tls=False, timeout=SECONDS) as c:
                c.request(path="/small.html")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.1)
    stage.note("new clients %.0f ms", slowest * 1e3)
    stage.check(slowest < PROMPT * PATIENCE, "a new client had to wait %.1f s",
                slowest)


@row(48, "Upgrade holds threads", needs="httpd")
def test_upgraded(stage):
    """25 downloads by Upgrade, at 200 bytes a second each."""
    cs = []
    for _ in range(25):
        c = upgrade.upgrade(stage.server, path="/big.bin", windows=False,
                            settings={h2raw.INITIAL_WINDOW_SIZE: 200})
        stage.attackers.append(c)
        c.wait_body(c.first, 200)
        cs.append(c)

    def more():
        for c in cs:
            c.credit(50, 1)
    with Every(0.25, more):
        welcome(stage, lambda: False, 3 * TIMEOUT)
    for c in cs:
        c.poll()
    stage.tell("%d of 25 go on" % sum(
        not (c.first.done or c.closed) for c in cs))


@row(50, "no request at all")
def test_only_pings(stage):
    """80 connections that have a preface and PING frames."""
    cs = [stage.connect() for _ in range(80)]
    ping = h2raw.PingFrame(opaque_data=b"8 octets").serialize()
    start = time.monotonic()

    def pings():
        for c in cs:
            with contextlib.suppress(OSError):
                c.raw(ping)

    def over():
        for c in cs:
            c.poll()
        return all(c.goaways or c.closed for c in cs)
    with Every(0.4, pings):
        welcome(stage, over)
    ended = sum(bool(c.goaways or c.closed) for c in cs)
    stage.tell("ended after %.0f s" % (time.monotonic() - start)
               if ended == 80 else "%d of 80 go on" % (80 - ended))
    stage.check(ended == 80, "%d go on", 80 - ended)


@row(53, "a stalled stream kept alive", r"client takes no data")
def test_busy_beside_stalled(stage):
    """A stream whose window stays closed, and something small each 5 to 12 ms
    on the same connection."""
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0}, windows=False)
    stalled = c.get("/page.html")
    start = time.monotonic()
    for pause in itertools.cycle([0.005, 0.008, 0.012]):
        one = c.get("/small.html")
        c.credit(100, one.id)
        with contextlib.suppress(h2raw.Timeout):
            c.pump(lambda: one.done or c.goaways)
        if stalled.done or c.goaways or c.closed \
                or time.monotonic() - start > SECONDS:
            break
        c.idle(pause)
    took = time.monotonic() - start
    over = stalled.done or c.goaways or c.closed
    stage.tell("ended after %.0f s" % took if over else "goes on")
    stage.check(over and took < 2 * TIMEOUT * PATIENCE, "not ended in time: "
                "%r", stalled)
