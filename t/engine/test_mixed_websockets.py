"""WebSockets that talk all the time, on connections that do all else as
well: each message and each response is whole."""

import hashlib
import random

import pytest

from lib import h2raw, inside
from lib.chat import (  # noqa: F401
    MODULES, chat, config, ended, fresh, open_socket)

pytestmark = pytest.mark.h2x_only("WebSockets among slow requests")

MORE = """
H2MaxSessionStreams 200
ProxyPass /back/ http://127.0.0.1:${PORT}/
<Location /slow>
    TestFixupsSleep on
</Location>
"""
SIZES = [0, 1, 5000, 70000]


def content(n):
    return (b"%d," % n) * (n // len(b"%d," % n) + 1)


@pytest.fixture(scope="module", params=["", "H2MaxWorkers 12\n"])
def server(request, httpd, config):  # noqa: F811
    with httpd(MORE + request.param + config, MODULES) as one:
        for n in SIZES:
            for where in ("f%d", "slow/f%d"):
                one.write(where % n, content(n)[:n])
        yield one


def ask(c, rnd):
    """A request of any kind; it knows its answer."""
    n = rnd.choice(SIZES)
    kind = rnd.choice(["/f%d", "/back/f%d", "/slow/f%d?fixms=9", "/upload",
                       "/f%d", "/t/big?n=%d"])
    priority = [("priority", "u=%d" % rnd.randrange(8))]
    data = content(n)[:n]
    if kind == "/upload":
        r = c.start(c.fields("POST", "/t/upload", priority), end=False)
        c.upload(r, data)
        md5 = hashlib.md5(data).hexdigest()
        r.want = b"length %d\nmd5 %s\n" % (n, md5.encode())
        return r
    r = c.get(kind % n, priority)
    r.want = (b"abcdefghijklmnopqrstuvwxyz" * (n // 26 + 1))[:n] \
        if "big" in kind else data
    return r


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_sockets_among_all(server, chat, tls, seed):  # noqa: F811
    rnd = random.Random(seed)
    with server.h2(tls=tls, timeout=30) as c:
        sockets = [open_socket(c, rnd.choice(["/ws", "/old"]) + path)
                   for path in ["/echo"] * 3 + ["/parts"]]
        for _ in range(25):
            asked = [ask(c, rnd) for _ in range(rnd.randrange(12))]
            said = []
            for w in rnd.sample(sockets, rnd.randrange(1, 4)):
                said.append((w, content(rnd.choice(SIZES[1:]))))
                w.say(said[-1][1])
            if rnd.random() < .3:
                gone = c.get("/slow/f1?fixms=30")
                c.reset(gone.id)
            for w, message in said:
                assert w.hear() == message
            if asked:
                c.wait(*asked)
            for r in asked:
                assert r.status == 200 and r.reset in (None, 0)
                assert bytes(r.body) == r.want
        for w in sockets:
            assert w.close() == (1000, "")
    ended(server)
    inside.wait_settled(server)
    assert c.goaway_code in (None, h2raw.NO_ERROR)
