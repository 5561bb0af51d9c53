/* SPDX-License-Identifier: MIT
 *
 * A process that is a container, from the greeting to its end: what its parent sends is
 * read between two messages; when there is nothing to do it looks for a moment, then
 * sleeps for its socket.
 */
#include "actor/child.h"

#include "actor/process.h"
#include "actor/remote.h"
#include "actor/within.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { FRAMES = 64 /* of the ring, between two looks at what is to run */, GREETING = 10000 /* ms */ };

/* --- the socket --- */

static int said(struct child *ch, const struct davit_frame *f, const unsigned char *body)
{
	struct davit_context *c = davit_system_context(ch->system);
	char alias[256], text[116];
	size_t n;

	switch (f->kind) {
	case DAVIT_FRAME_PING:
		link_control(ch->link, DAVIT_FRAME_PONG, f->id, 0, NULL, 0);
		return 0;
	case DAVIT_FRAME_OPERATE:
		return f->to ? within_asked(ch, f, body) : child_operate(ch, f, body);
	case DAVIT_FRAME_RESULT:
		if (f->id != ch->asked)
			return 0; /* too late */
		ch->answered = true;
		ch->answer_code = f->type ? -(int)f->type : 0;
		davit_buf_reset(&ch->answer);
		davit_buf_add(&ch->answer, body, f->size);
		return 0;
	case DAVIT_FRAME_GONE:
		memcpy(alias, body + f->from, f->to);
		alias[f->to] = 0;
		n = f->size - f->from - f->to;
		snprintf(text, sizeof text, "%.*s", (int)n, (const char *)body + f->from + f->to);
		remote_gone(c, ch->link, alias, f->type ? -(int)f->type : 0, text);
		return 0;
	case DAVIT_FRAME_BELL:
		return 0;
	default:
		return DAVIT_EPROTO;
	}
}

/* Looks first at how often was written, so that nothing is overlooked that comes now. */
static bool receive(struct child *ch)
{
	struct link *l = ch->link;

	if (l->ring.slots)
		ch->attention = atomic_load_explicit(&l->ring.theirs->attention, memory_order_acquire);
	return davit_socket_receive(&l->socket) > 0;
}

/* What was received. True: there was something. */
static bool hear(struct child *ch)
{
	struct link *l = ch->link;
	const unsigned char *body;
	struct davit_frame f;
	bool any = false;
	int r;

	while ((r = davit_socket_next(&l->socket, DAVIT_END_CHILD, &f, &body)) > 0) {
		any = true;
		if ((r = said(ch, &f, body)))
			break;
	}
	if (r || l->socket.ended) {
		ch->over = true; /* the parent has gone, or is none */
		ch->status = ch->status ? ch->status : 1;
	}
	return any;
}

static bool socket_turn(struct child *ch)
{
	bool any = false;

	while (!ch->over && receive(ch)) {
		ch->heard = clock_now();
		any |= hear(ch);
		if (ch->link->socket.drained)
			return any;
	}
	return hear(ch) || any; /* it may have ended */
}

static void bell(struct child *ch)
{
	link_control(ch->link, DAVIT_FRAME_BELL, 0, 0, NULL, 0);
}

/* Between two activations: c is its worker's, of nobody. */
bool uplink_turn(struct davit_context *c)
{
	struct child *ch = c->system->child;
	struct link *l = ch->link;
	bool any = false;
	int n;

	if (davit_ring_any(&l->ring)) {
		n = link_read_ring(c, l, FRAMES);
		any = n > 0;
		if (n < 0)
			ch->over = true;
	}
	if (atomic_load_explicit(&l->ring.theirs->attention, memory_order_acquire) != ch->attention)
		any |= socket_turn(ch);
	if (atomic_load_explicit(&l->ring.theirs->waiting, memory_order_relaxed) != l->ring.called &&
	    davit_ring_waited_for(&l->ring))
		bell(ch);
	return any;
}

