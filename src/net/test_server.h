/* SPDX-License-Identifier: MIT
 *
 * What the tests of servers stand on: a server on a thread of its own, at a socket in a directory that goes
 * with it, and clients that say the bytes that they want. What goes wrong here fails the test.
 */
#ifndef DAVIT_NET_TEST_SERVER_H
#define DAVIT_NET_TEST_SERVER_H

#include "net/server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

struct test_server {
	char dir[64];
	char path[96]; /* of the socket */
	struct davit_loop *loop;
	struct davit_http_server *server;
	void (*ending)(struct test_server *s); /* on its thread, before it ends; NULL: nothing */
	uv_async_t stop;
	pthread_t thread;
};

/* Makes the directory and the loop, on which timers may be prepared. */
void test_server_open(struct test_server *s);
/* Serves from now on; the loop and the socket of config are filled in. */
void test_server_start(struct test_server *s, const struct davit_http_config *config);
/* Both, with those limits (NULL: the usual ones), for handlers whose user is that. */
void test_server_run(struct test_server *s, const struct davit_http_config *limits,
		     const struct davit_http_config *handlers, void *user);
/* Ends it, and removes the directory. */
void test_server_end(struct test_server *s);

/* A raw connection to it. */
int test_dial(const struct test_server *s);
void test_say(int fd, const char *text);
/* Reads to the end of the connection, and closes it; heap. Ends when nothing comes for a minute. */
char *test_hear_all(int fd);
/* Until it has that value; fails after a minute. */
void test_await(atomic_int *v, int want);

#endif
