/* SPDX-License-Identifier: MIT */
#include "supervise/supervise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SEC (1000 * MS)

/* The allocation in how many calls fails, for all that follow; 0: none. The
 * linker sends the engine's and the loop's allocations here. */
static int fail_after;
void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static bool fails(void)
{
	return fail_after && fail_after-- == 1 && (fail_after = 1);
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

/* A world: a tree of at most 16 leaves on a virtual clock, and the trace of what
 * the engine asked for: "+a" start, "-a" stop. */
struct world {
	struct davit_loop *loop;
	struct davit_supervise sup;
	struct davit_node leaf[16], inner[8];
	char trace[4096];
	bool manual_run;  /* a start is not answered by "running" */
	bool manual_stop; /* a stop is not answered by "ended" */
	const char *held; /* name of a leaf whose starts are held */
	int starts, changes;
};

static const struct davit_restart_rule always = {
	.policy = DAVIT_RESTART_ALWAYS, .retries = -1, .backoff = {100 * MS, 1000 * MS, 2, 0, 60 * SEC}};
static const struct davit_supervision_rule one_for_one = {.strategy = DAVIT_ONE_FOR_ONE, .max_restarts = -1};
static const struct davit_supervision_rule one_for_all = {
	.strategy = DAVIT_ONE_FOR_ALL, .max_restarts = -1, .escalation = DAVIT_ESCALATE_PARENT};
static const struct davit_supervision_rule rest_for_one = {
	.strategy = DAVIT_REST_FOR_ONE, .max_restarts = -1, .escalation = DAVIT_ESCALATE_PARENT};
static const struct davit_supervision_rule service = {.transparent = true};

static void note(struct world *w, char what, const struct davit_node *n)
{
	size_t len = strlen(w->trace);

	snprintf(w->trace + len, sizeof w->trace - len, "%s%c%s", len ? " " : "", what, n->name);
}

static void op_start(struct davit_node *n)
{
	struct world *w = n->sup->owner;

	assert_int_equal(n->state, DAVIT_NODE_STARTING);
	w->starts++;
	if (w->held && !strcmp(w->held, n->name)) {
		note(w, '?', n);
		davit_supervise_hold(n);
		return;
	}
	note(w, '+', n);
	if (!w->manual_run)
		davit_supervise_running(n);
}

static void op_stop(struct davit_node *n)
{
	struct world *w = n->sup->owner;

	assert_int_equal(n->state, DAVIT_NODE_STOPPING);
	note(w, '-', n);
	if (!w->manual_stop)
		davit_supervise_ended(n, DAVIT_CAUSE_STOPPED);
}

static void op_changed(struct davit_node *n)
{
	((struct world *)n->sup->owner)->changes++;
}

static const struct davit_supervise_ops ops = {op_start, op_stop, op_changed};

static struct world *open_world(const struct davit_supervision_rule *root, struct davit_start_budget budget)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	assert_int_equal(davit_loop_open_virtual(1, &w->loop, NULL), 0);
	assert_int_equal(davit_supervise_init(&w->sup, w->loop, &ops, root, &budget, w, NULL), 0);
	return w;
}

static void close_world(struct world *w)
{
	davit_supervise_fini(&w->sup);
	davit_loop_close(w->loop);
	free(w);
}

static void wake(struct davit_timer *t)
{
}

/* Lets time pass. */
static void pass(struct world *w, int64_t ns)
{
	int64_t end = davit_loop_now(w->loop) + ns;
	struct davit_timer t;

	davit_timer_init(&t, w->loop, wake);
	assert_int_equal(davit_timer_start(&t, ns), 0);
	while (davit_timer_active(&t) || davit_loop_now(w->loop) < end)
		assert_true(davit_loop_step(w->loop));
	/* What the last moment brought about. */
	assert_int_equal(davit_timer_start(&t, 0), 0);
	while (davit_timer_active(&t))
		davit_loop_step(w->loop);
}

