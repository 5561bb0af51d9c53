#!/usr/bin/env node
// @NAME@: a container for davit.
"use strict";

const {Container, run} = require("davit");

class Own extends Container {
	static options = {restart: "always"};
	static commands = ["add"];

	/** Makes the state; a restart does it again. */
	construct() {
		this.requests = 0;
	}

	/** One message at a time; what is returned is the answer. What is thrown fails the container. */
	async behave(message) {
		this.requests++;
		return `${this.alias}: request ${this.requests} was '${message.text}'`;
	}

	/** davit command a add '[1, 2]' */
	add(message) {
		return (message.parameters ?? []).reduce((sum, n) => sum + n, 0);
	}
}

if (require.main === module)
	run(Own);
module.exports = Own;
