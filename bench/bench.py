#!/usr/bin/python3
"""Measures mod_h2x, httpd's own mod_http2, nginx and h2o side by side.

Every server runs privately on loopback ports of its own and serves the same
files with the same certificate to the same clients.  One server is under load
at a time, the others idle.  Servers take turns within a round, so that a
disturbance of the machine meets all of them.  What is compared is medians.

Each measurement is checked; a value that cannot be trusted is not printed, but
its reason is.  Choices and their grounds are in README.md beside this file.
"""

import argparse
import fnmatch
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from client import Client, Failed
from servers import CORES, HERE, SERVERS, TOP, output_of

CIPHER = 'TLS_AES_128_GCM_SHA256'
HELD = 1000             # idle connections of the memory row
PARTS = {'/parts/%03d.png' % i: 300 + 27 * i for i in range(100)}
FILES = {'/page.html': 0, '/1k.png': 1024, '/100k.png': 100 << 10,
         '/10m.bin': 10 << 20, **PARTS}
SLOW = '/cgi-bin/slow'  # answers after two seconds


# --- rows: each returns a value, and details for the JSON file --------------

def h2load(server, path, c, m, scheme, count, timeout=30, prefix=()):
    """Runs `count` requests; returns how many were answered in a second.
    Counted runs, since h2load overlooks lost connections and unanswered
    requests in runs of a given duration."""
    url = '%s://127.0.0.1:%d%s' % (
        scheme, server.tls if scheme == 'https' else server.clear, path)
    try:
        run = subprocess.run(
            [*prefix,
             'h2load', '-t1', '-c%d' % c, '-m%d' % m, '-n%d' % count, url],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed('h2load does not end: a request has no answer')
    words = r'\b(\d+) (done|succeeded|failed|errored|timeout|[2345]xx)\b'
    got = {word: int(n) for n, word in re.findall(words, run.stdout)}
    want = dict.fromkeys(('done', 'succeeded', '2xx'), count)
    wrong = ['%d %s' % (n, word) for word, n in got.items()
             if n != want.get(word, 0)]
    if wrong or len(got) != 9 or run.returncode:
        raise Failed('h2load: ' + (
            'of %d requests: %s' % (count, ', '.join(wrong)) if wrong
            else run.stdout.strip().split('\n')[-1]))
    expect = ('Application protocol: h2c',) if scheme == 'http' else (
        'Application protocol: h2', 'TLS Protocol: TLSv1.3',
        'Cipher: ' + CIPHER)
    for line in expect:
        if line not in run.stdout.splitlines():
            raise Failed('h2load does not report "%s"' % line)
    octets = int(re.search(r'\((\d+)\) data', run.stdout)[1])
    if octets != count * FILES[path]:
        raise Failed('%d octets came, not %d' % (octets, count * FILES[path]))
    return float(re.search(r'([\d.]+) req/s', run.stdout)[1])


def load(path, c, m, scheme='https'):
    """A row of requests per second."""
    def measure(server, seconds):
        # warms the server up, and tells how many requests fill the time
        count = max(20 * c * m, 500) if FILES[path] < 1 << 20 else 8 + 2 * c * m
        rate = h2load(server, path, c, m, scheme, count)
        count = max(round(rate * seconds / c), m) * c
        begin = time.monotonic(), server.cpu(), client_cpu()
        rate = h2load(server, path, c, m, scheme, count, 30 + 5 * seconds)
        return rate, {
            'requests': count,
            'server_cpu_us': (server.cpu() - begin[1]) / count * 1e6,
            'client_busy': ((client_cpu() - begin[2])
                            / (time.monotonic() - begin[0]))}
    return measure


def client_cpu():
    """Processor seconds of ended children: between two calls, h2load's."""
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime


def foreign_cpu():
    """Processor seconds used so far by what is not ours (and some that is,
    until the servers have ended), or withheld by a hypervisor."""
    with open('/proc/stat') as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    own = resource.getrusage(resource.RUSAGE_SELF)
    return (sum(ticks[:3] + ticks[7:]) / os.sysconf('SC_CLK_TCK')
            - own.ru_utime - own.ru_stime - client_cpu())


def slow(count):
    """Milliseconds until a file is whole behind `count` slow requests."""
    def measure(server, _):
        client = Client(server.tls, FILES)
        client.get('/1k.png')
        begin = time.perf_counter()
        last = client.send(*[SLOW] * count, '/1k.png')
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


def memory(server, _):
    """KB that a connection adds which made one request and went idle."""
    server.stop()
    server.start()
    clients = []
    try:
        h2load(server, '/1k.png', 4, 4, 'https', 400)
        time.sleep(0.5)
        before = server.pss()
        for _ in range(HELD):
            clients.append(Client(server.tls, FILES))
            clients[-1].get('/1k.png')
        time.sleep(1)
        value = (server.pss() - before) / HELD
        for client in clients:
            client.ping()
        return value, {}
    finally:
        for client in clients:
            client.close()


class Row:
    def __init__(self, name, title, unit, measure, servers=tuple(SERVERS)):
        self.name, self.title, self.unit = name, title, unit
        self.measure, self.servers = measure, servers
        self.more_is_better = unit == 'req/s'
        self.few = measure is memory or 'slow' in name  # long and steady


ROWS = [
    Row('1k-16x10', '1 KB file, 16 connections x 10 streams', 'req/s',
        load('/1k.png', 16, 10)),
    Row('1k-1x100', '1 KB file, 1 x 100', 'req/s', load('/1k.png', 1, 100)),
    Row('1k-1x1', '1 KB file, 1 x 1', 'req/s', load('/1k.png', 1, 1)),
    Row('1k-h2c', '1 KB file, 16 x 10, h2c', 'req/s',
        load('/1k.png', 16, 10, 'http')),
    Row('100k-16x10', '100 KB file, 16 x 10', 'req/s',
        load('/100k.png', 16, 10)),
    Row('10m-1x1', '10 MB file, 1 x 1', 'req/s', load('/10m.bin', 1, 1)),
    Row('10m-8x4', '10 MB file, 8 x 4', 'req/s', load('/10m.bin', 8, 4)),
    Row('page', 'page: HTML and 100 small parts, new connection', 'ms', page),
    *(Row('slow-%d' % n, '1 KB file behind %d two-second CGIs on its connection'
          % n, 'ms', slow(n), ('h2x', 'stock')) for n in (10, 90)),
    Row('memory', 'memory of an idle TLS connection (PSS, %s held)'
        % format(HELD, ','), 'KB', memory),
]


# --- running and reporting --------------------------------------------------

def make_site(base):
    """Files, certificate and CGI that all servers share."""
    os.chmod(base, 0o755)
    for name in ('www/parts', 'cgi-bin'):
        os.makedirs(os.path.join(base, name))
    html = '<!doctype html><title>page</title>%s\n' % ''.join(
        '<img src="%s">' % part for part in PARTS)
    FILES['/page.html'] = len(html)
    noise = random.Random(1)
    for path, size in FILES.items():
        with open(base + '/www' + path, 'wb') as out:
            out.write(html.encode() if path == '/page.html'
                      else noise.randbytes(size))
    with open(base + '/mime.types', 'w') as out:
        out.write('text/html html\nimage/png png\n')
    with open(base + SLOW, 'w') as out:
        out.write('#!/bin/sh\nsleep 2\n'
                  'printf "Content-Type: text/plain\\n\\nok\\n"\n')
    os.chmod(base + SLOW, 0o755)
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'ec', '-nodes', '-days', '30',
         '-pkeyopt', 'ec_paramgen_curve:P-256', '-subj', '/CN=localhost',
         '-addext', 'basicConstraints=critical,CA:FALSE',
         '-keyout', base + '/key.pem', '-out', base + '/cert.pem'],
        check=True, stderr=subprocess.DEVNULL)


