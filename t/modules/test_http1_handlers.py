"""Handlers that were made for HTTP/1.1 and look at r->chunked, r->proto_num
and c->keepalive, or write the head themselves (lib/httpd/mod_h2x_http1.c): they
see what they would there, and do the right thing."""

import http.client

import pytest

from lib import h2raw, inside
from lib.server import build_test_module, wait_for

CONFIG = """
LoadModule h2x_http1_module %s
<Location /h1>
    SetHandler h2x-http1
</Location>
<Location /reflect>
    SetHandler reflector
</Location>
<Location /old>
    SetHandler h2x-http1
    SetEnv force-no-vary 1
</Location>
"""


@pytest.fixture(scope="module")
def server(httpd, session_dir):
    module = build_test_module(session_dir, "h2x_http1")
    with httpd(CONFIG % module, "reflector env") as server:
        server.write("index.html", "hello\n")
        yield server


def still_good(c):
    assert c.request(path="/index.html").text == "hello\n"


# --- what they see ---

PHASES = ("handler: keepalive 0 proto_num %d chunked 0\n"
          "body: keepalive 2 proto_num %d chunked %d\n")


@pytest.mark.h2x_only("shows handlers other values")
@pytest.mark.parametrize("name,chunked", [("phases", 1), ("length", 0)])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_phases(server, h2, name, chunked, method):
    """As over HTTP/1.1, but for the version."""
    path = "/h1?" + name
    old = server.http1(method, path)
    assert old.text == PHASES % (1001, 1001, chunked)
    for body in (None, b"body"):
        r = h2.request(method, path, body=body)
        assert r.text == PHASES % (2000, 2000, chunked)


@pytest.mark.h2x_only("sends a part of the body")
def test_head(server, h2):
    """There is no body to be framed."""
    for path in ("/h1?phases", "/h1?chunked", "/h1?cut"):
        r = h2.request("HEAD", path)
        assert (r.status, r.body, r.ended) == (200, b"", True)


# --- framing ---

def test_chunked(server, any_h2):
    """No chunk of HTTP/1.1 gets into DATA."""
    assert server.http1(path="/h1?chunked").text == "hello, world"
    r = any_h2.request(path="/h1?chunked")
    assert (r.status, r.text, r.ended) == (200, "hello, world", True)
    assert r.header("transfer-encoding") is None
    assert r.header("content-length") is None


@pytest.mark.h2x_only("ends the stream as if all were there")
def test_cut(server, any_h2):
    """What a client of HTTP/1.1 sees as cut off, that of HTTP/2 does."""
    with pytest.raises(http.client.IncompleteRead):
        server.http1(path="/h1?cut")
    r = any_h2.start(any_h2.fields("GET", "/h1?cut"))
    any_h2.wait(r)
    assert (r.status, r.text, r.ended) == (200, "half", False)
    assert r.reset == h2raw.INTERNAL_ERROR
    still_good(any_h2)


def test_not_cut(server, any_h2):
    """Of a response that has not begun, nothing is cut."""
    assert server.http1(path="/h1?cut-early").text == "whole"
    r = any_h2.request(path="/h1?cut-early")
    assert (r.status, r.text, r.ended) == (200, "whole", True)


def test_version_1_0(server, any_h2):
    """Where HTTP/1.0 is asked for, there are no chunks, and nothing shows
    that a response was cut."""
    r = any_h2.request(path="/old?cut")
    assert (r.status, r.text, r.ended) == (200, "half", True)


# --- bodies of requests ---

@pytest.mark.h2x_only("has an empty response")
@pytest.mark.parametrize("size", [0, 4, 300000])
@pytest.mark.parametrize("length", [True, False])
def test_reflector(server, any_h2, size, length):
    """mod_reflector takes a connection that will end for one whose input is
    not to be read."""
    body = b"0123456789" * (size // 10) + b"x" * (size % 10)
    assert server.http1("POST", "/reflect", body=body).body == body
    r = any_h2.request("POST", "/reflect", body=body, length=length)
    assert (r.status, bytes(r.body), r.ended) == (200, body, True)


@pytest.mark.h2x_only("answers before it has the body")
def test_discard(server, h2):
    """A handler that discards the body has it read."""
    before = inside.counters(server)
    r = h2.start(h2.fields("POST", "/h1?discard"), end=False)
    h2.data(r.id, b"x" * 10000)
    h2.ping()
    assert not r.headers
    h2.data(r.id, b"end", end=True)
    assert h2.wait(r).text == "discarded: 0\n"
    assert r.ended and r.reset is None
    wait_for(lambda: inside.counters(server)["ended"] > before["ended"],
             what="the request to end")


@pytest.mark.parametrize("path,status", [
    ("/h1?nothing", 200), ("/h1?chunked", 200), ("/h1?none", 404),
    ("/index.html", 200), ("/missing", 404)])
def test_body_that_nobody_wants(server, any_h2, path, status):
    """Nobody waits for it when the handler has returned."""
    r = any_h2.start(any_h2.fields("POST", path), end=False)
    any_h2.data(r.id, b"x")
    any_h2.wait(r)
    assert r.status == status and r.ended
    still_good(any_h2)


# --- heads ---

@pytest.mark.h2x_only("writes all heads itself")
@pytest.mark.parametrize("name,status", [
    ("headless", 403), ("headless-silent", 500), ("headless-text", 500)])
def test_no_head(server, any_h2, name, status):
    """A handler that has taken the head on itself, and has none."""
    mark = server.access_mark()
    r = any_h2.request(path="/h1?" + name)
    assert (r.status, r.body, r.ended) == (status, b"", True)
    assert r.header("content-length") == "0" and r.header("date")
    still_good(any_h2)
    server.wait_access(1, since=mark, uri="/h1", final=str(status))


@pytest.mark.h2x_only("holds 103 back")
def test_interim(server, any_h2):
    """RFC 9110, section 8.6: no Content-Length in an interim response."""
    r = any_h2.request(path="/h1?interim")
    assert (r.status, r.text) == (200, "final")
    assert r.header("content-length") == "5"
    assert dict(r.interim[0]).keys() == {":status", "link"}
