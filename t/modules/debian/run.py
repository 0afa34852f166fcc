"""Each module that Debian packages, at its job: over HTTP/1.1, over HTTP/2
with mod_http2 and with this module.

A case (see cases_*.py) is a configuration and requests, with what their
answers must have for the module to have done its job.  They are sent one by
one, and then all at once: 50, of which 10 run at a time on one connection of
HTTP/2, or on ten of HTTP/1.1.  Then the server is stopped, and its log is
searched for crashes.

    make check-modules                          all; writes the table
    make check-modules MODULES="jk perl"        some; writes no table

Each one's packages are installed first, as root.  Their services are not
started, and the system's httpd does not load what they bring."""

import argparse
import concurrent.futures
import contextlib
import datetime
import glob
import itertools
import os
import platform
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(os.path.dirname(HERE)), HERE]

from lib import server as lib_server, together  # noqa: E402
import cases_access  # noqa: E402
import cases_backends  # noqa: E402
import cases_others  # noqa: E402
from case import Fault, LEFT_OUT, need  # noqa: E402

CASES = cases_access.CASES + cases_backends.CASES + cases_others.CASES
OUTCOMES = os.path.join(os.path.dirname(HERE), "outcomes.md")
AVAILABLE = "/etc/apache2/mods-available/%s.load"
POLICY = "/usr/sbin/policy-rc.d"

#: What serves: the name of the way, and what Server() loads for it.
WAYS = {"HTTP/1.1": "none", "mod_http2": "stock", "mod_h2x": "h2x"}

MANY, AT_ONCE = 50, 10


# --- packages ---

def version(package):
    """The version that is installed, or ''."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        check=False)
    state, _, number = done.stdout.partition(" ")
    return number if state == "installed" else ""


def apt_get(*packages):
    return subprocess.run(
        ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=120",
         "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends",
         *packages], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env=dict(os.environ, DEBIAN_FRONTEND="noninteractive",
                 NEEDRESTART_SUSPEND="1"), check=False).returncode == 0


def enabled():
    """What starts with the system, and what its httpd loads."""
    return set(glob.glob("/etc/systemd/system/*.wants/*.service")
               + glob.glob("/etc/apache2/mods-enabled/*.load"))


@contextlib.contextmanager
def services_off():
    """No package starts its service, now or at the next boot, and none
    becomes part of the system's httpd."""
    before = enabled()
    made = not os.path.exists(POLICY)
    if made:
        with open(POLICY, "w") as f:
            f.write("#!/bin/sh\nexit 101\n")
        os.chmod(POLICY, 0o755)
    try:
        yield
    finally:
        if made:
            os.remove(POLICY)
        for path in sorted(enabled() - before):
            name = os.path.basename(path)
            if name.endswith(".load"):
                argv = ["a2dismod", "-q", "-f", name[:-len(".load")]]
            else:
                argv = ["systemctl", "-q", "disable", name]
            subprocess.run(argv, stdout=subprocess.DEVNULL, check=False)


def install(case):
    """One case's, since some packages take the place of others.  Returns
    what is installed of its own, or '' if it cannot be had here."""
    missing = [p for p in case.packages if not version(p)]
    if missing and os.geteuid() != 0:
        print("%s: not root, so not installed: %s" % (
            case.name, " ".join(missing)), flush=True)
    elif missing:
        print("%s: installing %s" % (case.name, " ".join(missing)),
              flush=True)
        with services_off():
            apt_get(*missing)
    if not all(map(version, case.packages)):
        return ""
    return "%s %s" % (case.packages[0], version(case.packages[0]))


# --- one case over one way ---

def load(names, seen=None):
    """LoadModule lines of modules and of what Debian says they need; or
    LoadFile lines of libraries."""
    lines, seen = [], set() if seen is None else seen
    for name in names.split():
        if name in seen:
            continue
        seen.add(name)
        if ".so" in name:
            text = "LoadFile " + (glob.glob("/usr/lib/*/" + name) + [name])[0]
        else:
            text = lib_server.load_line(name)       # httpd's own
        if os.path.exists(AVAILABLE % name):
            with open(AVAILABLE % name) as f:
                text = f.read()
        for depends in re.findall(r"^# Depends: (.*)", text, re.M):
            lines.append(load(depends, seen))
        for line in re.findall(r"^\s*(Load(?:Module|File)\s.*)", text, re.M):
            lines.append(line if line.startswith("LoadFile") else
                         "<IfModule !%s>\n%s\n</IfModule>" % (
                             line.split()[1], line))
    return "\n".join(lines)


