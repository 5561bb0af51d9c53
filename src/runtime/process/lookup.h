/* SPDX-License-Identifier: MIT
 *
 * Users and programs by name.
 */
#ifndef DAVIT_PROCESS_LOOKUP_H
#define DAVIT_PROCESS_LOOKUP_H

#include "base/util.h"
#include "davit/error.h"

struct process_user {
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* supplementary; owned */
	int n_groups;
};

/* "name", "uid" or "name:group" (each part a name or a number). A number that
 * no entry has is taken as it is, with the group of the same number. DAVIT_ENOENT for an unknown
 * name. Reads the user database. */
int process_user_lookup(const char *user, struct process_user *ret, struct davit_error *err);
void process_user_fini(struct process_user *u);

/* The path to execute for argv0: itself when it has a slash (relative ones
 * below the directory), else the first executable file of that name in the
 * env's PATH. A heap string. DAVIT_EEXEC "executable 'x' not found in PATH", with
 * ENOENT, or "'x' in PATH may not be executed", with EACCES. */
int process_program_lookup(const char *argv0, char *const *env, const char *directory, char **ret,
			   struct davit_error *err);

#endif
