/* SPDX-License-Identifier: MIT
 *
 * What a spec must keep to beyond the types of its options.
 */
#include "core/spec_table.h"

#include "base/units.h"

#include <ctype.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_MAX (1 << 20) /* bytes of a volume of type config */
#define NAME_MAX_LEN 63
#define VERSION_MAX_LEN 128
#define PATTERN_MAX_LEN 256

int davit_spec_bad(struct davit_error *err, const char *path, const char *fmt, ...)
{
	char message[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	return davit_tree_error(err, 0, 0, path, "%s: %s", path, message);
}

/* ------------------------------------------------------------------------- names */

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	return true;
}

static bool has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return true;
	return false;
}

static int check_version(const char *s, struct davit_error *err)
{
	if (strlen(s) > VERSION_MAX_LEN)
		return davit_spec_bad(err, "version", "'%.32s...' is longer than %d characters", s,
				      VERSION_MAX_LEN);
	if (!is_printable(s))
		return davit_spec_bad(err, "version", "'%.64s' has a blank or a control character in it", s);
	return 0;
}

int davit_name_check(const char *what, const char *s, struct davit_error *err)
{
	if (!s || !*s)
		return davit_spec_bad(err, what, "must not be empty");
	if (!strcmp(what, "version"))
		return check_version(s, err);
	if (strlen(s) > NAME_MAX_LEN)
		return davit_spec_bad(err, what, "'%.32s...' is longer than %d characters", s, NAME_MAX_LEN);
	if (!is_alnum(*s))
		return davit_spec_bad(err, what, "'%.64s' must begin with a letter (a-z, A-Z) or a digit", s);
	for (const char *p = s; *p; p++)
		if (!is_alnum(*p) && !strchr("._-", *p))
			return davit_spec_bad(
				err, what,
				"'%.64s' may have only letters (a-z, A-Z), digits, '.', '_' and '-' in it",
				s);
	return 0;
}

int davit_service_ref_parse(const char *s, struct davit_service_ref *ret, struct davit_error *err)
{
	struct davit_service_ref ref = {0};
	const char *colon = strchr(s, ':'), *end = colon ? colon : s + strlen(s);
	const char *slash = memchr(s, '/', (size_t)(end - s)), *name = slash ? slash + 1 : s;
	int r = 0;

	/* One character more than allowed is kept, so that the check sees it. */
	snprintf(ref.namespace_, sizeof ref.namespace_, "%.*s", slash ? (int)(slash - s) : 0, s);
	snprintf(ref.name, sizeof ref.name, "%.*s", (int)(end - name), name);
	snprintf(ref.version, sizeof ref.version, "%s", colon ? colon + 1 : "");
	if (slash && slash - s > NAME_MAX_LEN)
		return davit_spec_bad(err, "namespace", "'%.32s...' is longer than %d characters", s,
				      NAME_MAX_LEN);
	if (end - name > NAME_MAX_LEN)
		return davit_spec_bad(err, "name", "'%.32s...' is longer than %d characters", name,
				      NAME_MAX_LEN);
	if (colon && strlen(colon + 1) > VERSION_MAX_LEN)
		return check_version(colon + 1, err);
	if (slash)
		r = davit_name_check("namespace", ref.namespace_, err);
	if (!r)
		r = davit_name_check("name", ref.name, err);
	if (!r && colon)
		r = davit_name_check("version", ref.version, err);
	if (!r)
		*ret = ref;
	return r;
}

static int check_env_name(const char *path, const char *s, struct davit_error *err)
{
	bool ok = is_alnum(*s) || *s == '_';

	if (*s >= '0' && *s <= '9')
		ok = false;
	for (const char *p = s; ok && *p; p++)
		ok = is_alnum(*p) || strchr("_.-", *p);
	return ok ? 0
		  : davit_spec_bad(
			    err, path,
			    "'%.64s' is not a name of a variable: a letter or '_', then letters, digits, "
			    "'_', '.' and '-'",
			    s);
}

/* ------------------------------------------------------------------------ the table */

/* What the parser has refused already, for specs that were changed since. */
static int check_ranges(const struct davit_spec *s, struct davit_error *err)
{
	for (size_t i = 0; i < davit_spec_n_rows; i++) {
		const struct davit_spec_row *row = &davit_spec_rows[i];
		int64_t v;

		if (row->type != DAVIT_TYPE_INT)
			continue;
		v = davit_spec_load(row, s);
		if (v < row->min || v > row->max)
			return davit_spec_bad(err, row->path,
					      "%" PRId64 " is out of range: %" PRId64 " to %" PRId64, v,
					      row->min, row->max);
	}
	return 0;
}

