/* SPDX-License-Identifier: MIT
 *
 * conformance SUBJECT [--table FILE] [--only TEXT]: TAP on standard output, and
 * a table of what the runtime can do and which tests it passed.
 */
#include "test/conformance/harness.h"

#include "base/log.h"

#include <signal.h>
#include <stdio.h>

static const struct test *const groups[] = {lifecycle_tests, adopt_tests,     log_tests,  facet_tests,
					    terminal_tests,  container_tests, model_tests};

struct options {
	const struct subject *subject;
	const char *table, *only;
};

static const struct subject *find(const char *name)
{
	for (size_t i = 0; subjects[i]; i++)
		if (!strcmp(subjects[i]->name, name))
			return subjects[i];
	return NULL;
}

static int usage(void)
{
	fprintf(stderr, "usage: conformance SUBJECT [--table FILE] [--only TEXT]\nsubjects:");
	for (size_t i = 0; subjects[i]; i++)
		fprintf(stderr, " %s", subjects[i]->name);
	fputc('\n', stderr);
	return 2;
}

static bool parse(int argc, char **argv, struct options *o)
{
	if (argc < 2 || argc % 2)
		return false;
	o->subject = find(argv[1]);
	for (int i = 2; i < argc; i += 2) {
		if (!strcmp(argv[i], "--table"))
			o->table = argv[i + 1];
		else if (!strcmp(argv[i], "--only"))
			o->only = argv[i + 1];
		else
			return false;
	}
	return o->subject;
}

static void write_capabilities(FILE *table)
{
	const struct davit_capabilities *c = harness_capabilities();

	fprintf(table, "runtime\t%s\t%s\n", subject->name, harness_driver()->summary);
	for (int i = 0; i < DAVIT_CAP_COUNT; i++)
		fprintf(table, "capability\t%s\t%s\t%s\n", davit_capability_name(i),
			davit_can(c, i) ? "yes" : "no", c->why_not[i]);
}

static int run_all(const struct options *o, FILE *table)
{
	static const char *const words[] = {
		[VERDICT_PASS] = "pass", [VERDICT_SKIP] = "skip", [VERDICT_FAIL] = "fail"};
	int n = 0, failed = 0;

	for (size_t g = 0; g < DAVIT_ARRAY_SIZE(groups); g++)
		for (const struct test *t = groups[g]; t->name; t++) {
			const char *message;
			enum verdict v;
			if (o->only && !strstr(t->name, o->only))
				continue;
			v = harness_run(t, &message);
			printf("%sok %d - %s%s%s\n", v == VERDICT_FAIL ? "not " : "", ++n, t->name,
			       v == VERDICT_SKIP ? " # SKIP " : "", v == VERDICT_SKIP ? message : "");
			if (v == VERDICT_FAIL)
				printf("# %s\n", message);
			fflush(stdout);
			failed += v == VERDICT_FAIL;
			if (table)
				fprintf(table, "test\t%s\t%s\t%s\n", t->name, words[v],
					v == VERDICT_PASS ? "" : message);
		}
	printf("1..%d\n", n);
	if (table)
		write_capabilities(table);
	return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	const char *why_not;
	FILE *table = NULL;
	int r;

	if (!parse(argc, argv, &o))
		return usage();
	signal(SIGPIPE, SIG_IGN);
	davit_log_set_level(DAVIT_LOG_ERROR);
	if (harness_open(o.subject, &why_not) < 0) {
		printf("1..0 # SKIP %s\n", why_not);
		harness_close();
		return 0;
	}
	if (o.table && !(table = fopen(o.table, "we"))) {
		perror(o.table);
		return 2;
	}
	r = run_all(&o, table);
	if (table && fclose(table) != 0)
		r = 2;
	harness_close();
	return r;
}
