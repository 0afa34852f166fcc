"""gRPC end to end: a client and a server of @grpc/grpc-js with httpd and
mod_proxy_http2 between them.  What is called and checked is in grpc/."""

import contextlib
import os
import shutil
import subprocess

import pytest

from lib import h2raw
from lib.server import PATIENCE, TOP, have_module

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "grpc")
MODULES_DIR = os.environ.get("H2X_NODE_MODULES") or os.path.join(
    TOP, ".quickstart", "npm", "node_modules")


def missing():
    """What these tests lack, in words; or None."""
    if not shutil.which("node"):
        return "no node: install nodejs"
    if not have_module("proxy_http2"):
        return "this httpd has no mod_proxy_http2"
    if not os.path.isdir(os.path.join(MODULES_DIR, "@grpc", "grpc-js")):
        return ("no @grpc/grpc-js in %s: run ./quickstart deps, which "
                "installs it where the npm registry can be reached"
                % MODULES_DIR)
    return None


pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

CONFIG = """
ProxyPass /h2x.Test/ h2c://127.0.0.1:%(port)d/h2x.Test/ retry=0
ProxyTimeout %(timeout)d
H2StreamTimeout 60
"""
ENV = {**os.environ, "NODE_PATH": MODULES_DIR, "H2X_PATIENCE": str(PATIENCE)}


class Backend:
    """The gRPC server: a process that ends with its standard input."""

    def __enter__(self):
        self.process = subprocess.Popen(
            ["node", os.path.join(HERE, "server.js")], env=ENV,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.process.stdout.readline()
        assert line, "the gRPC server did not start"
        self.port = int(line)
        return self

    def stop(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __exit__(self, *_):
        self.stop()
        self.process.stdout.close()


def make(httpd, backend):
    return httpd(CONFIG % {"port": backend.port, "timeout": 3 * PATIENCE},
                 "proxy proxy_http2")


@pytest.fixture(scope="module")
def backend():
    with Backend() as one:
        yield one


@pytest.fixture(scope="module")
def server(httpd, backend):
    with make(httpd, backend) as server:
        yield server


def client(server, scenario, tls=True):
    port = server.tls_port if tls else server.port
    certificate = os.path.join(server.certs, "server.crt") if tls else "-"
    return subprocess.Popen(
        ["node", os.path.join(HERE, "client.js"), "localhost:%d" % port,
         certificate, scenario],
        env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    try:
        _, said = process.communicate(timeout=60 * PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, said


a_few_only = pytest.mark.h2x_only(
    "runs only a few such calls of a connection at a time")
BIDIRECTIONAL = pytest.param("bidirectional", marks=a_few_only)


@pytest.mark.parametrize("scenario", [
    "unary", "metadata", "errors", "errorAfterMetadata", "serverStreaming",
    "serverOneByOne", "serverFailsHalfWay", "clientStreaming",
    BIDIRECTIONAL, "bidirectionalLarge", "deadline", "cancellation",
    "cancelWaiting", "clientCloses", "manyCalls", "compressed", "keepalive"])
def test_call(server, scenario):
    finish(client(server, scenario))


@pytest.mark.parametrize("scenario", [
    "unary", BIDIRECTIONAL, "cancellation", "errors"])
def test_cleartext(server, scenario):
    finish(client(server, scenario, tls=False))


@a_few_only
def test_several_clients(server):
    """At once, each with what it does."""
    made = [client(server, scenario) for scenario in
            ("bidirectional", "manyCalls", "serverOneByOne",
             "cancellation")]
    for process in made:
        finish(process)


def test_server_goes(httpd):
    """Calls under way end with an error, later ones say what is wrong."""
    with Backend() as other, make(httpd, other) as server:
        process = client(server, "serverGoes")
        assert process.stdout.readline() == "talking\n"
        other.stop()
        finish(process)
        finish(client(server, "noServer"))


def test_frames(h2):
    """What is between client and server, seen as frames: an error is
    HEADERS alone, a message DATA and then trailers."""
    fields = {"content-type": "application/grpc", "te": "trailers"}
    empty = b"\0\0\0\0\0"
    r = h2.request("POST", "/h2x.Test/Echo", fields, body=empty)
    assert (r.status, bytes(r.body)) == (200, empty)
    assert r.header("content-type").startswith("application/grpc")
    assert r.trailer("grpc-status") == "0"
    assert r.header("content-length") is None
    r = h2.request("POST", "/h2x.Test/NoSuchMethod", fields, body=empty)
    assert r.status == 200 and not r.body
    assert dict(r.headers + (r.trailers or []))["grpc-status"] == "12"
    r = h2.start(h2.fields("POST", "/h2x.Test/Talk", fields), end=False)
    for i in range(1, 4):
        h2.data(r.id, b"\0\0\0\0\2\x18" + bytes([i]))
        h2.wait_body(r, 7 * i)
        assert bytes(r.body[-7:]) == b"\0\0\0\0\2\x18" + bytes([i])
    h2.reset(r.id, h2raw.CANCEL)
    assert h2.request("POST", "/h2x.Test/Echo", fields,
                      body=empty).trailer("grpc-status") == "0"
