/* SPDX-License-Identifier: MIT
 *
 * HTTP calls to one unix socket, by libcurl on davit's loop. Connections are kept
 * and reused. Knows of an engine no more than that its errors are JSON objects
 * with a `message`.
 *
 * Nothing is called back from within a call of these functions, and a call may be
 * cancelled in any callback.
 */
#ifndef DAVIT_ENGINE_HTTP_H
#define DAVIT_ENGINE_HTTP_H

#include "base/buf.h"
#include "base/list.h"
#include "davit/loop.h"
#include "local/poll.h"

#include <curl/curl.h>
#include <jansson.h>

struct http {
	struct davit_loop *loop;
	CURLM *multi;
	struct davit_timer timer;
	struct davit_list calls, sockets;
	const char *socket; /* borrowed path */
	char prefix[16];    /* before each path: "/v1.41", or "" */
};

/* Bytes of an answer that wait for a consumer that does not take them. */
#define HTTP_BUFFER 262144
/* The longest answer that is collected whole. */
#define HTTP_ANSWER_MAX (64 << 20)

struct http_call {
	/* the caller's */
	void *user;
	/* Exactly once unless cancelled: the whole answer is there (in `body`, unless
	 * `data` took it), or err says why not. An answer with a status that is no
	 * success is an error too: its code follows from the status, its message is
	 * the engine's. The call is freed after. */
	void (*done)(struct http_call *c, const struct davit_error *err);
	/* NULL: the answer is collected. Otherwise told of each part of a successful
	 * answer: takes what it can from the front of `body`. False: pauses until
	 * http_resume; `done` waits for that too. */
	bool (*data)(struct http_call *c);
	/* the answer */
	long status; /* 0 while there is none */
	struct davit_buf body;

	/* private */
	struct davit_list list;
	struct http *http;
	CURL *easy;
	struct curl_slist *headers;
	struct davit_buf request;
	struct davit_deferred deliver;
	int upload; /* descriptor, or -1 */
	struct local_poll *upload_poll;
	bool waiting;	/* libcurl was told to pause reading from the descriptor */
	bool throttled; /* libcurl was told to pause, for want of room in `body` */
	bool held;	/* data returned false */
	bool over, in_data, cancelled, connect_only;
	CURLcode code;
	int upload_error;
	char text[CURL_ERROR_SIZE];
};

/* connections: at most so many at once, the others wait; 0: any number. */
int http_open(struct http *h, struct davit_loop *loop, const char *socket, long connections,
	      struct davit_error *err);
/* Cancels all calls. Does nothing to one that was never opened (zeroed). */
void http_close(struct http *h);

/* Prepares a call; path is printed behind the prefix. NULL when out of memory. */
struct http_call *http_new(struct http *h, const char *method, const char *path, ...)
	__attribute__((format(printf, 3, 4)));
/* What is sent: a JSON text (its memory is taken over; b is empty after). */
void http_json(struct http_call *c, struct davit_buf *b);
/* What is sent: all that comes from fd, which is closed at the end, in any case. */
void http_upload(struct http_call *c, int fd, const char *type);
/* Connects only: `done` comes when it is connected, and the call is not freed then,
 * but with http_cancel: until then c->easy carries bytes. */
void http_connect_only(struct http_call *c);
/* On a connection of its own, which only an engine that still listens gives. */
void http_fresh(struct http_call *c);
/* Sends it. When that fails (out of memory) the call is freed, and `done` not
 * called. */
int http_send(struct http_call *c, struct davit_error *err);
/* Frees one that was not sent. */
void http_free(struct http_call *c);
/* More can be taken: `data` is called again, from the loop. */
void http_resume(struct http_call *c);
/* Forgets it: nothing is called after. NULL is fine. */
void http_cancel(struct http_call *c);

/* The collected answer as JSON, owned by the caller; NULL when it is none. */
json_t *http_answer(const struct http_call *c);
/* The code that an HTTP status of failure stands for. */
int http_error_code(long status);
/* Appends s to a path or query, escaped. */
void http_escape(struct davit_buf *b, const char *s);

#endif
