/* SPDX-License-Identifier: MIT
 *
 * This terminal and the one beyond the daemon, joined by a WebSocket. When the
 * connection breaks, the command goes on and so do we: attached again, the
 * terminal there repeats what it printed last, of which only what is new is shown.
 */
#include "cli/terminal.h"

#include "base/units.h"
#include "base/util.h"
#include "cli/api.h"
#include "cli/output.h"
#include "net/url.h"
#include "net/websocket.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>

#define AWAY_MAX (30 * DAVIT_NSEC_PER_SEC)
#define MESSAGE_MAX (16u * 1024 * 1024)
#define INPUT_MAX (256u * 1024) /* typed or pasted, and not taken */
#define TAIL_MAX (16u * 1024)	/* of what was shown, to find the place in what is repeated */
#define HELD_MAX (1024u * 1024) /* of what is repeated */
#define QUIET_MS 150		/* then all of it has come */

enum ending { GOES_ON, ENDED, DETACHED, SIGNALLED, BROKEN };

struct session {
	struct davit_cli *cli;
	struct davit_terminal_use *use;
	struct davit_websocket_client *ws;
	struct termios old;
	sigset_t mask; /* before ours */
	int signals;
	enum ending ending;
	int status;
	int signo;	       /* SIGNALLED: which one ends us */
	struct davit_buf tail; /* what was shown last */
	struct davit_buf held; /* after attaching again: what may be known */
	bool holding;
	bool fresh;	/* what came with the answer's head is still to be looked at */
	bool repeating; /* what is repeated is shown: questions in it are old */
	bool alternate; /* the screen is the other one (full-screen programs) */
};

/* ------------------------------------------------------------- this terminal */

static void set_raw(struct session *s)
{
	struct termios t = s->old;

	cfmakeraw(&t);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &t);
}

static void restore(struct session *s)
{
	/* A program that we leave behind will not undo these itself. */
	static const char undo[] = "\033[?1000l\033[?1002l\033[?1003l\033[?1006l\033[?2004l\033[?1l\033>"
				   "\033[?25h\033[0m";

	if (s->ending != ENDED) {
		davit_write_full(STDOUT_FILENO, undo, sizeof undo - 1);
		if (s->alternate)
			davit_write_full(STDOUT_FILENO, "\033[?1049l", 8);
	}
	tcsetattr(STDIN_FILENO, TCSADRAIN, &s->old);
}

