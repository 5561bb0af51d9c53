// SPDX-License-Identifier: MIT
// The module is the same, whether it is imported or required.
import assert from "node:assert";
import {createRequire} from "node:module";
import * as imported from "../node/davit/index.mjs";

const required = createRequire(import.meta.url)("../node/davit/index.cjs");

assert.deepStrictEqual({...imported}, required);
assert.deepStrictEqual(Object.keys(required), ["Container", "DavitError", "Message", "Refusal", "run"]);
