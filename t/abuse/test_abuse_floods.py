"""Attacks with frames that carry nothing, or that are wrong."""

import struct

import pytest

from lib import h2raw
from lib.h2raw import (
    DataFrame, HeadersFrame, PingFrame, PriorityFrame, RstStreamFrame,
    SettingsFrame, WindowUpdateFrame)
from stage import MANY, row

CALM = h2raw.ENHANCE_YOUR_CALM
CONFIG = """
H2WindowSize 65536
"""


def frame(kind, flags=0, stream_id=0, payload=b""):
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 0xff, kind,
                       flags, stream_id) + payload


def upload(c, path="/small.html"):
    """A request whose body is still to come."""
    return c.start(c.fields("POST", path), end=False)


@row(13, "empty DATA frames (CVE-2019-9518)", r"too many empty DATA frames")
@pytest.mark.parametrize("padding", [0, 255], ids=["", "padded"])
def test_empty_data(stage, padding):
    c = stage.connect()
    r = upload(c, "/t/upload")
    data = DataFrame(r.id, b"", pad_length=padding,
                     flags=["PADDED"] if padding else []).serialize()
    sent = 0
    while sent < 1500 and c.blast(data):
        sent += 1
    stage.stopped(c, CALM, *([h2raw.PROTOCOL_ERROR] if not padding else []))


@row(13, "empty HEADERS frames (CVE-2019-9518)", r"closing the connection")
def test_empty_headers(stage):
    c = stage.connect()
    c.blast(*(HeadersFrame(c.new_id(), b"", flags=["END_HEADERS"]).serialize()
              for _ in range(1000)))
    stage.stopped(c, CALM, h2raw.PROTOCOL_ERROR)


@row(14, "ping flood (CVE-2019-9512)", r"too many PING frames")
def test_pings(stage):
    """Nothing is read until all is sent."""
    c = stage.connect()
    c.blast(*[PingFrame(opaque_data=b"12345678").serialize() * 1000] * 300,
            read=False)
    stage.stopped(c, CALM)
    stage.note("%d answered", len(c.pongs))
    stage.check(len(c.pongs) < 10000, "%d PINGs were answered", len(c.pongs))


@row(15, "settings flood (CVE-2019-9515, CVE-2018-11763)",
     r"too many SETTINGS frames")
@pytest.mark.parametrize("what", ["empty", "window"])
def test_settings(stage, what):
    """Also with a window that goes up and down below many streams."""
    c = stage.connect(settings={h2raw.INITIAL_WINDOW_SIZE: 0})
    for _ in range(90):
        c.get("/big.bin")
    pairs = [{}, {}] if what == "empty" else [
        {h2raw.INITIAL_WINDOW_SIZE: 1}, {h2raw.INITIAL_WINDOW_SIZE: 0}]
    both = b"".join(SettingsFrame(settings=s).serialize() for s in pairs)
    c.blast(*[both * 500] * 100, read=False)
    stage.stopped(c, CALM)


@row(15, "SETTINGS with 33 entries", r"SETTINGS")
def test_many_settings(stage):
    c = stage.connect()
    c.raw(frame(4, payload=struct.pack(">HL", 1, 4096) * 33))
    stage.stopped(c, CALM)


@row(23, "window overflow", r"FLOW_CONTROL_ERROR", lines=4)
def test_window_overflow(stage):
    """Of the connection, of a stream, by a setting, and all at once."""
    for what in ("connection", "stream", "setting", "both"):
        c = stage.connect(windows=False)
        r = c.get("/big.bin")
        c.wait_headers(r)
        if what == "connection":
            c.credit(0x7fffffff)
            c.credit(0x7fffffff)
        elif what == "stream":
            c.credit(0x7fffffff, r.id)
            c.credit(0x7fffffff, r.id)
        elif what == "setting":
            c.settings({h2raw.INITIAL_WINDOW_SIZE: 1 << 31})
        else:
            c.credit(0x7fffffff - 65535, r.id)
            c.settings({h2raw.INITIAL_WINDOW_SIZE: 0x7fffffff})
        c.settle()
        stage.check(h2raw.FLOW_CONTROL_ERROR in (c.goaway_code, r.reset),
                    "%s: %s, %r", what, c.end(), r)
    stage.tell("FLOW_CONTROL_ERROR")


@row(23, "windows that become negative")
def test_negative_window(stage):
    c = stage.connect(windows=False)
    r = c.get("/big.bin")
    c.wait_body(r, 65535)
    c.settings({h2raw.INITIAL_WINDOW_SIZE: 0})
    c.credit(1 << 20)
    c.credit(65535, r.id)
    assert c.ping()
    stage.check(len(r.body) == 65535 and not c.goaways, "%r", r)
    c.credit(1000, r.id)
    c.wait_body(r, 66535)
    stage.tell("legal")


@row(24, "WINDOW_UPDATE flood", r"too many WINDOW_UPDATE frames")
def test_window_updates(stage):
    c = stage.connect()
    one = WindowUpdateFrame(0, window_increment=1).serialize()
    c.blast(*[one * 1000] * 200)
    stage.stopped(c, CALM)


def priorities(c):
    return b"".join(
        PriorityFrame(2 * i + 1, depends_on=2 * (i + 1) % 200 + 1,
                      stream_weight=i % 256).serialize() for i in range(1000))


def updates(c):
    return b"".join(
        frame(0x10, payload=struct.pack(">L", c.new_id()) + b"u=1, i")
        for i in range(1000))


