/* SPDX-License-Identifier: MIT
 *
 * Containers: handed on to the host of their project, which is made, and waited for,
 * where it has to be.
 */
#include "daemon/projects.h"

#include "base/units.h"
#include "net/ask.h"

#include <string.h>

/* How long a host that is being started or restarted is waited for. */
#define PATIENCE (15 * DAVIT_NSEC_PER_SEC)
#define RETRY (20 * DAVIT_NSEC_PER_MSEC)
enum { ANSWER_MAX = 256 * 1024 * 1024 };

struct forward {
	struct api_call *call;
	struct davit_buf answer;
	struct davit_timer retry;
	int64_t until; /* monotonic */
	char *socket;
	bool gone; /* the client; the operation under way is being cancelled */
};

static const char *project_of(const struct api_call *call)
{
	const char *name = api_query(call, "project");

	return name ? name : PROJECT_DEFAULT;
}

/* The call goes on without it. */
static struct api_call *forward_end(struct forward *f)
{
	struct api_call *call = f->call;

	davit_timer_stop(&f->retry);
	davit_buf_fini(&f->answer);
	free(f->socket);
	free(f);
	return call;
}

static void forward_fail(struct forward *f, const struct davit_error *err)
{
	bool gone = f->gone;
	struct davit_error copy = *err;
	struct api_call *call = forward_end(f);

	if (gone)
		api_call_free(call);
	else
		api_fail(call, &copy);
}

static void on_gone(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct forward *f = call->state;

	f->gone = true;
	if (davit_op_pending(&call->op))
		davit_op_cancel(&call->op);
	else
		api_call_free(forward_end(f));
}

static void answered(struct davit_op *op, int result)
{
	struct forward *f = ((struct api_call *)op->user)->state;

	if (result < 0 || f->gone) {
		if (!f->gone)
			davit_error_prefix(&op->error, "the host of project '%s'", project_of(f->call));
		forward_fail(f, &op->error);
		return;
	}
	f->call->request->closed = NULL;
	davit_http_reply(f->call->request, result, "application/json", davit_buf_str(&f->answer),
			 f->answer.len);
	api_call_free(forward_end(f));
}

/* Why nobody listens: it is stopped, or it does not come up. */
static int explain(struct forward *f, struct davit_error *err)
{
	const char *name = project_of(f->call);
	struct davit_service *s = NULL;
	struct davit_service_look now;

	if (project_find(f->call->daemon, name, &s, err) < 0)
		return err->code;
	davit_service_look(s, &now);
	if (!now.wanted)
		return davit_error_set(err, DAVIT_ESTATE, "project",
				       "project '%.64s' is stopped; davit project:start %.64s starts it",
				       name, name);
	if (davit_loop_now(f->call->daemon->loop) < f->until)
		return 0;
	return davit_error_set(err, DAVIT_EUNAVAIL, "project",
			       "the host of project '%.64s' does not answer%s%.200s", name,
			       now.why[0] ? ": " : "", now.why);
}

static void ask(struct forward *f)
{
	struct api_call *call = f->call;
	const struct davit_buf *body = &call->request->body;
	const struct davit_http_question q = {
		.loop = call->daemon->loop,
		.socket = f->socket,
		.method = call->request->method,
		.target = call->request->target,
		.body = body->len ? body->data : NULL,
		.body_len = body->len,
		.ret_body = &f->answer,
		.max = ANSWER_MAX,
	};
	struct davit_error err = {0}, why = {0};
	int r;

	if (explain(f, &why) < 0 && why.code != DAVIT_EUNAVAIL) {
		forward_fail(f, &why);
		return;
	}
	davit_op_init(&call->op, call->daemon->loop, answered, call);
	davit_op_begin(&call->op, 0);
	r = davit_http_ask(&q, &call->op, &err);
	if (r == 0)
		return;
	davit_op_init(&call->op, call->daemon->loop, answered, call); /* not begun after all */
	if (r == DAVIT_EUNAVAIL && !why.code)
		davit_timer_start(&f->retry, RETRY);
	else
		forward_fail(f, why.code ? &why : &err);
}

static void on_retry(struct davit_timer *t)
{
	ask(DAVIT_CONTAINER_OF(t, struct forward, retry));
}

/* Another was faster with the same project: that is as good. */
static void created(struct davit_op *op, int result)
{
	struct forward *f = ((struct api_call *)op->user)->state;

	if (f->gone)
		api_call_free(forward_end(f));
	else if (result < 0 && result != DAVIT_EEXIST && result != DAVIT_ECONFLICT)
		forward_fail(f, &op->error);
	else
		ask(f);
}

void api_containers_forward(struct api_call *call)
{
	const char *name = project_of(call);
	struct forward *f = calloc(1, sizeof *f);
	struct davit_service *s = NULL;
	struct davit_error err;

	if (!f || davit_name_check("name", name, &err) < 0 ||
	    !(f->socket = project_socket(call->daemon, name))) {
		if (!f || err.code != DAVIT_EINVAL)
			davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		free(f);
		api_fail(call, &err);
		return;
	}
	f->call = call;
	f->until = davit_loop_now(call->daemon->loop) + PATIENCE;
	davit_timer_init(&f->retry, call->daemon->loop, on_retry);
	call->state = f;
	call->request->closed = on_gone;
	davit_op_init(&call->op, call->daemon->loop, answered, call);
	if (project_find(call->daemon, name, &s, &err) == 0) {
		ask(f);
		return;
	}
	/* The first container makes the default project. */
	if (strcmp(call->route->path, "/v1/containers") != 0 || strcmp(call->request->method, "POST") != 0 ||
	    strcmp(name, PROJECT_DEFAULT) != 0 ||
	    project_create(call, &(struct project_wish){.name = name}, created, &err) < 0)
		forward_fail(f, &err);
}
