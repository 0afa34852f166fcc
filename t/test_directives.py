"""Each directive has its effect; a wrong value or place stops the start.

H2ModernTLSOnly and H2Direct are in test_takeover.py; here is only how virtual
hosts override them.
"""

import itertools
import os
import socket
import ssl
import struct
import subprocess
import time

import pytest

from lib import h2raw
from lib.server import httpd_binary, wait_for

CONFIG = """
H2MaxSessionStreams 7
H2WindowSize 20000
H2StreamMaxMemSize 16384
H2Direct off
H2MaxDataFrameLen 1000
H2MaxHeaderBlockLen 3000
<VirtualHost 127.0.0.1:${PORT}>
    ServerName localhost
    H2Direct on
</VirtualHost>
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName localhost
    SSLEngine on
</VirtualHost>
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName one.test
    SSLEngine on
    H2MaxSessionStreams 3
    H2WindowSize 2000000
    H2StreamMaxMemSize 65536
    H2OutputBuffering off
    H2MaxDataFrameLen 0
    H2MaxHeaderBlockLen 0
    H2StreamTimeout 500ms
</VirtualHost>
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName two.test
    SSLEngine on
    H2WindowSize 1024
    H2StreamMaxMemSize 1000000
    H2MaxDataFrameLen 100000
    H2MaxHeaderBlockLen 200000
    Timeout 1
</VirtualHost>
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName three.test
    SSLEngine on
    H2MaxDataFrameLen 1
    H2StreamTimeout 1
</VirtualHost>
<Location /quick>
    SetHandler h2x-test
    H2StreamTimeout 500ms
</Location>
<Location /copied>
    SetHandler h2x-test
    H2CopyFiles on
</Location>
<Directory ${HTDOCS}/own>
    AllowOverride FileInfo
</Directory>
"""

KB50 = bytes(range(250)) * 200

gates = itertools.count(10)     # one for each use, as they stay open


def files(server):
    server.write("index.html", "hello\n")
    server.write("kb50", KB50)
    server.write("own/.htaccess", "SetHandler h2x-test\nH2CopyFiles on\n")


def counters(server):
    text = server.http1(path="/t/count").text
    return {k: int(v) for k, v in (x.split() for x in text.splitlines())}


def open_gate(server, gate, by=100):
    path = "/t/open?g=%d&by=%d" % (gate, by)
    assert server.http1(path=path).status == 200


def at_rest(value, what):
    """Polls value() until it stays as it is; returns it."""
    last = [None, 0]

    def same():
        now = value()
        last[1] = last[1] + 1 if now == last[0] else 0
        last[0] = now
        return last[1] > 20
    wait_for(same, 20, what)
    return last[0]


# --- H2Direct ----------------------------------------------------------------------

@pytest.mark.parametrize("tls,h2", [
    (False, True),      # on in the virtual host, off outside
    (True, False),
])
def test_direct_of_virtual_host(server, tls, h2):
    with server.connect(tls, alpn=None) as sock:
        c = h2raw.Connection(sock)
        try:
            c.pump(lambda: c.settings_seen, 5)
        except Exception:
            assert not h2           # HTTP/1.1, which is no frame
        assert bool(c.settings_seen) == h2
        if h2:
            assert c.request(path="/index.html").status == 200


# --- H2MaxSessionStreams, H2WindowSize --------------------------------------------

@pytest.mark.parametrize("sni,streams,window", [
    ("localhost", 7, 20000), ("one.test", 3, 2000000), ("two.test", 7, 1024)])
def test_settings(server, sni, streams, window):
    with server.h2(sni=sni) as c:
        c.until(lambda: c.settings_seen)
        assert c.peer_settings[h2raw.MAX_CONCURRENT_STREAMS] == streams
        assert c.peer_settings[h2raw.INITIAL_WINDOW_SIZE] == window


@pytest.mark.h2x_only("has other defaults")
def test_settings_by_default(httpd):
    with httpd() as server, server.h2() as c:
        c.until(lambda: c.settings_seen)
        assert c.peer_settings[h2raw.MAX_CONCURRENT_STREAMS] == 100
        assert c.peer_settings.get(h2raw.INITIAL_WINDOW_SIZE, 65535) in (
            65535, 65536)


