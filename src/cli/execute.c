/* SPDX-License-Identifier: MIT
 *
 * davit execute: a task file over directories of the caller's. It needs no daemon. (In davit-steps.so.)
 */
#include "davit/execute.h"

#include "base/file.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/strv.h"
#include "base/units.h"
#include "cli/execute.h"
#include "cli/output.h"
#include "davit/task.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_FAILED = 1, EXIT_ERRORED = 2, EXIT_ABORTED = 3 };

#define READ_BYTES 65536

static const char *const outcome_words[] = {
	[DAVIT_OUTCOME_SUCCEEDED] = "succeeded",
	[DAVIT_OUTCOME_FAILED] = "failed",
	[DAVIT_OUTCOME_ERRORED] = "errored",
	[DAVIT_OUTCOME_ABORTED] = "aborted",
};

/* ------------------------------------------------------------------------------- events */

static void event_open(struct davit_json *j, const char *event)
{
	davit_json_open(j);
	davit_json_put_string(j, "event", event);
	davit_json_put_time(j, "time", davit_now());
}

static void event_close(struct davit_json *j)
{
	davit_json_close(j);
	puts(davit_buf_str(j->out));
	fflush(stdout);
}

static void say(const struct execute *e, const char *text)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	if (!e->json) {
		fprintf(stderr, "davit: %s\n", text);
		return;
	}
	event_open(&j, "note");
	davit_json_put_string(&j, "text", text);
	event_close(&j);
}

static void put_log(struct execute *e, enum davit_step_stream stream, const char *text, size_t n)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	event_open(&j, "log");
	davit_json_put_string(&j, "stream", stream == DAVIT_STEP_OUT ? "stdout" : "stderr");
	davit_json_put_int(&j, "offset", (int64_t)e->offsets[stream]);
	davit_json_key(&j, "text");
	davit_json_stringn(&j, text, n);
	event_close(&j);
}

static void pump(struct execute *e, enum davit_step_stream stream)
{
	FILE *to = stream == DAVIT_STEP_OUT ? stdout : stderr;
	char buf[READ_BYTES];
	ssize_t n;

	while ((n = davit_execution_read(e->x, stream, e->offsets[stream], buf, sizeof buf, NULL)) > 0) {
		size_t shown = (size_t)n;

		if (e->json && !davit_execution_result(e->x))
			shown = davit_json_whole(buf, shown);
		if (!shown)
			break;
		if (e->json)
			put_log(e, stream, buf, shown);
		else
			fwrite(buf, 1, shown, to);
		e->offsets[stream] += shown;
	}
	fflush(to);
}

static void on_output(void *user, struct davit_execution *x)
{
	struct execute *e = user;

	pump(e, DAVIT_STEP_OUT);
	pump(e, DAVIT_STEP_ERR);
}

static void on_note(void *user, struct davit_execution *x, const char *text)
{
	say(user, text);
}

static void on_started(void *user, struct davit_execution *x)
{
	struct execute *e = user;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	if (!e->json)
		return;
	event_open(&j, "start");
	davit_json_put_string(&j, "id", davit_execution_id(x));
	event_close(&j);
}

/* --------------------------------------------------------------------------- the result */

static void put_finish(const struct davit_result *r)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	event_open(&j, "finish");
	davit_json_put_string(&j, "outcome", outcome_words[r->outcome]);
	if (r->exited)
		davit_json_put_int(&j, "exit_status", r->exit_status);
	if (r->signo)
		davit_json_put_int(&j, "signal", r->signo);
	davit_json_put_bool(&j, "cached", r->cached);
	davit_json_put_bool(&j, "timed_out", r->timed_out);
	davit_json_put_bool(&j, "out_of_memory", r->out_of_memory);
	davit_json_put_time(&j, "started", r->started);
	davit_json_put_time(&j, "ended", r->ended);
	davit_json_put_int(&j, "cpu_user_ns", r->cpu_user);
	davit_json_put_int(&j, "cpu_system_ns", r->cpu_system);
	davit_json_put_int(&j, "memory_peak", (int64_t)r->memory_peak);
	if (r->outcome == DAVIT_OUTCOME_ERRORED)
		davit_json_put_error(&j, &r->error);
	davit_json_key(&j, "outputs");
	davit_json_open(&j);
	for (size_t i = 0; i < r->n_outputs; i++)
		davit_json_put_string(&j, r->outputs[i].name, r->outputs[i].tree.id);
	davit_json_close(&j);
	event_close(&j);
}

