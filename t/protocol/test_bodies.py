"""Bodies of all sizes, both ways, byte for byte."""

import hashlib
import os

import pytest

from lib import clients, h2raw

CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
"""
MODULES = "cgid alias"

SIZES = [0, 1, 100, 16383, 16384, 16385, 32768, 65535, 65536, 65537, 1000000]
HUGE = 20 * 1024 * 1024


def pattern(size):
    """Bytes in which a shift or a lost piece shows."""
    block = hashlib.sha512(b"h2x").digest() + bytes(range(251))
    return (block * (size // len(block) + 1))[:size]


def summary(data):
    return "length %d\nmd5 %s\n" % (len(data), hashlib.md5(data).hexdigest())


def alphabet(size):
    return (b"abcdefghijklmnopqrstuvwxyz" * (size // 26 + 1))[:size]


def files(server):
    for size in SIZES + [HUGE]:
        server.write("file%d" % size, pattern(size))
    server.write("cgi/sum", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'"
                 "\nmd5sum | cut -d' ' -f1\n", 0o755)


@pytest.mark.parametrize("size", SIZES)
def test_file(any_h2, size):
    r = any_h2.request(path="/file%d" % size)
    assert (r.status, r.ended) == (200, True)
    assert r.header("content-length") == str(size)
    assert bytes(r.body) == pattern(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [0, 1])
def test_memory(h2, size, length):
    r = h2.request(path="/t/big?n=%d&length=%d" % (size, length))
    assert (r.status, r.ended) == (200, True)
    assert bytes(r.body) == alphabet(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [False, True])
def test_upload(any_h2, size, length):
    data = pattern(size)
    r = any_h2.request("POST", "/t/upload", body=data, length=length)
    assert (r.status, r.text) == (200, summary(data))


@pytest.mark.parametrize("size", SIZES)
def test_echo(h2, size):
    r = h2.request("PUT", "/t/echo", body=pattern(size))
    assert r.status == 200 and bytes(r.body) == pattern(size)


@pytest.mark.parametrize("size", [0, 1, 65536, 1000000])
@pytest.mark.parametrize("length", [False, True])
def test_cgi(h2, size, length):
    data = pattern(size)
    r = h2.request("POST", "/cgi/sum", body=data, length=length)
    assert (r.status, r.text.strip()) == (200, hashlib.md5(data).hexdigest())


@pytest.mark.parametrize("tls", [True, False])
def test_huge_file(server, tls):
    answer = clients.curl(server, "/file%d" % HUGE, tls=tls)
    assert (answer.rc, answer.status, answer.version) == (0, 200, "2")
    assert answer.body == pattern(HUGE)


@pytest.mark.parametrize("args", [(), ("-H", "Content-Length:")])
def test_huge_upload(server, args):
    answer = clients.curl(server, "/t/upload", "-T",
                          server.path("htdocs", "file%d" % HUGE), *args)
    assert answer.rc == 0, answer.err
    assert answer.body.decode() == summary(pattern(HUGE))


def test_huge_echo(server):
    answer = clients.curl(server, "/t/echo", "-X", "POST", "--data-binary",
                          "@" + server.path("htdocs", "file%d" % HUGE))
    assert (answer.rc, answer.body) == (0, pattern(HUGE))


def test_small_frames(h2):
    """One byte a frame, and empty frames between."""
    r = h2.start(h2.fields("POST", "/t/upload"), end=False)
    for byte in b"abcdef":
        h2.send(h2raw.DataFrame(r.id, bytes([byte])),
                h2raw.DataFrame(r.id, b""))
    h2.data(r.id, b"", end=True)
    assert h2.wait(r).text == summary(b"abcdef")


def test_padded_frames(h2):
    """Padding is no part of the body, and its credit comes back."""
    r = h2.start(h2.fields("POST", "/t/upload"), end=False)
    for i in range(600):
        h2.until(lambda: h2.allowed(r.id) >= 266, what="credit")
        if i % 10 == 0:
            h2.data(r.id, b"")
        h2.send(h2raw.DataFrame(r.id, b"0123456789", pad_length=255,
                                flags=["PADDED"]))
        h2.window -= 266
        h2.stream_windows[r.id] -= 266
        h2.poll()
    h2.data(r.id, b"", end=True)
    assert h2.wait(r).text == summary(b"0123456789" * 600)


def test_end_by_headers(h2):
    """A body ended by trailers rather than by DATA."""
    r = h2.request("POST", "/t/upload", body=b"body", trailers=[("x-t", "1")])
    assert r.text == summary(b"body")


@pytest.mark.parametrize("size", [1, 100000])
def test_body_not_read(server, h2, size):
    """The handler answers without reading: the client gets all of the answer
    (RFC 9113, 8.1), and the connection goes on."""
    r = h2.start(h2.fields("POST", "/t/ignore"), end=False)
    h2.upload(r, pattern(size), end=False)
    h2.until(lambda: r.done, what="end of the response")
    assert (r.status, r.text) == (200, "ignored\n")
    assert r.reset in (None, h2raw.NO_ERROR)
    for _ in range(5):
        r = h2.request("POST", "/t/upload", body=pattern(100000))
        assert r.text == summary(pattern(100000))


@pytest.mark.h2x_only("resets the stream before the response is out")
def test_body_not_read_curl(server):
    """A refusal reaches curl.  (After an early 200, curl 7.88 waits for ever,
    with nginx too.)"""
    answer = clients.curl(server, "/t/status?code=403", "-X", "POST",
                          "--data-binary",
                          "@" + server.path("htdocs", "file%d" % HUGE))
    assert answer.status == 403 and b"Forbidden" in answer.body, answer.err


def test_body_not_read_nghttp(server):
    out = clients.nghttp(server, "/t/ignore", args=[
        "-d", server.path("htdocs", "file%d" % HUGE)]).out.decode()
    assert ":status: 200" in out and "\nignored\n" in out


def test_unread_bodies_give_credit_back(h2):
    """What handlers leave unread must not use up the connection's window."""
    for _ in range(40):
        r = h2.request("POST", "/t/ignore", body=b"x" * 60000)
        assert r.status == 200
    r = h2.request("POST", "/t/upload", body=pattern(300000))
    assert r.text == summary(pattern(300000))


