"""What a server runs out of: descriptors, memory, threads, workers, disk.
Each ends in a status, a reset or a closed connection, and a line in the log;
when there is enough again, all is as before."""

import collections
import contextlib
import os
import re
import resource
import subprocess
import time

import pytest

from lib import backend, faults as lib_faults, h2raw, inside
from lib.server import MPM, SANITIZE, wait_for

pytestmark = [
    pytest.mark.h2x_only("other threads, other memory"),
    pytest.mark.skipif(MPM == "prefork", reason="one client a child")]

SIZE = 100000
PAGE = b"hello\n"

own_memory = pytest.mark.skipif(bool(SANITIZE),
                                reason="sanitizers give out the memory")
NO_MEMORY = r"\[h2x:error\].*Cannot allocate memory"


def files(server):
    server.write("index.html", PAGE)
    server.write("file", b"x" * SIZE)


def is_served(server, path="/index.html", body=PAGE):
    """A new connection and a request."""
    with contextlib.suppress(OSError, h2raw.Timeout):
        with server.h2() as c:
            return c.request(path=path).body == body
    return False


def wait_served(server):
    wait_for(lambda: is_served(server), 30, "the server to serve")


# --- descriptors ---------------------------------------------------------

def descriptor_limit(server, more):
    """Such that the child, which has one client, may open `more` of them."""
    wait_for(lambda: server.connections() == 1, 10, "one connection")
    pid, = wait_for(server.children, 20, "the child")
    used = {int(name) for name in os.listdir("/proc/%d/fd" % pid)}
    limit = 0
    while limit in used or more > 0:
        more -= limit not in used
        limit += 1
    return limit


def test_no_descriptors(httpd):
    """Files cannot be opened, nor connections to backends, nor sockets for
    those who poll; what needs none is served."""
    with backend.Backend(lambda request: request.answer("b")) as origin:
        server = httpd("ProxyPass /b http://127.0.0.1:%d\n" % origin.port,
                       "proxy proxy_http")
        files(server)
        with server, server.h2() as c:
            assert c.request(path="/index.html").body == PAGE
            limit = descriptor_limit(server, 0)
            with lib_faults.limit(server, "nofile", limit):
                mark = server.log_mark()
                file, proxied = c.get("/file"), c.get("/b")
                echo = c.start(c.fields("POST", "/t/echo"), end=False)
                c.data(echo.id, b"still here", end=True)
                c.wait(file, proxied, echo)
                assert file.status == 403 or file.status >= 500
                assert proxied.status >= 500
                assert (echo.status, echo.text) == (200, "still here")
                for path in ("/file", "127.0.0.1"):
                    server.wait_log(r"Too many open files.*" + path, mark)
            again = [c.get("/file"), c.get("/b")]
            c.wait(*again)
            assert [len(r.body) for r in again] == [SIZE, 1]
            wait_served(server)
            inside.wait_settled(server)


def test_many_files_at_once(httpd):
    """Streams whose files wait for their client hold one each; when there are
    no more, the next are refused, and none of the others is."""
    server = httpd("H2StreamMaxMemSize 1024\n")
    files(server)
    settings = {h2raw.INITIAL_WINDOW_SIZE: 10}
    with server, server.h2(settings=settings) as c:
        assert c.request(path="/t/status?s=200").done
        with lib_faults.limit(server, "nofile",
                              descriptor_limit(server, 10)):
            held = [c.get("/file") for _ in range(30)]
            c.until(lambda: all(r.headers for r in held), 30, "heads")
        good = [r for r in held if r.status == 200]
        assert 5 <= len(good) < 30
        assert all(r.status == 403 or r.status >= 500
                   for r in held if r not in good)
        for r in held:
            c.credit(SIZE, r.id)
        c.credit(30 * SIZE)
        c.wait(*held)
        assert {len(r.body) for r in good} == {SIZE}
        inside.wait_settled(server)


