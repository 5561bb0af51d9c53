/* SPDX-License-Identifier: MIT
 *
 * What stands between the text of a spec and the table: the keys and values of
 * one spec with their positions, whether they came from YAML or from JSON.
 * Internal to spec*.c.
 */
#ifndef DAVIT_CORE_SPEC_TREE_H
#define DAVIT_CORE_SPEC_TREE_H

#include "base/map.h"
#include "davit/error.h"

#include <yaml.h>

#define DAVIT_TREE_DEPTH_MAX 32
#define DAVIT_TREE_NODES_MAX 20000 /* of one spec: bounds the memory that a text can cost */

/* Memory that is given back all at once. */
struct davit_arena {
	struct davit_arena_chunk *chunks;
	char *at;
	size_t left;
};

/* n bytes aligned for anything, or NULL when out of memory. Not cleared. */
void *davit_arena_alloc(struct davit_arena *a, size_t n);
/* Frees everything but one chunk, which the next allocations use. */
void davit_arena_reset(struct davit_arena *a);
void davit_arena_fini(struct davit_arena *a);

enum davit_tree_kind { DAVIT_TREE_SCALAR, DAVIT_TREE_MAP, DAVIT_TREE_LIST };

/* A value. Everything is in the arena. Lines and columns count from 1, columns
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
	struct davit_arena *arena;
	struct davit_error *err;
	bool list, started, ended;
};

struct davit_yaml_in {
	yaml_parser_t parser;
	const char *text;
	size_t nodes;
	struct davit_arena *arena;
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
/* The next spec: 1 with *ret in the arena, 0 at the end, or a code. */
int davit_tree_next(struct davit_tree_source *s, struct davit_arena *arena, struct davit_tree **ret,
		    struct davit_error *err);
void davit_tree_close(struct davit_tree_source *s);

/* For the readers: a new node, or NULL with err filled (memory, too many). */
struct davit_tree *davit_tree_new(struct davit_arena *arena, enum davit_tree_kind kind, unsigned line,
				  unsigned column, size_t *nodes, struct davit_error *err);
/* Appends child to parent; for a map, refuses a key that is there already. */
int davit_tree_add(struct davit_tree *parent, struct davit_tree *child, struct davit_tree_keys *keys,
		   struct davit_error *err);

/* ------------------------------------------------------------------- the whole */

struct davit_spec;

/* A record of the store: {"spec": {}, "created": n, "updated": n, "nonce": n}, read in
 * one go, for a start of the daemon reads all of them. Numbers that are missing are 0.
 * The spec is the caller's. Codes: DAVIT_EINVAL, DAVIT_ENOMEM. */
struct davit_spec_record {
	struct davit_spec *spec;
	int64_t created, updated, nonce;
};
int davit_spec_read_record(const char *text, size_t len, struct davit_spec_record *ret,
			   struct davit_error *err);

void davit_json_in_open(struct davit_json_in *in, const char *text, size_t len);
int davit_json_in_next(struct davit_json_in *in, struct davit_tree **ret);
int davit_yaml_in_open(struct davit_yaml_in *in, const char *text, size_t len, struct davit_error *err);
int davit_yaml_in_next(struct davit_yaml_in *in, struct davit_tree **ret);
void davit_yaml_in_close(struct davit_yaml_in *in);

#endif
