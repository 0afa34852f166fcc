"""Attacks with request heads."""

import contextlib
import itertools
import random

import pytest

from lib import backend, h2raw, inside, malformed, upgrade
from lib.h2raw import ContinuationFrame, HeadersFrame
from stage import CODES, MANY, judged, row, row_mark

CONFIG = """
H2StreamTimeout 30
H2WebSockets on
ProxyPass /to/ http://127.0.0.1:${BACKEND}/ disablereuse=on
"""
MODULES = "proxy proxy_http"

#: What ends a connection, or a stream.
CALM = h2raw.ENHANCE_YOUR_CALM


class Recorder(backend.Backend):
    """A backend that keeps what it gets."""

    def __init__(self):
        self.lines = []
        super().__init__(self.record)

    def record(self, q):
        self.lines.append(q.line)
        q.body()
        q.answer(b"backend\n")


recorder = Recorder()


@pytest.fixture(scope="module", autouse=True)
def recording():
    with recorder:
        yield


def files(server):
    server.config = server.config.replace("${BACKEND}", str(recorder.port))


def literal(name, value):
    """A field that is kept in the dynamic table."""
    return (b"\x40" + number(len(name), 7) + name
            + number(len(value), 7) + value)


def number(n, bits):
    """An HPACK integer."""
    full = (1 << bits) - 1
    if n < full:
        return bytes([n])
    out, n = bytes([full]), n - full
    while n >= 128:
        out, n = out + bytes([n % 128 + 128]), n // 128
    return out + bytes([n])


#: The field that was added last.
LAST = b"\xbe"


def begin(c, path="/small.html"):
    """A head's pseudo-header fields, none of them kept."""
    path = path.encode()
    return (b"\x82\x86\x01" + number(9, 7) + b"localhost\x04"
            + number(len(path), 7) + path)


def head(c, block, end=True):
    stream_id = c.new_id()
    c.streams[stream_id] = h2raw.Response(stream_id)
    return b"".join(f.serialize() for f in c._split(stream_id, block, end))


@row(5, "tiny MAX_HEADER_LIST_SIZE")
def test_tiny_list(stage):
    c = stage.connect(settings={h2raw.MAX_HEADER_LIST_SIZE: 1})
    r = c.request(path="/small.html")
    stage.tell("status %s" % r.status)
    stage.check(r.status == 200, "status %s", r.status)


@pytest.mark.parametrize("size", [
    pytest.param(16384, marks=row_mark(
        6, "CONTINUATION flood (CVE-2024-27316)",
        r"too many CONTINUATION frames"), id="fields"),
    pytest.param(-1, marks=row_mark(
        6, "CONTINUATION flood, malformed", r"too many CONTINUATION frames"),
        id="malformed"),
    pytest.param(0, marks=row_mark(
        7, "empty CONTINUATION frames", r"too many CONTINUATION frames"),
        id="empty")])
@judged
def test_continuations(stage, size):
    """Each frame has a moment to be answered."""
    c = stage.connect()
    stream_id = c.new_id()
    piece = (b"\x00\x01x" + number(1000, 7) + b"v" * 1000) * 16
    first = HeadersFrame(stream_id, begin(c) + b"\x00\x01 \0" * (size < 0))
    c.raw(first.serialize())
    frames = 1
    while frames < 60 and not c.closed and not c.goaways:
        if not c.blast(ContinuationFrame(
                stream_id, piece if size else b"").serialize()):
            break
        frames += 1
        c.idle(0.2)
    stage.tell("%s after %d frames" % (c.end(), frames))
    stage.check(c.goaways or c.closed, "endless heads are read")
    stage.check(frames <= 9, "%d frames were read", frames)


@row(8, "\"HTTP/2 bomb\" (CVE-2026-49975)", r"too many fields of one head")
@pytest.mark.parametrize("name", [b"x", b"cookie"])
def test_bomb(stage, name):
    """Thousands of fields of a byte each."""
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
    c.raw(head(c, begin(c) + literal(name, b"a")))
    c.blast(*(head(c, begin(c) + LAST * 16000) for _ in range(90)))
    stage.stopped(c, CALM)


