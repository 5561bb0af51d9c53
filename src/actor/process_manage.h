/* SPDX-License-Identifier: MIT
 *
 * What a child asks of its parent's system (MANAGE).
 */
#ifndef DAVIT_ACTOR_PROCESS_MANAGE_H
#define DAVIT_ACTOR_PROCESS_MANAGE_H

#include "actor/link_impl.h"

/* 0, or DAVIT_EPROTO. */
int process_manage(struct davit_context *c, struct link *l, const struct davit_frame *f,
		   const unsigned char *body);
/* Frees the definitions that were made for commands. */
void process_commands_fini(struct davit_system *s);

#endif
