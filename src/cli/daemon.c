/* SPDX-License-Identifier: MIT
 *
 * davit daemon, davit version.
 */
#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "cli/spec_options.h"
#include "net/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How long the daemon may take to be gone (or back) once it has agreed. */
#define STOP_DEADLINE (30 * DAVIT_NSEC_PER_SEC)
#define STOP_TRIES 3
#define EXIT_TIME 10000 /* ms, from there until its process has ended */

/* ----------------------------------------------------------------------- daemon */

static int print_done(const struct davit_cli *cli, const char *status, struct davit_error *err)
{
	json_t *v;
	int r = 0;

	if (cli->format == DAVIT_FORMAT_TEXT) {
		printf("the daemon is %s\n", status);
		return 0;
	}
	v = json_pack("{s:s}", "status", status);
	r = davit_print_value(cli, v, err);
	json_decref(v);
	return r;
}

static int print_health(const struct davit_cli *cli, json_t *v, struct davit_error *err)
{
	static const char *const keys[] = {"pid",    "version",	 "started",   "home",
					   "socket", "services", "instances", "builds"};
	json_t *store = json_object_get(v, "store");
	char buf[24], age[DAVIT_AGE_MAX + 8];

	if (cli->format != DAVIT_FORMAT_TEXT)
		return davit_print_value(cli, v, err);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(keys); i++) {
		const char *text = davit_text(v, keys[i], buf);
		printf("%-10s %s\n", keys[i],
		       !strcmp(keys[i], "started") ? davit_time_text(cli, text, age) : text);
	}
	printf("%-10s %s, %s%s%s\n", "store", davit_string(store, "name"),
	       json_is_true(json_object_get(store, "healthy")) ? "healthy" : "failing",
	       davit_string(store, "error")[0] ? ": " : "", davit_string(store, "error"));
	return 0;
}

static int status(struct davit_cli *cli, struct davit_error *err)
{
	json_t *answer = NULL;
	int r = davit_api_connect_running(cli, err);

	if (r == DAVIT_EUNAVAIL)
		return davit_error_set(err, DAVIT_EUNAVAIL, NULL,
				       "no daemon runs (%s); 'davit daemon start' starts it",
				       cli->paths.socket);
	if (r == 0)
		r = davit_api_call(cli, "GET", "/v1/daemon", NULL, &answer, err);
	if (r == 0)
		r = print_health(cli, answer, err);
	json_decref(answer);
	return r;
}

static int start(struct davit_cli *cli, struct davit_error *err)
{
	json_t *answer = NULL;
	int r = davit_api_connect(cli, err);

	if (r == 0)
		r = davit_api_call(cli, "GET", "/v1/daemon", NULL, &answer, err);
	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else if (r == 0)
		printf("the daemon runs, pid %d\n", (int)davit_integer(answer, "pid"));
	json_decref(answer);
	return r;
}

/* Until nothing listens on the socket (gone), or something does. */
static int wait_until(struct davit_cli *cli, bool gone, struct davit_error *err)
{
	struct davit_api_pause pause = {0};
	int64_t started = davit_monotonic();

	while (davit_monotonic() < started + STOP_DEADLINE) {
		int r = davit_api_connect_running(cli, err);
		davit_api_close(cli);
		davit_error_clear(err);
		if ((r == DAVIT_EUNAVAIL) == gone)
			return 0;
		davit_api_pause(NULL, &pause);
	}
	return davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "the daemon is still %s after %d s",
			       gone ? "there" : "away",
			       (int)((davit_monotonic() - started) / DAVIT_NSEC_PER_SEC));
}

/* A pidfd of the daemon on the other side, or -1: one that is elsewhere, or that another listens for, is not
 * to be seen from here. */
