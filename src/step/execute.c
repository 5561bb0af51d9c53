/* SPDX-License-Identifier: MIT
 *
 * davit_execute(): one execution from its order to its result. The helper's reports drive it; what may
 * take long (outputs into the store, the end of the helper) is done in a thread of libuv.
 *
 *   davit_execute -> helper -> STARTED ... ENDED -> thread: outputs -> done() -> free -> thread: let go
 */
#include "step/execution.h"

#include "base/strv.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

void step_deliver(struct davit_execution *x)
{
	davit_defer(&x->deliver);
}

/* ----------------------------------------------------------------------------- the result */

static void fill_result(struct davit_execution *x)
{
	struct davit_result *r = &x->result;
	const struct step_report *e = &x->end;

	r->started = e->started;
	r->ended = e->ended;
	r->cpu_user = e->cpu_user;
	r->cpu_system = e->cpu_system;
	r->memory_peak = e->memory_peak;
	r->timed_out = e->timed_out && !e->aborted;
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++) {
		r->bytes[i] = e->bytes[i];
		r->dropped[i] = e->dropped[i];
	}
	if (e->kind == STEP_FAILED) {
		r->outcome = e->aborted ? DAVIT_OUTCOME_ABORTED : DAVIT_OUTCOME_ERRORED;
		davit_error_set(&r->error, e->code, NULL, "%s", e->text);
		r->error.sys_errno = e->sys_errno;
		return;
	}
	r->exited = WIFEXITED(e->status);
	r->exit_status = r->exited ? WEXITSTATUS(e->status) : 0;
	r->signo = WIFSIGNALED(e->status) ? WTERMSIG(e->status) : 0;
	r->outcome = e->aborted					     ? DAVIT_OUTCOME_ABORTED
		     : r->exited && !r->exit_status && !r->timed_out ? DAVIT_OUTCOME_SUCCEEDED
								     : DAVIT_OUTCOME_FAILED;
}

/* The groups are there until the helper hears that nobody wants the step any more. */
static bool ran_out_of_memory(const struct davit_execution *x)
{
	for (size_t i = 0; i < x->n_cgroup_dirs; i++)
		if (cgroup_read(x->cgroup_dirs[i], "memory.oom_control", "oom_kill") > 0 ||
		    cgroup_read(x->cgroup_dirs[i], "memory.events", "oom_kill") > 0)
			return true;
	return false;
}

static void run_outputs(uv_work_t *work)
{
	struct davit_execution *x = work->data;
	int r;

	x->result.out_of_memory = x->end.out_of_memory || ran_out_of_memory(x);
	r = step_take_outputs(x, &x->error);
	if (r == 0 && x->remember && !x->unkeyed && x->result.outcome == DAVIT_OUTCOME_SUCCEEDED)
		r = step_remember(x, &x->error);
	if (r < 0)
		x->error.code = r;
}

static void after_outputs(uv_work_t *work, int status)
{
	struct davit_execution *x = work->data;

	x->working = false;
	if (x->freed) {
		step_finish_freeing(x);
		return;
	}
	if (x->error.code) {
		x->result.outcome = DAVIT_OUTCOME_ERRORED;
		davit_error_copy(&x->result.error, &x->error);
	}
	x->complete = true;
	step_deliver(x);
}

static void end(struct davit_execution *x)
{
	if (x->ended)
		return;
	x->ended = true;
	if (x->polling)
		uv_poll_stop(&x->on_control);
	fill_result(x);
	x->work.data = x;
	x->working = uv_queue_work(davit_loop_uv(x->loop), &x->work, run_outputs, after_outputs) == 0;
	if (!x->working) {
		x->result.outcome = DAVIT_OUTCOME_ERRORED;
		davit_error_set(&x->result.error, DAVIT_ENOMEM, NULL, "out of memory");
		x->complete = true;
		step_deliver(x);
	}
}

/* ---------------------------------------------------------------------------- the reports */

