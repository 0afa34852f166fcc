"""Whose turn it is when several processes run tests (pytest -n): some tests,
or one that is alone."""

import contextlib
import fcntl
import os


class Turns:
    """One process's part in that, by locks on two files of a directory."""

    def __init__(self, directory):
        self.room, self.door = (
            open(os.path.join(directory, name), "w")
            for name in ("room", "door"))
        self.kept = False

    @contextlib.contextmanager
    def turn(self, is_alone, keep):
        """For one test.  keep: the next one, which is alone too, follows
        without anybody between."""
        if not self.kept:
            # who waits to be alone is not overtaken: nobody passes the door
            with self._locked(self.door, fcntl.LOCK_EX):
                fcntl.flock(self.room, fcntl.LOCK_EX if is_alone
                            else fcntl.LOCK_SH)
        self.kept = is_alone and keep
        try:
            yield
        finally:
            if not self.kept:
                fcntl.flock(self.room, fcntl.LOCK_UN)

    @staticmethod
    @contextlib.contextmanager
    def _locked(file, how):
        fcntl.flock(file, how)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
