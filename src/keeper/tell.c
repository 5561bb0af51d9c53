/* SPDX-License-Identifier: MIT
 *
 * What the daemon is told: answers, lists and events. Answers that it does not take stay
 * in `reply`, a list in the place where it stopped, events as marks in their slots. The
 * answers of one turn are sent together, so that a burst of starts does not wake the
 * daemon for each.
 */
#include "keeper/launch.h"
#include "keeper/terminal.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* 1 sent, 0 not now, -1 the connection is gone (and closed). */
static int send_packet_fd(struct keeper *k, const void *data, size_t n, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (k->conn < 0)
		return -1;
	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof control;
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(&control.align), &fd, sizeof fd);
	}
	if (DAVIT_EINTR(sendmsg(k->conn, &m, MSG_NOSIGNAL | MSG_DONTWAIT)) >= 0)
		return 1;
	if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
		return 0;
	keeper_conn_close(k);
	return -1;
}

static int send_packet(struct keeper *k, const void *data, size_t n)
{
	return send_packet_fd(k, data, n, -1);
}

/* Header, struct and two texts in one packet. */
static size_t compose(char *buf, size_t max, const struct keeper_header *h, const char *a, const char *b)
{
	size_t n = h->size, la = a ? strlen(a) + 1 : 0, lb = b ? strlen(b) + 1 : 0;
	struct keeper_header out = *h;

	if (n + la + lb > max)
		lb = 0;
	if (n + la > max)
		la = 0;
	out.total = (uint32_t)(n + la + lb);
	memcpy(buf, h, n);
	memcpy(buf, &out, sizeof out);
	if (la)
		memcpy(buf + n, a, la);
	if (lb)
		memcpy(buf + n + la, b, lb);
	return n + la + lb;
}

static struct keeper_header header(uint32_t type, uint32_t size, uint64_t tag, const char *id)
{
	struct keeper_header h = {.type = type, .size = size, .tag = tag};

	memcpy(h.id, id, strnlen(id, sizeof h.id - 1));
	return h;
}

void keeper_answer(struct keeper *k, struct keeper_header *h, size_t size, const char *text)
{
	h->size = (uint32_t)size;
	char *at = k->reply + k->reply_len;
	size_t n = compose(at, KEEPER_REPLY_MAX, h, text, NULL);
	uint32_t total = (uint32_t)(n + 7) & ~7u;

	memset(at + n, 0, total - n);
	memcpy(at + offsetof(struct keeper_header, total), &total, sizeof total);
	k->reply_len += total;
}

void keeper_answer_fd(struct keeper *k, struct keeper_header *h, size_t size, int fd)
{
	k->reply_fd_at = k->reply_len;
	k->reply_fd = fd;
	keeper_answer(k, h, size, NULL);
}

void keeper_answer_done(struct keeper *k, const struct keeper_header *to, int code,
			const struct davit_error *err)
{
	struct keeper_done d = {
		.h = header(KEEPER_DONE, sizeof d, to->tag, to->id),
		.result = code,
		.sys_errno = err ? err->sys_errno : 0,
	};

	keeper_answer(k, &d.h, sizeof d, code && err ? err->message : "");
}

struct keeper_exit keeper_exit_of(const struct keeper *k, const struct keeper_end *e,
				  const struct keeper_slot *s)
{
	static const char *const why[] = {
		[KEEPER_WHY_NONE] = "",
		[KEEPER_WHY_MEMORY] = "killed for lack of memory",
		[KEEPER_WHY_FOREIGN] = "not a child of this keeper, and this kernel does not tell",
		[KEEPER_WHY_DOWN] = "ended while the keeper was down",
	};
	struct keeper_exit x = {
		.kind = e->kind,
		.code = e->code,
		.signal = e->signal,
		.core_dumped = e->core_dumped,
		.time = e->time,
	};

	if (e->why < DAVIT_ARRAY_SIZE(why))
		snprintf(x.reason, sizeof x.reason, "%s", why[e->why]);
	else if (e->why == KEEPER_WHY_LAUNCH)
		snprintf(x.reason, sizeof x.reason, "%s", keeper_launch_message(k, s));
	return x;
}