def opened(server, gate):
    """Opens a gate, if somebody is there to do so."""
    with contextlib.suppress(OSError):
        inside.open_gate(server, gate)
        return True
    return False


def test_no_descriptor_for_a_connection(httpd):
    """httpd's answer is to let the child end gracefully: what runs there goes
    on, and new clients are the next child's."""
    server = httpd()
    files(server)
    with server, server.h2() as c:
        running = c.get("/t/wait?gate=1")
        c.ping()
        with lib_faults.limit(server, "nofile", descriptor_limit(server, 0)):
            mark = server.log_mark()
            late = server.h2(tls=False)     # httpd waits for what it says
            server.wait_log(r"Too many open files.*accept", mark)
            c.until(lambda: c.goaways, what="GOAWAY")
            assert c.goaway_code == h2raw.NO_ERROR
        wait_for(lambda: opened(server, 1), 60, "another child")
        assert c.wait(running).text == "waited\n"
        with late as d:
            assert d.request(path="/index.html", timeout=60).body == PAGE
        wait_served(server)
        inside.wait_settled(server)


@pytest.mark.h2x_only("keeps other descriptors")
@pytest.mark.parametrize("size", [1000, 20000])
def test_files_leave_descriptors(httpd, size):
    """Clients with a window of 0 keep files waiting, but no more descriptors
    for them than half of what the child may have."""
    count = 300
    server = httpd()
    server.write("file", b"x" * size)
    with contextlib.ExitStack() as stack:
        with lib_faults.limited(count):
            stack.enter_context(server)
        clients = [stack.enter_context(server.h2(settings={h2raw.INITIAL_WINDOW_SIZE: 0}))
                   for _ in range(4)]
        rs = [(c, c.get("/file")) for c in clients for _ in range(100)]
        for c, r in rs:
            c.wait_headers(r)
            assert r.status == 200
        pid, = server.children()
        assert len(os.listdir("/proc/%d/fd" % pid)) <= count / 2 + 50
        with server.h2() as c:
            assert c.request(path="/file").body == b"x" * size
        for c in clients:
            c.settings({h2raw.INITIAL_WINDOW_SIZE: 65535})
            c.credit(100 * size)
        for c, r in rs:
            c.wait(r)
            assert r.body == b"x" * size


def test_share_of_descriptors(httpd):
    """One client has had half of the descriptors; another one gets 8, small
    files, parts of large ones, and 503."""
    count = 150
    server = httpd("LogLevel warn h2x:info")
    server.write("large", b"x" * 300000)
    server.write("small", b"x" * 60000)
    settings = {h2raw.INITIAL_WINDOW_SIZE: 0}
    ranges = "bytes=" + ",".join("%d-%d" % (i, i + 19999)
                                 for i in (0, 30000, 290000 - 20000))
    with contextlib.ExitStack() as stack:
        with lib_faults.limited(count):
            stack.enter_context(server)
        first, second = [stack.enter_context(server.h2(settings=settings))
                         for _ in range(2)]
        many = first.burst(["/large"] * 90)
        for r in many:
            first.wait_headers(r)
        pid, = server.children()
        assert len(os.listdir("/proc/%d/fd" % pid)) <= count / 2 + 20
        mark = server.log_mark()
        few = second.burst(["/large"] * 20)
        small = [second.get("/small") for _ in range(20)]
        parts = second.get("/large", [("range", ranges)])
        for r in few + small + [parts]:
            second.wait_headers(r)
        by_status = collections.Counter(r.status for r in few)
        assert by_status == {200: 8, 503: 12}
        assert {r.status for r in many} == {200, 503}
        assert {r.status for r in small} == {200} and parts.status == 206
        server.wait_log(r"answered with 503: no descriptor", mark)
        for c, rs in (first, many), (second, few + small + [parts]):
            c.settings({h2raw.INITIAL_WINDOW_SIZE: 1 << 20})
            c.credit(1 << 30)
            c.wait(*rs)
        for r in many + few:
            assert len(r.body) == (300000 if r.status == 200 else 0)
            assert r.ended and not r.reset
        assert {len(r.body) for r in small} == {60000}
        assert parts.body.count(b"x" * 20000) == 3
        again = second.burst(["/large"] * 20)
        second.wait(*again)
        assert {(r.status, len(r.body)) for r in again} == {(200, 300000)}
        inside.wait_settled(server)


