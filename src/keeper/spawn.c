/* SPDX-License-Identifier: MIT
 *
 * Starting the workload of a slot, and further processes beside it.
 */
#include "keeper/keeper.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct keeper_start starts[KEEPER_STARTS]; /* pages are taken when they are first used */

struct keeper_start *keeper_next_start(struct keeper *k)
{
	return &starts[(k->first_start + k->n_starts) % KEEPER_STARTS];
}

struct keeper_start *keeper_oldest_start(struct keeper *k)
{
	return k->n_starts ? &starts[k->first_start] : NULL;
}

/* What the child's step and errno mean, in words. */
static int explain(const struct keeper_child *c, int sys, struct davit_error *err)
{
	const struct keeper_command *m = c->command;
	int code = DAVIT_EEXEC;

	switch (c->step) {
	case KEEPER_STEP_EXEC:
		davit_error_errno(err, sys, NULL, "cannot execute %s%s", m->path,
				  sys == ENOMEM && c->wait ? " within its limit of memory" : "");
		break;
	case KEEPER_STEP_DIRECTORY:
		davit_error_errno(err, sys, NULL, "cannot change to directory %s", m->directory);
		err->sys_errno = 0; /* ENOENT is said of the program alone */
		break;
	case KEEPER_STEP_USER:
		davit_error_errno(err, sys, NULL, "cannot become user %u", m->f.uid);
		break;
	case KEEPER_STEP_GROUP:
		davit_error_errno(err, sys, NULL, "cannot become group %u", m->f.gid);
		break;
	case KEEPER_STEP_GROUPS:
		davit_error_errno(err, sys, NULL, "cannot set supplementary groups for user %u", m->f.uid);
		break;
	case KEEPER_STEP_RLIMIT:
		davit_error_errno(err, sys, NULL, "cannot set the limit of %s",
				  c->detail < DAVIT_RLIMITS ? davit_rlimit_names[c->detail] : "it");
		break;
	case KEEPER_STEP_CGROUP:
		code = davit_error_errno(err, sys, NULL, "cannot join the cgroup of hierarchy %u", c->detail);
		break;
	case KEEPER_STEP_TTY:
		code = davit_error_errno(err, sys, NULL, "cannot take the terminal");
		break;
	case KEEPER_STEP_NONE:
		code = davit_error_errno(err, sys, NULL, "cannot start a process for %s", m->path);
		break;
	default:
		code = davit_error_errno(err, sys, NULL, "cannot prepare a process for %s (step %d)", m->path,
					 (int)c->step);
		break;
	}
	err->code = code;
	return code;
}

/* The instance's cgroup files that are to be written at each start. */
static int apply_settings(const struct keeper_command *c, struct davit_error *err)
{
	for (const char *file = c->settings; *file;) {
		const char *value = file + strlen(file) + 1;
		if (keeper_write_file(file, "", value) < 0)
			return davit_error_errno(err, errno, NULL, "cannot write %s to %s", value, file);
		file = value + strlen(value) + 1;
	}
	return 0;
}

/* Opens what the child joins: the v2 directory, and cgroup.procs of the others. */
static int prepare_cgroups(struct keeper *k, const struct keeper_slot *s, struct keeper_child *c,
			   struct davit_error *err)
{
	char path[KEEPER_PATH_MAX];
	int fd;

	c->wait = keeper_memory_group(k, s);
	c->join_cgroup = s->flags & KEEPER_GROUP_KILLED;
	for (unsigned i = 0; keeper_cgroup(k, s, i, path); i++) {
		bool v2 = i == 0 && s->flags & KEEPER_CGROUP2;
		fd = v2 ? keeper_cgroup_open(k, s, i, "", O_PATH | O_DIRECTORY)
			: keeper_cgroup_open(k, s, i, "cgroup.procs", O_WRONLY);
		if (fd < 0)
			return davit_error_errno(err, errno, NULL, "cannot open cgroup %s", path);
		if (v2)
			c->cgroup_fd = fd;
		else
			c->joins[c->n_joins++] = fd;
	}
	return 0;
}

static void close_cgroups(struct keeper_child *c)
{
	davit_closep(&c->cgroup_fd);
	c->cgroup_fd = -1;
	while (c->n_joins > 0)
		close(c->joins[--c->n_joins]);
}

