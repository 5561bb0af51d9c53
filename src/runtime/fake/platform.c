/* SPDX-License-Identifier: MIT
 *
 * What a fake world has beside objects: images (names that were brought in), volumes
 * and networks; and the freezing of objects.
 */
#include "runtime/fake/archive.h"
#include "runtime/fake/fake_impl.h"

#include "base/fnv.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct fake_thing { /* an image, volume or network */
	struct davit_list list;
	char *name;
	int64_t created;
	uint64_t size;
};

static struct fake_thing *find(const struct davit_list *things, const char *name)
{
	struct fake_thing *t;

	DAVIT_LIST_FOREACH (t, things, list)
		if (!strcmp(t->name, name))
			return t;
	return NULL;
}

/* Success for one that is there. */
static int add(struct davit_fake_world *w, struct davit_list *things, const char *name, uint64_t size)
{
	struct fake_thing *t = find(things, name);

	if (t) {
		t->size = size;
		return 0;
	}
	t = calloc(1, sizeof *t);
	if (!t || !(t->name = strdup(name))) {
		free(t);
		return DAVIT_ENOMEM;
	}
	t->created = davit_loop_wall(w->loop);
	t->size = size;
	davit_list_add_tail(things, &t->list);
	return 0;
}

static void drop(struct fake_thing *t)
{
	davit_list_remove(&t->list);
	free(t->name);
	free(t);
}

void fake_platform_free(struct davit_fake_world *w)
{
	struct davit_list *const all[] = {&w->images, &w->volumes, &w->networks};
	struct fake_thing *t, *tmp;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(all); i++)
		DAVIT_LIST_FOREACH_SAFE (t, tmp, all[i], list)
			drop(t);
}

static bool answers(struct davit_runtime *rt, struct davit_op *op)
{
	if (fake_world(rt)->reachable)
		return true;
	davit_op_fail(op, DAVIT_EUNAVAIL, "fake", "the fake platform does not answer");
	return false;
}

/* --- images --- */

bool fake_has_image(const struct davit_fake_world *w, const char *reference, struct davit_error *err)
{
	if (!reference || find(&w->images, reference))
		return true;
	davit_error_set(err, DAVIT_ENOENT, "image", "image '%s' not found locally", reference);
	return false;
}

static bool in_use(const struct davit_fake_world *w, const char *reference)
{
	const struct fake_object *o;

	DAVIT_LIST_FOREACH (o, &w->list, list)
		if (o->image && !strcmp(o->image, reference))
			return true;
	return false;
}

/* Its id is a hash of its name: FNV-1a, four times over. */
static char *id_of(const char *name, char buf[72])
{
	char *at = buf + sprintf(buf, "sha256:");

	for (unsigned k = 0; k < 4; k++) {
		uint64_t h = davit_fnv_text(DAVIT_FNV_BASIS + k, name);

		at += sprintf(at, "%016llx", (unsigned long long)h);
	}
	return buf;
}

static void image_list(struct davit_runtime *rt,
		       void (*each)(void *user, const struct davit_image_info *info), void *user,
		       struct davit_op *op)
{
	struct davit_fake_world *w = fake_world(rt);
	struct fake_thing *t;
	char id[72];

	if (!answers(rt, op))
		return;
	DAVIT_LIST_FOREACH (t, &w->images, list) {
		const char *const names[] = {t->name, NULL};
		const struct davit_image_info info = {.id = id_of(t->name, id),
						      .references = names,
						      .size = t->size,
						      .created = t->created,
						      .in_use = in_use(w, t->name)};
		each(user, &info);
	}
	davit_op_complete(op, 0);
}

static void image_pull(struct davit_runtime *rt, const char *reference, davit_progress_fn *progress,
		       void *user, struct davit_op *op)
{
	char text[512];

	if (!answers(rt, op))
		return;
	if (!strncmp(reference, "missing", 7)) {
		davit_op_fail(op, DAVIT_ENOENT, "fake", "the fake registry has no '%s'", reference);
		return;
	}
	snprintf(text, sizeof text, "pulling %s", reference);
	if (progress)
		progress(user, text);
	davit_op_complete(op, add(fake_world(rt), &fake_world(rt)->images, reference, 1 << 20));
}

struct job {
	struct davit_fake_world *world;
	char *reference; /* NULL: what the archive names */
	davit_progress_fn *progress;
	void *user;
};

