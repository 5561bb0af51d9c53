// SPDX-License-Identifier: MIT
// The channel to the parent, and the life of the container at this end of it (docs/channel.md).
"use strict";

const net = require("node:net");
const {Message, Refusal, channelOf} = require("./container.cjs");
const {DavitError, Decoder, FAILED, Kind, NAMES, ProtocolError, TYPE_COMMAND, WORDS, encode, objectOf} =
	require("./frames.cjs");

const OPERATIONS = new Map(Object.entries({ // what is done, from which states it can be
	create: ["destroyed"],
	start: ["created", "started", "stopped", "failed"],
	continue: ["failed"],
	stop: ["created", "started", "stopped", "failed"],
	fail: ["started", "failed"],
	destroy: ["created", "started", "stopped", "failed"],
}));
const ANSWERS = {
	[Kind.REQUEST]: [Kind.REPLY, Kind.REFUSE, Kind.PROGRESS],
	[Kind.MANAGE]: [Kind.RESULT],
};
const NEVER = 2 ** 31 - 1; // milliseconds: what a timer can be set to

function errorOf(e) {
	if (e instanceof DavitError)
		return e;
	return new DavitError(e && e.syscall ? "io" : "internal", String(e));
}

class Channel {
	state = "destroyed";
	behaviours = [];
	#container;
	#socket;
	#decoder = new Decoder();
	#greeted = false;
	#closing = false;
	#operations = [];
	#mailbox = [];
	#urgent = []; // for a failed container
	#done = 0n; // messages, since this process began
	#broken = false; // the one that was begun last has failed
	#error = null; // of the last failure
	#wake = () => {};
	#pending = new Map();
	#lastId = 0n;
	#abort = new AbortController(); // of what was spawned
	#background = []; // what that threw
	#heard = performance.now();
	#kept = {}; // properties that survive a restart
	#end;

	/** end is called once, with null when the container is destroyed, or why the parent is not there. */
	constructor(type, fd, end) {
		this.#end = end;
		this.#container = new type();
		this.#container[channelOf] = this;
		this.#socket = new net.Socket({fd, readable: true, writable: true});
		this.#socket.on("data", data => this.#receive(data));
		this.#socket.on("error", () => {}); // "close" follows
		this.#socket.on("close", () => this.#close("the parent has gone"));
	}

	// --- bytes ---

	#receive(data) {
		this.#heard = performance.now();
		try {
			for (const frame of this.#decoder.feed(data))
				this.#take(frame);
		} catch (e) {
			if (!(e instanceof ProtocolError))
				throw e;
			this.#close(`the parent breaks the protocol: ${e.message}`);
		}
	}

