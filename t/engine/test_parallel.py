"""Many streams on a connection, many connections, with real clients."""

import re

import pytest

from lib import clients
from lib.server import wait_for

CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
H2MaxSessionStreams 150
<Location /slow>
    SetHandler h2x-test
    TestFixupsSleep on
</Location>
"""
MODULES = "cgid alias"

PARTS = 100


def files(server):
    server.write("index.html", "hello\n")
    for i in range(PARTS):
        server.write("parts/%d" % i, b"%d:" % i + b"p" * (i * 400))
    server.write("cgi/hello", "#!/bin/sh\n"
                 "printf 'Content-Type: text/plain\\n\\nhello\\n'\n", 0o755)


def test_curl_parallel(server, tmp_path):
    config = tmp_path / "config"
    config.write_text("".join(
        'url = "%s"\noutput = "%s/out%d"\n' % (
            server.url("/parts/%d" % i), tmp_path, i) for i in range(PARTS)))
    result = clients.run([
        "curl", "-q", "-sS", "--http2", "-Z", "--parallel-max", "50",
        "-k", "-w", "%{http_version} %{http_code} %{num_connects}\n",
        "-K", str(config)], check=True)
    lines = result.out.decode().split("\n")[:-1]
    assert len(lines) == PARTS and all(x.startswith("2 200") for x in lines)
    for i in range(PARTS):
        assert (tmp_path / ("out%d" % i)).read_bytes() == \
            b"%d:" % i + b"p" * (i * 400)


def test_nghttp(server):
    result = clients.nghttp(server, *["/parts/%d" % i for i in range(50)],
                            args=["-n", "-s"])
    assert result.rc == 0
    assert result.out.decode().count(" 200 ") == 50


@pytest.mark.parametrize("path", ["/index.html", "/parts/99", "/t/env",
                                  "/t/trickle?n=3&ms=1"])
@pytest.mark.parametrize("tls", [True, False])
def test_h2load(server, path, tls):
    n = 2000 if path == "/index.html" else 300
    load = clients.h2load(server, path, n=n, c=4, m=10, tls=tls)
    assert load.succeeded == load.status_2xx == n, load.out


def test_h2load_cgi(server):
    load = clients.h2load(server, "/cgi/hello", n=100, c=2, m=20)
    assert load.succeeded == load.status_2xx == 100


def test_h2load_many_connections(server):
    load = clients.h2load(server, "/index.html", n=1000, c=20, m=1)
    assert load.succeeded == 1000


def test_h2load_upload(server, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(b"x" * 100000)
    load = clients.h2load(server, "/t/upload", n=200, c=4, m=5,
                          args=["-d", str(data)])
    assert load.succeeded == load.status_2xx == 200


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
@pytest.mark.parametrize("path", ["/t/wait?gate=3", "/slow/env?fixgate=3"])
def test_nobody_held_up(server, h2, path):
    """Ninety requests that wait, in their handler or in a hook before it:
    the next ones are answered all the same, on this connection and others,
    and all ninety run at once."""
    h2.request(path="/t/open?reset=1")
    waiting = [h2.get(path) for _ in range(90)]
    for page in ("/index.html", "/parts/50", "/t/env"):
        assert h2.request(path=page).status == 200
    assert server.http1().status == 200
    assert not any(r.done for r in waiting)
    assert h2.request(path="/t/open?g=3").status == 200
    h2.wait(*waiting)
    assert all(r.status == 200 for r in waiting)


def test_mixed_kinds(server):
    """Whatever kind of request comes, in whatever order."""
    with server.h2() as c:
        asked = []
        for i in range(20):
            asked += [c.get("/parts/%d" % i), c.get("/t/trickle?n=3&ms=2"),
                      c.get("/cgi/hello"), c.get("/none"),
                      c.get("/t/big?n=%d" % (i * 5000))]
        c.wait(*asked, timeout=20)
        assert [r.status for r in asked] == [200, 200, 200, 404, 200] * 20
        assert all(r.ended and r.reset is None for r in asked)


def test_thousand_requests_in_turn(h2):
    for i in range(1000):
        assert h2.request(path="/index.html").status == 200
    assert not h2.goaways


def test_stream_limit(server):
    """H2MaxSessionStreams is announced, and a client that keeps to it gets
    all it asks for."""
    with server.h2() as c:
        c.request()
        assert c.peer_settings[3] == 150
        asked = [c.get("/index.html") for _ in range(150)]
        c.wait(*asked)
        assert all(r.status == 200 for r in asked)


def test_connections_come_and_go(server):
    """Fifty connections opened and closed in turn leave no descriptor."""
    for _ in range(5):
        with server.h2() as c:
            c.request()
    before = server.descriptors()
    for _ in range(50):
        with server.h2() as c:
            assert c.request(path="/index.html").status == 200
    wait_for(lambda: server.descriptors() <= before + 5, 10,
             "descriptors to be closed")


def test_https_page_by_curl_http11(server):
    answer = clients.curl(server, "/index.html", http2=False)
    assert (answer.version, answer.status) == ("1.1", 200)
    assert re.match(r"HTTP/1\.1 200", answer.heads[0][0])
