/* SPDX-License-Identifier: MIT
 *
 * What the core shows of itself: selecting services, and their stable JSON.
 */
#include "core/instance_op.h"

#include "base/nearest.h"
#include "base/units.h"

#include <stdio.h>
#include <string.h>

/* --- selecting --- */

static int by_key(const void *a, const void *b)
{
	const struct davit_spec *x = (*(struct davit_service *const *)a)->spec;
	const struct davit_spec *y = (*(struct davit_service *const *)b)->spec;
	int r = strcmp(x->namespace_, y->namespace_);

	if (!r)
		r = strcmp(x->name, y->name);
	return r ? r : strcmp(x->version, y->version);
}

static bool matches(const struct davit_selector *sel, const struct davit_spec *spec)
{
	const char *ns = sel->namespace_ && sel->namespace_[0] ? sel->namespace_ : "default";

	return (!strcmp(ns, "*") || !strcmp(ns, spec->namespace_)) &&
	       (!sel->name || !sel->name[0] || !strcmp(sel->name, spec->name)) &&
	       (!sel->version || !sel->version[0] || !strcmp(sel->version, spec->version));
}

/* Those that may match, in no order: all of them, or, where one namespace and a
 * name are given, the versions of that name. A heap array, or NULL. */
static struct davit_service **candidates(struct davit_core *c, const struct davit_selector *sel,
					 size_t *ret_n)
{
	const char *ns = sel->namespace_ && sel->namespace_[0] ? sel->namespace_ : "default";
	bool named = sel->name && sel->name[0] && strcmp(ns, "*") != 0;
	struct service_name *name = named ? registry_name(c, ns, sel->name) : NULL;
	size_t n = 0, pos = 0, max = named ? 0 : c->services.len;
	struct davit_service **v, *s;
	void *any;

	if (name)
		DAVIT_LIST_FOREACH (s, &name->services, same_name)
			max++;
	v = malloc((max + 1) * sizeof *v);
	if (v && name) {
		DAVIT_LIST_FOREACH (s, &name->services, same_name)
			v[n++] = s;
	}
	while (v && !named && davit_map_next(&c->services, &pos, NULL, &any))
		v[n++] = any;
	*ret_n = n;
	return v;
}

size_t davit_core_services(struct davit_core *c, const struct davit_selector *sel,
			   bool (*fn)(void *user, struct davit_service *s), void *user)
{
	DAVIT_AUTO_FREE struct davit_service **v = NULL;
	size_t all, n = 0, called = 0;

	v = candidates(c, sel, &all);
	for (size_t k = 0; v && k < all; k++)
		if (matches(sel, v[k]->spec))
			v[n++] = v[k];
	if (n)
		qsort(v, n, sizeof *v, by_key);
	for (size_t k = 0; k < n; k++) {
		called++;
		if (!fn(user, v[k]))
			break;
	}
	return called;
}

struct few {
	struct davit_service *v[8];
	size_t n;
};

static bool take_few(void *user, struct davit_service *s)
{
	struct few *f = user;

	if (f->n < DAVIT_ARRAY_SIZE(f->v))
		f->v[f->n] = s;
	f->n++;
	return true;
}

static int not_found(struct davit_core *c, const struct davit_selector *sel, struct davit_error *err)
{
	const char *ns = sel->namespace_ && sel->namespace_[0] ? sel->namespace_ : "default";
	DAVIT_AUTO_FREE const char **names = malloc((c->services.len + 1) * sizeof *names);
	const char *near = NULL;
	size_t n = 0, pos = 0;
	int64_t revision;
	void *s;

	if (unreadable_service(c, sel, &revision))
		return davit_error_set(
			err, DAVIT_ECORRUPT, "name",
			"the record of service '%s' cannot be read; 'davit run' makes it anew, "
			"'davit kill' removes it",
			sel->name);
	while (names && davit_map_next(&c->services, &pos, NULL, &s)) {
		const struct davit_spec *spec = ((struct davit_service *)s)->spec;
		if (!strcmp(ns, "*") || !strcmp(ns, spec->namespace_))
			names[n++] = spec->name;
	}
	if (sel->name && names)
		near = davit_nearest(sel->name, names, n);
	if (near && !strcmp(near, sel->name))
		near = NULL;
	return davit_error_set(err, DAVIT_ENOENT, "name", "service '%s%s%s' not found%s%s%s",
			       sel->name ? sel->name : "", sel->version && sel->version[0] ? ":" : "",
			       sel->version ? sel->version : "", near ? "; did you mean '" : "",
			       near ? near : "", near ? "'?" : "");
}

int davit_core_service(struct davit_core *c, const struct davit_selector *sel, struct davit_service **ret,
		       struct davit_error *err)
{
	struct few f = {.n = 0};
	char versions[256] = "";

