"""RFC 9113: the preface (3.4), frames (4), and the rules of each type of
frame but SETTINGS and WINDOW_UPDATE, which have files of their own (6)."""

import pytest

from lib import h2raw, inside
from lib.conform import (  # noqa: F401
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NARROW,
    PADDED, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, UNKNOWN,
    WINDOW_UPDATE, WITH_PRIORITY, conn, connection, connection_error, files,
    gate, integer, pieces, pytest_generate_tests, setting, stream_error, u32,
    unharmed)
from lib.h2raw import (FRAME_SIZE_ERROR, NO_ERROR, PREFACE, PROTOCOL_ERROR)

CONFIG = ""

SPEC = u32(0) + b"\x0f"     # the priority fields of HEADERS
EMPTY_SETTINGS = b"\0\0\0\4\0" + u32(0)


@pytest.fixture(params=["cleartext", "tls"])
def silent(request, server):
    """A connection that has said nothing."""
    with connection(server, tls=request.param == "tls", greet=False) as c:
        yield c


# --- 3.4: the connection preface ----------------------------------------


def test_3_4_server_sends_settings_first(silent):
    """Checked on each connection, see conduct(); here before the client
    has said all of its own."""
    silent.raw(PREFACE + EMPTY_SETTINGS)
    silent.until(lambda: silent.settings_seen and silent.settings_acked,
                 what="SETTINGS and its ACK")


def test_3_4_client_need_not_wait(silent):
    """Frames right behind the preface, before the server's SETTINGS."""
    silent.raw(PREFACE + EMPTY_SETTINGS)
    r = silent.get("/index.html")
    assert silent.wait(r).text == "hello\n"


@pytest.mark.h2x_only("says GOAWAY with a number that is no error code")
@pytest.mark.parametrize("at", [0, 3, 10, 14, 18, 23])
def test_3_4_bad_preface(server, at):
    """GOAWAY may be left out; the end may not.  Over TLS, where ALPN has
    chosen: in cleartext it is a bad request of HTTP/1.1."""
    bad = bytearray(PREFACE)
    bad[at] ^= 0x20
    with connection(server, tls=True, greet=False) as c:
        c.raw(bytes(bad) + EMPTY_SETTINGS)
        c.pump(lambda: False)
        assert not c.goaways or c.goaway_code == PROTOCOL_ERROR


FIRST = {
    "settings-ack": b"\0\0\0\4\1" + u32(0),
    "ping": b"\0\0\x08\6\0" + u32(0) + b"01234567",
    "window-update": b"\0\0\4\x08\0" + u32(0, 1),
    "goaway": b"\0\0\x08\7\0" + u32(0, 0, 0),
    "headers": b"\0\0\1\1\5" + u32(1) + b"\x82",
    "unknown": b"\0\0\1\xbb\5" + u32(0) + b"?",
}


@pytest.mark.parametrize("first", sorted(FIRST))
def test_3_4_settings_must_come_first(silent, first):
    silent.raw(PREFACE + FIRST[first] + EMPTY_SETTINGS)
    silent.pump(lambda: False)
    assert not silent.goaways or silent.goaway_code == PROTOCOL_ERROR
    assert not silent.pongs


# --- 4.1: the head of a frame -------------------------------------------


def send_all_kinds(c, more_flags=0, bit=0):
    """A valid exchange with each type of frame a client may send, with
    other flags and bits than needed.  Returns the responses."""
    def frame(kind, flags, stream_id, payload=b""):
        known = {HEADERS: END_HEADERS | END_STREAM | PADDED | WITH_PRIORITY,
                 DATA: END_STREAM | PADDED, CONTINUATION: END_HEADERS,
                 SETTINGS: ACK, PING: ACK}.get(kind, 0)
        c.raw_frame(kind, flags | more_flags & ~known, stream_id | bit,
                    payload)
    c.ping()
    first, second = c._stream(1), c._stream(3)
    head, rest = pieces(c.encode(c.fields("POST", "/t/echo")), 2)
    frame(HEADERS, 0, 1, head)
    frame(CONTINUATION, END_HEADERS, 1, rest)
    frame(PRIORITY, 0, 1, SPEC)
    frame(DATA, 0, 1, b"12")
    frame(WINDOW_UPDATE, 0, 1, u32(1000))
    frame(WINDOW_UPDATE, 0, 0, u32(1000))
    frame(SETTINGS, 0, 0, setting(h2raw.INITIAL_WINDOW_SIZE, 70000))
    frame(PING, 0, 0, b"all-kind")
    frame(PING, ACK, 0, b"unasked!")
    frame(UNKNOWN, 0, 1, b"?")
    frame(DATA, END_STREAM, 1, b"34")
    frame(HEADERS, END_HEADERS | END_STREAM, 3,
          c.encode(c.fields(path="/t/trickle?n=2&size=4&ms=1")))
    frame(RST_STREAM, 0, 3, u32(8))
    c.until(lambda: b"all-kind" in c.pongs, what="PING answer")
    c.wait(first)
    assert first.text == "1234" and first.ended and first.reset is None
    return second


