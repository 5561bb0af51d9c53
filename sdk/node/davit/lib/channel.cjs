// SPDX-License-Identifier: MIT
// The channel to the parent (docs/channel.md): what comes by it for whom, and what is asked by it.
"use strict";

const net = require("node:net");
const {Message} = require("./container.cjs");
const {DavitError, Decoder, FAILED, Kind, NAMES, ProtocolError, encode, objectOf} = require("./frames.cjs");
const {Life, OPERATIONS} = require("./life.cjs");

const WITHIN = ["start", "stop", "fail", "destroy", "solve"]; // what the parent can do to those within
const ANSWERS = {
	[Kind.REQUEST]: [Kind.REPLY, Kind.REFUSE, Kind.PROGRESS],
	[Kind.MANAGE]: [Kind.RESULT],
};
const NEVER = 2 ** 31 - 1; // milliseconds: what a timer can be set to

class Channel {
	lives = new Map(); // of those within, by alias
	asked = new Map(); // requests that came and are not answered, by id
	isClosing = false;
	#socket;
	#decoder = new Decoder();
	#greeted = false;
	#pending = new Map();
	#lastId = 0n;
	#watchers = new Map(); // whose end is awaited by whom
	#heard = performance.now();
	#end;

	/** end is called once, with null when the container is destroyed, or why the parent is not there. */
	constructor(type, fd, end) {
		this.#end = end;
		this.root = new Life(this, type);
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
		if (this.isClosing)
			return;
		this.isClosing = true;
		this.#socket.end(() => this.#end(why, this.root.alias));
		setTimeout(() => this.#end(why, this.root.alias), why === null ? 1000 : 100);
	}

	/** Queues a frame; never waits. False: enough for now. */
	write(frame) {
		if (frame.payload && frame.payload.length > this.#decoder.limit)
			throw new DavitError("invalid", `a message has at most ${this.#decoder.limit} bytes`);
		const data = encode(frame);
		return this.isClosing || this.#socket.write(data);
	}

	async send(frame) {
		this.write(frame);
		await this.drained();
	}

	/** Waits until what was written has left, if it is much. */
	async drained() {
		if (this.#socket.writableNeedDrain && !this.isClosing)
			await new Promise(resolve => this.#socket.once("drain", resolve));
	}

	/** The state that one is in, within which is `to`. */
	tell(id, state, error, more, to = "") {
		this.write({kind: Kind.STATE, id, to, type: error ? error.number : 0,
			payload: Buffer.from(JSON.stringify({state, ...more}))});
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
			this.#operate(frame);
			break;
		case Kind.MESSAGE:
		case Kind.REQUEST:
			this.#deliver(new Message(this, frame), frame);
			break;
		case Kind.CANCEL:
			this.asked.get(frame.id)?.cancel();
			break;
		case Kind.GONE:
			(this.#watchers.get(frame.to)?.shift() ?? this.root).tellGone(frame);
			break;
		default:
			this.#settle(frame);
		}
	}

	#deliver(message, frame) {
		const life = frame.to ? this.lives.get(frame.to) : this.root;
		if (life)
			life.take(message, Boolean(frame.flags & FAILED));
		else
			message.refuse("not-found", `there is no ${frame.to} in here`);
	}

	#operate(frame) {
		const what = objectOf(frame);
		if (frame.to ? !WITHIN.includes(what.do) : !OPERATIONS.has(what.do))
			throw new ProtocolError("OPERATE without a known operation");
		if (frame.to) {
			this.#operateWithin(frame, what);
			return;
		}
		this.root.operate(what.do, what, (error, more) => {
			this.tell(frame.id, this.root.state, error, more);
			if (this.root.state === "destroyed")
				this.#close(null);
		});
	}

	async #operateWithin(frame, what) {
		const life = this.lives.get(frame.to);
		let error = null;
		try {
			if (life)
				await life.manage(what);
			else if (what.do !== "destroy")
				throw new DavitError("wrong-state", `cannot ${what.do} a destroyed container`);
		} catch (e) {
			error = e;
		}
		this.tell(frame.id, life?.state ?? "destroyed", error, error ? {message: error.message} : {}, frame.to);
	}

	#greet(hello) {
		if (!(Number.isInteger(hello.protocol) && hello.protocol >= 1 && Number.isInteger(hello.limit)))
			throw new ProtocolError("HELLO without a version and a limit");
		for (const key of ["alias", "name", "path", "parent", "args"])
			this.root.container[key] = String(hello[key] ?? "");
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

	async #ask(kind, timeout, fields, signal) {
		const id = ++this.#lastId;
		const pending = {kind};
		let timer;
		const answer = new Promise((resolve, reject) => Object.assign(pending, {resolve, reject}));
		answer.catch(() => {}); // it may come while the frame is still being sent
		const giveUp = error => {
			if (!this.#pending.delete(id))
				return;
			pending.reject(error);
			if (kind === Kind.REQUEST)
				this.write({kind: Kind.CANCEL, id});
		};
		const onAbort = () => giveUp(new DavitError("canceled", "the request was cancelled"));
		pending.renew = () => {
			clearTimeout(timer);
			if (timeout !== null)
				timer = setTimeout(giveUp, Math.min(timeout, NEVER),
					new DavitError("timeout", `no answer in ${timeout} ms`));
		};
		if (signal?.aborted)
			throw new DavitError("canceled", "the request was cancelled");
		this.#pending.set(id, pending);
		signal?.addEventListener("abort", onAbort);
		pending.renew();
		try {
			await this.send({kind, id, time: Math.min(timeout ?? 0, NEVER), ...fields});
			return await answer;
		} finally {
			clearTimeout(timer);
			signal?.removeEventListener("abort", onAbort);
			this.#pending.delete(id);
		}
	}

	request(from, to, payload, type, {timeout, signal}) {
		return this.#ask(Kind.REQUEST, timeout, {to, payload, type, from}, signal);
	}

	manage(what) {
		return this.#ask(Kind.MANAGE, null, {payload: Buffer.from(JSON.stringify(what))});
	}

	async watch(life, address) {
		const {alias} = await this.manage({do: "watch", address});
		if (!this.#watchers.has(alias))
			this.#watchers.set(alias, []);
		this.#watchers.get(alias).push(life);
	}

	/** Whose alias or path that is, of those within this process; or undefined. */
	within(address) {
		const life = this.lives.get(address.slice(address.lastIndexOf("/") + 1));
		return life && (!address.includes("/") || `/${life.container.path}`.endsWith(`/${address}`)) ? life : undefined;
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
	channel.root.work();
}

module.exports = {run};
