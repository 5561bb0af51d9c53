/* SPDX-License-Identifier: MIT
 *
 * davit-step as the first process of a container that somebody else made. What the monitor does on this
 * host is done by a driver over there; between the two is one connection, so all that the step says goes
 * through it in packets. When it closes, everything ends: a driver may be killed at any moment.
 */
#include "base/file.h"
#include "davit/error.h"
#include "step/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define ORDER_MAX (64 << 20)

struct inside {
	struct step step;
	pid_t init;
	int status;   /* socket to it */
	int children; /* signalfd */
	int pipes[2]; /* read ends of the step's streams; -1: at its end */
	bool has_end;
	struct step_report end;
	struct step_order order; /* as far as it has come */
	size_t n_order;
};

/* With nobody to hear it there is nothing left to do: the kernel ends the rest with us. */
static void say(enum step_channel channel, const void *data, size_t n)
{
	struct step_packet head = {channel, (uint32_t)n};

	if (davit_write_full(1, &head, sizeof head) < 0 || davit_write_full(1, data, n) < 0)
		_exit(1);
}

static bool read_full(int fd, void *to, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t got = DAVIT_EINTR(read(fd, (char *)to + done, n - done));
		if (got <= 0)
			return false;
		done += (size_t)got;
	}
	return true;
}

static bool read_order(struct step *s)
{
	uint64_t n;
	char *text;

	if (!read_full(0, &n, sizeof n) || !n || n > ORDER_MAX)
		return false;
	text = malloc(n);
	return text && read_full(0, text, n) && step_order_parse(text, n, s);
}

/* False at its end. */
static bool move(struct inside *in, int i)
{
	static char buf[STEP_PACKET_MAX];
	ssize_t n = DAVIT_EINTR(read(in->pipes[i], buf, sizeof buf));

	if (n > 0) {
		say(i ? STEP_CHANNEL_ERR : STEP_CHANNEL_OUT, buf, (size_t)n);
		return true;
	}
	close(in->pipes[i]);
	in->pipes[i] = -1;
	return false;
}

static void hear(struct inside *in)
{
	struct step_report r;

	while (recv(in->status, &r, sizeof r, MSG_DONTWAIT) == (ssize_t)sizeof r) {
		if (r.kind == STEP_FAILED || r.kind == STEP_ENDED) {
			in->has_end = true;
			in->end = r;
		} else {
			say(STEP_CHANNEL_REPORT, &r, sizeof r);
		}
	}
}

static void obey(struct inside *in)
{
	ssize_t n = DAVIT_EINTR(read(0, (char *)&in->order + in->n_order, sizeof in->order - in->n_order));

	if (n <= 0)
		_exit(0);
	in->n_order += (size_t)n;
	if (in->n_order < sizeof in->order)
		return;
	in->n_order = 0;
	if (in->order.verb == STEP_ORDER_KILL)
		kill(-1, SIGKILL);
	else
		send(in->status, &in->order, sizeof in->order, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Has init ended? Whoever is orphaned becomes ours. */
static bool reap(struct inside *in)
{
	bool gone = false;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		gone |= pid == in->init;
	return gone;
}

static void watch(struct inside *in)
{
	struct signalfd_siginfo info;

	for (;;) {
		struct pollfd fds[] = {{0, POLLIN, 0},
				       {in->status, POLLIN, 0},
				       {in->children, POLLIN, 0},
				       {in->pipes[0], POLLIN, 0},
				       {in->pipes[1], POLLIN, 0}};

		if (poll(fds, DAVIT_ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			_exit(1);
		if (fds[1].revents & POLLIN)
			hear(in);
		if (fds[0].revents)
			obey(in);
		for (int i = 0; i < 2; i++)
			if (fds[3 + i].revents)
				move(in, i);
		if (!fds[2].revents)
			continue;
		if (read(in->children, &info, sizeof info) < 0 && errno != EAGAIN)
			_exit(1);
		if (reap(in))
			return;
	}
}

static void finish(struct inside *in)
{
	struct timespec t;
	char c;

	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	hear(in);
	for (int i = 0; i < 2; i++)
		while (in->pipes[i] >= 0 && move(in, i))
			;
	if (!in->has_end) { /* it was killed */
		clock_gettime(CLOCK_REALTIME, &t);
		in->end = (struct step_report){.kind = STEP_ENDED, .status = SIGKILL};
		in->end.ended = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	}
	say(STEP_CHANNEL_REPORT, &in->end, sizeof in->end);
	/* The driver takes what it wants out of the container, and hangs up. */
	while (DAVIT_EINTR(read(0, &c, 1)) > 0)
		;
}

/* What brought us here is no business of the step's. */
static void disappear(void)
{
	unlink(STEP_INSIDE_PROGRAM);
	unlink(STEP_INSIDE_INPUT);
	rmdir(STEP_INSIDE_DIRECTORY);
}

/* Where the program looks for it. */
static bool open_input(const struct step *s)
{
	int fd = s->options.input ? open(STEP_INSIDE_INPUT, O_RDONLY | O_CLOEXEC) : -1;

	return !s->options.input || fd == STEP_FD_INPUT || dup3(fd, STEP_FD_INPUT, O_CLOEXEC) >= 0;
}

int step_inside(void)
{
	static struct inside in = {.status = -1, .pipes = {-1, -1}, .step = {.inside = true}};
	int out[2], err[2], status[2];
	sigset_t child;

	if (!read_order(&in.step) || !open_input(&in.step))
		return 1;
	disappear();
	in.step.rootless = in.step.options.rootless;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	in.children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (in.children < 0 || sigprocmask(SIG_BLOCK, &child, NULL) < 0 || pipe2(out, O_CLOEXEC) < 0 ||
	    pipe2(err, O_CLOEXEC) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) < 0)
		return 1;
	in.step.status_fd = status[1];
	in.init = fork();
	if (in.init < 0)
		return 1;
	if (!in.init) {
		close(status[0]);
		step_init_inside(&in.step, out[1], err[1]);
	}
	close(status[1]);
	close(out[1]);
	close(err[1]);
	in.status = status[0];
	in.pipes[0] = out[0];
	in.pipes[1] = err[0];
	watch(&in);
	finish(&in);
	return 0;
}
