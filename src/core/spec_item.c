/* SPDX-License-Identifier: MIT */
#include "core/spec_item.h"

#include "base/nearest.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ROW(s, p, t, m)                                                                                      \
	.path = (p), .type = DAVIT_TYPE_##t, .member = #m, .offset = offsetof(struct s, m),                  \
	.size = sizeof(((struct s *)0)->m)
#define ROWS(r) .rows = (r), .n_rows = DAVIT_ARRAY_SIZE(r)
#define MSEC DAVIT_NSEC_PER_MSEC
#define DAY (86400 * DAVIT_NSEC_PER_SEC)

static char *copy(struct davit_region *a, const char *s, size_t n)
{
	char *p = davit_region_take(a, n + 1);

	if (p) {
		memcpy(p, s, n);
		p[n] = '\0';
	}
	return p;
}

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* --------------------------------------------------------------- env, metadata */

static const struct davit_spec_row pair_rows[] = {
	{ROW(davit_pair, "name", STRING, name), .doc = "The name."},
	{ROW(davit_pair, "value", STRING, value), .empty = true, .doc = "The value; may be empty."},
};

static int pair_from_pair(const char *name, const char *text, void *item, struct davit_error *err)
{
	struct davit_pair *p = item;

	(void)err;
	p->name = (char *)name;
	p->value = (char *)text;
	return 0;
}

static int pair_from_text(struct davit_region *a, const char *text, void *item, struct davit_error *err)
{
	const char *eq = strchr(text, '=');
	char *name;

	if (!eq)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is not of the form NAME=value",
				       text);
	name = copy(a, text, (size_t)(eq - text));
	if (!name)
		return no_memory(err);
	return pair_from_pair(name, eq + 1, item, err);
}

static const char *pair_name(const void *item)
{
	return ((const struct davit_pair *)item)->name;
}

static const char *pair_text(const void *item, char buf[64])
{
	(void)buf;
	return ((const struct davit_pair *)item)->value;
}

#define PAIRS                                                                                                \
	.type = "map", .size = sizeof(struct davit_pair), ROWS(pair_rows), .from_text = pair_from_text,      \
	.from_pair = pair_from_pair, .pair_name = pair_name, .pair_text = pair_text

const struct davit_spec_item davit_spec_item_env = {PAIRS};
const struct davit_spec_item davit_spec_item_metadata = {PAIRS};

/* ------------------------------------------------------------------ resource limits */

static int limit_value(const char *text, size_t n, uint64_t *ret)
{
	char buf[32];
	int64_t v;

	if (n >= sizeof buf)
		return -1;
	memcpy(buf, text, n);
	buf[n] = '\0';
	if (!strcmp(buf, "unlimited")) {
		*ret = UINT64_MAX;
		return 0;
	}
	if (davit_int_parse(buf, 0, INT64_MAX, &v, NULL))
		return -1;
	*ret = (uint64_t)v;
	return 0;
}

static int limit_from_pair(const char *name, const char *text, void *item, struct davit_error *err)
{
	const char *colon = strchr(text, ':'), *near;
	struct davit_rlimit *l = item;
	size_t soft = colon ? (size_t)(colon - text) : strlen(text);

	l->resource = -1;
	for (size_t i = 0; i < DAVIT_RLIMITS; i++)
		if (!strcmp(name, davit_rlimit_names[i]))
			l->resource = (int)i;
	if (l->resource < 0) {
		near = davit_nearest(name, davit_rlimit_names, DAVIT_RLIMITS);
		return davit_error_set(err, DAVIT_EINVAL, NULL, "unknown limit '%.64s'%s%s%s", name,
				       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	}
	if (limit_value(text, soft, &l->soft) < 0 ||
	    limit_value(colon ? colon + 1 : text, colon ? strlen(colon + 1) : soft, &l->hard) < 0)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "'%.64s' is not a limit such as 1024, 1024:4096 or unlimited", text);
	if (l->soft > l->hard)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "the soft limit of '%.64s' is above the hard one", text);
	return 0;
}

static int limit_from_text(struct davit_region *a, const char *text, void *item, struct davit_error *err)
{
	struct davit_pair p;
	int r = pair_from_text(a, text, &p, err);

	return r ? r : limit_from_pair(p.name, p.value, item, err);
}

