"""The framework works: a server starts, each client gets a page."""

import pytest

from lib import clients

CONFIG = """
<Location /t/env>
    TestFixupsSleep on
</Location>
"""


def files(server):
    server.write("index.html", "hello\n")


@pytest.mark.parametrize("tls", [True, False])
def test_curl(server, tls):
    answer = clients.curl(server, "/index.html", tls=tls)
    assert (answer.rc, answer.version, answer.status) == (0, "2", 200)
    assert answer.body == b"hello\n"


def test_http1(server):
    answer = server.http1("GET", "/index.html")
    assert (answer.status, bytes(answer.body)) == (200, b"hello\n")


def test_nghttp_and_h2load(server):
    assert "hello" in clients.nghttp(server, "/index.html").out.decode()
    load = clients.h2load(server, "/index.html", n=50, c=2, m=5)
    assert load.succeeded == load.status_2xx == 50


def test_raw(any_h2):
    one, two = any_h2.get("/index.html"), any_h2.get("/t/env?fixms=1")
    any_h2.wait(one, two)
    assert (one.status, bytes(one.body), one.ended) == (200, b"hello\n", True)
    assert "protocol: HTTP/2.0\n" in two.text


def test_access_log(server, h2):
    mark = server.access_mark()
    assert h2.request(path="/t/env?x=1").status == 200
    entry, = server.wait_access(1, since=mark, uri="/t/env")
    assert (entry["proto"], entry["final"], entry["query"]) == (
        "HTTP/2.0", "200", "?x=1")


def test_upload_digest(h2):
    r = h2.request("POST", "/t/upload", body=b"x" * 200000)
    assert r.text.startswith("length 200000\n")
