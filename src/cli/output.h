/* SPDX-License-Identifier: MIT
 *
 * What commands print: JSON and YAML, tables, ages, colours, errors.
 */
#ifndef DAVIT_CLI_OUTPUT_H
#define DAVIT_CLI_OUTPUT_H

#include "cli/cli.h"

#include <stdint.h>

#define DAVIT_AGE_MAX 24

/* How long ago, for a person: "just now", "42s ago", "3m ago", "5h ago", "2d
 * ago"; a time to come is "in 5s". Fills and returns buf. */
char *davit_age_format(int64_t now_ns, int64_t then_ns, char buf[DAVIT_AGE_MAX]);
/* The wall clock, ns since 1970. */
int64_t davit_now(void);
/* The clock for deadlines, ns, which nobody sets. */
int64_t davit_monotonic(void);
/* A time of the daemon's (RFC 3339) as people read it: its age on a terminal,
 * to the second elsewhere, "-" for none. The text is in buf or is `time`. */
const char *davit_time_text(const struct davit_cli *cli, const char *time, char buf[DAVIT_AGE_MAX + 8]);

/* Writes a value on standard output in cli->format: JSON (indented), YAML. */
int davit_print_value(const struct davit_cli *cli, json_t *value, struct davit_error *err);
/* One line of compact JSON. */
void davit_print_line(json_t *value);
/* yaml.c: a value as a YAML document on `out`. */
int davit_yaml_write(json_t *value, FILE *out, struct davit_error *err);

/* The error on standard error as "davit: message", or with -o json as an object
 * on standard output. Returns the exit status: 2 for a usage error, else 1;
 * with -o json always 1. */
int davit_print_error(const struct davit_cli *cli, const struct davit_error *err);

/* Member of an object as text: "" for null or none; numbers in decimal. Text is
 * borrowed from the object or is in buf. */
const char *davit_text(const json_t *object, const char *key, char buf[24]);
/* Shorthands; "" and 0 when it is not there. */
const char *davit_string(const json_t *object, const char *key);
int64_t davit_integer(const json_t *object, const char *key);

/* A table of text. Columns are as wide as what is in them; on a terminal what
 * does not fit is cut. `tree`: the first column shows the tree of rows. */
struct davit_table;
int davit_table_new(const struct davit_cli *cli, const char *const *columns, size_t n, bool tree,
		    struct davit_table **ret, struct davit_error *err);
void davit_table_free(struct davit_table *t);
static inline void davit_table_freep(struct davit_table **t)
{
	davit_table_free(*t);
}
#define DAVIT_AUTO_TABLE DAVIT_CLEANUP(davit_table_freep) struct davit_table
/* Adds a row below `parent` (NULL: at the top) and returns it, or NULL when out
 * of memory. */
struct libscols_line *davit_table_row(struct davit_table *t, struct libscols_line *parent);
/* Sets a cell; the text is copied. A status is coloured on a terminal. */
int davit_table_set(struct davit_table *t, struct libscols_line *row, size_t column, const char *text);
/* Adds a row for an object, its members `keys` in the columns, and below it those of its
 * "children". DAVIT_ENOMEM. */
int davit_table_add_tree(struct davit_table *t, struct libscols_line *parent, json_t *object,
			 const char *const *keys, size_t n);
/* The whole as text, without the headings when it is empty; a heap string. */
int davit_table_text(struct davit_table *t, char **ret, struct davit_error *err);
int davit_table_print(struct davit_table *t, struct davit_error *err);

#endif
