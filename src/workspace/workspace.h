/* SPDX-License-Identifier: MIT
 *
 * A workspace: a source tree inside a runtime, as one instance of a service. This
 * header is what makes a service of a workspace, and tells a workspace from a service.
 */
#ifndef DAVIT_WORKSPACE_H
#define DAVIT_WORKSPACE_H

#include "davit/error.h"
#include "davit/spec.h"
#include "workspace/name.h"

#include <jansson.h>

/* Workspaces are the services of this namespace that carry an id. */
#define DAVIT_WORKSPACES "workspaces"
/* Where the sources appear on a runtime with a root of its own. */
#define DAVIT_WORKSPACE_SOURCES "/workspace/sources"

/* What is asked for. All borrowed. */
struct davit_workspace {
	const char *id, *name;
	const char *runtime;
	const char *source;	 /* absolute directory */
	const char *agent;	 /* or NULL */
	const char *project;	 /* or NULL */
	const char *config_path; /* of the workspace's own level, or NULL */
	const json_t *config;	 /* merged, config.h */
	const char *home;	 /* the user's home directory */
	bool start;		 /* else it is recorded as stopped */
};

/* The spec of the service that the workspace is, as JSON (a new reference), for a
 * runtime that can do `can`. What cannot be had there is refused with the reason:
 * DAVIT_ENOTSUP, DAVIT_EINVAL, DAVIT_EPERM, DAVIT_ENOENT. Looks at the file system. */
int davit_workspace_spec(const struct davit_workspace *w, const struct davit_capabilities *can, json_t **ret,
			 struct davit_error *err);

/* The same back from a spec; "" where nothing was given, borrowed from the spec. */
struct davit_workspace_record {
	const char *id, *name, *runtime, *source, *agent, *project, *config_path, *image;
	const char *shell; /* a JSON list of texts, or "" */
};
/* False for what is no workspace. */
bool davit_workspace_read(const struct davit_spec *spec, struct davit_workspace_record *ret);
/* Before a start: what is to be mounted is still what was checked. */
int davit_workspace_recheck(const struct davit_spec *spec, struct davit_error *err);

#endif
