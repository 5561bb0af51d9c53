/* SPDX-License-Identifier: MIT
 *
 * Seeing to the hosts of runs. A host is a process of its own, in a session of its own: not one of the
 * keeper's, which ends all that a workload has started when that ends, for the steps of a run go on without
 * their host (docs/decisions/0010).
 */
#include "daemon/runs.h"

#include "base/file.h"
#include "base/log.h"
#include "base/start.h"
#include "base/units.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <uv.h>

#define PAUSE_MIN (100 * DAVIT_NSEC_PER_MSEC) /* before another host is started */
#define PAUSE_MAX (30 * DAVIT_NSEC_PER_SEC)
#define PATIENCE (12 * DAVIT_NSEC_PER_SEC)   /* when all are aborted: a little more than the grace */
#define FORCED (3 * DAVIT_NSEC_PER_SEC)	     /* and for those that are ended by force */
#define LIVED_LONG (30 * DAVIT_NSEC_PER_SEC) /* then the pause begins anew */

struct runs {
	struct davit_daemon *daemon;
	struct davit_list hosts;
	uv_work_t collecting;
	bool collects, again, closed;
	/* runs_abort_all */
	void (*none_left)(void *user);
	void *user;
	struct davit_timer patience;
	struct davit_deferred tell;
	bool forced;
};

struct run_host {
	struct davit_list list;
	struct runs *runs;
	char id[DAVIT_RUN_ID_MAX];
	pid_t pid;
	int pidfd;
	uv_poll_t poll; /* of the pidfd */
	struct davit_timer timer;
	int64_t since, pause;
};

/* ------------------------------------------------------------------------ collecting */

static void run_collect(uv_work_t *work)
{
	struct runs *r = work->data;
	struct timespec t;
	struct davit_error err;

	clock_gettime(CLOCK_REALTIME, &t);
	if (davit_runs_collect(&r->daemon->paths, DAVIT_RUNS_KEEP, DAVIT_RUNS_AGE,
			       (int64_t)t.tv_sec * DAVIT_NSEC_PER_SEC, NULL, NULL, &err) < 0)
		davit_log(DAVIT_LOG_WARNING, "runs that have ended cannot be collected: %s", err.message);
}

static void collect(struct runs *r);

static void after_collect(uv_work_t *work, int status)
{
	struct runs *r = work->data;

	(void)status;
	r->collects = false;
	if (r->closed) {
		free(r);
	} else if (r->again) {
		r->again = false;
		collect(r);
	}
}

static void collect(struct runs *r)
{
	if (r->collects) {
		r->again = true;
		return;
	}
	r->collecting.data = r;
	r->collects = uv_queue_work(davit_loop_uv(r->daemon->loop), &r->collecting, run_collect,
				    after_collect) == 0;
}

/* ----------------------------------------------------------------------------- hosts */

static void look(struct run_host *h);

static void on_closed(uv_handle_t *handle)
{
	struct run_host *h = handle->data;

	close(h->pidfd);
	h->pidfd = -1;
	if (h->runs)
		look(h);
	else
		free(h);
}

static void on_exit_of_host(uv_poll_t *poll, int status, int events)
{
	struct run_host *h = poll->data;

	(void)status;
	(void)events;
	/* One that another daemon has started is not our child: init has it. */
	waitpid(h->pid, NULL, WNOHANG);
	uv_close((uv_handle_t *)poll, on_closed);
}

static void later(struct run_host *h)
{
	int64_t lived = davit_loop_now(h->runs->daemon->loop) - h->since;

	h->pause = lived > LIVED_LONG || !h->pause ? PAUSE_MIN
		   : h->pause > PAUSE_MAX / 2	   ? PAUSE_MAX
						   : 2 * h->pause;
	davit_timer_start(&h->timer, h->pause);
}

static bool watch(struct run_host *h, pid_t pid)
{
	h->pid = pid;
	h->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (h->pidfd < 0)
		return false;
	h->poll.data = h;
	if (uv_poll_init(davit_loop_uv(h->runs->daemon->loop), &h->poll, h->pidfd) != 0) {
		close(h->pidfd);
		h->pidfd = -1;
		return false;
	}
	uv_poll_start(&h->poll, UV_READABLE, on_exit_of_host);
	return true;
}

/* 0 or an errno. Its messages go where the daemon's go. */
static void start(struct run_host *h)
{
	DAVIT_AUTO_FREE char *program = davit_path_join(h->runs->daemon->paths.libexec, "davit-run");
	char *argv[] = {"davit-run", h->id, NULL};
	pid_t pid = 0;
	/* What it says goes where the daemon's log goes. */
	int e = program ? davit_start_program(program, argv, (const int[]){-1, 2, 2}, true, &pid) : ENOMEM;

	h->since = davit_loop_now(h->runs->daemon->loop);
	if (e)
		davit_log(DAVIT_LOG_ERROR, "the host of run %s cannot be started: %s", h->id, strerror(e));
	if (e || !watch(h, pid))
		later(h);
}

static void free_host(struct run_host *h)
{
	davit_list_remove(&h->list);
	davit_timer_stop(&h->timer);
	if (h->runs->none_left && davit_list_empty(&h->runs->hosts))
		davit_defer(&h->runs->tell);
	free(h);
}

