/* SPDX-License-Identifier: MIT */
#include "runtime/engine/http.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

struct http_socket {
	struct davit_list list;
	struct http *http;
	curl_socket_t fd;
	struct local_poll *poll;
};

/* --- libcurl on the loop --- */

static void collect(struct http *h)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left))) {
		struct http_call *c;
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
		c->over = true;
		c->code = m->data.result;
		davit_defer(&c->deliver);
	}
}

static void act(struct http *h, curl_socket_t fd, int events)
{
	int running;

	curl_multi_socket_action(h->multi, fd, events, &running);
	collect(h);
}

static void on_socket_event(void *user, int events)
{
	struct http_socket *s = user;

	act(s->http, s->fd,
	    (events & LOCAL_READABLE ? CURL_CSELECT_IN : 0) |
		    (events & LOCAL_WRITABLE ? CURL_CSELECT_OUT : 0));
}

static void socket_free(struct http_socket *s)
{
	davit_list_remove(&s->list);
	local_poll_close(s->poll);
	free(s);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *mine)
{
	struct http *h = user;
	struct http_socket *s = mine;
	int events = (what & CURL_POLL_IN ? LOCAL_READABLE : 0) | (what & CURL_POLL_OUT ? LOCAL_WRITABLE : 0);

	if (what == CURL_POLL_REMOVE) {
		if (s)
			socket_free(s);
		curl_multi_assign(h->multi, fd, NULL);
		return 0;
	}
	if (s) {
		local_poll_set(s->poll, events);
		return 0;
	}
	s = calloc(1, sizeof *s);
	if (!s)
		return -1;
	s->http = h;
	s->fd = fd;
	if (local_poll_open(h->loop, fd, events, on_socket_event, s, &s->poll, NULL) < 0) {
		free(s);
		return -1;
	}
	davit_list_init(&s->list);
	davit_list_add_tail(&h->sockets, &s->list);
	curl_multi_assign(h->multi, fd, s);
	return 0;
}

static int on_timeout(CURLM *multi, long ms, void *user)
{
	struct http *h = user;

	if (ms < 0)
		davit_timer_stop(&h->timer);
	else if (davit_timer_start(&h->timer, ms * INT64_C(1000000)) < 0)
		return -1;
	return 0;
}

static void on_timer(struct davit_timer *t)
{
	act(DAVIT_CONTAINER_OF(t, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

int http_open(struct http *h, struct davit_loop *loop, const char *socket, long connections,
	      struct davit_error *err)
{
	*h = (struct http){.loop = loop, .socket = socket};
	davit_list_init(&h->calls);
	davit_list_init(&h->sockets);
	davit_timer_init(&h->timer, loop, on_timer);
	/* Counted by libcurl: the first call alone does something. */
	if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK || !(h->multi = curl_multi_init()))
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	if (connections) {
		curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections);
		curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, connections);
	}
	return 0;
}

void http_close(struct http *h)
{
	struct http_call *c, *next_call;
	struct http_socket *s, *next;

	if (!h->multi)
		return;
	DAVIT_LIST_FOREACH_SAFE (c, next_call, &h->calls, list)
		http_cancel(c);
	curl_multi_cleanup(DAVIT_TAKE(h->multi));
	DAVIT_LIST_FOREACH_SAFE (s, next, &h->sockets, list)
		socket_free(s);
	davit_timer_stop(&h->timer);
}

/* --- one call --- */

void http_free(struct http_call *c)
{
	if (c->easy) {
		curl_multi_remove_handle(c->http->multi, c->easy);
		curl_easy_cleanup(c->easy);
	}
	davit_list_remove(&c->list);
	davit_deferred_cancel(&c->deliver);
	curl_slist_free_all(c->headers);
	davit_buf_fini(&c->request);
	davit_buf_fini(&c->body);
	local_poll_close(c->upload_poll);
	if (c->upload >= 0)
		close(c->upload);
	free(c);
}

void http_cancel(struct http_call *c)
{
	if (!c)
		return;
	if (c->in_data)
		c->cancelled = true; /* freed when its callback returns */
	else
		http_free(c);
}

static bool succeeded(const struct http_call *c)
{
	return c->status >= 200 && c->status < 300;
}

