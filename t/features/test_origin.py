"""Which hosts a connection serves: the ORIGIN frame (RFC 8336) as H2Origin
wants it, and 421 with its reason in the log (RFC 9110, section 7.4)."""

import os
import re
import socket
import ssl
import struct
import subprocess

import pytest

from lib import clients, h2raw, server as lib_server
from lib.server import wait_for

MODULES = "headers"

ORIGIN = 0xc

#: In the certificate of nearly all.
NAMES = ["localhost", "same.test", "alias.test", "protocol.test",
         "cipher.test", "verify.test", "certificate.test", "http1.test",
         "port.test", "star.test", "six.test", "third.test", "*.wild.test"]

CONFIG = """
Listen 127.0.0.1:%(other)d
<VirtualHost 127.0.0.1:%(other)d>
    ServerName port.test
    ServerAlias localhost
    SSLEngine on
</VirtualHost>
"""
HOSTS = {
    "same.test": "ServerAlias alias.test *.any.test sub.wild.test same.test",
    "third.test": "ServerAlias not-in-certificate.test a.b.wild.test",
    "http1.test": "Protocols http/1.1",
    "protocol.test": "SSLProtocol TLSv1.2",
    "cipher.test": "SSLCipherSuite ECDHE-RSA-AES256-GCM-SHA384",
    "verify.test": "SSLVerifyClient optional_no_ca",
    "certificate.test": """
        SSLCertificateFile %(certs)s/second.crt
        SSLCertificateKeyFile %(certs)s/second.key""",
}

LISTED = ["localhost", "same.test", "alias.test", "sub.wild.test",
          "third.test"]


def make_certificate(directory, name, names, kind="rsa:2048"):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", kind, "-nodes",
         "-days", "30", "-subj", "/CN=" + names[0],
         "-addext", "subjectAltName=" + ",".join("DNS:" + n for n in names),
         "-keyout", os.path.join(directory, name + ".key"),
         "-out", os.path.join(directory, name + ".crt")],
        check=True, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def own_certs(session_dir):
    path = os.path.join(session_dir, "origin")
    os.makedirs(path)
    make_certificate(path, "server", NAMES)
    make_certificate(path, "second", ["certificate.test", "second.test"])
    make_certificate(path, "third", ["localhost", "same.test"], "ed25519")
    return path


@pytest.fixture(scope="module")
def other_port():
    with lib_server.free_ports(1) as (port,):
        yield port


@pytest.fixture(scope="module")
def make(own_certs, test_module):
    def make(config="", origin="on", hosts=None, more=""):
        if origin:
            config = "H2Origin %s\n%s" % (origin, config)
        return lib_server.Server(
            config, "%s %s" % (MODULES, more), hosts=hosts, certs=own_certs,
            test_module=test_module)
    return make


@pytest.fixture(scope="module")
def server(make, own_certs, other_port):
    names = {"other": other_port, "certs": own_certs}
    hosts = {name: lines % names for name, lines in HOSTS.items()}
    with make(CONFIG % names, hosts=hosts) as server:
        server.write("index.html", "hello\n")
        yield server


