/* SPDX-License-Identifier: MIT
 *
 * Containers without threads and on a clock of the test's: each semantic by itself.
 */
#include "actor/test_rig.h"
#include "actor/test_way.h"

/* --- the state machine --- */

static int quiet(struct davit_context *c, struct davit_message *m)
{
	return 0;
}

static const struct davit_definition plain = {.name = "Plain", .behaviour = quiet};

static int operate(struct world *w, enum davit_operation op)
{
	struct davit_promise p;

	switch (op) {
	case DAVIT_DO_CREATE:
		return make(w, "A", &plain, 0);
	case DAVIT_DO_START:
		davit_container_start(w->c, "A", &p);
		break;
	case DAVIT_DO_STOP:
		davit_container_stop(w->c, "A", &p);
		break;
	case DAVIT_DO_FAIL:
		davit_container_fail(w->c, "A", DAVIT_EIO, "told to", &p);
		break;
	default:
		davit_container_destroy(w->c, "A", DAVIT_DESTROY_FORCE_SOFT, &p);
		break;
	}
	return finish(w, p);
}

/* By its own remedy it stays failed, so that the table can be asked for it. */
static const struct davit_solver nothing[] = {{.solution = DAVIT_SOLVE_NOTHING}};
static const struct davit_remedy stay[] = {{0, nothing, 1}, {0}};

static void bring(struct world *w, enum davit_state s)
{
	static const struct davit_definition stays = {.name = "Plain", .behaviour = quiet, .remedies = stay};

	if (s == DAVIT_STATE_DESTROYED)
		return;
	assert_int_equal(make(w, "A", &stays, 0), 0);
	for (int i = 0; way_to[s][i]; i++)
		assert_int_equal(operate(w, way_to[s][i]), 0);
	assert_int_equal(state(w, "A"), s);
}

static void each_pair_of_state_and_operation_does_what_the_table_says(void **unused)
{
	for (int s = 0; s < DAVIT_STATE_COUNT; s++) {
		for (int op = 0; op < DAVIT_OPERATION_COUNT; op++) {
			struct davit_transition t = davit_state_transition(s, op);
			struct world *w = open_world();
			int r;
			bring(w, s);
			r = operate(w, op);
			/* To create what is there is idempotent, in whatever state. */
			if (op == DAVIT_DO_CREATE && s != DAVIT_STATE_DESTROYED) {
				assert_int_equal(r, 0);
				assert_int_equal(state(w, "A"), s);
			} else if (t.verdict == DAVIT_VERDICT_ERROR) {
				assert_int_equal(r, DAVIT_ESTATE);
				assert_int_equal(state(w, "A"), s);
			} else {
				assert_int_equal(r, 0);
				assert_int_equal(state(w, "A"), t.next);
			}
			close_world(w);
		}
	}
}

static int trace_hook(struct davit_context *c, enum davit_operation op, enum davit_phase phase)
{
	static const char *const phases[] = {"before", "on", "after"};

	note("%s:%s-%s", davit_alias(c), phases[phase], davit_operation_name(op));
	return 0;
}

static int trace_config(struct davit_context *c, struct davit_options *o)
{
	note("%s:config", davit_alias(c));
	return 0;
}

static int trace_boot(struct davit_context *c)
{
	note("%s:boot", davit_alias(c));
	return 0;
}

static int trace_construct(struct davit_context *c)
{
	note("%s:construct", davit_alias(c));
	return 0;
}

/* Fails at "die", else notes what it gets. */
static int talk(struct davit_context *c, struct davit_message *m)
{
	const char *text = m->size ? (const char *)m->data : "";

	if (!strcmp(text, "die"))
		return davit_fail(c, DAVIT_EIO, "told to die");
	note("%s<%s", davit_alias(c), text);
	return davit_reply(c, m, text, strlen(text));
}

static const struct davit_definition traced = {.name = "Traced",
					       .config = trace_config,
					       .boot = trace_boot,
					       .construct = trace_construct,
					       .behaviour = talk,
					       .hook = trace_hook};

