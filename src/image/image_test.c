/* SPDX-License-Identifier: MIT
 *
 * The library: references, whiteouts in a layer, flattened trees, holds. Archives
 * of all kinds are test/image's business.
 */
#include "base/file.h"
#include "image/image_impl.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char dir[64], store_dir[96];
static struct davit_image_store *store;

static int set_up(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/davit-image-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(store_dir, sizeof store_dir, "%s/store", dir);
	return davit_image_store_open(store_dir, &store, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	davit_image_store_close(store);
	return davit_remove_tree(dir, NULL);
}

static char *in(const char *name, char path[256])
{
	snprintf(path, 256, "%s/%s", dir, name);
	return path;
}

struct member {
	const char *path;
	mode_t type;	     /* 0: a file */
	const char *content; /* or a link's target */
};

/* Ends with a member without a path. */
static void write_tar(const char *path, const struct member *m)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_pax_restricted(a);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	for (; m->path; m++) {
		struct archive_entry *e = archive_entry_new();
		archive_entry_set_pathname(e, m->path);
		archive_entry_set_filetype(e, m->type ? m->type : AE_IFREG);
		archive_entry_set_perm(e, m->type == AE_IFDIR ? 0755 : 0644);
		if (m->type == AE_IFLNK)
			archive_entry_set_symlink(e, m->content);
		else if (m->content)
			archive_entry_set_size(e, (la_int64_t)strlen(m->content));
		assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
		if (m->type != AE_IFLNK && m->content)
			archive_write_data(a, m->content, strlen(m->content));
		archive_entry_free(e);
	}
	archive_write_free(a);
}

static void import(const char *reference, const struct member *m)
{
	char path[256];
	struct davit_error err = {0};
	char *const command[] = {"/bin/sh", "-l", NULL}, *const env[] = {"A=b", NULL};
	struct davit_image_import i = {
		.load = {.path = in("x.tar", path),
			 .reference = reference,
			 .limits = DAVIT_IMAGE_LIMITS_DEFAULT},
		.command = command,
		.env = env,
		.user = "5",
	};

	write_tar(path, m);
	if (davit_image_import(store, &i, &err) < 0)
		fail_msg("%s", err.message);
}

static const struct member one[] = {{"etc/motd", 0, "hello\n"}, {NULL}};

/* --- references --- */

static void test_references_are_completed(void **state)
{
	static const char *const pairs[][2] = {
		{"bb", "bb:latest"},
		{"bb:1", "bb:1"},
		{"localhost/bb", "localhost/bb:latest"},
		{"localhost:5000/a/b_c/d--e:V.1", "localhost:5000/a/b_c/d--e:V.1"},
		{"a.example/x", "a.example/x:latest"},
		{"x@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		 "x@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
		{"x:1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		 "x:1@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
	};
	char out[DAVIT_REFERENCE_MAX];

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(pairs); i++) {
		assert_int_equal(davit_reference_normalise(pairs[i][0], out, NULL), 0);
		assert_string_equal(out, pairs[i][1]);
	}
}

static void test_what_is_no_reference_is_refused(void **state)
{
	static const char *const bad[] = {"",	 "A",	       "a:",   "a:b:c",	     "/a",
					  "a/",	 "a//b",       "a..b", "a___b",	     "-a",
					  "a-",	 "a@sha256:1", "a b",  "../x",	     "a:.x",
					  "a/B", "h.:5/a",     "h:/a", "a@sha512:0", "localhost/"};
	char out[DAVIT_REFERENCE_MAX] = "untouched";
	struct davit_error err;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		if (davit_reference_normalise(bad[i], out, &err) != DAVIT_EINVAL)
			fail_msg("'%s' is taken for %s", bad[i], out);
		assert_string_equal(out, "untouched");
		assert_non_null(strstr(err.message, "is not an image's name"));
	}
}

/* --- images --- */

