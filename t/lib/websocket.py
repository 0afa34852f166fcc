"""WebSockets (RFC 6455): a server for httpd to pass them on to, made of
python3-websockets, and a client over HTTP/2 (RFC 8441), made of the raw one
and python3-wsproto."""

import asyncio
import socket
import threading

import websockets
import websockets.legacy.server
import wsproto
import wsproto.connection
from wsproto import events

from . import h2raw, server as _server


class Visit:
    """One WebSocket as the server saw it."""

    def __init__(self, ws):
        self.ws = ws
        self.path = ws.path
        self.fields = ws.request_headers
        self.received = self.sent = 0           # messages
        self.code = self.reason = None      # of the client's Close frame
        self.ended = threading.Event()


class Server:
    """handlers: from a path to `async def handler(visit)`.  refuse: from a
    path to an answer of (status, fields, body) in place of a handshake."""

    def __init__(self, handlers, refuse=None):
        self.handlers, self.refuse = handlers, refuse or {}
        self.visits = []
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._start())
        self.started.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self._stop())
        self.loop.close()

    async def _start(self):
        # the interface that versions 10 to 15 have alike
        self.server = await websockets.legacy.server.serve(
            self._handle, "127.0.0.1", 0, process_request=self._check,
            max_size=None, ping_interval=None, close_timeout=5,
            subprotocols=["chat"])
        self.port = self.server.sockets[0].getsockname()[1]

    async def _stop(self):
        self.server.close()
        await self.server.wait_closed()

    async def _check(self, path, fields):
        return self.refuse.get(path.split("?")[0])

    async def _handle(self, ws):
        visit = Visit(ws)
        self.visits.append(visit)
        try:
            await self.handlers[ws.path.split("?")[0]](visit)
            await ws.wait_closed()
        except websockets.ConnectionClosed:
            pass
        finally:
            visit.code, visit.reason = ws.close_code, ws.close_reason
            visit.ended.set()

    def visit(self, path, timeout=10):
        """The visit of a path; waits for it to begin."""
        return _server.wait_for(
            lambda: next((v for v in list(self.visits) if v.path == path),
                         None), timeout, "a WebSocket at " + path)

    def cut(self, visit, reset=False):
        """Ends the TCP connection of a visit, with no Close frame."""
        def cut():
            transport = visit.ws.transport
            if reset:
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                b"\1\0\0\0\0\0\0\0")
                transport.abort()
            else:
                transport.close()
        self.loop.call_soon_threadsafe(cut)

    def __enter__(self):
        self.thread.start()
        assert self.started.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


async def echo(visit):
    """A handler: each message back."""
    async for message in visit.ws:
        visit.received += 1
        await visit.ws.send(message)


class Socket:
    """A WebSocket on a stream of a h2raw.Connection."""

    def __init__(self, connection, path, headers=(), **kw):
        self.connection = connection
        fields = connection.fields(
            "CONNECT", path, [("sec-websocket-version", "13"), *headers], **kw)
        fields.insert(1, (":protocol", "websocket"))
        self.response = connection.start(fields, end=False)
        self.ws = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
        self.messages = []          # str or bytes
        self.pongs, self.pings = [], []
        self.closed = None          # (code, reason) of the server's Close
        self._parts = []

    @property
    def id(self):
        return self.response.id

    @property
    def is_over(self):
        return self.response.done or self.connection.closed

    def opened(self):
        """Waits for the handshake, which must be good."""
        self.connection.wait_headers(self.response)
        assert self.response.status == 200, self.response
        assert not self.response.done
        return self

    # -- sending --------------------------------------------------------------

    def send(self, *what):
        """Events of wsproto in one go; gives way when the window is used up.
        Returns whether all was sent."""
        data = b"".join(self.ws.send(event) for event in what)
        return self.connection.upload(self.response, data,
                                      end=False) == len(data)

    def say(self, message):
        self.send(frame(message))

    def close(self, code=1000, reason=None, end=True):
        """The closing handshake as the side that begins it; end: and
        END_STREAM after it.  Returns the server's (code, reason)."""
        self.send(events.CloseConnection(code, reason))
        self.until(lambda: self.closed)
        if end:
            self.end()
        return self.closed

    def answer_close(self):
        """Waits for the server's Close, answers it and ends the stream."""
        self.until(lambda: self.closed)
        self.send(events.CloseConnection(self.closed[0], None))
        self.end()
        return self.closed

    def end(self):
        """END_STREAM, and waits for the server's."""
        if not self.is_over:
            self.connection.data(self.id, b"", end=True)
        self.connection.wait(self.response)

    # -- receiving ------------------------------------------------------------

    def take(self):
        """Reads messages out of what the stream has."""
        body = self.response.body
        while body:                 # answers to pings may bring more
            self.ws.receive_data(bytes(body))
            del body[:]
            self._take_events()

    def _take_events(self):
        for event in self.ws.events():
            if isinstance(event, events.Message):
                self._parts.append(event.data)
                if event.message_finished:
                    self.messages.append(
                        self._parts[0][:0].join(self._parts))
                    self._parts = []
            elif isinstance(event, events.Ping):
                self.pings.append(bytes(event.payload))
                self.send(event.response())
            elif isinstance(event, events.Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, events.CloseConnection):
                self.closed = (event.code, event.reason)

    def until(self, condition, timeout=None):
        """Reads until condition() is true; the stream must live so long."""
        def is_met():
            self.take()
            return condition() or self.is_over
        self.connection.until(is_met, timeout, "what was waited for")
        assert condition(), (self.response, self.connection.tail())

    def hear(self, count=1, timeout=None):
        """Waits for `count` more messages and returns them, or the one."""
        self.until(lambda: len(self.messages) >= count, timeout)
        got, self.messages = self.messages[:count], self.messages[count:]
        return got if count > 1 else got[0]


def frame(message, finished=True):
    """A message, or a part of one, as an event to send."""
    kind = events.TextMessage if isinstance(message, str) \
        else events.BytesMessage
    return kind(message, message_finished=finished)


def connect_protocol(connection):
    """Does the server take extended CONNECT?"""
    connection.until(lambda: connection.settings_seen, what="SETTINGS")
    return connection.peer_settings.get(h2raw.ENABLE_CONNECT_PROTOCOL)
