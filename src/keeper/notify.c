/* SPDX-License-Identifier: MIT
 *
 * Readiness: sd_notify datagrams on a socket of the instance's own, or a newline
 * on a descriptor.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Beneath run_dir. */
static void notify_name(const struct keeper_slot *s, char name[48])
{
	snprintf(name, 48, "notify/%s", s->id);
}

static int bind_socket(struct keeper *k, struct keeper_slot *s, int fd, struct davit_error *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	socklen_t len = sizeof a;
	char name[48];

	if (s->notify_abstract) {
		int n = snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "davit/notify/%s", s->id);
		len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	} else {
		if (mkdirat(k->fd_run, "notify", 0700) < 0 && errno != EEXIST)
			return davit_error_errno(err, errno, NULL, "cannot make %s/notify", k->run_dir);
		notify_name(s, name);
		unlinkat(k->fd_run, name, 0);
		snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", k->fd_run, name);
	}
	if (bind(fd, (struct sockaddr *)&a, len) < 0)
		return davit_error_errno(err, errno, NULL, "cannot bind the notification socket");
	return 0;
}

static int open_socket(struct keeper *k, struct keeper_slot *s, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, r;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make the notification socket");
	r = bind_socket(k, s, fd, err);
	if (r < 0)
		return r;
	if (keeper_watch(k, fd, KEEPER_ON_NOTIFY, keeper_slot_number(k, s), s->generation, EPOLLIN) < 0)
		return davit_error_errno(err, errno, NULL, "cannot watch the notification socket");
	s->fd_notify = DAVIT_TAKE_FD(fd);
	return 0;
}

static int open_ready_pipe(struct keeper *k, struct keeper_slot *s, const struct keeper_spawn *f,
			   int *ret_child_fd, struct davit_error *err)
{
	int p[2];

	if (f->ready_fd < 3 || f->ready_fd > 1000)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "readiness descriptor %d is not within 3 to 1000", f->ready_fd);
	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make the readiness pipe");
	if (fcntl(p[0], F_SETFL, O_NONBLOCK) < 0 ||
	    keeper_watch(k, p[0], KEEPER_ON_READY, keeper_slot_number(k, s), s->generation, EPOLLIN) < 0) {
		int r = davit_error_errno(err, errno, NULL, "cannot watch the readiness pipe");
		close(p[0]);
		close(p[1]);
		return r;
	}
	s->fd_ready = p[0];
	*ret_child_fd = p[1];
	return 0;
}

int keeper_notify_open(struct keeper *k, struct keeper_slot *s, const struct keeper_spawn *f,
		       int *ret_child_fd, char variable[160], struct davit_error *err)
{
	struct sockaddr_un *a;

	variable[0] = '\0';
	keeper_notify_close(k, s);
	s->notify_wanted = f->ready == DAVIT_READY_NOTIFY;
	/* Another user cannot pass the private run directory, and nobody connects
	 * by a path that a socket's address does not hold. */
	s->notify_abstract = (f->set_user && f->uid != geteuid()) ||
			     strlen(k->run_dir) + sizeof "/notify/" + strlen(s->id) > sizeof a->sun_path;
	if (s->notify_wanted) {
		if (s->notify_abstract)
			snprintf(variable, 160, "NOTIFY_SOCKET=@davit/notify/%s", s->id);
		else
			snprintf(variable, 160, "NOTIFY_SOCKET=%s/notify/%s", k->run_dir, s->id);
		return open_socket(k, s, err);
	}
	if (f->ready == DAVIT_READY_FD)
		return open_ready_pipe(k, s, f, ret_child_fd, err);
	return 0;
}

void keeper_notify_reopen(struct keeper *k, struct keeper_slot *s)
{
	open_socket(k, s, NULL);
}

