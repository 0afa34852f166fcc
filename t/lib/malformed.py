"""Requests that are malformed (RFC 9113, section 8), by name."""

import pytest

from . import h2raw

M, S, A, P = ((":method", "GET"), (":scheme", "https"),
              (":authority", "localhost"), (":path", "/t/env"))
POST = (":method", "POST")


def path(value):
    return [M, S, A, (":path", value)]


def with_field(*fields):
    return [M, S, A, P] + list(fields)


CASES = {
    # 8.2: field names and values
    "upper case name": with_field(("X-Upper", "v")),
    "one upper case letter": with_field(("x-uppeR", "v")),
    "space in name": with_field(("x y", "v")),
    "space after name": with_field(("x-y ", "v")),
    "colon in name": with_field(("x:y", "v")),
    "empty name": with_field(("", "v")),
    "control in name": with_field(("x\x01y", "v")),
    "8-bit name": with_field(("caf\xe9", "v")),
    "newline in value": with_field(("x-y", "a\nb")),
    "return in value": with_field(("x-y", "a\rb")),
    "header smuggled in value": with_field(("x-y", "a\r\nhost: evil")),
    "nul in value": with_field(("x-y", "a\0b")),
    "newline in name": with_field(("x\nhost", "evil")),
    # 8.2.2: what belongs to a connection
    "connection": with_field(("connection", "close")),
    "keep-alive": with_field(("keep-alive", "1")),
    "proxy-connection": with_field(("proxy-connection", "close")),
    "transfer-encoding": with_field(("transfer-encoding", "chunked")),
    "upgrade": with_field(("upgrade", "websocket")),
    "te: gzip": with_field(("te", "gzip")),
    "te: trailers, gzip": with_field(("te", "trailers, gzip")),
    # 8.3: pseudo-header fields
    "no method": [S, A, P],
    "no scheme": [M, A, P],
    "no path": [M, S, A],
    "two methods": [M, M, S, A, P],
    "two paths": [M, S, A, P, P],
    "two schemes": [M, S, S, A, P],
    "two authorities": [M, S, A, A, P],
    "late pseudo": [M, S, A, ("x-y", "v"), P],
    "unknown pseudo": [M, S, A, P, (":other", "v")],
    "response pseudo": [M, S, A, P, (":status", "200")],
    "protocol without setting": [M, S, A, P, (":protocol", "websocket")],
    "empty path": path(""),
    "path without slash": path("t/env"),
    "path with space": path("/t/env x"),
    "path with newline": path("/t/env\nx"),
    "path smuggles a line": path("/t/env HTTP/1.1\r\nx-y: z"),
    "path with nul": path("/t/env\0"),
    "path with control": path("/t/env\x7f"),
    "absolute path": path("https://localhost/t/env"),
    "asterisk with GET": path("*"),
    "empty method": [(":method", ""), S, A, P],
    "method with space": [(":method", "GET X"), S, A, P],
    "method smuggles": [(":method", "GET / HTTP/1.1\r\nx:"), S, A, P],
    "empty scheme": [M, (":scheme", ""), A, P],
    "bad scheme": [M, (":scheme", "ht tp"), A, P],
    "userinfo": [M, S, (":authority", "user@localhost"), P],
    "userinfo with password": [M, S, (":authority", "u:p@localhost"), P],
    "no authority at all": [M, S, P],
    "authority with space": [M, S, (":authority", "local host"), P],
    "authority with slash": [M, S, (":authority", "localhost/x"), P],
    "authority with newline": [M, S, (":authority", "localhost\nx"), P],
    "host differs": with_field(("host", "elsewhere.test")),
    "two hosts": [M, S, P, ("host", "localhost"), ("host", "other.test")],
    "connect with path": [(":method", "CONNECT"), A, P],
    "connect without authority": [(":method", "CONNECT")],
    # 8.1.1 and 8.6 of RFC 9110: content-length
    "length no number": [POST, S, A, P, ("content-length", "x")],
    "length negative": [POST, S, A, P, ("content-length", "-1")],
    "length with sign": [POST, S, A, P, ("content-length", "+1")],
    "length empty": [POST, S, A, P, ("content-length", "")],
    "two lengths": [POST, S, A, P, ("content-length", "4"),
                    ("content-length", "5")],
    "length too large": [POST, S, A, P,
                         ("content-length", "99999999999999999999999")],
    "length without body": [POST, S, A, P, ("content-length", "10")],
}

#: What mod_http2 lets through.
STOCK_PASSES = {"host differs"}


def case(name):
    mark = pytest.mark.h2x_only("lets it through") \
        if name in STOCK_PASSES else ()
    return pytest.param(CASES[name], id=name.replace(" ", "-"), marks=mark)


def refused(c, r):
    """By stream error, by a 4xx answer, or for the whole connection."""
    return (r.reset == h2raw.PROTOCOL_ERROR
            or (r.status is not None and 400 <= r.status < 500)
            or c.goaway_code == h2raw.PROTOCOL_ERROR)
