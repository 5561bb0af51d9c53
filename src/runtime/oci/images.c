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
#include <stdio.h>
#include <string.h>

static const char no_build[] = "runtime oci has no builder: images are built elsewhere and loaded";

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
};

static void order_free(void *argument)
{
	struct order *w = argument;

	if (w->child.in >= 0)
		close(w->child.in);
	oci_child_fini(&w->child);
	davit_strv_free(w->argv);
	free(w);
}

/* With -o json a failure is {"error": {"code", "message"}}, alone or behind the lines of
 * what was stored. */
static void read_failure(struct davit_buf *out, struct davit_error *err)
{
	char *save = NULL;

	davit_buf_addc(out, '\n');
	if (out->oom)
		return;
	for (char *l = strtok_r(out->data, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		json_t *j = json_loads(l, 0, NULL);
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

static void tell_progress(struct order *w)
{
	char *save = NULL;

	davit_buf_addc(&w->child.out, '\n');
	if (w->child.out.oom)
		return;
	for (char *l = strtok_r(w->child.out.data, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		json_t *j = json_loads(l, 0, NULL);
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

	if (j->err.code) {
		davit_op_fail_error(op, &j->err);
		return;
	}
	if (w->progress)
		tell_progress(w);
	davit_op_complete(op, 0);
}

static void order_cancel(struct davit_op *op, int why)
{
	struct oci_job *j = op->performer;

	(void)why;
	oci_child_cancel(&((struct order *)j->argument)->child);
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
	close(fd);
	davit_op_fail(op, DAVIT_ENOTSUP, rt->name, "%s", no_build);
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
