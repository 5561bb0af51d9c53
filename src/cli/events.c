/* SPDX-License-Identifier: MIT
 *
 * davit events.
 */
#include "cli/api.h"
#include "cli/output.h"
#include "net/client.h"
#include "net/url.h"

#include <string.h>

struct printing {
	struct davit_cli *cli;
	char after[24]; /* id of the last event, or what --after said */
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
	const char *limit = davit_cli_value(cli, "lines");
	DAVIT_AUTO_BUF service = DAVIT_BUF_INIT;

	davit_buf_reset(out);
	davit_buf_adds(out, "/v1/events");
	if (p->after[0])
		davit_url_query(out, "after", p->after);
	if (davit_cli_flag(cli, "follow"))
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

static int pump(struct printing *p, struct davit_client *stream, struct davit_error *err)
{
	json_t *e;
	int r;

	while ((r = davit_api_next(stream, &e, NULL, err)) > 0) {
		print_event(p, e);
		json_decref(e);
		if (!davit_client_line_ready(stream))
			fflush(stdout);
	}
	return r;
}

static int run_events(struct davit_cli *cli, struct davit_error *err)
{
	bool follow = davit_cli_flag(cli, "follow"), opened = false;
	struct printing p = {.cli = cli};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_api_pause pause = {0};
	int r;

	if (davit_cli_value(cli, "after"))
		snprintf(p.after, sizeof p.after, "%s", davit_cli_value(cli, "after"));
	r = davit_api_connect(cli, err);
	davit_api_close(cli);
	while (r == 0) {
		struct davit_client *stream = NULL;
		target_of(&p, &target);
		r = davit_api_stream(cli, davit_buf_str(&target), &stream, err);
		if (r == 0) {
			opened = true;
			r = pump(&p, stream, err);
			davit_client_close(stream);
		}
		if (!follow || !opened || !davit_api_is_away(r))
			break;
		davit_error_clear(err);
		davit_api_pause(&pause);
		r = 0;
	}
	return r;
}

static const struct davit_option own[] = {
	{"follow", 'f', NULL, DAVIT_OPTION_FLAG, .doc = "Go on as events come, over restarts of the daemon"},
	{"after", 0, "ID", DAVIT_OPTION_INT, .max = INT64_MAX,
	 .doc = "Only events after the one with this id"},
	{"lines", 'n', "N", DAVIT_OPTION_INT, .min = 1, .max = INT32_MAX, .doc = "At most N events"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, davit_options_lines, NULL};
static const char *const examples[] = {"davit events",
				       "all that are kept",
				       "davit events -f foobar",
				       "those of one service, as they happen",
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
