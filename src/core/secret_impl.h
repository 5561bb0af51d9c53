/* SPDX-License-Identifier: MIT
 *
 * What secret.c (sealing, the store) and secret_files.c (files for workloads)
 * share.
 */
#ifndef DAVIT_CORE_SECRET_IMPL_H
#define DAVIT_CORE_SECRET_IMPL_H

#include "core/secret.h"

struct davit_secrets {
	struct davit_store *store;
	char *key_path;
	char *run_dir;
	char *files_dir;    /* NULL until first needed */
	bool looked;	    /* for one that a daemon before us has made */
	unsigned char *key; /* NULL until read; from sodium_malloc */
};

/* Removes the directory of all files, and the one above it under /dev/shm, if there is nothing in it. */
void secret_files_leave(struct davit_secrets *s);

#endif
