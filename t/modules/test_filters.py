"""Modules that change bodies: each does over HTTP/2, also for many requests
at once, what it does over HTTP/1.1."""

import gzip
import re
import time
import zlib

import pytest

from lib import clients, inside
from lib.server import have_module
from lib.together import Case, age, assert_same

CONFIG = """
AddType text/html .html .shtml
AddEncoding gzip .gz
<Location /gzip>
    SetOutputFilter DEFLATE
</Location>
<Location /t/gzip>
    SetOutputFilter DEFLATE
</Location>
<Location /gunzip>
    SetOutputFilter INFLATE
</Location>
<Location /t/gunzip>
    SetInputFilter DEFLATE
</Location>
<Location /br>
    SetOutputFilter BROTLI_COMPRESS
</Location>
<Location /t/br>
    SetOutputFilter BROTLI_COMPRESS
</Location>
<Location /chosen>
    AddOutputFilterByType BROTLI_COMPRESS;DEFLATE text/html
</Location>
<Location /subst>
    SetOutputFilter SUBSTITUTE
    Substitute "s/line ([0-9]*)5([^0-9])/five $1$2/"
    Substitute "s/secret/******/n"
</Location>
<Location /t/subst>
    SetOutputFilter SUBSTITUTE
    Substitute "s/x/yy/n"
</Location>
<Directory ${HTDOCS}/ssi>
    Options +Includes
    AddOutputFilter INCLUDES .shtml
</Directory>
<Location /ssi/both>
    SetOutputFilter INCLUDES;SUBSTITUTE;DEFLATE
    Substitute "s/part/PART/n"
</Location>
ExtFilterDefine upper mode=output cmd="/usr/bin/tr a-z A-Z"
ExtFilterDefine rot13 mode=input cmd="/usr/bin/tr a-z n-za-m"
ExtFilterDefine html mode=output intype=text/html outtype=text/plain \\
    cmd="/bin/sed s/line/LINE/"
<Location /ext>
    SetOutputFilter upper
</Location>
<Location /t/ext>
    SetInputFilter rot13
    SetOutputFilter upper
</Location>
<Location /typed>
    SetOutputFilter html
</Location>
<Location /slow>
    SetOutputFilter RATE_LIMIT
    SetEnv rate-limit 100
</Location>
<Location /burst>
    SetOutputFilter RATE_LIMIT
    SetEnv rate-limit 100
    SetEnv rate-initial-burst 1000
</Location>
"""
MODULES = ("filter deflate substitute include ext_filter ratelimit env "
           + ("brotli" if have_module("brotli") else ""))

LINES = "".join("line %d, a secret\nline %d\n" % (i, i) for i in range(5000))
SLOW = 60 * 1024
MANY = 8

SSI = {
    "plain.shtml": """<!--#set var="x" value="set" -->\
<!--#echo var="x" -->|<!--#echo var="DOCUMENT_NAME" -->|\
<!--#echo var="QUERY_STRING" -->|<!--#echo var="HTTP_X_OWN" -->
""",
    "if.shtml": """<!--#if expr='%{QUERY_STRING} =~ /^a=./' -->\
a is there<!--#elif expr='v("HTTPS") == "on"' -->secure\
<!--#else -->neither<!--#endif -->
""",
    "files.shtml": """[<!--#include virtual="/ssi/part.html" -->]\
[<!--#include file="part.html" -->]\
[<!--#include virtual="nested.shtml?n=1" -->]\
[<!--#fsize virtual="/big.txt" -->][<!--#include virtual="/big.txt" -->]
""",
    "nested.shtml": 'nested <!--#echo var="QUERY_STRING" -->\
<!--#include virtual="part.html" -->',
    "handler.shtml": """[<!--#include virtual="/t/trickle?n=5&size=3" -->]\
[<!--#include virtual="/t/big?n=100000" -->]
""",
    "slow.shtml": 'before <!--#include virtual="/t/wait?gate=22" --> after\n',
    "protocol.shtml": """<!--#echo var="SERVER_PROTOCOL" --> \
<!--#echo var="HTTP2" --> <!--#echo var="H2_STREAM_ID" -->
""",
    "missing.shtml": '[<!--#include virtual="/none" -->]',
    "wrong.shtml": "[<!--#nonsense -->]",
    "both.shtml": '<p>[<!--#include virtual="/ssi/part.html" -->]</p>' * 500,
}


def files(server):
    server.write("big.txt", LINES)
    for name in ("gzip", "br", "chosen", "subst", "typed", "ext"):
        server.write(name + "/page.html", LINES)
        server.write(name + "/small.html", "line 15\n")
        server.write(name + "/empty.html", "")
    server.write("gunzip/page.gz", gzip.compress(LINES.encode(), mtime=0))
    for name, text in SSI.items():
        where = "ssi/both/" if name == "both.shtml" else "ssi/"
        server.write(where + name, text)
    server.write("ssi/part.html", "a part")
    server.write("slow/data.bin", b"s" * SLOW)
    server.write("burst/data.bin", b"b" * SLOW)
    server.write("quick.txt", "quick\n")
    age(server)


