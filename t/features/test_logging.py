"""Each request is in the access log exactly once, when its last byte was
passed on, and with the right numbers; server-status shows what runs."""

import os
import random
import re

import pytest

from lib import clients, h2raw, inside
from lib.server import wait_for

CONFIG = """
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
<Location /server-status>
    SetHandler server-status
</Location>
<Location /t/env>
    TestFixupsSleep on
</Location>
"""
MODULES = "cgid alias unique_id status"

SIZE = 300000


def files(server):
    server.write("index.html", "hello\n")
    server.write("file", "x" * SIZE)
    server.write("page", "x" * 5000)
    server.write("cgi/quick", "#!/bin/sh\n"
                 "printf 'Content-Type: text/plain\\n\\nquick\\n'\n", 0o755)


def settled(server, since, count):
    """Entries of HTTP/2 since then, when no more can come: every request
    that was read has been logged and its pool destroyed."""
    server.wait_access(count, since=since, proto="HTTP/2.0")
    inside.wait_settled(server)
    return server.access(since=since, proto="HTTP/2.0")


@pytest.mark.parametrize("method,path,body,status,sent", [
    ("GET", "/index.html", None, "200", "6"),
    pytest.param("HEAD", "/index.html", None, "200", "-",
                 marks=pytest.mark.h2x_only("logs a body for HEAD")),
    ("GET", "/file", None, "200", str(SIZE)),
    ("GET", "/none", None, "404", None),
    ("POST", "/t/upload", b"x" * 1000, "200", None),
    ("GET", "/t/big?n=100000", None, "200", "100000"),
    ("GET", "/t/trickle?n=3&size=5", None, "200", "15"),
    ("BREW", "/index.html", None, "501", None),
])
def test_once(server, any_h2, method, path, body, status, sent):
    mark = server.access_mark()
    r = any_h2.request(method, path, body=body)
    entry, = settled(server, mark, 1)
    assert str(r.status) == status == entry["status"] == entry["final"]
    assert entry["method"] == method
    assert entry["uri"] + entry["query"] == path
    assert entry["line"] == "%s %s HTTP/2.0" % (method, path)
    if sent is not None:
        assert entry["sent"] == sent
    assert entry["stream"] == "1"


def test_io_counts(server):
    """%I and %O: frames and heads are in them, TLS need not be."""
    mark = server.access_mark()
    with server.h2() as c:
        c.request(path="/index.html")
        c.request("POST", "/t/upload", body=b"x" * 50000)
        c.request(path="/file")
        entries = {e["uri"]: e for e in settled(server, mark, 3)}
    up, down = entries["/t/upload"], entries["/file"]
    assert 50000 <= int(up["in"]) < 60000
    assert 0 < int(up["out"]) < 2000
    assert 0 < int(down["in"]) < 2000
    assert SIZE <= int(down["out"]) < SIZE + 20000


