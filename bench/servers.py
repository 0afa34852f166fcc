"""The servers that are compared: each a private one on loopback ports of its
own, in a directory of its own, from a template in conf/."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import string
import subprocess
import time

from client import Failed

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
CORES = len(os.sched_getaffinity(0))
# what servers change to, when root runs them
ACCOUNT = None if os.geteuid() else next(
    u for u in ('www-data', 'apache', 'nobody')
    if u in {p.pw_name for p in pwd.getpwall()})


# How servers are set up for a row.  Modules that other rows need would cost
# httpd something for each static file.  Threads are those of a child of httpd.
SETUPS = {
    'static': {'more': (), 'threads': 64, 'streams': 100},
    'dynamic': {'more': ('bench', 'dav', 'dav_fs', 'proxy', 'proxy_http'),
                'threads': 64, 'streams': 100}}
SETUPS['large'] = {**SETUPS['dynamic'], 'threads': 256, 'streams': 1000}
# what is not installed is not loaded
SETUPS['site'] = {'more': ('unique_id', 'security2', 'include', 'brotli',
                           'proxy', 'proxy_http', 'proxy_fcgi'),
                  'threads': 64, 'streams': 200}


# the rules of OWASP, as Debian's modsecurity-crs has them
CRS = '/etc/modsecurity/crs/crs-setup.conf', '/usr/share/modsecurity-crs/rules'


def output_of(*argv):
    """What a program says (both streams), or '' when it cannot run."""
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, cwd=TOP).stdout
    except OSError:
        return ''


def find(*names):
    """The first of these programs that is installed, or None."""
    path = os.environ.get('PATH', '') + ':/usr/sbin'
    found = (shutil.which(n, path=path) for n in names)
    return next(filter(None, found), None)


def free_ports(count):
    socks = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in socks]
    for sock in socks:
        sock.close()
    return ports


APXS = os.environ.get('APXS') or find('apxs', 'apxs2')


def ask_apxs(what):
    """What httpd was built with."""
    return output_of(APXS, '-q', what).strip() if APXS else ''


class Server:
    """A subclass has a title, its program (None: not installed), version(),
    and command(), which writes the configuration."""

    listens = 'tls', 'clear'    # the ports that it has
    alone = ()                  # arguments for a single process
    setup = 'static'            # of SETUPS
    http1 = False               # h2load is to speak HTTP/1.1 with it

    def __init__(self, name, base, backends=None):
        """`backends`: those of BACKENDS that run, by name."""
        self.name, self.base, self.proc = name, base, None
        self.backends = backends or {}
        self.dir = os.path.join(base, name)
        self.access_log = os.path.join(self.dir, 'access.log')
        self.error_log = os.path.join(self.dir, 'error.log')
        self.uploads = os.path.join(self.dir, 'up')
        os.makedirs(self.uploads)
        os.chmod(self.dir, 0o755)
        os.chmod(self.uploads, 0o777)

    @classmethod
    def missing(cls):
        return None if cls.program else cls.title

    def configure(self, template, user, **keys):
        """Writes the configuration; returns its name."""
        setup = SETUPS[self.setup]
        with open(os.path.join(HERE, 'conf', template)) as f:
            text = string.Template(f.read())
        conf = os.path.join(self.dir, 'conf')
        with open(conf, 'w') as f:
            f.write(text.substitute(
                keys, dir=self.dir, root=self.base, cores=CORES, tls=self.tls,
                clear=self.clear, **self.addresses(),
                threads=setup['threads'], workers=2 * setup['threads'],
                streams=setup['streams'],
                user=user.replace('%s', ACCOUNT) if ACCOUNT else ''))
        return conf

    def addresses(self):
        """Where the backends are; one that does not run has a port that
        refuses, or a socket that is not there."""
        return {name: getattr(self.backends[name], kind.listens[0])
                if name in self.backends else 9
                for name, kind in BACKENDS.items()}

    def start(self, prefix=(), alone=False, user=None):
        """Starts the server and waits until its ports answer."""
        self.tls, self.clear = free_ports(2)
        argv = [*prefix, *self.command(), *(self.alone if alone else ())]
        if os.path.exists(self.error_log):      # of the one before
            os.replace(self.error_log, self.error_log + '.old')
        with open(os.path.join(self.dir, 'output'), 'wb') as out:
            self.proc = subprocess.Popen(argv, stdout=out, stderr=out,
                                         user=user, stdin=subprocess.DEVNULL)
        until = time.monotonic() + (60 if prefix else 10)
        for port in self.listens:
            while not self.answers(getattr(self, port)):
                if self.proc.poll() is not None or time.monotonic() > until:
                    raise SystemExit('bench: %s does not start:\n%s'
                                     % (self.name, self.complaints()))
                time.sleep(0.05)
        time.sleep(0.5)

    @staticmethod
    def answers(port):
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
            return True
        except OSError:
            return False

    def complaints(self):
        """The last lines of what the server printed and logged."""
        text = ''
        for name in (os.path.join(self.dir, 'output'), self.error_log):
            try:
                with open(name, errors='replace') as f:
                    text += f.read()
            except FileNotFoundError:
                pass
        return '\n'.join(text.splitlines()[-10:])

    def stop(self):
        if self.proc is None:
            return
        pids = self.pids()
        self.proc.terminate()
        try:
            self.proc.wait(15)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.proc.wait()
        self.proc = None

    def prepare(self, setup, fresh):
        """Sets it up as asked for; `fresh`: it is started anew for that."""
        if fresh or setup != self.setup:
            self.stop()
            self.setup = setup
            self.start()

    def pids(self):
        """The master and all its descendants."""
        parents = {}
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open('/proc/%s/stat' % pid) as f:
                    fields = f.read().rsplit(')')[-1].split()
                parents[int(pid)] = int(fields[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
        mine = [self.proc.pid]
        for pid in mine:
            mine += [p for p, parent in parents.items() if parent == pid]
        return mine

    def cpu(self):
        """Processor seconds used so far by the server's processes."""
        # see clock_getcpuclockid(3), which Python has for threads alone
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self.pids())

    def pss(self):
        """Memory in KB; a page shared by n processes counts 1/n for each."""
        total = 0
        for pid in self.pids():
            with open('/proc/%d/smaps_rollup' % pid) as f:
                total += int(re.search(r'^Pss:\s+(\d+)', f.read(), re.M)[1])
        return total

    def all_threads(self):
        return sum(len(os.listdir('/proc/%d/task' % pid))
                   for pid in self.pids())

    def check(self):
        """After a measurement: it was logged, and no process crashed."""
        if self.proc.poll() is not None:
            raise Failed('the server ended')
        if not os.path.getsize(self.access_log):
            raise Failed('the access log is empty')
        os.truncate(self.access_log, 0)
        if self.crash():
            raise Failed('a process of the server crashed')

    def crash(self):
        """The line of the error log that tells of a crash, or None."""
        line = re.search('.*exit(ed on)? signal.*', self.complaints())
        return line and line[0]