void link_breathe(struct davit_context *c)
{
	struct child *ch = c->system->child;

	if (ch &&
	    atomic_load_explicit(&ch->link->ring.theirs->attention, memory_order_acquire) != ch->attention)
		socket_turn(ch);
}

/* --- questions --- */

int uplink_ask(struct davit_context *c, const struct davit_buf *question, struct davit_buf *ret)
{
	struct child *ch = c->system->child;
	int64_t end = clock_now() + INT64_C(2000000000), left;
	struct pollfd p = {.fd = ch->link->socket.fd, .events = POLLIN};
	static uint64_t last;

	if (question->oom)
		return DAVIT_ENOMEM;
	ch->asked = ++last;
	ch->answered = false;
	link_control(ch->link, DAVIT_FRAME_MANAGE, ch->asked, 0, question->data, question->len);
	while (!ch->answered && !ch->over && (left = end - clock_now()) > 0) {
		poll(&p, 1, (int)(left / 1000000) + 1);
		socket_turn(ch);
	}
	ch->asked = 0;
	if (!ch->answered)
		return DAVIT_ETIMEDOUT;
	if (ret)
		davit_buf_add(ret, ch->answer.data, ch->answer.len);
	return ch->answer_code;
}

/* --- sleep --- */

/* For at most that long there is nothing to do; -1: without end. */
static int patience(const struct child *ch)
{
	int64_t now = clock_now(), due = atomic_load(&ch->system->due);

	if (ch->hello.keepalive > 0 && due > ch->heard + ch->hello.keepalive)
		due = ch->heard + ch->hello.keepalive;
	if (due == INT64_MAX)
		return -1;
	return due <= now ? 0 : (int)((due - now) / 1000000) + 1;
}

static bool spin(struct child *ch)
{
	struct davit_ring *r = &ch->link->ring;
	int64_t end = clock_now() + SPIN;

	do {
		for (int i = 0; i < 64; i++) {
			davit_relax();
			if (davit_ring_any(r) || atomic_load_explicit(&r->theirs->attention,
								      memory_order_relaxed) != ch->attention)
				return true;
		}
		if (poll_rings(&ch->system->worker[0]->context))
			return true;
	} while (clock_now() < end);
	return false;
}

static void sleep_once(struct child *ch)
{
	struct pollfd p[2] = {{.fd = ch->link->socket.fd, .events = POLLIN},
			      {.fd = poll_fd(ch->system), .events = POLLIN}};

	if (ch->link->socket.held)
		link_flush(ch->link);
	if (spin(ch) || !davit_ring_sleep(&ch->link->ring))
		return;
	if (poll_arm(&ch->system->worker[0]->context)) {
		if (davit_ring_waited_for(&ch->link->ring))
			bell(ch);
		poll(p, p[1].fd < 0 ? 1 : 2, patience(ch));
		if (p[0].revents)
			socket_turn(ch);
	}
	davit_ring_wake(&ch->link->ring);
	if (ch->hello.keepalive > 0 && clock_now() - ch->heard > ch->hello.keepalive && !socket_turn(ch)) {
		fprintf(stderr, "%s: parent-unresponsive\n", ch->hello.alias);
		ch->over = true;
		ch->status = 1;
	}
}

/* --- the greeting --- */

/* Waits for a frame of that kind, the next one. What comes behind it stays in the socket's
 * buffer; what it had is valid until that is looked at. */
static int await(struct child *ch, enum davit_frame_kind kind, int ms, struct davit_frame *ret,
		 const unsigned char **ret_body)
{
	struct davit_socket *s = &ch->link->socket;
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	int r;

	while (!(r = davit_socket_next(s, DAVIT_END_CHILD, ret, ret_body)))
		if (!receive(ch) && (s->ended || DAVIT_EINTR(poll(&p, 1, ms)) <= 0))
			return DAVIT_ECLOSED;
	return r < 0 ? r : ret->kind == kind ? 0 : DAVIT_EPROTO;
}