static const char *trace(struct world *w)
{
	static char copy[sizeof w->trace];

	pass(w, 0);
	strcpy(copy, w->trace);
	w->trace[0] = 0;
	return copy;
}

/* Adds n leaves a, b, c, ... */
static void add_leaves(struct world *w, struct davit_node *parent, int from, int n,
		       const struct davit_restart_rule *rule)
{
	for (int i = from; i < from + n; i++)
		assert_int_equal(
			davit_supervise_add_leaf(&w->leaf[i], parent, (char[]){(char)('a' + i), 0}, rule, w),
			0);
}

static void a_group_restarts_in_reverse_and_in_order(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &one_for_all, w), 0);
	add_leaves(w, &w->inner[0], 0, 4, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c +d");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-d -c -a");
	assert_int_equal(w->inner[0].state, DAVIT_NODE_WAITING);
	pass(w, 99 * MS);
	assert_string_equal(trace(w), "");
	pass(w, 1 * MS);
	assert_string_equal(trace(w), "+a +b +c +d");
	assert_int_equal(w->leaf[1].restarts, 1);
	assert_int_equal(w->leaf[0].restarts, 0);
	close_world(w);
}

static void rest_for_one_restarts_the_failed_child_and_those_after_it(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "rest", &rest_for_one, w), 0);
	add_leaves(w, &w->inner[0], 0, 4, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c +d");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_SIGNAL);
	assert_string_equal(trace(w), "-d -c");
	assert_ptr_equal(w->leaf[3].origin, &w->leaf[1]);
	assert_string_equal(w->leaf[3].rule_name, "rest-for-one");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+b +c +d");
	close_world(w);
}

static void children_in_order_are_stopped_one_after_another(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &one_for_all, w), 0);
	add_leaves(w, &w->inner[0], 0, 3, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c");
	w->manual_stop = true;
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_OOM);
	assert_string_equal(trace(w), "-c");
	pass(w, SEC);
	assert_string_equal(trace(w), "");
	davit_supervise_ended(&w->leaf[2], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-b");
	assert_int_equal(w->leaf[2].restarts, 0);
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_STOPPED);
	/* The backoff is over by then. */
	assert_string_equal(trace(w), "+a +b +c");
	close_world(w);
}

static void another_failure_during_a_group_restart_is_merged(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "rest", &rest_for_one, w), 0);
	add_leaves(w, &w->inner[0], 0, 4, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c +d");
	davit_supervise_ended(&w->leaf[2], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-d");
	pass(w, 50 * MS);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-b");
	pass(w, 99 * MS);
	assert_string_equal(trace(w), "");
	pass(w, 1 * MS);
	assert_string_equal(trace(w), "+a +b +c +d");
	assert_int_equal(w->leaf[0].restarts + w->leaf[2].restarts, 2);
	assert_int_equal(w->inner[0].total_restarts, 1);
	close_world(w);
}

static void a_brood_that_fails_stays_so_until_it_is_relaunched_with_its_head(void **state)
{
	const struct davit_supervision_rule brood = {
		.max_restarts = 0, .period = SEC, .escalation = DAVIT_ESCALATE_PARENT, .headed = true};
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "rest", &rest_for_one, w), 0);
	add_leaves(w, &w->inner[0], 0, 2, &always);
	/* Behind a, so before b. */
	assert_int_equal(davit_supervise_add_inner_behind(&w->inner[1], &w->leaf[0], "a's", &brood, w), 0);
	add_leaves(w, &w->inner[1], 2, 2, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +c +d +b");
	davit_supervise_stop(&w->leaf[3]);
	davit_supervise_ended(&w->leaf[2], DAVIT_CAUSE_CODE);
	/* The escalation of those above is not asked: that is for the head's end. */
	assert_string_equal(trace(w), "-d");
	assert_int_equal(w->inner[1].state, DAVIT_NODE_FAILED);
	assert_int_equal(w->inner[0].state, DAVIT_NODE_RUNNING);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-b");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+a +b");
	assert_int_equal(w->inner[1].state, DAVIT_NODE_FAILED);
	davit_supervise_relaunch(&w->inner[1]);
	assert_string_equal(trace(w), "+c");
	close_world(w);
}

