"""Starts a server, loads it and stops it, again and again; keeps the cores.

Each round starts a private httpd, lets clients ask for files and CGI over
HTTP/2 at once, and stops the server a few milliseconds later: mostly by
SIGTERM, sometimes after a restart, or gracefully.  A process that ends by a
signal leaves a core, of which the stack of each thread is written down.

    make check-starts               5,000 rounds, half with each MPM
    make check-starts STARTS=100

The exit status is 0 when each process ended, and none crashed within the
module.  Others are to be looked at: event's child, when it is stopped, closes
the sockets of its workers while these free them, and crashes now and then, with
HTTP/1.1 too.  H2X_TEST_STOCK=1 does the same with mod_http2."""

import argparse
import collections
import contextlib
import glob
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from lib import h2raw  # noqa: E402
from lib import server as lib_server  # noqa: E402

CONFIG = """
CoreDumpDirectory ${DIR}/cores
GracefulShutdownTimeout 5
ScriptAlias /cgi/ ${DIR}/htdocs/cgi/
"""
CORE_PATTERN = "/proc/sys/kernel/core_pattern"

#: Paths that clients ask for; the scripts end at once, and later.
PATHS = ["/small", "/large", "/cgi/now", "/cgi/now", "/cgi/later"]

#: What a client does when it has asked.
ENDS = ["waits", "waits", "leaves at once", "stays connected"]


def files(server):
    server.write("small", "small\n")
    server.write("large", "x" * (3 << 20))
    for name, pause in (("now", 0), ("later", 0.05)):
        server.write("cgi/" + name, "#!/bin/sh\nsleep %s\n"
                     "printf 'Content-Type: text/plain\\n\\ndone\\n'\n"
                     % pause, 0o755)
    os.mkdir(server.path("cores"))
    os.chmod(server.path("cores"), 0o777)


class Client(threading.Thread):
    """One connection; the server may go at any moment."""

    def __init__(self, server, rng, stopped):
        super().__init__()
        self.server, self.stopped, self.answers = server, stopped, 0
        self.tls = rng.random() < 0.3
        self.paths = [rng.choice(PATHS) for _ in range(rng.randrange(1, 8))]
        self.end = rng.choice(ENDS)

    def run(self):
        with contextlib.suppress(OSError, h2raw.Timeout):
            with self.server.h2(tls=self.tls, timeout=5) as c:
                asked = [c.get(path) for path in self.paths]
                if self.end != "leaves at once":
                    c.pump(lambda: all(r.done for r in asked))
                if self.end == "stays connected":
                    self.stopped.wait(5)
                self.answers = sum(r.ended for r in asked)


class Starts:
    """Rounds with one MPM, in one directory."""

    def __init__(self, mpm, certs, seed):
        self.server = lib_server.Server(CONFIG, "cgid alias", certs=certs,
                                        mpm=mpm)
        files(self.server)
        self.rng = random.Random("%s %s" % (seed, mpm))
        self.count = collections.Counter()

    def round(self, number):
        server, rng = self.server, self.rng
        stopped = threading.Event()
        server.start(60)
        clients = [Client(server, rng, stopped)
                   for _ in range(rng.randrange(1, 8))]
        for client in clients:
            client.start()
        time.sleep(rng.random() ** 2 / 10)
        how = rng.random()
        if how < 0.1:
            server.restart()        # a signal within it would be lost
            time.sleep(rng.random() / 10)
        server.signal(signal.SIGWINCH if how > 0.9 else signal.SIGTERM)
        self.wait_gone(number)
        stopped.set()
        for client in clients:
            client.join()
        server.stderr.close()
        self.count["starts"] += 1
        self.count["answers"] += sum(c.answers for c in clients)
        self.count["crashes"] += len(re.findall("exit signal",
                                                server.error_text()))
        self.keep_log(number)
        for path in glob.glob(server.path("cores", "core*")):
            kept = server.path("core.%d.%d" % (number, self.count["cores"]))
            os.rename(path, kept)
            self.count["cores"] += 1
            self.count["in the module"] += is_ours(
                self.keep_stacks(number, kept))

    def keep_log(self, number):
        """All rounds in one: start() looks for its line in a new one."""
        with open(self.server.path("all.log"), "a") as f:
            f.write("round %d\n%s" % (number, self.server.error_text()))
        os.remove(self.server.path("error.log"))

    def wait_gone(self, number):
        server = self.server
        with contextlib.suppress(lib_server.ServerError):
            lib_server.wait_for(lambda: server.process.poll() is not None
                                and not server.processes(), 60)
        for pid in server.processes():
            self.count["hanging"] += 1
            self.keep_stacks(number, str(pid))
        server.kill()

    def keep_stacks(self, number, what):
        """what: path of a core, or number of a process.  Returns the stack
        of the thread that crashed."""
        done = subprocess.run(
            ["gdb", "-batch", "-ex", "info registers", "-ex", "x/3i $pc",
             "-ex", "thread apply all bt", lib_server.httpd_binary(), what],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)
        kept = self.server.path("stacks.%d.%s" % (number,
                                                  os.path.basename(what)))
        with open(kept, "w") as f:
            f.write(done.stdout)
        stack = crashed_stack(done.stdout)
        print("round %d: %s\n%s" % (number, kept, stack), flush=True)
        return stack

    def faults(self):
        """What is certainly one; a crash without a core may be."""
        return (self.count["in the module"] + self.count["hanging"]
                + max(0, self.count["crashes"] - self.count["cores"]))

    def finish(self):
        """Keeps the directory if there is anything to look at."""
        self.server.failed |= bool(self.count["cores"] or self.faults())
        self.server.kill()
        self.server.remove()


def crashed_stack(text):
    """httpd's handler of signals sends them once more, to the process: then
    the first thread of the core is any that took it."""
    threads = re.split(r"^(?=Thread \d+ )", text, flags=re.M)[1:] or [text]
    found = [t for t in threads if "<signal handler called>" in t] \
        or [t for t in threads if re.match("Thread 1 ", t)] or threads
    return "\n".join(line[:100] for line in found[0].split("\n")
                     if not line.startswith("warning:"))


def is_ours(stack):
    return bool(re.search(r"\bh2x_\w+ \(|mod_h2x", stack))


def run(mpm, certs, count, seed):
    starts = Starts(mpm, certs, seed)
    try:
        for number in range(count):
            starts.round(number)
            if number % 100 == 99:
                print("%s: %s" % (mpm, dict(starts.count)), flush=True)
    finally:
        starts.finish()
        print("%s: %s" % (mpm, dict(starts.count)), flush=True)
    return starts.faults()


def allow_cores():
    """Cores are to be of any size, and where the server says."""
    with open(CORE_PATTERN) as f:
        pattern = f.read().strip()
    if pattern[:1] in ("|", "/", ""):
        sys.exit("check-starts: cores do not stay in the directory of the "
                 "process; as root: echo core >%s" % CORE_PATTERN)
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--starts", type=int, default=5000)
    options.add_argument("--seed", default="1")
    options.add_argument("--mpm", action="append",
                         choices=["event", "worker"])
    args = options.parse_args()
    allow_cores()
    mpms = args.mpm or ["event", "worker"]
    with tempfile.TemporaryDirectory(
            prefix="h2x-starts-", dir=os.environ.get("H2X_TMPDIR")) as path:
        os.chmod(path, 0o755)
        certs = lib_server.make_certs(os.path.join(path, "certs"))
        crashes = sum(run(mpm, certs, args.starts // len(mpms), args.seed)
                      for mpm in mpms)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