def measure_all(rows, names, options, base):
    """Runs all rounds; returns {row: {server: {values, details, failed}}}."""
    results = {row.name: {n: {'values': [], 'details': []} for n in names
                          if n in row.servers} for row in rows}
    servers = {n: SERVERS[n](n, base) for n in names}
    try:
        for server in servers.values():
            server.start()
        for turn in range(options.rounds):
            for row in rows:
                if row.few and turn >= options.few:
                    continue
                shift = turn % len(names)
                for name in names[shift:] + names[:shift]:
                    result = results[row.name].get(name)
                    if result and 'failed' not in result:
                        measure_one(row, servers[name], options.seconds,
                                    result, turn)
    finally:
        for server in servers.values():
            server.stop()
    return results


def measure_one(row, server, seconds, result, turn):
    try:
        value, details = row.measure(server, seconds)
        server.check()
        result['values'].append(value)
        result['details'].append(details)
        text = '%s %s' % (number(value), row.unit)
    except (Failed, OSError) as error:
        reasons = [str(error) or type(error).__name__, server.crash()]
        text = result['failed'] = 'round %d: %s' % (
            turn + 1, '; '.join(filter(None, reasons)))
        server.stop()
        server.start()
    print('round %d  %-11s %-6s %s' % (turn + 1, row.name, server.name, text),
          file=sys.stderr, flush=True)
    time.sleep(0.1)


