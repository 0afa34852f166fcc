"""Graceful restarts and stops: clients are asked to go elsewhere in two
steps, what runs is finished, nothing that was accepted is lost, and the old
generation goes away."""

import re
import signal
import subprocess
import time

import pytest

from lib import goodclient, h2raw, inside, proc, server as lib_server
from lib.server import wait_for

CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
ServerLimit 40
StartServers 1
# old generations count too, until they are gone
MaxRequestWorkers 1000
"""
MODULES = "cgi alias"     # cgid restarts too, and then answers 503

SIZE = 100000
NO_LAST = goodclient.NO_LAST


def files(server):
    server.write("index.html", "hello\n")
    server.write("file", "x" * SIZE)
    with open(server.write("huge"), "r+b") as f:
        f.truncate(10 << 20)
    server.write("cgi/quick", "#!/bin/sh\n"
                 "printf 'Content-Type: text/plain\\n\\nquick\\n'\n", 0o755)


def since(moment):
    return time.monotonic() - moment


def generations(server):
    return set(server.children())


def old_is_gone(server, old, timeout=10):
    wait_for(lambda: not any(proc.alive(pid) for pid in old), timeout,
             "the old generation to end")


def graceful(server):
    """Restarts; returns the children of before."""
    old = generations(server)
    server.graceful()
    return old


# --- GOAWAY --------------------------------------------------------------------------

@pytest.mark.parametrize("tls", [True, False])
def test_two_steps(server, tls):
    """RFC 9113, 6.8: first a warning, after which requests that were on
    their way still count; then, when the client has seen that, the last
    stream that does."""
    inside.close_gates(server)
    with server.h2(tls, ack=False) as c:
        slow = c.get("/t/wait?gate=1")
        c.until(lambda: c.settings_seen, what="SETTINGS")
        c.ping()
        old = graceful(server)
        c.until(lambda: c.goaways, what="the first GOAWAY")
        assert c.goaways == [(NO_LAST, h2raw.NO_ERROR, b"")]
        pings = [f for f in c.frames if isinstance(f, h2raw.PingFrame)]
        # not yet answered: this crosses the GOAWAY, as it were
        late = c.request(path="/index.html")
        assert (late.status, late.text) == (200, "hello\n")
        assert len(c.goaways) == 1
        for ping in pings:
            c.send(h2raw.PingFrame(0, ping.opaque_data, flags=["ACK"]))
        c.until(lambda: len(c.goaways) > 1, what="the second GOAWAY")
        assert c.goaways[1][:2] == (late.id, h2raw.NO_ERROR)
        ignored = c.get("/index.html")
        c.idle(0.2)
        assert not slow.done and not c.closed
        inside.open_gate(server, 1)
        assert c.wait(slow).text == "waited\n"
        c.wait_closed()
        assert not ignored.headers
    old_is_gone(server, old)


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("used", [True, False])
def test_idle_connection(server, tls, used):
    """One with nothing on it is told and closed, and keeps nobody up."""
    with server.h2(tls) as c:
        if used:
            c.request(path="/index.html")
        else:
            c.until(lambda: c.settings_acked, what="SETTINGS")
        began = time.monotonic()
        old = graceful(server)
        assert c.wait_closed() and c.goaway_code == h2raw.NO_ERROR
    old_is_gone(server, old, 5)
    assert since(began) < 5 * lib_server.PATIENCE


def test_nothing_open(server):
    """Idle workers alone do not keep the old generation."""
    with server.h2() as c:
        c.wait(*[c.get("/t/wait?ms=20") for _ in range(30)])
        assert sum(proc.Holdings(server).threads.values()) > 30
    old_is_gone(server, graceful(server), 5)


@pytest.mark.parametrize("tls", [True, False])
def test_upload_goes_on(server, tls):
    """A request body that is under way is taken to its end."""
    with server.h2(tls) as c:
        r = c.start(c.fields("POST", "/t/upload"), end=False)
        c.upload(r, b"x" * 100000, end=False)
        old = graceful(server)
        c.until(lambda: c.goaways, what="GOAWAY")
        for _ in range(5):
            c.upload(r, b"x" * 100000, end=False)
        c.data(r.id, b"", end=True)
        assert c.wait(r).text.startswith("length 600000\n")
        c.wait_closed()
    old_is_gone(server, old)


@pytest.mark.parametrize("path", ["/huge", "/t/big?n=10485760"])
@pytest.mark.parametrize("tls", [True, False])
def test_stalled_download_goes_on(server, path, tls):
    """Nothing runs, or only a handler whose output is full: the client may
    take the rest later."""
    with server.h2(tls, windows=False) as c:
        r = c.wait_body(c.get(path), 65535)
        old = graceful(server)
        c.idle(0.3)
        c.credit(1 << 24)
        c.credit(1 << 24, r.id)
        c.wait(r, timeout=30)
        assert len(r.body) == 10 << 20
        c.wait_closed()
        assert c.goaways
    old_is_gone(server, old)


def test_event_stream_bounded(httpd):
    """A client that never takes its response does not keep the old
    generation for longer than the timeouts say."""
    server = httpd(CONFIG + "Timeout 2\nH2StreamTimeout 1\n", MODULES)
    files(server)
    with server:
        made = []
        for path in ("/huge", "/t/big?n=10485760"):
            c = server.h2(windows=False)
            c.wait_body(c.get(path), 65535)
            made.append(c)
        c = server.h2()
        c.start(c.fields("POST", "/t/upload"), end=False)
        c.ping()
        made.append(c)
        old_is_gone(server, graceful(server), 15)
        for c in made:
            c.close()


# --- under load ------------------------------------------------------------------------

KINDS = [
    ("/index.html", "GET", None, 6),
    ("/file", "GET", None, SIZE),
    ("/t/wait?ms=30", "GET", None, 7),
    ("/t/trickle?n=10&ms=5", "GET", None, 100),
    ("/t/big?n=50000", "GET", None, 50000),
    ("/t/upload", "POST", b"x" * 1000, None),
    ("/t/echo", "POST", b"y" * 1000, 1000),
    ("/cgi/quick", "GET", None, 6),
]


def check(client, entries):
    """What the client has got is right, and the log has it."""
    assert not client.lost, "lost: %s" % [
        (r, r.why) for r in client.lost[:5]]
    sizes = {path: size for path, _, _, size in KINDS}
    for request in client.done:
        r = request.response
        assert r.status == 200 and r.reset in (None, h2raw.NO_ERROR), request
        size = sizes[re.sub(r"[?&]c=\d+$", "", request.path)]
        assert size is None or len(r.body) == size, request
    got = sorted(int(r.path.rpartition("=")[2]) for r in client.done)
    assert len(set(got)) == len(got)
    logged = [int(e["query"].rpartition("=")[2]) for e in entries]
    assert set(got) <= set(logged), "answered and not logged"
    assert len(set(logged)) == len(logged), "ran twice"


@pytest.mark.parametrize("tls,restarts", [
    (True, 20), (False, 20 if lib_server.LONG else 5)],
    ids=["tls", "cleartext"])
def test_restarts_under_load(server, tls, restarts):
    """Twenty graceful restarts under a client that always has 20 requests
    on their way: it gets every answer, and each request runs once."""
    old_is_gone(server, graceful(server))
    inside.close_gates(server)
    before = inside.counters(server)
    mark = server.access_mark()
    client = goodclient.Client(server, tls)
    asked = [0]

    def refill():
        while client.count < 20:
            path, method, body, _ = KINDS[asked[0] % len(KINDS)]
            client.ask("%s%sc=%d" % (path, "&" if "?" in path else "?",
                                     asked[0]), method, body)
            asked[0] += 1
    old = set()
    for _ in range(restarts):
        target = len(client.done) + 30
        client.until(lambda: len(client.done) >= target or client.lost,
                     refill=refill)
        log = server.log_mark()
        old |= generations(server)
        server.graceful(wait=False)
        client.until(lambda: client.lost or "resuming normal operations"
                     in server.error_text()[log:], refill=refill)
    client.finish()
    client.until(lambda: len(client.open) <= 1)
    inside.wait_settled(server)
    check(client, server.access(since=mark, proto="HTTP/2.0"))
    after = inside.counters(server)
    assert after["handled"] - before["handled"] == len(client.done)
    # on a connection that was idle just then, one GOAWAY is enough
    assert client.warned > client.unwarned
    assert client.connections >= restarts * 3 // 4
    client.close()
    old_is_gone(server, old - generations(server))
    wait_for(lambda: len(generations(server)) == 1, 10,
             "one generation to be left")


def h2load_once(server, path):
    """Runs h2load with a restart in the middle.  Returns how many of its
    requests succeeded and its report."""
    with server.h2() as c:      # the new generation is up
        assert c.request(path="/index.html").status == 200
    mark = server.access_mark()
    load = subprocess.Popen(
        ["h2load", "-n", "20000", "-c", "8", "-m", "10", server.url(path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: server.access_mark() > mark + 100
                 or load.poll() is not None, 30, "load of " + path)
        server.graceful()
        out, _ = load.communicate(timeout=60 * lib_server.PATIENCE)
    finally:
        load.kill()
        load.wait()
    return int(re.search(r"(\d+) succeeded", out)[1]), out


def test_h2load(server):
    """Restarts under h2load: what it has sent is answered in full, or was
    refused by GOAWAY.  (It does not ask again: when it was told to go, it
    stops, and calls errored what was refused.)"""
    mark = server.access_mark()
    old = generations(server)
    succeeded = 0
    for path in ["/index.html", "/t/env", "/file", "/t/trickle?n=3",
                 "/cgi/quick"] * (4 if lib_server.LONG else 1):
        count, out = h2load_once(server, path)
        old |= generations(server)
        succeeded += count
        assert count >= 100, out
        assert re.search(r" 2xx, 0 3xx, 0 4xx, 0 5xx", out), out
    inside.wait_settled(server)
    logged = server.access(since=mark, proto="HTTP/2.0")
    assert len(logged) >= succeeded
    assert {e["final"] for e in logged} == {"200"}
    old_is_gone(server, old - generations(server))


# --- graceful stop ------------------------------------------------------------------------

@pytest.mark.parametrize("tls", [True, False])
def test_graceful_stop(httpd, tls):
    """What runs is finished; nothing is accepted any more."""
    server = httpd(CONFIG, MODULES)
    files(server)
    with server:
        with server.h2(tls) as c, server.h2(tls) as idle:
            idle.request(path="/index.html")
            asked = [c.get("/t/wait?ms=1000"), c.get("/huge"),
                     c.get("/t/trickle?n=20&ms=50")]
            c.ping()
            server.signal(signal.SIGWINCH)
            assert idle.wait_closed()
            c.wait(*asked, timeout=30)
            assert [len(r.body) for r in asked] == [7, 10 << 20, 200]
            assert c.wait_closed()
            assert c.goaways[0][0] == NO_LAST
            server.wait_gone(10)
        with pytest.raises(OSError):
            server.connect(tls=False)


def test_graceful_stop_under_load(httpd):
    """Until it says GOAWAY, a connection is served."""
    server = httpd(CONFIG, MODULES)
    files(server)
    with server:
        client = goodclient.Client(server, stay=True)
        client.connect()
        first = client.now
        count = [0]

        def refill():
            while client.count < 20 and not first.goaways:
                client.ask("/t/wait?ms=%d" % (5 + count[0] % 7 * 10))
                count[0] += 1
        client.until(lambda: len(client.done) > 50, refill=refill)
        server.signal(signal.SIGWINCH)
        client.until(lambda: first.goaways, refill=refill)
        client.finish()
        assert not client.lost, client.lost[0].why
        # only if it happened to be idle
        assert not client.refused or client.unwarned
        server.wait_gone(10)


@pytest.mark.skipif(not lib_server.LONG, reason="httpd takes ten seconds for "
                    "this: set H2X_LONG=1")
def test_graceful_stop_timeout(httpd):
    """GracefulShutdownTimeout ends what does not end by itself."""
    server = httpd(CONFIG + "GracefulShutdownTimeout 1\n", MODULES)
    files(server)
    with server:
        with server.h2() as c:
            c.get("/t/wait?gate=1")
            r = c.start(c.fields("POST", "/t/echo"), end=False)
            c.data(r.id, b"1234")
            c.wait_body(r, 4)
            inside.open_gate(server, 1)
            began = time.monotonic()
            server.signal(signal.SIGWINCH)
            server.wait_gone(30)
            assert since(began) < 20 * lib_server.PATIENCE
