/* SPDX-License-Identifier: MIT */
#include "runtime/engine/terminal/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define ANSWER_MAX (1 << 20)
#define PATIENCE_S 10

static int connect_to(const struct api *a, int *ret_fd, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = a->patience ? a->patience : PATIENCE_S};

	if (strlen(a->socket) >= sizeof to.sun_path)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%s is too long for a socket", a->socket);
	memcpy(to.sun_path, a->socket, strlen(a->socket) + 1);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
	    DAVIT_EINTR(connect(fd, (struct sockaddr *)&to, sizeof to)) < 0)
		return davit_error_set(err, DAVIT_EUNAVAIL, NULL, "cannot connect to %s: %s", a->socket,
				       strerror(errno));
	*ret_fd = DAVIT_TAKE_FD(fd);
	return 0;
}

static int send_all(int fd, const struct davit_buf *b, struct davit_error *err)
{
	size_t done = 0;
	ssize_t n;

	if (b->oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	while (done < b->len) {
		n = DAVIT_EINTR(send(fd, b->data + done, b->len - done, MSG_NOSIGNAL));
		if (n < 0)
			return davit_error_set(err, DAVIT_EUNAVAIL, NULL, "the engine does not listen");
		done += (size_t)n;
	}
	return 0;
}

/* Some more of the answer. 1, 0 at its end, or a code. */
static int receive(int fd, struct davit_buf *in, struct davit_error *err)
{
	ssize_t n;

	if (in->len > ANSWER_MAX)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the engine's answer has no end");
	if (davit_buf_reserve(in, 16384) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	n = DAVIT_EINTR(recv(fd, in->data + in->len, 16384, 0));
	if (n < 0)
		return davit_error_set(err, DAVIT_EUNAVAIL, NULL, "the engine does not answer");
	in->len += (size_t)n;
	in->data[in->len] = '\0';
	return n > 0;
}

/* Its status and where its body begins, once the head is there; 0 before. */
static int head_of(const struct davit_buf *in, size_t *ret_body)
{
	const char *end = strstr(davit_buf_str(in), "\r\n\r\n");
	int status;

	if (!end || sscanf(in->data, "HTTP/1.%*1d %3d", &status) != 1)
		return 0;
	*ret_body = (size_t)(end + 4 - in->data);
	return status;
}

static int code_of(int status)
{
	switch (status) {
	case 404:
		return DAVIT_ENOENT;
	case 409:
		return DAVIT_ESTATE;
	default:
		return DAVIT_EIO;
	}
}

static int refused(int status, const char *body, struct davit_error *err)
{
	json_t *o = json_loads(body, 0, NULL);
	const char *message = json_string_value(json_object_get(o, "message"));
	int code = code_of(status);

	if (message)
		davit_error_set(err, code, NULL, "%s", message);
	else
		davit_error_set(err, code, NULL, "HTTP status %d", status);
	json_decref(o);
	return code;
}

int api_call(const struct api *a, const char *method, const char *path, const struct davit_buf *body,
	     json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT, in = DAVIT_BUF_INIT;
	int status, r = connect_to(a, &fd, err);
	size_t at = 0;

	/* 1.0: the answer is not in chunks, and its end is the connection's. */
	davit_buf_addf(&out, "%s %s%s HTTP/1.0\r\nHost: engine\r\n", method, a->prefix, path);
	if (body)
		davit_buf_addf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
			       body->len);
	else
		davit_buf_adds(&out, "\r\n");
	if (body)
		davit_buf_add(&out, body->data, body->len);
	if (r == 0)
		r = send_all(fd, &out, err);
	if (r == 0)
		while ((r = receive(fd, &in, err)) > 0)
			;
	if (r < 0)
		return r;
	status = head_of(&in, &at);
	if (!status)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the engine's answer makes no sense");
	if (status < 200 || status > 299)
		return refused(status, in.data + at, err);
	*ret = json_loads(in.data + at, 0, NULL);
	return 0;
}

int api_send(const struct api *a, const char *method, const char *path, int *ret_fd, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	int r = connect_to(a, &fd, err);

	davit_buf_addf(&out, "%s %s%s HTTP/1.0\r\nHost: engine\r\n\r\n", method, a->prefix, path);
	if (r == 0)
		r = send_all(fd, &out, err);
	if (r == 0)
		*ret_fd = DAVIT_TAKE_FD(fd);
	return r;
}

int api_status(int fd)
{
	char head[16] = "";
	int status = 0;

	if (DAVIT_EINTR(recv(fd, head, sizeof head - 1, MSG_WAITALL)) > 0 &&
	    sscanf(head, "HTTP/1.%*1d %3d", &status) != 1)
		status = 0;
	close(fd);
	return status;
}

int api_stream(const struct api *a, const char *path, const char *json, int *ret_fd, struct davit_buf *early,
	       struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT, in = DAVIT_BUF_INIT;
	int status = 0, r = connect_to(a, &fd, err);
	size_t at = 0;

	davit_buf_addf(&out,
		       "POST %s%s HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
		       "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %zu\r\n\r\n%s",
		       a->prefix, path, strlen(json), json);
	if (r == 0)
		r = send_all(fd, &out, err);
	if (r < 0)
		return r;
	while (!(status = head_of(&in, &at)) && (r = receive(fd, &in, err)) > 0)
		;
	if (r < 0)
		return r;
	if (!status)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the engine's answer makes no sense");
	if (status != 101 && status != 200) {
		/* Its connection may stay open: the words that come soon have to do. */
		while (!strchr(in.data + at, '}') && receive(fd, &in, err) > 0)
			;
		return refused(status, in.data + at, err);
	}
	davit_buf_add(early, in.data + at, in.len - at);
	if (early->oom || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret_fd = DAVIT_TAKE_FD(fd);
	return 0;
}

int api_begin(const struct api *a, const char *method, const char *path, const char *type, bool chunked,
	      int *ret_fd, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	int r = connect_to(a, &fd, err);

	/* 1.0: the answer is not in chunks. But with it there can be none to send either. */
	davit_buf_addf(&out, "%s %s%s HTTP/1.%d\r\nHost: engine\r\nConnection: close\r\n", method, a->prefix,
		       path, chunked);
	if (chunked)
		davit_buf_addf(&out, "Content-Type: %s\r\nTransfer-Encoding: chunked\r\n", type);
	davit_buf_adds(&out, "\r\n");
	if (r == 0)
		r = send_all(fd, &out, err);
	if (r == 0)
		*ret_fd = DAVIT_TAKE_FD(fd);
	return r;
}

int api_chunk(int fd, const void *data, size_t n, struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;

	davit_buf_addf(&out, "%zx\r\n", n);
	davit_buf_add(&out, data, n);
	davit_buf_adds(&out, "\r\n");
	return send_all(fd, &out, err);
}

int api_answer(int fd, struct davit_error *err)
{
	DAVIT_AUTO_BUF in = DAVIT_BUF_INIT;
	size_t body;
	int status;
	char c;

	while (!(status = head_of(&in, &body))) {
		/* What follows the head belongs to another. */
		ssize_t n = DAVIT_EINTR(recv(fd, &c, 1, 0));

		if (n <= 0 || in.len > 65536)
			return davit_error_set(err, n < 0 ? DAVIT_EUNAVAIL : DAVIT_EPROTO, NULL,
					       "the engine does not answer");
		davit_buf_addc(&in, c);
		if (in.oom)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (status >= 200 && status < 300)
		return 0;
	while (receive(fd, &in, NULL) > 0)
		;
	return refused(status, davit_buf_str(&in) + body, err);
}
