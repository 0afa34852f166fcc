"""The module's sources, found by walking, and which of them use which."""

import os
import re
import subprocess

from .settings import TOP

#: Folders at the top that have no sources of the module.
OTHERS = {"t", "bench", "demo"}


def find(ending, top=TOP):
    """Paths of the files with this ending, relative to the top.  Folders
    with more than letters in their names are what builds make."""
    found = []
    for where, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name.isalpha()
                      and not (where == top and name in OTHERS)]
        found += [os.path.relpath(os.path.join(where, name), top)
                  for name in names if name.endswith(ending)]
    return sorted(found)


def node(path, top=TOP):
    """Where the arrows from and to a file end: a private header is one with
    the source beside it; one in include/ stands for itself."""
    source = os.path.splitext(path)[0] + ".c"
    return source if os.path.exists(os.path.join(top, source)) else path


class Arrows(dict):
    """What files use of others: (from, to) and the names of what that is."""

    def add(self, path, other, name):
        if path != other:
            self.setdefault((path, other), set()).add(name)


def includes(top=TOP):
    """Arrows by the headers that files include, whose names they have."""
    headers = {os.path.basename(path): path for path in find(".h", top)}
    arrows = Arrows()
    for path in find((".c", ".h"), top):
        with open(os.path.join(top, path), encoding="ascii") as f:
            names = re.findall(r'^\s*#\s*include\s+"([^"]+)"', f.read(), re.M)
        for name in map(os.path.basename, names):
            if name in headers:
                arrows.add(node(path, top), node(headers[name], top), name)
    return arrows


def symbols(path, build):
    """Names that the object of a source defines, and those that it needs."""
    folder, name = os.path.split(path)
    out = subprocess.run(
        ["nm", "-P", "-g", os.path.join(build, folder, ".libs",
                                        os.path.splitext(name)[0] + ".o")],
        check=True, text=True, stdout=subprocess.PIPE).stdout
    kinds = [line.split()[:2] for line in out.splitlines()]
    return ({name for name, kind in kinds if kind not in "Uvw"},
            {name for name, kind in kinds if kind in "Uvw"})


def calls(build, top=TOP, but=()):
    """Arrows by the symbols that objects of sources need of others, but for
    some of these.  Inline functions are seen by the includes."""
    tables = {path: symbols(path, build) for path in find(".c", top)}
    home = {name: path for path, (defined, _) in tables.items()
            for name in defined if name not in but}
    arrows = Arrows()
    for path, (_, needed) in tables.items():
        for name in needed & home.keys():
            arrows.add(path, home[name], name)
    return arrows


def joined(*many):
    """All arrows of several sets."""
    arrows = Arrows()
    for some in many:
        for (path, other), names in some.items():
            for name in names:
                arrows.add(path, other, name)
    return arrows


def circular(arrows):
    """Those arrows that lie on a circle: there is a way back."""
    beyond = {}
    for path, other in arrows:
        beyond.setdefault(path, set()).add(other)

    def leads(start, end):
        seen, todo = set(), [start]
        while todo:
            at = todo.pop()
            if at == end:
                return True
            if at not in seen:
                seen.add(at)
                todo.extend(beyond.get(at, ()))
        return False

    return {(path, other): names for (path, other), names in arrows.items()
            if leads(other, path)}
