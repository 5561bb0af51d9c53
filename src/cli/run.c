/* SPDX-License-Identifier: MIT
 *
 * davit run, davit update, davit apply, davit validate: specs on their way to
 * the daemon.
 */
#include "base/file.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/attach.h"
#include "cli/follow.h"
#include "cli/output.h"
#include "cli/source_watch.h"
#include "cli/spec_options.h"
#include "net/url.h"

#include <stdio.h>
#include <string.h>

#define SPEC_FILE_MAX (1024 * 1024)
#define UPDATE_TRIES 20 /* of a change that others are faster with */
#define DEFAULT_TIMEOUT (60 * DAVIT_NSEC_PER_SEC)
#define DEFAULT_WATCH_DELAY (200 * DAVIT_NSEC_PER_MSEC)

/* The daemon names the spec's key that it refuses; a person wrote an option. */
static void name_option(struct davit_cli *cli, struct davit_error *err)
{
	const struct davit_option *o = err->where[0] ? davit_spec_option_of(err->where) : NULL;
	size_t n = strlen(err->where);

	err->line = err->column = 0; /* of a text that was made from the options */
	if (!o || !davit_option_find(cli->command, o->name) || !davit_cli_flag(cli, o->name) ||
	    !strncmp(err->message, "--", 2))
		return;
	if (!strncmp(err->message, err->where, n) && !strncmp(err->message + n, ": ", 2))
		memmove(err->message, err->message + n + 2, strlen(err->message + n + 2) + 1);
	davit_error_prefix(err, "--%s", o->name);
}

static void post_target(struct davit_cli *cli, const char *mode, const char *revision, struct davit_buf *out)
{
	davit_buf_adds(out, "/v1/services");
	davit_url_query(out, "mode", mode);
	if (revision)
		davit_url_query(out, "revision", revision);
	if (davit_option_find(cli->command, "force") && davit_cli_flag(cli, "force"))
		davit_url_query(out, "force", "true");
}

/* POSTs a spec; *ret is the list of {kind, namespace, name, version}. revision: which it is made from
 * (DAVIT_ECONFLICT when another has changed it since), or NULL. */
static int post_spec(struct davit_cli *cli, const char *mode, const char *revision, json_t *spec,
		     json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int r;

	post_target(cli, mode, revision, &target);
	r = davit_api_call(cli, "POST", davit_buf_str(&target), spec, &answer, err);
	if (r < 0) {
		name_option(cli, err);
		return r;
	}
	*ret = json_incref(json_object_get(answer, "services"));
	json_decref(answer);
	return 0;
}

/* "-" is standard input. */
static int read_spec_file(const char *file, struct davit_buf *out, struct davit_error *err)
{
	return davit_read_file(strcmp(file, "-") != 0 ? file : "/dev/stdin", SPEC_FILE_MAX, out, err);
}

/* Sends a file as it is. The daemon says line and column of what is wrong; the
 * file's name is ours to add. */
static int post_file(struct davit_cli *cli, const char *target, const char *file, json_t **ret,
		     struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	int r = read_spec_file(file, &text, err);
	size_t len = strlen(file);
	bool json = len > 5 && !strcmp(file + len - 5, ".json");

	if (r == 0)
		r = davit_api_send(cli, "POST", target, json ? "application/json" : "application/yaml",
				   davit_buf_str(&text), text.len, ret, err);
	if (r < 0 && err && err->line && strncmp(err->message, file, len) != 0)
		davit_error_prefix(err, "%s:%u:%u", file, err->line, err->column);
	return r;
}

/* Only services are followed; supervisors and namespaces do not run. */
static json_t *services_only(json_t *refs)
{
	json_t *list = json_array(), *ref;
	size_t i;

	json_array_foreach(refs, i, ref)
	{
		const char *kind = davit_string(ref, "kind");
		if (!kind[0] || !strcmp(kind, "Service"))
			json_array_append(list, ref);
	}
	return list;
}

