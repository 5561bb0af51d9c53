/* SPDX-License-Identifier: MIT
 *
 * Resources in a plan: check, get and put. Programs of a type that is a directory are steps on the host as it
 * is, with the rights of who runs the plan (docs/resources.md); those of one that is an image are steps in
 * that. What a get has fetched is kept by the store of artifacts; a file
 * says under its key which tree that is, and the lock of another that somebody fetches it just now.
 *
 *   check:  check
 *   get:    [check], then what is kept, or: in, take into the store
 *   put:    gather inputs, out, then as a get of what was made
 */
#include "run/host.h"

#include "base/file.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define KEPT_MAX ((size_t)1 << 20)
#define LOOK_EVERY (INT64_C(50) * 1000000) /* ns, while another run fetches */
#define LOG_MAX (UINT64_C(64) << 20)

struct fetch {
	struct leaf *leaf;
	struct davit_artifact_hold type, tree;
	const char *image; /* the type is this image; or NULL: a tree */
	struct davit_artifact *artifacts;
	struct davit_artifact_hold *inputs; /* of a put */
	char **names, **paths;		    /* of these; in an image where they are */
	size_t n;
	char *type_path, *home, *dest, *src, *work;
	json_t *version, *params, *metadata;
	char key[DAVIT_GET_KEY_MAX], *kept, *locked;
	int lock;
	struct davit_get get;
	struct davit_timer look;
	struct davit_resource_call call;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static void fetch_fini(struct leaf *l)
{
	struct fetch *f = l->state;

	davit_timer_stop(&f->look);
	davit_artifact_release(&f->type);
	davit_artifact_release(&f->tree);
	for (size_t i = 0; f->inputs && i < f->n; i++)
		davit_artifact_release(&f->inputs[i]);
	free(f->inputs);
	free(f->artifacts);
	davit_strv_free(f->names);
	davit_strv_free(f->paths);
	json_decref(f->version);
	json_decref(f->params);
	json_decref(f->metadata);
	if (f->lock >= 0)
		close(f->lock);
	free(f->type_path);
	free(f->home);
	free(f->dest);
	free(f->src);
	free(f->work);
	free(f->kept);
	free(f->locked);
	free(f);
}

/* The end of the leaf, whatever it waited for. */
static void finish(struct leaf *l, enum davit_plan_outcome outcome, const char *message)
{
	struct fetch *f = l->state;

	davit_timer_stop(&f->look);
	davit_get_leave(&f->get);
	if (f->lock >= 0)
		close(f->lock);
	f->lock = -1;
	leaf_end(l, outcome, message, NULL, -1);
}

static void fail(struct leaf *l, const struct davit_error *err)
{
	finish(l, l->aborted ? DAVIT_PLAN_ABORTED : DAVIT_PLAN_ERRORED, err->message);
}

/* -------------------------------------------------------------------------------- the type */

/* "resource_type": {"tree": ID}, or {"image": NAME}. */
static int find_type(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	const json_t *type = json_object_get(l->config, "resource_type");
	const char *tree = json_string_value(json_object_get(type, "tree")),
		   *word = json_string_value(json_object_get(json_object_get(l->config, "resource"), "type"));
	int r;

	f->image = json_string_value(json_object_get(type, "image"));
	if (f->image) {
		f->type_path = strdup("/opt/resource");
		return f->type_path ? 0 : no_memory(err);
	}
	if (!tree)
		return davit_error_set(err, DAVIT_EINVAL, "resource_type",
				       "the resource type '%.64s' is neither a tree nor an image",
				       word ? word : "");
	r = davit_artifacts_find(l->host->store, tree, &f->type, err);
	if (r < 0)
		return r;
	f->type_path = davit_artifacts_path(l->host->store, &f->type);
	return f->type_path ? 0 : no_memory(err);
}

static int make_paths(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	char name[STEP_NAME_MAX];

	leaf_step_name(l, "work", name);
	f->work = davit_path_join(l->host->work, name);
	if (!f->work || asprintf(&f->home, "%s/home", f->work) < 0)
		return f->home = NULL, no_memory(err);
	if (asprintf(&f->dest, "%s/get", f->image ? DAVIT_STEP_BASE : f->work) < 0)
		return f->dest = NULL, no_memory(err);
	if (asprintf(&f->src, "%s/put", f->image ? DAVIT_STEP_BASE : f->work) < 0)
		return f->src = NULL, no_memory(err);
	return 0;
}

static int begin(struct leaf *l)
{
	struct fetch *f = calloc(1, sizeof *f);
	struct davit_error err;
	int r;

	if (!f)
		host_die(l->host, "out of memory");
	f->leaf = l;
	f->type.fd = f->tree.fd = f->lock = -1;
	l->state = f;
	l->fini = fetch_fini;
	l->silent[DAVIT_STEP_OUT] = true;
	davit_timer_init(&f->look, l->host->loop, NULL);
	r = find_type(l, &err);
	if (r == 0)
		r = make_paths(l, &err);
	if (r < 0)
		leaf_error(l, &err);
	return r;
}

/* -------------------------------------------------------------------------------- programs */

static int fill_call(struct leaf *l, enum davit_resource_action action, struct davit_error *err)
{
	struct fetch *f = l->state;
	const struct davit_resource_spec spec = {
		.action = action,
		.type = f->type_path,
		.inside = f->image != NULL,
		.source = json_object_get(json_object_get(l->config, "resource"), "source"),
		.version = f->version,
		.params = f->params,
		.directory = action == DAVIT_RESOURCE_OUT ? f->src : f->dest,
		.build = {.id = l->host->id,
			  .name = l->host->id,
			  .job = host_text(l->host, "job"),
			  .pipeline = host_text(l->host, "pipeline"),
			  .team = "main"},
	};
	int r = 0;

	if (f->image)
		return davit_resource_prepare(&spec, DAVIT_STEP_BASE, &f->call, err);
	davit_remove_tree(f->home, NULL);
	if (action == DAVIT_RESOURCE_IN)
		davit_remove_tree(f->dest, NULL);
	r = davit_mkdirs(f->home, 0700, err);
	if (r == 0 && action == DAVIT_RESOURCE_IN)
		r = davit_mkdirs(f->dest, 0755, err);
	return r < 0 ? r : davit_resource_prepare(&spec, f->home, &f->call, err);
}

/* Of a step in an image: the directory of a get, or that of a put with the inputs in it, which it may change.
 */
static int make_artifacts(struct fetch *f, enum davit_resource_action action, size_t *ret,
			  struct davit_error *err)
{
	size_t n = 0;

