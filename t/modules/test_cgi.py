"""CGI, server-side includes with subrequests, internal redirects."""

import os

import pytest

from lib import h2raw

CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
AddOutputFilter INCLUDES .shtml
<Directory ${HTDOCS}>
    Options +Includes
</Directory>
<Location />
    SSLOptions +StdEnvVars
</Location>
<Directory ${HTDOCS}/private>
    Require all denied
</Directory>
<LocationMatch "^/private/static">
    ErrorDocument 403 /denied.html
</LocationMatch>
<LocationMatch "^/private/cgi">
    ErrorDocument 403 /cgi/env?from=error
</LocationMatch>
<LocationMatch "^/private/ssi">
    ErrorDocument 403 /page.shtml
</LocationMatch>
<LocationMatch "^/private/loop">
    ErrorDocument 403 /private/loop2
</LocationMatch>
DirectoryIndex index.html /cgi/index
<Directory ${HTDOCS}/listed>
    AddType text/html .shtml
    HeaderName HEADER.shtml
    ReadmeName README.shtml
    DirectoryIndex none
    IndexOptions +SuppressHTMLPreamble
</Directory>
"""
MODULES = "cgid alias include autoindex"

SH = "#!/bin/sh\n"
HEAD = "printf 'Content-Type: text/plain\\n\\n'\n"
LONG = b"line\n" * 72000


def files(server):
    def cgi(name, text):
        server.write("cgi/" + name, SH + text, 0o755)
    # mod_cgid may lose the output of a script that leaves its body unread:
    # closing its Unix socket with bytes in it is a reset.
    cgi("env", HEAD + "cat >/dev/null\nenv | sort\n")
    cgi("index", HEAD + "echo the index\n")
    cgi("cat", HEAD + "cat\n")
    cgi("status", "printf 'Status: 404 Nothing\\nContent-Type: text/plain\\n"
        "X-Own: 1\\n\\nown words'\n")
    cgi("redirect", "printf 'Location: /page.html\\n\\n'\n")
    cgi("extern", "printf 'Location: https://elsewhere.test/\\n\\n'\n")
    cgi("silent", "exit 0\n")
    cgi("broken", "echo no header at all\n")
    cgi("chatter", HEAD + "echo words >&2\necho done\n")
    cgi("closing", HEAD + "exec 1>&-\n")
    cgi("many", HEAD + "i=0\nwhile [ $i -lt 2000 ]; do echo line $i; "
        "i=$((i+1)); done\n")
    # Goes on when the file that its query names is there.
    cgi("step", HEAD + "echo one\n"
        'while [ ! -e "$QUERY_STRING" ]; do sleep 0.01; done\necho two\n')
    cgi("empty-204", "printf 'Status: 204 None\\nContent-Length: 0\\n\\n'\n")
    cgi("nph-none", "printf 'HTTP/1.1 103 Early Hints\\r\\n"
        "Link: </a>; rel=preload\\r\\nContent-Length: 0\\r\\n\\r\\n"
        "HTTP/1.1 204 None\\r\\nContent-Length: 0\\r\\n\\r\\n'\n")
    cgi("nph-raw", "printf 'HTTP/1.0 203 Own\\r\\n"
        "Content-Type: text/plain\\r\\nX-Nph: yes\\r\\n\\r\\nraw'\n")
    server.write("page.html", "page\n")
    server.write("denied.html", "denied page\n")
    server.write("part.txt", "part")
    server.write("dir/.keep", "")
    server.write("page.shtml", "[<!--#include virtual=\"/part.txt\" -->]"
                 "[<!--#include file=\"part.txt\" -->]"
                 "[<!--#include virtual=\"/cgi/env?sub=1\" -->]"
                 "[<!--#echo var=\"SERVER_PROTOCOL\" -->]"
                 "[<!--#include virtual=\"/inner.shtml\" -->]"
                 "[<!--#include virtual=\"/none\" -->]"
                 "[<!--#include virtual=\"/t/env\" -->]end")
    server.write("inner.shtml", "inner(<!--#include virtual=\"/part.txt\" -->"
                 "<!--#include virtual=\"/page.html\" -->)")
    server.write("private/x", "")
    for name in ("HEADER.shtml", "README.shtml"):
        server.write("listed/" + name, LONG)


def env(response):
    return dict(line.split("=", 1) for line in response.text.splitlines()
                if "=" in line)


def test_get_environment(server, h2):
    r = h2.request(path="/cgi/env/more?a=b&c=%20", headers={
        "user-agent": "tester", "cookie": "k=v", "x-own-field": "own"},
        authority="localhost:%d" % server.tls_port)
    e = env(r)
    assert r.status == 200
    expected = {
        "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/2.0",
        "QUERY_STRING": "a=b&c=%20", "PATH_INFO": "/more",
        "SCRIPT_NAME": "/cgi/env", "REQUEST_URI": "/cgi/env/more?a=b&c=%20",
        "HTTP_USER_AGENT": "tester", "HTTP_COOKIE": "k=v",
        "HTTP_X_OWN_FIELD": "own",
        "HTTP_HOST": "localhost:%d" % server.tls_port, "HTTPS": "on",
        "REQUEST_SCHEME": "https", "SERVER_NAME": "localhost",
        "SERVER_PORT": str(server.tls_port), "REMOTE_ADDR": "127.0.0.1",
        "HTTP2": "on", "GATEWAY_INTERFACE": "CGI/1.1"}
    assert {k: e.get(k) for k in expected} == expected
    assert e["SSL_PROTOCOL"] == "TLSv1.3" and e["SSL_CIPHER"]
    assert e["REMOTE_PORT"] == str(h2.sock.getsockname()[1])
    assert e["H2_STREAM_ID"] == "1" and e["H2_STREAM_TAG"]


def test_cleartext_environment(server):
    with server.h2(tls=False) as c:
        e = env(c.request(path="/cgi/env",
                          authority="localhost:%d" % server.port))
    assert e["REQUEST_SCHEME"] == "http" and "HTTPS" not in e
    assert e["SERVER_PORT"] == str(server.port)


def test_post(h2):
    r = h2.request("POST", "/cgi/env", {"content-type": "text/x"},
                   body=b"abc", length=True)
    e = env(r)
    assert (e["REQUEST_METHOD"], e["CONTENT_LENGTH"], e["CONTENT_TYPE"]) == (
        "POST", "3", "text/x")
    r = h2.request("POST", "/cgi/cat", body=b"x" * 100000)
    assert bytes(r.body) == b"x" * 100000


def test_no_transfer_encoding_made_up(h2):
    """A body of unknown length shows no HTTP/1.1 framing to the script
    beyond what httpd itself needs."""
    e = env(h2.request("POST", "/cgi/env", body=b"abc"))
    assert "HTTP_CONNECTION" not in e and "HTTP_KEEP_ALIVE" not in e


@pytest.mark.parametrize("path,status,body", [
    ("/cgi/status", 404, "own words"), ("/cgi/redirect", 200, "page\n"),
    ("/cgi/closing", 200, ""), ("/cgi/chatter", 200, "done\n"),
    ("/dir/", 200, "the index\n"),
    ("/cgi/many", 200, "".join("line %d\n" % i for i in range(2000)))])
def test_answers(h2, path, status, body):
    r = h2.request(path=path)
    assert (r.status, r.text, r.ended) == (status, body, True)


@pytest.mark.parametrize("path,status", [
    ("/cgi/extern", 302), ("/cgi/silent", 500), ("/cgi/broken", 500),
    ("/cgi/none", 404)])
def test_statuses(server, h2, path, status):
    assert h2.request(path=path).status == status
    assert server.http1(path=path).status == status


def test_nph(h2):
    """A script that writes its own HTTP/1.x head: not something to pass on
    as it is.  Either it is understood or it fails cleanly."""
    r = h2.request(path="/cgi/nph-raw")
    assert r.reset is not None or r.status in (200, 203, 500, 502)
    assert h2.request(path="/page.html").text == "page\n"


@pytest.mark.parametrize("path", [
    "/cgi/empty-204", pytest.param("/cgi/nph-none", marks=pytest.mark.h2x_only(
        "does not read heads of scripts"))])
def test_no_length(h2, path):
    """RFC 9110, section 8.6: not in 1xx and 204."""
    r = h2.request(path=path)
    assert (r.status, r.body, r.ended) == (204, b"", True)
    for head in r.interim + [r.headers]:
        assert "content-length" not in dict(head)


def test_output_as_it_comes(server, h2):
    """What a script has written is sent while it goes on."""
    flag = server.path("htdocs", "step-flag")
    r = h2.get("/cgi/step?" + flag)
    h2.wait_body(r, 4)
    assert bytes(r.body) == b"one\n" and not r.done
    open(flag, "w").close()
    assert bytes(h2.wait(r).body) == b"one\ntwo\n"


def test_client_leaves_script(server, h2):
    """A stream that the client resets: the connection goes on, and the script
    does not stay."""
    flag = server.path("htdocs", "never")
    r = h2.get("/cgi/step?" + flag)
    h2.wait_body(r, 4)
    h2.reset(r.id)
    assert h2.request(path="/page.html").text == "page\n"
    os.close(os.open(flag, os.O_CREAT, 0o644))


@pytest.mark.h2x_only("resets it")
def test_ids_are_used_again(server, h2):
    """mod_cgid keeps something for each connection id that it has seen."""
    def connection_id():
        text = h2.request(path="/t/env").text
        return next(line for line in text.splitlines()
                    if line.startswith("connection: "))
    assert len({connection_id() for _ in range(200)}) <= 8


BY_HANDLER = """
<Directory ${HTDOCS}/cgi>
    Options ExecCGI
    SetHandler cgi-script
