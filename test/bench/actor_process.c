/* SPDX-License-Identifier: MIT
 *
 * Between processes: messages of 64 bytes with their header, there and back and one
 * way, and restarts. Bare: the same rings between two processes without actors, which
 * spin.
 */
#include "actor_bench.h"

#include "base/util.h"
#include "channel/ring.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LARGE = 64 << 20 };
enum { TRIPS = 200000, ONE_WAY = 4000000, RESTARTS = 200, BATCH = 1000, SIZE = 36 };
enum { GO = 1, BALL, END };

static struct rig rig;
static uint32_t left;

/* --- containers --- */

static struct davit_ref ref_of(struct davit_context *c, const char *alias)
{
	struct davit_ref ref = {0, 0};

	davit_find(c, alias, &ref);
	return ref;
}

static int back(struct davit_context *c, struct davit_message *m)
{
	struct davit_ref to = m->sender;
	struct davit_message *ball = davit_take(c);

	return davit_send(c, to, &ball);
}

static int swallow(struct davit_context *c, struct davit_message *m)
{
	if (m->type == END)
		return davit_reply(c, m, NULL, 0);
	return 0;
}

static int play(struct davit_context *c, struct davit_message *m)
{
	static struct davit_ref peer;
	struct davit_message *ball;

	if (m->type == GO) {
		peer = ref_of(c, "Q");
		ball = davit_message_new(c, BALL, SIZE);
		memset(ball->data, 0, SIZE);
		return davit_send(c, peer, &ball);
	}
	if (!--left) {
		sem_post(&rig.done);
		return 0;
	}
	ball = davit_take(c);
	return davit_send(c, peer, &ball);
}

static void ended(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	sem_post(&rig.done);
}

/* Sends what there is room for, and itself a message to go on. */
static int pour(struct davit_context *c, struct davit_message *m)
{
	static struct davit_ref peer;
	struct davit_message *x;
	struct davit_promise p;
	bool full = false;

	if (m->type == GO)
		peer = ref_of(c, "Q");
	for (int i = 0; i < BATCH && left && !full; i++) {
		if (!(x = davit_message_new(c, BALL, SIZE)))
			return DAVIT_ENOMEM;
		memset(x->data, 0, SIZE);
		full = davit_send(c, peer, &x) != 0;
		left -= !full;
		davit_message_free(c, x);
	}
	if (left && full) /* its mailbox: a moment later */
		return davit_after(c, 20000, BALL, NULL);
	if (left)
		return davit_tell(c, davit_self(c), BALL, NULL, 0);
	if (!(x = davit_message_new(c, END, 0)) || davit_request(c, peer, &x, NULL, &p))
		return DAVIT_EUNAVAIL;
	return davit_done(c, p, ended, NULL);
}

static const struct davit_definition player = {.name = "Player", .behaviour = play};
static const struct davit_definition pourer = {.name = "Pourer", .behaviour = pour};
static const struct davit_definition returner = {.name = "Back", .type = DAVIT_PROCESS, .behaviour = back};
static const struct davit_definition sink = {.name = "Sink", .type = DAVIT_PROCESS, .behaviour = swallow};

static void make(const char *alias, const struct davit_definition *d)
{
	struct davit_create what = {.alias = alias, .definition = d, .flags = DAVIT_CREATE_START};
	struct davit_promise p;

	if (davit_container_create(rig.c, &what, &p) || davit_await(rig.c, p, -1, NULL, NULL)) {
		fprintf(stderr, "bench-actor: %s could not be created\n", alias);
		exit(1);
	}
}

static double run(int workers, const struct davit_definition *here, const struct davit_definition *there,
		  uint32_t n)
{
	double seconds;

	rig_open(&rig, workers);
	make("P", here);
	make("Q", there);
	left = n;
	rig_begin(&rig);
	davit_tell(rig.c, ref_of(rig.c, "P"), GO, NULL, 0);
	seconds = rig_wait(&rig, 1);
	rig_close(&rig);
	return n / seconds / 1e6;
}

static double round_trips(int workers)
{
	return run(workers, &player, &returner, TRIPS);
}

static double one_way(int workers)
{
	return run(workers, &pourer, &sink, ONE_WAY);
}

/* --- restarts --- */

/* Of a new process: who it is, and when it had been started, by the clock that all share. */
struct birth {
	pid_t pid;
	int64_t at;
};

static struct birth last;
static int64_t heard_at;

/* The parent hears of it when it is there: its first message says so. "large": when it has
 * a lot of memory as well. */
static int hello(struct davit_context *c, enum davit_operation op, enum davit_phase phase)
{
	struct birth b = {getpid(), bench_now()};
	struct davit_message *m;
	void *large;

	if (op != DAVIT_DO_START || phase != DAVIT_AFTER)
		return 0;
	if (*davit_args(c)) {
		if (!(large = malloc(LARGE)))
			return DAVIT_ENOMEM;
		memset(large, 1, LARGE);
	}
	if (!(m = davit_message_new(c, BALL, sizeof b)))
		return DAVIT_ENOMEM;
	memcpy(m->data, &b, sizeof b);
	return davit_send_to(c, "P", &m, DAVIT_BUFFER_NONE);
}