class Httpd(Server):
    """httpd with its own HTTP/2 module; H2x below puts another there."""
    title, module = 'mod_http2', 'http2'
    program = ask_apxs('sbindir') + '/' + ask_apxs('progname')
    modules = ask_apxs('LIBEXECDIR')
    path = os.path.join(modules, 'mod_http2.so')
    alone = ['-DONE_PROCESS']
    # those compiled in are skipped
    others = '''unixd log_config logio mpm_event access_compat alias auth_basic
        authn_core authn_file authz_core authz_host authz_user autoindex cgid
        deflate dir env filter mime negotiation reqtimeout setenvif
        socache_shmcb ssl status'''.split()

    @classmethod
    def lacks(cls, module, *more):
        """Which of these files is not there, or None."""
        return next((p for p in (cls.modules + '/mod_%s.so' % module, *more)
                     if not os.path.exists(p)), None)

    @classmethod
    def missing(cls):
        return next((p for p in (APXS or 'apxs', cls.program, cls.path)
                     if not os.path.exists(p)), None)

    @classmethod
    def version(cls):
        with open(cls.path, 'rb') as f:
            own = re.search(rb'\0(?:mod_\w+/)?(\d+\.\d+\.\d+[-\w]*)\0',
                            f.read())
        httpd = re.search(r'Apache/(\S+)', output_of(cls.program, '-v'))
        return '%s%s in httpd %s, event MPM' % (
            cls.title, ' ' + own[1].decode() if own else '', httpd[1])

    def command(self):
        files = {m: '%s/mod_%s.so' % (self.modules, m)
                 for m in [*self.others, *SETUPS[self.setup]['more']]}
        files[self.module] = self.path
        if 'bench' in files:
            files['bench'] = self.base + '/mod_bench.so'
        load = '\n'.join('LoadModule %s_module "%s"' % (m, f)
                         for m, f in files.items() if os.path.exists(f))
        conf = self.configure('httpd.conf', 'User %s\nGroup %s', load=load)
        return [self.program, '-d', self.dir, '-f', conf, '-DFOREGROUND']


