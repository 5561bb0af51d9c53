/* SPDX-License-Identifier: MIT
 *
 * Building requests for the keeper. All are built in one buffer of the runtime's:
 * a start costs one packet and no allocation of its own.
 */
#include "runtime/process/impl.h"
#include "runtime/process/lookup.h"

#include "base/file.h"
#include "base/strv.h"

#include <stdio.h>
#include <string.h>

/* protocol.h names no defaults: they are the driver contract's. */
#define LOG_SIZE_DEFAULT (UINT64_C(10) << 20)
#define LOG_FILES_DEFAULT 3

static void add_string(struct davit_buf *b, const char *s)
{
	davit_buf_add(b, s, strlen(s) + 1);
}

void *process_packet(struct process_runtime *p, enum keeper_type type, size_t size, const char *id)
{
	struct davit_buf *b = &p->packet;
	struct keeper_header *h;

	davit_buf_reset(b);
	if (davit_buf_reserve(b, size) < 0)
		return NULL;
	memset(b->data, 0, size + 1);
	b->len = size;
	h = (void *)b->data;
	h->type = type;
	h->size = (uint32_t)size;
	snprintf(h->id, sizeof h->id, "%s", id);
	return h;
}

char *process_log_dir(struct davit_runtime *rt, const char *id)
{
	return davit_path_join(rt->log_dir, id);
}

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "process", "out of memory");
}

int process_build_create(struct process_instance *pi, struct davit_error *err)
{
	struct process_runtime *p = process_runtime_of(pi->inst->runtime);
	const struct davit_workload *w = pi->inst->workload;
	DAVIT_AUTO_FREE char *log = process_log_dir(pi->inst->runtime, pi->id);
	char dirs[CGROUP_DIRS_MAX][CGROUP_PATH_MAX];
	size_t n = cgroups_dirs(&p->cgroups, w, dirs);
	struct keeper_create *c = process_packet(p, KEEPER_CREATE, sizeof *c, pi->id);

	if (!c || !log)
		return out_of_memory(err);
	c->log_max_size = w->log.max_size ? w->log.max_size : LOG_SIZE_DEFAULT;
	c->log_max_files = w->log.max_files ? w->log.max_files : LOG_FILES_DEFAULT;
	c->log_policy = w->log.policy;
	c->log_rate = w->log.rate;
	add_string(&p->packet, w->label ? w->label : "");
	add_string(&p->packet, log);
	for (size_t i = 0; i < n; i++)
		add_string(&p->packet, dirs[i]);
	add_string(&p->packet, "");
	return p->packet.oom ? out_of_memory(err) : 0;
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
static int fill_command(struct process_instance *pi, size_t at, char *const *argv, char *const *env,
			const char *directory, const char *user, struct davit_error *err)
{
	struct davit_buf *b = &process_runtime_of(pi->inst->runtime)->packet;
	const struct davit_workload *w = pi->inst->workload;
	struct keeper_spawn *s = (void *)(b->data + at);
	DAVIT_AUTO_FREE char *path = NULL;
	struct process_user u = {0};
	int r = process_program_lookup(argv[0], env, directory, &path, err);

	if (!r)
		r = fill_user(b, at, user, &u, err);
	if (r < 0)
		return r;
	s->argc = (uint32_t)davit_strv_len(argv);
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
	add_string(b, path);
	add_string(b, directory ? directory : "/");
	for (size_t i = 0; argv[i]; i++)
		add_string(b, argv[i]);
	for (size_t i = 0; env && env[i]; i++)
		add_string(b, env[i]);
	add_string(b, "");
	return b->oom ? out_of_memory(err) : 0;
}

_Static_assert(sizeof(gid_t) == sizeof(uint32_t), "groups are copied as they are");

int process_build_spawn(struct process_instance *pi, uint32_t run, struct davit_error *err)
{
	struct process_runtime *p = process_runtime_of(pi->inst->runtime);
	const struct davit_workload *w = pi->inst->workload;
	struct keeper_spawn *s = process_packet(p, KEEPER_SPAWN, sizeof *s, pi->id);

	if (!s)
		return out_of_memory(err);
	s->ready = w->ready;
	s->ready_fd = w->ready == DAVIT_READY_FD ? w->ready_fd : -1;
	s->run = run;
	return fill_command(pi, 0, w->argv, w->env, w->directory, w->user, err);
}

int process_build_exec(struct process_instance *pi, const struct davit_exec *x, struct davit_error *err)
{
	struct process_runtime *p = process_runtime_of(pi->inst->runtime);
	const struct davit_workload *w = pi->inst->workload;
	struct keeper_exec *e = process_packet(p, KEEPER_EXEC, sizeof *e, pi->id);
	DAVIT_AUTO_STRV env = NULL;
	int r = davit_strv_dup(w->env, &env);

	if (!e || r < 0)
		return out_of_memory(err);
	e->tty = x->tty;
	e->spawn.h.size = sizeof e->spawn;
	e->spawn.ready_fd = -1;
	for (size_t i = 0; x->env && x->env[i]; i++) {
		DAVIT_AUTO_FREE char *name = strdup(x->env[i]);
		char *value = name ? strchr(name, '=') : NULL;

		if (!name)
			return out_of_memory(err);
		if (!value)
			return davit_error_set(err, DAVIT_EINVAL, "env", "'%s' is not of the form NAME=value",
					       name);
		*value++ = '\0';
		if (davit_strv_setenv(&env, name, value) < 0)
			return out_of_memory(err);
	}
	return fill_command(pi, offsetof(struct keeper_exec, spawn), x->argv, env,
			    x->directory ? x->directory : w->directory, x->user ? x->user : w->user, err);
}
