/* SPDX-License-Identifier: MIT
 *
 * Between main.c, harness.c and things.c.
 */
#ifndef DAVIT_TEST_HARNESS_H
#define DAVIT_TEST_HARNESS_H

#include "test/conformance/suite.h"

enum verdict { VERDICT_PASS = 1, VERDICT_SKIP, VERDICT_FAIL };

/* Prepares for a subject. 0, or -1 with the reason why it cannot run here. */
int harness_open(const struct subject *s, const char **why_not);
void harness_close(void);
/* Runs a test in a runtime of its own. The message is of a failure or a skip. */
enum verdict harness_run(const struct test *test, const char **ret_message);
/* Of the last runtime that was opened. */
const struct davit_capabilities *harness_capabilities(void);
const struct davit_runtime_driver *harness_driver(void);
const char *harness_home(void);

/* --- between harness.c and things.c --- */
/* Notes, for the end of the test, that this was called from within a slot, if it was. */
void not_in_slot(const char *what);
/* All of this test, the last one first, and what the last failed operation said. */
extern struct thing *things;
extern char last_error[480];
/* What the core would have: the thing's, in the runtime that is open. */
struct davit_instance *new_instance(struct thing *t);
/* The calls that are waited for are never on a frame that a failed wait leaves:
 * an operation may still be under way then. */
struct call *new_call(void);
/* Frees the things of a test / what all tests had together. */
void things_free(void);
void things_fini(void);

#endif
