/* SPDX-License-Identifier: MIT
 *
 * Frames of messages that come by a link. What comes from a child is checked as
 * anything from outside; what it says wrongly breaks its channel, and that only.
 */
#include "actor/container_impl.h"
#include "actor/link_impl.h"
#include "actor/remote.h"

#include <string.h>

/* Where the bytes behind a header are. */
struct body {
	const struct link *l;
	const unsigned char *bytes; /* NULL: in the ring, over its end */
	bool shared;		    /* the other end can still write there */
};

static void copy(const struct body *b, size_t at, void *to, size_t n)
{
	if (b->bytes)
		memcpy(to, b->bytes + at, n);
	else
		davit_ring_copy(&b->l->ring, at, to, n);
}

static struct davit_promise promise_of(uint64_t id)
{
	return (struct davit_promise){(uint32_t)(id >> 32), (uint32_t)id};
}

static void refuse(struct link *l, uint64_t id, int code, const char *text)
{
	link_answer(l, id,
		    &(struct davit_outcome){.state = DAVIT_PROMISE_REJECTED, .code = code, .message = text});
}

/* It goes no further. */
static void undeliverable(struct davit_context *c, struct link *l, const struct davit_frame *f,
			  struct davit_message *m, int code)
{
	enum davit_dead why = code == DAVIT_EUNAVAIL ? DAVIT_DEAD_FULL
			      : code == DAVIT_EPERM  ? DAVIT_DEAD_DENIED
						     : DAVIT_DEAD_NOBODY;

	COUNT(c->worker, sent);
	if (f->kind == DAVIT_FRAME_REQUEST)
		refuse(l, f->id, code, davit_dead_name(why));
	m->promise = (struct davit_promise){0, 0};
	message_dead(c, why, (struct davit_ref){0, 0}, m);
}

/* Those for the root go into its mailbox at once, before anything else does. */
static void batch_put(struct davit_context *c, struct link *l)
{
	struct davit_actor *a = actor_of(c->system, l->owner);
	struct davit_message *m = DAVIT_TAKE(l->batch), *next;

	if (!m)
		return;
	if (a) {
		mailbox_put_all(c, a, m, l->batch_last);
		return;
	}
	for (; m; m = next) {
		next = m == l->batch_last ? NULL : m->next_;
		message_dead(c, DAVIT_DEAD_NOBODY, l->owner, m);
	}
}

/* The child's: for its root, which counts what it begins and is done with. */
static void to_root(struct davit_context *c, struct link *l, struct davit_message *m)
{
	COUNT(c->worker, sent);
	m->generation_ = l->owner.generation;
	if (!(m->flags_ & MSG_GATED))
		m->flags_ |= MSG_CHANNEL;
	m->next_ = l->batch;
	if (!l->batch)
		l->batch_last = m;
	l->batch = m;
}

static void hand_over(struct davit_context *c, struct link *l, const struct davit_frame *f, const char *from,
		      const char *to, struct davit_message *m)
{
	struct davit_ref ref;
	int r = 0;

	m->sender = remote_sender(c, l, from);
	if (f->kind == DAVIT_FRAME_REQUEST &&
	    promise_from_link(c, l, f->id, f->time ? f->time * INT64_C(1000000) : -1, &m->promise)) {
		undeliverable(c, l, f, m, DAVIT_ENOMEM);
		return;
	}
	if (f->flags & DAVIT_FRAME_FAILED) {
		m->flags_ |= MSG_GATED;
		promise_set_failure(c, m->promise, container_failure(c->system, l->owner));
	}
	if (!*to && l->end == DAVIT_END_CHILD) {
		to_root(c, l, m);
		return;
	}
	if (!*to)
		ref = l->above;
	else
		r = remote_find(c, l, to, &ref);
	if (r && f->flags & DAVIT_FRAME_KEEP && remote_keep(c, to, m))
		return;
	if (!r)
		r = send_from(c, m->sender, from, ref, &m);
	if (m)
		undeliverable(c, l, f, m, r);
}

/* A message that is there as a whole. */
static int message(struct davit_context *c, struct link *l, const struct davit_frame *f, const struct body *b,
		   size_t size)
{
	char from[256], to[256];
	struct davit_message *m;

	copy(b, 0, from, f->from);
	copy(b, f->from, to, f->to);
	from[f->from] = to[f->to] = 0;
	if (memchr(from, 0, f->from) || memchr(to, 0, f->to))
		return DAVIT_EPROTO;
	if (!(m = davit_message_new(c, f->type, size + 1))) {
		if (f->kind == DAVIT_FRAME_REQUEST)
			refuse(l, f->id, DAVIT_ENOMEM, "out of memory");
		return 0;
	}
	copy(b, (size_t)f->from + f->to, m->data, size);
	m->data[size] =
		0; /* not counted: a handler that reads text is as safe as with one from davit itself */
	m->size = (uint32_t)size;
	if (!davit_frame_type_ok(m->type, m->data, m->size) || (f->kind == DAVIT_FRAME_REQUEST && !f->id)) {
		davit_message_free(c, m);
		return DAVIT_EPROTO;
	}
	hand_over(c, l, f, from, to, m);
	return 0;
}

