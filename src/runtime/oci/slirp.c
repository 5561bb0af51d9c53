/* SPDX-License-Identifier: MIT
 *
 * davit-slirp: the network of a container without root. A hook of crun and runc: they
 * execute it when the container's first process, davit-init, has been started, with the
 * container's state, {..., "pid": N, ...}, on standard input.
 *
 *   davit-slirp SLIRP4NETNS SOCKET FIFO NFT RULES [tcp|udp ADDRESS PORT INSIDE]...
 *
 * It has nft load the file RULES (unless that is "") into the namespaces of that process,
 * starts slirp4netns for them, and has it forward the ports.
 * davit-init waits at the fifo: its end without a word tells that all of it works, a word
 * what does not. (A hook before that would be simpler. But until davit-init is executed crun's
 * own program stands there, and nobody but root may look at its namespaces.) What stays
 * behind is a process of ours that ends slirp4netns with the container's first process,
 * whoever else is alive then: davitd and the keeper may not be.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 2
#define READY_MS 20000 /* a machine may be busy */
#define PORT_TRIES 100
#define PORT_PAUSE_US 20000
#define ANSWER_MAX 1024

struct slirp {
	const char *program, *fifo, *nft, *rules;
	char socket[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *const *ports; /* by fours */
	pid_t container, child;
	int container_fd, child_fd;
	int words; /* what slirp4netns says, a file without a name */
};

/* Whether the container's first process has ended, within that time. */
static bool has_ended(const struct slirp *s, int ms)
{
	struct pollfd p = {.fd = s->container_fd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

/* To davit-init, as soon as it stands at the fifo. */
static void tell(const struct slirp *s, const char *text)
{
	int fd;

	while ((fd = open(s->fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0)
		if (errno != ENXIO || has_ended(s, LOOK_MS))
			return;
	if (*text && write(fd, text, strlen(text)) < 0)
		kill(s->container, SIGKILL); /* it would take the silence for success */
	close(fd);
}

static _Noreturn void fail(struct slirp *s, const char *what, const char *why)
{
	char text[512];

	if (s->child > 0)
		kill(s->child, SIGKILL);
	snprintf(text, sizeof text, "cannot set up the network: %s%s%s", what, why && *why ? ": " : "",
		 why ? why : "");
	tell(s, text);
	exit(1);
}

/* Of the state's JSON only the one number is of use; no string in it is ours to choose, and
 * none can hold an unescaped quotation mark. */
static pid_t read_pid(void)
{
	static char text[1 << 16];
	size_t n = 0;
	ssize_t got;
	char *p;

	while (n < sizeof text - 1 && ((got = read(0, text + n, sizeof text - 1 - n)) > 0 || errno == EINTR))
		if (got > 0)
			n += (size_t)got;
		else if (got == 0)
			break;
	p = strstr(text, "\"pid\"");
	p = p ? strchr(p, ':') : NULL;
	return p ? (pid_t)strtol(p + 1, NULL, 10) : 0;
}

/* --- slirp4netns --- */

static void become(const struct slirp *s, int ready)
{
	char pid[16], fd[32], userns[48];
	char *argv[] = {(char *)s->program,
			(char *)"--configure",
			(char *)"--mtu=65520",
			(char *)"--disable-host-loopback",
			fd,
			(char *)"--api-socket",
			(char *)(uintptr_t)s->socket,
			userns,
			pid,
			(char *)"tap0",
			NULL};

	snprintf(pid, sizeof pid, "%d", (int)s->container);
	snprintf(fd, sizeof fd, "--ready-fd=%d", ready);
	snprintf(userns, sizeof userns, "--userns-path=/proc/%d/ns/user", (int)s->container);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(ready, F_SETFD, 0);
	dup2(s->words, STDERR_FILENO);
	execv(s->program, argv);
	_exit(127);
}

/* Until davit-init has been executed. */
static void wait_for_init(struct slirp *s)
{
	char path[48];
	int fd;

	snprintf(path, sizeof path, "/proc/%d/ns/user", (int)s->container);
	while ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		if (has_ended(s, LOOK_MS))
			exit(0);
	close(fd);
}

/* --- what it may connect to --- */

static _Noreturn void become_nft(const struct slirp *s)
{
	static const char *const kinds[] = {"user", "net"};
	char *argv[] = {(char *)(uintptr_t)s->nft, (char *)"-f", (char *)(uintptr_t)s->rules, NULL};
	char path[48];

	dup2(s->words, STDERR_FILENO);
	for (int i = 0; i < 2; i++) {
		int fd;

		snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)s->container, kinds[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, 0) < 0) {
			dprintf(STDERR_FILENO, "cannot enter %s: %s", path, strerror(errno));
			_exit(126);
		}
	}
	execv(s->nft, argv);
	dprintf(STDERR_FILENO, "cannot execute %s: %s", s->nft, strerror(errno));
	_exit(127);
}

/* Before there is a way out. */
static void limit(struct slirp *s)
{
	char words[300];
	int status = -1;
	ssize_t n;
	pid_t pid;

	if (!*s->rules)
		return;
	pid = fork();
	if (pid == 0)
		become_nft(s);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status))
		return;
	n = pread(s->words, words, sizeof words - 1, 0);
	words[n > 0 ? n : 0] = '\0';
	fail(s, "what it may connect to cannot be limited", words);
}

static void start(struct slirp *s)
{
	struct pollfd p[2];
	char words[300], c;
	int ready[2];

	if (pipe2(ready, O_CLOEXEC) < 0)
		fail(s, "cannot make a pipe", strerror(errno));
	unlink(s->socket);
	s->child = fork();
	if (s->child == 0)
		become(s, ready[1]);
	close(ready[1]);
	s->child_fd = s->child < 0 ? -1 : (int)syscall(SYS_pidfd_open, s->child, 0);
	if (s->child_fd < 0)
		fail(s, "cannot start slirp4netns", strerror(errno));
	p[0] = (struct pollfd){.fd = ready[0], .events = POLLIN};
	p[1] = (struct pollfd){.fd = s->container_fd, .events = POLLIN};
	if (poll(p, 2, READY_MS) <= 0 || p[1].revents || read(ready[0], &c, 1) != 1) {
		ssize_t n = pread(s->words, words, sizeof words - 1, 0);

		words[n > 0 ? n : 0] = '\0';
		fail(s, "slirp4netns does not work here", words);
	}
	close(ready[0]);
}

/* --- ports --- */

static int dial(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* One request a connection; the answer has an "error" or a "return". */
static bool try_forward(struct slirp *s, char *const port[4], char answer[ANSWER_MAX])
{
	char text[512];
	int fd = dial(s->socket), n, got = 0;
	ssize_t r;

	n = snprintf(
		text, sizeof text,
		"{\"execute\": \"add_hostfwd\", \"arguments\": {\"proto\": \"%s\", \"host_addr\": \"%s\", "
		"\"host_port\": %d, \"guest_port\": %d}}",
		port[0], port[1], atoi(port[2]), atoi(port[3]));
	if (fd < 0 || write(fd, text, (size_t)n) != n || shutdown(fd, SHUT_WR) < 0)
		fail(s, "slirp4netns does not answer", strerror(errno));
	while (got < ANSWER_MAX - 1 && ((r = read(fd, answer + got, ANSWER_MAX - 1 - (size_t)got)) > 0))
		got += (int)r;
	answer[got] = '\0';
	close(fd);
	return strstr(answer, "\"return\"");
}

/* The one of the last run has it for a moment still. */
static void forward(struct slirp *s, char *const port[4])
{
	char text[128], answer[ANSWER_MAX];

	for (int i = 0; i < PORT_TRIES; i++) {
		if (try_forward(s, port, answer))
			return;
		usleep(PORT_PAUSE_US);
	}
	snprintf(text, sizeof text, "port %s of %s cannot be forwarded", port[2], port[1]);
	fail(s, text, answer);
}

/* --- until the container ends --- */

static void stay(const struct slirp *s)
{
	struct pollfd p[2] = {{.fd = s->container_fd, .events = POLLIN},
			      {.fd = s->child_fd, .events = POLLIN}};

	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	kill(s->child, SIGKILL);
	waitpid(s->child, NULL, 0);
	unlink(s->socket);
}

/* Nothing of crun's stays open in it, the container's output least of all. */
static _Noreturn void serve(struct slirp *s)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	close_range(3, ~0U, 0);
	s->words = memfd_create("words", MFD_CLOEXEC);
	s->container_fd = (int)syscall(SYS_pidfd_open, s->container, 0);
	if (s->container_fd < 0)
		exit(0);
	wait_for_init(s);
	limit(s);
	start(s);
	for (size_t i = 0; s->ports[i]; i += 4)
		forward(s, s->ports + i);
	tell(s, "");
	stay(s);
	exit(0);
}

int main(int argc, char **argv)
{
	struct slirp s = {0};
	pid_t pid;

	if (argc < 6 || (argc - 6) % 4) {
		fprintf(stderr, "usage: davit-slirp SLIRP4NETNS SOCKET FIFO NFT RULES [tcp|udp ADDRESS PORT "
				"INSIDE]...\n");
		return 2;
	}
	s.program = argv[1];
	s.fifo = argv[3];
	s.nft = argv[4];
	s.rules = argv[5];
	s.ports = argv + 6;
	s.container = read_pid();
	if (s.container <= 0) {
		fprintf(stderr, "davit-slirp: there is no container's state on standard input\n");
		return 1;
	}
	/* That of the last run may be about to be removed. */
	snprintf(s.socket, sizeof s.socket, "%s.%d", argv[2], (int)s.container);
	pid = fork();
	if (pid == 0)
		serve(&s);
	return pid < 0;
}
