// A page over TLS through a CONNECT tunnel of an HTTP/2 proxy:
// node node_connect.js https://PROXY HOST:PORT PATH
'use strict';
const http2 = require('http2');
const tls = require('tls');

const [proxy, target, path] = process.argv.slice(2);
const session = http2.connect(proxy, {rejectUnauthorized: false});
session.on('error', fail);

function fail(error) {
    console.error(error);
    process.exit(1);
}

const tunnel = session.request({':method': 'CONNECT', ':authority': target});
tunnel.on('error', fail);
tunnel.on('response', headers => {
    if (headers[':status'] !== 200) fail(headers);
    const socket = tls.connect({socket: tunnel, rejectUnauthorized: false},
                               () => {
        socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n` +
                     'Connection: close\r\n\r\n');
    });
    let text = '';
    socket.on('error', fail);
    socket.on('data', data => { text += data; });
    socket.on('end', () => {
        const [head, body] = text.split('\r\n\r\n');
        process.stdout.write(head.split(' ')[1] + ' ' + body);
        session.close();
        socket.destroy();
    });
});
