// SPDX-License-Identifier: MIT
export type Operation = "create" | "start" | "stop" | "fail" | "destroy";
export type Phase = "before" | "on" | "after";
export type State = "destroyed" | "created" | "started" | "stopped" | "failed";
export type Force = "soft" | "hard" | "both";
/** Bytes, text, or what is sent as JSON; undefined and null are nothing. */
export type Value = Uint8Array | string | number | boolean | object | null | undefined | void;
export type Behaviour = (this: any, message: Message) => Value | Promise<Value>;

/** Before each restart; a member that is left out has the default. */
export interface Backoff {
	/** 100 ms. */
	initial?: number;
	/** 30000 ms. */
	max?: number;
	/** 2. */
	factor?: number;
	/** 0.1: the fraction of the delay that chance may take off. */
	jitter?: number;
	/** 60000 ms: after so long a time of running the delay starts over. */
	reset?: number;
}

/** As in struct davit_options; times in milliseconds. */
export interface Options {
	limit?: number;
	overflow?: "fail" | "drop-newest" | "drop-oldest" | "block";
	block_time?: number;
	keep_nothing?: boolean;
	significant?: boolean;
	restart?: "always" | "on-failure" | "never";
	retries?: number;
	/** None: at once. */
	backoff?: Backoff;
	strategy?: "one-for-one" | "one-for-all" | "rest-for-one" | "simple-one-for-one";
	max_restarts?: number;
	period?: number;
	auto_shutdown?: boolean;
	isolate?: boolean;
	shutdown_time?: number;
	keepalive?: number;
}

/** `code` is davit's word: "not-found", "timeout", ... */
export class DavitError extends Error {
	constructor(code: string, message?: string);
	readonly code: string;
	readonly number: number;
}
/** Thrown in a handler: the request is refused, and the container goes on. */
export class Refusal extends DavitError {}

export interface Data {
	readonly data: Buffer;
	readonly text: string;
	json(): any;
}
export class Message implements Data {
	private constructor();
	readonly data: Buffer;
	readonly text: string;
	readonly type: number;
	readonly sender: string;
	readonly isRequest: boolean;
	readonly timeout: number | null;
	/** Nobody awaits the answer any more; and what tells when. */
	readonly isCanceled: boolean;
	readonly signal: AbortSignal;
	readonly parameters: any;
	json(): any;
	later(): void;
	reply(value?: Value): void;
	refuse(code: string, text: string): void;
	progress(): void;
}

export class Container {
	static options: Options;
	static commands: string[];
	options: Options;
	readonly alias: string;
	readonly name: string;
	readonly path: string;
	readonly parent: string;
	readonly args: string;
	readonly state: State;

	config(): unknown;
	boot(): unknown;
	construct(): unknown;
	behave(message: Message): Value | Promise<Value>;
	gone(alias: string, error: DavitError | null): unknown;
	hook(operation: Operation, phase: Phase): unknown;

	become(behaviour: Behaviour): void;
	unbecome(): void;
	log(text: string): void;
	spawn(work: (signal: AbortSignal) => unknown): Promise<void>;

	send(to: string, data?: Value, options?: {type?: number; keep?: boolean}): Promise<void>;
	request(to: string, data?: Value, options?: {type?: number; timeout?: number | null; signal?: AbortSignal}):
		Promise<Data>;
	command(to: string, name: string, parameters?: any, options?: {timeout?: number | null; signal?: AbortSignal}):
		Promise<Data>;
	broadcast(data?: Value, options?: {type?: number}): Promise<number>;

	create(alias: string, what?: {name?: string; command?: string[]; args?: string; parent?: string; start?: boolean;
		force?: Force; type?: new () => Container}): Promise<void>;
	start(address: string): Promise<void>;
	stop(address: string): Promise<void>;
	destroy(address: string, options?: {force?: Force}): Promise<void>;
	fail(address: string, code: string, message: string): Promise<void>;
	solve(address: string, failure: string, solution: "continue" | "restart" | "stop"): Promise<void>;
	flush(options?: {force?: Force}): Promise<void>;
	get(address: string): Promise<Record<string, any>>;
	exists(address: string): Promise<boolean>;
	children(address: string): Promise<string[]>;
	watch(address: string): Promise<void>;
}

/** Makes this process the container that its parent has started it for. */
export function run(type: new () => Container): void;
