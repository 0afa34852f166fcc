"""PHP by mod_proxy_fcgi and a private php-fpm."""

import hashlib
import json
import os
import pathlib

import pytest

from lib import clients, h2raw, php
from lib.server import wait_for
from lib.together import Case, age, ask, assert_same

pytestmark = pytest.mark.skipif(not php.binary(),
                                reason="no php-fpm: install php-fpm")

CONFIG = """
<FilesMatch "\\.php$">
    SetHandler "proxy:unix:${DIR}/run/php.sock|fcgi://localhost/"
</FilesMatch>
ProxyFCGIBackendType FPM
<Location /php/cl>
    SetEnv proxy-sendcl 1
</Location>
DirectoryIndex index.php
"""
MODULES = "proxy proxy_fcgi env"

SCRIPTS = {
    "index": 'echo "index of ", $_SERVER["REQUEST_URI"], "\\n";',
    "echo": 'header("Content-Type: application/octet-stream");'
            'readfile("php://input");',
    "sum": 'header("Content-Type: text/plain");'
           '$in = file_get_contents("php://input");'
           'echo strlen($in), " ", md5($in), " ", count($_POST), "\\n";',
    "post": 'header("Content-Type: application/json"); echo json_encode(['
            '"post" => $_POST, "get" => $_GET, "cookie" => $_COOKIE, "files"'
            '=> array_map(fn($f) => [$f["name"], $f["size"],'
            'md5_file($f["tmp_name"])], $_FILES)]);',
    "server": 'header("Content-Type: application/json");'
              'echo json_encode($_SERVER);',
    "large": 'header("Content-Type: text/plain");'
             'for ($i = 0; $i < 50000; $i++)'
             ' printf("line %05d of a large answer, %s\\n", $i, $_GET["n"]);',
    "length": 'header("Content-Length: 100000"); echo str_repeat("x", 1e5);',
    "fields": 'header("X-One: 1"); header("X-Two: a"); header("X-Two: b",'
              'false); setcookie("c1", "v1"); setcookie("c2", "v2");'
              'header("Cache-Control: no-store"); echo "fields";',
    "status": 'http_response_code((int)$_GET["n"]);'
              'if ($_GET["n"] != 304 && $_GET["n"] != 204) echo "status";',
    "redirect": 'header("Location: /elsewhere");',
    "fatal": 'nothing();',
    "steps": 'header("Content-Type: text/event-stream");'
             'for ($i = 0; $i < 3; $i++) { echo "step $i\\n"; flush();'
             ' while (!file_exists(__DIR__ . "/gate$i")) { usleep(5000);'
             ' clearstatcache(); } } echo "end\\n";',
    "count": 'session_start(); $_SESSION["n"] = ($_SESSION["n"] ?? 0) + 1;'
             'echo $_SESSION["n"];',
}


@pytest.fixture(scope="module")
def server(httpd):
    server = httpd(CONFIG, MODULES)
    for name, text in SCRIPTS.items():
        server.write("php/%s.php" % name, "<?php\n%s\n" % text)
    server.write("php/page.txt", "not PHP\n")
    server.write("php/cl/echo.php", "<?php\n%s\n" % SCRIPTS["echo"])
    age(server)
    with php.Pool(server), server:
        yield server


FORM = {"content-type": "application/x-www-form-urlencoded"}
LARGE = bytes(range(256)) * 8000
PARTS = {"content-type": "multipart/form-data; boundary=BOUND"}
FILES = (b'--BOUND\r\nContent-Disposition: form-data; name="text"\r\n\r\nhello'
         b'\r\n--BOUND\r\nContent-Disposition: form-data; name="file"; '
         b'filename="a.bin"\r\nContent-Type: application/octet-stream\r\n\r\n'
         + LARGE + b"\r\n--BOUND--\r\n")


def md5(data):
    return hashlib.md5(data).hexdigest()


