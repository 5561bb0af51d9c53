/* SPDX-License-Identifier: MIT */
#include "cli/api.h"

#include "base/file.h"
#include "base/units.h"
#include "net/client.h"
#include "net/url.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE (5 * DAVIT_NSEC_PER_SEC)
#define LAST_PATIENCE (60 * DAVIT_NSEC_PER_SEC)
#define FIRST_PAUSE (20 * DAVIT_NSEC_PER_MSEC)
#define LONGEST_PAUSE DAVIT_NSEC_PER_SEC
#define START_PATIENCE (2 * DAVIT_NSEC_PER_SEC) /* a service manager is faster */
#define BODY_MAX (256u * 1024 * 1024)

static void warn_other_version(struct davit_cli *cli)
{
	const char *v = davit_client_header(cli->client, "Davit-Version");
	static bool warned;

	if (!v || warned || !strcmp(v, DAVIT_VERSION))
		return;
	warned = true;
	fprintf(stderr,
		"davit: warning: the daemon is version %s, this is %s; 'davit daemon upgrade' replaces it\n",
		v, DAVIT_VERSION);
}

/* The state letter of a process, as in proc(5), or 0. */
static char state_of(pid_t pid)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char path[32];
	const char *end;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if (davit_read_file(path, 4096, &text, NULL) < 0)
		return 0;
	end = strrchr(davit_buf_str(&text), ')');
	return end && end[1] ? end[2] : 0;
}

/* An answer is long in coming. That may be right; but a daemon that is stopped gives none, and one
 * that hangs does not even tell about itself. */
static int lives(struct davit_client *c, void *user, struct davit_error *err)
{
	const struct davit_client_request request = {.target = "/v1/daemon"};
	struct davit_cli *cli = user;
	struct davit_client *other = NULL;
	struct ucred peer = {0};
	socklen_t n = sizeof peer;
	int status, r;

	if (getsockopt(davit_client_fd(c), SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.pid > 0 &&
	    state_of(peer.pid) == 'T')
		return davit_error_set(
			err, DAVIT_ETIMEDOUT, NULL,
			"the daemon (pid %d) is stopped by a signal; 'kill -CONT %d' lets it go on", peer.pid,
			peer.pid);
	/* When there is none any more, this connection is closed as well. */
	if (davit_client_open(cli->paths.socket, &other, NULL) < 0)
		return 0;
	davit_client_set_timeout(other, LAST_PATIENCE);
	r = davit_client_send(other, &request, &status, NULL);
	davit_client_close(other);
	if (r != DAVIT_ETIMEDOUT)
		return 0;
	return davit_error_set(err, r, NULL, "the daemon (pid %d) does not answer", peer.pid);
}

int davit_api_connect_running(struct davit_cli *cli, struct davit_error *err)
{
	int r;

	if (cli->client)
		return 0;
	r = davit_client_open(cli->paths.socket, &cli->client, err);
	if (r == 0)
		davit_client_set_patience(cli->client, PATIENCE, lives, cli);
	return r;
}

int davit_api_connect(struct davit_cli *cli, struct davit_error *err)
{
	int r = davit_api_connect_running(cli, err);

	if (r != DAVIT_EUNAVAIL)
		return r;
	davit_error_clear(err);
	r = davit_daemon_start(&cli->paths, err);
	return r < 0 ? r : davit_api_connect_running(cli, err);
}

void davit_api_close(struct davit_cli *cli)
{
	davit_client_close(cli->client);
	cli->client = NULL;
}

int davit_api_error(const json_t *answer, struct davit_error *err)
{
	const json_t *e = json_object_get(answer, "error");
	const char *code = json_string_value(json_object_get(e, "code"));
	const char *message = json_string_value(json_object_get(e, "message"));
	int r;

	if (!code || !message)
		return 0;
	r = davit_error_set(err, davit_error_from_word(code), json_string_value(json_object_get(e, "where")),
			    "%s", message);
	if (err) {
		err->line = (unsigned)json_integer_value(json_object_get(e, "line"));
		err->column = (unsigned)json_integer_value(json_object_get(e, "column"));
		err->sys_errno = (int)json_integer_value(json_object_get(e, "errno"));
	}
	return r;
}

static int error_of(int status, const json_t *answer, struct davit_error *err)
{
	int r = davit_api_error(answer, err);

	return r < 0 ? r
		     : davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon answered with HTTP status %d",
				       status);
}

