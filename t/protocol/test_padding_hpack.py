"""Padding (H2Padding), what HPACK does not keep, and settings that change
while a connection is in use."""

import struct

import hpack
import pytest

from lib import clients, h2raw

BITS = {"localhost": 0, "one.test": 1, "two.test": 3, "three.test": 5,
        "four.test": 8}

HOSTS = {name: "H2Padding %d" % bits for name, bits in BITS.items()}
CONFIG = """
H2Padding 8
H2MaxSessionStreams 200
<Location /push>
    H2PushResource /small
</Location>
"""
SIZE = 1000000
CONTENT = bytes(i * 7 & 255 for i in range(SIZE))


def files(server):
    server.write("index.html", "hello\n")
    server.write("small", "small\n")
    server.write("empty", "")
    server.write("push/index.html", "hello\n")
    server.write("file", CONTENT)


def connect(server, host, **kw):
    """A connection to the virtual host; "" is the one without TLS."""
    if not host:
        return server.h2(tls=False, **kw)
    return server.h2(sni=host, authority=host, **kw)


def padding(frame):
    """How much longer a frame is for its padding."""
    return 1 + frame.pad_length if "PADDED" in frame.flags else 0


def paddings(c, *kinds):
    return [padding(f) for f in c.frames if isinstance(f, kinds)]


# --- padding ---

