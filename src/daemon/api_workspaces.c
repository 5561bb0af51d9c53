/* SPDX-License-Identifier: MIT
 *
 * Workspaces. Each is a service of the namespace "workspaces" (src/workspace), so
 * what is here is the way in: names without collisions, ids, states in the words of
 * workspaces, and answers that wait until what was asked for is done.
 */
#include "daemon/api.h"

#include "base/units.h"
#include "workspace/config.h"
#include "workspace/workspace.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>

#define WAIT (5 * 60 * DAVIT_NSEC_PER_SEC) /* for a start or a stop */
#define TRIES 20			   /* of a change that others are faster with */

/* ------------------------------------------------------------------------ finding */

static const struct davit_selector all = {.namespace_ = DAVIT_WORKSPACES};

static bool offer(void *user, struct davit_service *s)
{
	struct davit_workspace_search *search = user;
	struct davit_workspace_record w;

	if (davit_workspace_read(davit_service_spec(s), &w))
		davit_workspace_search_offer(search, w.id, w.name, s);
	return true;
}

static int find(struct davit_daemon *d, const char *wanted, struct davit_service **ret,
		struct davit_error *err)
{
	struct davit_workspace_search search = {.wanted = wanted};
	void *found = NULL;
	int r;

	davit_core_services(d->core, &all, offer, &search);
	r = davit_workspace_search_end(&search, &found, err);
	if (r == 0)
		*ret = found;
	return r;
}

static struct davit_selector selector_of(const struct davit_service *s)
{
	const struct davit_spec *spec = davit_service_spec(s);

	return (struct davit_selector){spec->namespace_, spec->name, spec->version};
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
	davit_core_services(call->daemon->core, &all, write_listed, &j);
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

	if (find(call->daemon, call->path[0], &s, &err) < 0)
		api_fail(call, &err);
	else
		reply_one(call, s);
}

/* ----------------------------------------------------------- orders that are waited for */

/* One request on its way through several operations. The workspace is known by its
 * id from the first on: its name may be given anew meanwhile. */
struct order {
	struct api_call *call;
	struct davit_map *coming; /* reservations: key -> order */
	char id[DAVIT_WORKSPACE_ID_MAX];
	char name[DAVIT_WORKSPACE_NAME_MAX];
	unsigned tries;
	bool run;   /* what is waited for */
	bool force; /* of a removal */
	/* init */
	struct davit_workspace_merged merged;
	char *source;
	char wish[DAVIT_WORKSPACE_NAME_MAX];
	unsigned nth;
	bool reserved;
	struct davit_spec *spec;
	struct davit_error why; /* of a start that failed, told when its record is gone */
};

static const char *body_text(const struct order *o, const char *key)
{
	return json_string_value(json_object_get(o->call->body, key));
}

static void unreserve(struct order *o)
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

	unreserve(o);
	davit_workspace_merged_fini(&o->merged);
	davit_spec_free(o->spec);
	free(o->source);
	free(o);
	return call;
}

static void order_fail(struct order *o, const struct davit_error *err)
{
	struct davit_error copy = *err;

	api_fail(order_end(o), &copy);
}

static struct order *order_new(struct api_call *call)
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

	if (find(call->daemon, call->path[0], &s, &err) < 0) {
		api_fail(call, &err);
		return NULL;
	}
	o = order_new(call);
	if (o && davit_workspace_read(davit_service_spec(s), &w))
		strcpy(o->id, w.id);
	return o;
}

/* The order's workspace as it is now, or NULL after the order was ended with the error. */
static struct davit_service *order_target(struct order *o)
{
	struct davit_service *s = NULL;
	struct davit_error err;

	if (find(o->call->daemon, o->id, &s, &err) == 0)
		return s;
	order_fail(o, &err);
	return NULL;
}

/* Begins an operation of the order; `begun` is to be called with what came of it. */
static struct davit_op *step(struct order *o, void (*done)(struct davit_op *, int), int64_t timeout)
{
	davit_op_init(&o->call->op, o->call->daemon->loop, done, o);
	davit_op_begin(&o->call->op, timeout);
	return &o->call->op;
}

static void awaited(struct davit_op *op, int result)
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
		reply_one(order_end(o), s);
}

/* Waits until the workspace is as the order wants it. */
static void await(struct order *o, void (*done)(struct davit_op *, int))
{
	struct davit_service *s = order_target(o);
	struct davit_selector sel;
	struct davit_error err;

	if (!s)
		return;
	sel = selector_of(s);
	strcpy(o->name, sel.name);
	if (davit_core_await(o->call->daemon->core, &sel, o->run, step(o, done, WAIT), &err) < 0)
		order_fail(o, &err);
}

