/* SPDX-License-Identifier: MIT */
#include "source/cell.h"
#include "source/test_tree.h"
#include "source/vars.h"

#include "base/file.h"
#include "base/strv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static unsigned broken;
static char broken_why[512];

static int set_up(void **state)
{
	(void)state;
	broken = 0;
	return test_tree_open() < 0;
}

static void on_broken(const char *name, const struct davit_error *why)
{
	(void)name;
	broken++;
	snprintf(broken_why, sizeof broken_why, "%s", why->message);
}

static void a_cell_is_read_whole(void **state)
{
	struct davit_cell *c;
	struct davit_error err;

	(void)state;
	test_put(
		"x.yaml",
		"name: x\ndescription: d\ndetect: [a, 'elf:*']\npriority: 7\n"
		"dependencies:\n  p: q\n  r: {package: s, when: t}\nversions: [[p, --version]]\nignore: [i]\n"
		"build:\n  - [p, \"${OUT}\"]\n  - {run: [r], when: t, unless: u}\nbuildEnv: {B: b=c}\n"
		"program: ['elf:*']\nrun: [\"${PROGRAM}\"]\ndirectory: ${OUT}\nenv: {E: e}\nport: "
		"PORT\nimage: "
		"i:1\n",
		0644);
	if (davit_cell_read(test_at("x.yaml"), &c, &err) < 0)
		fail_msg("%s", err.message);
	assert_string_equal(c->name, "x");
	assert_int_equal(c->priority, 7);
	assert_string_equal(c->detect[1], "elf:*");
	assert_int_equal(c->n_dependencies, 2);
	assert_string_equal(c->dependencies[0].package, "q");
	assert_string_equal(c->dependencies[1].when, "t");
	assert_int_equal(c->n_build, 2);
	assert_string_equal(c->build[0].argv[1], "${OUT}");
	assert_string_equal(c->build[1].unless, "u");
	assert_string_equal(c->build_env[0], "B=b=c");
	assert_string_equal(c->env[0], "E=e");
	assert_string_equal(c->cwd, "${OUT}");
	assert_string_equal(c->port, "PORT");
	assert_false(c->uses_name);
	davit_cell_free(c);
}

static void a_wrong_cell_is_refused_with_its_place(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"", ":1:1: the file is empty"},
		{"- a\n", ":1:3: a cell is a map of keys"},
		{"detect: [a]\nrun: [a]\n", ":1:1: the key 'name' is missing"},
		{"name: y\nrun: [a]\n", ":1:1: the name 'y' is not that of the file, 'x'"},
		{"name: x\n", ":1:1: a cell needs 'run', a 'build' that says what to run, or a 'dockerfile'"},
		{"name: x\ndockerfile: [D]\nrun: [a]\n",
		 ":1:1: a cell with 'dockerfile' makes an image: it has no 'build', 'buildEnv', 'program', "
		 "'run', 'directory' or 'image'"},
		{"name: x\nruns: [a]\n", ":2:1: unknown key 'runs'; did you mean 'run'?"},
		{"name: x\nxyzzy: 1\n", ":2:1: unknown key 'xyzzy'"},
		{"name: x\nrun: a\n", ":2:6: a list of texts is expected here"},
		{"name: x\nrun: []\n", ":2:6: a list of texts is expected here"},
		{"name: x\nrun: [[a]]\n", ":2:7: a text is expected here"},
		{"name: x\nrun: [\"${OUTT}\"]\n", ":2:7: there is no variable ${OUTT}"},
		{"name: x\nrun: [a]\ndetect: ['fil:a']\n",
		 ":3:10: 'fil:a': only elf:, script:, executable: and only: can be before a pattern"},
		{"name: x\nrun: [a]\npriority: high\n", ":3:11: 'high' is not a priority: 0 to 1000"},
		{"name: x\nbuild: [make]\n", ":2:9: a list of texts is expected here"},
		{"name: x\nbuild: [{when: a}]\n", ":2:9: a step needs the key 'run'"},
		{"name: x\nbuild: [{run: [a], wen: a}]\n", ":2:20: unknown key 'wen'; did you mean 'when'?"},
		{"name: x\nrun: [a]\nenv: [a]\n", ":3:6: a map of names to values is expected here"},
		{"name: x\nrun: [a]\nenv: {'a=b': c}\n", ":3:14: 'a=b' is not the name of a variable"},
		{"name: x\nrun: [a]\ndependencies: {p: {when: a}}\n",
		 ":3:19: the dependency 'p' names no package"},
		{"name: x\nname: x\n", ":2:1: the key 'name' is given twice, first in line 1"},
		{"name: x\nrun: [a]\n---\nname: x\n", ":4:1: one file holds one cell"},
	};
	char expected[512];

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		struct davit_cell *c = NULL;
		struct davit_error err;
		test_put("x.yaml", bad[i].text, 0644);
		if (davit_cell_read(test_at("x.yaml"), &c, &err) == 0)
			fail_msg("accepted: %s", bad[i].text);
		assert_null(c);
		snprintf(expected, sizeof expected, "%s%s", test_at("x.yaml"), bad[i].message);
		assert_string_equal(err.message, expected);
	}
}

