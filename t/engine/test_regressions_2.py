"""More faults that were found by trying, each with what showed it.  A server
whose child crashes fails its tests when it is stopped."""

import array
import contextlib
import fcntl
import os
import re
import socket
import ssl
import struct
import termios
import time

import pytest

from lib import backend, h2raw, upgrade, websocket
from lib.server import PATIENCE, wait_for

WS_MODULES = "proxy proxy_http alias"
SCRIPTS = """
<Directory ${HTDOCS}/cgi>
    Options ExecCGI
    SetHandler cgi-script
</Directory>
"""
CGI = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"


def cpu(server):
    """Nanoseconds that all threads of the children have run."""
    total = 0
    for pid in server.children():
        base = "/proc/%d/task" % pid
        for tid in os.listdir(base):
            with contextlib.suppress(OSError):
                with open("%s/%s/schedstat" % (base, tid)) as f:
                    total += int(f.read().split()[0])
    if not total:
        pytest.skip("the kernel does not tell times of threads")
    return total


def waiting(sock):
    """Bytes that can be read."""
    size = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, size)
    return size[0]


# --- children that crashed ---

@pytest.mark.parametrize("alert", [b"", b"\x15\x03\x03\x00\x02\x02\x28"],
                         ids=["close", "alert"])
def test_client_leaves_in_tls_handshake(httpd, alert):
    """mod_ssl frees its SSL when a handshake fails; the origins of h2 were
    read from it."""
    with httpd(env={"MALLOC_PERTURB_": "165"}) as server:
        server.write("x", "x")
        children = wait_for(server.children, what="children")
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.tls_port),
                                          10 * PATIENCE) as sock:
                said = ssl.MemoryBIO()
                tls = server.tls_context().wrap_bio(
                    ssl.MemoryBIO(), said, server_hostname="localhost")
                with pytest.raises(ssl.SSLWantReadError):
                    tls.do_handshake()
                sock.sendall(said.read())
                assert sock.recv(65536)
                # in place of Finished
                sock.sendall(alert)
        wait_for(lambda: not server.connections(), what="connections to end")
        with server.h2() as c:
            assert c.request(path="/x").text == "x"
        assert server.children() == children


@pytest.mark.h2x_only("sends all promises after GOAWAY")
def test_goaway_while_promises_wait(httpd):
    """A client that takes no more promises, while some wait for room."""
    links = ", ".join("</%d.css>;rel=preload" % i for i in range(30))
    config = ('SendBufferSize 16384\n<Location /page>\n'
              'Header set Link "%s"\n</Location>\n' % links)
    with httpd(config, "headers") as server:
        server.write("page", "page\n")
        for i in range(30):
            server.write("%d.css" % i, "c")
        children = wait_for(server.children, what="children")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        with h2raw.Connection(sock, {h2raw.ENABLE_PUSH: 1}) as c:
            # each promise repeats it: they do not fit into the socket
            r = c.get("/page", {"cookie": "x" * 8000})
            wait_for(lambda: waiting(sock) > 2048, what="a full socket")
            c.goaway()
            c.wait(r)
            assert len(c.promises) < 30
            c.pump(lambda: False, 10)
        assert server.http1(path="/page").status == 200
        assert server.children() == children


# --- what costs too much ---

def test_priorities_of_idle_streams(httpd):
    """Of a client that does not acknowledge the limit of streams, there may
    be signals for very many that it never opens: the last cost no more than
    the first."""
    def updates(count, first):
        return b"".join(
            struct.pack(">HBBBLL", 0, 7, 0x10, 0, 0, first + 2 * i) + b"u=1"
            for i in range(count))

    with httpd("H2Guard 0\n") as server, \
            server.h2(tls=False, ack=False) as c:
        c.until(lambda: c.settings_seen, what="SETTINGS")
        costs, first = [], 1
        for count in (10000, 50000, 10000):
            before = cpu(server)
            c.raw(updates(count, first))
            assert c.ping(timeout=60)
            first += 2 * count
            costs.append(cpu(server) - before)
        assert costs[2] < 3 * costs[0], costs


