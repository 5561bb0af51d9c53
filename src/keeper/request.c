/* SPDX-License-Identifier: MIT
 *
 * What the daemon asks for: one function a request.
 */
#include "keeper/request.h"
#include "keeper/launch.h"
#include "keeper/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include <linux/magic.h>

void keeper_request_fixed(const struct request *q, void *ret, size_t size)
{
	size_t n = q->h->size < size ? q->h->size : size;

	memset(ret, 0, size);
	memcpy(ret, q->h, n);
}

static int hello(struct keeper *k, struct request *q)
{
	struct keeper_hello m;
	struct keeper_welcome w = {.h = {.type = KEEPER_WELCOME, .tag = q->h->tag}};

	keeper_request_fixed(q, &m, sizeof m);
	if (m.version == 0)
		return davit_error_set(&q->err, DAVIT_EPROTO, NULL, "HELLO without a version");
	k->greeted = true;
	k->packs = m.version >= 2;
	w.version = KEEPER_PROTOCOL_VERSION;
	w.pid = getpid();
	KEEPER_FOREACH(i, &k->used)
	w.slots_used++;
	w.slots_max = KEEPER_SLOTS_MAX;
	w.recovered = k->recovered;
	w.lost = k->lost;
	keeper_answer(k, &w.h, sizeof w, DAVIT_VERSION);
	return 0;
}

static int list(struct keeper *k, struct request *q)
{
	k->list_next = 0;
	k->list_tag = q->h->tag;
	return 0;
}

static int take_strings(struct keeper *k, struct keeper_slot *s, struct keeper_reader *r,
			struct davit_error *err)
{
	const char *label = keeper_read_string(r), *log_dir = keeper_read_string(r), *cgroups = r->at;

	for (int n = 0; *keeper_read_string(r); n++)
		if (n == KEEPER_JOINS_MAX)
			return davit_error_set(err, DAVIT_EINVAL, NULL, "more than %d cgroups",
					       KEEPER_JOINS_MAX);
	if (r->bad)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "CREATE ends before its strings");
	return keeper_strings_set(k, s, label, log_dir, cgroups, err);
}

