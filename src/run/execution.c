/* SPDX-License-Identifier: MIT
 *
 * The steps of a leaf: durable ones, whose names follow from the leaf's key, so that a host that comes later
 * finds what runs or has ended. Their output goes to the events as it comes.
 */
#include "run/host.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define LETTERS "0123456789abcdefghjkmnpqrstvwxyz"
#define READ_BYTES 65536
#define PUMP_BYTES ((size_t)1 << 20) /* in one turn of the loop */

/* One that has ended, and is kept until this is durable. */
struct kept {
	struct davit_list list;
	struct davit_execution *x;
};

void leaf_step_name(const struct leaf *l, const char *what, char ret[STEP_NAME_MAX])
{
	uint8_t hash[crypto_generichash_BYTES_MIN];
	crypto_generichash_state s;

	crypto_generichash_init(&s, NULL, 0, sizeof hash);
	crypto_generichash_update(&s, (const uint8_t *)l->key, strlen(l->key) + 1);
	crypto_generichash_update(&s, (const uint8_t *)what, strlen(what));
	crypto_generichash_final(&s, hash, sizeof hash);
	memcpy(ret, l->host->id, DAVIT_RUN_ID);
	for (int i = DAVIT_RUN_ID; i < STEP_NAME_MAX - 1; i++)
		ret[i] = LETTERS[hash[i] % 32];
	ret[STEP_NAME_MAX - 1] = '\0';
}

/* -------------------------------------------------------------------------------- output */

static void tell_log(struct leaf *l, int stream, const char *text, size_t n)
{
	struct davit_json *j = events_begin(&l->host->events, "log", l->key);

	if (*l->part)
		davit_json_put_string(j, "part", l->part);
	davit_json_put_string(j, "stream", stream == DAVIT_STEP_OUT ? "stdout" : "stderr");
	davit_json_put_int(j, "offset", (int64_t)l->offsets[stream]);
	davit_json_put_int(j, "bytes", (int64_t)n);
	davit_json_key(j, "text");
	davit_json_stringn(j, text, n);
	events_end(&l->host->events);
	l->offsets[stream] += n;
}

/* Reads on, at most PUMP_BYTES unless to the end. False when there may be more. */
static bool pump_stream(struct leaf *l, int stream, bool to_the_end)
{
	char buf[READ_BYTES];
	size_t all = 0;
	ssize_t n;

	while ((n = davit_execution_read(l->x, (enum davit_step_stream)stream, l->offsets[stream], buf,
					 sizeof buf, NULL)) > 0) {
		size_t shown = davit_execution_result(l->x) ? (size_t)n : davit_json_whole(buf, (size_t)n);

		if (!shown)
			return true;
		/* JSON's readers have no NUL: it becomes what is not a character, too. */
		for (char *nul = buf; (nul = memchr(nul, '\0', shown - (size_t)(nul - buf)));)
			*nul = '\xff';
		tell_log(l, stream, buf, shown);
		all += shown;
		if (to_the_end && all >= PUMP_BYTES)
			events_flush(&l->host->events);
		if (!to_the_end && all >= PUMP_BYTES)
			return false;
	}
	return true;
}

static void on_pump(struct davit_deferred *d)
{
	struct leaf *l = DAVIT_CONTAINER_OF(d, struct leaf, pump);
	bool more = false;

	if (!l->x || l->host->events.blocked)
		return;
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++)
		if (!l->silent[i])
			more |= !pump_stream(l, i, false);
		else /* only so that it is told of more */
			davit_execution_read(l->x, (enum davit_step_stream)i, 0, &(char){0}, 0, NULL);
	if (more)
		davit_defer(&l->pump);
}

/* ------------------------------------------------------------------------------- reports */

static void on_started(void *user, struct davit_execution *x)
{
	struct leaf *l = user;
	struct davit_error err;
	const struct told *t = events_told(&l->host->events, l->key, "");

	if (!l->node->is_running && (!t || !t->started)) {
		struct davit_json *j = events_begin(&l->host->events, "running", l->key);

		davit_json_put_string(j, "name", l->name);
		davit_json_put_string(j, "execution", davit_execution_id(x));
		events_end(&l->host->events);
	}
	if (davit_plan_running(l->host->plan, l->key, davit_execution_started(x), &err) < 0)
		host_die(l->host, "%s", err.message);
}

