/* SPDX-License-Identifier: MIT
 *
 * The verbs of containers: thread:, process:, runtime:, container:, arch:.
 */
#include "cli/containers.h"

#include "cli/api.h"
#include "cli/output.h"
#include "net/url.h"

#include <string.h>
#include <unistd.h>

const struct davit_option davit_options_project[] = {
	{"project", 0, "PROJECT", DAVIT_OPTION_STRING,
	 .doc = "In this project (default: $DAVIT_PROJECT, or default)"},
	{0},
};

/* --project, else $DAVIT_PROJECT, else "default". The command must have that option. */
static const char *project_of(const struct davit_cli *cli)
{
	const char *given = davit_cli_value(cli, "project"), *env = getenv("DAVIT_PROJECT");

	return given ? given : env && env[0] ? env : "default";
}

void davit_container_target(const struct davit_cli *cli, const char *address, const char *verb,
			    struct davit_buf *out)
{
	davit_buf_adds(out, "/v1/containers");
	if (address) {
		davit_buf_addc(out, '/');
		davit_url_escape(out, address);
	}
	if (verb) {
		davit_buf_addc(out, '/');
		davit_buf_adds(out, verb);
	}
	davit_url_query(out, "project", project_of(cli));
}

int davit_container_done(struct davit_cli *cli, json_t *answer, const char *text, struct davit_error *err)
{
	const char *alias = davit_string(answer, "alias");
	int r = 0;

	if (cli->format == DAVIT_FORMAT_NAMES)
		puts(alias[0] ? alias : davit_string(answer, "name"));
	else if (cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else
		puts(text);
	json_decref(answer);
	return r;
}

/* --- which container is meant --- */

/* The family's name says the type that is meant; runtime: and the others mean any. */
static const char *type_of(const struct davit_cli *cli)
{
	const char *family = cli->command->name;

	return !strcmp(family, "thread") || !strcmp(family, "process") ? family : NULL;
}

/* Of the families that name a parent, the second argument is the alias. */
static const char *parent_of(const struct davit_cli *cli)
{
	return type_of(cli) || !strcmp(cli->command->name, "runtime") ? cli->args[0] : NULL;
}

static const char *alias_of(const struct davit_cli *cli)
{
	return cli->args[parent_of(cli) ? 1 : 0];
}

static bool is_arch(const struct davit_cli *cli)
{
	return !strcmp(cli->command->name, "arch");
}

static void target_of(const struct davit_cli *cli, const char *verb, struct davit_buf *out)
{
	davit_container_target(cli, alias_of(cli), verb, out);
	if (parent_of(cli))
		davit_url_query(out, "parent", parent_of(cli));
	if (type_of(cli))
		davit_url_query(out, "type", type_of(cli));
	if (is_arch(cli))
		davit_url_query(out, "subtree", "true");
}

/* --- create --- */

static const char *force_of(const struct davit_cli *cli)
{
	bool soft = davit_cli_flag(cli, "force-soft"), hard = davit_cli_flag(cli, "force-hard");

	return davit_cli_flag(cli, "force") || (soft && hard) ? "both" : soft ? "soft" : hard ? "hard" : NULL;
}

static void set(json_t *body, const char *key, const char *value)
{
	if (value && value[0])
		json_object_set_new(body, key, json_string(value));
}

static const char *pattern_of(const struct davit_cli *cli)
{
	const char *given = davit_cli_value(cli, "search");

	return given ? given
		     : getenv(!strcmp(type_of(cli), "thread") ? "DAVIT_SEARCH_THREAD"
							      : "DAVIT_SEARCH_PROCESS");
}

static int run_create(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *here = getcwd(NULL, 0);
	const char *force = force_of(cli);
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *body = json_pack("{s:s, s:s, s:s, s:b}", "type", type_of(cli), "parent", cli->args[0],
				 "alias", cli->args[1], "start", davit_cli_flag(cli, "start"));
	json_t *answer = NULL;
	int r;

	if (!body)
		return davit_cli_usage(cli, err, "an alias must be UTF-8 text");
	set(body, "name", davit_cli_arg(cli, 2));
	set(body, "args", davit_cli_value(cli, "args"));
	set(body, "search", pattern_of(cli));
	set(body, "directory", here);
	davit_container_target(cli, NULL, NULL, &target);
	if (force)
		davit_url_query(&target, "force", force);
	r = davit_api_call(cli, "POST", davit_buf_str(&target), body, &answer, err);
	json_decref(body);
	if (r < 0)
		return r;
	davit_buf_addf(&text, "%s: %s%s", cli->args[1], davit_string(answer, "state"),
		       json_is_true(json_object_get(answer, "created")) || force ? ""
										 : " (it was there already)");
	return davit_container_done(cli, answer, davit_buf_str(&text), err);
}

/* --- the others --- */

static int run_destroy(struct davit_cli *cli, struct davit_error *err)
{
	const char *force = force_of(cli);
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int r;

	if (davit_cli_flag(cli, "keep") && force)
		return davit_cli_usage(cli, err, "--keep and --force exclude each other");
	target_of(cli, NULL, &target);
	davit_url_query(&target, "force", davit_cli_flag(cli, "keep") ? "keep" : force ? force : "both");
	r = davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, &answer, err);
	if (r < 0)
		return r;
	davit_buf_addf(&text, "%s: destroyed", davit_string(answer, "alias"));
	return davit_container_done(cli, answer, davit_buf_str(&text), err);
}

