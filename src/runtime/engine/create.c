/* SPDX-License-Identifier: MIT
 *
 * Making a container: check, and create.
 */
#include "runtime/engine/impl.h"
#include "runtime/engine/spec.h"

#include "base/file.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

/* --- check --- */

static void no_image(struct task *t, const char *image)
{
	task_fail(t, DAVIT_ENOENT, "image '%s' not found locally", image);
}

/* A check is followed by its creation, one of many instances by the next: for so long
 * the engine is not asked again. A name that was given to another image meanwhile means
 * that one when the container is made, as ever. */
#define SEEN_FOR (DAVIT_NSEC_PER_SEC / 2)

void seen_image_forget(struct engine *e)
{
	free(DAVIT_TAKE(e->seen_image.name));
	json_decref(DAVIT_TAKE(e->seen_image.image));
}

static void image_seen(struct engine *e, const char *name, json_t *image)
{
	char *copy = image ? strdup(name) : NULL;

	seen_image_forget(e);
	if (!copy)
		return;
	e->seen_image.name = copy;
	e->seen_image.image = json_incref(image);
	e->seen_image.at = davit_loop_now(e->rt->loop);
}

/* Borrowed, or NULL. */
static const json_t *seen_image(const struct engine *e, const char *name)
{
	bool fresh = davit_loop_now(e->rt->loop) - e->seen_image.at < SEEN_FOR;

	return e->seen_image.name && !strcmp(e->seen_image.name, name) && fresh ? e->seen_image.image : NULL;
}

static void image_checked(struct task *t, struct http_call *c, const struct davit_error *err)
{
	json_t *image = err ? NULL : http_answer(c);

	image_seen(t->e, t->data, image);
	json_decref(image);
	if (err && err->code == DAVIT_ENOENT)
		no_image(t, t->data);
	else
		task_end(t, err);
}

void engine_check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op)
{
	struct engine *e = engine_of(rt);
	struct davit_error err;
	struct task *t;

	if (workload_check(e, w, false, &err) < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	if (!w->image) {
		davit_op_complete(op, 0);
		return;
	}
	t = task_new(e, op, NULL);
	if (!t)
		return;
	t->data = w->image;
	task_call(t, http_new(&e->calls, "GET", "/images/%s/json", w->image), image_checked);
}

/* --- create --- */

struct creation {
	char name[300];
	char id[DAVIT_ID_MAX];
	char *log_directory; /* where the engine is to write a log, or NULL */
	char *search_path, image[80];
	bool init, made;
	size_t volume; /* the next one to make */
};

static void creation_fini(struct task *t)
{
	struct creation *m = t->data;

	if (m && m->log_directory && !m->made)
		rmdir(m->log_directory); /* unless it holds the log of an earlier life */
	if (m)
		free(m->log_directory);
	if (m)
		free(m->search_path);
	free(m);
}

static void left_over_removed(struct http_call *c, const struct davit_error *err)
{
}

/* Nobody waits for what was made any more. */
static void remove_left_over(struct engine *e, const char *container)
{
	struct http_call *c = http_new(&e->calls, "DELETE", "/containers/%s?v=1", container);

	if (!c)
		return;
	c->done = left_over_removed;
	http_send(c, NULL);
}

/* The call goes on: what it makes has to be found out, and removed. */
static void create_cancelled(struct task *t, int why)
{
	davit_op_fail(DAVIT_TAKE(t->op), why, t->e->rt->name, "%s", davit_error_doc(why));
	t->inst = NULL;
}

static void remember_image(struct task *t)
{
	struct engine_instance *ei = engine_instance(t->inst);
	struct creation *m = t->data;

	ei->has_init = m->init;
	ei->search_path = DAVIT_TAKE(m->search_path);
	memcpy(ei->image, m->image, sizeof ei->image);
}

/* Of the same name: ours from an earlier attempt, or somebody else's. */
static void create_found(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct creation *m = t->data;
	struct engine_instance *ei;
	struct observation seen;
	json_t *o = err || !t->op ? NULL : http_answer(c);

	if (err || !t->op) {
		task_end(t, err);
		return;
	}
	if (!o || observe(o, &seen, NULL) < 0 || strcmp(seen.id, m->id) || strcmp(seen.home, t->e->home)) {
		task_fail(t, DAVIT_EEXIST, "the name %s is taken by another container", m->name);
	} else if (container_add(t->inst, m->id, seen.container) < 0) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
	} else {
		ei = engine_instance(t->inst);
		runs_recall(t->e->rt->state_dir, m->id, seen.started, &ei->runs);
		ei->told = ei->runs.run;
		remember_image(t);
		m->made = true;
		if (ei->runs.run == 0) {
			task_end(t, NULL);
		} else {
			ei->told -= seen.state == DAVIT_STATE_STARTED;
			container_observed(t->inst, &seen);
			task_fail(t, DAVIT_ESTATE, "the instance was started before");
		}
	}
	json_decref(o);
}

