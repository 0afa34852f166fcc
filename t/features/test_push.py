"""Server push: what Link fields announce is promised and sent, as the
request that it is (RFC 9113, 8.4; RFC 8288).

Directives are in test_directives_push.py, limits and early ends in
test_push_limits.py, other clients in test_push_clients.py.
"""

import base64
import hashlib

import pytest

from lib import h2raw, inside
from lib.backend import Backend
from lib.h2raw import HeadersFrame, PushPromiseFrame
from lib.server import wait_for

# A request's own x-link and x-more become Link fields of its response.
CONFIG = """
LogFormat "%m\\t%U%q\\t%>s\\t%{H2_PUSHED}e\\t%{H2_PUSHED_ON}e\\t%{H2PUSH}e\
\\t%{H2_PUSH}e\\t%{H2_STREAM_ID}e" push
CustomLog ${DIR}/push.log push
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
AddOutputFilter INCLUDES .shtml
DirectoryIndex index.html
<Location />
    Header always set Link "expr=%{req_novary:X-Link}" \
        "expr=-n req_novary('X-Link')"
    Header always add Link "expr=%{req_novary:X-More}" \
        "expr=-n req_novary('X-More')"
    Header set X-Push "%{H2PUSH}e"
</Location>
<Location /once.html>
    Header set Link "</style.css>; rel=preload"
</Location>
<Location /chain.html>
    Header always set Link "</style.css>; rel=preload"
    H2PushResource /hot.css
</Location>
<Location /changed/>
    SetHandler h2x-test
    RequestHeader set Accept-Language tlh
    RequestHeader unset User-Agent
</Location>
<Directory ${HTDOCS}>
    Options +Includes
</Directory>
<Directory ${HTDOCS}/rw>
    RewriteEngine on
    RewriteRule ^dir/(.*)$ /$1 [PT]
</Directory>
<Directory ${HTDOCS}/auth>
    AuthType Basic
    AuthName test
    AuthUserFile ${DIR}/users
    Require valid-user
</Directory>
<Directory ${HTDOCS}/off>
    H2Push off
</Directory>
"""
MODULES = ("headers cgid alias include rewrite auth_basic authn_core "
           "authn_file authz_user")

LOG = ["method", "uri", "status", "pushed", "on", "H2PUSH", "H2_PUSH",
       "stream"]

STYLE = "</style.css>; rel=preload"

RELATIVE = pytest.mark.h2x_only("sends relative paths as they are")


def files(server):
    for name in ("dir/page.html", "once.html", "rw/page.html",
                 "auth/page.html", "off/page.html"):
        server.write(name, "page\n")
    server.write("style.css", "style\n")
    server.write("hot.css", "hot\n")
    server.write("auth/own.css", "own\n")
    server.write("chain.html", "chain\n")
    server.write("dir/index.html", "index\n")
    server.write("page.shtml", "[<!--#echo var=\"H2PUSH\" -->]"
                 "[<!--#include virtual=\"/chain.html\" -->]end")
    password = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    with open(server.path("users"), "w") as f:
        f.write("alice:{SHA}%s\n" % password)
    server.write("cgi/page", "#!/bin/sh\n"
                 "printf 'Content-Type: text/html\\n"
                 "Link: </style.css>; rel=preload\\n"
                 "Link: <part.css>; rel=preload; as=style\\n\\ncgi\\n'\n",
                 0o755)


@pytest.fixture
def push(server):
    """A connection that takes pushes."""
    with server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
        yield c


@pytest.fixture(params=["tls", "cleartext"])
def any_push(request, server):
    with server.h2(request.param == "tls",
                   settings={h2raw.ENABLE_PUSH: 1}) as c:
        yield c


def ask(c, link, path="/dir/page.html", method="GET", headers=(), **kw):
    """A request whose response has this Link field, with all that is pushed
    on it."""
    r = c.start(c.fields(method, path, [("x-link", link)] + list(headers),
                         **kw))
    c.wait_pushed(r)
    return r


def log_mark(server):
    return server._read("push.log").count("\n")


