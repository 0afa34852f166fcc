"""Malformed requests (RFC 9113, section 8) never reach a handler."""

import pytest

from lib import inside
from lib.malformed import CASES, A, M, P, S, case, path, refused, with_field

CONFIG = ""


def files(server):
    server.write("index.html", "hello\n")


@pytest.mark.parametrize("fields", [case(n) for n in CASES])
def test_malformed(server, h2, fields):
    before = inside.counters(server)
    r = h2.start(fields, end=True)
    h2.pump(lambda: r.done or h2.goaways)
    assert refused(h2, r), r
    after = inside.counters(server)
    assert after["handled"] == before["handled"]
    if not h2.goaways:
        assert h2.request(path="/index.html").text == "hello\n"


@pytest.mark.parametrize("announced,sent", [(10, 5), (5, 10)])
@pytest.mark.parametrize("end", ["data", "trailers"])
def test_length_mismatch(server, h2, announced, sent, end):
    """content-length against the sum of DATA: malformed once it shows."""
    r = h2.start(h2.fields("POST", "/t/upload",
                           {"content-length": str(announced)}), end=False)
    h2.data(r.id, b"x" * sent, end=end == "data")
    if end == "trailers":
        h2.trailers(r.id, [("x-t", "1")])
    h2.pump(lambda: r.done or h2.goaways)
    assert refused(h2, r), r
    assert "length" not in r.text
    assert server.http1().status == 200


# --- and what must be accepted ----------------------------------------

@pytest.mark.parametrize("fields", [
    with_field(("te", "trailers")),
    with_field(("x-tab", "a\tb")),
    with_field(("x-empty", "")),
    with_field(("x-latin", "caf\xe9")),
    with_field(("!#$%&'*+-.^_`|~09az", "v")),
    with_field(("host", "localhost")),
    with_field(("content-length", "0")),
    with_field(("x-dup", "1"), ("x-dup", "2")),
    [M, S, P, ("host", "localhost")],
    [P, A, S, M],
    path("/t/env?a=/b?c"), path("/t/env?\"<>{}|^`"), path("//t/env"),
    path("/t/./env"), path("/t/%65nv"),
    [M, S, (":authority", "localhost:1234"), P],
    [M, S, (":authority", "LOCALHOST"), P],
    [M, S, (":authority", "[::1]:80"), P],
], ids=range(18))
def test_well_formed(server, h2, fields):
    r = h2.wait(h2.start(fields, end=True))
    assert (r.status, r.reset) == (200, None)


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_other_scheme(h2, scheme):
    """Not the connection's own: refused or served, but cleanly."""
    r = h2.wait(h2.start([M, (":scheme", scheme), A, P], end=True))
    assert r.status in (200, 400, 421) or r.reset is not None
    assert h2.request(path="/index.html").text == "hello\n"


def test_malformed_among_good(server):
    """A malformed request harms no other stream of its connection."""
    with server.h2() as c:
        slow = c.get("/t/trickle?n=10&ms=20")
        bad = [c.start(CASES[n], end=True) for n in (
            "upper case name", "connection", "no method", "empty path")]
        good = [c.get("/index.html") for _ in range(5)]
        c.wait(slow, *bad + good)
        assert all(refused(c, r) for r in bad) and not c.goaways
        assert all(r.text == "hello\n" for r in good)
        assert len(slow.body) == 100


@pytest.mark.h2x_only("compares nothing")
@pytest.mark.parametrize("tls, authority, host, status", [
    (True, "localhost", "localhost:443", 200),
    (True, "localhost:443", "LOCALHOST", 200),
    (True, "localhost", "localhost:80", 400),
    (False, "localhost", "localhost:80", 200),
    (False, "localhost", "localhost:443", 400),
    (True, "localhost", "localhost.example", 400)])
def test_host_with_default_port(httpd, tls, authority, host, status):
    """RFC 9113, section 8.3.1: they must not name different entities."""
    with httpd() as server, server.h2(tls) as c:
        server.write("x", "x")
        r = c.start([(":method", "GET"), (":path", "/x"),
                     (":scheme", "https" if tls else "http"),
                     (":authority", authority), ("host", host)])
        c.wait(r)
        assert r.status == status
