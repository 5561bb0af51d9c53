/* SPDX-License-Identifier: MIT
 *
 * Whether a program that is to take the daemon's place is one.
 */
#include "daemon/daemon.h"

#include "base/start.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <uv.h>

/* How long it may take to tell its version. */
enum { CHECK_MS = 2000 };

/* Reads what the program prints, until its end, a line, or the deadline. */
static void read_line(int fd, char text[64])
{
	int64_t deadline = uv_hrtime() / 1000000 + CHECK_MS;
	size_t n = 0;
	ssize_t got = 1;

	while (got > 0 && n < 63 && !memchr(text, '\n', n)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = deadline - (int64_t)(uv_hrtime() / 1000000);
		if (left <= 0 || DAVIT_EINTR(poll(&p, 1, (int)left)) <= 0)
			break;
		got = DAVIT_EINTR(read(fd, text + n, 63 - n));
		n += got > 0 ? (size_t)got : 0;
	}
	text[n] = '\0';
}

int daemon_check_program(const char *program, struct davit_error *err)
{
	char *const argv[] = {(char *)"davitd", (char *)"--version", NULL};
	struct davit_start start = {
		.program = program,
		.argv = argv,
		.directory = "/",
		.in = DAVIT_START_IN_OWN_SESSION,
		.defaults = true,
		.closed = true,
	};
	char text[64];
	pid_t pid;
	int p[2], r;

	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, "program", "cannot make a pipe");
	start.fds[0] = start.fds[2] = -1;
	start.fds[1] = p[1];
	r = davit_start(&start, &pid);
	close(p[1]);
	if (r == 0) {
		read_line(p[0], text);
		kill(pid, SIGKILL);
		DAVIT_EINTR(waitpid(pid, NULL, 0));
	}
	close(p[0]);
	if (r)
		return davit_error_set(err, DAVIT_EEXEC, "program", "cannot execute %s: %s", program,
				       strerror(r));
	if (strncmp(text, "davitd ", 7) != 0)
		return davit_error_set(err, DAVIT_EEXEC, "program",
				       "%s is no daemon of davit: asked for its --version it does not say so",
				       program);
	return 0;
}