static int operate(struct davit_cli *cli, const char *verb, json_t *body, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int r;

	target_of(cli, verb, &target);
	r = davit_api_call(cli, "POST", davit_buf_str(&target), body, &answer, err);
	json_decref(body);
	if (r < 0)
		return r;
	/* Main itself goes on: only what stands beneath it was meant. */
	if (is_arch(cli) && !strcmp(davit_string(answer, "path"), "Main"))
		davit_buf_addf(&text, "all beneath Main: %s", !strcmp(verb, "stop") ? "stopped" : "started");
	else
		davit_buf_addf(&text, "%s: %s", davit_string(answer, "alias"), davit_string(answer, "state"));
	return davit_container_done(cli, answer, davit_buf_str(&text), err);
}

static int run_start(struct davit_cli *cli, struct davit_error *err)
{
	return operate(cli, "start", NULL, err);
}

static int run_stop(struct davit_cli *cli, struct davit_error *err)
{
	return operate(cli, "stop", NULL, err);
}

static int run_continue(struct davit_cli *cli, struct davit_error *err)
{
	return operate(cli, "continue", NULL, err);
}

static int run_fail(struct davit_cli *cli, struct davit_error *err)
{
	const char *reason = davit_cli_value(cli, "reason");
	json_t *body = json_pack("{s:s}", "reason", reason ? reason : "by davit container:fail");

	return body ? operate(cli, "fail", body, err)
		    : davit_cli_usage(cli, err, "the reason must be UTF-8 text");
}

static int fetch(struct davit_cli *cli, json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

	target_of(cli, NULL, &target);
	return davit_api_call(cli, "GET", davit_buf_str(&target), NULL, ret, err);
}

/* Exit status 1 says no; what could not be found out is an error. */
static int run_exists(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	bool there;
	int r = fetch(cli, &answer, err);

	if (r < 0 && (r != DAVIT_ENOENT || !strcmp(err->where, "project")))
		return r;
	there = r == 0 && !strcmp(davit_string(answer, "parent"),
				  strrchr(cli->args[0], '/') ? strrchr(cli->args[0], '/') + 1 : cli->args[0]);
	there = there && (!type_of(cli) || !strcmp(davit_string(answer, "type"), type_of(cli)));
	json_decref(answer);
	davit_buf_addf(&text, "%s: %s", cli->args[1], there ? "exists" : "does not exist");
	r = davit_container_done(cli, json_pack("{s:b}", "exists", there), davit_buf_str(&text), err);
	return r < 0 ? r : !there;
}

/* --- status --- */

static const char *const columns[] = {"ALIAS", "NAME", "TYPE", "STATE", "RESTARTS", "QUEUED"};

