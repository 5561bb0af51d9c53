/* SPDX-License-Identifier: MIT
 *
 * The daemon's end of terminals: a stream socket to the keeper for each that
 * somebody is attached to, requests, and the event that a command has ended.
 */
#include "local/local.h"
#include "local/terminal_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define READ_MAX 65536

/* Apart from the core's object: that may be freed in any callback, by detach. */
struct terminal {
	struct davit_terminal *t; /* NULL once detached */
	struct local_terminals *ts;
	struct keeper_client *client;
	pid_t keeper; /* that holds it */
	struct keeper_request q;
	struct davit_list list;
	struct davit_op *op; /* until it is attached */
	bool opens;	     /* op is an open, not an attach */
	bool waits;	     /* op has not been sent: the keeper is not up */
	bool paused, reading;
	bool eof;     /* the stream has ended */
	bool ended;   /* the command has */
	bool thirsty; /* `drained` is owed */
	int fd;
	struct local_poll *poll;
	struct davit_exit exit;
	struct davit_deferred finish; /* `ended` or `lost`, outside of the client's callbacks */
};

static struct terminal **slot_of(struct davit_terminal *t)
{
	return (struct terminal **)(void *)(t + 1);
}

static void terminal_free(struct terminal *me)
{
	davit_deferred_cancel(&me->finish);
	keeper_client_forget(me->client, &me->q);
	local_poll_close(me->poll);
	if (me->fd >= 0)
		close(me->fd);
	davit_list_remove(&me->list);
	free(me);
}

static void let_go(struct terminal *me)
{
	*slot_of(me->t) = NULL;
	me->t = NULL;
	if (!me->reading)
		terminal_free(me);
}

/* ----------------------------------------------------------------------- the stream */

static void watch(struct terminal *me)
{
	if (me->poll)
		local_poll_set(me->poll,
			       (me->paused ? 0 : LOCAL_READABLE) | (me->thirsty ? LOCAL_WRITABLE : 0));
}

static void end_stream(struct terminal *me)
{
	me->eof = true;
	local_poll_close(DAVIT_TAKE(me->poll));
	close(DAVIT_TAKE_FD(me->fd));
	/* The event says how the command ended; without a keeper none comes. */
	if (me->ended || me->client->phase != KEEPER_CLIENT_UP)
		davit_defer(&me->finish);
}

static void on_finish(struct davit_deferred *d)
{
	struct terminal *me = DAVIT_CONTAINER_OF(d, struct terminal, finish);
	struct davit_terminal *t = me->t;
	struct davit_error why = {0};
	struct davit_exit exit = me->exit;
	bool ended = me->ended && me->eof;

	let_go(me);
	if (ended) {
		t->ended(t, &exit);
		return;
	}
	davit_error_set(&why, DAVIT_EUNAVAIL, "keeper",
			"the keeper of this terminal ended, and with it the terminal");
	t->lost(t, &why);
}

static void on_stream(void *user, int events)
{
	struct terminal *me = user;
	char buf[READ_MAX];
	ssize_t n;

	if (events & LOCAL_WRITABLE && me->thirsty) {
		me->thirsty = false;
		me->reading = true;
		me->t->drained(me->t);
		me->reading = false;
		if (!me->t) {
			terminal_free(me);
			return;
		}
	}
	if (!(events & LOCAL_READABLE) || me->paused) {
		watch(me);
		return;
	}
	n = DAVIT_EINTR(recv(me->fd, buf, sizeof buf, MSG_DONTWAIT));
	if (n > 0) {
		me->reading = true;
		me->paused = !me->t->output(me->t, buf, (size_t)n);
		me->reading = false;
		if (!me->t) {
			terminal_free(me);
			return;
		}
	} else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
		end_stream(me);
		return;
	}
	watch(me);
}

/* -------------------------------------------------------------------------- requests */

int terminal_no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "terminal", "out of memory");
}

void terminal_error_of(const struct keeper_header *h, const struct davit_error *why, struct davit_error *ret)
{
	*ret = (struct davit_error){0};
	if (!h)
		*ret = *why;
	else
		local_error_of(h, ret);
	if (ret->code == DAVIT_ENOTSUP)
		davit_error_set(ret, DAVIT_ENOTSUP, "terminal",
				"the running keeper is older and has no terminals: 'davit daemon upgrade' "
				"replaces it");
}

static void fail_start(struct terminal *me, const struct davit_error *err)
{
	struct davit_op *op = DAVIT_TAKE(me->op);

	*slot_of(me->t) = NULL;
	terminal_free(me);
	davit_op_fail_error(op, err);
}

static void on_attached(struct terminal *me, const struct keeper_attached *m)
{
	struct davit_error err = {0};

	me->fd = keeper_client_take_fd(me->client);
	me->keeper = me->client->pid;
	if (me->fd < 0) {
		davit_error_set(&err, DAVIT_EPROTO, "keeper", "the keeper gave a terminal without a stream");
		fail_start(me, &err);
		return;
	}
	if (m->exit.kind != DAVIT_EXIT_NONE) {
		local_exit_of(&m->exit, &me->exit);
		me->ended = true;
	}
	if (local_poll_open(me->ts->rt->loop, me->fd, LOCAL_READABLE, on_stream, me, &me->poll, &err) < 0) {
		fail_start(me, &err);
		return;
	}
	davit_op_complete(DAVIT_TAKE(me->op), 0);
}

