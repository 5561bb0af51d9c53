/* SPDX-License-Identifier: MIT
 *
 * The part of a workload that follows from the spec and its build alone: the same
 * for each of its instances, and known before there is one.
 */
#include "core/core_impl.h"

#include "base/strv.h"

#include <string.h>

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int dup_string(char **to, const char *from, struct davit_error *err)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? no_memory(err) : 0;
}

static int append(char ***v, char *const *more)
{
	int r = 0;

	for (size_t k = 0; more && more[k] && r == 0; k++)
		r = davit_strv_add(v, more[k]);
	return r;
}

/* A list that is there, if only as an empty one. */
static int append_present(char ***v, char *const *more)
{
	if (!*v && !(*v = calloc(1, sizeof **v)))
		return DAVIT_ENOMEM;
	return append(v, more);
}

/* --- what is run --- */

/* The user's command beats the build's; args come behind either. What was built
 * replaces the entrypoint of an image as well: nothing of that stands before it. */
static int commands(struct davit_workload *w, const struct davit_spec *spec, const struct built *b,
		    struct davit_error *err)
{
	char *const *command = spec->command ? spec->command : b && !spec->entrypoint ? b->argv : NULL;
	int r = 0;

	if (spec->entrypoint) {
		r = append(&w->entrypoint, spec->entrypoint);
	} else if (w->image && b && b->argv && command && command[0]) {
		r = davit_strv_add(&w->entrypoint, command[0]);
		command++;
	}
	if (r == 0)
		r = append_present(&w->argv, command);
	if (r == 0)
		r = append_present(&w->argv, spec->args);
	return r < 0 ? no_memory(err) : 0;
}

/* --- what it sees --- */

static int add_mount(struct davit_workload *w, const struct davit_volume *v, struct davit_error *err)
{
	struct davit_mount *m = &w->mounts[w->n_mounts++];
	int r;

	*m = (struct davit_mount){.type = v->type, .size = v->size, .read_only = v->read_only};
	r = dup_string(&m->source, v->source, err);
	return r == 0 ? dup_string(&m->target, v->target, err) : r;
}

/* What was built is in an image where it is on the host, so that its paths hold. A config
 * is an instance's own: workload_config() adds it, in the room that it has here. */
static int mounts(struct davit_workload *w, const struct davit_spec *spec, const struct built *b,
		  struct davit_error *err)
{
	const char *program = b && b->argv && b->argv[0] && b->argv[0][0] == '/' ? b->argv[0] : NULL;
	const char *made = !b || !b->argv || !w->image ? NULL
			   : b->tree		       ? b->tree
			   : b->directory	       ? b->directory
						       : program;
	int r = 0;

	if (!spec->n_volumes && !made)
		return 0;
	w->mounts = calloc(spec->n_volumes + 1, sizeof *w->mounts);
	if (!w->mounts)
		return no_memory(err);
	if (made)
		r = add_mount(w,
			      &(struct davit_volume){
				      .source = (char *)made, .target = (char *)made, .read_only = true},
			      err);
	for (size_t k = 0; k < spec->n_volumes && r == 0; k++)
		if (spec->volumes[k].type != DAVIT_MOUNT_CONFIG)
			r = add_mount(w, &spec->volumes[k], err);
	return r;
}

/* --- the whole --- */

int workload_names(struct davit_workload *w, const struct davit_spec *spec, struct davit_error *err)
{
	int r = dup_string(&w->namespace_, spec->namespace_, err);

	if (r == 0)
		r = dup_string(&w->name, spec->name, err);
	return r == 0 ? dup_string(&w->version, spec->version, err) : r;
}

static void numbers(struct davit_workload *w, const struct davit_spec *spec)
{
	w->umask = 022;
	w->cpu_millicores = spec->cpu;
	w->memory = spec->memory;
	w->disk = spec->disk;
	w->pids = (uint32_t)spec->pids;
	w->log = spec->log;
	w->ready_fd = (int)spec->ready_fd;
	w->no_new_privileges = spec->no_new_privileges;
	w->read_only_root = spec->read_only_root;
	w->ready = spec->ready == DAVIT_READY_TYPE_NOTIFY ? DAVIT_READY_NOTIFY
		   : spec->ready == DAVIT_READY_TYPE_FD	  ? DAVIT_READY_FD
							  : DAVIT_READY_NONE;
}

int workload_settings(struct davit_workload *w, const struct davit_spec *spec, const struct built *b,
		      struct davit_error *err)
{
	const char *image = spec->image ? spec->image : b ? b->image : NULL;
	const char *dir = spec->directory ? spec->directory : b ? b->directory : NULL;
	const struct {
		char **to;
		const char *from;
	} strings[] = {
		{&w->directory, dir},	      {&w->user, spec->user},
		{&w->image, image},	      {&w->service_account, spec->service_account},
		{&w->network, spec->network},
	};
	int r = 0;

	numbers(w, spec);
	if (spec->n_rlimits) {
		w->rlimits = malloc(spec->n_rlimits * sizeof *w->rlimits);
		if (!w->rlimits)
			return no_memory(err);
		memcpy(w->rlimits, spec->rlimits, spec->n_rlimits * sizeof *w->rlimits);
		w->n_rlimits = spec->n_rlimits;
	}
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(strings) && r == 0; k++)
		r = dup_string(strings[k].to, strings[k].from, err);
	if (r == 0 && (append(&w->dns, spec->dns) < 0 || append(&w->cap_add, spec->cap_add) < 0 ||
		       append(&w->cap_drop, spec->cap_drop) < 0))
		r = no_memory(err);
	if (r == 0)
		r = mounts(w, spec, b, err);
	return r == 0 ? commands(w, spec, b, err) : r;
}
