/* SPDX-License-Identifier: MIT
 *
 * What goes out through a link.
 */
#include "actor/link_impl.h"

#include "actor/container_impl.h"
#include "actor/remote.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

/* A peer that asks and does not read the answers is cut off. */
enum { LATE_MAX = 2 * DAVIT_FRAME_LIMIT };

struct link *link_new(struct davit_system *s, int fd, enum davit_channel_end end)
{
	static _Atomic(uint32_t) numbers;
	struct link *l = aligned_alloc(64, (sizeof *l + 63) / 64 * 64);

	if (!l)
		return NULL;
	memset(l, 0, offsetof(struct link, scratch));
	l->system = s;
	l->number = atomic_fetch_add(&numbers, 1) + 1;
	if (!l->number) /* none has that one */
		l->number = atomic_fetch_add(&numbers, 1) + 1;
	l->references = 1;
	l->end = end;
	l->patient = end == DAVIT_END_CHILD;
	l->epoll = l->pidfd = l->holder = -1;
	pthread_mutex_init(&l->lock, NULL);
	davit_socket_init(&l->socket, fd);
	return l;
}

struct link *link_ref(struct link *l)
{
	atomic_fetch_add(&l->references, 1);
	return l;
}

void link_unref(struct link *l)
{
	if (!l || atomic_fetch_sub(&l->references, 1) > 1)
		return;
	davit_socket_fini(&l->socket);
	davit_ring_close(&l->ring);
	davit_buf_fini(&l->late);
	davit_buf_fini(&l->large);
	if (l->pidfd >= 0)
		close(l->pidfd);
	if (l->holder >= 0)
		close(l->holder);
	while (l->watched) {
		struct watched *next = l->watched->next;
		free(l->watched);
		l->watched = next;
	}
	pthread_mutex_destroy(&l->lock);
	free(l);
}

void link_close(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->closed = true;
	davit_buf_fini(&l->late);
	pthread_mutex_unlock(&l->lock);
}

/* Under the lock: something was written to the socket. Said afterwards, so that who looks
 * because of it finds it. */
static void attention(struct link *l)
{
	if (l->ring.slots)
		atomic_fetch_add_explicit(&l->ring.mine->attention, 1, memory_order_release);
}

/* Under the lock: the socket is watched for room while something waits for it. */
static void watch(struct link *l)
{
	bool out = davit_socket_queued(&l->socket) > 0;
	struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = l};

	if (l->epoll < 0 || out == l->watches_out)
		return;
	l->watches_out = out;
	epoll_ctl(l->epoll, EPOLL_CTL_MOD, l->socket.fd, &e);
}

void link_flush(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	davit_socket_hold(&l->socket, false);
	davit_socket_flush(&l->socket);
	attention(l);
	watch(l);
	pthread_mutex_unlock(&l->lock);
}

static void too_late(struct link *l, size_t waiting)
{
	if (waiting <= LATE_MAX)
		return;
	l->end_reason = "it does not read what is sent to it";
	l->end_code = DAVIT_EPROTO;
	l->socket.broken = true;
}

/* Under the lock. */
static void socket_send(struct link *l, const struct davit_frame *f, const char *from, const char *to,
			const void *data, bool urgent)
{
	if (l->closed)
		return;
	if (davit_socket_send(&l->socket, f, from, to, data, urgent))
		l->socket.broken = true; /* a frame is missing: without memory there is no other way */
	davit_socket_hold(&l->socket, false);
	too_late(l, davit_socket_queued(&l->socket));
	watch(l);
	while (l->patient && davit_socket_queued(&l->socket) && !l->socket.broken) {
		nanosleep(&(struct timespec){0, 50 * 1000}, NULL);
		davit_socket_flush(&l->socket);
	}
	attention(l);
}

void link_say(struct link *l, enum davit_frame_kind kind, uint64_t id, int code, const void *data,
	      size_t size, bool soon)
{
	struct davit_frame f = {
		.kind = (uint8_t)kind, .id = id, .type = (uint32_t)-code, .size = (uint32_t)size};

	pthread_mutex_lock(&l->lock);
	if (!soon) {
		socket_send(l, &f, NULL, NULL, data, true);
	} else if (!l->closed) {
		davit_socket_hold(&l->socket, true);
		if (davit_socket_send(&l->socket, &f, NULL, NULL, data, true))
			l->socket.broken = true;
	}
	pthread_mutex_unlock(&l->lock);
}

void link_control(struct link *l, enum davit_frame_kind kind, uint64_t id, int code, const void *data,
		  size_t size)
{
	link_say(l, kind, id, code, data, size, false);
}

void link_frame(struct link *l, const struct davit_frame *f, const char *to, const void *data)
{
	pthread_mutex_lock(&l->lock);
	socket_send(l, f, NULL, to, data, true);
	pthread_mutex_unlock(&l->lock);
}

/* --- messages; under the lock --- */

static void ring_bell(struct link *l)
{
	socket_send(l, &(struct davit_frame){.kind = DAVIT_FRAME_BELL}, NULL, NULL, NULL, true);
}

