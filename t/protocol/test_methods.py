"""Every method reaches its handler; HEAD, OPTIONS and TRACE are httpd's."""

import pytest

from lib import clients, h2raw

CONFIG = """
<Location /t/named>
    SetHandler h2x-test
</Location>
<IfModule mod_cgid.c>
    ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
</IfModule>
"""
MODULES = "cgid alias"


def files(server):
    server.write("index.html", "hello\n")
    server.write("cgi/length", "#!/bin/sh\n"
                 "printf 'Content-Type: text/plain\\n"
                 "Content-Length: 5\\n\\n12345'\n", 0o755)


@pytest.mark.parametrize("method", [
    "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "MKCOL",
    "REPORT", "BREW", "get", "M-SEARCH"])
def test_reaches_handler(any_h2, method):
    r = any_h2.request(method, "/t/env")
    assert r.status == 200
    assert "\nthe_request: %s /t/env HTTP/2.0\n" % method in r.text
    assert r.text.startswith("method: %s\n" % method)


BODY_AFTER_HEAD = pytest.mark.h2x_only("lets a handler's body out on HEAD")
HANDLER_HEAD = pytest.param("/t/big?n=70000&length=1", marks=BODY_AFTER_HEAD)


@pytest.mark.parametrize("path", ["/index.html", "/", "/cgi/length", "/none",
                                  HANDLER_HEAD])
def test_head(h2, path):
    """HEAD has GET's fields and no body: its HEADERS end the stream, or an
    empty DATA frame does."""
    get, head = h2.request("GET", path), h2.request("HEAD", path)
    assert (head.status, head.body, head.ended) == (get.status, b"", True)
    skip = ["date"]
    if path.startswith("/cgi") or not head.header("content-length"):
        # httpd drops a script's own length or keeps it, as it comes.
        skip.append("content-length")
    assert sorted(f for f in head.headers if f[0] not in skip) == \
        sorted(f for f in get.headers if f[0] not in skip)


@BODY_AFTER_HEAD
def test_head_of_no_known_length(h2):
    r = h2.request("HEAD", "/t/big?n=1000000")
    assert (r.status, r.body, r.ended) == (200, b"", True)


def test_head_curl(server):
    answer = clients.curl(server, "/index.html", "-I")
    assert (answer.rc, answer.status, answer.body.count(b"\r\n\r\n")) == (
        0, 200, 1)
    assert answer.header("content-length") == "6"


@pytest.mark.parametrize("path", ["*", "/index.html", "/"])
def test_options(server, h2, path):
    r = h2.request("OPTIONS", path)
    one = server.http1("OPTIONS", path)
    assert r.status == one.status == 200
    assert r.header("allow") == one.header("allow")


def test_asterisk_is_for_options(h2):
    r = h2.request("GET", "*")
    assert r.status in (400, 404) or r.reset == h2raw.PROTOCOL_ERROR


def test_trace(h2):
    r = h2.request("TRACE", "/index.html", {"x-mark": "here"})
    assert r.status == 200
    assert r.header("content-type") == "message/http"
    assert r.text.startswith("TRACE /index.html HTTP/2.0")
    assert "x-mark: here" in r.text.lower()


def test_static_refuses_post(server, h2):
    r = h2.request("POST", "/index.html", body=b"data")
    one = server.http1("POST", "/index.html", body=b"data")
    assert (r.status, r.header("allow")) == (one.status, one.header("allow"))


def test_connect_is_refused(server, h2):
    """No proxy here: an error, and nothing else on the connection suffers."""
    r = h2.wait(h2.start([(":method", "CONNECT"),
                          (":authority", "localhost:22")], end=True))
    assert r.reset is not None or r.status >= 400
    assert h2.request(path="/index.html").status == 200


@pytest.mark.parametrize("kind", ["odd", pytest.param(
    "hop", marks=pytest.mark.h2x_only("passes Proxy-Connection on"))])
def test_response_fields(h2, kind):
    """Names in lower case, nothing of HTTP/1.1's connection (RFC 9113,
    8.2.2), values as they were."""
    r = h2.request(path="/t/fields?kind=" + kind)
    assert r.status == 200
    names = [k for k, _ in r.headers]
    assert names[0] == ":status" and names == [n.lower() for n in names]
    assert not {"connection", "keep-alive", "proxy-connection",
                "transfer-encoding", "upgrade"} & set(names)
    if kind == "odd":
        assert r.header("x-upper-case") == "Mixed Case Kept"
        assert r.header("x-empty") == ""
        assert r.header("x-spaces") == "inner  spaces"
        assert r.all("set-cookie") == ["a=1", "b=2"]
        assert ", ".join(r.all("x-twice")) == "one, two"
    else:
        assert r.header("x-kept") == "yes"


@pytest.mark.parametrize("n,size", [(1, 20000), (50, 1000), (99, 10)])
def test_large_response_head(h2, n, size):
    """More than one frame of it: CONTINUATION."""
    r = h2.request(path="/t/fields?kind=many&n=%d&size=%d" % (n, size))
    assert r.status == 200
    found = [v for k, v in r.headers if k.startswith("x-many-")]
    assert found == ["v" * size] * n


@pytest.mark.parametrize("limit,fits", [("", False),
                                        ("H2MaxHeaderBlockLen 200000", True)])
def test_max_header_block_len(httpd, limit, fits):
    """A response head over the limit ends its stream, no other."""
    with httpd(limit) as server, server.h2() as c:
        r = c.request(path="/t/fields?kind=many&n=1&size=100000")
        assert (r.status == 200) == fits
        assert fits or r.reset is not None or r.status == 500
        assert c.request(path="/t/env").status == 200


def test_date_and_server(h2):
    r = h2.request(path="/index.html")
    assert r.header("date") and r.header("server", "").startswith("Apache")


def test_environment(server, h2):
    """The variables that mod_http2 sets, and a request line as httpd's."""
    r = h2.request(path="/t/env?a=b%20c", headers=[
        ("cookie", "a=1"), ("cookie", "b=2"), ("x-two", "1"), ("x-two", "2")])
    lines = r.text.split("\n")
    for line in ("HTTP2: on", "H2_STREAM_ID: 1", "Host: localhost",
                 "Cookie: a=1; b=2", "args: a=b%20c", "scheme: https",
                 "protocol: HTTP/2.0", "uri: /t/env?a=b%20c"):
        assert line.lower() in [x.lower() for x in lines], line
    assert any(x.lower() == "x-two: 1, 2" for x in lines)
    assert any(x.startswith("H2_STREAM_TAG: ") for x in lines)
