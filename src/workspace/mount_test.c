/* SPDX-License-Identifier: MIT */
#include "workspace/mount.h"

#include "base/file.h"
#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* A home with sources in it, and something outside of both:
 *   TOP/home/src/{cache, out -> TOP/outside, sideways -> cache, home -> ..}, TOP/outside */
static char top[] = "/tmp/davit-mount-XXXXXX", source[64], home[64];
static struct davit_workspace_roots roots;

static void make_link(const char *to, const char *at)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s", source, at);
	assert_int_equal(symlink(to, path), 0);
}

static int setup(void **state)
{
	char cache[80], outside[64], file[96];

	(void)state;
	assert_non_null(mkdtemp(top));
	snprintf(home, sizeof home, "%s/home", top);
	snprintf(source, sizeof source, "%s/src", home);
	snprintf(cache, sizeof cache, "%s/cache", source);
	snprintf(outside, sizeof outside, "%s/outside", top);
	assert_int_equal(davit_mkdirs(cache, 0700, NULL), 0);
	assert_int_equal(davit_mkdirs(outside, 0700, NULL), 0);
	snprintf(file, sizeof file, "%s/.gitconfig", home);
	assert_int_equal(davit_write_file(file, "", 0, 0600, NULL), 0);
	make_link(outside, "out");
	make_link("cache", "sideways");
	make_link("..", "home");
	roots = (struct davit_workspace_roots){source, home, "/workspace/sources", NULL};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return davit_remove_tree(top, NULL);
}

static void host_is(const char *path, const char *want)
{
	struct davit_error err;
	DAVIT_AUTO_FREE char *got = NULL;
	char full[128];

	snprintf(full, sizeof full, "%s%s", want[0] == '/' && want[1] ? "" : top, want);
	if (davit_workspace_mount_host(path, &roots, &got, &err) < 0)
		fail_msg("%s: %s", path, err.message);
	assert_string_equal(got, full);
}

static void host_is_refused(const char *path, int code, const char *words)
{
	struct davit_error err = {0};
	char *got = NULL;
	int r = davit_workspace_mount_host(path, &roots, &got, &err);

	if (r != code || !strstr(err.message, words))
		fail_msg("%s: %d %s", path, r, r < 0 ? err.message : got);
}

static void a_host_path_is_found_below_what_it_names(void **state)
{
	char want[128];

	(void)state;
	snprintf(want, sizeof want, "%s/cache", source);
	host_is("$SOURCES/cache", want);
	host_is("cache", want);
	host_is("./cache/", want);
	host_is("$SOURCES//./cache", want);
	host_is("sideways", want); /* a link that stays inside */
	host_is("$SOURCES", source);
	host_is("$HOME/src/cache", want);
	snprintf(want, sizeof want, "%s/.gitconfig", home);
	host_is("$HOME/.gitconfig", want);
	host_is("/usr", "/usr"); /* named in full, it may be anywhere */
}

static void a_host_path_does_not_leave_by_a_link(void **state)
{
	(void)state;
	host_is_refused("$SOURCES/out", DAVIT_EPERM, "leads out of");
	host_is_refused("out", DAVIT_EPERM, "outside");
	host_is_refused("home", DAVIT_EPERM, "leads out of");
	host_is_refused("home/.gitconfig", DAVIT_EPERM, "leads out of");
	host_is_refused("$HOME/src/out", DAVIT_EPERM, "leads out of");
}

static void a_host_path_does_not_leave_by_its_text(void **state)
{
	(void)state;
	host_is_refused("..", DAVIT_EINVAL, "must not have '..' in it");
	host_is_refused("cache/../..", DAVIT_EINVAL, "must not have '..' in it");
	host_is_refused("$SOURCES/../x", DAVIT_EINVAL, "must not have '..' in it");
	host_is_refused("/usr/..", DAVIT_EINVAL, "must not have '..' in it");
	host_is_refused("$SOURCESX", DAVIT_EINVAL, "only $SOURCES and $HOME");
	host_is_refused("$ROOT/x", DAVIT_EINVAL, "only $SOURCES and $HOME");
	host_is_refused("nothing", DAVIT_ENOENT, "cannot mount");
}

static void a_neighbour_with_a_longer_name_is_outside(void **state)
{
	char path[128];

	(void)state;
	snprintf(path, sizeof path, "%s-2", source);
	assert_int_equal(mkdir(path, 0700), 0);
	make_link("../src-2", "near");
	host_is_refused("near", DAVIT_EPERM, "leads out of");
}

static void a_target_means_a_path_inside(void **state)
{
	static const struct {
		const char *path, *target;
	} cases[] = {
		{"/data", "/data"},
		{"/data//x/./y/", "/data/x/y"},
		{"$SOURCES/cache", "/workspace/sources/cache"},
		{"cache", "/workspace/sources/cache"},
		{"..data", "/workspace/sources/..data"}, /* no "..", whatever it looks like */
	};
	struct davit_error err;
	char *got;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		assert_int_equal(davit_workspace_mount_target(cases[i].path, &roots, &got, &err), 0);
		assert_string_equal(got, cases[i].target);
		free(got);
	}
	assert_int_equal(davit_workspace_mount_target("$SOURCES/../x", &roots, &got, &err), DAVIT_EINVAL);
	assert_int_equal(davit_workspace_mount_target("../x", &roots, &got, &err), DAVIT_EINVAL);
	assert_int_equal(davit_workspace_mount_target("/", &roots, &got, &err), DAVIT_EINVAL);
	assert_string_equal(err.message, "nothing can be mounted as /");
}

static void home_inside_is_known_only_where_it_is_told(void **state)
{
	struct davit_workspace_roots told = roots;
	struct davit_error err;
	char *got;

	(void)state;
	assert_int_equal(davit_workspace_mount_target("$HOME/.cache", &roots, &got, &err), DAVIT_ENOTSUP);
	assert_string_equal(err.message,
			    "$HOME/.cache: the home directory inside the image is not known; set HOME in "
			    "'environment'");
	told.home_inside = "/home/dev";
	assert_int_equal(davit_workspace_mount_target("$HOME/.cache", &told, &got, &err), 0);
	assert_string_equal(got, "/home/dev/.cache");
	free(got);
}

static void a_directory_that_became_a_link_is_noticed(void **state)
{
	struct davit_error err;
	char path[128], outside[64];
	char *got;

	(void)state;
	snprintf(path, sizeof path, "%s/swapped", source);
	snprintf(outside, sizeof outside, "%s/outside", top);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(davit_workspace_mount_host("swapped", &roots, &got, &err), 0);
	assert_int_equal(davit_workspace_mount_recheck(got, &err), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(davit_workspace_mount_recheck(got, &err), DAVIT_ENOENT);
	assert_int_equal(symlink(outside, path), 0);
	assert_int_equal(davit_workspace_mount_recheck(got, &err), DAVIT_EPERM);
	assert_non_null(strstr(err.message, "has become a link"));
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_host_path_is_found_below_what_it_names),
		cmocka_unit_test(a_host_path_does_not_leave_by_a_link),
		cmocka_unit_test(a_host_path_does_not_leave_by_its_text),
		cmocka_unit_test(a_neighbour_with_a_longer_name_is_outside),
		cmocka_unit_test(a_target_means_a_path_inside),
		cmocka_unit_test(home_inside_is_known_only_where_it_is_told),
		cmocka_unit_test(a_directory_that_became_a_link_is_noticed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
