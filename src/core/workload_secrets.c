/* SPDX-License-Identifier: MIT
 *
 * Secrets of a workload: files in a private directory in memory, or, where the
 * spec asks for it, variables.
 */
#include "core/core_impl.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/strv.h"
#include "core/secret.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

static int store_of_secrets(struct davit_core *c, struct davit_secrets **ret, struct davit_error *err)
{
	if (!c->config.secrets)
		return davit_error_set(err, DAVIT_ENOTSUP, "secrets", "this daemon keeps no secrets");
	*ret = c->config.secrets;
	return 0;
}

/* Every secret that is named must be there and open. */
int workload_secrets_check(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err)
{
	struct davit_secrets *secrets = NULL;
	int r = 0;

	if (!spec->n_secrets)
		return 0;
	r = store_of_secrets(c, &secrets, err);
	for (size_t k = 0; k < spec->n_secrets && r == 0; k++) {
		struct davit_secret value;
		r = davit_secrets_get(secrets, spec->namespace_, spec->secrets[k].name, &value, err);
		if (r == 0)
			davit_secret_wipe(&value);
		else
			snprintf(err->where, sizeof err->where, "secrets[%zu]", k);
	}
	return r;
}

/* Who the files are for: "name", "uid", with ":group". */
static void owner_of(const struct davit_spec *spec, uid_t *uid, gid_t *gid)
{
	char name[64], *colon;
	const struct passwd *pw;
	const struct group *gr;

	*uid = (uid_t)-1;
	*gid = (gid_t)-1;
	if (!spec->user)
		return;
	snprintf(name, sizeof name, "%s", spec->user);
	colon = strchr(name, ':');
	if (colon)
		*colon = '\0';
	pw = getpwnam(name);
	if (!pw && name[0] >= '0' && name[0] <= '9')
		*uid = (uid_t)strtoul(name, NULL, 10);
	if (pw) {
		*uid = pw->pw_uid;
		*gid = pw->pw_gid;
	}
	gr = colon ? getgrnam(colon + 1) : NULL;
	if (gr)
		*gid = gr->gr_gid;
}

static int give_variables(struct instance *i, struct davit_secrets *secrets, struct davit_error *err)
{
	const struct davit_spec *spec = i->service->spec;
	int r = 0;

	for (size_t k = 0; k < spec->n_secrets && r == 0; k++) {
		struct davit_secret value;
		if (!spec->secrets[k].env)
			continue;
		r = davit_secrets_get(secrets, spec->namespace_, spec->secrets[k].name, &value, err);
		if (r < 0)
			break;
		if (strlen(value.data) != value.len)
			r = davit_error_set(err, DAVIT_EINVAL, "secrets",
					    "secret '%s' holds a NUL byte: it cannot be a variable",
					    spec->secrets[k].name);
		else if (davit_strv_setenv(&i->workload.env, spec->secrets[k].env, value.data) < 0)
			r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		davit_secret_wipe(&value);
	}
	return r;
}

int workload_secrets(struct instance *i, struct davit_error *err)
{
	const struct davit_spec *spec = i->service->spec;
	struct davit_workload *w = &i->workload;
	struct davit_secrets *secrets = NULL;
	char name[WORKLOAD_FILES_MAX];
	bool files = false;
	uid_t uid;
	gid_t gid;
	int r;

	if (!spec->n_secrets)
		return 0;
	r = store_of_secrets(i->core, &secrets, err);
	if (r < 0)
		return r;
	for (size_t k = 0; k < spec->n_secrets; k++)
		files |= !spec->secrets[k].env;
	if (files) {
		owner_of(spec, &uid, &gid);
		r = davit_secrets_materialise(secrets, workload_files_name(i, WORKLOAD_SECRETS, name),
					      spec->namespace_, spec->secrets, spec->n_secrets, uid, gid,
					      &w->secrets_directory, err);
		DAVIT_FAULT("workload-files");
		if (r == 0 && davit_strv_setenv(&w->env, "CREDENTIALS_DIRECTORY", w->secrets_directory) < 0)
			r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	return r < 0 ? r : give_variables(i, secrets, err);
}

const char *workload_files_name(const struct instance *i, const char *kind, char buf[WORKLOAD_FILES_MAX])
{
	snprintf(buf, WORKLOAD_FILES_MAX, "%s-%s-%s", i->workload.id, kind, i->runtime->name);
	return buf;
}

/* One of this runtime's, and of no instance that it told of: the daemon died before the runtime
 * knew of it, or just when it was removed. */
static bool is_left(void *user, const char *name)
{
	const struct core_runtime *r = user;
	char id[DAVIT_ID_MAX];
	const char *kind, *runtime;

	kind = strchr(name, '-');
	runtime = kind ? strchr(kind + 1, '-') : NULL;
	if (!runtime || strcmp(runtime + 1, r->name) != 0 || (size_t)(kind - name) >= sizeof id)
		return false;
	snprintf(id, sizeof id, "%.*s", (int)(kind - name), name);
	return !davit_map_get(&r->core->instances, id);
}

void workload_files_sweep(struct core_runtime *r)
{
	if (r->core->config.secrets)
		davit_secrets_sweep(r->core->config.secrets, is_left, r);
}

/* The spec may be another by now, and say nothing of what this instance has. */
void workload_files_wipe(struct instance *i)
{
	static const char *const kinds[] = {WORKLOAD_SECRETS, WORKLOAD_CONFIG};
	char name[WORKLOAD_FILES_MAX];
	struct davit_error err;

	for (size_t k = 0; i->core->config.secrets && k < DAVIT_ARRAY_SIZE(kinds); k++)
		if (davit_secrets_discard(i->core->config.secrets, workload_files_name(i, kinds[k], name),
					  &err) < 0)
			davit_log(DAVIT_LOG_WARNING, "%s", err.message);
}
