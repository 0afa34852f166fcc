"""Modules that run programs, or ask other servers."""

import contextlib
import os
import shutil
import struct
import subprocess

from case import Ask, Case
from lib import backend

BODY = bytes(range(256)) * 200
TEXT = {"content-type": "text/plain"}


def echoes(prefix, name, path=None):
    """The answers of a program that says its name, path and size of body."""
    path = path or prefix
    return [Ask(path, has="^%s %s 0\n" % (name, prefix)),
            Ask(path, has="^%s %s %d\n" % (name, prefix, len(BODY)),
                method="POST", headers=TEXT, body=BODY)]


class Listener(backend._Listener):  # pylint: disable=protected-access
    """Says the path of each request and the size of its body."""

    def __init__(self):
        super().__init__(None)

    @contextlib.contextmanager
    def values(self):
        with self:
            yield {"PORT_OF_BACKEND": self.port}


def read(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionResetError("the peer has left")
    return data


def answer(name, path, body):
    return ("%s %s %d\n" % (name, path, len(body))).encode()


class Ajp(Listener):
    """AJP/1.3, as Tomcat speaks it."""

    CONTENT_LENGTH = 0xa008

    def connection(self, conn):
        stream = conn.makefile("rb")
        while True:
            packet = self.packet(stream)
            if packet[0] == 10:                     # CPing: CPong
                self.send(conn, b"\x09")
            elif packet[0] == 2:
                path, length = self.head(packet)
                body = b""
                while len(body) < length:
                    if body:                        # Get Body Chunk
                        self.send(conn, struct.pack(">BH", 6, 8186))
                    chunk = self.packet(stream)
                    body += chunk[2:2 + struct.unpack(">H", chunk[:2])[0]]
                self.respond(conn, answer("ajp", path, body))

    @staticmethod
    def packet(stream):
        return read(stream, struct.unpack(">xxH", read(stream, 4))[0])

    @staticmethod
    def send(conn, data):
        conn.sendall(b"AB" + struct.pack(">H", len(data)) + data)

    def head(self, packet):
        """The path and Content-Length of a Forward Request."""
        at = 2

        def number():
            nonlocal at
            at += 2
            return struct.unpack(">H", packet[at - 2:at])[0]

        def string():
            nonlocal at
            size = number()
            if size == 0xffff:
                return ""
            at += size + 1
            return packet[at - size - 1:at - 1].decode()
        string()                                    # protocol
        path = string()
        for _ in range(3):
            string()                                # addresses and names
        at += 3                                     # port, TLS
        length = 0
        for _ in range(number()):
            code = number()
            if code < 0xa000:
                at -= 2
                code = string()
            value = string()
            if code == self.CONTENT_LENGTH:
                length = int(value)
        return path, length

    def respond(self, conn, body):
        def string(text):
            return struct.pack(">H", len(text)) + text + b"\0"
        self.send(conn, struct.pack(">BH", 4, 200) + string(b"OK")
                  + struct.pack(">H", 1) + string(b"Content-Type")
                  + string(b"text/plain"))
        self.send(conn, struct.pack(">BH", 3, len(body)) + body + b"\0")
        self.send(conn, b"\x05\x01")


class Uwsgi(Listener):
    """The protocol of uWSGI."""

    def connection(self, conn):
        stream = conn.makefile("rb")
        _, size, _ = struct.unpack("<BHB", read(stream, 4))
        data, words, at = read(stream, size), [], 0
        while at < size:
            n = struct.unpack("<H", data[at:at + 2])[0]
            words.append(data[at + 2:at + 2 + n].decode("latin-1"))
            at += 2 + n
        env = dict(zip(words[::2], words[1::2]))
        body = read(stream, int(env.get("CONTENT_LENGTH") or 0))
        conn.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"
                     + answer("uwsgi", env["REQUEST_URI"], body))