static const char *limit_name(const void *item)
{
	return davit_rlimit_names[((const struct davit_rlimit *)item)->resource];
}

static int limit_print(char *buf, size_t size, uint64_t v)
{
	return v == UINT64_MAX ? snprintf(buf, size, "unlimited") : snprintf(buf, size, "%" PRIu64, v);
}

static const char *limit_text(const void *item, char buf[64])
{
	const struct davit_rlimit *l = item;
	int n = limit_print(buf, 64, l->soft);

	if (l->hard != l->soft) {
		buf[n++] = ':';
		limit_print(buf + n, 64 - (size_t)n, l->hard);
	}
	return buf;
}

const struct davit_spec_item davit_spec_item_rlimit = {
	.type = "map",
	.size = sizeof(struct davit_rlimit),
	.from_text = limit_from_text,
	.from_pair = limit_from_pair,
	.pair_name = limit_name,
	.pair_text = limit_text,
};

/* --------------------------------------------------------------------- dependencies */

static const struct davit_spec_row dependency_rows[] = {
	{ROW(davit_dependency, "service", STRING, service),
	 .doc = "NAME, NAME:VERSION or NAMESPACE/NAME:VERSION."},
	{ROW(davit_dependency, "condition", ENUM, condition), .values = "started|ready|completed",
	 .deflt = "ready", .doc = "How far it must be."},
};

static int dependency_from_text(struct davit_region *a, const char *text, void *item, struct davit_error *err)
{
	(void)a;
	return davit_spec_read_scalar(&dependency_rows[0], text, item, err);
}

const struct davit_spec_item davit_spec_item_dependency = {
	.type = "list of services",
	.size = sizeof(struct davit_dependency),
	ROWS(dependency_rows),
	.from_text = dependency_from_text,
};

/* ---------------------------------------------------------------------------- ports */

static const struct davit_spec_row port_rows[] = {
	{ROW(davit_port, "name", CHARS, name), .doc = "A name for people."},
	{ROW(davit_port, "container", INT, container), .max = 65535, .deflt = "0",
	 .doc = "Port that it listens on; 0: the same as on the host."},
	{ROW(davit_port, "host", INT, host), .max = 65535, .deflt = "0",
	 .doc = "Port on the host; 0: a free one is chosen."},
	{ROW(davit_port, "bind", CHARS, bind), .doc = "Address on the host; 127.0.0.1 when not given."},
	{ROW(davit_port, "protocol", ENUM, udp), .values = "tcp|udp", .deflt = "tcp", .doc = "The protocol."},
};

/* Takes what stands before the last ':' of [text, *end) off: returns the port
 * behind it, or -1. */
static int last_port(const char *text, const char **end)
{
	const char *from = *end;
	char buf[8];
	int64_t v;

	while (from > text && from[-1] != ':')
		from--;
	if ((size_t)(*end - from) >= sizeof buf)
		return -1;
	memcpy(buf, from, (size_t)(*end - from));
	buf[*end - from] = '\0';
	if (davit_int_parse(buf, 0, 65535, &v, NULL))
		return -1;
	*end = from > text ? from - 1 : text;
	return (int)v;
}

/* [[BIND:]HOST:]CONTAINER[/tcp|/udp] or PORT; BIND with ':' inside in []. */
static int port_from_text(struct davit_region *a, const char *text, void *item, struct davit_error *err)
{
	const char *slash = strchr(text, '/'), *end = slash ? slash : text + strlen(text);
	struct davit_port *p = item;
	const char *from = text;
	int container, host;

	(void)a;
	if (*text == ':' || (slash && strcmp(slash, "/tcp") != 0 && strcmp(slash, "/udp") != 0))
		goto bad;
	p->udp = slash && !strcmp(slash, "/udp");
	container = host = last_port(from, &end);
	if (end > from)
		host = last_port(from, &end);
	if (container < 0 || host < 0)
		goto bad;
	if (end > from) {
		if (*from == '[' && end[-1] == ']') {
			from++;
			end--;
		} else if (memchr(from, ':', (size_t)(end - from))) {
			goto bad;
		}
		if (end == from || (size_t)(end - from) >= sizeof p->bind)
			goto bad;
		memcpy(p->bind, from, (size_t)(end - from));
	}
	p->container = (uint16_t)container;
	p->host = (uint16_t)host;
	return 0;
bad:
	return davit_error_set(err, DAVIT_EINVAL, NULL,
			       "'%.64s' is not a port such as 8080, 8080:80/udp or 127.0.0.1:8080:80", text);
}

