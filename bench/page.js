/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* node page.js PORT: answers each request with a page of 5 KB. */

'use strict';

const http = require('http');

function page(path) {
    const items = [];

    for (let i = 0; i < 100; i++) {
        items.push(`<li><a href="${path}${i}">article ${i} of today</a></li>`);
    }
    return `<!doctype html><html><title>${path}</title><ul>\n` +
        items.join('\n') + '\n</ul></html>\n';
}

const server = http.createServer((request, response) => {
    const body = page(request.url);

    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    response.setHeader('Content-Length', Buffer.byteLength(body));
    response.end(body);
});

server.keepAliveTimeout = 600000;
server.listen(Number(process.argv[2]), '127.0.0.1');
