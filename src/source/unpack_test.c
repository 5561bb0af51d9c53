/* SPDX-License-Identifier: MIT
 *
 * Archives made by libarchive, honest and hostile ones.
 */
#include "source/unpack.h"

#include "base/file.h"
#include "base/util.h"

#include <archive.h>
#include <archive_entry.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

struct member {
	const char *path;
	mode_t type;
	const char *content; /* of a file, or target of a link */
	mode_t mode;
	bool hard;
};

static char dir[64], archive[128], to[128], outside[128];

static const struct davit_archive_limits limits = {1000, 10};

static int set_up(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/davit-unpack-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(archive, sizeof archive, "%s/x.tar.gz", dir);
	snprintf(to, sizeof to, "%s/to", dir);
	snprintf(outside, sizeof outside, "%s/outside", dir);
	return davit_mkdirs(outside, 0755, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	return davit_remove_tree(dir, NULL);
}

static void add(struct archive *a, const struct member *m)
{
	struct archive_entry *e = archive_entry_new();

	archive_entry_set_pathname(e, m->path);
	archive_entry_set_filetype(e, m->type ? m->type : AE_IFREG);
	archive_entry_set_perm(e, m->mode ? m->mode : 0644);
	if (m->hard)
		archive_entry_set_hardlink(e, m->content);
	else if (m->type == AE_IFLNK)
		archive_entry_set_symlink(e, m->content);
	else if (!m->type)
		archive_entry_set_size(e, (la_int64_t)strlen(m->content));
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	if (!m->hard && !m->type)
		archive_write_data(a, m->content, strlen(m->content));
	archive_entry_free(e);
}

static void write_archive(const struct member *m, size_t n)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_pax_restricted(a);
	archive_write_add_filter_gzip(a);
	assert_int_equal(archive_write_open_filename(a, archive), ARCHIVE_OK);
	for (size_t i = 0; i < n; i++)
		add(a, &m[i]);
	archive_write_close(a);
	archive_write_free(a);
}

static const char *content(const char *name)
{
	static struct davit_buf b;
	char path[256];

	davit_buf_fini(&b);
	snprintf(path, sizeof path, "%s/%s", to, name);
	assert_int_equal(davit_read_file(path, 1000, &b, NULL), 0);
	return davit_buf_str(&b);
}

static void an_archive_is_unpacked_with_its_links_and_modes(void **state)
{
	static const struct member m[] = {
		{"d/", AE_IFDIR, NULL, 0755, false},	      {"d/run.sh", 0, "old", 0644, false},
		{"d/run.sh", 0, "#!/bin/sh\n", 04755, false}, {"d/same", 0, "d/run.sh", 0, true},
		{"d/e/up", AE_IFLNK, "../run.sh", 0, false},
	};
	struct davit_error err;
	struct stat st;
	char path[256];

	(void)state;
	write_archive(m, DAVIT_ARRAY_SIZE(m));
	if (davit_archive_unpack(archive, to, &limits, &err) < 0)
		fail_msg("%s", err.message);
	assert_string_equal(content("d/run.sh"), "#!/bin/sh\n");
	assert_string_equal(content("d/e/up"), "#!/bin/sh\n");
	assert_string_equal(content("d/same"), "#!/bin/sh\n");
	snprintf(path, sizeof path, "%s/d/run.sh", to);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

static void a_hostile_archive_is_refused_and_nothing_is_written(void **state)
{
	static const struct {
		struct member m[2];
		const char *why;
	} bad[] = {
		{{{"../outside/x", 0, "x", 0, false}}, "'../outside/x' would land outside its destination"},
		{{{"a/../../outside/x", 0, "x", 0, false}},
		 "'a/../../outside/x' would land outside its destination"},
		{{{"/tmp/x", 0, "x", 0, false}}, "'/tmp/x' would land outside its destination"},
		{{{"l", AE_IFLNK, "../outside", 0, false}}, "'l' is a link that leads out"},
		{{{"l", AE_IFLNK, "/etc", 0, false}}, "'l' is a link that leads out"},
		{{{"d/l", AE_IFLNK, "a/../../x", 0, false}}, "'d/l' is a link that leads out"},
		{{{"h", 0, "../outside/f", 0, true}}, "'h' is a link to a file outside its destination"},
		{{{"h", 0, "/etc/passwd", 0, true}}, "'h' is a link to a file outside its destination"},
		{{{"dev", AE_IFCHR, NULL, 0, false}}, "'dev' is neither file, directory nor link"},
		{{{"fifo", AE_IFIFO, NULL, 0, false}}, "'fifo' is neither file, directory nor link"},
	};
	char expected[512];
	struct davit_error err;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		const struct member m[] = {{"good", 0, "x", 0, false}, bad[i].m[0]};
		write_archive(m, 2);
		assert_int_equal(davit_archive_unpack(archive, to, &limits, &err), DAVIT_ESOURCE);
		snprintf(expected, sizeof expected, "the archive '%s' is refused: %s", archive, bad[i].why);
		assert_string_equal(err.message, expected);
		assert_int_not_equal(access(to, F_OK), 0);
		/* Only if it is empty can it be removed. */
		assert_int_equal(rmdir(outside), 0);
		assert_int_equal(mkdir(outside, 0755), 0);
	}
}