static size_t on_body(char *data, size_t one, size_t n, void *user)
{
	struct http_call *c = user;

	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &c->status);
	if (c->data && succeeded(c)) {
		if (c->body.len >= HTTP_BUFFER) {
			c->throttled = true;
			return CURL_WRITEFUNC_PAUSE;
		}
		davit_defer(&c->deliver);
	} else if (c->body.len + n > HTTP_ANSWER_MAX) {
		return 0;
	}
	davit_buf_add(&c->body, data, n);
	return c->body.oom ? 0 : n;
}

int http_error_code(long status)
{
	switch (status) {
	case 400:
		return DAVIT_EINVAL;
	case 401:
	case 403:
		return DAVIT_EPERM;
	case 404:
		return DAVIT_ENOENT;
	case 409:
		return DAVIT_ESTATE;
	case 501:
		return DAVIT_ENOTSUP;
	case 503:
		return DAVIT_EUNAVAIL;
	case 507:
		return DAVIT_ENOSPC;
	default:
		return DAVIT_EIO;
	}
}

json_t *http_answer(const struct http_call *c)
{
	return json_loadb(davit_buf_str(&c->body), c->body.len, 0, NULL);
}

static void error_of_answer(struct http_call *c, struct davit_error *err)
{
	json_t *o = http_answer(c);
	const char *message = json_string_value(json_object_get(o, "message"));
	size_t n;

	if (message)
		davit_error_set(err, http_error_code(c->status), NULL, "%s", message);
	else
		davit_error_set(err, http_error_code(c->status), NULL, "HTTP status %ld", c->status);
	/* One line: some end in a newline, some in a list. */
	n = strcspn(err->message, "\n");
	if (n && err->message[n - 1] == ':')
		n--;
	err->message[n] = '\0';
	json_decref(o);
}

/* An error, or NULL for success. */
static const struct davit_error *outcome(struct http_call *c, struct davit_error *err)
{
	long sys = 0;

	if (c->upload_error) {
		davit_error_errno(err, c->upload_error, NULL, "cannot read what is to be sent");
		return err;
	}
	/* What broke off is an error even behind a status of success; an answer that
	 * came before all was sent is one. */
	if (c->code == CURLE_OK || (c->code == CURLE_SEND_ERROR && c->status >= 400)) {
		if (succeeded(c) || c->status == 304)
			return NULL;
		error_of_answer(c, err);
		return err;
	}
	curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &sys);
	if (c->code == CURLE_OUT_OF_MEMORY || c->body.oom)
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	else if (c->code == CURLE_COULDNT_CONNECT && sys)
		davit_error_set(err, DAVIT_EUNAVAIL, NULL, "cannot reach %s: %s", c->http->socket,
				strerror((int)sys));
	else
		davit_error_set(err, DAVIT_EUNAVAIL, NULL, "%s: %s", c->http->socket,
				*c->text ? c->text : curl_easy_strerror(c->code));
	return err;
}

static void finish(struct http_call *c)
{
	struct davit_error err = {0};
	const struct davit_error *why;

	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &c->status);
	if (c->connect_only && c->code == CURLE_OK) {
		c->over = false;
		c->done(c, NULL); /* it is the caller's now */
		return;
	}
	why = outcome(c, &err);
	curl_multi_remove_handle(c->http->multi, c->easy);
	c->in_data = true;
	c->done(c, why);
	http_free(c);
}

static void on_deliver(struct davit_deferred *d)
{
	struct http_call *c = DAVIT_CONTAINER_OF(d, struct http_call, deliver);

	if (c->data && succeeded(c) && c->body.len && !c->held) {
		c->in_data = true;
		c->held = !c->data(c);
		c->in_data = false;
		if (c->cancelled) {
			http_free(c);
			return;
		}
	}
	if (c->held)
		return;
	if (c->over) {
		finish(c);
	} else if (c->throttled && c->body.len < HTTP_BUFFER) {
		c->throttled = false;
		curl_easy_pause(c->easy, c->waiting ? CURLPAUSE_SEND : CURLPAUSE_CONT);
		collect(c->http);
	}
}

void http_resume(struct http_call *c)
{
	if (!c->held)
		return;
	c->held = false;
	davit_defer(&c->deliver);
}

/* --- what is sent --- */

