/* SPDX-License-Identifier: MIT
 *
 * Messages: fixed sizes from magazines of each worker, which trade whole batches
 * with a common depot; larger ones from the heap. A message made here and freed
 * there costs no lock but once in a batch.
 */
#include "actor/actor_impl.h"
#include "actor/child.h"

#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define PLAIN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PLAIN 1
#endif
#endif
#ifndef PLAIN
#define PLAIN 0 /* 1: each message from the heap, so that the sanitizer sees each */
#endif

enum { SLAB = 64 * 1024 };

struct slab {
	struct slab *next;
	_Alignas(64) unsigned char bytes[];
};

static size_t class_size(unsigned class)
{
	return (size_t)64 << class;
}

/* A batch's first message links to the next batch by this. */
static struct davit_message **batch_link(struct davit_message *m)
{
	return body(m);
}

/* Batches that a worker keeps to itself: 256 kB of them. */
static uint32_t batches_kept(unsigned class)
{
	return (uint32_t)(4 * SLAB / (BATCH * class_size(class)));
}

/* A slab, cut into batches. */
static struct davit_message *slab_cut(struct davit_system *s, unsigned class, uint32_t *ret_n)
{
	/* A process that is a container is small, so that it is gone quickly when it dies. */
	size_t size = class_size(class), all = s->config.workers == DAVIT_NO_WORKERS ? BATCH * size : SLAB;
	struct slab *slab = aligned_alloc(64, sizeof *slab + all);
	struct davit_message *batches = NULL, *m = NULL, *next;

	if (!slab)
		return NULL;
	slab->next = s->slabs;
	s->slabs = slab;
	for (size_t i = all / size; i-- > 0; m = next) {
		next = (struct davit_message *)(void *)(slab->bytes + i * size);
		next->class_ = (uint8_t) class;
		next->next_ = (i + 1) % BATCH ? m : NULL;
		if (i % BATCH)
			continue;
		*batch_link(next) = batches;
		batches = next;
		++*ret_n;
	}
	return batches;
}

/* Gets some batches, from the depot or from new memory. */
static void batches_get(struct davit_system *s, struct magazine *g, unsigned class)
{
	struct davit_message *b;

	pthread_mutex_lock(&s->store_lock);
	while (g->n_batches < batches_kept(class) / 4 && (b = s->depot[class])) {
		s->depot[class] = *batch_link(b);
		*batch_link(b) = g->batches;
		g->batches = b;
		g->n_batches++;
	}
	if (!g->batches)
		g->batches = slab_cut(s, class, &g->n_batches);
	pthread_mutex_unlock(&s->store_lock);
}

/* Gives half of them back. */
static void batches_put(struct davit_system *s, struct magazine *g, unsigned class)
{
	pthread_mutex_lock(&s->store_lock);
	while (g->n_batches > batches_kept(class) / 2) {
		struct davit_message *b = g->batches;
		g->batches = *batch_link(b);
		g->n_batches--;
		*batch_link(b) = s->depot[class];
		s->depot[class] = b;
	}
	pthread_mutex_unlock(&s->store_lock);
}

/* A batch in place of the list, which is empty. */
static __attribute__((noinline)) bool magazine_fill(struct davit_worker *w, unsigned class)
{
	struct magazine *g = &w->magazine[class];

	if (!g->batches)
		batches_get(w->system, g, class);
	if (!(g->list = g->batches))
		return false;
	g->batches = *batch_link(g->list);
	g->n_batches--;
	g->n = BATCH;
	return true;
}

static inline struct davit_message *magazine_take(struct davit_worker *w, unsigned class)
{
	struct magazine *g = &w->magazine[class];
	struct davit_message *m;

	if (UNLIKELY(!g->list) && !magazine_fill(w, class))
		return NULL;
	m = g->list;
	g->list = m->next_;
	g->n--;
	return m;
}

static inline void magazine_give(struct davit_worker *w, struct davit_message *m)
{
	struct magazine *g = &w->magazine[m->class_];

	if (UNLIKELY(g->n == BATCH)) {
		*batch_link(g->list) = g->batches;
		g->batches = g->list;
		g->list = NULL;
		g->n = 0;
		if (++g->n_batches > batches_kept(m->class_))
			batches_put(w->system, g, m->class_);
	}
	m->next_ = g->list;
	g->list = m;
	g->n++;
}

static struct davit_message *heap_take(size_t size)
{
	struct davit_message *m = malloc(sizeof *m + size);

	if (m)
		m->class_ = CLASS_HEAP;
	return m;
}

struct davit_message *davit_message_new(struct davit_context *c, uint32_t type, size_t size)
{
	size_t total = sizeof(struct davit_message) + size;
	unsigned class = 0;
	struct davit_message *m;

