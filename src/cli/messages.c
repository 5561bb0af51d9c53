/* SPDX-License-Identifier: MIT
 *
 * davit send, request, command: messages to containers.
 */
#include "base/file.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/containers.h"
#include "cli/output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_MAX = 3 * 1024 * 1024 }; /* a request's body has an end */

/* The argument, or with "-" what is on standard input. */
static int text_of(struct davit_cli *cli, size_t at, struct davit_buf *out, struct davit_error *err)
{
	const char *given = davit_cli_arg(cli, at);
	ssize_t n = 1;

	if (!given || strcmp(given, "-") != 0) {
		davit_buf_adds(out, given ? given : "");
		return 0;
	}
	while (n > 0 && out->len <= TEXT_MAX && davit_buf_reserve(out, 65536) == 0) {
		n = DAVIT_EINTR(read(STDIN_FILENO, out->data + out->len, 65536));
		out->len += n > 0 ? (size_t)n : 0;
	}
	if (out->oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (n < 0)
		return davit_error_set(err, DAVIT_EIO, NULL, "cannot read standard input");
	if (out->len > TEXT_MAX)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "a message is at most %d bytes", TEXT_MAX);
	if (memchr(out->data, 0, out->len))
		return davit_cli_usage(cli, err, "a message from here must be UTF-8 text without NUL");
	davit_buf_adds(out, "");
	return 0;
}

static void put_number(const struct davit_cli *cli, const char *option, json_t *body)
{
	const char *v = davit_cli_value(cli, option);
	int64_t n;

	if (v && davit_int_parse(v, INT64_MIN, INT64_MAX, &n, NULL) == 0)
		json_object_set_new(body, option, json_integer(n));
}

static int post(struct davit_cli *cli, json_t *body, json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	int r;

	if (!body)
		return davit_cli_usage(cli, err, "a message from here must be UTF-8 text without NUL");
	davit_container_target(cli, cli->args[0], cli->command->name, &target);
	r = davit_api_call(cli, "POST", davit_buf_str(&target), body, ret, err);
	json_decref(body);
	return r;
}

/* What send and request have in common: the text and the type. *ret is NULL where it is not UTF-8. */
static int body_of(struct davit_cli *cli, json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	int r = text_of(cli, 1, &text, err);

	if (r < 0)
		return r;
	*ret = json_pack("{s:s%}", "text", davit_buf_str(&text), text.len);
	if (*ret)
		put_number(cli, "type", *ret);
	return 0;
}

static int run_send(struct davit_cli *cli, struct davit_error *err)
{
	json_t *body, *answer = NULL;
	int r = body_of(cli, &body, err);

	if (r < 0)
		return r;
	r = post(cli, body, &answer, err);
	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	json_decref(answer);
	return r;
}

static void put_patience(const struct davit_cli *cli, json_t *body)
{
	int64_t timeout = davit_cli_duration(cli, "timeout", 0);

	if (davit_cli_value(cli, "timeout"))
		json_object_set_new(body, "timeout", json_integer(timeout ? timeout : -1));
	put_number(cli, "retries", body);
}

static int print_answer(struct davit_cli *cli, json_t *answer, struct davit_error *err)
{
	json_t *hex = json_object_get(answer, "hex");

	return davit_container_done(cli, answer, hex ? json_string_value(hex) : davit_string(answer, "text"),
				    err);
}

static int run_request(struct davit_cli *cli, struct davit_error *err)
{
	json_t *body, *answer = NULL;
	int r = body_of(cli, &body, err);

	if (r < 0)
		return r;
	if (body)
		put_patience(cli, body);
	r = post(cli, body, &answer, err);
	return r < 0 ? r : print_answer(cli, answer, err);
}

static int run_command(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *body, *answer = NULL;
	int r = text_of(cli, 2, &text, err);

	if (r < 0)
		return r;
	body = json_pack("{s:s, s:s%}", "name", cli->args[1], "parameters", davit_buf_str(&text), text.len);
	if (body)
		put_patience(cli, body);
	r = post(cli, body, &answer, err);
	return r < 0 ? r : print_answer(cli, answer, err);
}

#define TYPE                                                                                                 \
	{                                                                                                    \
		"type", 0, "N", DAVIT_OPTION_INT, .max = 0xfffffeff,                                         \
						  .doc = "Type of the message (default: 0)"                  \
	}
#define PATIENCE                                                                                             \
	{"timeout", 0, "DURATION", DAVIT_OPTION_DURATION,                                                    \
	 .doc = "For each try (default: 10s; 0: no limit)"},                                                 \
	{                                                                                                    \
		"retries", 0, "N", DAVIT_OPTION_INT,                                                         \
			.max = 1000, .doc = "Send it again so often; it is handled once all the same"        \
	}
static const struct davit_option send_own[] = {TYPE, {0}};
static const struct davit_option request_own[] = {TYPE, PATIENCE, {0}};
static const struct davit_option command_own[] = {PATIENCE, {0}};
static const struct davit_option *const send_options[] = {send_own, davit_options_project, davit_options_data,
							  NULL};
static const struct davit_option *const request_options[] = {request_own, davit_options_project,
							     davit_options_data, NULL};
static const struct davit_option *const command_options[] = {command_own, davit_options_project,
							     davit_options_data, NULL};
static const char *const send_examples[] = {"davit send T1 '{\"n\": 1}'", "and wait for nothing",
					    "date | davit send T1 -", "what is on standard input", NULL};
static const char *const request_examples[] = {"davit request T1 '{\"n\": 1}'", "print its answer",
					       "davit request Main/A/B --timeout 1s --retries 3",
					       "by its path; at most 4 s", NULL};
static const char *const command_examples[] = {"davit command T1 resize '{\"to\": 8}'",
					       "a command that its definition names", NULL};

const struct davit_command davit_command_send = {
	.name = "send",
	.usage = "ALIAS [TEXT|-]",
	.group = "Containers",
	.summary = "Send a message to a container",
	.options = send_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "container",
	.run = run_send,
	.examples = send_examples,
};

const struct davit_command davit_command_request = {
	.name = "request",
	.usage = "ALIAS [TEXT|-]",
	.group = "Containers",
	.summary = "Send a request to a container and print its answer",
	.options = request_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "container",
	.run = run_request,
	.examples = request_examples,
};

const struct davit_command davit_command_command = {
	.name = "command",
	.usage = "ALIAS COMMAND [PARAMETERS|-]",
	.group = "Containers",
	.summary = "Run a command of a container and print what it returns",
	.options = command_options,
	.min_args = 2,
	.max_args = 3,
	.complete = "container",
	.run = run_command,
	.examples = command_examples,
};