static void drop_job(void *user)
{
	struct job *j = user;

	free(j->reference);
	free(j);
}

/* manifest.json of a docker-archive; NULL where it has none. 0 or a code. */
static int manifest(const struct davit_fake_world *w, const struct davit_buf *data, json_t **ret,
		    struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	const struct fake_archive *tar;
	struct archive *a = NULL;
	struct fake_entry e;
	int r = fake_archive_load(w->runtime->libexec_dir, &tar, err);

	if (r == 0)
		r = tar->open(data, &a, err);
	if (r < 0)
		return r;
	do
		r = tar->next(a, &e, err);
	while (r > 0 && strcmp(e.path, "manifest.json") != 0);
	if (r > 0)
		r = tar->content(a, &text, err);
	tar->close(a);
	if (r == 0)
		*ret = text.len ? json_loadb(text.data, text.len, 0, NULL) : NULL;
	return r;
}

static void load_names(struct davit_op *op, struct job *j, const struct davit_buf *data)
{
	json_t *v = NULL, *image, *tag;
	struct davit_error err;
	size_t i, k, n = 0;
	char text[512];
	int r = manifest(j->world, data, &v, &err);

	/* What is no archive holds no image either. */
	if (r < 0 && r != DAVIT_EPROTO) {
		davit_op_fail_error(op, &err);
		return;
	}
	r = 0;
	json_array_foreach(v, i, image)
	{
		json_array_foreach(json_object_get(image, "RepoTags"), k, tag)
		{
			if (!json_is_string(tag) || r < 0)
				continue;
			r = add(j->world, &j->world->images, json_string_value(tag), data->len);
			snprintf(text, sizeof text, "loaded %s", json_string_value(tag));
			if (r == 0 && j->progress)
				j->progress(j->user, text);
			n++;
		}
	}
	json_decref(v);
	if (!n)
		davit_op_fail(op, DAVIT_EPROTO, "fake",
			      "the archive holds no image: its manifest.json names none");
	else
		davit_op_complete(op, r);
}

static void have_data(struct davit_op *op, void *user, struct davit_buf *data)
{
	struct job *j = user;

	if (!j->reference)
		load_names(op, j, data);
	else
		davit_op_complete(op, add(j->world, &j->world->images, j->reference, data->len));
}

static void take_data(struct davit_runtime *rt, const char *reference, int fd, davit_progress_fn *progress,
		      void *user, struct davit_op *op)
{
	struct job *j = answers(rt, op) ? calloc(1, sizeof *j) : NULL;

	if (j)
		*j = (struct job){fake_world(rt), reference ? strdup(reference) : NULL, progress, user};
	if (j && (!reference || j->reference)) {
		fake_stream(j->world, fd, NULL, have_data, j, drop_job, op);
		return;
	}
	if (fake_world(rt)->reachable)
		davit_op_fail(op, DAVIT_ENOMEM, NULL, "out of memory");
	free(j);
	close(fd);
}

static void image_load(struct davit_runtime *rt, int fd, davit_progress_fn *progress, void *user,
		       struct davit_op *op)
{
	take_data(rt, NULL, fd, progress, user, op);
}

static void image_import(struct davit_runtime *rt, const char *reference, int fd, struct davit_op *op)
{
	take_data(rt, reference, fd, NULL, NULL, op);
}

static void image_build(struct davit_runtime *rt, const char *reference, int fd, const char *dockerfile,
			davit_progress_fn *progress, void *user, struct davit_op *op)
{
	char text[512];

	snprintf(text, sizeof text, "step 1: %s", dockerfile ? dockerfile : "Dockerfile");
	if (progress && fake_world(rt)->reachable)
		progress(user, text);
	take_data(rt, reference, fd, NULL, NULL, op);
}

static void image_remove(struct davit_runtime *rt, const char *reference, bool force, struct davit_op *op)
{
	struct davit_fake_world *w = fake_world(rt);
	struct davit_error err;

	if (!answers(rt, op))
		return;
	if (!fake_has_image(w, reference, &err)) {
		davit_op_fail_error(op, &err);
	} else if (!force && in_use(w, reference)) {
		davit_op_fail(op, DAVIT_EINUSE, "image", "image '%s' is in use", reference);
	} else {
		drop(find(&w->images, reference));
		davit_op_complete(op, 0);
	}
}

const struct davit_images_facet fake_images = {
	.list = image_list,
	.pull = image_pull,
	.load = image_load,
	.import = image_import,
	.remove = image_remove,
	.build = image_build,
};

