#!/usr/bin/env node
// SPDX-License-Identifier: MIT
// Asks for a price, and adds what the state wants to have.
import {Container, DavitError, Refusal, run} from "../../../sdk/node/davit/index.mjs"; // installed: from "davit"

class Taxes extends Container {
	static commands = ["pid"];

	construct() {
		this.rate = Number(this.args);
	}

	async behave(message) {
		try {
			const {item, cents} = (await this.request("prices", message.data)).json();
			return {item, cents: Math.round(cents * (1 + this.rate))};
		} catch (e) {
			if (e instanceof DavitError) // what is wrong there is no failure of this one
				throw new Refusal(e.code, e.message);
			throw e;
		}
	}

	pid() {
		return process.pid;
	}
}

run(Taxes);
