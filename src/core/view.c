/* SPDX-License-Identifier: MIT
 *
 * Views of the whole: the supervision tree, the causal chain of a state, the
 * runtimes and what they can do, health.
 */
#include "core/core_impl.h"

#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void davit_core_write_runtimes(struct davit_core *c, struct davit_json *j)
{
	const struct core_runtime *r;

	davit_json_open_array(j);
	DAVIT_LIST_FOREACH (r, &c->runtimes, list) {
		bool open = r->phase == RUNTIME_OPEN;
		davit_json_open(j);
		davit_json_put_string(j, "name", r->name);
		davit_json_put_string(j, "summary", r->summary);
		davit_json_put_bool(j, "default", !strcmp(r->name, c->config.default_runtime));
		davit_json_put_bool(j, "available", open);
		davit_json_put_string(j, "error", open ? NULL : r->error.message);
		davit_json_key(j, "capabilities");
		davit_json_open_array(j);
		for (int k = 0; open && k < DAVIT_CAP_COUNT; k++) {
			davit_json_open(j);
			davit_json_put_string(j, "name", davit_capability_name(k));
			davit_json_put_string(j, "description", davit_capability_doc(k));
			davit_json_put_bool(j, "supported", davit_can(&r->caps, k));
			davit_json_put_string(j, "reason",
					      davit_can(&r->caps, k) ? NULL : r->caps.why_not[k]);
			davit_json_close(j);
		}
		davit_json_close_array(j);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

/* --- the tree --- */

static void write_node(struct davit_core *c, const struct davit_node *n, struct davit_json *j);

/* At the root, where the order means nothing: supervisors, then services, each by name. */
static int by_name(const void *a, const void *b)
{
	const struct davit_node *x = *(struct davit_node *const *)a, *y = *(struct davit_node *const *)b;

	return x->rule.transparent != y->rule.transparent ? (x->rule.transparent ? 1 : -1)
							  : strcmp(x->name, y->name);
}

static void write_children(struct davit_core *c, const struct davit_node *n, struct davit_json *j)
{
	DAVIT_AUTO_FREE const struct davit_node **v = malloc((n->n_children + 1) * sizeof *v);
	const struct davit_node *child;
	size_t len = 0;

	davit_json_key(j, "children");
	davit_json_open_array(j);
	DAVIT_LIST_FOREACH (child, &n->children, siblings)
		if (v)
			v[len++] = child;
	if (len && !n->parent)
		qsort(v, len, sizeof *v, by_name);
	for (size_t k = 0; k < len; k++)
		write_node(c, v[k], j);
	davit_json_close_array(j);
}

static void write_node(struct davit_core *c, const struct davit_node *n, struct davit_json *j)
{
	const struct davit_service *s = n->leaf ? NULL : davit_map_get(&c->services, n->name);
	bool service = s && s == n->owner;

	davit_json_open(j);
	davit_json_put_string(j, "kind",
			      n->leaf		  ? "instance"
			      : service		  ? "service"
			      : n == &c->sup.root ? "root"
						  : "supervisor");
	davit_json_put_string(j, "name", n->name);
	if (n->leaf) {
		const struct instance *i = n->owner;
		davit_json_put_string(j, "id", i->workload.id);
		if (i->pid && i->state == DAVIT_STATE_STARTED)
			davit_json_put_int(j, "pid", i->pid);
		davit_json_put_int(j, "restarts", n->total_restarts);
		davit_json_put_string(j, "state", davit_node_state_name(n->state));
	} else {
		davit_json_put_string(j, "strategy", davit_supervise_strategy(n->rule.strategy));
		if (n->rule.max_restarts >= 0) {
			davit_json_put_int(j, "maxRestarts", n->rule.max_restarts);
			davit_json_put_int(j, "periodSeconds", n->rule.period / DAVIT_NSEC_PER_SEC);
		}
		davit_json_put_string(j, "state",
				      service	  ? davit_service_status(s)
				      : n->failed ? "failed"
						  : davit_node_state_name(n->state));
		write_children(c, n, j);
	}
	davit_json_close(j);
}

void davit_core_write_tree(struct davit_core *c, struct davit_json *j)
{
	write_node(c, &c->sup.root, j);
}

/* --- why --- */

struct chain {
	struct davit_json *j;
	struct davit_buf *text;
};

static void link_of_chain(struct chain *ch, const char *what, const char *rule, const char *cause,
			  int64_t time, int64_t next, const char *detail)
{
	char when[DAVIT_TIME_MAX];

	davit_json_open(ch->j);
	davit_json_put_string(ch->j, "what", what);
	davit_json_put_string(ch->j, "rule", rule);
	davit_json_put_string(ch->j, "cause", cause);
	davit_json_put_time(ch->j, "time", time);
	davit_json_put_string(ch->j, "detail", detail);
	davit_json_put_time(ch->j, "next", next);
	davit_json_close(ch->j);
	davit_buf_addf(ch->text, "%s: %s", what, detail);
	if (time)
		davit_buf_addf(ch->text, " (at %s)", davit_time_format(time, when));
	if (next)
		davit_buf_addf(ch->text, "; next start at %s", davit_time_format(next, when));
	davit_buf_addc(ch->text, '\n');
}

static void exit_detail(const struct instance *i, char *buf, size_t n)
{
	const struct davit_exit *e = &i->exit;

	if (e->kind == DAVIT_EXIT_CODE)
		snprintf(buf, n, "run %u ended with exit code %d%s%s", i->exit_run, e->code,
			 e->reason[0] ? ": " : "", e->reason);
	else if (e->kind == DAVIT_EXIT_SIGNAL)
		snprintf(buf, n, "run %u was ended by signal %d (%s)%s%s", i->exit_run, e->signal,
			 strsignal(e->signal), e->reason[0] ? ": " : "", e->reason);
	else if (e->kind == DAVIT_EXIT_OOM)
		snprintf(buf, n, "run %u was killed at its memory limit", i->exit_run);
	else
		snprintf(buf, n, "run %u ended: %s", i->exit_run,
			 e->reason[0] ? e->reason : "status unknown");
}

static void decision_detail(const struct instance *i, char *buf, size_t n)
{
	static const char *const policies[] = {
		[DAVIT_RESTART_ON_FAILURE] = "on-failure",
		[DAVIT_RESTART_NEVER] = "never",
		[DAVIT_RESTART_ALWAYS] = "always",
		[DAVIT_RESTART_UNLESS_STOPPED] = "unless-stopped",
	};
	const struct davit_node *node = &i->node;
	const char *policy = policies[node->restart.policy];
	const char *rule = node->rule_name ? node->rule_name : "policy";
	char limit[32] = "";

	if (node->restart.retries >= 0)
		snprintf(limit, sizeof limit, " of %" PRId64, node->restart.retries);
	switch (node->state) {
	case DAVIT_NODE_WAITING:
	case DAVIT_NODE_STARTING:
	case DAVIT_NODE_RUNNING:
		if (!node->restarts) {
			snprintf(buf, n, "rule %s: it is wanted", rule);
			break;
		}
		snprintf(buf, n, "rule %s (restart: %s, cause %s): restarted, restart %" PRId64 "%s", rule,
			 policy, davit_cause_name(node->cause), node->restarts, limit);
		break;
	case DAVIT_NODE_COMPLETED:
		snprintf(buf, n, "rule %s (restart: %s, cause %s): no restart is wanted", rule, policy,
			 davit_cause_name(node->cause));
		break;
	case DAVIT_NODE_FAILED:
		if (!node->restarts) {
			snprintf(buf, n, "rule %s (restart: %s, cause %s): it stays failed without a restart",
				 rule, policy, davit_cause_name(node->cause));
			break;
		}
		snprintf(buf, n,
			 "rule %s (restart: %s, cause %s): it stays failed after %" PRId64 " restart%s%s",
			 rule, policy, davit_cause_name(node->cause), node->restarts,
			 node->restarts == 1 ? "" : "s", limit);
		break;
	default:
		snprintf(buf, n, "rule %s (cause %s)", rule, davit_cause_name(node->cause));
	}
}

static void instance_chain(struct chain *ch, const struct instance *i)
{
	const struct davit_node *node = &i->node;
	char what[64], detail[320];

	snprintf(what, sizeof what, "instance %u", i->workload.index);
	if (i->exit_run && i->exit.kind != DAVIT_EXIT_NONE) {
		exit_detail(i, detail, sizeof detail);
		link_of_chain(ch, what, NULL, NULL, i->exit.time, 0, detail);
	}
	if (i->error && i->state != DAVIT_STATE_STARTED)
		link_of_chain(ch, what, NULL, NULL, 0, 0, i->error->message);
	if (node->decided) {
		decision_detail(i, detail, sizeof detail);
		link_of_chain(ch, what, node->rule_name, davit_cause_name(node->cause), node->decided,
			      node->next_start, detail);
		if (node->origin && node->origin != node) {
			snprintf(detail, sizeof detail, "because '%s' below '%s' ended", node->origin->name,
				 node->origin->parent ? node->origin->parent->name : "Main");
			link_of_chain(ch, what, node->rule_name, NULL, node->decided, 0, detail);
		}
	}
	if (i->workload.n_egress) {
		DAVIT_AUTO_BUF egress = DAVIT_BUF_INIT;

		egress_text(&i->workload, &egress);
		link_of_chain(ch, what, "egress", NULL, 0, 0, davit_buf_str(&egress));
	}
	if (i->held_for)
		link_of_chain(ch, what, "dependency", NULL, 0, 0, i->held_for);
	if (i->state == DAVIT_STATE_STARTED) {
		snprintf(detail, sizeof detail, "run %u is %s as pid %d%s", i->run,
			 i->ready ? "ready" : "not ready yet", (int)i->pid,
			 i->goal == GOAL_STOP ? ", being stopped" : "");
		link_of_chain(ch, what, NULL, NULL, i->started, 0, detail);
	}
}

void davit_service_write_why(const struct davit_service *s, struct davit_json *j)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct chain ch = {j, &text};
	const char *status = davit_service_status(s);
	char detail[128];

	davit_json_open(j);
	davit_json_put_string(j, "service", s->key);
	davit_json_put_string(j, "status", status);
	davit_buf_addf(&text, "%s:%s is %s\n", s->spec->name, s->spec->version, status);
	davit_json_key(j, "chain");
	davit_json_open_array(j);
	if (s->deleting)
		link_of_chain(&ch, "service", "user", NULL, 0, 0,
			      "it was killed and goes when its instances are gone");
	if (s->spec->stopped)
		link_of_chain(&ch, "service", "user", NULL, s->updated, 0,
			      "it was stopped; davit start runs it again");
	else if (!s->spec->instances)
		link_of_chain(&ch, "service", "user", NULL, s->updated, 0, "it is scaled to 0 instances");
	if (s->error)
		link_of_chain(&ch, "service", NULL, NULL, 0, 0, s->error);
	if (s->build_phase == BUILD_RUNNING)
		link_of_chain(&ch, "build", NULL, NULL, s->build ? s->build->started : 0, 0,
			      "its source is being built");
	for (size_t k = 0; k < s->n_slots; k++)
		if (s->slots[k].current)
			instance_chain(&ch, s->slots[k].current);
	for (const struct davit_node *n = s->node.parent; n; n = n->parent)
		if (n->failed) {
			snprintf(detail, sizeof detail, "supervisor '%.60s' failed by rule %s", n->name,
				 n->rule_name ? n->rule_name : "-");
			link_of_chain(&ch, "supervision", n->rule_name, NULL, n->decided, n->next_start,
				      detail);
		}
	davit_json_close_array(j);
	davit_json_put_string(j, "text", davit_buf_str(&text));
	davit_json_close(j);
}

/* --- supervisors and namespaces --- */

static void write_kind(const struct davit_spec *spec, int64_t revision, struct davit_json *j)
{
	DAVIT_AUTO_FREE char *text = davit_spec_json(spec);

	davit_json_open(j);
	davit_json_key(j, "spec");
	if (text)
		davit_json_raw(j, text);
	else
		davit_json_null(j);
	davit_json_put_int(j, "revision", revision);
	davit_json_close(j);
}

void davit_core_write_kind(struct davit_core *c, enum davit_kind kind, struct davit_json *j)
{
	size_t pos = 0;
	void *v;

	davit_json_open_array(j);
	if (kind == DAVIT_KIND_SUPERVISOR)
		while (davit_map_next(&c->supervisors, &pos, NULL, &v))
			write_kind(((struct supervisor *)v)->spec, ((struct supervisor *)v)->revision, j);
	else if (kind == DAVIT_KIND_NAMESPACE)
		while (davit_map_next(&c->namespaces, &pos, NULL, &v))
			write_kind(((struct namespace_record *)v)->spec,
				   ((struct namespace_record *)v)->revision, j);
	davit_json_close_array(j);
}

/* --- health --- */

/* Those of services; and builds under way. One that has ended is kept for its log. */
static void count_instances(struct davit_core *c, size_t *ret_instances, size_t *ret_builds)
{
	size_t pos = 0;
	void *v;

	*ret_instances = *ret_builds = 0;
	while (davit_map_next(&c->instances, &pos, NULL, &v)) {
		const struct instance *i = v;
		*ret_instances += !i->is_build;
		*ret_builds += i->is_build && i->state == DAVIT_STATE_STARTED;
	}
}

void davit_core_write_health(struct davit_core *c, struct davit_json *j)
{
	size_t instances, builds;
	struct davit_error err;
	int code = c->store->driver->health(c->store, &err);

	davit_json_open(j);
	davit_json_key(j, "store");
	davit_json_open(j);
	davit_json_put_string(j, "name", c->store->driver->name);
	davit_json_put_bool(j, "healthy", code == 0);
	davit_json_put_string(j, "error", code < 0 ? err.message : NULL);
	davit_json_close(j);
	davit_json_put_int(j, "services", (int64_t)c->services.len);
	count_instances(c, &instances, &builds);
	davit_json_put_int(j, "instances", (int64_t)instances);
	davit_json_put_int(j, "builds", (int64_t)builds);
	davit_json_put_int(j, "lastEvent", (int64_t)davit_journal_last_event(c->journal));
	davit_json_put_time(j, "started", c->started);
	davit_json_close(j);
}
