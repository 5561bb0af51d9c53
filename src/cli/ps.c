/* SPDX-License-Identifier: MIT
 *
 * davit ps, davit stats: instances one by one.
 */
#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "net/url.h"

#include <string.h>

/* Does the instance's service ("namespace/name:version") have this name? */
static bool has_name(const json_t *instance, const char *ns, const char *name, const char *version)
{
	const char *s = davit_string(instance, "service");
	size_t n = strlen(ns), m = strlen(name);

	if (strcmp(ns, "*") != 0 && (strncmp(s, ns, n) != 0 || s[n] != '/'))
		return false;
	s = strchr(s, '/');
	return s && !strncmp(s + 1, name, m) && s[m + 1] == ':' && (!version || !strcmp(s + m + 2, version));
}

/* The instances of the namespace, or of one service: a new reference. */
static int list_instances(struct davit_cli *cli, json_t **ret, struct davit_error *err)
{
	const char *name = davit_cli_arg(cli, 0), *ns = davit_cli_namespace(cli);
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *list = NULL, *i;
	size_t n;
	int r;

	davit_buf_adds(&target, "/v1/instances");
	davit_url_query(&target, "namespace", ns);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &list, err);
	if (r < 0)
		return r;
	for (n = json_array_size(list); name && n > 0; n--) {
		i = json_array_get(list, n - 1);
		if (!has_name(i, ns, name, davit_cli_arg(cli, 1)))
			json_array_remove(list, n - 1);
	}
	if (name && !json_array_size(list)) {
		/* None runs, or there is no such service: the daemon knows. */
		davit_buf_reset(&target);
		davit_api_service(cli, 0, "", &target);
		r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, NULL, err);
	}
	if (r < 0)
		json_decref(list);
	else
		*ret = list;
	return r;
}

static int print_table(struct davit_cli *cli, json_t *list, const char *const *columns,
		       const char *const *keys, size_t n, struct davit_error *err)
{
	char number[24], age[DAVIT_AGE_MAX + 8];
	DAVIT_AUTO_TABLE *t = NULL;
	json_t *item;
	size_t i;
	int r = davit_table_new(cli, columns, n, false, &t, err);

	if (r < 0)
		return r;
	json_array_foreach(list, i, item)
	{
		struct libscols_line *row = davit_table_row(t, NULL);
		for (size_t k = 0; k < n; k++) {
			const char *text = davit_text(item, keys[k], number);
			if (!strcmp(keys[k], "started"))
				text = davit_time_text(cli, text, age);
			else if (!strcmp(keys[k], "state") && json_is_true(json_object_get(item, "paused")))
				text = "paused";
			if (davit_table_set(t, row, k, text) < 0)
				return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		}
	}
	return davit_table_print(t, err);
}

static int run_ps(struct davit_cli *cli, struct davit_error *err)
{
	static const char *const columns[] = {"ID",    "SERVICE", "INDEX",   "STATE",
					      "READY", "PID",	  "STARTED", "RESTARTS"};
	static const char *const keys[] = {"id",    "service", "index",	  "state",
					   "ready", "pid",     "started", "restarts"};
	json_t *list = NULL;
	int r = list_instances(cli, &list, err);

	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, list, err);
	else if (r == 0)
		r = print_table(cli, list, columns, keys, DAVIT_ARRAY_SIZE(columns), err);
	json_decref(list);
	return r;
}

static const char *size_text(json_t *stats, const char *key, char buf[DAVIT_TIME_MAX])
{
	static const char units[] = " KMGT";
	double v = json_number_value(json_object_get(stats, key));
	size_t u = 0;

	if (!json_is_number(json_object_get(stats, key)))
		return "-";
	for (; v >= 1024 && u < sizeof units - 2; u++)
		v /= 1024;
	if (u == 0)
		snprintf(buf, DAVIT_TIME_MAX, "%.0f", v);
	else
		snprintf(buf, DAVIT_TIME_MAX, "%.1f%ci", v, units[u]);
	return buf;
}

