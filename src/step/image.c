/* SPDX-License-Identifier: MIT
 *
 * The image of a step: found in davit's own store, or fetched into it, and held while the step runs.
 * Its layers become the lower directories of the step's root.
 */
#include "image/image.h"
#include "step/execution.h"

#include "base/file.h"
#include "base/start.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define SAID_MAX 400 /* of what the program that fetches says, the end */

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static char *store_path(const struct davit_artifacts *s)
{
	return davit_path_join(s->paths.state, "images");
}

static int open_store(const struct davit_artifacts *s, struct davit_image_store **ret,
		      struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = store_path(s);

	return path ? davit_image_store_open(path, ret, err) : no_memory(err);
}

static void holder(const char *id, char ret[32])
{
	snprintf(ret, 32, "step-%s", id);
}

static int hold(struct davit_execution *x, struct davit_error *err)
{
	struct davit_image_store *s;
	char name[32];
	int r = open_store(x->store, &s, err);

	if (r < 0)
		return r;
	holder(x->id, name);
	r = davit_image_hold(s, name, x->image, false, &x->found, err);
	x->held = r == 0;
	if (r == 0)
		snprintf(x->image_id, sizeof x->image_id, "%s", x->found->id);
	davit_image_store_close(s);
	return r;
}

/* ----------------------------------------------------------------------------- fetching */

/* Keeps the end of what comes from fd, without the line's end. */
static void hear(int fd, char *ret)
{
	char buf[512];
	size_t n = 0;
	ssize_t got;

	while ((got = DAVIT_EINTR(read(fd, buf, sizeof buf))) > 0) {
		size_t k = (size_t)got, drop;

		drop = n + k > SAID_MAX ? n + k - SAID_MAX : 0;
		if (drop > n) {
			memcpy(ret, buf + k - SAID_MAX, SAID_MAX);
			n = SAID_MAX;
			continue;
		}
		memmove(ret, ret + drop, n - drop);
		memcpy(ret + n - drop, buf, k);
		n += k - drop;
	}
	while (n && ret[n - 1] == '\n')
		n--;
	ret[n] = '\0';
}

static int start(struct davit_execution *x, const char *program, char *const *argv, const int fds[3],
		 pid_t *ret)
{
	int e = ECANCELED;

	pthread_mutex_lock(&x->fetching);
	if (!atomic_load(&x->unwanted)) {
		e = davit_start_program(program, argv, fds, false, ret);
		x->fetcher = e ? 0 : *ret;
	}
	pthread_mutex_unlock(&x->fetching);
	return e;
}

/* Waits; the pid is nobody else's until it is forgotten here. */
static bool end(struct davit_execution *x, pid_t pid)
{
	siginfo_t info;
	int status;

	while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&x->fetching);
	x->fetcher = 0;
	pthread_mutex_unlock(&x->fetching);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

/* Runs a program to its end. What it says at `from` (1 or 2) is in `said`; 0 if it succeeds, DAVIT_ENOENT if
 * it does not. */
static int ask(struct davit_execution *x, const char *program, char *const *argv, int from,
	       char said[SAID_MAX + 1], struct davit_error *err)
{
	int ends[2], fds[3] = {-1, -1, -1}, e;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	fds[2] = ends[1];
	fds[from] = ends[1];
	e = start(x, program, argv, fds, &pid);
	close(ends[1]);
	if (e == 0)
		hear(ends[0], said);
	close(ends[0]);
	if (e == ECANCELED)
		return davit_error_set(err, DAVIT_ECANCELED, NULL, "aborted");
	if (e)
		return davit_error_errno(err, e, NULL, "cannot start %s", program);
	if (end(x, pid))
		return 0;
	return atomic_load(&x->unwanted) ? davit_error_set(err, DAVIT_ECANCELED, NULL, "aborted")
					 : DAVIT_ENOENT;
}

static int fetch(struct davit_execution *x, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *program = davit_path_join(x->store->paths.libexec, "davit-image");
	DAVIT_AUTO_FREE char *store = store_path(x->store);
	char *const argv[] = {(char *)"davit-image", (char *)"--store", store,
			      (char *)"--reference", x->image,		(char *)"pull",
			      (char *)"--",	     x->image,		NULL};
	char said[SAID_MAX + 1];
	const char *reason;
	int r;

	if (!program || !store)
		return no_memory(err);
	r = ask(x, program, argv, STDERR_FILENO, said, err);
	if (r != DAVIT_ENOENT)
		return r;
	reason = !strncmp(said, "davit-image: ", 13) ? said + 13 : said;
	return davit_error_set(err, DAVIT_ENOENT, "image",
			       "image '%.200s' not found locally, and it cannot be fetched: %s", x->image,
			       *reason ? reason : "davit-image was killed");
}