def number(value):
    return format(value, ',.0f' if value >= 100 else '.1f')


def summarise(rows, results, options, names):
    """The report as one dictionary, as written to the JSON file."""
    out = []
    for row in rows:
        cells = results[row.name]
        for cell in cells.values():
            if cell['values'] and 'failed' not in cell:
                cell['median'] = statistics.median(cell['values'])
                cell['spread'] = ((max(cell['values']) - min(cell['values']))
                                  / cell['median'])
                for key in cell['details'][0]:
                    cell[key] = statistics.median(d[key]
                                                  for d in cell['details'])
            del cell['details']
        ratios = {}
        for other in ('stock', 'nginx'):
            a, b = (cells.get(n, {}).get('median') for n in (names[0], other))
            if a and b and other != names[0]:
                ratios[other] = a / b if row.more_is_better else b / a
        out.append({'id': row.name, 'title': row.title, 'unit': row.unit,
                    'servers': cells, 'ratios': ratios})
    with open('/proc/cpuinfo') as f:
        model = re.search(r'model name\s*: (.*)', f.read())
    versions = {n: SERVERS[n].version() for n in names}
    versions['h2load'] = output_of('h2load', '--version').strip()
    versions['openssl'] = output_of('openssl', 'version').split(' (')[0].strip()
    return {'date': time.strftime('%Y-%m-%d %H:%M %z'),
            'command': ' '.join(['bench.py', *sys.argv[1:]]),
            'rounds': options.rounds, 'few': options.few,
            'seconds': options.seconds, 'others': options.others,
            'cores': CORES, 'kernel': platform.release(),
            'processor': model[1] if model else platform.machine(),
            'versions': versions, 'names': names, 'rows': out}


def table(head, lines):
    """A markdown table: the first column is text, the others numbers."""
    rule = ['---'] + ['---:'] * (len(head) - 1)
    return '\n'.join('| %s |' % ' | '.join(line)
                     for line in [head, rule, *lines])


def markdown(report):
    """The report for people: main table with notes, and processor table."""
    names, lines, cpu, notes = report['names'], [], [], []
    others = [n for n in ('stock', 'nginx') if n in names[1:]]
    first = SERVERS[names[0]].title
    at_limit = False
    for row in report['rows']:
        line = ['%s, %s' % (row['title'], row['unit'])]
        for name in names:
            cell = row['servers'].get(name, {})
            text = number(cell['median']) if 'median' in cell else ''
            if 'failed' in cell:
                notes.append('%s, %s: %s' % (row['title'], SERVERS[name].title,
                                             cell['failed']))
                text = 'failed [%d]' % len(notes)
            elif cell.get('client_busy', 0) > 0.95:
                text, at_limit = text + ' *', True
            line.append(text)
        line += ['%.3g' % row['ratios'][n] if n in row['ratios'] else ''
                 for n in others]
        spread = max((c.get('spread', -1) for c in row['servers'].values()),
                     default=-1)
        line.append('%.0f %%' % (spread * 100) if spread >= 0 else '')
        lines.append(line)
        used = [row['servers'].get(n, {}).get('server_cpu_us') for n in names]
        if any(used):
            cpu.append([row['title']] + [number(u) if u else '' for u in used])
    titles = [SERVERS[n].title for n in names]
    text = table(['work'] + titles + ['%s : %s' % (first, SERVERS[n].title)
                                      for n in others] + ['spread'], lines)
    text += (
        '\n\nMedians of %d rounds (of %d for CGI and memory). A ratio above 1 '
        'means that %s is better, for times and memory too. Spread: from the '
        'lowest to the highest value of the least steady server, relative to '
        'its median.' % (report['rounds'], report['few'], first))
    if at_limit:
        text += ' *: the client used a whole core, the server may be faster.'
    text += ''.join('\n\n[%d] %s' % (i + 1, n) for i, n in enumerate(notes))
    text += '\n\n%s; %d cores, %s, Linux %s; %s.' % (
        report['date'][:10], report['cores'], report['processor'],
        report['kernel'], '; '.join(report['versions'].values()))
    if report['others'] > 0.03:
        text += (' Other work took %.0f %% of the processors during the run: '
                 'the numbers are disturbed.' % (report['others'] * 100))
    head = ['processor time of the server for a request, µs'] + titles
    return text, table(head, cpu) if cpu else ''


