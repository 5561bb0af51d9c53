/* SPDX-License-Identifier: MIT
 *
 * The images facet. What takes long is done by davit-image, a child; what is quick, in
 * a thread.
 */
#include "base/strv.h"
#include "image/image.h"
#include "runtime/oci/impl.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define SAID_MAX (1 << 20) /* not told yet */

static void fail_memory(struct davit_op *op)
{
	davit_op_fail(op, DAVIT_ENOMEM, "images", "out of memory");
}

/* --- a child --- */

struct order {
	struct oci_child child;
	char **argv;
	davit_progress_fn *progress;
	void *user;
	const char *verb; /* "loaded" */
	/* What a builder says comes while it does: taken from the child's output by the thread that
	 * reads it, told by the loop. NULL where nobody listens. */
	uv_async_t *wake;
	pthread_mutex_t lock;
	struct davit_buf said; /* lines; under the lock */
};

static void wake_free(uv_handle_t *h)
{
	free(h);
}

static void order_free(void *argument)
{
	struct order *w = argument;

	if (w->wake) {
		w->wake->data = NULL;
		uv_close((uv_handle_t *)w->wake, wake_free);
	}
	pthread_mutex_destroy(&w->lock);
	davit_buf_fini(&w->said);
	if (w->child.in >= 0)
		close(w->child.in);
	oci_child_fini(&w->child);
	davit_strv_free(w->argv);
	free(w);
}

/* The next line of what starts at *at, or NULL; not changed. */
static json_t *next_line(const struct davit_buf *b, size_t *at)
{
	while (*at < b->len) {
		const char *line = b->data + *at, *end = memchr(line, '\n', b->len - *at);
		size_t n = end ? (size_t)(end - line) : b->len - *at;
		json_t *j = json_loadb(line, n, 0, NULL);

		*at += n + (end != NULL);
		if (j)
			return j;
	}
	return NULL;
}

/* In the thread: takes whole lines {"said": TEXT} out of the output. */
static void order_heard(struct oci_child *c)
{
	struct order *w = DAVIT_CONTAINER_OF(c, struct order, child);
	const char *end = c->out.len ? memrchr(c->out.data, '\n', c->out.len) : NULL;
	struct davit_buf rest = DAVIT_BUF_INIT, whole = c->out;
	size_t at = 0;
	json_t *j;

	if (!end)
		return;
	whole.len = (size_t)(end + 1 - c->out.data);
	pthread_mutex_lock(&w->lock);
	for (size_t from = 0; (j = next_line(&whole, &at)); from = at) {
		const char *said = json_string_value(json_object_get(j, "said"));

		if (said && w->said.len < SAID_MAX)
			davit_buf_addf(&w->said, "%s\n", said);
		else if (!said)
			davit_buf_add(&rest, whole.data + from, at - from);
		json_decref(j);
	}
	pthread_mutex_unlock(&w->lock);
	davit_buf_add(&rest, end + 1, c->out.len - whole.len);
	davit_buf_fini(&c->out);
	c->out = rest;
	if (w->wake)
		uv_async_send(w->wake);
}

/* On the loop's thread. */
static void tell_said(struct order *w)
{
	struct davit_buf said;
	char *save = NULL;

	pthread_mutex_lock(&w->lock);
	said = w->said;
	w->said = (struct davit_buf)DAVIT_BUF_INIT;
	pthread_mutex_unlock(&w->lock);
	for (char *l = said.len && !said.oom ? strtok_r(said.data, "\n", &save) : NULL; l && w->progress;
	     l = strtok_r(NULL, "\n", &save))
		w->progress(w->user, l);
	davit_buf_fini(&said);
}

static void on_wake(uv_async_t *h)
{
	struct oci_job *j = h->data;

	if (j && j->o) /* nobody is told any more once the runtime is closed */
		tell_said(j->argument);
}

/* With -o json a failure is {"error": {"code", "message"}}, alone or behind the lines of
 * what was stored. */
static void read_failure(const struct davit_buf *out, struct davit_error *err)
{
	size_t at = 0;
	json_t *j;

	while ((j = next_line(out, &at))) {
		json_t *e = json_object_get(j, "error");
		const char *code = json_string_value(json_object_get(e, "code"));
		const char *message = json_string_value(json_object_get(e, "message"));

		if (code && message)
			davit_error_set(err, davit_error_from_word(code), "image", "%s", message);
		json_decref(j);
	}
}

