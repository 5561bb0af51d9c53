/* SPDX-License-Identifier: MIT
 *
 * Promises and requests, on a clock of the test's.
 */
#include "actor/test_rig.h"

static struct davit_promise pending(struct world *w)
{
	struct davit_promise p;

	assert_int_equal(davit_promise_new(w->c, &p), 0);
	return p;
}

static struct davit_promise number(struct world *w, int n)
{
	struct davit_promise p = pending(w);

	davit_fulfil(w->c, p, &n, sizeof n);
	return p;
}

static struct davit_promise refused(struct world *w, int code)
{
	struct davit_promise p = pending(w);

	davit_reject(w->c, p, code, "refused %d", code);
	return p;
}

/* What p came to, as text: "5", "!-9", "~" (cancelled), "[1 2]". */
static const char *outcome(struct world *w, struct davit_promise p)
{
	static char text[256];
	struct davit_outcome *o = NULL;
	struct davit_error err = {0};
	size_t n = 0;
	int r = davit_await(w->c, p, 0, &o, &err), v = 0;

	if (!o) {
		snprintf(text, sizeof text, "?%d", r);
	} else if (o->state == DAVIT_PROMISE_CANCELLED) {
		snprintf(text, sizeof text, "~");
	} else if (r) {
		snprintf(text, sizeof text, "!%d", r);
	} else if (o->items) {
		n = (size_t)snprintf(text, sizeof text, "[");
		for (size_t i = 0; i < o->n_items; i++) {
			memcpy(&v, o->items[i].data, sizeof v);
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%d", i ? " " : "", v);
		}
		snprintf(text + n, sizeof text - n, "]");
	} else if (o->size == sizeof v) {
		memcpy(&v, o->data, sizeof v);
		snprintf(text, sizeof text, "%d", v);
	} else {
		snprintf(text, sizeof text, "\"%s\"", (const char *)o->data);
	}
	davit_outcome_free(o);
	return text;
}

static void a_promise_is_settled_once(void **unused)
{
	struct world *w = open_world();
	struct davit_promise p = number(w, 5);

	assert_int_equal(davit_promise_state(w->c, p), DAVIT_PROMISE_FULFILLED);
	assert_false(davit_reject(w->c, p, DAVIT_EIO, "late"));
	assert_false(davit_cancel(w->c, p));
	assert_string_equal(outcome(w, p), "5");
	assert_int_equal(davit_promise_state(w->c, p), DAVIT_PROMISE_GONE);
	assert_string_equal(outcome(w, p), "?-2");
	assert_string_equal(outcome(w, refused(w, DAVIT_EIO)), "!-9");
	close_world(w);
}

static int add_one(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next,
		   void *arg)
{
	int v;

	memcpy(&v, o->data, sizeof v);
	v++;
	davit_fulfil(c, next, &v, sizeof v);
	return 0;
}

static int refuse_it(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next,
		     void *arg)
{
	return DAVIT_EINVAL;
}

static int look(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next, void *arg)
{
	note("looked");
	return 0;
}

static void then_chains(void **unused)
{
	struct world *w = open_world();
	struct davit_promise p = pending(w), a, b;
	int v = 1;

	davit_then(w->c, p, add_one, NULL, &a);
	davit_then(w->c, a, add_one, NULL, &b);
	davit_then(w->c, b, look, NULL, &a);
	davit_fulfil(w->c, p, &v, sizeof v);
	assert_string_equal(outcome(w, a), "3");
	assert_string_equal(trace(), "looked");
	davit_then(w->c, number(w, 1), refuse_it, NULL, &a);
	davit_then(w->c, a, look, NULL, &b);
	assert_string_equal(outcome(w, b), "!-1");
	assert_string_equal(trace(), "");
	close_world(w);
}

static void note_end(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	note("%s:%s", (const char *)arg, davit_promise_state_name(o->state));
}