@pytest.mark.parametrize("flags", [0x02, 0x10, 0x40, 0x80, 0xff])
def test_4_1_unused_flags_are_ignored(conn, flags):
    send_all_kinds(conn, more_flags=flags)
    assert b"unasked!" not in conn.pongs
    unharmed(conn)


def test_4_1_reserved_bit_is_ignored(conn):
    send_all_kinds(conn, bit=1 << 31)
    unharmed(conn)


@pytest.mark.parametrize("kind", [0x0a, 0x0b, 0x0c, 0x20, 0x7f, UNKNOWN, 0xff])
@pytest.mark.parametrize("size", [0, 1, 16384])
def test_4_1_unknown_types_are_ignored(conn, kind, size):
    """5.5: on the connection, on streams, in between."""
    r = conn.start(conn.fields("POST", "/t/upload"), end=False)
    for stream_id in (0, r.id, r.id + 2, 2):
        conn.raw_frame(kind, 0xff, stream_id, b"?" * size)
        conn.data(r.id, b"12")
    conn.data(r.id, end=True)
    assert conn.wait(r).text.startswith("length 8\n")
    unharmed(conn)


# --- 4.2: sizes ---------------------------------------------------------


@pytest.mark.parametrize("kind", [DATA, HEADERS, UNKNOWN])
def test_4_2_frames_of_full_size(conn, kind):
    """2^14 bytes must be taken."""
    if kind == HEADERS:
        block = conn.encode(conn.fields(path="/t/env"))
        size = 16384 - len(block) - 6
        field = b"\0\1x" + integer(size, 7) + b"v" * size
        assert len(block + field) == 16384
        r = conn.start(None, block=block + field)
        assert conn.wait(r).status == 431       # LimitRequestFieldSize
    else:
        r = conn.start(conn.fields("POST", "/t/upload"), end=False)
        conn.raw_frame(kind, 0, r.id, b"x" * 16384)
        conn.data(r.id, end=True)
        assert conn.wait(r).text.startswith(
            "length %d\n" % (16384 if kind == DATA else 0))
    unharmed(conn)


@pytest.mark.parametrize("size", [16385, 0xffffff])
@pytest.mark.parametrize("kind", [
    DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY,
    WINDOW_UPDATE, UNKNOWN, pytest.param(CONTINUATION, marks=pytest.mark.
                                         h2x_only("nghttp2 takes it"))])
def test_4_2_too_large(conn, kind, size):
    """The head of the frame is enough to know."""
    conn.ping()
    r = conn.start(conn.fields("POST", "/t/upload"), end=False)
    if kind == CONTINUATION:
        conn.raw_frame(HEADERS, 0, 3, b"")
    stream_id = {HEADERS: 3, CONTINUATION: 3, SETTINGS: 0, PING: 0, GOAWAY: 0}
    conn.raw_frame(kind, 0, stream_id.get(kind, r.id), b"\0" * 100,
                   length=size)
    connection_error(conn, FRAME_SIZE_ERROR)


