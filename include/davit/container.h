/* SPDX-License-Identifier: MIT
 *
 * Containers: actors with an alias, a place in the tree, a lifecycle and a supervisor.
 * This header is the manual for who writes one. A whole container:
 *
 *	static int behave(struct davit_context *c, struct davit_message *m)
 *	{
 *		printf("%s: %s\n", davit_alias(c), (char *)m->data);
 *		return davit_reply(c, m, "hello", 6);
 *	}
 *	static const struct davit_definition hello = {.name = "Hello", .behaviour = behave};
 *	...
 *	struct davit_create what = {.alias = "H1", .definition = &hello, .flags = DAVIT_CREATE_START};
 *	davit_container_create(c, &what, &promise);
 *
 * The life of a container is the table of state.h. Creating it calls config, boot and
 * construct; each change of state calls the hook before, on and after it. A callback
 * that returns an error (or calls davit_fail) fails the container: nothing of its
 * memory is trusted any more. Its arena is freed, its behaviour is the initial one
 * again after a restart; what waits in its mailbox is kept; the message that it failed
 * at is not handled again. A signal (SIGSEGV ...) is never caught: it ends the
 * process. What may crash belongs into a container of type process.
 *
 * Who decides about a failure: first the container's own remedies, by the error; then,
 * if those say so or do not help, its parent, by its supervision (supervision.h,
 * docs/containers.md); above Main, the final policy restarts.
 */
#ifndef DAVIT_CONTAINER_H
#define DAVIT_CONTAINER_H

#include "davit/actor.h"
#include "davit/promise.h"
#include "davit/state.h"
#include "davit/supervision.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum davit_container_type {
	DAVIT_THREAD,  /* on the system's workers: the default */
	DAVIT_PROCESS, /* a process of its own: docs/containers.md, "Processes" */
};

/* What a sender meets when `limit` messages wait. Requests count as well; replies,
 * deaths and orders of the supervisor are never bounded and never dropped. */
enum davit_overflow {
	DAVIT_OVERFLOW_FAIL,  /* DAVIT_EUNAVAIL at once: the default */
	DAVIT_OVERFLOW_BLOCK, /* waits up to block_time, its worker lent out meanwhile */
	DAVIT_OVERFLOW_DROP_NEWEST,
	DAVIT_OVERFLOW_DROP_OLDEST,
};

/* What becomes of messages that cannot be handled now. While failed all is kept. */
enum davit_buffer {
	DAVIT_BUFFER_NONE = 0,
	DAVIT_BUFFER_STOPPED = 1, /* the receiver is not started: its mailbox keeps them. The default */
	DAVIT_BUFFER_AWAY = 2,	  /* nobody has the alias: kept for who will have it, by davit_send_to */
	DAVIT_BUFFER_BOTH = 3,
};

enum davit_phase { DAVIT_BEFORE, DAVIT_ON, DAVIT_AFTER };

/* A step of a remedy. */
enum davit_solution {
	DAVIT_SOLVE_NOTHING,
	DAVIT_SOLVE_LOG,
	DAVIT_SOLVE_ESCALATE, /* the parent decides */
	DAVIT_SOLVE_CONTINUE, /* goes on as it was, the memory kept */
	DAVIT_SOLVE_RESUME,   /* as continue */
	DAVIT_SOLVE_START,    /* as restart */
	DAVIT_SOLVE_RESTART,  /* goes on afresh: new memory, initial behaviour, construct again */
	DAVIT_SOLVE_STOP,
	DAVIT_SOLVE_DESTROY_SOFT, /* asks: stopped first, its hooks run */
	DAVIT_SOLVE_DESTROY_HARD, /* without its hooks */
	DAVIT_SOLVE_DESTROY,	  /* soft, then hard */
	DAVIT_SOLVE_RECREATE,	  /* destroyed with its children and made anew, under the same alias */
	DAVIT_SOLUTION_COUNT
};
const char *davit_solution_name(enum davit_solution s);
/* "one-for-one", ...; "unknown" out of range. */
const char *davit_strategy_name(enum davit_strategy s);

struct davit_solver {
	enum davit_solution solution;
	int limit;	  /* applied so often since the user's last start, then it rejects; 0: no limit */
	int64_t interval; /* ns before each application but the first */
	int64_t timeout;  /* ns for it to succeed, else it rejects; 0: no limit */
};
/* For failures with this code (0: any). The solvers are applied in turn; at the first
 * that rejects the rest is skipped and the parent decides. */
struct davit_remedy {
	int code;
	const struct davit_solver *solvers;
	size_t n_solvers;
};