/* Adds "NAME=value" unless the name is there; an empty text adds nothing. */
static void add_variable(struct keeper_command *c, char *text)
{
	size_t name = strcspn(text, "=");

	for (char **e = c->env; *e; e++)
		if (!strncmp(*e, text, name) && (*e)[name] == '=')
			return;
	if (!*text)
		return;
	c->env[c->n_env++] = text;
	c->env[c->n_env] = NULL;
}

/* The child's end is open for reading too: when the keeper dies the workload
 * gets no SIGPIPE and what it wrote stays, and a new keeper takes the pipe up
 * through /proc/PID/fd. The end of input comes when all of its holders are gone. */
static int open_pipe(const struct keeper *k, const struct keeper_spawn *f, int *ret_read, int *ret_child,
		     uint64_t *ret_inode, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int r = -1;
	DAVIT_AUTO_CLOSE int w = -1;
	char name[16];
	struct stat st;
	int p[2], rw;

	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	r = p[0];
	w = p[1];
	if (fstat(r, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot look at a pipe");
	/* So that another user's workload can open /dev/stdout. Where it is not
	 * allowed the child cannot become that user either, and says so. */
	if (f->set_user && fchown(w, f->uid, f->gid) < 0 && errno != EPERM)
		return davit_error_errno(err, errno, NULL, "cannot give a pipe to user %u", f->uid);
	snprintf(name, sizeof name, "%d", w);
	rw = openat(k->fd_self, name, O_RDWR | O_CLOEXEC);
	if (rw < 0)
		return davit_error_errno(err, errno, NULL, "cannot open a pipe anew");
	*ret_read = DAVIT_TAKE_FD(r);
	*ret_child = rw;
	*ret_inode = st.st_ino;
	return 0;
}

static int64_t boot_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64_t)now.tv_sec * DAVIT_NSEC_PER_SEC + now.tv_nsec;
}

/* The kernel takes the start time from CLOCK_BOOTTIME, between `before` and the
 * child's first look at it. Where both are in one tick that is the answer, and
 * /proc need not be asked, which costs more than all else that is done here. Not
 * where the two were once seen to disagree. */
static uint64_t start_ticks(pid_t pid, int64_t before, int64_t born)
{
	static enum { UNKNOWN, AGREE, DISAGREE } clocks;
	static int64_t tick;
	struct keeper_stat st;

	if (!tick)
		tick = DAVIT_NSEC_PER_SEC / sysconf(_SC_CLK_TCK);
	bool same = before / tick == born / tick;
	if (same && clocks == AGREE)
		return (uint64_t)(before / tick);
	if (keeper_stat(pid, &st) != 0)
		return 0;
	if (same && clocks == UNKNOWN)
		clocks = st.start_ticks == (uint64_t)(before / tick) ? AGREE : DISAGREE;
	return st.start_ticks;
}

/* Makes the child of the next start. */
static int begin(struct keeper *k, struct keeper_start *st, const struct keeper_command *c,
		 struct davit_error *err)
{
	int number = (int)(st - starts), r;

	st->child.command = c;
	st->child.nofile = &k->file->nofile;
	st->child.fd_null = k->fd_null;
	st->child.reserved = k->overlap ? KEEPER_LOW + 3 * number : -1;
	st->child.stack = st->stack;
	DAVIT_FAULT("keeper.spawn.before");
	st->before = boot_time();
	r = keeper_child_begin(&st->child);
	return r ? explain(&st->child, r, err) : 0;
}

/* The child runs its program; finds the start time. The pidfd makes sure that it is its. */
static int end(struct keeper_start *st, uint64_t *ret_ticks, struct davit_error *err)
{
	int r = keeper_child_end(&st->child);

	if (r)
		return explain(&st->child, r, err);
	DAVIT_FAULT("keeper.spawn.started");
	*ret_ticks = start_ticks(st->child.pid, st->before, st->child.born);
	return 0;
}

/* A few descriptors are always left, for connections and log files. */
#define RESERVE 96

/* A new one gets the lowest number that is free. */
bool keeper_may_open(const struct keeper *k, int fd, struct davit_error *err)
{
	if ((rlim_t)fd + RESERVE <= k->descriptors)
		return true;
	davit_error_set(err, DAVIT_EQUOTA, NULL,
			"the keeper has no descriptors left for another process (limit %llu)",
			(unsigned long long)k->descriptors);
	return false;
}