@pytest.mark.parametrize("sni,streams", [("localhost", 7), ("one.test", 3)])
def test_max_session_streams(server, sni, streams):
    """RFC 9113, 5.1.2: one too many is refused, whether or not the client
    has seen the limit; the others go on, and their places are free again."""
    gate, before = next(gates), counters(server)["read"]
    with server.h2(sni=sni, ack=False, authority=sni) as c:
        asked = [c.get("/t/wait?gate=%d" % gate) for _ in range(streams)]
        wait_for(lambda: counters(server)["read"] == before + streams,
                 what="all requests to be read")
        over = c.get("/t/wait?gate=%d" % gate)
        c.until(lambda: over.done)
        assert over.reset == h2raw.REFUSED_STREAM and not over.headers
        assert counters(server)["read"] == before + streams
        open_gate(server, gate)
        c.wait(*asked)
        assert all(r.status == 200 for r in asked)
        for _ in range(3 * streams):
            assert c.request(path="/index.html").status == 200


def test_max_session_streams_acknowledged(server):
    """A client that ignores the limit it has confirmed gets no more
    requests run; the connection may be closed for it."""
    gate, before = next(gates), counters(server)["read"]
    with server.h2(sni="one.test", authority="one.test") as c:
        c.until(lambda: c.settings_seen)
        c.ping()
        asked = [c.get("/t/wait?gate=%d" % gate) for _ in range(4)]
        c.pump(lambda: asked[3].done or c.goaways)
        assert asked[3].reset in (h2raw.REFUSED_STREAM, h2raw.PROTOCOL_ERROR) \
            or c.goaway_code == h2raw.PROTOCOL_ERROR
        open_gate(server, gate)
        wait_for(lambda: counters(server)["ended"]
                 == counters(server)["read"], what="requests to end")
        assert counters(server)["read"] <= before + 3


@pytest.mark.h2x_only("gives more window than it was told to")
@pytest.mark.parametrize("sni,window", [
    ("localhost", 20000), ("one.test", 2000000), ("two.test", 1024)])
def test_window_size(server, sni, window):
    """A handler that does not read: the client may send as much as it was
    told, not one byte more, and what it sent is not lost."""
    gate = next(gates)
    with server.h2(sni=sni, authority=sni) as c:
        c.until(lambda: c.settings_seen)
        c.ping()
        r = c.start(c.fields("POST", "/t/wait?gate=%d" % gate), end=False)
        sent = 0
        while c.allowed(r.id) > 0:
            n = min(c.allowed(r.id), 1 << 16)
            c.data(r.id, b"x" * n)
            sent += n
            c.ping()
        assert c.stream_windows[r.id] == 0 and sent == window
        assert not r.done
        c.data(r.id, b"y")  # one too many
        c.pump(lambda: r.done or c.goaways)
        assert h2raw.FLOW_CONTROL_ERROR in (r.reset, c.goaway_code)
        open_gate(server, gate)


@pytest.mark.parametrize("sni", ["localhost", "one.test", "two.test"])
def test_window_is_given_back(server, sni):
    with server.h2(sni=sni, authority=sni) as c:
        c.until(lambda: c.settings_seen)
        data = os.urandom(100000 if sni == "two.test" else 3000000)
        r = c.request("POST", "/t/upload", body=data, timeout=30)
        assert r.text.startswith("length %d\n" % len(data))


# --- H2StreamMaxMemSize -------------------------------------------------------------

MEMORY_OF_HOST = """
H2StreamMaxMemSize 2000
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName localhost
    SSLEngine on
    H2StreamMaxMemSize 1000000
</VirtualHost>
"""

@pytest.mark.h2x_only("counts otherwise")
@pytest.mark.parametrize("config,size", [
    ("", 65536), ("H2StreamMaxMemSize 1024", 1024),
    (MEMORY_OF_HOST, 1000000)], ids=["unset", "1024", "of host"])