static void a_services_instances_restart_by_the_strategy_above_the_service(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "rest", &rest_for_one, w), 0);
	assert_int_equal(davit_supervise_add_inner(&w->inner[1], &w->inner[0], "db", &service, w), 0);
	assert_int_equal(davit_supervise_add_inner(&w->inner[2], &w->inner[0], "web", &service, w), 0);
	add_leaves(w, &w->inner[1], 0, 1, &always);
	add_leaves(w, &w->inner[2], 1, 2, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c");
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-c -b");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+a +b +c");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-c");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+b +c");
	close_world(w);
}

static void retries_are_exact_and_then_it_has_failed(void **state)
{
	struct davit_restart_rule rule = always;
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	rule.retries = 3;
	rule.policy = DAVIT_RESTART_ON_FAILURE;
	add_leaves(w, &w->sup.root, 0, 1, &rule);
	davit_supervise_start(&w->leaf[0]);
	pass(w, 0);
	for (int i = 1; i <= 3; i++) {
		pass(w, 61 * SEC); /* healthy for long: the backoff starts over, the retries do not */
		davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
		assert_int_equal(w->leaf[0].restarts, i);
		assert_int_equal(w->leaf[0].attempt, 1);
		assert_int_equal(w->leaf[0].next_start, davit_loop_wall(w->loop) + 100 * MS);
		pass(w, 100 * MS);
	}
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	pass(w, 3600 * SEC);
	assert_string_equal(trace(w), "+a +a +a +a");
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_FAILED);
	assert_string_equal(w->leaf[0].rule_name, "retries");
	assert_int_equal(w->leaf[0].cause, DAVIT_CAUSE_CODE);
	davit_supervise_start(&w->leaf[0]);
	assert_string_equal(trace(w), "+a");
	assert_int_equal(w->leaf[0].restarts, 0);
	close_world(w);
}

static void too_many_restarts_fail_the_supervisor_up_to_the_roots_policy(void **state)
{
	struct davit_supervision_rule root = one_for_one, inner = one_for_all;
	struct world *w;

	(void)state;
	root.escalation = DAVIT_ESCALATE_RESTART;
	root.cooldown = 30 * SEC;
	inner.max_restarts = 2;
	inner.period = 60 * SEC;
	w = open_world(&root, (struct davit_start_budget){0});
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &inner, w), 0);
	add_leaves(w, &w->inner[0], 0, 2, &always);
	davit_supervise_start(&w->sup.root);
	for (int i = 0; i < 2; i++) {
		pass(w, SEC);
		davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
		pass(w, SEC);
	}
	assert_string_equal(trace(w), "+a +b -b +a +b -b +a +b");
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-b");
	assert_int_equal(w->inner[0].state, DAVIT_NODE_WAITING);
	assert_true(w->inner[0].failed);
	assert_string_equal(w->inner[0].rule_name, "intensity");
	assert_ptr_equal(w->inner[0].origin, &w->leaf[0]);
	assert_int_equal(w->inner[0].next_start, davit_loop_wall(w->loop) + 30 * SEC);
	pass(w, 30 * SEC);
	assert_string_equal(trace(w), "+a +b");
	assert_int_equal(w->leaf[0].restarts, 0);
	assert_false(w->inner[0].failed);
	close_world(w);
}

static void a_policy_decides_by_the_cause(void **state)
{
	static const struct {
		enum davit_restart_policy policy;
		bool clean, code;
	} rows[] = {
		{DAVIT_RESTART_NEVER, false, false},
		{DAVIT_RESTART_ON_FAILURE, false, true},
		{DAVIT_RESTART_ALWAYS, true, true},
		{DAVIT_RESTART_UNLESS_STOPPED, true, true},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(rows); i++)
		for (int c = DAVIT_CAUSE_CLEAN; c <= DAVIT_CAUSE_STOPPED; c++)
			assert_int_equal(davit_restart_wanted(rows[i].policy, (enum davit_cause)c),
					 c == DAVIT_CAUSE_STOPPED ? false
					 : c == DAVIT_CAUSE_CLEAN ? rows[i].clean
								  : rows[i].code);
	assert_string_equal(davit_cause_name(DAVIT_CAUSE_VANISHED), "vanished");
	assert_string_equal(davit_cause_name((enum davit_cause)99), "unknown");
	assert_string_equal(davit_node_state_name(DAVIT_NODE_COMPLETED), "completed");
}

