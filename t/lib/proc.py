"""What a process holds, read from /proc."""

import contextlib
import os
import re
from collections import Counter


def threads(pid):
    """Names of its threads, counted."""
    names = Counter()
    base = "/proc/%d/task" % pid
    for tid in os.listdir(base):
        with contextlib.suppress(OSError):
            with open("%s/%s/comm" % (base, tid)) as f:
                names[f.read().strip()] += 1
    return names


def descriptors(pid):
    """What its descriptors are: 'socket', 'pipe', or the path of a file."""
    kinds = Counter()
    base = "/proc/%d/fd" % pid
    for fd in os.listdir(base):
        with contextlib.suppress(OSError):
            target = os.readlink("%s/%s" % (base, fd))
            kinds[re.sub(r"^(\w+):\[.*\]$", r"\1", target)] += 1
    return kinds


def pss(pid):
    """Its share of memory in bytes: what is shared counts in parts."""
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return 1024 * int(re.search(r"^Pss: +(\d+) kB", f.read(), re.M)[1])


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Holdings:
    """Threads and descriptors of a server's children at a moment."""

    def __init__(self, server):
        self.threads, self.descriptors = Counter(), Counter()
        for pid in server.children():
            with contextlib.suppress(OSError):
                self.threads += threads(pid)
                self.descriptors += descriptors(pid)

    def exceeds(self, other, threads=0):
        """What is held here and not there, in words; '' if nothing.  So many
        threads more are no matter."""
        more = []
        for name, mine, theirs, room in (
                ("threads", self.threads, other.threads, threads),
                ("descriptors", self.descriptors, other.descriptors, 0)):
            now, then = sum(mine.values()), sum(theirs.values())
            if now > then + room:
                more.append("%s: %d, were %d: %s" % (
                    name, now, then, dict(mine - theirs)))
        return "; ".join(more)
