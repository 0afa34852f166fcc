"""Each directive has its effect, and virtual hosts have their own.

H2ModernTLSOnly and most of H2Direct are in test_negotiation.py, H2TLSWarmUpSize
and H2TLSCoolDownSecs in test_tls_records.py, all wrong values in
test_directive_values.py.
"""

import itertools
import os
import time

import pytest

from lib import h2raw
from lib.inside import counters, open_gate
from lib.server import wait_for

CONFIG = """
H2MaxSessionStreams 7
H2WindowSize 20000
H2StreamMaxMemSize 16384
H2Direct off
H2MaxDataFrameLen 1000
H2MaxHeaderBlockLen 3000
<Location /quick>
    SetHandler h2x-test
    <IfModule h2x_module>
        H2StreamTimeout 500ms
    </IfModule>
</Location>
<Location /copied>
    SetHandler h2x-test
    H2CopyFiles on
</Location>
<Directory ${HTDOCS}/own>
    AllowOverride FileInfo
</Directory>
"""
HOSTS = {
    "one.test": """
        H2MaxSessionStreams 3
        H2WindowSize 2000000
        H2StreamMaxMemSize 65536
        H2OutputBuffering off
        H2MaxDataFrameLen 0
        H2MaxHeaderBlockLen 0
        H2StreamTimeout 500ms""",
    "two.test": """
        H2WindowSize 1024
        H2StreamMaxMemSize 1000000
        H2MaxDataFrameLen 100000
        H2MaxHeaderBlockLen 200000
        Timeout 1""",
    "three.test": "H2StreamTimeout 1",
    "four.test": "H2MaxDataFrameLen 1",
}
CLEARTEXT_HOSTS = {
    "localhost": "H2Direct on",
}

KB50 = bytes(range(250)) * 200

gates = itertools.count(10)     # one for each use, as they stay open


def files(server):
    server.write("index.html", "hello\n")
    server.write("kb50", KB50)
    server.write("own/.htaccess", "SetHandler h2x-test\nH2CopyFiles on\n")


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


# --- H2Direct ---

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


# --- H2MaxSessionStreams, H2WindowSize ---

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


@pytest.mark.h2x_only("runs only a few requests of a connection at a time")
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
        open_gate(server, gate, 100)
        c.wait(*asked)
        assert all(r.status == 200 for r in asked)
        for _ in range(3 * streams):
            assert c.request(path="/index.html").status == 200


@pytest.mark.h2x_only("does not end what waits behind a gate")
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
        open_gate(server, gate, 100)
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
        open_gate(server, gate, 100)


@pytest.mark.parametrize("sni", ["localhost", "one.test", "two.test"])
def test_window_is_given_back(server, sni):
    with server.h2(sni=sni, authority=sni) as c:
        c.until(lambda: c.settings_seen)
        data = os.urandom(100000 if sni == "two.test" else 3000000)
        r = c.request("POST", "/t/upload", body=data, timeout=30)
        assert r.text.startswith("length %d\n" % len(data))


# --- H2StreamMaxMemSize ---

@pytest.mark.h2x_only("counts otherwise")
@pytest.mark.parametrize("config,host,size", [
    ("", "", 65536), ("H2StreamMaxMemSize 1024", "", 1024),
    ("H2StreamMaxMemSize 2000", "H2StreamMaxMemSize 1000000", 1000000),
], ids=["unset", "1024", "of host"])
def test_stream_max_mem_size(httpd, config, host, size):
    """How much a handler can write while the client reads nothing."""
    with httpd(config, hosts={"localhost": host}) as server:
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


# --- H2StreamTimeout ---

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


@pytest.mark.h2x_only("has none for directories")
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


@pytest.mark.h2x_only("does not end a response that is not taken")
@TIMEOUTS
def test_stream_timeout_of_response(server, sni, place, least, most):
    """A client that does not take what the handler writes."""
    mark = server.access_mark()
    with server.h2(sni=sni, authority=sni, windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1000}) as c:
        r = c.wait_body(c.get(place + "/big?n=3000000"), 1000)
        patient(c, lambda: r.done, least, most)
        if most:
            # Timeout may end the connection as well
            assert r.reset is not None or c.closed
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


# --- workers ---

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
    workers, and one on the connection's own thread; then threads end. A second
    one that waits for events may be started meanwhile, and stay."""
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
            # a spare one may have been started too
            assert running - 1 <= busy - base <= running + 1
            # what needs no handler of its own is served meanwhile
            if running == 10:
                r = c.request(path="/index.html")
                assert r.text == "hello\n"
            open_gate(server, 1, 100)
            c.wait(*asked)
            assert all(r.status == 200 for r in asked)
            assert handled() >= 10
            if "Idle" not in config:
                c.idle(1)
                assert server.threads() >= base + left
                return
            def are_left():
                return server.threads() - base in (left, left + 1)
            wait_for(are_left, 15, "idle workers to end")
            c.idle(0.5)
            assert are_left()
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
    """The limit is one for the child; but a connection that has no worker,
    as the other one has both, gets one more."""
    with httpd("H2MaxWorkers 2") as server:
        server.write("index.html", "hello\n")
        with server.h2() as one, server.h2() as two:
            asked = [(c, c.get("/t/wait?gate=1"))
                     for c in (one, two) for _ in range(6)]
            wait_for(lambda: counters(server)["handled"] >= 4,
                     what="4 requests to run")
            one.idle(0.2)
            assert counters(server)["handled"] <= 5
            open_gate(server, 1, 100)
            for c, r in asked:
                assert c.wait(r).status == 200


# --- H2MaxDataFrameLen ---

@pytest.mark.parametrize("path", ["/kb50", "/t/big?n=50000"])
@pytest.mark.parametrize("sni,most", [
    ("localhost", 1000),        # of the server around
    ("one.test", 16384),        # 0: what the client allows
    ("two.test", 16384),        # more than that
    ("four.test", 1),
])
def test_max_data_frame_len(server, path, sni, most):
    with server.h2(sni=sni, authority=sni, windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 20}) as c:
        r = c.request(path=path)
        sizes = [len(p) for p in r.pieces if p]
        assert len(r.body) == 50000 and r.ended
        assert max(sizes) <= most
        assert max(sizes) > min(most, 5000) // 2


# --- H2MaxHeaderBlockLen ---

@pytest.mark.h2x_only("logs nothing of it")
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
            assert r.reset is not None and not r.headers
        assert c.wait(other).status == 200
        assert c.request(path="/index.html").text == "hello\n"
        assert not c.goaways
        server.wait_access(1, since=mark, uri="/t/fields")
        lines = [x for x in server.error_text()[log:].splitlines()
                 if "response head" in x]
        assert len(lines) == (0 if good else 1)
    assert len(server.access(since=mark, uri="/t/fields")) == 1


# --- H2OutputBuffering ---

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


# --- H2CopyFiles ---

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


@pytest.mark.h2x_only("reads such files at once")
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


@pytest.mark.h2x_only("reads such files at once")
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


@pytest.mark.h2x_only("sends no head before the window opens")
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


BY_DIRECTORY = """
<Directory ${HTDOCS}/copied>
    H2CopyFiles on
</Directory>
"""


def test_file_shrinks_while_copied(httpd):
    """With H2CopyFiles the rest is not needed; it must not be mapped."""
    with httpd(BY_DIRECTORY) as server:
        server.write("index.html", "hello\n")
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
