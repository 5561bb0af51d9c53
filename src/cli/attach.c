/* SPDX-License-Identifier: MIT */
#include "cli/attach.h"

#include "base/units.h"
#include "cli/api.h"
#include "cli/follow.h"
#include "cli/logs.h"
#include "cli/output.h"
#include "net/client.h"
#include "net/url.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

struct attached {
	struct davit_cli *cli;
	json_t *ref; /* borrowed */
	const char *condition;
	int64_t deadline;		   /* monotonic, 0: none */
	json_t *service;		   /* the newest status object, or NULL */
	struct davit_log_printer *printer; /* NULL: output is not wanted */
	char since[DAVIT_TIME_MAX];
	struct davit_client *watch, *logs; /* open, or NULL */
};

/* Has what we wait for happened? 1 yes, 0 no, or a code. */
static int reached(struct attached *a, bool gone, struct davit_error *err)
{
	const char *name = davit_string(a->ref, "name");

	if (gone && !strcmp(a->condition, "gone"))
		return 1;
	if (gone)
		return davit_error_set(err, DAVIT_ENOENT, NULL, "service '%s' was removed meanwhile", name);
	if (!strcmp(a->condition, "ended"))
		return davit_service_ended(a->service);
	if (!strcmp(a->condition, "gone"))
		return 0;
	if (!strcmp(davit_string(a->service, "status"), "error"))
		return davit_error_set(err, DAVIT_ESTATE, NULL, "service '%s' failed: %s", name,
				       davit_string(a->service, "error"));
	return !strcmp(davit_string(a->service, "status"), "running") &&
	       davit_service_ready(a->service) >= davit_service_wanted(a->service);
}

static int take_change(struct attached *a, json_t *line, struct davit_error *err)
{
	const char *type = davit_string(line, "type");
	json_t *s = json_object_get(line, "service");

	if (!strcmp(type, "sync"))
		return a->service ? 0 : reached(a, true, err); /* it was gone before we came (again) */
	if (!s || davit_service_compare(s, a->ref) != 0)
		return 0;
	json_decref(a->service);
	a->service = json_incref(s);
	return reached(a, !strcmp(type, "gone"), err);
}

static int open_watch(struct attached *a, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

	json_decref(a->service);
	a->service = NULL;
	davit_buf_adds(&target, "/v1/watch");
	davit_url_query(&target, "namespace", davit_string(a->ref, "namespace"));
	davit_url_query(&target, "name", davit_string(a->ref, "name"));
	davit_url_query(&target, "version", davit_string(a->ref, "version"));
	return davit_api_stream(a->cli, davit_buf_str(&target), &a->watch, err);
}

static int open_logs(struct attached *a, bool follow, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

	davit_api_service_of(davit_string(a->ref, "namespace"), davit_string(a->ref, "name"),
			     davit_string(a->ref, "version"), "/logs", &target);
	if (!davit_log_resume(a->printer, &target))
		davit_url_query(&target, "since", a->since);
	if (follow)
		davit_url_query(&target, "follow", "true");
	return davit_api_stream(a->cli, davit_buf_str(&target), &a->logs, err);
}

static void close_streams(struct attached *a)
{
	davit_client_close(a->watch);
	davit_client_close(a->logs);
	a->watch = a->logs = NULL;
}

/* The next line of a stream that has something to read. */
static int read_one(struct attached *a, struct davit_client *stream, struct davit_error *err)
{
	json_t *line;
	int r = davit_api_next(stream, &line, NULL, err);

	if (r <= 0)
		return r < 0 ? r
			     : davit_error_set(err, DAVIT_ECLOSED, NULL, "the daemon has ended the stream");
	r = 0;
	if (stream == a->watch) {
		r = take_change(a, line, err);
	} else {
		davit_log_print(a->printer, line);
		fflush(stdout);
	}
	json_decref(line);
	return r;
}

static int64_t time_left(const struct attached *a)
{
	return a->deadline ? a->deadline - davit_monotonic() : INT64_MAX;
}

