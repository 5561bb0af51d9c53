/* SPDX-License-Identifier: MIT
 *
 * What the daemon asks about terminals.
 */
#include "keeper/request.h"
#include "keeper/terminal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* The terminal of the header's id, or NULL with the error. */
static struct keeper_term *of(struct keeper *k, struct request *q)
{
	struct keeper_term *t = keeper_term_find(k, q->h->id);

	if (!t)
		davit_error_set(&q->err, DAVIT_ENOENT, NULL, "there is no terminal %s", q->h->id);
	return t;
}

/* One more client, and the answer with its end. */
static int attach(struct keeper *k, struct request *q, struct keeper_term *t)
{
	struct keeper_attached m;
	int fd, r = keeper_term_attach(k, t, &fd, &q->err);

	if (r < 0)
		return r;
	keeper_term_tell(k, t, &m);
	m.h = (struct keeper_header){.type = KEEPER_ATTACHED, .tag = q->h->tag};
	memcpy(m.h.id, t->id, sizeof m.h.id);
	keeper_answer_fd(k, &m.h, sizeof m, fd);
	keeper_term_feed(k, t);
	return 0;
}

static int plan_of(struct keeper *k, struct request *q, const struct keeper_terminal *m,
		   struct keeper_term_plan *ret)
{
	char id[sizeof m->slot];

	memcpy(id, m->slot, sizeof id);
	if (!q->h->id[0] || id[sizeof id - 1] || m->rows > UINT16_MAX || m->columns > UINT16_MAX)
		return davit_error_set(&q->err, DAVIT_EINVAL, NULL, "TERMINAL without an id, or of no size");
	*ret = (struct keeper_term_plan){
		.id = q->h->id,
		.slot = id[0] ? keeper_slot_find(k, id) : NULL,
		.rows = (uint16_t)m->rows,
		.columns = (uint16_t)m->columns,
	};
	if (!id[0])
		return 0;
	if (!ret->slot)
		return davit_error_set(&q->err, DAVIT_ENOENT, NULL, "the keeper has no instance %s", id);
	if (ret->slot->state != KEEPER_SLOT_RUNNING || ret->slot->stop_phase != KEEPER_STOP_NONE ||
	    ret->slot->flags & KEEPER_LAUNCHING)
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "instance %s does not run", id);
	return 0;
}

int keeper_request_terminal(struct keeper *k, struct request *q)
{
	struct keeper_term_plan plan;
	struct keeper_terminal m;
	struct keeper_command c;
	struct keeper_term *t;
	int r;

	keeper_request_fixed(q, &m, sizeof m);
	r = plan_of(k, q, &m, &plan);
	if (r < 0)
		return r;
	m.spawn.ready = DAVIT_READY_NONE;
	r = keeper_command_read(k, &m.spawn, &q->body, &c, &q->err);
	if (r < 0)
		return r;
	plan.raw = q->h->flags & KEEPER_FLAG_RAW;
	plan.instance = keeper_read_string(&q->body);
	plan.command = keeper_read_string(&q->body);
	r = keeper_term_open(k, &plan, &c, &t, &q->err);
	keeper_command_fini(&c);
	if (r == 0)
		r = attach(k, q, t);
	else
		return r;
	if (r < 0)
		keeper_term_close(k, t); /* nobody knows of it */
	return r;
}

int keeper_request_attach(struct keeper *k, struct request *q)
{
	struct keeper_term *t = of(k, q);
	struct keeper_attach m;

	if (!t)
		return q->err.code;
	keeper_request_fixed(q, &m, sizeof m);
	keeper_term_resize(t, m.rows, m.columns);
	return attach(k, q, t);
}

int keeper_request_resize(struct keeper *k, struct request *q)
{
	struct keeper_term *t = of(k, q);
	struct keeper_attach m;

	if (!t)
		return q->err.code;
	keeper_request_fixed(q, &m, sizeof m);
	keeper_term_resize(t, m.rows, m.columns);
	return 0;
}

int keeper_request_terminal_signal(struct keeper *k, struct request *q)
{
	struct keeper_term *t = of(k, q);
	struct keeper_terminal_signal m;

	if (!t)
		return q->err.code;
	keeper_request_fixed(q, &m, sizeof m);
	if (m.signo <= 0 || m.signo > SIGRTMAX)
		return davit_error_set(&q->err, DAVIT_EINVAL, NULL, "%d is not a signal", m.signo);
	return keeper_term_signal(t, m.signo, &q->err);
}

int keeper_request_terminals(struct keeper *k, struct request *q)
{
	/* What was taken a moment ago is not listed any more. */
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++)
		keeper_term_settle(k, &k->terms[i]);
	k->terms_next = 0;
	k->terms_tag = q->h->tag;
	memcpy(k->terms_of, q->h->id, sizeof k->terms_of);
	return 0;
}

int keeper_request_terminal_close(struct keeper *k, struct request *q)
{
	struct keeper_term *t = keeper_term_find(k, q->h->id);

	if (!t) {
		keeper_answer_done(k, q->h, 0, NULL);
		return 0;
	}
	if (t->n_closing == DAVIT_ARRAY_SIZE(t->closing))
		return davit_error_set(&q->err, DAVIT_ESTATE, NULL, "terminal %s is being closed already",
				       t->id);
	t->closing[t->n_closing++] = q->h->tag;
	keeper_term_close(k, t);
	return 0;
}
