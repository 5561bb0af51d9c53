/* SPDX-License-Identifier: MIT */
#include "daemon/probes.h"

#include "base/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

/* A server that gives one answer to everybody, or none. */
struct rig {
	struct davit_loop *loop;
	struct daemon_prober prober;
	uv_tcp_t server;
	struct sockaddr_in address;
	const char *answer; /* NULL: says nothing; "": closes */
	char request[512];
	struct client {
		uv_tcp_t tcp;
		uv_write_t write;
		struct rig *rig;
		bool open;
	} clients[4];
	size_t n_clients;
	struct davit_op op;
	struct davit_probe probe;
	int result;
};

static void on_client_closed(uv_handle_t *h)
{
	((struct client *)h->data)->open = false;
}

static void close_client(struct client *c)
{
	if (c->open && !uv_is_closing((uv_handle_t *)&c->tcp))
		uv_close((uv_handle_t *)&c->tcp, on_client_closed);
}

static void on_sent(uv_write_t *w, int status)
{
	(void)status;
	close_client(w->data);
}

static void on_room(uv_handle_t *h, size_t n, uv_buf_t *ret)
{
	struct rig *r = ((struct client *)h->data)->rig;

	(void)n;
	*ret = uv_buf_init(r->request, sizeof r->request - 1);
}

static void on_request(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct client *c = s->data;
	struct rig *r = c->rig;
	uv_buf_t out;

	(void)buf;
	if (n < 0 || (r->answer && !*r->answer)) {
		close_client(c);
	} else if (r->answer) {
		out = uv_buf_init((char *)r->answer, (unsigned)strlen(r->answer));
		c->write.data = c;
		uv_write(&c->write, s, &out, 1, on_sent);
	}
}

static void on_connection(uv_stream_t *s, int status)
{
	struct rig *r = s->data;
	struct client *c = &r->clients[r->n_clients++];

	assert_int_equal(status, 0);
	uv_tcp_init(s->loop, &c->tcp);
	c->tcp.data = c;
	c->rig = r;
	c->open = true;
	assert_int_equal(uv_accept(s, (uv_stream_t *)&c->tcp), 0);
	uv_read_start((uv_stream_t *)&c->tcp, on_room, on_request);
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof *r);
	int len = sizeof r->address;

	assert_int_equal(davit_loop_open(&r->loop, NULL), 0);
	r->prober = (struct daemon_prober){.loop = r->loop, .libexec = "/no/such/directory"};
	uv_tcp_init(davit_loop_uv(r->loop), &r->server);
	r->server.data = r;
	uv_ip4_addr("127.0.0.1", 0, &r->address);
	assert_int_equal(uv_tcp_bind(&r->server, (struct sockaddr *)&r->address, 0), 0);
	assert_int_equal(uv_listen((uv_stream_t *)&r->server, 4, on_connection), 0);
	uv_tcp_getsockname(&r->server, (struct sockaddr *)&r->address, &len);
	r->probe = (struct davit_probe){
		.address = "127.0.0.1", .port = ntohs(r->address.sin_port), .path = "/up?a=b"};
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	for (size_t k = 0; k < r->n_clients; k++)
		close_client(&r->clients[k]);
	if (!uv_is_closing((uv_handle_t *)&r->server))
		uv_close((uv_handle_t *)&r->server, NULL);
	for (int n = 0; n < 5; n++)
		uv_run(davit_loop_uv(r->loop), UV_RUN_NOWAIT);
	davit_loop_close(r->loop);
	free(r);
	return 0;
}

static void on_done(struct davit_op *op, int result)
{
	struct rig *r = op->user;

	r->result = result;
	davit_loop_stop(r->loop);
}

static int run_within(struct rig *r, void (*probe)(void *, struct davit_probe *, struct davit_op *),
		      int64_t deadline)
{
	davit_op_init(&r->op, r->loop, on_done, r);
	davit_op_begin(&r->op, deadline);
	probe(&r->prober, &r->probe, &r->op);
	davit_loop_run(r->loop);
	return r->result;
}

