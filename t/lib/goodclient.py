"""A client that does about GOAWAY what a good client does (RFC 9113, 6.8).

When it has seen the first GOAWAY on a connection it asks for nothing more
there, and goes to a new connection; what runs there it lets finish.  What the
last GOAWAY says was not and will not be processed, it asks for again.
Everything else that gets no whole answer is lost, and the server's fault."""

import select
import time

from . import h2raw
from .settings import PATIENCE

NO_LAST = (1 << 31) - 1     # last-stream-id of a GOAWAY that only warns


class Request:
    def __init__(self, method, path, body):
        self.method, self.path, self.body = method, path, body
        self.sent = False           # the body, once the window allows
        self.response = None
        self.tries = 0

    def __repr__(self):
        return "<%s %s, try %d: %r>" % (
            self.method, self.path, self.tries, self.response)


class Client:
    """stay: there is no other server; what was not processed is put into
    `refused`."""

    def __init__(self, server, tls=True, stay=False):
        self.server, self.tls, self.stay = server, tls, stay
        self.now = None             # the connection for new requests
        self.open = []              # all that are open, that one too
        self.running = {}           # connection: requests on it
        self.done, self.lost, self.refused = [], [], []
        self.connections = self.retried = 0
        self.warned = self.unwarned = 0     # connections that ended

    def connect(self):
        self.now = self.server.h2(self.tls)
        self.open.append(self.now)
        self.running[self.now] = []
        self.connections += 1

    def ask(self, path, method="GET", body=None):
        self._send(Request(method, path, body))

    def _send(self, request):
        if self.now is None or self.now.goaways or self.now.closed:
            self.connect()
        c = self.now
        request.tries += 1
        self.running[c].append(request)
        try:
            request.response = c.start(
                c.fields(request.method, request.path),
                end=request.body is None)
            if request.body is not None:
                c.data(request.response.id, request.body, end=True)
        except OSError as e:
            c.send_error = e        # what came before is still to be read

    @property
    def count(self):
        """Requests on their way."""
        return sum(map(len, self.running.values()))

    def step(self, timeout=0.05):
        """Reads what there is, and sorts out what became of requests."""
        if self.open:
            ready, _, _ = select.select([c.sock for c in self.open], [], [],
                                        timeout)
        for c in list(self.open):
            if c.sock in ready:
                c.poll()
            self._sort(c)
            if c.closed:
                self._bury(c)

    def _not_processed(self, c, r):
        if r is None or r.reset == h2raw.REFUSED_STREAM:
            return True
        last = c.goaways[-1][0] if c.goaways else NO_LAST
        return r.id > last

    def _sort(self, c):
        again, left = [], []
        for request in self.running[c]:
            r = request.response
            if r is not None and r.ended:
                self.done.append(request)
            elif r is None and not c.goaways and not c.closed:
                left.append(request)
            elif self._not_processed(c, r):
                again.append(request)
            elif r.reset is not None or c.closed:
                request.why = "%s, GOAWAYs %s, error %s, frames %s" % (
                    "closed" if c.closed else "reset", c.goaways, c.error,
                    c.tail())
                self.lost.append(request)
            else:
                left.append(request)
        self.running[c] = left
        if self.stay:
            self.refused += again
            return
        for request in again:
            self.retried += 1
            self._send(request)

    def _bury(self, c):
        if c.goaways and c.goaways[0][0] == NO_LAST:
            self.warned += 1
        else:
            self.unwarned += 1
        c.close()
        self.open.remove(c)
        del self.running[c]
        if c is self.now:
            self.now = None

    def until(self, condition, timeout=30, refill=None):
        """Steps until condition(), calling refill() before each."""
        deadline = time.monotonic() + timeout * PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise h2raw.Timeout("still on their way: %s" % [
                    r for rs in self.running.values() for r in rs])
            if refill:
                refill()
            self.step()

    def finish(self, timeout=30):
        """Until every request has its end."""
        self.until(lambda: not self.count, timeout)

    def close(self):
        for c in self.open:
            c.close()
        self.open = []
