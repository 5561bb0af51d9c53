/* SPDX-License-Identifier: MIT
 *
 * Two processes over ZeroMQ's ipc transport: round trips and one-way messages of 64
 * bytes, as bench-actor has them for containers of type process.
 *
 * usage: bench-actor-zeromq ROUNDS
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { SIZE = 64, TRIPS = 50000, ONE_WAY = 3000000 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench-actor-zeromq: %s: %s\n", what, zmq_strerror(zmq_errno()));
	exit(1);
}

/* The other process: answers each message, or takes them all and answers the last. */
static void peer(const char *address, bool echo)
{
	void *context = zmq_ctx_new(), *s = zmq_socket(context, ZMQ_PAIR);
	char m[SIZE];
	int none = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	zmq_setsockopt(s, ZMQ_RCVHWM, &none, sizeof none);
	must(!zmq_connect(s, address), "connect");
	if (echo)
		for (;;)
			must(zmq_recv(s, m, sizeof m, 0) == SIZE && zmq_send(s, m, sizeof m, 0) == SIZE,
			     "echo");
	for (int i = 0; i < ONE_WAY; i++)
		must(zmq_recv(s, m, sizeof m, 0) == SIZE, "receive");
	must(zmq_send(s, m, sizeof m, 0) == SIZE, "answer");
	pause();
}

/* Millions a second. */
static double run(bool echo)
{
	char address[64], m[SIZE] = "";
	void *context, *s;
	int none = 0;
	double t;
	pid_t pid;

	snprintf(address, sizeof address, "ipc:///tmp/davit-bench-zeromq.%d", (int)getpid());
	pid = fork();
	if (!pid)
		peer(address, echo);
	context = zmq_ctx_new();
	s = zmq_socket(context, ZMQ_PAIR);
	zmq_setsockopt(s, ZMQ_SNDHWM, &none, sizeof none);
	zmq_setsockopt(s, ZMQ_LINGER, &none, sizeof none);
	must(!zmq_bind(s, address), "bind");
	t = now();
	if (echo)
		for (int i = -1000; i < TRIPS; i++) {
			if (!i)
				t = now();
			must(zmq_send(s, m, SIZE, 0) == SIZE && zmq_recv(s, m, SIZE, 0) == SIZE,
			     "round trip");
		}
	else {
		for (int i = 0; i < ONE_WAY; i++)
			must(zmq_send(s, m, SIZE, 0) == SIZE, "send");
		must(zmq_recv(s, m, SIZE, 0) == SIZE, "answer");
	}
	t = now() - t;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	zmq_close(s);
	zmq_ctx_term(context);
	unlink(address + strlen("ipc://"));
	return (echo ? TRIPS : ONE_WAY) / t * 1e-6;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const char *name, const char *unit, bool echo, int rounds)
{
	double v[64];

	for (int i = 0; i < rounds; i++)
		v[i] = run(echo);
	qsort(v, (size_t)rounds, sizeof *v, by_value);
	printf("%-24s 1 workers %10.3f  best %10.3f %s\n", name, v[rounds / 2], v[rounds - 1], unit);
}

int main(int argc, char **argv)
{
	int rounds = argc == 2 ? atoi(argv[1]) : 0;

	if (rounds < 1 || rounds > 64) {
		fprintf(stderr, "usage: bench-actor-zeromq ROUNDS\n");
		return 2;
	}
	measure("process-round-trips", "M/s", true, rounds);
	measure("process-one-way", "M msg/s", false, rounds);
	return 0;
}