/* INT and QUIT come from outside only: the keys travel as bytes. */
static int open_signals(struct session *s)
{
	static const int wanted[] = {SIGWINCH, SIGCONT, SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(wanted); i++)
		sigaddset(&set, wanted[i]);
	sigprocmask(SIG_BLOCK, &set, &s->mask);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* As a program ends that has no handler, once the terminal is as it was: whoever waits for us sees the
 * signal, and nothing of ours runs any more. */
static void end_by(const struct session *s)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t set;

	sigaction(s->signo, &dfl, NULL);
	sigemptyset(&set);
	sigaddset(&set, s->signo);
	raise(s->signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int put(const void *data, size_t n, struct davit_error *err)
{
	if (davit_write_full(STDOUT_FILENO, data, n) < 0)
		return davit_error_errno(err, errno, NULL, "cannot write to the terminal");
	return 0;
}

/* --------------------------------------------------------------------- output */

/* Which screen is it, after the last 8 bytes before and these? */
static void watch_screen(struct session *s, const char *data, size_t n)
{
	static const char on[] = "\033[?1049h", off[] = "\033[?1049l";
	size_t len = sizeof on - 1;

	for (const char *p = data, *end = data + n; (p = memchr(p, '\033', (size_t)(end - p))); p++) {
		if ((size_t)(end - p) < len)
			break;
		if (!memcmp(p, on, len))
			s->alternate = true;
		else if (!memcmp(p, off, len))
			s->alternate = false;
	}
}

static int show(struct session *s, const char *data, size_t n, struct davit_error *err)
{
	size_t skip = n > TAIL_MAX ? n - TAIL_MAX : 0;
	size_t from = s->tail.len > 8 ? s->tail.len - 8 : 0;

	if (skip) {
		watch_screen(s, data, n);
		davit_buf_reset(&s->tail);
		from = 0;
	}
	davit_buf_add(&s->tail, data + skip, n - skip);
	if (s->tail.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	watch_screen(s, s->tail.data + from, s->tail.len - from);
	if (s->tail.len > 2 * TAIL_MAX)
		davit_buf_consume(&s->tail, s->tail.len - TAIL_MAX);
	return put(data, n, err);
}

/* What is repeated has come: shows what follows what was shown. */
static int show_new(struct session *s, struct davit_error *err)
{
	size_t known = s->tail.len < TAIL_MAX ? s->tail.len : TAIL_MAX;
	const char *at = s->held.data, *end = at ? at + s->held.len : NULL, *last = NULL;
	int r = 0;

	if (known)
		for (const char *p = at;
		     p && (p = memmem(p, (size_t)(end - p), s->tail.data + s->tail.len - known, known)); p++)
			last = p;
	if (last)
		at = last + known;
	if (at && at < end)
		r = show(s, at, (size_t)(end - at), err);
	davit_buf_fini(&s->held);
	s->holding = false;
	return r;
}

/* The end of the command: {"code"}, {"signal"} or {"error"}. */
static int take_end(struct session *s, const json_t *end, struct davit_error *err)
{
	const json_t *e = json_object_get(end, "error");

	s->ending = ENDED;
	if (json_is_object(e))
		return davit_error_set(err, davit_error_from_word(davit_string(e, "code")), NULL, "%s",
				       davit_string(e, "message"));
	s->status = json_object_get(end, "signal") ? 128 + (int)davit_integer(end, "signal")
						   : (int)davit_integer(end, "code");
	return 0;
}

static int take(void *user, bool text, const void *data, size_t n, struct davit_error *err)
{
	struct session *s = user;
	json_t *v;
	int r = 0;

	if (!text && !s->holding)
		return show(s, data, n, err);
	if (!text) {
		davit_buf_add(&s->held, data, n);
		return s->held.len > HELD_MAX ? show_new(s, err) : 0;
	}
	v = json_loadb(data, n, 0, NULL);
	if (json_object_get(v, "terminal")) {
		snprintf(s->use->id, sizeof s->use->id, "%s", davit_string(v, "terminal"));
	} else if (json_object_get(v, "ended")) {
		r = s->holding ? show_new(s, err) : 0;
		if (r == 0)
			r = take_end(s, json_object_get(v, "ended"), err);
	}
	json_decref(v);
	return r;
}

/* ---------------------------------------------------------------------- input */

static int send_size(struct session *s, struct davit_error *err)
{
	struct winsize w;
	char text[64];
	int n;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || !w.ws_row || !w.ws_col)
		return 0;
	n = snprintf(text, sizeof text, "{\"resize\":{\"rows\":%u,\"columns\":%u}}", w.ws_row, w.ws_col);
	return davit_websocket_put(s->ws, true, text, (size_t)n, err);
}

static int read_input(struct session *s, struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	char data[16384];
	ssize_t n = DAVIT_EINTR(read(STDIN_FILENO, data, sizeof data));

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) {
		/* It was hung up, or is not ours any more: the signal may still be on its way. */
		s->ending = SIGNALLED;
		s->signo = SIGHUP;
		return 0;
	}
	/* This terminal answers questions that a program asked long ago: it has its answers. */
	if (s->repeating && data[0] == '\033')
		return 0;
	if (davit_keys_filter(&s->use->keys, data, (size_t)n, &out))
		s->ending = DETACHED;
	if (out.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return out.len ? davit_websocket_put(s->ws, false, out.data, out.len, err) : 0;
}

static int read_signal(struct session *s, struct davit_error *err)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof info) != (ssize_t)sizeof info)
		return 0;
	if (info.ssi_signo == SIGCONT)
		set_raw(s); /* whoever stopped us has set it back */
	if (info.ssi_signo == SIGWINCH || info.ssi_signo == SIGCONT)
		return s->ws ? send_size(s, err) : 0;
	s->ending = SIGNALLED;
	s->signo = (int)info.ssi_signo;
	return 0;
}

/* ----------------------------------------------------------------- connecting */

static int open_socket(struct session *s, const char *target, struct davit_error *err)
{
	DAVIT_AUTO_BUF full = DAVIT_BUF_INIT;
	struct winsize w = {0};
	char number[16];
	int status = 0, r;

	davit_buf_adds(&full, target);
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row && w.ws_col) {
		snprintf(number, sizeof number, "%u", w.ws_row);
		davit_url_query(&full, "rows", number);
		snprintf(number, sizeof number, "%u", w.ws_col);
		davit_url_query(&full, "columns", number);
	}
	r = davit_api_connect(s->cli, err);
	if (r == 0)
		r = davit_websocket_open(s->cli->client, davit_buf_str(&full), "user: davit terminal",
					 MESSAGE_MAX, &s->ws, &status, err);
	if (r == 0 && status != 101)
		r = davit_api_refusal(s->cli, status, err);
	davit_api_close(s->cli); /* the socket has its own */
	s->fresh = true;
	return r;
}

static void close_socket(struct session *s)
{
	davit_websocket_free(s->ws);
	s->ws = NULL;
}

