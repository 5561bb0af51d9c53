/* SPDX-License-Identifier: MIT
 *
 * Asking on the loop, against a server on the same loop.
 */
#include "base/file.h"
#include "base/units.h"
#include "net/ask.h"
#include "net/server.h"
#include "net/unix.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	char dir[64], path[96];
	struct davit_loop *loop;
	struct davit_http_server *server;
	struct davit_http_request *held;
	struct davit_op op;
	struct davit_buf answer;
	int result;
	bool done;
};

/* "/echo" gives the body back, "/hold" nothing, "/cut" half an answer. */
static void handle(void *user, struct davit_http_request *r)
{
	struct fixture *f = user;

	if (!strcmp(r->target, "/hold")) {
		f->held = r;
	} else if (!strcmp(r->target, "/cut")) {
		davit_http_stream(r, 200, "application/json");
		davit_http_write(r, "half", 4);
		davit_http_abort(r);
	} else {
		davit_http_reply(r, 201, "application/json", r->body.data, r->body.len);
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct davit_http_config config = {.handle = handle, .user = f};
	int fd;

	signal(SIGPIPE, SIG_IGN);
	strcpy(f->dir, "/tmp/davit-ask-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/sock", f->dir);
	assert_int_equal(davit_loop_open(&f->loop, NULL), 0);
	config.loop = f->loop;
	assert_int_equal(davit_unix_listen(f->path, &fd, NULL), 0);
	assert_int_equal(davit_http_server_new(&config, fd, &f->server, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->held)
		davit_http_reply(f->held, 200, "application/json", "", 0);
	davit_http_server_free(f->server);
	davit_loop_run(f->loop); /* until all is closed */
	davit_loop_close(f->loop);
	davit_buf_fini(&f->answer);
	davit_remove_tree(f->dir, NULL);
	free(f);
	return 0;
}

static void done(struct davit_op *op, int result)
{
	struct fixture *f = op->user;

	f->done = true;
	f->result = result;
	davit_loop_stop(f->loop);
}

static int ask(struct fixture *f, const char *target, const char *body, size_t max, int64_t timeout,
	       struct davit_error *err)
{
	const struct davit_http_question q = {
		.loop = f->loop,
		.socket = f->path,
		.method = body ? "POST" : "GET",
		.target = target,
		.body = body,
		.body_len = body ? strlen(body) : 0,
		.ret_body = &f->answer,
		.max = max,
	};

	davit_op_init(&f->op, f->loop, done, f);
	davit_op_begin(&f->op, timeout);
	return davit_http_ask(&q, &f->op, err);
}

static int asked(struct fixture *f, const char *target, const char *body, size_t max, int64_t timeout)
{
	struct davit_error err;

	f->done = false;
	davit_buf_reset(&f->answer);
	assert_int_equal(ask(f, target, body, max, timeout, &err), 0);
	while (!f->done)
		davit_loop_run(f->loop);
	return f->result;
}

static void an_answer_comes_with_its_status_and_body(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(asked(f, "/echo", "{\"n\":1}", 1000, 0), 201);
	assert_string_equal(davit_buf_str(&f->answer), "{\"n\":1}");
	assert_int_equal(asked(f, "/echo", NULL, 1000, 0), 201);
	assert_int_equal(f->answer.len, 0);
}

static void an_answer_above_the_limit_is_refused(void **state)
{
	assert_int_equal(asked(*state, "/echo", "0123456789", 9, 0), DAVIT_EPROTO);
}

static void a_peer_that_breaks_off_is_told_from_one_that_answers(void **state)
{
	assert_int_equal(asked(*state, "/cut", NULL, 1000, 0), DAVIT_ECLOSED);
}

static void a_question_has_a_deadline(void **state)
{
	assert_int_equal(asked(*state, "/hold", NULL, 1000, 20 * DAVIT_NSEC_PER_MSEC), DAVIT_ETIMEDOUT);
}

static void where_nobody_listens_nothing_is_begun(void **state)
{
	struct fixture *f = *state;
	struct davit_error err;

	strcat(f->path, "-of-nobody");
	f->done = false;
	assert_int_equal(ask(f, "/echo", NULL, 1000, 0, &err), DAVIT_EUNAVAIL);
	assert_false(f->done);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_answer_comes_with_its_status_and_body, setup, teardown),
		cmocka_unit_test_setup_teardown(an_answer_above_the_limit_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_peer_that_breaks_off_is_told_from_one_that_answers, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_question_has_a_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(where_nobody_listens_nothing_is_begun, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
