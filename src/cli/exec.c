/* SPDX-License-Identifier: MIT
 *
 * davit exec: a further command beside a running instance. Frames as docs/api.md
 * describes them; what is typed waits here while the daemon does not take it.
 */
#include "cli/api.h"
#include "cli/choose.h"
#include "cli/output.h"
#include "net/client.h"
#include "net/url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

enum frame { INPUT, OUTPUT, ERRORS, END, SIZE, SIGNAL, INPUT_END };

#define HEADER 8
#define FRAME_MAX (1024 * 1024)
#define INPUT_PENDING_MAX (256 * 1024)

struct session {
	int fd, signals;
	bool tty, input_open;
	struct davit_buf in;  /* from the daemon, not yet whole frames */
	struct davit_buf out; /* frames for the daemon */
	int status;	      /* exit status, -1 until the end came */
};

static void frame(struct session *s, enum frame type, const void *data, size_t n)
{
	const uint32_t len = htonl((uint32_t)n);
	const char head[4] = {(char)type};

	davit_buf_add(&s->out, head, sizeof head);
	davit_buf_add(&s->out, &len, sizeof len);
	davit_buf_add(&s->out, data, n);
}

static void send_size(struct session *s)
{
	struct winsize w;
	char text[64];
	int n;

	if (!s->tty || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0)
		return;
	n = snprintf(text, sizeof text, "{\"rows\":%u,\"columns\":%u}", w.ws_row, w.ws_col);
	frame(s, SIZE, text, (size_t)n);
}

/* The last frame: {"code"}, {"signal"} or {"error"}. */
static int take_end(struct session *s, const char *data, size_t n, struct davit_error *err)
{
	json_t *v = json_loadb(data, n, 0, NULL);
	int r = davit_api_error(v, err);

	if (json_object_get(v, "signal"))
		s->status = 128 + (int)davit_integer(v, "signal");
	else if (json_object_get(v, "code"))
		s->status = (int)davit_integer(v, "code");
	else if (r == 0)
		r = davit_error_set(err, DAVIT_EPROTO, NULL, "the end of the command has no status");
	json_decref(v);
	return r;
}

/* Deals with the whole frames in s->in. */
static int take_frames(struct session *s, struct davit_error *err)
{
	size_t at = 0;
	int r = 0;

	while (r == 0 && s->in.len - at >= HEADER) {
		const char *p = s->in.data + at;
		uint32_t n;
		memcpy(&n, p + 4, sizeof n);
		n = ntohl(n);
		if (n > FRAME_MAX)
			return davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon sent a frame of %u bytes",
					       n);
		if (s->in.len - at < HEADER + (size_t)n)
			break;
		if (p[0] == OUTPUT || p[0] == ERRORS) {
			if (davit_write_full(p[0] == OUTPUT ? STDOUT_FILENO : STDERR_FILENO, p + HEADER, n) <
			    0)
				r = davit_error_errno(err, errno, NULL, "cannot write the output");
		} else if (p[0] == END) {
			r = take_end(s, p + HEADER, n, err);
		}
		at += HEADER + n;
	}
	davit_buf_consume(&s->in, at);
	return r;
}

static int read_socket(struct session *s, struct davit_error *err)
{
	char buf[65536];
	ssize_t n = DAVIT_EINTR(recv(s->fd, buf, sizeof buf, MSG_DONTWAIT));

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n < 0)
		return davit_error_errno(err, errno, NULL, "cannot read from the daemon");
	if (n == 0)
		return davit_error_set(err, DAVIT_ECLOSED, NULL, "the daemon closed the connection");
	davit_buf_add(&s->in, buf, (size_t)n);
	if (s->in.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return take_frames(s, err);
}

static int write_socket(struct session *s, struct davit_error *err)
{
	ssize_t n = DAVIT_EINTR(send(s->fd, s->out.data, s->out.len, MSG_DONTWAIT | MSG_NOSIGNAL));

	if (n < 0 && errno != EAGAIN && errno != EPIPE && errno != ECONNRESET)
		return davit_error_errno(err, errno, NULL, "cannot write to the daemon");
	/* The other side has ended; what it said last is still to be read. */
	davit_buf_consume(&s->out, n > 0 ? (size_t)n : n < 0 && errno != EAGAIN ? s->out.len : 0);
	return 0;
}

