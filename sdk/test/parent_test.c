/* SPDX-License-Identifier: MIT
 *
 * The same containers in Python and in JavaScript (probe.py, probe.mjs) in a real tree:
 * PROBE is which. What is waited for has generous deadlines, as machines are slow.
 */
#include "davit/container.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SEC (1000 * MS)

static struct davit_system *s;
static struct davit_context *c;
static char probe_path[512];
static _Atomic(int) gone;  /* lines of the log that tell of an end */
static _Atomic(int) waits; /* and of a request that nobody awaits any more */

static void take_line(void *arg, const char *line)
{
	if (strstr(line, "gone child"))
		gone++;
	if (strstr(line, "nobody waits"))
		waits++;
}

static int open_system(void **unused)
{
	struct davit_system_config config = {.workers = 2, .log = take_line};

	gone = waits = 0;
	if (davit_system_open(&config, &s, NULL))
		return -1;
	c = davit_system_context(s);
	return 0;
}

static int close_system(void **unused)
{
	davit_system_close(s);
	return 0;
}

static bool nap(int *left)
{
	nanosleep(&(struct timespec){0, 2 * MS}, NULL);
	return --*left > 0;
}

static const char *interpreter[] = {NULL, probe_path, NULL};
static const struct davit_definition probe = {
	.name = "Probe",
	.type = DAVIT_PROCESS,
	.command = interpreter,
	.options = {.max_restarts = -1, .keepalive = 20 * SEC},
};

static void make(const char *alias, const struct davit_definition *d)
{
	struct davit_create what = {.alias = alias, .definition = d, .flags = DAVIT_CREATE_START};
	struct davit_promise p;

	assert_int_equal(davit_container_create(c, &what, &p), 0);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
}

/* Asks; the answer's text, or "!" and the error's. */
static const char *ask(const char *alias, const char *text)
{
	const struct davit_request_options options = {.timeout = 60 * SEC};
	struct davit_error err = {0};
	struct davit_outcome *o = NULL;
	static char answer[256];
	struct davit_promise p;
	struct davit_ref ref;
	int left = 20000, r;

	assert_int_equal(davit_find(c, alias, &ref), 0);
	while ((r = davit_ask(c, ref, 1, text, strlen(text), &options, &p)) == DAVIT_EUNAVAIL && nap(&left))
		; /* its mailbox is full: the probe has set a limit of its own */
	assert_int_equal(r, 0);
	if (davit_await(c, p, -1, &o, &err))
		snprintf(answer, sizeof answer, "!%s", err.message);
	else
		snprintf(answer, sizeof answer, "%s", (const char *)o->data);
	davit_outcome_free(o);
	return answer;
}

static void it_is_asked_ordered_and_told_as_any_other(void **unused)
{
	struct davit_outcome *o = NULL;
	struct davit_promise p;
	struct davit_ref ref;

	make("A", &probe);
	assert_string_equal(ask("A", "echo hello"), "hello");
	assert_string_equal(ask("A", "count"), "1 1");
	assert_string_equal(ask("A", "refuse enough"), "!enough");
	assert_int_equal(davit_find(c, "name:Probe", &ref), 0);
	assert_int_equal(davit_command(c, ref, "add", "[20, 22]", NULL, &p), 0);
	assert_int_equal(davit_await(c, p, 60 * SEC, &o, NULL), 0);
	assert_string_equal(o->data, "42");
	davit_outcome_free(o);
}

static void a_failure_is_repaired_by_a_fresh_start_in_the_same_process(void **unused)
{
	char before[32];

	make("A", &probe);
	snprintf(before, sizeof before, "%s", ask("A", "pid"));
	assert_string_equal(ask("A", "count"), "1 1");
	assert_string_equal(ask("A", "count"), "1 2");
	assert_string_equal(ask("A", "throw"), "!the request was not handled: its handler failed");
	assert_string_equal(ask("A", "count"), "1 1");
	assert_string_equal(ask("A", "pid"), before);
}

static int quiet(struct davit_context *k, struct davit_message *m)
{
	return davit_reply(k, m, "hi", 2);
}

