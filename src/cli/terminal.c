/* SPDX-License-Identifier: MIT
 *
 * davit terminal: a command on a terminal that goes on when its user goes.
 */
#include "cli/terminal.h"

#include "cli/api.h"
#include "cli/choose.h"
#include "cli/output.h"
#include "cli/workspace.h"
#include "net/url.h"

#include <string.h>

#define DETACH_KEYS "ctrl-p,ctrl-q"

/* Without a command: the better shell that is there. */
static char *const shell[] = {"sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh", NULL};

/* The instance that the command line names: of a workspace, which is then in
 * *ret_workspace (a new reference) and is started if it has to run, or of a service. */
static int find_instance(struct davit_cli *cli, bool running, struct davit_buf *ret_id,
			 json_t **ret_workspace, struct davit_error *err)
{
	const char *name = davit_cli_arg(cli, 0), *version = davit_cli_arg(cli, 1);
	int r = davit_workspace_meant(cli, name, version, ret_workspace, err);

	if (r < 0)
		return r;
	if (!*ret_workspace) {
		r = davit_choose_instance(cli, name, version, running, ret_id, err);
		return davit_workspace_neither(cli, version, r, err);
	}
	if (running)
		return davit_workspace_instance(cli, *ret_workspace, ret_id, err);
	davit_buf_adds(ret_id, davit_string(*ret_workspace, "instance"));
	return 0;
}

/* The terminals of the service or instance that is named, or all; newest last. */
static int fetch(struct davit_cli *cli, json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF id = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *workspace = NULL;
	int r = 0;

	davit_buf_adds(&target, "/v1/terminals");
	if (cli->n_args) {
		r = find_instance(cli, false, &id, &workspace, err);
		json_decref(workspace);
		davit_url_query(&target, "instance", davit_buf_str(&id));
	}
	if (r == 0 && cli->n_args && !id.len) {
		*ret = json_array(); /* a workspace that was never started */
		return 0;
	}
	return r < 0 ? r : davit_api_call(cli, "GET", davit_buf_str(&target), NULL, ret, err);
}

static int list(struct davit_cli *cli, struct davit_error *err)
{
	static const char *const columns[] = {"TERMINAL", "SERVICE", "INSTANCE", "COMMAND",
					      "STARTED",  "SIZE",    "ATTACHED"};
	DAVIT_AUTO_TABLE *t = NULL;
	json_t *all = NULL, *v;
	size_t i;
	int r = fetch(cli, &all, err);

	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, all, err);
	else if (r == 0)
		r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &t, err);
	if (t) {
		json_array_foreach(all, i, v)
		{
			char size[32], number[24], when[DAVIT_AGE_MAX + 8];
			struct libscols_line *row = davit_table_row(t, NULL);
			snprintf(size, sizeof size, "%dx%d", (int)davit_integer(v, "columns"),
				 (int)davit_integer(v, "rows"));
			const char *const cells[] = {
				davit_string(v, "id"),
				davit_string(v, "service"),
				davit_string(v, "instance"),
				davit_string(v, "command"),
				davit_time_text(cli, davit_string(v, "started"), when),
				size,
				json_is_null(json_object_get(v, "exit")) ? davit_text(v, "attached", number)
									 : "ended",
			};
			for (size_t k = 0; k < DAVIT_ARRAY_SIZE(cells); k++)
				r |= davit_table_set(t, row, k, cells[k]);
		}
		r = r ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : davit_table_print(t, err);
	}
	json_decref(all);
	return r;
}