	#close(why) {
		if (this.#closing)
			return;
		this.#closing = true;
		this.#socket.end(() => this.#end(why, this.#container.alias));
		setTimeout(() => this.#end(why, this.#container.alias), why === null ? 1000 : 100);
	}

	/** Queues a frame; never waits. False: enough for now. */
	write(frame) {
		if (frame.payload && frame.payload.length > this.#decoder.limit)
			throw new DavitError("invalid", `a message has at most ${this.#decoder.limit} bytes`);
		const data = encode(frame);
		return this.#closing || this.#socket.write(data);
	}

	async send(frame) {
		if (!this.write(frame))
			await new Promise(resolve => this.#socket.once("drain", resolve));
	}

	// --- frames ---

	#take(frame) {
		if ((frame.kind === Kind.HELLO) === this.#greeted)
			throw new ProtocolError(`${NAMES[frame.kind]} ${this.#greeted ? "after" : "before"} the greeting`);
		switch (frame.kind) {
		case Kind.HELLO:
			this.#greet(objectOf(frame));
			break;
		case Kind.PING:
			this.write({kind: Kind.PONG, id: frame.id});
			break;
		case Kind.OPERATE:
			if (!OPERATIONS.has(objectOf(frame).do))
				throw new ProtocolError("OPERATE without a known operation");
			this.#operations.push(frame);
			break;
		case Kind.MESSAGE:
		case Kind.REQUEST:
			if (frame.to)
				new Message(this, frame).refuse("not-found", `there is no ${frame.to} in here`);
			else
				(frame.flags & FAILED ? this.#urgent : this.#mailbox).push(frame);
			break;
		case Kind.GONE:
			this.#mailbox.push(frame);
			break;
		default:
			this.#settle(frame);
		}
		this.#wake();
	}

	#greet(hello) {
		if (!(Number.isInteger(hello.protocol) && hello.protocol >= 1 && Number.isInteger(hello.limit)))
			throw new ProtocolError("HELLO without a version and a limit");
		for (const key of ["alias", "name", "path", "parent", "args"])
			this.#container[key] = String(hello[key] ?? "");
		this.#decoder.limit = hello.limit;
		this.#greeted = true;
		this.write({kind: Kind.WELCOME, payload: Buffer.from('{"protocol": 1}')});
		if (hello.keepalive > 0)
			this.#watchParent(hello.keepalive, false);
	}

	/** What is there to be read is read between the suspicion and the verdict. */
	#watchParent(keepalive, suspect) {
		const silent = performance.now() - this.#heard >= keepalive;
		if (silent && suspect)
			this.#close("parent-unresponsive");
		else
			setTimeout(() => this.#watchParent(keepalive, silent), silent ? 50 : keepalive / 4);
	}

	#settle(frame) {
		const pending = this.#pending.get(frame.id);
		if (!pending || !ANSWERS[pending.kind].includes(frame.kind))
			return;
		if (frame.kind === Kind.PROGRESS)
			pending.renew();
		else if (frame.kind === Kind.REPLY)
			pending.resolve(frame.payload);
		else if (frame.kind === Kind.REFUSE)
			pending.reject(DavitError.of(frame.type, frame.payload.toString()));
		else if (frame.type)
			pending.reject(DavitError.of(frame.type, String(objectOf(frame).message ?? "")));
		else
			pending.resolve(objectOf(frame));
	}

	// --- what the container asks of others ---

	async #ask(kind, timeout, fields) {
		const id = ++this.#lastId;
		const pending = {kind};
		let timer;
		const answer = new Promise((resolve, reject) => Object.assign(pending, {resolve, reject}));
		answer.catch(() => {}); // it may come while the frame is still being sent
		pending.renew = () => {
			clearTimeout(timer);
			if (timeout !== null)
				timer = setTimeout(() => {
					pending.reject(new DavitError("timeout", `no answer in ${timeout} ms`));
					this.write({kind: Kind.CANCEL, id});
				}, Math.min(timeout, NEVER));
		};
		this.#pending.set(id, pending);
		pending.renew();
		try {
			await this.send({kind, id, time: Math.min(timeout ?? 0, NEVER), ...fields});
			return await answer;
		} finally {
			clearTimeout(timer);
			this.#pending.delete(id);
		}
	}

	request(to, payload, type, timeout) {
		return this.#ask(Kind.REQUEST, timeout, {to, payload, type, from: this.#container.alias});
	}

	manage(what) {
		return this.#ask(Kind.MANAGE, null, {payload: Buffer.from(JSON.stringify(what))});
	}

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

	// --- one thing after the other ---

	async work() {
		while (!this.#closing) {
			if (this.#operations.length)
				await this.#operate(this.#operations.shift());
			else if (this.#urgent.length)
				await this.#handleUrgent(this.#urgent.shift());
			else if (this.state === "started" && this.#background.length)
				this.#tellFailed(await this.#fail(this.#background.shift()));
			else if (this.state === "started" && this.#mailbox.length)
				await this.#handle(this.#mailbox.shift());
			else
				await new Promise(resolve => { this.#wake = resolve; });
		}
	}

	async #handle(frame) {
		if (frame.kind === Kind.GONE) {
			const error = frame.type ? DavitError.of(frame.type, frame.payload.toString()) : null;
			await this.#try(() => this.#container.gone(frame.to, error));
			return;
		}
		this.write({kind: Kind.ACK, id: this.#done, type: 1});
		if (!await this.#try(() => this.#deliver(frame))) {
			this.#broken = true;
			return;
		}
		this.#done++;
		if (this.state !== "started" || !this.#mailbox.length || this.#operations.length)
			this.write({kind: Kind.ACK, id: this.#done});
		if (this.#socket.writableNeedDrain)
			await new Promise(resolve => this.#socket.once("drain", resolve));
	}

	/** One for a failure: while that lasts, whatever waits. It is not counted. */
	async #handleUrgent(frame) {
		if (this.state !== "failed") {
			new Message(this, frame).refuse("wrong-state", "that failure is over");
			return;
		}
		try {
			await this.#deliver(frame);
		} catch (e) {
			const error = errorOf(e);
			new Message(this, frame).refuse(error.code, error.message);
		}
	}

	async #deliver(frame) {
		const message = new Message(this, frame), container = this.#container;
		try {
			let behaviour = this.behaviours.at(-1) ?? container.behave;
			if (frame.type === TYPE_COMMAND)
				behaviour = this.#command(frame);
			const answer = await behaviour.call(container, message);
			if (!message.isKept)
				message.reply(answer);
		} catch (e) {
			if (!(e instanceof Refusal))
				throw e;
			if (message.isRequest)
				message.refuse(e.code, e.message);
			else
				container.log(`${container.alias}: a message of type ${frame.type}: ${e.message}`);
		}
	}

	#command(frame) {
		const end = frame.payload.indexOf(0);
		const name = frame.payload.subarray(0, end < 0 ? frame.payload.length : end).toString();
		if (!this.#container.constructor.commands.includes(name))
			throw new Refusal("not-found", `${this.#container.alias} has no command "${name}"`);
		return this.#container[name];
	}

	/** False: it has failed, and the container with it. */
	async #try(work) {
		try {
			await work();
			return true;
		} catch (e) {
			this.#tellFailed(await this.#fail(e));
			return false;
		}
	}

	// --- life ---

	async #operate(frame) {
		const what = objectOf(frame), operation = what.do;
		let error = null, more = {};
		if (!OPERATIONS.get(operation).includes(this.state)) {
			error = new DavitError("wrong-state", `cannot ${operation} a ${this.state} container`);
		} else if (operation === "create") {
			error = await this.#create();
			more = {options: this.#container.options};
		} else if (operation === "start" || operation === "continue") {
			if (this.state !== "started")
				error = await this.#start(what.fresh === true);
		} else if (operation === "fail" && this.state === "started") {
			const code = WORDS.indexOf(what.code) > 0 ? what.code : "internal";
			more = {message: (await this.#fail(new DavitError(code, String(what.message ?? "")))).message};
		} else if (operation === "destroy" || (operation === "stop" && this.state !== "created" && this.state !== "stopped")) {
			await this.#leave(operation, operation === "stop" ? "stopped" : "destroyed");
		}
		this.#tell(frame.id, error, error ? {message: error.message} : more);
		if (this.state === "started" && this.#broken) {
			this.#broken = false;
			this.write({kind: Kind.ACK, id: ++this.#done});
		}
		if (this.state === "destroyed")
			this.#close(null);
	}

	#tell(id, error, more) {
		this.write({kind: Kind.STATE, id, type: error ? error.number : 0,
			payload: Buffer.from(JSON.stringify({state: this.state, ...more}))});
	}

	#tellFailed(error) {
		this.#tell(0n, error, {message: error.message.slice(0, 4096)});
	}

	async #create() {
		const k = this.#container;
		try {
			await k.hook("create", "before");
			await k.config();
			await k.boot();
			this.#kept = {...k};
			await k.construct();
			await k.hook("create", "on");
			JSON.stringify(k.options);
		} catch (e) {
			console.error(e);
			return errorOf(e);
		}
		this.state = "created";
		await this.#hookOnly("create", "after");
		return null;
	}

	async #start(fresh) {
		const k = this.#container;
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
		this.state = "started";
		await this.#hookOnly("start", "after");
		return null;
	}

	async #leave(operation, state) {
		await this.#hookOnly(operation, "before");
		await this.#hookOnly(operation, "on");
		this.#stopTasks();
		this.state = state;
		await this.#hookOnly(operation, "after");
	}

	async #fail(e) {
		if (!(e instanceof DavitError))
			console.error(e);
		this.#error = errorOf(e);
		await this.#leave("fail", "failed");
		return this.#error;
	}

	/** A hook that cannot hold anything up. */
	async #hookOnly(operation, phase) {
		try {
			await this.#container.hook(operation, phase);
		} catch (e) {
			this.#container.log(`${this.#container.alias}: hook of ${operation}: ${errorOf(e).message}`);
		}
	}
}

/**
 * Makes this process the container that its parent has started it for. The process ends when that is
 * destroyed, or when the parent has gone.
 */
function run(type) {
	const fd = /^\d+$/.test(process.env.DAVIT_CHANNEL ?? "") ? Number(process.env.DAVIT_CHANNEL) : -1;
	delete process.env.DAVIT_CHANNEL;
	let channel;
	try {
		channel = new Channel(type, fd, (why, alias) => {
			if (why !== null)
				console.error(`davit: ${alias || type.name}: ${why}`);
			process.exit(why === null ? 0 : 1);
		});
	} catch (e) {
		if (e.code !== "ERR_INVALID_FD_TYPE" && e.code !== "ERR_OUT_OF_RANGE" && !e.syscall)
			throw e;
		console.error("davit: DAVIT_CHANNEL is no connection: this program is to be started as a container of davit");
		process.exit(1);
	}
	channel.work();
}

module.exports = {run};
