/* SPDX-License-Identifier: MIT
 *
 * Places of actors: chunks that stay until the system is closed, so that a ref to one
 * that has ended leads to memory that can still be asked for its generation.
 */
#include "actor/actor_impl.h"
#include "actor/container_impl.h"

#include <string.h>
#include <sys/mman.h>

int slots_init(struct davit_system *s)
{
	s->chunks = mmap(NULL, CHUNKS * sizeof *s->chunks, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->chunks == MAP_FAILED) {
		s->chunks = NULL;
		return DAVIT_ENOMEM;
	}
	s->next_slot = 1; /* place 0 is nobody's */
	return 0;
}

void slots_fini(struct davit_system *s)
{
	if (!s->chunks)
		return;
	for (uint32_t i = 0; i < s->n_chunks; i++) {
		struct chunk *k = s->chunks[i];
		uint32_t begun = s->next_slot - (i << CHUNK_BITS); /* the others nobody ever touched */
		for (uint32_t j = 0; j < begun && j < 1u << CHUNK_BITS; j++) {
			if (!k->actor[j].gate)
				continue;
			pthread_mutex_destroy(&k->actor[j].gate->lock);
			free(k->actor[j].gate);
		}
		munmap(k, sizeof *k);
	}
	munmap(s->chunks, CHUNKS * sizeof *s->chunks);
}

