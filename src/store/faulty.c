/* SPDX-License-Identifier: MIT */
#include "store/faulty.h"

#include "base/list.h"
#include "store/changes.h"
#include "store/memory/memory.h"
#include "store/stores.h"

#include <string.h>

/* What becomes of a commit. */
enum fate { WORKS, FAILS, LOSES_ANSWER };

struct job {
	struct davit_list link;	     /* on `waiting`, or nowhere once the inner store has it */
	struct faulty *faulty;	     /* NULL once the store is closed */
	struct davit_store_txn *txn; /* NULL once the caller gave up */
	struct davit_store_txn inner;
	struct davit_store_change *changes;
	size_t n;
	enum fate fate;
	int code; /* for FAILS */
	int64_t due;
};

struct faulty {
	struct davit_store *store; /* itself */
	struct davit_store *inner;
	struct davit_loop *loop;
	struct davit_store_plan plan;
	struct davit_list waiting, under_way;
	struct davit_timer timer; /* for the first of `waiting` */
	bool held;
	int window_code;
	int64_t window_end;
	uint64_t commits, faults;
	struct davit_error health;
};

static bool draw(struct faulty *f, uint32_t millionths)
{
	return millionths && davit_loop_random(f->loop) % 1000000 < millionths;
}

static void job_free(struct job *job)
{
	davit_list_remove(&job->link);
	free(job->changes);
	free(job);
}

/* --- the course of a job --- */

static void report(struct job *job, int result, const struct davit_error *err)
{
	struct davit_store_txn *txn = job->txn;

	if (job->faulty && result != DAVIT_ECONFLICT)
		job->faulty->health = result < 0 ? *err : (struct davit_error){0};
	if (txn && result < 0)
		davit_op_fail_error(&txn->op, err);
	else if (txn)
		davit_op_complete(&txn->op, 0);
}

static void on_inner_done(struct davit_op *op, int result)
{
	struct job *job = op->user;
	struct faulty *f = job->faulty;
	struct davit_error err = op->error;

	if (job->txn)
		job->txn->ret_revision = job->inner.ret_revision;
	if (result == 0 && job->fate == LOSES_ANSWER)
		result = davit_error_set(&err, DAVIT_ETIMEDOUT, "store", "the store's answer was lost");
	report(job, result, &err);
	job_free(job);
	if (f && draw(f, f->plan.break_watches))
		davit_faulty_break_watches(f->store, DAVIT_EUNAVAIL);
}

static void job_run(struct job *job)
{
	struct faulty *f = job->faulty;
	struct davit_error err;

	davit_list_remove(&job->link);
	if (job->fate == FAILS) {
		davit_error_set(&err, job->code, "store", "injected: %s", davit_error_doc(job->code));
		report(job, job->code, &err);
		job_free(job);
		return;
	}
	davit_list_add_tail(&f->under_way, &job->link);
	davit_op_init(&job->inner.op, f->loop, on_inner_done, job);
	davit_store_commit(f->inner, job->changes, job->n, &job->inner, 0);
}

/* Runs what is due; the first that is not arms the timer. */
static void run_due(struct faulty *f)
{
	int64_t now = davit_loop_now(f->loop);
	struct job *job;

	davit_timer_stop(&f->timer);
	while (!f->held && (job = DAVIT_LIST_FIRST(&f->waiting, struct job, link))) {
		/* Out of memory for a timer: early is better than never. */
		if (job->due > now && davit_timer_start(&f->timer, job->due - now) == 0)
			return;
		job_run(job);
	}
}

static void on_timer(struct davit_timer *t)
{
	run_due(DAVIT_CONTAINER_OF(t, struct faulty, timer));
}

static void on_cancel(struct davit_op *op, int why)
{
	struct job *job = DAVIT_CONTAINER_OF(op, struct davit_store_txn, op)->driver;
	struct faulty *f = job->faulty;

	job->txn = NULL;
	davit_op_fail(op, why, "store", "given up");
	/* With the inner store already: it ends there. */
	if (job->inner.op.done)
		return;
	job_free(job);
	run_due(f);
}

/* Decides, in a fixed order of draws, what becomes of the job and when. */
static void decide(struct faulty *f, struct job *job)
{
	const struct davit_store_plan *p = &f->plan;
	int64_t now = davit_loop_now(f->loop);
	struct job *last =
		davit_list_empty(&f->waiting) ? NULL : DAVIT_CONTAINER_OF(f->waiting.prev, struct job, link);

	job->due = now;
	if (now < f->window_end) {
		job->fate = FAILS;
		job->code = f->window_code;
	} else if (draw(f, p->fail)) {
		job->fate = FAILS;
		job->code = p->code ? p->code : DAVIT_EUNAVAIL;
	} else if (draw(f, p->lose)) {
		job->fate = LOSES_ANSWER;
	}
	if (draw(f, p->delay)) {
		uint64_t span = p->delay_max > p->delay_min ? (uint64_t)(p->delay_max - p->delay_min) : 0;
		job->due += p->delay_min + (int64_t)(span ? davit_loop_random(f->loop) % (span + 1) : 0);
	}
	if (last && last->due > job->due)
		job->due = last->due;
	f->commits++;
	f->faults += job->fate != WORKS;
}

/* --- the driver --- */

