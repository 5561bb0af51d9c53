/* SPDX-License-Identifier: MIT
 *
 * All links to processes of a system. One thread sleeps for their sockets and ends, and
 * sees to the heartbeats, so that a worker's long handler holds none of that up. Rings
 * are read by whoever looks for work; when nobody does any more, peers are asked to
 * ring, which wakes this thread.
 */
#include "actor/poll_impl.h"
#include "actor/remote.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SECOND INT64_C(1000000000)
#define BEAT (HEARTBEAT * INT64_C(1000000))
enum {
	EVENTS = 32,
	LOOKS = 64, /* at a ring, to one at how far the process is */
};

static struct poll *poll_of(const struct davit_system *s)
{
	return atomic_load_explicit(&s->poll, memory_order_acquire);
}

/* --- open, close --- */

static void poll_free(struct poll *p)
{
	if (p->epoll >= 0)
		close(p->epoll);
	if (p->wake >= 0)
		close(p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->links);
	free(p->gone);
	free(p);
}

static int start_thread(struct davit_system *s)
{
	struct davit_worker *w;
	int r;

	if (s->config.workers == DAVIT_NO_WORKERS)
		return 0;
	if (!(w = worker_new(s)))
		return DAVIT_ENOMEM;
	w->dedicated = w->polls = true;
	if ((r = worker_start(w)))
		worker_free(w);
	return r;
}

int poll_open(struct davit_system *s)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0};
	struct poll *p;
	int r;

	if (s->poll)
		return 0;
	if (!(p = calloc(1, sizeof *p)))
		return DAVIT_ENOMEM;
	p->system = s;
	pthread_mutex_init(&p->lock, NULL);
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->epoll < 0 || p->wake < 0 || epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->wake, &e)) {
		poll_free(p);
		return DAVIT_EUNAVAIL;
	}
	atomic_store_explicit(&s->poll, p, memory_order_release);
	if ((r = start_thread(s))) {
		atomic_store(&s->poll, NULL);
		poll_free(p);
	}
	return r;
}

/* Its first frame says which process it is, so that it can be waited for. */
static void meet(struct davit_context *c, struct link *l)
{
	struct pollfd p = {.fd = l->socket.fd, .events = POLLIN};

	while (l->pidfd < 0 && !l->ended && DAVIT_EINTR(poll(&p, 1, 1000)) > 0)
		poll_receive(c, l, 1);
}

/* All threads have ended, and all containers with their processes. */
void poll_close(struct davit_system *s)
{
	struct poll *p = poll_of(s);
	struct link *l;

	if (!p)
		return;
	if (atomic_load(&s->spare.link))
		spare_gone(s, s->spare.link);
	for (size_t i = 0; i < p->n; i++) {
		l = p->links[i];
		link_kill(l, DAVIT_ECANCELED, "the system is closed");
		meet(davit_system_context(s), l);
		poll_await_end(l);
	}
	poll_drop_gone(p);
	while ((l = p->ending)) {
		p->ending = l->ending;
		poll_await_end(l);
	}
	atomic_store(&s->poll, NULL);
	poll_free(p);
}

void poll_wake(struct davit_system *s)
{
	struct poll *p = poll_of(s);

	if (p)
		(void)!write(p->wake, &(uint64_t){1}, sizeof(uint64_t));
}

int poll_fd(struct davit_system *s)
{
	struct poll *p = poll_of(s);

	return p ? p->epoll : -1;
}

static bool grow(struct link ***list, size_t n, size_t *cap)
{
	struct link **more;
	size_t want = *cap ? *cap * 2 : 16;

	if (n < *cap)
		return true;
	if (!(more = realloc(*list, want * sizeof *more)))
		return false;
	*list = more;
	*cap = want;
	return true;
}

int poll_add(struct davit_context *c, struct link *l)
{
	struct davit_system *s = c->system;
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
	struct poll *p = poll_of(s);
	int r = 0;

	pthread_mutex_lock(&p->lock);
	if (!grow(&p->links, p->n, &p->cap) || !grow(&p->gone, p->n + p->n_gone, &p->cap_gone))
		r = DAVIT_ENOMEM;
	if (!r) {
		p->links[p->n++] = link_ref(l);
		atomic_store(&p->count, p->n);
	}
	pthread_mutex_unlock(&p->lock);
	if (r)
		return r;
	/* Under its lock, so that a wish to write is not overlooked. */
	pthread_mutex_lock(&l->lock);
	l->epoll = p->epoll;
	l->watches_out = davit_socket_queued(&l->socket) > 0;
	e.events |= l->watches_out ? EPOLLOUT : 0;
	epoll_ctl(p->epoll, EPOLL_CTL_ADD, l->socket.fd, &e);
	pthread_mutex_unlock(&l->lock);
	if (!c->worker->polls)
		poll_wake(s); /* for its first heartbeat */
	return 0;
}