/* After the POST: waits, and tells what has become of it. Takes refs. */
static int follow(struct davit_cli *cli, json_t *refs, struct davit_error *err)
{
	json_t *list = services_only(refs), *services = NULL, *s;
	int r = 0;
	size_t i;

	if (davit_cli_flag(cli, "detach")) {
		if (cli->format != DAVIT_FORMAT_TEXT)
			r = davit_print_value(cli, refs, err);
		else
			json_array_foreach(refs, i, s) printf("%s %s: accepted\n", davit_string(s, "name"),
							      davit_string(s, "version"));
	} else if (json_array_size(list)) {
		r = davit_follow_ready(cli, list, davit_cli_duration(cli, "timeout", DEFAULT_TIMEOUT),
				       &services, err);
		if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
			r = davit_print_value(cli, services, err);
		else if (r == 0)
			json_array_foreach(services, i, s) davit_print_summary(cli, s);
	}
	json_decref(services);
	json_decref(list);
	json_decref(refs);
	return r;
}

static int check_modes(struct davit_cli *cli, struct davit_error *err)
{
	if (davit_cli_flag(cli, "detach") && (davit_cli_flag(cli, "follow") || davit_cli_flag(cli, "watch")))
		return davit_cli_usage(cli, err,
				       "--detach returns at once: it goes with neither --follow nor --watch");
	if (davit_cli_flag(cli, "follow") && davit_cli_flag(cli, "watch"))
		return davit_cli_usage(cli, err, "--follow and --watch cannot be used together");
	return 0;
}

/* Sends the spec again at each change of the source. Takes refs. */
static int watch_source(struct davit_cli *cli, const char *source, json_t *spec, json_t *refs,
			struct davit_error *err)
{
	int64_t delay = davit_cli_duration(cli, "watch-delay", DEFAULT_WATCH_DELAY);
	struct davit_source_watch *watch = NULL;
	struct davit_error why;
	int r, tried = 0;

	r = davit_source_watch_open(source, &watch, err);
	if (r < 0) {
		json_decref(refs);
		return r;
	}
	for (;;) {
		/* A version that is broken is there to be mended: the error is shown,
		 * and the next change tries again. */
		if (refs)
			tried = follow(cli, refs, &why);
		if (tried < 0)
			davit_print_error(cli, &why);
		fflush(stdout);
		r = davit_source_watch_wait(watch, delay, err);
		if (r < 0)
			break;
		refs = NULL;
		tried = post_spec(cli, "update", NULL, spec, &refs, &why);
	}
	davit_source_watch_close(watch);
	return r;
}

/* Before anything is sent: a refusal changes nothing. */
static int check_watch(struct davit_cli *cli, const json_t *spec, struct davit_error *err)
{
	if (davit_cli_flag(cli, "watch") && davit_string(spec, "source")[0] != '/')
		return davit_cli_usage(cli, err, "--watch needs a source that is a local directory or file");
	return 0;
}

/* What happens after `run` or `update` has sent the spec. Takes refs. */
static int attend(struct davit_cli *cli, json_t *spec, json_t *refs, struct davit_error *err)
{
	const char *source = davit_string(spec, "source");
	int r;

	fflush(stdout);
	if (davit_cli_flag(cli, "follow")) {
		json_t *ref = json_incref(json_array_get(refs, 0));
		json_decref(refs);
		r = davit_attach(cli, ref, err);
		json_decref(ref);
		return r;
	}
	if (!davit_cli_flag(cli, "watch"))
		return follow(cli, refs, err);
	return watch_source(cli, source, spec, refs, err);
}

static int run_from_file(struct davit_cli *cli, const char *mode, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL, *refs;
	int r;

	if (cli->n_args)
		return davit_cli_usage(cli, err, "-f takes everything from the file; '%.64s' is too much",
				       cli->args[0]);
	post_target(cli, mode, NULL, &target);
	r = post_file(cli, davit_buf_str(&target), davit_cli_value(cli, "file"), &answer, err);
	if (r < 0)
		return r;
	refs = json_incref(json_object_get(answer, "services"));
	json_decref(answer);
	return follow(cli, refs, err);
}

/* With -f only options that are not about the spec make sense. */
static int refuse_spec_options(struct davit_cli *cli, struct davit_error *err)
{
	for (size_t i = 0; i < cli->n_given; i++)
		if (cli->given[i].option->field)
			return davit_cli_usage(cli, err,
					       "--%s cannot be used with --file: write '%s' into the file",
					       cli->given[i].option->name, cli->given[i].option->field);
	if (davit_cli_flag(cli, "follow") || davit_cli_flag(cli, "watch") || davit_cli_value(cli, "env-file"))
		return davit_cli_usage(cli, err,
				       "--follow, --watch and --env-file cannot be used with --file");
	return 0;
}

