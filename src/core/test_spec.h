/* SPDX-License-Identifier: MIT
 *
 * Specs from texts, for the tests of them. A text that is refused fails the test.
 */
#ifndef DAVIT_CORE_TEST_SPEC_H
#define DAVIT_CORE_TEST_SPEC_H

#include "davit/spec.h"

#define WEB "name: web\nsource: .\n"
#define JWEB "{\"name\":\"web\",\"source\":\".\","

/* The one spec of a text; the caller's. */
struct davit_spec *test_spec(const char *text);
/* Its canonical JSON; heap. */
char *test_spec_json(const char *text);
/* Both mean the same. */
void test_specs_same(const char *a, const char *b);

#endif
