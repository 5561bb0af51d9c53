/* SPDX-License-Identifier: MIT
 *
 * What terminal.c and terminal_ask.c know of each other.
 */
#ifndef DAVIT_LOCAL_TERMINAL_IMPL_H
#define DAVIT_LOCAL_TERMINAL_IMPL_H

#include "local/terminal.h"

/* What an answer means, or that none came (h NULL): without a code it is success. A keeper that does not know
 * the request is old, which is said. */
void terminal_error_of(const struct keeper_header *h, const struct davit_error *why, struct davit_error *ret);
/* Fills err with DAVIT_ENOMEM, and returns it. */
int terminal_no_memory(struct davit_error *err);
/* The name that its keeper knows the instance by; borrowed. */
const char *terminal_instance_id(const struct local_terminals *ts, struct davit_instance *inst);

/* terminal_ask.c: questions under way fail with DAVIT_ECLOSED. */
void terminal_asks_close(struct local_terminals *ts);

#endif
