"""The directives of server push: H2Push, H2PushResource, H2PushPriority and
H2PushDiarySize, and what H2EarlyHint takes.

H2EarlyHints and what H2EarlyHint does are in test_hints.py.  Values of those
with one argument are in test_directive_values.py.
"""

import pytest

from lib import h2raw, inside
from lib.directives import STRICT
from lib.h2raw import DataFrame

# --- values and arguments ---

BAD = [
    ("H2PushPriority", "text/css sideways", "sideways",
     "after, before or interleaved"),
    ("H2PushPriority", "text/css before 5", "5", "without a weight"),
    ("H2PushPriority", "text/css after 0", "0", "a number"),
    ("H2PushPriority", "text/css after heavy", "heavy", "a number"),
    ("H2PushPriority", "text/css interleaved -1", "-1", "a number"),
    ("H2PushPriority", "text/css interleaved 1.5", "1.5", "a number"),
    ("H2PushPriority", "text/css after 16x", "16x", "a number"),
    ("H2PushResource", '"/a b.css"', "/a b.css", "a URL or path"),
    ("H2PushResource", '"</a.css>"', "</a.css>", "a URL or path"),
    ("H2PushResource", '/a.css later', "later", "critical"),
    ("H2PushResource", 'add /a.css later', "later", "critical"),
    ("H2PushResource", '/a.css critical more', "more", "critical"),
    ("H2EarlyHint", '"X A" b', "X A", "the name of a header field"),
    ("H2EarlyHint", '":path" /', ":path", "the name of a header field"),
    ("H2EarlyHint", '"X-A:" b', "X-A:", "the name of a header field"),
    ("H2EarlyHint", 'X-A "b\x01"', r"b\x01", "the value of a header field"),
    ("H2EarlyHint", 'X-A "b\x7f"', r"b\x7f", "the value of a header field"),
]


@STRICT
@pytest.mark.parametrize("name,arguments,value,allowed", BAD)
def test_bad_value(configtest, name, arguments, value, allowed):
    accepted, said = configtest("%s %s" % (name, arguments))
    assert not accepted
    assert "%s '%s': " % (name, value) in said
    assert "must be" in said and allowed in said


@pytest.mark.parametrize("name,wanted,wrong", [
    ("H2PushPriority", "two or three arguments",
     ["", "text/css", "text/css after 16 more"]),
    ("H2PushResource", "one, two or three arguments",
     ["", "add /a.css critical more"]),
    ("H2EarlyHint", "two arguments", ["", "X-A", '"" b', "X-A b c"])])
def test_number_of_arguments(configtest, name, wanted, wrong):
    for arguments in wrong:
        accepted, said = configtest("%s %s" % (name, arguments))
        assert not accepted, arguments
        assert name + " takes " in said or name + " requires " in said
        assert wanted.split()[0] in said


@pytest.mark.parametrize("lines", [
    # from the reference of mod_http2
    "H2PushPriority * After 16", "H2PushPriority text/css Interleaved 256",
    "H2PushPriority application/json Before",
    "H2PushPriority application/json 32", "H2PushPriority image/jpeg before",
    "H2PushPriority text/css   interleaved",
    "H2PushPriority text/css interleaved 512",
    "H2PushPriority text/css after 1",
    "H2PushResource /xxx.css", "H2PushResource add /xxx.css",
    "H2PushResource /xxx.js critical", "H2PushResource add /xxx.js CRITICAL",
    "H2PushResource ADD a/b?c=d", "H2PushResource https://a.test/x",
    "H2PushResource /%7Ea;b=c,d", "H2PushResource //a.test/x",
    'H2EarlyHint Link "</my.css>;rel=preload;as=style"',
    "H2EarlyHint x-a b", 'H2EarlyHint X-Many "a, b; c=\\"d e\\""',
    "H2PushDiarySize 256", "H2PushDiarySize 0",
])
def test_good(configtest, lines):
    accepted, said = configtest(lines)
    assert accepted, said