/* Sends a spec that the options are in, and attends what it is of. */
static int send_spec(struct davit_cli *cli, const char *mode, const char *revision, json_t *spec,
		     struct davit_error *err)
{
	json_t *refs = NULL;
	int r = check_watch(cli, spec, err);

	if (r == 0)
		r = post_spec(cli, mode, revision, spec, &refs, err);
	return r < 0 ? r : attend(cli, spec, refs, err);
}

static int run_run(struct davit_cli *cli, struct davit_error *err)
{
	json_t *spec;
	int r = check_modes(cli, err);

	if (r == 0 && davit_cli_value(cli, "file")) {
		r = refuse_spec_options(cli, err);
		return r < 0 ? r : run_from_file(cli, "create", err);
	}
	if (r < 0)
		return r;
	spec = json_object();
	r = davit_spec_options_apply(cli, spec, err);
	if (r == 0)
		r = davit_spec_options_name(cli, spec, err);
	if (r == 0)
		r = send_spec(cli, "create", NULL, spec, err);
	json_decref(spec);
	return r;
}

/* The spec as it is, from inspect, with the options of this call over it. */
static int update_once(struct davit_cli *cli, const char *target, struct davit_error *err)
{
	json_t *answer = NULL, *spec = NULL;
	char revision[24];
	int r = davit_api_call(cli, "GET", target, NULL, &answer, err);

	if (r < 0)
		return r;
	snprintf(revision, sizeof revision, "%" JSON_INTEGER_FORMAT,
		 json_integer_value(json_object_get(answer, "revision")));
	spec = json_deep_copy(json_object_get(answer, "spec"));
	json_decref(answer);
	if (!json_is_object(spec))
		r = davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon's answer has no spec");
	if (r == 0)
		r = davit_spec_options_apply(cli, spec, err);
	if (r == 0)
		r = send_spec(cli, "update", revision, spec, err);
	json_decref(spec);
	return r;
}

static int run_update(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	int r = check_modes(cli, err);

	if (r == 0 && davit_cli_value(cli, "file")) {
		r = refuse_spec_options(cli, err);
		return r < 0 ? r : run_from_file(cli, "update", err);
	}
	if (r == 0 && !cli->n_args)
		r = davit_cli_usage(cli, err, "no name is given: davit update %s", cli->command->usage);
	if (r < 0)
		return r;
	davit_api_service(cli, 0, "/inspect", &target);
	/* What another has changed since it was read must not be undone. */
	for (int tries = 0; tries < UPDATE_TRIES; tries++) {
		r = update_once(cli, davit_buf_str(&target), err);
		if (r != DAVIT_ECONFLICT)
			break;
	}
	return r;
}

static int run_apply(struct davit_cli *cli, struct davit_error *err)
{
	if (!davit_cli_value(cli, "file"))
		return davit_cli_usage(cli, err, "no file is given: davit apply -f FILE");
	return run_from_file(cli, "apply", err);
}