/* --- sockets --- */

static int frame(struct davit_context *c, struct link *l, const struct davit_frame *f,
		 const unsigned char *body)
{
	struct poll *p = poll_of(c->system);
	int r;

	if (!davit_frame_of_messages(f->kind))
		return process_said(c, l, f, body);
	if (l->rings)
		return DAVIT_EPROTO;
	pthread_mutex_lock(&p->lock);
	r = link_take(c, l, f, body);
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* What its socket has. 0; or it broke the protocol, and is being killed. */
int poll_receive(struct davit_context *c, struct link *l, int reads)
{
	const unsigned char *body;
	struct davit_frame f;
	int r = 0;

	while (reads-- && !r && davit_socket_receive(&l->socket) > 0) {
		l->asked = 0;
		while ((r = davit_socket_next(&l->socket, DAVIT_END_PARENT, &f, &body)) > 0)
			if ((r = frame(c, l, &f, body)))
				break;
		if (l->socket.drained)
			break;
	}
	l->ended = l->socket.ended;
	if (r) {
		link_kill(l, DAVIT_EPROTO, "it did not keep to the protocol of the channel");
		l->ended = true;
	}
	return r;
}

/* It waits for room, or keeps what the process is done with by now: then it is told. */
static bool see_to(struct davit_context *c, struct link *l)
{
	uint64_t until = atomic_load_explicit(&l->unsettled, memory_order_relaxed);
	uint64_t done = l->rings ? atomic_load_explicit(&l->ring.theirs->done, memory_order_relaxed)
				 : atomic_load(&l->acked) >> 1;
	bool news = until && done >= until;

	if (atomic_load_explicit(&l->n_late, memory_order_relaxed))
		link_catch_up(l);
	if (atomic_load_explicit(&l->stalled, memory_order_relaxed) && done >= atomic_load(&l->wanted) &&
	    link_has_room(l, true)) {
		atomic_store(&l->stalled, false);
		news = true;
	}
	if (!news)
		return false;
	atomic_store(&l->unsettled, 0);
	process_news(c, l, &(struct news){.kind = NEWS_ROOM, .link = l->number});
	return true;
}

/* Its process ends as well, a moment later, if that is not why: its sockets are closed
 * just before its end is told. Otherwise it has a second. */
static void socket_ended(struct davit_context *c, struct poll *p, struct link *l)
{
	struct pollfd process = {.fd = l->pidfd, .events = POLLIN};

	l->ended_at = clock_now();
	if (l->pidfd < 0)
		poll_over(c, p, l, &(siginfo_t){0}); /* it was never there */
	else if (poll(&process, 1, 1) > 0)
		poll_ended(c, p, l);
	if (l->epoll < 0)
		return;
	pthread_mutex_lock(&l->lock);
	epoll_ctl(p->epoll, EPOLL_CTL_DEL, l->socket.fd, NULL);
	pthread_mutex_unlock(&l->lock);
}

static void link_ready(struct davit_context *c, struct poll *p, struct link *l, uint32_t events)
{
	bool broken;

	if (l->epoll < 0)
		return;
	if (events & EPOLLOUT)
		link_flush(l);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !l->ended)
		poll_receive(c, l, READS);
	pthread_mutex_lock(&l->lock);
	broken = l->socket.broken;
	pthread_mutex_unlock(&l->lock);
	if (broken && l->end_reason)
		link_kill(l, l->end_code, l->end_reason);
	if (!l->rings)
		see_to(c, l);
	if (l->ended && !l->ended_at)
		socket_ended(c, p, l);
}

/* --- heartbeats --- */

static void beat(struct davit_context *c, struct poll *p, struct link *l, int64_t now)
{
	if (l->ended_at && now - l->ended_at > SECOND)
		link_kill(l, DAVIT_EPROTO, "it closed its channel");
	if (!l->asked)
		l->asked = now;
	link_control(l, DAVIT_FRAME_PING, p->beat, 0, NULL, 0);
	if (now - l->asked > SECOND - BEAT && !l->silent) {
		l->silent = true;
		tree_log(c->system->tree, "%s: does not answer (child-unresponsive)", l->alias);
	} else if (l->asked == now && l->silent) {
		l->silent = false;
		tree_log(c->system->tree, "%s: answers again", l->alias);
	}
	if (l->keepalive > 0 && now - l->asked > l->keepalive)
		link_kill(l, DAVIT_ETIMEDOUT, "child-unresponsive");
	if (atomic_load(&l->unsettled))
		process_news(c, l, &(struct news){.kind = NEWS_ROOM, .link = l->number});
}

