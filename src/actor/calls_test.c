/* SPDX-License-Identifier: MIT
 *
 * Calls that containers make for themselves: alarms, blobs, their own state, and aliases that
 * only their program knows.
 */
#include "actor/test_rig.h"

enum { RING = 2, DATA }; /* a text of tell() is of type 1 */

static struct davit_alarm alarm_set;

/* "set" sets an alarm, "cancel" takes it back. */
static int sleeper(struct davit_context *c, struct davit_message *m)
{
	const char *text = m->size ? (const char *)m->data : "";

	if (m->type == RING)
		note("rang");
	else if (!strcmp(text, "set"))
		assert_int_equal(davit_after(c, 10 * MS, RING, &alarm_set), 0);
	else if (!strcmp(text, "cancel"))
		note("%s", davit_alarm_cancel(c, alarm_set) ? "cancelled" : "late");
	return 0;
}

static const struct davit_definition sleeps = {.name = "Sleeper", .behaviour = sleeper};

static void an_alarm_that_is_cancelled_sends_nothing(void **unused)
{
	struct world *w = open_world();

	make_under(w, NULL, "A", &sleeps);
	tell(w, "A", "set");
	pass(w, 9 * MS);
	assert_string_equal(trace(), "");
	tell(w, "A", "cancel");
	pass(w, 100 * MS);
	assert_string_equal(trace(), "cancelled");
	/* One that has gone off, and its successor in the same place. */
	tell(w, "A", "set");
	pass(w, 10 * MS);
	tell(w, "A", "cancel");
	assert_string_equal(trace(), "rang late");
	tell(w, "A", "set");
	tell(w, "A", "cancel");
	tell(w, "A", "cancel");
	pass(w, 100 * MS);
	assert_string_equal(trace(), "cancelled late");
	balance(w);
	close_world(w);
}

static const unsigned char *first_seen, *last_seen;

static int reader(struct davit_context *c, struct davit_message *m)
{
	const struct davit_blob *b = davit_message_blob(m);

	if (m->type != DATA)
		return 0;
	assert_non_null(b);
	first_seen = first_seen ? first_seen : b->data;
	last_seen = b->data;
	note("%s:%zu:%c", davit_alias(c), b->size, b->data[b->size - 1]);
	return 0;
}

static const struct davit_definition reads = {.name = "Reader", .behaviour = reader};

static void a_blob_is_shared_by_its_messages_and_goes_with_the_last(void **unused)
{
	struct world *w = open_world();
	struct davit_blob *b = davit_blob_new(1 << 20);
	struct davit_ref ref;

	assert_non_null(b);
	memset(b->data, 'x', b->size);
	first_seen = last_seen = NULL;
	make_under(w, NULL, "A", &reads);
	make_under(w, NULL, "B", &reads);
	for (int i = 0; i < 2; i++) {
		struct davit_message *m = davit_message_new_blob(w->c, DATA, b);
		assert_non_null(m);
		assert_int_equal(davit_find(w->c, i ? "B" : "A", &ref), 0);
		assert_int_equal(davit_send(w->c, ref, &m), 0);
	}
	davit_blob_unref(b); /* the messages hold it */
	pass(w, MS);
	assert_string_equal(trace(), "A:1048576:x B:1048576:x");
	assert_ptr_equal(first_seen, last_seen);
	/* A message of another kind has none. */
	tell(w, "A", "text");
	balance(w);
	close_world(w);
}

static int states_hook(struct davit_context *c, enum davit_operation op, enum davit_phase phase)
{
	static const char *const phases[] = {"before", "on", "after"};

	note("%s-%s:%s", phases[phase], davit_operation_name(op), davit_state_name(davit_container_state(c)));
	return 0;
}

static int states_behaviour(struct davit_context *c, struct davit_message *m)
{
	note("in:%s", davit_state_name(davit_container_state(c)));
	return 0;
}

static const struct davit_definition states = {
	.name = "States", .behaviour = states_behaviour, .hook = states_hook};

static void a_container_knows_its_own_state(void **unused)
{
	struct world *w = open_world();

	make_under(w, NULL, "A", &states);
	tell(w, "A", "x");
	assert_int_equal(do_destroy(w, "A", DAVIT_DESTROY_FORCE_SOFT), 0);
	assert_string_equal(only(trace(), "in:"), "in:started");
	/* Who is no container has none. */
	assert_int_equal(davit_container_state(w->c), DAVIT_STATE_DESTROYED);
	close_world(w);
}

static struct davit_ref known;

static int resolve(void *arg, const char *alias, struct davit_ref *ret)
{
	note("asked:%s", alias);
	if (strcmp(alias, arg) != 0)
		return DAVIT_ENOENT;
	*ret = known;
	return 0;
}

static void an_alias_that_is_unknown_is_asked_for_at_the_programs_resolver(void **unused)
{
	static char elsewhere[] = "elsewhere";
	struct world *w = open_world();
	struct davit_ref ref;

	make_under(w, NULL, "A", &sleeps);
	assert_int_equal(davit_find(w->c, "A", &known), 0);
	assert_int_equal(davit_find(w->c, "elsewhere", &ref), DAVIT_ENOENT);
	davit_system_resolver(w->system, resolve, elsewhere);
	assert_int_equal(davit_find(w->c, "elsewhere", &ref), 0);
	assert_int_equal(ref.slot, known.slot);
	assert_int_equal(davit_find(w->c, "nowhere", &ref), DAVIT_ENOENT);
	/* What is known here is not asked for. */
	assert_int_equal(davit_find(w->c, "A", &ref), 0);
	assert_string_equal(trace(), "asked:elsewhere asked:nowhere");
	davit_system_resolver(w->system, NULL, NULL);
	assert_int_equal(davit_find(w->c, "elsewhere", &ref), DAVIT_ENOENT);
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_alarm_that_is_cancelled_sends_nothing),
		cmocka_unit_test(a_blob_is_shared_by_its_messages_and_goes_with_the_last),
		cmocka_unit_test(a_container_knows_its_own_state),
		cmocka_unit_test(an_alias_that_is_unknown_is_asked_for_at_the_programs_resolver),
	};

	return cmocka_run_group_tests_name("calls", tests, NULL, NULL);
}
