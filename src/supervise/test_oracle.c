/* SPDX-License-Identifier: MIT */
#include "supervise/test_oracle.h"

bool below(const struct run *r, int i, int top)
{
	while (i != top && i > 0)
		i = r->parent[i];
	return i == top;
}

static int supervisor_of(const struct run *r, int i, int *branch)
{
	while (r->parent[i] > 0 && r->node[r->parent[i]]->rule.transparent)
		i = r->parent[i];
	if (branch)
		*branch = i;
	return i ? r->parent[i] : -1;
}

bool at_end(enum davit_node_state s)
{
	return s == DAVIT_NODE_COMPLETED || s == DAVIT_NODE_FAILED;
}

/* All that runs beneath top rests. */
static void model_hush(struct run *r, int top)
{
	for (int i = top; i < r->n; i++) {
		if (!below(r, i, top) || r->model[i].state != DAVIT_NODE_RUNNING)
			continue;
		if (r->leaf[i])
			r->stopped[i] = r->phase;
		r->model[i].state = DAVIT_NODE_IDLE;
	}
}

static void model_refresh(struct run *r, int i)
{
	struct model *m = &r->model[i];

	m->restarts = m->n_times = 0;
	m->ran = m->final = false;
}

static bool model_up(struct run *r, int i)
{
	r->model[i].state = DAVIT_NODE_RUNNING;
	r->model[i].ran = true;
	r->started[i] = true;
	return true;
}

/* 0: some child is not done; else the state that follows from the children. */
static enum davit_node_state model_children(const struct run *r, int i)
{
	enum davit_node_state s = DAVIT_NODE_IDLE;

	for (int c = i + 1; c < r->n; c++) {
		if (r->parent[c] != i)
			continue;
		if (!at_end(r->model[c].state))
			return DAVIT_NODE_IDLE;
		if (s != DAVIT_NODE_FAILED)
			s = r->model[c].state;
	}
	return s;
}

static bool model_launch(struct run *r, int i, bool fresh)
{
	struct model *m = &r->model[i];
	bool any = false;

	if (r->leaf[i]) {
		if (m->state == DAVIT_NODE_RUNNING)
			return true;
		if (!m->wanted)
			return false;
		if (fresh) {
			model_refresh(r, i);
		} else if (m->state == DAVIT_NODE_FAILED || m->final) {
			return false;
		} else if (r->node[i]->restart.policy == DAVIT_RESTART_NEVER && m->ran) {
			m->state = DAVIT_NODE_COMPLETED;
			return false;
		}
		return model_up(r, i);
	}
	if (m->state == DAVIT_NODE_FAILED && !fresh)
		return false;
	if (fresh)
		model_refresh(r, i);
	for (int c = i + 1; c < r->n; c++)
		if (r->parent[c] == i)
			any |= model_launch(r, c, fresh);
	m->state = any || !i ? DAVIT_NODE_RUNNING : model_children(r, i);
	return any;
}

static void model_check_children(struct run *r, int i);

static void model_done(struct run *r, int i)
{
	int p = r->parent[i];

	if (!i)
		return;
	if (r->node[i]->significant && r->node[p]->rule.auto_shutdown) {
		r->phase++;
		model_hush(r, p);
		r->model[p].state = DAVIT_NODE_COMPLETED;
		model_done(r, p);
		return;
	}
	model_check_children(r, p);
}

static void model_check_children(struct run *r, int i)
{
	enum davit_node_state s = model_children(r, i);

	if (!i || r->model[i].state != DAVIT_NODE_RUNNING || s == DAVIT_NODE_IDLE)
		return;
	r->model[i].state = s;
	model_done(r, i);
}

