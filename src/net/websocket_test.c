/* SPDX-License-Identifier: MIT
 *
 * WebSocket on the server, on a thread of its own, against frames made by hand
 * and against the blocking client.
 */
#include "net/websocket.h"

#include "base/units.h"
#include "net/test_server.h"
#include "net/unix.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { FLOOD = 32 * 1024 * 1024, LIMIT = 100 * 1000 };

/* --- the service under test: gives back what it gets; words have meanings --- */

struct fixture {
	struct test_server s;
	struct davit_websocket *ws;
	struct davit_timer resume;
	bool flooding;
	atomic_long produced;
	atomic_int closed; /* the code, once it has */
	atomic_int messages;
};

static void produce(struct fixture *f)
{
	static const char block[8192];

	while (f->flooding && f->produced < FLOOD) {
		f->produced += (long)sizeof block;
		if (!davit_websocket_send(f->ws, false, block, sizeof block))
			return;
	}
	if (f->flooding)
		davit_websocket_close(f->ws, DAVIT_WEBSOCKET_NORMAL, "that was all");
	f->flooding = false;
}

static void on_message(void *user, bool text, const void *data, size_t n)
{
	struct fixture *f = user;

	f->messages++;
	if (text && n == 5 && !memcmp(data, "flood", 5)) {
		f->flooding = true;
		produce(f);
	} else if (text && n == 5 && !memcmp(data, "pause", 5)) {
		davit_websocket_pause(f->ws, true);
		davit_timer_start(&f->resume, 1500 * DAVIT_NSEC_PER_MSEC);
	} else if (text && n == 3 && !memcmp(data, "bye", 3)) {
		davit_websocket_close(f->ws, DAVIT_WEBSOCKET_GOING_AWAY, "as asked");
	} else {
		davit_websocket_send(f->ws, text, data, n);
	}
}

static void on_resume(struct davit_timer *t)
{
	davit_websocket_pause(DAVIT_CONTAINER_OF(t, struct fixture, resume)->ws, false);
}

static void on_writable(void *user)
{
	produce(user);
}

static void on_closed(void *user, unsigned code)
{
	struct fixture *f = user;

	f->flooding = false;
	f->closed = (int)code;
}

static void handle(void *user, struct davit_http_request *r)
{
	struct fixture *f = user;
	struct davit_websocket_config config = {.loop = f->s.loop,
						.max_message = LIMIT,
						.user = f,
						.message = on_message,
						.writable = on_writable,
						.closed = on_closed};
	struct davit_error err = {0};

	if (davit_websocket_check(r, &err) < 0)
		davit_websocket_refuse(r, &err);
	else
		assert_int_equal(davit_websocket_new(r, &config, &f->ws, NULL), 0);
}

static void on_ending(struct test_server *s)
{
	davit_timer_stop(&DAVIT_CONTAINER_OF(s, struct fixture, s)->resume);
}

static int start(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	test_server_open(&f->s);
	f->s.ending = on_ending;
	davit_timer_init(&f->resume, f->s.loop, on_resume);
	test_server_start(&f->s, &(struct davit_http_config){.handle = handle, .user = f});
	*state = f;
	return 0;
}

static int finish(void **state)
{
	struct fixture *f = *state;

	test_server_end(&f->s);
	free(f);
	return 0;
}

/* --- by hand --- */

#define HANDSHAKE                                                                                            \
	"GET /x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"            \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

static void send_bytes(int fd, const void *data, size_t n)
{
	assert_int_equal(send(fd, data, n, MSG_NOSIGNAL), n);
}

/* Reads exactly n bytes, each within a minute. */
static void read_bytes(int fd, void *data, size_t n)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (size_t got = 0; got < n;) {
		ssize_t r;
		assert_int_equal(poll(&p, 1, 60000), 1);
		r = read(fd, (char *)data + got, n - got);
		assert_true(r > 0);
		got += (size_t)r;
	}
}

static char *read_head(int fd, char *head, size_t size)
{
	size_t n = 0;

	do
		read_bytes(fd, head + n++, 1);
	while (n < size - 1 && (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0));
	head[n] = '\0';
	return head;
}

