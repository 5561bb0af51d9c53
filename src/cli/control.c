/* SPDX-License-Identifier: MIT
 *
 * Commands on a service that exists: kill, start, stop, restart, scale, signal.
 */
#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "cli/workspace.h"

#include <string.h>

/* Prints the daemon's answer with -o json; for people, that it is done. */
static int done(struct davit_cli *cli, json_t *answer, const char *text, struct davit_error *err)
{
	int r = 0;

	if (cli->format == DAVIT_FORMAT_JSON) {
		json_t *value = answer ? json_incref(answer) : json_object();
		r = davit_print_value(cli, value, err);
		json_decref(value);
	} else {
		puts(text);
	}
	json_decref(answer);
	return r;
}

/* "foobar" or "foobar v2", of the first arguments */
static const char *label(const struct davit_cli *cli, const char *version, char buf[256])
{
	snprintf(buf, 256, "%.120s%s%.120s", davit_cli_arg(cli, 0), version ? " " : "",
		 version ? version : "");
	return buf;
}

static int simple(struct davit_cli *cli, const char *method, const char *suffix, const char *what,
		  struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	char name[256], text[300];
	json_t *answer = NULL;
	int r;

	davit_api_service(cli, 0, suffix, &target);
	r = davit_api_call(cli, method, davit_buf_str(&target), NULL, &answer, err);
	if (r < 0)
		return r;
	snprintf(text, sizeof text, "%s: %s", label(cli, davit_cli_arg(cli, 1), name), what);
	return done(cli, answer, text, err);
}

static int run_kill(struct davit_cli *cli, struct davit_error *err)
{
	bool detach = davit_cli_flag(cli, "detach");

	return simple(cli, "DELETE", detach ? "" : "?wait=true",
		      detach ? "is being stopped" : "stopped and removed", err);
}

/* Of a service, or of a workspace. */
static int start_or_stop(struct davit_cli *cli, bool run, struct davit_error *err)
{
	json_t *workspace;
	int r = davit_workspace_meant(cli, cli->args[0], davit_cli_arg(cli, 1), &workspace, err);

	if (r < 0)
		return r;
	if (!workspace) {
		r = simple(cli, "POST", run ? "/start" : "/stop", run ? "started" : "stopping", err);
		return davit_workspace_neither(cli, davit_cli_arg(cli, 1), r, err);
	}
	r = davit_workspace_switch(cli, workspace, run, err);
	json_decref(workspace);
	return r;
}

static int run_start(struct davit_cli *cli, struct davit_error *err)
{
	return start_or_stop(cli, true, err);
}

static int run_stop(struct davit_cli *cli, struct davit_error *err)
{
	return start_or_stop(cli, false, err);
}

static int run_restart(struct davit_cli *cli, struct davit_error *err)
{
	return simple(cli, "POST", "/restart", "restarting", err);
}

/* Takes body, which must be there. */
static int post(struct davit_cli *cli, const char *version, const char *suffix, json_t *body,
		const char *what, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	char name[256], text[300];
	json_t *answer = NULL;
	int r;

	davit_api_service_of(davit_cli_namespace(cli), davit_cli_arg(cli, 0), version, suffix, &target);
	r = davit_api_call(cli, "POST", davit_buf_str(&target), body, &answer, err);
	json_decref(body);
	if (r < 0)
		return r;
	snprintf(text, sizeof text, "%s: %s", label(cli, version, name), what);
	return done(cli, answer, text, err);
}

/* NAME [VERSION] LAST: the last argument is not the version. */
static int with_last(struct davit_cli *cli, const char *suffix, json_t *body, const char *what,
		     struct davit_error *err)
{
	const char *version = cli->n_args == 3 ? cli->args[1] : NULL;

