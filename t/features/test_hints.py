"""103 Early Hints (RFC 8297), and that a resource is either pushed or
hinted."""

import base64
import hashlib
import os
import subprocess
import threading

import pytest

from lib import clients, h2raw, inside, server as lib_server
from lib.backend import Backend
from lib.browser import CHROMIUM, Browser
from lib.h2raw import HeadersFrame
from lib.server import wait_for

CONFIG = """
H2EarlyHints on
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
AddOutputFilter INCLUDES .shtml
DirectoryIndex index.html
ErrorDocument 404 /hinted/page.html
H2EarlyHint X-Server one
<Directory ${HTDOCS}>
    Options +Includes
</Directory>
<LocationMatch "^/(hinted|denied|rw|cgi|part)">
    H2PushResource /style.css
    H2PushResource add /fonts/x.woff2
</LocationMatch>
<Location /cgi>
    TestFixupsSleep on
</Location>
<Location /hinted/t>
    SetHandler h2x-test
</Location>
<Location /hinted/inner>
    H2PushResource /inner.js critical
    H2EarlyHint X-Inner two
    H2EarlyHint x-inner three
</Location>
<Location /style.css>
    Header set Cache-Control max-age=600
</Location>
<Location /denied>
    Require all denied
</Location>
<Location /links>
    H2EarlyHint Link "<https://fonts.test>; rel=preconnect"
    H2EarlyHint Link "</style.css>; rel=preload; as=style, \
</later.html>; rel=prefetch"
    H2EarlyHint Link "</inner.js>; rel=preload; as=script; nopush"
</Location>
<Directory ${HTDOCS}/rw>
    RewriteEngine on
    RewriteRule ^old$ /hinted/page.html [PT]
</Directory>
"""
MODULES = "cgid alias headers include rewrite"

STYLE = "</style.css>; rel=preload; as=style"
FONT = "</fonts/x.woff2>; rel=preload; as=font; crossorigin"

HOLDS_BACK = pytest.mark.h2x_only("hints other fields")


def files(server):
    for name in ("hinted/page.html", "hinted/index.html", "links/page.html",
                 "hinted/inner/page.html", "denied/page.html", "plain.html"):
        server.write(name, "page\n")
    server.write("style.css", "style\n")
    server.write("inner.js", "inner\n")
    server.write("fonts/x.woff2", "font\n")
    server.write("rw/x", "")
    server.write("part.shtml",
                 "[<!--#include virtual=\"/hinted/page.html\" -->]"
                 "[<!--#include virtual=\"/hinted/inner/page.html\" -->]")
    server.write("cgi/slow", "#!/bin/sh\n"
                 'while [ ! -e "../${QUERY_STRING%%&*}" ]; do sleep 0.05; '
                 "done\n"
                 "printf 'Content-Type: text/html\\n\\n"
                 "<!DOCTYPE html><link rel=stylesheet href=/style.css>"
                 "<title>ready</title>'\n", 0o755)


@pytest.fixture
def push(server):
    """A connection that takes pushes."""
    with server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
        yield c


def links(interim):
    return [v for k, v in interim if k == "link"]


def all_links(interim):
    """The links, one by one, in whatever fields they came."""
    return [x.strip() for v in links(interim) for x in v.split(", ")]


# --- our own -----------------------------------------------------------------

@HOLDS_BACK
def test_hinted(server, any_h2):
    """One 103, while the handler has said nothing yet."""
    inside.close_gates(server)
    r = any_h2.get("/hinted/t/wait?gate=50")
    any_h2.until(lambda: r.interim, what="the 103")
    hint, = r.interim
    assert hint[0] == (":status", "103")
    assert all_links(hint) == [STYLE, FONT]
    assert sorted(set(k for k, _ in hint)) == [":status", "link", "x-server"]
    any_h2.ping()
    assert not r.headers
    inside.open_gate(server, 50)
    any_h2.wait(r)
    assert (r.status, r.text, len(r.interim)) == (200, "waited\n", 1)


@HOLDS_BACK
def test_pushed_instead(server, push):
    """Who takes pushes gets the resource, and no hint of it."""
    inside.close_gates(server)
    r = push.get("/hinted/t/wait?gate=51")
    push.until(lambda: len(r.promises) == 2 and all(
        p.done for p in r.promises), what="the pushes")
    assert not r.headers
    assert [(p.path, p.text) for p in r.promises] == [
        ("/style.css", "style\n"), ("/fonts/x.woff2", "font\n")]
    inside.open_gate(server, 51)
    push.wait(r)
    assert len(r.promises) == 2
    assert not [x for hint in r.interim for x in links(hint)]
    # the fields that are no links are hinted all the same
    assert [("x-server", "one") in hint for hint in r.interim] == [True]


