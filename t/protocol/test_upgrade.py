"""The change from HTTP/1.1 to h2c by Upgrade (RFC 7540, section 3.2)."""

import contextlib
import hashlib
import re
import signal
import time

import pytest

from lib import backend, clients, h2raw, inside, proc, upgrade
from lib.server import PATIENCE, wait_for

CONFIG = """
KeepAliveTimeout 2
RemoteIPHeader X-Client
RequestHeader append X-Once once early
RequestHeader append X-Late late
ScriptAlias /cgi/ ${HTDOCS}/cgi/
<Location /private>
    AuthUserFile ${DIR}/htdocs/users
    AuthType Basic
    AuthName private
    Require valid-user
</Location>
<Location /small>
    LimitRequestBody 1000
    SetHandler h2x-test
</Location>
<Directory ${HTDOCS}/off>
    H2Upgrade off
</Directory>
<Directory ${HTDOCS}/access>
    AllowOverride AuthConfig
</Directory>
<Location /push>
    H2PushResource /pushed
</Location>
"""
CLEARTEXT_HOSTS = {
    "one.test": """
        H2Upgrade off
        <Location /on>
            H2Upgrade on
        </Location>""",
    "two.test": "Protocols http/1.1",
    "three.test": "H2StreamMaxMemSize 2000",
}
MODULES = "headers remoteip cgid alias authn_core authn_file auth_basic"
MODULES += " authz_user dir"

SIZE = 300000

pytestmark = pytest.mark.h2x_only(
    "ends the connection after the first response, logs requests twice")


