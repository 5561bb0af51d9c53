/* SPDX-License-Identifier: MIT
 *
 * Readiness that the core finds out by itself: a port that accepts, or a line of
 * the log. (NOTIFY and FD come from the driver.) Not ready in time is a failure.
 */
#include "core/core_impl.h"

#include "base/units.h"

#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#define PROBE_FIRST (10 * DAVIT_NSEC_PER_MSEC)
#define PROBE_MAX (500 * DAVIT_NSEC_PER_MSEC)
#define REPLACEMENT_SETTLES (500 * DAVIT_NSEC_PER_MSEC)

struct ready_probe {
	struct instance *i; /* NULL once ended: what is in flight frees the probe */
	struct davit_timer timer;
	/* port */
	uv_tcp_t tcp;
	uv_connect_t connect;
	bool connecting;
	int64_t delay;
	struct sockaddr_in address;
	/* log */
	struct davit_log_reader *reader;
	regex_t pattern;
	bool compiled;
	struct davit_deferred found;
};

static void probe_free(struct ready_probe *p)
{
	if (p->compiled)
		regfree(&p->pattern);
	free(p);
}

/* --- a port --- */

static void on_closed(uv_handle_t *h)
{
	struct ready_probe *p = h->data;

	p->connecting = false;
	if (!p->i)
		probe_free(p);
}

static void on_connected(uv_connect_t *req, int status)
{
	struct ready_probe *p = req->data;
	struct instance *i = p->i;

	uv_close((uv_handle_t *)&p->tcp, on_closed);
	if (!i)
		return;
	if (status == 0) {
		instance_on_ready(i); /* ends the probe */
		return;
	}
	p->delay = p->delay * 2 < PROBE_MAX ? p->delay * 2 : PROBE_MAX;
	davit_timer_start(&p->timer, p->delay);
}

static void try_port(struct davit_timer *t)
{
	struct ready_probe *p = DAVIT_CONTAINER_OF(t, struct ready_probe, timer);

	if (p->connecting) {
		davit_timer_start(&p->timer, PROBE_FIRST);
		return;
	}
	if (uv_tcp_init(davit_loop_uv(p->i->core->loop), &p->tcp) < 0) {
		davit_timer_start(&p->timer, PROBE_MAX);
		return;
	}
	p->tcp.data = p->connect.data = p;
	p->connecting = true;
	if (uv_tcp_connect(&p->connect, &p->tcp, (const struct sockaddr *)&p->address, on_connected) < 0) {
		uv_close((uv_handle_t *)&p->tcp, on_closed);
		davit_timer_start(&p->timer, PROBE_MAX);
	}
}

static int begin_port(struct instance *i, struct ready_probe *p)
{
	const struct davit_spec *spec = i->service->spec;
	const struct davit_workload *w = &i->workload;
	int port = spec->ready_port ? (int)spec->ready_port : w->n_ports ? w->ports[0].host : 0;
	const char *bind = "127.0.0.1";

	/* A port of the service's is tried where it is bound. */
	for (size_t k = 0; k < w->n_ports; k++)
		if (w->ports[k].host == port || w->ports[k].container == port) {
			port = w->ports[k].host;
			if (w->ports[k].bind[0] && strcmp(w->ports[k].bind, "0.0.0.0"))
				bind = w->ports[k].bind;
		}
	if (!port || !davit_loop_uv(i->core->loop) || uv_ip4_addr(bind, port, &p->address) < 0)
		return DAVIT_ENOTSUP;
	p->delay = PROBE_FIRST;
	davit_timer_init(&p->timer, i->core->loop, try_port);
	return davit_timer_start(&p->timer, PROBE_FIRST);
}

/* --- a line of the log --- */

static void on_found(struct davit_deferred *d)
{
	struct ready_probe *p = DAVIT_CONTAINER_OF(d, struct ready_probe, found);

	instance_on_ready(p->i);
}

/* A fast program speaks before we have heard that it was started. */
static int64_t since(const struct instance *i)
{
	return i->start_asked ? i->start_asked : i->started;
}

static bool on_line(struct davit_log_reader *r, const struct davit_log_line *line)
{
	struct ready_probe *p = r->owner;
	char text[4096];
	size_t n = line->len < sizeof text - 1 ? line->len : sizeof text - 1;

	if (line->time < since(p->i))
		return true;
	memcpy(text, line->text, n);
	text[n] = '\0';
	if (regexec(&p->pattern, text, 0, NULL, 0) != 0)
		return true;
	/* Not from within the reader: readiness closes it. */
	davit_defer(&p->found);
	return false;
}

