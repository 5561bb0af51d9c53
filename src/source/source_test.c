/* SPDX-License-Identifier: MIT */
#include "source/source.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char dir[] = "/tmp/davit-source-XXXXXX";

static void make(const char *path)
{
	char full[256];

	snprintf(full, sizeof full, "%s/%s", dir, path);
	assert_int_equal(davit_mkdirs(full, 0755, NULL), 0);
}

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	make("tree");
	make("with blank@1");
	make("bare.git/objects");
	make("bare.git/refs");
	make("bare.git/HEAD");
	make("work/.git");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return davit_remove_tree(dir, NULL);
}

/* %s in a text is the directory of the test. */
static const char *fill(const char *text)
{
	static char buf[8192];

	snprintf(buf, sizeof buf, "%s%s", !strncmp(text, "%s", 2) ? dir : "",
		 text + (!strncmp(text, "%s", 2) ? 2 : 0));
	return buf;
}

static void a_source_is_what_its_form_says(void **state)
{
	static const struct {
		const char *text;
		enum davit_source_kind kind;
		const char *location, *ref;
		bool local;
	} good[] = {
		{"%s/tree", DAVIT_SOURCE_PATH, "%s/tree", NULL, false},
		{"%s/with blank@1", DAVIT_SOURCE_PATH, "%s/with blank@1", NULL, false},
		{"%s/work", DAVIT_SOURCE_PATH, "%s/work", NULL, false},
		{"%s/work@main", DAVIT_SOURCE_GIT, "%s/work", "main", true},
		{"%s/bare.git", DAVIT_SOURCE_GIT, "%s/bare.git", NULL, true},
		{"%s/bare.git@feature/x", DAVIT_SOURCE_GIT, "%s/bare.git", "feature/x", true},
		{"%s/bare.git@v1@2", DAVIT_SOURCE_GIT, "%s/bare.git", "v1@2", true},
		{"%s/bare.git@latest", DAVIT_SOURCE_GIT, "%s/bare.git", NULL, true},
		{"github.com/a/b", DAVIT_SOURCE_GIT, "https://github.com/a/b", NULL, false},
		{"github.com/a/b@v1.2", DAVIT_SOURCE_GIT, "https://github.com/a/b", "v1.2", false},
		{"github.com/a/b/@v1", DAVIT_SOURCE_GIT, "https://github.com/a/b", "v1", false},
		{"gitlab.com/a/b/c/d@release/1", DAVIT_SOURCE_GIT, "https://gitlab.com/a/b/c/d", "release/1",
		 false},
		{"git.example.com:8443/a/b", DAVIT_SOURCE_GIT, "https://git.example.com:8443/a/b", NULL,
		 false},
		{"https://example.com/a.git@HEAD", DAVIT_SOURCE_GIT, "https://example.com/a.git", NULL,
		 false},
		{"https://[::1]:80/a", DAVIT_SOURCE_GIT, "https://[::1]:80/a", NULL, false},
		{"http://127.0.0.1:81/a@b", DAVIT_SOURCE_GIT, "http://127.0.0.1:81/a", "b", false},
		{"ssh://git@example.com:22/a/b", DAVIT_SOURCE_GIT, "ssh://git@example.com:22/a/b", NULL,
		 false},
		{"git@example.com:a/b@v1", DAVIT_SOURCE_GIT, "git@example.com:a/b", "v1", false},
		{"nginx:1.25", DAVIT_SOURCE_IMAGE, "nginx:1.25", NULL, false},
		{"ghcr.io/a/b:v1", DAVIT_SOURCE_IMAGE, "ghcr.io/a/b:v1", NULL, false},
		{"a@sha256:0123", DAVIT_SOURCE_IMAGE, "a@sha256:0123", NULL, false},
		{"docker://nginx", DAVIT_SOURCE_IMAGE, "nginx", NULL, false},
		{"helloworld", DAVIT_SOURCE_NAME, "helloworld", NULL, false},
		{"team/foobar@v2", DAVIT_SOURCE_NAME, "team/foobar", "v2", false},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(good); i++) {
		struct davit_source s;
		struct davit_error err;
		if (davit_source_parse(fill(good[i].text), &s, &err) < 0)
			fail_msg("%s: %s", good[i].text, err.message);
		assert_int_equal(s.kind, good[i].kind);
		assert_string_equal(s.location, fill(good[i].location));
		assert_int_equal(s.local, good[i].local);
		if (good[i].ref)
			assert_string_equal(s.ref, good[i].ref);
		else
			assert_null(s.ref);
		davit_source_fini(&s);
	}
}

