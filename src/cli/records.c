/* SPDX-License-Identifier: MIT
 *
 * davit supervisor and davit namespace: the records that davit apply makes beside
 * services are listed and removed.
 */
#include "cli/api.h"
#include "cli/output.h"
#include "net/url.h"

#include <string.h>

struct record_kind {
	const char *name; /* of the command */
	const char *path; /* of the API */
	bool namespaced;
	const char *const *columns;
	const char *const *keys; /* paths into the spec, with a dot at most */
	size_t n;
};

/* What stands at "key" or "outer.key" of a spec, as text. */
static void text_at(const json_t *spec, const char *path, struct davit_buf *out)
{
	const char *dot = strchr(path, '.');
	char outer[32];
	const json_t *v = spec;

	if (dot) {
		snprintf(outer, sizeof outer, "%.*s", (int)(dot - path), path);
		v = json_object_get(spec, outer);
		path = dot + 1;
	}
	v = json_object_get(v, path);
	davit_buf_reset(out);
	if (json_is_string(v))
		davit_buf_adds(out, json_string_value(v));
	else if (json_is_integer(v))
		davit_buf_addf(out, "%lld", (long long)json_integer_value(v));
	else if (json_is_boolean(v))
		davit_buf_adds(out, json_is_true(v) ? "yes" : "no");
}

static bool shown(const struct davit_cli *cli, const struct record_kind *kind, const json_t *spec)
{
	const char *own = json_string_value(json_object_get(spec, "namespace")), *ns;

	if (!kind->namespaced)
		return true;
	ns = davit_cli_namespace(cli);
	return !strcmp(ns, "*") || !strcmp(ns, own ? own : "default");
}

static int list(struct davit_cli *cli, const struct record_kind *kind, struct davit_error *err)
{
	DAVIT_AUTO_TABLE *t = NULL;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *answer = NULL, *record, *specs = json_array();
	/* The namespace only where more than one is shown. */
	size_t from = kind->namespaced && strcmp(davit_cli_namespace(cli), "*") != 0, i;
	int r = davit_api_call(cli, "GET", kind->path, NULL, &answer, err);

	json_array_foreach(answer, i, record) if (shown(cli, kind, json_object_get(record, "spec")))
		json_array_append(specs, json_object_get(record, "spec"));
	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, specs, err);
	else if (r == 0)
		r = davit_table_new(cli, kind->columns + from, kind->n - from, false, &t, err);
	if (t) {
		json_array_foreach(specs, i, record)
		{
			struct libscols_line *row = davit_table_row(t, NULL);
			for (size_t k = from; k < kind->n; k++) {
				text_at(record, kind->keys[k], &text);
				if (!text.len && kind->namespaced && k == 0)
					davit_buf_adds(&text, "default");
				r |= davit_table_set(t, row, k - from, davit_buf_str(&text));
			}
		}
		r = r ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : davit_table_print(t, err);
	}
	json_decref(answer);
	json_decref(specs);
	return r;
}

static int drop(struct davit_cli *cli, const struct record_kind *kind, const char *name,
		struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	int r;

	davit_buf_addf(&target, "%s/", kind->path);
	if (kind->namespaced) {
		davit_url_escape(&target, davit_cli_namespace(cli));
		davit_buf_addc(&target, '/');
	}
	davit_url_escape(&target, name);
	r = davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, NULL, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
		printf("%s %s: removed\n", kind->name, name);
	return r;
}

static int run_kind(struct davit_cli *cli, const struct record_kind *kind, struct davit_error *err)
{
	const char *verb = cli->args[0], *name = davit_cli_arg(cli, 1);

	if (!strcmp(verb, "list") && !name)
		return list(cli, kind, err);
	if (!strcmp(verb, "rm") && name)
		return drop(cli, kind, name, err);
	return davit_cli_usage(cli, err, "'%s' needs one of: list, rm NAME; davit apply -f makes one",
			       kind->name);
}

/* --- supervisors --- */

static const char *const supervisor_columns[] = {"NAMESPACE", "NAME",	    "STRATEGY",	 "RESTARTS",
						 "PERIOD",    "ESCALATION", "SUPERVISOR"};
static const char *const supervisor_keys[] = {
	"namespace",	    "name",	  "strategy",  "intensity.restarts",
	"intensity.period", "escalation", "supervisor"};
static const struct record_kind supervisors = {
	"supervisor",	    "/v1/supervisors", true,
	supervisor_columns, supervisor_keys,   DAVIT_ARRAY_SIZE(supervisor_columns),
};

static int run_supervisor(struct davit_cli *cli, struct davit_error *err)
{
	return run_kind(cli, &supervisors, err);
}

static const struct davit_option *const supervisor_options[] = {davit_options_namespace, davit_options_data,
								NULL};
static const char *const supervisor_examples[] = {"davit supervisor list", "what was set for each",
						  "davit supervisor rm app",
						  "its services stand under the root then", NULL};

const struct davit_command davit_command_supervisor = {
	.name = "supervisor",
	.usage = "list | rm NAME",
	.group = "System",
	.summary = "List and remove supervisors",
	.details = "A supervisor is made by davit apply -f FILE with kind: Supervisor. An empty column means "
		   "the "
		   "default.",
	.options = supervisor_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "list|rm",
	.run = run_supervisor,
	.examples = supervisor_examples,
};

/* --- namespaces --- */

static const char *const namespace_columns[] = {"NAME", "SERVICES", "INSTANCES", "MEMORY", "EGRESS"};
static const char *const namespace_keys[] = {"name", "quota.services", "quota.instances", "quota.memory",
					     "egress.policy"};
static const struct record_kind namespaces = {
	"namespace",	   "/v1/namespaces", false,
	namespace_columns, namespace_keys,   DAVIT_ARRAY_SIZE(namespace_columns),
};

static int run_namespace(struct davit_cli *cli, struct davit_error *err)
{
	return run_kind(cli, &namespaces, err);
}

static const struct davit_option *const namespace_options[] = {davit_options_data, NULL};
static const char *const namespace_examples[] = {"davit namespace list", "namespaces with a quota",
						 "davit namespace rm team",
						 "lift the quota of one without services", NULL};

const struct davit_command davit_command_namespace = {
	.name = "namespace",
	.usage = "list | rm NAME",
	.group = "System",
	.summary = "List and remove quotas of namespaces",
	.details = "A namespace needs no record to be used; davit apply -f FILE with kind: Namespace sets a "
		   "quota, or a policy of what its services may connect to (egress). "
		   "An empty column means no limit.",
	.options = namespace_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "list|rm",
	.run = run_namespace,
	.examples = namespace_examples,
};
