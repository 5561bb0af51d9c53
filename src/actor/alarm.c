/* SPDX-License-Identifier: MIT
 *
 * Time: a heap of alarms, one for the system. `due` of the first one can be read
 * without the lock; workers compare it when they look at the clock, and the sentinel
 * sleeps until then.
 */
#include "actor/actor_impl.h"
#include "actor/tree.h"

struct alarm {
	int64_t due;
	uint64_t order; /* ties go off in the order of their setting */
	uint32_t generation;
	uint32_t at; /* in the heap, + 1; 0: free */
	uint32_t next_free;
	uint32_t type;
	enum alarm_kind kind;
	struct davit_ref ref;
};

struct alarms {
	pthread_mutex_t lock;
	struct alarm *alarm;		/* by slot */
	uint32_t *heap;			/* slots */
	uint32_t n, cap, n_slots, free; /* free: slot + 1 */
	uint64_t order;
};

int alarms_init(struct davit_system *s)
{
	if (!(s->alarms = calloc(1, sizeof *s->alarms)))
		return DAVIT_ENOMEM;
	pthread_mutex_init(&s->alarms->lock, NULL);
	atomic_store(&s->due, INT64_MAX);
	return 0;
}

void alarms_fini(struct davit_system *s)
{
	if (!s->alarms)
		return;
	pthread_mutex_destroy(&s->alarms->lock);
	free(s->alarms->alarm);
	free(s->alarms->heap);
	free(s->alarms);
}

static bool before(const struct alarms *t, uint32_t a, uint32_t b)
{
	const struct alarm *x = &t->alarm[a], *y = &t->alarm[b];

	return x->due != y->due ? x->due < y->due : x->order < y->order;
}

static void place(struct alarms *t, uint32_t i, uint32_t slot)
{
	t->heap[i] = slot;
	t->alarm[slot].at = i + 1;
}

static void sift_up(struct alarms *t, uint32_t i, uint32_t slot)
{
	for (uint32_t up; i && before(t, slot, t->heap[up = (i - 1) / 4]); i = up)
		place(t, i, t->heap[up]);
	place(t, i, slot);
}

static void sift_down(struct alarms *t, uint32_t i, uint32_t slot)
{
	for (;;) {
		uint32_t first = i * 4 + 1, best = first;
		if (first >= t->n)
			break;
		for (uint32_t k = first + 1; k < first + 4 && k < t->n; k++)
			if (before(t, t->heap[k], t->heap[best]))
				best = k;
		if (!before(t, t->heap[best], slot))
			break;
		place(t, i, t->heap[best]);
		i = best;
	}
	place(t, i, slot);
}

/* Takes an alarm out of the heap and frees its slot. */
static void remove_alarm(struct alarms *t, uint32_t slot)
{
	uint32_t i = t->alarm[slot].at - 1, last = t->heap[--t->n];

	if (last != slot) {
		if (i && before(t, last, t->heap[(i - 1) / 4]))
			sift_up(t, i, last);
		else
			sift_down(t, i, last);
	}
	t->alarm[slot].at = 0;
	if (!++t->alarm[slot].generation)
		t->alarm[slot].generation = 1;
	t->alarm[slot].next_free = t->free;
	t->free = slot + 1;
}

static int grow(struct alarms *t)
{
	uint32_t cap = t->cap ? t->cap * 2 : 64;
	struct alarm *a = realloc(t->alarm, cap * sizeof *a);
	uint32_t *heap;

	if (!a)
		return DAVIT_ENOMEM;
	t->alarm = a;
	if (!(heap = realloc(t->heap, cap * sizeof *heap)))
		return DAVIT_ENOMEM;
	t->heap = heap;
	t->cap = cap;
	return 0;
}

static int64_t first_due(const struct alarms *t)
{
	return t->n ? t->alarm[t->heap[0]].due : INT64_MAX;
}

int alarm_set(struct davit_system *s, int64_t due, enum alarm_kind kind, struct davit_ref ref, uint32_t type,
	      struct davit_alarm *ret)
{
	struct alarms *t = s->alarms;
	bool earlier;
	uint32_t slot;

	pthread_mutex_lock(&t->lock);
	if (t->n == t->cap && grow(t)) {
		pthread_mutex_unlock(&t->lock);
		return DAVIT_ENOMEM;
	}
	if (t->free) {
		slot = t->free - 1;
		t->free = t->alarm[slot].next_free;
	} else {
		slot = t->n_slots++;
		t->alarm[slot].generation = 1;
	}
	t->alarm[slot] = (struct alarm){.due = due,
					.order = ++t->order,
					.generation = t->alarm[slot].generation,
					.type = type,
					.kind = kind,
					.ref = ref};
	sift_up(t, t->n++, slot);
	if (ret)
		*ret = (struct davit_alarm){slot, t->alarm[slot].generation};
	earlier = t->heap[0] == slot;
	if (earlier)
		atomic_store(&s->due, due);
	pthread_mutex_unlock(&t->lock);
	if (earlier && !s->config.manual_clock)
		wake_sentinel(s);
	return 0;
}

bool alarm_cancel(struct davit_system *s, struct davit_alarm a)
{
	struct alarms *t = s->alarms;
	bool there;

	pthread_mutex_lock(&t->lock);
	there = a.generation && a.slot < t->n_slots && t->alarm[a.slot].at &&
		t->alarm[a.slot].generation == a.generation;
	if (there) {
		remove_alarm(t, a.slot);
		atomic_store(&s->due, first_due(t));
	}
	pthread_mutex_unlock(&t->lock);
	return there;
}

static void go_off(struct davit_context *c, const struct alarm *a)
{
	struct davit_message *m;

	switch (a->kind) {
	case ALARM_MESSAGE:
		if ((m = davit_message_new(c, a->type, 0)))
			send_ours(c, a->ref, m);
		break;
	case ALARM_PROMISE:
		promise_alarm(c, (struct davit_promise){a->ref.slot, a->ref.generation});
		break;
	case ALARM_LOOP:
		tree_turn(c);
		break;
	}
}

bool alarms_run(struct davit_context *c)
{
	struct alarms *t = c->system->alarms;
	int64_t now = davit_system_now(c->system);
	bool any = false;
	struct alarm a;

	for (;;) {
		pthread_mutex_lock(&t->lock);
		if (first_due(t) > now) {
			pthread_mutex_unlock(&t->lock);
			return any;
		}
		a = t->alarm[t->heap[0]];
		remove_alarm(t, t->heap[0]);
		atomic_store(&c->system->due, first_due(t));
		pthread_mutex_unlock(&t->lock);
		go_off(c, &a);
		any = true;
	}
}

int davit_after(struct davit_context *c, int64_t delay, uint32_t type, struct davit_alarm *ret)
{
	return alarm_set(c->system, davit_system_now(c->system) + (delay > 0 ? delay : 0), ALARM_MESSAGE,
			 davit_self(c), type, ret);
}

bool davit_alarm_cancel(struct davit_context *c, struct davit_alarm a)
{
	return alarm_cancel(c->system, a);
}
