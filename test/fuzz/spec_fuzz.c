/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a spec: refused with a place, or taken and then the same after a
 * round trip through JSON. What a spec's JSON reader takes is JSON to jansson too.
 */
#include "base/tree.h"
#include "base/util.h"
#include "davit/spec.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(x)                                                                                           \
	do {                                                                                                 \
		if (!(x)) {                                                                                  \
			fprintf(stderr, "spec_fuzz: %s\n", #x);                                              \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

static void round_trip(const struct davit_spec *s)
{
	char *json = davit_spec_json(s), *again;
	struct davit_spec *t, *copy;
	struct davit_error err = {0};

	REQUIRE(json);
	if (davit_spec_parse_one(json, strlen(json), "json", &t, &err)) {
		fprintf(stderr, "%s\n%s\n", err.message, json);
		abort();
	}
	copy = davit_spec_dup(t);
	REQUIRE(copy);
	again = davit_spec_json(copy);
	REQUIRE(again && !strcmp(json, again));
	REQUIRE(davit_spec_hash(s) == davit_spec_hash(copy));
	REQUIRE(davit_spec_check(copy, NULL) == 0);
	davit_spec_free(t);
	davit_spec_free(copy);
	free(json);
	free(again);
}

/* Does the reader say the same as jansson of what is JSON? Limits are ours. */
static void compare_with_jansson(const char *text, size_t size)
{
	struct davit_tree_source source;
	struct davit_region region = {0};
	struct davit_error err = {0};
	struct davit_tree *t;
	json_error_t why;
	json_t *j;
	int r = davit_tree_open(&source, text, size, &err);

	while (!r && (r = davit_tree_next(&source, &region, &t, &err)) > 0)
		r = 0;
	if (source.is_json) {
		if (size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) { /* passed over by us alone */
			text += 3;
			size -= 3;
		}
		j = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
		if (j && r)
			REQUIRE(strstr(err.message, "nested deeper") || strstr(err.message, "values") ||
				strstr(err.message, "NUL character"));
		if (!j && !r)
			REQUIRE(json_error_code(&why) == json_error_numeric_overflow);
		json_decref(j);
	}
	davit_tree_close(&source);
	davit_region_fini(&region);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of exactly this size, so that reading past it is seen. */
	char *text = malloc(size ? size : 1);
	struct davit_spec **specs = NULL;
	struct davit_error err = {0};
	size_t n = 0;
	int r;

	REQUIRE(text);
	memcpy(text, data, size);
	r = davit_spec_parse(text, size, "fuzz", &specs, &n, &err);
	if (r) {
		REQUIRE(r == DAVIT_EINVAL && err.code == r && *err.message && !specs);
		REQUIRE(err.line > 0 || size > DAVIT_SPEC_TEXT_MAX);
	}
	for (size_t i = 0; i < n; i++)
		round_trip(specs[i]);
	davit_spec_free_all(specs, n);
	compare_with_jansson(text, size);
	free(text);
	return 0;
}