static int send_instance(struct keeper *k, struct keeper_slot *s)
{
	char buf[sizeof(struct keeper_instance) + KEEPER_LABEL_MAX + KEEPER_STATUS_MAX];
	struct keeper_instance m = {
		.h = header(KEEPER_INSTANCE, sizeof m, k->list_tag, s->id),
		.state = s->state,
		.run = s->run,
		.pid = s->pid,
		.ready = (s->flags & KEEPER_IS_READY) != 0,
		.started = s->started,
		.exit = keeper_exit_of(k, &s->end, s),
	};
	/* Told with this: no event of its own any more. A stop's end is an answer. */
	int r = send_packet(k, buf, compose(buf, sizeof buf, &m.h, keeper_label(k, s), keeper_status(k, s)));

	if (r > 0)
		s->flags &= ~(unsigned)(KEEPER_TELL & ~KEEPER_TELL_STOPPED);
	return r;
}

/* True when the list has been told. */
static bool send_list(struct keeper *k)
{
	uint32_t i = keeper_set_next(&k->used, k->list_next);

	for (; i != KEEPER_NONE; i = keeper_set_next(&k->used, i + 1)) {
		k->list_next = i;
		if (send_instance(k, keeper_slot(k, i)) <= 0)
			return false;
	}
	struct keeper_header to = {.tag = k->list_tag};
	k->list_next = KEEPER_NONE;
	keeper_answer_done(k, &to, 0, NULL);
	return true;
}

static int send_stopped(struct keeper *k, struct keeper_slot *s)
{
	while (s->n_stop_tags > 0) {
		char buf[sizeof(struct keeper_done) + 1];
		struct keeper_done d = {
			.h = header(KEEPER_DONE, sizeof d, s->stop_tags[s->n_stop_tags - 1], s->id)};
		int r = send_packet(k, buf, compose(buf, sizeof buf, &d.h, "", NULL));
		if (r <= 0)
			return r;
		s->n_stop_tags--;
	}
	return 1;
}

static int send_launched(struct keeper *k, struct keeper_slot *s)
{
	const struct keeper_launching *l = keeper_launching(k, s);
	char buf[sizeof(struct keeper_spawned) + sizeof l->message];

	if (l->result < 0) {
		struct keeper_done d = {.h = header(KEEPER_DONE, sizeof d, l->tag, s->id),
					.result = l->result};
		return send_packet(k, buf, compose(buf, sizeof buf, &d.h, l->message, NULL));
	}
	struct keeper_spawned m = {
		.h = header(KEEPER_SPAWNED, sizeof m, l->tag, s->id),
		.pid = s->pid,
		.run = s->run,
		.started = s->started,
		.start_ticks = s->start_ticks,
	};
	return send_packet(k, buf, compose(buf, sizeof buf, &m.h, NULL, NULL));
}

static struct keeper_exited exited_of(const struct keeper *k, const struct keeper_slot *s)
{
	struct keeper_exited m = {
		.h = header(KEEPER_EXITED, sizeof m, 0, s->id),
		.run = s->run,
		.alone = (s->flags & KEEPER_ALONE) != 0,
		.exit = keeper_exit_of(k, &s->end, s),
	};

	m.h.total = sizeof m;
	return m;
}

/* In a storm of ends: those of which nothing else is to be told, together. False when the daemon
 * does not take them now, or is gone. */