static void test_an_import_is_found_with_all_that_it_says(void **state)
{
	struct davit_image *i = NULL;
	char path[256];

	(void)state;
	import("bb", one);
	assert_int_equal(davit_image_resolve(store, "bb:latest", &i, NULL), 0);
	assert_string_equal(i->reference, "bb:latest");
	assert_string_equal(i->command[1], "-l");
	assert_null(i->command[2]);
	assert_string_equal(i->env[0], "A=b");
	assert_string_equal(i->user, "5");
	assert_null(i->entrypoint);
	assert_null(i->directory);
	assert_null(i->health_test);
	assert_int_equal(i->n_layers, 1);
	assert_int_equal(i->size, 6);
	assert_string_equal(i->os, "linux");
	assert_true(i->created > 0);
	snprintf(path, sizeof path, "%s/etc/motd", i->layers[0]);
	assert_int_equal(access(path, R_OK), 0);
	davit_image_free(i);
}

static void test_what_is_not_there_is_said_in_these_words(void **state)
{
	struct davit_image *i = NULL;
	struct davit_error err;

	(void)state;
	assert_int_equal(davit_image_resolve(store, "nope", &i, &err), DAVIT_ENOENT);
	assert_string_equal(err.message, "image 'nope' not found locally");
	assert_null(i);
}

static int count(void *user, const struct davit_image *i)
{
	return ++*(int *)user == 2 && !strcmp(i->reference, "b:latest") ? 7 : 0;
}

static void test_a_list_is_sorted_and_ends_when_it_is_told_to(void **state)
{
	int n = 0;

	(void)state;
	import("c", one);
	import("a", one);
	import("b", one);
	assert_int_equal(davit_image_list(store, count, &n, NULL), 7);
	assert_int_equal(n, 2);
}

static int note(void *user, const char *id, const char *reference, const char *digest)
{
	assert_int_equal(strlen(digest), 71);
	snprintf(user, 64, "%s=%s", id, reference);
	return 0;
}

