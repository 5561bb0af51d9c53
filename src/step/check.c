/* SPDX-License-Identifier: MIT
 *
 * What can be said of a step by looking at its spec alone.
 */
#include "step/execution.h"

#include "base/nearest.h"

#include <string.h>

static const struct step_runtime runtimes[] = {
	{.name = "process"},
	{.name = "oci", .images = true},
	{.name = "crun", .images = true, .driver = "davit-step-oci"},
	{.name = "runc", .images = true, .driver = "davit-step-oci"},
	{.name = "docker", .images = true, .engine = true, .driver = "davit-step-engine"},
	{.name = "podman", .images = true, .engine = true, .driver = "davit-step-engine"},
};

const struct step_runtime *step_runtime(const struct davit_run_spec *spec)
{
	bool image = spec->image.type == DAVIT_ARTIFACT_IMAGE;
	const char *name = spec->runtime ? spec->runtime : image ? "oci" : "process";

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(runtimes); i++)
		if (!strcmp(runtimes[i].name, name))
			return &runtimes[i];
	return NULL;
}

static int unknown(const char *name, struct davit_error *err)
{
	const char *names[DAVIT_ARRAY_SIZE(runtimes)], *near;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(runtimes); i++)
		names[i] = runtimes[i].name;
	near = davit_nearest(name, names, DAVIT_ARRAY_SIZE(names));
	return davit_error_set(err, DAVIT_ENOTSUP, "runtime",
			       near ? "steps do not run on '%.64s'; did you mean %s?"
				    : "steps do not run on '%.64s', but on process, oci, crun, runc, docker "
				      "and podman",
			       name, near);
}

/* An image is needed where the runtime has images, and can be had only there. */
static int check_runtime(const struct davit_run_spec *spec, struct davit_error *err)
{
	const struct step_runtime *r = step_runtime(spec);
	bool image = spec->image.type == DAVIT_ARTIFACT_IMAGE;

	if (!r)
		return unknown(spec->runtime, err);
	if (image && (!spec->image.location || !*spec->image.location))
		return davit_error_set(err, DAVIT_EINVAL, "image", "it is not said which image");
	if (image && !r->images)
		return davit_error_set(
			err, DAVIT_ENOTSUP, "runtime",
			"the runtime %s has no images: a step in one needs the runtime oci, crun, "
			"runc, docker or podman",
			r->name);
	if (!image && r->images)
		return davit_error_set(err, DAVIT_EINVAL, "runtime",
				       "a step on the runtime %s needs an image", r->name);
	return 0;
}

static bool is_name(const char *s)
{
	return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") == 16 && !s[16];
}

/* What only some steps are. */
static int check_kind(const struct davit_run_spec *spec, size_t n, struct davit_error *err)
{
	if (spec->durable && !is_name(spec->durable))
		return davit_error_set(err, DAVIT_EINVAL, "durable",
				       "'%.64s' is not the name of a durable step", spec->durable);
	if (spec->plain && (n || spec->image.type != DAVIT_ARTIFACT_EMPTY || spec->hermetic || spec->user ||
			    !spec->dir || spec->dir[0] != '/'))
		return davit_error_set(err, DAVIT_EINVAL, "plain",
				       "what runs on the host as it is has a directory there, and nothing "
				       "else");
	return 0;
}

int step_check(const struct davit_run_spec *spec, size_t n, struct davit_error *err)
{
	int r = check_kind(spec, n, err);

	if (r < 0)
		return r;
	if (!spec->path || !*spec->path)
		return davit_error_set(err, DAVIT_EINVAL, "path", "a step needs a program");
	if (spec->timeout < 0 || spec->grace < 0 || spec->limits.cpu_millicores < 0)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "times and limits cannot be negative");
	for (char *const *e = spec->env; e && *e; e++)
		if (**e == '=' || !strchr(*e, '='))
			return davit_error_set(err, DAVIT_EINVAL, "env", "'%.64s' is not NAME=value", *e);
	return check_runtime(spec, err);
}
