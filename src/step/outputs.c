/* SPDX-License-Identifier: MIT
 *
 * After a step: what it made goes into the store, and its caches are measured.
 */
#include "step/execution.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int take_output(struct davit_execution *x, size_t i, struct davit_error *err)
{
	const struct step_output *o = &x->outputs[i];
	struct davit_output *to = &x->result.outputs[x->result.n_outputs];
	int r;

	to->tree = (struct davit_artifact_hold)DAVIT_ARTIFACT_HOLD_INIT;
	to->name = strdup(o->name);
	if (!to->name)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	x->result.n_outputs++;
	r = x->durable ? step_adopt_again(x, i, &to->tree, err)
		       : davit_artifacts_adopt(x->store, o->directory, &to->tree, err);
	if (r < 0)
		davit_error_prefix(err, "the output '%s' cannot be kept", o->name);
	return r;
}

static int measure_cache(struct davit_execution *x, const struct step_cache *c, struct davit_error *err)
{
	char path[STEP_KEY_MAX + 24];
	struct step_tree t = {0};
	struct step_meta m;
	DAVIT_AUTO_CLOSE int fd = -1;
	uint64_t before;
	int r;

	snprintf(path, sizeof path, "caches/%s/fs", c->key);
	fd = openat(x->store->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open a cache");
	r = step_tree_scan(fd, false, &t, err);
	if (r == 0)
		r = step_store_lock(x->store, err);
	if (r < 0)
		goto out;
	step_meta_read(c->fd, &m);
	before = m.bytes;
	m.bytes = t.bytes;
	m.entries = t.n;
	r = step_meta_write(c->fd, &m, err);
	if (r == 0)
		step_total_add(x->store, (int64_t)(t.bytes - before));
	step_store_unlock(x->store);
out:
	step_tree_fini(&t);
	return r;
}

/* A cache that has grown can have made the store too large; in use are only what this step has. */
static int keep_below_ceiling(struct davit_execution *x, struct davit_error *err)
{
	uint64_t total = 0;
	int r = step_store_lock(x->store, err);

	if (r < 0)
		return r;
	total = step_total(x->store);
	step_store_unlock(x->store);
	return total > x->store->ceiling
		       ? davit_artifacts_collect(x->store, x->store->ceiling, NULL, NULL, NULL, err)
		       : 0;
}

int step_take_outputs(struct davit_execution *x, struct davit_error *err)
{
	int r = 0;

	if (x->result.outcome == DAVIT_OUTCOME_ERRORED || x->end.kind == STEP_FAILED)
		return 0;
	x->result.outputs = calloc(x->n_outputs + 1, sizeof *x->result.outputs);
	if (!x->result.outputs)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (size_t i = 0; r == 0 && i < x->n_outputs; i++)
		r = take_output(x, i, err);
	for (size_t i = 0; r == 0 && i < x->n_caches; i++) {
		if (x->caches[i].fd < 0)
			continue;
		r = measure_cache(x, &x->caches[i], err);
		close(x->caches[i].fd);
		x->caches[i].fd = -1;
	}
	if (r == 0 && x->n_caches)
		r = keep_below_ceiling(x, err);
	return r;
}
