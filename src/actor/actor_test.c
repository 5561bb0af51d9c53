/* SPDX-License-Identifier: MIT
 *
 * The engine on real threads: order, counts, ends. Short, and meant to be run under
 * ThreadSanitizer as well.
 */
#include "actor/test_rig.h"
#include "base/util.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GO = 1, HIT, NEXT };

static sem_t done;
static _Atomic(int) seen, errors;

static struct davit_context *open_threads(int workers, struct davit_system **ret)
{
	static const struct davit_system_config quiet = {0};
	struct davit_system_config config = quiet;

	config.workers = workers;
	config.log = NULL;
	assert_int_equal(davit_system_open(&config, ret, NULL), 0);
	sem_init(&done, 0, 0);
	seen = errors = 0;
	return davit_system_context(*ret);
}

/* All is over when nothing is queued any more. */
static void check_balance(struct davit_system *s)
{
	struct davit_system_stats st;

	for (int i = 0; i < 12000; i++) {
		davit_system_stats(s, &st);
		if (st.sent == st.handled + st.dead)
			return;
		nanosleep(&(struct timespec){0, 5000000}, NULL);
	}
	assert_int_equal(st.sent, st.handled + st.dead);
}

/* --- order --- */

enum { SENDERS = 4, EACH = 100000, TURN = 500 };

struct item {
	uint32_t sender, number;
};

struct sender {
	struct davit_ref to;
	uint32_t who, next;
};

static int send_some(struct davit_context *c, struct davit_message *m)
{
	struct sender *s = davit_data(c);

	for (int i = 0; i < TURN && s->next < EACH; i++) {
		struct item item = {s->who, s->next};
		if (davit_tell(c, s->to, HIT, &item, sizeof item) == DAVIT_EUNAVAIL)
			break; /* full: later */
		s->next++;
	}
	return s->next < EACH ? davit_tell(c, davit_self(c), GO, NULL, 0) : 0;
}

static uint32_t expected[SENDERS];
static uint32_t restarts_wanted;

static int receive(struct davit_context *c, struct davit_message *m)
{
	struct item item;

	memcpy(&item, m->data, sizeof item);
	if (item.number != expected[item.sender]++)
		errors++;
	if (++seen == SENDERS * EACH)
		sem_post(&done);
	/* It fails at this one, which is not handled again. */
	if (restarts_wanted && seen % (SENDERS * EACH / restarts_wanted) == 1)
		return DAVIT_EIO;
	return 0;
}

static void send_all(struct davit_context *c, struct davit_ref to)
{
	struct davit_ref ref;

	memset(expected, 0, sizeof expected);
	for (uint32_t i = 0; i < SENDERS; i++) {
		assert_int_equal(
			davit_spawn(c, send_some, &(struct sender){to, i, 0}, sizeof(struct sender), &ref),
			0);
		davit_tell(c, ref, GO, NULL, 0);
	}
	sem_wait(&done);
	assert_int_equal(errors, 0);
}

static void each_pair_of_sender_and_receiver_keeps_its_order(void **unused)
{
	struct davit_system *s;
	struct davit_context *c = open_threads(2, &s);
	struct davit_ref to;

	restarts_wanted = 0;
	davit_spawn(c, receive, NULL, 0, &to);
	send_all(c, to);
	check_balance(s);
	davit_system_close(s);
}

static void no_log(void *arg, const char *line)
{
}

static void order_holds_through_restarts_and_nothing_is_lost(void **unused)
{
	static const struct davit_definition parent = {
		.name = "P", .behaviour = receive, .options = {.max_restarts = -1}};
	static const struct davit_definition d = {.name = "R", .behaviour = receive};
	struct davit_create what[] = {
		{.alias = "P", .definition = &parent, .flags = DAVIT_CREATE_START},
		{.alias = "R", .definition = &d, .parent = "P", .flags = DAVIT_CREATE_START}};
	struct davit_system_config config = {.workers = 2, .log = no_log};
	struct davit_container_info info;
	struct davit_system_stats st;
	struct davit_context *c;
	struct davit_promise p;
	struct davit_system *s;

	open_threads(1, &s);
	davit_system_close(s);
	assert_int_equal(davit_system_open(&config, &s, NULL), 0);
	c = davit_system_context(s);
	restarts_wanted = 50;
	for (int i = 0; i < 2; i++) {
		davit_container_create(c, &what[i], &p);
		assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
	}
	davit_container_get(c, "R", &info);
	send_all(c, info.ref);
	check_balance(s);
	davit_container_get(c, "R", &info);
	assert_int_equal(info.restarts, 50);
	davit_system_stats(s, &st);
	assert_int_equal(st.dead, 50);
	assert_int_equal(st.dead_by[DAVIT_DEAD_FAILED], 50);
	davit_system_close(s);
}

