/* SPDX-License-Identifier: MIT
 *
 * The part of an apply that needs the runtimes' word: whether what the specs ask for
 * is there - the user, the image, what is to be mounted. It is asked for one spec
 * after the other, before anything is written. Not for use outside src/core.
 */
#ifndef DAVIT_CORE_ADMIT_H
#define DAVIT_CORE_ADMIT_H

#include "core/check.h"
#include "core/transaction.h"

struct apply_how {
	enum davit_apply_mode mode;
	bool force;
	int64_t expect; /* the revision that the services are to be at; 0: any */
	const char *cause;
};

/* Asks about the specs with ask[k], then hands p over (apply_pending); on a refusal
 * fails p->op with it, and nothing is written. When records have changed meanwhile,
 * everything is checked anew. Copies the specs; takes p and ask, also when it fails. */
int admit_begin(const struct proposal *pr, const struct apply_how *how, struct pending *p, bool *ask,
		struct davit_error *err);
/* A runtime of one of the specs is being opened: what it can do is not known yet. */
bool admit_must_wait(const struct proposal *pr);
/* Applies the specs when that has ended, well or not. Copies all but op; 0 or
 * DAVIT_ENOMEM. */
int admit_wait(const struct proposal *pr, const struct apply_how *how, struct davit_op *op,
	       struct davit_error *err);
/* A runtime is open, or is not to be had: looks at what waited for it. */
void admit_resume(struct davit_core *c);
/* Fails the users' operations with DAVIT_ECLOSED; the core goes. */
void admit_abandon(struct davit_core *c);
/* Frees what is left, when the runtimes are closed. */
void admit_free_all(struct davit_core *c);

/* A refusal without a place in the text is given that of its spec. */
void apply_place(const struct davit_spec *spec, struct davit_error *err);
/* command.c: all checks of the core's own, then the store, or, to validate, nothing.
 * A code with *err, op then untouched, or 0. */
int apply_commit(const struct proposal *pr, const struct apply_how *how, struct davit_op *op,
		 struct davit_error *err);
/* The same for what was checked already. Always 0. */
int apply_pending(struct pending *p, const struct apply_how *how);

#endif
