"""RFC 9113, section 5: each state of a stream against each type of frame,
identifiers of streams, how many there may be at a time, errors."""

import pytest

from lib import h2raw, inside
from lib.conform import (  # noqa: F401
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NARROW, PING,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, UNKNOWN, WINDOW_UPDATE,
    conn, connection, connection_error, files, gate, headers, malformed,
    pytest_generate_tests, stream_error, u32, unharmed)
from lib.h2raw import (CANCEL, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM,
                       STREAM_CLOSED)

LIMIT = 10

CONFIG = """
H2MaxSessionStreams %d
""" % LIMIT

BAD = ("Upper", "case")     # makes the server reset the stream


class State:
    """Each brings a stream into a state, as the server sees it, and returns
    its Response.  Settings are NARROW."""

    @staticmethod
    def idle(c, gate):
        return c._stream(1)

    @staticmethod
    def idle_above(c, gate):
        c.get("/t/wait?gate=%d" % gate)
        return c._stream(5)

    @staticmethod
    def idle_even(c, gate):
        """Of the server's, which has promised nothing."""
        c.get("/t/wait?gate=%d" % gate)
        return c._stream(2)

    @staticmethod
    def open_unanswered(c, gate):
        r = c.start(c.fields("POST", "/t/upload"), end=False)
        c.data(r.id, b"1234")
        return r

    @staticmethod
    def open_answered(c, gate):
        """The answer is on its way, and its handler reads the request."""
        r = c.start(c.fields("POST", "/t/echo"), end=False)
        c.data(r.id, b"1234")
        return c.wait_body(r, 4)

    @staticmethod
    def half_remote_unanswered(c, gate):
        return c.get("/t/wait?gate=%d" % gate)

    @staticmethod
    def half_remote_running(c, gate):
        """A handler that has said something, and goes on later."""
        r = c.get("/t/trickle?n=2&size=4&gate=%d" % gate)
        return c.wait_body(r, 4)

    @staticmethod
    def half_remote_held(c, gate):
        """The handler is done: the rest of its output waits for a window."""
        return c.wait_body(c.get("/t/big?n=1000"), 10)

    @staticmethod
    def ended(c, gate):
        r = c.request(path="/index.html")
        assert r.ended
        return r

    @staticmethod
    def ended_long_ago(c, gate):
        r = State.ended(c, gate)
        for _ in range(3 * LIMIT):
            State.ended(c, gate)
        return r

    @staticmethod
    def answered_early(c, gate):
        """The request is not complete, and nobody wants the rest."""
        r = c.start(c.fields("POST", "/t/ignore"), end=False)
        c.until(lambda: r.reset is not None, what="RST_STREAM")
        assert r.ended and r.reset == NO_ERROR
        return r

    @staticmethod
    def reset_by_client(c, gate):
        r = State.half_remote_held(c, gate)
        c.reset(r.id)
        return r

    @staticmethod
    def reset_by_client_open(c, gate):
        r = State.open_unanswered(c, gate)
        c.reset(r.id)
        return r

    @staticmethod
    def reset_by_server(c, gate):
        r = c.start(c.fields("POST", "/t/upload", [BAD]), end=False)
        c.until(lambda: r.reset is not None, what="RST_STREAM")
        assert r.reset == PROTOCOL_ERROR
        return r

    @staticmethod
    def reset_by_server_unseen(c, gate):
        """The client does not know yet."""
        return c.start(c.fields("POST", "/t/upload", [BAD]), end=False)

    @staticmethod
    def skipped(c, gate):
        """A client may leave identifiers out; they are closed."""
        c.next_id = 5
        c.get("/t/wait?gate=%d" % gate)
        return c._stream(3)


IDLE = ["idle", "idle_above", "idle_even"]
OPEN = ["open_unanswered", "open_answered"]
HALF = ["half_remote_unanswered", "half_remote_running", "half_remote_held"]
#: Closed by the client, or by both: it must know.
CLOSED = ["ended", "ended_long_ago", "reset_by_client",
          "reset_by_client_open"]
