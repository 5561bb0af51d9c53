/* SPDX-License-Identifier: MIT
 *
 * Inputs of davit execute: directories, archives, and what git says of a directory.
 */
#include "base/buf.h"
#include "base/file.h"
#include "base/strv.h"
#include "cli/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

/* Is there a .git in it or in one above? */
static bool in_repository(const char *directory)
{
	DAVIT_AUTO_FREE char *real = realpath(directory, NULL);

	while (real && *real) {
		DAVIT_AUTO_FREE char *git = davit_path_join(real, ".git");
		char *slash = strrchr(real, '/');

		if (git && access(git, F_OK) == 0)
			return true;
		if (!slash || slash == real)
			return access("/.git", F_OK) == 0;
		*slash = '\0';
	}
	return false;
}

static int read_all(int fd, struct davit_buf *out)
{
	ssize_t n;

	do {
		if (davit_buf_reserve(out, 65536) < 0)
			return -1;
		n = DAVIT_EINTR(read(fd, out->data + out->len, 65536));
		out->len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	return n < 0 ? -1 : 0;
}

/* What git tracks in a directory and what it does not ignore: names that end with NUL. */
static int git_files(const char *directory, struct davit_buf *out, struct davit_error *err)
{
	const char *const argv[] = {
		"git", "-C", directory, "ls-files", "--cached", "--others", "--exclude-standard", "-z", NULL};
	posix_spawn_file_actions_t actions;
	int ends[2], e, status = 0, r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	e = posix_spawnp(&pid, "git", &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	if (e) {
		close(ends[0]);
		return davit_error_errno(
			err, e, NULL,
			"%s is in a git repository, but git cannot be run (--include-ignored takes "
			"everything without it)",
			directory);
	}
	r = read_all(ends[0], out);
	close(ends[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0 || out->oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (status != 0)
		return davit_error_set(
			err, DAVIT_ESOURCE, NULL,
			"git cannot list the files of %s (--include-ignored takes everything without it)",
			directory);
	return 0;
}

static int put_directory(struct davit_artifacts *s, const char *from, bool all,
			 struct davit_artifact_hold *ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF list = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char **names = NULL;
	size_t n = 0;
	int r;

	if (all || !in_repository(from))
		return davit_artifacts_put_directory(s, from, NULL, ret, err);
	r = git_files(from, &list, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < list.len; i++)
		n += !list.data[i];
	/* A directory that git ignores as a whole was not meant to be empty. */
	if (!n)
		return davit_artifacts_put_directory(s, from, NULL, ret, err);
	names = calloc(n + 1, sizeof *names);
	if (!names)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	n = 0;
	for (char *p = list.data; p < list.data + list.len; p += strlen(p) + 1) {
		size_t len = strlen(p);
		if (len && p[len - 1] == '/') /* a repository within */
			p[len - 1] = '\0';
		names[n++] = p;
		p += len - strlen(p);
	}
	return davit_artifacts_put_directory(s, from, names, ret, err);
}

int davit_steps_upload(struct davit_artifacts *s, const char *from, bool all, struct davit_artifact_hold *ret,
		       struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	struct stat st;

	if (!strncmp(from, "artifact:", 9))
		return davit_artifacts_find(s, from + 9, ret, err);
	if (stat(from, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot read %s", from);
	if (S_ISDIR(st.st_mode))
		return put_directory(s, from, all, ret, err);
	fd = open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", from);
	return davit_artifacts_put_tar(s, fd, ret, err);
}