	davit_core_services(c, sel, take_few, &f);
	if (f.n == 1) {
		*ret = f.v[0];
		return 0;
	}
	if (!f.n)
		return not_found(c, sel, err);
	for (size_t k = 0; k < f.n && k < DAVIT_ARRAY_SIZE(f.v); k++) {
		size_t len = strlen(versions);
		snprintf(versions + len, sizeof versions - len, "%s%s", k ? ", " : "", f.v[k]->spec->version);
	}
	return davit_error_set(err, DAVIT_EINVAL, "version",
			       "service '%s' has several versions (%s): name one", sel->name ? sel->name : "",
			       versions);
}

const struct davit_spec *davit_service_spec(const struct davit_service *s)
{
	return s->spec;
}

int64_t davit_service_revision(const struct davit_service *s)
{
	return s->revision;
}

size_t davit_service_instances(struct davit_service *s, bool (*fn)(void *user, struct davit_instance *i),
			       void *user)
{
	size_t n = 0;

	for (size_t k = 0; k < s->n_slots; k++) {
		struct instance *const both[] = {s->slots[k].current, s->slots[k].next};
		for (size_t m = 0; m < 2; m++) {
			if (!both[m] || !both[m]->inst)
				continue;
			n++;
			if (!fn(user, both[m]->inst))
				return n;
		}
	}
	return n;
}

struct davit_instance *davit_core_instance(struct davit_core *c, struct davit_service *s, const char *id)
{
	struct instance *i = davit_map_get(&c->instances, id);
	char *end;
	unsigned long index;

	if (i)
		return !s || i->service == s ? i->inst : NULL;
	if (!s || !id[0])
		return NULL;
	index = strtoul(id, &end, 10);
	if (*end || index >= s->n_slots || !s->slots[index].current)
		return NULL;
	return s->slots[index].current->inst;
}

struct davit_instance *davit_service_build(struct davit_service *s)
{
	return s->build ? s->build->inst : NULL;
}

/* --- status --- */

struct summary {
	size_t wanted, running, paused, ready, starting, stopping, waiting, failed, completed, alive;
	bool lost;
	int64_t restarts;
	const char *error;
	char text[512];
};

/* Ready, and looked at since it was started: until then its process is not known, which may have
 * ended already. */
static bool shown_ready(const struct instance *i)
{
	return i->ready && !(i->op && i->op->kind == DO_INSPECT);
}

static void summarise(const struct davit_service *s, struct summary *ret)
{
	*ret = (struct summary){.wanted = s->spec->stopped ? 0 : (size_t)s->spec->instances};
	for (size_t k = 0; k < s->n_slots; k++) {
		const struct instance *i = s->slots[k].current;
		if (!i)
			continue;
		ret->restarts += i->node.total_restarts;
		ret->lost |= i->runtime->phase != RUNTIME_OPEN;
		if (i->state == DAVIT_STATE_STARTED) {
			ret->alive++;
			if (i->goal == GOAL_STOP || i->goal == GOAL_GONE ||
			    i->node.state == DAVIT_NODE_STOPPING)
				ret->stopping++;
			else if (shown_ready(i))
				ret->ready++;
			else
				ret->starting++;
			ret->paused += i->paused;
		} else if (i->node.state == DAVIT_NODE_FAILED) {
			ret->failed++;
		} else if (i->node.state == DAVIT_NODE_COMPLETED) {
			ret->completed++;
		} else if (i->node.state == DAVIT_NODE_STARTING) {
			ret->starting++;
		} else if (i->node.state == DAVIT_NODE_STOPPING) {
			ret->stopping++;
		} else {
			ret->waiting++;
		}
		if (i->held_for && !ret->error)
			ret->error = i->held_for;
		if (i->error && i->state != DAVIT_STATE_STARTED && i->node.state != DAVIT_NODE_COMPLETED)
			ret->error = i->error->message;
	}
	if (s->error)
		ret->error = s->error;
}

static const char *status_of(const struct davit_service *s, const struct summary *m)
{
	if (s->deleting)
		return "stopping";
	if (m->lost && m->alive)
		return "unknown";
	if (!m->wanted)
		return m->alive || m->stopping ? "stopping" : "stopped";
	if (m->failed)
		return "error";
	if (m->paused && m->paused == m->alive && !m->stopping)
		return "paused";
	if (m->ready >= m->wanted)
		return "running";
	if (!m->alive && !m->completed && s->build_phase == BUILD_RUNNING)
		return "building";
	if (!m->alive && s->build_phase == BUILD_FAILED)
		return "error";
	if (m->ready + m->completed >= m->wanted)
		return m->ready ? "running" : "stopped";
	if (m->starting)
		return "starting";
	if (m->stopping && !m->waiting)
		return "stopping";
	return "pending";
}