@pytest.mark.parametrize("kind,stream_id,size", [
    (PRIORITY, 1, 0), (PRIORITY, 1, 4), (PRIORITY, 1, 6),       # 6.3
    (PRIORITY, 3, 4), (PRIORITY, 3, 100),
    (RST_STREAM, 1, 0), (RST_STREAM, 1, 3), (RST_STREAM, 1, 5),  # 6.4
    (SETTINGS, 0, 1), (SETTINGS, 0, 5), (SETTINGS, 0, 7),       # 6.5
    (SETTINGS, 0, 16383),
    (PING, 0, 0), (PING, 0, 7), (PING, 0, 9),                   # 6.7
    (GOAWAY, 0, 0), (GOAWAY, 0, 7),                             # 6.8
    (WINDOW_UPDATE, 0, 0), (WINDOW_UPDATE, 0, 3),               # 6.9
    (WINDOW_UPDATE, 0, 5), (WINDOW_UPDATE, 1, 3), (WINDOW_UPDATE, 1, 5)])
def test_4_2_wrong_size(conn, kind, stream_id, size):
    """Of frames whose size is fixed.  For PRIORITY it is an error of the
    stream, which may be taken for one of the connection."""
    r = conn.start(conn.fields("POST", "/t/upload"), end=False)
    conn.raw_frame(kind, 0, stream_id, b"\0" * size)
    if kind == PRIORITY:
        stream_error(conn, conn._stream(stream_id), FRAME_SIZE_ERROR)
    else:
        connection_error(conn, FRAME_SIZE_ERROR)
    assert not r.headers


@pytest.mark.parametrize("kind,flags,payload", [
    (DATA, PADDED, b""), (HEADERS, PADDED, b""),
    (HEADERS, PADDED | WITH_PRIORITY, b"")],
    ids=["data", "headers", "headers-priority"])
def test_4_2_no_room_for_pad_length(conn, kind, flags, payload):
    """Too small for its first field (FRAME_SIZE_ERROR), which would say how
    much padding there is (PROTOCOL_ERROR, 6.1 and 6.2)."""
    if kind == DATA:
        conn.start(conn.fields("POST", "/t/upload"), end=False)
    conn.raw_frame(kind, flags | END_HEADERS, 1, payload)
    connection_error(conn, FRAME_SIZE_ERROR, PROTOCOL_ERROR)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\0"])
def test_4_2_no_room_for_priority(conn, payload):
    conn.raw_frame(HEADERS, WITH_PRIORITY | END_HEADERS, 1, payload)
    connection_error(conn, FRAME_SIZE_ERROR)


def test_4_2_no_frame_larger_than_allowed(server):
    """Nor a head or trailers: those go on in CONTINUATION.  See also
    test_frame_size in test_flow.py."""
    with connection(server, settings={h2raw.MAX_FRAME_SIZE: 16384}) as c:
        r = c.request(path="/t/fields?kind=many&n=10&size=5000")
        assert r.status == 200 and len(r.header("x-many-9")) == 5000
        sizes = [length for length, kind, _, _ in c.heads
                 if kind in (HEADERS, CONTINUATION)]
        assert len(sizes) > 1 and max(sizes) <= 16384


# --- 4.3, 6.2, 6.10: field blocks are contiguous ------------------------

BETWEEN = {
    "data": (DATA, 0, 1, b"12"), "headers": (HEADERS, END_HEADERS, 5, b""),
    "headers-same-stream": (HEADERS, END_HEADERS, 3, b""),
    "priority": (PRIORITY, 0, 3, SPEC),
    "rst-stream": (RST_STREAM, 0, 3, u32(8)),
    "settings": (SETTINGS, 0, 0, b""), "settings-ack": (SETTINGS, ACK, 0, b""),
    "push-promise": (PUSH_PROMISE, END_HEADERS, 3, u32(2)),
    "ping": (PING, 0, 0, b"01234567"), "goaway": (GOAWAY, 0, 0, u32(0, 0)),
    "window-update": (WINDOW_UPDATE, 0, 0, u32(1)),
    "unknown": (UNKNOWN, 0, 3, b"?"), "unknown-of-0": (UNKNOWN, 0, 0, b""),
    "other-continuation": (CONTINUATION, END_HEADERS, 1, b""),
    "continuation-of-0": (CONTINUATION, END_HEADERS, 0, b""),
}


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("between", sorted(BETWEEN))
def test_4_3_frame_within_a_field_block(conn, between, parts):
    """After HEADERS, and after a CONTINUATION.  5.5: extensions too."""
    conn.start(conn.fields("POST", "/t/echo"), end=False)
    blocks = pieces(conn.encode(conn.fields()), parts + 1)
    conn.raw_frame(HEADERS, END_STREAM, 3, blocks[0])
    if parts == 2:
        conn.raw_frame(CONTINUATION, 0, 3, blocks[1])
    conn.raw_frame(*BETWEEN[between])
    connection_error(conn, PROTOCOL_ERROR)
    assert not conn.pongs


