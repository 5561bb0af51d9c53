/* SPDX-License-Identifier: MIT
 *
 * davit logs.
 */
#include "cli/logs.h"

#include "base/units.h"
#include "cli/api.h"
#include "cli/follow.h"
#include "cli/output.h"
#include "net/client.h"
#include "net/url.h"

#include <string.h>

void davit_log_print(struct davit_log_printer *p, json_t *line)
{
	static const int colors[] = {36, 33, 32, 35, 34, 31};
	const json_t *text = json_object_get(line, "text");
	int64_t index = davit_integer(line, "index");
	FILE *out = p->split && !strcmp(davit_string(line, "stream"), "stderr") ? stderr : stdout;

	if (!p->cursors)
		p->cursors = json_object();
	json_object_set(p->cursors, davit_string(line, "instance"), json_object_get(line, "cursor"));
	if (p->json) {
		davit_print_line(line);
		return;
	}
	if (p->last_index >= 0 && index != p->last_index)
		p->prefix = true;
	p->last_index = index;
	if (p->prefix && p->cli->color)
		fprintf(out, "\033[%dm%s.%d |\033[0m ", colors[(size_t)index % DAVIT_ARRAY_SIZE(colors)],
			p->name, (int)index);
	else if (p->prefix)
		fprintf(out, "%s.%d | ", p->name, (int)index);
	if (p->timestamps)
		fprintf(out, "%s ", davit_string(line, "time"));
	if (json_is_string(text))
		fwrite(json_string_value(text), 1, json_string_length(text), out);
	putc('\n', out);
}

bool davit_log_resume(const struct davit_log_printer *p, struct davit_buf *target)
{
	DAVIT_AUTO_BUF after = DAVIT_BUF_INIT;
	char since[DAVIT_TIME_MAX];
	const char *instance;
	json_t *cursor;

	json_object_foreach(p->cursors, instance, cursor)
		davit_buf_addf(&after, "%s%s", after.len ? "," : "", json_string_value(cursor));
	if (!after.len)
		return false;
	davit_url_query(target, "after", davit_buf_str(&after));
	davit_url_query(target, "since", davit_time_format(p->cli->started, since));
	return true;
}

void davit_log_printer_fini(struct davit_log_printer *p)
{
	json_decref(p->cursors);
	p->cursors = NULL;
}

/* A duration before now, or a time, as a time. */
static void add_since(struct davit_cli *cli, struct davit_buf *target)
{
	const char *since = davit_cli_value(cli, "since");
	char buf[DAVIT_TIME_MAX];
	int64_t ns;

	if (!since)
		return;
	if (davit_duration_parse(since, &ns, NULL) == 0)
		ns = davit_now() - ns;
	else
		davit_time_parse(since, &ns, NULL); /* checked by the parser */
	davit_url_query(target, "since", davit_time_format(ns, buf));
}

static void target_of(struct davit_cli *cli, const char *version, const struct davit_log_printer *p,
		      struct davit_buf *target)
{
	davit_buf_reset(target);
	davit_api_service_of(davit_cli_namespace(cli), davit_cli_arg(cli, 0), version, "/logs", target);
	if (!davit_log_resume(p, target)) {
		if (davit_cli_value(cli, "lines"))
			davit_url_query(target, "tail", davit_cli_value(cli, "lines"));
		add_since(cli, target);
	}
	if (davit_cli_value(cli, "instance"))
		davit_url_query(target, "instance", davit_cli_value(cli, "instance"));
	if (davit_cli_flag(cli, "build"))
		davit_url_query(target, "build", "true");
	if (davit_cli_flag(cli, "follow"))
		davit_url_query(target, "follow", "true");
}

/* Prints to the end of the stream: 0, or the code of what broke it. */
static int pump(struct davit_client *stream, struct davit_log_printer *p, size_t *ret_lines,
		struct davit_error *err)
{
	json_t *line;
	int r;

	while ((r = davit_api_next(stream, &line, NULL, err)) > 0) {
		davit_log_print(p, line);
		json_decref(line);
		++*ret_lines;
		if (!davit_client_line_ready(stream))
			fflush(stdout);
		if (ferror(stdout))
			return 0;
	}
	return r;
}

