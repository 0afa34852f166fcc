"""Several processes run tests, and some of these alone: lib/turns.py."""

import contextlib
import fcntl
import threading

import pytest

from lib.server import wait_for
from lib.turns import Turns


@pytest.fixture
def is_free(tmp_path):
    """Whether a process would get a lock at once."""
    def is_free(name, how):
        with open(tmp_path / name, "w") as f:
            try:
                fcntl.flock(f, how | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True
    return is_free


@pytest.fixture
def two(tmp_path):
    return Turns(tmp_path), Turns(tmp_path)


def test_others_run_meanwhile(two, is_free):
    with two[0].turn(False, False), two[1].turn(False, False):
        assert is_free("room", fcntl.LOCK_SH)
        assert not is_free("room", fcntl.LOCK_EX)
    assert is_free("room", fcntl.LOCK_EX)


def test_alone(two, is_free):
    with two[0].turn(True, False):
        assert not is_free("room", fcntl.LOCK_SH)
    assert is_free("room", fcntl.LOCK_EX)
    with two[1].turn(False, False):
        assert is_free("room", fcntl.LOCK_SH)


def test_next_one_is_alone_too(two, is_free):
    for keep in (True, True, False):
        with two[0].turn(True, keep):
            assert not is_free("room", fcntl.LOCK_SH)
        assert is_free("room", fcntl.LOCK_SH) != keep
    with two[1].turn(True, False):
        assert not is_free("room", fcntl.LOCK_SH)


def test_turn_ends_with_an_error(two, is_free):
    with contextlib.suppress(KeyError), two[0].turn(True, False):
        raise KeyError
    assert is_free("room", fcntl.LOCK_EX)


def test_who_waits_to_be_alone_is_not_overtaken(two, is_free):
    entered, leave = threading.Event(), threading.Event()

    def alone():
        with two[1].turn(True, False):
            entered.set()
            leave.wait(60)
    thread = threading.Thread(target=alone, daemon=True)
    with two[0].turn(False, False):
        thread.start()
        wait_for(lambda: not is_free("door", fcntl.LOCK_SH), 10,
                 "somebody at the door")
        assert not entered.is_set()
    assert entered.wait(60)
    assert is_free("door", fcntl.LOCK_EX)
    assert not is_free("room", fcntl.LOCK_SH)
    leave.set()
    thread.join()
    assert is_free("room", fcntl.LOCK_EX)
