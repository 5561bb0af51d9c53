/* SPDX-License-Identifier: MIT
 *
 * What only the sqlite store has: a file that outlives the process, whatever
 * ends it, and a disk that fails.
 */
#include "base/fault.h"
#include "base/file.h"
#include "base/units.h"
#include "base/util.h"
#include "store/changes.h"
#include "store/stores.h"
#include "store/test_store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static void shut_store(struct fixture *f)
{
	davit_store_close(f->store);
	f->store = NULL;
	pump(f);
}

static void reopen(struct fixture *f)
{
	shut_store(f);
	open_store(f);
}

/* Opens, expects this failure, and that the message names the file. */
static void expect_refused(struct fixture *f, int code)
{
	struct davit_store *s = NULL;
	struct davit_error err = {0};

	assert_int_equal(davit_store_open(&davit_sqlite_store, f->loop, f->path, &s, &err), code);
	assert_int_equal(err.code, code);
	assert_null(s);
	assert_non_null(strstr(err.message, f->path));
	pump(f);
}

static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void a_reopened_store_has_the_same_content_and_goes_on_counting(void **state)
{
	struct fixture *f = *state;
	struct watcher w;
	struct stat st;

	put(f, "a", "1");
	put(f, "b", "2");
	put(f, "c", "3");
	delete (f, "b");
	reopen(f);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1 c=3");
	assert_int_equal(revision(f), 4);
	watch(f, &w, "", 2);
	assert_int_equal(put(f, "d", "4"), 5);
	expect_told(f, &w, "c=3@3 -b@4 d=4@5");
	unwatch(f, &w);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_store_whose_last_change_was_a_deletion_goes_on_counting(void **state)
{
	struct fixture *f = *state;

	put(f, "a", "1");
	delete (f, "a");
	reopen(f);
	assert_int_equal(put(f, "b", "1"), 3);
}

static void a_second_daemon_is_kept_out(void **state)
{
	struct fixture *f = *state;

	expect_refused(f, DAVIT_EINUSE);
	put(f, "a", "1");
	reopen(f);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1");
}

static void a_newer_format_is_refused_and_left_alone(void **state)
{
	struct fixture *f = *state;

	put(f, "a", "1");
	shut_store(f);
	run_sql(f->path, "PRAGMA user_version=99");
	expect_refused(f, DAVIT_ENOTSUP);
	run_sql(f->path, "PRAGMA user_version=2");
	open_store(f);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1");
}

static void a_store_of_version_1_is_brought_to_this_one_and_goes_on_counting(void **state)
{
	struct fixture *f = *state;

	put(f, "a", "1");
	put(f, "b", "1");
	delete (f, "b");
	shut_store(f);
	run_sql(f->path, "DELETE FROM meta WHERE key = 'revision';"
			 "CREATE INDEX kv_revision ON kv(mod_revision);"
			 "PRAGMA user_version=1");
	open_store(f);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1");
	assert_int_equal(put(f, "b", "2"), 4);
	reopen(f);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1 b=2");
	shut_store(f);
	/* Fails if it is there still. */
	run_sql(f->path, "CREATE INDEX kv_revision ON kv(mod_revision); DROP INDEX kv_revision");
	open_store(f);
}

/* Calls of this process that have written something. */
static uint64_t write_calls(void)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	const char *p;

	assert_int_equal(davit_read_file("/proc/self/io", 4096, &b, NULL), 0);
	p = strstr(davit_buf_str(&b), "syscw: ");
	assert_non_null(p);
	return strtoull(p + strlen("syscw: "), NULL, 10);
}