@pytest.mark.parametrize("host,bits", [*BITS.items(), ("", 8)])
def test_amount(server, host, bits):
    """From 0 to 2^n - 1 bytes, of all that there are."""
    with connect(server, host) as c:
        for _ in range(3):
            assert bytes(c.request(path="/file").body) == CONTENT
        asked = [c.get("/small") for _ in range(150)]
        c.wait(*asked)
        assert all(r.text == "small\n" for r in asked)
        for kind in (h2raw.DataFrame, h2raw.HeadersFrame):
            found = paddings(c, kind)
            assert len(found) > 100
            assert max(found) <= 2 ** bits - 1
            # by chance alone, these fail less than once in 10^9 times
            assert max(found) >= (2 ** bits - 1) * 3 // 4
            assert min(found) <= 2 ** bits // 4
            assert len(set(found)) >= min(2 ** bits * 2 // 3, 40)
        if not bits:
            assert not any("PADDED" in f.flags for f in c.frames)


@pytest.mark.parametrize("size", [0, 1, 255, 16383, 16384, 65535, 300000])
@pytest.mark.parametrize("host", ["", "four.test"])
def test_bodies(server, host, size):
    with connect(server, host) as c:
        for path in ("/t/big?n=%d" % size, "/t/big?length=1&n=%d" % size):
            r = c.request(path=path)
            assert len(r.body) == size and r.ended and not r.reset
        r = c.request("POST", "/t/echo", body=CONTENT[:size])
        assert bytes(r.body) == CONTENT[:size]


def test_frame_size(server):
    """Padding is a part of it."""
    with connect(server, "") as c:
        c.request(path="/file")
        assert max(length for length, _, _, _ in c.heads) <= 16384
        assert any(paddings(c, h2raw.DataFrame))


class Tee:
    """A socket that remembers what came from it."""

    def __init__(self, sock):
        self.sock, self.data = sock, bytearray()

    def recv(self, size):
        data = self.sock.recv(size)
        self.data += data
        return data

    def __getattr__(self, name):
        return getattr(self.sock, name)


def test_is_zero(server):
    """RFC 9113, section 6.1: padding octets MUST be set to zero."""
    tee = Tee(server.connect(tls=False))
    with h2raw.Connection(tee) as c:
        c.request(path="/file")
        asked = [c.get("/small") for _ in range(50)]
        c.wait(*asked)
        data, at, count = bytes(tee.data), 0, 0
        while at + 9 <= len(data):
            size, low, kind, flags = struct.unpack(">HBBB", data[at:at + 5])
            size = (size << 8) + low
            payload = data[at + 9:at + 9 + size]
            if kind in (0, 1) and flags & 8:
                amount = payload[0]
                assert amount < size
                assert payload[size - amount:] == bytes(amount)
                count += 1
            at += 9 + size
        assert count > 50


def test_trailers(server):
    with connect(server, "") as c:
        for _ in range(30):
            r = c.request(path="/t/trailers")
            assert r.trailer("x-sum") == "abc123" and len(r.body) == 100
        assert any(paddings(c, h2raw.HeadersFrame))


def test_pushes(server):
    with connect(server, "", settings={h2raw.ENABLE_PUSH: 1}) as c:
        found = []
        for i in range(30):
            r = c.request(path="/push/index.html?%d" % i)
            found += [p.text for p in c.wait_pushed(r)]
    assert found == ["small\n"]     # once on a connection
    for _ in range(10):
        with connect(server, "", settings={h2raw.ENABLE_PUSH: 1}) as c:
            r = c.request(path="/push/index.html")
            assert [p.text for p in c.wait_pushed(r)] == ["small\n"]
            assert r.text == "hello\n"
            assert all(n < 256 for n in paddings(c, h2raw.PushPromiseFrame))


@pytest.mark.parametrize("host", ["", "two.test", "four.test"])
def test_windows_count_padding(server, host):
    """RFC 9113, section 6.9.1: the whole payload is flow-controlled.  It is
    never more than the client allows, nor does what is left come late."""
    with connect(server, host, windows=False) as c:
        r = c.get("/file")
        allowed = 65535

        def received():
            return sum(head[0] for head in c.heads
                       if head[1] == 0 and head[3] == r.id)
        while not r.done:
            c.until(lambda: received() > allowed - 256 or r.done)
            c.ping()
            assert received() <= allowed
            c.credit(60000)
            c.credit(60000, r.id)
            allowed += 60000
        assert bytes(r.body) == CONTENT
        assert received() > SIZE


def test_smallest_windows(server):
    """Padding does not use up a window that has room for a byte."""
    with connect(server, "", windows=False,
                 settings={h2raw.INITIAL_WINDOW_SIZE: 1}) as c:
        r = c.get("/t/big?n=60")
        for i in range(500):
            c.until(lambda: r.done or sum(
                head[0] for head in c.heads if head[1] == 0) >= i + 1)
            if r.done:
                break
            c.credit(1, r.id)
        assert r.text == "".join(chr(97 + i % 26) for i in range(60))


@pytest.mark.parametrize("args", [("--http2",), ("--http2", "--head")])
def test_curl(server, args):
    answer = clients.curl(server, "/file", *args, host="four.test")
    assert (answer.rc, answer.status) == (0, 200)
    if len(args) == 1:
        assert answer.body == CONTENT


def test_nghttp(server):
    result = clients.nghttp(server, "/file", "/small", tls=False,
                            args=["-n"])
    assert result.rc == 0
    assert result.out.decode().count("PADDED") > 20


def test_library(server):
    with clients.Library(server, tls=False) as client:
        assert client.body(client.fetch("/file")) == CONTENT


# --- HPACK ---

def decode(c):
    """All field blocks as lists of tuples that tell how they came, and the
    decoder after them."""
    decoder = hpack.Decoder()
    decoder.max_header_list_size = 1 << 24
    return [(frame, decoder.decode(block, raw=True))
            for frame, block in c.blocks], decoder


SECRETS = (b"cookie", b"set-cookie", b"authorization")


def kept(decoder):
    """Names in the dynamic table."""
    return [name for name, _ in decoder.header_table.dynamic_entries]


@pytest.mark.h2x_only("indexes cookies")
def test_set_cookie_is_never_indexed(server):
    with connect(server, "localhost") as c:
        for _ in range(5):
            r = c.request(path="/t/fields?kind=odd")
            assert r.all("set-cookie") == ["a=1", "b=2"]
        blocks, decoder = decode(c)
        cookies = [field for _, block in blocks for field in block
                   if field[0] == b"set-cookie"]
        assert len(cookies) == 10
        assert all(isinstance(f, hpack.NeverIndexedHeaderTuple)
                   for f in cookies)
        others = [field for _, block in blocks for field in block
                  if field[0] not in SECRETS]
        assert not any(isinstance(f, hpack.NeverIndexedHeaderTuple)
                       for f in others)
        assert not set(SECRETS) & set(kept(decoder))
        assert b"x-upper-case" in kept(decoder)


@pytest.mark.h2x_only("leaves them out of promises")
def test_promised_secrets_are_never_indexed(server):
    """The fields of a request that a promise repeats."""
    secrets = {"cookie": "id=" + "s" * 40,
               "authorization": "Basic " + "x" * 40}
    with connect(server, "localhost", settings={h2raw.ENABLE_PUSH: 1}) as c:
        r = c.request(path="/push/index.html", headers=secrets)
        pushed, = c.wait_pushed(r)
        blocks, decoder = decode(c)
        promise, = [block for frame, block in blocks
                    if isinstance(frame, h2raw.PushPromiseFrame)]
        sent = [f for f in promise if f[0] in SECRETS]
        assert {f[0] for f in sent} == {b"cookie", b"authorization"}
        assert all(isinstance(f, hpack.NeverIndexedHeaderTuple)
                   for f in sent)
        assert not set(SECRETS) & set(kept(decoder))
        assert secrets.items() <= dict(pushed.request).items()


def test_others_are_indexed(server):
    """Blocks become shorter."""
    with connect(server, "localhost") as c:
        for _ in range(3):
            c.request(path="/small")
        sizes = [len(block) for _, block in c.blocks]
        assert sizes[1] < sizes[0] // 2


# --- settings that change ---

def change(c, **values):
    """Sends settings and waits for the ACK.  Names as in RFC 9113."""
    before = c.settings_acked
    c.settings({getattr(h2raw, k.upper()): v for k, v in values.items()})
    c.until(lambda: c.settings_acked > before, what="ACK")


def test_table_size(server):
    """The table is what the client allows at that time: h2raw's decoder
    raises when it is larger, or told too late."""
    with connect(server, "localhost") as c:
        for size in (4096, 0, 100, 65536, 4096, 1, 0, 4096):
            change(c, header_table_size=size)
            c.decoder.max_allowed_table_size = size
            for _ in range(4):
                r = c.request(path="/t/fields?kind=many&n=20&size=30")
                assert r.header("x-many-19") == "v" * 30
            assert c.decoder.header_table_size <= size
            assert c.decoder.header_table._current_size <= size


def test_table_sizes_in_a_row(server):
    """RFC 7541, section 4.2: the smallest is told too."""
    with connect(server, "localhost") as c:
        c.request(path="/t/fields?kind=many&n=20&size=30")
        before = c.settings_acked
        for size in (0, 2000):
            c.settings({h2raw.HEADER_TABLE_SIZE: size})
        c.until(lambda: c.settings_acked == before + 2, what="two ACKs")
        c.decoder.max_allowed_table_size = 0
        c.decoder.header_table_size = 0         # forgets all, as it must
        c.decoder.max_allowed_table_size = 2000
        for _ in range(4):
            r = c.request(path="/t/fields?kind=many&n=20&size=30")
            assert r.header("x-many-19") == "v" * 30


def test_frame_size_up_and_down(server):
    with connect(server, "localhost") as c:
        for size in (16384, 100000, 16777215, 20000, 16384):
            change(c, max_frame_size=size)
            at = len(c.heads)
            asked = [c.get("/file") for _ in range(3)]
            c.wait(*asked)
            assert all(bytes(r.body) == CONTENT for r in asked)
            assert max(head[0] for head in c.heads[at:]) <= size


class Account:
    """What a client has allowed, and what it has got, of each stream."""

    def __init__(self, c, initial):
        self.c, self.initial, self.credits = c, initial, {}

    def received(self, stream_id):
        return sum(head[0] for head in self.c.heads
                   if head[1] == 0 and head[3] == stream_id)

    def allowed(self, stream_id):
        return self.initial + self.credits.get(stream_id, 0)

    def credit(self, amount, stream_id):
        self.c.credit(amount, stream_id)
        self.credits[stream_id] = self.credits.get(stream_id, 0) + amount

    def change(self, initial):
        """When lowered, what has come until then was still allowed."""
        change(self.c, initial_window_size=initial)
        self.initial = initial

    def filled(self, *streams):
        """Waits until each stream has what it may, and no more."""
        for r in streams:
            self.c.until(lambda: r.done or self.received(r.id)
                         >= self.allowed(r.id))
        self.c.ping()


def test_window_up_and_down(server):
    """Downloads whose windows are raised, lowered, and become negative."""
    with connect(server, "localhost", windows=False,
                 settings={h2raw.INITIAL_WINDOW_SIZE: 1000}) as c:
        c.credit((1 << 31) - 1 - 65535)
        account = Account(c, 1000)
        asked = [c.get("/file") for _ in range(5)]
        account.filled(*asked)
        assert {account.received(r.id) for r in asked} == {1000}
        account.change(50000)
        account.filled(*asked)
        assert {account.received(r.id) for r in asked} == {50000}
        account.change(20000)       # the windows are -30000 now
        c.ping()
        for r in asked:
            account.credit(30000, r.id)
        c.ping()
        assert {account.received(r.id) for r in asked} == {50000}
        for r in asked:
            account.credit(7, r.id)
        account.filled(*asked)
        assert {account.received(r.id) for r in asked} == {50007}
        new = c.get("/file")
        account.filled(new)
        assert account.received(new.id) == 20000
        account.change((1 << 31) - 1 - 30007)
        c.wait(*asked, new)
        assert all(bytes(r.body) == CONTENT for r in asked + [new])


@pytest.mark.parametrize("host", ["localhost", "four.test"])
def test_largest_windows(server, host):
    """2^31-1 for streams and connection: no credit is needed."""
    with connect(server, host, windows=False, settings={
            h2raw.INITIAL_WINDOW_SIZE: (1 << 31) - 1}, timeout=30) as c:
        c.credit((1 << 31) - 1 - 65535)
        asked = [c.get("/file") for _ in range(15)]
        c.wait(*asked)
        assert all(bytes(r.body) == CONTENT for r in asked)
        assert not c.goaways


def test_largest_window_of_the_server(httpd):
    """H2WindowSize 2147483647: uploads that never wait."""
    with httpd("H2WindowSize 2147483647") as server, \
            server.h2(timeout=30) as c:
        c.until(lambda: c.settings_seen, what="SETTINGS")
        assert c.peer_settings[h2raw.INITIAL_WINDOW_SIZE] == (1 << 31) - 1
        c.ping()
        assert c.window == (1 << 31) - 1
        asked = [c.start(c.fields("POST", "/t/upload"), end=False)
                 for _ in range(5)]
        for r in asked:
            c.data(r.id, CONTENT * 3, end=True)
        c.wait(*asked)
        assert {r.text.split("\n")[0] for r in asked} \
            == {"length %d" % (3 * SIZE)}


def test_push_off_and_on(server):
    with connect(server, "localhost",
                 settings={h2raw.ENABLE_PUSH: 1}) as c:
        change(c, enable_push=0)
        assert c.request(path="/push/index.html").promises == []
        change(c, enable_push=1)
        r = c.request(path="/push/index.html")
        assert r.promised_paths == ["/small"]
        c.wait_pushed(r)
