"""Rules that the sources keep: who knows whom, size, form, comments."""

import glob
import os
import re
import subprocess

import pytest

from lib import directives, sources
from lib.server import MODULE_SO, STOCK, TOP

#: What the rooms may include: those of a lower level.
LEVELS = {
    "h2x": 0, "h2x_clock": 0, "h2x_pages": 0,
    "h2x_lock": 1,
    "h2x_field": 1, "h2x_guard": 1, "h2x_push": 1, "h2x_priority": 1,
    "h2x_watch": 1, "h2x_worker": 1, "h2x_c2_pool": 1, "h2x_thread": 1,
    "h2x_conf": 2, "h2x_stream": 2, "h2x_origin": 3,
    "h2x_announce": 3, "h2x_tunnel": 3, "h2x_head": 3, "h2x_child": 3,
    "h2x_filter": 4, "h2x_session": 4,
    "h2x_request": 5, "h2x_io": 5,
    "h2x_drive": 6,
    "h2x_upgrade": 7,
    "mod_h2x": 8,
}

#: Large rooms have several sources, which share an _impl.h.
PARTS = {
    "h2x_session_out": "h2x_session", "h2x_session_impl": "h2x_session",
    "h2x_session_push": "h2x_session",
    "h2x_session_priority": "h2x_session",
    "h2x_session_fields": "h2x_session",
    "h2x_session_memory": "h2x_session",
    "h2x_session_window": "h2x_session",
    "h2x_session_strict": "h2x_session", "h2x_transfer": "h2x_drive",
    "h2x_conn": "h2x_drive", "h2x_drive_impl": "h2x_drive",
    "h2x_late": "h2x_drive", "h2x_lead": "h2x_drive",
    "h2x_stream_out": "h2x_stream",
    "h2x_filter_in": "h2x_filter", "h2x_filter_out": "h2x_filter",
}

#: mod_h2x.c may use of nghttp2 what is of no session.
NGHTTP2_OF_MODULE = {"nghttp2_version", "NGHTTP2_CLIENT_MAGIC"}


def tracked(*patterns):
    """Paths of the project's files, relative to its top."""
    found = set()
    for pattern in patterns:
        found.update(glob.glob(os.path.join(TOP, pattern)))
    found = {os.path.relpath(path, TOP) for path in found}
    return sorted(path for path in found if "check-asan.dir" not in path)


SOURCES = sources.find(".c")
HEADERS = sources.find(".h")
TEST_SOURCES = tracked("t/*/*.[ch]", "t/*/*/*.[ch]")


def read(path):
    with open(os.path.join(TOP, path), encoding="ascii") as f:
        return f.read()


def room(path):
    """The room that a file, or the name of a header, belongs to."""
    name = os.path.splitext(os.path.basename(path))[0]
    return PARTS.get(name, name)


def blank(match):
    """Spaces in place of a text, but its line ends stay."""
    return re.sub(r"[^\n]", " ", match.group())


def code(path):
    """A source without comments, strings and characters."""
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
                  blank, read(path), flags=re.S)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


# --- who knows whom ---

def test_there_are_sources():
    assert "mod_h2x.c" in SOURCES and "include/h2x_session.h" in HEADERS
    assert "t/unit/test_field.c" in TEST_SOURCES


@pytest.mark.parametrize("path", SOURCES + HEADERS)
def test_includes_lower_levels_only(path):
    me = room(path)
    assert me in LEVELS, "a new room: give it a level"
    for other in re.findall(r'^\s*#\s*include\s+"(?:session/)?(\w+)\.h"',
                            read(path), re.M):
        theirs = room(other)
        assert theirs in LEVELS, "%s includes %s.h" % (path, other)
        assert theirs == me or LEVELS[theirs] < LEVELS[me], \
            "%s (level %d) includes %s.h (level %d)" % (
                path, LEVELS[me], other, LEVELS[theirs])
        assert theirs == me or not other.endswith("_impl"), \
            "%s includes %s.h, which is of %s alone" % (path, other, theirs)


@pytest.mark.parametrize("path", SOURCES + HEADERS)
def test_own_headers_are_quoted(path):
    """So that the test above sees them."""
    for name in re.findall(r"#\s*include\s+<(\w+)\.h>", read(path)):
        assert room(name) not in LEVELS, path


@pytest.mark.parametrize("path", SOURCES + HEADERS)
def test_nghttp2_is_for_the_session(path):
    if room(path) == "h2x_session" and path != "include/h2x_session.h":
        return
    if path != "mod_h2x.c":
        assert "<nghttp2/" not in read(path)
    used = set(re.findall(r"\bnghttp2_\w+|\bNGHTTP2_\w+", code(path)))
    allowed = NGHTTP2_OF_MODULE if path == "mod_h2x.c" else set()
    assert used <= allowed, "%s uses %s" % (path, used - allowed)


@pytest.mark.parametrize("path", SOURCES + HEADERS)
def test_no_old_string_functions(path):
    """What writes or reads past the end of a buffer."""
    assert not re.findall(
        r"\b(?:strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca)\s*\(",
        code(path))


@pytest.mark.skipif(STOCK, reason="is about mod_h2x.so")
def test_exports_one_symbol():
    out = subprocess.run(["nm", "-D", "--defined-only", MODULE_SO],
                         check=True, text=True, stdout=subprocess.PIPE).stdout
    assert [line.split()[-1] for line in out.splitlines()] == ["h2x_module"]


# --- form ---

