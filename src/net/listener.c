/* SPDX-License-Identifier: MIT
 *
 * Where connections come from: the listening socket, which can be exchanged for another,
 * and who is let in.
 */
#include "net/server_impl.h"

#include "base/units.h"
#include "net/unix.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Why a peer is not served, as an answer in `out`; true when it is served. */
static bool admit(struct http_conn *c, struct davit_buf *out)
{
	const struct davit_http_config *config = &c->server->config;
	struct davit_error err;
	uid_t uid;
	int fd;

	uid = geteuid();
	if (!config->any_peer &&
	    (uv_fileno((uv_handle_t *)&c->pipe, &fd) < 0 || davit_unix_peer(fd, &uid, NULL) < 0))
		return false;
	if (uid != 0 && uid != geteuid()) {
		davit_error_set(&err, DAVIT_EPERM, NULL, "this daemon serves another user");
		http_refusal(out, 403, &err);
		return false;
	}
	if (c->server->n_conns > config->max_connections) {
		davit_error_set(&err, DAVIT_EUNAVAIL, NULL, "too many connections");
		http_refusal(out, 503, &err);
		return false;
	}
	return true;
}

static void begin_connection(struct http_conn *c)
{
	DAVIT_AUTO_BUF refusal = DAVIT_BUF_INIT;

	if (!admit(c, &refusal)) {
		uv_buf_t buf = uv_buf_init(refusal.data, (unsigned)refusal.len);
		if (refusal.len)
			uv_try_write((uv_stream_t *)&c->pipe, &buf, 1);
		http_drop(c);
		return;
	}
	davit_timer_start(&c->timer, c->server->config.idle_timeout);
	http_update_reading(c);
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct davit_http_server *s = listener->data;
	struct http_conn *c = status < 0 ? NULL : http_conn_new(s);

	if (c && uv_accept(listener, (uv_stream_t *)&c->pipe) < 0)
		http_drop(c);
	else if (c)
		begin_connection(c);
	else if (status == 0) /* libuv waits for this one to be accepted before it tells of others */
		davit_timer_start(&s->retry, DAVIT_NSEC_PER_SEC / 10);
}

static void on_listener_closed(uv_handle_t *h)
{
	struct davit_http_server *s = h->data;

	free(h);
	s->n_listeners--;
	http_server_settle(s);
}

void http_stop_listening(struct davit_http_server *s)
{
	davit_timer_stop(&s->retry);
	if (!s->deaf && s->listener)
		uv_close((uv_handle_t *)s->listener, on_listener_closed);
	s->deaf = true;
}

static void on_retry(struct davit_timer *t)
{
	struct davit_http_server *s = DAVIT_CONTAINER_OF(t, struct davit_http_server, retry);

	on_connection((uv_stream_t *)s->listener, 0);
}

int http_listen(struct davit_http_server *s, int fd, struct davit_error *err)
{
	uv_pipe_t *p = malloc(sizeof *p);
	int r;

	if (!s->listener)
		davit_timer_init(&s->retry, s->config.loop, on_retry);
	if (!p) {
		close(fd);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	p->data = s;
	uv_pipe_init(davit_loop_uv(s->config.loop), p, 0);
	s->n_listeners++;
	r = uv_pipe_open(p, fd);
	if (r < 0)
		close(fd);
	else
		r = uv_listen((uv_stream_t *)p, SOMAXCONN, on_connection);
	if (r < 0) {
		uv_close((uv_handle_t *)p, on_listener_closed);
		return davit_error_errno(err, -r, "socket", "cannot serve on the socket");
	}
	s->listener = p;
	return 0;
}

/* Whoever has connected to a socket that is left, and was not accepted yet. */
static void accept_rest(struct davit_http_server *s, int listen_fd)
{
	struct http_conn *c;
	int fd;

	while ((fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		c = http_conn_new(s);
		if (!c || uv_pipe_open(&c->pipe, fd) < 0) {
			close(fd);
			if (c)
				http_drop(c);
			continue;
		}
		begin_connection(c);
	}
}

int davit_http_server_move(struct davit_http_server *s, int listen_fd, struct davit_error *err)
{
	uv_pipe_t *before = s->listener;
	uv_os_fd_t fd;
	int r;

	if (s->deaf) {
		close(listen_fd);
		return 0;
	}
	r = http_listen(s, listen_fd, err);
	if (r < 0)
		return r;
	if (uv_fileno((uv_handle_t *)before, &fd) == 0)
		accept_rest(s, fd);
	uv_close((uv_handle_t *)before, on_listener_closed);
	return 0;
}
