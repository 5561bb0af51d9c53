/* SPDX-License-Identifier: MIT */
#include "core/test_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct davit_spec *test_spec(const char *text)
{
	struct davit_spec *s = NULL;
	struct davit_error err;

	if (davit_spec_parse_one(text, strlen(text), "test", &s, &err))
		fail_msg("%s\n%s", err.message, text);
	return s;
}

char *test_spec_json(const char *text)
{
	struct davit_spec *s = test_spec(text);
	char *json = davit_spec_json(s);

	davit_spec_free(s);
	assert_non_null(json);
	return json;
}

void test_specs_same(const char *a, const char *b)
{
	char *x = test_spec_json(a), *y = test_spec_json(b);

	assert_string_equal(x, y);
	free(x);
	free(y);
}
