/* SPDX-License-Identifier: MIT
 *
 * Projects: made, started, stopped and removed as the services that they are.
 */
#include "daemon/projects.h"

#include "base/file.h"
#include "base/units.h"

#include <errno.h>
#include <string.h>

#define WAIT (60 * DAVIT_NSEC_PER_SEC) /* for a start or a stop */

/* --- writing --- */

static const char *state_of(const struct davit_service_look *now)
{
	if (!now->answers && (now->wanted || now->running))
		return "unknown";
	if (now->running)
		return "running";
	return !now->wanted ? "stopped" : now->moving ? "starting" : "error";
}

static bool write_instance(void *user, struct davit_instance *i)
{
	davit_json_put_string(user, "instance", i->workload->id);
	return false; /* there is one */
}

static void write_project(struct davit_service *s, struct davit_json *j)
{
	struct davit_service_look now;
	const struct davit_spec *spec = davit_service_spec(s);

	davit_service_look(s, &now);
	davit_json_open(j);
	davit_json_put_string(j, "name", spec->name);
	davit_json_put_string(j, "state", state_of(&now));
	davit_json_put_string(j, "error", now.running && now.answers ? "" : now.why);
	davit_json_put_string(j, "directory", spec->directory);
	davit_json_put_int(j, "restarts", now.runs > 1 ? now.runs - 1 : 0);
	davit_json_put_time(j, "created", now.created);
	davit_service_instances(s, write_instance, j);
	davit_json_close(j);
}

static bool write_listed(void *user, struct davit_service *s)
{
	struct davit_service *p;

	if (project_find(user ? ((struct api_call *)user)->daemon : NULL, davit_service_spec(s)->name, &p,
			 NULL) == 0 &&
	    p == s)
		write_project(s, ((struct api_call *)user)->state);
	return true;
}

void api_projects_list(struct api_call *call)
{
	const struct davit_selector all = {.namespace_ = PROJECTS};
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	call->state = &j;
	davit_json_open_array(&j);
	davit_core_services(call->daemon->core, &all, write_listed, call);
	davit_json_close_array(&j);
	api_reply(call, &out);
}

/* The project of the path, or NULL after the error was answered. */
static struct davit_service *target(struct api_call *call)
{
	struct davit_service *s = NULL;
	struct davit_error err;

	if (project_find(call->daemon, call->path[0], &s, &err) == 0)
		return s;
	api_fail(call, &err);
	return NULL;
}

static void reply(struct api_call *call, const char *name)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);
	struct davit_service *s = NULL;
	struct davit_error err;

	if (project_find(call->daemon, name, &s, &err) < 0) {
		api_fail(call, &err);
		return;
	}
	write_project(s, &j);
	api_reply(call, &out);
}

void api_project_get(struct api_call *call)
{
	reply(call, call->path[0]);
}

/* --- making --- */

int project_create(struct api_call *call, const struct project_wish *w,
		   void (*done)(struct davit_op *op, int result), struct davit_error *err)
{
	DAVIT_AUTO_FREE char *socket = project_socket(call->daemon, w->name);
	DAVIT_AUTO_FREE char *record = project_record(call->daemon, w->name);
	struct davit_spec *spec = NULL;
	int r = socket && record ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");

	if (r == 0) {
		*strrchr(socket, '/') = *strrchr(record, '/') = '\0';
		r = davit_mkdirs(socket, 0700, err);
	}
	if (r == 0)
		r = davit_mkdirs(record, 0700, err);
	if (r == 0)
		r = project_spec(call->daemon, w, &spec, err);
	if (r < 0)
		return r;
	davit_op_init(&call->op, call->daemon->loop, done, call);
	davit_op_begin(&call->op, 0);
	r = davit_core_apply(call->daemon->core, &spec, 1, DAVIT_APPLY_CREATE, false, 0, call->cause,
			     &call->op, err);
	if (r < 0)
		davit_timer_stop(&call->op.deadline);
	davit_spec_free(spec);
	return r;
}

static const char *name_of(const struct api_call *call)
{
	return call->path[0] ? call->path[0] : json_string_value(json_object_get(call->body, "name"));
}

static void awaited(struct davit_op *op, int result)
{
	struct api_call *call = op->user;

	if (result == 0) {
		reply(call, name_of(call));
		return;
	}
	davit_error_prefix(&op->error, "project '%s' is not as wanted", name_of(call));
	api_fail(call, &op->error);
}