static int note(struct davit_context *c, struct davit_message *m)
{
	heard_at = bench_now();
	memcpy(&last, m->data, sizeof last);
	sem_post(&rig.done);
	return 0;
}

static const struct davit_definition listener = {.name = "Listener", .behaviour = note};
static const struct davit_definition dier = {.name = "Dier",
					     .type = DAVIT_PROCESS,
					     .behaviour = swallow,
					     .hook = hello,
					     .options = {.set_restart = true, .retries = -1}};
static const struct davit_definition lenient = {
	.name = "Lenient", .behaviour = swallow, .options = {.max_restarts = -1}};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* From the kill until the new process has been started, or until its first message is handled. */
static double restarts(int workers, bool heard, const char *args)
{
	struct davit_create what = {
		.alias = "Q", .definition = &dier, .parent = "L", .args = args, .flags = DAVIT_CREATE_START};
	static double us[RESTARTS];
	struct davit_promise p;
	int64_t at;

	rig_open(&rig, workers);
	make("P", &listener);
	make("L", &lenient);
	if (davit_container_create(rig.c, &what, &p) || davit_await(rig.c, p, -1, NULL, NULL)) {
		fprintf(stderr, "bench-actor: Q could not be created\n");
		exit(1);
	}
	sem_wait(&rig.done);
	for (int i = 0; i < RESTARTS; i++) {
		usleep(2000);
		at = bench_now();
		kill(last.pid, SIGKILL);
		sem_wait(&rig.done);
		us[i] = (double)((heard ? heard_at : last.at) - at) / 1e3;
	}
	rig_close(&rig);
	qsort(us, RESTARTS, sizeof *us, by_value);
	return us[RESTARTS / 2];
}

static double restart(int workers)
{
	return restarts(workers, false, NULL);
}

static double restart_large(int workers)
{
	return restarts(workers, false, "large");
}

static double restart_heard(int workers)
{
	return restarts(workers, true, NULL);
}

/* --- bare --- */

/* Where the other one has no processor, spinning on only takes that of somebody else. */
static void wait_a_little(int *n)
{
	if (++*n % 1000 == 0)
		sched_yield();
	else
		davit_relax();
}

static void bare_send(struct davit_ring *r)
{
	static const char data[SIZE];
	const struct davit_frame f = {.kind = DAVIT_FRAME_MESSAGE, .size = SIZE};
	int waited = 0;
	bool room;

	while (!davit_ring_room(r, SIZE, &room) && !room)
		wait_a_little(&waited);
	davit_ring_write(r, &f, NULL, NULL, data);
}

static void bare_take(struct davit_ring *r)
{
	struct davit_frame f;
	char data[SIZE];
	int waited = 0;

	while (davit_ring_peek(r, &f) < 1)
		wait_a_little(&waited);
	davit_ring_copy(r, 0, data, SIZE);
	davit_ring_next(r, &f);
}

/* The other process: gives back each message, or the last of n. */
static void bare_child(const int fds[2], uint32_t n, bool each)
{
	struct davit_ring r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (davit_ring_attach(&r, DAVIT_RING_SLOTS, fds))
		_exit(1);
	for (uint32_t i = 1; i <= n; i++) {
		bare_take(&r);
		if (each || i % 64 == 0 || i == n)
			davit_ring_release(&r);
		if (!each && i < n)
			continue;
		bare_send(&r);
		davit_ring_publish(&r);
	}
	_exit(0);
}

static double bare(uint32_t n, bool each)
{
	struct davit_ring r;
	int64_t begun;
	double seconds;
	int fds[2];
	pid_t pid;

	if (davit_ring_create(&r, DAVIT_RING_SLOTS, fds) || (pid = fork()) < 0)
		exit(1);
	if (!pid)
		bare_child(fds, n, each);
	r.many = !each;
	begun = bench_now();
	for (uint32_t i = 1; i <= n; i++) {
		bare_send(&r);
		if (each || i % 32 == 0 || i == n)
			davit_ring_publish(&r);
		if (each || i == n) {
			bare_take(&r);
			davit_ring_release(&r);
		}
	}
	seconds = (double)(bench_now() - begun) * 1e-9;
	waitpid(pid, NULL, 0);
	close(fds[0]);
	close(fds[1]);
	davit_ring_close(&r);
	return n / seconds / 1e6;
}

static double bare_trips(void)
{
	return bare(TRIPS, true);
}

static double bare_one_way(void)
{
	return bare(ONE_WAY, false);
}

const struct bench bench_processes[] = {
	{"process-round-trips", "M/s", round_trips, bare_trips, false},
	{"process-one-way", "M msg/s", one_way, bare_one_way, false},
	{"process-restart", "us p50", restart, NULL, true},
	{"process-restart-64M", "us p50", restart_large, NULL, true},
	{"process-restart-heard", "us p50", restart_heard, NULL, true},
	{0},
};
