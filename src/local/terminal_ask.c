/* SPDX-License-Identifier: MIT
 *
 * Questions about terminals to all keepers of a runtime: which there are, and that one is closed.
 */
#include "local/local.h"
#include "local/terminal_impl.h"

#include <stdio.h>
#include <string.h>

/* One question to several keepers, and its operation. */
struct ask {
	struct davit_list list;
	struct local_terminals *ts;
	struct davit_op *op;
	void (*each)(void *user, const struct davit_terminal_info *info);
	void *user;
	struct davit_error err; /* the first */
	size_t left, n;
	struct ask_one {
		struct keeper_request q;
		struct keeper_client *client;
		struct ask *ask;
	} one[];
};

static void ask_free(struct ask *a)
{
	for (size_t i = 0; i < a->n; i++)
		keeper_client_forget(a->one[i].client, &a->one[i].q);
	davit_list_remove(&a->list);
	free(a);
}

static void ask_finish(struct ask *a)
{
	struct davit_op *op = DAVIT_TAKE(a->op);
	struct davit_error err = a->err;

	ask_free(a);
	if (err.code)
		davit_op_fail_error(op, &err);
	else
		davit_op_complete(op, 0);
}

/* Behind the struct: instance and command. */
static void tell(struct ask *a, const struct keeper_header *h)
{
	const struct keeper_attached *m = (const void *)h;
	const char *instance = (const char *)h + h->size, *end = (const char *)h + h->total;
	const char *nul = memchr(instance, '\0', (size_t)(end - instance));
	struct davit_terminal_info info = {
		.started = m->started,
		.pid = m->pid,
		.rows = (uint16_t)m->rows,
		.columns = (uint16_t)m->columns,
		.attached = m->attached,
	};

	snprintf(info.id, sizeof info.id, "%s", h->id);
	if (nul)
		snprintf(info.instance, sizeof info.instance, "%s", instance);
	if (nul && nul + 1 < end)
		snprintf(info.command, sizeof info.command, "%.*s", (int)(end - nul - 1), nul + 1);
	local_exit_of(&m->exit, &info.exit);
	a->each(a->user, &info);
}

static void on_told(struct keeper_request *q, const struct keeper_header *h, const struct davit_error *why)
{
	struct ask_one *one = DAVIT_CONTAINER_OF(q, struct ask_one, q);
	struct ask *a = one->ask;
	struct davit_error err;

	if (h && h->type == KEEPER_TERMINAL_INFO) {
		if (a->each && h->size >= sizeof(struct keeper_attached))
			tell(a, h);
		return;
	}
	terminal_error_of(h, why, &err);
	/* A keeper that knows no terminals has none. */
	if (err.code && err.code != DAVIT_ENOTSUP && !a->err.code)
		a->err = err;
	if (--a->left == 0)
		ask_finish(a);
}

static void on_ask_cancel(struct davit_op *op, int why)
{
	struct ask *a = op->performer;

	davit_error_set(&a->err, why, a->ts->rt->name, "the keeper did not answer in time");
	ask_finish(a);
}

static size_t count(struct local_terminals *ts)
{
	size_t n = 0;

	while (ts->ops->keeper(ts, n))
		n++;
	return n;
}

static void ask(struct local_terminals *ts, enum keeper_type type, const char *id,
		void (*each)(void *user, const struct davit_terminal_info *info), void *user,
		struct davit_op *op)
{
	size_t n = count(ts);
	struct ask *a = calloc(1, sizeof *a + n * sizeof a->one[0]);
	struct davit_error err = {0};

	if (!a) {
		terminal_no_memory(&err);
		davit_op_fail_error(op, &err);
		return;
	}
	*a = (struct ask){.ts = ts, .op = op, .each = each, .user = user, .n = n};
	davit_list_init(&a->list);
	davit_list_add_tail(&ts->asks, &a->list);
	op->performer = a;
	davit_op_on_cancel(op, on_ask_cancel);
	for (size_t i = 0; i < n; i++) {
		struct ask_one *one = &a->one[i];
		int r;

		one->q.answer = on_told;
		one->client = ts->ops->keeper(ts, i);
		one->ask = a;
		if (!keeper_packet(ts->packet, type, sizeof(struct keeper_header), id))
			r = terminal_no_memory(&err);
		else
			r = keeper_client_send(one->client, ts->packet, NULL, 0, &one->q, &err);
		if (r == 0)
			a->left++;
		else if (!a->err.code)
			a->err = err;
	}
	if (!a->left)
		ask_finish(a);
}

void local_terminals_list(struct local_terminals *ts, struct davit_instance *inst,
			  void (*each)(void *user, const struct davit_terminal_info *info), void *user,
			  struct davit_op *op)
{
	ask(ts, KEEPER_TERMINALS, inst ? terminal_instance_id(ts, inst) : "", each, user, op);
}

void local_terminals_close(struct local_terminals *ts, const char *id, struct davit_op *op)
{
	ask(ts, KEEPER_TERMINAL_CLOSE, id, NULL, NULL, op);
}

void terminal_asks_close(struct local_terminals *ts)
{
	struct ask *a, *next;

	DAVIT_LIST_FOREACH_SAFE (a, next, &ts->asks, list) {
		davit_op_fail(DAVIT_TAKE(a->op), DAVIT_ECLOSED, ts->rt->name, "the runtime was closed");
		ask_free(a);
	}
}