static void a_backoff_grows_to_its_cap_and_jitter_only_shortens_it(void **state)
{
	struct davit_backoff b = {100 * MS, 30 * SEC, 2, 0.1, 60 * SEC};

	(void)state;
	assert_int_equal(davit_backoff_delay(&b, 0, 0), 100 * MS);
	assert_int_equal(davit_backoff_delay(&b, 3, 0), 800 * MS);
	assert_int_equal(davit_backoff_delay(&b, 9, 0), 30 * SEC);
	assert_int_equal(davit_backoff_delay(&b, INT64_MAX, 0), 30 * SEC);
	for (int64_t attempt = 0; attempt < 12; attempt++) {
		int64_t full = davit_backoff_delay(&b, attempt, 0);
		int64_t least = davit_backoff_delay(&b, attempt, 0.999999);
		assert_true(least < full && least >= full - full / 10);
	}
	b.jitter = 1;
	assert_true(davit_backoff_delay(&b, 0, 0.999999) < MS);
	b = (struct davit_backoff){INT64_MAX, INT64_MAX, 10, 0, 0};
	assert_int_equal(davit_backoff_delay(&b, 5, 0), INT64_MAX);
	b.factor = 0;
	b.initial = 7;
	assert_int_equal(davit_backoff_delay(&b, 5, 0), 7);
	b.initial = 0;
	assert_int_equal(davit_backoff_delay(&b, INT64_MAX, 0), 0);
}

static void the_backoff_starts_over_after_a_time_of_health(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});
	static const int64_t expect[] = {100, 200, 400, 800, 1000, 1000};
	struct davit_node *a = &w->leaf[0];

	(void)state;
	add_leaves(w, &w->sup.root, 0, 1, &always);
	davit_supervise_start(a);
	pass(w, 0);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(expect); i++) {
		pass(w, 59 * SEC);
		davit_supervise_ended(a, DAVIT_CAUSE_CLEAN);
		assert_int_equal(a->next_start - davit_loop_wall(w->loop), expect[i] * MS);
		pass(w, expect[i] * MS - 1);
		assert_int_equal(a->state, DAVIT_NODE_WAITING);
		pass(w, 1);
		assert_int_equal(a->state, DAVIT_NODE_RUNNING);
		assert_int_equal(a->next_start, 0);
	}
	pass(w, 60 * SEC);
	davit_supervise_ended(a, DAVIT_CAUSE_CODE);
	assert_int_equal(a->attempt, 1);
	assert_int_equal(a->restarts, 7);
	close_world(w);
}

static void a_users_stop_holds_in_every_state(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){.concurrent = 1});
	struct davit_node *a = &w->leaf[0], *b = &w->leaf[1];

	(void)state;
	add_leaves(w, &w->sup.root, 0, 2, &always);
	w->manual_run = w->manual_stop = true;
	davit_supervise_start(&w->sup.root);
	assert_string_equal(trace(w), "+a");
	davit_supervise_stop(b); /* waits for the budget */
	assert_int_equal(b->state, DAVIT_NODE_IDLE);
	davit_supervise_stop(a); /* starting */
	assert_string_equal(trace(w), "-a");
	davit_supervise_ended(a, DAVIT_CAUSE_CODE);
	assert_int_equal(a->state, DAVIT_NODE_IDLE);
	assert_int_equal(a->cause, DAVIT_CAUSE_STOPPED);
	davit_supervise_start(a);
	assert_string_equal(trace(w), "+a");
	davit_supervise_running(a);
	davit_supervise_ended(a, DAVIT_CAUSE_CODE);
	davit_supervise_stop(a); /* waits for its backoff */
	pass(w, 3600 * SEC);
	assert_string_equal(trace(w), "");
	davit_supervise_start(a);
	pass(w, 0);
	davit_supervise_running(a);
	davit_supervise_stop(a);  /* running */
	davit_supervise_start(a); /* and back again before it has ended */
	assert_string_equal(trace(w), "+a -a");
	davit_supervise_ended(a, DAVIT_CAUSE_STOPPED);
	assert_string_equal(trace(w), "+a");
	assert_int_equal(a->restarts, 0);
	close_world(w);
}

