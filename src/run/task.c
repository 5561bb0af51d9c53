/* SPDX-License-Identifier: MIT
 *
 * Tasks of a plan: a task file out of an artifact, or a task in the plan, over the artifacts that there are.
 */
#include "run/host.h"

#include "base/strv.h"
#include "davit/task.h"
#include "step/pipeline.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LOG_MAX (UINT64_C(64) << 20) /* bytes of each stream: what is in the events is kept long */

struct task_leaf {
	struct davit_task *task;
	struct davit_artifact *artifacts;
	size_t n;
	char **env, **strings; /* strings: what artifacts borrow */
	char *root;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static void task_fini(struct leaf *l)
{
	struct task_leaf *t = l->state;

	davit_task_free(t->task);
	davit_strv_free(t->env);
	davit_strv_free(t->strings);
	free(t->artifacts);
	free(t->root);
	free(t);
}

static const char *text_of(const struct leaf *l, const char *key)
{
	return json_string_value(json_object_get(l->config, key));
}

static bool flag_of(const struct leaf *l, const char *key)
{
	return json_is_true(json_object_get(l->config, key));
}

/* A copy that lives as long as the leaf; or NULL. */
static const char *keep(struct task_leaf *t, const char *s)
{
	size_t n = davit_strv_len(t->strings);

	return davit_strv_add(&t->strings, s) < 0 ? NULL : t->strings[n];
}

/* ------------------------------------------------------------------------------ reading */

static const json_t *look_up(const void *from, const char *name, size_t len)
{
	return json_object_getn(from, name, len);
}

/* A file with ((vars)): as values, filled in. */
static int parse_with_vars(const struct davit_buf *text, const json_t *vars, struct davit_task **ret,
			   struct davit_error *err)
{
	struct davit_region region = {0};
	struct davit_tree_source source;
	struct davit_tree *tree = NULL;
	json_t *plain = NULL, *filled = NULL;
	DAVIT_AUTO_FREE char *out = NULL;
	int r = davit_tree_open(&source, davit_buf_str(text), text->len, err);

	if (r < 0)
		return r;
	r = davit_tree_next(&source, &region, &tree, err);
	if (r == 0)
		r = davit_error_set(err, DAVIT_EINVAL, NULL, "the task is empty");
	if (r > 0)
		r = davit_tree_json(tree, &plain, err);
	if (r == 0)
		r = davit_vars_fill(plain, "", look_up, vars, &filled, err);
	if (r == 0) {
		out = json_dumps(filled, JSON_COMPACT);
		r = out ? davit_task_parse(out, strlen(out), ret, err) : no_memory(err);
	}
	davit_tree_close(&source);
	davit_region_fini(&region);
	json_decref(plain);
	json_decref(filled);
	return r;
}

static int read_task(struct leaf *l, struct davit_task **ret, struct davit_error *err)
{
	const json_t *config = json_object_get(l->config, "config"),
		     *vars = json_object_get(l->config, "vars");
	const char *file = text_of(l, "file");
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *inline_text = NULL;
	int r;

	if (config) {
		inline_text = json_dumps(config, JSON_COMPACT);
		return inline_text ? davit_task_parse(inline_text, strlen(inline_text), ret, err)
				   : no_memory(err);
	}
	if (text_of(l, "text"))
		return davit_task_parse(text_of(l, "text"), strlen(text_of(l, "text")), ret, err);
	if (!file)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "the task needs config or file");
	r = host_read_file(l->host, file, &text, err);
	if (r < 0)
		return r;
	r = json_object_size(vars) ? parse_with_vars(&text, vars, ret, err)
				   : davit_task_parse(davit_buf_str(&text), text.len, ret, err);
	if (r < 0)
		davit_error_prefix(err, "%s", file);
	return r;
}