# --- memory --------------------------------------------------------------

def use(c):
    """Some of everything.  Returns what became of each: "whole", or how it
    was refused; that is a status, a reset, or the end of the connection."""
    asked, is_gone = [], False
    try:
        asked.append(c.start(c.fields("POST", "/t/echo"), end=False))
        asked += [c.get("/file"), c.get("/t/big?length=1&n=%d" % SIZE),
                  c.get("/t/trickle?n=1&size=%d" % SIZE)]
        c.upload(asked[0], b"y" * SIZE, timeout=30)
        c.pump(lambda: all(r.done for r in asked), 30)
    except OSError:
        is_gone = True
    assert is_gone or c.closed or all(r.done for r in asked), asked
    return [outcome(r) for r in asked]


def outcome(r):
    if r.reset or not r.ended:
        return "reset" if r.reset else "closed"
    if r.status == 200:
        assert len(r.body) == SIZE, r
        return "whole"
    assert r.status == 403 or r.status >= 500, r
    return "refused"


def check_told(server, since):
    """The log has that, but not for each stream or connection: once in ten
    seconds."""
    server.wait_log(NO_MEMORY, timeout=1)
    assert len(re.findall(NO_MEMORY, server.error_text())) \
        <= 1 + (time.monotonic() - since) / 10


@own_memory
def test_engine_without_memory(httpd, session_dir):
    """One of the engine's own allocations fails, one after the other: that
    costs no more than a connection."""
    faults = lib_faults.Faults(session_dir)
    server = httpd("LogLevel h2x:debug\n", env=faults.env)
    files(server)
    start = time.monotonic()
    small = {h2raw.INITIAL_WINDOW_SIZE: 3000}
    seen = collections.Counter()
    with server:
        pid, = wait_for(server.children, 20, "the child")
        for number in range(1, 140, 3):
            mark = server.log_mark()
            faults.failed, faults.memory = 0, number
            with server.h2(settings=small) as c:
                outcomes = use(c)
            faults.memory = 0
            seen.update(outcomes)
            if "reset" in outcomes:
                server.wait_log(r"\[h2x:", mark)
            assert faults.failed or set(outcomes) == {"whole"}
        assert seen["closed"] and seen["reset"] and seen["whole"]
        with server.h2() as c:
            assert set(use(c)) == {"whole"}
        inside.wait_settled(server)
        assert server.children() == [pid]
        check_told(server, start)


@own_memory
def test_no_memory_to_write(httpd, session_dir):
    """The buffer for that is there while a connection is active."""
    faults = lib_faults.Faults(session_dir)
    server = httpd(env=faults.env)
    files(server)
    start = time.monotonic()
    with server:
        faults.size = 48 << 10
        for _ in range(5):
            faults.memory = 1
            assert not is_served(server)
        assert faults.failed == 5
        faults.memory = 0
        assert is_served(server)
        inside.wait_settled(server)
        check_told(server, start)


def virtual_size(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[0]) * resource.getpagesize()


@pytest.mark.skipif(bool(SANITIZE), reason="sanitizers need much address space")
@pytest.mark.parametrize("kilobytes", [1 << 18, 1 << 14, 1 << 11, 1 << 10,
                                       1 << 9, 0])
