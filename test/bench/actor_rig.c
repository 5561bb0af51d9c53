/* SPDX-License-Identifier: MIT */
#include "actor_bench.h"

#include <stdlib.h>

const struct bench *const bench_sets[] = {bench_messages, bench_actors, bench_containers, bench_processes,
					  NULL};

bool bench_by_cpu;

static int64_t read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int64_t bench_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t bench_clock(void)
{
	return read_clock(bench_by_cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC);
}

void rig_open(struct rig *r, int workers)
{
	struct davit_error err;

	if (davit_system_open(&(struct davit_system_config){.workers = workers}, &r->system, &err)) {
		fprintf(stderr, "bench-actor: %s\n", err.message);
		exit(1);
	}
	r->c = davit_system_context(r->system);
	sem_init(&r->done, 0, 0);
}

void rig_begin(struct rig *r)
{
	r->begun = bench_clock();
}

double rig_wait(struct rig *r, int n)
{
	while (n--)
		sem_wait(&r->done);
	return (double)(bench_clock() - r->begun) * 1e-9;
}

void rig_close(struct rig *r)
{
	davit_system_close(r->system);
	sem_destroy(&r->done);
}
