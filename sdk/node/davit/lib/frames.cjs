// SPDX-License-Identifier: MIT
// Frames of the channel protocol (docs/channel.md): bytes to frames and back.
"use strict";

const HEADER = 24;
const MAX = 65536; // bytes of a frame behind its header
const MORE = 1; // flags
const FAILED = 2;
const KEEP = 4;
const TYPE_COMMAND = 0xffffff01;
const TYPE_MAX = 0xffffff00; // a user's types are below

const WORDS = ["ok", "invalid", "not-found", "exists", "wrong-state", "conflict", "unsupported", "forbidden",
	"out-of-memory", "io", "no-space", "timeout", "canceled", "protocol", "closed", "corrupt", "unavailable",
	"quota", "exec-failed", "build-failed", "source", "in-use", "compacted", "internal"];

const NAMES = ["", "HELLO", "WELCOME", "OPERATE", "STATE", "PING", "PONG", "ACK", "MESSAGE", "REQUEST", "REPLY",
	"REFUSE", "PROGRESS", "CANCEL", "MANAGE", "RESULT", "GONE", "ANNOUNCE", "LOG", "BELL"];
const Kind = Object.freeze(Object.fromEntries(NAMES.map((name, i) => [name, i])));
const TO_CHILD = new Set(["HELLO", "OPERATE", "PING", "MESSAGE", "REQUEST", "REPLY", "REFUSE", "PROGRESS", "CANCEL",
	"RESULT", "GONE", "BELL"].map(name => Kind[name]));
const IN_PARTS = new Set([Kind.MESSAGE, Kind.REQUEST, Kind.REPLY]);
const NOTHING = Buffer.alloc(0);

/** An error with davit's word for it in `code`: "not-found", "timeout", ... (docs/errors.md). */
class DavitError extends Error {
	constructor(code, message = "") {
		if (!WORDS.includes(code))
			throw new TypeError(`davit has no error "${code}"`);
		super(message || code);
		this.name = "DavitError";
		this.code = code;
	}

	get number() {
		return WORDS.indexOf(this.code);
	}

	static of(number, message) {
		return new DavitError(WORDS[number] || "internal", message);
	}
}

/** The parent does not keep to the protocol. */
class ProtocolError extends Error {}

/** What a payload in JSON holds. */
function objectOf(frame) {
	let value;
	try {
		value = JSON.parse(frame.payload.length ? frame.payload.toString() : "{}");
	} catch (e) {
		throw new ProtocolError(`${NAMES[frame.kind]} is not JSON: ${e.message}`);
	}
	if (value === null || typeof value !== "object" || Array.isArray(value))
		throw new ProtocolError(`${NAMES[frame.kind]} is no JSON object`);
	return value;
}

function header(size, kind, flags, from, to, id, type, time) {
	const b = Buffer.alloc(HEADER);
	b.writeUInt32LE(size, 0);
	b.set([kind, flags, from, to], 4);
	b.writeBigUInt64LE(id, 8);
	b.writeUInt32LE(type, 16);
	b.writeUInt32LE(time, 20);
	return b;
}

/** The frame as bytes, in parts if it is large. DavitError: what it holds is too long. */
function encode({kind, flags = 0, id = 0n, type = 0, time = 0, payload = NOTHING, from = "", to = ""}) {
	const sender = Buffer.from(from), address = Buffer.from(to);
	if (sender.length > 255 || address.length > 255)
		throw new DavitError("invalid", "an address has at most 255 bytes");
	const first = MAX - sender.length - address.length;
	if (payload.length > first && !IN_PARTS.has(kind))
		throw new DavitError("invalid", `${NAMES[kind]} has at most ${first} bytes`);
	const out = [header(sender.length + address.length + Math.min(first, payload.length), kind,
		flags | (payload.length > first ? MORE : 0), sender.length, address.length, id, type, time),
	sender, address, payload.subarray(0, first)];
	for (let at = first; at < payload.length; at += MAX) {
		const part = payload.subarray(at, at + MAX);
		out.push(header(part.length, kind, at + MAX < payload.length ? MORE : 0, 0, 0, id, 0, 0), part);
	}
	return Buffer.concat(out);
}

function utf8(bytes) {
	try {
		return new TextDecoder("utf-8", {fatal: true}).decode(bytes);
	} catch {
		throw new ProtocolError("an address is not UTF-8");
	}
}

/** Takes bytes as they come, gives whole frames; large ones put together again. */
class Decoder {
	limit = MAX; // of a message in parts; HELLO says more
	#in = NOTHING;
	#whole = null; // a message of which parts are missing
	#parts = [];
	#length = 0;

	*feed(data) {
		let rest = this.#in.length ? Buffer.concat([this.#in, data]) : data;
		this.#in = NOTHING;
		while (rest.length >= HEADER) {
			const size = rest.readUInt32LE(0);
			const [kind, flags, from, to] = rest.subarray(4, 8);
			if (size > MAX || from + to > size)
				throw new ProtocolError(`a frame of ${size} bytes, with addresses of ${from + to}`);
			if (rest.length < HEADER + size)
				break;
			const body = rest.subarray(HEADER, HEADER + size);
			const frame = this.#join(this.#check(rest, kind, flags, from, to, body));
			rest = rest.subarray(HEADER + size);
			if (frame)
				yield frame;
		}
		this.#in = Buffer.from(rest); // a copy: what it was cut from may be large
	}

	#check(head, kind, flags, from, to, body) {
		if (!TO_CHILD.has(kind))
			throw new ProtocolError(`a frame of kind ${kind}, which a child is not sent`);
		if (flags & ~(MORE | FAILED) || (flags & MORE && !IN_PARTS.has(kind)))
			throw new ProtocolError(`flags ${flags} of ${NAMES[kind]}`);
		return {
			kind, flags, id: head.readBigUInt64LE(8), type: head.readUInt32LE(16), time: head.readUInt32LE(20),
			from: utf8(body.subarray(0, from)), to: utf8(body.subarray(from, from + to)),
			payload: body.subarray(from + to),
		};
	}

	#join(frame) {
		if (!IN_PARTS.has(frame.kind) || (!this.#whole && !(frame.flags & MORE)))
			return frame;
		if (this.#whole && (this.#whole.kind !== frame.kind || this.#whole.id !== frame.id))
			throw new ProtocolError(`${NAMES[frame.kind]} between the parts of another`);
		this.#whole ??= frame;
		this.#parts.push(Buffer.from(frame.payload));
		this.#length += frame.payload.length;
		if (this.#length > this.limit)
			throw new ProtocolError(`a message of more than ${this.limit} bytes`);
		if (frame.flags & MORE)
			return null;
		const whole = {...this.#whole, flags: this.#whole.flags & ~MORE, payload: Buffer.concat(this.#parts)};
		this.#whole = null;
		this.#parts = [];
		this.#length = 0;
		return whole;
	}
}

module.exports = {DavitError, Decoder, FAILED, KEEP, Kind, NAMES, ProtocolError, TYPE_COMMAND, TYPE_MAX, WORDS, encode, objectOf};