static void tell_people(struct execute *e, const struct davit_result *r)
{
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++)
		if (r->dropped[i])
			fprintf(stderr, "davit: %llu bytes of its %s are not kept: the log is full\n",
				(unsigned long long)r->dropped[i], i == DAVIT_STEP_OUT ? "output" : "errors");
	if (r->cached)
		fprintf(stderr, "davit: nothing was executed: this is the result of an earlier run\n");
	if (r->outcome == DAVIT_OUTCOME_ERRORED)
		fprintf(stderr, "davit: errored: %s\n", r->error.message);
	else if (r->outcome == DAVIT_OUTCOME_ABORTED)
		fprintf(stderr, "davit: aborted\n");
	else if (r->timed_out)
		fprintf(stderr, "davit: failed: its time was over\n");
	else if (r->out_of_memory)
		fprintf(stderr, "davit: failed: it used more memory than its limit\n");
	else if (r->signo)
		fprintf(stderr, "davit: failed: killed by signal %d (%s)\n", r->signo,
			sigabbrev_np(r->signo) ? sigabbrev_np(r->signo) : "?");
}

static int download(struct execute *e, const struct davit_result *r)
{
	size_t pos = 0;
	const char *v;
	int status = 0;

	while ((v = davit_cli_next(e->cli, "output", &pos))) {
		size_t n = strcspn(v, "=");

		for (size_t i = 0; i < r->n_outputs; i++) {
			struct davit_error err = {0};

			if (strncmp(r->outputs[i].name, v, n) != 0 || r->outputs[i].name[n])
				continue;
			if (davit_artifacts_get(e->store, &r->outputs[i].tree, v + n + 1, &err) < 0) {
				say(e, err.message);
				status = EXIT_ERRORED;
			}
		}
	}
	return status;
}

static int exit_status(const struct davit_result *r)
{
	switch (r->outcome) {
	case DAVIT_OUTCOME_ERRORED:
		return EXIT_ERRORED;
	case DAVIT_OUTCOME_ABORTED:
		return EXIT_ABORTED;
	case DAVIT_OUTCOME_SUCCEEDED:
		return 0;
	case DAVIT_OUTCOME_FAILED:
		break;
	}
	return r->exited && r->exit_status && !r->timed_out ? r->exit_status : EXIT_FAILED;
}

static void on_done(void *user, struct davit_execution *x, const struct davit_result *r)
{
	struct execute *e = user;
	int failed = download(e, r);

	e->status = exit_status(r);
	if (failed && !e->status)
		e->status = failed;
	if (e->json)
		put_finish(r);
	else
		tell_people(e, r);
	davit_signals_close(&e->signals);
	davit_execution_free(x);
	e->x = NULL;
}

static void on_signal(void *user, int signo)
{
	struct execute *e = user;

	if (!e->x)
		return;
	if (signo == SIGUSR1 || signo == SIGUSR2) {
		davit_execution_signal(e->x, signo, NULL); /* one that does not run has no use for it */
		return;
	}
	if (e->asked) {
		davit_execution_kill(e->x);
		return;
	}
	e->asked = true;
	say(e, "aborting; the task has a moment to end by itself (once more: none)");
	davit_execution_abort(e->x);
}

/* ----------------------------------------------------------------------------- beginning */

static const char *given_input(const struct execute *e, const char *name)
{
	const char *v, *found = NULL;
	size_t pos = 0, n = strlen(name);

	while ((v = davit_cli_next(e->cli, "input", &pos)))
		if (!strncmp(v, name, n) && v[n] == '=')
			found = v + n + 1;
	return found;
}