int step_image_ask(struct davit_execution *x, bool with_fetch, char *ret, size_t size,
		   struct davit_error *err)
{
	DAVIT_AUTO_FREE char *program = davit_path_join(x->store->paths.libexec, x->runtime->driver);
	char *const argv[] = {(char *)"davit-step-driver", (char *)x->runtime->name,
			      (char *)(with_fetch ? "fetch" : "image"), x->image, NULL};
	char said[SAID_MAX + 1];
	int r = program ? ask(x, program, argv, STDOUT_FILENO, said, err) : no_memory(err);

	if (r == DAVIT_ENOENT)
		return davit_error_set(err, DAVIT_ENOENT, "image", "%s",
				       *said ? said : "davit-step-engine was killed");
	if (r == 0)
		snprintf(ret, size, "%s", said);
	return r;
}

int step_image_take(struct davit_execution *x, struct davit_error *err)
{
	int r = hold(x, err);

	if (r != DAVIT_ENOENT)
		return r;
	davit_error_clear(err);
	r = fetch(x, err);
	return r < 0 ? r : hold(x, err);
}

void step_image_cancel(struct davit_execution *x)
{
	pthread_mutex_lock(&x->fetching);
	atomic_store(&x->unwanted, true);
	if (x->fetcher)
		kill(x->fetcher, SIGKILL);
	pthread_mutex_unlock(&x->fetching);
}

/* ----------------------------------------------------------------------------- the order */

/* Does the order have a value for the name of "NAME=value"? */
static bool has_env(const struct davit_execution *x, const char *entry)
{
	size_t n = strcspn(entry, "=") + 1;

	for (size_t at = 0; at < x->order.len;) {
		const struct step_record *r = (const void *)(x->order.data + at);

		if (r->tag == STEP_ENV && !strncmp(r->text, entry, n))
			return true;
		at += sizeof *r + STEP_RECORD_PAD(r->length);
	}
	return false;
}

int step_image_order(struct davit_execution *x, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *store = store_path(x->store), *file = NULL;
	const struct davit_image *i = x->found;

	/* Whoever is killed: the helper lets go of it, as davit_image_release does. */
	if (!store || asprintf(&file, "%s/holds/step-%s", store, x->id) < 0)
		return no_memory(err);
	step_record(x, STEP_RELEASE, file);
	for (size_t k = i->n_layers; k-- > 0;)
		step_record(x, STEP_ROOT, i->layers[k]);
	for (char *const *e = i->env; e && *e; e++)
		if (strchr(*e, '=') && !has_env(x, *e))
			step_record(x, STEP_ENV, *e);
	if (!x->has_user && i->user && *i->user)
		step_record(x, STEP_USER, i->user);
	if (!i->n_layers)
		return davit_error_set(err, DAVIT_EINVAL, "image", "image '%s' has no files", x->image);
	return x->order.oom ? no_memory(err) : 0;
}

int step_image_id(struct davit_artifacts *s, const char *name, char *ret, size_t size,
		  struct davit_error *err)
{
	struct davit_image_store *images;
	struct davit_image *i;
	int r = open_store(s, &images, err);

	*ret = '\0';
	if (r < 0)
		return r;
	r = davit_image_resolve(images, name, &i, err);
	davit_image_store_close(images);
	if (r == DAVIT_ENOENT)
		return 0;
	if (r < 0)
		return r;
	snprintf(ret, size, "%s", i->id);
	davit_image_free(i);
	return 0;
}

/* ----------------------------------------------------------------------------- the end */

void step_image_sweep(struct davit_artifacts *s, const char *id)
{
	DAVIT_AUTO_FREE char *path = store_path(s);
	struct davit_image_store *images;
	char name[32];

	if (!path || access(path, F_OK) < 0 || davit_image_store_open(path, &images, NULL) < 0)
		return;
	holder(id, name);
	/* What cannot be let go of now keeps an image longer than it is needed, and no more. */
	davit_image_release(images, name, NULL);
	davit_image_store_close(images);
}

void step_image_let_go(struct davit_execution *x)
{
	if (x->held)
		step_image_sweep(x->store, x->id);
	davit_image_free(x->found);
	free(x->image);
}