static void on_timer(struct davit_timer *t)
{
	struct run_host *h = DAVIT_CONTAINER_OF(t, struct run_host, timer);
	struct davit_run run;

	if (davit_run_find(&h->runs->daemon->paths, h->id, &run, NULL) == 0) {
		bool is_waiting = run.state == DAVIT_RUN_WAITING;

		davit_run_fini(&run);
		if (is_waiting) {
			davit_log(DAVIT_LOG_WARNING, "the host of run %s is gone: another goes on", h->id);
			start(h);
			return;
		}
	}
	look(h);
}

/* What is to be done for it, now that nobody is watched. */
static void look(struct run_host *h)
{
	struct runs *r = h->runs;
	struct davit_run run;
	enum davit_run_state state;
	pid_t host;

	if (davit_run_find(&r->daemon->paths, h->id, &run, NULL) < 0) {
		free_host(h);
		return;
	}
	state = run.state;
	host = run.host;
	davit_run_fini(&run);
	if (state == DAVIT_RUN_ENDED) {
		free_host(h);
		collect(r);
	} else if (state != DAVIT_RUN_RUNNING || !host || !watch(h, host)) {
		later(h);
	}
}

static struct run_host *new_host(struct runs *r, const char *id)
{
	struct run_host *h = calloc(1, sizeof *h);

	if (!h)
		return NULL;
	h->runs = r;
	h->pidfd = -1;
	snprintf(h->id, sizeof h->id, "%s", id);
	davit_timer_init(&h->timer, r->daemon->loop, on_timer);
	davit_list_init(&h->list);
	davit_list_add_tail(&r->hosts, &h->list);
	return h;
}

void runs_start(struct runs *r, const char *id)
{
	struct run_host *h = new_host(r, id);

	if (h)
		start(h);
	else
		davit_log(DAVIT_LOG_ERROR, "out of memory: run %s begins with the next daemon", id);
}

/* ---------------------------------------------------------------------------- the end of all */

static int abort_one(void *user, const struct davit_run *run)
{
	struct runs *r = user;

	if (run->state != DAVIT_RUN_ENDED)
		davit_run_abort(&r->daemon->paths, run->id, r->forced, NULL);
	return 0;
}

static void on_tell(struct davit_deferred *d)
{
	struct runs *r = DAVIT_CONTAINER_OF(d, struct runs, tell);
	void (*fn)(void *) = DAVIT_TAKE(r->none_left);

	davit_timer_stop(&r->patience);
	if (fn)
		fn(r->user);
}

static void on_patience(struct davit_timer *t)
{
	struct runs *r = DAVIT_CONTAINER_OF(t, struct runs, patience);

	if (r->forced) {
		davit_defer(&r->tell);
		return;
	}
	r->forced = true;
	davit_runs_each(&r->daemon->paths, abort_one, r, NULL);
	davit_timer_start(t, FORCED);
}

void runs_abort_all(struct runs *r, void (*fn)(void *user), void *user)
{
	r->none_left = fn;
	r->user = user;
	r->forced = false;
	davit_runs_each(&r->daemon->paths, abort_one, r, NULL);
	davit_timer_start(&r->patience, PATIENCE);
	if (davit_list_empty(&r->hosts))
		davit_defer(&r->tell);
}

/* --------------------------------------------------------------------- open and close */

static int add(void *user, const struct davit_run *run)
{
	struct runs *r = user;
	struct run_host *h = run->state == DAVIT_RUN_ENDED ? NULL : new_host(r, run->id);

	if (h && run->state == DAVIT_RUN_WAITING)
		start(h);
	else if (h)
		look(h);
	return 0;
}

/* What a daemon that was killed was about to make, or to remove. */
static void sweep(const struct davit_paths *paths)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(paths->state, "runs");
	DIR *dir = path ? opendir(path) : NULL;
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			davit_remove_at(dirfd(dir), e->d_name);
	if (dir)
		closedir(dir);
}

int runs_open(struct davit_daemon *d, struct runs **ret, struct davit_error *err)
{
	struct runs *r = calloc(1, sizeof *r);
	int e;

	if (!r)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r->daemon = d;
	davit_list_init(&r->hosts);
	davit_timer_init(&r->patience, d->loop, on_patience);
	davit_deferred_init(&r->tell, d->loop, on_tell);
	sweep(&d->paths);
	e = davit_runs_each(&d->paths, add, r, err);
	if (e < 0) {
		runs_close(r);
		return e;
	}
	collect(r);
	*ret = r;
	return 0;
}

void runs_close(struct runs *r)
{
	struct run_host *h, *next;

	if (!r)
		return;
	r->none_left = NULL;
	davit_timer_stop(&r->patience);
	davit_deferred_cancel(&r->tell);
	DAVIT_LIST_FOREACH_SAFE (h, next, &r->hosts, list) {
		if (h->pidfd < 0) {
			free_host(h);
			continue;
		}
		davit_list_remove(&h->list);
		davit_timer_stop(&h->timer);
		h->runs = NULL;
		if (!uv_is_closing((uv_handle_t *)&h->poll))
			uv_close((uv_handle_t *)&h->poll, on_closed);
	}
	r->closed = true;
	if (!r->collects)
		free(r);
}
