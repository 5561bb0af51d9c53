/* SPDX-License-Identifier: MIT */
#include "actor/within.h"

#include "actor/process_json.h"
#include "base/json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char *word(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

/* The object of a payload, or NULL. */
static json_t *load(const struct davit_frame *f, const unsigned char *body)
{
	size_t skip = (size_t)f->from + f->to;
	json_t *j = json_loadb((const char *)body + skip, f->size - skip, 0, NULL);

	if (json_is_object(j))
		return j;
	json_decref(j);
	return NULL;
}

/* The alias in `to`. False: it is none. */
static bool alias_of(const struct davit_frame *f, const unsigned char *body, char ret[64])
{
	if (f->from || !f->to || f->to >= 64 || memchr(body, 0, f->to))
		return false;
	memcpy(ret, body, f->to);
	ret[f->to] = 0;
	return true;
}

static void put_failure(struct davit_json *j, uint64_t failure)
{
	char hash[20];

	snprintf(hash, sizeof hash, "%016" PRIx64, failure);
	davit_json_put_string(j, "failure", hash);
}

/* --- known --- */

static void announce(struct link *up, const struct remote *r, enum davit_state state)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	davit_json_open(&j);
	davit_json_put_string(&j, "alias", r->alias);
	davit_json_put_string(&j, "name", r->name);
	davit_json_put_string(&j, "type", r->type == DAVIT_PROCESS ? "process" : "thread");
	davit_json_put_string(&j, "parent", r->parent);
	davit_json_put_string(&j, "state", davit_state_name(state));
	davit_json_put_int(&j, "restarts", r->restarts);
	davit_json_put_string(&j, "strategy", davit_strategy_name(r->strategy));
	if (r->failure) {
		put_failure(&j, r->failure);
		davit_json_put_string(&j, "code", davit_error_word(r->code));
		davit_json_put_string(&j, "message", r->message);
	}
	davit_json_close(&j);
	if (!b.oom)
		link_control(up, DAVIT_FRAME_ANNOUNCE, 0, 0, b.data, b.len);
}

void within_announce(struct container *k, enum davit_state s)
{
	struct remote r = {.type = k->definition->type,
			   .failure = k->failure,
			   .restarts = k->restarts,
			   .strategy = k->strategy};

	r.code = k->failure ? k->failure_code : 0;
	snprintf(r.alias, sizeof r.alias, "%s", k->alias);
	snprintf(r.name, sizeof r.name, "%s", k->definition->name);
	snprintf(r.parent, sizeof r.parent, "%s", k->parent->alias);
	snprintf(r.message, sizeof r.message, "%s", k->failure ? k->failure_text : "");
	announce(k->tree->system->uplink, &r, s);
}

void within_forward(struct davit_system *s, const struct remote *r, enum davit_state state)
{
	if (s->uplink)
		announce(s->uplink, r, state);
}

int within_announced(struct davit_context *c, struct link *l, const struct davit_frame *f,
		     const unsigned char *body)
{
	json_t *j = load(f, body);
	int state = j ? davit_state_from_name(word(j, "state")) : -1;
	struct remote r = {0};
	int e = 0;

	if (state < 0 || !alias_ok(word(j, "alias"))) {
		json_decref(j);
		return DAVIT_EPROTO;
	}
	snprintf(r.alias, sizeof r.alias, "%s", word(j, "alias"));
	snprintf(r.name, sizeof r.name, "%s", word(j, "name"));
	snprintf(r.parent, sizeof r.parent, "%s", word(j, "parent"));
	snprintf(r.message, sizeof r.message, "%s", word(j, "message"));
	r.type = strcmp(word(j, "type"), "process") ? DAVIT_THREAD : DAVIT_PROCESS;
	r.state = (enum davit_state)state;
	r.restarts = json_integer_value(json_object_get(j, "restarts"));
	r.strategy = strategy_from_name(word(j, "strategy"));
	if (state == DAVIT_STATE_FAILED) {
		r.failure = strtoull(word(j, "failure"), NULL, 16);
		r.code = davit_error_from_word(word(j, "code"));
	}
	if (state == DAVIT_STATE_DESTROYED)
		remote_gone(c, l, r.alias, 0, "");
	else
		e = remote_announced(c, l, &r);
	if (e)
		tree_log(c->system->tree,
			 "%s: its %s is not known here: the alias is taken, or there are too many", l->alias,
			 r.alias);
	json_decref(j);
	return 0;
}

