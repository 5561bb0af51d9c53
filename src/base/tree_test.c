/* SPDX-License-Identifier: MIT
 *
 * The reader of JSON against jansson as its oracle.
 */
#include "base/tree.h"
#include "base/util.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void what_is_json_is_for_jansson_to_say(void **state)
{
	static const char *const texts[] = {
		"{}",
		"{\"a\":1}",
		"{\"a\":-0}",
		"{\"a\":01}",
		"{\"a\":1.}",
		"{\"a\":.5}",
		"{\"a\":1e5}",
		"{\"a\":1e}",
		"{\"a\":+1}",
		"{\"a\":tru}",
		"{\"a\":true}",
		"{\"a\":null}",
		"{\"a\":[1,2,]}",
		"{\"a\":[,]}",
		"{,}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{\"a\":1 \"b\":2}",
		"{\"a\":\"\\x\"}",
		"{\"a\":\"\\u12\"}",
		"{\"a\":\"\\ud800\\u0041\"}",
		"{\"a\":\"\\udc00\"}",
		"{\"a\":\"\\ud83d\\ude00\"}",
		"{\"a\":\"\n\"}",
		"{\"a\":\"\x7f\"}",
		"{\"a\":1}}",
		"{\"a\":1} x",
		"{\"a\":{\"b\":[{}]}}",
		"{\"a\":1,\"a\":2}",
		"{'a':1}",
		"{\"a\":NaN}",
		"{\"a\":0x1}",
		"{\"a\":\"\\\"}",
		"{\"a\":\"\\/\\b\\f\\n\\r\\t\\\\\"}",
		"{\"a\":1\f}",
		"[",
		"[]",
		"[{}",
		"[{},]",
		"[{}]",
		"[{} {}]",
		"[1",
		"{",
		"{\"",
		"{\"a",
		"{\"a\":",
		"{\"a\":\"\\u0000\"}",
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(texts); i++) {
		json_t *j = json_loads(texts[i], JSON_REJECT_DUPLICATES, NULL);
		struct davit_tree_source source;
		struct davit_region region = {0};
		struct davit_error err;
		struct davit_tree *t;
		int r = davit_tree_open(&source, texts[i], strlen(texts[i]), &err);

		assert_int_equal(r, 0);
		while ((r = davit_tree_next(&source, &region, &t, &err)) > 0)
			;
		if ((r == 0) != (j != NULL))
			fail_msg("%s: %s", texts[i], r ? err.message : "taken");
		davit_tree_close(&source);
		davit_region_fini(&region);
		json_decref(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_json_is_for_jansson_to_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