def test_same(server):
    """Answers are those over HTTP/1.1, all at once."""
    cases = [
        Case("GET", "/php/"), Case("GET", "/php/index.php/more?x=y"),
        Case("GET", "/php/page.txt"), Case("GET", "/php/none.php"),
        Case("GET", "/php/fields.php"), Case("GET", "/php/redirect.php"),
        Case("GET", "/php/length.php"), Case("HEAD", "/php/length.php"),
        Case("GET", "/php/length.php", {"range": "bytes=10-19"}),
        Case("HEAD", "/php/large.php?n=1"), Case("GET", "/php/fatal.php"),
        Case("POST", "/php/sum.php", {}, LARGE),
        Case("POST", "/php/sum.php", FORM, b"a=b&c=d"),
        Case("POST", "/php/post.php?x=y", {"cookie": "k=v", **FORM},
             b"a=b&c[]=1&c[]=2"),
        Case("POST", "/php/post.php", PARTS, FILES),
        Case("PUT", "/php/echo.php", {}, b"put"),
        Case("POST", "/php/echo.php", {}, b"")] + [
        Case("GET", "/php/status.php?n=%d" % n)
        for n in (200, 204, 304, 403, 404, 500, 503)]
    answers = dict(zip([c.path for c in cases], assert_same(
        server, cases, times=2)))
    some = answers["/php/post.php"]
    assert json.loads(some[0].text) == {
        "post": {"text": "hello"}, "get": [], "cookie": [],
        "files": {"file": ["a.bin", len(LARGE), md5(LARGE)]}}
    assert answers["/php/fields.php"][0].all("set-cookie") == [
        "c1=v1", "c2=v2"]
    for n in (403, 503):
        assert {r.status for r in answers["/php/status.php?n=%d" % n]} == {n}


@pytest.mark.parametrize("size", [0, 1, 100000, 2048000])
@pytest.mark.parametrize("length", [True, False])
def test_echo(h2, size, length):
    """PHP wants to know the length: httpd finds it out where it is told."""
    body, path = LARGE[:size], "/php/" if length else "/php/cl/"
    r = h2.request("POST", path + "echo.php", body=body, length=length)
    assert (r.status, bytes(r.body)) == (200, body)


@pytest.mark.h2x_only("runs only a few uploads of a connection at a time")
def test_uploads_at_once(h2):
    """Piece by piece in turn, larger than windows."""
    bodies = [bytes([65 + i]) * 400000 for i in range(8)]
    asked = ask(h2, [Case("POST", "/php/sum.php", {}, b) for b in bodies])
    assert [r.text for r in asked] == [
        "400000 %s 0\n" % md5(b) for b in bodies]


def test_large(h2):
    """Large answers at once: each is whole and its own."""
    asked = ask(h2, [Case("GET", "/php/large.php?n=%d" % i)
                     for i in range(12)])
    for i, r in enumerate(asked):
        assert r.text == "".join("line %05d of a large answer, %d\n" % (j, i)
                                 for j in range(50000))