class H2x(Httpd):
    title, module = 'mod_h2x', 'h2x'
    path = os.path.abspath(os.environ.get('H2X_MODULE_SO')
                           or os.path.join(TOP, '.libs', 'mod_h2x.so'))

    @classmethod
    def version(cls):
        commit = output_of('git', 'describe', '--always', '--dirty').strip()
        return re.sub(' in httpd', ' (%s) in httpd' % commit if re.fullmatch(
            r'[\w.-]+', commit) else ' in httpd', super().version())


class Other(H2x):
    """Another build of mod_h2x; its path is set when it is known."""
    title, path = 'other mod_h2x', 'a file that --against names'

    @classmethod
    def version(cls):
        return 'other mod_h2x: ' + cls.path


class Http1(H2x):
    """The httpd of mod_h2x, by HTTP/1.1."""
    title, http1 = 'HTTP/1.1', True

    @classmethod
    def version(cls):
        return 'HTTP/1.1 of the httpd with mod_h2x'


class Nginx(Server):
    title, program = 'nginx', find('nginx')
    alone = ['-g', 'master_process off;']

    @classmethod
    def version(cls):
        return 'nginx ' + output_of(cls.program, '-v').split('/')[-1].strip()

    def command(self):
        conf = self.configure('nginx.conf', 'user %s;')
        return [self.program, '-p', self.dir, '-e', self.error_log, '-c', conf]


class Backend(Nginx):
    """What the others are a proxy for."""
    listens = 'clear',

    def command(self):
        conf = self.configure('backend.conf', 'user %s;')
        return [self.program, '-p', self.dir, '-e', self.error_log, '-c', conf]


class Node(Server):
    """A page by Node, which /node leads to."""
    title, program, listens = 'Node', find('node', 'nodejs'), ('clear',)

    def command(self):
        return [self.program, HERE + '/page.js', str(self.clear)]


class Php(Server):
    """php-fpm, for what is below /php."""
    title, listens = 'php-fpm', ('socket',)
    program = find('php-fpm', *map('php-fpm8.{}'.format, range(9, -1, -1)),
                   'php-fpm7.4')

    def command(self):
        # the length of a socket's name is limited
        self.socket = os.path.join(self.dir, 'php')
        return [self.program, '-n', '-F', '-O', '-y', self.configure(
            'php-fpm.conf', 'user = %s\ngroup = %s\n'
            'listen.owner = %s\nlisten.group = %s')]

    @staticmethod
    def answers(path):
        with socket.socket(socket.AF_UNIX) as sock:
            return not sock.connect_ex(path)


class H2o(Server):
    title, program = 'h2o', find('h2o')

    @classmethod
    def version(cls):
        return 'h2o ' + output_of(cls.program, '-v').split('\n')[0].split()[-1]

    def command(self):
        return [self.program, '-c', self.configure('h2o.conf', 'user: %s')]


SERVERS = {'h2x': H2x, 'other': Other, 'stock': Httpd, 'http1': Http1,
           'nginx': Nginx, 'h2o': H2o}
BACKENDS = {'backend': Backend, 'node': Node, 'php': Php}


@contextlib.contextmanager
def running(needs, base):
    """Those of BACKENDS that are in `needs`, by name, while they run."""
    with contextlib.ExitStack() as stack:
        backends = {n: kind(n, base) for n, kind in BACKENDS.items()
                    if n in needs}
        for backend in backends.values():
            stack.callback(backend.stop)
            backend.start()
        yield backends
