"""RFC 9113, section 9.2: TLS beneath HTTP/2.  Ciphers, versions and ALPN
are in test_negotiation.py."""

import fcntl
import os
import ssl
import subprocess

import pytest

from lib import h2raw
from lib.conform import (  # noqa: F401
    conduct, pytest_generate_tests, unharmed)
from lib.h2raw import HTTP_1_1_REQUIRED
from lib.server import wait_for

HOST = """
    SSLCACertificateFile %s
    <Location /verified>
        SSLVerifyClient require
    </Location>
    <Location /ciphered>
        SSLCipherSuite ECDHE-RSA-AES256-GCM-SHA384
    </Location>
"""

HELLO_REQUEST, CERTIFICATE_REQUEST = 0, 13


@pytest.fixture(scope="module")
def server(httpd, certs):
    host = HOST % os.path.join(certs, "server.crt")
    with httpd(hosts={"localhost": host}) as one:
        one.write("index.html", "hello\n")
        one.write("verified/index.html", "verified\n")
        one.write("ciphered/index.html", "ciphered\n")
        yield one


def context_of(server, version, seen):
    """Notes in `seen` which handshake messages the server sends."""
    context = server.tls_context()
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(os.path.join(server.certs, "server.crt"),
                            os.path.join(server.certs, "server.key"))
    context.post_handshake_auth = True

    def note(conn, direction, version, content, kind, data):
        if direction == "read" and content == 22:       # handshake
            seen.append(int(kind))
    context._msg_callback = note
    return context


@pytest.mark.parametrize("version,path", [
    (ssl.TLSVersion.TLSv1_2, "/verified/index.html"),
    (ssl.TLSVersion.TLSv1_2, "/ciphered/index.html"),
    (ssl.TLSVersion.TLSv1_3, "/verified/index.html")],
    ids=["1.2-verify", "1.2-cipher", "1.3-verify"])
def test_9_2_1_no_renegotiation_for_a_request(server, version, path):
    """9.2.3 too: nor a certificate asked for after the handshake.  The
    request is refused, or sent to HTTP/1.1; others go on."""
    seen = []
    context = context_of(server, version, seen)
    with h2raw.Connection(server.connect(context=context)) as c:
        c.push, c.largest_frame = False, 16384
        assert c.request(path="/index.html").text == "hello\n"
        assert seen
        del seen[:]
        r = c.wait(c.get(path))
        assert r.reset == HTTP_1_1_REQUIRED or r.status == 403
        assert "ed\n" not in r.text
        unharmed(c)
        conduct(c)
    assert HELLO_REQUEST not in seen and CERTIFICATE_REQUEST not in seen


def test_9_2_1_client_may_not_renegotiate(server):
    """openssl s_client does so when it reads R; the handshake must fail."""
    client = subprocess.Popen(
        ["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.tls_port,
         "-alpn", "h2", "-tls1_2", "-servername", "localhost"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    said = bytearray()

    def has(what):
        said.extend(client.stdout.read() or b"")
        return what in said
    try:
        fcntl.fcntl(client.stdout, fcntl.F_SETFL, os.O_NONBLOCK)
        wait_for(lambda: has(b"Extended master secret"), 10, "handshake")
        client.stdin.write(h2raw.PREFACE + b"\0\0\0\4\0\0\0\0\0")
        client.stdin.flush()
        wait_for(lambda: has(b"\0\0\0\4\1\0\0\0\0"), 10, "ACK of SETTINGS")
        client.stdin.write(b"R")
        client.stdin.flush()
        wait_for(lambda: client.poll() is not None, 10, "the end")
        assert has(b"RENEGOTIATING") and has(b"no renegotiation")
    finally:
        client.kill()
        client.communicate()
