/* SPDX-License-Identifier: MIT
 *
 * A workload in the engine's words. No loop, no calls.
 */
#ifndef DAVIT_ENGINE_SPEC_H
#define DAVIT_ENGINE_SPEC_H

#include "base/buf.h"
#include "davit/runtime.h"
#include "runtime/engine/flavour.h"

/* What is not in the workload. */
struct spec_context {
	const struct engine_flavour *flavour;
	const char *home;     /* label of all that is ours */
	const char *log_path; /* where the engine is to write the log, or NULL */
	bool init;	      /* run it beneath the engine's init */
	bool swap_limit;      /* swap can be limited */
};

/* Appends the body of POST /containers/create. */
void spec_write(struct davit_buf *out, const struct davit_workload *w, const struct spec_context *c);
/* "davit-NAMESPACE-NAME-INDEX-SHORTID": for people; unique by the last part. */
void spec_name(struct davit_buf *out, const struct davit_workload *w);
/* Whether the engine's API can carry these words: JSON is UTF-8. */
bool spec_is_utf8(const char *s);

#endif