static void a_large_transaction_is_written_to_the_log_in_few_calls(void **state)
{
	enum { KEYS = 200 };
	struct fixture *f = *state;
	struct davit_store_change changes[KEYS];
	char keys[KEYS][8], value[2000];
	uint64_t before;

	if (access("/proc/self/io", R_OK) < 0)
		skip(); /* a kernel that does not count them */
	memset(value, 'v', sizeof value);
	for (int i = 0; i < KEYS; i++) {
		snprintf(keys[i], sizeof keys[i], "k%03d", i);
		changes[i] = (struct davit_store_change){
			.verb = DAVIT_STORE_PUT, .key = keys[i], .value = value, .len = sizeof value};
	}
	before = write_calls();
	assert_int_equal(commit(f, changes, KEYS), 1);
	/* 100 pages and more, each with its header. */
	assert_true(write_calls() - before < 40);
	reopen(f);
	assert_int_equal(strlen(listed(f, "k199", NULL, 0)), strlen("k199=") + sizeof value);
}

static void another_programs_database_is_refused(void **state)
{
	struct fixture *f = *state;

	shut_store(f);
	assert_int_equal(unlink(f->path), 0);
	run_sql(f->path, "CREATE TABLE t(x)");
	expect_refused(f, DAVIT_ECORRUPT);
}

static void a_file_that_is_no_database_is_refused_and_left_alone(void **state)
{
	struct fixture *f = *state;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	char text[8192];

	shut_store(f);
	memset(text, 'x', sizeof text);
	assert_int_equal(davit_write_file(f->path, text, sizeof text, 0600, NULL), 0);
	expect_refused(f, DAVIT_ECORRUPT);
	assert_int_equal(davit_read_file(f->path, 1 << 20, &b, NULL), 0);
	assert_int_equal(b.len, sizeof text);
	assert_memory_equal(b.data, text, sizeof text);
}

static void a_page_of_garbage_is_found_at_the_start(void **state)
{
	struct fixture *f = *state;
	char key[16], garbage[4096];
	int fd;

	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof key, "k/%d", i);
		put(f, key, "a value of some length, to have more than a few pages: abcdefghijklmnopqrstuvw");
	}
	shut_store(f);
	memset(garbage, 0x5a, sizeof garbage);
	fd = open(f->path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, garbage, sizeof garbage, 6 * 4096), sizeof garbage);
	close(fd);
	expect_refused(f, DAVIT_ECORRUPT);
}

static void what_it_cannot_open_it_says(void **state)
{
	struct fixture *f = *state;
	struct davit_store *s = NULL;
	struct davit_loop *virtual;
	struct davit_error err;

	assert_int_equal(davit_store_open(&davit_sqlite_store, f->loop, "/nonexistent/dir/db", &s, &err),
			 DAVIT_ENOENT);
	pump(f);
	assert_int_equal(davit_store_open(&davit_sqlite_store, f->loop, "", &s, &err), DAVIT_EINVAL);
	assert_int_equal(davit_loop_open_virtual(1, &virtual, &err), 0);
	assert_int_equal(davit_store_open(&davit_sqlite_store, virtual, f->path, &s, &err), DAVIT_ENOTSUP);
	davit_loop_close(virtual);
}

/* --- a disk that fails: SQLite's system calls, replaced --- */

static _Atomic int write_errno;
static _Atomic int writes_refused;
static _Atomic int write_delay_us;
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

static ssize_t failing_pwrite(int fd, const void *data, size_t n, off_t at)
{
	if (write_delay_us)
		usleep((useconds_t)write_delay_us);
	if (!write_errno)
		return real_pwrite(fd, data, n, at);
	writes_refused++;
	errno = write_errno;
	return -1;
}

static void replace_pwrite(bool on)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	if (!real_pwrite)
		real_pwrite =
			(ssize_t(*)(int, const void *, size_t, off_t))vfs->xGetSystemCall(vfs, "pwrite64");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(vfs->xSetSystemCall(vfs, i ? "pwrite" : "pwrite64",
						     on ? (sqlite3_syscall_ptr)failing_pwrite : NULL),
				 SQLITE_OK);
	}
}