static void cancelling_propagates_both_ways(void **unused)
{
	struct world *w = open_world();
	struct davit_promise p = pending(w), next, q[2] = {pending(w), pending(w)}, all;

	davit_then(w->c, p, add_one, NULL, &next);
	davit_done(w->c, next, note_end, "next");
	assert_true(davit_cancel(w->c, next));
	davit_system_run(w->system);
	assert_string_equal(trace(), "next:cancelled");
	assert_int_equal(davit_promise_state(w->c, p), DAVIT_PROMISE_GONE);
	davit_all(w->c, q, 2, &all);
	davit_cancel(w->c, all);
	assert_int_equal(davit_promise_state(w->c, q[0]), DAVIT_PROMISE_GONE);
	assert_int_equal(davit_promise_state(w->c, q[1]), DAVIT_PROMISE_GONE);
	assert_string_equal(outcome(w, all), "~");
	p = pending(w);
	davit_then(w->c, p, add_one, NULL, &next);
	davit_cancel(w->c, p);
	assert_string_equal(outcome(w, next), "~");
	close_world(w);
}

static int sum(struct davit_context *c, const struct davit_outcome *o, void *acc, void *arg)
{
	int v;

	memcpy(&v, o->data, sizeof v);
	*(int *)acc = *(int *)acc * 10 + v;
	return v == 9 ? DAVIT_EINVAL : 0;
}

static const char *reduced(struct world *w, int last)
{
	struct davit_promise p[3] = {number(w, 1), number(w, 2), number(w, last)}, r;
	int zero = 0;

	assert_int_equal(davit_reduce(w->c, p, 3, sum, &zero, sizeof zero, NULL, &r), 0);
	return outcome(w, r);
}

static void several_are_made_into_one(void **unused)
{
	struct world *w = open_world();
	struct davit_promise r;

#define THREE(a, b, c) ((struct davit_promise[]){a, b, c})
	davit_all(w->c, THREE(number(w, 1), number(w, 2), number(w, 3)), 3, &r);
	assert_string_equal(outcome(w, r), "[1 2 3]");
	davit_all(w->c, THREE(number(w, 1), refused(w, DAVIT_EIO), pending(w)), 3, &r);
	assert_string_equal(outcome(w, r), "!-9");
	davit_any(w->c, THREE(refused(w, DAVIT_EIO), number(w, 2), pending(w)), 3, &r);
	assert_string_equal(outcome(w, r), "2");
	davit_any(w->c, THREE(refused(w, DAVIT_EIO), refused(w, DAVIT_EIO), refused(w, DAVIT_EINVAL)), 3, &r);
	assert_string_equal(outcome(w, r), "!-1");
	davit_some(w->c, THREE(number(w, 1), refused(w, DAVIT_EIO), number(w, 3)), 3, 2, &r);
	assert_string_equal(outcome(w, r), "[1 3]");
	davit_some(w->c, THREE(number(w, 1), refused(w, DAVIT_EIO), refused(w, DAVIT_EINVAL)), 3, 2, &r);
	assert_string_equal(outcome(w, r), "!-1");
	davit_race(w->c, THREE(pending(w), refused(w, DAVIT_EIO), number(w, 3)), 3, &r);
	assert_string_equal(outcome(w, r), "!-9");
	davit_map(w->c, THREE(number(w, 1), number(w, 2), number(w, 3)), 3, add_one, NULL, &r);
	assert_string_equal(outcome(w, r), "[2 3 4]");
	assert_string_equal(reduced(w, 3), "123");
	assert_string_equal(reduced(w, 9), "!-1");
	davit_all(w->c, NULL, 0, &r);
	assert_string_equal(outcome(w, r), "\"\"");
	close_world(w);
}

/* --- requests --- */

static struct davit_message *kept;

/* Keeps a request, to be answered later; or answers at once. */
static int serve(struct davit_context *c, struct davit_message *m)
{
	note("handled");
	if (m->type == 1)
		kept = davit_take(c);
	else if (m->size)
		davit_reply(c, m, m->data, m->size);
	else
		davit_reply(c, m, "yes", 3);
	return 0;
}

static struct davit_promise ask(struct world *w, struct davit_ref to, uint32_t type, int64_t timeout,
				int retries)
{
	struct davit_request_options o = {.timeout = timeout, .retries = retries};
	struct davit_message *m = davit_message_new(w->c, type, 0);
	struct davit_promise p;

	assert_int_equal(davit_request(w->c, to, &m, &o, &p), 0);
	assert_null(m);
	return p;
}