# --- H2Push, H2PushResource and H2PushDiarySize in sections ---

CONFIG = """
H2Push off
H2PushResource /server.css
Alias /any/ ${DIR}/htdocs/
<Directory ${HTDOCS}>
    Options +Indexes
</Directory>
<Directory ${HTDOCS}/in>
    H2PushResource /dir.css
    AllowOverride FileInfo
</Directory>
<Directory ${HTDOCS}/in/deep>
    H2PushResource add /deep.css
</Directory>
<Directory ${HTDOCS}/on>
    H2Push on
    AllowOverride AuthConfig
</Directory>
<Directory ${HTDOCS}/on/off>
    H2Push off
</Directory>
<Files "quiet*">
    H2Push off
</Files>
<Location />
    Header set Link "expr=%{req_novary:X-Link}" \
        "expr=-n req_novary('X-Link')"
</Location>
"""
HOSTS = {
    "one.test": """
        H2Push on
        H2PushResource /vhost.css
        H2PushDiarySize 0
        <Location /in>
            H2PushResource /location.css
        </Location>""",
    "two.test": """
        H2Push on
        H2PushDiarySize 1""",
    "three.test": """
        H2Push on
        H2PushDiarySize 4""",
    "four.test": "H2Push on",
}
MODULES = "alias headers"


def files(server):
    for name in ("page", "quiet", "in/page", "in/deep/page", "on/page",
                 "on/quiet", "on/off/page", "on/away/page"):
        server.write(name, "page\n")
    for name in ("server", "vhost", "dir", "deep", "location", "own"):
        server.write(name + ".css", name)
    server.write("in/deep/.htaccess", "H2PushResource /own.css\n")
    server.write("on/away/.htaccess", "H2Push off\n")


def connect(server, sni="localhost", **kw):
    return server.h2(sni=sni, authority=sni,
                     settings={h2raw.ENABLE_PUSH: 1}, **kw)


def link(*targets):
    return [("x-link", ", ".join("<%s>; rel=preload" % t for t in targets))]


def pushed(c, path, *targets, **kw):
    """The paths that are promised with a page."""
    r = c.get(path, link(*targets) if targets else [], **kw)
    c.wait_pushed(r)
    assert r.status == 200
    return r.promised_paths


ADDS = pytest.mark.h2x_only("replaces lists of outer sections")


@ADDS
@pytest.mark.parametrize("sni,path,wanted", [
    ("localhost", "/page", []),
    ("localhost", "/in/deep/page", []),
    ("localhost", "/on/page", ["server"]),
    ("one.test", "/page", ["server", "vhost"]),
    ("one.test", "/any/page", ["server", "vhost"]),
    ("one.test", "/in/page", ["server", "vhost", "dir", "location"]),
    ("one.test", "/in/deep/page",
     ["server", "vhost", "dir", "deep", "own", "location"]),
    ("two.test", "/in/deep/page", ["server", "dir", "deep", "own"]),
    ("two.test", "/on/off/page", []),
])
def test_resources(server, sni, path, wanted):
    """Lists of inner sections add to those of outer ones."""
    with connect(server, sni) as c:
        assert pushed(c, path) == ["/%s.css" % w for w in wanted]
        assert [p.text for p in c.promises] == wanted


@pytest.mark.parametrize("sni,path,pushes", [
    ("localhost", "/page", False),
    pytest.param("localhost", "/on/page", True, marks=pytest.mark.h2x_only(
        "takes the server's off for the last word")),
    ("localhost", "/on/off/page", False), ("one.test", "/page", True),
    ("one.test", "/on/off/page", False), ("one.test", "/on/quiet", False),
    ("two.test", "/quiet", False), ("two.test", "/page", True),
    ("two.test", "/on/away/page", False), ("two.test", "/on/page", True)])
def test_push(server, sni, path, pushes):
    """In server, virtual host, directory, files and .htaccess."""
    with connect(server, sni) as c:
        assert ("/own.css" in pushed(c, path, "/own.css")) == pushes