static int chunk_add(struct davit_system *s)
{
	uint32_t n = s->n_chunks;
	struct chunk *k;

	if (n == CHUNKS)
		return DAVIT_ENOMEM;
	k = mmap(NULL, sizeof *k, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (k == MAP_FAILED)
		return DAVIT_ENOMEM;
	if (!n)
		k->actor[0].generation = UINT32_MAX;
	atomic_store_explicit(&s->chunks[n], k, memory_order_release);
	s->n_chunks = n + 1;
	return 0;
}

/* Fills w's list of free places. */
static void refill(struct davit_worker *w)
{
	struct davit_system *s = w->system;

	pthread_mutex_lock(&s->store_lock);
	for (int i = 0; i < BATCH; i++) {
		struct davit_actor *a = s->free;
		if (a) {
			s->free = a->next;
		} else {
			if (s->next_slot >> CHUNK_BITS >= s->n_chunks && chunk_add(s))
				break;
			a = actor_at(s, s->next_slot);
			a->slot = s->next_slot++;
			a->generation = 1;
			a->mailbox = a->signals = CLOSED;
		}
		a->next = w->free;
		w->free = a;
		w->n_free++;
	}
	pthread_mutex_unlock(&s->store_lock);
}

static void spill(struct davit_worker *w)
{
	struct davit_system *s = w->system;

	pthread_mutex_lock(&s->store_lock);
	for (int i = 0; i < BATCH; i++) {
		struct davit_actor *a = w->free;
		w->free = a->next;
		a->next = s->free;
		s->free = a;
	}
	w->n_free -= BATCH;
	pthread_mutex_unlock(&s->store_lock);
}

static struct davit_actor *place_take(struct davit_worker *w)
{
	struct davit_actor *a;

	if (UNLIKELY(!w->free))
		refill(w);
	if ((a = w->free)) {
		w->free = a->next;
		w->n_free--;
	}
	return a;
}

static void place_give(struct davit_worker *w, struct davit_actor *a)
{
	a->next = w->free;
	w->free = a;
	if (UNLIKELY(++w->n_free >= 4 * BATCH))
		spill(w);
}

struct davit_actor *actor_new(struct davit_context *c,
			      int (*handle)(struct davit_context *c, struct davit_message *m))
{
	struct davit_worker *w = c->worker;
	struct davit_actor *a;

	if (UNLIKELY(w->shared))
		pthread_mutex_lock(&w->lock);
	a = place_take(w);
	if (UNLIKELY(w->shared))
		pthread_mutex_unlock(&w->lock);
	if (!a)
		return NULL;
	a->handle = handle;
	a->todo = a->todo_last = NULL;
	a->next = NULL;
	a->container = NULL;
	a->watch = NULL;
	a->own = NULL;
	a->flags = 0;
	a->code = 0;
	COUNT(w, born);
	atomic_store_explicit(&a->signals, 0, memory_order_release);
	atomic_store_explicit(&a->mailbox, IDLE, memory_order_release);
	return a;
}

struct gate *actor_gate(struct davit_actor *a)
{
	struct gate *g = a->gate;

	if (g || !(g = calloc(1, sizeof *g)))
		return g;
	pthread_mutex_init(&g->lock, NULL);
	a->gate = g;
	return g;
}

static int spawn(struct davit_context *c, int (*handle)(struct davit_context *c, struct davit_message *m),
		 const void *state, size_t size, struct davit_actor **ret)
{
	void *heap = NULL;
	struct davit_actor *a;

	if (size > sizeof a->state && !(heap = calloc(1, size)))
		return DAVIT_ENOMEM;
	if (!(a = actor_new(c, handle))) {
		free(heap);
		return DAVIT_ENOMEM;
	}
	if (heap) {
		a->state.heap = heap;
		a->flags |= ACTOR_HEAP;
	} else if (!state) {
		memset(&a->state, 0, sizeof a->state);
	}
	if (state && size)
		memcpy(heap ? heap : (void *)&a->state, state, size);
	*ret = a;
	return 0;
}

int davit_spawn(struct davit_context *c, int (*handle)(struct davit_context *c, struct davit_message *m),
		const void *state, size_t size, struct davit_ref *ret)
{
	struct davit_actor *a;
	int r = spawn(c, handle, state, size, &a);

	if (!r)
		*ret = ref_of(a);
	return r;
}

int davit_spawn_dedicated(struct davit_context *c,
			  int (*handle)(struct davit_context *c, struct davit_message *m), const void *state,
			  size_t size, struct davit_ref *ret)
{
	struct davit_actor *a;
	int r = spawn(c, handle, state, size, &a);

	if (r)
		return r;
	if ((r = actor_dedicate(c, a))) {
		actor_end(c, a, r, "no thread");
		return r;
	}
	*ret = ref_of(a);
	return 0;
}

/* What waits in both stacks, of one that has ended. */
static void drain(struct davit_context *c, struct davit_actor *a, struct davit_ref ref, uintptr_t signals)
{
	struct davit_message *m;

	while ((m = a->todo)) {
		a->todo = m->next_;
		if (m->flags_ & MSG_COUNTED)
			gate_leave(a, 1);
		message_dead(c, DAVIT_DEAD_ENDED, ref, m);
	}
	while ((m = (struct davit_message *)signals)) {
		signals = (uintptr_t)m->next_;
		watch_late(c, ref, m);
		davit_message_free(c, m);
	}
}

void actor_end(struct davit_context *c, struct davit_actor *a, int code, const char *reason)
{
	struct davit_ref ref = ref_of(a);
	uintptr_t signals;

	mailbox_close(a);
	signals = atomic_exchange(&a->signals, CLOSED);
	/* From here on the ref leads nowhere; a sender that looked before is found out by
	 * the generation that its message carries. */
	atomic_store_explicit(&a->generation, ref.generation + 1 ? ref.generation + 1 : 1,
			      memory_order_release);
	watch_end(c, a, ref, code, reason);
	drain(c, a, ref, signals);
	if (a->flags & ACTOR_HEAP)
		free(a->state.heap);
	if (a->container) {
		promises_abandon(c, ref, &a->container->asks);
		container_free(c, a->container);
		a->container = NULL;
	}
	if (a->own)
		actor_retire(a);
	COUNT(c->worker, died);
	if (UNLIKELY(c->worker->shared))
		pthread_mutex_lock(&c->worker->lock);
	place_give(c->worker, a);
	if (UNLIKELY(c->worker->shared))
		pthread_mutex_unlock(&c->worker->lock);
}

void *davit_data(struct davit_context *c)
{
	struct davit_actor *a = c->self;

	if (!a)
		return NULL;
	/* A container's state is where davit_set_data said. */
	return a->flags & ACTOR_HEAP || a->container ? a->state.heap : (void *)&a->state;
}

struct davit_ref davit_self(const struct davit_context *c)
{
	return c->self ? ref_of(c->self) : (struct davit_ref){0, 0};
}

void davit_exit(struct davit_context *c)
{
	if (c->self)
		c->self->flags |= ACTOR_EXIT;
}

void davit_kill(struct davit_context *c, struct davit_ref ref)
{
	struct davit_message *m = davit_message_new(c, SIG_KILL, 0);

	if (m)
		send_signal(c, ref, m);
}

bool davit_alive(struct davit_context *c, struct davit_ref ref)
{
	return actor_of(c->system, ref) != NULL;
}
