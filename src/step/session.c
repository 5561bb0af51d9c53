/* SPDX-License-Identifier: MIT */
#include "step/session.h"

#include "base/file.h"
#include "base/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ERRORS_MAX 4096

void step_session_fini(struct step_session *s)
{
	if (s->stream >= 0)
		close(s->stream);
	davit_buf_fini(&s->packets);
	davit_buf_fini(&s->errors);
}

int step_session_read(struct step *ret, struct davit_buf *order, struct davit_error *err)
{
	struct stat st;

	if (fstat(STEP_DRIVER_ORDER, &st) < 0 || davit_buf_reserve(order, (size_t)st.st_size + 1) < 0 ||
	    pread(STEP_DRIVER_ORDER, order->data, (size_t)st.st_size, 0) != st.st_size)
		return davit_error_set(err, DAVIT_EINTERNAL, NULL, "the order of the step cannot be read");
	order->len = (size_t)st.st_size;
	/* What is added to the order later moves it: this is read from the file itself. */
	if (!step_order_read(STEP_DRIVER_ORDER, ret))
		return davit_error_set(err, DAVIT_EINTERNAL, NULL,
				       "the order of the step cannot be understood");
	return 0;
}

int step_session_program(struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_beside_program("davit-step");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	return fd < 0 ? davit_error_errno(err, errno, NULL, "cannot open davit-step") : fd;
}

void step_session_container(const char *id, char ret[STEP_CONTAINER_SIZE])
{
	snprintf(ret, STEP_CONTAINER_SIZE, "davit-step-%.16s", id);
}

void step_session_report(const struct step_report *r)
{
	while (send(STEP_DRIVER_STATUS, r, sizeof *r, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

void step_session_note(const char *fmt, ...)
{
	struct step_report r = {.kind = STEP_NOTE};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r.text, sizeof r.text, fmt, ap);
	va_end(ap);
	step_session_report(&r);
}

void step_session_fail(const struct davit_error *err, int code)
{
	struct step_report r = {.kind = STEP_FAILED, .code = code};

	snprintf(r.text, sizeof r.text, "%s", err->message);
	step_session_report(&r);
}

/* ----------------------------------------------------------------------- what it says */

static int take_report(struct step_session *s, const char *data, size_t n, struct davit_error *err)
{
	struct step_report r;

	if (n != sizeof r)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "what the container says makes no sense");
	memcpy(&r, data, sizeof r);
	r.text[sizeof r.text - 1] = '\0';
	if (r.kind == STEP_ENDED || r.kind == STEP_FAILED) {
		s->end = r;
		s->over = true;
	} else {
		step_session_report(&r);
	}
	return 0;
}

static int take_packet(struct step_session *s, const struct step_packet *p, const char *data,
		       struct davit_error *err)
{
	switch (p->channel) {
	case STEP_CHANNEL_OUT:
	case STEP_CHANNEL_ERR:
		/* The monitor reads all the time; without one nobody wants it. */
		return davit_write_full(STEP_DRIVER_OUT + (int)p->channel, data, p->length) < 0
			       ? davit_error_errno(err, errno, NULL, "nobody takes what the step writes")
			       : 0;
	case STEP_CHANNEL_REPORT:
		return take_report(s, data, p->length, err);
	default:
		return davit_error_set(err, DAVIT_EPROTO, NULL, "what the container says makes no sense");
	}
}

int step_session_read_stream(struct step_session *s, struct davit_buf *b, struct davit_error *err)
{
	ssize_t n;

	if (davit_buf_reserve(b, STEP_PACKET_MAX) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	n = read(s->stream, b->data + b->len, STEP_PACKET_MAX);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return step_session_ended(s, err);
	b->len += (size_t)n;
	return (int)n;
}

int step_session_take(struct step_session *s, struct davit_error *err)
{
	struct step_packet p;
	size_t at = 0;
	int r = 0;

	while (r == 0 && s->packets.len - at >= sizeof p) {
		memcpy(&p, s->packets.data + at, sizeof p);
		if (p.length > STEP_PACKET_MAX)
			return davit_error_set(err, DAVIT_EPROTO, NULL,
					       "what the container says makes no sense");
		if (s->packets.len - at - sizeof p < p.length)
			break;
		r = take_packet(s, &p, s->packets.data + at + sizeof p, err);
		at += sizeof p + p.length;
	}
	davit_buf_consume(&s->packets, at);
	return r;
}

void step_session_say(struct step_session *s, const char *text, size_t n)
{
	davit_buf_add(&s->errors, text, n);
	if (s->errors.len > ERRORS_MAX)
		davit_buf_consume(&s->errors, s->errors.len - ERRORS_MAX);
}

int step_session_ended(struct step_session *s, struct davit_error *err)
{
	while (s->errors.len && strchr("\r\n", s->errors.data[s->errors.len - 1]))
		s->errors.len--;
	return davit_error_set(err, DAVIT_EIO, NULL, "the container has ended: %.*s",
			       s->errors.len ? (int)s->errors.len : 15,
			       s->errors.len ? s->errors.data : "nobody says why");
}

/* ----------------------------------------------------------------------- what it is told */

/* Blocks: what is sent is small, but for the order, which davit-step reads first. */
static int tell(struct step_session *s, const void *data, size_t n, struct davit_error *err)
{
	for (size_t done = 0; done < n;) {
		struct pollfd fd = {s->stream, POLLOUT, 0};
		ssize_t k = send(s->stream, (const char *)data + done, n - done, MSG_NOSIGNAL);

		if (k < 0 && errno == EAGAIN)
			poll(&fd, 1, -1);
		else if (k < 0 && errno != EINTR)
			return davit_error_errno(err, errno, NULL, "the container does not listen");
		done += k > 0 ? (size_t)k : 0;
	}
	return 0;
}

static int pass_order(struct step_session *s, struct davit_error *err)
{
	struct step_order o;
	ssize_t n = recv(STEP_DRIVER_STATUS, &o, sizeof o, MSG_DONTWAIT);

	if (n == (ssize_t)sizeof o)
		return tell(s, &o, sizeof o, err);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	s->unwanted = true;
	return 0;
}

int step_session_order(struct step_session *s, const struct davit_buf *order, struct davit_error *err)
{
	uint64_t n = order->len;
	int r = tell(s, &n, sizeof n, err);

	return r < 0 ? r : tell(s, order->data, order->len, err);
}

int step_session_watch(struct step_session *s, struct davit_error *err)
{
	int r = step_session_take(s, err);

	while (r == 0 && !s->over && !s->unwanted) {
		struct pollfd fds[] = {{s->stream, POLLIN, 0}, {STEP_DRIVER_STATUS, POLLIN, 0}};

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return davit_error_errno(err, errno, NULL, "cannot wait");
		if (fds[0].revents)
			r = s->hear(s, err);
		if (r == 0 && fds[1].revents)
			r = pass_order(s, err);
	}
	return r;
}