static void a_malformed_source_is_refused_with_the_reason(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"", "the source is empty"},
		{"foo bar", "the source 'foo bar' has a blank in it"},
		{"foo\nbar", "the source has a control character (0x0a) in it"},
		{"--upload-pack=x", "the source '--upload-pack=x' begins with '-'"},
		{"./foo", "'./foo' is a relative path: davitd needs an absolute one"},
		{"../foo", "'../foo' is a relative path: davitd needs an absolute one"},
		{"~/foo", "'~/foo' is a relative path: davitd needs an absolute one"},
		{"/does/not/exist", "'/does/not/exist' does not exist"},
		{"/dev/null", "'/dev/null' is neither a file nor a directory"},
		{"file:///dev", "'/dev' is not a git repository"},
		{"file://relative/x", "file:// needs an absolute path: file:///path/repository.git"},
		{"https://", "there is no host in 'https://'"},
		{"https:///a", "there is no host in 'https:///a'"},
		{"https://example.com", "there is no repository in 'https://example.com'"},
		{"https://example.com/", "there is no repository in 'https://example.com/'"},
		{"https://example.com:99999/a", "'99999' is not a port: 1 to 65535"},
		{"https://exa_mple.com/a", "'exa_mple.com' is not the name of a host"},
		{"https://-oProxyCommand/a", "'-oProxyCommand' is not the name of a host"},
		{"ssh://-oProxyCommand=x/a", "'-oProxyCommand=x' is not the name of a host"},
		{"http://example.com/a", "http:// is not encrypted: use https:// or ssh://"},
		{"ftp://example.com/a", "'ftp://' is not supported: https://, ssh://, file://, docker://"},
		{"git://example.com/a", "'git://' is not supported: https://, ssh://, file://, docker://"},
		{"https://me:secret@example.com/a",
		 "credentials do not belong into a source: see 'Credentials' in docs/sources.md"},
		{"ext::sh", "'ext::' is a transport helper of git, which is not allowed"},
		{"docker://", "there is no image after 'docker://'"},
		{"github.com/a/b@", "the ref after '@' is empty"},
		{"github.com/a/b@-x", "the ref '-x' begins with '-'"},
		{"github.com/a/b@a..b", "'a..b' is not a name that git allows for a ref"},
		{"github.com/a/b@a.lock", "'a.lock' is not a name that git allows for a ref"},
		{"github.com/a/b@a:b", "the ref 'a:b' has a ':' in it"},
		{"github.com/a/../b", "the repository 'a/../b' has '..' in it"},
		{"github.com//b", "the repository '/b' has an empty part"},
		{"github.com/-b/c", "a part of the repository '-b/c' begins with '-'"},
		{"github.com/a/b#x", "the repository 'a/b#x' has a '#' in it"},
		{"git@example.com:", "there is no repository in 'git@example.com:'"},
		{"@example.com:a", "there is no user before '@' in '@example.com:a'"},
		{"foo//bar", "'foo//bar' is not a path, a git URL, an image or a name"},
		{"foo!", "'foo!' is not a path, a git URL, an image or a name"},
		{"@", "'@' is not a path, a git URL, an image or a name"},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		struct davit_source s = {.location = (char *)"untouched"};
		struct davit_error err;
		int r = davit_source_parse(bad[i].text, &s, &err);
		if (r == 0)
			fail_msg("'%s' was accepted", bad[i].text);
		assert_int_equal(r, DAVIT_ESOURCE);
		assert_string_equal(err.message, bad[i].message);
		assert_string_equal(s.location, "untouched");
	}
}

static void a_source_of_any_length_is_no_crash(void **state)
{
	char text[6000];
	struct davit_source s;
	struct davit_error err;

	(void)state;
	memset(text, 'a', sizeof text);
	text[5000] = '\0';
	assert_int_equal(davit_source_parse(text, &s, &err), DAVIT_ESOURCE);
	assert_string_equal(err.message, "the source is longer than 4096 bytes");
	snprintf(text, sizeof text, "github.com/a@%0300d", 0);
	assert_int_equal(davit_source_parse(text, &s, &err), DAVIT_ESOURCE);
	assert_string_equal(err.message,
			    "the ref '00000000000000000000000000000000...' is longer than 255 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_source_is_what_its_form_says),
		cmocka_unit_test(a_malformed_source_is_refused_with_the_reason),
		cmocka_unit_test(a_source_of_any_length_is_no_crash),
	};
	return cmocka_run_group_tests_name("source", tests, set_up, tear_down);
}
