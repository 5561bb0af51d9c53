/* SPDX-License-Identifier: MIT
 *
 * davit list, info, remove, open: workspaces that there are.
 */
#include "cli/workspace.h"

#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "net/url.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#define SHORT_ID 12

extern char **environ;

/* The target of a workspace, by name or id, and what is to be done with it. */
static void target_of(const char *ref, const char *suffix, struct davit_buf *out)
{
	davit_buf_adds(out, "/v1/workspaces/");
	davit_url_escape(out, ref);
	davit_buf_adds(out, suffix);
}

static int fetch(struct davit_cli *cli, const char *ref, json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

	target_of(ref, "", &target);
	return davit_api_call(cli, "GET", davit_buf_str(&target), NULL, ret, err);
}

/* ------------------------------------------------------------- services or workspaces */

static int is_service(struct davit_cli *cli, const char *name, bool *ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int r;

	davit_buf_adds(&target, "/v1/services");
	davit_url_query(&target, "name", name);
	davit_url_query(&target, "view", "table");
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &answer, err);
	*ret = json_array_size(json_object_get(answer, "rows")) > 0;
	json_decref(answer);
	return r;
}

int davit_workspace_meant(struct davit_cli *cli, const char *ref, const char *version, json_t **ret,
			  struct davit_error *err)
{
	json_t *found = NULL;
	bool service = false;
	int r;

	*ret = NULL;
	if (version || davit_cli_value(cli, "namespace"))
		return 0;
	r = fetch(cli, ref, &found, err);
	if (r == DAVIT_ENOENT)
		return 0;
	if (r == 0 || r == DAVIT_EINVAL) {
		struct davit_error why;
		int e = is_service(cli, ref, &service, &why);
		if (e < 0 || (r < 0 && service)) {
			json_decref(found);
			return e < 0 ? davit_error_copy(err, &why) : 0;
		}
	}
	if (r == 0 && service) {
		r = davit_error_set(
			err, DAVIT_EINVAL, "name",
			"'%s' is a service and a workspace: davit %s %s --namespace default is the "
			"service, davit %s %.*s the workspace",
			ref, cli->command->name, ref, cli->command->name, SHORT_ID,
			davit_string(found, "id"));
		json_decref(found);
		return r;
	}
	*ret = found;
	return r;
}

int davit_workspace_neither(const struct davit_cli *cli, const char *version, int code,
			    struct davit_error *err)
{
	static const char service[] = "service ";
	char rest[sizeof err->message];

	if (code != DAVIT_ENOENT || version || davit_cli_value(cli, "namespace") ||
	    strncmp(err->message, service, strlen(service)) != 0)
		return code;
	memcpy(rest, err->message + strlen(service), sizeof rest - strlen(service));
	snprintf(err->message, sizeof err->message, "service or workspace %s", rest);
	return code;
}

/* *ret is what it is then. */
static int switch_to(struct davit_cli *cli, json_t *workspace, bool run, json_t **ret,
		     struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

	if (cli->progress && cli->format == DAVIT_FORMAT_TEXT)
		fprintf(stderr, "%s %s...\n", run ? "starting" : "stopping", davit_string(workspace, "name"));
	target_of(davit_string(workspace, "id"), run ? "/start" : "/stop", &target);
	return davit_api_call(cli, "POST", davit_buf_str(&target), NULL, ret, err);
}

int davit_workspace_instance(struct davit_cli *cli, json_t *workspace, struct davit_buf *ret_id,
			     struct davit_error *err)
{
	json_t *now = json_incref(workspace);
	int r = 0;

	if (strcmp(davit_string(workspace, "state"), "running") != 0) {
		json_decref(now);
		now = NULL;
		r = switch_to(cli, workspace, true, &now, err);
	}
	if (r == 0)
		davit_buf_adds(ret_id, davit_string(now, "instance"));
	json_decref(now);
	return r;
}

int davit_workspace_switch(struct davit_cli *cli, json_t *workspace, bool run, struct davit_error *err)
{
	const char *name = davit_string(workspace, "name");
	json_t *answer = NULL;
	int r = switch_to(cli, workspace, run, &answer, err);

	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else if (r == 0)
		printf("%s: %s\n", name, davit_string(answer, "state"));
	json_decref(answer);
	return r;
}

/* ------------------------------------------------------------------------- printing */

/* "8080->80, 3000" */
static void ports_text(json_t *ports, struct davit_buf *out)
{
	json_t *p;
	size_t i;

	json_array_foreach(ports, i, p)
	{
		int host = (int)davit_integer(p, "host"), inside = (int)davit_integer(p, "container");
		davit_buf_addf(out, i ? ", %d" : "%d", host);
		if (host != inside)
			davit_buf_addf(out, "->%d", inside);
	}
}

