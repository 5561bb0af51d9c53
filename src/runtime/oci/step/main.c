/* SPDX-License-Identifier: MIT
 *
 * davit-step-oci RUNTIME              runs the step of descriptor 4 (src/step/protocol.h) by crun or runc
 * davit-step-oci RUNTIME remove ID    removes what one that was killed has left
 * davit-step-oci RUNTIME sweep DIRECTORY    the same, by the step's directory
 *
 * In the place of a step's init: makes the step's root, puts davit-step into it, has the runtime start that,
 * and carries what it says to the monitor and what the monitor says to it.
 */
#include "runtime/oci/step/driver.h"

#include "base/file.h"
#include "base/paths.h"
#include "base/start.h"
#include "local/cgroup.h"
#include "step/copy.h"
#include "step/session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

struct session {
	struct step_session step;
	struct driver driver;
};

/* ------------------------------------------------------------------------------ programs */

static int find_runtime(struct driver *d, struct davit_error *err)
{
	d->program = davit_installed_program(d->name);
	return d->program ? 0
			  : davit_error_set(err, DAVIT_ENOTSUP, "runtime", "%s is not installed", d->name);
}

/* Runs the runtime to its end: its words, then `words`. What it says on `errors` is the caller's to read. */
static int runtime(struct driver *d, const char *const *words, int streams, int errors,
		   struct davit_error *err)
{
	DAVIT_AUTO_FREE char *state = davit_path_join(d->step.directory, d->name);
	const int fds[] = {streams, streams, errors};
	const char *argv[16] = {d->program, "--root", state};
	size_t n = 3;
	int status = 0, e;
	pid_t pid;

	if (!state)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (!strcmp(d->name, "crun"))
		argv[n++] = "--cgroup-manager=disabled";
	for (; *words; words++)
		argv[n++] = *words;
	e = davit_start_program(d->program, (char *const *)argv, fds, false, &pid);
	if (e)
		return davit_error_errno(err, e, NULL, "cannot start %s", d->program);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0 ? 0 : davit_error_set(err, DAVIT_EIO, NULL, "%s has failed", d->name);
}

/* ----------------------------------------------------------------------------- the place */

static bool put(const char *file, const char *text)
{
	DAVIT_AUTO_CLOSE int fd = open(file, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) >= 0;
}

/* Without root a user namespace goes around all: its caller is root there, and nobody else is anybody. */
static void enter_namespaces(struct step *s)
{
	char uids[32], gids[32];

	snprintf(uids, sizeof uids, "0 %u 1", (unsigned)geteuid());
	snprintf(gids, sizeof gids, "0 %u 1", (unsigned)getegid());
	s->rootless = geteuid() != 0;
	if (unshare(CLONE_NEWNS | (s->rootless ? CLONE_NEWUSER : 0)) < 0)
		step_fail(s, DAVIT_ENOTSUP, errno,
			  s->rootless ? "this host gives no user namespaces to users other than root"
				      : "cannot make namespaces");
	if (s->rootless && (!put("/proc/self/setgroups", "deny") || !put("/proc/self/uid_map", uids) ||
			    !put("/proc/self/gid_map", gids)))
		step_fail(s, DAVIT_ENOTSUP, errno, "cannot map the user into a user namespace");
}

/* crun refuses hybrid groups, and needs none here. */
static void hide_groups(const struct driver *d)
{
	struct statfs fs;

	if (!strcmp(d->name, "crun") && statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == TMPFS_MAGIC &&
	    mount("tmpfs", "/sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755") < 0)
		step_session_note("the control groups could not be hidden from %s: %s", d->name,
				  strerror(errno));
}

/* A file of STEP_INSIDE_DIRECTORY, which is open. */
static int add_file(int dir, int from, const char *path, mode_t mode, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int to = openat(dir, strrchr(path, '/') + 1,
					 O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);

	struct stat st;
	int e;

	if (to < 0)
		return davit_error_errno(err, errno, NULL, "cannot make %s", path);
	e = fstat(from, &st) < 0 ? errno : step_copy_bytes(from, to, &st);
	return e ? davit_error_errno(err, e, NULL, "cannot write into the root") : 0;
}

