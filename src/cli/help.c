/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <string.h>

static void print_option(const struct davit_option *o, FILE *out)
{
	char left[64], letter[5] = "    ";

	if (o->letter)
		snprintf(letter, sizeof letter, "-%c, ", o->letter);
	snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->value ? " " : "",
		 o->value ? o->value : "");
	fprintf(out, "  %-34s%s%s%s\n", left, strlen(left) > 33 ? " " : "", o->doc,
		o->repeat ? " (repeatable)" : "");
}

static void help_verbs(const struct davit_command *c, FILE *out)
{
	char line[96];

	for (const struct davit_verb *v = c->verbs; v->name; v++) {
		snprintf(line, sizeof line, "%s:%s %s", c->name, v->name, v->usage);
		fprintf(out, "  %-42s %s\n", line, v->summary);
	}
}

static void help_command(const struct davit_command *c, FILE *out)
{
	if (c->verbs)
		fprintf(out, "Usage: davit %s:VERB [OPTION...] ARGUMENT...\n\n%s.\n", c->name, c->summary);
	else
		fprintf(out, "Usage: davit %s [OPTION...] %s\n\n%s.\n", c->name, c->usage, c->summary);
	if (c->details)
		fprintf(out, "\n%s\n", c->details);
	if (c->verbs) {
		fputs("\nVerbs:\n", out);
		help_verbs(c, out);
	}
	fputs("\nOptions:\n", out);
	for (size_t i = 0; c->options[i]; i++)
		for (const struct davit_option *o = c->options[i]; o->name; o++)
			print_option(o, out);
	if (!c->examples)
		return;
	fputs("\nExamples:\n", out);
	for (const char *const *e = c->examples; e[0]; e += 2)
		fprintf(out, "  %-48s %s\n", e[0], e[1]);
}

void davit_cli_help(const struct davit_command *command, FILE *out)
{
	const char *group = "";

	if (command) {
		help_command(command, out);
		return;
	}
	fputs("davit runs services on any platform.\n\nUsage: davit COMMAND [OPTION...] [ARGUMENT...]\n",
	      out);
	for (size_t i = 0; davit_commands[i]; i++) {
		const struct davit_command *c = davit_commands[i];
		if (strcmp(group, c->group) != 0)
			fprintf(out, "\n%s:\n", c->group);
		group = c->group;
		fprintf(out, "  %-12s %s\n", c->name, c->summary);
	}
	fputs("\n'davit COMMAND --help' or 'man davit-COMMAND' tells more of one command.\n", out);
}

static int run_help(struct davit_cli *cli, struct davit_error *err)
{
	const char *name = davit_cli_arg(cli, 0);
	const struct davit_verb *verb;
	const struct davit_command *c = name ? davit_command_meant(name, &verb) : NULL;

	if (name && !c)
		return davit_cli_usage(cli, err, "there is no command '%.64s'; see 'davit help'", name);
	davit_cli_help(c, stdout);
	return 0;
}

static const struct davit_option *const options[] = {davit_options_common, NULL};
static const char *const examples[] = {"davit help run", "all options of 'davit run'", NULL};

const struct davit_command davit_command_help = {
	.name = "help",
	.usage = "[COMMAND]",
	.group = "This program",
	.summary = "Tell what the commands do",
	.options = options,
	.max_args = 1,
	.offline = true,
	.complete = "command",
	.run = run_help,
	.examples = examples,
};