static int parse(const char *text, size_t len, json_t **ret, struct davit_error *err)
{
	json_error_t why;
	/* A service may write what it likes, NUL too. */
	json_t *v = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);

	if (!v)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon's answer is not JSON: %s",
				       why.text);
	*ret = v;
	return 0;
}

/* The body of an answer with an error status. */
static int refusal(struct davit_client *c, int status, struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int r = davit_client_body(c, BODY_MAX, &out, err);

	if (r < 0)
		return r;
	parse(davit_buf_str(&out), out.len, &answer, NULL);
	r = error_of(status, answer, err);
	json_decref(answer);
	return r;
}

int davit_api_refusal(struct davit_cli *cli, int status, struct davit_error *err)
{
	return refusal(cli->client, status, err);
}

static const char *cause_of(const struct davit_cli *cli, char buf[64])
{
	char called[64];

	snprintf(buf, 64, "user: davit %.50s", davit_cli_called(cli, called));
	return buf;
}

int davit_api_request(struct davit_cli *cli, const struct davit_client_request *request, int *ret_status,
		      struct davit_error *err)
{
	struct davit_error why = {0};
	int64_t pause = FIRST_PAUSE;
	int r;

	for (;; pause *= 4) {
		davit_error_clear(&why);
		r = davit_api_connect(cli, &why);
		if (r == 0)
			r = davit_client_send(cli->client, request, ret_status, &why);
		if (r != DAVIT_ECLOSED || why.sys_errno != ECONNRESET || request->produce ||
		    pause > LONGEST_PAUSE)
			break;
		davit_api_close(cli);
		nanosleep(&(struct timespec){.tv_nsec = pause}, NULL);
	}
	if (r < 0 && err)
		*err = why;
	return r;
}

/* Sends on cli->client and reads the whole answer. */
static int try_exchange(struct davit_cli *cli, const struct davit_client_request *request,
			struct davit_buf *out, struct davit_error *err)
{
	int status, r;

	r = davit_api_request(cli, request, &status, err);
	if (r == 0) {
		warn_other_version(cli);
		if (status >= 400)
			return refusal(cli->client, status, err);
		r = davit_client_body(cli->client, BODY_MAX, out, err);
	}
	if (r == 0 && out->oom)
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r < 0)
		davit_api_close(cli);
	return r;
}

static bool went_away(int r, const struct davit_error *why)
{
	return r == DAVIT_ECLOSED || (r < 0 && (why->sys_errno == ECONNRESET || why->sys_errno == EPIPE));
}

/* A question that a daemon had read before it died is asked again, of the next one. A command may have been
 * obeyed, and is not repeated. */
static int exchange(struct davit_cli *cli, const struct davit_client_request *request, struct davit_buf *out,
		    struct davit_error *err)
{
	struct davit_error why = {0};
	int r = try_exchange(cli, request, out, &why);

	if (went_away(r, &why) && !strcmp(request->method, "GET")) {
		davit_buf_reset(out);
		davit_error_clear(&why);
		r = try_exchange(cli, request, out, &why);
	}
	if (r < 0 && err)
		*err = why;
	return r;
}

int davit_api_send(struct davit_cli *cli, const char *method, const char *target, const char *type,
		   const void *body, size_t len, json_t **ret_answer, struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	char cause[64];
	const struct davit_client_request request = {
		.method = method,
		.target = target,
		.body = body,
		.body_len = len,
		.content_type = type,
		.cause = cause_of(cli, cause),
	};
	json_t *answer = NULL;
	int r = exchange(cli, &request, &out, err);

	if (r < 0)
		return r;
	if (out.len)
		r = parse(davit_buf_str(&out), out.len, &answer, err);
	if (r == 0 && ret_answer)
		*ret_answer = answer;
	else
		json_decref(answer);
	return r;
}

