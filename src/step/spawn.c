/* SPDX-License-Identifier: MIT
 *
 * Starting davit-step, and letting go of what an execution took.
 */
#include "step/execution.h"

#include "base/file.h"
#include "base/start.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int make_order(struct davit_execution *x, struct davit_error *err)
{
	int fd = memfd_create("davit-step-order", MFD_CLOEXEC);

	if (fd < 0 || davit_write_full(fd, x->order.data, x->order.len) < 0) {
		int e = errno;
		if (fd >= 0)
			close(fd);
		return davit_error_errno(err, e, NULL, "cannot write the order of a step");
	}
	return fd;
}

/* Numbers above all that the helper gets, so that none is overwritten before it is copied. */
static int lift(posix_spawn_file_actions_t *a, int fd, int floor, int to, int *lifted)
{
	*lifted = fcntl(fd, F_DUPFD_CLOEXEC, floor);
	return *lifted < 0 ? errno : posix_spawn_file_actions_adddup2(a, *lifted, to);
}

/* Where engines listen is in the environment. */
static int run(const char *program, bool with_env, const int *fds, size_t n, pid_t *ret,
	       struct davit_error *err)
{
	char *const argv[] = {(char *)"davit-step", NULL}, *const env[] = {NULL};
	int floor = STEP_FD_CONTROL + (int)n, e = 0;
	DAVIT_AUTO_FREE int *lifted = malloc(n * sizeof *lifted);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;

	if (!lifted)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	memset(lifted, 0xff, n * sizeof *lifted);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	for (int i = 0; e == 0 && i < 3; i++)
		e = posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
	for (size_t i = 0; e == 0 && i < n; i++)
		e = lift(&actions, fds[i], floor, STEP_FD_CONTROL + (int)i, &lifted[i]);
	if (e == 0)
		e = posix_spawn(ret, program, &actions, &attr, argv, with_env ? environ : env);
	for (size_t i = 0; i < n; i++)
		if (lifted[i] >= 0)
			close(lifted[i]);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return e ? davit_error_errno(err, e, NULL, "cannot start %s", program) : 0;
}

int step_spawn(struct davit_execution *x, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *program = davit_path_join(x->store->paths.libexec, "davit-step");
	DAVIT_AUTO_FREE int *fds = calloc(STEP_FDS + 1 + x->n_holds + x->n_caches, sizeof *fds);
	DAVIT_AUTO_CLOSE int order = -1;
	int ends[2];
	size_t n = 0;
	int r;

	if (!program || !fds)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	x->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (x->wake < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a socket");
	x->control = ends[0];
	order = make_order(x, err);
	fds[n++] = ends[1];
	fds[n++] = order;
	fds[n++] = x->wake;
	fds[n++] = x->streams[DAVIT_STEP_OUT];
	fds[n++] = x->streams[DAVIT_STEP_ERR];
	fds[n++] = x->lock;
	if (x->input >= 0)
		fds[n++] = x->input;
	for (size_t i = 0; i < x->n_holds; i++)
		fds[n++] = x->holds[i].fd;
	for (size_t i = 0; i < x->n_caches; i++)
		if (x->caches[i].fd >= 0)
			fds[n++] = x->caches[i].fd;
	r = order < 0 ? order : run(program, x->runtime->driver, fds, n, &x->helper, err);
	close(ends[1]);
	return r;
}

/* crun and runc have their states there, by their names. */
static void sweep_container(struct davit_artifacts *s, const char *id, const char *runtime)
{
	DAVIT_AUTO_FREE char *program = davit_path_join(s->paths.libexec, "davit-step-oci"),
			     *directory = NULL, *state = NULL;
	pid_t pid;

	if (!program || asprintf(&directory, "%s/runs/%s", s->directory, id) < 0)
		return;
	state = davit_path_join(directory, runtime);
	if (!state || access(state, F_OK) < 0)
		return;
	char *const argv[] = {(char *)"davit-step-oci", (char *)runtime, (char *)"sweep", directory, NULL};
	if (davit_start_program(program, argv, (const int[]){-1, -1, -1}, false, &pid) == 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
}

void step_sweep_killed(struct davit_artifacts *s, const char *id)
{
	step_image_sweep(s, id);
	sweep_container(s, id, "crun");
	sweep_container(s, id, "runc");
	if (!s->has_cgroups)
		s->has_cgroups = cgroups_open(&s->cgroups, s->directory, NULL) == 0;
	if (s->has_cgroups)
		cgroups_remove(&s->cgroups, id);
}

/* What was made for a step that never got a helper. */
static void undo(struct davit_execution *x)
{
	if (x->has_group)
		cgroups_remove(&x->store->cgroups, x->id);
	if (x->lock >= 0)
		davit_remove_at(AT_FDCWD, x->directory);
}

static void close_all(struct davit_execution *x)
{
	int *const fds[] = {&x->control, &x->wake, &x->lock, &x->input, &x->streams[0], &x->streams[1]};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	for (size_t i = 0; i < x->n_holds; i++)
		davit_artifact_release(&x->holds[i]);
	for (size_t i = 0; i < x->n_caches; i++)
		if (x->caches[i].fd >= 0)
			close(x->caches[i].fd);
}

/* One that is another's child tells its end by hanging up: before, who asks for the step would still find it.
 */
static void await_hangup(int control)
{
	struct step_report r;
	ssize_t n;

	do
		n = recv(control, &r, sizeof r, 0);
	while (n > 0 || (n < 0 && errno == EINTR));
}

void step_let_go(struct davit_execution *x)
{
	if (x->helper <= 0 && x->durable && x->control >= 0)
		await_hangup(x->control);
	if (x->helper <= 0)
		undo(x);
	close_all(x);
	/* It has heard that nobody wants it, removes the step's directory and ends. */
	if (x->helper > 0)
		while (waitpid(x->helper, NULL, 0) < 0 && errno == EINTR)
			;
	if (x->durable && x->made)
		step_remove_durable(x);
	for (size_t i = 0; i < x->n_outputs; i++) {
		free(x->outputs[i].name);
		free(x->outputs[i].directory);
	}
	for (size_t i = 0; i < x->result.n_outputs; i++) {
		davit_artifact_release(&x->result.outputs[i].tree);
		free((char *)x->result.outputs[i].name);
	}
	free(x->result.outputs);
	free(x->outputs);
	free(x->caches);
	free(x->holds);
	step_image_let_go(x);
	pthread_mutex_destroy(&x->fetching);
	davit_strv_free(x->notes);
	davit_buf_fini(&x->order);
	free(x->directory);
}
