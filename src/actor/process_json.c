/* SPDX-License-Identifier: MIT */
#include "actor/process_json.h"

#include "actor/container_impl.h"
#include "base/json.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define MS INT64_C(1000000)

/* An object, or NULL. */
static json_t *load(const void *json, size_t size)
{
	json_t *j = json_loadb(json, size, 0, NULL);

	if (j && !json_is_object(j)) {
		json_decref(j);
		return NULL;
	}
	return j;
}

/* Of a text that must be there, unless `may` says otherwise. */
static bool text(const json_t *j, const char *key, char *ret, size_t size, bool may)
{
	const json_t *v = json_object_get(j, key);

	*ret = 0;
	if (!v || json_is_null(v))
		return may;
	if (!json_is_string(v))
		return false;
	snprintf(ret, size, "%s", json_string_value(v));
	return true;
}

static bool number(const json_t *j, const char *key, int64_t *ret)
{
	const json_t *v = json_object_get(j, key);

	if (!v || json_is_null(v))
		return true;
	if (!json_is_integer(v))
		return false;
	*ret = json_integer_value(v);
	return true;
}

static bool flag(const json_t *j, const char *key, bool *ret)
{
	const json_t *v = json_object_get(j, key);

	if (!v || json_is_null(v))
		return true;
	if (!json_is_boolean(v))
		return false;
	*ret = json_is_true(v);
	return true;
}

/* --- HELLO, WELCOME --- */

void hello_json(struct davit_buf *b, const struct hello *h)
{
	struct davit_json j = DAVIT_JSON_INIT(b);

	davit_json_open(&j);
	davit_json_put_int(&j, "protocol", h->protocol);
	davit_json_put_string(&j, "alias", h->alias);
	davit_json_put_string(&j, "name", h->name);
	davit_json_put_string(&j, "path", h->path);
	davit_json_put_string(&j, "parent", h->parent);
	davit_json_put_string(&j, "args", h->args ? h->args : "");
	davit_json_put_int(&j, "heartbeat", h->heartbeat / MS);
	davit_json_put_int(&j, "keepalive", h->keepalive < 0 ? 0 : h->keepalive / MS);
	davit_json_put_int(&j, "window", h->window);
	davit_json_put_int(&j, "limit", 1 << 26);
	if (h->slots) {
		davit_json_key(&j, "rings");
		davit_json_open(&j);
		davit_json_put_int(&j, "slots", h->slots);
		davit_json_close(&j);
	}
	davit_json_close(&j);
}

int hello_read(const void *json, size_t size, struct hello *ret)
{
	int64_t protocol = 0, heartbeat = 250, keepalive = 0, window = 1024, slots = 0;
	json_t *j = load(json, size);
	bool ok;

	*ret = (struct hello){0};
	if (!j)
		return DAVIT_EPROTO;
	ok = number(j, "protocol", &protocol) && text(j, "alias", ret->alias, sizeof ret->alias, false) &&
	     text(j, "name", ret->name, sizeof ret->name, true) &&
	     text(j, "parent", ret->parent, sizeof ret->parent, true) &&
	     text(j, "path", ret->path, sizeof ret->path, false) && number(j, "heartbeat", &heartbeat) &&
	     number(j, "keepalive", &keepalive) && number(j, "window", &window) &&
	     number(json_object_get(j, "rings"), "slots", &slots);
	ret->protocol = (int)protocol;
	ret->heartbeat = heartbeat * MS;
	ret->keepalive = keepalive > 0 ? keepalive * MS : -1;
	ret->window = (uint32_t)window;
	ret->slots = (uint32_t)slots;
	if (ok && json_string_value(json_object_get(j, "args")))
		ret->args = strdup(json_string_value(json_object_get(j, "args")));
	json_decref(j);
	return ok && protocol >= 1 ? 0 : DAVIT_EPROTO;
}

void welcome_json(struct davit_buf *b, int protocol, bool rings)
{
	struct davit_json j = DAVIT_JSON_INIT(b);

	davit_json_open(&j);
	davit_json_put_int(&j, "protocol", protocol);
	davit_json_put_bool(&j, "rings", rings);
	davit_json_close(&j);
}

int welcome_read(const void *json, size_t size, int *ret_protocol, bool *ret_rings)
{
	json_t *j = load(json, size);
	int64_t protocol = 0;
	bool ok;

	*ret_rings = false;
	ok = j && number(j, "protocol", &protocol) && flag(j, "rings", ret_rings);
	*ret_protocol = (int)protocol;
	json_decref(j);
	return ok ? 0 : DAVIT_EPROTO;
}

int alias_read(const void *json, size_t size, char ret[64])
{
	json_t *j = load(json, size);
	bool ok = j && text(j, "alias", ret, 64, false);

	json_decref(j);
	return ok ? 0 : DAVIT_EPROTO;
}

/* --- OPERATE --- */

