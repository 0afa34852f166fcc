"""mod_remoteip: the client's address from a PROXY header before TLS or the
preface, and from a request field; in logs, rules and requests."""

import socket
import struct

import pytest

from lib import h2raw, http1
from lib.server import PATIENCE, wait_for
from lib.together import Case, age, ask, assert_same

BASE = """
CustomLog ${DIR}/addresses.log "%q %a %{c}a %h"
Header always set X-Addr "expr=%{REMOTE_ADDR} %{CONN_REMOTE_ADDR}"
<Location /rule>
    Require ip 192.0.2.7 2001:db8::7
</Location>
"""
FIELD = BASE + """
RemoteIPHeader X-Forwarded-For
RemoteIPInternalProxy 127.0.0.1 10.0.0.0/8
"""
PROXY = "RemoteIPProxyProtocol On"
MODULES = "remoteip headers authz_host"


def make(httpd, config, host=""):
    server = httpd(config, MODULES, hosts={"localhost": host})
    server.write("page.txt", "page\n")
    server.write("rule/page.txt", "allowed\n")
    age(server)
    return server


@pytest.fixture(scope="module")
def server(httpd):
    """Believes a request field."""
    with make(httpd, FIELD) as server:
        yield server


@pytest.fixture(scope="module")
def proxied(httpd):
    """Wants a PROXY header on each connection."""
    with make(httpd, BASE + PROXY, PROXY) as server:
        yield server


def logged(server, query):
    """%a, %{c}a and %h of the requests with this query."""
    def lines():
        with open(server.path("addresses.log")) as f:
            found = [line.split() for line in f]
        return [x[1:] for x in found if x[0] == "?" + query]
    wait_for(lines, 10, "the log of " + query)
    return lines()


# --- a request field ---------------------------------------------------------

@pytest.mark.parametrize("value,address,status", [
    ("192.0.2.7", "192.0.2.7", 200), ("2001:db8::7", "2001:db8::7", 200),
    ("192.0.2.7, 10.1.2.3", "192.0.2.7", 200),
    ("192.0.2.7, 192.0.2.9", "192.0.2.9", 403),
    ("nonsense", "127.0.0.1", 403), ("", "127.0.0.1", 403)])
def test_field(server, value, address, status):
    fields = {"x-forwarded-for": value}
    page, rule = assert_same(server, [Case("GET", "/page.txt", fields),
                                      Case("GET", "/rule/page.txt", fields)])
    assert {r.header("x-addr") for r in page + rule} == {
        address + " 127.0.0.1"}
    assert {r.status for r in page} == {200}
    assert {r.status for r in rule} == {status}


def test_field_of_each_stream(server, h2):
    """Streams of one connection have each its own address."""
    asked = ask(h2, [Case("GET", "/rule/page.txt?each%d" % i, {
        "x-forwarded-for": "192.0.2.%d" % i}) for i in range(20)])
    for i, r in enumerate(asked):
        address = "192.0.2.%d" % i
        assert r.header("x-addr") == address + " 127.0.0.1"
        assert r.status == (200 if i == 7 else 403)
        assert logged(server, "each%d" % i) == [
            [address, "127.0.0.1", address]]


def test_field_is_used_up(server):
    """The handler sees what is left of the field, and no more."""
    def kept(response):
        return [line for line in response.text.lower().splitlines()
                if line.startswith(("x-forwarded-for:", "remote_addr:"))]
    for value, left in (
            ("192.0.2.7", []), ("192.0.2.8, 192.0.2.7, 10.1.2.3",
                                ["x-forwarded-for: 192.0.2.8"])):
        one = server.http1(path="/t/env", headers={"x-forwarded-for": value})
        with server.h2() as c:
            two = c.request(path="/t/env", headers={"x-forwarded-for": value})
        assert kept(two) == left + ["remote_addr: 192.0.2.7"]
        assert kept(two) == kept(one)


# --- the PROXY protocol ------------------------------------------------------

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ADDR_4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("127.0.0.1") \
    + struct.pack(">HH", 4321, 443)
ADDR_6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) \
    + struct.pack(">HH", 4321, 443)


def v2(command=1, family=0x11, address=b""):
    """Version 2: binary."""
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family,
                                   len(address)) + address


LOCAL = v2(command=0, family=0)
GOOD = [
    pytest.param(b"PROXY TCP4 192.0.2.7 127.0.0.1 4321 443\r\n", "192.0.2.7",
                 id="v1"),
    pytest.param(b"PROXY TCP6 2001:db8::7 ::1 4321 443\r\n", "2001:db8::7",
                 id="v1-6"),
    pytest.param(v2(address=ADDR_4), "192.0.2.7", id="v2"),
    pytest.param(v2(family=0x21, address=ADDR_6), "2001:db8::7", id="v2-6"),
    pytest.param(LOCAL, "127.0.0.1", id="v2-local"),
]
BAD = [
    pytest.param(b"PROXY NONSENSE 192.0.2.7 127.0.0.1 4321 443\r\n", id="v1"),
    pytest.param(b"PROXY TCP4 nowhere 127.0.0.1 4321 443\r\n", id="address"),
    pytest.param(v2(command=7, address=ADDR_4), id="v2"),
    pytest.param(b"", id="none"),
]