void step_take_report(struct davit_execution *x, const struct step_report *r)
{
	switch (r->kind) {
	case STEP_STARTED:
		x->end.started = r->started;
		if (x->on.started)
			x->on.started(x->user, x);
		return;
	case STEP_NOTE:
		if (x->on.note)
			x->on.note(x->user, x, r->text);
		return;
	default: {
		uint32_t aborted = x->end.aborted;
		x->end = *r;
		x->end.aborted |= aborted;
		end(x);
	}
	}
}

static void on_control(uv_poll_t *handle, int status, int events)
{
	struct davit_execution *x = handle->data;
	struct step_report r;
	ssize_t n;

	while (!x->ended && !x->freed && (n = recv(x->control, &r, sizeof r, MSG_DONTWAIT)) != 0) {
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n == (ssize_t)sizeof r) {
			r.text[sizeof r.text - 1] = '\0';
			step_take_report(x, &r);
			continue;
		}
		break;
	}
	if (x->ended || x->freed)
		return;
	if (x->durable && step_read_result(x, &r)) {
		step_take_report(x, &r);
		return;
	}
	/* It hung up without a report of the end: it was killed, and with it the step. */
	r = (struct step_report){.kind = STEP_FAILED, .code = DAVIT_EINTERNAL};
	snprintf(r.text, sizeof r.text, "the step's keeper, davit-step, was killed");
	step_take_report(x, &r);
}

static void tell_output(struct davit_execution *x)
{
	if (x->told_output)
		return;
	x->told_output = true;
	if (x->on.output)
		x->on.output(x->user, x);
}

static void on_wake(uv_poll_t *handle, int status, int events)
{
	struct davit_execution *x = handle->data;
	uint64_t n;

	if (read(x->wake, &n, sizeof n) == (ssize_t)sizeof n && !x->freed)
		tell_output(x);
}

static void run_delivery(struct davit_deferred *d)
{
	struct davit_execution *x = DAVIT_CONTAINER_OF(d, struct davit_execution, deliver);

	for (char **n = x->notes; n && *n && x->on.note && !x->freed; n++)
		x->on.note(x->user, x, *n);
	davit_strv_free(x->notes);
	x->notes = NULL;
	if (!x->complete || x->freed)
		return;
	if (x->result.bytes[0] - x->result.dropped[0] || x->result.bytes[1] - x->result.dropped[1]) {
		x->told_output = false;
		tell_output(x);
	}
	if (x->on.done && !x->freed)
		x->on.done(x->user, x, &x->result);
}

/* ------------------------------------------------------------------------------ beginning */

int step_watch(struct davit_execution *x, struct davit_error *err)
{
	struct uv_loop_s *uv = davit_loop_uv(x->loop);

	if (uv_poll_init(uv, &x->on_control, x->control) != 0)
		return davit_error_set(err, DAVIT_EIO, NULL, "the loop cannot watch a socket");
	x->on_control.data = x->on_wake.data = x;
	x->closing = 1;
	x->polling = true;
	if (uv_poll_init(uv, &x->on_wake, x->wake) != 0)
		return davit_error_set(err, DAVIT_EIO, NULL, "the loop cannot watch an eventfd");
	x->closing = 2;
	if (uv_poll_start(&x->on_control, UV_READABLE, on_control) != 0 ||
	    uv_poll_start(&x->on_wake, UV_READABLE, on_wake) != 0)
		return davit_error_set(err, DAVIT_EIO, NULL, "the loop cannot watch a descriptor");
	return 0;
}

struct davit_execution *step_new(struct davit_loop *loop, struct davit_artifacts *store,
				 const struct davit_execution_events *on, void *user)
{
	struct davit_execution *x = calloc(1, sizeof *x);

	if (!x)
		return NULL;
	x->loop = loop;
	x->store = store;
	x->user = user;
	if (on)
		x->on = *on;
	x->lock = x->control = x->wake = x->input = x->streams[0] = x->streams[1] = -1;
	snprintf(x->id, sizeof x->id, "%016" PRIx64, davit_loop_random(loop));
	pthread_mutex_init(&x->fetching, NULL);
	davit_deferred_init(&x->deliver, loop, run_delivery);
	return x;
}