/* Texts of one line: paths, names, users end up in messages and labels. */
static int check_lines(const struct davit_spec *s, struct davit_error *err)
{
	for (size_t i = 0; i < davit_spec_n_rows; i++) {
		const struct davit_spec_row *row = &davit_spec_rows[i];
		const char *v;

		if (row->type != DAVIT_TYPE_STRING)
			continue;
		v = *(const char **)davit_spec_at(row, s);
		if (v && has_control(v))
			return davit_spec_bad(err, row->path, "'%.64s' has a control character in it", v);
	}
	return 0;
}

/* -------------------------------------------------------------------- the groups */

static int check_names(const struct davit_spec *s, struct davit_error *err)
{
	const struct {
		const char *path, *value;
	} names[] = {
		{"namespace", s->namespace_},  {"name", s->name},
		{"version", s->version},       {"type", s->type},
		{"runtime", s->runtime},       {"profile", s->profile},
		{"supervisor", s->supervisor},
	};
	int r;

	if (!s->name)
		return davit_spec_bad(err, "name", "a %s needs a name", davit_spec_kind_name(s->kind));
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++) {
		r = names[i].value ? davit_name_check(names[i].path, names[i].value, err) : 0;
		if (r)
			return r;
	}
	if (s->supervisor && s->kind == DAVIT_KIND_SUPERVISOR && !strcmp(s->supervisor, s->name))
		return davit_spec_bad(err, "supervisor", "'%s' cannot stand under itself", s->name);
	return 0;
}

static int check_words(const struct davit_spec *s, struct davit_error *err)
{
	const struct {
		const char *path, *value;
	} words[] = {
		{"image", s->image},
		{"user", s->user},
		{"serviceAccount", s->service_account},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(words); i++)
		if (words[i].value && !is_printable(words[i].value))
			return davit_spec_bad(err, words[i].path, "'%.64s' has a blank in it",
					      words[i].value);
	return 0;
}

static int check_program(const struct davit_spec *s, struct davit_error *err)
{
	if (!s->source && !s->image && !(s->command && *s->command))
		return davit_spec_bad(err, "source",
				      "a service needs at least one of source, image and command");
	if (s->command && *s->command && !**s->command)
		return davit_spec_bad(err, "command", "the name of the program is empty");
	if (s->entrypoint && *s->entrypoint && !**s->entrypoint)
		return davit_spec_bad(err, "entrypoint", "the name of the program is empty");
	if (s->entrypoint && !s->image)
		return davit_spec_bad(err, "entrypoint", "is for an image, and none is given");
	return 0;
}

static int check_pairs(const struct davit_spec *s, struct davit_error *err)
{
	char path[96];
	int r = 0;

	for (size_t i = 0; !r && i < s->n_env; i++) {
		snprintf(path, sizeof path, "env.%.80s", s->env[i].name);
		r = check_env_name(path, s->env[i].name, err);
	}
	for (size_t i = 0; !r && i < s->n_metadata; i++) {
		const char *name = s->metadata[i].name;
		snprintf(path, sizeof path, "metadata.%.80s", name);
		if (!*name || strlen(name) > 253 || !is_printable(name))
			r = davit_spec_bad(err, path,
					   "'%.64s' is not a name: 1 to 253 characters without blanks", name);
	}
	return r;
}

static int check_backoff(const struct davit_spec *s, struct davit_error *err)
{
	if (s->backoff.max < s->backoff.initial)
		return davit_spec_bad(err, "restart.backoff.max",
				      "must not be below restart.backoff.initial");
	return 0;
}

/* glibc expands x{1,255} into copies: nested, a short pattern costs gigabytes. */
static int check_pattern(const char *pattern, struct davit_error *err)
{
	const char *brace = strchr(pattern, '{'), *p;
	char why[128];
	regex_t re;
	int r;

	if (strlen(pattern) > PATTERN_MAX_LEN)
		return davit_spec_bad(err, "ready.pattern", "is longer than %d characters", PATTERN_MAX_LEN);
	if (brace && strchr(brace + 1, '{'))
		return davit_spec_bad(err, "ready.pattern", "may repeat with {n,m} only once");
	for (p = brace ? brace + 1 : ""; *p && *p != '}'; p++)
		if (isdigit((unsigned char)p[0]) && isdigit((unsigned char)p[1]) &&
		    isdigit((unsigned char)p[2]) && (atoi(p) > 255 || isdigit((unsigned char)p[3])))
			return davit_spec_bad(err, "ready.pattern",
					      "may repeat at most 255 times with {n,m}");
	r = regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB);
	if (r) {
		regerror(r, &re, why, sizeof why);
		return davit_spec_bad(err, "ready.pattern", "'%.64s' is not a regular expression: %s",
				      pattern, why);
	}
	regfree(&re);
	return 0;
}