int davit_api_call(struct davit_cli *cli, const char *method, const char *target, json_t *body,
		   json_t **ret_answer, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (body && !text)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_api_send(cli, method, target, NULL, text, text ? strlen(text) : 0, ret_answer, err);
}

int davit_api_stream(struct davit_cli *cli, const char *target, struct davit_client **ret,
		     struct davit_error *err)
{
	const struct davit_client_request request = {.target = target};
	struct davit_client *c = NULL;
	int status, r;

	r = davit_client_open(cli->paths.socket, &c, err);
	if (r == 0)
		r = davit_client_send(c, &request, &status, err);
	if (r == 0 && status >= 400)
		r = refusal(c, status, err);
	if (r < 0) {
		davit_client_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void davit_api_print_stream(struct davit_client *c)
{
	davit_client_set_output(c, STDOUT_FILENO);
}

int davit_api_next(struct davit_client *c, json_t **ret, const char **ret_text, struct davit_error *err)
{
	const char *line;
	json_t *v;
	size_t len;
	int r;

	do {
		r = davit_client_line(c, &line, &len, err);
		if (r == DAVIT_ECANCELED)
			raise(SIGPIPE);
		if (r <= 0)
			return r;
	} while (!len); /* an empty line keeps an idle stream alive */
	r = parse(line, len, &v, err);
	if (r < 0)
		return r;
	if (json_is_object(json_object_get(v, "error")) && !json_object_get(v, "id") &&
	    !json_object_get(v, "type")) {
		r = error_of(500, v, err);
		json_decref(v);
		return r;
	}
	*ret = v;
	if (ret_text)
		*ret_text = line;
	return 1;
}

void davit_api_service_of(const char *namespace_, const char *name, const char *version, const char *suffix,
			  struct davit_buf *out)
{
	davit_buf_adds(out, "/v1/services/");
	davit_url_escape(out, namespace_);
	davit_buf_addc(out, '/');
	davit_url_escape(out, name);
	davit_buf_addc(out, '/');
	davit_url_escape(out, version ? version : "-");
	davit_buf_adds(out, suffix);
}

void davit_api_service(struct davit_cli *cli, size_t at, const char *suffix, struct davit_buf *out)
{
	davit_api_service_of(davit_cli_namespace(cli), davit_cli_arg(cli, at), davit_cli_arg(cli, at + 1),
			     suffix, out);
}

bool davit_api_is_away(int code)
{
	return code == 0 || code == DAVIT_ECLOSED || code == DAVIT_EUNAVAIL || code == DAVIT_EIO ||
	       code == DAVIT_EPROTO;
}

/* Its socket is there and nobody listens: one that ends takes it away. */
static bool was_killed(const struct davit_cli *cli)
{
	struct davit_client *c = NULL;
	struct davit_error err = {0};
	int r = davit_client_open(cli->paths.socket, &c, &err);

	davit_client_close(c);
	return r == DAVIT_EUNAVAIL && err.sys_errno == ECONNREFUSED;
}

void davit_api_pause(struct davit_cli *cli, struct davit_api_pause *p)
{
	struct davit_error err = {0};
	struct timespec ts;

	p->ns = p->ns ? p->ns * 2 : FIRST_PAUSE;
	if (p->ns > LONGEST_PAUSE)
		p->ns = LONGEST_PAUSE;
	ts = (struct timespec){.tv_sec = p->ns / DAVIT_NSEC_PER_SEC, .tv_nsec = p->ns % DAVIT_NSEC_PER_SEC};
	nanosleep(&ts, NULL);
	p->waited += p->ns;
	if (!cli || p->waited < START_PATIENCE || !was_killed(cli))
		return;
	p->waited = 0;
	if (davit_daemon_start(&cli->paths, &err) < 0)
		fprintf(stderr, "davit: warning: %s; trying again\n", err.message);
}