static void a_sender_waits_at_a_full_mailbox_with_policy_block(void **unused)
{
	static const struct davit_definition d = {
		.name = "R",
		.behaviour = receive,
		.options = {.limit = 100, .overflow = DAVIT_OVERFLOW_BLOCK, .block_time = 60 * SEC}};
	struct davit_create what = {.alias = "R", .definition = &d, .flags = DAVIT_CREATE_START};
	struct davit_container_info info;
	struct davit_system *s;
	struct davit_context *c = open_threads(2, &s);
	struct davit_promise p;

	restarts_wanted = 0;
	davit_container_create(c, &what, &p);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
	davit_container_get(c, "R", &info);
	send_all(c, info.ref);
	davit_container_get(c, "R", &info);
	assert_int_equal(info.refused + info.dropped, 0);
	check_balance(s);
	davit_system_close(s);
}

/* --- creation --- */

static int end_at_once(struct davit_context *c, struct davit_message *m)
{
	davit_exit(c);
	if (++seen == 1000000)
		sem_post(&done);
	return 0;
}

struct creator {
	uint32_t left;
};

static int create_many(struct davit_context *c, struct davit_message *m)
{
	struct creator *s = davit_data(c);
	struct davit_ref ref;

	for (int i = 0; i < 1000 && s->left; i++, s->left--) {
		if (davit_spawn(c, end_at_once, NULL, s->left % 16 ? 0 : 100, &ref))
			errors++;
		davit_tell(c, ref, GO, NULL, 0);
	}
	return s->left ? davit_tell(c, davit_self(c), GO, NULL, 0) : 0;
}

static void a_million_actors_come_and_go_and_leave_nothing(void **unused)
{
	struct davit_system *s;
	struct davit_context *c = open_threads(2, &s);
	struct davit_system_stats before, after;
	struct davit_ref ref[2];

	davit_system_stats(s, &before);
	for (int i = 0; i < 2; i++) {
		davit_spawn(c, create_many, &(struct creator){500000}, sizeof(struct creator), &ref[i]);
		davit_tell(c, ref[i], GO, NULL, 0);
	}
	sem_wait(&done);
	check_balance(s);
	assert_int_equal(errors, 0);
	for (int i = 0; i < 2; i++)
		davit_kill(c, ref[i]);
	for (int i = 0; i < 12000; i++) {
		davit_system_stats(s, &after);
		if (after.actors == before.actors)
			break;
		nanosleep(&(struct timespec){0, 5000000}, NULL);
	}
	assert_int_equal(after.actors, before.actors);
	davit_system_close(s);
}

static void containers_come_and_go_from_several_threads(void **unused)
{
	static const struct davit_definition d = {.name = "T", .behaviour = receive};
	struct davit_system_stats before, after;
	struct davit_system *s;
	struct davit_context *c = open_threads(2, &s);
	char alias[16];

	davit_system_stats(s, &before);
	for (int turn = 0; turn < 20; turn++) {
		struct davit_promise p[50];
		for (int i = 0; i < 50; i++) {
			snprintf(alias, sizeof alias, "c%d", i);
			davit_container_create(c,
					       &(struct davit_create){.alias = alias,
								      .definition = &d,
								      .flags = DAVIT_CREATE_START},
					       &p[i]);
		}
		for (int i = 0; i < 50; i++)
			assert_int_equal(davit_await(c, p[i], 60 * SEC, NULL, NULL), 0);
		davit_flush(c, DAVIT_DESTROY_FORCE, &p[0]);
		assert_int_equal(davit_await(c, p[0], 60 * SEC, NULL, NULL), 0);
	}
	for (int i = 0; i < 12000; i++) {
		davit_system_stats(s, &after);
		if (after.actors == before.actors)
			break;
		nanosleep(&(struct timespec){0, 5000000}, NULL);
	}
	assert_int_equal(after.actors, before.actors);
	davit_system_close(s);
}

