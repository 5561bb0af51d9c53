/* SPDX-License-Identifier: MIT
 *
 * What a child says that is no message: who it is, how it is, and what it asks of the
 * parent's system. Read on the thread of poll.c.
 */
#include "actor/process.h"
#include "actor/process_json.h"
#include "actor/process_manage.h"
#include "actor/remote.h"
#include "actor/within.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

void process_news(struct davit_context *c, struct link *l, const struct news *n)
{
	struct davit_message *m = davit_message_new(c, SIG_PROCESS, sizeof *n);

	if (!m) /* it would wait for ever */
		return;
	*(struct news *)body(m) = *n;
	m->sender = l->owner;
	send_signal(c, l->owner, m);
}

static int spawned(struct link *l)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = (uint64_t)(uintptr_t)l | 1};
	bool ok;

	pthread_mutex_lock(&l->lock);
	ok = l->pidfd < 0 && l->socket.got[0] >= 0;
	if (ok) {
		l->pidfd = DAVIT_TAKE_FD(l->socket.got[0]);
		if (l->socket.got[1] >= 0)
			l->holder = DAVIT_TAKE_FD(l->socket.got[1]);
		ok = !epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->pidfd, &e);
		if (l->killed)
			syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
	}
	pthread_mutex_unlock(&l->lock);
	return ok ? 0 : DAVIT_EPROTO;
}

static int welcome(struct link *l, const struct davit_frame *f, const unsigned char *body)
{
	int protocol;
	bool rings;

	if (l->welcome || welcome_read(body, f->size, &protocol, &rings) ||
	    protocol != DAVIT_CHANNEL_PROTOCOL || (rings && !l->ring.slots))
		return DAVIT_EPROTO;
	l->welcome = true;
	atomic_store(&l->rings, rings);
	return 0;
}

static int state(struct davit_context *c, struct link *l, const struct davit_frame *f,
		 const unsigned char *body)
{
	struct news n = {.kind = NEWS_STATE,
			 .link = l->number,
			 .id = f->id,
			 .code = f->type && f->type < 1000 ? -(int)f->type : 0};
	struct said s;

	if (l->welcome)
		container_options(c->system, l->owner, &n.options);
	if (state_read(body, f->size, &s, &n.options))
		return DAVIT_EPROTO;
	n.state = s.state;
	n.failure = s.failure;
	n.set_options = s.has_options;
	memcpy(n.text, s.text, sizeof n.text);
	/* What could not become a child has no other way to say so. */
	if (!l->welcome && s.state != DAVIT_STATE_DESTROYED)
		return DAVIT_EPROTO;
	if (!l->welcome) {
		pthread_mutex_lock(&l->lock);
		snprintf(l->last_words, sizeof l->last_words, "%s", s.text);
		l->end_reason = l->last_words;
		l->end_code = n.code ? n.code : DAVIT_EEXEC;
		pthread_mutex_unlock(&l->lock);
		return 0;
	}
	if (n.set_options)
		l->keepalive = n.options.keepalive ? n.options.keepalive : KEEPALIVE * INT64_C(1000000);
	process_news(c, l, &n);
	return 0;
}

/* The rings' numbers, for who has none. */
static int ack(struct link *l, const struct davit_frame *f)
{
	if (f->id > UINT64_MAX >> 2 || f->type > 1)
		return DAVIT_EPROTO;
	atomic_store(&l->acked, f->id << 1 | f->type);
	return 0;
}

static void log_line(struct davit_context *c, struct link *l, const struct davit_frame *f,
		     const unsigned char *body)
{
	char line[448];
	size_t n = f->size < sizeof line - 1 ? f->size : sizeof line - 1;

	for (size_t i = 0; i < n; i++)
		line[i] = (char)(body[i] < 32 || body[i] == 127 ? '?' : body[i]);
	line[n] = 0;
	tree_log(c->system->tree, "%s: %s", l->alias, line);
}

void process_gone(struct davit_context *c, struct link *l, const struct davit_down *down)
{
	struct davit_frame f = {.kind = DAVIT_FRAME_GONE, .type = (uint32_t)-down->code};
	struct watched **at, *w = NULL;

	pthread_mutex_lock(&l->lock);
	for (at = &l->watched; *at && !davit_ref_equal((*at)->ref, down->ref); at = &(*at)->next)
		;
	if ((w = *at))
		*at = w->next;
	pthread_mutex_unlock(&l->lock);
	if (!w)
		return;
	f.to = (uint8_t)strlen(w->alias);
	f.size = (uint32_t)(f.to + strlen(down->reason));
	link_frame(l, &f, w->alias, down->reason);
	free(w);
}

int process_said(struct davit_context *c, struct link *l, const struct davit_frame *f,
		 const unsigned char *body)
{
	if (f->to && f->kind == DAVIT_FRAME_STATE && l->welcome)
		return within_said(c, l, f, body);
	if (f->from || f->to)
		return DAVIT_EPROTO;
	if (!l->welcome && f->kind != DAVIT_FRAME_SPAWNED && f->kind != DAVIT_FRAME_WELCOME &&
	    f->kind != DAVIT_FRAME_STATE)
		return DAVIT_EPROTO;
	switch (f->kind) {
	case DAVIT_FRAME_SPAWNED:
		return spawned(l);
	case DAVIT_FRAME_WELCOME:
		return welcome(l, f, body);
	case DAVIT_FRAME_STATE:
		return state(c, l, f, body);
	case DAVIT_FRAME_ACK:
		return ack(l, f);
	case DAVIT_FRAME_MANAGE:
		return process_manage(c, l, f, body);
	case DAVIT_FRAME_ANNOUNCE:
		return within_announced(c, l, f, body);
	case DAVIT_FRAME_LOG:
		log_line(c, l, f, body);
		return 0;
	case DAVIT_FRAME_BELL: /* the next look is at how far it is, too */
		atomic_store(&l->looks, UINT32_MAX);
		return 0;
	default: /* PONG says what it says by having come */
		return 0;
	}
}
