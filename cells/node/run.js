// SPDX-License-Identifier: MIT
// Says what to run: run.js SOURCE OUT writes OUT/run.json.
//
// A start script of plain words is executed as it is; one that needs a shell is
// left to npm. Without one it is "main", or a file of a usual name.
'use strict';
const fs = require('fs');
const path = require('path');

const [source, out] = process.argv.slice(2);
const at = (...names) => path.join(source, ...names);
const manifest = fs.existsSync(at('package.json')) ? JSON.parse(fs.readFileSync(at('package.json'))) : {};

function find(program) {
	const local = at('node_modules', '.bin', program);
	return fs.existsSync(local) ? local : program === 'node' ? process.execPath : program;
}

function command() {
	const start = manifest.scripts && manifest.scripts.start;
	if (start && /^[\w@%+:,./ -]+$/.test(start) && !/^\w+=/.test(start)) {
		const [program, ...words] = start.trim().split(/ +/);
		return [find(program), ...words];
	}
	if (start)
		return ['npm', 'start', '--silent'];
	const alone = fs.readdirSync(source).filter((name) => /\.m?js$/.test(name));
	const names = [manifest.main, 'server.js', 'index.js', 'main.js', 'app.js', alone.length === 1 ? alone[0] : null];
	const main = names.find((name) => name && fs.existsSync(at(name)));
	return main ? [process.execPath, at(main)] : null;
}

const argv = command();
if (!argv) {
	console.error('package.json has neither a start script nor a main that exists');
	process.exit(1);
}
fs.writeFileSync(path.join(out, 'run.json'), JSON.stringify(argv));
