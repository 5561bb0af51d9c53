/* SPDX-License-Identifier: MIT
 *
 * The daemon's socket, and the requests that come through it. One connection counts,
 * a new one replaces the old. The keeper never waits for it: no request is read until
 * the answers that it did not take are gone (tell.c).
 */
#include "keeper/launch.h"
#include "keeper/terminal.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define FDS_MAX 8
#define BODY_MAX (8u << 20)
#define REQUESTS_PER_TURN 32
#define TURN_NS (4 * DAVIT_NSEC_PER_MSEC)

int keeper_listen(struct keeper *k, struct davit_error *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char name[32];
	DAVIT_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a socket");
	snprintf(name, sizeof name, "keeper-%u.sock", k->index);
	/* The path of the directory may be longer than sun_path. */
	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", k->fd_run, name);
	unlinkat(k->fd_run, name, 0); /* we hold the lock: it is a dead one's */
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || fchmodat(k->fd_run, name, 0600, 0) < 0 ||
	    listen(fd, 8) < 0)
		return davit_error_errno(err, errno, NULL, "cannot listen on %s/%s", k->run_dir, name);
	k->fd_listen = DAVIT_TAKE_FD(fd);
	return 0;
}

static bool is_welcome(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

void keeper_accept(struct keeper *k)
{
	int fd = accept4(k->fd_listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (!is_welcome(fd)) {
		close(fd);
		return;
	}
	keeper_conn_close(k);
	k->conn = fd;
	k->conn_events = EPOLLIN;
	if (keeper_watch(k, fd, KEEPER_ON_CONN, (uint32_t)fd, 0, EPOLLIN) < 0)
		keeper_conn_close(k);
}

void keeper_conn_close(struct keeper *k)
{
	if (k->conn < 0)
		return;
	keeper_close(&k->conn);
	k->greeted = k->packs = false;
	k->reply_len = 0;
	keeper_close(&k->reply_fd);
	k->list_next = k->terms_next = KEEPER_NONE;
	/* The next daemon learns by LIST what has not been told. */
	KEEPER_FOREACH(i, &k->used)
	{
		keeper_slot(k, i)->flags &= ~(unsigned)KEEPER_TELL;
		keeper_slot(k, i)->n_stop_tags = 0;
	}
	keeper_launch_forget(k);
	keeper_terms_forget_tags(k);
	memset(&k->tell, 0, sizeof k->tell);
	k->tell_execs = false;
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++)
		if (k->file->execs[i].used && !k->file->execs[i].pid)
			k->file->execs[i].used = 0;
}

static bool lists(const struct keeper *k)
{
	return k->list_next != KEEPER_NONE || k->terms_next != KEEPER_NONE;
}

/* QUIT with KILL: the end, once the last stop is over. */
static void finish_quitting(struct keeper *k)
{
	struct keeper_header to = {.tag = k->quit_tag};

	if (!k->quitting || keeper_set_next(&k->stopping, 0) != KEEPER_NONE || keeper_terms_run(k))
		return;
	if (k->conn >= 0 && k->reply_len)
		return;
	k->quitting = false;
	k->quit = true;
	keeper_answer_done(k, &to, 0, NULL);
}

void keeper_conn_flush(struct keeper *k)
{
	uint32_t want;
	bool sent;

	finish_quitting(k);
	if (k->conn < 0) {
		k->reply_len = 0;
		keeper_close(&k->reply_fd);
		return;
	}
	sent = keeper_send_all(k);
	if (k->conn < 0)
		return;
	/* Requests are read while events wait, or two that wait to send would wait
	 * for each other; not while answers wait, which have little room. */
	want = (sent ? 0u : EPOLLOUT) | (k->reply_len || lists(k) ? 0u : EPOLLIN);
	if (want != k->conn_events) {
		struct epoll_event e = {.events = want,
					.data.u64 = (uint64_t)KEEPER_ON_CONN << 56 | (uint32_t)k->conn};
		epoll_ctl(k->epoll, EPOLL_CTL_MOD, k->conn, &e);
		k->conn_events = want;
	}
}

/* ----------------------------------------------------------------- receiving */

/* A message in a sealed memfd: nobody can change or cut it under us. */
static void request_in_memfd(struct keeper *k, int *fds, size_t n_fds)
{
	const int seals = F_SEAL_WRITE | F_SEAL_SHRINK;
	struct keeper_header to = keeper_next_start(k)->in.h;
	struct davit_error err;
	struct stat st;
	void *map = MAP_FAILED;

	if (n_fds > 0 && (fcntl(fds[0], F_GET_SEALS) & seals) == seals && fstat(fds[0], &st) == 0 &&
	    st.st_size == (off_t)to.total && to.total >= to.size && to.total <= BODY_MAX)
		map = mmap(NULL, to.total, PROT_READ, MAP_PRIVATE, fds[0], 0);
	if (map == MAP_FAILED) {
		davit_error_set(&err, DAVIT_EPROTO, NULL,
				"the message's memfd is missing, not sealed or not of its size");
		keeper_answer_done(k, &to, DAVIT_EPROTO, &err);
		return;
	}
	const struct keeper_header *h = map;
	if (h->type == to.type && h->total == to.total && h->size >= sizeof *h && h->size <= h->total) {
		keeper_request(k, h, fds + 1, n_fds - 1);
		keeper_finish_starts(k, 0); /* before the message goes */
	} else {
		davit_error_set(&err, DAVIT_EPROTO, NULL, "the message in the memfd has another header");
		keeper_answer_done(k, &to, DAVIT_EPROTO, &err);
	}
	munmap(map, to.total);
}

/* Reads and handles one packet. False when there is none or the connection is
 * gone. A start keeps the place of its message until it is finished. */
static bool receive(struct keeper *k)
{
	struct keeper_start *st;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	int fds[FDS_MAX];
	size_t n_fds = 0;
	ssize_t n;

	keeper_finish_starts(k, KEEPER_STARTS - 1);
	st = keeper_next_start(k);
	iov = (struct iovec){.iov_base = st->in.bytes, .iov_len = sizeof st->in};
	n = DAVIT_EINTR(recvmsg(k->conn, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT));

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		keeper_conn_close(k);
		return false;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fds, CMSG_DATA(c), n_fds * sizeof(int));
		}
	const struct keeper_header *h = &st->in.h;
	bool sound = (size_t)n >= sizeof *h && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
		     h->size >= sizeof *h && !h->id[sizeof h->id - 1];
	if (sound && h->flags & KEEPER_FLAG_MEMFD)
		request_in_memfd(k, fds, n_fds);
	else if (sound && h->total == (size_t)n && h->size <= h->total)
		keeper_request(k, h, fds, n_fds);
	else
		keeper_conn_close(k); /* not our protocol: nothing after it can be trusted */
	for (size_t i = 0; i < n_fds; i++)
		keeper_close(&fds[i]);
	return k->conn >= 0;
}

static bool has_room(const struct keeper *k)
{
	return k->reply_fd < 0 &&
	       k->reply_len + (k->n_starts + 1) * (size_t)KEEPER_REPLY_MAX <= sizeof k->reply;
}

/* Not for longer than a moment: what others wait for has its turn, and the first
 * of many answers is sent. Afterwards no start is under way. */
void keeper_conn_ready(struct keeper *k, uint32_t events)
{
	int64_t until = keeper_monotonic() + TURN_NS;

	for (int i = 0; i < REQUESTS_PER_TURN && !k->quit; i++)
		if (!has_room(k) || lists(k) || k->conn < 0 || !receive(k) || keeper_monotonic() > until)
			break;
	keeper_finish_starts(k, 0);
}
