/* SPDX-License-Identifier: MIT
 *
 * A pool that survives its workers. They fail on purpose, before or after they have
 * worked; Main/pool restarts them and gives their job out again. A job counts when its
 * result arrives, which it does once: none is lost, and none is done twice.
 */
#include "davit/container.h"

#include <inttypes.h>
#include <stdio.h>

enum { WORKERS = 4, JOBS = 100 };
enum { RUN = 1, WORK }; /* types of messages */

struct job {
	int number, tries;
};

/* --- a worker: sums up 1 to its job's number, if it lives so long --- */

static int work(struct davit_context *c, struct davit_message *m)
{
	const struct job *job = (const struct job *)m->data;
	bool fails = job->number % 7 == 0 && job->tries <= 1 + (job->number % 35 == 0);
	uint64_t sum = 0;

	if (fails && job->number % 2)
		return davit_fail(c, DAVIT_EIO, "job %d: the worker fails before it has begun", job->number);
	for (int i = 1; i <= job->number; i++)
		sum += (uint64_t)i;
	if (fails)
		return davit_fail(c, DAVIT_EIO, "job %d: the worker fails before it has answered",
				  job->number);
	return davit_reply(c, m, &sum, sizeof sum);
}

static const struct davit_definition worker = {.name = "Worker", .behaviour = work};

/* --- the pool: one job at a time for each worker --- */

struct pool {
	struct davit_message *run; /* who waits for all of it */
	struct {
		struct davit_ref ref;
		struct job job;
	} workers[WORKERS];
	int next; /* job to be given out */
	int done;
	uint64_t results[JOBS];
};

static void on_result(struct davit_context *c, const struct davit_outcome *o, void *arg);

static int give(struct davit_context *c, struct pool *p, intptr_t w)
{
	/* No timeout: the end of a worker rejects the promise at once, and giving a job
	 * out again while somebody may still be at it would do it twice. */
	static const struct davit_request_options options = {.timeout = -1};
	struct davit_promise result;
	int r;

	p->workers[w].job.tries++;
	r = davit_ask(c, p->workers[w].ref, WORK, &p->workers[w].job, sizeof p->workers[w].job, &options,
		      &result);
	return r ? r : davit_done(c, result, on_result, (void *)w);
}

/* The next job for one that has none. */
static int give_next(struct davit_context *c, struct pool *p, intptr_t w)
{
	if (p->next == JOBS)
		return 0;
	p->workers[w].job = (struct job){.number = p->next++};
	return give(c, p, w);
}

static void on_result(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct pool *p = davit_data(c);
	intptr_t w = (intptr_t)arg;
	int r;

	if (o->state != DAVIT_PROMISE_FULFILLED) {
		r = give(c, p, w); /* it waits in the mailbox until the worker is restarted */
	} else {
		p->results[p->workers[w].job.number] = *(const uint64_t *)o->data;
		p->done++;
		r = give_next(c, p, w);
	}
	if (r)
		davit_fail(c, r, "a job could not be given out");
	if (p->done < JOBS)
		return;
	davit_reply(c, p->run, p->results, sizeof p->results);
	davit_message_free(c, p->run);
}

static int pool_construct(struct davit_context *c)
{
	struct pool *p = davit_alloc(c, sizeof *p);

	davit_set_data(c, p);
	return p ? 0 : DAVIT_ENOMEM;
}

static void on_created(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct pool *p = davit_data(c);

	if (o->state != DAVIT_PROMISE_FULFILLED)
		davit_fail(c, o->code, "no workers: %s", o->message);
	for (intptr_t w = 0; o->state == DAVIT_PROMISE_FULFILLED && w < WORKERS; w++)
		if (davit_find(c, o->items[w].data, &p->workers[w].ref) || give_next(c, p, w))
			davit_fail(c, DAVIT_EUNAVAIL, "worker %d cannot be reached", (int)w + 1);
}

static int pool_behave(struct davit_context *c, struct davit_message *m)
{
	static const struct davit_create workers[WORKERS] = {
		{.alias = "worker-1", .definition = &worker, .flags = DAVIT_CREATE_START},
		{.alias = "worker-2", .definition = &worker, .flags = DAVIT_CREATE_START},
		{.alias = "worker-3", .definition = &worker, .flags = DAVIT_CREATE_START},
		{.alias = "worker-4", .definition = &worker, .flags = DAVIT_CREATE_START},
	};
	struct pool *p = davit_data(c);
	struct davit_promise created;
	int r;

	if (m->type != RUN || p->run)
		return davit_refuse(c, m, DAVIT_ESTATE, "the pool is at work");
	p->run = davit_take(c); /* answered when all is done */
	r = davit_containers_create(c, workers, WORKERS, &created);
	return r ? r : davit_done(c, created, on_created, NULL);
}

static const struct davit_definition pool = {
	.name = "Pool",
	.construct = pool_construct,
	.behaviour = pool_behave,
	.options = {.max_restarts = -1}, /* workers may fail as often as they like */
};

static int64_t restarts(struct davit_context *c)
{
	struct davit_container_info info;
	char alias[WORKERS][64];
	int64_t sum = 0;

	for (size_t i = davit_container_children(c, "pool", alias, WORKERS); i-- > 0;)
		sum += davit_container_get(c, alias[i], &info) ? 0 : info.restarts;
	return sum;
}

static int right(const uint64_t *results)
{
	int n = 0;

	for (uint64_t i = 0; i < JOBS; i++)
		n += results[i] == i * (i + 1) / 2;
	return n;
}

int main(void)
{
	struct davit_create what = {.alias = "pool", .definition = &pool, .flags = DAVIT_CREATE_START};
	const struct davit_request_options patient = {.timeout = -1};
	struct davit_system_stats stats;
	struct davit_system *system;
	struct davit_context *c;
	struct davit_outcome *o;
	struct davit_promise p;
	struct davit_ref ref;
	bool good;

	if (davit_system_open(NULL, &system, NULL))
		return 1;
	c = davit_system_context(system);
	if (davit_container_create(c, &what, &p) || davit_await(c, p, -1, NULL, NULL) ||
	    davit_find(c, "pool", &ref) || davit_ask(c, ref, RUN, NULL, 0, &patient, &p) ||
	    davit_await(c, p, -1, &o, NULL))
		return 1;
	davit_system_stats(system, &stats);
	printf("%d of %d jobs done right; %" PRIu64 " failures, %" PRId64 " restarts\n", right(o->data), JOBS,
	       stats.dead_by[DAVIT_DEAD_FAILED], restarts(c));
	good = right(o->data) == JOBS && stats.dead_by[DAVIT_DEAD_FAILED] == 18 && restarts(c) == 18;
	davit_outcome_free(o);
	davit_system_close(system);
	return good ? 0 : 1;
}
