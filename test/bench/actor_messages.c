/* SPDX-License-Identifier: MIT
 *
 * Messages: count, ping-pong, thread ring, fan-in, big, chameneos, and the wait behind
 * a busy handler.
 */
#include "actor_bench.h"

#include <stdlib.h>
#include <string.h>

enum { GO = 1, HIT, GET };

/* --- count: one sends to one --- */

struct counter {
	struct rig *rig;
	uint64_t n, want;
};

static int count(struct davit_context *c, struct davit_message *m)
{
	struct counter *s = davit_data(c);

	if (++s->n == s->want)
		sem_post(&s->rig->done);
	return 0;
}

struct producer {
	struct davit_ref to;
	uint64_t left;
};

/* Sends in turns, as a real producer would: 1000 and then whoever else is there. */
static int produce(struct davit_context *c, struct davit_message *m)
{
	struct producer *p = davit_data(c);

	for (int i = 0; i < 1000 && p->left; i++, p->left--)
		davit_tell(c, p->to, HIT, NULL, 0);
	if (p->left)
		davit_tell(c, davit_self(c), GO, NULL, 0);
	return 0;
}

static double fan_in(int workers, int producers, uint64_t each)
{
	struct davit_ref to, from;
	struct rig r;
	double t;

	rig_open(&r, workers);
	davit_spawn(r.c, count, &(struct counter){&r, 0, each * (uint64_t)producers}, sizeof(struct counter),
		    &to);
	rig_begin(&r);
	for (int i = 0; i < producers; i++) {
		davit_spawn(r.c, produce, &(struct producer){to, each}, sizeof(struct producer), &from);
		davit_tell(r.c, from, GO, NULL, 0);
	}
	t = rig_wait(&r, 1);
	rig_close(&r);
	return (double)each * producers / t * 1e-6;
}

static double run_count(int workers)
{
	return fan_in(workers, 1, 5000000);
}

static double run_4_to_1(int workers)
{
	return fan_in(workers, 4, 1000000);
}

/* One thread, a list of nodes taken from a free list and given back. */
static double bare_count(void)
{
	struct node {
		struct node *next;
		uint64_t pad[7];
	} *nodes = calloc(1000, sizeof *nodes), *volatile * keep, *queue, *spare = NULL;
	volatile uint64_t n = 0;
	int64_t begun = bench_clock();

	keep = &(struct node *volatile){NULL};
	for (int i = 0; i < 1000; i++) {
		nodes[i].next = spare;
		spare = &nodes[i];
	}
	for (int turn = 0; turn < 5000; turn++) {
		queue = NULL;
		for (struct node *next; spare; spare = next) {
			next = spare->next;
			spare->next = queue;
			queue = spare;
		}
		for (struct node *next; queue; queue = next) {
			next = queue->next;
			queue->next = spare;
			spare = queue;
			*keep = queue;
			n = n + 1;
		}
	}
	free(nodes);
	return (double)n / ((double)(bench_clock() - begun) * 1e-9) * 1e-6;
}

/* --- ping-pong --- */

struct player {
	struct rig *rig;
	struct davit_ref other;
	uint64_t left;
};

static int play(struct davit_context *c, struct davit_message *m)
{
	struct player *p = davit_data(c);
	struct davit_message *ball;

	if (m->type == GO) {
		memcpy(&p->other, m->data, sizeof p->other);
		return davit_tell(c, p->other, HIT, NULL, 0);
	}
	if (p->rig && !--p->left) {
		sem_post(&p->rig->done);
		return 0;
	}
	ball = davit_take(c);
	return davit_send(c, ball->sender, &ball);
}

static double run_ping_pong(int workers)
{
	enum { TRIPS = 1000000 };
	struct davit_ref ping, pong;
	struct rig r;
	double t;

	rig_open(&r, workers);
	davit_spawn(r.c, play, &(struct player){.rig = NULL}, sizeof(struct player), &pong);
	davit_spawn(r.c, play, &(struct player){.rig = &r, .left = TRIPS}, sizeof(struct player), &ping);
	rig_begin(&r);
	davit_tell(r.c, ping, GO, &pong, sizeof pong);
	t = rig_wait(&r, 1);
	rig_close(&r);
	return TRIPS / t * 1e-6;
}