@pytest.mark.h2x_only("takes all links that there are")
def test_very_many_links(httpd):
    """Of the links of a response, only so many are looked at."""
    links = ["</first>;rel=preload"] + ["<a>;rel=x"] * 4000
    links += ["</last>;rel=preload"]

    def handle(q):
        q.answer("ok", fields="".join(
            "Link: %s\r\n" % ", ".join(links[at:at + 400])
            for at in range(0, len(links), 400)))

    with backend.Backend(handle) as behind:
        config = "ProxyPass /b/ http://127.0.0.1:%d/" % behind.port
        with httpd(config, "proxy proxy_http") as server, \
                server.h2(settings={h2raw.ENABLE_PUSH: 1}) as c:
            r = c.get("/b/page")
            c.wait_pushed(r)
            assert (r.status, r.text) == (200, "ok")
            assert r.promised_paths == ["/first"]


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


# --- timeouts ---

BY_DIRECTIVE = "Timeout 1\nH2StreamTimeout 20\n"
BY_HOST = """
Timeout 1
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName two.test
    SSLEngine on
</VirtualHost>
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName localhost
    SSLEngine on
    Timeout 20
</VirtualHost>
"""


@pytest.mark.parametrize("config", [BY_DIRECTIVE, BY_HOST],
                         ids=["directive", "host"])
def test_upload_may_pause(httpd, config):
    """H2StreamTimeout, or the Timeout of the request's host, is for bodies
    too, whatever the default host has."""
    with httpd(config) as server, server.h2() as c:
        r = c.start(c.fields("POST", "/t/upload"), end=False)
        c.data(r.id, b"12345")
        c.idle(2.5)
        assert not r.done, (r, r.text)
        c.data(r.id, b"67890", end=True)
        c.wait(r)
        assert (r.status, r.reset) == (200, None)


@pytest.mark.h2x_only("lets the less urgent go as well")
@pytest.mark.parametrize("path", ["/cgi/large", "/t/big?n=2000000"])
def test_less_urgent_waits_its_turn(httpd, path):
    """Output that has to wait for what is more urgent, and is taken steadily,
    is not cut off: the client does take something."""
    with httpd("H2StreamTimeout 1\n" + SCRIPTS, "cgid") as server:
        server.write("cgi/large", CGI + "head -c 2000000 /dev/zero\n", 0o755)
        os.truncate(server.write("urgent", b""), 1 << 30)
        window = 2 ** 31 - 1
        with server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: window},
                       windows=False) as c:
            urgent = c.get("/urgent", {"priority": "u=0"})
            c.wait_body(urgent, 60000)
            other = c.get(path, {"priority": "u=7"})
            end = time.monotonic() + 3.5
            while time.monotonic() < end and not other.done:
                c.credit(100000)
                c.idle(.05)
            assert not other.done, other
            size = len(urgent.body)
            c.reset(urgent.id)
            c.credit(1 << 30)
            c.wait(other)
            assert size > 1000000
            assert (other.ended, len(other.body)) == (True, 2000000)


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


# --- WebSockets ---

WS_HOSTS = """
%%s
ProxyPass /ws/ http://127.0.0.1:%d/ upgrade=websocket
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName localhost
    SSLEngine on
    %%s
</VirtualHost>
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName one.test
    SSLEngine on
    %%s
    Redirect 403 /refused
    ProxyPass /refused !
    ProxyPass /ws/ http://127.0.0.1:%d/ upgrade=websocket
</VirtualHost>
"""


@pytest.fixture(scope="module")
def ws():
    with websocket.Server({"/echo": websocket.echo}) as one:
        yield one


@pytest.fixture(scope="module")
def ws_config(ws):
    return WS_HOSTS % (ws.port, ws.port)


