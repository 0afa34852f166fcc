"""Server push as clients see it that others have made: nghttp, node's
http2, python3-h2, and curl, which takes none."""

import pytest

from lib import clients, h2raw, inside

CONFIG = """
<Location />
    Header always set Link "expr=%{req_novary:X-Link}" \
        "expr=-n req_novary('X-Link')"
</Location>
<Location /early>
    SetHandler h2x-test
    H2PushResource /style.css
</Location>
"""
MODULES = "headers"

LINKS = ("</style.css>; rel=preload; as=style, "
         "</big.js?v=1>; rel=preload; as=script, "
         "</none.css>; rel=preload")
BIG = "var x = 1;\n" * 30000

SENDS_ERRORS = pytest.mark.h2x_only("sends error responses")
ANSWER = {"/style.css": (200, "style\n"), "/big.js?v=1": (200, BIG)}


def files(server):
    server.write("page.html", "page\n")
    server.write("style.css", "style\n")
    server.write("big.js", BIG)


@pytest.fixture(params=[True, False], ids=["tls", "cleartext"])
def tls(request):
    return request.param


@SENDS_ERRORS
def test_nghttp(server, tls):
    result = clients.nghttp(server, "/page.html", tls=tls,
                            args=["-n", "-s", "-H", "x-link: " + LINKS])
    out = result.out.decode()
    own, pushed = clients.nghttp_statistics(out)
    assert [row.path for row in own] == ["/page.html"]
    sizes = {row.path: row.size for row in pushed}
    assert sizes["/style.css"] == "6"
    assert sizes["/big.js?v=1"] in (str(len(BIG)), "%dK" % (len(BIG) >> 10))
    assert all(row.id % 2 == 0 for row in pushed)
    assert out.count("recv PUSH_PROMISE frame") == 3
    assert "error_code=CANCEL" in out and ":status: 404" not in out


def test_nghttp_without_push(server, tls):
    result = clients.nghttp(server, "/page.html", tls=tls, args=[
        "-n", "-s", "--no-push", "-H", "x-link: " + LINKS])
    own, pushed = clients.nghttp_statistics(result.out.decode())
    assert [row.path for row in own] == ["/page.html"] and not pushed
    assert b"PUSH_PROMISE" not in result.out


def test_nghttp_asks_for_no_more_than_is_missing(server):
    """With its parts pushed, nghttp -a gets a page in one go."""
    server.write("whole.html", "<link rel=stylesheet href=/style.css>\n")
    result = clients.nghttp(
        server, "/whole.html",
        args=["-n", "-s", "-a", "-H", "x-link: </style.css>; rel=preload"])
    own, pushed = clients.nghttp_statistics(result.out.decode())
    assert [row.path for row in own] == ["/whole.html"]
    assert [row.path for row in pushed] == ["/style.css"]


@pytest.mark.skipif(not clients.have("node"), reason="node is not installed")
@SENDS_ERRORS
def test_node(server, tls):
    """Events 'stream' and 'push' of node's client."""
    said = clients.node(server, "/page.html", [
        ("x-link", LINKS), ("accept-language", "de")], tls=tls)
    assert said["page"]["headers"][":status"] == 200
    assert said["page"]["body"] == "page\n" and said["page"]["code"] == 0
    pushed = {p["promise"][":path"]: p for p in said["pushed"]}
    assert list(pushed) == ["/style.css", "/big.js?v=1", "/none.css"]
    for path, (status, body) in ANSWER.items():
        one = pushed[path]
        assert one["promise"][":method"] == "GET"
        assert one["promise"]["accept-language"] == "de"
        assert one["promise"][":authority"].startswith("localhost:")
        assert one["headers"][":status"] == status
        assert one["body"] == body and one["code"] == 0
    assert pushed["/none.css"]["headers"] is None
    assert pushed["/none.css"]["code"] == h2raw.CANCEL


@SENDS_ERRORS
def test_python_h2(server, tls):
    with clients.Library(server, tls) as c:
        number = c.fetch("/page.html", [("x-link", LINKS)])
        assert c.body(number) == b"page\n"
        paths = {}
        for event in c.pushes(number):
            fields = dict(event.headers)
            assert fields[":scheme"] == c.scheme
            assert fields[":authority"] == "localhost"
            paths[fields[":path"]] = event.pushed_stream_id
        assert list(paths) == ["/style.css", "/big.js?v=1", "/none.css"]
        for path, (status, body) in ANSWER.items():
            head, = c.of("ResponseReceived", paths[path])
            assert dict(head.headers)[":status"] == str(status)
            assert c.body(paths[path]) == body.encode()
        reset, = c.of("StreamReset")
        assert (reset.stream_id, reset.error_code) == (paths["/none.css"],
                                                       h2raw.CANCEL)
        assert not c.of("ResponseReceived", paths["/none.css"])
        # and the connection is as good as before
        again = c.fetch("/page.html", [("x-link", LINKS)])
        assert c.body(again) == b"page\n" and not c.pushes(again)


def test_python_h2_without_push(server, tls):
    with clients.Library(server, tls, push=False) as c:
        number = c.fetch("/page.html", [("x-link", LINKS)])
        assert c.body(number) == b"page\n" and not c.pushes(number)


@pytest.mark.h2x_only("closes connections that reset much")
def test_python_h2_resets(server):
    """What it refuses does not harm the rest."""
    with clients.Library(server) as c:
        for i in range(20):
            number = c.get("/page.html", [("x-link", (
                "</big.js?r%d>; rel=preload, </style.css?r%d>; rel=preload"
                % (i, i)))])
            c.wait(lambda _: len(c.pushes(number)) == 2)
            big, style = [e.pushed_stream_id for e in c.pushes(number)]
            c.reset(big)
            c.ended.add(big)
            c.wait(lambda _: {number, style} <= c.ended)
            assert c.body(style) == b"style\n"
    inside.wait_settled(server)


def test_early(server):
    """Pushed while the handler works on."""
    inside.close_gates(server)
    with clients.Library(server) as c:
        number = c.get("/early/wait?gate=40")
        c.wait(lambda _: c.pushes(number) and c.ended)
        pushed, = c.pushes(number)
        assert c.body(pushed.pushed_stream_id) == b"style\n"
        assert number not in c.ended
        inside.open_gate(server, 40)
        c.wait(lambda _: number in c.ended)
        assert c.body(number) == b"waited\n"


def test_curl(server, tls):
    """It says that it takes none."""
    mark = server.access_mark()
    answer = clients.curl(server, "/page.html", "-H", "X-Link: " + LINKS,
                          tls=tls)
    assert (answer.status, answer.body) == (200, b"page\n")
    assert answer.header("link") == LINKS
    inside.wait_settled(server)
    assert [e["uri"] for e in server.access(since=mark, proto="HTTP/2.0")] \
        == ["/page.html"]
