"""The Limit* directives: the statuses of HTTP/1.1, and lines in the log."""

import pytest

from lib import clients, inside

CONFIG = """
LimitRequestLine 500
LimitRequestFields 20
LimitRequestFieldSize 300
<Location /small>
    LimitRequestBody 1000
    SetHandler h2x-test
</Location>
ErrorDocument 431 "own words"
"""


def files(server):
    server.write("index.html", "hello\n")


def check(server, c, status, **request):
    """The status, in the log too, no handler run, connection unharmed."""
    before = inside.counters(server)["handled"]
    mark = server.access_mark()
    r = c.request(**request)
    assert (r.status, r.ended) == (status, True)
    entry, = server.wait_access(1, since=mark, proto="HTTP/2.0")
    assert entry["final"] == str(status)
    if status != 413:
        assert inside.counters(server)["handled"] == before + (status == 200)
    assert c.request(path="/index.html").status == 200
    assert not c.goaways
    return r


@pytest.mark.parametrize("length,status", [(400, 200), (500, 200), (501, 414),
                                           (10000, 414)])
def test_request_line(server, any_h2, length, status):
    """LimitRequestLine is about the target, to the byte as mod_http2 has
    it: method and version are no part of a line here."""
    path = "/t/env?" + "x" * (length - len("/t/env?"))
    check(server, any_h2, status, path=path)


@pytest.mark.h2x_only("H2ProxyRequests")
def test_request_line_of_a_proxy(httpd):
    """The target is :path, also where modules see a whole URI, and
    :authority of CONNECT."""
    with httpd("LimitRequestLine 500\nProxyRequests on\n"
               "H2ProxyRequests on\n<Proxy *>\nRequire all denied\n</Proxy>",
               modules="proxy proxy_connect") as server, server.h2() as c:
        for length, statuses in ((500, (403, 403)), (501, (414, 414))):
            path = "/t/env?" + "x" * (length - len("/t/env?"))
            host = "x" * (length - len(":443")) + ":443"
            connect = c.start([(":method", "CONNECT"), (":authority", host)])
            c.wait(connect)
            assert (c.request(path=path).status, connect.status) == statuses


@pytest.mark.h2x_only("resets the stream")
def test_long_authority(server, h2):
    """It is refused, not cut off and taken for another host."""
    fields = h2.fields(path="/t/env")
    host = "x" * 501
    fields = [(n, host if n == ":authority" else v) for n, v in fields]
    r = h2.start(fields)
    h2.wait(r)
    assert r.status == 414


@pytest.mark.parametrize("count,status", [(15, 200), (25, 431), (90, 431)])
def test_fields(server, any_h2, count, status):
    check(server, any_h2, status, path="/t/env",
          headers=[("x-f%d" % i, "v") for i in range(count)])


def test_fields_of_same_name(server, h2):
    """Counted each, as over HTTP/1.1."""
    check(server, h2, 431, path="/t/env", headers=[("x-f", "v")] * 30)


def test_cookie_crumbs(server, h2):
    """Crumbs of one cookie field (RFC 9113, 8.2.3) are one field again."""
    r = h2.request(path="/t/env",
                   headers=[("cookie", "c%d=v" % i) for i in range(19)])
    assert r.status == 200
    assert "; ".join("c%d=v" % i for i in range(19)) in r.text


@pytest.mark.parametrize("size,status", [(200, 200), (400, 431),
                                         (8000, 431), (15000, 431)])
def test_field_size(server, any_h2, size, status):
    check(server, any_h2, status, path="/t/env",
          headers={"x-long": "v" * size})


def test_own_error_document(server, h2):
    r = check(server, h2, 431, path="/t/env", headers={"x-long": "v" * 500})
    assert r.text == "own words"


@pytest.mark.parametrize("size,status", [(1000, 200), (1001, 413),
                                         (500000, 413)])
@pytest.mark.parametrize("length", [True, False])
def test_body(server, h2, size, status, length):
    mark = server.access_mark()
    r = h2.request("POST", "/small/upload", body=b"x" * size, length=length)
    assert r.status == status
    assert server.wait_access(1, since=mark, uri="/small/upload",
                              final=str(status))
    assert h2.request(path="/index.html").status == 200
    assert server.http1("POST", "/small/upload",
                        body=b"x" * size).status == status


@pytest.mark.h2x_only("resets the stream before the response is out")
def test_body_curl(server, tmp_path):
    (tmp_path / "data").write_bytes(b"x" * 5000000)
    answer = clients.curl(server, "/small/upload", "-T",
                          str(tmp_path / "data"), "-H", "Expect:")
    assert answer.status == 413, answer.err


@pytest.mark.h2x_only("resets the stream")
def test_long_pseudo_fields_before_the_method(server, h2):
    """Those before :method take more than a head may; it is read, and the
    request refused, nevertheless."""
    (name, method), *others = h2.fields(path="/t/env")
    assert name == ":method"
    longer = {":path": "/" + "x" * 40000, ":authority": "x" * 40000}
    fields = [(n, longer.get(n, v)) for n, v in others] + [(name, method)]
    for end in (True, False):
        r = h2.start(fields, end=end)
        h2.wait(r)
        assert r.status == 414
    assert h2.request(path="/index.html").status == 200
    assert not h2.goaways


def test_huge_head(server):
    """Far over all limits: an answer or an end, no growth and no crash."""
    with server.h2() as c:
        fields = [("x-f%d" % i, "v" * 4000) for i in range(100)]
        r = c.start(c.fields("GET", "/t/env", fields))
        c.pump(lambda: r.done or c.goaways)
        assert r.status == 431 or r.reset is not None or c.goaways or c.closed
    assert server.http1().status == 200


@pytest.mark.parametrize("directive,fields,status", [
    ("", [("x-f%d" % i, "v" * 1000) for i in range(40)], 200),
    ("", [("x-f%d" % i, "v" * 1000) for i in range(60)], 200),
    ("", [("x-f%d" % i, "v" * 1000) for i in range(70)], 431),
    ("LimitRequestFieldSize 20000",
     [("x-f%d" % i, "v" * 1000) for i in range(80)], 200),
    ("LimitRequestFieldSize 20000",
     [("x-f%d" % i, "v" * 1000) for i in range(90)], 431),
    ("LimitRequestFields 0", [("x-f%d" % i, "v") for i in range(150)], 200),
    ("LimitRequestFieldSize 20000", [("x-long", "v" * 15000)], 200),
    ("LimitRequestFields 200", [("x-f%d" % i, "v") for i in range(150)], 200),
    ("", [("x-f%d" % i, "v") for i in range(150)], 431),
    ("", [("x-long", "v" * 9000)], 431),
])
def test_defaults_and_none(httpd, directive, fields, status):
    with httpd(directive) as server, server.h2() as c:
        assert c.request(path="/t/env", headers=fields).status == status