static int open_outputs(const struct keeper *k, struct keeper_slot *s, const struct keeper_spawn *f,
			int child[2], struct davit_error *err)
{
	int r;

	for (int i = 0; i < 2; i++) {
		r = open_pipe(k, f, &s->fd_pipe[i], &child[i], &s->pipe_inode[i], err);
		if (r < 0)
			return r;
	}
	return keeper_may_open(k, child[1], err) ? 0 : DAVIT_EQUOTA;
}

static int watch_all(struct keeper *k, struct keeper_slot *s, struct davit_error *err)
{
	uint32_t i = keeper_slot_number(k, s);

	if (keeper_watch(k, s->fd_pid, KEEPER_ON_PID, i, s->generation, EPOLLIN) < 0 ||
	    keeper_watch(k, s->fd_pipe[0], KEEPER_ON_PIPE, i, s->generation, EPOLLIN) < 0 ||
	    keeper_watch(k, s->fd_pipe[1], KEEPER_ON_PIPE_ERR, i, s->generation, EPOLLIN) < 0)
		return davit_error_errno(err, errno, NULL, "cannot watch the process");
	return 0;
}

void keeper_begin_run(struct keeper *k, struct keeper_slot *s, uint32_t run, pid_t pid, uint64_t ticks)
{
	s->run = run;
	s->session = pid;
	s->start_ticks = s->session_ticks = ticks;
	s->started = keeper_realtime();
	s->flags = (s->flags & ~(unsigned)(KEEPER_IS_READY | KEEPER_ALONE | KEEPER_TELL)) | KEEPER_CHILD;
	keeper_status_set(k, s, "");
	memset(&s->end, 0, sizeof s->end);
	keeper_set_remove(&k->tell, keeper_slot_number(k, s));
	keeper_slot_set_pid(k, s, pid);
	s->state = KEEPER_SLOT_RUNNING;
	s->spawning = 0;
}

static void undo(struct keeper *k, struct keeper_slot *s)
{
	s->spawning = 0;
	keeper_close(&s->fd_pipe[0]);
	keeper_close(&s->fd_pipe[1]);
	keeper_notify_close(k, s);
}

int keeper_spawn_begin(struct keeper *k, struct keeper_slot *s, struct keeper_command *c,
		       struct davit_error *err)
{
	struct keeper_start *st = keeper_next_start(k);
	DAVIT_AUTO_CLOSE int out = -1;
	DAVIT_AUTO_CLOSE int err_out = -1;
	DAVIT_AUTO_CLOSE int ready = -1;
	int ends[2] = {-1, -1}, r;

	st->child = (struct keeper_child){.cgroup_fd = -1};
	keeper_log_close(k, s); /* what descendants of the last run still held open */
	s->generation++;
	r = apply_settings(c, err);
	if (r == 0)
		r = open_outputs(k, s, &c->f, ends, err);
	out = ends[0];
	err_out = ends[1];
	if (r == 0)
		r = c->outside ? 0 : prepare_cgroups(k, s, &st->child, err);
	if (r == 0)
		r = keeper_notify_open(k, s, &c->f, &ready, st->notify, err);
	if (r == 0) {
		snprintf(st->instance, sizeof st->instance, "DAVIT_INSTANCE=%s", s->id);
		/* The first marks processes that leave the session. */
		add_variable(c, st->instance);
		/* A launcher would take it for its own. */
		if (!(s->flags & KEEPER_LAUNCHING))
			add_variable(c, st->notify);
		st->child.streams[0] = k->fd_null;
		st->child.streams[1] = out;
		st->child.streams[2] = err_out;
		st->child.ready_fd = ready;
		s->spawning = 0;
		s->spawning_run = c->f.run;
		st->child.record = &s->spawning;
		/* A first run's group is new. */
		s->oom_kills = s->run ? keeper_oom_kills(k, s) : 0;
		st->command = *c;
		r = begin(k, st, &st->command, err);
	}
	if (r < 0) {
		close_cgroups(&st->child);
		undo(k, s);
		return r;
	}
	/* The child has written it as well, or will, should this keeper die first. */
	s->spawning = st->child.pid;
	st->slot = s;
	k->n_starts++;
	return 0;
}

