/* SPDX-License-Identifier: MIT
 *
 * What the files of the actor engine share. Not for use outside src/actor.
 *
 *   message.c  messages, magazines, blobs      slot.c    places of actors, spawn, end
 *   queue.c    who runs next: rings, stealing  worker.c  threads: work, idle, sleep
 *   run.c      one activation                  send.c    into a mailbox
 *   alarm.c    time                            watch.c   monitors and links
 *   promise.c, combine.c, await.c  promises    system.c  open, close, counters
 *
 * The mailbox word of an actor is the newest message of a stack, or one of
 *   BUSY    empty, and it is in a run queue or runs
 *   IDLE    empty, and it is nowhere: who puts something in, puts it in a run queue
 *   CLOSED  it has ended
 * so that "is it scheduled?" needs no second word. Signals (orders, deaths) have a
 * stack of their own, looked at before every message.
 */
#ifndef DAVIT_ACTOR_IMPL_H
#define DAVIT_ACTOR_IMPL_H

#include "base/util.h"
#include "davit/actor.h"
#include "davit/promise.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { BUSY = 0, IDLE = 1, CLOSED = 2 };

enum {
	CHUNK_BITS = 12, /* actors of a chunk */
	CHUNKS = 1 << 14,
	RING = 1024, /* of a worker's run queue */
	CLASSES = 5, /* of messages: 64 << class bytes; beyond: the heap */
	CLASS_HEAP = CLASSES,
	BATCH = 64, /* messages, or places, between a worker and the common store */
	INLINE_STATE = 32,
	MAX_WORKERS = 256, /* with spare and dedicated ones */
};

#define US INT64_C(1000)
#define CUT (100 * US)	 /* an activation's time */
#define WORTH (50 * US)	 /* queued work that is worth another worker */
#define SPIN (20 * US)	 /* of an idle worker, before it sleeps */
#define WATCH (250 * US) /* the sentinel's round while somebody is busy */

/* davit_message.flags_ */
enum {
	MSG_BLOB = 1,
	MSG_COUNTED = 2,  /* in the gate's `queued` */
	MSG_RETRIED = 4,  /* a request that may come twice */
	MSG_GATED = 16,	  /* for a failed container, if its failure is the one meant */
	MSG_OURS = 8,	  /* the system's own: never bounded, in no counter */
	MSG_KEPT = 32,	  /* to be kept while nobody has the alias */
	MSG_CHANNEL = 64, /* the parent of this process waits for the end of it */
};

/* Signals: messages of these types, on the second stack. */
enum {
	SIG_KILL = 1,
	SIG_MONITOR,   /* sender wants to hear of the end */
	SIG_DEMONITOR, /* or no more */
	SIG_LINK,      /* as monitor, but the end is the sender's as well */
	SIG_LINKED,    /* a linked one has ended with an error: data is a struct davit_down */
	SIG_CONTAINER, /* an order of the tree (container_impl.h) */
	SIG_PROCESS,   /* news of a process (process.h) */
};

/* davit_actor.flags */
enum {
	ACTOR_HEAP = 1,	   /* its state is on the heap */
	ACTOR_EXIT = 2,	   /* ends after this message */
	ACTOR_HELD = 4,	   /* a container that handles nothing now */
	ACTOR_PROXY = 8,   /* it stands for a process */
	ACTOR_SYSTEM = 16, /* the system's own: the thread of poll.c may run it */
};

struct container;
struct gate;
struct link;
struct promise;
struct remote;
struct poll;
struct child;

/* Who watches, whom it watches: made with the first of either. */
struct watch {
	struct watcher {
		struct davit_ref ref;
		bool link;
	} * by;
	size_t n_by, cap_by;
};

