/* SPDX-License-Identifier: MIT
 *
 * The system of a process that is a container: one thread, whose root is that
 * container, operated by the parent.
 */
#ifndef DAVIT_ACTOR_CHILD_H
#define DAVIT_ACTOR_CHILD_H

#include "actor/container_impl.h"
#include "actor/link_impl.h"
#include "actor/process_json.h"

struct child {
	struct davit_system *system;
	struct link *link;			   /* as system->uplink */
	const struct davit_definition *definition; /* from BECOME on */
	struct hello hello;
	bool over; /* nothing is to be done any more */
	int status;
	int64_t heard;
	uint32_t attention;	       /* the parent's, when the socket was last read */
	uint64_t begun;		       /* messages of the parent's */
	struct davit_ring_page *shown; /* where the parent sees how far it is; its link's */
	uint32_t orders;	       /* that it has not answered */
	/* a question under way */
	uint64_t asked;
	bool answered;
	int answer_code;
	struct davit_buf answer;
};

/* A message of the parent's is begun, and done with. */
static inline void uplink_begin(struct davit_system *s)
{
	struct child *ch = s->child;

	atomic_store_explicit(&ch->shown->begun, ++ch->begun, memory_order_release);
}

static inline void uplink_done(struct davit_system *s)
{
	struct child *ch = s->child;

	atomic_store_explicit(&ch->shown->done, ch->begun, memory_order_release);
}

/* child_life.c */

/* The tree's root, the container itself, when the greeting has said who that is. */
int child_root(struct davit_system *s);
/* What the parent tells it to do. */
int child_operate(struct child *ch, const struct davit_frame *f, const unsigned char *body);

/* system.c: as davit_system_open, for the system of a process that is a container. */
int system_open(const struct davit_system_config *config, struct child *child, struct davit_system **ret,
		struct davit_error *err);

#endif
