/* SPDX-License-Identifier: MIT
 *
 * Messages and requests between processes: addresses, routes, rules, retries, large
 * ones, containers within a process and processes within processes.
 */
#include "actor/test_processes.h"

/* "to ADDRESS TEXT": asks that one in its turn. "find ADDRESS", "keep ADDRESS TEXT",
 * "make ALIAS thread|process", "watch ADDRESS". */
static int go_between(struct davit_context *k, struct davit_message *m);

static const struct davit_definition between = {
	.name = "Between", .type = DAVIT_PROCESS, .behaviour = go_between};
static const struct davit_definition within = {.name = "Within", .behaviour = go_between};
static const struct davit_definition outside = {.name = "Outside", .behaviour = answer};

static void pass_on(struct davit_context *k, const struct davit_outcome *o, void *arg)
{
	struct davit_message *m = arg;

	if (o->state == DAVIT_PROMISE_FULFILLED)
		davit_reply(k, m, o->data, o->size);
	else
		davit_refuse(k, m, o->code, "%s", o->message);
	davit_message_free(k, m);
}

static int ask_on(struct davit_context *k, struct davit_message *m, const char *address, const char *text)
{
	struct davit_message *question = davit_message_new(k, 1, strlen(text) + 1);
	struct davit_promise p;
	struct davit_ref to;
	int r;

	memcpy(question->data, text, strlen(text) + 1);
	if (davit_find(k, address, &to)) {
		davit_message_free(k, question);
		return davit_refuse(k, m, DAVIT_ENOENT, "%s knows no %s", davit_alias(k), address);
	}
	if ((r = davit_request(k, to, &question, NULL, &p))) {
		davit_message_free(k, question);
		return davit_refuse(k, m, r, "cannot ask %s", address);
	}
	return davit_done(k, p, pass_on, davit_take(k));
}

static int make_in(struct davit_context *k, struct davit_message *m, const char *alias, const char *type)
{
	struct davit_create what = {.alias = alias,
				    .definition = strcmp(type, "thread") ? &between : &within,
				    .flags = DAVIT_CREATE_START};
	struct davit_promise p;
	int r = davit_container_create(k, &what, &p);

	return r ? r : davit_done(k, p, pass_on, davit_take(k));
}

static char heard[128];

static int go_between(struct davit_context *k, struct davit_message *m)
{
	char verb[16] = "", address[64] = "";
	const char *text = (const char *)m->data;
	struct davit_message *copy;
	struct davit_ref ref;
	int n = 0;

	if (m->type == DAVIT_TYPE_DOWN) {
		snprintf(heard, sizeof heard, "down");
		return 0;
	}
	if (sscanf(text, "%15s %63s %n", verb, address, &n) < 1)
		return 0;
	if (!strcmp(verb, "to"))
		return ask_on(k, m, address, text + n);
	if (!strcmp(verb, "make"))
		return make_in(k, m, address, text + n);
	if (!strcmp(verb, "find"))
		return davit_find(k, address, &ref) ? davit_reply(k, m, "no", 2)
						    : davit_reply(k, m, "yes", 3);
	if (!strcmp(verb, "heard"))
		return davit_reply(k, m, heard, strlen(heard));
	if (!strcmp(verb, "watch")) {
		if (davit_find(k, address, &ref))
			return davit_refuse(k, m, DAVIT_ENOENT, "nobody");
		davit_monitor(k, ref);
		return davit_reply(k, m, "", 0);
	}
	if (!strcmp(verb, "keep")) {
		copy = davit_message_new(k, 1, strlen(text + n) + 1);
		memcpy(copy->data, text + n, strlen(text + n) + 1);
		davit_send_to(k, address, &copy, DAVIT_BUFFER_AWAY);
		return davit_reply(k, m, "", 0);
	}
	return answer(k, m);
}

static void processes_reach_their_parent_and_each_other_by_alias_path_and_name(void **unused)
{
	start_with(NULL, "A", &between, NULL);
	start_with(NULL, "B", &between, NULL);
	start_with(NULL, "T", &outside, NULL);
	assert_string_equal(ask("A", "to T hi"), "T: hi");
	assert_string_equal(ask("A", "to B hi"), "B: hi");
	assert_string_equal(ask("A", "to Main/B hi"), "B: hi");
	assert_string_equal(ask("A", "to name:Outside hi"), "T: hi");
	assert_string_equal(ask("A", "to B to A hi"), "A: hi");
	assert_string_equal(ask("A", "to C hi"), "!A knows no C");
	assert_string_equal(ask("A", "find B"), "yes");
	assert_string_equal(ask("A", "find C"), "no");
	balanced();
}