def files(server):
    for name in ("index.html", "off/index.html", "access/index.html",
                 "on/index.html", "push/index.html", "pushed",
                 "private/index.html"):
        server.write(name, "hello\n")
    server.write("access/.htaccess", "H2Upgrade off\n")
    server.write("big", b"0123456789" * (SIZE // 10))
    server.write("users", "me:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    server.write("cgi/env", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n"
                 "'\nenv\nhead -c \"${CONTENT_LENGTH:-0}\"\n", 0o755)


def digest(data):
    return "length %d\nmd5 %s\n" % (len(data), hashlib.md5(data).hexdigest())


def still_good(c):
    assert c.request(path="/index.html").text == "hello\n"


def is_http1(answer, status=200):
    """The answer to an Upgrade that was not taken."""
    assert (answer.version, answer.status) == ("HTTP/1.1", status)
    with answer.sock:
        return answer.read()


# --- that it works ---

def test_get(server):
    mark = server.access_mark()
    with upgrade.upgrade(server) as c:
        r = c.wait(c.first)
        assert (r.status, r.text) == (200, "hello\n")
        assert r.header("content-type") == "text/html"
        for name in ("connection", "upgrade", "transfer-encoding"):
            assert r.header(name) is None
        first = c.frames[0]
        assert isinstance(first, h2raw.SettingsFrame) and not first.flags
        for _ in range(5):
            still_good(c)
        # not for those of HTTP2-Settings, which 101 has acknowledged
        assert c.settings_acked == 1
    one, = server.wait_access(1, since=mark, stream="1")
    assert one["line"] == "GET /index.html HTTP/2.0"
    server.wait_access(6, since=mark)
    assert server.access(since=mark, proto="HTTP/1.1") == []


def test_index_of_directory(server):
    """The page that most clients begin with, which mod_dir redirects."""
    with upgrade.upgrade(server, path="/") as c:
        assert c.wait(c.first).text == "hello\n"


def test_head(server):
    with upgrade.upgrade(server, "HEAD") as c:
        r = c.wait(c.first)
        assert (r.status, r.text) == (200, "")
        assert r.header("content-length") == "6"
        still_good(c)


def test_options(server):
    with upgrade.upgrade(server, "OPTIONS") as c:
        assert "GET" in c.wait(c.first).header("allow")


def test_options_asterisk(server):
    """The way to upgrade without a request that takes time (RFC 7540,
    section 3.2), which nghttp takes too."""
    with upgrade.upgrade(server, "OPTIONS", "*") as c:
        assert c.wait(c.first).status == 200
        still_good(c)


@pytest.mark.parametrize("path,status", [
    ("/nothing", 404), ("/t/status?code=403", 403), ("/off", 301)])
def test_other_answers(server, path, status):
    """Whether by Upgrade or not is all the same."""
    answer = upgrade.ask(server, path=path)
    if answer.status == 101:
        with upgrade.Upgraded(answer.sock, answer.rest) as c:
            assert c.wait(c.first).status == status
            still_good(c)
    else:
        is_http1(answer, status)


@pytest.mark.parametrize("size", [1, 1000, 8193, 65535, 65536])
def test_body(server, size):
    data = bytes(i * 7 & 255 for i in range(size))
    with upgrade.upgrade(server, "POST", "/t/upload", body=data) as c:
        assert c.wait(c.first).text == digest(data)
        r = c.request("POST", "/t/upload", body=data * 2)
        assert r.text == digest(data * 2)


def test_body_in_pieces(server):
    data = b"0123456789" * 1000
    sent = upgrade.request("POST", "/t/upload", body=data)
    with server.connect(tls=False) as sock:
        for i in range(0, len(sent), 997):
            sock.sendall(sent[i:i + 997])
        answer = upgrade.Answer(sock)
        assert answer.status == 101
        c = upgrade.Upgraded(sock, answer.rest)
        assert c.wait(c.first).text == digest(data)
        still_good(c)


def test_body_for_cgi(server):
    with upgrade.upgrade(server, "POST", "/cgi/env", body=b"the body") as c:
        text = c.wait(c.first).text
        for line in ("CONTENT_LENGTH=8", "HTTP2=on", "H2_STREAM_ID=1",
                     "SERVER_PROTOCOL=HTTP/2.0", "REQUEST_METHOD=POST"):
            assert line + "\n" in text
        assert text.endswith("the body")


def test_empty_body(server):
    with upgrade.upgrade(server, "POST", "/t/upload",
                         [("Content-Length", "0")]) as c:
        assert c.wait(c.first).text == digest(b"")


def test_large_response(server):
    with upgrade.upgrade(server, path="/big") as c:
        assert bytes(c.wait(c.first).body) == b"0123456789" * (SIZE // 10)
        asked = [c.get("/big") for _ in range(10)]
        c.wait(*asked)
        assert all(len(r.body) == SIZE for r in asked)


@pytest.mark.parametrize("protocol", ["h2c", "other, h2c", "h2c, other",
                                      "h2, h2c"])
def test_list_of_protocols(server, protocol):
    with upgrade.upgrade(server, protocol=protocol) as c:
        assert c.wait(c.first).text == "hello\n"


@pytest.mark.parametrize("connection", [
    "HTTP2-Settings, Upgrade", "upgrade,http2-settings",
    "keep-alive, Upgrade, HTTP2-Settings"])
def test_list_of_connection(server, connection):
    with upgrade.upgrade(server, connection=connection) as c:
        assert c.wait(c.first).text == "hello\n"


def test_many_at_once(server):
    made = [upgrade.upgrade(server) for _ in range(15)]
    for c in made:
        assert c.wait(c.first).text == "hello\n"
    for c in made:
        still_good(c)
        c.close()


# --- what handlers see ---

def env(server, path="/t/env", **kw):
    """/t/env by Upgrade, as a dict of names and lists of values."""
    with upgrade.upgrade(server, path=path, **kw) as c:
        pairs = re.findall("(?m)^(.*?): (.*)$", c.wait(c.first).text)
    found = {}
    for name, value in pairs:
        found.setdefault(name.lower(), []).append(value)
    return found


def test_request(server):
    seen = env(server, path="/t/env?a=b%20c", fields=[
        ("X-Own", "v"), ("Cookie", "a=b"), ("Connection", "X-Private"),
        ("X-Private", "secret")])
    assert seen["protocol"] == ["HTTP/2.0"] and seen["method"] == ["GET"]
    assert seen["uri"] == ["/t/env?a=b%20c"]
    assert seen["x-own"] == ["v"] and seen["cookie"] == ["a=b"]
    assert seen["host"] == ["localhost"]
    assert seen["h2_stream_id"] == ["1"] and seen["http2"] == ["on"]
    for name in ("upgrade", "http2-settings", "x-private"):
        assert name not in seen, name


def test_other_modules_once(server):
    """The request goes through some hooks in both protocols."""
    seen = env(server, fields=[("X-Client", "203.0.113.7")])
    assert seen["x-once"] == ["once"]
    assert seen["x-late"] == ["late"]
    assert seen["remote_addr"] == ["203.0.113.7"]


def test_counted_once(server):
    before = inside.counters(server)
    with upgrade.upgrade(server, path="/t/env") as c:
        c.wait(c.first)
    mark = server.access_mark()
    wait_for(lambda: inside.counters(server)["logged"] > before["logged"],
             what="the request to be logged")
    after = inside.counters(server)
    assert after["handled"] == before["handled"] + 1
    assert after["logged"] == before["logged"] + 1
    assert server.access(since=mark, proto="HTTP/1.1", status="101") == []


def test_access_control(server):
    """What is refused is refused before, or after, but not let in."""
    answer = upgrade.ask(server, path="/private/index.html")
    if answer.status == 101:
        with upgrade.Upgraded(answer.sock, answer.rest) as c:
            assert c.wait(c.first).status == 401
    else:
        assert answer.status == 401
        answer.sock.close()
    with upgrade.upgrade(server, path="/private/index.html", fields=[
            ("Authorization", "Basic bWU6c2VjcmV0")]) as c:
        assert c.wait(c.first).text == "hello\n"
        assert c.request(path="/private/index.html").status == 401


def test_proxied(httpd):
    def handle(q):
        q.answer("".join("%s: %s\n" % f for f in q.fields.items()))
    with backend.Backend(handle) as behind, \
            httpd("ProxyPass /b/ http://127.0.0.1:%d/" % behind.port,
                  "proxy proxy_http") as server:
        with upgrade.upgrade(server, path="/b/x") as c:
            text = c.wait(c.first).text
            assert "host: " in text
            assert "upgrade: " not in text and "http2-settings" not in text
            assert c.request(path="/b/y").status == 200


# --- the client's settings ---

def test_initial_window_size(server):
    with upgrade.upgrade(server, path="/big", windows=False, settings={
            h2raw.INITIAL_WINDOW_SIZE: 1000}) as c:
        c.wait_body(c.first, 1000)
        c.ping()
        assert len(c.first.body) == 1000
        other = c.get("/big")
        c.wait_body(other, 1000)
        c.ping()
        assert len(other.body) == 1000 and not other.done
        c.credit(500, 1)
        c.wait_body(c.first, 1500)
        c.ping()
        assert len(c.first.body) == 1500


def test_max_frame_size(server):
    with upgrade.upgrade(server, path="/big", settings={
            h2raw.INITIAL_WINDOW_SIZE: 1 << 20,
            h2raw.MAX_FRAME_SIZE: 60000}) as c:
        c.credit(1 << 20)
        assert len(c.wait(c.first).body) == SIZE
        assert max(len(p) for p in c.first.pieces) <= 60000


@pytest.mark.parametrize("push", [0, 1])
def test_enable_push(server, push):
    with upgrade.upgrade(server, path="/push/index.html", settings={
            h2raw.ENABLE_PUSH: push, h2raw.MAX_CONCURRENT_STREAMS: 10}) as c:
        r = c.wait(c.first)
        assert r.text == "hello\n"
        assert r.promised_paths == ["/pushed"] * push
        c.wait_pushed(r)
        assert all(p.text == "hello\n" for p in r.promises)


# --- that it is not done ---

@pytest.mark.parametrize("kw", [
    {"settings": ""},
    {"connection": "Upgrade"},
    {"connection": "HTTP2-Settings"},
    {"connection": "keep-alive"},
    {"protocol": "h2"},
    {"protocol": "h2c-17"},
    {"protocol": "H3"},
    {"protocol": None},
    {"version": "1.0"},
], ids=str)
def test_not_asked_well(server, kw):
    assert is_http1(upgrade.ask(server, **kw)) == b"hello\n"


def test_two_settings_fields(server):
    """RFC 7540, section 3.2.1: MUST NOT upgrade."""
    two = [("HTTP2-Settings", upgrade.encode({h2raw.ENABLE_PUSH: 0}))]
    assert is_http1(upgrade.ask(server, fields=two)) == b"hello\n"
    assert is_http1(upgrade.ask(server, settings="AAAA, AAAA")) == b"hello\n"


@pytest.mark.parametrize("settings,is_encoded", [
    ("A", False), ("AAAA", False), ("AAAAAAAAAA", False), ("!!!!!!!!", False),
    ("AAMAAABk=", False), ("AAMA AABk", False),
    ("AAIAAAAC", True), ("AASAAAAA", True), ("AAUAAAAA", True)])
def test_bad_settings(server, settings, is_encoded):
    """An answer over HTTP/1.1, or an error of the new connection: never
    silence.  What is no more than badly encoded may be overlooked."""
    answer = upgrade.ask(server, settings=settings)
    if answer.status != 101:
        is_http1(answer, 400 if answer.status == 400 else 200)
        return
    with upgrade.Upgraded(answer.sock, answer.rest) as c:
        c.pump(lambda: c.first.done or c.goaways)
        if is_encoded or not c.first.done:
            assert c.goaway_code not in (None, h2raw.NO_ERROR)


@pytest.mark.parametrize("setting,value,code", [
    (h2raw.ENABLE_PUSH, 2, h2raw.PROTOCOL_ERROR),
    (h2raw.INITIAL_WINDOW_SIZE, 1 << 31, h2raw.FLOW_CONTROL_ERROR),
    (h2raw.MAX_FRAME_SIZE, 16383, h2raw.PROTOCOL_ERROR),
    (h2raw.MAX_FRAME_SIZE, 1 << 24, h2raw.PROTOCOL_ERROR)])
@pytest.mark.parametrize("method,body", [("GET", b""), ("POST", b"hello")])
def test_invalid_settings(server, method, body, setting, value, code):
    """Values that no SETTINGS frame may have (RFC 9113, section 6.5.2): the
    connection ends as it does for such a frame, without a response and with
    one line in the log; the request is not run."""
    mark, handled = server.log_mark(), inside.counters(server)["handled"]
    with upgrade.upgrade(server, method, "/t/echo", body=body,
                         settings={setting: value}) as c:
        c.wait_closed()
        assert c.goaway_code == code and c.goaways[-1][0] == 0
        assert not c.first.headers and not c.first.done
    assert inside.counters(server)["handled"] == handled
    server.wait_log(r"closing the connection with", mark)
    lines = [line for line in server.error_text()[mark:].splitlines()
             if "[h2x:" in line]
    assert len(lines) == 1, lines
    still_served(server)


def still_served(server):
    with server.h2(tls=False) as c:
        still_good(c)


def test_second_request(server):
    """Only the first on a connection; the others are as ever."""
    with server.connect(tls=False) as sock:
        for _ in range(3):
            sock.sendall(b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n")
            assert upgrade.Answer(sock).status == 200
            sock.sendall(upgrade.request())
            answer = upgrade.Answer(sock)
            assert (answer.status, answer.read()) == (200, b"hello\n")


@pytest.mark.parametrize("protocol", ["h2c", "h2"])
def test_over_tls(server, protocol):
    answer = upgrade.send(server, upgrade.request(protocol=protocol),
                          tls=True)
    assert is_http1(answer) == b"hello\n"


@pytest.mark.parametrize("host,path,is_taken", [
    ("localhost", "/index.html", True),
    ("localhost", "/off/index.html", False),
    ("localhost", "/access/index.html", False),
    ("one.test", "/index.html", False),
    ("one.test", "/on/index.html", True),
    ("two.test", "/index.html", False),
    ("three.test", "/index.html", True)])
def test_directive(server, host, path, is_taken):
    if is_taken:
        with upgrade.upgrade(server, host=host, path=path) as c:
            assert c.wait(c.first).text == "hello\n"
    else:
        answer = upgrade.ask(server, host=host, path=path)
        assert is_http1(answer) == b"hello\n"


def test_off_for_the_server(httpd):
    with httpd("H2Upgrade off") as server:
        server.write("index.html", "hello\n")
        assert is_http1(upgrade.ask(server)) == b"hello\n"
        with server.h2(tls=False) as c:         # H2Direct is another matter
            still_good(c)


@pytest.mark.parametrize("host,size", [("localhost", 65537),
                                       ("three.test", 2001)])
def test_body_larger_than_memory(server, host, size):
    data = b"x" * size
    answer = upgrade.ask(server, "POST", "/t/upload", host=host, body=data,
                         fields=[("Connection", "close")])
    assert (answer.version, answer.status) == ("HTTP/1.1", 200)


def test_body_as_large_as_memory(server):
    data = b"x" * 2000
    with upgrade.upgrade(server, "POST", "/t/upload", host="three.test",
                         body=data) as c:
        assert c.wait(c.first).text == digest(data)


def test_chunked_body(server):
    answer = upgrade.ask(
        server, "POST", "/t/upload", [("Transfer-Encoding", "chunked")],
        b"3\r\nabc\r\n0\r\n\r\n")
    assert is_http1(answer).decode() == digest(b"abc")


def test_expectation(server):
    sent = upgrade.request("POST", "/t/upload", body=b"abc",
                           fields=[("Expect", "100-continue")])
    with server.connect(tls=False) as sock:
        sock.sendall(sent[:-3])
        assert upgrade.Answer(sock).status == 100
        sock.sendall(sent[-3:])
        answer = upgrade.Answer(sock)
        assert answer.status == 200
        assert answer.read().decode() == digest(b"abc")


def test_body_over_its_limit(server):
    """413, in whichever protocol."""
    answer = upgrade.ask(server, "POST", "/small/upload", body=b"x" * 1001)
    if answer.status == 101:
        with upgrade.Upgraded(answer.sock, answer.rest) as c:
            assert c.wait(c.first).status == 413
    else:
        assert answer.status == 413
        answer.sock.close()


def check_no_upgrade(httpd, **kw):
    with httpd() as server:
        server.write("index.html", "hello\n")
        answer = upgrade.ask(server, **kw)
        assert (answer.version, answer.status) == ("HTTP/1.1", 200)
        assert answer.read() == b"hello\n"
        # the connection is as good as before
        answer.sock.sendall(b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert upgrade.Answer(answer.sock).status == 404
        answer.sock.close()
        server.wait_access(1, uri="/none")
        entries = server.access(uri="/index.html")
        assert [(e["proto"], e["status"]) for e in entries] == [
            ("HTTP/1.1", "200")]


@pytest.mark.h2x_only("answers 101")
@pytest.mark.parametrize("settings", [
    "!!!!!!!!", "A", "AAAA", "AAMAAABkAAQA", "AAMAAABk=", "AAMA AABk",
    "AAMAAABk, AAMAAABk"])
def test_malformed_settings(httpd, settings):
    """HTTP2-Settings in no base64url or of a wrong length: the request is one
    of HTTP/1.1."""
    check_no_upgrade(httpd, settings=settings)


@pytest.mark.h2x_only("answers 101")
def test_settings_twice(httpd):
    one = upgrade.encode({h2raw.ENABLE_PUSH: 0})
    check_no_upgrade(httpd, settings=one, fields=[("HTTP2-Settings", one)])


# --- clients that break it ---

def test_preface_with_the_request(server):
    """In one packet, before the 101."""
    settings = h2raw.SettingsFrame(settings={h2raw.ENABLE_PUSH: 0})
    answer = upgrade.send(server, upgrade.request() + h2raw.PREFACE
                          + settings.serialize())
    assert answer.status == 101
    with upgrade.Upgraded(answer.sock, answer.rest, greet=False) as c:
        c.ack = True
        assert c.wait(c.first).text == "hello\n"
        still_good(c)


def test_preface_in_pieces(server):
    with upgrade.upgrade(server, greet=False, windows=False) as c:
        c.wait(c.first)
        data = h2raw.PREFACE + h2raw.SettingsFrame().serialize()
        for i in range(len(data)):
            c.raw(data[i:i + 1])
        still_good(c)


def test_http1_request_in_place_of_preface(server):
    answer = upgrade.send(server, upgrade.request() + b"GET / HTTP/1.1\r\n"
                          b"Host: localhost\r\n\r\n" * 2)
    assert answer.status == 101
    with upgrade.Upgraded(answer.sock, answer.rest, greet=False) as c:
        c.wait_closed()
        assert c.goaway_code in (None, h2raw.PROTOCOL_ERROR)
    server.wait_log("did not send the preface")


@pytest.mark.parametrize("greet", [True, False])
def test_client_leaves(server, greet):
    """After the 101, with the response under way."""
    mark = server.access_mark()
    with upgrade.upgrade(server, path="/t/big?n=50000000", windows=False,
                         greet=greet) as c:
        c.wait_headers(c.first)
        c.abort()
    server.wait_access(1, since=mark, uri="/t/big", stream="1")
    wait_for(lambda: not server.connections(), what="connections to end")


def test_reset_of_first_stream(server):
    with upgrade.upgrade(server, path="/t/big?n=50000000",
                         windows=False) as c:
        c.wait_headers(c.first)
        c.reset(1)
        c.credit(1 << 20)
        still_good(c)


def test_body_that_does_not_come(server):
    """The client leaves in the middle of it."""
    sent = upgrade.request("POST", "/t/upload", body=b"x" * 1000)
    for count in (1, 500, 999):
        with server.connect(tls=False) as sock:
            sock.sendall(sent[:-count])
            sock.shutdown(1)
            while sock.recv(65536):
                pass
    assert server.http1(tls=False, path="/index.html").status == 200


def test_first_stream_is_half_closed(server):
    """RFC 7540, section 3.2: the request is complete, so DATA is an error."""
    with upgrade.upgrade(server, path="/t/wait?gate=9") as c:
        c.until(lambda: c.settings_seen, what="SETTINGS")
        c.data(1, b"more")
        try:
            c.pump(lambda: c.goaways or c.first.done)
        finally:
            inside.open_gate(server, 9)
        assert c.goaway_code == h2raw.STREAM_CLOSED \
            or c.first.reset == h2raw.STREAM_CLOSED
    inside.close_gates(server)


# --- the connection afterwards ---

@pytest.mark.parametrize("mpm", ["event", "worker"])
def test_mpms(httpd, mpm):
    with httpd("KeepAliveTimeout 3", mpm=mpm) as server:
        server.write("index.html", "hello\n")
        with upgrade.upgrade(server) as c:
            assert c.wait(c.first).text == "hello\n"
            asked = [c.get("/t/wait?ms=20") for _ in range(20)]
            c.wait(*asked)
            assert all(r.text == "waited\n" for r in asked)
            # then it is idle, and ends
            assert c.wait_closed(20)
            assert c.goaway_code == h2raw.NO_ERROR


STATUS = """
<Location /server-status>
    SetHandler server-status
</Location>
"""


def test_no_thread_is_held(httpd):
    """With event, by more connections than there are threads: half of them
    are idle, half of them have a client that takes nothing."""
    with httpd(STATUS, "status", mpm="event") as server, \
            contextlib.ExitStack() as stack:
        files(server)
        for path, window in [("/index.html", 65535), ("/big", 0)] * 15:
            c = stack.enter_context(upgrade.upgrade(
                server, path=path, windows=False,
                settings={h2raw.INITIAL_WINDOW_SIZE: window}))
            c.wait_headers(c.first)
        wait_for(lambda: inside.busy(server) <= 1, what="threads to be free")
        c.credit(SIZE)
        c.credit(SIZE, 1)
        assert len(c.wait(c.first).body) == SIZE


def test_prefork(httpd):
    """Serves no HTTP/2, and says so by not changing."""
    with httpd(mpm="prefork") as server:
        server.write("index.html", "hello\n")
        assert is_http1(upgrade.ask(server)) == b"hello\n"


@pytest.mark.parametrize("how", [signal.SIGUSR1, signal.SIGWINCH])
def test_graceful(httpd, how):
    """What runs is finished; then the connection ends."""
    with httpd() as server:
        with upgrade.upgrade(server, path="/t/wait?ms=1500") as c:
            late = c.get("/t/wait?ms=1500")
            c.ping()
            old = server.children()
            server.signal(how)
            c.wait(c.first, late, timeout=20)
            assert c.first.text == late.text == "waited\n"
            assert c.wait_closed(20)
            assert c.goaway_code == h2raw.NO_ERROR
            wait_for(lambda: not any(proc.alive(pid) for pid in old), 20,
                     "the old generation to end")
        if how == signal.SIGWINCH:
            server.wait_gone()


@pytest.mark.h2x_only("takes no body with an Upgrade")
def test_memory_of_upgrade(httpd):
    """The window of the configuration is no measure for what a body needs."""
    def peak():
        sizes = []
        for pid in server.children():
            with open("/proc/%d/status" % pid) as f:
                sizes.append(int(re.search(r"VmPeak:\s+(\d+) kB",
                                           f.read())[1]))
        return max(sizes)

    with httpd("H2WindowSize 2147483647") as server:
        server.write("x", "x")
        assert server.http1(path="/x").status == 200
        before = peak()
        for kw in ({"path": "/x"},
                   {"method": "POST", "path": "/t/upload", "body": b"b"}):
            with upgrade.upgrade(server, **kw) as c:
                assert c.wait(c.first).status == 200
        assert peak() - before < 1 << 20


@pytest.mark.h2x_only("lets PINGs keep it")
def test_pings_do_not_keep_an_upgraded(httpd):
    """A thread is held for a connection that was upgraded: without streams it
    ends after KeepAliveTimeout, whatever PINGs come."""
    with httpd("KeepAliveTimeout 1\nTimeout 20") as server:
        server.write("x", "x")
        with upgrade.upgrade(server, path="/x") as c:
            c.wait(c.first)
            end = time.monotonic() + 8 * PATIENCE
            with contextlib.suppress(OSError):      # it is being closed
                while not c.closed and time.monotonic() < end:
                    c.send(h2raw.PingFrame(opaque_data=b"stay up!"))
                    c.idle(.1)
            c.pump(lambda: c.closed or time.monotonic() > end)
            assert c.closed and c.pongs
            assert c.goaway_code in (None, h2raw.NO_ERROR)


# --- real clients ---

def test_curl(server):
    mark = server.access_mark()
    answer = clients.curl(server, "/index.html", "--http2", tls=False,
                          http2=False)
    assert (answer.rc, answer.version, answer.body) == (0, "2", b"hello\n")
    assert answer.heads[0][0].startswith("HTTP/1.1 101")
    assert len(server.wait_access(1, since=mark)) == 1


@pytest.mark.parametrize("size", [10, 60000])
def test_curl_post(server, size, tmp_path):
    (tmp_path / "data").write_bytes(b"d" * size)
    answer = clients.curl(
        server, "/t/upload", "--http2", "-H", "Expect:", "--data-binary",
        "@%s" % (tmp_path / "data"), tls=False, http2=False)
    assert (answer.rc, answer.version) == (0, "2")
    assert answer.body.decode() == digest(b"d" * size)


@pytest.mark.parametrize("args", [
    ("--head",), ("-X", "OPTIONS"),
    ("-H", "Expect: 100-continue", "--data-binary", "x" * 2000)])
def test_curl_others(server, args):
    answer = clients.curl(server, "/t/ignore", "--http2", *args, tls=False,
                          http2=False)
    assert (answer.rc, answer.status) == (0, 200)


def test_curl_several_on_one_connection(server):
    url = server.url("/index.html", False)
    result = clients.run(
        ["curl", "-q", "-sS", "--http2", "-w", "%{http_version} "
         "%{num_connects},", url, "-o", "/dev/null", url, "-o", "/dev/null",
         url, "-o", "/dev/null"])
    assert (result.rc, result.out) == (0, b"2 1,2 0,2 0,")


def test_nghttp(server):
    result = clients.nghttp(server, "/index.html", "/big", args=["-u"],
                            tls=False)
    assert result.rc == 0
    out = result.out.decode()
    assert "HTTP Upgrade success" in out
    assert out.count(":status: 200") == 2
    assert "hello\n" in out


@pytest.mark.parametrize("args", [["-d", "/etc/hostname"]])
def test_nghttp_upload(server, args):
    """It upgrades by OPTIONS * first."""
    result = clients.nghttp(server, "/t/upload", args=["-u"] + args,
                            tls=False)
    assert result.rc == 0 and b"HTTP Upgrade success" in result.out
    assert b"md5 " in result.out
