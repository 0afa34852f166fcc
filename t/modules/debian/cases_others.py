"""Modules that limit, change, count and log."""

import os
import re
import struct
import subprocess
import time

from case import Ask, Case, need
from cases_access import BASIC, LOCATION, NOBODY, PAGE, htpasswd, ldap, page
from lib import clients, server as lib_server

CGI = "ScriptAlias /cgi/ ${DIR}/htdocs/cgi/\n"


def script(server, name, text):
    server.write("cgi/" + name, "#!/bin/sh\n" + text, 0o755)


def slow_script(server):
    page(server)
    script(server, "slow", "sleep 0.3\n"
           "printf 'Content-Type: text/plain\\n\\nslow\\n'\n")


def statuses(site, ask, count):
    return [r.status for r in site.all([ask] * count)]


# --- limits ---

def qos(site):
    """Of 20 requests for a slow page at once 3 are served, and then 3 more."""
    for _ in range(2):
        found = statuses(site, Ask("/cgi/slow"), 20)
        need(set(found) == {200, 503} and found.count(200) >= 3, found)
        need(found.count(200) < 12, "not limited:", found)
    ask = Ask("/in/page", has=PAGE)
    for one, answer in site.many([ask]):
        one.check(answer)


def evasive(site):
    """The first few are served, and the client is kept out then."""
    found = [r.status for _, r in site.many([Ask("/in/page", has=PAGE)])]
    need(found.count(200) in range(3, 15), found)
    need(set(found) == {200, 403} and found[-1] == 403, found)


def bandwidth(site):
    """200 KB at 100 KB a second; and ten at once share that."""
    ask = Ask("/large", has="^x{200000}$")
    start = time.monotonic()
    ask.check(site.one(ask))
    one = time.monotonic() - start
    need(one > 1, "one took %.1f s" % one)
    start = time.monotonic()
    for answer in site.all([ask] * 3):
        ask.check(answer)
    need(time.monotonic() - start > 2 * one, "three took %.1f s, one %.1f"
         % (time.monotonic() - start, one))


def large(server):
    server.write("large", "x" * 200000)


# --- what changes requests and answers ---

def sendfile_script(server):
    page(server)
    script(server, "send", "printf 'X-SendFile: %s\\n\\nnot this\\n'\n"
           % server.path("htdocs", "in", "page"))


def forward_script(server):
    page(server)
    script(server, "forward", "printf 'X-Forward: http://127.0.0.1:%d/in/page"
           "\\nContent-Type: text/plain\\n\\nnot this\\n'\n" % server.port)


def euc_file(server):
    server.write("\u65e5\u672c", "a name in Japanese\n")


def xattr_file(server):
    os.setxattr(server.write("file", "{}\n"), "user.mime_type",
                b"application/x-own")


def flac(server):
    """The least that has a title: STREAMINFO and comments."""
    info = struct.pack(">HH6xQ16x", 4096, 4096,
                       44100 << 44 | 1 << 41 | 15 << 36 | 44100)
    comment = b"".join(struct.pack("<L", len(text)) + text
                       for text in (b"here", )) + struct.pack("<L", 2)
    for text in (b"TITLE=A song", b"ARTIST=Joe"):
        comment += struct.pack("<L", len(text)) + text
    server.write("music/song.flac", b"fLaC" + struct.pack(">L", len(info))
                 + info + struct.pack(">L", 0x84 << 24 | len(comment))
                 + comment)


def upload_progress(site):
    """What the tracker says of an upload, once that is over."""
    def upload(number):
        return Ask("/cgi/take?X-Progress-ID=upload%04d" % number,
                   method="POST", body=b"x" * 40000, has="40000",
                   headers={"content-type": "application/octet-stream"})
    for number in range(3):
        upload(number).check(site.one(upload(number)))
    asks = [upload(number) for number in range(10, 20)]
    for ask, answer in zip(asks, site.all(asks)):
        ask.check(answer)
    done = Ask("/progress?X-Progress-ID=upload0015", has='"done"')
    done.check(site.one(done))


def take_script(server):
    script(server, "take", "printf 'Content-Type: text/plain\\n\\n'\n"
           "head -c $CONTENT_LENGTH | wc -c\n")


# --- addresses ---

def removed_address(site):
    """The client's address is another one for all that look."""
    for _ in range(3):
        answer = clients.curl(site.server, "/in/page", "--interface",
                              "127.0.0.5", http2=site.way != "HTTP/1.1")
        need(answer.header("address") == "127.0.0.1",
             answer.header("address"))


# --- logs ---

def slow_log(site):
    """Each slow request has a line in the log of slow ones."""
    site.all([Ask("/cgi/slow")] * 10 + [Ask("/in/page")] * 10)

    def lines():
        with open(site.server.path("slow.log")) as f:
            return f.read().count("/cgi/slow")
    lib_server.wait_for(lambda: lines() == 10, 10,
                        "ten lines in the log of slow requests")