static void a_failing_disk_fails_commits_and_a_healed_one_heals_the_store(void **state)
{
	static const struct {
		int sys, code;
	} ways[] = {{ENOSPC, DAVIT_ENOSPC}, {EIO, DAVIT_EIO}, {EDQUOT, DAVIT_ENOSPC}, {EROFS, DAVIT_EPERM}};
	struct fixture *f = *state;
	struct watcher w;
	int64_t before;

	put(f, "a", "1");
	watch(f, &w, "", 1);
	replace_pwrite(true);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(ways); i++) {
		struct davit_store_change c = PUT("b", "lost");
		struct davit_error err;

		before = revision(f);
		write_errno = ways[i].sys;
		assert_int_equal(commit(f, &c, 1), ways[i].code);
		assert_non_null(strstr(f->error.message, f->path));
		assert_int_equal(f->store->driver->health(f->store, &err), ways[i].code);
		assert_string_equal(err.message, f->error.message);
		assert_int_equal(revision(f), before);
		/* It waits for the next commit and does nothing meanwhile. */
		writes_refused = 0;
		usleep(20000);
		assert_int_equal(writes_refused, 0);
		write_errno = 0;
		assert_int_equal(put(f, "a", "2"), before + 1);
		assert_int_equal(f->store->driver->health(f->store, NULL), 0);
	}
	replace_pwrite(false);
	expect_told(f, &w, "a=2@2 a=2@3 a=2@4 a=2@5");
	unwatch(f, &w);
	reopen(f);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=2");
}

static void a_disk_that_hangs_is_a_timeout_and_the_change_may_still_come(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c = PUT("a", "late");
	struct waiter t = {0};

	replace_pwrite(true);
	write_delay_us = 100000;
	davit_op_init(&t.txn.op, f->loop, waiter_done, &t);
	davit_store_commit(f->store, &c, 1, &t.txn, 10 * DAVIT_NSEC_PER_MSEC);
	finish(f, &t);
	assert_int_equal(t.result, DAVIT_ETIMEDOUT);
	assert_non_null(strstr(f->error.message, "may have been done"));
	assert_string_equal(listed(f, NULL, NULL, 0), "");
	write_delay_us = 0;
	put(f, "b", "1");
	replace_pwrite(false);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=late b=1");
}

static void what_was_forgotten_stays_forgotten_after_a_reopening(void **state)
{
	enum { CHUNK = 1000 };
	struct fixture *f = *state;
	struct davit_store_change c = PUT("k", "v");
	static struct waiter t[CHUNK];
	struct watcher w;

	put(f, "gone", "1");
	delete (f, "gone");
	for (int i = 0; i <= DAVIT_STORE_KEEP_DELETIONS; i += CHUNK) {
		for (int j = 0; j < CHUNK; j++)
			start(f, &t[j], &c, 1);
		for (int j = 0; j < CHUNK; j++)
			finish(f, &t[j]);
	}
	reopen(f);
	assert_int_equal(watch_code(f, &w, "", 1), DAVIT_ECOMPACTED);
	assert_int_equal(watch_code(f, &w, "", 2), 0);
	unwatch(f, &w);
}

static void a_commit_given_up_ends_once_and_the_next_goes_on(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c = PUT("a", "1");
	struct waiter t[50];

	for (int i = 0; i < 50; i++)
		start(f, &t[i], &c, 1);
	for (int i = 0; i < 50; i++)
		davit_op_cancel(&t[i].txn.op);
	for (int i = 0; i < 50; i++) {
		finish(f, &t[i]);
		assert_int_equal(t[i].result, DAVIT_ECANCELED);
	}
	put(f, "b", "1");
	assert_non_null(strstr(listed(f, NULL, NULL, 0), "b=1"));
}

/* --- sudden death --- */

