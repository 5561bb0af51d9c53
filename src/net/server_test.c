/* SPDX-License-Identifier: MIT
 *
 * The server on a thread of its own against the blocking client and against
 * raw sockets.
 */
#include "base/file.h"
#include "base/units.h"
#include "net/client.h"
#include "net/server.h"
#include "net/unix.h"
#include "net/url.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <uv.h>

#include <cmocka.h>

enum { FLOOD = 256 * 1024 * 1024 };

struct fixture {
	char dir[64];
	char path[96];
	struct davit_loop *loop;
	struct davit_http_server *server;
	uv_async_t stop;
	pthread_t thread;
	atomic_long produced;
	atomic_int closed;
	atomic_int handled;
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
	davit_timer_init(&c->resume, f->loop, on_resume);
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

	f->handled++;
	r->user = f;
	if (!strcmp(r->target, "/echo")) {
		davit_http_add_header(r, "Echoed", davit_http_header(r, "X-Word") ? "yes" : "no");
		davit_http_reply(r, 200, "text/plain", r->body.data, r->body.len);
	} else if (!strcmp(r->target, "/late")) {
		struct late *late = calloc(1, sizeof *late);
		late->r = r;
		davit_timer_init(&late->timer, f->loop, answer_late);
		davit_timer_start(&late->timer, 50 * DAVIT_NSEC_PER_MSEC);
	} else if (!strcmp(r->target, "/lines")) {
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
	} else if (!strcmp(r->target, "/held")) {
		r->closed = on_closed;
	} else if (!strcmp(r->target, "/raw")) {
		r->closed = on_closed;
		r->input = echo_raw;
		davit_http_upgrade(r, "test");
	} else {
		struct davit_error err;
		davit_error_set(&err, DAVIT_ENOENT, "path", "no such path: %s", r->target);
		davit_http_reply_error(r, 0, &err);
	}
}

static void on_stop(uv_async_t *a)
{
	struct fixture *f = a->data;

	davit_http_server_free(f->server);
	uv_close((uv_handle_t *)a, NULL);
}

static void *serve(void *user)
{
	struct fixture *f = user;

	davit_loop_run(f->loop);
	return NULL;
}

static struct fixture *start(const struct davit_http_config *limits)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct davit_http_config config = limits ? *limits : (struct davit_http_config){0};
	int fd;

	strcpy(f->dir, "/tmp/davit-net-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/s.sock", f->dir);
	assert_int_equal(davit_loop_open(&f->loop, NULL), 0);
	config.loop = f->loop;
	config.handle = handle;
	config.streams = streams;
	config.user = f;
	assert_int_equal(davit_unix_listen(f->path, &fd, NULL), 0);
	assert_int_equal(davit_http_server_new(&config, fd, &f->server, NULL), 0);
	f->stop.data = f;
	assert_int_equal(uv_async_init(davit_loop_uv(f->loop), &f->stop, on_stop), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
	return f;
}

static void stop(struct fixture *f)
{
	uv_async_send(&f->stop);
	pthread_join(f->thread, NULL);
	davit_loop_close(f->loop);
	assert_int_equal(davit_remove_tree(f->dir, NULL), 0);
	free(f);
}

/* --- raw clients --- */

