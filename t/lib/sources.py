"""The module's sources, found by walking."""

import os

from .settings import TOP

#: Folders at the top that have no sources of the module.
OTHERS = {"t", "bench", "demo"}


def find(ending):
    """Paths of the files with this ending, relative to the top.  Folders
    with more than letters in their names are what builds make."""
    found = []
    for where, folders, names in os.walk(TOP):
        folders[:] = [name for name in folders if name.isalpha()
                      and not (where == TOP and name in OTHERS)]
        found += [os.path.relpath(os.path.join(where, name), TOP)
                  for name in names if name.endswith(ending)]
    return sorted(found)
