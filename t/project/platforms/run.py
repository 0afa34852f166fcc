"""The README's commands on fresh Debians: `make check-platforms`.

Each platform is made by debootstrap in a directory of its own and entered by
chroot, with namespaces of its own for mounts and processes, so that nothing is
left when it ends.  Packages come from the mirror, and by the proxy, that the
apt of this system uses, and are kept for the next run.  t/outcomes.md gets a
row for each platform.
"""

import argparse
import datetime
import os
import re
import shutil
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
OUTCOMES = os.path.join(TOP, "t", "outcomes.md")
BEGIN, END = "<!-- platforms:start -->\n", "<!-- platforms:end -->\n"
HEAD = ("| platform | run | Debian | httpd | APR-util | nghttp2 | OpenSSL "
        "| gcc | the page | `./quickstart check` |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n")

#: By name: the release and the architecture; None: that of this system.
PLATFORMS = {
    "bookworm": ("bookworm", None),
    "trixie": ("trixie", None),
    "sid": ("sid", None),
    "bookworm-i386": ("bookworm", "i386"),
}

#: Of those that this system trusts beside Debian's: a proxy may have one.
CERTIFICATES = "/usr/local/share/ca-certificates"

#: Where the sources are in a platform: httpd's children can read it.
SOURCES = "/usr/src/mod_h2x"

#: Packages whose versions are told, in the order of the table.
VERSIONS = ["apache2-bin", "libaprutil1-dev", "libnghttp2-dev", "libssl-dev",
            "gcc"]

#: Runs "$3" in the platform "$1", whose packages are kept in "$2".
ENTER = """
mount -t proc proc "$1/proc" &&
mount -t devpts -o newinstance,ptmxmode=666 devpts "$1/dev/pts" &&
mount -t tmpfs tmpfs "$1/dev/shm" &&
mount --bind "$2" "$1/var/cache/apt/archives" &&
exec chroot "$1" /bin/bash -c "$3"
"""

SERVE = """
cd %s &&
./quickstart --background --https-port %d --http-port %d || exit
curl -sk --http2 -o /tmp/page -w '%%{http_version}\\n' \
    https://127.0.0.1:%d/ | grep -x 2 && cmp /tmp/page demo/index.html
got=$?
./quickstart stop && exit $got
"""


class Failed(Exception):
    pass


def output(*command, **kw):
    return subprocess.run(command, check=True, text=True,
                          stdout=subprocess.PIPE, **kw).stdout


def check_needs():
    if os.geteuid() != 0:
        sys.exit("make check-platforms: needs root, for debootstrap and "
                 "chroot: run it with sudo")
    for program in "debootstrap", "unshare", "git", "apt-config":
        if not shutil.which(program):
            sys.exit("make check-platforms: no %s here: install it" % program)
    if not os.path.exists(os.path.join(TOP, ".git")):
        sys.exit("make check-platforms: needs a checkout with git")


# --- a fresh Debian ----------------------------------------------------------

def mirrors():
    """Of packages and of security updates, as this system has them."""
    found = {"Debian": "http://deb.debian.org/debian",
             "Debian-Security": "http://deb.debian.org/debian-security"}
    lines = output("apt-get", "indextargets", "--format",
                   "$(LABEL) $(REPO_URI)", "Created-By: Packages")
    for line in lines.splitlines():
        label, _, uri = line.partition(" ")
        if label in found:
            found[label] = uri
    return found["Debian"], found["Debian-Security"]


def apt_settings():
    """How this system's apt downloads: proxies and the like."""
    return "".join(
        line + "\n" for line in output("apt-config", "dump").splitlines()
        if re.match(r'Acquire::(https?::|Check-)[^ ]* "', line))


def proxy_environment():
    env = dict(os.environ)
    for scheme in "http", "https":
        name = "Acquire::%s::Proxy" % scheme
        value = output("apt-config", "shell", "value", name)
        if value:
            env[scheme + "_proxy"] = value.strip()[len("value='"):-1]
    return env


