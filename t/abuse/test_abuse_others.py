"""Attacks by push, WebSockets and haste."""

import contextlib
import struct
import time

import pytest

from lib import h2raw, inside
from lib.h2raw import DataFrame, RstStreamFrame, WindowUpdateFrame
from lib.server import wait_for
from stage import MANY, row

CONFIG = """
<IfModule mod_h2x.c>
    LogLevel h2x:trace8
</IfModule>
<IfModule mod_http2.c>
    LogLevel http2:trace8
</IfModule>
H2WebSockets on
ProxyPass /ws http://127.0.0.1:9/ upgrade=websocket
<Location /storm>
    Header add Link "%s"
</Location>
""" % ", ".join("</p%d>;rel=preload" % i for i in range(300))
MODULES = "headers proxy proxy_http"


def files(server):
    server.write("storm/index.html", "page\n")
    for i in range(300):
        server.write("p%d" % i, b"x" * 20000)


@row(32, "PUSH_PROMISE from the client (CVE-2019-10081)", r"PROTOCOL_ERROR")
def test_push_by_client(stage):
    c = stage.connect()
    r = c.start(c.fields("POST", "/small.html"), end=False)
    block = c.encode(c.fields(path="/small.html"))
    c.raw(struct.pack(">HBBBL", 0, 4 + len(block), 5, 4, r.id)
          + struct.pack(">L", 2) + block)
    stage.stopped(c, h2raw.PROTOCOL_ERROR)


@row(32, "Cache-Digest junk (CVE-2020-9490)", needs="httpd", log=r"",
     lines=MANY, extra=5000)
def test_cache_digest(stage):
    c = stage.connect(settings={h2raw.ENABLE_PUSH: 1})
    for junk in ("", "=", "AA", "AQ==", "A" * 4000, "!!", "/w8", "_____",
                 "EAAAAAAA"):
        r = c.request(path="/storm/", headers={"cache-digest": junk})
        c.wait_pushed(r)
        stage.check(r.status == 200, "%r: %r", junk, r)
    stage.tell("status 200")


@row(32, "a storm of pushes at window 0", needs="httpd", log=r"",
     lines=MANY, extra=20000)
def test_push_storm(stage):
    c = stage.connect(settings={h2raw.ENABLE_PUSH: 1,
                                h2raw.INITIAL_WINDOW_SIZE: 0}, windows=False)
    rs = [c.get("/storm/") for _ in range(20)]
    for r in rs:
        c.wait_headers(r)
    assert c.ping()
    open_now = sum(not p.done for p in c.promises)
    stage.tell("%d pushes at a time" % open_now)
    stage.check(open_now <= 100, "%d pushes are open", open_now)


@row(33, "WebSocket: odd CONNECT (CVE-2024-36387)", needs="httpd", log=r"",
     lines=MANY, extra=5000)
def test_odd_connect(stage):
    """No such backend, no WebSocket, other protocols and methods."""
    cases = [("CONNECT", "/ws", "websocket"), ("CONNECT", "/", "websocket"),
             ("CONNECT", "/ws", "other"), ("CONNECT", "/ws", ""),
             ("CONNECT", "/nowhere", "websocket"),
             ("GET", "/ws", "websocket"), ("POST", "/ws", "websocket")]
    found = []
    for method, path, protocol in cases:
        for _ in range(20):
            c = stage.connect() if not c_is_good(stage) else \
                stage.attackers[-1]
            fields = c.fields(method, path)
            fields.insert(1, (":protocol", protocol))
            r = c.start(fields, end=False)
            with contextlib.suppress(OSError):
                c.raw(DataFrame(r.id, b"\x81\x05hello").serialize())
            c.pump(lambda: r.done or r.status or c.goaways)
            if not r.done and not c.goaways:
                c.reset(r.id)
            found.append(r.status)
            stage.check(r.reset is not None or c.goaways
                        or (r.status or 0) >= 400, "%s %s %s: %r", method,
                        path, protocol, r)
    stage.tell("status " + ", ".join(sorted({str(s or "reset")
                                             for s in found})))


def c_is_good(stage):
    c = stage.attackers[-1] if stage.attackers else None
    return c and not c.goaways and not c.closed


@row(35, "logging and shutdown races (CVE-2020-11993, CVE-2019-10082)",
     needs="httpd", log=r"", lines=MANY, extra=1 << 20)
def test_races(stage):
    """Resets at all moments with trace8, connections closed in mid-stream.
    `make check-asan` and `make check-threads` run this too."""
    for round_ in range(30):
        c = stage.connect(windows=False)
        for i in range(20):
            r = c.get(["/t/trickle?n=5&ms=2", "/p1", "/t/big?n=100000",
                       "/t/wait?ms=5"][i % 4])
            if i % 3 == 0:
                c.raw(RstStreamFrame(r.id, error_code=8).serialize())
            elif i % 3 == 1:
                c.raw(WindowUpdateFrame(0, window_increment=1000).serialize())
        if round_ % 3 == 0:
            c.goaway()
        if round_ % 2:
            c.abort()
        else:
            c.close()
    def ended():
        counted = inside.counters(stage.server)
        return counted["read"] == counted["ended"]
    wait_for(ended, what="all requests to end")
    stage.tell("all requests logged and ended")


@pytest.mark.parametrize("how", ["graceful", "restart"])
@row(35, "restart while streams are reset", needs="h2x", log=r"",
     lines=MANY, extra=1 << 20)
def test_restart(stage, how):
    c = stage.connect()
    for i in range(50):
        r = c.get("/t/trickle?n=50&ms=5")
        if i % 2:
            c.raw(RstStreamFrame(r.id, error_code=8).serialize())
    old = set(stage.children)
    getattr(stage.server, how)()
    c.wait_closed()
    wait_for(lambda: not old & set(stage.server.children()), 20,
             "the old children to end")
    stage.children = stage.server.children()
    stage.bystander.times()
    stage.tell("closed")


@row(51, "a drain that is not answered", r"mod_h2x/", needs="h2x")
def test_unanswered_drain(stage):
    """One stream is open, and new requests come all the time."""
    c = stage.connect(ack=False)
    long = c.get("/t/trickle?n=50&ms=100")
    c.wait_headers(long)
    old, start = set(stage.children), time.monotonic()
    stage.server.graceful()
    while len(c.goaways) < 2 and not long.done:
        c.get("/small.html")
        c.idle(0.1)
    stage.note("final GOAWAY after %.1f s", time.monotonic() - start)
    stage.check(len(c.goaways) == 2 and not long.done,
                "served until the stream's end: %s", c.goaways)
    late = c.get("/small.html")
    c.wait(long)
    stage.check(len(long.body) == 500, "%r", long)
    c.wait_closed()
    stage.check(late.status is None, "served after the final GOAWAY")
    wait_for(lambda: not old & set(stage.server.children()), 20,
             "the old children to end")
    stage.children = stage.server.children()
    stage.bystander.times()
    stage.tell("final GOAWAY, old child ends")
