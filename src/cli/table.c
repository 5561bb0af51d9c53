/* SPDX-License-Identifier: MIT */
#include "cli/output.h"

#include <libsmartcols/libsmartcols.h>
#include <string.h>

struct davit_table {
	struct libscols_table *scols;
	bool color;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

int davit_table_new(const struct davit_cli *cli, const char *const *columns, size_t n, bool tree,
		    struct davit_table **ret, struct davit_error *err)
{
	struct davit_table *t = calloc(1, sizeof *t);

	if (!t || !(t->scols = scols_new_table())) {
		free(t);
		return no_memory(err);
	}
	t->color = cli->color;
	scols_table_enable_noencoding(t->scols, 0);
	scols_table_set_column_separator(t->scols, "  ");
	/* Cut to the terminal's width; whole where a program reads it. */
	if (!cli->tty)
		scols_table_set_termforce(t->scols, SCOLS_TERMFORCE_NEVER);
	if (t->color)
		scols_table_enable_colors(t->scols, 1);
	for (size_t i = 0; i < n; i++)
		if (!scols_table_new_column(t->scols, columns[i], 0,
					    (tree && i == 0 ? SCOLS_FL_TREE : 0) |
						    (cli->tty ? SCOLS_FL_TRUNC : 0))) {
			davit_table_free(t);
			return no_memory(err);
		}
	*ret = t;
	return 0;
}

void davit_table_free(struct davit_table *t)
{
	if (!t)
		return;
	scols_unref_table(t->scols);
	free(t);
}

struct libscols_line *davit_table_row(struct davit_table *t, struct libscols_line *parent)
{
	return scols_table_new_line(t->scols, parent);
}

/* Words of a status that deserve a colour. */
static const char *color_of(const char *text)
{
	static const struct {
		const char *word, *color;
	} colors[] = {
		{"running", "green"},  {"error", "red"},       {"failed", "red"},      {"starting", "yellow"},
		{"pending", "yellow"}, {"building", "yellow"}, {"stopping", "yellow"},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(colors); i++)
		if (!strcmp(colors[i].word, text))
			return colors[i].color;
	return NULL;
}

int davit_table_set(struct davit_table *t, struct libscols_line *row, size_t column, const char *text)
{
	const char *color = t->color ? color_of(text) : NULL;

	if (!row)
		return DAVIT_ENOMEM;
	if (color)
		scols_cell_set_color(scols_line_get_cell(row, column), color);
	return scols_line_set_data(row, column, text) ? DAVIT_ENOMEM : 0;
}

int davit_table_add_tree(struct davit_table *t, struct libscols_line *parent, json_t *object,
			 const char *const *keys, size_t n)
{
	struct libscols_line *row = davit_table_row(t, parent);
	char number[24];
	json_t *child;
	size_t i;
	int r = 0;

	for (size_t k = 0; k < n; k++)
		r |= davit_table_set(t, row, k, davit_text(object, keys[k], number));
	json_array_foreach(json_object_get(object, "children"), i, child) r |=
		davit_table_add_tree(t, row, child, keys, n);
	return r ? DAVIT_ENOMEM : 0;
}

/* Ends each line at its last character, and the last one with a newline. The
 * text has room for one byte more. */
static void trim(char *text)
{
	char *out = text;

	for (char *p = text, *end; *p; p = end) {
		size_t n = strcspn(p, "\n"), keep = n;
		bool last = !p[n];
		end = p + n + !last;
		while (keep && p[keep - 1] == ' ')
			keep--;
		memmove(out, p, keep);
		out += keep;
		*out++ = '\n';
		if (last)
			break;
	}
	*out = '\0';
}

int davit_table_text(struct davit_table *t, char **ret, struct davit_error *err)
{
	char *text = NULL, *more;

	if (!scols_table_get_nlines(t->scols))
		text = strdup("");
	else if (scols_print_table_to_string(t->scols, &text) != 0)
		text = NULL;
	more = text ? realloc(text, strlen(text) + 2) : NULL;
	if (!more) {
		free(text);
		return no_memory(err);
	}
	text = more;
	trim(text);
	*ret = text;
	return 0;
}

int davit_table_print(struct davit_table *t, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *text = NULL;
	int r = davit_table_text(t, &text, err);

	if (r == 0 && text[0])
		fputs(text, stdout);
	return r;
}
