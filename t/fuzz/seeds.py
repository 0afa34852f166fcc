"""Writes the first inputs of a fuzzer: seeds.py NAME DIRECTORY"""

import os
import struct
import sys

import hpack

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir,
                    "unit", "data")


def link():
    """The fields of t/unit/data/link-fields.txt, and some of what they lack."""
    with open(os.path.join(DATA, "link-fields.txt"), "rb") as lines:
        for line in lines:
            if line.strip() and not line.startswith(b"#"):
                yield line.rpartition(b"\t")[0]
    yield b'</a>; rel="x \\p\\reload"; title="\\"\\\\, </b>"; anchor=x'
    yield b"http://a:8080/b/../c?d#e"
    yield b"//[::1]:443/a;b/./c"
    yield b"head;x"


def priority():
    """Each construct of a dictionary, and what is nearly one."""
    yield b""
    yield b"  u=1, i"
    yield b"u=5;a;b=c , i=?0\t,\tu=07"
    yield b'x="a\\"b\\\\,u=1";y=?1, z=:YWJj:, u=-0'
    yield b"a=( 1  -2.5;q tok/en:* \"s\" :YQ==: ?0 );p=1, *b_c.d-e*, i"
    yield b"u=123456789012345, i=123456789012.123, u=1"
    yield b"u=1234567890123456"
    yield b"u=1, i=?2"
    yield b"u=1,"


class Frames:
    """The steps of one input of fuzz_frames.c."""

    def __init__(self, streams=20, how=0, sizes=7 << 5):
        self.out = bytearray((streams, how, sizes))
        self.encoder = hpack.Encoder()

    def step(self, letter, *numbers):
        self.out += letter + bytes(numbers)
        return self

    def frame(self, kind, flags, stream, payload=b""):
        self.out += b"F" + bytes((kind, flags, stream, len(payload)))
        self.out += payload
        return self

    def ask(self, stream, *fields, method="GET", more=False, end=True):
        """A request: HEADERS, with END_STREAM unless there is `more`."""
        head = [(":method", method), (":scheme", "https"),
                (":authority", "example.org"), (":path", "/")]
        if method == "CONNECT" and not fields:
            head = [head[0], head[2]]
        return self.frame(1, 4 * end + (not more), stream,
                          self.encoder.encode(head + list(fields)))

    def setting(self, number, value):
        return self.frame(4, 0, 0, struct.pack(">HL", number, value))

    def update(self, stream, value):
        return self.frame(8, 0, stream, struct.pack(">L", value))

    def __bytes__(self):
        return bytes(self.out)