/* The whole id for a beginning of one. */
static int find(struct davit_cli *cli, const char *prefix, char ret[17], struct davit_error *err)
{
	json_t *all = NULL, *v;
	size_t i, n = 0;
	int r = davit_api_call(cli, "GET", "/v1/terminals", NULL, &all, err);

	if (r < 0)
		return r;
	json_array_foreach(all, i, v)
	{
		if (strncmp(davit_string(v, "id"), prefix, strlen(prefix)) != 0)
			continue;
		snprintf(ret, 17, "%s", davit_string(v, "id"));
		n++;
	}
	json_decref(all);
	if (n == 1 && prefix[0])
		return 0;
	if (n > 1)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%zu terminals begin with '%s'", n, prefix);
	return davit_error_set(err, DAVIT_ENOENT, NULL,
			       "terminal '%s' not found; see 'davit terminal --list'", prefix);
}

static int end_one(struct davit_cli *cli, const char *prefix, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	char id[17];
	int r = find(cli, prefix, id, err);

	if (r < 0)
		return r;
	davit_buf_addf(&target, "/v1/terminals/%s", id);
	r = davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, NULL, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
		printf("terminal %s: closed\n", id);
	else if (r == 0)
		puts("{}");
	return r;
}

/* The newest of the instance that runs and that nobody is attached to, if any. */
static int left_alone(struct davit_cli *cli, const char *instance, struct davit_buf *ret_id,
		      struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *all = NULL, *v, *best = NULL;
	size_t i;
	int r;

	davit_buf_adds(&target, "/v1/terminals");
	davit_url_query(&target, "instance", instance);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &all, err);
	json_array_foreach(all, i, v)
	{
		bool alone = !davit_integer(v, "attached") && json_is_null(json_object_get(v, "exit"));
		if (alone && (!best || strcmp(davit_string(v, "started"), davit_string(best, "started")) > 0))
			best = v;
	}
	if (best)
		davit_buf_adds(ret_id, davit_string(best, "id"));
	json_decref(all);
	return r;
}

static void add_words(struct davit_buf *target, const char *name, json_t *words)
{
	DAVIT_AUTO_FREE char *text = json_dumps(words, JSON_COMPACT);

	if (text)
		davit_url_query(target, name, text);
	else
		target->oom = true;
	json_decref(words);
}

/* own_shell: what the workspace's config says, or JSON null. */
static void open_target(struct davit_cli *cli, const char *instance, json_t *own_shell,
			struct davit_buf *target)
{
	bool given = cli->rest && cli->rest[0], own = !given && json_array_size(own_shell);
	char *const *command = given ? cli->rest : shell;
	json_t *words = own ? json_incref(own_shell) : json_array(), *env = json_array();
	const char *term = getenv("TERM"), *v;
	size_t pos = 0;

	for (; *command && !own; command++)
		json_array_append_new(words, json_string(*command));
	json_array_append_new(env, json_sprintf("TERM=%s", term && term[0] ? term : "xterm"));
	while ((v = davit_cli_next(cli, "env", &pos)))
		json_array_append_new(env, json_string(v));
	davit_buf_adds(target, "/v1/instances/");
	davit_url_escape(target, instance);
	davit_buf_adds(target, "/terminal");
	add_words(target, "command", words);
	add_words(target, "env", env);
	if ((v = davit_cli_value(cli, "directory")))
		davit_url_query(target, "directory", v);
	if ((v = davit_cli_value(cli, "user")))
		davit_url_query(target, "user", v);
}

