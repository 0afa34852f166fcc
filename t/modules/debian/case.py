"""What a case of check-modules is made of."""

import re


class Fault(Exception):
    """A module did not do its job."""


class Ask:
    """A request, and what its answer must have: a status, and patterns that
    its body and its fields match."""

    def __init__(self, path="/", status=200, has="", headers=None,
                 method="GET", body=None, fields=None):
        self.request = (method, path, headers or {}, body)
        self.status, self.has, self.fields = status, has, fields or {}

    def check(self, answer):
        what = "%s %s" % self.request[:2]
        if not answer.ended:
            raise Fault("%s: reset (%s)" % (what, answer.reset))
        if answer.status != self.status:
            raise Fault("%s: %s, not %d" % (what, answer.status, self.status))
        if not re.search(self.has, answer.text, re.S):
            raise Fault("%s: the body is %.80r" % (what, answer.text))
        for name, pattern in self.fields.items():
            values = ", ".join(answer.all(name))
            if not re.search(pattern, values):
                raise Fault("%s: %s is %.80r" % (what, name, values))


class Case:
    """packages: Debian's names, the module's own first
    load: names in /etc/apache2/mods-available, of httpd's own modules, or
        of libraries
    config: may use ${DIR} and the like, and @KEY@ for what backend() gives
    files: function(server), before the start
    asks: requests; or check: function(site), which raises Fault
    backend: makes a context manager that gives a dictionary
    expected: patterns of lines of the log that are no fault"""

    def __init__(self, name, packages, load, config="", asks=(), *,
                 files=None, check=None, backend=None, expected=()):
        self.name, self.packages = name, packages.split()
        self.load, self.config, self.asks = load, config, asks
        self.files, self.check, self.backend = files, check, backend
        self.expected = expected


def need(condition, *said):
    if not condition:
        raise Fault(" ".join(map(str, said)))


#: Packages without a case, and why.
LEFT_OUT = [
    ("libapache2-mod-authn-yubikey", "asks Yubico's servers"),
    ("libapache2-mod-dnssd", "does nothing at requests; needs avahi"),
    ("libapache2-mod-log-sql, -dbi, -mysql, -ssl", "needs a data base server"),
    ("libapache2-mod-md", "needs an authority of certificates"),
    ("libapache2-mod-mono", "needs Mono and its server"),
    ("libapache2-mod-netcgi-apache", "runs what was compiled with OCaml for "
     "it"),
    ("libapache2-mod-parser3, -php8.2", "need MPM prefork"),
    ("libapache2-mod-shib", "needs shibd and an identity provider"),
]
