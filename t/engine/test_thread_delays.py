"""Threads that come late: no order of them may do harm."""

import os
import subprocess

import pytest

from lib import clients, inside
from lib import server as lib_server

pytestmark = pytest.mark.h2x_only("about this engine's threads")

CONFIG = """
H2MaxSessionStreams 1000
# connections are often given to the MPM while it has to write
SendBufferSize 8192
"""


@pytest.fixture(scope="module")
def server(httpd, session_dir):
    noise = os.path.join(session_dir, "noise.so")
    cc = os.environ.get("CC", "cc").split()
    subprocess.run(cc + ["-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Werror",
                         "-fPIC", "-shared", "-o", noise,
                         os.path.join(lib_server.SOURCES, "noise.c"), "-ldl"],
                   check=True)
    preload = lib_server.sanitizer_env("").get("LD_PRELOAD", "")
    with httpd(CONFIG, env={"LD_PRELOAD": preload + " " + noise}) as one:
        yield one


@pytest.mark.parametrize("tls", [False, True])
def test_worker_comes_late(server, tls):
    """A worker that was asked for, and comes when the connection thread has
    done the work, leaves the connection alone: the MPM may write to it."""
    assert server.http1(path="/t/env").status == 200
    children = server.children()
    load = clients.h2load(server, "/t/trickle?n=3&size=4000&ms=0", n=4000,
                          c=16, m=2, tls=tls)
    assert load.succeeded == load.status_2xx == 4000, load.out
    assert server.children() == children
    inside.wait_settled(server)