/* Goes on where it was when the stream breaks: the daemon may be restarted or
 * upgraded below us. Ends when the service is gone. */
static int follow(struct davit_cli *cli, const char *version, struct davit_log_printer *p,
		  struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_api_pause pause = {0};
	struct davit_client *stream;
	bool opened = false;
	size_t lines;
	int r;

	for (;;) {
		stream = NULL;
		lines = 0;
		target_of(cli, version, p, &target);
		r = davit_api_stream(cli, davit_buf_str(&target), &stream, err);
		if (r == DAVIT_ENOENT && opened) {
			fprintf(stderr, "davit: service '%s' is gone\n", p->name);
			return 0;
		}
		if (r < 0 && !(opened && davit_api_is_away(r)))
			return r;
		if (r == 0) {
			opened = true;
			davit_api_print_stream(stream);
			r = pump(stream, p, &lines, err);
			davit_client_close(stream);
			fflush(stdout);
		}
		if (ferror(stdout))
			return 0;
		if (r < 0 && !davit_api_is_away(r))
			return r;
		davit_error_clear(err);
		if (lines)
			pause = (struct davit_api_pause){0};
		davit_api_pause(cli, &pause);
	}
}

static int run_logs(struct davit_cli *cli, struct davit_error *err)
{
	struct davit_log_printer p = {
		.cli = cli,
		.name = davit_cli_arg(cli, 0),
		.json = cli->format == DAVIT_FORMAT_JSON,
		.timestamps = davit_cli_flag(cli, "timestamps"),
		.last_index = -1,
	};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *version = NULL;
	struct davit_client *stream = NULL;
	json_t *service = NULL;
	size_t lines = 0;
	int r;

	davit_api_service(cli, 0, "", &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &service, err);
	if (r < 0)
		return r;
	p.prefix = davit_service_wanted(service) > 1 ||
		   json_array_size(json_object_get(service, "instances")) > 1;
	version = strdup(davit_string(service, "version"));
	json_decref(service);
	davit_api_close(cli);
	if (!version)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (davit_cli_flag(cli, "follow")) {
		r = follow(cli, version, &p, err);
		davit_log_printer_fini(&p);
		return r;
	}
	davit_buf_reset(&target);
	target_of(cli, version, &p, &target);
	r = davit_api_stream(cli, davit_buf_str(&target), &stream, err);
	if (r == 0)
		r = pump(stream, &p, &lines, err);
	davit_client_close(stream);
	davit_log_printer_fini(&p);
	return r;
}

static const struct davit_option own[] = {
	{"lines", 'n', "N", DAVIT_OPTION_INT, .max = INT32_MAX,
	 .doc = "Only the last N lines of each instance"},
	{"follow", 'f', NULL, DAVIT_OPTION_FLAG,
	 .doc = "Go on as lines come, over restarts of service and daemon"},
	{"since", 0, "WHEN", DAVIT_OPTION_WHEN,
	 .doc = "Only lines after this: a duration before now (10s), or a time"},
	{"timestamps", 't', NULL, DAVIT_OPTION_FLAG, .doc = "Show when each line was written, in UTC"},
	{"instance", 0, "ID", DAVIT_OPTION_STRING, .doc = "Only of this instance, by id or index"},
	{"build", 0, NULL, DAVIT_OPTION_FLAG, .doc = "The log of the last build instead"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, davit_options_lines, NULL};
static const char *const examples[] = {"davit logs foobar",
				       "everything that is kept",
				       "davit logs -f -n 7 --since 10s foobar",
				       "the last lines, and what follows",
				       "davit logs foobar --build",
				       "why a build failed",
				       "davit logs foobar -o json",
				       "JSON lines {instance, index, time, stream, text, cursor}",
				       NULL};

const struct davit_command davit_command_logs = {
	.name = "logs",
	.usage = "NAME [VERSION]",
	.group = "Looking",
	.summary = "Show what a service has written",
	.details = "Lines of several instances have the prefix 'name.index |'. Both streams go to standard "
		   "output.",
	.options = options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service",
	.run = run_logs,
	.examples = examples,
};