	if (UNLIKELY(size > UINT32_MAX))
		return NULL;
	if (UNLIKELY(total > 64))
		class = 58 - (unsigned)__builtin_clzl(total - 1);
	if (UNLIKELY(PLAIN) || UNLIKELY(class >= CLASSES)) {
		m = heap_take(size);
	} else if (UNLIKELY(c->worker->shared)) {
		pthread_mutex_lock(&c->worker->lock);
		m = magazine_take(c->worker, class);
		pthread_mutex_unlock(&c->worker->lock);
	} else {
		m = magazine_take(c->worker, class);
	}
	if (UNLIKELY(!m))
		return NULL;
	m->type = type;
	m->size = (uint32_t)size;
	m->flags_ = 0;
	m->promise = (struct davit_promise){0, 0};
	m->sender = (struct davit_ref){0, 0};
	return m;
}

void davit_message_free(struct davit_context *c, struct davit_message *m)
{
	struct davit_worker *w = c->worker;

	if (UNLIKELY(!m))
		return;
	if (UNLIKELY(m->flags_ & MSG_BLOB))
		davit_blob_unref(davit_message_blob(m));
	if (UNLIKELY(m->class_ == CLASS_HEAP)) {
		free(m);
	} else if (UNLIKELY(w->shared)) {
		pthread_mutex_lock(&w->lock);
		magazine_give(w, m);
		pthread_mutex_unlock(&w->lock);
	} else {
		magazine_give(w, m);
	}
}

struct davit_message *message_copy(struct davit_context *c, const struct davit_message *m)
{
	struct davit_message *n = davit_message_new(c, m->type, (size_t)m->size + 1);

	if (!n)
		return NULL;
	memcpy(n->data, m->data, m->size);
	n->data[m->size] = 0; /* as it may be in m */
	n->size = m->size;
	n->sender = m->sender;
	n->promise = m->promise;
	n->flags_ = m->flags_ & (MSG_BLOB | MSG_RETRIED | MSG_GATED);
	if (m->flags_ & MSG_BLOB)
		davit_blob_ref(davit_message_blob(m));
	return n;
}

void message_dead(struct davit_context *c, enum davit_dead why, struct davit_ref to, struct davit_message *m)
{
	struct davit_system *s = c->system;

	if (UNLIKELY(m->flags_ & MSG_CHANNEL) && why != DAVIT_DEAD_FAILED) {
		uplink_begin(s); /* to the parent it is as good as handled */
		uplink_done(s);
	}
	if (m->flags_ & MSG_OURS && m->type == DAVIT_TYPE_CALL)
		promise_call_lost(c, m);
	if (!(m->flags_ & MSG_OURS)) {
		COUNT(c->worker, dead[why]);
		if (s->config.dead)
			s->config.dead(s->config.arg, why, to, m);
	}
	/* Who asked need not wait for the timeout, unless the first copy is still handled. */
	if (m->promise.generation && why != DAVIT_DEAD_REPEAT && !(m->flags_ & MSG_OURS) &&
	    !(why == DAVIT_DEAD_FULL && m->flags_ & MSG_RETRIED))
		davit_reject(c, m->promise, DAVIT_ECLOSED, "the request was not handled: %s",
			     davit_dead_name(why));
	davit_message_free(c, m);
}

const char *davit_dead_name(enum davit_dead why)
{
	static const char *const names[] = {
		[DAVIT_DEAD_NOBODY] = "nobody is there",
		[DAVIT_DEAD_FULL] = "the mailbox is full",
		[DAVIT_DEAD_STOPPED] = "the receiver is not started",
		[DAVIT_DEAD_ENDED] = "the receiver has ended",
		[DAVIT_DEAD_EXPIRED] = "nobody waits for it any more",
		[DAVIT_DEAD_REPEAT] = "it was handled already",
		[DAVIT_DEAD_DENIED] = "a rule denies it",
		[DAVIT_DEAD_FAILED] = "its handler failed",
	};

	return (unsigned)why < DAVIT_DEAD_COUNT ? names[why] : "unknown";
}

void messages_fini(struct davit_system *s)
{
	struct slab *slab;

	while ((slab = s->slabs)) {
		s->slabs = slab->next;
		free(slab);
	}
}

/* --- blobs --- */

struct davit_blob *davit_blob_new(size_t size)
{
	struct davit_blob *b = size < PTRDIFF_MAX ? malloc(sizeof *b + size) : NULL;

	if (!b)
		return NULL;
	b->size = size;
	b->references_ = 1;
	return b;
}

struct davit_blob *davit_blob_ref(struct davit_blob *b)
{
	__atomic_add_fetch(&b->references_, 1, __ATOMIC_RELAXED);
	return b;
}

void davit_blob_unref(struct davit_blob *b)
{
	if (b && !__atomic_sub_fetch(&b->references_, 1, __ATOMIC_ACQ_REL))
		free(b);
}

struct davit_message *davit_message_new_blob(struct davit_context *c, uint32_t type, struct davit_blob *b)
{
	struct davit_message *m = davit_message_new(c, type, sizeof b);

	if (!m)
		return NULL;
	memcpy(m->data, &b, sizeof b);
	m->flags_ = MSG_BLOB;
	davit_blob_ref(b);
	return m;
}

struct davit_blob *davit_message_blob(const struct davit_message *m)
{
	struct davit_blob *b = NULL;

	if (m->flags_ & MSG_BLOB)
		memcpy(&b, m->data, sizeof b);
	return b;
}
