/* SPDX-License-Identifier: MIT
 *
 * The host's API: HTTP and JSON on a unix socket, the paths of davitd's own API
 * (docs/api.md), which forwards them.
 */
#include "host/host.h"

#include "base/strv.h"
#include "net/url.h"

#include <stdarg.h>
#include <string.h>

#define CONTAINERS "/v1/containers"

void host_call_free(struct host_call *call)
{
	const char *key;
	void *value;
	size_t pos = 0;

	while (davit_map_next(&call->query, &pos, &key, &value)) {
		davit_map_remove(&call->query, key);
		free((void *)(uintptr_t)key);
		free(value);
	}
	davit_map_fini(&call->query);
	if (call->free_state)
		call->free_state(call->state);
	json_decref(call->body);
	free(call->address);
	free(call);
}

/* --- answers --- */

void host_reply(struct host_call *call, json_t *value)
{
	DAVIT_AUTO_FREE char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(value);
	if (!text) {
		host_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	davit_http_reply(call->request, 200, "application/json", text, strlen(text));
	host_call_free(call);
}

void host_fail(struct host_call *call, const struct davit_error *err)
{
	davit_http_reply_error(call->request, 0, err);
	host_call_free(call);
}

void host_fail_with(struct host_call *call, int code, const char *where, const char *fmt, ...)
{
	struct davit_error err = {0};
	char text[sizeof err.message];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	davit_error_set(&err, code, where, "%s", text);
	host_fail(call, &err);
}

void host_fail_outcome(struct host_call *call, const struct davit_outcome *o)
{
	int code = o->code < 0 ? o->code : DAVIT_ECANCELED;

	host_fail_with(call, code, NULL, "%s",
		       o->message && o->message[0] ? o->message : davit_error_doc(code));
}

/* --- what was asked --- */

const char *host_query(const struct host_call *call, const char *name)
{
	const char *s = davit_map_get(&call->query, name);

	return s ? s : "";
}

const char *host_body(const struct host_call *call, const char *name)
{
	const char *s = json_string_value(json_object_get(call->body, name));

	return s ? s : "";
}

static int take_parameter(struct host_call *call, const char *s, size_t n)
{
	size_t name_len = strcspn(s, "=&");
	char *name = NULL, *value = NULL, *old;
	int r;

	if (name_len > n)
		name_len = n;
	r = davit_url_unescape(s, name_len, true, &name);
	if (r == 0)
		r = davit_url_unescape(name_len < n ? s + name_len + 1 : s + n,
				       name_len < n ? n - name_len - 1 : 0, true, &value);
	old = r == 0 ? davit_map_get(&call->query, name) : NULL;
	if (r == 0 && !old)
		r = davit_map_put(&call->query, name, value);
	if (r < 0 || old) {
		free(name);
		free(value);
	}
	return r < 0 ? r : old ? DAVIT_EINVAL : 0;
}

static int take_query(struct host_call *call, const char *target)
{
	const char *s = strchr(target, '?');
	int r = 0;

	for (s = s ? s + 1 : ""; r == 0 && *s; s += strcspn(s, "&"), s += *s == '&')
		r = take_parameter(call, s, strcspn(s, "&"));
	return r;
}

static int take_body(struct host_call *call)
{
	const struct davit_buf *b = &call->request->body;

	call->body = b->len ? json_loadb(b->data, b->len, JSON_REJECT_DUPLICATES, NULL) : json_object();
	return json_is_object(call->body) ? 0 : DAVIT_EINVAL;
}

/* --- routes --- */

void host_reply_all(struct host_call *call)
{
	struct davit_error err;
	json_t *root = host_view(call->host, "Main", true, &err);

	if (!root)
		host_fail(call, &err);
	else
		host_reply(call, json_pack("{s:o, s:I, s:o}", "project", host_view_self(call->host), "change",
					   (json_int_t)call->host->change, "root", root));
}

static void get_all(struct host_call *call)
{
	if (!host_follow(call))
		host_reply_all(call);
}

void host_reply_addressed(struct host_call *call)
{
	struct davit_error err;
	json_t *v = host_view(call->host, call->address, !strcmp(host_query(call, "subtree"), "true"), &err);

	if (v)
		host_reply(call, v);
	else
		host_fail(call, &err);
}

static void on_all(struct host_call *call, const char *method)
{
	if (!strcmp(method, "GET"))
		get_all(call);
	else if (!strcmp(method, "POST"))
		host_create(call);
	else
		host_fail_with(call, DAVIT_EINVAL, "method", "%s is not possible here", method);
}

static void on_one(struct host_call *call, const char *method, const char *verb)
{
	if (!strcmp(method, "POST") &&
	    (!strcmp(verb, "send") || !strcmp(verb, "request") || !strcmp(verb, "command")))
		host_message(call, verb);
	else if (!strcmp(method, "POST"))
		host_operate(call, verb);
	else if (!strcmp(method, "DELETE") && !*verb)
		host_destroy(call);
	else if (!strcmp(method, "GET") && !*verb)
		host_reply_addressed(call);
	else
		host_fail_with(call, DAVIT_EINVAL, "method", "%s is not possible here", method);
}

/* "/v1/containers", "/v1/containers/{alias}", "/v1/containers/{alias}/{verb}" */
static void route(struct host_call *call)
{
	const char *target = call->request->target, *p = target + sizeof CONTAINERS - 1;
	size_t n = strcspn(target, "?#");
	char verb[16] = "";
	int r = 0;

	if (n < sizeof CONTAINERS - 1 || strncmp(target, CONTAINERS, sizeof CONTAINERS - 1) != 0 ||
	    (p < target + n && *p != '/')) {
		host_fail_with(call, DAVIT_ENOENT, "path", "no such path: %.*s", (int)n, target);
		return;
	}
	if (p == target + n) {
		on_all(call, call->request->method);
		return;
	}
	p++;
	n = strcspn(p, "/?#");
	r = davit_url_unescape(p, n, false, &call->address);
	if (p[n] == '/')
		snprintf(verb, sizeof verb, "%.*s", (int)strcspn(p + n + 1, "?#"), p + n + 1);
	if (r < 0 || !call->address[0])
		host_fail_with(call, DAVIT_EINVAL, "path", "malformed path");
	else
		on_one(call, call->request->method, verb);
}

void host_handle(void *host, struct davit_http_request *r)
{
	struct host_call *call = calloc(1, sizeof *call);
	struct davit_error err;

	if (!call) {
		davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		davit_http_reply_error(r, 0, &err);
		return;
	}
	call->host = host;
	call->request = r;
	if (take_query(call, r->target) < 0)
		host_fail_with(call, DAVIT_EINVAL, "query", "malformed query");
	else if (take_body(call) < 0)
		host_fail_with(call, DAVIT_EINVAL, "body", "the body is no JSON object");
	else
		route(call);
}