static void it_makes_watches_and_ends_others(void **unused)
{
	static const struct davit_definition child = {.name = "Child", .behaviour = quiet};
	int left = 10000;

	assert_int_equal(davit_register(s, &child), 0);
	make("A", &probe);
	assert_string_equal(ask("A", "raise Child"), "child in A is started, says hi, is stopped, is gone");
	while (!gone && nap(&left))
		;
	assert_int_equal(gone, 1);
}

static void it_tells_all_of_its_children_however_many_there_are(void **unused)
{
	static const struct davit_definition child = {.name = "Child", .behaviour = quiet};
	enum { MANY = 1100 };
	static char aliases[MANY][8];
	static struct davit_create what[MANY];
	struct davit_promise p;

	make("A", &probe);
	for (int n = 0; n < MANY; n++) {
		snprintf(aliases[n], sizeof aliases[n], "k%d", n);
		what[n] = (struct davit_create){.alias = aliases[n], .definition = &child, .parent = "A"};
	}
	assert_int_equal(davit_containers_create(c, what, MANY, &p), 0);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
	assert_string_equal(ask("A", "manage broadcast"), "1100");
}

static void wait_for(const char *alias, enum davit_state state)
{
	struct davit_container_info i;
	int left = 10000;

	while ((davit_container_get(c, alias, &i) || i.state != state) && nap(&left))
		;
	assert_int_equal(davit_container_get(c, alias, &i), 0);
	assert_int_equal(i.state, state);
}

static void containers_within_it_stand_in_the_tree_and_are_operated_from_outside(void **unused)
{
	struct davit_container_info i;
	struct davit_promise p;
	char aliases[2][64];
	int left = 10000;

	make("A", &probe);
	assert_string_equal(ask("A", "inside C1 some words"), "");
	wait_for("Main/A/C1", DAVIT_STATE_STARTED);
	assert_int_equal(davit_container_children(c, "A", aliases, 2), 1);
	assert_string_equal(aliases[0], "C1");
	assert_int_equal(davit_container_get(c, "A", &i), 0);
	assert_int_equal(i.n_children, 1);
	assert_string_equal(ask("A/C1", "echo hello"), "hello");
	assert_string_equal(ask("A", "ask C1 echo"), "got ");
	davit_container_stop(c, "A/C1", &p);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
	wait_for("C1", DAVIT_STATE_STOPPED);
	davit_container_fail(c, "C1", DAVIT_EIO, "no", &p);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), DAVIT_ESTATE);
	davit_container_start(c, "C1", &p);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
	assert_string_equal(ask("C1", "fail on purpose"), "!the request was not handled: its handler failed");
	while ((davit_container_get(c, "C1", &i) || !i.restarts || i.state != DAVIT_STATE_STARTED) &&
	       nap(&left))
		;
	assert_int_equal(i.restarts, 1);
	davit_container_destroy(c, "C1", DAVIT_DESTROY_FORCE, &p);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
	assert_false(davit_exists(c, "C1"));
}

/* Until one was begun before its time was over. */
static void ask_in_vain(const char *alias)
{
	const struct davit_request_options soon = {.timeout = 100 * MS};
	int before = waits, left = 100;
	struct davit_promise p;
	struct davit_ref ref;

	assert_int_equal(davit_find(c, alias, &ref), 0);
	do {
		assert_int_equal(davit_ask(c, ref, 1, "await", 5, &soon, &p), 0);
		assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), DAVIT_ETIMEDOUT);
	} while (waits == before && nap(&left));
	assert_true(waits > before);
}

static void it_hears_that_nobody_awaits_its_answer_any_more(void **unused)
{
	make("A", &probe);
	assert_string_equal(ask("A", "inside C1"), "");
	wait_for("C1", DAVIT_STATE_STARTED);
	ask_in_vain("A");
	ask_in_vain("C1");
	assert_string_equal(ask("A", "echo hello"), "hello");
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SEC + t.tv_nsec;
}