struct davit_actor {
	_Atomic(uintptr_t) mailbox;
	_Atomic(uintptr_t) signals;
	struct davit_message *todo, *todo_last; /* taken, oldest first */
	int (*handle)(struct davit_context *c, struct davit_message *m);
	struct davit_actor *next;    /* in a queue, or free */
	_Atomic(struct gate *) gate; /* of the place, for ever; NULL while no container had it */
	struct container *container;
	struct watch *watch;
	struct davit_worker *own; /* its thread, if it is dedicated */
	uint32_t slot;
	_Atomic(uint32_t) generation; /* of the present tenant; of the next one while free */
	union {
		void *heap;
		uint64_t bytes[INLINE_STATE / 8];
	} state;
	uint32_t flags;
	int32_t code; /* why it ends */
};
_Static_assert(sizeof(struct davit_actor) <= 128, "an actor is at most 128 bytes");

/* Bounds of a mailbox. It belongs to the place, not to the tenant, so that a sender
 * who comes late does no harm. */
struct gate {
	_Atomic(uint32_t) queued;
	_Atomic(uint32_t) room; /* counts up when there is; a futex */
	_Atomic(uint32_t) waiters;
	_Atomic(uint32_t) limit; /* 0: none */
	_Atomic(uint32_t) overflow;
	_Atomic(int64_t) block_time;
	_Atomic(uint64_t) dropped, refused, blocked;
	pthread_mutex_t lock; /* drop-oldest: the messages stand here, so that the oldest can be found */
	struct davit_message *first, *last;
	_Atomic(bool) proxy;		 /* the place has had one that stands for a process */
	struct container *container;	 /* that stands in the tree; the tree's actor alone */
	char alias[64];			 /* of that one; under the tree's lock */
	_Atomic(struct remote *) remote; /* who is meant is behind a link */
};

struct magazine {
	struct davit_message *list; /* n, at most a batch */
	struct davit_message *batches;
	uint32_t n, n_batches;
};

struct counters {
	_Atomic(uint64_t) sent, handled, dead[DAVIT_DEAD_COUNT];
	_Atomic(uint64_t) activations, steals, wakes, born, died;
};

struct davit_worker {
	struct davit_context context; /* first: its address is the worker's */
	struct davit_system *system;
	bool shared; /* no worker, but all threads outside, one at a time by `lock` */
	pthread_mutex_t lock;
	struct magazine magazine[CLASSES];
	struct davit_actor *free; /* places */
	uint32_t n_free;
	struct counters count;

	/* time, by a look at the clock once in `every` messages */
	int64_t now, activated;
	int32_t until, every;
	uint32_t looked; /* activations at that look */
	uint32_t turn;
	uint32_t left; /* messages that have left the gate of the one that runs, if it stands for a process */

	pthread_t thread;
	bool started;
	struct davit_worker *next_idle;
	bool idle;			   /* in the list of the idle; under the system's lock */
	_Atomic(struct davit_actor *) own; /* dedicated to this one */
	/* A stand-in that the actor which runs has sent to, and that is run with it: until that
	 * one's activation is over, or somebody robs it. */
	_Atomic(struct davit_actor *) open;
	_Atomic(bool) inside; /* it is with that one, for some instructions: who robs it waits */
	bool dedicated;	      /* no part of the pool */
	bool polls;	      /* it is the one of poll.c */

	/* seen by others */
	_Alignas(64) _Atomic(uint32_t) head;
	_Atomic(uint32_t) wake;	   /* a futex: 1 there is something */
	_Atomic(uint32_t) blocked; /* in a call that blocks: free to be robbed */
	_Alignas(64) _Atomic(uint32_t) tail;
	_Atomic(uint32_t) epoch; /* activations, to see who is stuck */
	_Atomic(int64_t) cost;	 /* ns of an activation, average */
	_Atomic(struct davit_actor *) ring[RING];
};

struct chunk {
	struct davit_actor actor[1 << CHUNK_BITS];
};

struct alarms;
struct promises;
struct tree;
struct slab;
struct rules;

/* A process that waits to be wanted (process_spare.c). */
struct spare {
	_Atomic(struct link *) link; /* owned; NULL: there is none */
	bool coming;
	struct spare_output {
		dev_t device;
		ino_t inode;
	} output[2];
};