@HOLDS_BACK
def test_pushed_before(server, push):
    """What the client has by an earlier push is not hinted either."""
    push.wait_pushed(push.get("/hinted/page.html"))
    r = push.get("/hinted/page.html")
    push.wait_pushed(r)
    assert not r.promises
    assert not [x for hint in r.interim for x in links(hint)]


@HOLDS_BACK
@pytest.mark.parametrize("takes", [0, 1])
def test_sections_add(server, takes):
    with server.h2(settings={h2raw.ENABLE_PUSH: takes}) as c:
        r = c.get("/hinted/inner/page.html")
        c.wait_pushed(r)
        hint, = r.interim
        values = [v for k, v in hint if k == "x-inner"]
        assert ", ".join(values) == "two, three"
        assert ("x-server", "one") in hint
        if takes:
            assert sorted(r.promised_paths) == [
                "/fonts/x.woff2", "/inner.js", "/style.css"]
            assert not links(hint)
        else:
            assert sorted(all_links(hint)) == sorted(
                [STYLE, FONT, "</inner.js>; rel=preload; as=script"])
            assert not r.promises


@HOLDS_BACK
def test_links_as_hints(server, push):
    """Links of H2EarlyHint that may be pushed are pushed."""
    with server.h2() as c:
        hint, = c.request(path="/links/page.html").interim
        assert all_links(hint) == [
            "<https://fonts.test>; rel=preconnect", STYLE,
            "</later.html>; rel=prefetch",
            "</inner.js>; rel=preload; as=script; nopush"]
    r = push.get("/links/page.html")
    push.wait_pushed(r)
    assert r.promised_paths == ["/style.css"]
    hint, = r.interim
    assert all_links(hint) == [
        "<https://fonts.test>; rel=preconnect", "</later.html>; rel=prefetch",
        "</inner.js>; rel=preload; as=script; nopush"]


@HOLDS_BACK
@pytest.mark.parametrize("path,count", [
    ("/hinted/", 1),                # mod_dir: index.html
    ("/rw/old", 1),                 # an internal redirect
    ("/part.shtml", 1),             # parts have their own resources
    ("/hinted/t/env", 1), ("/plain.html", 1)])
@pytest.mark.parametrize("takes", [0, 1])
def test_once(server, path, count, takes):
    """However many handlers take part in the answer."""
    with server.h2(settings={h2raw.ENABLE_PUSH: takes}) as c:
        r = c.get(path)
        c.wait_pushed(r)
        assert r.status == 200 and r.ended
        assert len(r.interim) == count
        assert len(r.promised_paths) == len(set(r.promised_paths))
        assert [p.reset for p in r.promises] == [None] * len(r.promises)
        if path == "/plain.html":
            assert not links(r.interim[0]) and not r.promises
        else:
            paths = ["/style.css", "/fonts/x.woff2"]
            assert r.promised_paths == (paths if takes else [])
            assert all_links(r.interim[0]) == ([] if takes else [STYLE, FONT])


@HOLDS_BACK
@pytest.mark.parametrize("path,status", [
    ("/denied/page.html", 403), ("/none", 404)])
@pytest.mark.parametrize("takes", [0, 1])
def test_errors(server, path, status, takes):
    """Who may not see the page is not told what is on it; and the page of
    an error document is not announced."""
    with server.h2(settings={h2raw.ENABLE_PUSH: takes}) as c:
        r = c.request(path=path)
        assert r.status == status and not r.promises
        assert not [x for hint in r.interim for x in links(hint)]


@HOLDS_BACK
def test_order(push):
    """Promises, the 103, the response."""
    r = push.get("/hinted/page.html")
    push.wait_pushed(r)
    first = push.order(HeadersFrame, r.id)
    assert all(push.frames.index(f) < first for f in push.frames
               if isinstance(f, h2raw.PushPromiseFrame))
    assert push.order(HeadersFrame, r.id, 1) > first


def test_not_for_http1(server):
    r = server.http1(path="/hinted/page.html")
    assert (r.status, r.text, r.interim) == (200, "page\n", [])
    answer = clients.curl(server, "/hinted/page.html", http2=False)
    assert len(answer.heads) == 1


def test_with_continue(server, h2):
    """A body that waits for 100 comes all the same."""
    r = h2.start(h2.fields("POST", "/hinted/t/upload",
                           {"expect": "100-continue"}), end=False)
    h2.until(lambda: "100" in [dict(i)[":status"] for i in r.interim]
             or r.headers, what="100")
    h2.data(r.id, b"body", end=True)
    assert h2.wait(r).status == 200
    assert r.text.startswith("length 4\n")


