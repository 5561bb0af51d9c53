/* SPDX-License-Identifier: MIT
 *
 * davit-serve DIR: the files below DIR over HTTP, for the cell `static`. It
 * listens on $PORT (8080) of $HOST (127.0.0.1). Nothing outside DIR can be
 * reached: the kernel resolves every path beneath it.
 */
#include "base/buf.h"
#include "base/units.h"
#include "loop/signals.h"
#include "net/server.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <uv.h>

#define WHOLE_MAX (256 * 1024) /* a larger file is streamed */
#define CHUNK (64 * 1024)

static int root = -1;

static const struct {
	const char *suffix, *type;
} types[] = {
	{"html", "text/html; charset=utf-8"},
	{"css", "text/css; charset=utf-8"},
	{"js", "text/javascript; charset=utf-8"},
	{"mjs", "text/javascript; charset=utf-8"},
	{"json", "application/json"},
	{"txt", "text/plain; charset=utf-8"},
	{"md", "text/plain; charset=utf-8"},
	{"xml", "application/xml"},
	{"svg", "image/svg+xml"},
	{"png", "image/png"},
	{"jpg", "image/jpeg"},
	{"jpeg", "image/jpeg"},
	{"gif", "image/gif"},
	{"webp", "image/webp"},
	{"ico", "image/x-icon"},
	{"woff2", "font/woff2"},
	{"wasm", "application/wasm"},
	{"pdf", "application/pdf"},
};

static const char *type_of(const char *path)
{
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < DAVIT_ARRAY_SIZE(types); i++)
		if (!strcasecmp(dot + 1, types[i].suffix))
			return types[i].type;
	return "application/octet-stream";
}

/* --- paths --- */

/* The path of the request's target below the root, its %xx undone and its query
 * cut; NULL when it is malformed or has a NUL in it. */
static char *path_of(const char *target)
{
	size_t n = strcspn(target, "?#");
	char *path = malloc(n + 2), *to = path;

	if (!path)
		return NULL;
	for (const char *p = target, *end = target + n; p < end; p++) {
		int c = (unsigned char)*p;
		if (c == '%') {
			if (end - p < 3 || !isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2])) {
				free(path);
				return NULL;
			}
			c = (int)strtol((char[]){p[1], p[2], 0}, NULL, 16);
			p += 2;
		}
		if (!c) {
			free(path);
			return NULL;
		}
		*to++ = (char)c;
	}
	*to = '\0';
	/* Below the root, not at the machine's. */
	memmove(path, path + strspn(path, "/"), strlen(path + strspn(path, "/")) + 1);
	if (!*path)
		strcpy(path, ".");
	return path;
}

