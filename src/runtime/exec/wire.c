/* SPDX-License-Identifier: MIT */
#include "runtime/exec/wire.h"

#include "base/units.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* --- writing --- */

static void put_base64(struct davit_json *j, const char *data, size_t n)
{
	size_t cap = sodium_base64_ENCODED_LEN(n, sodium_base64_VARIANT_ORIGINAL);
	DAVIT_AUTO_FREE char *text = malloc(cap);

	if (!text) {
		j->out->oom = true;
		return;
	}
	sodium_bin2base64(text, cap, (const unsigned char *)data, n, sodium_base64_VARIANT_ORIGINAL);
	davit_json_open(j);
	davit_json_put_string(j, "base64", text);
	davit_json_close(j);
}

static void put_value(struct davit_json *j, const char *data, size_t n)
{
	json_t *text;

	if (!data) {
		davit_json_null(j);
		return;
	}
	/* jansson knows what UTF-8 is, and a NUL is better not in a text. */
	text = memchr(data, '\0', n) ? NULL : json_stringn(data, n);
	if (text)
		davit_json_stringn(j, data, n);
	else
		put_base64(j, data, n);
	json_decref(text);
}

void wire_put_bytes(struct davit_json *j, const char *key, const char *data, size_t n)
{
	davit_json_key(j, key);
	put_value(j, data, n);
}

static void put_string(struct davit_json *j, const char *key, const char *s)
{
	wire_put_bytes(j, key, s, s ? strlen(s) : 0);
}

void wire_put_strv(struct davit_json *j, const char *key, char *const *v)
{
	davit_json_key(j, key);
	davit_json_open_array(j);
	for (size_t i = 0; v && v[i]; i++)
		put_value(j, v[i], strlen(v[i]));
	davit_json_close_array(j);
}

