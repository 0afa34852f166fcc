"""mod_cache and mod_cache_disk: what one protocol has stored, the other is
given; asked before httpd's hooks (CacheQuickHandler on) and after them."""

import threading

import pytest

from lib import backend, h2raw
from lib.server import wait_for
from lib.together import Case, age, ask, same

CONFIG = """
CacheRoot ${DIR}/cache
CacheEnable disk /stored
CacheQuickHandler %(quick)s
CacheHeader on
CacheLock on
CacheLockPath ${DIR}/lock
CacheIgnoreHeaders Set-Cookie
CacheStoreExpired on
CacheMaxFileSize 100000000
<Location /stored/page.txt>
    Header set X-Hook "%%{FROM_HOOK}e"
    RewriteEngine on
    RewriteRule .* - [E=FROM_HOOK:yes]
</Location>
ProxyPass /stored/backend/ http://127.0.0.1:%(port)d/ retry=0
"""
MODULES = "cache cache_disk proxy proxy_http rewrite headers"

PAGE = "a page\n" * 20000

#: Of one response: what the cache says of its age and doings.
OWN = ("x-cache", "x-cache-detail", "age", "expires")


class Origin:
    """The backend: counts what it is asked for, by path."""

    def __init__(self):
        self.asked = []
        self.gate = threading.Event()

    def count(self, path):
        return sum(p == path for p in self.asked)

    def __call__(self, q):
        self.asked.append(q.path)
        name = q.path.split("?")[0].strip("/")
        return getattr(self, name.replace("-", "_"), self.plain)(q)

    def plain(self, q):
        q.answer("answer %d to %s" % (self.count(q.path), q.path),
                 fields="Cache-Control: max-age=600\r\n")

    def large(self, q):
        q.answer(b"0123456789" * 300000,
                 fields="Cache-Control: max-age=600\r\n")

    def private(self, q):
        q.answer("private %d" % self.count(q.path),
                 fields="Cache-Control: private, no-store\r\n")

    def vary(self, q):
        q.answer("in " + q.fields.get("accept-language", "-"),
                 fields="Cache-Control: max-age=600\r\n"
                        "Vary: Accept-Language\r\n")

    def stale(self, q):
        fields = 'Cache-Control: max-age=0\r\nETag: "one"\r\n'
        if q.fields.get("if-none-match") == '"one"':
            q.send("HTTP/1.1 304 Not Modified\r\n%s\r\n" % fields)
        else:
            q.answer("body of one", fields=fields)

    def held(self, q):
        self.gate.wait(30)
        self.plain(q)

    def half(self, q):
        q.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n"
               "Content-Type: text/plain\r\nContent-Length: 200000\r\n\r\n")
        q.send("x" * 100000)
        self.gate.wait(30)
        q.send("y" * 100000)


@pytest.fixture(scope="module", params=["on", "off"])
def pair(request, httpd):
    """The server and its origin."""
    origin = Origin()
    with backend.Backend(origin) as back:
        config = CONFIG % {"quick": request.param, "port": back.port}
        with httpd(config, MODULES) as server:
            server.writable("../cache")
            server.writable("../lock")
            server.write("stored/page.txt", PAGE)
            age(server)
            yield server, origin
            origin.gate.set()


@pytest.fixture
def server(pair):
    return pair[0]


@pytest.fixture
def origin(pair):
    pair[1].gate.clear()
    return pair[1]


def hit(response):
    """'hit', 'miss', 'revalidate', ... as CacheHeader tells."""
    return (response.header("x-cache") or "-").split()[0].lower()


def once_stored(server, path, headers=()):
    """The response over HTTP/1.1, once it comes from the cache: an entry
    is complete a moment after its first reader has all."""
    def stored():
        r = server.http1(path=path, headers=headers)
        return r if hit(r) == "hit" else None
    return wait_for(stored, 10, path + " to be stored")


def test_stored_over_http2(server, origin):
    """HTTP/2 stores; HTTP/1.1 and HTTP/2 are given what is stored."""
    path = "/stored/backend/first"
    with server.h2() as c:
        miss = c.request(path=path)
        assert (hit(miss), miss.text) == ("miss", "answer 1 to /first")
        one = once_stored(server, path)
        twos = ask(c, [Case("GET", path)] * 8)
    assert origin.count("/first") == 1
    for two in twos:
        assert hit(two) == "hit" and two.header("age") is not None
        assert not same(one, two, ignore=OWN)
        assert not same(miss, two, ignore=OWN + ("server",))


def test_stored_over_http1(server, h2, origin):
    path = "/stored/backend/second"
    assert hit(server.http1(path=path)) == "miss"
    one = once_stored(server, path)
    two = h2.request(path=path)
    assert hit(two) == "hit" and not same(one, two, ignore=OWN)
    assert origin.count("/second") == 1