static int create(struct keeper *k, struct request *q)
{
	struct keeper_slot *s;
	char cgroup[KEEPER_PATH_MAX];
	struct keeper_create m;
	struct statfs fs;
	int r;

	keeper_request_fixed(q, &m, sizeof m);
	if (!m.h.id[0])
		return davit_error_set(&q->err, DAVIT_EINVAL, NULL, "CREATE without an id");
	s = keeper_slot_find(k, m.h.id);
	if (s && s->state == KEEPER_SLOT_RUNNING)
		return davit_error_set(&q->err, DAVIT_EEXIST, NULL, "instance %s runs already", m.h.id);
	if (!s)
		s = keeper_slot_take(k, m.h.id);
	if (!s)
		return davit_error_set(&q->err, DAVIT_EQUOTA, NULL, "all %d places of this keeper are taken",
				       KEEPER_SLOTS_MAX);
	r = take_strings(k, s, &q->body, &q->err);
	if (r < 0) {
		if (s->state == KEEPER_SLOT_FREE)
			keeper_slot_release(k, s);
		return r;
	}
	s->log_max_size = m.log_max_size;
	s->log_max_files = m.log_max_files;
	s->log_policy = m.log_policy == DAVIT_LOG_DROP ? DAVIT_LOG_DROP : DAVIT_LOG_BLOCK;
	s->log_rate = m.log_rate;
	s->flags &= ~(uint32_t)KEEPER_CGROUP2;
	if (keeper_cgroup(k, s, 0, cgroup) && statfs(cgroup, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
		s->flags |= KEEPER_CGROUP2;
	if (s->state == KEEPER_SLOT_FREE)
		s->state = KEEPER_SLOT_CREATED;
	return 0;
}

static int spawn(struct keeper *k, struct request *q)
{
	struct keeper_start *st = keeper_next_start(k);
	struct keeper_slot *s = q->slot;
	struct keeper_command c;
	struct keeper_spawn m;
	int r;

	keeper_request_fixed(q, &m, sizeof m);
	if (s->state == KEEPER_SLOT_RUNNING)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s runs already", s->id);
	if (s->stop_phase != KEEPER_STOP_NONE)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s is being stopped", s->id);
	r = keeper_command_read(k, &m, &q->body, &c, &q->err);
	if (r < 0)
		return r;
	st->tag = q->h->tag;
	r = keeper_spawn_begin(k, s, &c, &q->err);
	if (r < 0)
		keeper_command_fini(&c);
	return r;
}

static void finish_start(struct keeper *k, struct keeper_start *st)
{
	struct keeper_spawned answer = {.h = {.type = KEEPER_SPAWNED, .tag = st->tag}};
	const struct keeper_slot *s = st->slot;
	struct davit_error err = {0};
	int r = keeper_spawn_end(k, st, &err);

	keeper_command_fini(&st->command);
	memcpy(answer.h.id, s->id, sizeof s->id);
	if (r < 0) {
		keeper_answer_done(k, &answer.h, r, &err);
		return;
	}
	answer.pid = s->pid;
	answer.run = s->run;
	answer.started = s->started;
	answer.start_ticks = s->start_ticks;
	keeper_answer(k, &answer.h, sizeof answer, NULL);
}

void keeper_finish_starts(struct keeper *k, unsigned keep)
{
	while (k->n_starts > keep)
		finish_start(k, keeper_oldest_start(k));
}

/* What is asked for an instance that is being started, and all that is not a start or
 * leads to one, finds everything that was asked before done. */
static bool may_overlap(struct keeper *k, const struct keeper_header *h)
{
	const struct keeper_slot *s = keeper_slot_find(k, h->id);

	return k->overlap && (h->type == KEEPER_CREATE || h->type == KEEPER_SPAWN) && (!s || !s->spawning);
}

static int launch(struct keeper *k, struct request *q)
{
	struct keeper_slot *s = q->slot;
	struct keeper_command c;
	struct keeper_launch m;
	int r;

	keeper_request_fixed(q, &m, sizeof m);
	if (s->state == KEEPER_SLOT_RUNNING)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s runs already", s->id);
	if (s->stop_phase != KEEPER_STOP_NONE)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s is being stopped", s->id);
	r = keeper_command_read(k, &m.spawn, &q->body, &c, &q->err);
	if (r < 0)
		return r;
	const char *pid_file = keeper_read_string(&q->body);
	c.outside = q->h->flags & KEEPER_FLAG_OUTSIDE;
	r = keeper_launch(k, s, &c, pid_file, m.limit_ms, q->h->tag, &q->err);
	keeper_command_fini(&c);
	return r;
}

static int exec(struct keeper *k, struct request *q)
{
	struct keeper_spawned answer = {.h = {.type = KEEPER_SPAWNED, .tag = q->h->tag}};
	struct keeper_slot *s = q->slot;
	struct keeper_exec_slot *x;
	struct keeper_command c;
	struct keeper_exec m;
	int r;

	keeper_request_fixed(q, &m, sizeof m);
	if (s->state != KEEPER_SLOT_RUNNING || s->stop_phase != KEEPER_STOP_NONE)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s does not run", s->id);
	if (s->flags & KEEPER_LAUNCHING)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s is being launched", s->id);
	if (q->n_fds < 3)
		return davit_error_set(&q->err, DAVIT_EPROTO, NULL, "EXEC needs three descriptors, not %zu",
				       q->n_fds);
	m.spawn.ready = DAVIT_READY_NONE;
	r = keeper_command_read(k, &m.spawn, &q->body, &c, &q->err);
	if (r < 0)
		return r;
	r = keeper_exec(k, s, &c, q->fds, m.tty, q->h->tag, &x, &q->err);
	keeper_command_fini(&c);
	if (r < 0)
		return r;
	memcpy(answer.h.id, s->id, sizeof s->id);
	answer.pid = x->pid;
	answer.run = s->run;
	answer.started = keeper_realtime();
	answer.start_ticks = x->start_ticks;
	keeper_answer(k, &answer.h, sizeof answer, NULL);
	return 0;
}

static int signal_exec(struct keeper *k, struct request *q, const struct keeper_signal *m)
{
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++) {
		struct keeper_exec_slot *x = &k->file->execs[i];
		if (!x->used || !x->pid || x->tag != m->exec_tag || x->slot != keeper_slot_number(k, q->slot))
			continue;
		/* It is the leader of its own session and group. */
		if (m->scope > 0 && x->child)
			kill(-x->pid, m->signo);
		else if (keeper_pidfd_signal(x->fd_pid, m->signo, 0) < 0)
			return davit_error_errno(&q->err, errno, NULL, "cannot signal process %d", x->pid);
		return 0;
	}
	return davit_error_set(&q->err, DAVIT_ENOENT, NULL, "no such command runs in instance %s",
			       q->slot->id);
}

static int do_signal(struct keeper *k, struct request *q)
{
	struct keeper_slot *s = q->slot;
	struct keeper_signal m;

	keeper_request_fixed(q, &m, sizeof m);
	if (m.signo <= 0 || m.signo > SIGRTMAX)
		return davit_error_set(&q->err, DAVIT_EINVAL, NULL, "%d is not a signal", m.signo);
	if (m.exec_tag)
		return signal_exec(k, q, &m);
	if (s->flags & KEEPER_LAUNCHING)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s is being launched", s->id);
	if (s->state != KEEPER_SLOT_RUNNING)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s does not run", s->id);
	if (m.scope == 2)
		keeper_tree_signal(k, s, m.signo);
	else if (m.scope == 1)
		keeper_signal_group(s, m.signo);
	else if (keeper_pidfd_signal(s->fd_pid, m.signo, 0) < 0)
		return davit_error_errno(&q->err, errno, NULL, "cannot signal process %d", s->pid);
	return 0;
}

static int stop(struct keeper *k, struct request *q)
{
	struct keeper_slot *s = q->slot;
	struct keeper_stop m;

	keeper_request_fixed(q, &m, sizeof m);
	if (m.signo < 0 || m.signo > SIGRTMAX)
		return davit_error_set(&q->err, DAVIT_EINVAL, NULL, "%d is not a signal", m.signo);
	if (s->n_stop_tags == KEEPER_STOP_TAGS)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL,
				       "%d stops of instance %s are under way already", KEEPER_STOP_TAGS,
				       s->id);
	s->stop_tags[s->n_stop_tags++] = q->h->tag;
	keeper_stop(k, s, m.signo ? m.signo : SIGTERM, m.scope, m.grace_ns);
	return 0;
}