void operate_json(struct davit_buf *b, const char *what, bool fresh, int code, const char *message)
{
	struct davit_json j = DAVIT_JSON_INIT(b);

	davit_json_open(&j);
	davit_json_put_string(&j, "do", what);
	davit_json_put_bool(&j, "fresh", fresh);
	if (message) {
		davit_json_put_string(&j, "code", davit_error_word(code));
		davit_json_put_string(&j, "message", message);
	}
	davit_json_close(&j);
}

int operate_read(const void *json, size_t size, struct operate *ret)
{
	json_t *j = load(json, size);
	char word[32] = "";
	bool ok;

	*ret = (struct operate){0};
	ok = j && text(j, "do", ret->what, sizeof ret->what, false) && flag(j, "fresh", &ret->fresh) &&
	     text(j, "code", word, sizeof word, true) &&
	     text(j, "message", ret->text, sizeof ret->text, true);
	json_decref(j);
	if (*word)
		ret->code = davit_error_from_word(word);
	return ok ? 0 : DAVIT_EPROTO;
}

/* --- STATE --- */

static const char *const overflows[] = {[DAVIT_OVERFLOW_FAIL] = "fail",
					[DAVIT_OVERFLOW_BLOCK] = "block",
					[DAVIT_OVERFLOW_DROP_NEWEST] = "drop-newest",
					[DAVIT_OVERFLOW_DROP_OLDEST] = "drop-oldest"};
static const char *const policies[] = {[DAVIT_RESTART_ALWAYS] = "always",
				       [DAVIT_RESTART_ON_FAILURE] = "on-failure",
				       [DAVIT_RESTART_NEVER] = "never"};
static const char *const strategies[] = {[DAVIT_ONE_FOR_ONE] = "one-for-one",
					 [DAVIT_ONE_FOR_ALL] = "one-for-all",
					 [DAVIT_REST_FOR_ONE] = "rest-for-one",
					 [DAVIT_SIMPLE_ONE_FOR_ONE] = "simple-one-for-one"};

const char *davit_strategy_name(enum davit_strategy s)
{
	return (unsigned)s < DAVIT_ARRAY_SIZE(strategies) ? strategies[s] : "unknown";
}

enum davit_strategy strategy_from_name(const char *name)
{
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(strategies); i++)
		if (!strcmp(strategies[i], name))
			return (enum davit_strategy)i;
	return DAVIT_ONE_FOR_ONE;
}

static void put_real(struct davit_json *j, const char *key, double v)
{
	davit_json_key(j, key);
	davit_json_double(j, v);
}

static void backoff_json(struct davit_json *j, const struct davit_backoff *b)
{
	davit_json_key(j, "backoff");
	davit_json_open(j);
	put_real(j, "initial", (double)b->initial / (double)MS);
	put_real(j, "max", (double)b->max / (double)MS);
	put_real(j, "factor", b->factor);
	put_real(j, "jitter", b->jitter);
	put_real(j, "reset", (double)b->reset / (double)MS);
	davit_json_close(j);
}

static void options_json(struct davit_json *j, const struct davit_options *o)
{
	davit_json_key(j, "options");
	davit_json_open(j);
	davit_json_put_int(j, "limit", o->limit);
	davit_json_put_string(j, "overflow", overflows[o->overflow]);
	davit_json_put_int(j, "block_time", o->block_time / MS);
	davit_json_put_bool(j, "keep_nothing", o->keep_nothing);
	davit_json_put_bool(j, "significant", o->significant);
	if (o->set_restart) {
		davit_json_put_string(j, "restart",
				      (unsigned)o->restart < DAVIT_ARRAY_SIZE(policies) &&
						      policies[o->restart]
					      ? policies[o->restart]
					      : "always");
		davit_json_put_int(j, "retries", o->retries);
		backoff_json(j, &o->backoff);
	}
	if ((unsigned)o->strategy < DAVIT_ARRAY_SIZE(strategies) && strategies[o->strategy])
		davit_json_put_string(j, "strategy", strategies[o->strategy]);
	davit_json_put_int(j, "max_restarts", o->max_restarts);
	davit_json_put_int(j, "period", o->period / MS);
	davit_json_put_bool(j, "auto_shutdown", o->auto_shutdown);
	davit_json_put_bool(j, "isolate", o->isolate);
	davit_json_put_int(j, "shutdown_time", o->shutdown_time / MS);
	davit_json_put_int(j, "keepalive", o->keepalive < 0 ? -1 : o->keepalive / MS);
	davit_json_close(j);
}

void state_json(struct davit_buf *b, enum davit_state state, const char *message, uint64_t failure,
		const struct davit_options *options)
{
	struct davit_json j = DAVIT_JSON_INIT(b);
	char hash[20];

	davit_json_open(&j);
	davit_json_put_string(&j, "state", davit_state_name(state));
	if (message && *message)
		davit_json_put_string(&j, "message", message);
	if (failure) {
		snprintf(hash, sizeof hash, "%016llx", (unsigned long long)failure);
		davit_json_put_string(&j, "failure", hash);
	}
	if (options)
		options_json(&j, options);
	davit_json_close(&j);
}

