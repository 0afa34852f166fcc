"""Chromium, and the demonstration page in it."""

import json
import os
import shutil
import subprocess

from .server import TOP, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DEMO = os.path.join(TOP, "demo")


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
        target = wait_for(page, 20, "a page")[0]["targetId"]
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


def load_demo(browser, url):
    """Until the demonstration page is complete."""
    browser.open(url)
    wait_for(
        lambda: (browser.evaluate("document.title") or "").startswith("h2:"),
        30, "the page to be complete", 0.1)


def write_demo(server):
    """The demonstration page and its parts, below htdocs."""
    for name in os.listdir(DEMO):
        path = os.path.join(DEMO, name)
        with open(path, "rb") as f:
            server.write(name, f.read(), os.stat(path).st_mode & 0o777)
