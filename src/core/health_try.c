/* SPDX-License-Identifier: MIT
 *
 * One try of a health check: a probe from outside, or a command inside. It outlives
 * its check until whoever carries it out has let go of it.
 */
#include "core/health.h"

#include "base/strv.h"
#include "base/units.h"

#include <stdio.h>
#include <string.h>

enum { TAIL = 160 };

struct health_try {
	struct davit_list list; /* in core->tries */
	struct davit_core *core;
	struct check *check; /* NULL: nobody waits for it any more */
	struct davit_op op;
	bool asked; /* op is with somebody */
	struct davit_probe probe;
	char address[46];
	char *path, *host, *file, *ca; /* copies: the spec may go meanwhile */
	/* of a command */
	struct davit_exec *x;
	char **argv;
	int64_t due; /* monotonic ns */
	struct davit_timer limit;
	struct davit_deferred end;
	struct davit_exit exit;
	char tail[TAIL + 1]; /* what it printed last */
	size_t tail_len;
};

static void try_free(struct health_try *t)
{
	davit_list_remove(&t->list);
	davit_timer_stop(&t->limit);
	davit_deferred_cancel(&t->end);
	davit_core_exec_free(t->x);
	davit_strv_free(t->argv);
	free(t->path);
	free(t->host);
	free(t->file);
	free(t->ca);
	free(t);
}

/* Frees it, and tells its check unless that has gone. */
static void finish(struct health_try *t, enum health_result result, const char *why)
{
	struct check *c = t->check;
	char text[320];

	snprintf(text, sizeof text, "%s", why ? why : "");
	if (c)
		c->under_way = NULL;
	try_free(t);
	if (c)
		health_tried(c, result, text);
}

/* --- from outside --- */

static bool is_http(const struct davit_health_check *s)
{
	return s->type == DAVIT_HEALTH_HTTP || s->type == DAVIT_HEALTH_HTTPS;
}

static bool accepted(const struct davit_health_check *s, int status)
{
	return s->status ? status == s->status : status >= 200 && status <= 399;
}

static void probed(struct davit_op *op, int result)
{
	struct health_try *t = op->user;
	const struct davit_health_check *s = t->check ? check_spec(t->check) : NULL;
	char text[256], after[DAVIT_TIME_MAX];

	t->asked = false;
	if (!s) {
		try_free(t);
	} else if (result == DAVIT_ETIMEDOUT) {
		snprintf(text, sizeof text, "no answer within %s", davit_duration_format(s->timeout, after));
		finish(t, HEALTH_FAILED, text);
	} else if (result == DAVIT_ENOMEM || result == DAVIT_ECANCELED || result == DAVIT_ECLOSED) {
		finish(t, HEALTH_NO_WORD, NULL);
	} else if (result < 0) {
		finish(t, HEALTH_FAILED, op->error.message);
	} else if (is_http(s) && !accepted(s, t->probe.ret_status)) {
		snprintf(text, sizeof text, "HTTP status %d%s%s", t->probe.ret_status,
			 t->probe.ret_text[0] ? ": " : "", t->probe.ret_text);
		finish(t, HEALTH_FAILED, text);
	} else {
		finish(t, HEALTH_PASSED, NULL);
	}
}

/* Where the check's port is reached from this host. False: it has none. */
static bool find_port(struct health_try *t, const struct instance *i, int64_t wanted)
{
	const struct davit_workload *w = &i->workload;

	for (size_t k = 0; k < w->n_ports; k++) {
		const struct davit_port *p = &w->ports[k];
		uint16_t inside = p->container ? p->container : p->host;
		const char *bind = !p->bind[0] || !strcmp(p->bind, "0.0.0.0") ? "127.0.0.1"
				   : !strcmp(p->bind, "::")		      ? "::1"
									      : p->bind;
		if (p->udp || !p->host || (wanted && wanted != inside))
			continue;
		snprintf(t->address, sizeof t->address, "%s", bind);
		t->probe.port = p->host;
		return true;
	}
	snprintf(t->address, sizeof t->address, "%s", i->address ? i->address : "127.0.0.1");
	t->probe.port = (uint16_t)wanted;
	return wanted != 0;
}

