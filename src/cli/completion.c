/* SPDX-License-Identifier: MIT
 *
 * davit completion: scripts for shells, made from the table of commands. Names
 * of services and workspaces are asked for when they are completed.
 */
#include "cli/cli.h"

#include <string.h>

/* What tells the names that are completed: `complete` of a command, its function in
 * zsh, and the command line. */
static const struct names {
	const char *complete, *function, *command;
} names[] = {
	{"service", "_davit_services", "davit status -o names 2>/dev/null"},
	{"workspace", "_davit_workspaces", "davit list -o names 2>/dev/null"},
	{"container", "_davit_containers", "davit arch:status Main -o names 2>/dev/null"},
	{"project", "_davit_projects", "davit project:list -o names 2>/dev/null"},
	{"service or workspace", "_davit_either",
	 "davit status -o names 2>/dev/null; davit list -o names 2>/dev/null"},
};

static const struct names *names_of(const struct davit_command *c)
{
	for (size_t i = 0; c->complete && i < DAVIT_ARRAY_SIZE(names); i++)
		if (!strcmp(c->complete, names[i].complete))
			return &names[i];
	return NULL;
}

/* "a b c" from "a|b|c" */
static void put_words(const char *choices)
{
	for (const char *p = choices; *p; p++)
		putchar(*p == '|' ? ' ' : *p);
}

static bool words_of(const struct davit_command *c)
{
	return c->complete && !names_of(c) && strcmp(c->complete, "file") != 0 &&
	       strcmp(c->complete, "command") != 0;
}

/* In single quotes, for a shell. */
static void put_quoted(const char *s)
{
	putchar('\'');
	for (; *s; s++)
		if (*s == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*s);
	putchar('\'');
}

/* ------------------------------------------------------------------------- bash */

/* A colon parts words there. */
static void bash_verbs(const struct davit_command *c)
{
	fputs("\t\tif [ \"${COMP_WORDS[2]}\" = : ] && [ \"$COMP_CWORD\" -le 3 ]; then\n"
	      "\t\t\tCOMPREPLY=($(compgen -W '",
	      stdout);
	for (const struct davit_verb *v = c->verbs; v->name; v++)
		printf("%s ", v->name);
	fputs("' -- \"${cur#:}\"))\n\t\t\treturn\n\t\tfi\n", stdout);
}

static void bash_command(const struct davit_command *c)
{
	printf("\t%s)\n", c->name);
	if (c->verbs)
		bash_verbs(c);
	fputs("\t\tcase $prev in\n", stdout);
	for (size_t i = 0; c->options[i]; i++)
		for (const struct davit_option *o = c->options[i]; o->name; o++) {
			if (o->type == DAVIT_OPTION_FLAG)
				continue;
			fputs("\t\t", stdout);
			if (o->letter)
				printf("-%c|", o->letter);
			printf("--%s) ", o->name);
			if (o->choices) {
				fputs("words='", stdout);
				put_words(o->choices);
				fputs("'; options= ;;\n", stdout);
			} else {
				printf("%s options= ;;\n",
				       o->type == DAVIT_OPTION_PATH || !strcmp(o->name, "source")
					       ? "compopt -o default;"
					       : "");
			}
		}
	fputs("\t\t*)\n\t\t\toptions='", stdout);
	for (size_t i = 0; c->options[i]; i++)
		for (const struct davit_option *o = c->options[i]; o->name; o++)
			printf("--%s ", o->name);
	fputs("'\n", stdout);
	if (names_of(c))
		printf("\t\t\twords=$(%s)\n", names_of(c)->command);
	else if (c->complete && !strcmp(c->complete, "file"))
		fputs("\t\t\tcompopt -o default\n", stdout);
	else if (c->complete && !strcmp(c->complete, "command"))
		fputs("\t\t\twords=$commands\n", stdout);
	else if (words_of(c)) {
		fputs("\t\t\twords='", stdout);
		put_words(c->complete);
		fputs("'\n", stdout);
	}
	fputs("\t\t\t;;\n\t\tesac\n\t\t;;\n", stdout);
}

