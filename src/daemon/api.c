/* SPDX-License-Identifier: MIT
 *
 * From a request to a call: the router and its checks.
 */
#include "daemon/api.h"

#include "base/nearest.h"
#include "base/strv.h"
#include "base/units.h"
#include "base/util.h"
#include "net/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void api_call_free(struct api_call *call)
{
	if (!call)
		return;
	for (size_t i = 0; i < API_PATH_MAX; i++)
		free(call->path[i]);
	for (size_t i = 0; i < API_FIELDS_MAX; i++)
		free(call->query[i]);
	json_decref(call->body);
	free(call->cause);
	free(call);
}

/* ---------------------------------------------------------------- the path */

static const char *segment_end(const char *s)
{
	return s + strcspn(s, "/?#");
}

/* Does the target's path have the pattern's shape? Escaped slashes belong to
 * their segment. */
static bool path_matches(const char *pattern, const char *target)
{
	while (*pattern == '/' && *target == '/') {
		const char *p = segment_end(++pattern), *t = segment_end(++target);
		if (*pattern == '{'
			    ? t == target
			    : p - pattern != t - target || strncmp(pattern, target, (size_t)(p - pattern)))
			return false;
		pattern = p;
		target = t;
	}
	return !*pattern && (!*target || *target == '?');
}

static int take_path(struct api_call *call, const char *target, struct davit_error *err)
{
	const char *pattern = call->route->path;
	size_t n = 0;

	for (; *pattern == '/'; pattern = segment_end(pattern)) {
		const char *end = segment_end(++target);
		if (*++pattern == '{') {
			int r = davit_url_unescape(target, (size_t)(end - target), false, &call->path[n]);
			if (r < 0)
				return davit_error_set(err, r, "path", "malformed escape in '%.*s'",
						       (int)(end - target), target);
			n++;
		}
		target = end;
	}
	return 0;
}

/* --------------------------------------------------------------- the query */

static int unknown_field(const char *what, const char *name, const struct api_field *fields,
			 struct davit_error *err)
{
	const char *names[API_FIELDS_MAX];
	const char *near;
	size_t n = 0;

