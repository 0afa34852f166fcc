"""The end of a request before its time: the client goes away at any point, a
child process is stopped or killed.  Nothing is left behind, the log has each
request once, and others go on."""

import contextlib
import os
import signal
import socket
import ssl
import time

import pytest

from lib import goodclient, h2raw, inside, proc, server as lib_server
from lib.server import PATIENCE, wait_for

# Two workers, so that requests queue; they end soon, so that one that does
# not is seen.
CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
H2MaxWorkers 2
H2MaxWorkerIdleSeconds 1
<Location /server-status>
    SetHandler server-status
</Location>
<Location /slow>
    TestFixupsSleep on
</Location>
"""
MODULES = "cgid alias status"

SIZE = 300000


def files(server):
    server.write("index.html", "hello\n")
    server.write("slow/page", "slow\n")
    server.write("file", "x" * SIZE)
    server.write("cgi/silent", "#!/bin/sh\n"
                 "printf 'Content-Type: text/plain\\n\\nbegin\\n'\n"
                 "while [ ! -e ../go ]; do sleep 0.05; done\n"
                 "exec head -c 1000000 /dev/zero\n", 0o755)
    server.write("cgi/zeros", "#!/bin/sh\n"
                 "printf 'Content-Type: application/x\\n\\n'\n"
                 "exec head -c 10000000 /dev/zero\n", 0o755)


class At:
    """Points in the life of a request.  Each brings a connection there, and
    says how many requests httpd has seen of it (None: any number)."""

    @staticmethod
    def preface(c):
        """Half of the connection preface; the test connects without."""
        c.raw(h2raw.PREFACE[:10])
        return 0

    @staticmethod
    def idle(c):
        c.request(path="/index.html")
        return 1

    @staticmethod
    def frame(c):
        """Half of a frame's head."""
        c.ping()
        c.raw(b"\0\0")
        return 0

    @staticmethod
    def head(c):
        """HEADERS without END_HEADERS."""
        c.ping()
        c.send(h2raw.HeadersFrame(1, c.encode(c.fields(path="/index.html"))))
        return 0

    @staticmethod
    def queue(c):
        """Requests that no thread has begun, behind some that wait."""
        for _ in range(10):
            c.get("/t/wait?gate=1")
        c.ping()
        return None

    @staticmethod
    def hook(c):
        """In a hook before the handler, which knows nothing of HTTP/2."""
        c.get("/slow/page?fixgate=1")
        c.ping()
        return 1

    @staticmethod
    def body(c):
        """A handler that waits for its request's body."""
        r = c.start(c.fields("POST", "/t/echo"), end=False)
        c.data(r.id, b"1234")
        c.wait_body(r, 4)
        return 1

    @staticmethod
    def cgi(c):
        """A script that has said something and then is silent.  httpd sees
        that the client has gone when it goes on, as with HTTP/1.1."""
        c.wait_body(c.get("/cgi/silent"), 6)
        return 1

    @staticmethod
    def write(c):
        """A handler whose output nobody takes."""
        c.wait_body(c.get("/t/big?n=10000000"), 1000)
        return 1

    @staticmethod
    def cgi_write(c):
        c.wait_body(c.get("/cgi/zeros"), 1000)
        return 1

    @staticmethod
    def rest_of_memory(c):
        """The handler is done; a part of its output is left."""
        c.wait_body(c.get("/t/big?n=20000"), 1000)
        return 1

    @staticmethod
    def rest_of_file(c):
        c.wait_body(c.get("/file"), 1000)
        return 1

    @staticmethod
    def many(c):
        """All of these at once."""
        for point in (At.rest_of_file, At.rest_of_memory, At.idle):
            point(c)
        r = c.start(c.fields("POST", "/t/echo"), end=False)
        c.data(r.id, b"1234")
        for path in ("/t/big?n=10000000", "/t/wait?gate=1", "/file"):
            c.get(path)
        c.ping()
        return None


POINTS = [name for name in vars(At) if not name.startswith("_")]


