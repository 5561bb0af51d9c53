/* SPDX-License-Identifier: MIT
 *
 * Operations on containers: create, start, stop, continue, fail, destroy, of one or of
 * all beneath it. Each is answered when it is done and, if it changes what the user
 * has made, recorded.
 */
#include "host/host.h"

#include "base/strv.h"

#include <string.h>

/* --- creating --- */

struct creation {
	struct host_entry e; /* borrowed from the request's body, and the loader */
	bool was_there;
};

static void created(struct host *h, const struct davit_outcome *o, void *arg)
{
	struct host_call *call = arg;
	struct creation *k = call->state;
	struct davit_error err;
	json_t *v;
	int r = 0;

	if (o->state != DAVIT_PROMISE_FULFILLED) {
		host_fail_outcome(call, o);
		return;
	}
	if (!k->was_there || host_query(call, "force")[0])
		r = host_record_add(h, &k->e, &err);
	else if (k->e.wanted == DAVIT_STATE_STARTED)
		r = host_record_want(h, k->e.alias, k->e.wanted, &err);
	if (r == 0)
		host_watch(h, k->e.alias);
	v = r == 0 ? host_view(h, k->e.alias, false, &err) : NULL;
	if (!v) {
		host_fail(call, &err);
		return;
	}
	json_object_set_new(v, "created", json_boolean(!k->was_there));
	host_reply(call, v);
}

static int flags_of(const char *force, unsigned *ret, struct davit_error *err)
{
	static const struct {
		const char *word;
		unsigned flags;
	} all[] = {
		{"", DAVIT_CREATE_DEFAULT},
		{"soft", DAVIT_CREATE_FORCE_SOFT},
		{"hard", DAVIT_CREATE_FORCE_HARD},
		{"both", DAVIT_CREATE_FORCE},
	};
	_Static_assert((int)DAVIT_CREATE_FORCE_SOFT == DAVIT_DESTROY_FORCE_SOFT &&
			       (int)DAVIT_CREATE_FORCE_HARD == DAVIT_DESTROY_FORCE_HARD &&
			       (int)DAVIT_CREATE_FORCE == DAVIT_DESTROY_FORCE,
		       "the words mean the same for both");

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(all); i++)
		if (!strcmp(all[i].word, force)) {
			*ret = all[i].flags;
			return 0;
		}
	return davit_error_set(err, DAVIT_EINVAL, "force", "'%.32s' is none of soft, hard and both", force);
}

static char *or_null(const char *s)
{
	return (char *)(uintptr_t)(s[0] ? s : NULL);
}

/* Fills what is to be created, and the entry of the record for it. */
static int prepare(struct host_call *call, struct creation *k, struct davit_create *what,
		   struct davit_error *err)
{
	struct host *h = call->host;
	const char *name = host_body(call, "name"), *file;
	const char *parent = host_body(call, "parent");
	struct host_search s = {.pattern = or_null(host_body(call, "search")),
				.directory = or_null(host_body(call, "directory"))};
	struct davit_container_info above;
	int r = host_type_parse(host_body(call, "type"), &s.type, err);

	*what = (struct davit_create){.alias = host_body(call, "alias"), .args = host_body(call, "args")};
	s.name = name[0] ? name : what->alias;
	if (r == 0)
		r = flags_of(host_query(call, "force"), &what->flags, err);
	if (r == 0 && davit_container_get(h->c, parent[0] ? parent : "Main", &above))
		r = davit_error_set(err, DAVIT_ENOENT, "parent", "there is no container '%.200s'", parent);
	if (r == 0)
		r = host_definition(h, &s, &what->definition, &file, err);
	if (r < 0)
		return r;
	what->parent = parent[0] ? parent : "Main";
	if (json_is_true(json_object_get(call->body, "start")))
		what->flags |= DAVIT_CREATE_START;
	k->e = (struct host_entry){
		.alias = (char *)(uintptr_t)what->alias,
		.parent = (char *)(uintptr_t)what->parent,
		.name = (char *)(uintptr_t)s.name,
		.args = (char *)(uintptr_t)what->args,
		.file = (char *)(uintptr_t)file,
		.type = s.type,
		.wanted = what->flags & DAVIT_CREATE_START ? DAVIT_STATE_STARTED : DAVIT_STATE_CREATED,
	};
	k->was_there = davit_exists(h->c, what->alias);
	return 0;
}

