/* SPDX-License-Identifier: MIT
 *
 * The Savina micro-benchmarks (Imam and Sarkar 2014) on davit's actors, and beside each
 * the bare C loop that does the same without actors, which is the limit.
 *
 * usage: bench-actor [--workers N] [--rounds N] [--cpu] [--only NAME[,NAME]...]
 *
 * --cpu: rates by seconds of CPU instead of seconds, for a machine that others use as
 * well; of use with one worker. Latencies stay what they are.
 *
 * Prints NAME, the median of the rounds and the best one, and the bare limit.
 */
#include "actor_bench.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const struct bench *b, int workers, int rounds)
{
	double v[64], bare[64];

	for (int i = 0; i < rounds; i++) {
		v[i] = b->run(workers);
		bare[i] = b->bare ? b->bare() : 0;
	}
	qsort(v, (size_t)rounds, sizeof *v, by_value);
	qsort(bare, (size_t)rounds, sizeof *bare, by_value);
	printf("%-24s %d workers %10.3f  best %10.3f %-14s", b->name, workers, v[rounds / 2],
	       b->less ? v[0] : v[rounds - 1], b->unit);
	if (b->bare)
		printf("  bare %10.3f  ratio %.2f", bare[rounds / 2],
		       b->less ? v[rounds / 2] / bare[rounds / 2] : bare[rounds / 2] / v[rounds / 2]);
	printf("\n");
	fflush(stdout);
}

/* In a process of its own: what one leaves in the heap makes the next one slower, processes most of
 * all, since they are forked with that. */
static int measure_apart(const struct bench *b, int workers, int rounds)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		measure(b, workers, rounds);
		_exit(0);
	}
	return pid < 0 || waitpid(pid, &status, 0) != pid || status;
}

static int wanted(const char *only, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = only; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!strncmp(p, name, n) && (!p[n] || p[n] == ','))
			return 1;
	return !only;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"workers", required_argument, NULL, 'w'},
		{"rounds", required_argument, NULL, 'r'},
		{"cpu", no_argument, NULL, 'c'},
		{"only", required_argument, NULL, 'o'},
		{0},
	};
	int workers = 0, rounds = 3, failed = 0, o;
	const char *only = NULL;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'w') {
			workers = atoi(optarg);
		} else if (o == 'r') {
			rounds = atoi(optarg) > 64 ? 64 : atoi(optarg);
		} else if (o == 'c') {
			bench_by_cpu = true;
		} else if (o == 'o') {
			only = optarg;
		} else {
			fprintf(stderr, "usage: bench-actor [--workers N] [--rounds N] [--cpu] [--only "
					"NAME[,NAME]...]\n");
			return 2;
		}
	}
	for (const struct bench *const *set = bench_sets; *set; set++) {
		for (const struct bench *b = *set; b->name; b++) {
			if (!wanted(only, b->name))
				continue;
			for (int w = workers ? workers : 1; w <= (workers ? workers : 2); w++)
				failed |= measure_apart(b, w, rounds < 1 ? 1 : rounds);
		}
	}
	return failed;
}