static void on_end(struct davit_log_reader *r, int code, const struct davit_error *err)
{
	(void)r;
	(void)code;
	(void)err; /* the timeout tells */
}

static int begin_log(struct instance *i, struct ready_probe *p)
{
	const char *pattern = i->service->spec->ready_pattern;
	struct davit_log_reader init = {
		.instance = i->inst,
		.owner = p,
		.query = {.tail = -1, .since = since(i), .follow = true},
		.line = on_line,
		.end = on_end,
	};
	struct davit_error err;

	if (!pattern || regcomp(&p->pattern, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		return DAVIT_EINVAL;
	p->compiled = true;
	davit_deferred_init(&p->found, i->core->loop, on_found);
	p->reader = davit_core_logs_open(i->core, i->inst, &init, &err);
	return p->reader ? 0 : err.code;
}

/* --- all kinds --- */

static void on_timeout(struct davit_timer *t)
{
	struct instance *i = ((struct ready_timeout *)t)->i;
	char after[DAVIT_TIME_MAX], why[128];
	struct davit_error err;

	davit_duration_format(i->service->spec->ready_timeout, after);
	snprintf(why, sizeof why, "not ready within %s", after);
	davit_error_set(&err, DAVIT_ETIMEDOUT, "ready", "%s", why);
	instance_set_error(i, &err);
	ready_end(i);
	instance_fail(i, DAVIT_CAUSE_TIMEOUT, why);
}

static void on_settled(struct davit_timer *t)
{
	instance_on_ready(((struct ready_timeout *)t)->i);
}

/* Of a replacement that is ready by running alone, running for a moment is asked
 * for before it takes over. */
static bool begin_settling(struct instance *i)
{
	ready_end(i);
	i->ready_timer = calloc(1, sizeof *i->ready_timer);
	if (!i->ready_timer)
		return false;
	i->ready_timer->i = i;
	davit_timer_init(&i->ready_timer->timer, i->core->loop, on_settled);
	return davit_timer_start(&i->ready_timer->timer, REPLACEMENT_SETTLES) == 0;
}

void ready_begin(struct instance *i)
{
	const struct davit_spec *spec = i->service ? i->service->spec : NULL;
	struct ready_probe *p;
	int r = 0;

	bool awaited = spec && !i->is_build && health_awaited(i);

	if (!spec || i->is_build || (spec->ready == DAVIT_READY_TYPE_STARTED && !awaited)) {
		if (!i->replacement || !begin_settling(i))
			instance_on_ready(i);
		return;
	}
	ready_end(i);
	i->ready_timer = calloc(1, sizeof *i->ready_timer);
	if (i->ready_timer) {
		i->ready_timer->i = i;
		davit_timer_init(&i->ready_timer->timer, i->core->loop, on_timeout);
		davit_timer_start(&i->ready_timer->timer, spec->ready_timeout);
	}
	if (spec->ready == DAVIT_READY_TYPE_STARTED)
		instance_on_ready(i); /* its health checks have the word */
	if (i->ready_said)
		return;
	if (spec->ready != DAVIT_READY_TYPE_PORT && spec->ready != DAVIT_READY_TYPE_LOG)
		return;
	p = calloc(1, sizeof *p);
	if (!p)
		return;
	p->i = i;
	i->probe = p;
	r = spec->ready == DAVIT_READY_TYPE_PORT ? begin_port(i, p) : begin_log(i, p);
	if (r < 0) {
		struct davit_error err;
		davit_error_set(&err, r, "ready", "its readiness cannot be watched: %s", davit_error_doc(r));
		instance_set_error(i, &err);
	}
}

void ready_end(struct instance *i)
{
	if (i->ready_timer) {
		davit_timer_stop(&i->ready_timer->timer);
		free(i->ready_timer);
		i->ready_timer = NULL;
	}
	ready_end_probe(i);
}

void ready_end_probe(struct instance *i)
{
	struct ready_probe *p = i->probe;

	if (!p)
		return;
	i->probe = NULL;
	p->i = NULL;
	if (p->timer.loop)
		davit_timer_stop(&p->timer);
	if (p->found.loop)
		davit_deferred_cancel(&p->found);
	if (p->reader)
		davit_core_logs_close(p->reader);
	if (p->connecting) {
		if (!uv_is_closing((uv_handle_t *)&p->tcp))
			uv_close((uv_handle_t *)&p->tcp, on_closed);
		return;
	}
	probe_free(p);
}