static int dial(struct fixture *f)
{
	int fd;

	assert_int_equal(davit_unix_connect(f->path, &fd, NULL), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads to the end of the connection, at most 5 s for each piece. */
static char *hear_all(int fd)
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

static size_t count(const char *text, const char *word)
{
	size_t n = 0;

	for (; (text = strstr(text, word)); text++)
		n++;
	return n;
}

static void await(atomic_int *v, int want)
{
	for (int i = 0; i < 60000 && *v != want; i++)
		usleep(1000);
	assert_int_equal(*v, want);
}

static void refused(struct fixture *f, const char *request, const char *status)
{
	int fd = dial(f);
	DAVIT_AUTO_FREE char *answer = NULL;

	say(fd, request);
	answer = hear_all(fd);
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
	assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
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
	assert_int_equal(davit_http_connections(f->server), 1);
	davit_client_close(c);
	stop(f);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct fixture *f = start(NULL);
	int fd = dial(f);
	DAVIT_AUTO_FREE char *answer = NULL;
	const char *late, *gone;

	(void)state;
	say(fd, "GET /late HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
		"GET /gone HTTP/1.1\r\nConnection: close\r\n\r\nGET /echo HTTP/1.1\r\n\r\n");
	answer = hear_all(fd);
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
	int fd = dial(f);
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof text - 1; i++)
		assert_int_equal(write(fd, text + i, 1), 1);
	answer = hear_all(fd);
	assert_non_null(strstr(answer, "\r\n\r\nabcdefg"));
	stop(f);
}

static void trailers_do_not_disturb_the_request(void **state)
{
	struct fixture *f = start(NULL);
	int fd = dial(f);
	char text[4096];
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	snprintf(text, sizeof text,
		 "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
		 "3\r\nabc\r\n0\r\nX-Word: %03000d\r\n\r\n",
		 0);
	say(fd, text);
	answer = hear_all(fd);
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
		assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
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
	assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
	assert_int_equal(
		davit_client_send(c, &(struct davit_client_request){.target = "/echo"}, &status, NULL), 0);
	assert_int_equal(status, 200);
	davit_client_close(c);
	stop(f);
}

static void a_client_that_waits_for_continue_gets_it(void **state)
{
	struct fixture *f = start(NULL);
	int fd = dial(f);
	char data[256] = "";
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	say(fd,
	    "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n");
	assert_true(read(fd, data, sizeof data - 1) > 0);
	assert_string_equal(data, "HTTP/1.1 100 Continue\r\n\r\n");
	say(fd, "ok");
	answer = hear_all(fd);
	assert_non_null(strstr(answer, "\r\n\r\nok"));
	stop(f);
}

static void a_stream_is_read_line_by_line(void **state)
{
	static const char *const want[] = {"one", "two", "", "last"};
	struct fixture *f = start(NULL);
	struct davit_client *c;
	const char *line;
	size_t n;
	int status;

	(void)state;
	assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
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
	assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
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
	await(&f->closed, 1);
	stop(f);
}

static void a_handler_hears_of_a_client_that_goes(void **state)
{
	struct fixture *f = start(NULL);
	int fd = dial(f);

	(void)state;
	say(fd, "GET /held HTTP/1.1\r\n\r\n");
	await(&f->handled, 1);
	assert_int_equal(f->closed, 0);
	close(fd);
	await(&f->closed, 1);
	/* One that does not want to hear answers into the void. */
	fd = dial(f);
	say(fd, "GET /late HTTP/1.1\r\n\r\n");
	await(&f->handled, 2);
	close(fd);
	for (int i = 0; i < 60000 && davit_http_connections(f->server); i++)
		usleep(1000);
	assert_int_equal(davit_http_connections(f->server), 0);
	stop(f);
}

static void a_half_closed_client_gets_its_answer(void **state)
{
	struct fixture *f = start(NULL);
	int fd = dial(f);
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	say(fd, "GET /late HTTP/1.1\r\n\r\n");
	shutdown(fd, SHUT_WR);
	answer = hear_all(fd);
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
	char *big = malloc(4000001);
	int silent = dial(f), reader;
	DAVIT_AUTO_FREE char *answer = hear_all(silent);

	(void)state;
	assert_string_equal(answer, "");
	refused(f, "POST /echo HTTP/1.1\r\nContent-Le", "HTTP/1.1 408 ");
	/* An answer that is not taken. */
	reader = dial(f);
	memset(big, 'x', 4000000);
	big[4000000] = '\0';
	say(reader, "POST /echo HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n");
	say(reader, big);
	for (int i = 0; i < 60000 && davit_http_connections(f->server); i++)
		usleep(1000);
	assert_int_equal(davit_http_connections(f->server), 0);
	close(reader);
	free(big);
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
	assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 101);
	assert_int_equal(davit_client_take_fd(c, &fd, &early, NULL), 0);
	davit_client_close(c);
	assert_int_equal(early.len, 0);
	say(fd, "ping");
	assert_int_equal(recv(fd, data, 4, MSG_WAITALL), 4);
	assert_string_equal(data, "ping");
	say(fd, "Q");
	rest = hear_all(fd);
	assert_string_equal(rest, "bye");
	/* Bytes sent along with the request are the first input. */
	fd = dial(f);
	say(fd,
	    "POST /raw HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: test\r\nContent-Length: 2\r\n\r\n{}early");
	shutdown(fd, SHUT_WR);
	await(&f->closed, 1);
	close(fd);
	stop(f);
}