class How:
    """Ways in which a client leaves.  Each says whether the server has to
    close the connection in turn, with the client still listening."""

    @staticmethod
    def close(c):
        c.close()
        return False

    @staticmethod
    def reset(c):
        """TCP RST."""
        c.abort()
        return False

    @staticmethod
    def half_close(c):
        """FIN, with no word of TLS."""
        c.plain = c.sock
        if isinstance(c.sock, ssl.SSLSocket):
            c.plain = lib_server.socket.socket(
                fileno=os.dup(c.sock.fileno()))
        c.plain.shutdown(lib_server.socket.SHUT_WR)
        return True

    @staticmethod
    def close_notify(c):
        """What TLS says at the end, and no FIN."""
        c.sock.settimeout(0)
        with contextlib.suppress(OSError):
            c.sock.unwrap()
        return True

    @staticmethod
    def goaway(c):
        with contextlib.suppress(OSError):
            c.goaway()
        c.close()
        return False

    @staticmethod
    def rst_streams(c):
        """RST_STREAM for all; the connection stays."""
        for sid in range(1, c.next_id, 2):
            c.reset(sid)
        c.ping()
        c.close()
        return False


def sees_the_end(c):
    """The server closes its side too."""
    plain = getattr(c, "plain", c.sock)
    plain.settimeout(10 * lib_server.PATIENCE)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while plain.recv(1 << 16):
            pass


@pytest.fixture(scope="module")
def holdings(server):
    """What the server's children hold when they are at rest."""
    for tls in (True, False):
        with server.h2(tls) as c:
            c.request(path="/index.html")
            c.request(path="/t/env")
            c.wait(*[c.get("/t/wait?ms=50") for _ in range(5)])
    at_rest(server)
    return proc.Holdings(server)


def at_rest(server):
    inside.wait_settled(server, 20)
    wait_for(lambda: inside.busy(server) == 0, 20, "MPM threads to be free")


def nothing_left(server, holdings, threads=True):
    """All that was taken has been given back."""
    at_rest(server)

    def exceeds():
        now = proc.Holdings(server)
        if not threads:
            now.threads.clear()
        return now.exceeds(holdings)
    try:
        wait_for(lambda: not exceeds(), 20)
    except lib_server.ServerError:
        pytest.fail("left behind: " + exceeds())


def scripts(server):
    """Processes of CGIs that still run."""
    found = []
    for pid in server.processes():
        with contextlib.suppress(OSError):
            with open("/proc/%d/comm" % pid) as f:
                if f.read().strip() in ("sleep", "head"):
                    found.append(pid)
    return found


# --- the client goes away ------------------------------------------------------------

@pytest.mark.h2x_only("leaves a thread with what waits")
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "cleartext"])
@pytest.mark.parametrize("how", ["close", "reset", "half_close",
                                 "close_notify", "goaway", "rst_streams"])
@pytest.mark.parametrize("point", POINTS)
def test_client_leaves(server, holdings, point, how, tls):
    if how == "close_notify" and not tls:
        pytest.skip("TLS only")
    if point in ("preface", "frame", "head") and how in ("rst_streams",
                                                          "goaway"):
        pytest.skip("no other frame fits in there")
    inside.close_gates(server)
    go = server.path("htdocs", "go")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(go)
    mark = server.access_mark()
    before = inside.counters(server)
    c = server.h2(tls, windows=False, greet=point != "preface",
                  settings={h2raw.INITIAL_WINDOW_SIZE: 1000})
    count = getattr(At, point)(c)
    stays = getattr(How, how)(c)
    if point in ("queue", "hook", "many"):
        inside.open_gate(server, 1, 1000)
    open(go, "w").close()
    if stays:
        sees_the_end(c)
        c.close()
    inside.wait_settled(server, 20)
    seen = inside.counters(server)["read"] - before["read"]
    nothing_left(server, holdings, threads=False)
    assert count is None or seen == count
    entries = server.access(since=mark, proto="HTTP/2.0")
    assert len(entries) == seen
    assert len({e["stream"] for e in entries}) == seen
    wait_for(lambda: not scripts(server), 10, "CGIs to end")


def test_no_thread_left(server, holdings):
    """After all of the above, and when workers have idled long enough."""
    nothing_left(server, holdings)
    with server.h2() as c:
        assert c.request(path="/index.html").text == "hello\n"


