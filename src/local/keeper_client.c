/* SPDX-License-Identifier: MIT */
#include "local/keeper_client.h"

#include "base/units.h"
#include "davit/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Answers and events are a struct, a label and a status: far below this. */
#define RECEIVE_MAX 16384
/* Messages taken in one wakeup, so that a storm of exits leaves room for others. */
#define RECEIVE_BUDGET 512
#define PAUSE_MIN (20 * DAVIT_NSEC_PER_MSEC)
#define PAUSE_MAX (5 * DAVIT_NSEC_PER_SEC)
#define ATTEMPT_MAX (10 * DAVIT_NSEC_PER_SEC)
#define FDS_MAX 4
#define MESSAGE_MAX (8u << 20) /* what a keeper takes in a memory file */

struct packet {
	struct davit_list list;
	int fds[FDS_MAX];
	size_t n_fds, len;
	char data[];
};

static void close_fds(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

/* ------------------------------------------------------------------- requests */

static int request_add(struct keeper_client *k, struct keeper_request *q)
{
	uint32_t n = k->table_len, i = 0;

	/* Requests end soon and roughly in order: the search is short. */
	if (n)
		for (i = k->generation % n; i < n && k->table[i]; i++)
			;
	if (n && i == n)
		for (i = 0; i < n && k->table[i]; i++)
			;
	if (i == n) {
		uint32_t len = n ? n * 2 : 64;
		struct keeper_request **t = reallocarray(k->table, len, sizeof(struct keeper_request *));

		if (!t)
			return DAVIT_ENOMEM;
		memset(t + n, 0, (len - n) * sizeof(struct keeper_request *));
		k->table = t;
		k->table_len = len;
	}
	k->generation++;
	q->tag = (uint64_t)k->generation << 32 | (i + 1);
	k->table[i] = q;
	return 0;
}

static struct keeper_request *request_of(struct keeper_client *k, uint64_t tag)
{
	uint32_t i = (uint32_t)tag;
	struct keeper_request *q = i && i <= k->table_len ? k->table[i - 1] : NULL;

	return q && q->tag == tag ? q : NULL;
}

void keeper_client_forget(struct keeper_client *k, struct keeper_request *q)
{
	if (q->tag && request_of(k, q->tag) == q)
		k->table[(uint32_t)q->tag - 1] = NULL;
	q->tag = 0;
}

static void requests_fail(struct keeper_client *k, const struct davit_error *why)
{
	for (uint32_t i = 0; i < k->table_len; i++) {
		struct keeper_request *q = k->table[i];

		if (!q)
			continue;
		keeper_client_forget(k, q);
		q->answer(q, NULL, why);
	}
}

/* ----------------------------------------------------------------- connection */

static void disconnect(struct keeper_client *k)
{
	struct packet *p, *tmp;

	local_poll_close(DAVIT_TAKE(k->poll));
	local_poll_close(DAVIT_TAKE(k->launch_poll));
	if (k->fd >= 0)
		close(DAVIT_TAKE_FD(k->fd));
	if (k->launch_fd >= 0)
		close(DAVIT_TAKE_FD(k->launch_fd));
	davit_timer_stop(&k->timer);
	DAVIT_LIST_FOREACH_SAFE (p, tmp, &k->queue, list) {
		davit_list_remove(&p->list);
		close_fds(p->fds, p->n_fds);
		free(p);
	}
	k->phase = KEEPER_CLIENT_DOWN;
}

static void reap(struct keeper_client *k)
{
	if (k->child > 0 && waitpid(k->child, NULL, WNOHANG) != 0)
		k->child = 0;
}

/* The end of a connection or of an attempt: tells everybody, tries again later. */
static void lose(struct keeper_client *k, const struct davit_error *why)
{
	struct davit_error copy = *why;

	disconnect(k);
	davit_deferred_cancel(&k->breakdown);
	reap(k);
	davit_timer_start(&k->timer, k->pause);
	k->pause = k->pause * 2 > PAUSE_MAX ? PAUSE_MAX : k->pause * 2;
	requests_fail(k, &copy);
	k->callbacks->down(k, &copy);
}

static void lose_because(struct keeper_client *k, int code, const char *text)
{
	struct davit_error why = {0};

	davit_error_set(&why, code, "keeper", "%s", text);
	lose(k, &why);
}

static void on_breakdown(struct davit_deferred *d)
{
	struct keeper_client *k = DAVIT_CONTAINER_OF(d, struct keeper_client, breakdown);

	lose(k, &k->why);
}

/* 1 sent, 0 not now, -1 the connection is broken (k->why). */
static int transmit(struct keeper_client *k, const void *data, size_t len, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds) {
		struct cmsghdr *c = &control.align;

		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	if (DAVIT_EINTR(sendmsg(k->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL)) >= 0)
		return 1;
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
		return 0;
	davit_error_errno(&k->why, errno, "keeper", "cannot send to the keeper");
	k->why.code = DAVIT_EUNAVAIL;
	return -1;
}

static void flush(struct keeper_client *k)
{
	struct packet *p, *tmp;

	DAVIT_LIST_FOREACH_SAFE (p, tmp, &k->queue, list) {
		int r = transmit(k, p->data, p->len, p->fds, p->n_fds);

		if (r < 0)
			davit_defer(&k->breakdown);
		if (r <= 0)
			return;
		davit_list_remove(&p->list);
		close_fds(p->fds, p->n_fds);
		free(p);
	}
	local_poll_set(k->poll, LOCAL_READABLE);
}

static int enqueue(struct keeper_client *k, const void *data, size_t len, const int *fds, size_t n_fds)
{
	struct packet *p = malloc(sizeof *p + len);

	if (!p)
		return DAVIT_ENOMEM;
	p->len = len;
	p->n_fds = n_fds;
	if (n_fds)
		memcpy(p->fds, fds, n_fds * sizeof(int));
	memcpy(p->data, data, len);
	davit_list_init(&p->list);
	davit_list_add_tail(&k->queue, &p->list);
	local_poll_set(k->poll, LOCAL_READABLE | LOCAL_WRITABLE);
	return 0;
}

/* Puts a message that does not fit a packet into a sealed memory file, as a whole:
 * its descriptor comes first, before those of the request. */
static int to_memfd(const struct davit_buf *packet, int *ret_fd, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = memfd_create("davit-keeper-request", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || davit_write_full(fd, packet->data, packet->len) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return davit_error_errno(err, errno, "keeper",
					 "cannot make a memory file for a large request");
	*ret_fd = DAVIT_TAKE_FD(fd);
	return 0;
}

static int deliver(struct keeper_client *k, struct davit_buf *packet, int *fds, size_t *n_fds,
		   struct davit_error *err)
{
	struct keeper_header *h = (void *)packet->data;
	size_t len = packet->len;
	int r = 0;

	if (len > KEEPER_PACKET_MAX) {
		int fd = -1;

		r = to_memfd(packet, &fd, err);
		if (r < 0)
			return r;
		memmove(fds + 1, fds, *n_fds * sizeof(int));
		fds[0] = fd;
		(*n_fds)++;
		h->flags |= KEEPER_FLAG_MEMFD;
		len = sizeof *h;
	}
	if (davit_list_empty(&k->queue))
		r = transmit(k, packet->data, len, fds, *n_fds);
	if (r == 0) {
		r = enqueue(k, packet->data, len, fds, *n_fds);
		if (r < 0)
			return davit_error_set(err, r, "keeper", "out of memory");
		*n_fds = 0;
		return 0;
	}
	if (r < 0)
		davit_defer(&k->breakdown);
	return 0;
}

int keeper_client_send(struct keeper_client *k, struct davit_buf *packet, const int *fds, size_t n_fds,
		       struct keeper_request *q, struct davit_error *err)
{
	struct keeper_header *h = (void *)packet->data;
	int own[FDS_MAX], r;

	if (n_fds)
		memcpy(own, fds, n_fds * sizeof(int));
	if (packet->oom)
		r = davit_error_set(err, DAVIT_ENOMEM, "keeper", "out of memory");
	else if (packet->len > MESSAGE_MAX)
		r = davit_error_set(err, DAVIT_EINVAL, "keeper",
				    "arguments and environment take %zu bytes, more than %u", packet->len,
				    MESSAGE_MAX);
	else if (k->phase != KEEPER_CLIENT_UP)
		r = davit_error_set(err, DAVIT_EUNAVAIL, "keeper",
				    "the keeper of local processes does not answer");
	else if (q && request_add(k, q) < 0)
		r = davit_error_set(err, DAVIT_ENOMEM, "keeper", "out of memory");
	else {
		h->total = (uint32_t)packet->len;
		h->tag = q ? q->tag : 0;
		r = deliver(k, packet, own, &n_fds, err);
		if (r < 0 && q)
			keeper_client_forget(k, q);
	}
	close_fds(own, n_fds);
	return r;
}

/* ------------------------------------------------------------------ receiving */

static void on_welcome(struct keeper_client *k, const struct keeper_header *h)
{
	const struct keeper_welcome *w = (const void *)h;

	if (h->type != KEEPER_WELCOME || h->size < sizeof *w || !w->version) {
		lose_because(k, DAVIT_EPROTO, "the keeper did not greet as agreed");
		return;
	}
	davit_timer_stop(&k->timer);
	k->phase = KEEPER_CLIENT_UP;
	k->pause = PAUSE_MIN;
	k->pid = w->pid;
	k->slots_used = w->slots_used;
	k->slots_max = w->slots_max;
	k->callbacks->up(k, w);
}

static void dispatch(struct keeper_client *k, const struct keeper_header *h)
{
	struct keeper_request *q;

	if (k->phase == KEEPER_CLIENT_GREETING) {
		on_welcome(k, h);
		return;
	}
	if (!h->tag) {
		k->callbacks->event(k, h);
		return;
	}
	q = request_of(k, h->tag);
	if (!q)
		return; /* forgotten */
	if (h->type != KEEPER_INSTANCE && h->type != KEEPER_TERMINAL_INFO &&
	    !(q->lasting && h->type == KEEPER_SPAWNED))
		keeper_client_forget(k, q);
	q->answer(q, h, NULL);
}

static bool well_formed(const struct keeper_header *h, size_t len)
{
	return len >= sizeof *h && h->size >= sizeof *h && h->size <= h->total && h->total <= len &&
	       (h->total == len || h->total % 8 == 0) && memchr(h->id, '\0', sizeof h->id);
}

static void makes_no_sense(struct keeper_client *k)
{
	lose_because(k, DAVIT_EPROTO, "the keeper sent a message that makes no sense");
}

/* The messages of a packet. A message may end the connection. */
static void dispatch_all(struct keeper_client *k, const char *buf, size_t len)
{
	for (size_t at = 0; at < len && k->fd >= 0;) {
		const struct keeper_header *h = (const void *)(buf + at);
		if (!well_formed(h, len - at)) {
			makes_no_sense(k);
			return;
		}
		at += h->total;
		dispatch(k, h);
	}
}

int keeper_client_take_fd(struct keeper_client *k)
{
	return DAVIT_TAKE_FD(k->answer_fd);
}

/* recv with MSG_TRUNC, and k->answer_fd. */
static ssize_t receive(struct keeper_client *k, char *buf, size_t size)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = DAVIT_EINTR(recvmsg(k->fd, &m, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC));
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len >= CMSG_LEN(sizeof(int)))
		memcpy(&k->answer_fd, CMSG_DATA(c), sizeof k->answer_fd);
	return n;
}

