/* SPDX-License-Identifier: MIT */
#include "base/log.h"
#include "base/units.h"
#include "base/util.h"
#include "davit/error.h"
#include "davit/loop.h"
#include "loop/loop_impl.h"
#include "loop/signals.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

struct queue {
	struct davit_deferred again;
	struct davit_timer begin;
	struct davit_loop *loop;
	int64_t until; /* gives up then */
	int fd;	       /* the pipe's end that is written to */
	bool read, gave_up;
};

static void on_begin(struct davit_timer *t)
{
	struct queue *q = DAVIT_CONTAINER_OF(t, struct queue, begin);

	assert_int_equal(write(q->fd, "x", 1), 1);
	davit_defer(&q->again);
}

static void on_again(struct davit_deferred *d)
{
	struct queue *q = DAVIT_CONTAINER_OF(d, struct queue, again);

	q->gave_up = davit_loop_now(q->loop) > q->until;
	if (q->read || q->gave_up)
		davit_loop_stop(q->loop);
	else
		davit_defer(d);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
	struct queue *q = p->data;

	(void)status;
	(void)events;
	q->read = true;
	uv_close((uv_handle_t *)p, NULL);
}

static void deferred_calls_that_do_not_end_leave_descriptors_their_turn(void **state)
{
	struct queue q = {0};
	struct davit_error err;
	uv_poll_t poll;
	int p[2];

	(void)state;
	assert_int_equal(davit_loop_open(&q.loop, &err), 0);
	assert_int_equal(pipe(p), 0);
	q.fd = p[1];
	uv_poll_init(davit_loop_uv(q.loop), &poll, p[0]);
	poll.data = &q;
	uv_poll_start(&poll, UV_READABLE, on_readable);
	davit_deferred_init(&q.again, q.loop, on_again);
	q.until = davit_loop_now(q.loop) + DAVIT_NSEC_PER_SEC;
	davit_timer_init(&q.begin, q.loop, on_begin);
	davit_timer_start(&q.begin, DAVIT_NSEC_PER_MSEC);
	davit_loop_run(q.loop);
	assert_true(q.read && !q.gave_up);
	davit_loop_close(q.loop);
	close(p[0]);
	close(p[1]);
}

struct late {
	struct davit_timer timer;
	int fired;
};

static char told[128];

static void keep_log(enum davit_log_level level, const char *text)
{
	snprintf(told, sizeof told, "%s", text);
}

static void on_left(uv_timer_t *t)
{
}

static void close_it(uv_timer_t *t)
{
	uv_close((uv_handle_t *)t, NULL);
}

static void closing_a_loop_waits_for_what_is_closed_soon(void **state)
{
	struct davit_loop *loop;
	uv_timer_t soon;

	assert_int_equal(davit_loop_open(&loop, NULL), 0);
	uv_timer_init(davit_loop_uv(loop), &soon);
	uv_timer_start(&soon, close_it, 30, 0);
	told[0] = 0;
	davit_log_divert(keep_log);
	davit_loop_close(loop);
	davit_log_divert(NULL);
	assert_string_equal(told, "");
}

static void a_loop_with_a_handle_left_open_is_closed_and_says_so(void **state)
{
	static uv_timer_t left;
	static struct davit_loop *loop; /* still reachable afterwards */

	assert_int_equal(davit_loop_open(&loop, NULL), 0);
	uv_timer_init(davit_loop_uv(loop), &left);
	uv_timer_start(&left, on_left, 1000000, 0);
	davit_log_divert(keep_log);
	davit_loop_patience_ms = 20;
	davit_loop_close(loop);
	davit_log_divert(NULL);
	assert_string_equal(told, "loop: closed with a handle left open (timer): its memory is lost");
}

static void on_late(struct davit_timer *t)
{
	struct late *l = DAVIT_CONTAINER_OF(t, struct late, timer);

	if (++l->fired < 3)
		davit_timer_start(t, 0);
}

static void a_timer_of_nothing_fires_and_the_loop_ends_when_nothing_is_left(void **state)
{
	struct late l = {0};
	struct davit_loop *loop;
	struct davit_error err;

	(void)state;
	assert_int_equal(davit_loop_open(&loop, &err), 0);
	davit_timer_init(&l.timer, loop, on_late);
	davit_timer_start(&l.timer, 0);
	davit_loop_run(loop);
	assert_int_equal(l.fired, 3);
	davit_loop_close(loop);
}

struct hearing {
	struct davit_signals signals;
	struct davit_loop *loop;
	int heard[4];
	int n;
};

static void on_heard(void *user, int signo)
{
	struct hearing *h = user;

	h->heard[h->n++] = signo;
	if (h->n == 1)
		raise(SIGUSR2);
	else
		davit_loop_stop(h->loop);
}

static void signals_are_heard_on_the_loop_until_they_are_closed(void **state)
{
	static const int list[] = {SIGUSR1, SIGUSR2, 0};
	struct hearing h = {0};
	struct sigaction after;
	struct davit_error err;

	assert_int_equal(davit_loop_open(&h.loop, &err), 0);
	assert_int_equal(davit_signals_open(&h.signals, h.loop, list, on_heard, &h, &err), 0);
	raise(SIGUSR1);
	assert_int_equal(h.n, 0);
	davit_loop_run(h.loop);
	assert_int_equal(h.n, 2);
	assert_int_equal(h.heard[0], SIGUSR1);
	assert_int_equal(h.heard[1], SIGUSR2);
	davit_signals_close(&h.signals);
	davit_signals_close(&h.signals);
	davit_loop_run(h.loop);
	assert_int_equal(sigaction(SIGUSR1, NULL, &after), 0);
	assert_ptr_equal(after.sa_handler, SIG_DFL);
	davit_loop_close(h.loop);
}

static void a_signal_that_nobody_may_hear_is_an_error_and_the_others_are_left_alone(void **state)
{
	static const int list[] = {SIGUSR1, SIGKILL, 0};
	struct hearing h = {0};
	struct sigaction after;
	struct davit_error err;

	assert_int_equal(davit_loop_open(&h.loop, &err), 0);
	assert_int_equal(davit_signals_open(&h.signals, h.loop, list, on_heard, &h, &err), DAVIT_EIO);
	assert_non_null(strstr(err.message, "cannot watch for signals"));
	davit_loop_run(h.loop); /* it has nothing to wait for */
	assert_int_equal(sigaction(SIGUSR1, NULL, &after), 0);
	assert_ptr_equal(after.sa_handler, SIG_DFL);
	davit_loop_close(h.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deferred_calls_that_do_not_end_leave_descriptors_their_turn),
		cmocka_unit_test(a_timer_of_nothing_fires_and_the_loop_ends_when_nothing_is_left),
		cmocka_unit_test(closing_a_loop_waits_for_what_is_closed_soon),
		cmocka_unit_test(a_loop_with_a_handle_left_open_is_closed_and_says_so),
		cmocka_unit_test(signals_are_heard_on_the_loop_until_they_are_closed),
		cmocka_unit_test(a_signal_that_nobody_may_hear_is_an_error_and_the_others_are_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
