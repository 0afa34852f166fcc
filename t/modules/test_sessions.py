"""mod_auth_digest, mod_session with its cookies in clear and encrypted, and
mod_auth_form, which reads the request body to log in."""

import base64
import hashlib
import re
from urllib.parse import quote

import pytest

from lib import clients
from lib.server import have_module
from lib.together import Case, age, ask, assert_same

CONFIG = """
AddHandler send-as-is asis
<Directory ${HTDOCS}/digest>
    AuthType Digest
    AuthName "some realm"
    AuthDigestDomain /digest/
    AuthDigestProvider file
    AuthUserFile ${DIR}/digests
    Require valid-user
</Directory>
<Location /t/digest>
    AuthType Digest
    AuthName "some realm"
    AuthDigestProvider file
    AuthUserFile ${DIR}/digests
    Require user alice
</Location>
<Location /clear>
    Session On
    SessionCookieName clear path=/
    SessionHeader X-Replace-Session
    SessionEnv On
    Header set X-Session "%{HTTP_SESSION}e"
</Location>
<IfModule mod_session_crypto.c>
<Location /secret>
    Session On
    SessionCookieName secret path=/
    SessionHeader X-Replace-Session
    SessionEnv On
    SessionCryptoPassphrase "a long enough passphrase"
    Header set X-Session "%{HTTP_SESSION}e"
</Location>
<Location /form>
    Session On
    SessionCookieName form path=/
    SessionCryptoPassphrase "a long enough passphrase"
    AuthType Form
    AuthName "a form"
    AuthFormProvider file
    AuthUserFile ${DIR}/users
    AuthFormLoginRequiredLocation "http://localhost/login.html"
    Require valid-user
</Location>
<Location /dologin>
    SetHandler form-login-handler
    Session On
    SessionCookieName form path=/
    SessionCryptoPassphrase "a long enough passphrase"
    AuthType Form
    AuthName "a form"
    AuthFormProvider file
    AuthUserFile ${DIR}/users
    AuthFormLoginSuccessLocation "http://localhost/form/page.txt"
    Require valid-user
</Location>
</IfModule>
"""
CRYPTO = have_module("session_crypto")
MODULES = ("auth_digest authn_core authn_file authz_user session "
           "session_cookie auth_form asis request headers env "
           + ("session_crypto" if CRYPTO else ""))
needs_crypto = pytest.mark.skipif(not CRYPTO, reason="no mod_session_crypto")

REALM = "some realm"
BEGIN = """Status: 200 OK
Content-Type: text/plain
X-Replace-Session: seen=n%d

begun
"""


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def files(server):
    with open(server.path("digests"), "w") as f:
        for user, password in (("alice", "secret"), ("bob", "other")):
            f.write("%s:%s:%s\n" % (user, REALM, md5(
                "%s:%s:%s" % (user, REALM, password))))
    with open(server.path("users"), "w") as f:
        f.write("alice:{SHA}%s\n" % base64.b64encode(
            hashlib.sha1(b"secret").digest()).decode())
    server.write("digest/page.txt", "for some\n")
    server.write("form/page.txt", "after login\n")
    server.write("login.html", "please\n")
    for kind in ("clear", "secret"):
        server.write(kind + "/show.txt", "shown\n")
        for i in range(10):
            server.write("%s/begin%d.asis" % (kind, i), BEGIN % i)
    age(server)


# --- mod_auth_digest ---------------------------------------------------------

def challenge(response):
    """The parts of a WWW-Authenticate field."""
    value = response.header("www-authenticate")
    assert value.startswith("Digest ")
    return dict(re.findall(r'(\w+)="?([^",]*)"?', value[7:]))


def digest(given, user, password, method, path, count=1, claimed=None):
    """The Authorization field that answers a challenge (RFC 7616)."""
    a1 = md5("%s:%s:%s" % (user, REALM, password))
    a2 = md5("%s:%s" % (method, path))
    text = "%08x" % count
    answer = md5(":".join([a1, given["nonce"], text, "abcdef", "auth", a2]))
    return {"authorization": 'Digest username="%s", realm="%s", nonce="%s", '
            'uri="%s", algorithm=MD5, qop=auth, nc=%s, cnonce="abcdef", '
            'response="%s"' % (user, REALM, given["nonce"], claimed or path,
                               text, answer)}


@pytest.fixture
def given(server):
    """A challenge, of HTTP/1.1: nonces are the server's, not of one
    connection."""
    return challenge(server.http1(path="/digest/page.txt"))


def test_challenge(server, h2):
    one = server.http1(path="/digest/page.txt")
    for two in ask(h2, [Case("GET", "/digest/page.txt")] * 5):
        assert (two.status, two.ended) == (401, True)
        a, b = challenge(one), challenge(two)
        assert a.keys() == b.keys()
        assert (b["realm"], b["qop"]) == (REALM, "auth")


@pytest.mark.parametrize("user,password,status", [
    ("alice", "secret", 200), ("bob", "other", 200), ("alice", "wrong", 401),
    ("nobody", "x", 401)])
def test_digest(server, given, user, password, status):
    cases = [Case("GET", path, digest(given, user, password, "GET", path))
             for path in ("/digest/page.txt", "/digest/page.txt?a=b&c=%20")]
    for answers in assert_same(server, cases, ignore=[
            "www-authenticate", "authentication-info"]):
        assert {r.status for r in answers} == {status}
        for r in answers:
            assert (r.header("authentication-info") is None) == (status != 200)


