/* SPDX-License-Identifier: MIT
 *
 * What a workload writes is in its log, all of it, in order.
 */
#include "keeper/testing.h"

#include "base/buf.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

static void both_streams_are_kept_apart_and_times_are_there(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;

	client_shell(c, ID(01), "echo one; sleep 0.5; echo two >&2; sleep 0.5; echo three");
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_string_equal(log, "stdout one\nstderr two\nstdout three\n");
}

static void a_silent_workload_leaves_nothing_on_disk(void **state)
{
	struct client *c = *state;
	struct stat st;

	client_shell(c, ID(01), "exit 0");
	client_exit(c, ID(01), 1);
	assert_int_equal(stat(c->log, &st), -1);
}

static void a_line_without_its_end_is_written_at_once_and_joined(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL, *raw = NULL;

	client_shell(c, ID(01), "printf begin-; sleep 1; echo end; printf last");
	WAIT_FOR((free(raw), raw = client_raw_log(c, ID(01), NULL, NULL), strstr(raw, "stdout P begin-\n")));
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_string_equal(log, "stdout begin-end\nstdout last\n");
}

static void the_next_run_does_not_continue_the_last_line(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;

	client_shell(c, ID(01), "printf first");
	client_exit(c, ID(01), 1);
	assert_true(client_spawn(c, ID(01), 2, ARGV("/bin/echo", "second"), NULL) > 0);
	client_exit(c, ID(01), 2);
	log = client_log(c, ID(01));
	assert_string_equal(log, "stdout first\nstdout second\n");
}

static void a_line_of_a_megabyte_is_whole(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;

	assert_int_equal(client_create(c, ID(01), &(struct log_options){.max_size = 8 << 20, .max_files = 3}),
			 0);
	assert_true(client_spawn(c, ID(01), 1,
				 ARGV("/bin/sh", "-c", "head -c 1048576 /dev/zero | tr '\\0' x; echo"),
				 NULL) > 0);
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_int_equal(strlen(log), 7 + 1048576 + 1);
	assert_int_equal(strspn(log + 7, "x"), 1048576);
}

static void a_hundred_thousand_lines_are_whole_and_in_order(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;
	char want[32];
	size_t files, n = 0;

	assert_int_equal(
		client_create(c, ID(01), &(struct log_options){.max_size = 1 << 20, .max_files = 100}), 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/usr/bin/seq", "1", "100000"), NULL) > 0);
	client_exit(c, ID(01), 1);
	free(client_raw_log(c, ID(01), &(uint64_t){0}, &files));
	assert_true(files > 3);
	log = client_log(c, ID(01));
	for (char *p = log; *p; p = strchr(p, '\n') + 1) {
		int len = snprintf(want, sizeof want, "stdout %zu\n", ++n);
		assert_memory_equal(p, want, (size_t)len);
	}
	assert_int_equal(n, 100000);
}

static void rotation_keeps_the_last_files_named_by_their_offset(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *raw = NULL;
	uint64_t first = 0;
	size_t files;

	assert_int_equal(client_create(c, ID(01), &(struct log_options){.max_size = 20000, .max_files = 3}),
			 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/usr/bin/seq", "1001", "6000"), NULL) > 0);
	client_exit(c, ID(01), 1);
	raw = client_raw_log(c, ID(01), &first, &files);
	assert_int_equal(files, 3);
	/* 5000 records of 40 + 4 + 1 bytes, and 41 more for each that a read cut:
	 * offsets count what was deleted too. */
	assert_true(first > 0 && first + strlen(raw) >= 5000 * 45);
	assert_int_equal((first + strlen(raw) - 5000 * 45) % 41, 0);
	assert_non_null(strstr(raw, " stdout F 6000\n"));
	assert_null(strstr(raw, " stdout F 1001\n"));
}

static void a_flood_under_drop_is_counted(void **state)
{
	struct client *c = *state;
	struct log_options o = {
		.max_size = 64 << 20, .max_files = 9, .policy = DAVIT_LOG_DROP, .rate = 100000};
	DAVIT_AUTO_FREE char *log = NULL;
	uint64_t kept = 0, dropped = 0, lines, bytes;

	assert_int_equal(client_create(c, ID(01), &o), 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/usr/bin/seq", "100001", "200000"), NULL) > 0);
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	for (char *p = log; *p; p = strchr(p, '\n') + 1) {
		if (sscanf(p, "stderr davit: %" SCNu64 " lines (%" SCNu64 " bytes) dropped", &lines,
			   &bytes) == 2) {
			dropped += lines;
			assert_int_equal(bytes, lines * 7);
		} else {
			kept++;
		}
	}
	assert_true(kept > 1000 && dropped > 1000);
	assert_int_equal(kept + dropped, 100000);
}

static void what_a_descendant_writes_after_the_exit_is_kept(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;

	client_shell(c, ID(01), "(sleep 0.3; echo late) & echo early");
	client_exit(c, ID(01), 1);
	WAIT_FOR((free(log), log = client_log(c, ID(01)), !strcmp(log, "stdout early\nstdout late\n")));
}

static void an_instance_that_comes_again_goes_on_behind_its_old_log(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;
	char path[200];
	FILE *f;

	client_shell(c, ID(01), "echo one");
	client_exit(c, ID(01), 1);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(01)), 0);
	/* A record that a crash of the machine cut. */
	snprintf(path, sizeof path, "%s/%s/%020d.log", c->log, ID(01), 0);
	f = fopen(path, "a");
	assert_non_null(f);
	fputs("2026-01-02T03:04:05.6789", f);
	fclose(f);
	client_shell(c, ID(01), "echo two");
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_string_equal(log, "stdout one\nstdout two\n");
}

static void a_flood_of_one_does_not_starve_the_others(void **state)
{
	struct client *c = *state;
	struct log_options o = {.max_size = 1 << 20, .max_files = 2};
	DAVIT_AUTO_FREE char *log = NULL;

	for (int i = 0; i < 2; i++) {
		const char *id = i ? ID(03) : ID(01);
		assert_int_equal(client_create(c, id, &o), 0);
		assert_true(client_spawn(c, id, 1, ARGV("/usr/bin/yes"), NULL) > 0);
	}
	client_shell(c, ID(02), "echo hello");
	assert_int_equal(client_exit(c, ID(02), 1).code, 0);
	log = client_log(c, ID(02));
	assert_string_equal(log, "stdout hello\n");
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 0), 0);
	assert_int_equal(client_stop(c, ID(03), SIGTERM, 0), 0);
}

