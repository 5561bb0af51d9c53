/* SPDX-License-Identifier: MIT
 *
 * What the files of bench-actor share.
 */
#ifndef DAVIT_BENCH_ACTOR_H
#define DAVIT_BENCH_ACTOR_H

#include "davit/container.h"

#include <semaphore.h>
#include <stdio.h>
#include <time.h>

struct bench {
	const char *name, *unit;
	double (*run)(int workers);
	double (*bare)(void); /* the same without actors; NULL: there is no such */
	bool less;	      /* less is better */
};

extern const struct bench *const bench_sets[];
extern const struct bench bench_messages[], bench_actors[], bench_containers[], bench_processes[];

/* A system under measurement, and what its actors report the end through. */
struct rig {
	struct davit_system *system;
	struct davit_context *c;
	sem_t done;
	int64_t begun;
};

void rig_open(struct rig *r, int workers);
void rig_close(struct rig *r);
/* Waits for n reports. Seconds since rig_begin. */
double rig_wait(struct rig *r, int n);
void rig_begin(struct rig *r);
int64_t bench_now(void); /* monotonic ns */
/* What rates are measured by: that, or with bench_by_cpu the CPU time of the process. */
int64_t bench_clock(void);
extern bool bench_by_cpu;

#endif
