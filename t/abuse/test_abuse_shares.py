"""Attacks on what the connections of a child share: its threads, disk and
logs.  Each attacker has a request open, so that not the connection's own
thread reads for it, but those of the child."""

import collections
import contextlib
import fcntl
import os
import select
import socket
import ssl
import struct
import termios
import threading
import time

import pytest

from lib import h2raw
from lib.server import PATIENCE, ServerError, wait_for
from stage import MANY, SECONDS, not_yet, row
from test_abuse_slow import Every

FAULTS = True
DESCRIPTORS = 1024
#: In seconds.
STREAM_TIMEOUT = 1
CONFIG = """
EnableMMAP off
EnableSendfile off
H2StreamTimeout %d
H2MaxWorkers 50
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName localhost
    SSLEngine on
    # the second is for descriptors, which are held as long
    <IfModule mod_h2x.c>
        LogLevel warn h2x:info
        H2StreamTimeout 20
    </IfModule>
    <IfModule mod_http2.c>
        LogLevel warn http2:debug
        H2StreamTimeout 20
    </IfModule>
    ErrorLog ${DIR}/errors.pipe
    CustomLog ${DIR}/access.pipe test
</VirtualHost>
""" % STREAM_TIMEOUT
#: How many threads a client may hold that takes too little.
FEW = 5
#: How long a client that has just come may wait, in seconds.
PROMPT = 1
#: What stays open.
HELD = "/t/trickle?n=1000000&ms=100"
#: In seconds: how long a disk or log does nothing.
STUCK = 1


class Pipe:
    """A log whose reader can be told to stop."""

    SIZE = 4096

    def __init__(self, path):
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, self.SIZE)
        self.reads, self.over = threading.Event(), False
        self.reads.set()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while not self.over:
            self.reads.wait()
            if select.select([self.fd], [], [], 0.1)[0] \
                    and self.reads.is_set():
                os.read(self.fd, self.SIZE)

    def length(self):
        there = fcntl.ioctl(self.fd, termios.FIONREAD, b"\0" * 4)
        return struct.unpack("i", there)[0]

    @contextlib.contextmanager
    def stopped(self):
        self.reads.clear()
        try:
            yield
        finally:
            self.reads.set()

    def close(self):
        self.over = True
        self.thread.join()
        os.close(self.fd)


pipes = {}


def files(server):
    server.write("slow.bin", b"x" * 2000000)
    server.write("large.bin", b"x" * 300000)
    for name in ("errors", "access"):
        pipes[name] = Pipe(server.path(name + ".pipe"))


@pytest.fixture(scope="module", autouse=True)
def reading():
    yield
    for pipe in pipes.values():
        pipe.close()


def occupy(c):
    """Has the threads of the child serve a connection."""
    held = c.get(HELD)
    c.wait_headers(held)
    return c


@row(43, "slow disk", held=HELD, needs="httpd")
@pytest.mark.parametrize("nowait", [0, 95], ids=["nowait", "plain"])
def test_slow_disk(stage, faults, nowait):
    """A file whose reads take a while; where RWF_NOWAIT is known, and where
    it is not (EOPNOTSUPP)."""
    def attack():
        c = occupy(stage.connect())
        before = faults.failed
        faults.slow = 60000
        file = c.get("/slow.bin")
        wait_for(lambda: c.poll() or faults.failed > before)
        c.send(h2raw.PingFrame(opaque_data=b"8 octets"))
        c.idle(STUCK)
        faults.slow = 0
        c.wait(file)
        stage.check(len(file.body) == 2000000, "%r", file)
        stage.tell("served")
        c.close()
    faults.clear()
    faults.nowait = nowait
    stage.best_of_runs(attack)


@row(44, "a log that nobody reads", held=HELD, needs="httpd", log=r"",
     lines=MANY)
@pytest.mark.parametrize("name", [
    "errors", "access"])
def test_blocked_log(stage, name):
    """It is that of another virtual host."""
    pipe = pipes[name]
    path, fields = ("/small.html", [("x", "v" * 9000)]) \
        if name == "errors" else ("/small.html", [])

    def attack():
        c = occupy(stage.connect(tls=True))
        with pipe.stopped():
            rs = [c.get(path, fields) for _ in range(60)]
            wait_for(lambda: c.poll() or pipe.length() > pipe.SIZE - 300)
            c.idle(STUCK)
        c.wait(*rs)
        stage.tell("all are answered")
        c.close()
    stage.best_of_runs(attack)


@row(44, "a log that nobody reads: its own connection", needs="h2x", log=r"",
     lines=MANY)
@pytest.mark.parametrize("whose", ["connection", "child"])
def test_beside_a_blocked_line(stage, whose):
    """Lines about the connection itself wait; its other requests do not.
    whose: the thread that serves it."""
    pipe = pipes["errors"]
    c = stage.connect(tls=True)
    if whose == "child":
        occupy(c)
    with pipe.stopped():
        refused = [c.get("/small.html", [("x", "v" * 9000)])
                   for _ in range(60)]
        wait_for(lambda: c.poll() or pipe.length() > pipe.SIZE - 300)
        asked = []
        with contextlib.suppress(h2raw.Timeout):
            for _ in range(20):
                asked.append(c.get("/small.html"))
                c.wait(asked[-1], timeout=STUCK)
        served = sum(r.done for r in asked)
        stage.check(served == 20, "only %d of 20 are served", served)
    c.wait(*refused, *asked)
    stage.check({r.status for r in asked} == {200}, "%s", asked)
    stage.tell("all are answered")


