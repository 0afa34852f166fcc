"""RFC 9113, section 8.1: how requests and responses are framed, what makes
a request malformed behind its head, and what that does to a response, in
whatever state that is."""

import pytest

from lib import h2raw, inside
from lib.conform import (  # noqa: F401
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, NARROW, PADDED,
    WITH_PRIORITY, conn, connection, connection_error, files, gate, headers,
    malformed, pieces, pytest_generate_tests, u32, unharmed)
from lib.h2raw import NO_ERROR, PROTOCOL_ERROR, STREAM_CLOSED

CONFIG = """
H2MaxSessionStreams 50
"""
TLS = True
MODULES = "headers"


@pytest.fixture
def narrow(server, gate):
    with connection(server, tls=True, settings=NARROW, windows=False) as c:
        c.release = lambda: inside.open_gate(server, gate)
        yield c


class Answer:
    """Requests with a body still to come, and how far the response is when
    the rest of it arrives."""

    @staticmethod
    def none(c, gate, fields):
        """The handler waits for the body."""
        return c.start(c.fields("POST", "/t/upload", fields), end=False)

    @staticmethod
    def none_unread(c, gate, fields):
        """The handler does not look at the body, and takes its time."""
        r = c.start(c.fields("POST", "/t/wait?gate=%d" % gate, fields),
                    end=False)
        c.ping()
        return r

    @staticmethod
    def streaming(c, gate, fields):
        """The handler sends what it reads."""
        r = c.start(c.fields("POST", "/t/echo", fields), end=False)
        return c.wait_headers(r)

    @staticmethod
    def running(c, gate, fields):
        """The handler has sent a part, and goes on without the body."""
        path = "/t/trickle?n=2&size=5&gate=%d" % gate
        r = c.start(c.fields("POST", path, fields), end=False)
        return c.wait_body(r, 5)

    @staticmethod
    def held(c, gate, fields):
        """The handler is done; ten bytes came, the others wait."""
        r = c.start(c.fields("POST", "/t/big?n=1000", fields), end=False)
        return c.wait_body(r, 10)


LATE = pytest.mark.h2x_only("resets a response when trailers come late")

ANSWERS = pytest.mark.parametrize("answer", [
    n for n in vars(Answer) if not n.startswith("_")])


def begin(c, gate, answer, *fields):
    return getattr(Answer, answer)(c, gate, list(fields))


def length(n):
    return "content-length", str(n)


def spoiled(c, r):
    """The response is cut off with PROTOCOL_ERROR, however far it was, and
    nothing of it comes later."""
    c.pump(lambda: r.reset is not None or c.goaways)
    c.release()
    if c.goaways:
        connection_error(c, PROTOCOL_ERROR)
        return
    assert r.reset == PROTOCOL_ERROR and not r.ended, r
    seen = len(r.body), len(r.headers)
    c.credit(1 << 20)
    unharmed(c)
    assert (len(r.body), len(r.headers)) == seen


def whole(c, r):
    """The response is delivered, whatever came after it began."""
    c.release()
    c.credit(100000, r.id)
    c.wait(r)
    assert (r.status, r.ended) == (200, True), r
    assert r.reset in (None, NO_ERROR)
    unharmed(c)


# --- 8.1.1: content-length --------------------------------------------------


@LATE
@ANSWERS
@pytest.mark.parametrize("announced,sent", [(10, 0), (10, 9), (1, 0)])
@pytest.mark.parametrize("end", ["data", "empty-data", "trailers"])
def test_8_1_1_less_than_content_length(narrow, gate, answer, announced,
                                        sent, end):
    r = begin(narrow, gate, answer, length(announced))
    if end == "data":
        narrow.data(r.id, b"x" * sent, end=True)
    else:
        narrow.data(r.id, b"x" * sent)
        if end == "trailers":
            narrow.trailers(r.id, [("x-trailer", "1")])
        else:
            narrow.data(r.id, b"", end=True)
    spoiled(narrow, r)


