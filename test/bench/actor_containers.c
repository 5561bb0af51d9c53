/* SPDX-License-Identifier: MIT
 *
 * Containers: restarts, decided by the parent's supervision; requests; creation.
 */
#include "actor_bench.h"

#include <stdlib.h>
#include <string.h>

enum { GO = 1, RESTARTS = 2000 };

static struct rig *rig;
static int64_t failed_at, took[RESTARTS];
static volatile int n_took;

/* Time from the error that a handler returns to the first instruction of the new one. */
static int construct(struct davit_context *c)
{
	if (failed_at && n_took < RESTARTS)
		took[n_took++] = bench_now() - failed_at;
	return 0;
}

static int dies(struct davit_context *c, struct davit_message *m)
{
	if (n_took == RESTARTS) {
		sem_post(&rig->done);
		return 0;
	}
	davit_tell(c, davit_self(c), GO, NULL, 0); /* waits for the next life */
	failed_at = bench_now();
	return DAVIT_EIO;
}

static void no_log(void *arg, const char *line)
{
}

static int cmp(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void restarts(int workers)
{
	static const struct davit_definition parent = {
		.name = "Parent", .behaviour = dies, .options = {.max_restarts = -1}};
	static const struct davit_definition child = {
		.name = "Child", .behaviour = dies, .construct = construct};
	struct davit_create p = {.alias = "P", .definition = &parent, .flags = DAVIT_CREATE_START};
	struct davit_create k = {
		.alias = "C", .definition = &child, .parent = "P", .flags = DAVIT_CREATE_START};
	struct davit_system_config config = {.workers = workers, .log = no_log};
	struct davit_promise done;
	struct davit_ref ref;
	struct rig r;

	n_took = 0;
	failed_at = 0;
	rig = &r;
	sem_init(&r.done, 0, 0);
	if (davit_system_open(&config, &r.system, NULL))
		exit(1);
	r.c = davit_system_context(r.system);
	davit_container_create(r.c, &p, &done);
	davit_await(r.c, done, -1, NULL, NULL);
	davit_container_create(r.c, &k, &done);
	davit_await(r.c, done, -1, NULL, NULL);
	davit_find(r.c, "C", &ref);
	davit_tell(r.c, ref, GO, NULL, 0);
	rig_wait(&r, 1);
	rig_close(&r);
	qsort(took, RESTARTS, sizeof *took, cmp);
}

static double run_restart_p50(int workers)
{
	restarts(workers);
	return (double)took[RESTARTS / 2] * 1e-3;
}

static double run_restart_p99(int workers)
{
	restarts(workers);
	return (double)took[RESTARTS * 99 / 100] * 1e-3;
}

/* --- requests --- */

static int echo(struct davit_context *c, struct davit_message *m)
{
	return davit_reply(c, m, "x", 1);
}

struct asker {
	struct davit_ref to;
	uint32_t left;
};

static void answered(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct asker *s = davit_data(c);
	struct davit_message *m;
	struct davit_promise p;

	if (!s->left--) {
		sem_post(&rig->done);
		return;
	}
	m = davit_message_new(c, GO, 0);
	davit_request(c, s->to, &m, NULL, &p);
	davit_done(c, p, answered, NULL);
}

static int ask(struct davit_context *c, struct davit_message *m)
{
	answered(c, NULL, NULL);
	return 0;
}

static double run_request(int workers)
{
	enum { N = 300000 };
	struct davit_ref to, from;
	struct rig r;
	double t;

	rig_open(&r, workers);
	rig = &r;
	davit_spawn(r.c, echo, NULL, 0, &to);
	davit_spawn(r.c, ask, &(struct asker){to, N}, sizeof(struct asker), &from);
	rig_begin(&r);
	davit_tell(r.c, from, GO, NULL, 0);
	t = rig_wait(&r, 1);
	rig_close(&r);
	return N / t * 1e-6;
}

static double run_create(int workers)
{
	enum { N = 20000 };
	static const struct davit_definition d = {.name = "T", .behaviour = echo};
	struct davit_create what = {.definition = &d, .flags = DAVIT_CREATE_START};
	struct davit_promise p;
	char alias[16];
	struct rig r;
	double t = 0;

	rig_open(&r, workers);
	rig_begin(&r);
	for (int i = 0; i < N; i++) {
		snprintf(alias, sizeof alias, "c%d", i);
		what.alias = alias;
		davit_container_create(r.c, &what, i == N - 1 ? &p : NULL);
	}
	davit_await(r.c, p, -1, NULL, NULL);
	t = rig_wait(&r, 0);
	rig_close(&r);
	return t / N * 1e6;
}

const struct bench bench_containers[] = {
	{"restart-p50", "us", run_restart_p50, NULL, true},
	{"restart-p99", "us", run_restart_p99, NULL, true},
	{"request", "M/s", run_request, NULL, false},
	{"container-create-start", "us", run_create, NULL, true},
	{0},
};