	*ret = 0;
	if (!f->image || action == DAVIT_RESOURCE_CHECK)
		return 0;
	free(f->artifacts);
	f->artifacts = calloc(f->n + 1, sizeof *f->artifacts);
	if (!f->artifacts)
		return no_memory(err);
	f->artifacts[n++] = (struct davit_artifact){.use = DAVIT_USE_OUTPUT,
						    .name = action == DAVIT_RESOURCE_IN ? "get" : "put"};
	for (size_t i = 0; action == DAVIT_RESOURCE_OUT && i < f->n; i++)
		f->artifacts[n++] = (struct davit_artifact){.use = DAVIT_USE_INPUT,
							    .type = DAVIT_ARTIFACT_TREE,
							    .name = f->names[i],
							    .location = f->inputs[i].id,
							    .path = f->paths[i]};
	*ret = n;
	return 0;
}

static void run_program(struct leaf *l, enum davit_resource_action action,
			void (*done)(struct leaf *l, const struct davit_result *r))
{
	struct fetch *f = l->state;
	const char *what = davit_resource_action_name(action);
	struct davit_run_spec spec = {.plain = !f->image, .log_max = LOG_MAX};
	struct davit_error err;
	size_t n = 0;

	if (leaf_take_over(l, what, done))
		return;
	if (make_artifacts(f, action, &n, &err) < 0 || fill_call(l, action, &err) < 0) {
		fail(l, &err);
		return;
	}
	spec.path = f->call.path;
	spec.args = (char *[]){(char *)(uintptr_t)f->call.arg, NULL};
	spec.env = f->call.env;
	spec.dir = f->call.dir;
	spec.input = f->call.request.data;
	spec.input_len = f->call.request.len;
	if (f->image)
		spec.image = (struct davit_artifact){.type = DAVIT_ARTIFACT_IMAGE, .location = f->image};
	leaf_execute(l, what, &spec, f->artifacts, n, done);
	davit_resource_call_fini(&f->call);
}

/* Did the program do what it is for? If not, the leaf has ended. Its answer is appended to out. */
static bool succeeded(struct leaf *l, const struct davit_result *r, struct davit_buf *out)
{
	struct davit_error err;
	char text[160];

	if (r->outcome == DAVIT_OUTCOME_SUCCEEDED) {
		if (leaf_read_stream(l, DAVIT_STEP_OUT, DAVIT_RESOURCE_OUTPUT_MAX, out, &err) == 0)
			return true;
		davit_error_prefix(&err, "%s", l->part);
		fail(l, &err);
		return false;
	}
	if (r->signo)
		snprintf(text, sizeof text, "%s was ended by the signal %d", l->part, r->signo);
	else
		snprintf(text, sizeof text, "%s failed with the exit status %d", l->part, r->exit_status);
	finish(l,
	       r->outcome == DAVIT_OUTCOME_ABORTED  ? DAVIT_PLAN_ABORTED
	       : r->outcome == DAVIT_OUTCOME_FAILED ? DAVIT_PLAN_FAILED
						    : DAVIT_PLAN_ERRORED,
	       r->outcome == DAVIT_OUTCOME_ERRORED ? r->error.message : text);
	return false;
}

/* ---------------------------------------------------------------------------------- check */

static void tell_version(struct leaf *l, const json_t *version, const json_t *metadata, bool cached)
{
	struct davit_json *j = events_begin(&l->host->events, "version", l->key);
	DAVIT_AUTO_FREE char *v = json_dumps(version, JSON_COMPACT);
	DAVIT_AUTO_FREE char *m = metadata ? json_dumps(metadata, JSON_COMPACT) : NULL;

	if (v) {
		davit_json_key(j, "version");
		davit_json_raw(j, v);
	}
	if (m) {
		davit_json_key(j, "metadata");
		davit_json_raw(j, m);
	}
	if (cached)
		davit_json_put_bool(j, "cached", true);
	events_end(&l->host->events);
}

/* The versions that check found, owned; NULL when the leaf has ended. */
static json_t *read_versions(struct leaf *l, const struct davit_result *r)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_error err;
	json_t *all = NULL;