static void bash(void)
{
	fputs("# bash completion for davit, made by 'davit completion bash'\n_davit()\n{\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= options=\n"
	      "\tlocal commands='",
	      stdout);
	for (size_t i = 0; davit_commands[i]; i++)
		printf("%s%s%s", i ? " " : "", davit_commands[i]->name, davit_commands[i]->verbs ? ":" : "");
	fputs("'\n\tCOMPREPLY=()\n\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$commands\" -- \"$cur\"))\n"
	      "\t\t[[ ${COMPREPLY[0]} != *: ]] || compopt -o nospace\n\t\treturn\n\tfi\n"
	      "\tcase ${COMP_WORDS[1]} in\n",
	      stdout);
	for (size_t i = 0; davit_commands[i]; i++)
		bash_command(davit_commands[i]);
	fputs("\tesac\n\tcase $cur in\n\t-*) words=$options ;;\n\tesac\n"
	      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -F _davit davit\n",
	      stdout);
}

/* -------------------------------------------------------------------------- zsh */

/* A text within the brackets of _arguments: no brackets, colons escaped. */
static void zsh_doc(const char *doc)
{
	for (; *doc; doc++) {
		if (*doc == '[' || *doc == ']' || *doc == ':')
			putchar('\\');
		if (*doc == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*doc);
	}
}

static void zsh_option(const struct davit_option *o)
{
	const char letters[] = {'-', o->letter, '\0'};
	const char *forms[] = {o->letter ? letters : NULL, o->name};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(forms); i++) {
		if (!forms[i])
			continue;
		printf("\t\t\t'%s%s%s%s[", o->repeat ? "*" : "", i ? "--" : "", forms[i],
		       o->type == DAVIT_OPTION_FLAG ? ""
		       : i			    ? "="
						    : "+");
		zsh_doc(o->doc);
		putchar(']');
		if (o->choices) {
			printf(":%s:(", o->value);
			put_words(o->choices);
			putchar(')');
		} else if (o->type != DAVIT_OPTION_FLAG) {
			fputs(":value:", stdout);
			if (o->type == DAVIT_OPTION_PATH || !strcmp(o->name, "source"))
				fputs("_files", stdout);
		}
		fputs("' \\\n", stdout);
	}
}

static void zsh_names(const struct davit_command *c)
{
	if (!c->verbs) {
		printf("\t\t'%s:", c->name);
		zsh_doc(c->summary);
		fputs("'\n", stdout);
		return;
	}
	for (const struct davit_verb *v = c->verbs; v->name; v++) {
		printf("\t\t'%s\\:%s:", c->name, v->name);
		zsh_doc(v->summary);
		fputs("'\n", stdout);
	}
}

static void zsh(void)
{
	fputs("#compdef davit\n# zsh completion for davit, made by 'davit completion zsh'\n", stdout);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++)
		printf("%s()\n{\n\tlocal -a names\n\tnames=(${(f)\"$(%s)\"})\n\tcompadd -a names\n}\n",
		       names[i].function, names[i].command);
	fputs("_davit()\n{\n\tlocal -a commands\n\tcommands=(\n", stdout);
	for (size_t i = 0; davit_commands[i]; i++)
		zsh_names(davit_commands[i]);
	fputs("\t)\n\tif (( CURRENT == 2 )); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n"
	      "\tlocal command=$words[2]\n\tshift words\n\t(( CURRENT-- ))\n\tcase $command in\n",
	      stdout);
	for (size_t i = 0; davit_commands[i]; i++) {
		const struct davit_command *c = davit_commands[i];
		printf("\t%s%s)\n\t\t_arguments -s -S \\\n", c->name, c->verbs ? ":*" : "");
		for (size_t k = 0; c->options[k]; k++)
			for (const struct davit_option *o = c->options[k]; o->name; o++)
				zsh_option(o);
		if (names_of(c)) {
			printf("\t\t\t'*:%s:%s'\n", c->complete, names_of(c)->function);
		} else if (words_of(c)) {
			fputs("\t\t\t'1:what:(", stdout);
			put_words(c->complete);
			fputs(")' '*:argument:'\n", stdout);
		} else if (c->complete && !strcmp(c->complete, "command")) {
			fputs("\t\t\t'1:command:($commands)'\n", stdout);
		} else {
			fputs("\t\t\t'*:file:_files'\n", stdout);
		}
		fputs("\t\t;;\n", stdout);
	}
	fputs("\tesac\n}\nif [ \"$funcstack[1]\" = _davit ]; then\n\t_davit \"$@\"\nelse\n\tcompdef _davit "
	      "davit\nfi\n",
	      stdout);
}