def frames():
    """Conversations as they are, each with something that may happen."""
    # a page and its parts, with pushes, in the order of priorities
    page = Frames(how=4).ask(1, ("priority", "u=0")).step(b"A", 0, 3, 3, 1)
    page.step(b"B", 0, 0, 0x20, 0).step(b"E", 0, 0).step(b".")
    page.frame(16, 0, 0, b"\0\0\0\5u=6, i").ask(3).ask(5).ask(7)
    yield page.step(b"a", 0x30, 0).step(b"S", 0).step(b".").step(b"r")
    # priorities of streams that open and end after them
    early = Frames().frame(16, 0, 0, b"\0\0\0\1u=1").ask(1)
    early.step(b"a", 0, 1).step(b".").frame(16, 0, 0, b"\0\0\0\3u=1")
    yield early.ask(3).step(b"a", 0, 1).step(b".")
    # uploads, with trailers; one that is reset, one without reader
    up = Frames(sizes=2 << 5).ask(1, more=True, method="POST")
    up.step(b"A", 0, 1).step(b"D", 0, 1, 8, 0).step(b"T", 0)
    up.frame(1, 5, 1, up.encoder.encode([("x-trailer", "1")]))
    up.step(b"T", 0).step(b"E", 0, 2).step(b".")
    up.ask(3, ("content-length", "9"), more=True).step(b"D", 1, 3, 0, 9)
    up.ask(5, more=True).step(b"D", 0, 5, 8, 0).step(b"A", 0, 0)
    yield up.frame(3, 0, 5, b"\0\0\0\x08").step(b"E", 0, 0).step(b"r")
    yield Frames().ask(1, more=True).step(b"D", 8, 1, 2, 0).step(b"a", 0, 9)
    # windows: closed, opened piece by piece, changed, overflowing
    slow = Frames().setting(4, 0).ask(1).ask(3).step(b"a", 0xff, 0xff)
    slow.step(b".").update(1, 100).step(b".").setting(4, 20000).step(b".")
    slow.update(0, 1 << 20).update(1, 1 << 20).step(b".").setting(4, 0)
    yield slow.step(b"C", 1).update(3, 0x7fffffff).step(b".").step(b"r")
    # what is said of settings, pings, going away
    talk = Frames(how=9).frame(6, 0, 0, b"12345678").setting(1, 0).ask(1)
    talk.step(b"a", 0, 4).setting(1, 4096).setting(6, 64).setting(2, 0)
    talk.ask(3).step(b"A", 0, 3, 2, 0).step(b"d").step(b".")
    yield talk.frame(6, 1, 0, b"h2xdrain").step(b".").ask(5).step(b"g")
    yield Frames().ask(1).step(b"g").step(b"a", 0, 1).step(b".").ask(3)
    yield Frames().ask(1).frame(7, 0, 0, bytes(8)).step(b"a", 0, 1)
    # a request that comes when the GOAWAY is not yet out
    yield Frames().step(b"g").ask(1).step(b"a", 0, 1).step(b".")
    # heads in pieces, refused, malformed; unknown frames; old priorities
    yield (Frames(64 + 1).ask(1, end=False).frame(9, 0, 1, b"\0\1a\1b")
           .frame(9, 4, 1).ask(3).ask(5).ask(7).step(b"."))
    yield Frames(how=32).ask(1, ("x", "y" * 190)).step(b"X", 0).step(b".")
    yield (Frames().ask(1, ("Upper", "x")).frame(0xfa, 0, 1, b"?").step(b".")
           .frame(2, 0, 1, b"\0\0\0\3\1").ask(3).step(b"a", 0, 1))
    # tunnels, and what only HTTP/1.1 can serve
    tunnels = Frames(how=1).ask(1, (":protocol", "websocket"), more=True,
                                method="CONNECT")
    tunnels.ask(3, method="CONNECT", more=True).step(b"A", 0, 5)
    yield tunnels.step(b"A", 0, 5).step(b"D", 0, 3, 0, 5).step(b"E", 0, 1)
    yield Frames().ask(1).step(b"A", 0, 4).step(b"E", 0, 0).step(b".")
    # files, also one that has become shorter; a head of the input's own
    files = Frames(sizes=16 + 3).ask(1).step(b"A", 0, 0).ask(3)
    files.step(b"B", 0, 2, 0xff, 0).step(b"B", 0, 1, 0x10, 0)
    yield files.step(b"E", 0, 0).step(b"A", 0, 0).step(b"B", 0, 6, 1, 0)
    text = b"HTTP/1.1 404 Not Found\r\nPriority: u=1\r\nA: b\r\n\r\n"
    yield Frames().ask(1).step(b"A", 0, 2, len(text), *text).step(b"E", 0, 0)
    # h2c by Upgrade; no preface
    yield Frames(how=2).step(b"\6", 0, 4, 0, 0, 9, 9, 3).step(b"a", 1, 0)
    yield Frames(how=16).step(b"R", 4, *b"GET ").step(b".")


def conf():
    """Each kind of directive, with good and bad values."""
    yield b"H2Direct\ton\nH2WindowSize\t70000\nH2StreamTimeout\t30s"
    yield b"H2Push\toff\nH2Padding\t9\nh2maxworkers\t0\nH2Upgrade\tyes"
    yield b"H2StreamTimeout\t500ms\nH2MaxWorkerIdleSeconds\t2min"
    yield b"H2PushPriority\ttext/css\tbefore\nH2PushPriority\t*\tafter\t16"
    yield b"H2PushPriority\ta/b\t32\nH2PushPriority\ta/b\tinterleaved\t0"
    yield b"H2PushResource\tadd\t/a.css\tcritical\nH2PushResource\t/b.js"
    yield b"H2EarlyHint\tLink\t</a>; rel=preload\nH2EarlyHint\tA b\tx"
    yield b"H2TLSWarmUpSize\t9223372036854775807\nH2EarlyHints\tOFF"