const char *davit_service_status(const struct davit_service *s)
{
	struct summary m;

	summarise(s, &m);
	return status_of(s, &m);
}

/* --- JSON --- */

static void write_exit(const struct instance *i, struct davit_json *j)
{
	const struct davit_exit *e = &i->exit;

	davit_json_key(j, "exit");
	if (!i->exit_run || i->exit_run < i->run || e->kind == DAVIT_EXIT_NONE) {
		davit_json_null(j);
		return;
	}
	davit_json_open(j);
	davit_json_key(j, "code");
	if (e->kind == DAVIT_EXIT_CODE)
		davit_json_int(j, e->code);
	else
		davit_json_null(j);
	davit_json_key(j, "signal");
	if (e->kind == DAVIT_EXIT_SIGNAL || e->kind == DAVIT_EXIT_OOM)
		davit_json_int(j, e->signal);
	else
		davit_json_null(j);
	davit_json_put_string(j, "reason", e->reason[0] ? e->reason : davit_exit_kind_name(e->kind));
	davit_json_put_time(j, "time", e->time);
	davit_json_close(j);
}

static void write_address(const struct instance *i, struct davit_json *j)
{
	char text[80];

	davit_json_key(j, "addresses");
	davit_json_open_array(j);
	for (size_t k = 0; i->state == DAVIT_STATE_STARTED && k < i->workload.n_ports; k++) {
		const struct davit_port *p = &i->workload.ports[k];
		if (!p->host)
			continue;
		snprintf(text, sizeof text, "%s:%u%s", p->bind[0] ? p->bind : "127.0.0.1", p->host,
			 p->udp ? "/udp" : "");
		davit_json_string(j, text);
	}
	davit_json_close_array(j);
}

static const char *shown_state(const struct instance *i)
{
	if (i->state == DAVIT_STATE_STARTED && i->runtime->phase != RUNTIME_OPEN)
		return "unknown";
	if (i->node.state == DAVIT_NODE_FAILED)
		return "failed";
	return davit_state_name(i->state);
}

static void instance_write(const struct instance *i, struct davit_json *j)
{
	davit_json_open(j);
	davit_json_put_string(j, "id", i->workload.id);
	davit_json_put_int(j, "index", i->workload.index);
	davit_json_put_string(j, "state", shown_state(i));
	davit_json_key(j, "pid");
	if (i->pid && i->state == DAVIT_STATE_STARTED)
		davit_json_int(j, i->pid);
	else
		davit_json_null(j);
	davit_json_put_bool(j, "ready", shown_ready(i));
	if (i->service && i->service->spec->n_health)
		davit_json_put_string(j, "health", health_name(i));
	if (i->paused)
		davit_json_put_bool(j, "paused", true);
	davit_json_put_time(j, "started", i->started);
	davit_json_put_int(j, "run", i->run);
	davit_json_put_int(j, "restarts", i->node.total_restarts);
	write_address(i, j);
	if (i->status_text)
		davit_json_put_string(j, "status", i->status_text);
	if (i->error)
		davit_json_put_string(j, "error", i->error->message);
	if (i->node.next_start)
		davit_json_put_time(j, "nextStart", i->node.next_start);
	write_exit(i, j);
	davit_json_close(j);
}

void davit_instance_write(const struct davit_instance *inst, struct davit_json *j)
{
	instance_write(inst->owner, j);
}

static const char *build_text(const struct davit_service *s)
{
	if (!build_needed(s))
		return NULL;
	switch (s->build_phase) {
	case BUILD_RUNNING:
		return "building";
	case BUILD_FAILED:
		return "failed";
	case BUILD_DONE:
		return s->built && s->built->cell ? s->built->cell : "done";
	case BUILD_NONE:
		break;
	}
	return NULL;
}

/* A build runs, or an instance is not yet of the recorded spec and may become so. */
static bool updating(const struct davit_service *s)
{
	if (s->deleting || s->spec->stopped)
		return false;
	if (!s->settled)
		return s->build_phase != BUILD_FAILED;
	for (size_t k = 0; k < s->n_slots; k++) {
		const struct instance *i = s->slots[k].current;
		if (s->slots[k].next ||
		    (i && i->generation != s->generation && s->failed_generation != s->generation))
			return true;
	}
	return false;
}

