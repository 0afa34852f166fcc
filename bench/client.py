"""A small HTTP/2 client over TLS, for what h2load cannot measure."""

import functools
import re
import socket
import ssl
import struct

DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
PING, GOAWAY, WINDOW_UPDATE = 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4


# how a header block of a response may begin
TABLE_SIZES = rb'(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f])*'
STATUS_200 = rb'(?:\x88|[\x08\x18\x48](?:\x03200|\x82\x10\x01))'


class Failed(Exception):
    """A measurement that must not be used; its text says why."""


class Unable(Failed):
    """Work that a server cannot do, which is a result."""


def frame(kind, flags, stream, payload=b''):
    return (struct.pack('>I', len(payload))[1:]
            + struct.pack('>BBI', kind, flags, stream) + payload)


@functools.lru_cache(None)
def tls_context(protocol='h2'):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([protocol])
    return context


class Client:
    """One connection.  `sizes` gives the body length that a path must have.

    Unless `table` is given, its settings forbid the dynamic table, so that
    status 200 is recognised without an HPACK decoder, however it is encoded.
    Fields of its requests are static or literal.
    """

    def __init__(self, port, sizes, window=1 << 24, buffer=None,
                 tls=True, table=0, coding=None, seconds=10):
        """`window`: octets of a response that it allows; `buffer`: of them,
        what the kernel may hold while they are not read; `coding`: what it
        accepts; `seconds`: how long it waits for the server."""
        plain = socket.socket()
        plain.settimeout(seconds)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.connect(('127.0.0.1', port))
        self.sock = tls_context().wrap_socket(plain) if tls else plain
        if tls and self.sock.selected_alpn_protocol() != 'h2':
            raise Failed('the server did not select h2')
        self.sizes, self.input, self.next_id, self.pongs = sizes, b'', 1, 0
        self.fields = b'\x01\x09localhost' + (
            b'\x0f\x01%c%b' % (len(coding), coding.encode()) if coding
            else b'')
        self.open = {}      # stream -> [path, answered, octets of body]
        table_push_window = struct.pack('>HIHIHI', 1, table, 2, 0, 4, window)
        self.sock.sendall(
            b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
            + frame(SETTINGS, 0, 0, table_push_window)
            + frame(WINDOW_UPDATE, 0, 0, struct.pack('>I', 1 << 30)))

    def send(self, *paths):
        """Sends GET requests for all paths in one write; returns the last
        one's stream."""
        out = b''
        for path in paths:
            block = b'\x82\x87\x04%c%b%b' % (
                len(path), path.encode(), self.fields)
            out += frame(HEADERS, END_STREAM | END_HEADERS, self.next_id,
                         block)
            self.open[self.next_id] = [path, False, 0]
            self.next_id += 2
        self.sock.sendall(out)
        return self.next_id - 2

    def get(self, *paths):
        """Requests all paths at once and waits until the last is whole."""
        self.send(*paths)
        self.wait(lambda: not self.open)

    def allow(self, window):
        """Gives each stream another window."""
        self.sock.sendall(frame(SETTINGS, 0, 0,
                                struct.pack('>HI', 4, window)))

    def ping(self):
        """Fails when the connection is no longer there."""
        self.sock.sendall(frame(PING, 0, 0, b'8 octets'))
        self.wait(lambda: self.pongs)

    def close(self):
        self.sock.close()

    def wait(self, done):
        """Reads until done() holds."""
        while not done():
            more = self.sock.recv(65536)
            if not more:
                raise Failed('the server closed a connection')
            self.input += more
            at = 0
            while len(self.input) >= at + 9:
                end = at + 9 + int.from_bytes(self.input[at:at + 3], 'big')
                if len(self.input) < end:
                    break
                self.take(*struct.unpack_from('>BBI', self.input, at + 3),
                          self.input[at + 9:end])
                at = end
            self.input = self.input[at:]

    def take(self, kind, flags, stream, payload):
        if kind in (RST_STREAM, GOAWAY):
            raise Failed('the server sent %s, code %d' % (
                'RST_STREAM' if kind == RST_STREAM else 'GOAWAY',
                struct.unpack_from('>I', payload, 4 * (kind == GOAWAY))[0]))
        if kind == SETTINGS and not flags & ACK:
            self.sock.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING:
            self.pongs += flags & ACK
        elif kind == HEADERS:
            if not re.match(TABLE_SIZES + STATUS_200, payload):
                raise Failed('a response is not 200')
            self.open[stream][1] = True
        elif kind == DATA:
            self.open[stream][2] += len(payload)
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            path, answered, size = self.open.pop(stream)
            if not answered or size != self.sizes.get(path, size):
                raise Failed('%s came with %d octets' % (path, size))
