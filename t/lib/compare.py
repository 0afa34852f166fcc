"""The same request over HTTP/1.1 and HTTP/2, and what differs."""

# Fields that belong to one connection or change by the second.
IGNORED = {"connection", "keep-alive", "transfer-encoding", "upgrade", "date",
           "proxy-connection", "trailer"}


def fields(response):
    return sorted((k, v) for k, v in response.headers if k not in IGNORED)


def both(server, method="GET", path="/", headers=(), body=None,
         content_length=True):
    """The responses over (HTTP/1.1, HTTP/2), each on a new connection.
    HTTP/2 gets a content-length too, as HTTP/1.1 must have one."""
    one = server.http1(method, path, headers, body)
    with server.h2() as c:
        two = c.request(method, path, headers, body,
                        length=content_length and body is not None)
    return one, two


def assert_same(server, method="GET", path="/", headers=(), body=None,
                ignore=()):
    """Asserts that status, header fields and body are the same.  Returns
    the HTTP/2 response."""
    one, two = both(server, method, path, headers, body)
    assert two.reset in (None, 0) and two.ended
    assert two.status == one.status
    drop = set(ignore)
    a = [f for f in fields(one) if f[0] not in drop]
    b = [f for f in fields(two) if f[0] not in drop]
    # The length may be left out where the frame layer has it already.
    if "content-length" not in dict(b) and "content-length" in dict(a):
        assert int(dict(a)["content-length"]) == len(two.body) \
            or method == "HEAD"
        a = [f for f in a if f[0] != "content-length"]
    assert b == a
    assert bytes(two.body) == bytes(one.body)
    return two