@ANSWERS
@pytest.mark.parametrize("announced,sent", [(10, 11), (1, 2), (10, 20000)])
@pytest.mark.parametrize("end", [True, False])
def test_8_1_1_more_than_content_length(narrow, gate, answer, announced, sent,
                                        end):
    """It shows before the end of the request."""
    r = begin(narrow, gate, answer, length(announced))
    narrow.data(r.id, b"x" * sent, end=end)
    spoiled(narrow, r)


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("answer", ["none", "none_unread", "running", "held"])
def test_8_1_1_more_than_0(narrow, gate, answer, end):
    """A handler that reads is at the end of its body at once: "none" has an
    answer here, which waits for its window."""
    r = begin(narrow, gate, answer, length(0))
    narrow.data(r.id, b"x", end=end)
    spoiled(narrow, r)


@pytest.mark.h2x_only("has answered by then")
@ANSWERS
def test_8_1_1_more_in_a_later_frame(narrow, gate, answer):
    r = begin(narrow, gate, answer, length(10))
    narrow.data(r.id, b"0123456789")
    narrow.ping()
    assert r.reset is None
    narrow.data(r.id, b"x")
    spoiled(narrow, r)


@ANSWERS
def test_8_1_1_padding_is_no_content(narrow, gate, answer):
    """Nor are empty frames."""
    r = begin(narrow, gate, answer, length(4))
    narrow.data(r.id)
    narrow.raw_frame(DATA, PADDED, r.id, b"\x0512\0\0\0\0\0")
    narrow.raw_frame(DATA, PADDED, r.id, b"\x05\0\0\0\0\0")
    narrow.raw_frame(DATA, PADDED | END_STREAM, r.id, b"\x0034")
    whole(narrow, r)


@LATE
@ANSWERS
def test_8_1_1_content_length_that_is_right(narrow, gate, answer):
    r = begin(narrow, gate, answer, length(20000))
    narrow.data(r.id, b"x" * 12000)
    narrow.data(r.id, b"x" * 8000)
    narrow.trailers(r.id, [("x-trailer", "1")])
    whole(narrow, r)


@ANSWERS
def test_8_1_1_content_length_0(narrow, gate, answer):
    r = begin(narrow, gate, answer, length(0))
    narrow.data(r.id)
    narrow.data(r.id, end=True)
    whole(narrow, r)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_8_1_1_content_length_without_content(conn, method):
    """END_STREAM comes with the head."""
    r = conn.start(conn.fields(method, "/t/env", [length(1)]), end=True)
    malformed(conn, r)
    assert not r.headers or r.status == 400
    r = conn.start(conn.fields(method, "/t/env", [length(0)]), end=True)
    assert conn.wait(r).status == 200


@pytest.mark.parametrize("values", [("4", "5"), ("5", "4"), ("4", "4", "5"),
                                    ("4, 5",), ("4,5",), ("4", "")])
def test_8_1_1_different_content_lengths(server, conn, values):
    before = inside.counters(server)["handled"]
    r = conn.start(conn.fields("POST", "/t/upload",
                               [("content-length", v) for v in values]),
                   end=False)
    conn.data(r.id, b"1234", end=True)
    malformed(conn, r)
    assert inside.counters(server)["handled"] <= before + 1  # of unharmed()


@pytest.mark.parametrize("values", [("4", "4"), ("4, 4",)])
def test_8_1_1_equal_content_lengths(conn, values):
    """May be taken for one, or be refused (RFC 9110, 8.6)."""
    r = conn.start(conn.fields("POST", "/t/upload",
                               [("content-length", v) for v in values]),
                   end=False)
    conn.data(r.id, b"1234", end=True)
    conn.pump(lambda: r.done or conn.goaways)
    if r.status == 200:
        assert r.text.startswith("length 4\n")
        unharmed(conn)
    else:
        malformed(conn, r)