def connect(server, sni="localhost", port=None, address="127.0.0.1",
            kind=None):
    """kind: of the key that the certificate shall have; TLS 1.2 then."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if kind:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-%s-AES128-GCM-SHA256" % kind)
    sock = socket.create_connection((address, port or server.tls_port), 10)
    sock = context.wrap_socket(sock, server_hostname=sni)
    return h2raw.Connection(sock, authority=sni or "localhost")


def origins(c):
    """What the ORIGIN frames of a connection list, and checks them."""
    c.request()         # they come before any response
    found = []
    for frame, (length, kind, flags, stream) in zip(c.frames, c.heads):
        if kind != ORIGIN:
            continue
        assert (flags, stream) == (0, 0)
        data = frame.body
        while data:
            size, = struct.unpack(">H", data[:2])
            found.append(data[2:2 + size].decode("ascii"))
            assert len(data) >= 2 + size
            data = data[2 + size:]
    assert len(found) == len(set(found))
    return found


def named(names, port):
    return sorted("https://%s:%d" % (name, port) for name in names)


pytestmark = pytest.mark.h2x_only("has no ORIGIN frame")


# --- the list ---

def test_listed(server):
    """Hosts with the same TLS, by names that are in the certificate."""
    with connect(server) as c:
        assert sorted(origins(c)) == named(LISTED, server.tls_port)
        assert isinstance(c.frames[0], h2raw.SettingsFrame)


def test_all_that_are_listed_are_served(server):
    with connect(server) as c:
        for origin in origins(c):
            authority = origin.partition("//")[2]
            r = c.request(path="/index.html", authority=authority)
            assert (r.status, r.text) == (200, "hello\n"), origin


@pytest.mark.parametrize("sni", ["same.test", "alias.test", "sub.wild.test",
                                 "third.test", None])
def test_same_list_from_others(server, sni):
    with connect(server, sni) as c:
        assert sorted(origins(c)) == named(LISTED, server.tls_port)


@pytest.mark.parametrize("sni", ["protocol.test", "cipher.test",
                                 "verify.test", "certificate.test"])
def test_host_with_tls_of_its_own(server, sni):
    """No frame, as the client has asked for that name."""
    with connect(server, sni) as c:
        assert origins(c) == []
        assert c.request(path="/index.html").text == "hello\n"


def test_other_port(server, other_port):
    with connect(server, "port.test", other_port) as c:
        assert sorted(origins(c)) == named(["port.test", "localhost"],
                                           other_port)


def test_not_over_cleartext(server):
    with server.h2(tls=False) as c:
        assert origins(c) == []
        assert c.request(path="/index.html").text == "hello\n"


def test_host_for_any_address(make, own_certs):
    """One that httpd does not look at for this address, as there are others
    that are for this address alone, is not listed."""
    config = """
    <VirtualHost 127.0.0.1:${TLS_PORT}>
        ServerName localhost
        SSLEngine on
        Header set x-host localhost
    </VirtualHost>
    <VirtualHost *:${TLS_PORT}>
        ServerName star.test
        SSLEngine on
        Header set x-host star
    </VirtualHost>
    """
    with make(config) as server:
        server.write("index.html", "hello\n")
        with connect(server) as c:
            r = c.request(path="/index.html", authority="star.test")
            assert r.header("x-host") != "star"
            assert origins(c) == []


def test_hosts_for_any_address(make):
    config = """
    <VirtualHost *:${TLS_PORT}>
        ServerName localhost
        SSLEngine on
    </VirtualHost>
    <VirtualHost _default_:${TLS_PORT}>
        ServerName star.test
        SSLEngine on
    </VirtualHost>
    """
    with make(config) as server, connect(server) as c:
        assert sorted(origins(c)) == named(["localhost", "star.test"],
                                           server.tls_port)


def test_tls_set_for_all(make):
    """Settings outside of virtual hosts hold for all, if not overridden;
    those that are written twice are not the less the same."""
    with make("SSLProtocol TLSv1.2 TLSv1.3\nSSLVerifyDepth 3", hosts={
            "same.test": "sslprotocol TLSv1.2 TLSv1.3",
            "protocol.test": "SSLProtocol TLSv1.3"}) as server, \
            connect(server) as c:
        assert sorted(origins(c)) == named(["localhost", "same.test"],
                                           server.tls_port)


def test_included_hosts(make):
    """Virtual hosts in files of their own, and in sections."""
    config = """
    Include ${DIR}/htdocs/hosts/*.conf
    <IfModule mod_ssl.c>
        <VirtualHost 127.0.0.1:${TLS_PORT}>
            ServerName protocol.test
            SSLEngine on
            <IfModule mod_ssl.c>
                SSLProtocol TLSv1.2
            </IfModule>
        </VirtualHost>
    </IfModule>
    """
    server = make(config)
    # the first, so that it is the default
    for name in ("0localhost", "same.test"):
        server.write("hosts/%s.conf" % name, """
        <VirtualHost 127.0.0.1:${TLS_PORT}>
            ServerName %s
            SSLEngine on
        </VirtualHost>
        """ % name.lstrip("0"))
    with server, connect(server) as c:
        assert sorted(origins(c)) == named(["localhost", "same.test"],
                                           server.tls_port)
        mark = server.log_mark()
        assert c.request(authority="protocol.test").status == 421
        server.wait_log("SSLProtocol", since=mark)


def test_many_names(make):
    """More than there is room for: a part of them, whole."""
    names = ["n%03d.wild.test" % i for i in range(1000)]
    with make(hosts={"localhost": "ServerAlias " + " ".join(names)}) \
            as server, connect(server) as c:
        found = origins(c)
        assert 100 < len(found) <= 1001
        assert all(length <= 4096 for length, kind, _, _ in c.heads
                   if kind == ORIGIN)
        assert set(found) <= set(named(names + ["localhost"],
                                       server.tls_port))
        assert c.request(path="/t/env").status == 200


def test_lower_case(make):
    """RFC 8336, section 2.1: as RFC 6454, section 6.2, writes them."""
    config = """
    <VirtualHost 127.0.0.1:${TLS_PORT}>
        ServerName LocalHost
        ServerAlias Same.TEST
        SSLEngine on
    </VirtualHost>
    """
    with make(config) as server, connect(server) as c:
        assert sorted(origins(c)) == named(["localhost", "same.test"],
                                           server.tls_port)


def test_after_graceful_restart(make):
    with make() as server:
        with connect(server) as c:
            assert origins(c) == []
        server.hosts = {"localhost": "ServerAlias same.test"}
        server.write_config()
        server.graceful()

        def both():
            with connect(server) as c:
                return sorted(origins(c)) == named(
                    ["localhost", "same.test"], server.tls_port)
        wait_for(both, what="the new name to be listed")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_ipv6(make):
    """Hosts at another address are not here."""
    config = """
    Listen [::1]:${TLS_PORT}
    <VirtualHost 127.0.0.1:${TLS_PORT} [::1]:${TLS_PORT}>
        ServerName localhost
        SSLEngine on
    </VirtualHost>
    <VirtualHost [::1]:${TLS_PORT}>
        ServerName six.test
        SSLEngine on
    </VirtualHost>
    <VirtualHost 127.0.0.1:${TLS_PORT}>
        ServerName same.test
        SSLEngine on
    </VirtualHost>
    """
    with make(config) as server:
        with connect(server, address="::1") as c:
            assert sorted(origins(c)) == named(["localhost", "six.test"],
                                               server.tls_port)
        with connect(server) as c:
            assert sorted(origins(c)) == named(["localhost", "same.test"],
                                               server.tls_port)


@pytest.mark.skipif(not clients.have("node"), reason="node is not installed")
def test_node(server):
    """A client that takes note of the frame."""
    script = """
    const session = require('http2').connect(process.argv[1],
                                             {rejectUnauthorized: false});
    session.on('origin', origins => {
        console.log(session.originSet.concat(origins).join(' '));
        session.close();
    });
    session.on('error', e => { console.error(e); process.exit(1); });
    """
    result = clients.run(["node", "-e", script, server.url("")], check=True)
    assert sorted(set(result.out.decode().split())) == named(
        LISTED, server.tls_port)


# --- H2Origin ---

def has_frame(c):
    c.request()
    return any(kind == ORIGIN for _, kind, _, _ in c.heads)


def test_off_by_default(make):
    with make(origin=None, hosts={"same.test": ""}) as server:
        for sni in ("localhost", "same.test", None):
            with connect(server, sni) as c:
                assert not has_frame(c)


@pytest.mark.parametrize("sni", ["localhost", "other.wild.test"])
def test_no_frame_without_another_name(make, sni):
    """Go's client logs the frame as one that it does not know."""
    with make(origin=sni) as server:
        with connect(server, sni) as c:
            assert not has_frame(c)
        with connect(server, None) as c:
            assert origins(c) == named([sni], server.tls_port)


def test_hosts_that_are_off(make):
    """A host can have that for itself; nobody else lists it then."""
    with make(hosts={"same.test": "", "third.test": "H2Origin off"}) as server:
        with connect(server) as c:
            assert sorted(origins(c)) == named(["localhost", "same.test"],
                                               server.tls_port)
        with connect(server, "third.test") as c:
            assert not has_frame(c)


def test_on_for_one_host(make):
    """Others, for which nothing is said, are listed."""
    hosts = {"localhost": "H2Origin on", "same.test": ""}
    with make(origin=None, hosts=hosts) as server:
        with connect(server) as c:
            assert sorted(origins(c)) == named(["localhost", "same.test"],
                                               server.tls_port)
        with connect(server, "same.test") as c:
            assert not has_frame(c)
    with make(origin="off", hosts=hosts) as server, connect(server) as c:
        assert not has_frame(c)


def test_names(make):
    """Just these, which need not be hosts of this server, in place of those of
    the server config."""
    hosts = {
        "alias.test": "H2Origin off",
        "same.test": "H2Origin verify.test x.Wild.TEST",
        "third.test": "H2Origin verify.test\nH2Origin on",
        "six.test": "H2Origin on\nH2Origin port.test",
    }
    expected = {
        "localhost": ["cipher.test", "third.test"], "alias.test": [],
        "same.test": ["verify.test", "x.wild.test"],
        "third.test": ["localhost", "same.test", "six.test", "third.test"],
        "six.test": ["port.test"],
    }
    with make(origin="third.test cipher.test", hosts=hosts) as server:
        for sni, names in expected.items():
            with connect(server, sni) as c:
                assert sorted(origins(c)) == named(names, server.tls_port)
        assert "H2Origin" not in server.error_text()


def test_names_are_at_most_4_kb(make):
    names = ["n%03d.wild.test" % i for i in range(1000)]
    with make(hosts={"localhost": "H2Origin " + " ".join(names)}) \
            as server, connect(server) as c:
        found = origins(c)
        assert found == named(names, server.tls_port)[:len(found)]
        assert 100 < len(found)
        assert all(length <= 4096 for length, _, _, _ in c.heads)


LEFT_OUT = "H2Origin of host %s: %s is left out, certificate .*/%s does not"