def echoes(c, path="/ws/echo"):
    w = websocket.Socket(c, path).opened()
    w.say("hello")
    assert w.hear() == "hello"
    w.close()
    return w.response


def test_websockets_in_one_host(httpd, ws_config):
    """The default host need not have them."""
    config = ws_config % ("", "", "H2WebSockets on")
    with httpd(config, WS_MODULES) as server:
        with server.h2(sni="one.test", authority="one.test") as c:
            assert websocket.connect_protocol(c) == 1
            echoes(c)
        with server.h2() as c:
            assert websocket.connect_protocol(c) is None


@pytest.mark.parametrize("path", ["/ws/echo", "/refused"])
def test_websockets_off_at_target(httpd, ws_config, path):
    """Refused before the host's own rules are asked."""
    config = ws_config % ("H2WebSockets on", "", "H2WebSockets off")
    with httpd(config, WS_MODULES) as server, server.h2() as c:
        echoes(c)
        r = websocket.Socket(c, path, authority="one.test").response
        c.wait(r)
        assert (r.status, r.ended) == (501, True)


@pytest.mark.h2x_only("passes the 200 on")
@pytest.mark.parametrize("path", ["/index.html", "/t/env", "/fake/page"])
def test_page_is_no_websocket(httpd, path):
    """200 in answer to an extended CONNECT would say that there is one (RFC
    8441, section 5)."""
    with backend.Backend(lambda q: q.answer("a page")) as behind:
        config = ("H2WebSockets on\nProxyPass /fake/ "
                  "http://127.0.0.1:%d/ upgrade=websocket\n" % behind.port)
        with httpd(config, WS_MODULES) as server, server.h2() as c:
            server.write("index.html", "hello\n")
            r = c.wait(websocket.Socket(c, path).response)
            assert (r.status, r.reset) == (502, None)
            assert c.request(path="/index.html").text == "hello\n"


@pytest.mark.h2x_only("announces there too")
@pytest.mark.parametrize("push", [0, 1])
def test_nothing_is_announced_for_connect(httpd, ws_config, push):
    """No PUSH_PROMISE and no 103 on a stream that shall be a WebSocket."""
    config = ws_config % ("H2WebSockets on\nH2EarlyHints on\n"
                          "H2PushResource add /index.html", "", "")
    with httpd(config, WS_MODULES) as server:
        server.write("index.html", "hello\n")
        with server.h2(settings={h2raw.ENABLE_PUSH: push}) as c:
            none = c.wait(websocket.Socket(c, "/none").response)
            for r in (echoes(c), none):
                assert (r.promises, r.interim) == ([], [])
            r = c.get("/index.html?other")
            c.wait(r)           # here, they are wanted
            assert bool(r.promises) == (push == 1)
            assert bool(r.interim) == (push == 0)


# --- h2c by Upgrade ---

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


# --- others ---

@pytest.mark.h2x_only("answers 500")
def test_backend_that_leaves(httpd):
    """502 as over HTTP/1.1.  There, mod_proxy_http closes a connection that
    had requests before, for its client to try again; a stream cannot."""
    with backend.Backend(lambda q: False) as behind:
        config = "ProxyPass /b/ http://127.0.0.1:%d/" % behind.port
        with httpd(config, "proxy proxy_http") as server, server.h2() as c:
            assert server.http1(path="/b/x").status == 502
            for _ in range(2):
                r = c.request(path="/b/x")
                assert (r.status, r.ended, r.reset) == (502, True, None)


@pytest.mark.h2x_only("has its pipes inherited")
def test_descriptors_of_scripts(httpd):
    """What tells a handler that more of a body has come is not for scripts:
    to them, all is as in a request without one."""
    with httpd(SCRIPTS, "cgi") as server:
        server.write("cgi/fds", CGI + "for f in /proc/$$/fd/*; do\n"
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