	return body ? post(cli, version, suffix, body, what, err)
		    : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int run_scale(struct davit_cli *cli, struct davit_error *err)
{
	const char *count = cli->args[cli->n_args - 1];
	struct davit_error why;
	char what[64];
	int64_t n;

	if (davit_int_parse(count, 0, 100000, &n, &why) < 0)
		return davit_cli_usage(cli, err, "instances: %s", why.message);
	snprintf(what, sizeof what, "scaled to %d instance%s", (int)n, n == 1 ? "" : "s");
	return with_last(cli, "/scale", json_pack("{s:I}", "instances", (json_int_t)n), what, err);
}

static int run_signal(struct davit_cli *cli, struct davit_error *err)
{
	const char *name = cli->args[cli->n_args - 1], *instance = davit_cli_value(cli, "instance");
	json_t *body = json_pack("{s:s}", "signal", name);
	char what[96];

	if (!body)
		return davit_cli_usage(cli, err, "the signal's name is not UTF-8 text");
	if (instance)
		json_object_set_new(body, "instance", json_string(instance));
	snprintf(what, sizeof what, "signal %.32s sent", name);
	return with_last(cli, "/signal", body, what, err);
}

static int set_paused(struct davit_cli *cli, const char *suffix, const char *what, struct davit_error *err)
{
	const char *instance = davit_cli_value(cli, "instance");
	json_t *body = instance ? json_pack("{s:s}", "instance", instance) : json_object();

	return body ? post(cli, davit_cli_arg(cli, 1), suffix, body, what, err)
		    : davit_cli_usage(cli, err, "the instance's name is not UTF-8 text");
}

static int run_pause(struct davit_cli *cli, struct davit_error *err)
{
	return set_paused(cli, "/pause", "paused", err);
}

static int run_unpause(struct davit_cli *cli, struct davit_error *err)
{
	return set_paused(cli, "/unpause", "goes on", err);
}

static const struct davit_option kill_own[] = {
	{"detach", 'd', NULL, DAVIT_OPTION_FLAG,
	 .doc = "Return at once instead of when the last instance is gone"},
	{0},
};
static const struct davit_option signal_own[] = {
	{"instance", 0, "ID", DAVIT_OPTION_STRING, .doc = "Only this instance, by id or index"},
	{0},
};
static const struct davit_option *const options[] = {davit_options_namespace, davit_options_common, NULL};
static const struct davit_option *const kill_options[] = {kill_own, davit_options_namespace,
							  davit_options_common, NULL};
static const struct davit_option *const signal_options[] = {signal_own, davit_options_namespace,
							    davit_options_common, NULL};
static const char *const kill_examples[] = {"davit kill foobar", "stop all its instances and forget it",
					    "davit kill foobar v2", "only version v2", NULL};
static const char *const start_examples[] = {"davit start foobar", "run it again after 'davit stop'",
					     "davit start 3fa9c1", "a workspace, by the beginning of its id",
					     NULL};
static const char *const stop_examples[] = {"davit stop foobar", "end its instances, keep the service",
					    "davit stop demo", "a workspace, by its name", NULL};
static const char *const restart_examples[] = {"davit restart foobar", "replace its instances by new ones",
					       NULL};
static const char *const scale_examples[] = {"davit scale foobar 5", "run five instances",
					     "davit scale foobar v2 0", "keep version v2, run none of it",
					     NULL};
static const char *const signal_examples[] = {"davit signal foobar HUP", "send SIGHUP to every instance",
					      "davit signal foobar USR1 --instance 0",
					      "only to the first one", NULL};

const struct davit_command davit_command_kill = {
	.name = "kill",
	.usage = "NAME [VERSION]",
	.group = "Services",
	.summary = "Stop a service and forget it",
	.details = "Its instances get the stop signal, then the grace period, then SIGKILL. Logs are kept.",
	.options = kill_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service",
	.run = run_kill,
	.examples = kill_examples,
};

const struct davit_command davit_command_start = {
	.name = "start",
	.usage = "NAME|ID [VERSION]",
	.group = "Services",
	.summary = "Start a service or workspace that was stopped",
	.details =
		"A workspace is meant by its id, or by its name where no service has that; the command then "
		"returns\nwhen it runs.",
	.options = options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service or workspace",
	.run = run_start,
	.examples = start_examples,
};

const struct davit_command davit_command_stop = {
	.name = "stop",
	.usage = "NAME|ID [VERSION]",
	.group = "Services",
	.summary = "Stop a service or workspace and keep its record",
	.details =
		"A workspace is meant by its id, or by its name where no service has that; the command then "
		"returns\nwhen nothing of it runs.",
	.options = options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service or workspace",
	.run = run_stop,
	.examples = stop_examples,
};

const struct davit_command davit_command_restart = {
	.name = "restart",
	.usage = "NAME [VERSION]",
	.group = "Services",
	.summary = "Restart the instances of a service",
	.options = options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service",
	.run = run_restart,
	.examples = restart_examples,
};

const struct davit_command davit_command_scale = {
	.name = "scale",
	.usage = "NAME [VERSION] INSTANCES",
	.group = "Services",
	.summary = "Change how many instances of a service run",
	.options = options,
	.min_args = 2,
	.max_args = 3,
	.complete = "service",
	.run = run_scale,
	.examples = scale_examples,
};

const struct davit_command davit_command_signal = {
	.name = "signal",
	.usage = "NAME [VERSION] SIGNAL",
	.group = "Services",
	.summary = "Send a signal to the instances of a service",
	.options = signal_options,
	.min_args = 2,
	.max_args = 3,
	.complete = "service",
	.run = run_signal,
	.examples = signal_examples,
};

static const char *const pause_examples[] = {"davit pause foobar", "freeze every process of it",
					     "davit pause foobar --instance 0", "only of its first instance",
					     NULL};
static const char *const unpause_examples[] = {"davit unpause foobar", "let it go on where it was", NULL};

const struct davit_command davit_command_pause = {
	.name = "pause",
	.usage = "NAME [VERSION]",
	.group = "Services",
	.summary = "Freeze the instances of a service",
	.details = "They keep their memory and use no CPU. A stop thaws them first.",
	.options = signal_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service",
	.run = run_pause,
	.examples = pause_examples,
};

const struct davit_command davit_command_unpause = {
	.name = "unpause",
	.usage = "NAME [VERSION]",
	.group = "Services",
	.summary = "Let a paused service go on",
	.options = signal_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service",
	.run = run_unpause,
	.examples = unpause_examples,
};
