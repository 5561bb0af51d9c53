/* SPDX-License-Identifier: MIT
 *
 * Services: listing, applying, commanding.
 */
#include "daemon/api.h"

#include "base/signals.h"

#include <string.h>

/* --- listing --- */

static bool write_service(void *user, struct davit_service *s)
{
	davit_service_write(s, user);
	return true;
}

/* The columns of `davit status`; the rows are what a terminal shows, so that
 * listing many costs little on both sides. */
static const char *const columns[] = {"namespace", "name",  "version", "runtime", "source",
				      "status",	   "build", "updated", "metadata"};

static bool write_row(void *user, struct davit_service *s)
{
	davit_service_write_row(s, user);
	return true;
}

static void write_table(struct davit_core *core, const struct davit_selector *sel, struct davit_json *j)
{
	davit_json_open(j);
	davit_json_key(j, "columns");
	davit_json_open_array(j);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(columns); i++)
		davit_json_string(j, columns[i]);
	davit_json_close_array(j);
	davit_json_key(j, "rows");
	davit_json_open_array(j);
	davit_core_services(core, sel, write_row, j);
	davit_json_close_array(j);
	davit_json_close(j);
}

void api_services_list(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);
	struct davit_selector sel = api_selector(call);
	const char *view = api_query(call, "view");

	if (view && !strcmp(view, "table")) {
		write_table(call->daemon->core, &sel, &j);
	} else {
		davit_json_open_array(&j);
		davit_core_services(call->daemon->core, &sel, write_service, &j);
		davit_json_close_array(&j);
	}
	api_reply(call, &out);
}

static void one(struct api_call *call, void (*write)(const struct davit_service *, struct davit_json *))
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);
	struct davit_service *s;

	if (api_service(call, &s) < 0)
		return;
	write(s, &j);
	api_reply(call, &out);
}

void api_service_get(struct api_call *call)
{
	one(call, davit_service_write);
}

void api_service_inspect(struct api_call *call)
{
	one(call, davit_service_write_inspect);
}

void api_service_why(struct api_call *call)
{
	one(call, davit_service_write_why);
}

/* --- applying --- */

struct apply {
	struct davit_spec **specs;
	size_t n;
};

static void free_apply(struct api_call *call)
{
	struct apply *a = call->state;

	davit_spec_free_all(a->specs, a->n);
	free(a);
}

static const char *kind_name(enum davit_kind kind)
{
	switch (kind) {
	case DAVIT_KIND_SUPERVISOR:
		return "Supervisor";
	case DAVIT_KIND_NAMESPACE:
		return "Namespace";
	case DAVIT_KIND_SERVICE:
		break;
	}
	return "Service";
}

static void applied(struct davit_op *op, int result)
{
	struct api_call *call = op->user;
	struct apply *a = call->state;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	if (!call->gone && !api_query(call, "revision") && api_again(call, result)) {
		free_apply(call);
		api_services_apply(call);
		return;
	}
	davit_json_open(&j);
	davit_json_key(&j, "services");
	davit_json_open_array(&j);
	for (size_t i = 0; i < a->n; i++) {
		davit_json_open(&j);
		davit_json_put_string(&j, "kind", kind_name(a->specs[i]->kind));
		davit_json_put_string(&j, "namespace", a->specs[i]->namespace_);
		davit_json_put_string(&j, "name", a->specs[i]->name);
		davit_json_put_string(&j, "version", a->specs[i]->version);
		davit_json_close(&j);
	}
	davit_json_close_array(&j);
	davit_json_close(&j);
	free_apply(call);
	if (result < 0) {
		if (!call->gone)
			davit_spec_locate(davit_buf_str(&call->request->body), call->request->body.len,
					  &op->error);
		api_fail(call, &op->error);
	} else {
		api_reply(call, &out);
	}
}

static enum davit_apply_mode apply_mode(const struct api_call *call)
{
	const char *mode = api_query(call, "mode");

	return !mode || !strcmp(mode, "apply") ? DAVIT_APPLY_EITHER
	       : !strcmp(mode, "create")       ? DAVIT_APPLY_CREATE
	       : !strcmp(mode, "validate")     ? DAVIT_APPLY_VALIDATE
					       : DAVIT_APPLY_UPDATE;
}