static bool send_exits(struct keeper *k)
{
	struct keeper_exited m[KEEPER_PACK_MAX / sizeof(struct keeper_exited)];
	uint32_t i, next = 0;
	size_t n;

	do {
		struct keeper_set sent = {0};
		for (n = 0; n < DAVIT_ARRAY_SIZE(m) && (i = keeper_set_next(&k->tell, next)) != KEEPER_NONE;
		     next = i + 1) {
			if ((keeper_slot(k, i)->flags & KEEPER_TELL) != KEEPER_TELL_EXITED)
				continue;
			m[n++] = exited_of(k, keeper_slot(k, i));
			keeper_set_add(&sent, i);
		}
		if (n && send_packet(k, m, n * sizeof *m) <= 0)
			return false;
		KEEPER_FOREACH(j, &sent)
		{
			keeper_slot(k, j)->flags &= ~(unsigned)KEEPER_TELL_EXITED;
			keeper_set_remove(&k->tell, j);
		}
	} while (n == DAVIT_ARRAY_SIZE(m));
	return true;
}

/* The events of one slot, in their order: the answer to its launch, ready and status before the exit,
 * and the exit before the end of a stop. */
static int send_events(struct keeper *k, struct keeper_slot *s)
{
	static const uint32_t order[] = {KEEPER_TELL_LAUNCHED, KEEPER_TELL_READY, KEEPER_TELL_STATUS,
					 KEEPER_TELL_EXITED, KEEPER_TELL_STOPPED};
	struct keeper_exited exited;
	struct keeper_event_text text = {.h = header(KEEPER_READY, sizeof text, 0, s->id), .run = s->run};
	char buf[sizeof text + KEEPER_STATUS_MAX + sizeof exited];

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(order); i++) {
		int r = 1;
		if (!(s->flags & order[i]))
			continue;
		if (order[i] == KEEPER_TELL_EXITED) {
			exited = exited_of(k, s);
			r = send_packet(k, &exited, sizeof exited);
		} else if (order[i] == KEEPER_TELL_STOPPED) {
			r = send_stopped(k, s);
		} else if (order[i] == KEEPER_TELL_LAUNCHED) {
			r = send_launched(k, s);
		} else {
			bool ready = order[i] == KEEPER_TELL_READY;
			text.h.type = ready ? KEEPER_READY : KEEPER_STATUS;
			r = send_packet(
				k, buf,
				compose(buf, sizeof buf, &text.h, ready ? NULL : keeper_status(k, s), NULL));
		}
		if (r <= 0)
			return r;
		s->flags &= ~order[i];
	}
	return 1;
}

static int send_execs(struct keeper *k)
{
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++) {
		struct keeper_exec_slot *x = &k->file->execs[i];
		char buf[sizeof(struct keeper_exited)];
		int r;
		if (!x->used || x->pid)
			continue;
		struct keeper_exited m = {
			.h = header(KEEPER_EXEC_EXITED, sizeof m, x->tag, keeper_slot(k, x->slot)->id),
			.exit = keeper_exit_of(k, &x->end, NULL),
		};
		r = send_packet(k, buf, compose(buf, sizeof buf, &m.h, NULL, NULL));
		if (r <= 0)
			return r;
		x->used = 0;
	}
	k->tell_execs = false;
	return 1;
}

static int send_terminal_info(struct keeper *k, const struct keeper_term *t)
{
	char buf[sizeof(struct keeper_attached) + sizeof t->instance + sizeof t->command];
	struct keeper_attached m;

	keeper_term_tell(k, t, &m);
	m.h = header(KEEPER_TERMINAL_INFO, sizeof m, k->terms_tag, t->id);
	return send_packet(k, buf, compose(buf, sizeof buf, &m.h, t->instance, t->command));
}

static bool send_terminals(struct keeper *k)
{
	struct keeper_header to = {.tag = k->terms_tag};

	for (; k->terms_next < KEEPER_TERMINALS_MAX && k->n_terms; k->terms_next++) {
		const struct keeper_term *t = &k->terms[k->terms_next];
		if (t->used && (!k->terms_of[0] || !strcmp(t->instance, k->terms_of)) &&
		    send_terminal_info(k, t) <= 0)
			return false;
	}
	k->terms_next = KEEPER_NONE;
	keeper_answer_done(k, &to, 0, NULL);
	return true;
}