/* A container's settings. A zeroed one is the default. */
struct davit_options {
	uint32_t limit; /* messages that may wait; 0: 65536; UINT32_MAX: no limit */
	enum davit_overflow overflow;
	int64_t block_time; /* ns; 0: 1 s */
	bool keep_nothing;  /* buffer none: what arrives while it is not started is a dead letter */
	bool dedicated;	    /* a thread of its own */
	int64_t keepalive;  /* ns a process may be silent before it counts as failed; 0: 5 s; -1: for ever */
	/* Its end ends its parent's other children, if that has auto_shutdown. One that is always
	 * restarted has no end: DAVIT_EINVAL of its creation. */
	bool significant;

	/* As a child: is it restarted? The default is always; never is OTP's temporary,
	 * on-failure its transient. */
	bool set_restart; /* `restart` counts; else always, without end and at once */
	enum davit_restart_policy restart;
	int64_t retries; /* -1: without end */
	/* initial 0: at once. Else 0 in max, factor or reset is the default (spec.h). */
	struct davit_backoff backoff;

	/* As a parent. */
	enum davit_strategy strategy;
	int64_t max_restarts;  /* within period; 0: 10; -1: no limit. More of them fail this container */
	int64_t period;	       /* ns; 0: 60 s */
	bool auto_shutdown;    /* when a significant child is done, the others are stopped */
	bool isolate;	       /* a child out of retries stays failed; else this container fails as well */
	int64_t shutdown_time; /* ns a child has to stop when asked, before it is destroyed hard; 0: 5 s */
};

/* A named command: answers through davit_reply, or by its error. */
struct davit_command_entry {
	const char *name;
	int (*run)(struct davit_context *c, struct davit_message *m, const char *parameters);
};

/* How a container is made. Static data, borrowed for ever. Only name and behaviour (or
 * command) are mandatory. All callbacks return 0 or a DAVIT_E... that fails what is being done. */
struct davit_definition {
	const char *name;
	enum davit_container_type type;
	struct davit_options options;
	/* First of all: may change the options of this one container. */
	int (*config)(struct davit_context *c, struct davit_options *options);
	/* What is done once in its life. */
	int (*boot)(struct davit_context *c);
	/* What a restart does again: make the state, with davit_alloc. */
	int (*construct)(struct davit_context *c);
	/* The initial behaviour: one message at a time. */
	int (*behaviour)(struct davit_context *c, struct davit_message *m);
	/* Before, on and after each transition; an error of BEFORE or ON fails it, one of
	 * a stop, a failure or a destruction is logged and holds nothing up. */
	int (*hook)(struct davit_context *c, enum davit_operation op, enum davit_phase phase);
	/* Ended by one without a name; a command that is not in it is refused (DAVIT_ENOENT).
	 * NULL: commands go to the behaviour, as messages of type DAVIT_TYPE_COMMAND. */
	const struct davit_command_entry *commands;
	const struct davit_remedy *remedies; /* the first that fits is taken; ended by one without solvers */
	/* DAVIT_PROCESS: the program and its arguments, ended by NULL, that speaks the protocol
	 * of docs/channel.md; instead of all the callbacks. */
	const char *const *command;
	/* A copy of a static one, with another name or type: that one, which is what a process
	 * finds in the file that it is from. Else NULL. */
	const struct davit_definition *original;
};

/* What a shared object that davit is to load exports, without `static`: found by type and
 * name (docs/containers.md), run as the type that is asked for.
 *
 *	const struct davit_definition davit_container = {.name = "Hello", .behaviour = behave};
 *
 * Its name there tells which version of these structures it was compiled with; another
 * one is refused. */
#define DAVIT_CONTAINER_ABI 1
#define davit_container davit_container_abi1
extern const struct davit_definition davit_container;

/* --- inside a container: its context --- */

enum davit_container_type davit_container_type(const struct davit_context *c);
const char *davit_alias(const struct davit_context *c);
const char *davit_name(const struct davit_context *c);
const char *davit_path(const struct davit_context *c);	 /* "Main/A/B" */
const char *davit_parent(const struct davit_context *c); /* its alias; "" for Main */
const char *davit_args(const struct davit_context *c);	 /* as given, never NULL */
enum davit_state davit_container_state(const struct davit_context *c);
/* Memory of the container, zeroed; freed all at once when it fails, is restarted or
 * destroyed. NULL when there is none. */