#: Closed by the server: the client may not have known.
CLOSED_BY_SERVER = ["answered_early", "reset_by_server",
                    "reset_by_server_unseen"]
ALL = IDLE + OPEN + HALF + CLOSED + CLOSED_BY_SERVER + ["skipped"]


@pytest.fixture
def narrow(server, gate):
    """5.4.1 is tested apart: here no handler keeps the connection."""
    with connection(server, settings=NARROW, windows=False) as c:
        c.release = lambda: inside.open_gate(server, gate, 1000)
        yield c


def states(*names):
    return pytest.mark.parametrize("state", names)


def bring(c, gate, state):
    return getattr(State, state)(c, gate)


def ignored(c, r):
    """The frame has changed nothing, and the stream goes on if it did."""
    reset, ended = r.reset, r.ended
    unharmed(c)
    if reset is not None or ended:
        assert (r.reset, r.ended) == (reset, ended), r


def closed_or_ignored(c, r):
    """On a stream that the client has closed: 5.1 lets a server take the
    frame for an error of the connection or the stream, or drop it."""
    before = sum(isinstance(f, h2raw.RstStreamFrame) for f in c.frames)
    try:
        c.ping()
    except ConnectionError:
        pass
    if c.closed or c.goaways:
        connection_error(c, STREAM_CLOSED)
        return
    resets = [f.error_code for f in c.frames
              if isinstance(f, h2raw.RstStreamFrame)][before:]
    assert resets in ([], [STREAM_CLOSED])
    unharmed(c)


# --- 5.1: DATA --------------------------------------------------------


def send_data(c, r, flags=END_STREAM):
    c.raw_frame(DATA, flags, r.id, b"12")


@states(*IDLE)
def test_5_1_idle_data(narrow, gate, state):
    send_data(narrow, bring(narrow, gate, state))
    connection_error(narrow, PROTOCOL_ERROR)


@states(*OPEN)
def test_5_1_open_data(narrow, gate, state):
    r = bring(narrow, gate, state)
    send_data(narrow, r)
    narrow.credit(1000, r.id)
    narrow.wait(r)
    assert (r.status, r.ended, r.reset) == (200, True, None)
    assert r.text == "123412" or r.text.startswith("length 6\n")


@pytest.mark.parametrize("flags", [0, END_STREAM])
@states(*HALF)
def test_5_1_half_closed_remote_data(narrow, gate, state, flags):
    r = bring(narrow, gate, state)
    send_data(narrow, r, flags)
    stream_error(narrow, r, STREAM_CLOSED)


@states(*CLOSED, "skipped")
def test_5_1_closed_data(narrow, gate, state):
    r = bring(narrow, gate, state)
    send_data(narrow, r)
    closed_or_ignored(narrow, r)


@states(*CLOSED_BY_SERVER)
def test_5_1_closed_by_server_data(narrow, gate, state):
    r = bring(narrow, gate, state)
    send_data(narrow, r, 0)
    send_data(narrow, r)
    ignored(narrow, r)


# --- 5.1: HEADERS -----------------------------------------------------

TRAILER = [("x-trailer", "yes")]


@states("idle", "idle_above")
def test_5_1_idle_headers(narrow, gate, state):
    r = bring(narrow, gate, state)
    headers(narrow, r.id, narrow.fields(path="/index.html"))
    assert narrow.wait(r).text == "hello\n"
    ignored(narrow, r)


def test_5_1_idle_even_headers(narrow, gate):
    """Only a server opens streams with even identifiers."""
    r = bring(narrow, gate, "idle_even")
    headers(narrow, r.id, narrow.fields(path="/index.html"))
    connection_error(narrow, PROTOCOL_ERROR)