const struct davit_spec_item davit_spec_item_port = {
	.type = "list of ports",
	.size = sizeof(struct davit_port),
	ROWS(port_rows),
	.from_text = port_from_text,
};

/* -------------------------------------------------------------------------- volumes */

static const struct davit_spec_row volume_rows[] = {
	{ROW(davit_volume, "source", STRING, source),
	 .doc = "Absolute path on the host, or the name of a volume; of a tmpfs and a config nothing."},
	{ROW(davit_volume, "target", STRING, target),
	 .doc = "Absolute path inside; of a config also a name: it is then `$CONFIG_DIRECTORY/NAME`, on "
		"every runtime "
		"that has host directories."},
	{ROW(davit_volume, "content", STRING, content), .empty = true,
	 .doc = "Of a config: its text, at most 1Mi."},
	{ROW(davit_volume, "readOnly", BOOL, read_only), .doc = "It cannot be written to."},
	{ROW(davit_volume, "type", ENUM, type), .values = "bind|volume|tmpfs|config", .deflt = "bind",
	 .doc = "A path of the host, a volume that is made on first use, a file system in memory, or a file "
		"with the text of "
		"`content`, which cannot be written to."},
	{ROW(davit_volume, "size", SIZE, size),
	 .doc = "Of a tmpfs: its limit; the platform's when not given."},
};

/* SOURCE:TARGET[:ro|:rw], or one path that is both. A source without a slash is the
 * name of a volume. */
static int volume_from_text(struct davit_region *a, const char *text, void *item, struct davit_error *err)
{
	const char *colon = strchr(text, ':'), *target = colon ? colon + 1 : text;
	const char *mode = strchr(target, ':');
	struct davit_volume *v = item;

	if (!colon)
		mode = NULL;
	if (!*target || colon == text || mode == target ||
	    (mode && strcmp(mode, ":ro") != 0 && strcmp(mode, ":rw") != 0))
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "'%.64s' is not of the form /source:/target, name:/target or "
				       "/source:/target:ro",
				       text);
	v->read_only = mode && !strcmp(mode, ":ro");
	v->source = colon ? copy(a, text, (size_t)(colon - text)) : (char *)text;
	v->target = mode ? copy(a, target, (size_t)(mode - target)) : (char *)target;
	if (colon && v->source && !strchr(v->source, '/'))
		v->type = DAVIT_MOUNT_VOLUME;
	return v->source && v->target ? 0 : no_memory(err);
}

const struct davit_spec_item davit_spec_item_volume = {
	.type = "list of volumes",
	.size = sizeof(struct davit_volume),
	.any_first = true,
	ROWS(volume_rows),
	.from_text = volume_from_text,
};

/* --------------------------------------------------------------------------- health */