static int (*volatile bare_call)(struct davit_context *c, struct davit_message *m) = count;

/* Two calls through a pointer, a queue of one in between. */
static double bare_ping_pong(void)
{
	enum { TRIPS = 20000000 };
	volatile uint64_t queue[4] = {0}, n = 0;
	int64_t begun = bench_clock();

	for (uint64_t i = 0; i < TRIPS; i++) {
		queue[i & 3] = i;
		n = n + (queue[i & 3] == i && bare_call);
		queue[~i & 3] = n;
	}
	return TRIPS / ((double)(bench_clock() - begun) * 1e-9) * 1e-6;
}

/* --- thread ring: one message goes round --- */

struct link {
	struct rig *rig;
	struct davit_ref next;
};

static int pass(struct davit_context *c, struct davit_message *m)
{
	struct link *l = davit_data(c);
	struct davit_message *token;
	uint64_t left;

	if (m->type == GO) {
		memcpy(&l->next, m->data, sizeof l->next);
		return 0;
	}
	memcpy(&left, m->data, sizeof left);
	if (!left) {
		sem_post(&l->rig->done);
		return 0;
	}
	left--;
	token = davit_take(c);
	memcpy(token->data, &left, sizeof left);
	return davit_send(c, l->next, &token);
}

static double run_ring(int workers)
{
	enum { LINKS = 100, HOPS = 3000000 };
	struct davit_ref ref[LINKS];
	uint64_t hops = HOPS;
	struct rig r;
	double t;

	rig_open(&r, workers);
	for (int i = 0; i < LINKS; i++)
		davit_spawn(r.c, pass, &(struct link){.rig = &r}, sizeof(struct link), &ref[i]);
	for (int i = 0; i < LINKS; i++)
		davit_tell(r.c, ref[i], GO, &ref[(i + 1) % LINKS], sizeof *ref);
	rig_begin(&r);
	davit_tell(r.c, ref[0], HIT, &hops, sizeof hops);
	t = rig_wait(&r, 1);
	rig_close(&r);
	return HOPS / t * 1e-6;
}

/* --- big: each of 120 asks a random one, 20000 times --- */

enum { BIG = 120, BIG_PINGS = 20000 };

struct big {
	struct rig *rig;
	struct davit_ref *all;
	uint64_t random;
	uint32_t left;
};

static struct davit_ref big_pick(struct big *b)
{
	b->random = b->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return b->all[(b->random >> 33) % BIG];
}

static int big(struct davit_context *c, struct davit_message *m)
{
	struct big *b = davit_data(c);
	struct davit_message *out;

	if (m->type == HIT) { /* answered as it is */
		out = davit_take(c);
		out->type = GET;
		return davit_send(c, out->sender, &out);
	}
	if (!b->left--) {
		b->left = 0;
		sem_post(&b->rig->done);
		return 0;
	}
	return davit_tell(c, big_pick(b), HIT, NULL, 0);
}

static double run_big(int workers)
{
	struct davit_ref ref[BIG];
	struct rig r;
	double t;

	rig_open(&r, workers);
	for (int i = 0; i < BIG; i++)
		davit_spawn(r.c, big, &(struct big){&r, ref, (uint64_t)i * 7919 + 1, BIG_PINGS},
			    sizeof(struct big), &ref[i]);
	rig_begin(&r);
	for (int i = 0; i < BIG; i++)
		davit_tell(r.c, ref[i], GO, NULL, 0);
	t = rig_wait(&r, BIG);
	rig_close(&r);
	/* A ping and its pong are two messages. */
	return 2.0 * BIG * BIG_PINGS / t * 1e-6;
}

/* --- chameneos: a mall pairs those who come --- */

enum { CHAMENEOS = 100, MEETINGS = 500000 };

struct mall {
	struct rig *rig;
	struct davit_ref first;
	uint32_t left, gone;
};

