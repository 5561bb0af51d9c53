/* SPDX-License-Identifier: MIT
 *
 * davit-engine-terminal SOCKET PREFIX CONTAINER USER DIRECTORY COMMAND...
 *
 * Between the keeper's terminal and a command's in a container: see README.md.
 */
#include "runtime/engine/terminal/command.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#define BUFFER 65536
#define RESIZE_TRIES 100 /* an engine refuses until the command runs */
#define RESIZE_PAUSE (10 * DAVIT_NSEC_PER_MSEC)
#define LOOK_FIRST (2 * DAVIT_NSEC_PER_MSEC)
#define LOOK_MAX (100 * DAVIT_NSEC_PER_MSEC)
#define END_PATIENCE (2 * DAVIT_NSEC_PER_SEC)	/* from the end of its terminal to its own */
#define GUARD_PATIENCE (5 * DAVIT_NSEC_PER_SEC) /* for an engine that is away */
#define HANG_UP_PATIENCE (1 * DAVIT_NSEC_PER_SEC)
#define FAILED 125 /* ours or the engine's failure, as elsewhere */

extern char **environ;

struct session {
	struct command command;
	int stream, signals;
	int guard; /* closed without a byte: the guard kills the command */
	pid_t guard_pid;
	int resizing;	 /* the answer to a size is awaited on it, or -1 */
	bool size_known; /* to the engine */
	unsigned size_tries;
	int64_t size_at;    /* when it is tried again; 0: not */
	int64_t hang_up_at; /* nobody is at the terminal: then it is given up; 0: somebody is */
	struct davit_buf in, out; /* to the command, to the terminal */
	bool over;		  /* the command's terminal is closed */
};

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * DAVIT_NSEC_PER_SEC + t.tv_nsec;
}

static void rest(int64_t ns)
{
	struct timespec t = {.tv_sec = ns / DAVIT_NSEC_PER_SEC, .tv_nsec = ns % DAVIT_NSEC_PER_SEC};

	nanosleep(&t, NULL);
}

/* Waits until the command has ended: true, with its exit code. False when the engine
 * does not say so for so long; `kills`: it is killed meanwhile. */
static bool wait_for_end(struct command *c, int64_t patience, bool kills, int *ret_code,
			 struct davit_error *err)
{
	int64_t until = now() + patience, pause = LOOK_FIRST;
	bool runs = true;

	do {
		int r = command_look(c, &runs, ret_code, err);
		if (r == DAVIT_ENOENT)
			return false;
		if (r == 0 && !runs)
			return true;
		if (r == 0 && kills)
			command_signal(c, SIGKILL);
		rest(pause);
		pause = pause * 2 > LOOK_MAX ? LOOK_MAX : pause * 2;
	} while (now() < until);
	if (runs)
		davit_error_set(err, DAVIT_EUNAVAIL, NULL, "the connection to the command was lost");
	return false;
}

/* --- the guard --- */

static _Noreturn void guard(struct command *c, int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), code;
	struct davit_error err;
	char byte;

	/* Else it would hold the terminal, and get what is sent to its group. */
	setsid();
	for (int i = 0; i < 3; i++)
		if (null < 0 || dup2(null, i) < 0)
			close(i);
	if (DAVIT_EINTR(read(fd, &byte, 1)) != 1) {
		/* It may be on its way to be started. */
		rest(LOOK_MAX);
		wait_for_end(c, GUARD_PATIENCE, true, &code, &err);
	}
	_exit(0);
}

static int start_guard(struct session *s, struct davit_error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	s->guard_pid = fork();
	if (s->guard_pid == 0) {
		close(fds[1]);
		guard(&s->command, fds[0]);
	}
	close(fds[0]);
	s->guard = fds[1];
	return s->guard_pid < 0 ? davit_error_errno(err, errno, NULL, "cannot fork") : 0;
}

static void dismiss_guard(struct session *s)
{
	if (write(s->guard, "", 1) == 1)
		DAVIT_EINTR(waitpid(s->guard_pid, NULL, 0));
}

/* --- sizes and signals --- */

