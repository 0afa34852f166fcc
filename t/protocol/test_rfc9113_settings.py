"""RFC 9113, section 6.5: SETTINGS, at the start and later."""

import pytest

from lib import h2raw, inside
from lib.conform import (  # noqa: F401
    ACK, CONTINUATION, DATA, HEADERS, NARROW, SETTINGS, conn, connection,
    connection_error, files, gate, pytest_generate_tests, setting, unharmed)
from lib.h2raw import (
    ENABLE_PUSH, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE, PROTOCOL_ERROR)

CONFIG = ""

MOST = (1 << 31) - 1


def send(c, *values):
    """One SETTINGS frame; values are pairs, in order, repeated or not."""
    c.raw_frame(SETTINGS, 0, 0, b"".join(setting(*v) for v in values))


def acked(c, count):
    c.until(lambda: c.settings_acked >= count, what="ACK")
    c.ping()
    assert c.settings_acked == count


# --- 6.5.3: acknowledgement -----------------------------------------------


def test_6_5_3_each_is_acknowledged(conn):
    """Once each, with nothing in it; the first one is of the preface."""
    acked(conn, 1)
    for _ in range(5):
        send(conn)
    send(conn, (MAX_FRAME_SIZE, 20000))
    acked(conn, 7)
    acks = [head for head, f in zip(conn.heads, conn.frames)
            if head[1] == SETTINGS and head[2] & ACK]
    assert all(length == 0 for length, _, _, _ in acks)
    unharmed(conn)


def test_6_5_3_ack_is_not_acknowledged(server):
    with connection(server, ack=False) as c:
        c.until(lambda: c.settings_seen, what="SETTINGS")
        acked(c, 1)
        c.raw_frame(SETTINGS, ACK, 0)
        acked(c, 1)
        unharmed(c)


def test_6_5_3_server_works_unacknowledged(server):
    """A client that is slow to acknowledge loses nothing."""
    with connection(server, ack=False) as c:
        for _ in range(10):
            r = c.request("POST", "/t/echo", body=b"x" * 1000)
            assert len(r.body) == 1000


@pytest.mark.parametrize("payload", [setting(INITIAL_WINDOW_SIZE, 1000),
                                     b"?", b"\0" * 12])
def test_6_5_ack_with_payload(conn, payload):
    conn.raw_frame(SETTINGS, ACK, 0, payload)
    connection_error(conn, FRAME_SIZE_ERROR)


# --- 6.5.2: values ----------------------------------------------------------

BAD = [
    (ENABLE_PUSH, 2, PROTOCOL_ERROR),
    (ENABLE_PUSH, 0xffffffff, PROTOCOL_ERROR),
    (INITIAL_WINDOW_SIZE, 1 << 31, FLOW_CONTROL_ERROR),
    (INITIAL_WINDOW_SIZE, 0xffffffff, FLOW_CONTROL_ERROR),
    (MAX_FRAME_SIZE, 0, PROTOCOL_ERROR),
    (MAX_FRAME_SIZE, 16383, PROTOCOL_ERROR),
    (MAX_FRAME_SIZE, 1 << 24, PROTOCOL_ERROR),
    (MAX_FRAME_SIZE, 0xffffffff, PROTOCOL_ERROR),
]

GOOD = [
    (HEADER_TABLE_SIZE, 0), (HEADER_TABLE_SIZE, 1),
    (HEADER_TABLE_SIZE, 0xffffffff),
    (ENABLE_PUSH, 0), (ENABLE_PUSH, 1),
    (MAX_CONCURRENT_STREAMS, 0), (MAX_CONCURRENT_STREAMS, 0xffffffff),
    pytest.param(INITIAL_WINDOW_SIZE, 0, marks=pytest.mark.h2x_only(
        "may send no head while the window is 0")),
    (INITIAL_WINDOW_SIZE, MOST),
    (MAX_FRAME_SIZE, 16384), (MAX_FRAME_SIZE, (1 << 24) - 1),
    (MAX_HEADER_LIST_SIZE, 0), (MAX_HEADER_LIST_SIZE, 0xffffffff),
]

WHEN = pytest.mark.parametrize("when", ["first", "later", "busy"])


