/* SPDX-License-Identifier: MIT
 *
 * The API's frame. One table (routes.c) names every path with its parameters,
 * body and answer; the router, the checks and /openapi.json are made from it, so
 * that they cannot differ. Handlers are in api_*.c, by topic.
 */
#ifndef DAVIT_DAEMON_API_H
#define DAVIT_DAEMON_API_H

#include "base/json.h"
#include "daemon/daemon.h"

#include <jansson.h>

enum {
	API_PATH_MAX = 3,   /* {names} in a path */
	API_FIELDS_MAX = 8, /* query parameters or body keys of a route */
};

enum api_type {
	API_STRING,
	API_BOOL,
	API_INT,     /* within min and max */
	API_TIME,    /* RFC 3339, or a duration before now: "10s" */
	API_ENUM,    /* one of `values`, "a|b|c" */
	API_STRINGS, /* in bodies: an array of strings */
	API_ANY,     /* in bodies: an object, which the handler looks into */
};

/* A query parameter, or a key of a JSON body. */
struct api_field {
	const char *name; /* NULL ends a list */
	enum api_type type;
	const char *doc;
	const char *values;
	int64_t min, max;
	bool required;
};

enum api_body {
	API_NO_BODY,
	API_OBJECT, /* JSON, with the route's `fields` */
	API_SPECS,  /* specs, JSON or YAML */
	API_BYTES,  /* anything */
	API_STREAM, /* anything, of any length, piece by piece */
};

struct api_call;

struct api_route {
	const char *method;
	const char *path; /* "/v1/services/{namespace}/{name}/{version}" */
	void (*handle)(struct api_call *call);
	const char *summary;
	const char *answer;		/* name of a schema (schemas.c); of one line for a stream */
	const struct api_field *query;	/* NULL: none */
	const struct api_field *fields; /* of the body */
	enum api_body body;
	bool stream;	     /* JSON lines or server-sent events */
	const char *upgrade; /* answers 101, to this protocol; or NULL */
	const char *type;    /* of the answer; NULL: JSON */
};

extern const struct api_route api_routes[];
extern const size_t api_n_routes;

/* One request on its way. Owned by the handler from `handle` until it calls
 * api_reply, api_empty or api_fail, or (streams) api_call_free. */
enum { API_TRIES = 20 }; /* of a change that others are faster with */

struct api_call {
	struct davit_daemon *daemon;
	struct davit_http_request *request;
	const struct api_route *route;
	char *path[API_PATH_MAX];    /* decoded, in order */
	char *query[API_FIELDS_MAX]; /* decoded and checked, as route->query; or NULL */
	json_t *body;		     /* API_OBJECT: never NULL, checked */
	char *cause;		     /* for events */
	struct davit_op op;	     /* for the one operation it may take */
	void *state;		     /* the handler's */
	unsigned tries;		     /* api_again */
	bool gone;		     /* the client: `request` must not be touched (api_hold) */
	bool streaming;		     /* progress.c: the answer has begun */
	size_t unread, left_out;     /* progress.c: bytes not taken, lines not sent */
};

/* Finds the route, checks everything, calls the handler. For davit_http_config. */
void api_handle(void *daemon, struct davit_http_request *r);
/* Does the request's body stream? For davit_http_config. */
bool api_streams(void *daemon, const struct davit_http_request *r);

/* The selector of {namespace}/{name}/{version} or of ?namespace=&name=&version=;
 * borrowed from the call. A version "-" is any. */
struct davit_selector api_selector(const struct api_call *call);
/* The one that means this service; borrowed from it. */
struct davit_selector api_selector_of(const struct davit_service *s);
/* The service that the path names: 0, or a code after the error was answered. */
int api_service(struct api_call *call, struct davit_service **ret);
/* The {runtime} of the path, NULL for "-", the default one. */
const char *api_runtime(const struct api_call *call);
/* A list of strings, which a query parameter holds as JSON, as a NULL-terminated
 * heap array; NULL with *ret = NULL when it was not given. 0, DAVIT_EINVAL, ENOMEM. */
int api_query_strings(const struct api_call *call, const char *name, char ***ret, struct davit_error *err);
/* The instance that the path names: 0, or a code after the error was answered. */
int api_instance(struct api_call *call, struct davit_instance **ret);

/* A query parameter, or deflt when it was not given. The name must be in the
 * route's table. */
const char *api_query(const struct api_call *call, const char *name);
bool api_query_bool(const struct api_call *call, const char *name);
int64_t api_query_int(const struct api_call *call, const char *name, int64_t deflt);
/* Unix ns, or 0. */
int64_t api_query_time(const struct api_call *call, const char *name);