static void control(struct order *o);

static void controlled(struct davit_op *op, int result)
{
	struct order *o = op->user;

	if (result == DAVIT_ECONFLICT && ++o->tries < TRIES)
		control(o);
	else if (result < 0)
		order_fail(o, &op->error);
	else
		await(o, awaited);
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
	sel = selector_of(s);
	davit_service_look(s, &now);
	if (o->run && now.running && now.wanted && now.answers) {
		reply_one(order_end(o), s);
		return;
	}
	if (o->run && !now.running)
		r = davit_workspace_recheck(davit_service_spec(s), &err);
	if (r == 0)
		r = davit_core_control(o->call->daemon->core, &sel,
				       o->run ? DAVIT_SERVICE_START : DAVIT_SERVICE_STOP, o->call->cause,
				       step(o, controlled, 0), &err);
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

	if (result == DAVIT_ECONFLICT && ++o->tries < TRIES)
		drop(o); /* it was started or stopped just now: look again */
	else if (result < 0)
		order_fail(o, &op->error);
	else
		api_empty(order_end(o));
}

static int may_drop(const struct order *o, const char *name, const struct davit_service_look *now,
		    struct davit_error *err)
{
	const char *state = state_of(now);

	if (o->force || (now->answers && !now->running && !(now->wanted && now->moving)))
		return 0;
	if (!strcmp(state, "unknown"))
		return davit_error_set(
			err, DAVIT_ESTATE, "workspace",
			"it is not known whether workspace '%s' runs: %s; --force removes it all the "
			"same",
			name, now->why);
	if (!now->running && !now->wanted)
		return 0;
	return davit_error_set(err, DAVIT_ESTATE, "workspace",
			       "workspace '%s' is running; stop it first, or remove it with --force", name);
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
	sel = selector_of(s);
	davit_service_look(s, &now);
	r = may_drop(o, sel.name, &now, &err);
	if (r == 0)
		r = davit_core_kill(o->call->daemon->core, &sel, now.answers, o->call->cause,
				    step(o, dropped, 0), &err);
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

/* -------------------------------------------------------------------------- init */

struct taken {
	const char *name;
	const char *id; /* or NULL: of one that is to have the name */
	bool taken;
};

/* A name is also taken when it is the beginning of another's id, and an id when it
 * begins with another's name: an id beats a name, and would hide it. */
static bool check_taken(void *user, struct davit_service *s)
{
	struct taken *t = user;
	const struct davit_spec *spec = davit_service_spec(s);
	struct davit_workspace_record w;

	t->taken |= !strcmp(spec->name, t->name);
	if (davit_workspace_read(spec, &w)) {
		t->taken |= !strncmp(w.id, t->name, strlen(t->name));
		t->taken |= t->id && !strncmp(t->id, w.name, strlen(w.name));
	}
	return !t->taken;
}

static bool is_taken(struct order *o, const char *name, const char *id)
{
	struct taken t = {.name = name, .id = id};
	const char *other;
	size_t pos = 0;
	void *v;

	davit_core_services(o->call->daemon->core, &all, check_taken, &t);
	while (davit_map_next(o->coming, &pos, &other, &v)) {
		const struct order *with = v;
		t.taken |= !strcmp(other, name) || !strncmp(with->id, name, strlen(name)) ||
			   (id && !strncmp(id, other, strlen(other)));
	}
	return t.taken;
}

/* A name of the wished kind that nobody has and an id that hides none, reserved until
 * the order ends: two at once do not take the same. */
static int reserve(struct order *o, struct davit_error *err)
{
	int r;

	unreserve(o);
	do
		davit_workspace_name_nth(o->wish, ++o->nth, o->name);
	while (is_taken(o, o->name, NULL));
	do
		r = davit_workspace_id_new(o->id, err);
	while (r == 0 && is_taken(o, o->name, o->id));
	if (r == 0 && davit_map_put(o->coming, o->name, o) < 0)
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	o->reserved = r == 0;
	return r;
}

static const char *home_of(void)
{
	const char *home = getenv("HOME");
	const struct passwd *pw = home && home[0] == '/' ? NULL : getpwuid(geteuid());

	return pw ? pw->pw_dir : home && home[0] == '/' ? home : "/";
}

static int make_spec(struct order *o, struct davit_error *err)
{
	const struct davit_workspace w = {
		.id = o->id,
		.name = o->name,
		.runtime = body_text(o, "runtime"),
		.source = o->source,
		.agent = body_text(o, "agent"),
		.project = body_text(o, "project"),
		.config_path = body_text(o, "configPath"),
		.config = o->merged.config,
		.home = home_of(),
		.start = o->run,
	};
	const struct davit_capabilities *can = davit_core_capabilities(o->call->daemon->core, w.runtime, err);
	DAVIT_AUTO_FREE char *text = NULL;
	json_t *spec;
	int r = can ? davit_workspace_spec(&w, can, &spec, err) : err->code;

	if (r < 0)
		return r;
	text = json_dumps(spec, JSON_COMPACT);
	json_decref(spec);
	if (!text)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	davit_spec_free(o->spec);
	o->spec = NULL;
	r = davit_spec_parse_one(text, strlen(text), NULL, &o->spec, err);
	if (r < 0)
		err->line = err->column = 0; /* of a text that nobody has seen */
	return r;
}

static void create(struct order *o);

static void record_gone(struct davit_op *op, int result)
{
	struct order *o = op->user;

	(void)result; /* when the store fails now, the workspace is there and says error */
	order_fail(o, &o->why);
}

/* A workspace that never ran leaves no record. */
static void first_start(struct davit_op *op, int result)
{
	struct order *o = op->user;
	struct davit_service_look now;
	struct davit_selector sel;
	struct davit_service *s = NULL;
	struct davit_error err;

	if (result == 0 || result == DAVIT_ECLOSED || find(o->call->daemon, o->id, &s, &err) < 0) {
		awaited(op, result);
		return;
	}
	davit_service_look(s, &now);
	if (now.runs > 0) {
		awaited(op, result);
		return;
	}
	o->why = op->error;
	davit_error_prefix(&o->why, "workspace '%s' was not started", o->name);
	sel = selector_of(s);
	if (davit_core_kill(o->call->daemon->core, &sel, now.answers, o->call->cause, step(o, record_gone, 0),
			    &err) < 0)
		order_fail(o, &o->why);
}

static void created(struct davit_op *op, int result)
{
	struct order *o = op->user;
	struct davit_service *s = NULL;

	/* Another daemon on the same store was faster with the name. */
	if ((result == DAVIT_EEXIST || result == DAVIT_ECONFLICT) && ++o->tries < TRIES) {
		create(o);
	} else if (result < 0) {
		order_fail(o, &op->error);
	} else if (o->run) {
		await(o, first_start);
	} else {
		s = order_target(o);
		if (s)
			reply_one(order_end(o), s);
	}
}

static void create(struct order *o)
{
	struct davit_error err;
	int r = reserve(o, &err);

	if (r == 0)
		r = make_spec(o, &err);
	if (r == 0)
		r = davit_core_apply(o->call->daemon->core, &o->spec, 1, DAVIT_APPLY_CREATE, false,
				     o->call->cause, step(o, created, 0), &err);
	if (r < 0)
		order_fail(o, &err);
}

/* The config by the same reader as files, so that the API is as strict. */
static int take_config(struct order *o, struct davit_error *err)
{
	json_t *given = json_object_get(o->call->body, "config"), *config;
	DAVIT_AUTO_FREE char *text = given ? json_dumps(given, JSON_COMPACT) : strdup("{}");
	int r;

	if (!text)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = davit_workspace_config_parse(text, strlen(text), NULL, &config, err);
	if (r < 0) {
		davit_error_prefix(err, "config");
		err->line = err->column = 0;
		return r;
	}
	r = davit_workspace_merge(&o->merged, config, "request", err);
	json_decref(config);
	return r;
}

static int take_source(struct order *o, struct davit_error *err)
{
	const char *given = body_text(o, "source");

	if (given[0] != '/')
		return davit_error_set(err, DAVIT_EINVAL, "source", "the source must be an absolute path");
	o->source = realpath(given, NULL);
	return o->source ? 0 : davit_error_errno(err, errno, "source", "the source %s", given);
}

void api_workspaces_create(struct api_call *call)
{
	struct order *o = order_new(call);
	struct davit_error err;
	int r;

	if (!o)
		return;
	o->run = json_is_true(json_object_get(call->body, "start"));
	r = take_source(o, &err);
	if (r == 0)
		r = take_config(o, &err);
	if (r < 0) {
		order_fail(o, &err);
		return;
	}
	if (body_text(o, "name"))
		davit_workspace_name(body_text(o, "name"), o->wish);
	else
		davit_workspace_name_of_path(o->source, o->wish);
	create(o);
}
