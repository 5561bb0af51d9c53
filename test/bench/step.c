/* SPDX-License-Identifier: MIT
 *
 * usage: bench-step ROUNDS PROGRAM   runs davit_execute() ROUNDS times, one after the other, with two inputs
 *                                    and one output, and prints the median milliseconds of one: from the call
 *                                    to its result
 *        bench-step put DIRECTORY    puts a copy of a directory into a store, and prints the milliseconds and
 *                                    those of CPU, as the next two
 *        bench-step take DIRECTORY   takes the directory itself, as a step's output; it is gone then
 *        bench-step get DIRECTORY    writes it, which is in the store, to standard error: tar through zstd
 *        bench-step mount DIRECTORY  the milliseconds of a step with that directory, which is in the store,
 *                                    and of the next one
 *
 * DAVIT_HOME is where the store is.
 */
#include "base/file.h"
#include "base/util.h"
#include "davit/execute.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct davit_loop *loop;
static struct davit_error err;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Of all threads of ours. */
static double cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void check(int r)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench-step: %s\n", err.message);
	exit(1);
}

static void done(void *user, struct davit_execution *x, const struct davit_result *r)
{
	*(double *)user = now();
	if (r->outcome != DAVIT_OUTCOME_SUCCEEDED) {
		fprintf(stderr, "bench-step: %s\n", r->error.message);
		exit(1);
	}
	davit_execution_free(x);
}

static double step(struct davit_artifacts *s, const char *program, const char *one, const char *two)
{
	static const struct davit_execution_events on = {.done = done};
	const struct davit_run_spec run = {.path = program};
	const struct davit_artifact with[] = {
		{.use = DAVIT_USE_INPUT, .type = DAVIT_ARTIFACT_TREE, .name = "one", .location = one},
		{.use = DAVIT_USE_INPUT, .type = DAVIT_ARTIFACT_TREE, .name = "two", .location = two},
		{.use = DAVIT_USE_OUTPUT, .name = "out"},
	};
	double begin = now(), end = 0;
	struct davit_execution *x;

	check(davit_execute(loop, s, &run, with, DAVIT_ARRAY_SIZE(with), &on, &end, &x, &err));
	davit_loop_run(loop);
	return end - begin;
}

static int compare(const void *a, const void *b)
{
	return *(const double *)a < *(const double *)b ? -1 : *(const double *)a > *(const double *)b;
}

static void small_tree(struct davit_artifacts *s, const char *text, struct davit_artifact_hold *h)
{
	char directory[] = "/tmp/davit-bench-XXXXXX", file[64];

	if (!mkdtemp(directory))
		exit(1);
	snprintf(file, sizeof file, "%s/file", directory);
	check(davit_write_file(file, text, strlen(text), 0644, &err));
	check(davit_artifacts_put_directory(s, directory, NULL, h, &err));
	check(davit_remove_tree(directory, &err));
}

int main(int argc, char **argv)
{
	struct davit_artifact_hold one = DAVIT_ARTIFACT_HOLD_INIT, two = DAVIT_ARTIFACT_HOLD_INIT;
	struct davit_artifacts *s;
	double begin = 0, used = 0;

	if (argc != 3)
		return 2;
	check(davit_artifacts_open(NULL, 0, &s, &err));
	check(davit_loop_open(&loop, &err));
	if (!strcmp(argv[1], "put")) {
		begin = now(), used = cpu();
		check(davit_artifacts_put_directory(s, argv[2], NULL, &one, &err));
		printf("%.1f %.1f\n", now() - begin, cpu() - used);
	} else if (!strcmp(argv[1], "take")) {
		begin = now(), used = cpu();
		check(davit_artifacts_adopt(s, argv[2], &one, &err));
		printf("%.1f %.1f\n", now() - begin, cpu() - used);
	} else if (!strcmp(argv[1], "get")) {
		check(davit_artifacts_put_directory(s, argv[2], NULL, &one, &err));
		begin = now(), used = cpu();
		check(davit_artifacts_get_tar(s, &one, STDERR_FILENO, DAVIT_PACK_ZSTD, &err));
		printf("%.1f %.1f\n", now() - begin, cpu() - used);
	} else if (!strcmp(argv[1], "mount")) {
		check(davit_artifacts_put_directory(s, argv[2], NULL, &one, &err));
		small_tree(s, "two", &two);
		begin = step(s, "true", one.id, two.id);
		printf("%.1f %.1f\n", begin, step(s, "true", one.id, two.id));
	} else {
		int rounds = atoi(argv[1]);
		double *ms = calloc((size_t)rounds, sizeof *ms);

		small_tree(s, "one", &one);
		small_tree(s, "two", &two);
		for (int i = 0; i < rounds; i++)
			ms[i] = step(s, argv[2], one.id, two.id);
		qsort(ms, (size_t)rounds, sizeof *ms, compare);
		printf("%.2f\n", ms[rounds / 2]);
		free(ms);
	}
	davit_artifact_release(&one);
	davit_artifact_release(&two);
	davit_loop_close(loop);
	davit_artifacts_close(s);
	return 0;
}
