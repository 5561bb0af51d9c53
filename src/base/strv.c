/* SPDX-License-Identifier: MIT */
#include "base/strv.h"

#include "davit/error.h"

#include <stdio.h>
#include <string.h>

void davit_strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

size_t davit_strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

int davit_strv_dup(char *const *v, char ***ret)
{
	size_t n = davit_strv_len(v);
	char **copy;

	if (!v) {
		*ret = NULL;
		return 0;
	}
	copy = calloc(n + 1, sizeof *copy);
	if (!copy)
		return DAVIT_ENOMEM;
	for (size_t i = 0; i < n; i++) {
		copy[i] = strdup(v[i]);
		if (!copy[i]) {
			davit_strv_free(copy);
			return DAVIT_ENOMEM;
		}
	}
	*ret = copy;
	return 0;
}

static int add_owned(char ***v, char *s)
{
	size_t n = davit_strv_len(*v);
	char **grown = s ? realloc(*v, (n + 2) * sizeof **v) : NULL;

	if (!grown) {
		free(s);
		return DAVIT_ENOMEM;
	}
	grown[n] = s;
	grown[n + 1] = NULL;
	*v = grown;
	return 0;
}

int davit_strv_add(char ***v, const char *s)
{
	return add_owned(v, strdup(s));
}

int davit_strv_setenv(char ***v, const char *name, const char *value)
{
	size_t len = strlen(name);
	char *entry = NULL;

	if (asprintf(&entry, "%s=%s", name, value) < 0)
		return DAVIT_ENOMEM;
	for (size_t i = 0; *v && (*v)[i]; i++) {
		if (!strncmp((*v)[i], name, len) && (*v)[i][len] == '=') {
			free((*v)[i]);
			(*v)[i] = entry;
			return 0;
		}
	}
	return add_owned(v, entry);
}

const char *davit_strv_getenv(char *const *v, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; v && v[i]; i++)
		if (!strncmp(v[i], name, len) && v[i][len] == '=')
			return v[i] + len + 1;
	return NULL;
}

bool davit_strv_equal(char *const *a, char *const *b)
{
	size_t n = davit_strv_len(a);

	if (n != davit_strv_len(b))
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i], b[i]))
			return false;
	return true;
}