@pytest.mark.parametrize("flags,stream_id", [
    (END_HEADERS, 1), (0, 1), (END_HEADERS, 3)])
def test_6_10_continuation_after_the_end(conn, flags, stream_id):
    """Of the field block; of the stream, see test_5_1_lone_continuation."""
    conn.start(conn.fields("POST", "/t/echo"), end=False)
    conn.raw_frame(CONTINUATION, flags, stream_id, b"")
    connection_error(conn, PROTOCOL_ERROR)


@pytest.mark.parametrize("count", [2, 5, 8])
@pytest.mark.parametrize("what", ["request", "trailers"])
def test_4_3_field_block_in_pieces(conn, count, what):
    """END_STREAM is said by HEADERS, before the block is complete (8.1)."""
    if what == "trailers":
        r = conn.start(conn.fields("POST", "/t/show-trailers"), end=False)
        fields = [("x-one", "1"), ("x-two", "2" * 100)]
    else:
        r = conn._stream(1)
        fields = conn.fields(path="/t/env", headers=[("x-two", "2" * 100)])
    blocks = pieces(conn.encode(fields), count)
    conn.raw_frame(HEADERS, END_STREAM, 1, blocks[0])
    for block in blocks[1:-1]:
        conn.raw_frame(CONTINUATION, 0, 1, block)
    conn.raw_frame(CONTINUATION, END_HEADERS, 1, blocks[-1])
    conn.next_id = 3
    assert "x-two: " + "2" * 100 in conn.wait(r).text.lower()
    unharmed(conn)


def test_6_10_empty_continuation(conn):
    """Pieces may be empty, the first one and the last one too."""
    block = conn.encode(conn.fields(path="/index.html"))
    r = conn._stream(1)
    conn.raw_frame(HEADERS, END_STREAM, 1, b"")
    conn.raw_frame(CONTINUATION, 0, 1, block)
    conn.raw_frame(CONTINUATION, END_HEADERS, 1, b"")
    assert conn.wait(r).text == "hello\n"
    unharmed(conn)


# --- 6.1 and 6.2: padding -----------------------------------------------


def padded(payload, length):
    return bytes([length]) + payload + b"\0" * length


@pytest.mark.parametrize("length", [0, 1, 255])
def test_6_1_padded_data(conn, length):
    r = conn.start(conn.fields("POST", "/t/upload",
                               {"content-length": "20"}), end=False)
    conn.raw_frame(DATA, PADDED, r.id, padded(b"0123456789", length))
    conn.raw_frame(DATA, PADDED, r.id, padded(b"", length))
    conn.raw_frame(DATA, PADDED | END_STREAM, r.id,
                   padded(b"0123456789", length))
    assert conn.wait(r).text.startswith("length 20\n")
    unharmed(conn)


@pytest.mark.parametrize("with_priority", [0, WITH_PRIORITY])
@pytest.mark.parametrize("length", [0, 1, 255])
def test_6_2_padded_headers(conn, length, with_priority):
    """Of a request, which may go on, and of trailers."""
    spec = SPEC if with_priority else b""
    head, rest = pieces(conn.encode(
        conn.fields("POST", "/t/show-trailers")), 2)
    r = conn._stream(1)
    conn.raw_frame(HEADERS, PADDED | with_priority, 1,
                   padded(spec + head, length))
    conn.raw_frame(CONTINUATION, END_HEADERS, 1, rest)
    conn.raw_frame(HEADERS, PADDED | with_priority | END_HEADERS | END_STREAM,
                   1, padded(spec + conn.encode([("x-last", "1")]), length))
    assert "x-last: 1" in conn.wait(r).text.lower()
    unharmed(conn)