static void what_the_user_stopped_stays_so_when_its_group_restarts(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &one_for_all, w), 0);
	add_leaves(w, &w->inner[0], 0, 4, &always);
	davit_supervise_start(&w->inner[0]);
	davit_supervise_stop(&w->leaf[0]);
	trace(w);
	w->manual_stop = true;
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-d");
	davit_supervise_stop(&w->leaf[3]);  /* being stopped for the group */
	davit_supervise_stop(&w->leaf[2]);  /* next in order */
	davit_supervise_start(&w->leaf[0]); /* comes back with the group */
	assert_string_equal(trace(w), "-c");
	davit_supervise_ended(&w->leaf[2], DAVIT_CAUSE_STOPPED);
	davit_supervise_ended(&w->leaf[3], DAVIT_CAUSE_STOPPED);
	pass(w, SEC);
	assert_string_equal(trace(w), "+a +b");
	close_world(w);
}

static void a_restart_by_the_user_stops_in_reverse_and_counts_nothing(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	add_leaves(w, &w->sup.root, 0, 3, &always);
	davit_supervise_start(&w->sup.root);
	trace(w);
	davit_supervise_restart(&w->sup.root);
	assert_string_equal(trace(w), "-c -b -a +a +b +c");
	davit_supervise_restart(&w->leaf[1]);
	assert_string_equal(trace(w), "-b +b");
	assert_int_equal(w->leaf[1].restarts + w->leaf[1].total_restarts, 0);
	davit_supervise_stop(&w->sup.root);
	assert_string_equal(trace(w), "-c -b -a");
	assert_int_equal(w->sup.root.state, DAVIT_NODE_IDLE);
	close_world(w);
}

static void starts_keep_to_rate_burst_and_number_in_order(void **state)
{
	struct world *w = open_world(&one_for_one,
				     (struct davit_start_budget){.rate = 10, .burst = 3, .concurrent = 4});

	(void)state;
	add_leaves(w, &w->sup.root, 0, 8, &always);
	w->manual_run = true;
	davit_supervise_start(&w->sup.root);
	assert_string_equal(trace(w), "+a +b +c");
	pass(w, 99 * MS);
	assert_string_equal(trace(w), "");
	pass(w, 1 * MS);
	assert_string_equal(trace(w), "+d");
	pass(w, SEC); /* four are under way; the bucket fills up to three */
	assert_string_equal(trace(w), "");
	davit_supervise_running(&w->leaf[0]);
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_START);
	assert_string_equal(trace(w), "+e +f");
	davit_supervise_running(&w->leaf[2]);
	davit_supervise_running(&w->leaf[3]);
	assert_string_equal(trace(w), "+g");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+h");
	close_world(w);
}

static void a_held_start_gives_its_place_back(void **state)
{
	struct world *w =
		open_world(&one_for_one, (struct davit_start_budget){.rate = 1, .burst = 1, .concurrent = 1});

	(void)state;
	add_leaves(w, &w->sup.root, 0, 2, &always);
	w->held = "a";
	davit_supervise_start(&w->sup.root);
	assert_string_equal(trace(w), "?a +b");
	assert_int_equal(w->starts, 2);
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_WAITING);
	assert_string_equal(w->leaf[0].rule_name, "dependencies");
	davit_supervise_stop(&w->leaf[0]);
	davit_supervise_retry(&w->leaf[0]);
	pass(w, 10 * SEC);
	assert_int_equal(w->starts, 2);
	davit_supervise_start(&w->leaf[0]);
	w->held = NULL;
	assert_string_equal(trace(w), "+a");
	close_world(w);
}