def slow_log_file(server):
    slow_script(server)
    with open(server.path("slow.log"), "w") as f:
        os.chmod(f.name, 0o666)


def forensic(site):
    for ask, answer in site.many([Ask("/in/page", has=PAGE)]):
        ask.check(answer)
    with open(site.server.path("forensic.log")) as f:
        text = f.read()
    begun = re.findall(r"^\+([^|]*)\|GET /in/page", text, re.M)
    ended = re.findall(r"^-(.*)$", text, re.M)
    need(len(begun) == 50 and sorted(begun) == sorted(ended),
         "%d begun, %d ended" % (len(begun), len(ended)))


# --- data bases ---

def dbd_users(server):
    page(server)
    path = server.path("users.db")
    hashed = subprocess.run(["openssl", "passwd", "-apr1", "right"],
                            check=True, text=True,
                            stdout=subprocess.PIPE).stdout.strip()
    subprocess.run(["sqlite3", path, "create table users(name text, pw text);"
                    "insert into users values('joe', '%s')" % hashed],
                   check=True)
    os.chmod(path, 0o666)




CASES = [
    # which needs a library that it does not name
    Case("qos", "libapache2-mod-qos libpcre3", "libpcre.so.3 qos cgid alias",
         CGI + """
QS_LocRequestLimit /cgi 3
QS_ErrorResponseCode 503
""", files=slow_script, check=qos),
    Case("evasive", "libapache2-mod-evasive", "evasive", """
DOSHashTableSize 3097
DOSPageCount 5
DOSPageInterval 10
DOSSiteCount 1000
DOSBlockingPeriod 10
DOSLogDir ${DIR}/run
""", files=page, check=evasive),
    Case("bw", "libapache2-mod-bw", "bw", """
BandWidthModule On
ForceBandWidthModule On
BandWidth all 100000
""", files=large, check=bandwidth),
    Case("security2", "libapache2-mod-security2", "security2 cgid alias", CGI
         + """
SecRuleEngine On
SecRequestBodyAccess On
SecDataDir ${DIR}/run
SecTmpDir ${DIR}/run
SecRule ARGS "attack" "id:1,phase:2,deny,status:403"
""", [Ask("/cgi/take", method="POST", body=b"a=" + b"x" * 5000, has="5002",
          headers={"content-type": "application/x-www-form-urlencoded"}),
      Ask("/cgi/take", 403, method="POST", body=b"a=attack",
          headers={"content-type": "application/x-www-form-urlencoded"})],
         files=take_script),
    Case("xsendfile", "libapache2-mod-xsendfile", "xsendfile cgid alias", CGI
         + "XSendFile on\nXSendFilePath ${HTDOCS}\n",
         [Ask("/cgi/send", has="^%s$" % PAGE)], files=sendfile_script),
    Case("xforward", "libapache2-mod-xforward",
         "xforward cgid alias proxy proxy_http", CGI + "XForward on\n",
         [Ask("/cgi/forward", has="^%s$" % PAGE)], files=forward_script),
    Case("encoding", "libapache2-mod-encoding", "encoding", """
EncodingEngine on
SetServerEncoding UTF-8
DefaultClientEncoding EUC-JP
""", [Ask("/%C6%FC%CB%DC", has="Japanese")], files=euc_file),
    Case("mime-xattr", "libapache2-mod-mime-xattr", "mime-xattr",
         "XAttrMimeType On",
         [Ask("/file", fields={"content-type": "^application/x-own$"})],
         files=xattr_file),
    Case("musicindex", "libapache2-mod-musicindex", "musicindex", """
<Location /music>
    MusicIndex On +Stream +Download
</Location>
""", [Ask("/music/", has="A song.*Joe|Joe.*A song")], files=flac),
    Case("upload_progress", "libapache2-mod-upload-progress",
         "upload_progress cgid alias", CGI + """
<Location /cgi>
    TrackUploads On
</Location>
<Location /progress>
    ReportUploads On
</Location>
""", files=take_script, check=upload_progress),
    Case("geoip", "libapache2-mod-geoip geoip-database", "geoip headers", """
GeoIPEnable On
GeoIPDBFile /usr/share/GeoIP/GeoIP.dat
GeoIPScanProxyHeaders On
Header set Country "%{GEOIP_COUNTRY_CODE}e"
""", [Ask("/in/page", headers={"x-forwarded-for": "8.8.8.8"},
          fields={"country": "^US$"}),
      Ask("/in/page", headers={"x-forwarded-for": "193.99.144.80"},
          fields={"country": "^DE$"}),
      Ask("/in/page", fields={"country": "null"})], files=page),
    Case("rpaf", "libapache2-mod-rpaf", "rpaf headers", """
RPAFenable On
RPAFproxy_ips 127.0.0.1
Header set Address "expr=%{CONN_REMOTE_ADDR}"
""", [Ask("/in/page", headers={"x-forwarded-for": "192.0.2.7"},
          fields={"address": "^192.0.2.7$"}),
      Ask("/in/page", headers={"x-forwarded-for": "192.0.2.8"},
          fields={"address": "^192.0.2.8$"}),
      Ask("/in/page", fields={"address": "^127.0.0.1$"})], files=page),
    Case("removeip", "libapache2-mod-removeip", "removeip headers",
         "REMOVEIPenable On\nHeader set Address \"expr=%{REMOTE_ADDR}\"\n",
         files=page, check=removed_address),
    Case("log_slow", "libapache2-mod-log-slow", "log_slow cgid alias", CGI
         + """
LogSlowEnabled On
LogSlowFileName ${DIR}/slow.log
LogSlowBufferedLogs Off
LogSlowLongRequestTime 0.2
""", files=slow_log_file, check=slow_log),
    Case("form, loaded", "libapache2-mod-form", "form",
         "FormGET On\nFormPOST On\n",
         [Ask("/in/page?a=b", has=PAGE)], files=page),
    # these have no more to show without a kernel, a daemon or other modules
    Case("apparmor, loaded", "libapache2-mod-apparmor", "apparmor",
         "AADefaultHatName one", [Ask("/in/page", has=PAGE)], files=page,
         expected=["apparmor"]),
    Case("watchcat, loaded", "libapache2-mod-watchcat", "watchcat",
         "CatType all *\nCatTimeout all 60\nCatOrder all\n",
         [Ask("/in/page", has=PAGE)], files=page),
    # of httpd's own those that the other tests do not have
    Case("authn_dbd", "apache2-bin libaprutil1-dbd-sqlite3 sqlite3",
         "dbd authn_dbd auth_basic authn_core authz_user", """
DBDriver sqlite3
DBDParams ${DIR}/users.db
DBDMax 3
""" + LOCATION % "AuthBasicProvider dbd\n"
         "AuthDBDUserPWQuery \"SELECT pw FROM users WHERE name = %s\"", BASIC,
         files=dbd_users),
    Case("authnz_ldap", "apache2-bin slapd",
         "ldap authnz_ldap auth_basic authn_core authz_user",
         LOCATION % "AuthBasicProvider ldap\n"
         "AuthLDAPURL ldap://127.0.0.1:@LDAP@/dc=test?uid", BASIC,
         files=page, backend=ldap),
    Case("auth_digest", "apache2-bin",
         "auth_digest authn_file authn_core authz_user",
         LOCATION.replace("Basic", "Digest") % "AuthDigestProvider file\n"
         "AuthUserFile ${DIR}/htdocs/users",
         [Ask("/in/page", 401, fields={"www-authenticate": "^Digest.*nonce"})],
         files=htpasswd),
    Case("authn_socache", "apache2-bin",
         "authn_socache authn_file auth_basic authn_core authz_user",
         LOCATION % "AuthBasicProvider socache file\n"
         "AuthnCacheProvideFor file\n"
         "AuthUserFile ${DIR}/htdocs/users",
         BASIC + [NOBODY], files=htpasswd),
    Case("reflector", "apache2-bin", "reflector", """
<Location /mirror>
    SetHandler reflector
</Location>
""", [Ask("/mirror", method="POST", body=b"mirrored " * 3000,
          has="^(mirrored ){3000}$")]),
    Case("ext_filter", "apache2-bin", "ext_filter", """
ExtFilterDefine upper mode=output cmd="/usr/bin/tr a-z A-Z"
SetOutputFilter upper
""", [Ask("/in/page", has=PAGE.upper())], files=page),
    Case("substitute", "apache2-bin", "substitute filter", """
AddOutputFilterByType SUBSTITUTE text/plain
SetOutputFilter SUBSTITUTE
Substitute s/page/leaf/
""", [Ask("/in/page", has="the leaf")], files=page),
    Case("ratelimit", "apache2-bin", "ratelimit env", """
SetOutputFilter RATE_LIMIT
SetEnv rate-limit 400
""", [Ask("/large", has="^x{200000}$")], files=large),
    Case("log_forensic", "apache2-bin", "log_forensic",
         "ForensicLog ${DIR}/forensic.log", files=page, check=forensic),
    Case("allowmethods", "apache2-bin", "allowmethods", """
<Location />
    AllowMethods GET
</Location>
""", [Ask("/in/page", has=PAGE), Ask("/in/page", 405, method="POST",
                                     body=b"x")], files=page),
    Case("usertrack", "apache2-bin", "usertrack", "CookieTracking on",
         [Ask("/in/page", fields={"set-cookie": "^Apache="})], files=page),
    Case("speling", "apache2-bin", "speling", "CheckSpelling on",
         [Ask("/in/pagr", 301, fields={"location": "/in/page$"})],
         files=page),
]
