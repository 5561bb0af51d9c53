/* SPDX-License-Identifier: MIT
 *
 * Rules of messages between containers.
 */
#ifndef DAVIT_ACTOR_ROUTE_H
#define DAVIT_ACTOR_ROUTE_H

#include "actor/actor_impl.h"

/* As enum davit_overflow, which the engine does not know. */
enum gate_overflow { GATE_FAIL, GATE_BLOCK, GATE_DROP_NEWEST, GATE_DROP_OLDEST };

/* May who has the alias `origin` ("": from outside) send m to a? */
bool rules_allow(struct davit_context *c, const char *origin, struct davit_actor *a,
		 const struct davit_message *m);
void rules_fini(struct davit_system *s);

#endif