static void ten_thousand_wait_their_turn(void **state)
{
	enum { N = 10000 };
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){.rate = 1000, .burst = 1});
	struct davit_node *many = calloc(N, sizeof *many);
	int64_t began = davit_loop_now(w->loop);

	(void)state;
	assert_non_null(many);
	for (int i = 0; i < N; i++)
		assert_int_equal(davit_supervise_add_leaf(&many[i], &w->sup.root, "x", &always, w), 0);
	davit_supervise_start(&w->sup.root);
	while (w->sup.root.n_active < N)
		assert_true(davit_loop_step(w->loop));
	assert_int_equal(davit_loop_now(w->loop) - began, (N - 1) * MS);
	davit_supervise_stop(&w->sup.root);
	while (w->sup.root.n_active)
		assert_true(davit_loop_step(w->loop));
	for (int i = 0; i < N; i++)
		davit_supervise_remove(&many[i]);
	free(many);
	close_world(w);
}

static void intensity_is_a_sliding_window(void **state)
{
	struct davit_supervision_rule rule = one_for_one;
	struct world *w;

	(void)state;
	rule.max_restarts = 10;
	rule.period = 60 * SEC;
	w = open_world(&rule, (struct davit_start_budget){0});
	add_leaves(w, &w->sup.root, 0, 1, &always);
	assert_null(w->sup.root.window); /* memory for restarts only */
	davit_supervise_start(&w->leaf[0]);
	for (int i = 0; i < 50; i++) { /* ten in any sixty seconds */
		pass(w, 6 * SEC);
		davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
		assert_int_equal(w->leaf[0].state, DAVIT_NODE_WAITING);
	}
	pass(w, 5 * SEC);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_FAILED);
	assert_string_equal(w->leaf[0].rule_name, "intensity");
	assert_int_equal(w->sup.root.state, DAVIT_NODE_FAILED); /* isolate is its final policy */
	close_world(w);
}

static void failures_escalate_level_by_level(void **state)
{
	struct davit_supervision_rule root = one_for_one, up = one_for_one;
	struct davit_restart_rule once = always;
	struct world *w;

	(void)state;
	root.escalation = DAVIT_ESCALATE_RESTART;
	root.cooldown = 5 * SEC;
	up.escalation = DAVIT_ESCALATE_PARENT;
	once.retries = 0;
	w = open_world(&root, (struct davit_start_budget){0});
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "outer", &up, w), 0);
	assert_int_equal(davit_supervise_add_inner(&w->inner[1], &w->inner[0], "inner", &up, w), 0);
	add_leaves(w, &w->inner[1], 0, 2, &once);
	add_leaves(w, &w->inner[0], 2, 1, &always);
	add_leaves(w, &w->sup.root, 3, 1, &always);
	davit_supervise_start(&w->sup.root);
	trace(w);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_WATCHDOG);
	assert_string_equal(trace(w), "-b -c");
	assert_string_equal(w->inner[0].rule_name, "escalation");
	assert_ptr_equal(w->inner[0].origin, &w->leaf[0]);
	assert_int_equal(w->inner[0].cause, DAVIT_CAUSE_WATCHDOG);
	assert_int_equal(w->inner[0].state, DAVIT_NODE_WAITING);
	assert_int_equal(w->inner[1].state, DAVIT_NODE_FAILED);
	davit_supervise_remove(&w->leaf[0]);
	assert_null(w->inner[0].origin);
	pass(w, 5 * SEC);
	assert_string_equal(trace(w), "+b +c");
	close_world(w);
}