/* ------------------------------------------------------------------------- fish */

/* The condition that this command stands in the line. */
static void fish_seen(const struct davit_command *c)
{
	fputs("complete -c davit -n '__fish_seen_subcommand_from", stdout);
	if (!c->verbs)
		printf(" %s", c->name);
	for (const struct davit_verb *v = c->verbs; v && v->name; v++)
		printf(" %s:%s", c->name, v->name);
	putchar('\'');
}

static void fish_names(const struct davit_command *c)
{
	if (!c->verbs) {
		printf("complete -c davit -n __fish_use_subcommand -a %s -d ", c->name);
		put_quoted(c->summary);
		putchar('\n');
		return;
	}
	for (const struct davit_verb *v = c->verbs; v->name; v++) {
		printf("complete -c davit -n __fish_use_subcommand -a %s:%s -d ", c->name, v->name);
		put_quoted(v->summary);
		putchar('\n');
	}
}

static void fish_option(const struct davit_command *c, const struct davit_option *o)
{
	fish_seen(c);
	printf(" -l %s", o->name);
	if (o->letter)
		printf(" -s %c", o->letter);
	if (o->type == DAVIT_OPTION_PATH || !strcmp(o->name, "source"))
		fputs(" -r -F", stdout);
	else if (o->type != DAVIT_OPTION_FLAG)
		fputs(" -x", stdout);
	if (o->choices) {
		fputs(" -a '", stdout);
		put_words(o->choices);
		putchar('\'');
	}
	fputs(" -d ", stdout);
	put_quoted(o->doc);
	putchar('\n');
}

static void fish(void)
{
	fputs("# fish completion for davit, made by 'davit completion fish'\ncomplete -c davit -f\n", stdout);
	for (size_t i = 0; davit_commands[i]; i++) {
		const struct davit_command *c = davit_commands[i];
		fish_names(c);
		for (size_t k = 0; c->options[k]; k++)
			for (const struct davit_option *o = c->options[k]; o->name; o++)
				fish_option(c, o);
		if (names_of(c)) {
			fish_seen(c);
			printf(" -a '(%s)'\n", names_of(c)->command);
		} else if (c->complete && !strcmp(c->complete, "file")) {
			fish_seen(c);
			puts(" -F");
		} else if (words_of(c)) {
			fish_seen(c);
			fputs(" -a '", stdout);
			put_words(c->complete);
			puts("'");
		}
	}
}

static int run_completion(struct davit_cli *cli, struct davit_error *err)
{
	static const struct {
		const char *shell;
		void (*print)(void);
	} shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(shells); i++)
		if (!strcmp(shells[i].shell, cli->args[0])) {
			shells[i].print();
			return 0;
		}
	return davit_cli_usage(cli, err, "there is completion for bash, zsh and fish, not for '%.64s'",
			       cli->args[0]);
}

static const struct davit_option *const options[] = {davit_options_common, NULL};
static const char *const examples[] = {"source <(davit completion bash)",
				       "for this shell",
				       "davit completion zsh > \"${fpath[1]}/_davit\"",
				       "for every zsh",
				       "davit completion fish > ~/.config/fish/completions/davit.fish",
				       "for every fish",
				       NULL};

const struct davit_command davit_command_completion = {
	.name = "completion",
	.usage = "bash|zsh|fish",
	.group = "This program",
	.summary = "Print a script that completes commands in a shell",
	.options = options,
	.min_args = 1,
	.max_args = 1,
	.offline = true,
	.complete = "bash|zsh|fish",
	.run = run_completion,
	.examples = examples,
};