def at_some_time(c, when, gate, values):
    """As the first SETTINGS, later, or while requests run."""
    if when == "first":
        c.raw(h2raw.PREFACE)
    else:
        c.greet(NARROW)
        c.ping()
    if when == "busy":
        c.get("/t/wait?gate=%d" % gate)
        c.wait_body(c.get("/t/big?n=1000"), 10)
    send(c, *values)


@WHEN
@pytest.mark.parametrize("number,value,code", BAD)
@pytest.mark.parametrize("among", [False, True])
def test_6_5_2_bad_value(server, gate, when, number, value, code, among):
    """Alone, and between good ones."""
    values = [(number, value)]
    if among:
        values = [(0x0a0a, 7)] + values + [(HEADER_TABLE_SIZE, 4096)]
    with connection(server, greet=False, windows=False) as c:
        c.release = lambda: inside.open_gate(server, gate)
        at_some_time(c, when, gate, values)
        connection_error(c, code)


@WHEN
@pytest.mark.parametrize("number,value", GOOD)
def test_6_5_2_good_value(server, gate, when, number, value):
    """From one end of the allowed range to the other."""
    with connection(server, greet=False, windows=False,
                    settings={ENABLE_PUSH: 1}) as c:
        at_some_time(c, when, gate, [(number, value)])
        c.credit(1 << 20)
        acked(c, 1 if when == "first" else 2)
        if number == HEADER_TABLE_SIZE:
            c.decoder.max_allowed_table_size = value
        for _ in range(2):
            unharmed(c)
        inside.open_gate(server, gate)
        for r in list(c.streams.values()):
            if not r.done:
                if (number, value) != (INITIAL_WINDOW_SIZE, MOST):
                    c.credit(1000, r.id)
                assert c.wait(r).status == 200


@pytest.mark.parametrize("number", [0, 7, 10, 0x0a0a, 0xf000, 0xffff])
@pytest.mark.parametrize("value", [0, 1, 0xffffffff])
def test_6_5_2_unknown_settings(conn, number, value):
    """5.5 too."""
    send(conn, (number, value), (number, value), (MAX_FRAME_SIZE, 16384))
    acked(conn, 2)
    unharmed(conn)


def test_6_5_3_values_in_order(server):
    """Of several in one frame the last one counts."""
    with connection(server, settings=NARROW, windows=False) as c:
        send(c, (INITIAL_WINDOW_SIZE, 500), (MAX_FRAME_SIZE, 20000),
             (INITIAL_WINDOW_SIZE, 20), (MAX_FRAME_SIZE, 16384))
        acked(c, 2)
        r = c.wait_body(c.get("/t/big?n=1000"), 20)
        c.ping()
        assert len(r.body) == 20


# --- 6.5.2: they are honoured, later too ----------------------------------


def test_6_5_2_max_frame_size_changes(server):
    """For DATA and for heads; after the ACK no frame is larger."""
    with connection(server, settings={MAX_FRAME_SIZE: 60000,
                                      INITIAL_WINDOW_SIZE: 1 << 24}) as c:
        path = "/t/fields?kind=many&n=9&size=4000"
        for most, count in ((60000, 2), (16384, 3), (40000, 4), (16384, 5)):
            if count > 2:
                send(c, (MAX_FRAME_SIZE, most))
                acked(c, count - 1)
            before = len(c.heads)
            c.credit(1 << 20)
            assert len(c.request(path="/t/big?n=200000").body) == 200000
            assert c.request(path=path).status == 200
            sizes = [head[0] for head in c.heads[before:]
                     if head[1] in (DATA, HEADERS, CONTINUATION)]
            assert max(sizes) <= most


@pytest.mark.parametrize("value", [0, 1, 100])
def test_6_5_2_max_header_list_size_is_advisory(server, value):
    """A response above it comes all the same, or another, but comes."""
    with connection(server, settings={MAX_HEADER_LIST_SIZE: value}) as c:
        r = c.request(path="/t/fields?kind=many&n=10&size=50")
        assert r.ended and r.status in (200, 500)
        unharmed(c)