static int check_inputs(struct execute *e)
{
	DAVIT_AUTO_STRV names = NULL;
	const char *v;
	size_t pos = 0;

	while ((v = davit_cli_next(e->cli, "input", &pos))) {
		DAVIT_AUTO_FREE char *name = strndup(v, strcspn(v, "="));
		if (!name || davit_strv_add(&names, name) < 0)
			return davit_error_set(e->err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	return davit_task_check_inputs(e->task, (const char *const *)names, davit_strv_len(names), e->err);
}

static int check_outputs(struct execute *e)
{
	const char *v, *names[32], *near;
	size_t pos = 0, n = 0;

	for (size_t i = 0; i < e->task->n_outputs && n < DAVIT_ARRAY_SIZE(names); i++)
		names[n++] = e->task->outputs[i].name;
	while ((v = davit_cli_next(e->cli, "output", &pos))) {
		DAVIT_AUTO_FREE char *name = strndup(v, strcspn(v, "="));
		bool found = false;

		if (!name)
			return davit_error_set(e->err, DAVIT_ENOMEM, NULL, "out of memory");
		for (size_t i = 0; i < e->task->n_outputs; i++)
			found |= !strcmp(e->task->outputs[i].name, name);
		near = found ? NULL : davit_nearest(name, names, n);
		if (!found)
			return davit_error_set(e->err, DAVIT_EINVAL, "outputs",
					       near ? "the task has no output '%s'; did you mean '%s'?"
						    : "the task has no output '%s'",
					       name, near);
	}
	return 0;
}

static int set_params(struct execute *e)
{
	const char *v;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && (v = davit_cli_next(e->cli, "param", &pos))) {
		size_t n = strcspn(v, "=");
		DAVIT_AUTO_FREE char *name = strndup(v, n);
		if (!name)
			return davit_error_set(e->err, DAVIT_ENOMEM, NULL, "out of memory");
		r = davit_task_set_param(e->task, name, v + n + 1, e->err);
	}
	for (size_t i = 0; r == 0 && i < e->task->n_params; i++)
		if (davit_strv_setenv(&e->env, e->task->params[i].name, e->task->params[i].value) < 0)
			return davit_error_set(e->err, DAVIT_ENOMEM, NULL, "out of memory");
	return r;
}

static int add_inputs(struct execute *e)
{
	for (size_t i = 0; i < e->task->n_inputs; i++) {
		const struct davit_task_path *p = &e->task->inputs[i];
		const char *from = given_input(e, p->name);
		struct davit_artifact_hold *h = &e->inputs[e->n_inputs];
		int r;

		if (!from)
			continue;
		*h = (struct davit_artifact_hold)DAVIT_ARTIFACT_HOLD_INIT;
		r = davit_steps_upload(e->store, from, davit_cli_flag(e->cli, "include-ignored"), h, e->err);
		if (r < 0) {
			davit_error_prefix(e->err, "input '%s'", p->name);
			return r;
		}
		e->n_inputs++;
		e->artifacts[e->n_artifacts++] = (struct davit_artifact){
			.use = DAVIT_USE_INPUT,
			.type = DAVIT_ARTIFACT_TREE,
			.name = p->name,
			.location = h->id,
			.path = p->path,
		};
	}
	return 0;
}

/* A cache is that of a task file; the same file elsewhere is another task. */
static int add_caches(struct execute *e, const char *file)
{
	DAVIT_AUTO_FREE char *real = realpath(file, NULL);

	for (size_t i = 0; i < e->task->n_caches; i++) {
		DAVIT_AUTO_FREE char *location = NULL;

		if (asprintf(&location, "execute %s %s", real ? real : file, e->task->caches[i].path) < 0)
			location = NULL;
		if (!location || davit_strv_add(&e->locations, location) < 0)
			return davit_error_set(e->err, DAVIT_ENOMEM, NULL, "out of memory");
		e->artifacts[e->n_artifacts++] = (struct davit_artifact){
			.use = DAVIT_USE_CACHE,
			.location = e->locations[i],
			.path = e->task->caches[i].path,
		};
	}
	return 0;
}

static int add_artifacts(struct execute *e, const char *file)
{
	size_t n = e->task->n_inputs + e->task->n_outputs + e->task->n_caches;
	int r;

	e->artifacts = calloc(n + 1, sizeof *e->artifacts);
	e->inputs = calloc(e->task->n_inputs + 1, sizeof *e->inputs);
	if (!e->artifacts || !e->inputs)
		return davit_error_set(e->err, DAVIT_ENOMEM, NULL, "out of memory");
	r = add_inputs(e);
	for (size_t i = 0; i < e->task->n_outputs; i++)
		e->artifacts[e->n_artifacts++] = (struct davit_artifact){
			.use = DAVIT_USE_OUTPUT,
			.name = e->task->outputs[i].name,
			.path = e->task->outputs[i].path,
		};
	return r < 0 ? r : add_caches(e, file);
}

static int find_image(struct execute *e, const char *name, struct davit_artifact *image)
{
	const char *type = e->task->image_type;

	if (!name && !e->task->image)
		return davit_error_set(
			e->err, DAVIT_ENOTSUP, "image_resource",
			"this task wants an image of type '%s'; the types are registry-image and "
			"docker-image: say --image NAME, --rootfs DIR or --rootfs host",
			type);
	image->type = DAVIT_ARTIFACT_IMAGE;
	image->location = name ? name : e->task->image;
	return 0;
}

/* The root: an image, "host", a directory, or an artifact; what the user says counts before what the task
 * says. */
static int find_root(struct execute *e, struct davit_artifact *image, char **ret_real)
{
	const char *root = davit_cli_value(e->cli, "rootfs"), *name = davit_cli_value(e->cli, "image");

	if (root && name)
		return davit_error_set(e->err, DAVIT_EINVAL, "image",
				       "--image and --rootfs both name a root: only one can be");
	if (name || (!root && e->task->image_type))
		return find_image(e, name, image);
	root = root ? root : e->task->rootfs;
	if (!root || !strcmp(root, "host"))
		return 0;
	if (!strncmp(root, "artifact:", 9)) {
		int r = davit_artifacts_find(e->store, root + 9, &e->image, e->err);

		image->type = DAVIT_ARTIFACT_TREE;
		image->location = e->image.id;
		return r;
	}
	if (!strncmp(root, "raw://", 6))
		root += 6;
	else if (strstr(root, "://"))
		return davit_error_set(e->err, DAVIT_ENOTSUP, "rootfs_uri",
				       "'%s': a root is raw://DIR, a directory, or artifact:ID", root);
	*ret_real = realpath(root, NULL);
	if (!*ret_real)
		return davit_error_errno(e->err, errno, "rootfs_uri", "cannot use %s as a root", root);
	image->type = DAVIT_ARTIFACT_DIRECTORY;
	image->location = *ret_real;
	return 0;
}

static int run_task(struct execute *e)
{
	static const struct davit_execution_events on = {on_started, on_output, on_note, on_done};
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, 0};
	const struct davit_task *t = e->task;
	struct davit_run_spec run = {
		.runtime = davit_cli_value(e->cli, "runtime"),
		.path = t->run_path,
		.args = t->run_args,
		.env = e->env,
		.dir = t->run_dir,
		.user = t->run_user,
		.limits = {.cpu_millicores = t->cpu_millicores, .memory = t->memory, .pids = t->pids},
		.privileged = davit_cli_flag(e->cli, "privileged"),
		.hermetic = davit_cli_flag(e->cli, "hermetic"),
		.timeout = davit_cli_duration(e->cli, "timeout", 0),
		.grace = davit_cli_duration(e->cli, "grace", 0),
		.cache = davit_cli_flag(e->cli, "cache"),
	};
	DAVIT_AUTO_FREE char *root = NULL;
	int r = find_root(e, &run.image, &root);

	if (r == 0)
		r = davit_loop_open(&e->loop, e->err);
	if (r == 0)
		r = davit_signals_open(&e->signals, e->loop, signals, on_signal, e, e->err);
	if (r == 0)
		r = davit_execute(e->loop, e->store, &run, e->artifacts, e->n_artifacts, &on, e, &e->x,
				  e->err);
	if (r < 0)
		davit_signals_close(&e->signals);
	/* Until the step's directory is removed, too. */
	if (e->loop)
		davit_loop_run(e->loop);
	return r < 0 ? r : e->status;
}

