// SPDX-License-Identifier: MIT
import davit from "./index.cjs";

export const {Container, DavitError, Message, Refusal, run} = davit;