static void create_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct creation *m = t->data;
	json_t *o = err ? NULL : http_answer(c);
	const char *container = json_string_value(json_object_get(o, "Id"));

	if (err && (c->status == 409 || strstr(err->message, "already in use")) && t->op) {
		task_call(t, http_new(&t->e->calls, "GET", "/containers/%s/json", m->name), create_found);
	} else if (err && err->code == DAVIT_ENOENT && t->op && strcasestr(err->message, "no such image")) {
		no_image(t, t->inst->workload->image);
	} else if (err) {
		task_end(t, err);
	} else if (!container || strlen(container) != 64) {
		task_fail(t, DAVIT_EPROTO, "the engine's answer to create has no id");
	} else if (!t->op || container_add(t->inst, m->id, container) < 0) {
		remove_left_over(t->e, container);
		task_fail(t, DAVIT_ENOMEM, "out of memory");
	} else {
		m->made = true;
		remember_image(t);
		runs_forget(t->e->rt->state_dir, m->id);
		task_end(t, NULL);
	}
	json_decref(o);
}

static void make_container(struct task *t)
{
	const struct davit_workload *w = t->inst->workload;
	struct engine *e = t->e;
	struct creation *m = t->data;
	DAVIT_AUTO_FREE char *log = e->flavour->log_to_file ? logs_path(e->rt, w->id) : NULL;
	const struct spec_context context = {.flavour = e->flavour,
					     .home = e->home,
					     .log_path = log,
					     .init = m->init,
					     .swap_limit = e->swap_limit};
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct davit_error err;
	struct http_call *c;

	if (log) {
		m->log_directory = davit_path_join(e->rt->log_dir, w->id);
		if (!m->log_directory) {
			task_fail(t, DAVIT_ENOMEM, "out of memory");
			return;
		}
		if (davit_mkdirs(m->log_directory, 0700, &err) < 0) {
			task_end(t, &err);
			return;
		}
	}
	spec_write(&body, w, &context);
	c = http_new(&e->calls, "POST", "/containers/create?name=%s", m->name);
	if (c)
		http_json(c, &body);
	t->cancel = create_cancelled;
	task_call(t, c, create_answered);
}

static void make_volumes(struct task *t);

static void volume_made(struct task *t, struct http_call *c, const struct davit_error *err)
{
	/* 409, or podman's 500 with these words: it is there. */
	if (err && c->status != 409 && !strstr(err->message, "already exists"))
		task_end(t, err);
	else
		make_volumes(t);
}

/* By us and not by the engine on its own, for our label. */
static void make_volumes(struct task *t)
{
	const struct davit_workload *w = t->inst->workload;
	struct creation *m = t->data;
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&body);
	struct http_call *c;

	while (m->volume < w->n_mounts && w->mounts[m->volume].type != DAVIT_MOUNT_VOLUME)
		m->volume++;
	if (m->volume == w->n_mounts) {
		make_container(t);
		return;
	}
	davit_json_open(&j);
	davit_json_put_string(&j, "Name", w->mounts[m->volume++].source);
	davit_json_key(&j, "Labels");
	davit_json_open(&j);
	davit_json_put_string(&j, "davit.home", t->e->home);
	davit_json_close(&j);
	davit_json_close(&j);
	c = http_new(&t->e->calls, "POST", "/volumes/create");
	if (c)
		http_json(c, &body);
	task_call(t, c, volume_made);
}

/* As process 1 of its namespace a program ignores what it does not handle, SIGTERM
 * first of all, and has orphans to wait for. So what davit names runs beneath the
 * engine's init. An image's own entrypoint may want to be process 1 itself. */
static bool needs_init(const struct davit_workload *w, const json_t *image)
{
	const json_t *entrypoint = json_object_get(json_object_get(image, "Config"), "Entrypoint");

	if (w->entrypoint)
		return true;
	return w->argv && w->argv[0] && json_array_size(entrypoint) == 0;
}

static void image_known(struct task *t, const json_t *image)
{
	const struct davit_workload *w = t->inst->workload;
	struct creation *m = t->data;

	m->init = needs_init(w, image);
	m->search_path = program_search_path(w, image);
	snprintf(m->image, sizeof m->image, "%s", json_string_value(json_object_get(image, "Id")) ?: "");
	make_volumes(t);
}

static void image_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	const char *name = t->inst->workload->image;
	json_t *image = err ? NULL : http_answer(c);

	image_seen(t->e, name, image);
	if (err && err->code == DAVIT_ENOENT)
		no_image(t, name);
	else if (err)
		task_end(t, err);
	else
		image_known(t, image);
	json_decref(image);
}

void engine_create(struct davit_instance *inst, struct davit_op *op)
{
	const struct davit_workload *w = inst->workload;
	struct engine_instance *ei = engine_instance(inst);
	struct engine *e = engine_of(inst->runtime);
	DAVIT_AUTO_BUF name = DAVIT_BUF_INIT;
	struct davit_error err;
	const json_t *image;
	struct creation *m;
	struct task *t;

	if (ei->inst) {
		if (ei->runs.run || ei->state != DAVIT_STATE_CREATED)
			davit_op_fail(op, DAVIT_ESTATE, e->rt->name, "the instance was started before");
		else
			davit_op_complete(op, 0);
		return;
	}
	if (workload_check(e, w, true, &err) < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	t = task_new(e, op, inst);
	if (!t)
		return;
	t->data = m = calloc(1, sizeof *m);
	t->fini = creation_fini;
	spec_name(&name, w);
	if (!m || name.oom) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	snprintf(m->name, sizeof m->name, "%s", davit_buf_str(&name));
	memcpy(m->id, w->id, sizeof m->id);
	image = seen_image(e, w->image);
	if (image)
		image_known(t, image);
	else
		task_call(t, http_new(&e->calls, "GET", "/images/%s/json", w->image), image_answered);
}