static void hooks_run_before_on_and_after_each_transition(void **unused)
{
	struct world *w = open_world();

	assert_int_equal(make(w, "A", &traced, 0), 0);
	assert_string_equal(trace(),
			    "A:before-create A:config A:boot A:construct A:on-create A:after-create");
	operate(w, DAVIT_DO_START);
	assert_string_equal(trace(), "A:before-start A:on-start A:after-start");
	tell(w, "A", "die");
	assert_string_equal(trace(), "A:before-fail A:on-fail A:after-fail "
				     "A:before-start A:construct A:on-start A:after-start");
	operate(w, DAVIT_DO_DESTROY);
	assert_string_equal(trace(), "A:before-stop A:on-stop A:after-stop "
				     "A:before-destroy A:on-destroy A:after-destroy");
	close_world(w);
}

static void destroying_takes_the_deepest_and_last_first(void **unused)
{
	static const struct davit_definition d = {.name = "T", .behaviour = talk, .hook = trace_hook};
	struct world *w = open_world();

	make_under(w, NULL, "P", &d);
	make_under(w, "P", "A", &d);
	make_under(w, "A", "A1", &d);
	make_under(w, "P", "B", &d);
	trace();
	assert_int_equal(do_destroy(w, "P", DAVIT_DESTROY_FORCE_SOFT), 0);
	assert_string_equal(only(trace(), "on-destroy"),
			    "B:on-destroy A1:on-destroy A:on-destroy P:on-destroy");
	assert_false(davit_exists(w->c, "A1"));
	assert_false(davit_exists(w->c, "P"));
	close_world(w);
}

static void keep_refuses_to_destroy_what_runs(void **unused)
{
	struct world *w = open_world();

	make_under(w, NULL, "A", &plain);
	assert_int_equal(do_destroy(w, "A", DAVIT_DESTROY_KEEP), DAVIT_ESTATE);
	operate(w, DAVIT_DO_STOP);
	assert_int_equal(do_destroy(w, "A", DAVIT_DESTROY_KEEP), 0);
	close_world(w);
}

static void creation_is_idempotent_and_concurrent_callers_share_it(void **unused)
{
	struct davit_create what = {.alias = "A", .definition = &traced};
	struct davit_promise p[3];
	struct world *w = open_world();

	for (int i = 0; i < 3; i++)
		assert_int_equal(davit_container_create(w->c, &what, &p[i]), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(finish(w, p[i]), 0);
	assert_string_equal(only(trace(), "boot"), "A:boot");
	assert_int_equal(make(w, "A", &traced, 0), 0);
	assert_string_equal(trace(), "");
	close_world(w);
}

static void force_replaces_what_has_the_alias(void **unused)
{
	struct davit_container_info before, after;
	struct world *w = open_world();

	make_under(w, NULL, "A", &traced);
	davit_container_get(w->c, "A", &before);
	trace();
	assert_int_equal(make(w, "A", &traced, DAVIT_CREATE_FORCE_SOFT | DAVIT_CREATE_START), 0);
	davit_container_get(w->c, "A", &after);
	assert_false(davit_ref_equal(before.ref, after.ref));
	assert_string_equal(only(trace(), "on-"), "A:on-stop A:on-destroy A:on-create A:on-start");
	assert_int_equal(make(w, "A", &traced, DAVIT_CREATE_FORCE_HARD), 0);
	assert_string_equal(only(trace(), "on-"), "A:on-create");
	close_world(w);
}

static int bad_boot(struct davit_context *c)
{
	return davit_fail(c, DAVIT_ENOTSUP, "not on this machine");
}

static void a_creation_that_fails_leaves_nothing(void **unused)
{
	static const struct davit_definition d = {.name = "Bad", .behaviour = talk, .boot = bad_boot};
	struct davit_create what = {.alias = "A", .definition = &d, .flags = DAVIT_CREATE_START};
	struct davit_error err = {0};
	struct davit_promise p;
	struct world *w = open_world();

	davit_container_create(w->c, &what, &p);
	assert_int_equal(davit_await(w->c, p, 0, NULL, &err), DAVIT_ENOTSUP);
	assert_string_equal(err.message, "not on this machine");
	assert_false(davit_exists(w->c, "A"));
	assert_int_equal(make(w, "A", &plain, 0), 0);
	close_world(w);
}

static void a_process_container_is_refused_where_nothing_runs_it(void **unused)
{
	static const struct davit_definition d = {.name = "P", .behaviour = talk, .type = DAVIT_PROCESS};
	struct world *w = open_world();

	assert_int_equal(make(w, "A", &d, 0), DAVIT_ENOTSUP);
	close_world(w);
}

static void an_alias_is_text_that_can_stand_in_a_path(void **unused)
{
	struct world *w = open_world();
	char long_one[65] = "";
	const char *const none[] = {"", ".", "..", "a/b", "a:b", "a\nb", "\033[2J", "\177", long_one};

	memset(long_one, 'a', 64);
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		struct davit_create what = {.alias = none[i], .definition = &plain};
		struct davit_promise p;
		assert_int_equal(davit_container_create(w->c, &what, &p), DAVIT_EINVAL);
	}
	assert_int_equal(make(w, long_one + 1, &plain, 0), 0);
	assert_int_equal(make(w, "...", &plain, 0), 0);
	assert_int_equal(make(w, "größer als", &plain, 0), 0);
	close_world(w);
}

