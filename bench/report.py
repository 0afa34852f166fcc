"""What was measured, for people: tables, a chart, and JSON for programs."""

import json
import math
import os
import re
import statistics
from xml.sax.saxutils import escape

FULL = 0.85     # of the processors in use: the machine is full
TWINS = {       # work over HTTP/2: the rows of HTTP/1.1 to compare it with,
                # on as many connections, and with as many in flight
    'http2-16x10': ('http1-16', 'http1-160'),
    'http2-1x50': ('http1-1', 'http1-50'),
    'http2-1x1': ('http1-1', 'http1-1')}
CPU = 'server_cpu_us'
DETAILS = {
    CPU: 'processor time of the server for a request, µs',
    'latency_us': 'median time until a response is whole, µs',
    'threads': 'threads more than before',
    'busy': 'busy threads more than before, by mod_status'}
SCALING = {
    'connections': 'requests per second by connections',
    'streams': 'requests per second by streams'}


def number(value):
    whole = value >= 100 or value == int(value)
    return format(value, ',.0f' if whole else '.1f')


def short(ratio):
    """A ratio, in three digits or two behind the point."""
    return number(ratio) if ratio >= 100 else '%.3g' % round(ratio, 2)


def reason(cell):
    """Why it has no value, or None."""
    return cell.get('failed') or cell.get('unable')


# --- figures ----------------------------------------------------------------

def summarise(rows, results, run):
    """The report as one dictionary, as written to the JSON file.  `run` tells
    of servers and machine."""
    first, *others = run['names']
    out = []
    for row in rows:
        cells = results[row.name]
        for cell in cells.values():
            if cell['values'] and not reason(cell):
                cell['median'] = statistics.median(cell['values'])
                cell['spread'] = ((max(cell['values']) - min(cell['values']))
                                  / (cell['median'] or 1))
                for key in cell['details'][0]:
                    cell[key] = statistics.median(d[key]
                                                  for d in cell['details'])
            del cell['details']
        ratios, cpu_ratios = {}, {}
        for other in others:
            a, b = (cells.get(n, {}).get('median') for n in (first, other))
            if a and b:
                ratios[other] = a / b if row.more_is_better else b / a
            a, b = (cells.get(n, {}).get(CPU) for n in (first, other))
            if a and b:
                cpu_ratios[other] = a / b
        out.append({'id': row.name, 'title': row.title, 'unit': row.unit,
                    'section': row.section, 'servers': cells,
                    'ratios': ratios, 'cpu_ratios': cpu_ratios})
    return {**run, 'rows': out}


# --- tables -----------------------------------------------------------------

def table(head, lines):
    """A markdown table: the first column is text, the others numbers."""
    rule = ['---'] + ['---:'] * (len(head) - 1)
    return '\n'.join('| %s |' % ' | '.join(line)
                     for line in [head, rule, *lines])


def of_section(report, section):
    """Its rows, and the names of the servers that are in one of them."""
    rows = [r for r in report['rows'] if r['section'] == section]
    return rows, [n for n in report['names']
                  if any(n in r['servers'] for r in rows)]


def main_table(report, notes, section='main'):
    """Rows that several servers share.  Reasons of failures go to `notes`;
    also returns whether a client was at its limit."""
    rows, names = of_section(report, section)
    titles = report['titles']
    lines, at_limit = [], False
    for row in rows:
        line = ['%s, %s' % (row['title'], row['unit'])]
        for name in names:
            cell = row['servers'].get(name, {})
            text = value(row, name, titles[name], notes)
            if 'median' in cell and cell.get('client_busy', 0) > 0.95:
                text, at_limit = text + ' *', True
            line.append(text)
        line += [short(row['ratios'][n]) if n in row['ratios'] else ''
                 for n in names[1:]]
        spread = max((c.get('spread', -1) for c in row['servers'].values()),
                     default=-1)
        line.append('%.0f %%' % (spread * 100) if spread >= 0 else '')
        lines.append(line)
    head = ['work', *(titles[n] for n in names),
            *('against ' + titles[n] for n in names[1:]), 'spread']
    return table(head, lines) if lines else '', at_limit


def site_table(report):
    """What the rows of sites cost: here less than 1 is better."""
    rows, names = of_section(report, 'site')
    lines = []
    for row in rows:
        cells = [row['servers'].get(n, {}).get(CPU) for n in names]
        ratios = [row['cpu_ratios'].get(n) for n in names[1:]]
        lines.append([row['title'],
                      *('' if c is None else number(c) for c in cells),
                      *('' if r is None else short(r) for r in ratios)])
    titles = [report['titles'][n] for n in names]
    return table([DETAILS[CPU], *titles,
                  *('%s / %s' % (titles[0], t) for t in titles[1:])],
                 lines) if lines else ''