/* --- operated: the parent's side --- */

static void what_to_do(struct davit_buf *b, const struct operate_request *r)
{
	static const char *const verbs[] = {[OP_START] = "start",
					    [OP_STOP] = "stop",
					    [OP_FAIL] = "fail",
					    [OP_DESTROY] = "destroy",
					    [OP_SOLVE] = "solve"};
	unsigned force = r->flags & DAVIT_DESTROY_FORCE;
	struct davit_json j = DAVIT_JSON_INIT(b);

	davit_json_open(&j);
	davit_json_put_string(&j, "do", verbs[r->kind]);
	if (r->kind == OP_DESTROY && force)
		davit_json_put_string(&j, "force",
				      force == DAVIT_DESTROY_FORCE_SOFT	  ? "soft"
				      : force == DAVIT_DESTROY_FORCE_HARD ? "hard"
									  : "both");
	if (r->kind == OP_FAIL) {
		davit_json_put_string(&j, "code", davit_error_word(r->code));
		davit_json_put_string(&j, "message", r->text);
	}
	if (r->kind == OP_SOLVE) {
		put_failure(&j, r->failure);
		davit_json_put_string(&j, "solution", davit_solution_name(r->solution));
	}
	davit_json_close(&j);
}

/* The link of the one meant, a reference, and its alias. NULL: it has ended meanwhile. */
static struct link *way_to(struct davit_context *c, struct davit_ref ref, char ret_alias[64])
{
	struct davit_actor *a = actor_at(c->system, ref.slot);
	const struct remote *r;
	struct link *l = NULL;

	tree_lock(c->system);
	r = a && a->gate ? atomic_load(&a->gate->remote) : NULL;
	if (r && davit_ref_equal(r->ref, ref)) {
		memcpy(ret_alias, r->alias, sizeof r->alias);
		l = link_ref(r->link);
	}
	tree_unlock(c->system);
	return l;
}

static void send_operate(struct davit_context *c, struct link *l, const char *alias,
			 const struct operate_request *r)
{
	struct davit_frame f = {.kind = DAVIT_FRAME_OPERATE};
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	bool closed;

	what_to_do(&b, r);
	if (b.oom) {
		davit_reject(c, r->promise, DAVIT_ENOMEM, "out of memory");
		return;
	}
	f.id = (uint64_t)r->promise.slot << 32 | r->promise.generation;
	f.to = (uint8_t)strlen(alias);
	f.size = (uint32_t)(f.to + b.len);
	promise_goes_by(c, r->promise, l);
	link_frame(l, &f, alias, b.data);
	/* The end of a link settles what went by it; this may have come after that. */
	pthread_mutex_lock(&l->lock);
	closed = l->closed;
	pthread_mutex_unlock(&l->lock);
	if (closed)
		davit_reject(c, r->promise, DAVIT_ECLOSED, "the process of %s has ended", alias);
}

void within_operate(struct davit_context *c, const struct operate_request *r)
{
	char alias[64];
	struct link *l = way_to(c, r->ref, alias);

	if (!l && r->kind == OP_DESTROY)
		davit_fulfil(c, r->promise, "", 0);
	else if (!l)
		davit_reject(c, r->promise, DAVIT_ESTATE, "cannot do that to a destroyed instance");
	else if (l->end == DAVIT_END_CHILD)
		davit_reject(c, r->promise, DAVIT_EPERM, "%s does not stand beneath this process", alias);
	else
		send_operate(c, l, alias, r);
	link_unref(l);
}

int within_said(struct davit_context *c, struct link *l, const struct davit_frame *f,
		const unsigned char *body)
{
	struct davit_promise p = {(uint32_t)(f->id >> 32), (uint32_t)f->id};
	int code = f->type && f->type < 1000 ? -(int)f->type : 0;
	char alias[64];
	json_t *j = load(f, body);

	if (!j || !alias_of(f, body, alias)) {
		json_decref(j);
		return DAVIT_EPROTO;
	}
	if (code)
		promise_from_peer(c, p, l->number, DAVIT_PROMISE_REJECTED, code, word(j, "message"), NULL, 0);
	else
		promise_from_peer(c, p, l->number, DAVIT_PROMISE_FULFILLED, 0, NULL, alias, strlen(alias));
	json_decref(j);
	return 0;
}

