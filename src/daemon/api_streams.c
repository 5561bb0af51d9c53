/* SPDX-License-Identifier: MIT
 *
 * Watching services, and reading events. Both are pulled by the reader: what a
 * slow one has not taken is not made. A watch keeps the names of what changed
 * and writes each service's state when its turn comes, so that many changes are
 * one line; events stay in the store until they are asked for.
 */
#include "daemon/api.h"

#include "base/map.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------- watch */

/* A service that is to be told of. The strings follow the struct. */
struct dirty {
	struct davit_list list;
	char *key; /* "namespace/name/version"; NULL: the mark that tells of sync */
	char *namespace_, *name, *version;
	bool gone;
};

struct watch {
	struct api_call *call;
	struct davit_selector sel;
	struct davit_core_listener listener;
	struct davit_deferred pump;
	struct davit_list queue; /* of struct dirty, in order */
	struct davit_map by_key;
	bool blocked; /* until watch_writable */
	bool oom;
};

static char *put(char **at, const char *s)
{
	char *start = *at;

	*at = stpcpy(start, s) + 1;
	return start;
}

static bool add_dirty(struct watch *w, struct davit_service *s, bool gone)
{
	const struct davit_spec *spec = davit_service_spec(s);
	size_t n = strlen(spec->namespace_) + strlen(spec->name) + strlen(spec->version) + 3;
	struct dirty *d = calloc(1, sizeof *d + 2 * n);
	struct dirty *there;
	char *at = d ? (char *)(d + 1) : NULL;

	if (!d)
		return false;
	d->namespace_ = put(&at, spec->namespace_);
	d->name = put(&at, spec->name);
	d->version = put(&at, spec->version);
	d->key = at;
	sprintf(d->key, "%s/%s/%s", d->namespace_, d->name, d->version);
	d->gone = gone;
	there = davit_map_get(&w->by_key, d->key);
	if (there) {
		there->gone = gone;
		free(d);
		return true;
	}
	if (davit_map_put(&w->by_key, d->key, d) < 0) {
		free(d);
		return false;
	}
	davit_list_add_tail(&w->queue, &d->list);
	return true;
}

static bool add_present(void *user, struct davit_service *s)
{
	struct watch *w = user;

	w->oom = !add_dirty(w, s, false);
	return !w->oom;
}

static void free_dirty(struct watch *w, struct dirty *d)
{
	davit_list_remove(&d->list);
	if (d->key)
		davit_map_remove(&w->by_key, d->key);
	free(d);
}

static void free_watch(struct watch *w)
{
	struct dirty *d, *next;

	davit_core_unlisten(&w->listener);
	davit_deferred_cancel(&w->pump);
	DAVIT_LIST_FOREACH_SAFE (d, next, &w->queue, list)
		free_dirty(w, d);
	davit_map_fini(&w->by_key);
	free(w);
}

static void write_dirty(struct watch *w, const struct dirty *d, struct davit_json *j)
{
	struct davit_selector sel = {d->namespace_, d->name, d->version};
	struct davit_service *s = NULL;

	davit_json_open(j);
	if (!d->key) {
		davit_json_put_string(j, "type", "sync");
	} else if (!d->gone && davit_core_service(w->call->daemon->core, &sel, &s, NULL) == 0) {
		davit_json_put_string(j, "type", "update");
		davit_json_key(j, "service");
		davit_service_write(s, j);
	} else {
		davit_json_put_string(j, "type", "gone");
		davit_json_key(j, "service");
		davit_json_open(j);
		davit_json_put_string(j, "namespace", d->namespace_);
		davit_json_put_string(j, "name", d->name);
		davit_json_put_string(j, "version", d->version);
		davit_json_close(j);
	}
	davit_json_close(j);
}

static void pump_watch(struct davit_deferred *pump)
{
	struct watch *w = DAVIT_CONTAINER_OF(pump, struct watch, pump);
	struct api_call *call = w->call;

	while (!w->blocked && !w->oom && !davit_list_empty(&w->queue)) {
		struct dirty *d = DAVIT_LIST_FIRST(&w->queue, struct dirty, list);
		DAVIT_AUTO_BUF line = DAVIT_BUF_INIT;
		struct davit_json j = DAVIT_JSON_INIT(&line);
		write_dirty(w, d, &j);
		free_dirty(w, d);
		w->blocked = !api_stream_line(call, NULL, davit_buf_str(&line), line.len);
	}
	if (w->oom) {
		struct davit_error err;
		davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		free_watch(w);
		api_stream_end(call, &err);
	}
}

static void watch_writable(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct watch *w = call->state;

	w->blocked = false;
	davit_defer(&w->pump);
}

static void watch_closed(struct davit_http_request *r)
{
	struct api_call *call = r->user;

	free_watch(call->state);
	api_call_free(call);
}

static bool selects(const char *wanted, const char *s, const char *deflt)
{
	if (!wanted || !wanted[0])
		wanted = deflt;
	return !wanted || !strcmp(wanted, s);
}

