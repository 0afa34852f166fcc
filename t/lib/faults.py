"""Faults of the system, for one server: a library that is preloaded into
httpd lets calls fail (httpd/shim.c), limits are set on its children."""

import contextlib
import mmap
import os
import resource
import struct
import subprocess

from . import server as _server

SHIM = os.path.join(_server.SOURCES, "shim.c")

#: Numbers that the library reads, each of eight bytes.
FIELDS = ("piece", "again", "threads", "seconds", "memory", "size",
          "trim", "slow", "nowait", "failed")


def build(directory):
    """Compiles the library; returns its path."""
    target = os.path.join(directory, "faults.so")
    cc = os.environ.get("CC", "cc").split()
    subprocess.run(cc + ["-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Werror",
                         "-fPIC", "-shared", "-o", target, SHIM, "-ldl"],
                   check=True)
    return target


class Faults:
    """What goes wrong; nothing, to begin with.  `env` is for the server.
    piece: most bytes of a read or write of a client's socket
    again: how many calls for one that moves bytes get EAGAIN
    threads: how many cannot be started, -1 for all
    seconds: how far clocks are ahead
    memory: calls for memory, of the engine alone, until one fails
    size: how many bytes those ask for, 0 for any
    trim: giving memory back takes as long as this is not 0
    slow: milliseconds that each read of a file takes whose path has "slow" in
        it, or until this is 0 again
    nowait: the errno of preadv2() with RWF_NOWAIT, for any file; else EAGAIN
        for the slow ones
    failed: how often a call was made to fail"""

    def __init__(self, directory):
        path = os.path.join(directory, "faults")
        with open(path, "wb") as f:
            f.truncate(8 * len(FIELDS))
        os.chmod(path, 0o666)
        with open(path, "r+b") as f:
            self.shared = mmap.mmap(f.fileno(), 8 * len(FIELDS))
        sanitizer = _server.sanitizer_env("").get("LD_PRELOAD", "")
        self.env = {"H2X_FAULTS": path,
                    "LD_PRELOAD": sanitizer + " " + build(directory)}

    def __getattr__(self, name):
        if name not in FIELDS:
            raise AttributeError(name)
        return struct.unpack_from("q", self.shared, 8 * FIELDS.index(name))[0]

    def __setattr__(self, name, value):
        if name in FIELDS:
            struct.pack_into("q", self.shared, 8 * FIELDS.index(name), value)
        else:
            super().__setattr__(name, value)

    def clear(self):
        for name in FIELDS:
            setattr(self, name, 0)


@contextlib.contextmanager
def limit(server, name, value):
    """Limits each child of a server, while the block runs: "nofile" or "as",
    as prlimit(1) knows them.  Children that come later have no such limit."""
    kind = {"nofile": resource.RLIMIT_NOFILE, "as": resource.RLIMIT_AS}[name]
    usual, _ = resource.prlimit(server.pid, kind)
    pids = server.children()
    for pid in pids:
        _set_limit(pid, name, value)
    try:
        yield
    finally:
        for pid in pids:
            _set_limit(pid, name, "unlimited" if usual < 0 else usual)


def _set_limit(pid, name, value):
    """As the child's own user, who may do that; root may not everywhere."""
    try:
        owner = os.stat("/proc/%d" % pid)
    except FileNotFoundError:
        return                      # it has ended
    user = {"user": owner.st_uid, "group": owner.st_gid,
            "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(["prlimit", "--pid", str(pid),
                    "--%s=%s:" % (name, value)], check=True,
                   stderr=subprocess.PIPE, **user)


@contextlib.contextmanager
def limited(descriptors):
    """What is started meanwhile has no more descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
