/* SPDX-License-Identifier: MIT
 *
 * The paths of mounts: what they may look like, and what they mean on this host.
 * A config comes with a source tree that may be anybody's, so a path that is relative
 * to the sources or to the home directory never leads out of it, by ".." or by a link.
 */
#ifndef DAVIT_WORKSPACE_MOUNT_H
#define DAVIT_WORKSPACE_MOUNT_H

#include "davit/error.h"

/* Where paths begin. Borrowed. */
struct davit_workspace_roots {
	const char *source; /* the source directory on the host, absolute */
	const char *home;   /* the user's home directory on the host, absolute */
	/* The same as they appear inside: SOURCES, and HOME or NULL where that is not known. */
	const char *inside, *home_inside;
};

/* May a path be written so? "$SOURCES" and "$HOME" at its beginning alone, no "..".
 * The message has no place. */
int davit_workspace_path_check(const char *path, struct davit_error *err);

/* What a mount's host path means: "$SOURCES/x" and "x" below the sources, "$HOME/x"
 * below the home directory, "/x" itself. *ret is a heap string, absolute and without
 * links. DAVIT_ENOENT; DAVIT_EPERM for one that leads out by a link. Blocks for the
 * file system. */
int davit_workspace_mount_host(const char *path, const struct davit_workspace_roots *roots, char **ret,
			       struct davit_error *err);
/* What its target means inside; nothing is looked up. DAVIT_ENOTSUP for "$HOME" where
 * that is not known. */
int davit_workspace_mount_target(const char *path, const struct davit_workspace_roots *roots, char **ret,
				 struct davit_error *err);
/* Is a path that davit_workspace_mount_host gave still what it was: no part of it has
 * become a link since? DAVIT_EPERM, DAVIT_ENOENT. */
int davit_workspace_mount_recheck(const char *path, struct davit_error *err);

#endif
