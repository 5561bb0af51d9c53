/* SPDX-License-Identifier: MIT
 *
 * davit-simulate: runs seeds, as a test (TAP) or one by hand.
 */
#include "sim.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: davit-simulate [--seeds FROM-TO] [--regressions FILE] [--every N]\n"
	"       davit-simulate --seed N [--steps N] [--verbose]\n"
	"\n"
	"Runs the core on a simulated machine with faults, for each seed from FROM to TO,\n"
	"after those that FILE lists. Prints a TAP line for each N seeds. On a violation the\n"
	"seed and what led to it are on standard error, and the exit status is 1.\n";

struct tap {
	unsigned n;
	bool failed;
};

static void line(struct tap *tap, bool ok, const char *what, uint64_t from, uint64_t to,
		 const struct davit_sim_totals *t)
{
	printf("%s %u - %s %" PRIu64 " to %" PRIu64 " # %" PRIu64 " commands, %" PRIu64 " faults, %" PRIu64
	       " deaths, %" PRIu64 " starts, %" PRIu64 " exits, %" PRIu64 " events, %" PRIu64
	       " rounds, %.0f h\n",
	       ok ? "ok" : "not ok", ++tap->n, what, from, to, t->commands, t->faults, t->deaths, t->starts,
	       t->exits, t->events, t->calls, (double)t->virtual_ns / 3.6e12);
	fflush(stdout);
	tap->failed |= !ok;
}

/* One seed a line; '#' begins a comment. */
static int regressions(struct tap *tap, const char *file)
{
	FILE *f = fopen(file, "re");
	struct davit_sim_totals t = {0};
	char text[256];
	uint64_t n = 0;
	bool ok = true;

	if (!f) {
		perror(file);
		return -1;
	}
	while (fgets(text, sizeof text, f)) {
		char *end;
		struct davit_sim_options o = {.seed = strtoull(text, &end, 10)};
		if (end == text)
			continue;
		ok &= davit_sim_run(&o, &t);
		n++;
	}
	fclose(f);
	line(tap, ok, "regressions", 1, n, &t);
	return 0;
}

static void range(struct tap *tap, uint64_t from, uint64_t to, uint64_t every)
{
	while (from <= to) {
		uint64_t last = to - from < every ? to : from + every - 1, seed;
		struct davit_sim_totals t = {0};
		bool ok = true;
		for (seed = from; seed <= last; seed++) {
			struct davit_sim_options o = {.seed = seed};
			ok &= davit_sim_run(&o, &t);
		}
		line(tap, ok, "seeds", from, last, &t);
		if (last == UINT64_MAX)
			return;
		from = last + 1;
	}
}

static int number(const char *text, uint64_t *ret)
{
	char *end;

	*ret = strtoull(text, &end, 10);
	return end == text || *end ? -1 : 0;
}

static int seeds(char *text, uint64_t *from, uint64_t *to)
{
	char *dash = strchr(text, '-');

	if (!dash)
		return -1;
	*dash = '\0';
	return number(text, from) < 0 || number(dash + 1, to) < 0 || *to < *from ? -1 : 0;
}

/* What the command line asks for. */
struct order {
	struct davit_sim_options one;
	uint64_t from, to, every;
	const char *regressions;
	bool single, help;
};

/* 0, or -1 for what cannot be meant. */
static int read_options(int argc, char **argv, struct order *o)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"seeds", required_argument, NULL, 'S'},
		{"steps", required_argument, NULL, 'n'},
		{"every", required_argument, NULL, 'e'},
		{"regressions", required_argument, NULL, 'r'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c, bad = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			o->single = true;
			bad |= number(optarg, &o->one.seed);
			break;
		case 'S':
			bad |= seeds(optarg, &o->from, &o->to);
			break;
		case 'n':
			bad |= number(optarg, &o->one.steps);
			break;
		case 'e':
			bad |= number(optarg, &o->every) || !o->every;
			break;
		case 'r':
			o->regressions = optarg;
			break;
		case 'v':
			o->one.verbose = true;
			break;
		case 'h':
			o->help = true;
			break;
		default:
			bad = -1;
		}
	}
	return bad || optind < argc ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct order o = {.from = 1, .to = 1000, .every = 1000};
	struct davit_sim_totals totals = {0};
	struct tap tap = {0};
	int r = read_options(argc, argv, &o);

	if (o.help || r < 0) {
		fputs(usage, o.help ? stdout : stderr);
		return o.help ? 0 : 2;
	}
	if (o.single) {
		line(&tap, davit_sim_run(&o.one, &totals), "seed", o.one.seed, o.one.seed, &totals);
		return tap.failed;
	}
	if (o.regressions && regressions(&tap, o.regressions) < 0)
		return 2;
	range(&tap, o.from, o.to, o.every);
	printf("1..%u\n", tap.n);
	return tap.failed;
}