static void a_significant_child_shuts_its_supervisor_down(void **state)
{
	struct davit_supervision_rule rule = one_for_all;
	struct davit_restart_rule job = always;
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	rule.auto_shutdown = true;
	job.policy = DAVIT_RESTART_ON_FAILURE;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "batch", &rule, w), 0);
	assert_int_equal(davit_supervise_add_inner(&w->inner[1], &w->inner[0], "job", &service, w), 0);
	w->inner[1].significant = true;
	add_leaves(w, &w->inner[1], 0, 2, &job);
	add_leaves(w, &w->inner[0], 2, 1, &always);
	davit_supervise_start(&w->inner[0]);
	trace(w);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CLEAN);
	assert_string_equal(trace(w), "");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CLEAN);
	assert_int_equal(w->inner[1].state, DAVIT_NODE_COMPLETED);
	assert_string_equal(trace(w), "-c");
	assert_int_equal(w->inner[0].state, DAVIT_NODE_COMPLETED);
	assert_string_equal(w->inner[0].rule_name, "auto-shutdown");
	assert_ptr_equal(w->inner[0].origin, &w->leaf[1]);
	close_world(w);
}

static void a_final_end_is_not_restarted_not_even_with_its_group(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &one_for_all, w), 0);
	add_leaves(w, &w->inner[0], 0, 2, &always);
	davit_supervise_start(&w->inner[0]);
	trace(w);
	davit_supervise_ended_final(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_FAILED);
	assert_string_equal(w->leaf[0].rule_name, "prevent");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	pass(w, SEC);
	assert_string_equal(trace(w), "+b");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_STOPPED); /* somebody else stopped it */
	assert_int_equal(w->leaf[1].state, DAVIT_NODE_IDLE);
	assert_false(w->leaf[1].wanted);
	close_world(w);
}

static void what_is_found_keeps_its_counters(void **state)
{
	struct davit_restart_rule twice = always;
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});
	struct davit_node *l = w->leaf;

	(void)state;
	twice.retries = 2;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "s", &service, w), 0);
	add_leaves(w, &w->inner[0], 0, 1, &twice);
	add_leaves(w, &w->sup.root, 1, 5, &twice);
	davit_supervise_restore(&l[0], DAVIT_NODE_COMPLETED, 0, 0, 0);
	assert_int_equal(w->inner[0].state, DAVIT_NODE_COMPLETED);
	davit_supervise_adopted(&l[1], 1);
	davit_supervise_restore(&l[2], DAVIT_NODE_RUNNING, 2, 7, 2);
	davit_supervise_restore(&l[3], DAVIT_NODE_WAITING, 1, 1, 2);
	davit_supervise_restore(&l[4], DAVIT_NODE_STOPPING, 0, 0, 0);
	davit_supervise_restore(&l[5], DAVIT_NODE_FAILED, 2, 2, 2);
	assert_string_equal(trace(w), "-e");
	assert_int_equal(l[4].state, DAVIT_NODE_IDLE);
	davit_supervise_ended(&l[2], DAVIT_CAUSE_VANISHED);
	assert_int_equal(l[2].state, DAVIT_NODE_FAILED);
	assert_int_equal(l[2].total_restarts, 7);
	davit_supervise_ended(&l[1], DAVIT_CAUSE_VANISHED);
	assert_int_equal(l[1].restarts, 2);
	pass(w, 200 * MS);
	assert_string_equal(trace(w), "+b +d");
	assert_int_equal(l[5].state, DAVIT_NODE_FAILED);
	davit_supervise_start(&l[0]);
	assert_string_equal(trace(w), "+a");
	assert_int_equal(w->inner[0].state, DAVIT_NODE_RUNNING);
	close_world(w);
}

