/* SPDX-License-Identifier: MIT
 *
 * Images: what the engine has, gets, builds and forgets.
 */
#include "runtime/engine/impl.h"

#include <stdio.h>
#include <string.h>

/* --- what an engine tells while it works: JSON objects, one a line --- */

#define LINE_MAX_LENGTH 1024

struct work {
	davit_progress_fn *progress;
	void *user;
	bool load;
	struct davit_buf line; /* of output, as far as it has come */
	char error[300];
};

static void work_fini(struct task *t)
{
	struct work *w = t->data;

	if (w)
		davit_buf_fini(&w->line);
	free(w);
}

static void free_data(struct task *t)
{
	free(t->data);
}

static void tell(struct work *w, const char *text, size_t n)
{
	static const char loaded[] = "Loaded image";
	char line[LINE_MAX_LENGTH + 1];
	const char *reference;

	if (!n || !w->progress)
		return;
	snprintf(line, sizeof line, "%.*s", (int)n, text);
	/* "Loaded image: X", "Loaded image ID: X", and podman's "Loaded image(s): X" */
	reference = strstr(line, ": ");
	if (w->load && !strncmp(line, loaded, sizeof loaded - 1) && reference) {
		memmove(line + strlen("loaded "), reference + 2, strlen(reference + 2) + 1);
		memcpy(line, "loaded ", strlen("loaded "));
	}
	w->progress(w->user, line);
}

/* Output comes in pieces, of many lines and of none: lines are told. What is longer
 * than one may be is told in parts. */
static void take_output(struct work *w, const char *text)
{
	for (; *text; text++) {
		if (*text != '\n' && *text != '\r')
			davit_buf_addc(&w->line, *text);
		if (*text != '\n' && *text != '\r' && w->line.len < LINE_MAX_LENGTH)
			continue;
		tell(w, davit_buf_str(&w->line), w->line.len);
		davit_buf_consume(&w->line, w->line.len);
	}
}

static void take_line(struct work *w, const char *data, size_t n)
{
	json_t *o = json_loadb(data, n, 0, NULL);
	const char *error = json_string_value(json_object_get(o, "error"));
	const char *stream = json_string_value(json_object_get(o, "stream"));
	const char *status = json_string_value(json_object_get(o, "status"));
	const char *id = json_string_value(json_object_get(o, "id"));
	char line[300];

	if (error) {
		snprintf(w->error, sizeof w->error, "%s", error);
		w->error[strcspn(w->error, "\n")] = '\0';
	} else if (stream) {
		take_output(w, stream);
	} else if (status && json_object_size(json_object_get(o, "progressDetail")) == 0) {
		/* Bars are not for lines. */
		snprintf(line, sizeof line, "%s%s%s", id ? id : "", id ? ": " : "", status);
		tell(w, line, strlen(line));
	}
	json_decref(o);
}

static bool on_work(struct http_call *c)
{
	struct work *w = ((struct task *)c->user)->data;
	char *end;

	while ((end = memchr(davit_buf_str(&c->body), '\n', c->body.len))) {
		size_t n = (size_t)(end - c->body.data);
		take_line(w, c->body.data, n);
		davit_buf_consume(&c->body, n + 1);
	}
	return true;
}

static void worked(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct work *w = t->data;
	struct davit_error why;
	bool missing;

	if (!err && c->body.len)
		take_line(w, c->body.data, c->body.len);
	take_output(w, "\n");
	if (err || !*w->error) {
		task_end(t, err);
		return;
	}
	if (t->ret) {
		task_fail(t, DAVIT_EBUILD, "%s", w->error);
		return;
	}
	missing = strstr(w->error, "not found") || strstr(w->error, "does not exist");
	davit_error_set(&why, missing ? DAVIT_ENOENT : DAVIT_EUNAVAIL, NULL, "%s", w->error);
	task_end(t, &why);
}

static struct task *work_new(struct davit_runtime *rt, davit_progress_fn *progress, void *user,
			     struct davit_op *op)
{
	struct task *t = task_new(engine_of(rt), op, NULL);
	struct work *w;

	if (!t)
		return NULL;
	t->data = w = calloc(1, sizeof *w);
	t->fini = work_fini;
	if (!w) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return NULL;
	}
	*w = (struct work){.progress = progress, .user = user};
	return t;
}

/* Sends fd, or nothing when it is negative. */
static void work_send(struct task *t, struct http_call *c, int fd)
{
	if (c) {
		c->data = on_work;
		if (fd >= 0)
			http_upload(c, fd, "application/x-tar");
	} else if (fd >= 0) {
		close(fd);
	}
	task_call(t, c, worked);
}

/* --- list --- */

struct listing {
	void (*each)(void *user, const struct davit_image_info *info);
	void *user;
};

static bool used(struct engine *e, const char *id)
{
	size_t pos = 0;
	void *inst;

	while (davit_map_next(&e->instances, &pos, NULL, &inst))
		if (!strcmp(engine_instance(inst)->image, id))
			return true;
	return false;
}

