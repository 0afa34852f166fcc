"""mod_proxy_http2: HTTP/2 to the backend too, which is a second httpd with
the module under test; parts of bodies pass both ways as they come."""

import hashlib

import pytest

from lib import clients, h2raw, inside
from lib.server import free_ports
from lib.together import Case, age, ask, assert_same

TLS = """
SSLProxyEngine on
SSLProxyCACertificateFile %(certs)s/server.crt
SSLProxyCheckPeerName off
"""
FRONT = TLS + """
ProxyPass /h2c/ h2c://127.0.0.1:%(port)d/ retry=0
ProxyPassReverse /h2c/ http://127.0.0.1:%(port)d/
ProxyPass /h2/ h2://127.0.0.1:%(tls_port)d/ retry=0
ProxyPassReverse /h2/ https://127.0.0.1:%(tls_port)d/
ProxyPass /once/ h2c://127.0.0.1:%(port)d/once/ retry=0 disablereuse=on
ProxyPass /dead/ h2c://127.0.0.1:%(dead)d/ retry=0
"""
BACK = """
Redirect /moved http://127.0.0.1:${PORT}/target
Header set X-Stream "%{H2_STREAM_ID}e"
Header set X-Protocol "expr=%{SERVER_PROTOCOL}"
<Location /forbidden>
    Require all denied
</Location>
<Location /once/t>
    SetHandler h2x-test
</Location>
"""
LARGE = bytes(range(256)) * 12000
both = pytest.mark.parametrize("kind", ["h2c", "h2"])


@pytest.fixture(scope="module")
def back(httpd):
    server = httpd(BACK, "headers alias")
    server.write("page.txt", "a page\n")
    server.write("large.bin", LARGE)
    server.write("forbidden/page.txt", "no\n")
    age(server)
    with server:
        yield server


@pytest.fixture(scope="module")
def server(httpd, back, certs):
    with free_ports(1) as (dead,):
        config = FRONT % {"certs": certs, "port": back.port, "dead": dead,
                          "tls_port": back.tls_port}
        with httpd(config, "proxy proxy_http2",
                   hosts={"localhost": TLS % {"certs": certs}}) as server:
            yield server


def md5(data):
    return hashlib.md5(data).hexdigest()


def test_protocol(back, h2):
    """It is HTTP/2 indeed, of the module under test."""
    for kind in ("h2c", "h2"):
        mark = back.access_mark()
        r = h2.request(path="/%s/page.txt?%s" % (kind, kind))
        assert r.text == "a page\n" and r.header("x-protocol") == "HTTP/2.0"
        entry, = back.wait_access(1, since=mark, query="?" + kind)
        assert entry["proto"] == "HTTP/2.0" and entry["stream"] != "-"


@both
def test_same(server, kind):
    cases = [Case(case.method, "/" + kind + case.path, case.headers,
                  case.body) for case in (
        Case("GET", "/page.txt"), Case("HEAD", "/page.txt"),
        Case("GET", "/large.bin"), Case("HEAD", "/large.bin"),
        Case("GET", "/large.bin", {"range": "bytes=1000-1999"}),
        Case("GET", "/page.txt", {"if-none-match": "*"}),
        Case("GET", "/none?a=%20b"), Case("GET", "/forbidden/page.txt"),
        Case("GET", "/moved/x"), Case("GET", "/t/status?code=503"),
        Case("GET", "/t/trickle?n=20&size=100"),
        Case("GET", "/t/big?n=1000000"),
        Case("GET", "/t/fields?kind=many&n=20&size=100"),
        Case("POST", "/t/upload", {}, LARGE), Case("POST", "/t/upload", {},
                                                   b""),
        Case("POST", "/t/echo", {}, LARGE[:300000]),
        Case("POST", "/t/ignore", {}, b"x" * 1000),
        Case("DELETE", "/page.txt"), Case("OPTIONS", "/page.txt"))]
    answers = assert_same(server, cases, times=2, ignore=["x-stream"])
    statuses = [{r.status for r in some} for some in answers]
    assert statuses[:10] == [{200}, {200}, {200}, {200}, {206}, {304}, {404},
                             {403}, {302}, {503}]
    assert {bytes(r.body) for r in answers[2]} == {LARGE}
    for r in answers[8]:
        assert r.header("location").endswith("/h2c/target/x")
    assert {r.text for r in answers[13]} == {
        "length %d\nmd5 %s\n" % (len(LARGE), md5(LARGE))}


@both
def test_upload_without_length(h2, kind):
    asked = []
    for i in range(5):
        r = h2.start(h2.fields("POST", "/%s/t/upload" % kind), end=False)
        h2.upload(r, LARGE[:100000 * i], end=True)
        asked.append(r)
    h2.wait(*asked)
    assert [r.text for r in asked] == [
        "length %d\nmd5 %s\n" % (100000 * i, md5(LARGE[:100000 * i]))
        for i in range(5)]


