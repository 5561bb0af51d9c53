/* SPDX-License-Identifier: MIT
 *
 * A copy of a workload for a thread: the core may free its own at any close; and the environment
 * of a command beside it.
 */
#include "local/local.h"

#include "base/strv.h"

#include <stdlib.h>
#include <string.h>

/* Run twice: with at NULL it only counts. */
struct copier {
	char *at;
	size_t size;
};

static void *take(struct copier *c, const void *data, size_t n)
{
	void *to = c->at ? c->at + c->size : NULL;

	if (to && n)
		memcpy(to, data, n);
	c->size += (n + 15) & ~(size_t)15;
	return to;
}

static char *string(struct copier *c, const char *s)
{
	return s ? take(c, s, strlen(s) + 1) : NULL;
}

static char **vector(struct copier *c, char *const *v)
{
	size_t n = 0;
	char **to;

	if (!v)
		return NULL;
	while (v[n])
		n++;
	to = take(c, v, (n + 1) * sizeof *v);
	for (size_t i = 0; i < n; i++) {
		char *s = string(c, v[i]);

		if (to)
			to[i] = s;
	}
	return to;
}

static struct davit_mount *mounts(struct copier *c, const struct davit_mount *v, size_t n)
{
	struct davit_mount *to = take(c, v, n * sizeof *v);

	for (size_t i = 0; i < n; i++) {
		char *source = string(c, v[i].source), *target = string(c, v[i].target);

		if (to) {
			to[i].source = source;
			to[i].target = target;
		}
	}
	return to;
}

static struct davit_egress *egress(struct copier *c, const struct davit_egress *v, size_t n)
{
	struct davit_egress *to = take(c, v, n * sizeof *v);

	for (size_t i = 0; i < n; i++) {
		char *from = string(c, v[i].from), **hosts = vector(c, v[i].hosts);

		if (to)
			to[i] = (struct davit_egress){from, hosts};
	}
	return to;
}

/* Fills *to, which is the copy itself, or scratch while only counting. */
static void copy(struct copier *c, const struct davit_workload *w, struct davit_workload *to)
{
	*to = *w;
	to->namespace_ = string(c, w->namespace_);
	to->name = string(c, w->name);
	to->version = string(c, w->version);
	to->label = string(c, w->label);
	to->argv = vector(c, w->argv);
	to->env = vector(c, w->env);
	to->directory = string(c, w->directory);
	to->user = string(c, w->user);
	to->image = string(c, w->image);
	to->entrypoint = vector(c, w->entrypoint);
	to->service_account = string(c, w->service_account);
	to->rlimits = take(c, w->rlimits, w->n_rlimits * sizeof *w->rlimits);
	to->ports = take(c, w->ports, w->n_ports * sizeof *w->ports);
	to->mounts = mounts(c, w->mounts, w->n_mounts);
	to->secrets_directory = string(c, w->secrets_directory);
	to->network = string(c, w->network);
	to->dns = vector(c, w->dns);
	to->cap_add = vector(c, w->cap_add);
	to->cap_drop = vector(c, w->cap_drop);
	to->egress = egress(c, w->egress, w->n_egress);
}

struct davit_workload *local_workload_copy(const struct davit_workload *w)
{
	struct davit_workload scratch, *to;
	struct copier c = {0};

	take(&c, w, sizeof *w);
	copy(&c, w, &scratch);
	c.at = malloc(c.size);
	if (!c.at)
		return NULL;
	c.size = 0;
	to = take(&c, w, sizeof *w);
	copy(&c, w, to);
	return to;
}

int local_environment_beside(char *const *base, char *const *more, char ***ret, struct davit_error *err)
{
	DAVIT_AUTO_STRV env = NULL;
	bool oom = davit_strv_dup(base, &env) < 0;

	for (; !oom && more && *more; more++) {
		DAVIT_AUTO_FREE char *name = strdup(*more);
		char *value = name ? strchr(name, '=') : NULL;

		if (name && !value)
			return davit_error_set(err, DAVIT_EINVAL, "env", "'%s' is not of the form NAME=value",
					       name);
		if (value)
			*value++ = '\0';
		oom = !name || davit_strv_setenv(&env, name, value) < 0;
	}
	if (oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret = DAVIT_TAKE(env);
	return 0;
}
