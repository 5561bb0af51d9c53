/* SPDX-License-Identifier: MIT
 *
 * davit runs, run-log and abort.
 */
#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "cli/run_view.h"
#include "net/url.h"

#include <inttypes.h>
#include <string.h>

/* ------------------------------------------------------------------------------------- runs */

static int add_row(struct davit_cli *cli, struct davit_table *t, const json_t *run)
{
	struct libscols_line *row = davit_table_row(t, NULL);
	bool ended = !strcmp(davit_string(run, "state"), "ended");
	char created[DAVIT_AGE_MAX + 8], size[DAVIT_TIME_MAX], took[DAVIT_TIME_MAX] = "-";
	int64_t from, to;
	int r;

	if (davit_time_parse(davit_string(run, "created"), &from, NULL) == 0 &&
	    davit_time_parse(davit_string(run, "ended"), &to, NULL) == 0)
		davit_duration_format((to - from) / DAVIT_NSEC_PER_MSEC * DAVIT_NSEC_PER_MSEC, took);
	r = davit_table_set(t, row, 0, davit_string(run, "id"));
	r |= davit_table_set(t, row, 1, davit_string(run, "kind"));
	r |= davit_table_set(t, row, 2, davit_string(run, "name"));
	r |= davit_table_set(t, row, 3, davit_string(run, ended ? "outcome" : "state"));
	r |= davit_table_set(t, row, 4, davit_time_text(cli, davit_string(run, "created"), created));
	r |= davit_table_set(t, row, 5, took);
	r |= davit_table_set(t, row, 6, davit_size_format((uint64_t)davit_integer(run, "bytes"), size));
	return r;
}

static int list(struct davit_cli *cli, struct davit_error *err)
{
	static const char *const columns[] = {"ID", "KIND", "NAME", "STATUS", "BEGUN", "TOOK", "LOG"};
	json_t *all = NULL, *run;
	DAVIT_AUTO_TABLE *t = NULL;
	size_t i;
	int r = davit_api_call(cli, "GET", "/v1/runs", NULL, &all, err);

	if (r == 0 && cli->format == DAVIT_FORMAT_JSON)
		r = davit_print_value(cli, all, err);
	else if (r == 0)
		r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &t, err);
	if (t) {
		json_array_foreach(all, i, run) if (add_row(cli, t, run) < 0) r =
			davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		if (r == 0)
			r = davit_table_print(t, err);
	}
	json_decref(all);
	return r;
}

/* One run, with what it has made. */
static int show(struct davit_cli *cli, const char *id, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *run = NULL, *v;
	const char *key;
	char number[24];
	int r;

	davit_buf_adds(&target, "/v1/runs/");
	davit_url_escape(&target, id);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &run, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_JSON)
		r = davit_print_value(cli, run, err);
	else if (r == 0) {
		static const char *const keys[] = {"id",      "name",	 "kind",    "pipeline", "state",
						   "outcome", "message", "created", "ended",	"host"};
		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(keys); i++)
			if (*davit_text(run, keys[i], number))
				printf("%-9s %s\n", keys[i], davit_text(run, keys[i], number));
		json_object_foreach(json_object_get(run, "artifacts"), key, v)
			printf("artifact  %s: %s\n", key, json_string_value(v));
	}
	json_decref(run);
	return r;
}

static int remove_runs(struct davit_cli *cli, struct davit_error *err)
{
	int r = 0;

	if (cli->n_args < 2)
		return davit_cli_usage(cli, err, "which? davit runs rm ID...");
	for (size_t i = 1; r == 0 && i < cli->n_args; i++) {
		DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

		davit_buf_adds(&target, "/v1/runs/");
		davit_url_escape(&target, cli->args[i]);
		r = davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, NULL, err);
	}
	return r;
}

static void tell_pruned(struct davit_cli *cli, const json_t *all)
{
	char size[DAVIT_TIME_MAX];
	uint64_t bytes = 0;
	size_t i, n = 0;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		bool removed = json_is_true(json_object_get(v, "removed"));

		n += removed;
		bytes += removed ? (uint64_t)davit_integer(v, "bytes") : 0;
		if (davit_cli_flag(cli, "why"))
			printf("%s %s: %s\n", removed ? "removed" : "kept   ", davit_string(v, "id"),
			       davit_string(v, "why"));
	}
	printf("removed %zu, %s\n", n, davit_size_format(bytes, size));
}

static int prune(struct davit_cli *cli, struct davit_error *err)
{
	const char *keep = davit_cli_value(cli, "keep");
	json_t *body = json_object(), *all = NULL;
	int r = body ? 0 : DAVIT_ENOMEM;

	if (cli->n_args > 1)
		r = davit_cli_usage(cli, err, "prune takes no argument: davit runs prune --keep N");
	if (r == 0 && keep)
		r = json_object_set_new(body, "keep", json_integer(strtoll(keep, NULL, 10)));
	if (r == 0 && davit_cli_value(cli, "age"))
		r = json_object_set_new(body, "age", json_integer(davit_cli_duration(cli, "age", 0)));
	if (r == 0)
		r = davit_api_call(cli, "POST", "/v1/runs/prune", body, &all, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_JSON)
		r = davit_print_value(cli, all, err);
	else if (r == 0)
		tell_pruned(cli, all);
	json_decref(body);
	json_decref(all);
	return r;
}

