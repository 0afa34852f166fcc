"""One request over HTTP/1.1, answered as a h2raw.Response to compare with."""

import http.client

from . import h2raw


class _Given(http.client.HTTPConnection):
    """http.client over a socket that is connected already."""

    def __init__(self, sock, host):
        super().__init__(host)
        self.sock = sock


def request(sock, method="GET", path="/", headers=(), body=None,
            host="localhost"):
    if isinstance(headers, dict):
        headers = headers.items()
    client = _Given(sock, host)
    response = h2raw.Response()
    try:
        client.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            client.putheader(name, value)
        if body is not None:
            client.putheader("content-length", str(len(body)))
        client.endheaders(body)
        answer = client.getresponse()
        response.headers = [(":status", str(answer.status))]
        response.headers += [(k.lower(), v) for k, v in answer.getheaders()]
        response.body += answer.read()
        response.ended = True
    finally:
        client.close()
    return response
