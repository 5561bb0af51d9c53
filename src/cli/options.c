/* SPDX-License-Identifier: MIT
 *
 * Reading the command line. Options and arguments may be mixed; "--" ends the
 * options. A value that cannot be right is refused here, before any daemon is
 * asked, with the option's name and the value.
 */
#include "base/nearest.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/words.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

#define MAX_OPTIONS 128 /* that one command can have: an upper bound for suggestions */

int davit_cli_usage(struct davit_cli *cli, struct davit_error *err, const char *fmt, ...)
{
	char text[sizeof err->message];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	cli->usage = true;
	return davit_error_set(err, DAVIT_EINVAL, NULL, "%s", text);
}

static const struct davit_option *find(const struct davit_command *c, const char *name, size_t len,
				       char letter)
{
	for (size_t i = 0; c->options[i]; i++)
		for (const struct davit_option *o = c->options[i]; o->name; o++)
			if (letter ? o->letter == letter : !strncmp(o->name, name, len) && !o->name[len])
				return o;
	return NULL;
}

char *davit_cli_called(const struct davit_cli *cli, char buf[64])
{
	snprintf(buf, 64, "%.30s%s%.30s", cli->command->name, cli->verb ? ":" : "",
		 cli->verb ? cli->verb->name : "");
	return buf;
}

/* Does the verb take it? The lists behind the family's first are for all. */
static bool verb_takes(const struct davit_cli *cli, const struct davit_option *o)
{
	size_t n = strlen(o->name);

	for (const struct davit_option *own = cli->command->options[0]; own->name; own++) {
		if (own != o)
			continue;
		for (const char *w = cli->verb->options; *w; w += strcspn(w, " "), w += *w == ' ')
			if (strcspn(w, " ") == n && !strncmp(w, o->name, n))
				return true;
		return false;
	}
	return true;
}

const struct davit_option *davit_option_find(const struct davit_command *c, const char *name)
{
	return find(c, name, strlen(name), 0);
}

/* An option that is written out: "did you mean" from this command's names. */
static int unknown(struct davit_cli *cli, const char *name, size_t len, struct davit_error *err)
{
	const char *words[MAX_OPTIONS], *near;
	char given[64];
	size_t n = 0;

	snprintf(given, sizeof given, "%.*s", (int)len, name);
	for (size_t i = 0; cli->command->options[i]; i++)
		for (const struct davit_option *o = cli->command->options[i]; o->name && n < MAX_OPTIONS; o++)
			words[n++] = o->name;
	near = davit_nearest(given, words, n);
	if (near)
		return davit_cli_usage(cli, err, "'%s' has no option '--%s'; did you mean '--%s'?",
				       cli->command->name, given, near);
	return davit_cli_usage(cli, err, "'%s' has no option '--%s'; see 'davit %s --help'",
			       cli->command->name, given, cli->command->name);
}

static int check_choice(struct davit_cli *cli, const struct davit_option *o, const char *value,
			struct davit_error *err)
{
	const char *words[16], *near;
	DAVIT_AUTO_FREE char *copy = strdup(o->choices);
	DAVIT_AUTO_BUF said = DAVIT_BUF_INIT;
	size_t n = 0;
	char *save;

	if (!copy)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (char *w = strtok_r(copy, "|", &save); w && n < DAVIT_ARRAY_SIZE(words);
	     w = strtok_r(NULL, "|", &save)) {
		if (!strcmp(w, value))
			return 0;
		davit_buf_addf(&said, "%s%s", n ? ", " : "", w);
		words[n++] = w;
	}
	near = davit_nearest(value, words, n);
	if (near)
		return davit_cli_usage(cli, err, "--%s: '%.64s' is not one of %s; did you mean '%s'?",
				       o->name, value, davit_buf_str(&said), near);
	return davit_cli_usage(cli, err, "--%s: '%.64s' is not one of %s", o->name, value,
			       davit_buf_str(&said));
}

/* Refuses a value that is not of the option's type. */
static int check_value(struct davit_cli *cli, const struct davit_option *o, const char *value,
		       struct davit_error *err)
{
	struct davit_error why = {0};
	uint64_t size;
	int64_t n;
	int r = 0;

