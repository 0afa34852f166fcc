"""Makes the engine's threads meet, in an httpd under ThreadSanitizer.

Many clients do for a while, each in its own random order, what brings the
connection threads, the watch and the workers together: they ask for files,
scripts, uploads and large downloads, pushes and WebSockets, take little or
nothing of them, reset and go away at odd moments, while the server is
restarted gracefully and others read its status.  (Restarts that are not
graceful are left out: in them the MPM closes sockets that its threads are
using.)

The exit status is 0 when the checker had nothing to say, no client waited in
vain, and each request ended and was logged once.

Run by run.sh, which builds what this needs."""

import argparse
import collections
import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

from lib import h2raw, inside, websocket  # noqa: E402
from lib import server as lib_server  # noqa: E402

CONFIG = """
ThreadLimit 64
H2MinWorkers 1
H2MaxWorkerIdleSeconds 1
H2StreamTimeout 5
KeepAliveTimeout 1
Timeout 10
ExtendedStatus on
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
ProxyPass /proxied/ http://127.0.0.1:${PORT}/
H2WebSockets on
ProxyPass /ws/ http://127.0.0.1:%(ws)d/ upgrade=websocket
<Location /pushing>
    Header add Link "</page>; rel=preload, </cgi/drips>; rel=preload"
    Header add Link "</huge>; rel=preload, </proxied/page>; rel=preload"
</Location>
<Location /server-status>
    SetHandler server-status
</Location>
<Location /slow>
    TestFixupsSleep on
</Location>
<Location /slow/t>
    SetHandler h2x-test
</Location>
<Location /short>
    H2StreamTimeout 1
</Location>
<Location /short/t>
    SetHandler h2x-test
</Location>
<Location /copied>
    H2CopyFiles on
</Location>
<IfModule mod_ssl.c>
    SSLOptions +StdEnvVars +ExportCertData
</IfModule>
<Directory ${DIR}/htdocs/ssi>
    Options +Includes
    SetOutputFilter INCLUDES
</Directory>
"""
MODULES = "alias cgid deflate filter headers include logio proxy " \
          "proxy_http proxy_wstunnel status"

PATHS = [
    "/page", "/small", "/none", "/huge", "/copied/page", "/ssi/page.html",
    "/cgi/quick", "/cgi/slow", "/cgi/drips", "/proxied/page",
    "/slow/page?fixms=10", "/slow/t/env?fixms=20", "/t/env",
    "/t/big?n=300000", "/t/trickle?n=10&ms=3", "/t/trickle?n=30&flush=0&ms=1",
    "/t/wait?ms=20", "/t/fail", "/t/fail?how=aborted", "/t/interim?n=2",
    "/t/trailers", "/t/ignore",
]


def files(server):
    def script(name, *lines):
        server.write("cgi/" + name, "\n".join(
            ("#!/bin/sh", "printf 'Content-Type: text/plain\\n\\n'") + lines)
            + "\n", 0o755)
    server.write("page", "x" * 5000)
    server.write("small", "small\n")
    server.write("slow/page", "slow\n")
    server.write("pushing/page", "pushes\n")
    server.write("copied/page", "c" * 40000)
    server.write("huge", "0123456789abcdef" * (1 << 16))
    server.write("short/huge", "0123456789abcdef" * (1 << 16))
    server.write("ssi/page.html", '<!--#include virtual="/small" -->\n' * 3)
    script("quick", "echo quick")
    script("slow", "sleep 0.1", "echo slow")
    script("drips", "for i in 1 2 3; do echo $i; sleep 0.02; done")


# --- what clients do; each is called again and again ----------------------------

def mixed(server, rng):
    """All kinds of requests at once, some reset at odd moments."""
    window = rng.choice([100, 20000, h2raw.DEFAULT_WINDOW, 1 << 20])
    with server.h2(tls=rng.random() < 0.5, windows=rng.random() < 0.8,
                   settings={h2raw.INITIAL_WINDOW_SIZE: window}) as c:
        live = []
        for _ in range(rng.randrange(1, 60)):
            if rng.random() < 0.2:
                r = c.start(c.fields("POST", rng.choice(
                    ["/t/echo", "/t/upload", "/t/ignore"])), end=False)
                c.data(r.id, b"x" * rng.randrange(3000), rng.random() < 0.8)
            else:
                r = c.get(rng.choice(PATHS))
            live.append(r)
            if rng.random() < 0.3:
                c.poll()
            for r in rng.sample(live, rng.randrange(min(3, len(live)))):
                reset(c, r)
        end = rng.choice(["close", "abort", "ping", "goaway", "wait"])
        if end == "wait":
            c.idle(rng.random() / lib_server.PATIENCE / 5)
        for r in live:
            if rng.random() < 0.7:
                reset(c, r)
        if end == "ping":
            c.ping()
        elif end == "goaway":
            c.goaway()
            c.wait_closed()
        elif end == "abort":
            c.abort()


