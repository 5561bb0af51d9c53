/* SPDX-License-Identifier: MIT
 *
 * Volumes and networks by name. Made by us they have our label, and only such are
 * removed.
 */
#include "runtime/engine/impl.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

struct kind {
	const char *one, *path, *list_key; /* of the array in a list; NULL: it is the array */
	const char *created;
	void (*detail)(const json_t *o, char *buf, size_t size);
};

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static void volume_detail(const json_t *o, char *buf, size_t size)
{
	snprintf(buf, size, "%s", text(o, "Mountpoint"));
}

static void network_detail(const json_t *o, char *buf, size_t size)
{
	const json_t *config = json_object_get(json_object_get(o, "IPAM"), "Config");

	snprintf(buf, size, "%s", text(json_array_get(config, 0), "Subnet"));
}

static const struct kind volume = {.one = "volume",
				   .path = "/volumes",
				   .list_key = "Volumes",
				   .created = "CreatedAt",
				   .detail = volume_detail};
static const struct kind network = {
	.one = "network", .path = "/networks", .created = "Created", .detail = network_detail};

/* What a task on one of them works with. */
struct job {
	const struct kind *kind;
	char name[64];
	void (*each)(void *user, const struct davit_object_info *info);
	void *user;
};

static void job_fini(struct task *t)
{
	free(t->data);
}

static struct task *job_new(struct davit_runtime *rt, const struct kind *kind, const char *name,
			    struct davit_op *op)
{
	struct task *t = task_new(engine_of(rt), op, NULL);
	struct job *job;

	if (!t)
		return NULL;
	t->data = job = calloc(1, sizeof *job);
	t->fini = job_fini;
	if (!job) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return NULL;
	}
	job->kind = kind;
	/* It becomes a part of a path. */
	if (strlen(name) >= sizeof job->name || name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
								  "OPQRSTUVWXYZ0123456789_.-")]) {
		task_fail(t, DAVIT_EINVAL, "'%.80s' is not the name of a %s", name, kind->one);
		return NULL;
	}
	snprintf(job->name, sizeof job->name, "%s", name);
	return t;
}

static bool is_ours(struct engine *e, const json_t *o)
{
	return !strcmp(text(json_object_get(o, "Labels"), "davit.home"), e->home);
}

/* --- list --- */

static void listed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	json_t *answer = err ? NULL : http_answer(c), *o;
	const struct job *job = t->data;
	const json_t *list = job->kind->list_key ? json_object_get(answer, job->kind->list_key) : answer;
	char detail[512];
	size_t i;

	json_array_foreach(list, i, o)
	{
		struct davit_object_info info = {.name = text(o, "Name"), .detail = detail};
		job->kind->detail(o, detail, sizeof detail);
		davit_time_parse(text(o, job->kind->created), &info.created, NULL);
		info.ours = is_ours(t->e, o);
		job->each(job->user, &info);
	}
	json_decref(answer);
	task_end(t, err);
}

static void list(struct davit_runtime *rt, const struct kind *kind,
		 void (*each)(void *user, const struct davit_object_info *info), void *user,
		 struct davit_op *op)
{
	struct task *t = job_new(rt, kind, "", op);
	struct job *job;

	if (!t)
		return;
	job = t->data;
	job->each = each;
	job->user = user;
	task_call(t, http_new(&t->e->calls, "GET", "%s", kind->path), listed);
}

/* --- create --- */

static void looked_before_create(struct task *t, struct http_call *c, const struct davit_error *err)
{
	const struct job *job = t->data;
	json_t *o = err ? NULL : http_answer(c);
	bool ours = is_ours(t->e, o);
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&body);
	struct http_call *make;

	json_decref(o);
	if (err && err->code != DAVIT_ENOENT) {
		task_end(t, err);
		return;
	}
	if (!err && ours) {
		task_end(t, NULL);
		return;
	}
	if (!err) {
		task_fail(t, DAVIT_EEXIST, "the %s %s is there and was not made by this davit",
			  job->kind->one, job->name);
		return;
	}
	davit_json_open(&j);
	davit_json_put_string(&j, "Name", job->name);
	davit_json_key(&j, "Labels");
	davit_json_open(&j);
	davit_json_put_string(&j, "davit.home", t->e->home);
	davit_json_close(&j);
	davit_json_close(&j);
	make = http_new(&t->e->calls, "POST", "%s/create", job->kind->path);
	if (make)
		http_json(make, &body);
	task_call(t, make, task_last_step);
}

