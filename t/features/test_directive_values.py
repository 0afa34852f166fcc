"""A wrong value, or a directive in the wrong place, stops the start with a line
that says what is allowed."""

import re

import pytest

from lib.directives import (
    ALL, FLAGS, INT64_MAX, NUMBERS, ONE_VALUE, STRICT, TIMES)

# --- values ---

BAD_FLAGS = ["yes", "1", "onn", "of", "on,off", "true"]
BAD_NUMBERS = ["many", "-1", "+1", "10x", "1.5", "1e3", "0x10", " 10",
               "10 ", "on", "99999999999999999999", "-99999999999999999999"]
BAD_TIMES = ["soon", "-1", "-1s", "1.5", "1.5s", "10x", "10s5", "10secs",
             "2 min", "s", " 5", "on", "99999999999999999999"]


def bad_values():
    for name in FLAGS:
        yield from ((name, v, "on or off") for v in BAD_FLAGS)
    for name, (least, greatest) in NUMBERS.items():
        allowed = "a number from %d to %d" % (least, greatest)
        if greatest == INT64_MAX:
            allowed = "a number of %d or more" % least
        for value in BAD_NUMBERS + [str(least - 1), str(greatest + 1)]:
            yield name, value, allowed
    for name in TIMES:
        yield from ((name, v, "time such as 30, 30s") for v in BAD_TIMES)
    yield "H2MaxWorkerIdleSeconds", "0", "a positive time"


def good_values():
    for name in FLAGS:
        yield name, ["on", "off", "On", "OFF"]
    for name, (least, greatest) in NUMBERS.items():
        yield name, [str(least), str(least + 1), str(greatest),
                     "0%d" % greatest]
    yield "H2StreamTimeout", ["0", "1", "30", "30s", "500ms", "2min"]
    yield "H2MaxWorkerIdleSeconds", ["1", "600", "1ms", "30s", "2min", "1h"]


@STRICT
@pytest.mark.parametrize("name,value,allowed", list(bad_values()))
def test_bad_value(configtest, name, value, allowed):
    """Refused by a line that names directive, value and what is allowed."""
    accepted, said = configtest('%s "%s"' % (name, value))
    assert not accepted
    said = " ".join(said.split())
    assert "%s '%s': must be" % (name, value) in said
    assert allowed in said


@STRICT
@pytest.mark.parametrize("name,unit", [
    ("H2WindowSize", "bytes"), ("H2TLSCoolDownSecs", "seconds"),
    ("H2MinRate", "bytes a second"), ("H2Guard", "percent")])
def test_unit_of_a_number(configtest, name, unit):
    accepted, said = configtest("%s -1" % name)
    assert not accepted
    assert re.search(r"%s '-1': must be a number from \d+ to \d+ \(%s\)"
                     % (name, unit), " ".join(said.split()))


@STRICT
@pytest.mark.parametrize("name", ONE_VALUE)
@pytest.mark.parametrize("arguments", ["", '""', "on off", "1 2"])
def test_number_of_arguments(configtest, name, arguments):
    """The message goes on with what the directive is about."""
    accepted, said = configtest("%s %s" % (name, arguments))
    assert not accepted
    assert "%s takes one argument" % name in said


@STRICT
@pytest.mark.parametrize("name,values", list(good_values()))
def test_good_values(configtest, name, values):
    lines = "\n".join("%s %s" % (name, v) for v in values)
    accepted, said = configtest(lines + "\n" + lines.lower())
    assert accepted, said


# --- where they may be ---

IN_SECTIONS = ["H2CopyFiles", "H2StreamTimeout", "H2Push", "H2PushResource",
               "H2EarlyHint", "H2Upgrade", "H2ProxyRequests"]
IN_HTACCESS = {     # with these kinds of AllowOverride
    "H2CopyFiles": ["FileInfo"], "H2Push": ["AuthConfig"],
    "H2Upgrade": ["AuthConfig"], "H2ProxyRequests": ["FileInfo"],
    "H2PushResource": ["FileInfo", "AuthConfig"],
    "H2EarlyHint": ["FileInfo", "AuthConfig"],
}


def any_value(name):
    several = {"H2PushPriority": "text/css before", "H2EarlyHint": "X-A b",
               "H2Padding": "4"}
    return "on" if name in FLAGS else several.get(name, "2048")


@pytest.mark.parametrize("name", ALL)
def test_in_virtual_host(configtest, name):
    accepted, said = configtest(
        "<VirtualHost 127.0.0.1:${PORT}>\nServerName one.test\n%s %s\n"
        "</VirtualHost>" % (name, any_value(name)))
    assert accepted, said


@pytest.mark.h2x_only("has no H2StreamTimeout there")
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("section", ["Directory ${HTDOCS}", "Location /",
                                     "Files x"])
def test_in_section(configtest, name, section):
    accepted, said = configtest("<%s>\n%s %s\n</%s>" % (
        section, name, any_value(name), section.split()[0]))
    assert accepted == (name in IN_SECTIONS), said
    if not accepted:
        assert name in said and "not allowed" in said


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("override", ["None", "FileInfo", "AuthConfig",
                                      "Indexes"])
def test_in_htaccess(htaccess_server, name, override):
    server = htaccess_server
    where = "%s/%s" % (override, name)
    server.write(where + "/index.html", "hello\n")
    server.write(where + "/.htaccess", "%s %s\n" % (name, any_value(name)))
    mark = server.log_mark()
    answer = server.http1(path="/%s/index.html" % where)
    if override == "None" or override in IN_HTACCESS.get(name, []):
        assert answer.status == 200
    else:
        assert answer.status == 500
        server.wait_log(r"\.htaccess: %s not allowed here" % name, mark)


@pytest.fixture(scope="module")
def htaccess_server(httpd):
    config = "".join(
        "<Directory ${HTDOCS}/%s>\nAllowOverride %s\n</Directory>\n" % (o, o)
        for o in ("FileInfo", "AuthConfig", "Indexes"))
    with httpd(config) as server:
        server.expect_log(r"/\.htaccess: H2\w+ not allowed here")
        yield server