</Directory>
"""


@pytest.mark.h2x_only("has its pipes inherited")
def test_descriptors_of_scripts(httpd):
    """What tells a handler that more of a body has come is not for scripts:
    to them, all is as in a request without one."""
    with httpd(BY_HANDLER, "cgi") as server:
        server.write("cgi/fds", SH + HEAD + "for f in /proc/$$/fd/*; do\n"
                     "echo ${f##*/} $(readlink $f)\ndone\n", 0o755)

        def inherited(response):
            assert response.status == 200
            found = dict(line.split(" ", 1)
                         for line in response.text.splitlines())
            return {fd for fd, what in found.items()
                    if what.startswith("pipe:")}
        with server.h2(tls=False) as c:
            without = inherited(c.request(path="/cgi/fds"))
            assert {"0", "1"} <= without
            for _ in range(3):
                r = c.request("POST", "/cgi/fds", body=b"abc")
                assert inherited(r) == without


def test_includes(h2):
    r = h2.request(path="/page.shtml")
    assert r.status == 200 and r.ended
    assert r.text.startswith("[part][part][")
    assert "QUERY_STRING=sub=1\n" in r.text and r.text.endswith("end")
    assert "[HTTP/2.0]" in r.text or "[INCLUDED]" in r.text
    assert "[inner(partpage\n)]" in r.text
    assert "protocol: " in r.text


def test_many_includes_at_once(server, h2):
    mark = server.access_mark()
    asked = [h2.get("/page.shtml") for _ in range(20)]
    h2.wait(*asked)
    assert all(r.status == 200 and r.text.endswith("end") for r in asked)
    server.wait_access(20, since=mark, uri="/page.shtml")


def test_map_of_a_subrequest(server, h2):
    """A mapped file ends with the subrequest that it was mapped for."""
    r = h2.request(path="/listed/")
    assert r.status == 200 and r.body.count(LONG) == 2


@pytest.mark.parametrize("path,body", [
    ("/private/static", "denied page\n"), ("/private/cgi", "from=error"),
    ("/private/ssi", "[part][part]")])
def test_error_documents(server, h2, path, body):
    mark = server.access_mark()
    r = h2.request(path=path)
    assert r.status == 403 and body in r.text and r.ended
    entry, = server.wait_access(1, since=mark, uri=path)
    assert entry["final"] == "403"
    assert len(server.access(since=mark)) == 1


def test_error_document_in_error(h2):
    r = h2.request(path="/private/loop")
    assert r.status == 403 and "Additionally" in r.text


def test_error_document_with_body(h2):
    """The request body belongs to the first request, not to the document."""
    r = h2.request("POST", "/private/cgi", body=b"x" * 100000)
    assert r.status == 403
    assert r.reset in (None, h2raw.NO_ERROR)
    assert h2.request(path="/page.html").text == "page\n"