def test_many_bodies_at_once(server):
    """Uploads and downloads mixed on one connection."""
    with server.h2() as c:
        data = pattern(150000)
        down = [c.get("/file1000000") for _ in range(5)]
        up = [c.start(c.fields("POST", "/t/upload"), end=False)
              for _ in range(5)]
        for offset in range(0, len(data), 30000):
            for r in up:
                c.upload(r, data[offset:offset + 30000],
                         end=offset + 30000 >= len(data))
        c.wait(*down + up, timeout=20)
        assert all(bytes(r.body) == pattern(1000000) for r in down)
        assert all(r.text == summary(data) for r in up)


def test_files_change_between_requests(server, h2):
    path = server.write("changing", b"first")
    assert h2.request(path="/changing").body == b"first"
    server.write("changing.new", b"second one")
    os.rename(server.path("htdocs", "changing.new"), path)
    assert h2.request(path="/changing").body == b"second one"


@pytest.mark.parametrize("directive", [
    "EnableSendfile on", "EnableSendfile off", "EnableMMAP off",
    "H2CopyFiles on", "H2MaxDataFrameLen 1000", "H2OutputBuffering off"])
def test_ways_to_send(httpd, directive):
    """Directives that change how bytes travel do not change the bytes."""
    with httpd(directive) as server:
        for size in (0, 10, 20000, 1000000):
            server.write("file%d" % size, pattern(size))
        for tls in (True, False):
            with server.h2(tls) as c:
                asked = [c.get("/file%d" % n) for n in (0, 10, 20000, 1000000)]
                c.wait(*asked)
                assert [bytes(r.body) for r in asked] == [
                    pattern(n) for n in (0, 10, 20000, 1000000)]
                if "DataFrame" in directive:
                    assert max(len(p) for r in asked
                               for p in r.pieces) == 1000
