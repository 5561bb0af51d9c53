/* SPDX-License-Identifier: MIT */
#include "base/fault.h"
#include "base/file.h"
#include "davit/artifact.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include <cmocka.h>

static char top[64];
static struct davit_artifacts *store;
static struct davit_error err;

static char *path(const char *name)
{
	static char buf[4][256];
	static int next;
	char *p = buf[next++ % 4];

	snprintf(p, sizeof buf[0], "%s/%s", top, name);
	return p;
}

static void open_store(uint64_t ceiling)
{
	assert_int_equal(davit_artifacts_open(path("store"), ceiling, &store, &err), 0);
}

static int setup(void **state)
{
	(void)state;
	strcpy(top, "/tmp/davit-store-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	open_store(0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	davit_artifacts_close(store);
	store = NULL;
	return davit_remove_at(AT_FDCWD, top);
}

static void make(const char *name, size_t bytes, char fill)
{
	DAVIT_AUTO_FREE char *data = malloc(bytes + 1);
	char *slash;

	assert_non_null(data);
	memset(data, fill, bytes);
	char *file = strdup(path(name));
	slash = strrchr(file, '/');
	*slash = '\0';
	assert_int_equal(davit_mkdirs(file, 0755, &err), 0);
	*slash = '/';
	assert_int_equal(davit_write_file(file, data, bytes, 0644, &err), 0);
	free(file);
}

static struct davit_artifact_hold put(const char *name)
{
	struct davit_artifact_hold h = DAVIT_ARTIFACT_HOLD_INIT;

	if (davit_artifacts_put_directory(store, path(name), NULL, &h, &err) < 0)
		fail_msg("%s", err.message);
	return h;
}

static void the_id_is_that_of_names_modes_contents_and_links(void **state)
{
	struct davit_artifact_hold a, b;
	static const char *const changes[] = {"content", "name", "mode", "link", "kind"};

	(void)state;
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		char one[32], two[32], f[64];

		snprintf(one, sizeof one, "one%zu", i);
		snprintf(two, sizeof two, "two%zu", i);
		for (int k = 0; k < 2; k++) {
			snprintf(f, sizeof f, "%s/d/f", k ? two : one);
			make(f, 10, 'x');
			snprintf(f, sizeof f, "%s/d/l", k ? two : one);
			assert_int_equal(symlink("f", path(f)), 0);
		}
		a = put(one);
		b = put(two);
		assert_string_equal(a.id, b.id);
		assert_int_equal(a.bytes, 10);
		assert_int_equal(a.entries, 3);
		davit_artifact_release(&b);
		snprintf(f, sizeof f, "%s/d/f", two);
		if (i == 0)
			make(f, 10, 'y');
		else if (i == 1)
			assert_int_equal(rename(path(f), path("moved")) ||
						 rename(path("moved"), strcat(path(f), "2")),
					 0);
		else if (i == 2)
			assert_int_equal(chmod(path(f), 0600), 0);
		snprintf(f, sizeof f, "%s/d/l", two);
		if (i == 3)
			assert_int_equal(unlink(path(f)) || symlink("g", path(f)), 0);
		if (i == 4) {
			assert_int_equal(unlink(path(f)), 0);
			make(f, 1, 'f');
		}
		b = put(two);
		if (!strcmp(a.id, b.id))
			fail_msg("the %s does not count", changes[i]);
		davit_artifact_release(&a);
		davit_artifact_release(&b);
	}
}

static int count(void *user, const struct davit_kept *k)
{
	(void)k;
	++*(int *)user;
	return 0;
}

static int stored(void)
{
	int n = 0;

	assert_int_equal(davit_artifacts_list(store, count, &n, &err), 0);
	return n;
}

