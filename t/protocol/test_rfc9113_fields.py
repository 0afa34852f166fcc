"""RFC 9113, sections 8.2 and 8.3: fields and pseudo-header fields of
requests.  The cases of test_malformed.py again, with the exact outcome, and
each byte that must not be."""

import pytest

from lib import inside
from lib.conform import (  # noqa: F401
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, conn, connection, files,
    malformed, pieces, pytest_generate_tests, unharmed)
from lib.h2raw import PROTOCOL_ERROR
from lib.malformed import CASES, case

HOSTS = {
    "one.test": "",
}
TLS = True

M, S, A, P = ((":method", "GET"), (":scheme", "https"),
              (":authority", "localhost"), (":path", "/t/env"))


def handled(server):
    return inside.counters(server)["handled"]


def refused(server, c, fields, **kw):
    """As malformed, before any handler (but that of unharmed)."""
    before = handled(server)
    r = c.start(fields, **kw)
    malformed(c, r)
    assert handled(server) <= before + 1
    return r


# --- the cases of test_malformed.py -------------------------------------


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("name", [
    pytest.param(n, marks=case(n).marks)
    for n in sorted(CASES)])
def test_8_1_1_malformed(server, conn, name, parts):
    """PROTOCOL_ERROR or 400, nothing else; in CONTINUATION, too."""
    before = handled(server)
    blocks = pieces(conn.encode(CASES[name]), parts)
    stream_id = conn.new_id()
    r = conn._stream(stream_id)
    for i, block in enumerate(blocks):
        conn.raw_frame(CONTINUATION if i else HEADERS,
                       (0 if i else END_STREAM)
                       | (END_HEADERS if i == len(blocks) - 1 else 0),
                       stream_id, block)
    malformed(conn, r)
    assert handled(server) <= before + 1


# --- 8.2.1: bytes -------------------------------------------------------

#: Not in names: controls and space, upper case, DEL and what is not ASCII.
BAD_IN_NAMES = [*range(0x21), *range(0x41, 0x5b), *range(0x7f, 0x100)]


def some(values, count=6):
    return [values[i:i + count] for i in range(0, len(values), count)]


def ids(chunk):
    return "%02x-%02x" % (chunk[0], chunk[-1])


@pytest.mark.parametrize("chunk", some(BAD_IN_NAMES), ids=ids)
@pytest.mark.parametrize("place", ["first", "middle", "last", "alone"])
def test_8_2_1_byte_in_name(server, chunk, place):
    with connection(server, tls=True) as c:
        before = handled(server)
        for byte in chunk:
            name = {"first": b"%cxy", "middle": b"x%cy", "last": b"xy%c",
                    "alone": b"%c"}[place] % byte
            malformed(c, c.start(c.fields(path="/t/env",
                                          headers=[(name, b"v")])))
        assert handled(server) <= before + len(chunk)


@pytest.mark.parametrize("name", ["x:y", "xy:", "host:x", "x::"])
def test_8_2_1_colon_in_name(server, conn, name):
    refused(server, conn, conn.fields(path="/t/env", headers=[(name, "v")]))


def test_8_2_1_empty_name(server, conn):
    """No name at all is no field (RFC 9110, 5.1)."""
    refused(server, conn, conn.fields(path="/t/env", headers=[("", "v")]))


