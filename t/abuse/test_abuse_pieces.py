"""Attacks that make the server keep much for little: small pieces, requests
that are reset, bodies that nobody reads."""

import os
import shlex
import socket
import subprocess
import threading

import pytest

from lib import h2raw, inside
from lib.h2raw import DataFrame, HeadersFrame, RstStreamFrame
from stage import MANY, row
from test_abuse_heads import LAST, begin, literal

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = "proxy proxy_http"
CONFIG = """
ProxyPass /nobody/ http://127.0.0.1:${NOBODY}/
"""
CALM = h2raw.ENHANCE_YOUR_CALM
AT_0 = {h2raw.INITIAL_WINDOW_SIZE: 0}


@pytest.fixture(scope="module", autouse=True)
def nobody():
    """Where connections are taken and nothing is read."""
    yield
    listener.close()


listener = socket.create_server(("127.0.0.1", 0))


def files(server):
    server.config = server.config.replace(
        "${NOBODY}", str(listener.getsockname()[1]))


@row(18, "responses of small pieces at window 0", needs="httpd", log=r"",
     lines=MANY)
@pytest.mark.parametrize("size", [1, 50])
def test_small_output(stage, size):
    """Each piece is flushed, and costs little more than its length."""
    c = stage.connect(settings=AT_0)
    rs = [c.get("/t/trickle?n=30000&size=%d" % size) for _ in range(20)]
    for r in rs:
        c.wait_headers(r)
    c.idle(2)
    stage.tell("%s, %.0f bytes of memory for each byte" % (
        c.end(), (stage.memory() - stage.at_first) / (20 * 65536)))


@row(21, "requests of small pieces that a filter collects", needs="httpd",
     log=r"", lines=MANY, growth=16 << 20)
def test_small_input(stage):
    """Frames of one byte for requests that are proxied, which mod_proxy keeps
    until there are 16 KB."""
    c = stage.connect()
    rs = [c.start(c.fields("POST", "/nobody/"), end=False) for _ in range(20)]
    c.settle()
    piece = b"".join(DataFrame(r.id, b"x").serialize() for r in rs)
    for _ in range(1000):
        c.raw(piece)
        c.poll()
        c.idle(0.002)
    stage.tell("%s, %.0f bytes of memory for each frame" % (
        c.end(), (stage.memory() - stage.at_first) / 20000))


@row(1, "requests reset before they ran, with large heads",
     needs="httpd", log=r"", lines=MANY)
@pytest.mark.parametrize("busy", [False, True])
def test_reset_heads(stage, busy):
    """Heads of 32 KB by HPACK, in one write, reset at once; also while
    handlers hold up the connection's thread."""
    c = stage.connect()
    if busy:
        waiting = [c.get("/t/wait?gate=5") for _ in range(2)]
        c.settle()
    block = begin(c)
    out = bytearray()
    for i in range(950):
        stream_id = c.new_id()
        head = block + (literal(b"x", b"a" * 3900) if not i else b"")
        out += HeadersFrame(stream_id, head + LAST * 7,
                            flags=["END_HEADERS", "END_STREAM"]).serialize()
        out += RstStreamFrame(stream_id, error_code=h2raw.CANCEL).serialize()
    c.raw(bytes(out))
    c.settle()
    if busy:
        inside.open_gate(stage.server, 5, 1)
        c.wait(*waiting)
    stage.tell(c.end())


@row(1, "reset uploads whose handlers run", needs="httpd", log=r"",
     lines=MANY, growth=12 << 20, kept=8 << 20)
def test_reset_uploads(stage):
    """What no handler will read is not kept until it ends."""
    c = stage.connect()
    for last in (False, True):
        rs = [c.start(c.fields("POST", "/t/wait?gate=6"), end=False)
              for _ in range(100)]
        for r in rs:
            c.data(r.id, b"x" * 65535)
        c.settle()
        if not last:
            for r in rs:
                c.reset(r.id)
            c.settle()
    inside.open_gate(stage.server, 6, 1)
    stage.tell(c.end())


@row(18, "bodies unread and responses untaken", needs="httpd", log=r"",
     lines=MANY, growth=24 << 20, kept=8 << 20)
def test_full_both_ways(stage):
    """All that a connection may fill: SECURITY.md says how much that is."""
    c = stage.connect(settings=AT_0)
    rs = [c.start(c.fields("POST", "/t/big?n=10000000"), end=False)
          for _ in range(100)]
    for r in rs:
        c.wait_headers(r)
    for r in rs:
        c.data(r.id, b"x" * 65535)
    c.settle()
    stage.tell("%s, %.0f MB" % (
        c.end(), (stage.memory() - stage.at_first) / 1e6))


@pytest.fixture(scope="module")
def key_updates(tmp_path_factory):
    """A client that asks for new keys again and again."""
    target = str(tmp_path_factory.mktemp("keys") / "key_updates")
    subprocess.run(
        shlex.split(os.environ.get("CC", "cc"))
        + ["-O1", "-Wall", "-Werror", "-o", target,
           os.path.join(HERE, "key_updates.c"), "-lssl", "-lcrypto"],
        check=True)
    return target


@row(18, "TLS key updates, nothing taken", needs="httpd",
     log=r"too many TLS control records", lines=MANY)
def test_key_updates(stage, key_updates):
    """OpenSSL answers each while it reads; a handler that waits has the watch
    read for all connections of the child."""
    client = subprocess.Popen(
        [key_updates, str(stage.server.tls_port), "8000"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        with stage.server.h2() as c:
            assert client.stdout.readline() == "asked\n"
            waiting = c.get("/t/wait?gate=7")
            client.stdin.write("go\n")
            client.stdin.flush()
            done = threading.Event()
            reader = threading.Thread(
                target=lambda: (client.stdout.readline(), done.set()))
            reader.start()
            fetched = 0
            while not done.is_set() or fetched < 20:
                r = c.request(path="/small.html", timeout=2)
                stage.check(r.status == 200, "%r", r)
                fetched += 1
            reader.join()
            inside.open_gate(stage.server, 7, 1)
            c.wait(waiting)
        if stage.server.load == "h2x":
            stage.server.wait_log(r"too many TLS control records", stage.mark)
        stage.tell("closed, %d files fetched meanwhile" % fetched)
    finally:
        client.kill()
        client.wait()
        client.stdin.close()
        client.stdout.close()