static int open_daemon(struct davit_cli *cli)
{
	json_t *answer = NULL;
	struct ucred peer = {0};
	socklen_t n = sizeof peer;
	int64_t pid = 0;

	if (davit_api_call(cli, "GET", "/v1/daemon", NULL, &answer, NULL) == 0)
		pid = davit_integer(answer, "pid");
	json_decref(answer);
	if (pid <= 0 || !cli->client ||
	    getsockopt(davit_client_fd(cli->client), SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 ||
	    peer.pid != pid)
		return -1;
	return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

static int ask_to_stop(struct davit_cli *cli, bool all, int *ret_daemon, struct davit_error *err)
{
	json_t *body = json_pack("{s:b}", "all", all);
	int r = davit_api_connect_running(cli, err);

	/* To end what a dead daemon has left running, one is needed. */
	if (r == DAVIT_EUNAVAIL && all) {
		davit_error_clear(err);
		r = davit_api_connect(cli, err);
	}
	if (r == 0) {
		if (*ret_daemon >= 0)
			close(*ret_daemon);
		*ret_daemon = open_daemon(cli);
		r = davit_api_call(cli, "POST", "/v1/daemon/stop", body, NULL, err);
	}
	json_decref(body);
	davit_api_close(cli);
	return r;
}

static int stop(struct davit_cli *cli, struct davit_error *err)
{
	bool all = davit_cli_flag(cli, "all");
	DAVIT_AUTO_CLOSE int daemon = -1;
	int r = ask_to_stop(cli, all, &daemon, err);

	/* One that has gone without an answer, because it could not even begin, has ended no workload. */
	for (int tries = 1; all && r == DAVIT_ECLOSED && tries < STOP_TRIES; tries++) {
		davit_error_clear(err);
		r = wait_until(cli, true, err);
		if (r == 0)
			r = ask_to_stop(cli, all, &daemon, err);
	}
	if (r == DAVIT_EUNAVAIL && !all) {
		davit_error_clear(err);
		return print_done(cli, "not running", err);
	}
	if (r < 0 && (all || r != DAVIT_ECLOSED))
		return r;
	davit_error_clear(err);
	r = wait_until(cli, true, err);
	/* It may still have files open: who removes them next is not to find them in use. */
	if (r == 0 && daemon >= 0)
		DAVIT_EINTR(poll(&(struct pollfd){.fd = daemon, .events = POLLIN}, 1, EXIT_TIME));
	return r < 0 ? r
		     : print_done(cli, all ? "stopped, with all workloads" : "stopped; workloads go on", err);
}

static int upgrade(struct davit_cli *cli, struct davit_error *err)
{
	const char *program = davit_cli_arg(cli, 1);
	DAVIT_AUTO_FREE char *path = NULL;
	DAVIT_AUTO_CLOSE int daemon = -1;
	json_t *body = json_object(), *answer = NULL;
	int r = program ? davit_absolute(program, true, &path, err) : 0;

	if (r == 0 && path)
		json_object_set_new(body, "program", json_string(path));
	if (r == 0)
		r = davit_api_connect_running(cli, err);
	if (r == 0) {
		daemon = open_daemon(cli);
		r = davit_api_call(cli, "POST", "/v1/daemon/upgrade", body, NULL, err);
	}
	json_decref(body);
	davit_api_close(cli);
	if (r < 0 && r != DAVIT_ECLOSED)
		return r;
	davit_error_clear(err);
	r = wait_until(cli, false, err);
	if (r == 0)
		r = davit_api_call(cli, "GET", "/v1/version", NULL, &answer, err);
	/* The successor is the same process; where that has ended, the question has started another. */
	if (r == 0 && daemon >= 0 && poll(&(struct pollfd){.fd = daemon, .events = POLLIN}, 1, 0) > 0)
		r = davit_error_set(
			err, DAVIT_EUNAVAIL, NULL,
			"the new daemon ended at once (see %s/davitd.log); the one of %s runs, pid %d",
			cli->paths.log, cli->paths.libexec, (int)davit_integer(answer, "pid"));
	else if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else if (r == 0)
		printf("the daemon runs version %s, pid %d\n", davit_string(answer, "version"),
		       (int)davit_integer(answer, "pid"));
	json_decref(answer);
	return r;
}

static int run_daemon(struct davit_cli *cli, struct davit_error *err)
{
	static const struct {
		const char *verb;
		int (*run)(struct davit_cli *cli, struct davit_error *err);
		unsigned max_args;
	} verbs[] = {{"status", status, 1}, {"start", start, 1}, {"stop", stop, 1}, {"upgrade", upgrade, 2}};
	const char *verb = davit_cli_arg(cli, 0) ? davit_cli_arg(cli, 0) : "status";

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].verb, verb) != 0)
			continue;
		if (cli->n_args > verbs[i].max_args)
			return davit_cli_usage(cli, err, "'daemon %s' does not take the argument '%.64s'",
					       verb, cli->args[verbs[i].max_args]);
		if (davit_cli_flag(cli, "all") && verbs[i].run != stop)
			return davit_cli_usage(cli, err, "--all goes with 'daemon stop' only");
		return verbs[i].run(cli, err);
	}
	return davit_cli_usage(cli, err, "'daemon' knows status, start, stop and upgrade, not '%.64s'", verb);
}

/* ---------------------------------------------------------------------- version */

static int run_version(struct davit_cli *cli, struct davit_error *err)
{
	json_t *v = json_pack("{s:s}", "version", DAVIT_VERSION), *daemon = NULL;
	int r = davit_api_connect_running(cli, err);

	if (r == 0)
		davit_api_call(cli, "GET", "/v1/version", NULL, &daemon, err);
	davit_error_clear(err); /* no daemon: there is nothing to tell of it */
	json_object_set_new(v, "daemon", daemon ? json_incref(daemon) : json_null());
	if (cli->format != DAVIT_FORMAT_TEXT) {
		r = davit_print_value(cli, v, err);
	} else {
		r = 0;
		printf("davit %s\n", DAVIT_VERSION);
		if (daemon)
			printf("daemon %s, pid %d\n", davit_string(daemon, "version"),
			       (int)davit_integer(daemon, "pid"));
	}
	json_decref(daemon);
	json_decref(v);
	return r;
}

static const struct davit_option own[] = {
	{"all", 0, NULL, DAVIT_OPTION_FLAG, .doc = "With stop: end every workload and the keeper too"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_data, NULL};
static const struct davit_option *const version_options[] = {davit_options_data, NULL};
static const char *const examples[] = {"davit daemon status -o json",
				       "pid, version, home, store, counts",
				       "davit daemon stop",
				       "end the daemon; workloads go on and are adopted by the next",
				       "davit daemon stop --all",
				       "end the workloads and the keeper as well",
				       "davit daemon upgrade ./davitd",
				       "execute another build in place, workloads untouched",
				       NULL};
static const char *const version_examples[] = {"davit version",
					       "of this program and of the daemon, if one runs", NULL};

const struct davit_command davit_command_daemon = {
	.name = "daemon",
	.usage = "[status|start|stop|upgrade [PROGRAM]]",
	.group = "System",
	.summary = "Look at, start, stop or upgrade the daemon",
	.details = "Other commands start the daemon when none runs; status and stop do not.",
	.options = options,
	.max_args = 2,
	.complete = "status|start|stop|upgrade",
	.run = run_daemon,
	.examples = examples,
};

const struct davit_command davit_command_version = {
	.name = "version",
	.usage = "",
	.group = "System",
	.summary = "Show the versions of this program and of the daemon",
	.options = version_options,
	.run = run_version,
	.examples = version_examples,
};
