/* SPDX-License-Identifier: MIT
 *
 * What the server's files share: a connection, and its way through the phases
 *
 *   READING -> HELD -> (STREAM | RAW) -> FLUSHING -> READING ...
 *
 * server.c accepts, reads, writes and closes; request.c parses; response.c is
 * what handlers call. Nothing outside these includes this.
 */
#ifndef DAVIT_NET_SERVER_IMPL_H
#define DAVIT_NET_SERVER_IMPL_H

#include "base/list.h"
#include "net/server.h"

#include <http_parser.h>
#include <uv.h>

enum {
	HTTP_HIGH_WATER = 64 * 1024, /* of output, and of input that must wait */
	HTTP_READ_SIZE = 64 * 1024,
};

enum http_phase {
	HTTP_READING,  /* between requests, or within one */
	HTTP_HELD,     /* the handler has it */
	HTTP_STREAM,   /* and has begun a stream */
	HTTP_RAW,      /* and has upgraded */
	HTTP_FLUSHING, /* the answer is complete; its bytes leave */
};

struct davit_http_server {
	struct davit_http_config config;
	uv_pipe_t *listener;
	unsigned n_listeners;	  /* not closed yet, those that were left included */
	struct davit_timer retry; /* of an accept that had no memory */
	struct davit_list conns;
	size_t n_conns;
	struct davit_timer drain_limit;
	void (*drained)(void *user); /* while draining; NULL before and after */
	void *drained_user;
	bool deaf;		      /* the listener is closed or closing */
	bool closing;		      /* freed when the listeners and the last connection are gone */
	char scratch[HTTP_READ_SIZE]; /* every read goes here first */
};

struct http_conn {
	struct davit_http_request req;
	struct davit_http_server *server;
	struct davit_list list;
	uv_pipe_t pipe;
	uv_write_t write;
	http_parser parser;
	struct davit_timer timer;
	struct davit_deferred work;
	enum http_phase phase;

	struct davit_buf in;	 /* read, not parsed */
	struct davit_buf head;	 /* target NUL name NUL value NUL ... */
	struct davit_buf extra;	 /* headers that the handler added */
	struct davit_buf out;	 /* not given to the kernel */
	struct davit_buf flying; /* under uv_write */
	size_t head_size;
	size_t left_before; /* bytes unsent when the write timer was set */

	bool in_value; /* request.c: the last piece was of a header's value */
	bool complete; /* request.c: a whole request was read */
	bool ready;    /* request.c: its head is whole, its body streams */
	bool told_end; /* input_end was called, or nobody is there to call it */
	int refuse;    /* request.c: status to refuse with, or 0 */
	bool began;    /* the first byte of a request has come */
	bool served;   /* it has had an answer: it may be idle */
	bool keep_alive;
	bool chunked;
	bool reading; /* uv_read_start is on */
	bool paused;  /* the handler paused input */
	bool writing; /* uv_write is under way */
	bool blocked; /* davit_http_write said false */
	bool eof;     /* the client sends no more */
	bool gone;    /* the connection is closed or closing */
	bool pipe_closed;
};

static inline struct http_conn *http_conn_of(const struct davit_http_request *r)
{
	return DAVIT_CONTAINER_OF((struct davit_http_request *)(uintptr_t)r, struct http_conn, req);
}
static inline bool http_is_held(const struct http_conn *c)
{
	return c->phase == HTTP_HELD || c->phase == HTTP_STREAM || c->phase == HTTP_RAW;
}

/* request.c: a fresh parser; forgets the last request. */
void http_request_reset(struct http_conn *c);
/* request.c: parses from c->in until it is used up or a request is complete.
 * True when one is, or its head for one that streams, or when it must be refused
 * (c->refuse). */
bool http_request_parse(struct http_conn *c);

/* response.c: refuses on behalf of the server, and closes after. */
void http_refuse(struct http_conn *c, int status, const char *message);
/* response.c: the same as bytes, for a peer without a connection of its own. */
void http_refusal(struct davit_buf *out, int status, const struct davit_error *err);

/* server.c: the answer is complete (phase FLUSHING), or there is output. */
void http_kick(struct http_conn *c);
/* server.c: the connection ends now; a handler that holds it is not told. */
void http_cut(struct http_conn *c);
/* server.c: a connection without its socket yet, or NULL. */
struct http_conn *http_conn_new(struct davit_http_server *s);
/* server.c: ends a connection; a handler that holds it is told. */
void http_drop(struct http_conn *c);
/* server.c: frees a server that is closed, when nothing of it is left. */
void http_server_settle(struct davit_http_server *s);
/* server.c: lets go of a connection that is gone and not held any more. */
void http_release(struct http_conn *c);
void http_update_reading(struct http_conn *c);

/* listener.c: takes fd over and listens on it; also when this fails. */
int http_listen(struct davit_http_server *s, int fd, struct davit_error *err);
/* listener.c: closes the listening socket; what has not been accepted stays in its queue. */
void http_stop_listening(struct davit_http_server *s);

#endif