static void order_run(struct oci_job *j)
{
	struct order *w = j->argument;

	if (oci_child_run(&w->child, w->argv, &j->err) == 0)
		return;
	read_failure(&w->child.out, &j->err);
	if (atomic_load(&w->child.cancelled))
		davit_error_set(&j->err, DAVIT_ECANCELED, "image", "cancelled");
}

static void tell_stored(struct order *w)
{
	size_t at = 0;
	json_t *j;

	while ((j = next_line(&w->child.out, &at))) {
		const char *reference = json_string_value(json_object_get(j, "reference"));
		char text[600];

		if (reference) {
			snprintf(text, sizeof text, "%s %s", w->verb, reference);
			w->progress(w->user, text);
		}
		json_decref(j);
	}
}

static void order_done(struct oci_job *j)
{
	struct order *w = j->argument;
	struct davit_op *op = DAVIT_TAKE(j->op);

	tell_said(w);
	if (j->err.code) {
		davit_op_fail_error(op, &j->err);
		return;
	}
	if (w->progress)
		tell_stored(w);
	davit_op_complete(op, 0);
}

static void order_cancel(struct davit_op *op, int why)
{
	struct oci_job *j = op->performer;

	(void)why;
	oci_child_cancel(&((struct order *)j->argument)->child);
}

static int add_wake(struct oci_job *j)
{
	struct order *w = j->argument;
	uv_async_t *wake = malloc(sizeof *wake);

	if (!wake || uv_async_init(davit_loop_uv(j->o->local.rt->loop), wake, on_wake) < 0) {
		free(wake);
		return DAVIT_ENOMEM;
	}
	uv_unref((uv_handle_t *)wake);
	wake->data = j;
	w->wake = wake;
	return 0;
}

/* fd is taken over; words end with NULL. */
static void place_order(struct davit_runtime *rt, const char *const words[], int fd, const char *verb,
			davit_progress_fn *progress, void *user, struct davit_op *op)
{
	struct oci_runtime *o = davit_runtime_state(rt);
	struct order *w = calloc(1, sizeof *w);
	struct oci_job *j = w ? oci_job_new(o, "images") : NULL;
	int r;

	if (!j) {
		free(w);
		if (fd >= 0)
			close(fd);
		fail_memory(op);
		return;
	}
	*w = (struct order){.child.in = fd, .verb = verb, .progress = progress, .user = user};
	pthread_mutex_init(&w->lock, NULL);
	if (progress)
		w->child.heard = order_heard;
	j->argument = w;
	j->dispose = order_free;
	/* A child waits for its input itself. */
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	r = davit_strv_add(&w->argv, o->place->image_program);
	if (!r)
		r = davit_strv_add(&w->argv, "--store");
	if (!r)
		r = davit_strv_add(&w->argv, o->place->images);
	for (; !r && *words; words++)
		r = davit_strv_add(&w->argv, *words);
	if (!r && progress)
		r = add_wake(j);
	if (r < 0) {
		oci_job_free(j);
		fail_memory(op);
		return;
	}
	j->run = order_run;
	j->done = order_done;
	j->op = op;
	op->performer = j;
	davit_op_on_cancel(op, order_cancel);
	oci_job_start(j);
}

static void images_pull(struct davit_runtime *rt, const char *reference, davit_progress_fn *progress,
			void *user, struct davit_op *op)
{
	const char *const words[] = {"pull", "-o", "json", "--", reference, NULL};

	place_order(rt, words, -1, "pulled", progress, user, op);
}

static void images_load(struct davit_runtime *rt, int fd, davit_progress_fn *progress, void *user,
			struct davit_op *op)
{
	const char *const words[] = {"load", "-o", "json", "-", NULL};

	place_order(rt, words, fd, "loaded", progress, user, op);
}

static void images_import(struct davit_runtime *rt, const char *reference, int fd, struct davit_op *op)
{
	const char *const words[] = {"import", "-o", "json", "--reference", reference, "-", NULL};

	place_order(rt, words, fd, "imported", NULL, NULL, op);
}

static void images_remove(struct davit_runtime *rt, const char *reference, bool force, struct davit_op *op)
{
	const char *const words[] = {"remove", "-o", "json", force ? "--force" : "--", reference, NULL};

	place_order(rt, words, -1, "removed", NULL, NULL, op);
}

