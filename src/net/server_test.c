/* SPDX-License-Identifier: MIT
 *
 * Requests and connections: the server on a thread of its own against the blocking client and against raw
 * sockets. (What streams is in server_stream_test.c.)
 */
#include "base/units.h"
#include "net/client.h"
#include "net/test_server.h"
#include "net/unix.h"
#include "net/url.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

struct fixture {
	struct test_server s;
	atomic_int closed;
	atomic_int handled;
	int waiting; /* a connection to the socket that was left, not accepted then; or 0 */
};

/* --- the service under test --- */

struct late {
	struct davit_timer timer;
	struct davit_http_request *r;
};

static void answer_late(struct davit_timer *t)
{
	struct late *late = DAVIT_CONTAINER_OF(t, struct late, timer);

	davit_http_reply(late->r, 200, "text/plain", "late", 4);
	free(late);
}

static void on_closed(struct davit_http_request *r)
{
	struct fixture *f = r->user;

	f->closed++;
}

/* The socket's name goes to another one, while somebody waits at this. */
static void move(struct fixture *f)
{
	int fd;

	f->waiting = test_dial(&f->s);
	assert_int_equal(unlink(f->s.path), 0);
	assert_int_equal(davit_unix_listen(f->s.path, &fd, NULL), 0);
	assert_int_equal(davit_http_server_move(f->s.server, fd, NULL), 0);
}

static void handle(void *user, struct davit_http_request *r)
{
	struct fixture *f = user;

	f->handled++;
	r->user = f;
	if (!strcmp(r->target, "/echo")) {
		davit_http_add_header(r, "Echoed", davit_http_header(r, "X-Word") ? "yes" : "no");
		davit_http_reply(r, 200, "text/plain", r->body.data, r->body.len);
	} else if (!strcmp(r->target, "/late")) {
		struct late *late = calloc(1, sizeof *late);
		late->r = r;
		davit_timer_init(&late->timer, f->s.loop, answer_late);
		davit_timer_start(&late->timer, 50 * DAVIT_NSEC_PER_MSEC);
	} else if (!strcmp(r->target, "/move")) {
		move(f);
		davit_http_reply(r, 200, "text/plain", "moved", 5);
	} else if (!strcmp(r->target, "/held")) {
		r->closed = on_closed;
	} else {
		struct davit_error err;
		davit_error_set(&err, DAVIT_ENOENT, "path", "no such path: %s", r->target);
		davit_http_reply_error(r, 0, &err);
	}
}

static struct fixture *start(const struct davit_http_config *limits)
{
	static const struct davit_http_config handlers = {.handle = handle};
	struct fixture *f = calloc(1, sizeof *f);

	test_server_run(&f->s, limits, &handlers, f);
	return f;
}

static void stop(struct fixture *f)
{
	test_server_end(&f->s);
	free(f);
}

static size_t count(const char *text, const char *word)
{
	size_t n = 0;

	for (; (text = strstr(text, word)); text++)
		n++;
	return n;
}

static void refused(struct fixture *f, const char *request, const char *status)
{
	int fd = test_dial(&f->s);
	DAVIT_AUTO_FREE char *answer = NULL;

	test_say(fd, request);
	answer = test_hear_all(fd);
	if (strncmp(answer, status, strlen(status)) || !strstr(answer, "{\"error\":{\"code\":"))
		fail_msg("%s\n  was answered with\n%s", request, answer);
}

/* --- tests --- */

static void one_connection_serves_many_requests(void **state)
{
	struct fixture *f = start(NULL);
	struct davit_client *c;
	struct davit_client_header word = {"X-Word", "w"};
	int status;

	(void)state;
	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	for (int i = 0; i < 100; i++) {
		DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
		struct davit_client_request q = {.method = "POST",
						 .target = "/echo",
						 .body = "hello",
						 .body_len = 5,
						 .headers = &word,
						 .n_headers = i % 2};
		assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
		assert_int_equal(status, 200);
		assert_string_equal(davit_client_header(c, "echoed"), i % 2 ? "yes" : "no");
		assert_int_equal(davit_client_body(c, 100, &body, NULL), 0);
		assert_string_equal(body.data, "hello");
	}
	assert_int_equal(davit_http_connections(f->s.server), 1);
	davit_client_close(c);
	stop(f);
}

static void answered(int fd, const char *request, const char *body)
{
	DAVIT_AUTO_FREE char *answer = NULL;

	test_say(fd, request);
	answer = test_hear_all(fd);
	assert_int_equal(strncmp(answer, "HTTP/1.1 200", 12), 0);
	assert_non_null(strstr(answer, body));
}

