/* SPDX-License-Identifier: MIT
 *
 * The program davit: finds the command, parses its options, runs it, prints
 * its error.
 */
#include "base/nearest.h"
#include "cli/api.h"
#include "cli/output.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <string.h>

#define MAX_COMMANDS 128

/* `-o json` in a command line that cannot be parsed: its error is JSON too. */
static bool wants_json(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(argv[i], "-ojson") || !strcmp(argv[i], "--output=json") ||
		    ((!strcmp(argv[i], "-o") || !strcmp(argv[i], "--output")) && !strcmp(next, "json")))
			return true;
	}
	return false;
}

/* All that can be called, families with each of their verbs. */
static size_t all_words(const char *words[MAX_COMMANDS], char called[MAX_COMMANDS][32])
{
	size_t n = 0;

	for (size_t i = 0; davit_commands[i] && n < MAX_COMMANDS; i++) {
		const struct davit_command *c = davit_commands[i];
		if (!c->verbs)
			words[n++] = c->name;
		for (const struct davit_verb *v = c->verbs; v && v->name && n < MAX_COMMANDS; v++) {
			snprintf(called[n], sizeof called[n], "%s:%s", c->name, v->name);
			words[n] = called[n];
			n++;
		}
	}
	return n;
}

static int unknown_command(struct davit_cli *cli, const char *name, struct davit_error *err)
{
	char called[MAX_COMMANDS][32];
	const char *words[MAX_COMMANDS], *near = davit_nearest(name, words, all_words(words, called));

	if (near)
		return davit_cli_usage(cli, err, "there is no command '%.64s'; did you mean '%s'?", name,
				       near);
	return davit_cli_usage(cli, err, "there is no command '%.64s'; see 'davit help'", name);
}

static int run(struct davit_cli *cli, int argc, char **argv, struct davit_error *err)
{
	const struct davit_command *c;
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	int r;

	cli->tty = isatty(STDOUT_FILENO);
	cli->progress = isatty(STDERR_FILENO);
	cli->color = cli->tty && !(no_color && no_color[0]) && term && term[0] && strcmp(term, "dumb") != 0;
	if (wants_json(argc, argv))
		cli->format = DAVIT_FORMAT_JSON;
	if (argc < 2) {
		davit_cli_help(NULL, stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		davit_cli_help(NULL, stdout);
		return 0;
	}
	c = davit_command_meant(!strcmp(argv[1], "--version") ? "version" : argv[1], &cli->verb);
	if (!c && argv[1][0] == '-')
		return davit_cli_usage(cli, err,
				       "the option '%.64s' must follow a command: davit COMMAND [OPTION...]",
				       argv[1]);
	if (!c)
		return unknown_command(cli, argv[1], err);
	r = davit_cli_parse(cli, c, argc - 2, argv + 2, err);
	if (r < 0)
		return r;
	if (davit_cli_flag(cli, "help")) {
		davit_cli_help(c, stdout);
		return 0;
	}
	if (c->verbs && !cli->verb)
		return davit_cli_usage(cli, err, "'%s' needs a verb: see 'davit %s --help'", c->name,
				       c->name);
	if (!c->offline) {
		r = davit_paths_init(&cli->paths, err);
		if (r < 0)
			return r;
	}
	return cli->verb ? cli->verb->run(cli, err) : c->run(cli, err);
}

/* `davit tree | head -1` ends quietly, also where whoever started us ignores the signal and
 * forgot to say that we may not. */
static void end_with_reader(void)
{
	sigset_t pipe;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigprocmask(SIG_UNBLOCK, &pipe, NULL);
	signal(SIGPIPE, SIG_DFL);
}

int main(int argc, char **argv)
{
	struct davit_cli cli = {.started = davit_now()};
	struct davit_error err = {0};
	int r;

	end_with_reader();
	setlocale(LC_CTYPE, "");
	r = run(&cli, argc, argv, &err);
	if (r < 0)
		r = davit_print_error(&cli, &err);
	davit_api_close(&cli);
	davit_cli_fini(&cli);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "davit: cannot write to standard output: %s\n", strerror(errno));
		return r ? r : 1;
	}
	return r;
}
