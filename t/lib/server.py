"""A private httpd for a test: configuration, life and logs.

A Server lives in a directory of its own, listens on two loopback ports (one
cleartext, one TLS) and is stopped by its own process id.  When it is stopped,
its error log is searched for crashes and its processes must be gone.
"""

import contextlib
import ctypes
import glob
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

from . import h2raw, http1
from .settings import (  # noqa: F401, for tests as well
    BUILDDIR, KEEP, LONG, MODULE_SO, MPM, PATIENCE, SANITIZE, STOCK, TOP,
    TRACE)

#: Sources of what is loaded into httpd: test modules, and what is preloaded.
SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "httpd")

NAMES = ["localhost", "one.test", "two.test", "three.test", "four.test"]

# One line of the access log: name and LogFormat directive of each field.
ACCESS = [
    ("method", "%m"), ("uri", "%U"), ("query", "%q"), ("proto", "%H"),
    ("status", "%s"), ("final", "%>s"), ("sent", "%b"), ("in", "%I"),
    ("out", "%O"), ("usec", "%D"), ("unique", "%{UNIQUE_ID}e"),
    ("stream", "%{H2_STREAM_ID}e"), ("tag", "%{H2_STREAM_TAG}e"),
    ("end", "%X"), ("keepalives", "%k"), ("vhost", "%v"), ("line", "%r"),
    ("pid", "%P"), ("handler", "%R"), ("began", "%{usec}t"),
]

BAD_LOG = re.compile(
    r"exit signal|AddressSanitizer|ThreadSanitizer|runtime error:"
    r"|[Aa]ssertion|\[[a-z0-9_]*:(?:crit|alert|emerg)\]")

PROLOGUE = """\
Define DIR {dir}
Define HTDOCS {dir}/htdocs
Define PORT {port}
Define TLS_PORT {tls_port}
{modules}
ServerRoot ${{DIR}}
DefaultRuntimeDir ${{DIR}}/run
PidFile ${{DIR}}/httpd.pid
ServerName localhost
User {user}
Group {group}
Listen 127.0.0.1:${{PORT}}
Listen 127.0.0.1:${{TLS_PORT}}
ErrorLog ${{DIR}}/error.log
LogLevel info{trace}
LogFormat "{access}" test
CustomLog ${{DIR}}/access.log test
<IfModule !mpm_prefork_module>
    StartServers 1
    ServerLimit 8
    ThreadsPerChild 25
    MaxRequestWorkers 25
    MinSpareThreads 1
    MaxSpareThreads 26
</IfModule>
<IfModule mpm_prefork_module>
    StartServers 8
    MinSpareServers 4
    MaxSpareServers 25
    MaxRequestWorkers 25
</IfModule>
TypesConfig {mime_types}
<IfModule mod_cgid.c>
    ScriptSock ${{DIR}}/run/cgid.sock
</IfModule>
<Directory />
    Require all denied
    AllowOverride None
</Directory>
DocumentRoot ${{HTDOCS}}
<Directory ${{HTDOCS}}>
    Require all granted
    Options Indexes FollowSymLinks
</Directory>
<IfModule mod_ssl.c>
    SSLCertificateFile {certs}/server.crt
    SSLCertificateKeyFile {certs}/server.key
    SSLSessionCache none
</IfModule>
<IfModule h2x_test_module>
    <Location /t>
        SetHandler h2x-test
    </Location>
</IfModule>
Protocols h2 h2c http/1.1
"""

VIRTUAL_HOST = """\
<VirtualHost 127.0.0.1:${%s}>
ServerName %s
%s
</VirtualHost>
"""