def test_digest_for_other_path(server, given):
    """An answer is for one URI: 400 when it names another."""
    path = "/digest/page.txt"
    (r, *_), = assert_same(server, [Case("GET", path, digest(
        given, "alice", "secret", "GET", "/digest/other.txt"))])
    assert r.status == 400


def test_digest_info(given, h2):
    """The server proves that it knows the password too."""
    path = "/digest/page.txt"
    r = h2.request(path=path, headers=digest(given, "alice", "secret", "GET",
                                             path))
    info = dict(re.findall(r'(\w+)="?([^",]*)"?',
                           r.header("authentication-info")))
    a1, a2 = md5("alice:%s:secret" % REALM), md5(":" + path)
    assert info["rspauth"] == md5(":".join(
        [a1, given["nonce"], "00000001", "abcdef", "auth", a2]))


def test_digest_upload(server, given):
    """Bodies: taken with the right answer, else refused; many at once."""
    path, body = "/t/digest/upload", b"x" * 100000
    good, wrong, none, other = assert_same(server, [
        Case("POST", path, digest(given, "alice", "secret", "POST", path),
             body),
        Case("POST", path, digest(given, "alice", "wrong", "POST", path),
             body),
        Case("POST", path, {}, body),
        Case("POST", path, digest(given, "bob", "other", "POST", path), body),
    ], ignore=["www-authenticate", "authentication-info"])
    assert {r.text.split("\n")[0] for r in good} == {"length 100000"}
    assert {r.status for r in wrong + none + other} == {401}


def test_digest_curl(server):
    for http2 in (True, False):
        answer = clients.curl(server, "/digest/page.txt", "--digest", "-u",
                              "alice:secret", http2=http2)
        assert (answer.status, answer.body) == (200, b"for some\n")
        assert answer.version == ("2" if http2 else "1.1")
        assert len(answer.heads) == 2       # asked, and answered


# --- mod_session -------------------------------------------------------------

def cookies(response):
    found = {}
    for value in response.all("set-cookie"):
        name, _, rest = value.partition("=")
        found[name] = rest.split(";")[0]
    return found


@pytest.mark.parametrize("kind", ["clear", pytest.param(
    "secret", marks=needs_crypto)])
@pytest.mark.parametrize("begin", [1, 2])
def test_session(server, h2, kind, begin):
    """A session begun over one protocol goes on over the other, and those
    of several streams are not mixed up."""
    cases = [Case("GET", "/%s/begin%d.asis" % (kind, i)) for i in range(10)]
    begun = (ask(h2, cases) if begin == 2
             else [server.http1(*case) for case in cases])
    jar = [{"cookie": "%s=%s" % (kind, cookies(r)[kind])} for r in begun]
    for i, cookie in enumerate(jar):
        assert ("seen=n%d" % i in cookie["cookie"]) == (kind == "clear")
    answers = assert_same(server, [
        Case("GET", "/%s/show.txt" % kind, cookie) for cookie in jar],
        ignore=["set-cookie"])
    for i, some in enumerate(answers):
        assert {r.header("x-session") for r in some} == {"seen=n%d" % i}


@needs_crypto
def test_session_forged(server):
    """A cookie that no key of the server made is no session."""
    value = "Zm9yZ2VkIGNvb2tpZSB0aGF0IG5vYm9keSBtYWRl"
    (r, *_), = assert_same(server, [Case(
        "GET", "/secret/show.txt", {"cookie": "secret=" + value})])
    assert "=" not in r.header("x-session", "")


def test_cookie_in_several_fields(h2):
    """A client may cut its cookies apart (RFC 9113, section 8.2.3)."""
    r = h2.request(path="/clear/begin7.asis")
    r = h2.request(path="/clear/show.txt", headers=[
        ("cookie", "a=b"), ("cookie", "clear=" + cookies(r)["clear"]),
        ("cookie", "c=d")])
    assert r.header("x-session") == "seen=n7"


# --- mod_auth_form -----------------------------------------------------------

def login(password):
    return ("httpd_username=alice&httpd_password=" + quote(password)).encode()


FORM = {"content-type": "application/x-www-form-urlencoded"}


@needs_crypto
def test_form_login(server, h2):
    (asked, *_), = assert_same(server, [Case("GET", "/form/page.txt")])
    assert asked.header("location") == "http://localhost/login.html"
    r = h2.request("POST", "/dologin", FORM, body=login("secret"))
    assert r.status == 302
    assert r.header("location") == "http://localhost/form/page.txt"
    cookie = {"cookie": "form=" + cookies(r)["form"]}
    (r, *_), = assert_same(server, [Case("GET", "/form/page.txt", cookie)],
                           ignore=["set-cookie"])
    assert (r.status, r.text) == (200, "after login\n")


@needs_crypto
def test_form_login_together(server, h2):
    """Right and wrong passwords, half of them in DATA frames of one byte."""
    asked = []
    for i in range(10):
        body = login("secret" if i % 2 else "wrong %d" % i)
        r = h2.start(h2.fields("POST", "/dologin", FORM), end=False)
        h2.data(r.id, body, end=True, size=1 if i < 5 else 16384)
        asked.append(r)
    h2.wait(*asked)
    one = server.http1("POST", "/dologin", FORM, login("wrong"))
    assert [r.status for r in asked] == [one.status, 302] * 5