/* --- operated: the child's side --- */

struct asked {
	struct link *link; /* the uplink, which outlives it */
	uint64_t id;
	char alias[64];
};

static void done(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct asked *a = arg;
	struct davit_container_info info = {.state = DAVIT_STATE_DESTROYED};
	struct davit_frame f = {.kind = DAVIT_FRAME_STATE, .id = a->id, .type = (uint32_t)-o->code};
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	(void)davit_container_get(c, a->alias, &info);
	davit_json_open(&j);
	davit_json_put_string(&j, "state", davit_state_name(info.state));
	if (o->code)
		davit_json_put_string(&j, "message", o->message);
	davit_json_close(&j);
	f.to = (uint8_t)strlen(a->alias);
	f.size = (uint32_t)(f.to + b.len);
	if (!b.oom)
		link_frame(a->link, &f, a->alias, b.data);
	free(a);
}

static enum davit_solution solution_from(const char *name)
{
	for (int i = 0; i < DAVIT_SOLUTION_COUNT; i++)
		if (!strcmp(davit_solution_name((enum davit_solution)i), name))
			return (enum davit_solution)i;
	return DAVIT_SOLUTION_COUNT; /* it is refused as what it is */
}

/* 0, DAVIT_ENOMEM, or DAVIT_EPROTO for what cannot be asked. */
static int begin(struct davit_context *c, const char *alias, const json_t *j, struct davit_promise *p)
{
	const char *what = word(j, "do"), *force = word(j, "force");
	unsigned flags = !*force		  ? DAVIT_DESTROY_KEEP
			 : !strcmp(force, "soft") ? DAVIT_DESTROY_FORCE_SOFT
			 : !strcmp(force, "hard") ? DAVIT_DESTROY_FORCE_HARD
						  : DAVIT_DESTROY_FORCE;

	if (!strcmp(what, "start"))
		return davit_container_start(c, alias, p);
	if (!strcmp(what, "stop"))
		return davit_container_stop(c, alias, p);
	if (!strcmp(what, "destroy"))
		return davit_container_destroy(c, alias, flags, p);
	if (!strcmp(what, "fail"))
		return davit_container_fail(c, alias, davit_error_from_word(word(j, "code")),
					    word(j, "message"), p);
	if (!strcmp(what, "solve"))
		return davit_container_solve(c, alias, strtoull(word(j, "failure"), NULL, 16),
					     solution_from(word(j, "solution")), p);
	return DAVIT_EPROTO;
}

/* Beneath this process; what it has only heard of is nobody's to operate here. */
static bool is_within(struct davit_context *c, const char *alias)
{
	struct tree *t = c->system->tree;
	const struct remote *r;
	bool is;

	tree_lock(c->system);
	r = davit_map_get(&t->remotes, alias);
	is = davit_map_get(&t->aliases, alias) || (r && r->link->end == DAVIT_END_PARENT);
	tree_unlock(c->system);
	return is;
}

int within_asked(struct child *ch, const struct davit_frame *f, const unsigned char *body)
{
	struct davit_context *c = davit_system_context(ch->system);
	struct asked *a = calloc(1, sizeof *a);
	json_t *j = load(f, body);
	struct davit_promise p;
	int r = a ? DAVIT_EPROTO : DAVIT_ENOMEM;

	if (a && j && alias_of(f, body, a->alias)) {
		a->link = ch->link;
		a->id = f->id;
		r = 0;
		if (is_within(c, a->alias))
			r = begin(c, a->alias, j, &p);
		else if (!strcmp(word(j, "do"), "destroy"))
			done(c, &(struct davit_outcome){.message = ""}, DAVIT_TAKE(a));
		else
			done(c, &(struct davit_outcome){.code = DAVIT_ESTATE, .message = "it has ended"},
			     DAVIT_TAKE(a));
		if (!r && a)
			r = davit_done(c, p, done, DAVIT_TAKE(a));
	}
	free(a);
	json_decref(j);
	return r;
}
