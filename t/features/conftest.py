"""Fixtures of tests of directives."""

import subprocess

import pytest

from lib.server import httpd_binary


@pytest.fixture(scope="module")
def configtest(httpd):
    """Asks httpd -t about a configuration: (accepted, what was said)."""
    server = httpd()

    def ask(config):
        server.write_config(config)
        done = subprocess.run(
            [httpd_binary(), "-d", server.dir, "-f", server.conf, "-t"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=server._environ())
        return done.returncode == 0, done.stdout
    yield ask
    server.remove()