/* The cell and the pattern are where the test looks. */
static const struct davit_cell *c;
static const char *found;

static int detect(const struct davit_cells *cells, const char *tree, const char *type, const char *no_images,
		  struct davit_error *err)
{
	const struct davit_cell_wish wish = {
		.root = test_at(tree), .type = type, .name = "s", .no_images = no_images};

	return davit_cells_detect(cells, &wish, &c, &found, err);
}

static void a_user_s_cell_wins_by_name_and_a_broken_one_stops_nobody(void **state)
{
	struct davit_cells cells = {0};
	struct davit_error err;

	(void)state;
	test_put("user/a.yaml", "name: a\ndetect: [f]\nrun: [mine]\n", 0644);
	test_put("user/b.yaml", "nam: b\n", 0644);
	test_put("user/notes.txt", "not a cell", 0644);
	test_put("share/a.yaml", "name: a\ndetect: [f]\nrun: [theirs]\n", 0644);
	test_put("share/b.yaml", "name: b\ndetect: [f]\npriority: 900\nrun: [b]\n", 0644);
	test_put("tree/f", "", 0644);
	assert_int_equal(davit_cells_load(&cells, test_at("user"), on_broken, NULL), 0);
	assert_int_equal(davit_cells_load(&cells, test_at("share"), on_broken, NULL), 0);
	assert_int_equal(davit_cells_load(&cells, test_at("nowhere"), on_broken, NULL), 0);
	assert_int_equal(broken, 1);
	assert_non_null(strstr(broken_why, "user/b.yaml:1:1: unknown key 'nam'; did you mean 'name'?"));
	assert_int_equal(cells.n, 2);
	assert_int_equal(detect(&cells, "tree", NULL, NULL, NULL), 0);
	assert_string_equal(c->run[0], "mine");
	assert_string_equal(found, "f");
	assert_int_equal(detect(&cells, "tree", "b", NULL, &err), DAVIT_ESOURCE);
	assert_non_null(strstr(err.message, "unknown key 'nam'"));
	davit_cells_fini(&cells);
}

static void detection_takes_the_highest_priority_and_refuses_a_tie(void **state)
{
	struct davit_cells cells = {0};
	struct davit_error err;

	(void)state;
	test_put("cells/low.yaml", "name: low\ndetect: [f]\npriority: 1\nrun: [a]\n", 0644);
	test_put("cells/high.yaml", "name: high\ndetect: [x, g]\npriority: 9\nrun: [a]\n", 0644);
	test_put("cells/same.yaml", "name: same\ndetect: [h]\npriority: 9\nrun: [a]\n", 0644);
	test_put("tree/f", "", 0644);
	assert_int_equal(davit_cells_load(&cells, test_at("cells"), on_broken, NULL), 0);
	assert_int_equal(detect(&cells, "tree", NULL, NULL, NULL), 0);
	assert_string_equal(c->name, "low");
	test_put("tree/g", "", 0644);
	assert_int_equal(detect(&cells, "tree", NULL, NULL, NULL), 0);
	assert_string_equal(c->name, "high");
	test_put("tree/h", "", 0644);
	assert_int_equal(detect(&cells, "tree", NULL, NULL, &err), DAVIT_ESOURCE);
	assert_string_equal(
		err.message,
		"both cell 'high' and cell 'same' (h) recognise the source: name one with --type");
	assert_int_equal(detect(&cells, "tree", "same", NULL, NULL), 0);
	assert_string_equal(c->name, "same");
	assert_int_equal(detect(&cells, "tree", "hihg", NULL, &err), DAVIT_ESOURCE);
	assert_string_equal(err.message,
			    "there is no cell 'hihg', did you mean 'high'?; there are: high, low, same");
	test_put("empty/z", "", 0644);
	assert_int_equal(detect(&cells, "empty", NULL, NULL, &err), DAVIT_ESOURCE);
	assert_string_equal(err.message,
			    "no cell recognises the source; there are: high (x), low (f), same (h). "
			    "Name one with --type");
	davit_cells_fini(&cells);
}