def update_readme(path, text=None):
    """Replaces what stands between the two markers; without text only checks
    that they are there."""
    with open(path) as f:
        old = f.read()
    new, count = re.subn(
        r'(<!-- bench:start -->\n).*?(<!-- bench:end -->)',
        lambda m: m[1] + (text or '') + '\n' + m[2], old, flags=re.S)
    if count != 1:
        raise SystemExit('bench: %s needs <!-- bench:start --> and '
                         '<!-- bench:end --> once' % path)
    if text:
        with open(path, 'w') as f:
            f.write(new)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rows', default='*',
                        help='which rows: names or patterns, by commas (%s)'
                        % ' '.join(r.name for r in ROWS))
    parser.add_argument('--servers', help='which servers, by commas (%s); '
                        'default all that are there' % ' '.join(SERVERS))
    parser.add_argument('--rounds', type=int, default=5, help='default 5')
    parser.add_argument('--seconds', type=float, default=2,
                        help='length of a measurement under load, default 2')
    parser.add_argument('--quick', action='store_true',
                        help='2 rounds of 1 second, for a first look')
    parser.add_argument('--update-readme', nargs='?', metavar='FILE',
                        const=os.path.join(TOP, 'README.md'),
                        help='put the table into README.md')
    parser.add_argument('--json', action='store_true',
                        help='print JSON in place of the table')
    parser.add_argument('--keep', action='store_true',
                        help='keep the temporary directory, to read the logs')
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 1
    options.few = 3 if options.rounds >= 5 else 1
    if options.rounds < 1 or not 0.5 <= options.seconds <= 60:
        parser.error('at least 1 round, of 0.5 to 60 seconds')
    wanted = options.rows.split(',')
    for pattern in wanted:
        if not fnmatch.filter([r.name for r in ROWS], pattern):
            parser.error('no row %s' % pattern)
    rows = [r for r in ROWS if any(fnmatch.fnmatch(r.name, p) for p in wanted)]
    asked = options.servers.split(',') if options.servers else list(SERVERS)
    for name in asked:
        if name not in SERVERS:
            parser.error('no server %s' % name)
        if SERVERS[name].missing():
            text = '%s needs %s' % (name, SERVERS[name].missing())
            if options.servers:
                parser.error(text)
            print('bench: left out: ' + text, file=sys.stderr)
    for tool, package in ('h2load', 'nghttp2-client'), ('openssl', 'openssl'):
        if not shutil.which(tool):
            parser.error('%s is missing (Debian: %s)' % (tool, package))
    names = [n for n in SERVERS if n in asked and not SERVERS[n].missing()]
    if not names:
        parser.error('no server to measure')
    if options.update_readme:
        if 'h2x' not in names:
            parser.error('--update-readme needs mod_h2x: build it first')
        update_readme(options.update_readme)
    return options, rows, names


def main():
    options, rows, names = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('bench: terminated'))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = min(hard, 8192) if hard != resource.RLIM_INFINITY else 8192
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    begin = time.monotonic(), foreign_cpu()
    base = tempfile.mkdtemp(prefix='h2x-bench-')
    try:
        make_site(base)
        results = measure_all(rows, names, options, base)
    finally:
        if options.keep:
            print('bench: kept ' + base, file=sys.stderr)
        else:
            shutil.rmtree(base, ignore_errors=True)
    options.others = max(0, (foreign_cpu() - begin[1]) / CORES
                         / (time.monotonic() - begin[0]))
    report = summarise(rows, results, options, names)
    text, used = markdown(report)
    whole = text + '\n\n' + used if used else text
    os.makedirs(os.path.join(HERE, 'results'), exist_ok=True)
    as_json = json.dumps(report, indent=1)
    for name, content in (('latest.json', as_json), ('latest.md', whole)):
        with open(os.path.join(HERE, 'results', name), 'w') as out:
            out.write(content + '\n')
    print(as_json if options.json else whole)
    failed = any('failed' in cell for row in report['rows']
                 for cell in row['servers'].values())
    if options.update_readme:
        if failed:
            raise SystemExit('bench: README not updated, a measurement failed')
        update_readme(options.update_readme, text)
    return int(failed)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit('bench: stopped')