def logged(server, since, count):
    """The log's entries by URI, when all that began has been logged."""
    def entries():
        lines = server._read("push.log").split("\n")[:-1][since:]
        return [dict(zip(LOG, line.split("\t"))) for line in lines]
    wait_for(lambda: len(entries()) >= count, 10, "%d entries" % count)
    inside.wait_settled(server)
    found = {e["uri"]: e for e in entries()
             if not e["uri"].startswith(("/t/count", "/t/open"))}
    assert len(found) == count
    return found


# --- what is announced -------------------------------------------------------

def test_pushed(server, any_push):
    """The promise, its response, and that promises come first."""
    r = ask(any_push, STYLE)
    assert (r.status, r.text) == (200, "page\n")
    pushed, = r.promises
    assert pushed.id % 2 == 0 and pushed.pushed_by == r.id
    assert (pushed.status, pushed.text, pushed.ended) == (200, "style\n",
                                                          True)
    assert pushed.reset is None and pushed.header("content-type") == "text/css"
    assert (any_push.order(PushPromiseFrame, r.id)
            < any_push.order(HeadersFrame, r.id))


ODD = pytest.mark.h2x_only("reads links by rules of its own")


@pytest.mark.parametrize("field,paths", [
    ("</a.css>; rel=preload", ["/a.css"]),
    ('</a.css>;rel="preload"', ["/a.css"]),
    ("</a.css>; rel=preload; as=style; crossorigin", ["/a.css"]),
    ("</a.css>;as=font;type=\"font/woff2\";crossorigin=anonymous;rel=preload",
     ["/a.css"]),
    ('</a.css>; rel="prefetch preload"', ["/a.css"]),
    ('</a.css>; rel="preload next"', ["/a.css"]),
    ('</a.css>; rel="next  preload"', ["/a.css"]),
    pytest.param("</a.css>; REL=PreLoad", ["/a.css"], marks=ODD),
    pytest.param("</a.css> ; rel = preload ; as = style", ["/a.css"],
                 marks=ODD),
    ("</a.css>; rel=preload, </b.js>; rel=preload; as=script",
     ["/a.css", "/b.js"]),
    pytest.param(",, </a.css>; rel=preload , ,</b.js>;rel=preload,",
                 ["/a.css", "/b.js"], marks=ODD),
    pytest.param('</a.css>; title="a, <b>; \\" rel=x"; rel=preload, '
                 "</b.js>; rel=preload", ["/a.css", "/b.js"], marks=ODD),
    ("</a.css>; rel=preload, </a.css>; rel=preload; as=style", ["/a.css"]),
    ("</a,b;c.css>; rel=preload", ["/a,b;c.css"]),
    ("</a.css?x=1,2;y>; rel=preload", ["/a.css?x=1,2;y"]),
    pytest.param("</a.css>; rel=preload; title*=UTF-8''x%20y", ["/a.css"],
                 marks=ODD),
    ("</a.css>", []),
    ("</a.css>; rel=prefetch", []),
    ("</a.css>; rel=preloads", []),
    ('</a.css>; rel="x-preload preload-x"', []),
    ("</a.css>; as=preload; rev=preload", []),
    pytest.param("</a.css>; rel=next; rel=preload", [], marks=ODD),
    pytest.param("</a.css>; =preload; x, </b.js>; rel=preload", ["/b.js"],
                 marks=ODD),
    ("</a.css>; rel=preload; nopush", []),
    ("</a.css>; nopush; rel=preload", []),
    pytest.param("</a.css>; rel=preload; NoPush", [], marks=ODD),
    pytest.param('</a.css>; rel=preload; nopush=""', [], marks=ODD),
    ("</a.css>; rel=preload; nopush, </b.js>; rel=preload", ["/b.js"]),
    pytest.param('</a.css>; rel=preload; anchor="/other", </b.js>;rel=preload',
                 ["/b.js"], marks=ODD),
])
def test_link(push, field, paths):
    """RFC 8288, section 3."""
    r = ask(push, field)
    assert r.promised_paths == paths
    assert r.status == 200