@pytest.mark.parametrize("path", SOURCES + HEADERS + TEST_SOURCES)
def test_lines(path):
    """80 columns, no tabs, nothing behind the end of a line."""
    for number, line in enumerate(read(path).split("\n"), 1):
        where = "%s:%d" % (path, number)
        assert len(line) <= 80, "%s: %d columns" % (where, len(line))
        assert "\t" not in line, "%s: a tab" % where
        assert line == line.rstrip(), "%s: space at its end" % where


def bodies(path):
    """Name, line and text of each function of a source."""
    text = code(path)
    for start in re.finditer(r"^\{", text, re.M):
        head = text[:start.start()].rstrip()
        if not head.endswith(")"):
            continue                    # a table or a struct
        name = re.findall(r"(\w+)\s*\(", head[head.rfind("\n\n") + 1:])
        end = text.index("\n}", start.start())
        yield ((name or ["?"])[0], line_of(text, start.start()),
               text[start.start():end])


def functions(path):
    """Name, line and number of lines of each function of a source."""
    for name, line, body in bodies(path):
        yield name, line, body.count("\n") + 2


def test_functions_are_found():
    names = [name for name, _, _ in functions("h2x_stream.c")]
    assert "h2x_stream_acquire" in names and "destroy_some" in names
    assert len(names) > 20


@pytest.mark.parametrize("path", SOURCES + TEST_SOURCES)
def test_size_of_functions(path):
    for name, line, lines in functions(path):
        assert lines <= 60, "%s:%d: %s has %d lines" % (path, line, name,
                                                        lines)


#: What callbacks of nghttp2 may call, and what has nothing to do with any
#: session that is there.
IN_CALLBACKS = re.compile(
    r"nghttp2_(submit_\w+|session_get_\w+|session_want_\w+"
    r"|session_set_stream_user_data"
    r"|session_change_extpri_stream_priority"
    r"|strerror|http2_strerror|is_fatal|option_\w+|session_callbacks_\w+"
    r"|session_server_new3)$")


@pytest.mark.parametrize("path", [p for p in SOURCES
                                  if room(p) == "h2x_session"])
def test_calls_that_callbacks_must_not_make(path):
    """Before all others stands the assertion that no callback runs."""
    for name, line, body in bodies(path):
        checked = re.search(r"\bh2x_session_(check_outside|enter)\(", body)
        for call in re.finditer(r"\b(nghttp2_\w+)\(", body):
            assert IN_CALLBACKS.match(call[1]) or (
                checked and checked.start() < call.start()), \
                "%s:%d: %s() calls %s()" % (path, line, name, call[1])


@pytest.mark.parametrize("path", SOURCES + HEADERS)
def test_licence(path):
    assert "Apache License, Version 2.0" in read(path).split("\n")[0]


# --- comments ---

def declarations(path):
    """Name and first line of each function that a header declares."""
    text = re.sub(r"/\*.*?\*/", blank, read(path), flags=re.S)
    # what is in braces is no declaration of the header's own
    text = re.sub(r"\{[^{}]*\}", blank, text)
    text = re.sub(r"\{[^{}]*\}", blank, text)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)
    for match in re.finditer(r"^(?!typedef|struct|extern)\w[^;(){}]*?"
                             r"\b(h2x_\w+)\s*\([^;{}]*\)", text, re.M):
        yield match.group(1), line_of(text, match.start())


def test_declarations_are_found():
    names = [name for name, _ in declarations("include/h2x_stream.h")]
    assert "h2x_stream_acquire" in names and "h2x_segments_clear" in names
    assert "h2x_lock_acquire" in [
        name for name, _ in declarations("include/h2x_lock.h")]


@pytest.mark.parametrize("path", HEADERS)
def test_public_functions_have_comments(path):
    """A comment directly above; one may be for several in a row."""
    lines = read(path).split("\n")
    above = {}          # line that a declaration begins in: the one before it
    for name, line in declarations(path):
        above[line] = name
    for line, name in above.items():
        at = line - 2   # of the line above, from 0
        while at >= 0 and lines[at].endswith(";"):
            at -= 1     # another declaration of the same row
        assert lines[at].rstrip().endswith("*/"), \
            "%s:%d: no comment above %s()" % (path, line, name)


@pytest.mark.parametrize("path", HEADERS)
def test_public_functions_are_defined(path):
    """In the room that declares them."""
    mine = "".join(code(p) for p in SOURCES + HEADERS
                   if room(p) == room(path))
    for name, _ in declarations(path):
        assert re.search(r"^\w[^;\n]*\b%s\([^;]*?\)\s*\{" % name, mine,
                         re.M), name


# --- directives ---

def registered():
    source = read("base/h2x_conf.c")
    table = source[source.index("h2x_conf_directives[]"):]
    return re.findall(r'"(H2\w+)"', table)


def test_directives_have_rules():
    source = read("base/h2x_conf.c")
    before = source[:source.index("h2x_conf_directives[]")]
    rules = set(re.findall(r'"(H2\w+)", KIND_', before))
    own = set(re.findall(r'"(H2\w+) \'%s\': must be', before))
    assert sorted(rules | own) == sorted(registered())


def test_directives_are_in_readme():
    rows = [name for row in re.findall(r"^\| (`H2.*?) \|",
                                       read_utf8("README.md"), re.M)
            for name in re.findall(r"`(H2\w+)", row)]
    assert sorted(rows) == sorted(registered())


def read_utf8(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


def test_directives_are_tested():
    assert sorted(directives.ALL) == sorted(registered())
    tests = "".join(read_utf8(path) for path in tracked("t/*/test_*.py")
                    if path != "t/features/test_directive_values.py")
    for name in registered():
        assert re.search(r"\b%s\b" % name, tests), name