def test_no_memory(httpd, kilobytes):
    """`ulimit -v` in steps, above what a child has.  Where APR and APR-util
    get nothing they end the process, one way or the other (APR-util uses what
    it did not get); then there is another one."""
    server = httpd()
    files(server)
    server.expect_log(r"exit signal (Abort|Segmentation)")
    with server:
        wait_served(server)
        pid, = wait_for(server.children, 20, "the child")
        limit = virtual_size(pid) + (kilobytes << 10)
        outcomes = []
        with lib_faults.limit(server, "as", limit):
            for _ in range(4):
                with contextlib.suppress(OSError), server.h2() as c:
                    outcomes += use(c)
        if kilobytes >= 1 << 18:
            assert set(outcomes) == {"whole"}
        wait_served(server)
        with server.h2() as c:
            assert set(use(c)) == {"whole"}


def test_memory_is_given_back_slowly(httpd, session_dir):
    """After a crowd of streams has gone; their connection goes on meanwhile,
    and so do others, also those whose own thread is busy."""
    faults = lib_faults.Faults(session_dir)
    server = httpd("H2MaxSessionStreams 500\n", env=faults.env)
    files(server)
    closed = {h2raw.INITIAL_WINDOW_SIZE: 0}
    with server, server.h2(settings=closed) as c, server.h2() as other:
        waiting = other.get("/t/wait?gate=1")
        crowd = [c.get("/index.html") for _ in range(400)]
        c.until(lambda: all(r.headers for r in crowd), 30, "heads")
        faults.trim = 1
        c.settings({h2raw.INITIAL_WINDOW_SIZE: 65535})
        wait_for(lambda: faults.failed, 20, "memory to be given back")
        for one in (c, other):
            assert one.request(path="/index.html").body == PAGE
        faults.trim = 0
        c.wait(*crowd)
        assert all(r.body == PAGE for r in crowd)
        inside.open_gate(server, 1)
        other.wait(waiting)
        inside.wait_settled(server)


# --- threads and workers -------------------------------------------------

def test_no_threads(httpd, session_dir):
    """Workers cannot be started: requests wait for the connection's own
    thread, and are served when there are threads again.  The log has that
    once."""
    faults = lib_faults.Faults(session_dir)
    server = httpd(env=faults.env)
    files(server)
    with server, server.h2() as c, server.h2() as other:
        for one in (c, other):
            assert one.request(path="/index.html").body == PAGE
        mark = server.log_mark()
        faults.threads = -1
        first = c.get("/t/wait?gate=1")
        second = [c.get("/index.html")]
        second += [c.get("/t/wait?gate=2") for _ in range(20)]
        server.wait_log(r"cannot start a worker thread", mark)
        assert other.request(path="/index.html").body == PAGE
        inside.open_gate(server, 1)
        inside.open_gate(server, 2)
        c.wait(first, *second)
        assert {r.status for r in [first] + second} == {200}
        # one that does not end: the others go on as soon as they can
        slow, late = c.get("/t/wait?gate=3"), c.get("/t/wait?gate=4")
        c.ping()
        faults.threads = 0
        inside.open_gate(server, 4)
        assert c.request(path="/index.html").body == PAGE
        c.wait(late)
        inside.open_gate(server, 3)
        c.wait(slow)
        assert server.error_text().count("cannot start a worker") == 1
        inside.wait_settled(server)


def test_no_thread_for_a_child(httpd, session_dir):
    """A child that cannot start its own threads says so, and clients get
    HTTP/1.1; the next child is as it should be."""
    faults = lib_faults.Faults(session_dir)
    server = httpd(env=faults.env)
    files(server)
    with server:
        first, = wait_for(server.children, 20, "the child")
        mark = server.log_mark()
        faults.threads = 1
        os.kill(first, 9)
        server.wait_log(r"h2x: cannot start, HTTP/2 is off in this child",
                        mark)
        assert wait_for(lambda: faults.threads == 0, 10, "the fault")
        wait_for(server.children, 20, "another child")
        assert server.http1(path="/index.html").body == PAGE
        second, = wait_for(server.children, 20, "the child that served")
        os.kill(second, 9)
        wait_for(lambda: second not in server.children(), 20, "its end")
        wait_served(server)


