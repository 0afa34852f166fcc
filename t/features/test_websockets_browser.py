"""A browser's WebSockets over its HTTP/2 connection."""

import pytest

from lib.browser import CHROMIUM, Browser
from lib.chat import (  # noqa: F401
    PROXIES, chat, config, fresh, hosts, server)
from lib.server import PATIENCE, wait_for

PAGE = """<!doctype html><title>waiting</title><script>
function start(path, count) {
    window.state = {opened: 0, same: 0, different: 0};
    var ws = new WebSocket('wss://' + location.host + path), sent = [], n = 0;
    ws.binaryType = 'arraybuffer';
    function made(i) {
        var size = [0, 1, 125, 126, 127, 1000, 3000][i * 7919 % 7];
        if (i % 1000 == 5) size = 70000;
        return i + ' ' + 'z'.repeat(size);
    }
    function more() {
        while (n < count && ws.bufferedAmount < 1e6 && n < sum() + 500) {
            var text = made(n++);
            ws.send(n % 2 ? text : new TextEncoder().encode(text));
        }
    }
    function sum() { return state.same + state.different; }
    ws.onopen = function () {
        state.opened = 1;
        if (count) more();
        else ws.send('go');
    };
    ws.onmessage = function (e) {
        var i = sum(), is_text = typeof e.data == 'string';
        var text = is_text ? e.data : new TextDecoder().decode(e.data);
        state[text == made(i) && is_text == (i % 2 == 0)
              ? 'same' : 'different']++;
        if (sum() == count) ws.close(4321, 'done');
        else more();
    };
    ws.onclose = function (e) {
        state.closed = [e.code, e.reason, e.wasClean];
    };
}
document.title = 'ready';
</script>
"""


@pytest.fixture(scope="module")
def page(server, tmp_path_factory):
    """A browser with the page of this server, whose connection is h2."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    server.write("ws.html", PAGE)
    one = Browser(tmp_path_factory.mktemp("browser") / "profile")
    try:
        one.open(server.url("/ws.html"))
        wait_for(lambda: one.evaluate("document.title") == "ready", 30,
                 "the page", 0.1)
        assert one.evaluate(
            "performance.getEntriesByType('navigation')[0].nextHopProtocol") \
            == "h2"
        yield one
    finally:
        one.close()


def run_in(page, path, count=0, timeout=120):
    """One WebSocket in the browser to its end: what the page has noted."""
    page.evaluate("start('%s', %d)" % (path, count))
    wait_for(lambda: page.evaluate("!!state.closed"), timeout,
             "the browser's WebSocket to end", 0.1)
    return page.evaluate("state")


@pytest.mark.timeout(300)
@PROXIES
def test_browser(server, chat, page, proxy):
    mark = server.access_mark()
    assert run_in(page, proxy + "/echo", 10000) == {
        "opened": 1, "same": 10000, "different": 0,
        "closed": [4321, "done", True]}
    visit = chat.visit("/echo")
    assert visit.ended.wait(10 * PATIENCE)
    assert (visit.code, visit.reason) == (4321, "done")
    assert visit.received == 10000
    server.wait_access(1, since=mark, uri=proxy + "/echo", proto="HTTP/2.0")


@pytest.mark.timeout(120)
@PROXIES
def test_browser_is_closed_by_the_server(page, proxy):
    assert run_in(page, proxy + "/close?4007,over%21") == {
        "opened": 1, "same": 0, "different": 0,
        "closed": [4007, "over%21", True]}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("path", ["/ws/forbidden", "/dead/echo",
                                  "/fake/wrong", "/fake/page"])
def test_browser_is_refused(page, path):
    state = run_in(page, path)
    assert state["opened"] == 0 and state["closed"] == [1006, "", False]
