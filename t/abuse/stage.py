"""What each attack is watched for: see stage() in conftest.py."""

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from lib import h2raw
from lib.proc import Holdings, alive, pss
from lib.server import PATIENCE, SANITIZE, ServerError, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))

#: Which server: "h2x", "stock" (mod_http2) or "nginx"; `make abuse` sets it.
#: "off": this module without its budgets, so that tests can be seen to fail.
TARGET = os.environ.get("H2X_ABUSE", "h2x")

#: What an attack may take: time, bytes sent, and memory of the children.
SECONDS = 10
BYTES = 64 << 20
GROWTH = 8 << 20
#: What may be left of that growth, and when that is looked at last.
LEFT = 0.1
#: Where that is less than this, which allocators keep in any case.
KEPT = 4 << 20
BACK_AFTER = 5
#: How much later others may be served: times, or seconds where the machine
#: itself is less steady than that.
TIMES_LATER = 3
LATER = 0.1
#: The same where the row says that others are held, and in how many runs one
#: may do better.
LATER_HELD = 0.01
RUNS = 3
#: So many times that is no noise: no other run is made.
BEYOND = 10
#: A fetch that takes longer, in seconds, stands for those that one who asks so
#: often would have made meanwhile.
STEADY = 0.02
#: Fetches of others that are looked at, at least.
FETCHES = 200

CODES = {value: name for name, value in vars(h2raw).items()
         if name.isupper() and name.endswith((
             "_ERROR", "_CALM", "_STREAM", "CANCEL", "_CLOSED", "_TIMEOUT",
             "_SECURITY", "_REQUIRED")) and isinstance(value, int)}



MANY = 0


def row_mark(number, name, log=None, lines=1, extra=20, needs=None,
             growth=GROWTH, kept=KEPT, held=None):
    """The mark of a row of the table, for a parameter of a judged test.

    log: pattern of what mod_h2x logs; None: nothing.  lines: how often, or
    MANY: once or more.
    extra: lines that errors of single streams may add, in each run.
    needs: "httpd" or "h2x"; other servers are not tried.
    growth: bytes of memory that are allowed, where not 8 MB.
    kept: of them, what may be left; 100 streams keep 40 KB each for others.
    held: path of a request that others leave open, so that the threads of the
    child serve them; they are looked at more strictly then: see
    Stage.best_of_runs().
    """
    return pytest.mark.row(number=number, name=name, log=log, lines=lines,
                           extra=extra, needs=needs, growth=growth, kept=kept,
                           held=held)


def judged(test):
    """Has the stage of a test watch it."""
    @pytest.mark.alone("how long others wait is compared, and memory")
    @functools.wraps(test)
    def watched(stage, **kw):
        stage.judge(functools.partial(test, stage, **kw))
    return watched


def row(*args, **kw):
    """Marks the test of a row, as row_mark(), and has its stage watch it."""
    return lambda test: row_mark(*args, **kw)(judged(test))


class Wrong(AssertionError):
    """Something did not hold."""


def not_yet(why):
    """Marks a row that does not hold yet: a test that passes is an error."""
    return pytest.mark.xfail(TARGET == "h2x", reason=why, strict=True,
                             raises=Wrong)