static int tell_image(struct engine *e, const json_t *o, struct listing *l)
{
	const json_t *tags = json_object_get(o, "RepoTags"), *tag;
	const char **references = calloc(json_array_size(tags) + 1, sizeof *references);
	struct davit_image_info info = {.id = json_string_value(json_object_get(o, "Id")),
					.references = references};
	size_t i, n = 0;

	if (!references)
		return DAVIT_ENOMEM;
	json_array_foreach(tags, i, tag)
	{
		const char *s = json_string_value(tag);
		if (s && strcmp(s, "<none>:<none>"))
			references[n++] = s;
	}
	info.size = (uint64_t)json_integer_value(json_object_get(o, "Size"));
	info.created = json_integer_value(json_object_get(o, "Created")) * DAVIT_NSEC_PER_SEC;
	if (info.id) {
		info.in_use = used(e, info.id);
		l->each(l->user, &info);
	}
	free(references);
	return 0;
}

static void listed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	json_t *images = err ? NULL : http_answer(c), *o;
	size_t i;
	int r = 0;

	json_array_foreach(images, i, o)
	{
		if (r == 0)
			r = tell_image(t->e, o, t->data);
	}
	if (err)
		task_end(t, err);
	else if (!json_is_array(images))
		task_fail(t, DAVIT_EPROTO, "the engine's list of images makes no sense");
	else if (r < 0)
		task_fail(t, r, "out of memory");
	else
		task_end(t, NULL);
	json_decref(images);
}

static void images_list(struct davit_runtime *rt,
			void (*each)(void *user, const struct davit_image_info *info), void *user,
			struct davit_op *op)
{
	struct task *t = task_new(engine_of(rt), op, NULL);
	struct listing *l;

	if (!t)
		return;
	t->data = l = malloc(sizeof *l);
	t->fini = free_data;
	if (!l) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	*l = (struct listing){.each = each, .user = user};
	task_call(t, http_new(&t->e->calls, "GET", "/images/json"), listed);
}

/* --- pull, load, import, build, remove --- */

/* Without a tag an engine pulls every one there is. */
static bool has_tag(const char *reference)
{
	const char *slash = strrchr(reference, '/');

	return strchr(slash ? slash : reference, ':') || strchr(reference, '@');
}

static void images_pull(struct davit_runtime *rt, const char *reference, davit_progress_fn *progress,
			void *user, struct davit_op *op)
{
	struct task *t = work_new(rt, progress, user, op);
	DAVIT_AUTO_BUF query = DAVIT_BUF_INIT;

	if (!t)
		return;
	http_escape(&query, reference);
	work_send(t,
		  http_new(&t->e->streams, "POST", "/images/create?fromImage=%s%s", davit_buf_str(&query),
			   has_tag(reference) ? "" : "%3Alatest"),
		  -1);
}

static void images_load(struct davit_runtime *rt, int fd, davit_progress_fn *progress, void *user,
			struct davit_op *op)
{
	struct task *t = work_new(rt, progress, user, op);

	if (!t) {
		close(fd);
		return;
	}
	((struct work *)t->data)->load = true;
	work_send(t, http_new(&t->e->streams, "POST", "/images/load"), fd);
}

static void images_import(struct davit_runtime *rt, const char *reference, int fd, struct davit_op *op)
{
	struct task *t = work_new(rt, NULL, NULL, op);
	DAVIT_AUTO_BUF query = DAVIT_BUF_INIT;

	if (!t) {
		close(fd);
		return;
	}
	http_escape(&query, reference);
	work_send(t,
		  http_new(&t->e->streams, "POST", "/images/create?fromSrc=-&repo=%s", davit_buf_str(&query)),
		  fd);
}

static void images_build(struct davit_runtime *rt, const char *reference, int fd, const char *dockerfile,
			 davit_progress_fn *progress, void *user, struct davit_op *op)
{
	struct task *t = work_new(rt, progress, user, op);
	DAVIT_AUTO_BUF query = DAVIT_BUF_INIT;

	if (!t) {
		close(fd);
		return;
	}
	t->ret = t; /* a failure is the build's */
	davit_buf_adds(&query, "rm=1&forcerm=1&t=");
	http_escape(&query, reference);
	davit_buf_adds(&query, "&dockerfile=");
	http_escape(&query, dockerfile ? dockerfile : "Dockerfile");
	work_send(t, http_new(&t->e->streams, "POST", "/build?%s", davit_buf_str(&query)), fd);
}

static void removed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	if (err && err->code == DAVIT_ENOENT)
		task_fail(t, DAVIT_ENOENT, "image '%s' not found locally", (const char *)t->data);
	else if (err && c->status == 409)
		task_fail(t, DAVIT_EINUSE, "%s", err->message);
	else
		task_end(t, err);
}

static void images_remove(struct davit_runtime *rt, const char *reference, bool force, struct davit_op *op)
{
	struct task *t = task_new(engine_of(rt), op, NULL);
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;

	if (!t)
		return;
	t->data = strdup(reference);
	t->fini = free_data;
	http_escape(&path, reference);
	if (t->data)
		task_call(t,
			  http_new(&t->e->streams, "DELETE", "/images/%s?force=%d", davit_buf_str(&path),
				   force),
			  removed);
	else
		task_fail(t, DAVIT_ENOMEM, "out of memory");
}

const struct davit_images_facet engine_images = {
	.list = images_list,
	.pull = images_pull,
	.load = images_load,
	.import = images_import,
	.remove = images_remove,
	.build = images_build,
};