_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def _die_with_parent():
    """Runs in the new process: no server outlives a killed test run."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class ServerError(Exception):
    """The server did not do what was asked of it, or left traces."""


def wait_for(condition, timeout=10, what="condition", interval=0.01):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise ServerError("timed out waiting for %s" % what)
        time.sleep(interval)


def httpd_binary():
    named = os.environ.get("H2X_HTTPD")
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    for name in [named] if named else ["apache2", "httpd"]:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise ServerError("no apache2 or httpd found: set H2X_HTTPD")


def apxs_query(name):
    apxs = os.environ.get("APXS") or shutil.which("apxs") \
        or shutil.which("apxs2")
    if not apxs:
        raise ServerError("no apxs found: install apache2-dev or set APXS")
    return subprocess.run([apxs, "-q", name], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


_static = None


def static_modules():
    """Names of the modules compiled into the binary, as 'http', 'so'..."""
    global _static
    if _static is None:
        out = subprocess.run([httpd_binary(), "-l"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
        _static = {re.sub(r"^mod_|^http_(?=core)|\.c$", "", w)
                   for w in out.split()[3:]}
    return _static


_libexec = None


def module_path(name):
    global _libexec
    if _libexec is None:
        _libexec = os.environ.get("H2X_LIBEXECDIR") or apxs_query("LIBEXECDIR")
    return os.path.join(_libexec, "mod_%s.so" % name)


def have_module(name):
    return name in static_modules() or os.path.exists(module_path(name))


def load_line(name):
    """The LoadModule line of mod_<name>, or '' where it is built in."""
    if name in static_modules():
        return ""
    return "LoadModule %s_module %s" % (name, module_path(name))


@contextlib.contextmanager
def free_ports(n):
    """Ports of loopback.  As long as this lasts, who asks the system for any
    port gets another one; who asks for these by number, and allows their use
    again as servers do, gets them."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(n):
            s = stack.enter_context(socket.socket())
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 0))
            ports.append(s.getsockname()[1])
        yield ports


def account():
    """User and group that children run as."""
    if os.geteuid() != 0:
        return "#%d" % os.geteuid(), "#%d" % os.getegid()
    import pwd
    import grp
    for name in ("www-data", "apache", "daemon", "nobody"):
        try:
            entry = pwd.getpwnam(name)
            return name, grp.getgrgid(entry.pw_gid).gr_name
        except KeyError:
            continue
    raise ServerError("no unprivileged user to run httpd as")


def make_certs(directory):
    """One self-signed certificate for all names used in tests."""
    os.makedirs(directory, exist_ok=True)
    san = ",".join("DNS:" + n for n in NAMES) + ",IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
         "-days", "30", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=" + san,
         "-keyout", os.path.join(directory, "server.key"),
         "-out", os.path.join(directory, "server.crt")],
        check=True, stderr=subprocess.DEVNULL)
    return directory


def build_test_module(directory, name="h2x_test"):
    """Compiles a module of httpd/; returns the path of the .so."""
    source = os.path.join(SOURCES, "mod_%s.c" % name)
    target = os.path.join(directory, "mod_%s.so" % name)
    flags = []
    for name in ("EXTRA_CPPFLAGS", "EXTRA_CFLAGS"):
        flags += shlex.split(apxs_query(name))
    for name in ("INCLUDEDIR", "APR_INCLUDEDIR", "APU_INCLUDEDIR"):
        flags.append("-I" + apxs_query(name))
    cc = os.environ.get("CC", "cc").split()
    subprocess.run(cc + ["-g", "-O1", "-Wall", "-Werror", "-fPIC", "-shared",
                         "-o", target, source] + flags, check=True)
    return target


def sanitizer_env(directory):
    """Environment for httpd alone, when the module is built with one."""
    if not SANITIZE:
        return {}
    lib = {"address": "libasan.so", "thread": "libtsan.so",
           "undefined": "libubsan.so"}[SANITIZE]
    path = subprocess.run(["gcc", "-print-file-name=" + lib], check=True,
                          text=True, stdout=subprocess.PIPE).stdout.strip()
    log = "log_path=%s/sanitizer" % directory
    return {
        "LD_PRELOAD": os.path.realpath(path),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:"
                        "alloc_dealloc_mismatch=0:handle_segv=2:%s" % log,
        "TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + ":" + log,
        "UBSAN_OPTIONS": "print_stacktrace=1:" + log,
    }


