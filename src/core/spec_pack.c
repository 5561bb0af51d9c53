/* SPDX-License-Identifier: MIT
 *
 * A spec in one allocation: measured first, then copied. A daemon holds many of
 * them for a long time, so they carry no slack.
 */
#include "core/spec_table.h"

#include "base/strv.h"

#include <string.h>

struct packer {
	char *base; /* NULL while measuring */
	size_t used;
};

static void *take(struct packer *p, size_t n, size_t align)
{
	void *at;

	p->used = (p->used + align - 1) & ~(align - 1);
	at = p->base ? p->base + p->used : NULL;
	p->used += n;
	return at;
}

static char *pack_string(struct packer *p, const char *s)
{
	size_t n = strlen(s) + 1;
	char *at = take(p, n, 1);

	if (at)
		memcpy(at, s, n);
	return at;
}

static void *pack_array(struct packer *p, const void *v, size_t n)
{
	void *at = n ? take(p, n, sizeof(void *)) : NULL;

	if (at)
		memcpy(at, v, n);
	return at;
}

static void pack_row(struct packer *p, const struct davit_spec_row *row, const void *from, void *to);

static void pack_items(struct packer *p, const struct davit_spec_row *row, const void *from, void *to)
{
	const char *v = *(const char **)davit_spec_at(row, from);
	size_t n = *davit_spec_n(row, from), size = row->item->size;
	char *at = pack_array(p, v, n * size);

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < row->item->n_rows; k++)
			pack_row(p, &row->item->rows[k], v + i * size, at ? at + i * size : NULL);
	if (to)
		*(void **)davit_spec_at(row, to) = at;
}

static void pack_strings(struct packer *p, const struct davit_spec_row *row, const void *from, void *to)
{
	char **v = *(char ***)davit_spec_at(row, from), **at;
	size_t n = davit_strv_len(v);

	if (!v)
		return;
	at = pack_array(p, v, (n + 1) * sizeof *v);
	for (size_t i = 0; i < n; i++) {
		char *s = pack_string(p, v[i]);
		if (at)
			at[i] = s;
	}
	if (to)
		*(char ***)davit_spec_at(row, to) = at;
}

/* Copies what the row points to; *to is a flat copy already, or NULL. */
static void pack_row(struct packer *p, const struct davit_spec_row *row, const void *from, void *to)
{
	const char *s;
	const struct davit_ints *ints;
	void *at;

	switch (row->type) {
	case DAVIT_TYPE_STRING:
		s = *(const char **)davit_spec_at(row, from);
		at = s ? pack_string(p, s) : NULL;
		if (to)
			*(void **)davit_spec_at(row, to) = at;
		break;
	case DAVIT_TYPE_STRINGS:
		pack_strings(p, row, from, to);
		break;
	case DAVIT_TYPE_EXITS:
		ints = davit_spec_at(row, from);
		at = pack_array(p, ints->v, ints->n * sizeof *ints->v);
		if (to)
			((struct davit_ints *)davit_spec_at(row, to))->v = at;
		break;
	case DAVIT_TYPE_ITEMS:
		pack_items(p, row, from, to);
		break;
	default:
		break;
	}
}

static void pack(struct packer *p, const struct davit_spec *from)
{
	struct davit_spec *to = pack_array(p, from, sizeof *from);

	for (size_t i = 0; i < davit_spec_n_rows; i++)
		pack_row(p, &davit_spec_rows[i], from, to);
}

struct davit_spec *davit_spec_pack(const struct davit_spec *s)
{
	struct packer p = {0};

	pack(&p, s);
	p.base = malloc(p.used);
	if (!p.base)
		return NULL;
	p.used = 0;
	pack(&p, s);
	return (struct davit_spec *)(void *)p.base;
}
