/* SPDX-License-Identifier: MIT
 *
 * Registries are skopeo's business; it writes an OCI layout into the job's
 * directory, which is then loaded like any other.
 */
#include "image/image_impl.h"

#include <stdio.h>
#include <string.h>

/* Transports whose argument is a path that we read ourselves. */
static const char *local_path(const char *source)
{
	static const char *const known[] = {"oci:", "oci-archive:", "docker-archive:", "dir:"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(known); i++)
		if (!strncmp(source, known[i], strlen(known[i])))
			return source + strlen(known[i]);
	return NULL;
}

/* Of a line ... msg="REASON", the reason. Changes the text. */
static const char *reason_of(char *text)
{
	char *msg = strstr(text, "msg=\""), *to;

	if (!msg)
		return text;
	to = msg += strlen("msg=\"");
	for (const char *from = msg; *from && *from != '"'; from++) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = *from;
	}
	*to = '\0';
	return msg;
}

static int run_skopeo(struct image_job *j, char *const *argv, struct davit_error *err)
{
	struct image_child c = {0};
	int r = image_child_run(j, &c, argv, err);

	return r == DAVIT_EUNAVAIL ? davit_error_set(err, r, NULL, "cannot pull '%.128s': %.256s", argv[4],
						     reason_of(c.last))
				   : r;
}

static int pull(struct image_job *j, const struct davit_image_load *l, const char *source,
		struct davit_error *err)
{
	DAVIT_AUTO_FREE char *to = NULL;
	DAVIT_AUTO_FREE char *dir = NULL;
	struct davit_image_load load = *l;

	if (asprintf(&dir, "%s/tmp/%s/pull", j->store->dir, j->name) < 0 ||
	    asprintf(&to, "oci:%s:pulled", dir) < 0)
		return image_oom(err);
	char *argv[] = {"skopeo", "copy", "--quiet", "--preserve-digests", (char *)(uintptr_t)source,
			to,	  NULL};
	int r = run_skopeo(j, argv, err);
	load.select = NULL;
	return r == 0 ? image_load_from(j, &load, dir, true, err) : r;
}

/* "docker://REF", "REF", or "TRANSPORT:...". */
static int choose_source(const struct davit_image_load *l, char **ret_source, char full[DAVIT_REFERENCE_MAX],
			 struct davit_error *err)
{
	const char *name = !strncmp(l->path, "docker://", 9) ? l->path + 9 : l->path;
	bool other = !strncmp(l->path, "docker-daemon:", 14) || !strncmp(l->path, "containers-storage:", 19);
	int r;

	if (other && !l->reference)
		return davit_error_set(err, DAVIT_EINVAL, "reference",
				       "'%.128s' needs a name: --reference NAME", l->path);
	r = other ? 0 : davit_reference_normalise(name, full, err);
	if (r == 0 && l->reference)
		r = davit_reference_normalise(l->reference, full, err);
	if (r < 0)
		return r;
	return asprintf(ret_source, "%s%s", other ? "" : "docker://", other ? l->path : name) < 0
		       ? image_oom(err)
		       : 0;
}

int davit_image_pull(struct davit_image_store *s, const struct davit_image_load *l, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *source = NULL;
	const char *path = local_path(l->path);
	struct davit_image_load load = *l;
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	char full[DAVIT_REFERENCE_MAX];
	int r;

	if (path) {
		load.path = path;
		return davit_image_load(s, &load, err);
	}
	r = choose_source(l, &source, full, err);
	load.reference = full;
	if (r == 0)
		r = image_job_begin(s, &j, err);
	return r == 0 ? pull(&j, &load, source, err) : r;
}
