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
import contextlib
import fnmatch
import json
import os
import platform
import re
import resource
import shutil
import signal
import sys
import time

import delay
import files
import report
from client import Failed, Unable
from rows import HTTPD, ROWS, Far, client_cpu
from servers import (BACKENDS, CORES, CRS, HERE, SERVERS, TOP, Httpd,
                     Other, output_of, running)


# --- running ----------------------------------------------------------------

def measure_all(rows, names, options, base, backends):
    """Runs all rounds; returns {row: {server: {values, details, failed}}}."""
    results = {row.name: {n: {'values': [], 'details': []} for n in names
                          if row.runs_on(n)} for row in rows}
    with contextlib.ExitStack() as stack:
        servers = {n: SERVERS[n](n, base, backends) for n in names}
        for server in servers.values():
            stack.callback(server.stop)
            server.start()
        for turn in range(options.rounds):
            for row in rows:
                if row.few and turn >= options.few:
                    continue
                shift = turn % len(names)
                for name in names[shift:] + names[:shift]:
                    result = results[row.name].get(name)
                    if result and not report.reason(result):
                        measure_one(row, servers[name], options.seconds,
                                    result, turn)
    return results


def measure_one(row, server, seconds, result, turn):
    try:
        server.prepare(row.setup, row.fresh)
        value, details = row.measure(server, seconds)
        server.check()
        result['values'].append(value)
        result['details'].append(details)
        text = '%s %s' % (report.number(value), row.unit)
    except (Failed, OSError) as error:
        reasons = [str(error) or type(error).__name__, server.crash()]
        kind = 'unable' if isinstance(error, Unable) else 'failed'
        text = result[kind] = 'round %d: %s' % (
            turn + 1, '; '.join(filter(None, reasons)))
        server.stop()
        server.start()
    print('round %d  %-14s %-6s %s' % (turn + 1, row.name, server.name, text),
          file=sys.stderr, flush=True)
    time.sleep(0.1)


def measure(rows, names, options):
    """Prepares what the rows need; returns the results, and how the delay
    was made."""
    needs = {row.needs for row in rows}
    netem = 'way' in needs and delay.enter_namespace()
    base = files.make_base()
    try:
        files.make_site(base)
        if netem:
            Far.way = staticmethod(delay.by_netem)
        elif 'way' in needs:
            Far.way = staticmethod(
                delay.by_relay(files.build_program(base, 'relay')))
        if needs & {'module', 'way'} and set(HTTPD) & set(names):
            files.build_module(base, 'bench')
        with running(needs, base) as backends:
            results = measure_all(rows, names, options, base, backends)
    finally:
        if options.keep:
            print('bench: kept ' + base, file=sys.stderr)
        else:
            shutil.rmtree(base, ignore_errors=True)
    return results, 'way' in needs and ('netem' if netem else 'a relay')


def foreign_cpu():
    """Processor seconds used so far by what is not ours (and some that is,
    until the servers have ended), or withheld by a hypervisor."""
    with open('/proc/stat') as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    own = resource.getrusage(resource.RUSAGE_SELF)
    return (sum(ticks[:3] + ticks[7:]) / os.sysconf('SC_CLK_TCK')
            - own.ru_utime - own.ru_stime - client_cpu())


def surroundings(options, names):
    """What was run, and where."""
    with open('/proc/cpuinfo') as f:
        model = re.search(r'model name\s*: (.*)', f.read())
    versions = {n: SERVERS[n].version() for n in names}
    versions['h2load'] = output_of('h2load', '--version').strip()
    openssl = output_of('openssl', 'version').split(' (')
    versions['openssl'] = openssl[0].strip()
    return {'date': time.strftime('%Y-%m-%d %H:%M %z'),
            'command': ' '.join(['bench.py', *sys.argv[1:]]),
            'rounds': options.rounds, 'few': min(options.few, options.rounds),
            'seconds': options.seconds, 'cores': CORES,
            'kernel': platform.release(),
            'processor': model[1] if model else platform.machine(),
            'versions': versions, 'names': names,
            'titles': {n: SERVERS[n].title for n in names}}


# --- the command ------------------------------------------------------------