@pytest.mark.parametrize("path", ["/file", "/t/big?n=%d" % SIZE])
def test_after_last_byte(server, path):
    """A response that the client reads slowly is logged when it is through;
    %D covers the time."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 1000}) as c:
        c.credit(1 << 20)
        mark = server.access_mark()
        r = c.wait_body(c.get(path), 1000)
        c.idle(0.4)
        for _ in range(3):
            c.credit(50000, r.id)
            c.ping()
        assert not server.access(since=mark, proto="HTTP/2.0")
        c.credit(SIZE, r.id)
        c.wait(r)
        entry, = settled(server, mark, 1)
    assert int(entry["usec"]) >= 400000
    assert entry["sent"] == str(SIZE)


@pytest.mark.h2x_only("logs it when it was sent")
def test_small_response_held_back(server):
    """One that fits into the memory of its stream ends with its handler, as
    over HTTP/1.1, whatever the client takes of it: modules have back what they
    keep for a request. What is still to be sent is counted."""
    with server.h2(windows=False,
                   settings={h2raw.INITIAL_WINDOW_SIZE: 0}) as c:
        mark = server.access_mark()
        r = c.wait_headers(c.get("/index.html"))
        entry, = settled(server, mark, 1)
        assert not r.body and entry["end"] in "+-"
        c.credit(100, r.id)
        assert c.wait(r).status == 200
    assert int(entry["sent"]) == len(r.body)
    mark = server.access_mark()
    with server.h2() as c:
        c.request(path="/index.html")
        at_once, = settled(server, mark, 1)
    assert entry["out"] == at_once["out"]


def test_handler_time(server, h2):
    mark = server.access_mark()
    h2.request(path="/t/wait?ms=300")
    h2.request(path="/t/env?fixms=200")
    one, two = settled(server, mark, 2)
    assert int(one["usec"]) >= 300000 and int(two["usec"]) >= 200000


@pytest.mark.parametrize("path", ["/file", "/t/big?n=10000000"])
def test_reset_is_logged(server, path):
    """A response that the client refuses half-way: once, and not with bytes
    that were never passed on."""
    mark = server.access_mark()
    with server.h2(windows=False) as c:
        r = c.wait_body(c.get(path), 60000)
        c.reset(r.id)
        c.credit(1 << 20)
        assert c.request(path="/index.html").text == "hello\n"
        entries = settled(server, mark, 2)
    assert sorted(e["uri"] for e in entries) == sorted(
        ["/index.html", path.split("?")[0]])
    entry, = [e for e in entries if e["uri"] != "/index.html"]
    assert entry["final"] == "200" and int(entry["out"]) < 200000


@pytest.mark.parametrize("path", ["/file", "/t/big?n=10000000",
                                  "/t/trickle?n=100&ms=20"])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_client_gone_is_logged(server, path, end):
    mark = server.access_mark()
    c = server.h2(windows=False)
    c.wait_headers(c.get(path))
    getattr(c, end)()
    entry, = settled(server, mark, 1)
    assert entry["final"] == "200"


def test_many_streams(server):
    """Two hundred at once: each once."""
    mark = server.access_mark()
    with server.h2() as c:
        asked = [c.get("/t/env?n=%d" % i) for i in range(50)]
        asked += [c.get("/index.html?n=%d" % i) for i in range(50, 100)]
        c.wait(*asked, timeout=20)
    entries = settled(server, mark, 100)
    assert sorted(int(e["query"][3:]) for e in entries) == list(range(100))


def test_h2load_counts_and_unique_ids(server):
    """Every one of 5,000 requests once, no UNIQUE_ID twice."""
    mark = server.access_mark()
    for path, n in (("/index.html", 4000), ("/t/env", 1000)):
        load = clients.h2load(server, path, n=n, c=4, m=10)
        assert load.succeeded == n
    entries = settled(server, mark, 5000)
    assert len(entries) == 5000
    assert len({e["unique"] for e in entries}) == 5000
    assert "-" not in {e["unique"] for e in entries}
    assert {e["final"] for e in entries} == {"200"}


def test_stream_tags(server, h2):
    """H2_STREAM_TAG: one for each stream, with the stream's number last."""
    mark = server.access_mark()
    for _ in range(3):
        h2.request()
    entries = settled(server, mark, 3)
    assert [e["stream"] for e in entries] == ["1", "3", "5"]
    assert len({e["tag"] for e in entries}) == 3
    for e in entries:
        assert e["tag"].endswith("-" + e["stream"])


def test_keepalive_count(server, h2):
    """%k and %X say nothing wrong: no request of a live connection is
    logged as aborted."""
    mark = server.access_mark()
    for _ in range(3):
        h2.request()
    assert {e["end"] for e in settled(server, mark, 3)} <= {"+", "-"}


# --- how a request ends -------------------------------------------------------

def test_cut_off_is_logged_as_aborted(server, h2):
    os.truncate(server.write("large"), 200 << 20)
    mark = server.access_mark()
    r = h2.get("/large")
    h2.wait_body(r, 1000)
    h2.reset(r.id)
    entry, = server.wait_access(1, since=mark, proto="HTTP/2.0")
    assert entry["end"] == "X"


@pytest.mark.h2x_only("calls requests aborted that were not")
@pytest.mark.parametrize("path", ["/page", "/t/env", "/t/wait?ms=10",
                                  "/t/big?n=100000", "/cgi/quick"])
def test_whole_is_not_aborted(server, any_h2, path):
    """What the client got whole is not logged as aborted (%X), whichever
    thread it ran on."""
    mark = server.access_mark()
    assert any_h2.request(path=path).ended
    entry, = server.wait_access(1, since=mark, proto="HTTP/2.0")
    assert entry["end"] in ("-", "+")


def test_tags(server):
    """H2_STREAM_TAG tells streams of different connections apart, over
    cleartext too."""
    mark = server.access_mark()
    for tls in (True, False, True, False):
        with server.h2(tls) as c:
            c.request(path="/page")
    tags = [e["tag"] for e in server.wait_access(4, since=mark, uri="/page")]
    assert len(set(tags)) == 4 and not any("null" in t for t in tags)


