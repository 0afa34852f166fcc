"""H2TLSWarmUpSize and H2TLSCoolDownSecs: small TLS records at first, and after
silence."""

import socket
import ssl
import struct
import time

import pytest

from lib import h2raw

pytestmark = pytest.mark.h2x_only("its records are not small here")


class Recorder:
    """A TLS client that sees the length of each record it receives."""

    def __init__(self, sock, context, name):
        self.sock = sock
        self.raw = bytearray()
        self.records = []       # payload lengths of application data
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing,
                                    server_hostname=name)
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
        self._flush()
        self.records.clear()

    def _flush(self):
        self.sock.sendall(self.outgoing.read())

    def _feed(self):
        got = self.sock.recv(1 << 16)
        self.raw += got
        self.incoming.write(got)
        while len(self.raw) >= 5:
            kind, _, length = struct.unpack(">BHH", self.raw[:5])
            if len(self.raw) < 5 + length:
                break
            del self.raw[:5 + length]
            if kind == 23:
                self.records.append(length)
        return got

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def sendall(self, data):
        self.tls.write(data)
        self._flush()

    def recv(self, size):
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                if not self._feed():
                    return b""

    def close(self):
        self.sock.close()


def recording(server, version=ssl.TLSVersion.TLSv1_3):
    context = server.tls_context()
    context.minimum_version = context.maximum_version = version
    tcp = socket.create_connection(("127.0.0.1", server.tls_port), 10)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock = Recorder(tcp, context, "localhost")
    c = h2raw.Connection(sock, settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 26})
    c.scheme = "https"
    c.credit(1 << 26)
    c.until(lambda: c.settings_seen)
    c.ping()
    sock.records.clear()
    return c


SMALL = 1400    # what fits into one packet


def small_bytes(records):
    """Bytes before the first record that is not small; None: none is."""
    total = 0
    for length in records:
        if length > SMALL:
            return total
        total += length
    return None


@pytest.mark.parametrize("path", ["/big", "/t/big?n=3000000"])
@pytest.mark.parametrize("config,size,most", [
    ("H2TLSWarmUpSize 100000", 100000, 150000),
    ("H2TLSWarmUpSize 500000\nH2TLSCoolDownSecs 0", 500000, 580000),
    ("", 1 << 16, 80000),
    ("H2TLSWarmUpSize 0", 0, 0),
], ids=["100000", "500000", "unset", "0"])
def test_tls_warm_up(httpd, path, config, size, most):
    with httpd(config) as server:
        server.write("big", b"x" * 3000000)
        c = recording(server)
        r = c.request(path=path)
        assert len(r.body) == 3000000
        small = small_bytes(c.sock.records)
        assert max(c.sock.records) > 8000
        if size:
            assert size * 0.95 <= small <= most
        else:
            # the response head alone may be a record
            assert small <= 1000
        c.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2,
                                     ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("config,pause,cold", [
    ("", 1.5, True), ("", 0.2, False),
    ("H2TLSCoolDownSecs 2", 1.2, False), ("H2TLSCoolDownSecs 2", 2.5, True),
    ("H2TLSCoolDownSecs 0", 1.5, False),
], ids=["unset", "unset, soon", "2, soon", "2", "0"])
def test_tls_cool_down(httpd, version, config, pause, cold):
    """After silence records are small again, for as long as at first."""
    with httpd("H2TLSWarmUpSize 100000\n" + config) as server:
        server.write("big", b"x" * 1000000)
        c = recording(server, version)
        c.request(path="/big")
        assert max(c.sock.records) > 8000
        c.sock.records.clear()
        time.sleep(pause)
        c.request(path="/big")
        small = small_bytes(c.sock.records)
        if cold:
            assert 90000 <= small <= 150000
        else:
            assert small <= 1000
        c.close()


def test_tls_warm_up_is_of_virtual_host(httpd):
    with httpd("H2TLSWarmUpSize 0",
               hosts={"localhost": "H2TLSWarmUpSize 200000"}) as server:
        server.write("big", b"x" * 1000000)
        c = recording(server)
        c.request(path="/big")
        assert 190000 <= small_bytes(c.sock.records) <= 250000
        c.close()