	switch (o->type) {
	case DAVIT_OPTION_CHOICE:
		return check_choice(cli, o, value, err);
	case DAVIT_OPTION_INT:
		r = davit_int_parse(value, o->min, o->max, &n, &why);
		break;
	case DAVIT_OPTION_DURATION:
		r = davit_duration_parse(value, &n, &why);
		break;
	case DAVIT_OPTION_SIZE:
		r = davit_size_parse(value, &size, &why);
		break;
	case DAVIT_OPTION_CPU:
		r = davit_cpu_parse(value, &n, &why);
		break;
	case DAVIT_OPTION_WHEN:
		if (davit_duration_parse(value, &n, &why) < 0 && davit_time_parse(value, &n, &why) < 0)
			return davit_cli_usage(
				cli, err,
				"--%s: '%.64s' is neither a duration such as 10s nor a time such as "
				"2026-01-02T03:04:05Z",
				o->name, value);
		break;
	case DAVIT_OPTION_PAIR:
		if (value[0] == '=' || !strchr(value, '='))
			return davit_cli_usage(cli, err, "--%s: '%.64s' is not of the form %s", o->name,
					       value, o->value);
		break;
	case DAVIT_OPTION_WORDS:
		r = davit_words_check(value, &why);
		break;
	case DAVIT_OPTION_PATH:
		if (!value[0])
			return davit_cli_usage(cli, err, "--%s: the path is empty", o->name);
		break;
	case DAVIT_OPTION_FLAG:
	case DAVIT_OPTION_STRING:
		break;
	}
	return r < 0 ? davit_cli_usage(cli, err, "--%s: %s", o->name, why.message) : 0;
}

static int give(struct davit_cli *cli, const struct davit_option *o, const char *value,
		struct davit_error *err)
{
	char called[64];
	int r;

	if (cli->verb && !verb_takes(cli, o))
		return davit_cli_usage(cli, err, "'%s' has no option '--%s'; see 'davit %s --help'",
				       davit_cli_called(cli, called), o->name, cli->command->name);
	r = o->type == DAVIT_OPTION_FLAG ? 0 : check_value(cli, o, value, err);

	if (r == 0)
		cli->given[cli->n_given++] = (struct davit_given){o, value};
	return r;
}

/* "--name", "--name=value", "--name value". Returns how many words of argv. */
static int long_option(struct davit_cli *cli, char **argv, struct davit_error *err)
{
	const char *name = argv[0] + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const struct davit_option *o = find(cli->command, name, len, 0);
	const char *value = eq ? eq + 1 : argv[1];
	int r;

	if (!o)
		return unknown(cli, name, len, err);
	if (o->type == DAVIT_OPTION_FLAG && eq)
		return davit_cli_usage(cli, err, "--%s takes no value", o->name);
	if (o->type != DAVIT_OPTION_FLAG && !value)
		return davit_cli_usage(cli, err, "--%s needs a value: --%s %s", o->name, o->name, o->value);
	r = give(cli, o, value, err);
	return r < 0 ? r : o->type == DAVIT_OPTION_FLAG || eq ? 1 : 2;
}

/* "-f", "-n 7", "-n7", "-fn7". Returns how many words of argv. */
static int short_options(struct davit_cli *cli, char **argv, struct davit_error *err)
{
	for (const char *p = argv[0] + 1; *p; p++) {
		const struct davit_option *o = find(cli->command, NULL, 0, *p);
		int r;

		if (!o)
			return davit_cli_usage(cli, err, "'%s' has no option '-%c'; see 'davit %s --help'",
					       cli->command->name, *p, cli->command->name);
		if (o->type == DAVIT_OPTION_FLAG) {
			r = give(cli, o, NULL, err);
			if (r < 0)
				return r;
			continue;
		}
		if (!p[1] && !argv[1])
			return davit_cli_usage(cli, err, "-%c needs a value: -%c %s", *p, *p, o->value);
		r = give(cli, o, p[1] ? p + 1 : argv[1], err);
		return r < 0 ? r : p[1] ? 1 : 2;
	}
	return 1;
}

static void set_format(struct davit_cli *cli)
{
	static const struct {
		const char *name;
		enum davit_format format;
	} formats[] = {
		{"text", DAVIT_FORMAT_TEXT}, {"table", DAVIT_FORMAT_TABLE}, {"wide", DAVIT_FORMAT_WIDE},
		{"json", DAVIT_FORMAT_JSON}, {"yaml", DAVIT_FORMAT_YAML},   {"names", DAVIT_FORMAT_NAMES},
	};
	const struct davit_option *output = davit_option_find(cli->command, "output");
	const char *o = output && output->type == DAVIT_OPTION_CHOICE ? davit_cli_value(cli, "output") : NULL;

	for (size_t i = 0; o && i < DAVIT_ARRAY_SIZE(formats); i++)
		if (!strcmp(o, formats[i].name))
			cli->format = formats[i].format;
}