@pytest.mark.parametrize("length,rest", [(1, 0), (2, 1), (255, 254), (10, 9)])
@pytest.mark.parametrize("kind", [DATA, HEADERS])
def test_6_1_padding_as_long_as_the_frame(conn, kind, length, rest):
    """6.1, 6.2: or longer."""
    if kind == DATA:
        conn.start(conn.fields("POST", "/t/upload"), end=False)
    conn.raw_frame(kind, PADDED | END_HEADERS, 1,
                   bytes([length]) + b"\0" * rest)
    connection_error(conn, PROTOCOL_ERROR)


@pytest.mark.parametrize("length,rest", [(1, 5), (5, 9), (255, 255)])
def test_6_2_padding_over_priority(conn, length, rest):
    """No room for the fields of priority that were promised."""
    conn.raw_frame(HEADERS, PADDED | WITH_PRIORITY | END_HEADERS, 1,
                   bytes([length]) + b"\0" * rest)
    connection_error(conn, PROTOCOL_ERROR, FRAME_SIZE_ERROR)


def test_6_1_padding_that_is_not_zero(conn):
    """A receiver may take that for an error, but need not."""
    r = conn.start(conn.fields("POST", "/t/upload"), end=False)
    conn.raw_frame(DATA, PADDED | END_STREAM, r.id, b"\5abc12345")
    conn.pump(lambda: r.done or conn.goaways)
    if conn.goaways:
        connection_error(conn, PROTOCOL_ERROR)
    else:
        assert r.text.startswith("length 3\n")


def test_6_1_empty_data(conn):
    r = conn.start(conn.fields("POST", "/t/upload"), end=False)
    for _ in range(5):
        conn.data(r.id)
    conn.data(r.id, b"1234")
    conn.data(r.id, end=True)
    assert conn.wait(r).text.startswith("length 4\n")


# --- 6.2 and 6.3: priority ----------------------------------------------


@pytest.mark.parametrize("spec", [
    u32(0) + b"\0", u32(1 << 31) + b"\xff", u32(99) + b"\x10",
    u32(1 << 31 | 0x7ffffffe) + b"\x10"])
def test_6_2_headers_with_priority(conn, spec):
    """It has no meaning any more (5.3.2)."""
    r = conn._stream(1)
    conn.raw_frame(HEADERS, WITH_PRIORITY | END_HEADERS | END_STREAM, 1,
                   spec + conn.encode(conn.fields(path="/index.html")))
    assert conn.wait(r).text == "hello\n"
    unharmed(conn)


@pytest.mark.parametrize("kind", [PRIORITY, HEADERS])
def test_5_3_2_depends_on_itself(conn, kind):
    """An error for RFC 7540 (5.3.1), nothing for RFC 9113."""
    r = conn._stream(1)
    block = conn.encode(conn.fields(path="/index.html"))
    if kind == PRIORITY:
        conn.raw_frame(PRIORITY, 0, 1, u32(1) + b"\0")
        conn.raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
    else:
        conn.raw_frame(HEADERS, WITH_PRIORITY | END_HEADERS | END_STREAM, 1,
                       u32(1) + b"\0" + block)
    conn.pump(lambda: r.done or conn.goaways)
    if r.done and r.reset is None:
        assert r.text == "hello\n"
        unharmed(conn)
    else:
        stream_error(conn, r, PROTOCOL_ERROR)


# --- 6.7: PING ------------------------------------------------------------


@pytest.mark.parametrize("busy", ["", "/t/wait?gate=%d",
                                  "/t/trickle?n=2&size=4&gate=%d"])
def test_6_7_ping(server, gate, busy):
    """Answered with the same 8 bytes, in order, while requests run too."""
    with connection(server, settings=NARROW, windows=False) as c:
        if busy:
            c.get(busy % gate)
        c.wait_body(c.get("/t/big?n=100000"), 10)
        sent = [b"%08d" % i for i in range(20)] + [b"\0" * 8, b"\xff" * 8]
        for payload in sent:
            c.raw_frame(PING, 0, 0, payload)
        c.until(lambda: len(c.pongs) == len(sent), what="PING answers")
        assert c.pongs == sent
        inside.open_gate(server, gate)


