/* SPDX-License-Identifier: MIT
 *
 * Actors: state, a handler, and one mailbox, on a pool of worker threads. This is
 * the lean half: 128 bytes an actor, no name and no parent. What has an alias, a
 * place in the tree, a supervisor and a lifecycle is a container (container.h),
 * which is an actor with more to it.
 *
 *	static int greet(struct davit_context *c, struct davit_message *m)
 *	{
 *		printf("hello %s\n", (char *)m->data);
 *		return 0;
 *	}
 *	...
 *	davit_system_open(NULL, &system, NULL);
 *	c = davit_system_context(system);
 *	davit_spawn(c, greet, NULL, 0, &ref);
 *	davit_tell(c, ref, 1, "world", 6);
 *
 * The context is how everything is reached. A handler is given one and must use no
 * other; davit_system_context gives the one for threads that are not the system's.
 *
 * Ordering: what one sender sends to one receiver arrives in the order it was sent;
 * nothing is promised between different pairs. Each message that davit_send took is
 * handled once, or is a dead letter once: sent = handled + dead + queued.
 *
 * No call here blocks, unless it says so.
 */
#ifndef DAVIT_ACTOR_H
#define DAVIT_ACTOR_H

#include "davit/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct davit_system;
struct davit_worker;
struct davit_actor;
struct davit_blob;

/* Who: copied freely, kept as long as you like. It never comes to mean another: the
 * generation tells a place's present tenant from former ones. Zeroed: nobody. */
struct davit_ref {
	uint32_t slot;
	uint32_t generation;
};

static inline bool davit_ref_equal(struct davit_ref a, struct davit_ref b)
{
	return a.slot == b.slot && a.generation == b.generation;
}

/* A result that is still to come (promise.h). Zeroed: none. */
struct davit_promise {
	uint32_t slot;
	uint32_t generation;
};

/* Passed to each handler; valid until it returns. */
struct davit_context {
	struct davit_system *system;
	struct davit_worker *worker;   /* private; NULL outside */
	struct davit_actor *self;      /* private; NULL outside */
	struct davit_message *current; /* private */
};

/* Types from here on are the system's own; yours are below. */
#define DAVIT_TYPE_SYSTEM UINT32_C(0xffffff00)
#define DAVIT_TYPE_DOWN (DAVIT_TYPE_SYSTEM + 0)	   /* a watched one has ended: data is a struct davit_down */
#define DAVIT_TYPE_COMMAND (DAVIT_TYPE_SYSTEM + 1) /* data: name, NUL, parameters, NUL */
#define DAVIT_TYPE_CALL (DAVIT_TYPE_SYSTEM + 2)	   /* private: a promise's callback */

/* A message. What comes from another process, or from davit itself (`davit request`), has a
 * NUL behind its data, which size does not count. One thread at a time has it: who made it until it is sent,
 * then its receiver, during the handler. The handler may write to it; it is freed when the handler returns,
 * unless davit_take has kept it. */
struct davit_message {
	struct davit_message *next_;  /* private */
	struct davit_ref sender;      /* nobody, if sent from outside */
	struct davit_promise promise; /* of a request: answer it with davit_reply; else zeroed */
	uint32_t type;		      /* yours, or DAVIT_TYPE_... */
	uint32_t size;		      /* of data, bytes */
	uint32_t generation_;	      /* private: of the receiver */
	uint8_t class_, flags_;	      /* private */
	uint16_t spare_;
	__extension__ unsigned char data[] __attribute__((aligned(8)));
};

/* What a monitor is told. */
struct davit_down {
	struct davit_ref ref; /* who ended */
	int code;	      /* 0: as it should; else the error */
	char reason[116];     /* one line */
};

/* Why a message was not handled. */
enum davit_dead {
	DAVIT_DEAD_NOBODY,  /* the receiver had ended, or never was */
	DAVIT_DEAD_FULL,    /* dropped by the mailbox's policy */
	DAVIT_DEAD_STOPPED, /* the receiver is not started, and keeps nothing meanwhile */
	DAVIT_DEAD_ENDED,   /* was waiting when the receiver ended */
	DAVIT_DEAD_EXPIRED, /* a request that nobody waits for any more */
	DAVIT_DEAD_REPEAT,  /* a request's second copy: the first one is being handled or was */
	DAVIT_DEAD_DENIED,  /* by a rule */
	DAVIT_DEAD_FAILED,  /* its handler failed: it is not handled again */
	DAVIT_DEAD_COUNT
};
const char *davit_dead_name(enum davit_dead why);

struct davit_system_config {
	int workers;	   /* threads; 0: one a processor; DAVIT_NO_WORKERS: see davit_system_run */
	bool manual_clock; /* time moves by davit_system_advance alone; there are no processes then */
	bool no_processes; /* containers of type process are refused; else a small process is kept,
			    * forked by davit_system_open, that those are forked from */
	/* Hears of every dead letter, on the thread where it became one: be brief, call
	 * nothing of the system. The message is borrowed. May be NULL. */
	void (*dead)(void *arg, enum davit_dead why, struct davit_ref to, const struct davit_message *m);
	/* Hears of each failure and of what was decided, one line of text; NULL: the log. */
	void (*log)(void *arg, const char *line);
	/* The tree of containers is not as before: one has come or gone, or is in another state,
	 * or was restarted; those within its processes as well. On any thread, also while the
	 * system's locks are held: be brief, call nothing of the system. May be NULL. */
	void (*changed)(void *arg);
	void *arg;
};
#define DAVIT_NO_WORKERS (-1)

struct davit_system_stats {
	uint64_t sent, handled, dead; /* messages; a failed one counts as dead */
	uint64_t dead_by[DAVIT_DEAD_COUNT];
	uint64_t activations, steals, wakes;
	uint64_t actors; /* alive */
	uint64_t workers;
};