@pytest.mark.h2x_only("resets a response when trailers come late")
@states(*OPEN)
def test_5_1_open_headers(narrow, gate, state):
    r = bring(narrow, gate, state)
    headers(narrow, r.id, TRAILER)
    narrow.credit(1000, r.id)
    narrow.wait(r)
    assert (r.status, r.ended, r.reset) == (200, True, None)


@pytest.mark.parametrize("fields", [True, False], ids=["request", "trailers"])
@states(*HALF)
def test_5_1_half_closed_remote_headers(narrow, gate, state, fields):
    r = bring(narrow, gate, state)
    headers(narrow, r.id, narrow.fields() if fields else TRAILER)
    stream_error(narrow, r, STREAM_CLOSED)


@states(*CLOSED)
def test_5_1_closed_headers(narrow, gate, state):
    """Dropped or not: the field block counts for the decoder."""
    r = bring(narrow, gate, state)
    headers(narrow, r.id, [("x-unharmed", "no"), ("x-more", "1" * 100)])
    closed_or_ignored(narrow, r)


@states(*CLOSED_BY_SERVER)
def test_5_1_closed_by_server_headers(narrow, gate, state):
    r = bring(narrow, gate, state)
    headers(narrow, r.id, [("x-unharmed", "no"), ("x-more", "1" * 100)])
    ignored(narrow, r)


# --- 5.1: RST_STREAM --------------------------------------------------


def count_resets(c, r):
    return sum(isinstance(f, h2raw.RstStreamFrame) and f.stream_id == r.id
               for f in c.frames)


@states(*IDLE)
def test_5_1_idle_rst_stream(narrow, gate, state):
    """Also 6.4."""
    narrow.reset(bring(narrow, gate, state).id)
    connection_error(narrow, PROTOCOL_ERROR)


@pytest.mark.parametrize("code", [NO_ERROR, CANCEL, 0xffffffff])
@states(*OPEN, *HALF)
def test_5_1_rst_stream_closes(narrow, gate, state, code):
    """And is not answered by another one (5.4.2), whatever its code (7)."""
    r = bring(narrow, gate, state)
    narrow.reset(r.id, code)
    narrow.ping()
    seen = len(r.body), len(r.headers), r.ended
    narrow.credit(1000)
    unharmed(narrow)
    assert count_resets(narrow, r) == 0
    assert (len(r.body), len(r.headers), r.ended) == seen


@states(*CLOSED, *CLOSED_BY_SERVER, "skipped")
def test_5_1_closed_rst_stream(narrow, gate, state):
    """5.1 and 5.4.2: none is answered, and those that the server's own end
    of the stream may have crossed are no error."""
    r = bring(narrow, gate, state)
    before = count_resets(narrow, r)
    if state == "reset_by_server_unseen":
        before = 1              # the server's own, if it was faster
    narrow.reset(r.id)
    if state in ("reset_by_client", "reset_by_client_open", "skipped"):
        closed_or_ignored(narrow, r)
    else:
        ignored(narrow, r)
    assert count_resets(narrow, r) <= before


# --- 5.1: frames that change no state ---------------------------------


@states(*ALL)
@pytest.mark.parametrize("payload", [
    u32(0) + b"\x0f", u32(1 << 31 | 7) + b"\xff", u32(4) + b"\0"],
    ids=["root", "exclusive", "even"])
def test_5_1_priority_in_any_state(narrow, gate, state, payload):
    """5.3 and 6.3: it says nothing any more, and is allowed everywhere."""
    r = bring(narrow, gate, state)
    narrow.raw_frame(PRIORITY, 0, r.id, payload)
    ignored(narrow, r)


@states(*IDLE)
def test_5_1_idle_window_update(narrow, gate, state):
    narrow.credit(1, bring(narrow, gate, state).id)
    connection_error(narrow, PROTOCOL_ERROR)