static void its_parent_waits_and_counts_as_its_options_say(void **unused)
{
	struct davit_create what = {
		.alias = "A",
		.definition = &probe,
		.args = "{\"retries\": 1, \"backoff\": {\"initial\": 300, \"jitter\": 0}}",
		.flags = DAVIT_CREATE_START};
	struct davit_container_info i = {0};
	struct davit_promise p;
	int left = 10000;
	int64_t begun;

	assert_int_equal(davit_container_create(c, &what, &p), 0);
	assert_int_equal(davit_await(c, p, 60 * SEC, NULL, NULL), 0);
	begun = now();
	assert_string_equal(ask("A", "fail"), "!the request was not handled: its handler failed");
	while ((davit_container_get(c, "A", &i) || !i.restarts || i.state != DAVIT_STATE_STARTED) &&
	       nap(&left))
		;
	assert_int_equal(i.restarts, 1);
	assert_true(now() - begun >= 300 * MS);
	/* Its one retry is used up, and Main's to decide. */
	ask("A", "fail");
	while ((davit_container_get(c, "Main", &i) || !i.restarts) && nap(&left))
		;
	assert_int_equal(i.restarts, 1);
}

/* --- deaths --- */

enum { MESSAGES = 1000, DEATHS = 4 };

static _Atomic(int) seen, last, wrong;

static int sink(struct davit_context *k, struct davit_message *m)
{
	char text[16];
	int number;

	snprintf(text, sizeof text, "%.*s", (int)m->size, (const char *)m->data);
	number = atoi(text);
	wrong += number <= last || !m->size;
	last = number;
	seen++;
	return 0;
}

static void messages_outlive_its_deaths_in_order_and_none_is_handled_twice(void **unused)
{
	static const struct davit_definition end = {.name = "Sink", .behaviour = sink};
	struct davit_system_stats n;
	struct davit_ref ref;
	int left = 20000, r;
	char text[32];

	seen = wrong = 0;
	last = -1;
	make("sink", &end);
	make("A", &probe);
	assert_int_equal(davit_find(c, "A", &ref), 0);
	for (int i = 0; i < MESSAGES; i++) {
		int size = snprintf(text, sizeof text, "pass %d", i);
		if (i % (MESSAGES / DEATHS) == MESSAGES / DEATHS / 2)
			kill((pid_t)atoi(ask("A", "pid")), SIGKILL);
		while ((r = davit_tell(c, ref, 1, text, (size_t)size + 1)) == DAVIT_EUNAVAIL && nap(&left))
			;
		assert_int_equal(r, 0);
	}
	/* What was begun at a death is a dead letter; it may have come through before that. */
	do
		davit_system_stats(s, &n);
	while ((seen + (int)n.dead_by[DAVIT_DEAD_FAILED] < MESSAGES || last < MESSAGES - 1) && nap(&left));
	assert_int_equal(wrong, 0);
	assert_in_range(n.dead_by[DAVIT_DEAD_FAILED], 0, DEATHS);
	assert_in_range(seen, MESSAGES - (int)n.dead_by[DAVIT_DEAD_FAILED], MESSAGES);
	assert_int_equal(last, MESSAGES - 1);
}

static void one_that_is_silent_is_replaced(void **unused)
{
	static const struct davit_definition impatient = {.name = "Probe",
							  .type = DAVIT_PROCESS,
							  .command = interpreter,
							  .options = {.keepalive = 2 * SEC}};
	pid_t before;

	make("A", &impatient);
	before = (pid_t)atoi(ask("A", "pid"));
	assert_int_equal(kill(before, SIGSTOP), 0);
	assert_string_equal(ask("A", "echo hello"), "hello");
	assert_int_not_equal((pid_t)atoi(ask("A", "pid")), before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_system, close_system)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(it_is_asked_ordered_and_told_as_any_other),
		TEST(a_failure_is_repaired_by_a_fresh_start_in_the_same_process),
		TEST(it_makes_watches_and_ends_others),
		TEST(it_tells_all_of_its_children_however_many_there_are),
		TEST(containers_within_it_stand_in_the_tree_and_are_operated_from_outside),
		TEST(it_hears_that_nobody_awaits_its_answer_any_more),
		TEST(its_parent_waits_and_counts_as_its_options_say),
		TEST(messages_outlive_its_deaths_in_order_and_none_is_handled_twice),
		TEST(one_that_is_silent_is_replaced),
	};

	if (argc != 3)
		return 2;
	interpreter[0] = argv[1];
	snprintf(probe_path, sizeof probe_path, "%s", argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
