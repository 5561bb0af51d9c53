/* SPDX-License-Identifier: MIT */
#include "net/test_server.h"

#include "base/file.h"
#include "net/unix.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static void on_stop(uv_async_t *a)
{
	struct test_server *s = a->data;

	if (s->ending)
		s->ending(s);
	davit_http_server_free(s->server);
	uv_close((uv_handle_t *)a, NULL);
}

static void *serve(void *user)
{
	davit_loop_run(((struct test_server *)user)->loop);
	return NULL;
}

void test_server_open(struct test_server *s)
{
	*s = (struct test_server){.dir = "/tmp/davit-net-XXXXXX"};
	assert_non_null(mkdtemp(s->dir));
	snprintf(s->path, sizeof s->path, "%s/s.sock", s->dir);
	assert_int_equal(davit_loop_open(&s->loop, NULL), 0);
}

void test_server_start(struct test_server *s, const struct davit_http_config *config)
{
	struct davit_http_config c = *config;
	int fd;

	c.loop = s->loop;
	assert_int_equal(davit_unix_listen(s->path, &fd, NULL), 0);
	assert_int_equal(davit_http_server_new(&c, fd, &s->server, NULL), 0);
	s->stop.data = s;
	assert_int_equal(uv_async_init(davit_loop_uv(s->loop), &s->stop, on_stop), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

void test_server_run(struct test_server *s, const struct davit_http_config *limits,
		     const struct davit_http_config *handlers, void *user)
{
	struct davit_http_config config = limits ? *limits : (struct davit_http_config){0};

	config.handle = handlers->handle;
	config.streams = handlers->streams;
	config.user = user;
	test_server_open(s);
	test_server_start(s, &config);
}

void test_server_end(struct test_server *s)
{
	uv_async_send(&s->stop);
	pthread_join(s->thread, NULL);
	davit_loop_close(s->loop);
	assert_int_equal(davit_remove_tree(s->dir, NULL), 0);
}

int test_dial(const struct test_server *s)
{
	int fd;

	assert_int_equal(davit_unix_connect(s->path, &fd, NULL), 0);
	return fd;
}

void test_say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

char *test_hear_all(int fd)
{
	struct davit_buf b = DAVIT_BUF_INIT;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char data[4096];
	ssize_t n;

	while (poll(&p, 1, 60000) == 1 && (n = read(fd, data, sizeof data)) > 0)
		davit_buf_add(&b, data, (size_t)n);
	close(fd);
	return davit_buf_take(&b);
}

void test_await(atomic_int *v, int want)
{
	for (int i = 0; i < 60000 && *v != want; i++)
		usleep(1000);
	assert_int_equal(*v, want);
}
