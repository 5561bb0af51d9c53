/* SPDX-License-Identifier: MIT
 *
 * From spec, build and profile to the workload that a driver runs. Layers of the
 * environment, the later wins: base < cell < profile < service; the DAVIT_ names
 * are always ours. Nothing of the daemon's own environment but PATH, LANG and TZ
 * reaches a child.
 */
#include "core/core_impl.h"

#include "base/file.h"
#include "base/strv.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* --- the label: how we know again what we made --- */

char *workload_label(const struct davit_service *s, uint32_t index, uint64_t generation, bool build)
{
	char *label;

	return asprintf(&label, "1 %s %u %016" PRIx64 " %s", build ? "build" : "service", index, generation,
			s->key) < 0
		       ? NULL
		       : label;
}

int workload_label_parse(const char *label, char **ret_key, uint32_t *ret_index, uint64_t *ret_generation,
			 bool *ret_build)
{
	char kind[8], *key;
	int at = 0;

	if (sscanf(label, "1 %7[a-z] %" SCNu32 " %16" SCNx64 " %n", kind, ret_index, ret_generation, &at) !=
		    3 ||
	    !at || !label[at] || (strcmp(kind, "build") && strcmp(kind, "service")))
		return DAVIT_EINVAL;
	key = strdup(label + at);
	if (!key)
		return DAVIT_ENOMEM;
	*ret_build = kind[0] == 'b';
	*ret_key = key;
	return 0;
}

/* --- profiles: files of NAME=value lines --- */

static int profile_open(struct davit_core *c, const char *name, struct davit_buf *text,
			struct davit_error *err)
{
	const struct davit_paths *p = c->config.paths;
	const char *const dirs[] = {p ? p->config : NULL, p ? p->share : NULL};

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(dirs); k++) {
		DAVIT_AUTO_FREE char *path = NULL;
		if (!dirs[k] || asprintf(&path, "%s/profiles/%s.env", dirs[k], name) < 0)
			continue;
		if (access(path, F_OK) == 0)
			return davit_read_file(path, 65536, text, err);
	}
	return davit_error_set(err, DAVIT_ENOENT, "profile",
			       "there is no profile '%s': %s/profiles/%s.env does not exist", name,
			       p ? p->config : "", name);
}