def test_names_that_the_certificate_lacks(make, own_certs):
    """Are told at the start, once for hosts that have all of that in common,
    and not to clients."""
    config = "Define CERTS %s\n" % own_certs \
        + "<VirtualHost 127.0.0.1:${PORT}>\nServerName plain.test\n" \
          "H2Origin plain.test\n</VirtualHost>\n"
    with make(config, "same.test second.test a.b.wild.test wild.test "
              "x.wild.test", hosts={
                  "same.test": "",
                  "certificate.test": """
                      H2Origin same.test second.test
                      SSLCertificateFile "${CERTS}/second.crt"
                      SSLCertificateKeyFile "${CERTS}/second.key"
                  """}) as server:
        said = server.error_text()
        for name in ("second.test", "a.b.wild.test", "wild.test"):
            assert len(re.findall(LEFT_OUT % (
                r"\S+", re.escape(name), "server.crt"), said)) == 1
        assert len(re.findall(LEFT_OUT % (
            "certificate.test", "same.test", "second.crt"), said)) == 1
        assert said.count("H2Origin") == 4
        with connect(server) as c:
            assert sorted(origins(c)) == named(["same.test", "x.wild.test"],
                                               server.tls_port)
        with connect(server, "certificate.test") as c:
            assert origins(c) == named(["second.test"], server.tls_port)