static void put_ports(struct davit_json *j, const struct davit_workload *w)
{
	davit_json_key(j, "ports");
	davit_json_open_array(j);
	for (size_t i = 0; i < w->n_ports; i++) {
		davit_json_open(j);
		davit_json_put_string(j, "name", w->ports[i].name);
		davit_json_put_int(j, "container", w->ports[i].container);
		davit_json_put_int(j, "host", w->ports[i].host);
		davit_json_put_string(j, "bind", *w->ports[i].bind ? w->ports[i].bind : "127.0.0.1");
		davit_json_put_bool(j, "udp", w->ports[i].udp);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

/* An unlimited one is null. */
static void put_limit(struct davit_json *j, const char *key, uint64_t v)
{
	davit_json_key(j, key);
	if (v > INT64_MAX)
		davit_json_null(j);
	else
		davit_json_int(j, (int64_t)v);
}

static void put_rlimits(struct davit_json *j, const struct davit_workload *w)
{
	davit_json_key(j, "rlimits");
	davit_json_open_array(j);
	for (size_t i = 0; i < w->n_rlimits; i++) {
		davit_json_open(j);
		davit_json_put_int(j, "resource", w->rlimits[i].resource);
		put_limit(j, "soft", w->rlimits[i].soft);
		put_limit(j, "hard", w->rlimits[i].hard);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

static void put_mounts(struct davit_json *j, const struct davit_workload *w)
{
	davit_json_key(j, "mounts");
	davit_json_open_array(j);
	for (size_t i = 0; i < w->n_mounts; i++) {
		davit_json_open(j);
		put_string(j, "source", w->mounts[i].source);
		put_string(j, "target", w->mounts[i].target);
		davit_json_put_bool(j, "read_only", w->mounts[i].read_only);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

static void put_egress(struct davit_json *j, const struct davit_workload *w)
{
	davit_json_key(j, "egress");
	davit_json_open_array(j);
	for (size_t i = 0; i < w->n_egress; i++) {
		davit_json_open(j);
		put_string(j, "from", w->egress[i].from);
		wire_put_strv(j, "hosts", w->egress[i].hosts);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

void wire_put_workload(struct davit_json *j, const char *key, const struct davit_workload *w)
{
	static const char *const ready[] = {
		[DAVIT_READY_NONE] = "none", [DAVIT_READY_NOTIFY] = "notify", [DAVIT_READY_FD] = "fd"};

	davit_json_key(j, key);
	davit_json_open(j);
	davit_json_put_string(j, "id", w->id);
	put_string(j, "namespace", w->namespace_);
	put_string(j, "name", w->name);
	put_string(j, "version", w->version);
	davit_json_put_int(j, "index", w->index);
	put_string(j, "label", w->label);
	wire_put_strv(j, "argv", w->argv);
	wire_put_strv(j, "env", w->env);
	put_string(j, "directory", w->directory);
	put_string(j, "user", w->user);
	put_string(j, "image", w->image);
	put_string(j, "service_account", w->service_account);
	davit_json_put_int(j, "cpu_millicores", w->cpu_millicores);
	davit_json_put_int(j, "memory", (int64_t)w->memory);
	davit_json_put_int(j, "disk", (int64_t)w->disk);
	davit_json_put_int(j, "pids", w->pids);
	put_rlimits(j, w);
	put_ports(j, w);
	put_mounts(j, w);
	put_egress(j, w);
	put_string(j, "secrets_directory", w->secrets_directory);
	davit_json_key(j, "log");
	davit_json_open(j);
	davit_json_put_int(j, "max_size", (int64_t)w->log.max_size);
	davit_json_put_int(j, "max_files", w->log.max_files);
	davit_json_put_string(j, "policy", w->log.policy == DAVIT_LOG_DROP ? "drop" : "block");
	davit_json_put_int(j, "rate", (int64_t)w->log.rate);
	davit_json_close(j);
	davit_json_put_string(j, "ready", ready[w->ready]);
	davit_json_put_int(j, "ready_fd", w->ready_fd);
	davit_json_put_int(j, "umask", w->umask);
	davit_json_put_bool(j, "no_new_privileges", w->no_new_privileges);
	davit_json_close(j);
}

/* --- reading --- */

static const json_t *field(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_null(v) ? NULL : v;
}

static int wrong(struct davit_error *err, const char *key, const char *must)
{
	return davit_error_set(err, DAVIT_EPROTO, key, "the field '%s' must be %s", key, must);
}

int wire_get_string(const json_t *o, const char *key, const char **ret, struct davit_error *err)
{
	const json_t *v = field(o, key);

	if (v && !json_is_string(v))
		return wrong(err, key, "a string");
	*ret = v ? json_string_value(v) : "";
	return 0;
}

int wire_get_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *ret,
		 struct davit_error *err)
{
	const json_t *v = field(o, key);
	int64_t n = v ? json_integer_value(v) : 0;

	if (v && (!json_is_integer(v) || n < min || n > max))
		return davit_error_set(err, DAVIT_EPROTO, key,
				       "the field '%s' must be a whole number from %lld to %lld", key,
				       (long long)min, (long long)max);
	*ret = n;
	return 0;
}

static int wire_get_bool(const json_t *o, const char *key, bool *ret, struct davit_error *err)
{
	const json_t *v = field(o, key);

	if (v && !json_is_boolean(v))
		return wrong(err, key, "true or false");
	*ret = json_is_true(v);
	return 0;
}

int wire_get_time(const json_t *o, const char *key, int64_t *ret, struct davit_error *err)
{
	const char *text;
	int64_t t = 0;
	int r = wire_get_string(o, key, &text, err);

	if (r == 0 && *text && davit_time_parse(text, &t, NULL) < 0)
		r = wrong(err, key, "a time as 2026-01-02T03:04:05.678Z");
	if (r == 0)
		*ret = t;
	return r;
}

static int get_base64(const char *key, const json_t *v, struct davit_buf *out, struct davit_error *err)
{
	size_t n = json_string_length(v);
	size_t max = n / 4 * 3 + 3, got;

	if (davit_buf_reserve(out, max) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (sodium_base642bin((unsigned char *)out->data + out->len, max, json_string_value(v), n, NULL, &got,
			      NULL, sodium_base64_VARIANT_ORIGINAL) < 0)
		return wrong(err, key, "text, or {\"base64\": text}");
	out->len += got;
	out->data[out->len] = '\0';
	return 0;
}

int wire_get_bytes(const json_t *o, const char *key, struct davit_buf *out, struct davit_error *err)
{
	const json_t *v = field(o, key);
	const json_t *b = json_object_get(v, "base64");

	if (!v)
		return 0;
	if (json_is_string(b))
		return get_base64(key, b, out, err);
	if (!json_is_string(v))
		return wrong(err, key, "text, or {\"base64\": text}");
	davit_buf_add(out, json_string_value(v), json_string_length(v));
	return out->oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

int wire_get_stream(const json_t *o, enum davit_stream *ret, struct davit_error *err)
{
	const char *name;
	int r = wire_get_string(o, "stream", &name, err);

	if (r < 0)
		return r;
	if (strcmp(name, "stdout") && strcmp(name, "stderr"))
		return wrong(err, "stream", "\"stdout\" or \"stderr\"");
	*ret = !strcmp(name, "stderr") ? DAVIT_STDERR : DAVIT_STDOUT;
	return 0;
}

static int get_exit_kind(const json_t *o, enum davit_exit_kind *ret, struct davit_error *err)
{
	const char *name;
	int r = wire_get_string(o, "kind", &name, err);

	if (r < 0)
		return r;
	for (int k = DAVIT_EXIT_CODE; k <= DAVIT_EXIT_UNKNOWN; k++)
		if (!strcmp(name, davit_exit_kind_name(k))) {
			*ret = k;
			return 0;
		}
	return wrong(err, "exit.kind", "code, signal, oom, exec or unknown");
}

int wire_get_exit(const json_t *o, const char *key, struct davit_exit *ret, struct davit_error *err)
{
	const json_t *v = field(o, key);
	struct davit_exit e = {0};
	int64_t code = 0, signo = 0;
	const char *reason = "";
	int r;

	if (!v)
		return 0;
	if (!json_is_object(v))
		return wrong(err, key, "an object");
	r = get_exit_kind(v, &e.kind, err);
	if (r == 0)
		r = wire_get_int(v, "code", INT32_MIN, INT32_MAX, &code, err);
	if (r == 0)
		r = wire_get_int(v, "signal", 0, 128, &signo, err);
	if (r == 0)
		r = wire_get_bool(v, "core_dumped", &e.core_dumped, err);
	if (r == 0)
		r = wire_get_time(v, "time", &e.time, err);
	if (r == 0)
		r = wire_get_string(v, "reason", &reason, err);
	if (r < 0)
		return r;
	e.code = (int)code;
	e.signal = (int)signo;
	snprintf(e.reason, sizeof e.reason, "%s", reason);
	*ret = e;
	return 0;
}

int wire_get_inspection(const json_t *o, struct davit_inspection *ret, struct davit_error *err)
{
	struct davit_inspection now = {0};
	const char *state = "", *status = "";
	int64_t run = 0, pid = 0;
	int r = wire_get_string(o, "state", &state, err);

	if (r < 0)
		return r;
	int s = davit_state_from_name(state);
	if (s < 0 || s == DAVIT_STATE_FAILED)
		return wrong(err, "state", "created, started, stopped or destroyed");
	now.state = s;
	r = wire_get_int(o, "run", 0, UINT32_MAX, &run, err);
	if (r == 0)
		r = wire_get_int(o, "pid", 0, INT32_MAX, &pid, err);
	if (r == 0)
		r = wire_get_bool(o, "ready", &now.ready, err);
	if (r == 0)
		r = wire_get_time(o, "started", &now.started, err);
	if (r == 0)
		r = wire_get_exit(o, "exit", &now.exit, err);
	if (r == 0)
		r = wire_get_string(o, "status", &status, err);
	if (r == 0 && now.state == DAVIT_STATE_STOPPED && now.exit.kind == DAVIT_EXIT_NONE)
		r = wrong(err, "exit", "there for a stopped instance");
	if (r == 0 && now.state != DAVIT_STATE_CREATED && now.state != DAVIT_STATE_DESTROYED && run == 0)
		r = wrong(err, "run", "1 or more for an instance that was started");
	if (r < 0)
		return r;
	now.run = (uint32_t)run;
	now.pid = (pid_t)pid;
	snprintf(now.status, sizeof now.status, "%s", status);
	*ret = now;
	return 0;
}

int wire_get_stats(const json_t *o, struct davit_stats *ret, struct davit_error *err)
{
	int64_t processes = 0;
	struct davit_stats s = {.net_rx_bytes = -1, .net_tx_bytes = -1};
	const struct {
		const char *key;
		uint64_t *to;
	} fields[] = {{"cpu_ns", &s.cpu_ns},	       {"memory", &s.memory},
		      {"memory_peak", &s.memory_peak}, {"memory_limit", &s.memory_limit},
		      {"read_bytes", &s.read_bytes},   {"write_bytes", &s.write_bytes}};
	int r = wire_get_int(o, "processes", 0, UINT32_MAX, &processes, err);

	for (size_t i = 0; r == 0 && i < DAVIT_ARRAY_SIZE(fields); i++) {
		int64_t v = 0;
		r = wire_get_int(o, fields[i].key, 0, INT64_MAX, &v, err);
		*fields[i].to = (uint64_t)v;
	}
	if (r == 0 && json_object_get(o, "net_rx_bytes"))
		r = wire_get_int(o, "net_rx_bytes", 0, INT64_MAX, &s.net_rx_bytes, err);
	if (r == 0 && json_object_get(o, "net_tx_bytes"))
		r = wire_get_int(o, "net_tx_bytes", 0, INT64_MAX, &s.net_tx_bytes, err);
	if (r < 0)
		return r;
	s.processes = (uint32_t)processes;
	*ret = s;
	return 0;
}

void wire_get_error(const json_t *o, struct davit_error *ret)
{
	const char *word = json_string_value(json_object_get(o, "code"));
	const char *message = json_string_value(json_object_get(o, "message"));

	davit_error_set(ret, davit_error_from_word(word ? word : ""), NULL, "%s",
			message ? message : "the runtime's program gave no reason");
}

int wire_get_capabilities(const json_t *o, struct davit_capabilities *ret, struct davit_error *err)
{
	const json_t *caps = field(o, "capabilities");

	if (caps && !json_is_object(caps))
		return wrong(err, "capabilities", "an object");
	for (int c = 0; c < DAVIT_CAP_COUNT; c++) {
		const char *name = davit_capability_name(c);
		const json_t *v = field(caps, name);
		const char *why = json_is_string(v) ? json_string_value(v) : "its program does not offer it";
		if (v && !json_is_boolean(v) && !(json_is_string(v) && *why))
			return wrong(err, name, "true, false, or why not");
		snprintf(ret->why_not[c], sizeof ret->why_not[c], "%s", json_is_true(v) ? "" : why);
	}
	return 0;
}
