/* SPDX-License-Identifier: MIT
 *
 * A small HTTP service: answers every request with one line, logs it, and ends
 * cleanly on SIGTERM. It listens on $PORT (8080) of $HOST (127.0.0.1).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *setting(const char *name, const char *fallback)
{
	const char *value = getenv(name);

	return value && *value ? value : fallback;
}

static int listen_on(const char *host, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || inet_pton(AF_INET, host, &a.sin_addr) != 1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 64) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Reads the head of the request; no more is needed to answer it. */
static void answer(int fd)
{
	const struct timeval patience = {.tv_sec = 5};
	char head[4096], method[16], path[256], body[256], reply[512];
	size_t n = 0;
	ssize_t got;
	int length;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	do {
		got = read(fd, head + n, sizeof head - 1 - n);
		if (got <= 0)
			return;
		n += (size_t)got;
		head[n] = '\0';
	} while (!strstr(head, "\r\n\r\n") && n < sizeof head - 1);
	if (sscanf(head, "%15s %255s", method, path) != 2)
		return;
	length = snprintf(body, sizeof body, "hello from davit (%s)\n",
			  setting("DAVIT_INSTANCE", "no instance"));
	n = (size_t)snprintf(reply, sizeof reply,
			     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
			     "Connection: close\r\n\r\n%s",
			     length, strcmp(method, "HEAD") ? body : "");
	if (send(fd, reply, n, MSG_NOSIGNAL) == (ssize_t)n)
		printf("%s %s\n", method, path);
	shutdown(fd, SHUT_WR);
}

int main(void)
{
	const char *host = setting("HOST", "127.0.0.1"), *port = setting("PORT", "8080");
	int listener = listen_on(host, port);
	struct pollfd fds[2];
	sigset_t ends;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (listener < 0) {
		fprintf(stderr, "cannot listen on %s port %s: %s\n", host, port, strerror(errno));
		return 1;
	}
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = signalfd(-1, &ends, SFD_CLOEXEC), .events = POLLIN};
	printf("listening on http://%s:%s/\n", host, port);
	while (poll(fds, 2, -1) > 0 || errno == EINTR) {
		if (fds[1].revents)
			break;
		if (fds[0].revents) {
			int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0) {
				answer(fd);
				close(fd);
			}
		}
	}
	printf("bye\n");
	return 0;
}