static void on_answer(struct keeper_request *q, const struct keeper_header *h, const struct davit_error *why)
{
	struct terminal *me = DAVIT_CONTAINER_OF(q, struct terminal, q);
	struct davit_error err;

	if (h && h->type == KEEPER_ATTACHED && h->size >= sizeof(struct keeper_attached)) {
		on_attached(me, (const void *)h);
		return;
	}
	terminal_error_of(h, why, &err);
	if (!err.code)
		davit_error_set(&err, DAVIT_EPROTO, "keeper",
				"the keeper gave an answer that makes no sense");
	fail_start(me, &err);
}

static void add_string(struct davit_buf *b, const char *s)
{
	davit_buf_add(b, s, strlen(s) + 1);
}

/* Its first words, for people. */
static void describe(char *const *argv, char *ret, size_t size)
{
	size_t n = 0;

	*ret = '\0';
	for (; *argv && n + 1 < size; argv++)
		n += (size_t)snprintf(ret + n, size - n, "%s%s", n ? " " : "", *argv);
}

/* An adopted instance may have no workload that the core knows. */
const char *terminal_instance_id(const struct local_terminals *ts, struct davit_instance *inst)
{
	if (ts->ops->beside)
		return local_instance_of(inst)->id;
	return inst->workload ? inst->workload->id : "";
}

static int build_open(struct terminal *me, struct davit_error *err)
{
	const struct davit_terminal *t = me->t;
	const char *instance = terminal_instance_id(me->ts, t->instance);
	char words[sizeof((struct davit_terminal_info *)0)->command];
	struct davit_buf *b = me->ts->packet;
	struct keeper_terminal *m;
	int r = me->ts->ops->build(me->ts, t, err);

	if (r < 0)
		return r;
	m = (void *)b->data;
	snprintf(m->h.id, sizeof m->h.id, "%s", t->id);
	if (me->ts->ops->beside)
		snprintf(m->slot, sizeof m->slot, "%s", instance);
	m->rows = t->rows;
	m->columns = t->columns;
	m->spawn.h.size = sizeof m->spawn;
	m->spawn.ready_fd = -1;
	describe(t->argv, words, sizeof words);
	add_string(b, instance);
	add_string(b, words);
	return b->oom ? terminal_no_memory(err) : 0;
}

static void send_start(struct terminal *me)
{
	struct davit_error err = {0};
	struct keeper_attach *m;
	int r = 0;

	me->waits = me->client->phase != KEEPER_CLIENT_UP;
	if (me->waits)
		return;
	if (me->opens) {
		r = build_open(me, &err);
	} else {
		m = keeper_packet(me->ts->packet, KEEPER_ATTACH, sizeof *m, me->t->id);
		r = m ? 0 : terminal_no_memory(&err);
		if (m) {
			m->rows = me->t->rows;
			m->columns = me->t->columns;
		}
	}
	if (r == 0)
		r = keeper_client_send(me->client, me->ts->packet, NULL, 0, &me->q, &err);
	if (r < 0)
		fail_start(me, &err);
}

static void send_simple(struct local_terminals *ts, struct keeper_client *k, enum keeper_type type,
			const char *id)
{
	if (keeper_packet(ts->packet, type, sizeof(struct keeper_header), id))
		keeper_client_send(k, ts->packet, NULL, 0, NULL, NULL);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct terminal *me = op->performer;
	struct davit_error err = {0};

	davit_error_set(&err, why, me->ts->rt->name,
			why == DAVIT_ETIMEDOUT ? "the keeper did not answer in time" : "cancelled");
	if (me->opens && !me->waits) /* nobody would know of it */
		send_simple(me->ts, me->client, KEEPER_TERMINAL_CLOSE, me->t->id);
	fail_start(me, &err);
}

static void begin(struct local_terminals *ts, struct davit_terminal *t, bool opens, struct davit_op *op)
{
	struct davit_error err = {0};
	struct keeper_client *k = ts->ops->keeper_of(ts, t->instance, opens, &err);
	struct terminal *me = k ? calloc(1, sizeof *me) : NULL;

	*slot_of(t) = NULL;
	if (!me) {
		if (k)
			terminal_no_memory(&err);
		davit_op_fail_error(op, &err);
		return;
	}
	me->t = t;
	me->ts = ts;
	me->client = k;
	me->q.answer = on_answer;
	me->op = op;
	me->opens = opens;
	me->fd = -1;
	davit_list_init(&me->list);
	davit_list_add_tail(&ts->open, &me->list);
	davit_deferred_init(&me->finish, ts->rt->loop, on_finish);
	*slot_of(t) = me;
	op->performer = me;
	davit_op_on_cancel(op, on_cancel);
	send_start(me);
}

