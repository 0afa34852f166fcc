"""The tables of conformance in t/README.md: each test that they name is there,
and each test of conformance is in them."""

import fnmatch
import glob
import os
import re

from lib.server import TOP

T = os.path.join(TOP, "t")


def read(name):
    with open(os.path.join(T, name), encoding="utf-8") as f:
        return f.read()


def files(pattern):
    return glob.glob(os.path.join(T, "*", pattern))


def functions(pattern):
    found = set()
    for path in files(pattern):
        found.update(re.findall(r"^def (test_\w+)", read(path), re.M))
    return found


def named(rfc):
    """Patterns of the table for one RFC."""
    text = read("README.md")
    table = text[text.index("| RFC %s |" % rfc):].split("\n\n")[0]
    return set(re.findall(r"`(test_[\w*.]+)`", table))


def check(rfc, mine):
    patterns = named(rfc)
    everything = functions("test_*.py")
    for pattern in patterns:
        if pattern.endswith(".py"):
            assert files(pattern), pattern
        else:
            assert fnmatch.filter(everything, pattern), pattern
    for name in mine:
        assert any(fnmatch.fnmatch(name, p) for p in patterns), name


def test_table_of_rfc9113():
    check("9113", {name for name in functions("test_rfc9113_*.py")
                   if re.match(r"test_\d", name)})


def test_table_of_rfc7541():
    check("7541", functions("test_rfc7541.py"))


def test_names_begin_with_a_section():
    for name in functions("test_rfc*.py") - functions("test_rfc9113_table.py"):
        assert re.match(r"test_\d+(_\d+)*_[a-z]", name), name
