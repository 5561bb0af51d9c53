/* SPDX-License-Identifier: MIT
 *
 * What the keeper executes for a start and for a further command.
 */
#include "runtime/process/impl.h"
#include "runtime/process/lookup.h"

#include "base/file.h"
#include "base/strv.h"

#include <stdio.h>
#include <string.h>

static void add_string(struct davit_buf *b, const char *s)
{
	davit_buf_add(b, s, strlen(s) + 1);
}

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "process", "out of memory");
}

/* Of a workload with a policy of egress: davit-enter, and its words before those of the program. */
static int add_enter(struct local_instance *pi, const char *user, const char *path, char ***ret,
		     struct davit_error *err)
{
	const struct process_runtime *p = process_runtime_of(local_runtime_of(pi->inst->runtime));
	DAVIT_AUTO_FREE char *netns = local_path(p->nets.bundles, pi->id, "netns");
	DAVIT_AUTO_BUF groups = DAVIT_BUF_INIT;
	struct process_user u = {0};
	char uid[16];
	int r;

	r = process_user_lookup(user, &u, err);
	if (r < 0)
		return r;
	if (!u.uid) {
		process_user_fini(&u);
		return davit_error_set(err, DAVIT_ENOTSUP, "user",
				       "what has a policy of egress cannot run as root on runtime process: "
				       "root could leave its network");
	}
	snprintf(uid, sizeof uid, "%u", u.uid);
	davit_buf_addf(&groups, "%u", u.gid);
	for (int i = 0; i < u.n_groups; i++)
		davit_buf_addf(&groups, ",%u", u.groups[i]);
	process_user_fini(&u);
	const char *const words[] = {"davit-enter", netns, uid, davit_buf_str(&groups), path};
	for (size_t i = 0; netns && !groups.oom && i < DAVIT_ARRAY_SIZE(words); i++)
		if (davit_strv_add(ret, words[i]) < 0)
			return out_of_memory(err);
	return !netns || groups.oom ? out_of_memory(err) : 0;
}

static int fill_user(struct davit_buf *b, size_t at, const char *user, struct process_user *u,
		     struct davit_error *err)
{
	struct keeper_spawn *s;
	int r;

	/* Without root there is one user to be, and nothing to set. */
	if (!user || geteuid())
		return 0;
	r = process_user_lookup(user, u, err);
	if (r < 0)
		return r;
	s = (void *)(b->data + at);
	s->set_user = 1;
	s->uid = u->uid;
	s->gid = u->gid;
	s->n_groups = (uint32_t)u->n_groups;
	return 0;
}

/* What SPAWN and EXEC have in common: the struct is at `at`, the rest goes
 * to the end. */
static int fill_command(struct local_instance *pi, size_t at, char *const *argv, char *const *env,
			const char *directory, const char *user, struct davit_error *err)
{
	struct davit_buf *b = &local_runtime_of(pi->inst->runtime)->packet;
	const struct davit_workload *w = pi->inst->workload;
	struct keeper_spawn *s = (void *)(b->data + at);
	const struct process_runtime *p = process_runtime_of(local_runtime_of(pi->inst->runtime));
	DAVIT_AUTO_FREE char *path = NULL;
	DAVIT_AUTO_STRV before = NULL;
	struct process_user u = {0};
	int r = process_program_lookup(argv[0], env, directory, &path, err);

	if (!r)
		r = w->n_egress ? add_enter(pi, user, path, &before, err) : fill_user(b, at, user, &u, err);
	if (r < 0)
		return r;
	s->argc = (uint32_t)(davit_strv_len(before) + davit_strv_len(argv));
	s->envc = (uint32_t)davit_strv_len(env);
	s->n_rlimits = (uint32_t)w->n_rlimits;
	s->umask = w->umask;
	s->no_new_privileges = w->no_new_privileges;
	/* No use of s from here: appending moves the buffer. */
	for (size_t i = 0; i < w->n_rlimits; i++) {
		struct keeper_rlimit l = {
			.resource = w->rlimits[i].resource,
			.soft = w->rlimits[i].soft,
			.hard = w->rlimits[i].hard,
		};

		davit_buf_add(b, &l, sizeof l);
	}
	davit_buf_add(b, u.groups, (size_t)u.n_groups * sizeof(uint32_t));
	process_user_fini(&u);
	add_string(b, w->n_egress ? p->enter : path);
	add_string(b, directory ? directory : "/");
	for (size_t i = 0; before && before[i]; i++)
		add_string(b, before[i]);
	for (size_t i = 0; argv[i]; i++)
		add_string(b, argv[i]);
	for (size_t i = 0; env && env[i]; i++)
		add_string(b, env[i]);
	add_string(b, "");
	return b->oom ? out_of_memory(err) : 0;
}

_Static_assert(sizeof(gid_t) == sizeof(uint32_t), "groups are copied as they are");

int process_build_spawn(struct local_instance *pi, uint32_t run, struct davit_error *err)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	const struct davit_workload *w = pi->inst->workload;
	struct keeper_spawn *s = local_packet(p, KEEPER_SPAWN, sizeof *s, pi->id);

	if (!s)
		return out_of_memory(err);
	s->ready = w->ready;
	s->ready_fd = w->ready == DAVIT_READY_FD ? w->ready_fd : -1;
	s->run = run;
	return fill_command(pi, 0, w->argv, w->env, w->directory, w->user, err);
}

/* A further command: its variables above the workload's, its own place and user
 * or the workload's. The packet's struct has its spawn at `at`. */
static int fill_beside(struct local_instance *pi, size_t at, char *const *argv, char *const *own,
		       const char *directory, const char *user, struct davit_error *err)
{
	const struct davit_workload *w = pi->inst->workload;
	DAVIT_AUTO_STRV env = NULL;
	int r = local_environment_beside(w->env, own, &env, err);

	return r < 0 ? r
		     : fill_command(pi, at, argv, env, directory ? directory : w->directory,
				    user ? user : w->user, err);
}

int process_build_exec(struct local_instance *pi, const struct davit_exec *x, struct davit_error *err)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	struct keeper_exec *e = local_packet(p, KEEPER_EXEC, sizeof *e, pi->id);

	if (!e)
		return out_of_memory(err);
	e->tty = x->tty;
	e->spawn.h.size = sizeof e->spawn;
	e->spawn.ready_fd = -1;
	return fill_beside(pi, offsetof(struct keeper_exec, spawn), x->argv, x->env, x->directory, x->user,
			   err);
}

int process_build_terminal(struct local_instance *pi, const struct davit_terminal *t, struct davit_error *err)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);

	if (!local_packet(p, KEEPER_TERMINAL, sizeof(struct keeper_terminal), t->id))
		return out_of_memory(err);
	return fill_beside(pi, offsetof(struct keeper_terminal, spawn), t->argv, t->env, t->directory,
			   t->user, err);
}
