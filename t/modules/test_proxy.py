"""mod_proxy_http and mod_proxy_fcgi in front of backends, good and bad."""

import hashlib
import socket
import struct
import threading

import pytest

from lib import backend, clients
from lib.server import PATIENCE, free_ports

CONFIG = """
ProxyPass /http/ http://127.0.0.1:%(http)d/ retry=0
ProxyPassReverse /http/ http://127.0.0.1:%(http)d/
ProxyPass /fcgi/ fcgi://127.0.0.1:%(fcgi)d/ retry=0
ProxyPass /dead/ http://127.0.0.1:%(dead)d/ retry=0
<Location /http/arriving>
    SetEnv proxy-prefetch-nonblocking 1
</Location>
<Directory ${HTDOCS}>
    RewriteEngine on
    RewriteRule ^rewritten/(.*)$ http://127.0.0.1:%(http)d/$1 [P]
</Directory>
"""
MODULES = "proxy proxy_http proxy_fcgi rewrite env"

#: What a test and its backend tell each other.
events = {}


def event(name):
    return events.setdefault(name, threading.Event())


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = ("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
           "Transfer-Encoding: chunked\r\n%s\r\n")


def http_plain(q):
    q.answer("%s\n%s" % (q.line, "".join(
        "%s: %s\n" % f for f in sorted(q.fields.items()))))


def http_sum(q):
    data = q.body()
    q.answer("%d %s" % (len(data), hashlib.md5(data).hexdigest()))


def http_big(q):
    q.answer(b"0123456789" * 500000)


def http_chunked(q):
    q.send(CHUNKED % "")
    if q.method != "HEAD":
        for i in range(100):
            q.send(chunk(b"piece %d\n" % i))
        q.send(b"0\r\n\r\n")


def http_stepwise(q):
    q.send(CHUNKED % "")
    q.send(chunk(b"one\n"))
    event("stepwise").wait(30)
    q.send(chunk(b"two\n") + b"0\r\n\r\n")


def http_arriving(q):
    for piece in q.pieces():
        event("got " + piece.decode()).set()
    q.answer("all")


def http_early(q):
    q.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n"
           "Content-Length: 0\r\n\r\n")
    event("early").wait(30)
    q.answer("final")


def http_continue(q):
    assert q.fields.get("expect") == "100-continue"
    q.send("HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n")
    q.answer(q.body())


def http_trailers(q):
    q.send(CHUNKED % "Trailer: X-Sum\r\n")
    q.send(chunk(b"body") + b"0\r\nX-Sum: 42\r\n\r\n")


def http_redirect(q):
    q.answer("", "302 Found", "Location: http://%s/there\r\n"
             % q.fields["host"])


def http_304(q):
    q.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n")


def http_204(q):
    q.send("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")


def http_short(q):
    q.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + "x" * 100)
    event("short").wait(30)
    return False


def http_cut(q):
    q.send(CHUNKED % "")
    q.send(chunk(b"x" * 100))
    event("cut").wait(30)
    return False


def http_reset(q):
    q.send(CHUNKED % "")
    q.send(chunk(b"x" * 100))
    event("reset").wait(30)
    q.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                      struct.pack("ii", 1, 0))
    return False


def http_nothing(q):
    return False


def http_refuse(q):
    q.answer("too much", "413 Too Much", "Connection: close\r\n")
    return False


def http_handle(q):
    name = "http_" + q.path.strip("/").split("?")[0]
    return globals().get(name, http_plain)(q)


def fcgi_handle(q, pieces):
    path = q.env["REQUEST_URI"].split("?")[0]
    q.out("Content-Type: text/plain\r\n\r\n")
    if path == "/fcgi/env":
        list(pieces())      # closing with bytes unread would be a reset
        q.out("".join("%s=%s\n" % f for f in sorted(q.env.items())))
    elif path == "/fcgi/echo":
        for piece in pieces():
            q.out(piece)
    elif path == "/fcgi/arriving":
        for piece in pieces():
            event("fast " + piece.decode()).set()
        q.out("all")
    elif path == "/fcgi/stepwise":
        q.out("one\n")
        event("fast step").wait(30)
        q.out("two\n")
    elif path == "/fcgi/big":
        q.out(b"0123456789" * 300000)
    elif path == "/fcgi/cut":
        q.out("x" * 100)
        event("fast cut").wait(30)
        return
    q.end()


