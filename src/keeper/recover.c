/* SPDX-License-Identifier: MIT
 *
 * Taking up what was running: after a crash from the slots alone, after an
 * upgrade with every descriptor still open.
 */
#include "keeper/launch.h"
#include "keeper/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* ------------------------------------------------------------------- a crash */

/* Opens /proc/PID/fd/name if it is the pipe of that inode. */
static int open_if_pipe(pid_t pid, const char *name, uint64_t inode)
{
	char path[64];
	struct stat st;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/fd/%s", (int)pid, name);
	if (stat(path, &st) < 0 || !S_ISFIFO(st.st_mode) || st.st_ino != inode)
		return -1;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) || st.st_ino != inode))
		keeper_close(&fd);
	return fd;
}

/* The pipe is usually at its old number; else the process moved it. */
static int reopen_pipe(const struct keeper_slot *s, enum keeper_stream stream)
{
	char dir[32], name[16], buf[2048] __attribute__((aligned(8)));
	int fd;
	long n;
	struct entry {
		uint64_t inode;
		int64_t next;
		uint16_t length;
		uint8_t type;
		char name[];
	};

	snprintf(name, sizeof name, "%d", stream == KEEPER_OUT ? 1 : 2);
	fd = open_if_pipe(s->pid, name, s->pipe_inode[stream]);
	if (fd >= 0)
		return fd;
	snprintf(dir, sizeof dir, "/proc/%d/fd", (int)s->pid);
	DAVIT_AUTO_CLOSE int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (d >= 0 && fd < 0 && (n = syscall(SYS_getdents64, d, buf, sizeof buf)) > 0)
		for (long pos = 0; pos < n && fd < 0;) {
			const struct entry *e = (const void *)(buf + pos);
			pos += e->length;
			if (e->name[0] != '.')
				fd = open_if_pipe(s->pid, e->name, s->pipe_inode[stream]);
		}
	return fd;
}

static void forget_descriptors(struct keeper_slot *s)
{
	s->fd_pid = s->fd_pipe[0] = s->fd_pipe[1] = s->fd_ready = s->fd_notify = s->fd_cgroup = -1;
}

static void lose(struct keeper *k, struct keeper_slot *s)
{
	if (s->end.kind == DAVIT_EXIT_NONE) {
		s->end = (struct keeper_end){
			.kind = DAVIT_EXIT_UNKNOWN, .why = KEEPER_WHY_DOWN, .time = keeper_realtime()};
		k->lost++;
	}
	keeper_reap_finish(k, s);
}

static void recover_running(struct keeper *k, struct keeper_slot *s)
{
	uint32_t number = keeper_slot_number(k, s);
	struct keeper_stat st;

	s->flags &= ~(uint32_t)KEEPER_CHILD;
	if (s->flags & KEEPER_LAUNCHING)
		keeper_launch_recover(k, s);
	s->fd_pid = keeper_pidfd(s->pid, s->start_ticks);
	if (s->fd_pid < 0 || (keeper_stat(s->pid, &st) == 0 && (st.state == 'Z' || st.state == 'X') &&
			      s->end.kind != DAVIT_EXIT_NONE)) {
		keeper_close(&s->fd_pid);
		lose(k, s);
		return;
	}
	s->end = (struct keeper_end){0};
	for (int i = 0; i < 2; i++) {
		s->fd_pipe[i] = reopen_pipe(s, i);
		if (s->fd_pipe[i] >= 0)
			keeper_watch(k, s->fd_pipe[i], KEEPER_ON_PIPE + (unsigned)i, number, s->generation,
				     EPOLLIN);
	}
	if (s->notify_wanted && !(s->flags & KEEPER_IS_READY))
		keeper_notify_reopen(k, s);
	keeper_watch(k, s->fd_pid, KEEPER_ON_PID, number, s->generation, EPOLLIN);
	k->recovered++;
}

/* The former keeper died between the child's birth and its record. The child
 * may still be about to execute its program: until then it bears no mark. Its pid
 * stays in the slot until the run is recorded: this keeper may die as well. */
