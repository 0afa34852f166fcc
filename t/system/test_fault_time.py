"""Clocks that jump, and logs whose reader has stopped: nobody waits for ever,
and nothing that was accepted is lost."""

import contextlib
import os
import signal

import pytest

from lib import h2raw, inside, proc
from lib.server import wait_for

pytestmark = pytest.mark.h2x_only("keeps requests waiting for each other")

SIZE = 200000
HOUR = 3600


def files(server):
    server.write("index.html", "hello\n")
    server.write("file", "x" * SIZE)


# --- clocks --------------------------------------------------------------

@pytest.fixture(scope="module")
def clocked(httpd, faults):
    one = httpd("Timeout 60\nKeepAliveTimeout 60\n", env=faults.env)
    files(one)
    with one:
        yield one


@pytest.fixture
def no_jump(faults):
    faults.clear()
    yield
    faults.clear()


@contextlib.contextmanager
def waiting(server):
    """Connections that wait: (connection, responses), each of which can be
    had.  A request runs on each of them, so that httpd, whose timers go by the
    clock on the wall, has no part in that."""
    small = {h2raw.INITIAL_WINDOW_SIZE: 1000}
    with server.h2(settings=small, windows=False) as c, server.h2() as d:
        running = [c.get("/t/wait?gate=1"), d.get("/t/wait?gate=1")]
        upload = d.start(d.fields("POST", "/t/upload"), end=False)
        d.data(upload.id, b"before ")
        d.ping()
        reading = [c.get("/file"), c.get("/t/big?n=%d" % SIZE)]
        for r in reading:
            c.wait_body(r, 1000)
        yield c, d, upload, reading
        for r in reading:
            c.credit(SIZE, r.id)
        c.credit(2 * SIZE)
        d.data(upload.id, b"and after", end=True)
        d.wait(upload)
        assert upload.status == 200
        c.wait(*reading)
        assert [len(r.body) for r in reading] == [SIZE, SIZE]
        inside.open_gate(server, 1)
        c.wait(running[0])
        d.wait(running[1])
        assert {r.text for r in running} == {"waited\n"}
        for one in (c, d):
            assert one.request(path="/index.html").text == "hello\n"
        with server.h2() as late:
            assert late.request(path="/index.html").text == "hello\n"
        inside.close_gates(server)
    inside.wait_settled(server)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 24 * HOUR, 1, -1])
def test_clock_jumps(clocked, faults, no_jump, jump):
    """Requests that run go on, also those that wait for their client, up or
    down; connections and requests that come after that are served."""
    with waiting(clocked) as (c, d, _, _):
        faults.seconds = jump
        for one in (c, d):
            one.ping()


def test_forward_and_quiet(clocked, faults, no_jump):
    """Nobody has waited for long, as long as the clock may say so: those who
    look after clients that say nothing have looked several times."""
    with waiting(clocked) as (c, d, upload, reading):
        faults.seconds = HOUR
        c.idle(1)
        d.poll()
        assert not upload.done and not any(r.done for r in reading)


def test_timeouts_after_a_jump(httpd, faults, no_jump):
    """Those who wait for too long are noticed when the clock was set back."""
    server = httpd("Timeout 2\nKeepAliveTimeout 60\n", env=faults.env)
    files(server)
    small = {h2raw.INITIAL_WINDOW_SIZE: 1000}
    with server, server.h2(settings=small, windows=False) as c:
        faults.seconds = -HOUR
        running = c.get("/t/wait?gate=1")
        file = c.get("/file")
        upload = c.start(c.fields("POST", "/t/upload"), end=False)
        c.wait(file, upload)
        assert (file.reset, upload.status) == (h2raw.CANCEL, 408)
        inside.open_gate(server, 1)
        assert c.wait(running).text == "waited\n"


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_slow_request_after_a_jump(clocked, faults, no_jump, jump):
    """One that keeps its thread is noticed, whatever the clock does."""
    with clocked.h2() as c:
        assert c.request(path="/index.html").text == "hello\n"
        faults.seconds = jump
        slow = c.get("/t/wait?gate=2")
        assert c.request(path="/index.html").text == "hello\n"
        assert not slow.done
        inside.open_gate(clocked, 2)
        assert c.wait(slow).text == "waited\n"
        inside.close_gates(clocked)
    inside.wait_settled(clocked)


def test_woken_for_nothing(httpd, faults, no_jump):
    """Threads that wait for work are woken several times a second, for no
    reason (shim.c); those too many end when they were idle for long."""
    with httpd("H2MinWorkers 1\nH2MaxWorkerIdleSeconds 1\n",
               env=faults.env) as server, server.h2() as c:
        before = server.threads()
        many = [c.get("/t/wait?gate=1") for _ in range(30)]
        wait_for(lambda: server.threads() >= before + 20, 10, "threads")
        inside.open_gate(server, 1)
        c.wait(*many)
        wait_for(lambda: server.threads() <= before + 2, 10,
                 "idle threads to end")


# --- logs ----------------------------------------------------------------

#: Writes what it reads to a file; its first line there is its process id.
READER = """#!/bin/sh
echo $$ >$1
exec cat >>$1
"""


@pytest.fixture
def piped(httpd):
    """Access and error log go through pipes."""
    server = httpd('CustomLog "|${HTDOCS}/reader ${DIR}/run/piped" test\n',
                   hosts={"localhost": "LogLevel debug\n"
                          'ErrorLog "|${HTDOCS}/reader ${DIR}/run/errors"'})
    files(server)
    server.write("reader", READER, 0o755)
    with server:
        yield server


def reader(server, name):
    """The process that reads a log.  httpd reads its configuration twice: it
    is the one that gets something."""
    assert server.http1(path="/index.html").status == 200

    def found():
        with contextlib.suppress(OSError, ValueError):
            with open(server.path("run", name)) as f:
                pid = int(f.readline())
                return f.readline() and proc.alive(pid) and pid
    return wait_for(found, 10, "the reader of %s" % name)


def lines(server, uri):
    """How often a request for a URI was logged through the pipe."""
    with open(server.path("run", "piped"), errors="replace") as f:
        return f.read().count("\t%s\t" % uri)


@pytest.mark.parametrize("name", ["piped", "errors"])
def test_log_reader_stops(piped, name):
    """What fills the pipe waits for its reader, and no response is lost; when
    that reads again, all is as before."""
    stopped = reader(piped, name)
    count = 1                   # one was asked to find the reader
    with piped.h2() as c:
        os.kill(stopped, signal.SIGSTOP)
        try:
            # 64 KB of log, and not so many that no thread is left to answer
            with contextlib.suppress(h2raw.Timeout):
                while count < 2000:
                    r = c.get("/index.html", {"x": "y"})
                    count += 1
                    c.wait(r, timeout=2)
                    assert r.text == "hello\n"
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert 50 < count < 2000    # it filled up
        c.wait(r)
        assert r.text == "hello\n"
        many = [c.get("/file") for _ in range(20)]
        c.wait(*many)
        assert {len(r.body) for r in many} == {SIZE}
    wait_for(lambda: lines(piped, "/index.html") == count
             and lines(piped, "/file") == 20, 20, "all to be logged")
    assert len(piped.access(uri="/index.html")) == count
    inside.wait_settled(piped)
