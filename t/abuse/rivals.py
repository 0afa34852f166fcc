"""nginx, made to look like lib.server.Server as far as attacks need it."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from lib import h2raw
from lib.server import PATIENCE, account, free_ports, wait_for

CONFIG = """
daemon off;
pid {dir}/pid;
error_log {dir}/error.log info;
worker_processes 1;
{user}
events {{ worker_connections 4096; }}
http {{
    default_type text/html;
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    ssl_certificate {certs}/server.crt;
    ssl_certificate_key {certs}/server.key;
    client_header_timeout {timeout}s;
    client_body_timeout {timeout}s;
    send_timeout {timeout}s;
    keepalive_timeout {timeout}s;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} http2;
        listen 127.0.0.1:{tls_port} ssl http2;
        root {dir}/htdocs;
    }}
}}
"""


class Nginx:
    load = "nginx"

    def __init__(self, certs, timeout=60):
        self.dir = tempfile.mkdtemp(prefix="h2x-nginx-",
                                    dir=os.environ.get("H2X_TMPDIR"))
        os.chmod(self.dir, 0o755)
        self.htdocs = os.path.join(self.dir, "htdocs")
        os.mkdir(self.htdocs)
        self.ports = contextlib.ExitStack()
        self.port, self.tls_port = self.ports.enter_context(free_ports(2))
        self.certs, self.timeout = certs, timeout

    def write(self, name, content):
        path = os.path.join(self.htdocs, name)
        with open(path, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)
        os.chmod(path, 0o644)

    def __enter__(self):
        user = "user %s %s;" % account() if os.geteuid() == 0 else ""
        conf = os.path.join(self.dir, "conf")
        with open(conf, "w") as f:
            f.write(CONFIG.format(dir=self.dir, certs=self.certs, user=user,
                                  port=self.port, tls_port=self.tls_port,
                                  timeout=self.timeout))
        self.process = subprocess.Popen(
            [shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"),
             "-p", self.dir, "-e", self.dir + "/error.log", "-c", conf],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)

        def answers():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self.children()
        wait_for(answers, 15, "nginx to start")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            for pid in self.children() + [self.process.pid]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self.ports.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def children(self):
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open("/proc/%s/stat" % name) as f:
                    fields = f.read().rpartition(")")[2].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z":
                    found.append(int(name))
        return sorted(found)

    def error_text(self):
        with contextlib.suppress(FileNotFoundError):
            with open(self.dir + "/error.log", errors="replace") as f:
                # as httpd says it
                return re.sub("exited on signal", "exit signal", f.read())
        return ""

    def log_mark(self):
        return len(self.error_text())

    def connect(self, tls=False, timeout=10):
        assert not tls, "attacks on nginx are on cleartext connections"
        sock = socket.create_connection(("127.0.0.1", self.port),
                                        timeout * PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def h2(self, tls=False, **kw):
        return h2raw.Connection(self.connect(tls), **kw)