class Server:
    """One httpd.  `config` is added to the prologue above; it may use
    ${DIR}, ${HTDOCS}, ${PORT} and ${TLS_PORT}.

    modules: names of further modules, as "rewrite headers".
    hosts: virtual hosts for TLS, by name, with the lines that each has.  The
    first is the default one: localhost, unless that is among the others or the
    configuration has hosts for TLS.
    cleartext_hosts: those without TLS, in the same way; none by default.
    load: "test" (the module under test), "none", "h2x" or "stock" (mod_h2x
    or mod_http2, whatever is under test), or "both".
    """

    BASE_MODULES = ["authz_core", "dir", "mime", "socache_shmcb", "ssl"]

    def __init__(self, config="", modules="", *, certs, test_module=None,
                 hosts=None, cleartext_hosts=None, load="test", mpm=None,
                 env=None):
        self.dir = tempfile.mkdtemp(
            prefix="h2x-", dir=os.environ.get("H2X_TMPDIR"))
        os.chmod(self.dir, 0o755)
        self.htdocs = os.path.join(self.dir, "htdocs")
        for sub in ("htdocs", "run"):
            os.mkdir(os.path.join(self.dir, sub))
        self.ports = contextlib.ExitStack()
        self.port, self.tls_port = self.ports.enter_context(free_ports(2))
        self.config = config
        self.modules = modules.split()
        self.hosts = hosts or {}
        self.cleartext_hosts = cleartext_hosts or {}
        self.certs = certs
        self.test_module = test_module
        self.load = load
        if load == "test":
            self.load = "stock" if STOCK else "h2x"
        self.mpm = mpm or MPM
        self.env = env or {}
        self.process = None
        # mod_http2 crashes now and then when stopped: not what is tested.
        self.expected = ["exit signal"] if self.load == "stock" else []
        self.failed = False

    # -- files ----------------------------------------------------------

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def write(self, name, content=b"", mode=0o644):
        """Writes a file below htdocs; returns its path."""
        path = os.path.join(self.htdocs, name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)
        os.chmod(path, mode)
        return path

    def writable(self, name):
        """Makes a directory below htdocs that httpd may write to."""
        path = os.path.join(self.htdocs, name)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o777)
        return path

    # -- configuration ----------------------------------------------------

    def _modules(self):
        lines = [load_line("mpm_" + self.mpm)]
        names = self.BASE_MODULES + [m for m in self.modules
                                     if m not in self.BASE_MODULES]
        lines += [load_line(name) for name in names]
        if self.load in ("stock", "both"):
            lines.append(load_line("http2"))
        if self.load in ("h2x", "both"):
            lines.append("LoadModule h2x_module %s" % MODULE_SO)
        if self.test_module:
            lines.append("LoadModule h2x_test_module %s" % self.test_module)
        return "\n".join(lines)

    def _virtual_hosts(self):
        hosts, cleartext = self.hosts, self.cleartext_hosts
        if "localhost" not in hosts and not re.search(
                r"^\s*<VirtualHost .*\$\{TLS_PORT\}", self.config, re.M):
            hosts = {"localhost": "", **hosts}
        if cleartext and "localhost" not in cleartext:
            cleartext = {"localhost": "", **cleartext}
        return "".join(
            [VIRTUAL_HOST % ("TLS_PORT", name, "SSLEngine on\n" + lines)
             for name, lines in hosts.items()]
            + [VIRTUAL_HOST % ("PORT", *one) for one in cleartext.items()])

    def write_config(self, config=None):
        if config is not None:
            self.config = config
        user, group = account()
        trace = ""
        if TRACE:
            module = "http2" if self.load == "stock" else "h2x"
            trace = " %s:%s" % (module, TRACE)
        mime_types = next((p for p in ("/etc/mime.types",) if
                           os.path.exists(p)), "/dev/null")
        access = "\\t".join(form for _, form in ACCESS)
        text = PROLOGUE.format(
            dir=self.dir, port=self.port, tls_port=self.tls_port, user=user,
            group=group, certs=self.certs, modules=self._modules(),
            access=access, trace=trace, mime_types=mime_types)
        text += self.config + "\n" + self._virtual_hosts()
        self.conf = self.path("httpd.conf")
        with open(self.conf, "w") as f:
            f.write(text)

    def _environ(self):
        env = {k: v for k, v in os.environ.items()
               if k in ("PATH", "LANG", "TZ", "HOME")}
        env.update(sanitizer_env(self.dir))
        env.update(self.env)
        return env

    # -- life -------------------------------------------------------------

    def start(self, timeout=15):
        if SANITIZE:
            os.chmod(self.dir, 0o777)
        self.write_config()
        self.stderr = open(self.path("stderr.log"), "ab+")
        self.process = subprocess.Popen(
            [httpd_binary(), "-d", self.dir, "-f", self.conf, "-DFOREGROUND"],
            stdin=subprocess.DEVNULL, stdout=self.stderr, stderr=self.stderr,
            start_new_session=True, env=self._environ(), cwd=self.dir,
            preexec_fn=_die_with_parent)
        self.pid = self.process.pid

        def up():
            if self.process.poll() is not None:
                raise ServerError("httpd ended with status %d:\n%s" % (
                    self.process.returncode, self.messages()))
            return self._answers(self.port) and self._answers(self.tls_port)
        try:
            # Bound by the parent at once: a child must be ready as well.
            wait_for(lambda: self.process.poll() is not None
                     or "resuming normal operations" in self.error_text(),
                     timeout, "httpd to start")
            wait_for(up, timeout, "ports to open")
        except ServerError:
            self.failed = True
            self.kill()
            raise
        return self

    def _answers(self, port):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    def try_start(self, timeout=15):
        """For configurations that must be refused: returns the exit status
        (None: it started, and was stopped) and all that was said."""
        try:
            self.start(timeout)
        except ServerError:
            status = self.process.returncode
        else:
            status = None
            self.kill()
        said = self.messages()
        self.process = None
        self.stderr.close()
        self.failed = False
        self.remove()
        return status, said

    def signal(self, signum):
        os.kill(self.pid, signum)

    def graceful(self, wait=True):
        """Graceful restart; returns when the new generation is up."""
        mark = self.log_mark()
        self.signal(signal.SIGUSR1)
        if wait:
            self.wait_log(r"resuming normal operations", since=mark)

    def restart(self):
        mark = self.log_mark()
        self.signal(signal.SIGHUP)
        self.wait_log(r"resuming normal operations", since=mark)

    def graceful_stop(self, timeout=30):
        self.signal(signal.SIGWINCH)
        self.wait_gone(timeout)

    def wait_gone(self, timeout=30):
        try:
            self.process.wait(timeout * PATIENCE)
            wait_for(lambda: not self.processes(), timeout,
                     "all httpd processes to end")
        except (subprocess.TimeoutExpired, ServerError):
            left = self.processes()
            self.kill()
            raise ServerError("processes left after stop: %s" % left)

    def stop(self, timeout=30):
        """Stops the server and checks what it leaves behind."""
        if self.process is None:
            return
        try:
            if self.process.poll() is None:
                self._wait_quiet()
                self.signal(signal.SIGTERM)
            elif not self.stopped_by_test():
                raise ServerError("httpd was gone before it was stopped:\n"
                                  + self.messages())
            self.wait_gone(timeout)
            self.check_logs()
        except ServerError:
            self.failed = True
            raise
        finally:
            self.kill()
            self.process = None
            self.stderr.close()

    def connections(self):
        """Sockets of clients that httpd still holds."""
        ports = {"%04X" % self.port, "%04X" % self.tls_port}
        listening, count = "0A", 0
        with open("/proc/net/tcp") as f:
            for line in list(f)[1:]:
                fields = line.split()
                if (fields[1].split(":")[1] in ports and fields[9] != "0"
                        and fields[3] != listening):
                    count += 1
        return count

    def _wait_quiet(self):
        """Gives connections that tests have closed time to end.  In event's
        child, the thread that handles SIGTERM reads sockets which workers
        are just giving up: it may crash, whatever modules are loaded.  A
        worker closes the socket, frees its pool, and only then takes it off
        the list."""
        with contextlib.suppress(ServerError):
            wait_for(lambda: not self.connections() and self._asleep(),
                     1 / PATIENCE)

    def _asleep(self):
        """Whether each thread of each child waits for something."""
        for pid in self.children():
            for path in glob.glob("/proc/%d/task/*/stat" % pid):
                with contextlib.suppress(OSError), open(path) as f:
                    if f.read().rpartition(")")[2].split()[0] != "S":
                        return False
        return True

    def stopped_by_test(self):
        return bool(re.search(r"shutting down|stopping gracefully"
                              r"|caught SIG", self.error_text()))

    def kill(self):
        """Kills what is left of this server's own session."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            with contextlib.suppress(Exception):
                self.process.wait(5)

    def remove(self):
        self.ports.close()
        if KEEP or self.failed:
            print("server directory kept: %s" % self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.failed = True
        try:
            self.stop()
        finally:
            self.remove()

    # -- processes ----------------------------------------------------------

    def processes(self):
        """Living processes of this server: those of its session."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                with open("/proc/%s/stat" % name) as f:
                    fields = f.read().rpartition(")")[2].split()
                if fields[0] != "Z" and int(fields[3]) == self.pid:
                    found.append(int(name))
        return sorted(found)

    def children(self):
        """httpd children that serve requests (not the parent, not cgid)."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                with open("/proc/%d/status" % pid) as f:
                    status = dict(line.split(":\t", 1) for line in f
                                  if ":\t" in line)
                if (int(status["PPid"]) == self.pid
                        and (int(status["Threads"]) > 1
                             or self.mpm == "prefork")):
                    found.append(pid)
        return found

    def rss(self):
        """Resident bytes of all children together."""
        page = resource.getpagesize()
        total = 0
        for pid in self.children():
            with contextlib.suppress(OSError):
                with open("/proc/%d/statm" % pid) as f:
                    total += int(f.read().split()[1]) * page
        return total

    def threads(self):
        return sum(len(os.listdir("/proc/%d/task" % p))
                   for p in self.children())

    def descriptors(self):
        return sum(len(os.listdir("/proc/%d/fd" % p))
                   for p in self.children())

    # -- logs -----------------------------------------------------------------

    def _read(self, name):
        with contextlib.suppress(FileNotFoundError):
            with open(self.path(name), errors="replace") as f:
                return f.read()
        return ""

    def error_text(self):
        return self._read("error.log")

    def messages(self):
        return self._read("stderr.log") + self.error_text()

    def log_mark(self):
        """A position in the error log, for wait_log(since=)."""
        return len(self.error_text())

    def wait_log(self, pattern, since=0, timeout=15):
        return wait_for(
            lambda: re.search(pattern, self.error_text()[since:]), timeout,
            "%r in the error log" % pattern)

    def expect_log(self, pattern):
        """Allows lines that match: the test has provoked them."""
        self.expected.append(pattern)

    def check_logs(self):
        bad = [line for line in self.messages().splitlines()
               if BAD_LOG.search(line)
               and not any(re.search(p, line) for p in self.expected)]
        for name in sorted(os.listdir(self.dir)):
            if name.startswith("sanitizer."):
                bad.append(self._read(name))
        if bad:
            raise ServerError("the server's logs have:\n" + "\n".join(bad))

    def access(self, since=0, **match):
        """Access log entries from number `since` on, as dicts; only those
        whose fields equal those of `match`."""
        names = [name for name, _ in ACCESS]
        lines = self._read("access.log").split("\n")[:-1][since:]
        entries = [dict(zip(names, line.split("\t"))) for line in lines]
        return [e for e in entries
                if all(e[k] == v for k, v in match.items())]

    def access_mark(self):
        return self._read("access.log").count("\n")

    def wait_access(self, count=1, since=0, timeout=10, **match):
        """Waits for at least `count` matching entries; returns them."""
        return wait_for(
            lambda: (lambda found: found if len(found) >= count else None)(
                self.access(since, **match)),
            timeout, "%d access log entries with %s" % (count, match))

    # -- clients --------------------------------------------------------------

    def url(self, path="/", tls=True, host="localhost"):
        return "%s://%s:%d%s" % ("https" if tls else "http", host,
                                 self.tls_port if tls else self.port, path)

    def tls_context(self, alpn=("h2",)):
        context = ssl.create_default_context(
            cafile=os.path.join(self.certs, "server.crt"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def connect(self, tls=True, alpn=("h2",), sni="localhost", context=None,
                timeout=10, receive=None):
        """A connected socket; over TLS, h2 is offered by default.  receive:
        bytes of its receive buffer (Linux doubles them)."""
        sock = socket.socket()
        sock.settimeout(timeout * PATIENCE)
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        try:
            sock.connect(("127.0.0.1", self.tls_port if tls else self.port))
        except OSError:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = context or self.tls_context(alpn)
            sock = context.wrap_socket(sock, server_hostname=sni)
        return sock

    def h2(self, tls=True, sni="localhost", **kw):
        """A raw HTTP/2 connection to this server."""
        return h2raw.Connection(self.connect(tls, sni=sni), **kw)

    def http1(self, method="GET", path="/", headers=(), body=None, tls=True,
              sni="localhost"):
        """One request over HTTP/1.1; a h2raw.Response comes back."""
        sock = self.connect(tls, alpn=("http/1.1",), sni=sni)
        return http1.request(sock, method, path, headers, body, sni)