static struct world *open_server(struct davit_ref *ret)
{
	struct world *w = open_world();

	assert_int_equal(davit_spawn(w->c, serve, NULL, 0, ret), 0);
	return w;
}

static void a_request_is_answered(void **unused)
{
	struct davit_ref to;
	struct world *w = open_server(&to);

	assert_string_equal(outcome(w, ask(w, to, 2, SEC, 0)), "\"yes\"");
	close_world(w);
}

static void a_request_carries_what_is_asked(void **unused)
{
	struct davit_promise p;
	struct davit_ref to;
	struct world *w = open_server(&to);

	assert_int_equal(davit_ask(w->c, to, 2, "who", 3, NULL, &p), 0);
	assert_string_equal(outcome(w, p), "\"who\"");
	close_world(w);
}

static void a_reply_after_the_timeout_is_dropped(void **unused)
{
	struct davit_ref to;
	struct world *w = open_server(&to);
	struct davit_promise p = ask(w, to, 1, SEC, 0);

	davit_system_run(w->system);
	pass(w, SEC - 1);
	assert_int_equal(davit_promise_state(w->c, p), DAVIT_PROMISE_PENDING);
	pass(w, 1);
	assert_int_equal(davit_promise_state(w->c, p), DAVIT_PROMISE_REJECTED);
	davit_reply(w->c, kept, "late", 4);
	assert_string_equal(outcome(w, p), "!-11");
	davit_message_free(w->c, kept);
	close_world(w);
}

static void progress_extends_the_deadline(void **unused)
{
	struct davit_ref to;
	struct world *w = open_server(&to);
	struct davit_promise p = ask(w, to, 1, SEC, 0);

	davit_system_run(w->system);
	for (int i = 0; i < 3; i++) {
		pass(w, SEC - 1);
		davit_progress(w->c, kept);
	}
	assert_int_equal(davit_deadline(w->c, kept), davit_system_now(w->system) + SEC);
	davit_reply(w->c, kept, "yes", 3);
	assert_string_equal(outcome(w, p), "\"yes\"");
	davit_message_free(w->c, kept);
	close_world(w);
}

static void the_handler_of_a_retried_request_runs_once(void **unused)
{
	struct davit_system_stats s;
	struct davit_ref to;
	struct world *w = open_server(&to);
	struct davit_promise p = ask(w, to, 1, SEC, 3);

	davit_system_run(w->system);
	pass(w, SEC);
	pass(w, SEC);
	assert_string_equal(trace(), "handled");
	davit_system_stats(w->system, &s);
	assert_int_equal(s.dead_by[DAVIT_DEAD_REPEAT], 2);
	davit_reply(w->c, kept, "yes", 3);
	assert_string_equal(outcome(w, p), "\"yes\"");
	balance(w);
	/* One that is never answered fails after the last try. */
	davit_message_free(w->c, kept);
	p = ask(w, to, 1, SEC, 1);
	davit_system_run(w->system);
	pass(w, SEC);
	assert_int_equal(davit_promise_state(w->c, p), DAVIT_PROMISE_PENDING);
	pass(w, SEC);
	assert_string_equal(outcome(w, p), "!-11");
	davit_message_free(w->c, kept);
	close_world(w);
}

static int allow_later(struct davit_context *c, struct davit_message *m)
{
	note("handled");
	return davit_reply(c, m, "yes", 3);
}

static void a_request_that_was_dropped_is_sent_again(void **unused)
{
	static const struct davit_definition d = {
		.name = "T",
		.behaviour = allow_later,
		.options = {.limit = 1, .overflow = DAVIT_OVERFLOW_DROP_NEWEST}};
	struct davit_container_info info;
	struct world *w = open_world();
	struct davit_promise p;

	make(w, "A", &d, 0);
	davit_container_get(w->c, "A", &info);
	davit_tell(w->c, info.ref, 1, NULL, 0); /* fills the mailbox */
	p = ask(w, info.ref, 1, SEC, 1);
	davit_container_start(w->c, "A", NULL);
	davit_system_run(w->system);
	assert_string_equal(trace(), "handled");
	pass(w, SEC);
	assert_string_equal(outcome(w, p), "\"yes\"");
	assert_string_equal(trace(), "handled");
	close_world(w);
}

