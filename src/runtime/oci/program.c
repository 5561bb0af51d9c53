/* SPDX-License-Identifier: MIT
 *
 * Running a program to its end, in a thread.
 */
#include "runtime/oci/impl.h"

#include "base/start.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Reads both outputs until they are closed; what is more than can be of use is dropped. */
static void listen_to(struct oci_child *c, int out, int err, struct davit_buf *why)
{
	struct pollfd p[2] = {{.fd = out, .events = POLLIN}, {.fd = err, .events = POLLIN}};
	struct davit_buf *text[2] = {&c->out, why};
	char chunk[4096];

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (DAVIT_EINTR(poll(p, 2, -1)) < 0)
			return;
		for (int i = 0; i < 2; i++) {
			ssize_t n = p[i].revents ? DAVIT_EINTR(read(p[i].fd, chunk, sizeof chunk)) : 1;

			if (n <= 0)
				p[i].fd = -1;
			else if (p[i].revents && text[i]->len < 1 << 20)
				davit_buf_add(text[i], chunk, (size_t)n);
			if (n > 0 && i == 0 && p[i].revents && c->heard)
				c->heard(c);
		}
	}
}

int oci_child_run(struct oci_child *c, char *const argv[], struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int out = -1;
	DAVIT_AUTO_CLOSE int said = -1;
	DAVIT_AUTO_BUF why = DAVIT_BUF_INIT;
	int p[2], q[2], e, status = 0, pidfd;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	out = p[0];
	if (pipe2(q, O_CLOEXEC) < 0) {
		close(p[1]);
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	}
	said = q[0];
	e = davit_start_program(argv[0], argv, (const int[]){c->in, p[1], q[1]}, false, &pid);
	close(p[1]);
	close(q[1]);
	if (e)
		return davit_error_errno(err, e, NULL, "cannot execute %s", argv[0]);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	atomic_store(&c->pidfd, pidfd + 1);
	if (atomic_load(&c->cancelled))
		oci_child_cancel(c);
	listen_to(c, out, said, &why);
	e = DAVIT_EINTR(waitpid(pid, &status, 0)) < 0 ? errno : 0;
	if (e)
		return davit_error_errno(err, e, NULL, "cannot wait for %s", argv[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	while (why.len && why.data[why.len - 1] == '\n')
		why.data[--why.len] = '\0';
	return davit_error_set(err, DAVIT_EIO, NULL, "%s failed: %s", argv[0],
			       why.len ? davit_buf_str(&why) : "it gave no reason");
}

void oci_child_cancel(struct oci_child *c)
{
	int pidfd;

	atomic_store(&c->cancelled, true);
	pidfd = atomic_load(&c->pidfd) - 1;
	if (pidfd >= 0)
		syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
}

void oci_child_fini(struct oci_child *c)
{
	int pidfd = atomic_load(&c->pidfd) - 1;

	davit_buf_fini(&c->out);
	if (pidfd >= 0)
		close(pidfd);
}

int oci_run(int in, char *const argv[], struct davit_error *err)
{
	struct oci_child c = {.in = in};
	int r = oci_child_run(&c, argv, err);

	oci_child_fini(&c);
	return r;
}
