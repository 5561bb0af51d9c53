/* SPDX-License-Identifier: MIT
 *
 * Copying in and out: davit-copy does it, a child for each copy, for the other end may take
 * as long as it likes.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"
#include "base/start.h"
#include "local/poll.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct copying {
	struct davit_list list; /* in oci_runtime.copies */
	struct davit_op *op;
	struct local_poll *poll;
	pid_t pid;
	int pidfd, said; /* its standard error */
	int why;	 /* DAVIT_ECANCELED, ...: it was told to end */
};

static void copying_free(struct copying *c)
{
	local_poll_close(c->poll);
	davit_list_remove(&c->list);
	if (c->pidfd >= 0)
		close(c->pidfd);
	if (c->said >= 0)
		close(c->said);
	free(c);
}

/* What the child said, and its status, which is the code. */
static void tell(struct copying *c, int status)
{
	struct davit_op *op = c->op;
	int code = WIFEXITED(status) ? -WEXITSTATUS(status) : DAVIT_EIO;
	char text[400];
	ssize_t n = DAVIT_EINTR(read(c->said, text, sizeof text - 1));

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (code == 0)
		davit_op_complete(op, 0);
	else if (c->why)
		davit_op_fail(op, c->why, "copy", "the copy was cancelled");
	else
		davit_op_fail(op, code >= DAVIT_EINTERNAL ? code : DAVIT_EIO, "copy", "%s",
			      *text ? text : "davit-copy was killed");
}

static void ended(void *user, int events)
{
	struct copying *c = user;
	int status;
	pid_t pid = waitpid(c->pid, &status, WNOHANG);

	(void)events;
	if (pid == 0)
		return;
	tell(c, pid < 0 ? -1 : status);
	copying_free(c);
}

static void cancel(struct davit_op *op, int why)
{
	struct copying *c = op->performer;

	c->why = why;
	syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}

static int start_child(struct copying *c, struct davit_instance *inst, bool put, const char *path, int fd,
		       struct davit_error *err)
{
	const struct oci_place *pl = ((struct oci_runtime *)davit_runtime_state(inst->runtime))->place;
	const struct local_instance *pi = local_instance_of(inst);
	DAVIT_AUTO_FREE char *root = local_path(pl->roots, inst->workload->id, "root");
	DAVIT_AUTO_FREE char *bundle = davit_path_join(pl->nets.bundles, inst->workload->id);
	char pid[16];
	char *argv[] = {pl->copy_program, root, bundle, pid, (char *)(put ? "put" : "get"),
			(char *)path,	  NULL};
	int p[2], e;

	if (!root || !bundle)
		return davit_error_set(err, DAVIT_ENOMEM, "copy", "out of memory");
	snprintf(pid, sizeof pid, "%d", pi->state == DAVIT_STATE_STARTED ? (int)pi->pid : 0);
	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, "copy", "cannot make a pipe");
	c->said = p[0];
	fcntl(c->said, F_SETFL, O_NONBLOCK);
	/* The child waits itself. */
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	e = davit_start_program(argv[0], argv, (const int[]){put ? fd : -1, put ? -1 : fd, p[1]}, false,
				&c->pid);
	close(p[1]);
	if (e)
		return davit_error_errno(err, e, "copy", "cannot execute %s", argv[0]);
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0 ||
	    local_poll_open(inst->runtime->loop, c->pidfd, LOCAL_READABLE, ended, c, &c->poll, err) < 0) {
		kill(c->pid, SIGKILL);
		DAVIT_EINTR(waitpid(c->pid, NULL, 0));
		return davit_error_set(err, DAVIT_ENOMEM, "copy", "cannot watch davit-copy");
	}
	return 0;
}

/* fd is taken over. */
static void start(struct davit_instance *inst, bool put, const char *path, int fd, struct davit_op *op)
{
	struct oci_runtime *o = davit_runtime_state(inst->runtime);
	struct copying *c = calloc(1, sizeof *c);
	struct davit_error err;
	int r;

	if (!c) {
		close(fd);
		davit_op_fail(op, DAVIT_ENOMEM, "copy", "out of memory");
		return;
	}
	*c = (struct copying){.op = op, .pidfd = -1, .said = -1};
	davit_list_init(&c->list);
	r = start_child(c, inst, put, path, fd, &err);
	close(fd);
	if (r < 0) {
		copying_free(c);
		davit_op_fail_error(op, &err);
		return;
	}
	davit_list_add_tail(&o->copies, &c->list);
	op->performer = c;
	davit_op_on_cancel(op, cancel);
}

static void put(struct davit_instance *inst, const char *path, int fd, struct davit_op *op)
{
	start(inst, true, path, fd, op);
}

static void get(struct davit_instance *inst, const char *path, int fd, struct davit_op *op)
{
	start(inst, false, path, fd, op);
}

void oci_copies_close(struct oci_runtime *o)
{
	struct copying *c, *tmp;

	DAVIT_LIST_FOREACH_SAFE (c, tmp, &o->copies, list) {
		kill(c->pid, SIGKILL);
		DAVIT_EINTR(waitpid(c->pid, NULL, 0));
		davit_op_fail(c->op, DAVIT_ECLOSED, "copy", "the runtime was closed");
		copying_free(c);
	}
}

const struct davit_copy_facet oci_copy = {.put = put, .get = get};
