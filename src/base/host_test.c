/* SPDX-License-Identifier: MIT */
#include "base/host.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static void each_form_has_one_canonical_text(void **state)
{
	static const char *const cases[][2] = {
		{"example.test", "example.test"},
		{"Example.TEST.:443", "example.test:443"},
		{"_sip._tcp.example.test", "_sip._tcp.example.test"},
		{"a-b.c1", "a-b.c1"},
		{"localhost", "localhost"},
		{"192.0.2.7", "192.0.2.7"},
		{"192.0.2.7:1", "192.0.2.7:1"},
		{"192.0.2.7/32:65535", "192.0.2.7:65535"},
		{"192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.2.4/30:443", "192.0.2.4/30:443"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"2001:DB8:0::7", "2001:db8::7"},
		{"2001:db8::/32", "2001:db8::/32"},
		{"[2001:db8::7]", "2001:db8::7"},
		{"[2001:db8::7]:443", "[2001:db8::7]:443"},
		{"[2001:db8::/32]:443", "[2001:db8::/32]:443"},
		{"::/0", "::/0"},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		char text[DAVIT_HOST_MAX], again[DAVIT_HOST_MAX];
		struct davit_host h;
		struct davit_error err;

		if (davit_host_parse(cases[i][0], &h, &err) < 0)
			fail_msg("%s", err.message);
		assert_string_equal(davit_host_format(&h, text), cases[i][1]);
		assert_int_equal(davit_host_parse(text, &h, &err), 0);
		assert_string_equal(davit_host_format(&h, again), text);
	}
}

static void what_is_no_host_is_refused_with_the_reason(void **state)
{
	static const char *const cases[][2] = {
		{"", "is not a name, an address or a network"},
		{":443", "is not a name"},
		{"a b", "is not a name"},
		{"http://a", "is a URL: give the name of its host"},
		{"a/b", "is not a name"},
		{"-a.test", "is not a name"},
		{"a-.test", "is not a name"},
		{"a..test", "is not a name"},
		{".", "is not a name"},
		{"\xc3\xbc.test", "is not a name"},
		{"*.example.test", "has a '*': names are given one by one"},
		{"192.0.2.300", "is not an address, and no name ends in a number"},
		{"10", "is not an address, and no name ends in a number"},
		{"192.0.2.7/24", "has bits set behind its prefix"},
		{"192.0.2.128/24", "has bits set behind its prefix"},
		{"2001:db8::1/64", "has bits set behind its prefix"},
		{"192.0.2.0/33", "a prefix is a number from 0 to 32"},
		{"2001:db8::/129", "a prefix is a number from 0 to 128"},
		{"192.0.2.0/", "a prefix is a number from 0 to 32"},
		{"example.test:0", "does not end in a port, a number from 1 to 65535"},
		{"example.test:65536", "does not end in a port"},
		{"example.test:", "does not end in a port"},
		{"example.test:http", "does not end in a port"},
		{"2001:db8:::1", "is not a name"},
		{"[example.test]:443", "is not a name"},
		{"[2001:db8::7]443", "is not a name"},
		{"[2001:db8::7", "is not a name"},
	};
	char label[70] = "";

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		struct davit_host h = {.port = 7};
		struct davit_error err;

		if (davit_host_parse(cases[i][0], &h, &err) != DAVIT_EINVAL)
			fail_msg("'%s' was taken", cases[i][0]);
		if (!strstr(err.message, cases[i][1]))
			fail_msg("'%s': %s", cases[i][0], err.message);
		assert_int_equal(h.port, 7);
	}
	memset(label, 'a', 64);
	assert_int_equal(davit_host_parse(label, &(struct davit_host){0}, NULL), DAVIT_EINVAL);
	label[63] = '\0';
	assert_int_equal(davit_host_parse(label, &(struct davit_host){0}, NULL), 0);
}

static void a_host_covers_what_lies_within_it(void **state)
{
	static const struct {
		const char *a, *b;
		bool covers, back;
	} cases[] = {
		{"10.0.0.0/8", "10.1.2.3", true, false},
		{"10.0.0.0/8", "10.1.2.3:443", true, false},
		{"10.0.0.0/8:443", "10.1.2.3", false, false},
		{"10.0.0.0/8:443", "10.1.0.0/16:443", true, false},
		{"10.0.0.0/8:443", "10.1.0.0/16:80", false, false},
		{"10.0.0.0/8", "11.0.0.0/8", false, false},
		{"10.0.0.0/9", "10.128.0.0/9", false, false},
		{"0.0.0.0/0", "255.0.0.1", true, false},
		{"0.0.0.0/0", "::1", false, false},
		{"::/0", "2001:db8::/32", true, false},
		{"a.test", "a.test:443", true, false},
		{"a.test", "A.test", true, true},
		{"a.test", "b.test", false, false},
		{"a.test", "10.0.0.1", false, false},
		{"0.0.0.0/0", "a.test", false, false},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		struct davit_host a, b;

		assert_int_equal(davit_host_parse(cases[i].a, &a, NULL), 0);
		assert_int_equal(davit_host_parse(cases[i].b, &b, NULL), 0);
		if (davit_host_covers(&a, &b) != cases[i].covers ||
		    davit_host_covers(&b, &a) != cases[i].back)
			fail_msg("%s and %s", cases[i].a, cases[i].b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_form_has_one_canonical_text),
		cmocka_unit_test(a_host_covers_what_lies_within_it),
		cmocka_unit_test(what_is_no_host_is_refused_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
