/* SPDX-License-Identifier: MIT
 *
 * Starting the daemon for a user who did not.
 */
#include "base/start.h"
#include "base/file.h"
#include "base/strv.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "net/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define DEADLINE (30 * DAVIT_NSEC_PER_SEC) /* on a busy machine; else it takes some ms */
#define FIRST_WAIT (2 * DAVIT_NSEC_PER_MSEC)
#define LONGEST_WAIT (50 * DAVIT_NSEC_PER_MSEC)

extern char **environ;

/* The daemon's working directory is /, so a relative DAVIT_HOME would mean
 * another place to it than to us. */
static int environment(const struct davit_paths *paths, char ***ret, struct davit_error *err)
{
	const char *home = getenv("DAVIT_HOME");
	DAVIT_AUTO_STRV env = NULL;
	DAVIT_AUTO_FREE char *base = NULL;

	if (davit_strv_dup(environ, &env) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (home && home[0] && home[0] != '/') {
		base = strndup(paths->run, strlen(paths->run) - strlen("/run"));
		if (!base || davit_strv_setenv(&env, "DAVIT_HOME", base) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	*ret = DAVIT_TAKE(env);
	return 0;
}

static int spawn(const struct davit_paths *paths, const char *program, const char *log, pid_t *ret,
		 struct davit_error *err)
{
	char *const argv[] = {(char *)"davitd", NULL};
	DAVIT_AUTO_STRV env = NULL;
	DAVIT_AUTO_CLOSE int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct davit_start start = {
		.program = program,
		.argv = argv,
		.directory = "/",
		.fds = {-1, out, out},
		.in = DAVIT_START_IN_OWN_SESSION,
		.defaults = true,
		.closed = true,
	};
	int r = environment(paths, &env, err);

	if (r < 0)
		return r;
	if (out < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", log);
	start.env = env;
	r = davit_start(&start, ret);
	return r ? davit_error_errno(err, r, NULL, "cannot start the daemon %s", program) : 0;
}

/* Appends the last line of the daemon's log, written since `from`, to *err. */
static void add_reason(const char *log, off_t from, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(log, O_RDONLY | O_CLOEXEC);
	char tail[400], *line, text[sizeof err->message];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= from)
		return;
	if (st.st_size - from > (off_t)sizeof tail - 1)
		from = st.st_size - ((off_t)sizeof tail - 1);
	n = pread(fd, tail, sizeof tail - 1, from);
	while (n > 0 && tail[n - 1] == '\n')
		n--;
	if (n <= 0)
		return;
	tail[n] = '\0';
	line = strrchr(tail, '\n');
	snprintf(text, sizeof text, "%.200s: %.200s", err->message, line ? line + 1 : tail);
	davit_error_set(err, err->code, NULL, "%s", text);
}

static bool answers(const struct davit_paths *paths)
{
	struct davit_client *c = NULL;
	int r = davit_client_open(paths->socket, &c, NULL);

	davit_client_close(c);
	return r == 0;
}

/* Until the daemon answers, or has ended, or takes too long: true, or false. */
static bool wait_for(const struct davit_paths *paths, pid_t pid, bool *ret_ended)
{
	int64_t deadline = davit_monotonic() + DEADLINE, wait = FIRST_WAIT;
	int status = 0;

	*ret_ended = false;
	for (;;) {
		const struct timespec ts = {.tv_nsec = (long)wait};
		if (answers(paths))
			return true;
		/* One that lost the race against another ends with status 0, and the
		 * winner's socket is about to answer. */
		if (!*ret_ended && waitpid(pid, &status, WNOHANG) == pid) {
			*ret_ended = true;
			if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
				deadline = answers(paths) ? deadline
							  : davit_monotonic() + DAVIT_NSEC_PER_SEC / 2;
		}
		if (davit_monotonic() > deadline)
			return false;
		nanosleep(&ts, NULL);
		wait = wait * 2 < LONGEST_WAIT ? wait * 2 : LONGEST_WAIT;
	}
}

int davit_daemon_start(const struct davit_paths *paths, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *program = davit_path_join(paths->libexec, "davitd");
	DAVIT_AUTO_FREE char *log = davit_path_join(paths->log, "davitd.log");
	bool ended = false;
	struct stat st;
	off_t from = 0;
	int r;
	pid_t pid;

	if (!program || !log)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = davit_paths_make(paths, err);
	if (r < 0)
		return r;
	if (access(program, X_OK) < 0)
		return davit_error_errno(err, errno, NULL,
					 "no daemon runs, and its program cannot be started: %s", program);
	if (stat(log, &st) == 0)
		from = st.st_size;
	r = spawn(paths, program, log, &pid, err);
	if (r < 0)
		return r;
	if (wait_for(paths, pid, &ended))
		return 0;
	if (ended && err)
		r = davit_error_set(err, DAVIT_EUNAVAIL, NULL, "the daemon ended at once (see %s)", log);
	else
		r = davit_error_set(err, DAVIT_EUNAVAIL, NULL,
				    "the daemon does not answer on %s after %d s (see %s)", paths->socket,
				    (int)(DEADLINE / DAVIT_NSEC_PER_SEC), log);
	if (err)
		add_reason(log, from, err);
	return r;
}
