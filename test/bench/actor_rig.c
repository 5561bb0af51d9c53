/* SPDX-License-Identifier: MIT */
#include "actor_bench.h"

#include <stdlib.h>

const struct bench *const bench_sets[] = {bench_messages, bench_actors, bench_containers, NULL};

int64_t bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
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
	r->begun = bench_now();
}

double rig_wait(struct rig *r, int n)
{
	while (n--)
		sem_wait(&r->done);
	return (double)(bench_now() - r->begun) * 1e-9;
}

void rig_close(struct rig *r)
{
	davit_system_close(r->system);
	sem_destroy(&r->done);
}
