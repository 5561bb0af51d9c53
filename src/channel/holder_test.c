/* SPDX-License-Identifier: MIT */
#include "channel/holder.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { OF_VM = 1 /* KCMP_VM */ };

static pid_t process, holder;

/* The pid that a pidfd of this process is for. */
static pid_t pid_behind(int pidfd)
{
	char path[64], line[128];
	pid_t pid = -1;
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
	if (!(f = fopen(path, "r")))
		return -1;
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "Pid: %d", &pid) == 1)
			break;
	fclose(f);
	return pid;
}

/* Has a holder, says who that is, and waits for its end. */
static void child(int out)
{
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0), pidfd = davit_holder_start(self);
	pid_t pid = pidfd < 0 ? 0 : pid_behind(pidfd);

	close(self);
	close(pidfd);
	if (write(out, &pid, sizeof pid) != sizeof pid)
		_exit(1);
	for (;;)
		pause();
}

static int set_up(void **unused)
{
	int ends[2];

	if (pipe(ends) || (process = fork()) < 0)
		return -1;
	if (!process)
		child(ends[1]);
	close(ends[1]);
	if (read(ends[0], &holder, sizeof holder) != sizeof holder)
		return -1;
	close(ends[0]);
	return 0;
}

static int tear_down(void **unused)
{
	if (process > 0) {
		kill(process, SIGKILL);
		waitpid(process, NULL, 0);
	}
	if (holder > 0)
		waitpid(holder, NULL, 0);
	process = holder = 0;
	return 0;
}

/* There is none where those watch who know only forks (holder.c). */
static void need_holder(void)
{
	if (DAVIT_HOLDER_FORKS_ALONE || (holder <= 0 && getenv("LD_PRELOAD")))
		skip();
	assert_true(holder > 0);
}

static void it_has_the_memory_of_the_process(void **unused)
{
	long r;

	need_holder();
	r = syscall(SYS_kcmp, process, holder, OF_VM, 0, 0);

	if (r < 0 && (errno == ENOSYS || errno == EPERM))
		skip();
	assert_int_equal(r, 0);
}

static void it_has_no_descriptors_but_one_for_the_end_of_the_process(void **unused)
{
	char path[64];
	int n = 0;

	need_holder();
	snprintf(path, sizeof path, "/proc/%d/fd", (int)holder);
	for (int i = 0; i < 5000 && n != 1; i++, usleep(1000)) {
		DIR *d = opendir(path);
		assert_non_null(d);
		for (n = -2; readdir(d); n++)
			; /* without . and .. */
		closedir(d);
	}
	assert_int_equal(n, 1);
}

static void signals_do_not_end_it(void **unused)
{
	const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1};

	need_holder();
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		assert_int_equal(kill(holder, signals[i]), 0);
	assert_int_equal(kill(holder, SIGSTOP), 0);
	assert_int_equal(waitpid(holder, NULL, WUNTRACED), holder);
	assert_int_equal(kill(holder, SIGCONT), 0);
	assert_int_equal(waitpid(holder, NULL, WCONTINUED), holder);
	assert_int_equal(waitpid(holder, NULL, WNOHANG), 0);
}

static void it_ends_when_the_process_has_ended(void **unused)
{
	int status;

	need_holder();
	assert_int_equal(waitpid(holder, NULL, WNOHANG), 0);
	assert_int_equal(kill(process, SIGKILL), 0);
	assert_int_equal(waitpid(process, &status, 0), process);
	assert_true(WIFSIGNALED(status));
	process = 0;
	assert_int_equal(waitpid(holder, &status, 0), holder);
	assert_int_equal(status, 0);
	holder = 0;
}

static void without_a_descriptor_for_its_end_there_is_none(void **unused)
{
	assert_int_equal(davit_holder_start(-1), -1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(it_has_the_memory_of_the_process),
		T(it_has_no_descriptors_but_one_for_the_end_of_the_process),
		T(signals_do_not_end_it),
		T(it_ends_when_the_process_has_ended),
		cmocka_unit_test(without_a_descriptor_for_its_end_there_is_none),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
