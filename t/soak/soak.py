"""Real traffic for a long time, with a graceful restart a minute.

Clients ask for files, scripts, proxied pages and pushes, send bodies, read
slowly, reset, talk over WebSockets; a browser loads pages.  Each byte of each
body is compared.  At the end nothing that was accepted is lost: a client that
follows GOAWAY (t/lib/goodclient.py) got a whole answer to each request, and
each request was logged once.  The memory of the server, and what it logs, are
looked at too.

    make soak                       an hour
    make soak SOAK_SECONDS=300      five minutes

The exit status is 0 when nothing was wrong."""

import argparse
import collections
import contextlib
import os
import random
import re
import statistics
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from lib import goodclient, h2raw, inside, proc, websocket  # noqa: E402
from lib import server as lib_server  # noqa: E402
from lib.browser import CHROMIUM, Browser  # noqa: E402

CONFIG = """
ServerLimit 40
ThreadLimit 100
StartServers 1
# old generations count too, until they are gone
MaxRequestWorkers 1000
H2WebSockets on
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
ProxyPass /proxied/ http://127.0.0.1:${PORT}/ disablereuse=on
ProxyPass /ws/ http://127.0.0.1:%(ws)d/ upgrade=websocket
<Location /pushing>
    Header add Link "</data/1>; rel=preload"
    Header add Link "</data/2>; rel=preload"
    Header add Link "</proxied/data/3>; rel=preload"
</Location>
"""
MODULES = "cgi alias headers proxy proxy_http proxy_wstunnel"

#: What httpd has to say of restarts under load, and of the certificate.
EXPECTED = re.compile(r"AH0048[45]|AH03490|AH01906|AH01873")

#: How much more memory the last third may take than the first.
GROWTH, GROWTH_BYTES = 1.2, 8 << 20

DATA = 20