struct davit_system {
	_Atomic(struct chunk *) *chunks;
	_Atomic(uint32_t) n_chunks;
	struct davit_system_config config;
	_Atomic(int64_t) manual_now;
	_Atomic(struct rules *) rules;
	_Atomic(bool) closing;

	struct davit_worker *worker[MAX_WORKERS];
	_Atomic(uint32_t) n_workers; /* all that were made */
	_Atomic(uint32_t) n_pool;    /* that share the work */
	uint32_t n_base;	     /* as configured */
	pid_t pid;		     /* that has opened it */
	struct davit_worker *outside;

	pthread_mutex_t lock; /* of what follows */
	struct davit_actor *queue, *queue_last;
	struct davit_worker *idle;
	struct davit_worker *sentinel; /* the one idle worker that looks at clock and others */
	_Atomic(uint32_t) n_queue, n_idle;
	_Atomic(bool) drowsy; /* the sentinel sleeps without end */
	_Atomic(uint32_t) n_blocked;
	struct spare spare;

	pthread_mutex_t store_lock;	      /* of what follows: the common store */
	struct davit_message *depot[CLASSES]; /* batches */
	struct davit_actor *free;
	struct slab *slabs;
	uint32_t next_slot;

	_Atomic(int64_t) due; /* of the first alarm; INT64_MAX */
	struct alarms *alarms;
	struct promises *promises;
	struct tree *tree;
	_Atomic(struct poll *) poll; /* of links; NULL: there were none yet */
	struct link *uplink;	     /* to the parent of this process; NULL: it is no container */
	struct child *child;	     /* with it; borrowed */
	bool zygote;		     /* processes can be made */
	bool barrier;		     /* who robs can make others' memory accesses ordered: membarrier */
};

#define COUNT(w, field) count_up(w, &(w)->count.field)
static inline void count_up(struct davit_worker *w, _Atomic(uint64_t) *n)
{
	if (UNLIKELY(w->shared))
		atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
	else /* one writer: no locked instruction */
		atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
				      memory_order_relaxed);
}

/* What a message carries, to be read as what it is. */
static inline void *body(const struct davit_message *m)
{
	return (void *)(uintptr_t)m->data;
}

/* The place of that number, or NULL. */
static inline struct davit_actor *actor_at(const struct davit_system *s, uint32_t slot)
{
	uint32_t i = slot >> CHUNK_BITS;
	struct chunk *k = NULL;

	if (LIKELY(i < CHUNKS))
		k = atomic_load_explicit(&s->chunks[i], memory_order_acquire);
	return LIKELY(k != NULL) ? &k->actor[slot & ((1u << CHUNK_BITS) - 1)] : NULL;
}

/* The actor meant, or NULL if it has ended. */
static inline struct davit_actor *actor_of(const struct davit_system *s, struct davit_ref ref)
{
	struct davit_actor *a = actor_at(s, ref.slot);

	return LIKELY(a && atomic_load_explicit(&a->generation, memory_order_relaxed) == ref.generation)
		       ? a
		       : NULL;
}

static inline struct davit_ref ref_of(const struct davit_actor *a)
{
	return (struct davit_ref){a->slot, atomic_load_explicit(&a->generation, memory_order_relaxed)};
}

/* message.c */
/* The common store's share of closing. */
void messages_fini(struct davit_system *s);
/* A copy, of a request's too; shares a blob. NULL: no memory. */
struct davit_message *message_copy(struct davit_context *c, const struct davit_message *m);
/* It is over with m: counted, told, and freed. */
void message_dead(struct davit_context *c, enum davit_dead why, struct davit_ref to, struct davit_message *m);

/* slot.c */
/* A place with a tenant, idle, that nobody knows yet. NULL: no memory. */
struct davit_actor *actor_new(struct davit_context *c,
			      int (*handle)(struct davit_context *c, struct davit_message *m));