@pytest.mark.parametrize("byte", [b"\0", b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("place", ["first", "middle", "last", "alone"])
@pytest.mark.parametrize("name", ["x-field", "cookie", "content-type", "host",
                                  "te", "user-agent"])
def test_8_2_1_byte_in_value(server, conn, byte, place, name):
    value = {"first": b"%bab", "middle": b"a%bb", "last": b"ab%b",
             "alone": b"%b"}[place] % byte
    refused(server, conn, conn.fields(path="/t/env",
                                      headers=[(name, value)]))


@pytest.mark.h2x_only("drops the field in place of the request")
@pytest.mark.parametrize("space", [" ", "\t", "  ", " \t"])
@pytest.mark.parametrize("place", ["before", "behind", "both", "alone"])
@pytest.mark.parametrize("name", ["x-field", "cookie", "content-type"])
def test_8_2_1_whitespace_around_value(conn, space, place, name):
    """It is taken away, as over HTTP/1.1: clients that mod_http2 serves send
    some, though the RFC has none there."""
    value = {"before": "%sa b", "behind": "a b%s", "both": "%sa b" + space,
             "alone": "%s"}[place] % space
    r = conn.request(path="/t/env", headers=[(name, value)])
    assert r.status == 200
    assert "\n%s: %s\n" % (name, "" if place == "alone" else "a b") \
        in r.text.lower()


@pytest.mark.parametrize("space", [" ", "\t"])
def test_8_2_1_whitespace_around_trailer(conn, space):
    r = conn.request("POST", "/t/show-trailers", body=b"x",
                     trailers=[("x-one", space + "a b"), ("x-two", space),
                               ("x-three", "c" + space)])
    assert r.text.lower() == "trailers\nx-one: a b\nx-two: \nx-three: c\n"


@pytest.mark.parametrize("place", ["%s%s", "%s%s%s", "%s"])
@pytest.mark.parametrize("space", [" ", "\t"])
@pytest.mark.parametrize("name,value", [
    ("content-length", "0"), ("host", "localhost"), ("te", "trailers"),
    ("transfer-encoding", "chunked"), ("connection", "close")])
def test_8_2_1_whitespace_around_framing(server, conn, space, place, name,
                                         value):
    """What says where a request ends, or whom it is for, has none."""
    value = place % {1: space, 2: (value, space),
                     3: (space, value, space)}[place.count("%")]
    refused(server, conn, conn.fields(path="/t/env",
                                      headers=[(name, value)]))


@pytest.mark.h2x_only("takes them with the blanks")
@pytest.mark.parametrize("value", [" websocket", "websocket ", "websocket\t",
                                   " "])
def test_8_2_1_whitespace_around_protocol(httpd, value):
    with httpd("H2WebSockets on") as server, connection(server) as c:
        server.write("index.html", "hello\n")      # for unharmed()
        refused(server, c, [
            (":method", "CONNECT"), (":protocol", value), (":scheme", "http"),
            (":authority", "localhost"), (":path", "/t/env")])


@pytest.mark.parametrize("space", [" ", "\t"])
@pytest.mark.parametrize("field", [0, 1, 2, 3],
                         ids=["method", "scheme", "authority", "path"])
@pytest.mark.parametrize("place", ["before", "behind"])
def test_8_2_1_whitespace_around_pseudo_value(server, conn, space, field,
                                              place):
    fields = [M, S, A, P]
    name, value = fields[field]
    fields[field] = (name, space + value if place == "before"
                     else value + space)
    refused(server, conn, fields)


@pytest.mark.parametrize("byte", ["\0", "\n", "\r"])
@pytest.mark.parametrize("field", [0, 1, 2, 3],
                         ids=["method", "scheme", "authority", "path"])
def test_8_2_1_byte_in_pseudo_value(server, conn, byte, field):
    fields = [M, S, A, P]
    fields[field] = (fields[field][0], fields[field][1] + byte + "x")
    refused(server, conn, fields)


def test_8_2_1_values_that_are_allowed(conn):
    """Whitespace within, nothing at all, each byte of obs-text."""
    values = ["a b", "a\tb", "a  b", "", "".join(map(chr, range(0x80, 0x100))),
              "".join(map(chr, range(0x21, 0x7f)))]
    r = conn.request(path="/t/env", headers=[
        ("x-value-%d" % i, v) for i, v in enumerate(values)])
    assert r.status == 200
    seen = bytes(r.body).decode("latin-1").lower()
    for i, value in enumerate(values):
        assert "x-value-%d: %s\n" % (i, value.lower()) in seen


# --- 8.2.2 --------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "connection", "proxy-connection", "keep-alive", "transfer-encoding",
    "upgrade"])