def test_server_variables(server, h2):
    """Those of HTTP/1.1 but for the protocol, and HTTP/2's own."""
    path, fields = "/php/server.php/info?x=y", {"x-own": "z"}
    one = json.loads(server.http1(path=path, headers=fields).text)
    two = json.loads(h2.request(path=path, headers=fields).text)
    for name in ("SCRIPT_NAME", "SCRIPT_FILENAME", "PATH_INFO", "REQUEST_URI",
                 "QUERY_STRING", "REQUEST_METHOD", "HTTP_HOST", "HTTP_X_OWN",
                 "SERVER_NAME", "SERVER_PORT", "HTTPS", "REMOTE_ADDR",
                 "REQUEST_SCHEME", "DOCUMENT_ROOT"):
        assert two.get(name) == one.get(name), name
    assert two["HTTPS"] == "on" and two["PATH_INFO"] == "/info"
    assert one["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert two["SERVER_PROTOCOL"] == "HTTP/2.0"
    assert two["HTTP2"] == "on" and two["H2_STREAM_ID"] == "1"


def test_as_it_comes(server, h2):
    """What PHP flushes is there before PHP goes on, for each of several."""
    asked = [h2.get("/php/steps.php") for _ in range(4)]
    text = ""
    for i in range(3):
        text += "step %d\n" % i
        for r in asked:
            h2.wait_body(r, len(text))
            assert r.text == text and not r.done
        assert h2.request(path="/php/page.txt").text == "not PHP\n"
        server.write("php/gate%d" % i)
    h2.wait(*asked)
    assert {r.text for r in asked} == {text + "end\n"}


def test_sessions(server, h2):
    """Cookies, and files that PHP locks: requests for one session take
    turns, and none is lost."""
    r = h2.request(path="/php/count.php")
    cookie = {"cookie": r.header("set-cookie").split(";")[0]}
    asked = ask(h2, [Case("GET", "/php/count.php", cookie)] * 10)
    assert sorted(int(r.text) for r in asked) == list(range(2, 12))
    one = server.http1(path="/php/count.php", headers=cookie)
    assert one.text == "12"


def test_client_leaves(h2):
    """In the middle of answer and upload; the pool has its workers back."""
    for _ in range(20):
        r = h2.get("/php/large.php?n=0")
        h2.wait_body(r, 1)
        h2.reset(r.id)
        r = h2.start(h2.fields("POST", "/php/sum.php"), end=False)
        h2.data(r.id, b"x" * 1000)
        h2.reset(r.id)
    asked = ask(h2, [Case("GET", "/php/index.php")] * 20)
    assert {r.text for r in asked} == {"index of /php/index.php\n"}


def test_slow_client(server):
    """Who does not read holds up nobody else."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1000}) as c:
        slow = [c.get("/php/large.php?n=%d" % i) for i in range(3)]
        for r in slow:
            c.wait_body(r, 1000)
        assert c.request(path="/php/index.php").status == 200
        assert {len(r.body) for r in slow} == {1000}
        c.windows = True
        c.credit(1 << 30)
        for r in slow:
            c.credit(1 << 30, r.id)
        c.wait(*slow)
    assert all(r.text.endswith(", %d\n" % i) and r.text.count("\n") == 50000
               for i, r in enumerate(slow))


def test_curl(server, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(LARGE)
    answer = clients.curl(server, "/php/echo.php", "-T", str(data))
    assert (answer.version, answer.status) == ("2", 200)
    assert answer.body == LARGE


@pytest.fixture(scope="module")
def arriving(httpd):
    """A script that reads php://input as it comes."""
    server = httpd(CONFIG, MODULES)
    server.write("arriving.php", """<?php
        $in = fopen("php://input", "rb");
        $out = fopen("../run/" . $_GET["n"], "ab");
        while (($piece = fread($in, 8192)) != "") {
            fwrite($out, $piece); fflush($out);
        }
        echo "end\n";
        """)
    with php.Pool(server, post=0), server:
        yield server


def test_upload_as_it_comes(arriving):
    """PHP has each part of several uploads before the next one is sent.  It
    reads 16 KB at a time, whatever a script asks for."""
    size = 16384
    def arrived(number):
        path = arriving.path("run", str(number))
        return os.path.exists(path) and pathlib.Path(path).read_bytes()
    with arriving.h2() as c:
        asked = [c.start(c.fields("POST", "/arriving.php?n=%d" % n,
                                  {"content-length": str(5 * size)}),
                         end=False)
                 for n in range(4)]
        text = b""
        for i in range(5):
            part = b"%d" % i * size
            text += part
            for r in asked:
                c.upload(r, part, end=i == 4)
            for n in range(4):
                wait_for(lambda: arrived(n) == text, 10, "part %d" % i)
            assert i == 4 or not any(r.done for r in asked)
        c.wait(*asked)
    assert {r.text for r in asked} == {"end\n"}