static void on_socket(void *user, int events)
{
	struct keeper_client *k = user;
	_Alignas(8) char buf[RECEIVE_MAX];

	if (events & LOCAL_WRITABLE)
		flush(k);
	for (int i = 0; i < RECEIVE_BUDGET && k->fd >= 0; i++) {
		/* One byte is kept for a NUL: strings behind the struct end in any case. */
		ssize_t n = receive(k, buf, sizeof buf - 1);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			lose_because(k, DAVIT_EUNAVAIL, "the keeper of local processes ended");
			return;
		}
		if ((size_t)n > sizeof buf - 1) {
			makes_no_sense(k);
			return;
		}
		buf[n] = '\0';
		dispatch_all(k, buf, (size_t)n);
		if (k->answer_fd >= 0)
			close(DAVIT_TAKE_FD(k->answer_fd)); /* nobody took it */
	}
}

/* ------------------------------------------------------------------ connecting */

/* Only our own user (or root) may be on the other side. */
static bool trusted(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) &&
	       (cred.uid == geteuid() || cred.uid == 0);
}

static int greet(struct keeper_client *k)
{
	struct keeper_hello hello = {
		.h = {.type = KEEPER_HELLO, .size = sizeof hello, .total = sizeof hello, .tag = 0},
		.version = KEEPER_PROTOCOL_VERSION,
	};
	int r = local_poll_open(k->place->loop, k->fd, LOCAL_READABLE, on_socket, k, &k->poll, &k->why);

	if (r < 0)
		return r;
	if (transmit(k, &hello, sizeof hello, NULL, 0) <= 0)
		return k->why.code ? k->why.code : DAVIT_EUNAVAIL;
	k->phase = KEEPER_CLIENT_GREETING;
	davit_timer_start(&k->timer, ATTEMPT_MAX);
	return 0;
}

