/* SPDX-License-Identifier: MIT
 *
 * Projects: trees of containers. Each is a service of the namespace "projects" that
 * runs davit-containers; what concerns its containers is handed on to that.
 */
#ifndef DAVIT_DAEMON_PROJECTS_H
#define DAVIT_DAEMON_PROJECTS_H

#include "daemon/api.h"

#define PROJECTS "projects"
#define PROJECT_DEFAULT "default"

/* What a project is made with. All borrowed; NULL: the default. */
struct project_wish {
	const char *name;
	const char *directory;
	const char *search_thread, *search_process;
	int64_t workers; /* 0: one a processor */
};

/* Its spec, to be freed with davit_spec_free. */
int project_spec(struct davit_daemon *d, const struct project_wish *w, struct davit_spec **ret,
		 struct davit_error *err);
/* The project of that name: 0, or DAVIT_ENOENT. */
int project_find(struct davit_daemon *d, const char *name, struct davit_service **ret,
		 struct davit_error *err);
/* Where its host listens, and what it records: heap strings, NULL without memory. */
char *project_socket(const struct davit_daemon *d, const char *name);
char *project_record(const struct davit_daemon *d, const char *name);

/* Creates it. Prepares call->op, with `done`; on failure nothing was begun. */
int project_create(struct api_call *call, const struct project_wish *w,
		   void (*done)(struct davit_op *op, int result), struct davit_error *err);

#endif
