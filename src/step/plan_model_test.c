/* SPDX-License-Identifier: MIT
 *
 * The truth table of plans: generated plans against the oracle of test_plan_oracle.c, which compares the
 * outcome, the time of the end, and which leaves were started and when. Each case is run as it is and with
 * one of three ways of dying and going on, after every single event.
 *
 *  - single: each construct, with each of the four outcomes in each position, and with the user's abort
 * (once, twice) while each of its leaves runs;
 *  - pairs: each construct in each position of each construct, leaves by chance;
 *  - deep: random trees.
 *
 * DAVIT_SEED=n runs one random tree alone and shows it.
 */
#include "step/test_plan.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define LEAF "{\"kind\":\"task\",\"name\":\"leaf\",\"spec\":{\"is\":#}}"
#define ANY "{\"kind\":\"task\",\"name\":\"leaf\"}"
#define STEPS "\"steps\":[$,$,$]"
#define ACROSS "\"var\":\"x\",\"values\":[1,2,3],\"step\":$"

/* '$' stands for a step. */
static const char *const constructs[] = {
	"{\"kind\":\"do\"," STEPS "}",
	"{\"kind\":\"in_parallel\"," STEPS "}",
	"{\"kind\":\"in_parallel\"," STEPS ",\"limit\":1}",
	"{\"kind\":\"in_parallel\"," STEPS ",\"limit\":2}",
	"{\"kind\":\"in_parallel\"," STEPS ",\"fail_fast\":true}",
	"{\"kind\":\"in_parallel\"," STEPS ",\"limit\":1,\"fail_fast\":true}",
	"{\"kind\":\"in_parallel\"," STEPS ",\"limit\":2,\"fail_fast\":true}",
	"{\"kind\":\"across\"," ACROSS "}",
	"{\"kind\":\"across\"," ACROSS ",\"fail_fast\":true}",
	"{\"kind\":\"across\"," ACROSS ",\"max_in_flight\":2}",
	"{\"kind\":\"across\"," ACROSS ",\"max_in_flight\":0,\"fail_fast\":true}",
	"{\"kind\":\"try\",\"step\":$}",
	"{\"kind\":\"timeout\",\"after\":\"400ms\",\"step\":$}",
	"{\"kind\":\"timeout\",\"after\":\"2s\",\"step\":$}",
	"{\"kind\":\"attempts\",\"attempts\":2,\"step\":$}",
	"{\"kind\":\"attempts\",\"attempts\":3,\"step\":$}",
	"{\"kind\":\"on_success\",\"step\":$,\"hook\":$}",
	"{\"kind\":\"on_failure\",\"step\":$,\"hook\":$}",
	"{\"kind\":\"on_error\",\"step\":$,\"hook\":$}",
	"{\"kind\":\"on_abort\",\"step\":$,\"hook\":$}",
	"{\"kind\":\"ensure\",\"step\":$,\"hook\":$}",
	"{\"kind\":\"do\",\"steps\":[]}",
	"{\"kind\":\"in_parallel\",\"steps\":[]}",
};

/* With '#' for an outcome: constructs whose leaf is run several times. */
static const char *const repeated[] = {
	"{\"kind\":\"attempts\",\"attempts\":3,\"step\":{\"kind\":\"task\",\"name\":\"leaf\",\"spec\":{"
	"\"is\":[#,#,#]}}}",
#define ACROSS_EACH                                                                                          \
	"{\"kind\":\"across\",\"var\":\"x\",\"values\":[#,#,#],\"step\":{\"kind\":\"task\",\"name\":"        \
	"\"leaf\","                                                                                          \
	"\"spec\":{\"is\":\"((.:x))\"}}"
	ACROSS_EACH "}",
	ACROSS_EACH ",\"fail_fast\":true}",
	ACROSS_EACH ",\"max_in_flight\":2}",
	ACROSS_EACH ",\"max_in_flight\":0,\"fail_fast\":true}",
};

static struct {
	size_t cases, runs, starts;
} counted;

static void show(const struct test_case *c, const struct test_result *r, const char *who)
{
	print_message("%s: %s at %lld%s%s\n", who, davit_plan_outcome_name(r->outcome), (long long)r->end,
		      *r->wrong ? ", " : "", r->wrong);
	for (size_t i = 0; i < r->n_starts; i++)
		print_message("  %s began at %lld\n", r->starts[i].key, (long long)r->starts[i].at);
	(void)c;
}

static bool equal(const struct test_result *a, const struct test_result *b)
{
	if (a->outcome != b->outcome || a->end != b->end || a->n_starts != b->n_starts || *a->wrong)
		return false;
	for (size_t i = 0; i < a->n_starts; i++)
		if (strcmp(a->starts[i].key, b->starts[i].key) != 0 || a->starts[i].at != b->starts[i].at)
			return false;
	return true;
}

static void check_case(struct test_case c)
{
	static struct test_result want, got;

	test_oracle(&c, &want);
	counted.cases++;
	for (int crash = 0; crash < CRASH_MODES; crash++) {
		/* One way of dying a case, in turn. */
		if (crash && (int)(counted.cases % 3) + 1 != crash)
			continue;
		c.crash = (enum test_crash)crash;
		test_run(&c, &got);
		counted.runs++;
		counted.starts += got.n_starts;
		if (equal(&got, &want))
			continue;
		char *text = json_dumps(c.plan, 0);
		print_message("%s\nseed %llu, abort %lld, force %lld, crash %d\n", text,
			      (unsigned long long)c.seed, (long long)c.abort, (long long)c.force, crash);
		free(text);
		show(&c, &got, "engine");
		show(&c, &want, "oracle");
		fail();
	}
}

