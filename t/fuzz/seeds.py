"""Writes the first inputs of a fuzzer: seeds.py NAME DIRECTORY"""

import os
import sys

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir,
                    "data")


def link():
    """The fields of t/data/link-fields.txt, and some of what they lack."""
    with open(os.path.join(DATA, "link-fields.txt"), "rb") as lines:
        for line in lines:
            if line.strip() and not line.startswith(b"#"):
                yield line.rpartition(b"\t")[0]
    yield b'</a>; rel="x \\p\\reload"; title="\\"\\\\, </b>"; anchor=x'
    yield b"http://a:8080/b/../c?d#e"
    yield b"//[::1]:443/a;b/./c"
    yield b"head;x"


def priority():
    """Each construct of a dictionary, and what is nearly one."""
    yield b""
    yield b"  u=1, i"
    yield b"u=5;a;b=c , i=?0\t,\tu=07"
    yield b'x="a\\"b\\\\,u=1";y=?1, z=:YWJj:, u=-0'
    yield b"a=( 1  -2.5;q tok/en:* \"s\" :YQ==: ?0 );p=1, *b_c.d-e*, i"
    yield b"u=123456789012345, i=123456789012.123, u=1"
    yield b"u=1234567890123456"
    yield b"u=1, i=?2"
    yield b"u=1,"


#: One function for each fuzzer that has seeds; without any it starts empty.
SEEDS = {"link": link, "priority": priority}


def main(name, directory):
    for number, seed in enumerate(SEEDS.get(name, list)()):
        with open(os.path.join(directory, "%04d" % number), "wb") as out:
            out.write(seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
