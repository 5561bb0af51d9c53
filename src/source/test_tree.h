/* SPDX-License-Identifier: MIT
 *
 * A directory with files, for the tests of what reads sources. What goes wrong in making them fails the test.
 */
#ifndef DAVIT_SOURCE_TEST_TREE_H
#define DAVIT_SOURCE_TEST_TREE_H

#include <sys/types.h>

extern char test_tree[64]; /* its path, while it is there */

/* Makes an empty one: 0, or -1. */
int test_tree_open(void);
/* Removes it with all that is in it: a teardown of cmocka's. */
int test_tree_close(void **state);
/* The path of a name in it. The last four that were asked for are kept. */
char *test_at(const char *name);
/* Writes a file of that mode, and the directories above it. */
void test_put(const char *name, const char *text, mode_t mode);

#endif
