// The test of @NAME@: its class, without a process.
"use strict";

const assert = require("node:assert");
const {beforeEach, test} = require("node:test");
const Own = require("./@NAME@.js");

let container;

beforeEach(() => {
	container = new Own();
	container.alias = "t";
	container.construct();
});

test("it answers and counts", async () => {
	assert.equal(await container.behave({text: "hello"}), "t: request 1 was 'hello'");
	assert.equal(await container.behave({text: "again"}), "t: request 2 was 'again'");
});

test("a restart begins anew", async () => {
	await container.behave({text: "hello"});
	container.construct();
	assert.equal(await container.behave({text: "hello"}), "t: request 1 was 'hello'");
});

test("it adds", () => {
	assert.equal(container.add({parameters: [1, 2]}), 3);
});
