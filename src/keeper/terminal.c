/* SPDX-License-Identifier: MIT
 *
 * The command of a terminal, from its start to the moment when nobody wants to
 * know of it any more.
 */
#include "keeper/terminal.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>

#define ENDED_MAX 32 /* kept with their output */
#define HANG_UP_NS (1000 * DAVIT_NSEC_PER_MSEC)
#define SIGNAL_GROUP 4u /* PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9 */

/* Whether nobody has an interest in it any more. */
static bool is_over(const struct keeper_term *t)
{
	return !t->pid && t->fd_master < 0 && t->taken && t->told && !t->n_closing;
}

struct keeper_term *keeper_term_find(struct keeper *k, const char *id)
{
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++)
		if (k->terms[i].used && !is_over(&k->terms[i]) && !strcmp(k->terms[i].id, id))
			return &k->terms[i];
	return NULL;
}

struct keeper_term *keeper_term_of_pid(struct keeper *k, pid_t pid)
{
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++)
		if (k->terms[i].used && k->terms[i].pid == pid)
			return &k->terms[i];
	return NULL;
}

/* ------------------------------------------------------------------------- ring */

/* Twice, one behind the other: what goes over the end lies in one piece. */
static char *map_ring(int fd)
{
	char *at = mmap(NULL, 2 * KEEPER_RING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	for (size_t i = 0; i < 2; i++)
		if (mmap(at + i * KEEPER_RING, KEEPER_RING, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 fd, 0) == MAP_FAILED) {
			munmap(at, 2 * KEEPER_RING);
			return NULL;
		}
	return at;
}

static int open_ring(struct keeper *k, struct keeper_term *t, struct davit_error *err)
{
	t->fd_ring = memfd_create("davit-terminal", MFD_CLOEXEC);
	if (t->fd_ring < 0 || ftruncate(t->fd_ring, (off_t)KEEPER_RING) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make memory for a terminal");
	k->rings[keeper_term_number(k, t)] = map_ring(t->fd_ring);
	if (!k->rings[keeper_term_number(k, t)])
		return davit_error_errno(err, errno, NULL, "cannot map memory for a terminal");
	return 0;
}

void keeper_term_free(struct keeper *k, struct keeper_term *t)
{
	char **ring = &k->rings[keeper_term_number(k, t)];

	for (unsigned i = 0; i < KEEPER_CLIENTS_MAX; i++)
		keeper_term_detach(t, i);
	keeper_close(&t->fd_pid);
	keeper_close(&t->fd_master);
	keeper_close(&t->fd_ring);
	if (*ring)
		munmap(*ring, 2 * KEEPER_RING);
	*ring = NULL;
	t->used = 0;
	t->generation++;
	k->n_terms--;
}

/* ---------------------------------------------------------------------- starting */

void keeper_term_resize(struct keeper_term *t, uint32_t rows, uint32_t columns)
{
	struct winsize size = {.ws_row = (uint16_t)rows, .ws_col = (uint16_t)columns};

	if (!rows || !columns || rows > UINT16_MAX || columns > UINT16_MAX)
		return;
	t->rows = size.ws_row;
	t->columns = size.ws_col;
	if (t->fd_master >= 0)
		ioctl(t->fd_master, TIOCSWINSZ, &size); /* tells the foreground group */
}

static int open_pty(struct keeper *k, struct keeper_term *t, const struct keeper_spawn *f, bool raw,
		    int *ret_slave, struct davit_error *err)
{
	struct termios mode;
	int unlock = 0, slave;

	t->fd_master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (t->fd_master < 0 || ioctl(t->fd_master, TIOCSPTLCK, &unlock) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a terminal");
	slave = ioctl(t->fd_master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return davit_error_errno(err, errno, NULL, "cannot open the terminal's other side");
	*ret_slave = slave;
	if (raw && tcgetattr(slave, &mode) == 0) {
		cfmakeraw(&mode);
		tcsetattr(slave, TCSANOW, &mode);
	}
	/* So that another user's command can open /dev/tty anew. */
	if (f->set_user && fchown(slave, f->uid, (gid_t)-1) < 0 && errno != EPERM)
		return davit_error_errno(err, errno, NULL, "cannot give a terminal to user %u", f->uid);
	return keeper_may_open(k, slave, err) ? 0 : DAVIT_EQUOTA;
}

static struct keeper_term *take(struct keeper *k, const struct keeper_term_plan *plan)
{
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX; i++) {
		struct keeper_term *t = &k->terms[i], old = *t;
		if (t->used)
			continue;
		*t = (struct keeper_term){
			.used = 1,
			.generation = old.generation + 1,
			.slot = plan->slot ? keeper_slot_number(k, plan->slot) : KEEPER_NONE,
			.fd_pid = -1,
			.fd_master = -1,
			.fd_ring = -1,
			.rows = 24,
			.columns = 80,
		};
		for (size_t j = 0; j < KEEPER_CLIENTS_MAX; j++)
			t->clients[j] = (struct keeper_term_client){
				.fd = -1, .generation = old.clients[j].generation + 1};
		snprintf(t->id, sizeof t->id, "%s", plan->id);
		snprintf(t->instance, sizeof t->instance, "%s", plan->instance);
		snprintf(t->command, sizeof t->command, "%s", plan->command);
		k->n_terms++;
		return t;
	}
	return NULL;
}

static int start(struct keeper *k, struct keeper_term *t, const struct keeper_term_plan *plan,
		 struct keeper_command *c, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int slave = -1;
	int r = open_ring(k, t, err), streams[3];

	if (r == 0)
		r = open_pty(k, t, &c->f, plan->raw, &slave, err);
	if (r < 0)
		return r;
	keeper_term_resize(t, plan->rows ? plan->rows : t->rows, plan->columns ? plan->columns : t->columns);
	streams[0] = streams[1] = streams[2] = slave;
	r = keeper_start_beside(k, plan->slot, c, streams, true, &t->pid, &t->fd_pid, &t->start_ticks, err);
	if (r < 0)
		return r;
	t->started = keeper_realtime();
	if (keeper_watch(k, t->fd_pid, KEEPER_ON_TERM_PID, keeper_term_number(k, t), t->generation, EPOLLIN) <
	    0) {
		r = davit_error_errno(err, errno, NULL, "cannot watch the process");
		keeper_pidfd_signal(t->fd_pid, SIGKILL, 0);
		DAVIT_EINTR(waitid(P_PIDFD, (id_t)t->fd_pid, &(siginfo_t){0}, WEXITED));
	}
	return r;
}

int keeper_term_open(struct keeper *k, const struct keeper_term_plan *plan, struct keeper_command *c,
		     struct keeper_term **ret, struct davit_error *err)
{
	struct keeper_term *t;
	int r;

	if (keeper_term_find(k, plan->id))
		return davit_error_set(err, DAVIT_EEXIST, NULL, "terminal %s is there already", plan->id);
	t = take(k, plan);
	if (!t)
		return davit_error_set(err, DAVIT_EQUOTA, NULL, "all %d terminals of this keeper are taken",
				       KEEPER_TERMINALS_MAX);
	r = start(k, t, plan, c, err);
	if (r < 0) {
		t->pid = 0;
		keeper_term_free(k, t);
		return r;
	}
	*ret = t;
	return 0;
}

/* ------------------------------------------------------------------------ signals */

void keeper_term_kill(const struct keeper_term *t, int signo)
{
	if (!t->pid || t->fd_pid < 0)
		return;
	/* It is the leader of its group, and not reaped: the number is its. */
	if (keeper_pidfd_signal(t->fd_pid, signo, SIGNAL_GROUP) < 0 && errno == EINVAL)
		kill(-t->pid, signo);
}

/* 0 when there is none that could be signalled without a doubt. */
static pid_t foreground(const struct keeper_term *t)
{
	pid_t group = t->fd_master >= 0 ? tcgetpgrp(t->fd_master) : 0;

	return group > 1 && group != t->pid ? group : 0;
}

int keeper_term_signal(const struct keeper_term *t, int signo, struct davit_error *err)
{
	pid_t group = foreground(t);

	if (!t->pid)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "the command of terminal %s has ended",
				       t->id);
	/* These the kernel sends itself. */
	if (t->fd_master >= 0 && ioctl(t->fd_master, TIOCSIG, signo) == 0)
		return 0;
	if (group && kill(-group, signo) == 0)
		return 0;
	keeper_term_kill(t, signo);
	return 0;
}

static void hang_up(struct keeper *k, struct keeper_term *t)
{
	pid_t group = foreground(t);

	if (!t->pid)
		return;
	if (group) {
		kill(-group, SIGHUP);
		kill(-group, SIGCONT);
	}
	keeper_term_kill(t, SIGHUP);
	keeper_term_kill(t, SIGCONT);
	if (t->kill_at)
		return;
	t->kill_at = keeper_monotonic() + HANG_UP_NS;
	keeper_due(&k->term_due, t->kill_at);
}

void keeper_term_close(struct keeper *k, struct keeper_term *t)
{
	t->taken = 1;
	if (t->pid)
		hang_up(k, t);
	else
		k->tell_terms = true;
}

void keeper_terms_hang_up(struct keeper *k, const struct keeper_slot *s)
{
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++)
		if (k->terms[i].used && k->terms[i].slot == keeper_slot_number(k, s))
			hang_up(k, &k->terms[i]);
}

void keeper_terms_tick(struct keeper *k)
{
	int64_t now = keeper_monotonic(), next;

	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++) {
		struct keeper_term *t = &k->terms[i];
		if (!t->used)
			continue;
		next = keeper_term_stalls(k, t, now);
		if (next)
			keeper_due(&k->term_due, next);
		if (!t->kill_at || !t->pid)
			continue;
		if (t->kill_at > now) {
			keeper_due(&k->term_due, t->kill_at);
			continue;
		}
		pid_t group = foreground(t);
		if (group)
			kill(-group, SIGKILL);
		keeper_term_kill(t, SIGKILL);
		t->kill_at = 0;
	}
}

