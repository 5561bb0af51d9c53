/* SPDX-License-Identifier: MIT
 *
 * From a project to the spec of its service.
 */
#include "daemon/projects.h"

#include "base/file.h"

#include <string.h>

#define META "davit.project"

static char *place(const char *directory, const char *name, const char *suffix)
{
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;

	davit_buf_addf(&path, "%s/projects/%s%s", directory, name, suffix);
	return davit_buf_take(&path);
}

char *project_socket(const struct davit_daemon *d, const char *name)
{
	return place(d->paths.run, name, ".sock");
}

char *project_record(const struct davit_daemon *d, const char *name)
{
	return place(d->paths.state, name, ".json");
}

static void add(json_t *command, const char *option, const char *value)
{
	if (!value || !value[0])
		return;
	json_array_append_new(command, json_string(option));
	json_array_append_new(command, json_string(value));
}

/* Also where definitions are looked for that are nobody's in particular. */
static json_t *command_of(struct davit_daemon *d, const struct project_wish *w)
{
	DAVIT_AUTO_FREE char *program = davit_path_join(d->paths.libexec, "davit-containers");
	DAVIT_AUTO_FREE char *socket = project_socket(d, w->name), *record = project_record(d, w->name);
	DAVIT_AUTO_BUF more = DAVIT_BUF_INIT;
	json_t *command = json_pack("[s, s]", program, w->name);
	char workers[24] = "";

	davit_buf_addf(&more, "%s/containers:%s/containers", d->paths.config, d->paths.libexec);
	if (w->workers)
		snprintf(workers, sizeof workers, "%lld", (long long)w->workers);
	if (!socket || !record || more.oom || !command) {
		json_decref(command);
		return NULL;
	}
	add(command, "--socket", socket);
	add(command, "--record", record);
	add(command, "--more", davit_buf_str(&more));
	add(command, "--directory", w->directory);
	add(command, "--search-thread", w->search_thread);
	add(command, "--search-process", w->search_process);
	add(command, "--workers", workers);
	return command;
}

/* The client modules of sdk, for containers that are programs. */
static json_t *environment_of(struct davit_daemon *d)
{
	DAVIT_AUTO_FREE char *python = davit_path_join(d->paths.share, "sdk/python");
	DAVIT_AUTO_FREE char *node = davit_path_join(d->paths.share, "sdk/node");

	return python && node ? json_pack("{s:s, s:s}", "PYTHONPATH", python, "NODE_PATH", node) : NULL;
}

int project_spec(struct davit_daemon *d, const struct project_wish *w, struct davit_spec **ret,
		 struct davit_error *err)
{
	json_t *command = command_of(d, w), *env = environment_of(d), *spec;
	DAVIT_AUTO_FREE char *text = NULL;
	int r;

	if (!command || !env) {
		json_decref(command);
		json_decref(env);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	/* Restarted until somebody stops it. Ready when all that is recorded was made anew, which takes its
	 * time for very many. */
	spec = json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:{s:s, s:s}, s:{s:s}}", "namespace", PROJECTS,
			 "name", w->name, "runtime", "process", "command", command, "env", env, "restart",
			 "always", "ready", "type", "notify", "timeout", "10m", "metadata", META,
			 "containers");
	if (spec && w->directory)
		json_object_set_new(spec, "directory", json_string(w->directory));
	text = spec ? json_dumps(spec, JSON_COMPACT) : NULL;
	json_decref(spec);
	if (!text)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = davit_spec_parse_one(text, strlen(text), NULL, ret, err);
	if (r < 0)
		err->line = err->column = 0; /* of a text that nobody has seen */
	return r;
}

static bool is_project(const struct davit_spec *spec)
{
	for (size_t k = 0; k < spec->n_metadata; k++)
		if (!strcmp(spec->metadata[k].name, META))
			return true;
	return false;
}

struct hunt {
	struct davit_service *found;
};

static bool offer(void *user, struct davit_service *s)
{
	struct hunt *hunt = user;

	if (is_project(davit_service_spec(s)))
		hunt->found = s;
	return !hunt->found;
}

int project_find(struct davit_daemon *d, const char *name, struct davit_service **ret,
		 struct davit_error *err)
{
	const struct davit_selector sel = {.namespace_ = PROJECTS, .name = name};
	struct hunt hunt = {0};

	davit_core_services(d->core, &sel, offer, &hunt);
	if (!hunt.found)
		return davit_error_set(
			err, DAVIT_ENOENT, "project",
			"there is no project '%.64s'; davit project:create makes one%s", name,
			strcmp(name, PROJECT_DEFAULT) ? "" : ", and so does the first container in it");
	*ret = hunt.found;
	return 0;
}
