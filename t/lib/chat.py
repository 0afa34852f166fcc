"""A private httpd with WebSocket servers behind it, good and bad: what the
tests of WebSockets share.  Import the fixtures and what else is needed."""

import asyncio
import base64
import hashlib
import threading
from http import HTTPStatus

import pytest

from . import backend, inside, websocket
from .server import free_ports, wait_for

MODULES = "proxy proxy_http proxy_wstunnel"
CONFIG = """
<IfModule !mpm_prefork_module>
    # what the kernel holds is not to be measured
    SendBufferSize 65536
    ReceiveBufferSize 65536
</IfModule>
H2WebSockets on
ProxyPass /ws/idle/ http://127.0.0.1:%(ws)d/idle/ upgrade=websocket timeout=2
ProxyPass /old/idle/ ws://127.0.0.1:%(ws)d/idle/ timeout=2
ProxyPass /ws/ http://127.0.0.1:%(ws)d/ upgrade=websocket
ProxyPass /old/ ws://127.0.0.1:%(ws)d/
ProxyPass /fake/ http://127.0.0.1:%(fake)d/ upgrade=websocket
ProxyPass /oldfake/ ws://127.0.0.1:%(fake)d/
ProxyPass /dead/ http://127.0.0.1:%(dead)d/ upgrade=websocket retry=0
ProxyPass /olddead/ ws://127.0.0.1:%(dead)d/ retry=0
"""
HOSTS = {
    "one.test": """
        H2WebSockets off
        ProxyPass /ws/ http://127.0.0.1:%(ws)d/ upgrade=websocket""",
    "two.test": """
        Timeout 2
        H2StreamTimeout 2""",
}

PROXIES = pytest.mark.parametrize("proxy", ["/ws", "/old"])

#: Opened by a test when the server may go on.
gate = threading.Event()


async def go_on():
    while not gate.is_set():
        await asyncio.sleep(0.01)


async def ws_close(visit):
    """Closes as the query says: code,reason.  As the others below, it waits
    for a word: what comes with the handshake is another test's."""
    await visit.ws.recv()
    code, _, reason = visit.path.partition("?")[2].partition(",")
    await visit.ws.close(int(code), reason)


async def ws_ping(visit):
    await visit.ws.recv()
    for i in range(20):
        await (await visit.ws.ping(b"ping %d" % i))
        await visit.ws.send("pong %d" % i)


async def ws_flood(visit):
    """Sends as fast as it goes, up to 20 MB."""
    await visit.ws.recv()
    for visit.sent in range(1, 321):
        await visit.ws.send(b"f" * 65536)


async def ws_deaf(visit):
    await go_on()
    await websocket.echo(visit)


async def ws_parts(visit):
    """Each message back in three parts."""
    async for message in visit.ws:
        third = len(message) // 3
        await visit.ws.send([message[:third], message[third:2 * third],
                             message[2 * third:]])


async def ws_talk(visit):
    """Speaks all the time."""
    await visit.ws.recv()
    for i in range(1000):
        await visit.ws.send("tick")
        await asyncio.sleep(0.2)

HANDLERS = {"/echo": websocket.echo, "/close": ws_close, "/ping": ws_ping,
            "/flood": ws_flood, "/deaf": ws_deaf, "/parts": ws_parts,
            "/idle/talk": ws_talk, "/idle/echo": websocket.echo}
REFUSE = {"/forbidden": (HTTPStatus.FORBIDDEN, [("X-Why", "no entry")],
                         b"not you\n"),
          "/elsewhere": (HTTPStatus.FOUND, [("Location", "/x")], b"")}

SWITCH = ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\n"
          "Connection: Upgrade\r\n%s\r\n")


def handshake(q):
    """The head of a good answer to a handshake."""
    key = q.fields["sec-websocket-key"].encode()
    accept = base64.b64encode(hashlib.sha1(
        key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    return (SWITCH % ("websocket", "Sec-WebSocket-Accept: %s\r\n" % accept)
            ).encode()


def greet(q):
    """A message in the packet of the handshake; then one back."""
    q.send(handshake(q) + b"\x81\x07welcome")
    if q.stream.read(9):
        q.send(b"\x81\x06thanks")


def after(q):
    """A message when the client has ended its half, without Close."""
    q.send(handshake(q))
    q.send(b"\x81\x11that was %d bytes" % len(q.stream.read()))


def fake_handle(q):
    """Backends that know WebSockets badly."""
    name = q.path.split("?")[0]
    if name == "/wrong":
        q.send(SWITCH % ("websocket", "Sec-WebSocket-Accept: "
                         "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"))
        q.send(b"\x81\x03bad")
    elif name == "/none":
        q.send(SWITCH % ("websocket", ""))
        q.send(b"\x81\x03bad")
    elif name == "/other":
        q.send(SWITCH % ("other", ""))
        q.send(b"other")
    elif name == "/length":
        q.send(handshake(q)[:-2] + b"Content-Length: 0\r\n\r\n")
        if q.stream.read(10):
            q.send(b"\x81\x06thanks")
    elif name == "/greet":
        greet(q)
    elif name == "/after":
        after(q)
    elif name == "/slow":
        gate.wait(30)
    elif name == "/die":
        pass
    else:
        q.answer("a page")
    return False


@pytest.fixture(scope="module")
def chat():
    with websocket.Server(HANDLERS, REFUSE) as one:
        yield one


@pytest.fixture(scope="module")
def config(chat):
    with backend.Backend(fake_handle) as fake, free_ports(1) as (dead,):
        yield CONFIG % {"ws": chat.port, "fake": fake.port, "dead": dead}


@pytest.fixture(scope="module")
def hosts(chat):
    return {name: lines % {"ws": chat.port} for name, lines in HOSTS.items()}


@pytest.fixture(scope="module")
def server(httpd, config, hosts):
    with httpd(config, MODULES, hosts=hosts) as server:
        server.write("index.html", "hello\n")
        yield server


@pytest.fixture(autouse=True)
def fresh(chat):
    chat.visits.clear()
    gate.clear()
    yield
    gate.set()


def still_good(c):
    assert c.request(path="/index.html").text == "hello\n"


def ended(server):
    """Until no request is under way.  Those that are refused before httpd
    looks at them are logged, but not counted as read."""
    def done():
        counted = inside.counters(server)
        return counted["read"] == counted["ended"]
    wait_for(done, what="all requests to end")


def open_socket(c, path, say=None):
    w = websocket.Socket(c, path).opened()
    if say:
        w.say(say)
    return w


def refused(c, path, **kw):
    """A handshake that must not succeed: its response, to the end."""
    w = websocket.Socket(c, path, **kw)
    c.wait(w.response)
    still_good(c)
    assert not is_success(w.response), w.response
    return w.response


def is_success(r):
    return r.status is not None and r.status < 300
