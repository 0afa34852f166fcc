"""The demonstration page in a browser, and what quickstart does."""

import os
import subprocess

import pytest

from lib.browser import CHROMIUM, Browser, load_demo, write_demo
from lib.server import PATIENCE, TOP

QUICKSTART = os.path.join(TOP, "quickstart")

CONFIG = """
AddType image/svg+xml .svg
<Directory ${HTDOCS}>
    Options +ExecCGI
    AddHandler cgi-script .cgi
    DirectoryIndex index.html
</Directory>
"""
MODULES = "cgid"

files = write_demo


@pytest.fixture
def browser(tmp_path):
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    one = Browser(tmp_path / "profile")
    yield one
    one.close()


@pytest.mark.timeout(120)
def test_all_parts_come_over_h2(server, browser):
    mark = server.access_mark()
    load_demo(browser, server.url("/"))
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


@pytest.mark.alone("when parts of a page end is compared")
@pytest.mark.timeout(120)
@pytest.mark.h2x_only("slow requests hold up the others")
def test_no_tile_waits_for_a_slow_part(server, browser):
    load_demo(browser, server.url("/"))
    tiles, slow = browser.evaluate(
        "['picture.svg', 'slow.cgi'].map(name => performance"
        ".getEntriesByType('resource').filter(e => e.name.includes(name))"
        ".map(e => e.responseEnd))")
    assert len(tiles) == 112 and len(slow) == 9
    assert max(tiles) < min(slow)
    # All nine at once, not one after the other.
    assert max(slow) - min(slow) < 1500 * PATIENCE


@pytest.mark.timeout(120)
def test_over_http1_the_page_says_so(server, browser):
    load_demo(browser, server.url("/", tls=False))
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
