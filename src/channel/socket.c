/* SPDX-License-Identifier: MIT */
#include "channel/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { IN_SIZE = DAVIT_FRAME_HEADER + DAVIT_FRAME_MAX };

void davit_socket_init(struct davit_socket *s, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	*s = (struct davit_socket){.fd = fd, .pass = {-1, -1}, .got = {-1, -1}};
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void davit_socket_fini(struct davit_socket *s)
{
	if (s->fd >= 0)
		close(s->fd);
	for (int i = 0; i < 2; i++)
		if (s->got[i] >= 0)
			close(s->got[i]);
	davit_buf_fini(&s->urgent);
	davit_buf_fini(&s->bulk);
	free(s->in);
	*s = (struct davit_socket){.fd = -1, .pass = {-1, -1}, .got = {-1, -1}, .ended = true};
}

/* --- sending --- */

void davit_socket_pass(struct davit_socket *s, int a, int b)
{
	s->pass[0] = a;
	s->pass[1] = b;
}

/* As writev; bytes sent, which may be 0. */
static size_t out(struct davit_socket *s, struct iovec *iov, size_t n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {0};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
	size_t fds = (size_t)(s->pass[0] >= 0) + (s->pass[1] >= 0);
	long r;

	if (fds) {
		struct cmsghdr *c;
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds * sizeof(int));
		memcpy(CMSG_DATA(c), s->pass, fds * sizeof(int));
	}
	r = DAVIT_EINTR(sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT));
	if (r < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
		s->broken = true;
	if (r > 0)
		s->pass[0] = s->pass[1] = -1;
	return r > 0 ? (size_t)r : 0;
}

static void drop(struct davit_socket *s)
{
	davit_buf_fini(&s->urgent);
	davit_buf_fini(&s->bulk);
	s->partial = 0;
}

/* What is left of the frame in which the first n bytes of a queue end. */
static size_t left_of_frame(const struct davit_buf *b, size_t n)
{
	struct davit_frame f;
	size_t end = 0;

	while (end < n) {
		davit_frame_get((const unsigned char *)b->data + end, &f);
		end += DAVIT_FRAME_HEADER + f.size;
	}
	return end - n;
}

void davit_socket_flush(struct davit_socket *s)
{
	while (davit_socket_queued(s) && !s->broken) {
		struct davit_buf *b = &s->bulk;
		size_t n, want;
		if (s->partial ? s->partial_urgent : s->urgent.len > 0)
			b = &s->urgent;
		want = s->partial ? s->partial : b->len;
		n = out(s, &(struct iovec){b->data, want}, 1);
		s->partial = s->partial ? s->partial - n : left_of_frame(b, n);
		s->partial_urgent = b == &s->urgent;
		davit_buf_consume(b, n);
		if (n < want)
			break;
	}
	if (s->broken)
		drop(s);
}

void davit_socket_hold(struct davit_socket *s, bool on)
{
	bool was = s->held;

	s->held = on;
	if (was && !on)
		davit_socket_flush(s);
}

int davit_socket_send(struct davit_socket *s, const struct davit_frame *f, const char *from, const char *to,
		      const void *data, bool urgent)
{
	unsigned char header[DAVIT_FRAME_HEADER];
	size_t n = f->size - f->from - f->to, sent = 0, all = sizeof header + f->size;
	struct iovec iov[4] = {{header, sizeof header},
			       {(void *)(uintptr_t)from, f->from},
			       {(void *)(uintptr_t)to, f->to},
			       {(void *)(uintptr_t)data, n}};
	struct davit_buf *b = urgent ? &s->urgent : &s->bulk;

	if (s->broken || s->fd < 0)
		return 0;
	davit_frame_put(header, f);
	if (!davit_socket_queued(s) && !s->held)
		sent = out(s, iov, 4);
	if (sent == all || s->broken)
		return 0;
	if (davit_buf_reserve(b, all - sent))
		return DAVIT_ENOMEM; /* what was sent of it is lost with the channel: broken */
	if (sent) {
		s->partial = all - sent;
		s->partial_urgent = urgent;
	}
	for (int i = 0; i < 4; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
		if (iov[i].iov_len > skip)
			davit_buf_add(b, (char *)iov[i].iov_base + skip, iov[i].iov_len - skip);
		sent -= skip;
	}
	return 0;
}

/* --- receiving --- */

static void take_fds(struct davit_socket *s, struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (i < 2 && s->got[i] < 0)
				s->got[i] = fd;
			else
				close(fd);
		}
	}
}

int davit_socket_receive(struct davit_socket *s)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
	struct iovec iov;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	long r;

	if (!s->in) {
		if (!(s->in = malloc(IN_SIZE)))
			return DAVIT_ENOMEM;
		s->in_cap = IN_SIZE;
	}
	if (s->in_at) {
		memmove(s->in, s->in + s->in_at, s->in_n - s->in_at);
		s->in_n -= s->in_at;
		s->in_at = 0;
	}
	if (s->in_n == s->in_cap || s->ended)
		return 0;
	iov = (struct iovec){s->in + s->in_n, s->in_cap - s->in_n};
	r = DAVIT_EINTR(recvmsg(s->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
	s->drained = r < (long)iov.iov_len;
	if (r > 0) {
		take_fds(s, &m);
		s->in_n += (size_t)r;
		return 1;
	}
	if (!r || (errno != EAGAIN && errno != ENOMEM))
		s->ended = true;
	return 0;
}

int davit_socket_next(struct davit_socket *s, enum davit_channel_end end, struct davit_frame *ret,
		      const unsigned char **ret_body)
{
	size_t n = s->in_n - s->in_at;

	if (n < DAVIT_FRAME_HEADER)
		return 0;
	davit_frame_get(s->in + s->in_at, ret);
	if (davit_frame_check(ret, end))
		return DAVIT_EPROTO;
	if (n < DAVIT_FRAME_HEADER + ret->size)
		return 0;
	*ret_body = s->in + s->in_at + DAVIT_FRAME_HEADER;
	s->in_at += DAVIT_FRAME_HEADER + ret->size;
	return 1;
}
