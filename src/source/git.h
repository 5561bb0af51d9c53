/* SPDX-License-Identifier: MIT
 *
 * Fetching from git repositories, with git as a program.
 */
#ifndef DAVIT_SOURCE_GIT_H
#define DAVIT_SOURCE_GIT_H

#include "source/source.h"

#include <stdint.h>
#include <stdio.h>

struct davit_git {
	char *const *env;	 /* what git is given, before our own settings */
	const char *credentials; /* file for davit_git_askpass; NULL: none */
	const char *askpass;	 /* program that runs davit_git_askpass */
	int64_t deadline;	 /* monotonic ns; 0: none */
};

/* Checks the source's ref out into the directory `to`, which is made. Fetches one
 * commit where the server can. *ret_revision is its full hash, a heap string.
 * DAVIT_ESOURCE with git's own reason when it cannot be had, DAVIT_ENOENT when
 * the server says that there is no such repository. Blocks. */
int davit_git_fetch(const struct davit_git *git, const struct davit_source *source, const char *to,
		    char **ret_revision, struct davit_error *err);

/* git's question "Username for 'https://host': " or "Password for
 * 'https://user@host': ", answered to `out` from a file of lines
 * https://USER:PASSWORD@HOST[:PORT] with percent escapes. DAVIT_ENOENT when there
 * is no line for that scheme and host. */
int davit_git_askpass(const char *prompt, const char *file, FILE *out, struct davit_error *err);

#endif