static int mall(struct davit_context *c, struct davit_message *m)
{
	struct mall *s = davit_data(c);
	struct davit_message *meet;

	if (!s->left) { /* nobody is met any more: all come once again, and are counted */
		if (++s->gone == CHAMENEOS)
			sem_post(&s->rig->done);
		return 0;
	}
	if (!s->first.generation) {
		s->first = m->sender;
		return 0;
	}
	s->left--;
	meet = davit_take(c);
	memcpy(meet->data, &meet->sender, sizeof meet->sender);
	davit_send(c, s->first, &meet);
	s->first.generation = 0;
	return 0;
}

struct chameneo {
	struct davit_ref mall;
	uint32_t colour;
};

static int chameneo(struct davit_context *c, struct davit_message *m)
{
	struct chameneo *s = davit_data(c);
	struct davit_message *out;
	struct davit_ref other;

	if (m->type == GO)
		return davit_tell(c, s->mall, HIT, &s->colour, 8);
	s->colour = (s->colour + 1) % 3;
	if (m->type == HIT) { /* from the mall: tell the other one, who goes on as well */
		memcpy(&other, m->data, sizeof other);
		davit_tell(c, other, GET, NULL, 0);
	}
	out = davit_take(c);
	out->type = HIT;
	return davit_send(c, s->mall, &out);
}

static double run_chameneos(int workers)
{
	struct davit_ref to, ref;
	struct rig r;
	double t;

	rig_open(&r, workers);
	davit_spawn(r.c, mall, &(struct mall){.rig = &r, .left = MEETINGS}, sizeof(struct mall), &to);
	rig_begin(&r);
	for (uint32_t i = 0; i < CHAMENEOS; i++) {
		davit_spawn(r.c, chameneo, &(struct chameneo){to, i % 3}, sizeof(struct chameneo), &ref);
		davit_tell(r.c, ref, GO, NULL, 0);
	}
	t = rig_wait(&r, 1);
	rig_close(&r);
	return MEETINGS / t * 1e-6;
}

/* --- behind a handler of 20 ms --- */

enum { BEHIND = 15 };

struct behind {
	struct rig *rig;
	int64_t *sent, *took;
	struct davit_ref other;
	uint32_t n;
};

static int late(struct davit_context *c, struct davit_message *m)
{
	struct behind *b = davit_data(c);

	*b->took = bench_now() - *b->sent;
	sem_post(&b->rig->done);
	return 0;
}

/* Sends, and then computes for 20 ms. */
static int busy(struct davit_context *c, struct davit_message *m)
{
	struct behind *b = davit_data(c);
	int64_t end;

	*b->sent = bench_now();
	end = *b->sent + 20000000;
	davit_tell(c, b->other, GO, NULL, 0);
	while (bench_now() < end)
		;
	return 0;
}

static int cmp(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static double run_behind(int workers)
{
	int64_t sent, took, all[BEHIND];
	struct davit_ref first, second;
	struct rig r;

	rig_open(&r, workers);
	davit_spawn(r.c, late, &(struct behind){&r, &sent, &took, {0, 0}, 0}, sizeof(struct behind), &second);
	davit_spawn(r.c, busy, &(struct behind){&r, &sent, &took, second, 0}, sizeof(struct behind), &first);
	for (int i = 0; i < BEHIND; i++) {
		rig_begin(&r);
		davit_tell(r.c, first, GO, NULL, 0);
		rig_wait(&r, 1);
		all[i] = took;
		nanosleep(&(struct timespec){0, 30000000}, NULL);
	}
	rig_close(&r);
	qsort(all, BEHIND, sizeof *all, cmp);
	return (double)all[BEHIND / 2] * 1e-3;
}

const struct bench bench_messages[] = {
	{"count", "M msg/s", run_count, bare_count, false},
	{"4-to-1", "M msg/s", run_4_to_1, bare_count, false},
	{"ping-pong", "M trips/s", run_ping_pong, bare_ping_pong, false},
	{"ring", "M hops/s", run_ring, bare_ping_pong, false},
	{"big", "M msg/s", run_big, NULL, false},
	{"chameneos", "M meetings/s", run_chameneos, NULL, false},
	{"behind-20ms", "us p50", run_behind, NULL, true},
	{0},
};