static int run_runs(struct davit_cli *cli, struct davit_error *err)
{
	const char *verb = davit_cli_arg(cli, 0);
	bool prunes = verb && !strcmp(verb, "prune");

	if (!prunes &&
	    (davit_cli_flag(cli, "why") || davit_cli_value(cli, "keep") || davit_cli_value(cli, "age")))
		return davit_cli_usage(cli, err, "--why, --keep and --age are for 'davit runs prune'");
	if (verb && !prunes && strcmp(verb, "rm") != 0)
		return cli->n_args > 1 ? davit_cli_usage(cli, err, "one run at a time: davit runs ID")
				       : show(cli, verb, err);
	return !verb ? list(cli, err) : prunes ? prune(cli, err) : remove_runs(cli, err);
}

static const struct davit_option runs_options[] = {
	{"keep", 0, "N", DAVIT_OPTION_INT, .max = 1000000,
	 .doc = "With prune: how many of those that have ended stay (default: 200)"},
	{"age", 0, "DURATION", DAVIT_OPTION_DURATION,
	 .doc = "With prune: those that have ended longer ago go (default: 14d)"},
	{"why", 0, NULL, DAVIT_OPTION_FLAG, .doc = "With prune: tell of each why it went or stayed"},
	{0},
};
static const struct davit_option *const runs_lists[] = {runs_options, davit_options_common, NULL};
static const char *const runs_examples[] = {"davit runs",
					    "runs of jobs and tasks, the oldest first",
					    "davit runs k3x9qa",
					    "one, with what it has made",
					    "davit runs prune --keep 10 --why",
					    "remove all but the last ten that have ended, and tell why",
					    "davit runs rm k3x9qa",
					    "remove one",
					    NULL};

const struct davit_command davit_command_runs = {
	.name = "runs",
	.usage = "[ID | rm ID... | prune]",
	.group = "Steps",
	.summary = "Show runs of jobs, and of tasks in the background",
	.details =
		"A run that has ended is kept with its log: the last 200, for 14 days. One that is in use is "
		"never\nremoved.",
	.options = runs_lists,
	.max_args = 64,
	.complete = "rm|prune",
	.run = run_runs,
	.examples = runs_examples,
};

/* ---------------------------------------------------------------------------------- run-log */

static int run_log(struct davit_cli *cli, struct davit_error *err)
{
	bool follow = davit_cli_flag(cli, "follow");
	enum run_view_kind kind = cli->format == DAVIT_FORMAT_JSON   ? RUN_VIEW_JSON
				  : follow && !davit_cli_arg(cli, 1) ? davit_run_view_kind(cli)
								     : RUN_VIEW_LOGS;
	int status = -1, r;

	r = davit_run_follow(cli, davit_cli_arg(cli, 0), kind, davit_cli_arg(cli, 1), follow, false, &status,
			     err);
	return r < 0 || !davit_cli_flag(cli, "status") ? r : status < 0 ? 0 : status;
}

static const struct davit_option log_options[] = {
	{"follow", 'f', NULL, DAVIT_OPTION_FLAG,
	 .doc = "Go on until the run has ended, over restarts of the daemon"},
	{"status", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Exit as the run has ended: 0 succeeded, 1 failed, 2 errored, 3 aborted"},
	{0},
};
static const struct davit_option *const log_lists[] = {log_options, davit_options_lines, NULL};
static const char *const log_examples[] = {"davit run-log k3x9qa",
					   "what its steps have printed",
					   "davit run-log -f k3x9qa --status",
					   "until it has ended, and exit as it has",
					   "davit run-log k3x9qa unit",
					   "of the steps named unit alone",
					   "davit run-log k3x9qa -o json",
					   "everything that has happened, as events",
					   NULL};

const struct davit_command davit_command_run_log = {
	.name = "run-log",
	.usage = "ID [STEP]",
	.group = "Steps",
	.summary = "Show what the steps of a run print",
	.details = "The id may be shortened to what no other run begins with. Ctrl-C ends the showing, not "
		   "the run.",
	.options = log_lists,
	.min_args = 1,
	.max_args = 2,
	.run = run_log,
	.examples = log_examples,
};

/* ------------------------------------------------------------------------------------ abort */

static int run_abort(struct davit_cli *cli, struct davit_error *err)
{
	json_t *body = json_pack("{s:b}", "force", davit_cli_flag(cli, "force"));
	int r = body ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");

	for (size_t i = 0; r == 0 && i < cli->n_args; i++) {
		DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

		davit_buf_adds(&target, "/v1/runs/");
		davit_url_escape(&target, cli->args[i]);
		davit_buf_adds(&target, "/abort");
		r = davit_api_call(cli, "POST", davit_buf_str(&target), body, NULL, err);
	}
	json_decref(body);
	return r;
}

static const struct davit_option abort_options[] = {
	{"force", 0, NULL, DAVIT_OPTION_FLAG, .doc = "At once: no grace, and no on_abort and ensure"},
	{0},
};
static const struct davit_option *const abort_lists[] = {abort_options, davit_options_common, NULL};
static const char *const abort_examples[] = {"davit abort k3x9qa", "end it; its hooks run",
					     "davit abort k3x9qa --force", "end it at once", NULL};

const struct davit_command davit_command_abort = {
	.name = "abort",
	.usage = "ID...",
	.group = "Steps",
	.summary = "End a run",
	.details = "Its steps get SIGTERM, and SIGKILL after 10 seconds; on_abort and ensure run then. It is "
		   "answered "
		   "when the\nwish is recorded, not when the run has ended: see 'davit run-log -f'.",
	.options = abort_lists,
	.min_args = 1,
	.max_args = 64,
	.run = run_abort,
	.examples = abort_examples,
};