def garbage(c):
    return b"".join(
        frame(0x10, payload=struct.pack(">L", c.new_id()) + b"\0\xff,;=" * 9)
        for i in range(1000))


@row(25, "priority churn (CVE-2019-9513)", r"too many priority signals|PRIORITY_UPDATE")
@pytest.mark.parametrize("what", [priorities, updates, garbage])
def test_priority_churn(stage, what):
    c = stage.connect()
    c.blast(*(what(c) for _ in range(100)))
    stage.stopped(c, CALM, h2raw.PROTOCOL_ERROR)


@row(26, "unknown frames", r"too many frames of unknown types")
@pytest.mark.parametrize("kinds", [range(0x20, 0x100), [0x0a], [0x0c]],
                         ids=["unknown", "ALTSVC", "ORIGIN"])
def test_unknown_frames(stage, kinds):
    """Ignored, and counted."""
    c = stage.connect()
    kinds = list(kinds)
    c.raw(b"".join(frame(kinds[i % len(kinds)], payload=b"x" * 10)
                   for i in range(500)))
    stage.check(c.request(path="/small.html").status == 200, "not ignored")
    c.blast(*(b"".join(frame(kinds[i % len(kinds)], 0xff, 0, b"x" * 10)
                       for i in range(1000)) for _ in range(100)))
    stage.stopped(c, CALM, h2raw.PROTOCOL_ERROR)


@row(27, "frames after the end", r"closing the connection with")
def test_after_the_end(stage):
    """An error, and behind it more that is wrong."""
    c = stage.connect()
    bad = (frame(0, 0, 0, b"x") + frame(4, 0, 1) + frame(9, 4, 1, b"x")
           + frame(3, 0, 1, b"x") + frame(1, 4, 2, b"\x80" * 99)
           + frame(5, 4, 1, b"\0\0\0\2\x82"))
    c.blast(*[bad * 20] * 500, read=False)
    stage.stopped(c, h2raw.PROTOCOL_ERROR, CALM)


@row(52, "PRIORITY_UPDATE on a stream, then SETTINGS of 1 byte "
     "(CVE-2026-27135)", r"PROTOCOL_ERROR: PRIORITY_UPDATE", extra=0)
def test_bad_settings_after_the_end(stage):
    c = stage.connect()
    c.raw(frame(0x10, 0, 1, struct.pack(">L", 1) + b"u=1")
          + frame(4, 0, 0, b"1"))
    stage.stopped(c, h2raw.PROTOCOL_ERROR)


@row(28, "MAX_FRAME_SIZE 0", r"with PROTOCOL_ERROR")
def test_frame_size_0(stage):
    c = stage.connect()
    c.get("/big.bin")
    c.settings({h2raw.MAX_FRAME_SIZE: 0})
    stage.stopped(c, h2raw.PROTOCOL_ERROR)


@row(38, "padding as long as the frame", r"with PROTOCOL_ERROR", lines=2)
def test_bad_padding(stage):
    c = stage.connect()
    # a stream that is still open: what comes for a closed one is ignored
    r = upload(c, "/t/upload")
    c.raw(frame(0, 8, r.id, b"\x05" + b"\0" * 5))
    c.raw(frame(0, 8, r.id, b"\x06" + b"\0" * 5))
    stage.stopped(c, h2raw.PROTOCOL_ERROR)
    c = stage.connect()
    c.raw(frame(1, 8 | 4, 1, b"\xff" + b"\x82" * 3))
    stage.stopped(c, h2raw.PROTOCOL_ERROR, h2raw.FRAME_SIZE_ERROR)


@row(38, "padding is credited back", needs="httpd")
def test_padding_is_credited(stage):
    """A byte of data with 255 of padding, for many windows."""
    c = stage.connect()
    r = upload(c, "/t/upload")
    data = DataFrame(r.id, b"x", pad_length=255,
                     flags=["PADDED"]).serialize()
    for _ in range(4000):
        c.pump(lambda: min(c.window, c.stream_windows[r.id]) >= 257)
        c.raw(data)
        c.window -= 257
        c.stream_windows[r.id] -= 257
    c.data(r.id, b"", end=True)
    c.wait(r)
    stage.tell("status %s" % r.status)
    stage.check(r.status == 200 and "4000" in r.text, "%r %s", r, r.text)


@row(39, "DATA for closed streams", r"", lines=MANY, needs="httpd")
def test_discarded_data(stage):
    """It is credited to the connection: other uploads go on."""
    c = stage.connect()
    for _ in range(3):
        r = upload(c, "/t/upload")
        c.reset(r.id)
        sent = 0
        while sent < 3 << 20:
            c.pump(lambda: c.window >= 16384 or c.goaways)
            if c.goaways:
                break
            c.data(r.id, b"x" * 16384)
            sent += 16384
    r = upload(c, "/t/upload")
    c.upload(r, b"y" * 200000)
    c.wait(r)
    stage.tell("status %s" % r.status)
    stage.check(r.status == 200 and "200000" in r.text, "%r %s", r, r.text)


@row(3, "DATA and WINDOW_UPDATE after a reset", needs="h2x")
def test_after_reset(stage):
    """As often as streams may be reset."""
    c = stage.connect()
    for _ in range(500):
        r = upload(c)
        c.raw(RstStreamFrame(r.id, error_code=h2raw.CANCEL).serialize()
              + DataFrame(r.id, b"x" * 10).serialize()
              + WindowUpdateFrame(r.id, window_increment=1).serialize())
        c.poll()
    c.settle()
    stage.tell(c.end())
    stage.check(not c.goaways, "%s", c.end())
