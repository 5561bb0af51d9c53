/* SPDX-License-Identifier: MIT
 *
 * Resources in a plan: check, get and put, each a chain of programs (resource.c). What a get has fetched is
 * kept by the store of artifacts, with a note under its key that says which tree that is; a lock says that
 * somebody fetches it just now.
 *
 *   check:  check
 *   get:    [check], then what is kept, or: in, take into the store
 *   put:    gather inputs, out, then as a get of what was made
 */
#include "run/fetch.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define LOCK_DIGITS 2 /* of the key: so many locks are there at most, and one serves several keys */
#define LOOK_EVERY (INT64_C(50) * 1000000) /* ns, while another run fetches */

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
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

	if (!fetch_succeeded(l, r, &out))
		return NULL;
	if (davit_resource_read_versions(davit_buf_str(&out), out.len, &all, &err) == 0)
		return all;
	davit_error_prefix(&err, "check");
	fetch_fail(l, &err);
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
	fetch_finish(l, DAVIT_PLAN_SUCCEEDED, NULL);
}

void check_start(struct leaf *l)
{
	struct fetch *f;

	if (fetch_begin(l) < 0)
		return;
	f = l->state;
	f->version = json_incref(json_object_get(l->config, "version"));
	fetch_run(l, DAVIT_RESOURCE_CHECK, check_done);
}

/* ------------------------------------------------------------------------------ what is kept */

/* Gives the leaf's name to the tree, and ends it. */
static void use_tree(struct leaf *l, bool cached)
{
	struct fetch *f = l->state;

	tell_version(l, f->version, f->metadata, cached);
	host_set_artifact(l->host, l->name, &f->tree);
	fetch_finish(l, DAVIT_PLAN_SUCCEEDED, NULL);
}

/* Is it kept? Then f->tree is held. */
static bool find_kept(struct leaf *l)
{
	struct fetch *f = l->state;
	DAVIT_AUTO_FREE char *text = malloc(DAVIT_ARTIFACTS_NOTE_MAX + 1);
	json_t *o, *version;
	const char *tree;
	bool found;

	if (!text ||
	    davit_artifacts_noted(l->host->store, f->key, text, DAVIT_ARTIFACTS_NOTE_MAX + 1, NULL) < 0)
		return false;
	o = json_loads(text, 0, NULL);
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

static int write_kept(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	json_t *o = json_pack("{s:s,s:O,s:O}", "tree", f->tree.id, "version", f->version, "metadata",
			      f->metadata);
	DAVIT_AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	if (text && strlen(text) > DAVIT_ARTIFACTS_NOTE_MAX) { /* who comes later does without */
		json_object_set_new(o, "metadata", json_array());
		free(text);
		text = json_dumps(o, JSON_COMPACT);
	}
	json_decref(o);
	return text ? davit_artifacts_note(l->host->store, f->key, text, strlen(text), err) : no_memory(err);
}

static int take_tree(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	/* A copy: a host that dies before it has written down what it took is followed by one that
	 * takes it again. */
	int r = f->image ? 0 : davit_artifacts_put_directory(l->host->store, f->dest, NULL, &f->tree, err);

	if (r == 0)
		r = write_kept(l, err);
	davit_remove_tree(f->work, NULL);
	return r;
}

static void tree_taken(struct leaf *l, int r)
{
	struct fetch *f = l->state;

	if (r < 0) {
		fetch_fail(l, &l->error);
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

	if (!fetch_succeeded(l, r, &out))
		return;
	if (davit_resource_read_result(davit_buf_str(&out), out.len, &version, &f->metadata, &err) < 0) {
		davit_error_prefix(&err, "in");
		fetch_fail(l, &err);
		return;
	}
	json_decref(f->version);
	f->version = version;
	if (f->image && r->n_outputs &&
	    davit_artifacts_find(l->host->store, r->outputs[0].tree.id, &f->tree, &err) < 0) {
		fetch_fail(l, &err);
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
	fetch_run(f->leaf, DAVIT_RESOURCE_IN, in_done);
}

static void on_turn(struct davit_get *g)
{
	struct fetch *f = DAVIT_CONTAINER_OF(g, struct fetch, get);
	struct davit_error err;

	f->lock = open(f->locked, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->lock < 0) {
		davit_error_errno(&err, errno, NULL, "cannot open %s", f->locked);
		fetch_fail(f->leaf, &err);
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
	fetch_fail(f->leaf, &err);
}

static void on_get_abort(struct leaf *l)
{
	fetch_finish(l, DAVIT_PLAN_ABORTED, NULL);
}

static int name_lock(struct leaf *l, struct davit_error *err)
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
	if (asprintf(&f->locked, "%s/%.*s", dir, LOCK_DIGITS, f->key) < 0)
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
		r = name_lock(l, &err);
	l->on_abort = on_get_abort;
	f->get = (struct davit_get){.fetch = on_turn, .fetched = on_fetched};
	if (r == 0)
		r = davit_get_ask(&l->host->gets, f->key, &f->get, &err);
	if (r < 0)
		fetch_fail(l, &err);
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
		fetch_fail(l, &err);
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

	if (use_given(l) || fetch_begin(l) < 0)
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
	fetch_run(l, DAVIT_RESOURCE_CHECK, newest_known);
}

/* ------------------------------------------------------------------------------------ put */

static void out_done(struct leaf *l, const struct davit_result *r)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct fetch *f = l->state;
	json_t *metadata = NULL;
	struct davit_error err;

	if (!fetch_succeeded(l, r, &out))
		return;
	if (davit_resource_read_result(davit_buf_str(&out), out.len, &f->version, &metadata, &err) < 0) {
		davit_error_prefix(&err, "out");
		fetch_fail(l, &err);
		return;
	}
	tell_version(l, f->version, metadata, false);
	json_decref(metadata);
	json_decref(f->params);
	f->params = json_incref(json_object_get(l->config, "get_params"));
	if (json_is_true(json_object_get(l->config, "no_get")))
		fetch_finish(l, DAVIT_PLAN_SUCCEEDED, NULL);
	else
		fetch(l);
}

static void gathered(struct leaf *l, int r)
{
	if (r < 0)
		fetch_fail(l, &l->error);
	else
		fetch_run(l, DAVIT_RESOURCE_OUT, out_done);
}

void put_start(struct leaf *l)
{
	struct davit_error err;
	struct fetch *f;

	if (fetch_begin(l) < 0)
		return;
	f = l->state;
	f->params = json_incref(json_object_get(l->config, "params"));
	if (leaf_take_over(l, "out", out_done))
		return;
	if (fetch_choose_inputs(l, &err) < 0)
		fetch_fail(l, &err);
	else if (f->image)
		fetch_run(l, DAVIT_RESOURCE_OUT, out_done);
	else
		leaf_work(l, fetch_gather, gathered);
}