/* A signal while we wait for the daemon? */
static bool interrupted(struct session *s)
{
	struct pollfd p = {.fd = s->signals, .events = POLLIN};

	while (s->ending == GOES_ON && poll(&p, 1, 0) > 0)
		read_signal(s, NULL);
	return s->ending != GOES_ON;
}

static int reconnect(struct session *s, struct davit_error *err)
{
	int64_t since = davit_monotonic();
	struct davit_api_pause pause = {0};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	int r;

	close_socket(s);
	davit_buf_addf(&target, "/v1/terminals/%s", s->use->id);
	s->ending = GOES_ON;
	for (;;) {
		davit_error_clear(err);
		r = open_socket(s, davit_buf_str(&target), err);
		if (r == 0 || !davit_api_is_away(r) || davit_monotonic() - since > AWAY_MAX || interrupted(s))
			break;
		davit_api_pause(s->cli, &pause);
	}
	s->holding = r == 0 && s->tail.len;
	s->repeating = false;
	return s->ending == SIGNALLED ? 0 : r;
}

/* ------------------------------------------------------------------- the talk */

static int turn(struct session *s, struct davit_error *err)
{
	size_t pending = davit_websocket_pending(s->ws);
	struct pollfd fds[3] = {
		{.fd = davit_websocket_fd(s->ws), .events = (short)(POLLIN | (pending ? POLLOUT : 0))},
		{.fd = pending < INPUT_MAX ? STDIN_FILENO : -1, .events = POLLIN},
		{.fd = s->signals, .events = POLLIN},
	};
	unsigned code = 0;
	int wait = s->fresh ? 0 : s->holding || s->repeating ? QUIET_MS : -1;
	int n = poll(fds, DAVIT_ARRAY_SIZE(fds), wait), r = 0;

	if (n < 0)
		return errno == EINTR ? 0 : davit_error_errno(err, errno, NULL, "cannot wait");
	if (n == 0 && !s->fresh) {
		s->repeating = false;
		return s->holding ? show_new(s, err) : 0;
	}
	if (fds[2].revents)
		r = read_signal(s, err);
	if (r == 0 && s->ending == GOES_ON && fds[1].revents)
		r = read_input(s, err);
	if (r == 0 && (s->fresh || fds[0].revents || davit_websocket_pending(s->ws)))
		r = davit_websocket_turn(s->ws, take, s, &code, err);
	s->fresh = false;
	if (r < 0 || s->ending != GOES_ON)
		return r;
	if (r == 1 && (code == DAVIT_WEBSOCKET_GOING_AWAY || code == DAVIT_WEBSOCKET_LOST))
		s->ending = BROKEN;
	else if (r == 1)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon closed the terminal (%u)", code);
	return 0;
}

static int converse(struct session *s, struct davit_error *err)
{
	int r = open_socket(s, s->use->target, err);

	s->repeating = !strncmp(s->use->target, "/v1/terminals/", 14);
	while (r == 0 && s->ending == GOES_ON) {
		r = turn(s, err);
		if ((s->ending == BROKEN || (r < 0 && davit_api_is_away(r) && s->ending == GOES_ON)) &&
		    s->use->id[0])
			r = reconnect(s, err);
	}
	/* What was typed before the keys that detach still goes. */
	for (int i = 0; r == 0 && s->ending == DETACHED && davit_websocket_pending(s->ws) && i < 20; i++) {
		struct pollfd p = {.fd = davit_websocket_fd(s->ws), .events = POLLOUT};
		unsigned code;
		if (poll(&p, 1, 50) > 0 && davit_websocket_turn(s->ws, take, s, &code, NULL))
			break;
	}
	return r;
}

int davit_terminal_use(struct davit_cli *cli, struct davit_terminal_use *use, struct davit_error *err)
{
	struct session s = {.cli = cli, .use = use};
	int r;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &s.old) < 0)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "standard input and output must be a terminal; without one use "
				       "'davit exec NAME -- COMMAND'");
	s.signals = open_signals(&s);
	if (s.signals < 0)
		return davit_error_errno(err, errno, NULL, "cannot receive signals");
	fflush(stdout);
	set_raw(&s);
	r = converse(&s, err);
	if (r < 0 && s.ending == GOES_ON)
		s.ending = BROKEN;
	restore(&s);
	use->detached = s.ending == DETACHED;
	close_socket(&s);
	close(s.signals);
	davit_buf_fini(&s.tail);
	davit_buf_fini(&s.held);
	if (r >= 0 && s.ending == SIGNALLED)
		end_by(&s);
	sigprocmask(SIG_SETMASK, &s.mask, NULL);
	return r < 0 ? r : s.status;
}
