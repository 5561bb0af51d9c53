/* SPDX-License-Identifier: MIT
 *
 * One check, get or put: the program of the type, with a HOME and an environment of its own.
 */
#include "step/resource.h"

#include "base/file.h"
#include "base/strv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct davit_resource_run {
	enum davit_resource_action action;
	struct davit_resource_events on;
	void *owner;
	struct davit_program *program;
	char *home;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* TYPE/check, or TYPE/opt/resource/check. */
static int find_program(const struct davit_resource_spec *spec, char **ret, struct davit_error *err)
{
	static const char *const places[] = {"", "/opt/resource"};
	const char *name = davit_resource_action_name(spec->action);

	if (spec->inside) {
		*ret = davit_path_join(spec->type, name);
		return *ret ? 0 : no_memory(err);
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(places); i++) {
		DAVIT_AUTO_FREE char *path = NULL;
		struct stat st;

		if (asprintf(&path, "%s%s/%s", spec->type, places[i], name) < 0) {
			path = NULL;
			return no_memory(err);
		}
		if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (access(path, X_OK) < 0)
			return davit_error_errno(err, errno, NULL, "%s is not executable", path);
		*ret = DAVIT_TAKE(path);
		return 0;
	}
	return davit_error_set(err, DAVIT_ENOENT, NULL, "the resource type %s has no program '%s'",
			       spec->type, name);
}

static int make_env(const struct davit_resource_spec *spec, const char *home, char ***ret)
{
	const struct davit_build_metadata *b = &spec->build;
	const char *path = getenv("PATH");
	const struct {
		const char *name, *value;
	} all[] = {{"PATH", path ? path : PATH_DEFAULT}, {"HOME", home}, {"TMPDIR", home}},
	  build[] = {{"BUILD_ID", b->id},	   {"BUILD_NAME", b->name},
		     {"BUILD_JOB_NAME", b->job},   {"BUILD_PIPELINE_NAME", b->pipeline},
		     {"BUILD_TEAM_NAME", b->team}, {"ATC_EXTERNAL_URL", b->url}};
	int r = 0;

	for (size_t i = 0; r == 0 && !spec->inside && i < DAVIT_ARRAY_SIZE(all); i++)
		r = davit_strv_setenv(ret, all[i].name, all[i].value);
	if (spec->action == DAVIT_RESOURCE_CHECK)
		return r;
	for (size_t i = 0; r == 0 && i < DAVIT_ARRAY_SIZE(build); i++)
		if (build[i].value)
			r = davit_strv_setenv(ret, build[i].name, build[i].value);
	return r;
}

static int make_home(struct davit_resource_run *run, const char *scratch, struct davit_error *err)
{
	char *home = davit_path_join(scratch, "resource.XXXXXX");

	if (!home)
		return no_memory(err);
	if (!mkdtemp(home)) {
		int e = errno;
		free(home);
		return davit_error_errno(err, e, NULL, "cannot make a directory in %s", scratch);
	}
	run->home = home;
	return 0;
}

/* ---------------------------------------------------------------------------- end */

static void on_log(void *owner, const char *text, size_t len)
{
	struct davit_resource_run *run = owner;

	run->on.log(run->owner, text, len);
}

/* What the end of the program says, before its answer is read. */
static enum davit_plan_outcome judge(const char *name, const struct davit_program_end *end,
				     struct davit_error *err)
{
	if (end->aborted) {
		davit_error_set(err, DAVIT_ECANCELED, NULL, "%s was aborted", name);
		return DAVIT_PLAN_ABORTED;
	}
	if (end->timed_out)
		davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "%s did not end in time", name);
	else if (end->too_much)
		davit_error_set(err, DAVIT_EPROTO, NULL, "%s printed more than its answer may have", name);
	else if (end->signo)
		davit_error_set(err, DAVIT_EIO, NULL, "%s was ended by the signal %d (%s)", name, end->signo,
				strsignal(end->signo));
	else if (end->exit_status)
		davit_error_set(err, DAVIT_EIO, NULL, "%s failed with the exit status %d", name,
				end->exit_status);
	else
		return DAVIT_PLAN_SUCCEEDED;
	return end->too_much ? DAVIT_PLAN_ERRORED : DAVIT_PLAN_FAILED;
}

