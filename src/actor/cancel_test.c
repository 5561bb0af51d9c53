/* SPDX-License-Identifier: MIT
 *
 * Requests that nobody awaits any more: cancelled, too late, or of one that has ended;
 * within a system and between processes. The one who is asked hears of it.
 */
#include "actor/test_processes.h"

enum { UNWANTED = 100 };

/* "later": takes the request. "work": until nobody awaits it. "block MS". "count": of
 * requests that were begun. "heard": how often it was told that nobody awaits one; "heard N"
 * is answered when it was N times. "ask ADDRESS TEXT", "forget ADDRESS TEXT": a request of its own. */
static int begun, heard, wanted_heard;
static struct davit_message *question;

static void tell_heard(struct davit_context *k)
{
	char text[16];

	if (!question || heard < wanted_heard)
		return;
	snprintf(text, sizeof text, "%d", heard);
	davit_reply(k, question, text, strlen(text));
	davit_message_free(k, question);
	question = NULL;
}

static void ignore(struct davit_context *k, const struct davit_outcome *o, void *arg)
{
}

static int ask_on(struct davit_context *k, const char *text, bool forget)
{
	char address[32] = "";
	struct davit_request_options o = {.timeout = -1};
	struct davit_promise p;
	struct davit_ref to;
	int n = 0, r;

	sscanf(text, "%31s %n", address, &n);
	if ((r = davit_find(k, address, &to)) ||
	    (r = davit_ask(k, to, 1, text + n, strlen(text + n) + 1, &o, &p)))
		return r;
	if (forget)
		davit_forget(k, p);
	return forget ? 0 : davit_done(k, p, ignore, NULL);
}

static int work(struct davit_context *k, struct davit_message *m)
{
	const char *text = (const char *)m->data;
	int ms = 0;

	if (m->type == UNWANTED) {
		heard++;
		tell_heard(k);
		return 0;
	}
	if (!strncmp(text, "heard", 5)) {
		wanted_heard = atoi(text + 5);
		question = davit_take(k);
		tell_heard(k);
		return 0;
	}
	if (!strcmp(text, "count")) {
		char n[16];
		snprintf(n, sizeof n, "%d", begun);
		return davit_reply(k, m, n, strlen(n));
	}
	begun++;
	if (!strcmp(text, "later")) {
		int r = davit_on_cancel(k, m, UNWANTED);
		davit_message_free(k, davit_take(k));
		return r;
	}
	if (!strcmp(text, "work")) {
		while (davit_awaited(k, m))
			nap();
		return 0;
	}
	if (sscanf(text, "block %d", &ms) == 1) {
		for (int i = 0; i < ms / 2; i++)
			nap();
		return davit_reply(k, m, "", 0);
	}
	if (!strncmp(text, "ask ", 4) || !strncmp(text, "forget ", 7)) {
		bool forget = *text == 'f';
		int r = ask_on(k, text + (forget ? 7 : 4), forget);
		return r ? r : davit_reply(k, m, "", 0);
	}
	return answer(k, m);
}

/* A process begins with what the program had when its first system was opened. */
static int anew(struct davit_context *k)
{
	begun = heard = 0;
	question = NULL;
	return 0;
}

static const struct davit_definition outside = {
	.name = "Outside", .type = DAVIT_PROCESS, .construct = anew, .behaviour = work};
static const struct davit_definition inside = {.name = "Inside", .construct = anew, .behaviour = work};

static struct davit_promise request(const char *address, const char *text, int64_t timeout)
{
	struct davit_request_options o = {.timeout = timeout};
	struct davit_promise p;

	assert_int_equal(davit_ask(c, find(address), 1, text, strlen(text) + 1, &o, &p), 0);
	return p;
}

static void wait_begun(const char *n)
{
	for (int i = 0; i < 5000 && strcmp(ask("W", "count"), n) != 0; i++)
		nap();
	assert_string_equal(ask("W", "count"), n);
}