/* --------------------------------------------------------------------------- ends */

static void make_room(struct keeper *k)
{
	struct keeper_term *oldest = NULL;
	unsigned n = 0;

	for (size_t i = 0; i < KEEPER_TERMINALS_MAX; i++) {
		struct keeper_term *t = &k->terms[i];
		if (!t->used || t->pid)
			continue;
		n++;
		if (!keeper_term_clients(t) && (!oldest || t->end.time < oldest->end.time))
			oldest = t;
	}
	if (n > ENDED_MAX && oldest)
		keeper_term_free(k, oldest);
}

static void reap(struct keeper *k, struct keeper_term *t)
{
	if (!t->pid || !keeper_reap_child(&t->end, t->fd_pid))
		return;
	keeper_close(&t->fd_pid);
	t->pid = 0;
	t->kill_at = 0;
	/* What others write who still have it is nobody's output any more: they are
	 * hung up by the close. */
	keeper_term_drain(k, t);
	keeper_close(&t->fd_master);
	t->events = t->blocked = 0;
	if (t->slot != KEEPER_NONE)
		keeper_stop_poke(k, keeper_slot(k, t->slot));
	k->tell_terms = true;
	keeper_term_feed(k, t);
	make_room(k);
}

bool keeper_term_reap_pid(struct keeper *k, pid_t pid)
{
	struct keeper_term *t = keeper_term_of_pid(k, pid);

	if (t)
		reap(k, t);
	return t;
}