void davit_workspace_print(const struct davit_cli *cli, json_t *w)
{
	static const char *const keys[] = {"id",      "runtime", "image",   "source", "config",
					   "project", "agent",	 "created", "error"};
	const char *state = davit_string(w, "state");
	char when[DAVIT_AGE_MAX + 8];
	DAVIT_AUTO_BUF ports = DAVIT_BUF_INIT;

	printf("%s is %s%s\n", davit_string(w, "name"), strcmp(state, "error") ? "" : "in ", state);
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(keys); k++) {
		const char *text = davit_string(w, keys[k]);
		if (!strcmp(keys[k], "created"))
			text = davit_time_text(cli, text, when);
		if (text[0])
			printf("  %-8s %s\n", keys[k], text);
	}
	ports_text(json_object_get(w, "ports"), &ports);
	if (ports.len)
		printf("  %-8s %s\n", "ports", davit_buf_str(&ports));
}

static int add_row(const struct davit_cli *cli, struct davit_table *t, json_t *w)
{
	struct libscols_line *row = davit_table_row(t, NULL);
	char when[DAVIT_AGE_MAX + 8], id[SHORT_ID + 1];

	snprintf(id, sizeof id, "%s", davit_string(w, "id"));
	const char *const cells[] = {
		davit_string(w, "name"),
		id,
		davit_string(w, "runtime"),
		davit_string(w, "state"),
		davit_time_text(cli, davit_string(w, "updated"), when),
		davit_string(w, "source"),
	};
	int r = 0;

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(cells); k++)
		r |= davit_table_set(t, row, k, cells[k]);
	return r;
}

static int run_list(struct davit_cli *cli, struct davit_error *err)
{
	static const char *const columns[] = {"NAME", "ID", "RUNTIME", "STATUS", "UPDATED", "SOURCE"};
	DAVIT_AUTO_TABLE *t = NULL;
	json_t *all = NULL, *w;
	size_t i;
	int r = davit_api_call(cli, "GET", "/v1/workspaces", NULL, &all, err);

	if (r == 0 && cli->format == DAVIT_FORMAT_NAMES)
		json_array_foreach(all, i, w) puts(davit_string(w, "name"));
	else if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, all, err);
	else if (r == 0)
		r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &t, err);
	if (t) {
		json_array_foreach(all, i, w) r |= add_row(cli, t, w);
		r = r ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : davit_table_print(t, err);
	}
	json_decref(all);
	return r;
}

static int run_info(struct davit_cli *cli, struct davit_error *err)
{
	json_t *w = NULL;
	int r = fetch(cli, cli->args[0], &w, err);

	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, w, err);
	else if (r == 0)
		davit_workspace_print(cli, w);
	json_decref(w);
	return r;
}

/* ------------------------------------------------------------------------- removing */

static int run_remove(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *w = NULL;
	int r = fetch(cli, cli->args[0], &w, err);

	if (r < 0)
		return r;
	/* By id from here on: the name may pass to another meanwhile. */
	target_of(davit_string(w, "id"), davit_cli_flag(cli, "force") ? "?force=true" : "", &target);
	r = davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, NULL, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
		printf("%s: removed\n", davit_string(w, "name"));
	else if (r == 0)
		r = davit_print_value(cli, w, err);
	json_decref(w);
	return r;
}

/* -------------------------------------------------------------------------- opening */

/* The port of the host behind which `wanted` (NULL: the first) is; 0 with *err. */
static int port_of(json_t *w, const char *wanted, struct davit_error *err)
{
	json_t *ports = json_object_get(w, "ports"), *p;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	const char *name = davit_string(w, "name");
	int64_t number = 0;
	size_t i;

	if (wanted && davit_int_parse(wanted, 1, 65535, &number, NULL) < 0)
		return davit_error_set(err, DAVIT_EINVAL, "port", "'%s' is not a port", wanted), 0;
	if (strcmp(davit_string(w, "state"), "running") != 0)
		return davit_error_set(err, DAVIT_ESTATE, NULL,
				       "workspace '%s' is not running; see 'davit start %s'", name, name),
		       0;
	json_array_foreach(ports, i, p) if (!wanted || davit_integer(p, "container") ==
							       number) return (int)davit_integer(p, "host");
	ports_text(ports, &text);
	if (!text.len)
		davit_error_set(err, DAVIT_ENOENT, "port",
				"workspace '%s' forwards no ports: list them under 'ports' in workspace.json",
				name);
	else
		davit_error_set(err, DAVIT_ENOENT, "port", "workspace '%s' does not forward port %s, only %s",
				name, wanted, davit_buf_str(&text));
	return 0;
}

