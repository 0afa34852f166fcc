"""mod_dav: what a client does with a tree, step by step, over HTTP/1.1, over
HTTP/2, and in ten trees at a time over one connection."""

import os
import re

import pytest

from lib import clients, h2raw, http1
from lib.server import wait_for
from lib.together import Case, ask

CONFIG = """
DavLockDB ${DIR}/locks/db
DavMinTimeout 60
<Directory ${HTDOCS}/dav>
    Dav on
    AllowOverride None
    FileETag Size
</Directory>
<Directory ${HTDOCS}/dav/deep>
    DavDepthInfinity on
</Directory>
LimitXMLRequestBody 10000
"""
MODULES = "dav dav_fs"

XML = {"content-type": "text/xml"}
HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n'
LOCK = HEAD + b"""<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/>
</D:lockscope><D:locktype><D:write/></D:locktype>
<D:owner>someone</D:owner></D:lockinfo>"""
SHARED = LOCK.replace(b"exclusive", b"shared")
FIND = HEAD + b"""<D:propfind xmlns:D="DAV:" xmlns:Z="urn:z"><D:prop>
<D:getcontentlength/><D:resourcetype/><D:getetag/><Z:colour/>
</D:prop></D:propfind>"""
NAMES = HEAD + b'<D:propfind xmlns:D="DAV:"><D:propname/></D:propfind>'
PATCH = HEAD + b"""<D:propertyupdate xmlns:D="DAV:" xmlns:Z="urn:z">
<D:set><D:prop><Z:colour>blue &amp; green</Z:colour></D:prop></D:set>
<D:remove><D:prop><Z:none/></D:prop></D:remove></D:propertyupdate>"""
OTHER = "opaquelocktoken:00000000-0000-0000-0000-000000000000"
LARGE = bytes(range(256)) * 2000


def to(path, **more):
    """Fields of COPY and MOVE; %s is the tree, $ the server."""
    return {"destination": "$/%s" + path, **more}


#: method, path below the tree, fields, body, status; TOKEN is the newest lock.
STEPS = [
    ("OPTIONS", "/", {}, None, 200),
    ("PUT", "/a", {}, b"first", 201),
    ("PUT", "/a", {}, b"second one", 204),
    ("PUT", "/none/a", {}, b"x", 409),
    ("PUT", "/large", {}, LARGE, 201),
    ("PUT", "/empty", {}, b"", 201),
    ("PUT", "/part", {"content-range": "bytes 0-3/4"}, b"part", 201),
    ("GET", "/large", {}, None, 200),
    ("GET", "/empty", {}, None, 200),
    ("MKCOL", "/d/", {}, None, 201), ("MKCOL", "/d/", {}, None, 405),
    ("MKCOL", "/e", {}, b"a body", 415), ("MKCOL", "/e/f", {}, None, 409),
    ("COPY", "/a", to("/d/b"), None, 201),
    ("COPY", "/a", to("/d/b", overwrite="F"), None, 412),
    ("COPY", "/a", to("/d/b"), None, 204),
    ("COPY", "/a", to("/none/b"), None, 409),
    ("MOVE", "/d/b", to("/d/c"), None, 201), ("GET", "/d/b", {}, None, 404),
    ("GET", "/d/c", {}, None, 200),
    ("MOVE", "/none", to("/x"), None, 404),
    ("MOVE", "/a", {"destination": "http://elsewhere.test/x"}, None, 502),
    ("MOVE", "/a", {}, None, 400),
    ("COPY", "/d/", to("/d2/"), None, 201),
    ("MOVE", "/d2/", to("/d3/"), None, 201),
    ("PROPPATCH", "/a", XML, PATCH, 207),
    ("PROPFIND", "/a", {"depth": "0", **XML}, FIND, 207),
    ("PROPFIND", "/", {"depth": "1", **XML}, FIND, 207),
    ("PROPFIND", "/", {"depth": "infinity", **XML}, FIND, 403),
    ("PROPFIND", "/a", {"depth": "0", **XML}, NAMES, 207),
    ("PROPFIND", "/a", {"depth": "0", **XML}, b"<not xml", 400),
    ("PROPFIND", "/a", {"depth": "0", **XML}, FIND + b" " * 10000, 413),
    ("PROPFIND", "/a", {"depth": "7"}, None, 400),
    ("PROPFIND", "/none", {"depth": "0"}, None, 404),
    ("LOCK", "/a", {"timeout": "Second-1000", **XML}, LOCK, 200),
    ("LOCK", "/a", XML, LOCK, 423), ("PUT", "/a", {}, b"third", 423),
    ("DELETE", "/a", {}, None, 423), ("MOVE", "/a", to("/b"), None, 423),
    ("PUT", "/a", {"if": "(<TOKEN>)"}, b"by owner", 204),
    ("PUT", "/a", {"if": "(<%s>)" % OTHER}, b"by another", 412),
    ("LOCK", "/a", {"if": "(<TOKEN>)", "timeout": "Second-2000"}, None, 200),
    ("PROPFIND", "/a", {"depth": "0"}, None, 207),
    ("UNLOCK", "/a", {"lock-token": "<%s>" % OTHER}, None, 400),
    ("UNLOCK", "/a", {"lock-token": "<TOKEN>"}, None, 204),
    ("PUT", "/a", {}, b"free again", 204),
    ("LOCK", "/fresh", XML, LOCK, 200),
    ("UNLOCK", "/fresh", {"lock-token": "<TOKEN>"}, None, 204),
    ("LOCK", "/d3/", {"depth": "infinity", **XML}, SHARED, 200),
    ("PUT", "/d3/new", {}, b"x", 207),
    ("PUT", "/d3/new", {"if": "</%s/d3/> (<TOKEN>)"}, b"x", 201),
    ("UNLOCK", "/d3/", {"lock-token": "<TOKEN>"}, None, 204),
    ("DELETE", "/none", {}, None, 404), ("DELETE", "/d3/", {}, None, 204),
    ("POST", "/a", {}, b"x", 200), ("GET", "/a", {}, None, 200),
]