def test_several_certificates(make, own_certs):
    """Each is looked at, and what a client is told is for the one it gets."""
    lines = ["H2Origin same.test third.test"]
    lines += ["SSLCertificate%s %s/%s.%s" % (kind, own_certs, name, end)
              for name in ("server", "third")
              for kind, end in (("File", "crt"), ("KeyFile", "key"))]
    with make(hosts={"localhost": "\n".join(lines)}) as server:
        said = server.error_text()
        assert re.search(LEFT_OUT % ("localhost", "third.test", "third.crt"),
                         said)
        assert said.count("H2Origin") == 1
        for kind, names in (("RSA", ["same.test", "third.test"]),
                            ("ECDSA", ["same.test"])):
            with connect(server, kind=kind) as c:
                assert origins(c) == named(names, server.tls_port)


@pytest.mark.skipif(not lib_server.have_module("md"), reason="no mod_md")
def test_certificate_of_another_module(make, own_certs, monkeypatch):
    """Where no file is named, the log says so, and clients are told what is in
    the certificate that they see."""
    prologue = "".join(line for line in lib_server.PROLOGUE.splitlines(True)
                       if "SSLCertificate" not in line)
    monkeypatch.setattr(lib_server, "PROLOGUE", prologue)
    config = """
    MDStoreDir ${DIR}/md
    <MDomainSet localhost>
        MDCertificateFile %s/third.crt
        MDCertificateKeyFile %s/third.key
    </MDomainSet>
    """ % (own_certs, own_certs)
    with make(config, hosts={"localhost": "H2Origin same.test third.test"},
              more="md watchdog") as server:
        said = server.error_text()
        assert said.count("H2Origin of host localhost: cannot read its "
                          "certificate (there is no SSLCertificateFile)") == 1
        with connect(server) as c:
            assert origins(c) == named(["same.test"], server.tls_port)