def test_stream_max_mem_size(httpd, config, size):
    """How much a handler can write while the client reads nothing."""
    with httpd(config) as server:
        with server.h2(windows=False) as c:
            r = c.wait_body(c.get("/t/big?n=4000000"), 65535)
            written = at_rest(lambda: counters(server)["written"],
                              "the handler")
            # more: pieces of 16 KB, and what httpd itself buffers
            assert size <= written - 65535 <= size + 40000
            # as much again for each of two others
            others = [c.get("/t/big?n=4000000") for _ in range(2)]
            both = at_rest(lambda: counters(server)["written"],
                           "the handlers") - written
            assert 2 * size <= both <= 2 * (size + 40000)
            c.credit(1 << 25)
            for x in [r] + others:
                c.credit(1 << 23, x.id)
            c.wait(r, *others)
            assert {len(x.body) for x in [r] + others} == {4000000}


# --- H2StreamTimeout --------------------------------------------------------------

TIMEOUTS = pytest.mark.parametrize("sni,place,least,most", [
    ("one.test", "/t", 0.4, 10),        # its own 500ms
    ("two.test", "/t", 0.9, 10),        # its Timeout
    ("three.test", "/t", 0.9, 10),      # its own, Timeout being 60
    ("localhost", "/t", 2, None),       # Timeout, which is 60
    ("localhost", "/quick", 0.4, 10),   # of the directory
], ids=["host", "host's Timeout", "host, 1", "unset", "directory"])


def patient(c, until, least, most):
    """until() comes true within the times; most=None: not before least."""
    began = time.monotonic()
    try:
        c.pump(until, most or least)
    except h2raw.Timeout:
        assert most is None
    else:
        assert most and time.monotonic() - began >= least


@TIMEOUTS
def test_stream_timeout_of_upload(server, sni, place, least, most):
    """A body that does not come, while another request goes on."""
    mark = server.access_mark()
    with server.h2(sni=sni, authority=sni) as c:
        r = c.start(c.fields("POST", place + "/upload"), end=False)
        c.data(r.id, b"x" * 100)
        c.ping()
        patient(c, lambda: r.done, least, most)
        if most:
            assert r.status == 408 or r.reset is not None
            if r.status == 408:
                server.wait_access(1, since=mark, uri=place + "/upload",
                                   final="408")
        else:
            c.data(r.id, b"x" * 100, end=True)
            assert c.wait(r).text.startswith("length 200\n")
        if not c.closed and not c.goaways:
            assert c.request(path="/index.html").status == 200


@TIMEOUTS
def test_stream_timeout_of_response(server, sni, place, least, most):
    """A client that does not take what the handler writes."""
    mark = server.access_mark()
    with server.h2(sni=sni, authority=sni, windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1000}) as c:
        r = c.wait_body(c.get(place + "/big?n=3000000"), 1000)
        patient(c, lambda: r.done, least, most)
        if most:
            assert r.reset is not None
            entry, = server.wait_access(1, since=mark, uri=place + "/big")
            assert int(entry["sent"]) < 3000000
        else:
            c.credit(1 << 23)
            c.credit(1 << 23, r.id)
            assert len(c.wait(r).body) == 3000000
        if not c.closed and not c.goaways:
            assert c.request(path="/index.html").status == 200


def test_stream_timeout_is_for_each_wait(server):
    """A body that comes slowly, but comes, is not cut off."""
    with server.h2(sni="three.test", authority="three.test") as c:
        r = c.start(c.fields("POST", "/t/upload"), end=False)
        for _ in range(5):
            c.data(r.id, b"x" * 100)
            assert c.idle(0.4) is not None and not r.done
        c.data(r.id, b"", end=True)
        assert c.wait(r).text.startswith("length 500\n")


# --- workers -------------------------------------------------------------------------

@pytest.mark.h2x_only("starts workers beforehand, in steps")
@pytest.mark.parametrize("config,running,left", [
    ("H2MaxWorkerIdleSeconds 1", 10, 0),
    ("H2MaxWorkerIdleSeconds 1\nH2MaxWorkers 2", 3, 0),
    ("H2MaxWorkerIdleSeconds 1\nH2MaxWorkers 2\nH2MinWorkers 1", 3, 1),
    ("H2MaxWorkerIdleSeconds 1\nH2MinWorkers 3", 10, 3),
    ("H2MaxWorkerIdleSeconds 500ms\nH2MinWorkers 5\nH2MaxWorkers 2", 6, 5),
    ("H2MinWorkers 1", 10, 9),
], ids=["max unset", "max 2", "min 1, max 2", "min 3", "min above max",
        "idle unset"])