static void test_a_held_image_outlives_its_name(void **state)
{
	struct davit_image_freed freed;
	struct davit_image *i = NULL;
	struct davit_error err;
	char seen[64] = "";

	(void)state;
	import("bb", one);
	assert_int_equal(davit_image_hold(store, "c1", "bb", false, &i, NULL), 0);
	assert_int_equal(davit_image_holds(store, note, seen, NULL), 0);
	assert_string_equal(seen, "c1=bb:latest");
	assert_int_equal(davit_image_remove(store, "bb", false, &freed, &err), DAVIT_EINUSE);
	assert_string_equal(err.message, "image 'bb' is in use by c1");
	assert_int_equal(davit_image_remove(store, "bb", true, &freed, NULL), 0);
	assert_int_equal(freed.layers, 0);
	assert_int_equal(access(i->layers[0], F_OK), 0);
	assert_int_equal(davit_image_hold(store, "../c", "bb", true, NULL, NULL), DAVIT_EINVAL);
	assert_int_equal(davit_image_release(store, "c1", NULL), 0);
	assert_int_equal(davit_image_release(store, "c1", NULL), 0);
	/* As a crash of the machine may leave one. */
	close(openat(store->fd, "holds/c2", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	*seen = '\0';
	assert_int_equal(davit_image_holds(store, note, seen, NULL), 0);
	assert_string_equal(seen, "");
	assert_int_equal(davit_image_gc(store, &freed, NULL), 0);
	assert_int_equal(freed.layers, 1);
	assert_int_equal(access(i->layers[0], F_OK), -1);
	davit_image_free(i);
}

static void test_a_damaged_blob_is_noticed(void **state)
{
	struct davit_image *i = NULL;
	struct davit_error err;
	char path[256];

	(void)state;
	import("bb", one);
	assert_int_equal(davit_image_resolve(store, "bb", &i, NULL), 0);
	snprintf(path, sizeof path, "%s/blobs/sha256/%s", store_dir, i->id + 7);
	davit_image_free(i);
	assert_int_equal(davit_write_file(path, "{}", 2, 0600, NULL), 0);
	assert_int_equal(davit_image_resolve(store, "bb", &i, &err), DAVIT_ECORRUPT);
	assert_non_null(strstr(err.message, "is damaged"));
	import("bb2", one); /* the store goes on */
}

/* --- layers --- */

static void test_whiteouts_get_the_form_of_overlayfs(void **state)
{
	static const struct member m[] = {{".wh.gone", 0, ""}, {"d/.wh..wh..opq", 0, ""}, {"e/x", 0, "1"},
					  {".wh.e", 0, ""},    {".wh.f", 0, ""},	  {"f", 0, "1"},
					  {".wh.g", 0, ""},    {"g", AE_IFDIR, NULL},	  {NULL}};
	struct davit_image *i = NULL;
	struct stat st;
	int root;

	(void)state;
	import("w", m);
	assert_int_equal(davit_image_resolve(store, "w", &i, NULL), 0);
	root = open(i->layers[0], O_RDONLY | O_DIRECTORY);
	assert_true(root >= 0);
	assert_int_equal(fstatat(root, "gone", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(image_whiteout_is(&st));
	assert_int_equal(fstatat(root, "f", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
	for (const char *const *name = (const char *const[]){"d", "e", "g", NULL}; *name; name++) {
		int fd = openat(root, *name, O_RDONLY | O_DIRECTORY);
		assert_true(fd >= 0);
		assert_true(image_opaque_is(fd));
		close(fd);
	}
	assert_int_equal(fstatat(root, "e/x", &st, 0), 0);
	close(root);
	davit_image_free(i);
}

static void test_a_flattened_tree_has_neither_whiteouts_nor_traces(void **state)
{
	static const struct member m[] = {
		{".wh.gone", 0, ""}, {"d/x", 0, "1"}, {"l", AE_IFLNK, "d"}, {"l/y", 0, "2"}, {NULL}};
	struct davit_error err;
	char path[256], part[300];
	struct stat st;

	(void)state;
	import("w", m);
	assert_int_equal(davit_image_flatten(store, "w", in("flat", path), NULL), 0);
	snprintf(part, sizeof part, "%s/gone", path);
	assert_int_equal(lstat(part, &st), -1);
	snprintf(part, sizeof part, "%s/d/y", path);
	assert_int_equal(lstat(part, &st), 0);
	snprintf(part, sizeof part, "%s.part", path);
	assert_int_equal(lstat(part, &st), -1);
	assert_int_equal(davit_image_flatten(store, "w", path, &err), DAVIT_EEXIST);
}

static void test_what_a_dead_job_left_goes_with_the_next(void **state)
{
	struct davit_image_freed freed;
	char path[256];

	(void)state;
	assert_int_equal(davit_mkdirs(in("store/tmp/1-dead/tree", path), 0700, NULL), 0);
	assert_int_equal(davit_write_file(in("store/tmp/1-dead/keep", path), "layers/x\n", 9, 0600, NULL), 0);
	assert_int_equal(davit_mkdirs(in("store/layers/x/fs", path), 0700, NULL), 0);
	assert_int_equal(davit_image_gc(store, &freed, NULL), 0);
	assert_int_equal(access(in("store/tmp/1-dead", path), F_OK), -1);
	assert_int_equal(access(in("store/layers/x", path), F_OK), -1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references_are_completed),
		cmocka_unit_test(test_what_is_no_reference_is_refused),
		T(test_an_import_is_found_with_all_that_it_says),
		T(test_what_is_not_there_is_said_in_these_words),
		T(test_a_list_is_sorted_and_ends_when_it_is_told_to),
		T(test_a_held_image_outlives_its_name),
		T(test_a_damaged_blob_is_noticed),
		T(test_whiteouts_get_the_form_of_overlayfs),
		T(test_a_flattened_tree_has_neither_whiteouts_nor_traces),
		T(test_what_a_dead_job_left_goes_with_the_next),
	};

	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
