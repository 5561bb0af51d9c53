/* SPDX-License-Identifier: MIT
 *
 * Workspaces. Each is a service of the namespace "workspaces" (src/workspace), so
 * what is here is the way in: names without collisions, ids, states in the words of
 * workspaces, and answers that wait until what was asked for is done.
 */
#include "daemon/workspaces.h"

#include "base/units.h"

#include <string.h>

#define WAIT (5 * 60 * DAVIT_NSEC_PER_SEC) /* for a start or a stop */

/* ------------------------------------------------------------------------ finding */

const struct davit_selector workspaces_all = {.namespace_ = DAVIT_WORKSPACES};

static bool offer(void *user, struct davit_service *s)
{
	struct davit_workspace_search *search = user;
	struct davit_workspace_record w;

	if (davit_workspace_read(davit_service_spec(s), &w))
		davit_workspace_search_offer(search, w.id, w.name, s);
	return true;
}

int workspace_find(struct davit_daemon *d, const char *wanted, struct davit_service **ret,
		   struct davit_error *err)
{
	struct davit_workspace_search search = {.wanted = wanted};
	void *found = NULL;
	int r;

	davit_core_services(d->core, &workspaces_all, offer, &search);
	r = davit_workspace_search_end(&search, &found, err);
	if (r == 0)
		*ret = found;
	return r;
}

/* ------------------------------------------------------------------------ writing */

/* The four words of workspaces, as things are now. */
static const char *state_of(const struct davit_service_look *now)
{
	if (!now->answers && (now->wanted || now->running))
		return "unknown";
	if (now->running)
		return "running";
	return now->wanted && now->failed ? "error" : "stopped";
}

static bool write_instance(void *user, struct davit_instance *i)
{
	struct davit_json *j = user;
	const struct davit_workload *w = i->workload;

	davit_json_put_string(j, "instance", w->id);
	davit_json_key(j, "ports");
	davit_json_open_array(j);
	for (size_t k = 0; k < w->n_ports; k++) {
		davit_json_open(j);
		davit_json_put_int(j, "container",
				   w->ports[k].container ? w->ports[k].container : w->ports[k].host);
		davit_json_put_int(j, "host", w->ports[k].host);
		davit_json_close(j);
	}
	davit_json_close_array(j);
	return false; /* there is one */
}

static void write_shell(const char *words, struct davit_json *j)
{
	davit_json_key(j, "shell");
	if (words[0])
		davit_json_raw(j, words);
	else
		davit_json_null(j);
}

static void write_workspace(struct davit_service *s, struct davit_json *j)
{
	struct davit_workspace_record w;
	struct davit_service_look now;

	davit_workspace_read(davit_service_spec(s), &w);
	davit_service_look(s, &now);
	davit_json_open(j);
	davit_json_put_string(j, "id", w.id);
	davit_json_put_string(j, "name", w.name);
	davit_json_put_string(j, "state", state_of(&now));
	davit_json_put_string(j, "error", now.running && now.answers ? "" : now.why);
	davit_json_put_string(j, "runtime", w.runtime);
	davit_json_put_string(j, "source", w.source);
	davit_json_put_string(j, "image", w.image[0] ? w.image : NULL);
	davit_json_put_string(j, "agent", w.agent[0] ? w.agent : NULL);
	davit_json_put_string(j, "project", w.project[0] ? w.project : NULL);
	davit_json_put_string(j, "config", w.config_path[0] ? w.config_path : NULL);
	write_shell(w.shell, j);
	davit_json_put_time(j, "created", now.created);
	davit_json_put_time(j, "updated", now.updated);
	if (!davit_service_instances(s, write_instance, j)) {
		davit_json_put_string(j, "instance", NULL);
		davit_json_key(j, "ports");
		davit_json_open_array(j);
		davit_json_close_array(j);
	}
	davit_json_close(j);
}

static bool write_listed(void *user, struct davit_service *s)
{
	struct davit_workspace_record w;

	if (davit_workspace_read(davit_service_spec(s), &w))
		write_workspace(s, user);
	return true;
}

void api_workspaces_list(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_json_open_array(&j);
	davit_core_services(call->daemon->core, &workspaces_all, write_listed, &j);
	davit_json_close_array(&j);
	api_reply(call, &out);
}

static void reply_one(struct api_call *call, struct davit_service *s)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	write_workspace(s, &j);
	api_reply(call, &out);
}

void api_workspace_get(struct api_call *call)
{
	struct davit_service *s = NULL;
	struct davit_error err;

	if (workspace_find(call->daemon, call->path[0], &s, &err) < 0)
		api_fail(call, &err);
	else
		reply_one(call, s);
}

/* ----------------------------------------------------------- orders that are waited for */

void order_unreserve(struct order *o)
{
	if (!o->reserved)
		return;
	o->reserved = false;
	davit_map_remove(o->coming, o->name);
	if (!o->coming->len)
		davit_map_fini(o->coming);
}

/* Ends the order; the call goes on without it. */
static struct api_call *order_end(struct order *o)
{
	struct api_call *call = o->call;

	order_unreserve(o);
	davit_workspace_merged_fini(&o->merged);
	davit_spec_free(o->spec);
	free(o->source);
	free(o);
	return call;
}

void order_fail(struct order *o, const struct davit_error *err)
{
	struct davit_error copy = *err;

	api_fail(order_end(o), &copy);
}

void order_reply(struct order *o, struct davit_service *s)
{
	reply_one(order_end(o), s);
}

