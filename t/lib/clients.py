"""Thin wrappers around curl, nghttp and h2load."""

import os
import re
import shutil
import subprocess
import tempfile
from collections import namedtuple

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