def test_push_is_on(httpd):
    with httpd("H2PushResource /a.css") as server:
        server.write("page", "page\n")
        server.write("a.css", "a")
        with connect(server) as c:
            assert pushed(c, "/page") == ["/a.css"]


@pytest.mark.h2x_only("pushes what was asked for")
@pytest.mark.parametrize("path,wanted", [
    ("/a.css", []), ("/a.css?x", ["/a.css"])])
def test_not_with_itself(httpd, path, wanted):
    with httpd("H2PushResource /a.css") as server:
        server.write("a.css", "a")
        with connect(server) as c:
            assert pushed(c, path) == wanted


@pytest.mark.h2x_only("takes the resource of the server as it is")
def test_relative_resource(httpd):
    config = "H2PushResource a.css\nH2PushResource https://a.test/b.css\n"
    with httpd(config) as server:
        for name in ("page", "in/page", "a.css", "in/a.css"):
            server.write(name, name)
        with connect(server) as c:
            assert pushed(c, "/page") == ["/a.css"]
            assert pushed(c, "/in/page") == ["/in/a.css"]
            assert [p.text for p in c.promises] == ["a.css", "in/a.css"]


# --- H2PushDiarySize ---

@pytest.mark.parametrize("sni,paths,again", [
    # each page announces one; those that are pushed
    ("four.test", "aabab", "ab"),
    ("one.test", "aabab", "aabab"),         # it remembers nothing
    pytest.param("two.test", "aababb", "abab",
                 marks=pytest.mark.h2x_only("doubles it")),
    pytest.param("three.test", "abcdabcdebeab", "abcdeab",
                 marks=pytest.mark.h2x_only("forgets what was asked longest "
                                            "ago")),
])
def test_diary(server, sni, paths, again):
    """What was pushed is not pushed again, as long as it is remembered;
    the oldest is forgotten first."""
    with connect(server, sni) as c:
        # the server's own resource, which is not pushed with itself
        got = [pushed(c, "/server.css", "/own.css?" + p) for p in paths]
        assert "".join(p[-1] for promised in got for p in promised
                       if p.startswith("/own.css")) == again
    with connect(server, sni) as c:
        # another connection has another
        assert "/own.css?a" in pushed(c, "/server.css", "/own.css?a")


@pytest.mark.h2x_only("forgets what was asked longest ago")
def test_diary_by_default(server):
    """256 resources."""
    with connect(server, "four.test") as c:
        c.wait_pushed(c.get("/page"))           # the server's own
        for i in range(15):
            assert len(pushed(c, "/page", *[
                "/own.css?%d" % n for n in range(17 * i, 17 * i + 17)])) == 17
        # all are there, the server's too
        assert pushed(c, "/page", "/own.css?0", "/own.css?254") == []
        assert pushed(c, "/page", "/own.css?255") == ["/own.css?255"]
        # now the server's is out, and comes in place of the next
        assert pushed(c, "/page", "/own.css?2") == ["/server.css"]
        assert pushed(c, "/page", "/own.css?0") == ["/own.css?0"]


def test_diary_tells_origins_apart(server):
    """Virtual hosts on one connection."""
    with connect(server, "four.test") as c:
        assert "/own.css" in pushed(c, "/page", "/own.css")
        assert "/own.css" in pushed(c, "/page", "/own.css",
                                    authority="three.test")
        assert "/own.css" not in pushed(c, "/page", "/own.css")
        assert "/own.css" not in pushed(c, "/page", "/own.css",
                                        authority="three.test")
    hosts = [dict(p.request)[":authority"] for p in c.promises
             if p.path == "/own.css"]
    assert hosts == ["four.test", "three.test"]


# --- H2PushPriority, critical ---

