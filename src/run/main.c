/* SPDX-License-Identifier: MIT
 *
 * davit-run ID: the host of one run, which the daemon starts, and starts again if it dies before the run has
 * ended. All that it knows is in the run's directory (run.h); the steps that it has started go on without it.
 */
#include "run/host.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { EXIT_DIED = 1, EXIT_USAGE = 2, EXIT_IN_USE = 3 };

void host_die(const struct host *h, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	davit_log(DAVIT_LOG_ERROR, "run %s: its host ends: %s", h->id, text);
	_exit(EXIT_DIED);
}

const char *host_text(const struct host *h, const char *key)
{
	return json_string_value(json_object_get(h->about, key));
}

/* ----------------------------------------------------------------------- the plan's host */

static void on_store(void *owner, uint64_t generation, const char *record)
{
	struct host *h = owner;

	journal_add(&h->journal, generation, record);
}

static void on_stored(void *owner, uint64_t generation)
{
	struct host *h = owner;

	DAVIT_FAULT("run-stored");
	leaves_stored(h, generation);
	davit_plan_stored(h->plan, generation);
}

static void on_start(void *owner, struct davit_plan_node *leaf, enum davit_plan_start how)
{
	DAVIT_FAULT("run-start");
	leaf_start(owner, leaf, how);
	DAVIT_FAULT("run-started");
}

static void on_abort(void *owner, struct davit_plan_node *node)
{
	struct host *h = owner;
	struct leaf *l = leaf_find(h, node->key);

	if (l)
		leaf_abort(l, h->forced);
}

static void on_arm(void *owner, int64_t at)
{
	struct host *h = owner;
	int64_t in = at - davit_loop_wall(h->loop);

	if (!at)
		davit_timer_stop(&h->tick);
	else if (davit_timer_start(&h->tick, in > 0 ? in : 0) < 0)
		host_die(h, "out of memory");
}

static void on_tick(struct davit_timer *t)
{
	struct host *h = DAVIT_CONTAINER_OF(t, struct host, tick);
	uint64_t before = h->plan->generation;
	struct davit_error err;

	if (davit_plan_tick(h->plan, davit_loop_wall(h->loop), &err) < 0)
		host_die(h, "%s", err.message);
	/* The two clocks do not go alike: it is a moment too early. */
	if (h->plan->generation == before && !davit_timer_active(t))
		davit_timer_start(t, DAVIT_NSEC_PER_MSEC);
}

/* "0/2/1": the way from the root. */
static void write_way(struct davit_buf *b, const struct davit_plan_node *n)
{
	if (!n->parent)
		return;
	write_way(b, n->parent);
	davit_buf_addf(b, "%s%u", b->len ? "/" : "", n->index);
}

static void on_changed(void *owner, const struct davit_plan_node *n)
{
	static const char *const states[] = {"idle", "active", "ended"};
	struct host *h = owner;
	DAVIT_AUTO_BUF way = DAVIT_BUF_INIT;
	struct davit_json *j = events_begin(&h->events, "state", NULL);

	write_way(&way, n);
	davit_json_put_string(j, "node", davit_buf_str(&way));
	davit_json_put_string(j, "kind", davit_plan_kind_name(n->kind));
	if (n->name)
		davit_json_put_string(j, "name", n->name);
	davit_json_put_string(j, "state",
			      n->is_running && n->state == DAVIT_PLAN_ACTIVE ? "running" : states[n->state]);
	if (n->state == DAVIT_PLAN_ENDED)
		davit_json_put_string(j, "outcome", davit_plan_outcome_name(n->outcome));
	if (n->state == DAVIT_PLAN_ENDED && n->message)
		davit_json_put_string(j, "message", n->message);
	if (n->state == DAVIT_PLAN_ACTIVE && n->key)
		davit_json_put_string(j, "step", n->key);
	if (n->state == DAVIT_PLAN_ACTIVE && n->kind == DAVIT_PLAN_ATTEMPTS)
		davit_json_put_int(j, "attempt", n->attempt);
	events_end(&h->events);
}

static void on_done(void *owner)
{
	struct host *h = owner;

	h->done = true;
	davit_loop_stop(h->loop);
}

static const struct davit_plan_ops ops = {.store = on_store,
					  .start = on_start,
					  .abort = on_abort,
					  .arm = on_arm,
					  .changed = on_changed,
					  .done = on_done};

/* -------------------------------------------------------------------------------- wishes */

