"""mod_rewrite and what modules can ask about the protocol."""

import pytest

CONFIG = """
<Directory ${HTDOCS}>
    RewriteEngine on
    RewriteRule ^inner$ target.txt
    RewriteRule ^inner/(.*)$ /t/env?got=$1 [QSA]
    RewriteRule ^outer$ /target.txt [R=302]
    RewriteRule ^far$ https://elsewhere.test/x [R=301]
    RewriteRule ^no$ - [F]
    RewriteRule ^gone$ - [G]
    RewriteRule ^mark$ target.txt [E=MARK:set]
    RewriteCond %{SERVER_PROTOCOL} ^HTTP/2
    RewriteRule ^proto$ target.txt
    RewriteCond %{HTTPS} =on
    RewriteRule ^https$ target.txt
    RewriteCond expr "%{HTTP2} == 'on'"
    RewriteRule ^if-h2$ target.txt
    RewriteCond %{HTTP:Cookie} user=(\\w+)
    RewriteRule ^cookie$ /t/env?user=%1
</Directory>
Header set X-Env "%{HTTP2}e" env=HTTP2
Header set X-Expr "expr=%{HTTP2}"
Header set X-Ssl "%{SSL_PROTOCOL}s"
Header set X-Mark "%{REDIRECT_MARK}e" env=REDIRECT_MARK
<If "%{HTTP2} == 'on'">
    Header set X-If two
</If>
<Else>
    Header set X-If one
</Else>
"""
MODULES = "rewrite headers"


def files(server):
    server.write("target.txt", "target\n")


@pytest.mark.parametrize("path", ["/inner", "/mark", "/proto",
                                  "/https", "/if-h2"])
def test_internal(h2, path):
    r = h2.request(path=path)
    assert (r.status, r.text) == (200, "target\n")
    assert r.header("x-mark") == ("set" if path == "/mark" else None)


def test_only_over_h2(server):
    for path in ("/proto", "/if-h2"):
        assert server.http1(path=path).status == 404


@pytest.mark.parametrize("path,status,location", [
    ("/outer", 302, "https://localhost/target.txt"),
    ("/far", 301, "https://elsewhere.test/x"),
    ("/no", 403, None), ("/gone", 410, None)])
def test_external(h2, path, status, location):
    r = h2.request(path=path)
    assert r.status == status
    assert r.header("location") == location or (
        location and r.header("location").startswith("https://localhost"))


def test_with_arguments(h2):
    r = h2.request(path="/inner/a?b=c")
    assert "args: got=a&b=c" in r.text
    r = h2.request(path="/cookie", headers=[("cookie", "x=1"),
                                            ("cookie", "user=me")])
    assert "args: user=me" in r.text


def test_body_goes_along(h2):
    r = h2.request("POST", "/inner/x", body=b"x" * 1000)
    assert "method: POST" in r.text


@pytest.mark.parametrize("h2_spoken", [True, False])
def test_variables(server, h2, h2_spoken):
    """HTTP2 for expressions, conditions and the environment."""
    r = h2.request(path="/target.txt") if h2_spoken \
        else server.http1(path="/target.txt")
    assert r.header("x-if") == ("two" if h2_spoken else "one")
    assert r.header("x-expr") == ("on" if h2_spoken else "off")
    assert r.header("x-env") == ("on" if h2_spoken else None)
    assert r.header("x-ssl") == "TLSv1.3"