def value(row, name, title, notes):
    """The text of a cell."""
    cell = row['servers'].get(name, {})
    if reason(cell):
        notes.append('%s, %s: %s' % (row['title'], title, reason(cell)))
        return '%s [%d]' % ('failed' if 'failed' in cell else 'unable',
                            len(notes))
    return number(cell['median']) if 'median' in cell else ''


def median(report, name):
    """Of the first server in the row, or None."""
    for row in report['rows']:
        if row['id'] == name:
            return row['servers'].get(report['names'][0], {}).get('median')
    return None


def http1_table(report):
    """HTTP/2 against HTTP/1.1 through the same server."""
    lines = []
    for row in report['rows']:
        own = row['id'] in TWINS and median(report, row['id'])
        if not own:
            continue
        line = [row['title'], number(own)]
        for twin in TWINS[row['id']]:
            other = median(report, twin)
            line += [number(other), short(own / other)] if other else [
                '', '']
        lines.append(line)
    head = ['req/s through %s\'s httpd' % report['titles'][
        report['names'][0]], 'HTTP/2', 'HTTP/1.1, as many connections',
        'ratio', 'HTTP/1.1, as many in flight', 'ratio']
    if any(line[3] or line[5] for line in lines):
        return table(head, lines)
    return ''


def scaling_table(report, section, notes):
    """Each point relative to the best; points that count have a full
    machine."""
    name = report['names'][0]
    rows = [r for r in report['rows'] if r['section'] == section]
    best = max((median(report, r['id']) or 0 for r in rows), default=0)
    lines = []
    for row in rows:
        cell = row['servers'].get(name, {})
        busy = cell.get('machine_busy')
        lines.append([
            row['title'], value(row, name, report['titles'][name], notes),
            '%.0f %%' % (100 * cell['median'] / best) if busy else '',
            '%.0f %%' % (100 * busy) if busy else '',
            'yes' if busy and busy >= FULL else ''])
    return table([SCALING[section], report['titles'][name], 'of the best',
                  'processors in use', 'full'], lines) if lines else ''


def detail_table(report, key):
    rows, names = of_section(report, 'main')
    lines = []
    for row in rows:
        cells = [row['servers'].get(n, {}).get(key) for n in names]
        if any(c is not None for c in cells):
            lines.append([row['title'], *('' if c is None else number(c)
                                          for c in cells)])
    return table([DETAILS[key], *(report['titles'][n] for n in names)],
                 lines) if lines else ''


def explanations(report, at_limit):
    first = report['titles'][report['names'][0]]
    text = (
        'Medians of %d rounds (of %d for transfers over 50 ms, slow handlers, '
        'memory and scaling). Against a server: how many times better %s is, '
        'for times and memory too. Spread: from the lowest to the highest '
        'value of the least steady server, relative to its median.'
        % (report['rounds'], report['few'], first))
    if report['delay']:
        text += ' The 50 ms are made by %s.' % report['delay']
    if at_limit:
        text += ' *: the client used a whole core, the server may be faster.'
    return text


def markdown(report):
    """The report for people: the main part, and the rest."""
    notes = []
    tables = [main_table(report, notes, s) for s in ('main', 'site')]
    at_limit = any(limit for _, limit in tables)
    rest = [http1_table(report)]
    rest += [scaling_table(report, section, notes) for section in SCALING]
    rest += [detail_table(report, key) for key in DETAILS]
    main = [*(text for text, _ in tables), site_table(report),
            explanations(report, at_limit)]
    main += ['[%d] %s' % (i + 1, n) for i, n in enumerate(notes)]
    main.append('%s; %d cores, %s, Linux %s; %s.' % (
        report['date'][:10], report['cores'], report['processor'],
        report['kernel'], '; '.join(report['versions'].values())))
    if report['others'] > 0.03:
        main[-1] += (' Other work took %.0f %% of the processors during the '
                     'run: the numbers are disturbed.'
                     % (report['others'] * 100))
    return '\n\n'.join(filter(None, main)), '\n\n'.join(filter(None, rest))


# --- the chart --------------------------------------------------------------

LEFT, WIDTH, STEP, BAR, TOP = 350, 480, 38, 13, 74
LOW, HIGH = -2, 5       # of the axis: powers of two
COLOURS = ('#b35900', '#ff9e45'), ('#0b62c4', '#6cb0ff')    # light, dark
STYLE = '''
.back { fill: #fff } text { fill: #1f2328; font: 13px sans-serif }
.head { font-weight: bold; font-size: 15px } .grid { stroke: #d0d7de }
.one { stroke: #1f2328 } %s
@media (prefers-color-scheme: dark) {
.back { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #30363d }
.one { stroke: #e6edf3 } %s }
'''