/* The file on this host: with an image, that beneath a directory that is mounted
 * (davit_spec_check sees to it that there is one). A heap string or NULL. */
static char *find_file(const struct instance *i, const char *file)
{
	const struct davit_workload *w = &i->workload;
	char *path;

	for (size_t k = 0; w->image && k < w->n_mounts; k++) {
		const struct davit_mount *m = &w->mounts[k];
		size_t n = strlen(m->target);
		if (m->type == DAVIT_MOUNT_BIND && !strncmp(file, m->target, n) &&
		    (file[n] == '/' || !file[n]))
			return asprintf(&path, "%s%s", m->source, file + n) < 0 ? NULL : path;
	}
	return strdup(file);
}

static void probe(struct health_try *t, const struct instance *i, const struct davit_health_check *s)
{
	const struct davit_core_config *config = &t->core->config;
	bool http = is_http(s);

	t->probe.id = i->workload.id;
	if (s->type == DAVIT_HEALTH_FILE)
		t->probe.file = t->file = find_file(i, s->file);
	if (http)
		t->probe.path = t->path = strdup(s->path ? s->path : "/");
	if (http && s->host)
		t->probe.host = t->host = strdup(s->host);
	if (http && s->ca)
		t->probe.ca = t->ca = strdup(s->ca);
	t->probe.tls = s->type == DAVIT_HEALTH_HTTPS;
	t->probe.insecure = s->insecure;
	if (!config->probes || (s->type == DAVIT_HEALTH_FILE && !t->file) || (http && !t->path) ||
	    (s->host && !t->host) || (s->ca && !t->ca)) {
		finish(t, HEALTH_NO_WORD, NULL);
		return;
	}
	if (s->type != DAVIT_HEALTH_FILE && !find_port(t, i, s->port)) {
		finish(t, HEALTH_FAILED, "the service has no port");
		return;
	}
	t->probe.address = t->address;
	t->asked = true;
	davit_op_init(&t->op, t->core->loop, probed, t);
	davit_op_begin(&t->op, s->timeout);
	if (http)
		config->probes->http(config->probes_user, &t->probe, &t->op);
	else if (s->type == DAVIT_HEALTH_TCP)
		config->probes->tcp(config->probes_user, &t->probe, &t->op);
	else
		config->probes->file(config->probes_user, &t->probe, &t->op);
}

/* --- inside --- */

/* Keeps the end of what it prints. */
static bool on_output(struct davit_exec *x, enum davit_stream stream, const void *data, size_t n)
{
	struct health_try *t = x->owner;
	const char *from = data;
	size_t room;

	(void)stream;
	if (n > TAIL) {
		from += n - TAIL;
		n = TAIL;
	}
	room = TAIL - n;
	if (t->tail_len > room) {
		memmove(t->tail, t->tail + t->tail_len - room, room);
		t->tail_len = room;
	}
	memcpy(t->tail + t->tail_len, from, n);
	t->tail_len += n;
	return true;
}

static void on_exited(struct davit_exec *x, const struct davit_exit *exit)
{
	struct health_try *t = x->owner;

	t->exit = *exit;
	davit_timer_stop(&t->limit);
	davit_defer(&t->end); /* not from within the driver's call */
}

/* On one line, without what a terminal would obey. */
static const char *tail_of(struct health_try *t)
{
	while (t->tail_len && strchr(" \t\r\n", t->tail[t->tail_len - 1]))
		t->tail_len--;
	t->tail[t->tail_len] = '\0';
	for (size_t k = 0; k < t->tail_len; k++)
		if ((unsigned char)t->tail[k] < ' ' || t->tail[k] == 0x7f)
			t->tail[k] = ' ';
	return t->tail;
}

static void on_end(struct davit_deferred *d)
{
	struct health_try *t = DAVIT_CONTAINER_OF(d, struct health_try, end);
	const struct davit_exit *e = &t->exit;
	const char *tail = tail_of(t);
	char text[256];

	if (t->asked) /* it was faster than the news of its start */
		return;
	if (e->kind == DAVIT_EXIT_CODE && e->code == 0) {
		finish(t, HEALTH_PASSED, NULL);
		return;
	}
	if (e->kind == DAVIT_EXIT_UNKNOWN) {
		finish(t, HEALTH_NO_WORD, NULL);
		return;
	}
	if (e->kind == DAVIT_EXIT_CODE)
		snprintf(text, sizeof text, "exit code %d%s%s", e->code, *tail ? ": " : "", tail);
	else if (e->kind == DAVIT_EXIT_SIGNAL || e->kind == DAVIT_EXIT_OOM)
		snprintf(text, sizeof text, "signal %d%s%s", e->signal, *tail ? ": " : "", tail);
	else
		snprintf(text, sizeof text, "%s", e->reason);
	finish(t, HEALTH_FAILED, text);
}

