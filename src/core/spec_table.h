/* SPDX-License-Identifier: MIT
 *
 * The table of a spec's options. Reading, writing, copying, checking and the
 * documentation all walk it, so that an option is a row here, a member of struct
 * davit_spec, and nothing else. Internal to spec*.c
 * and to workload_egress.c.
 */
#ifndef DAVIT_CORE_SPEC_TABLE_H
#define DAVIT_CORE_SPEC_TABLE_H

#include "base/tree.h"
#include "base/util.h"
#include "davit/spec.h"

enum davit_spec_type {
	DAVIT_TYPE_STRING,  /* char *, never empty unless `empty` is set */
	DAVIT_TYPE_CHARS,   /* char[size] */
	DAVIT_TYPE_STRINGS, /* char **, NULL-terminated */
	DAVIT_TYPE_INT,	    /* of `size` bytes, within [min, max]; signed when min < 0 or 8 bytes */
	DAVIT_TYPE_BOOL,
	DAVIT_TYPE_NUMBER,   /* double, at most six decimals */
	DAVIT_TYPE_SIZE,     /* uint64_t, bytes */
	DAVIT_TYPE_DURATION, /* int64_t, ns, within [min, max] */
	DAVIT_TYPE_CPU,	     /* int64_t, millicores */
	DAVIT_TYPE_ENUM,     /* of `size` bytes: index into `values` */
	DAVIT_TYPE_SIGNAL,   /* int */
	DAVIT_TYPE_EXITS,    /* struct davit_ints */
	DAVIT_TYPE_ITEMS,    /* array of `item` behind a pointer, its length at offset_n */
};

/* A row: an option of the spec, or a key of one of its items. */
struct davit_spec_row {
	const char *path; /* from the root, "restart.backoff.max"; of an item: the key */
	enum davit_spec_type type;
	const char *member;    /* of the struct */
	uint16_t offset, size; /* of the member */
	uint16_t offset_n;     /* ITEMS */
	uint8_t kinds;	       /* bit set of 1 << enum davit_kind */
	bool replaces;	       /* a change replaces instances: part of davit_spec_hash */
	bool is_short;	       /* a bare value for the group means this row */
	bool empty;	       /* STRING: the empty string is a value */
	const char *values;    /* ENUM: "a|b|c" in the order of the enum */
	int64_t min, max;      /* INT, DURATION, NUMBER (whole); ITEMS: most, 0 for any */
	/* STRINGS: checks one and replaces it by the form that is stored, in the region or
	 * static; the message of a refusal is without a path. */
	int (*each)(struct davit_region *a, const char *text, const char **ret, struct davit_error *err);
	const struct davit_spec_item *item; /* ITEMS */
	const char *deflt, *flag, *doc;
};

/* What an ITEMS row is a list of. */
struct davit_spec_item {
	const char *type; /* for the documentation: "list of ports" */
	size_t size;
	bool any_first;			   /* else the first of the keys must be given if it is a STRING */
	const struct davit_spec_row *rows; /* keys of the long form */
	size_t n_rows;
	/* The short form. text is in the region and stays; *why says in a few words
	 * what it should have been. 0, DAVIT_EINVAL or DAVIT_ENOMEM. */
	int (*from_text)(struct davit_region *a, const char *text, void *item, struct davit_error *err);
	/* Set for what is a map from names to texts (then it is written as one,
	 * and from_text is for "NAME=value" in a list). */
	int (*from_pair)(const char *name, const char *text, void *item, struct davit_error *err);
	const char *(*pair_name)(const void *item);
	/* The text of an item; in buf if it is not a string of the item itself. */
	const char *(*pair_text)(const void *item, char buf[64]);
};

extern const struct davit_spec_row davit_spec_rows[];
extern const size_t davit_spec_n_rows;

/* A spec with every default set; static, its strings too. */
const struct davit_spec *davit_spec_defaults(void);

/* "Service", ... */
const char *davit_spec_kind_name(enum davit_kind k);
/* "list of strings", "duration", ...; as davit_spec_field.type. */
const char *davit_spec_type_name(const struct davit_spec_row *row);

static inline void *davit_spec_at(const struct davit_spec_row *row, const void *base)
{
	return (char *)base + row->offset;
}
static inline size_t *davit_spec_n(const struct davit_spec_row *row, const void *base)
{
	return (size_t *)(void *)((char *)base + row->offset_n);
}

/* Members of `size` bytes as one integer. */
int64_t davit_spec_load(const struct davit_spec_row *row, const void *base);
void davit_spec_store(const struct davit_spec_row *row, void *base, int64_t v);

/* The word number v of an enum's values, into buf. */
const char *davit_spec_word(const char *values, int64_t v, char buf[32]);

/* Reads the text of a scalar row into its place; a STRING keeps the pointer.
 * err->message says what is wrong with the text, without a path. */
int davit_spec_read_scalar(const struct davit_spec_row *row, const char *text, void *base,
			   struct davit_error *err);
/* Reads a tree into *s, which holds the defaults; everything that s then points
 * to is in the region. err has position, path and a message with the path. */
int davit_spec_read(struct davit_region *a, const struct davit_tree *t, struct davit_spec *s,
		    struct davit_error *err);

/* Fills err with "path: message", the path as the place; returns DAVIT_EINVAL. */
int davit_spec_bad(struct davit_error *err, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* What the table cannot say of `health` (spec_health.c). */
int davit_spec_check_health(const struct davit_spec *s, struct davit_error *err);
/* spec_egress.c: its own policy; then whether a service can have one at all. `who` says so: "egress.policy
 * deny", "the policy of namespace acme". */
int davit_spec_check_egress(const struct davit_spec *s, struct davit_error *err);
int davit_spec_check_confined(const struct davit_spec *s, const char *who, struct davit_error *err);

/* For rows of texts: an IP address; a Linux capability ("net_admin" becomes
 * "CAP_NET_ADMIN"), where an unknown one has its nearest. */
int davit_spec_address(struct davit_region *a, const char *text, const char **ret, struct davit_error *err);
int davit_spec_host(struct davit_region *a, const char *text, const char **ret, struct davit_error *err);
int davit_spec_linux_capability(struct davit_region *a, const char *text, const char **ret,
				struct davit_error *err);

/* A deep copy in one allocation; NULL when out of memory. */
struct davit_spec *davit_spec_pack(const struct davit_spec *s);

#endif
