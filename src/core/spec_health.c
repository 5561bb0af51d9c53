/* SPDX-License-Identifier: MIT
 *
 * What a spec's health checks must keep to beyond the types of their keys.
 */
#include "core/spec_table.h"

#include "base/units.h"

#include <stdio.h>
#include <string.h>

#define HTTPS_OR_NOT (1 << DAVIT_HEALTH_HTTP | 1 << DAVIT_HEALTH_HTTPS)

/* A key that is for other types. */
static int check_keys(const struct davit_health_check *h, const char *path, struct davit_error *err)
{
	const struct {
		bool given;
		const char *key;
		unsigned types; /* bit set of 1 << enum davit_health_type */
	} keys[] = {
		{h->command != NULL, "command", 1 << DAVIT_HEALTH_COMMAND},
		{h->path != NULL, "path", HTTPS_OR_NOT},
		{h->file != NULL, "file", 1 << DAVIT_HEALTH_FILE},
		{h->host != NULL, "host", HTTPS_OR_NOT},
		{h->port != 0, "port", HTTPS_OR_NOT | 1 << DAVIT_HEALTH_TCP},
		{h->status != 0, "status", HTTPS_OR_NOT},
		{h->ca != NULL, "ca", 1 << DAVIT_HEALTH_HTTPS},
		{h->insecure, "insecure", 1 << DAVIT_HEALTH_HTTPS},
	};
	static const char *const types[] = {"http", "tcp", "command", "file", "https"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(keys); i++)
		if (keys[i].given && !(keys[i].types & 1u << h->type))
			return davit_spec_bad(err, path, "%s has no meaning with type %s", keys[i].key,
					      types[h->type]);
	return 0;
}

static bool is_printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	return true;
}

static const struct davit_port *port_of(const struct davit_spec *s, int64_t port)
{
	for (size_t i = 0; i < s->n_ports; i++)
		if (port ? s->ports[i].container == port : i == 0)
			return &s->ports[i];
	return NULL;
}

/* Beneath a directory of this host? */
static bool is_mounted(const struct davit_spec *s, const char *file)
{
	for (size_t i = 0; i < s->n_volumes; i++) {
		const struct davit_volume *v = &s->volumes[i];
		size_t n = v->target ? strlen(v->target) : 0;
		if (v->type == DAVIT_MOUNT_BIND && n && !strncmp(file, v->target, n) &&
		    (file[n] == '/' || !file[n]))
			return true;
	}
	return false;
}

static int check_what(const struct davit_spec *s, const struct davit_health_check *h, const char *path,
		      struct davit_error *err)
{
	bool network = h->type != DAVIT_HEALTH_COMMAND && h->type != DAVIT_HEALTH_FILE;
	const struct davit_port *p = network ? port_of(s, h->port) : NULL;

	if (h->type == DAVIT_HEALTH_COMMAND && !(h->command && *h->command && **h->command))
		return davit_spec_bad(err, path, "type command needs a command");
	if (h->type == DAVIT_HEALTH_FILE && !(h->file && *h->file == '/'))
		return davit_spec_bad(err, path, "type file needs an absolute path as file");
	if (h->type == DAVIT_HEALTH_FILE && s->image && !is_mounted(s, h->file))
		return davit_spec_bad(
			err, path,
			"'%.64s' is inside the image, where it cannot be looked at: put it beneath a "
			"volume of type bind, or use type command",
			h->file);
	if (h->path && (*h->path != '/' || !is_printable(h->path)))
		return davit_spec_bad(
			err, path, "the path '%.64s' does not begin with '/' or has a blank in it", h->path);
	if (h->host && !is_printable(h->host))
		return davit_spec_bad(err, path, "the host '%.64s' has a blank in it", h->host);
	if (h->ca && *h->ca != '/')
		return davit_spec_bad(err, path, "ca '%.64s' is not an absolute path", h->ca);
	if (h->ca && h->insecure)
		return davit_spec_bad(err, path,
				      "ca says who is trusted, insecure that nobody is asked: give one");
	if (h->status && h->status < 100)
		return davit_spec_bad(err, path, "the status %d is out of range: 100 to 599", (int)h->status);
	/* A cell may bring a port of its own. */
	if (network && !h->port && !p && !s->source)
		return davit_spec_bad(err, path, "it needs a port, or the service `ports`");
	if (p && p->udp)
		return davit_spec_bad(err, path, "port %u is of udp, which nobody can connect to",
				      p->container);
	if (network && s->network && !strcmp(s->network, "none"))
		return davit_spec_bad(err, path, "nothing reaches it with network none: use type command");
	return 0;
}

static int check_times(const struct davit_spec *s, const struct davit_health_check *h, const char *path,
		       struct davit_error *err)
{
	int64_t grace = h->start_period + h->interval * h->retries;
	char a[DAVIT_TIME_MAX], b[DAVIT_TIME_MAX];

	/* Not ready in time is a failure, whatever the check still allows. */
	if (h->role == DAVIT_HEALTH_STARTUP && grace > s->ready_timeout)
		return davit_spec_bad(
			err, path, "startPeriod and retries x interval are %s, beyond ready.timeout %s",
			davit_duration_format(grace, a), davit_duration_format(s->ready_timeout, b));
	return 0;
}

int davit_spec_check_health(const struct davit_spec *s, struct davit_error *err)
{
	char path[32];
	int r = 0;

	for (size_t i = 0; !r && i < s->n_health; i++) {
		const struct davit_health_check *h = &s->health[i];

		snprintf(path, sizeof path, "health[%zu]", i);
		r = check_keys(h, path, err);
		if (!r)
			r = check_what(s, h, path, err);
		if (!r)
			r = check_times(s, h, path, err);
		if (!r && h->name && (!is_printable(h->name) || strlen(h->name) > 63))
			r = davit_spec_bad(err, path,
					   "the name '%.64s' has a blank in it or is longer than 63",
					   h->name);
		for (size_t k = 0; !r && h->name && k < i; k++)
			if (s->health[k].name && !strcmp(s->health[k].name, h->name))
				r = davit_spec_bad(err, path, "'%s' is the name of health[%zu] already",
						   h->name, k);
	}
	return r;
}
