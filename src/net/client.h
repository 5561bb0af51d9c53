/* SPDX-License-Identifier: MIT
 *
 * A blocking HTTP/1.1 client over a unix socket, for programs that ask the
 * daemon one thing at a time. It needs libc and http_parser only, so that a
 * command line starts in a millisecond.
 *
 * Use: open, send, then one of body / line / take_fd; send again once the body
 * was read to its end. Not for use by several threads at once.
 */
#ifndef DAVIT_NET_CLIENT_H
#define DAVIT_NET_CLIENT_H

#include "base/buf.h"
#include "davit/error.h"

struct davit_client;

struct davit_client_header {
	const char *name, *value;
};

/* A request; everything is borrowed during davit_client_send. */
struct davit_client_request {
	const char *method; /* NULL: GET */
	const char *target; /* path and query, escaped already: see net/url.h */
	const void *body;   /* NULL: none */
	size_t body_len;
	/* Instead of `body`: gives the next bytes of it, at most n, 0 at its end, or a
	 * code. They are sent as chunks. */
	ssize_t (*produce)(void *user, void *buf, size_t n, struct davit_error *err);
	void *user;
	const char *content_type;		   /* of the body; NULL: application/json */
	const char *cause;			   /* Davit-Cause, recorded with events; NULL: none */
	const char *upgrade;			   /* protocol to switch to, e.g. "davit-exec"; NULL: none */
	const struct davit_client_header *headers; /* further ones */
	size_t n_headers;
};

/* Connects to the socket at `path` (of any length). The peer must be this user
 * or root, unless this user is root.
 * DAVIT_EUNAVAIL when nothing listens there (sys_errno is ENOENT, ECONNREFUSED
 * or ENOTDIR): the one case in which starting a daemon helps. DAVIT_EPERM when
 * this user may not, or somebody else listens there. */
int davit_client_open(const char *path, struct davit_client **ret, struct davit_error *err);
/* Closes and frees. NULL is fine. */
void davit_client_close(struct davit_client *c);

/* The longest wait for the next byte, ns; 0: without end, the default. When it
 * is over, a call returns DAVIT_ETIMEDOUT and may be repeated: davit_client_line
 * and _body go on where they were. */
void davit_client_set_timeout(struct davit_client *c, int64_t ns);

/* Who waits for ns asks `lives` whether there is somebody to wait for, and asks again each time that the
 * same has passed. It returns 0, or fills *err; with that the call ends. NULL: nobody asks, the default. */
void davit_client_set_patience(struct davit_client *c, int64_t ns,
			       int (*lives)(struct davit_client *c, void *user, struct davit_error *err),
			       void *user);
/* Waiting for bytes ends with DAVIT_ECANCELED, too, when nobody reads the other end of fd
 * any more (a pipe's, a socket's, a terminal's): for what is written there as it comes.
 * -1: not so, the default. fd stays the caller's. */
void davit_client_set_output(struct davit_client *c, int fd);

/* Sends a request and reads the response's head. 0 with *ret_status, whatever
 * the status is, or a code: DAVIT_ECLOSED "the daemon closed the connection" (sys_errno is
 * ECONNRESET when it had not read the request to its end, and so has not obeyed it),
 * DAVIT_EPROTO, DAVIT_ETIMEDOUT, DAVIT_EIO, DAVIT_EINVAL for a request that
 * cannot be sent. What was not read of the previous response is an error
 * (DAVIT_ESTATE): open a new client instead. */
int davit_client_send(struct davit_client *c, const struct davit_client_request *request, int *ret_status,
		      struct davit_error *err);
/* Its first half, for an answer that may be long in coming: davit_client_fd can be polled, and the head
 * is read with what is first asked for. */
int davit_client_begin(struct davit_client *c, const struct davit_client_request *request,
		       struct davit_error *err);
/* A header of the response, or NULL; borrowed until the next send. */
const char *davit_client_header(const struct davit_client *c, const char *name);

/* Appends the rest of the body to out. More than max bytes: DAVIT_EPROTO. */
int davit_client_body(struct davit_client *c, size_t max, struct davit_buf *out, struct davit_error *err);

/* The next bytes of the body, at most n, as they come. Returns how many, 0 at its
 * end, or a code. Not to be mixed with davit_client_line. */
ssize_t davit_client_read(struct davit_client *c, void *buf, size_t n, struct davit_error *err);

/* The next line of the body without its newline, NUL-terminated, borrowed until
 * the next call on c. Returns 1 with *ret_line, 0 at the end of the body, or a
 * code. A last line without a newline counts. Lines above 16 MiB: DAVIT_EPROTO. */
int davit_client_line(struct davit_client *c, const char **ret_line, size_t *ret_len,
		      struct davit_error *err);
/* True when davit_client_line would return without waiting for the socket. For
 * those who poll davit_client_fd together with other things. */
bool davit_client_line_ready(const struct davit_client *c);
/* The socket, for poll; still the client's. */
int davit_client_fd(const struct davit_client *c);

/* After a status of 101: gives the connected socket to the caller, who closes
 * it, and appends to `early` what the peer has sent on it already. The client
 * can only be closed after. DAVIT_ESTATE when the response was not 101. */
int davit_client_take_fd(struct davit_client *c, int *ret_fd, struct davit_buf *early,
			 struct davit_error *err);

#endif