class Site:
    """A server with a case's configuration, asked over one way."""

    def __init__(self, server, way):
        self.server, self.way = server, way

    def all(self, asks):
        """Answers of requests that are under way at the same time."""
        if self.way == "HTTP/1.1":
            with concurrent.futures.ThreadPoolExecutor(len(asks)) as pool:
                return list(pool.map(
                    lambda ask: self.server.http1(*ask.request), asks))
        with self.server.h2() as connection:
            return together.ask(connection,
                                [together.Case(*ask.request) for ask in asks])

    def one(self, ask):
        return self.all([ask])[0]

    def many(self, asks):
        """MANY answers, AT_ONCE at a time on one connection."""
        some = list(itertools.islice(itertools.cycle(asks), MANY))
        if self.way == "HTTP/1.1":
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                return list(zip(some, pool.map(
                    lambda ask: self.server.http1(*ask.request), some)))
        with self.server.h2() as connection:
            found = []
            for at in range(0, MANY, AT_ONCE):
                part = some[at:at + AT_ONCE]
                found += zip(part, together.ask(
                    connection, [together.Case(*ask.request)
                                 for ask in part]))
            return found


def work(case, site):
    """Raises what is wrong."""
    if case.check:
        case.check(site)
        return
    for ask in case.asks:
        ask.check(site.one(ask))
    wrong = []
    for ask, answer in site.many(case.asks):
        try:
            ask.check(answer)
        except Fault as fault:
            wrong.append(str(fault))
    need(not wrong, "at once: %d of %d: %s" % (
        len(wrong), MANY, wrong[0] if wrong else ""))


def remove(server):
    """Whatever was wrong with it: what that was is said."""
    server.failed = lib_server.KEEP
    server.remove()


def serve(case, way, certs):
    """Raises what is wrong with the case, the server or its log."""
    with contextlib.ExitStack() as stack:
        values = stack.enter_context(case.backend()) if case.backend else {}
        server = lib_server.Server(certs=certs, load=WAYS[way], mpm="event")
        stack.callback(remove, server)
        server.config = load(case.load) + "\n" + case.config
        for key, value in values.items():
            server.config = server.config.replace("@%s@" % key, str(value))
        server.expected = list(case.expected)
        if case.files:
            case.files(server)
        server.start()
        try:
            work(case, Site(server, way))
        finally:
            server.stop()


def attempt(case, way, certs):
    """'ok', or what is not."""
    try:
        serve(case, way, certs)
    except Exception as error:      # pylint: disable=broad-except
        # without time and process of log lines
        text = re.sub(r"\[[^]]*:[^]]*\] |child pid \d+ ", "",
                      " ".join(str(error).split()))
        if not isinstance(error, Fault):
            text = "%s: %s" % (type(error).__name__, text)
        return text if len(text) < 300 else "... " + text[-300:]
    return "ok"


# --- the table ---

def cell(text):
    return text.replace("|", "\\|")


def write_table(rows):
    tools = subprocess.run([lib_server.httpd_binary(), "-v"], text=True,
                           stdout=subprocess.PIPE, check=True).stdout
    httpd = re.search(r"Apache/(\S+)", tools).group(1)
    with open(OUTCOMES, "w") as f:
        f.write("""# Other modules

Made by `make check-modules` (`debian/`), which installs what Debian
packages and has each module do its job, over HTTP/1.1, over HTTP/2 with
mod_http2 and with mod_h2x: each request alone, and then 50, of which 10 at a
time on one connection.

%s; %s, httpd %s, MPM event.

| module | package | HTTP/1.1 | mod_http2 | mod_h2x |
|---|---|---|---|---|
""" % (datetime.date.today().isoformat(),
            platform.freedesktop_os_release()["PRETTY_NAME"], httpd))
        for name, package, outcomes in rows:
            f.write("| %s | %s | %s |\n" % (
                name, package,
                " | ".join(cell(outcomes[way]) for way in WAYS)))
        f.write("\nNot asked:\n\n| package | why |\n|---|---|\n")
        for package, why in LEFT_OUT:
            f.write("| %s | %s |\n" % (package, why))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("names", nargs="*")
    options.add_argument("--way", action="append", choices=list(WAYS))
    args = options.parse_args()
    unknown = set(args.names) - {case.name for case in CASES}
    if unknown:
        options.error("no such case: %s" % " ".join(sorted(unknown)))
    cases = [c for c in CASES if not args.names or c.name in args.names]
    ways = args.way or list(WAYS)
    rows, worse = [], 0
    with tempfile.TemporaryDirectory(
            prefix="h2x-modules-", dir=os.environ.get("H2X_TMPDIR")) as path:
        os.chmod(path, 0o755)
        certs = lib_server.make_certs(os.path.join(path, "certs"))
        for case in cases:
            package = install(case)
            outcomes = {way: attempt(case, way, certs) if package
                        else "not installed" for way in ways}
            rows.append((case.name, package or case.packages[0], outcomes))
            worse += (outcomes.get("HTTP/1.1", "ok") == "ok"
                      != outcomes.get("mod_h2x", "ok"))
            print("%s: %s" % (case.name, outcomes), flush=True)
    if len(cases) == len(CASES) and len(ways) == len(WAYS):
        write_table(rows)
    print("%d cases, %d worse with mod_h2x than over HTTP/1.1" % (
        len(rows), worse))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
