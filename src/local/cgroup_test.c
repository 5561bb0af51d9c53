/* SPDX-License-Identifier: MIT */
#include "local/cgroup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const char v2_mounts[] =
	"22 1 0:21 / /proc rw - proc proc rw\n"
	"30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
static const char v1_mounts[] =
	"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
	"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
	"35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
static const char v1_groups[] = "9:name=systemd:/\n4:memory:/box/one\n2:cpu,cpuacct:/\n";

static void v2_is_known_by_its_one_line(void **state)
{
	struct cgroup_self s;

	(void)state;
	assert_int_equal(cgroup_parse("0::/user.slice/davitd.service\n", v2_mounts, NULL, &s), 0);
	assert_int_equal(s.layout, CGROUP_V2);
	assert_string_equal(s.v2_mount, "/sys/fs/cgroup");
	assert_string_equal(s.v2_own, "/sys/fs/cgroup/user.slice/davitd.service");
	assert_null(s.v1_own[CGROUP_MEMORY]);
	cgroup_self_fini(&s);
}

static void v1_controllers_are_found_where_they_are_mounted(void **state)
{
	struct cgroup_self s;

	(void)state;
	assert_int_equal(cgroup_parse(v1_groups, v1_mounts, NULL, &s), 0);
	assert_int_equal(s.layout, CGROUP_V1);
	assert_null(s.v2_own);
	assert_string_equal(s.v1_own[CGROUP_MEMORY], "/sys/fs/cgroup/memory/box/one");
	assert_string_equal(s.v1_own[CGROUP_CPU], "/sys/fs/cgroup/cpu,cpuacct");
	assert_null(s.v1_own[CGROUP_PIDS]);
	cgroup_self_fini(&s);
}

static void hybrid_has_both(void **state)
{
	char mounts[1024], groups[256];
	struct cgroup_self s;

	(void)state;
	snprintf(mounts, sizeof mounts, "%s41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
		 v1_mounts);
	snprintf(groups, sizeof groups, "%s0::/\n", v1_groups);
	assert_int_equal(cgroup_parse(groups, mounts, NULL, &s), 0);
	assert_int_equal(s.layout, CGROUP_HYBRID);
	assert_string_equal(s.v2_own, "/sys/fs/cgroup/unified");
	assert_string_equal(s.v1_own[CGROUP_MEMORY], "/sys/fs/cgroup/memory/box/one");
	cgroup_self_fini(&s);
}

static void none_is_none(void **state)
{
	static const char *const nonsense[] = {"", "\n\n", "0:", "4:memory", "0::/x", ":::", "4:memory:/x\n"};
	struct cgroup_self s;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(nonsense); i++) {
		assert_int_equal(cgroup_parse(nonsense[i],
					      "22 1 0:21 / /proc rw - proc proc rw\nx - y\n - \n", NULL, &s),
				 0);
		assert_int_equal(s.layout, CGROUP_NONE);
		cgroup_self_fini(&s);
	}
}

static void a_mount_that_shows_a_part_of_the_tree_is_followed(void **state)
{
	struct cgroup_self s;

	(void)state;
	/* In a container without a namespace of its own the root is a path. */
	assert_int_equal(cgroup_parse("0::/docker/abc/inner\n",
				      "30 25 0:26 /docker/abc /cg\\040roup rw - cgroup2 c rw\n", NULL, &s),
			 0);
	assert_string_equal(s.v2_own, "/cg roup/inner");
	cgroup_self_fini(&s);
	/* A group outside of what is mounted: its root is the nearest that can be had. */
	assert_int_equal(cgroup_parse("0::/../other\n", v2_mounts, NULL, &s), 0);
	assert_string_equal(s.v2_own, "/sys/fs/cgroup");
	cgroup_self_fini(&s);
	assert_int_equal(cgroup_parse("0::/docker/abcdef\n", "30 25 0:26 /docker/abc /cg rw - cgroup2 c rw\n",
				      NULL, &s),
			 0);
	assert_string_equal(s.v2_own, "/cg");
	cgroup_self_fini(&s);
}

static void a_controllers_name_within_another_does_not_count(void **state)
{
	struct cgroup_self s;

	(void)state;
	assert_int_equal(cgroup_parse("2:cpuacct:/x\n3:cpuset:/y\n",
				      "32 31 0:29 / /cg/cpuacct rw - cgroup cgroup rw,cpuacct\n"
				      "33 31 0:30 / /cg/cpuset rw - cgroup cgroup rw,cpuset\n",
				      NULL, &s),
			 0);
	assert_int_equal(s.layout, CGROUP_NONE);
	cgroup_self_fini(&s);
}

static void a_group_beside_ours_is_named_by_a_path_from_it(void **state)
{
	static const struct {
		const char *ours, *beside, *found;
	} cases[] = {
		{"/system.slice/davitd.service", "../davit-workloads.service",
		 "/sys/fs/cgroup/system.slice/davit-workloads.service"},
		{"/a/b/c", "../../d", "/sys/fs/cgroup/a/d"},
		{"/a/b", "c", "/sys/fs/cgroup/a/b/c"},
		{"/a", "../b", "/sys/fs/cgroup/b"},
		/* Nothing is beside the root. */
		{"/", "../b", "/sys/fs/cgroup"},
	};
	struct cgroup_self s;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		char group[128];

		snprintf(group, sizeof group, "0::%s\n", cases[i].ours);
		assert_int_equal(cgroup_parse(group, v2_mounts, cases[i].beside, &s), 0);
		assert_string_equal(s.v2_own, cases[i].found);
		cgroup_self_fini(&s);
	}
	assert_int_equal(cgroup_parse(v1_groups, v1_mounts, "../two", &s), 0);
	assert_string_equal(s.v1_own[CGROUP_MEMORY], "/sys/fs/cgroup/memory/box/two");
	assert_string_equal(s.v1_own[CGROUP_CPU], "/sys/fs/cgroup/cpu,cpuacct");
	cgroup_self_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(v2_is_known_by_its_one_line),
		cmocka_unit_test(v1_controllers_are_found_where_they_are_mounted),
		cmocka_unit_test(hybrid_has_both),
		cmocka_unit_test(none_is_none),
		cmocka_unit_test(a_mount_that_shows_a_part_of_the_tree_is_followed),
		cmocka_unit_test(a_controllers_name_within_another_does_not_count),
		cmocka_unit_test(a_group_beside_ours_is_named_by_a_path_from_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