class Clients(Frames):
    """The steps of one input of inside_server.c."""

    def __init__(self):
        super().__init__()
        self.out = bytearray()

    def path(self, stream, path, *fields, **kw):
        """A request for a path; it takes the place of "/"."""
        self.encoder = hpack.Encoder()
        head = [(":method", kw.pop("method", "GET")), (":scheme", "http"),
                (":authority", "localhost"), (":path", path)]
        more = kw.pop("more", False)
        return self.frame(1, 4 + (not more), stream,
                          self.encoder.encode(head + list(fields)))


def server():
    """Pages, uploads, pushes, tunnels; clients that go away."""
    page = Clients().path(1, "/s").path(3, "/l").path(5, "/b").path(7, "/w")
    yield page.step(b".").path(9, "/i").path(11, "/f").path(13, "/f?x")
    yield Clients().path(1, "/b").step(b".").step(b"X")
    yield (Clients().path(1, "/e", method="POST", more=True)
           .step(b"D", 0, 1, 4, 0).step(b".").step(b"D", 1, 1, 0, 9))
    yield (Clients().path(1, "/e", method="POST", more=True).step(b"p", 99)
           .frame(3, 0, 1, b"\0\0\0\x08").path(3, "/w").step(b"h"))
    yield (Clients().setting(4, 10).path(1, "/b").path(3, "/s").step(b".")
           .update(1, 1 << 20).step(b"p", 200).update(0, 1 << 20).step(b"C"))
    yield (Clients().setting(8, 1).path(
        1, "/e", (":protocol", "websocket"), ("sec-websocket-version", "13"),
        method="CONNECT", more=True).step(b"D", 0, 1, 0, 5).step(b"."))
    yield (Clients().frame(16, 0, 0, b"\0\0\0\1u=1").path(1, "/s").step(b".")
           .frame(16, 0, 0, b"\0\0\0\3i").path(3, "/b").frame(7, 0, 0, bytes(8)))
    yield (Clients().path(1, "/w").step(b"c", 1).path(1, "/b").step(b"c", 2)
           .path(1, "/nothing").step(b"c", 0).step(b"X").step(b"c", 1))
    upgrade = (b"GET /l HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n"
               b"Connection: Upgrade, HTTP2-Settings\r\n"
               b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    yield (Clients().step(b"H").step(b"R", len(upgrade), *upgrade).step(b".")
           .step(b"R", len(preface), *preface).path(3, "/s").step(b"."))
    yield Clients().step(b"H").step(b"R", 18, *b"GET / HTTP/1.0\r\n\r\n")
    yield Clients().step(b"H").step(b"R", 10, *preface[:10]).step(b"p", 99)


def heads():
    """Numbers of pseudo-fields and values: see inside_heads.c."""
    get, connect, websocket, host = 0x0f, 0x05, 0x1f, 0x20
    ended, more = 0x40, 0x80
    for port in (0, 1):
        yield bytes((port, get | ended, 0, 0, 0, 0,
                     get | host, 3, 0, 1, 3, 1,
                     get | more, 3, 0, 0, 1, 2, 0, 1, 0, 1, 1, 9))
        yield bytes((port, connect, 1, 2, connect | host, 1, 2, 0,
                     websocket | more, 1, 0, 0, 0, 0, 1, 7, 1, 10))
        yield bytes((port, get | ended, 4, 0, 0, 2, get | ended, 2, 1, 3, 4,
                     0x0b | host | ended, 0, 0, 3, 0))
        # a path of 8,200 bytes; a field of 4,000, then 1,000 times
        yield bytes((port, get | ended, 0, 0, 0, 0xff, 2, 47, 97, 32, 8, 0))
        yield bytes((port, get | more | ended, 0, 0, 0, 0, 1, 9, 0,
                     0xff, 1, 97, 15, 160, 3, 232, 0))


#: One function for each fuzzer that has seeds; without any it starts empty.
SEEDS = {"conf": conf, "frames": frames, "heads": heads, "link": link,
         "priority": priority, "server": server}


def main(name, directory):
    for number, seed in enumerate(SEEDS.get(name, list)()):
        with open(os.path.join(directory, "%04d" % number), "wb") as out:
            out.write(bytes(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
