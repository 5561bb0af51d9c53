/* SPDX-License-Identifier: MIT
 *
 * Steps that run, to be joined.
 */
#include "base/file.h"
#include "base/strv.h"
#include "davit/execute.h"
#include "step/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

static bool runs(struct davit_artifacts *s, const char *id)
{
	char path[300];
	DAVIT_AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "runs/%s/lock", id);
	fd = openat(s->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0;
}

/* The ids that begin so, of those that run. */
static int find(struct davit_artifacts *s, const char *prefix, char ***ret, struct davit_error *err)
{
	int fd = openat(s->fd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *d;

	if (!dir) {
		r = davit_error_errno(err, errno, NULL, "cannot read %s/runs", s->directory);
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (d = readdir(dir)))
		if (d->d_name[0] != '.' && !strncmp(d->d_name, prefix, strlen(prefix)) &&
		    runs(s, d->d_name) && davit_strv_add(ret, d->d_name) < 0)
			r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	closedir(dir);
	return r;
}

static int choose(struct davit_artifacts *s, const char *id, char ***found, struct davit_error *err)
{
	int r = find(s, id ? id : "", found, err);
	size_t n = davit_strv_len(*found);

	if (r < 0)
		return r;
	if (n == 0)
		return id ? davit_error_set(err, DAVIT_ENOENT, NULL,
					    "no step runs whose id is or begins with %.64s", id)
			  : davit_error_set(err, DAVIT_ENOENT, NULL, "no step runs");
	if (n > 1)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%zu such steps run, as %s and %s: say which",
				       n, (*found)[0], (*found)[1]);
	return 0;
}

int davit_execution_intercept(struct davit_artifacts *s, const char *id, char *const *command, char ***ret,
			      struct davit_error *err)
{
	static char *const shell[] = {(char *)"sh", NULL};
	DAVIT_AUTO_FREE char *program = davit_path_join(s->paths.libexec, "davit-step"), *directory = NULL;
	DAVIT_AUTO_STRV found = NULL;
	DAVIT_AUTO_STRV argv = NULL;
	int r = choose(s, id, &found, err);

	if (r < 0)
		return r;
	if (!program || asprintf(&directory, "%s/runs/%s", s->directory, found[0]) < 0 ||
	    davit_strv_add(&argv, program) < 0 || davit_strv_add(&argv, "intercept") < 0 ||
	    davit_strv_add(&argv, directory) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (command = command && *command ? command : shell; *command; command++)
		if (davit_strv_add(&argv, *command) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret = DAVIT_TAKE(argv);
	return 0;
}