int keeper_spawn_end(struct keeper *k, struct keeper_start *st, struct davit_error *err)
{
	struct keeper_slot *s = DAVIT_TAKE(st->slot);
	uint64_t ticks = 0;
	int r = end(st, &ticks, err);

	k->first_start = (k->first_start + 1) % KEEPER_STARTS;
	k->n_starts--;
	close_cgroups(&st->child);
	if (r < 0) {
		undo(k, s);
		return r;
	}
	s->fd_pid = st->child.pidfd;
	keeper_begin_run(k, s, st->command.f.run, st->child.pid, ticks);
	DAVIT_FAULT("keeper.spawn.after");
	r = watch_all(k, s, err);
	if (r < 0) {
		/* It runs and cannot be watched: it must not go on unseen. */
		keeper_pidfd_signal(s->fd_pid, SIGKILL, 0);
		DAVIT_EINTR(waitid(P_PIDFD, (id_t)s->fd_pid, &(siginfo_t){0}, WEXITED));
		keeper_close(&s->fd_pid);
		undo(k, s);
		keeper_slot_set_pid(k, s, 0);
		s->state = KEEPER_SLOT_CREATED;
	}
	return r;
}

int keeper_spawn(struct keeper *k, struct keeper_slot *s, struct keeper_command *c, struct davit_error *err)
{
	int r = keeper_spawn_begin(k, s, c, err);

	return r < 0 ? r : keeper_spawn_end(k, keeper_oldest_start(k), err);
}

int keeper_start_beside(struct keeper *k, const struct keeper_slot *s, struct keeper_command *c,
			const int streams[3], bool tty, pid_t *ret_pid, int *ret_pidfd, uint64_t *ret_ticks,
			struct davit_error *err)
{
	struct keeper_start *st = keeper_next_start(k);
	int r;

	st->child = (struct keeper_child){.tty = tty, .ready_fd = -1, .cgroup_fd = -1};
	/* A frozen child never executes its program, and this keeper would wait for it. */
	if (s && keeper_frozen(k, s))
		return davit_error_set(err, DAVIT_ESTATE, NULL, "instance %s is paused", s->id);
	r = s ? prepare_cgroups(k, s, &st->child, err) : 0;
	if (r == 0) {
		snprintf(st->instance, sizeof st->instance, "DAVIT_INSTANCE=%s", s ? s->id : "");
		if (s)
			add_variable(c, st->instance);
		memcpy(st->child.streams, streams, sizeof st->child.streams);
		r = begin(k, st, c, err);
	}
	if (r == 0)
		r = end(st, ret_ticks, err);
	close_cgroups(&st->child);
	if (r < 0)
		return r;
	*ret_pid = st->child.pid;
	*ret_pidfd = st->child.pidfd;
	return 0;
}

int keeper_exec(struct keeper *k, struct keeper_slot *s, struct keeper_command *c, const int streams[3],
		bool tty, uint64_t tag, struct keeper_exec_slot **ret, struct davit_error *err)
{
	struct keeper_exec_slot *x = NULL;
	uint64_t ticks = 0;
	int pidfd, r;
	pid_t pid;

	for (size_t i = 0; i < KEEPER_EXECS_MAX && !x; i++)
		if (!k->file->execs[i].used)
			x = &k->file->execs[i];
	if (!x)
		return davit_error_set(err, DAVIT_EQUOTA, NULL, "%d commands run beside instances already",
				       KEEPER_EXECS_MAX);
	r = keeper_start_beside(k, s, c, streams, tty, &pid, &pidfd, &ticks, err);
	if (r < 0)
		return r;
	*x = (struct keeper_exec_slot){
		.slot = keeper_slot_number(k, s),
		.generation = x->generation + 1,
		.pid = pid,
		.start_ticks = ticks,
		.tag = tag,
		.fd_pid = pidfd,
		.child = 1,
		.used = 1,
	};
	if (keeper_watch(k, pidfd, KEEPER_ON_EXEC, (uint32_t)(x - k->file->execs), x->generation, EPOLLIN) <
	    0) {
		r = davit_error_errno(err, errno, NULL, "cannot watch the process");
		keeper_pidfd_signal(pidfd, SIGKILL, 0);
		DAVIT_EINTR(waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED));
		keeper_close(&x->fd_pid);
		x->used = 0;
		return r;
	}
	*ret = x;
	return 0;
}
