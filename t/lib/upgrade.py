"""The change from HTTP/1.1 to h2c by Upgrade (RFC 7540, section 3.2), byte by
byte."""

import base64

from . import h2raw


def encode(settings):
    """HTTP2-Settings: the payload of a SETTINGS frame."""
    payload = h2raw.SettingsFrame(settings=settings).serialize_body()
    return base64.urlsafe_b64encode(payload).rstrip(b"=").decode()


def request(method="GET", path="/index.html", fields=(), body=b"",
            settings=None, host="localhost", connection=None,
            protocol="h2c", version="1.1"):
    """A request that asks for h2c.  settings: dict, or the value itself, or
    '' for no such field; fields may replace what is here otherwise."""
    if not isinstance(settings, str):
        settings = encode({h2raw.ENABLE_PUSH: 0} if settings is None
                          else settings)
    lines = ["%s %s HTTP/%s" % (method, path, version), "Host: " + host,
             "Connection: %s" % (connection or "Upgrade, HTTP2-Settings")]
    if protocol:
        lines.append("Upgrade: " + protocol)
    if settings:
        lines.append("HTTP2-Settings: " + settings)
    lines += ["%s: %s" % field for field in fields]
    if body and not any(k.lower() == "transfer-encoding" for k, _ in fields):
        lines.append("Content-Length: %d" % len(body))
    return "\r\n".join(lines + ["", ""]).encode() + body


class Upgraded(h2raw.Connection):
    """A connection whose request was answered with 101; its response is
    `first`, that of stream 1."""

    def __init__(self, sock, rest, greet=True, **kw):
        super().__init__(sock, greet=False, **kw)
        self.next_id = 3
        self.first = self.streams[1] = h2raw.Response(1)
        if greet:
            self.greet({h2raw.ENABLE_PUSH: None})
        self._in += rest
        self.ack = greet        # nothing may go before the preface
        self._parse()


class Answer:
    """What came over HTTP/1.1: head, and the beginning of what follows."""

    def __init__(self, sock):
        self.sock = sock
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
        head, _, self.rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.version, _, status = lines[0].partition(" ")
        self.status = int(status.split()[0]) if status else None
        self.fields = {k.lower(): v.strip() for k, _, v in
                       (line.partition(":") for line in lines[1:])}

    def read(self):
        """The body, whose length must be told."""
        left = int(self.fields["content-length"]) - len(self.rest)
        while left > 0:
            piece = self.sock.recv(left)
            if not piece:
                break
            self.rest += piece
            left -= len(piece)
        return self.rest


def send(server, data, tls=False):
    """Sends bytes on a new connection and reads the head of the answer."""
    sock = server.connect(tls, alpn=("http/1.1",))
    sock.sendall(data)
    return Answer(sock)


def ask(server, *args, **kw):
    """A request that asks for h2c: what came over HTTP/1.1."""
    return send(server, request(*args, **kw))


def upgrade(server, *args, greet=True, windows=True, **kw):
    """The same, that must succeed: the connection."""
    answer = ask(server, *args, **kw)
    assert (answer.version, answer.status) == ("HTTP/1.1", 101), vars(answer)
    assert answer.fields["upgrade"] == "h2c"
    assert answer.fields["connection"].lower() == "upgrade"
    return Upgraded(answer.sock, answer.rest, greet=greet, windows=windows)