/* Answers. Each ends the call. */
void api_reply(struct api_call *call, const struct davit_buf *json); /* 200 */
void api_empty(struct api_call *call);				     /* 200 and {} */
void api_fail(struct api_call *call, const struct davit_error *err);
void api_fail_with(struct api_call *call, int code, const char *where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Frees the call alone, after the request was ended or has closed. */
void api_call_free(struct api_call *call);

/* Prepares call->op for an operation of the core that answers {} or the error:
 *   api_begin(call);
 *   api_begun(call, davit_core_x(..., &call->op, &err), &err);
 * api_op is for functions that begin the operation themselves. */
void api_op(struct api_call *call);
void api_begin(struct api_call *call);
/* As api_begin, for a change of a record: the handler is called again when another was faster. */
void api_begin_change(struct api_call *call);
/* The result means that another was faster, and this is not the last try. */
bool api_again(struct api_call *call, int result);
void api_begun(struct api_call *call, int r, const struct davit_error *err);
/* The same for an operation that tells what is to be listed: into the open array of
 * the JSON that this gives (NULL: refused already).
 *   struct davit_json *j = api_list_begin(call);
 *   if (j)
 *           api_list_begun(call, davit_core_x(..., write_one, j, &call->op, &err), &err); */
struct davit_json *api_list_begin(struct api_call *call);
void api_list_begun(struct api_call *call, int r, const struct davit_error *err);

/* Streams: JSON lines, or server-sent events when the client accepts those.
 * `id` resumes there; may be NULL. False: wait for `writable`. */
void api_stream_begin(struct api_call *call);
bool api_stream_line(struct api_call *call, const char *id, const char *json, size_t n);
bool api_stream_sse(const struct api_call *call);
/* What to resume after: ?after=, or Last-Event-ID; or NULL. */
const char *api_stream_after(const struct api_call *call);
/* Ends the stream and the call; with an error, {"error": ...} is the last line. */
void api_stream_end(struct api_call *call, const struct davit_error *err);

/* A client that goes cancels call->op and sets `gone`; the call stays. */
void api_hold(struct api_call *call);

/* What an operation tells while it lasts, as lines {"progress": text}. The answer
 * begins with the first line; one that its client does not read is cut short. */
void api_progress(struct api_call *call, const char *text);
/* Its end: of the stream with or without an error, or as a plain answer. */
void api_progress_end(struct api_call *call, const struct davit_error *err);

/* Refuses what asks for no WebSocket: true, and the call has ended. */
bool api_is_no_websocket(struct api_call *call);
/* Joins the client to a terminal that is there. Takes the call over. */
void api_terminal_use(struct api_call *call, struct davit_instance *instance, const char *id);

/* The exit of a command: {"code"}, {"signal"} or {"error"}. */
void api_write_exit(struct davit_buf *out, const struct davit_exit *exit);

/* transfer.c: what a request's body holds, to a descriptor that a driver reads; or
 * what a driver writes, as the answer. Each takes the call over. `begin` hands the
 * driver's end of a pipe (its own from then on) to an operation of the core with
 * call->op, and returns its result. done: NULL, or what answers the success. */
typedef int api_transfer_fn(struct api_call *call, int fd, struct davit_error *err);
void api_upload(struct api_call *call, api_transfer_fn *begin, void (*done)(struct api_call *call));
void api_download(struct api_call *call, const char *content_type, api_transfer_fn *begin);

/* A JSON schema by name as JSON text, or NULL. */
const char *api_schema(const char *name);
/* All of them, in order; NULL after the last. */
const char *api_schema_name(size_t i);
/* The OpenAPI document. */
void api_openapi(struct davit_buf *out);

/* Handlers. */
void api_version_get(struct api_call *call);
void api_openapi_get(struct api_call *call);
void api_daemon_get(struct api_call *call);
void api_daemon_stop(struct api_call *call);
void api_daemon_upgrade(struct api_call *call);
void api_services_list(struct api_call *call);
void api_services_apply(struct api_call *call);
void api_service_get(struct api_call *call);
void api_service_delete(struct api_call *call);
void api_service_start(struct api_call *call);
void api_service_stop(struct api_call *call);
void api_service_restart(struct api_call *call);
void api_service_scale(struct api_call *call);
void api_service_signal(struct api_call *call);
void api_service_inspect(struct api_call *call);
void api_service_why(struct api_call *call);
void api_service_logs(struct api_call *call);
void api_instances_list(struct api_call *call);
void api_instance_stats(struct api_call *call);
void api_instance_exec(struct api_call *call);
void api_instance_terminal(struct api_call *call);
void api_instance_archive_get(struct api_call *call);
void api_instance_archive_put(struct api_call *call);
void api_service_pause(struct api_call *call);
void api_service_unpause(struct api_call *call);
void api_terminals_list(struct api_call *call);
void api_terminal_attach(struct api_call *call);
void api_terminal_delete(struct api_call *call);
void api_images_list(struct api_call *call);
void api_image_load(struct api_call *call);
void api_image_import(struct api_call *call);
void api_image_pull(struct api_call *call);
void api_image_build(struct api_call *call);
void api_image_delete(struct api_call *call);
void api_volumes_list(struct api_call *call);
void api_volume_create(struct api_call *call);
void api_volume_delete(struct api_call *call);
void api_networks_list(struct api_call *call);
void api_network_create(struct api_call *call);
void api_network_delete(struct api_call *call);
void api_watch(struct api_call *call);
void api_events(struct api_call *call);
void api_tree_get(struct api_call *call);
void api_runtimes_get(struct api_call *call);
void api_supervisors_list(struct api_call *call);
void api_supervisor_delete(struct api_call *call);
void api_namespaces_list(struct api_call *call);
void api_namespace_delete(struct api_call *call);
void api_workspaces_list(struct api_call *call);
void api_workspaces_create(struct api_call *call);
void api_workspace_get(struct api_call *call);
void api_workspace_delete(struct api_call *call);
void api_workspace_start(struct api_call *call);
void api_workspace_stop(struct api_call *call);
void api_projects_list(struct api_call *call);
void api_projects_create(struct api_call *call);
void api_project_get(struct api_call *call);
void api_project_delete(struct api_call *call);
void api_project_start(struct api_call *call);
void api_project_stop(struct api_call *call);
void api_containers_forward(struct api_call *call);
void api_runs_list(struct api_call *call);
void api_runs_create(struct api_call *call);
void api_runs_prune(struct api_call *call);
void api_run_get(struct api_call *call);
void api_run_delete(struct api_call *call);
void api_run_abort(struct api_call *call);
void api_run_events(struct api_call *call);
void api_run_step_log(struct api_call *call);
void api_secrets_list(struct api_call *call);
void api_secret_put(struct api_call *call);
void api_secret_delete(struct api_call *call);

#endif