static const struct davit_spec_row health_rows[] = {
	{ROW(davit_health_check, "type", ENUM, type), .values = "http|tcp|command|file|https",
	 .deflt = "http", .doc = "What is tried."},
	{ROW(davit_health_check, "role", ENUM, role), .values = "liveness|readiness|startup",
	 .deflt = "liveness",
	 .doc = "What follows: failing is a failure of the instance, it is not ready, or the other checks "
		"wait "
		"until this one has passed."},
	{ROW(davit_health_check, "name", STRING, name), .doc = "A name for people; the type when not given."},
	{ROW(davit_health_check, "command", STRINGS, command),
	 .doc = "Of type command: what is run inside; exit status 0 is well."},
	{ROW(davit_health_check, "path", STRING, path),
	 .doc = "Of types http and https: what is asked for; `/` when not given."},
	{ROW(davit_health_check, "file", STRING, file),
	 .doc = "Of type file: absolute path of what must be there."},
	{ROW(davit_health_check, "host", STRING, host),
	 .doc = "Of types http and https: the Host header; address and port when not given. By https the "
		"certificate must be made out to it."},
	{ROW(davit_health_check, "ca", STRING, ca),
	 .doc = "Of type https: PEM file on this host of the authorities that may have signed the "
		"certificate; "
		"the system's when not given."},
	{ROW(davit_health_check, "insecure", BOOL, insecure),
	 .doc = "Of type https: the certificate is not verified."},
	{ROW(davit_health_check, "port", INT, port), .max = 65535, .deflt = "0",
	 .doc = "Of types http, https and tcp: the port that it listens on; 0 is the first of `ports`."},
	{ROW(davit_health_check, "status", INT, status), .max = 599, .deflt = "0",
	 .doc = "Of types http and https: the status that is well; 0 is any of 200 to 399."},
	{ROW(davit_health_check, "interval", DURATION, interval), .min = MSEC, .max = DAY, .deflt = "10s",
	 .doc = "Time between two tries."},
	{ROW(davit_health_check, "timeout", DURATION, timeout), .min = MSEC, .max = DAY, .deflt = "2s",
	 .doc = "A try that takes longer has failed; a command is killed with its whole group."},
	{ROW(davit_health_check, "retries", INT, retries), .min = 1, .max = 1000, .deflt = "3",
	 .doc = "So many failures in a row, and the check fails."},
	{ROW(davit_health_check, "startPeriod", DURATION, start_period), .max = DAY, .deflt = "0s",
	 .doc = "Time after the start in which failures mean nothing, until it has passed once."},
	{ROW(davit_health_check, "fastInterval", DURATION, fast_interval), .min = MSEC, .max = DAY,
	 .deflt = "1s", .doc = "Time between two tries until it has passed once; at most `interval`."},
};

/* TYPE, or TYPE:WHAT: "http:8080/healthz", "https:/healthz", "tcp:5432", "file:/run/up". */
static int health_from_text(struct davit_region *a, const char *text, void *item, struct davit_error *err)
{
	const char *colon = strchr(text, ':'), *what = colon ? colon + 1 : "";
	size_t kind = colon ? (size_t)(colon - text) : strlen(text), digits = strspn(what, "0123456789");
	struct davit_health_check *h = item;
	char *port;
	int r = 0;

	if ((kind == 4 || kind == 5) && !strncmp(text, "https", kind) &&
	    (!what[digits] || what[digits] == '/')) {
		h->type = kind == 5 ? DAVIT_HEALTH_HTTPS : DAVIT_HEALTH_HTTP;
		h->path = what[digits] ? (char *)what + digits : NULL;
	} else if (kind == 3 && !strncmp(text, "tcp", 3) && !what[digits]) {
		h->type = DAVIT_HEALTH_TCP;
	} else if (kind == 4 && !strncmp(text, "file", 4) && *what == '/') {
		h->type = DAVIT_HEALTH_FILE;
		h->file = (char *)what;
		return 0;
	} else {
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "'%.64s' is not a check such as http:8080/healthz, tcp:5432 or "
				       "file:/run/up",
				       text);
	}
	if (digits) {
		port = copy(a, what, digits);
		r = port ? davit_int_parse(port, 1, 65535, &h->port, err) : no_memory(err);
	}
	return r;
}

const struct davit_spec_item davit_spec_item_health = {
	.type = "list of checks",
	.size = sizeof(struct davit_health_check),
	ROWS(health_rows),
	.from_text = health_from_text,
};

/* -------------------------------------------------------------------------- secrets */

static const struct davit_spec_row secret_rows[] = {
	{ROW(davit_secret_ref, "name", STRING, name), .doc = "Name of the secret."},
	{ROW(davit_secret_ref, "env", STRING, env),
	 .doc = "Variable that holds it; when not given it is the file $CREDENTIALS_DIRECTORY/NAME."},
};

static int secret_from_text(struct davit_region *a, const char *text, void *item, struct davit_error *err)
{
	(void)a;
	return davit_spec_read_scalar(&secret_rows[0], text, item, err);
}

const struct davit_spec_item davit_spec_item_secret = {
	.type = "list of secrets",
	.size = sizeof(struct davit_secret_ref),
	ROWS(secret_rows),
	.from_text = secret_from_text,
};