static void a_server_that_moves_to_another_socket_loses_no_connection(void **state)
{
	struct fixture *f = start(NULL);
	int fd = test_dial(&f->s);

	(void)state;
	answered(fd, "GET /move HTTP/1.1\r\n\r\nGET /late HTTP/1.1\r\nConnection: close\r\n\r\n", "late");
	answered(f->waiting, "GET /late HTTP/1.1\r\nConnection: close\r\n\r\n", "late");
	answered(test_dial(&f->s), "GET /late HTTP/1.1\r\nConnection: close\r\n\r\n", "late");
	stop(f);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct fixture *f = start(NULL);
	int fd = test_dial(&f->s);
	DAVIT_AUTO_FREE char *answer = NULL;
	const char *late, *gone;

	(void)state;
	test_say(fd,
		 "GET /late HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
		 "GET /gone HTTP/1.1\r\nConnection: close\r\n\r\nGET /echo HTTP/1.1\r\n\r\n");
	answer = test_hear_all(fd);
	late = strstr(answer, "\r\n\r\nlate");
	gone = strstr(answer, "no such path: /gone");
	assert_non_null(late);
	assert_non_null(gone);
	assert_true(late < strstr(answer, "abc") && strstr(answer, "abc") < gone);
	assert_int_equal(count(answer, "HTTP/1.1 "), 3);
	stop(f);
}

static void a_chunked_body_arrives_whole_byte_by_byte(void **state)
{
	static const char text[] =
		"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
		"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
	struct fixture *f = start(NULL);
	int fd = test_dial(&f->s);
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof text - 1; i++)
		assert_int_equal(write(fd, text + i, 1), 1);
	answer = test_hear_all(fd);
	assert_non_null(strstr(answer, "\r\n\r\nabcdefg"));
	stop(f);
}

static void trailers_do_not_disturb_the_request(void **state)
{
	struct fixture *f = start(NULL);
	int fd = test_dial(&f->s);
	char text[4096];
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	snprintf(text, sizeof text,
		 "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
		 "3\r\nabc\r\n0\r\nX-Word: %03000d\r\n\r\n",
		 0);
	test_say(fd, text);
	answer = test_hear_all(fd);
	assert_non_null(strstr(answer, "Echoed: no"));
	assert_non_null(strstr(answer, "\r\n\r\nabc"));
	stop(f);
}

static void a_body_of_four_megabytes_passes_and_one_byte_more_does_not(void **state)
{
	enum { MAX = 4 * 1024 * 1024 };
	struct fixture *f = start(NULL);
	char *big = malloc(MAX + 1);
	int status;

	(void)state;
	memset(big, 'x', MAX + 1);
	for (size_t extra = 0; extra < 2; extra++) {
		DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
		struct davit_client *c;
		struct davit_client_request q = {
			.method = "POST", .target = "/echo", .body = big, .body_len = MAX + extra};
		assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
		assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
		assert_int_equal(status, extra ? 413 : 200);
		assert_int_equal(davit_client_body(c, MAX, &body, NULL), 0);
		assert_true(extra ? strstr(body.data, "too large") != NULL : body.len == MAX);
		davit_client_close(c);
	}
	free(big);
	stop(f);
}