class Lisp(Listener):
    """What mod_lisp says to a Lisp."""

    def connection(self, conn):
        stream = conn.makefile("rb")
        while True:
            env = {}
            for name in iter(lambda: stream.readline().strip(), b"end"):
                if not name:
                    return
                env[name.lower()] = stream.readline().strip()
            body = read(stream, int(env.get(b"content-length", 0)))
            said = answer("lisp", env[b"url"].decode(), body)
            conn.sendall(b"Status\n200 OK\nContent-Type\ntext/plain\n"
                         b"Content-Length\n%d\nKeep-Socket\n0\nend\n%s"
                         % (len(said), said))
            return


class Scgi(Listener):
    """Simple CGI."""

    def connection(self, conn):
        stream = conn.makefile("rb")
        size = b""
        while not size.endswith(b":"):
            size += read(stream, 1)
        words = read(stream, int(size[:-1]) + 1)[:-1].split(b"\0")
        env = dict(zip(words[::2], words[1::2]))
        body = read(stream, int(env[b"CONTENT_LENGTH"]))
        conn.sendall(b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"
                     + answer("scgi", env[b"REQUEST_URI"].decode(), body))


PERL = """package Echo;
use Apache2::RequestRec ();
use Apache2::RequestIO ();
use Apache2::Const -compile => 'OK';
sub handler {
    my $r = shift;
    my ($part, $all) = ('', '');
    $all .= $part while $r->read($part, 8192);
    $r->content_type('text/plain');
    $r->print('perl ', $r->uri, ' ', length($all), "\\n");
    return Apache2::Const::OK;
}
1;
"""

WSGI = """def application(environ, start_response):
    body = environ["wsgi.input"].read(
        int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%s %s %d\\n" % ("@WHO@", environ["SCRIPT_NAME"]
                             + environ["PATH_INFO"], len(body))).encode()]
"""

PYTHON = """from mod_python import apache

def handler(request):
    body = request.read()
    request.content_type = "text/plain"
    request.write("python %s %d\\n" % (request.uri, len(body)))
    return apache.OK
"""

FCGI = """#!/usr/bin/python3
import socket, sys
sys.path.insert(0, %r)
from lib import backend

def handle(request, pieces):
    request.out("Content-Type: text/plain\\r\\n\\r\\nfcgi %%s %%d\\n" %% (
        request.env["REQUEST_URI"], len(b"".join(pieces()))))
    request.end()

one = backend.FastCGI(handle)
one.sock = socket.socket(fileno=0)
one._accept()
"""


def perl_files(server):
    server.write("echo.pl", PERL)


def wsgi_files(server):
    server.write("app.wsgi", WSGI.replace("@WHO@", "wsgi"))


def passenger_files(server):
    server.write("app/passenger_wsgi.py",
                 WSGI.replace("@WHO@", "passenger"))
    server.write("app/public/static", "static\n")


def python_files(server):
    server.write("echo.py", PYTHON)


def fcgid_files(server):
    """The program takes its listener from where it can be read."""
    lib = os.path.dirname(os.path.abspath(backend.__file__))
    shutil.copytree(lib, server.path("htdocs", "lib"))
    server.write("echo.fcgi", FCGI % server.htdocs, 0o755)


def rivet_files(server):
    server.write("page.rvt", "<? puts \"rivet [expr 6 * 7]\" ?>\n")


def neko_files(server):
    server.write("page.neko", "$print(\"neko \", 6 * 7, \"\\n\");\n")
    subprocess.run(["nekoc", "page.neko"], cwd=server.htdocs, check=True)


def svn_files(server):
    repository = server.path("repository")
    subprocess.run(["svnadmin", "create", repository], check=True)
    source = server.path("source")
    os.mkdir(source)
    with open(os.path.join(source, "file"), "w") as f:
        f.write("versioned\n")
    subprocess.run(["svn", "import", "-q", "-m", "first", source,
                    "file://" + repository], check=True)
    subprocess.run(["chmod", "-R", "a+rwX", repository], check=True)


CHECKOUT = b"""<?xml version="1.0"?><S:update-report send-all="true"
 xmlns:S="svn:"><S:src-path>/svn</S:src-path><S:target-revision>1
</S:target-revision><S:entry rev="0" start-empty="true"></S:entry>
</S:update-report>"""

