// Opens an event stream, closes it when the first event has come, and so on;
// then fetches pages at once: node node_events.js https://SERVER COUNT EVENTS
// PAGE. Says how many of each went well, and how often the server went away.
'use strict';
const http2 = require('http2');

const [origin, count, events, page] = process.argv.slice(2);
const session = http2.connect(origin, {rejectUnauthorized: false});
const told = {events: 0, pages: 0, goaways: 0};
session.on('error', error => { told.error = String(error); });
session.on('goaway', () => { ++told.goaways; });

function next(left) {
    if (!left) return fetchAll(Number(count));
    const stream = session.request({':path': events});
    stream.on('error', () => {});
    stream.once('data', () => {
        ++told.events;
        stream.close(http2.constants.NGHTTP2_CANCEL);
    });
    stream.on('close', () => next(left - 1));
}

function fetchAll(left) {
    let open = left;
    for (let i = 0; i < left; ++i) {
        const stream = session.request({':path': page});
        stream.on('error', () => {});
        stream.on('response', headers => {
            told.pages += headers[':status'] === 200;
        });
        stream.resume();
        stream.on('close', () => {
            if (!--open) {
                session.close();
                console.log(JSON.stringify(told));
            }
        });
    }
}

next(Number(count));