/* The file says what the user wants, from before this host was there, too. */
static void look_for_wish(struct host *h)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(h->dir, "abort");
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_error err;
	struct leaf *l, *next;
	bool force;

	if (!path || access(path, F_OK) < 0 || davit_read_file(path, 64, &b, &err) < 0)
		return;
	force = !strncmp(davit_buf_str(&b), "forced", 6);
	if (davit_plan_abort(h->plan, false, davit_loop_wall(h->loop), &err) < 0)
		host_die(h, "%s", err.message);
	if (!force || h->forced)
		return;
	h->forced = true;
	if (davit_plan_abort(h->plan, true, davit_loop_wall(h->loop), &err) < 0)
		host_die(h, "%s", err.message);
	DAVIT_LIST_FOREACH_SAFE (l, next, &h->leaves, list)
		leaf_abort(l, true);
}

static void on_wish(uv_fs_event_t *e, const char *name, int events, int status)
{
	(void)events;
	/* Its own events and records come here, too. */
	if (status == 0 && (!name || !strcmp(name, "abort")))
		look_for_wish(e->data);
}

static int watch_for_wish(struct host *h, struct davit_error *err)
{
	h->wish.data = h;
	if (uv_fs_event_init(davit_loop_uv(h->loop), &h->wish) != 0 ||
	    uv_fs_event_start(&h->wish, on_wish, h->dir, 0) != 0)
		return davit_error_set(err, DAVIT_EIO, NULL, "cannot watch %s", h->dir);
	return 0;
}

/* ------------------------------------------------------------------------------ beginning */

static int lock(struct host *h, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(h->dir, "lock");
	struct flock all = {.l_type = F_WRLCK};
	char pid[24];
	int n = snprintf(pid, sizeof pid, "%d\n", getpid());

	h->lock = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	if (h->lock < 0)
		return davit_error_errno(err, errno, NULL, "cannot open the lock of the run");
	if (fcntl(h->lock, F_OFD_SETLK, &all) < 0)
		return davit_error_set(err, DAVIT_EINUSE, NULL, "the run %s has a host already", h->id);
	if (ftruncate(h->lock, 0) < 0 || pwrite(h->lock, pid, (size_t)n, 0) != n)
		return davit_error_errno(err, errno, NULL, "cannot write %s", path);
	return 0;
}

static int take_line(void *owner, const json_t *line, struct davit_error *err)
{
	struct host *h = owner;

	if (json_object_get(line, "artifact"))
		return host_restore_artifact(h, line, err);
	return json_array_append(h->records, (json_t *)(uintptr_t)line) < 0
		       ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory")
		       : 0;
}

static int give_input(struct host *h, const char *name, const char *id, struct davit_error *err)
{
	struct davit_artifact_hold hold = DAVIT_ARTIFACT_HOLD_INIT;
	int r;

	if (host_artifact(h, name))
		return 0; /* it is in the journal, perhaps as another by now */
	r = davit_artifacts_find(h->store, id, &hold, err);
	if (r == 0)
		host_set_artifact(h, name, &hold);
	return r == DAVIT_ENOENT ? 0 : r; /* who needs it says that it is not there */
}

static int give_inputs(struct host *h, struct davit_error *err)
{
	const char *name;
	json_t *id;
	int r = 0;

	json_object_foreach(json_object_get(h->about, "inputs"), name, id) if (r == 0 && json_is_string(id))
		r = give_input(h, name, json_string_value(id), err);
	return r;
}

static int read_plan(struct host *h, struct davit_error *err)
{
	json_t *plan = NULL, *record;
	size_t i;
	int r = davit_run_plan(&h->paths, h->id, &plan, err);

	if (r == 0)
		r = davit_plan_read(plan, &ops, h, &h->plan, err);
	json_decref(plan);
	json_array_foreach(h->records, i, record) if (r == 0) r = davit_plan_replay(h->plan, record, err);
	h->resumed = json_array_size(h->records) > 0;
	json_decref(h->records);
	h->records = NULL;
	return r;
}

static int open_holds(struct host *h, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(h->dir, "holds");

	h->holds = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
	return h->holds < 0 ? davit_error_errno(err, errno, NULL, "cannot open %s", path ? path : "holds")
			    : 0;
}