void local_terminals_open(struct local_terminals *ts, struct davit_terminal *t, struct davit_op *op)
{
	begin(ts, t, true, op);
}

void local_terminals_attach(struct local_terminals *ts, struct davit_terminal *t, struct davit_op *op)
{
	begin(ts, t, false, op);
}

bool local_terminals_opening(const struct local_terminals *ts, const struct davit_instance *inst)
{
	const struct terminal *me;

	DAVIT_LIST_FOREACH (me, &ts->open, list)
		if (me->op && me->opens && me->t && me->t->instance == inst)
			return true;
	return false;
}

/* ------------------------------------------------------------------ what is attached */

ssize_t local_terminal_write(struct davit_terminal *t, const void *data, size_t n)
{
	struct terminal *me = *slot_of(t);
	ssize_t taken;

	if (!me || me->fd < 0)
		return DAVIT_ECLOSED;
	taken = DAVIT_EINTR(send(me->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL));
	if (taken < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS)
		return errno == EPIPE || errno == ECONNRESET ? DAVIT_ECLOSED : DAVIT_EIO;
	taken = taken < 0 ? 0 : taken;
	if ((size_t)taken < n) {
		me->thirsty = true;
		watch(me);
	}
	return taken;
}

void local_terminal_resume(struct davit_terminal *t)
{
	struct terminal *me = *slot_of(t);

	if (!me || !me->paused)
		return;
	me->paused = false;
	watch(me);
}

void local_terminal_resize(struct davit_terminal *t, uint16_t rows, uint16_t columns)
{
	struct terminal *me = *slot_of(t);
	struct keeper_attach *m;

	if (!me || me->op || me->ended)
		return;
	m = keeper_packet(me->ts->packet, KEEPER_RESIZE, sizeof *m, t->id);
	if (!m)
		return;
	m->rows = rows;
	m->columns = columns;
	keeper_client_send(me->client, me->ts->packet, NULL, 0, NULL, NULL);
}

int local_terminal_signal(struct davit_terminal *t, int signo, struct davit_error *err)
{
	struct terminal *me = *slot_of(t);
	struct keeper_terminal_signal *m;

	if (!me || me->op || me->ended)
		return davit_error_set(err, DAVIT_ESTATE, "terminal", "the command does not run");
	m = keeper_packet(me->ts->packet, KEEPER_TERMINAL_SIGNAL, sizeof *m, t->id);
	if (!m)
		return terminal_no_memory(err);
	m->signo = signo;
	return keeper_client_send(me->client, me->ts->packet, NULL, 0, NULL, err);
}

void local_terminal_detach(struct davit_terminal *t)
{
	struct terminal *me = *slot_of(t);

	if (me)
		let_go(me);
}

/* ------------------------------------------------------------------------- the keeper */

void local_terminals_up(struct local_terminals *ts, struct keeper_client *k)
{
	struct terminal *me, *tmp;

	DAVIT_LIST_FOREACH_SAFE (me, tmp, &ts->open, list) {
		if (me->client != k)
			continue;
		if (me->waits)
			send_start(me);
		else if (!me->op && me->keeper != k->pid && !me->ended)
			davit_defer(&me->finish); /* another one, who has no terminals of the first */
	}
}

void local_terminals_down(struct local_terminals *ts, struct keeper_client *k, const struct davit_error *why)
{
	struct terminal *me, *tmp;

	DAVIT_LIST_FOREACH_SAFE (me, tmp, &ts->open, list) {
		if (me->client != k)
			continue;
		if (me->waits)
			fail_start(me, why);
		else if (me->eof && !me->ended)
			davit_defer(&me->finish);
	}
}

void local_terminals_event(struct local_terminals *ts, const struct keeper_header *h)
{
	struct terminal *me;

	if (h->type != KEEPER_TERMINAL_EXITED || h->size < sizeof(struct keeper_exited))
		return;
	DAVIT_LIST_FOREACH (me, &ts->open, list) {
		if (me->op || me->ended || strcmp(me->t->id, h->id))
			continue;
		local_exit_of(&((const struct keeper_exited *)(const void *)h)->exit, &me->exit);
		me->ended = true;
		if (me->eof)
			davit_defer(&me->finish);
	}
}

void local_terminals_init(struct local_terminals *ts, struct davit_runtime *rt,
			  const struct local_terminals_ops *ops, struct davit_buf *packet)
{
	*ts = (struct local_terminals){.rt = rt, .ops = ops, .packet = packet};
	davit_list_init(&ts->open);
	davit_list_init(&ts->asks);
}

void local_terminals_fini(struct local_terminals *ts)
{
	struct terminal *me, *tmp;

	DAVIT_LIST_FOREACH_SAFE (me, tmp, &ts->open, list) {
		if (me->op)
			davit_op_fail(DAVIT_TAKE(me->op), DAVIT_ECLOSED, ts->rt->name,
				      "the runtime was closed");
		let_go(me);
	}
	terminal_asks_close(ts);
}