def test_full_worker_pool(httpd):
    """Two workers, and requests that keep them: each connection has its own
    thread, and one worker even past these two; the others wait, on all
    connections, and none is lost.  Files need no worker."""
    server = httpd("H2MaxWorkers 2\nH2MinWorkers 1\n")
    files(server)
    with server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.h2()) for _ in range(3)]
        waiting = [c.get("/t/wait?gate=1") for c in clients for _ in range(9)]
        wait_for(lambda: inside.counters(server)["handled"] >= 6, 10,
                 "three connections and a worker for each to be busy")
        with server.h2() as c:
            assert c.request(path="/index.html").body == PAGE
        # two of one connection, and then one for each of the others
        assert inside.counters(server)["handled"] <= 3 + 2 + 2 + 1
        clients[0].reset(waiting[8].id)
        inside.open_gate(server, 1)
        del waiting[8]
        for c in clients:
            c.wait(*[r for r in waiting if c.streams.get(r.id) is r])
        assert {r.text for r in waiting} == {"waited\n"}
        inside.wait_settled(server)


# --- disk ----------------------------------------------------------------

@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB."""
    path = str(tmp_path / "disk")
    os.mkdir(path)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none",
                           path], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        pytest.skip("cannot mount a tmpfs: " + done.stderr.strip())
    os.chmod(path, 0o777)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o777 == 0o700:
            os.chmod(parent, 0o755)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_spool_on_a_full_disk(httpd, small_disk):
    """mod_proxy keeps an upload in a file, to know its length."""
    with backend.Backend(lambda request: request.answer(
            "%d" % len(request.body()))) as origin:
        server = httpd("ProxyPass /b http://127.0.0.1:%d\n"
                       "SetEnv proxy-sendcl 1\n" % origin.port,
                       "proxy proxy_http env", env={"TMPDIR": small_disk})
        files(server)
        with server, server.h2() as c:
            small = c.request("POST", "/b", body=b"x" * SIZE)
            assert (small.status, small.text) == (200, str(SIZE))
            mark = server.log_mark()
            large = c.request("POST", "/b", body=b"x" * 10 * SIZE)
            assert large.status >= 500 and large.reset in (None, 0)
            server.wait_log(r"No space left on device", mark)
            assert c.request(path="/index.html").body == PAGE
            again = c.request("POST", "/b", body=b"x" * SIZE)
            assert (again.status, again.text) == (200, str(SIZE))
            inside.wait_settled(server)


def test_upload_to_a_full_disk(httpd, small_disk):
    """mod_dav_fs keeps what is PUT."""
    server = httpd("DavLockDB ${HTDOCS}/locks/db\nAlias /disk %s\n"
                   "<Directory %s>\n Dav on\n Require all granted\n"
                   "</Directory>\n" % (small_disk, small_disk),
                   "dav dav_fs alias")
    files(server)
    server.writable("locks")
    with server, server.h2() as c:
        assert c.request("PUT", "/disk/a", body=b"x" * SIZE).status == 201
        mark = server.log_mark()
        full = c.request("PUT", "/disk/b", body=b"x" * 10 * SIZE)
        assert full.status >= 500 and full.reset in (None, 0)
        server.wait_log(r"No space left on device", mark)
        assert len(c.request(path="/disk/a").body) == SIZE
        assert c.request("PUT", "/disk/c", body=b"x").status == 201
        inside.wait_settled(server)


def test_logs_on_a_full_disk(httpd):
    """Clients do not suffer."""
    server = httpd("CustomLog /dev/full test\n", hosts={
        "localhost": "ErrorLog /dev/full\nCustomLog /dev/full test\n"
                     "LogLevel debug"})
    files(server)
    with server, server.h2() as c:
        many = [c.get("/file") for _ in range(20)]
        cut = c.get("/t/big?n=10000000")
        c.reset(cut.id)
        c.wait(*many)
        assert {len(r.body) for r in many} == {SIZE}
        inside.wait_settled(server)
