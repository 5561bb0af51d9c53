/* SPDX-License-Identifier: MIT
 *
 * Making a workspace: a name that nobody has, an id, a record, and the first start if
 * that is asked for.
 */
#include "daemon/workspaces.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>

static const char *body_text(const struct order *o, const char *key)
{
	return json_string_value(json_object_get(o->call->body, key));
}

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

	davit_core_services(o->call->daemon->core, &workspaces_all, check_taken, &t);
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

	order_unreserve(o);
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

	if (result == 0 || result == DAVIT_ECLOSED || workspace_find(o->call->daemon, o->id, &s, &err) < 0) {
		order_awaited(op, result);
		return;
	}
	davit_service_look(s, &now);
	if (now.runs > 0) {
		order_awaited(op, result);
		return;
	}
	o->why = op->error;
	davit_error_prefix(&o->why, "workspace '%s' was not started", o->name);
	sel = api_selector_of(s);
	if (davit_core_kill(o->call->daemon->core, &sel, now.answers, o->call->cause,
			    order_step(o, record_gone, 0), &err) < 0)
		order_fail(o, &o->why);
}

static void created(struct davit_op *op, int result)
{
	struct order *o = op->user;
	struct davit_service *s = NULL;

	/* Another daemon on the same store was faster with the name. */
	if ((result == DAVIT_EEXIST || result == DAVIT_ECONFLICT) && ++o->tries < WORKSPACE_TRIES) {
		create(o);
	} else if (result < 0) {
		order_fail(o, &op->error);
	} else if (o->run) {
		order_await(o, first_start);
	} else {
		s = order_target(o);
		if (s)
			order_reply(o, s);
	}
}

static void create(struct order *o)
{
	struct davit_error err;
	int r = reserve(o, &err);

	if (r == 0)
		r = make_spec(o, &err);
	if (r == 0)
		r = davit_core_apply(o->call->daemon->core, &o->spec, 1, DAVIT_APPLY_CREATE, false, 0,
				     o->call->cause, order_step(o, created, 0), &err);
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