static void images_build(struct davit_runtime *rt, const char *reference, int fd, const char *dockerfile,
			 davit_progress_fn *progress, void *user, struct davit_op *op)
{
	const struct oci_place *pl = ((struct oci_runtime *)davit_runtime_state(rt))->place;
	const char *const words[] = {
		"build",    "-o", "json", "--reference", reference, "-", dockerfile ? "--dockerfile" : NULL,
		dockerfile, NULL};

	if (*pl->why_no_build) {
		close(fd);
		davit_op_fail(op, DAVIT_ENOTSUP, rt->name, "runtime %s cannot build images: %s", rt->name,
			      pl->why_no_build);
		return;
	}
	place_order(rt, words, fd, "built", progress, user, op);
}

/* --- list --- */

struct entry {
	char *id, *reference;
	uint64_t size;
	int64_t created;
	bool in_use, told;
};

struct listing {
	void (*each)(void *user, const struct davit_image_info *info);
	void *user;
	struct entry *v;
	size_t n;
};

static void listing_free(void *argument)
{
	struct listing *l = argument;

	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].id);
		free(l->v[i].reference);
	}
	free(l->v);
	free(l);
}

static int on_image(void *user, const struct davit_image *i)
{
	struct listing *l = user;
	struct entry *v = reallocarray(l->v, l->n + 1, sizeof *v);

	if (!v)
		return DAVIT_ENOMEM;
	l->v = v;
	v[l->n] = (struct entry){
		.id = strdup(i->id),
		.reference = strdup(i->reference),
		.size = i->size,
		.created = i->created,
	};
	l->n++;
	return v[l->n - 1].id && v[l->n - 1].reference ? 0 : DAVIT_ENOMEM;
}

static int on_hold(void *user, const char *id, const char *reference, const char *digest)
{
	struct listing *l = user;

	(void)id;
	(void)digest;
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i].reference, reference) || !strcmp(l->v[i].id, reference))
			l->v[i].in_use = true;
	return 0;
}

static void list_run(struct oci_job *j)
{
	struct davit_image_store *store;
	int r = davit_image_store_open(j->place->images, &store, &j->err);

	if (r < 0)
		return;
	r = davit_image_list(store, on_image, j->argument, &j->err);
	if (!r)
		r = davit_image_holds(store, on_hold, j->argument, &j->err);
	davit_image_store_close(store);
	if (r < 0 && !j->err.code)
		davit_error_set(&j->err, r, "images", "out of memory");
}

/* All names of one image together. */
static void tell_image(struct listing *l, size_t first)
{
	const char **names = calloc(l->n + 1, sizeof *names);
	struct davit_image_info info = {
		.id = l->v[first].id,
		.references = names,
		.size = l->v[first].size,
		.created = l->v[first].created,
	};
	size_t n = 0;

	for (size_t i = first; names && i < l->n; i++) {
		if (l->v[i].told || strcmp(l->v[i].id, info.id))
			continue;
		l->v[i].told = true;
		info.in_use |= l->v[i].in_use;
		names[n++] = l->v[i].reference;
	}
	if (names)
		l->each(l->user, &info);
	free(names);
}

static void list_done(struct oci_job *j)
{
	struct listing *l = j->argument;
	struct davit_op *op = DAVIT_TAKE(j->op);

	if (j->err.code) {
		davit_op_fail_error(op, &j->err);
		return;
	}
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].told)
			tell_image(l, i);
	davit_op_complete(op, 0);
}

static void images_list(struct davit_runtime *rt,
			void (*each)(void *user, const struct davit_image_info *info), void *user,
			struct davit_op *op)
{
	struct listing *l = calloc(1, sizeof *l);
	struct oci_job *j = l ? oci_job_new(davit_runtime_state(rt), "list") : NULL;

	if (!j) {
		free(l);
		fail_memory(op);
		return;
	}
	l->each = each;
	l->user = user;
	j->argument = l;
	j->dispose = listing_free;
	j->run = list_run;
	j->done = list_done;
	j->op = op;
	oci_job_start(j);
}

const struct davit_images_facet oci_images = {
	.list = images_list,
	.pull = images_pull,
	.load = images_load,
	.import = images_import,
	.remove = images_remove,
	.build = images_build,
};