/* One of a list of words, at its place. */
static bool word(const json_t *j, const char *key, const char *const *words, size_t n, int *ret)
{
	char given[32];

	if (!text(j, key, given, sizeof given, true))
		return false;
	for (size_t i = 0; *given && i < n; i++) {
		if (words[i] && !strcmp(words[i], given)) {
			*ret = (int)i;
			return true;
		}
	}
	return !*given;
}

static bool time_ms(const json_t *j, const char *key, int64_t *ns)
{
	int64_t ms = *ns < 0 ? -1 : *ns / MS;

	if (!number(j, key, &ms) || ms > INT64_MAX / MS)
		return false;
	*ns = ms < 0 ? -1 : ms * MS;
	return true;
}

static bool real(const json_t *j, const char *key, double *ret)
{
	const json_t *v = json_object_get(j, key);

	if (!v || json_is_null(v))
		return true;
	*ret = json_number_value(v);
	return json_is_number(v) && *ret >= 0;
}

/* A time that need not be a whole number. */
static bool real_ms(const json_t *j, const char *key, int64_t *ns)
{
	double ms = (double)*ns / (double)MS;

	if (!real(j, key, &ms) || ms > (double)(INT64_MAX / MS) / 2)
		return false;
	*ns = (int64_t)(ms * (double)MS);
	return true;
}

/* What is left out of one that is there is as the default. */
static bool backoff_read(const json_t *options, struct davit_backoff *ret)
{
	const json_t *j = json_object_get(options, "backoff");
	struct davit_backoff b = CONTAINER_BACKOFF;

	if (!j || json_is_null(j))
		return true;
	if (!json_is_object(j) || !real_ms(j, "initial", &b.initial) || !real_ms(j, "max", &b.max) ||
	    !real(j, "factor", &b.factor) || !real(j, "jitter", &b.jitter) || !real_ms(j, "reset", &b.reset))
		return false;
	*ret = b;
	return true;
}

static bool given(const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);

	return v && !json_is_null(v);
}

/* Any one of these says how it is restarted; what was set before stands but for what is said. */
static bool restart_read(const json_t *j, struct davit_options *o)
{
	int restart;

	if (!given(j, "restart") && !given(j, "retries") && !given(j, "backoff"))
		return true;
	if (!o->set_restart) {
		o->restart = DAVIT_RESTART_ALWAYS;
		o->backoff = (struct davit_backoff){0};
	}
	if (!o->set_restart || given(j, "restart"))
		o->retries = -1;
	o->set_restart = true;
	restart = (int)o->restart;
	if (!word(j, "restart", policies, DAVIT_ARRAY_SIZE(policies), &restart) ||
	    !number(j, "retries", &o->retries) || !backoff_read(j, &o->backoff))
		return false;
	o->restart = (enum davit_restart_policy)restart;
	return true;
}

static bool options_read(const json_t *j, struct davit_options *o)
{
	int64_t limit = o->limit;
	int overflow = (int)o->overflow, strategy = (int)o->strategy;
	bool ok = number(j, "limit", &limit) &&
		  word(j, "overflow", overflows, DAVIT_ARRAY_SIZE(overflows), &overflow) &&
		  time_ms(j, "block_time", &o->block_time) && flag(j, "keep_nothing", &o->keep_nothing) &&
		  flag(j, "significant", &o->significant) && restart_read(j, o) &&
		  word(j, "strategy", strategies, DAVIT_ARRAY_SIZE(strategies), &strategy) &&
		  number(j, "max_restarts", &o->max_restarts) && time_ms(j, "period", &o->period) &&
		  flag(j, "auto_shutdown", &o->auto_shutdown) && flag(j, "isolate", &o->isolate) &&
		  time_ms(j, "shutdown_time", &o->shutdown_time) && time_ms(j, "keepalive", &o->keepalive);

	if (!ok || limit < 0 || limit > UINT32_MAX || o->block_time < 0 || o->period < 0 ||
	    o->shutdown_time < 0)
		return false;
	o->limit = (uint32_t)limit;
	o->overflow = (enum davit_overflow)overflow;
	o->strategy = (enum davit_strategy)strategy;
	return true;
}

int state_read(const void *json, size_t size, struct said *ret, struct davit_options *options)
{
	json_t *j = load(json, size), *o;
	char name[16] = "", hash[20] = "";
	int state = -1;
	bool ok;

	*ret = (struct said){0};
	ok = j && text(j, "state", name, sizeof name, false) && (state = davit_state_from_name(name)) >= 0 &&
	     text(j, "message", ret->text, sizeof ret->text, true) &&
	     text(j, "failure", hash, sizeof hash, true);
	if (ok && (o = json_object_get(j, "options")) && !json_is_null(o)) {
		ret->has_options = true;
		ok = json_is_object(o) && options_read(o, options);
	}
	json_decref(j);
	ret->state = state < 0 ? DAVIT_STATE_DESTROYED : (enum davit_state)state;
	ret->failure = strtoull(hash, NULL, 16);
	return ok ? 0 : DAVIT_EPROTO;
}