static void publish(struct link *l)
{
	if (davit_ring_publish(&l->ring))
		ring_bell(l);
	if (UNLIKELY(l->socket.held)) { /* the other may not even know yet that there are rings */
		davit_socket_hold(&l->socket, false);
		attention(l);
	}
}

static inline bool ring_room(struct link *l, size_t size)
{
	bool room = false;

	if (davit_ring_room(&l->ring, size, &room)) {
		l->end_reason = "its index makes no sense";
		l->end_code = DAVIT_EPROTO;
		l->socket.broken = true;
	}
	return room;
}

/* The uplink's: until the parent has read. It always does, it does not wait for us. */
static bool wait_room(struct link *l, size_t size)
{
	publish(l);
	for (int i = 0; !ring_room(l, size); i++) {
		if (l->socket.broken)
			return false;
		if (i < 64)
			davit_relax();
		else
			nanosleep(&(struct timespec){0, 20 * 1000}, NULL);
	}
	return true;
}

/* f found no room, or others wait before it. */
static void ring_late(struct link *l, const struct davit_frame *f, const char *from, const char *to,
		      const void *data)
{
	unsigned char header[DAVIT_FRAME_HEADER];

	if (!l->late.len && l->patient && wait_room(l, f->size)) {
		davit_ring_write(&l->ring, f, from, to, data);
		return;
	}
	davit_frame_put(header, f);
	davit_buf_add(&l->late, header, sizeof header);
	davit_buf_add(&l->late, from, f->from);
	davit_buf_add(&l->late, to, f->to);
	davit_buf_add(&l->late, data, f->size - f->from - f->to);
	if (l->late.oom)
		l->socket.broken = true;
	too_late(l, l->late.len);
	atomic_store(&l->n_late, l->late.len);
	davit_ring_wait(&l->ring);
}

static void ring_frame(struct link *l, const struct davit_frame *f, const char *from, const char *to,
		       const void *data)
{
	if (!l->late.len && ring_room(l, f->size))
		davit_ring_write(&l->ring, f, from, to, data);
	else
		ring_late(l, f, from, to, data);
}

/* In parts, if it is large. */
static void message_frames(struct link *l, struct davit_frame *f, const char *from, const char *to,
			   const void *data, size_t size)
{
	const unsigned char *at = data ? data : (const void *)"";
	bool rings = l->rings;
	size_t max = rings ? DAVIT_RING_FRAME_MAX : DAVIT_FRAME_MAX, part;
	uint8_t flags = f->flags;

	do {
		part = size < max - f->from - f->to ? size : max - f->from - f->to;
		size -= part;
		f->size = (uint32_t)(f->from + f->to + part);
		f->flags = (uint8_t)(flags | (size ? DAVIT_FRAME_MORE : 0));
		if (l->closed)
			break;
		if (rings)
			ring_frame(l, f, from, to, at);
		else
			socket_send(l, f, from, to, at, false);
		at += part;
		if (size)
			*f = (struct davit_frame){.kind = f->kind, .id = f->id};
		flags = 0;
	} while (size);
}

void link_send(struct link *l, struct davit_frame *f, const char *from, const char *to, const void *data,
	       size_t size)
{
	pthread_mutex_lock(&l->lock);
	message_frames(l, f, from, to, data, size);
	if (l->rings && !l->closed)
		publish(l);
	pthread_mutex_unlock(&l->lock);
}

bool link_has_room(struct link *l, bool plenty)
{
	size_t size = plenty ? (size_t)l->ring.slots / 4 * DAVIT_RING_SLOT : LINK_ROOM;
	bool room;

	pthread_mutex_lock(&l->lock);
	if (l->closed || l->socket.broken)
		room = true; /* what is sent now goes nowhere; the end is being told of */
	else if (l->rings)
		room = !l->late.len && ring_room(l, size);
	else
		room = l->socket.bulk.len < (plenty ? 1 : 4) * DAVIT_FRAME_MAX;
	pthread_mutex_unlock(&l->lock);
	return room;
}

void link_await_room(struct link *l)
{
	if (!l->rings)
		return; /* the socket is watched */
	pthread_mutex_lock(&l->lock);
	davit_ring_wait(&l->ring);
	pthread_mutex_unlock(&l->lock);
}

void link_catch_up(struct link *l)
{
	struct davit_frame f;
	size_t at = 0;

	pthread_mutex_lock(&l->lock);
	while (!l->closed && at < l->late.len) {
		const char *p = l->late.data + at;
		davit_frame_get((const unsigned char *)p, &f);
		if (!ring_room(l, f.size))
			break;
		p += DAVIT_FRAME_HEADER;
		davit_ring_write(&l->ring, &f, p, p + f.from, p + f.from + f.to);
		at += DAVIT_FRAME_HEADER + f.size;
	}
	if (at) {
		davit_buf_consume(&l->late, at);
		atomic_store(&l->n_late, l->late.len);
		publish(l);
	}
	if (l->late.len)
		davit_ring_wait(&l->ring);
	pthread_mutex_unlock(&l->lock);
}