void host_create(struct host_call *call)
{
	struct creation *k = calloc(1, sizeof *k);
	struct davit_create what;
	struct davit_error err;
	struct davit_promise p;
	int r;

	call->state = k;
	call->free_state = free;
	r = k ? prepare(call, k, &what, &err) : davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r < 0) {
		host_fail(call, &err);
		return;
	}
	r = davit_container_create(call->host->c, &what, &p);
	if (r == 0)
		r = host_when(call->host, p, created, call);
	if (r == DAVIT_EINVAL)
		host_fail_with(call, r, "alias",
			       "'%.64s' is no alias: 1 to 63 bytes, no '/', ':' or control character in it, "
			       "and neither '.' nor '..'",
			       what.alias);
	else if (r < 0)
		host_fail_with(call, r, NULL, "out of memory");
}

/* --- one operation after the other, on one or on all of a subtree --- */

struct operation {
	const char *verb;
	bool all;	/* of a subtree */
	char **aliases; /* in the order in which they are to be done */
	size_t at, n;
};

static void operation_free(void *state)
{
	struct operation *o = state;

	davit_strv_free(o->aliases);
	free(o);
}

static int collect(const json_t *node, char ***aliases)
{
	const json_t *child;
	size_t i;
	int r = davit_strv_add(aliases, json_string_value(json_object_get(node, "alias")));

	json_array_foreach(json_object_get(node, "children"), i, child) if (r == 0) r =
		collect(child, aliases);
	return r;
}

/* Those above before those beneath; backwards for a stop. Main has no operations. */
static void arrange(struct operation *o, bool backwards)
{
	if (o->n && !strcmp(o->aliases[0], "Main")) {
		free(o->aliases[0]);
		memmove(o->aliases, o->aliases + 1, o->n * sizeof *o->aliases);
		o->n--;
	}
	for (size_t i = 0; backwards && i < o->n / 2; i++) {
		char *other = o->aliases[i];
		o->aliases[i] = o->aliases[o->n - 1 - i];
		o->aliases[o->n - 1 - i] = other;
	}
}

/* The container that the path names, if it is below `parent` and of `type` where the
 * request says so. */
static json_t *target(struct host_call *call, bool deep, struct davit_error *err)
{
	const char *parent = host_query(call, "parent"), *type = host_query(call, "type");
	json_t *v = host_view(call->host, call->address, deep, err);
	struct davit_container_info above;

	if (!v || (!parent[0] && !type[0]))
		return v;
	if (parent[0] && (davit_container_get(call->host->c, parent, &above) ||
			  strcmp(above.alias, json_string_value(json_object_get(v, "parent"))) != 0))
		davit_error_set(err, DAVIT_ENOENT, "alias", "there is no container '%.100s' below '%.100s'",
				call->address, parent);
	else if (type[0] && strcmp(type, json_string_value(json_object_get(v, "type"))) != 0)
		davit_error_set(err, DAVIT_ENOENT, "alias", "'%.100s' is no container of type %.16s",
				call->address, type);
	else
		return v;
	json_decref(v);
	return NULL;
}

static void step(struct host_call *call);

static int record(struct host *h, const struct operation *o, struct davit_error *err)
{
	const char *alias = o->aliases[o->at];

	if (!strcmp(o->verb, "start") || !strcmp(o->verb, "continue"))
		return host_record_want(h, alias, DAVIT_STATE_STARTED, err);
	if (!strcmp(o->verb, "stop"))
		return host_record_want(h, alias, DAVIT_STATE_STOPPED, err);
	return 0;
}

static void stepped(struct host *h, const struct davit_outcome *outcome, void *arg)
{
	struct host_call *call = arg;
	struct operation *o = call->state;
	struct davit_error err;

	if (outcome->state != DAVIT_PROMISE_FULFILLED && o->all) {
		host_fail_with(call, outcome->code ? outcome->code : DAVIT_ECANCELED, NULL, "%s: %s",
			       o->aliases[o->at], outcome->message);
		return;
	}
	if (outcome->state != DAVIT_PROMISE_FULFILLED) {
		host_fail_outcome(call, outcome);
		return;
	}
	if (record(h, o, &err) < 0) {
		host_fail(call, &err);
		return;
	}
	o->at++;
	step(call);
}

