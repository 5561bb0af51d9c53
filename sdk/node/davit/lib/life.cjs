// SPDX-License-Identifier: MIT
// The life of a container: its states, its mailbox, one thing after the other; and those that it has within this
// process, which it supervises.
"use strict";

const {randomBytes} = require("node:crypto");
const {Message, Refusal, lifeOf} = require("./container.cjs");
const {DavitError, Kind, TYPE_COMMAND, WORDS} = require("./frames.cjs");
const {Standing, Supervisor, check} = require("./supervise.cjs");

const OPERATIONS = new Map(Object.entries({ // what is done, from which states it can be
	create: ["destroyed"],
	start: ["created", "started", "stopped", "failed"],
	continue: ["failed"],
	stop: ["created", "started", "stopped", "failed"],
	fail: ["started", "failed"],
	destroy: ["created", "started", "stopped", "failed"],
}));
const SOLUTIONS = new Map([["continue", "continue"], ["restart", "start"], ["stop", "stop"]]);
const SHUTDOWN = 5000; // milliseconds; as the options of C
const LIMIT = 65536;
const NOTHING = () => {};

function errorOf(e) {
	if (e instanceof DavitError)
		return e;
	return new DavitError(e && e.syscall ? "io" : "internal", String(e));
}

function notHandled(message, why) {
	message.refuse("closed", `the request was not handled: ${why}`);
}

/**
 * Of the container that the process is, whose `above` is null and whose parent is behind the channel; or of one
 * within it.
 */
class Life {
	below = new Map(); // by alias, in the order of their creation
	brood = new Supervisor(this); // of those
	standing = new Standing(); // with the one above
	state = "destroyed";
	behaviours = [];
	failure = ""; // the hash of the last one
	restarts = 0;
	over = false;
	#operations = [];
	#mailbox = []; // messages, and frames GONE
	#urgent = []; // for a failed container
	#done = 0n; // messages, since this process began
	#broken = false; // the one that was begun last has failed
	#error = null; // of the last failure
	#wake = NOTHING;
	#abort = new AbortController(); // of what was spawned
	#background = []; // what that threw
	#kept = {}; // properties that survive a restart
	#current = null; // the message that is being handled

	constructor(channel, type, above = null) {
		this.channel = channel;
		this.above = above;
		this.container = new type();
		this.container[lifeOf] = this;
	}

	get alias() {
		return this.container.alias;
	}

	// --- what comes ---

	take(message, urgent) {
		if (urgent)
			this.#urgent.push(message);
		else if (!this.above || this.#hasRoom(message))
			this.#mailbox.push(message);
		this.#wake();
	}

	/** As the options say: for the process's own its parent does so. */
	#hasRoom(message) {
		const {keep_nothing: keepNothing, limit, overflow} = this.container.options;
		if (keepNothing && (this.state === "created" || this.state === "stopped")) {
			this.#drop(message, "the receiver is not started");
			return false;
		}
		if (this.#mailbox.length < (limit || LIMIT))
			return true;
		if (overflow === "drop-oldest") {
			const [oldest] = this.#mailbox.splice(this.#mailbox.findIndex(m => m instanceof Message), 1);
			this.#drop(oldest, "the mailbox is full");
			return true;
		}
		if (message.isRequest && overflow !== "drop-newest")
			message.refuse("unavailable", "the mailbox is full");
		else
			this.#drop(message, "the mailbox is full");
		return false;
	}

	#drop(message, why) {
		if (message.isRequest)
			notHandled(message, why);
		else
			this.container.log(`${this.alias}: a message of type ${message.type}: ${why}`);
	}

	tellGone(frame) {
		this.#mailbox.push(frame);
		this.#wake();
	}

	/** done is called when that is over, with an error or null, and what there is to tell. */
	operate(operation, what, done) {
		if (this.over) {
			done(operation === "destroy" ? null : new DavitError("wrong-state", "it was destroyed"), {});
			return;
		}
		this.#operations.push({operation, what, done});
		this.#wake();
	}

	// --- one thing after the other ---