static void a_cell_that_makes_images_counts_where_images_are_built(void **state)
{
	static const char why[] = "runtime r does not support image-build: so it is";
	struct davit_cells cells = {0};
	struct davit_error err;

	(void)state;
	test_put("cells/dockerfile.yaml",
		 "name: dockerfile\ndetect: [Dockerfile]\npriority: 9\ndockerfile: [Dockerfile]\n", 0644);
	test_put("cells/go.yaml", "name: go\ndetect: [go.mod]\nrun: [a]\npriority: 1\n", 0644);
	test_put("tree/Dockerfile", "", 0644);
	assert_int_equal(davit_cells_load(&cells, test_at("cells"), on_broken, NULL), 0);
	assert_int_equal(detect(&cells, "tree", NULL, NULL, NULL), 0);
	assert_string_equal(c->name, "dockerfile");
	assert_int_equal(detect(&cells, "tree", NULL, why, &err), DAVIT_ENOTSUP);
	assert_string_equal(err.message, "the source has a Dockerfile and nothing else that can be built: "
					 "runtime r does not support image-build: so it is");
	assert_int_equal(detect(&cells, "tree", "dockerfile", why, &err), DAVIT_ENOTSUP);
	test_put("tree/go.mod", "", 0644);
	assert_int_equal(detect(&cells, "tree", NULL, NULL, NULL), 0);
	assert_string_equal(c->name, "dockerfile");
	assert_int_equal(detect(&cells, "tree", NULL, why, NULL), 0);
	assert_string_equal(c->name, "go");
	davit_cells_fini(&cells);
}

static void variables_are_replaced_and_other_dollars_are_left(void **state)
{
	const struct davit_vars vars = {.source = "/s", .name = "n"};
	DAVIT_AUTO_FREE char *a = davit_vars_expand(&vars, "${SOURCE}/${NAME}.$x $ ${OUT}|$$");
	DAVIT_AUTO_FREE char *b = davit_vars_expand(&vars, "");

	(void)state;
	assert_string_equal(a, "/s/n.$x $ |$$");
	assert_string_equal(b, "");
}

static bool matches(const struct davit_vars *vars, const char *pattern)
{
	int r = davit_pattern_matches(vars, pattern, NULL);

	assert_true(r >= 0);
	return r;
}

static void patterns_see_kinds_of_files_and_quote_values(void **state)
{
	struct davit_vars vars = {.name = "n*"};

	(void)state;
	test_put("t[1]/s.sh", "#!/bin/sh\n", 0755);
	test_put("t[1]/plain.sh", "echo\n", 0644);
	test_put("t[1]/nx", "", 0644);
	test_put("alone/a.js", "", 0644);
	vars.source = test_at("t[1]");
	assert_true(matches(&vars, "*.sh"));
	assert_true(matches(&vars, "script:*.sh"));
	assert_true(matches(&vars, "script:{x,s}.sh"));
	assert_true(matches(&vars, "executable:*"));
	assert_false(matches(&vars, "script:plain.sh"));
	assert_false(matches(&vars, "elf:*"));
	assert_false(matches(&vars, "only:*.sh"));
	assert_false(matches(&vars, "${SOURCE}/${NAME}"));
	vars.source = test_at("alone");
	assert_true(matches(&vars, "only:*.js"));
	vars.out = "/proc/self";
	assert_true(matches(&vars, "elf:${OUT}/exe"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, test_tree_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_cell_is_read_whole),
		TEST(a_wrong_cell_is_refused_with_its_place),
		TEST(a_user_s_cell_wins_by_name_and_a_broken_one_stops_nobody),
		TEST(detection_takes_the_highest_priority_and_refuses_a_tie),
		TEST(a_cell_that_makes_images_counts_where_images_are_built),
		TEST(variables_are_replaced_and_other_dollars_are_left),
		TEST(patterns_see_kinds_of_files_and_quote_values),
	};
	return cmocka_run_group_tests_name("cell", tests, NULL, NULL);
}
