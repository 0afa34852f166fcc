"""Attacks with streams that end early."""

import pytest

from lib import h2raw, inside
from lib.h2raw import RstStreamFrame, WindowUpdateFrame
from stage import row

CONFIG = """
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName localhost
    SSLEngine on
</VirtualHost>
<IfModule mod_h2x.c>
    <VirtualHost 127.0.0.1:${TLS_PORT}>
        ServerName two.test
        SSLEngine on
        H2MaxStreamErrors 0
    </VirtualHost>
</IfModule>
"""

#: Codes that end a connection for errors of the client.
ENDS = (h2raw.ENHANCE_YOUR_CALM, h2raw.PROTOCOL_ERROR)


def reset(stream_id, code=h2raw.CANCEL):
    return RstStreamFrame(stream_id, error_code=code).serialize()


def head(c, block, end=True):
    """The frame of a request whose fields are encoded already, as bytes."""
    stream_id = c.new_id()
    return stream_id, b"".join(f.serialize() for f in
                               c._split(stream_id, block, end))


def request(c, path="/small.html", end=True, **kw):
    """The frame of a request, as bytes."""
    return head(c, c.encode(c.fields(path=path, **kw)), end)


def pairs(c, count, code=h2raw.CANCEL, **kw):
    """Requests that are reset at once."""
    data = b""
    for _ in range(count):
        stream_id, head = request(c, **kw)
        data += head + reset(stream_id, code)
    return data


@row(1, "rapid reset (CVE-2023-44487, CVE-2023-45802)",
     r"with ENHANCE_YOUR_CALM: too many requests reset")
def test_rapid_reset(stage):
    c = stage.connect()
    sent = c.blast(*(pairs(c, 100) for _ in range(50)))
    stage.stopped(c, h2raw.ENHANCE_YOUR_CALM)
    stage.note("stopped after %d writes of 100", sent)


@row(1, "rapid reset: handlers started, memory", needs="h2x")
def test_rapid_reset_below_the_limit(stage):
    """Handlers do not run for what is reset at once, and nothing is kept."""
    before = inside.counters(stage.server)["handled"]
    c = stage.connect()
    c.blast(*(pairs(c, 100, path="/t/wait?ms=20") for _ in range(9)))
    c.settle()
    started = inside.counters(stage.server)["handled"] - before
    stage.tell("%d handlers started for 900 requests" % started)
    stage.check(started <= 100, "%d handlers were started", started)
    inside.wait_settled(stage.server)
    stage.check(stage.is_memory_back(), "memory is kept while the connection is there")
    assert c.request(path="/small.html").status == 200


@row(2, "reset in the same segment (CVE-2026-23918)",
     r"too many requests reset", lines=10)
def test_early_reset(stage):
    for _ in range(10):
        c = stage.connect()
        c.blast(*(pairs(c, 5, h2raw.INTERNAL_ERROR) for _ in range(400)))
        stage.stopped(c, h2raw.ENHANCE_YOUR_CALM)


@row(3, "DATA after a reset")
def test_data_after_reset(stage):
    c = stage.connect()
    for _ in range(50):
        stream_id, head = request(c, end=False, method="POST")
        c.raw(head + reset(stream_id)
              + h2raw.DataFrame(stream_id, b"x" * 1000).serialize())
    c.settle()
    codes = {r.reset or None for r in c.streams.values()}
    stage.tell("ignored" if codes == {None} else "STREAM_CLOSED")
    stage.check(codes <= {None, h2raw.STREAM_CLOSED} and not c.goaways,
                "the connection %s: %s", c.end(), list(codes))


def by_length(c):
    stream_id, head = request(c, end=False, method="POST",
                              headers={"content-length": "5"})
    return head + h2raw.DataFrame(stream_id, b"123456").serialize()


def by_trailer(c):
    stream_id, head = request(c, end=False, method="POST")
    block = c.encode([(":path", "/")])
    return head + b"".join(f.serialize() for f in
                           c._split(stream_id, block, True))


def by_window(c):
    stream_id, head = request(c, path="/big.bin")
    return head + WindowUpdateFrame(
        stream_id, window_increment=0x7fffffff).serialize()


def by_update_of_0(c):
    stream_id, head = request(c, path="/big.bin")
    return head + b"\0\0\4\x08\0" + stream_id.to_bytes(4, "big") + b"\0" * 4


@pytest.mark.parametrize("how", [by_length, by_trailer, by_window,
                                 by_update_of_0])
@row(4, "made you reset (CVE-2025-8671)", r"closing the connection")
def test_made_you_reset(stage, how):
    c = stage.connect(windows=False)
    c.blast(*(how(c) for _ in range(3000)))
    codes = list(ENDS)
    if how is by_window:        # with nghttp2 1.70 the first one is the last
        codes.append(h2raw.FLOW_CONTROL_ERROR)
    stage.stopped(c, *codes)


@row(4, "made you reset, H2MaxStreamErrors 0", r"too many streams that had",
     extra=2000, needs="h2x")
def test_made_you_reset_any_number(stage):
    c = stage.connect(tls=True, sni="two.test")
    c.blast(*(by_length(c) for _ in range(3000)))
    stage.stopped(c, h2raw.ENHANCE_YOUR_CALM)


@row(16, "reset flood (CVE-2019-9514)", r"closing the connection")
def test_reset_flood(stage):
    """Nothing is read until all is sent, which is to be soon: a client that
    says nothing of use for long has to go."""
    c = stage.connect()
    fields = c.fields(path="/small.html", headers={"connection": "close"})
    first, again = c.encode(fields), c.encode(fields)
    rest = (b"".join(head(c, again)[1] for _ in range(100))
            for _ in range(200))
    c.blast(head(c, first)[1], *rest, read=False)
    stage.stopped(c, *ENDS)


@row(37, "stream identifiers: even, falling", r"PROTOCOL_ERROR",
     lines=2)
def test_identifiers(stage):
    for ids in ([2], [5, 3]):
        c = stage.connect()
        for stream_id in ids:
            c.start(c.fields(path="/small.html"), stream_id=stream_id)
        stage.stopped(c, h2raw.PROTOCOL_ERROR)


@row(37, "stream identifiers: reused", r"too many heads for closed streams")
def test_identifiers_again(stage):
    """It may be trailers of a stream that the server has reset."""
    c = stage.connect()
    first = c.request(path="/small.html")
    block = c.encode(c.fields(path="/small.html"))
    again = b"".join(f.serialize() for f in c._split(first.id, block, True))
    c.blast(*[again * 100] * 20)
    stage.stopped(c, *ENDS, h2raw.STREAM_CLOSED)


@row(37, "streams past the limit",
     r"too many streams that had to be refused")
def test_streams_past_the_limit(stage):
    """Of a client that does not acknowledge the limit."""
    c = stage.connect(ack=False, settings={h2raw.INITIAL_WINDOW_SIZE: 0})
    c.blast(*(request(c, "/page.html")[1] for _ in range(600)))
    stage.stopped(c, *ENDS)
    refused = [r for r in c.streams.values()
               if r.reset == h2raw.REFUSED_STREAM]
    stage.note("%d streams refused", len(refused))
