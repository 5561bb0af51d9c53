/* SPDX-License-Identifier: MIT
 *
 * Registries are skopeo's business; it writes an OCI layout into the job's
 * directory, which is then loaded like any other.
 */
#include "image/image_impl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Transports whose argument is a path that we read ourselves. */
static const char *local_path(const char *source)
{
	static const char *const known[] = {"oci:", "oci-archive:", "docker-archive:", "dir:"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(known); i++)
		if (!strncmp(source, known[i], strlen(known[i])))
			return source + strlen(known[i]);
	return NULL;
}

/* Ours ends with us: a copy that nobody waits for would fill the job's directory,
 * which it keeps locked by the descriptor that it inherits. */
static void become(struct image_job *j, int out, char *const *argv)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(j->fd, F_SETFD, 0);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execvp(argv[0], argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* Keeps the end of what it prints. */
static void read_end(int fd, char *out, size_t size)
{
	size_t n = 0;
	ssize_t got;
	char buf[512];

	while ((got = DAVIT_EINTR(read(fd, buf, sizeof buf))) > 0) {
		size_t k = (size_t)got, drop = n + k > size - 1 ? n + k - (size - 1) : 0;
		memmove(out, out + drop, n - drop);
		n -= drop;
		memcpy(out + n, buf, k);
		n += k;
	}
	while (n && isspace((unsigned char)out[n - 1]))
		n--;
	out[n] = '\0';
}

/* Of its last line, ... msg="REASON", the reason. Changes the text. */
static const char *reason_of(char *text)
{
	char *line = strrchr(text, '\n'), *msg, *to;

	line = line ? line + 1 : text;
	msg = strstr(line, "msg=\"");
	if (!msg)
		return *line ? line : "skopeo was killed";
	to = msg += strlen("msg=\"");
	for (const char *from = msg; *from && *from != '"'; from++) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = *from;
	}
	*to = '\0';
	return msg;
}

static int run_skopeo(struct image_job *j, char *const *argv, struct davit_error *err)
{
	char text[1024] = "";
	int p[2], status = 0;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	pid = fork();
	if (pid == 0)
		become(j, p[1], argv);
	close(p[1]);
	if (pid < 0) {
		close(p[0]);
		return davit_error_errno(err, errno, NULL, "cannot start skopeo");
	}
	read_end(p[0], text, sizeof text);
	close(p[0]);
	if (DAVIT_EINTR(waitpid(pid, &status, 0)) < 0)
		return davit_error_errno(err, errno, NULL, "cannot wait for skopeo");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && !*text)
		return davit_error_set(err, DAVIT_ENOTSUP, NULL, "pulling needs skopeo: not installed");
	if (status)
		return davit_error_set(err, DAVIT_EUNAVAIL, NULL, "cannot pull '%.128s': %.256s", argv[4],
				       reason_of(text));
	return 0;
}

static int pull(struct image_job *j, const struct davit_image_load *l, const char *source,
		struct davit_error *err)
{
	DAVIT_AUTO_FREE char *to = NULL;
	DAVIT_AUTO_FREE char *dir = NULL;
	struct davit_image_load load = *l;

	if (asprintf(&dir, "%s/tmp/%s/pull", j->store->dir, j->name) < 0 ||
	    asprintf(&to, "oci:%s:pulled", dir) < 0)
		return image_oom(err);
	char *argv[] = {"skopeo", "copy", "--quiet", "--preserve-digests", (char *)(uintptr_t)source,
			to,	  NULL};
	int r = run_skopeo(j, argv, err);
	load.select = NULL;
	return r == 0 ? image_load_from(j, &load, dir, true, err) : r;
}

/* "docker://REF", "REF", or "TRANSPORT:...". */
static int choose_source(const struct davit_image_load *l, char **ret_source, char full[DAVIT_REFERENCE_MAX],
			 struct davit_error *err)
{
	const char *name = !strncmp(l->path, "docker://", 9) ? l->path + 9 : l->path;
	bool other = !strncmp(l->path, "docker-daemon:", 14) || !strncmp(l->path, "containers-storage:", 19);
	int r;

	if (other && !l->reference)
		return davit_error_set(err, DAVIT_EINVAL, "reference",
				       "'%.128s' needs a name: --reference NAME", l->path);
	r = other ? 0 : davit_reference_normalise(name, full, err);
	if (r == 0 && l->reference)
		r = davit_reference_normalise(l->reference, full, err);
	if (r < 0)
		return r;
	return asprintf(ret_source, "%s%s", other ? "" : "docker://", other ? l->path : name) < 0
		       ? image_oom(err)
		       : 0;
}

int davit_image_pull(struct davit_image_store *s, const struct davit_image_load *l, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *source = NULL;
	const char *path = local_path(l->path);
	struct davit_image_load load = *l;
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	char full[DAVIT_REFERENCE_MAX];
	int r;

	if (path) {
		load.path = path;
		return davit_image_load(s, &load, err);
	}
	r = choose_source(l, &source, full, err);
	load.reference = full;
	if (r == 0)
		r = image_job_begin(s, &j, err);
	return r == 0 ? pull(&j, &load, source, err) : r;
}
