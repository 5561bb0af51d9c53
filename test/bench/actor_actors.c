/* SPDX-License-Identifier: MIT
 *
 * Actors: what one costs in time and memory, fork-join, a dictionary, philosophers, and
 * a million that do nothing.
 */
#include "actor_bench.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { GO = 1, HIT, GET };

/* --- spawning --- */

static int nothing(struct davit_context *c, struct davit_message *m)
{
	return 0;
}

struct maker {
	struct rig *rig;
	uint32_t n;
};

static int make(struct davit_context *c, struct davit_message *m)
{
	struct maker *s = davit_data(c);
	struct davit_ref ref;

	for (uint32_t i = 0; i < s->n; i++)
		davit_spawn(c, nothing, NULL, 0, &ref);
	sem_post(&s->rig->done);
	return 0;
}

static double run_spawn(int workers)
{
	enum { N = 1000000 };
	struct davit_ref ref;
	struct rig r;
	double t;

	rig_open(&r, workers);
	davit_spawn(r.c, make, &(struct maker){&r, N}, sizeof(struct maker), &ref);
	rig_begin(&r);
	davit_tell(r.c, ref, GO, NULL, 0);
	t = rig_wait(&r, 1);
	rig_close(&r);
	return t / N * 1e6;
}

static double bare_spawn(void)
{
	enum { N = 1000000 };
	void **all = calloc(N, sizeof *all);
	int64_t begun = bench_clock();
	double t;

	for (int i = 0; i < N; i++)
		*(uint64_t *)(all[i] = malloc(64)) = (uint64_t)i;
	t = (double)(bench_clock() - begun);
	for (int i = 0; i < N; i++)
		free(all[i]);
	free(all);
	return t / N * 1e-3;
}