needs_brotli = pytest.mark.skipif(not have_module("brotli"),
                                  reason="this httpd has no mod_brotli")


# --- mod_deflate -------------------------------------------------------------

def test_deflate(server):
    path, field = "/gzip/page.html", {"accept-encoding": "gzip"}
    packed, plain, head, _, _ = assert_same(server, [
        Case("GET", path, field), Case("GET", path),
        Case("HEAD", path, field), Case("GET", "/gzip/small.html", field),
        Case("GET", "/gzip/empty.html", field)], times=4)
    for r in packed:
        assert r.header("content-encoding") == "gzip"
        assert r.header("vary") == "Accept-Encoding"
        assert gzip.decompress(bytes(r.body)) == LINES.encode()
    assert {r.text for r in plain} == {LINES}
    assert not head[0].body and head[0].header("content-encoding") == "gzip"


def test_deflate_as_it_comes(server, h2):
    """What a handler flushes can be read before the rest is there."""
    r = h2.get("/t/gzip/trickle?n=3&size=5&gate=20",
               {"accept-encoding": "gzip"})
    inflate, text, seen = zlib.decompressobj(31), b"", 0
    for wanted in (b"abcde", b"abcdefghij", b"abcdefghijklmno"):
        while len(text) < len(wanted):
            h2.wait_body(r, seen + 1)
            assert len(r.body) > seen
            text += inflate.decompress(bytes(r.body[seen:]))
            seen = len(r.body)
        assert text == wanted
        assert len(wanted) == 15 or not r.done
        inside.open_gate(server, 20)
    assert h2.wait(r).ended


def test_inflate(server):
    plain, = assert_same(server, [Case("GET", "/gunzip/page.gz")], times=MANY)
    assert {r.text for r in plain} == {LINES}
    assert {r.header("content-encoding") for r in plain} == {None}


def test_inflate_requests(server):
    """Bodies that come packed, several at once; one that is no gzip."""
    packed = gzip.compress(LINES.encode(), mtime=0)
    field = {"content-encoding": "gzip"}
    good, small, bad = assert_same(server, [
        Case("POST", "/t/gunzip/upload", field, packed),
        Case("POST", "/t/gunzip/echo", field, gzip.compress(b"small")),
        Case("POST", "/t/gunzip/upload", field, b"not packed at all")])
    assert {r.text.split("\n")[0] for r in good} == {"length %d" % len(LINES)}
    assert {bytes(r.body) for r in small} == {b"small"}
    assert {r.status for r in bad} == {400}


# --- mod_brotli --------------------------------------------------------------

@needs_brotli
def test_brotli(server):
    path, field = "/br/page.html", {"accept-encoding": "br"}
    packed, plain, _, _ = assert_same(server, [
        Case("GET", path, field), Case("GET", path),
        Case("HEAD", path, field), Case("GET", "/br/small.html", field)])
    assert {r.header("content-encoding") for r in packed} == {"br"}
    assert all(10 < len(r.body) < len(LINES) / 4 for r in packed)
    assert {r.text for r in plain} == {LINES}


@needs_brotli
def test_brotli_is_right(server):
    """curl, when it knows brotli, reads what was packed."""
    if "brotli" not in clients.run(["curl", "-V"]).out.decode():
        pytest.skip("this curl has no brotli")
    for path in ("/br/page.html", "/chosen/page.html"):
        answer = clients.curl(server, path, "--compressed", "-H",
                              "Accept-Encoding: br")
        assert answer.header("content-encoding") == "br"
        assert answer.body.decode() == LINES


@needs_brotli
def test_brotli_as_it_comes(server, h2):
    r = h2.get("/t/br/trickle?n=3&size=500&gate=21",
               {"accept-encoding": "br"})
    for _ in range(2):
        seen = len(r.body)
        h2.wait_body(r, seen + 1)
        assert len(r.body) > seen and not r.done
        inside.open_gate(server, 21)
    assert h2.wait(r).header("content-encoding") == "br"


@needs_brotli
def test_either(server):
    for coding in ("br", "gzip", "gzip, br", "identity"):
        (r,), = assert_same(server, [Case(
            "GET", "/chosen/page.html", {"accept-encoding": coding})], times=1)
        assert r.header("content-encoding") == {
            "gzip": "gzip", "identity": None}.get(coding, "br")


# --- mod_substitute ----------------------------------------------------------

def test_substitute(server):
    """Lines that are cut by reads and frames are seen whole."""
    page, small = assert_same(server, [
        Case("GET", "/subst/page.html"), Case("GET", "/subst/small.html")],
        times=MANY)
    want = re.sub(r"line (\d*)5\b", r"five \1",
                  LINES.replace("secret", "******"))
    assert {r.text for r in page} == {want}
    assert {r.text for r in small} == {"five 1\n"}