int davit_execute(struct davit_loop *loop, struct davit_artifacts *store, const struct davit_run_spec *spec,
		  const struct davit_artifact *artifacts, size_t n, const struct davit_execution_events *on,
		  void *user, struct davit_execution **ret, struct davit_error *err)
{
	struct davit_execution *x = step_new(loop, store, on, user);
	int r;

	if (!x)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = step_begin(x, spec, artifacts, n, err);
	if (r < 0) {
		davit_execution_free(x);
		return r;
	}
	*ret = x;
	return 0;
}

/* ------------------------------------------------------------------------------- meanwhile */

const char *davit_execution_id(const struct davit_execution *x)
{
	return x->id;
}

int64_t davit_execution_started(const struct davit_execution *x)
{
	return x->end.started;
}

const struct davit_result *davit_execution_result(const struct davit_execution *x)
{
	return x->complete ? &x->result : NULL;
}

ssize_t davit_execution_read(struct davit_execution *x, enum davit_step_stream stream, uint64_t offset,
			     void *buf, size_t n, struct davit_error *err)
{
	ssize_t got;

	if (stream >= DAVIT_STEP_STREAMS || offset > INT64_MAX)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "a step has no such stream or offset");
	x->told_output = false;
	got = DAVIT_EINTR(pread(x->streams[stream], buf, n, (off_t)offset));
	if (got < 0)
		return davit_error_errno(err, errno, NULL, "cannot read what the step wrote");
	return got;
}

static int order(struct davit_execution *x, enum step_verb verb, int signo)
{
	const struct step_order o = {.verb = verb, .signo = signo};

	return x->control < 0 || x->ended || send(x->control, &o, sizeof o, MSG_NOSIGNAL | MSG_DONTWAIT) < 0
		       ? -1
		       : 0;
}

int davit_execution_signal(struct davit_execution *x, int signo, struct davit_error *err)
{
	if (signo < 1 || signo > SIGRTMAX)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%d is not a signal", signo);
	if (!x->end.started || order(x, STEP_ORDER_SIGNAL, signo) < 0)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "the step does not run");
	return 0;
}

static void stop(struct davit_execution *x, enum step_verb verb)
{
	if (x->ended || x->complete)
		return;
	if (x->taking) {
		x->end.aborted = 1;
		step_image_cancel(x);
	} else {
		x->end.aborted = order(x, verb, 0) == 0;
	}
}

void davit_execution_abort(struct davit_execution *x)
{
	stop(x, STEP_ORDER_ABORT);
}

void davit_execution_kill(struct davit_execution *x)
{
	stop(x, STEP_ORDER_KILL);
}

/* -------------------------------------------------------------------------------- the end */

static void run_let_go(uv_work_t *work)
{
	step_let_go(work->data);
}

static void after_let_go(uv_work_t *work, int status)
{
	free(work->data);
}

static void let_go(struct davit_execution *x)
{
	x->work.data = x;
	if ((x->helper > 0 || x->control >= 0) &&
	    uv_queue_work(davit_loop_uv(x->loop), &x->work, run_let_go, after_let_go) == 0)
		return;
	step_let_go(x);
	free(x);
}

static void on_closed(uv_handle_t *handle)
{
	struct davit_execution *x = handle->data;

	if (--x->closing == 0)
		let_go(x);
}

void step_finish_freeing(struct davit_execution *x)
{
	int handles = x->closing;

	if (!x->polling) {
		let_go(x);
		return;
	}
	uv_close((uv_handle_t *)&x->on_control, on_closed);
	if (handles > 1)
		uv_close((uv_handle_t *)&x->on_wake, on_closed);
}

void davit_execution_free(struct davit_execution *x)
{
	if (!x || x->freed)
		return;
	x->freed = true;
	davit_deferred_cancel(&x->deliver);
	if (x->taking)
		step_image_cancel(x);
	else if (!x->ended)
		order(x, STEP_ORDER_KILL, 0);
	if (x->durable && x->control >= 0) {
		const struct step_order o = {.verb = STEP_ORDER_FORGET};
		send(x->control, &o, sizeof o, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	if (!x->working) /* else the thread's end does it */
		step_finish_freeing(x);
}