static int faulty_open(struct davit_store *s, const char *where, struct davit_error *err)
{
	struct faulty *f = davit_store_state(s);

	f->store = s;
	f->loop = s->loop;
	davit_list_init(&f->waiting);
	davit_list_init(&f->under_way);
	davit_timer_init(&f->timer, s->loop, on_timer);
	return davit_store_open(&davit_memory_store, s->loop, where, &f->inner, err);
}

static void faulty_close(struct davit_store *s)
{
	struct faulty *f = davit_store_state(s);
	struct job *job, *next;

	davit_timer_stop(&f->timer);
	DAVIT_LIST_FOREACH_SAFE (job, next, &f->waiting, link)
		job_run(job);
	/* They end from the loop, after this store is gone. */
	while ((job = DAVIT_LIST_FIRST(&f->under_way, struct job, link))) {
		davit_list_remove(&job->link);
		job->faulty = NULL;
	}
	davit_store_close(f->inner);
}

static void faulty_commit(struct davit_store *s, const struct davit_store_change *changes, size_t n,
			  struct davit_store_txn *txn)
{
	struct faulty *f = davit_store_state(s);
	struct job *job = calloc(1, sizeof *job);

	if (!job || !(job->changes = davit_store_changes_copy(changes, n, true))) {
		free(job);
		davit_op_fail(&txn->op, DAVIT_ENOMEM, "store", "out of memory");
		return;
	}
	job->faulty = f;
	job->txn = txn;
	job->n = n;
	txn->driver = job;
	davit_list_init(&job->link);
	decide(f, job);
	davit_list_add_tail(&f->waiting, &job->link);
	davit_op_on_cancel(&txn->op, on_cancel);
	run_due(f);
}

static int faulty_list(struct davit_store *s, const char *prefix, const char *from, size_t limit,
		       davit_store_list_fn *fn, void *user, int64_t *ret_revision, struct davit_error *err)
{
	struct faulty *f = davit_store_state(s);

	return f->inner->driver->list(f->inner, prefix, from, limit, fn, user, ret_revision, err);
}

static int faulty_list_reverse(struct davit_store *s, const char *prefix, size_t limit,
			       davit_store_list_fn *fn, void *user, int64_t *ret_revision,
			       struct davit_error *err)
{
	struct faulty *f = davit_store_state(s);

	return f->inner->driver->list_reverse(f->inner, prefix, limit, fn, user, ret_revision, err);
}

static int faulty_watch(struct davit_store *s, const char *prefix, int64_t after, struct davit_store_watch *w,
			struct davit_error *err)
{
	struct faulty *f = davit_store_state(s);

	return f->inner->driver->watch(f->inner, prefix, after, w, err);
}

static void faulty_unwatch(struct davit_store *s, struct davit_store_watch *w)
{
	struct faulty *f = davit_store_state(s);

	f->inner->driver->unwatch(f->inner, w);
}

static int faulty_health(struct davit_store *s, struct davit_error *err)
{
	struct faulty *f = davit_store_state(s);

	return f->health.code ? davit_error_copy(err, &f->health) : 0;
}

const struct davit_store_driver davit_faulty_store = {
	.abi = DAVIT_STORE_ABI,
	.name = "faulty",
	.summary = "a memory store that fails on request, for tests",
	.store_size = sizeof(struct faulty),
	.open = faulty_open,
	.close = faulty_close,
	.commit = faulty_commit,
	.list = faulty_list,
	.list_reverse = faulty_list_reverse,
	.watch = faulty_watch,
	.unwatch = faulty_unwatch,
	.health = faulty_health,
};

/* --- what tests tell it --- */

void davit_faulty_plan(struct davit_store *s, const struct davit_store_plan *plan)
{
	struct faulty *f = davit_store_state(s);

	f->plan = plan ? *plan : (struct davit_store_plan){0};
}

void davit_faulty_fail_for(struct davit_store *s, int code, int64_t duration_ns)
{
	struct faulty *f = davit_store_state(s);
	int64_t now = davit_loop_now(f->loop);

	f->window_code = code;
	if (__builtin_add_overflow(now, duration_ns, &f->window_end))
		f->window_end = INT64_MAX;
}

void davit_faulty_hold(struct davit_store *s)
{
	struct faulty *f = davit_store_state(s);

	f->held = true;
}

void davit_faulty_release(struct davit_store *s)
{
	struct faulty *f = davit_store_state(s);

	f->held = false;
	run_due(f);
}

void davit_faulty_break_watches(struct davit_store *s, int code)
{
	struct faulty *f = davit_store_state(s);
	struct davit_error err = {0};

	davit_error_set(&err, code, "store", "injected: %s", davit_error_doc(code));
	davit_memory_break_watches(f->inner, &err);
}

void davit_faulty_crash(struct davit_store *s)
{
	struct faulty *f = davit_store_state(s);
	bool arrives = true;
	struct davit_error err;
	struct job *job;

	davit_timer_stop(&f->timer);
	davit_error_set(&err, DAVIT_ECLOSED, "store", "the user of the store died");
	while ((job = DAVIT_LIST_FIRST(&f->waiting, struct job, link))) {
		struct davit_store_txn *txn = DAVIT_TAKE(job->txn);
		arrives = arrives && draw(f, 500000);
		if (arrives) {
			job_run(job);
		} else {
			job_free(job);
		}
		if (txn)
			davit_op_fail_error(&txn->op, &err);
	}
}

void davit_faulty_counts(struct davit_store *s, uint64_t *ret_commits, uint64_t *ret_faults)
{
	struct faulty *f = davit_store_state(s);

	*ret_commits = f->commits;
	*ret_faults = f->faults;
}