static int connect_ws(struct fixture *f)
{
	char head[1024];
	int fd;

	fd = test_dial(&f->s);
	send_bytes(fd, HANDSHAKE, sizeof HANDSHAKE - 1);
	assert_non_null(strstr(read_head(fd, head, sizeof head), "HTTP/1.1 101 "));
	assert_non_null(strstr(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	return fd;
}

/* A masked frame with fewer than 126 bytes. */
static void send_frame(int fd, unsigned first, const char *payload)
{
	static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	unsigned char frame[140];
	size_t n = strlen(payload);

	frame[0] = (unsigned char)first;
	frame[1] = (unsigned char)(0x80 | n);
	memcpy(frame + 2, mask, 4);
	for (size_t i = 0; i < n; i++)
		frame[6 + i] = (unsigned char)payload[i] ^ mask[i % 4];
	send_bytes(fd, frame, 6 + n);
}

static void expect_frame(int fd, unsigned first, const char *payload)
{
	unsigned char head[2];
	char data[126];

	read_bytes(fd, head, 2);
	assert_int_equal(head[0], first);
	assert_int_equal(head[1], strlen(payload)); /* a server never masks */
	read_bytes(fd, data, head[1]);
	assert_memory_equal(data, payload, head[1]);
}

static void expect_close(int fd, unsigned code)
{
	unsigned char head[2], data[126];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;

	read_bytes(fd, head, 2);
	assert_int_equal(head[0], 0x88);
	read_bytes(fd, data, head[1]);
	if (head[1]) /* libwslay names no reason for a malformed header */
		assert_int_equal(data[0] << 8 | data[1], code);
	else
		assert_int_equal(code, DAVIT_WEBSOCKET_PROTOCOL);
	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(read(fd, &byte, 1), 0);
	close(fd);
}

static void wait_closed(struct fixture *f, int code)
{
	for (int i = 0; i < 6000 && !f->closed; i++)
		usleep(10000);
	assert_int_equal(f->closed, code);
}

/* --- tests --- */

static void the_handshake_gives_the_key_of_the_rfc(void **state)
{
	char accept[DAVIT_WEBSOCKET_ACCEPT_MAX];

	(void)state;
	davit_websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ==", accept);
	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void what_is_no_websocket_is_refused_with_what_is_wanted(void **state)
{
	static const char *const bad[] = {
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: short\r\n\r\n",
		"POST / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
		"13\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	};
	struct fixture *f = *state;
	char head[1024];

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		int fd;
		assert_int_equal(davit_unix_connect(f->s.path, &fd, NULL), 0);
		send_bytes(fd, bad[i], strlen(bad[i]));
		read_head(fd, head, sizeof head);
		assert_non_null(strstr(head, "HTTP/1.1 426 "));
		assert_non_null(strstr(head, "Upgrade: websocket\r\n"));
		assert_non_null(strstr(head, "Sec-WebSocket-Version: 13\r\n"));
		close(fd);
	}
}

static void messages_come_whole_however_they_are_cut(void **state)
{
	struct fixture *f = *state;
	int fd = connect_ws(f);

	send_frame(fd, 0x81, "hello");
	expect_frame(fd, 0x81, "hello");
	send_frame(fd, 0x02, "frag");
	send_frame(fd, 0x89, "are you there"); /* between the fragments */
	expect_frame(fd, 0x8a, "are you there");
	send_frame(fd, 0x00, "men");
	send_frame(fd, 0x80, "ted");
	expect_frame(fd, 0x82, "fragmented");
	send_frame(fd, 0x81, "");
	expect_frame(fd, 0x81, "");
	/* byte after byte: the frame of "hi" */
	for (const char *p = "\x81\x82\x01\x02\x03\x04ik"; *p; p++) {
		send_bytes(fd, p, 1);
		usleep(1000);
	}
	expect_frame(fd, 0x81, "hi");
	send_frame(fd, 0x88, "\x03\xe8");
	expect_close(fd, 1000);
	wait_closed(f, 1000);
}

static void violations_close_with_their_code(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		unsigned code;
	} cases[] = {
		{"\x81\x02hi", 4, 1002},				   /* not masked */
		{"\xc1\x82\x01\x02\x03\x04ik", 8, 1002},		   /* a reserved bit */
		{"\x83\x80\x01\x02\x03\x04", 6, 1002},			   /* a reserved opcode */
		{"\x80\x80\x01\x02\x03\x04", 6, 1002},			   /* goes on with nothing */
		{"\x09\x80\x01\x02\x03\x04", 6, 1002},			   /* a control frame in pieces */
		{"\x89\xfe\x00\x7e\x01\x02\x03\x04", 8, 1002},		   /* or too long */
		{"\x81\x82\x00\x00\x00\x00\xc3\x28", 8, 1007},		   /* text that is no UTF-8 */
		{"\x82\xff\0\0\0\0\x10\0\0\0\x01\x02\x03\x04x", 15, 1009}, /* 256 MiB to come */
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		int fd = connect_ws(f);
		f->closed = 0;
		send_bytes(fd, cases[i].bytes, cases[i].n);
		expect_close(fd, cases[i].code);
		wait_closed(f, (int)cases[i].code);
	}
}

static void a_client_that_goes_without_a_word_is_noticed(void **state)
{
	struct fixture *f = *state;

	close(connect_ws(f));
	wait_closed(f, DAVIT_WEBSOCKET_LOST);
}

static void the_owner_closes_and_waits_for_the_answer(void **state)
{
	struct fixture *f = *state;
	unsigned char head[4];
	struct pollfd p;
	int fd = connect_ws(f);
	char byte, reason[8];

	send_frame(fd, 0x81, "bye");
	read_bytes(fd, head, 4);
	assert_memory_equal(head, "\x88\x0a\x03\xe9", 4);
	read_bytes(fd, reason, 8);
	assert_memory_equal(reason, "as asked", 8);
	p = (struct pollfd){.fd = fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 50), 0); /* it waits */
	send_frame(fd, 0x88, "\x03\xe9");
	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(read(fd, &byte, 1), 0);
	assert_int_equal(f->closed, 0); /* the owner is not told of what it did */
	close(fd);
}

static void a_reader_that_does_not_read_stops_the_producer(void **state)
{
	struct fixture *f = *state;
	int fd = connect_ws(f);
	char data[65536];
	long before, total = 0;

	send_frame(fd, 0x81, "flood");
	do {
		before = f->produced;
		usleep(200000);
	} while (before != f->produced || before == 0);
	assert_true(before < 4 * 1024 * 1024);
	/* but what it says is heard */
	send_frame(fd, 0x81, "x");
	for (int i = 0; i < 6000 && f->messages < 2; i++)
		usleep(10000);
	assert_int_equal(f->messages, 2);
	for (ssize_t n; total < FLOOD && (n = read(fd, data, sizeof data)) > 0;)
		total += n;
	assert_true(total >= FLOOD);
	close(fd);
}

static void pings_of_one_who_does_not_read_the_answers_are_not_piled_up(void **state)
{
	struct fixture *f = *state;
	int fd = connect_ws(f);
	char frame[131] = "\x89\xfd";
	size_t sent = 0;

	send_frame(fd, 0x81, "flood"); /* the way back is full */
	for (int idle = 0; idle < 3 && sent < FLOOD;) {
		ssize_t n = send(fd, frame + sent % 131, 131 - sent % 131, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			sent += (size_t)n;
			idle = 0;
		} else {
			usleep(50000);
			idle++;
		}
	}
	assert_true(sent < 4 * 1024 * 1024);
	close(fd);
	wait_closed(f, DAVIT_WEBSOCKET_LOST);
}

static void a_paused_owner_gets_nothing_and_then_all(void **state)
{
	struct fixture *f = *state;
	int fd = connect_ws(f);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	send_frame(fd, 0x81, "pause");
	usleep(50000);
	send_frame(fd, 0x81, "one");
	send_frame(fd, 0x81, "two");
	assert_int_equal(poll(&p, 1, 100), 0);
	expect_frame(fd, 0x81, "one");
	expect_frame(fd, 0x81, "two");
	close(fd);
}

/* --- the client --- */

struct heard {
	struct davit_buf data;
	bool text;
	int n;
};

static int hear(void *user, bool text, const void *data, size_t n, struct davit_error *err)
{
	struct heard *h = user;

	(void)err;
	davit_buf_add(&h->data, data, n);
	h->text = text;
	h->n++;
	return 0;
}

static struct davit_websocket_client *open_client(struct fixture *f)
{
	struct davit_websocket_client *ws = NULL;
	struct davit_client *c;
	struct davit_error err = {0};
	int status;

	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	assert_int_equal(davit_websocket_open(c, "/x", "test", 1 << 20, &ws, &status, &err), 0);
	assert_int_equal(status, 101);
	assert_non_null(ws);
	davit_client_close(c);
	return ws;
}

static int turn(struct davit_websocket_client *ws, struct heard *h, unsigned *code, struct davit_error *err)
{
	struct pollfd p = {.fd = davit_websocket_fd(ws), .events = POLLIN};

	if (davit_websocket_pending(ws))
		p.events |= POLLOUT;
	assert_int_equal(poll(&p, 1, 60000), 1);
	return davit_websocket_turn(ws, hear, h, code, err);
}

static void the_client_and_the_server_understand_each_other(void **state)
{
	struct davit_websocket_client *ws = open_client(*state);
	DAVIT_AUTO_FREE char *big = malloc(LIMIT);
	struct heard h = {0};
	struct davit_error err = {0};
	unsigned code = 0;
	int r = 0;

	memset(big, 'b', LIMIT);
	assert_int_equal(davit_websocket_put(ws, true, "hello", 5, &err), 0);
	while (h.n < 1)
		assert_int_equal(turn(ws, &h, &code, &err), 0);
	assert_true(h.text && h.data.len == 5);
	davit_buf_reset(&h.data);
	assert_int_equal(davit_websocket_put(ws, false, big, LIMIT, &err), 0);
	while (h.n < 2)
		assert_int_equal(turn(ws, &h, &code, &err), 0);
	assert_true(!h.text && h.data.len == LIMIT && !memcmp(h.data.data, big, LIMIT));
	assert_int_equal(davit_websocket_put(ws, true, "bye", 3, &err), 0);
	while (r == 0)
		r = turn(ws, &h, &code, &err);
	assert_int_equal(r, 1);
	assert_int_equal(code, DAVIT_WEBSOCKET_GOING_AWAY);
	davit_websocket_free(ws);
	davit_buf_fini(&h.data);
}

static void a_message_above_the_limit_closes_with_1009(void **state)
{
	struct davit_websocket_client *ws = open_client(*state);
	DAVIT_AUTO_FREE char *big = calloc(1, LIMIT + 1);
	struct heard h = {0};
	struct davit_error err = {0};
	unsigned code = 0;
	int r = 0;

	assert_int_equal(davit_websocket_put(ws, false, big, LIMIT + 1, &err), 0);
	while (r == 0)
		r = turn(ws, &h, &code, &err);
	assert_int_equal(r, 1);
	assert_int_equal(code, DAVIT_WEBSOCKET_TOO_BIG);
	davit_websocket_free(ws);
}

static void a_refusal_is_an_answer_to_the_client(void **state)
{
	struct fixture *f = *state;
	struct davit_client_request q = {.target = "/x"};
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct davit_client *c;
	int status;

	assert_int_equal(davit_client_open(f->s.path, &c, NULL), 0);
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 426);
	assert_int_equal(davit_client_body(c, 4096, &body, NULL), 0);
	assert_non_null(strstr(davit_buf_str(&body), "this path is a WebSocket"));
	davit_client_close(c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_handshake_gives_the_key_of_the_rfc),
		TEST(what_is_no_websocket_is_refused_with_what_is_wanted),
		TEST(messages_come_whole_however_they_are_cut),
		TEST(violations_close_with_their_code),
		TEST(a_client_that_goes_without_a_word_is_noticed),
		TEST(the_owner_closes_and_waits_for_the_answer),
		TEST(a_reader_that_does_not_read_stops_the_producer),
		TEST(pings_of_one_who_does_not_read_the_answers_are_not_piled_up),
		TEST(a_paused_owner_gets_nothing_and_then_all),
		TEST(the_client_and_the_server_understand_each_other),
		TEST(a_message_above_the_limit_closes_with_1009),
		TEST(a_refusal_is_an_answer_to_the_client),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("net-websocket", tests, NULL, NULL);
}
