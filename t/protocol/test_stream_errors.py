"""Errors of a client that cost it streams (H2MaxStreamErrors)."""

import pytest

from lib import h2raw

HOSTS = {
    "one.test": "H2MaxStreamErrors 2",
    "two.test": "H2MaxStreamErrors 0",
    "three.test": "",
}


def files(server):
    server.write("index.html", "hello\n")


def malformed(connection):
    """A request with a field of one connection only."""
    return connection.get("/", {"connection": "close"})


@pytest.mark.h2x_only("counts flow control errors alone")
@pytest.mark.parametrize("name,allowed", [("three.test", 8), ("one.test", 2)])
def test_errors_are_counted(server, name, allowed):
    mark = server.log_mark()
    with server.h2(sni=name) as c:
        for _ in range(allowed):
            assert c.wait(malformed(c)).reset == h2raw.PROTOCOL_ERROR
        assert c.request(path="/").text == "hello\n"
        malformed(c)
        c.until(lambda: c.closed, what="end of the connection")
        assert c.goaways[-1][1] == h2raw.ENHANCE_YOUR_CALM
    server.wait_log(r"H2MaxStreamErrors \(%d\)" % allowed, mark)


def test_errors_do_not_count(server):
    with server.h2(sni="two.test") as c:
        for _ in range(30):
            assert c.wait(malformed(c)).reset == h2raw.PROTOCOL_ERROR
        assert c.request(path="/").text == "hello\n"
        assert not c.goaways
