// One page with node's HTTP/2 client, and all that is pushed with it, as JSON.
// usage: node node_push.js ORIGIN PATH [NAME VALUE]...
'use strict';
const http2 = require('http2');

const [origin, path, ...pairs] = process.argv.slice(2);
const request = { ':path': path };
for (let i = 0; i + 1 < pairs.length; i += 2)
    request[pairs[i]] = pairs[i + 1];

const said = { page: {}, pushed: [], interim: [] };

let open = 0;

function take(stream, into) {
    ++open;
    into.body = '';
    stream.setEncoding('utf8');
    stream.on('data', (data) => { into.body += data; });
    stream.on('end', () => { into.ended = true; });
    stream.on('error', () => {});
    stream.on('close', () => {
        into.code = stream.rstCode;
        // Not before: the GOAWAY of close() refuses pushes under way.
        if (--open === 0)
            session.close();
    });
}

const session = http2.connect(origin, { rejectUnauthorized: false });
session.on('error', (error) => {
    console.error(String(error));
    process.exit(1);
});
session.on('stream', (stream, promise) => {
    const one = { promise, headers: null };
    said.pushed.push(one);
    stream.on('push', (headers) => { one.headers = headers; });
    take(stream, one);
});

const page = session.request(request);
page.on('headers', (headers) => said.interim.push(headers));
page.on('response', (headers) => { said.page.headers = headers; });
take(page, said.page);
session.on('close', () => console.log(JSON.stringify(said)));
