"""Faults that were found by trying, each with what showed it."""

import os
import socket
import time

import pytest

from hyperframe.frame import PingFrame

from lib import h2raw, inside

CONFIG = """
Timeout 20
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Directory ${DIR}/htdocs/listed>
    Options +Includes +Indexes
    HeaderName HEADER.shtml
    ReadmeName README.shtml
    DirectoryIndex none
    IndexOptions +SuppressHTMLPreamble
</Directory>
<Directory ${DIR}/htdocs/copied>
    H2CopyFiles on
    H2StreamTimeout 2
</Directory>
"""
MODULES = "include autoindex alias"

TEXT = b"line\n" * 72000


def files(server):
    server.write("index.html", "hello\n")
    for name in ("HEADER.shtml", "README.shtml"):
        server.write("listed/" + name, TEXT)
    server.write("copied/steady", b"y" * 3000000)
    server.write("ranges", bytes(range(256)) * 16000)
    os.truncate(server.write("big", b""), 200 << 20)


def test_map_of_a_subrequest(server, h2):
    """A mapped file ends with the subrequest that it was mapped for."""
    r = h2.request(path="/listed/")
    assert r.status == 200 and r.body.count(TEXT) == 2


def test_file_shrinks_while_copied(server):
    """With H2CopyFiles the rest is not needed; it must not be mapped."""
    path = server.write("copied/shrinks", b"x" * 1000000)
    with server.h2(windows=False) as c:
        r = c.get("/copied/shrinks")
        c.wait_body(r, 65535)
        os.truncate(path, 0)
        c.credit(1 << 20)
        c.credit(1 << 20, r.id)
        c.pump(lambda: r.done, 5)
        assert r.reset not in (None, h2raw.NO_ERROR)
        assert c.request(path="/index.html").status == 200


@pytest.mark.h2x_only("gives a whole response its stream timeout")
def test_steady_reader(server):
    """H2StreamTimeout is about progress: who takes a little all the time may
    take longer than that for the whole."""
    with server.h2(windows=False) as c:
        c.credit(1 << 30)
        began = time.monotonic()
        r = c.get("/copied/steady")
        while not r.done and time.monotonic() - began < 30:
            c.credit(100000, r.id)
            c.idle(.12)
        assert time.monotonic() - began > 2.5
        assert (r.ended, len(r.body), r.reset) == (True, 3000000, None)


def test_ranges_share_a_descriptor(server):
    """A range each must not take a descriptor each."""
    wanted = "bytes=" + ",".join(
        "%d-%d" % (i * 20000, i * 20000 + 17000) for i in range(200))
    with server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: 0},
                   windows=False) as c:
        c.ping()
        before = server.descriptors()
        for _ in range(4):
            c.wait_headers(c.get("/ranges", {"range": wanted}))
        c.ping()
        assert server.descriptors() - before < 30


def full_connection(server):
    """A TLS connection whose client reads nothing, with a socket so full that
    not even a small frame finds room."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.tls_port))
    raw = os.dup(sock.fileno())
    c = h2raw.Connection(
        server.tls_context().wrap_socket(sock, server_hostname="localhost"),
        settings={h2raw.INITIAL_WINDOW_SIZE: 2 ** 31 - 1})
    c.credit(2 ** 31 - 1 - 65535)
    c.get("/t/wait?gate=2")
    c.get("/big")
    return c, raw


def test_alert_on_full_socket(server):
    """OpenSSL flushes its alerts; that must not block the thread which serves
    all connections whose own is busy."""
    with server.h2(tls=False) as good:
        waits = good.get("/t/wait?gate=1")
        good.ping()
        bad, raw = full_connection(server)
        # the pings' answers fill the last gap; one each time it has opened
        for _ in range(150):
            bad.send(PingFrame(0, b"12345678"))
            time.sleep(.01)
        os.write(raw, b"\x17\x03\x03\x00\x40" + b"z" * 64)
        began = time.monotonic()
        for _ in range(5):
            assert good.request(path="/index.html", timeout=60).status == 200
        took = time.monotonic() - began
        inside.open_gate(server, 1)
        inside.open_gate(server, 2)
        good.wait(waits)
        os.close(raw)
        bad.close()
        assert took < 10


@pytest.mark.parametrize("said", [b"P", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP"])
def test_half_a_preface(server, said):
    """A client that begins the preface and shuts down must not keep a thread
    at work."""
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        while sock.recv(4096):
            pass


def test_trailers_behind_a_length(server, h2):
    """Announced trailers arrive also when they come late, in a frame of their
    own behind a body of known length."""
    for _ in range(20):
        r = h2.start(h2.fields("POST", "/t/show-trailers", {
            "content-length": "4", "trailer": "x-late"}), end=False)
        h2.data(r.id, b"body")
        h2.ping()
        h2.trailers(r.id, [("x-late", "here")])
        h2.wait(r)
        assert "here" in r.text


@pytest.mark.h2x_only("has one stream timeout for all")
def test_earlier_deadline(server):
    """A stream with a short H2StreamTimeout does not wait for the deadline of
    one with a long one."""
    server.write("copied/stalls", b"x" * 20000)
    with server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: 0}) as c:
        c.wait_headers(c.get("/ranges"))
        short = c.get("/copied/stalls")
        assert c.pump(lambda: short.done, 10)
        assert short.reset not in (None, h2raw.NO_ERROR)


@pytest.mark.parametrize("code", [299, 418, 499, 599])
def test_unregistered_status(server, h2, code):
    """For a status without a reason phrase httpd answers 500, with a body."""
    r = h2.request(path="/t/status?code=%d" % code)
    one = server.http1(path="/t/status?code=%d" % code)
    assert (r.status, r.ended, r.reset) == (one.status, True, None)


def test_cut_off_is_logged_as_aborted(server, h2):
    mark = server.access_mark()
    r = h2.get("/big")
    h2.wait_body(r, 1000)
    h2.reset(r.id)
    entry, = server.wait_access(1, since=mark, proto="HTTP/2.0")
    assert entry["end"] == "X"


@pytest.mark.h2x_only("refuses it in other words")
def test_connect_is_refused(server, h2):
    r = h2.start([(":method", "CONNECT"), (":authority", "localhost:80")])
    h2.wait(r)
    assert r.status == 501
    assert h2.request(path="/index.html").status == 200


@pytest.mark.h2x_only("resets it")
def test_ids_are_used_again(server, h2):
    """mod_cgid keeps something for each connection id that it has seen."""
    def connection_id():
        text = h2.request(path="/t/env").text
        return next(line for line in text.splitlines()
                    if line.startswith("connection: "))
    assert len({connection_id() for _ in range(200)}) <= 8