static void create(struct davit_runtime *rt, const struct kind *kind, const char *name, struct davit_op *op)
{
	struct task *t = job_new(rt, kind, name, op);

	if (t)
		task_call(t, http_new(&t->e->calls, "GET", "%s/%s", kind->path, name), looked_before_create);
}

/* --- remove --- */

static void removed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	if (err && (c->status == 409 || c->status == 403 || strstr(err->message, "being used")))
		task_fail(t, DAVIT_EINUSE, "%s", err->message);
	else
		task_end(t, err);
}

static void looked_before_remove(struct task *t, struct http_call *c, const struct davit_error *err);

static void look_before_remove(struct task *t)
{
	const struct job *job = t->data;

	task_call(t, http_new(&t->e->calls, "GET", "%s/%s", job->kind->path, job->name),
		  looked_before_remove);
}

static void removed_twin(struct task *t, struct http_call *c, const struct davit_error *err)
{
	if (err && err->code != DAVIT_ENOENT)
		removed(t, c, err);
	else
		look_before_remove(t);
}

/* Docker lets two networks have one name when they are made at once (by a daemon that was
 * killed, and the next). One of them goes by its id. */
static void listed_twins(struct task *t, struct http_call *c, const struct davit_error *err)
{
	const struct job *job = t->data;
	json_t *all = err ? NULL : http_answer(c), *o;
	const char *id = NULL;
	size_t i;

	json_array_foreach(all, i, o) if (!strcmp(text(o, "Name"), job->name) && is_ours(t->e, o)) id =
		text(o, "Id");
	if (err)
		task_end(t, err);
	else if (!id)
		task_fail(t, DAVIT_EPERM, "the %s %s was not made by this davit", job->kind->one, job->name);
	else
		task_call(t, http_new(&t->e->calls, "DELETE", "%s/%s", job->kind->path, id), removed_twin);
	json_decref(all);
}

static void looked_before_remove(struct task *t, struct http_call *c, const struct davit_error *err)
{
	const struct job *job = t->data;
	json_t *o = err ? NULL : http_answer(c);
	bool ours = is_ours(t->e, o);

	json_decref(o);
	if (err && err->code == DAVIT_ENOENT)
		task_fail(t, DAVIT_ENOENT, "there is no %s %s", job->kind->one, job->name);
	else if (err && strstr(err->message, "is ambiguous"))
		task_call(t, http_new(&t->e->calls, "GET", "%s", job->kind->path), listed_twins);
	else if (err)
		task_end(t, err);
	else if (!ours)
		task_fail(t, DAVIT_EPERM, "the %s %s was not made by this davit", job->kind->one, job->name);
	else
		task_call(t, http_new(&t->e->calls, "DELETE", "%s/%s", job->kind->path, job->name), removed);
}

static void remove_(struct davit_runtime *rt, const struct kind *kind, const char *name, struct davit_op *op)
{
	struct task *t = job_new(rt, kind, name, op);

	if (t)
		look_before_remove(t);
}

/* --- the two tables --- */

#define OBJECTS(kind)                                                                                        \
	static void kind##_list(struct davit_runtime *rt,                                                    \
				void (*each)(void *user, const struct davit_object_info *info), void *user,  \
				struct davit_op *op)                                                         \
	{                                                                                                    \
		list(rt, &kind, each, user, op);                                                             \
	}                                                                                                    \
	static void kind##_create(struct davit_runtime *rt, const char *name, struct davit_op *op)           \
	{                                                                                                    \
		create(rt, &kind, name, op);                                                                 \
	}                                                                                                    \
	static void kind##_remove(struct davit_runtime *rt, const char *name, struct davit_op *op)           \
	{                                                                                                    \
		remove_(rt, &kind, name, op);                                                                \
	}                                                                                                    \
	const struct davit_objects_facet engine_##kind##s = {                                                \
		.list = kind##_list, .create = kind##_create, .remove = kind##_remove}

OBJECTS(volume);
OBJECTS(network);