static int check_ready(const struct davit_spec *s, struct davit_error *err)
{
	const struct davit_spec *d = davit_spec_defaults();

	if (s->ready != DAVIT_READY_TYPE_FD && s->ready_fd != d->ready_fd)
		return davit_spec_bad(err, "ready.fd", "is for ready.type fd only");
	if (s->ready != DAVIT_READY_TYPE_PORT && s->ready_port != d->ready_port)
		return davit_spec_bad(err, "ready.port", "is for ready.type port only");
	if (s->ready != DAVIT_READY_TYPE_LOG && s->ready_pattern)
		return davit_spec_bad(err, "ready.pattern", "is for ready.type log only");
	if (s->ready == DAVIT_READY_TYPE_LOG && !s->ready_pattern)
		return davit_spec_bad(err, "ready.type", "log needs ready.pattern");
	if (s->ready == DAVIT_READY_TYPE_PORT && !s->ready_port && !s->n_ports)
		return davit_spec_bad(err, "ready.type", "port needs ready.port or ports");
	return s->ready_pattern ? check_pattern(s->ready_pattern, err) : 0;
}

static int check_depends(const struct davit_spec *s, struct davit_error *err)
{
	char path[64];

	for (size_t i = 0; i < s->n_depends; i++) {
		struct davit_service_ref ref;
		int r = davit_service_ref_parse(s->depends[i].service, &ref, err);

		snprintf(path, sizeof path, "dependsOn[%zu]", i);
		if (r == DAVIT_EINVAL)
			return davit_spec_bad(err, path,
					      "'%.64s' is not NAME, NAME:VERSION or NAMESPACE/NAME:VERSION",
					      s->depends[i].service);
		if (r)
			return r;
		if ((!*ref.namespace_ || !strcmp(ref.namespace_, s->namespace_)) &&
		    !strcmp(ref.name, s->name) && (!*ref.version || !strcmp(ref.version, s->version)))
			return davit_spec_bad(err, path, "a service cannot depend on itself");
	}
	return 0;
}

/* Of a volume or a network. */
static bool is_object_name(const char *s)
{
	return davit_name_check("name", s, NULL) == 0;
}

static int check_ports(const struct davit_spec *s, struct davit_error *err)
{
	char path[64];

	for (size_t i = 0; i < s->n_ports; i++) {
		const struct davit_port *p = &s->ports[i];

		snprintf(path, sizeof path, "ports[%zu]", i);
		if (*p->bind && davit_spec_address(NULL, p->bind, &(const char *){NULL}, NULL) < 0)
			return davit_spec_bad(err, path, "'%s' is not an IP address", p->bind);
		if (has_control(p->name))
			return davit_spec_bad(err, path, "'%s' has a control character in it", p->name);
		for (size_t k = 0; k < i; k++)
			if (p->host && s->ports[k].host == p->host && s->ports[k].udp == p->udp &&
			    !strcmp(s->ports[k].bind, p->bind))
				return davit_spec_bad(err, path,
						      "port %u of the host is taken by ports[%zu] already",
						      p->host, k);
	}
	return 0;
}

static int check_config(const struct davit_volume *v, const char *path, struct davit_error *err)
{
	if (v->source)
		return davit_spec_bad(err, path, "a config has no source: give its content");
	if (!v->content)
		return davit_spec_bad(err, path, "the key 'content' is missing");
	if (strlen(v->content) > CONFIG_MAX)
		return davit_spec_bad(err, path, "the content is larger than 1Mi");
	if (!v->target)
		return davit_spec_bad(err, path, "the key 'target' is missing");
	if (*v->target == '/' ? has_control(v->target) : !is_object_name(v->target))
		return davit_spec_bad(err, path, "the target '%.64s' is neither an absolute path nor a name",
				      v->target);
	return 0;
}

static int check_volume(const struct davit_volume *v, const char *path, struct davit_error *err)
{
	if (v->type == DAVIT_MOUNT_TMPFS && v->source)
		return davit_spec_bad(err, path, "a tmpfs has no source");
	if (v->type != DAVIT_MOUNT_TMPFS && v->size)
		return davit_spec_bad(err, path, "size is for type tmpfs only");
	if (v->type == DAVIT_MOUNT_CONFIG)
		return check_config(v, path, err);
	if (v->content)
		return davit_spec_bad(err, path, "content is for type config only");
	if (v->type != DAVIT_MOUNT_TMPFS && !v->source)
		return davit_spec_bad(err, path, "the key 'source' is missing");
	if (!v->target)
		return davit_spec_bad(err, path, "the key 'target' is missing");
	if (v->type == DAVIT_MOUNT_VOLUME && !is_object_name(v->source))
		return davit_spec_bad(err, path,
				      "'%.64s' is not the name of a volume: a letter or digit, then letters, "
				      "digits, '.', '_' and '-', at most 63",
				      v->source);
	if (v->type == DAVIT_MOUNT_BIND && (*v->source != '/' || has_control(v->source)))
		return davit_spec_bad(err, path, "the source '%.64s' is not an absolute path", v->source);
	if (*v->target != '/' || has_control(v->target))
		return davit_spec_bad(err, path, "the target '%.64s' is not an absolute path", v->target);
	return 0;
}