def test_file(server, h2):
    """The core's own files, and what else is set for them."""
    path = "/stored/page.txt"
    assert h2.request(path=path).text == PAGE
    one, two = once_stored(server, path), h2.request(path=path)
    assert hit(two) == "hit" and two.text == PAGE
    assert not same(one, two, ignore=OWN)


def test_large(server, h2, origin):
    """More than windows and buffers hold: stored, and given, whole."""
    path, whole = "/stored/backend/large", b"0123456789" * 300000
    assert bytes(h2.request(path=path).body) == whole
    once_stored(server, path)
    assert {bytes(r.body) for r in ask(h2, [Case("GET", path)] * 4)} == {
        whole}
    assert origin.count("/large") == 1


@pytest.mark.parametrize("method,headers,status", [
    ("HEAD", {}, 200), ("GET", {"range": "bytes=7-13"}, 206),
    ("GET", {"range": "bytes=-7"}, 206),
    ("GET", {"if-none-match": "*"}, 304),
    ("GET", {"cache-control": "only-if-cached"}, 200)])
def test_asked_for_a_part(server, method, headers, status):
    path = "/stored/page.txt"
    server.http1(path=path)
    once_stored(server, path)
    one = server.http1(method, path, headers)
    with server.h2() as c:
        for two in ask(c, [Case(method, path, headers)] * 3):
            assert two.status == one.status == status
            assert not same(one, two, method, ignore=OWN)


def test_only_if_cached(h2):
    r = h2.request(path="/stored/backend/never",
                   headers={"cache-control": "only-if-cached"})
    assert r.status == 504


def test_not_stored(server, h2):
    path = "/stored/backend/private"
    texts = [h2.request(path=path).text for _ in range(3)]
    assert texts == ["private 1", "private 2", "private 3"]
    assert server.http1(path=path).text == "private 4"


def test_vary(server, h2, origin):
    path = "/stored/backend/vary"
    for language in ("de", "en"):
        field = {"accept-language": language}
        h2.request(path=path, headers=field)
        once_stored(server, path, field)
    before = origin.count("/vary")
    asked = ask(h2, [Case("GET", path, {"accept-language": x})
                     for x in ("de", "en") * 4])
    assert [r.text for r in asked] == ["in de", "in en"] * 4
    assert {hit(r) for r in asked} == {"hit"}
    assert origin.count("/vary") == before


def test_revalidated(server, h2, origin):
    """A stale entry is asked for anew; the origin's 304 makes it good."""
    path = "/stored/backend/stale"
    first = h2.request(path=path)
    assert first.text == "body of one"
    wait_for(lambda: hit(server.http1(path=path)) == "revalidate", 10,
             "revalidation")
    before = origin.count("/stale")
    r = h2.request(path=path)
    assert (hit(r), r.status, r.text) == ("revalidate", 200, "body of one")
    assert origin.count("/stale") == before + 1


def test_reload(server, h2):
    """Clients may ask past the cache."""
    path = "/stored/backend/reloaded"
    h2.request(path=path)
    once_stored(server, path)
    r = h2.request(path=path, headers={"cache-control": "no-cache"})
    assert hit(r) != "hit" and r.text == "answer 2 to /reloaded"


def test_invalidated(server, h2):
    """A POST makes what was stored for its URL stale."""
    path = "/stored/backend/changed"
    h2.request(path=path)
    once_stored(server, path)
    assert h2.request("POST", path, body=b"new").status == 200
    r = h2.request(path=path)
    assert hit(r) != "hit" and r.text == "answer 3 to /changed"


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
def test_together(server, h2, origin):
    """Requests for the same thing, which is not stored yet, on one
    connection: all get it, and others are not held up."""
    path = "/stored/backend/held"
    asked = [h2.get(path) for _ in range(6)]
    assert h2.request(path="/stored/page.txt").text == PAGE
    assert not any(r.done for r in asked)
    origin.gate.set()
    h2.wait(*asked)
    assert all(r.text.startswith("answer ") for r in asked)
    assert hit(once_stored(server, path)) == "hit"


def test_client_leaves(server, h2, origin):
    """Half a response never becomes an entry."""
    path = "/stored/backend/half"
    r = h2.get(path)
    h2.wait_body(r, 1)
    h2.reset(r.id)
    assert h2.request(path="/stored/page.txt").text == PAGE
    origin.gate.set()
    assert len(h2.request(path=path).body) == 200000
    assert len(once_stored(server, path).body) == 200000


def test_client_reads_slowly(server):
    """From the cache, through small windows."""
    path = "/stored/backend/large"
    server.http1(path=path)
    once_stored(server, path)
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 20000}) as c:
        slow = [c.get(path) for _ in range(3)]
        for r in slow:
            c.wait_body(r, 20000)
        quick = c.request("HEAD", path)
        assert hit(quick) == "hit" and not any(r.done for r in slow)
        c.windows = True
        c.credit(1 << 30)
        for r in slow:
            c.credit(1 << 30, r.id)
        c.wait(*slow)
    assert {len(r.body) for r in slow} == {3000000}
