/* SPDX-License-Identifier: MIT
 *
 * Measures terminals of the keeper beside a bare loop around a pseudoterminal:
 * build/bench-terminal [megabytes]. The same command prints that much to one and
 * the other, in turn; then keys are echoed by both.
 */
#include "keeper/testing.h"

#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { ROUNDS = 3, KEYS = 500 };

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return d < 0 ? -1 : d > 0;
}

static int bare(const char *const *argv)
{
	int fd;
	pid_t pid = forkpty(&fd, NULL, NULL, NULL);

	if (pid == 0) {
		execv(argv[0], (char **)(uintptr_t)argv);
		_exit(127);
	}
	assert_true(pid > 0);
	return fd;
}

static int open_terminal(struct client *c, bool kept, const char *id, const char *const *argv)
{
	int fd = kept ? client_terminal(c, id, "", argv, NULL) : bare(argv);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
	return fd;
}

/* Megabytes a second. */
static double throughput(struct client *c, bool kept, unsigned megabytes)
{
	static char buf[65536];
	double began = seconds(), took;
	size_t total = 0;
	char script[256];
	ssize_t n;
	int fd;

	snprintf(script, sizeof script,
		 "yes abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz | head -c %u000000", megabytes);
	fd = open_terminal(c, kept, ID(01), ARGV("/bin/sh", "-c", script));
	while ((n = read(fd, buf, sizeof buf)) > 0)
		total += (size_t)n;
	took = seconds() - began;
	assert_true(total >= megabytes * (size_t)1000000);
	close(fd);
	return megabytes / took;
}

static void echoes(struct client *c, bool kept)
{
	static double took[KEYS];
	int fd = open_terminal(c, kept, ID(02), ARGV("/bin/cat"));
	char key;

	for (int i = 0; i < KEYS; i++) {
		double began = seconds();
		assert_int_equal(write(fd, "x", 1), 1);
		assert_int_equal(read(fd, &key, 1), 1);
		took[i] = seconds() - began;
		nap(1);
	}
	qsort(took, KEYS, sizeof *took, by_value);
	printf("echo, %s: median %.0f us, 99%% %.0f us, worst %.0f us\n", kept ? "keeper" : "bare pty",
	       took[KEYS / 2] * 1e6, took[KEYS * 99 / 100] * 1e6, took[KEYS - 1] * 1e6);
	if (kept)
		assert_int_equal(client_simple(c, KEEPER_TERMINAL_CLOSE, ID(02)), 0);
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned megabytes = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
	void *state;

	if (client_setup(&state) < 0)
		return 1;
	for (int i = 0; i < ROUNDS; i++) {
		double a = throughput(state, false, megabytes), b = throughput(state, true, megabytes);
		printf("%u MB: bare pty %.0f MB/s, keeper %.0f MB/s (%.2f of it)\n", megabytes, a, b, b / a);
	}
	echoes(state, false);
	echoes(state, true);
	client_teardown(&state);
	return 0;
}