static int check_volumes(const struct davit_spec *s, struct davit_error *err)
{
	char path[64];

	for (size_t i = 0; i < s->n_volumes; i++) {
		const struct davit_volume *v = &s->volumes[i];
		int r;

		snprintf(path, sizeof path, "volumes[%zu]", i);
		r = check_volume(v, path, err);
		if (r)
			return r;
		for (size_t k = 0; k < i; k++)
			if (!strcmp(s->volumes[k].target, v->target))
				return davit_spec_bad(err, path,
						      "'%.64s' is the target of volumes[%zu] already",
						      v->target, k);
	}
	return 0;
}

static int check_network(const struct davit_spec *s, struct davit_error *err)
{
	if (s->network && !is_object_name(s->network))
		return davit_spec_bad(err, "network",
				      "'%.64s' is not bridge, host, none or the name of a network",
				      s->network);
	if (s->dns && s->network && (!strcmp(s->network, "host") || !strcmp(s->network, "none")))
		return davit_spec_bad(err, "dns", "has no meaning with network %s", s->network);
	return 0;
}

static int check_secrets(const struct davit_spec *s, struct davit_error *err)
{
	char path[64];
	int r = 0;

	for (size_t i = 0; !r && i < s->n_secrets; i++) {
		const struct davit_secret_ref *ref = &s->secrets[i];

		snprintf(path, sizeof path, "secrets[%zu]", i);
		r = davit_name_check(path, ref->name, err);
		if (!r && ref->env)
			r = check_env_name(path, ref->env, err);
		for (size_t k = 0; !r && k < i; k++)
			if (ref->env ? s->secrets[k].env && !strcmp(s->secrets[k].env, ref->env)
				     : !s->secrets[k].env && !strcmp(s->secrets[k].name, ref->name))
				r = davit_spec_bad(err, path, "'%s' is given by secrets[%zu] already",
						   ref->env ? ref->env : ref->name, k);
	}
	return r;
}

static int check_logs(const struct davit_spec *s, struct davit_error *err)
{
	if (s->log.policy == DAVIT_LOG_DROP && !s->log.rate)
		return davit_spec_bad(err, "logs.policy", "drop needs logs.rate");
	if (s->log.policy != DAVIT_LOG_DROP && s->log.rate)
		return davit_spec_bad(err, "logs.rate", "is for logs.policy drop only");
	if (s->log.max_size && s->log.max_size < 4096)
		return davit_spec_bad(err, "logs.maxSize", "must be at least 4Ki");
	return 0;
}

static int check_supervisor(const struct davit_spec *s, struct davit_error *err)
{
	if (s->escalation != DAVIT_ESCALATE_RESTART && s->cooldown != davit_spec_defaults()->cooldown)
		return davit_spec_bad(err, "cooldown", "is for escalation restart only");
	return 0;
}

int davit_spec_check(const struct davit_spec *s, struct davit_error *err)
{
	static int (*const all[])(const struct davit_spec *, struct davit_error *) = {
		check_lines,
		check_names,
		check_ranges,
	};
	static int (*const of_services[])(const struct davit_spec *, struct davit_error *) = {
		check_program, check_words,   check_pairs,   check_backoff,
		check_ready,   check_depends, check_ports,   check_volumes,
		check_secrets, check_logs,    check_network, davit_spec_check_health,
	};
	int r = 0;

	for (size_t i = 0; !r && i < DAVIT_ARRAY_SIZE(all); i++)
		r = all[i](s, err);
	for (size_t i = 0; !r && s->kind == DAVIT_KIND_SERVICE && i < DAVIT_ARRAY_SIZE(of_services); i++)
		r = of_services[i](s, err);
	if (!r)
		r = davit_spec_check_egress(s, err);
	if (!r && s->kind != DAVIT_KIND_SERVICE)
		r = check_pairs(s, err);
	if (!r && s->kind == DAVIT_KIND_SUPERVISOR)
		r = check_supervisor(s, err);
	return r;
}
