"""RFC 9113, sections 5.1 and 8.4: streams that the server has promised,
against each type of frame.  What is promised, and when, is in test_push.py;
that it is well-formed is checked on each connection, see conduct()."""

import pytest

from lib import h2raw, inside
from lib.conform import (  # noqa: F401
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, NARROW, PING,
    PRIORITY, PUSH_PROMISE, SETTINGS, UNKNOWN, connection, connection_error,
    gate, pytest_generate_tests, stream_error, u32, unharmed)
from lib.h2raw import NO_ERROR, PROTOCOL_ERROR, STREAM_CLOSED

MODULES = "headers"
CONFIG = """
<Location /page>
    Header add Link "expr=<%{QUERY_STRING}>;rel=preload"
</Location>
"""


def files(server):
    server.write("index.html", "hello\n")
    server.write("page", "page\n")


class State:
    """Each brings a promised stream into a state."""

    @staticmethod
    def promise(c, path):
        r = c.wait(c.get("/page?" + path))
        assert r.ended and len(r.promises) == 1
        return r.promises[0]

    @staticmethod
    def reserved(c, gate):
        """The handler has said nothing yet."""
        return State.promise(c, "/t/wait?gate=%d" % gate)

    @staticmethod
    def half_running(c, gate):
        pushed = State.promise(c, "/t/trickle?n=2&size=4&gate=%d" % gate)
        return c.wait_body(pushed, 4)

    @staticmethod
    def half_held(c, gate):
        return c.wait_body(State.promise(c, "/t/big?n=1000"), 10)

    @staticmethod
    def ended(c, gate):
        return c.wait(State.promise(c, "/index.html"))

    @staticmethod
    def reset_reserved(c, gate):
        pushed = State.reserved(c, gate)
        c.reset(pushed.id)
        return pushed

    @staticmethod
    def reset_held(c, gate):
        pushed = State.half_held(c, gate)
        c.reset(pushed.id)
        return pushed


HALF = ["half_running", "half_held"]
CLOSED = ["ended", "reset_reserved", "reset_held"]
ALL = ["reserved"] + HALF + CLOSED


def states(*names):
    return pytest.mark.parametrize("state", names)


@pytest.fixture
def taking(server, gate):
    """A connection that takes pushes, and little of them."""
    with connection(server, windows=False, settings={
            h2raw.ENABLE_PUSH: 1, **NARROW}) as c:
        c.release = lambda: inside.open_gate(server, gate, 10)
        yield c


def bring(c, gate, state):
    return getattr(State, state)(c, gate)


WRONG = {"data": (DATA, END_STREAM, b"12"),
         "headers": (1, END_HEADERS | END_STREAM, b"\x82")}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_5_1_reserved_local(taking, gate, what):
    """nghttp2 finds DATA wrong as on any half-closed stream, which is as
    good a reason to end the connection (5.4)."""
    pushed = bring(taking, gate, "reserved")
    kind, flags, payload = WRONG[what]
    taking.raw_frame(kind, flags, pushed.id, payload)
    connection_error(taking, PROTOCOL_ERROR, STREAM_CLOSED)


@states(*HALF)
@pytest.mark.parametrize("what", sorted(WRONG))
def test_5_1_promised_half_closed_remote(taking, gate, state, what):
    """A client never had anything to send there.  HEADERS on a stream of
    the server's is PROTOCOL_ERROR, too (5.1.1)."""
    pushed = bring(taking, gate, state)
    kind, flags, payload = WRONG[what]
    taking.raw_frame(kind, flags, pushed.id, payload)
    stream_error(taking, pushed, STREAM_CLOSED, PROTOCOL_ERROR)


@states(*CLOSED)
@pytest.mark.parametrize("what", sorted(WRONG))
def test_5_1_promised_closed(taking, gate, state, what):
    """An error of either kind, or dropped; for HEADERS see above."""
    pushed = bring(taking, gate, state)
    kind, flags, payload = WRONG[what]
    taking.raw_frame(kind, flags, pushed.id, payload)
    taking.release()
    try:
        taking.ping()
    except ConnectionError:
        pass
    if taking.goaways:
        connection_error(taking, STREAM_CLOSED, PROTOCOL_ERROR)
        return
    assert pushed.reset in (None, STREAM_CLOSED)
    unharmed(taking)


@pytest.mark.parametrize("kind,payload", [
    (SETTINGS, b""), (PING, b"12345678"), (GOAWAY, u32(0, 0)),
    (PUSH_PROMISE, u32(4) + b"\x82"), (CONTINUATION, b"\x82")],
    ids=["settings", "ping", "goaway", "push-promise", "continuation"])
@states(*ALL)
def test_5_1_promised_wrong_anywhere(taking, gate, state, kind, payload):
    pushed = bring(taking, gate, state)
    flags = END_HEADERS if kind in (PUSH_PROMISE, CONTINUATION) else 0
    taking.raw_frame(kind, flags, pushed.id, payload)
    connection_error(taking, PROTOCOL_ERROR)


@pytest.mark.parametrize("what", ["priority", "window-update", "unknown"])
@states(*ALL)
def test_5_1_promised_harmless_anywhere(taking, gate, state, what):
    """The response, if it is to come, comes."""
    pushed = bring(taking, gate, state)
    if what == "priority":
        taking.raw_frame(PRIORITY, 0, pushed.id, u32(0) + b"\x0f")
    elif what == "unknown":
        taking.raw_frame(UNKNOWN, 0xff, pushed.id, b"?")
    else:
        taking.credit(1, pushed.id)
    unharmed(taking)
    taking.release()
    if state not in CLOSED:
        taking.credit(1000, pushed.id)
        taking.wait(pushed)
        assert (pushed.status, pushed.ended, pushed.reset) == (200, True, None)


@states(*ALL)
def test_5_1_promised_rst_stream(taking, gate, state):
    """Nothing more comes, and no RST_STREAM for it (5.4.2)."""
    pushed = bring(taking, gate, state)
    taking.reset(pushed.id)
    taking.ping()
    seen = len(pushed.headers), len(pushed.body)
    taking.release()
    taking.credit(1 << 20)
    assert taking.wait(taking.get("/index.html")).text == "hello\n"
    unharmed(taking)
    assert (len(pushed.headers), len(pushed.body)) == seen
    assert pushed.reset is None


def test_5_1_1_ids_of_promises(taking, gate):
    """Even, and rising, also when others were reset."""
    ids = []
    for i in range(5):
        # what was pushed once is not pushed again: another query each time
        pushed = State.promise(taking, "/t/big?n=5&i=%d" % i)
        ids.append(pushed.id)
        if i % 2:
            taking.reset(pushed.id)
        else:
            assert taking.wait(pushed).ended
        taking.credit(20)
    assert ids == sorted(ids) and all(i % 2 == 0 for i in ids)
    unharmed(taking)


def test_8_4_promise_comes_on_an_open_stream(taking, gate):
    """Before the end of the response that it belongs to."""
    r = taking.wait(taking.get("/page?/t/wait?gate=%d" % gate))
    promise = taking.order(h2raw.PushPromiseFrame, r.id)
    end = max(i for i, f in enumerate(taking.frames)
              if f.stream_id == r.id and "END_STREAM" in f.flags)
    assert promise < end
    assert r.reset in (None, NO_ERROR)
