/* SPDX-License-Identifier: MIT
 *
 * What a spec costs in memory, and what happens when there is none.
 */
#include "base/util.h"
#include "core/spec_table.h"
#include "core/test_spec.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Allocation number `fail_at` from now fails: the linker wraps these. */
static long fail_at = -1;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);

static bool fails(void)
{
	return fail_at >= 0 && fail_at-- == 0;
}
void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t m)
{
	return fails() ? NULL : __real_calloc(n, m);
}
void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

static void a_typical_spec_is_small(void **state)
{
	struct davit_spec *s =
		test_spec(WEB "env: {PORT: 8080, HOME: /srv/web, MODE: production}\nports: [8080]\n"
			      "resources: {memory: 64Mi, cpu: 500m}\nrestart: always\n"
			      "metadata: {team: infrastructure}\ncommand: [/usr/bin/web, --port, 8080]\n");

	(void)state;
	assert_true(malloc_usable_size(s) < 1536);
	davit_spec_free(s);
}

static void lack_of_memory_is_an_error_everywhere(void **state)
{
	static const char *const texts[] = {
		WEB "env: [A=1, B=2]\nports: [\"127.0.0.1:8080:80\"]\nargs: [a, b]\nrestart: {success: [1]}\n"
		    "volumes: /a:/b:ro\n---\nname: b\nimage: x\n",
		"[{\"name\":\"a\",\"source\":\".\",\"env\":{\"A\":\"b\"}},{\"name\":\"b\",\"command\":[\"x\"]"
		"}]",
	};

	(void)state;
	davit_spec_defaults();
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(texts); i++) {
		int r = DAVIT_ENOMEM;
		long at;

		for (at = 0; r; at++) {
			struct davit_spec **specs = NULL;
			struct davit_error err;
			size_t n = 0;

			fail_at = at;
			r = davit_spec_parse(texts[i], strlen(texts[i]), "web.yaml", &specs, &n, &err);
			if (!r) {
				char *json;
				assert_true(fail_at >= 0); /* it was not reached any more */
				fail_at = 0;
				assert_null(davit_spec_dup(specs[0]));
				fail_at = 0;
				json = davit_spec_json(specs[0]);
				assert_null(json);
				fail_at = 0;
				assert_int_equal(davit_spec_hash(specs[0]), 0);
				fail_at = -1;
				davit_spec_free_all(specs, n);
			} else {
				fail_at = -1;
				assert_int_equal(r, DAVIT_ENOMEM);
				assert_null(specs);
			}
		}
		assert_true(at > 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_typical_spec_is_small),
		cmocka_unit_test(lack_of_memory_is_an_error_everywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
