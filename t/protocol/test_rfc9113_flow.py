"""RFC 9113, sections 5.2 and 6.9: flow control.  See test_flow.py for
windows that are respected and streams that do not block each other."""

import random

import pytest

from lib import inside
from lib.conform import (  # noqa: F401
    DATA, END_STREAM, NARROW, PADDED, WINDOW_UPDATE, conn, connection,
    connection_error, files, gate, pytest_generate_tests, stream_error, u32,
    unharmed)
from lib.h2raw import (FLOW_CONTROL_ERROR, INITIAL_WINDOW_SIZE, NO_ERROR,
                       PROTOCOL_ERROR)

CONFIG = ""

MOST = (1 << 31) - 1


@pytest.fixture
def narrow(server, gate):
    with connection(server, settings=NARROW, windows=False) as c:
        c.release = lambda: inside.open_gate(server, gate)
        yield c


class Stream:
    """Streams that wait for a window, or may need one."""

    @staticmethod
    def held(c, gate):
        """Ten bytes came; neither window will ever let all come."""
        return c.wait_body(c.get("/t/big?n=100000"), 10)

    @staticmethod
    def held_running(c, gate):
        """The handler goes on."""
        r = c.get("/t/trickle?n=2&size=20&gate=%d" % gate)
        return c.wait_body(r, 10)

    @staticmethod
    def unanswered(c, gate):
        return c.get("/t/wait?gate=%d" % gate)

    @staticmethod
    def receiving(c, gate):
        r = c.start(c.fields("POST", "/t/echo"), end=False)
        c.data(r.id, b"1234")
        return c.wait_body(r, 4)


STREAMS = pytest.mark.parametrize("state", [
    n for n in vars(Stream) if not n.startswith("_")])


def bring(c, gate, state):
    return getattr(Stream, state)(c, gate)


# --- 6.9: increments --------------------------------------------------------


@STREAMS
@pytest.mark.parametrize("bit", [0, 1 << 31])
def test_6_9_increment_of_0(narrow, gate, state, bit):
    """An error of the stream; the reserved bit does not count."""
    r = bring(narrow, gate, state)
    narrow.raw_frame(WINDOW_UPDATE, 0, r.id, u32(bit))
    stream_error(narrow, r, PROTOCOL_ERROR)


@pytest.mark.parametrize("bit", [0, 1 << 31])
def test_6_9_increment_of_0_for_the_connection(narrow, gate, bit):
    bring(narrow, gate, "held")
    narrow.raw_frame(WINDOW_UPDATE, 0, 0, u32(bit))
    connection_error(narrow, PROTOCOL_ERROR)


def test_6_9_reserved_bit(narrow, gate):
    r = bring(narrow, gate, "held")
    narrow.raw_frame(WINDOW_UPDATE, 0, r.id, u32(1 << 31 | 5))
    narrow.wait_body(r, 15)
    narrow.raw_frame(WINDOW_UPDATE, 0, 0, u32(1 << 31 | 5))
    narrow.ping()
    assert len(r.body) == 15
    unharmed(narrow)


# --- 6.9.1: the largest window ----------------------------------------------


