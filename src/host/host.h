/* SPDX-License-Identifier: MIT
 *
 * The host of containers: the process that a project runs in. What its files share.
 *
 * One thread has the loop: the socket, the record, the answers. Containers run on the
 * workers of the system; what they promise comes back to the loop by host_when.
 */
#ifndef DAVIT_HOST_H
#define DAVIT_HOST_H

#include "base/list.h"
#include "base/map.h"
#include "davit/container.h"
#include "davit/loop.h"
#include "net/server.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <uv.h>

enum { HOST_TYPES = 2 }; /* DAVIT_THREAD, DAVIT_PROCESS */

struct host_result;
struct host_call;
struct host_file;

struct host {
	/* As the command line says; borrowed. */
	const char *project;
	const char *socket;
	const char *record_path;
	const char *directory;		/* of the project: definitions are looked for here; or NULL */
	const char *more;		/* further directories, with ':' between; or NULL */
	const char *search[HOST_TYPES]; /* patterns; never NULL */

	struct davit_loop *loop;
	struct davit_system *system;
	struct davit_context *c; /* of this thread */
	struct davit_http_server *server;
	int64_t started; /* unix ns */

	/* result.c: promises that have ended, on their way to the loop */
	pthread_mutex_t lock;
	struct host_result *settled, **settled_end;
	uv_async_t wake;
	unsigned pending; /* promises that the loop waits for */
	bool closed;	  /* the system is; nothing of it may be asked any more */

	/* record.c */
	FILE *record;
	struct davit_list entries; /* in the order of their creation */
	struct davit_map by_alias; /* alias -> entry */
	bool unclean;		   /* the host before this one did not end by itself */
	unsigned restored, missing;
	struct davit_ref watcher; /* hears of the ends of what is recorded */

	/* changes.c */
	_Atomic(bool) dirty; /* the tree has changed, and that is to be told */
	uv_async_t changes;
	struct davit_timer moment;
	uint64_t change;	     /* the number of the last one */
	struct davit_list followers; /* of struct host_call */

	struct host_file *files; /* definition.c: what was loaded, for ever */

	/* dead.c */
	_Atomic int64_t dead_second;
	_Atomic unsigned dead_shown;
};

/* --- definition.c --- */

/* The name of a type in patterns and answers: "thread", "process". */
const char *host_type_name(enum davit_container_type type);
/* The type of that name: 0, or DAVIT_EINVAL. */
int host_type_parse(const char *name, enum davit_container_type *ret, struct davit_error *err);

/* Where a definition is looked for. All borrowed. */
struct host_search {
	enum davit_container_type type;
	const char *name;
	const char *pattern;   /* NULL: the project's */
	const char *directory; /* of who asks: looked into first; or NULL */
	const char *file;      /* absolute, instead of a search; or NULL */
};
/* Finds and loads it. What is loaded stays so: *ret and *ret_file are borrowed for
 * ever. DAVIT_ENOENT tells all places that were looked at, DAVIT_ENOTSUP what is
 * wrong with the file. Blocks for the file system. */
int host_definition(struct host *h, const struct host_search *s, const struct davit_definition **ret,
		    const char **ret_file, struct davit_error *err);
/* After the system was closed. */
void host_definitions_free(struct host *h);

/* --- result.c --- */

/* Of an operation, valid during the call. */
typedef void host_done(struct host *h, const struct davit_outcome *o, void *arg);
/* Calls fn from the loop when p has ended; takes p over. On DAVIT_ENOMEM it is not
 * called. */
int host_when(struct host *h, struct davit_promise p, host_done *fn, void *arg);
int host_results_open(struct host *h, struct davit_error *err);
/* Cancels what has not been told yet. After the system was closed. */
void host_results_close(struct host *h);

/* --- record.c: what the user has made, so that a host after this one has it too --- */

/* What a creation was asked with. Owned by the record. */
struct host_entry {
	struct davit_list list;
	char *alias, *parent, *name, *args, *file;
	enum davit_container_type type;
	enum davit_state wanted; /* created, started or stopped */
	struct davit_ref ref;	 /* who has the alias now */
	bool tried;		 /* restore.c: it was made anew, or cannot be */
};
/* Reads it, and begins a new file without what is over. */
int host_record_open(struct host *h, struct davit_error *err);
/* Says that the end is an orderly one, if `clean`; closes it. */
void host_record_close(struct host *h, bool clean);
/* Each is durable when it returns 0. Unknown aliases are left alone. */
int host_record_add(struct host *h, const struct host_entry *e, struct davit_error *err);
int host_record_want(struct host *h, const char *alias, enum davit_state wanted, struct davit_error *err);
int host_record_remove(struct host *h, const char *alias, struct davit_error *err);
struct host_entry *host_record_find(struct host *h, const char *alias);

/* --- restore.c --- */

/* Makes anew what is recorded, then calls done, from the loop. What cannot be made is
 * told in the log, stays recorded, and counts as missing. */
void host_restore(struct host *h, void (*done)(struct host *h));

/* --- watch.c: one that ends by itself is struck from the record --- */

/* 0, or DAVIT_ENOMEM. Before the first host_watch. */
int host_watch_open(struct host *h);
/* Watches who has the alias, which is recorded. */
void host_watch(struct host *h, const char *alias);

/* --- changes.c --- */

/* For struct davit_system_config. */
void host_changed(void *host);
/* True: the tree is as the call has seen it, which is answered when it is not. */
bool host_follow(struct host_call *call);
int host_changes_open(struct host *h, struct davit_error *err);
/* After the system was closed. */
void host_changes_close(struct host *h);

/* --- view.c --- */

/* A container and, with `deep`, all beneath it, as JSON: a new reference, or NULL with
 * *err (DAVIT_ENOENT). */
json_t *host_view(struct host *h, const char *address, bool deep, struct davit_error *err);
/* The host itself. NULL when out of memory. */
json_t *host_view_self(struct host *h);

/* --- api.c, operate.c, message.c --- */

/* A request on its way. */
struct host_call {
	struct host *host;
	struct davit_http_request *request;
	json_t *body;		/* never NULL for POST */
	char *address;		/* of the path; or NULL */
	struct davit_map query; /* name -> value, both owned by the call */
	void *state;		/* of the handler */
	void (*free_state)(void *state);
	struct davit_list followers; /* changes.c */
};
void host_call_free(struct host_call *call);
/* Answers with all there is: ends the call. */
void host_reply_all(struct host_call *call);
void host_handle(void *host, struct davit_http_request *r);
/* Each ends the call. `value` is taken; NULL: out of memory. */
void host_reply(struct host_call *call, json_t *value);
/* With the view of the container that the call names, and of what is beneath it if that is asked for. */
void host_reply_addressed(struct host_call *call);
void host_fail(struct host_call *call, const struct davit_error *err);
void host_fail_with(struct host_call *call, int code, const char *where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Fails the call as an operation was rejected. */
void host_fail_outcome(struct host_call *call, const struct davit_outcome *o);
/* "" and false where they are not given. */
const char *host_query(const struct host_call *call, const char *name);
const char *host_body(const struct host_call *call, const char *name);

void host_create(struct host_call *call);
void host_destroy(struct host_call *call);
/* start, stop, continue, fail */
void host_operate(struct host_call *call, const char *verb);
/* send, request, command */
void host_message(struct host_call *call, const char *verb);

/* --- dead.c: what was not handled --- */

void host_dead_letter(void *host, enum davit_dead why, struct davit_ref to, const struct davit_message *m);
void host_log_line(void *host, const char *line);

#endif
