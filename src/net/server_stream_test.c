/* SPDX-License-Identifier: MIT
 *
 * Bodies and answers that come in pieces, and streams after an upgrade.
 */
#include "base/units.h"
#include "net/client.h"
#include "net/test_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { FLOOD = 256 * 1024 * 1024 };

struct fixture {
	struct test_server s;
	atomic_long produced;
	atomic_int closed;
};

/* --- the service under test --- */

static void on_closed(struct davit_http_request *r)
{
	struct fixture *f = r->user;

	f->closed++;
}

static void produce(struct davit_http_request *r)
{
	static const char line[] = "{\"text\":\"0123456789012345678901234567890123456789\"}\n";
	struct fixture *f = r->user;

	while (f->produced < FLOOD) {
		f->produced += (long)sizeof line - 1;
		if (!davit_http_write(r, line, sizeof line - 1))
			return;
	}
	davit_http_end(r);
}

static void echo_raw(struct davit_http_request *r, const void *data, size_t n)
{
	if (n && memchr(data, 'Q', n)) {
		davit_http_write(r, "bye", 3);
		davit_http_end(r);
		return;
	}
	davit_http_write(r, data, n);
}

/* --- bodies that stream: counted; paused for a while after the first bytes --- */

struct count {
	struct davit_timer resume;
	struct davit_http_request *r;
	struct fixture *f;
	bool paused_once;
};

static void on_resume(struct davit_timer *t)
{
	davit_http_pause_input(DAVIT_CONTAINER_OF(t, struct count, resume)->r, false);
}

static void count_input(struct davit_http_request *r, const void *data, size_t n)
{
	struct count *c = r->user;

	(void)data;
	c->f->produced += (long)n;
	if (c->paused_once)
		return;
	c->paused_once = true;
	davit_http_pause_input(r, true);
	davit_timer_start(&c->resume, 300 * DAVIT_NSEC_PER_MSEC);
}

static void count_end(struct davit_http_request *r)
{
	struct count *c = r->user;
	char text[32];

	snprintf(text, sizeof text, "%ld", (long)c->f->produced);
	davit_http_reply(r, 200, "text/plain", text, strlen(text));
	free(c);
}

static void count_closed(struct davit_http_request *r)
{
	struct count *c = r->user;

	c->f->closed++;
	davit_timer_stop(&c->resume);
	free(c);
}

static void count_body(struct fixture *f, struct davit_http_request *r)
{
	struct count *c = calloc(1, sizeof *c);

	c->r = r;
	c->f = f;
	davit_timer_init(&c->resume, f->s.loop, on_resume);
	r->user = c;
	r->input = count_input;
	r->input_end = count_end;
	r->closed = count_closed;
}

static bool streams(void *user, const struct davit_http_request *r)
{
	(void)user;
	return !strncmp(r->target, "/stream", 7);
}

static void handle(void *user, struct davit_http_request *r)
{
	struct fixture *f = user;

	r->user = f;
	if (!strcmp(r->target, "/lines")) {
		davit_http_stream(r, 200, "application/jsonl");
		davit_http_write(r, "one\ntw", 6);
		davit_http_write(r, "o\n\nlast", 7);
		davit_http_end(r);
	} else if (!strcmp(r->target, "/flood")) {
		r->closed = on_closed;
		r->writable = produce;
		davit_http_stream(r, 200, "application/jsonl");
		produce(r);
	} else if (!strcmp(r->target, "/stream")) {
		count_body(f, r);
	} else if (!strcmp(r->target, "/stream-refused")) {
		davit_http_reply(r, 409, "text/plain", "no", 2);
	} else if (!strcmp(r->target, "/broken-off")) {
		davit_http_stream(r, 200, "text/plain");
		davit_http_write(r, "part", 4);
		davit_http_abort(r);
	} else { /* "/raw" */
		r->closed = on_closed;
		r->input = echo_raw;
		davit_http_upgrade(r, "test");
	}
}

static struct fixture *start(const struct davit_http_config *limits)
{
	static const struct davit_http_config handlers = {.handle = handle, .streams = streams};
	struct fixture *f = calloc(1, sizeof *f);

	test_server_run(&f->s, limits, &handlers, f);
	return f;
}

static void stop(struct fixture *f)
{
	test_server_end(&f->s);
	free(f);
}

/* --- tests --- */

static void a_stream_is_read_line_by_line(void **state)
{
	static const char *const want[] = {"one", "two", "", "last"};
	struct fixture *f = start(NULL);
	struct davit_client *c;
	const char *line;
	size_t n;
	int status;

	(void)state;
	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	for (int round = 0; round < 2; round++) {
		struct davit_client_request q = {.target = "/lines"};
		assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(want); i++) {
			assert_int_equal(davit_client_line(c, &line, &n, NULL), 1);
			assert_string_equal(line, want[i]);
			assert_int_equal(n, strlen(want[i]));
		}
		assert_int_equal(davit_client_line(c, &line, &n, NULL), 0);
	}
	davit_client_close(c);
	stop(f);
}

