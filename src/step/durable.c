/* SPDX-License-Identifier: MIT
 *
 * Durable steps, as the library sees them: what they leave for those who come after, and taking them over.
 *
 *   lock held, `control` there      it runs, or has ended and its caller has not let go yet
 *   lock free, `result` there       it has ended, and its caller was gone
 *   lock free, `control` there      its monitor was killed
 *   lock free, neither              who was to start it died before
 */
#include "step/execution.h"

#include "base/fault.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define PATIENCE_TRIES 1000 /* of 5 ms: for a monitor that is about to listen, or to end */
#define ENDING_TRIES 200
#define ORDER_MAX (1 << 20)

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* ------------------------------------------------------------------------ what it leaves */

/* Into the lock's file, for each file of a step costs the file system something: behind the last report,
 * texts that end with NUL - "o" and the name of an output, "g" and the directory of a cgroup, "k" and the key
 * under which its result is to be remembered - and an empty one. */
int step_keep_order(const struct davit_execution *x, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	for (size_t i = 0; i < x->n_outputs; i++) {
		davit_buf_addf(&b, "o%s", x->outputs[i].name);
		davit_buf_addc(&b, '\0');
	}
	for (size_t i = 0; i < x->n_cgroup_dirs; i++) {
		davit_buf_addf(&b, "g%s", x->cgroup_dirs[i]);
		davit_buf_addc(&b, '\0');
	}
	if (x->remember && !x->unkeyed) {
		davit_buf_addf(&b, "k%s", x->key);
		davit_buf_addc(&b, '\0');
	}
	davit_buf_addc(&b, '\0');
	if (b.oom)
		return no_memory(err);
	if (pwrite(x->lock, b.data, b.len, STEP_LOCK_ORDER) != (ssize_t)b.len)
		return davit_error_errno(err, errno, NULL, "cannot write %s/lock", x->directory);
	return 0;
}

static int take_text(struct davit_execution *x, const char *text, struct davit_error *err)
{
	struct step_output *o = &x->outputs[x->n_outputs];

	if (*text == 'g' && x->n_cgroup_dirs < CGROUP_DIRS_MAX)
		snprintf(x->cgroup_dirs[x->n_cgroup_dirs++], CGROUP_PATH_MAX, "%s", text + 1);
	if (*text == 'k') {
		x->remember = true;
		snprintf(x->key, sizeof x->key, "%s", text + 1);
	}
	if (*text != 'o')
		return 0;
	o->name = strdup(text + 1);
	if (asprintf(&o->directory, "%s/out-%zu", x->directory, x->n_outputs) < 0)
		o->directory = NULL;
	x->n_outputs++;
	return o->name && o->directory ? 0 : no_memory(err);
}

/* One that was not started has none. */
static int read_order(struct davit_execution *x, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(x->directory, "lock");
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	size_t n = 0;
	int r = path ? davit_read_file(path, ORDER_MAX, &b, err) : no_memory(err);

	if (r == DAVIT_ENOENT || (r == 0 && b.len <= STEP_LOCK_ORDER))
		return 0;
	if (r < 0)
		return r;
	for (size_t i = STEP_LOCK_ORDER; i < b.len; i++)
		n += !b.data[i];
	x->outputs = calloc(n + 1, sizeof *x->outputs);
	if (!x->outputs)
		return no_memory(err);
	for (size_t at = STEP_LOCK_ORDER; r == 0 && at < b.len; at += strlen(b.data + at) + 1)
		r = take_text(x, b.data + at, err);
	return r;
}

static bool is_there(const struct davit_execution *x, const char *name)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(x->directory, name);

	return path && access(path, F_OK) == 0;
}

bool step_read_result(const struct davit_execution *x, struct step_report *ret)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(x->directory, "lock");
	DAVIT_AUTO_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;

	if (fd < 0 || DAVIT_EINTR(pread(fd, ret, sizeof *ret, 0)) != (ssize_t)sizeof *ret || !ret->kind)
		return false;
	ret->text[sizeof ret->text - 1] = '\0';
	return true;
}

static int open_lock(const struct davit_execution *x)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(x->directory, "lock");

	errno = ENOMEM;
	return path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
}

void step_remove_durable(const struct davit_execution *x)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	DAVIT_AUTO_CLOSE int fd = open_lock(x);

	/* While its monitor lives that does it; one that has hung up can have its lock for a moment longer.
	 */
	for (int tries = 0; fd >= 0 && tries < ENDING_TRIES; tries++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			davit_remove_at(AT_FDCWD, x->directory);
			return;
		}
		nanosleep(&pause, NULL);
	}
}

/* -------------------------------------------------------------------------- taking it over */