@pytest.mark.parametrize("value", [
    "https://a.test", "a.test:443", "*.a.test", "a..test", ".a.test",
    "a.test.", "-a.test", "a/b", "[::1]", "a.test on", "off a.test",
    "a.test b,c", ""])
def test_wrong_value(make, value):
    status, said = make(
        hosts={"localhost": "H2Origin " + value}).try_start()
    wrong = next((w for w in value.split() if not re.fullmatch(
        r"[ab]\.test", w)), "")
    assert status == 1
    assert "H2Origin '%s': must be on, off, or names of hosts" % wrong \
        in " ".join(said.split())


# --- 421 ---

@pytest.mark.parametrize("host,parameter", [
    ("protocol.test", "SSLProtocol"), ("cipher.test", "SSLCipherSuite"),
    ("verify.test", "SSLVerifyClient"),
    ("certificate.test", "SSLCertificateFile")])
def test_misdirected(server, host, parameter):
    """Either way; the log names what differs."""
    for sni, wanted in (("localhost", host), (host, "localhost")):
        with connect(server, sni) as c:
            mark = server.log_mark()
            r = c.request(path="/index.html", authority=wanted)
            assert r.status == 421 and r.ended
            server.wait_log("connection for %s used for %s, whose %s differs"
                            % (sni, wanted, parameter), since=mark)
            r = c.request(path="/index.html", authority=sni)
            assert r.text == "hello\n"


def test_misdirected_to_http1(server):
    with connect(server) as c:
        mark = server.log_mark()
        assert c.request(authority="http1.test").status == 421
        server.wait_log("Protocols of host http1.test does not have h2",
                        since=mark)


def test_not_misdirected(server):
    """Names that are not listed, as the certificate lacks them, or that
    nobody has, are served where TLS is the same."""
    with connect(server) as c:
        for host in ("not-in-certificate.test", "x.any.test", "nobody.test",
                     "a.b.wild.test"):
            r = c.request(path="/index.html", authority=host)
            assert r.text == "hello\n", host


def test_log_has_no_421_otherwise(server):
    mark = server.log_mark()
    with connect(server) as c:
        for host in ("same.test", "alias.test", "localhost"):
            assert c.request(path="/index.html",
                             authority=host).status == 200
    assert not re.search("used for|does not have", server.error_text()[mark:])
