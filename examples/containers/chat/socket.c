/* SPDX-License-Identifier: MIT
 *
 * One thread runs libwebsockets. Who sends from elsewhere puts a line into the
 * connection's queue and wakes that thread, which alone writes.
 */
#include "socket.h"

#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS = 1024, LINE = 4096, QUEUE = 1000 };

struct line {
	struct line *next;
	size_t n;
	unsigned char text[]; /* behind LWS_PRE bytes, which libwebsockets wants */
};

/* Zeroed and freed by libwebsockets. */
struct connection {
	struct lws *wsi;
	unsigned number;
	size_t n;
	char text[LINE + 1]; /* of a line that has not come as a whole */

	/* under the lock */
	struct line *first, **last;
	int queued;
};

struct socket_server {
	const struct socket_events *events;
	void *arg;
	struct lws_context *context;
	struct lws_http_mount mount;
	struct lws_protocols protocols[2];
	pthread_t thread;
	atomic_bool stop;
	pthread_mutex_t lock;
	unsigned next;
	struct connection *connections[CONNECTIONS]; /* by number, modulo; under the lock */
};

/* --- on the thread --- */

static bool enter(struct socket_server *s, struct connection *k, struct lws *wsi)
{
	bool found = false;

	k->wsi = wsi;
	k->last = &k->first;
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < CONNECTIONS && !found; i++) {
		k->number = s->next++;
		found = !s->connections[k->number % CONNECTIONS];
	}
	if (found)
		s->connections[k->number % CONNECTIONS] = k;
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void leave(struct socket_server *s, struct connection *k)
{
	struct line *l;

	pthread_mutex_lock(&s->lock);
	if (s->connections[k->number % CONNECTIONS] == k)
		s->connections[k->number % CONNECTIONS] = NULL;
	while ((l = k->first)) {
		k->first = l->next;
		free(l);
	}
	pthread_mutex_unlock(&s->lock);
}

static int refuse(struct lws *wsi, enum lws_close_status status)
{
	lws_close_reason(wsi, status, NULL, 0);
	return -1;
}

static int receive(struct socket_server *s, struct connection *k, const void *data, size_t n)
{
	if (lws_frame_is_binary(k->wsi))
		return refuse(k->wsi, LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE);
	if (n > LINE - k->n)
		return refuse(k->wsi, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE);
	memcpy(k->text + k->n, data, n);
	k->n += n;
	if (!lws_is_final_fragment(k->wsi) || lws_remaining_packet_payload(k->wsi))
		return 0;
	n = k->n;
	k->text[n] = '\0';
	k->n = 0;
	return s->events->line(s->arg, k->number, k->text, n)
		       ? 0
		       : refuse(k->wsi, LWS_CLOSE_STATUS_POLICY_VIOLATION);
}

static int write_line(struct socket_server *s, struct connection *k)
{
	struct line *l;
	bool more;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if ((l = k->first)) {
		if (!(k->first = l->next))
			k->last = &k->first;
		k->queued--;
	}
	more = k->first;
	pthread_mutex_unlock(&s->lock);
	if (l && lws_write(k->wsi, l->text + LWS_PRE, l->n, LWS_WRITE_TEXT) < (int)l->n)
		r = -1;
	free(l);
	if (!r && more)
		lws_callback_on_writable(k->wsi);
	return r;
}

/* One that does not take what it is sent would never be writable: it is ended at once. */
static void wake_writers(struct socket_server *s)
{
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < CONNECTIONS; i++) {
		const struct connection *k = s->connections[i];
		if (k && k->queued > QUEUE)
			lws_set_timeout(k->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
		else if (k && k->first)
			lws_callback_on_writable(k->wsi);
	}
	pthread_mutex_unlock(&s->lock);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
	struct socket_server *s = lws_context_user(lws_get_context(wsi));
	struct connection *k = user;

	switch (reason) {
	case LWS_CALLBACK_ESTABLISHED:
		if (!enter(s, k, wsi))
			return -1;
		s->events->opened(s->arg, k->number);
		return 0;
	case LWS_CALLBACK_RECEIVE:
		return receive(s, k, in, n);
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return write_line(s, k);
	case LWS_CALLBACK_CLOSED:
		leave(s, k);
		if (!s->stop)
			s->events->closed(s->arg, k->number);
		return 0;
	case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
		wake_writers(s);
		return 0;
	default:
		return lws_callback_http_dummy(wsi, reason, user, in, n);
	}
}

static void *run(void *arg)
{
	struct socket_server *s = arg;

	while (!s->stop && lws_service(s->context, 0) >= 0)
		;
	return NULL;
}

/* --- from outside --- */

int socket_open(int port, const char *page, const struct socket_events *events, void *arg,
		struct socket_server **ret, int *ret_port)
{
	struct lws_context_creation_info info = {
		.port = port,
		.iface = "127.0.0.1",
		.gid = -1,
		.uid = -1,
		.options = LWS_SERVER_OPTION_VALIDATE_UTF8,
	};
	struct socket_server *s = calloc(1, sizeof *s);

	if (!s)
		return -1;
	s->events = events;
	s->arg = arg;
	s->protocols[0] =
		(struct lws_protocols){"chat", on_event, sizeof(struct connection), LINE, 0, NULL, 0};
	pthread_mutex_init(&s->lock, NULL);
	s->mount = (struct lws_http_mount){.mountpoint = "/",
					   .mountpoint_len = 1,
					   .origin = page,
					   .def = "chat.html",
					   .origin_protocol = LWSMPRO_FILE};
	info.mounts = &s->mount;
	info.protocols = s->protocols;
	info.user = s;
	lws_set_log_level(LLL_ERR, NULL);
	s->context = lws_create_context(&info);
	if (!s->context) {
		socket_free(s);
		return -1;
	}
	*ret_port = lws_get_vhost_listen_port(lws_get_vhost_by_name(s->context, "default"));
	*ret = s;
	return 0;
}

int socket_start(struct socket_server *s)
{
	return pthread_create(&s->thread, NULL, run, s) ? -1 : 0;
}

void socket_send(struct socket_server *s, unsigned connection, const char *text, size_t n)
{
	struct line *l = malloc(sizeof *l + LWS_PRE + n);
	struct connection *k;

	if (!l)
		return;
	l->next = NULL;
	l->n = n;
	memcpy(l->text + LWS_PRE, text, n);
	pthread_mutex_lock(&s->lock);
	k = s->connections[connection % CONNECTIONS];
	if (k && k->number == connection && k->queued <= QUEUE) {
		*k->last = l;
		k->last = &l->next;
		k->queued++;
		l = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	free(l);
	lws_cancel_service(s->context);
}

void socket_stop(struct socket_server *s)
{
	s->stop = true;
	lws_cancel_service(s->context);
	pthread_join(s->thread, NULL);
}

void socket_free(struct socket_server *s)
{
	if (s->context)
		lws_context_destroy(s->context);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