static void model_fail(struct run *r, int i)
{
	int sup = supervisor_of(r, i, NULL);
	enum davit_escalation e = r->node[sup < 0 ? i : sup]->rule.escalation;

	r->phase++;
	if (!r->leaf[i])
		model_hush(r, i);
	r->model[i].state = DAVIT_NODE_FAILED;
	if (e == DAVIT_ESCALATE_RESTART)
		model_launch(r, i, true);
	else if (e == DAVIT_ESCALATE_PARENT && sup >= 0)
		model_fail(r, sup);
	else
		model_done(r, i);
}

static bool model_too_many(struct run *r, int i)
{
	const struct davit_supervision_rule *rule = &r->node[i]->rule;
	int64_t now = davit_loop_now(r->loop);
	struct model *m = &r->model[i];
	int n = 0;

	if (rule->max_restarts < 0)
		return false;
	for (int k = 0; k < m->n_times; k++)
		if (now - m->times[k] < rule->period)
			m->times[n++] = m->times[k];
	m->n_times = n;
	if (n >= rule->max_restarts)
		return true;
	m->times[m->n_times++] = now;
	return false;
}

void model_end(struct run *r, int i, enum davit_cause cause, bool final)
{
	const struct davit_restart_rule *rule = &r->node[i]->restart;
	int branch, sup = supervisor_of(r, i, &branch);
	struct model *m = &r->model[i];

	if (final || rule->policy == DAVIT_RESTART_NEVER ||
	    (rule->policy == DAVIT_RESTART_ON_FAILURE && cause == DAVIT_CAUSE_CLEAN)) {
		m->final |= final;
		m->state = cause == DAVIT_CAUSE_CLEAN ? DAVIT_NODE_COMPLETED : DAVIT_NODE_FAILED;
		model_done(r, i);
		return;
	}
	if (rule->retries >= 0 && m->restarts >= rule->retries) {
		model_fail(r, i);
		return;
	}
	if (model_too_many(r, sup)) {
		m->state = DAVIT_NODE_FAILED;
		model_fail(r, sup);
		return;
	}
	m->restarts++;
	m->state = DAVIT_NODE_IDLE;
	if (r->node[sup]->rule.strategy == DAVIT_ONE_FOR_ONE) {
		model_up(r, i);
		return;
	}
	for (int c = sup + 1; c < r->n; c++)
		if (r->parent[c] == sup && (c >= branch || r->node[sup]->rule.strategy == DAVIT_ONE_FOR_ALL))
			model_hush(r, c);
	for (int c = sup + 1; c < r->n; c++)
		if (r->parent[c] == sup && (c >= branch || r->node[sup]->rule.strategy == DAVIT_ONE_FOR_ALL))
			model_launch(r, c, false);
	model_check_children(r, sup);
}

void model_start(struct run *r, int top)
{
	for (int i = top; i < r->n; i++) {
		if (!below(r, i, top))
			continue;
		model_refresh(r, i);
		if (r->leaf[i])
			r->model[i].wanted = true;
		if (!r->leaf[i] || r->model[i].state != DAVIT_NODE_RUNNING) {
			if (r->leaf[i])
				model_up(r, i);
			else
				r->model[i].state = DAVIT_NODE_RUNNING;
			if (r->leaf[i])
				for (int p = r->parent[top]; p >= 0; p = r->parent[p])
					r->model[p].state = DAVIT_NODE_RUNNING;
		}
	}
}

void model_stop(struct run *r, int top)
{
	model_hush(r, top);
	for (int i = top; i < r->n; i++) {
		if (!below(r, i, top))
			continue;
		r->model[i].state = DAVIT_NODE_IDLE;
		r->model[i].wanted = false;
	}
}

void model_restart(struct run *r, int top)
{
	model_hush(r, top);
	for (int i = top; i < r->n; i++)
		if (r->leaf[i] && below(r, i, top))
			r->model[i].wanted = true;
	if (model_launch(r, top, true))
		for (int p = r->parent[top]; p >= 0; p = r->parent[p])
			r->model[p].state = DAVIT_NODE_RUNNING;
}