@pytest.mark.h2x_only("stops at what it cannot read, and says nothing")
@pytest.mark.parametrize("field", [
    "nonsense, </b.js>; rel=preload",
    "/a.css; rel=preload, </b.js>; rel=preload",
    "</a.css> rel=preload, </b.js>; rel=preload",
    "</b.js>; rel=preload, </a.css",
    '</b.js>; rel=preload, </a.css>; rel="preload',
])
def test_malformed(server, push, field):
    """It is skipped with one line in the log; the rest counts."""
    mark = server.log_mark()
    r = ask(push, field)
    assert r.status == 200 and r.promised_paths == ["/b.js"]
    server.wait_log("malformed Link", mark)
    assert len([line for line in server.error_text()[mark:].splitlines()
                if "malformed Link" in line and "h2x:info" in line]) == 1


def test_several_fields(push):
    r = ask(push, STYLE, headers=[("x-more", "</hot.css>; rel=preload")])
    assert r.promised_paths == ["/style.css", "/hot.css"]
    assert [p.text for p in r.promises] == ["style\n", "hot\n"]


@pytest.mark.parametrize("target,path", [
    ("/style.css", "/style.css"),
    pytest.param("s.js", "/dir/s.js", marks=RELATIVE),
    pytest.param("./s.js", "/dir/s.js", marks=RELATIVE),
    pytest.param("../s.js", "/s.js", marks=RELATIVE),
    pytest.param("../../../s.js", "/s.js", marks=RELATIVE),
    pytest.param("sub/s.js?a=b/c", "/dir/sub/s.js?a=b/c", marks=RELATIVE),
    pytest.param("/a/./b/../c.js", "/a/c.js", marks=RELATIVE),
    pytest.param("?v=2", "/dir/page.html?v=2", marks=RELATIVE),
    pytest.param("s.js?x=1#part", "/dir/s.js?x=1", marks=RELATIVE),
    pytest.param("/s.svg#part", "/s.svg", marks=RELATIVE),
    ("/%7Euser/%C3%A9?q=%20", "/%7Euser/%C3%A9?q=%20"),
    pytest.param("//localhost/n.css", "/n.css", marks=RELATIVE),
    ("SCHEME://localhost/n.css", "/n.css"),
    pytest.param("SCHEME://LocalHost/n.css", "/n.css", marks=RELATIVE),
    pytest.param("SCHEME://localhost:DEFAULT/n.css", "/n.css",
                 marks=RELATIVE),
    pytest.param("SCHEME://localhost", "/", marks=RELATIVE),
    pytest.param("SCHEME://localhost?x", "/?x", marks=RELATIVE),
    ("OTHER://localhost/n.css", None),
    ("SCHEME://localhost:4711/n.css", None),
    ("SCHEME://elsewhere.test/n.css", None),
    ("SCHEME://localhost.test/n.css", None),
    ("//elsewhere.test/n.css", None),
    ("data:text/css,x", None),
    pytest.param("mailto:a@localhost", None, marks=RELATIVE),
    ("#part", None),
    ("", None),
    pytest.param("page.html?own=1/2#part", None, marks=RELATIVE),
])
def test_target(any_push, target, path):
    """RFC 3986, section 5, against the request's :path."""
    c = any_push
    other, port = ("http", 443) if c.scheme == "https" else ("https", 80)
    target = (target.replace("SCHEME", c.scheme).replace("OTHER", other)
              .replace("DEFAULT", str(port)))
    r = ask(c, "<%s>; rel=preload" % target, path="/dir/page.html?own=1/2")
    assert r.promised_paths == ([path] if path else [])
    for p in r.promises:
        assert dict(p.request)[":authority"] == "localhost"
        assert dict(p.request)[":scheme"] == c.scheme


