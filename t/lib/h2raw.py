"""A raw HTTP/2 client: frames out, frames in, nothing hidden.

It speaks the protocol only as far as it is told to, so that a test can also
break it.  What arrives is kept twice: in order, as frames (Connection.frames),
and by stream, as responses (Connection.streams).
"""

import socket
import ssl
import struct
import time

import hpack
from hyperframe import frame as hf
from hyperframe.frame import (  # re-exported for tests
    ContinuationFrame, DataFrame, GoAwayFrame, HeadersFrame, PingFrame,
    PriorityFrame, PushPromiseFrame, RstStreamFrame, SettingsFrame,
    WindowUpdateFrame)

from .settings import PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# RFC 9113, section 7
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR,
 SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL,
 COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY,
 HTTP_1_1_REQUIRED) = range(14)

# RFC 9113, section 6.5.2
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, \
    INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
ENABLE_CONNECT_PROTOCOL = 8

DEFAULT_WINDOW = 65535


class Timeout(Exception):
    """What was waited for did not come in time."""


class Response:
    """What came back on one stream."""

    def __init__(self, stream_id=0):
        self.id = stream_id
        self.interim = []       # header lists of 1xx responses
        self.headers = []       # of the final response, in order
        self.trailers = None    # header list, once they came
        self.body = bytearray()
        self.pieces = []        # payload of each DATA frame
        self.reset = None       # error code of a RST_STREAM
        self.ended = False      # END_STREAM was seen
        self.promises = []      # the Responses that were promised on it
        # Of a promised one: the stream that it was promised on, and the
        # fields of its PUSH_PROMISE.
        self.pushed_by = None
        self.request = []

    @property
    def path(self):
        """Of a promised one: what it answers."""
        return dict(self.request).get(":path")

    @property
    def promised_paths(self):
        return [p.path for p in self.promises]

    @property
    def status(self):
        value = self.header(":status")
        return int(value) if value else None

    @property
    def done(self):
        return self.ended or self.reset is not None

    def header(self, name, default=None):
        for key, value in self.headers:
            if key == name:
                return value
        return default

    def all(self, name):
        return [value for key, value in self.headers if key == name]

    def trailer(self, name, default=None):
        return dict(self.trailers or []).get(name, default)

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def __repr__(self):
        return "<Response %d: %s, %d bytes, ended=%s reset=%s>" % (
            self.id, self.status, len(self.body), self.ended, self.reset)