static void on_service(struct davit_core_listener *l, struct davit_service *s, bool gone)
{
	struct watch *w = l->user;
	const struct davit_spec *spec = davit_service_spec(s);
	bool any = w->sel.namespace_ && !strcmp(w->sel.namespace_, "*");

	if ((!any && !selects(w->sel.namespace_, spec->namespace_, "default")) ||
	    !selects(w->sel.name, spec->name, NULL) || !selects(w->sel.version, spec->version, NULL))
		return;
	if (!add_dirty(w, s, gone))
		w->oom = true;
	davit_defer(&w->pump);
}

void api_watch(struct api_call *call)
{
	struct watch *w = calloc(1, sizeof *w);
	struct dirty *sync = calloc(1, sizeof *sync);

	if (!w || !sync) {
		free(w);
		free(sync);
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	w->call = call;
	w->sel = api_selector(call);
	davit_list_init(&w->queue);
	davit_deferred_init(&w->pump, call->daemon->loop, pump_watch);
	call->state = w;
	davit_core_services(call->daemon->core, &w->sel, add_present, w);
	davit_list_add_tail(&w->queue, &sync->list);
	w->listener = (struct davit_core_listener){.user = w, .service = on_service};
	davit_core_listen(call->daemon->core, &w->listener);
	call->request->writable = watch_writable;
	call->request->closed = watch_closed;
	api_stream_begin(call);
	davit_defer(&w->pump);
}

/* ------------------------------------------------------------------ events */

enum { EVENTS_AT_ONCE = 64 }; /* so that one reader of many does not hold the loop */

struct events {
	struct api_call *call;
	struct davit_core_listener listener;
	struct davit_deferred pump;
	uint64_t after;
	int64_t left; /* of limit */
	bool follow;
	bool blocked;
	size_t got; /* in this round */
};

/* "namespace/name:version", or without version, or without namespace: "default". */
static bool service_matches(const char *filter, const char *service)
{
	const char *slash = strchr(service, '/');
	size_t n = strlen(filter);

	if (!strchr(filter, '/')) {
		if (!slash || strncmp(service, "default/", 8))
			return false;
		service = slash + 1;
	}
	return !strncmp(service, filter, n) && (!service[n] || service[n] == ':');
}

static bool event_wanted(const struct events *e, const char *json)
{
	const char *filter = api_query(e->call, "service");
	json_t *event = filter ? json_loads(json, 0, NULL) : NULL;
	const char *service = json_string_value(json_object_get(event, "service"));
	bool wanted = !filter || (service && service_matches(filter, service));

	json_decref(event);
	return wanted;
}

static bool write_event(void *user, uint64_t id, const char *json)
{
	struct events *e = user;
	char text[24];

	e->got++;
	e->after = id;
	if (!event_wanted(e, json))
		return true;
	snprintf(text, sizeof text, "%" PRIu64, id);
	e->blocked = !api_stream_line(e->call, text, json, strlen(json));
	e->left--;
	return !e->blocked && e->left > 0;
}

static void free_events(struct events *e)
{
	davit_core_unlisten(&e->listener);
	davit_deferred_cancel(&e->pump);
	free(e);
}

static void pump_events(struct davit_deferred *pump)
{
	struct events *e = DAVIT_CONTAINER_OF(pump, struct events, pump);
	struct api_call *call = e->call;
	struct davit_error err = {0};

	if (e->blocked)
		return;
	e->got = 0;
	if (davit_core_events(call->daemon->core, e->after, EVENTS_AT_ONCE, write_event, e, &err) >= 0) {
		if (e->left > 0 && (e->blocked || (!e->got && e->follow)))
			return;
		if (e->left > 0 && e->got) {
			davit_defer(&e->pump);
			return;
		}
	}
	free_events(e);
	api_stream_end(call, &err);
}

static void events_writable(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct events *e = call->state;

	e->blocked = false;
	davit_defer(&e->pump);
}

static void events_closed(struct davit_http_request *r)
{
	struct api_call *call = r->user;

	free_events(call->state);
	api_call_free(call);
}

static void on_event(struct davit_core_listener *l, uint64_t id, const char *json)
{
	struct events *e = l->user;

	(void)id;
	(void)json;
	davit_defer(&e->pump);
}

void api_events(struct api_call *call)
{
	const char *after = api_stream_after(call);
	struct davit_error err = {0};
	struct events *e;
	int64_t id = 0;

	if (after && davit_int_parse(after, 0, INT64_MAX, &id, &err) < 0) {
		davit_error_prefix(&err, "after");
		api_fail(call, &err);
		return;
	}
	e = calloc(1, sizeof *e);
	if (!e) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	e->call = call;
	e->after = (uint64_t)id;
	e->left = api_query_int(call, "limit", INT64_MAX);
	e->follow = api_query_bool(call, "follow");
	davit_deferred_init(&e->pump, call->daemon->loop, pump_events);
	call->state = e;
	e->listener = (struct davit_core_listener){.user = e, .event = on_event};
	davit_core_listen(call->daemon->core, &e->listener);
	call->request->writable = events_writable;
	call->request->closed = events_closed;
	api_stream_begin(call);
	davit_defer(&e->pump);
}
