/* SPDX-License-Identifier: MIT */
#include "source/ignore.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void rules_mean_what_they_mean_to_docker(void **state)
{
	static const struct {
		const char *rules, *path;
		bool directory;
		enum davit_ignore_answer answer;
	} cases[] = {
		{"", "a", false, DAVIT_IGNORE_NO},
		{"a", "a", false, DAVIT_IGNORE_YES},
		{"a", "b/a", false, DAVIT_IGNORE_NO},
		{"a", "a/b/c", false, DAVIT_IGNORE_YES},
		{"/a/", "a", true, DAVIT_IGNORE_YES},
		{"./a//b", "a/b", false, DAVIT_IGNORE_YES},
		{"# a\n a \r\n", "a", false, DAVIT_IGNORE_YES},
		{"#a", "#a", false, DAVIT_IGNORE_NO},
		{"\xef\xbb\xbf"
		 "a",
		 "a", false, DAVIT_IGNORE_YES},
		{"*/temp*", "somedir/temporary.txt", false, DAVIT_IGNORE_YES},
		{"*/temp*", "a/b/temp", false, DAVIT_IGNORE_NO},
		{"*/*/temp*", "a/b/temp", false, DAVIT_IGNORE_YES},
		{"temp?", "tempa", true, DAVIT_IGNORE_YES},
		{"temp?", "temp", true, DAVIT_IGNORE_NO},
		{"**/*.go", "x.go", false, DAVIT_IGNORE_YES},
		{"**/*.go", "a/b/x.go", false, DAVIT_IGNORE_YES},
		{"a/**/z", "a/z", false, DAVIT_IGNORE_YES},
		{"a/**/z", "a/b/c/z/y", false, DAVIT_IGNORE_YES},
		{"a/**", "a", true, DAVIT_IGNORE_NO},
		{"a/**", "a/b", true, DAVIT_IGNORE_YES},
		{"*.md\n!README.md", "README.md", false, DAVIT_IGNORE_NO},
		{"*.md\n!README*.md\nREADME-secret.md", "README-secret.md", false, DAVIT_IGNORE_YES},
		{"*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false, DAVIT_IGNORE_NO},
		{"a\n!a/b", "a", true, DAVIT_IGNORE_UNLESS},
		{"a\n!a/b", "a/c", true, DAVIT_IGNORE_YES},
		{"a\n!a/b/c", "a/b", true, DAVIT_IGNORE_UNLESS},
		{"a\n!a/b", "a/b/c", false, DAVIT_IGNORE_NO},
		{"!a/b\na", "a", true, DAVIT_IGNORE_YES},
		{"*\n!**/*.c", "src", true, DAVIT_IGNORE_UNLESS},
		{"*\n!**/*.c", "src/a.h", false, DAVIT_IGNORE_YES},
		{"*\n!**/*.c", "src/deep/a.c", false, DAVIT_IGNORE_NO},
		{"..\n.\n/\n!", "a", false, DAVIT_IGNORE_NO},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		struct davit_ignore g = {0};
		assert_int_equal(davit_ignore_add_rules(&g, cases[i].rules, NULL), 0);
		if (davit_ignore_ask(&g, cases[i].path, cases[i].directory) != cases[i].answer)
			fail_msg("'%s' by '%s'", cases[i].path, cases[i].rules);
		davit_ignore_fini(&g);
	}
}

static void names_hold_at_any_depth_and_have_no_exception(void **state)
{
	char *names[] = {(char *)".git", (char *)"*.o", NULL};
	struct davit_ignore g = {0};

	assert_int_equal(davit_ignore_add_rules(&g, "!a/b.o", NULL), 0);
	g.names = names;
	assert_int_equal(davit_ignore_ask(&g, "a/b.o", false), DAVIT_IGNORE_YES);
	assert_int_equal(davit_ignore_ask(&g, "a/.git", true), DAVIT_IGNORE_YES);
	assert_int_equal(davit_ignore_ask(&g, "a/git", true), DAVIT_IGNORE_NO);
	g.names = NULL;
	davit_ignore_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_mean_what_they_mean_to_docker),
		cmocka_unit_test(names_hold_at_any_depth_and_have_no_exception),
	};
	return cmocka_run_group_tests_name("ignore", tests, NULL, NULL);
}
