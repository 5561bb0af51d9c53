/* SPDX-License-Identifier: MIT
 *
 * What cannot be carried, refused before anything is made.
 */
#include "runtime/engine/impl.h"
#include "runtime/engine/spec.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int check_words(char *const *v, const char *what, struct davit_error *err)
{
	for (; v && *v; v++)
		if (!spec_is_utf8(*v))
			return davit_error_set(
				err, DAVIT_ENOTSUP, what,
				"%s with bytes that are not UTF-8 cannot be given to an engine", what);
	return 0;
}

static int check_mount(const struct davit_mount *m, struct davit_error *err)
{
	struct stat st;

	if (m->target[0] != '/')
		return davit_error_set(err, DAVIT_EINVAL, "volumes", "'%s' is not an absolute path",
				       m->target);
	if (m->type != DAVIT_MOUNT_BIND || stat(m->source, &st) == 0)
		return 0;
	return davit_error_errno(err, errno, "volumes", "cannot mount %s", m->source);
}

int workload_check(struct engine *e, const struct davit_workload *w, bool complete, struct davit_error *err)
{
	const char *name = e->flavour->name;
	int r;

	if (!w->image && complete)
		return davit_error_set(err, DAVIT_EINVAL, "image", "runtime %s needs an image", name);
	if (w->image &&
	    w->image[strspn(w->image,
			    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/@-")])
		return davit_error_set(err, DAVIT_EINVAL, "image", "'%s' is not the name of an image",
				       w->image);
	if (w->umask != 022)
		return davit_error_set(err, DAVIT_ENOTSUP, "umask",
				       "runtime %s does not support a umask: an engine gives none", name);
	if (w->log.policy == DAVIT_LOG_DROP)
		return davit_error_set(err, DAVIT_ENOTSUP, "logs",
				       "runtime %s does not support dropping output: an engine blocks", name);
	if (w->n_egress)
		return davit_error_set(err, DAVIT_ENOTSUP, "egress.policy",
				       "runtime %s does not support egress: %s", name,
				       e->capabilities.why_not[DAVIT_CAP_EGRESS]);
	r = check_words(w->argv, "argument", err);
	if (r == 0)
		r = check_words(w->entrypoint, "entrypoint", err);
	if (r == 0)
		r = check_words(w->env, "environment", err);
	for (size_t i = 0; r == 0 && i < w->n_mounts; i++)
		r = check_mount(&w->mounts[i], err);
	return r;
}
