/* SPDX-License-Identifier: MIT */
#include "base/file.h"
#include "runtime/oci/impl.h"
#include "runtime/oci/oci.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define ID "0123456789abcdef"
#define OTHER "fedcba9876543210"

static char dir[64];
static struct oci_place place;
static struct davit_error err;

static char *path_of(const char *name)
{
	return davit_path_join(dir, name);
}

static void put(const char *name, const char *text, mode_t mode)
{
	DAVIT_AUTO_FREE char *path = path_of(name);

	assert_int_equal(davit_write_file(path, text, strlen(text), mode, &err), 0);
}

static void make(const char *name)
{
	DAVIT_AUTO_FREE char *path = path_of(name);

	assert_int_equal(davit_mkdirs(path, 0755, &err), 0);
}

static bool there(const char *name)
{
	DAVIT_AUTO_FREE char *path = path_of(name);

	return access(path, F_OK) == 0;
}

/* Its "runtime" notes what it was asked for, and removes nothing. */
static int set_up(void **state)
{
	DAVIT_AUTO_BUF script = DAVIT_BUF_INIT;

	strcpy(dir, "/tmp/davit-oci-XXXXXX");
	assert_non_null(mkdtemp(dir));
	make("bundles/" ID);
	make("engine");
	put("bundles/" ID "/container", "00000000\n", 0600);
	davit_buf_addf(&script, "#!/bin/sh\necho \"$*\" >> %s/asked\nexit 1\n", dir);
	put("program", davit_buf_str(&script), 0755);
	place = (struct oci_place){.nets.bundles = path_of("bundles"),
				   .engine = path_of("engine"),
				   .program = path_of("program")};
	return 0;
}

static int tear_down(void **state)
{
	free(place.nets.bundles);
	free(place.engine);
	free(place.program);
	return davit_remove_tree(dir, &err);
}

static void each_start_has_a_container_of_its_own(void **state)
{
	char name[OCI_CONTAINER_MAX], last[OCI_CONTAINER_MAX];

	for (int i = 1; i <= 300; i++) {
		char want[OCI_CONTAINER_MAX];

		snprintf(want, sizeof want, ID "-%d", i);
		assert_int_equal(oci_container_next(&place, ID, name, &err), 0);
		assert_string_equal(name, want);
		assert_int_equal(oci_container_name(&place, ID, last, &err), 0);
		assert_string_equal(last, want);
	}
	assert_int_equal(oci_container_next(&place, OTHER, name, &err), DAVIT_ESTATE);
}

static void an_instance_is_deleted_by_force_with_all_its_starts_and_no_other(void **state)
{
	DAVIT_AUTO_FREE char *asked = path_of("asked");
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	make("engine/" ID "-1");
	make("engine/" ID "-12/part");
	make("engine/" OTHER "-1");
	assert_int_equal(oci_containers_delete(&place, ID, &err), 0);
	assert_false(there("engine/" ID "-1"));
	assert_false(there("engine/" ID "-12"));
	assert_true(there("engine/" OTHER "-1"));
	assert_int_equal(davit_read_file(asked, 4096, &text, &err), 0);
	assert_non_null(strstr(davit_buf_str(&text), "delete --force " ID "-1\n"));
	assert_non_null(strstr(text.data, "delete --force " ID "-12\n"));
	assert_null(strstr(text.data, OTHER));
}

static pid_t ended_pid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_true(pid > 0 && waitpid(pid, NULL, 0) == pid);
	return pid;
}

static void crun_is_asked_only_for_what_may_run(void **state)
{
	char status[64];

	place.is_crun = true;
	make("engine/" ID "-1");
	snprintf(status, sizeof status, "{\"pid\": %d}", (int)ended_pid());
	put("engine/" ID "-1/status", status, 0600);
	assert_int_equal(oci_containers_delete(&place, ID, &err), 0);
	assert_false(there("engine/" ID "-1"));
	assert_false(there("asked"));

	make("engine/" ID "-2");
	snprintf(status, sizeof status, "{\"pid\": %d}", (int)getpid());
	put("engine/" ID "-2/status", status, 0600);
	assert_int_equal(oci_containers_delete(&place, ID, &err), 0);
	assert_true(there("asked"));
}

/* What a daemon that was killed has left running: it has the lock and tells when it is done. */
static pid_t begin_deletion(int told[2])
{
	pid_t pid;

	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		int lock = open(place.nets.bundles, O_RDONLY | O_DIRECTORY);
		int bundle = openat(lock, ID, O_RDONLY | O_DIRECTORY);

		if (flock(bundle, LOCK_EX) < 0 || write(told[1], "x", 1) < 0)
			_exit(1);
		usleep(200000);
		_exit(there("asked") ? 2 : 0);
	}
	assert_true(pid > 0);
	return pid;
}

static void a_deletion_waits_for_one_that_outlived_its_daemon(void **state)
{
	int told[2], status;
	pid_t pid = begin_deletion(told);
	char c;

	make("engine/" ID "-1");
	assert_int_equal(read(told[0], &c, 1), 1);
	assert_int_equal(oci_containers_delete(&place, ID, &err), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(there("asked"));
	close(told[0]);
	close(told[1]);
}

static void on_opened(struct davit_op *op, int result)
{
	*(int *)op->user = result;
	err = op->error;
	davit_loop_stop(op->completion.loop);
}

/* No keeper is there either, which alone would be no reason not to open it. */
static void without_the_groups_that_it_needs_a_runtime_is_refused_with_the_reason(void **state)
{
	static const struct davit_runtime_events events = {0};
	DAVIT_AUTO_FREE char *program = path_of("program");
	struct davit_runtime *rt = calloc(1, sizeof *rt + davit_oci_driver.runtime_size);
	struct davit_loop *loop;
	struct davit_op op;
	int result = 1;

	if (geteuid() != 0)
		skip();
	put("davit-init", "", 0755);
	assert_int_equal(davit_loop_open(&loop, NULL), 0);
	assert_non_null(rt);
	*rt = (struct davit_runtime){.driver = &davit_oci_driver,
				     .loop = loop,
				     .events = &events,
				     .name = "oci",
				     .state_dir = dir,
				     .run_dir = dir,
				     .log_dir = dir,
				     .libexec_dir = dir};
	setenv("DAVIT_OCI_RUNTIME", program, 1);
	setenv("DAVIT_CGROUP", "no-such-group", 1);
	davit_op_init(&op, loop, on_opened, &result);
	davit_op_begin(&op, 0);
	davit_oci_driver.open(rt, &op);
	davit_loop_run(loop);
	unsetenv("DAVIT_OCI_RUNTIME");
	unsetenv("DAVIT_CGROUP");
	assert_int_equal(result, DAVIT_ENOTSUP);
	assert_non_null(strstr(err.message, "runc needs control groups"));
	davit_loop_close(loop);
	free(rt);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_start_has_a_container_of_its_own),
		TEST(an_instance_is_deleted_by_force_with_all_its_starts_and_no_other),
		TEST(crun_is_asked_only_for_what_may_run),
		TEST(a_deletion_waits_for_one_that_outlived_its_daemon),
		TEST(without_the_groups_that_it_needs_a_runtime_is_refused_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
