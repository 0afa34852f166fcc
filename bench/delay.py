"""A way to a server that takes 50 ms there and back.

Where tc can put netem on the loopback interface of a network namespace, the
benchmark moves into one, and the kernel delays packets while a measurement
asks for that.  Elsewhere a relay (relay.c) delays bytes between two
connections: TCP then sees no delay, HTTP/2 and TLS do.
"""

import contextlib
import ctypes
import subprocess

MS = 25     # each way
CLONE_NEWNET = 0x40000000
NETEM = ['netem', 'delay', '%dms' % MS, 'limit', '1000000']


def enter_namespace():
    """True when from now on this process and its children have a loopback
    interface of their own, which netem can delay."""
    trial = ' '.join(['ip link set lo up && tc qdisc add dev lo root', *NETEM])
    try:
        subprocess.run(['unshare', '--net', 'sh', '-c', trial], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return False
    if ctypes.CDLL(None).unshare(CLONE_NEWNET):
        return False
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
    return True


@contextlib.contextmanager
def by_netem(port):
    """A port that leads to `port` with the delay."""
    subprocess.run(['tc', 'qdisc', 'add', 'dev', 'lo', 'root', *NETEM],
                   check=True)
    try:
        yield port
    finally:
        subprocess.run(['tc', 'qdisc', 'del', 'dev', 'lo', 'root'],
                       check=True)


def by_relay(program):
    """The same as by_netem(), with relay.c's program."""
    @contextlib.contextmanager
    def relay(port):
        with subprocess.Popen([program, str(port), str(MS)],
                              stdout=subprocess.PIPE, text=True) as process:
            try:
                yield int(process.stdout.readline())
            finally:
                process.terminate()
    return relay