static int print_subtree(struct davit_cli *cli, json_t *container, struct davit_error *err)
{
	static const char *const keys[] = {"alias", "name", "type", "state", "restarts", "queued"};
	DAVIT_AUTO_TABLE *t = NULL;
	int r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), true, &t, err);

	if (r == 0 && davit_table_add_tree(t, NULL, container, keys, DAVIT_ARRAY_SIZE(keys)) < 0)
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return r < 0 ? r : davit_table_print(t, err);
}

static void print_one(json_t *container)
{
	static const char *const keys[] = {"path",     "name",	 "type",    "code",    "reason", "failure",
					   "restarts", "queued", "dropped", "refused", "blocked"};
	char number[24];

	printf("%s is %s\n", davit_string(container, "alias"), davit_string(container, "state"));
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(keys); k++) {
		const char *text = davit_text(container, keys[k], number);
		if (text[0])
			printf("  %-9s %s\n", keys[k], text);
	}
}

static void print_names(const json_t *container)
{
	const json_t *child;
	size_t i;

	puts(davit_string(container, "alias"));
	json_array_foreach(json_object_get(container, "children"), i, child) print_names(child);
}

static int run_status(struct davit_cli *cli, struct davit_error *err)
{
	json_t *answer = NULL;
	int r = fetch(cli, &answer, err);

	if (r < 0)
		return r;
	if (cli->format == DAVIT_FORMAT_NAMES)
		print_names(answer);
	else if (cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else if (is_arch(cli))
		r = print_subtree(cli, answer, err);
	else
		print_one(answer);
	json_decref(answer);
	return r;
}

/* --- the tables --- */

static const struct davit_option typed_own[] = {
	{"start", 0, NULL, DAVIT_OPTION_FLAG, .doc = "create: start it, too"},
	{"args", 0, "TEXT", DAVIT_OPTION_STRING, .doc = "create: a text for it"},
	{"search", 0, "PATTERN", DAVIT_OPTION_STRING,
	 .doc = "create: look for it by this pattern, instead of the project's"},
	{"force", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "create: one that has the alias is ended first; destroy: ask, then end it (default)"},
	{"force-soft", 0, NULL, DAVIT_OPTION_FLAG, .doc = "As --force, by asking only"},
	{"force-hard", 0, NULL, DAVIT_OPTION_FLAG, .doc = "As --force, without its hooks"},
	{"keep", 0, NULL, DAVIT_OPTION_FLAG, .doc = "destroy: refuse one that runs"},
	{0},
};
static const struct davit_option destroy_own[] = {
	{"force", 0, NULL, DAVIT_OPTION_FLAG, .doc = "destroy: ask, then end it (default)"},
	{"force-soft", 0, NULL, DAVIT_OPTION_FLAG, .doc = "destroy: by asking only"},
	{"force-hard", 0, NULL, DAVIT_OPTION_FLAG, .doc = "destroy: without its hooks"},
	{"keep", 0, NULL, DAVIT_OPTION_FLAG, .doc = "destroy: refuse one that runs"},
	{"reason", 0, "TEXT", DAVIT_OPTION_STRING, .doc = "fail: why, for people"},
	{0},
};
static const struct davit_option none_own[] = {{0}};
static const struct davit_option *const typed_options[] = {typed_own, davit_options_project,
							   davit_options_data, NULL};
static const struct davit_option *const destroy_options[] = {destroy_own, davit_options_project,
							     davit_options_data, NULL};
static const struct davit_option *const arch_options[] = {none_own, davit_options_project,
							  davit_options_names, NULL};

#define CREATE "start args search force force-soft force-hard"
#define DESTROY "force force-soft force-hard keep"
#define BELOW "PARENT ALIAS"

static const struct davit_verb typed_verbs[] = {
	{"create", BELOW " [NAME]", "Create a container of the definition NAME (default: ALIAS)", CREATE, 2,
	 3, run_create},
	{"destroy", BELOW, "Destroy it with all beneath it", DESTROY, 2, 2, run_destroy},
	{"exists", BELOW, "Exit with 0 if it is there, else with 1", "", 2, 2, run_exists},
	{"start", BELOW, "Start it", "", 2, 2, run_start},
	{"stop", BELOW, "Stop it", "", 2, 2, run_stop},
	{0},
};
static const struct davit_verb runtime_verbs[] = {
	{"exists", BELOW, "Exit with 0 if it is there, else with 1", "", 2, 2, run_exists},
	{"start", BELOW, "Start it", "", 2, 2, run_start},
	{"stop", BELOW, "Stop it", "", 2, 2, run_stop},
	{"destroy", BELOW, "Destroy it with all beneath it", DESTROY, 2, 2, run_destroy},
	{0},
};
static const struct davit_verb container_verbs[] = {
	{"start", "ALIAS", "Start it; a failed one goes on afresh", "", 1, 1, run_start},
	{"stop", "ALIAS", "Stop it", "", 1, 1, run_stop},
	{"destroy", "ALIAS", "Destroy it with all beneath it", DESTROY, 1, 1, run_destroy},
	{"status", "ALIAS", "Show it", "", 1, 1, run_status},
	{"continue", "ALIAS", "Solve its failure: it goes on as it was", "", 1, 1, run_continue},
	{"fail", "ALIAS", "Fail it, as by an error of its own", "reason", 1, 1, run_fail},
	{0},
};
static const struct davit_verb arch_verbs[] = {
	{"start", "ALIAS", "Start it, then what is beneath it", "", 1, 1, run_start},
	{"stop", "ALIAS", "Stop what is beneath it, the deepest and last first, then it", "", 1, 1, run_stop},
	{"status", "ALIAS", "Show it with what is beneath it", "", 1, 1, run_status},
	{0},
};

static const char *const thread_examples[] = {"davit thread:create Main T1 Test --start",
					      "of the definition thread/Test/Test.so",
					      "davit thread:destroy Main T1 --keep", "unless it runs", NULL};
static const char *const process_examples[] = {"davit process:create Main P1 Test --start",
					       "the same as a process of its own", NULL};
static const char *const runtime_examples[] = {"davit runtime:stop Main T1", "whatever its type", NULL};
static const char *const container_examples[] = {"davit container:status T1", "its state, its last failure",
						 "davit container:continue T1",
						 "after a failure, with what it knew", NULL};
static const char *const arch_examples[] = {"davit arch:stop A", "A and all beneath it",
					    "davit arch:status Main", "all containers of the project", NULL};

const struct davit_command davit_command_thread = {
	.name = "thread",
	.usage = "",
	.group = "Containers",
	.summary = "Containers on threads: thread:create, destroy, exists, start, stop",
	.details = "PARENT is an address: an alias, or a path such as Main/A/B. The definition is looked for "
		   "in\n"
		   "the current directory, then in the project's, by <type>/<name>/<name>.so "
		   "(docs/containers.md).",
	.options = typed_options,
	.complete = "container",
	.verbs = typed_verbs,
	.examples = thread_examples,
};

const struct davit_command davit_command_process = {
	.name = "process",
	.usage = "",
	.group = "Containers",
	.summary = "Containers that are processes: process:create, destroy, exists, start, stop",
	.details = "As thread:, for containers that are processes of their own.",
	.options = typed_options,
	.complete = "container",
	.verbs = typed_verbs,
	.examples = process_examples,
};

const struct davit_command davit_command_runtime = {
	.name = "runtime",
	.usage = "",
	.group = "Containers",
	.summary = "Containers of any type: runtime:exists, start, stop, destroy",
	.options = destroy_options,
	.complete = "container",
	.verbs = runtime_verbs,
	.examples = runtime_examples,
};

const struct davit_command davit_command_container = {
	.name = "container",
	.usage = "",
	.group = "Containers",
	.summary = "One container: container:start, stop, destroy, status, continue, fail",
	.options = destroy_options,
	.complete = "container",
	.verbs = container_verbs,
	.examples = container_examples,
};

const struct davit_command davit_command_arch = {
	.name = "arch",
	.usage = "",
	.group = "Containers",
	.summary = "A container with all beneath it: arch:start, stop, status",
	.options = arch_options,
	.complete = "container",
	.verbs = arch_verbs,
	.examples = arch_examples,
};
