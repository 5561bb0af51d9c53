/* SPDX-License-Identifier: MIT
 *
 * davit project:..., server:ping: trees of containers, and who serves them.
 */
#include "base/units.h"
#include "cli/api.h"
#include "cli/containers.h"
#include "cli/output.h"
#include "cli/spec_options.h"
#include "net/url.h"

#include <string.h>

/* The argument, else $DAVIT_PROJECT, else "default". */
static const char *name_of(const struct davit_cli *cli)
{
	const char *env = getenv("DAVIT_PROJECT");

	return cli->n_args ? cli->args[0] : env && env[0] ? env : "default";
}

static void target_of(const struct davit_cli *cli, const char *suffix, struct davit_buf *out)
{
	davit_buf_adds(out, "/v1/projects/");
	davit_url_escape(out, name_of(cli));
	davit_buf_adds(out, suffix);
}

static int done(struct davit_cli *cli, json_t *project, const char *what, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	davit_buf_addf(&text, "%s: %s", name_of(cli), what ? what : davit_string(project, "state"));
	return davit_container_done(cli, project, davit_buf_str(&text), err);
}

static int put(json_t *body, const char *key, const char *value)
{
	return value ? json_object_set_new(body, key, json_string(value)) : 0;
}

static int run_create(struct davit_cli *cli, struct davit_error *err)
{
	const char *where = davit_cli_value(cli, "directory"), *workers = davit_cli_value(cli, "workers");
	DAVIT_AUTO_FREE char *directory = NULL;
	json_t *body = json_pack("{s:s}", "name", name_of(cli)), *answer = NULL;
	int64_t n = 0;
	int r = davit_absolute(where ? where : ".", true, &directory, err);

	if (workers)
		davit_int_parse(workers, 1, 1024, &n, NULL);
	if (r == 0 && (!body || put(body, "directory", directory) < 0 ||
		       put(body, "searchThread", davit_cli_value(cli, "search-thread")) < 0 ||
		       put(body, "searchProcess", davit_cli_value(cli, "search-process")) < 0 ||
		       (n && json_object_set_new(body, "workers", json_integer(n)) < 0)))
		r = davit_cli_usage(cli, err, "names and paths must be UTF-8 text");
	if (r == 0)
		r = davit_api_call(cli, "POST", "/v1/projects", body, &answer, err);
	json_decref(body);
	return r < 0 ? r : done(cli, answer, NULL, err);
}

static int run_destroy(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int r;

	target_of(cli, davit_cli_flag(cli, "force") ? "?force=true" : "", &target);
	r = davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, &answer, err);
	return r < 0 ? r : done(cli, answer, "destroyed", err);
}

static int control(struct davit_cli *cli, const char *suffix, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int r;

	target_of(cli, suffix, &target);
	r = davit_api_call(cli, "POST", davit_buf_str(&target), NULL, &answer, err);
	return r < 0 ? r : done(cli, answer, NULL, err);
}

static int run_start(struct davit_cli *cli, struct davit_error *err)
{
	return control(cli, "/start", err);
}

static int run_stop(struct davit_cli *cli, struct davit_error *err)
{
	return control(cli, "/stop", err);
}

/* --- status --- */

static size_t count(const json_t *container)
{
	const json_t *child;
	size_t i, n = 1;

	json_array_foreach(json_object_get(container, "children"), i, child) n += count(child);
	return n;
}

/* "3 (its handler failed: 2, nobody: 1)" */
static void print_dead(json_t *host)
{
	json_t *by = json_object_get(host, "deadBy"), *n;
	const char *why, *between = " (";

	printf("  %-10s %lld", "dead", (long long)davit_integer(host, "dead"));
	json_object_foreach(by, why, n)
	{
		printf("%s%s: %lld", between, why, (long long)json_integer_value(n));
		between = ", ";
	}
	puts(json_object_size(by) ? ")" : "");
}

static void print_host(const struct davit_cli *cli, json_t *host, json_t *root)
{
	char when[DAVIT_AGE_MAX + 8];

	printf("  %-10s %lld\n", "pid", (long long)davit_integer(host, "pid"));
	printf("  %-10s %s\n", "started", davit_time_text(cli, davit_string(host, "started"), when));
	printf("  %-10s %zu\n", "containers", count(root));
	printf("  %-10s %lld sent, %lld handled\n", "messages", (long long)davit_integer(host, "sent"),
	       (long long)davit_integer(host, "handled"));
	print_dead(host);
	if (davit_integer(host, "restored") || davit_integer(host, "missing"))
		printf("  %-10s %lld containers made anew, %lld could not be%s\n", "restored",
		       (long long)davit_integer(host, "restored"), (long long)davit_integer(host, "missing"),
		       json_is_true(json_object_get(host, "unclean"))
			       ? "; the host before did not end by itself: what waited then is lost"
			       : "");
	printf("  %-10s %s\n  %-10s %s\n", "threads", davit_string(host, "searchThread"), "processes",
	       davit_string(host, "searchProcess"));
}

/* The project, and what its host says, if that runs. */
static int fetch(struct davit_cli *cli, json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF inside = DAVIT_BUF_INIT;
	json_t *project = NULL, *containers = NULL;
	int r;

	target_of(cli, "", &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &project, err);
	if (r < 0)
		return r;
	davit_buf_adds(&inside, "/v1/containers");
	davit_url_query(&inside, "project", name_of(cli));
	if (!strcmp(davit_string(project, "state"), "running"))
		r = davit_api_call(cli, "GET", davit_buf_str(&inside), NULL, &containers, err);
	if (r == 0 && containers) {
		json_object_set(project, "host", json_object_get(containers, "project"));
		json_object_set(project, "root", json_object_get(containers, "root"));
	}
	json_decref(containers);
	*ret = project;
	return r;
}

