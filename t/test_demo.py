"""The demonstration page in a browser, and what quickstart does."""

import json
import os
import shutil
import subprocess
import time

import pytest

from lib import server as lib_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DEMO = os.path.join(lib_server.TOP, "demo")
QUICKSTART = os.path.join(lib_server.TOP, "quickstart")

CONFIG = """
AddType image/svg+xml .svg
<Directory ${HTDOCS}>
    Options +ExecCGI
    AddHandler cgi-script .cgi
    DirectoryIndex index.html
</Directory>
"""
MODULES = "cgid"


def files(server):
    for name in os.listdir(DEMO):
        path = os.path.join(DEMO, name)
        with open(path, "rb") as f:
            server.write(name, f.read(), os.stat(path).st_mode & 0o777)


class Browser:
    """Headless Chromium, driven through its debugging pipe."""

    def __init__(self, profile, trust="--ignore-certificate-errors"):
        # The browser reads commands from descriptor 3 and answers on 4.
        get, self.commands = os.pipe()
        self.answers, put = os.pipe()
        self.count, self.rest = 0, b""
        self.process = subprocess.Popen(
            ["bash", "-c", 'exec "$0" "$@" 3<&%d 4>&%d' % (get, put), CHROMIUM,
             "--headless=new", "--no-sandbox", "--disable-gpu",
             "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update",
             trust, "--remote-debugging-pipe",
             "--user-data-dir=%s" % profile, "about:blank"],
            pass_fds=(get, put), stderr=subprocess.DEVNULL)
        os.close(get)
        os.close(put)

    def call(self, method, session=None, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                data = os.read(self.answers, 1 << 16)
                assert data, "the browser has gone"
                self.rest += data
            answer, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(answer)
            if answer.get("id") == self.count:
                assert "result" in answer, answer
                return answer["result"]

    def open(self, url):
        def page():
            return [t for t in self.call("Target.getTargets")["targetInfos"]
                    if t["type"] == "page"]
        target = lib_server.wait_for(page, 20, "a page")[0]["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        self.call("Page.navigate", self.session, url=url)

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", self.session,
                           expression=expression, returnByValue=True)
        return result["result"].get("value")

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)


@pytest.fixture
def browser(tmp_path):
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    one = Browser(tmp_path / "profile")
    yield one
    one.close()


def load(browser, url):
    browser.open(url)
    lib_server.wait_for(
        lambda: (browser.evaluate("document.title") or "").startswith("h2:"),
        30, "the page to be complete", 0.1)


@pytest.mark.timeout(120)
def test_all_parts_come_over_h2(server, browser):
    mark = server.access_mark()
    load(browser, server.url("/"))
    assert browser.evaluate("document.title") == "h2: 124/124"
    assert browser.evaluate(
        "document.getElementById('summary').textContent") \
        == "124 of 124 parts came over h2."
    protocols = browser.evaluate(
        "performance.getEntriesByType('navigation')"
        ".concat(performance.getEntriesByType('resource'))"
        ".map(entry => entry.nextHopProtocol)")
    assert protocols == ["h2"] * 124
    assert browser.evaluate(
        "document.querySelectorAll('#parts [data-protocol=h2]').length") == 121
    server.wait_access(124, since=mark, proto="HTTP/2.0", final="200")


@pytest.mark.timeout(120)
@pytest.mark.h2x_only("slow requests hold up the others")
def test_no_tile_waits_for_a_slow_part(server, browser):
    load(browser, server.url("/"))
    tiles, slow = browser.evaluate(
        "['picture.svg', 'slow.cgi'].map(name => performance"
        ".getEntriesByType('resource').filter(e => e.name.includes(name))"
        ".map(e => e.responseEnd))")
    assert len(tiles) == 112 and len(slow) == 9
    assert max(tiles) < min(slow)
    # All nine at once, not one after the other.
    assert max(slow) - min(slow) < 1500 * lib_server.PATIENCE


@pytest.mark.timeout(120)
def test_over_http1_the_page_says_so(server, browser):
    load(browser, server.url("/", tls=False))
    assert browser.evaluate("document.title") == "h2: 0/124"
    assert "124 over http/1.1" in browser.evaluate(
        "document.getElementById('summary').textContent")


def quickstart(*args):
    return subprocess.run([QUICKSTART, *args], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize("args", [
    ["--nonsense"], ["start"], ["--http-port"], ["--http-port", "0"],
    ["--https-port=65536"], ["--https-port", "8080"], ["stop", "check"]])
def test_quickstart_usage(args):
    result = quickstart(*args)
    assert result.returncode == 2
    assert result.stderr.startswith("quickstart: ")
    assert "usage: ./quickstart" in result.stderr
