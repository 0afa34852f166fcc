"""The same requests over HTTP/1.1, one by one, and over HTTP/2, all at once
on one connection: modules must not mind either."""

import os
from collections import namedtuple

from . import compare

#: What Server.http1() takes.
Case = namedtuple("Case", "method path headers body",
                  defaults=("GET", "/", {}, None))


def age(server):
    """Makes the files below htdocs old: one that was changed within the
    last second has a weak ETag, and may not be cached."""
    for directory, _, names in os.walk(server.htdocs):
        for name in names:
            os.utime(os.path.join(directory, name), (1.7e9, 1.7e9))


def ask(connection, cases):
    """Opens a stream for each case, sends the bodies in turn, a piece of
    each, and waits for all.  Returns the responses."""
    asked, uploads = [], []
    for case in cases:
        fields = list(dict(case.headers).items())
        if case.body is not None:
            fields.append(("content-length", str(len(case.body))))
        r = connection.start(connection.fields(case.method, case.path, fields),
                             end=case.body is None)
        asked.append(r)
        if case.body is not None:
            uploads.append((r, case.body))
    at, size = 0, 8192
    while uploads:
        for r, body in uploads:
            connection.upload(r, body[at:at + size],
                              end=at + size >= len(body))
        at += size
        uploads = [u for u in uploads if len(u[1]) > at and not u[0].done]
    connection.wait(*asked, timeout=30)
    return asked


def same(one, two, method="GET", ignore=()):
    """'' when both responses say the same, or what differs."""
    if not two.ended or two.reset not in (None, 0):
        return "over HTTP/2: %r" % two
    a, b = (dict(status=r.status, body=bytes(r.body),
                 fields=[f for f in compare.fields(r) if f[0] not in ignore])
            for r in (one, two))
    # The length may be left out where the frame layer has it already.
    if two.header("content-length") is None and method != "HEAD":
        a["fields"] = [f for f in a["fields"] if f[0] != "content-length"]
    return "; ".join("%s: %.300r, over HTTP/2 %.300r" % (k, a[k], b[k])
                     for k in a if a[k] != b[k])


def assert_same(server, cases, times=3, ignore=(), tls=True):
    """Asserts that each case is answered over HTTP/2, where it is asked
    `times` times among the others, as over HTTP/1.1.  Returns the HTTP/2
    responses, for each case a list."""
    cases = [Case(*case) for case in cases]
    ones = [server.http1(*case, tls=tls) for case in cases]
    with server.h2(tls=tls) as c:
        twos = ask(c, cases * times)
    for i, two in enumerate(twos):
        case, one = cases[i % len(cases)], ones[i % len(cases)]
        differs = same(one, two, case.method, ignore)
        assert not differs, "%s %s: %s" % (case.method, case.path, differs)
    return [twos[i::len(cases)] for i in range(len(cases))]
