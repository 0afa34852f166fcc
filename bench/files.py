"""The files that all servers share, and the programs that the benchmark
needs itself.  All is in one temporary directory."""

import os
import random
import shlex
import shutil
import subprocess
import tempfile

from client import Failed
from servers import HERE, ask_apxs

PARTS = {'/parts/%03d.png' % i: 300 + 27 * i for i in range(100)}
FILES = {'/page.html': 0, '/1k.png': 1024, '/100k.png': 100 << 10,
         '/10m.bin': 10 << 20, '/plain/a.png': 700, '/crs/a.png': 700,
         **PARTS}
LISTED = 300            # files in /list
CGI = '/cgi-bin/slow'   # answers after two seconds
MEMORY = '/dev/shm'     # no disk takes part where there is room
ROOM = 1 << 30


def make_base():
    """A directory for a run; the caller removes it."""
    roomy = (os.access(MEMORY, os.W_OK)
             and shutil.disk_usage(MEMORY).free > ROOM)
    base = tempfile.mkdtemp(prefix='h2x-bench-', dir=MEMORY if roomy else None)
    os.chmod(base, 0o755)
    return base


def make_site(base):
    """Files, certificate and CGI."""
    for name in ('parts', 'plain', 'crs', 'ssi', 'list', 'br', 'deflate',
                 'php', '../cgi-bin'):
        os.makedirs(os.path.join(base, 'www', name))
    html = '<!doctype html><title>page</title>%s\n' % ''.join(
        '<img src="%s">' % part for part in PARTS)
    FILES['/page.html'] = len(html)
    noise = random.Random(1)
    for path, size in FILES.items():
        with open(base + '/www' + path, 'wb') as out:
            out.write(html.encode() if path == '/page.html'
                      else noise.randbytes(size))
    with open(base + '/mime.types', 'w') as out:
        out.write('text/html html\nimage/png png\ntext/css css\n'
                  'text/plain txt\n')
    make_pages(base + '/www')
    with open(base + CGI, 'w') as out:
        out.write('#!/bin/sh\nsleep 2\n'
                  'printf "Content-Type: text/plain\\n\\nok\\n"\n')
    os.chmod(base + CGI, 0o755)
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'ec', '-nodes', '-days', '30',
         '-pkeyopt', 'ec_paramgen_curve:P-256', '-subj', '/CN=localhost',
         '-addext', 'basicConstraints=critical,CA:FALSE',
         '-keyout', base + '/key.pem', '-out', base + '/cert.pem'],
        check=True, stderr=subprocess.DEVNULL)


def make_pages(root):
    """What sites have besides files that are sent as they are."""
    pages = {'/list/file-%03d.txt' % i: 'x' * i for i in range(LISTED)}
    pages['/ssi/text.txt'] = text(8000)
    pages['/ssi/a.shtml'] = 2 * '<!--#include virtual="text.txt" -->\n'
    pages['/br/style.css'] = pages['/deflate/style.css'] = style_sheet(60000)
    pages['/deflate/small.css'] = style_sheet(20000)
    for path, content in pages.items():
        with open(root + path, 'w') as out:
            out.write(content)
    shutil.copy(os.path.join(HERE, 'page.php'), root + '/php')


def text(size):
    """Words of a language that does not exist."""
    chance = random.Random(2)
    words = [''.join(chance.choices('etaoinshrdlu', k=chance.randint(2, 9)))
             for _ in range(size // 3)]
    return ' '.join(words)[:size]


def style_sheet(size):
    """Rules as they may be in a style sheet."""
    chance = random.Random(3)
    names = text(1000).split()
    out, length = [], 0
    while length < size:
        out.append('.%s .%s-%s {\n  color: #%06x;\n  margin: %dpx %dpx;\n'
                   '  font: %d.%dem/1.4 sans-serif;\n}\n' % (
                       *chance.choices(names, k=3),
                       chance.randrange(1 << 24), chance.randrange(40),
                       chance.randrange(40), chance.randrange(3),
                       chance.randrange(10)))
        length += len(out[-1])
    return ''.join(out)[:size]


def compiler():
    """The C compiler's command, or None."""
    cc = shlex.split(os.environ.get('CC') or 'cc')
    return cc if shutil.which(cc[0]) else None


def build_program(base, name):
    """Compiles name.c; returns the program."""
    return build(base, name, name, ['-pthread'])


def build_module(base, name):
    """Compiles mod_name.c for httpd; returns the file to load."""
    flags = ['-shared', '-fPIC']
    for what in ('EXTRA_CPPFLAGS', 'EXTRA_CFLAGS'):
        flags += shlex.split(ask_apxs(what))
    for what in ('INCLUDEDIR', 'APR_INCLUDEDIR', 'APU_INCLUDEDIR'):
        flags.append('-I' + ask_apxs(what))
    return build(base, 'mod_' + name, 'mod_%s.so' % name, flags)


def build(base, source, target, flags):
    target = os.path.join(base, target)
    run = subprocess.run(
        [*compiler(), '-O2', '-o', target,
         os.path.join(HERE, source + '.c'), *flags],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise Failed('%s.c does not compile:\n%s' % (source, run.stdout))
    return target