static void recover_spawning(struct keeper *k, struct keeper_slot *s)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	pid_t pid = s->spawning;
	struct keeper_stat st;
	char id[24];

	DAVIT_FAULT("keeper.recover.spawning");
	for (int i = 0; i < 20 && keeper_stat(pid, &st) == 0 && st.session == pid && st.state != 'Z'; i++) {
		if (keeper_environ_id(pid, id) && !strcmp(id, s->id)) {
			keeper_begin_run(k, s, s->spawning_run, pid, st.start_ticks);
			return;
		}
		nanosleep(&pause, NULL);
	}
	/* It was born, so it began, and has ended unseen: to call it not started would
	 * have it started twice. */
	keeper_begin_run(k, s, s->spawning_run, pid, 0);
}

static void recover_exec(struct keeper *k, struct keeper_exec_slot *x)
{
	x->fd_pid = x->pid ? keeper_pidfd(x->pid, x->start_ticks) : -1;
	x->child = 0;
	x->generation++;
	if (x->fd_pid < 0 || !keeper_set_has(&k->used, x->slot)) {
		keeper_close(&x->fd_pid);
		x->used = 0;
		return;
	}
	keeper_watch(k, x->fd_pid, KEEPER_ON_EXEC, (uint32_t)(x - k->file->execs), x->generation, EPOLLIN);
}

/* What a stop that was under way waits for. */
static void resume_stop(struct keeper *k, struct keeper_slot *s)
{
	if (s->stop_phase == KEEPER_STOP_NONE)
		return;
	keeper_set_add(&k->stopping, keeper_slot_number(k, s));
	keeper_due(&k->stop_due, keeper_monotonic());
}

void keeper_recover(struct keeper *k)
{
	KEEPER_FOREACH(i, &k->used)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		s->generation++;
		s->flags &= ~(uint32_t)KEEPER_TELL;
		s->n_stop_tags = 0;
		forget_descriptors(s);
		if (s->spawning)
			recover_spawning(k, s);
		if (s->state == KEEPER_SLOT_RUNNING)
			recover_running(k, s);
		resume_stop(k, s);
		keeper_launch_resume(k, s);
	}
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++)
		if (k->file->execs[i].used)
			recover_exec(k, &k->file->execs[i]);
	keeper_terms_recover(k);
}

/* ---------------------------------------------------------------- an upgrade */

static void keep_on_exec(int fd, bool keep)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC);
}

static void keep_all(struct keeper *k, bool keep)
{
	keep_on_exec(k->fd_listen, keep);
	keep_on_exec(k->fd_lock, keep);
	keep_on_exec(k->fd_slots, keep);
	keep_on_exec(k->conn, keep);
	KEEPER_FOREACH(i, &k->used)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		const int fds[] = {s->fd_pid, s->fd_pipe[0], s->fd_pipe[1], s->fd_ready, s->fd_notify};
		for (size_t j = 0; j < DAVIT_ARRAY_SIZE(fds); j++)
			keep_on_exec(fds[j], keep);
	}
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++)
		if (k->file->execs[i].used)
			keep_on_exec(k->file->execs[i].fd_pid, keep);
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++) {
		const struct keeper_term *t = &k->terms[i];
		if (!t->used)
			continue;
		keep_on_exec(t->fd_pid, keep);
		keep_on_exec(t->fd_master, keep);
		keep_on_exec(t->fd_ring, keep);
		for (size_t j = 0; j < KEEPER_CLIENTS_MAX; j++)
			keep_on_exec(t->clients[j].fd, keep);
	}
}

enum { LAYOUT_MAX = 32 };

static pid_t run_layout(const char *program, int out)
{
	char *argv[] = {(char[]){"davit-keeper"}, (char[]){"--layout"}, NULL};
	pid_t pid = vfork();

	if (pid == 0) {
		dup2(out, STDOUT_FILENO);
		execve(program, argv, environ);
		_exit(127);
	}
	return pid;
}

/* Whether the program takes over our slots. What `PROGRAM --layout` writes are the
 * versions that it reads, the oldest first, in one line. It answers without reading
 * anything; the keeper waits for it. */
