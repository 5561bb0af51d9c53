/* SPDX-License-Identifier: MIT
 *
 * Specs as the store keeps them.
 */
#ifndef DAVIT_CORE_SPEC_RECORD_H
#define DAVIT_CORE_SPEC_RECORD_H

#include "davit/spec.h"

/* A record of the store: {"spec": {}, "created": n, "updated": n, "nonce": n}, read in
 * one go, for a start of the daemon reads all of them. Numbers that are missing are 0.
 * The spec is the caller's. Codes: DAVIT_EINVAL, DAVIT_ENOMEM. */
struct davit_spec_record {
	struct davit_spec *spec;
	int64_t created, updated, nonce;
};
int davit_spec_read_record(const char *text, size_t len, struct davit_spec_record *ret,
			   struct davit_error *err);

#endif