/* A param as text: maps and lists as JSON, null as nothing. */
static char *param_text(const json_t *v)
{
	return json_is_string(v) ? strdup(json_string_value(v))
	       : json_is_null(v) ? strdup("")
				 : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

static int make_env(struct leaf *l, struct davit_error *err)
{
	struct task_leaf *t = l->state;
	const char *name;
	json_t *v;
	int r = 0;

	for (size_t i = 0; r == 0 && i < t->task->n_params; i++)
		r = davit_strv_setenv(&t->env, t->task->params[i].name, t->task->params[i].value);
	json_object_foreach(json_object_get(l->config, "params"), name, v)
	{
		DAVIT_AUTO_FREE char *value = param_text(v);
		if (r == 0)
			r = value ? davit_strv_setenv(&t->env, name, value) : DAVIT_ENOMEM;
	}
	return r < 0 ? no_memory(err) : 0;
}

/* Limits of the step go before those of the task; the reader of tasks knows how they are written. */
static int add_limits(struct leaf *l, struct davit_step_limits *limits, struct davit_error *err)
{
	json_t *given = json_object_get(l->config, "container_limits"), *o;
	DAVIT_AUTO_FREE char *text = NULL;
	struct davit_task *t = NULL;
	int r;

	if (!given)
		return 0;
	o = json_pack("{s:{s:s},s:O}", "run", "path", "x", "container_limits", given);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	r = text ? davit_task_parse(text, strlen(text), &t, err) : no_memory(err);
	if (r < 0)
		return r;
	limits->cpu_millicores = t->cpu_millicores ? t->cpu_millicores : limits->cpu_millicores;
	limits->memory = t->memory ? t->memory : limits->memory;
	limits->pids = t->pids ? t->pids : limits->pids;
	davit_task_free(t);
	return 0;
}

/* ---------------------------------------------------------------------------- artifacts */

static const char *mapped(const struct leaf *l, const char *mapping, const char *name)
{
	const char *s = json_string_value(json_object_get(json_object_get(l->config, mapping), name));

	return s ? s : name;
}

static int check_inputs(struct leaf *l, struct davit_error *err)
{
	struct task_leaf *t = l->state;
	DAVIT_AUTO_FREE const char **names = calloc(t->task->n_inputs + 1, sizeof *names);
	size_t n = 0;

	if (!names)
		return no_memory(err);
	for (size_t i = 0; i < t->task->n_inputs; i++)
		if (host_artifact(l->host, mapped(l, "input_mapping", t->task->inputs[i].name)))
			names[n++] = t->task->inputs[i].name;
	return davit_task_check_inputs(t->task, names, n, err);
}

static int add_caches(struct leaf *l, struct davit_error *err)
{
	struct task_leaf *t = l->state;
	const char *scope = host_text(l->host, "scope");

	for (size_t i = 0; i < t->task->n_caches; i++) {
		DAVIT_AUTO_FREE char *location = NULL;
		const char *kept;

		if (asprintf(&location, "%s %s %s", scope ? scope : "run", l->name, t->task->caches[i].path) <
		    0)
			location = NULL;
		kept = location ? keep(t, location) : NULL;
		if (!kept)
			return no_memory(err);
		t->artifacts[t->n++] = (struct davit_artifact){
			.use = DAVIT_USE_CACHE, .location = kept, .path = t->task->caches[i].path};
	}
	return 0;
}

static int add_artifacts(struct leaf *l, struct davit_error *err)
{
	struct task_leaf *t = l->state;
	const struct davit_task *k = t->task;
	int r = check_inputs(l, err);

	t->artifacts = calloc(k->n_inputs + k->n_outputs + k->n_caches + 1, sizeof *t->artifacts);
	if (!t->artifacts)
		return no_memory(err);
	for (size_t i = 0; r == 0 && i < k->n_inputs; i++) {
		const struct davit_artifact_hold *hold =
			host_artifact(l->host, mapped(l, "input_mapping", k->inputs[i].name));

		if (hold)
			t->artifacts[t->n++] = (struct davit_artifact){.use = DAVIT_USE_INPUT,
								       .type = DAVIT_ARTIFACT_TREE,
								       .name = k->inputs[i].name,
								       .location = hold->id,
								       .path = k->inputs[i].path};
	}
	for (size_t i = 0; r == 0 && i < k->n_outputs; i++)
		t->artifacts[t->n++] = (struct davit_artifact){
			.use = DAVIT_USE_OUTPUT, .name = k->outputs[i].name, .path = k->outputs[i].path};
	return r < 0 ? r : add_caches(l, err);
}

/* An artifact as root: an unpacked image, which may have its files in "rootfs". */
static int root_of_artifact(struct leaf *l, const char *name, struct davit_artifact *image,
			    struct davit_error *err)
{
	const struct davit_artifact_hold *hold = host_artifact(l->host, name);
	struct task_leaf *t = l->state;
	DAVIT_AUTO_FREE char *path = NULL;
	struct stat st;

	if (!hold)
		return davit_error_set(err, DAVIT_ENOENT, "image",
				       "there is no artifact '%.64s' to be the image", name);
	path = davit_artifacts_path(l->host->store, hold);
	if (!path || asprintf(&t->root, "%s/rootfs", path) < 0)
		return t->root = NULL, no_memory(err);
	*image = lstat(t->root, &st) == 0 && S_ISDIR(st.st_mode)
			 ? (struct davit_artifact){.type = DAVIT_ARTIFACT_DIRECTORY, .location = t->root}
			 : (struct davit_artifact){.type = DAVIT_ARTIFACT_TREE, .location = hold->id};
	return 0;
}

/* What the step says counts before what the task says. */
static int find_root(struct leaf *l, struct davit_artifact *image, struct davit_error *err)
{
	struct task_leaf *t = l->state;
	const char *root = text_of(l, "rootfs"), *name = text_of(l, "image");

	if (name)
		return root_of_artifact(l, name, image, err);
	if (text_of(l, "image_name") || (!root && t->task->image)) {
		*image = (struct davit_artifact){
			.type = DAVIT_ARTIFACT_IMAGE,
			.location = text_of(l, "image_name") ? text_of(l, "image_name") : t->task->image};
		return 0;
	}
	if (!root && t->task->image_type)
		return davit_error_set(
			err, DAVIT_ENOTSUP, "image_resource",
			"this task wants an image of type '%s'; the types are registry-image and "
			"docker-image",
			t->task->image_type);
	root = root ? root : t->task->rootfs;
	if (!root || !strcmp(root, "host"))
		return 0;
	if (!strncmp(root, "artifact:", 9)) {
		*image = (struct davit_artifact){.type = DAVIT_ARTIFACT_TREE, .location = root + 9};
		return 0;
	}
	if (!strncmp(root, "raw://", 6))
		root += 6;
	if (root[0] != '/')
		return davit_error_set(err, DAVIT_EINVAL, "rootfs_uri",
				       "'%.200s': a root is raw://DIR, an absolute directory, or artifact:ID",
				       root);
	*image = (struct davit_artifact){.type = DAVIT_ARTIFACT_DIRECTORY, .location = root};
	return 0;
}

/* ------------------------------------------------------------------------------- ending */

static const char *tell_failure(const struct davit_result *r, char *buf, size_t size)
{
	const char *word = r->signo ? sigabbrev_np(r->signo) : NULL;

	if (r->out_of_memory)
		snprintf(buf, size, "it used more memory than its limit");
	else if (r->timed_out)
		snprintf(buf, size, "its time was over");
	else if (r->signo)
		snprintf(buf, size, "killed by signal %d (%s)", r->signo, word ? word : "?");
	else
		snprintf(buf, size, "exit status %d", r->exit_status);
	return buf;
}

static void task_done(struct leaf *l, const struct davit_result *r)
{
	static const enum davit_plan_outcome outcomes[] = {
		[DAVIT_OUTCOME_SUCCEEDED] = DAVIT_PLAN_SUCCEEDED,
		[DAVIT_OUTCOME_FAILED] = DAVIT_PLAN_FAILED,
		[DAVIT_OUTCOME_ERRORED] = DAVIT_PLAN_ERRORED,
		[DAVIT_OUTCOME_ABORTED] = DAVIT_PLAN_ABORTED,
	};
	const char *message = r->outcome == DAVIT_OUTCOME_ERRORED ? r->error.message : NULL;
	struct davit_error err;
	char buf[96];

	if (r->cached)
		leaf_note(l, "nothing was executed: this is the result of an earlier run");
	for (size_t i = 0; i < r->n_outputs; i++) {
		struct davit_artifact_hold hold = DAVIT_ARTIFACT_HOLD_INIT;

		/* A hold of the run's own: that of the result goes with the step. */
		if (davit_artifacts_find(l->host->store, r->outputs[i].tree.id, &hold, &err) < 0) {
			leaf_error(l, &err);
			return;
		}
		host_set_artifact(l->host, mapped(l, "output_mapping", r->outputs[i].name), &hold);
	}
	if (r->outcome == DAVIT_OUTCOME_FAILED)
		message = tell_failure(r, buf, sizeof buf);
	leaf_end(l, outcomes[r->outcome], message, NULL, r->exited ? r->exit_status : -1);
}

static int run_task(struct leaf *l, struct davit_error *err)
{
	struct task_leaf *t = l->state;
	struct davit_run_spec spec = {.privileged = flag_of(l, "privileged"),
				      .hermetic = flag_of(l, "hermetic"),
				      .cache = flag_of(l, "cache"),
				      .runtime = text_of(l, "runtime"),
				      .grace = json_integer_value(json_object_get(l->config, "grace")),
				      .log_max = LOG_MAX};
	int r = read_task(l, &t->task, err);

	if (r == 0)
		r = make_env(l, err);
	if (r == 0)
		r = add_artifacts(l, err);
	if (r == 0)
		r = find_root(l, &spec.image, err);
	if (r < 0)
		return r;
	spec.limits = (struct davit_step_limits){t->task->cpu_millicores, t->task->memory, t->task->pids};
	r = add_limits(l, &spec.limits, err);
	if (r < 0)
		return r;
	spec.path = t->task->run_path;
	spec.args = t->task->run_args;
	spec.env = t->env;
	spec.dir = t->task->run_dir;
	spec.user = t->task->run_user;
	leaf_execute(l, "", &spec, t->artifacts, t->n, task_done);
	return 0;
}

void task_start(struct leaf *l)
{
	struct davit_error err;

	l->state = calloc(1, sizeof(struct task_leaf));
	if (!l->state)
		host_die(l->host, "out of memory");
	l->fini = task_fini;
	if (!leaf_take_over(l, "", task_done) && run_task(l, &err) < 0)
		leaf_error(l, &err);
}