	async work() {
		while (!this.over && !this.channel.isClosing) {
			if (this.#operations.length)
				await this.#operate(this.#operations.shift());
			else if (this.#urgent.length)
				await this.#handleUrgent(this.#urgent.shift());
			else if (this.state === "started" && this.#background.length)
				await this.#failAndTell(this.#background.shift());
			else if (this.state === "started" && this.#mailbox.length)
				await this.#handle(this.#mailbox.shift());
			else
				await new Promise(resolve => { this.#wake = resolve; });
		}
	}

	#ack(begun) {
		if (!this.above) // the parent counts what it sends to the process's own
			this.channel.write({kind: Kind.ACK, id: this.#done, type: begun});
	}

	async #handle(message) {
		if (message.kind === Kind.GONE) {
			const error = message.type ? DavitError.of(message.type, message.payload.toString()) : null;
			await this.#try(() => this.container.gone(message.to, error));
			return;
		}
		if (!message.isCanceled) {
			this.#ack(1);
			this.#current = message;
			const isWell = await this.#try(() => this.#deliver(message));
			this.#current = null;
			if (!isWell) {
				this.#broken = true;
				return;
			}
		}
		this.#done++;
		if (this.state !== "started" || !this.#mailbox.length || this.#operations.length)
			this.#ack(0);
		await this.channel.drained();
	}

	/** One for a failure: while that lasts, whatever waits. It is not counted. */
	async #handleUrgent(message) {
		if (message.isCanceled)
			return;
		if (this.state !== "failed") {
			message.refuse("wrong-state", "that failure is over");
			return;
		}
		try {
			await this.#deliver(message);
		} catch (e) {
			const error = errorOf(e);
			message.refuse(error.code, error.message);
		}
	}

	async #deliver(message) {
		const container = this.container;
		try {
			let behaviour = this.behaviours.at(-1) ?? container.behave;
			if (message.type === TYPE_COMMAND)
				behaviour = this.#command(message);
			const answer = await behaviour.call(container, message);
			if (!message.isKept)
				message.reply(answer);
		} catch (e) {
			if (!(e instanceof Refusal))
				throw e;
			if (message.isRequest)
				message.refuse(e.code, e.message);
			else
				container.log(`${container.alias}: a message of type ${message.type}: ${e.message}`);
		}
	}

	#command(message) {
		const end = message.data.indexOf(0);
		const name = message.data.subarray(0, end < 0 ? message.data.length : end).toString();
		if (!this.container.constructor.commands.includes(name))
			throw new Refusal("not-found", `${this.alias} has no command "${name}"`);
		return this.container[name];
	}

	/** False: it has failed, and the container with it; or it is over meanwhile. */
	async #try(work) {
		try {
			await work();
			return !this.over;
		} catch (e) {
			if (!this.over)
				await this.#failAndTell(e);
			return false;
		}
	}

	async #failAndTell(e) {
		const error = await this.#fail(e);
		if (this.#current) {
			if (this.above)
				notHandled(this.#current, "its handler failed");
			else
				this.#current.forget(); // the parent refuses it
		}
		if (this.above)
			this.#supervised();
		else
			this.channel.tell(0n, "failed", error, {message: error.message.slice(0, 4096)});
	}

	// --- beside the messages ---

	spawn(work) {
		const {signal} = this.#abort;
		return (async () => work(signal))().catch(e => {
			if (!signal.aborted)
				this.#background.push(e);
			this.#wake();
		});
	}

	#stopTasks() {
		this.#abort.abort();
		this.#abort = new AbortController();
		this.#background = [];
	}

	// --- states ---

	async #operate({operation, what, done}) {
		let error = null, more = {};
		if (!OPERATIONS.get(operation).includes(this.state)) {
			error = new DavitError("wrong-state", `cannot ${operation} a ${this.state} container`);
		} else if (operation === "create") {
			error = await this.#create();
			more = {options: this.container.options};
		} else if (operation === "start" || operation === "continue") {
			if (this.state !== "started")
				error = await this.#start(operation === "start" && what.fresh === true);
		} else if (operation === "fail" && this.state === "started") {
			const code = WORDS.indexOf(what.code) > 0 ? what.code : "internal";
			more = {message: (await this.#fail(new DavitError(code, String(what.message ?? "")))).message};
		} else if (operation === "stop" && (this.state === "started" || this.state === "failed")) {
			await this.#leave("stop", "stopped");
		} else if (operation === "destroy") {
			await this.#finish();
		}
		done(error, error ? {message: error.message} : more);
		if (this.state === "started" && this.#broken) {
			this.#broken = false;
			this.#done++;
			this.#ack(0);
		}
		if (this.above && this.state === "failed" && (error || operation === "fail"))
			this.#supervised();
	}

	async #create() {
		const k = this.container;
		try {
			await k.hook("create", "before");
			await k.config();
			await k.boot();
			this.#kept = {...k};
			await k.construct();
			await k.hook("create", "on");
			check(k.options);
		} catch (e) {
			console.error(e);
			return errorOf(e);
		}
		this.#is("created");
		await this.#hookOnly("create", "after");
		return null;
	}

	async #start(fresh) {
		const k = this.container;
		try {
			await k.hook("start", "before");
			if (fresh) {
				this.#stopTasks();
				for (const key of Object.keys(k))
					delete k[key];
				Object.assign(k, this.#kept);
				this.behaviours = [];
				await k.construct();
			}
			await k.hook("start", "on");
		} catch (e) {
			return this.#fail(e);
		}
		this.#is("started");
		await this.#hookOnly("start", "after");
		this.brood.aboveStarted();
		return null;
	}

	async #leave(operation, state) {
		await this.#hookOnly(operation, "before");
		await this.#hookOnly(operation, "on");
		if (this.over)
			return;
		this.#stopTasks();
		this.#is(state);
		await this.#hookOnly(operation, "after");
	}

	async #fail(e) {
		if (!(e instanceof DavitError))
			console.error(e);
		this.#error = errorOf(e);
		this.failure = randomBytes(8).toString("hex");
		await this.#leave("fail", "failed");
		return this.#error;
	}

