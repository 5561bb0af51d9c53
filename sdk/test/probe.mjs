#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// The container of the tests: does what it is told. probe.py is the same.
import {Container, DavitError, Refusal, run} from "../node/davit/index.mjs";
import {delay} from "../node/davit/lib/supervise.cjs";

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

class Probe extends Container {
	static options = {restart: "always", limit: 100};
	static commands = ["add"];
	boots = 0;

	trace(text) {
		if (this.args === "trace")
			this.log(text);
	}

	config() {
		if (this.args === "never")
			this.options.restart = "never";
		this.options.retries = 3;
		if (this.args.startsWith("{"))
			this.options = JSON.parse(this.args);
		this.trace("config");
		if (this.args === "bad config")
			throw new DavitError("no-space", "there is no room");
	}

	async boot() {
		this.boots++;
		this.trace("boot");
	}

	construct() {
		this.counter = 0;
		this.kept = null;
		this.trace("construct");
		if (this.args === "bad restart" && this.state === "failed")
			throw new DavitError("io", "still broken");
	}

	hook(operation, phase) {
		this.trace(`${phase} ${operation}`);
		if (this.args === "bad hook" && operation === "stop")
			throw new DavitError("io", "hook");
	}

	gone(alias, error) {
		this.log(`gone ${alias} ${error ? `${error.code} ${error.message}` : "well"}`);
	}

	add(message) {
		return (message.parameters ?? []).reduce((a, b) => a + b, 0);
	}

	async other(message) {
		if (message.text === "unbecome") {
			this.unbecome();
			return "as before";
		}
		return `other ${message.text}`;
	}

	async behave(message) {
		const [, word, rest] = /^(\S*) ?([^]*)$/.exec(message.text);
		return this[`do_${word.replace("-", "_")}`](message, rest);
	}

	do_echo(message, rest) {
		return rest;
	}

	do_who(message) {
		const {alias, name, path, parent, args, state} = this;
		return {alias, name, path, parent, args, state, sender: message.sender, type: message.type};
	}

	do_bytes(message, rest) {
		return Buffer.alloc(Number(rest), "x");
	}

	do_length(message, rest) {
		return String(rest.length);
	}

	do_nothing() {}

	do_count() {
		this.counter++;
		return `${this.boots} ${this.counter}`;
	}

	do_log(message, rest) {
		this.log(rest);
	}

	do_fail(message, rest) {
		throw new DavitError("io", rest);
	}

	do_throw() {
		return null.missing;
	}

	do_refuse(message, rest) {
		throw new Refusal("quota", rest);
	}

	do_later(message) {
		message.later();
		this.kept = message;
	}

	do_now(message, rest) {
		this.kept.progress();
		this.kept.reply(rest);
		this.kept.reply("twice");
	}

	do_become() {
		this.become(this.other);
	}

	async do_send(message, rest) {
		const [to, text] = rest.split(" ");
		await this.send(to, text, {type: 7, keep: true});
	}

	async do_ask(message, rest) {
		const [to, text] = rest.split(" ");
		try {
			return `got ${(await this.request(to, text, {type: 8, timeout: 300})).text}`;
		} catch (e) {
			return `${e.code}: ${e.message}`;
		}
	}

	async do_order(message, rest) {
		const [to, text] = rest.split(" ");
		return `got ${(await this.command(to, "add", [1, Number(text)])).json()}`;
	}

	do_pid() {
		return process.pid;
	}

	async do_pass(message, rest) {
		await this.send("sink", rest, {type: 7});
	}

	/** A child, by all that can be done to it. */
	async do_raise(message, rest) {
		await this.create("child", {name: rest});
		await this.watch("child");
		const before = await this.get("child");
		const answer = (await this.request("child", "hello")).text;
		await this.broadcast("hello all", {type: 9});
		await this.fail("child", "io", "on purpose");
		while ((await this.get("child")).restarts === 0)
			await sleep(10);
		await this.stop("child");
		const stopped = await this.get("child");
		await this.destroy("child", {force: "both"});
		return `${before.alias} in ${before.parent} is ${before.state}, says ${answer}, is ${stopped.state}, ` +
			((await this.exists("child")) ? "is there" : "is gone");
	}

	do_delay(message, rest) {
		return JSON.parse(rest).map(given => Math.round(delay(...given) * 1000) / 1000);
	}

	do_sleep() {
		return sleep(3600000);
	}

	do_work(message, rest) {
		this.spawn(async () => {
			await sleep(10);
			throw new DavitError("io", rest);
		});
	}

	do_idle() {
		this.spawn(signal => signal.addEventListener("abort", () => this.log("cut off")));
	}

	async do_inside(message, rest) {
		const [, alias, args] = /^(\S*) ?(.*)$/.exec(rest);
		await this.create(alias, {type: this.constructor, args});
	}

	async do_inside_other(message, rest) {
		try {
			await this.create(rest, {type: Other});
		} catch (e) {
			return `${e.code}: ${e.message}`;
		}
	}

	async do_child(message, rest) {
		const [verb, alias] = rest.split(" ");
		try {
			await this[verb](alias, verb === "destroy" ? {force: "both"} : {});
		} catch (e) {
			return `${e.code}: ${e.message}`;
		}
	}

	async do_await(message) {
		await new Promise(resolve => message.signal.addEventListener("abort", resolve));
		message.reply("in vain");
		this.log("nobody waits");
	}

	async do_manage(message, rest) {
		try {
			switch (rest) {
			case "create":
				return await this.create("B", {command: ["prog", "x"], args: "a"});
			case "destroy":
				return await this.destroy("B", {force: "soft"});
			case "watch":
				return await this.watch("B");
			case "exists":
				return await this.exists("B");
			case "broadcast":
				return await this.broadcast("all", {type: 9});
			default:
				return await this.get("B");
			}
		} catch (e) {
			return `${e.code}: ${e.message}`;
		}
	}
}

/** Of another class than the rest. */
class Other extends Container {}

run(Probe);