void api_services_apply(struct api_call *call)
{
	const struct davit_buf *body = &call->request->body;
	struct apply *a = calloc(1, sizeof *a);
	struct davit_error err = {0};
	int r;

	if (!a) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	call->state = a;
	r = davit_spec_parse(davit_buf_str(body), body->len, NULL, &a->specs, &a->n, &err);
	if (r == 0) {
		davit_op_init(&call->op, call->daemon->loop, applied, call);
		davit_op_begin(&call->op, 0);
		r = davit_core_apply(call->daemon->core, a->specs, a->n, apply_mode(call),
				     api_query_bool(call, "force"), api_query_int(call, "revision", 0),
				     call->cause, &call->op, &err);
	}
	if (r < 0) {
		/* Of what the parser refuses the place is known; where names no key of a spec then. */
		if (a->n)
			davit_spec_locate(davit_buf_str(body), body->len, &err);
		free_apply(call);
		api_fail(call, &err);
	}
}

/* --- commanding --- */

void api_service_delete(struct api_call *call)
{
	struct davit_selector sel = api_selector(call);
	struct davit_error err = {0};

	api_begin_change(call);
	api_begun(call,
		  davit_core_kill(call->daemon->core, &sel, api_query_bool(call, "wait"), call->cause,
				  &call->op, &err),
		  &err);
}

static void control(struct api_call *call, enum davit_service_verb verb)
{
	struct davit_selector sel = api_selector(call);
	struct davit_error err = {0};

	api_begin_change(call);
	api_begun(call, davit_core_control(call->daemon->core, &sel, verb, call->cause, &call->op, &err),
		  &err);
}

void api_service_start(struct api_call *call)
{
	control(call, DAVIT_SERVICE_START);
}

void api_service_stop(struct api_call *call)
{
	control(call, DAVIT_SERVICE_STOP);
}

void api_service_restart(struct api_call *call)
{
	control(call, DAVIT_SERVICE_RESTART);
}

void api_service_scale(struct api_call *call)
{
	struct davit_selector sel = api_selector(call);
	struct davit_error err = {0};
	int64_t n = json_integer_value(json_object_get(call->body, "instances"));

	api_begin_change(call);
	api_begun(call, davit_core_scale(call->daemon->core, &sel, n, call->cause, &call->op, &err), &err);
}

void api_service_signal(struct api_call *call)
{
	const char *name = json_string_value(json_object_get(call->body, "signal"));
	const char *instance = json_string_value(json_object_get(call->body, "instance"));
	struct davit_selector sel = api_selector(call);
	struct davit_error err = {0};
	int signo = davit_signal_parse(name);

	if (signo <= 0) {
		api_fail_with(call, DAVIT_EINVAL, "signal", "'%s' is no signal", name);
		return;
	}
	api_begin(call);
	api_begun(call, davit_core_signal(call->daemon->core, &sel, instance, signo, &call->op, &err), &err);
}

static void set_paused(struct api_call *call, bool pause)
{
	const char *instance = json_string_value(json_object_get(call->body, "instance"));
	struct davit_selector sel = api_selector(call);
	struct davit_error err = {0};

	api_begin(call);
	api_begun(call,
		  davit_core_pause(call->daemon->core, &sel, instance, pause, call->cause, &call->op, &err),
		  &err);
}

void api_service_pause(struct api_call *call)
{
	set_paused(call, true);
}

void api_service_unpause(struct api_call *call)
{
	set_paused(call, false);
}

/* --- supervisors and namespaces: made like services, by applying a spec --- */

static void write_kind(struct api_call *call, enum davit_kind kind)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_core_write_kind(call->daemon->core, kind, &j);
	api_reply(call, &out);
}

void api_supervisors_list(struct api_call *call)
{
	write_kind(call, DAVIT_KIND_SUPERVISOR);
}

void api_namespaces_list(struct api_call *call)
{
	write_kind(call, DAVIT_KIND_NAMESPACE);
}

void api_supervisor_delete(struct api_call *call)
{
	struct davit_error err = {0};

	api_begin_change(call);
	api_begun(call,
		  davit_core_remove(call->daemon->core, DAVIT_KIND_SUPERVISOR, call->path[0], call->path[1],
				    call->cause, &call->op, &err),
		  &err);
}

void api_namespace_delete(struct api_call *call)
{
	struct davit_error err = {0};

	api_begin_change(call);
	api_begun(call,
		  davit_core_remove(call->daemon->core, DAVIT_KIND_NAMESPACE, NULL, call->path[0],
				    call->cause, &call->op, &err),
		  &err);
}