static int add_ours(struct driver *d, struct davit_error *err)
{
	const char *name = &STEP_INSIDE_DIRECTORY[1];
	DAVIT_AUTO_CLOSE int dir = -1, program = step_session_program(err);
	int r;

	if (program < 0)
		return program;
	if (mkdirat(d->root, name, 0755) == 0 || errno == EEXIST)
		dir = openat(d->root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return davit_error_errno(err, errno, NULL, "cannot make " STEP_INSIDE_DIRECTORY);
	r = add_file(dir, program, STEP_INSIDE_PROGRAM, 0755, err);
	if (r == 0 && d->step.options.input)
		r = add_file(dir, STEP_DRIVER_INPUT, STEP_INSIDE_INPUT, 0600, err);
	return r;
}

/* --------------------------------------------------------------------------- the container */

static int write_config(struct driver *d, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(d->step.directory, "config.json");
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	driver_config(d, &b);
	if (!path || b.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_write_file(path, davit_buf_str(&b), b.len, 0600, err);
}

/* What it says until it has ended and its container too, which have the other end, or all that is there. */
static void hear_errors(struct session *s, int fd)
{
	char buf[1024];
	ssize_t n;

	while ((n = DAVIT_EINTR(read(fd, buf, sizeof buf))) > 0)
		step_session_say(&s->step, buf, (size_t)n);
}

static int start(struct session *s, struct davit_error *err)
{
	struct driver *d = &s->driver;
	DAVIT_AUTO_FREE char *pid = davit_path_join(d->step.directory, STEP_PID_FILE);
	const char *const words[] = {"run",	   "--detach",	   "--bundle",	 d->step.directory,
				     "--pid-file", pid ? pid : "", d->container, NULL};
	DAVIT_AUTO_CLOSE int other = -1, errors = -1, theirs = -1;
	int ends[2], pipe[2], r;

	if (!pid || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a socket");
	s->step.stream = ends[0];
	other = ends[1];
	if (pipe2(pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	errors = pipe[0];
	theirs = pipe[1];
	r = runtime(d, words, other, theirs, err);
	hear_errors(s, errors);
	return r < 0 ? step_session_ended(&s->step, err) : 0;
}

static int delete (struct driver *d)
{
	const char *const words[] = {"delete", "--force", d->container, NULL};

	return runtime(d, words, -1, -1, NULL);
}

static int hear(struct step_session *s, struct davit_error *err)
{
	int r = step_session_read_stream(s, &s->packets, err);

	return r > 0 ? step_session_take(s, err) : r;
}

/* ------------------------------------------------------------------------------ the whole */

/* In the step's groups, or in what runc has made within them; what it sees of them itself says nothing. */
static bool ran_out_of_memory(const struct driver *d)
{
	static const char *const files[] = {"memory.oom_control", "memory.events"};
	char inner[PATH_MAX];

	for (size_t i = 0; i < d->step.n_cgroups; i++) {
		snprintf(inner, sizeof inner, "%s/%s", d->step.cgroups[i], d->container);
		for (size_t k = 0; k < DAVIT_ARRAY_SIZE(files); k++)
			if (cgroup_read(d->step.cgroups[i], files[k], "oom_kill") > 0 ||
			    cgroup_read(inner, files[k], "oom_kill") > 0)
				return true;
	}
	return false;
}

/* What is inside has to know that it has one user; the last such record counts. */
static void tell_rootless(struct driver *d)
{
	static const char zeros[8];
	struct step_options o = d->step.options;
	struct step_record r = {.tag = STEP_OPTIONS, .length = sizeof o + 1};

	o.rootless = d->step.rootless;
	davit_buf_add(&d->order, &r, sizeof r);
	davit_buf_add(&d->order, &o, sizeof o);
	davit_buf_add(&d->order, zeros, STEP_RECORD_PAD(r.length) - sizeof o);
}

static int run(struct session *s, struct davit_error *err)
{
	struct driver *d = &s->driver;
	int r = add_ours(d, err);

	if (r == 0)
		r = write_config(d, err);
	if (r == 0)
		r = start(s, err);
	tell_rootless(d);
	if (d->order.oom)
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0)
		r = step_session_order(&s->step, &d->order, err);
	if (r == 0)
		r = step_session_watch(&s->step, err);
	s->step.end.out_of_memory = ran_out_of_memory(d);
	/* It hears that, and ends. */
	if (s->step.stream >= 0)
		shutdown(s->step.stream, SHUT_RDWR);
	delete (d);
	return r;
}

static void name_container(struct driver *d)
{
	step_session_container(strrchr(d->step.directory, '/') + 1, d->container);
}

static int read_order(struct driver *d, struct davit_error *err)
{
	int r = step_session_read(&d->step, &d->order, err);

	if (r < 0)
		return r;
	d->step.status_fd = STEP_DRIVER_STATUS;
	name_container(d);
	return 0;
}

static int step(struct session *s, struct davit_error *err)
{
	struct driver *d = &s->driver;
	int r = find_runtime(d, err);
	char go;

	if (r < 0)
		return r;
	enter_namespaces(&d->step);
	d->root = step_make_root(&d->step);
	hide_groups(d);
	/* Nothing of the step's runs before it is in its cgroups. */
	if (d->step.n_cgroups && DAVIT_EINTR(recv(STEP_DRIVER_STATUS, &go, 1, 0)) != 1)
		_exit(1);
	r = run(s, err);
	return s->step.unwanted
		       ? davit_error_set(err, DAVIT_ECANCELED, NULL, "nobody wants the step any more")
		       : r;
}

static int sweep(struct driver *d, const char *directory)
{
	struct davit_error err;

	if (!strchr(directory, '/'))
		return 1;
	d->step.directory = directory;
	name_container(d);
	return find_runtime(d, &err) == 0 && delete (d) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct session s = {.step = {.stream = -1, .hear = hear}, .driver = {.root = -1}};
	struct driver *d = &s.driver;
	struct davit_error err = {0};
	bool remove = argc == 4 && !strcmp(argv[2], "remove");
	int r;

	if (argc == 4 && !strcmp(argv[2], "sweep")) {
		d->name = argv[1];
		return sweep(d, argv[3]);
	}
	if (argc != 2 && !remove) {
		fputs("davit-step-oci is started by davit-step\n", stderr);
		return 2;
	}
	for (int fd = STEP_DRIVER_STATUS; fd <= STEP_DRIVER_INPUT; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	d->name = argv[1];
	r = read_order(d, &err);
	if (remove)
		return r == 0 && find_runtime(d, &err) == 0 && delete (d) == 0 ? 0 : 1;
	if (r == 0)
		r = step(&s, &err);
	if (r < 0)
		step_session_fail(&err, r);
	else
		step_session_report(&s.step.end);
	step_session_fini(&s.step);
	davit_buf_fini(&d->order);
	free(d->program);
	return 0;
}
