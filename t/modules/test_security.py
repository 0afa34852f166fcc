"""mod_security: rules on heads, request bodies and responses; what they do
ends one stream, and others of the connection go on."""

import http.client
import json
import re

import pytest

from lib import clients, inside
from lib.server import have_module, wait_for
from lib.together import Case, age, ask, assert_same

drops = pytest.mark.h2x_only("closes the whole connection")
pytestmark = pytest.mark.skipif(
    not have_module("security2"),
    reason="no mod_security2: install libapache2-mod-security2")

CONFIG = r"""
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyLimit 1000000
SecRequestBodyNoFilesLimit 1000000
SecRequestBodyInMemoryLimit 20000
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html
SecResponseBodyLimit 1000000
SecDataDir ${DIR}/data
SecTmpDir ${DIR}/data
SecUploadDir ${DIR}/data
SecAuditEngine RelevantOnly
SecAuditLogRelevantStatus "^(?:5|4(?!04))"
SecAuditLogType Serial
SecAuditLogParts ABCFHIZ
SecAuditLog ${DIR}/audit.log
SecDefaultAction "phase:1,log,auditlog,pass"
SecDefaultAction "phase:2,log,auditlog,pass"
SecDefaultAction "phase:3,log,auditlog,pass"
SecDefaultAction "phase:4,log,auditlog,pass"
SecRule ARGS_GET:do "@streq deny" "id:1,phase:1,deny,status:406,msg:'no'"
SecRule ARGS_GET:do "@streq drop" "id:2,phase:1,drop,msg:'dropped'"
SecRule ARGS_GET:do "@streq redirect" \
    "id:3,phase:1,redirect:http://localhost/there"
SecRule ARGS_GET:do "@streq late" "id:4,phase:2,deny,status:409"
SecRule REQUEST_HEADERS:X-Own "@contains evil" "id:5,phase:1,deny,status:400"
SecRule REQUEST_HEADERS:Content-Type "@beginsWith application/json" \
    "id:6,phase:1,nolog,noauditlog,pass,ctl:requestBodyProcessor=JSON"
SecRule ARGS_POST:name "@streq evil" "id:7,phase:2,deny,status:403"
SecRule ARGS:json.name "@streq evil" "id:8,phase:2,deny,status:403"
SecRule FILES "@endsWith .exe" "id:9,phase:2,deny,status:415"
SecRule REQBODY_ERROR "!@eq 0" "id:10,phase:2,deny,status:400"
SecRule ARGS_POST:name "@streq drop" "id:11,phase:2,drop"
SecRule REQUEST_PROTOCOL "!@rx ^HTTP/(?:1\.1|2\.0)$" \
    "id:12,phase:1,deny,status:505"
SecRule RESPONSE_HEADERS:X-Leak "@contains secret" \
    "id:13,phase:3,deny,status:502"
SecRule RESPONSE_BODY "@contains a secret" "id:14,phase:4,deny,status:503"
SecRule ARGS_GET:do "@streq env" "id:15,phase:1,pass,nolog,noauditlog,\
setenv:RULED=%{REQUEST_PROTOCOL}"
Header always set X-Ruled "%{RULED}e" env=RULED
AddHandler send-as-is asis
"""
MODULES = "unique_id security2 headers asis"

FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}
PARTS = {"content-type": "multipart/form-data; boundary=BOUND"}


def multipart(name):
    return ("--BOUND\r\nContent-Disposition: form-data; name=\"f\"; "
            "filename=\"%s\"\r\n\r\n%s\r\n--BOUND--\r\n" % (
                name, "x" * 50000)).encode()


def files(server):
    server.writable("../data")
    server.write("page.txt", "a page\n")
    server.write("large.txt", "harmless\n" * 20000)
    server.write("body.txt", "harmless\n" * 5000 + "a secret\n")
    server.write("leak.asis", "X-Leak: a secret\n\nnothing\n")
    age(server)


CASES = [
    # what is asked, and the status; None: any
    (Case("GET", "/page.txt"), 200), (Case("GET", "/large.txt"), 200),
    (Case("GET", "/page.txt?do=deny"), 406),
    (Case("HEAD", "/page.txt?do=deny"), 406),
    (Case("GET", "/page.txt?do=redirect"), 302),
    (Case("GET", "/page.txt?do=late"), 409),
    (Case("GET", "/none"), 404),
    (Case("GET", "/page.txt", {"x-own": "something evil"}), 400),
    (Case("GET", "/body.txt"), 503),
    (Case("POST", "/t/upload", FORM, b"name=good&more=" + b"x" * 100000), 200),
    (Case("POST", "/t/upload", FORM, b"more=" + b"x" * 100000 + b"&name=evil"),
     403),
    (Case("POST", "/t/upload?do=deny", FORM, b"name=good"), 406),
    (Case("POST", "/t/upload", JSON, b'{"name": "good"}'), 200),
    (Case("POST", "/t/upload", JSON, b'{"json": {"name": "evil"}}'), 403),
    (Case("POST", "/t/upload", JSON, b'{"name" "broken"}'), None),
    (Case("POST", "/t/upload", PARTS, multipart("a.txt")), 200),
    (Case("POST", "/t/upload", PARTS, multipart("a.exe")), 415),
    (Case("POST", "/t/upload", PARTS, b"not in parts"), None),
    (Case("POST", "/t/upload", FORM, b"large=" + b"x" * 1100000), 413),
    (Case("POST", "/t/echo", {}, b"\0\1\2" * 50000), 200),
    (Case("POST", "/t/ignore", FORM, b"name=good"), 200),
]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: "%s-%s" % (
    CASES[i][1], CASES[i][0].path))