class Records:
    """A socket for TLS, with records of a size."""

    def __init__(self, server):
        self.sock = socket.create_connection(("127.0.0.1", server.tls_port))
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server.tls_context().wrap_bio(
            self.into, self.out, server_hostname="localhost")
        self.size, self.kept = 1 << 14, False
        self.wait(self.tls.do_handshake)
        self.settimeout, self.close = self.sock.settimeout, self.sock.close

    def wait(self, do):
        """Does something that may have to read first."""
        while True:
            try:
                return do()
            except ssl.SSLWantReadError:
                self.send()
                self.into.write(self.sock.recv(1 << 16))
            finally:
                self.send()

    def sendall(self, data):
        for at in range(0, len(data), self.size):
            self.tls.write(data[at:at + self.size])
        if not self.kept:
            self.send()

    def send(self):
        self.sock.sendall(self.out.read())

    def recv(self, size):
        return self.wait(lambda: self.tls.read(size))

    @contextlib.contextmanager
    def one_byte_each(self):
        """In records of one byte, which are kept until send(): encrypting
        them takes no part in an attack."""
        self.size, self.kept = 1, True
        yield
        self.size, self.kept = 1 << 14, False


@row(45, "TLS records of one byte", held=HELD, needs="httpd")
def test_records_of_one_byte(stage):
    """Large heads, on 4 connections.  By an upload before that the kernel
    learns to keep much of what is sent at once."""
    def attack():
        cs = [occupy(h2raw.Connection(Records(stage.server)))
              for _ in range(4)]
        stage.attackers += cs
        asked = []
        for c in cs:
            c.request("POST", "/t/upload", body=b"x" * (4 << 20))
            with c.sock.one_byte_each():
                asked.append(c.burst(["/small.html"] * 20, {"x": "v" * 8000}))
        stage.bystander.times()
        senders = [threading.Thread(target=c.sock.send) for c in cs]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        for c, rs in zip(cs, asked):
            c.wait(*rs)
        for c in cs:
            c.close()
        stage.tell("all are answered")
    stage.best_of_runs(attack)


# --- threads and descriptors -------------------------------------------------

def first_page(stage):
    """How long another client's page of ten slow parts takes, in seconds: the
    best of some."""
    def one():
        with stage.server.h2(tls=False) as c:
            start = time.monotonic()
            c.wait(*c.burst(["/t/wait?ms=100"] * 10))
            return time.monotonic() - start
    return min(one() for _ in range(3))


@row(47, "one client holds all threads", needs="httpd", log=r"takes no data",
     lines=MANY, extra=0, growth=16 << 20)
def test_all_threads(stage):
    """100 responses whose handlers wait, of which 120 bytes a second are taken
    in all."""
    before = first_page(stage)
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 20},
                      windows=False)
    rs = c.burst(["/t/big?n=2000000"] * 100)
    start = time.monotonic()

    def left():
        return sum(not r.done for r in rs)
    with Every(0.5, lambda: c.credit(60)):
        c.pump(lambda: sum(len(r.body) for r in rs) >= 65535)
        beside = first_page(stage)
        with contextlib.suppress(h2raw.Timeout):
            c.pump(lambda: left() <= FEW, 2 * STREAM_TIMEOUT)
    stage.tell("%d of 100 go on after %.0f s" % (
        left(), time.monotonic() - start))
    stage.note("a page of slow parts %.0f ms, idle %.0f ms", beside * 1e3,
               before * 1e3)
    stage.check(left() <= FEW, "%d responses hold threads", left())
    stage.check(beside <= 1.5 * before, "others' page takes %.0f ms in place "
                "of %.0f", beside * 1e3, before * 1e3)


@row(47, "a stream that only its priority keeps back", needs="httpd")
def test_behind_another(stage):
    """Two responses, at 64 KB a second in all.  The second one gets its turn
    when the first is over, after more than H2StreamTimeout."""
    size = 5 * STREAM_TIMEOUT << 14
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 20},
                      windows=False)
    rs = [c.get("/t/big?n=%d" % size, [("priority", "u=%d" % u)])
          for u in (1, 6)]
    while not all(r.done for r in rs):
        c.credit(16384)
        c.idle(0.25)
    stage.check([len(r.body) for r in rs] == 2 * [size], "%s", rs)
    stage.tell("both complete")


@row(46, "descriptors run out by window 0", needs="httpd", log=r"",
     lines=MANY, growth=40 << 20, kept=16 << 20)
def test_descriptors(stage):
    """300 KB, 95 times on 6 connections, then once on 30 more, and what is
    small on the first."""
    cs, asked, slowest = [], [], 0
    for count in 6 * [95] + 30 * [1] + [0]:
        start = time.monotonic()
        with contextlib.suppress(OSError, h2raw.Timeout):
            cs.append(stage.connect(tls=True, timeout=1.5 * PROMPT, settings={
                h2raw.INITIAL_WINDOW_SIZE: 0}))
        slowest = max(slowest, time.monotonic() - start)
        if slowest > PROMPT * PATIENCE:
            break
        asked += cs[-1].burst(["/large.bin"] * count)
    small = cs[0].get("/page.html")
    with contextlib.suppress(ServerError):
        wait_for(lambda: [c.poll() for c in cs] and all(
            r.status for r in asked + [small]), PROMPT)
    found = collections.Counter(str(r.status) for r in asked)
    stage.tell("%d served, %d refused, %d wait" % (
        found["200"], found["503"], found["None"]))
    stage.note("new clients %.1f s", slowest)
    stage.check(slowest < PROMPT * PATIENCE, "a new client had to wait %.1f s",
                slowest)
    stage.check(set(found) <= {"200", "503"}, "%s", found)
    stage.check(small.status == 200, "what is small: %r", small)
    for c in cs:
        c.close()
