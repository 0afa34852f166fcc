"""Flow control both ways, streaming, and memory that stays bounded."""

import pytest

from lib import h2raw, inside
from lib.server import SANITIZE, wait_for

CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
H2MaxSessionStreams 200
"""
MODULES = "cgid alias"


def files(server):
    server.write("index.html", "hello\n")
    server.write("file", bytes(range(251)) * 1000)
    server.write("cgi/zeros", "#!/bin/sh\n"
                 "printf 'Content-Type: application/x\\n\\n'\n"
                 "exec head -c \"$QUERY_STRING\" /dev/zero\n", 0o755)


FILE = bytes(range(251)) * 1000
ALPHABET = (b"abcdefghijklmnopqrstuvwxyz" * 10000)[:251000]
WAYS = pytest.mark.parametrize(
    "path,whole", [("/file", FILE), ("/t/big?n=251000", ALPHABET)],
    ids=["file", "memory"])


@pytest.mark.h2x_only("may send no head while the window is 0")
@WAYS
@pytest.mark.parametrize("step", [1, 1000, 16384, 60000])
def test_stream_window(server, path, whole, step):
    """The stream's window starts at 0 and is opened piece by piece."""
    with server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: 0},
                   windows=False) as c:
        c.credit(1 << 20)
        r = c.wait_headers(c.get(path))
        assert r.status == 200 and not r.body
        c.ping()
        assert not r.body
        count = 20 if step == 1 else len(whole) // step + 1
        for i in range(1, count + 1):
            c.credit(step, r.id)
            c.wait_body(r, min(i * step, len(whole)))
            assert len(r.body) <= i * step
        if step == 1:
            c.credit(1 << 20, r.id)
        c.wait(r)
        assert bytes(r.body) == whole


@WAYS
def test_connection_window(server, path, whole):
    """65,535 bytes for all streams together, whatever theirs are."""
    with server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 20},
                   windows=False) as c:
        asked = [c.get(path) for _ in range(3)]

        def total():
            return sum(len(r.body) for r in asked)
        c.until(lambda: total() == 65535, what="65,535 bytes")
        c.ping()
        assert total() == 65535
        c.credit(100)
        c.until(lambda: total() == 65635, what="100 bytes more")
        c.ping()
        assert total() == 65635
        c.credit(1 << 20)
        c.wait(*asked)
        assert all(bytes(r.body) == whole for r in asked)


def test_window_changed_by_settings(server):
    """RFC 9113, 6.9.2: it applies to open streams, and may go below 0."""
    with server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: 20000},
                   windows=False) as c:
        c.credit(1 << 20)
        r = c.wait_body(c.get("/file"), 20000)
        c.settings({h2raw.INITIAL_WINDOW_SIZE: 1000})     # -19,000
        c.credit(18000, r.id)                             # -1,000
        c.ping()
        assert len(r.body) == 20000
        c.settings({h2raw.INITIAL_WINDOW_SIZE: 7000})     # 5,000
        c.wait_body(r, 25000)
        c.ping()
        assert len(r.body) == 25000
        c.credit(1 << 20, r.id)
        assert bytes(c.wait(r).body) == FILE


def test_one_stream_stalled(server):
    """A stream without window does not hold the others up."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 10}) as c:
        c.credit(1 << 20)
        stalled = c.wait_body(c.get("/file"), 10)
        for _ in range(5):
            r = c.get("/index.html")
            assert c.wait(r).text == "hello\n"
        c.credit(1 << 20, stalled.id)
        assert bytes(c.wait(stalled).body) == FILE


@pytest.mark.parametrize("size,most", [(None, 16384), (20000, 20000)])
def test_frame_size(server, size, most):
    """No frame is larger than the client's SETTINGS_MAX_FRAME_SIZE."""
    settings = {h2raw.INITIAL_WINDOW_SIZE: 1 << 20}
    if size:
        settings[h2raw.MAX_FRAME_SIZE] = size
    with server.h2(settings=settings) as c:
        r = c.request(path="/file")
        assert bytes(r.body) == FILE
        assert max(map(len, r.pieces)) <= most


# --- uploads ----------------------------------------------------------

def test_echo_piece_by_piece(any_h2):
    """Each piece comes back before the next one is sent."""
    r = any_h2.start(any_h2.fields("POST", "/t/echo"), end=False)
    any_h2.wait_headers(r)
    sent = b""
    for i in range(20):
        piece = b"piece %d|" % i
        any_h2.data(r.id, piece)
        sent += piece
        any_h2.wait_body(r, len(sent))
        assert bytes(r.body) == sent and not r.done
    any_h2.data(r.id, b"", end=True)
    assert any_h2.wait(r).ended


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
def test_many_echoes(h2):
    """Twenty conversations on one connection."""
    asked = [h2.start(h2.fields("POST", "/t/echo"), end=False)
             for _ in range(20)]
    for step in range(1, 6):
        for r in asked:
            h2.data(r.id, b"0123456789")
        h2.until(lambda: all(len(r.body) == 10 * step for r in asked),
                 what="all echoes")
    for r in asked:
        h2.data(r.id, b"", end=True)
    h2.wait(*asked)
    assert all(r.ended and r.reset is None for r in asked)


