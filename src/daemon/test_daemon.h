/* SPDX-License-Identifier: MIT
 *
 * The daemon that the tests of the API talk to: on a thread of the test, with a store in memory
 * and the runtime fake.
 */
#ifndef DAVIT_DAEMON_TEST_DAEMON_H
#define DAVIT_DAEMON_TEST_DAEMON_H

#include "daemon/api.h"

#include "base/file.h"
#include "base/units.h"
#include "net/client.h"
#include "net/url.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

extern struct davit_daemon d;
extern char dir[];
extern atomic_int ended; /* how a request has ended the daemon last */

/* A body of n bytes, `head` and then zeros, that streams. */
struct flow {
	const void *head;
	size_t head_len, n, sent;
};

extern const struct davit_client_header websocket[2];

int start(void **state);
int finish(void **state);
struct davit_client *dial(void);
/* One request, with the answer as JSON. */
json_t *ask(const char *method, const char *target, const char *body, int *ret_status);
void works(const char *method, const char *target, const char *body);
void refused(const char *method, const char *target, const char *body, int status, const char *message);
struct davit_client *open_stream(const char *target);
/* The next line of a stream as JSON; NULL at its end. */
json_t *next(struct davit_client *c);
const char *text(json_t *v, const char *key);
void kill_service(const char *name);
/* The status, and the whole answer as text (a heap string in *ret). */
int stream_in(const char *method, const char *target, struct flow *f, char **ret);
/* The id of the first instance of a service, once it runs. */
char *instance_of_service(const char *name, char id[32]);

#endif
