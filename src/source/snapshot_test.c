/* SPDX-License-Identifier: MIT */
#include "source/snapshot.h"
#include "source/test_tree.h"

#include "base/file.h"
#include "base/util.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <sodium.h>

static int set_up(void **state)
{
	(void)state;
	return sodium_init() < 0 || test_tree_open() < 0;
}

static void hash(const char *name, char ret[DAVIT_HASH_MAX])
{
	struct davit_snapshot s;
	char *names[] = {(char *)".git", (char *)"*.o", NULL};
	const struct davit_ignore ignore = {.names = names};

	assert_int_equal(davit_snapshot_take(test_at(name), NULL, &ignore, 1 << 20, &s, NULL), 0);
	strcpy(ret, s.hash);
}

static void make_tree(const char *name)
{
	char path[64];

	snprintf(path, sizeof path, "%s/a/b", name);
	test_put(path, "text", 0644);
	snprintf(path, sizeof path, "%s/run.sh", name);
	test_put(path, "#!/bin/sh\n", 0755);
	snprintf(path, sizeof path, "%s/link", name);
	assert_int_equal(symlink("a/b", test_at(path)), 0);
}

static void equal_trees_have_equal_hashes_and_a_known_one(void **state)
{
	char one[DAVIT_HASH_MAX], two[DAVIT_HASH_MAX];

	(void)state;
	make_tree("one");
	make_tree("two");
	hash("one", one);
	hash("two", two);
	assert_string_equal(one, two);
	/* Of another version of davit too: caches outlive it. */
	assert_string_equal(one, "dcf8052b2901a9e352412adb300bddda0ff8e98ce58245c03be4ab4f43a6c8ec");
}

static void times_permissions_of_others_and_ignored_files_do_not_count(void **state)
{
	char before[DAVIT_HASH_MAX], after[DAVIT_HASH_MAX];

	(void)state;
	make_tree("t");
	hash("t", before);
	assert_int_equal(utimensat(AT_FDCWD, test_at("t/run.sh"), (struct timespec[]){{1, 0}, {1, 0}}, 0), 0);
	assert_int_equal(chmod(test_at("t/a/b"), 0600), 0);
	test_put("t/.git/config", "x", 0644);
	test_put("t/a/b.o", "x", 0644);
	hash("t", after);
	assert_string_equal(before, after);
}