static void several_are_created_started_and_destroyed_at_once(void **unused)
{
	struct davit_create what[] = {{.alias = "A", .definition = &plain},
				      {.alias = "B", .definition = &plain},
				      {.alias = "C", .definition = &plain}};
	const char *const all[] = {"A", "B", "C"};
	struct davit_promise p;
	struct world *w = open_world();

	davit_containers_create(w->c, what, 3, &p);
	assert_int_equal(finish(w, p), 0);
	davit_containers_do(w->c, DAVIT_DO_START, all, 3, 0, &p);
	assert_int_equal(finish(w, p), 0);
	assert_int_equal(state(w, "C"), DAVIT_STATE_STARTED);
	davit_containers_do(w->c, DAVIT_DO_STOP, all, 2, 0, &p);
	assert_int_equal(finish(w, p), 0);
	assert_int_equal(state(w, "B"), DAVIT_STATE_STOPPED);
	davit_flush(w->c, DAVIT_DESTROY_FORCE, &p);
	assert_int_equal(finish(w, p), 0);
	assert_int_equal(davit_container_children(w->c, "Main", NULL, 0), 0);
	close_world(w);
}

/* --- messages --- */

static void addresses_are_an_alias_a_path_or_a_name(void **unused)
{
	struct davit_ref ref, b;
	struct world *w = open_world();

	make_under(w, NULL, "A", &plain);
	make_under(w, "A", "B", &traced);
	assert_int_equal(davit_find(w->c, "B", &ref), 0);
	assert_int_equal(davit_find(w->c, "Main/A/B", &ref), 0);
	assert_int_equal(davit_find(w->c, "name:Traced", &ref), 0);
	assert_int_equal(davit_find(w->c, "B", &b), 0);
	for (int i = 0; i < 20; i++) { /* the first that was made, however many there are */
		char alias[8];
		snprintf(alias, sizeof alias, "T%d", i);
		make_under(w, "A", alias, &traced);
		assert_int_equal(davit_find(w->c, "name:Traced", &ref), 0);
		assert_true(davit_ref_equal(ref, b));
	}
	assert_int_equal(davit_find(w->c, "Main/B", &ref), DAVIT_ENOENT);
	assert_int_equal(davit_find(w->c, "C", &ref), DAVIT_ENOENT);
	close_world(w);
}