MAPCACHE = """<mapcache>
<source name="s" type="wms"><getmap><params><FORMAT>image/png</FORMAT>
<LAYERS>a</LAYERS></params></getmap>
<http><url>http://127.0.0.1:1/</url></http></source>
<cache name="c" type="disk"><base>%s</base></cache>
<tileset name="t"><source>s</source><cache>c</cache>
<grid>GoogleMapsCompatible</grid><format>PNG</format></tileset>
<service type="wmts" enabled="true"/><service type="tms" enabled="true"/>
<lock_dir>%s</lock_dir></mapcache>
"""


def mapcache_files(server):
    directory = server.path("run")
    server.write("mapcache.xml", MAPCACHE % (directory, directory))


PNG = b"\x89PNG\r\n\x1a\n the only tile"


def tile_files(server):
    """Tiles are kept 64 in a file: a head with offset and size of each."""
    with open(server.path("renderd.conf"), "w") as f:
        f.write("[renderd]\nsocketname=%s\nnum_threads=1\ntile_dir=%s\n"
                "[default]\nURI=/tile/\nXML=/x.xml\nMINZOOM=0\nMAXZOOM=18\n"
                % (server.path("run", "renderd"), server.path("tiles")))
    size = 20 + 64 * 8
    index = [(size, len(PNG))] + [(size + len(PNG), 0)] * 63
    path = server.path("tiles", "default", "0", "0", "0", "0", "0")
    os.makedirs(path)
    with open(os.path.join(path, "0.meta"), "wb") as f:
        f.write(struct.pack("<4s4i", b"META", 64, 0, 0, 0))
        for entry in index:
            f.write(struct.pack("<2i", *entry))
        f.write(PNG)


