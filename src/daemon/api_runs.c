/* SPDX-License-Identifier: MIT
 *
 * Runs of plans: begun, listed, ended. What happens in one is in api_run_events.c.
 */
#include "daemon/api.h"
#include "daemon/runs.h"

#include "step/plan.h"

#include <string.h>

/* The run that the path names: 0, or a code after the error was answered. */
int api_run(struct api_call *call, struct davit_run *ret)
{
	struct davit_error err = {0};
	int r = davit_run_find(&call->daemon->paths, call->path[0], ret, &err);

	if (r < 0)
		api_fail(call, &err);
	return r;
}

static const char *text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void put_value(struct davit_json *j, const char *key, const json_t *v)
{
	DAVIT_AUTO_FREE char *s = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	davit_json_key(j, key);
	davit_json_raw(j, s ? s : "null");
}

/* The members of a run in an open object. */
static void write_run(struct davit_json *j, const struct davit_run *r)
{
	static const char *const states[] = {"waiting", "running", "ended"};

	davit_json_put_string(j, "id", r->id);
	davit_json_put_string(j, "name", text(r->about, "name"));
	davit_json_put_string(j, "kind", text(r->about, "kind"));
	davit_json_put_string(j, "pipeline", text(r->about, "pipeline"));
	davit_json_put_string(j, "state", states[r->state]);
	davit_json_put_string(j, "outcome", text(r->end, "outcome"));
	davit_json_put_string(j, "message", text(r->end, "message"));
	davit_json_put_string(j, "created", text(r->about, "created"));
	davit_json_put_string(j, "ended", text(r->end, "ended"));
	if (r->state == DAVIT_RUN_RUNNING && r->host)
		davit_json_put_int(j, "host", r->host);
	davit_json_put_int(j, "bytes", (int64_t)r->bytes);
}

static int list_one(void *user, const struct davit_run *r)
{
	struct davit_json *j = user;

	davit_json_open(j);
	write_run(j, r);
	davit_json_close(j);
	return 0;
}

void api_runs_list(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);
	struct davit_error err = {0};
	int r;

	davit_json_open_array(&j);
	r = davit_runs_each(&call->daemon->paths, list_one, &j, &err);
	davit_json_close_array(&j);
	if (r < 0)
		api_fail(call, &err);
	else
		api_reply(call, &out);
}

static void reply_run(struct api_call *call, const struct davit_run *r, const json_t *plan)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_json_open(&j);
	write_run(&j, r);
	put_value(&j, "inputs", json_object_get(r->about, "inputs"));
	put_value(&j, "outputs", json_object_get(r->about, "outputs"));
	put_value(&j, "notes", json_object_get(r->about, "notes"));
	put_value(&j, "artifacts", json_object_get(r->end, "artifacts"));
	put_value(&j, "plan", plan);
	davit_json_close(&j);
	api_reply(call, &out);
}

void api_run_get(struct api_call *call)
{
	struct davit_error err = {0};
	struct davit_run run;
	json_t *plan = NULL;

	if (api_run(call, &run) < 0)
		return;
	if (davit_run_plan(&call->daemon->paths, run.id, &plan, &err) < 0)
		api_fail(call, &err);
	else
		reply_run(call, &run, plan);
	davit_run_fini(&run);
	json_decref(plan);
}

/* Is it a map of texts? */
static int check_texts(const json_t *map, const char *what, struct davit_error *err)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)map, key, v) if (!json_is_string(v)) return davit_error_set(
		err, DAVIT_EINVAL, what, "%s.%.64s must be the id of an artifact", what, key);
	return 0;
}

/* The host of a run has no directory that anybody else knows. */
static int check_outputs(const json_t *map, struct davit_error *err)
{
	const char *key, *path;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)map, key, v)
	{
		path = json_string_value(v);
		if (!path || *path != '/')
			return davit_error_set(err, DAVIT_EINVAL, "outputs",
					       "outputs.%.64s must be an absolute path", key);
	}
	return 0;
}

static int check_body(const json_t *body, struct davit_error *err)
{
	struct davit_plan *plan = NULL;
	int r = check_texts(json_object_get(body, "inputs"), "inputs", err);

	if (r == 0)
		r = check_outputs(json_object_get(body, "outputs"), err);
	if (r == 0)
		r = davit_plan_read(json_object_get(body, "plan"), NULL, NULL, &plan, err);
	davit_plan_free(plan);
	return r;
}

void api_runs_create(struct api_call *call)
{
	struct davit_error err = {0};
	char id[DAVIT_RUN_ID_MAX];
	struct davit_run run;
	json_t *about, *plan = json_object_get(call->body, "plan");
	int r = check_body(call->body, &err);

	about = r == 0 ? json_copy(call->body) : NULL;
	if (r == 0 && (!about || json_object_del(about, "plan") < 0))
		r = davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0 && !json_object_get(about, "kind"))
		json_object_set_new(about, "kind", json_string("job"));
	if (r == 0)
		r = davit_run_create(&call->daemon->paths, about, plan, davit_loop_wall(call->daemon->loop),
				     id, &err);
	json_decref(about);
	if (r == 0) {
		runs_start(call->daemon->runs, id);
		r = davit_run_find(&call->daemon->paths, id, &run, &err);
	}
	if (r < 0) {
		api_fail(call, &err);
		return;
	}
	reply_run(call, &run, plan);
	davit_run_fini(&run);
}

void api_run_abort(struct api_call *call)
{
	struct davit_error err = {0};
	struct davit_run run;
	int r;

	if (api_run(call, &run) < 0)
		return;
	r = davit_run_abort(&call->daemon->paths, run.id, json_is_true(json_object_get(call->body, "force")),
			    &err);
	davit_run_fini(&run);
	if (r < 0)
		api_fail(call, &err);
	else
		api_empty(call);
}

void api_run_delete(struct api_call *call)
{
	struct davit_error err = {0};
	struct davit_run run;
	int r;

	if (api_run(call, &run) < 0)
		return;
	r = davit_run_remove(&call->daemon->paths, run.id, &err);
	davit_run_fini(&run);
	if (r < 0)
		api_fail(call, &err);
	else
		api_empty(call);
}

static void tell_collected(void *user, const struct davit_run *r, bool removed, const char *why)
{
	struct davit_json *j = user;

	davit_json_open(j);
	davit_json_put_string(j, "id", r->id);
	davit_json_put_bool(j, "removed", removed);
	davit_json_put_string(j, "why", why);
	davit_json_put_int(j, "bytes", (int64_t)r->bytes);
	davit_json_close(j);
}

void api_runs_prune(struct api_call *call)
{
	const json_t *keep = json_object_get(call->body, "keep"), *age = json_object_get(call->body, "age");
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);
	struct davit_error err = {0};
	int r;

	davit_json_open_array(&j);
	r = davit_runs_collect(&call->daemon->paths,
			       keep ? (size_t)json_integer_value(keep) : DAVIT_RUNS_KEEP,
			       age ? json_integer_value(age) : DAVIT_RUNS_AGE,
			       davit_loop_wall(call->daemon->loop), tell_collected, &j, &err);
	davit_json_close_array(&j);
	if (r < 0)
		api_fail(call, &err);
	else
		api_reply(call, &out);
}