static int reply(struct davit_context *c, struct link *l, const struct davit_frame *f, const struct body *b,
		 size_t size)
{
	const void *data = b->bytes;

	if (b->shared) {
		copy(b, 0, l->scratch, size);
		data = l->scratch;
	}
	promise_from_peer(c, promise_of(f->id), l->number, DAVIT_PROMISE_FULFILLED, 0, NULL, data, size);
	return 0;
}

static int refused(struct davit_context *c, struct link *l, const struct davit_frame *f, const struct body *b)
{
	char text[448];
	size_t n = f->size < sizeof text - 1 ? f->size : sizeof text - 1;
	int code = f->type && f->type < 1000 ? -(int)f->type : DAVIT_EINTERNAL;

	copy(b, 0, text, n);
	text[n] = 0;
	promise_from_peer(c, promise_of(f->id), l->number, DAVIT_PROMISE_REJECTED, code, text, NULL, 0);
	return 0;
}

/* A part of something large; the whole, when it is the last one. */
static int part(struct davit_context *c, struct link *l, const struct davit_frame *f, const struct body *b)
{
	struct davit_frame head;
	int r;

	if (!l->large.len && !l->large_head.kind)
		l->large_head = *f;
	else if (f->kind != l->large_head.kind || f->id != l->large_head.id || f->from || f->to)
		return DAVIT_EPROTO;
	if (l->large.len + f->size > DAVIT_FRAME_LIMIT)
		return DAVIT_EPROTO;
	if (davit_buf_reserve(&l->large, f->size))
		return DAVIT_ENOMEM;
	copy(b, 0, l->large.data + l->large.len, f->size);
	l->large.len += f->size;
	if (f->flags & DAVIT_FRAME_MORE)
		return 0;
	head = l->large_head;
	l->large_head = (struct davit_frame){0};
	{
		struct body whole = {l, (const unsigned char *)l->large.data, false};
		if (head.kind == DAVIT_FRAME_REPLY)
			r = reply(c, l, &head, &whole, l->large.len);
		else
			r = message(c, l, &head, &whole, l->large.len - head.from - head.to);
	}
	davit_buf_fini(&l->large);
	return r;
}

static int take(struct davit_context *c, struct link *l, const struct davit_frame *f, const struct body *b)
{
	if (davit_frame_in_parts(f->kind) && (f->flags & DAVIT_FRAME_MORE || l->large_head.kind))
		return part(c, l, f, b);
	switch (f->kind) {
	case DAVIT_FRAME_MESSAGE:
	case DAVIT_FRAME_REQUEST:
		return message(c, l, f, b, f->size - f->from - f->to);
	case DAVIT_FRAME_REPLY:
		return f->from || f->to ? DAVIT_EPROTO : reply(c, l, f, b, f->size);
	case DAVIT_FRAME_REFUSE:
		return refused(c, l, f, b);
	case DAVIT_FRAME_PROGRESS:
		promise_progress(c, promise_of(f->id), l->number);
		return 0;
	case DAVIT_FRAME_CANCEL:
		promise_cancelled_by(c, l, f->id);
		return 0;
	default:
		return 0;
	}
}

int link_take(struct davit_context *c, struct link *l, const struct davit_frame *f,
	      const unsigned char *bytes)
{
	return take(c, l, f, &(struct body){l, bytes, false});
}

/* At most n frames as most are: of the sender that was the last one, for the child's root, small. Each
 * byte of them is read once, as others' memory has to be; whatever is not so is left to message(). */
static int read_plain(struct davit_context *c, struct link *l, int n)
{
	struct davit_ring *r = &l->ring;
	struct davit_ref sender = l->from.ref;
	size_t from = strlen(l->from.alias);
	struct davit_message *m;
	struct davit_frame f;
	const unsigned char *body;
	int i;

	if (l->end != DAVIT_END_CHILD || l->large_head.kind || !davit_alive(c, sender))
		return 0;
	for (i = 0; i < n && r->head != r->seen; i++) {
		davit_ring_fetch(r);
		body = davit_ring_slot(r->theirs, r, r->head) + DAVIT_FRAME_HEADER;
		davit_frame_get(body - DAVIT_FRAME_HEADER, &f);
		if (f.kind != DAVIT_FRAME_MESSAGE || f.flags || f.to || f.from != from || f.size < from ||
		    f.size > DAVIT_RING_SLOT - DAVIT_FRAME_HEADER || f.type >= DAVIT_TYPE_SYSTEM ||
		    !davit_ring_same(body, l->from.alias, from))
			break;
		f.size -= (uint32_t)from;
		if (!(m = davit_message_new(c, f.type, f.size + 1)))
			break;
		davit_ring_copy_small(m->data, body + from, f.size);
		m->data[f.size] = 0;
		m->size = f.size;
		m->sender = sender;
		to_root(c, l, m);
		r->head++;
	}
	return i;
}

int link_read_ring(struct davit_context *c, struct link *l, int n)
{
	struct davit_frame f;
	int i = 0, r = 0;

	while ((i += read_plain(c, l, n - i)) < n && (r = davit_ring_peek(&l->ring, &f)) > 0) {
		if ((r = take(c, l, &f, &(struct body){l, davit_ring_body(&l->ring, &f), true})))
			break;
		davit_ring_next(&l->ring, &f);
		i++;
	}
	batch_put(c, l);
	if (r < 0)
		return r;
	davit_ring_release(&l->ring);
	return i;
}