@pytest.mark.parametrize("port", [None, "PORT", 443])
def test_target_with_port(server, push, port):
    """The port of the request's authority counts, not the socket's."""
    mine = server.tls_port
    links = ["</a.css>", "<https://localhost:%d/b.css>" % mine,
             "<https://localhost/c.css>", "<https://localhost:443/d.css>"]
    authority = "localhost" if port is None else "localhost:%s" % (
        mine if port == "PORT" else port)
    r = ask(push, ", ".join(x + ";rel=preload" for x in links),
            authority=authority)
    assert {dict(p.request)[":authority"] for p in r.promises} == {authority}
    assert "/a.css" in r.promised_paths
    if port == "PORT":
        assert r.promised_paths == ["/a.css", "/b.css"]


@pytest.mark.h2x_only("takes the default port for another origin")
@pytest.mark.parametrize("authority", ["localhost", "localhost:443"])
def test_target_default_port(push, authority):
    r = ask(push, "<https://localhost/c.css>; rel=preload, "
            "<https://localhost:443/d.css>; rel=preload", authority=authority)
    assert r.promised_paths == ["/c.css", "/d.css"]


@RELATIVE
@pytest.mark.parametrize("path,target,want", [
    ("/rw/dir/once.html", "../page.html", "/rw/page.html"),
    ("/rw/dir/once.html", "style.css", "/rw/dir/style.css"),
    ("/dir/", "s.css", "/dir/s.css"),
])
def test_relative_to_what_was_asked(push, path, target, want):
    """Not to what httpd has made of it."""
    r = ask(push, "<%s>; rel=preload" % target, path)
    assert r.status == 200 and want in r.promised_paths


# --- where the fields come from ----------------------------------------------

@RELATIVE
def test_cgi(push):
    r = push.get("/cgi/page")
    push.wait_pushed(r)
    assert r.text == "cgi\n"
    assert r.promised_paths == ["/style.css", "/cgi/part.css"]
    style, part = r.promises
    assert style.text == "style\n"
    assert part.reset == h2raw.CANCEL and not part.headers


def test_ssi(push):
    """A page that mod_include puts together: its own fields count, those of
    its parts do not, and H2PUSH is there."""
    r = ask(push, STYLE, "/page.shtml")
    assert r.text == "[on][chain\n]end"
    assert r.promised_paths[:1] == ["/style.css"]
    assert len(r.promised_paths) == len(set(r.promised_paths))


@pytest.mark.h2x_only("does not push on 304")
@pytest.mark.parametrize("path,headers", [
    ("/dir/page.html", [("x-link", STYLE)]), ("/once.html", [])],
    ids=["Header always", "Header"])
def test_not_modified(server, push, path, headers):
    """The page is the client's, the resource need not be."""
    etag = server.http1(path=path).header("etag")
    r = push.get(path, headers + [("if-none-match", etag)])
    push.wait_pushed(r)
    assert (r.status, r.text) == (304, "")
    pushed, = r.promises
    assert (pushed.path, pushed.status, pushed.text) == (
        "/style.css", 200, "style\n")


@pytest.mark.parametrize("path,status", [
    ("/t/status?code=302", 302), ("/t/status?code=301", 301)])
def test_redirect_pushes(push, path, status):
    r = ask(push, STYLE, path)
    assert r.status == status and r.promised_paths == ["/style.css"]


@pytest.mark.parametrize("path,status", [
    ("/none", 404), ("/auth/page.html", 401), ("/t/status?code=403", 403),
    ("/t/status?code=500", 500)])
def test_errors_do_not_push(push, path, status):
    r = ask(push, STYLE, path)
    assert r.status == status and r.header("link")
    assert not r.promises


@pytest.mark.h2x_only("reads only fields of final responses")
def test_interim(server, push):
    """Links of a handler's 103s are pushed while the handler works on."""
    inside.close_gates(server)
    r = push.get("/t/interim?status=103&n=2&gate=21")
    for i in range(2):
        push.until(lambda: len(r.promises) > i, what="promise %d" % i)
        assert r.promises[i].path == "/style%d.css" % i
        assert not r.headers
        inside.open_gate(server, 21)
    push.wait_pushed(r)
    assert r.text == "final\n" and len(r.promises) == 2


