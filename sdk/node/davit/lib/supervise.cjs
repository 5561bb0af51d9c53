// SPDX-License-Identifier: MIT
// What follows when a container within the process fails: the rules of C (docs/supervision.md), decided by the one
// above it.
"use strict";

const {DavitError} = require("./frames.cjs");

const MAX_RESTARTS = 10; // as struct davit_options; times in milliseconds
const PERIOD = 60000;
const BACKOFF = {initial: 100, max: 30000, factor: 2, jitter: 0.1, reset: 60000}; // as struct davit_backoff
const WORDS = {overflow: ["fail", "drop-newest", "drop-oldest", "block"], restart: ["always", "on-failure", "never"],
	strategy: ["one-for-one", "one-for-all", "rest-for-one", "simple-one-for-one"]};
const FLAGS = ["keep_nothing", "significant", "auto_shutdown", "isolate"];
const NUMBERS = {limit: 0, block_time: 0, retries: -1, max_restarts: -1, period: 0, shutdown_time: 0,
	keepalive: -1}; // the least that each may be

function checkBackoff(backoff) {
	if (backoff === null || typeof backoff !== "object" || Array.isArray(backoff))
		throw new DavitError("invalid", "option backoff is not an object");
	for (const [key, value] of Object.entries(backoff)) {
		if (!Object.hasOwn(BACKOFF, key))
			throw new DavitError("invalid", `option backoff has no ${key}`);
		if (!Number.isFinite(value) || value < 0)
			throw new DavitError("invalid", `option backoff.${key} is not a number of at least 0`);
	}
}

function checkOption(key, value) {
	let isWell, what;
	if (Object.hasOwn(WORDS, key))
		[isWell, what] = [WORDS[key].includes(value), `one of ${WORDS[key].join(", ")}`];
	else if (FLAGS.includes(key))
		[isWell, what] = [typeof value === "boolean", "true or false"];
	else if (Object.hasOwn(NUMBERS, key))
		[isWell, what] = [Number.isSafeInteger(value) && value >= NUMBERS[key],
			`a whole number of at least ${NUMBERS[key]}`];
	else if (key === "backoff")
		return checkBackoff(value);
	else
		throw new DavitError("invalid", `there is no option ${key}`);
	if (!isWell)
		throw new DavitError("invalid", `option ${key} is not ${what}`);
}

/** Throws for what is no option, or cannot be one. */
function check(options) {
	for (const [key, value] of Object.entries(options))
		if (value !== undefined)
			checkOption(key, value);
	const {significant, restart = "always", retries = -1} = options;
	if (significant && restart === "always" && retries < 0)
		throw new DavitError("invalid", "a significant container that is always restarted never ends");
}

/** Milliseconds before restart number `attempt`, from 0; chance is from 0 to 1. Without a backoff: at once. */
function delay(backoff, attempt, chance) {
	if (!backoff)
		return 0;
	const {initial, max, factor, jitter} = {...BACKOFF, ...backoff};
	const time = initial && Math.min(initial * Math.max(factor, 1) ** attempt, max);
	return time - time * Math.min(jitter, 1) * chance;
}

/** How one stands with the one above it. */
class Standing {
	static #last = 0;
	order = ++Standing.#last; // of its creation
	wanted = false; // somebody has started it, and not stopped
	left = false; // it has failed, and is left so
	ran = false; // since then
	tries = 0; // restarts since somebody has started it
	attempt = 0; // failures in a row, for the backoff
	since = Infinity; // when it began to run
	timer = null; // its backoff

	afresh() {
		Object.assign(this, {wanted: true, left: false, ran: false, tries: 0, attempt: 0});
		this.rest();
	}

	started(now) {
		this.ran = true;
		this.since = now;
	}

	/** Somebody's word holds against the supervisor's. */
	told(what) {
		if (what === "start" || what === "restart")
			this.afresh();
		if (what === "continue")
			Object.assign(this, {wanted: true, left: false});
		if (what === "stop")
			this.wanted = false;
		if (what === "continue" || what === "stop")
			this.rest();
	}

	rest() {
		clearTimeout(this.timer);
		this.timer = null;
	}
}

/** Of those below one, whose life that is. */
class Supervisor {
	#life;
	#recent = []; // when they were restarted
	#givenUp = false; // the one above fails for it, and all are started when it is again
	#turn = Promise.resolve(); // one stops and starts several at a time
	// A group that is to be restarted:
	#asked = false;
	#first = Infinity; // the order of its first
	#due = 0;
	#hurry = () => {};

	constructor(life) {
		this.#life = life;
	}

