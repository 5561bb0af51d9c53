// SPDX-License-Identifier: MIT
// A small HTTP service with one dependency: it tells how long it has been up.
'use strict';
const http = require('http');
const ms = require('ms');

const host = process.env.HOST || '127.0.0.1';
const port = process.env.PORT || 8080;

const server = http.createServer((request, response) => {
	console.log(`${request.method} ${request.url}`);
	response.setHeader('Content-Type', 'text/plain');
	response.end(`hello from node (up for ${ms(Math.round(process.uptime() * 1000), { long: true })})\n`);
});
server.listen(port, host, () => console.log(`listening on http://${host}:${port}/`));
process.on('SIGTERM', () => server.close());