@row(8, "\"HTTP/2 bomb\": memory for each byte", r"exceeds", lines=MANY, extra=0,
     needs="httpd")
def test_bomb_below_the_limit(stage):
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
    c.raw(head(c, begin(c) + literal(b"x", b"a")))
    before = c.written
    c.blast(*(head(c, begin(c) + LAST * 990) for _ in range(90)))
    c.settle()
    sent = c.written - before
    grown = stage.memory() - stage.at_first
    stage.tell("%.0f bytes of memory for each byte" % (grown / sent))
    stage.check(grown <= 50 * sent, "%d bytes of memory for each byte",
                grown // sent)


@row(8, "\"HTTP/2 bomb\": joining cookies is linear", needs="h2x")
def test_crumbs_are_joined(stage):
    """A request with hundreds of crumbs takes no longer than others."""
    c = stage.connect()
    c.raw(head(c, begin(c) + literal(b"cookie", b"a=1")))
    crumbs = 700
    for _ in range(8):      # no more at a time than may be kept
        for _ in range(25):
            c.raw(head(c, begin(c, "/t/env") + LAST * crumbs))
            c.poll()
        c.wait(*c.streams.values())
    last = c.streams[max(c.streams)]
    stage.check(last.text.count("a=1") >= crumbs, "cookies: %s", last)
    stage.tell("%d crumbs joined" % crumbs)


@row(9, "HPACK bomb (CVE-2016-6581)", r"exceeds|too many fields", lines=MANY)
def test_hpack_bomb(stage):
    """An entry of 4 KB, a hundred times in a hundred heads."""
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
    c.raw(head(c, begin(c) + literal(b"x", b"a" * 4000)))
    c.blast(*(head(c, begin(c) + LAST * 99) for _ in range(99)))
    c.settle()
    with contextlib.suppress(h2raw.Timeout):
        c.pump(lambda: c.goaways or all(
            r.status or r.reset is not None for r in c.streams.values()))
    found = sorted({str(r.status or r.reset) for r in c.streams.values()
                    if r.id > 1})
    stage.tell(c.end() if c.goaways else "status " + ", ".join(found))
    stage.check(c.goaways or set(found) <= {"431", str(CALM)},
                "%s, %s", c.end(), found)


@row(9, "HPACK bomb in trailers", needs="httpd", log=r"", lines=MANY,
     growth=16 << 20)
@pytest.mark.parametrize("path", ["/page.html", "/t/wait?gate=3",
                                  "/t/upload?gate=3"])
def test_bomb_in_trailers(stage, path):
    """An entry of 4 KB a hundred times in a hundred trailers: of a request
    that is answered, one whose handler waits, one whose handler reads."""
    inside.close_gates(stage.server)
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
    rs = [c.start(c.fields("POST", path), end=False) for _ in range(100)]
    c.settle()
    for r in rs:
        block = LAST * 99
        if r is rs[0]:
            block = literal(b"x-bomb", b"a" * 4000) + block
        c.raw(HeadersFrame(r.id, block,
                           flags=["END_HEADERS", "END_STREAM"]).serialize())
    c.settle()
    stage.note("%d bytes sent", c.written)
    inside.open_gate(stage.server, 3, 10)
    c.settle()
    stage.tell(c.end())


#: A handler that stays; nginx has another, and mod_http2 no gates.
HELD = "/t/trickle?n=1000000&ms=100"


@row(41, "heads of 1 KB that decode to 4 MB each", held=HELD,
     log=r"too many bytes in heads", lines=MANY, needs="httpd", extra=300)
@pytest.mark.parametrize("name,value", [
    (b"x", b"a" * 4000),
    (b"priority", b"a=(" + b"1 " * 1990 + b")")],
    ids=["plain", "priority"])
def test_decoding(stage, name, value):
    """An entry of 4 KB 985 times in each; nghttp2 parses `priority`."""
    def attack():
        c = stage.connect()
        c.raw(head(c, begin(c) + literal(name, value)))
        c.blast(*(head(c, begin(c) + LAST * 985) for _ in range(2000)))
        stage.stopped(c, CALM)
    stage.best_of_runs(attack)


@row(41, "trailers that decode to 4 MB each", held=HELD,
     log=r"too many bytes in heads", lines=MANY, needs="httpd", extra=300)
def test_decoding_trailers(stage):
    def attack():
        c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
        rs = [c.start(c.fields("POST", "/page.html"), end=False)
              for _ in range(90)]
        c.raw(b"".join(HeadersFrame(
            r.id, literal(b"x", b"a" * 4000) * (r is rs[0]) + LAST * 985,
            flags=["END_HEADERS", "END_STREAM"]).serialize() for r in rs))
        stage.stopped(c, CALM)
    stage.best_of_runs(attack)


@row(41, "40 fields of 1 KB are no attack", needs="httpd")
def test_large_head(stage):
    c = stage.connect()
    for _ in range(100):
        r = c.get("/small.html", [("x-%d" % i, "v" * 1000)
                                  for i in range(40)])
        c.wait(r)
        stage.check(r.status == 200, "status %s", r.status)
    stage.tell("status 200")


@row(42, "retained heads: 28 KB each at window 0", log=r"refusing streams",
     extra=100, needs="httpd")
def test_retained_heads(stage):
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
    block = begin(c, "/page.html")
    c.raw(head(c, block + literal(b"x", b"a" * 4000) + LAST * 6))
    c.blast(*(head(c, block + LAST * 7) for _ in range(99)))
    c.pump(lambda: all(r.status or r.reset is not None
                       for r in c.streams.values()))
    refused = [r for r in c.streams.values()
               if r.reset == h2raw.REFUSED_STREAM]
    stage.tell("%d of 100 streams refused" % len(refused))
    stage.check(len(refused) >= 20 and not c.goaways, "%d refused, %s",
                len(refused), c.end())
    # what is kept no longer makes room again
    c.settings({h2raw.INITIAL_WINDOW_SIZE: 65535})
    c.pump(lambda: all(r.done for r in c.streams.values()))
    stage.check(c.request(path="/small.html").status == 200, "no room again")


@row(42, "retained heads, on 20 connections",
     log=r"refusing streams", lines=MANY, extra=2000, needs="httpd",
     growth=96 << 20, kept=32 << 20)
def test_retained_heads_of_many(stage):
    """The sum of the child bounds them, and leaves room for others."""
    def attack():
        cs = [stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
              for _ in range(20)]
        block = begin(cs[0], "/page.html")
        for c in cs:
            c.raw(head(c, block + literal(b"x", b"a" * 4000) + LAST * 6)
                  + b"".join(head(c, block + LAST * 7) for _ in range(99)))
        for c in cs:
            c.pump(lambda: c.goaways or all(r.status or r.reset is not None
                                            for r in c.streams.values()))
        for c in cs:
            c.poll()
        kept = [sum(r.reset is None for r in c.streams.values()) for c in cs
                if c.end() == "goes on"]
        stage.tell("%d of 2000 streams kept" % sum(kept))
        stage.check(sum(kept) * 28000 <= 35 << 20, "%d heads are kept",
                    sum(kept))
        stage.check(min(kept, default=2) >= 2, "no room for others: %s", kept)
        for c in cs:
            c.close()
    stage.best_of_runs(attack)


@row(10, "one name 10^5 times (CVE-2025-53020, CVE-2016-8740)",
     r"too many fields of one head")
def test_repeated_name(stage):
    c = stage.connect()
    c.raw(head(c, begin(c) + literal(b"accept-encoding", b"gzip, x")))
    c.blast(head(c, begin(c) + LAST * 100000))
    stage.stopped(c, CALM)


@row(11, "HPACK errors", r"COMPRESSION_ERROR", lines=4)
def test_hpack_errors(stage):
    """Index, integer, Huffman code, size of the table."""
    ends = set()
    for bad in (b"\xff\xff\xff\x0f", b"\xff" + b"\xff" * 20,
                b"\x00\x81\xff\x01a", b"\x3f\xff\xff\x7f"):
        c = stage.connect()
        c.raw(head(c, bad + begin(c)))
        stage.stopped(c, h2raw.COMPRESSION_ERROR)
        ends.add(c.end())
    stage.tell(", ".join(sorted(ends)))


@row(12, "empty names and values (CVE-2019-9516)",
     r"too many|closing the connection")
@pytest.mark.parametrize("field", [b"\x00\x00\x00", b"\x00\x01x\x00"],
                         ids=["name", "value"])
def test_empty_fields(stage, field):
    c = stage.connect()
    c.blast(*(head(c, begin(c) + field * 5000) for _ in range(50)))
    stage.stopped(c, CALM, h2raw.PROTOCOL_ERROR)


@row(29, "request smuggling (CVE-2021-33193)", r"", lines=MANY, needs="h2x")
def test_smuggling(stage):
    """No case gets to a backend, and none makes a second request of one."""
    del recorder.lines[:]
    for name, fields in malformed.CASES.items():
        fields = [(k, "/to" + v if k == ":path" and v.startswith("/") else v)
                  for k, v in fields]
        c = stage.connect()
        r = c.start([(k, "http" if (k, v) == (":scheme", "https") else v)
                     for k, v in fields])
        c.pump(lambda: r.done or c.goaways)
        stage.check(malformed.refused(c, r), "%s: %r", name, r)
        c.close()
    stage.check(not recorder.lines, "backend: %s", recorder.lines)
    stage.tell("%d cases refused" % len(malformed.CASES))


@row(29, "DATA that contradicts content-length", r"", lines=MANY,
     needs="h2x")
def test_smuggled_body(stage):
    """A backend must not take the rest of a body for another request."""
    del recorder.lines[:]
    inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    c = stage.connect()
    for length in (0, 4, 1000):
        r = c.start(c.fields("POST", "/to/a",
                             {"content-length": str(length)}), end=False)
        c.data(r.id, inner, end=True)
        c.pump(lambda: r.done or c.goaways)
        stage.check(malformed.refused(c, r), "%d: %r", length, r)
    assert c.request(path="/to/last").status == 200
    stage.check("/smuggled" not in str(recorder.lines)
                and recorder.lines[-1].startswith("GET /last"),
                "backend: %s", recorder.lines)
    stage.tell("refused")


@row(30, ":authority against Host", r"", lines=MANY, needs="httpd")
def test_hosts(stage):
    cases = [[("host", "other.test")],
             [("host", "localhost"), ("host", "other.test")],
             [("host", "localhost"), ("host", "localhost")]]
    found = []
    for fields in cases:
        c = stage.connect()
        r = c.get("/t/env", fields)
        c.pump(lambda: r.done or c.goaways)
        host = [line for line in r.text.splitlines()
                if line.startswith("HTTP_HOST=")]
        found.append(str(r.status or "reset"))
        stage.check(malformed.refused(c, r)
                    or host == ["HTTP_HOST=localhost"], "accepted: %s", [
                        fields, r, host])
    stage.tell(", ".join(found))


@row(31, "trailers", r"PROTOCOL_ERROR", lines=MANY, needs="httpd")
def test_trailers(stage):
    """What does not belong there is refused or dropped."""
    for field in ((":path", "/x"), ("host", "other.test"),
                  ("content-length", "9"), ("authorization", "Basic eDp5")):
        c = stage.connect()
        r = c.start(c.fields("POST", "/t/show-trailers"), end=False)
        c.data(r.id, b"body")
        c.trailers(r.id, [field, ("x-good", "1")])
        c.pump(lambda: r.done or c.goaways)
        stage.check(malformed.refused(c, r)
                    or field[0] not in r.text.lower(), "%s: %s", field,
                    r.text)
    stage.tell("refused or dropped")


METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS",
           "TRACE", "PROPFIND", "PRI", "get", "", None]