static int profile_apply(struct davit_core *c, const char *name, char ***env, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char *save = NULL;
	unsigned line = 0;
	int r = profile_open(c, name, &text, err);

	if (r < 0)
		return r;
	for (char *l = strtok_r(text.data, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *equal = strchr(l, '=');
		line++;
		if (!*l || *l == '#')
			continue;
		if (!equal || equal == l)
			return davit_error_set(err, DAVIT_EINVAL, "profile",
					       "profile '%s', line %u: '%.40s' is not NAME=value", name, line,
					       l);
		*equal = '\0';
		if (env && davit_strv_setenv(env, l, equal + 1) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	return 0;
}

int profile_check(struct davit_core *c, const char *name, struct davit_error *err)
{
	int r = davit_name_check("profile", name, err);

	return r < 0 ? r : profile_apply(c, name, NULL, err);
}

/* --- parts --- */

struct account {
	char name[64], home[192];
};

/* Our own account is read once: a look into the user database for each start
 * would cost as much as the start's other preparations together. */
static bool account_of(const char *user, struct account *ret)
{
	static struct account own;
	static bool known;
	const struct passwd *pw = NULL;

	if (!user && known) {
		*ret = own;
		return true;
	}
	if (!user)
		pw = getpwuid(geteuid());
	else if (!strchr(user, ':') && user[0] > '9')
		pw = getpwnam(user);
	if (!pw || strlen(pw->pw_name) >= sizeof ret->name || strlen(pw->pw_dir) >= sizeof ret->home)
		return false;
	strcpy(ret->name, pw->pw_name);
	strcpy(ret->home, pw->pw_dir);
	if (!user) {
		own = *ret;
		known = true;
	}
	return true;
}

static int base_env(const struct davit_spec *spec, const struct davit_workload *w, char ***env)
{
	static const char *const passed[] = {"LANG", "TZ"};
	const char *path = getenv("PATH");
	struct account account;
	int r;

	/* An image has its own, and this host's mean nothing in it. */
	if (w->image)
		return 0;
	r = davit_strv_setenv(env, "PATH", path && *path ? path : DEFAULT_PATH);
	if (r == 0 && account_of(spec->user, &account)) {
		r = davit_strv_setenv(env, "HOME", account.home);
		if (r == 0)
			r = davit_strv_setenv(env, "USER", account.name);
	}
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(passed) && r == 0; k++)
		if (getenv(passed[k]))
			r = davit_strv_setenv(env, passed[k], getenv(passed[k]));
	return r;
}

static int own_env(const struct davit_spec *spec, struct davit_workload *w)
{
	char index[12];

	snprintf(index, sizeof index, "%u", w->index);
	const char *const own[][2] = {
		{"DAVIT_NAMESPACE", spec->namespace_},	  {"DAVIT_SERVICE_NAME", spec->name},
		{"DAVIT_SERVICE_VERSION", spec->version}, {"DAVIT_INSTANCE", w->id},
		{"DAVIT_INSTANCE_INDEX", index},
	};

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(own); k++)
		if (davit_strv_setenv(&w->env, own[k][0], own[k][1]) < 0)
			return DAVIT_ENOMEM;
	return 0;
}

/* PORT is the first port, PORT_NAME a named one. */
static int port_env(struct davit_workload *w, const struct built *b)
{
	char value[8], name[48];
	int r = 0;

	for (size_t k = 0; k < w->n_ports && r == 0; k++) {
		const struct davit_port *p = &w->ports[k];
		uint16_t inside = p->container ? p->container : p->host;
		snprintf(value, sizeof value, "%u", inside);
		if (k == 0)
			r = davit_strv_setenv(&w->env, b && b->port_env ? b->port_env : "PORT", value);
		if (r == 0 && p->name[0]) {
			snprintf(name, sizeof name, "PORT_%s", p->name);
			for (char *ch = name; *ch; ch++)
				*ch = *ch == '-' ? '_' : *ch >= 'a' && *ch <= 'z' ? (char)(*ch - 32) : *ch;
			r = davit_strv_setenv(&w->env, name, value);
		}
	}
	return r;
}

static int build_env(struct davit_core *c, const struct davit_spec *spec, const struct built *b,
		     struct davit_workload *w, struct davit_error *err)
{
	const char *profile = spec->profile ? spec->profile : c->config.default_profile;
	char ***env = &w->env;
	int r = base_env(spec, w, env);

	if (r == 0)
		r = port_env(w, b);
	for (size_t k = 0; b && b->env && b->env[k] && r == 0; k++) {
		DAVIT_AUTO_FREE char *name = strdup(b->env[k]);
		char *equal = name ? strchr(name, '=') : NULL;
		if (!equal)
			continue;
		*equal = '\0';
		r = davit_strv_setenv(env, name, equal + 1);
	}
	if (r == 0 && profile) {
		r = profile_apply(c, profile, env, err);
		if (r < 0)
			return r;
	}
	for (size_t k = 0; k < spec->n_env && r == 0; k++)
		r = davit_strv_setenv(env, spec->env[k].name, spec->env[k].value);
	if (r == 0)
		r = own_env(spec, w);
	return r < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

/* --- ports --- */

static int build_ports(struct instance *i, struct davit_error *err)
{
	struct davit_workload *w = &i->workload;
	const struct davit_spec *spec = i->service->spec;
	const struct davit_ports_facet *facet = i->runtime->driver->ports;
	bool implied = !spec->n_ports && i->service->built && i->service->built->port_env;
	json_t *rec = NULL, *kept = NULL;
	int r;

	w->n_ports = implied ? 1 : spec->n_ports;
	if (!w->n_ports)
		return 0;
	w->ports = calloc(w->n_ports, sizeof *w->ports);
	if (!w->ports) {
		w->n_ports = 0;
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (implied)
		strcpy(w->ports[0].name, "http");
	else
		memcpy(w->ports, spec->ports, spec->n_ports * sizeof *w->ports);
	/* An adopted instance has its ports already. */
	if (i->run || i->adopting) {
		rec = instance_read_record(i);
		kept = json_object_get(rec, "ports");
		for (size_t k = 0; k < w->n_ports; k++)
			w->ports[k].host = (uint16_t)json_integer_value(json_array_get(kept, k));
		json_decref(rec);
		return 0;
	}
	if (!facet)
		return 0;
	r = facet->resolve(i->runtime->rt, w->ports, w->n_ports, err);
	if (r == 0)
		instance_write_record(i);
	return r;
}

/* --- what stays of an environment --- */

enum { COMMON_MAX = 16 };

/* The variables that all workloads have from the daemon are kept once. NULL: this one is not. */
static char *common(struct davit_core *c, const char *variable)
{
	static const char *const names[] = {"PATH=", "HOME=", "USER=", "LANG=", "TZ="};
	bool known = false;

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(names); k++)
		known |= !strncmp(variable, names[k], strlen(names[k]));
	if (!known)
		return NULL;
	for (size_t k = 0; c->common_env && c->common_env[k]; k++)
		if (!strcmp(c->common_env[k], variable))
			return c->common_env[k];
	if (davit_strv_len(c->common_env) == COMMON_MAX || davit_strv_add(&c->common_env, variable) < 0)
		return NULL;
	return c->common_env[davit_strv_len(c->common_env) - 1];
}

/* Of all that is kept for an idle instance its environment would be the most: it goes into one
 * piece of memory. Without memory for that it stays as it is. */
static void pack_env(struct instance *i)
{
	size_t n = davit_strv_len(i->workload.env), size = 0;
	char **packed, *to;

	for (size_t k = 0; k < n; k++)
		if (!common(i->core, i->workload.env[k]))
			size += strlen(i->workload.env[k]) + 1;
	packed = n ? malloc((n + 1) * sizeof *packed + size) : NULL;
	if (!packed)
		return;
	to = (char *)(packed + n + 1);
	for (size_t k = 0; k < n; k++) {
		packed[k] = common(i->core, i->workload.env[k]);
		if (!packed[k]) {
			packed[k] = to;
			to = stpcpy(to, i->workload.env[k]) + 1;
		}
	}
	packed[n] = NULL;
	davit_strv_free(i->workload.env);
	i->workload.env = packed;
	i->env_packed = true;
}

/* --- the whole --- */

int workload_attach(struct instance *i, struct davit_error *err)
{
	i->inst = calloc(1, sizeof *i->inst + i->runtime->driver->instance_size);
	if (!i->inst)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	i->inst->runtime = i->runtime->rt;
	i->inst->workload = &i->workload;
	i->inst->owner = i;
	return 0;
}

static int fill(struct instance *i, struct davit_error *err)
{
	struct davit_workload *w = &i->workload;
	const struct davit_service *s = i->service;
	const struct davit_spec *spec = s->spec;
	int r = workload_names(w, spec, err);

	if (r == 0 && !(w->label = workload_label(s, w->index, i->generation, i->is_build)))
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r < 0 || i->is_build)
		return r;
	if (i->generation != s->generation && i->adopting)
		return davit_error_set(err, DAVIT_ESTATE, NULL,
				       "it belongs to an earlier version of the spec");
	r = workload_settings(w, spec, s->built, err);
	if (r == 0)
		r = workload_egress(i->core, spec, w, err);
	if (r == 0 && !i->adopting)
		r = workload_egress_check(i->runtime, w, err);
	if (r == 0)
		r = build_ports(i, err);
	if (r == 0)
		r = build_env(i->core, spec, s->built, w, err);
	if (r == 0 && !w->image && !w->argv[0])
		r = davit_error_set(err, DAVIT_EINVAL, "command", "nothing to run: no command and no build");
	if (r == 0)
		r = workload_config(i, err);
	if (r == 0)
		r = workload_secrets(i, err);
	return r;
}

int workload_of_spec(struct davit_core *c, const struct davit_spec *spec, struct davit_workload *w,
		     struct davit_error *err)
{
	int r = workload_names(w, spec, err);

	if (r == 0 && !(w->label = strdup("")))
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0)
		r = workload_settings(w, spec, NULL, err);
	if (r == 0)
		r = workload_egress(c, spec, w, err);
	if (r == 0 && spec->n_ports) {
		w->ports = malloc(spec->n_ports * sizeof *w->ports);
		if (!w->ports)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		memcpy(w->ports, spec->ports, spec->n_ports * sizeof *w->ports);
		w->n_ports = spec->n_ports;
	}
	return r < 0 ? r : build_env(c, spec, NULL, w, err);
}