	for (; fields && fields[n].name; n++)
		names[n] = fields[n].name;
	near = davit_nearest(name, names, n);
	return davit_error_set(err, DAVIT_EINVAL, name, "unknown %s '%s'%s%s%s", what, name,
			       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static bool in_values(const char *values, const char *s)
{
	size_t n = strlen(s);

	for (const char *v = values; v; v = strchr(v, '|') ? strchr(v, '|') + 1 : NULL)
		if (strcspn(v, "|") == n && !strncmp(v, s, n))
			return true;
	return false;
}

static int check_text(const struct api_field *f, const char *s, struct davit_error *err)
{
	int64_t v;
	int r = 0;

	switch (f->type) {
	case API_STRING:
	case API_STRINGS:
	case API_ANY:
		break;
	case API_BOOL:
		if (!in_values("true|false", s))
			r = davit_error_set(err, DAVIT_EINVAL, NULL, "'%s' is neither true nor false", s);
		break;
	case API_INT:
		r = davit_int_parse(s, f->min, f->max, &v, err);
		break;
	case API_TIME:
		if (davit_duration_parse(s, &v, NULL) < 0 && davit_time_parse(s, &v, NULL) < 0)
			r = davit_error_set(err, DAVIT_EINVAL, NULL, "'%s' is neither a time nor a duration",
					    s);
		break;
	case API_ENUM:
		if (!in_values(f->values, s))
			r = davit_error_set(err, DAVIT_EINVAL, NULL, "'%s' is none of %s", s, f->values);
		break;
	}
	if (r < 0) {
		davit_error_prefix(err, "parameter %s", f->name);
		if (err)
			snprintf(err->where, sizeof err->where, "%s", f->name);
	}
	return r;
}

static int take_parameter(struct api_call *call, const char *name, char *value, struct davit_error *err)
{
	const struct api_field *query = call->route->query;
	size_t i = 0;
	int r;

	while (query && query[i].name && strcmp(query[i].name, name))
		i++;
	if (!query || !query[i].name) {
		r = unknown_field("parameter", name, query, err);
	} else if (call->query[i]) {
		r = davit_error_set(err, DAVIT_EINVAL, name, "parameter %s is given twice", name);
	} else {
		r = check_text(&query[i], value, err);
		if (r == 0) {
			call->query[i] = value;
			return 0;
		}
	}
	free(value);
	return r;
}

static int take_query(struct api_call *call, const char *target, struct davit_error *err)
{
	const char *s = strchr(target, '?');

	for (s = s ? s + 1 : ""; *s; s += strcspn(s, "&"), s += *s == '&') {
		size_t n = strcspn(s, "&"), name_len = strcspn(s, "=&");
		DAVIT_AUTO_FREE char *name = NULL;
		char *value = NULL;
		int r;
		if (!n)
			continue;
		r = davit_url_unescape(s, name_len, true, &name);
		if (r == 0)
			r = davit_url_unescape(name_len < n ? s + name_len + 1 : s + n,
					       name_len < n ? n - name_len - 1 : 0, true, &value);
		if (r < 0)
			return davit_error_set(err, r, "query", "malformed escape in the query");
		r = take_parameter(call, name, value, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; call->route->query && call->route->query[i].name; i++)
		if (call->route->query[i].required && !call->query[i])
			return davit_error_set(err, DAVIT_EINVAL, call->route->query[i].name,
					       "parameter %s is needed", call->route->query[i].name);
	return 0;
}

static size_t query_index(const struct api_call *call, const char *name)
{
	const struct api_field *query = call->route->query;
	size_t i = 0;

	while (query && query[i].name && strcmp(query[i].name, name))
		i++;
	return query && query[i].name ? i : API_FIELDS_MAX;
}

const char *api_query(const struct api_call *call, const char *name)
{
	size_t i = query_index(call, name);

	return i < API_FIELDS_MAX ? call->query[i] : NULL;
}

bool api_query_bool(const struct api_call *call, const char *name)
{
	const char *s = api_query(call, name);

	return s && !strcmp(s, "true");
}

int64_t api_query_int(const struct api_call *call, const char *name, int64_t deflt)
{
	size_t i = query_index(call, name);
	int64_t v = deflt;

	if (i < API_FIELDS_MAX && call->query[i])
		davit_int_parse(call->query[i], call->route->query[i].min, call->route->query[i].max, &v,
				NULL);
	return v;
}

int64_t api_query_time(const struct api_call *call, const char *name)
{
	const char *s = api_query(call, name);
	int64_t v = 0;

	if (s && davit_duration_parse(s, &v, NULL) == 0)
		return davit_loop_wall(call->daemon->loop) - v;
	if (s)
		davit_time_parse(s, &v, NULL);
	return v;
}

/* ---------------------------------------------------------------- the body */

static int wrong_type(const struct api_field *f, const char *want, struct davit_error *err)
{
	return davit_error_set(err, DAVIT_EINVAL, f->name, "%s must be %s", f->name, want);
}

static int check_value(const struct api_field *f, json_t *v, struct davit_error *err)
{
	switch (f->type) {
	case API_BOOL:
		return json_is_boolean(v) ? 0 : wrong_type(f, "true or false", err);
	case API_INT:
		if (!json_is_integer(v))
			return wrong_type(f, "a whole number", err);
		if (json_integer_value(v) < f->min || json_integer_value(v) > f->max)
			return davit_error_set(err, DAVIT_EINVAL, f->name, "%s must be between %lld and %lld",
					       f->name, (long long)f->min, (long long)f->max);
		return 0;
	case API_STRINGS:
		if (!json_is_array(v) || !json_array_size(v))
			return wrong_type(f, "a list of strings", err);
		for (size_t i = 0; i < json_array_size(v); i++)
			if (!json_is_string(json_array_get(v, i)))
				return wrong_type(f, "a list of strings", err);
		return 0;
	case API_ANY:
		return json_is_object(v) ? 0 : wrong_type(f, "an object", err);
	case API_STRING:
	case API_TIME:
	case API_ENUM:
		break;
	}
	return json_is_string(v) ? check_text(f, json_string_value(v), err) : wrong_type(f, "a string", err);
}

static int take_object(struct api_call *call, struct davit_error *err)
{
	const struct davit_buf *text = &call->request->body;
	const struct api_field *fields = call->route->fields;
	json_error_t e;
	const char *key;
	json_t *value;

	call->body =
		text->len ? json_loadb(text->data, text->len, JSON_REJECT_DUPLICATES, &e) : json_object();
	if (!call->body && !text->len)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (!json_is_object(call->body)) {
		davit_error_set(err, DAVIT_EINVAL, "body", "the body must be a JSON object%s%s",
				call->body ? "" : ": ", call->body ? "" : e.text);
		if (!call->body && e.line > 0 && err) {
			err->line = (unsigned)e.line;
			err->column = (unsigned)e.column;
		}
		return DAVIT_EINVAL;
	}
	json_object_foreach(call->body, key, value)
	{
		const struct api_field *f = fields;
		int r;
		while (f->name && strcmp(f->name, key))
			f++;
		r = f->name ? check_value(f, value, err) : unknown_field("key", key, fields, err);
		if (r < 0)
			return r;
	}
	for (const struct api_field *f = fields; f->name; f++)
		if (f->required && !json_object_get(call->body, f->name))
			return davit_error_set(err, DAVIT_EINVAL, f->name, "the body lacks '%s'", f->name);
	return 0;
}

static int take_body(struct api_call *call, struct davit_error *err)
{
	switch (call->route->body) {
	case API_OBJECT:
		return take_object(call, err);
	case API_NO_BODY:
		if (call->request->body.len)
			return davit_error_set(err, DAVIT_EINVAL, "body", "%s %s takes no body",
					       call->route->method, call->route->path);
		return 0;
	case API_SPECS:
	case API_BYTES:
	case API_STREAM:
		return 0;
	}
	return 0;
}

/* ------------------------------------------------------------- the routing */

/* The route, or NULL after the refusal was sent. */
static const struct api_route *find_route(struct davit_http_request *r)
{
	char allow[64] = "";
	struct davit_error err;

	for (size_t i = 0; i < api_n_routes; i++) {
		const struct api_route *route = &api_routes[i];
		if (!path_matches(route->path, r->target))
			continue;
		if (!strcmp(route->method, r->method))
			return route;
		if (strlen(allow) + strlen(route->method) + 3 < sizeof allow)
			sprintf(allow + strlen(allow), "%s%s", allow[0] ? ", " : "", route->method);
	}
	if (allow[0]) {
		davit_http_add_header(r, "Allow", allow);
		davit_error_set(&err, DAVIT_EINVAL, "method", "%s is not possible here, only %s", r->method,
				allow);
		davit_http_reply_error(r, 405, &err);
	} else {
		davit_error_set(&err, DAVIT_ENOENT, "path", "no such path: %.*s",
				(int)strcspn(r->target, "?#"), r->target);
		davit_http_reply_error(r, 404, &err);
	}
	return NULL;
}

bool api_streams(void *user, const struct davit_http_request *r)
{
	(void)user;
	for (size_t i = 0; i < api_n_routes; i++)
		if (api_routes[i].body == API_STREAM && !strcmp(api_routes[i].method, r->method) &&
		    path_matches(api_routes[i].path, r->target))
			return true;
	return false;
}

void api_handle(void *user, struct davit_http_request *r)
{
	struct davit_daemon *d = user;
	const struct api_route *route = find_route(r);
	const char *cause = davit_http_header(r, "Davit-Cause");
	struct davit_error err = {0};
	struct api_call *call;
	int e;

	davit_http_add_header(r, "Davit-Version", DAVIT_VERSION);
	davit_timer_start(&d->trim, 2 * DAVIT_NSEC_PER_SEC);
	if (!route)
		return;
	call = calloc(1, sizeof *call);
	if (!call || !(call->cause = strdup(cause && cause[0] ? cause : "api"))) {
		free(call);
		davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		davit_http_reply_error(r, 0, &err);
		return;
	}
	call->daemon = d;
	call->request = r;
	call->route = route;
	r->user = call;
	e = take_path(call, r->target, &err);
	if (e == 0)
		e = take_query(call, r->target, &err);
	if (e == 0)
		e = take_body(call, &err);
	if (e < 0)
		api_fail(call, &err);
	else
		route->handle(call);
}

/* ----------------------------------------------------- what handlers share */

static const char *nth_path(const struct api_call *call, const char *name)
{
	const char *p = call->route->path;
	size_t n = 0;

	for (; (p = strchr(p, '{')); p++, n++)
		if (!strncmp(p + 1, name, strlen(name)) && p[1 + strlen(name)] == '}')
			return call->path[n];
	return NULL;
}

struct davit_selector api_selector(const struct api_call *call)
{
	struct davit_selector sel = {nth_path(call, "namespace"), nth_path(call, "name"),
				     nth_path(call, "version")};

	if (!sel.namespace_)
		sel.namespace_ = api_query(call, "namespace");
	if (!sel.name)
		sel.name = api_query(call, "name");
	if (!sel.version)
		sel.version = api_query(call, "version");
	if (sel.version && !strcmp(sel.version, "-"))
		sel.version = NULL;
	return sel;
}

struct davit_selector api_selector_of(const struct davit_service *s)
{
	const struct davit_spec *spec = davit_service_spec(s);

	return (struct davit_selector){spec->namespace_, spec->name, spec->version};
}

int api_service(struct api_call *call, struct davit_service **ret)
{
	struct davit_selector sel = api_selector(call);
	struct davit_error err = {0};
	int r = davit_core_service(call->daemon->core, &sel, ret, &err);

	if (r < 0)
		api_fail(call, &err);
	return r;
}

const char *api_runtime(const struct api_call *call)
{
	const char *name = nth_path(call, "runtime");

	return name && strcmp(name, "-") ? name : NULL;
}

int api_query_strings(const struct api_call *call, const char *name, char ***ret, struct davit_error *err)
{
	const char *text = api_query(call, name);
	DAVIT_AUTO_STRV v = NULL;
	json_t *list = text ? json_loads(text, 0, NULL) : NULL;
	bool good = json_is_array(list) && json_array_size(list) > 0;
	int r = 0;

	for (size_t i = 0; good && r == 0 && i < json_array_size(list); i++) {
		good = json_is_string(json_array_get(list, i));
		r = good ? davit_strv_add(&v, json_string_value(json_array_get(list, i))) : 0;
	}
	json_decref(list);
	if (r < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (text && !good)
		return davit_error_set(err, DAVIT_EINVAL, name,
				       "parameter %s must be a JSON array of strings", name);
	*ret = DAVIT_TAKE(v);
	return 0;
}

int api_instance(struct api_call *call, struct davit_instance **ret)
{
	const char *id = nth_path(call, "id");
	struct davit_instance *i = davit_core_instance(call->daemon->core, NULL, id);

	if (!i) {
		api_fail_with(call, DAVIT_ENOENT, "instance", "instance '%s' not found", id);
		return DAVIT_ENOENT;
	}
	*ret = i;
	return 0;
}

void api_reply(struct api_call *call, const struct davit_buf *json)
{
	struct davit_error err;

	if (json->oom) {
		davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		api_fail(call, &err);
		return;
	}
	davit_http_reply(call->request, 200, "application/json", json->data, json->len);
	api_call_free(call);
}

void api_empty(struct api_call *call)
{
	davit_http_reply(call->request, 200, "application/json", "{}", 2);
	api_call_free(call);
}

void api_fail(struct api_call *call, const struct davit_error *err)
{
	davit_http_reply_error(call->request, 0, err);
	api_call_free(call);
}

void api_fail_with(struct api_call *call, int code, const char *where, const char *fmt, ...)
{
	struct davit_error err;
	char text[sizeof err.message];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	davit_error_set(&err, code, where, "%s", text);
	api_fail(call, &err);
}

static void done(struct davit_op *op, int result)
{
	struct api_call *call = op->user;

	if (result < 0)
		api_fail(call, &op->error);
	else
		api_empty(call);
}

void api_op(struct api_call *call)
{
	davit_op_init(&call->op, call->daemon->loop, done, call);
}

void api_begin(struct api_call *call)
{
	api_op(call);
	davit_op_begin(&call->op, 0);
}

bool api_again(struct api_call *call, int result)
{
	return result == DAVIT_ECONFLICT && ++call->tries < API_TRIES;
}

static void changed(struct davit_op *op, int result)
{
	struct api_call *call = op->user;

	if (api_again(call, result))
		call->route->handle(call);
	else if (result == DAVIT_ECONFLICT)
		api_fail_with(call, result, NULL, "it is being changed or removed by another: try again");
	else
		done(op, result);
}

void api_begin_change(struct api_call *call)
{
	davit_op_init(&call->op, call->daemon->loop, changed, call);
	davit_op_begin(&call->op, 0);
}

void api_begun(struct api_call *call, int r, const struct davit_error *err)
{
	if (r < 0)
		api_fail(call, err);
}
