/* SPDX-License-Identifier: MIT
 *
 * Task files: what to run, what it takes and what it makes, as YAML or JSON.
 * docs/steps.md has every key.
 */
#ifndef DAVIT_TASK_H
#define DAVIT_TASK_H

#include "davit/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct davit_task_path {
	const char *name; /* of caches NULL */
	const char *path; /* relative or absolute; the name where the file says nothing */
	bool optional;	  /* of inputs */
};

struct davit_task_param {
	const char *name, *value;
	bool given; /* the file has a value; one without is "" */
};

/* Everything is owned by the task. */
struct davit_task {
	const char *platform;		 /* "linux" */
	const char *image_type;		 /* image_resource, or NULL: its type, */
	const char *image_source;	 /* and its source as JSON; */
	const char *image;		 /* of registry-image and docker-image the name: "REPOSITORY:TAG" */
	const char *rootfs;		 /* rootfs_uri, or NULL */
	struct davit_task_param *params; /* in the order of the file */
	size_t n_params;
	struct davit_task_path *inputs, *outputs, *caches;
	size_t n_inputs, n_outputs, n_caches;
	const char *run_path, *run_dir, *run_user; /* dir, user: or NULL */
	char *const *run_args;			   /* ends with NULL */
	int64_t cpu_millicores;			   /* 0: no limit, also below */
	uint64_t memory;			   /* bytes */
	uint32_t pids;
};

/* Reads a task from text; `len` bytes. Unknown keys are refused. DAVIT_EINVAL with line, column and
 * key in *err. *ret is owned: davit_task_free. Does not block. */
int davit_task_parse(const char *text, size_t len, struct davit_task **ret, struct davit_error *err);
/* As parse, of a file; messages begin with its name. Blocks for one short read. */
int davit_task_load(const char *path, struct davit_task **ret, struct davit_error *err);
/* NULL is allowed. */
void davit_task_free(struct davit_task *t);

/* Sets a param that the file has. DAVIT_EINVAL for another, naming the nearest; DAVIT_ENOMEM. */
int davit_task_set_param(struct davit_task *t, const char *name, const char *value, struct davit_error *err);
/* Whether each input that is not optional is among the `n` given names, and each of those is an input.
 * DAVIT_EINVAL naming all that are missing, in one message. */
int davit_task_check_inputs(const struct davit_task *t, const char *const *names, size_t n,
			    struct davit_error *err);

#ifdef __cplusplus
}
#endif
#endif