int workload_build(struct instance *i, struct davit_error *err)
{
	int r = i->service ? fill(i, err) : 0;

	if (r == 0)
		r = workload_attach(i, err);
	if (r == 0 && i->service && !i->is_build)
		pack_env(i);
	if (r < 0 && !i->adopting)
		workload_fini(&i->workload);
	return r;
}

void workload_drop(struct instance *i)
{
	if (i->env_packed)
		free(DAVIT_TAKE(i->workload.env));
	i->env_packed = false;
	workload_fini(&i->workload);
}

void workload_fini(struct davit_workload *w)
{
	char **const strings[] = {
		&w->namespace_,	       &w->name,    &w->version, &w->label,
		&w->directory,	       &w->user,    &w->image,	 &w->service_account,
		&w->secrets_directory, &w->network,
	};
	char ***const lists[] = {&w->argv, &w->env, &w->entrypoint, &w->dns, &w->cap_add, &w->cap_drop};

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(strings); k++) {
		free(*strings[k]);
		*strings[k] = NULL;
	}
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(lists); k++) {
		davit_strv_free(*lists[k]);
		*lists[k] = NULL;
	}
	for (size_t k = 0; k < w->n_mounts; k++) {
		free(w->mounts[k].source);
		free(w->mounts[k].target);
	}
	for (size_t k = 0; k < w->n_egress; k++) {
		free(w->egress[k].from);
		davit_strv_free(w->egress[k].hosts);
	}
	free(w->egress);
	free(w->mounts);
	free(w->ports);
	free(w->rlimits);
	w->mounts = NULL;
	w->ports = NULL;
	w->rlimits = NULL;
	w->egress = NULL;
	w->n_mounts = w->n_ports = w->n_rlimits = w->n_egress = 0;
}
