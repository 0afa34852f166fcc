"""A private pool of php-fpm for a server, on a unix socket in its
directory."""

import glob
import os
import shutil
import subprocess

from . import server as _server

CONFIG = """
[global]
error_log = {dir}/php.log
daemonize = no
log_level = notice
[test]
{account}
listen = {dir}/run/php.sock
listen.mode = 0666
pm = static
pm.max_children = {children}
catch_workers_output = yes
php_admin_value[session.save_path] = {dir}/run
php_admin_value[output_buffering] = 0
php_admin_value[enable_post_data_reading] = {post}
php_admin_value[post_max_size] = 100M
php_admin_value[upload_max_filesize] = 100M
php_admin_value[upload_tmp_dir] = {dir}/run
"""


def binary():
    """php-fpm, or Debian's php-fpm8.2; None where there is none."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    found = shutil.which("php-fpm", path=path)
    return found or next((f for d in path.split(":") for f in sorted(
        glob.glob(os.path.join(d, "php-fpm[0-9]*")))
        if os.access(f, os.X_OK)), None)


class Pool:
    """Runs while the with statement does.  post=0: scripts find the request
    body in php://input only, and as it comes."""

    def __init__(self, server, children=8, post=1):
        user, group = _server.account()
        account = ("user = %s\ngroup = %s" % (user, group)
                   if os.geteuid() == 0 else "")
        self.server, self.socket = server, server.path("run", "php.sock")
        self.config = server.path("php-fpm.conf")
        with open(self.config, "w") as f:
            f.write(CONFIG.format(dir=server.dir, account=account,
                                  children=children, post=post))
        os.chmod(server.path("run"), 0o777)

    def __enter__(self):
        self.out = open(self.server.path("php.out"), "wb")
        self.process = subprocess.Popen(
            [binary(), "-n", "-F", "-y", self.config, "-p", self.server.dir],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.out,
            start_new_session=True, preexec_fn=_server._die_with_parent)
        try:
            _server.wait_for(self._up, 10, "php-fpm to start")
        except _server.ServerError:
            self.__exit__()
            raise
        return self

    def _up(self):
        if self.process.poll() is not None:
            with open(self.server.path("php.out")) as f:
                raise _server.ServerError("php-fpm ended:\n" + f.read())
        return os.path.exists(self.socket)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.out.close()
