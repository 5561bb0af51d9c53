// SPDX-License-Identifier: MIT
// What a container in JavaScript is made of: the class to extend, and its messages.
"use strict";

const {DavitError, KEEP, Kind, TYPE_COMMAND, TYPE_MAX} = require("./frames.cjs");

const lifeOf = Symbol("life");

/** Bytes as they are, text as UTF-8, undefined and null as nothing, everything else as JSON. */
function toBytes(value) {
	if (value === undefined || value === null)
		return Buffer.alloc(0);
	if (value instanceof Uint8Array)
		return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
	return Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
}

/** Thrown in a handler: the request is refused, and the container goes on. */
class Refusal extends DavitError {}

/** Bytes that came, with the two ways to read them. A NUL at the end, as C has it, is not of the text. */
class Data {
	constructor(data) {
		this.data = data;
	}

	get text() {
		return this.data.subarray(0, this.data.at(-1) === 0 ? -1 : undefined).toString();
	}

	json() {
		return JSON.parse(this.text);
	}
}

/** What a behaviour or a command is given. `sender` is an alias, "" for nobody. */
class Message extends Data {
	#channel;
	#id;
	#open;
	#kept = false;
	#canceled = false;
	#abort = null; // made when somebody asks for the signal

	constructor(channel, frame) {
		super(frame.payload);
		this.type = frame.type;
		this.sender = frame.from;
		this.isRequest = frame.kind === Kind.REQUEST;
		this.timeout = frame.time || null; // milliseconds that an answer is awaited
		this.#channel = channel;
		this.#id = frame.id;
		this.#open = this.isRequest;
		if (this.#open)
			channel.asked.set(frame.id, this);
	}

	/** Of a command: what its parameters are in JSON; undefined if there are none. */
	get parameters() {
		const text = this.data.subarray(this.data.indexOf(0) + 1).toString().replace(/\0+$/, "");
		try {
			return text ? JSON.parse(text) : undefined;
		} catch {
			throw new Refusal("invalid", "the parameters are not JSON");
		}
	}

	/** The answer is not what the handler returns, but comes by reply or refuse. */
	later() {
		this.#kept = true;
	}

	get isKept() {
		return this.#kept;
	}

	/** Answers a request. Nothing for one that is answered already, and for other messages. */
	reply(value) {
		if (this.#open)
			this.#channel.write({kind: Kind.REPLY, id: this.#id, payload: toBytes(value)});
		this.forget();
	}

	refuse(code, text) {
		const payload = Buffer.from(text).subarray(0, 1024);
		if (this.#open)
			this.#channel.write({kind: Kind.REFUSE, id: this.#id, type: new DavitError(code).number, payload});
		this.forget();
	}

	/** It takes longer: the time for the answer begins anew. */
	progress() {
		if (this.#open)
			this.#channel.write({kind: Kind.PROGRESS, id: this.#id});
	}

	/** Nobody awaits the answer any more: who asked has cancelled it, has ended, or did not want to wait that long. */
	get isCanceled() {
		return this.#canceled;
	}

	/** An AbortSignal that tells when nobody awaits the answer any more. */
	get signal() {
		this.#abort ??= new AbortController();
		if (this.#canceled)
			this.#abort.abort();
		return this.#abort.signal;
	}

	/** The module's own. */
	cancel() {
		this.#canceled = true;
		this.forget();
		this.#abort?.abort();
	}

	/** The module's own. */
	forget() {
		this.#open = false;
		if (this.#channel.asked.get(this.#id) === this)
			this.#channel.asked.delete(this.#id);
	}
}

function userType(type) {
	if (!Number.isInteger(type) || type < 0 || type >= TYPE_MAX)
		throw new DavitError("invalid", "a message's type is at least 0 and below 0xffffff00");
	return type;
}

/**
 * Extend it and give the class to run. All methods that are overridden may be async or not; what one of
 * them throws fails the container, and its supervisor decides. One message is handled at a time.
 */
class Container {
	static options = {}; // restart, limit, strategy, ...: docs/channel.md
	static commands = []; // names of methods that are commands; each is given the message

	options = {...this.constructor.options};
	alias = ""; // who this is: set before config
	name = "";
	path = "";
	parent = "";
	args = "";

	// --- to be overridden ---

	/** First of all: may change this.options. */
	config() {}

	/** What is done once in its life. Properties that it sets survive restarts. */
	boot() {}

	/** What a restart does again: all other properties are gone then. */
	construct() {}

	/** The initial behaviour. What it returns is the answer to a request. */
	behave(message) {
		throw new Refusal("unsupported", `${this.name} handles no messages`);
	}

	/** One that is watched has ended; null: as it should. */
	gone(alias, error) {}

	/** "before", "on" and "after" each "create", "start", "stop", "fail" and "destroy". */
	hook(operation, phase) {}

	// --- itself ---

	get state() {
		return this[lifeOf].state;
	}

	/** Puts another behaviour on top. */
	become(behaviour) {
		this[lifeOf].behaviours.push(behaviour);
	}

	/** Takes the topmost away; never the initial one. */
	unbecome() {
		if (!this[lifeOf].behaviours.pop())
			throw new DavitError("wrong-state", "this is the initial behaviour");
	}

	/** A line in the log of the parent. */
	log(text) {
		for (const line of String(text).split("\n").filter(Boolean))
			this[lifeOf].channel.write({kind: Kind.LOG, payload: Buffer.from(line).subarray(0, 4096)});
	}

	/**
	 * Runs an async function beside the messages. It is given an AbortSignal, which tells when this stops,
	 * fails or is started again. What it throws before that fails the container.
	 */
	spawn(work) {
		return this[lifeOf].spawn(work);
	}

	// --- others. `to` and `address`: an alias, a path "Main/A/B", "name:Hello"; "" is the parent ---

	/** A message without an answer. keep: if nobody has that alias, it waits until somebody has. */
	async send(to, data, {type = 0, keep = false} = {}) {
		await this[lifeOf].channel.send({kind: Kind.MESSAGE, flags: keep ? KEEP : 0, type: userType(type),
			payload: toBytes(data), to, from: this.alias});
	}

	/**
	 * A message and its answer. DavitError: it was refused, its receiver has failed, or there was no answer
	 * in `timeout` milliseconds (null: whenever), or `signal`, an AbortSignal, has cancelled it.
	 */
	async request(to, data, {type = 0, timeout = 10000, signal} = {}) {
		return new Data(await this[lifeOf].channel.request(this.alias, to, toBytes(data), userType(type),
			{timeout, signal}));
	}

	/** A request for a command. Parameters are sent as JSON. */
	async command(to, name, parameters, {timeout = 10000, signal} = {}) {
		const text = parameters === undefined ? "" : JSON.stringify(parameters);
		return new Data(await this[lifeOf].channel.request(this.alias, to, Buffer.from(`${name}\0${text}\0`),
			TYPE_COMMAND, {timeout, signal}));
	}

	/** A message to all children. Their number. */
	async broadcast(data, {type = 0} = {}) {
		const children = await this.children(this.alias);
		for (const child of children)
			await this.send(child, data, {type});
		return children.length;
	}

	/**
	 * A container beneath this one: of a definition by its name; by a command, a program and its arguments; or
	 * within this process, of a class, `type`. One of that alias that is alive is left alone, unless by force:
	 * "soft", "hard", "both".
	 */
	async create(alias, {name, command, args, parent, start = true, force, type} = {}) {
		if (!type) {
			await this.#manage("create", {alias, name, command, args, parent, start, force});
			return;
		}
		const above = parent === undefined ? this[lifeOf] : this.#beneath(parent, true);
		if (!above || !/^[^/:\x00-\x1f\x7f]+$/.test(alias) || /^\.\.?$/.test(alias) || Buffer.byteLength(alias) >= 64)
			throw new DavitError("invalid", `that is no ${above ? "alias" : "container of this process"}`);
		const there = this[lifeOf].channel.within(alias);
		if (there && !force) {
			if (start && there.state !== "started")
				await there.manage({do: "start"});
			return;
		}
		if (there)
			await there.destroy(force);
		else if (await this.exists(alias))
			throw new DavitError("exists", `another process has a container ${alias}`);
		await above.make(type, alias, name ?? type.name, args ?? "", start);
	}

	/** The life of that one, if it is within this process; else undefined. */
	#beneath(address, itself = false) {
		const own = this[lifeOf];
		const life = address === this.alias || address === this.path ? own : own.channel.within(address);
		let above = itself ? life : life?.above;
		while (above && above !== own)
			above = above.above;
		if (life && !above)
			throw new DavitError("forbidden", "it does not stand beneath you");
		return life;
	}

	async #operate(what, address, members = {}) {
		const life = this.#beneath(address);
		if (life)
			await life.manage({do: what, ...members});
		else
			await this.#manage(what, {address, ...members});
	}

	async start(address) {
		await this.#operate("start", address);
	}

	async stop(address) {
		await this.#operate("stop", address);
	}

	/** With all beneath it. Without force, one that runs is refused. */
	async destroy(address, {force} = {}) {
		await this.#operate("destroy", address, {force});
	}

	async fail(address, code, message) {
		await this.#operate("fail", address, {code, message});
	}

	/** Solves the failure of that hash: "continue", "restart", "stop". */
	async solve(address, failure, solution) {
		await this.#operate("solve", address, {failure, solution});
	}

	/** Destroys all that this has created. */
	async flush({force} = {}) {
		for (const life of [...this[lifeOf].below.values()].reverse())
			await life.manage({do: "destroy", force});
		if (!this[lifeOf].above)
			await this.#manage("flush", {force});
	}

	/** What there is to know of it: "state", "restarts", "failure", ... (docs/channel.md). */
	async get(address) {
		return this.#manage("get", {address});
	}

	async exists(address) {
		try {
			await this.get(address);
			return true;
		} catch (e) {
			if (e.code !== "not-found")
				throw e;
			return false;
		}
	}

	/** Their aliases, in the order in which they came. */
	async children(address) {
		let {children, total = 0} = await this.#manage("children", {address});
		for (let more = children; more.length && children.length < total;) {
			({children: more, total = 0} = await this.#manage("children", {address, from: children.length}));
			children = children.concat(more);
		}
		return children;
	}

	/** When it ends, `gone` is called, once. */
	async watch(address) {
		await this[lifeOf].channel.watch(this[lifeOf], address);
	}

	#manage(what, members) {
		return this[lifeOf].channel.manage({do: what, ...members}); // JSON leaves out what is undefined
	}
}

module.exports = {Container, Data, Message, Refusal, lifeOf, toBytes};