static void on_output(void *user, struct davit_execution *x)
{
	struct leaf *l = user;

	(void)x;
	davit_defer(&l->pump);
}

static void on_step_note(void *user, struct davit_execution *x, const char *text)
{
	(void)x;
	leaf_note(user, "%s", text);
}

static void tell_dropped(struct leaf *l, const struct davit_result *r)
{
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++)
		if (r->dropped[i] && !l->silent[i])
			leaf_note(l, "%llu bytes of its %s are not kept: the log is full",
				  (unsigned long long)r->dropped[i],
				  i == DAVIT_STEP_OUT ? "output" : "errors");
}

static void on_done(void *user, struct davit_execution *x, const struct davit_result *r)
{
	struct leaf *l = user;
	struct kept *k = malloc(sizeof *k);

	if (!k)
		host_die(l->host, "out of memory");
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++)
		if (!l->silent[i])
			pump_stream(l, i, true);
	tell_dropped(l, r);
	davit_deferred_cancel(&l->pump);
	k->x = x;
	davit_list_init(&k->list);
	davit_list_add_tail(&l->steps, &k->list);
	l->done(l, r);
	if (l->x == x)
		l->x = NULL;
}

static const struct davit_execution_events on = {
	.started = on_started, .output = on_output, .note = on_step_note, .done = on_done};

/* ------------------------------------------------------------------------------ beginning */

static void prepare(struct leaf *l, const char *what,
		    void (*done)(struct leaf *l, const struct davit_result *r))
{
	const struct told *t = events_told(&l->host->events, l->key, what);

	davit_deferred_init(&l->pump, l->host->loop, on_pump);
	l->done = done;
	l->part = what;
	l->x = NULL;
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++)
		l->offsets[i] = t && !l->silent[i] ? t->offsets[i] : 0;
}

bool leaf_take_over(struct leaf *l, const char *what,
		    void (*done)(struct leaf *l, const struct davit_result *r))
{
	char name[STEP_NAME_MAX];
	struct davit_error err;
	int r;

	if (l->how == DAVIT_PLAN_FRESH)
		return false;
	leaf_step_name(l, what, name);
	prepare(l, what, done);
	r = davit_execution_attach(l->host->loop, l->host->store, name, &on, l, &l->x, &err);
	if (r == DAVIT_ENOENT)
		return false;
	if (r < 0)
		host_die(l->host, "%s", err.message);
	/* What follows it has not begun either, for it would be the one that is found. */
	return true;
}

void leaf_execute(struct leaf *l, const char *what, struct davit_run_spec *spec,
		  const struct davit_artifact *artifacts, size_t n,
		  void (*done)(struct leaf *l, const struct davit_result *r))
{
	char name[STEP_NAME_MAX];
	struct davit_error err;

	if (l->aborted) {
		leaf_end(l, DAVIT_PLAN_ABORTED, NULL, NULL, -1);
		return;
	}
	leaf_step_name(l, what, name);
	prepare(l, what, done);
	spec->durable = name;
	if (davit_execute(l->host->loop, l->host->store, spec, artifacts, n, &on, l, &l->x, &err) < 0)
		leaf_error(l, &err);
}

int leaf_read_stream(struct leaf *l, enum davit_step_stream stream, size_t max, struct davit_buf *out,
		     struct davit_error *err)
{
	ssize_t n;

	do {
		if (davit_buf_reserve(out, READ_BYTES) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		n = davit_execution_read(l->x, stream, out->len, out->data + out->len, READ_BYTES, err);
		if (n < 0)
			return (int)n;
		out->len += (size_t)n;
	} while (n > 0 && out->len <= max);
	return out->len > max
		       ? davit_error_set(err, DAVIT_EPROTO, NULL, "it printed more than its answer may have")
		       : 0;
}

void leaf_forget_steps(struct leaf *l)
{
	struct kept *k;

	while ((k = DAVIT_LIST_FIRST(&l->steps, struct kept, list))) {
		davit_list_remove(&k->list);
		davit_execution_free(k->x);
		free(k);
	}
	l->x = NULL;
}