static void rules_change_in_place_and_the_roots_are_checked(void **state)
{
	struct davit_supervision_rule rule = one_for_one;
	struct davit_restart_rule never = always;
	struct davit_supervise s;
	struct davit_error err;
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	add_leaves(w, &w->sup.root, 0, 2, &always);
	davit_supervise_start(&w->sup.root);
	trace(w);
	never.policy = DAVIT_RESTART_NEVER;
	davit_supervise_set_restart(&w->leaf[0], &never);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_SIGNAL);
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_FAILED);
	rule.max_restarts = 0;
	assert_int_equal(davit_supervise_set_rule(&w->sup.root, &rule), 0);
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_SIGNAL);
	assert_string_equal(w->leaf[1].rule_name, "intensity");
	rule.escalation = DAVIT_ESCALATE_PARENT;
	assert_int_equal(davit_supervise_set_rule(&w->sup.root, &rule), DAVIT_EINVAL);
	assert_int_equal(
		davit_supervise_init(&s, w->loop, &ops, &rule, &(struct davit_start_budget){0}, w, &err),
		DAVIT_EINVAL);
	assert_int_equal(
		davit_supervise_init(&s, w->loop, &ops, &service, &(struct davit_start_budget){0}, w, &err),
		DAVIT_EINVAL);
	close_world(w);
}

static void want_of_memory_refuses_nodes_but_loses_no_start(void **state)
{
	struct davit_supervision_rule rule = one_for_all;
	struct davit_supervise s;
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	rule.max_restarts = 3;
	rule.period = SEC;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &rule, w), 0);
	add_leaves(w, &w->inner[0], 0, 2, &always);
	davit_supervise_start(&w->sup.root);
	w->manual_run = true;
	while (w->sup.starting < 2) /* without a timer: the loop has no memory yet */
		assert_true(davit_loop_step(w->loop));
	fail_after = 1;
	assert_int_equal(davit_supervise_init(&s, w->loop, &ops, &one_for_one,
					      &(struct davit_start_budget){0}, w, NULL),
			 DAVIT_ENOMEM);
	assert_int_equal(davit_supervise_add_leaf(&w->leaf[2], &w->inner[0], "c", &always, w), DAVIT_ENOMEM);
	assert_int_equal(davit_supervise_add_inner(&w->inner[1], &w->inner[0], "d", &rule, w), DAVIT_ENOMEM);
	assert_int_equal(w->inner[0].n_children, 2);
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	while (davit_loop_step(w->loop))
		;
	assert_string_equal(w->trace, "+a +b -a +a +b");
	assert_null(w->inner[0].window);
	fail_after = 0;
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_group_restarts_in_reverse_and_in_order),
		cmocka_unit_test(rest_for_one_restarts_the_failed_child_and_those_after_it),
		cmocka_unit_test(children_in_order_are_stopped_one_after_another),
		cmocka_unit_test(another_failure_during_a_group_restart_is_merged),
		cmocka_unit_test(a_services_instances_restart_by_the_strategy_above_the_service),
		cmocka_unit_test(retries_are_exact_and_then_it_has_failed),
		cmocka_unit_test(too_many_restarts_fail_the_supervisor_up_to_the_roots_policy),
		cmocka_unit_test(a_policy_decides_by_the_cause),
		cmocka_unit_test(a_backoff_grows_to_its_cap_and_jitter_only_shortens_it),
		cmocka_unit_test(the_backoff_starts_over_after_a_time_of_health),
		cmocka_unit_test(a_users_stop_holds_in_every_state),
		cmocka_unit_test(what_the_user_stopped_stays_so_when_its_group_restarts),
		cmocka_unit_test(a_restart_by_the_user_stops_in_reverse_and_counts_nothing),
		cmocka_unit_test(starts_keep_to_rate_burst_and_number_in_order),
		cmocka_unit_test(a_held_start_gives_its_place_back),
		cmocka_unit_test(ten_thousand_wait_their_turn),
		cmocka_unit_test(intensity_is_a_sliding_window),
		cmocka_unit_test(failures_escalate_level_by_level),
		cmocka_unit_test(a_significant_child_shuts_its_supervisor_down),
		cmocka_unit_test(a_final_end_is_not_restarted_not_even_with_its_group),
		cmocka_unit_test(what_is_found_keeps_its_counters),
		cmocka_unit_test(a_brood_that_fails_stays_so_until_it_is_relaunched_with_its_head),
		cmocka_unit_test(rules_change_in_place_and_the_roots_are_checked),
		cmocka_unit_test(want_of_memory_refuses_nodes_but_loses_no_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
