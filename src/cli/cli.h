/* SPDX-License-Identifier: MIT
 *
 * The command line: what a command is, what it was given, and how it talks to
 * a person. A command is one entry (name, usage, options, function, examples);
 * --help, shell completion and the checks of the man pages are made from it.
 */
#ifndef DAVIT_CLI_H
#define DAVIT_CLI_H

#include "base/buf.h"
#include "base/paths.h"
#include "davit/error.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

struct davit_cli;

/* ---------------------------------------------------------------------- options */

enum davit_option_type {
	DAVIT_OPTION_FLAG, /* takes no value */
	DAVIT_OPTION_STRING,
	DAVIT_OPTION_INT,      /* a whole number within [min, max] */
	DAVIT_OPTION_DURATION, /* base/units.h */
	DAVIT_OPTION_SIZE,
	DAVIT_OPTION_CPU,
	DAVIT_OPTION_CHOICE, /* one of `choices` */
	DAVIT_OPTION_PAIR,   /* NAME=VALUE; the value may hold further '=' */
	DAVIT_OPTION_WORDS,  /* split into words by quotes and blanks */
	DAVIT_OPTION_PATH,   /* a file or directory of the caller's */
	DAVIT_OPTION_WHEN,   /* a duration before now, or a time in RFC 3339 */
};

struct davit_option {
	const char *name;  /* without the dashes */
	char letter;	   /* 'f' for -f, or 0 */
	const char *value; /* what --help calls the value, or NULL for a flag */
	enum davit_option_type type;
	bool repeat;	     /* each use counts; otherwise the last one wins */
	const char *choices; /* "a|b|c" */
	int64_t min, max;
	const char *field; /* path of the spec's key that it sets, or NULL */
	const char *doc;   /* one sentence without the full stop */
};

/* ---------------------------------------------------------------------- commands */

/* One of a family of commands, called as FAMILY:VERB. */
struct davit_verb {
	const char *name;
	const char *usage;
	const char *summary;
	const char *options; /* which of the family's first list it takes: "force start", or "" */
	unsigned min_args, max_args;
	int (*run)(struct davit_cli *cli, struct davit_error *err);
};

struct davit_command {
	const char *name;
	const char *usage;			   /* what follows the name: "NAME [VERSION]" */
	const char *group;			   /* heading in `davit help` */
	const char *summary;			   /* one line */
	const char *details;			   /* further sentences of --help, or NULL */
	const struct davit_option *const *options; /* lists, each ended by {0}; the list by NULL */
	unsigned min_args, max_args;
	bool rest;    /* takes a command after -- */
	bool offline; /* needs no daemon; `-o json` errors all the same */
	const char
		*complete; /* what the arguments are: "service", "instance", "command", "file", words "a|b" */
	/* Of a family, ended by one without a name: then the command alone cannot be run, and
	 * usage, min_args, max_args and run are those of its verbs. */
	const struct davit_verb *verbs;
	/* Returns the exit status, or a negative DAVIT_E... with *err filled. */
	int (*run)(struct davit_cli *cli, struct davit_error *err);
	const char *const *examples; /* pairs: command line, what it does; ended by NULL */
};

/* All commands, sorted by group as `davit help` shows them; ended by NULL. */
extern const struct davit_command *const davit_commands[];
const struct davit_command *davit_command_find(const char *name);
/* As above, by "name" or "family:verb", and by "family" alone: then *ret_verb is NULL. Of
 * a family without that verb: NULL. */
const struct davit_command *davit_command_meant(const char *name, const struct davit_verb **ret_verb);

/* Options that several commands share. */
extern const struct davit_option davit_options_common[];    /* --help, -o text|json */
extern const struct davit_option davit_options_data[];	    /* --help, -o text|json|yaml */
extern const struct davit_option davit_options_names[];	    /* --help, -o text|json|yaml|names */
extern const struct davit_option davit_options_lines[];	    /* --help, -o text|json (lines) */
extern const struct davit_option davit_options_namespace[]; /* --namespace */
extern const struct davit_option davit_options_runtime[];   /* --runtime */
extern const struct davit_option davit_options_spec[];	    /* one for each key of the spec that has one */

/* ------------------------------------------------------------- one invocation */

enum davit_format {
	DAVIT_FORMAT_TEXT,
	DAVIT_FORMAT_TABLE,
	DAVIT_FORMAT_WIDE,
	DAVIT_FORMAT_JSON,
	DAVIT_FORMAT_YAML,
	DAVIT_FORMAT_NAMES,
};

struct davit_given {
	const struct davit_option *option;
	const char *value; /* borrowed from argv; NULL for a flag */
};

struct davit_cli {
	const struct davit_command *command;
	const struct davit_verb *verb; /* of a family's; set before davit_cli_parse */
	struct davit_given *given;     /* in the order of the command line */
	size_t n_given;
	const char **args; /* arguments that are not options, borrowed from argv */
	size_t n_args;
	char **rest; /* what follows "--", borrowed from argv, NULL-terminated; or NULL */
	enum davit_format format;
	bool usage;    /* the error is the user's way of calling: exit status 2 */
	bool color;    /* standard output is a terminal and NO_COLOR is not set */
	bool tty;      /* standard output is a terminal */
	bool progress; /* standard error is a terminal */
	struct davit_paths paths;
	int64_t started;	     /* wall clock, ns, when this program started */
	struct davit_client *client; /* api.c */
};

/* Parses what follows the command's name. Everything in it is borrowed from
 * argv; davit_cli_fini frees the lists. */
int davit_cli_parse(struct davit_cli *cli, const struct davit_command *command, int argc, char **argv,
		    struct davit_error *err);
void davit_cli_fini(struct davit_cli *cli);

/* Was the option given? The command must know it (asserted). */
bool davit_cli_flag(const struct davit_cli *cli, const char *name);
/* The last value given, or NULL. */
const char *davit_cli_value(const struct davit_cli *cli, const char *name);
/* Value after value: start with *pos = 0; NULL at the end. */
const char *davit_cli_next(const struct davit_cli *cli, const char *name, size_t *pos);
/* A duration's value in ns, or the default. Checked by the parser. */
int64_t davit_cli_duration(const struct davit_cli *cli, const char *name, int64_t deflt_ns);
/* The i-th argument, or NULL. */
const char *davit_cli_arg(const struct davit_cli *cli, size_t i);
/* The option of that name that this command knows, or NULL. */
const struct davit_option *davit_option_find(const struct davit_command *command, const char *name);
/* "--namespace", or "default". */
const char *davit_cli_namespace(const struct davit_cli *cli);

/* Fills *err and marks it as a usage error (exit status 2). */
int davit_cli_usage(struct davit_cli *cli, struct davit_error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* "thread:create": what the user has called. Fills and returns buf. */
char *davit_cli_called(const struct davit_cli *cli, char buf[64]);

/* Prints --help of one command, or the list of all (NULL). */
void davit_cli_help(const struct davit_command *command, FILE *out);

#endif