ORDER = """
H2PushPriority text/css before
H2PushPriority image/png interleaved 256
H2PushResource /hot.js?critical critical
AddCharset utf-8 .css
Header set Link "expr=%{req_novary:X-Link}" "expr=-n req_novary('X-Link')"
"""
ORDER_HOSTS = {
    "one.test": """
        H2PushPriority * interleaved
        H2PushPriority text/css after""",
    "two.test": "H2PushPriority * before",
}

SIZE = 100000


@pytest.fixture(scope="module")
def ordering(httpd):
    server = httpd(ORDER, "headers", hosts=ORDER_HOSTS)
    for name in ("page.html", "s.css", "s.js", "s.png", "hot.js"):
        server.write(name, "x" * SIZE)
    with server:
        yield server


def compete(server, sni, target, fields=()):
    """A page and a push, both ready to be sent when their windows open.
    Returns the numbers of their streams in the order of DATA frames."""
    with server.h2(sni=sni, authority=sni, windows=False, settings={
            h2raw.ENABLE_PUSH: 1, h2raw.INITIAL_WINDOW_SIZE: 0}) as c:
        c.credit(1 << 24)
        page = c.wait_headers(c.get("/page.html", link(target)
                                    + list(fields)))
        one, = [p for p in page.promises if p.path == target]
        # a byte of each shows that it is there
        for r in [page] + page.promises:
            c.credit(1, r.id)
            c.wait_body(r, 1)
        before = len(c.frames)
        c.settings({h2raw.INITIAL_WINDOW_SIZE: SIZE})
        c.wait(page, *page.promises)
        assert len(page.body) == len(one.body) == SIZE
        return page.id, one.id, [f.stream_id for f in c.frames[before:]
                                 if isinstance(f, DataFrame) and f.data]


def split(order, number):
    at = [i for i, sid in enumerate(order) if sid == number]
    return at[0], at[-1]


@pytest.mark.h2x_only("has no RFC 9218")
@pytest.mark.parametrize("sni,target,where", [
    ("localhost", "/s.js", "after"),            # by default
    ("localhost", "/s.css", "before"), ("localhost", "/s.png", "beside"),
    ("localhost", "/hot.js?critical", "before"),
    ("one.test", "/s.css", "after"), ("one.test", "/s.js", "beside"),
    ("one.test", "/s.png", "beside"),
    ("two.test", "/s.js", "before"), ("two.test", "/s.png", "beside"),
])
@pytest.mark.parametrize("urgency", [None, 1, 6])
def test_order(ordering, sni, target, where, urgency):
    """Which data comes first, when both have some."""
    fields = [("priority", "u=%d, i" % urgency)] if urgency else []
    page, one, order = compete(ordering, sni, target, fields)
    page_first, page_last = split(order, page)
    one_first, one_last = split(order, one)
    if where == "after":
        assert page_last < one_first
    elif where == "before":
        assert one_last < page_first
    else:
        assert page_first < one_last and one_first < page_last


@pytest.mark.h2x_only("has no RFC 9218")
@pytest.mark.parametrize("target,where,urgency", [
    ("/s.css", "before", 0), ("/hot.js?critical", "before", 0),
    ("/s.js", "after", 7)])
def test_order_at_the_ends(ordering, target, where, urgency):
    """Where there is no higher, or no lower urgency."""
    page, one, order = compete(ordering, "localhost", target,
                               [("priority", "u=%d" % urgency)])
    first, second = (one, page) if where == "before" else (page, one)
    assert split(order, first)[1] < split(order, second)[0]


def test_critical_while_the_handler_works(httpd):
    """It is there before the page has begun."""
    with httpd("H2PushResource /hot.css critical") as server:
        server.write("hot.css", "hot\n")
        inside.close_gates(server)
        with connect(server) as c:
            r = c.get("/t/wait?gate=60")
            c.until(lambda: r.promises and r.promises[0].done,
                    what="the push")
            assert r.promises[0].text == "hot\n" and not r.headers
            inside.open_gate(server, 60)
            assert c.wait(r).text == "waited\n"
