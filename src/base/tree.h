/* SPDX-License-Identifier: MIT
 *
 * YAML and JSON as a tree of keys and values with their positions, so that whoever
 * reads them can say where something is wrong. Texts of people: specs, cells. What
 * makes YAML a trap (anchors, tags, words that are bools) is refused or not done.
 */
#ifndef DAVIT_BASE_TREE_H
#define DAVIT_BASE_TREE_H

#include "base/map.h"
#include "base/region.h"
#include "davit/error.h"

#include <yaml.h>

#define DAVIT_TREE_DEPTH_MAX 32
#define DAVIT_TREE_NODES_MAX 20000 /* of one spec: bounds the memory that a text can cost */

enum davit_tree_kind { DAVIT_TREE_SCALAR, DAVIT_TREE_MAP, DAVIT_TREE_LIST };

/* A value. Everything is in the region. Lines and columns count from 1, columns
 * in characters. */
struct davit_tree {
	enum davit_tree_kind kind;
	bool quoted; /* a scalar in quotes, which is therefore a string */
	unsigned line, column;
	const char *key; /* in a map; else NULL */
	unsigned key_line, key_column;
	const char *text;		 /* of a scalar, without NUL inside */
	struct davit_tree *first, *last; /* children of a map or list, in order */
	struct davit_tree *next;	 /* sibling */
	size_t n;			 /* number of children */
};

/* `null`, `~` or nothing: the key is there but no value was given. */
bool davit_tree_is_null(const struct davit_tree *t);

/* Fills err with DAVIT_EINVAL and a position. Control characters in what the
 * user wrote are shown as '?', for messages end up on terminals. */
int davit_tree_error(struct davit_error *err, unsigned line, unsigned column, const char *where,
		     const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* ------------------------------------------------------------------ the readers */

/* A map under construction, for the check that keys are unique. */
struct davit_tree_keys {
	struct davit_map seen; /* used once there are many */
};

struct davit_json_in {
	const char *p, *end;
	const char *mark; /* line and column are those of this place */
	unsigned line, column;
	size_t nodes;
	struct davit_region *region;
	struct davit_error *err;
	bool list, started, ended;
};

struct davit_yaml_in {
	yaml_parser_t parser;
	const char *text;
	size_t nodes;
	struct davit_region *region;
	struct davit_error *err;
	bool open;    /* parser was initialised */
	bool in_list; /* within a document that is a list of specs */
};

struct davit_tree_source {
	bool is_json;
	struct davit_json_in json;
	struct davit_yaml_in yaml;
};

/* Starts reading text, which is borrowed until close. Checks that it is UTF-8
 * without NUL. A text whose first character is '{' or '[' is JSON, to the
 * letter; any other is YAML. */
int davit_tree_open(struct davit_tree_source *s, const char *text, size_t len, struct davit_error *err);
/* The next spec: 1 with *ret in the region, 0 at the end, or a code. */
int davit_tree_next(struct davit_tree_source *s, struct davit_region *region, struct davit_tree **ret,
		    struct davit_error *err);
void davit_tree_close(struct davit_tree_source *s);

/* For the readers: a new node, or NULL with err filled (memory, too many). */
struct davit_tree *davit_tree_new(struct davit_region *region, enum davit_tree_kind kind, unsigned line,
				  unsigned column, size_t *nodes, struct davit_error *err);
/* Appends child to parent; for a map, refuses a key that is there already. */
int davit_tree_add(struct davit_tree *parent, struct davit_tree *child, struct davit_tree_keys *keys,
		   struct davit_error *err);

void davit_json_in_open(struct davit_json_in *in, const char *text, size_t len);
int davit_json_in_next(struct davit_json_in *in, struct davit_tree **ret);
int davit_yaml_in_open(struct davit_yaml_in *in, const char *text, size_t len, struct davit_error *err);
int davit_yaml_in_next(struct davit_yaml_in *in, struct davit_tree **ret);
void davit_yaml_in_close(struct davit_yaml_in *in);

#endif
