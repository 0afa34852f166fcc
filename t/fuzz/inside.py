"""Runs httpd with a fuzzer inside: inside.py MODULE ASAN ARGUMENT...
The arguments are libFuzzer's.  httpd stays in the foreground, as one process;
its exit status is that of libFuzzer."""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir))

from lib import server as lib_server  # noqa: E402

CONFIG = """
%(modules)s
LoadModule h2x_module %(module)s
LoadModule fuzz_module %(module)s
%(more)s
ServerRoot %(dir)s
DefaultRuntimeDir %(dir)s
PidFile %(dir)s/httpd.pid
ServerName localhost
User %(user)s
Group %(group)s
Listen 127.0.0.1:%(port)d
Listen 127.0.0.1:%(port_2)d
ErrorLog /dev/stderr
LogLevel crit h2x:trace1
CustomLog /dev/null "%%r %%I %%O %%{H2_STREAM_TAG}e"
DocumentRoot %(dir)s
<Directory %(dir)s>
    Require all granted
</Directory>
Protocols h2c http/1.1
ThreadsPerChild 6
MaxRequestWorkers 6
StartServers 1
Timeout 5
KeepAliveTimeout 5
H2MaxWorkers 4
H2MaxSessionStreams 20
H2WebSockets on
H2Push on
H2Padding 3
"""

#: What one of them has beyond that.
MORE = {
    "inside_server": "LoadModule fuzz_server_module %(module)s",
    "inside_heads": """
LoadModule fuzz_heads_module %(module)s
H2Guard 0
H2PushResource /s
H2EarlyHints on
H2EarlyHint Link </t>;rel=preload
<VirtualHost 127.0.0.1:%(port)d>
    ServerName localhost
</VirtualHost>
<VirtualHost 127.0.0.1:%(port)d>
    ServerName other.example
    Protocols http/1.1
</VirtualHost>
<VirtualHost 127.0.0.1:%(port_2)d>
    H2ProxyRequests on
    H2WebSockets off
</VirtualHost>
"""}

#: A fuzzer's log has what libFuzzer says, not what clients are told.
NOISE = "[h2x:"


def main(module, asan, *args):
    with tempfile.TemporaryDirectory(
            prefix="h2x-fuzz-", dir=os.environ.get("H2X_TMPDIR")) as path, \
            lib_server.free_ports(2) as (port, port_2):
        os.chmod(path, 0o755)
        with open(os.path.join(path, "s"), "w") as f:
            f.write("x" * 3000)
        user, group = lib_server.account()
        names = ["mpm_event", "authz_core", "logio"]
        places = {"module": module, "port": port, "port_2": port_2}
        more = MORE.get(os.path.basename(module)[:-len(".so")], "") % places
        config = os.path.join(path, "httpd.conf")
        with open(config, "w") as f:
            f.write(CONFIG % {
                "modules": "\n".join(map(lib_server.load_line, names)),
                "more": more, "dir": path, "user": user, "group": group,
                **places})
        env = dict(os.environ, LD_PRELOAD=asan, FUZZ_PORT=str(port),
                   FUZZ_PORT_2=str(port_2),
                   FUZZ_ARGS="\n".join(args),
                   ASAN_OPTIONS="detect_leaks=0:handle_segv=2:"
                                "alloc_dealloc_mismatch=0")
        with subprocess.Popen(
                [lib_server.httpd_binary(), "-X", "-d", path, "-f", config],
                env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, errors="replace") as httpd:
            for line in httpd.stdout:
                if NOISE not in line:
                    sys.stdout.write(line)
        return httpd.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