struct order *order_new(struct api_call *call)
{
	struct order *o = calloc(1, sizeof *o);

	if (!o) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	o->call = call;
	o->coming = &call->daemon->workspaces;
	return o;
}

/* An order for the workspace that the path names; NULL after the error was answered. */
static struct order *order_of_path(struct api_call *call)
{
	struct davit_workspace_record w;
	struct davit_service *s = NULL;
	struct davit_error err;
	struct order *o;

	if (workspace_find(call->daemon, call->path[0], &s, &err) < 0) {
		api_fail(call, &err);
		return NULL;
	}
	o = order_new(call);
	if (o && davit_workspace_read(davit_service_spec(s), &w))
		strcpy(o->id, w.id);
	return o;
}

struct davit_service *order_target(struct order *o)
{
	struct davit_service *s = NULL;
	struct davit_error err;

	if (workspace_find(o->call->daemon, o->id, &s, &err) == 0)
		return s;
	order_fail(o, &err);
	return NULL;
}

struct davit_op *order_step(struct order *o, void (*done)(struct davit_op *, int), int64_t timeout)
{
	davit_op_init(&o->call->op, o->call->daemon->loop, done, o);
	davit_op_begin(&o->call->op, timeout);
	return &o->call->op;
}

void order_awaited(struct davit_op *op, int result)
{
	struct order *o = op->user;
	struct davit_service *s = NULL;

	if (result < 0) {
		davit_error_prefix(&op->error, "workspace '%s' is not %s", o->name,
				   o->run ? "running" : "stopped");
		order_fail(o, &op->error);
		return;
	}
	s = order_target(o);
	if (s)
		order_reply(o, s);
}

void order_await(struct order *o, void (*done)(struct davit_op *, int))
{
	struct davit_service *s = order_target(o);
	struct davit_selector sel;
	struct davit_error err;

	if (!s)
		return;
	sel = api_selector_of(s);
	strcpy(o->name, sel.name);
	if (davit_core_await(o->call->daemon->core, &sel, o->run, order_step(o, done, WAIT), &err) < 0) {
		davit_timer_stop(&o->call->op.deadline);
		order_fail(o, &err);
	}
}

static void control(struct order *o);

static void controlled(struct davit_op *op, int result)
{
	struct order *o = op->user;

	if (result == DAVIT_ECONFLICT && ++o->tries < WORKSPACE_TRIES)
		control(o);
	else if (result < 0)
		order_fail(o, &op->error);
	else
		order_await(o, order_awaited);
}

/* Starts or stops, whichever the order wants; what is so already is not touched. */
static void control(struct order *o)
{
	struct davit_service *s = order_target(o);
	struct davit_service_look now;
	struct davit_selector sel;
	struct davit_error err;
	int r = 0;

	if (!s)
		return;
	sel = api_selector_of(s);
	davit_service_look(s, &now);
	if (o->run && now.running && now.wanted && now.answers) {
		order_reply(o, s);
		return;
	}
	if (o->run && !now.running)
		r = davit_workspace_recheck(davit_service_spec(s), &err);
	if (r == 0)
		r = davit_core_control(o->call->daemon->core, &sel,
				       o->run ? DAVIT_SERVICE_START : DAVIT_SERVICE_STOP, o->call->cause,
				       order_step(o, controlled, 0), &err);
	if (r < 0)
		order_fail(o, &err);
}

void api_workspace_start(struct api_call *call)
{
	struct order *o = order_of_path(call);

	if (o) {
		o->run = true;
		control(o);
	}
}

void api_workspace_stop(struct api_call *call)
{
	struct order *o = order_of_path(call);

	if (o)
		control(o);
}

/* ----------------------------------------------------------------------- removing */

static void drop(struct order *o);

static void dropped(struct davit_op *op, int result)
{
	struct order *o = op->user;

	if (result == DAVIT_ECONFLICT && ++o->tries < WORKSPACE_TRIES)
		drop(o); /* it was started or stopped just now: look again */
	else if (result < 0)
		order_fail(o, &op->error);
	else
		api_empty(order_end(o));
}

static int may_drop(const struct order *o, const char *name, const struct davit_service_look *now,
		    struct davit_error *err)
{
	if (o->force)
		return 0;
	if (!now->answers && (now->wanted || now->running))
		return davit_error_set(
			err, DAVIT_ESTATE, "workspace",
			"it is not known whether workspace '%s' runs: %s; --force removes it all "
			"the same",
			name, now->why);
	if (now->running || (now->wanted && now->moving))
		return davit_error_set(err, DAVIT_ESTATE, "workspace",
				       "workspace '%s' is running; stop it first, or remove it with --force",
				       name);
	return 0;
}

/* With a runtime that does not answer nobody waits: what it still holds goes when it
 * answers again. */
static void drop(struct order *o)
{
	struct davit_service *s = order_target(o);
	struct davit_service_look now;
	struct davit_selector sel;
	struct davit_error err;
	int r;

	if (!s)
		return;
	sel = api_selector_of(s);
	davit_service_look(s, &now);
	r = may_drop(o, sel.name, &now, &err);
	if (r == 0)
		r = davit_core_kill(o->call->daemon->core, &sel, now.answers, o->call->cause,
				    order_step(o, dropped, 0), &err);
	if (r < 0)
		order_fail(o, &err);
}

void api_workspace_delete(struct api_call *call)
{
	struct order *o = order_of_path(call);

	if (o) {
		o->force = api_query_bool(call, "force");
		drop(o);
	}
}