void keeper_notify_close(struct keeper *k, struct keeper_slot *s)
{
	char name[48];

	if (s->fd_notify >= 0 && !s->notify_abstract) {
		notify_name(s, name);
		unlinkat(k->fd_run, name, 0);
	}
	keeper_close(&s->fd_notify);
	keeper_close(&s->fd_ready);
}

static void become_ready(struct keeper *k, struct keeper_slot *s)
{
	if (s->flags & KEEPER_IS_READY)
		return;
	s->flags |= KEEPER_IS_READY;
	keeper_tell(k, s, KEEPER_TELL_READY);
}

/* The service says that another of its processes is the main one. */
static void change_main(struct keeper *k, struct keeper_slot *s, const char *text)
{
	char *end;
	long pid = strtol(text, &end, 10);
	struct keeper_stat st;
	int fd;

	if (*end || pid <= 1 || pid > INT32_MAX || pid == s->pid || pid == getpid() ||
	    keeper_slot_of_pid(k, (pid_t)pid) || keeper_stat((pid_t)pid, &st) != 0)
		return;
	fd = keeper_pidfd((pid_t)pid, st.start_ticks);
	if (fd < 0 || !keeper_is_member(k, s, (pid_t)pid)) {
		keeper_close(&fd);
		return;
	}
	/* Both are watched under the slot's number: the old one's event finds that
	 * the present main process lives, and the sweep reaps it. */
	if (keeper_watch(k, fd, KEEPER_ON_PID, keeper_slot_number(k, s), s->generation, EPOLLIN) < 0) {
		keeper_close(&fd);
		return;
	}
	keeper_close(&s->fd_pid);
	s->fd_pid = fd;
	s->start_ticks = st.start_ticks;
	s->flags &= ~(unsigned)KEEPER_CHILD;
	keeper_slot_set_pid(k, s, (pid_t)pid);
}

static void assignment(struct keeper *k, struct keeper_slot *s, char *line)
{
	if (!strcmp(line, "READY=1")) {
		become_ready(k, s);
	} else if (!strcmp(line, "STOPPING=1")) {
		if (keeper_status_set(k, s, "stopping"))
			keeper_tell(k, s, KEEPER_TELL_STATUS);
	} else if (!strncmp(line, "STATUS=", 7)) {
		if (keeper_status_set(k, s, line + 7))
			keeper_tell(k, s, KEEPER_TELL_STATUS);
	} else if (!strncmp(line, "MAINPID=", 8) && !(s->flags & KEEPER_LAUNCHING)) {
		change_main(k, s, line + 8);
	}
}

/* One datagram. False when there is none. */
static bool receive(struct keeper *k, struct keeper_slot *s)
{
	char text[2048], *save, *line;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(64 * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = text, .iov_len = sizeof text - 1};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct ucred sender = {0};
	ssize_t n = DAVIT_EINTR(recvmsg(s->fd_notify, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT));

	if (n < 0)
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&sender, CMSG_DATA(c), sizeof sender);
		else if (c->cmsg_type == SCM_RIGHTS) /* FDSTORE: not kept */
			for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
				int fd;
				memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
				close(fd);
			}
	}
	if (m.msg_flags & MSG_TRUNC || sender.pid <= 0 || s->state != KEEPER_SLOT_RUNNING ||
	    !keeper_is_member(k, s, sender.pid))
		return true;
	text[n] = '\0';
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		assignment(k, s, line);
	return true;
}

void keeper_notify_readable(struct keeper *k, struct keeper_slot *s)
{
	/* Bounded, so that one that talks without end does not starve the others. */
	for (int i = 0; i < 16 && s->fd_notify >= 0 && receive(k, s); i++)
		;
}

void keeper_ready_readable(struct keeper *k, struct keeper_slot *s)
{
	char buf[256];
	ssize_t n = DAVIT_EINTR(read(s->fd_ready, buf, sizeof buf));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0 && !memchr(buf, '\n', (size_t)n))
		return;
	if (n > 0)
		become_ready(k, s);
	keeper_close(&s->fd_ready); /* said, or closed without a word */
}