#: Other pseudo-fields and Host, each with what it may be; None: not there.
SUBSETS = {
    ":scheme": [None, "http"],
    ":authority": [None, "localhost:443"],
    ":path": [None, "/small.html"],
    ":protocol": [None, "websocket"],
    "host": [None, "localhost:443", "localhost"],
}

#: The same for random heads.
VALUES = {
    ":scheme": [None, "http", "https", "HTTP", "ftp", "", "a b"],
    ":authority": [None, "localhost", "localhost:80", "localhost:", ":80", "",
                   "[::1]", "a@localhost", "*", "localhost:99999", "a b"],
    ":path": [None, "/small.html", "/t/env?a", "*", "", "//small.html", "x",
              "http://localhost/small.html", "/%2e%2e/", "/%00", "/a#b",
              "localhost:443"],
    ":protocol": [None, None, "websocket", "WebSocket", "connect-udp", ""],
    "host": [None, None, "localhost", "localhost:80", "other.example", "",
             "[::1]:80", "a@localhost"],
    "expect": [None, None, None, "100-continue", "x"],
    "content-length": [None, None, None, "0", "3", "4", "-1"],
    "te": [None, None, None, "trailers", "gzip"],
    "upgrade": [None, None, None, "websocket"],
    "cookie": [None, None, None, "a=b", ""],
    "priority": [None, None, None, "u=1", "u=9"],
}