def link_backend(q):
    if q.path == "/page":
        q.answer("page", fields="Link: <style.css>; rel=preload\r\n"
                 "Link: </http/gone.css>; rel=preload; as=style\r\n")
    elif q.path == "/same":
        q.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n"
               "Link: <style.css>; rel=preload\r\n\r\n")
    elif q.path == "/style.css":
        q.answer("%s; %s" % (q.method, q.fields.get("accept-language")))
    else:
        q.answer("gone", "404 Not Found")


@RELATIVE
@pytest.mark.parametrize("path", ["/http/page", "/http/same"])
def test_proxied(httpd, path):
    """Fields of a backend; pushed requests go there too."""
    with Backend(link_backend) as back:
        server = httpd("ProxyPass /http/ http://127.0.0.1:%d/ retry=0"
                       % back.port, "proxy proxy_http")
        with server, server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
            r = c.get(path, [("accept-language", "de"),
                             ("if-none-match", '"x"')])
            style, *gone = c.wait_pushed(r)
            assert r.status == (200 if path == "/http/page" else 304)
            assert (style.path, style.text) == ("/http/style.css", "GET; de")
            for g in gone:
                assert (g.path, g.reset) == ("/http/gone.css", h2raw.CANCEL)


# --- the request that is made ------------------------------------------------

SELECTING = {
    "accept": "text/html;q=0.5, */*", "accept-encoding": "gzip, br",
    "accept-language": "de, en;q=0.5", "user-agent": "tester/1.0",
    "cookie": "a=1; b=2",
    "authorization": "Basic " + base64.b64encode(b"alice:secret").decode()}

NOT_COPIED = [
    ("if-none-match", '"x"'), ("if-match", "*"),
    ("if-modified-since", "Sat, 29 Oct 2022 19:43:31 GMT"),
    ("if-unmodified-since", "Sat, 29 Oct 2040 19:43:31 GMT"),
    ("range", "bytes=0-1"), ("if-range", '"x"'), ("x-other", "1"),
    ("te", "trailers"), ("expect", "100-continue"), ("dnt", "1"),
    ("content-type", "text/plain"), ("referer", "https://localhost/"),
    ("accept-push-policy", "default"), ("origin", "https://localhost")]


@pytest.mark.h2x_only("copies other fields")
@pytest.mark.parametrize("path", ["/t/env", "/changed/env"])
def test_promise(push, path):
    """The promise has what selects the response, as the client sent it."""
    headers = list(SELECTING.items()) + NOT_COPIED
    r = ask(push, "</t/env?x=1>; rel=preload", path, headers=headers)
    pushed, = r.promises
    names = [name for name, _ in pushed.request]
    assert [n[0] == ":" for n in names] == sorted(
        (n[0] == ":" for n in names), reverse=True)
    assert len(set(names)) == len(names)
    assert dict(pushed.request) == {
        ":method": "GET", ":scheme": "https", ":authority": "localhost",
        ":path": "/t/env?x=1", **SELECTING}
    # the handler gets the same, as of any request
    assert pushed.status == 200
    seen = pushed.text.partition("-- in\n")[2].partition("-- env\n")[0]
    fields = dict(line.split(": ", 1) for line in seen.splitlines())
    assert {k.lower(): v for k, v in fields.items()} == {
        "host": "localhost", **SELECTING}
    assert "the_request: GET /t/env?x=1 HTTP/2.0\n" in pushed.text


@pytest.mark.h2x_only("adds host")
def test_promise_without_fields(push):
    """What the client did not send is not made up."""
    r = ask(push, STYLE)
    pushed, = r.promises
    assert sorted(pushed.request) == [
        (":authority", "localhost"), (":method", "GET"),
        (":path", "/style.css"), (":scheme", "https")]


@pytest.mark.h2x_only("does not copy cookies")
def test_cookie_crumbs(push):
    r = ask(push, "</t/env>; rel=preload",
            headers=[("cookie", "a=1"), ("cookie", "b=2; c=3"),
                     ("cookie", "d=4")])
    pushed, = r.promises
    assert "; ".join(v for k, v in pushed.request
                     if k == "cookie") == "a=1; b=2; c=3; d=4"
    assert "Cookie: a=1; b=2; c=3; d=4\n" in pushed.text


