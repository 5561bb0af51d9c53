/* SPDX-License-Identifier: MIT
 *
 * A resource in a file of its own, for davit check, get and put.
 */
#include "step/resource_file.h"

#include "base/file.h"
#include "step/pipeline.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX ((size_t)4 << 20)

void davit_resource_file_fini(struct davit_resource_file *f)
{
	free(f->type);
	free(f->image);
	free(f->runtime);
	json_decref(f->source);
	*f = (struct davit_resource_file){0};
}

/* The directory of the type, which the file names relative to itself. */
static int find_type(const struct davit_tree *type, const char *path, char **ret, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *dir = strdup(path), *joined = NULL;
	const char *text;
	struct stat st;
	char *slash;
	int r = davit_tree_text(type, "type", &text, err);

	if (r < 0)
		return r;
	slash = dir ? strrchr(dir, '/') : NULL;
	if (slash)
		slash[slash == dir] = '\0';
	joined = dir ? davit_path_join(slash ? dir : ".", text) : NULL;
	if (!joined)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (stat(joined, &st) < 0 || !S_ISDIR(st.st_mode))
		return davit_tree_error(
			err, type->line, type->column, "type",
			"type must be a directory with the programs check, in and out; %.200s is none",
			joined);
	*ret = realpath(joined, NULL);
	return *ret ? 0 : davit_error_errno(err, errno, "type", "cannot resolve %s", joined);
}

static int copy_text(const struct davit_tree *t, const char *key, char **ret, struct davit_error *err)
{
	const char *text;
	int r = davit_tree_text(t, key, &text, err);

	if (r < 0)
		return r;
	*ret = strdup(text);
	return *ret ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int read_tree(const struct davit_tree *t, const char *path, struct davit_resource_file *f,
		     struct davit_error *err)
{
	static const char *const known[] = {"name", "type", "image", "runtime", "source", NULL};
	const struct davit_tree *type = davit_tree_get(t, "type"), *source = davit_tree_get(t, "source");
	const struct davit_tree *image = davit_tree_get(t, "image"), *runtime = davit_tree_get(t, "runtime");
	int r = davit_tree_known(t, "a resource", known, err);

	if (r == 0 && !type == !image)
		r = davit_tree_error(err, t->line, t->column, "type",
				     "a resource needs a type, which is a directory, or an image");
	if (r == 0 && runtime && !image)
		r = davit_tree_error(err, runtime->line, runtime->column, "runtime",
				     "programs of a directory run on this host: only an image has a runtime");
	if (r == 0 && source && source->kind != DAVIT_TREE_MAP)
		r = davit_tree_error(err, source->line, source->column, "source", "source must be a map");
	if (r == 0 && type)
		r = find_type(type, path, &f->type, err);
	if (r == 0 && image)
		r = copy_text(image, "image", &f->image, err);
	if (r == 0 && runtime)
		r = copy_text(runtime, "runtime", &f->runtime, err);
	if (r == 0 && source)
		r = davit_tree_json(source, &f->source, err);
	return r;
}

int davit_resource_file_read(const char *path, struct davit_resource_file *ret, struct davit_error *err)
{
	struct davit_resource_file f = {0};
	struct davit_region region = {0};
	struct davit_tree_source source;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct davit_tree *t = NULL;
	int r = davit_read_file(path, FILE_MAX, &text, err);

	if (r < 0)
		return r;
	r = davit_tree_open(&source, davit_buf_str(&text), text.len, err);
	if (r < 0)
		return r;
	r = davit_tree_next(&source, &region, &t, err);
	if (r == 0)
		r = davit_error_set(err, DAVIT_EINVAL, NULL, "%s is empty", path);
	if (r > 0)
		r = read_tree(t, path, &f, err);
	davit_tree_close(&source);
	davit_region_fini(&region);
	if (r < 0) {
		davit_resource_file_fini(&f);
		return r;
	}
	*ret = f;
	return 0;
}
