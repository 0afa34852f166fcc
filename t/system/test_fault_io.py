"""Sockets of clients that take or give little at a time, or nothing at first:
every byte arrives all the same, and others are served."""

import hashlib

import pytest

from lib import h2raw, inside, server as lib_server

pytestmark = pytest.mark.h2x_only("ends connections")

LARGE = bytes(range(256)) * 16
SMALL = b"hello\n"


@pytest.fixture(scope="module")
def faulty(httpd, faults):
    one = httpd("KeepAliveTimeout 120\n", env=faults.env)
    one.write("small", SMALL)
    one.write("large", LARGE)
    with one:
        yield one


@pytest.fixture(autouse=True)
def no_faults_after(faults):
    yield
    faults.clear()


#: Most bytes at once (0: any), calls that get EAGAIN before one does not. After
#: a second one in a row APR itself gives up, where it should block.
KINDS = [(1, 0), (0, 1), (1, 1), (9, 1)]


def use(c):
    """Each kind of traffic at once; all of it is as it should be."""
    large = [c.get("/large"), c.get("/large")]
    upload = c.start(c.fields("POST", "/t/upload"), end=False)
    c.upload(upload, LARGE, timeout=120)
    small = [c.get("/small") for _ in range(5)]
    c.wait(upload, *large, *small, timeout=120)
    assert {bytes(r.body) for r in large} == {LARGE}
    assert {bytes(r.body) for r in small} == {SMALL}
    assert {r.status for r in large + small + [upload]} == {200}
    assert hashlib.md5(LARGE).hexdigest() in upload.text


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "cleartext"])
@pytest.mark.parametrize("piece, again", KINDS)
def test_little_at_a_time(faulty, faults, piece, again, tls):
    with faulty.h2(tls) as before, faulty.h2(tls) as c:
        assert before.request(path="/small").body == SMALL
        faults.piece, faults.again = piece, again
        use(c)
        use(before)             # a connection that had rested
        with faulty.h2(tls) as later:
            assert later.request(path="/small").body == SMALL
        assert faults.failed > 5
        faults.clear()
        use(c)
    inside.wait_settled(faulty)


@pytest.mark.parametrize("piece, again", KINDS)
def test_client_reads_late(faulty, faults, piece, again):
    """The window opens when nothing runs any more."""
    faults.piece, faults.again = piece, again
    with faulty.h2(settings={h2raw.INITIAL_WINDOW_SIZE: 0}) as c:
        large = [c.get("/large"), c.get("/t/big?n=%d" % len(LARGE))]
        c.until(lambda: all(r.headers for r in large), 30, "heads")
        lib_server.wait_for(
            lambda: inside.counters(faulty)["handled"] >= 2, 10, "handlers")
        for r in large:
            c.credit(len(LARGE), r.id)
        c.credit(2 * len(LARGE))
        c.wait(*large, timeout=120)
        assert bytes(large[0].body) == LARGE
        assert len(large[1].body) == len(LARGE)
    inside.wait_settled(faulty)