/* Its end: on its own worker, or before anybody knows it. */
void actor_end(struct davit_context *c, struct davit_actor *a, int code, const char *reason);
int slots_init(struct davit_system *s);
void slots_fini(struct davit_system *s);
/* Gives it a thread of its own; takes that away again when it has ended. */
int actor_dedicate(struct davit_context *c, struct davit_actor *a);
void actor_retire(struct davit_actor *a);
/* The place's gate, made if need be. NULL: no memory. */
struct gate *actor_gate(struct davit_actor *a);

/* queue.c */
/* Puts an actor that is BUSY and nowhere into a run queue. */
void schedule(struct davit_context *c, struct davit_actor *a);
/* The next one from w's ring, or NULL. */
struct davit_actor *ring_pop(struct davit_worker *w);
bool ring_push(struct davit_worker *w, struct davit_actor *a);
uint32_t ring_length(const struct davit_worker *w);
/* Takes some from the common queue: one is returned, others are put into w's ring. */
struct davit_actor *queue_take(struct davit_worker *w);
void queue_put(struct davit_system *s, struct davit_actor *a);
/* Robs another: of half its ring. `stuck`: whose epochs, seen a round ago, have not
 * moved, whatever its work is worth. */
struct davit_actor *queue_steal(struct davit_worker *w, const uint32_t *stuck);
/* Wakes one that sleeps, if any. */
void wake_one(struct davit_system *s);
void wake_sentinel(struct davit_system *s);
/* While on, this thread puts that off: to wake somebody takes longer than what it is at. */
void wake_late(struct davit_system *s, bool on);

/* worker.c */
struct davit_worker *worker_new(struct davit_system *s);
int worker_start(struct davit_worker *w);
void worker_free(struct davit_worker *w);
void worker_poke(struct davit_worker *w);
void futex_wait(_Atomic(uint32_t) *word, uint32_t value, int64_t timeout);
void futex_wake(_Atomic(uint32_t) *word, int n);
int64_t clock_now(void);

/* run.c */
void activate(struct davit_worker *w, struct davit_actor *a);
/* A message for one that stands for a process, handled at once, by its sender's worker: such
 * a one does not wait, and what it writes is to be written together. Its generation_ and
 * sender are set; consumed, unless this returns false: it is busy, or holds messages back, and
 * m has to go into its mailbox. */