class Platform:
    def __init__(self, name, directory):
        self.name = name
        self.release, arch = PLATFORMS[name]
        native = output("dpkg", "--print-architecture").strip()
        self.is_foreign = arch not in (None, native)
        self.arch = arch or native
        self.root = os.path.join(directory, name)
        self.packages = os.path.join(directory, name + ".packages")
        self.log = os.path.join(directory, name + ".log")

    def write(self, path, text):
        with open(self.root + path, "w", encoding="utf-8") as f:
            f.write(text)

    def run(self, command, **kw):
        """Runs a command, with what it says in the log; returns whether it
        was successful."""
        with open(self.log, "a", encoding="utf-8") as log:
            return subprocess.run(command, stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=log, **kw).returncode == 0

    def inside(self, script):
        """Runs a script in the platform."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child",
                 "sh", "-c", ENTER, "sh", self.root, self.packages, script]
        if self.is_foreign:
            enter.insert(0, "linux32")
        return self.run(enter, env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                    "/sbin:/bin",
            "HOME": "/root", "LC_ALL": "C.UTF-8"})

    def make(self):
        """Makes it anew: just what debootstrap's smallest variant has, and
        the certificates that npm asks for."""
        mirror, security = mirrors()
        if os.path.exists(self.root):
            subprocess.run(["rm", "-rf", "--one-file-system", self.root],
                           check=True)
        os.makedirs(self.packages, exist_ok=True)
        open(self.log, "w", encoding="utf-8").close()
        if not self.run(["debootstrap", "--variant=minbase",
                         "--arch=" + self.arch,
                         "--include=ca-certificates",
                         "--cache-dir=" + self.packages,
                         self.release, self.root, mirror],
                        env=proxy_environment()):
            raise Failed("debootstrap")
        lines = ["deb %s %s main\n" % (mirror, self.release)]
        if self.release != "sid":
            lines += ["deb %s %s-updates main\n" % (mirror, self.release),
                      "deb %s %s-security main\n" % (security, self.release)]
        self.write("/etc/apt/sources.list", "".join(lines))
        self.write("/etc/apt/apt.conf.d/90host", apt_settings())
        self.write("/etc/dpkg/dpkg.cfg.d/quick", "force-unsafe-io\n")
        self.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
        shutil.copytree(CERTIFICATES, self.root + CERTIFICATES,
                        dirs_exist_ok=True)
        if not self.inside("update-ca-certificates"):
            raise Failed("update-ca-certificates")

    def copy_sources(self):
        """What is under version control, as it is now."""
        target = self.root + SOURCES
        os.makedirs(target)
        names = output("git", "ls-files", "-z", cwd=TOP)
        subprocess.run(["xargs", "-0", "cp", "--no-dereference", "--parents",
                        "-t", target], input=names, text=True, check=True,
                       cwd=TOP)

    # -- what is checked ------------------------------------------------------

    def serve(self):
        return self.inside(SERVE % ((SOURCES,) + free_ports()))

    def check(self):
        """Returns whether all is well, and the outcome in words."""
        with open(self.log, encoding="utf-8", errors="replace") as f:
            f.seek(0, os.SEEK_END)
            is_good = self.inside("cd %s && ./quickstart check" % SOURCES)
            return is_good, ("" if is_good else "FAILED: ") + summary(f.read())

    def versions(self):
        """Of Debian and of VERSIONS."""
        with open(self.root + "/etc/debian_version", encoding="ascii") as f:
            found = [f.read().strip()]
        listed = dict(line.split() for line in output(
            "dpkg-query", "--admindir=" + self.root + "/var/lib/dpkg", "-W",
            "-f", "${Package} ${Version}\\n").splitlines()
            if len(line.split()) == 2)
        return found + [re.sub(r"^\d+:|-.*", "", listed.get(name, "none"))
                        for name in VERSIONS]


def free_ports():
    """Two that nobody listens on: the network is this system's."""
    with socket.socket() as one, socket.socket() as two:
        for s in one, two:
            s.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    return ports[0], ports[1], ports[0]


def summary(text):
    """What `make check` said, in a few words."""
    units = re.findall(r"^# PASS: +(\d+)$", text, re.M)
    tests = re.findall(r"^(?:=+ )?(\d+ (?:passed|failed).*?) in \d", text,
                       re.M)
    words = [units[-1] + " unit tests"] if units else []
    return ", ".join(words + tests[-1:]) or "did not come to the tests"


# --- the table ---------------------------------------------------------------

def put_row(name, cells):
    """Puts a platform's row in the place of its last one."""
    with open(OUTCOMES, encoding="utf-8") as f:
        before, rest = f.read().split(BEGIN)
    table, after = rest.split(END)
    rows = {line.split("|")[1].strip(): line
            for line in table.splitlines(keepends=True)[2:]}
    rows[name] = "| %s |\n" % " | ".join([name] + cells)
    lines = [rows[known] for known in PLATFORMS if known in rows]
    with open(OUTCOMES, "w", encoding="utf-8") as f:
        f.write(before + BEGIN + HEAD + "".join(lines) + END + after)


def check_platform(platform):
    print("== %s: see %s" % (platform.name, platform.log), flush=True)
    platform.make()
    platform.copy_sources()
    is_served = platform.serve()
    print("   the page: %s" % ("served" if is_served else "FAILED"), flush=True)
    is_good, outcome = platform.check()
    print("   ./quickstart check: %s" % outcome, flush=True)
    put_row(platform.name, [datetime.date.today().isoformat()]
            + platform.versions()
            + ["served over HTTP/2" if is_served else "FAILED", outcome])
    return is_served and is_good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    parser.add_argument("platforms", nargs="*")
    args = parser.parse_args()
    unknown = set(args.platforms) - set(PLATFORMS)
    if unknown:
        sys.exit("make check-platforms: no such platforms: %s. There are: %s"
                 % (" ".join(sorted(unknown)), " ".join(PLATFORMS)))
    check_needs()
    failed = []
    for name in args.platforms or PLATFORMS:
        try:
            is_good = check_platform(
                Platform(name, os.path.abspath(args.dir)))
        except Failed as e:
            print("   %s FAILED" % e, flush=True)
            is_good = False
        if not is_good:
            failed.append(name)
    if failed:
        sys.exit("make check-platforms: FAILED: " + " ".join(failed))


if __name__ == "__main__":
    main()