static void malformed_requests_are_refused_and_others_go_on(void **state)
{
	struct fixture *f = start(&(struct davit_http_config){.max_head = 2048, .max_body = 64});
	char text[5000];
	struct davit_client *c;
	int status;

	(void)state;
	refused(f, "hello\r\n\r\n", "HTTP/1.1 400 ");
	refused(f, "GET /echo\r\n\r\n", "HTTP/1.1 400 ");
	refused(f, "GET /echo HTTP/2.0\r\n\r\n", "HTTP/1.1 505 ");
	refused(f, "GET http://other/echo HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
	refused(f, "GET /echo HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400 ");
	refused(f, "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 ");
	refused(f, "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 400 ");
	refused(f, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 400 ");
	refused(f, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 ");
	refused(f, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n", "HTTP/1.1 413 ");
	refused(f, "POST /echo HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", "HTTP/1.1 413 ");
	refused(f, "POST /echo HTTP/1.1\r\nExpect: magic\r\n\r\n", "HTTP/1.1 417 ");
	snprintf(text, sizeof text, "GET /echo HTTP/1.1\r\nX: %04000d\r\n\r\n", 0);
	refused(f, text, "HTTP/1.1 431 ");
	snprintf(text, sizeof text, "GET /%04000d HTTP/1.1\r\n\r\n", 0);
	refused(f, text, "HTTP/1.1 431 ");
	assert_int_equal(f->handled, 0);
	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	assert_int_equal(
		davit_client_send(c, &(struct davit_client_request){.target = "/echo"}, &status, NULL), 0);
	assert_int_equal(status, 200);
	davit_client_close(c);
	stop(f);
}

static void a_client_that_waits_for_continue_gets_it(void **state)
{
	struct fixture *f = start(NULL);
	int fd = test_dial(&f->s);
	char data[256] = "";
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	test_say(fd, "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: "
		     "2\r\n\r\n");
	assert_true(read(fd, data, sizeof data - 1) > 0);
	assert_string_equal(data, "HTTP/1.1 100 Continue\r\n\r\n");
	test_say(fd, "ok");
	answer = test_hear_all(fd);
	assert_non_null(strstr(answer, "\r\n\r\nok"));
	stop(f);
}

static void a_handler_hears_of_a_client_that_goes(void **state)
{
	struct fixture *f = start(NULL);
	int fd = test_dial(&f->s);

	(void)state;
	test_say(fd, "GET /held HTTP/1.1\r\n\r\n");
	test_await(&f->handled, 1);
	assert_int_equal(f->closed, 0);
	close(fd);
	test_await(&f->closed, 1);
	/* One that does not want to hear answers into the void. */
	fd = test_dial(&f->s);
	test_say(fd, "GET /late HTTP/1.1\r\n\r\n");
	test_await(&f->handled, 2);
	close(fd);
	for (int i = 0; i < 60000 && davit_http_connections(f->s.server); i++)
		usleep(1000);
	assert_int_equal(davit_http_connections(f->s.server), 0);
	stop(f);
}

static void a_half_closed_client_gets_its_answer(void **state)
{
	struct fixture *f = start(NULL);
	int fd = test_dial(&f->s);
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	test_say(fd, "GET /late HTTP/1.1\r\n\r\n");
	shutdown(fd, SHUT_WR);
	answer = test_hear_all(fd);
	assert_non_null(strstr(answer, "late"));
	stop(f);
}

static void slow_and_silent_clients_are_closed(void **state)
{
	struct fixture *f = start(&(struct davit_http_config){
		/* Long enough for a busy machine to begin, and to send what is big. */
		.idle_timeout = 500 * DAVIT_NSEC_PER_MSEC,
		.request_timeout = 1500 * DAVIT_NSEC_PER_MSEC,
		.write_timeout = 100 * DAVIT_NSEC_PER_MSEC,
	});
	char *big = malloc(500001);
	int silent = test_dial(&f->s), reader;
	DAVIT_AUTO_FREE char *answer = test_hear_all(silent);

	(void)state;
	assert_string_equal(answer, "");
	refused(f, "POST /echo HTTP/1.1\r\nContent-Le", "HTTP/1.1 408 ");
	/* An answer that is not taken: twice what a socket holds. */
	reader = test_dial(&f->s);
	memset(big, 'x', 500000);
	big[500000] = '\0';
	test_say(reader, "POST /echo HTTP/1.1\r\nContent-Length: 500000\r\n\r\n");
	test_say(reader, big);
	for (int i = 0; i < 60000 && davit_http_connections(f->s.server); i++)
		usleep(1000);
	assert_int_equal(davit_http_connections(f->s.server), 0);
	close(reader);
	free(big);
	stop(f);
}

static void connections_above_the_limit_get_503(void **state)
{
	struct fixture *f = start(&(struct davit_http_config){.max_connections = 3});
	int fds[3], fd;
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	for (int i = 0; i < 3; i++)
		fds[i] = test_dial(&f->s);
	fd = test_dial(&f->s);
	answer = test_hear_all(fd);
	assert_non_null(strstr(answer, "HTTP/1.1 503 "));
	assert_non_null(strstr(answer, "too many connections"));
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	for (int i = 0; i < 60000 && davit_http_connections(f->s.server); i++)
		usleep(1000);
	fd = test_dial(&f->s);
	test_say(fd, "GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n");
	free(answer);
	answer = test_hear_all(fd);
	assert_non_null(strstr(answer, "HTTP/1.1 200 "));
	stop(f);
}

static void another_user_is_refused_even_when_the_mode_lets_it_in(void **state)
{
	struct fixture *f = start(NULL);
	struct stat st;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(stat(f->s.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	if (geteuid() != 0) {
		stop(f);
		skip();
	}
	assert_int_equal(chmod(f->s.path, 0666) | chmod(f->s.dir, 0755), 0);
	pid = fork();
	if (pid == 0) {
		char data[1000] = "";
		int fd;
		if (setuid(65534) < 0 || davit_unix_connect(f->s.path, &fd, NULL) < 0)
			_exit(2);
		for (size_t at = 0; at < sizeof data - 1;) {
			ssize_t n = read(fd, data + at, sizeof data - 1 - at);
			if (n <= 0)
				break;
			at += (size_t)n;
		}
		_exit(strstr(data, "HTTP/1.1 403 ") && strstr(data, "\"forbidden\"") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(f->handled, 0);
	stop(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_connection_serves_many_requests),
		cmocka_unit_test(a_server_that_moves_to_another_socket_loses_no_connection),
		cmocka_unit_test(pipelined_requests_are_answered_in_order),
		cmocka_unit_test(a_chunked_body_arrives_whole_byte_by_byte),
		cmocka_unit_test(trailers_do_not_disturb_the_request),
		cmocka_unit_test(a_body_of_four_megabytes_passes_and_one_byte_more_does_not),
		cmocka_unit_test(malformed_requests_are_refused_and_others_go_on),
		cmocka_unit_test(a_client_that_waits_for_continue_gets_it),
		cmocka_unit_test(a_handler_hears_of_a_client_that_goes),
		cmocka_unit_test(a_half_closed_client_gets_its_answer),
		cmocka_unit_test(slow_and_silent_clients_are_closed),
		cmocka_unit_test(connections_above_the_limit_get_503),
		cmocka_unit_test(another_user_is_refused_even_when_the_mode_lets_it_in),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