@pytest.mark.parametrize("policy,method", [
    (None, "GET"), ("default", "GET"), ("fast-load", "GET"),
    ("head", "HEAD"), ("none", None), ("other", "GET"), ("", "GET")])
def test_accept_push_policy(push, policy, method):
    headers = [] if policy is None else [("accept-push-policy", policy)]
    r = ask(push, STYLE, headers=headers)
    assert r.status == 200
    if not method:
        assert not r.promises
        return
    pushed, = r.promises
    assert dict(pushed.request)[":method"] == method
    assert (pushed.status, pushed.ended) == (200, True)
    assert pushed.text == ("style\n" if method == "GET" else "")
    assert pushed.header("content-type") == "text/css"


# --- for whom ----------------------------------------------------------------

@pytest.mark.parametrize("method,body,pushes", [
    ("GET", None, True),
    pytest.param("HEAD", None, True,
                 marks=pytest.mark.h2x_only("pushes on GET alone")),
    ("POST", b"x", False), ("PUT", b"x", False), ("OPTIONS", None, False)])
def test_methods(push, method, body, pushes):
    path = "/t/upload" if body else "/dir/page.html"
    r = push.start(push.fields(method, path, [("x-link", STYLE)]),
                   end=body is None)
    if body:
        push.data(r.id, body, end=True)
    push.wait_pushed(r)
    assert r.status == 200 and r.header("link") == STYLE
    assert r.promised_paths == (["/style.css"] if pushes else [])
    for p in r.promises:
        assert p.text == "style\n"


@pytest.mark.parametrize("value,pushes", [(None, True), (1, True),
                                          (0, False)])
def test_enable_push(server, value, pushes):
    """RFC 9113, 6.5.2: on unless the client says otherwise."""
    for tls in (True, False):
        with server.h2(tls, settings={h2raw.ENABLE_PUSH: value}) as c:
            r = ask(c, STYLE)
            assert len(r.promises) == pushes and r.status == 200
            assert r.header("x-push") == ("on" if pushes else "off")


def test_enable_push_changes(server, push):
    def change(value):
        acked = push.settings_acked
        push.settings({h2raw.ENABLE_PUSH: value})
        push.until(lambda: push.settings_acked > acked, what="SETTINGS ack")
    change(0)
    assert not ask(push, STYLE).promises
    change(1)
    assert len(ask(push, STYLE).promises) == 1
    change(0)
    assert not ask(push, "</hot.css>; rel=preload").promises


def test_pushed_does_not_push(push):
    """Links and resources of a pushed response stay what they are."""
    r = ask(push, "</chain.html>; rel=preload")
    pushed, = push.promises
    assert (pushed.text, pushed.header("link")) == ("chain\n", STYLE)
    assert not pushed.promises and not pushed.interim
    assert r.promises == [pushed]
    # while a client's request does
    chain = push.get("/chain.html")
    push.wait_pushed(chain)
    assert "/style.css" in chain.promised_paths


def test_off_in_directory(push):
    """H2Push off says what pushes, not what is pushed."""
    r = ask(push, STYLE, "/off/page.html")
    assert r.status == 200 and r.header("link") == STYLE
    assert not r.promises
    r = ask(push, "</off/page.html>; rel=preload")
    assert [p.text for p in r.promises] == ["page\n"]


def test_http1_is_not_concerned(server):
    r = server.http1(path="/dir/page.html", headers={"x-link": STYLE})
    assert (r.status, r.text) == (200, "page\n")
    assert r.header("link") == STYLE and not r.interim


# --- what comes of it --------------------------------------------------------

@pytest.mark.h2x_only("sends any response that has a body")
@pytest.mark.parametrize("path,status", [
    ("/none.css", 404), ("/t/status?code=302", 302),
    ("/t/status?code=403", 403), ("/t/status?code=500", 500),
    ("/dir", 301), ("/auth/own.css", 401)])
