/* SPDX-License-Identifier: MIT
 *
 * Text from people turned into lists: command lines, environment files, names.
 */
#ifndef DAVIT_CLI_WORDS_H
#define DAVIT_CLI_WORDS_H

#include "base/buf.h"
#include "davit/error.h"

/* Splits text into words at blanks. '...' is literal, "..." knows \" and \\,
 * elsewhere a backslash takes the next character as it is. Nothing is expanded
 * and no shell is asked. Appends to *words (base/strv.h). DAVIT_EINVAL for a
 * quote without its end or a backslash at the end. */
int davit_words_split(const char *text, char ***words, struct davit_error *err);
/* Whether davit_words_split would succeed. */
int davit_words_check(const char *text, struct davit_error *err);

/* Reads an environment file: NAME=VALUE a line, in order, values as they are
 * but for one pair of quotes around the whole ("..." knows \n \t \" \\). Blank
 * lines and those that start with '#' are skipped, "export " before a name is
 * allowed. Calls fn for each, which fails with a message; a bad line is DAVIT_EINVAL
 * with "file:line: ". `file` is for messages. */
int davit_env_parse(const char *text, const char *file,
		    int (*fn)(void *user, const char *name, const char *value, struct davit_error *err),
		    void *user, struct davit_error *err);

/* A service's name from a path or URL: "/srv/My App/" gives "My-App",
 * "host/a/web.git@v2" gives "web". DAVIT_EINVAL when nothing usable is left.
 * *ret is a heap string. */
int davit_name_from_source(const char *source, char **ret, struct davit_error *err);

#endif