/* --- what davit knows of a message --- */

/* The alias of who sent it, as the other end shall see it. What a ref means never
 * changes, so that a cache needs no look at the tree. */
static const char *alias_of_sender(struct davit_system *s, struct davit_ref sender, struct link_cache *cache)
{
	struct davit_actor *a;
	struct gate *g;

	if (davit_ref_equal(cache->ref, sender))
		return cache->alias;
	cache->ref = sender;
	cache->alias[0] = 0;
	a = sender.generation ? actor_at(s, sender.slot) : NULL;
	g = a ? a->gate : NULL;
	if (!g)
		return cache->alias;
	tree_lock(s);
	if (atomic_load(&a->generation) == sender.generation)
		memcpy(cache->alias, g->alias, sizeof g->alias);
	tree_unlock(s);
	return cache->alias;
}

static uint32_t time_left(struct davit_context *c, int64_t deadline)
{
	int64_t ms = (deadline - davit_system_now(c->system)) / 1000000;

	if (deadline == INT64_MAX)
		return 0;
	return ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

/* The header of m; the tree and the promises may be asked for it. */
static void header(struct davit_context *c, struct link *l, const char *from, const char *to,
		   const struct davit_message *m, struct davit_frame *ret)
{
	*ret = (struct davit_frame){.kind = DAVIT_FRAME_MESSAGE,
				    .type = m->type,
				    .from = (uint8_t)strlen(from),
				    .to = (uint8_t)strlen(to)};
	if (m->promise.generation) {
		ret->kind = DAVIT_FRAME_REQUEST;
		ret->id = (uint64_t)m->promise.slot << 32 | m->promise.generation;
		ret->time = time_left(c, promise_goes_by(c, m->promise, l));
	}
	if (m->flags_ & MSG_GATED)
		ret->flags |= DAVIT_FRAME_FAILED;
	if (m->flags_ & MSG_KEPT)
		ret->flags |= DAVIT_FRAME_KEEP;
}

void link_message(struct davit_context *c, struct link *l, const char *to, const struct davit_message *m)
{
	const struct davit_blob *b = davit_message_blob(m);
	struct link_cache none = {{0, 0}, ""};
	const char *from = alias_of_sender(l->system, m->sender, &none);
	struct davit_frame f;

	header(c, l, from, to, m, &f);
	link_send(l, &f, from, to, b ? (const void *)b->data : m->data, b ? b->size : m->size);
}

static void batch_end(struct link *l)
{
	if (l->rings && !l->closed)
		publish(l);
	l->ring.many = false;
	pthread_mutex_unlock(&l->lock);
}

/* One as most are: from the same sender as the one before, small, and there is room. */
static inline bool plain(struct link *l, const struct link_cache *cache, uint8_t n_from,
			 const struct davit_message *m)
{
	return !m->promise.generation && davit_ref_equal(cache->ref, m->sender) &&
	       !(m->flags_ & (MSG_BLOB | MSG_GATED | MSG_KEPT)) &&
	       DAVIT_FRAME_HEADER + n_from + m->size <= DAVIT_RING_SLOT && l->rings && !l->closed &&
	       !l->late.len && ring_room(l, DAVIT_RING_SLOT - DAVIT_FRAME_HEADER);
}

void link_messages(struct davit_context *c, struct link *l, struct link_cache *cache,
		   const struct davit_message *m)
{
	bool locked = false, many = m && m->next_;
	const char *from = "";
	uint8_t n_from = 0;

	for (; m; m = m->next_) {
		const struct davit_blob *b;
		struct davit_frame f;
		if (LIKELY(locked) && LIKELY(plain(l, cache, n_from, m))) {
			const struct davit_frame one = {.size = n_from + m->size,
							.kind = DAVIT_FRAME_MESSAGE,
							.from = n_from,
							.type = m->type};
			davit_ring_write_one(&l->ring, &one, from, "", m->data);
			continue;
		}
		if (locked && (m->promise.generation || !davit_ref_equal(cache->ref, m->sender))) {
			batch_end(l);
			locked = false;
		}
		if (!locked) {
			from = alias_of_sender(l->system, m->sender, cache);
			n_from = (uint8_t)strlen(from);
		}
		header(c, l, from, "", m, &f);
		if (!locked)
			pthread_mutex_lock(&l->lock);
		locked = true;
		l->ring.many = many;
		b = davit_message_blob(m);
		message_frames(l, &f, from, "", b ? (const void *)b->data : m->data, b ? b->size : m->size);
	}
	if (locked)
		batch_end(l);
}

void link_answer(struct link *l, uint64_t id, const struct davit_outcome *o)
{
	struct davit_frame f = {.kind = DAVIT_FRAME_REPLY, .id = id};

	if (o->state == DAVIT_PROMISE_FULFILLED) {
		link_send(l, &f, NULL, NULL, o->data, o->size);
		return;
	}
	f.kind = DAVIT_FRAME_REFUSE;
	f.type = (uint32_t)-o->code;
	link_send(l, &f, NULL, NULL, o->message, strlen(o->message));
}
