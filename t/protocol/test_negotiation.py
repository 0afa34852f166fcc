"""Which connections become HTTP/2, and that the others notice nothing."""

import socket
import ssl

import pytest

from lib import clients, h2raw

CONFIG = """
SSLProtocol all -SSLv3
SSLCipherSuite ALL:@SECLEVEL=0
"""
HOSTS = {
    "localhost": "Header always set x-vhost default",
    "one.test": "Header always set x-vhost one",
    "two.test": """
        Protocols http/1.1
        Header always set x-vhost two""",
    "three.test": "H2ModernTLSOnly off",
}
MODULES = "headers"

TWO = ("h2", "http/1.1")


def files(server):
    server.write("index.html", "hello\n")


def speaks_h2(connection):
    """True if the server answers the preface with SETTINGS."""
    connection.pump(lambda: connection.settings_seen, 5)
    return bool(connection.settings_seen)


@pytest.mark.parametrize("sni,offer,chosen", [
    ("localhost", TWO, "h2"),
    ("localhost", ("http/1.1", "h2"), "h2"),
    ("localhost", ("http/1.1",), "http/1.1"),
    ("localhost", None, None),
    ("one.test", TWO, "h2"),
    ("two.test", TWO, "http/1.1"),
    ("two.test", ("http/1.1",), "http/1.1"),
])
def test_alpn(server, sni, offer, chosen):
    with server.connect(alpn=offer, sni=sni) as sock:
        assert sock.selected_alpn_protocol() == chosen


def test_alpn_order(httpd):
    """Without ProtocolsHonorOrder the client's order decides."""
    with httpd("ProtocolsHonorOrder off") as server:
        with server.connect(alpn=("http/1.1", "h2")) as sock:
            assert sock.selected_alpn_protocol() == "http/1.1"
        with server.connect(alpn=TWO) as sock:
            assert sock.selected_alpn_protocol() == "h2"


def test_unknown_alpn(server):
    """h2c is no ALPN name: it is not taken over TLS."""
    try:
        with server.connect(alpn=("h2c", "spdy/3")) as sock:
            assert sock.selected_alpn_protocol() in (None, "http/1.1")
    except ssl.SSLError as e:
        # mod_ssl falls back to http/1.1, which was not offered.
        assert "NO_APPLICATION_PROTOCOL" in str(e) or "BAD_EXT" in str(e)


@pytest.mark.parametrize("host,version", [
    ("localhost", "2"), ("one.test", "2"), ("two.test", "1.1")])
def test_virtual_hosts(server, host, version):
    answer = clients.curl(server, "/", host=host)
    assert (answer.version, answer.status) == (version, 200)
    assert answer.header("x-vhost") == host.split(".")[0].replace(
        "localhost", "default")


def test_other_host_on_connection(server):
    """RFC 9113, 9.1.1: another host of the certificate is served, unless
    h2 is not for it: 421, and its own HTTP/1.1 goes on working."""
    with server.h2() as c:
        assert c.request(authority="one.test:%d" % server.tls_port
                         ).header("x-vhost") == "one"
        assert c.request(authority="localhost").status == 200


@pytest.mark.h2x_only("serves a host whose Protocols has no h2")
def test_misdirected(server):
    mark = server.access_mark()
    with server.h2() as c:
        assert c.request(authority="two.test").status == 421
        assert c.request(authority="localhost").status == 200
    assert server.wait_access(1, since=mark, final="421")


# --- TLS --------------------------------------------------------------