static void read_input(struct session *s)
{
	char buf[16384];
	ssize_t n = DAVIT_EINTR(read(STDIN_FILENO, buf, sizeof buf));

	if (n > 0) {
		frame(s, INPUT, buf, (size_t)n);
		return;
	}
	if (n < 0 && errno == EAGAIN)
		return;
	frame(s, INPUT_END, NULL, 0);
	s->input_open = false;
}

static void read_signal(struct session *s)
{
	struct signalfd_siginfo info;
	char number;

	if (read(s->signals, &info, sizeof info) != (ssize_t)sizeof info)
		return;
	if (info.ssi_signo == SIGWINCH) {
		send_size(s);
		return;
	}
	number = (char)info.ssi_signo;
	frame(s, SIGNAL, &number, 1);
}

static int converse(struct session *s, struct davit_error *err)
{
	int r = take_frames(s, err); /* what came with the answer's head */

	while (r == 0 && s->status < 0) {
		struct pollfd fds[3] = {
			{.fd = s->fd, .events = (short)(POLLIN | (s->out.len ? POLLOUT : 0))},
			{.fd = s->input_open && s->out.len < INPUT_PENDING_MAX ? STDIN_FILENO : -1,
			 .events = POLLIN},
			{.fd = s->signals, .events = POLLIN},
		};
		if (poll(fds, DAVIT_ARRAY_SIZE(fds), -1) < 0) {
			if (errno != EINTR)
				r = davit_error_errno(err, errno, NULL, "cannot wait");
			continue;
		}
		if (fds[2].revents)
			read_signal(s);
		if (fds[1].revents)
			read_input(s);
		if (s->out.oom)
			r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		if (r == 0 && fds[0].revents & POLLOUT)
			r = write_socket(s, err);
		if (r == 0 && fds[0].revents & ~POLLOUT)
			r = read_socket(s, err);
	}
	return r < 0 ? r : s->status;
}

/* Signals that come to us go to the command. (With a terminal the keys that make
 * signals travel as bytes.) */