def reset(c, r):
    if not r.done:
        c.reset(r.id)
        r.reset = h2raw.CANCEL


def whole(server, rng):
    """Requests whose answers are taken to the end."""
    with server.h2(tls=rng.random() < 0.5) as c:
        for _ in range(5):
            c.wait(*[c.get(rng.choice(PATHS)) for _ in range(20)])
            if rng.random() < 0.3:
                time.sleep(rng.random())


def uploads(server, rng):
    """Bodies that come in pieces, and that are sent back."""
    with server.h2(tls=rng.random() < 0.5) as c:
        many = [c.start(c.fields("POST", path), end=False) for path in
                ["/t/echo"] * 4 + ["/slow/t/upload?fixms=10", "/t/ignore"]]
        for part in range(6):
            for r in many:
                c.upload(r, b"y" * rng.randrange(1, 30000),
                         end=part == 5 and r is not many[0])
        c.trailers(many[0].id, [("x-sum", "1")])
        c.wait(*many)


def sips(server, rng):
    """Large downloads through small windows."""
    with server.h2(tls=rng.random() < 0.5, windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 500}) as c:
        c.credit(1 << 30)
        many = [c.get(rng.choice(["/huge", "/t/big?n=1000000"]))
                for _ in range(8)]
        for _ in range(60):
            r = rng.choice(many)
            if not r.done:
                c.credit(rng.randrange(1, 20000), r.id)
            c.poll()
        for r in rng.sample(many, 4):
            reset(c, r)
        if rng.random() < 0.5:
            for r in many:
                if not r.done:
                    c.credit(1 << 20, r.id)
            c.wait(*many)


def stalls(server, rng):
    """Answers that are not taken, and bodies that do not come, until
    H2StreamTimeout; and a socket that is full."""
    with server.h2(tls=rng.random() < 0.5, windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 100}) as c:
        many = [c.get(rng.choice(["/short/huge", "/short/t/big?n=200000",
                                  "/short/t/trickle?n=50&ms=2&size=100"]))
                for _ in range(10)]
        many.append(c.start(c.fields("POST", "/short/t/upload"), end=False))
        c.get("/page")
        c.wait(*many)
    with server.h2(tls=rng.random() < 0.5,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1 << 30}) as c:
        c.credit(1 << 30)
        many = [c.get("/huge") for _ in range(30)]
        time.sleep(rng.random())
        if rng.random() < 0.5:
            c.wait(*many)


def pushes(server, rng):
    """What is promised is taken, or refused, early or late; or all ends."""
    window = rng.choice([100, h2raw.DEFAULT_WINDOW])
    with server.h2(tls=rng.random() < 0.5, settings={
            h2raw.ENABLE_PUSH: 1, h2raw.INITIAL_WINDOW_SIZE: window}) as c:
        pages = [c.get("/pushing/page") for _ in range(rng.randrange(1, 6))]
        c.until(lambda: c.promises or all(r.done for r in pages),
                what="promises")
        for r in list(c.promises):
            if rng.random() < 0.5:
                reset(c, r)
        if rng.random() < 0.7:
            c.wait(*pages)
            c.pump(lambda: all(r.done for r in c.promises))


def tunnels(server, rng):
    """WebSockets that end in all ways, while files are sent beside them."""
    with server.h2(tls=rng.random() < 0.5) as c:
        c.until(lambda: c.settings_seen, what="SETTINGS")
        many = [websocket.Socket(c, "/ws/echo")
                for _ in range(rng.randrange(1, 6))]
        c.until(lambda: all(w.response.headers or w.response.done
                            for w in many), what="handshakes")
        for _ in range(rng.randrange(5)):
            c.get(rng.choice(["/page", "/huge"]))
            for w in many:
                if not w.is_over:
                    w.say(b"x" * rng.randrange(1, 20000))
                    if rng.random() < 0.5:
                        w.hear()
        for w in many:
            end = rng.choice(["close", "reset", "end", "nothing"])
            if end == "close" and not w.is_over:
                w.close()
            elif end == "reset":
                reset(c, w.response)
            elif end == "end" and not w.is_over:
                c.data(w.id, b"", end=True)
        if rng.random() < 0.3:
            c.abort()