void keeper_term_settle(struct keeper *k, struct keeper_term *t)
{
	if (t->used && is_over(t))
		keeper_term_free(k, t);
}

void keeper_terms_forget_tags(struct keeper *k)
{
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++)
		if (k->terms[i].used)
			k->terms[i].n_closing = 0;
	/* Ends that were not told are told to the next daemon. */
	k->tell_terms = k->n_terms > 0;
}

void keeper_terms_drop(struct keeper *k, const struct keeper_slot *s)
{
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++) {
		struct keeper_term *t = &k->terms[i];
		if (!t->used || t->slot != keeper_slot_number(k, s))
			continue;
		t->slot = KEEPER_NONE;
		if (t->pid) {
			keeper_term_kill(t, SIGKILL); /* the stop that came before has left it */
			t->taken = 1;
		} else if (t->told) {
			keeper_term_free(k, t);
		} else {
			t->taken = 1;
			k->tell_terms = true;
		}
	}
}

bool keeper_terms_run(const struct keeper *k)
{
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++)
		if (k->terms[i].used && k->terms[i].pid)
			return true;
	return false;
}

void keeper_term_tell(const struct keeper *k, const struct keeper_term *t, struct keeper_attached *ret)
{
	*ret = (struct keeper_attached){
		.pid = t->pid,
		.rows = t->rows,
		.columns = t->columns,
		.attached = keeper_term_clients(t),
		.started = t->started,
		.exit = keeper_exit_of(k, &t->end, NULL),
	};
}