/* The child: commits pairs of keys and says which are done, until killed. */
static void write_for_ever(struct fixture *f, const char *fault, int out)
{
	struct davit_error err;

	if (fault)
		setenv("DAVIT_FAULT", fault, 1);
	davit_fault_armed = -1; /* look at the environment anew */
	if (davit_loop_open(&f->loop, &err) < 0)
		_exit(1);
	open_store(f);
	for (int i = 0; i < 100000; i += 10) {
		struct waiter t[10];
		for (int j = 0; j < 10; j++) {
			char a[16], b[16];
			snprintf(a, sizeof a, "a/%06d", i + j);
			snprintf(b, sizeof b, "b/%06d", i + j);
			struct davit_store_change c[] = {PUT(a, "1"), PUT(b, "1")};
			start(f, &t[j], c, 2);
		}
		for (int j = 0; j < 10; j++) {
			finish(f, &t[j]);
			int n = i + j;
			if (t[j].result < 0 || davit_write_full(out, &n, sizeof n) < 0)
				_exit(1);
		}
	}
	_exit(0);
}

/* Lets a child write, kills it after `acks` unless `fault` does, and looks. */
static void die_and_look(struct fixture *f, const char *fault, int acks)
{
	struct counted a = {0}, b = {0};
	int fds[2], status, last = -1, n;
	pid_t pid;

	shut_store(f);
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		write_for_ever(f, fault, fds[1]);
	}
	close(fds[1]);
	while (read(fds[0], &n, sizeof n) == (ssize_t)sizeof n) {
		assert_int_equal(n, last + 1);
		last = n;
		if (last == acks)
			assert_int_equal(kill(pid, SIGKILL), 0);
	}
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	open_store(f);
	assert_int_equal(f->store->driver->list(f->store, "a/", NULL, 0, count_sorted, &a, NULL, NULL), 0);
	assert_int_equal(f->store->driver->list(f->store, "b/", NULL, 0, count_sorted, &b, NULL, NULL), 0);
	/* All that was acknowledged, whole transactions, and in order. */
	assert_true(a.seen >= last + 1);
	assert_int_equal(a.seen, b.seen);
	assert_int_equal(revision(f), a.seen);
	if (a.seen)
		assert_int_equal(atoi(a.last + 2), a.seen - 1);
}

static void a_killed_writer_leaves_every_acknowledged_commit(void **state)
{
	die_and_look(*state, NULL, 0);
	die_and_look(*state, NULL, 123);
	die_and_look(*state, NULL, 777);
}

static void death_at_each_crash_point_leaves_a_whole_store(void **state)
{
	die_and_look(*state, "store-open", -2);
	die_and_look(*state, "store-commit-before", -2);
	die_and_look(*state, "store-commit-before:5", -2);
	die_and_look(*state, "store-commit-after", -2);
	die_and_look(*state, "store-commit-after:5", -2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_reopened_store_has_the_same_content_and_goes_on_counting),
		CASE(a_store_whose_last_change_was_a_deletion_goes_on_counting),
		CASE(a_second_daemon_is_kept_out),
		CASE(a_newer_format_is_refused_and_left_alone),
		CASE(a_store_of_version_1_is_brought_to_this_one_and_goes_on_counting),
		CASE(a_large_transaction_is_written_to_the_log_in_few_calls),
		CASE(another_programs_database_is_refused),
		CASE(a_file_that_is_no_database_is_refused_and_left_alone),
		CASE(a_page_of_garbage_is_found_at_the_start),
		CASE(what_it_cannot_open_it_says),
		CASE(a_failing_disk_fails_commits_and_a_healed_one_heals_the_store),
		CASE(a_disk_that_hangs_is_a_timeout_and_the_change_may_still_come),
		CASE(what_was_forgotten_stays_forgotten_after_a_reopening),
		CASE(a_commit_given_up_ends_once_and_the_next_goes_on),
		CASE(a_killed_writer_leaves_every_acknowledged_commit),
		CASE(death_at_each_crash_point_leaves_a_whole_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