@pytest.mark.parametrize("value", ["", " ", "-1", "+4", "4 ", " 4", "0x4",
                                   "4.0", "4e0", "four", "4;", "1_0",
                                   "18446744073709551620", "9" * 40])
def test_8_1_1_content_length_that_is_none(conn, value):
    r = conn.start(conn.fields("POST", "/t/upload",
                               [("content-length", value)]), end=False)
    conn.data(r.id, b"1234", end=True)
    malformed(conn, r)


@pytest.mark.parametrize("sent", [0, 3, 5])
def test_8_1_1_all_in_one_write(conn, sent):
    """Head and body arrive together: no response but an error."""
    for path in ("/t/upload", "/t/ignore", "/t/echo", "/index.html"):
        stream_id = conn.new_id()
        r = conn.streams[stream_id] = h2raw.Response(stream_id)
        block = conn.encode(conn.fields("POST", path, [length(4)]))
        conn.raw(len(block).to_bytes(3, "big") + bytes([HEADERS, END_HEADERS])
                 + u32(stream_id) + block
                 + sent.to_bytes(3, "big") + bytes([DATA, END_STREAM])
                 + u32(stream_id) + b"x" * sent)
        malformed(conn, r)


def test_8_1_1_others_go_on(conn):
    """Uploads whose length is wrong, among others that are right."""
    asked = []
    for _ in range(6):
        r = conn.start(conn.fields("POST", "/t/upload", [length(10)]),
                       end=False)
        asked.append(r)
        conn.data(r.id, b"x" * 5)
    conn.data(asked[2].id, b"x" * 4, end=True)
    conn.data(asked[4].id, b"x" * 6, end=True)
    good = asked[:2] + [asked[3], asked[5]]
    for r in good:
        conn.data(r.id, b"x" * 5, end=True)
    conn.wait(*asked)
    assert all(r.text.startswith("length 10\n") for r in good)
    malformed(conn, asked[2])
    malformed(conn, asked[4])


# --- 8.1: trailers ----------------------------------------------------------


@LATE
@ANSWERS
@pytest.mark.parametrize("body", [0, 4])
def test_8_1_trailers(narrow, gate, answer, body):
    """They end the request; a response under way is delivered."""
    r = begin(narrow, gate, answer)
    if body:
        narrow.data(r.id, b"x" * body)
    narrow.trailers(r.id, [("x-trailer", "1"), ("x-other", "2" * 100)])
    whole(narrow, r)


@LATE
@ANSWERS
def test_8_1_trailers_in_pieces(narrow, gate, answer):
    """With padding, priority and CONTINUATION."""
    r = begin(narrow, gate, answer)
    blocks = pieces(narrow.encode([("x-trailer", "3" * 50)]), 3)
    narrow.raw_frame(HEADERS, END_STREAM | PADDED | WITH_PRIORITY, r.id,
                     b"\2" + u32(0) + b"\0" + blocks[0] + b"\0\0")
    narrow.raw_frame(CONTINUATION, 0, r.id, blocks[1])
    narrow.raw_frame(CONTINUATION, END_HEADERS, r.id, blocks[2])
    whole(narrow, r)


@ANSWERS
def test_8_1_no_trailers_but_their_frame(narrow, gate, answer):
    """An empty field block."""
    r = begin(narrow, gate, answer)
    headers(narrow, r.id, [])
    whole(narrow, r)


BAD_TRAILERS = {
    "path": [(":path", "/x")],
    "method-behind": [("x-trailer", "1"), (":method", "GET")],
    "status": [(":status", "200")],
    "scheme": [(":scheme", "https")],
    "authority": [(":authority", "localhost")],
    "unknown-pseudo": [(":x", "1")],
    "upper-case": [("X-Trailer", "1")],
    "connection": [("connection", "close")],
    "transfer-encoding": [("transfer-encoding", "chunked")],
    "newline": [("x-trailer", "a\nb")],
    "nul": [("x-trailer", "a\0")],
    "name": [("x trailer", "a")],
}