/* Opens a system and its threads. config NULL: the defaults. 0, DAVIT_EINVAL,
 * DAVIT_ENOMEM, or DAVIT_EIO for a thread that could not be made. */
int davit_system_open(const struct davit_system_config *config, struct davit_system **ret,
		      struct davit_error *err);
/* Ends all: containers, the deepest first, then actors; what waits becomes dead
 * letters, what is promised is cancelled. Blocks until the handlers under way have
 * returned. From outside only. NULL is fine. Of a child that was forked while it was
 * open the system is not: its threads are the parent's. There this does nothing, and
 * nothing else may be called. */
void davit_system_close(struct davit_system *s);
/* The context for threads that are not the system's; any number may share it. */
struct davit_context *davit_system_context(struct davit_system *s);
/* A system of DAVIT_NO_WORKERS: does on the calling thread all that there is to do.
 * True if there was anything. For tests, and for loops of others. */
bool davit_system_run(struct davit_system *s);
/* Moves a manual clock on; the timers that are due then go off. */
void davit_system_advance(struct davit_system *s, int64_t ns);
/* Monotonic nanoseconds, by the system's clock. */
int64_t davit_system_now(struct davit_system *s);
/* Sums up the counters; exact when nothing runs. */
void davit_system_stats(struct davit_system *s, struct davit_system_stats *ret);

/* --- actors --- */

/* Makes an actor. `size` bytes of `state` are copied (NULL: zeroed); up to 32 cost no
 * memory of their own. The handler returns 0, or an error that ends the actor.
 * 0, or DAVIT_ENOMEM. */
int davit_spawn(struct davit_context *c, int (*handle)(struct davit_context *c, struct davit_message *m),
		const void *state, size_t size, struct davit_ref *ret);
/* As davit_spawn, with a thread of its own: for handlers that block or compute at
 * length. Costs a thread. */
int davit_spawn_dedicated(struct davit_context *c,
			  int (*handle)(struct davit_context *c, struct davit_message *m), const void *state,
			  size_t size, struct davit_ref *ret);
/* The state of the one whose handler runs. */
void *davit_data(struct davit_context *c);
struct davit_ref davit_self(const struct davit_context *c);
/* Ends this actor when its handler returns. A container is ended with
 * davit_container_destroy instead. */
void davit_exit(struct davit_context *c);
/* Ends another actor (no container), after the message it is at. */
void davit_kill(struct davit_context *c, struct davit_ref ref);
/* May be wrong a moment later. */
bool davit_alive(struct davit_context *c, struct davit_ref ref);

/* Around a call that blocks: others run on another thread meanwhile. */
void davit_block_begin(struct davit_context *c);
void davit_block_end(struct davit_context *c);

/* --- messages --- */

/* A message with `size` bytes of data, not zeroed; owned by the caller. NULL when out
 * of memory. */
struct davit_message *davit_message_new(struct davit_context *c, uint32_t type, size_t size);
void davit_message_free(struct davit_context *c, struct davit_message *m); /* NULL is fine */
/* Sends *m to `to` and sets *m to NULL. 0; DAVIT_ECLOSED: there is nobody, it became
 * a dead letter (*m is NULL as well); DAVIT_EUNAVAIL: the mailbox is full and its
 * policy says so; *m stays the caller's. DAVIT_ETIMEDOUT likewise, by policy block. */
int davit_send(struct davit_context *c, struct davit_ref to, struct davit_message **m);
/* Makes a message with a copy of data, and sends it. As davit_send, or DAVIT_ENOMEM;
 * what cannot be sent is freed. */
int davit_tell(struct davit_context *c, struct davit_ref to, uint32_t type, const void *data, size_t size);
/* Keeps the message that is being handled: it is the caller's now, to change, send on
 * or free. NULL when it was taken already. */
struct davit_message *davit_take(struct davit_context *c);

/* Large payloads: made once, never written again, shared by any number of messages. */
struct davit_blob {
	size_t size;
	size_t references_; /* private */
	__extension__ unsigned char data[];
};
/* A blob with one reference, to be filled before it is first sent. NULL: no memory. */
struct davit_blob *davit_blob_new(size_t size);
struct davit_blob *davit_blob_ref(struct davit_blob *b);
void davit_blob_unref(struct davit_blob *b); /* NULL is fine */
/* A message that holds a reference of its own to b. */
struct davit_message *davit_message_new_blob(struct davit_context *c, uint32_t type, struct davit_blob *b);
/* The blob of a message, borrowed; NULL if it has none. */
struct davit_blob *davit_message_blob(const struct davit_message *m);

/* --- time --- */

struct davit_alarm {
	uint32_t slot;
	uint32_t generation;
};
/* Sends a message of that type, without data, to the caller itself in `delay` ns.
 * ret may be NULL. 0, or DAVIT_ENOMEM. From a handler only. */
int davit_after(struct davit_context *c, int64_t delay, uint32_t type, struct davit_alarm *ret);
/* False when it has gone off (its message may still be on its way). */
bool davit_alarm_cancel(struct davit_context *c, struct davit_alarm a);

/* --- watching --- */

/* The caller gets one message DAVIT_TYPE_DOWN when `ref` ends; at once, if it has
 * ended already. An alias is free by then. 0, or DAVIT_ENOMEM. From a handler only. */
int davit_monitor(struct davit_context *c, struct davit_ref ref);
/* The message may still be on its way. */
void davit_demonitor(struct davit_context *c, struct davit_ref ref);
/* Both watch each other, and when one ends with an error, the other fails of it (an
 * actor ends, a container fails). 0, or DAVIT_ENOMEM. From a handler only. */
int davit_link(struct davit_context *c, struct davit_ref ref);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
