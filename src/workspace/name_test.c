/* SPDX-License-Identifier: MIT */
#include "workspace/name.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define LETTERS_63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

static const struct {
	const char *wish, *name;
} names[] = {
	{"demo", "demo"},
	{"Demo", "demo"},			  /* lower case */
	{"MyProject2", "myproject2"},		  /* digits stay */
	{"my project", "my-project"},		  /* what is not allowed is a '-' */
	{"my   project", "my-project"},		  /* a run of it is one */
	{"a/b\\c:d", "a-b-c-d"},		  /* so no path and no reference comes of it */
	{"my.project_v1-rc", "my.project_v1-rc"}, /* these three are allowed */
	{"a--b", "a--b"},			  /* and are not merged */
	{"a -b", "a--b"},			  /* not even with what stands for a blank */
	{"  demo  ", "demo"},			  /* trimmed */
	{"-demo-", "demo"},			  /* of '-' that were there, too */
	{".hidden", "hidden"},			  /* a service's name begins with a letter or digit */
	{"__init__.", "init"},
	{"..", "workspace"}, /* no name that means another directory */
	{"", "workspace"},   /* nothing */
	{NULL, "workspace"},
	{"***", "workspace"}, /* nothing left */
	{"Größe", "gr-e"},    /* beyond ASCII */
	{"проект", "workspace"},
	{"a\nb\tc", "a-b-c"},		/* control characters */
	{"$(reboot)", "reboot"},	/* no shell would be tempted */
	{LETTERS_63 "lmn", LETTERS_63}, /* cut */
	{"---" LETTERS_63, LETTERS_63}, /* where what is trimmed takes no room */
};

static void a_name_is_made_of_any_wish(void **state)
{
	char name[DAVIT_WORKSPACE_NAME_MAX];

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++)
		assert_string_equal(davit_workspace_name(names[i].wish, name), names[i].name);
}

static void a_sanitised_name_stays_as_it_is(void **state)
{
	char once[DAVIT_WORKSPACE_NAME_MAX], twice[DAVIT_WORKSPACE_NAME_MAX];

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++) {
		davit_workspace_name(names[i].wish, once);
		assert_string_equal(davit_workspace_name(once, twice), once);
	}
}

static void a_directory_gives_the_name_of_its_last_part(void **state)
{
	static const struct {
		const char *path, *name;
	} paths[] = {{"/srv/My App", "my-app"},
		     {"/srv/My App//", "my-app"},
		     {"demo", "demo"},
		     {"/", "workspace"},
		     {"/srv/.git/", "git"}};
	char name[DAVIT_WORKSPACE_NAME_MAX];

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(paths); i++)
		assert_string_equal(davit_workspace_name_of_path(paths[i].path, name), paths[i].name);
}

static void duplicates_are_numbered_and_still_fit(void **state)
{
	char name[DAVIT_WORKSPACE_NAME_MAX];

	(void)state;
	assert_string_equal(davit_workspace_name_nth("demo", 1, name), "demo");
	assert_string_equal(davit_workspace_name_nth("demo", 2, name), "demo-2");
	assert_string_equal(davit_workspace_name_nth("demo-2", 2, name), "demo-2-2");
	davit_workspace_name_nth(LETTERS_63, 10, name);
	assert_int_equal(strlen(name), 63);
	assert_string_equal(name + 60, "-10");
	/* Cut where a '-' is, it does not get two. */
	davit_workspace_name_nth("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi-k", 2, name);
	assert_string_equal(name + 60, "i-2");
}

static void ids_are_64_hexadecimal_digits_and_differ(void **state)
{
	char a[DAVIT_WORKSPACE_ID_MAX], b[DAVIT_WORKSPACE_ID_MAX];

	(void)state;
	assert_int_equal(davit_workspace_id_new(a, NULL), 0);
	assert_int_equal(davit_workspace_id_new(b, NULL), 0);
	assert_int_equal(strlen(a), 64);
	assert_true(davit_workspace_is_prefix(a));
	assert_string_not_equal(a, b);
}

static void what_can_begin_an_id_is_lower_case_hexadecimal(void **state)
{
	(void)state;
	assert_true(davit_workspace_is_prefix("0"));
	assert_true(davit_workspace_is_prefix("cafe"));
	assert_false(davit_workspace_is_prefix(""));
	assert_false(davit_workspace_is_prefix("CAFE"));
	assert_false(davit_workspace_is_prefix("cafe-2"));
	assert_false(davit_workspace_is_prefix(LETTERS_63 "ab"));
}

/* --- finding --- */

static const char *const all[][2] = {
	{"aaaa0000", "demo"}, {"aaaa1111", "web"}, {"bbbb0000", "aaaa1"}, {"cccc0000", "aaaa"}};

/* The name of the one that is found, or the error's code as text. */
static const char *find(const char *wanted, struct davit_error *err)
{
	struct davit_workspace_search s = {.wanted = wanted};
	void *found = NULL;
	static char code[16];

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(all); i++)
		davit_workspace_search_offer(&s, all[i][0], all[i][1], (void *)(uintptr_t)all[i][1]);
	if (davit_workspace_search_end(&s, &found, err) == 0)
		return found;
	snprintf(code, sizeof code, "%s", davit_error_word(err->code));
	return code;
}

static void a_workspace_is_found_by_name_by_id_and_by_any_beginning_that_is_its_own(void **state)
{
	struct davit_error err;

	(void)state;
	assert_string_equal(find("demo", &err), "demo");
	assert_string_equal(find("aaaa0000", &err), "demo");
	assert_string_equal(find("aaaa0", &err), "demo");
	assert_string_equal(find("b", &err), "aaaa1");
}

static void an_id_beats_a_name_and_a_name_an_ambiguous_beginning(void **state)
{
	struct davit_error err;

	(void)state;
	assert_string_equal(find("aaaa1", &err), "web");
	assert_string_equal(find("aaaa", &err), "aaaa");
}

static void what_is_not_there_and_what_is_not_clear_are_told_apart(void **state)
{
	struct davit_error err;

	(void)state;
	assert_string_equal(find("nobody", &err), "not-found");
	assert_string_equal(err.message, "workspace 'nobody' not found");
	assert_string_equal(find("", &err), "not-found");
	assert_string_equal(find("aaa", &err), "invalid");
	assert_string_equal(err.message, "the ids of 2 workspaces begin with 'aaa': write more of it");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_made_of_any_wish),
		cmocka_unit_test(a_sanitised_name_stays_as_it_is),
		cmocka_unit_test(a_directory_gives_the_name_of_its_last_part),
		cmocka_unit_test(duplicates_are_numbered_and_still_fit),
		cmocka_unit_test(ids_are_64_hexadecimal_digits_and_differ),
		cmocka_unit_test(what_can_begin_an_id_is_lower_case_hexadecimal),
		cmocka_unit_test(a_workspace_is_found_by_name_by_id_and_by_any_beginning_that_is_its_own),
		cmocka_unit_test(an_id_beats_a_name_and_a_name_an_ambiguous_beginning),
		cmocka_unit_test(what_is_not_there_and_what_is_not_clear_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