static int send_closed(struct keeper *k, struct keeper_term *t)
{
	while (t->n_closing > 0) {
		char buf[sizeof(struct keeper_done) + 1];
		struct keeper_done d = {
			.h = header(KEEPER_DONE, sizeof d, t->closing[t->n_closing - 1], t->id)};
		int r = send_packet(k, buf, compose(buf, sizeof buf, &d.h, "", NULL));
		if (r <= 0)
			return r;
		t->n_closing--;
	}
	return 1;
}

/* Ends of terminals, and of their closing. */
static int send_terms(struct keeper *k)
{
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++) {
		struct keeper_term *t = &k->terms[i];
		char buf[sizeof(struct keeper_exited)];
		int r = 1;
		if (!t->used || t->pid || t->fd_master >= 0)
			continue;
		struct keeper_exited m = {.h = header(KEEPER_TERMINAL_EXITED, sizeof m, 0, t->id),
					  .exit = keeper_exit_of(k, &t->end, NULL)};
		if (!t->told)
			r = send_packet(k, buf, compose(buf, sizeof buf, &m.h, NULL, NULL));
		if (r > 0)
			t->told = 1;
		if (r > 0)
			r = send_closed(k, t);
		if (r <= 0)
			return r;
		keeper_term_settle(k, t);
	}
	k->tell_terms = false;
	return 1;
}

/* How many bytes of the answers from `at` on go in one packet. A descriptor goes with one alone. */
static size_t packet_size(const struct keeper *k, size_t at)
{
	struct keeper_header h;
	size_t n = 0;

	do {
		memcpy(&h, k->reply + at + n, sizeof h);
		if (n && n + h.total > KEEPER_PACK_MAX)
			break;
		n += h.total;
	} while (k->packs && k->reply_fd < 0 && at + n < k->reply_len);
	return n;
}

bool keeper_send_replies(struct keeper *k)
{
	size_t done = 0;
	int r = 1;

	while (r > 0 && done < k->reply_len) {
		bool with_fd = k->reply_fd >= 0 && done == k->reply_fd_at;
		size_t n = packet_size(k, done);
		r = send_packet_fd(k, k->reply + done, n, with_fd ? k->reply_fd : -1);
		if (r > 0) {
			done += n;
			if (with_fd)
				keeper_close(&k->reply_fd);
		}
	}
	if (r < 0)
		return true; /* the connection has taken them all with it */
	k->reply_len -= done;
	k->reply_fd_at -= done;
	memmove(k->reply, k->reply + done, k->reply_len);
	return !k->reply_len;
}

void keeper_tell(struct keeper *k, struct keeper_slot *s, uint32_t flag)
{
	if (k->conn < 0)
		return; /* LIST will tell */
	s->flags |= flag;
	keeper_set_add(&k->tell, keeper_slot_number(k, s));
}

void keeper_tell_exec(struct keeper *k)
{
	k->tell_execs = true;
}

bool keeper_send_all(struct keeper *k)
{
	if (!keeper_send_replies(k))
		return false;
	if (k->list_next != KEEPER_NONE && (!send_list(k) || !keeper_send_replies(k)))
		return false;
	if (k->terms_next != KEEPER_NONE && (!send_terminals(k) || !keeper_send_replies(k)))
		return false;
	if (!k->greeted)
		return true;
	if (k->packs && !send_exits(k))
		return false;
	KEEPER_FOREACH(i, &k->tell)
	{
		if (send_events(k, keeper_slot(k, i)) <= 0)
			return false;
		keeper_set_remove(&k->tell, i);
	}
	if (k->tell_execs && send_execs(k) <= 0)
		return false;
	return !k->tell_terms || send_terms(k) > 0;
}
