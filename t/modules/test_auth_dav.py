"""Authentication, and WebDAV with its uploads."""

import base64
import hashlib
import os

import pytest

from lib import clients

CONFIG = """
<Directory ${HTDOCS}/auth>
    AuthType Basic
    AuthName test
    AuthUserFile ${DIR}/users
    <RequireAny>
        Require user alice
        Require user carol
    </RequireAny>
</Directory>
DavLockDB ${DIR}/davlock/db
<Directory ${HTDOCS}/dav>
    Dav on
</Directory>
<Directory ${HTDOCS}/dav/locked>
    AuthType Basic
    AuthName test
    AuthUserFile ${DIR}/users
    <LimitExcept GET>
        Require valid-user
    </LimitExcept>
</Directory>
"""
MODULES = "auth_basic authn_core authn_file authz_user dav dav_fs"


def sha(password):
    return "{SHA}" + base64.b64encode(
        hashlib.sha1(password.encode()).digest()).decode()


def files(server):
    with open(server.path("users"), "w") as f:
        f.write("alice:%s\nbob:%s\n" % (sha("secret"), sha("other")))
    os.chmod(server.path("users"), 0o644)
    server.write("auth/page.txt", "for alice\n")
    server.writable("dav")
    server.writable("dav/locked")
    server.writable("../davlock")


def basic(user, password):
    pair = "%s:%s" % (user, password)
    return {"authorization": "Basic "
            + base64.b64encode(pair.encode()).decode()}


@pytest.mark.parametrize("fields,status", [
    ({}, 401), (basic("alice", "wrong"), 401), (basic("nobody", "x"), 401),
    (basic("bob", "other"), 401), (basic("alice", "secret"), 200)])
def test_basic(server, h2, fields, status):
    mark = server.access_mark()
    r = h2.request(path="/auth/page.txt", headers=fields)
    assert r.status == status
    assert (r.header("www-authenticate") is not None) == (status == 401)
    assert server.wait_access(1, since=mark, final=str(status))


def test_basic_with_body(h2):
    """Refused uploads leave the connection as it was."""
    for _ in range(3):
        r = h2.request("POST", "/auth/page.txt", body=b"x" * 100000)
        assert r.status == 401
    r = h2.request(path="/auth/page.txt", headers=basic("alice", "secret"))
    assert r.text == "for alice\n"


def test_curl_authenticates(server):
    answer = clients.curl(server, "/auth/page.txt", "--anyauth", "-u",
                          "alice:secret")
    assert (answer.status, answer.body) == (200, b"for alice\n")


@pytest.mark.parametrize("size", [0, 10, 1000000])
@pytest.mark.parametrize("length", [True, False])
def test_dav_put_get_delete(h2, size, length):
    data, path = b"p" * size, "/dav/file-%d-%s" % (size, length)
    assert h2.request("PUT", path, body=data, length=length).status == 201
    assert bytes(h2.request(path=path).body) == data
    assert h2.request("PUT", path, body=b"new", length=length).status == 204
    assert h2.request(path=path).text == "new"
    assert h2.request("DELETE", path).status == 204
    assert h2.request(path=path).status == 404


def test_dav_tree(server, h2):
    assert h2.request("MKCOL", "/dav/tree").status == 201
    for name in "abc":
        assert h2.request("PUT", "/dav/tree/" + name,
                          body=b"x").status == 201
    r = h2.request("PROPFIND", "/dav/tree/", {"depth": "1"})
    assert r.status == 207 and r.text.count("<D:href>") == 4
    r = h2.request("PROPFIND", "/dav/tree/", {
        "depth": "0", "content-type": "text/xml"},
        body=b'<?xml version="1.0"?><D:propfind xmlns:D="DAV:">'
             b"<D:prop><D:getcontentlength/></D:prop></D:propfind>")
    assert r.status == 207
    host = "localhost:%d" % server.tls_port
    for method, name, status in (("COPY", "d", 201), ("MOVE", "e", 201)):
        r = h2.request(method, "/dav/tree/a", {
            "destination": server.url("/dav/tree/" + name)}, authority=host)
        assert r.status == status
    assert h2.request(path="/dav/tree/a").status == 404
    assert h2.request(path="/dav/tree/e").text == "x"
    assert h2.request("DELETE", "/dav/tree/").status == 204


def test_dav_lock(h2):
    assert h2.request("PUT", "/dav/l.txt", body=b"x").status == 201
    r = h2.request("LOCK", "/dav/l.txt", {"content-type": "text/xml"}, body=(
        b'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope>'
        b"<D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>"
        b"</D:lockinfo>"))
    assert r.status == 200
    token = r.header("lock-token")
    assert h2.request("PUT", "/dav/l.txt", body=b"y").status == 423
    assert h2.request("PUT", "/dav/l.txt", {"if": "(%s)" % token},
                      body=b"y").status == 204
    assert h2.request("UNLOCK", "/dav/l.txt",
                      {"lock-token": token}).status == 204


def test_dav_put_refused(h2):
    r = h2.request("PUT", "/dav/locked/x", body=b"x" * 300000)
    assert r.status == 401
    r = h2.request("PUT", "/dav/locked/x", basic("bob", "other"),
                   body=b"x" * 300000)
    assert r.status == 201
    assert len(h2.request(path="/dav/locked/x").body) == 300000


@pytest.mark.h2x_only("runs only a few uploads of a connection at a time")
def test_dav_uploads_at_once(h2):
    """Ten uploads, piece by piece in turn."""
    data = [bytes([65 + i]) * 100000 for i in range(10)]
    asked = [h2.start(h2.fields("PUT", "/dav/up%d" % i), end=False)
             for i in range(10)]
    for at in range(0, 100000, 10000):
        for r, d in zip(asked, data):
            h2.upload(r, d[at:at + 10000], end=at == 90000)
    h2.wait(*asked)
    assert [r.status for r in asked] == [201] * 10
    for i, d in enumerate(data):
        assert bytes(h2.request(path="/dav/up%d" % i).body) == d