static void messages_for_one_that_is_not_started_wait_or_are_dead(void **unused)
{
	static const struct davit_definition keeps = {.name = "K", .behaviour = talk};
	static const struct davit_definition drops = {
		.name = "D", .behaviour = talk, .options = {.keep_nothing = true}};
	struct davit_system_stats stats;
	struct world *w = open_world();

	make(w, "A", &keeps, 0);
	make(w, "B", &drops, 0);
	tell(w, "A", "one");
	tell(w, "B", "one");
	assert_string_equal(trace(), "");
	davit_container_start(w->c, "A", NULL);
	davit_container_start(w->c, "B", NULL);
	davit_system_run(w->system);
	assert_string_equal(trace(), "A<one");
	davit_system_stats(w->system, &stats);
	assert_int_equal(stats.dead_by[DAVIT_DEAD_STOPPED], 1);
	close_world(w);
}

static void messages_for_an_alias_to_come_can_be_kept(void **unused)
{
	struct davit_message *m;
	struct world *w = open_world();

	for (int i = 0; i < 2; i++) {
		m = davit_message_new(w->c, 1, 4);
		memcpy(m->data, i ? "two" : "one", 4);
		assert_int_equal(davit_send_to(w->c, "A", &m, DAVIT_BUFFER_AWAY), 0);
		assert_null(m);
	}
	m = davit_message_new(w->c, 1, 4);
	assert_int_equal(davit_send_to(w->c, "A", &m, DAVIT_BUFFER_NONE), DAVIT_ENOENT);
	assert_null(m);
	make_under(w, NULL, "A", &(struct davit_definition){.name = "T", .behaviour = talk});
	assert_string_equal(trace(), "A<one A<two");
	close_world(w);
}

static int second(struct davit_context *c, struct davit_message *m)
{
	note("%s2<%s", davit_alias(c), (char *)m->data);
	return strcmp((char *)m->data, "back") ? 0 : davit_unbecome(c);
}

static int first(struct davit_context *c, struct davit_message *m)
{
	return strcmp((char *)m->data, "become") ? talk(c, m) : davit_become(c, second);
}

static void a_restart_brings_the_initial_behaviour_back(void **unused)
{
	static const struct davit_definition d = {.name = "T", .behaviour = first};
	struct world *w = open_world();

	make_under(w, NULL, "A", &d);
	tell(w, "A", "become");
	tell(w, "A", "x");
	tell(w, "A", "back");
	tell(w, "A", "y");
	tell(w, "A", "become");
	davit_container_fail(w->c, "A", DAVIT_EIO, "x", NULL);
	tell(w, "A", "z");
	assert_string_equal(trace(), "A2<x A2<back A<y A<z");
	close_world(w);
}

static int bounded(struct world *w, enum davit_overflow policy, const char *want)
{
	static struct davit_definition d = {.name = "T", .behaviour = talk, .options = {.limit = 2}};
	struct davit_container_info info;
	struct davit_ref ref;
	int failed = 0;

	d.options.overflow = policy;
	make(w, "A", &d, 0);
	davit_find(w->c, "A", &ref);
	for (int i = 0; i < 4; i++)
		failed += davit_tell(w->c, ref, 1, &"a\0b\0c\0d"[i * 2], 2) != 0;
	davit_container_get(w->c, "A", &info);
	assert_int_equal(info.queued, 2);
	davit_container_start(w->c, "A", NULL);
	davit_system_run(w->system);
	assert_string_equal(trace(), want);
	davit_container_get(w->c, "A", &info);
	assert_int_equal(info.queued, 0);
	assert_int_equal(policy == DAVIT_OVERFLOW_FAIL ? info.refused : info.dropped, 2);
	return failed;
}

