"""1xx responses, trailers in both directions, and failures half-way."""

import pytest

from lib import clients, h2raw, inside

CONFIG = """
ErrorDocument 500 "own error"
"""


def files(server):
    server.write("index.html", "hello\n")


# --- 1xx --------------------------------------------------------------

@pytest.mark.parametrize("path", ["/t/upload", "/t/show-trailers"])
def test_continue(any_h2, path):
    """100 comes when the handler first reads, before any body was sent."""
    r = any_h2.start(any_h2.fields("POST", path,
                                   {"expect": "100-continue"}), end=False)
    any_h2.until(lambda: r.interim or r.headers, what="100")
    assert [dict(i)[":status"] for i in r.interim] == ["100"]
    any_h2.data(r.id, b"body", end=True)
    assert any_h2.wait(r).status == 200
    assert len(r.interim) == 1


def test_continue_not_wanted(h2):
    """A handler that does not read: the final response, no 100."""
    r = h2.start(h2.fields("POST", "/t/ignore",
                           {"expect": "100-continue"}), end=False)
    h2.wait_headers(r)
    assert (r.status, r.interim) == (200, [])


def test_continue_curl(server, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(b"x" * 2000000)
    answer = clients.curl(server, "/t/upload", "-T", str(data),
                          "-H", "Expect: 100-continue")
    assert answer.status == 200 and answer.body.startswith(b"length 2000000")
    assert " 100" in answer.heads[0][0]


def test_other_expectation(server, h2):
    r = h2.request("POST", "/t/upload", {"expect": "magic"}, body=b"x")
    assert r.status == server.http1("POST", "/t/upload", {"expect": "magic"},
                                    b"x").status == 417


@pytest.mark.h2x_only("holds 103 back unless told by H2EarlyHints")
@pytest.mark.parametrize("n", [1, 3])
def test_early_hints(server, h2, n):
    """Each 103 goes out while the handler works on."""
    number = 10 + n
    r = h2.get("/t/interim?status=103&n=%d&gate=%d" % (n, number))
    for i in range(n):
        h2.until(lambda: len(r.interim) == i + 1, what="103 number %d" % i)
        assert not r.headers
        head = dict(r.interim[i])
        assert head[":status"] == "103"
        assert "/style%d.css" % i in head["link"]
        inside.open_gate(server, number)
    assert h2.wait(r).text == "final\n"
    assert (r.status, len(r.interim)) == (200, n)
    assert r.header("link") is None


def test_processing(h2):
    r = h2.request(path="/t/interim?status=102")
    assert (r.status, r.text) == (200, "final\n")


@pytest.mark.h2x_only("holds 103 back unless told by H2EarlyHints")
def test_early_hints_nghttp(server):
    out = clients.nghttp(server, "/t/interim?status=103").out.decode()
    assert ":status: 103" in out and ":status: 200" in out


# --- trailers ---------------------------------------------------------

@pytest.mark.parametrize("path,size", [
    ("/t/trailers", 100), ("/t/trailers?body=0", 0),
    ("/t/trailers?body=200000", 200000)])
def test_response_trailers(any_h2, path, size):
    r = any_h2.request(path=path, headers={"te": "trailers"})
    assert (r.status, len(r.body), r.ended) == (200, size, True)
    assert r.trailer("x-sum") == "abc123"
    assert r.trailer("x-note") == "after the body"


@pytest.mark.parametrize("size", [0, 4, 200000])
def test_request_trailers(any_h2, size):
    r = any_h2.request("POST", "/t/show-trailers", body=b"x" * size or None,
                       trailers=[("x-check", "77"), ("x-other", "a b")])
    assert r.status == 200
    assert r.text.lower() == "trailers\nx-check: 77\nx-other: a b\n"


@pytest.mark.h2x_only("resets a good response when trailers come late")
def test_late_trailers(h2):
    """Trailers that come when the response has begun spoil nothing."""
    r = h2.start(h2.fields("POST", "/t/echo"), end=False)
    h2.data(r.id, b"body")
    h2.wait_body(r, 4)
    h2.trailers(r.id, [("x-late", "1")])
    h2.wait(r)
    assert (r.status, r.text, r.ended) == (200, "body", True)
    assert r.reset is None


def test_trailers_after_response(h2):
    """Those that come when the response is over are no error either."""
    r = h2.start(h2.fields("POST", "/t/ignore"), end=False)
    h2.until(lambda: r.done, what="end of the response")
    h2.trailers(r.id, [("x-late", "1")])
    assert h2.request(path="/index.html").text == "hello\n"
    assert not h2.goaways


@pytest.mark.parametrize("fields", [
    [(":path", "/x")], [(":status", "200")], [("Upper", "x")],
    [("connection", "close")]])
def test_bad_trailers(h2, fields):
    """RFC 9113, 8.1: malformed."""
    r = h2.start(h2.fields("POST", "/t/show-trailers"), end=False)
    h2.data(r.id, b"body")
    h2.trailers(r.id, fields)
    h2.wait(r)
    assert r.reset == h2raw.PROTOCOL_ERROR or r.status == 400
    assert h2.request(path="/index.html").text == "hello\n"


def test_trailers_without_end(h2):
    """RFC 9113, 8.1: a second HEADERS must end the stream."""
    r = h2.start(h2.fields("POST", "/t/show-trailers"), end=False)
    h2.data(r.id, b"body")
    frames = h2._split(r.id, h2.encode([("x-t", "1")]), end=False)
    h2.send(*frames)
    h2.pump(lambda: r.done or h2.goaways)
    assert r.reset == h2raw.PROTOCOL_ERROR or r.status == 400 or h2.goaways


def test_trailers_behind_a_length(server, h2):
    """Announced trailers arrive also when they come late, in a frame of their
    own behind a body of known length."""
    for _ in range(20):
        r = h2.start(h2.fields("POST", "/t/show-trailers", {
            "content-length": "4", "trailer": "x-late"}), end=False)
        h2.data(r.id, b"body")
        h2.ping()
        h2.trailers(r.id, [("x-late", "here")])
        h2.wait(r)
        assert "here" in r.text


# --- failures half-way --------------------------------------------------------------

HALF_AS_WHOLE = pytest.mark.h2x_only("ends the stream as if all were well")


@pytest.mark.parametrize("how", [
    "bucket", pytest.param("status", marks=HALF_AS_WHOLE),
    pytest.param("aborted", marks=HALF_AS_WHOLE),
    pytest.param("length", marks=HALF_AS_WHOLE)])
def test_fails_half_way(server, h2, how):
    """The client sees RST_STREAM, never a short success; others go on."""
    mark = server.access_mark()
    other = h2.get("/t/trickle?n=5&ms=10")
    r = h2.get("/t/fail?how=%s&after=5000" % how)
    h2.wait(r, other)
    assert r.status in (200, None)
    assert not r.ended and r.reset not in (None, h2raw.NO_ERROR)
    assert other.ended and other.status == 200
    assert h2.request(path="/index.html").text == "hello\n"
    server.wait_access(1, since=mark, uri="/t/fail")


def test_fails_at_once(h2):
    """Nothing was sent yet: an error response."""
    r = h2.request(path="/t/status?code=500")
    assert (r.status, r.text, r.ended) == (500, "own error", True)


def test_fails_half_way_curl(server):
    answer = clients.curl(server, "/t/fail?how=bucket&after=5000")
    assert answer.rc == 92


def test_client_sees_no_failure_of_others(server):
    """Twenty failing streams among twenty good ones."""
    with server.h2() as c:
        bad = [c.get("/t/fail?how=bucket&after=100") for _ in range(20)]
        good = [c.get("/t/big?n=50000") for _ in range(20)]
        c.wait(*bad + good)
        assert all(r.reset is not None for r in bad)
        assert all(len(r.body) == 50000 and r.ended for r in good)