static int too_late(const struct attached *a, struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "service '%s' is not %s in time (%s%s)",
			       davit_string(a->ref, "name"), a->condition,
			       a->service ? "status " : "no daemon runs",
			       a->service ? davit_string(a->service, "status") : "");
}

/* One turn: waits for either stream. 1 reached, 0 go on, or a code. */
static int turn(struct attached *a, struct davit_error *err)
{
	struct pollfd fds[2] = {{.fd = davit_client_fd(a->watch), .events = POLLIN},
				{.fd = a->logs ? davit_client_fd(a->logs) : -1, .events = POLLIN}};
	int64_t left = time_left(a);
	int wait = a->deadline ? (int)(left / DAVIT_NSEC_PER_MSEC) + 1 : -1, n;

	if (left <= 0)
		return too_late(a, err);
	if (a->logs && davit_client_line_ready(a->logs))
		return read_one(a, a->logs, err);
	if (davit_client_line_ready(a->watch))
		return read_one(a, a->watch, err);
	n = poll(fds, 2, wait);
	if (n < 0 && errno != EINTR)
		return davit_error_errno(err, errno, NULL, "cannot wait for the daemon");
	if (n > 0 && fds[1].revents)
		return read_one(a, a->logs, err);
	return n > 0 && fds[0].revents ? read_one(a, a->watch, err) : 0;
}

/* What was written before the end and has not been shown. */
static int drain_logs(struct attached *a, struct davit_error *err)
{
	json_t *line;
	int r = open_logs(a, false, err);

	while (r >= 0 && (r = davit_api_next(a->logs, &line, NULL, err)) > 0) {
		davit_log_print(a->printer, line);
		json_decref(line);
	}
	fflush(stdout); /* what is said of the end comes after it */
	return r;
}

static int until(struct attached *a, struct davit_error *err)
{
	struct davit_api_pause pause = {0};
	bool opened = false;
	int r;

	for (;;) {
		r = open_watch(a, err);
		if (r == 0 && a->printer)
			r = open_logs(a, true, err);
		if (r == 0) {
			opened = true;
			pause = (struct davit_api_pause){0};
			while ((r = turn(a, err)) == 0)
				;
		}
		close_streams(a);
		if (r > 0 || !opened || !davit_api_is_away(r))
			break;
		davit_error_clear(err);
		if (time_left(a) <= 0) {
			r = too_late(a, err);
			break;
		}
		davit_api_pause(a->cli, &pause);
	}
	if (r > 0 && a->printer)
		r = drain_logs(a, err);
	close_streams(a);
	return r < 0 ? r : 0;
}

int davit_wait_for(struct davit_cli *cli, json_t *ref, const char *condition, int64_t timeout_ns,
		   json_t **ret_service, struct davit_error *err)
{
	struct attached a = {.cli = cli, .ref = ref, .condition = condition};
	int r;

	a.deadline = timeout_ns ? davit_monotonic() + timeout_ns : 0;
	r = until(&a, err);
	if (r < 0)
		json_decref(a.service);
	else
		*ret_service = a.service;
	return r;
}

int davit_attach(struct davit_cli *cli, json_t *ref, struct davit_error *err)
{
	struct davit_log_printer printer = {
		.cli = cli,
		.name = davit_string(ref, "name"),
		.json = cli->format == DAVIT_FORMAT_JSON,
		.split = true,
		.last_index = -1,
	};
	struct attached a = {.cli = cli, .ref = ref, .condition = "ended", .printer = &printer};
	int r;

	davit_time_format(cli->started, a.since);
	r = until(&a, err);
	davit_log_printer_fini(&printer);
	if (r == 0)
		r = davit_service_exit(a.service);
	if (r == 0 || !a.service || strcmp(davit_string(a.service, "status"), "error") != 0) {
		json_decref(a.service);
		return r;
	}
	fprintf(stderr, "davit: service '%s' failed: %s\n", printer.name, davit_string(a.service, "error"));
	json_decref(a.service);
	return r;
}
