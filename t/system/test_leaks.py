"""No memory, thread or descriptor is left behind: a child that has served
many requests and connections holds no more than after the first ones.

By default a tenth of what H2X_LONG=1 does: 100,000 requests and 5,000
connections after the first 10,000 requests."""

import random
import time

import pytest

from lib import clients, inside, proc, server as lib_server
from lib.server import wait_for

CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
StartServers 1
ServerLimit 1
MaxConnectionsPerChild 0
H2MaxWorkerIdleSeconds 1
<Location /server-status>
    SetHandler server-status
</Location>
"""
MODULES = "cgid alias status"

pytestmark = pytest.mark.alone(
    "memory that processes share counts less the more there are")

SCALE = 10 if lib_server.LONG else 1
REQUESTS = 10000 * SCALE
CONNECTIONS = 500 * SCALE


def files(server):
    server.write("index.html", "hello\n")
    server.write("file", "x" * 100000)
    server.write("cgi/quick", "#!/bin/sh\n"
                 "printf 'Content-Type: text/plain\\n\\nquick\\n'\n", 0o755)


def load(server, path, n, c, m, args=()):
    done = clients.h2load(server, path, n=n, c=c, m=m, args=args,
                          timeout=300)
    assert done.succeeded == done.status_2xx == n, done.out


def resets(server, connections):
    """Connections whose twenty requests are reset at odd moments, and that
    end in odd ways."""
    rng = random.Random(1)
    for i in range(connections):
        with server.h2(tls=i % 2 == 0, windows=False) as c:
            for path in ("/file", "/t/big?n=300000", "/index.html",
                         "/t/trickle?n=5&ms=1") * 5:
                r = c.get(path)
                if rng.random() < 0.5:
                    c.poll()
                if rng.random() < 0.7:
                    c.reset(r.id)
            if rng.random() < 0.5:
                c.ping()
            if rng.random() < 0.3:
                c.abort()


def requests(server, count, body):
    """Some of every kind."""
    load(server, "/index.html", count * 55 // 100, 8, 10)
    load(server, "/file", count * 10 // 100, 4, 5)
    load(server, "/t/env", count * 20 // 100, 4, 20)
    load(server, "/t/upload", count * 10 // 100, 4, 5, ["-d", str(body)])
    load(server, "/cgi/quick", max(count // 200, 1), 2, 5)
    resets(server, count // 400)


def connections(server, count):
    """Many of them, fifty at a time, with a request each."""
    for i in range(count // 50):
        load(server, "/index.html", 50, 50, 1)


def crowd(server):
    """The most that there will be at a time: every thread has a connection,
    every worker a request, and more wait.  What httpd and the engine keep for
    use again, they have got after this."""
    for path in ("/t/big?n=60000&gate=%d", "/t/wait?gate=%d", "/file?%d"):
        inside.close_gates(server)
        made = [server.h2(i % 2 == 0, windows=False) for i in range(24)]
        asked = [(c, [c.get(path % 1) for _ in range(20)]) for c in made]
        for c in made:
            c.ping(timeout=30)
        inside.open_gate(server, 1, 1000)
        for c, responses in asked:
            c.windows = True
            c.credit(1 << 24)
            for r in responses:
                if not r.done:
                    c.credit(1 << 20, r.id)
            c.wait(*responses, timeout=60)
            c.close()


def at_rest(server):
    """Waits until nothing runs and spare workers have gone."""
    inside.wait_settled(server, 30)
    wait_for(lambda: inside.busy(server) == 0, 30)
    last = [proc.Holdings(server), 0]

    def still():
        now = proc.Holdings(server)
        same = not now.exceeds(last[0]) and not last[0].exceeds(now)
        last[:] = [now, last[1] + 1 if same else 0]
        return last[1] > 25
    wait_for(still, 60, "threads to be steady", interval=0.1)
    return last[0]


def measure(server):
    pid, = server.children()
    holdings = at_rest(server)
    return pid, holdings, proc.pss(pid)


def test_nothing_accumulates(server, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * 20000)
    crowd(server)
    requests(server, REQUESTS // 10, body)
    connections(server, CONNECTIONS // 10)
    pid, before, memory = measure(server)
    began = time.monotonic()
    requests(server, REQUESTS, body)
    connections(server, CONNECTIONS)
    print("took %.0f s" % (time.monotonic() - began))
    same, after, memory_after = measure(server)
    assert same == pid
    print("%.0f KB, then %.0f KB" % (memory / 1024, memory_after / 1024))
    assert not after.exceeds(before)
    # AddressSanitizer keeps what was freed, to notice its use
    assert lib_server.SANITIZE or memory_after < memory * 1.05
