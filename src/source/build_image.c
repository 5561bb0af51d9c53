/* SPDX-License-Identifier: MIT
 *
 * A source with a Dockerfile becomes an image. The context is a source like others, in
 * the cache by its content; the image is the runtime's, and the cache has its name.
 */
#include "base/file.h"
#include "base/strv.h"
#include "base/units.h"
#include "source/build_impl.h"
#include "source/image.h"
#include "source/run.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The Dockerfile's path below `root`. */
static int find_dockerfile(struct build *b, const char *root)
{
	const struct davit_vars vars = {.source = root, .name = b->request->name};

	for (char **p = b->cell->dockerfile; *p && !b->dockerfile; p++) {
		DAVIT_AUTO_STRV found = NULL;
		int r = davit_pattern_find(&vars, *p, &found, b->err);
		if (r < 0)
			return r;
		if (found && !(b->dockerfile = strdup(found[0] + strlen(root) + 1)))
			return build_no_memory(b);
	}
	if (!b->dockerfile)
		return davit_error_set(b->err, DAVIT_EBUILD, "source",
				       "cell %s finds no Dockerfile: it looks for %s", b->cell->name,
				       b->cell->dockerfile[0]);
	return 0;
}

/* The file with the rules: podman's own name for it comes first, as there. */
static int read_rules(struct build *b, const char *root)
{
	static const char *const names[] = {".containerignore", ".dockerignore"};
	int r = DAVIT_ENOENT;

	for (size_t i = 0; r == DAVIT_ENOENT && i < DAVIT_ARRAY_SIZE(names); i++) {
		DAVIT_AUTO_FREE char *path = davit_path_join(root, names[i]);
		DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
		r = path ? davit_read_file(path, 1 << 20, &text, b->err) : build_no_memory(b);
		if (r == 0) {
			printf("the context is what %s leaves\n", names[i]);
			r = davit_ignore_add_rules(&b->ignore, davit_buf_str(&text), b->err);
		}
	}
	return r == DAVIT_ENOENT ? 0 : r;
}

int build_image_ignore(struct build *b)
{
	const char *path = b->located.path;
	DAVIT_AUTO_FREE char *except = NULL;
	struct stat st;
	int r;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		return (b->dockerfile = strdup(strrchr(path, '/') + 1)) ? 0 : build_no_memory(b);
	r = find_dockerfile(b, path);
	if (r == 0)
		r = read_rules(b, path);
	if (r < 0 || !b->ignore.n_rules)
		return r;
	/* Without it there is no build, whatever the rules say. */
	if (asprintf(&except, "!%s", b->dockerfile) < 0) {
		except = NULL;
		return build_no_memory(b);
	}
	return davit_ignore_add_rule(&b->ignore, except, strlen(except), b->err);
}

/* The place of the cache is a part: several davits may share an engine, and none takes
 * another's image away. */
int build_image_key(struct build *b)
{
	davit_hash_strings(b->key, "davit image 1", b->source.hash, b->cell->hash, b->dockerfile,
			   b->request->runtime, b->request->name, b->cache.root, NULL);
	return 0;
}

static struct davit_image_builder builder_of(const struct build *b)
{
	return (struct davit_image_builder){
		.socket = b->request->socket, .runtime = b->request->runtime, .deadline = b->deadline};
}

bool build_image_is_there(struct build *b, const json_t *result)
{
	const struct davit_image_builder builder = builder_of(b);
	const char *reference = json_string_value(json_object_get(result, "image"));
	struct davit_error ignored;

	return reference && davit_image_exists(&builder, reference, &ignored) > 0;
}

int build_image_drop(void *user, const char *runtime, const char *reference)
{
	const struct build *b = user;
	const struct davit_image_builder builder = {
		.socket = b->request->socket, .runtime = runtime, .deadline = b->deadline};
	struct davit_error why;
	int r = davit_image_remove(&builder, reference, &why);

	if (r < 0)
		printf("%s is kept: %s\n", reference, why.message);
	else
		printf("removed %s: no service needs it\n", reference);
	return r;
}

/* What is made, for whoever collects a build that was killed when the image was there already. */
static int note_image(struct build *b, const char *reference)
{
	json_t *o = json_pack("{s:s, s:s}", "runtime", b->request->runtime, "image", reference);
	DAVIT_AUTO_FREE char *path = davit_path_join(b->work.path, "image");
	DAVIT_AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	if (!path || !text)
		return build_no_memory(b);
	return davit_write_file(path, text, strlen(text), 0600, b->err);
}

static int make(struct build *b, const char *reference)
{
	const struct davit_image_builder builder = builder_of(b);
	DAVIT_AUTO_FREE char *context = davit_cache_path(&b->cache, "sources", b->source.hash, "");
	DAVIT_AUTO_FREE char *archive = davit_path_join(b->tmp, "context.tar");
	DAVIT_AUTO_FREE char *key = davit_path_join(b->work.path, "key");
	char limit[DAVIT_TIME_MAX];
	int r;

	if (!context || !archive || !key)
		return build_no_memory(b);
	r = davit_write_file(key, b->key, strlen(b->key), 0600, b->err);
	if (r == 0)
		r = note_image(b, reference);
	if (r == 0)
		r = davit_image_pack(context, archive, b->err);
	if (r < 0)
		return r;
	printf("+ build %s of %s on %s\n", reference, b->dockerfile, b->request->runtime);
	r = davit_image_build(&builder, reference, b->dockerfile, archive, b->err);
	if (r == DAVIT_ETIMEDOUT)
		return davit_error_set(b->err, r, "source", "the build did not end within %s: it was stopped",
				       davit_duration_format(b->request->timeout, limit));
	if (r == DAVIT_EBUILD && b->err) {
		size_t n = strlen(b->err->message);
		snprintf(b->err->message + n, sizeof b->err->message - n, "; see davit logs --build %s",
			 b->request->name);
	}
	return r;
}

int build_image(struct build *b, json_t **ret)
{
	DAVIT_AUTO_FREE char *reference = davit_image_reference(b->request->name, b->key);
	int64_t began = davit_run_now();
	char took[DAVIT_TIME_MAX];
	json_t *o;
	int r = reference ? make(b, reference) : build_no_memory(b);

	if (r == 0)
		r = davit_remove_tree(b->tmp, b->err);
	if (r < 0)
		return r;
	o = json_pack("{s:s, s:s, s:s?, s:s, s:s}", "cell", b->cell->name, "content", b->source.hash, "port",
		      b->cell->port, "image", reference, "runtime", b->request->runtime);
	if (!o)
		return build_no_memory(b);
	printf("built in %s\n", davit_duration_format((davit_run_now() - began) / 1000000 * 1000000, took));
	*ret = o;
	return 0;
}
