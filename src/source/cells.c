/* SPDX-License-Identifier: MIT
 *
 * All cells, and which of them is a source's.
 */
#include "source/cell.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/nearest.h"
#include "base/util.h"
#include "source/vars.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

static struct davit_cell *find(const struct davit_cells *cells, const char *name)
{
	for (size_t i = 0; i < cells->n; i++)
		if (!strcmp(cells->v[i]->name, name))
			return cells->v[i];
	return NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct davit_cell *const *)a)->name, (*(struct davit_cell *const *)b)->name);
}

static int add(struct davit_cells *cells, struct davit_cell *c, struct davit_error *err)
{
	struct davit_cell **v = realloc(cells->v, (cells->n + 1) * sizeof(struct davit_cell *));

	if (!v) {
		davit_cell_free(c);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	cells->v = v;
	v[cells->n++] = c;
	return 0;
}

/* A cell that could not be read keeps its name, with the reason as description
 * and nothing to do: one of the same name further down the line must not quietly
 * take its place. */
static struct davit_cell *placeholder(const char *name, const char *why)
{
	struct davit_cell *c = calloc(1, sizeof *c);
	size_t n = strlen(name) + 1, k = strlen(why) + 1;
	char *copy = c ? davit_region_take(&c->region, n + k) : NULL;

	if (!copy) {
		davit_cell_free(c);
		return NULL;
	}
	memcpy(copy, name, n);
	memcpy(copy + n, why, k);
	c->name = copy;
	c->description = copy + n;
	return c;
}

static bool is_placeholder(const struct davit_cell *c)
{
	return !c->run && !c->n_build && !c->dockerfile;
}

static int load_one(struct davit_cells *cells, const char *dir, const char *entry,
		    void (*broken)(const char *, const struct davit_error *), struct davit_error *err)
{
	size_t n = strlen(entry);
	DAVIT_AUTO_FREE char *file = davit_path_join(dir, entry), *name = NULL;
	struct davit_cell *c = NULL;
	struct davit_error why;
	int r;

	if (entry[0] == '.' || n <= 5 || strcmp(entry + n - 5, ".yaml"))
		return 0;
	name = strndup(entry, n - 5);
	if (!name || !file)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (find(cells, name))
		return 0;
	r = davit_cell_read(file, &c, &why);
	if (r == DAVIT_ENOMEM)
		return davit_error_copy(err, &why);
	if (r < 0) {
		broken(name, &why);
		c = placeholder(name, why.message);
		if (!c)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	return add(cells, c, err);
}

int davit_cells_load(struct davit_cells *cells, const char *dir,
		     void (*broken)(const char *name, const struct davit_error *why), struct davit_error *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int r = 0;

	if (!d && errno == ENOENT)
		return 0;
	if (!d)
		return davit_error_errno(err, errno, NULL, "cannot read the cells in %s", dir);
	while (r == 0 && (e = readdir(d)))
		r = load_one(cells, dir, e->d_name, broken, err);
	closedir(d);
	if (cells->n)
		qsort(cells->v, cells->n, sizeof *cells->v, by_name);
	return r;
}

void davit_cells_fini(struct davit_cells *cells)
{
	for (size_t i = 0; i < cells->n; i++)
		davit_cell_free(cells->v[i]);
	free(cells->v);
	*cells = (struct davit_cells){0};
}

/* --- detection --- */

static int by_type(const struct davit_cells *cells, const struct davit_cell_wish *wish,
		   const struct davit_cell **ret, struct davit_error *err)
{
	const char *type = wish->type;
	DAVIT_AUTO_BUF names = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE const char **words = calloc(cells->n + 1, sizeof *words);
	const char *near;

	if (!words)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret = find(cells, type);
	if (*ret && is_placeholder(*ret))
		return davit_error_set(err, DAVIT_ESOURCE, "type", "%s", (*ret)->description);
	if (*ret && (*ret)->dockerfile && wish->no_images)
		return davit_error_set(err, DAVIT_ENOTSUP, "type", "cell %s makes an image: %s", type,
				       wish->no_images);
	if (*ret)
		return 0;
	for (size_t i = 0; i < cells->n; i++) {
		words[i] = cells->v[i]->name;
		davit_buf_addf(&names, "%s%s", i ? ", " : "", words[i]);
	}
	near = davit_nearest(type, words, cells->n);
	return davit_error_set(err, DAVIT_ESOURCE, "type", "there is no cell '%.64s'%s%s%s; there are: %s",
			       type, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "",
			       davit_buf_str(&names));
}

/* The first pattern of the cell that matches, or NULL. */
static int match(const struct davit_cell *c, const struct davit_vars *vars, const char **ret,
		 struct davit_error *err)
{
	*ret = NULL;
	for (char **p = c->detect; p && *p; p++) {
		int r = davit_pattern_matches(vars, *p, err);
		if (r < 0)
			return r;
		if (r) {
			*ret = *p;
			return 0;
		}
	}
	return 0;
}

static int none(const struct davit_cells *cells, const struct davit_cell_wish *wish, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	for (size_t i = 0; i < cells->n; i++)
		if (cells->v[i]->detect && !(cells->v[i]->dockerfile && wish->no_images))
			davit_buf_addf(&b, "%s%s (%s)", b.len ? ", " : "", cells->v[i]->name,
				       cells->v[i]->detect[0]);
	return davit_error_set(err, DAVIT_ESOURCE, "source",
			       "no cell recognises the source; there are: %s. Name one with --type",
			       davit_buf_str(&b));
}

int davit_cells_detect(const struct davit_cells *cells, const struct davit_cell_wish *wish,
		       const struct davit_cell **ret, const char **ret_found, struct davit_error *err)
{
	const struct davit_vars vars = {.source = wish->root, .name = wish->name};
	const struct davit_cell *best = NULL, *rival = NULL;
	const char *found, *best_found = NULL, *left_out = NULL;
	int r;

	if (wish->type && *wish->type) {
		r = by_type(cells, wish, &best, err);
		if (r < 0)
			return r;
		*ret = best;
		*ret_found = NULL;
		return 0;
	}
	for (size_t i = 0; i < cells->n; i++) {
		const struct davit_cell *c = cells->v[i];
		r = match(c, &vars, &found, err);
		if (r < 0)
			return r;
		if (found && c->dockerfile && wish->no_images) {
			left_out = found;
			continue;
		}
		if (!found || (best && c->priority < best->priority))
			continue;
		rival = best && c->priority == best->priority ? best : NULL;
		best = c;
		best_found = found;
	}
	if (rival)
		return davit_error_set(
			err, DAVIT_ESOURCE, "source",
			"both cell '%s' and cell '%s' (%s) recognise the source: name one with --type",
			rival->name, best->name, best_found);
	if (!best && left_out)
		return davit_error_set(err, DAVIT_ENOTSUP, "source",
				       "the source has a %.64s and nothing else that can be built: %s",
				       left_out, wish->no_images);
	if (!best)
		return none(cells, wish, err);
	*ret = best;
	*ret_found = best_found;
	return 0;
}