@states(*[s for s in ALL if s not in IDLE])
def test_5_1_window_update(narrow, gate, state):
    """6.9: no error on a half-closed or closed stream."""
    r = bring(narrow, gate, state)
    narrow.credit(1, r.id)
    ignored(narrow, r)


@pytest.mark.parametrize("kind", [UNKNOWN, 0x0a, 0x0c, 0xff])
@pytest.mark.parametrize("size", [0, 100])
@states(*ALL)
def test_5_5_unknown_frame_in_any_state(narrow, gate, state, kind, size):
    """5.1: where they are allowed is not known, so they are no error."""
    r = bring(narrow, gate, state)
    narrow.raw_frame(kind, 0xff, r.id, b"?" * size)
    ignored(narrow, r)


# --- 5.1: frames that are wrong on any stream -------------------------


@states(*ALL)
def test_5_1_push_promise_from_client(narrow, gate, state):
    """8.4: a client cannot push."""
    r = bring(narrow, gate, state)
    block = narrow.encode(narrow.fields(path="/index.html"))
    narrow.raw_frame(PUSH_PROMISE, END_HEADERS, r.id, u32(2) + block)
    connection_error(narrow, PROTOCOL_ERROR)


@states(*ALL)
def test_5_1_lone_continuation(narrow, gate, state):
    """6.10: what it goes on with must have come before."""
    r = bring(narrow, gate, state)
    narrow.raw_frame(CONTINUATION, END_HEADERS, r.id,
                     narrow.encode(TRAILER))
    connection_error(narrow, PROTOCOL_ERROR)


@pytest.mark.parametrize("kind,payload", [
    (SETTINGS, b""), (PING, b"12345678"), (GOAWAY, u32(0, 0))],
    ids=["settings", "ping", "goaway"])
@states(*ALL)
def test_5_1_frames_of_the_connection(narrow, gate, state, kind, payload):
    """6.5, 6.7, 6.8: they belong to no stream."""
    r = bring(narrow, gate, state)
    narrow.raw_frame(kind, 0, r.id, payload)
    connection_error(narrow, PROTOCOL_ERROR)


@pytest.mark.parametrize("kind,payload", [
    (DATA, b"1234"), (HEADERS, None), (PRIORITY, u32(0) + b"\0"),
    (RST_STREAM, u32(CANCEL)), (PUSH_PROMISE, None), (CONTINUATION, None)],
    ids=["data", "headers", "priority", "rst-stream", "push-promise",
         "continuation"])
def test_5_1_1_stream_0(conn, kind, payload):
    """6.1 to 6.4, 6.6, 6.10: frames that belong to a stream."""
    if payload is None:
        payload = conn.encode(conn.fields())
    if kind == PUSH_PROMISE:
        payload = u32(2) + payload
    conn.raw_frame(kind, END_HEADERS | END_STREAM, 0, payload)
    connection_error(conn, PROTOCOL_ERROR)


# --- 5.1.1: identifiers -----------------------------------------------


@pytest.mark.parametrize("stream_id", [2, 4, 0x7ffffffe])
def test_5_1_1_even_stream_id(conn, stream_id):
    headers(conn, stream_id, conn.fields(path="/index.html"))
    connection_error(conn, PROTOCOL_ERROR)


@pytest.mark.h2x_only("nghttp2 drops such HEADERS")
@pytest.mark.parametrize("first,then", [(3, 1), (5, 3), (101, 7),
                                        (0x7fffffff, 0x7ffffffd)])
@pytest.mark.parametrize("done", [True, False])
def test_5_1_1_stream_id_that_falls(conn, gate, first, then, done):
    """Of a stream that was never opened."""
    r = conn.start(conn.fields(path="/index.html" if done else
                               "/t/wait?gate=%d" % gate), stream_id=first)
    if done:
        conn.wait(r)
    headers(conn, then, conn.fields(path="/index.html"))
    connection_error(conn, PROTOCOL_ERROR)