	if (!succeeded(l, r, &out))
		return NULL;
	if (davit_resource_read_versions(davit_buf_str(&out), out.len, &all, &err) == 0)
		return all;
	davit_error_prefix(&err, "check");
	fail(l, &err);
	return NULL;
}

static void check_done(struct leaf *l, const struct davit_result *r)
{
	json_t *all = read_versions(l, r), *v;
	size_t i;

	if (!all)
		return;
	json_array_foreach(all, i, v) tell_version(l, v, NULL, false);
	json_decref(all);
	finish(l, DAVIT_PLAN_SUCCEEDED, NULL);
}

void check_start(struct leaf *l)
{
	struct fetch *f;

	if (begin(l) < 0)
		return;
	f = l->state;
	f->version = json_incref(json_object_get(l->config, "version"));
	run_program(l, DAVIT_RESOURCE_CHECK, check_done);
}

/* ------------------------------------------------------------------------------ what is kept */

/* Gives the leaf's name to the tree, and ends it. */
static void use_tree(struct leaf *l, bool cached)
{
	struct fetch *f = l->state;

	tell_version(l, f->version, f->metadata, cached);
	host_set_artifact(l->host, l->name, &f->tree);
	finish(l, DAVIT_PLAN_SUCCEEDED, NULL);
}

/* Is it kept? Then f->tree is held. */
static bool find_kept(struct leaf *l)
{
	struct fetch *f = l->state;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	json_t *o, *version;
	const char *tree;
	bool found;

	if (davit_read_file(f->kept, KEPT_MAX, &b, NULL) < 0)
		return false;
	o = json_loadb(davit_buf_str(&b), b.len, 0, NULL);
	tree = json_string_value(json_object_get(o, "tree"));
	version = json_object_get(o, "version");
	found = tree && version && davit_artifacts_find(l->host->store, tree, &f->tree, NULL) == 0;
	if (found) {
		json_decref(f->version);
		f->version = json_incref(version);
		f->metadata = json_incref(json_object_get(o, "metadata"));
	}
	json_decref(o);
	return found;
}

static int write_kept(struct fetch *f, struct davit_error *err)
{
	json_t *o = json_pack("{s:s,s:O,s:O}", "tree", f->tree.id, "version", f->version, "metadata",
			      f->metadata);
	DAVIT_AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	return text ? davit_write_volatile_file(f->kept, text, strlen(text), 0600, err) : no_memory(err);
}

static int take_tree(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	int r = f->image ? 0 : davit_artifacts_put_directory(l->host->store, f->dest, NULL, &f->tree, err);

	if (r == 0)
		r = write_kept(f, err);
	davit_remove_tree(f->work, NULL);
	return r;
}

static void tree_taken(struct leaf *l, int r)
{
	struct fetch *f = l->state;

	if (r < 0) {
		fail(l, &l->error);
		return;
	}
	close(f->lock);
	f->lock = -1;
	davit_get_fetched(&f->get);
	use_tree(l, false);
}