def old_tls(server, ciphers, version=ssl.TLSVersion.TLSv1_2):
    context = server.tls_context(TWO)
    context.set_ciphers(ciphers + ":@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


#: mod_http2 asks for the cipher before it is known, chooses h2, and then
#: closes with INADEQUATE_SECURITY; and it asks the default virtual host.
LATE = pytest.mark.h2x_only("finds the weak cipher after choosing h2")


def late(*values):
    return pytest.param(*values, marks=LATE)


@pytest.mark.parametrize("cipher,sni,chosen", [
    ("ECDHE-RSA-AES128-GCM-SHA256", "localhost", "h2"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "localhost", "h2"),
    late("ECDHE-RSA-AES128-SHA", "localhost", "http/1.1"),
    late("ECDHE-RSA-AES256-SHA384", "localhost", "http/1.1"),
    late("AES128-GCM-SHA256", "localhost", "http/1.1"),
    late("AES256-SHA256", "localhost", "http/1.1"),
    late("ECDHE-RSA-AES128-SHA", "three.test", "h2"),
    late("AES256-SHA256", "three.test", "h2"),
])
def test_modern_tls_only(server, cipher, sni, chosen):
    """H2ModernTLSOnly: no cipher of RFC 9113, appendix A."""
    context = old_tls(server, cipher)
    with server.connect(context=context, sni=sni) as sock:
        assert sock.cipher()[0] == cipher
        assert sock.selected_alpn_protocol() == chosen
        if chosen == "h2":
            assert h2raw.Connection(sock).request().status == 200


@LATE
def test_weak_tls_is_logged(httpd):
    """With a name for the connection, which nobody may have given it yet, and
    the cipher, which is not yet in use."""
    with httpd(CONFIG + "LogLevel warn h2x:debug\n", MODULES) as server:
        files(server)
        with server.connect(context=old_tls(server, "AES256-SHA256")):
            server.wait_log(r"h2x\([\w./+-]+\): no HTTP/2 with TLSv1\.2 and "
                            r"AES256-SHA256, see H2ModernTLSOnly")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("sni,chosen", [("localhost", "http/1.1"),
                                        late("three.test", "h2")])
def test_tls_1_1(server, sni, chosen):
    try:
        context = old_tls(server, "ALL", ssl.TLSVersion.TLSv1_1)
        with server.connect(context=context, sni=sni) as sock:
            assert sock.selected_alpn_protocol() == chosen
    except (ssl.SSLError, ValueError) as e:
        pytest.skip("this OpenSSL speaks no TLS 1.1: %s" % e)


@LATE
def test_only_h2_offered_over_weak_tls(server):
    """Nothing in common: no h2 by any path."""
    context = server.tls_context(("h2",))
    context.set_ciphers("ECDHE-RSA-AES128-SHA:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with server.connect(context=context) as sock:
            assert sock.selected_alpn_protocol() in (None, "http/1.1")
    except ssl.SSLError as e:
        # mod_ssl falls back to http/1.1, which was not offered.
        assert "NO_APPLICATION_PROTOCOL" in str(e) or "BAD_EXT" in str(e)


# --- cleartext --------------------------------------------------------

@pytest.mark.parametrize("config,tls,alpn,h2", [
    ("Protocols h2c http/1.1", False, None, True),
    ("Protocols h2c http/1.1\nH2Direct on", False, None, True),
    ("Protocols h2c http/1.1\nH2Direct off", False, None, False),
    ("Protocols h2 http/1.1", False, None, False),
    ("Protocols h2 http/1.1\nH2Direct on", False, None, False),
    ("Protocols h2 http/1.1\nH2Direct on", True, None, True),
    ("Protocols h2 http/1.1", True, None, False),
    ("Protocols h2c http/1.1", True, None, False),
    ("Protocols http/1.1", True, TWO, False),
])
def test_direct(httpd, config, tls, alpn, h2):
    with httpd(config) as server:
        with h2raw.Connection(server.connect(tls, alpn=alpn)) as c:
            try:
                assert speaks_h2(c) == h2
            except Exception:
                # An answer in HTTP/1.1 is no frame at all.
                assert not h2
            if h2:
                assert c.request(path="/t/env").status == 200
        assert server.http1("GET", "/t/env", tls=tls).status == 200


@pytest.mark.h2x_only("now and then takes a preface in pieces for HTTP/1.1")
def test_preface_in_pieces(server):
    """The preface may come byte by byte."""
    with server.connect(tls=False) as sock:
        for byte in h2raw.PREFACE:
            sock.sendall(bytes([byte]))
        c = h2raw.Connection(sock, greet=False)
        c.send(h2raw.SettingsFrame())
        assert c.request().status == 200


def test_preface_with_requests(server):
    """Preface, SETTINGS and requests in one packet."""
    with server.connect(tls=False) as sock:
        c = h2raw.Connection(sock, greet=False)
        out = bytearray()
        c.raw, send = out.extend, c.raw
        c.greet()
        asked = [c.get(), c.get("/index.html")]
        c.raw = send
        c.raw(bytes(out))
        c.wait(*asked)
        assert [r.status for r in asked] == [200, 200]


# --- HTTP/1.1 on the same ports ---------------------------------------

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


def read_http1(sock, until):
    sock.settimeout(10)
    got = b""
    while until not in got:
        chunk = sock.recv(65536)
        assert chunk, "closed after %r" % got
        got += chunk
    return got


@pytest.mark.parametrize("tls", [True, False])
def test_http1_keep_alive_and_pipelining(server, tls):
    with server.connect(tls, alpn=("http/1.1",)) as sock:
        one = b"GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n"
        sock.sendall(one)
        assert b"HTTP/1.1 200" in read_http1(sock, b"hello\n")
        sock.sendall(one + one.replace(b"GET", b"HEAD") + one.replace(
            b"index.html", b"t/env").replace(b"\r\n\r\n",
                                             b"\r\nConnection: close\r\n\r\n"))
        got = read_http1(sock, b"protocol:")
        assert got.count(b"HTTP/1.1 200") == 3
        assert b"Upgrade: h2" not in got


@pytest.mark.parametrize("first", [b"P", b"PO", b"G", b"PRI", b"PRI * HTTP/"])
def test_http1_in_pieces(server, first):
    """What begins like the preface and is none stays HTTP/1.1."""
    request = b"POST /t/upload HTTP/1.1\r\nHost: localhost\r\n" \
              b"Content-Length: 3\r\n\r\nabc"
    if not request.startswith(first):
        request = first + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server.connect(tls=False) as sock:
        sock.sendall(request[:len(first)])
        assert server.http1(tls=False).status == 200    # nobody is held up
        sock.sendall(request[len(first):])
        got = read_http1(sock, b"\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 ")
        if request.startswith(b"POST"):
            assert b" 200 " in got.split(b"\r\n")[0]


def test_http10(server):
    with server.connect(tls=False) as sock:
        sock.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        assert b" 200 OK" in read_http1(sock, b"hello\n")
        assert sock.recv(10) == b""


def test_silent_connection(server):
    """A client that says nothing costs others nothing."""
    with server.connect(tls=False), \
            socket.create_connection(("127.0.0.1", server.tls_port)):
        assert server.http1().status == 200
        with server.h2() as c:
            assert c.request().status == 200


@pytest.mark.h2x_only("advertises h2 over TLS")
def test_no_upgrade_header_over_tls(server):
    assert server.http1().header("upgrade") is None


def test_websocket_upgrade_left_alone(server):
    """An Upgrade that is not ours is answered as without the module."""
    answer = server.http1(headers={"connection": "upgrade",
                                   "upgrade": "websocket"})
    assert answer.status == 200


# --- together with mod_http2 ------------------------------------------

@pytest.mark.h2x_only("is the other module")
def test_refuses_mod_http2(httpd):
    status, said = httpd(load="both").try_start()
    assert status not in (0, None)
    lines = [line for line in said.splitlines() if "http2_module" in line]
    assert len(lines) == 1 and "LoadModule" in lines[0], said
