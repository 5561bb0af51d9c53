/* SPDX-License-Identifier: MIT */
#include "source/test_tree.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

char test_tree[64];

int test_tree_open(void)
{
	strcpy(test_tree, "/tmp/davit-source-XXXXXX");
	return mkdtemp(test_tree) ? 0 : -1;
}

int test_tree_close(void **state)
{
	return davit_remove_tree(test_tree, NULL);
}

char *test_at(const char *name)
{
	static char paths[4][256];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, 256, "%s/%s", test_tree, name);
	return path;
}

void test_put(const char *name, const char *text, mode_t mode)
{
	char *path = test_at(name), parent[256];

	snprintf(parent, sizeof parent, "%s", path);
	*strrchr(parent, '/') = '\0';
	assert_int_equal(davit_mkdirs(parent, 0755, NULL), 0);
	assert_int_equal(davit_write_file(path, text, strlen(text), mode, NULL), 0);
	assert_int_equal(chmod(path, mode), 0);
}
