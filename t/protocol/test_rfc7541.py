"""RFC 7541: field blocks that a decoder must refuse, and a dynamic table
that stays in step with the client's, whatever comes in between."""

import random

import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from lib import h2raw, inside
from lib.conform import (  # noqa: F401
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, conn, connection,
    connection_error, files, gate, integer, pytest_generate_tests)
from lib.h2raw import COMPRESSION_ERROR, PROTOCOL_ERROR, REFUSED_STREAM

LIMIT = 10

CONFIG = """
H2MaxSessionStreams %d
LimitRequestFieldSize 16000
""" % LIMIT

STATIC = 61         # appendix A
ENV = "/t/env"


# --- representations --------------------------------------------------------


def huffman(data, pad=None):
    """Section 5.2; `pad` are other bits than those of EOS."""
    bits = "".join(format(REQUEST_CODES[b], "0%db" % REQUEST_CODES_LENGTH[b])
                   for b in data)
    bits += "1" * (-len(bits) % 8) if pad is None else pad
    assert len(bits) % 8 == 0
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big") if bits else b""


def string(data, coded=False):
    if isinstance(data, str):
        data = data.encode("latin-1")
    if coded:
        data = huffman(data)
    return integer(len(data), 7, 0x80 if coded else 0) + data


def indexed(index):
    return integer(index, 7, 0x80)


#: Bits of the first byte and of the index of literals (6.2).
LITERAL = {"indexing": (6, 0x40), "without": (4, 0), "never": (4, 0x10)}


def literal(kind, name, value, coded=False):
    """`name` is text or an index."""
    bits, first = LITERAL[kind]
    if isinstance(name, int):
        return integer(name, bits, first) + string(value, coded)
    return bytes([first]) + string(name, coded) + string(value, coded)


def resize(size):
    """6.3"""
    return integer(size, 5, 0x20)


def request(path=ENV):
    """The pseudo-header fields; nothing enters the table."""
    return (indexed(2) + indexed(6) + literal("without", 1, "localhost")
            + literal("without", 4, path))


def send(c, block, stream_id=None, flags=END_HEADERS | END_STREAM):
    r = c._stream(stream_id or c.new_id())
    c.raw_frame(HEADERS, flags, r.id, block)
    return r


def ask(c, fields, prefix=b""):
    """Sends encoded fields to /t/env; its answer in lower case."""
    r = c.wait(send(c, prefix + request() + fields))
    assert r.status == 200, r
    return r.text.lower()


def refused(c, block, **kw):
    send(c, block, **kw)
    connection_error(c, COMPRESSION_ERROR)


PLACE = pytest.mark.parametrize("place", ["request", "trailers", "dropped"])


def place_it(c, place, block):
    """Sends a bad piece in a request, in trailers, or in a field block that
    nobody wants: that of a stream which the server has reset."""
    if place == "request":
        refused(c, request() + block)
        return
    bad = [] if place == "trailers" else [("Bad", "1")]
    r = c.start(c.fields("POST", "/t/upload", bad), end=False)
    if place == "dropped":
        c.until(lambda: r.reset is not None, what="RST_STREAM")
    refused(c, block, stream_id=r.id)


# --- 2.3.3, 6.1, 6.2: indices -----------------------------------------------


@PLACE
def test_6_1_index_0(conn, place):
    place_it(conn, place, b"\x80")


@PLACE
@pytest.mark.parametrize("index", [STATIC + 1, 127, 128, 255, 1000, 1 << 20])
def test_2_3_3_index_out_of_range(server, place, index):
    """With nothing in the table, or one entry (with other clients' none)."""
    with connection(server) as c:
        place_it(c, place, indexed(index)
                 if place == "request" else indexed(index + 10))
    with connection(server) as c:
        assert "x-one: 1\n" in ask(c, literal("indexing", "x-one", "1"))
        assert "x-one: 1\n" in ask(c, indexed(STATIC + 1))
        refused(c, request() + indexed(max(index, STATIC + 2)))