/* 1 connected, 0 nobody listens, or a code in k->why. */
static int try_connect(struct keeper_client *k)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	/* Through the directory's descriptor: sun_path holds 108 bytes only. */
	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/keeper-%u.sock", k->place->run_fd,
		 k->index);
	k->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->fd < 0)
		return davit_error_errno(&k->why, errno, "keeper", "cannot make a socket");
	if (connect(k->fd, (struct sockaddr *)&a, sizeof a) < 0) {
		int e = errno;

		close(DAVIT_TAKE_FD(k->fd));
		if (e == ENOENT || e == ECONNREFUSED)
			return 0;
		return davit_error_errno(&k->why, e, "keeper", "cannot connect to %s/keeper-%u.sock",
					 k->place->run_dir, k->index);
	}
	if (!trusted(k->fd))
		return davit_error_set(&k->why, DAVIT_EPERM, "keeper",
				       "%s/keeper-%u.sock is held by a process of another user",
				       k->place->run_dir, k->index);
	return 1;
}

/* The launcher's standard error ends when it does. */
static void on_launched(void *user, int events)
{
	struct keeper_client *k = user;
	char text[512];
	ssize_t n = DAVIT_EINTR(read(k->launch_fd, text, sizeof text));
	int status = 0, r;

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0) {
		if (k->complaint.len < sizeof text)
			davit_buf_add(&k->complaint, text, (size_t)n);
		return;
	}
	local_poll_close(DAVIT_TAKE(k->launch_poll));
	close(DAVIT_TAKE_FD(k->launch_fd));
	/* It has closed its last descriptor, so that this does not wait. */
	DAVIT_EINTR(waitpid(k->child, &status, 0));
	k->child = 0;
	while (k->complaint.len && k->complaint.data[k->complaint.len - 1] == '\n')
		k->complaint.data[--k->complaint.len] = '\0';
	r = try_connect(k);
	if (r == 1)
		r = greet(k);
	else if (r == 0)
		r = davit_error_set(&k->why, DAVIT_EUNAVAIL, "keeper",
				    "the keeper of local processes did not start: %s",
				    status && k->complaint.len ? k->complaint.data : "it does not listen");
	if (r < 0)
		lose(k, &k->why);
}