def all_heads():
    for method in METHODS:
        for values in itertools.product(*SUBSETS.values()):
            yield dict(zip([":method", *SUBSETS], [method, *values]))


def random_heads(count, seed):
    """Values of VALUES, or of any bytes."""
    source = random.Random(seed)
    names = {":method": METHODS, **VALUES}
    for _ in range(count):
        yield {name: source.choice(values) if source.random() > 0.02
               else source.randbytes(source.randrange(20))
               for name, values in names.items()}


def ask(c, one):
    """Sends a head with a body of three bytes, or without any."""
    fields = [x for x in one.items() if x[1] is not None]
    has_body = one[":method"] in ("POST", "PUT", "CONNECT")
    r = c.start(fields, end=not has_body)
    if has_body:
        c.data(r.id, b"abc", end=True)
    return r


@row(40, "heads without pseudo-fields", r"", lines=MANY, needs="h2x",
     extra=100000)
@pytest.mark.parametrize("heads", [
    pytest.param(all_heads, id="all"),
    pytest.param(lambda: random_heads(2000, seed=40), id="random")])
def test_heads(stage, heads):
    """Each gets an answer; four at a time, since streams that are lost by
    errors are counted."""
    asked, found = list(heads()), set()
    for at in range(0, len(asked), 4):
        c = stage.connect()
        rs = [(one, ask(c, one)) for one in asked[at:at + 4]]
        c.pump(lambda: c.goaways or all(r.done for _, r in rs))
        stage.check(not c.goaways, "%s after %s", c.end(), rs)
        for one, r in rs:
            what = str(r.status or CODES.get(r.reset, r.reset))
            found.add(what)
            stage.check(r.status or r.reset == h2raw.PROTOCOL_ERROR,
                        "%s: %s", one, what)
        c.close()
    stage.check("200" in found, "nothing is served")
    stage.tell("%s for %d heads" % (", ".join(sorted(found)), len(asked)))


@row(36, "late and odd upgrades (CVE-2019-0197, CVE-2021-31618)",
     needs="httpd")
def test_upgrades(stage):
    """On a second request, and with a head that is too large."""
    server = stage.server
    sock = server.connect(tls=False)
    sock.sendall(b"GET /small.html HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert upgrade.Answer(sock).status == 200
    sock.sendall(upgrade.request(path="/small.html"))
    late = upgrade.Answer(sock)
    sock.close()
    huge = upgrade.ask(server, fields=[("x", "v" * 100000)])
    many = upgrade.ask(server, fields=[("x-%d" % i, "v") for i in range(500)])
    stage.tell("late: %s, huge: %s, many: %s" % (
        late.status, huge.status, many.status))
    stage.check(late.status in (101, 200), "late: %s", late.status)
    stage.check({huge.status, many.status} <= {400, 431}, "%s, %s",
                huge.status, many.status)
    assert server.h2(tls=False).request(path="/small.html").status == 200