static void a_full_mailbox_does_what_its_policy_says(void **unused)
{
	struct world *w = open_world();

	assert_int_equal(bounded(w, DAVIT_OVERFLOW_FAIL, "A<a A<b"), 2);
	close_world(w);
	w = open_world();
	assert_int_equal(bounded(w, DAVIT_OVERFLOW_DROP_NEWEST, "A<a A<b"), 0);
	balance(w);
	close_world(w);
	w = open_world();
	assert_int_equal(bounded(w, DAVIT_OVERFLOW_DROP_OLDEST, "A<c A<d"), 0);
	balance(w);
	close_world(w);
}

static int run_add(struct davit_context *c, struct davit_message *m, const char *parameters)
{
	char text[16];

	snprintf(text, sizeof text, "%d", atoi(parameters) + 1);
	return davit_reply(c, m, text, strlen(text));
}

static void commands_go_by_their_name(void **unused)
{
	static const struct davit_command_entry table[] = {{"add", run_add}, {0}};
	static const struct davit_definition d = {.name = "T", .behaviour = talk, .commands = table};
	struct davit_outcome *o;
	struct davit_promise p;
	struct davit_ref ref;
	struct world *w = open_world();

	make_under(w, NULL, "A", &d);
	davit_find(w->c, "A", &ref);
	davit_command(w->c, ref, "add", "41", NULL, &p);
	assert_int_equal(davit_await(w->c, p, 0, &o, NULL), 0);
	assert_string_equal(o->data, "42");
	davit_outcome_free(o);
	davit_command(w->c, ref, "subtract", NULL, NULL, &p);
	assert_int_equal(davit_await(w->c, p, 0, NULL, NULL), DAVIT_ENOENT);
	close_world(w);
}

static void rules_allow_and_deny(void **unused)
{
	static const struct davit_rule rules[] = {{NULL, "A", "1", false}, {NULL, "[AB]", NULL, true}};
	static const struct davit_definition d = {.name = "T", .behaviour = talk};
	struct davit_ref a, b;
	struct world *w = open_world();

	make_under(w, NULL, "A", &d);
	make_under(w, NULL, "B", &d);
	davit_find(w->c, "A", &a);
	davit_find(w->c, "B", &b);
	assert_int_equal(davit_system_rules(w->system, rules, 2), 0);
	assert_int_equal(davit_tell(w->c, a, 1, "x", 2), 0);
	assert_int_equal(davit_tell(w->c, a, 2, "y", 2), DAVIT_EPERM);
	assert_int_equal(davit_tell(w->c, b, 1, "z", 2), DAVIT_EPERM);
	davit_system_rules(w->system, NULL, 0);
	assert_int_equal(davit_tell(w->c, b, 1, "z", 2), 0);
	davit_system_run(w->system);
	assert_string_equal(trace(), "A<x B<z");
	balance(w);
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_pair_of_state_and_operation_does_what_the_table_says),
		cmocka_unit_test(hooks_run_before_on_and_after_each_transition),
		cmocka_unit_test(destroying_takes_the_deepest_and_last_first),
		cmocka_unit_test(keep_refuses_to_destroy_what_runs),
		cmocka_unit_test(creation_is_idempotent_and_concurrent_callers_share_it),
		cmocka_unit_test(force_replaces_what_has_the_alias),
		cmocka_unit_test(a_creation_that_fails_leaves_nothing),
		cmocka_unit_test(a_process_container_is_refused_where_nothing_runs_it),
		cmocka_unit_test(an_alias_is_text_that_can_stand_in_a_path),
		cmocka_unit_test(several_are_created_started_and_destroyed_at_once),
		cmocka_unit_test(addresses_are_an_alias_a_path_or_a_name),
		cmocka_unit_test(messages_for_one_that_is_not_started_wait_or_are_dead),
		cmocka_unit_test(messages_for_an_alias_to_come_can_be_kept),
		cmocka_unit_test(a_restart_brings_the_initial_behaviour_back),
		cmocka_unit_test(a_full_mailbox_does_what_its_policy_says),
		cmocka_unit_test(commands_go_by_their_name),
		cmocka_unit_test(rules_allow_and_deny),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
