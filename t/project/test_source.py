"""Rules that the sources keep: who knows whom, size, form, comments."""

import glob
import os
import re
import subprocess

import pytest

from lib import directives, sources
from lib.settings import BUILDDIR, MODULE_SO, STOCK, TOP

#: The architecture: folders, and the parts that the sources at the top make,
#: from the top down. Files use those of their own row and of lower ones; to
#: call up, these have tables of functions (h2x_stream_owner).
ROWS = ["module", "engine", "session", "request", "wire", "stream", "push",
        "base"]

#: Files at the top, and headers in include/ that no source has the name of.
PARTS = {
    "mod_h2x": "module", "h2x_upgrade": "module",
    "h2x_session": "session",
    "h2x_stream": "stream", "h2x_stream_out": "stream",
    "h2x_push": "push",
    "h2x_filter": "request",
    "h2x": "base", "h2x_clock": "base", "h2x_pages": "base",
}

#: What all may use: log lines name the module by it.
OF_ALL = {"h2x_module"}

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
INCLUDES = sources.includes()
TEST_SOURCES = tracked("t/*/*.[ch]", "t/*/*/*.[ch]")


def read(path):
    with open(os.path.join(TOP, path), encoding="ascii") as f:
        return f.read()


def row(path):
    """Which of ROWS a file belongs to; None: it has no place."""
    folder, name = os.path.split(os.path.splitext(path)[0])
    if folder in ROWS:
        return folder
    if name in PARTS:
        return PARTS[name]
    if folder == "include":     # that of the source with this name
        return next((folder for folder in ROWS
                     if "%s/%s.c" % (folder, name) in SOURCES), None)
    return None


def blank(match):
    """Spaces in place of a text, but its line ends stay."""
    return re.sub(r"[^\n]", " ", match.group())


def code(path):
    """A source without comments, strings and characters."""
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
                  blank, read(path), flags=re.S)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


# --- where files lie ---

def test_there_are_sources():
    assert "mod_h2x.c" in SOURCES and "include/h2x_session.h" in HEADERS
    assert "engine/h2x_drive.c" in SOURCES
    assert "t/unit/test_field.c" in TEST_SOURCES


@pytest.mark.parametrize("path", SOURCES + HEADERS)
def test_has_a_row(path):
    assert row(path), "new at the top, in include/, or in a new folder"


