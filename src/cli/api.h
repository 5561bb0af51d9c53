/* SPDX-License-Identifier: MIT
 *
 * The daemon as the commands see it: one call with JSON in and out, streams of
 * JSON lines, and starting the daemon when none runs.
 */
#ifndef DAVIT_CLI_API_H
#define DAVIT_CLI_API_H

#include "cli/cli.h"

struct davit_client;
struct davit_client_request;

/* Connects, starting the daemon first if there is none. Called by what follows;
 * of use alone to know that a daemon runs. Warns once about a daemon of another
 * version. */
int davit_api_connect(struct davit_cli *cli, struct davit_error *err);
/* As above, without starting one: DAVIT_EUNAVAIL. */
int davit_api_connect_running(struct davit_cli *cli, struct davit_error *err);
void davit_api_close(struct davit_cli *cli);

/* One request. body may be NULL (borrowed). On success *ret_answer (unless NULL)
 * is a new reference, or NULL for an empty answer. An error answer of the
 * daemon's comes back as its code, message, where, line and column. */
int davit_api_call(struct davit_cli *cli, const char *method, const char *target, json_t *body,
		   json_t **ret_answer, struct davit_error *err);
/* As above with any body. */
int davit_api_send(struct davit_cli *cli, const char *method, const char *target, const char *type,
		   const void *body, size_t len, json_t **ret_answer, struct davit_error *err);

/* Sends a request on cli->client, connected if need be, and reads the head of the answer. The kernel takes
 * connections for a daemon that was just killed until all of its threads are gone: a request that none
 * has read goes to the next one, for a second at most; one with a body that is produced does not. */
int davit_api_request(struct davit_cli *cli, const struct davit_client_request *request, int *ret_status,
		      struct davit_error *err);

/* Turns {"error": {...}} into *err: its code, or 0 when the answer has no error. */
int davit_api_error(const json_t *answer, struct davit_error *err);

/* Reads the rest of an answer that is not what was wanted, and returns it as an
 * error. For those who use cli->client directly. */
int davit_api_refusal(struct davit_cli *cli, int status, struct davit_error *err);

/* Opens a stream on a connection of its own, which the caller closes with
 * davit_client_close, and reads with davit_api_next. */
int davit_api_stream(struct davit_cli *cli, const char *target, struct davit_client **ret,
		     struct davit_error *err);
/* For a stream that is printed as it comes: when nobody reads standard output any more,
 * davit_api_next ends the program by SIGPIPE instead of waiting for the next line, as the
 * write of that would. */
void davit_api_print_stream(struct davit_client *c);
/* The next line as JSON (a new reference) and as text (borrowed, may be NULL):
 * 1, 0 at the end, or a code. */
int davit_api_next(struct davit_client *c, json_t **ret, const char **ret_text, struct davit_error *err);

/* Does this code mean that the daemon is away for a moment (restarted, upgraded)
 * and the same request may succeed soon? */
bool davit_api_is_away(int code);
/* Sleeps a little, longer each time: 20 ms, 40 ms, ... 1 s. Start with {0}. A daemon that was killed, and for
 * 2 s was not started by anybody else, is started, unless cli is NULL: who waits for what it looks after
 * would wait for ever. One that was stopped on purpose is left so. */
struct davit_api_pause {
	int64_t ns;
	int64_t waited; /* since it was {0}, or since the last start */
};
void davit_api_pause(struct davit_cli *cli, struct davit_api_pause *p);

/* "/v1/services/NS/NAME/VERSION" + suffix, for the arguments NAME [VERSION] at
 * position `at` of the command line; no version: "-". */
void davit_api_service(struct davit_cli *cli, size_t at, const char *suffix, struct davit_buf *out);
/* The same from its three parts. */
void davit_api_service_of(const char *namespace_, const char *name, const char *version, const char *suffix,
			  struct davit_buf *out);

/* start.c: starts davitd from paths->libexec, detached, its output in
 * paths->log/davitd.log, and waits until its socket answers or the deadline
 * (10 s) passes. Two callers at once both succeed: the daemon's lock lets one
 * win. On failure the message ends with the last line of the log. */
int davit_daemon_start(const struct davit_paths *paths, struct davit_error *err);

#endif