static void await(struct api_call *call, bool running)
{
	struct davit_service *s = NULL;
	struct davit_selector sel;
	struct davit_error err;
	int r = project_find(call->daemon, name_of(call), &s, &err);

	if (r < 0) {
		api_fail(call, &err);
		return;
	}
	sel = api_selector_of(s);
	davit_op_init(&call->op, call->daemon->loop, awaited, call);
	davit_op_begin(&call->op, WAIT);
	r = davit_core_await(call->daemon->core, &sel, running, &call->op, &err);
	if (r < 0) {
		davit_timer_stop(&call->op.deadline);
		api_fail(call, &err);
	}
}

/* It is to run: answers when it does. */
static void started(struct davit_op *op, int result)
{
	if (result < 0)
		api_fail(op->user, &op->error);
	else
		await(op->user, true);
}

void api_projects_create(struct api_call *call)
{
	const json_t *b = call->body;
	const struct project_wish w = {
		.name = json_string_value(json_object_get(b, "name")),
		.directory = json_string_value(json_object_get(b, "directory")),
		.search_thread = json_string_value(json_object_get(b, "searchThread")),
		.search_process = json_string_value(json_object_get(b, "searchProcess")),
		.workers = json_integer_value(json_object_get(b, "workers")),
	};
	struct davit_service *s = NULL;
	struct davit_error err;

	if (project_find(call->daemon, w.name, &s, NULL) == 0)
		api_fail_with(call, DAVIT_EEXIST, "name", "there is a project '%s' already", w.name);
	else if (w.directory && w.directory[0] != '/')
		api_fail_with(call, DAVIT_EINVAL, "directory", "the directory must be an absolute path");
	else if (project_create(call, &w, started, &err) < 0)
		api_fail(call, &err);
}

/* --- start, stop, removal --- */

static void stopped(struct davit_op *op, int result)
{
	if (result < 0)
		api_fail(op->user, &op->error);
	else
		await(op->user, false);
}

static void control(struct api_call *call, enum davit_service_verb verb, void (*done)(struct davit_op *, int))
{
	struct davit_service *s = target(call);
	struct davit_service_look now;
	struct davit_selector sel;
	struct davit_error err;

	if (!s)
		return;
	davit_service_look(s, &now);
	if (verb == DAVIT_SERVICE_START && now.wanted && now.running) {
		reply(call, call->path[0]);
		return;
	}
	sel = api_selector_of(s);
	davit_op_init(&call->op, call->daemon->loop, done, call);
	davit_op_begin(&call->op, 0);
	if (davit_core_control(call->daemon->core, &sel, verb, call->cause, &call->op, &err) < 0)
		api_fail(call, &err);
}

void api_project_start(struct api_call *call)
{
	control(call, DAVIT_SERVICE_START, started);
}

void api_project_stop(struct api_call *call)
{
	control(call, DAVIT_SERVICE_STOP, stopped);
}

static void dropped(struct davit_op *op, int result)
{
	struct api_call *call = op->user;
	DAVIT_AUTO_FREE char *record = project_record(call->daemon, call->path[0]);
	DAVIT_AUTO_FREE char *socket = project_socket(call->daemon, call->path[0]);

	if (result < 0)
		api_fail(call, &op->error);
	else if (!record || !socket)
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
	else if ((unlink(record) < 0 && errno != ENOENT) || (unlink(socket) < 0 && errno != ENOENT))
		api_fail_with(call, DAVIT_EIO, NULL, "cannot remove %s: %s", record, strerror(errno));
	else
		api_empty(call);
}

void api_project_delete(struct api_call *call)
{
	struct davit_service *s = target(call);
	struct davit_service_look now;
	struct davit_selector sel;
	struct davit_error err;

	if (!s)
		return;
	davit_service_look(s, &now);
	if (now.running && !api_query_bool(call, "force")) {
		api_fail_with(call, DAVIT_ESTATE, "project",
			      "project '%s' is running; stop it first, or destroy it with --force",
			      call->path[0]);
		return;
	}
	sel = api_selector_of(s);
	davit_op_init(&call->op, call->daemon->loop, dropped, call);
	davit_op_begin(&call->op, 0);
	if (davit_core_kill(call->daemon->core, &sel, now.answers, call->cause, &call->op, &err) < 0)
		api_fail(call, &err);
}