def parse():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rows', default='*',
                        help='which rows: names or patterns, by commas (%s)'
                        % ' '.join(r.name for r in ROWS))
    parser.add_argument('--servers', help='which servers, by commas (%s); '
                        'default all that are there' % ' '.join(SERVERS))
    parser.add_argument('--against', metavar='FILE',
                        help='another mod_h2x.so, to take turns with this one '
                        'as the server "other"')
    parser.add_argument('--rounds', type=int, default=5, help='default 5')
    parser.add_argument('--seconds', type=float, default=2,
                        help='length of a measurement under load, default 2')
    parser.add_argument('--quick', action='store_true',
                        help='2 rounds of 1 second, for a first look')
    parser.add_argument('--results', metavar='DIR',
                        default=os.path.join(HERE, 'results'),
                        help='where the report goes; default bench/results')
    parser.add_argument('--update-readme', nargs='?', metavar='FILE',
                        const=os.path.join(TOP, 'README.md'),
                        help='put the table into README.md')
    parser.add_argument('--json', action='store_true',
                        help='print JSON in place of the tables')
    parser.add_argument('--keep', action='store_true',
                        help='keep the temporary directory, to read the logs')
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 1
    options.few = 3 if options.rounds >= 5 else 1
    if options.rounds < 1 or not 0.5 <= options.seconds <= 60:
        parser.error('at least 1 round, of 0.5 to 60 seconds')
    for tool, package in ('h2load', 'nghttp2-client'), ('openssl', 'openssl'):
        if not shutil.which(tool):
            parser.error('%s is missing (Debian: %s)' % (tool, package))
    names = choose_servers(parser, options)
    rows = choose_rows(parser, options, names)
    if options.update_readme:
        if 'h2x' not in names:
            parser.error('--update-readme needs mod_h2x: build it first')
        report.update_readme(options.update_readme)
    return options, rows, names


def choose_servers(parser, options):
    if options.against:
        Other.path = os.path.abspath(options.against)
    asked = options.servers.split(',') if options.servers else [
        n for n in SERVERS if n != 'other']
    if options.against and 'other' not in asked:
        asked.append('other')
    for name in asked:
        if name not in SERVERS:
            parser.error('no server %s' % name)
        if SERVERS[name].missing():
            text = '%s needs %s' % (name, SERVERS[name].missing())
            if options.servers:
                parser.error(text)
            leave_out(text)
    names = [n for n in SERVERS if n in asked and not SERVERS[n].missing()]
    if not names:
        parser.error('no server to measure')
    return names


def choose_rows(parser, options, names):
    compiler = None if files.compiler() else 'a C compiler'
    missing = {'module': compiler, 'way': compiler,
               'crs': Httpd.lacks('security2', *CRS),
               'brotli': Httpd.lacks('brotli'),
               **{n: kind.missing() for n, kind in BACKENDS.items()}}
    rows = []
    for pattern in options.rows.split(','):
        found = [r for r in ROWS if fnmatch.fnmatch(r.name, pattern)]
        if not found:
            parser.error('no row %s' % pattern)
        rows += found
    kept = []
    for row in ROWS:
        if row not in rows or not any(map(row.runs_on, names)):
            continue
        if missing.get(row.needs):
            leave_out('row %s needs %s' % (row.name, missing[row.needs]))
        else:
            kept.append(row)
    if not kept:
        parser.error('no row to measure')
    return kept


def leave_out(text):
    print('bench: left out: ' + text, file=sys.stderr)


def main():
    options, rows, names = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('bench: terminated'))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = min(hard, 8192) if hard != resource.RLIM_INFINITY else 8192
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    begin = time.monotonic(), foreign_cpu()
    results, way = measure(rows, names, options)
    others = max(0, (foreign_cpu() - begin[1]) / CORES
                 / (time.monotonic() - begin[0]))
    run = {**surroundings(options, names), 'others': others, 'delay': way}
    whole = report.summarise(rows, results, run)
    report.write(whole, options.results)
    print(json.dumps(whole, indent=1) if options.json
          else '\n\n'.join(report.markdown(whole)))
    failed = any('failed' in row['servers'].get(names[0], ())
                 for row in whole['rows'])
    if options.update_readme:
        if failed:
            raise SystemExit('bench: README not updated, a measurement failed')
        report.update_readme(options.update_readme, report.markdown(whole)[0])
    return int(failed)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit('bench: %s' % error)
    except KeyboardInterrupt:
        sys.exit('bench: stopped')