/* Hands the address to the desktop, where there is one and a person looks on. */
static void show(const struct davit_cli *cli, const char *url)
{
	char *const argv[] = {(char *)(uintptr_t) "xdg-open", (char *)(uintptr_t)url, NULL};
	const char *x = getenv("DISPLAY"), *wayland = getenv("WAYLAND_DISPLAY");
	posix_spawn_file_actions_t actions;
	pid_t pid;

	if (!cli->tty || ((!x || !x[0]) && (!wayland || !wayland[0])))
		return;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) == 0)
		waitpid(pid, NULL, 0);
	posix_spawn_file_actions_destroy(&actions);
}

static int run_open(struct davit_cli *cli, struct davit_error *err)
{
	json_t *w = NULL;
	char url[64];
	int r = fetch(cli, cli->args[0], &w, err), port;

	if (r < 0)
		return r;
	port = port_of(w, davit_cli_arg(cli, 1), err);
	json_decref(w);
	if (!port)
		return err->code;
	snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
	if (cli->format != DAVIT_FORMAT_TEXT) {
		json_t *v = json_pack("{s:s}", "url", url);
		r = davit_print_value(cli, v, err);
		json_decref(v);
		return r;
	}
	puts(url);
	fflush(stdout);
	show(cli, url);
	return 0;
}

/* ------------------------------------------------------------------------- commands */

static const struct davit_option remove_own[] = {
	{"force", 0, NULL, DAVIT_OPTION_FLAG, .doc = "Also one that runs: it is stopped first"},
	{0},
};
static const struct davit_option list_own[] = {
	{"output", 'o', "FORMAT", DAVIT_OPTION_CHOICE, .choices = "text|json|yaml|names",
	 .doc = "text (default), json, yaml or names"},
	{"help", 'h', NULL, DAVIT_OPTION_FLAG, .doc = "Show this text"},
	{0},
};
static const struct davit_option *const list_options[] = {list_own, NULL};
static const struct davit_option *const data_options[] = {davit_options_data, NULL};
static const struct davit_option *const remove_options[] = {remove_own, davit_options_data, NULL};
static const char *const list_examples[] = {"davit list", "all workspaces, of all runtimes",
					    "davit list -o json", "the same for a program", NULL};
static const char *const info_examples[] = {"davit info demo", "by name", "davit info 3fa9c1",
					    "by the beginning of its id", NULL};
static const char *const remove_examples[] = {"davit remove demo",
					      "forget it, and what its runtime holds of it",
					      "davit remove demo --force", "although it runs", NULL};
static const char *const open_examples[] = {"davit open demo", "the address of its first port",
					    "davit open demo 3000",
					    "the address behind which its port 3000 is", NULL};

const struct davit_command davit_command_list = {
	.name = "list",
	.usage = "",
	.group = "Workspaces",
	.summary = "List workspaces",
	.details = "A workspace is running, stopped, in error (it should run and does not), or unknown (its "
		   "runtime does\nnot answer).",
	.options = list_options,
	.run = run_list,
	.examples = list_examples,
};

const struct davit_command davit_command_info = {
	.name = "info",
	.usage = "NAME|ID",
	.group = "Workspaces",
	.summary = "Show a workspace",
	.options = data_options,
	.min_args = 1,
	.max_args = 1,
	.complete = "workspace",
	.run = run_info,
	.examples = info_examples,
};

const struct davit_command davit_command_remove = {
	.name = "remove",
	.usage = "NAME|ID",
	.group = "Workspaces",
	.summary = "Remove a workspace",
	.details =
		"The source tree is not touched. What the runtime holds of it goes, also when that has gone "
		"already.\nOne that runs is refused without --force.",
	.options = remove_options,
	.min_args = 1,
	.max_args = 1,
	.complete = "workspace",
	.run = run_remove,
	.examples = remove_examples,
};

const struct davit_command davit_command_open = {
	.name = "open",
	.usage = "NAME|ID [PORT]",
	.group = "Workspaces",
	.summary = "Print the address of a workspace's port, and open it",
	.details =
		"PORT is the one inside; the first of them when it is not given. On a terminal of a desktop\n"
		"(DISPLAY or WAYLAND_DISPLAY is set) xdg-open opens it too.",
	.options = data_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "workspace",
	.run = run_open,
	.examples = open_examples,
};
