'use strict';
// Loads the parts, then says with which protocol and when each of them came.

const COLUMNS = 14, ROWS = 8, SLOW = 9;
const byId = id => document.getElementById(id);
const seconds = ms => (ms / 1000).toFixed(1) + ' s';
const nameOf = entry => entry.name.replace(/^.*\//, '') || 'this page';

performance.setResourceTimingBufferSize(1000);

function entryOf(url) {
  return performance.getEntriesByName(new URL(url, location.href).href)[0];
}

// Marks an element with its part's protocol, or with 'failed'.
async function mark(element, url, loaded) {
  let ok = true;
  await loaded.catch(() => { ok = false; });
  // The entry may be made a moment after the load event.
  for (let i = 0; ok && !entryOf(url) && i < 50; ++i) {
    await new Promise(resolve => setTimeout(resolve, 20));
  }
  element.dataset.protocol = ok ? entryOf(url)?.nextHopProtocol || 'unknown' : 'failed';
  element.title = url + ': ' + element.dataset.protocol;
}

function loadSlow(n) {
  const item = document.createElement('li');
  const url = 'slow.cgi?n=' + n;
  item.textContent = '2 s';
  byId('slow').append(item);
  const loaded = fetch(url).then(response => {
    if (!response.ok) throw new Error(response.status);
    return response.text();
  });
  return mark(item, url, loaded).then(() => {
    item.textContent = item.dataset.protocol === 'failed' ? 'failed' : 'done';
  });
}

function loadTile(tile, n) {
  const image = new Image();
  const url = 'picture.svg?tile=' + (n + 1);
  const loaded = new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = reject;
  });
  image.alt = '';
  image.style.left = -100 * (n % COLUMNS) + '%';
  image.style.top = -100 * Math.floor(n / COLUMNS) + '%';
  image.src = url;
  tile.append(image);
  return mark(tile, url, loaded);
}

function loadTiles() {
  const tiles = Array.from({ length: COLUMNS * ROWS }, () => {
    const tile = document.createElement('div');
    tile.className = 'tile';
    return tile;
  });
  byId('picture').append(...tiles);
  // 45 shares no factor with 112: every tile once, from all over the picture.
  return tiles.map((_, i) => {
    const n = i * 45 % tiles.length;
    return loadTile(tiles[n], n);
  });
}

function summarize(entries, failed) {
  const total = entries.length + failed;
  const count = {};
  for (const entry of entries) {
    const protocol = entry.nextHopProtocol || 'unknown';
    count[protocol] = (count[protocol] || 0) + 1;
  }
  const h2 = count.h2 || 0;
  const others = Object.entries(count).filter(([protocol]) => protocol !== 'h2')
    .map(([protocol, n]) => n + ' over ' + protocol);
  if (failed) others.push(failed + ' failed');
  byId('summary').textContent = h2 + ' of ' + total + ' parts came over h2'
    + (others.length ? ' (' + others.join(', ') + ')' : '') + '.';
  byId('summary').className = h2 === total ? 'good' : 'bad';

  const tiles = entries.filter(entry => entry.name.includes('picture.svg'));
  const slow = entries.filter(entry => entry.name.includes('slow.cgi'));
  const firstSlow = Math.min(...slow.map(entry => entry.responseEnd));
  const early = tiles.filter(entry => entry.responseEnd < firstSlow).length;
  if (tiles.length && slow.length) {
    const start = Math.min(...tiles.map(entry => entry.startTime));
    const end = Math.max(...tiles.map(entry => entry.responseEnd));
    byId('detail').textContent = early + ' of ' + tiles.length
      + ' tiles came while the slow parts were still on their way. All tiles took '
      + Math.round(end - start) + ' ms; the page was complete after '
      + seconds(Math.max(...entries.map(entry => entry.responseEnd))) + '.';
  }
  return 'h2: ' + h2 + '/' + total;
}

function draw(entries) {
  const ROW = 3, TOP = 20;
  const svg = byId('waterfall');
  const WIDTH = svg.clientWidth || 960, PLOT = WIDTH - 140;
  const add = (name, attributes, text) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text) node.textContent = text;
    svg.append(node);
  };
  const height = TOP + ROW * entries.length + 4;
  const fast = entries.filter(entry => !entry.name.includes('slow.cgi'));
  const limit = Math.max(50, 1.15 * Math.max(...fast.map(entry => entry.responseEnd)));
  const x = ms => Math.min(ms, limit) / limit * PLOT;
  const rough = limit / (PLOT / 130), unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find(factor => factor * unit >= rough);

  svg.replaceChildren();
  svg.setAttribute('viewBox', '0 0 ' + WIDTH + ' ' + height);
  for (let ms = 0; ms < limit; ms += step) {
    add('line', { x1: x(ms), x2: x(ms), y1: TOP - 4, y2: height });
    add('text', { x: x(ms) + 3, y: 12 }, Math.round(ms) + ' ms');
  }
  const past = [];
  entries.forEach((entry, i) => {
    const y = TOP + ROW * i;
    const bar = (kind, from, to, thick) => add('rect', {
      class: kind, x: x(from), y: y + (ROW - thick) / 2,
      width: Math.max(x(to) - x(from), from < limit ? 1 : 0), height: thick });
    const sent = entry.requestStart || entry.startTime;
    const begun = entry.responseStart || sent;
    bar('queued', entry.startTime, sent, 0.75);
    bar('waiting', sent, begun, 2.5);
    bar('receiving', begun, entry.responseEnd, 2.5);
    if (entry.responseEnd > limit) past.push({ y, entry });
  });
  if (past.length) {
    const longest = Math.max(...past.map(({ entry }) => entry.responseEnd));
    const y = past[past.length >> 1].y + ROW / 2 + 4;
    add('text', { class: 'past', x: PLOT + 6, y },
      '→ ' + seconds(longest) + ' (' + past.length + ' slow parts)');
  }
}

function tabulate(entries) {
  byId('rows').replaceChildren(...entries.map(entry => {
    const row = document.createElement('tr');
    for (const text of [nameOf(entry), entry.nextHopProtocol || 'unknown',
      entry.startTime.toFixed(1), entry.responseEnd.toFixed(1)]) {
      row.insertCell().textContent = text;
    }
    return row;
  }));
}

async function run() {
  const slow = Array.from({ length: SLOW }, (_, i) => loadSlow(i + 1));
  await Promise.all(loadTiles().concat(slow));
  const failed = document.querySelectorAll('#parts [data-protocol="failed"]').length;
  const entries = performance.getEntriesByType('navigation')
    .concat(performance.getEntriesByType('resource'))
    .filter(entry => !entry.responseStatus || entry.responseStatus < 400)
    .sort((a, b) => a.startTime - b.startTime);
  const title = summarize(entries, failed);
  draw(entries);
  tabulate(entries);
  document.title = title;
}

run();