/* The case without an abort, with one while each leaf runs, and with a forced one: at once, and later. */
static void check_aborts(const json_t *plan, uint64_t seed)
{
	struct test_case c = {.plan = plan, .seed = seed, .abort = NEVER, .force = NEVER};
	static struct test_result calm;

	check_case(c);
	test_oracle(&c, &calm);
	for (size_t i = 0; i < calm.n_starts; i++) {
		uint64_t chance = test_hash(seed, calm.starts[i].key);
		int64_t at = calm.starts[i].at + 1 + (int64_t)(chance % 200000000);
		c.abort = at;
		c.force = NEVER;
		check_case(c);
		c.force = chance & 1 ? at : at + 1 + (int64_t)(chance % 700000001);
		c.abort = chance & 1 ? NEVER : at;
		check_case(c);
	}
}

/* Text with each c replaced by what next() gives. */
static char *replaced(const char *text, char c, const char *(*next)(void *), void *from)
{
	struct davit_buf out = DAVIT_BUF_INIT;

	for (; *text; text++)
		if (*text == c)
			davit_buf_adds(&out, next(from));
		else
			davit_buf_addc(&out, *text);
	return davit_buf_take(&out);
}

static size_t count(const char *text, char c)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == c;
	return n;
}

static const char *always(void *text)
{
	return text;
}

static const char *digit(void *from)
{
	static const char *const words[] = {"\"succeeded\"", "\"failed\"", "\"errored\"", "\"aborted\""};
	unsigned *n = from, d = *n % 4;

	*n /= 4;
	return words[d];
}

static json_t *parse(const char *text)
{
	json_error_t at;
	json_t *j = json_loads(text, 0, &at);

	if (!j)
		fail_msg("%s: %s", at.text, text);
	return j;
}

/* Each outcome in each of the places marked '#'. */
static void check_outcomes(const char *text)
{
	unsigned all = 1u << (2 * count(text, '#'));

	for (unsigned i = 0; i < all; i++) {
		unsigned digits = i;
		char *one = replaced(text, '#', digit, &digits);
		json_t *plan = parse(one);
		check_aborts(plan, i + 1);
		json_decref(plan);
		free(one);
	}
}

static void each_construct_with_each_outcome_and_an_abort_in_each_position(void **state)
{
	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(constructs); i++) {
		char *text = replaced(constructs[i], '$', always, (char *)LEAF);
		check_outcomes(text);
		free(text);
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(repeated); i++)
		check_outcomes(repeated[i]);
}

struct slot {
	size_t index, wanted;
	const char *inner;
};

static const char *in_slot(void *from)
{
	struct slot *s = from;

	return s->index++ == s->wanted ? s->inner : ANY;
}

static void each_construct_in_each_position_of_each_construct(void **state)
{
	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(constructs); i++)
		for (size_t k = 0; k < DAVIT_ARRAY_SIZE(constructs); k++)
			for (size_t at = 0; at < count(constructs[i], '$'); at++) {
				char *inner = replaced(constructs[k], '$', always, (char *)ANY);
				struct slot slot = {.wanted = at, .inner = inner};
				char *text = replaced(constructs[i], '$', in_slot, &slot);
				json_t *plan = parse(text);
				check_aborts(plan, i * 1000 + k * 10 + at);
				json_decref(plan);
				free(text);
				free(inner);
			}
}

/* ---------------------------------------------------------------------------- deep */

struct growth {
	uint64_t random;
	int depth;
	size_t leaves;
};

static char *grow(struct growth *g)
{
	uint64_t chance = g->random = test_hash(g->random, "grow");
	struct davit_buf out = DAVIT_BUF_INIT;
	const char *text;

	if (g->depth == 0 || chance % 4 == 0 || g->leaves > 12) {
		g->leaves++;
		return strdup(ANY);
	}
	g->depth--;
	text = constructs[(chance >> 8) % DAVIT_ARRAY_SIZE(constructs)];
	for (; *text; text++)
		if (*text == '$') {
			char *inner = grow(g);
			davit_buf_adds(&out, inner);
			free(inner);
		} else {
			davit_buf_addc(&out, *text);
		}
	g->depth++;
	return davit_buf_take(&out);
}

static void check_seed(uint64_t seed, bool loud)
{
	struct growth g = {.random = seed, .depth = 3};
	char *text = grow(&g);
	json_t *plan = parse(text);
	struct test_case c = {.plan = plan, .seed = seed, .abort = NEVER, .force = NEVER};

	if (seed % 3 != 0)
		c.abort = 2 + (int64_t)(test_hash(seed, "abort") % 5000000000u);
	if (seed % 5 == 0)
		c.force = 2 + (int64_t)(test_hash(seed, "force") % 5000000000u);
	if (loud)
		print_message("%s\n", text);
	check_case(c);
	json_decref(plan);
	free(text);
}

static void random_trees(void **state)
{
	const char *seed = getenv("DAVIT_SEED");

	(void)state;
	if (seed)
		check_seed(strtoull(seed, NULL, 10), true);
	for (uint64_t i = 1; !seed && i <= 2000; i++)
		check_seed(i, false);
	print_message("%zu cases, %zu runs, %zu leaves started\n", counted.cases, counted.runs,
		      counted.starts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_construct_with_each_outcome_and_an_abort_in_each_position),
		cmocka_unit_test(each_construct_in_each_position_of_each_construct),
		cmocka_unit_test(random_trees),
	};

	return cmocka_run_group_tests_name("plan-model", tests, NULL, NULL);
}