static void connections_above_the_limit_get_503(void **state)
{
	struct fixture *f = start(&(struct davit_http_config){.max_connections = 3});
	int fds[3], fd;
	DAVIT_AUTO_FREE char *answer = NULL;

	(void)state;
	for (int i = 0; i < 3; i++)
		fds[i] = dial(f);
	fd = dial(f);
	answer = hear_all(fd);
	assert_non_null(strstr(answer, "HTTP/1.1 503 "));
	assert_non_null(strstr(answer, "too many connections"));
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	for (int i = 0; i < 60000 && davit_http_connections(f->server); i++)
		usleep(1000);
	fd = dial(f);
	say(fd, "GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n");
	free(answer);
	answer = hear_all(fd);
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
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	if (geteuid() != 0) {
		stop(f);
		skip();
	}
	assert_int_equal(chmod(f->path, 0666) | chmod(f->dir, 0755), 0);
	pid = fork();
	if (pid == 0) {
		char data[1000] = "";
		int fd;
		if (setuid(65534) < 0 || davit_unix_connect(f->path, &fd, NULL) < 0)
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
	assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
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
	int fd = dial(f);

	(void)state;
	say(fd, "PUT /stream HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n");
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
	assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
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
	assert_int_equal(davit_client_open(f->path, &c, NULL), 0);
	if (davit_client_send(c, &q, &status, NULL) == 0)
		assert_int_equal(davit_client_body(c, 64, &body, NULL), DAVIT_ECLOSED);
	davit_client_close(c);
	stop(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_connection_serves_many_requests),
		cmocka_unit_test(pipelined_requests_are_answered_in_order),
		cmocka_unit_test(a_chunked_body_arrives_whole_byte_by_byte),
		cmocka_unit_test(trailers_do_not_disturb_the_request),
		cmocka_unit_test(a_body_of_four_megabytes_passes_and_one_byte_more_does_not),
		cmocka_unit_test(malformed_requests_are_refused_and_others_go_on),
		cmocka_unit_test(a_client_that_waits_for_continue_gets_it),
		cmocka_unit_test(a_stream_is_read_line_by_line),
		cmocka_unit_test(a_stream_that_nobody_reads_pauses_its_source),
		cmocka_unit_test(a_handler_hears_of_a_client_that_goes),
		cmocka_unit_test(a_half_closed_client_gets_its_answer),
		cmocka_unit_test(slow_and_silent_clients_are_closed),
		cmocka_unit_test(an_upgrade_gives_a_raw_stream_both_ways),
		cmocka_unit_test(connections_above_the_limit_get_503),
		cmocka_unit_test(another_user_is_refused_even_when_the_mode_lets_it_in),
		cmocka_unit_test(a_body_that_streams_waits_for_its_handler_and_has_no_limit),
		cmocka_unit_test(a_paused_handler_stops_the_sender),
		cmocka_unit_test(an_answer_before_the_end_of_the_body_is_heard_and_closes),
		cmocka_unit_test(a_stream_that_is_broken_off_is_no_whole_one),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
