/* SPDX-License-Identifier: MIT
 *
 * What a workload may reach. Each of its service and its namespace that has a policy is a
 * layer, and a connection must be allowed by all: a layer can take away, never give.
 */
#include "core/core_impl.h"
#include "core/spec_table.h"

#include "base/fnv.h"
#include "base/strv.h"

#include <stdio.h>
#include <string.h>

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static const struct davit_spec *namespace_policy(struct davit_core *c, const char *name)
{
	const struct namespace_record *n = davit_map_get(&c->namespaces, name);

	return n && n->spec->egress == DAVIT_EGRESS_DENY ? n->spec : NULL;
}

/* --- of a workload --- */

static int add_layer(struct davit_workload *w, char *from, char *const *hosts)
{
	struct davit_egress *e = &w->egress[w->n_egress];

	if (!from)
		return DAVIT_ENOMEM;
	*e = (struct davit_egress){.from = from};
	w->n_egress++;
	e->hosts = calloc(1, sizeof *e->hosts);
	for (; e->hosts && hosts && *hosts; hosts++)
		if (davit_strv_add(&e->hosts, *hosts) < 0)
			return DAVIT_ENOMEM;
	return e->hosts ? 0 : DAVIT_ENOMEM;
}

int workload_egress(struct davit_core *c, const struct davit_spec *spec, struct davit_workload *w,
		    struct davit_error *err)
{
	const struct davit_spec *ns = namespace_policy(c, spec->namespace_);
	char *from = NULL;
	int r = 0;

	if (!ns && spec->egress != DAVIT_EGRESS_DENY)
		return 0;
	w->egress = calloc(2, sizeof *w->egress);
	if (!w->egress)
		return no_memory(err);
	if (spec->egress == DAVIT_EGRESS_DENY)
		r = add_layer(w, strdup("service"), spec->egress_hosts);
	if (r == 0 && ns) {
		if (asprintf(&from, "namespace %s", ns->name) < 0)
			from = NULL;
		r = add_layer(w, from, ns->egress_hosts);
	}
	return r < 0 ? no_memory(err) : 0;
}

int workload_egress_check(const struct core_runtime *r, const struct davit_workload *w,
			  struct davit_error *err)
{
	if (!w->n_egress || davit_can(&r->caps, DAVIT_CAP_EGRESS))
		return 0;
	return davit_error_set(err, DAVIT_ENOTSUP, "egress.policy",
			       "egress.policy: runtime %s cannot enforce that of the %s: %s", r->name,
			       w->egress[w->n_egress - 1].from, r->caps.why_not[DAVIT_CAP_EGRESS]);
}

/* --- before there is one --- */

/* A runtime that is not open is asked when the instance is made. */
static int check_runtime(struct davit_core *c, const struct davit_spec *spec, const char *who,
			 struct davit_error *err)
{
	const char *name = spec->runtime ? spec->runtime : c->config.default_runtime;
	const struct core_runtime *r = core_runtime_find(c, name);

	if (!r || r->phase != RUNTIME_OPEN || davit_can(&r->caps, DAVIT_CAP_EGRESS))
		return 0;
	return davit_error_set(err, DAVIT_ENOTSUP, "egress.policy",
			       "egress.policy: service %s: runtime %s cannot enforce %s: %s", spec->name,
			       name, who, r->caps.why_not[DAVIT_CAP_EGRESS]);
}

static int check_layer(struct davit_core *c, const struct davit_spec *spec, const char *ns,
		       struct davit_error *err)
{
	char who[96];
	int r;

	snprintf(who, sizeof who, "the policy of namespace %s", ns);
	r = davit_spec_check_confined(spec, who, err);
	return r < 0 ? r : check_runtime(c, spec, who, err);
}

int egress_check_service(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err)
{
	const struct davit_spec *ns = namespace_policy(c, spec->namespace_);
	int r = 0;

	if (spec->egress == DAVIT_EGRESS_DENY)
		r = check_runtime(c, spec, "egress.policy deny", err);
	return r < 0 || !ns ? r : check_layer(c, spec, ns->name, err);
}

int egress_check_namespace(struct davit_core *c, const struct davit_spec *ns, struct davit_error *err)
{
	size_t pos = 0;
	void *v;
	int r = 0;

	while (ns->egress == DAVIT_EGRESS_DENY && r == 0 && davit_map_next(&c->services, &pos, NULL, &v)) {
		const struct davit_service *s = v;

		if (!s->deleting && !strcmp(s->spec->namespace_, ns->name))
			r = check_layer(c, s->spec, ns->name, err);
	}
	return r;
}

/* --- changes --- */

uint64_t egress_generation(struct davit_core *c, const struct davit_spec *spec)
{
	const struct davit_spec *ns = namespace_policy(c, spec->namespace_);
	uint64_t h = DAVIT_FNV_BASIS;

	if (!ns)
		return 0;
	for (char *const *p = ns->egress_hosts; p && *p; p++)
		h = davit_fnv(h, *p, strlen(*p) + 1);
	return h;
}

/* Those that stand as before are found to be so: their generation is the same. */
void egress_changed(struct davit_core *c, const char *ns)
{
	size_t pos = 0;
	void *v;

	while (davit_map_next(&c->services, &pos, NULL, &v)) {
		struct davit_service *s = v;

		if (strcmp(s->spec->namespace_, ns) != 0)
			continue;
		s->settled = false;
		core_service_dirty(s);
	}
}

/* --- for people --- */

void egress_write(const struct davit_workload *w, struct davit_json *j)
{
	davit_json_open_array(j);
	for (size_t i = 0; i < w->n_egress; i++) {
		davit_json_open(j);
		davit_json_put_string(j, "from", w->egress[i].from);
		davit_json_put_strv(j, "hosts", w->egress[i].hosts);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

void egress_text(const struct davit_workload *w, struct davit_buf *out)
{
	davit_buf_addf(out, "it may connect to %s alone",
		       w->n_egress > 1 ? "what each of these allows" : "what this allows");
	for (size_t i = 0; i < w->n_egress; i++) {
		char *const *h = w->egress[i].hosts;

		davit_buf_addf(out, "%s %s: ", i ? ";" : ",", w->egress[i].from);
		for (size_t k = 0; h[k]; k++)
			davit_buf_addf(out, "%s%s", k ? ", " : "", h[k]);
		davit_buf_adds(out, h[0] ? "" : "nothing");
	}
}