static void the_ceiling_holds_and_what_is_held_stays(void **state)
{
	struct davit_artifact_hold a, b = DAVIT_ARTIFACT_HOLD_INIT;
	char id[DAVIT_ARTIFACT_ID_MAX];

	(void)state;
	davit_artifacts_close(store);
	open_store(250);
	make("a/f", 100, 'a');
	make("b/f", 100, 'b');
	make("c/f", 100, 'c');
	make("d/f", 300, 'd');
	a = put("a");
	strcpy(id, a.id);
	b = put("b");
	davit_artifact_release(&b);
	b = put("c"); /* b goes, for a is held */
	assert_int_equal(stored(), 2);
	assert_int_equal(davit_artifacts_put_directory(store, path("b"), NULL,
						       &(struct davit_artifact_hold){.fd = -1}, &err),
			 DAVIT_ENOSPC);
	assert_non_null(strstr(err.message, "what is in use takes 200 of its 250"));
	assert_int_equal(davit_artifacts_put_directory(store, path("d"), NULL,
						       &(struct davit_artifact_hold){.fd = -1}, &err),
			 DAVIT_ENOSPC);
	assert_int_equal(davit_artifacts_remove(store, id, &err), DAVIT_EINUSE);
	davit_artifact_release(&a);
	davit_artifact_release(&b);
	assert_int_equal(davit_artifacts_remove(store, id, &err), 0);
	assert_int_equal(davit_artifacts_remove(store, id, &err), DAVIT_ENOENT);
	assert_int_equal(stored(), 1);
}

/* Runs put in a child that dies at a crash point, if it comes by. */
static bool dies_at(const char *point, const char *name)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		setenv("DAVIT_FAULT", point, 1);
		davit_fault_armed = -1; /* look again */
		struct davit_artifacts *s;
		struct davit_artifact_hold h = DAVIT_ARTIFACT_HOLD_INIT;
		int r = davit_artifacts_open(path("store"), 0, &s, NULL);
		if (r == 0)
			r = davit_artifacts_put_directory(s, path(name), NULL, &h, NULL);
		_exit(r < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
	return WIFSIGNALED(status);
}

static void a_put_that_is_killed_leaves_nothing_or_all_of_it(void **state)
{
	static const char *const before[] = {"step-copied", "step-publish"};
	struct davit_artifact_hold h;

	(void)state;
	make("a/f", 100, 'a');
	for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
		assert_true(dies_at(before[i], "a"));
		davit_artifacts_close(store);
		open_store(0);
		assert_int_equal(stored(), 0);
		assert_int_equal(rmdir(path("store/tmp")), 0); /* it was empty */
		assert_int_equal(mkdir(path("store/tmp"), 0700), 0);
	}
	assert_true(dies_at("step-published", "a"));
	davit_artifacts_close(store);
	open_store(0);
	assert_int_equal(stored(), 1);
	h = put("a");
	assert_int_equal(stored(), 1);
	davit_artifact_release(&h);
}

static void what_is_known_is_not_copied_again(void **state)
{
	struct davit_artifact_hold a, b;

	(void)state;
	make("a/f", 5 << 20, 'a');
	a = put("a");
	assert_false(dies_at("step-copied", "a"));
	make("a/f", 5 << 20, 'b'); /* of the same size */
	assert_true(dies_at("step-copied", "a"));
	b = put("a");
	assert_string_not_equal(a.id, b.id);
	assert_int_equal(stored(), 2);
	davit_artifact_release(&a);
	davit_artifact_release(&b);
}

static void what_is_above_the_ceiling_is_refused_before_it_is_copied(void **state)
{
	struct davit_artifact_hold h = DAVIT_ARTIFACT_HOLD_INIT;

	(void)state;
	make("a/f", 1, 'a');
	assert_int_equal(truncate(path("a/f"), (off_t)1 << 40), 0);
	assert_int_equal(davit_artifacts_put_directory(store, path("a"), NULL, &h, &err), DAVIT_ENOSPC);
	assert_non_null(strstr(err.message, "1099511627776 bytes are more than the store may hold"));
	assert_int_equal(stored(), 0);
}

static off_t on_disk(const char *file)
{
	struct stat st;

	assert_int_equal(stat(path(file), &st), 0);
	return (off_t)st.st_blocks * 512;
}

