/* SPDX-License-Identifier: MIT
 *
 * Requests to an engine's socket, one connection each.
 */
#ifndef DAVIT_ENGINE_TERMINAL_API_H
#define DAVIT_ENGINE_TERMINAL_API_H

#include "base/buf.h"
#include "davit/error.h"

#include <jansson.h>

struct api {
	const char *socket;
	const char *prefix; /* before each path: "/v1.41" */
	int patience;	    /* seconds that an answer may take; 0: ten */
};

/* Sends a request and waits for its answer, as long as its patience lasts. body NULL: none.
 * *ret is the answer as JSON, owned by the caller; NULL if it is none. DAVIT_ENOENT and
 * others by the status, with the engine's words; DAVIT_EUNAVAIL when it cannot be asked. */
int api_call(const struct api *a, const char *method, const char *path, const struct davit_buf *body,
	     json_t **ret, struct davit_error *err);
/* Sends a request and does not wait: the connection, to be read when there is something. */
int api_send(const struct api *a, const char *method, const char *path, int *ret_fd, struct davit_error *err);
/* The status of the answer on it, which is closed. 0: it makes no sense. */
int api_status(int fd);
/* Makes a request whose connection is a stream after: non-blocking. What came of it
 * with the answer is in *early. */
int api_stream(const struct api *a, const char *path, const char *json, int *ret_fd, struct davit_buf *early,
	       struct davit_error *err);

/* Sends the head of a request whose body follows in chunks (api_chunk, one of 0 bytes at the end), or, with
 * `chunked` false, has none. *ret_fd is blocking. */
int api_begin(const struct api *a, const char *method, const char *path, const char *type, bool chunked,
	      int *ret_fd, struct davit_error *err);
int api_chunk(int fd, const void *data, size_t n, struct davit_error *err);
/* Reads the head of the answer, and not a byte more: 0 for success, or a code with the engine's words. */
int api_answer(int fd, struct davit_error *err);

#endif