@pytest.mark.parametrize("value", ["", "close", "x-field", "chunked", "h2c"])
def test_8_2_2_connection_specific(server, conn, name, value):
    """Whatever its value, on requests with and without a body."""
    refused(server, conn, conn.fields(path="/t/env", headers=[(name, value)]))
    refused(server, conn, conn.fields("POST", "/t/upload", [(name, value)]),
            end=False)


@pytest.mark.parametrize("value", [
    "gzip", "deflate, trailers", "trailers, gzip", "trailers;q=0.5",
    "chunked", "identity", "trailersx", "x trailers"])
def test_8_2_2_te(server, conn, value):
    refused(server, conn, conn.fields(path="/t/env", headers=[("te", value)]))


@pytest.mark.parametrize("values", [("trailers",), ("trailers", "trailers")])
def test_8_2_2_te_trailers(conn, values):
    r = conn.request(path="/t/env", headers=[("te", v) for v in values])
    assert r.status == 200


@pytest.mark.h2x_only("passes Proxy-Connection on")
def test_8_2_2_responses(conn):
    """The server drops what handlers set; see conduct()."""
    r = conn.request(path="/t/fields?kind=hop")
    assert r.status == 200 and r.header("x-kept") == "yes"


def test_8_2_3_cookies(conn):
    """Joined before httpd sees them."""
    r = conn.request(path="/t/env", headers=[
        ("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2; c=3"),
        ("cookie", "d=4")])
    assert "cookie: a=1; b=2; c=3; d=4\n" in r.text.lower()


# --- 8.3 ----------------------------------------------------------------


@pytest.mark.parametrize("late", [M, S, A, P], ids=lambda f: f[0])
@pytest.mark.parametrize("name", ["x-field", "host", "cookie"])
def test_8_3_pseudo_behind_a_field(server, conn, late, name):
    rest = [f for f in (M, S, A, P) if f != late]
    refused(server, conn, rest + [(name, "localhost"), late])


@pytest.mark.parametrize("twice", [M, S, A, P], ids=lambda f: f[0])
@pytest.mark.parametrize("same", [True, False])
def test_8_3_pseudo_twice(server, conn, twice, same):
    other = (twice[0], twice[1] if same else {
        ":method": "POST", ":scheme": "http", ":authority": "one.test",
        ":path": "/"}[twice[0]])
    refused(server, conn, [M, S, A, P, other])


@pytest.mark.parametrize("name", [":status", ":", ":x", ":Path", ":host",
                                  ":authority ", "::path", ":paths", ":metho",
                                  ":protocol"])
def test_8_3_pseudo_that_is_none(server, conn, name):
    """Undefined, of responses, or not negotiated (RFC 8441)."""
    refused(server, conn, [M, S, A, P, (name, "200")])


@pytest.mark.parametrize("missing", [M, S, P], ids=lambda f: f[0])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_8_3_1_pseudo_is_missing(server, conn, missing, method):
    fields = [(":method", method) if f is M else f for f in (M, S, A, P)
              if f != missing]
    refused(server, conn, fields)


@pytest.mark.parametrize("field", [M, S, P], ids=lambda f: f[0])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_8_3_1_pseudo_is_empty(server, conn, field, method):
    """:path may not be, for http and https; of the others an empty value is
    none that is valid."""
    fields = [(":method", method), S, A, P]
    fields = [(f[0], "") if f[0] == field[0] else f for f in fields]
    refused(server, conn, fields)


def test_8_3_1_any_order(conn):
    for fields in ([P, A, S, M], [A, M, P, S], [S, P, M, A]):
        assert conn.wait(conn.start(fields)).status == 200


# --- 8.3.1: :authority and Host -----------------------------------------


@pytest.mark.h2x_only("lets it through")
@pytest.mark.parametrize("authority,host", [
    ("localhost", "one.test"), ("one.test", "localhost"),
    ("localhost", "localhost.evil.test"), ("localhost", "localhost:81"),
    ("localhost", "")])
def test_8_3_1_host_differs(server, conn, authority, host):
    refused(server, conn, [M, S, (":authority", authority), P,
                           ("host", host)])