/* --- workers --- */

static struct davit_ref other;

static int post(struct davit_context *c, struct davit_message *m)
{
	sem_post(&done);
	return 0;
}

/* Sends, and does not return until what it sent was handled: by another worker. */
static int stuck(struct davit_context *c, struct davit_message *m)
{
	davit_tell(c, other, HIT, NULL, 0);
	for (int i = 0; i < 60000 && !atomic_load(&seen); i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	if (!seen)
		errors++;
	sem_post(&done);
	return 0;
}

static int mark(struct davit_context *c, struct davit_message *m)
{
	seen = 1;
	return 0;
}

static void work_behind_a_stuck_handler_is_taken_by_another_worker(void **unused)
{
	struct davit_system *s;
	struct davit_context *c = open_threads(2, &s);
	struct davit_ref ref;

	davit_spawn(c, mark, NULL, 0, &other);
	davit_spawn(c, stuck, NULL, 0, &ref);
	davit_tell(c, ref, GO, NULL, 0);
	sem_wait(&done);
	assert_int_equal(errors, 0);
	davit_system_close(s);
}

static int block(struct davit_context *c, struct davit_message *m)
{
	int r;

	davit_block_begin(c);
	r = stuck(c, m);
	davit_block_end(c);
	return r;
}

static void a_handler_that_blocks_lends_its_worker_out(void **unused)
{
	struct davit_system *s;
	struct davit_context *c = open_threads(1, &s);
	struct davit_ref ref;

	davit_spawn(c, mark, NULL, 0, &other);
	davit_spawn(c, block, NULL, 0, &ref);
	davit_tell(c, ref, GO, NULL, 0);
	sem_wait(&done);
	assert_int_equal(errors, 0);
	davit_system_close(s);
}

static void a_dedicated_actor_holds_up_nobody(void **unused)
{
	struct davit_system *s;
	struct davit_context *c = open_threads(1, &s);
	struct davit_ref ref;

	davit_spawn(c, mark, NULL, 0, &other);
	for (int i = 0; i < 3; i++) {
		seen = 0;
		assert_int_equal(davit_spawn_dedicated(c, stuck, NULL, 0, &ref), 0);
		davit_tell(c, ref, GO, NULL, 0);
		sem_wait(&done);
		davit_kill(c, ref);
	}
	assert_int_equal(errors, 0);
	davit_system_close(s);
}

static int rearm(struct davit_context *c, struct davit_message *m)
{
	if (++seen == 3)
		return post(c, m);
	return davit_after(c, 2 * MS, NEXT, NULL);
}

static sem_t go_on;
static _Atomic(int) constructions, too_long;

static int construct_at_leisure(struct davit_context *c)
{
	if (++constructions == 2)
		sem_wait(&go_on);
	return 0;
}

static void note_too_long(void *arg, const char *line)
{
	if (strstr(line, "restart does not help: it took too long") && !too_long++)
		sem_post(&go_on);
}

static void a_solution_that_takes_longer_than_it_may_is_given_up_and_the_parent_decides(void **unused)
{
	static const struct davit_solver steps[] = {{.solution = DAVIT_SOLVE_RESTART, .timeout = SEC / 20}};
	static const struct davit_remedy remedies[] = {{0, steps, 1}, {0}};
	static const struct davit_definition d = {.name = "Slow",
						  .behaviour = receive,
						  .construct = construct_at_leisure,
						  .remedies = remedies};
	struct davit_create what = {.alias = "S", .definition = &d, .flags = DAVIT_CREATE_START};
	struct davit_system_config config = {.workers = 2, .log = note_too_long};
	struct davit_container_info info = {0};
	struct davit_context *c;
	struct davit_promise p;
	struct davit_system *s;

	sem_init(&go_on, 0, 0);
	constructions = too_long = 0;
	assert_int_equal(davit_system_open(&config, &s, NULL), 0);
	c = davit_system_context(s);
	davit_container_create(c, &what, &p);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
	davit_container_fail(c, "S", DAVIT_EIO, "on purpose", NULL);
	for (int i = 0; i < 12000; i++) {
		davit_container_get(c, "S", &info);
		if (too_long && info.restarts && info.state == DAVIT_STATE_STARTED)
			break;
		nanosleep(&(struct timespec){0, 5000000}, NULL);
	}
	assert_int_equal(too_long, 1);
	assert_int_equal(info.restarts, 1);
	assert_int_equal(info.state, DAVIT_STATE_STARTED);
	davit_system_close(s);
	sem_destroy(&go_on);
}

static void alarms_wake_an_idle_system(void **unused)
{
	struct davit_system *s;
	struct davit_context *c = open_threads(2, &s);
	struct davit_ref ref;

	davit_spawn(c, rearm, NULL, 0, &ref);
	davit_tell(c, ref, GO, NULL, 0);
	sem_wait(&done);
	davit_system_close(s);
}

static int echo(struct davit_context *c, struct davit_message *m)
{
	return davit_reply(c, m, m->data, m->size);
}

static void requests_from_outside_are_awaited(void **unused)
{
	struct davit_system *s;
	struct davit_context *c = open_threads(2, &s);
	struct davit_outcome *o;
	struct davit_promise p;
	struct davit_ref ref;

	davit_spawn(c, echo, NULL, 0, &ref);
	for (uint32_t i = 0; i < 200; i++) {
		struct davit_message *m = davit_message_new(c, GO, sizeof i);
		memcpy(m->data, &i, sizeof i);
		assert_int_equal(davit_request(c, ref, &m, NULL, &p), 0);
		assert_int_equal(davit_await(c, p, 60 * SEC, &o, NULL), 0);
		assert_memory_equal(o->data, &i, sizeof i);
		davit_outcome_free(o);
	}
	davit_system_close(s);
}

static void closing_with_work_under_way_ends_everything(void **unused)
{
	static const struct davit_definition d = {.name = "T", .behaviour = receive};
	struct davit_system *s;
	struct davit_context *c = open_threads(2, &s);
	struct davit_ref to, ref;

	davit_container_create(
		c, &(struct davit_create){.alias = "T", .definition = &d, .flags = DAVIT_CREATE_START}, NULL);
	memset(expected, 0, sizeof expected);
	davit_spawn(c, receive, NULL, 0, &to);
	for (uint32_t i = 0; i < SENDERS; i++) {
		davit_spawn(c, send_some, &(struct sender){to, i, 0}, sizeof(struct sender), &ref);
		davit_tell(c, ref, GO, NULL, 0);
	}
	davit_system_close(s);
	assert_int_equal(errors, 0);
}

/* Were it to wait for the parent's threads, the alarm would end it. */
static void closing_in_a_child_that_was_forked_is_nothing(void **state)
{
	struct davit_system_config config = {.workers = 2, .no_processes = true};
	struct davit_system *s;
	struct davit_error err;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(davit_system_open(&config, &s, &err), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(60);
		davit_system_close(s);
		_exit(7);
	}
	assert_int_equal(DAVIT_EINTR(waitpid(pid, &status, 0)), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	davit_system_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_pair_of_sender_and_receiver_keeps_its_order),
		cmocka_unit_test(order_holds_through_restarts_and_nothing_is_lost),
		cmocka_unit_test(a_sender_waits_at_a_full_mailbox_with_policy_block),
		cmocka_unit_test(a_million_actors_come_and_go_and_leave_nothing),
		cmocka_unit_test(containers_come_and_go_from_several_threads),
		cmocka_unit_test(work_behind_a_stuck_handler_is_taken_by_another_worker),
		cmocka_unit_test(a_handler_that_blocks_lends_its_worker_out),
		cmocka_unit_test(a_dedicated_actor_holds_up_nobody),
		cmocka_unit_test(a_solution_that_takes_longer_than_it_may_is_given_up_and_the_parent_decides),
		cmocka_unit_test(alarms_wake_an_idle_system),
		cmocka_unit_test(requests_from_outside_are_awaited),
		cmocka_unit_test(closing_with_work_under_way_ends_everything),
		cmocka_unit_test(closing_in_a_child_that_was_forked_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