static void a_stream_that_nobody_reads_pauses_its_source(void **state)
{
	struct fixture *f = start(NULL);
	struct davit_client *c;
	long before;
	int status;
	size_t n, lines = 0;
	const char *line;

	(void)state;
	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	assert_int_equal(
		davit_client_send(c, &(struct davit_client_request){.target = "/flood"}, &status, NULL), 0);
	/* What fits: the high-water mark, the kernel's socket buffer, the client's. */
	do {
		before = f->produced;
		usleep(100000);
	} while (f->produced != before);
	assert_true(before > 0 && before < 1024 * 1024);
	/* It goes on when it is read, and the server serves others meanwhile. */
	while (lines < 100000 && davit_client_line(c, &line, &n, NULL) == 1)
		lines++;
	assert_int_equal(lines, 100000);
	assert_true(f->produced > before && f->produced < FLOOD);
	davit_client_close(c);
	test_await(&f->closed, 1);
	stop(f);
}

static void an_upgrade_gives_a_raw_stream_both_ways(void **state)
{
	struct fixture *f = start(NULL);
	struct davit_client *c;
	DAVIT_AUTO_BUF early = DAVIT_BUF_INIT;
	struct davit_client_request q = {
		.method = "POST", .target = "/raw", .body = "{}", .body_len = 2, .upgrade = "test"};
	char data[16] = "";
	DAVIT_AUTO_FREE char *rest = NULL;
	int status, fd;

	(void)state;
	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 101);
	assert_int_equal(davit_client_take_fd(c, &fd, &early, NULL), 0);
	davit_client_close(c);
	assert_int_equal(early.len, 0);
	test_say(fd, "ping");
	assert_int_equal(recv(fd, data, 4, MSG_WAITALL), 4);
	assert_string_equal(data, "ping");
	test_say(fd, "Q");
	rest = test_hear_all(fd);
	assert_string_equal(rest, "bye");
	/* Bytes sent along with the request are the first input. */
	fd = test_dial(&f->s);
	test_say(fd, "POST /raw HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: test\r\nContent-Length: "
		     "2\r\n\r\n{}early");
	shutdown(fd, SHUT_WR);
	test_await(&f->closed, 1);
	close(fd);
	stop(f);
}

static ssize_t produce_zeros(void *user, void *buf, size_t n, struct davit_error *err)
{
	size_t *left = user;

	(void)err;
	n = n < *left ? n : *left;
	memset(buf, 0, n);
	*left -= n;
	return (ssize_t)n;
}

static void a_body_that_streams_waits_for_its_handler_and_has_no_limit(void **state)
{
	struct fixture *f = start(NULL);
	size_t left = 50 * 1024 * 1024;
	const struct davit_client_request q = {
		.method = "PUT", .target = "/stream", .produce = produce_zeros, .user = &left};
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct davit_client *c;
	int status;

	(void)state;
	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 200);
	assert_int_equal(davit_client_body(c, 64, &body, NULL), 0);
	assert_string_equal(davit_buf_str(&body), "52428800");
	/* the connection is good for another one */
	f->produced = 0;
	left = 3;
	davit_buf_reset(&body);
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(davit_client_body(c, 64, &body, NULL), 0);
	assert_string_equal(davit_buf_str(&body), "3");
	davit_client_close(c);
	stop(f);
}

static void a_paused_handler_stops_the_sender(void **state)
{
	struct fixture *f = start(NULL);
	char block[65536] = {0};
	long sent = 0;
	int fd = test_dial(&f->s);

	(void)state;
	test_say(fd, "PUT /stream HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n");
	for (int idle = 0; idle < 3;) {
		ssize_t n = send(fd, block, sizeof block, MSG_NOSIGNAL | MSG_DONTWAIT);
		idle = n > 0 ? 0 : idle + 1;
		sent += n > 0 ? n : 0;
		if (n < 0)
			usleep(20000);
	}
	assert_true(sent < 4 * 1024 * 1024);
	close(fd); /* in the middle of it */
	for (int i = 0; i < 6000 && !f->closed; i++)
		usleep(10000);
	assert_int_equal(f->closed, 1);
	stop(f);
}

static void an_answer_before_the_end_of_the_body_is_heard_and_closes(void **state)
{
	struct fixture *f = start(NULL);
	size_t left = 50 * 1024 * 1024;
	const struct davit_client_request q = {
		.method = "PUT", .target = "/stream-refused", .produce = produce_zeros, .user = &left};
	struct davit_client *c;
	int status;

	(void)state;
	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 409);
	assert_string_equal(davit_client_header(c, "Connection"), "close");
	davit_client_close(c);
	stop(f);
}

static void a_stream_that_is_broken_off_is_no_whole_one(void **state)
{
	struct fixture *f = start(NULL);
	const struct davit_client_request q = {.target = "/broken-off"};
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct davit_client *c;
	int status;

	(void)state;
	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	if (davit_client_send(c, &q, &status, NULL) == 0)
		assert_int_equal(davit_client_body(c, 64, &body, NULL), DAVIT_ECLOSED);
	davit_client_close(c);
	stop(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_is_read_line_by_line),
		cmocka_unit_test(a_stream_that_nobody_reads_pauses_its_source),
		cmocka_unit_test(an_upgrade_gives_a_raw_stream_both_ways),
		cmocka_unit_test(a_body_that_streams_waits_for_its_handler_and_has_no_limit),
		cmocka_unit_test(a_paused_handler_stops_the_sender),
		cmocka_unit_test(an_answer_before_the_end_of_the_body_is_heard_and_closes),
		cmocka_unit_test(a_stream_that_is_broken_off_is_no_whole_one),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