@pytest.fixture(scope="module")
def server(httpd):
    with backend.Backend(http_handle) as http, \
            backend.FastCGI(fcgi_handle) as fcgi, free_ports(1) as (dead,):
        config = CONFIG % {"http": http.port, "fcgi": fcgi.port, "dead": dead}
        with httpd(config, MODULES) as server:
            server.write("index.html", "hello\n")
            yield server


@pytest.fixture(autouse=True)
def fresh():
    yield
    for e in events.values():
        e.set()
    events.clear()


def still_good(c):
    assert c.request(path="/index.html").text == "hello\n"


def test_get(any_h2):
    r = any_h2.request(path="/http/some?x=y", headers={
        "x-own": "v", "cookie": "a=b"})
    assert r.status == 200
    assert r.text.startswith("GET /some?x=y HTTP/1.1\n")
    assert "x-own: v\n" in r.text and "cookie: a=b\n" in r.text
    assert "x-forwarded-for: 127.0.0.1\n" in r.text
    assert "x-forwarded-host: localhost\n" in r.text


@pytest.mark.parametrize("path", ["/http/plain", "/http/big",
                                  "/http/chunked"])
def test_head(h2, path):
    r = h2.request("HEAD", path)
    assert (r.status, r.body, r.ended) == (200, b"", True)
    still_good(h2)


def test_rewritten(h2):
    r = h2.request(path="/rewritten/some")
    assert r.text.startswith("GET /some HTTP/1.1\n")


