/* SPDX-License-Identifier: MIT
 *
 * What the keeper executes: crun or runc, which start the container and end.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "oci", "out of memory");
}

static void add_string(struct davit_buf *b, const char *s)
{
	davit_buf_add(b, s, strlen(s) + 1);
}

/* Program, directory, words, environment and no settings, behind the struct at `at`. */
static void add_command(struct davit_buf *b, size_t at, const char *const *argv)
{
	static const char *const kept[] = {"PATH", "XDG_RUNTIME_DIR", "HOME"};
	struct keeper_spawn *s = (void *)(b->data + at);

	s->umask = 022;
	for (s->argc = 0; argv[s->argc]; s->argc++)
		;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(kept); i++)
		s->envc += getenv(kept[i]) != NULL;
	/* No use of s from here: appending moves the buffer. */
	add_string(b, argv[0]);
	add_string(b, "/");
	for (size_t i = 0; argv[i]; i++)
		add_string(b, argv[i]);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(kept); i++)
		if (getenv(kept[i])) {
			davit_buf_addf(b, "%s=%s", kept[i], getenv(kept[i]));
			davit_buf_addc(b, '\0');
		}
	add_string(b, "");
}

/* --- start --- */

/* A program that is not there fails the start; what else can be wrong with it,
 * davit-init tells as the end of the run. */
static int check_program(struct local_instance *pi, struct davit_error *err)
{
	const struct oci_place *pl = oci_runtime_of(local_runtime_of(pi->inst->runtime))->place;
	DAVIT_AUTO_FREE char *path = local_path(pl->roots, pi->id, "root");
	DAVIT_AUTO_CLOSE int root = path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct oci_command c;
	int r;

	if (!path)
		return out_of_memory(err);
	if (root < 0)
		return davit_error_errno(err, errno, "oci", "the root file system %s is gone", path);
	r = oci_command_read(pl, pi->id, &c, err);
	if (r < 0)
		return r;
	r = oci_program_find(root, pi->inst->workload, c.program, davit_strv_getenv(c.env, "PATH"),
			     c.directory, err);
	oci_command_fini(&c);
	return r;
}

int oci_build_spawn(struct local_instance *pi, uint32_t run, struct davit_error *err)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	const struct oci_place *pl = oci_runtime_of(p)->place;
	const struct davit_workload *w = pi->inst->workload;
	DAVIT_AUTO_FREE char *bundle = davit_path_join(pl->nets.bundles, pi->id);
	DAVIT_AUTO_FREE char *pid_file = local_path(pl->nets.bundles, pi->id, "pid");
	char name[OCI_CONTAINER_MAX];
	const char *argv[20];
	struct keeper_launch *m;
	size_t n = 0;
	int r = check_program(pi, err);

	if (!r)
		r = oci_exit_prepare(pi, err);
	if (!r)
		r = oci_container_next(pl, pi->id, name, err);
	/* runc has removed the groups with the container of the last run. */
	if (!r && pi->run)
		r = cgroups_make(&p->cgroups, w, err);
	if (r < 0)
		return r;
	m = local_packet(p, KEEPER_LAUNCH, sizeof *m, pi->id);
	if (!m || !bundle || !pid_file)
		return out_of_memory(err);
	/* Of version 2 runc takes a group that nobody is in, itself neither. */
	if (pl->cgroup && p->cgroups.layout == CGROUP_V2)
		m->h.flags |= KEEPER_FLAG_OUTSIDE;
	m->spawn.h.size = sizeof m->spawn;
	m->spawn.run = run;
	m->spawn.ready = w->ready;
	m->spawn.ready_fd = w->ready == DAVIT_READY_FD ? 3 : -1;
	argv[n++] = pl->program;
	argv[n++] = "--root";
	argv[n++] = pl->engine;
	if (pl->is_crun)
		argv[n++] = "--cgroup-manager=disabled";
	argv[n++] = "run";
	argv[n++] = "--detach";
	argv[n++] = "--bundle";
	argv[n++] = bundle;
	argv[n++] = "--pid-file";
	argv[n++] = pid_file;
	if (w->ready == DAVIT_READY_FD)
		argv[n++] = "--preserve-fds=1";
	argv[n++] = name;
	argv[n] = NULL;
	add_command(&p->packet, offsetof(struct keeper_launch, spawn), argv);
	add_string(&p->packet, pid_file);
	return p->packet.oom ? out_of_memory(err) : 0;
}

/* --- exec --- */

/* `crun exec` in a packet with a struct keeper_spawn at `at`. */
static int add_exec(struct local_instance *pi, size_t at, const char *file, const char *pid_file,
		    struct davit_error *err)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	const struct oci_place *pl = oci_runtime_of(p)->place;
	struct keeper_spawn *s = (void *)(p->packet.data + at);
	char name[OCI_CONTAINER_MAX];
	const char *argv[16];
	size_t n = 0;
	int r = oci_container_name(pl, pi->id, name, err);

	if (r < 0)
		return r;
	s->h.size = sizeof *s;
	s->ready_fd = -1;
	argv[n++] = pl->program;
	argv[n++] = "--root";
	argv[n++] = pl->engine;
	if (pl->is_crun)
		argv[n++] = "--cgroup-manager=disabled";
	argv[n++] = "exec";
	argv[n++] = "--pid-file";
	argv[n++] = pid_file;
	argv[n++] = "--process";
	argv[n++] = file;
	argv[n++] = name;
	argv[n] = NULL;
	add_command(&p->packet, at, argv);
	return p->packet.oom ? out_of_memory(err) : 0;
}

int oci_build_exec(struct local_instance *pi, const struct davit_exec *x, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *file = NULL;
	DAVIT_AUTO_FREE char *pid_file = NULL;
	struct keeper_exec *m;
	int r = oci_command_write(pi, x, &file, &pid_file, err);

	if (r < 0)
		return r;
	m = local_packet(local_runtime_of(pi->inst->runtime), KEEPER_EXEC, sizeof *m, pi->id);
	if (!m)
		return out_of_memory(err);
	m->tty = x->tty;
	return add_exec(pi, offsetof(struct keeper_exec, spawn), file, pid_file, err);
}

int oci_build_terminal(struct local_instance *pi, const struct davit_terminal *t, struct davit_error *err)
{
	const struct davit_exec x = {
		.instance = t->instance,
		.argv = t->argv,
		.env = t->env,
		.directory = t->directory,
		.user = t->user,
		.tty = true,
	};
	DAVIT_AUTO_FREE char *file = NULL;
	DAVIT_AUTO_FREE char *pid_file = NULL;
	struct keeper_terminal *m;
	int r = oci_command_write(pi, &x, &file, &pid_file, err);

	if (r < 0)
		return r;
	m = local_packet(local_runtime_of(pi->inst->runtime), KEEPER_TERMINAL, sizeof *m, t->id);
	if (m)
		m->h.flags = KEEPER_FLAG_RAW;
	else
		return out_of_memory(err);
	return add_exec(pi, offsetof(struct keeper_terminal, spawn), file, pid_file, err);
}