static void the_receiver_hears_of(const struct davit_definition *d)
{
	struct davit_promise p;

	start_with(NULL, "W", d, NULL);
	p = request("W", "later", -1);
	wait_begun("1");
	assert_true(davit_cancel(c, p));
	davit_forget(c, p);
	assert_string_equal(ask("W", "heard 1"), "1");
	for (int i = 0; i < 50 && !strcmp(ask("W", "count"), "1"); i++) { /* too late, and begun by then */
		p = request("W", "later", 50 * MS);
		assert_int_equal(finish(p), DAVIT_ETIMEDOUT);
	}
	assert_string_equal(ask("W", "heard 2"), "2");
}

static void one_who_has_begun_a_request_hears_that_nobody_awaits_it_any_more(void **unused)
{
	the_receiver_hears_of(&inside);
}

static void so_does_one_in_another_process(void **unused)
{
	the_receiver_hears_of(&outside);
}

static void a_handler_that_looks_sees_it_while_it_works(void **unused)
{
	struct davit_promise p;

	for (int i = 0; i < 2; i++) {
		char alias[8];
		snprintf(alias, sizeof alias, "W%d", i);
		start_with(NULL, alias, i ? &outside : &inside, NULL);
		p = request(alias, "work", 50 * MS);
		assert_int_equal(finish(p), DAVIT_ETIMEDOUT);
		assert_string_equal(ask(alias, "hi"), alias[1] == '0' ? "W0: hi" : "W1: hi");
	}
	balanced();
}

static void one_that_waits_in_another_process_is_dropped(void **unused)
{
	struct davit_promise first, p[100];

	start_with(NULL, "W", &outside, NULL);
	/* They are in its mailbox, or on their way, when they are cancelled. */
	first = request("W", "block 200", -1);
	for (int i = 0; i < 100; i++)
		p[i] = request("W", "hi", -1);
	for (int i = 0; i < 100; i++) {
		davit_cancel(c, p[i]);
		davit_forget(c, p[i]);
	}
	assert_int_equal(finish(first), 0);
	/* On a slow machine the block may be over before all are cancelled. */
	assert_in_range(atoi(ask("W", "count")), 1, 100);
	balanced();
}

static void requests_of_a_container_end_with_it(void **unused)
{
	struct davit_promise p;

	start_with(NULL, "W", &outside, NULL);
	start_with(NULL, "A", &inside, NULL);
	assert_string_equal(ask("A", "ask W later"), "");
	assert_string_equal(ask("A", "forget W later"), ""); /* it is to be done, whoever knows */
	wait_begun("2");
	davit_container_destroy(c, "A", DAVIT_DESTROY_FORCE, &p);
	assert_int_equal(finish(p), 0);
	assert_string_equal(ask("W", "heard 1"), "1");
	assert_string_equal(ask("W", "heard 0"), "1");
}

static void requests_of_a_process_end_with_it(void **unused)
{
	start_with(NULL, "W", &outside, NULL);
	start_with(NULL, "A", &outside, NULL);
	assert_string_equal(ask("A", "ask W later"), "");
	wait_begun("1");
	kill(pid_of("A"), SIGKILL);
	assert_string_equal(ask("W", "heard 1"), "1");
}

static void what_was_answered_is_not_told_of(void **unused)
{
	struct davit_promise p;

	start_with(NULL, "W", &outside, NULL);
	p = request("W", "hi", -1);
	assert_int_equal(finish(p), 0);
	assert_string_equal(ask("W", "heard 0"), "0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_who_has_begun_a_request_hears_that_nobody_awaits_it_any_more),
		T(so_does_one_in_another_process),
		T(a_handler_that_looks_sees_it_while_it_works),
		T(one_that_waits_in_another_process_is_dropped),
		T(requests_of_a_container_end_with_it),
		T(requests_of_a_process_end_with_it),
		T(what_was_answered_is_not_told_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