	/** Those below first, the last and deepest before the others. */
	async #finish() {
		for (const life of [...this.below.values()].reverse())
			await life.destroy("both");
		await this.#leave("destroy", "destroyed");
	}

	/** A hook that cannot hold anything up. */
	async #hookOnly(operation, phase) {
		try {
			await this.container.hook(operation, phase);
		} catch (e) {
			this.container.log(`${this.alias}: hook of ${operation}: ${errorOf(e).message}`);
		}
	}

	// --- what others hear of it ---

	#is(state) {
		this.state = state;
		if (!this.above)
			return;
		if (state === "started")
			this.standing.started(performance.now());
		if (state === "destroyed")
			this.#refuseAll();
		if (state === "stopped" && this.container.options.keep_nothing)
			for (const waiting of this.#mailbox.splice(0))
				waiting instanceof Message ? this.take(waiting, false) : this.tellGone(waiting);
		const known = {alias: this.alias, name: this.container.name, parent: this.above.alias, state,
			restarts: this.restarts, strategy: this.container.options.strategy ?? "one-for-one"};
		if (state === "failed")
			Object.assign(known, {failure: this.failure, code: this.#error.code,
				message: this.#error.message.slice(0, 1024)});
		this.channel.write({kind: Kind.ANNOUNCE, payload: Buffer.from(JSON.stringify(known))});
		if (state === "destroyed")
			this.#end();
	}

	#refuseAll() {
		for (const message of [this.#current, ...this.#urgent, ...this.#mailbox])
			if (message instanceof Message)
				notHandled(message, "the receiver has ended");
	}

	#end() {
		this.over = true;
		this.standing.told("stop");
		this.brood.abort();
		this.above.below.delete(this.alias);
		this.channel.lives.delete(this.alias);
		for (const {operation, done} of this.#operations.splice(0))
			done(operation === "destroy" ? null : new DavitError("wrong-state", "it was destroyed"), {});
		this.#wake();
	}

	// --- those below ---

	/** A container within this process. */
	async make(type, alias, name, args, start) {
		if (!this.brood.mayHave(type))
			throw new DavitError("invalid", `by simple-one-for-one all children of ${this.alias} are of one class`);
		const life = new Life(this.channel, type, this);
		Object.assign(life.container, {alias, name, args, parent: this.alias, path: `${this.container.path}/${alias}`});
		this.channel.lives.set(alias, life);
		this.below.set(alias, life);
		life.work();
		try {
			await life.ask("create");
		} catch (e) {
			life.#end();
			throw e;
		}
		if (start)
			await life.manage({do: "start"});
	}

	ask(operation, what = {}) {
		return new Promise((resolve, reject) => {
			this.operate(operation, what, error => error ? reject(new DavitError(error.code, error.message)) : resolve());
		});
	}

	/** What others want of it: the words of MANAGE. */
	async manage(what) {
		if (what.do === "destroy") {
			if (this.state === "started" && !what.force)
				throw new DavitError("wrong-state", "it runs, and is to be kept");
			await this.destroy(what.force);
		} else if (what.do === "solve") {
			if (this.state !== "failed")
				throw new DavitError("wrong-state", `${this.alias} has not failed`);
			if (String(what.failure).padStart(16, "0") !== this.failure)
				throw new DavitError("wrong-state", "that failure is over");
			if (!SOLUTIONS.has(what.solution))
				throw new DavitError("invalid", "that is no solution for others to give");
			this.standing.told(what.solution);
			await this.ask(SOLUTIONS.get(what.solution), {fresh: true});
		} else {
			this.standing.told(what.do);
			await this.ask(what.do, {fresh: this.state === "failed", code: what.code, message: what.message});
		}
	}

	/** Soft: when it is done with its message. Hard: cut off. Both, and without a word: the one, then the other. */
	async destroy(force) {
		if (this.over)
			return;
		if (force !== "hard") {
			const asked = this.ask("destroy");
			let timer;
			const late = new Promise(resolve => {
				if (force !== "soft")
					timer = setTimeout(resolve, this.above.container.options.shutdown_time || SHUTDOWN, true);
			});
			const isLate = await Promise.race([asked, late]);
			clearTimeout(timer);
			if (!isLate)
				return;
		}
		for (const life of [...this.below.values()].reverse())
			await life.destroy("hard");
		if (this.over)
			return;
		this.#stopTasks();
		this.#is("destroyed");
	}

	// --- supervision ---

	/** It has failed: what is done is for the one above to decide. */
	#supervised() {
		this.container.log(`${this.alias}: failed: ${this.#error.message}`);
		this.above.brood.childFailed(this);
	}

	/** Those below have failed it. */
	failBeside(error) {
		if (this.state !== "started")
			return;
		this.#background.push(error);
		this.#wake();
	}

	stopItself() {
		this.standing.told("stop");
		this.operate("stop", {}, error => {
			if (!this.above && !error)
				this.channel.write({kind: Kind.STATE, payload: Buffer.from('{"state": "stopped"}')});
		});
	}
}

module.exports = {Life, OPERATIONS};