/* An empty name, as of a variable of the shell that is not set, is meant by nobody. */
static int check_names(struct davit_cli *cli, const char *called, const char *usage, struct davit_error *err)
{
	const char *what = cli->command->complete, *ns = davit_option_find(cli->command, "namespace")
								 ? davit_cli_value(cli, "namespace")
								 : NULL;

	if (ns && !ns[0])
		return davit_cli_usage(cli, err, "--namespace: must not be empty");
	if (!what || (strncmp(what, "service", 7) != 0 && !strstr(what, "rm")))
		return 0;
	for (size_t i = 0; i < cli->n_args; i++)
		if (!cli->args[i][0])
			return davit_cli_usage(cli, err, "an argument is empty: davit %s %s", called, usage);
	return 0;
}

static int check_counts(struct davit_cli *cli, struct davit_error *err)
{
	const struct davit_command *c = cli->command;
	const struct davit_verb *v = cli->verb;
	unsigned min = v ? v->min_args : c->min_args, max = v ? v->max_args : c->max_args;
	const char *usage = v ? v->usage : c->usage;
	char called[64];

	davit_cli_called(cli, called);
	if ((davit_option_find(c, "help") && davit_cli_flag(cli, "help")) || (c->verbs && !v))
		return 0;
	if (cli->n_args < min)
		return davit_cli_usage(cli, err, "'%s' needs more arguments: davit %s %s", called, called,
				       usage);
	if (cli->n_args > max)
		return davit_cli_usage(cli, err, "'%s' does not take the argument '%.64s': davit %s%s%s",
				       called, cli->args[max], called, usage[0] ? " " : "", usage);
	if (cli->rest && !c->rest)
		return davit_cli_usage(cli, err, "'%s' takes no command after '--': davit %s %s", called,
				       called, usage);
	return check_names(cli, called, usage, err);
}

int davit_cli_parse(struct davit_cli *cli, const struct davit_command *command, int argc, char **argv,
		    struct davit_error *err)
{
	size_t room = 1;
	int r = 0;

	cli->command = command;
	for (int i = 0; i < argc; i++)
		room += strlen(argv[i]) + 1; /* each letter can be an option */
	cli->given = calloc(room, sizeof *cli->given);
	cli->args = calloc((size_t)argc + 1, sizeof *cli->args);
	if (!cli->given || !cli->args)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (int i = 0; i < argc; i += r) {
		if (!strcmp(argv[i], "--")) {
			cli->rest = argv + i + 1;
			break;
		}
		r = 1;
		if (argv[i][0] != '-' || !argv[i][1])
			cli->args[cli->n_args++] = argv[i];
		else if (argv[i][1] == '-')
			r = long_option(cli, argv + i, err);
		else
			r = short_options(cli, argv + i, err);
		if (r < 0)
			return r;
	}
	set_format(cli);
	return check_counts(cli, err);
}

void davit_cli_fini(struct davit_cli *cli)
{
	free(cli->given);
	free(cli->args);
	davit_paths_fini(&cli->paths);
	cli->given = NULL;
	cli->args = NULL;
}

const char *davit_cli_next(const struct davit_cli *cli, const char *name, size_t *pos)
{
	while (*pos < cli->n_given) {
		const struct davit_given *g = &cli->given[(*pos)++];
		if (!strcmp(g->option->name, name))
			return g->value;
	}
	return NULL;
}

bool davit_cli_flag(const struct davit_cli *cli, const char *name)
{
	assert(davit_option_find(cli->command, name));
	for (size_t i = 0; i < cli->n_given; i++)
		if (!strcmp(cli->given[i].option->name, name))
			return true;
	return false;
}

const char *davit_cli_value(const struct davit_cli *cli, const char *name)
{
	const char *last = NULL, *v;
	size_t pos = 0;

	assert(davit_option_find(cli->command, name));
	while ((v = davit_cli_next(cli, name, &pos)))
		last = v;
	return last;
}

int64_t davit_cli_duration(const struct davit_cli *cli, const char *name, int64_t deflt_ns)
{
	const char *v = davit_cli_value(cli, name);
	int64_t ns;

	return v && davit_duration_parse(v, &ns, NULL) == 0 ? ns : deflt_ns;
}

const char *davit_cli_arg(const struct davit_cli *cli, size_t i)
{
	return i < cli->n_args ? cli->args[i] : NULL;
}

const char *davit_cli_namespace(const struct davit_cli *cli)
{
	const char *ns = davit_cli_value(cli, "namespace");

	return ns ? ns : "default";
}