def data(number):
    """What /data/NUMBER has: of all sizes up to a few windows."""
    return bytes((number * 31 + i // 7) % 94 + 33
                 for i in range(1 + number ** 4 * 2))


PAGE = """<!doctype html><title>wait</title><script>
function expected(n) {
    let text = "", length = 1 + n ** 4 * 2;
    for (let i = 0; i < length; i++)
        text += String.fromCharCode((n * 31 + Math.floor(i / 7)) %% 94 + 33);
    return text;
}
async function one(n) {
    const r = await fetch("/data/" + n + "?" + Math.random());
    if (await r.text() !== expected(n)) throw new Error("data " + n);
}
Promise.all([...Array(%d).keys()].map(one)).then(
    () => { document.title = "whole"; },
    (e) => { document.title = "wrong: " + e; });
</script>"""


def files(server, content):
    for number, text in content.items():
        server.write("data/%d" % number, text)
    server.write("page.html", PAGE % DATA)
    server.write("pushing/page.html", "pushes\n")
    server.write("cgi/slow", "#!/bin/sh\n"
                 "printf 'Content-Type: text/plain\\n\\n'\n"
                 "sleep 0.2\nexec cat ../data/10\n", 0o755)


class Wrong(Exception):
    """A client did not get what it should."""


class Soak:
    """All clients against one server."""

    def __init__(self, server, sockets, seconds, seed):
        self.server, self.sockets, self.seed = server, sockets, seed
        self.content = {n: data(n) for n in range(DATA)}
        self.end = time.monotonic() + seconds
        self.count = collections.Counter()
        self.failures = []
        self.memory = []            # (time, PSS of all processes)

    def over(self):
        return self.failures or time.monotonic() > self.end

    # -- what clients do; each is called again and again --

    def loads(self, rng):
        """What a page has, and bodies that come back, from a client that goes
        elsewhere when it is told to."""
        client = goodclient.Client(self.server, tls=rng.random() < 0.7)
        until = time.monotonic() + rng.uniform(1, 20)
        while time.monotonic() < until and not self.over():
            for _ in range(rng.randrange(1, 20)):
                client.ask(*rng.choice([
                    self.asked("/data/"), self.asked("/data/"),
                    self.asked("/proxied/data/"), ("/cgi/slow",),
                    ("/t/echo", "POST", self.content[rng.randrange(13)])]))
            client.finish(timeout=60)
            self.check_client(client)
            time.sleep(rng.random() / 20)
        client.close()

    @staticmethod
    def asked(prefix):
        return (prefix + str(random.randrange(DATA)),)

    def check_client(self, client):
        if client.lost:
            raise Wrong("lost: %r, %s" % (client.lost[0], client.lost[0].why))
        for request in client.done:
            expected = request.body
            if expected is None:
                number = 10 if "cgi" in request.path \
                    else int(request.path.rpartition("/")[2])
                expected = self.content[number]
            self.check(request.response, expected)
        self.count["requests"] += len(client.done)
        self.count["repeated"] += client.retried
        client.done, client.retried = [], 0

    @staticmethod
    def check(r, expected):
        if r.status != 200 or bytes(r.body) != expected:
            raise Wrong("%r: not what was expected (%d bytes)" % (
                r, len(expected)))

    def take(self, c, responses, timeout=60):
        """Waits for answers on one connection, which may be told to go: those
        that were accepted, in a dictionary of number to response."""
        c.pump(lambda: all(r.done for r in responses.values()), timeout)
        last = c.goaways[-1][0] if c.goaways else goodclient.NO_LAST
        whole = {}
        for number, r in responses.items():
            if r.ended:
                whole[number] = r
            elif not (r.id > last or r.reset == h2raw.REFUSED_STREAM):
                raise Wrong("lost: %r, GOAWAYs %s, error %s" % (
                    r, c.goaways, c.error))
        return whole

    def sips(self, rng):
        """Downloads through a small window, a little at a time."""
        window = rng.randrange(100, 5000)
        with self.server.h2(rng.random() < 0.7, windows=False, settings={
                h2raw.INITIAL_WINDOW_SIZE: window}) as c:
            c.credit(1 << 30)
            asked = {n: c.get("/data/%d" % n) for n in (3, 9, 12)}
            for r in asked.values():
                for _ in range(20):
                    c.idle(rng.random() / 20)
                    if not r.done and not c.closed and r.headers:
                        c.credit(rng.randrange(100, 5000), r.id)
                if not r.done and not c.closed:
                    c.credit(1 << 20, r.id)
            for number, r in self.take(c, asked).items():
                self.check(r, self.content[number])
                self.count["slow downloads"] += 1

    def large_uploads(self, rng):
        """Bodies larger than a window, in pieces."""
        with self.server.h2(rng.random() < 0.7) as c:
            body = self.content[19]
            asked = {n: c.start(c.fields("POST", "/t/echo"), end=False)
                     for n in range(3)}
            for r in asked.values():
                if not (c.closed or r.done):
                    c.upload(r, body, timeout=60)
            for r in self.take(c, asked).values():
                self.check(r, body)
                self.count["uploads"] += 1

    def pushes(self, rng):
        """What is pushed is what would have been sent."""
        with self.server.h2(rng.random() < 0.7,
                            settings={h2raw.ENABLE_PUSH: 1}) as c:
            asked = {0: c.get("/pushing/page.html")}
            for r in self.take(c, asked).values():
                self.check(r, b"pushes\n")
            c.pump(lambda: all(p.done for p in c.promises), 60)
            for p in c.promises:
                if p.ended:
                    self.check(p, self.content[int(p.path[-1])])
                    self.count["pushes"] += 1
        time.sleep(rng.random() / 10)

    def resets(self, rng):
        """Clients that change their mind, and ones that go away."""
        with self.server.h2(rng.random() < 0.7) as c:
            many = []
            for _ in range(rng.randrange(1, 30)):
                many.append(c.get(rng.choice(
                    ["/data/19", "/cgi/slow", "/proxied/data/18",
                     "/t/trickle?n=20&ms=5", "/t/wait?ms=50"])))
                if rng.random() < 0.5:
                    c.poll()
            for r in rng.sample(many, len(many) // 2):
                if not r.done:
                    c.reset(r.id)
                    r.reset = h2raw.CANCEL
            self.count["resets"] += len(many)
            if rng.random() < 0.5:
                c.abort()
            else:
                c.pump(lambda: all(r.done for r in many), 60)
        time.sleep(rng.random() / 5)

    def talks(self, rng):
        """Messages to and fro, over a restart if it comes."""
        with self.server.h2(rng.random() < 0.7) as c:
            c.until(lambda: c.settings_seen, what="SETTINGS")
            ws = websocket.Socket(c, "/ws/echo")
            c.pump(lambda: ws.response.headers or ws.response.done, 30)
            if c.goaways and ws.response.status != 200:
                return              # it came too late
            for _ in range(rng.randrange(1, 40)):
                message = bytes([rng.randrange(256)]) * rng.randrange(1, 20000)
                ws.say(message)
                if ws.hear(1, 60) != message:
                    raise Wrong("WebSocket: another message came back")
                self.count["messages"] += 1
                time.sleep(rng.random() / 4)
            ws.close()

    def browses(self, rng):
        """Pages in Chromium, one profile for some of them."""
        if not CHROMIUM:
            time.sleep(1)
            return
        with tempfile.TemporaryDirectory() as profile:
            browser = Browser(profile)
            try:
                for _ in range(20):
                    if not self.over():
                        self.browse(browser, rng)
            finally:
                browser.close()

    def browse(self, browser, rng):
        browser.open(self.server.url("/page.html?%d" % rng.randrange(1 << 30)))

        def title():
            found = browser.evaluate("document.title")
            return found if found and found != "wait" else None
        found = lib_server.wait_for(title, 60, "a page in the browser")
        if found != "whole":
            raise Wrong("browser: " + found)
        self.count["browser pages"] += 1

    # -- the run --

    def client(self, number, what):
        rng = random.Random("%s %d" % (self.seed, number))
        while not self.over():
            try:
                what(rng)
            except Exception:  # pylint: disable=broad-except
                self.failures.append("%s:\n%s" % (what.__name__,
                                                  traceback.format_exc()))

    def sample(self):
        total = 0
        for pid in self.server.processes():
            with contextlib.suppress(OSError):
                total += proc.pss(pid)
        self.memory.append((time.monotonic(), total))

    def go(self, restart_each):
        clients = [self.loads, self.loads, self.sips, self.large_uploads,
                   self.pushes, self.resets, self.talks, self.talks,
                   self.browses]
        threads = [threading.Thread(target=self.client, args=each)
                   for each in enumerate(clients)]
        for thread in threads:
            thread.start()
        restart = time.monotonic() + restart_each
        while not self.over():
            time.sleep(1)
            if time.monotonic() > restart:
                self.sample()       # when a generation is oldest
                self.server.graceful()
                self.count["restarts"] += 1
                restart += restart_each
        for thread in threads:
            thread.join()

    # -- what is left to be seen --

    def check_memory(self):
        """The median of the last third against that of the first."""
        third = len(self.memory) // 3
        if not third:
            return "memory: too few restarts to tell"
        first, last = (statistics.median(pss for _, pss in part) for part in
                       (self.memory[:third], self.memory[-third:]))
        said = "memory: %.1f MB at first, %.1f MB at last (PSS, medians)" % (
            first / (1 << 20), last / (1 << 20))
        if last > first * GROWTH + GROWTH_BYTES:
            self.failures.append(said)
        return said

    def check_log(self):
        surprises = [line for line in self.server.error_text().splitlines()
                     if re.search(r"\[\w*:(warn|error|crit|alert|emerg)\]",
                                  line) and not EXPECTED.search(line)]
        if surprises:
            self.failures.append("%d surprises in the error log:\n%s" % (
                len(surprises), "\n".join(surprises[:10])))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=3600)
    options.add_argument("--seed", default="1")
    args = options.parse_args()
    if args.seconds <= 0:
        options.error("--seconds is more than 0")

    with tempfile.TemporaryDirectory(
            prefix="h2x-soak-", dir=os.environ.get("H2X_TMPDIR")) as path, \
            websocket.Server({"/echo": websocket.echo}) as sockets:
        os.chmod(path, 0o755)
        server = lib_server.Server(
            CONFIG % {"ws": sockets.port}, MODULES,
            certs=lib_server.make_certs(os.path.join(path, "certs")),
            test_module=lib_server.build_test_module(path))
        soak = Soak(server, sockets, args.seconds, args.seed)
        files(server, soak.content)
        said = ""
        try:
            with server:
                soak.go(min(60, args.seconds / 6))
                inside.wait_settled(server, 30)
                said = soak.check_memory()
                soak.check_log()
                server.failed |= bool(soak.failures)
        except lib_server.ServerError as error:
            soak.failures.append(str(error))
    print(", ".join("%d %s" % (n, what)
                    for what, n in sorted(soak.count.items())))
    print(said)
    for failure in soak.failures:
        print("failed: " + failure)
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