static void containers_within_a_process_are_reached_from_everywhere(void **unused)
{
	struct davit_container_info i;
	char aliases[2][64];

	start_with(NULL, "A", &between, NULL);
	start_with(NULL, "B", &between, NULL);
	assert_string_equal(ask("A", "make A1 thread"), "A1");
	for (int n = 0; n < 5000 && (!davit_exists(c, "A1") || state("A1") != DAVIT_STATE_STARTED); n++)
		nap();
	assert_string_equal(ask("A1", "who"), "A1 Within Main/A/A1 A  0");
	assert_string_equal(ask("Main/A/A1", "hi"), "A1: hi");
	assert_string_equal(ask("B", "to A1 hi"), "A1: hi");
	assert_string_equal(ask("B", "to A1 to B hi"), "B: hi");
	assert_int_equal(davit_container_get(c, "A1", &i), 0);
	assert_string_equal(i.parent, "A");
	assert_int_equal(davit_container_children(c, "A", aliases, 2), 1);
	assert_string_equal(aliases[0], "A1");
	/* They end with their process. */
	ask("A", "crash");
	for (int n = 0; n < 5000 && davit_exists(c, "A1"); n++)
		nap();
	assert_false(davit_exists(c, "A1"));
}

static void a_process_has_processes_of_its_own(void **unused)
{
	pid_t grandchild;

	start_with(NULL, "A", &between, NULL);
	start_with(NULL, "T", &outside, NULL);
	assert_string_equal(ask("A", "make A1 process"), "A1");
	for (int n = 0; n < 5000 && (!davit_exists(c, "A1") || state("A1") != DAVIT_STATE_STARTED); n++)
		nap();
	assert_string_equal(ask("A1", "who"), "A1 Between Main/A/A1 A  1");
	assert_string_equal(ask("A1", "to T hi"), "T: hi");
	assert_string_equal(ask("A1", "to A hi"), "A: hi");
	grandchild = pid_of("A1");
	assert_int_not_equal(grandchild, pid_of("A"));
	kill(pid_of("A"), SIGKILL);
	gone(grandchild);
}

static void rules_hold_between_processes_too(void **unused)
{
	static const struct davit_rule rules[] = {{"A", "B", NULL, true}};

	start_with(NULL, "A", &between, NULL);
	start_with(NULL, "B", &between, NULL);
	assert_string_equal(ask("A", "to B hi"), "B: hi");
	davit_system_rules(sys, rules, 1);
	assert_string_equal(ask("A", "to B hi"), "!the request was not handled: a rule denies it");
	assert_string_equal(ask("B", "to A hi"), "A: hi");
}

static char kept[64];

static int keep_text(struct davit_context *k, struct davit_message *m)
{
	if (m->promise.generation)
		return davit_reply(k, m, kept, strlen(kept));
	strncat(kept, (const char *)m->data, sizeof kept - strlen(kept) - 1);
	return 0;
}

static void messages_of_a_process_for_an_alias_to_come_are_kept(void **unused)
{
	static const struct davit_definition keeper = {.name = "Keeper", .behaviour = keep_text};

	kept[0] = 0;
	start_with(NULL, "A", &between, NULL);
	ask("A", "keep Later one");
	ask("A", "keep Later two");
	start_with(NULL, "Later", &keeper, NULL);
	assert_string_equal(ask("Later", "?"), "onetwo");
	balanced();
}

static void a_process_hears_of_the_end_of_who_it_watches(void **unused)
{
	struct davit_promise p;

	start_with(NULL, "A", &between, NULL);
	start_with(NULL, "B", &between, NULL);
	assert_string_equal(ask("A", "watch B"), "");
	assert_string_equal(ask("A", "heard"), "");
	davit_container_destroy(c, "B", DAVIT_DESTROY_FORCE, &p);
	assert_int_equal(finish(p), 0);
	for (int n = 0; n < 1000 && strcmp(ask("A", "heard"), "down"); n++)
		nap();
	assert_string_equal(ask("A", "heard"), "down");
	assert_string_equal(ask("A", "find B"), "no");
}