CASES = [
    Case("jk", "libapache2-mod-jk", "jk", """
JkWorkerProperty worker.list=one
JkWorkerProperty worker.one.type=ajp13
JkWorkerProperty worker.one.host=127.0.0.1
JkWorkerProperty worker.one.port=@PORT_OF_BACKEND@
JkLogFile ${DIR}/jk.log
JkShmFile ${DIR}/run/jk.shm
JkMountCopy All
JkMount /app/* one
""",
         echoes("/app/x", "ajp"), backend=lambda: Ajp().values()),
    Case("proxy_ajp", "apache2-bin", "proxy proxy_ajp",
         "ProxyPass /app/ ajp://127.0.0.1:@PORT_OF_BACKEND@/app/",
         echoes("/app/x", "ajp"), backend=lambda: Ajp().values()),
    Case("proxy_uwsgi", "apache2-bin", "proxy proxy_uwsgi",
         "ProxyPass /app/ uwsgi://127.0.0.1:@PORT_OF_BACKEND@/",
         echoes("/app/x", "uwsgi"), backend=lambda: Uwsgi().values()),
    Case("proxy_scgi", "apache2-bin", "proxy proxy_scgi",
         "ProxyPass /app/ scgi://127.0.0.1:@PORT_OF_BACKEND@/",
         echoes("/app/x", "scgi"), backend=lambda: Scgi().values()),
    Case("uwsgi", "libapache2-mod-uwsgi", "uwsgi", """
<Location /app>
    SetHandler uwsgi-handler
    uWSGISocket 127.0.0.1:@PORT_OF_BACKEND@
</Location>
""", echoes("/app/x", "uwsgi"), backend=lambda: Uwsgi().values()),
    Case("Ruwsgi", "libapache2-mod-ruwsgi", "Ruwsgi", """
<Location /app>
    SetHandler uwsgi-handler
    uWSGIserver 127.0.0.1:@PORT_OF_BACKEND@
</Location>
""", echoes("/app/x", "uwsgi"), backend=lambda: Uwsgi().values()),
    Case("lisp", "libapache2-mod-lisp", "lisp", """
LispServer 127.0.0.1 @PORT_OF_BACKEND@ one
<Location /app>
    SetHandler lisp-handler
</Location>
""", echoes("/app/x", "lisp"), backend=lambda: Lisp().values()),
    Case("perl", "libapache2-mod-perl2", "perl", """
PerlRequire ${HTDOCS}/echo.pl
<Location /app>
    SetHandler modperl
    PerlResponseHandler Echo
</Location>
""", echoes("/app/x", "perl"), files=perl_files),
    Case("python", "libapache2-mod-python", "python", """
<Location /app>
    SetHandler mod_python
    PythonPath "sys.path + ['${HTDOCS}']"
    PythonHandler echo
</Location>
""", echoes("/app/x", "python"), files=python_files),
    Case("wsgi", "libapache2-mod-wsgi-py3", "wsgi",
         "WSGIScriptAlias /app ${HTDOCS}/app.wsgi",
         echoes("/app/x", "wsgi"), files=wsgi_files),
    Case("wsgi, daemon", "libapache2-mod-wsgi-py3", "wsgi", """
WSGISocketPrefix ${DIR}/run/wsgi
WSGIDaemonProcess one threads=5
WSGIScriptAlias /app ${HTDOCS}/app.wsgi process-group=one \
    application-group=%{GLOBAL}
""", echoes("/app/x", "wsgi"), files=wsgi_files),
    Case("fcgid", "libapache2-mod-fcgid", "fcgid mime", """
FcgidIPCDir ${DIR}/run/fcgid
FcgidProcessTableFile ${DIR}/run/fcgid_shm
FcgidMaxProcessesPerClass 4
AddHandler fcgid-script .fcgi
<Directory ${HTDOCS}>
    Options +ExecCGI
</Directory>
""", echoes("/echo.fcgi", "fcgi"), files=fcgid_files),
    Case("passenger", "libapache2-mod-passenger", "passenger alias",
         """
PassengerRoot /usr/lib/ruby/vendor_ruby/phusion_passenger/locations.ini
PassengerDefaultRuby /usr/bin/ruby
PassengerPython /usr/bin/python3
PassengerInstanceRegistryDir ${DIR}/run
PassengerDisableSecurityUpdateCheck on
PassengerDisableAnonymousTelemetry on
Alias /app ${HTDOCS}/app/public
<Location /app>
    PassengerBaseURI /app
    PassengerAppRoot ${HTDOCS}/app
    PassengerAppType wsgi
    PassengerStartupFile passenger_wsgi.py
</Location>
""", echoes("/app/x", "passenger") + [Ask("/app/static", has="static")],
         files=passenger_files),
    Case("rivet", "libapache2-mod-rivet", "rivet",
         "AddType application/x-httpd-rivet .rvt",
         [Ask("/page.rvt", has="^rivet 42")], files=rivet_files),
    Case("neko", "libapache2-mod-neko", "neko",
         "AddHandler neko-handler .n", [Ask("/page.n", has="^neko 42")],
         files=neko_files, expected=["exit signal Abort"]),  # when stopped
    Case("dav_svn", "libapache2-mod-svn subversion", "dav_svn", """
<Location /svn>
    DAV svn
    SVNPath ${DIR}/repository
</Location>
""", [Ask("/svn/file", has="^versioned\n$"),
      Ask("/svn/", 207, method="PROPFIND", headers={"depth": "1"},
          has="<D:href>/svn/file</D:href>"),
      Ask("/svn/!svn/me", method="REPORT", body=CHECKOUT,
          headers={"content-type": "text/xml"},
          has="<S:add-file name=\"file\"")], files=svn_files),
    Case("mapcache", "libapache2-mod-mapcache", "mapcache",
         "MapCacheAlias /map ${HTDOCS}/mapcache.xml",
         [Ask("/map/wmts/1.0.0/WMTSCapabilities.xml", has="<Layer>"),
          Ask("/map/tms/1.0.0/", has="TileMapService")],
         files=mapcache_files),
    Case("tile", "libapache2-mod-tile", "tile", """
ModTileTileDir ${DIR}/tiles
LoadTileConfigFile ${DIR}/renderd.conf
ModTileRenderdSocketName ${DIR}/run/renderd
ModTileRequestTimeout 0
ModTileMissingRequestTimeout 1
""", [Ask("/tile/0/0/0.png", has="the only tile",
          fields={"content-type": "image/png"})], files=tile_files),
]