static int open_beneath(int dir, const char *path)
{
	const struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static bool is_hidden(const char *path)
{
	for (const char *p = path; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (p[0] == '.' && p[1] && p[1] != '/')
			return true;
	}
	return false;
}

/* --- answers --- */

struct stream {
	int fd;
	struct davit_http_request *r;
};

static void stream_end(struct stream *s)
{
	close(s->fd);
	free(s);
}

static void on_closed(struct davit_http_request *r)
{
	stream_end(r->user);
}

static void on_writable(struct davit_http_request *r)
{
	struct stream *s = r->user;
	char chunk[CHUNK];
	ssize_t n;

	while ((n = DAVIT_EINTR(read(s->fd, chunk, sizeof chunk))) > 0)
		if (!davit_http_write(r, chunk, (size_t)n))
			return;
	stream_end(s);
	r->closed = NULL;
	davit_http_end(r);
}

static void answer(struct davit_http_request *r, int status, const char *text)
{
	printf("%s %s %d\n", r->method, r->target, status);
	davit_http_reply(r, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void send_whole(struct davit_http_request *r, int fd, const char *type)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	ssize_t n = 0;

	do {
		if (davit_buf_reserve(&b, CHUNK) < 0)
			break;
		n = DAVIT_EINTR(read(fd, b.data + b.len, CHUNK));
		b.len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	if (b.oom || n < 0) {
		answer(r, 500, "the file cannot be read\n");
		return;
	}
	printf("%s %s 200\n", r->method, r->target);
	davit_http_reply(r, 200, type, b.data, b.len);
}

static void send_file(struct davit_http_request *r, int fd, off_t size, const char *type)
{
	struct stream *s;

	if (size <= WHOLE_MAX) {
		send_whole(r, fd, type);
		close(fd);
		return;
	}
	if (!strcmp(r->method, "HEAD")) {
		/* A stream has no body to leave out: its length is not told. */
		close(fd);
		printf("%s %s 200\n", r->method, r->target);
		davit_http_reply(r, 200, type, "", 0);
		return;
	}
	s = malloc(sizeof *s);
	if (!s) {
		close(fd);
		answer(r, 500, "out of memory\n");
		return;
	}
	*s = (struct stream){fd, r};
	r->user = s;
	r->closed = on_closed;
	r->writable = on_writable;
	printf("%s %s 200\n", r->method, r->target);
	davit_http_stream(r, 200, type);
	on_writable(r);
}

/* A directory is its index.html, under an address that ends in a slash, so that
 * the links in it work. */
static void send_directory(struct davit_http_request *r, int dir)
{
	size_t n = strcspn(r->target, "?#");
	struct stat st;
	int fd;

	if (!n || r->target[n - 1] != '/') {
		DAVIT_AUTO_FREE char *to = NULL;
		if (asprintf(&to, "%.*s/", (int)n, r->target) < 0) {
			to = NULL;
			answer(r, 500, "out of memory\n");
			return;
		}
		davit_http_add_header(r, "Location", to);
		answer(r, 301, "moved\n");
		return;
	}
	fd = open_beneath(dir, "index.html");
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		answer(r, 404, "not found\n");
		return;
	}
	send_file(r, fd, st.st_size, types[0].type);
}

static void handle(void *user, struct davit_http_request *r)
{
	DAVIT_AUTO_FREE char *path = path_of(r->target);
	struct stat st;
	int fd;

	(void)user;
	if (strcmp(r->method, "GET") && strcmp(r->method, "HEAD")) {
		davit_http_add_header(r, "Allow", "GET, HEAD");
		answer(r, 405, "only GET and HEAD\n");
		return;
	}
	if (!path) {
		answer(r, 400, "malformed path\n");
		return;
	}
	fd = is_hidden(path) ? -1 : open_beneath(root, path);
	if (fd < 0 || fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
		if (fd >= 0)
			close(fd);
		answer(r, 404, "not found\n");
	} else if (S_ISDIR(st.st_mode)) {
		send_directory(r, fd);
		close(fd);
	} else {
		send_file(r, fd, st.st_size, type_of(path));
	}
}

/* --- the program --- */

static int listen_on(const char *host, const char *port, struct davit_error *err)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	DAVIT_AUTO_CLOSE int fd = -1;
	int64_t number;
	int r = davit_int_parse(port, 0, 65535, &number, err);

	if (r < 0)
		return r;
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		return davit_error_set(err, DAVIT_EINVAL, "HOST", "'%.64s' is not an IPv4 address", host);
	a.sin_port = htons((uint16_t)number);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
	    bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, SOMAXCONN) < 0)
		return davit_error_errno(err, errno, NULL, "cannot listen on %s port %s", host, port);
	return DAVIT_TAKE_FD(fd);
}

static void on_signal(void *loop, int signo)
{
	(void)signo;
	davit_loop_stop(loop);
}

static int serve(const char *dir, struct davit_error *err)
{
	struct davit_http_config config = {.handle = handle, .any_peer = true};
	const char *host = getenv("HOST"), *port = getenv("PORT");
	struct davit_http_server *server = NULL;
	static const int list[] = {SIGTERM, SIGINT, 0};
	struct davit_signals ends;
	int r, fd;

	root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", dir);
	host = host && *host ? host : "127.0.0.1";
	port = port && *port ? port : "8080";
	fd = listen_on(host, port, err);
	if (fd < 0)
		return fd;
	r = davit_loop_open(&config.loop, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = davit_http_server_new(&config, fd, &server, err);
	if (r == 0)
		r = davit_signals_open(&ends, config.loop, list, on_signal, config.loop, err);
	if (r == 0) {
		printf("serving %s on http://%s:%s/\n", dir, host, port);
		davit_loop_run(config.loop);
		davit_signals_close(&ends);
	}
	davit_http_server_free(server);
	if (r == 0)
		davit_loop_run(config.loop); /* until all is closed */
	davit_loop_close(config.loop);
	return r;
}

int main(int argc, char **argv)
{
	struct davit_error err;

	if (argc != 2) {
		fprintf(stderr, "usage: davit-serve DIR\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (serve(argv[1], &err) == 0)
		return 0;
	fprintf(stderr, "davit-serve: %s\n", err.message);
	return 1;
}
