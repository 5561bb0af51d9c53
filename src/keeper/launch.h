/* SPDX-License-Identifier: MIT
 *
 * Workloads that another program starts: the launcher runs in the place of the main
 * process, with the flag KEEPER_LAUNCHING at its slot, until it ends and the process
 * that it names takes its place.
 *
 * A launcher that fails takes everything of the slot with it: its stop is an ordinary
 * one (stop.c), at whose end the slot is what it was before.
 */
#ifndef DAVIT_KEEPER_LAUNCH_H
#define DAVIT_KEEPER_LAUNCH_H

#include "keeper/keeper.h"

enum keeper_launch_phase {
	KEEPER_LAUNCH_NONE,
	KEEPER_LAUNCH_RUNS,  /* the launcher has not ended */
	KEEPER_LAUNCH_FAILS, /* what there is of it is being killed */
};

static inline struct keeper_launching *keeper_launching(const struct keeper *k, const struct keeper_slot *s)
{
	return &k->launches[keeper_slot_number(k, s)];
}

/* Starts the launcher; its answer comes when it has ended. 0, or a code when it
 * could not be started: nothing has changed then. */
int keeper_launch(struct keeper *k, struct keeper_slot *s, struct keeper_command *c, const char *pid_file,
		  uint32_t limit_ms, uint64_t tag, struct davit_error *err);
/* The slot's present process, which is the launcher or what it named, ended so. */
void keeper_launch_ended(struct keeper *k, struct keeper_slot *s, const struct keeper_end *e);
/* STOP came. */
void keeper_launch_stop(struct keeper *k, struct keeper_slot *s);
/* Nothing is left of a launch that failed. */
void keeper_launch_over(struct keeper *k, struct keeper_slot *s);
/* n bytes of the launcher's standard error: the last lines are its excuse. */
void keeper_launch_heard(struct keeper *k, struct keeper_slot *s, const char *data, size_t n);
/* The timer: launchers that take too long. */
void keeper_launch_tick(struct keeper *k);
/* Reaps the orphans that are older than every launch under way. */
void keeper_launch_sweep(struct keeper *k);
/* The connection is gone: nobody waits for an answer. */
void keeper_launch_forget(struct keeper *k);
/* Why a launch failed; "" without one. */
const char *keeper_launch_message(const struct keeper *k, const struct keeper_slot *s);
/* After a crash, before the slot's process is looked at: if the launcher is gone, the
 * slot is given the process that it named. */
void keeper_launch_recover(struct keeper *k, struct keeper_slot *s);
/* After a crash or an upgrade, for any slot: puts a launch under way on the timer. */
void keeper_launch_resume(struct keeper *k, struct keeper_slot *s);

#endif