def test_upload_is_held_back(server, h2):
    """A handler that does not read on: the window is not given back without
    end, other uploads go on, and all of it arrives when the handler reads."""
    slow = h2.start(h2.fields("POST", "/t/upload?gate=1"), end=False)
    h2.data(slow.id, b"x" * 1000)
    h2.ping()
    sent = 1000
    while sent < 20 << 20:
        room = min(h2.allowed(slow.id), 16384)
        if room <= 0:
            h2.ping()
            h2.idle(0.05)
            if h2.allowed(slow.id) <= 0:
                break
            continue
        h2.data(slow.id, b"x" * room)
        sent += room
    assert sent < 20 << 20, "all is taken for a handler that does not read"
    inside.open_gate(server, 1, 100000)
    h2.upload(slow, b"x" * (21000000 - sent))
    assert h2.wait(slow).text.startswith("length 21000000\n")


@pytest.mark.h2x_only("lets stalled uploads use up the connection's window")
def test_held_back_upload_leaves_room(server, h2):
    """The connection's window outlasts an upload that nobody reads."""
    slow = h2.start(h2.fields("POST", "/t/upload?gate=2"), end=False)
    while h2.allowed(slow.id) > 0:
        h2.data(slow.id, b"x" * min(h2.allowed(slow.id), 1 << 20))
        h2.ping()
    data = b"y" * 500000
    r = h2.request("POST", "/t/upload", body=data)
    assert r.text.startswith("length 500000\n")
    inside.open_gate(server, 2, 100000)
    h2.data(slow.id, b"", end=True)
    assert h2.wait(slow).status == 200


# --- event streams ----------------------------------------------------

@pytest.mark.parametrize("how", ["flush=1", pytest.param(
    "flush=0&pass=1", marks=pytest.mark.h2x_only("waits for a full buffer"))])
@pytest.mark.parametrize("size", [1, 10, 20000])
def test_trickle(server, h2, how, size):
    """Each event is there before the next one is made: the handler waits for
    the test, which waits for the event.  It is enough that the handler has
    passed its output on and goes idle."""
    inside.close_gates(server)
    r = h2.get("/t/trickle?n=5&size=%d&gate=4&%s" % (size, how))
    for i in range(1, 6):
        h2.wait_body(r, i * size)
        assert len(r.body) == i * size
        if i < 5:
            assert not r.ended
            inside.open_gate(server, 4)
    assert h2.wait(r).ended


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
def test_many_event_streams(server, h2):
    """Fifty at once, all in step."""
    inside.close_gates(server)
    asked = [h2.get("/t/trickle?n=4&gate=5") for _ in range(50)]
    for i in range(1, 5):
        h2.until(lambda: all(len(r.body) >= 10 * i for r in asked),
                 what="event %d of all" % i)
        assert all(len(r.body) == 10 * i for r in asked)
        if i < 4:
            inside.open_gate(server, 5)
    h2.wait(*asked)


def test_closed_event_stream(server, h2):
    """The client closes one: the handler ends, the connection stays."""
    inside.close_gates(server)
    mark = server.access_mark()
    r = h2.wait_body(h2.get("/t/trickle?n=1000&gate=6"), 10)
    h2.reset(r.id)
    inside.open_gate(server, 6, 1000)
    server.wait_access(1, since=mark, uri="/t/trickle")
    assert h2.request(path="/index.html").text == "hello\n"
    assert not h2.goaways


# --- memory -----------------------------------------------------------

REAL_MEMORY = pytest.mark.skipif(bool(SANITIZE), reason="a sanitizer's "
                                 "allocator keeps what is freed")


@REAL_MEMORY
@pytest.mark.h2x_only("takes resets of stalled streams for abuse")
@pytest.mark.parametrize("path", ["/t/big?n=200000000",
                                  "/cgi/zeros?200000000"])
def test_unread_response_is_bounded(server, path):
    """200 MB that the client does not read stay where they come from."""
    with server.h2(windows=False) as c:
        c.request(path="/index.html")
        r = c.wait_headers(c.get(path))
        c.wait_body(r, 60000)
        # The producer has run into its limit when the size is at rest.
        last = [server.rss(), 0]

        def at_rest():
            now = server.rss()
            last[1] = last[1] + 1 if now == last[0] else 0
            last[0] = now
            return last[1] > 20
        wait_for(at_rest, 20, "memory at rest")
        many = [c.get("/t/big?n=200000000") for _ in range(3)]
        before = last[0]
        wait_for(at_rest, 20, "memory at rest")
        assert last[0] - before < 8 << 20
        for x in [r] + many:
            c.reset(x.id)
        c.credit(1 << 20)
        assert c.request(path="/index.html", timeout=20).status == 200


@REAL_MEMORY
def test_first_unread_response_is_bounded(httpd):
    """The same for the first large response of a new child."""
    with httpd() as server:
        server.write("index.html", "hello\n")
        with server.h2(windows=False) as c:
            for _ in range(20):
                c.request(path="/index.html")
            before = server.rss()
            c.wait_body(c.get("/t/big?n=200000000"), 60000)
            for _ in range(50):
                c.ping()
            assert server.rss() - before < 8 << 20


@REAL_MEMORY
def test_large_upload_is_bounded(server):
    """50 MB through a reading handler."""
    with server.h2() as c:
        c.request("POST", "/t/upload", body=b"x" * (5 << 20))
        before = server.rss()
        c.request("POST", "/t/upload", body=b"x" * (50 << 20), timeout=60)
        assert server.rss() - before < 12 << 20


def test_ranges_share_a_descriptor(server):
    """A range each must not take a descriptor each."""
    server.write("ranges", bytes(range(256)) * 16000)
    wanted = "bytes=" + ",".join(
        "%d-%d" % (i * 20000, i * 20000 + 17000) for i in range(200))
    with server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: 0},
                   windows=False) as c:
        c.ping()
        before = server.descriptors()
        for _ in range(4):
            c.wait_headers(c.get("/ranges", {"range": wanted}))
        c.ping()
        assert server.descriptors() - before < 30