def test_cancelled(server, push, path, status):
    """What is no 2xx is not sent, but logged as any."""
    mark = log_mark(server)
    r = ask(push, "<%s>; rel=preload, %s" % (path, STYLE))
    bad, good = r.promises
    assert bad.reset == h2raw.CANCEL
    assert not bad.headers and not bad.body and not bad.interim
    assert good.text == "style\n"
    entries = logged(server, mark, 3)
    assert entries[path]["status"] == str(status)
    assert entries[path]["pushed"] == "PUSHED"


def test_no_content(push):
    r = ask(push, "</t/status?code=204>; rel=preload")
    pushed, = r.promises
    assert (pushed.status, pushed.ended, pushed.reset) == (204, True, None)


@pytest.mark.h2x_only("leaves out authorization")
def test_authenticated(server, push):
    """The promise carries authorization: 200 with it, cancelled without."""
    r = ask(push, "<own.css>; rel=preload", "/auth/page.html",
            headers=[("authorization", SELECTING["authorization"])])
    assert r.status == 200
    assert [(p.path, p.text) for p in r.promises] == [
        ("/auth/own.css", "own\n")]
    r = ask(push, "</auth/own.css?2>; rel=preload")
    assert [(p.reset, p.headers) for p in r.promises] == [(h2raw.CANCEL, [])]


def test_rewritten(push):
    """Pushed requests go through mod_rewrite."""
    r = ask(push, "</rw/dir/style.css>; rel=preload", "/rw/page.html")
    assert [(p.path, p.text) for p in r.promises] == [
        ("/rw/dir/style.css", "style\n")]


def test_variables(server, push):
    """In the log, in other modules' directives, and by http2_var_lookup."""
    mark = log_mark(server)
    r = ask(push, "</t/env?pushed>; rel=preload", "/t/env?page")
    pushed, = r.promises
    entries = logged(server, mark, 2)
    page, part = entries["/t/env?page"], entries["/t/env?pushed"]
    assert (page["pushed"], page["on"], page["stream"]) == ("", "",
                                                            str(r.id))
    assert (part["method"], part["status"], part["pushed"]) == (
        "GET", "200", "PUSHED")
    assert (part["on"], part["stream"]) == (str(r.id), str(pushed.id))
    assert (page["H2PUSH"], page["H2_PUSH"]) == ("on", "on")
    assert r.header("x-push") == "on"
    for name, value in [("H2PUSH", "on"), ("H2_PUSH", "on")]:
        assert "\nvar %s: %s\n" % (name, value) in r.text
        assert "\n%s: %s\n" % (name, value) in r.text
    assert "\nvar H2_PUSHED: \nvar H2_PUSHED_ON: \n" in r.text
    assert "\nH2_PUSHED: \n" in r.text
    assert ("\nvar H2_PUSHED: PUSHED\nvar H2_PUSHED_ON: %d\n" % r.id
            in pushed.text)
    assert "\nH2_PUSHED: PUSHED\n" in pushed.text
    assert "\nH2_PUSHED_ON: %d\n" % r.id in pushed.text


@pytest.mark.h2x_only("says on where H2Push is off")
def test_variables_off(server, push):
    r = push.request(path="/off/page.html")
    assert r.header("x-push") == "off"
    with server.h2() as c:
        r = c.request(path="/t/env")
        assert r.header("x-push") == "off"
        assert "\nvar H2PUSH: off\nvar H2_PUSH: off\n" in r.text


def test_large_and_many(server, push):
    """Twenty pushes of some size at a time arrive whole."""
    links = ["</t/big?n=%d>; rel=preload" % (50000 + i) for i in range(20)]
    r = ask(push, ", ".join(links), "/t/big?n=300000")
    assert len(r.body) == 300000
    assert [len(p.body) for p in r.promises] == [50000 + i for i in range(20)]
    for p in r.promises:
        assert p.ended and p.reset is None
        assert bytes(p.body[:26]) == b"abcdefghijklmnopqrstuvwxyz"