def test_workers(httpd, config, running, left):
    """Ten slow requests on a connection: as many run as there may be
    workers, and one on the connection's own thread; then threads end."""
    with httpd(config) as server:
        server.write("index.html", "hello\n")
        with server.h2() as c:
            assert c.request(path="/index.html").status == 200
            base, before = server.threads(), counters(server)["handled"]

            def handled():
                return counters(server)["handled"] - before
            asked = [c.get("/t/wait?gate=1") for _ in range(10)]
            wait_for(lambda: handled() >= running,
                     what="%d requests to run" % running)
            c.idle(0.2)
            assert handled() == running
            busy = server.threads()
            # a spare one may have been started
            assert running - 1 <= busy - base <= running
            # what needs no handler of its own is served meanwhile
            if running == 10:
                r = c.request(path="/index.html")
                assert r.text == "hello\n"
            open_gate(server, 1)
            c.wait(*asked)
            assert all(r.status == 200 for r in asked)
            assert handled() >= 10
            if "Idle" not in config:
                c.idle(1)
                assert server.threads() >= base + left
                return
            wait_for(lambda: server.threads() == base + left, 15,
                     "idle workers to end")
            c.idle(0.5)
            assert server.threads() == base + left
            # and they start again
            assert all(r.status == 200 for r in [
                c.wait(c.get("/t/env")) for _ in range(5)])


@pytest.mark.h2x_only("lets few requests of a connection run at a time")
def test_max_workers_cgi(httpd):
    """Ten slow scripts, two workers: never more than three at a time."""
    config = "H2MaxWorkers 2\nScriptAlias /cgi/ ${DIR}/htdocs/cgi/\n"
    with httpd(config, modules="cgid alias") as server:
        work = server.writable("work")
        server.write("cgi/slow", "#!/bin/sh\n"
                     "cd %s && mkdir run.$$ && ls -d run.* | wc -l >seen.$$\n"
                     "sleep 0.3\nrmdir run.$$\n"
                     "printf 'Content-Type: text/plain\\n\\ndone\\n'\n" % work,
                     0o755)
        with server.h2() as c:
            asked = [c.get("/cgi/slow") for _ in range(10)]
            c.wait(*asked, timeout=30)
            assert all(r.text == "done\n" for r in asked)
        seen = []
        for name in os.listdir(work):
            with open(os.path.join(work, name)) as f:
                seen.append(int(f.read()))
        assert len(seen) == 10 and max(seen) <= 3


@pytest.mark.h2x_only("lets few requests of a connection run at a time")
def test_workers_shared_by_connections(httpd):
    """The limit is one for the child; its connections share in turn."""
    with httpd("H2MaxWorkers 2") as server:
        server.write("index.html", "hello\n")
        with server.h2() as one, server.h2() as two:
            asked = [(c, c.get("/t/wait?gate=1"))
                     for c in (one, two) for _ in range(6)]
            wait_for(lambda: counters(server)["handled"] >= 4,
                     what="4 requests to run")
            one.idle(0.2)
            assert counters(server)["handled"] == 4
            open_gate(server, 1)
            for c, r in asked:
                assert c.wait(r).status == 200


# --- TLS records --------------------------------------------------------------------

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
    ("", 1 << 20, 1200000),
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
    config = """
H2TLSWarmUpSize 0
<VirtualHost 127.0.0.1:${TLS_PORT}>
    ServerName localhost
    SSLEngine on
    H2TLSWarmUpSize 200000
</VirtualHost>
"""
    with httpd(config) as server:
        server.write("big", b"x" * 1000000)
        c = recording(server)
        c.request(path="/big")
        assert 190000 <= small_bytes(c.sock.records) <= 250000
        c.close()


