"""What a server says of itself: the counters of the test module, and
server-status.  Asked over HTTP/1.1, so that asking disturbs nothing."""

import re

from . import server as _server


def counters(server):
    """Requests read, handled, logged and ended (of any protocol)."""
    text = server.http1(path="/t/count", tls=False).text
    return {k: int(v) for k, v in (x.split() for x in text.splitlines())}


def settled(server):
    """True when each request that began has been logged and freed."""
    c = counters(server)
    return c["read"] == c["logged"] == c["ended"]


def wait_settled(server, timeout=10):
    def why():
        return "all requests to end: %s" % counters(server)
    try:
        _server.wait_for(lambda: settled(server), timeout)
    except _server.ServerError:
        raise _server.ServerError("timed out waiting for " + why()) from None


def open_gate(server, number, by=1):
    assert server.http1(path="/t/open?g=%d&by=%d" % (number, by),
                        tls=False).status == 200


def close_gates(server):
    assert server.http1(path="/t/open?reset=1", tls=False).status == 200


def status(server):
    """Numbers of /server-status?auto (needs mod_status there)."""
    text = server.http1(path="/server-status?auto", tls=False).text
    return {k: float(v) for k, v in
            re.findall(r"^(\w+): (-?[\d.]+)$", text, re.M)}


def busy(server):
    """Busy threads of the MPM, but the one that answers this."""
    return int(status(server)["BusyWorkers"]) - 1
