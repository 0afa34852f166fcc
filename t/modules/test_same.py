"""What httpd answers is the same over HTTP/1.1 and HTTP/2."""

import calendar
import gzip
import os
import time

import pytest

from lib.compare import assert_same, both

CONFIG = """
IndexOptions FancyIndexing
<Directory ${HTDOCS}/secret>
    Require all denied
</Directory>
<Directory ${HTDOCS}/custom>
    Require all denied
    ErrorDocument 403 /errors/denied.html
</Directory>
ErrorDocument 404 "nothing here"
ErrorDocument 405 /errors/denied.html
<Location /t/status>
    ErrorDocument 503 /errors/gone.html
    ErrorDocument 500 /no-such-document
</Location>
<Location /plain/t>
    SetHandler h2x-test
</Location>
AddLanguage en .en
AddLanguage de .de
<Directory ${HTDOCS}/choice>
    Options +MultiViews
</Directory>
Alias /other ${HTDOCS}/dir
AliasMatch ^/match/(.*)$ ${HTDOCS}/dir/$1
Redirect permanent /moved http://localhost/target
Redirect gone /gone
RedirectMatch 302 ^/relative$ /index.html
Header set X-Always one
Header always append X-Multi a
Header always append X-Multi b
Header add Set-Cookie "a=1; Path=/"
Header add Set-Cookie "b=2; Path=/"
Header set X-Echo "expr=%{HTTP:X-Ask}"
<Files "nosniff.txt">
    Header unset Last-Modified
    Header set Cache-Control "max-age=60"
    RequestHeader set Range "bytes=0-2"
</Files>
<Location /gzip>
    SetOutputFilter DEFLATE
</Location>
<Location /upper>
    AddOutputFilterByType SUBSTITUTE text/html
    Substitute s/page/PAGE/
</Location>
ExpiresActive on
ExpiresByType text/css "access plus 1 year"
AddType text/html .html
AddDefaultCharset utf-8
SetEnvIf X-Deny yes denied
<Location /by-env>
    <RequireAll>
        Require all granted
        Require not env denied
    </RequireAll>
</Location>
LimitRequestBody 1000000
<Directory ${HTDOCS}/copied>
    <IfModule mod_h2x.c>
        H2CopyFiles on
    </IfModule>
</Directory>
"""
MODULES = ("dir autoindex negotiation alias headers filter deflate substitute "
           "expires setenvif env")

LAST_MODIFIED = "Wed, 01 Jan 2025 00:00:00 GMT"

#: Where 31 and 32 bits no longer hold an offset.
TWO_GIB, FOUR_GIB = 1 << 31, 1 << 32
MARK = b"these bytes lie in the file at %d "


def files(server):
    server.write("index.html", "<p>page</p>\n" * 10)
    server.write("data.bin", bytes(range(256)) * 400)
    server.write("small.txt", "0123456789")
    server.write("style.css", "p {}\n")
    server.write("nosniff.txt", "0123456789")
    server.write("dir/a.txt", "a")
    server.write("dir/b c.txt", "b c")
    server.write("with index/index.html", "inner")
    server.write("secret/x.html", "x")
    server.write("custom/x.html", "x")
    server.write("errors/denied.html", "custom denied\n")
    server.write("errors/gone.html", "custom 503\n")
    server.write("choice/doc.html.en", "english")
    server.write("choice/doc.html.de", "deutsch")
    server.write("gzip/page.html", "<p>page</p>\n" * 10000)
    server.write("upper/page.html", "<p>page</p>\n" * 10)
    server.write("by-env/x.txt", "x")
    server.write("empty.txt", "")
    for where in "", "copied/":         # most of it is a hole
        with open(server.write(where + "huge.bin"), "r+b") as f:
            f.truncate(FOUR_GIB + TWO_GIB)
            for at in 0, TWO_GIB, FOUR_GIB:
                f.seek(at)
                f.write(MARK % at * 10000)
    server.write("caf\u00e9.txt", "coffee")
    stamp = calendar.timegm(time.strptime("2025-01-01", "%Y-%m-%d"))
    for where, _, names in os.walk(server.htdocs):
        for name in names:      # what is new has a weak ETag for a second
            os.utime(os.path.join(where, name), (stamp, stamp))