static void send_size(struct session *s)
{
	struct winsize size;

	s->size_at = 0;
	if (s->resizing >= 0 || ioctl(0, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
		return;
	s->size_known = true;
	command_resize(&s->command, size.ws_row, size.ws_col, &s->resizing);
}

static void size_answered(struct session *s)
{
	int status = api_status(DAVIT_TAKE_FD(s->resizing));

	if (status != 200 && status != 201 && s->size_tries++ < RESIZE_TRIES)
		s->size_at = now() + RESIZE_PAUSE;
	else if (!s->size_known) /* it has changed meanwhile */
		send_size(s);
}

static _Noreturn void die_of(int signo)
{
	sigset_t it;

	setrlimit(RLIMIT_CORE, &(struct rlimit){0});
	signal(signo, SIG_DFL);
	sigemptyset(&it);
	sigaddset(&it, signo);
	sigprocmask(SIG_UNBLOCK, &it, NULL);
	raise(signo);
	_exit(128 + signo);
}

static void take_signals(struct session *s)
{
	struct signalfd_siginfo i;

	while (read(s->signals, &i, sizeof i) == sizeof i) {
		int signo = (int)i.ssi_signo;
		if (signo == SIGWINCH) {
			s->size_known = false;
			s->size_tries = 0;
			send_size(s);
		} else if (!command_signal(&s->command, signo) && (signo == SIGHUP || signo == SIGTERM)) {
			die_of(signo); /* which closes its terminal at least */
		}
	}
}

/* --- bytes --- */

/* Nobody is at the terminal any more. */
static void hang_up(struct session *s)
{
	if (s->hang_up_at)
		return;
	s->hang_up_at = now() + HANG_UP_PATIENCE;
	command_signal(&s->command, SIGHUP);
}

static void take_input(struct session *s)
{
	ssize_t n;

	if (davit_buf_reserve(&s->in, BUFFER) < 0)
		return;
	n = read(0, s->in.data + s->in.len, BUFFER);
	if (n > 0)
		s->in.len += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		hang_up(s);
}

static void give_input(struct session *s)
{
	ssize_t n = send(s->stream, s->in.data, s->in.len, MSG_NOSIGNAL);

	if (n >= 0)
		davit_buf_consume(&s->in, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		davit_buf_reset(&s->in); /* it does not read any more; what it says may still come */
}

static void take_output(struct session *s)
{
	ssize_t n;

	if (davit_buf_reserve(&s->out, BUFFER) < 0)
		return;
	n = recv(s->stream, s->out.data + s->out.len, BUFFER, 0);
	if (n > 0)
		s->out.len += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		s->over = true;
}

static void give_output(struct session *s)
{
	ssize_t n = write(1, s->out.data, s->out.len);

	if (n >= 0)
		davit_buf_consume(&s->out, (size_t)n);
	else if (errno != EAGAIN && errno != EINTR)
		davit_buf_reset(&s->out);
}

static int timeout_of(const struct session *s)
{
	int64_t at = s->size_at, left;

	if (s->hang_up_at && (!at || s->hang_up_at < at))
		at = s->hang_up_at;
	if (!at)
		return -1;
	left = at - now();
	return left > 0 ? (int)(left / DAVIT_NSEC_PER_MSEC) + 1 : 0;
}

/* Until all that the command has said is out, or it is given up. */
static bool carry(struct session *s)
{
	while (!s->over || s->out.len) {
		struct pollfd p[] = {
			{.fd = s->in.len || s->hang_up_at ? -1 : 0, .events = POLLIN},
			{.fd = s->out.len ? 1 : -1, .events = POLLOUT},
			{.fd = s->over ? -1 : s->stream,
			 .events = (short)((s->out.len ? 0 : POLLIN) | (s->in.len ? POLLOUT : 0))},
			{.fd = s->signals, .events = POLLIN},
			{.fd = s->resizing, .events = POLLIN},
		};
		if (poll(p, DAVIT_ARRAY_SIZE(p), timeout_of(s)) < 0 && errno != EINTR)
			return false;
		if (s->hang_up_at && now() >= s->hang_up_at)
			return false;
		if (p[3].revents)
			take_signals(s);
		if (p[4].revents)
			size_answered(s);
		else if (s->size_at && now() >= s->size_at)
			send_size(s);
		if (p[0].revents)
			take_input(s);
		if (s->in.len && !s->over)
			give_input(s);
		if (p[2].revents & (POLLIN | POLLHUP | POLLERR) && !s->out.len)
			take_output(s);
		if (s->out.len)
			give_output(s);
	}
	return true;
}

/* --- the whole --- */

static int run(struct session *s, char *const *argv, struct davit_error *err)
{
	int code, r = command_make(&s->command, argv[4], argv[5], argv + 6, environ, err);

	/* Before it runs: from then on somebody watches. */
	if (r == 0)
		r = start_guard(s, err);
	if (r == 0)
		r = command_start(&s->command, &s->stream, &s->out, err);
	if (r < 0)
		return r;
	send_size(s);
	if (!carry(s))
		return davit_error_set(err, DAVIT_ECLOSED, NULL, "the terminal was hung up");
	if (!wait_for_end(&s->command, END_PATIENCE, false, &code, err))
		return err->code;
	dismiss_guard(s);
	return code;
}

static int catch_signals(struct davit_error *err)
{
	static const int all[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
				  SIGUSR2, SIGALRM, SIGCONT, SIGTSTP, SIGWINCH};
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(all); i++)
		sigaddset(&set, all[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		davit_error_errno(err, errno, NULL, "cannot make a signalfd");
	return fd;
}

/* An engine gives the death by a signal as a shell does: then that is our end too. */
static int end_as(int code)
{
	static const int fatal[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,	SIGTRAP, SIGABRT, SIGBUS, SIGFPE,
				    SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(fatal); i++)
		if (code == 128 + fatal[i])
			die_of(fatal[i]);
	return code;
}

int main(int argc, char **argv)
{
	struct session s = {.resizing = -1, .guard = -1, .stream = -1};
	struct termios before, raw;
	struct davit_error err = {0};
	bool is_terminal = tcgetattr(0, &before) == 0;
	int r;

	if (argc < 7) {
		fprintf(stderr, "usage: davit-engine-terminal SOCKET PREFIX CONTAINER USER DIRECTORY COMMAND...\n");
		return 2;
	}
	s.command = (struct command){.api = {.socket = argv[1], .prefix = argv[2]}, .container = argv[3]};
	raw = before;
	cfmakeraw(&raw);
	if (is_terminal)
		tcsetattr(0, TCSANOW, &raw);
	fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
	fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
	s.signals = catch_signals(&err);
	r = s.signals < 0 ? err.code : run(&s, argv, &err);
	if (r < 0)
		dprintf(1, "davit: %s\r\n", err.message);
	davit_buf_fini(&s.in);
	davit_buf_fini(&s.out);
	fcntl(0, F_SETFL, fcntl(0, F_GETFL) & ~O_NONBLOCK);
	fcntl(1, F_SETFL, fcntl(1, F_GETFL) & ~O_NONBLOCK);
	if (is_terminal)
		tcsetattr(0, TCSANOW, &before);
	return r < 0 ? FAILED : end_as(r);
}