static void beats(struct davit_context *c, struct poll *p)
{
	int64_t now = clock_now();

	if (now < p->next_beat)
		return;
	p->next_beat = now + BEAT;
	p->beat++;
	/* Only this thread takes links out. */
	for (size_t i = 0; i < atomic_load(&p->count); i++) {
		struct link *l;
		pthread_mutex_lock(&p->lock);
		l = i < p->n ? p->links[i] : NULL;
		pthread_mutex_unlock(&p->lock);
		if (l && atomic_load(&l->greeted))
			beat(c, p, l, now);
	}
}

/* --- rings --- */

bool poll_rings(struct davit_context *c)
{
	struct poll *p = poll_of(c->system);
	bool any = false;

	if (!p || !atomic_load_explicit(&p->count, memory_order_relaxed) || pthread_mutex_trylock(&p->lock))
		return false;
	for (size_t i = 0; i < p->n; i++) {
		struct link *l = p->links[i];
		int n;
		if (!l->rings)
			continue;
		n = davit_ring_any(&l->ring) ? link_read_ring(c, l, FRAMES) : 0;
		if (n > 0)
			davit_ring_wake(&l->ring);
		if (n < 0)
			link_kill(l, DAVIT_EPROTO, "it did not keep to the protocol of the channel");
		/* A look at what the child writes often would slow it down. */
		if (++l->looks % LOOKS == 0)
			see_to(c, l);
		any |= n > 0;
	}
	pthread_mutex_unlock(&p->lock);
	return any;
}

bool poll_arm(struct davit_context *c)
{
	struct poll *p = poll_of(c->system);
	bool quiet = true;

	if (!p || !atomic_load(&p->count))
		return true;
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->n; i++) {
		struct link *l = p->links[i];
		if (l->rings && (see_to(c, l) || !davit_ring_sleep(&l->ring)))
			quiet = false;
	}
	pthread_mutex_unlock(&p->lock);
	return quiet;
}

/* --- a turn --- */

static void event(struct davit_context *c, struct poll *p, const struct epoll_event *e)
{
	struct link *l = (struct link *)(uintptr_t)(e->data.u64 & ~(OF_PIDFD | OF_HOLDER));

	if (!l)
		(void)!read(p->wake, &(uint64_t){0}, sizeof(uint64_t));
	else if (e->data.u64 & OF_PIDFD)
		poll_ended(c, p, l);
	else if (e->data.u64 & OF_HOLDER)
		poll_holder_ended(p, l);
	else
		link_ready(c, p, l, e->events);
}

bool poll_turn(struct davit_context *c, int ms)
{
	struct poll *p = poll_of(c->system);
	struct epoll_event e[EVENTS];
	bool links;
	int64_t left;
	int n;

	if (!p)
		return false;
	poll_drop_gone(p);
	/* One to spare has no heart to listen to. */
	links = atomic_load(&p->count) > (atomic_load(&c->system->spare.link) ? 1 : 0);
	left = links ? (p->next_beat - clock_now() + 999999) / 1000000 : -1;
	if (ms < 0 || (left >= 0 && left < ms))
		ms = left < 0 && links ? 0 : (int)left;
	n = epoll_wait(p->epoll, e, EVENTS, ms);
	for (int i = 0; i < n; i++)
		event(c, p, &e[i]);
	if (atomic_load(&p->count))
		beats(c, p);
	poll_rings(c);
	return n > 0;
}

void poll_main(struct davit_worker *w)
{
	struct davit_system *s = w->system;
	struct davit_actor *a;
	bool any;

	while (!atomic_load(&s->closing)) {
		any = false;
		/* The workers all sleep: what was read woke none of them. */
		if (atomic_load(&s->n_idle) >= atomic_load(&s->n_pool) && !poll_arm(&w->context))
			poll_rings(&w->context);
		else
			poll_turn(&w->context, -1);
		wake_late(s, true);
		tree_log_late(true);
		while ((a = ring_pop(w))) {
			w->now = clock_now();
			activate(w, a);
			any = true;
		}
		if (any) /* what it was that somebody waits for, on this processor perhaps */
			sched_yield();
		wake_late(s, false);
		tree_log_late(false);
	}
}