def test_goaway_from_client_ends_nothing(server, holdings):
    """A client that says GOAWAY still takes what it has asked for."""
    inside.close_gates(server)
    with server.h2() as c:
        slow = c.get("/t/wait?gate=1")
        file = c.get("/file")
        c.ping()
        c.goaway()
        inside.open_gate(server, 1)
        c.wait(slow, file)
        assert (slow.text, len(file.body)) == ("waited\n", SIZE)
        c.wait_closed()
    nothing_left(server, holdings, threads=False)


def test_reset_while_others_run(server, h2):
    """RST_STREAM of every second of 40 requests; the others are whole."""
    inside.close_gates(server)
    asked = [h2.get("/t/trickle?n=3&gate=1") for _ in range(20)]
    asked += [h2.get("/file?%d" % i) for i in range(20)]
    for r in asked[::2]:
        h2.reset(r.id)
    inside.open_gate(server, 1, 1000)
    h2.wait(*asked[1::2])
    assert {len(r.body) for r in asked[1::2]} == {30, SIZE}
    assert all(r.ended for r in asked[1::2])
    h2.ping()
    inside.wait_settled(server)


@pytest.mark.parametrize("alert", [b"", b"\x15\x03\x03\x00\x02\x02\x28"],
                         ids=["close", "alert"])
def test_client_leaves_in_tls_handshake(httpd, alert):
    """mod_ssl frees its SSL when a handshake fails; the origins of h2 were
    read from it."""
    with httpd(env={"MALLOC_PERTURB_": "165"}) as server:
        server.write("x", "x")
        children = wait_for(server.children, what="children")
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.tls_port),
                                          10 * PATIENCE) as sock:
                said = ssl.MemoryBIO()
                tls = server.tls_context().wrap_bio(
                    ssl.MemoryBIO(), said, server_hostname="localhost")
                with pytest.raises(ssl.SSLWantReadError):
                    tls.do_handshake()
                sock.sendall(said.read())
                assert sock.recv(65536)
                # in place of Finished
                sock.sendall(alert)
        wait_for(lambda: not server.connections(), what="connections to end")
        with server.h2() as c:
            assert c.request(path="/x").text == "x"
        assert server.children() == children


# --- children that end ----------------------------------------------------------------------

TWO_CHILDREN = """
StartServers 2
ServerLimit 4
ThreadsPerChild 4
MaxRequestWorkers 16
MinSpareThreads 8
MaxSpareThreads 16
"""


def connections_to_two(server):
    """Some connections to each of two children, as {pid: [connection]}."""
    found = {}

    def more():
        c = server.h2()
        mark = server.access_mark()
        assert c.request(path="/index.html").status == 200
        entry, = server.wait_access(1, since=mark, uri="/index.html")
        found.setdefault(int(entry["pid"]), []).append(c)
        if len(found) < 2:
            return False
        return True
    wait_for(more, 20, "connections to two children")
    return found


def test_kill_nine(httpd):
    """One child dies: connections to others notice nothing, and new ones
    are served."""
    server = httpd(TWO_CHILDREN)
    server.write("index.html", "hello\n")
    with server:
        wait_for(lambda: len(server.children()) >= 2, 10, "two children")
        found = connections_to_two(server)
        victim, survivor = sorted(found)[:2]
        alive = found[survivor][0]
        waiting = [alive.get("/t/wait?gate=1") for _ in range(5)]
        upload = alive.start(alive.fields("POST", "/t/echo"), end=False)
        alive.ping()
        dead = found[victim][0]
        dead.get("/t/wait?gate=2")
        dead.ping()
        os.kill(victim, signal.SIGKILL)
        for c in found[victim]:
            c.wait_closed()
        alive.data(upload.id, b"still here", end=True)
        assert alive.wait(upload).text == "still here"
        wait_for(lambda: not proc.alive(victim), 10, "the child to be gone")
        with server.h2() as c:
            assert c.request(path="/index.html").text == "hello\n"
        inside.open_gate(server, 1)
        alive.wait(*waiting)
        assert {r.text for r in waiting} == {"waited\n"}
        wait_for(lambda: len(server.children()) >= 2, 20,
                 "the child to be replaced")