def status(server, rng):
    """Looks at the others."""
    assert server.http1(path="/server-status", tls=False).status == 200
    with server.h2() as c:
        c.wait(*[c.get("/server-status?auto") for _ in range(3)])
    time.sleep(rng.random() / 5)


def crowd(server, rng):
    """Requests as fast as they come."""
    path = rng.choice(["/page", "/page", "/t/env", "/huge", "/cgi/quick"])
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["h2load", "-c4", "-m20", "-n2000", server.url(path)],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=False, timeout=5)


CLIENTS = [mixed] * 6 + [whole] * 2 + [uploads, sips, sips, stalls, status,
                                      crowd, pushes, tunnels, tunnels]


# --- the run ------------------------------------------------------------------------

class Run:
    """All clients against one server, for a time."""

    def __init__(self, server, seconds, seed):
        self.server, self.seed = server, seed
        self.end = time.monotonic() + seconds
        self.rounds = collections.Counter()
        self.failures = []

    def client(self, number, what):
        rng = random.Random("%s %d" % (self.seed, number))
        while time.monotonic() < self.end and not self.failures:
            try:
                what(self.server, rng)
            except OSError:
                pass        # a restart, or the end that was provoked
            except Exception:  # pylint: disable=broad-except
                self.failures.append("%s:\n%s" % (what.__name__,
                                                  traceback.format_exc()))
            self.rounds[what.__name__] += 1

    def go(self, restart_each):
        threads = [threading.Thread(target=self.client, args=each)
                   for each in enumerate(CLIENTS)]
        for thread in threads:
            thread.start()
        while time.monotonic() < self.end - restart_each:
            time.sleep(restart_each)
            self.server.graceful()
        for thread in threads:
            thread.join()


class CheckedServer(lib_server.Server):
    """Takes the reports of the checker out of the way of check_logs()."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.reports = []

    def check_logs(self):
        for name in sorted(os.listdir(self.dir)):
            if name.startswith("sanitizer."):
                self.reports += re.findall(
                    r"(?s)WARNING: ThreadSanitizer.*?\n={18}\n",
                    self._read(name))
                os.rename(self.path(name), self.path("seen-" + name))
        super().check_logs()


def is_ours(report):
    """Has one of the two sides a frame of the module?  (What comes after
    them tells how threads came into being.)"""
    module = os.path.basename(lib_server.MODULE_SO)
    return "(" + module in re.split(r"\n  Thread T\d+ ", report)[0]


def show(reports):
    """One report of each kind, and how many of these there were."""
    kinds = collections.defaultdict(list)
    for report in reports:
        kinds[re.findall(r"SUMMARY: .*|$", report)[0]].append(report)
    for same in kinds.values():
        print("%d times:\n%s" % (len(same), same[0]))


def check(server, args):
    """One run.  Returns what went wrong, but for the checker's reports."""
    files(server)
    run, failures = Run(server, args.seconds, args.seed), []
    try:
        with server:
            run.go(restart_each=6)
            inside.wait_settled(server)
    except lib_server.ServerError as error:
        failures.append(str(error))
    print("%s: %s" % (server.mpm, ", ".join(
        "%d %s" % (n, name) for name, n in sorted(run.rounds.items()))))
    return run.failures + failures


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--mpm", default="event")
    options.add_argument("--seconds", type=float, default=50)
    options.add_argument("--seed", default="1")
    options.add_argument("--preload", default="", help="one library more")
    options.add_argument("--expect-reports", action="store_true",
                         help="the module is a broken one: prove it")
    args = options.parse_args()

    with tempfile.TemporaryDirectory(
            prefix="h2x-threads-", dir=os.environ.get("H2X_TMPDIR")) as path, \
            websocket.Server({"/echo": websocket.echo}) as sockets:
        os.chmod(path, 0o755)
        preload = lib_server.sanitizer_env("").get("LD_PRELOAD", "")
        server = CheckedServer(
            CONFIG % {"ws": sockets.port}, MODULES, mpm=args.mpm,
            certs=lib_server.make_certs(os.path.join(path, "certs")),
            test_module=lib_server.build_test_module(path),
            env={"LD_PRELOAD": preload + " " + args.preload})
        failures = check(server, args)
    ours = [report for report in server.reports if is_ours(report)]
    if args.expect_reports:
        print("the checker works" if ours else
              "the checker sees nothing, not even a race made for it")
        return 0 if ours else 1
    show(ours)
    for failure in failures:
        print("failed: " + failure)
    print("%s: %d reports (and %d of httpd's own), %d failures" % (
        args.mpm, len(ours), len(server.reports) - len(ours), len(failures)))
    return 1 if ours or failures else 0


if __name__ == "__main__":
    sys.exit(main())
