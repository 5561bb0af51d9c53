/* SPDX-License-Identifier: MIT
 *
 * The workload of the suite on runtimes that run programs: guest VERB [N].
 * It stands alone: nothing of davit is linked into it.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

extern char **environ;

static void run(void)
{
	for (;;)
		pause();
}

static void die(int signo)
{
	const struct rlimit none = {0, 0};
	sigset_t set;

	setrlimit(RLIMIT_CORE, &none);
	signal(signo, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(signo);
}

static void say(const char *line)
{
	puts(line);
	fflush(stdout);
}

static void show(const char *word)
{
	for (; *word; word++)
		printf("%02x", (unsigned char)*word);
	putchar('\n');
}

static void notify(const char *message)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	size_t len = path ? strlen(path) : 0;

	if (!len || len >= sizeof a.sun_path || fd < 0)
		exit(99);
	memcpy(a.sun_path, path, len);
	if (*path == '@')
		a.sun_path[0] = '\0';
	if (sendto(fd, message, strlen(message), 0, (struct sockaddr *)&a,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		exit(98);
	close(fd);
}

/* The connection stays, where there is one. */
static void reach(const char *address, int port)
{
	const struct sockaddr_in a = {.sin_family = AF_INET,
				      .sin_port = htons((unsigned short)port),
				      .sin_addr = {inet_addr(address)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (const struct sockaddr *)&a, sizeof a) < 0)
		close(fd);
}

/* Leaves the session, the group and the parent, as daemons do. */
static void fork_daemon(void)
{
	int fd[2];
	pid_t pid;

	if (pipe(fd) < 0)
		exit(97);
	if (fork() == 0) {
		setsid();
		pid = fork();
		if (pid == 0) {
			signal(SIGTERM, SIG_IGN);
			signal(SIGHUP, SIG_IGN);
			run();
		}
		if (write(fd[1], &pid, sizeof pid) < 0)
			_exit(1);
		_exit(0);
	}
	if (read(fd[0], &pid, sizeof pid) != (ssize_t)sizeof pid)
		exit(96);
	printf("%d\n", (int)pid);
	fflush(stdout);
}

static int copy(void)
{
	char data[4096];
	ssize_t n;

	while ((n = read(0, data, sizeof data)) > 0)
		if (write(1, data, (size_t)n) != n)
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	int n = argc > 2 ? atoi(argv[2]) : 0;

	if (!strcmp(verb, "exit"))
		return n;
	if (!strcmp(verb, "die"))
		die(n);
	if (!strcmp(verb, "ignore")) {
		signal(SIGTERM, SIG_IGN);
		say("ignoring");
	}
	if (!strcmp(verb, "print")) {
		for (int i = 1; i <= n; i++)
			printf("line %d\n", i);
		fflush(stdout);
		fputs("done\n", stderr);
	}
	while (!strcmp(verb, "tick")) {
		say("tick");
		usleep(20000);
	}
	if (!strcmp(verb, "notify")) {
		notify("STATUS=warming up");
		notify("READY=1");
	}
	if (!strcmp(verb, "ready-fd") && write(n, "\n", 1) != 1)
		return 95;
	if (!strcmp(verb, "daemon"))
		fork_daemon();
	if (!strcmp(verb, "show")) {
		for (int i = 2; i < argc; i++)
			show(argv[i]);
		for (char **e = environ; *e; e++)
			show(*e);
		fflush(stdout);
	}
	for (int i = 3; !strcmp(verb, "connect") && i < argc; i++)
		reach(argv[i], n);
	if (!strcmp(verb, "directory")) {
		char path[4096];
		say(getcwd(path, sizeof path) ? path : "?");
	}
	if (!strcmp(verb, "say")) {
		say("out");
		fputs("err\n", stderr);
		return n;
	}
	if (!strcmp(verb, "copy"))
		return copy();
	if (!strcmp(verb, "name")) {
		say(getenv("NAME") ? getenv("NAME") : "(unset)");
		return 0;
	}
	run();
}
