"""Backends for httpd to talk to: plain HTTP/1.1 and FastCGI.

Both run in threads of the test and give each request to a function of the
test, which reads and writes as it likes: tests of a proxy need backends that
misbehave.
"""

import socket
import struct
import threading
import traceback


class _Listener:
    """Accepts on a loopback port; serves each connection in a thread."""

    def __init__(self, handle):
        self.handle = handle
        self.errors = []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,),
                             daemon=True).start()

    def _serve(self, conn):
        conn.settimeout(60)
        try:
            with conn:
                self.connection(conn)
        except OSError:
            pass                    # the peer has left
        except Exception:
            self.errors.append(traceback.format_exc())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        # shutdown wakes accept; close alone does not.
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        self.thread.join(5)
        assert not self.errors, self.errors[0]


class Request:
    """A request as the backend got it: the body is still in the socket."""

    def __init__(self, conn, stream):
        self.conn, self.stream = conn, stream
        self.line = stream.readline().decode("latin-1").strip()
        self.method, self.path = (self.line.split() + ["", ""])[:2]
        self.fields = {}
        while self.line:
            line = stream.readline().decode("latin-1").strip()
            if not line:
                break
            name, _, value = line.partition(":")
            self.fields[name.lower()] = value.strip()

    def pieces(self):
        """The body as it comes: chunk by chunk, or all of it."""
        if self.fields.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int(self.stream.readline().split(b";")[0], 16)
                data = self.stream.read(size)
                self.stream.readline()
                if not size:
                    return
                yield data
        left = int(self.fields.get("content-length", "0"))
        while left:
            data = self.stream.read1(min(left, 65536))
            if not data:
                return
            left -= len(data)
            yield data

    def body(self):
        return b"".join(self.pieces())

    def send(self, data):
        self.conn.sendall(data if isinstance(data, bytes) else data.encode())

    def answer(self, body=b"", status="200 OK", fields=""):
        body = body if isinstance(body, bytes) else body.encode()
        self.send("HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"
                  "Content-Length: %d\r\n%s\r\n" % (status, len(body), fields))
        self.send(b"" if self.method == "HEAD" else body)


class Backend(_Listener):
    """HTTP/1.1: handle(request) for each, until it returns False."""

    def connection(self, conn):
        stream = conn.makefile("rb")
        while True:
            request = Request(conn, stream)
            if not request.line or self.handle(request) is False:
                return


# --- FastCGI -----------------------------------------------------------------

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)


class FastRequest:
    def __init__(self, conn, number):
        self.conn, self.number = conn, number
        self.env = {}
        self._stdin = []

    def record(self, kind, data=b""):
        self.conn.sendall(struct.pack(">BBHHBx", 1, kind, self.number,
                                      len(data), 0) + data)

    def out(self, data):
        data = data if isinstance(data, bytes) else data.encode()
        for i in range(0, len(data), 60000):
            self.record(STDOUT, data[i:i + 60000])

    def end(self):
        self.record(STDOUT)
        self.record(END, struct.pack(">LBxxx", 0, 0))


class FastCGI(_Listener):
    """FastCGI responder: handle(request, pieces) for each connection's one
    request; pieces() yields the body as it comes."""

    def connection(self, conn):
        stream = conn.makefile("rb")
        request, params = None, b""
        while True:
            kind, number, data = self._read(stream)
            if kind is None:
                return
            if kind == BEGIN:
                request = FastRequest(conn, number)
            elif kind == PARAMS and data:
                params += data
            elif kind == PARAMS:
                request.env = dict(self._pairs(params))
                self.handle(request, lambda: self._pieces(stream))
                return

    @staticmethod
    def _read(stream):
        head = stream.read(8)
        if len(head) < 8:
            return None, 0, b""
        _, kind, number, length, padding = struct.unpack(">BBHHBx", head)
        data = stream.read(length)
        stream.read(padding)
        return kind, number, data

    def _pieces(self, stream):
        while True:
            kind, _, data = self._read(stream)
            if kind != STDIN or not data:
                return
            yield data

    @staticmethod
    def _pairs(data):
        at = 0

        def length():
            nonlocal at
            if data[at] < 128:
                at += 1
                return data[at - 1]
            at += 4
            return struct.unpack(">L", data[at - 4:at])[0] & 0x7fffffff
        while at < len(data):
            n, v = length(), length()
            yield (data[at:at + n].decode("latin-1"),
                   data[at + n:at + n + v].decode("latin-1"))
            at += n + v