@pytest.mark.parametrize("kind", sorted(LITERAL))
@pytest.mark.parametrize("index", [STATIC + 1, 100, 1000])
def test_2_3_3_name_index_out_of_range(conn, kind, index):
    refused(conn, request() + literal(kind, index, "v"))


# --- 5.1: integers ----------------------------------------------------------


@pytest.mark.parametrize("first", [0xff, 0x7f, 0x0f, 0x1f, 0x3f],
                         ids=["indexed", "indexing", "without", "never",
                              "update"])
@pytest.mark.parametrize("rest", [
    b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f", b"\xff" * 9 + b"\x01",
    b"\x80" * 9 + b"\x01", b"\xff" * 100 + b"\1"],
    ids=["2^32", "2^35", "2^64", "zeros", "100-bytes"])
def test_5_1_integer_too_large(conn, first, rest):
    block = bytes([first]) + rest
    refused(conn, block + request() if first == 0x3f
            else request() + block + b"\1v")


@pytest.mark.parametrize("of", ["name", "value"])
@pytest.mark.parametrize("coded", [0, 0x80])
@pytest.mark.parametrize("rest", [
    b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\x01"],
    ids=["2^32", "2^64", "zeros"])
def test_5_1_length_too_large(conn, of, coded, rest):
    length = bytes([0x7f | coded]) + rest
    refused(conn, request() + b"\x40" + (b"" if of == "name" else b"\1x")
            + length)


@pytest.mark.parametrize("length", [70000, 1 << 20, 1 << 24, 1 << 31])
def test_5_1_length_above_the_limit(conn, length):
    """A string far longer than any header block may be: a limit of the
    decoder, told at once, or when the block is complete without it."""
    refused(conn, request() + b"\x40\1x" + integer(length, 7) + b"v" * 100)


def test_5_1_integers(conn):
    """Each length of an encoding that is needed for lengths of strings."""
    for size in (0, 1, 126, 127, 128, 254, 255, 256, 8000):
        text = ask(conn, literal("without", "x-size", "v" * size))
        assert "x-size: %s\n" % ("v" * size) in text


# --- 5.2: strings -----------------------------------------------------------


@PLACE
@pytest.mark.parametrize("block", [
    b"\x40\5abc", b"\x40\3abc", b"\x40\3abc\5ab", b"\x40", b"\x00\1",
    b"\x40\x85\xff", b"\x40\1a\x84\xff", b"\x7f", b"\xff", b"\xff\x80",
    b"\x10", b"\x0f", b"\x5f", b"\x40\1x\x7f\x80"])
def test_5_2_truncated(conn, place, block):
    """The field block ends within a representation."""
    place_it(conn, place, block)


def test_5_2_truncated_anywhere(server):
    """A request cut off at each place: an error of the decoder, unless that
    is between two fields; then it lacks some, or is a good one."""
    parts = [indexed(2), indexed(6), literal("without", 1, "localhost"),
             literal("without", 4, ENV), literal("indexing", "x-name", "1"),
             literal("never", "x-never", "abc", True)]
    block = b"".join(parts)
    between = {sum(map(len, parts[:i])) for i in range(len(parts) + 1)}
    for at in range(len(block) + 1):
        with connection(server) as c:
            r = send(c, block[:at])
            if at not in between:
                connection_error(c, COMPRESSION_ERROR)
                continue
            c.wait(r)
            if at < sum(map(len, parts[:4])):
                assert r.reset == PROTOCOL_ERROR or r.status == 400
            else:
                assert r.status == 200


EOS = (REQUEST_CODES[256], REQUEST_CODES_LENGTH[256])


@PLACE
@pytest.mark.parametrize("data", [
    huffman(b"abc") + b"\xff", huffman(b"abc") + b"\xff\xff",
    b"\xff", b"\xff\xff\xff", huffman(b"0", "111") + b"\xff"],
    ids=["1-more", "2-more", "alone", "3-alone", "full"])
def test_5_2_padding_longer_than_7_bits(conn, place, data):
    place_it(conn, place, b"\x00\1x" + bytes([0x80 | len(data)]) + data)


@PLACE
@pytest.mark.parametrize("pad", ["000", "100", "110", "011"])
def test_5_2_padding_that_is_not_of_eos(conn, place, pad):
    data = huffman(b"0", pad)           # a code of 5 bits
    place_it(conn, place, b"\x00\1x" + bytes([0x80 | len(data)]) + data)


@PLACE
@pytest.mark.parametrize("before,behind", [(b"", b""), (b"ab", b""),
                                           (b"", b"ab"), (b"ab", b"cd")])
def test_5_2_eos_within_a_string(conn, place, before, behind):
    bits = "".join(format(REQUEST_CODES[b], "0%db" % REQUEST_CODES_LENGTH[b])
                   for b in before)
    bits += format(EOS[0], "0%db" % EOS[1])
    bits += "".join(format(REQUEST_CODES[b], "0%db" % REQUEST_CODES_LENGTH[b])
                    for b in behind)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    place_it(conn, place, b"\x00\1x" + bytes([0x80 | len(data)]) + data)


@pytest.mark.parametrize("pad", range(8))
def test_5_2_padding_of_each_length(conn, pad):
    """0 to 7 bits."""
    for value in ("", "0", "00", "000", "0000", "&", "&0", "&00", "Z", "ZZ0",
                  "\x7e", "aeiou"):
        bits = sum(REQUEST_CODES_LENGTH[ord(ch)] for ch in value)
        if -bits % 8 == pad:
            text = ask(conn, literal("without", "x-pad", value, True))
            assert "x-pad: %s\n" % value.lower() in text
            return
    assert pad, "no value for it"


def test_5_2_huffman_codes(conn):
    """Each byte that a value may have."""
    for start in range(0x20, 0x100, 16):
        value = "".join(chr(b) for b in range(start, start + 16) if b != 0x7f)
        r = conn.wait(send(conn, request() + literal(
            "without", "x-code", "." + value + ".", True)))
        assert r.status == 200
        assert ("x-code: .%s.\n" % value).encode("latin-1").lower() \
            in bytes(r.body).lower()


# --- 6.3, 4.2, 4.3: size updates --------------------------------------------


@PLACE
@pytest.mark.parametrize("size", [4097, 8192, 65536, (1 << 32) - 1])
def test_6_3_size_above_the_limit(conn, place, size):
    """SETTINGS_HEADER_TABLE_SIZE is 4096 unless the server says more."""
    conn.ping()
    limit = conn.peer_settings.get(h2raw.HEADER_TABLE_SIZE, 4096)
    if place == "request":
        refused(conn, resize(max(size, limit + 1)) + request())
    else:
        place_it(conn, place, resize(max(size, limit + 1)))


@PLACE
@pytest.mark.parametrize("size", [0, 100, 4096])
def test_4_2_update_behind_a_field(conn, place, size):
    """It must come first."""
    place_it(conn, place, literal("without", "x", "1") + resize(size))


@pytest.mark.parametrize("size", [0, 31, 100, 4096])
def test_4_2_update_in_a_later_frame(conn, size):
    """The beginning is that of the block, not of a CONTINUATION."""
    block = request()
    send(conn, block, flags=END_STREAM)
    conn.raw_frame(CONTINUATION, END_HEADERS, 1, resize(size))
    connection_error(conn, COMPRESSION_ERROR)


@pytest.mark.parametrize("sizes", [(4096,), (0,), (0, 4096), (100, 50),
                                   (0, 0), (4096, 4096)])
def test_6_3_updates(conn, sizes):
    """One or two, at the beginning, any size up to the limit."""
    ask(conn, literal("indexing", "x-first", "1"))
    text = ask(conn, literal("indexing", "x-second", "2"),
               prefix=b"".join(map(resize, sizes)))
    assert "x-second: 2\n" in text
    unharmed_plain(conn)
    if min(sizes) >= 4096:
        assert "x-first: 1\n" in ask(conn, indexed(STATIC + 2))
    else:
        room = sizes[-1] >= 41
        if room:
            assert "x-second: 2\n" in ask(conn, indexed(STATIC + 1))
        refused(conn, request() + indexed(STATIC + 1 + room))


def unharmed_plain(c):
    """As unharmed(), but the table stays as it is."""
    assert "hostname: localhost\n" in ask(c, b"")
    assert c.ping() and not c.goaways


def test_4_3_smaller_table_drops_the_oldest(conn):
    for i in range(4):                          # of 41 bytes each
        ask(conn, literal("indexing", "x-name-%d" % i, "v"))
    ask(conn, b"", prefix=resize(2 * 41))
    text = ask(conn, indexed(STATIC + 1) + indexed(STATIC + 2))
    assert "x-name-3: v\n" in text and "x-name-2: v\n" in text
    refused(conn, request() + indexed(STATIC + 3))


# --- 4.1, 4.4: eviction -----------------------------------------------------


def test_4_1_size_of_entries(conn):
    """Name, value and 32, of the strings as they are before coding."""
    ask(conn, literal("indexing", "x-a", "a" * (2048 - 35), True))
    ask(conn, literal("indexing", "x-b", "b" * (2048 - 35), True))
    text = ask(conn, indexed(STATIC + 1) + indexed(STATIC + 2))
    assert "x-a: aa" in text and "x-b: bb" in text
    ask(conn, literal("indexing", "c", ""))     # 33 bytes
    assert "x-b: bb" in ask(conn, indexed(STATIC + 1) + indexed(STATIC + 2))
    refused(conn, request() + indexed(STATIC + 3))


@pytest.mark.parametrize("size", [4097, 5000, 12000])
def test_4_4_entry_larger_than_the_table(conn, size):
    """No error: the table is empty then."""
    ask(conn, literal("indexing", "x-first", "1"))
    value = "v" * (size - 32 - len("x-large"))
    assert "x-large: %s\n" % value in ask(
        conn, literal("indexing", "x-large", value))
    assert "x-next: 2\n" in ask(conn, literal("indexing", "x-next", "2"))
    assert "x-next: 2\n" in ask(conn, indexed(STATIC + 1))
    refused(conn, request() + indexed(STATIC + 2))


def test_4_4_entry_as_large_as_the_table(conn):
    ask(conn, literal("indexing", "x-first", "1"))
    value = "v" * (4096 - 32 - len("x-large"))
    ask(conn, literal("indexing", "x-large", value))
    assert "x-large: %s\n" % value in ask(conn, indexed(STATIC + 1))
    refused(conn, request() + indexed(STATIC + 2))


def test_4_4_name_of_an_entry_that_goes(conn):
    """A new entry may refer to the name of one that it pushes out."""
    name = "x-" + "n" * 1000
    ask(conn, literal("indexing", name, "1" * 2000))
    text = ask(conn, literal("indexing", STATIC + 1, "2" * 2500))
    assert "%s: %s\n" % (name, "2" * 2500) in text
    text = ask(conn, indexed(STATIC + 1))
    assert "%s: %s\n" % (name, "2" * 2500) in text
    refused(conn, request() + indexed(STATIC + 2))


def test_4_4_name_of_an_entry_that_goes_for_nothing(conn):
    """Also when the new one is too large to stay."""
    ask(conn, literal("indexing", "x-name", "1"))
    text = ask(conn, literal("indexing", STATIC + 1, "2" * 5000))
    assert "x-name: %s\n" % ("2" * 5000) in text
    refused(conn, request() + indexed(STATIC + 1))


def test_2_3_2_duplicates(conn):
    """Are no error; each is an entry."""
    for _ in range(3):
        ask(conn, literal("indexing", "x-same", "1"))
    for i in (1, 2, 3):
        assert "x-same: 1\n" in ask(conn, indexed(STATIC + i))
    refused(conn, request() + indexed(STATIC + 4))


@pytest.mark.parametrize("kind", ["without", "never"])
def test_6_2_literals_that_leave_the_table_alone(conn, kind):
    ask(conn, literal("indexing", "x-first", "1"))
    for coded in (False, True):
        assert "x-other: 2\n" in ask(
            conn, literal(kind, "x-other", "2", coded))
        assert "x-first: 3\n" in ask(
            conn, literal(kind, STATIC + 1, "3", coded))
    assert "x-first: 1\n" in ask(conn, indexed(STATIC + 1))
    refused(conn, request() + indexed(STATIC + 2))


def test_3_2_order_is_kept(conn):
    """2.1 too: of fields, and of those with the same name."""
    text = ask(conn, b"".join(
        literal(kind, name, value) for kind, name, value in [
            ("without", "x-a", "1"), ("indexing", "x-dup", "1"),
            ("never", "x-b", "2"), ("indexing", "x-dup", "2"),
            ("without", "x-dup", "3"), ("indexing", "x-c", "3")]))
    assert "x-dup: 1, 2, 3\n" in text
    assert text.index("x-a: 1") < text.index("x-b: 2") < text.index("x-c: 3")


# --- the table over many requests -------------------------------------------


class Table:
    """An encoder that chooses any representation that is allowed."""

    def __init__(self, rnd):
        self.rnd, self.entries, self.most = rnd, [], 4096

    def fit(self, room):
        while sum(len(n) + len(v) + 32 for n, v in self.entries) > room:
            self.entries.pop()

    def resize(self, size):
        self.most = size
        self.fit(size)
        return resize(size)

    def encode(self, name, value):
        rnd = self.rnd
        coded = rnd.random() < 0.5
        if (name, value) in self.entries and rnd.random() < 0.8:
            return indexed(STATIC + 1 + self.entries.index((name, value)))
        kind = rnd.choice(["indexing", "indexing", "without", "never"])
        as_name = name
        if rnd.random() < 0.7:
            known = [i for i, e in enumerate(self.entries) if e[0] == name]
            as_name = STATIC + 1 + rnd.choice(known) if known else name
        block = literal(kind, as_name, value, coded)
        if kind == "indexing":
            size = len(name) + len(value) + 32
            self.fit(max(self.most - size, 0))
            if size <= self.most:
                self.entries.insert(0, (name, value))
        return block


def some_fields(rnd):
    found = {}
    for _ in range(rnd.randrange(1, 12)):
        name = "x-%d%s" % (rnd.randrange(40), "n" * rnd.choice((0, 0, 5, 60)))
        found[name] = rnd.choice("abc") * rnd.choice((0, 1, 7, 40, 300, 1500))
    return list(found.items())


@pytest.mark.parametrize("seed", range(4))
def test_2_3_2_many_requests(conn, seed):
    """What the server decoded is what was meant, 200 times; with requests
    that are malformed or reset among them, which count as well."""
    rnd = random.Random(seed)
    table = Table(rnd)
    bad = 0
    for _ in range(200):
        block = b""
        if rnd.random() < 0.1:
            block = table.resize(rnd.choice((0, 100, 1000, 4096)))
        fields = some_fields(rnd)
        spoil = bad < 5 and rnd.random() < 0.03
        block += request() + b"".join(
            table.encode(n, v) for n, v in fields[:len(fields) // 2])
        if spoil:
            block += literal("without", "Upper", "case")
        block += b"".join(
            table.encode(n, v) for n, v in fields[len(fields) // 2:])
        r = send(conn, block)
        if spoil:
            bad += 1
            conn.wait(r)
            assert r.reset == PROTOCOL_ERROR or r.status == 400
        else:
            conn.wait(r)
            assert r.status == 200
            for name, value in fields:
                assert "%s: %s\n" % (name, value) in r.text.lower()
    assert conn.ping() and not conn.goaways


ENTRIES = (literal("indexing", "x-step", "7"),
           literal("indexing", "x-back", "8"))


def in_step(c):
    """A field block with ENTRIES was decoded, whatever became of it."""
    text = ask(c, indexed(STATIC + 1) + indexed(STATIC + 2))
    assert "x-step: 7\n" in text and "x-back: 8\n" in text


def test_2_2_block_of_a_malformed_request(conn):
    """Decoded to the end (RFC 9113, 4.3)."""
    r = send(conn, request() + ENTRIES[0] + literal("without", "Up", "1")
             + ENTRIES[1])
    in_step(conn)
    conn.wait(r)
    assert r.reset == PROTOCOL_ERROR or r.status == 400


def test_2_2_block_of_a_refused_stream(server, conn, gate):
    conn.ping()
    held = [conn.get("/t/wait?gate=%d" % gate) for _ in range(LIMIT)]
    r = send(conn, request() + ENTRIES[0] + ENTRIES[1])
    conn.until(lambda: r.done or conn.goaways, what="refusal")
    inside.open_gate(server, gate)
    if conn.goaways:
        connection_error(conn, PROTOCOL_ERROR)
        return
    conn.wait(*held)
    assert r.reset in (REFUSED_STREAM, PROTOCOL_ERROR)
    in_step(conn)


@pytest.mark.parametrize("seen", [True, False])
def test_2_2_block_on_a_stream_that_was_reset(conn, seen):
    """RFC 9113, 5.1: trailers that crossed the server's RST_STREAM."""
    r = conn.start(conn.fields("POST", "/t/upload", [("Bad", "1")]),
                   end=False)
    if seen:
        conn.until(lambda: r.reset is not None, what="RST_STREAM")
    send(conn, ENTRIES[0] + ENTRIES[1], stream_id=r.id)
    in_step(conn)
    assert r.reset == PROTOCOL_ERROR


def test_2_2_block_of_a_head_that_is_too_large(conn):
    """Above the limits of httpd: refused, but decoded."""
    block = (request() + ENTRIES[0]
             + literal("without", "x-large", "v" * 16100) + ENTRIES[1])
    r = conn.start(None, block=block)
    in_step(conn)
    assert conn.wait(r).status == 431


def test_2_2_blocks_in_pieces(conn):
    """Cut anywhere, also within a representation."""
    block = request() + ENTRIES[0] + literal(
        "indexing", "x-coded", "some longer value", True) + ENTRIES[1]
    for at in range(1, len(block)):
        stream_id = conn.new_id()
        r = conn._stream(stream_id)
        conn.raw_frame(HEADERS, END_STREAM, stream_id, block[:at])
        conn.raw_frame(CONTINUATION, END_HEADERS, stream_id, block[at:])
        text = conn.wait(r).text.lower()
        assert "x-step: 7\n" in text and "x-back: 8\n" in text
        assert "x-coded: some longer value\n" in text
    assert conn.ping() and not conn.goaways


@pytest.mark.parametrize("count", [20, 80])
def test_2_2_interleaved_streams(conn, count):
    """One table for all streams: in the order in which heads are sent."""
    asked = []
    for i in range(count):
        fields = b"".join(indexed(STATIC + 1 + k) for k in range(min(i, 8)))
        fields += literal("indexing", "x-number-%d" % i, str(i))
        asked.append(send(conn, request() + fields))
        if i % LIMIT == LIMIT - 1:
            conn.wait(*asked)
    conn.wait(*asked)
    for i, r in enumerate(asked):
        for k in range(max(i - 8, 0), i + 1):
            assert "x-number-%d: %d\n" % (k, k) in r.text.lower()


# --- what the server encodes ------------------------------------------------


def test_2_2_responses_can_be_decoded(conn):
    """Many different heads, with tables of the default size; other sizes
    are in test_rfc9113_settings.py."""
    for i in range(150):
        kind = ("odd", "many&n=%d&size=%d" % (i % 7 + 1, i * 37 % 900))[i % 2]
        r = conn.request(path="/t/fields?kind=" + kind)
        assert r.status == 200
        if i % 2:
            assert len([n for n, _ in r.headers
                        if n.startswith("x-many-")]) == i % 7 + 1
        else:
            assert r.all("set-cookie") == ["a=1", "b=2"]
