"""Two servers with one configuration, under mod_h2x and under mod_http2, and
what the same request gets from each."""

import os
import re
from collections import namedtuple

from . import h2raw

#: The same in both, so that entity tags are.
MTIME = 1700000000

#: A request: method, path, header fields, body; and what else request() of
#: h2raw takes.
Case = namedtuple("Case", "method path headers body more",
                  defaults=("GET", "/", {}, None, {}))

#: What of an access log entry is compared.  Not %k, which mod_http2 makes 0
#: or 1 by chance.
LOGGED = ["method", "uri", "query", "proto", "status", "final", "sent",
          "stream", "vhost", "line", "handler"]


def age(server):
    """Gives all files the same time of modification."""
    for where, _, names in os.walk(server.htdocs):
        for name in names + ["."]:
            os.utime(os.path.join(where, name), (MTIME, MTIME))


def same_text(server, text):
    """A text without what differs from server to server, or by chance."""
    text = re.sub(r"(H2_STREAM_TAG: ).*-(\d+)", r"\1TAG-\2", text)
    text = re.sub(r"(?m)^H2_PUSHED(_ON)?: \n", "", text)
    text = text.replace(server.dir, "DIR")
    text = text.replace(":%d" % server.port, ":PORT")
    text = text.replace(":%d" % server.tls_port, ":TLS_PORT")
    return re.sub(r"(?m)^(SERVER_PORT=|REMOTE_PORT=|UNIQUE_ID=|port: "
                  r"|remote_port: |server_port: |connection: ).*$", r"\1-",
                  text, flags=re.I)


def same_tag(text):
    """H2_STREAM_TAG: its form and the number of the stream are told."""
    return re.sub(r"\S+-(\d+)", r"TAG-\1", text)


def fields(server, headers):
    """Header fields in order of their names."""
    # push-policy: mod_http2 tells that it pushes
    ignored = {"date", "server", "push-policy"}
    found = sorted((k, same_text(server, v)) for k, v in headers
                   if k not in ignored)
    found = [(k, re.sub("boundary=.*", "boundary=-", v)) for k, v in found]
    # in the order of a hash
    return [(k, sorted(v.split(",")) if k == "allow" else v)
            for k, v in found]


def hints(server, head):
    """An interim response; of Link fields, what they lead to."""
    found = fields(server, head)
    links = ",".join(v for k, v in found if k == "link")
    return ([f for f in found if f[0] != "link"]
            + sorted(set(re.findall("<(.*?)>", links))))


def body(server, response):
    """The text of a body, of which boundaries are made by chance."""
    match = re.search("boundary=(.*)", response.header("content-type", ""))
    data = bytes(response.body)
    if match:
        data = data.replace(match.group(1).encode(), b"BOUNDARY")
    return same_text(server, data.decode("latin-1"))


def told(server, r):
    """All that a client sees of one response."""
    return {
        "status": r.status,
        "fields": fields(server, r.headers),
        "interim": [hints(server, head) for head in r.interim],
        "trailers": r.trailers and sorted(r.trailers),
        "body": body(server, r),
        "ended": r.ended,
        # NO_ERROR only says that the rest of a body is not wanted
        "reset": r.reset or None,
    }


def ask(server, case, tls=True, push=False, host="localhost"):
    """One request on a connection of its own, to the end: all that the
    client sees, and what was logged."""
    mark = server.access_mark()
    settings = {h2raw.ENABLE_PUSH: int(push)}
    kw = {"sni": host} if tls else {}
    with server.h2(tls=tls, settings=settings, authority=host, **kw) as c:
        method, path, headers, data, more = case
        r = c.request(method, path, headers, data, **more)
        seen = told(server, r)
        c.wait_pushed(r)
        seen["pushed"] = sorted((p.path, p.status, p.text)
                                for p in r.promises)
    if push:
        # mod_http2 hints what it pushes
        seen["interim"] = [head for head in seen["interim"]
                           if head[0] != (":status", "103")]
    entries = server.wait_access(1 + len(r.promises), since=mark,
                                 proto="HTTP/2.0")
    seen["logged"] = sorted(logged(entry) for entry in entries)
    return seen


def logged(entry):
    """An entry of the access log, without what is meant to differ."""
    if entry["line"].startswith("HEAD ") or entry["final"] in ("204", "304"):
        entry["sent"] = "-"         # mod_http2: as if there were a body
    if entry["final"][0] in "34" or entry["method"] in ("OPTIONS", "TRACE"):
        entry["stream"] = "-"       # mod_http2: only what gets to fixups
    return [entry[name] for name in LOGGED]


def differences(one, other, ignore=()):
    """What two answers of ask() differ in, as lines."""
    found = []
    for key in set(one) - set(ignore):
        a, b = one[key], other[key]
        if a == b:
            continue
        if isinstance(a, str) and isinstance(b, str):
            a, b = a.splitlines(), b.splitlines()
        if isinstance(a, list) and isinstance(b, list):
            only = ([x for x in a if x not in b], [x for x in b if x not in a])
            a, b = only if any(only) else (a, b)
        found.append("%s: mod_h2x %r, mod_http2 %r" % (key, a, b))
    return found