def files(server):
    server.writable("dav")
    server.writable("dav/deep")
    server.writable("../locks")


def sort_attributes(match):
    """mod_dav writes them in the order of a hash table."""
    return " ".join(sorted(match.group().split(" ")))


class Tree:
    """One tree on its way through the steps."""

    def __init__(self, server, name):
        self.server, self.name, self.token = server, "dav/" + name, "none"
        self.answers = []

    def case(self, step):
        method, path, fields, body, _ = step
        origin = self.server.url("").rstrip("/")
        fields = {k: v.replace("$", origin).replace("%s", self.name)
                  .replace("TOKEN", self.token) for k, v in fields.items()}
        if "/" in fields.get("if", ""):
            fields["if"] = fields["if"].replace("</", "<%s/" % origin)
        return Case(method, "/" + self.name + path, fields, body)

    def take(self, step, response):
        """Notes the answer, without what differs by tree, lock and time."""
        method, path, _, _, status = step
        token = response.header("lock-token")
        if token:
            self.token = token.strip("<>")
        assert response.status == status, "%s %s: %r %s" % (
            method, path, response, response.text[:500])
        kept = {k: v for k, v in response.headers
                if k not in ("date", "connection", "keep-alive", "location",
                             "lock-token", "last-modified", "content-length",
                             "transfer-encoding", "upgrade")}
        text = "%s\n%s" % (sorted(kept.items()), response.text)
        text = text.replace(self.name, "TREE")
        text = text.replace('W/"', '"')     # strong after a second
        text = re.sub(r"opaquelocktoken:[-0-9a-f]+", "TOKEN", text)
        text = re.sub(r"Second-\d+", "SECONDS", text)
        text = re.sub(r'(?: xmlns:\w+="[^"]*")+', sort_attributes, text)
        self.answers.append(re.sub(
            r"<[^<>]*(?:creationdate|getlastmodified)[^<>]*>[^<]*", "", text))


def run(server, name, one):
    """All steps with a tree of its own; `one` asks a case."""
    tree = Tree(server, name)
    one(Case("MKCOL", "/" + tree.name))
    for step in STEPS:
        tree.take(step, one(tree.case(step)))
    return tree.answers


@pytest.fixture(scope="module")
def over_http1(server):
    authority = "localhost:%d" % server.tls_port
    return run(server, "one", lambda case: http1.request(
        server.connect(alpn=["http/1.1"]), *case, host=authority))