static void a_request_that_nobody_awaits_any_more_is_skipped(void **unused)
{
	static const struct davit_definition d = {.name = "T", .behaviour = allow_later};
	struct davit_container_info info;
	struct davit_system_stats s;
	struct world *w = open_world();
	struct davit_promise p, q;

	make(w, "A", &d, 0);
	davit_container_get(w->c, "A", &info);
	p = ask(w, info.ref, 1, SEC, 0);
	q = ask(w, info.ref, 1, 5 * SEC, 0);
	davit_cancel(w->c, q);
	pass(w, SEC);
	davit_container_start(w->c, "A", NULL);
	davit_system_run(w->system);
	assert_string_equal(trace(), "");
	davit_system_stats(w->system, &s);
	assert_int_equal(s.dead_by[DAVIT_DEAD_EXPIRED], 2);
	assert_string_equal(outcome(w, p), "!-11");
	assert_string_equal(outcome(w, q), "~");
	balance(w);
	close_world(w);
}

static void a_request_to_nobody_is_rejected_at_once(void **unused)
{
	struct davit_ref to;
	struct world *w = open_server(&to);

	davit_kill(w->c, to);
	davit_system_run(w->system);
	assert_string_equal(outcome(w, ask(w, to, 2, SEC, 0)), "!-14");
	close_world(w);
}

static int waits(struct davit_context *c, struct davit_message *m)
{
	struct davit_promise p;
	struct davit_error err;

	davit_promise_new(c, &p);
	note("%d", davit_await(c, p, -1, NULL, &err));
	davit_forget(c, p);
	davit_cancel(c, p);
	return 0;
}

static void waiting_inside_a_handler_is_refused(void **unused)
{
	struct davit_ref to;
	struct world *w = open_world();

	davit_spawn(w->c, waits, NULL, 0, &to);
	davit_tell(w->c, to, 1, NULL, 0);
	davit_system_run(w->system);
	assert_string_equal(trace(), "-4");
	close_world(w);
}

static int asks(struct davit_context *c, struct davit_message *m)
{
	struct davit_promise p;

	memcpy(&p, m->data, sizeof p);
	return davit_done(c, p, note_end, "mine");
}

static void a_promise_whose_consumer_has_ended_harms_nobody(void **unused)
{
	struct davit_ref to;
	struct world *w = open_world();
	struct davit_promise p = pending(w);

	davit_spawn(w->c, asks, NULL, 0, &to);
	davit_tell(w->c, to, 1, &p, sizeof p);
	davit_system_run(w->system);
	davit_kill(w->c, to);
	davit_system_run(w->system);
	assert_true(davit_fulfil(w->c, p, "x", 1));
	davit_system_run(w->system);
	assert_string_equal(trace(), "");
	close_world(w);
}

static void what_is_pending_is_cancelled_when_the_system_closes(void **unused)
{
	struct world *w = open_world();

	davit_done(w->c, pending(w), note_end, "x");
	pending(w);
	ask(w, (struct davit_ref){0, 0}, 1, SEC, 2);
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_promise_is_settled_once),
		cmocka_unit_test(then_chains),
		cmocka_unit_test(cancelling_propagates_both_ways),
		cmocka_unit_test(several_are_made_into_one),
		cmocka_unit_test(a_request_is_answered),
		cmocka_unit_test(a_request_carries_what_is_asked),
		cmocka_unit_test(a_reply_after_the_timeout_is_dropped),
		cmocka_unit_test(progress_extends_the_deadline),
		cmocka_unit_test(the_handler_of_a_retried_request_runs_once),
		cmocka_unit_test(a_request_that_was_dropped_is_sent_again),
		cmocka_unit_test(a_request_that_nobody_awaits_any_more_is_skipped),
		cmocka_unit_test(a_request_to_nobody_is_rejected_at_once),
		cmocka_unit_test(waiting_inside_a_handler_is_refused),
		cmocka_unit_test(a_promise_whose_consumer_has_ended_harms_nobody),
		cmocka_unit_test(what_is_pending_is_cancelled_when_the_system_closes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