void keeper_term_event(struct keeper *k, enum keeper_source source, uint32_t number, uint32_t generation,
		       uint32_t events)
{
	struct keeper_term *t = &k->terms[number % KEEPER_TERMINALS_MAX];
	unsigned client = number >> 16;

	if (!t->used)
		return;
	if (source == KEEPER_ON_CLIENT) {
		if (client < KEEPER_CLIENTS_MAX && t->clients[client].fd >= 0 &&
		    (t->clients[client].generation & 0xffffff) == generation)
			keeper_term_client_event(k, t, client, events);
		return;
	}
	if ((t->generation & 0xffffff) != generation)
		return;
	if (source == KEEPER_ON_TERM_PID) {
		reap(k, t);
		return;
	}
	if (events & EPOLLOUT)
		keeper_term_writable(k, t);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		keeper_term_output(k, t);
}

/* -------------------------------------------------------------------- a new keeper */

/* Whether the file holds any: where nothing was written, reading would only take pages. */
static bool were_any(const struct keeper *k)
{
	return lseek(k->fd_slots, (off_t)KEEPER_TERMS_AT, SEEK_DATA) >= 0 || errno != ENXIO;
}

void keeper_terms_recover(struct keeper *k)
{
	for (size_t i = 0, n = were_any(k) ? KEEPER_TERMINALS_MAX : 0; i < n; i++) {
		struct keeper_term *t = &k->terms[i];
		if (!t->used)
			continue;
		/* Hung up when the former keeper died; one that did not heed that has
		 * nobody who could type to it. */
		t->fd_pid = t->pid ? keeper_pidfd(t->pid, t->start_ticks) : -1;
		keeper_term_kill(t, SIGKILL);
		keeper_close(&t->fd_pid);
		t->used = 0;
		t->generation++;
	}
}

void keeper_terms_upgraded(struct keeper *k)
{
	for (size_t i = 0, n = were_any(k) ? KEEPER_TERMINALS_MAX : 0; i < n; i++) {
		struct keeper_term *t = &k->terms[i];
		if (!t->used)
			continue;
		k->n_terms++;
		k->tell_terms = true;
		t->events = 0;
		for (size_t j = 0; j < KEEPER_CLIENTS_MAX; j++)
			t->clients[j].events = 0;
		k->rings[i] = map_ring(t->fd_ring);
		if (!k->rings[i]) { /* out of memory: it cannot go on */
			keeper_term_kill(t, SIGKILL);
			keeper_term_free(k, t);
			continue;
		}
		if (t->kill_at)
			keeper_due(&k->term_due, t->kill_at);
		if (t->fd_pid >= 0)
			keeper_watch(k, t->fd_pid, KEEPER_ON_TERM_PID, (uint32_t)i, t->generation, EPOLLIN);
		keeper_term_feed(k, t);
	}
}
