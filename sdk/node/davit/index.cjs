// SPDX-License-Identifier: MIT
"use strict";
const {run} = require("./lib/channel.cjs");
const {Container, Message, Refusal} = require("./lib/container.cjs");
const {DavitError} = require("./lib/frames.cjs");

module.exports = {Container, DavitError, Message, Refusal, run};