def across(ratio):
    """Where a ratio is on the axis, and whether it lies beyond."""
    at = math.log2(ratio)
    inside = min(max(at, LOW), HIGH)
    return LEFT + (inside - LOW) / (HIGH - LOW) * WIDTH, at != inside


def chart(report):
    """An SVG of the ratios: bars from 1, to the right where the first server
    is better."""
    first = report['titles'][report['names'][0]]
    others = [n for n in ('stock', 'nginx') if n in report['names'][1:]]
    rows = [r for r in report['rows'] if r['section'] == 'main'
            and any(n in r['ratios'] for n in others)]
    bottom = TOP + STEP * len(rows)
    names = ' and '.join(report['titles'][n] for n in others)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" '
        'role="img" aria-labelledby="title desc">'
        % (LEFT + WIDTH + 60, bottom + 44),
        '<title id="title">%s against %s</title>' % (first, escape(names)),
        '<desc id="desc">%s</desc>' % escape('; '.join(
            '%s: %s' % (r['title'], ', '.join(
                '%s times %s' % (short(r['ratios'][n]), report['titles'][n])
                for n in others if n in r['ratios'])) for r in rows)),
        '<style>%s</style>' % (STYLE % tuple(
            ' '.join('.s%d { fill: %s }' % (i, pair[shade])
                     for i, pair in enumerate(COLOURS))
            for shade in (0, 1))),
        '<rect class="back" width="100%" height="100%"/>',
        text(20, 26, '%s: how many times better than' % first, 'class="head"')]
    for i, name in enumerate(others):
        parts += ['<rect class="s%d" x="%d" y="40" width="13" height="13"/>'
                  % (i, 20 + 140 * i),
                  text(40 + 140 * i, 51, report['titles'][name])]
    for power in range(LOW, HIGH + 1):
        x = across(2 ** power)[0]
        parts += ['<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>' % (
            'grid' if power else 'one', x, x, TOP - 6, bottom),
            text(x, bottom + 16, short(2 ** power), 'text-anchor="middle"')]
    parts.append(text(across(1)[0], bottom + 34,
                      '\N{LEFTWARDS ARROW} behind    ahead '
                      '\N{RIGHTWARDS ARROW}', 'text-anchor="middle"'))
    for i, row in enumerate(rows):
        y = TOP + STEP * i
        name = re.sub(r' \(.*\)', '', row['title'])
        parts.append(text(LEFT - 12, y + 17, name, 'text-anchor="end"'))
        for j, name in enumerate(others):
            parts += bar(j, y + j * (BAR + 1), row, name)
    return '\n'.join([*parts, '</svg>', ''])


def bar(kind, y, row, name):
    """The bar of a ratio and its label, or the word that there is none."""
    one = across(1)[0]
    if name not in row['ratios']:
        cell = row['servers'].get(name, {})
        return [text(one + 5, y + 11, 'unable')] if 'unable' in cell else []
    ratio = row['ratios'][name]
    x, beyond = across(ratio)
    label = ('' if not beyond else '\N{MUCH LESS-THAN} ' if ratio < 1
             else '\N{MUCH GREATER-THAN} ') + short(ratio)
    return ['<rect class="s%d" x="%.1f" y="%d" width="%.1f" height="%d"/>' % (
        kind, min(one, x), y, max(abs(x - one), 1), BAR),
        text(max(one, x) + 5, y + 11, label)]


def text(x, y, words, more=''):
    return '<text x="%.1f" y="%d" %s>%s</text>' % (x, y, more, escape(words))


# --- files ------------------------------------------------------------------

def write(report, directory):
    """latest.json, latest.md and latest.svg."""
    os.makedirs(directory, exist_ok=True)
    main, rest = markdown(report)
    for name, content in (
            ('json', json.dumps(report, indent=1) + '\n'),
            ('md', '\n\n'.join(['![Ratios](latest.svg)', main, rest]) + '\n'),
            ('svg', chart(report))):
        with open(os.path.join(directory, 'latest.' + name), 'w',
                  encoding='utf-8') as out:
            out.write(content)


def update_readme(path, main=None):
    """Replaces what stands between the two markers; without a text only
    checks that they are there."""
    with open(path, encoding='utf-8') as f:
        old = f.read()
    new, count = re.subn(
        r'(<!-- bench:start -->\n).*?(<!-- bench:end -->)',
        lambda m: '%s![Ratios](bench/results/latest.svg)\n\n%s\n%s' % (
            m[1], main, m[2]), old, flags=re.S)
    if count != 1:
        raise SystemExit('bench: %s needs <!-- bench:start --> and '
                         '<!-- bench:end --> once' % path)
    if main:
        with open(path, 'w', encoding='utf-8') as f:
            f.write(new)