static void in_done(struct leaf *l, const struct davit_result *r)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct fetch *f = l->state;
	json_t *version = NULL;
	struct davit_error err;

	if (!succeeded(l, r, &out))
		return;
	if (davit_resource_read_result(davit_buf_str(&out), out.len, &version, &f->metadata, &err) < 0) {
		davit_error_prefix(&err, "in");
		fail(l, &err);
		return;
	}
	json_decref(f->version);
	f->version = version;
	if (f->image && r->n_outputs &&
	    davit_artifacts_find(l->host->store, r->outputs[0].tree.id, &f->tree, &err) < 0) {
		fail(l, &err);
		return;
	}
	leaf_work(l, take_tree, tree_taken);
}

/* ---------------------------------------------------------------------- one fetch for all */

static void try_to_fetch(struct davit_timer *t)
{
	struct fetch *f = DAVIT_CONTAINER_OF(t, struct fetch, look);
	struct flock lock = {.l_type = F_WRLCK};

	/* Another run may have it: its lock goes with its host, whatever becomes of that. */
	if (fcntl(f->lock, F_OFD_SETLK, &lock) < 0) {
		davit_timer_start(&f->look, LOOK_EVERY);
		return;
	}
	if (find_kept(f->leaf)) {
		davit_get_fetched(&f->get);
		use_tree(f->leaf, true);
		return;
	}
	run_program(f->leaf, DAVIT_RESOURCE_IN, in_done);
}

static void on_turn(struct davit_get *g)
{
	struct fetch *f = DAVIT_CONTAINER_OF(g, struct fetch, get);
	struct davit_error err;

	f->lock = open(f->locked, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->lock < 0) {
		davit_error_errno(&err, errno, NULL, "cannot open %s", f->locked);
		fail(f->leaf, &err);
		return;
	}
	davit_timer_init(&f->look, f->leaf->host->loop, try_to_fetch);
	/* Not from within: who is asked now may be the next of those who asked before. */
	davit_timer_start(&f->look, 0);
}

static void on_fetched(struct davit_get *g)
{
	struct fetch *f = DAVIT_CONTAINER_OF(g, struct fetch, get);
	struct davit_error err;

	if (find_kept(f->leaf)) {
		use_tree(f->leaf, true);
		return;
	}
	davit_error_set(&err, DAVIT_EIO, NULL, "what another step has fetched is not there any more");
	fail(f->leaf, &err);
}

static void on_get_abort(struct leaf *l)
{
	finish(l, DAVIT_PLAN_ABORTED, NULL);
}

static int name_files(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	DAVIT_AUTO_FREE char *dir = davit_path_join(l->host->paths.cache, "gets");
	int r = dir ? davit_mkdirs(dir, 0700, err) : no_memory(err);

	if (r == 0)
		r = davit_get_key(f->type.id,
				  json_object_get(json_object_get(l->config, "resource"), "source"),
				  f->version, f->params, f->key, err);
	if (r < 0)
		return r;
	if (asprintf(&f->kept, "%s/%s", dir, f->key) < 0)
		return f->kept = NULL, no_memory(err);
	if (asprintf(&f->locked, "%s/%s.lock", dir, f->key) < 0)
		return f->locked = NULL, no_memory(err);
	return 0;
}

/* f->version and f->params are known. */
static void fetch(struct leaf *l)
{
	struct fetch *f = l->state;
	struct davit_error err;
	int r = davit_resource_check_version(f->version, &err);

	if (r == 0)
		r = name_files(l, &err);
	l->on_abort = on_get_abort;
	f->get = (struct davit_get){.fetch = on_turn, .fetched = on_fetched};
	if (r == 0)
		r = davit_get_ask(&l->host->gets, f->key, &f->get, &err);
	if (r < 0)
		fail(l, &err);
}

/* ------------------------------------------------------------------------------------ get */

static void newest_known(struct leaf *l, const struct davit_result *r)
{
	struct fetch *f = l->state;
	json_t *all = read_versions(l, r);
	struct davit_error err;

	if (!all)
		return;
	if (!json_array_size(all)) {
		json_decref(all);
		davit_error_set(&err, DAVIT_ENOENT, NULL, "check found no version");
		fail(l, &err);
		return;
	}
	f->version = json_incref(json_array_get(all, json_array_size(all) - 1));
	json_decref(all);
	fetch(l);
}