class Bystander:
    def __init__(self, server, path="/small.html", hold=None):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "bystander.py"),
             str(server.port), path] + [hold] * bool(hold),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.times()

    def times(self):
        """How long the fetches since the last call took."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def at_least(self, count):
        """The same, of so many fetches or more, where that is not too slow."""
        times, deadline = self.times(), time.monotonic() + 20 * PATIENCE
        while len(times) < count and (
                not times or time.monotonic() < deadline):
            times += self.times()
            time.sleep(0.02)
        return sorted(times)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def steady(times):
    """What fetches would have taken that do not wait for each other."""
    return sorted(t - i * STEADY for t in times
                  for i in range(int(t / STEADY) + 1))


def percentile(times, part=0.99):
    return times[min(len(times) - 1, int(len(times) * part))]


class Attacker(h2raw.Connection):
    """A raw client that goes on when it is told to stop, and that ends when it
    has sent too much."""

    def __init__(self, stage, sock, **kw):
        self.stage, self.written = stage, 0
        kw.setdefault("timeout", SECONDS)
        super().__init__(sock, **kw)

    def raw(self, data):
        self.written += len(data)
        assert self.written <= BYTES, "the attack is too large"
        super().raw(data)

    def blast(self, *pieces, read=True):
        """Sends pieces until the server has had enough.  Returns how many."""
        sent = 0
        for piece in pieces:
            if self.closed or self.goaways:
                break
            try:
                self.raw(piece)
            except OSError as e:
                self.send_error = e
                break
            sent += 1
            if read:
                self.poll()
        return sent

    def settle(self):
        """Until the server has nothing more to say: it closes, or answers a
        PING."""
        with contextlib.suppress(OSError, h2raw.Timeout):
            if not self.closed and not self.goaways:
                self.ping(timeout=SECONDS)
        with contextlib.suppress(h2raw.Timeout, OSError):
            if self.goaways and not self.closed:
                self.wait_closed(SECONDS)
        return self

    def end(self):
        """What became of the connection, in words."""
        if self.goaways:
            return "GOAWAY " + CODES.get(self.goaway_code,
                                         str(self.goaway_code))
        return "closed" if self.closed else "goes on"


class Stage:
    """One attack, watched: what else the server does meanwhile, and what is
    left afterwards."""

    def __init__(self, server, bystander, mark, write):
        """write: takes the report."""
        self.server, self.bystander = server, bystander
        self.row, self.write = mark, write
        self.attackers, self.outcome, self.notes = [], None, []
        self.wrong, self.busy, self.runs = [], None, 1
        self.later = LATER_HELD if mark["held"] else LATER
        self.allowed = 0    # how late others may be served in any case

    # -- what attacks do ------------------------------------------------------

    def connect(self, tls=False, sni="localhost", **kw):
        """A connection that the server has greeted."""
        wait = {"timeout": kw.get("timeout", SECONDS)}
        sock = self.server.connect(tls, sni=sni, **wait) if tls \
            else self.server.connect(False, **wait)
        c = Attacker(self, sock, **kw)
        self.attackers.append(c)
        if kw.get("greet", True):
            c.until(lambda: c.settings_seen, what="SETTINGS")
        return c

    def stopped(self, c, *codes, what=None):
        """The server must end the connection, with one of these codes."""
        c.settle()
        self.tell(what or c.end())
        if c.goaway_code not in codes:
            self.wrong.append("%s in place of GOAWAY %s" % (
                c.end(), " or ".join(CODES[code] for code in codes)))

    def best_of_runs(self, attack):
        """Attacks until others were not held up, a few times at most."""
        for self.runs in range(1, RUNS + 1):
            self.bystander.times()
            attack()
            busy = self.others()
            self.busy = busy if self.busy is None else min(busy, self.busy)
            if not self.latest() < self.busy < BEYOND * self.latest():
                break

    def others(self):
        """How late others were served since they were last asked."""
        times = self.bystander.at_least(FETCHES)
        return percentile(steady(times) if self.row["held"] else times)

    def latest(self):
        """When others must be served."""
        return max(self.allowed, TIMES_LATER * self.idle,
                   self.later * PATIENCE + self.idle * bool(self.row["held"]))

    def tell(self, outcome):
        self.outcome = outcome

    def note(self, text, *args):
        self.notes.append(text % args if args else text)

    def check(self, condition, text, *args):
        if not condition:
            self.wrong.append(text % args if args else text)
        return condition

    # -- what is watched ------------------------------------------------------

    def judge(self, attack):
        """Watches an attack, and reports; raises Wrong."""
        error = None
        self.begin()
        try:
            attack()
        except Exception as e:
            error = str(e).split("\n")[0][:200] or type(e).__name__
            raise
        finally:
            self.finish()
            self.write(self.report(error))
        if self.wrong:
            raise Wrong("; ".join(self.wrong))

    def memory(self):
        total = 0
        for pid in self.children:
            with contextlib.suppress(OSError):
                total += pss(pid)
        return total

    def _watch(self):
        while not self.over.wait(0.05):
            self.peak = max(self.peak, self.memory())

    def begin(self):
        self.children = self.server.children()
        self.bystander.times()
        self.idle = self.others()
        self.before = Holdings(self.server)
        self.at_first = self.peak = self.memory()
        self.mark = self.server.log_mark()
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        self.start = time.monotonic()

    def finish(self):
        self.seconds = time.monotonic() - self.start
        if self.busy is None:
            self.busy = self.others()
        self.over.set()
        self.watcher.join()
        for c in self.attackers:
            c.close()
        self._check_children()
        self._check_memory()
        self._check_holdings()
        self._check_bystander()
        self._check_log()

    def _check_children(self):
        gone = [pid for pid in self.children if not alive(pid)]
        text = self.server.error_text()[self.mark:]
        # event lets one go, gracefully, that cannot accept: for instance the
        # bystander, who has come anew since nothing had got a processor
        excused = re.search(r"Too many open files.*accept", text)
        self.check(not gone or excused, "a child has ended")
        crash = re.search(r"exit signal.*|.*AddressSanitizer.*", text)
        self.check(not crash, "%s", crash and crash.group())

    def _check_memory(self):
        if SANITIZE:
            return
        grown = self.peak - self.at_first
        self.note("memory +%.1f MB", max(0, grown) / 1e6)
        self.check(grown <= self.row["growth"], "memory grew by %.1f MB",
                   grown / 1e6)
        self.check(self.is_memory_back(),
                   "%.1f MB of memory are not given back",
                   (self.memory() - self.at_first) / 1e6)

    def is_memory_back(self):
        """Waits for it."""
        most = self.at_first + max(LEFT * self.at_first, self.row["kept"])
        return self._until_back(lambda: self.memory() <= most)

    def _check_holdings(self):
        def is_back():
            # a second thread of a child may wait for events; and with others
            # who ask all the time, one more may run a request of theirs
            self.more = Holdings(self.server).exceeds(
                self.before, threads=1 + bool(self.row["held"]))
            return not self.more
        self.check(self._until_back(is_back), "%s", self.more)

    def _check_bystander(self):
        self.note("others %.1f ms, idle %.1f ms", self.busy * 1e3,
                  self.idle * 1e3)
        if self.busy > TIMES_LATER * self.idle:
            # the machine may have got other work as well
            self.bystander.times()
            self.idle = max(self.idle, self.others())
        self.check(self.busy <= self.latest(),
                   "others wait %.1f ms in place of %.1f", self.busy * 1e3,
                   self.idle * 1e3)

    def _check_log(self):
        if self.server.load != "h2x":
            return
        text = self.server.error_text()[self.mark:]
        lines = [line for line in text.splitlines()
                 if re.search(r"\bh2x\(|\[h2x:", line)]
        if self.row["log"] is None:
            self.check(not lines, "logged: %s", lines[:3])
        else:
            found = [x for x in lines if re.search(self.row["log"], x)]
            enough = (found or not self.row["log"]
                      if self.row["lines"] == MANY
                      else len(found) == self.row["lines"])
            extra = self.row["extra"] * self.runs
            self.check(enough and len(lines) <= len(found) + extra,
                       "%d lines logged, %d of them say %r: %s", len(lines),
                       len(found), self.row["log"], lines[:3])

    @staticmethod
    def _until_back(condition):
        with contextlib.suppress(ServerError):
            return wait_for(condition, BACK_AFTER, interval=0.1)
        return False

    def report(self, error=None):
        """The row as the table shows it."""
        wrong = list(self.wrong)
        if error:
            wrong.append(error)
        return {"row": self.row["number"], "name": self.row["name"],
                "outcome": self.outcome, "wrong": wrong,
                "notes": self.notes}