static void on_done(void *owner, const struct davit_program_end *end)
{
	struct davit_resource_run *run = owner;
	const char *name = davit_resource_action_name(run->action);
	struct davit_resource_end e = {0};
	json_t *versions, *version, *metadata;
	int r = 0;

	e.outcome = judge(name, end, &e.error);
	if (e.outcome == DAVIT_PLAN_SUCCEEDED && run->action == DAVIT_RESOURCE_CHECK)
		r = davit_resource_read_versions(end->output, end->output_len, &e.versions, &e.error);
	else if (e.outcome == DAVIT_PLAN_SUCCEEDED)
		r = davit_resource_read_result(end->output, end->output_len, &e.version, &e.metadata,
					       &e.error);
	if (r < 0) {
		e.outcome = DAVIT_PLAN_ERRORED;
		davit_error_prefix(&e.error, "%s", name);
	}
	versions = e.versions;
	version = e.version;
	metadata = e.metadata;
	run->on.done(run->owner, &e); /* which may free the run */
	json_decref(versions);
	json_decref(version);
	json_decref(metadata);
}

/* -------------------------------------------------------------------------- start */

static int check_spec(const struct davit_resource_spec *spec, struct davit_error *err)
{
	int r = 0;

	if (spec->action != DAVIT_RESOURCE_OUT && (spec->version || spec->action == DAVIT_RESOURCE_IN))
		r = davit_resource_check_version(spec->version, err);
	if (r == 0 && spec->source && !json_is_object(spec->source))
		r = davit_error_set(err, DAVIT_EINVAL, "source", "a source must be a map");
	if (r == 0 && spec->action == DAVIT_RESOURCE_IN)
		r = davit_mkdirs(spec->directory, 0755, err);
	return r;
}

void davit_resource_call_fini(struct davit_resource_call *c)
{
	free(c->path);
	davit_strv_free(c->env);
	davit_buf_fini(&c->request);
}

int davit_resource_prepare(const struct davit_resource_spec *spec, const char *home,
			   struct davit_resource_call *ret, struct davit_error *err)
{
	bool check = spec->action == DAVIT_RESOURCE_CHECK;
	struct davit_resource_call c = {.dir = check ? home : spec->directory,
					.arg = check ? NULL : spec->directory};
	int r = find_program(spec, &c.path, err);

	if (r == 0)
		r = davit_resource_request(spec->source,
					   spec->action == DAVIT_RESOURCE_OUT ? NULL : spec->version,
					   check ? NULL : spec->params, &c.request, err);
	if (r == 0 && make_env(spec, home, &c.env) < 0)
		r = no_memory(err);
	if (r < 0)
		davit_resource_call_fini(&c);
	else
		*ret = c;
	return r;
}

static int start(struct davit_resource_run *run, struct davit_loop *loop,
		 const struct davit_resource_spec *spec, struct davit_error *err)
{
	static const struct davit_program_events events = {.log = on_log, .done = on_done};
	struct davit_resource_call c;
	int r = check_spec(spec, err);

	if (r == 0)
		r = make_home(run, spec->scratch, err);
	if (r == 0)
		r = davit_resource_prepare(spec, run->home, &c, err);
	if (r < 0)
		return r;
	r = davit_program_start(loop,
				&(struct davit_program_spec){
					.path = c.path,
					.argv = (char *[]){c.path, (char *)(uintptr_t)c.arg, NULL},
					.env = c.env,
					.dir = c.dir,
					.input = c.request.data,
					.input_len = c.request.len,
					.timeout = spec->timeout,
					.grace = spec->grace,
				},
				&events, run, &run->program, err);
	davit_resource_call_fini(&c);
	return r;
}

int davit_resource_start(struct davit_loop *loop, const struct davit_resource_spec *spec,
			 const struct davit_resource_events *on, void *owner, struct davit_resource_run **ret,
			 struct davit_error *err)
{
	struct davit_resource_run *run = calloc(1, sizeof *run);
	int r;

	if (!run)
		return no_memory(err);
	run->action = spec->action;
	run->on = *on;
	run->owner = owner;
	r = start(run, loop, spec, err);
	if (r < 0) {
		davit_resource_free(run);
		return r;
	}
	*ret = run;
	return 0;
}

void davit_resource_abort(struct davit_resource_run *run)
{
	davit_program_abort(run->program);
}

void davit_resource_free(struct davit_resource_run *run)
{
	if (!run)
		return;
	davit_program_free(run->program);
	if (run->home)
		davit_remove_tree(run->home,
				  NULL); /* what cannot be removed is left in the scratch directory */
	free(run->home);
	free(run);
}