/* What the user has given takes the place of what would be fetched. */
static bool use_given(struct leaf *l)
{
	const char *tree =
		json_string_value(json_object_get(json_object_get(l->host->about, "inputs"), l->name));
	struct davit_artifact_hold hold = DAVIT_ARTIFACT_HOLD_INIT;
	struct davit_error err;

	if (!tree)
		return false;
	if (davit_artifacts_find(l->host->store, tree, &hold, &err) < 0) {
		leaf_error(l, &err);
		return true;
	}
	leaf_note(l, "not fetched: the input '%s' was given", l->name);
	host_set_artifact(l->host, l->name, &hold);
	leaf_end(l, DAVIT_PLAN_SUCCEEDED, NULL, NULL, -1);
	return true;
}

void get_start(struct leaf *l)
{
	const json_t *resource = json_object_get(l->config, "resource");
	json_t *version = json_object_get(l->config, "version");
	struct fetch *f;

	if (use_given(l) || begin(l) < 0)
		return;
	f = l->state;
	f->params = json_incref(json_object_get(l->config, "params"));
	if (!json_is_object(version))
		version = json_object_get(resource, "version");
	if (json_is_object(version)) {
		f->version = json_incref(version);
		fetch(l);
		return;
	}
	run_program(l, DAVIT_RESOURCE_CHECK, newest_known);
}

/* ------------------------------------------------------------------------------------ put */

static void out_done(struct leaf *l, const struct davit_result *r)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct fetch *f = l->state;
	json_t *metadata = NULL;
	struct davit_error err;

	if (!succeeded(l, r, &out))
		return;
	if (davit_resource_read_result(davit_buf_str(&out), out.len, &f->version, &metadata, &err) < 0) {
		davit_error_prefix(&err, "out");
		fail(l, &err);
		return;
	}
	tell_version(l, f->version, metadata, false);
	json_decref(metadata);
	json_decref(f->params);
	f->params = json_incref(json_object_get(l->config, "get_params"));
	if (json_is_true(json_object_get(l->config, "no_get")))
		finish(l, DAVIT_PLAN_SUCCEEDED, NULL);
	else
		fetch(l);
}

/* In a thread: copies, for the program may change them. */
static int gather(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	int r;

	davit_remove_tree(f->src, NULL);
	r = davit_mkdirs(f->src, 0755, err);
	for (size_t i = 0; r == 0 && i < f->n; i++) {
		DAVIT_AUTO_FREE char *to = davit_path_join(f->src, f->names[i]);
		r = to ? davit_artifacts_get_directory(l->host->store, &f->inputs[i], to, err)
		       : no_memory(err);
	}
	return r;
}

static void gathered(struct leaf *l, int r)
{
	if (r < 0)
		fail(l, &l->error);
	else
		run_program(l, DAVIT_RESOURCE_OUT, out_done);
}

static int choose_inputs(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	DAVIT_AUTO_FREE const char **names = NULL;
	struct artifact *a;
	size_t n = 0;
	int r;

	DAVIT_LIST_FOREACH (a, &l->host->artifacts, list)
		n++;
	names = calloc(n + 1, sizeof *names);
	if (!names)
		return no_memory(err);
	n = 0;
	DAVIT_LIST_FOREACH (a, &l->host->artifacts, list)
		names[n++] = a->name;
	r = davit_put_inputs(json_object_get(l->config, "inputs"), f->params, names, n, &f->names, err);
	if (r < 0)
		return r;
	f->inputs = calloc(davit_strv_len(f->names) + 1, sizeof *f->inputs);
	if (!f->inputs)
		return no_memory(err);
	for (char **name = f->names; r == 0 && name && *name; name++) {
		DAVIT_AUTO_FREE char *path = davit_path_join("put", *name);
		if (!path || davit_strv_add(&f->paths, path) < 0)
			return no_memory(err);
		f->inputs[f->n] = (struct davit_artifact_hold)DAVIT_ARTIFACT_HOLD_INIT;
		r = davit_artifacts_find(l->host->store, host_artifact(l->host, *name)->id,
					 &f->inputs[f->n++], err);
	}
	return r;
}

void put_start(struct leaf *l)
{
	struct davit_error err;
	struct fetch *f;

	if (begin(l) < 0)
		return;
	f = l->state;
	f->params = json_incref(json_object_get(l->config, "params"));
	if (leaf_take_over(l, "out", out_done))
		return;
	if (choose_inputs(l, &err) < 0)
		fail(l, &err);
	else if (f->image)
		run_program(l, DAVIT_RESOURCE_OUT, out_done);
	else
		leaf_work(l, gather, gathered);
}