def compare(seen, wanted):
    for step, a, b in zip(STEPS, seen, wanted):
        assert a == b, "%s %s" % step[:2]
    assert len(seen) == len(wanted) == len(STEPS)


def connect(server, tls=True):
    c = server.h2(tls=tls)
    c.authority = "localhost:%d" % server.tls_port
    return c


def test_steps(server, over_http1):
    with connect(server) as c:
        compare(run(server, "two", lambda case: ask(c, [case])[0]),
                over_http1)


def test_trees_at_once(server, over_http1):
    """From the first lock on the trees take turns: mod_dav_fs loses locks
    when requests change its database at once, over HTTP/1.1 too."""
    trees = [Tree(server, "%03d" % i) for i in range(10)]
    first_lock = [step[0] for step in STEPS].index("LOCK")
    with connect(server) as c:
        ask(c, [Case("MKCOL", "/" + t.name) for t in trees])
        for step in STEPS[:first_lock]:
            asked = ask(c, [t.case(step) for t in trees])
            for t, r in zip(trees, asked):
                t.take(step, r)
        for t in trees:
            for step in STEPS[first_lock:]:
                t.take(step, ask(c, [t.case(step)])[0])
    for t in trees:
        compare(t.answers, over_http1)


def test_depth_infinity(server, h2):
    """A large answer, to many."""
    for i in range(5):
        assert h2.request("MKCOL", "/dav/deep/%d" % i).status == 201
        ask(h2, [Case("PUT", "/dav/deep/%d/%d" % (i, j), {}, b"x")
                 for j in range(20)])
    case = Case("PROPFIND", "/dav/deep/", {"depth": "infinity"})
    asked = ask(h2, [case] * 5)
    one = server.http1(*case)
    for r in asked:
        assert r.status == 207
        assert r.text.count("<D:response ") == 1 + 5 * 21
        assert sorted(re.findall("<D:href>.*", r.text)) == sorted(
            re.findall("<D:href>.*", one.text))


def test_locked_for_others(server, h2):
    """Many writers at once, one of them with the lock's token."""
    assert h2.request("PUT", "/dav/held", body=b"x").status == 201
    token = h2.request("LOCK", "/dav/held", XML, LOCK).header("lock-token")
    cases = [Case("PUT", "/dav/held", {}, b"others" * 10000)] * 10
    cases[5] = Case("PUT", "/dav/held", {"if": "(%s)" % token},
                    b"owner" * 10000)
    asked = ask(h2, cases)
    assert [r.status for r in asked] == [423] * 5 + [204] + [423] * 4
    assert server.http1("UNLOCK", "/dav/held",
                        {"lock-token": token}).status == 204
    assert bytes(h2.request(path="/dav/held").body) == b"owner" * 10000


def test_upload_left(server, h2):
    """A PUT whose client gives up leaves nothing behind."""
    def names():
        return set(os.listdir(os.path.join(server.htdocs, "dav")))
    before = names()
    r = h2.start(h2.fields("PUT", "/dav/left", {"content-length": "100000"}),
                 end=False)
    h2.data(r.id, b"x" * 50000)
    wait_for(lambda: names() - before, 10, "the upload to begin")
    h2.reset(r.id)
    wait_for(lambda: names() == before, 10, "the upload to be undone")
    assert h2.request("PUT", "/dav/kept", body=b"kept").status == 201


def test_curl(server, tmp_path):
    """Upload and download with a client that minds flow control."""
    data = tmp_path / "data"
    data.write_bytes(LARGE * 10)
    assert clients.curl(server, "/dav/curl", "-T", str(data)).status == 201
    answer = clients.curl(server, "/dav/curl")
    assert (answer.status, answer.body) == (200, LARGE * 10)


def test_slow_reader(server):
    """A listing through a window of 100 bytes."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 100}) as c:
        r = c.start(c.fields("PROPFIND", "/dav/deep/", {"depth": "1"}))
        c.wait_body(r, 100)
        other = c.start(c.fields("MKCOL", "/dav/meanwhile"))
        assert c.wait_headers(other).status == 201
        assert len(r.body) == 100 and not r.done
        c.credit(1 << 20, r.id)
        c.wait(r)
    assert r.status == 207 and r.text.endswith("</D:multistatus>\n")