static int execute(struct execute *e)
{
	bool behind = davit_cli_flag(e->cli, "background");
	const char *file = davit_cli_value(e->cli, "config");
	int r;

	if (!file)
		return davit_cli_usage(e->cli, e->err, "which task? davit execute -c TASK.yml");
	r = davit_task_load(file, &e->task, e->err);
	if (r == 0 && behind && e->json)
		r = davit_cli_usage(
			e->cli, e->err,
			"--json does not go with --background: 'davit run-log -o json ID' has the events");
	if (r == 0)
		r = check_inputs(e);
	if (r == 0)
		r = check_outputs(e);
	if (r == 0)
		r = set_params(e);
	if (r == 0)
		r = davit_artifacts_open(NULL, 0, &e->store, e->err);
	if (r == 0)
		r = add_artifacts(e, file);
	return r < 0 ? r : behind ? davit_execute_behind(e, file) : run_task(e);
}

int davit_steps_execute(struct davit_cli *cli, struct davit_error *err)
{
	struct execute e = {.cli = cli, .err = err, .json = davit_cli_flag(cli, "json"), .image.fd = -1};
	int r;

	if (e.json)
		cli->format = DAVIT_FORMAT_JSON;
	r = execute(&e);
	davit_loop_close(e.loop);
	for (size_t i = 0; i < e.n_inputs; i++)
		davit_artifact_release(&e.inputs[i]);
	davit_artifact_release(&e.image);
	davit_artifacts_close(e.store);
	davit_task_free(e.task);
	davit_strv_free(e.locations);
	davit_strv_free(e.env);
	free(e.artifacts);
	free(e.inputs);
	if (r >= 0)
		return r;
	davit_print_error(cli, err);
	return EXIT_ERRORED;
}