@HOLDS_BACK
@pytest.mark.parametrize("target,rest", [
    ("/a.css", "; as=style"), ("/a.js", "; as=script"),
    ("/a.mjs?x=1", "; as=script"), ("/A.CSS", "; as=style"),
    ("/a.woff", "; as=font; crossorigin"), ("/a.png", "; as=image"),
    ("/a.b.jpg", "; as=image"), ("/a.svg", "; as=image"),
    ("/a.webp", "; as=image"), ("/a", ""), ("/a.css/b", ""),
    ("/a?x=.css", ""), ("https://fonts.test/a.css", "; as=style")])
def test_kind(httpd, target, rest):
    """Browsers want to know what it is."""
    with httpd("H2EarlyHints on\nH2PushResource %s" % target) as server:
        server.write("page", "page\n")
        with server.h2() as c:
            hint, = c.request(path="/page").interim
            assert links(hint) == ["<%s>; rel=preload%s" % (target, rest)]


# --- H2EarlyHints ------------------------------------------------------------

SWITCH = """
<Location /hinted>
    SetHandler h2x-test
    H2PushResource /t/env
</Location>
"""
SWITCHED = {
    "one.test": "H2EarlyHints on",
    "two.test": "H2EarlyHints off",
}


@pytest.mark.h2x_only("is off by default")
@pytest.mark.parametrize("sni,own,handlers", [
    ("localhost", 0, 1), ("one.test", 1, 1), ("two.test", 0, 0)])
def test_switch(httpd, sni, own, handlers):
    """Not given: those of handlers only; on: all; off: none."""
    with httpd(SWITCH, hosts=SWITCHED) as server, \
            server.h2(sni=sni, authority=sni) as c:
        r = c.request(path="/hinted/env")
        assert (r.status, len(r.interim)) == (200, own)
        r = c.request(path="/t/interim?status=103&n=2")
        assert r.text == "final\n"
        assert [links(i) for i in r.interim] == [
            ["</style%d.css>; rel=preload" % i] for i in range(2 * handlers)]
        # others than 103 are not concerned
        r = c.start(c.fields("POST", "/t/upload",
                             {"expect": "100-continue"}), end=False)
        c.until(lambda: r.interim, what="100")
        c.data(r.id, b"body", end=True)
        assert c.wait(r).status == 200
    with httpd(SWITCH, hosts=SWITCHED) as server, server.h2(
            sni=sni, authority=sni, settings={h2raw.ENABLE_PUSH: 1}) as c:
        # pushes do not depend on it
        r = c.get("/hinted/env")
        c.wait_pushed(r)
        assert r.promised_paths == ["/t/env"] and not r.interim


@pytest.mark.h2x_only("is off by default")
@pytest.mark.parametrize("switch,held_back", [("", False), ("on", False),
                                              ("off", True)])
@pytest.mark.parametrize("takes", [0, 1])
def test_backend(httpd, switch, held_back, takes):
    """A backend's 103 is passed on at once, or kept; pushes come of it
    either way."""
    gate = threading.Event()

    def handle(q):
        if q.path == "/page":
            q.send("HTTP/1.1 103 Early Hints\r\n"
                   "Link: </http/style.css>; rel=preload\r\n\r\n")
            gate.wait(30)
        q.answer(q.path)
    with Backend(handle) as back:
        config = "ProxyPass /http/ http://127.0.0.1:%d/ retry=0\n" % back.port
        if switch:
            config += "H2EarlyHints %s\n" % switch
        server = httpd(config, "proxy proxy_http")
        with server, server.h2(settings={h2raw.ENABLE_PUSH: takes}) as c:
            r = c.get("/http/page")
            if takes:
                c.until(lambda: r.promises and r.promises[0].done,
                        what="the push")
                assert r.promises[0].text == "/style.css"
            if not held_back and not takes:
                c.until(lambda: r.interim, what="the 103")
                assert links(r.interim[0]) == [
                    "</http/style.css>; rel=preload"]
            assert not r.headers
            gate.set()
            c.wait_pushed(r)
            assert r.text == "/page" and len(r.promises) == takes
            if held_back:
                assert not r.interim


@pytest.mark.h2x_only("sends no hints by itself")
def test_large_interim_response(httpd):
    """The response itself was not sent then."""
    config = """
        H2MaxHeaderBlockLen 400
        H2EarlyHints on
        <Location /x>
            H2EarlyHint Link "<%s>; rel=preconnect"
        </Location>
        """ % ("a" * 500)
    with httpd(config) as server, server.h2() as c:
        server.write("x", "x")
        mark = server.log_mark()
        r = c.request(path="/x")
        assert (r.status, r.text) == (200, "x")
        server.wait_log(r"cannot send response head", mark)
        assert c.request(path="/x").status == 200