static void any_change_of_content_changes_the_hash(void **state)
{
	char seen[6][DAVIT_HASH_MAX];

	(void)state;
	make_tree("t");
	hash("t", seen[0]);
	test_put("t/a/b", "texT", 0644);
	hash("t", seen[1]);
	assert_int_equal(chmod(test_at("t/a/b"), 0755), 0);
	hash("t", seen[2]);
	assert_int_equal(rename(test_at("t/a/b"), test_at("t/a/c")), 0);
	hash("t", seen[3]);
	assert_int_equal(unlink(test_at("t/link")), 0);
	assert_int_equal(symlink("a/c", test_at("t/link")), 0);
	hash("t", seen[4]);
	assert_int_equal(mkdir(test_at("t/empty"), 0755), 0);
	hash("t", seen[5]);
	for (int i = 0; i < 6; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(seen[i], seen[j]);
}

static void a_copy_has_the_hash_of_its_original(void **state)
{
	struct davit_snapshot a, b;
	struct stat st;

	(void)state;
	make_tree("t");
	assert_int_equal(davit_snapshot_take(test_at("t"), test_at("copy"), NULL, 1 << 20, &a, NULL), 0);
	assert_int_equal(davit_snapshot_take(test_at("copy"), NULL, NULL, 1 << 20, &b, NULL), 0);
	assert_string_equal(a.hash, b.hash);
	assert_int_equal(a.files, 4);
	assert_int_equal(lstat(test_at("copy/link"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(test_at("copy/run.sh"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
}

static void a_file_alone_is_a_tree_with_that_file(void **state)
{
	struct davit_snapshot a, b;

	(void)state;
	test_put("f/run.sh", "#!/bin/sh\n", 0755);
	assert_int_equal(davit_snapshot_take(test_at("f"), NULL, NULL, 1 << 20, &a, NULL), 0);
	assert_int_equal(davit_snapshot_take(test_at("f/run.sh"), NULL, NULL, 1 << 20, &b, NULL), 0);
	assert_string_equal(a.hash, b.hash);
}

static void a_source_larger_than_the_cache_is_refused(void **state)
{
	struct davit_snapshot s;
	struct davit_error err;

	(void)state;
	test_put("big/a", "0123456789", 0644);
	assert_int_equal(davit_snapshot_take(test_at("big"), test_at("copy"), NULL, 9, &s, &err),
			 DAVIT_ENOSPC);
	assert_string_equal(err.message, "the source has more than 9 bytes, the size of the cache");
}

static void pipes_and_sockets_are_left_out(void **state)
{
	struct davit_snapshot s;

	(void)state;
	test_put("p/a", "x", 0644);
	assert_int_equal(mkfifo(test_at("p/fifo"), 0600), 0);
	assert_int_equal(davit_snapshot_take(test_at("p"), test_at("copy"), NULL, 100, &s, NULL), 0);
	assert_int_equal(s.files, 1);
	assert_int_not_equal(access(test_at("copy/fifo"), F_OK), 0);
}

static void rules_of_a_dockerignore_leave_out_and_let_in(void **state)
{
	static const char *const left[] = {"logs", "src/a.o", "src/deep/b.o", "docs/internal", "empty"};
	static const char *const taken[] = {"src/a.c", "src/keep.o", "docs/index", "build/bin/program"};
	struct davit_ignore ignore = {0};
	struct davit_snapshot first, second;
	char path[64];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "t/%s", taken[i]);
		test_put(path, "x", 0644);
	}
	test_put("t/logs/a", "x", 0644);
	test_put("t/src/a.o", "x", 0644);
	test_put("t/src/deep/b.o", "x", 0644);
	test_put("t/docs/internal/a", "x", 0644);
	test_put("t/empty/logs/a", "x", 0644);
	test_put("t/build/obj/a", "x", 0644);
	assert_int_equal(davit_ignore_add_rules(&ignore,
						"# a comment\n/logs/\n**/*.o\n!src/keep.o\ndocs/int*\n"
						"empty\n!empty/none\n\nbuild\n!build/bin\r\n",
						NULL),
			 0);
	assert_int_equal(davit_snapshot_take(test_at("t"), test_at("copy"), &ignore, 1 << 20, &first, NULL),
			 0);
	for (size_t i = 0; i < 5; i++) {
		snprintf(path, sizeof path, "copy/%s", left[i]);
		if (access(test_at(path), F_OK) == 0)
			fail_msg("%s was taken", left[i]);
	}
	for (size_t i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "copy/%s", taken[i]);
		if (access(test_at(path), F_OK) < 0)
			fail_msg("%s was left out", taken[i]);
	}
	assert_int_not_equal(access(test_at("copy/build/obj"), F_OK), 0);
	test_put("t/build/obj/a", "y", 0644);
	assert_int_equal(davit_snapshot_take(test_at("t"), NULL, &ignore, 1 << 20, &second, NULL), 0);
	assert_string_equal(first.hash, second.hash);
	davit_ignore_fini(&ignore);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, test_tree_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(equal_trees_have_equal_hashes_and_a_known_one),
		TEST(times_permissions_of_others_and_ignored_files_do_not_count),
		TEST(any_change_of_content_changes_the_hash),
		TEST(a_copy_has_the_hash_of_its_original),
		TEST(a_file_alone_is_a_tree_with_that_file),
		TEST(a_source_larger_than_the_cache_is_refused),
		TEST(pipes_and_sockets_are_left_out),
		TEST(rules_of_a_dockerignore_leave_out_and_let_in),
	};
	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