/* The rings came with the first frame. */
static int attach(struct child *ch)
{
	struct link *l = ch->link;
	const unsigned char *body;
	struct davit_frame f;
	int r;

	if ((r = await(ch, DAVIT_FRAME_BELL, GREETING, &f, &body)))
		return r;
	if (l->socket.got[0] < 0 || l->socket.got[1] < 0)
		return DAVIT_EPROTO;
	r = davit_ring_attach(&l->ring, DAVIT_RING_SLOTS, l->socket.got);
	ch->shown = l->ring.mine;
	for (int i = 0; i < 2; i++) {
		close(l->socket.got[i]);
		l->socket.got[i] = -1;
	}
	return r;
}

static int nothing(struct davit_context *c, struct davit_message *m)
{
	return 0;
}

/* Its own stores are opened: messages, places, promises. Nothing runs here yet, since that
 * would look at the channel as one does who has been greeted. */
static void stock(struct davit_context *c)
{
	struct davit_promise p;
	struct davit_ref ref;

	for (size_t size = 0; size <= 256; size = size ? 2 * size : 32)
		davit_message_free(c, davit_message_new(c, 1, size));
	if (!davit_promise_new(c, &p))
		davit_cancel(c, p);
	if (!davit_spawn(c, nothing, NULL, 0, &ref))
		davit_kill(c, ref);
}

/* Waits until it is wanted, as one that has done all of this before. */
static int become(struct child *ch)
{
	struct pollfd p = {.fd = ch->link->socket.fd, .events = POLLIN};
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	const unsigned char *body;
	struct davit_frame f;
	const char *why;
	int r;

	if (!poll(&p, 1, 0)) {
		process_warm();
		stock(davit_system_context(ch->system));
		stock(&ch->system->worker[0]->context);
		process_slim();
	}
	if ((r = await(ch, DAVIT_FRAME_BECOME, -1, &f, &body)))
		return r;
	if ((ch->definition = process_definition(body, f.size)))
		return 0;
	why = dlerror();
	state_json(&b, DAVIT_STATE_DESTROYED, why ? why : "its definition is not found", 0, NULL);
	link_control(ch->link, DAVIT_FRAME_STATE, 0, DAVIT_EEXEC, b.data, b.len);
	ch->status = 127;
	return DAVIT_EEXEC;
}

static int greet(struct child *ch)
{
	struct link *l = ch->link;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	const unsigned char *body;
	struct davit_frame f;
	int r;

	if ((r = await(ch, DAVIT_FRAME_HELLO, GREETING, &f, &body)))
		return r;
	if (hello_read(body, f.size, &ch->hello) || ch->hello.slots != l->ring.slots)
		return DAVIT_EPROTO;
	prctl(PR_SET_NAME, ch->hello.alias);
	welcome_json(&b, DAVIT_CHANNEL_PROTOCOL, true);
	link_say(l, DAVIT_FRAME_WELCOME, 0, 0, b.data, b.len, l->socket.in_n > l->socket.in_at);
	l->rings = true;
	return 0;
}

static void log_line(void *arg, const char *line)
{
	struct child *ch = arg;

	link_control(ch->link, DAVIT_FRAME_LOG, 0, 0, line, strlen(line));
}

static void run(struct child *ch)
{
	ch->status = 0;
	ch->heard = clock_now();
	hear(ch); /* what came with the greeting */
	while (!ch->over)
		if (!davit_system_run(ch->system))
			sleep_once(ch);
	link_flush(ch->link);
}

int child_main(int channel)
{
	struct davit_system_config config = {.workers = DAVIT_NO_WORKERS, .log = log_line};
	struct child ch = {.status = 1};

	config.arg = &ch;
	if (!(ch.link = link_new(NULL, channel, DAVIT_END_CHILD)))
		return 1;
	if (!attach(&ch) && !system_open(&config, &ch, &ch.system, NULL) && !become(&ch) && !greet(&ch) &&
	    !child_root(ch.system))
		run(&ch);
	davit_system_close(ch.system);
	link_close(ch.link);
	link_unref(ch.link);
	free(ch.hello.args);
	davit_buf_fini(&ch.answer);
	return ch.status;
}