static int run_validate(struct davit_cli *cli, struct davit_error *err)
{
	const char *file = davit_cli_value(cli, "file");
	json_t *answer = NULL;
	size_t n;
	int r;

	if (!file)
		return davit_cli_usage(cli, err, "no file is given: davit validate -f FILE");
	r = post_file(cli, "/v1/services?mode=validate", file, &answer, err);
	if (r < 0)
		return r;
	n = json_array_size(json_object_get(answer, "services"));
	if (cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else
		printf("%s: valid, %zu spec%s\n", file, n, n == 1 ? "" : "s");
	json_decref(answer);
	return r;
}

static const struct davit_option name_own[] = {
	{"name", 0, "NAME", DAVIT_OPTION_STRING, .doc = "The service's name, when it is not an argument"},
	{0},
};
static const struct davit_option file_own[] = {
	{"file", 'f', "FILE", DAVIT_OPTION_PATH,
	 .doc = "Take the specs from this YAML or JSON file; - is standard input"},
	{0},
};
static const struct davit_option env_own[] = {
	{"env-file", 0, "FILE", DAVIT_OPTION_PATH, .repeat = true,
	 .doc = "Environment variables, NAME=VALUE a line"},
	{0},
};
static const struct davit_option follow_own[] = {
	{"force", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Build and replace the instances even when nothing has changed"},
	{"detach", 'd', NULL, DAVIT_OPTION_FLAG, .doc = "Return at once instead of when it is ready"},
	{"timeout", 0, "DURATION", DAVIT_OPTION_DURATION,
	 .doc = "Give up waiting after this time (default 60s; 0: never)"},
	{0},
};
static const struct davit_option attach_own[] = {
	{"follow", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Show its output until it ends, and exit with its status"},
	{"watch", 0, NULL, DAVIT_OPTION_FLAG, .doc = "Watch the local source and update at each change"},
	{"watch-delay", 0, "DURATION", DAVIT_OPTION_DURATION,
	 .doc = "With --watch: how long nothing may change before the update (default 200ms)"},
	{0},
};
static const struct davit_option *const run_options[] = {name_own,
							 davit_options_namespace,
							 davit_options_spec,
							 env_own,
							 file_own,
							 follow_own,
							 attach_own,
							 davit_options_data,
							 NULL};
static const struct davit_option *const update_options[] = {davit_options_namespace,
							    davit_options_spec,
							    env_own,
							    file_own,
							    follow_own,
							    attach_own,
							    davit_options_data,
							    NULL};
static const struct davit_option *const apply_options[] = {file_own, follow_own, davit_options_data, NULL};
static const struct davit_option *const validate_options[] = {file_own, davit_options_data, NULL};

static const char *const run_examples[] = {"davit run helloworld",
					   "a name under the default source",
					   "davit run ./examples/helloworld",
					   "a directory; its base name is the name",
					   "davit run foobar v2 --source DIR --instances 3",
					   "name, version and source",
					   "davit run web --env A=b=c --memory 64Mi --retries 3",
					   "with settings",
					   "davit run sleeper --command 'sleep 1000'",
					   "a program without a source",
					   "davit run job -- ./task --all",
					   "the same, word by word",
					   "davit run -f web.yaml",
					   "from a file",
					   NULL};
static const char *const update_examples[] = {"davit update foobar",
					      "build the source again and swap when it is good",
					      "davit update foobar --env LEVEL=debug",
					      "change one variable, keep the rest",
					      "davit update foobar --watch",
					      "again at each change of the source",
					      NULL};
static const char *const apply_examples[] = {"davit apply -f web.yaml",
					     "create what is new, update what differs", NULL};
static const char *const validate_examples[] = {"davit validate -f web.yaml",
						"check the file, change nothing", NULL};

const struct davit_command davit_command_run = {
	.name = "run",
	.usage = "NAME|DIR|URL [VERSION] [-- COMMAND [ARG...]]",
	.group = "Services",
	.summary = "Run a service",
	.details = "An argument with a slash, or one that exists here, is the source, and its base name is "
		   "the name.\n"
		   "Without a source, command or image the name is looked up under the default source\n"
		   "($DAVIT_RUNTIME_SOURCE, then the daemon's). Returns when the service is ready and stays, "
		   "with a\n"
		   "summary, or has ended well; when it fails, with the reason, its last lines of output and "
		   "exit status 1.",
	.options = run_options,
	.max_args = 2,
	.rest = true,
	.complete = "file",
	.run = run_run,
	.examples = run_examples,
};

const struct davit_command davit_command_update = {
	.name = "update",
	.usage = "NAME [VERSION] [-- COMMAND [ARG...]]",
	.group = "Services",
	.summary = "Build a service again and change its settings",
	.details = "What no option names stays as it is: a single value is replaced, variables and metadata "
		   "are merged,\n"
		   "lists (ports, volumes, ...) are replaced. The new version is built first; a broken build "
		   "or one that\n"
		   "does not become ready leaves the old one serving.",
	.options = update_options,
	.max_args = 2,
	.rest = true,
	.complete = "service",
	.run = run_update,
	.examples = update_examples,
};

const struct davit_command davit_command_apply = {
	.name = "apply",
	.usage = "-f FILE",
	.group = "Services",
	.summary = "Create or update what a file describes",
	.details = "All or nothing: a fault in one of the specs changes nothing.",
	.options = apply_options,
	.complete = "file",
	.run = run_apply,
	.examples = apply_examples,
};

const struct davit_command davit_command_validate = {
	.name = "validate",
	.usage = "-f FILE",
	.group = "Services",
	.summary = "Check a file of specs",
	.options = validate_options,
	.complete = "file",
	.run = run_validate,
	.examples = validate_examples,
};
