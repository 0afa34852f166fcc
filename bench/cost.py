#!/usr/bin/python3
"""What a request costs a server: instructions, system calls, page faults.

Each server is loaded twice, the second time with more requests; what the
second load costs more, divided by how many more requests it has, is the cost
of one: start and connections cancel out.

System calls, page faults, changes of context and processor time are counted by
perf while the server runs as in bench.py, under h2load.  Instructions are
counted by callgrind, in one process of the server; those of the kernel are not
among them.  There a client sends the requests of a connection in one write and
waits for all of them, so that what the server reads at once does not depend on
how fast the machine is.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import time

import files
from client import Client, Failed
from rows import ROWS, Load
from servers import ACCOUNT, SERVERS, Other, running

CALLS = '''accept4 clock_nanosleep close epoll_ctl epoll_pwait epoll_wait
    fcntl fstat futex getpid getsockname getsockopt gettid lseek madvise mmap
    mprotect munmap newfstat newfstatat newlstat newstat openat pipe2 poll
    pread64 read readv recvfrom recvmsg sched_yield sendfile64 sendmsg sendto
    setsockopt shutdown socketpair splice statx write writev'''.split()
KERNEL = {'page-faults': 'page faults', 'context-switches':
          'changes of context', 'task-clock': 'processor time, µs'}


# --- system calls -----------------------------------------------------------

def system_calls(server, options):
    """Two dicts, for one request: calls by name, of which 'all' is their
    number; and what is in KERNEL."""
    with open('/sys/kernel/tracing/available_events') as f:
        known = set(f.read().split())
    events = [*KERNEL, 'raw_syscalls:sys_enter'] + [
        e for e in map('syscalls:sys_enter_{}'.format, CALLS) if e in known]
    out = os.path.join(server.dir, 'perf')
    counts = []
    server.start()
    try:
        options.load.prepare(server)
        options.load.run(server, options.counts[0])     # warms it up
        for count in options.counts:
            options.load.run(server, count, prefix=[
                'perf', 'stat', '-x,', '-o', out, '-e', ','.join(events),
                '-p', ','.join(map(str, server.pids()))])
            with open(out) as f:
                counts.append({
                    re.sub(r'.*sys_enter_?', '', field[2]) or 'all':
                    float(field[0]) for field in (
                        line.split(',') for line in f)
                    if len(field) > 2 and field[0][0].isdigit()})
    finally:
        server.stop()
    if not counts[0].get('all'):
        raise Failed('perf counts no system calls')
    calls = per_request(*counts, options)
    calls['task-clock'] *= 1000     # it was in ms
    return calls, {title: calls.pop(key) for key, title in KERNEL.items()}


def per_request(few, many, options):
    more = options.counts[1] - options.counts[0]
    return {name: (many[name] - few.get(name, 0)) / more for name in many}


# --- instructions -----------------------------------------------------------

def instructions(server, options):
    """Three dicts: instructions for one request of each function, own and
    with those that it calls, and of each object file."""
    out = os.path.join(server.dir, 'callgrind')
    if ACCOUNT:     # what changes its user later, callgrind cannot control
        shutil.chown(server.dir, ACCOUNT)
        for name in os.listdir(server.dir):
            shutil.chown(os.path.join(server.dir, name), ACCOUNT)
        shutil.chown(os.path.join(server.base, 'key.pem'), ACCOUNT)
    server.start(prefix=[
        'valgrind', '-q', '--tool=callgrind', '--fair-sched=yes',
        '--callgrind-out-file=' + out], alone=True, user=ACCOUNT)
    costs = []
    try:
        ask(server, options, options.counts[0])     # warms it up
        control(server, '--zero')
        for turn, count in enumerate(options.counts, 1):
            ask(server, options, count)
            control(server, '--dump')
            costs.append(read_dump('%s.%d' % (out, turn)))
    finally:
        server.stop()
    return [per_request(few, many, options) for few, many in zip(*costs)]


def ask(server, options, count):
    """Requests in batches, of one connection after the other."""
    load = options.load
    tls = load.scheme == 'https'
    clients = [Client(server.tls if tls else server.clear, files.FILES,
                      tls=tls, table=4096, coding=load.coding, seconds=60)
               for _ in range(load.c)]
    for _ in range(count // (load.c * load.m)):
        for client in clients:
            client.get(*[load.path] * load.m)
    for client in clients:
        client.close()


def control(server, what):
    time.sleep(0.5)     # what the last request leaves behind has been done
    subprocess.run(['callgrind_control', what, str(server.proc.pid)],
                   check=True, stderr=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, user=ACCOUNT,
                   timeout=60)


def read_dump(path):
    """Own and inclusive cost of each function of one of callgrind's dumps,
    and own cost of each object file.  Names are given once, "(7) name", and
    then as "(7)"."""
    names, at = {}, {}      # (kind, number) -> name; kind -> current one
    own, all_in, objects = (collections.Counter() for _ in range(3))
    with open(path) as f:
        for line in f:
            named = re.match(r'(c?)(fn|ob)=(\(\d+\))(?: (.*))?', line)
            if named:
                called, kind, number, name = named.groups()
                if name:
                    names[kind, number] = os.path.basename(name.strip())
                at[called + kind] = names[kind, number]
            elif re.match(r'[\d+*-]', line):
                cost = int(line.split()[1])
                me = at['fn'], at['ob']
                callee = at.pop('cfn', None), at.pop('cob', at['ob'])
                if not callee[0]:
                    for costs, key in (own, me), (own, 'all'), (
                            objects, me[1]):
                        costs[key] += cost
                if callee != me:
                    all_in[me] += cost
    return own, all_in, objects


# --- the report -------------------------------------------------------------

def show(title, costs, top=None):
    """`costs`: a dict for each server."""
    names = {name: max(c.get(name, 0) for c in costs) for c in costs
             for name in c}
    # 'all' comes first
    order = sorted(names, key=lambda n: (n != 'all', -names[n]))
    print(title + ' for a request')
    for name in order[:top and top + 1]:
        if names[name] > 0.005:
            print('%s  %s' % (''.join(
                format(format(c.get(name, 0), ',.2f'), '>16')
                for c in costs), name if isinstance(name, str)
                else '%-44s %s' % name))
    print(flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--servers', default='h2x',
                        help='by commas (%s); default h2x, whose file '
                        'H2X_MODULE_SO names' % ' '.join(SERVERS))
    parser.add_argument('--against', metavar='FILE',
                        help='another mod_h2x.so, as one server more: "other"')
    rows = {row.name: row for row in ROWS if isinstance(row.measure, Load)
            and not row.measure.upload}
    parser.add_argument('--row', choices=rows, metavar='ROW',
                        help='the load of a row of bench.py, in place of '
                        '--path, --h2c, -c and -m')
    parser.add_argument('--path', default='/1k.png', choices=files.FILES,
                        metavar='PATH', help='default /1k.png')
    parser.add_argument('--h2c', dest='scheme', action='store_const',
                        const='http', default='https',
                        help='over cleartext')
    parser.add_argument('-c', type=int, default=1, help='connections')
    parser.add_argument('-m', type=int, default=10, help='streams on each')
    parser.add_argument('--top', type=int, default=30,
                        help='functions to list, default 30')
    parser.add_argument('--only', choices=('calls', 'instructions'))
    options = parser.parse_args()
    options.servers = options.servers.split(',')
    if options.against:
        Other.path = os.path.abspath(options.against)
        options.servers.append('other')
    options.setup, options.needs = 'static', ()
    options.load = Load(options.path, options.c, options.m, options.scheme)
    if options.row:
        row = rows[options.row]
        options.load, options.setup = row.measure, row.setup
        options.needs = (row.needs,)
    batch = options.load.c * options.load.m
    if 'http1' in options.servers and options.only != 'calls':
        parser.error('instructions are counted with HTTP/2 only: '
                     'use --only calls')
    if batch > 500:
        parser.error('at most 500 requests at once')
    few, many = 1000, 5000
    if options.setup == 'site':
        few, many = 100, 500
    elif options.load.size >= 1 << 20:
        few, many = 20, 60      # the client's window is 1 GB
    options.counts = [max(few // batch, 1) * batch,
                      max(many // batch, 3) * batch]
    return options


def measure(servers, options):
    load = options.load
    print('%s, %d x %d; columns:' % (load.path, load.c, load.m))
    for server in servers:
        server.setup = options.setup
        print('  ' + server.version())
    print()
    if options.only != 'instructions':
        calls, kernel = zip(*[system_calls(s, options) for s in servers])
        show('system calls', calls)
        show('kernel', kernel)
    if options.only != 'calls':
        own, all_in, objects = zip(*[instructions(s, options)
                                     for s in servers])
        show('instructions', own, options.top)
        show('instructions by object file', objects, options.top)
        show('instructions with the functions called', all_in,
             2 * options.top)


def main():
    options = parse()
    base = files.make_base()
    try:
        files.make_site(base)
        with running(options.needs, base) as backends:
            measure([SERVERS[name](name, base, backends)
                     for name in options.servers], options)
    except (Failed, OSError) as error:
        sys.exit('cost: %s' % error)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == '__main__':
    main()