static void on_upload_readable(void *user, int events)
{
	struct http_call *c = user;

	local_poll_set(c->upload_poll, 0);
	c->waiting = false;
	curl_easy_pause(c->easy, c->throttled ? CURLPAUSE_RECV : CURLPAUSE_CONT);
	collect(c->http);
}

static size_t on_upload(char *data, size_t one, size_t n, void *user)
{
	struct http_call *c = user;
	ssize_t got = DAVIT_EINTR(read(c->upload, data, one * n));

	if (got >= 0)
		return (size_t)got;
	if (errno == EAGAIN) {
		if (!c->upload_poll && local_poll_open(c->http->loop, c->upload, 0, on_upload_readable, c,
						       &c->upload_poll, NULL) < 0)
			return CURL_READFUNC_ABORT;
		local_poll_set(c->upload_poll, LOCAL_READABLE);
		c->waiting = true;
		return CURL_READFUNC_PAUSE;
	}
	c->upload_error = errno;
	return CURL_READFUNC_ABORT;
}

static void add_header(struct http_call *c, const char *header)
{
	struct curl_slist *l = curl_slist_append(c->headers, header);

	if (l)
		c->headers = l;
	else
		c->body.oom = true;
}

struct http_call *http_new(struct http *h, const char *method, const char *path, ...)
{
	struct http_call *c = calloc(1, sizeof *c);
	DAVIT_AUTO_BUF url = DAVIT_BUF_INIT;
	va_list ap;

	if (!c)
		return NULL;
	c->http = h;
	c->upload = -1;
	davit_list_init(&c->list);
	davit_deferred_init(&c->deliver, h->loop, on_deliver);
	c->easy = curl_easy_init();
	davit_buf_adds(&url, "http://engine");
	davit_buf_adds(&url, h->prefix);
	va_start(ap, path);
	davit_buf_addv(&url, path, ap);
	va_end(ap);
	if (!c->easy || url.oom || curl_easy_setopt(c->easy, CURLOPT_URL, davit_buf_str(&url)) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, method) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_UNIX_SOCKET_PATH, h->socket) != CURLE_OK) {
		http_free(c);
		return NULL;
	}
	curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
	curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->text);
	curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT, 10L);
	if (!strcmp(method, "HEAD"))
		curl_easy_setopt(c->easy, CURLOPT_NOBODY, 1L);
	if (!strcmp(method, "POST")) {
		curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, "");
		curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE, 0L);
	}
	add_header(c, "Expect:");
	return c;
}

void http_json(struct http_call *c, struct davit_buf *b)
{
	c->request = *b;
	*b = (struct davit_buf)DAVIT_BUF_INIT;
	add_header(c, "Content-Type: application/json");
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, davit_buf_str(&c->request));
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->request.len);
}

void http_upload(struct http_call *c, int fd, const char *type)
{
	DAVIT_AUTO_BUF header = DAVIT_BUF_INIT;

	c->upload = fd;
	davit_buf_addf(&header, "Content-Type: %s", type);
	add_header(c, davit_buf_str(&header));
	add_header(c, "Transfer-Encoding: chunked");
	curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, NULL);
	curl_easy_setopt(c->easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(c->easy, CURLOPT_READFUNCTION, on_upload);
	curl_easy_setopt(c->easy, CURLOPT_READDATA, c);
}

void http_connect_only(struct http_call *c)
{
	c->connect_only = true;
	curl_easy_setopt(c->easy, CURLOPT_CONNECT_ONLY, 1L);
}

void http_fresh(struct http_call *c)
{
	curl_easy_setopt(c->easy, CURLOPT_FRESH_CONNECT, 1L);
}

int http_send(struct http_call *c, struct davit_error *err)
{
	curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
	if (c->body.oom || c->request.oom || curl_multi_add_handle(c->http->multi, c->easy) != CURLM_OK) {
		http_free(c);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	davit_list_add_tail(&c->http->calls, &c->list);
	return 0;
}

void http_escape(struct davit_buf *b, const char *s)
{
	for (; *s; s++)
		if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
		    strchr("-._~", *s))
			davit_buf_addc(b, *s);
		else
			davit_buf_addf(b, "%%%02X", (unsigned char)*s);
}