@LATE
@ANSWERS
@pytest.mark.parametrize("name", sorted(BAD_TRAILERS))
def test_8_1_malformed_trailers(narrow, gate, answer, name):
    """8.2, 8.3: pseudo-header fields, and what no field may be."""
    r = begin(narrow, gate, answer)
    narrow.data(r.id, b"x")
    narrow.trailers(r.id, BAD_TRAILERS[name])
    spoiled(narrow, r)


@LATE
@ANSWERS
@pytest.mark.parametrize("fields", [[], [("x-trailer", "1")]],
                         ids=["none", "one"])
def test_8_1_trailers_without_end_stream(narrow, gate, answer, fields):
    r = begin(narrow, gate, answer)
    narrow.data(r.id, b"x")
    headers(narrow, r.id, fields, END_HEADERS)
    spoiled(narrow, r)


@LATE
@pytest.mark.parametrize("then", ["data", "trailers"])
@pytest.mark.parametrize("answer", ["none", "none_unread", "running", "held"])
def test_8_1_nothing_after_trailers(narrow, gate, answer, then):
    """The stream is half-closed (5.1); no response was over by then."""
    r = begin(narrow, gate, answer)
    narrow.trailers(r.id, [("x-trailer", "1")])
    if then == "data":
        narrow.data(r.id, b"x", end=True)
    else:
        narrow.trailers(r.id, [("x-trailer", "2")])
    narrow.pump(lambda: r.done or narrow.goaways)
    if narrow.goaways:
        narrow.release()
        connection_error(narrow, STREAM_CLOSED)
    else:
        assert r.reset == STREAM_CLOSED and not r.ended, r
        narrow.release()
        unharmed(narrow)


@pytest.mark.h2x_only("drops a field in place of the request")
@pytest.mark.parametrize("name", sorted(BAD_TRAILERS) + ["no-end"])
def test_8_1_bad_trailers_in_one_write(conn, name):
    """Head, body and trailers arrive together: no response but an error."""
    for path in ("/t/upload", "/t/ignore", "/t/show-trailers"):
        stream_id = conn.new_id()
        r = conn.streams[stream_id] = h2raw.Response(stream_id)
        block = conn.encode(conn.fields("POST", path))
        last = conn.encode(BAD_TRAILERS.get(name, []))
        flags = END_HEADERS | (0 if name == "no-end" else END_STREAM)
        conn.raw(len(block).to_bytes(3, "big") + bytes([HEADERS, END_HEADERS])
                 + u32(stream_id) + block
                 + b"\0\0\1" + bytes([DATA, 0]) + u32(stream_id) + b"x"
                 + len(last).to_bytes(3, "big") + bytes([HEADERS, flags])
                 + u32(stream_id) + last)
        conn.pump(lambda: r.done or conn.goaways)
        if conn.goaways:
            connection_error(conn, PROTOCOL_ERROR)
            return
        assert r.reset == PROTOCOL_ERROR and r.status in (None, 400), r
    unharmed(conn)


# --- 8.1: responses ---------------------------------------------------------
#
# That they are well-formed is checked on each connection, see conduct().