static int open_signals(void)
{
	static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(forwarded); i++)
		sigaddset(&set, forwarded[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int talk(int fd, bool tty, struct davit_buf *early, struct davit_error *err)
{
	struct session s = {.fd = fd, .tty = tty, .input_open = true, .in = *early, .status = -1};
	struct termios old;
	bool raw = tty && tcgetattr(STDIN_FILENO, &old) == 0;
	int r;

	*early = (struct davit_buf)DAVIT_BUF_INIT;
	s.signals = open_signals();
	if (s.signals < 0)
		return davit_error_errno(err, errno, NULL, "cannot receive signals");
	if (raw) {
		struct termios t = old;
		cfmakeraw(&t);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
	}
	send_size(&s);
	r = converse(&s, err);
	if (raw)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
	close(s.signals);
	davit_buf_fini(&s.in);
	davit_buf_fini(&s.out);
	return r;
}

/* The request's body: {command, env, directory, user, tty, rows, columns}. */
static json_t *body_of(struct davit_cli *cli, bool tty)
{
	json_t *body = json_object(), *list = json_array(), *env = json_array();
	const char *v;
	struct winsize w;
	size_t pos = 0;

	for (char **word = cli->rest; *word; word++)
		json_array_append_new(list, json_string(*word));
	json_object_set_new(body, "command", list);
	while ((v = davit_cli_next(cli, "env", &pos)))
		json_array_append_new(env, json_string(v));
	if (json_array_size(env))
		json_object_set(body, "env", env);
	json_decref(env);
	if ((v = davit_cli_value(cli, "directory")))
		json_object_set_new(body, "directory", json_string(v));
	if ((v = davit_cli_value(cli, "user")))
		json_object_set_new(body, "user", json_string(v));
	if (tty && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0) {
		json_object_set_new(body, "rows", json_integer(w.ws_row));
		json_object_set_new(body, "columns", json_integer(w.ws_col));
	}
	json_object_set_new(body, "tty", json_boolean(tty));
	return body;
}

/* Switches the connection over; *early gets what the daemon has said already. */
static int upgrade(struct davit_cli *cli, const char *target, json_t *body, int *ret_fd,
		   struct davit_buf *early, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *text = json_dumps(body, JSON_COMPACT);
	struct davit_client_request request = {
		.method = "POST",
		.target = target,
		.body = text,
		.body_len = text ? strlen(text) : 0,
		.upgrade = "davit-exec",
	};
	int status = 0, r;

	if (!text)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = davit_api_request(cli, &request, &status, err);
	if (r == 0 && status != 101)
		r = davit_api_refusal(cli, status, err);
	return r < 0 ? r : davit_client_take_fd(cli->client, ret_fd, early, err);
}

/* The program itself was the reason: told, and said as shells do. Else r. */
static int exit_status(const struct davit_cli *cli, int r, const struct davit_error *err)
{
	if (r != DAVIT_EEXEC)
		return r;
	davit_print_error(cli, err);
	return err->sys_errno == ENOENT ? 127 : 126;
}

static int run_exec(struct davit_cli *cli, struct davit_error *err)
{
	bool tty = davit_cli_flag(cli, "tty") ||
		   (!davit_cli_flag(cli, "no-tty") && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
	DAVIT_AUTO_BUF id = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF early = DAVIT_BUF_INIT;
	DAVIT_AUTO_CLOSE int fd = -1;
	json_t *body;
	int r;

	if (!cli->rest || !cli->rest[0])
		return davit_cli_usage(cli, err, "no command is given: davit exec %s", cli->command->usage);
	r = davit_choose_instance(cli, cli->args[0], davit_cli_arg(cli, 1), true, &id, err);
	if (r < 0)
		return r;
	davit_buf_adds(&target, "/v1/instances/");
	davit_url_escape(&target, davit_buf_str(&id));
	davit_buf_adds(&target, "/exec");
	body = body_of(cli, tty);
	r = upgrade(cli, davit_buf_str(&target), body, &fd, &early, err);
	json_decref(body);
	if (r == 0)
		r = talk(fd, tty, &early, err);
	return exit_status(cli, r, err);
}

static const struct davit_option own[] = {
	{"instance", 0, "ID", DAVIT_OPTION_STRING,
	 .doc = "In this instance, by id or index (default: the first that runs)"},
	{"env", 'e', "NAME=VALUE", DAVIT_OPTION_PAIR, .repeat = true,
	 .doc = "A further environment variable"},
	{"directory", 0, "DIR", DAVIT_OPTION_STRING, .doc = "The working directory there"},
	{"user", 0, "USER[:GROUP]", DAVIT_OPTION_STRING, .doc = "Run as this user"},
	{"tty", 't', NULL, DAVIT_OPTION_FLAG, .doc = "Give it a terminal (default: when this runs on one)"},
	{"no-tty", 'T', NULL, DAVIT_OPTION_FLAG, .doc = "Give it no terminal"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, davit_options_common,
						     NULL};
static const char *const examples[] = {"davit exec foobar -- sh",
				       "a shell beside the service",
				       "davit exec foobar --instance 2 -- env",
				       "in its third instance",
				       "davit exec db -- restore < dump",
				       "standard input is passed on",
				       NULL};

const struct davit_command davit_command_exec = {
	.name = "exec",
	.usage = "NAME [VERSION] -- COMMAND [ARG...]",
	.group = "Services",
	.summary = "Run a further command inside an instance",
	.details =
		"Exits with the command's status, 128 + n when signal n ended it, 127 when there is no such "
		"program\n"
		"and 126 when it cannot be executed. INT, TERM, HUP, QUIT, USR1 and USR2 are passed on.",
	.options = options,
	.min_args = 1,
	.max_args = 2,
	.rest = true,
	.complete = "service",
	.run = run_exec,
	.examples = examples,
};
