/* SPDX-License-Identifier: MIT
 *
 * "Did you mean": the known word nearest to an unknown one.
 */
#ifndef DAVIT_BASE_NEAREST_H
#define DAVIT_BASE_NEAREST_H

#include <stddef.h>

/* The entry of words[n] with the least edit distance (a swap of neighbours
 * counts one, case is ignored), or NULL when none is near enough to be meant.
 * NULL entries are passed over. */
const char *davit_nearest(const char *word, const char *const *words, size_t n);

#endif
