"""Receive windows that follow the bandwidth-delay product, and requests that
read for themselves: how an upload goes on, and what it holds up."""

import hashlib
import time

import pytest
from hyperframe.frame import PingFrame

from lib import h2raw

CONFIG = """
H2MaxSessionStreams 100
"""

pytestmark = [
    pytest.mark.alone("windows depend on round trips, of fractions of a ms"),
    pytest.mark.h2x_only("windows of mod_http2 do not grow"),
]

DEFAULT = 65535
WIDEST = 16 << 20       # and how much wider all of a connection may be


def files(server):
    server.write("index.html", "hello\n")


def pattern(size):
    block = hashlib.sha512(b"windows").digest() * 16
    return (block * (size // len(block) + 1))[:size]


def answer(data):
    return "length %d\nmd5 %s\n" % (len(data), hashlib.md5(data).hexdigest())


def start(c, path="/t/upload", length=None):
    headers = [("content-length", str(length))] if length is not None else []
    return c.start(c.fields("POST", path, headers), end=False)


class Uploads:
    """Some at a time, each as fast as its window allows, on a link on which
    what the server says takes a while (`delay`, seconds); notes how wide the
    windows become, one stream's and all together."""

    def __init__(self, c, data, count, delay=0.02):
        self.c, self.data, self.delay = c, data, delay
        self.left = {start(c, length=len(data)): 0 for _ in range(count)}
        self.widest = self.widest_sum = 0

    def note(self):
        offered = [self.c.stream_windows.get(r.id, 0)
                   for r, sent in self.left.items() if sent < len(self.data)]
        self.widest = max([self.widest, *offered])
        self.widest_sum = max(self.widest_sum, sum(offered))

    def run(self):
        done = list(self.left)
        while any(sent < len(self.data) for sent in self.left.values()):
            time.sleep(self.delay)
            self.c.until(lambda: any(
                self.c.allowed(r.id) > 0 and sent < len(self.data)
                for r, sent in self.left.items()), what="a window")
            self.c.poll()
            self.note()
            for r, sent in self.left.items():
                n = min(self.c.allowed(r.id), len(self.data) - sent)
                if n > 0:
                    self.c.data(r.id, self.data[sent:sent + n],
                                end=sent + n == len(self.data))
                    self.left[r] += n
        self.c.wait(*done)
        for r in done:
            assert r.text == answer(self.data)
        return self


def near(server, **kw):
    """A connection whose client has acknowledged SETTINGS at once."""
    c = server.h2(**kw)
    c.until(lambda: c.settings_seen, what="SETTINGS")
    c.ping()
    return c


def pings(c):
    return [f for f in c.frames
            if isinstance(f, PingFrame) and "ACK" not in f.flags]


@pytest.mark.parametrize("tls", [True, False], ids=["h2", "h2c"])
def test_window_grows(server, tls):
    """A client that fills its window each time gets a wider one."""
    with near(server, tls=tls) as c:
        up = Uploads(c, pattern(24 << 20), 1).run()
        assert 1 << 20 <= up.widest <= WIDEST + DEFAULT
        assert pings(c)
        # and so the next stream, from its first bytes on
        again = Uploads(c, pattern(3 << 20), 1).run()
        assert again.widest > 1 << 19


def test_far_client(server):
    """A client that acknowledges SETTINGS late is far away: its window is
    wide at once, and stays so."""
    with server.h2() as c:
        time.sleep(0.15)
        for _ in range(2):
            r = start(c, length=200000)
            c.data(r.id, pattern(20000))
            c.until(lambda: c.stream_windows[r.id] > WIDEST - DEFAULT,
                    what="a wide window")
            c.upload(r, pattern(200000)[20000:])
            c.wait(r)
            assert r.text == answer(pattern(200000))
        assert not pings(c)


def test_near_client(server):
    """As wide as a round trip needs, and that is short."""
    with near(server) as c:
        r = start(c, length=100000)
        c.upload(r, pattern(100000))
        c.wait(r)
        assert c.stream_windows[r.id] < WIDEST // 2


def test_all_together_are_bounded(server):
    """Windows of many streams share what they may grow by; a stream that is
    over gives its share back."""
    with near(server, tls=False) as c:
        up = Uploads(c, pattern(6 << 20), 8).run()
        assert 1 << 20 < up.widest
        assert 2 << 20 < up.widest_sum <= WIDEST + 8 * DEFAULT
        assert Uploads(c, pattern(8 << 20), 1).run().widest > 2 << 20


def test_all_of_a_child_are_bounded(httpd):
    """Many clients with wide windows get no more than 128 MB of one child:
    ever less each. When some are gone, others get more again."""
    with httpd("""
<IfModule !mpm_prefork_module>
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
</IfModule>""") as one:
        clients = []

        def upload():
            c = one.h2(tls=False, ack=False)
            clients.append(c)
            r = start(c, length=50000)
            c.data(r.id, pattern(40000))
            c.until(lambda: c.stream_windows[r.id] > DEFAULT - 40000,
                    what="WINDOW_UPDATE")
            return c.stream_windows[r.id]

        wide = [upload() for _ in range(30)]
        assert WIDEST // 2 < wide[0] <= WIDEST + DEFAULT
        assert wide[-1] < 1 << 20
        assert 64 << 20 < sum(wide) <= (128 << 20) + 30 * DEFAULT
        for c in clients[:10]:
            c.abort()
        with one.h2() as c:
            c.ping()
        assert upload() > 4 << 20
        for c in clients:
            c.close()


def test_slow_client_keeps_its_window(server):
    """Less than a window in a round trip needs no wider one."""
    with near(server) as c:
        data = pattern(300000)
        r = start(c, length=len(data))
        first = None
        for at in range(0, len(data), 2000):
            c.data(r.id, data[at:at + 2000], end=at + 2000 >= len(data))
            c.ping()
            if at == 40000:
                first = c.stream_windows[r.id]
        c.wait(r)
        assert r.text == answer(data)
        assert c.stream_windows[r.id] <= first + DEFAULT
        # it was measured, and not all the time
        assert 1 <= len(pings(c)) < 50


def test_small_uploads_measure_nothing(server):
    with server.h2() as c:
        for _ in range(10):
            data = pattern(10000)
            r = start(c, length=len(data))
            c.upload(r, data)
            c.wait(r)
            assert r.text == answer(data)
        assert not pings(c)


def test_without_answer_to_ping(server):
    """A client that does not answer PING uploads as before."""
    with near(server) as c:
        c.ack = False
        up = Uploads(c, pattern(1 << 20), 1).run()
        assert up.widest < WIDEST // 2
        assert len(pings(c)) == 1


def test_forged_answers(server):
    """Answers to no PING, and other ones, widen nothing."""
    with near(server) as c:
        c.ack = False
        r = start(c)
        widest = 0
        for i in range(10):
            c.upload(r, pattern(30000), end=False)
            widest = max(widest, c.stream_windows[r.id])
            for payload in b"h2xwindO", b"\0" * 8, b"h2xdrain":
                c.send(PingFrame(opaque_data=payload, flags=["ACK"]))
        assert widest < WIDEST // 2
        c.data(r.id, b"", end=True)
        c.wait(r)
        assert r.text == answer(pattern(30000) * 10)


def test_unread_body_has_no_wider_window(server):
    """What nobody reads has to be kept: such a window does not grow."""
    with server.h2() as c:
        Uploads(c, pattern(4 << 20), 1).run()
        r = start(c, "/t/wait?gate=1")
        sent = c.upload(r, pattern(c.allowed(r.id)), end=False)
        assert sent == DEFAULT
        c.ping()
        assert c.stream_windows[r.id] == 0
        with server.h2() as other:
            other.request(path="/t/open?g=1")
        c.wait(r)
        assert r.text == "waited\n"


def test_small_window_grows(httpd):
    """H2WindowSize is where a window begins."""
    with httpd("H2WindowSize 4096") as small, near(small) as c:
        assert c.peer_settings[h2raw.INITIAL_WINDOW_SIZE] == 4096
        assert Uploads(c, pattern(4 << 20), 1).run().widest > 1 << 18


# -- a request that reads for itself ------------------------------------------

def fast(c, path="/index.html"):
    """Is it answered long before what the tests wait for otherwise?"""
    begin = time.monotonic()
    r = c.request(path=path)
    assert r.status == 200
    return time.monotonic() - begin


def test_others_while_it_waits_for_its_body(server):
    """Another request comes while one waits for more of its body."""
    with server.h2() as c:
        data = pattern(200000)
        r = start(c, length=len(data))
        c.upload(r, data[:100000], end=False)
        for _ in range(20):
            assert fast(c) < 2
        c.upload(r, data[100000:])
        c.wait(r)
        assert r.text == answer(data)


def test_others_while_it_is_busy_with_its_body(server):
    """Another request comes while one is busy with what it has read: it waits
    at a gate, after the first piece, and does not read."""
    with server.h2() as c, server.h2() as other:
        other.request(path="/t/open?reset=1")
        data = pattern(100)
        r = start(c, "/t/upload?gate=2", length=200)
        c.data(r.id, data)
        for _ in range(20):
            assert fast(c) < 2
        assert not r.done
        other.request(path="/t/open?g=2&by=1000")
        c.data(r.id, data, end=True)
        c.wait(r)
        assert r.text == answer(data + data)


def test_two_uploads_in_turn(server):
    """Two bodies that come piece by piece, in turn, and a file now and then."""
    with server.h2() as c:
        data = pattern(120000)
        pair = [start(c, length=len(data)) for _ in range(2)]
        for at in range(0, len(data), 10000):
            for r in pair:
                c.upload(r, data[at:at + 10000],
                         end=at + 10000 == len(data))
            assert fast(c) < 2
        c.wait(*pair)
        assert [r.text for r in pair] == [answer(data)] * 2


def test_client_leaves_while_it_waits(server):
    """The client resets a stream that waits for its body, or is gone."""
    for leave in (lambda c, r: c.reset(r.id), lambda c, r: c.abort()):
        with server.h2() as c:
            r = start(c, length=1000)
            c.data(r.id, b"x" * 500)
            c.ping()
            leave(c, r)
            if not c.closed and leave.__code__.co_names[0] == "reset":
                assert fast(c) < 2
    with server.h2() as c:
        assert fast(c) < 2


def test_many_uploads_one_after_the_other(server):
    """Each on the thread that reads it, or a worker, as it comes."""
    with server.h2() as c:
        data = pattern(300000)
        for _ in range(30):
            r = start(c, length=len(data))
            c.upload(r, data)
            c.wait(r)
            assert r.text == answer(data)


def test_chatter_does_not_lengthen_it(httpd):
    """A client that sends no body, but PING all the time, is waited for as
    long as a silent one."""
    with httpd("H2StreamTimeout 1") as one, one.h2() as c:
        r = start(c, length=1000)
        c.data(r.id, b"x")
        end = time.monotonic() + 20
        while not r.done and time.monotonic() < end:
            c.ping()
            time.sleep(0.005)
        assert (r.status, r.reset) == (408, None) or r.reset is not None
        assert time.monotonic() < end


def test_share_comes_back_with_the_body(server):
    """A stream that has got its body, and is not over, needs no window."""
    with server.h2() as c:
        c.ack = False       # SETTINGS, so that windows are wide
        first = c.start(c.fields("POST", "/t/echo"), end=False)
        c.data(first.id, b"y" * 40000)
        c.until(lambda: c.stream_windows[first.id] > WIDEST // 2,
                what="a wide window")
        c.data(first.id, b"", end=True)
        c.wait(first)
        held = c.start(c.fields("POST", "/t/upload?gate=3"), end=False)
        c.data(held.id, b"y" * 100, end=True)
        second = start(c, length=50000)
        c.data(second.id, b"z" * 40000)
        c.until(lambda: c.stream_windows[second.id] > WIDEST // 2,
                what="a wide window")
        with server.h2() as other:
            other.request(path="/t/open?g=3&by=100")
        c.data(second.id, b"z" * 10000, end=True)
        c.wait(held, second)