R = "range"
CASES = [
    # (path, request fields) and the status they get
    ("/", {}, 200), ("/index.html?q=1&r=%20", {}, 200),
    ("/small.txt", {}, 200), ("/data.bin", {}, 200), ("/empty.txt", {}, 200),
    ("/caf%C3%A9.txt", {}, 200), ("/dir/b%20c.txt", {}, 200),
    ("/with%20index/", {}, 200), ("/with%20index", {}, 301),
    ("/dir", {}, 301), ("/dir/", {}, 200), ("/dir/?C=N;O=D", {}, 200),
    ("//small.txt", {}, 200), ("/dir/../small.txt", {}, 200),
    ("/dir/./a.txt", {}, 200), ("/../../etc/passwd", {}, 400),
    ("/%2e%2e/%2e%2e/etc/passwd", {}, 400), ("/a%2fb", {}, 404),
    ("/%00", {}, 404), ("/bad%zz", {}, 400), ("/none", {}, 404),
    ("/small.txt/info", {}, 404), ("/secret/x.html", {}, 403),
    ("/custom/x.html", {}, 403), ("/t/status?code=503", {}, 503),
    ("/t/status?code=500", {}, 500), ("/t/status?code=451", {}, 451),
    ("/t/nothing", {}, 404),
    # ranges
    ("/small.txt", {R: "bytes=0-3"}, 206), ("/small.txt", {R: "bytes=5-"}, 206),
    ("/small.txt", {R: "bytes=-3"}, 206), ("/small.txt", {R: "bytes=0-"}, 206),
    ("/data.bin", {R: "bytes=100-50000"}, 206),
    ("/data.bin", {R: "bytes=102300-"}, 206),
    pytest.param("/small.txt", {R: "bytes=20-30"}, 416,
                 marks=pytest.mark.h2x_only("sends fields of a 416 twice")),
    ("/small.txt", {R: "bytes=5-3"}, 200), ("/small.txt", {R: "lines=1"}, 200),
    ("/empty.txt", {R: "bytes=0-1"}, 200), ("/nosniff.txt", {}, 206),
    ("/small.txt", {R: "bytes=0-3", "if-range": LAST_MODIFIED}, 206),
    ("/small.txt", {R: "bytes=0-3", "if-range": '"other"'}, 200),
    # conditions
    ("/small.txt", {"if-modified-since": LAST_MODIFIED}, 304),
    ("/small.txt", {"if-modified-since":
                    "Tue, 31 Dec 2024 00:00:00 GMT"}, 200),
    ("/small.txt", {"if-unmodified-since":
                    "Tue, 31 Dec 2024 00:00:00 GMT"}, 412),
    ("/small.txt", {"if-none-match": "*"}, 304),
    ("/small.txt", {"if-match": '"none"'}, 412),
    ("/small.txt", {"if-none-match": '"none"'}, 200),
    # negotiation, aliases, headers, filters
    ("/choice/doc", {"accept-language": "de"}, 200),
    ("/choice/doc", {"accept-language": "en"}, 200),
    ("/other/a.txt", {}, 200), ("/match/b%20c.txt", {}, 200),
    ("/moved/x?y=z", {}, 301), ("/gone", {}, 410), ("/relative", {}, 302),
    ("/small.txt", {"x-ask": "asked"}, 200),
    ("/gzip/page.html", {}, 200),
    ("/gzip/page.html", {"accept-encoding": "gzip"}, 200),
    ("/gzip/page.html", {"accept-encoding": "gzip;q=0"}, 200),
    ("/upper/page.html", {}, 200), ("/style.css", {}, 200),
    ("/by-env/x.txt", {}, 200), ("/by-env/x.txt", {"x-deny": "yes"}, 403),
    ("/t/fields?kind=many&n=20&size=100", {}, 200),
    ("/t/big?n=100000&length=1", {}, 200), ("/t/big?n=100000", {}, 200),
]


@pytest.mark.parametrize("path,fields,status", CASES,
                         ids=lambda v: str(v)[:40] if v != {} else "-")
def test_get(server, path, fields, status):
    r = assert_same(server, "GET", path, fields,
                    ignore=["age", "expires"])
    assert r.status == status


@pytest.mark.parametrize("path,fields,status", [
    c for c in CASES if not hasattr(c, "marks")
    and c[0] in ("/", "/dir", "/data.bin", "/none")],
    ids=lambda v: str(v)[:40] if v != {} else "-")
def test_head(server, path, fields, status):
    assert assert_same(server, "HEAD", path, fields).status == status


@pytest.mark.parametrize("method,path,body", [
    ("POST", "/t/upload", b"abc"), ("POST", "/t/upload", b""),
    ("POST", "/t/echo", b"x" * 100000), ("POST", "/small.txt", b"abc"),
    ("DELETE", "/small.txt", None), ("BREW", "/small.txt", None),
    ("PUT", "/new.txt", b"data"), ("OPTIONS", "/small.txt", None),
    ("POST", "/none", b"abc")])
def test_others(server, method, path, body):
    assert_same(server, method, path, body=body)


def test_multipart_ranges(server):
    """The boundary differs by request; all else does not."""
    path, field = "/data.bin", {"range": "bytes=0-9,1000-1009,-10"}
    one, two = both(server, "GET", path, field)
    assert one.status == two.status == 206
    boundaries = [r.header("content-type").partition("boundary=")[2]
                  for r in (one, two)]
    bodies = [bytes(r.body).replace(b.encode(), b"BOUNDARY")
              for r, b in zip((one, two), boundaries)]
    assert bodies[0] == bodies[1]
    assert bodies[0].count(b"Content-range: bytes") == 3


@pytest.mark.parametrize("where", ["/", "/copied/"])
@pytest.mark.parametrize("at", [TWO_GIB, FOUR_GIB])
def test_offsets_of_64_bits(server, h2, where, at):
    """Also where off_t has 32 bits unless one asks for more."""
    mark = MARK % at
    for first, data in (at, mark * 1000), (at - 5, bytes(5) + mark * 1000):
        r = h2.request(path=where + "huge.bin", headers={
            "range": "bytes=%d-%d" % (first, first + len(data) - 1)})
        assert r.status == 206
        assert bytes(r.body) == data


def test_gzip_is_right(server, h2):
    r = h2.request(path="/gzip/page.html",
                   headers={"accept-encoding": "gzip"})
    assert r.header("content-encoding") == "gzip"
    assert gzip.decompress(bytes(r.body)) == b"<p>page</p>\n" * 10000


def test_listing_and_redirect_name_the_host(h2, server):
    r = h2.request(path="/dir/")
    assert "b c.txt" in r.text and "a.txt" in r.text
    r = h2.request(path="/dir", authority="localhost:%d" % server.tls_port)
    assert r.header("location") == server.url("/dir/")


@pytest.mark.parametrize("code", [299, 418, 499, 599])
def test_unregistered_status(server, h2, code):
    """For a status without a reason phrase httpd answers 500, with a body."""
    r = h2.request(path="/plain/t/status?code=%d" % code)
    one = server.http1(path="/plain/t/status?code=%d" % code)
    assert (r.status, r.ended, r.reset) == (one.status, True, None)
