/* SPDX-License-Identifier: MIT
 *
 * Between main.c and harness.c.
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

#endif