# --- H2MaxDataFrameLen ---------------------------------------------------------------

@pytest.mark.parametrize("path", ["/kb50", "/t/big?n=50000"])
@pytest.mark.parametrize("sni,most", [
    ("localhost", 1000),        # of the server around
    ("one.test", 16384),        # 0: what the client allows
    ("two.test", 16384),        # more than that
    ("three.test", 1),
])
def test_max_data_frame_len(server, path, sni, most):
    with server.h2(sni=sni, authority=sni,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 20}) as c:
        r = c.request(path=path)
        sizes = [len(p) for p in r.pieces if p]
        assert len(r.body) == 50000 and r.ended
        assert max(sizes) <= most
        assert max(sizes) > most // 2


# --- H2MaxHeaderBlockLen -------------------------------------------------------------

@pytest.mark.parametrize("sni,n,size,good", [
    ("localhost", 10, 100, True),       # 3,000, of the server around
    ("localhost", 40, 100, False),
    ("one.test", 40, 1000, True),       # 0: 64 KB
    ("one.test", 80, 1000, False),
    ("two.test", 160, 1000, True),      # 200,000
    ("two.test", 240, 1000, False),
])
def test_max_header_block_len(server, sni, n, size, good):
    """A head that is too large: its stream is reset, with one line in the
    log; the connection goes on."""
    mark, log = server.access_mark(), server.log_mark()
    with server.h2(sni=sni, authority=sni) as c:
        other = c.get("/t/wait?ms=100")
        r = c.wait(c.get("/t/fields?kind=many&n=%d&size=%d" % (n, size)))
        if good:
            assert r.status == 200 and r.text == "fields\n"
            assert len([k for k, _ in r.headers if "x-many" in k]) == n
        else:
            assert r.reset == h2raw.INTERNAL_ERROR and not r.headers
        assert c.wait(other).status == 200
        assert c.request(path="/index.html").text == "hello\n"
        assert not c.goaways
        server.wait_access(1, since=mark, uri="/t/fields")
        lines = [x for x in server.error_text()[log:].splitlines()
                 if "response head" in x]
        assert len(lines) == (0 if good else 1)
    assert len(server.access(since=mark, uri="/t/fields")) == 1


# --- H2OutputBuffering ------------------------------------------------------------

@pytest.mark.h2x_only("sends them later, together")
def test_output_buffering_off(server):
    """Each piece that a handler passes on is a DATA frame at once."""
    with server.h2(sni="one.test", authority="one.test") as c:
        r = c.request(path="/t/trickle?n=50&size=10&flush=0&pass=1")
        assert [len(p) for p in r.pieces if p] == [10] * 50


def test_output_buffering_on(server):
    """By default they are collected."""
    with server.h2() as c:
        r = c.request(path="/t/trickle?n=50&size=10&flush=0&pass=1")
        assert len(r.body) == 500
        assert len([p for p in r.pieces if p]) < 10


# --- H2CopyFiles ---------------------------------------------------------------------

class Stalled(h2raw.Connection):
    """A connection whose responses stand still until they get a window."""

    def __init__(self, server):
        super().__init__(server.connect(sni="one.test"), windows=False,
                         authority="one.test",
                         settings={h2raw.INITIAL_WINDOW_SIZE: 0})
        self.credit(1 << 20)

    def go_on(self, r):
        self.credit(1 << 20, r.id)
        return self.wait(r)

    def lend(self, server, where, name, keep=0):
        """A response whose handler is through with the file and, but for
        keep, has closed it."""
        gate = next(gates)
        r = self.get("%s/lend?path=%s&raise=%d&keep=%d" % (
            where, os.path.join(server.htdocs, name), gate, keep))
        waited = self.get("/t/wait?gate=%d" % gate)
        assert self.go_on(waited).status == 200
        assert not r.body and not r.done
        return r


PLACES = pytest.mark.parametrize("where,copied", [
    ("/t", False), ("/copied", True), ("/own", True)],
    ids=["unset", "Location", "htaccess"])


