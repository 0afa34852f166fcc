"""A drop-in for mod_http2: one configuration, under either module, answers the
same requests in the same way."""

import re
import subprocess

import pytest

from lib import h2raw, server as lib_server, twins
from lib.server import httpd_binary, wait_for
from lib.twins import Case

pytestmark = [
    pytest.mark.h2x_only("is what is compared with"),
    pytest.mark.skipif(not lib_server.have_module("http2"),
                       reason="mod_http2 is not installed")]

# --- the directives ---

SERVER, VHOST, DIRECTORY, HTACCESS = "server", "vhost", "directory", "htaccess"
SV = [SERVER, VHOST]
SVDH = [SERVER, VHOST, DIRECTORY, HTACCESS]

#: All of the reference (mod_http2 2.0.42): arguments, and contexts.
DIRECTIVES = {
    "H2CopyFiles": ("on", SVDH),
    "H2Direct": ("on", SV),
    "H2EarlyHint": ('Link "</hint.css>; rel=preload"', SVDH),
    "H2EarlyHints": ("on", SV),
    "H2MaxDataFrameLen": ("5000", SV),
    "H2MaxHeaderBlockLen": ("60000", SV),
    "H2MaxSessionStreams": ("77", SV),
    "H2MaxStreamErrors": ("9", SV),
    "H2MaxWorkerIdleSeconds": ("60", [SERVER]),
    "H2MaxWorkers": ("12", [SERVER]),
    "H2MinWorkers": ("4", [SERVER]),
    "H2ModernTLSOnly": ("off", SV),
    "H2OutputBuffering": ("off", SV),
    "H2Padding": ("3", SV),
    "H2ProxyRequests": ("off", SV),
    "H2Push": ("on", SVDH),
    "H2PushDiarySize": ("128", SV),
    "H2PushPriority": ("text/css interleaved 12", SV),
    "H2PushResource": ("/pushed.css critical", SVDH),
    "H2SerializeHeaders": ("on", SV),
    "H2SessionExtraFiles": ("4", SV),
    "H2StreamMaxMemSize": ("100000", SV),
    "H2StreamTimeout": ("20", [SERVER, VHOST, DIRECTORY]),
    "H2TLSCoolDownSecs": ("2", SV),
    "H2TLSWarmUpSize": ("20000", SV),
    "H2Upgrade": ("on", SVDH),
    "H2WebSockets": ("on", SV),
    "H2WindowSize": ("100000", SV),
}


def lines(context, known, without=()):
    return "\n".join("%s %s" % (name, arguments)
                     for name, (arguments, contexts) in DIRECTIVES.items()
                     if context in contexts and (context, name) in known
                     and name not in without)