static bool reads_layout(const char *program, char text[LAYOUT_MAX])
{
	size_t len = 0;
	ssize_t n = 1;
	pid_t pid;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return false;
	pid = run_layout(program, p[1]);
	close(p[1]);
	while (pid > 0 && n > 0 && len < LAYOUT_MAX - 1) {
		n = DAVIT_EINTR(read(p[0], text + len, LAYOUT_MAX - 1 - len));
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = '\0';
	close(p[0]);
	if (pid > 0)
		DAVIT_EINTR(waitpid(pid, NULL, 0));
	if (len == 0 || text[len - 1] != '\n')
		return false;
	text[len - 1] = '\0';
	for (char *at = text, *end; *at; at = end) {
		long v = strtol(at, &end, 10);
		if (end == at)
			return false;
		if (v == KEEPER_FILE_VERSION)
			return true;
	}
	return false;
}

int keeper_upgrade(struct keeper *k, uint64_t tag, struct davit_error *err)
{
	char index[16], slots[16];
	char *argv[] = {(char[]){"davit-keeper"}, k->run_dir, index, (char[]){"--upgraded"}, slots, NULL};
	struct keeper_file *f = k->file;
	char layouts[LAYOUT_MAX] = "";
	int r;

	/* One that cannot read the slots would have to let go of everything. */
	if (!reads_layout(k->program, layouts))
		return davit_error_set(
			err, DAVIT_ENOTSUP, NULL,
			"%s does not take over slots of layout %d (it reads: %s): this keeper stays",
			k->program, KEEPER_FILE_VERSION, layouts[0] ? layouts : "nothing");
	snprintf(index, sizeof index, "%u", k->index);
	snprintf(slots, sizeof slots, "%d", k->fd_slots);
	f->upgrade_tag = tag;
	f->fd_listen = k->fd_listen;
	f->fd_lock = k->fd_lock;
	f->fd_conn = k->conn;
	f->upgrading = k->packs ? 2 : 1;
	keep_all(k, true);
	DAVIT_FAULT("keeper.upgrade");
	execve(k->program, argv, environ);
	r = davit_error_errno(err, errno, NULL, "cannot execute %s", k->program);
	keep_all(k, false);
	f->upgrading = 0;
	return r;
}

static void watch_slot(struct keeper *k, struct keeper_slot *s)
{
	uint32_t number = keeper_slot_number(k, s);
	const struct {
		int fd;
		enum keeper_source source;
	} all[] = {
		{s->fd_pid, KEEPER_ON_PID},	     {s->fd_pipe[0], KEEPER_ON_PIPE},
		{s->fd_pipe[1], KEEPER_ON_PIPE_ERR}, {s->fd_ready, KEEPER_ON_READY},
		{s->fd_notify, KEEPER_ON_NOTIFY},
	};

	s->fd_cgroup = -1; /* was not kept: the stop opens it anew */
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(all); i++)
		if (all[i].fd >= 0)
			keeper_watch(k, all[i].fd, all[i].source, number, s->generation, EPOLLIN);
	if (s->flags & KEEPER_TELL)
		keeper_set_add(&k->tell, number);
	if (s->dropped_bytes) {
		keeper_set_add(&k->dropping, number);
		keeper_due(&k->marker_due, keeper_monotonic());
	}
	resume_stop(k, s);
	keeper_launch_resume(k, s);
}

void keeper_upgraded(struct keeper *k)
{
	struct keeper_file *f = k->file;
	struct keeper_header to = {.tag = f->upgrade_tag};

	k->conn = f->fd_conn;
	k->greeted = true; /* it has asked for the upgrade */
	k->packs = f->upgrading >= 2;
	f->upgrading = 0;
	KEEPER_FOREACH(i, &k->used)
	watch_slot(k, keeper_slot(k, i));
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++) {
		struct keeper_exec_slot *x = &f->execs[i];
		if (x->used && x->fd_pid >= 0)
			keeper_watch(k, x->fd_pid, KEEPER_ON_EXEC, (uint32_t)i, x->generation, EPOLLIN);
		else if (x->used)
			k->tell_execs = true;
	}
	keep_all(k, false);
	keeper_terms_upgraded(k);
	if (k->conn >= 0) {
		k->conn_events = EPOLLIN;
		keeper_watch(k, k->conn, KEEPER_ON_CONN, (uint32_t)k->conn, 0, EPOLLIN);
		keeper_answer_done(k, &to, 0, NULL);
	}
}