def test_substitute_grows(server):
    """Output of a handler, larger after than before."""
    (one, *_), = assert_same(server, [Case("GET", "/t/subst/big?n=200000")],
                             times=MANY)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    text = (alphabet * 8000)[:200000]
    assert one.text == text.replace("x", "yy")


# --- mod_include -------------------------------------------------------------

def test_include(server):
    cases = [Case("GET", "/ssi/%s%s" % (name, query), {"x-own": "mine"})
             for name in SSI
             if name not in ("both.shtml", "slow.shtml", "protocol.shtml")
             for query in ("", "?a=b", "?<&>")]
    answers = assert_same(server, cases, times=1, ignore=["etag"])
    plain, = answers[1]
    assert plain.text == "set|plain.shtml|a=b|mine\n"
    text = {c.path: r.text for c, (r,) in zip(cases, answers)}
    assert text["/ssi/if.shtml?a=b"] == "a is there\n"
    assert text["/ssi/if.shtml"] == "secure\n"
    assert text["/ssi/files.shtml"] == (
        "[a part][a part][nested n=1a part][%dK][%s]\n" % (
            round(len(LINES) / 1024), LINES))
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    assert text["/ssi/handler.shtml"] == "[%s][%s]\n" % (
        alphabet[:15], (alphabet * 4000)[:100000])
    for name in ("missing", "wrong"):
        assert "error occurred while processing" in text[
            "/ssi/%s.shtml" % name]


def test_include_protocol(h2):
    """Pages see the protocol that the request came by."""
    r = h2.request(path="/ssi/protocol.shtml")
    assert r.text == "HTTP/2.0 on 1\n"


def test_include_then_others(server):
    """Three filters in a row."""
    (one, *_), = assert_same(server, [Case(
        "GET", "/ssi/both/both.shtml", {"accept-encoding": "gzip"})],
        times=MANY)
    assert gzip.decompress(bytes(one.body)) == b"<p>[a PART]</p>" * 500


def test_include_waits_for_part(server, h2):
    """A part that takes its time holds up neither what is before it nor
    other requests."""
    r = h2.get("/ssi/slow.shtml")
    h2.wait_body(r, len("before "))
    assert r.text.startswith("before ") and not r.done
    assert h2.request(path="/quick.txt").text == "quick\n"
    assert not r.done
    inside.open_gate(server, 22)
    assert h2.wait(r).text == "before waited\n after\n"


# --- mod_ext_filter ----------------------------------------------------------

def test_ext_filter(server):
    page, small, empty, typed = assert_same(server, [
        Case("GET", "/ext/page.html"), Case("GET", "/ext/small.html"),
        Case("GET", "/ext/empty.html"), Case("GET", "/typed/page.html")])
    assert {r.text for r in page} == {LINES.upper()}
    assert {r.text for r in small} == {"LINE 15\n"}
    assert {r.text for r in empty} == {""}
    for r in typed:
        assert r.header("content-type").startswith("text/plain")
        assert r.text == LINES.replace("line", "LINE")


def test_ext_filter_both_ways(server):
    """Requests through one program, responses through another."""
    echo, upload = assert_same(server, [
        Case("POST", "/t/ext/echo", {}, b"hello over there\n" * 10000),
        Case("POST", "/t/ext/upload", {}, b"hello\n")])
    assert {bytes(r.body) for r in echo} == {b"URYYB BIRE GURER\n" * 10000}
    assert {r.text.split("\n")[0] for r in upload} == {"LENGTH 6"}


# --- mod_ratelimit -----------------------------------------------------------

def test_ratelimit(h2):
    """60 KB at 100 KB/s: the filter sleeps twice for 0.2 s, on each of
    several streams, while others go by."""
    began = time.monotonic()
    asked = [h2.get("/slow/data.bin?n=%d" % i) for i in range(4)]
    for r in asked:
        h2.wait_body(r, 1)
    assert h2.request(path="/quick.txt").text == "quick\n"
    assert not any(r.done for r in asked)
    h2.wait(*asked)
    assert time.monotonic() - began > 0.35
    assert {bytes(r.body) for r in asked} == {b"s" * SLOW}


def test_ratelimit_same(server):
    slow, burst = assert_same(server, [
        Case("GET", "/slow/data.bin"), Case("GET", "/burst/data.bin")],
        times=2)
    assert {len(r.body) for r in slow + burst} == {SLOW}


def test_ratelimit_client_leaves(h2):
    r = h2.get("/slow/data.bin")
    h2.wait_body(r, 1)
    assert not r.done
    h2.reset(r.id)
    assert h2.request(path="/quick.txt").text == "quick\n"
