/* SPDX-License-Identifier: MIT
 *
 * A connection that begins as an HTTP request and goes on as a stream in both
 * directions, as an engine gives for a command ("hijacked").
 */
#ifndef DAVIT_ENGINE_HIJACK_H
#define DAVIT_ENGINE_HIJACK_H

#include "runtime/engine/http.h"

#define HIJACK_BUFFER 262144

enum hijack_phase { HIJACK_CONNECTING, HIJACK_ASKING, HIJACK_OPEN, HIJACK_ENDED };

/* Embedded in its owner, zeroed before. */
struct hijack {
	/* the owner's; called from the loop, never from within a call. Any may close
	 * it. */
	void *user;
	void (*opened)(struct hijack *h);
	/* Takes from the front of `in` what it likes; only when open and not held.
	 * False: it was closed. */
	bool (*data)(struct hijack *h);
	/* After all data was taken: the peer closed its end, or err. */
	void (*ended)(struct hijack *h, const struct davit_error *err);
	bool held; /* set by the owner: no data now; hijack_resume ends that */
	struct davit_buf in;

	/* private */
	enum hijack_phase phase;
	struct http *http;
	struct http_call *call;
	struct local_poll *poll;
	int fd; /* libcurl's */
	struct davit_buf out;
	bool eof, half_closed, told;
	struct davit_deferred deliver;
	struct davit_error why;
};

/* Connects and sends a POST to path with a JSON body. opened, or ended, follows. */
int hijack_open(struct hijack *h, struct http *http, const char *path, const char *json,
		struct davit_error *err);
/* How much was taken; 0: wait. DAVIT_ECLOSED when the peer cannot read it. */
ssize_t hijack_write(struct hijack *h, const void *data, size_t n);
/* No more input comes. */
void hijack_close_input(struct hijack *h);
void hijack_resume(struct hijack *h);
/* No callback after. Idempotent; fine for one that was never opened. */
void hijack_close(struct hijack *h);

#endif