/* A file system of 64 kB where the logs go, or false. */
static bool small_disk(struct client *c)
{
	return mkdir(c->log, 0700) == 0 && mount("tmpfs", c->log, "tmpfs", 0, "size=64k") == 0;
}

static void a_full_disk_makes_the_writer_wait_and_loses_nothing(void **state)
{
	struct client *c = *state;
	struct log_options o = {.max_size = 8 << 20, .max_files = 2};
	DAVIT_AUTO_FREE char *log = NULL;
	char want[32];
	size_t n = 0;
	pid_t pid;

	if (!small_disk(c)) {
		print_message("a tmpfs cannot be mounted here\n");
		skip();
	}
	assert_int_equal(client_create(c, ID(01), &o), 0);
	pid = client_spawn(c, ID(01), 1, ARGV("/usr/bin/seq", "1", "20000"), NULL);
	assert_true(pid > 0);
	/* Others go on meanwhile. */
	client_shell(c, ID(02), "exit 6");
	assert_int_equal(client_exit(c, ID(02), 1).code, 6);
	nap(400);
	assert_true(alive(pid));
	assert_int_equal(mount("tmpfs", c->log, "tmpfs", MS_REMOUNT, "size=8m"), 0);
	assert_int_equal(client_exit(c, ID(01), 1).code, 0);
	log = client_log(c, ID(01));
	for (char *p = log; *p; p = strchr(p, '\n') + 1) {
		int len = snprintf(want, sizeof want, "stdout %zu\n", ++n);
		assert_memory_equal(p, want, (size_t)len);
	}
	assert_int_equal(n, 20000);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(01)), 0);
	assert_int_equal(umount2(c->log, MNT_DETACH), 0);
}

static void a_full_disk_under_drop_is_counted_and_stops_nobody(void **state)
{
	struct client *c = *state;
	struct log_options o = {.max_size = 8 << 20, .max_files = 2, .policy = DAVIT_LOG_DROP};
	DAVIT_AUTO_FREE char *log = NULL;

	if (!small_disk(c)) {
		print_message("a tmpfs cannot be mounted here\n");
		skip();
	}
	assert_int_equal(client_create(c, ID(01), &o), 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/usr/bin/seq", "1", "20000"), NULL) > 0);
	assert_int_equal(client_exit(c, ID(01), 1).code, 0);
	assert_int_equal(mount("tmpfs", c->log, "tmpfs", MS_REMOUNT, "size=8m"), 0);
	WAIT_FOR((free(log), log = client_log(c, ID(01)), strstr(log, " dropped\n")));
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(01)), 0);
	assert_int_equal(umount2(c->log, MNT_DETACH), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, client_setup, client_teardown)
	const struct CMUnitTest tests[] = {
		T(both_streams_are_kept_apart_and_times_are_there),
		T(a_silent_workload_leaves_nothing_on_disk),
		T(a_line_without_its_end_is_written_at_once_and_joined),
		T(the_next_run_does_not_continue_the_last_line),
		T(a_line_of_a_megabyte_is_whole),
		T(a_hundred_thousand_lines_are_whole_and_in_order),
		T(rotation_keeps_the_last_files_named_by_their_offset),
		T(a_flood_under_drop_is_counted),
		T(what_a_descendant_writes_after_the_exit_is_kept),
		T(an_instance_that_comes_again_goes_on_behind_its_old_log),
		T(a_full_disk_makes_the_writer_wait_and_loses_nothing),
		T(a_full_disk_under_drop_is_counted_and_stops_nobody),
		T(a_flood_of_one_does_not_starve_the_others),
	};
	return cmocka_run_group_tests_name("keeper log", tests, NULL, NULL);
}