@STREAMS
@pytest.mark.parametrize("steps", [(MOST, MOST), 3 * (MOST // 2,)])
def test_6_9_1_stream_window_overflows(narrow, gate, state, steps):
    r = bring(narrow, gate, state)
    narrow.raw(b"".join(b"\0\0\4\x08\0" + u32(r.id, step) for step in steps))
    stream_error(narrow, r, FLOW_CONTROL_ERROR)


@STREAMS
@pytest.mark.parametrize("steps", [(MOST,), (MOST // 2, MOST // 2, 70000)])
def test_6_9_1_connection_window_overflows(narrow, gate, state, steps):
    bring(narrow, gate, state)
    narrow.raw(b"".join(b"\0\0\4\x08\0" + u32(0, step) for step in steps))
    connection_error(narrow, FLOW_CONTROL_ERROR)


def test_6_9_1_largest_windows(server):
    """2^31-1 for both, and then what was used is given back."""
    with connection(server, settings={INITIAL_WINDOW_SIZE: MOST},
                    windows=False) as c:
        c.credit(MOST - 65535)
        c.ping()
        r = c.request(path="/t/big?n=3000000")
        assert len(r.body) == 3000000 and r.ended
        c.credit(3000000)
        r = c.get("/t/trickle?n=3&size=1000&ms=1")
        c.wait_body(r, 1000)
        c.credit(1000, r.id)
        assert len(c.wait(r).body) == 3000
        unharmed(c)
        c.credit(3001)
        connection_error(c, FLOW_CONTROL_ERROR)


def test_6_9_1_stream_window_to_the_largest(narrow, gate):
    """By WINDOW_UPDATE; one more is too much."""
    r = bring(narrow, gate, "unanswered")
    narrow.credit(MOST - 10, r.id)
    unharmed(narrow)
    narrow.credit(1, r.id)
    stream_error(narrow, r, FLOW_CONTROL_ERROR)


# --- 6.9.1: what the windows hold back, and what not ------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_6_9_1_body_as_large_as_the_window(server, n):
    """The end that comes after it may need no window; nghttp2 waits for
    one, and then says nothing but END_STREAM."""
    with connection(server, settings={INITIAL_WINDOW_SIZE: 10 * n},
                    windows=False) as c:
        r = c.get("/t/trickle?n=%d&size=10&ms=1" % n)
        c.wait_body(r, 10 * n)
        c.credit(1, r.id)
        c.wait(r)
        assert len(r.body) == 10 * n and r.ended and r.reset is None
        unharmed(c)


@pytest.mark.h2x_only("may send no head while the window is 0")
@pytest.mark.parametrize("body", [0, 10])
def test_6_9_1_heads_need_no_window(server, gate, body):
    """With no byte left for the connection: heads of responses come, and of
    interim ones.  Trailers come behind the body, which needs a window."""
    size = 65535 - body
    with connection(server, windows=False,
                    settings={INITIAL_WINDOW_SIZE: 1 << 20}) as c:
        c.wait_body(c.get("/t/big?n=%d" % size), size)
        r = c.get("/t/trailers?body=%d" % body)
        c.wait_body(c.wait_headers(r), body)
        early = c.get("/t/interim?status=103&gate=%d" % gate)
        c.until(lambda: early.interim, what="103")
        inside.open_gate(server, gate)
        assert c.wait_headers(early).status == 200
        assert not early.body
        c.credit(1000)
        c.wait(r, early)
        assert r.trailer("x-sum") == "abc123" and len(r.body) == body
        assert early.text == "final\n"
        unharmed(c)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_6_9_1_window_of_0(server, method):
    """From the start: the head comes, the body waits."""
    with connection(server, windows=False,
                    settings={INITIAL_WINDOW_SIZE: 0}) as c:
        r = c.start(c.fields(method, "/index.html"))
        c.wait_headers(r)
        c.ping()
        assert r.status == 200 and not r.body
        if method == "GET":
            assert not r.ended
            c.credit(6, r.id)
        c.wait(r)
        assert r.text == ("hello\n" if method == "GET" else "")


@pytest.mark.h2x_only("may not go on when a window was below 0")
@pytest.mark.parametrize("seed", range(5))
def test_6_9_2_never_more_than_allowed(server, seed):
    """Windows change at random, by SETTINGS and WINDOW_UPDATE, also below
    0: what came is what the windows have allowed at their widest."""
    rnd = random.Random(seed)
    with connection(server, windows=False, settings=NARROW) as c:
        initial, credit, of_connection = 10, 0, 65535
        r = c.wait_body(c.get("/t/big?n=1000000"), 10)
        most = 10
        for _ in range(60):
            if rnd.random() < 0.5:
                initial = rnd.choice((0, 1, 100, 5000, 20000))
                c.settings({INITIAL_WINDOW_SIZE: initial})
            elif rnd.random() < 0.5:
                step = rnd.randrange(1, 3000)
                credit += step
                c.credit(step, r.id)
            else:
                step = rnd.randrange(1, 3000)
                of_connection += step
                c.credit(step)
            most = max(most, min(initial + credit, of_connection))
            c.wait_body(r, most)
            c.ping()
            assert len(r.body) == most
        unharmed(c)


# --- 6.9.2: the initial window ----------------------------------------------


def test_6_9_2_connection_window_is_not_changed(server):
    """By SETTINGS_INITIAL_WINDOW_SIZE."""
    with connection(server, windows=False,
                    settings={INITIAL_WINDOW_SIZE: 1 << 20}) as c:
        r = c.wait_body(c.get("/t/big?n=100000"), 65535)
        c.settings({INITIAL_WINDOW_SIZE: 1 << 21})
        c.ping()
        c.ping()
        assert len(r.body) == 65535
        c.credit(100000)
        assert len(c.wait(r).body) == 100000


@pytest.mark.h2x_only("nghttp2 ends the stream alone")
@STREAMS
def test_6_9_2_initial_size_overflows_a_window(narrow, gate, state):
    """An error of the connection."""
    r = bring(narrow, gate, state)
    narrow.credit(MOST // 2, r.id)
    unharmed(narrow)
    narrow.settings({INITIAL_WINDOW_SIZE: MOST - 100})
    connection_error(narrow, FLOW_CONTROL_ERROR)


@STREAMS
def test_6_9_2_initial_size_just_fits(narrow, gate, state):
    r = bring(narrow, gate, state)
    left = 10 - len(r.body)
    narrow.credit(100 - left, r.id)         # the window is 100 now
    narrow.settings({INITIAL_WINDOW_SIZE: 10 + MOST - 100})
    narrow.credit(1 << 20)
    unharmed(narrow)
    assert r.reset is None


# --- what the server allows, 6.9.1 ------------------------------------------


def fill(c, r, more=0, pad=0):
    """Uses up the stream's window, and then more."""
    size = min(c.allowed(r.id), c.stream_windows[r.id]) + more
    while size > 0:
        n = min(size, 16384)
        if pad and n > pad:
            c.raw_frame(DATA, PADDED, r.id, bytes([pad - 1])
                        + b"x" * (n - pad) + b"\0" * (pad - 1))
            c.window -= n
            c.stream_windows[r.id] -= n
        else:
            c.data(r.id, b"x" * n)
        size -= n


@pytest.mark.parametrize("pad", [0, 1, 10, 256])
def test_6_9_1_client_exceeds_the_stream_window(narrow, gate, pad):
    """Padding counts (6.1).  Up to the last byte it is no error."""
    narrow.ping()
    r = narrow.start(narrow.fields("POST", "/t/wait?gate=%d" % gate),
                     end=False)
    fill(narrow, r, pad=pad)
    narrow.ping()
    assert r.reset is None and not narrow.goaways
    assert narrow.stream_windows[r.id] == 0
    narrow.data(r.id, b"x")
    narrow.until(lambda: r.reset is not None or narrow.goaways,
                 what="the error")
    narrow.release()
    stream_error(narrow, r, FLOW_CONTROL_ERROR)


def test_6_9_1_client_exceeds_the_window_by_padding(narrow, gate):
    """Nothing but padding is too much."""
    narrow.ping()
    r = narrow.start(narrow.fields("POST", "/t/wait?gate=%d" % gate),
                     end=False)
    fill(narrow, r, more=-1)
    narrow.ping()
    assert r.reset is None and not narrow.goaways
    narrow.raw_frame(DATA, PADDED, r.id, b"\1\0")
    narrow.until(lambda: r.reset is not None or narrow.goaways,
                 what="the error")
    narrow.release()
    stream_error(narrow, r, FLOW_CONTROL_ERROR)


def test_6_1_padding_is_credited(conn):
    """To stream and connection: an upload that is almost nothing else goes
    through windows that it fills many times over."""
    conn.ping()
    r = conn.start(conn.fields("POST", "/t/upload"), end=False)
    frame = b"\xffx" + b"\0" * 255
    sent = 0
    while sent * 257 < 3 << 20:
        conn.until(lambda: r.done or conn.allowed(r.id) >= 257 * 20,
                   what="credit")
        assert not r.done
        for _ in range(20):
            conn.raw_frame(DATA, PADDED, r.id, frame)
        conn.window -= 257 * 20
        conn.stream_windows[r.id] -= 257 * 20
        sent += 20
        conn.poll()
    conn.data(r.id, end=True)
    assert conn.wait(r).text.startswith("length %d\n" % sent)
    unharmed(conn)


def dropped(c, r, path="/t/upload"):
    """Sends 3 MB on a stream that is over: they must come back to the
    connection's window, which another upload then needs."""
    for _ in range((3 << 20) // 16384):
        c.until(lambda: c.window >= 16384, what="credit")
        c.data(r.id, b"x" * 16384)
        c.poll()
    again = c.start(c.fields("POST", path), end=False)
    c.upload(again, b"y" * (1 << 20))
    assert c.wait(again).text.startswith("length %d\n" % (1 << 20))
    unharmed(c)


def test_6_9_dropped_data_is_credited_after_reset(conn):
    """6.9, 5.1: by the server, which the client need not have seen."""
    conn.ping()
    r = conn.start(conn.fields("POST", "/t/upload", [("Bad", "1")]),
                   end=False)
    dropped(conn, r)
    assert r.reset == PROTOCOL_ERROR


def test_6_9_dropped_data_is_credited_after_answer(conn):
    conn.ping()
    r = conn.start(conn.fields("POST", "/t/ignore"), end=False)
    conn.until(lambda: r.reset is not None, what="RST_STREAM")
    assert r.ended and r.reset == NO_ERROR
    dropped(conn, r)


def test_6_9_dropped_data_is_credited_after_mismatch(conn):
    """More DATA than content-length: the frame that shows it, and what
    follows."""
    conn.ping()
    r = conn.start(conn.fields("POST", "/t/upload",
                               {"content-length": "10"}), end=False)
    dropped(conn, r)
    assert r.reset == PROTOCOL_ERROR


@pytest.mark.h2x_only("lets stalled uploads use up the connection's window")
def test_6_9_unread_data_is_credited_to_the_connection(server, conn, gate):
    """Streams whose handlers do not read do not use up the connection."""
    conn.ping()
    path = "/t/wait?gate=%d" % gate
    for _ in range(20):
        fill(conn, conn.start(conn.fields("POST", path), end=False))
        conn.ping()
    r = conn.start(conn.fields("POST", "/t/upload"), end=False)
    conn.upload(r, b"y" * (1 << 20))
    assert conn.wait(r).text.startswith("length %d\n" % (1 << 20))
    inside.open_gate(server, gate)


def test_6_9_empty_frames_need_no_window(narrow, gate):
    """A client whose window is used up may still end its request."""
    narrow.ping()
    r = narrow.start(narrow.fields("POST", "/t/wait?gate=%d" % gate),
                     end=False)
    fill(narrow, r)
    narrow.raw_frame(DATA, END_STREAM, r.id, b"")
    narrow.ping()
    narrow.release()
    assert narrow.wait(r).text == "waited\n"
    assert r.reset is None