static void attempt(struct keeper_client *k)
{
	int r;

	davit_error_clear(&k->why);
	r = try_connect(k);
	if (r == 1)
		r = greet(k);
	else if (r == 0) {
		davit_buf_reset(&k->complaint);
		r = keeper_launch(k->place, k->index, &k->child, &k->launch_fd, &k->why);
		if (!r)
			r = local_poll_open(k->place->loop, k->launch_fd, LOCAL_READABLE, on_launched, k,
					    &k->launch_poll, &k->why);
		if (!r) {
			k->phase = KEEPER_CLIENT_LAUNCHING;
			davit_timer_start(&k->timer, ATTEMPT_MAX);
		}
	}
	if (r < 0)
		lose(k, &k->why);
}

static void on_timer(struct davit_timer *t)
{
	struct keeper_client *k = DAVIT_CONTAINER_OF(t, struct keeper_client, timer);

	if (k->phase == KEEPER_CLIENT_DOWN)
		attempt(k);
	else
		lose_because(k, DAVIT_EUNAVAIL, "the keeper of local processes did not answer within 10 s");
}

void keeper_client_open(struct keeper_client *k, unsigned index, const struct keeper_place *place,
			const struct keeper_callbacks *callbacks, void *user)
{
	*k = (struct keeper_client){
		.callbacks = callbacks,
		.user = user,
		.index = index,
		.place = place,
		.fd = -1,
		.launch_fd = -1,
		.answer_fd = -1,
		.pause = PAUSE_MIN,
	};
	davit_list_init(&k->queue);
	davit_timer_init(&k->timer, place->loop, on_timer);
	davit_deferred_init(&k->breakdown, place->loop, on_breakdown);
	davit_timer_start(&k->timer, 0);
}

void keeper_client_close(struct keeper_client *k)
{
	disconnect(k);
	davit_deferred_cancel(&k->breakdown);
	reap(k);
	davit_buf_fini(&k->complaint);
	free(k->table);
	k->table = NULL;
	k->table_len = 0;
}
