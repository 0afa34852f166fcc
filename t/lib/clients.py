"""Thin wrappers around curl, nghttp, h2load, node and python3-h2."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import namedtuple

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from . import server as _server

Result = namedtuple("Result", "rc out err")


def have(name):
    return shutil.which(name) is not None


def run(argv, timeout=60, stdin=None, check=False):
    done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          timeout=timeout * _server.PATIENCE)
    result = Result(done.returncode, done.stdout,
                    done.stderr.decode("utf-8", "replace"))
    if check and result.rc != 0:
        raise AssertionError("%s: status %d\n%s" % (
            " ".join(argv), result.rc, result.err))
    return result


class CurlResponse:
    """The last response that curl received, and those before it."""

    def __init__(self, result, head, body, info):
        self.rc, self.err, self.body = result.rc, result.err, body
        self.heads = [h.split("\r\n") for h in
                      head.decode("latin-1").split("\r\n\r\n") if h]
        self.version, self.status, self.num_connects = None, None, None
        if info:
            version, status, connects = info.split()
            self.version, self.status = version, int(status)
            self.num_connects = int(connects)

    def header(self, name, head=-1):
        for line in self.heads[head][1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


def curl(server, path="/", *args, tls=True, host="localhost", http2=True,
         timeout=60, stdin=None):
    """curl of one URL.  h2 over TLS by ALPN, prior knowledge without."""
    with tempfile.TemporaryDirectory() as d:
        head, body = os.path.join(d, "head"), os.path.join(d, "body")
        mode = "--http1.1" if not http2 else \
            "--http2" if tls else "--http2-prior-knowledge"
        port = server.tls_port if tls else server.port
        result = run(
            ["curl", "-q", "-sS", mode, "--path-as-is",
             "--cacert", os.path.join(server.certs, "server.crt"),
             "--resolve", "%s:%d:127.0.0.1" % (host, port),
             "-D", head, "-o", body,
             "-w", "%{http_version} %{http_code} %{num_connects}"]
            + list(args) + [server.url(path, tls, host)],
            timeout=timeout, stdin=stdin)

        def content(name):
            if os.path.exists(name):
                with open(name, "rb") as f:
                    return f.read()
            return b""
        return CurlResponse(result, content(head), content(body),
                            result.out.decode())


def nghttp(server, *paths, args=(), tls=True, timeout=60):
    """nghttp -v of several paths on one connection."""
    return run(["nghttp", "-v", "--no-verify-peer"] + list(args)
               + [server.url(p, tls) for p in paths], timeout=timeout)


H2load = namedtuple("H2load", "total done succeeded failed errored timeout "
                              "status_2xx rate out")


def h2load(server, path="/", n=100, c=1, m=1, args=(), tls=True, timeout=120):
    """h2load; its summary as numbers."""
    result = run(["h2load", "-n", str(n), "-c", str(c), "-m", str(m)]
                 + list(args) + [server.url(path, tls)], timeout=timeout)
    out = result.out.decode("utf-8", "replace") + result.err
    counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, "
                       r"(\d+) succeeded, (\d+) failed, (\d+) errored, "
                       r"(\d+) timeout", out)
    if not counts:
        raise AssertionError("h2load said:\n" + out)
    good = re.search(r"status codes: (\d+) 2xx", out)
    rate = re.search(r"([\d.]+) req/s", out)
    return H2load(*map(int, counts.groups()), int(good.group(1)),
                  float(rate.group(1)), out)


Pushed = namedtuple("Pushed", "id path size")


def nghttp_statistics(out):
    """What nghttp -s counts: (of the page and the like, of pushes), each
    with the number of its stream."""
    rows = re.findall(r"^ *(\d+) +\+\S+ +(\*)? *\+\S+ +\S+ +(\d+) +(\S+) "
                      r"+(\S+)$", out, re.M)
    made = [(star, Pushed(int(number), path, size))
            for number, star, _, size, path in rows]
    return ([row for star, row in made if not star],
            [row for star, row in made if star])


def script(name):
    """The path of one of node's clients, which lie here."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


def node(server, path, headers=(), tls=True, timeout=60):
    """One page with node's client: what node_push.js says, decoded."""
    origin = server.url("", tls)
    result = run(["node", script("node_push.js"), origin, path]
                 + [word for pair in headers for word in pair],
                 timeout=timeout, check=True)
    return json.loads(result.out)


class Library:
    """A client made of python3-h2, which is strict about what it is sent.
    Keeps its events; raises what it finds wrong.
    window: of streams, and each frame's part of it is given back at once"""

    def __init__(self, server, tls=True, push=True, window=None):
        self.sock = server.connect(tls)
        self.window = window
        self.scheme = "https" if tls else "http"
        self.events, self.ended = [], set()
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True,
                                      header_encoding="utf-8"))
        if not push:
            self.h2.local_settings = h2.settings.Settings(
                initial_values={h2.settings.SettingCodes.ENABLE_PUSH: 0})
        self.h2.initiate_connection()
        if window:
            self.h2.update_settings({
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def get(self, path, headers=()):
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, [
            (":method", "GET"), (":scheme", self.scheme),
            (":authority", "localhost"), (":path", path)] + list(headers),
            end_stream=True)
        self.flush()
        return number

    def reset(self, number):
        self.h2.reset_stream(number)
        self.flush()

    def wait(self, condition, timeout=10):
        """Reads until condition(self) is true."""
        deadline = time.monotonic() + timeout * _server.PATIENCE
        while not condition(self):
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError("no end after %s" % self.events[-9:])
            self.sock.settimeout(left)
            data = self.sock.recv(1 << 16)
            if not data:
                raise AssertionError("closed after %s" % self.events[-9:])
            for event in self.h2.receive_data(data):
                self.take(event)
            self.flush()

    def take(self, event):
        self.events.append(event)
        if isinstance(event, h2.events.DataReceived):
            self.give_back(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, (h2.events.StreamEnded,
                                h2.events.StreamReset)):
            self.ended.add(event.stream_id)

    def give_back(self, length, number):
        if not self.window:
            self.h2.acknowledge_received_data(length, number)
        elif length:
            self.h2.increment_flow_control_window(length)
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                self.h2.increment_flow_control_window(length, number)
            self.flush()

    def of(self, kind, number=None):
        """The events of a kind (by name), of one stream or all."""
        kind = getattr(h2.events, kind)
        return [e for e in self.events if isinstance(e, kind)
                and number in (None, e.stream_id)]

    def body(self, number):
        return b"".join(e.data for e in self.of("DataReceived", number))

    def fetch(self, path, headers=()):
        """A page and all that is pushed with it, to the end."""
        number = self.get(path, headers)
        self.wait(lambda _: number in self.ended
                  and self.ended >= {e.pushed_stream_id for e in
                                     self.pushes(number)})
        return number

    def pushes(self, number):
        return [e for e in self.events
                if isinstance(e, h2.events.PushedStreamReceived)
                and e.parent_stream_id == number]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
