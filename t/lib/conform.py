"""What the tests of conformance share: the outcomes that RFC 9113 allows,
what it demands of a server whatever the client does, gates, repetition.

    from lib.conform import conn, gate, pytest_generate_tests  # noqa: F401

gives a test file the fixtures `conn` and `gate`, and lets H2X_REPEAT=100 in
the environment run each of its tests that often.
"""

import contextlib
import os
import struct

import pytest

from . import h2raw, inside
from .h2raw import NO_ERROR, PROTOCOL_ERROR
from .server import wait_for

REPEAT = int(os.environ.get("H2X_REPEAT", "1"))

# RFC 9113, section 6: types of frames; 4.1: flags
(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY,
 WINDOW_UPDATE, CONTINUATION) = range(10)
UNKNOWN = 0xbb
NAMES = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS",
         "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"]

ACK = END_STREAM = 1
END_HEADERS = 4
PADDED = 8
WITH_PRIORITY = 0x20

#: Flags that a server may set, by type of frame.
FLAGS = {
    DATA: END_STREAM | PADDED, HEADERS: END_STREAM | END_HEADERS | PADDED,
    SETTINGS: ACK, PUSH_PROMISE: END_HEADERS | PADDED, PING: ACK,
    CONTINUATION: END_HEADERS,
}

#: Frames that belong to the connection, and those that belong to a stream.
OF_CONNECTION = {SETTINGS, PING, GOAWAY}
OF_STREAM = {DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION}

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection",
              "transfer-encoding", "upgrade", "te"}

#: A response of a few bytes then waits for WINDOW_UPDATE.
NARROW = {h2raw.INITIAL_WINDOW_SIZE: 10}


def pytest_generate_tests(metafunc):
    """Repeats all tests of the module that imports this."""
    if REPEAT > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(REPEAT))


def files(server):
    """For a test file that needs no others."""
    server.write("index.html", "hello\n")


# --- connections ------------------------------------------------------


@contextlib.contextmanager
def connection(server, tls=False, **kw):
    """A connection whose server must have behaved, when it ends."""
    with server.h2(tls=tls, **kw) as c:
        settings = kw.get("settings") or {}
        c.push = settings.get(h2raw.ENABLE_PUSH) == 1
        c.largest_frame = settings.get(h2raw.MAX_FRAME_SIZE, 16384)
        yield c
        c.poll()
        conduct(c)


@pytest.fixture
def conn(request, server):
    """A connection of its own for each test: over TLS if the test file has
    TLS = True, with its GREETING as first settings."""
    module = request.module
    with connection(server, tls=getattr(module, "TLS", False),
                    settings=getattr(module, "GREETING", None)) as c:
        yield c


@pytest.fixture
def gate(server):
    """The number of a closed gate; opened when the test is over."""
    used = getattr(server, "gates_used", 0)
    server.gates_used = used + 1
    if used % 250 == 249:
        # those refused early were logged without being read
        wait_for(lambda: inside.counters(server)["read"]
                 == inside.counters(server)["ended"], 10,
                 "all requests to end")
        inside.close_gates(server)
    yield used % 250
    inside.open_gate(server, used % 250, 1000)


# --- frames -----------------------------------------------------------


def u32(*numbers):
    return struct.pack(">%dL" % len(numbers), *numbers)


def setting(identifier, value):
    return struct.pack(">HL", identifier, value)


def headers(c, stream_id, fields, flags=END_HEADERS | END_STREAM):
    """A HEADERS frame with any flags."""
    c.raw_frame(HEADERS, flags, stream_id, c.encode(fields))