void *davit_alloc(struct davit_context *c, size_t size);
/* Sets what davit_data returns; NULL again after a failure. */
void davit_set_data(struct davit_context *c, void *data);
/* Fails the container when the callback returns. Returns code, for `return davit_fail(...)`. */
int davit_fail(struct davit_context *c, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts another behaviour on top, or takes the topmost away (never the initial one).
 * 0, or DAVIT_ENOMEM; DAVIT_ESTATE. */
int davit_become(struct davit_context *c, int (*behaviour)(struct davit_context *c, struct davit_message *m));
int davit_unbecome(struct davit_context *c);

/* --- addresses, messages --- */

/* The container of an alias ("B"), a path ("Main/A/B", the end of it: "A/B", or from the
 * caller: "./B"), or the first that was made of that name ("name:Hello"); also of one
 * within another process. 0, or DAVIT_ENOENT. Unknown
 * aliases are asked for at the system's parent, when it has one: by davit_system_resolver,
 * and in a process that is a container at its parent, whose answer is waited for (2 s at
 * most; DAVIT_ENOENT then). */
int davit_find(struct davit_context *c, const char *address, struct davit_ref *ret);
/* As davit_send, by address. DAVIT_ENOENT: it became a dead letter. With
 * DAVIT_BUFFER_AWAY it is kept, up to 1024 an alias, until somebody has the alias. */
int davit_send_to(struct davit_context *c, const char *address, struct davit_message **m,
		  enum davit_buffer mode);
/* A copy to all children of the caller, or of Main from outside. The number sent. */
int davit_broadcast(struct davit_context *c, uint32_t type, const void *data, size_t size);

struct davit_request_options {
	int64_t timeout;  /* ns for each try; 0: 10 s; -1: no limit */
	int retries;	  /* sent again so often; the handler runs once all the same */
	uint64_t failure; /* the hash of a failure: handled while the receiver is failed by that */
};
/* Sends *m as a request. Its promise is fulfilled by davit_reply, rejected by
 * davit_refuse, by the receiver's failure or end (DAVIT_ECLOSED), and when nothing came
 * in time (DAVIT_ETIMEDOUT). o may be NULL. Errors as davit_send, and DAVIT_ENOMEM. */
int davit_request(struct davit_context *c, struct davit_ref to, struct davit_message **m,
		  const struct davit_request_options *o, struct davit_promise *ret);
/* Makes a message with a copy of data, and sends it as a request: to davit_request as
 * davit_tell is to davit_send. */
int davit_ask(struct davit_context *c, struct davit_ref to, uint32_t type, const void *data, size_t size,
	      const struct davit_request_options *o, struct davit_promise *ret);
/* A request for a named command; parameters (by custom JSON; may be NULL) are copied. */
int davit_command(struct davit_context *c, struct davit_ref to, const char *name, const char *parameters,
		  const struct davit_request_options *o, struct davit_promise *ret);
/* Answers a request, now or (with the message taken) later. Without a promise in m it
 * does nothing. Returns 0. */
int davit_reply(struct davit_context *c, const struct davit_message *m, const void *data, size_t size);
int davit_refuse(struct davit_context *c, const struct davit_message *m, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* It takes longer: the time of this try begins anew. */
void davit_progress(struct davit_context *c, const struct davit_message *m);
/* Is m a request whose answer is still awaited? Not after its answer; not when who asked
 * has cancelled it, has ended, or did not want to wait that long: also over a channel, from
 * another process. One that nobody awaits when its turn comes is not handled. A handler that
 * takes long asks now and then; in a process that answers heartbeats, too. */
bool davit_awaited(struct davit_context *c, const struct davit_message *m);
/* For who has taken m, or works on it beside its messages: when nobody awaits the answer any
 * more, and it was not given, the caller is sent a message of that type, whose data is
 * m->promise (at once, if it is over already). The last call for m counts; nothing is sent
 * for what is no request. 0, or DAVIT_ENOMEM. */
int davit_on_cancel(struct davit_context *c, const struct davit_message *m, uint32_t type);
/* By when an answer is awaited, monotonic ns of davit_system_now; INT64_MAX: whenever. */
int64_t davit_deadline(struct davit_context *c, const struct davit_message *m);

/* Allows or denies messages between containers: the first rule that fits decides; none
 * denies nothing. Patterns as of the shell; NULL: any. Copied; n 0: no rules.
 * 0, or DAVIT_ENOMEM. */
struct davit_rule {
	const char *origin;	 /* alias of the sender; "" for outside */
	const char *destination; /* alias of the receiver */
	const char *name;	 /* of a command; the number of a type otherwise */
	bool deny;
};
int davit_system_rules(struct davit_system *s, const struct davit_rule *rules, size_t n);
/* Asked for an alias that is not known here. Returns 0 and fills ret, or DAVIT_ENOENT. */
void davit_system_resolver(struct davit_system *s,
			   int (*resolve)(void *arg, const char *alias, struct davit_ref *ret), void *arg);

/* --- the manager: other containers. All of it is asynchronous; the promises may be
 * NULL for who does not want to know. --- */

enum davit_create_flags {
	DAVIT_CREATE_DEFAULT = 0,    /* an alias that is alive: success, nothing is done */
	DAVIT_CREATE_FORCE_SOFT = 1, /* one that is alive is asked to end first */
	DAVIT_CREATE_FORCE_HARD = 2, /* is ended without its hooks */
	DAVIT_CREATE_FORCE = 3,	     /* is asked, then ended */
	DAVIT_CREATE_START = 4,	     /* and started; the promise is of that */
};
enum davit_destroy_flags {
	DAVIT_DESTROY_KEEP = 0, /* refused (DAVIT_ESTATE) while it is started */
	DAVIT_DESTROY_FORCE_SOFT = 1,
	DAVIT_DESTROY_FORCE_HARD = 2,
	DAVIT_DESTROY_FORCE = 3,
};

struct davit_create {
	const char *alias; /* unique in the system */
	const char *name;  /* of a registered definition, unless `definition` is given */
	const struct davit_definition *definition;
	const char *args;   /* may be NULL */
	const char *parent; /* an address; NULL: the caller, Main from outside */
	unsigned flags;	    /* enum davit_create_flags */
};

/* Makes definitions known by their names; borrowed until the system is closed. 0;
 * DAVIT_EINVAL: neither behaviour nor command, or no name; DAVIT_ENOMEM. */
int davit_register(struct davit_system *s, const struct davit_definition *d);
/* What follows returns 0 when it was asked for, or DAVIT_EINVAL (an alias that is none, no
 * definition, no such operation) or DAVIT_ENOMEM, and then there is no promise. How it went
 * the promise tells: it is fulfilled with the alias, or rejected with DAVIT_ESTATE where the
 * table of state.h says error, and with what a callback or hook has returned. None blocks, but
 * for what davit_find has to ask.
 *
 * Those within other processes are operated as all are; DAVIT_ECLOSED if the process ends
 * meanwhile, DAVIT_EPERM from within a process for what does not stand beneath it. */

/* Rejected with DAVIT_ENOENT: there is no such parent or definition; DAVIT_ENOTSUP: no
 * processes here, or the parent is within another process; DAVIT_EEXIST: the alias cannot
 * be freed by force now; DAVIT_EINVAL: the definition has neither behaviour nor command, or
 * is not the one that all children of a parent with simple-one-for-one are of. */
int davit_container_create(struct davit_context *c, const struct davit_create *what,
			   struct davit_promise *ret);
/* With all beneath it, the deepest and last first. What is not there is destroyed already. */
int davit_container_destroy(struct davit_context *c, const char *address, unsigned flags,
			    struct davit_promise *ret);
int davit_container_start(struct davit_context *c, const char *address, struct davit_promise *ret);
int davit_container_stop(struct davit_context *c, const char *address, struct davit_promise *ret);
/* Fails it from outside, as by an error of its own. */
int davit_container_fail(struct davit_context *c, const char *address, int code, const char *message,
			 struct davit_promise *ret);
/* Solves the failure of that hash: continue, restart or stop (others are DAVIT_EINVAL).
 * One that is over already is DAVIT_ESTATE. */
int davit_container_solve(struct davit_context *c, const char *address, uint64_t failure,
			  enum davit_solution solution, struct davit_promise *ret);
/* Several at once: the promise has one item each. `op` is DAVIT_DO_START, _STOP or
 * _DESTROY. */
int davit_containers_create(struct davit_context *c, const struct davit_create *what, size_t n,
			    struct davit_promise *ret);
int davit_containers_do(struct davit_context *c, enum davit_operation op, const char *const *addresses,
			size_t n, unsigned flags, struct davit_promise *ret);
/* Destroys all children of the caller (of Main from outside). */
int davit_flush(struct davit_context *c, unsigned flags, struct davit_promise *ret);

/* What there is to know of one: a copy, taken at once. */
struct davit_container_info {
	struct davit_ref ref;
	char alias[64], name[64], parent[64];
	enum davit_container_type type;
	enum davit_state state;
	uint64_t failure; /* its hash, while failed; else 0 */
	int code;
	char message[128];		    /* of that failure */
	int64_t restarts;		    /* since it was created */
	uint32_t queued;		    /* messages that wait */
	uint64_t dropped, refused, blocked; /* by the mailbox's policy */
	size_t n_children;		    /* those within its process included */
	enum davit_strategy strategy;	    /* for them */
};
bool davit_exists(struct davit_context *c, const char *address);
/* 0, or DAVIT_ENOENT. Of one within another process it is what was last heard of it; what
 * waits there is not known here. */
int davit_container_get(struct davit_context *c, const char *address, struct davit_container_info *ret);
/* The aliases of its children, in the order in which they came, those within its process
 * behind the others: fills at most n, returns how many there are; or DAVIT_ENOENT. */
int davit_container_children(struct davit_context *c, const char *address, char (*ret_aliases)[64], size_t n);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