@pytest.mark.parametrize("state", ["ended", "reset_by_client"])
def test_5_1_1_stream_id_used_again(server, narrow, gate, state):
    """No second response comes, on whatever outcome of 5.1."""
    r = bring(narrow, gate, state)
    status, size = r.status, len(r.body)
    before = inside.counters(server)["read"]
    headers(narrow, r.id, narrow.fields(path="/t/env"))
    closed_or_ignored(narrow, r)
    assert (r.status, len(r.body), r.trailers) == (status, size, None)
    heads = 0 if narrow.goaways else 1      # of unharmed()
    assert inside.counters(server)["read"] == before + heads


def test_5_1_1_largest_stream_id(conn):
    r = conn.start(conn.fields(path="/index.html"), stream_id=0x7fffffff)
    assert conn.wait(r).text == "hello\n"
    assert conn.ping() and not conn.goaways


def test_5_1_1_ids_may_be_skipped(conn):
    for stream_id in (1, 7, 9, 1001, 0x7ffffffd):
        r = conn.start(conn.fields(path="/index.html"), stream_id=stream_id)
        assert conn.wait(r).text == "hello\n"
    unharmed(conn)


# --- 5.1.2: how many ----------------------------------------------------


@pytest.mark.parametrize("acked", [True, False])
def test_5_1_2_too_many_streams(server, conn, gate, acked):
    """REFUSED_STREAM or PROTOCOL_ERROR for what is above the limit."""
    if acked:
        conn.ping()
    asked = [conn.get("/t/wait?gate=%d" % gate) for _ in range(LIMIT)]
    conn.ping()
    assert conn.peer_settings[h2raw.MAX_CONCURRENT_STREAMS] == LIMIT
    assert not any(r.done for r in asked) and not conn.goaways
    more = conn.get("/index.html")
    conn.until(lambda: more.done or conn.goaways, what="refusal")
    inside.open_gate(server, gate)
    stream_error(conn, more, REFUSED_STREAM, PROTOCOL_ERROR)
    assert not more.headers
    if not conn.goaways:
        assert all(conn.wait(r).text == "waited\n" for r in asked)


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
def test_5_1_2_as_many_as_allowed(server, conn, gate):
    """Room is there again as soon as the client sees the end of a stream."""
    conn.ping()
    path = "/t/wait?gate=%d" % gate
    held = [conn.get(path) for _ in range(LIMIT - 1)]
    for _ in range(2 * LIMIT):
        assert conn.request(path="/index.html").text == "hello\n"
    inside.open_gate(server, gate)
    conn.wait(*held)
    assert all(r.text == "waited\n" for r in held) and not conn.goaways


def test_5_1_2_reset_makes_room(server, conn, gate):
    """As soon as the client has reset a stream, too: new ones are not
    refused, even if they must wait for the handlers of the old ones."""
    conn.ping()
    path = "/t/wait?gate=%d" % gate
    held = [conn.get(path) for _ in range(LIMIT)]
    for r in held:
        conn.reset(r.id)
    again = [conn.get("/index.html") for _ in range(LIMIT)]
    conn.ping()
    assert not any(r.reset for r in again) and not conn.goaways
    inside.open_gate(server, gate)
    conn.wait(*again)
    assert all(r.text == "hello\n" for r in again) and not conn.goaways


def test_5_1_2_early_answers_make_room(conn):
    """So do requests that were answered before they were complete."""
    conn.ping()
    for _ in range(3):
        asked = [conn.start(conn.fields("POST", "/t/ignore"), end=False)
                 for _ in range(LIMIT)]
        conn.until(lambda: all(r.reset is not None for r in asked),
                   what="ends")
        assert all(r.text == "ignored\n" for r in asked)
    unharmed(conn)


# --- 5.4: errors --------------------------------------------------------


