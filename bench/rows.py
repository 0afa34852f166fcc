"""What is measured: a row is called with a server and the seconds that a
measurement under load shall take.  It returns a value, and details."""

import contextlib
import filecmp
import os
import re
import resource
import select
import statistics
import subprocess
import time
import urllib.request
import zlib

from client import Client, Failed, Unable, tls_context
from files import CGI, FILES, LISTED, PARTS
from servers import CORES

CIPHER = 'TLS_AES_128_GCM_SHA256'
TLS = ('TLS Protocol: TLSv1.3', 'Cipher: ' + CIPHER,
       'Server Temp Key: X25519 253 bits')
HELD = 1000             # connections of the memory rows
STALLED, STREAMS = 100, 50      # connections with so many streams each
BIG = '/10m.bin'
HTTPD = ('h2x', 'other', 'stock')
WEB_DAV = (*HTTPD, 'nginx')


class Load:
    """h2load: `c` connections with `m` requests in flight on each.  A path
    below /proxy is that of the same file, from the backend.  With `upload`,
    a method, 10 MB go to the path.  With `connected`, the time that it takes
    to connect does not count."""

    def __init__(self, path, c, m, scheme='https', http1=False, upload=None,
                 connected=False):
        self.path, self.c, self.m, self.scheme = path, c, m, scheme
        self.connected = connected
        self.upload, self.http1 = upload, http1
        self.coding, self.argv = None, []
        self.size = 0 if upload else self.size_of(path)

    @staticmethod
    def size_of(path):
        return FILES[path.replace('/proxy', '')]

    def run(self, server, count, timeout=60, prefix=(), port=None):
        """Makes `count` requests; returns how many were answered in a second.
        Counted runs, since h2load overlooks lost connections and unanswered
        requests in runs of a given duration."""
        port = port or getattr(
            server, 'tls' if self.scheme == 'https' else 'clear')
        http1 = self.http1 or server.http1
        argv = [*prefix, 'h2load', '-t1', '-c%d' % self.c, '-m%d' % self.m,
                '-n%d' % count, *self.argv, *(['--h1'] if http1 else ())]
        if self.upload:
            sent = server.base + '/www' + BIG
            argv += ['-d', sent, '-H', ':method: ' + self.upload]
        argv += ['--connect-to=127.0.0.1:%d' % port,
                 '%s://localhost:%d%s' % (self.scheme, port, self.path)]
        try:
            run = subprocess.run(argv, stdout=subprocess.PIPE, text=True,
                                 stderr=subprocess.STDOUT, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed('h2load does not end: a request has no answer')
        self.check(run, count, http1)
        if self.upload == 'PUT':
            got = server.uploads + self.path[len('/put'):]
            if not filecmp.cmp(sent, got, shallow=False):
                raise Failed('the server keeps another file than was sent')
        return float(re.search(r'([\d.]+) req/s', run.stdout)[1])

    def check(self, run, count, http1=False):
        words = r'\b(\d+) (done|succeeded|failed|errored|timeout|[2345]xx)\b'
        got = {word: int(n) for n, word in re.findall(words, run.stdout)}
        want = dict.fromkeys(('done', 'succeeded', '2xx'), count)
        wrong = ['%d %s' % (n, word) for word, n in got.items()
                 if n != want.get(word, 0)]
        if wrong or len(got) != 9 or run.returncode:
            raise Failed('h2load: ' + (
                'of %d requests: %s' % (count, ', '.join(wrong)) if wrong
                else run.stdout.strip().split('\n')[-1]))
        protocol = ('http/1.1' if http1 else 'h2c' if self.scheme == 'http'
                    else 'h2')
        for line in ('Application protocol: ' + protocol,
                     *(TLS if self.scheme == 'https' else ())):
            if line not in run.stdout.splitlines():
                raise Failed('h2load does not report "%s"' % line)
        octets = int(re.search(r'\((\d+)\) data', run.stdout)[1])
        if not self.upload and octets != count * self.size:
            raise Failed('%d octets came, not %d'
                         % (octets, count * self.size))

    def few(self):
        """How many requests come before those that are measured."""
        if self.upload or self.size >= 1 << 20:
            return 8 + 2 * self.c * self.m
        return max(20 * self.c * self.m, 500)

    def prepare(self, server):
        """To be called once a server has started, before run()."""

    def __call__(self, server, seconds):
        """Requests in a second."""
        self.prepare(server)
        # warms the server up, and tells how many requests fill the time
        rate = self.run(server, self.few())
        count = max(round(rate * seconds / self.c), self.m) * self.c
        begin = time.monotonic(), server.cpu(), client_cpu()
        rate = self.run(server, count, 30 + 5 * seconds)
        took = time.monotonic() - begin[0]
        by_server = server.cpu() - begin[1]
        by_client = client_cpu() - begin[2]
        if self.connected:
            connecting = self.c / self.run(server, self.c)
            rate = (count - self.c) / (count / rate - connecting)
        return rate, {'requests': count,
                      'server_cpu_us': by_server / count * 1e6,
                      'client_busy': by_client / took,
                      'machine_busy': (by_server + by_client) / took / CORES}


class Site(Load):
    """A page of a site, over TLS: as long as httpd makes it in HTTP/1.1,
    where is_right(body) holds.  `coding`: what the client accepts, and must
    get."""

    def __init__(self, path, c, m, is_right, coding=None):
        super().__init__(path, c, m)
        self.is_right = is_right
        if coding:
            self.coding = coding
            self.argv = ['-H', 'accept-encoding: ' + coding]

    @staticmethod
    def size_of(_):
        return 0        # not known before prepare()

    def prepare(self, server):
        request = urllib.request.Request(
            'https://localhost:%d%s' % (server.tls, self.path),
            headers={'Accept-Encoding': self.coding} if self.coding else {})
        with urllib.request.urlopen(request, timeout=20,
                                    context=tls_context('http/1.1')) as got:
            body = got.read()
            if (got.headers['Content-Encoding'] != self.coding
                    or not self.is_right(body)):
                raise Failed('%s is not what it should be' % self.path)
        self.size = len(body)

    def few(self):
        return 2 * self.c * self.m


class Far:
    """Milliseconds of one of the transfers that fill the time, one after the
    other on a new connection over a long way."""
    way = None      # what gives the port that leads there: see delay.py

    def __init__(self, load):
        self.load = load

    def __call__(self, server, seconds):
        with Far.way(server.tls) as port:
            rate = self.load.run(server, 1, port=port)
            count = max(1, round(rate * seconds))
            rate = self.load.run(server, count, 60 + 5 * seconds, port=port)
        return 1000 / rate, {'requests': count}


def client_cpu():
    """Processor seconds of ended children: between two calls, h2load's."""
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime


def slow(path, count):
    """Milliseconds until a file is whole behind `count` requests for what
    takes two seconds."""
    def measure(server, _):
        client = Client(server.tls, FILES)
        client.get('/1k.png')
        begin = time.perf_counter()
        last = client.send(*[path] * count, '/1k.png')
        client.wait(lambda: last not in client.open)
        value = (time.perf_counter() - begin) * 1000
        client.wait(lambda: not client.open)
        client.close()
        return value, {}
    return measure


def page(server, seconds):
    """Milliseconds from connect until a page and its parts are whole."""
    times, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        begin = time.perf_counter()
        client = Client(server.tls, FILES)
        client.get('/page.html')
        client.get(*PARTS)
        times.append((time.perf_counter() - begin) * 1000)
        client.close()
    return statistics.median(times), {'loads': len(times)}


class Paced:
    """Microseconds of the server's processor time for a request, where `c`
    connections make `rate` requests a second each, by turns."""
    def __init__(self, c, rate):
        self.c, self.rate = c, rate

    def __call__(self, server, seconds):
        gap = 1 / (self.c * self.rate)
        count, times = self.c * max(5, round(seconds * self.rate)), []
        with connections(server) as clients:
            for _ in range(self.c):
                clients.append(Client(server.tls, FILES))
                clients[-1].get('/1k.png')
            time.sleep(gap)
            begin, cpu = time.monotonic(), server.cpu()
            for i in range(count):
                asked = time.monotonic()
                clients[i % self.c].get('/1k.png')
                times.append(time.monotonic() - asked)
                time.sleep(max(0, begin + (i + 1) * gap - time.monotonic()))
            value = (server.cpu() - cpu) / count * 1e6
        return value, {'requests': count,
                       'latency_us': statistics.median(times) * 1e6}


@contextlib.contextmanager
def connections(server):
    """A list of connections that are closed in the end; the server may have
    just been started."""
    clients = []
    try:
        Load('/1k.png', 4, 4).run(server, 400)      # warms it up
        yield clients
    finally:
        for client in clients:
            client.close()


def settled(measure):
    """What measure() returns when it has stopped to change."""
    value, until = measure(), time.monotonic() + 20
    while time.monotonic() < until:
        time.sleep(0.5)
        last, value = value, measure()
        if abs(value - last) <= 0.002 * value:
            return value
    raise Failed('the memory of the server does not settle')


def idle(server, _):
    """KB that a connection adds which made one request and went idle."""
    with connections(server) as clients:
        before = settled(server.pss)
        for _ in range(HELD):
            clients.append(Client(server.tls, FILES))
            clients[-1].get('/1k.png')
        value = (settled(server.pss) - before) / HELD
        for client in clients:
            client.ping()
        return value, {}


def stalled(window):
    """KB that a connection adds which asked for 10 MB and allows `window` of
    it, but reads nothing."""
    def measure(server, _):
        with connections(server) as clients:
            before, threads = settled(server.pss), server.all_threads()
            busy = busy_workers(server)
            for _ in range(HELD):
                clients.append(begin(server, window, len(clients)))
            value = (settled(server.pss) - before) / HELD
            more = {'threads': server.all_threads() - threads}
            if busy is not None:
                more['busy'] = busy_workers(server) - busy
            other = Client(server.tls, FILES)   # has a thread for it
            other.get('/1k.png')
            other.close()
            return value, more
    return measure


def stalled_streams(server, _):
    """MB that connections add which make many small requests each and allow
    nothing of the responses.  All are had in the end."""
    with connections(server) as clients:
        before = settled(server.pss)
        for _ in range(STALLED):
            clients.append(Client(server.tls, FILES, window=0))
            clients[-1].send(*['/1k.png'] * STREAMS)
        for client in clients:
            client.ping()
        value = (settled(server.pss) - before) / 1024
        for client in clients:
            client.allow(65535)
            client.wait(lambda: not client.open)
        return value, {}


def begin(server, window, before):
    """A client whose download has begun, besides as many as were `before`."""
    try:
        client = Client(server.tls, FILES, window, 64 << 10)
        client.send(BIG)
        if select.select([client.sock], [], [], 10)[0]:
            return client
    except OSError:     # also a timeout
        pass
    raise Unable('not served besides %d of them' % before)


def busy_workers(server):
    """Threads of httpd that are in a request, by mod_status; else None."""
    if server.name not in HTTPD:
        return None
    url = 'http://127.0.0.1:%d/server-status?auto' % server.clear
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(re.search(r'^BusyWorkers: (\d+)', answer.read().decode(),
                             re.M)[1])


class Row:
    """`few`: long and steady, so that few rounds will do.  `setup`: one of
    servers.SETUPS.  `fresh`: it needs a server that has done nothing yet.
    `needs`: what else it does: "backend", "node", "php", "module", "way",
    "crs" or "brotli"."""

    def __init__(self, name, title, unit, measure, servers=None,
                 section='main', few=False, setup='static', fresh=False,
                 needs=None):
        self.name, self.title, self.unit = name, title, unit
        self.measure, self.servers = measure, servers
        self.section, self.few, self.needs = section, few, needs
        self.setup, self.fresh = setup, fresh
        self.more_is_better = unit == 'req/s'

    def runs_on(self, name):
        return (name != 'http1' if self.servers is None
                else name in self.servers)


def load(name, title, *args, **more):
    """A row of requests per second under load."""
    kinds = {key: more.pop(key) for key in ('scheme', 'http1', 'upload',
                                           'connected') if key in more}
    return Row(name, title, 'req/s', Load(*args, **kinds), **more)


def small_files():
    for name, title, *work in (
            ('1k-16x10', '1 KB file, 16 connections x 10 streams',
             '/1k.png', 16, 10),
            ('1k-1x100', '1 KB file, 1 x 100', '/1k.png', 1, 100),
            ('1k-1x1', '1 KB file, 1 x 1', '/1k.png', 1, 1),
            ('1k-h2c', '1 KB file, 16 x 10, h2c', '/1k.png', 16, 10, 'http'),
            ('100k-16x10', '100 KB file, 16 x 10', '/100k.png', 16, 10),
            ('10m-1x1', '10 MB file, 1 x 1', BIG, 1, 1),
            ('10m-8x4', '10 MB file, 8 x 4', BIG, 8, 4)):
        yield load(name, title, *work)
    yield Row('page', 'page: HTML and 100 small parts, new connection', 'ms',
              page)


def proxied():
    path = '/proxy/1k.png'
    for c, m in (16, 10), (1, 50), (1, 1):
        yield load('proxy-%dx%d' % (c, m), '1 KB proxied, %d x %d' % (c, m),
                   path, c, m, setup='dynamic', needs='backend')


def uploads():
    for method, path in ('PUT', '/put/10m.bin'), ('POST', '/post'):
        for c, m in (1, 1), (8, 4):
            yield load('%s-%dx%d' % (method.lower(), c, m),
                       '10 MB %s, %d x %d' % (method, c, m), path, c, m,
                       upload=method, servers=WEB_DAV, setup='dynamic',
                       needs='module' if method == 'POST' else None)


def paced():
    for name, title, c, rate in (
            ('paced-1', 'one connection, one a second', 1, 1),
            ('paced-20', '20 x 50 a second', 20, 50),
            ('paced-100', '100 x 10 a second', 100, 10)):
        yield Row(name, 'processor time of a request: ' + title, 'µs',
                  Paced(c, rate), few=True)


def far_away():
    yield Row('far-down', '10 MB file over 50 ms round trip', 'ms',
              Far(Load(BIG, 1, 1)), few=True, setup='dynamic', needs='way')
    yield Row('far-up', '10 MB POST over 50 ms round trip', 'ms',
              Far(Load('/post', 1, 1, upload='POST')), few=True, needs='way',
              setup='dynamic', servers=WEB_DAV)


def memory():
    held = '(PSS, %s held)' % format(HELD, ',')
    for name, title, measure in (
            ('idle', 'memory: idle TLS connection ' + held, idle),
            ('stalled', 'memory: 10 MB download %s, socket unread' % held,
             stalled(1 << 24)),
            ('stalled-window', 'memory: the same, window of 64 KB used up',
             stalled(65535))):
        yield Row(name, title, 'KB', measure, few=True, fresh=True)
    yield Row('stalled-streams', 'memory: %d x %d GETs of 1 KB, window 0 (PSS)'
              % (STALLED, STREAMS), 'MB', stalled_streams, few=True,
              fresh=True)


def behind_slow():
    for name, title, path, n in (
            ('slow-10', 'two-second handlers', '/slow', 10),
            ('slow-90', 'two-second handlers', '/slow', 90),
            ('slow-190', 'two-second handlers', '/slow', 190),
            ('cgi-90', 'two-second CGIs', CGI, 90)):
        yield Row(name, '1 KB file behind %d %s' % (n, title), 'ms',
                  slow(path, n), servers=HTTPD, few=True, setup='large',
                  needs='module')


def http1():
    """Through the same httpd, HTTP/2 and HTTP/1.1 with as many connections
    or requests in flight."""
    for c, m in (16, 10), (1, 50), (1, 1):
        yield load('http2-%dx%d' % (c, m), '1 KB proxied, %d x %d' % (c, m),
                   '/proxy/1k.png', c, m, servers=('h2x',), section='http1',
                   needs='backend', few=True, setup='large')
    for c in 1, 16, 50, 160:
        yield load('http1-%d' % c, '1 KB proxied, HTTP/1.1, %d connections'
                   % c, '/proxy/1k.png', c, 1, http1=True, servers=('h2x',),
                   section='http1', needs='backend', few=True, setup='large')


def scaling():
    for c in 1, 4, 16, 64, 256:
        yield load('connections-%d' % c, '%d x 10' % c, '/1k.png', c, 10,
                   connected=True, servers=('h2x',), section='connections',
                   few=True, setup='large')
    for m in 1, 10, 100, 1000:
        yield load('streams-%d' % m, '1 x %d' % m, '/1k.png', 1, m,
                   servers=('h2x',), section='streams', few=True,
                   setup='large')


def sites():
    """What sites do with httpd; each also by HTTP/1.1."""
    for name, title, path, is_right, coding, needs in (
            ('plain', 'small file beside mod_security', '/plain/a.png',
             lambda body: len(body) == 700, None, 'crs'),
            ('crs', 'small file, rules of OWASP', '/crs/a.png',
             lambda body: len(body) == 700, None, 'crs'),
            ('ssi', 'server-side includes', '/ssi/a.shtml',
             lambda body: 16000 <= len(body) < 16100, None, None),
            ('listing', 'listing of %d files' % LISTED, '/list/',
             lambda body: body.count(b'href="file-') == LISTED, None, None),
            ('brotli', '60 KB of CSS, mod_brotli', '/br/style.css',
             lambda body: 1000 < len(body) < 30000, 'br', 'brotli'),
            ('deflate', '60 KB of CSS, mod_deflate', '/deflate/style.css',
             is_style_sheet(60000), 'gzip', None),
            ('node', 'page by Node, proxied', '/node/', is_page, None, 'node'),
            ('php', 'page by php-fpm', '/php/page.php', is_page, None,
             'php')):
        for c, m in (1, 10), (8, 10):
            yield Row('site-%s-%dx%d' % (name, c, m),
                      '%s, %d x %d' % (title, c, m), 'req/s',
                      Site(path, c, m, is_right, coding), section='site',
                      servers=(*HTTPD, 'http1'), setup='site', needs=needs)


def compressed():
    """Style sheets by mod_deflate without what other sites load; by nginx with
    gzip at the same level."""
    for size, path in (60, '/deflate/style.css'), (20, '/deflate/small.css'):
        for c, m in (1, 10), (8, 10):
            yield Row('deflate%d-%dx%d' % (size, c, m),
                      '%d KB of CSS, compressed, %d x %d' % (size, c, m),
                      'req/s', Site(path, c, m, is_style_sheet(size * 1000),
                                    'gzip'), section='site',
                      servers=(*HTTPD, 'http1', 'nginx'))


def is_style_sheet(size):
    """Does gzip make it of so much?"""
    return lambda body: len(zlib.decompress(body, 31)) == size


def is_page(body):
    """Of page.js or page.php."""
    return body.count(b'<li>') == 100 and body.endswith(b'</html>\n')


ROWS = [*small_files(), *paced(), *proxied(), *uploads(), *far_away(),
        *memory(), *behind_slow(), *sites(), *compressed(), *http1(),
        *scaling()]