static int run_status(struct davit_cli *cli, struct davit_error *err)
{
	json_t *project = NULL;
	int r = fetch(cli, &project, err);

	if (r == 0 && cli->format == DAVIT_FORMAT_NAMES) {
		puts(davit_string(project, "name"));
	} else if (r == 0 && cli->format != DAVIT_FORMAT_TEXT) {
		r = davit_print_value(cli, project, err);
	} else if (r == 0) {
		printf("%s is %s\n", name_of(cli), davit_string(project, "state"));
		if (davit_string(project, "error")[0])
			printf("  %-10s %s\n", "error", davit_string(project, "error"));
		if (davit_string(project, "directory")[0])
			printf("  %-10s %s\n", "directory", davit_string(project, "directory"));
		printf("  %-10s %lld\n", "restarts", (long long)davit_integer(project, "restarts"));
		if (json_object_get(project, "host"))
			print_host(cli, json_object_get(project, "host"), json_object_get(project, "root"));
	}
	json_decref(project);
	return r;
}

static int run_list(struct davit_cli *cli, struct davit_error *err)
{
	static const char *const columns[] = {"NAME", "STATE", "RESTARTS", "CREATED", "DIRECTORY"};
	char number[24], when[DAVIT_AGE_MAX + 8];
	DAVIT_AUTO_TABLE *t = NULL;
	json_t *all = NULL, *p;
	size_t i;
	int r = davit_api_call(cli, "GET", "/v1/projects", NULL, &all, err);

	if (r == 0 && cli->format == DAVIT_FORMAT_NAMES)
		json_array_foreach(all, i, p) puts(davit_string(p, "name"));
	else if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, all, err);
	else if (r == 0)
		r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &t, err);
	if (t)
		json_array_foreach(all, i, p)
		{
			struct libscols_line *row = davit_table_row(t, NULL);
			int e = davit_table_set(t, row, 0, davit_string(p, "name"));
			e |= davit_table_set(t, row, 1, davit_string(p, "state"));
			e |= davit_table_set(t, row, 2, davit_text(p, "restarts", number));
			e |= davit_table_set(t, row, 3,
					     davit_time_text(cli, davit_string(p, "created"), when));
			e |= davit_table_set(t, row, 4, davit_string(p, "directory"));
			r = e ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : r;
		}
	json_decref(all);
	return r < 0 || !t ? r : davit_table_print(t, err);
}

/* --- server:ping --- */

static int run_ping(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int64_t before = davit_now();
	int r = davit_api_connect_running(cli, err);

	if (r == 0)
		r = davit_api_call(cli, "GET", "/v1/version", NULL, &answer, err);
	if (r < 0)
		return r;
	davit_buf_addf(&text, "davitd %s answers, pid %lld, in %lld us", davit_string(answer, "version"),
		       (long long)davit_integer(answer, "pid"), (long long)((davit_now() - before) / 1000));
	return davit_container_done(cli, answer, davit_buf_str(&text), err);
}

static const struct davit_option project_own[] = {
	{"directory", 0, "DIR", DAVIT_OPTION_PATH,
	 .doc = "create: look for definitions here (default: the current directory)"},
	{"search-thread", 0, "PATTERN", DAVIT_OPTION_STRING,
	 .doc = "create: where threads are found (default: <type>/<name>/<name>.so)"},
	{"search-process", 0, "PATTERN", DAVIT_OPTION_STRING,
	 .doc = "create: where processes are found (default: the same, or an executable <name>)"},
	{"workers", 0, "N", DAVIT_OPTION_INT, .min = 1, .max = 1024,
	 .doc = "create: threads that carry its containers (default: one a processor)"},
	{"force", 0, NULL, DAVIT_OPTION_FLAG, .doc = "destroy: also one that runs"},
	{0},
};
static const struct davit_option *const project_options[] = {project_own, davit_options_names, NULL};
static const struct davit_option none_own[] = {{0}};
static const struct davit_option *const server_options[] = {none_own, davit_options_data, NULL};
static const char *const project_examples[] = {"davit project:create shop --directory ~/shop",
					       "a tree of containers of its own", "davit project:status",
					       "the default project: its host, messages, dead letters", NULL};
static const char *const server_examples[] = {"davit server:ping", "does the daemon answer, and how fast",
					      NULL};

static const struct davit_verb project_verbs[] = {
	{"create", "[NAME]", "Make a project and start it", "directory search-thread search-process workers",
	 0, 1, run_create},
	{"destroy", "[NAME]", "Forget it with all that is in it", "force", 0, 1, run_destroy},
	{"start", "[NAME]", "Start it; what was made in it comes back", "", 0, 1, run_start},
	{"stop", "[NAME]", "Stop it, containers and all", "", 0, 1, run_stop},
	{"status", "[NAME]", "Show it", "", 0, 1, run_status},
	{"list", "", "Show all projects", "", 0, 0, run_list},
	{0},
};
static const struct davit_verb server_verbs[] = {
	{"ping", "", "Ask the daemon for an answer", "", 0, 0, run_ping},
	{0},
};

const struct davit_command davit_command_project = {
	.name = "project",
	.usage = "",
	.group = "Containers",
	.summary = "Trees of containers: project:create, destroy, start, stop, status, list",
	.details = "NAME is by default $DAVIT_PROJECT, or default, which the first container makes.",
	.options = project_options,
	.complete = "project",
	.verbs = project_verbs,
	.examples = project_examples,
};

const struct davit_command davit_command_server = {
	.name = "server",
	.usage = "",
	.group = "Containers",
	.summary = "The daemon: server:ping",
	.options = server_options,
	.verbs = server_verbs,
	.examples = server_examples,
};