@PLACES
@pytest.mark.parametrize("keep", [0, 1])
def test_copy_files_replaced(server, where, copied, keep):
    """A file that is replaced, or closed by its handler, is delivered as it
    was: copied, or by its descriptor."""
    name = "replaced%s%d" % (where.replace("/", "-"), keep)
    server.write(name, KB50)
    with Stalled(server) as c:
        r = c.lend(server, where, name, keep)
        path = server.write(name + ".new", b"new" * 10000)
        os.rename(path, os.path.join(server.htdocs, name))
        assert bytes(c.go_on(r).body) == KB50


@PLACES
def test_copy_files_truncated(server, where, copied):
    """on: what the file holds later does not matter.  off: a stream whose
    file became too short is reset, and the connection goes on."""
    name = "truncated" + where.replace("/", "-")
    path = server.write(name, KB50)
    with Stalled(server) as c:
        r = c.lend(server, where, name)
        os.truncate(path, 10)
        c.go_on(r)
        if copied:
            assert bytes(r.body) == KB50 and r.ended
        else:
            assert r.reset is not None and not r.ended
            assert len(r.body) < len(KB50)
        assert c.go_on(c.get("/index.html")).text == "hello\n"
        assert not c.goaways


@PLACES
def test_copy_files_descriptor(server, where, copied):
    """off: the descriptor lives until the last byte; on: it is not kept."""
    name = "kept" + where.replace("/", "-")
    path = os.path.realpath(server.write(name, KB50))
    with Stalled(server) as c:
        r = c.lend(server, where, name)
        assert is_open(server, path) == (not copied)
        assert bytes(c.go_on(r).body) == KB50
        wait_for(lambda: not is_open(server, path), what="close of the file")


def test_copy_files_larger_than_memory(server):
    """on, and a file that does not fit into H2StreamMaxMemSize: the handler
    reads it as the client takes it."""
    data = os.urandom(1000000)
    path = server.write("large", data)
    with Stalled(server) as c:
        r = c.wait_headers(c.get("/copied/lend?path=%s" % path))
        assert bytes(c.go_on(r).body) == data


def is_open(server, path):
    for pid in server.children():
        fds = "/proc/%d/fd" % pid
        for name in os.listdir(fds):
            try:
                if os.readlink(os.path.join(fds, name)) == path:
                    return True
            except OSError:
                pass
    return False


# --- values ------------------------------------------------------------------------

INT_MAX = 2 ** 31 - 1
INT64_MAX = 2 ** 63 - 1

FLAGS = ["H2Direct", "H2ModernTLSOnly", "H2OutputBuffering", "H2CopyFiles"]
NUMBERS = {     # least, greatest
    "H2MaxSessionStreams": (1, INT_MAX),
    "H2WindowSize": (1024, INT_MAX),
    "H2StreamMaxMemSize": (1024, INT_MAX),
    "H2MinWorkers": (1, INT_MAX),
    "H2MaxWorkers": (1, INT_MAX),
    "H2TLSWarmUpSize": (0, INT64_MAX),
    "H2TLSCoolDownSecs": (0, INT_MAX),
    "H2MaxDataFrameLen": (0, INT_MAX),
    "H2MaxHeaderBlockLen": (0, INT_MAX),
}
TIMES = ["H2StreamTimeout", "H2MaxWorkerIdleSeconds"]
ALL = FLAGS + list(NUMBERS) + TIMES

BAD_FLAGS = ["yes", "1", "onn", "of", "on,off", "true"]
BAD_NUMBERS = ["many", "-1", "+1", "10x", "1.5", "1e3", "0x10", " 10",
               "10 ", "on", "99999999999999999999", "-99999999999999999999"]
BAD_TIMES = ["soon", "-1", "-1s", "1.5", "1.5s", "10x", "10s5", "10secs",
             "2 min", "s", " 5", "on", "99999999999999999999"]


def bad_values():
    for name in FLAGS:
        yield from ((name, v, "on or off") for v in BAD_FLAGS)
    for name, (least, greatest) in NUMBERS.items():
        allowed = "a number from %d to %d" % (least, greatest)
        if greatest == INT64_MAX:
            allowed = "a number of %d or more" % least
        for value in BAD_NUMBERS + [str(least - 1), str(greatest + 1)]:
            yield name, value, allowed
    for name in TIMES:
        yield from ((name, v, "time such as 30, 30s") for v in BAD_TIMES)
    yield "H2MaxWorkerIdleSeconds", "0", "a positive time"