@pytest.mark.parametrize("tls", [True, False])
def test_max_connections_per_child(httpd, tls):
    """Children that end after a few connections: no request is lost, and
    what runs on the last of them goes on."""
    server = httpd("MaxConnectionsPerChild 10\n")
    server.write("index.html", "hello\n")
    with server:
        first, = wait_for(server.children, 10, "the child")
        long = server.h2(tls)
        slow = long.get("/t/wait?gate=1")
        long.ping()
        for _ in range(25):
            client = goodclient.Client(server, tls)
            for _ in range(3):
                client.ask("/index.html")
            client.finish()
            assert not client.lost, client.lost[0].why
            assert len(client.done) == 3
            assert {r.response.text for r in client.done} == {"hello\n"}
            client.close()
        server.wait_access(75, uri="/index.html")
        pids = {e["pid"] for e in server.access(uri="/index.html")}
        assert len(pids) >= 2
        # the old child waits for the request, and has said so
        long.pump(lambda: long.goaways)
        assert long.goaways[0][0] == goodclient.NO_LAST
        inside.open_gate(server, 1)
        assert long.wait(slow).text == "waited\n"
        long.wait_closed()
        wait_for(lambda: not proc.alive(first), 10, "the old child to end")
        long.close()


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("pause", [0, 0.05])
def test_last_connection_of_a_child(httpd, tls, pause):
    """A child that has accepted its last connection serves it, even if
    nothing else keeps the child alive and the client takes its time."""
    server = httpd("""
        ServerLimit 30
        ThreadsPerChild 2
        MaxRequestWorkers 60
        StartServers 15
        MinSpareThreads 20
        MaxSpareThreads 60
        MaxConnectionsPerChild 1
        """)
    server.write("index.html", "hello\n")
    with server:
        wait_for(lambda: len(server.children()) > 10, 10, "the children")
        for _ in range(10):
            client = goodclient.Client(server, tls)
            client.connect()
            time.sleep(pause)
            for _ in range(3):
                client.ask("/index.html")
            client.finish()
            assert not client.lost, client.lost[0].why
            client.close()


def busy_streams(server, tls=True):
    """A connection with requests stuck at all points."""
    c = server.h2(tls, windows=False,
                  settings={h2raw.INITIAL_WINDOW_SIZE: 1000})
    c.request(path="/index.html")
    for path in ("/file", "/t/big?n=20000", "/t/big?n=10000000"):
        c.wait_body(c.get(path), 1000)
    r = c.start(c.fields("POST", "/t/echo"), end=False)
    c.data(r.id, b"1234")
    c.wait_body(r, 4)
    c.wait_body(c.get("/t/trickle?n=100000&ms=20&size=1"), 10)
    return c


@pytest.mark.h2x_only("may take long, and crash")
@pytest.mark.parametrize("how", ["stop", "restart"])
def test_stop_with_streams_open(httpd, how):
    """SIGTERM, SIGHUP: at once, whatever the requests wait for.  httpd's
    parent would have to kill children that take longer than some seconds,
    and say so."""
    server = httpd(CONFIG.replace("H2MaxWorkers 2", ""), MODULES)
    files(server)
    with server:
        made = [busy_streams(server, tls) for tls in (True, False) * 3]
        child, = server.children()
        began = time.monotonic()
        if how == "stop":
            server.signal(signal.SIGTERM)
            server.wait_gone(30)
        else:
            server.restart()
            wait_for(lambda: not proc.alive(child), 30, "the child to end")
        took = time.monotonic() - began
        assert "did not exit" not in server.error_text()
        assert took < 5 * lib_server.PATIENCE
        for c in made:
            c.pump(lambda: False)
            c.close()


@pytest.mark.h2x_only("may crash")
@pytest.mark.parametrize("delay", [0, 0.3, 0.7])
def test_stop_under_load(httpd, delay):
    """SIGTERM while h2load runs."""
    server = httpd(CONFIG, MODULES)
    files(server)
    load = None
    try:
        with server:
            for path in ("/index.html", "/t/env", "/file"):
                load = lib_server.subprocess.Popen(
                    ["h2load", "-D", "2", "-c", "4", "-m", "20",
                     server.url(path)],
                    stdout=lib_server.subprocess.DEVNULL,
                    stderr=lib_server.subprocess.DEVNULL)
            mark = server.access_mark()
            wait_for(lambda: server.access_mark() > mark + 100, 10, "load")
            time.sleep(delay)
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            server.wait_gone(30)
            assert time.monotonic() - began < 5 * lib_server.PATIENCE
            assert "did not exit" not in server.error_text()
    finally:
        if load:
            load.kill()
            load.wait()