static void nothing_is_written_through_a_link(void **state)
{
	static const struct member m[] = {
		{"d/", AE_IFDIR, NULL, 0755, false},
		{"l", AE_IFLNK, "d", 0, false},
		{"l/x", 0, "x", 0, false},
	};
	struct davit_error err;

	(void)state;
	write_archive(m, 3);
	assert_true(davit_archive_unpack(archive, to, &limits, &err) < 0);
	assert_non_null(strstr(err.message, "cannot unpack 'l/x'"));
	assert_int_not_equal(access(to, F_OK), 0);
}

static void too_much_is_refused_before_anything_is_written(void **state)
{
	struct member m[11];
	char names[11][4], large[600];
	struct davit_error err;

	(void)state;
	for (int i = 0; i < 11; i++) {
		snprintf(names[i], sizeof names[i], "f%d", i);
		m[i] = (struct member){names[i], 0, "x", 0, false};
	}
	write_archive(m, 11);
	assert_int_equal(davit_archive_unpack(archive, to, &limits, &err), DAVIT_ESOURCE);
	assert_non_null(strstr(err.message, "'f10' is one entry too many"));
	memset(large, 'x', sizeof large - 1);
	large[sizeof large - 1] = '\0';
	m[0].content = m[1].content = large;
	write_archive(m, 2);
	assert_int_equal(davit_archive_unpack(archive, to, &limits, &err), DAVIT_ESOURCE);
	assert_non_null(strstr(err.message, "'f1' makes it too large when unpacked"));
	assert_int_not_equal(access(to, F_OK), 0);
}

static void what_is_no_archive_is_an_error(void **state)
{
	struct davit_error err;

	(void)state;
	assert_int_equal(davit_write_file(archive, "junk, not an archive", 20, 0644, NULL), 0);
	assert_int_equal(davit_archive_unpack(archive, to, &limits, &err), DAVIT_ESOURCE);
	assert_non_null(strstr(err.message, "cannot read the archive"));
	assert_int_not_equal(access(to, F_OK), 0);
	assert_true(davit_archive_is("/a/b.tar.zst"));
	assert_true(davit_archive_is("b.TGZ"));
	assert_false(davit_archive_is(".zip"));
	assert_false(davit_archive_is("tar.gz.txt"));
}

static void a_cut_archive_leaves_nothing(void **state)
{
	static const struct member m[] = {{"a", 0, "0123456789", 0, false}, {"b", 0, "x", 0, false}};
	struct davit_error err;
	struct stat st;

	(void)state;
	write_archive(m, 2);
	assert_int_equal(stat(archive, &st), 0);
	assert_int_equal(truncate(archive, st.st_size / 2), 0);
	assert_true(davit_archive_unpack(archive, to, &limits, &err) < 0);
	assert_int_not_equal(access(to, F_OK), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_archive_is_unpacked_with_its_links_and_modes),
		TEST(a_hostile_archive_is_refused_and_nothing_is_written),
		TEST(nothing_is_written_through_a_link),
		TEST(too_much_is_refused_before_anything_is_written),
		TEST(what_is_no_archive_is_an_error),
		TEST(a_cut_archive_leaves_nothing),
	};
	return cmocka_run_group_tests_name("unpack", tests, NULL, NULL);
}