/* A socket to the monitor, which gets the eventfd; -1 when nobody listens. */
static int call(const struct davit_execution *x)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {
			     .cmsg_len = CMSG_LEN(sizeof(int)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS,
		     }};
	struct step_order o = {.verb = STEP_ORDER_ATTACH};
	struct iovec v = {&o, sizeof o};
	const struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	DAVIT_AUTO_CLOSE int dir = open(x->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	DAVIT_AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(CMSG_DATA(&control.header), &x->wake, sizeof x->wake);
	snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/control", dir);
	if (dir < 0 || fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0 ||
	    sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
		return -1;
	return DAVIT_TAKE_FD(fd);
}

/* Its lock is free: how has it ended? */
static int take_end(struct davit_execution *x, struct davit_error *err)
{
	struct step_report r;

	if (!step_read_result(x, &r)) {
		if (!is_there(x, "control"))
			return davit_error_set(err, DAVIT_ENOENT, NULL, "the step %s was not started", x->id);
		r = (struct step_report){.kind = STEP_FAILED, .code = DAVIT_EINTERNAL};
		snprintf(r.text, sizeof r.text,
			 "the step's keeper, davit-step, was killed, or the machine went down");
	}
	step_take_report(x, &r);
	return 0;
}

static int find(struct davit_execution *x, struct davit_error *err)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	int fd = open_lock(x);

	if (fd < 0 && errno != ENOENT)
		return davit_error_errno(err, errno, NULL, "cannot open %s", x->directory);
	if (fd < 0) {
		davit_remove_at(AT_FDCWD, x->directory); /* made, and no more than that */
		return davit_error_set(err, DAVIT_ENOENT, NULL, "there is no step %s", x->id);
	}
	for (int tries = 0; tries < PATIENCE_TRIES; tries++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			x->lock = fd;
			return take_end(x, err);
		}
		x->control = call(x);
		if (x->control >= 0) {
			close(fd);
			return step_watch(x, err);
		}
		nanosleep(&pause, NULL);
	}
	close(fd);
	return davit_error_set(err, DAVIT_EUNAVAIL, NULL, "the keeper of the step %s does not answer", x->id);
}

static int attach(struct davit_execution *x, const char *name, struct davit_error *err)
{
	static const char *const files[] = {"stdout", "stderr"};
	int r;

	x->durable = x->made = true;
	snprintf(x->id, sizeof x->id, "%s", name);
	if (asprintf(&x->directory, "%s/runs/%s", x->store->directory, x->id) < 0) {
		x->directory = NULL;
		return no_memory(err);
	}
	x->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (x->wake < 0)
		return davit_error_errno(err, errno, NULL, "cannot make an eventfd");
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++) {
		DAVIT_AUTO_FREE char *path = davit_path_join(x->directory, files[i]);
		x->streams[i] = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	}
	/* Before its end is taken, which is what needs it. */
	r = read_order(x, err);
	return r < 0 ? r : find(x, err);
}

int davit_execution_attach(struct davit_loop *loop, struct davit_artifacts *store, const char *name,
			   const struct davit_execution_events *on, void *user, struct davit_execution **ret,
			   struct davit_error *err)
{
	struct davit_execution *x = step_new(loop, store, on, user);
	int r = x ? attach(x, name, err) : no_memory(err);

	if (r < 0) {
		davit_execution_free(x);
		return r;
	}
	*ret = x;
	return 0;
}

int davit_executions_durable(struct davit_artifacts *s, const char *prefix,
			     void (*fn)(void *user, const char *name), void *user, struct davit_error *err)
{
	int fd = openat(s->fd, "runs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *d;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return davit_error_errno(err, errno, NULL, "cannot read %s/runs", s->directory);
	}
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.' && !strncmp(d->d_name, prefix, strlen(prefix)))
			fn(user, d->d_name);
	closedir(dir);
	return 0;
}

/* ------------------------------------------------------------------------------- outputs */

static int open_work(struct davit_artifacts *s, struct step_work *w, struct davit_error *err)
{
	if (mkdirat(s->fd, w->name, 0700) == 0 || errno == EEXIST)
		w->fd = openat(s->fd, w->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (w->fd >= 0)
		w->meta = openat(w->fd, "meta", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (w->meta < 0 || flock(w->meta, LOCK_SH | LOCK_NB) < 0)
		return davit_error_errno(err, errno, NULL, "cannot begin work in %s/%s", s->directory,
					 w->name);
	return 0;
}

/* The work lies in the step's directory, so that nobody sweeps it, and the id stands in a file before the
 * tree gets its name: wherever this is cut short, there is a way on. Once the id is there, what is left of
 * the work need not be whole: the store had such a tree, and the removal of this one was begun. */
int step_adopt_again(struct davit_execution *x, size_t i, struct davit_artifact_hold *ret,
		     struct davit_error *err)
{
	struct davit_artifacts *s = x->store;
	struct step_work w = STEP_WORK_INIT;
	char id[DAVIT_ARTIFACT_ID_MAX] = "";
	int r = DAVIT_ENOENT;

	snprintf(w.name, sizeof w.name, "runs/%s/take-%zu", x->id, i);
	snprintf(w.note, sizeof w.note, "runs/%s/id-%zu", x->id, i);
	if (step_read_id(s, w.note, id))
		r = davit_artifacts_find(s, id, ret, err);
	if (r != DAVIT_ENOENT)
		return r;
	r = open_work(s, &w, err);
	if (r == 0 && renameat(AT_FDCWD, x->outputs[i].directory, w.fd, "fs") < 0 && errno != ENOENT)
		r = davit_error_errno(err, errno, NULL, "cannot take %s into the store",
				      x->outputs[i].directory);
	DAVIT_FAULT("step-output-taken");
	if (r == 0)
		r = step_store_tree(s, &w, ret, err);
	if (r == 0 && id[0] && strcmp(id, ret->id)) {
		davit_artifact_release(ret);
		r = davit_error_set(err, DAVIT_EIO, NULL,
				    "%.12s, which it made, is not in the store any more", id);
	}
	DAVIT_FAULT("step-output-stored");
	step_work_end(s, &w);
	return r;
}
