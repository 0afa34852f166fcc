"""Requests of all kinds on few connections, in an order that a seed makes:
each is answered, byte by byte, and logged, whatever else goes on."""

import hashlib
import random
import threading
import time

import pytest

from lib import h2raw, inside
from lib import server as lib_server

pytestmark = pytest.mark.h2x_only("H2Guard, and requests that sleep")

CONFIG = """
H2MaxSessionStreams 1000
H2Guard 0
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
ProxyPass /p/ http://127.0.0.1:${PORT}/
<Location /slow>
    TestFixupsSleep on
</Location>
"""
MODULES = "proxy proxy_http cgid alias"
SECONDS = 6
SIZES = [0, 1, 100, 5000, 70000, 300000]
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
SMALL = """
ServerLimit 1
ThreadLimit %(t)d
ThreadsPerChild %(t)d
MaxRequestWorkers %(t)d
MinSpareThreads 1
MaxSpareThreads %(t)d
<IfModule mpm_event_module>
    AsyncRequestWorkerFactor 60
</IfModule>
H2MinWorkers 1
H2MaxWorkers %(w)d
"""


def content(n):
    return (b"%d:" % n) * (n // len(b"%d:" % n) + 1)


def files(server):
    for n in SIZES:
        server.write("f%d" % n, content(n)[:n])
        server.write("slow/f%d" % n, content(n)[:n])
    server.write("cgi/hello", "#!/bin/sh\n"
                 "printf 'Content-Type: text/plain\\n\\nhello\\n'\n", 0o755)


def static(rnd):
    n = rnd.choice(SIZES)
    return "/f%d" % n, content(n)[:n]


def proxied(rnd):
    n = rnd.choice(SIZES)
    return "/p/f%d" % n, content(n)[:n]


def slow(rnd):
    n = rnd.choice(SIZES[:4])
    return "/slow/f%d?fixms=%d" % (n, rnd.choice([1, 5, 9, 30])), \
        content(n)[:n]


def made(rnd):
    n = rnd.choice([1, 1000, 20000, 200000])
    return "/t/big?n=%d" % n, (ALPHABET * (n // 26 + 1))[:n]


def trickle(rnd):
    n, size = rnd.choice([2, 5]), rnd.choice([10, 6000, 40000])
    return "/t/trickle?n=%d&size=%d&ms=%d&flush=%d&pass=%d" % (
        n, size, rnd.choice([0, 1, 7]), rnd.randrange(2), rnd.randrange(2)), \
        (ALPHABET * (n * size // 26 + 1))[:n * size]


def cgi(rnd):
    return "/cgi/hello", b"hello\n"


def missing(rnd):
    return "/none%d" % rnd.randrange(9), None


KINDS = [static] * 6 + [proxied, slow, slow, made, made, trickle, trickle,
                        missing]


def head(c, rnd, path, want, end=True, method="GET"):
    fields = c.fields(method, path)
    if rnd.random() < .5:
        fields.append(("priority", "u=%d%s" % (
            rnd.randrange(8), rnd.choice(["", ", i"]))))
    sid = c.new_id()
    r = c.streams[sid] = h2raw.Response(sid)
    r.asked, r.want = path, want
    c.stream_windows[sid] = c.peer_settings.get(
        h2raw.INITIAL_WINDOW_SIZE, h2raw.DEFAULT_WINDOW)
    return r, c._split(sid, c.encode(fields), end)


def burst(c, rnd, count, kinds):
    """Many requests in one write."""
    asked, frames = [], []
    for _ in range(count):
        r, more = head(c, rnd, *rnd.choice(kinds)(rnd))
        asked.append(r)
        frames += more
    c.send(*frames)
    return asked


UPLOADS = ["/t/upload", "/t/echo", "/t/upload?ms=2", "/t/ignore"]


def upload(c, rnd, kinds):
    """Begins one; returns what is left to be sent."""
    n = rnd.choice([0, 1, 3000, 80000, 400000])
    data = content(n)[:n]
    path = rnd.choice(UPLOADS + ["/p/t/upload"] * (proxied in kinds))
    want = {"upload": b"length %d\nmd5 %s\n" % (
        n, hashlib.md5(data).hexdigest().encode()),
        "echo": data}.get(path.split("?")[0].split("/")[-1])
    r, frames = head(c, rnd, path, want, False, "POST")
    c.send(*frames)
    return [r, data, 0]


def push(c, rnd, up):
    """Sends a part of one; returns whether it is done."""
    r, data, sent = up
    step = min(rnd.choice([1, 1000, 16384, 100000]), len(data) - sent)
    step = min(step, max(c.allowed(r.id), 0))
    end = sent + step == len(data)
    if not r.done and (step or end):
        c.data(r.id, data[sent:sent + step], end=end)
    up[2] += step
    c.poll()
    return r.done or end


def wrong(r):
    if r.reset not in (None, h2raw.NO_ERROR) or r.status is None:
        return "no answer"
    if r.asked.startswith("/none"):
        return r.status != 404 and "status %d" % r.status
    if r.asked == "/t/ignore":
        return r.status != 200 and "status %d" % r.status
    if r.status != 200:
        return "status %d" % r.status
    if r.want is not None and bytes(r.body) != r.want:
        return "%d bytes, not %d" % (len(r.body), len(r.want))


def visit(c, rnd, kinds, resets):
    asked = burst(c, rnd, rnd.choice([1, 3, 20, 60]), kinds)
    uploads = [upload(c, rnd, kinds) for _ in range(rnd.randrange(4))]
    asked += [u[0] for u in uploads]
    gone = c.gone
    deadline = time.monotonic() + 30 * lib_server.PATIENCE
    while uploads and time.monotonic() < deadline:
        up = rnd.choice(uploads)
        if resets and rnd.random() < .05:
            c.reset(up[0].id)
            gone.add(up[0].id)
            uploads.remove(up)
        elif push(c, rnd, up):
            uploads.remove(up)
        if rnd.random() < .1:
            asked += burst(c, rnd, rnd.randrange(1, 5), kinds)
        if rnd.random() < .1:
            time.sleep(rnd.choice([0.001, 0.01, 0.03]))
    for r in asked:
        if resets and rnd.random() < .2 and not r.done:
            c.reset(r.id)
            gone.add(r.id)
    asked = [r for r in asked if r.id not in gone]
    if asked:
        c.wait(*asked, timeout=40)
    return ["%s: %s (%r)" % (r.asked, wrong(r), r) for r in asked if wrong(r)]


def client(server, seed, end, bad, kinds, resets, is_cut):
    rnd = random.Random(seed)
    while time.monotonic() < end and not bad:
        try:
            with server.h2(tls=rnd.random() < .6, timeout=40) as c:
                c.gone = set()
                for _ in range(rnd.randrange(1, 6)):
                    found = visit(c, rnd, kinds, resets)
                    if not (is_cut and c.goaways):
                        bad += found
                if resets and rnd.random() < .3:
                    burst(c, rnd, 50, kinds)
                    c.abort()
        except (ConnectionError, OSError) as e:
            # what the server says that it has not seen may be asked again
            last = min([g[0] for g in c.goaways if not g[1]] or [1 << 31])
            if not is_cut and (last == 1 << 31 or any(
                    not r.done and r.id <= last and r.id not in c.gone
                    for r in c.streams.values())):
                bad.append("seed %d: %r %s" % (seed, e, c.goaways))
        except h2raw.Timeout as e:
            bad.append("seed %d: %r %s" % (seed, e, [
                (r.id, r.asked, r) for r in c.streams.values()
                if hasattr(r, "asked") and not r.done][:5]))


def storm(server, kinds=KINDS, clients=3, resets=False, restarts=False,
          is_cut=False, seconds=SECONDS):
    """`is_cut`: httpd may close connections."""
    bad = []
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=client, args=(
        server, 100 + n, end, bad, kinds, resets, restarts or is_cut))
        for n in range(clients)]
    for t in threads:
        t.start()
    while restarts and time.monotonic() < end - 3:
        time.sleep(2)
        server.graceful()
    for t in threads:
        t.join()
    assert not bad, "\n".join(bad[:10])
    inside.wait_settled(server, 30)


@pytest.mark.parametrize("resets", [False, True])
def test_storm(server, resets):
    storm(server, KINDS + [cgi], resets=resets)


def test_graceful_restarts(server):
    storm(server, resets=True, restarts=True)


# a proxied request to the server itself would need one more thread of it
@pytest.mark.skipif(lib_server.MPM == "worker",
                    reason="this MPM has a thread for each connection")
@pytest.mark.parametrize("threads,workers", [(1, 1), (2, 2)])
def test_few_threads(httpd, threads, workers):
    """When all are busy, event closes connections between requests at once."""
    server = httpd(CONFIG + SMALL % {"t": threads, "w": workers}, MODULES)
    files(server)
    with server:
        storm(server, [k for k in KINDS if k is not proxied], clients=2,
              resets=True, is_cut=True, seconds=4)


def test_thousand_streams(server):
    rnd = random.Random(5)
    with server.h2(timeout=60) as c:
        assert c.request(path="/f1").status == 200
        asked = burst(c, rnd, 1000, [static, static, slow, made, proxied,
                                     missing])
        c.wait(*asked)
        bad = ["%s: %s" % (r.asked, wrong(r)) for r in asked if wrong(r)]
        assert not bad, bad[:10]
    inside.wait_settled(server, 30)