KINDS = [
    "/page?n=%d", "/t/env?n=%d", "/t/big?n=200000&i=%d",
    "/t/trickle?n=20&ms=2&i=%d", "/t/wait?ms=20&i=%d", "/none?n=%d",
    "/cgi/quick?n=%d", "/huge?n=%d", "/t/fail?i=%d",
]


def random_life(server, rng, first, count):
    """One connection with `count` requests, some of which are reset at odd
    moments.  Returns the numbers of those that were answered in full."""
    whole = []
    with server.h2(tls=rng.random() < 0.5, windows=rng.random() < 0.7) as c:
        live = {}
        for i in range(first, first + count):
            path = rng.choice(KINDS) % i
            if rng.random() < 0.2:
                r = c.start(c.fields("POST", "/t/upload?i=%d" % i), end=False)
                if rng.random() < 0.7:
                    c.data(r.id, b"x" * rng.randrange(1, 2000),
                           end=rng.random() < 0.7)
            else:
                r = c.get(path)
            live[i] = r
            moment = rng.random()
            if moment < 0.1:
                c.reset(r.id)               # with its head, so to say
            elif moment < 0.4:
                c.poll()
            elif moment < 0.5:
                c.ping()
            for n, r in rng.sample(sorted(live.items()),
                                   min(len(live), rng.randrange(3))):
                if not r.done:
                    c.reset(r.id)
                    r.reset = h2raw.CANCEL
            if len(live) > 60:
                for n, r in list(live.items())[:30]:
                    if not r.done:
                        c.reset(r.id)
                        r.reset = h2raw.CANCEL
                    whole += [n] if r.ended else []
                    del live[n]
        end = rng.choice(["close", "abort", "wait"])
        if end == "wait":
            for r in live.values():
                if not r.done and rng.random() < 0.9:
                    c.reset(r.id)
                    r.reset = h2raw.CANCEL
            c.ping()
        whole += [n for n, r in live.items() if r.ended]
        if end == "abort":
            c.abort()
    return whole


@pytest.mark.parametrize("seed", range(4))
def test_logged_once_under_resets(server, seed):
    """Random requests, random resets: what httpd saw of them is logged once
    and freed, what was answered is among it, and nothing twice."""
    os.truncate(server.write("huge"), 3 << 20)
    rng = random.Random(seed)
    inside.wait_settled(server)
    before = inside.counters(server)
    mark = server.access_mark()
    whole = []
    for life in range(8):
        whole += random_life(server, rng, 1000 * life, 100)
    inside.wait_settled(server, 30)
    seen = inside.counters(server)["read"] - before["read"]
    entries = server.access(since=mark, proto="HTTP/2.0")
    assert len(entries) == seen
    numbers = [int(e["query"].rpartition("=")[2]) for e in entries
               if e["query"] and e["query"].rpartition("=")[2].isdigit()]
    assert len(numbers) == len(set(numbers)), "logged twice"
    assert set(whole) <= set(numbers), "answered and not logged"


# --- server-status -----------------------------------------------------------

def rows(server):
    """Mode and request of each row."""
    text = server.http1(path="/server-status", tls=False).text
    return re.findall(r"<td><b>(.)</b>\s*</td>.*?<td nowrap>([^<]*)</td></tr>",
                      text, re.S)


@pytest.mark.h2x_only("shows its session in the request's place")
def test_server_status(server):
    """A running request is in its connection's slot, and out of it after."""
    connections = [server.h2() for _ in range(3)]
    asked = [c.get("/t/wait?gate=9&n=%d" % i)
             for i, c in enumerate(connections)]
    lines = ["GET /t/wait?gate=9&amp;n=%d HTTP/2.0" % i for i in range(3)]
    wait_for(lambda: all(("W", x) in rows(server) for x in lines), 10,
             "the requests in server-status")
    assert server.http1(path="/t/open?g=9").status == 200
    for c, r in zip(connections, asked):
        assert c.wait(r).status == 200
    wait_for(lambda: not any(("W", x) in rows(server) for x in lines), 10,
             "the requests to leave their slots")
    for c in connections:
        c.close()


def test_server_status_over_h2(h2):
    r = h2.request(path="/server-status?auto")
    assert r.status == 200 and "BusyWorkers: " in r.text


def test_total_accesses(server, h2):
    """Requests over HTTP/2 are counted."""
    def total():
        text = server.http1(path="/server-status?auto", tls=False).text
        return int(re.search(r"Total Accesses: (\d+)", text).group(1))
    before = total()
    for _ in range(20):
        h2.request(path="/index.html")
    wait_for(lambda: total() - before >= 20, 10, "20 accesses in the total")
    assert total() - before <= 40