static void holes_stay_holes_and_count_as_zeros(void **state)
{
	const off_t size = 8 << 20;
	struct davit_artifact_hold a, b;
	char file[128];
	int fd;

	(void)state;
	make("dense/f", (size_t)size, 0);
	make("sparse/f", 0, 0);
	for (int i = 0; i < 2; i++) {
		fd = open(path(i ? "sparse/f" : "dense/f"), O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, "data", 4, 3 << 20), 4);
		assert_int_equal(ftruncate(fd, size), 0);
		close(fd);
	}
	if (on_disk("sparse/f") > 1 << 20)
		skip(); /* there are none here */
	a = put("sparse");
	snprintf(file, sizeof file, "store/trees/%s/fs/f", a.id);
	assert_true(on_disk(file) < 1 << 20);
	assert_int_equal(davit_artifacts_get_directory(store, &a, path("out"), &err), 0);
	assert_true(on_disk("out/f") < 1 << 20);
	b = put("dense");
	assert_string_equal(a.id, b.id);
	davit_artifact_release(&b);
	b = put("out");
	assert_string_equal(a.id, b.id);
	davit_artifact_release(&a);
	davit_artifact_release(&b);
}

static void modes_odd_names_and_links_that_lead_out_are_kept_as_they_are(void **state)
{
	struct davit_artifact_hold a, b;
	char text[32] = "";
	struct stat st;

	(void)state;
	make("a/set", 10, 's');
	assert_int_equal(chmod(path("a/set"), 06755), 0);
	make("a/none", 10, 'n');
	assert_int_equal(chmod(path("a/none"), 0), 0);
	make("a/two\nlines", 10, 'l');
	assert_int_equal(link(path("a/set"), path("a/same")), 0);
	assert_int_equal(symlink("../../../etc/passwd", path("a/out")), 0);
	assert_int_equal(mkfifo(path("a/pipe"), 0600), 0);
	a = put("a");
	assert_int_equal(a.entries, 5);
	assert_int_equal(a.skipped, 1);
	assert_int_equal(davit_artifacts_get_directory(store, &a, path("b"), &err), 0);
	assert_int_equal(stat(path("b/set"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 06755);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(stat(path("b/none"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0);
	assert_int_equal(readlink(path("b/out"), text, sizeof text - 1), 19);
	assert_string_equal(text, "../../../etc/passwd");
	b = put("b");
	assert_string_equal(a.id, b.id);
	davit_artifact_release(&a);
	davit_artifact_release(&b);
}

static void a_directory_is_taken_from_another_file_system_too(void **state)
{
	char elsewhere[] = "/dev/shm/davit-store-XXXXXX";
	struct davit_artifact_hold a, b = DAVIT_ARTIFACT_HOLD_INIT;
	struct stat here, there;

	(void)state;
	make("a/f", 100, 'a');
	a = put("a");
	assert_int_equal(davit_artifacts_adopt(store, path("a"), &b, &err), 0);
	assert_string_equal(a.id, b.id);
	assert_int_equal(access(path("a"), F_OK), -1);
	davit_artifact_release(&b);
	if (!mkdtemp(elsewhere) || stat(elsewhere, &there) < 0 || stat(top, &here) < 0 ||
	    here.st_dev == there.st_dev) {
		rmdir(elsewhere);
		davit_artifact_release(&a);
		skip();
	}
	assert_int_equal(davit_artifacts_get_directory(store, &a, elsewhere, &err), 0);
	assert_int_equal(davit_artifacts_adopt(store, elsewhere, &b, &err), 0);
	assert_string_equal(a.id, b.id);
	assert_int_equal(access(elsewhere, F_OK), -1);
	davit_artifact_release(&a);
	davit_artifact_release(&b);
}

static void a_store_of_another_format_is_refused_and_one_without_is_of_the_first(void **state)
{
	struct davit_artifacts *s;
	struct davit_artifact_hold h;

	(void)state;
	make("a/f", 100, 'a');
	h = put("a");
	davit_artifact_release(&h);
	davit_artifacts_close(store);
	assert_int_equal(unlink(path("store/format")), 0);
	open_store(0);
	assert_int_equal(stored(), 1);
	assert_int_equal(davit_write_file(path("store/format"), "2", 1, 0600, &err), 0);
	assert_int_equal(davit_artifacts_open(path("store"), 0, &s, &err), DAVIT_ENOTSUP);
	assert_non_null(strstr(err.message, "has the format 2"));
	assert_int_equal(stored(), 1);
}

static void what_was_not_on_the_disk_when_the_machine_went_down_is_dropped(void **state)
{
	struct davit_artifact_hold h;

	(void)state;
	make("a/f", 100, 'a');
	h = put("a");
	davit_artifact_release(&h);
	davit_artifacts_close(store);
	assert_int_equal(davit_write_file(path("store/boot"), "another", 7, 0600, &err), 0);
	open_store(0);
	assert_int_equal(stored(), 0);
}

static void what_is_made_in_a_store_gets_a_place_of_its_own_on_ext4(void **state)
{
	static const char *const names[] = {"store/tmp", "store/runs"};
	struct statfs fs;
	int flags;

	(void)state;
	assert_int_equal(statfs(top, &fs), 0);
	if (fs.f_type != EXT4_SUPER_MAGIC)
		skip();
	for (int again = 0; again < 2; again++) {
		for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
			int fd = open(path(names[i]), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			flags = 0;
			assert_int_equal(ioctl(fd, FS_IOC_GETFLAGS, &flags), 0);
			assert_true(flags & FS_TOPDIR_FL);
			flags &= ~FS_TOPDIR_FL; /* as a store has them that was made before there was this */
			assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
			close(fd);
		}
		davit_artifacts_close(store);
		open_store(0);
	}
}

static void a_tree_goes_through_each_archive_unchanged(void **state)
{
	static const enum davit_artifact_packing all[] = {DAVIT_PACK_NONE, DAVIT_PACK_GZIP, DAVIT_PACK_ZSTD};
	struct davit_artifact_hold a, b = DAVIT_ARTIFACT_HOLD_INIT;

	(void)state;
	make("a/d/f", 100000, 'a');
	make("a/empty", 0, 0);
	assert_int_equal(symlink("../x", path("a/d/l")), 0);
	assert_int_equal(chmod(path("a/d"), 0500), 0);
	a = put("a");
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		int fd = open(path("t.tar"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		assert_int_equal(davit_artifacts_get_tar(store, &a, fd, all[i], &err), 0);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		assert_int_equal(davit_artifacts_put_tar(store, fd, &b, &err), 0);
		assert_string_equal(a.id, b.id);
		davit_artifact_release(&b);
		close(fd);
	}
	davit_artifact_release(&a);
}

static void a_tree_deeper_than_any_path_is_removed(void **state)
{
	int at = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	for (int i = 0; i < 3000; i++) {
		int next;
		assert_int_equal(mkdirat(at, "deeper", 0700), 0);
		next = openat(at, "deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	close(at);
	assert_int_equal(davit_remove_at(AT_FDCWD, path("deeper")), 0);
	assert_int_equal(access(path("deeper"), F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_id_is_that_of_names_modes_contents_and_links, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_ceiling_holds_and_what_is_held_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(a_put_that_is_killed_leaves_nothing_or_all_of_it, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_is_known_is_not_copied_again, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_above_the_ceiling_is_refused_before_it_is_copied,
						setup, teardown),
		cmocka_unit_test_setup_teardown(holes_stay_holes_and_count_as_zeros, setup, teardown),
		cmocka_unit_test_setup_teardown(modes_odd_names_and_links_that_lead_out_are_kept_as_they_are,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_directory_is_taken_from_another_file_system_too, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			a_store_of_another_format_is_refused_and_one_without_is_of_the_first, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			what_was_not_on_the_disk_when_the_machine_went_down_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_made_in_a_store_gets_a_place_of_its_own_on_ext4,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_tree_goes_through_each_archive_unchanged, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tree_deeper_than_any_path_is_removed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
