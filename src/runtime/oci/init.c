/* SPDX-License-Identifier: MIT
 *
 * davit-init: the first process of a container. The kernel spares the first
 * process of a pid namespace every signal that it has no handler for, and gives
 * it all orphans; programs expect neither. So this one stands there: it passes
 * signals on to the program, reaps orphans, and ends when the program does.
 *
 *   davit-init [-n] [-e] [-x FILE] [-w FIFO] [-f N] [-s NAME=VALUE]... -- PROGRAM [WORD...]
 *
 *   -n  becomes the program instead of starting it: for further commands
 *   -e  words and variables are escaped (%XX): JSON cannot carry all bytes
 *   -x  how the program ended is written there, where an exit code cannot say it
 *   -w  before the program is started: until somebody has opened it and closed it again;
 *       what he writes is why it is not to be started (slirp.c)
 *   -f  descriptor 3 becomes N in the program
 *   -s  a variable; the environment has what else there is behind them
 *
 * It is linked statically and uses no other part of davit: it runs on any root
 * file system, or on none.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct options {
	bool become, escaped;
	int exit_fd, ready_fd;
	const char *fifo;
	char **argv;
	char **env; /* those of -s, then the others */
	size_t n_env;
};

static void refuse(const char *what)
{
	fprintf(stderr, "davit-init: %s\n", what);
	exit(125);
}

/* %XX to bytes, in place. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		unsigned byte;

		if (*s == '%' && sscanf(s + 1, "%2x", &byte) == 1) {
			*to++ = (char)byte;
			s += 3;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

static bool has(const struct options *o, const char *variable)
{
	size_t n = strcspn(variable, "=");

	for (size_t i = 0; i < o->n_env; i++)
		if (!strncmp(o->env[i], variable, n) && o->env[i][n] == '=')
			return true;
	return false;
}

static void parse(struct options *o, int argc, char **argv)
{
	size_t n = 0;
	int c;

	while (environ[n])
		n++;
	o->env = calloc(n + (size_t)argc + 1, sizeof *o->env);
	if (!o->env)
		refuse("out of memory");
	while ((c = getopt(argc, argv, "+nex:w:f:s:")) != -1) {
		switch (c) {
		case 'n':
			o->become = true;
			break;
		case 'e':
			o->escaped = true;
			break;
		case 'x':
			o->exit_fd = open(optarg, O_WRONLY | O_CLOEXEC);
			break;
		case 'w':
			o->fifo = optarg;
			break;
		case 'f':
			o->ready_fd = atoi(optarg);
			break;
		case 's':
			o->env[o->n_env++] = optarg;
			break;
		default:
			exit(125);
		}
	}
	o->argv = argv + optind;
	if (!*o->argv)
		refuse("no program");
	for (size_t i = 0; o->escaped && i < o->n_env; i++)
		unescape(o->env[i]);
	for (size_t i = 0; o->escaped && o->argv[i]; i++)
		unescape(o->argv[i]);
	for (size_t i = 0; i < n; i++)
		if (!has(o, environ[i]))
			o->env[o->n_env++] = environ[i];
	environ = o->env;
}

/* Executes the program; what comes back is why not. */
static int execute(const struct options *o)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (o->ready_fd > 3) {
		if (dup2(3, o->ready_fd) < 0)
			return errno;
		close(3);
	}
	execvp(o->argv[0], o->argv);
	return errno;
}

static void tell(const struct options *o, const char *kind, int number, const char *text)
{
	char line[160];
	int n = snprintf(line, sizeof line, "%s %d %s\n", kind, number, text);

	if (n >= (int)sizeof line)
		n = sizeof line - 1;
	if (o->exit_fd >= 0 && write(o->exit_fd, line, (size_t)n) < 0)
		return; /* the exit code still says the most */
}

/* Starts the program. It does not run, with the reason told, or its pid. */
static pid_t start(const struct options *o)
{
	int p[2], why = 0;
	char text[128];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		refuse("cannot make a pipe");
	pid = fork();
	if (pid < 0)
		refuse("cannot start a process");
	if (pid == 0) {
		if (o->exit_fd >= 0)
			close(o->exit_fd);
		why = execute(o);
		if (write(p[1], &why, sizeof why) < 0)
			_exit(126);
		_exit(127);
	}
	close(p[1]);
	if (read(p[0], &why, sizeof why) != sizeof why)
		why = 0;
	close(p[0]);
	if (!why)
		return pid;
	snprintf(text, sizeof text, "cannot execute %s: %s", o->argv[0], strerror(why));
	tell(o, "exec", why, text);
	fprintf(stderr, "davit-init: %s\n", text);
	exit(why == ENOENT ? 127 : 126);
}

/* Signals wait meanwhile, as they do while the program is started. */
static void wait_at_fifo(const struct options *o)
{
	char why[512];
	int fd = open(o->fifo, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, why, sizeof why - 1);

	if (fd < 0)
		refuse("cannot wait for the network");
	close(fd);
	if (n <= 0)
		return;
	why[n] = '\0';
	tell(o, "exec", 0, why);
	fprintf(stderr, "davit-init: %s\n", why);
	exit(126);
}

static _Noreturn void end(const struct options *o, int status)
{
	if (WIFEXITED(status))
		exit(WEXITSTATUS(status));
	tell(o, "signal", WTERMSIG(status), WCOREDUMP(status) ? "core" : "");
	exit(128 + WTERMSIG(status));
}

int main(int argc, char **argv)
{
	struct options o = {.exit_fd = -1};
	sigset_t all;
	pid_t main_pid;

	parse(&o, argc, argv);
	if (o.become) {
		int why = execute(&o);

		fprintf(stderr, "davit-init: cannot execute %s: %s\n", o.argv[0], strerror(why));
		return why == ENOENT ? 127 : 126;
	}
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (o.fifo)
		wait_at_fifo(&o);
	main_pid = start(&o);
	if (o.ready_fd)
		close(3); /* its end is the program's to keep open */
	for (;;) {
		siginfo_t info;
		int signo = sigwaitinfo(&all, &info), status;
		pid_t pid;

		if (signo > 0 && signo != SIGCHLD)
			kill(main_pid, signo);
		while (signo == SIGCHLD && (pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == main_pid)
				end(&o, status);
	}
}