static void write_fields(const struct davit_service *s, struct davit_json *j)
{
	const struct davit_spec *spec = s->spec;
	struct summary m;

	summarise(s, &m);
	davit_json_put_string(j, "namespace", spec->namespace_);
	davit_json_put_string(j, "name", spec->name);
	davit_json_put_string(j, "version", spec->version);
	davit_json_put_string(j, "runtime", spec->runtime ? spec->runtime : s->core->config.default_runtime);
	davit_json_put_string(j, "source", spec->source ? spec->source : spec->image);
	davit_json_put_string(j, "status", status_of(s, &m));
	davit_json_put_string(j, "error", m.error ? m.error : "");
	davit_json_put_int(j, "restarts", m.restarts);
	davit_json_put_time(j, "created", s->created);
	davit_json_put_time(j, "updated", s->updated);
	davit_json_put_int(j, "wanted", (int64_t)m.wanted);
	davit_json_put_int(j, "ready", (int64_t)m.ready);
	davit_json_put_string(j, "build", build_text(s));
	if (updating(s))
		davit_json_put_bool(j, "updating", true);
	davit_json_key(j, "metadata");
	davit_json_open(j);
	for (size_t k = 0; k < spec->n_metadata; k++)
		davit_json_put_string(j, spec->metadata[k].name, spec->metadata[k].value);
	davit_json_close(j);
	davit_json_put_int(j, "revision", s->revision);
	davit_json_key(j, "instances");
	davit_json_open_array(j);
	for (size_t k = 0; k < s->n_slots; k++) {
		if (s->slots[k].current)
			instance_write(s->slots[k].current, j);
		if (s->slots[k].next)
			instance_write(s->slots[k].next, j);
	}
	davit_json_close_array(j);
}

void davit_service_write_row(const struct davit_service *s, struct davit_json *j)
{
	const struct davit_spec *spec = s->spec;
	char when[DAVIT_TIME_MAX];
	struct summary m;

	summarise(s, &m);
	davit_json_open_array(j);
	davit_json_string(j, spec->namespace_);
	davit_json_string(j, spec->name);
	davit_json_string(j, spec->version);
	davit_json_string(j, spec->runtime ? spec->runtime : s->core->config.default_runtime);
	davit_json_string(j, spec->source ? spec->source : spec->image);
	davit_json_string(j, status_of(s, &m));
	davit_json_string(j, build_text(s));
	davit_json_string(j, davit_time_format(s->updated, when));
	davit_json_open(j);
	for (size_t k = 0; k < spec->n_metadata; k++)
		davit_json_put_string(j, spec->metadata[k].name, spec->metadata[k].value);
	davit_json_close(j);
	davit_json_close_array(j);
}

void davit_service_write(const struct davit_service *s, struct davit_json *j)
{
	davit_json_open(j);
	write_fields(s, j);
	davit_json_close(j);
}

/* The environment as it is given, but for the values of secrets. */
static void write_env(const struct davit_service *s, const struct davit_workload *w, struct davit_json *j)
{
	davit_json_key(j, "env");
	davit_json_open(j);
	for (size_t k = 0; w->env && w->env[k]; k++) {
		const char *equal = strchr(w->env[k], '=');
		char name[128];
		bool secret = false;
		if (!equal || (size_t)(equal - w->env[k]) >= sizeof name)
			continue;
		memcpy(name, w->env[k], (size_t)(equal - w->env[k]));
		name[equal - w->env[k]] = '\0';
		for (size_t n = 0; n < s->spec->n_secrets; n++)
			secret |= s->spec->secrets[n].env && !strcmp(s->spec->secrets[n].env, name);
		davit_json_put_string(j, name, secret ? "(secret)" : equal + 1);
	}
	davit_json_close(j);
}

void davit_service_write_inspect(const struct davit_service *s, struct davit_json *j)
{
	DAVIT_AUTO_FREE char *spec = davit_spec_json(s->spec);

	davit_json_open(j);
	write_fields(s, j);
	davit_json_key(j, "spec");
	if (spec)
		davit_json_raw(j, spec);
	else
		davit_json_null(j);
	davit_json_key(j, "workloads");
	davit_json_open_array(j);
	for (size_t k = 0; k < s->n_slots; k++) {
		const struct instance *i = s->slots[k].current;
		if (!i)
			continue;
		davit_json_open(j);
		davit_json_put_string(j, "id", i->workload.id);
		davit_json_put_strv(j, "command", i->workload.argv);
		write_env(s, &i->workload, j);
		davit_json_put_string(j, "directory", i->workload.directory);
		davit_json_put_string(j, "user", i->workload.user);
		if (i->workload.n_egress) {
			davit_json_key(j, "egress");
			egress_write(&i->workload, j);
		}
		davit_json_close(j);
	}
	davit_json_close_array(j);
	if (s->built) {
		davit_json_key(j, "built");
		davit_json_open(j);
		davit_json_put_string(j, "cell", s->built->cell);
		davit_json_put_string(j, "content", s->built->content);
		davit_json_put_string(j, "directory", s->built->directory);
		davit_json_put_strv(j, "command", s->built->argv);
		davit_json_close(j);
	}
	davit_json_close(j);
}
