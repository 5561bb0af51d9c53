/* SPDX-License-Identifier: MIT
 *
 * Containers made and ended, a million of them, and processes: what is in use afterwards
 * is what was in use before. Prints TAP.
 *
 *	bench-soak [CONTAINERS [PROCESSES]]
 */
#include "davit/container.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH = 500,
	PROCESSES_AT_ONCE = 20,
};

/* Bytes that may be in use in addition: what is kept for reuse grows with how much was under
 * way at once. 6 bytes for each of 100,000 containers; 2 kB, less than its struct, for each of
 * 300 processes. */
enum { SLACK = 512 << 10 };

/* The sanitizers look for themselves, and slowly. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { PART = 10 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { PART = 10 };
#else
enum { PART = 1 };
#endif
#else
enum { PART = 1 };
#endif

static struct davit_system *s;
static struct davit_context *c;

static int behave(struct davit_context *k, struct davit_message *m)
{
	return davit_reply(k, m, m->data, m->size);
}

static int construct(struct davit_context *k)
{
	return davit_alloc(k, 100) ? 0 : DAVIT_ENOMEM;
}

static const struct davit_definition definitions[] = {
	[DAVIT_THREAD] = {.name = "Soak", .construct = construct, .behaviour = behave},
	[DAVIT_PROCESS] = {.name = "SoakProcess",
			   .type = DAVIT_PROCESS,
			   .construct = construct,
			   .behaviour = behave,
			   .options = {.keepalive = -1}},
};

struct use {
	size_t heap, resident, files;
};

static struct use in_use(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	DIR *d = opendir("/proc/self/fd");
	struct use u = {.heap = mallinfo2().uordblks};

	if (f && fscanf(f, "%*s %zu", &u.resident) == 1)
		u.resident *= (size_t)sysconf(_SC_PAGESIZE);
	while (d && readdir(d))
		u.files++;
	if (f)
		fclose(f);
	if (d)
		closedir(d);
	return u;
}

/* Of a busy machine, on which processes are slow to answer. */
static void ignore(void *arg, const char *line)
{
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int all(int r, struct davit_promise p)
{
	struct davit_error err = {0};

	if (!r)
		r = davit_await(c, p, INT64_C(120000000000), NULL, &err);
	if (r)
		printf("# %s: %s\n", davit_error_word(r), err.message);
	return r;
}

/* n of them: created, started, asked one thing each, destroyed. 0, or an error. */
static int round_of(enum davit_container_type type, size_t n)
{
	static struct davit_promise answers[BATCH], together;
	static struct davit_create what[BATCH];
	static const char *aliases[BATCH];
	static char alias[BATCH][24];
	static unsigned number;
	struct davit_ref ref;
	int r;

	for (size_t i = 0; i < n; i++) {
		snprintf(alias[i], sizeof alias[i], "S%u", number++);
		aliases[i] = alias[i];
		what[i] = (struct davit_create){
			.alias = alias[i], .definition = &definitions[type], .flags = DAVIT_CREATE_START};
	}
	if ((r = all(davit_containers_create(c, what, n, &together), together)))
		return r;
	for (size_t i = 0; i < n && !r; i++)
		if (!(r = davit_find(c, alias[i], &ref)))
			r = davit_ask(c, ref, 1, alias[i], strlen(alias[i]), NULL, &answers[i]);
	if (!r)
		r = davit_all(c, answers, n, &together);
	if ((r = all(r, together)))
		return r;
	return all(davit_containers_do(c, DAVIT_DO_DESTROY, aliases, n, DAVIT_DESTROY_FORCE_SOFT, &together),
		   together);
}

static int rounds(enum davit_container_type type, size_t n)
{
	size_t most = type == DAVIT_PROCESS ? PROCESSES_AT_ONCE : BATCH;
	int r = 0;

	for (size_t left = n; left && !r; left -= left < most ? left : most)
		r = round_of(type, left < most ? left : most);
	return r;
}

/* The last ones are freed a moment after their end was told. */
static struct use settled(const struct use *before)
{
	struct use u = in_use();

	for (int i = 0; i < 200 && (u.heap > before->heap + SLACK || u.files > before->files); i++) {
		nanosleep(&(struct timespec){0, 10000000}, NULL);
		u = in_use();
	}
	return u;
}

static bool soak(enum davit_container_type type, size_t n, int test)
{
	const char *what = type == DAVIT_PROCESS ? "processes" : "containers";
	struct use before, after;
	double begin;
	bool ok;
	int r = rounds(type, n / 10 + 1); /* what is kept for reuse is there then */

	before = in_use();
	begin = now();
	if (!r)
		r = rounds(type, n);
	printf("# %zu %s made, asked and ended: %.1f s, %.2f us each\n", n, what, now() - begin,
	       (now() - begin) * 1e6 / (double)n);
	after = settled(&before);
	printf("# before: %zu kB in use, %zu kB resident, %zu files; after: %zu kB, %zu kB, %zu\n",
	       before.heap >> 10, before.resident >> 10, before.files, after.heap >> 10, after.resident >> 10,
	       after.files);
	ok = !r && after.heap <= before.heap + SLACK && after.files <= before.files;
	printf("%s %d - %zu %s leave nothing behind\n", ok ? "ok" : "not ok", test, n, what);
	fflush(stdout);
	return ok;
}

int main(int argc, char **argv)
{
	size_t containers = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
	size_t processes = argc > 2 ? strtoul(argv[2], NULL, 10) : 5000;
	const struct davit_system_config config = {.workers = 2, .log = ignore};
	struct davit_error err;
	bool ok;

	if (davit_system_open(&config, &s, &err)) {
		fprintf(stderr, "bench-soak: %s\n", err.message);
		return 1;
	}
	c = davit_system_context(s);
	printf("1..2\n");
	ok = soak(DAVIT_THREAD, containers / PART, 1);
	ok = soak(DAVIT_PROCESS, processes / PART, 2) && ok;
	davit_system_close(s);
	return ok ? 0 : 1;
}