/* What is to be used: named by --attach, one that was left alone, or a new one. */
static int choose(struct davit_cli *cli, struct davit_buf *target, struct davit_error *err)
{
	const char *attach = davit_cli_value(cli, "attach");
	json_t *workspace = NULL;
	bool fresh = davit_cli_flag(cli, "new") || (cli->rest && cli->rest[0]);
	DAVIT_AUTO_BUF instance = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF id = DAVIT_BUF_INIT;
	char found[17];
	int r;

	if (attach) {
		r = find(cli, attach, found, err);
		davit_buf_addf(target, "/v1/terminals/%s", found);
		return r;
	}
	r = find_instance(cli, true, &instance, &workspace, err);
	if (r == 0 && !fresh)
		r = left_alone(cli, davit_buf_str(&instance), &id, err);
	if (r == 0 && id.len)
		davit_buf_addf(target, "/v1/terminals/%s", davit_buf_str(&id));
	else if (r == 0)
		open_target(cli, davit_buf_str(&instance), json_object_get(workspace, "shell"), target);
	json_decref(workspace);
	if (r < 0)
		return r;
	return target->oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

static int run_terminal(struct davit_cli *cli, struct davit_error *err)
{
	const char *close = davit_cli_value(cli, "close"), *keys = davit_cli_value(cli, "detach-keys");
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_terminal_use use = {0};
	struct davit_error why;
	int r;

	if (davit_cli_flag(cli, "list"))
		return list(cli, err);
	if (close)
		return end_one(cli, close, err);
	if (!cli->n_args && !davit_cli_value(cli, "attach"))
		return davit_cli_usage(cli, err, "no service or workspace is named: davit terminal %s",
				       cli->command->usage);
	if (davit_keys_parse(keys ? keys : DETACH_KEYS, &use.keys, &why) < 0)
		return davit_cli_usage(cli, err, "%s", why.message);
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return davit_cli_usage(cli, err,
				       "standard input and output must be a terminal; without one use "
				       "'davit exec NAME -- COMMAND', for a workspace with "
				       "--namespace workspaces");
	r = choose(cli, &target, err);
	if (r < 0)
		return r;
	use.target = davit_buf_str(&target);
	r = davit_terminal_use(cli, &use, err);
	if (r >= 0 && use.detached)
		fprintf(stderr, "davit: detached; 'davit terminal --attach %s' comes back\n", use.id);
	return r;
}

static const struct davit_option own[] = {
	{"new", 'n', NULL, DAVIT_OPTION_FLAG, .doc = "A new one, even where one was left alone"},
	{"attach", 'a', "ID", DAVIT_OPTION_STRING,
	 .doc = "Come back to this one; the beginning of its id is enough"},
	{"list", 'l', NULL, DAVIT_OPTION_FLAG, .doc = "List terminals instead"},
	{"close", 0, "ID", DAVIT_OPTION_STRING, .doc = "End the command of this one instead"},
	{"detach-keys", 0, "KEYS", DAVIT_OPTION_STRING,
	 .doc = "What to type to leave it running (default: " DETACH_KEYS "); '' for none"},
	{"instance", 0, "ID", DAVIT_OPTION_STRING,
	 .doc = "In this instance, by id or index (default: the first that runs)"},
	{"env", 'e', "NAME=VALUE", DAVIT_OPTION_PAIR, .repeat = true,
	 .doc = "A further environment variable"},
	{"directory", 0, "DIR", DAVIT_OPTION_STRING, .doc = "The working directory there"},
	{"user", 0, "USER[:GROUP]", DAVIT_OPTION_STRING, .doc = "Run as this user"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, davit_options_data, NULL};
static const char *const examples[] = {"davit terminal foobar",
				       "a shell in it, or the one that you left there",
				       "davit terminal demo",
				       "the same in a workspace, started first if it is stopped",
				       "davit terminal foobar -- vi notes.txt",
				       "a full-screen program; ctrl-p ctrl-q leaves it running",
				       "davit terminal --list",
				       "all that run, attached to or not",
				       "davit terminal --attach 3f2a",
				       "come back, from anywhere",
				       NULL};

const struct davit_command davit_command_terminal = {
	.name = "terminal",
	.usage = "NAME|ID [VERSION] [-- COMMAND [ARG...]]",
	.group = "Services",
	.summary = "Work on a terminal inside an instance",
	.details =
		"It goes on when you detach, when the connection breaks and when the daemon ends. Exits "
		"with the\n"
		"command's status, 128 + n when signal n ended it, 0 when you detached. A workspace that is "
		"stopped is\nstarted first, and may name its own shell.",
	.options = options,
	.max_args = 2,
	.rest = true,
	.complete = "service or workspace",
	.run = run_terminal,
	.examples = examples,
};