@pytest.mark.parametrize("size", [0, 1, 65536, 3000000])
@pytest.mark.parametrize("length", [True, False])
def test_post(h2, size, length):
    data = b"0123456789abcdef" * (size // 16) + b"x" * (size % 16)
    r = h2.request("POST", "/http/sum", body=data, length=length)
    assert r.text == "%d %s" % (size, hashlib.md5(data).hexdigest())


@pytest.mark.parametrize("path,size", [("/http/big", 5000000),
                                       ("/fcgi/big", 3000000)])
def test_large(h2, path, size):
    r = h2.request(path=path)
    assert bytes(r.body) == b"0123456789" * (size // 10)


def test_chunked(h2):
    r = h2.request(path="/http/chunked")
    assert r.text == "".join("piece %d\n" % i for i in range(100))
    assert r.header("transfer-encoding") is None


@pytest.mark.parametrize("path,name", [("/http/stepwise", "stepwise"),
                                       ("/fcgi/stepwise", "fast step")])
def test_response_as_it_comes(h2, path, name):
    r = h2.get(path)
    h2.wait_body(r, 4)
    assert r.text == "one\n" and not r.done
    event(name).set()
    assert h2.wait(r).text == "one\ntwo\n"


@pytest.mark.parametrize("path,prefix", [("/http/arriving", "got "),
                                         ("/fcgi/arriving", "fast ")])
def test_upload_as_it_comes(h2, path, prefix):
    """The backend has the first piece before the second is sent."""
    r = h2.start(h2.fields("POST", path, {"content-length": "16"}), end=False)
    for piece in ("first", "second", "third"):
        h2.data(r.id, piece.encode())
        assert event(prefix + piece).wait(10 * PATIENCE), piece
    h2.data(r.id, b"", end=True)
    assert h2.wait(r).text == "all"


@pytest.mark.h2x_only("holds 103 back unless told by H2EarlyHints")
def test_early_hints(h2):
    """103 of the backend goes out at once."""
    r = h2.get("/http/early")
    h2.until(lambda: r.interim, what="103")
    assert not r.headers
    assert dict(r.interim[0])[":status"] == "103"
    assert dict(r.interim[0])["link"] == "</a.css>; rel=preload"
    assert dict(r.interim[0]).keys() == {":status", "link"}
    event("early").set()
    assert h2.wait(r).text == "final" and len(r.interim) == 1


def test_continue(h2):
    r = h2.start(h2.fields("POST", "/http/continue",
                           {"expect": "100-continue",
                            "content-length": "4"}), end=False)
    h2.until(lambda: r.interim or r.done, what="100")
    assert r.interim == [[(":status", "100")]]
    h2.data(r.id, b"body", end=True)
    assert h2.wait(r).text == "body"


def test_backend_trailers(h2):
    r = h2.request(path="/http/trailers")
    assert (r.status, r.text) == (200, "body")
    assert r.trailers in (None, [("x-sum", "42")])
    still_good(h2)


def test_redirect(server, h2):
    r = h2.request(path="/http/redirect",
                   authority="localhost:%d" % server.tls_port)
    assert r.status == 302
    assert r.header("location") == server.url("/http/there")


@pytest.mark.parametrize("path,status", [("/http/304", 304),
                                         ("/http/204", 204)])
def test_no_body(h2, path, status):
    r = h2.request(path=path)
    assert (r.status, r.body, r.ended) == (status, b"", True)
    assert r.header("content-length") is None
    still_good(h2)


@pytest.mark.h2x_only("passes the field on")
def test_interim_length_nghttp(server):
    """nghttp2 resets the stream when the field is there."""
    event("early").set()
    out = clients.nghttp(server, "/http/early").out.decode()
    assert ":status: 103" in out and ":status: 200" in out


@pytest.mark.parametrize("path,name", [
    ("/http/short", "short"), ("/http/cut", "cut"), ("/http/reset", "reset"),
    pytest.param("/fcgi/cut", "fast cut", marks=pytest.mark.h2x_only(
        "leaves the stream open for ever"))])
def test_backend_dies(server, h2, path, name):
    """Half a response must not look like a whole one."""
    mark = server.access_mark()
    r = h2.get(path)
    h2.wait_body(r, 100)
    event(name).set()
    h2.wait(r)
    assert r.reset is not None and not r.ended
    assert len(r.body) == 100
    still_good(h2)
    server.wait_access(1, since=mark, uri=path)


def test_backend_dies_curl(server):
    """A real client sees the failure as one."""
    event("short").set()
    answer = clients.curl(server, "/http/short")
    assert answer.rc == 92, answer.err


def test_no_response(h2):
    """An error, or the stream's end as mod_proxy would end a connection
    for the client to retry; never an empty success."""
    r = h2.request(path="/http/nothing")
    assert r.reset is not None or r.status >= 500
    still_good(h2)


def test_no_backend(h2):
    r = h2.request("POST", "/dead/x", body=b"x" * 1000)
    assert r.status == 503 and r.ended
    still_good(h2)


def test_backend_refuses_body(h2):
    r = h2.start(h2.fields("POST", "/http/refuse"), end=False)
    h2.upload(r, b"x" * 500000)
    h2.wait(r)
    assert r.status in (413, 502)
    still_good(h2)


def test_client_leaves(h2):
    """Both directions: mid-response and mid-upload."""
    r = h2.get("/http/stepwise")
    h2.wait_body(r, 4)
    h2.reset(r.id)
    r = h2.start(h2.fields("POST", "/http/sum"), end=False)
    h2.data(r.id, b"x" * 1000)
    h2.reset(r.id)
    still_good(h2)


def test_many_at_once(h2):
    asked = [h2.get("/http/chunked") for _ in range(20)]
    asked += [h2.get("/fcgi/env?n=%d" % i) for i in range(20)]
    h2.wait(*asked, timeout=20)
    assert all(r.status == 200 for r in asked)
    assert all("QUERY_STRING=n=%d\n" % i in r.text
               for i, r in enumerate(asked[20:]))


def test_fcgi_environment(h2):
    r = h2.request("POST", "/fcgi/env?a=b", {"content-type": "text/x"},
                   body=b"abc", length=True)
    for line in ("REQUEST_METHOD=POST", "SERVER_PROTOCOL=HTTP/2.0",
                 "CONTENT_LENGTH=3", "CONTENT_TYPE=text/x",
                 "QUERY_STRING=a=b", "HTTP2=on"):
        assert line + "\n" in r.text


@pytest.mark.parametrize("size", [0, 10, 500000])
@pytest.mark.parametrize("length", [True, False])
def test_fcgi_echo(h2, size, length):
    data = b"z" * size
    r = h2.request("POST", "/fcgi/echo", body=data, length=length)
    assert (r.status, bytes(r.body)) == (200, data)


@pytest.mark.h2x_only("answers 500")
def test_backend_that_leaves(httpd):
    """502 as over HTTP/1.1.  There, mod_proxy_http closes a connection that
    had requests before, for its client to try again; a stream cannot."""
    with backend.Backend(lambda q: False) as behind:
        config = "ProxyPass /b/ http://127.0.0.1:%d/" % behind.port
        with httpd(config, "proxy proxy_http") as server, server.h2() as c:
            assert server.http1(path="/b/x").status == 502
            for _ in range(2):
                r = c.request(path="/b/x")
                assert (r.status, r.ended, r.reset) == (502, True, None)
