/* SPDX-License-Identifier: MIT
 *
 * Work that blocks, on libuv's threads. The jobs of one id follow each other in the
 * order in which they were started, so that making and taking away never meet.
 */
#include "runtime/oci/impl.h"

#include <stdio.h>
#include <string.h>

struct oci_job *oci_job_new(struct oci_runtime *o, const char *id)
{
	struct oci_job *j = calloc(1, sizeof *j);

	if (!j)
		return NULL;
	j->o = o;
	j->place = o->place;
	j->place->references++;
	davit_list_init(&j->list);
	snprintf(j->id, sizeof j->id, "%s", id);
	return j;
}

void oci_job_free(struct oci_job *j)
{
	oci_place_drop(j->place);
	davit_list_remove(&j->list);
	if (j->dispose)
		j->dispose(j->argument);
	free(j->workload);
	free(j);
}

static bool waits(const struct oci_job *j)
{
	const struct oci_job *other;

	DAVIT_LIST_FOREACH (other, &j->o->jobs, list) {
		if (other == j)
			return false;
		if (!strcmp(other->id, j->id))
			return true;
	}
	return false;
}

static void on_work(uv_work_t *w)
{
	struct oci_job *j = DAVIT_CONTAINER_OF(w, struct oci_job, work);

	j->run(j);
}

static void run(struct oci_job *j);

static void run_next(struct oci_runtime *o, const char *id)
{
	struct oci_job *j, *tmp;

	DAVIT_LIST_FOREACH_SAFE (j, tmp, &o->jobs, list)
		if (!j->running && !strcmp(j->id, id) && !waits(j)) {
			run(j);
			return;
		}
}

static void on_done(uv_work_t *w, int status)
{
	struct oci_job *j = DAVIT_CONTAINER_OF(w, struct oci_job, work);
	struct oci_runtime *o = j->o;

	(void)status; /* nothing is ever cancelled */
	davit_list_remove(&j->list);
	if (o) {
		run_next(o, j->id);
		j->done(j);
	}
	oci_job_free(j);
}

static void run(struct oci_job *j)
{
	j->running = true;
	uv_queue_work(davit_loop_uv(j->o->local.rt->loop), &j->work, on_work, on_done);
}

void oci_job_start(struct oci_job *j)
{
	davit_list_add_tail(&j->o->jobs, &j->list);
	if (!waits(j))
		run(j);
}

void oci_jobs_close(struct oci_runtime *o)
{
	struct oci_job *j, *tmp;

	DAVIT_LIST_FOREACH_SAFE (j, tmp, &o->jobs, list) {
		davit_list_remove(&j->list);
		if (j->op)
			davit_op_fail(DAVIT_TAKE(j->op), DAVIT_ECLOSED, o->local.rt->name,
				      "the runtime was closed");
		j->o = NULL;
		if (!j->running)
			oci_job_free(j);
	}
}