def test_rule(server, number):
    case, status = CASES[number]
    some, = assert_same(server, [case])
    assert {r.status for r in some} <= {status or some[0].status}


def test_rules_at_once(server):
    """All of these on one connection, twice."""
    answers = assert_same(server, [case for case, _ in CASES], times=2)
    assert [{r.status for r in some} for some in answers] == [
        {status or answers[i][0].status}
        for i, (_, status) in enumerate(CASES)]


@pytest.mark.h2x_only("sends fields of the response that was denied")
def test_response_fields(server):
    some, = assert_same(server, [Case("GET", "/leak.asis")])
    assert {r.status for r in some} == {502}


def test_bodies_without_length(h2):
    """Rules see a body that comes in pieces of one byte."""
    for body, status in ((b"name=good&x=y", 200), (b"x=y&name=evil", 403)):
        asked = []
        for _ in range(5):
            r = h2.start(h2.fields("POST", "/t/upload", FORM), end=False)
            h2.data(r.id, body, end=True, size=1)
            asked.append(r)
        h2.wait(*asked)
        assert {r.status for r in asked} == {status}


def test_body_has_all(h2):
    """The handler gets what the rules have read: all of it, and it may be
    more than is kept in memory."""
    body = json.dumps({"name": "good", "more": "x" * 300000}).encode()
    for r in ask(h2, [Case("POST", "/t/echo", JSON, body)] * 5):
        assert bytes(r.body) == body


def test_environment(server, h2):
    """What rules know of the request."""
    r = h2.request(path="/page.txt?do=env")
    assert r.header("x-ruled") == "HTTP/2.0"
    one = server.http1(path="/page.txt?do=env")
    assert one.header("x-ruled") == "HTTP/1.1"


# --- drop --------------------------------------------------------------------

def test_drop_http1(server):
    """What it does there: no answer, but the connection's end."""
    with pytest.raises((OSError, http.client.HTTPException)):
        server.http1(path="/page.txt?do=drop")


@drops
def test_drop(server, h2):
    """RST_STREAM, without an answer; the connection is as before."""
    waits = h2.get("/t/wait?gate=40")
    try:
        for _ in range(3):
            r = h2.wait(h2.get("/page.txt?do=drop"))
            assert r.reset is not None and not r.headers and not r.body
            assert h2.request(path="/page.txt").text == "a page\n"
    finally:
        inside.open_gate(server, 40)
    assert h2.wait(waits).text == "waited\n"
    assert not h2.goaways


@drops
def test_drop_by_body(h2):
    r = h2.request("POST", "/t/upload", FORM, body=b"name=drop")
    assert r.reset is not None and not r.headers
    r = h2.request("POST", "/t/upload", FORM, body=b"name=good")
    assert r.status == 200


@drops
def test_drops_among_others(server):
    """Half of many at once are dropped, on several connections."""
    cases = [Case("GET", "/large.txt?do=" + what)
             for what in ("drop", "nothing") * 15]
    for _ in range(3):
        with server.h2() as c:
            asked = ask(c, cases)
            assert all(r.reset is not None and not r.headers
                       for r in asked[::2])
            assert {len(r.body) for r in asked[1::2]} == {180000}
            assert c.request(path="/page.txt").text == "a page\n"


@drops
def test_drop_is_logged(server, h2):
    """Once, by both logs."""
    mark = server.access_mark()
    h2.wait(h2.get("/page.txt?do=drop&logged"))
    entry, = server.wait_access(1, since=mark, query="?do=drop&logged")
    assert entry["final"] == "403" and entry["stream"] == "1"
    wait_for(lambda: audited(server, "do=drop&logged"), 10, "an entry")
    assert len(audited(server, "do=drop&logged")) == 1


@drops
def test_drop_curl(server):
    """A real client sees that its stream has failed."""
    answer = clients.curl(server, "/page.txt?do=drop")
    assert answer.rc == 92, answer.err


# --- audit log ---------------------------------------------------------------

def audited(server, query):
    """The parts of each entry whose request has this query, by letter."""
    with open(server.path("audit.log"), errors="replace") as f:
        entries = f.read().split("-Z--\n")
    found = []
    for entry in entries:
        if "?" + query not in entry:
            continue
        _, *parts = re.split(r"^--\w+-([A-Y])--\n", entry, flags=re.M)
        found.append(dict(zip(parts[::2], parts[1::2])))
    return found


def test_audit_log(server):
    """Requests that were denied, each once, with its parts unmixed; the
    same as over HTTP/1.1 but for the protocol."""
    def case(i):
        return Case("POST", "/t/upload?audit=%d&do=late" % i, FORM,
                    b"n=%d&name=other" % i)
    one = server.http1(*case(0))
    with server.h2() as c:
        twos = ask(c, [case(i) for i in range(1, 11)])
    assert {r.status for r in twos + [one]} == {409}
    wait_for(lambda: all(audited(server, "audit=%d&" % i)
                         for i in range(11)), 10, "eleven entries")
    for i in range(11):
        parts, = audited(server, "audit=%d&" % i)
        version = "HTTP/2.0" if i else "HTTP/1.1"
        assert parts["B"].startswith("POST %s %s\n" % (
            case(i).path, version))
        assert parts["C"].strip() == "n=%d&name=other" % i
        assert parts["F"].split("\n")[0].split()[1] == "409"
        assert '[id "4"]' in parts["H"]
    with open(server.path("audit.log")) as f:
        first = re.findall(r"-A--\n\[.*?\] (\S+) ", f.read())
    assert len(set(first)) == len(first)        # of mod_unique_id