@pytest.mark.parametrize("authority,host", [
    ("localhost", "LOCALHOST"), ("localhost", "localhost:443"),
    ("localhost:443", "localhost")])
def test_8_3_1_host_is_the_same(conn, authority, host):
    """After normalization, which an origin server may choose: both are
    taken for one, or the request is refused; Host never decides."""
    r = conn.start([M, S, (":authority", authority), P, ("host", host)])
    conn.pump(lambda: r.done or conn.goaways)
    if r.status == 200:
        assert "\nhostname: localhost\n" in r.text
        assert "host: %s\n" % authority in r.text.lower()
        unharmed(conn)
    else:
        malformed(conn, r)


@pytest.mark.parametrize("name", ["one.test", "localhost"])
def test_8_3_1_authority_or_host(conn, name):
    """Either alone names the virtual host."""
    for fields in ([M, S, (":authority", name), P], [M, S, P, ("host", name)],
                   [M, S, (":authority", name), P, ("host", name)]):
        r = conn.wait(conn.start(fields))
        assert r.status == 200 and "\nserver: %s\n" % name in r.text


@pytest.mark.parametrize("hosts", [("localhost", "localhost"),
                                   ("localhost", "one.test"),
                                   ("localhost, localhost",)])
@pytest.mark.parametrize("with_authority", [True, False])
def test_8_3_1_more_than_one_host(server, conn, hosts, with_authority):
    """RFC 9110, 7.2."""
    refused(server, conn, [M, S] + ([A] if with_authority else []) + [P]
            + [("host", h) for h in hosts])


@pytest.mark.parametrize("authority", [
    "user@localhost", "user:secret@localhost", "@localhost", "localhost@",
    "user%40x@localhost:443"])
@pytest.mark.parametrize("field", [":authority", "host"])
def test_8_3_1_userinfo(server, conn, authority, field):
    if field == "host":
        fields = [M, S, P, ("host", authority)]
    else:
        fields = [M, S, (":authority", authority), P]
    refused(server, conn, fields)


# --- 8.3.1: :path -------------------------------------------------------


@pytest.mark.parametrize("path", [
    "", "*", "t/env", "?query", "#", "//", "https://localhost/t/env",
    "localhost", "*/", "/*"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
def test_8_3_1_path(server, conn, method, path):
    """absolute-path and query; asterisk-form is for OPTIONS."""
    fields = [(":method", method), S, A, (":path", path)]
    if not path.startswith("/"):
        refused(server, conn, fields)
    else:
        r = conn.wait(conn.start(fields))
        assert r.status in (200, 403, 404, 405) and r.reset is None


@pytest.mark.parametrize("path", ["", "**", "*x", "t/env", "?*",
                                  "https://localhost"])
def test_8_3_1_path_of_options(server, conn, path):
    refused(server, conn, [(":method", "OPTIONS"), S, A, (":path", path)])


@pytest.mark.parametrize("path", ["*", "/", "/index.html"])
def test_8_3_1_options(conn, path):
    r = conn.wait(conn.start([(":method", "OPTIONS"), S, A, (":path", path)]))
    assert r.status == 200 and r.reset is None
    unharmed(conn)


# --- harm to others -----------------------------------------------------


def test_8_1_1_field_block_counts(conn):
    """What was decoded of a malformed request before and behind the fault
    stays in the table for the requests that follow."""
    for i, name in enumerate(["Upper", "connection", "x y", ":late"]):
        bad = conn.start(conn.fields(path="/t/env", headers=[
            ("x-before-%d" % i, "b" * 20), (name, "v"),
            ("x-behind-%d" % i, "c" * 20)]))
        again = conn.start(conn.fields(path="/t/env", headers=[
            ("x-before-%d" % i, "b" * 20), ("x-behind-%d" % i, "c" * 20)]))
        conn.wait(again)
        assert "x-before-%d: %s\n" % (i, "b" * 20) in again.text.lower()
        assert "x-behind-%d: %s\n" % (i, "c" * 20) in again.text.lower()
        conn.wait(bad)
        assert bad.reset == PROTOCOL_ERROR or bad.status == 400
    unharmed(conn)