/* --- requests --- */

/* "slow N": answers after N ms with the number of calls; "working N": says meanwhile
 * that it works; else its size back, filled with a pattern. */
static int work(struct davit_context *k, struct davit_message *m)
{
	static int calls;
	struct timespec ms = {0, 20 * MS};
	int n = 0, i;
	char text[32];

	if (m->size > 4096)
		return davit_reply(k, m, m->data, m->size);
	calls++;
	if (sscanf((const char *)m->data, "slow %d", &n) == 1 ||
	    sscanf((const char *)m->data, "working %d", &n) == 1) {
		for (i = 0; i < n; i += 20) {
			nanosleep(&ms, NULL);
			if (*m->data == 'w')
				davit_progress(k, m);
		}
	}
	snprintf(text, sizeof text, "%d", calls);
	return davit_reply(k, m, text, strlen(text));
}

static const struct davit_definition worker = {.name = "Worker", .type = DAVIT_PROCESS, .behaviour = work};

static void a_request_that_is_sent_again_is_handled_once(void **unused)
{
	start_with(NULL, "W", &worker, NULL);
	assert_string_equal(ask_with("W", "slow 400",
				     &(struct davit_request_options){.timeout = 100 * MS, .retries = 100}),
			    "1");
	assert_string_equal(ask("W", "slow 0"), "2");
	balanced();
}

static void progress_in_another_process_gives_more_time(void **unused)
{
	start_with(NULL, "W", &worker, NULL);
	assert_string_equal(
		ask_with("W", "working 1500", &(struct davit_request_options){.timeout = 700 * MS}), "1");
}

static void what_nobody_awaits_any_more_is_not_begun(void **unused)
{
	struct davit_request_options o = {.timeout = 50 * MS};
	struct davit_promise p[10], all;
	struct davit_message *m;

	start_with(NULL, "W", &worker, NULL);
	for (int i = 0; i < 10; i++) {
		m = davit_message_new(c, 1, 9);
		memcpy(m->data, "slow 100", 9);
		assert_int_equal(davit_request(c, find("W"), &m, &o, &p[i]), 0);
	}
	davit_all(c, p, 10, &all);
	assert_int_equal(finish(all), DAVIT_ETIMEDOUT);
	/* The first, and on a slow machine another one or two before it is known. */
	assert_in_range(atoi(ask("W", "slow 0")), 1, 5);
}

static void large_messages_go_both_ways_and_hold_up_no_heartbeat(void **unused)
{
	enum { SIZE = 5 << 20 };
	struct davit_outcome *o;
	struct davit_message *m;
	struct davit_promise p;

	start_with(NULL, "W", &worker, NULL);
	for (int n = 0; n < 3; n++) {
		unsigned sum = 0, want = 0;
		m = davit_message_new(c, 1, SIZE);
		for (uint32_t i = 0; i < SIZE; i++)
			want += m->data[i] = (unsigned char)(i * 2654435761u >> 24);
		assert_int_equal(davit_request(c, find("W"), &m, NULL, &p), 0);
		assert_int_equal(davit_await(c, p, 60 * SEC, &o, NULL), 0);
		assert_int_equal(o->size, SIZE);
		for (uint32_t i = 0; i < SIZE; i++)
			sum += ((const unsigned char *)o->data)[i];
		assert_int_equal(sum, want);
		assert_int_equal(((const unsigned char *)o->data)[SIZE / 2 + 1],
				 (unsigned char)((SIZE / 2 + 1) * 2654435761u >> 24));
		davit_outcome_free(o);
	}
	assert_int_equal(lines, 0);
	assert_string_equal(ask("W", "slow 0"), "1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(processes_reach_their_parent_and_each_other_by_alias_path_and_name),
		T(containers_within_a_process_are_reached_from_everywhere),
		T(a_process_has_processes_of_its_own),
		T(rules_hold_between_processes_too),
		T(messages_of_a_process_for_an_alias_to_come_are_kept),
		T(a_process_hears_of_the_end_of_who_it_watches),
		T(a_request_that_is_sent_again_is_handled_once),
		T(progress_in_another_process_gives_more_time),
		T(what_nobody_awaits_any_more_is_not_begun),
		T(large_messages_go_both_ways_and_hold_up_no_heartbeat),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
