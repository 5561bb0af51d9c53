/* SPDX-License-Identifier: MIT
 *
 * A cell says how sources of one kind are built and run. It is a YAML file, not
 * code; docs/cells.md describes it for those who write one.
 */
#ifndef DAVIT_SOURCE_CELL_H
#define DAVIT_SOURCE_CELL_H

#include "base/tree.h"
#include "davit/error.h"
#include "source/snapshot.h"

#include <stdbool.h>

/* A program that a cell needs, and the Debian package that has it. */
struct davit_cell_dependency {
	const char *program;
	const char *package;
	const char *when; /* pattern; NULL: always */
};

/* A command. Words may have ${variables} in them. */
struct davit_cell_step {
	const char *when;   /* pattern that must match; NULL: none */
	const char *unless; /* pattern that must not match; NULL: none */
	char **argv;	    /* NULL-terminated */
};

/* All strings and vectors are in the region; vectors are NULL-terminated or
 * NULL when the key is not given. */
struct davit_cell {
	struct davit_region region;
	const char *name;
	const char *description;
	const char *file;      /* where it was read from */
	const char *directory; /* of its helper files: the file's name without .yaml */
	const char *image;     /* for runtimes that carry images */
	const char *port;      /* variable with the port that the program serves */
	const char *cwd;       /* where it runs; default ${SOURCE} */
	int priority;
	bool uses_name; /* the name of the service is part of the build */
	char **detect;	/* patterns */
	char **ignore;	/* names in the source that are not source */
	char **program; /* patterns, in order, that find ${PROGRAM} */
	char **run;
	char **dockerfile; /* patterns, in order, that find it; given: the cell makes an image */
	char **env;	   /* NAME=value, of the running program and of the build */
	char **build_env;  /* NAME=value, of the build alone */
	struct davit_cell_dependency *dependencies;
	size_t n_dependencies;
	struct davit_cell_step *build;
	size_t n_build;
	struct davit_cell_step *versions;
	size_t n_versions;
	char hash[DAVIT_HASH_MAX]; /* of the file and its helper files */
};

/* Reads one cell from file. On failure the message begins with FILE:LINE:COLUMN.
 * The caller frees with davit_cell_free. */
int davit_cell_read(const char *file, struct davit_cell **ret, struct davit_error *err);
void davit_cell_free(struct davit_cell *c);

struct davit_cells {
	struct davit_cell **v; /* sorted by name */
	size_t n;
};

/* Adds the cells of dir/NAME.yaml that are not there yet by name: load the more
 * important directory first. A cell that cannot be read takes its name all the
 * same and is reported to `broken`, so that one bad file stops nobody else. A
 * directory that does not exist has no cells. */
int davit_cells_load(struct davit_cells *cells, const char *dir,
		     void (*broken)(const char *name, const struct davit_error *why),
		     struct davit_error *err);
void davit_cells_fini(struct davit_cells *cells);

/* What a cell is chosen for. Borrowed strings. */
struct davit_cell_wish {
	const char *root;      /* the tree */
	const char *type;      /* the name of a cell; NULL or empty: the one that recognises the tree */
	const char *name;      /* of the service */
	const char *no_images; /* why cells that make images are none of the choice; NULL: they are */
};

/* The cell named `type`, or the one that recognises the tree: of those with a
 * pattern that matches, the one of the highest priority. *ret_found is that
 * pattern, or NULL for a cell that was named. Two with the same priority, none, or
 * an unknown name: DAVIT_ESOURCE with what to do. */
int davit_cells_detect(const struct davit_cells *cells, const struct davit_cell_wish *wish,
		       const struct davit_cell **ret, const char **ret_found, struct davit_error *err);

#endif