/* The stats object of one instance, with its id, service and index added. */
static int stats_of(struct davit_cli *cli, json_t *instance, json_t **ret, struct davit_error *err)
{
	static const char *const copied[] = {"id", "service", "index"};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *stats = NULL;
	int r;

	davit_buf_adds(&target, "/v1/instances/");
	davit_url_escape(&target, davit_string(instance, "id"));
	davit_buf_adds(&target, "/stats");
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &stats, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(copied); i++)
		json_object_set(stats, copied[i], json_object_get(instance, copied[i]));
	*ret = stats;
	return 0;
}

static int print_stats(struct davit_cli *cli, json_t *list, struct davit_error *err)
{
	static const char *const columns[] = {"ID",    "SERVICE",   "INDEX", "CPU",	"MEMORY",   "PEAK",
					      "LIMIT", "PROCESSES", "READ",  "WRITTEN", "RECEIVED", "SENT"};
	char a[DAVIT_TIME_MAX], b[24];
	DAVIT_AUTO_TABLE *t = NULL;
	json_t *s;
	size_t i;
	int r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &t, err);

	if (r < 0)
		return r;
	json_array_foreach(list, i, s)
	{
		struct libscols_line *row = davit_table_row(t, NULL);
		char cpu[DAVIT_TIME_MAX];
		snprintf(cpu, sizeof cpu, "%.2fs", json_number_value(json_object_get(s, "cpu")) / 1e9);
		r |= davit_table_set(t, row, 0, davit_string(s, "id"));
		r |= davit_table_set(t, row, 1, davit_string(s, "service"));
		r |= davit_table_set(t, row, 2, davit_text(s, "index", b));
		r |= davit_table_set(t, row, 3, cpu);
		r |= davit_table_set(t, row, 4, size_text(s, "memory", a));
		r |= davit_table_set(t, row, 5, size_text(s, "memoryPeak", a));
		r |= davit_table_set(t, row, 6, size_text(s, "memoryLimit", a));
		r |= davit_table_set(t, row, 7, davit_text(s, "processes", b));
		r |= davit_table_set(t, row, 8, size_text(s, "readBytes", a));
		r |= davit_table_set(t, row, 9, size_text(s, "writeBytes", a));
		r |= davit_table_set(t, row, 10, size_text(s, "netRxBytes", a));
		r |= davit_table_set(t, row, 11, size_text(s, "netTxBytes", a));
	}
	if (r)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_table_print(t, err);
}

static int run_stats(struct davit_cli *cli, struct davit_error *err)
{
	json_t *list = NULL, *all = json_array(), *i, *stats;
	size_t index;
	int r = list_instances(cli, &list, err);

	if (r == 0)
		json_array_foreach(list, index, i)
		{
			if (strcmp(davit_string(i, "state"), "started") != 0)
				continue;
			r = stats_of(cli, i, &stats, err);
			/* One that ended while we asked is no error, it is just not there. */
			if (r == DAVIT_ENOENT || r == DAVIT_ESTATE) {
				davit_error_clear(err);
				r = 0;
				continue;
			}
			if (r < 0)
				break;
			json_array_append_new(all, stats);
		}
	if (r == 0)
		r = cli->format != DAVIT_FORMAT_TEXT ? davit_print_value(cli, all, err)
						     : print_stats(cli, all, err);
	json_decref(all);
	json_decref(list);
	return r;
}

static const struct davit_option *const options[] = {davit_options_namespace, davit_options_data, NULL};
static const char *const ps_examples[] = {"davit ps", "every instance of the namespace",
					  "davit ps foobar -o json", "those of one service", NULL};
static const char *const stats_examples[] = {"davit stats", "what every running instance uses",
					     "davit stats foobar", "those of one service", NULL};

const struct davit_command davit_command_ps = {
	.name = "ps",
	.usage = "[NAME [VERSION]]",
	.group = "Looking",
	.summary = "List instances",
	.details = "The namespace '*' means all.",
	.options = options,
	.max_args = 2,
	.complete = "service",
	.run = run_ps,
	.examples = ps_examples,
};

const struct davit_command davit_command_stats = {
	.name = "stats",
	.usage = "[NAME [VERSION]]",
	.group = "Looking",
	.summary = "Show the use of CPU, memory, disk and network",
	.details = "CPU is the time used since the start of the run. The namespace '*' means all.",
	.options = options,
	.max_args = 2,
	.complete = "service",
	.run = run_stats,
	.examples = stats_examples,
};