def test_6_5_2_no_push_when_disabled(httpd):
    """6.6, 8.4: not even what a handler asks for."""
    config = ("H2Push on\nH2PushResource /pushed.txt\n"
              "Header add Link \"</linked.txt>;rel=preload\"")
    with httpd(config, "headers") as server:
        server.write("index.html", "hello\n")
        for settings in ({ENABLE_PUSH: 0}, {ENABLE_PUSH: 1}):
            with connection(server, settings=settings) as c:
                if settings[ENABLE_PUSH]:
                    send(c, (ENABLE_PUSH, 0))
                    acked(c, 2)
                    c.push = False
                assert c.request(path="/index.html").status == 200
                unharmed(c)
                assert not c.promises
        with connection(server, settings={ENABLE_PUSH: 1}) as c:
            assert len(c.wait_pushed(c.get("/index.html"))) == 2


# --- 6.5.1, 4.3.1: the table of the encoder -------------------------------


def updates(block):
    """Dynamic table size updates at the start of a field block."""
    found, at = [], 0
    while at < len(block) and block[at] >> 5 == 1:
        value, at, shift = block[at] & 31, at + 1, 0
        while value >= 31 and at:
            value += (block[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if block[at - 1] < 128:
                break
        found.append(value)
    return found


def last_block(c):
    return c.blocks[-1][1]


def same(first, again):
    """Two heads, which may be of two seconds."""
    def undated(r):
        return [field for field in r.headers if field[0] != "date"]
    return undated(first) == undated(again)


@pytest.mark.parametrize("size", [0, 31, 100, 1000, 4095])
def test_4_3_1_table_is_made_smaller(server, size):
    """RFC 7541, 4.2: the next field block begins with an update; what is
    in the table is dropped."""
    with connection(server) as c:
        for _ in range(3):
            assert c.request(path="/t/fields?kind=odd").status == 200
        send(c, (HEADER_TABLE_SIZE, size))
        acked(c, 2)
        c.decoder.max_allowed_table_size = size
        first = c.request(path="/t/fields?kind=odd")
        found = updates(last_block(c))
        assert found and min(found) <= size and found[-1] <= size
        again = c.request(path="/t/fields?kind=odd")
        assert same(first, again)
        assert updates(last_block(c)) == []
        assert c.decoder.header_table_size <= size
        unharmed(c)


@pytest.mark.parametrize("sizes", [(0, 4096), (100, 2000), (4096, 0, 4096),
                                   (0, 65536), (50, 10, 1000)])
@pytest.mark.parametrize("frames", [1, 2])
def test_4_3_1_smallest_size_is_told(server, sizes, frames):
    """RFC 7541, 4.2: of several changes between two field blocks, also the
    smallest one, as the decoder has dropped entries for it."""
    with connection(server) as c:
        assert c.request(path="/t/fields?kind=odd").status == 200
        if frames == 1:
            send(c, *[(HEADER_TABLE_SIZE, size) for size in sizes])
        else:
            for size in sizes:
                send(c, (HEADER_TABLE_SIZE, size))
        acked(c, 2 if frames == 1 else 1 + len(sizes))
        c.decoder.max_allowed_table_size = sizes[-1]
        first = c.request(path="/t/fields?kind=odd")
        found = updates(last_block(c))
        assert 1 <= len(found) <= 2 and found[0] <= min(sizes)
        assert found[-1] <= sizes[-1]
        again = c.request(path="/t/fields?kind=odd")
        assert same(first, again)


def test_4_3_1_larger_table_needs_no_update(server):
    """It may be used, or not."""
    with connection(server, settings={HEADER_TABLE_SIZE: 65536}) as c:
        c.decoder.max_allowed_table_size = 65536
        acked(c, 1)
        for _ in range(3):
            r = c.request(path="/t/fields?kind=many&n=20&size=300")
            assert r.status == 200 and len(r.all("x-many-19")) == 1


def test_4_3_1_change_while_responses_are_sent(server):
    """Many times, with streams under way: the tables stay in step."""
    with connection(server, settings=NARROW, windows=False) as c:
        c.decoder.max_allowed_table_size = 4096
        for i in range(50):
            size = (0, 4096, 200, 60, 4096)[i % 5]
            r = c.get("/t/fields?kind=odd&i=%d" % i)
            c.wait_headers(r)
            send(c, (HEADER_TABLE_SIZE, size))
            acked(c, i + 2)
            c.credit(1000, r.id)
            c.wait(r)
            assert r.header("x-upper-case") == "Mixed Case Kept"
            c.credit(1000)
