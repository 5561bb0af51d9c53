/* SPDX-License-Identifier: MIT
 *
 * Containers of type process, in the system of their parent. Each is a container like
 * others, whose actor is a stand-in: what the tree orders goes to the process as
 * OPERATE, what the process says that it is becomes a report to the tree, and messages
 * are sent on to it, and kept until it is done with them.
 *
 *   process.c       orders and news: the states of the stand-in
 *   process_send.c  messages to the process, and what becomes of them when it dies
 *   process_spawn.c processes made: zygote, greeting
 *   process_spare.c one that is there before it is wanted
 *   poll.c          what all processes of a system have to say (a thread of its own)
 *   poll_end.c      their ends
 *   process_said.c  frames from a child that are not of messages
 *   child.c, child_life.c  the other side: the system within the process
 *   process_json.c  the JSON of frames
 */
#ifndef DAVIT_ACTOR_PROCESS_H
#define DAVIT_ACTOR_PROCESS_H

#include "actor/container_impl.h"
#include "actor/link_impl.h"

enum { HEARTBEAT = 250, KEEPALIVE = 5000, WINDOW = 1024 }; /* ms, ms, messages */

/* Data of SIG_PROCESS. */
enum news_kind {
	NEWS_STATE, /* STATE came */
	NEWS_DEAD,  /* it has ended, and all that it wrote was read */
	NEWS_ROOM,  /* there is room, or it is done with some */
};

struct news {
	enum news_kind kind;
	uint32_t link; /* its number */
	uint64_t id;
	enum davit_state state;
	uint64_t failure;
	int code;
	char text[128];
	bool set_options;
	struct davit_options options;
};

struct process {
	struct link *link;  /* NULL: there is no process */
	uint64_t last_id;   /* of OPERATE */
	uint64_t create_id; /* of the creation of this process */
	uint64_t id;	    /* of what is under way; 0: nothing */
	struct order doing; /* that */
	bool busy;
	struct davit_message *orders, *orders_last; /* SIG_CONTAINER that wait */
	int why;				    /* what a creation said that did not succeed */
	char why_text[128];

	/* Sent, and not yet done with; the last ones are written when there are enough of them. */
	struct davit_message *kept, *kept_last, *unwritten;
	uint32_t n_unwritten;
	uint64_t sent, done; /* messages, by this process */
	uint32_t window;
	int credit;   /* so many small ones may be sent without a look */
	bool stalled; /* held, for want of room */
	struct link_cache sender;
};

/* process.c */
/* An order of the tree, or news. m is borrowed. */
void process_signal(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
int process_new(struct container *k);
void process_free(struct davit_context *c, struct container *k);
/* Can there be processes of this definition? 0, or an error with a text. */
int process_possible(struct davit_system *s, const struct davit_definition *d, const char **ret_why);

/* process_send.c */
enum {
	PROCESS_TOGETHER = 64, /* messages that are written at once */
};

/* Is m one of those that only have to be kept for now? The process is there, has room for it,
 * and there are not yet enough to be written. */
static inline bool process_takes(const struct process *p, const struct davit_message *m)
{
	return p->link && !m->flags_ && !m->promise.generation && m->size <= LINK_SMALL_SIZE &&
	       p->credit > 1 && p->n_unwritten < PROCESS_TOGETHER - 1 && p->sent - p->done + 1 < p->window;
}

/* Keeps such a one until it is done with; owned. */
static inline void process_keep(struct process *p, struct davit_message *m)
{
	m->next_ = NULL;
	if (p->kept)
		p->kept_last->next_ = m;
	else
		p->kept = m;
	p->kept_last = m;
	if (!p->unwritten)
		p->unwritten = m;
	p->n_unwritten++;
	p->sent++;
	p->credit--;
}

/* A message for it; consumed. */
void process_message(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
/* The end of an activation, or of a batch: all that is kept is written. */
void process_flush(struct davit_context *c, struct davit_actor *a);
/* Writes what was kept for that. */
void process_write(struct davit_context *c, struct container *k);
/* Frees what it is done with. */
void process_settle(struct davit_context *c, struct container *k);
/* It has failed, or died: what it had begun is a dead letter. */
void process_failed_at(struct davit_context *c, struct container *k);
/* It has died: what it had not begun goes first when it is back. */
void process_take_back(struct davit_context *c, struct davit_actor *a);
/* Goes on if there is room. */
void process_resume(struct davit_context *c, struct davit_actor *a);

/* process_spawn.c */
/* A process for k, greeted; it hears of that with its first order, so that it is woken once.
 * 0, or an error with k->text. */
int process_spawn(struct davit_context *c, struct container *k);
/* A process asked of the zygote, and the link to it, which nobody watches yet: of a program
 * and its arguments, or (words NULL) one that waits for BECOME. 0, or an error. */
int process_ask(struct davit_context *c, const char *alias, const char *const *words, struct link **ret);
/* l is k's from now on. */
void process_own(struct link *l, const struct container *k);
/* The main function of processes of the zygote. */
int process_main(int channel, const void *request, size_t n);
/* In such a process: the definition that BECOME means. NULL: it is not to be found. */
const struct davit_definition *process_definition(const void *data, size_t n);
/* What the zygote does once, so that what comes from it need not. */
void process_warm(void);
/* Gives back the memory that nobody needs any more: the end of a process goes by its pages. */
void process_slim(void);

/* process_spare.c */
/* A process that waits for BECOME, attached to its rings; owned, and watched by nobody. */
int spare_new(struct davit_context *c, const char *alias, struct link **ret);
/* The one to spare, for k; owned. NULL: there is none. */
struct link *spare_take(struct davit_system *s, const struct container *k);
/* Sees to it that there is one, when there is time for it. */
void spare_refill(struct davit_context *c);
/* It is spare no more: it has ended, or the system has. False: it was not. */
bool spare_gone(struct davit_system *s, struct link *l);

/* poll.c */
int poll_open(struct davit_system *s);
void poll_close(struct davit_system *s);
void poll_main(struct davit_worker *w);
void poll_wake(struct davit_system *s);
/* Watches a link; it takes its own reference. 0, or DAVIT_ENOMEM. */
int poll_add(struct davit_context *c, struct link *l);
/* Reads the rings. True if there was anything. Of several threads one does it. */
bool poll_rings(struct davit_context *c);
/* All are about to sleep: peers will ring from now on. False: there is something to read. */
bool poll_arm(struct davit_context *c);
/* One round of sockets, for systems without threads: waits for at most `ms`. */
bool poll_turn(struct davit_context *c, int ms);
int poll_fd(struct davit_system *s); /* readable when there is something; -1: none */
/* Ends the process behind l; its death is told as usual, with this reason (static). */
void link_kill(struct link *l, int code, const char *reason);

/* process_said.c */
/* One that the process watches has ended. */
void process_gone(struct davit_context *c, struct link *l, const struct davit_down *down);
/* A frame of l that is not of messages. 0, or DAVIT_EPROTO. */
int process_said(struct davit_context *c, struct link *l, const struct davit_frame *f,
		 const unsigned char *body);
void process_news(struct davit_context *c, struct link *l, const struct news *n);

/* child.c: the system of a process that is a container */
int child_main(int channel);
/* Reads what the parent has sent, without waiting. True if there was anything. */
bool uplink_turn(struct davit_context *c);
/* Its root has reported a state that nobody had asked for. */
void uplink_report(struct tree *t, const struct container *k, const struct report *r);
/* Asks the parent: JSON of MANAGE. Waits for the answer, 2 s at most. */
int uplink_ask(struct davit_context *c, const struct davit_buf *question, struct davit_buf *ret);

#endif