def test_6_7_ack_is_not_answered(conn):
    for _ in range(5):
        conn.raw_frame(PING, ACK, 0, b"unasked!")
    conn.ping(b"the last")
    assert conn.pongs == [b"the last"]
    pings = [f for f in conn.frames if isinstance(f, h2raw.PingFrame)]
    assert all("ACK" in f.flags for f in pings)


# --- 6.8: GOAWAY ----------------------------------------------------------


@pytest.mark.h2x_only("ends requests that are under way")
@pytest.mark.parametrize("code", [NO_ERROR, PROTOCOL_ERROR, 0xffffffff])
@pytest.mark.parametrize("debug", [b"", b"\0\xff" * 100],
                         ids=["plain", "debug"])
def test_6_8_goaway_from_client(conn, code, debug):
    """Requests under way are answered, whatever the code says (7)."""
    conn.ping()
    done = conn.request(path="/index.html")
    r = conn.start(conn.fields("POST", "/t/echo"), end=False)
    conn.data(r.id, b"12")
    conn.wait_body(r, 2)
    conn.raw_frame(GOAWAY, 0, 0, u32(0, code) + debug)
    conn.data(r.id, b"34", end=True)
    assert conn.wait(r).text == "1234" and r.ended
    assert done.status == 200
    conn.wait_closed()
    assert conn.eof
    assert all(goaway[1] == NO_ERROR for goaway in conn.goaways)


@pytest.mark.h2x_only("does not tell the last stream while it waits")
def test_6_8_frames_above_the_last_stream(httpd):
    """The server goes away.  What comes on later streams is dropped; but
    field blocks count for the decoder, DATA for the connection's window."""
    with httpd() as server:
        with connection(server) as c:
            r = c.start(c.fields("POST", "/t/show-trailers"), end=False)
            c.ping()
            server.graceful(wait=False)
            c.until(lambda: c.goaways and c.goaways[-1][0] == r.id,
                    what="GOAWAY")
            assert c.goaway_code == NO_ERROR
            late = c.start(c.fields("POST", "/t/env", [("x-late", "1" * 50)]),
                           end=False)
            window = c.window
            for _ in range(100):
                c.until(lambda: c.window > 16384, what="connection window")
                c.data(late.id, b"x" * 16384)
            c.until(lambda: c.window > window // 2, what="credit")
            c.trailers(late.id, [("x-later", "2" * 50)])
            c.trailers(r.id, [("x-late", "1" * 50), ("x-later", "2" * 50)])
            c.wait(r)
            assert "x-later: " + "2" * 50 in r.text.lower()
            assert "x-late: " + "1" * 50 in r.text.lower()
            assert not late.headers and late.reset is None
            c.wait_closed()
        assert c.goaway_code == NO_ERROR


# --- 7: error codes -----------------------------------------------------


@pytest.mark.parametrize("code", [0x0e, 0xff, 0xabcdef, 0xffffffff])
def test_7_unknown_error_codes(server, gate, code):
    """They have no special effect."""
    with connection(server, settings=NARROW, windows=False) as c:
        c.reset(c.wait_body(c.get("/t/big?n=1000"), 10).id, code)
        c.reset(c.get("/t/wait?gate=%d" % gate).id, code)
        unharmed(c)


# --- 8.4: push ------------------------------------------------------------


@pytest.mark.parametrize("push", [0, 1])
@pytest.mark.parametrize("flags", [END_HEADERS, END_HEADERS | PADDED, 0])
@pytest.mark.parametrize("promised", [2, 3, 4, 0])
def test_8_4_push_promise_from_client(server, push, flags, promised):
    """For streams in other states see test_5_1_push_promise_from_client."""
    with connection(server, settings={h2raw.ENABLE_PUSH: push}) as c:
        c.start(c.fields("POST", "/t/echo"), end=False)
        payload = u32(promised) + c.encode(c.fields(path="/index.html"))
        if flags & PADDED:
            payload = padded(payload, 3)
        c.raw_frame(PUSH_PROMISE, flags, 1, payload)
        connection_error(c, PROTOCOL_ERROR)
