/* SPDX-License-Identifier: MIT
 *
 * davit events.
 */
#include "cli/api.h"
#include "cli/output.h"
#include "net/client.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>

struct printing {
	struct davit_cli *cli;
	char after[24]; /* id of the last event, or what --after said */
	json_t *last;	/* only the last so many are printed, at the end; or NULL: each as it comes */
	size_t most;
};

static void print_event(struct printing *p, json_t *e)
{
	char number[24];

	snprintf(p->after, sizeof p->after, "%s", davit_text(e, "id", number));
	if (p->cli->format == DAVIT_FORMAT_JSON) {
		davit_print_line(e);
		return;
	}
	printf("%.23s  %-12s %s%s%s  %s\n", davit_string(e, "time"), davit_string(e, "type"),
	       davit_string(e, "service"), davit_string(e, "instance")[0] ? " " : "",
	       davit_string(e, "instance"), davit_string(e, "cause"));
}

static void target_of(const struct printing *p, struct davit_buf *out)
{
	struct davit_cli *cli = p->cli;
	const char *limit = davit_cli_value(cli, "after") ? davit_cli_value(cli, "lines") : NULL;
	DAVIT_AUTO_BUF service = DAVIT_BUF_INIT;

	davit_buf_reset(out);
	davit_buf_adds(out, "/v1/events");
	if (p->after[0])
		davit_url_query(out, "after", p->after);
	if (davit_cli_flag(cli, "follow") && !p->last)
		davit_url_query(out, "follow", "true");
	if (limit)
		davit_url_query(out, "limit", limit);
	if (davit_cli_arg(cli, 0)) {
		davit_buf_addf(&service, "%s/%s", davit_cli_namespace(cli), davit_cli_arg(cli, 0));
		if (davit_cli_arg(cli, 1))
			davit_buf_addf(&service, ":%s", davit_cli_arg(cli, 1));
		davit_url_query(out, "service", davit_buf_str(&service));
	}
}

static void keep_event(struct printing *p, json_t *e)
{
	if (json_array_size(p->last) == p->most)
		json_array_remove(p->last, 0);
	json_array_append(p->last, e);
}

static int pump(struct printing *p, struct davit_client *stream, struct davit_error *err)
{
	json_t *e;
	int r;

	while ((r = davit_api_next(stream, &e, NULL, err)) > 0) {
		if (p->last)
			keep_event(p, e);
		else
			print_event(p, e);
		json_decref(e);
		if (!davit_client_line_ready(stream))
			fflush(stdout);
		if (ferror(stdout))
			return 0;
	}
	return r;
}

/* The last of those that there are. */
static int print_last(struct printing *p, size_t most, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_client *stream = NULL;
	size_t i;
	json_t *e, *last;
	int r;

	p->most = most;
	p->last = json_array();
	target_of(p, &target);
	r = davit_api_stream(p->cli, davit_buf_str(&target), &stream, err);
	if (r == 0) {
		r = pump(p, stream, err);
		davit_client_close(stream);
	}
	last = p->last;
	p->last = NULL;
	json_array_foreach(last, i, e) print_event(p, e);
	json_decref(last);
	fflush(stdout);
	return r;
}

static int run_events(struct davit_cli *cli, struct davit_error *err)
{
	bool follow = davit_cli_flag(cli, "follow"), opened = false;
	const char *lines = davit_cli_value(cli, "lines");
	struct printing p = {.cli = cli};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_api_pause pause = {0};
	int r;

	if (davit_cli_value(cli, "after"))
		snprintf(p.after, sizeof p.after, "%s", davit_cli_value(cli, "after"));
	r = davit_api_connect(cli, err);
	davit_api_close(cli);
	if (r == 0 && lines && !p.after[0]) {
		r = print_last(&p, strtoul(lines, NULL, 10), err);
		if (!follow)
			return r;
	}
	while (r == 0) {
		struct davit_client *stream = NULL;
		target_of(&p, &target);
		r = davit_api_stream(cli, davit_buf_str(&target), &stream, err);
		if (r == 0) {
			opened = true;
			davit_api_print_stream(stream);
			r = pump(&p, stream, err);
			davit_client_close(stream);
		}
		if (!follow || !opened || !davit_api_is_away(r) || ferror(stdout))
			break;
		davit_error_clear(err);
		davit_api_pause(cli, &pause);
		r = 0;
	}
	return r;
}

static const struct davit_option own[] = {
	{"follow", 'f', NULL, DAVIT_OPTION_FLAG, .doc = "Go on as events come, over restarts of the daemon"},
	{"after", 0, "ID", DAVIT_OPTION_INT, .max = INT64_MAX,
	 .doc = "Only events after the one with this id"},
	{"lines", 'n', "N", DAVIT_OPTION_INT, .min = 1, .max = INT32_MAX,
	 .doc = "The last N events; with --after the first N"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, davit_options_lines, NULL};
static const char *const examples[] = {"davit events",
				       "all that are kept",
				       "davit events -f foobar",
				       "those of one service, as they happen",
				       "davit events -n 20 web",
				       "the last 20 of one service",
				       "davit events --after 1200 -o json",
				       "resume after an id, as JSON lines",
				       NULL};

const struct davit_command davit_command_events = {
	.name = "events",
	.usage = "[NAME [VERSION]]",
	.group = "Looking",
	.summary = "Show what has happened, and who or what caused it",
	.options = options,
	.max_args = 2,
	.complete = "service",
	.run = run_events,
	.examples = examples,
};
