"""A client that fetches one small file again and again, on one connection, as
long as others misbehave.  Run as a program: a line on standard input asks for
the times of all fetches since the last one, in seconds, as JSON.  A third
argument is the path of a request that stays open on the same connection, so
that not the connection's own thread serves it."""

import json
import select
import socket
import struct
import sys
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PAUSE = 0.001
PATIENCE = 5.0      # a fetch that takes longer has failed, and counts as that


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">HBBBL", 0, len(payload), kind, flags,
                       stream) + payload


def head(path):
    """GET with literal fields that nobody keeps."""
    return (b"\x82\x86\x01\x09localhost"
            + b"\x04" + bytes([len(path)]) + path)


class Client:
    def __init__(self, port, path, hold=None):
        self.port, self.block, self.sock = port, head(path), None
        self.hold = hold

    def connect(self):
        self.sock = socket.create_connection(("127.0.0.1", self.port),
                                             PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(PREFACE + frame(4, 0, 0))
        self.data, self.stream = b"", 1
        if self.hold:
            self.sock.sendall(frame(1, 5, 1, head(self.hold)))
            self.stream = 3

    def take(self, n):
        while len(self.data) < n:
            more = self.sock.recv(1 << 16)
            if not more:
                raise OSError("closed")
            self.data += more
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def fetch(self):
        if self.sock is None:
            self.connect()
        self.sock.sendall(frame(1, 5, self.stream, self.block))
        while True:
            first = self.take(9)
            kind, flags, stream = struct.unpack(">BBL", first[3:])
            size = int.from_bytes(first[:3], "big")
            self.take(size)
            if kind == 0 and size:
                self.sock.sendall(frame(8, 0, 0, struct.pack(">L", size)))
            elif kind == 4 and not flags & 1:
                self.sock.sendall(frame(4, 1, 0))
            elif kind in (3, 7):
                raise OSError("refused")
            if kind in (0, 1) and flags & 1 and stream == self.stream:
                self.stream += 2
                return

    def timed(self):
        start = time.monotonic()
        try:
            self.fetch()
        except OSError:
            if self.sock:
                self.sock.close()
            self.sock = None
            return PATIENCE
        return time.monotonic() - start


def main():
    port, *paths = sys.argv[1:]
    client, times = Client(int(port), *(p.encode() for p in paths)), []
    client.timed()
    while True:
        if select.select([sys.stdin], [], [], PAUSE)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps(times), flush=True)
            times = []
        times.append(client.timed())


if __name__ == "__main__":
    main()
