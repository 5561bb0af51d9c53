/* SPDX-License-Identifier: MIT
 *
 * NULL-terminated vectors of heap strings, as execve takes them. A NULL vector
 * is an empty one.
 */
#ifndef DAVIT_BASE_STRV_H
#define DAVIT_BASE_STRV_H

#include "base/util.h"

void davit_strv_free(char **v);
static inline void davit_strv_freep(char ***v)
{
	davit_strv_free(*v);
}
#define DAVIT_AUTO_STRV DAVIT_CLEANUP(davit_strv_freep) char **

size_t davit_strv_len(char *const *v);
/* A deep copy: 0 or DAVIT_ENOMEM. A NULL v copies to NULL. */
int davit_strv_dup(char *const *v, char ***ret);
/* Appends a copy of s: 0 or DAVIT_ENOMEM (v is then unchanged). */
int davit_strv_add(char ***v, const char *s);
/* Environment: sets NAME=value, replacing an earlier NAME. */
int davit_strv_setenv(char ***v, const char *name, const char *value);
/* Environment: the value of NAME or NULL; borrowed from v. */
const char *davit_strv_getenv(char *const *v, const char *name);
bool davit_strv_equal(char *const *a, char *const *b);

#endif