bool run_here(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
/* The same for a plain message, of which none but the one that is open is asked: m's sender is
 * set by this. False: not so, m is still the caller's and to be sent as others are. */
bool run_here_plain(struct davit_context *c, struct davit_ref to, struct davit_message *m);
/* Ends that, before the worker waits, or does something else. */
void run_here_end(struct davit_worker *w);
/* Takes a from the worker that has it open; the caller, another thread, has to run it. Waits
 * for the message that the worker is at keeping, if it is. */
bool run_here_rob(struct davit_worker *w, struct davit_actor *a);
/* Hands m to the handler of c->self, and frees it. Returns the handler's result. */
int deliver(struct davit_context *c, struct davit_actor *a, struct davit_message *m,
	    int (*handle)(struct davit_context *c, struct davit_message *m));

/* send.c */
/* As davit_send, for somebody else and without waiting for room; origin is its alias. */
int send_from(struct davit_context *c, struct davit_ref sender, const char *origin, struct davit_ref to,
	      struct davit_message **m);
/* Puts m (owned, generation_ set) into the mailbox, past any bound. */
int mailbox_put(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
/* The same for m and those behind it, newest first, down to the oldest. */
int mailbox_put_all(struct davit_context *c, struct davit_actor *a, struct davit_message *m,
		    struct davit_message *oldest);
/* As davit_send for what is the system's own: not bounded, not counted; m is consumed. */
int send_ours(struct davit_context *c, struct davit_ref to, struct davit_message *m);
/* Puts a signal on the second stack; m is consumed. DAVIT_ECLOSED if `to` has ended. */
int send_signal(struct davit_context *c, struct davit_ref to, struct davit_message *m);
/* Takes what a sender put there; appended to a->todo. */
void mailbox_take(struct davit_actor *a);
/* The same for the last time: later ones find it closed. */
void mailbox_close(struct davit_actor *a);
/* Is there something in the gate's own list? */
bool gate_holds(struct gate *g);
/* n messages less in the gate. */
void gate_leave(struct davit_actor *a, uint32_t n);

/* alarm.c */
enum alarm_kind { ALARM_MESSAGE, ALARM_PROMISE, ALARM_LOOP };
int alarms_init(struct davit_system *s);
void alarms_fini(struct davit_system *s);
int alarm_set(struct davit_system *s, int64_t due, enum alarm_kind kind, struct davit_ref ref, uint32_t type,
	      struct davit_alarm *ret);
bool alarm_cancel(struct davit_system *s, struct davit_alarm a);
/* Lets go off what is due. True if anything did. */
bool alarms_run(struct davit_context *c);

/* watch.c */
void watch_signal(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
/* a has ended: its watchers hear of it. */
void watch_end(struct davit_context *c, struct davit_actor *a, struct davit_ref ref, int code,
	       const char *reason);
/* A watcher asked for one that is no more. */
void watch_late(struct davit_context *c, struct davit_ref gone, struct davit_message *m);

/* promise.c */
int promises_init(struct davit_system *s);
void promises_fini(struct davit_system *s);
/* All that are pending are cancelled: nobody is left to settle them. */
void promises_cancel_all(struct davit_context *c);
/* A callback arrived at its consumer. */
void promise_call(struct davit_context *c, struct davit_message *m);
/* It will never: its consumer has ended. */
void promise_call_lost(struct davit_context *c, struct davit_message *m);
void promise_alarm(struct davit_context *c, struct davit_promise p);
/* Settles p with an error that is no format. */
bool promise_end(struct davit_context *c, struct davit_promise p, enum davit_promise_state state, int code,
		 const char *message);
/* Makes p a request's: m (a copy, owned; NULL: never sent again) goes to `to`. */
void promise_request(struct davit_context *c, struct davit_promise p, struct davit_ref to, int64_t timeout,
		     int retries, struct davit_message *m);
/* The failure that a request is for; 0: none. */
uint64_t promise_failure(struct davit_context *c, struct davit_promise p);
void promise_set_failure(struct davit_context *c, struct davit_promise p, uint64_t failure);
/* A request with this promise is about to be handled. False with why not. */
bool promise_begin(struct davit_context *c, struct davit_promise p, enum davit_dead *ret_why);

/* promise_link.c: promises whose other side is behind a link */

/* The request goes out by the link of that number, and only from there it can be
 * answered. Returns its deadline. */
int64_t promise_goes_by(struct davit_context *c, struct davit_promise p, struct link *l);
/* It was not begun there: it will go again. */
void promise_comes_back(struct davit_context *c, struct davit_promise p);
/* All that went by that link, and were not answered. */
void promises_lost(struct davit_context *c, struct link *l, int code, const char *text);
/* The other end of l does not await its request of that id any more. */
void promise_cancelled_by(struct davit_context *c, struct link *l, uint64_t id);
/* Who asked has ended: what nobody else hears of is cancelled. *asks is empty then. */
void promises_abandon(struct davit_context *c, struct davit_ref ref, struct promise **asks);
/* One whose outcome goes out by l as the answer to `id`. timeout -1: without end. */
int promise_from_link(struct davit_context *c, struct link *l, uint64_t id, int64_t timeout,
		      struct davit_promise *ret);
/* What the peer behind a link says of one that went there; else it is dropped. */
void promise_from_peer(struct davit_context *c, struct davit_promise p, uint32_t via,
		       enum davit_promise_state state, int code, const char *text, const void *data,
		       size_t size);
void promise_progress(struct davit_context *c, struct davit_promise p, uint32_t via);

#endif