def integer(value, bits, first=0):
    """RFC 7541, 5.1: an integer with a prefix of so many bits; `first` has
    the other bits of the first byte."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + [value])


def pieces(block, count):
    """Cuts a field block into that many pieces, of which the last may be
    longer and none is empty."""
    size = max(len(block) // count, 1)
    cuts = [block[i * size:(i + 1) * size] for i in range(count - 1)]
    return [p for p in cuts + [block[(count - 1) * size:]] if p]


# --- outcomes -----------------------------------------------------------


def connection_error(c, *codes):
    """5.4.1: GOAWAY with one of these codes, then the end.  A handler that
    waits is released in between, if the test has named it (release)."""
    c.pump(lambda: c.goaways)
    getattr(c, "release", bool)()
    c.pump(lambda: False)
    assert c.goaways, "closed without GOAWAY, after %s" % c.tail()
    assert c.goaway_code in codes, "%s: %s" % (c.goaways, c.tail())
    assert c.eof and c.error is None, repr(c.error)


def stream_error(c, r, *codes):
    """5.4.2: RST_STREAM with one of these codes, while the connection goes
    on.  A server may end the connection with it instead (5.4.1)."""
    c.pump(lambda: r.reset is not None or c.goaways)
    if r.reset is None:
        connection_error(c, *codes)
        return
    assert r.reset in codes and not r.ended, r
    unharmed(c)


def malformed(c, r):
    """8.1.1: PROTOCOL_ERROR; an answer may come before, or instead where
    the request was seen whole.  It is 400 (8.2.1)."""
    c.pump(lambda: r.done or c.goaways)
    if not r.done:
        connection_error(c, PROTOCOL_ERROR)
        return
    if r.headers:
        assert r.status == 400, r
    if r.reset != PROTOCOL_ERROR:
        assert r.ended and r.reset in (None, NO_ERROR), r
    unharmed(c)


def unharmed(c):
    """The connection goes on, its compression state too."""
    c.next_id = max([c.next_id] + [i + 2 for i in c.streams if i % 2])
    before = len(c.pongs)
    assert c.ping() and len(c.pongs) == before + 1
    r = c.request("HEAD", "/index.html", [("x-unharmed", "yes")])
    assert (r.status, r.ended, r.reset) == (200, True, None), r
    assert not c.goaways


# --- conduct ------------------------------------------------------------


def conduct(c):
    """What a server must never do, whatever it is sent."""
    check_frames(c)
    check_streams(c)
    for r in c.streams.values():
        check_message(r)
    ids = [last for last, _, _ in c.goaways]
    assert ids == sorted(ids, reverse=True), "6.8: %s" % ids
    if ids:
        done = [r.id for r in c.streams.values() if r.headers and r.id % 2]
        assert max(done + [0]) <= ids[-1], "6.8: %s, %s" % (done, ids)


def check_frames(c):
    open_block = None
    for (length, kind, flags, sid), f in zip(c.heads, c.frames):
        what = "%s flags=%#x id=%d length=%d" % (
            NAMES[kind] if kind < 10 else kind, flags, sid, length)
        assert length <= c.largest_frame, "4.2: " + what
        assert not sid >> 31, "4.1, reserved bit: " + what
        if kind < 10:
            assert not flags & ~FLAGS.get(kind, 0), "4.1, flags: " + what
        assert kind not in OF_CONNECTION or sid == 0, what
        assert kind not in OF_STREAM or sid, what
        assert kind not in (PRIORITY,), "not of this server: " + what
        assert kind != PUSH_PROMISE or c.push, "6.6: " + what
        if open_block is not None:
            assert (kind, sid) == (CONTINUATION, open_block), "4.3: " + what
        else:
            assert kind != CONTINUATION, "6.10: " + what
        if kind in (HEADERS, PUSH_PROMISE, CONTINUATION):
            open_block = None if flags & END_HEADERS else sid
        if kind == WINDOW_UPDATE:
            assert f.window_increment > 0, "6.9: " + what
        if kind == SETTINGS and not flags & ACK:
            check_settings(f.settings)
    if c.heads:
        length, kind, flags, sid = c.heads[0]
        assert kind == SETTINGS and not flags & ACK, "3.4: %d" % kind


def check_settings(values):
    assert values.get(h2raw.ENABLE_PUSH, 0) == 0, "6.5.2"
    assert values.get(h2raw.INITIAL_WINDOW_SIZE, 0) < 1 << 31, "6.5.2"
    assert 16384 <= values.get(h2raw.MAX_FRAME_SIZE, 16384) < 1 << 24, "6.5.2"


def check_streams(c):
    """5.1: nothing after the end of a stream, on none that is idle."""
    reset, ended, promised = set(), set(), [0]
    for (length, kind, flags, sid), f in zip(c.heads, c.frames):
        what = "%s(%d) of %s" % (kind, sid, c.tail(20))
        if not sid or kind > CONTINUATION:
            continue
        assert sid in c.streams, "5.1, idle: " + what
        assert sid % 2 or sid in promised, "5.1, idle: " + what
        if kind == PUSH_PROMISE:
            new = f.promised_stream_id
            assert new % 2 == 0 and new > promised[-1], "5.1.1: %d" % new
            promised.append(new)
        assert sid not in reset or kind == RST_STREAM, "5.4.2: " + what
        if kind in (DATA, HEADERS, PUSH_PROMISE):
            assert sid not in ended, "5.1, half-closed: " + what
            if flags & END_STREAM and kind != PUSH_PROMISE:
                ended.add(sid)
        if kind == RST_STREAM:
            reset.add(sid)


def check_message(r):
    if r.request:
        check_promise(r.request)
    for fields in r.interim + ([r.headers] if r.headers else []):
        names = [name for name, _ in fields]
        assert names[0] == ":status", "8.3.2: %s" % fields
        assert not any(n.startswith(":") for n in names[1:]), "8.3.2: %s" \
            % fields
        check_fields(fields)
    for fields in r.interim:
        assert dict(fields)[":status"] != "101", "8.6"
    if r.trailers:
        assert not any(n.startswith(":") for n, _ in r.trailers), "8.1"
        check_fields(r.trailers)
    length = r.header("content-length")
    if r.ended and r.body and length is not None:
        assert len(r.body) == int(length), "8.1.1: %s" % r


def check_promise(fields):
    """8.4.1, 8.3.1: a whole request, safe and without content."""
    names = [name for name, _ in fields]
    pseudo = [name for name in names if name.startswith(":")]
    assert sorted(pseudo) == [":authority", ":method", ":path", ":scheme"]
    assert names[:4] == pseudo, "8.3: %s" % names
    assert dict(fields)[":method"] in ("GET", "HEAD"), "8.4"
    assert "content-length" not in names
    check_fields(fields)


def check_fields(fields):
    """8.2.1 and 8.2.2."""
    for name, value in fields:
        what = "%r: %r" % (name, value)
        assert name and name == name.lower() and name.isascii(), what
        assert not any(ch <= " " or ch == "\x7f" for ch in name), what
        assert ":" not in name[1:], what
        assert not any(ch in "\0\r\n" for ch in value), what
        assert value.strip(" \t") == value, what
        assert name not in HOP_BY_HOP, what
