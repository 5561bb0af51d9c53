/* SPDX-License-Identifier: MIT
 *
 * Measures the keeper: build/bench-keeper [instances]. Starts that many through
 * the protocol without waiting in between, beside a bare loop of clone and exec
 * of the same program, and says what a start, an idle instance and an end cost.
 * The keeper is the davit-keeper beside this program; its directory is made in
 * TMPDIR and removed, and everything that was started is ended.
 */
#include "base/buf.h"
#include "base/file.h"
#include "base/util.h"
#include "keeper/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

static const char program[] = "/bin/sleep";
static char dir[64];
static int conn = -1;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench-keeper: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* -------------------------------------------------------------- the bare loop */

static int exec_program(void *arg)
{
	(void)arg;
	char *argv[] = {(char *)program, (char[]){"1000"}, NULL}, *env[] = {NULL};

	execve(program, argv, env);
	_exit(127);
}

static double bare(unsigned n)
{
	static char stack[16384] __attribute__((aligned(64)));
	pid_t *pids = calloc(n, sizeof *pids);
	double began = seconds(), took;
	int pidfd;

	if (!pids)
		die("memory");
	for (unsigned i = 0; i < n; i++) {
		pids[i] = clone(exec_program, stack + sizeof stack,
				CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, NULL, &pidfd);
		if (pids[i] < 0)
			die("clone");
		close(pidfd);
	}
	took = seconds() - began;
	for (unsigned i = 0; i < n; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	free(pids);
	return took;
}

/* ----------------------------------------------------------------- the keeper */

static void start_keeper(void)
{
	char path[512];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int status;
	pid_t pid;

	if (n < 0)
		die("/proc/self/exe");
	path[n] = '\0';
	strcpy(strrchr(path, '/'), "/davit-keeper");
	pid = fork();
	if (pid == 0) {
		execl(path, path, dir, "0", NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		die("davit-keeper");
	conn = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof a.sun_path, "%s/keeper-0.sock", dir);
	if (connect(conn, (struct sockaddr *)&a, sizeof a) < 0)
		die("connect");
}

static void put(struct davit_buf *b, const char *s)
{
	davit_buf_add(b, s, strlen(s) + 1);
}

static struct keeper_header *begin(struct davit_buf *b, uint32_t type, size_t size, unsigned i)
{
	struct keeper_header *h;

	davit_buf_reset(b);
	if (davit_buf_reserve(b, size) < 0)
		die("memory");
	memset(b->data, 0, size);
	b->len = size;
	h = (void *)b->data;
	*h = (struct keeper_header){.type = type, .size = (uint32_t)size, .tag = i + 1};
	snprintf(h->id, sizeof h->id, "%016u", i);
	return h;
}

/* Takes what the keeper has to say; how many of these ended a request for a
 * start, a stop or a removal. */
static unsigned take(bool wait, uint32_t type)
{
	_Alignas(8) char buf[2 * KEEPER_PACK_MAX];
	unsigned n = 0;

	for (;; wait = false) {
		ssize_t r = recv(conn, buf, sizeof buf, wait ? 0 : MSG_DONTWAIT);
		if (r < 0)
			return n;
		if (r == 0)
			die("the keeper ended");
		for (ssize_t at = 0; at < r;) {
			const struct keeper_header *h = (const void *)(buf + at);
			if (h->type == KEEPER_DONE && ((const struct keeper_done *)h)->result < 0) {
				fprintf(stderr, "bench-keeper: %s\n", buf + at + h->size);
				exit(1);
			}
			n += h->type == type;
			at += h->total;
		}
	}
}

static void transmit(struct davit_buf *b)
{
	((struct keeper_header *)(void *)b->data)->total = (uint32_t)b->len;
	if (b->oom || send(conn, b->data, b->len, MSG_NOSIGNAL) < 0)
		die("send");
}

static void request_start(struct davit_buf *b, unsigned i)
{
	struct keeper_create *c = (void *)begin(b, KEEPER_CREATE, sizeof *c, i);
	struct keeper_spawn *s;
	char text[128];

	c->log_max_size = 10 << 20;
	c->log_max_files = 3;
	snprintf(text, sizeof text, "default/bench/%u", i);
	put(b, text);
	snprintf(text, sizeof text, "%s/log/%016u", dir, i);
	put(b, text);
	put(b, "");
	transmit(b);
	s = (void *)begin(b, KEEPER_SPAWN, sizeof *s, i);
	s->argc = 2;
	s->run = 1;
	s->umask = 022;
	s->ready_fd = -1;
	put(b, program);
	put(b, "/");
	put(b, program);
	put(b, "1000");
	put(b, "");
	transmit(b);
}

static void greet(struct davit_buf *b)
{
	struct keeper_hello *h = (void *)begin(b, KEEPER_HELLO, sizeof *h, 0);

	h->version = KEEPER_PROTOCOL_VERSION;
	h->h.id[0] = '\0';
	transmit(b);
	while (!take(true, KEEPER_WELCOME))
		;
}

static double start_all(struct davit_buf *b, unsigned n)
{
	double began = seconds();
	unsigned started = 0;

	for (unsigned i = 0; i < n; i++) {
		request_start(b, i);
		started += take(false, KEEPER_SPAWNED);
	}
	while (started < n)
		started += take(true, KEEPER_SPAWNED);
	return seconds() - began;
}

static double stop_all(struct davit_buf *b, unsigned n)
{
	double began = seconds();
	unsigned done = 0;

	for (unsigned i = 0; i < n; i++) {
		struct keeper_stop *s = (void *)begin(b, KEEPER_STOP, sizeof *s, i);
		s->signo = SIGTERM;
		s->grace_ns = 10 * INT64_C(1000000000);
		transmit(b);
		done += take(false, KEEPER_DONE);
	}
	while (done < n)
		done += take(true, KEEPER_DONE);
	return seconds() - began;
}

static void quit(struct davit_buf *b)
{
	struct keeper_header *h = begin(b, KEEPER_QUIT, sizeof *h, 0);

	h->id[0] = '\0';
	h->flags = KEEPER_FLAG_KILL;
	transmit(b);
	while (!take(true, KEEPER_DONE))
		;
}

/* What the process holds for itself, in kB: its share of every page. */
static unsigned long pss(pid_t pid)
{
	char path[64], line[256];
	unsigned long kb = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "Pss: %lu", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

/* User and system time, in seconds; with that of the children that were reaped. */
static double cpu(pid_t pid, bool children)
{
	char path[64], line[1024] = "";
	unsigned long user = 0, sys = 0, cuser = 0, csys = 0;
	const char *p;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof line, f) && (p = strrchr(line, ')')))
		sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &user, &sys,
		       &cuser, &csys);
	if (children)
		user += cuser + csys;
	if (f)
		fclose(f);
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 900;
	struct davit_buf b = DAVIT_BUF_INIT;
	socklen_t len = sizeof(struct ucred);
	double loop, start, stop, busy, stopping, all, bare_cpu;
	unsigned long empty, full;
	struct ucred peer;

	if (n == 0 || n > KEEPER_SLOTS_MAX) {
		fprintf(stderr, "usage: bench-keeper [1-%d]\n", KEEPER_SLOTS_MAX);
		return 2;
	}
	snprintf(dir, sizeof dir, "/tmp/davit-bench-XXXXXX");
	if (!mkdtemp(dir))
		die("mkdtemp");
	start_keeper();
	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		die("SO_PEERCRED");
	greet(&b);
	empty = pss(peer.pid);
	loop = bare(n);
	bare_cpu = cpu(getpid(), true);
	busy = cpu(peer.pid, false);
	start = start_all(&b, n);
	busy = cpu(peer.pid, false) - busy;
	full = pss(peer.pid);
	printf("start: %.0f us each, %.0f us of the keeper's CPU; a bare loop of clone and exec: %.0f us "
	       "each\n",
	       start / n * 1e6, busy / n * 1e6, loop / n * 1e6);
	printf("memory: %lu kB empty, %lu kB with %u instances: %.2f kB each, %.2f kB with all\n", empty,
	       full, n, (double)(full - empty) / n, (double)full / n);
	stopping = cpu(peer.pid, false);
	stop = stop_all(&b, n);
	stopping = cpu(peer.pid, false) - stopping;
	printf("stop: %.0f us each, %.0f us of the keeper's CPU\n", stop / n * 1e6, stopping / n * 1e6);
	all = cpu(peer.pid, true) - stopping;
	printf("CPU of a start with the program's own: %.0f us, of the bare loop's: %.0f us: %.2f times\n",
	       all / n * 1e6, bare_cpu / n * 1e6, all / bare_cpu);
	quit(&b);
	davit_buf_fini(&b);
	close(conn);
	davit_remove_tree(dir, NULL);
	return 0;
}