@both
def test_response_as_it_comes(back, h2, kind):
    inside.close_gates(back)
    asked = [h2.get("/%s/t/trickle?n=4&size=5&gate=50" % kind)
             for _ in range(5)]
    for i in range(1, 5):
        for r in asked:
            h2.wait_body(r, 5 * i)
            assert len(r.body) == 5 * i and (i == 4 or not r.done)
        inside.open_gate(back, 50)
    h2.wait(*asked)
    assert {r.text for r in asked} == {"abcdefghijklmnopqrst"}


@both
def test_both_ways(h2, kind):
    """Each part is answered before the next one is sent, on several
    streams in turn."""
    asked = [h2.start(h2.fields("POST", "/%s/t/echo" % kind), end=False)
             for _ in range(4)]
    text = b""
    for i in range(20):
        text += b"part %d\n" % i
        for r in asked:
            h2.data(r.id, b"part %d\n" % i)
        for r in asked:
            h2.wait_body(r, len(text))
            assert bytes(r.body) == text and not r.done
    for r in asked:
        h2.data(r.id, b"", end=True)
    h2.wait(*asked)
    assert {bytes(r.body) for r in asked} == {text}


@both
def test_both_ways_large(h2, kind):
    """More than all windows hold, up and down at once."""
    asked = ask(h2, [Case("POST", "/%s/t/echo" % kind, {}, LARGE)] * 4)
    assert [bytes(r.body) == LARGE for r in asked] == [True] * 4


@both
def test_trailers(h2, kind):
    for r in ask(h2, [Case("GET", "/%s/t/trailers" % kind)] * 5):
        assert (r.status, len(r.body), r.reset) == (200, 100, None)
        assert r.trailers == [("x-sum", "abc123"),
                              ("x-note", "after the body")]


@both
def test_slow_client(server, h2, kind):
    """Who does not read holds up nobody else."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1000}) as c:
        slow = [c.get("/%s/large.bin" % kind) for _ in range(3)]
        for r in slow:
            c.wait_body(r, 1000)
        assert c.request(path="/%s/page.txt" % kind).text == "a page\n"
        assert h2.request(path="/%s/page.txt" % kind).text == "a page\n"
        assert {len(r.body) for r in slow} == {1000}
        c.windows = True
        c.credit(1 << 30)
        for r in slow:
            c.credit(1 << 30, r.id)
        c.wait(*slow)
    assert [bytes(r.body) == LARGE for r in slow] == [True] * 3


@both
def test_client_leaves(server, back, h2, kind):
    """The backend's stream ends with the client's, in each state."""
    inside.close_gates(back)
    r = h2.start(h2.fields("POST", "/%s/t/echo" % kind), end=False)
    h2.data(r.id, b"some")
    h2.wait_body(r, 4)
    h2.reset(r.id)
    r = h2.wait_body(h2.get("/%s/t/big?n=100000000" % kind), 100000)
    h2.reset(r.id)
    r = h2.wait_body(h2.get("/%s/t/trickle?n=2&size=5&gate=51" % kind), 5)
    h2.reset(r.id)
    assert h2.request(path="/%s/page.txt" % kind).text == "a page\n"
    inside.open_gate(back, 51)
    inside.wait_settled(back)
    inside.wait_settled(server)


def test_no_backend(h2):
    for body in (None, b"x" * 100000):
        r = h2.request("POST" if body else "GET", "/dead/x", body=body)
        assert r.status in (502, 503) and r.ended
    assert h2.request(path="/h2c/page.txt").text == "a page\n"


@pytest.mark.h2x_only("appends an error page to half a response")
@both
def test_backend_fails(h2, kind):
    """Half a response is not passed on as a whole one."""
    for how in ("status", "length", "bucket"):
        r = h2.wait(h2.get("/%s/t/fail?how=%s&after=1000" % (kind, how)))
        assert r.reset is not None and not r.ended, how
    assert h2.request(path="/%s/page.txt" % kind).text == "a page\n"


def test_backend_restarts(httpd, certs):
    """Gracefully, with a response on its way: that ends as it should, and
    the next request finds the new generation."""
    with httpd(BACK, "headers alias") as other:
        other.write("page.txt", "a page\n")
        config = FRONT % {"certs": certs, "port": other.port,
                          "tls_port": other.tls_port, "dead": other.port}
        with httpd(config, "proxy proxy_http2") as front, front.h2() as c:
            r = c.wait_body(c.get("/h2c/t/trickle?n=2&size=5&gate=52"), 5)
            other.graceful()
            inside.open_gate(other, 52)
            assert c.wait(r).text == "abcdefghij"
            assert c.request(path="/h2c/page.txt").text == "a page\n"


def test_without_reuse(h2):
    """A backend connection for each request."""
    asked = ask(h2, [Case("POST", "/once/t/echo", {}, b"x" * 50000)] * 10)
    assert {len(r.body) for r in asked} == {50000}


def test_h2load(server):
    for path in ("/h2c/page.txt", "/h2/page.txt"):
        load = clients.h2load(server, path, n=300, c=2, m=5)
        assert load.succeeded == 300