@pytest.mark.h2x_only("passes Proxy-Connection on")
@pytest.mark.parametrize("path,status", [
    ("/index.html", 200), ("/t/status?code=204", 204),
    ("/t/status?code=304", 304), ("/none", 404), ("/t/interim?n=3", 200),
    ("/t/trailers", 200), ("/t/trailers?body=0", 200),
    ("/t/big?n=100000", 200), ("/t/fields?kind=hop", 200),
    ("/t/fields?kind=odd", 200),
    ("/t/fields?kind=many&n=30&size=1000", 200)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_8_1_responses(conn, method, path, status):
    """Interim ones without END_STREAM, one that is final, its trailers with
    END_STREAM; no DATA where there is no content."""
    r = conn.start(conn.fields(method, path))
    conn.wait(r)
    assert (r.status, r.ended, r.reset) == (status, True, None)
    heads = [f for f in conn.frames if isinstance(f, h2raw.HeadersFrame)]
    expected = len(r.interim) + 1 + (r.trailers is not None)
    assert len(heads) == expected
    for f in heads[:len(r.interim)]:
        assert "END_STREAM" not in f.flags
    if method == "HEAD" or status in (204, 304):
        assert not r.body
    unharmed(conn)


def test_8_1_early_answer(conn):
    """A response that needs no more of the request: RST_STREAM may follow,
    with NO_ERROR, but only behind its end."""
    for size in (0, 10, 10000):
        r = conn.start(conn.fields("POST", "/t/ignore", [length(20000)]),
                       end=False)
        conn.data(r.id, b"x" * size)
        conn.until(lambda: r.reset is not None, what="RST_STREAM")
        assert r.text == "ignored\n" and r.ended and r.reset == NO_ERROR
        conn.data(r.id, b"x" * (20000 - size), end=True)
    unharmed(conn)


@pytest.mark.parametrize("rest", ["mismatch", "bad-trailers", "no-end"])
def test_8_1_early_answer_is_kept(conn, rest):
    """The response was complete before the rest of the request turned out
    to be malformed: that says nothing about it."""
    r = conn.start(conn.fields("POST", "/t/ignore", [length(10)]), end=False)
    conn.until(lambda: r.reset is not None, what="RST_STREAM")
    if rest == "mismatch":
        conn.data(r.id, b"x" * 20, end=True)
    elif rest == "bad-trailers":
        conn.trailers(r.id, [(":path", "/")])
    else:
        headers(conn, r.id, [("x-trailer", "1")], END_HEADERS)
    unharmed(conn)
    assert r.text == "ignored\n" and r.ended and r.reset == NO_ERROR


def test_8_1_request_in_tiny_frames(conn):
    """One byte each."""
    r = conn.start(conn.fields("POST", "/t/upload", [length(300)]), end=False)
    for i in range(300):
        conn.raw_frame(DATA, END_STREAM if i == 299 else 0, r.id, b"x")
    assert conn.wait(r).text.startswith("length 300\n")


# --- 8.5 --------------------------------------------------------------------


@pytest.mark.parametrize("fields", [
    [(":scheme", "https")], [(":path", "/")],
    [(":scheme", "https"), (":path", "/")]],
    ids=["scheme", "path", "both"])
def test_8_5_connect_with_more(conn, fields):
    """:scheme and :path are not for CONNECT."""
    r = conn.start([(":method", "CONNECT"), (":authority", "localhost:80")]
                   + fields, end=False)
    malformed(conn, r)


@pytest.mark.parametrize("authority", [None, ""])
def test_8_5_connect_without_authority(conn, authority):
    fields = [(":method", "CONNECT")]
    if authority is not None:
        fields.append((":authority", authority))
    r = conn.start(fields, end=False)
    malformed(conn, r)


def test_8_5_connect_is_refused(conn):
    """A server that is no proxy says so; nothing is malformed."""
    r = conn.start([(":method", "CONNECT"), (":authority", "localhost:80")],
                   end=False)
    conn.wait(r)
    assert r.status in (400, 403, 404, 405, 501)
    assert r.reset in (None, NO_ERROR)
    unharmed(conn)


@pytest.mark.parametrize("host", ["localhost:80", "localhost", "other:80",
                                  ":80", ""])
def test_8_5_connect_with_host(conn, host):
    """Whatever it says, the answer is the same as without it, or 400."""
    r = conn.start([(":method", "CONNECT"), (":authority", "localhost:80"),
                    ("host", host)], end=False)
    conn.wait(r)
    assert (r.reset == PROTOCOL_ERROR if not host
            else r.status in (400, 403, 404, 405, 501))
    unharmed(conn)