static int do_remove(struct keeper *k, struct request *q)
{
	struct keeper_slot *s = keeper_slot_find(k, q->h->id);

	if (!s)
		return 0;
	if (s->state == KEEPER_SLOT_RUNNING || s->stop_phase != KEEPER_STOP_NONE)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s still runs", s->id);
	keeper_log_close(k, s);
	keeper_notify_close(k, s);
	keeper_terms_drop(k, s);
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++)
		if (k->file->execs[i].used && k->file->execs[i].slot == keeper_slot_number(k, s)) {
			keeper_close(&k->file->execs[i].fd_pid);
			k->file->execs[i].used = 0;
		}
	keeper_slot_release(k, s);
	return 0;
}

static int quit(struct keeper *k, struct request *q)
{
	KEEPER_FOREACH(i, &k->used)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		/* How one ended may not have been told yet. */
		if (!(q->h->flags & KEEPER_FLAG_KILL))
			return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s is %s", s->id,
					       s->state == KEEPER_SLOT_RUNNING ? "running" : "not removed");
		/* Also what a run that ended has left behind. */
		keeper_stop(k, s, SIGKILL, 0, 0);
	}
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++) {
		if (!k->terms[i].used)
			continue;
		if (!(q->h->flags & KEEPER_FLAG_KILL))
			return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "terminal %s is not closed",
					       k->terms[i].id);
		keeper_term_kill(&k->terms[i], SIGKILL);
	}
	k->quitting = true;
	k->quit_tag = q->h->tag;
	return 0;
}

static int upgrade(struct keeper *k, struct request *q)
{
	/* The new program would not know of them. */
	if (!keeper_send_replies(k))
		return davit_error_set(&q->err, DAVIT_EUNAVAIL, NULL, "earlier answers were not taken yet");
	return keeper_upgrade(k, q->h->tag, &q->err);
}

static const struct {
	int (*handle)(struct keeper *k, struct request *q);
	bool wants_slot;
	bool answers; /* itself, or later; the others are answered with DONE */
} handlers[] = {
	[KEEPER_HELLO] = {hello, .answers = true},
	[KEEPER_LIST] = {list, .answers = true},
	[KEEPER_CREATE] = {create},
	[KEEPER_SPAWN] = {spawn, .wants_slot = true, .answers = true},
	[KEEPER_EXEC] = {exec, .wants_slot = true, .answers = true},
	[KEEPER_SIGNAL] = {do_signal, .wants_slot = true},
	[KEEPER_STOP] = {stop, .wants_slot = true, .answers = true},
	[KEEPER_REMOVE] = {do_remove},
	[KEEPER_QUIT] = {quit, .answers = true},
	[KEEPER_UPGRADE] = {upgrade, .answers = true},
	[KEEPER_LAUNCH] = {launch, .wants_slot = true, .answers = true},
	[KEEPER_TERMINAL] = {keeper_request_terminal, .answers = true},
	[KEEPER_ATTACH] = {keeper_request_attach, .answers = true},
	[KEEPER_RESIZE] = {keeper_request_resize},
	[KEEPER_TERMINAL_SIGNAL] = {keeper_request_terminal_signal},
	[KEEPER_TERMINALS] = {keeper_request_terminals, .answers = true},
	[KEEPER_TERMINAL_CLOSE] = {keeper_request_terminal_close, .answers = true},
};

void keeper_request(struct keeper *k, const struct keeper_header *h, int *fds, size_t n_fds)
{
	struct request q = {
		.h = h,
		.body = {.at = (const char *)h + h->size, .end = (const char *)h + h->total},
		.fds = fds,
		.n_fds = n_fds,
	};
	int r;

	if (k->n_starts && !may_overlap(k, h))
		keeper_finish_starts(k, 0);
	if (h->type >= DAVIT_ARRAY_SIZE(handlers) || !handlers[h->type].handle) {
		r = davit_error_set(&q.err, DAVIT_ENOTSUP, NULL, "this keeper (%s) does not know request %u",
				    DAVIT_VERSION, h->type);
	} else if (!k->greeted && h->type != KEEPER_HELLO) {
		r = davit_error_set(&q.err, DAVIT_EPROTO, NULL, "the first request is HELLO");
	} else if (handlers[h->type].wants_slot && !(q.slot = keeper_slot_find(k, h->id))) {
		r = davit_error_set(&q.err, DAVIT_ENOENT, NULL, "the keeper has no instance %s", h->id);
	} else {
		r = handlers[h->type].handle(k, &q);
		if (r == 0 && handlers[h->type].answers)
			return;
	}
	keeper_answer_done(k, h, r, &q.err);
}