class Connection:
    """One connection over a connected socket.

    settings:  dict sent in the first SETTINGS frame; no push by default
               ({ENABLE_PUSH: 1} allows it, None leaves the setting out).
    ack:       answer SETTINGS and PING.
    windows:   give back flow control credit for each DATA frame received.
    greet:     send preface and SETTINGS at once.
    """

    def __init__(self, sock, settings=None, ack=True, windows=True,
                 greet=True, authority="localhost", timeout=10):
        self.sock = sock
        self.scheme = "https" if isinstance(sock, ssl.SSLSocket) else "http"
        self.authority = authority
        self.timeout = timeout * PATIENCE
        self.ack = ack
        self.windows = windows
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.frames = []
        self.heads = []             # of each frame: length, type, flags, id
        self.blocks = []            # (frame that began it, field block)
        self.streams = {}
        self.goaways = []           # (last stream id, error code, data)
        self.peer_settings = {}
        self.settings_seen = 0
        self.settings_acked = 0
        self.pongs = []
        self.promises = []          # promised Responses, in order
        self.eof = False            # the server has closed
        self.error = None           # the OSError that ended reading
        self.next_id = 1
        self.window = DEFAULT_WINDOW        # what the peer lets us send
        self.stream_windows = {}
        self._in = bytearray()
        self._block = None          # header block still open
        if greet:
            self.greet(settings)

    # -- sending --------------------------------------------------------------

    def raw(self, data):
        """Sends bytes as they are."""
        self.sock.settimeout(self.timeout)
        self.sock.sendall(data)

    def send(self, *frames):
        self.raw(b"".join(f.serialize() for f in frames))

    def raw_frame(self, kind, flags=0, stream_id=0, payload=b"", length=None):
        """A frame put together by hand: any type, flags and length."""
        length = len(payload) if length is None else length
        self.raw(struct.pack(">HBBBL", length >> 8, length & 0xff, kind,
                             flags, stream_id) + payload)

    def greet(self, settings=None):
        values = {ENABLE_PUSH: 0, **(settings or {})}
        first = SettingsFrame(settings={k: v for k, v in values.items()
                                        if v is not None})
        self.raw(PREFACE + first.serialize())

    def fields(self, method="GET", path="/", headers=(), authority=None,
               scheme=None):
        """A request's field list: pseudo fields, then `headers`."""
        if isinstance(headers, dict):
            headers = headers.items()
        return [(":method", method), (":scheme", scheme or self.scheme),
                (":authority", authority or self.authority),
                (":path", path)] + list(headers)

    def new_id(self):
        stream_id, self.next_id = self.next_id, self.next_id + 2
        return stream_id

    def encode(self, fields):
        """HPACK; names and values may be str or bytes, taken as they are."""
        return self.encoder.encode(
            [(k if isinstance(k, bytes) else k.encode("latin-1"),
              v if isinstance(v, bytes) else v.encode("latin-1"))
             for k, v in fields])

    def start(self, fields, end=True, stream_id=None, block=None, more=()):
        """Opens a stream with HEADERS (and CONTINUATION as needed); returns
        its Response.  `block` replaces the encoded fields, `more` are frames
        sent in the same write."""
        stream_id = stream_id or self.new_id()
        response = self.streams.setdefault(stream_id, Response(stream_id))
        self.stream_windows.setdefault(
            stream_id,
            self.peer_settings.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW))
        block = self.encode(fields) if block is None else block
        self.send(*(self._split(stream_id, block, end) + list(more)))
        return response

    def _split(self, stream_id, block, end, size=16384):
        chunks = [block[i:i + size] for i in range(0, len(block), size)] \
            or [b""]
        frames = [HeadersFrame(stream_id, chunks[0])]
        frames += [ContinuationFrame(stream_id, c) for c in chunks[1:]]
        if end:
            frames[0].flags.add("END_STREAM")
        frames[-1].flags.add("END_HEADERS")
        return frames

    def get(self, path="/", headers=(), **kw):
        """Opens a stream with a GET; does not wait."""
        return self.start(self.fields("GET", path, headers, **kw))

    def burst(self, paths, headers=()):
        """GET requests in one write, so that one thread finds all of them."""
        asked, frames = [], []
        for path in paths:
            sid = self.new_id()
            asked.append(self.streams.setdefault(sid, Response(sid)))
            block = self.encode(self.fields("GET", path, headers))
            frames += self._split(sid, block, True)
        self.send(*frames)
        return asked

    def data(self, stream_id, data=b"", end=False, size=16384):
        """DATA frames at once, whatever the windows are."""
        chunks = [data[i:i + size] for i in range(0, len(data), size)] or [b""]
        frames = [DataFrame(stream_id, bytes(c)) for c in chunks]
        if end:
            frames[-1].flags.add("END_STREAM")
        self.window -= len(data)
        if stream_id in self.stream_windows:
            self.stream_windows[stream_id] -= len(data)
        self.send(*frames)

    def upload(self, response, data, end=True, timeout=None):
        """DATA as the peer's windows allow, reading in between.  Returns
        the number of bytes sent: less when the stream was ended first."""
        sid, sent = response.id, 0
        while sent < len(data):
            if not self.pump(lambda: response.done
                             or self.allowed(sid) > 0, timeout):
                return sent
            if response.done:
                return sent
            n = min(self.allowed(sid), len(data) - sent, 1 << 16)
            self.data(sid, data[sent:sent + n],
                      end=end and sent + n == len(data))
            sent += n
            self.poll()
        if end and not data:
            self.data(sid, b"", end=True)
        return sent

    def allowed(self, stream_id):
        return min(self.window, self.stream_windows.get(stream_id, 0))

    def trailers(self, stream_id, fields):
        block = self.encode(fields)
        self.send(*self._split(stream_id, block, True))

    def credit(self, amount, stream_id=0):
        """WINDOW_UPDATE, for the connection or a stream."""
        self.send(WindowUpdateFrame(stream_id, window_increment=amount))

    def reset(self, stream_id, code=CANCEL):
        self.send(RstStreamFrame(stream_id, error_code=code))

    def goaway(self, code=NO_ERROR, last=0):
        self.send(GoAwayFrame(0, last_stream_id=last, error_code=code))

    def settings(self, values):
        self.send(SettingsFrame(settings=values))

    def ping(self, payload=b"h2x-ping", timeout=None):
        """PING and wait for its answer: all sent before was read by then."""
        count = len(self.pongs)
        self.send(PingFrame(opaque_data=payload))
        self.until(lambda: len(self.pongs) > count or self.closed, timeout,
                   "PING answer")
        return len(self.pongs) > count

    # -- receiving ------------------------------------------------------------

    @property
    def closed(self):
        return self.eof or self.error is not None

    @property
    def goaway_code(self):
        """Error code of the last GOAWAY, or None."""
        return self.goaways[-1][1] if self.goaways else None

    def pump(self, until, timeout=None):
        """Reads until until() is true (returns True) or the server has
        closed (False); raises Timeout."""
        deadline = time.monotonic() + (
            self.timeout if timeout is None else timeout * PATIENCE)
        while not until():
            if self.closed:
                return False
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout("after frames %s" % self.tail())
            self._read(left)
        return True

    def until(self, condition, timeout=None, what="the condition"):
        """As pump, but a close is an error too."""
        try:
            done = self.pump(condition, timeout)
        except Timeout as e:
            raise Timeout("no %s %s" % (what, e)) from None
        if not done:
            raise ConnectionError("closed before %s, after frames %s"
                                  % (what, self.tail()))

    def poll(self):
        """Handles what is there already."""
        while not self.closed and self._read(0):
            pass

    def idle(self, seconds):
        """Reads for a while: to see that nothing comes, or to be slow.
        Returns the number of frames that came."""
        before = len(self.frames)
        try:
            self.pump(lambda: False, seconds / PATIENCE)
        except Timeout:
            pass
        return len(self.frames) - before

    def wait(self, *responses, timeout=None):
        """Until all these streams are over.  Returns the first."""
        self.until(lambda: all(r.done for r in responses), timeout,
                   "end of streams %s" % [r.id for r in responses])
        return responses[0]

    def wait_pushed(self, response, timeout=None):
        """Until a stream and all that was promised on it are over.  Returns
        the promised ones, in order."""
        self.wait(response, timeout=timeout)
        if response.promises:
            self.wait(*response.promises, timeout=timeout)
        return response.promises

    def order(self, kind, stream_id, nth=0):
        """Place of a stream's n-th frame of a kind among all frames."""
        return [at for at, f in enumerate(self.frames) if type(f) is kind
                and f.stream_id == stream_id][nth]

    def wait_headers(self, response, timeout=None):
        self.until(lambda: response.headers or response.done, timeout,
                   "response head on stream %d" % response.id)
        return response

    def wait_body(self, response, size, timeout=None):
        self.until(lambda: len(response.body) >= size or response.done,
                   timeout, "%d bytes on stream %d" % (size, response.id))
        return response

    def wait_closed(self, timeout=None):
        """Until the server has closed; True if it said GOAWAY before."""
        self.pump(lambda: False, timeout)
        return bool(self.goaways)

    def request(self, method="GET", path="/", headers=(), body=None,
                trailers=None, length=False, timeout=None, **kw):
        """One request, to its end.  length: send content-length."""
        headers = list(headers.items() if isinstance(headers, dict)
                       else headers)
        if length:
            headers.append(("content-length", str(len(body or b""))))
        r = self.start(self.fields(method, path, headers, **kw),
                       end=body is None and trailers is None)
        if body is not None:
            self.upload(r, body, end=trailers is None, timeout=timeout)
        if trailers is not None and not r.done:
            self.trailers(r.id, trailers)
        return self.wait(r, timeout=timeout)

    def _read(self, timeout):
        """One read from the socket; True if anything came."""
        self.sock.settimeout(max(timeout, 0.0001))
        try:
            chunk = self.sock.recv(1 << 18)
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        except OSError as e:
            self.error = e
            return False
        if not chunk:
            self.eof = True
            return False
        self._in += chunk
        self._parse()
        return True

    def _parse(self):
        at = 0
        acks = []
        while len(self._in) - at >= 9:
            head = memoryview(bytes(self._in[at:at + 9]))
            frame, length = hf.Frame.parse_frame_header(head)
            if len(self._in) - at < 9 + length:
                break
            payload = bytes(self._in[at + 9:at + 9 + length])
            frame.parse_body(memoryview(payload))
            at += 9 + length
            self.frames.append(frame)
            self.heads.append((length,) + struct.unpack(">BBL", head[3:]))
            self._handle(frame, length, acks)
        del self._in[:at]
        if acks:
            try:
                self.send(*acks)
            except OSError as e:
                # What the server sent before is still to be read.
                self.send_error = e

    def _stream(self, stream_id):
        return self.streams.setdefault(stream_id, Response(stream_id))

    def _handle(self, f, length, acks):
        if isinstance(f, DataFrame):
            stream = self._stream(f.stream_id)
            stream.body += f.data
            stream.pieces.append(bytes(f.data))
            if self.windows and length:
                acks.append(WindowUpdateFrame(0, window_increment=length))
                if "END_STREAM" not in f.flags:
                    acks.append(WindowUpdateFrame(
                        f.stream_id, window_increment=length))
            stream.ended |= "END_STREAM" in f.flags
        elif isinstance(f, (HeadersFrame, PushPromiseFrame)):
            self._block = (f, bytearray(f.data))
            self._close_block(f)
        elif isinstance(f, ContinuationFrame):
            self._block[1].extend(f.data)
            self._close_block(f)
        elif isinstance(f, RstStreamFrame):
            self._stream(f.stream_id).reset = f.error_code
        elif isinstance(f, GoAwayFrame):
            self.goaways.append((f.last_stream_id, f.error_code,
                                 bytes(f.additional_data)))
        elif isinstance(f, SettingsFrame):
            if "ACK" in f.flags:
                self.settings_acked += 1
                return
            self._take_settings(f.settings)
            if self.ack:
                acks.append(SettingsFrame(flags=["ACK"]))
        elif isinstance(f, PingFrame):
            if "ACK" in f.flags:
                self.pongs.append(f.opaque_data)
            elif self.ack:
                acks.append(PingFrame(opaque_data=f.opaque_data,
                                      flags=["ACK"]))
        elif isinstance(f, WindowUpdateFrame):
            if f.stream_id == 0:
                self.window += f.window_increment
            elif f.stream_id in self.stream_windows:
                self.stream_windows[f.stream_id] += f.window_increment

    def _take_settings(self, values):
        self.settings_seen += 1
        if INITIAL_WINDOW_SIZE in values:
            delta = values[INITIAL_WINDOW_SIZE] - self.peer_settings.get(
                INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
            for sid in self.stream_windows:
                self.stream_windows[sid] += delta
        if HEADER_TABLE_SIZE in values:
            self.encoder.header_table_size = min(
                values[HEADER_TABLE_SIZE], 4096)
        self.peer_settings.update(values)

    def _close_block(self, f):
        if "END_HEADERS" not in f.flags:
            return
        first, block = self._block
        self._block = None
        self.blocks.append((first, bytes(block)))
        fields = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in
                  self.decoder.decode(bytes(block), raw=True)]
        if isinstance(first, PushPromiseFrame):
            pushed = self._stream(first.promised_stream_id)
            pushed.pushed_by = first.stream_id
            pushed.request = fields
            self._stream(first.stream_id).promises.append(pushed)
            self.promises.append(pushed)
            return
        stream = self._stream(first.stream_id)
        if stream.headers:
            stream.trailers = fields
        elif dict(fields).get(":status", "").startswith("1"):
            stream.interim.append(fields)
        else:
            stream.headers = fields
        stream.ended |= "END_STREAM" in first.flags

    def tail(self, count=8):
        """The last frames, in short, for messages."""
        return ["%s(%d)" % (type(f).__name__[:-5], f.stream_id)
                for f in self.frames[-count:]]

    # -- end ------------------------------------------------------------------

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass

    def abort(self):
        """Closes with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