/* --- volumes and networks --- */

static void list_all(struct davit_runtime *rt, const struct davit_list *things, const char *detail,
		     void (*each)(void *user, const struct davit_object_info *info), void *user,
		     struct davit_op *op)
{
	struct fake_thing *t;

	if (!answers(rt, op))
		return;
	DAVIT_LIST_FOREACH (t, things, list) {
		const struct davit_object_info info = {
			.name = t->name, .detail = detail, .created = t->created, .ours = true};
		each(user, &info);
	}
	davit_op_complete(op, 0);
}

static void remove_one(struct davit_runtime *rt, struct davit_list *things, const char *what,
		       const char *name, struct davit_op *op)
{
	struct fake_thing *t = find(things, name);

	if (!answers(rt, op))
		return;
	if (!t) {
		davit_op_fail(op, DAVIT_ENOENT, what, "%s '%s' not found", what, name);
		return;
	}
	drop(t);
	davit_op_complete(op, 0);
}

static void volume_list(struct davit_runtime *rt,
			void (*each)(void *user, const struct davit_object_info *info), void *user,
			struct davit_op *op)
{
	list_all(rt, &fake_world(rt)->volumes, "", each, user, op);
}

static void volume_create(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
	if (answers(rt, op))
		davit_op_complete(op, add(fake_world(rt), &fake_world(rt)->volumes, name, 0));
}

static void volume_remove(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
	remove_one(rt, &fake_world(rt)->volumes, "volume", name, op);
}

const struct davit_objects_facet fake_volumes = {volume_list, volume_create, volume_remove};

static void network_list(struct davit_runtime *rt,
			 void (*each)(void *user, const struct davit_object_info *info), void *user,
			 struct davit_op *op)
{
	list_all(rt, &fake_world(rt)->networks, "10.88.0.0/16", each, user, op);
}

static void network_create(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
	if (answers(rt, op))
		davit_op_complete(op, add(fake_world(rt), &fake_world(rt)->networks, name, 0));
}

static void network_remove(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
	remove_one(rt, &fake_world(rt)->networks, "network", name, op);
}

const struct davit_objects_facet fake_networks = {network_list, network_create, network_remove};

/* --- freezing: the timers of what the workload does stand still --- */

static void freeze_timer(struct davit_timer *t, int64_t *left)
{
	*left = davit_timer_active(t) ? t->due - davit_loop_now(t->loop) : -1;
	davit_timer_stop(t);
}

static void thaw_timer(struct davit_timer *t, int64_t left)
{
	if (left >= 0)
		davit_timer_start(t, left);
}

void fake_object_thaw(struct fake_object *o)
{
	struct davit_timer *const timers[] = {&o->end, &o->ready_timer, &o->status_timer};

	if (!o->paused)
		return;
	o->paused = false;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(timers); i++)
		thaw_timer(timers[i], o->frozen[i]);
	for (size_t i = 0; o->writers && i < o->script.n_logs; i++)
		thaw_timer(&o->writers[i].timer, o->writers[i].frozen);
}

static struct fake_object *running(struct davit_instance *inst, struct davit_op *op)
{
	struct fake_object *o = fake_object(inst);

	if (!answers(inst->runtime, op))
		return NULL;
	if (o && o->state == DAVIT_STATE_STARTED)
		return o;
	davit_op_fail(op, DAVIT_ESTATE, "fake", "it does not run");
	return NULL;
}

static void pause_it(struct davit_instance *inst, struct davit_op *op)
{
	struct fake_object *o = running(inst, op);

	if (!o)
		return;
	if (!o->paused) {
		struct davit_timer *const timers[] = {&o->end, &o->ready_timer, &o->status_timer};
		o->paused = true;
		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(timers); i++)
			freeze_timer(timers[i], &o->frozen[i]);
		for (size_t i = 0; o->writers && i < o->script.n_logs; i++)
			freeze_timer(&o->writers[i].timer, &o->writers[i].frozen);
	}
	davit_op_complete(op, 0);
}

static void unpause_it(struct davit_instance *inst, struct davit_op *op)
{
	struct fake_object *o = running(inst, op);

	if (!o)
		return;
	fake_object_thaw(o);
	davit_op_complete(op, 0);
}

const struct davit_pause_facet fake_pause = {.pause = pause_it, .unpause = unpause_it};
