"""Clocks that jump, and logs whose reader has stopped: nobody waits for ever,
and nothing that was accepted is lost."""

import contextlib
import os
import signal

import pytest

from lib import faults as lib_faults
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
def faults(session_dir):
    return lib_faults.Faults(session_dir)


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


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 24 * HOUR, 1, -1])
def test_clock_jumps(clocked, faults, no_jump, jump):
    """Requests that run go on; connections and requests that come after that
    are served.  What waits for its client, up or down, may find that it has
    waited for long enough."""
    is_late = jump >= HOUR
    small = {h2raw.INITIAL_WINDOW_SIZE: 1000}
    with clocked.h2(settings=small) as c, clocked.h2() as d:
        running = d.get("/t/wait?gate=1")
        upload = d.start(d.fields("POST", "/t/upload"), end=False)
        d.data(upload.id, b"before ")
        d.ping()
        reading = [c.get("/file"), c.get("/t/big?n=%d" % SIZE)]
        for r in reading:
            c.wait_body(r, 1000)
        faults.seconds = jump
        for r in reading:
            c.credit(SIZE, r.id)
        c.credit(2 * SIZE)
        d.data(upload.id, b"and after", end=True)
        d.wait(upload)
        assert upload.status == 200 or is_late and upload.status == 408
        c.wait(*reading)
        for r in reading:
            assert len(r.body) == SIZE or is_late and r.reset == h2raw.CANCEL
        inside.open_gate(clocked, 1)
        d.wait(running)
        assert running.text == "waited\n"
        for one in (c, d):
            assert one.request(path="/index.html").text == "hello\n"
        with clocked.h2() as late:
            assert late.request(path="/index.html").text == "hello\n"
        inside.close_gates(clocked)
    inside.wait_settled(clocked)


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


# --- logs ----------------------------------------------------------------

#: Writes what it reads to a file; its first line there is its process id.
READER = """#!/bin/sh
echo $$ >$1
exec cat >>$1
"""


@pytest.fixture
def piped(httpd):
    """Access and error log go through pipes."""
    server = httpd('CustomLog "|%s ${DIR}/run/piped" test\n'
                   "<VirtualHost 127.0.0.1:${TLS_PORT}>\n"
                   "ServerName localhost\nSSLEngine on\n"
                   'ErrorLog "|%s ${DIR}/run/errors"\n'
                   "LogLevel debug\n</VirtualHost>\n"
                   % (("${HTDOCS}/reader",) * 2))
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