# --- clients -----------------------------------------------------------------

@HOLDS_BACK
@pytest.mark.parametrize("tls", [True, False])
def test_curl(server, tls):
    """curl takes no pushes, and shows the 103."""
    answer = clients.curl(server, "/hinted/page.html", "-v", tls=tls)
    assert (answer.status, answer.body) == (200, b"page\n")
    assert [h[0].split()[:2] for h in answer.heads] == [
        ["HTTP/2", "103"], ["HTTP/2", "200"]]
    assert "link: " + STYLE in answer.heads[0][1:]
    said = [line for line in answer.err.splitlines() if line[:2] == "< "]
    assert said[0].split()[1:3] == ["HTTP/2", "103"]
    assert "< link: " + FONT in said


@HOLDS_BACK
def test_nghttp(server):
    """With pushes refused, and with pushes."""
    def nghttp(*args):
        return clients.nghttp(server, "/hinted/page.html",
                              args=["-n"] + list(args)).out.decode()
    out = nghttp("--no-push")
    assert ":status: 103" in out and "link: " + STYLE in out
    assert "PUSH_PROMISE" not in out
    out = nghttp()
    assert out.count("recv PUSH_PROMISE frame") == 2
    assert "link: <" not in out


@HOLDS_BACK
@pytest.mark.skipif(not clients.have("node"), reason="node is not installed")
def test_node(server):
    said = clients.node(server, "/links/page.html")
    assert said["page"]["body"] == "page\n"
    assert [p["promise"][":path"] for p in said["pushed"]] == ["/style.css"]
    assert [i[":status"] for i in said["interim"]] == [103]
    assert "preconnect" in str(said["interim"][0]["link"])


@HOLDS_BACK
def test_python_h2(server):
    with clients.Library(server, push=False) as c:
        number = c.fetch("/hinted/page.html")
        hint, = c.of("InformationalResponseReceived", number)
        assert dict(hint.headers)[":status"] == "103"
        assert all_links(hint.headers) == [STYLE, FONT]
        assert c.body(number) == b"page\n"


@pytest.fixture
def browser(server, tmp_path):
    """Chromium that trusts the server's key: it keeps nothing of a server
    that it should not trust, and what is hinted is kept in its cache."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    key = subprocess.run(
        ["openssl", "x509", "-noout", "-pubkey",
         "-in", os.path.join(server.certs, "server.crt")],
        check=True, stdout=subprocess.PIPE).stdout
    key = b"".join(key.splitlines()[1:-1])
    pin = base64.b64encode(hashlib.sha256(base64.b64decode(key)).digest())
    one = Browser(
        tmp_path / "profile",
        "--ignore-certificate-errors-spki-list=" + pin.decode())
    yield one
    one.close()


def hinted_load(server, browser, number):
    """Loads a page that is not made before the server has seen the request
    for the style sheet that is hinted.  Returns whether that came; if not,
    the page is made all the same.

    The hint is sent some time after the request: the browser overlooks one
    that arrives before it has noticed that its request was sent."""
    go = "go%d" % number
    mark = server.access_mark()
    # which ends when the page's head has come
    opening = threading.Thread(target=browser.open, args=[server.url(
        "/cgi/slow?%s&fixms=%d" % (go, 100 << number))])
    opening.start()
    try:
        style, = server.wait_access(1, since=mark, timeout=5,
                                    uri="/style.css")
        assert style["proto"] == "HTTP/2.0" and style["final"] == "200"
        assert not server.access(since=mark, uri="/cgi/slow")
        came = True
    except lib_server.ServerError:
        came = False
    finally:
        open(server.path("htdocs", go), "w").close()
        opening.join()
    page, = server.wait_access(1, since=mark, uri="/cgi/slow")
    assert page["final"] == "200"
    wait_for(lambda: browser.evaluate("document.title") == "ready", 30,
             "the page", 0.1)
    if not came:
        browser.call("Network.clearBrowserCache", browser.session)
        return False
    assert len(server.access(since=mark, uri="/style.css")) == 1
    return True


@pytest.mark.timeout(120)
def test_chromium(server, browser):
    """The browser asks for what a hint names while the page is still being
    made."""
    assert any(hinted_load(server, browser, n) for n in range(5))
    # and says so itself
    entries = wait_for(lambda: browser.evaluate(
        "performance.getEntriesByType('resource')"
        ".filter(e => e.name.endsWith('/style.css'))"
        ".map(e => [e.initiatorType, e.nextHopProtocol])"), 30,
        "the browser's account of the style sheet", 0.1)
    assert entries == [["early-hints", "h2"]]