def dial(server, header, tls, alpn="h2"):
    """A socket whose first bytes are the header."""
    port = server.tls_port if tls else server.port
    sock = socket.create_connection(("127.0.0.1", port),
                                    10 * PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(header)
    if tls:
        sock = server.tls_context([alpn]).wrap_socket(
            sock, server_hostname="localhost")
    return sock


def skip_unless_known(server, header):
    """mod_remoteip of httpd 2.4.69 does not know LOCAL, and says so."""
    if header == LOCAL:
        with dial(server, header, tls=False) as sock:
            sock.sendall(b"GET /page.txt HTTP/1.0\r\n\r\n")
            answer = sock.recv(100)
        if not answer and "AH03507: RemoteIPProxyProtocol: unsupported " \
                "command 20" in server.error_text():
            pytest.skip("this httpd's mod_remoteip refuses it")


@pytest.mark.parametrize("header,address", GOOD)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "cleartext"])
def test_proxy_header(proxied, header, address, tls):
    """As the peer of HTTP/1.1, so those of all streams."""
    skip_unless_known(proxied, header)
    query = "%s-%s-%d" % (address, tls, len(header))
    path = "/rule/page.txt?" + query
    one = http1.request(dial(proxied, header, tls, "http/1.1"), path=path)
    with h2raw.Connection(dial(proxied, header, tls)) as c:
        twos = ask(c, [Case("GET", path)] * 10)
    for r in [one] + twos:
        assert r.header("x-addr").split()[0] == address
        assert r.header("x-addr") == one.header("x-addr")
        assert r.status == (403 if address == "127.0.0.1" else 200)
    wait_for(lambda: len(logged(proxied, query)) == 11, 10, "log of all")
    assert {x[0] for x in logged(proxied, query)} == {address}
    assert len({tuple(x) for x in logged(proxied, query)}) == 1


@pytest.mark.h2x_only("wants all of the preface in one read")
@pytest.mark.parametrize("header,address", GOOD)
def test_proxy_header_and_preface(proxied, header, address):
    """In one segment, and byte by byte."""
    skip_unless_known(proxied, header)
    hello = h2raw.PREFACE + h2raw.SettingsFrame().serialize()
    with dial(proxied, header + hello, tls=False) as sock:
        with h2raw.Connection(sock, greet=False) as c:
            r = c.request(path="/page.txt")
            assert r.header("x-addr").split()[0] == address
    with dial(proxied, b"", tls=False) as sock:
        with h2raw.Connection(sock, greet=False) as c:
            for at in range(len(header + hello)):
                c.raw((header + hello)[at:at + 1])
            r = c.request("POST", "/t/upload", body=b"x" * 100000)
            assert r.header("x-addr").split()[0] == address
            assert r.text.startswith("length 100000\n")


def test_proxy_header_wins(proxied):
    """A field is believed only where the configuration says so."""
    header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4321 443\r\n"
    with h2raw.Connection(dial(proxied, header, True)) as c:
        r = c.request(path="/page.txt", headers={
            "x-forwarded-for": "192.0.2.99"})
    assert r.header("x-addr").split()[0] == "192.0.2.7"


def test_proxy_connections_apart(proxied):
    """Many connections at once, each from another client."""
    made = [h2raw.Connection(dial(
        proxied, b"PROXY TCP4 192.0.2.%d 127.0.0.1 4321 443\r\n" % i, i % 2))
        for i in range(10)]
    for _ in range(2):
        asked = [c.get("/page.txt") for c in made for _ in range(3)]
        for i, c in enumerate(made):
            for r in asked[3 * i:3 * i + 3]:
                c.wait(r)
                assert r.header("x-addr").split()[0] == "192.0.2.%d" % i
    for c in made:
        c.close()


@pytest.mark.parametrize("header", BAD)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "cleartext"])
def test_proxy_header_refused(proxied, header, tls):
    """A wrong header, or none: the connection ends without an answer."""
    mark = proxied.access_mark()
    try:
        with h2raw.Connection(dial(proxied, header, tls)) as c:
            r = c.get("/page.txt")
            c.wait_closed()
            assert not r.headers
    except OSError:
        pass                    # closed within the TLS handshake, or before
    header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4321 443\r\n"
    with h2raw.Connection(dial(proxied, header, tls)) as c:
        assert c.request(path="/page.txt?then").status == 200
    proxied.wait_access(1, since=mark, uri="/page.txt", query="?then")
    assert not proxied.access(since=mark, uri="/page.txt", query="")