def test_names_of_files_are_unique():
    """A log line may show a name without its folder."""
    names = [os.path.basename(path) for path in SOURCES + HEADERS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", HEADERS)
def test_headers_lie_where_they_are_used(path):
    """Those that one folder alone uses lie there, all others in include/."""
    name = os.path.basename(path)
    users = {user for (user, _), names in INCLUDES.items() if name in names}
    if path.startswith("include/"):
        users.update(source for source in SOURCES
                     if os.path.basename(source) == name[:-2] + ".c")
        folders = {os.path.dirname(user) for user in users}
        assert len(folders) > 1 or folders == {"include"}, users
    else:
        assert {row(user) for user in users} <= {row(path)}, users


def test_all_are_built_and_shipped():
    listed = re.findall(r"^ +((?:\w+/)?\w+\.[ch])\b", read("Makefile.am"),
                        re.M)
    assert sorted(listed + ["mod_h2x.c"]) == sorted(SOURCES + [
        path for path in HEADERS if not path.startswith("include/")])


@pytest.mark.parametrize("path", ["t/fuzz/run.sh", "t/engine/threads/run.sh"])
def test_scripts_build_all_folders(path):
    lists = [set(re.findall(r"\w+", names)) for names in
             re.findall(r'"\$top"/\{([a-z/,]+)\}', read(path))]
    assert {os.path.dirname(path) for path in SOURCES} - {""} in lists


# --- who knows whom ---

def upward(arrows):
    """Those that point up the rows."""
    return {(path, other): names for (path, other), names in arrows.items()
            if ROWS.index(row(other)) < ROWS.index(row(path))}


@pytest.fixture(scope="module")
def arrows():
    """What files use of others, by their includes and their objects."""
    return sources.joined(INCLUDES, sources.calls(BUILDDIR, but=OF_ALL))


looks_at_objects = pytest.mark.skipif(
    STOCK or not os.path.exists(os.path.join(BUILDDIR, ".libs", "mod_h2x.o")),
    reason="mod_h2x was not built here")


@looks_at_objects
def test_arrows_point_down(arrows):
    """So there is no circle of folders: one of its arrows would point up."""
    assert not upward(arrows)


@looks_at_objects
def test_files_make_no_circle(arrows):
    assert not sources.circular(arrows)


@looks_at_objects
def test_arrows_are_found(arrows):
    assert {"h2x_upgrade.h", "h2x_upgrade_register"} <= arrows[
        "mod_h2x.c", "h2x_upgrade.c"]
    assert "h2x_request_run" in arrows["engine/h2x_runner.c",
                                       "request/h2x_request.c"]
    assert ("h2x_stream.c", "include/h2x_stream.h") in arrows
    assert ("engine/h2x_threads.c", "mod_h2x.c") not in arrows


def test_planted_arrows_are_found(tmp_path):
    """A low file includes a high one's header and needs its data; that one
    calls it, and has nothing from a third one."""
    tree = {
        "base/h2x_low.c": '#include "h2x_high.h"\n'
                          "int h2x_low(void) { return h2x_data; }\n",
        "engine/h2x_high.h": "extern int h2x_data;\n",
        "engine/h2x_high.c": "int h2x_low(void);\n"
                             "int h2x_data = 1;\n"
                             "int h2x_high(void) { return h2x_low(); }\n",
        "engine/h2x_third.c": "int h2x_module;\n",
        "wire/h2x_other.c": "extern int h2x_module;\n"
                            "int *h2x_other = &h2x_module;\n"}
    for path, text in tree.items():
        (tmp_path / path).parent.joinpath(".libs").mkdir(parents=True,
                                                         exist_ok=True)
        (tmp_path / path).write_text(text)
    for path in sources.find(".c", tmp_path):
        folder, name = os.path.split(path)
        subprocess.run(
            [*os.environ.get("CC", "cc").split(), "-Iengine", "-c", "-o",
             "%s/.libs/%s.o" % (folder, name[:-2]), path],
            check=True, cwd=tmp_path)
    low, high = "base/h2x_low.c", "engine/h2x_high.c"
    found = sources.joined(
        sources.includes(tmp_path),
        sources.calls(tmp_path, tmp_path, but=OF_ALL))
    assert found == {(low, high): {"h2x_high.h", "h2x_data"},
                     (high, low): {"h2x_low"}}
    assert set(upward(found)) == {(low, high)}
    assert sources.circular(found) == found
    assert set(sources.calls(tmp_path, tmp_path)) == {
        *found, ("wire/h2x_other.c", "engine/h2x_third.c")}


@pytest.mark.parametrize("text, expected", [
    ("a>b b>c a>c", ""),                            # two ways, no circle
    ("a>b b>a", "a>b b>a"),
    ("a>b b>c c>a", "a>b b>c c>a"),
    ("x>a a>b b>c c>b c>y", "b>c c>b"),             # into one, and out of it
    ("a>b b>a b>c c>d d>c", "a>b b>a c>d d>c"),     # two, and between them
    ("a>b b>c c>a b>d d>a", "a>b b>c c>a b>d d>a"),
])
def test_planted_circles_are_found(text, expected):
    def graph(text):
        return {tuple(arrow.split(">")): {arrow} for arrow in text.split()}

    assert sources.circular(graph(text)) == graph(expected)


@pytest.mark.parametrize("path", SOURCES + HEADERS)
def test_own_headers_are_quoted(path):
    """So that the tests above see them."""
    names = re.findall(r"#\s*include\s+<([^>]+)>", read(path))
    assert not {os.path.basename(header) for header in HEADERS} & set(
        map(os.path.basename, names))


@pytest.mark.parametrize("path", SOURCES + HEADERS)
def test_nghttp2_is_for_the_session(path):
    if row(path) == "session" and path != "include/h2x_session.h":
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
                                  if row(p) == "session"])
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
                             r"\b(h2x_\w+)\s*\((?:[^;(){}]|\([^;(){}]*\))*\)",
                             text, re.M):
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
    """In the part or folder that declares them."""
    mine = "".join(code(p) for p in SOURCES + HEADERS
                   if row(p) == row(path))
    for name, _ in declarations(path):
        assert re.search(r"^\w[^;\n]*\b%s\([^;]*?\)\s*\{" % name, mine,
                         re.M), name


# --- directives ---

def directive_rows():
    """What each row of the table begins with, and the directive's name."""
    source = read("base/h2x_conf.c")
    table = source[source.index("h2x_conf_directives[]"):]
    return re.findall(r'^    (?:\[([^]]+)\] = )?\w+\(\s*"(H2\w+)"', table, re.M)


def registered():
    return [name for _, name in directive_rows()]


def test_values_have_directives():
    """Each key has its row: one that is missing would end the table there,
    and one that is there twice would hide the other."""
    enums = re.findall(r"^typedef enum \{([^}]*)\} h2x_(?:dir_)?conf_key;",
                       read("include/h2x_conf.h"), re.M)
    keys = re.findall(r"^    (H2X_\w+),", "".join(enums), re.M)
    rows = [re.sub(r"^DIR_ROW\((\w+)\)$", r"\1", row)
            for row, _ in directive_rows()]
    lists = rows.index("LISTS_ROW")
    assert sorted(rows[:lists]) == sorted(keys)
    assert not any(rows[lists + 1:])


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
                    if path not in ("t/features/test_directive_values.py",
                                    "t/project/test_source.py"))
    for name in registered():
        assert re.search(r"\b%s\b" % name, tests), name


# --- tests ---

def test_framework_has_no_circle():
    """No two files of t/lib import each other, in functions neither."""
    arrows = sources.Arrows()
    for path in tracked("t/lib/*.py"):
        for names in re.findall(r"^ *from \.(\w*) import ([^#\n]*)",
                                read_utf8(path), re.M):
            mine = re.findall(r"(\w+)(?: as \w+)?", names[1])
            for name in [names[0]] if names[0] else mine:
                arrows.add(os.path.basename(path), name + ".py", name)
    assert ("server.py", "h2raw.py") in arrows
    assert not sources.circular(arrows)