def complaint(server, context, name):
    """What httpd -t says of a directive in a context; '' if it is good."""
    line = "%s %s" % (name, DIRECTIVES[name][0])
    server.write_config({
        SERVER: line,
        VHOST: "<VirtualHost 127.0.0.1:1>\n%s\n</VirtualHost>" % line,
        DIRECTORY: "<Directory /x>\n%s\n</Directory>" % line}[context])
    done = subprocess.run(
        [httpd_binary(), "-d", server.dir, "-f", server.conf, "-t"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=server._environ())
    return done.stdout if done.returncode else ""


@pytest.fixture(scope="module")
def stock_knows(httpd):
    """(context, directive) that the mod_http2 of this machine takes: it may
    be older than the reference, or not do what that says."""
    known = set()
    server = httpd(load="stock")
    for name, (_, contexts) in DIRECTIVES.items():
        for context in set(contexts) - {HTACCESS}:
            if not complaint(server, context, name):
                known.add((context, name))
        if (DIRECTORY, name) in known and HTACCESS in contexts:
            known.add((HTACCESS, name))
    server.remove()
    return known


# --- the configuration ---

VARIABLES = ["HTTP2", "H2PUSH", "H2_PUSH", "H2_PUSHED", "H2_PUSHED_ON",
             "H2_STREAM_ID", "H2_STREAM_TAG"]

#: In all directories, so that it is known what a request announces.
ANNOUNCING = ("H2PushResource", "H2EarlyHint", "H2EarlyHints")

CONFIG = """
%(server)s
KeepAliveTimeout 60
LogFormat "%%U|%(variables)s" variables
CustomLog ${DIR}/variables.log variables
<Directory ${HTDOCS}>
    Options Indexes FollowSymLinks Includes
    AddHandler cgi-script .cgi
    AddOutputFilter INCLUDES .shtml
    DirectoryIndex index.html
</Directory>
<Directory ${HTDOCS}/cgi>
    Options +ExecCGI
</Directory>
<Directory ${HTDOCS}/section>
    %(directory)s
</Directory>
<Directory ${HTDOCS}/access>
    AllowOverride AuthConfig FileInfo
</Directory>
<Location /deflated>
    SetOutputFilter DEFLATE
</Location>
<Location /denied>
    Require all denied
</Location>
<Location /private>
    AuthType Basic
    AuthName private
    AuthUserFile ${HTDOCS}/users
    Require valid-user
</Location>
<Location /small>
    LimitRequestBody 1000
    SetHandler h2x-test
</Location>
<Location /expressions>
    Header set x-http2 "expr=%%{HTTP2}"
    Header set x-env "%%{HTTP2}e %%{H2PUSH}e %%{H2_STREAM_ID}e"
    <If "%%{HTTP2} == 'on'">
        Header set x-if yes
    </If>
    RewriteEngine on
    RewriteCond %%{HTTP2} =on
    RewriteRule . - [E=REWRITTEN:%%{HTTP2}]
    Header set x-rewritten "%%{REWRITTEN}e"
    ExpiresActive on
    ExpiresDefault "access plus 0 seconds"
</Location>
Redirect /moved http://elsewhere.test/there
Alias /other/ ${HTDOCS}/section/
ProxyPass /proxied/ http://127.0.0.1:${PORT}/
ProxyPassReverse /proxied/ http://127.0.0.1:${PORT}/
ProxyPass /dead/ http://127.0.0.1:1/
"""
MODULES = "headers rewrite cgid alias deflate include expires autoindex env "
MODULES += "authn_core authn_file auth_basic authz_user proxy proxy_http "
MODULES += "filter"

ENV_CGI = """#!/bin/sh
printf 'Content-Type: text/plain\\n'
case $QUERY_STRING in
status=*) printf 'Status: %s Some\\n' "${QUERY_STRING#status=}" ;;
location=*) printf 'Location: %s\\n' "${QUERY_STRING#location=}" ;;
link=*) printf 'Link: <%s>; rel=preload\\n' "${QUERY_STRING#link=}" ;;
esac
printf 'Set-Cookie: a=1\\nSet-Cookie: b=2\\nX-Own: cgi\\n\\n'
env | grep -v -e ^H2_STREAM_TAG -e ^H2_PUSHED | LC_ALL=C sort
echo body:
cat
"""
SSI = "<!--#echo var='HTTP2'--> <!--#echo var='H2_STREAM_ID'-->\n" \
      "<!--#include virtual='/index.html'-->\n"


def make(httpd, load, known):
    config = CONFIG % {
        "variables": "|".join("%%{%s}e" % name for name in VARIABLES),
        SERVER: lines(SERVER, known, ANNOUNCING),
        DIRECTORY: lines(DIRECTORY, known)}
    server = httpd(config, MODULES, load=load, hosts={
        "localhost": "ErrorDocument 404 /errors/missing.html\n"
                     'ErrorDocument 403 "not for you"',
        "one.test": lines(VHOST, known),
        "two.test": "H2Push off\nH2EarlyHints off"})
    for name in ("index.html", "dir/index.html", "section/index.html",
                 "access/index.html", "denied/index.html",
                 "private/index.html", "errors/missing.html",
                 "expressions/index.html", "deflated/index.html"):
        server.write(name, "This is %s.\n" % name)
    server.write("access/.htaccess", lines(HTACCESS, known))
    server.write("listed/one.txt", "1")
    server.write("listed/two.txt", "22")
    server.write("empty.html", "")
    server.write("pushed.css", "p {}\n")
    server.write("hint.css", "q {}\n")
    server.write("large.txt", "0123456789" * 50000)
    server.write("deflated/large.txt", "0123456789" * 50000)
    server.write("cgi/env.cgi", ENV_CGI, 0o755)
    server.write("cgi/fails.cgi", "#!/bin/sh\nexit 1\n", 0o755)
    server.write("page.shtml", SSI)
    server.write("users", "me:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    twins.age(server)
    return server


@pytest.fixture(scope="module")
def pair(httpd, stock_knows):
    """Servers under mod_h2x and under mod_http2."""
    with make(httpd, "h2x", stock_knows) as one, \
            make(httpd, "stock", stock_knows) as other:
        yield one, other


# --- that it loads ---

def test_is_the_whole_reference():
    assert len(DIRECTIVES) == 28


def test_stock_knows_most(stock_knows):
    """Else the comparison below is about nothing."""
    assert len({name for _, name in stock_knows}) >= 24


@pytest.mark.parametrize("context", [SERVER, VHOST, DIRECTORY])
def test_is_taken(httpd, context):
    """In each context of the reference, whatever mod_http2 here knows."""
    server = httpd(load="h2x")
    said = {name: complaint(server, context, name)
            for name, (_, contexts) in DIRECTIVES.items()
            if context in contexts}
    server.remove()
    assert said and not any(said.values()), said


def test_is_taken_in_htaccess(httpd):
    names = [name for name, (_, contexts) in DIRECTIVES.items()
             if HTACCESS in contexts]
    with httpd("<Directory ${HTDOCS}>\nAllowOverride AuthConfig FileInfo\n"
               "</Directory>", load="h2x") as server, server.h2() as c:
        for name in names:
            server.write("%s/index.html" % name, "hello\n")
            server.write("%s/.htaccess" % name,
                         "%s %s\n" % (name, DIRECTIVES[name][0]))
            r = c.request(path="/%s/index.html" % name)
            assert (r.status, r.text) == (200, "hello\n"), name


def test_without_effect_is_told_once(httpd):
    """At info, for what has no meaning here."""
    with httpd("H2SerializeHeaders on\nH2SerializeHeaders off\n"
               "H2SessionExtraFiles 5", load="h2x") as server:
        said = server.error_text()
        for name in ("H2SerializeHeaders", "H2SessionExtraFiles"):
            assert len(re.findall(r":info\].*%s has no effect" % name,
                                  said)) == 1, name


def test_in_every_context_at_once(httpd):
    """All of the reference, whatever mod_http2 here takes of it."""
    known = {(context, name) for name, (_, contexts) in DIRECTIVES.items()
             for context in contexts}
    with make(httpd, "h2x", known) as server:
        for host in ("localhost", "one.test", "two.test"):
            for path in ("/index.html", "/section/index.html",
                         "/access/index.html"):
                with server.h2(sni=host, authority=host) as c:
                    r = c.request(path=path)
                    assert (r.status, r.text) == (200, "This is %s.\n"
                                                  % path[1:])


# --- that it answers alike ---

CASES = {
    "file": Case(path="/index.html"),
    "large file": Case(path="/large.txt"),
    "empty file": Case(path="/empty.html"),
    "head": Case("HEAD", "/large.txt"),
    "index": Case(path="/"),
    "directory": Case(path="/dir"),
    "listing": Case(path="/listed/"),
    "alias": Case(path="/other/index.html"),
    "no file": Case(path="/nothing"),
    "head of no file": Case("HEAD", "/nothing"),
    "query": Case(path="/index.html?a=b&c=%20d"),
    "escapes": Case(path="/%69ndex.html"),
    "bad escapes": Case(path="/%zz"),
    "slash": Case(path="/a%2fb"),
    "dots": Case(path="/dir/../index.html"),
    "dots too many": Case(path="/../../etc/passwd"),
    "denied": Case(path="/denied/index.html"),
    "redirect": Case(path="/moved/x?y"),
    "options": Case("OPTIONS", "/index.html"),
    "options of all": Case("OPTIONS", "*"),
    "trace": Case("TRACE", "/index.html", {"x-own": "v"}),
    "put": Case("PUT", "/index.html", {}, b"new"),
    "delete": Case("DELETE", "/index.html"),
    "unknown method": Case("BREW", "/index.html"),
    "post to a file": Case("POST", "/index.html", {}, b"a=b"),
    "not modified": Case(path="/index.html", headers={
        "if-modified-since": "Thu, 01 Jan 2026 00:00:00 GMT"}),
    "modified": Case(path="/index.html", headers={
        "if-modified-since": "Thu, 01 Jan 2009 00:00:00 GMT"}),
    "any tag": Case(path="/index.html", headers={"if-none-match": "*"}),
    "other tag": Case(path="/index.html", headers={"if-none-match": '"x"'}),
    "no match": Case(path="/index.html", headers={"if-match": '"x"'}),
    "not unmodified": Case(path="/index.html", headers={
        "if-unmodified-since": "Thu, 01 Jan 2009 00:00:00 GMT"}),
    "range": Case(path="/large.txt", headers={"range": "bytes=10-29"}),
    "last bytes": Case(path="/large.txt", headers={"range": "bytes=-7"}),
    "ranges": Case(path="/large.txt",
                   headers={"range": "bytes=0-4,1000-1004,-5"}),
    "no such range": Case(path="/large.txt",
                          headers={"range": "bytes=900000-"}),
    "range of head": Case("HEAD", "/large.txt", {"range": "bytes=0-9"}),
    "if range": Case(path="/large.txt", headers={
        "range": "bytes=0-9", "if-range": '"x"'}),
    "deflated": Case(path="/deflated/large.txt",
                     headers={"accept-encoding": "gzip"}),
    "not deflated": Case(path="/deflated/index.html"),
    "included": Case(path="/page.shtml"),
    "no password": Case(path="/private/index.html"),
    "password": Case(path="/private/index.html", headers={
        "authorization": "Basic bWU6c2VjcmV0"}),
    "wrong password": Case(path="/private/index.html", headers={
        "authorization": "Basic bWU6d3Jvbmc="}),
    "cgi": Case(path="/cgi/env.cgi?x=y", headers={
        "cookie": "a=b", "x-own": "v", "user-agent": "twins"}),
    "cgi post": Case("POST", "/cgi/env.cgi", {"content-type": "text/x"},
                     b"the body", {"length": True}),
    "cgi post without length": Case("POST", "/cgi/env.cgi", {},
                                    b"x" * 100000),
    "cgi head": Case("HEAD", "/cgi/env.cgi"),
    "cgi status": Case(path="/cgi/env.cgi?status=418"),
    "cgi status 204": Case(path="/cgi/env.cgi?status=204"),
    "cgi status 304": Case(path="/cgi/env.cgi?status=304"),
    "cgi redirect": Case(path="/cgi/env.cgi?location=http://x.test/"),
    "cgi redirect within": Case(path="/cgi/env.cgi?location=/index.html"),
    "cgi fails": Case(path="/cgi/fails.cgi"),
    "cgi is a directory": Case(path="/cgi/"),
    "cgi cookies": Case(path="/cgi/env.cgi", headers=[
        ("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]),
    "proxied": Case(path="/proxied/index.html"),
    "proxied large": Case(path="/proxied/large.txt"),
    "proxied head": Case("HEAD", "/proxied/index.html"),
    "proxied post": Case("POST", "/proxied/t/upload", {}, b"x" * 70000),
    "proxied redirect": Case(path="/proxied/dir"),
    "proxied no file": Case(path="/proxied/nothing"),
    "proxied range": Case(path="/proxied/large.txt",
                          headers={"range": "bytes=3-9"}),
    "proxied cgi": Case("POST", "/proxied/t/upload", {}, b"abc",
                        {"length": True}),
    "no backend": Case(path="/dead/x"),
    "echo": Case("POST", "/t/echo", {}, b"e" * 200000),
    "expectation": Case("POST", "/t/upload", {"expect": "100-continue"},
                        b"abc"),
    "unknown expectation": Case("POST", "/t/upload", {"expect": "more"},
                                b"abc"),
    "trailers": Case(path="/t/trailers"),
    "request trailers": Case("POST", "/t/show-trailers", {"trailer": "x-t"},
                             b"abc", {"trailers": [("x-t", "v")]}),
    "body unread": Case("POST", "/t/ignore", {}, b"x" * 1000),
    "odd fields": Case(path="/t/fields?kind=odd"),
    "fields of connections": Case(path="/t/fields?kind=hop"),
    "many fields": Case(path="/t/fields?kind=many&n=50&size=100"),
    "body too large": Case("POST", "/small/upload", {}, b"x" * 2000,
                           {"length": True}),
    "body too large without length": Case("POST", "/small/upload", {},
                                          b"x" * 2000),
    "line too long": Case(path="/" + "x" * 9000),
    "field too long": Case(path="/index.html", headers={"x-a": "x" * 9000}),
    "too many fields": Case(path="/index.html", headers=[
        ("x-%d" % i, "v") for i in range(110)]),
    "expressions": Case(path="/expressions/index.html"),
    "section": Case(path="/section/index.html"),
    "htaccess": Case(path="/access/index.html"),
    "status of handlers": Case(path="/t/status?code=503"),
    "interim": Case(path="/t/interim?status=102"),
}


#: What is not compared, and why.
DIFFERENT = {
    "cgi head": ["body"],       # mod_http2 sends one
    "fields of connections": ["fields"],    # it leaves Proxy-Connection
    "ranges": ["fields", "logged"],     # boundaries of different lengths
    "line too long": ["fields", "body", "logged"],  # it fails twice
}


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "cleartext"])
@pytest.mark.parametrize("name", CASES)
def test_same(pair, name, tls):
    """Status, fields, body, trailers, interim responses, log lines."""
    one, other = (twins.ask(server, CASES[name], tls) for server in pair)
    if name == "options of all" and other["status"] == 400:
        pytest.skip("this httpd's mod_http2 refuses it, as 2.4.69's does")
    assert not twins.differences(one, other, DIFFERENT.get(name, ()))


@pytest.mark.parametrize("host", ["localhost", "one.test", "two.test"])
@pytest.mark.parametrize("path", ["/index.html", "/section/index.html",
                                  "/access/index.html", "/nothing",
                                  "/cgi/env.cgi?link=/pushed.css",
                                  "/cgi/env.cgi"])
@pytest.mark.parametrize("push", [True, False], ids=["push", "no push"])
def test_same_announcements(pair, path, host, push):
    """Pushes, 103 responses and variables by host and directory."""
    if host == "two.test" and push and path[1] in "sa":
        pytest.skip("mod_http2 does not look at H2Push of directories "
                    "where the virtual host has it off")
    one, other = (twins.ask(server, Case(path=path), push=push, host=host)
                  for server in pair)
    if path.startswith("/cgi/"):
        # httpd has a length if all that a script says is there at once
        for answer in one, other:
            answer["fields"] = [field for field in answer["fields"]
                                if field[0] != "content-length"]
    assert not twins.differences(one, other)


def test_same_settings(pair):
    """The limits that directives set, as the client is told them."""
    told = []
    for server in pair:
        with server.h2() as c:
            c.ping()
            told.append({k: c.peer_settings.get(k) for k in (
                h2raw.MAX_CONCURRENT_STREAMS, h2raw.INITIAL_WINDOW_SIZE,
                h2raw.ENABLE_CONNECT_PROTOCOL, h2raw.MAX_FRAME_SIZE)})
            c.request(path="/large.txt")
            assert max(len(f.data) for f in c.frames
                       if isinstance(f, h2raw.DataFrame)) <= 5000
            assert max(f.pad_length for f in c.frames
                       if isinstance(f, h2raw.DataFrame)) in range(1, 8)
    assert told[0] == told[1]
    assert told[0][h2raw.MAX_CONCURRENT_STREAMS] == 77
    assert told[0][h2raw.INITIAL_WINDOW_SIZE] == 100000


def test_same_environment(pair):
    """What a handler sees, in no order."""
    seen = []
    for server in pair:
        with server.h2() as c:
            r = c.request(path="/t/env?x=y", headers={
                "accept": "text/*", "host": "localhost"})
            seen.append(sorted(twins.same_text(server, r.text).split("\n")))
    assert seen[0] == seen[1]


def variables(server, since=0):
    """The log of variables from a line on: their values by path."""
    found = {}
    for line in server._read("variables.log").splitlines()[since:]:
        path, *values = line.split("|")
        values[-1] = twins.same_tag(values[-1])
        found[path] = values
    return found


@pytest.fixture(scope="module")
def logged_variables(pair):
    """Of requests for pages and what is pushed with them, from each."""
    seen = []
    for server in pair:
        mark = server._read("variables.log").count("\n")
        for path, push in (("/section/index.html", True), ("/moved", True),
                           ("/index.html", True), ("/dir/index.html", False)):
            twins.ask(server, Case(path=path), push=push)
        server.http1(path="/page.shtml")
        paths = {"/section/index.html", "/moved", "/index.html",
                 "/dir/index.html", "/page.shtml", "/hint.css", "/pushed.css"}
        wait_for(lambda: paths <= set(variables(server, mark)),
                 what="the log to be written")
        seen.append({path: variables(server, mark)[path] for path in paths})
    return seen


@pytest.mark.parametrize("index,name", list(enumerate(VARIABLES)))
def test_same_variables_in_logs(logged_variables, index, name):
    """H2_PUSHED and H2_PUSHED_ON are empty for what is not pushed."""
    one, other = ({path: values[index] for path, values in of.items()}
                  for of in logged_variables)
    # mod_http2 has them from the fixups on
    del one["/moved"], other["/moved"]
    assert one == other


def test_variables_of_refused_requests(logged_variables):
    """Which mod_http2 does not tell."""
    assert logged_variables[0]["/moved"][0] == "on"
    assert logged_variables[0]["/moved"][5] == "1"


def test_same_on_one_connection(pair):
    """Many requests at a time, whose numbers are in log and environment."""
    seen = []
    for server in pair:
        mark = server.access_mark()
        with server.h2() as c:
            asked = [c.get("/cgi/env.cgi?%d" % i) for i in range(10)]
            asked += [c.get("/index.html") for _ in range(10)]
            c.wait(*asked)
            numbers = [re.findall("(?m)^H2_STREAM_ID=(.*)$", r.text)
                       for r in asked]
        entries = server.wait_access(20, since=mark)
        seen.append((numbers, sorted((e["stream"], e["uri"], e["query"])
                                     for e in entries)))
    assert seen[0] == seen[1]
    assert seen[0][0][:2] == [["1"], ["3"]]