class Busy:
    """What the server does with a connection while an error comes."""

    @staticmethod
    def nothing(c, gate):
        c.ping()

    @staticmethod
    def just_answered(c, gate):
        assert c.request(path="/index.html").status == 200

    @staticmethod
    def running(c, gate):
        c.get("/t/wait?gate=%d" % gate)
        c.ping()

    @staticmethod
    def streaming(c, gate):
        c.wait_body(c.get("/t/trickle?n=2&size=4&gate=%d" % gate), 4)

    @staticmethod
    def many(c, gate):
        for _ in range(LIMIT - 1):
            c.get("/t/wait?gate=%d" % gate)
        c.ping()

    @staticmethod
    def held(c, gate):
        c.wait_body(c.get("/t/big?n=100000"), 10)

    @staticmethod
    def receiving(c, gate):
        r = c.start(c.fields("POST", "/t/echo"), end=False)
        c.data(r.id, b"1234")
        c.wait_body(r, 4)


BUSY = pytest.mark.parametrize("busy", [
    n for n in vars(Busy) if not n.startswith("_")])


@pytest.mark.h2x_only("keeps the connection while a handler waits")
@BUSY
@pytest.mark.parametrize("tls", [False, True], ids=["cleartext", "tls"])
def test_5_4_1_connection_error_closes(server, gate, busy, tls):
    """GOAWAY tells why, and the connection is closed, whatever else the
    server was at: a request that waits must not keep it open."""
    with connection(server, tls=tls, settings=NARROW, windows=False) as c:
        getattr(Busy, busy)(c, gate)
        c.raw_frame(WINDOW_UPDATE, 0, 0, u32(0))
        connection_error(c, PROTOCOL_ERROR)


@BUSY
def test_5_4_1_nothing_after_connection_error(server, gate, busy):
    """What follows the bad frame is not served, even in the same write."""
    with connection(server, settings=NARROW, windows=False) as c:
        getattr(Busy, busy)(c, gate)
        before = inside.counters(server)["read"]
        last = max(c.streams, default=0)
        stream_id = c.new_id()
        block = c.encode(c.fields(path="/t/env"))
        c.raw(b"\0\0\4\x08\0" + u32(0, 0) + len(block).to_bytes(3, "big")
              + bytes([HEADERS, END_HEADERS | END_STREAM])
              + u32(stream_id) + block)
        c.release = lambda: inside.open_gate(server, gate, 10)
        connection_error(c, PROTOCOL_ERROR)
        assert stream_id not in c.streams
        assert c.goaways[-1][0] <= last
        after = inside.counters(server)["read"]
        assert after <= before + (LIMIT if busy == "many" else 0)


@BUSY
def test_5_4_2_stream_error_is_of_one_stream(server, gate, busy):
    """All others go on."""
    with connection(server, settings=NARROW, windows=False) as c:
        getattr(Busy, busy)(c, gate)
        others = list(c.streams.values())
        bad = c.start(c.fields(headers=[BAD]))
        c.until(lambda: bad.done, what="RST_STREAM")
        inside.open_gate(server, gate, 10)
        for r in others:
            if not r.done:
                c.credit(1 << 20, r.id)
            if busy == "receiving":
                c.data(r.id, b"5678", end=True)
        c.credit(1 << 20)
        if others:
            c.wait(*others)
        assert all((r.status, r.ended, r.reset) == (200, True, None)
                   for r in others)
        malformed(c, bad)


def test_5_4_2_frames_after_unseen_reset(conn):
    """A whole request in one write, malformed in its head: the rest of it
    is dropped, and the field block of its trailers is still decoded."""
    bad = conn.start(conn.fields("POST", "/t/upload", [BAD]), end=False)
    conn.data(bad.id, b"x" * 10000)
    conn.trailers(bad.id, [("x-unharmed", "no"), ("x-late", "1")])
    r = conn.request(path="/t/env", headers=[("x-late", "1")])
    malformed(conn, bad)
    assert "x-late: 1" in r.text.lower()
