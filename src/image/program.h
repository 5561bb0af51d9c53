/* SPDX-License-Identifier: MIT
 *
 * The program's own: options, and the table of commands.
 */
#ifndef DAVIT_IMAGE_PROGRAM_H
#define DAVIT_IMAGE_PROGRAM_H

#include "image/image.h"

struct program_options {
	const char *store, *reference, *select, *directory, *user, *dockerfile;
	struct davit_image_limits limits;
	char **env, **entrypoint, **command;
	bool json, force;
	enum davit_image_format format;
	char **args;
	int n_args;
};

struct program_command {
	const char *name, *arguments;
	const char *options; /* letters of those that it has, beside --store */
	int min, max;
	int (*run)(struct davit_image_store *s, const struct program_options *o, struct davit_error *err);
	const char *help;
};

/* Ends with an entry without a name. */
extern const struct program_command program_commands[];

#endif