def good_values():
    for name in FLAGS:
        yield name, ["on", "off", "On", "OFF"]
    for name, (least, greatest) in NUMBERS.items():
        yield name, [str(least), str(least + 1), str(greatest),
                     "0%d" % greatest]
    yield "H2StreamTimeout", ["0", "1", "30", "30s", "500ms", "2min"]
    yield "H2MaxWorkerIdleSeconds", ["1", "600", "1ms", "30s", "2min", "1h"]


@pytest.fixture(scope="module")
def configtest(httpd):
    """Asks httpd -t about a configuration: (accepted, what was said)."""
    server = httpd()

    def ask(config):
        server.write_config(config)
        done = subprocess.run(
            [httpd_binary(), "-d", server.dir, "-f", server.conf, "-t"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=server._environ())
        return done.returncode == 0, done.stdout
    yield ask
    server.remove()


STRICT = pytest.mark.h2x_only("takes values that it does not mean")


@STRICT
@pytest.mark.parametrize("name,value,allowed", bad_values())
def test_bad_value(configtest, name, value, allowed):
    """Refused by a line that names directive, value and what is allowed."""
    accepted, said = configtest('%s "%s"' % (name, value))
    assert not accepted
    said = " ".join(said.split())
    assert "%s '%s': must be" % (name, value) in said
    assert allowed in said


@STRICT
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("arguments", ["", '""', "on off", "1 2"])
def test_number_of_arguments(configtest, name, arguments):
    """The message goes on with what the directive is about."""
    accepted, said = configtest("%s %s" % (name, arguments))
    assert not accepted
    assert "%s takes one argument" % name in said


@STRICT
@pytest.mark.parametrize("name,values", good_values())
def test_good_values(configtest, name, values):
    lines = "\n".join("%s %s" % (name, v) for v in values)
    accepted, said = configtest(lines + "\n" + lines.lower())
    assert accepted, said


# --- where they may be ------------------------------------------------------------

IN_SECTIONS = ["H2CopyFiles", "H2StreamTimeout"]
IN_HTACCESS = ["H2CopyFiles"]       # with AllowOverride FileInfo


def any_value(name):
    return "on" if name in FLAGS else "2000"


@pytest.mark.parametrize("name", ALL)
def test_in_virtual_host(configtest, name):
    accepted, said = configtest(
        "<VirtualHost 127.0.0.1:${PORT}>\nServerName one.test\n%s %s\n"
        "</VirtualHost>" % (name, any_value(name)))
    assert accepted, said


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("section", ["Directory ${HTDOCS}", "Location /",
                                     "Files x"])
def test_in_section(configtest, name, section):
    accepted, said = configtest("<%s>\n%s %s\n</%s>" % (
        section, name, any_value(name), section.split()[0]))
    assert accepted == (name in IN_SECTIONS), said
    if not accepted:
        assert name in said and "not allowed" in said


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("override", ["None", "FileInfo", "Indexes"])
def test_in_htaccess(htaccess_server, name, override):
    server = htaccess_server
    where = "%s/%s" % (override, name)
    server.write(where + "/index.html", "hello\n")
    server.write(where + "/.htaccess", "%s %s\n" % (name, any_value(name)))
    mark = server.log_mark()
    answer = server.http1(path="/%s/index.html" % where)
    if override == "None" or (name in IN_HTACCESS
                              and override == "FileInfo"):
        assert answer.status == 200
    else:
        assert answer.status == 500
        server.wait_log(r"\.htaccess: %s not allowed here" % name, mark)


@pytest.fixture(scope="module")
def htaccess_server(httpd):
    config = "".join(
        "<Directory ${HTDOCS}/%s>\nAllowOverride %s\n</Directory>\n" % (o, o)
        for o in ("FileInfo", "Indexes"))
    with httpd(config) as server:
        server.expect_log(r"/\.htaccess: H2\w+ not allowed here")
        yield server