static int run(struct rig *r, void (*probe)(void *, struct davit_probe *, struct davit_op *))
{
	return run_within(r, probe, 30 * DAVIT_NSEC_PER_SEC);
}

static int ask(struct rig *r, const char *answer)
{
	r->answer = answer;
	return run(r, daemon_probes.http);
}

static void a_port_that_is_open_is_well(void **state)
{
	assert_int_equal(run(*state, daemon_probes.tcp), 0);
}

static void a_port_that_is_closed_is_not(void **state)
{
	struct rig *r = *state;

	uv_close((uv_handle_t *)&r->server, NULL);
	uv_run(davit_loop_uv(r->loop), UV_RUN_NOWAIT);
	assert_int_equal(run(r, daemon_probes.tcp), DAVIT_EIO);
	assert_string_equal(r->op.error.message, "connection refused");
	assert_int_equal(run(r, daemon_probes.http), DAVIT_EIO);
}

static void an_address_that_is_none_is_refused(void **state)
{
	struct rig *r = *state;

	r->probe.address = "nowhere";
	assert_int_equal(run(r, daemon_probes.tcp), DAVIT_EIO);
	assert_string_equal(r->op.error.message, "invalid argument");
}

static void an_answer_is_its_status(void **state)
{
	struct rig *r = *state;

	assert_int_equal(ask(r, "HTTP/1.1 204 No Content\r\n\r\n"), 0);
	assert_int_equal(r->probe.ret_status, 204);
	assert_non_null(strstr(r->request, "GET /up?a=b HTTP/1.1\r\nHost: 127.0.0.1:"));
}

static void the_host_can_be_named(void **state)
{
	struct rig *r = *state;

	r->probe.host = "example.test";
	assert_int_equal(ask(r, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), 0);
	assert_non_null(strstr(r->request, "\r\nHost: example.test\r\n"));
}

static void a_failure_has_the_beginning_of_its_body(void **state)
{
	struct rig *r = *state;

	assert_int_equal(ask(r, "HTTP/1.1 503 No\r\nContent-Length: 12\r\n\r\nno\x1b\ndatabase"), 0);
	assert_int_equal(r->probe.ret_status, 503);
	assert_string_equal(r->probe.ret_text, "no  database");
}

static void a_body_that_never_ends_does_not_delay_the_status(void **state)
{
	struct rig *r = *state;

	assert_int_equal(ask(r, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx"), 0);
	assert_int_equal(r->probe.ret_status, 200);
}

static void an_interim_answer_is_none(void **state)
{
	struct rig *r = *state;

	assert_int_equal(ask(r, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
			 0);
	assert_int_equal(r->probe.ret_status, 200);
}

static void what_is_no_answer_is_told(void **state)
{
	struct rig *r = *state;

	assert_int_equal(ask(r, "220 smtp ready\r\n"), DAVIT_EPROTO);
	assert_string_equal(r->op.error.message, "the answer is not HTTP");
	assert_int_equal(ask(r, ""), DAVIT_EPROTO);
	assert_string_equal(r->op.error.message, "closed without an answer");
	r->answer = NULL;
	assert_int_equal(run_within(r, daemon_probes.http, 200 * DAVIT_NSEC_PER_MSEC), DAVIT_ETIMEDOUT);
}

static void a_file_is_there_or_not(void **state)
{
	struct rig *r = *state;

	r->probe.file = "/proc/self";
	assert_int_equal(run(r, daemon_probes.file), 0);
	r->probe.file = "/proc/self/nothing";
	assert_int_equal(run(r, daemon_probes.file), DAVIT_EIO);
	assert_string_equal(r->op.error.message, "no such file or directory");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_port_that_is_open_is_well),
		T(a_port_that_is_closed_is_not),
		T(an_address_that_is_none_is_refused),
		T(an_answer_is_its_status),
		T(the_host_can_be_named),
		T(a_failure_has_the_beginning_of_its_body),
		T(a_body_that_never_ends_does_not_delay_the_status),
		T(an_interim_answer_is_none),
		T(what_is_no_answer_is_told),
		T(a_file_is_there_or_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
