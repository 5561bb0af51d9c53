/* SPDX-License-Identifier: MIT
 *
 * Following a run. It goes on whatever becomes of us and of the daemon; only what the user asks for ends it.
 */
#include "cli/api.h"
#include "cli/output.h"
#include "cli/run_view.h"
#include "net/client.h"
#include "net/url.h"

#include "base/units.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

enum { TRIES = 12 }; /* some seconds */

struct following {
	struct davit_cli *cli;
	const char *id;
	struct run_view *view;
	struct davit_client *stream;
	bool to_the_end, may_abort, detached;
	int signals, asked; /* how often the user has asked for the end */
	int64_t after;
	int status;
};

enum run_view_kind davit_run_view_kind(const struct davit_cli *cli)
{
	return cli->format == DAVIT_FORMAT_JSON ? RUN_VIEW_JSON : cli->tty ? RUN_VIEW_TREE : RUN_VIEW_LINES;
}

static int status_of(const char *outcome)
{
	static const char *const outcomes[] = {"succeeded", "failed", "errored", "aborted"};

	for (int i = 0; i < (int)DAVIT_ARRAY_SIZE(outcomes); i++)
		if (!strcmp(outcome, outcomes[i]))
			return i;
	return -1;
}

static void ask_for_end(struct following *f)
{
	struct davit_error err = {0};
	char target[64];
	json_t *body;

	f->asked++;
	snprintf(target, sizeof target, "/v1/runs/%s/abort", f->id);
	body = json_pack("{s:b}", "force", f->asked > 1);
	run_view_say(f->view,
		     f->asked > 1
			     ? "aborting at once"
			     : "aborting; its steps have a moment to end by themselves (once more: none)");
	if (davit_api_call(f->cli, "POST", target, body, NULL, &err) < 0 && err.code != DAVIT_ESTATE)
		run_view_say(f->view, err.message);
	davit_api_close(f->cli);
	json_decref(body);
}

static void take_signal(struct following *f)
{
	struct signalfd_siginfo info;

	if (read(f->signals, &info, sizeof info) != (ssize_t)sizeof info)
		return;
	if (f->may_abort && info.ssi_signo != SIGHUP)
		ask_for_end(f);
	else
		f->detached = true;
}

/* 1: an event; 0: the end of the stream; or a code. */
static int take_event(struct following *f, struct davit_error *err)
{
	json_t *e = NULL;
	int r = davit_api_next(f->stream, &e, NULL, err);

	if (r <= 0)
		return r;
	f->after = davit_integer(e, "id");
	run_view_event(f->view, e);
	if (!strcmp(davit_string(e, "event"), "end"))
		f->status = status_of(davit_string(e, "outcome"));
	json_decref(e);
	return 1;
}

/* Until the stream ends, or the user has had enough. */
static int pump(struct following *f, struct davit_error *err)
{
	for (;;) {
		struct pollfd fds[] = {{davit_client_fd(f->stream), POLLIN, 0}, {f->signals, POLLIN, 0}};
		bool ready = davit_client_line_ready(f->stream);
		int r;

		if (!ready)
			run_view_draw(f->view);
		if (poll(fds, 2, ready ? 0 : 100) < 0 && errno != EINTR)
			return davit_error_errno(err, errno, NULL, "cannot wait for events");
		if (fds[1].revents)
			take_signal(f);
		if (f->detached)
			return 0;
		if (!ready && !fds[0].revents)
			continue;
		r = take_event(f, err);
		if (r <= 0)
			return r;
	}
}

static int follow(struct following *f, struct davit_error *err)
{
	struct davit_api_pause pause = {0};
	int r = 0;

	while (r == 0 && f->status < 0 && !f->detached) {
		char target[96];

		snprintf(target, sizeof target, "/v1/runs/%s/events?after=%lld%s", f->id, (long long)f->after,
			 f->to_the_end ? "&follow=true" : "");
		r = davit_api_connect(f->cli, err);
		davit_api_close(f->cli);
		if (r == 0)
			r = davit_api_stream(f->cli, target, &f->stream, err);
		if (r == 0)
			r = pump(f, err);
		davit_client_close(f->stream);
		f->stream = NULL;
		if (!f->to_the_end)
			break;
		if (r < 0 && !davit_api_is_away(r))
			break;
		if (f->status < 0 && !f->detached) { /* the daemon is away for a moment */
			davit_error_clear(err);
			davit_api_pause(f->cli, &pause);
			r = 0;
		}
	}
	return r;
}

static int watch_signals(struct following *f, sigset_t *before, struct davit_error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, before);
	f->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return f->signals < 0 ? davit_error_errno(err, errno, NULL, "cannot watch for signals") : 0;
}

/* A daemon that is just being replaced is waited for. */
static int get_run(struct davit_cli *cli, const char *id, json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_api_pause pause = {0};
	int r;

	davit_buf_adds(&target, "/v1/runs/");
	davit_url_escape(&target, id);
	for (int tries = 0;; tries++) {
		r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, ret, err);
		if (r == 0 || !davit_api_is_away(r) || tries == TRIES)
			return r;
		davit_error_clear(err);
		davit_api_pause(cli, &pause);
	}
}

int davit_run_follow(struct davit_cli *cli, const char *id, enum run_view_kind kind, const char *step,
		     bool to_the_end, bool may_abort, int *ret_status, struct davit_error *err)
{
	struct following f = {
		.cli = cli, .to_the_end = to_the_end, .may_abort = may_abort, .signals = -1, .status = -1};
	json_t *run = NULL;
	sigset_t before;
	int r = get_run(cli, id, &run, err);

	if (r < 0)
		return r;
	f.id = davit_string(run, "id");
	r = run_view_new(cli, kind, json_object_get(run, "plan"), step, &f.view, err);
	if (r == 0)
		r = watch_signals(&f, &before, err);
	if (r == 0) {
		r = follow(&f, err);
		sigprocmask(SIG_SETMASK, &before, NULL);
	}
	if (r == 0)
		run_view_end(f.view);
	if (r == 0 && f.detached)
		run_view_say(f.view, "the run goes on");
	run_view_free(f.view);
	if (f.signals >= 0)
		close(f.signals);
	json_decref(run);
	if (r == 0)
		*ret_status = f.status;
	return r;
}