	get #options() {
		return this.#life.container.options;
	}

	get #isOneForOne() {
		return ["one-for-one", "simple-one-for-one"].includes(this.#options.strategy ?? "one-for-one");
	}

	/** By simple-one-for-one all are of one class. */
	mayHave(type) {
		return this.#options.strategy !== "simple-one-for-one" ||
			[...this.#life.below.values()].every(life => life.container.constructor === type);
	}

	#inTurn(work) {
		this.#turn = this.#turn.then(work);
		return this.#turn;
	}

	// --- what has happened ---

	childFailed(child) {
		const {standing, container: {options}} = child, now = performance.now();
		const {restart, retries = -1, backoff} = options;
		if (now - standing.since >= (backoff?.reset ?? BACKOFF.reset))
			standing.attempt = 0;
		standing.since = Infinity;
		if (!standing.wanted || child.over)
			return;
		if (restart === "never") {
			this.#leave(child);
		} else if (this.#givenUp) {
			// it is started with the others
		} else if (retries >= 0 && standing.tries >= retries) {
			if (this.#options.isolate)
				this.#leave(child);
			else
				this.#giveUp("escalation", child);
		} else if (this.#isTooMany(now)) {
			this.#giveUp("intensity", child);
		} else {
			const time = delay(backoff, standing.attempt, Math.random());
			standing.tries++;
			standing.attempt++;
			child.restarts++;
			this.#restart(child, time);
		}
	}

	aboveStarted() {
		if (this.#givenUp)
			this.#inTurn(() => this.#relaunch());
	}

	/** No group is restarted any more. */
	abort() {
		this.#asked = false;
		this.#first = Infinity;
		this.#due = 0;
		this.#hurry();
	}

	// --- what follows ---

	#isTooMany(now) {
		const max = this.#options.max_restarts || MAX_RESTARTS, period = this.#options.period || PERIOD;
		this.#recent = this.#recent.filter(at => now - at < period);
		if (max >= 0 && this.#recent.length >= max)
			return true;
		if (max > 0)
			this.#recent.push(now);
		return false;
	}

	/** It stays failed: it is done. */
	#leave(child) {
		child.standing.left = true;
		if (child.container.options.significant && this.#options.auto_shutdown)
			this.#inTurn(async () => {
				await this.#quell();
				this.#life.stopItself();
			});
	}

	#giveUp(rule, child) {
		this.#givenUp = true;
		this.abort();
		const error = new DavitError("unavailable", `its children fail: ${rule}, by ${child.alias}`);
		this.#inTurn(async () => {
			await this.#quell();
			this.#life.failBeside(error);
		});
	}

	async #relaunch() {
		if (!this.#givenUp || this.#life.state !== "started")
			return;
		this.#givenUp = false;
		this.#afresh();
		await this.#rise();
	}

	#afresh() {
		this.#recent = [];
		for (const life of this.#life.below.values()) {
			if (life.standing.wanted)
				life.standing.afresh();
			life.brood.#givenUp = false;
			life.brood.#afresh();
		}
	}

	#restart(child, time) {
		if (this.#isOneForOne) {
			child.standing.timer = setTimeout(() => this.#inTurn(() => this.#start(child)), Math.ceil(time));
			return;
		}
		this.#first = Math.min(this.#first, this.#options.strategy === "one-for-all" ? 0 : child.standing.order);
		this.#due = Math.max(this.#due, performance.now() + time);
		if (!this.#asked) {
			this.#asked = true;
			this.#inTurn(() => this.#restartGroup());
		}
	}

	/** Stops those concerned, waits for the backoff, starts them; the group may grow meanwhile. */
	async #restartGroup() {
		while (this.#asked) {
			const first = this.#first;
			await this.#quell(first);
			await this.#wait(this.#due - performance.now());
			if (first !== this.#first || this.#due > performance.now())
				continue;
			this.#asked = false;
			this.#due = 0;
			await this.#rise(first);
			if (!this.#asked)
				this.#first = Infinity;
		}
	}

	async #wait(time) {
		if (time <= 0 || !this.#asked)
			return;
		let timer;
		await new Promise(resolve => {
			this.#hurry = resolve;
			timer = setTimeout(resolve, Math.ceil(time));
		});
		clearTimeout(timer);
	}

	// --- several ---

	#those(first = 0) {
		return [...this.#life.below.values()].filter(life => life.standing.order >= first);
	}

	/**
	 * Stops them, with all beneath: the last and deepest first, one after the other, or under one-for-one all
	 * at once.
	 */
	async #quell(first = 0) {
		const stop = async life => {
			life.standing.rest();
			await life.brood.#hush();
			if (life.state === "started")
				await quietly(life.ask("stop"));
		};
		const those = this.#those(first).reverse();
		if (this.#isOneForOne)
			await Promise.all(those.map(stop));
		else
			for (const life of those)
				await stop(life);
	}

	/** For the sake of others: what is under way here is over first. */
	#hush() {
		this.abort();
		return this.#inTurn(() => this.#quell());
	}

	/** Starts them again, with all beneath; but what was stopped by others, or was left as it is, stays so. */
	async #rise(first = 0) {
		for (const life of this.#those(first)) {
			await this.#start(life);
			if (life.state === "started")
				await life.brood.#rise();
		}
	}

	async #start(life) {
		const {standing, state} = life;
		const isOver = state === "stopped" && life.container.options.restart === "never" && standing.ran;
		standing.rest();
		if (standing.wanted && !standing.left && !this.#givenUp && !isOver && (state === "failed" || state === "stopped"))
			await quietly(life.ask("start", {fresh: true}));
	}
}

async function quietly(work) {
	try {
		await work;
	} catch (e) {
		if (!(e instanceof DavitError)) // it has failed again, which is decided about by itself, or has ended meanwhile
			throw e;
	}
}

module.exports = {Standing, Supervisor, check, delay};
