/* SPDX-License-Identifier: MIT */
#include "source/run.h"

#include "base/file.h"
#include "base/signals.h"
#include "base/start.h"
#include "base/strv.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define CAPTURE_MAX 65536

int64_t davit_run_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * DAVIT_NSEC_PER_SEC + ts.tv_nsec;
}

int davit_run_init(struct davit_error *err)
{
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return davit_error_errno(err, errno, NULL, "cannot become the reaper of a build's processes");
	return 0;
}

static bool is_executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *davit_run_find(const char *name, char *const *env)
{
	const char *path = davit_strv_getenv(env, "PATH");

	if (strchr(name, '/'))
		return is_executable(name) ? strdup(name) : NULL;
	while (path && *path) {
		size_t n = strcspn(path, ":");
		char *file;
		/* An empty or relative part would mean the source's own directory. */
		if (*path == '/') {
			if (asprintf(&file, "%.*s/%s", (int)n, path, name) < 0)
				return NULL;
			if (is_executable(file))
				return file;
			free(file);
		}
		path += n + (path[n] == ':');
	}
	return NULL;
}

/* --- the end of a program and of what it started --- */

/* Kills our children until none is left. As we are the subreaper, the children
 * of one that dies become ours, so this ends with the last descendant. */
static void kill_children(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
	for (;;) {
		DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
		char *save = NULL;

		if (davit_read_file(path, 1 << 20, &text, NULL) == 0 && text.len)
			for (char *w = strtok_r(text.data, " \n", &save); w;
			     w = strtok_r(NULL, " \n", &save)) {
				pid_t child = (pid_t)strtol(w, NULL, 10);
				if (child > 1) /* 0 would be all of our group */
					kill(child, SIGKILL);
			}
		if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
			return;
	}
}

/* --- output --- */

struct pipes {
	int out[2]; /* read end, write end; -1 */
	int seen[2];
};

static void close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++) {
		if (pair[i] >= 0)
			close(pair[i]);
		pair[i] = -1;
	}
}

static void pipes_fini(struct pipes *p)
{
	close_pair(p->out);
	close_pair(p->seen);
}

/* Only our end must not block: the program's is an ordinary pipe. */
static int open_pair(int pair[2], struct davit_error *err)
{
	if (pipe2(pair, O_CLOEXEC) < 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	return 0;
}

/* Takes what there is; false at the end. */
static bool take(int *fd, struct davit_buf *to, bool print)
{
	char chunk[4096];
	ssize_t n;

	while ((n = DAVIT_EINTR(read(*fd, chunk, sizeof chunk))) > 0) {
		if (to->len < CAPTURE_MAX)
			davit_buf_add(to, chunk, (size_t)n);
		if (print)
			davit_write_full(STDERR_FILENO, chunk, (size_t)n);
	}
	if (n < 0 && errno == EAGAIN)
		return true;
	close(*fd);
	*fd = -1;
	return false;
}

/* --- running --- */

static int spawn(const struct davit_run *run, const struct pipes *p, pid_t *ret, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *file = davit_run_find(run->argv[0], run->env);
	const struct davit_start start = {
		.program = file,
		.argv = run->argv,
		.env = run->env,
		.directory = run->directory,
		.fds = {-1, p->out[1] < 0 ? STDOUT_FILENO : p->out[1],
			p->seen[1] < 0 ? STDERR_FILENO : p->seen[1]},
		.defaults = true,
	};
	int r;

	if (!file)
		return davit_error_set(err, DAVIT_ENOENT, NULL, "there is no program '%s'", run->argv[0]);
	r = davit_start(&start, ret);
	return r ? davit_error_errno(err, r, NULL, "cannot run %s", file) : 0;
}

static int poll_timeout(int64_t deadline)
{
	int64_t left = deadline ? (deadline - davit_run_now()) / DAVIT_NSEC_PER_MSEC + 1 : -1;

	return left < -1 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

/* Until the program has ended; its output is taken meanwhile. */
static int wait_for(const struct davit_run *run, pid_t pid, struct pipes *p, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int pidfd = pidfd_open(pid, 0);

	if (pidfd < 0)
		return davit_error_errno(err, errno, NULL, "cannot watch %s", run->argv[0]);
	for (;;) {
		struct pollfd fds[] = {{pidfd, POLLIN, 0}, {p->out[0], POLLIN, 0}, {p->seen[0], POLLIN, 0}};
		int n = poll(fds, 3, poll_timeout(run->deadline));
		if (n < 0 && errno != EINTR)
			return davit_error_errno(err, errno, NULL, "cannot watch %s", run->argv[0]);
		if (p->out[0] >= 0)
			take(&p->out[0], run->out, false);
		if (p->seen[0] >= 0)
			take(&p->seen[0], run->seen, true);
		if (n > 0 && fds[0].revents)
			return 0;
		if (run->deadline && davit_run_now() >= run->deadline)
			return davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "%s ran too long", run->argv[0]);
	}
}

int davit_run(const struct davit_run *run, int *ret_status, struct davit_error *err)
{
	DAVIT_CLEANUP(pipes_fini) struct pipes p = {{-1, -1}, {-1, -1}};
	int status = 0, r = 0;
	pid_t pid;

	if (run->out)
		r = open_pair(p.out, err);
	if (r == 0 && run->seen)
		r = open_pair(p.seen, err);
	fflush(NULL);
	if (r == 0)
		r = spawn(run, &p, &pid, err);
	if (r < 0)
		return r;
	for (int *const *w = (int *const[]){&p.out[1], &p.seen[1], NULL}; *w; w++) {
		if (**w >= 0)
			close(**w);
		**w = -1;
	}
	r = wait_for(run, pid, &p, err);
	if (r == 0)
		DAVIT_EINTR(waitpid(pid, &status, 0));
	kill_children();
	if (r == 0 && ((run->out && run->out->oom) || (run->seen && run->seen->oom)))
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0)
		*ret_status = status;
	return r;
}

int davit_run_check(int status, int code, const char *label, struct davit_error *err)
{
	char name[DAVIT_SIGNAL_MAX];

	if (WIFSIGNALED(status))
		return davit_error_set(err, code, NULL, "%s was killed by %s", label,
				       davit_signal_format(WTERMSIG(status), name));
	if (WEXITSTATUS(status))
		return davit_error_set(err, code, NULL, "%s failed with exit code %d", label,
				       WEXITSTATUS(status));
	return 0;
}