static int open_run(struct host *h, struct davit_error *err)
{
	struct davit_run run;
	int r = davit_run_find(&h->paths, h->id, &run, err);

	if (r < 0)
		return r;
	h->about = json_incref(run.about);
	h->done = run.state == DAVIT_RUN_ENDED;
	davit_run_fini(&run);
	h->dir = davit_run_path(&h->paths, h->id);
	h->work = davit_run_work_path(&h->paths, h->id);
	return h->dir && h->work ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int open_all(struct host *h, struct davit_error *err)
{
	int r = open_run(h, err);

	if (r == 0)
		r = lock(h, err);
	if (r == 0)
		r = davit_mkdirs(h->work, 0700, err);
	if (r == 0)
		r = davit_loop_open(&h->loop, err);
	if (r == 0)
		r = davit_artifacts_open(NULL, 0, &h->store, err);
	if (r == 0)
		r = open_holds(h, err);
	if (r == 0)
		r = events_open(&h->events, h->loop, h->dir, err);
	if (r < 0)
		return r;
	h->records = json_array();
	h->journal.on_stored = on_stored;
	davit_timer_init(&h->tick, h->loop, on_tick);
	r = journal_open(&h->journal, h->loop, h->dir, take_line, h, err);
	if (r == 0)
		r = give_inputs(h, err);
	if (r == 0)
		r = read_plan(h, err);
	return r < 0 ? r : watch_for_wish(h, err);
}

static void tell_begin(struct host *h)
{
	struct davit_json *j;

	if (h->resumed)
		j = events_begin(&h->events, "resumed", NULL);
	else
		j = events_begin(&h->events, "begin", NULL);
	davit_json_put_string(j, "run", h->id);
	if (host_text(h, "name"))
		davit_json_put_string(j, "name", host_text(h, "name"));
	events_end(&h->events);
}

/* What the events lack of those changes that are in the journal: all is told once more. */
static void tell_states(const struct davit_plan_node *n)
{
	const struct davit_plan_node *c;

	if (n->state != DAVIT_PLAN_IDLE)
		on_changed(n->plan->owner, n);
	DAVIT_LIST_FOREACH (c, &n->children, siblings)
		tell_states(c);
}

/* ------------------------------------------------------------------------------- the end */

/* Everything is in the journal; whoever comes after a death in here does it again. */
static int finish(struct host *h, struct davit_error *err)
{
	uv_close((uv_handle_t *)&h->wish, NULL);
	davit_timer_stop(&h->tick);
	leaves_stored(h, UINT64_MAX);
	davit_loop_run(h->loop);
	return host_conclude(h, NULL, err);
}

static void close_all(struct host *h)
{
	host_release_artifacts(h);
	davit_gets_fini(&h->gets);
	davit_plan_free(h->plan);
	journal_close(&h->journal);
	events_close(&h->events);
	davit_artifacts_close(h->store);
	davit_loop_close(h->loop);
	davit_paths_fini(&h->paths);
	json_decref(h->about);
	json_decref(h->records);
	free(h->dir);
	free(h->work);
	if (h->holds >= 0)
		close(h->holds);
	if (h->lock >= 0)
		close(h->lock);
}

static int run(struct host *h, struct davit_error *err)
{
	struct davit_error why;
	int r = open_all(h, err);

	if (r == DAVIT_ECORRUPT && h->events.fd >= 0) { /* another host would find the same */
		davit_error_copy(&why, err);
		return host_conclude(h, &why, err);
	}
	if (r < 0 || h->done)
		return r;
	tell_begin(h);
	if (h->resumed) {
		tell_states(h->plan->root);
		davit_plan_resume(h->plan);
	} else {
		r = davit_plan_begin(h->plan, davit_loop_wall(h->loop), err);
	}
	if (r < 0)
		return r;
	if (!h->done)
		look_for_wish(h);
	while (!h->done)
		davit_loop_run(h->loop);
	return finish(h, err);
}

int main(int argc, char **argv)
{
	struct host h = {.lock = -1, .holds = -1, .journal.fd = -1, .events.fd = -1};
	struct davit_error err = {0};
	int r;

	if (argc != 2 || strlen(argv[1]) != DAVIT_RUN_ID) {
		fputs("usage: davit-run ID\nIt is started by davitd.\n", stderr);
		return EXIT_USAGE;
	}
	snprintf(h.id, sizeof h.id, "%s", argv[1]);
	davit_list_init(&h.artifacts);
	davit_list_init(&h.leaves);
	davit_list_init(&h.over);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	umask(022);
	r = sodium_init() < 0 ? davit_error_set(&err, DAVIT_EINTERNAL, NULL, "libsodium does not work here")
			      : davit_paths_init(&h.paths, &err);
	if (r == 0)
		r = run(&h, &err);
	if (r < 0)
		davit_log(DAVIT_LOG_ERROR, "run %s: %s", h.id, err.message);
	close_all(&h);
	return r == 0 ? 0 : r == DAVIT_EINUSE ? EXIT_IN_USE : EXIT_DIED;
}