static int begin(struct host_call *call, const char *verb, const char *alias, struct davit_promise *p)
{
	struct davit_context *c = call->host->c;
	struct davit_container_info info;

	if (!strcmp(verb, "start"))
		return davit_container_start(c, alias, p);
	if (!strcmp(verb, "stop"))
		return davit_container_stop(c, alias, p);
	if (!strcmp(verb, "fail"))
		return davit_container_fail(c, alias, DAVIT_ECANCELED, host_body(call, "reason"), p);
	if (davit_container_get(c, alias, &info))
		info.failure = 0;
	return davit_container_solve(c, alias, info.failure, DAVIT_SOLVE_CONTINUE, p);
}

/* Of a subtree: what was never started need not be stopped, and what has ended meanwhile is
 * nobody's. */
static bool is_spared(struct host_call *call, const struct operation *o, const char *alias)
{
	struct davit_container_info info;

	if (!o->all)
		return false;
	return davit_container_get(call->host->c, alias, &info) ||
	       (!strcmp(o->verb, "stop") && info.state == DAVIT_STATE_CREATED);
}

static void step(struct host_call *call)
{
	struct operation *o = call->state;
	struct davit_promise p;

	while (o->at < o->n && is_spared(call, o, o->aliases[o->at]))
		o->at++;
	if (o->at == o->n)
		host_reply_addressed(call);
	else if (begin(call, o->verb, o->aliases[o->at], &p) || host_when(call->host, p, stepped, call))
		host_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
}

void host_operate(struct host_call *call, const char *verb)
{
	static const char *const verbs[] = {"start", "stop", "continue", "fail"};
	bool all = !strcmp(host_query(call, "subtree"), "true");
	struct operation *o = calloc(1, sizeof *o);
	struct davit_error err;
	json_t *v = NULL;
	int r = o ? 0 : DAVIT_ENOMEM;

	call->state = o;
	call->free_state = operation_free;
	for (size_t i = 0; o && i < DAVIT_ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i], verb))
			o->verb = verbs[i];
	if (r == 0 && !o->verb) {
		host_fail_with(call, DAVIT_ENOENT, "path", "no such operation: %.16s", verb);
		return;
	}
	if (r == 0 && !(v = target(call, all, &err))) {
		host_fail(call, &err);
		return;
	}
	if (r == 0)
		r = collect(v, &o->aliases);
	json_decref(v);
	if (r < 0) {
		host_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	o->n = davit_strv_len(o->aliases);
	o->all = all;
	if (all)
		arrange(o, !strcmp(verb, "stop"));
	step(call);
}

/* --- destroying --- */

static void destroyed(struct host *h, const struct davit_outcome *o, void *arg)
{
	struct host_call *call = arg;
	struct operation *what = call->state;
	struct davit_error err;
	int r = 0;

	if (o->state != DAVIT_PROMISE_FULFILLED) {
		host_fail_outcome(call, o);
		return;
	}
	for (size_t i = 0; i < what->n && r == 0; i++)
		r = host_record_remove(h, what->aliases[i], &err);
	if (r < 0)
		host_fail(call, &err);
	else
		host_reply(call, json_pack("{s:s, s:s}", "alias", what->aliases[0], "state",
					   davit_state_name(DAVIT_STATE_DESTROYED)));
}

/* All that go with it, so that none is recorded any longer. */
void host_destroy(struct host_call *call)
{
	struct operation *o = calloc(1, sizeof *o);
	struct davit_error err;
	struct davit_promise p;
	unsigned flags = DAVIT_DESTROY_KEEP;
	json_t *v = o ? target(call, true, &err) : NULL;
	int r = o ? 0 : davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");

	call->state = o;
	call->free_state = o ? operation_free : NULL;
	/* What is not there is destroyed; of another type or elsewhere, it is not meant. */
	if (r == 0 && !v && davit_exists(call->host->c, call->address))
		r = err.code;
	if (r == 0 && strcmp(host_query(call, "force"), "keep") != 0)
		r = flags_of(host_query(call, "force")[0] ? host_query(call, "force") : "both", &flags, &err);
	if (r == 0 && v && collect(v, &o->aliases) < 0)
		r = davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0 && !v && davit_strv_add(&o->aliases, call->address) < 0)
		r = davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
	json_decref(v);
	if (r < 0) {
		host_fail(call, &err);
		return;
	}
	o->n = davit_strv_len(o->aliases);
	if (davit_container_destroy(call->host->c, call->address, flags, &p) ||
	    host_when(call->host, p, destroyed, call))
		host_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
}
