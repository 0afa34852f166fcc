"""Priorities (RFC 9218): which request runs first, and whose DATA is sent.

What lies in buffers cannot be overtaken.  A client's own are not the server's
affair: clients that measure keep theirs small.
"""

import contextlib
import os
import random
import re
import socket
import struct
import threading

import pytest

from lib import h2raw, inside
from lib.backend import Backend
from lib.h2raw import DataFrame, HeadersFrame
from lib.server import wait_for

# x-say becomes the Priority field of a response, x-link its Link field.
CONFIG = """
<Location />
    Header set Priority "expr=%{req_novary:X-Say}" "expr=-n req_novary('X-Say')"
    Header set Link "expr=%{req_novary:X-Link}" "expr=-n req_novary('X-Link')"
</Location>
"""
MODULES = "headers"

pytestmark = pytest.mark.h2x_only("does not know RFC 9218")

NO_RFC7540_PRIORITIES = 9
PRIORITY_UPDATE = 0x10

MB = 1000000
LARGE = 10 * MB
SMALL = 100000

TLS = pytest.mark.parametrize("tls", [True, False])


def files(server):
    server.write("large", b"l" * LARGE)
    server.write("small", b"s" * SMALL)
    for i in range(20):
        server.write("part/%d" % i, b"%02d" % i * (SMALL // 2))


@contextlib.contextmanager
def client(server, tls=True, window=(1 << 31) - 1, **settings):
    """A connection whose windows hold all there is, or none of it, with a
    receive buffer of 512 KB, as Linux counts it."""
    values = {h2raw.INITIAL_WINDOW_SIZE: window}
    values.update((getattr(h2raw, k), v) for k, v in settings.items())
    with h2raw.Connection(server.connect(tls, receive=1 << 18), settings=values,
                          windows=False) as c:
        c.credit((1 << 31) - 1 - h2raw.DEFAULT_WINDOW)
        yield c
        c.abort()


def stuck(server, **settings):
    """A client that takes no DATA until open_windows()."""
    return client(server, window=0, **settings)


def open_windows(c, *responses):
    """All at once; and waits for the responses."""
    c.settings({h2raw.INITIAL_WINDOW_SIZE: 1 << 24})
    c.wait(*responses)


def get(c, path, priority=None, say=None, **fields):
    fields = [("x-" + k, v) for k, v in fields.items()]
    if priority is not None:
        fields.append(("priority", priority))
    if say is not None:
        fields.append(("x-say", say))
    return c.get(path, fields)


def heads(c, *responses):
    c.until(lambda: all(r.headers for r in responses), what="all heads")


def update(c, stream_id, value):
    payload = struct.pack(">L", stream_id) + value.encode()
    c.raw_frame(PRIORITY_UPDATE, payload=payload)


def data_of(frames, but=()):
    """Bytes of DATA of all streams, but some."""
    return sum(len(f.data) for f in frames if isinstance(f, DataFrame)
               and f.stream_id not in but)


def ended(c):
    """The streams, in the order of their ends."""
    return [f.stream_id for f in c.frames
            if isinstance(f, DataFrame) and "END_STREAM" in f.flags]


def runs(c):
    """Streams of the DATA frames, each row of the same one once."""
    found = []
    for f in c.frames:
        if isinstance(f, DataFrame) and f.data:
            if not found or found[-1] != f.stream_id:
                found.append(f.stream_id)
    return found


# --- what is announced and let pass --------------------------------------------------

def test_settings(any_h2):
    """RFC 9218, 2.1: in the first SETTINGS."""
    any_h2.request(path="/small")
    first = any_h2.frames[0]
    assert type(first) is h2raw.SettingsFrame and "ACK" not in first.flags
    assert first.settings[NO_RFC7540_PRIORITIES] == 1


def test_fields_are_for_all_hops(httpd):
    """RFC 9218, 5: the field goes to the backend, that of the response comes
    back."""
    seen = []

    def answer(request):
        seen.append(request.fields.get("priority"))
        request.conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
                             b"Priority: u=2\r\n\r\nok")
    with Backend(answer) as backend:
        config = "ProxyPass /back/ http://127.0.0.1:%d/\n" % backend.port
        with httpd(config, "proxy proxy_http") as server:
            with server.h2() as c:
                r = c.request(path="/back/", headers=[("priority", "u=6, i")])
    assert (r.text, r.header("priority")) == ("ok", "u=2")
    assert seen == ["u=6, i"]


# --- measured ------------------------------------------------------------------------

def downloads(c, count, priority=None):
    """Large files that are under way."""
    large = [get(c, "/large", priority) for _ in range(count)]
    heads(c, *large)
    c.until(lambda: data_of(c.frames) > MB, what="1 MB")
    assert not any(r.done for r in large)
    return large


@TLS
@pytest.mark.parametrize("background", ["u=7", "u=7, i"])
def test_urgent_overtakes(server, tls, background):
    """20 downloads of 10 MB at u=7 are under way: a response of 100 KB at u=0
    is whole before 3 MB more of them have come, and one of them that is
    raised to u=0 is whole before 5 MB more of the others have."""
    for _ in range(2):
        with client(server, tls) as c:
            large = downloads(c, 20, background)
            mark = len(c.frames)
            small = c.wait(get(c, "/small", "u=0"))
            assert len(small.body) == SMALL
            assert data_of(c.frames[mark:], [small.id]) < 3 * MB
            raised = large[10]
            mark = len(c.frames)
            update(c, raised.id, "u=0")
            c.wait(raised)
            assert len(raised.body) == LARGE
            assert data_of(c.frames[mark:], [raised.id]) < 5 * MB


@TLS
@pytest.mark.parametrize("priority", ["u=3, i", "i", "u=0, i", "u=7,i", None])
def test_even_shares(server, tls, priority):
    """While all four are under way.  Also of a client that says nothing."""
    with client(server, tls) as c:
        four = [get(c, "/large", priority) for _ in range(4)]
        c.until(lambda: all(r.body for r in four), what="DATA of all")
        before = [len(r.body) for r in four]
        c.until(lambda: sum(len(r.body) for r in four) - sum(before)
                > 10 * MB, what="10 MB")
        assert not any(r.done for r in four)
        shares = [len(r.body) - b for r, b in zip(four, before)]
    mean = sum(shares) / 4
    assert all(0.9 * mean < s < 1.1 * mean for s in shares), shares


@TLS
def test_silent_client(server, tls):
    """Who never signals gets fair shares: one big file does not block its
    equals."""
    with client(server, tls) as c:
        large, = downloads(c, 1)
        for _ in range(5):
            mark = len(c.frames)
            small = c.wait(get(c, "/small"))
            assert data_of(c.frames[mark:], [small.id]) < 3 * MB
        assert not large.done


class Drain(threading.Thread):
    """Reads as fast as it can, and looks at no more than heads of frames:
    `total` bytes have come; `ends` has what that was when streams ended."""

    def __init__(self, sock):
        super().__init__(daemon=True)
        self.sock, self.total, self.ends, self.error = sock, 0, {}, None

    def run(self):
        buf = bytearray(1 << 20)
        skip, rest = 0, b""
        while True:
            try:
                n = self.sock.recv_into(buf)
            except OSError as e:
                self.error = e
                return
            if not n:
                return
            self.total += n
            skip, rest = self.walk(memoryview(buf)[:n], skip, rest)

    def walk(self, data, skip, rest):
        """Returns how much of the next bytes is no head, and the part of a
        head that has come."""
        data = memoryview(rest + bytes(data)) if rest else data
        while len(data) - skip >= 9:
            high, low, kind, flags, stream_id = struct.unpack_from(
                ">BHBBL", data, skip)
            if kind == 0 and flags & 1:
                self.ends[stream_id] = self.total
            skip += 9 + (high << 16) + low
        if skip >= len(data):
            return skip - len(data), b""
        return 0, bytes(data[skip:])


def test_fast_client(server):
    """One that takes as fast as the server gives is listened to as well."""
    with client(server, tls=False) as c:
        for _ in range(20):
            get(c, "/large", "u=7")
        drain = Drain(c.sock)
        drain.start()
        behind = []
        for i in range(15):
            wait_for(lambda: drain.total > (i + 1) * LARGE or drain.error,
                     10, "%d MB" % (10 * i + 10), 0.0002)
            r = get(c, "/small", "u=0")
            mark = drain.total
            wait_for(lambda: r.id in drain.ends or drain.error, 10,
                     "a small file", 0.0002)
            assert not drain.error
            behind.append(drain.ends[r.id] - mark)
        c.sock.shutdown(socket.SHUT_RDWR)
        drain.join(c.timeout)
    assert max(behind) < 3 * MB, behind


# --- whose DATA is sent --------------------------------------------------------------

def test_one_after_the_other(server):
    """RFC 9218, 10: those that are not incremental, in the order of their
    ids; here the last one's head was the first."""
    with stuck(server) as c:
        asked = [get(c, "/part/%d" % i, "u=4") for i in range(6)]
        heads(c, *asked)
        open_windows(c, *asked)
        assert runs(c) == [r.id for r in asked]


def test_by_urgency(server):
    with stuck(server) as c:
        said = ["u=7", "u=1", "u=4, i", "u=0", "u=2", "u=5;x=1, y=(a b)", None,
                "u=6"]
        asked = [get(c, "/part/%d" % i, p) for i, p in enumerate(said)]
        heads(c, *asked)
        open_windows(c, *asked)
        wanted = [3, 1, 4, 6, 2, 5, 7, 0]
        assert runs(c) == [asked[i].id for i in wanted]
        for i, r in enumerate(asked):
            assert r.body == b"%02d" % i * (SMALL // 2)


def test_in_turn(server):
    with stuck(server) as c:
        asked = [get(c, "/part/%d" % i, "u=2, i") for i in range(4)]
        last = get(c, "/part/4", "u=3, i")
        heads(c, *asked, last)
        open_windows(c, *asked, last)
        assert len(runs(c)) >= 4 * 4
        assert set(runs(c)[:4]) == {r.id for r in asked}
        assert runs(c)[-1] == last.id and runs(c).count(last.id) == 1


@pytest.mark.parametrize("value", ["u=1,", "u=1 i", "U=1", "u=9", "u=?1",
                                   "u=1.0", "u=\"1\"", "\xff"])
def test_nonsense(server, value):
    """RFC 9218, 4: as if it were not there, in a field and in a frame."""
    with stuck(server) as c:
        plain = get(c, "/part/0", "u=3")
        odd = get(c, "/part/1", value.encode("latin-1"))
        less = get(c, "/part/2", "u=4")
        heads(c, plain, odd, less)
        c.raw_frame(PRIORITY_UPDATE, payload=struct.pack(">L", plain.id)
                    + value.encode("latin-1"))
        open_windows(c, plain, odd, less)
        assert ended(c)[-1] == less.id
        assert not c.goaways


def test_update(server):
    """It may come before the request, more than once, and counts more than
    the field; what it does not name is default."""
    with stuck(server) as c:
        update(c, 5, "u=0")
        update(c, 5, "u=1, i")
        update(c, 3, "u=6")
        one = get(c, "/part/0")
        three = get(c, "/part/1", "u=0")
        five = get(c, "/part/2", "u=7")
        seven = get(c, "/part/3", "u=1, i")
        heads(c, one, three, five, seven)
        update(c, one.id, "u=7")
        update(c, seven.id, "i")
        open_windows(c, one, three, five, seven)
        assert runs(c) == [five.id, seven.id, three.id, one.id]


def test_update_half_way(server):
    """Up and down again while it is sent."""
    with client(server, window=50000) as c:
        one = get(c, "/part/0", "u=1")
        two = get(c, "/part/1", "u=2")
        heads(c, one, two)
        c.wait_body(one, 50000)
        c.wait_body(two, 50000)
        update(c, two.id, "u=0")
        update(c, one.id, "u=5, i")
        open_windows(c, one, two)
        assert ended(c) == [two.id, one.id]


def test_update_of_what_is_over(server):
    with client(server) as c:
        done = c.wait(get(c, "/part/0"))
        reset = get(c, "/large")
        c.wait_headers(reset)
        c.reset(reset.id)
        update(c, done.id, "u=0")
        update(c, reset.id, "u=0")
        assert c.wait(get(c, "/part/1")).status == 200
        assert not c.goaways


@pytest.mark.parametrize("stream_id,payload,code", [
    (1, b"\0\0\0\1u=1", h2raw.PROTOCOL_ERROR),
    (0, b"\0\0\0\0u=1", h2raw.PROTOCOL_ERROR),
    (0, b"\0\0\0\2u=1", h2raw.PROTOCOL_ERROR),
    (0, b"\0\0\0", h2raw.FRAME_SIZE_ERROR)])
def test_update_that_is_wrong(server, h2, stream_id, payload, code):
    """RFC 9218, 7.1: on a stream, of stream 0, of a push that is idle."""
    h2.request(path="/small")
    h2.raw_frame(PRIORITY_UPDATE, stream_id=stream_id, payload=payload)
    h2.wait_closed()
    assert h2.goaway_code == code


def test_more_early_updates_than_streams(server):
    """RFC 9218, 7.1: they count as streams."""
    with server.h2() as c:
        c.request(path="/small")
        most = c.peer_settings[h2raw.MAX_CONCURRENT_STREAMS]
        for i in range(most):
            update(c, 2 * i + 3, "u=1")
        c.ping()
        assert not c.goaways
        update(c, 2 * most + 3, "u=1")
        c.wait_closed()
        assert c.goaway_code == h2raw.PROTOCOL_ERROR


# --- what a response says ------------------------------------------------------------

def test_response_field(server):
    """RFC 9218, 8: it counts more than the client's, where it says anything."""
    with stuck(server) as c:
        said = [("u=3", None), ("u=3", "u=7"), ("u=7", "u=0"),
                ("u=2", "i=?0, x"), ("u=5", "u=0,"), ("u=4", "u=9")]
        asked = [get(c, "/part/%d" % i, *p) for i, p in enumerate(said)]
        heads(c, *asked)
        open_windows(c, *asked)
        assert runs(c) == [asked[i].id for i in (2, 3, 0, 5, 4, 1)]
        assert asked[1].header("priority") == "u=7"
        assert asked[0].header("priority") is None


def test_response_field_keeps_incremental(server):
    with stuck(server) as c:
        asked = [get(c, "/part/%d" % i, "u=5, i", "u=1") for i in range(3)]
        plain = get(c, "/part/3", "u=3, i")
        heads(c, plain, *asked)
        open_windows(c, plain, *asked)
        assert len(runs(c)) >= 3 * 4 and runs(c)[-1] == plain.id


def test_update_after_response_field(server):
    with stuck(server) as c:
        one = get(c, "/part/0", "u=5", "u=1")
        two = get(c, "/part/1", "u=4")
        heads(c, one, two)
        update(c, one.id, "u=6")
        open_windows(c, one, two)
        assert runs(c) == [two.id, one.id]


# --- pushes --------------------------------------------------------------------------

LINK = "</part/9>; rel=preload"


@pytest.mark.parametrize("value,first", [(None, "page"), ("u=0", "push"),
                                         ("u=7", "page")])
def test_update_of_a_push(server, value, first):
    with stuck(server, ENABLE_PUSH=1) as c:
        page = get(c, "/part/0", "u=2", link=LINK)
        heads(c, page)
        push, = page.promises
        heads(c, push)
        if value:
            update(c, push.id, value)
        open_windows(c, page, push)
        ids = {"page": page.id, "push": push.id}
        assert runs(c)[0] == ids[first] and len(runs(c)) == 2


# --- RFC 7540's priorities -----------------------------------------------------------

def test_old_priorities(server):
    """RFC 9113, 5.3.2: they are read over, in whatever state the stream is."""
    with stuck(server) as c:
        def old(stream_id, depends_on, weight=255, exclusive=True):
            c.send(h2raw.PriorityFrame(stream_id, depends_on=depends_on,
                                       stream_weight=weight,
                                       exclusive=exclusive))
        for idle in range(1001, 1401, 2):
            old(idle, idle - 2)
        fields = c.fields(path="/part/0", headers=[("priority", "u=1")])
        one = c.start(fields, block=c.encode(fields))
        two = h2raw.Response(c.new_id())
        c.streams[two.id] = two
        c.send(HeadersFrame(
            two.id, c.encode(c.fields(path="/part/1",
                                      headers=[("priority", "u=2")])),
            depends_on=0, stream_weight=255, exclusive=True,
            flags=["END_HEADERS", "END_STREAM", "PRIORITY"]))
        heads(c, one, two)
        old(one.id, two.id)
        old(two.id, 0)
        open_windows(c, one, two)
        assert runs(c) == [one.id, two.id]
        old(one.id, two.id)
        old(one.id, 0)
        assert c.wait(get(c, "/part/2")).status == 200
        assert not c.goaways


# --- which request runs first --------------------------------------------------------

QUEUED = "H2MinWorkers 1\nH2MaxWorkers 1\n"


@pytest.fixture(scope="module")
def narrow(httpd):
    with httpd(QUEUED) as one:
        yield one


def handled(server):
    return inside.counters(server)["handled"]


@contextlib.contextmanager
def queue(server):
    """A connection, and the worker of the server, that are both busy until
    the block ends: what is asked for in it waits."""
    inside.close_gates(server)
    before = handled(server)
    with server.h2() as c:
        try:
            mine, workers = (c.get("/t/wait?gate=%d" % g) for g in (60, 61))
            wait_for(lambda: handled(server) == before + 2, 10, "both")
            yield c
            c.ping()        # all of it was read
            inside.open_gate(server, 61)
            # while the connection's own thread is busy, one worker does it
            c.wait(*[r for r in c.streams.values() if r is not mine])
            assert not mine.done
        finally:
            for gate in (60, 61, 62, 63):
                inside.open_gate(server, gate)
        c.wait(mine)


def ran(c, asked):
    """The requests, by their places, in the order in which they ran."""
    heads_of = [f.stream_id for f in c.frames if isinstance(f, HeadersFrame)]
    return sorted(range(len(asked)),
                  key=lambda i: heads_of.index(asked[i].id))


def test_most_urgent_runs_first(narrow):
    """Those that are as urgent, in the order in which they came."""
    rng = random.Random(11)
    said = [rng.choice([None, "i", "u=3"] + ["u=%d" % u for u in range(8)])
            for _ in range(40)]
    with queue(narrow) as c:
        asked = [get(c, "/t/env", p) for p in said]

    def urgency(i):
        match = re.search(r"u=(\d)", said[i] or "")
        return int(match.group(1)) if match else 3
    assert ran(c, asked) == sorted(range(40), key=urgency)


def test_update_moves_what_waits(narrow):
    with queue(narrow) as c:
        update(c, c.next_id + 6, "u=2")
        asked = [get(c, "/t/env", p) for p in
                 ["u=5", "u=1", "u=4", "u=7", "u=3", None]]
        update(c, asked[0].id, "u=0")
        update(c, asked[1].id, "u=6")
        update(c, asked[5].id, "u=7, i")
        update(c, asked[2].id, "u=0,,")
    assert ran(c, asked) == [0, 3, 4, 2, 1, 5]


def test_update_keeps_the_order_of_requests(narrow):
    """RFC 9218, 10: those that are as urgent in ascending order of their ids,
    whenever they became so."""
    with queue(narrow) as c:
        asked = [get(c, "/t/env", p) for p in ["u=3", "u=3", "u=5", "u=3"]]
        update(c, asked[0].id, "u=3")
        update(c, asked[2].id, "u=3")
    assert ran(c, asked) == [0, 1, 2, 3]


def test_one_runs_while_others_wait(narrow):
    """A request that comes last, and is the most urgent, waits for none but
    the one that runs."""
    with queue(narrow) as c:
        slow = [get(c, "/t/wait?gate=%d" % g, "u=6") for g in (62, 63)]
        c.ping()
        before = handled(narrow)
        inside.open_gate(narrow, 61)
        wait_for(lambda: handled(narrow) > before, 10, "the first to run")
        urgent = get(c, "/t/env", "u=0")
        update(c, slow[1].id, "u=7")
        c.ping()
        assert handled(narrow) == before + 1
        inside.open_gate(narrow, 62)
        c.wait(slow[0], urgent)
        assert not slow[1].done
        inside.open_gate(narrow, 63)
    assert ran(c, slow + [urgent]) == [0, 2, 1]


def test_reset_of_what_waits(narrow):
    with queue(narrow) as c:
        asked = [get(c, "/t/env", "u=%d" % (i % 3)) for i in range(9)]
        for i in (0, 4, 8):
            c.reset(asked[i].id)
            asked[i].reset = h2raw.CANCEL
        update(c, asked[4].id, "u=0")
        update(c, asked[7].id, "u=0")
    left = [r for r in asked if r.reset is None]
    assert [asked.index(left[i]) for i in ran(c, left)] == [3, 6, 7, 1, 2, 5]
    inside.wait_settled(narrow)


# --- whatever is signalled -----------------------------------------------------------

@TLS
def test_any_signals(server, tls):
    """Each answer is whole, whatever the priorities and their changes."""
    rng = random.Random(5)

    def any_priority():
        return rng.choice(["u=%d" % rng.randrange(9), "i", "u=1, i", "u=,",
                           "u=%d, i" % rng.randrange(8), "i=?0", ""])
    with client(server, tls, window=20000) as c:
        c.windows = True
        asked = []
        for i in range(80):
            kind = rng.choice(["/part/%d" % (i % 20), "/t/big?n=30000",
                               "/t/trickle?n=5&ms=1", "/t/env"])
            asked.append(get(c, kind, rng.choice([None, any_priority()]),
                             rng.choice([None, "u=%d" % rng.randrange(8)])))
            for _ in range(3):
                update(c, rng.randrange(c.next_id // 2 + 5) * 2 + 1,
                       any_priority())
            c.poll()
        c.wait(*asked, timeout=30)
        assert {(r.status, r.reset) for r in asked} == {(200, None)}
        for i, r in enumerate(asked):
            if len(r.body) == SMALL:
                assert r.body == b"%02d" % (i % 20) * (SMALL // 2)
        assert not c.goaways
    inside.wait_settled(server)


def cpu(server):
    """Nanoseconds that all threads of the children have run."""
    total = 0
    for pid in server.children():
        base = "/proc/%d/task" % pid
        for tid in os.listdir(base):
            with contextlib.suppress(OSError):
                with open("%s/%s/schedstat" % (base, tid)) as f:
                    total += int(f.read().split()[0])
    if not total:
        pytest.skip("the kernel does not tell times of threads")
    return total


def test_priorities_of_idle_streams(httpd):
    """Of a client that does not acknowledge the limit of streams, there may
    be signals for very many that it never opens: the last cost no more than
    the first."""
    def updates(count, first):
        return b"".join(
            struct.pack(">HBBBLL", 0, 7, 0x10, 0, 0, first + 2 * i) + b"u=1"
            for i in range(count))

    with httpd("H2Guard 0\n") as server, \
            server.h2(tls=False, ack=False) as c:
        c.until(lambda: c.settings_seen, what="SETTINGS")
        costs, first = [], 1
        for count in (10000, 50000, 10000):
            before = cpu(server)
            c.raw(updates(count, first))
            assert c.ping(timeout=60)
            first += 2 * count
            costs.append(cpu(server) - before)
        assert costs[2] < 3 * costs[0], costs