static void on_limit(struct davit_timer *timer)
{
	struct health_try *t = DAVIT_CONTAINER_OF(timer, struct health_try, limit);
	char text[256], after[DAVIT_TIME_MAX];
	const char *tail = tail_of(t);

	davit_duration_format(check_spec(t->check)->timeout, after);
	snprintf(text, sizeof text, "no end within %s%s%s", after, *tail ? ": " : "", tail);
	finish(t, HEALTH_FAILED, text); /* kills it, with all that it started */
}

static void executed(struct davit_op *op, int result)
{
	struct health_try *t = op->user;

	t->asked = false;
	if (!t->check)
		try_free(t);
	else if (result == DAVIT_EEXEC || result == DAVIT_ETIMEDOUT)
		finish(t, HEALTH_FAILED, op->error.message);
	else if (result < 0)
		finish(t, HEALTH_NO_WORD, NULL);
	else if (t->exit.kind != DAVIT_EXIT_NONE)
		davit_defer(&t->end);
	else
		davit_timer_start(&t->limit, t->due - davit_loop_now(t->core->loop));
}

static void execute(struct health_try *t, struct instance *i, const struct davit_health_check *s)
{
	const struct davit_exec init = {
		.owner = t,
		.output = on_output,
		.exited = on_exited,
	};
	struct davit_error err;

	if (davit_strv_dup(s->command, &t->argv) == 0)
		t->x = davit_core_exec_new(t->core, i->inst, &init, &err);
	if (!t->x) {
		finish(t, HEALTH_NO_WORD, NULL);
		return;
	}
	t->x->argv = t->argv;
	t->asked = true;
	t->due = davit_loop_now(t->core->loop) + s->timeout;
	davit_op_init(&t->op, t->core->loop, executed, t);
	davit_op_begin(&t->op, s->timeout);
	i->runtime->driver->exec->start(t->x, &t->op);
}

/* --- both --- */

void health_try(struct check *c)
{
	struct instance *i = c->health->i;
	const struct davit_health_check *s = check_spec(c);
	bool mute = i->runtime->phase != RUNTIME_OPEN || i->paused;
	struct health_try *t = mute ? NULL : calloc(1, sizeof *t);

	/* Of what cannot be looked at, or is frozen, nothing can be said. */
	if (!t) {
		health_tried(c, HEALTH_NO_WORD, NULL);
		return;
	}
	t->core = i->core;
	t->check = c;
	davit_list_init(&t->list);
	davit_list_add_tail(&t->core->tries, &t->list);
	davit_timer_init(&t->limit, t->core->loop, on_limit);
	davit_deferred_init(&t->end, t->core->loop, on_end);
	c->under_way = t;
	if (s->type == DAVIT_HEALTH_COMMAND)
		execute(t, i, s);
	else
		probe(t, i, s);
}

void health_try_abandon(struct check *c)
{
	struct health_try *t = DAVIT_TAKE(c->under_way);

	if (!t)
		return;
	t->check = NULL;
	davit_timer_stop(&t->limit);
	if (t->asked)
		davit_op_cancel(&t->op); /* freed when that is answered */
	else
		try_free(t);
}

void health_try_free_all(struct davit_core *c)
{
	struct health_try *t, *next;

	/* A command that was about to start went with its runtime; whoever makes a
	 * probe still answers. */
	DAVIT_LIST_FOREACH_SAFE (t, next, &c->tries, list) {
		if (t->argv) {
			davit_timer_stop(&t->op.deadline);
			davit_deferred_cancel(&t->op.completion);
			try_free(t);
		} else {
			davit_list_remove(&t->list);
			davit_list_init(&t->list);
		}
	}
}