static long resident(void)
{
	long pages = 0, skip;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%ld %ld", &skip, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

static double run_bytes(int workers)
{
	enum { N = 1000000 };
	struct davit_ref ref;
	struct rig r;
	long before, after;

	malloc_trim(0);
	rig_open(&r, workers);
	davit_spawn(r.c, make, &(struct maker){&r, N}, sizeof(struct maker), &ref);
	before = resident();
	davit_tell(r.c, ref, GO, NULL, 0);
	rig_wait(&r, 1);
	after = resident();
	rig_close(&r);
	return (double)(after - before) / N;
}

/* --- fork-join: one is made, gets one message, and ends --- */

struct child {
	struct rig *rig;
	struct davit_ref parent;
};

static int child(struct davit_context *c, struct davit_message *m)
{
	struct child *s = davit_data(c);

	davit_exit(c);
	return davit_tell(c, s->parent, HIT, NULL, 0);
}

struct parent {
	struct rig *rig;
	uint32_t left, out;
};

static int fork_join(struct davit_context *c, struct davit_message *m)
{
	struct parent *s = davit_data(c);
	struct davit_ref ref;

	if (m->type == HIT)
		s->out--;
	while (s->left && s->out < 1000) {
		davit_spawn(c, child, &(struct child){s->rig, davit_self(c)}, sizeof(struct child), &ref);
		davit_tell(c, ref, GO, NULL, 0);
		s->left--;
		s->out++;
	}
	if (!s->left && !s->out)
		sem_post(&s->rig->done);
	return 0;
}

static double run_fork_join_creation(int workers)
{
	enum { N = 1000000 };
	struct davit_ref ref;
	struct rig r;
	double t;

	rig_open(&r, workers);
	davit_spawn(r.c, fork_join, &(struct parent){&r, N, 0}, sizeof(struct parent), &ref);
	rig_begin(&r);
	davit_tell(r.c, ref, GO, NULL, 0);
	t = rig_wait(&r, 1);
	rig_close(&r);
	return N / t * 1e-6;
}

/* --- fork-join throughput: 60 actors, to each in turn --- */

enum { FJ = 60, FJ_EACH = 50000 };

struct taker {
	struct rig *rig;
	uint32_t left;
};

static int take(struct davit_context *c, struct davit_message *m)
{
	struct taker *s = davit_data(c);

	if (!--s->left)
		sem_post(&s->rig->done);
	return 0;
}

struct giver {
	struct davit_ref *to;
	uint32_t left;
};

static int give(struct davit_context *c, struct davit_message *m)
{
	struct giver *s = davit_data(c);

	for (int turn = 0; turn < 16 && s->left; turn++, s->left--)
		for (int i = 0; i < FJ; i++)
			davit_tell(c, s->to[i], HIT, NULL, 0);
	return s->left ? davit_tell(c, davit_self(c), GO, NULL, 0) : 0;
}

static double run_fork_join_throughput(int workers)
{
	struct davit_ref ref[FJ], from;
	struct rig r;
	double t;

	rig_open(&r, workers);
	for (int i = 0; i < FJ; i++)
		davit_spawn(r.c, take, &(struct taker){&r, FJ_EACH}, sizeof(struct taker), &ref[i]);
	davit_spawn(r.c, give, &(struct giver){ref, FJ_EACH}, sizeof(struct giver), &from);
	rig_begin(&r);
	davit_tell(r.c, from, GO, NULL, 0);
	t = rig_wait(&r, FJ);
	rig_close(&r);
	return (double)FJ * FJ_EACH / t * 1e-6;
}

/* --- concurrent dictionary: 20 workers, one in ten writes --- */

enum { CLIENTS = 20, CLIENT_ASKS = 50000, SLOTS = 512 };

struct dictionary {
	uint64_t *value;
};

struct entry {
	uint64_t key, value;
};

static int dictionary(struct davit_context *c, struct davit_message *m)
{
	struct dictionary *s = davit_data(c);
	struct davit_message *out = davit_take(c);
	struct entry *e = (struct entry *)(void *)out->data;

	if (out->type == HIT)
		s->value[e->key % SLOTS] = e->value;
	else
		e->value = s->value[e->key % SLOTS];
	return davit_send(c, out->sender, &out);
}

struct client {
	struct rig *rig;
	struct davit_ref dictionary;
	uint64_t random;
	uint32_t left;
};

static int client(struct davit_context *c, struct davit_message *m)
{
	struct client *s = davit_data(c);
	struct entry e;

	if (!s->left--) {
		sem_post(&s->rig->done);
		return 0;
	}
	s->random = s->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	e = (struct entry){s->random >> 40, s->random};
	return davit_tell(c, s->dictionary, s->random >> 33 & 7 ? GET : HIT, &e, sizeof e);
}

static double run_dictionary(int workers)
{
	uint64_t *values = calloc(SLOTS, sizeof *values);
	struct davit_ref to, ref;
	struct rig r;
	double t;

	rig_open(&r, workers);
	davit_spawn(r.c, dictionary, &(struct dictionary){values}, sizeof(struct dictionary), &to);
	rig_begin(&r);
	for (uint64_t i = 0; i < CLIENTS; i++) {
		davit_spawn(r.c, client, &(struct client){&r, to, i + 1, CLIENT_ASKS}, sizeof(struct client),
			    &ref);
		davit_tell(r.c, ref, GO, NULL, 0);
	}
	t = rig_wait(&r, CLIENTS);
	rig_close(&r);
	free(values);
	return (double)CLIENTS * CLIENT_ASKS / t * 1e-6;
}

/* --- philosophers: 20, an arbiter with the forks --- */

enum { PHILOSOPHERS = 20, MEALS = 20000, HUNGRY = 10, EAT, DENIED, FULL };

struct arbiter {
	bool fork[PHILOSOPHERS];
};

static int arbiter(struct davit_context *c, struct davit_message *m)
{
	struct arbiter *s = davit_data(c);
	struct davit_message *out;
	uint32_t left, right;

	memcpy(&left, m->data, sizeof left);
	right = (left + 1) % PHILOSOPHERS;
	if (m->type == FULL) {
		s->fork[left] = s->fork[right] = false;
		return 0;
	}
	out = davit_take(c);
	out->type = s->fork[left] || s->fork[right] ? DENIED : EAT;
	if (out->type == EAT)
		s->fork[left] = s->fork[right] = true;
	return davit_send(c, out->sender, &out);
}

struct philosopher {
	struct rig *rig;
	struct davit_ref arbiter;
	uint32_t who, left;
};

static int philosopher(struct davit_context *c, struct davit_message *m)
{
	struct philosopher *s = davit_data(c);

	if (m->type == EAT) {
		davit_tell(c, s->arbiter, FULL, &s->who, sizeof s->who);
		if (!--s->left) {
			sem_post(&s->rig->done);
			return 0;
		}
	}
	return davit_tell(c, s->arbiter, HUNGRY, &s->who, sizeof s->who);
}

static double run_philosophers(int workers)
{
	struct davit_ref to, ref;
	struct rig r;
	double t;

	rig_open(&r, workers);
	davit_spawn(r.c, arbiter, NULL, sizeof(struct arbiter), &to);
	rig_begin(&r);
	for (uint32_t i = 0; i < PHILOSOPHERS; i++) {
		davit_spawn(r.c, philosopher, &(struct philosopher){&r, to, i, MEALS},
			    sizeof(struct philosopher), &ref);
		davit_tell(r.c, ref, GO, NULL, 0);
	}
	t = rig_wait(&r, PHILOSOPHERS);
	rig_close(&r);
	return (double)PHILOSOPHERS * MEALS / t * 1e-6;
}

/* --- a million idle --- */

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static double run_idle(int workers)
{
	struct davit_ref ref;
	struct rig r;
	double before;

	rig_open(&r, workers);
	davit_spawn(r.c, make, &(struct maker){&r, 1000000}, sizeof(struct maker), &ref);
	davit_tell(r.c, ref, GO, NULL, 0);
	rig_wait(&r, 1);
	nanosleep(&(struct timespec){0, 100000000}, NULL);
	before = cpu();
	nanosleep(&(struct timespec){1, 0}, NULL);
	before = (cpu() - before) * 100;
	rig_close(&r);
	return before;
}

const struct bench bench_actors[] = {
	{"spawn", "us", run_spawn, bare_spawn, true},
	{"bytes", "bytes/actor", run_bytes, NULL, true},
	{"fork-join-creation", "M actors/s", run_fork_join_creation, NULL, false},
	{"fork-join-throughput", "M msg/s", run_fork_join_throughput, NULL, false},
	{"dictionary", "M asks/s", run_dictionary, NULL, false},
	{"philosophers", "M meals/s", run_philosophers, NULL, false},
	{"idle-million", "% CPU", run_idle, NULL, true},
	{0},
};
