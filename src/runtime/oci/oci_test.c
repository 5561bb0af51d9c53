/* SPDX-License-Identifier: MIT */
#include "runtime/oci/impl.h"

#include "base/file.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char dir[64];
static int root;
static struct davit_error err;

static void put(const char *name, const char *text, mode_t mode)
{
	DAVIT_AUTO_FREE char *path = local_path(dir, "root", name);

	assert_int_equal(davit_write_file(path, text, strlen(text), mode, &err), 0);
}

static void make(const char *name)
{
	DAVIT_AUTO_FREE char *path = local_path(dir, "root", name);

	assert_int_equal(davit_mkdirs(path, 0755, &err), 0);
}

static void link_to(const char *target, const char *name)
{
	DAVIT_AUTO_FREE char *path = local_path(dir, "root", name);

	assert_int_equal(symlink(target, path), 0);
}

static int set_up(void **state)
{
	DAVIT_AUTO_FREE char *path = NULL;

	strcpy(dir, "/tmp/davit-oci-XXXXXX");
	assert_non_null(mkdtemp(dir));
	make("etc");
	make("bin");
	path = davit_path_join(dir, "root");
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	return 0;
}

static int tear_down(void **state)
{
	close(root);
	return davit_remove_tree(dir, &err);
}

/* --- users --- */

static void users(void)
{
	put("etc/passwd",
	    "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n7:x:70:71::/seven:\nbad line\n",
	    0644);
	put("etc/group", "root:x:0:\nweb:x:34:\nlog:x:4:syslog,web\nextra:x:99:web\n", 0644);
}

static void a_name_has_its_ids_and_supplementary_groups(void **state)
{
	struct oci_user u;

	users();
	assert_int_equal(oci_user_find(root, "web", &u, &err), 0);
	assert_int_equal(u.uid, 33);
	assert_int_equal(u.gid, 34);
	assert_int_equal(u.n_groups, 2);
	assert_int_equal(u.groups[0], 4);
	assert_int_equal(u.groups[1], 99);
}

static void a_number_is_itself_unless_it_is_a_name(void **state)
{
	struct oci_user u;

	users();
	assert_int_equal(oci_user_find(root, "33", &u, &err), 0);
	assert_int_equal(u.gid, 34);
	assert_int_equal(oci_user_find(root, "1234", &u, &err), 0);
	assert_int_equal(u.uid, 1234);
	assert_int_equal(u.gid, 0);
	assert_int_equal(oci_user_find(root, "7", &u, &err), 0);
	assert_int_equal(u.uid, 70);
	assert_int_equal(oci_user_find(root, "web:log", &u, &err), 0);
	assert_int_equal(u.gid, 4);
	assert_int_equal(oci_user_find(root, "web:77", &u, &err), 0);
	assert_int_equal(u.gid, 77);
}

static void unknown_names_are_refused_by_name(void **state)
{
	struct oci_user u;

	users();
	assert_int_equal(oci_user_find(root, "nobody", &u, &err), DAVIT_ENOENT);
	assert_string_equal(err.message, "the image has no user 'nobody'");
	assert_int_equal(oci_user_find(root, "web:none", &u, &err), DAVIT_ENOENT);
	assert_string_equal(err.message, "the image has no group 'none'");
	assert_int_equal(oci_user_find(root, ":x", &u, &err), DAVIT_EINVAL);
}

static void an_image_without_users_has_numbers(void **state)
{
	struct oci_user u;

	assert_int_equal(oci_user_find(root, "0", &u, &err), 0);
	assert_int_equal(oci_user_find(root, "root", &u, &err), DAVIT_ENOENT);
}

static void a_link_of_the_image_does_not_lead_out_of_it(void **state)
{
	struct oci_user u;

	link_to("/etc/passwd", "etc/passwd"); /* of the image: a loop; of the host: root */
	assert_int_not_equal(oci_user_find(root, "root", &u, &err), 0);
	make("elsewhere");
	put("elsewhere/group", "inside:x:5:\n", 0644);
	link_to("/../../../../elsewhere/group", "etc/group");
	unlinkat(root, "etc/passwd", 0);
	assert_int_equal(oci_user_find(root, "1:inside", &u, &err), 0);
	assert_int_equal(u.gid, 5);
}

static void a_fifo_is_no_database(void **state)
{
	DAVIT_AUTO_FREE char *path = local_path(dir, "root", "etc/passwd");
	struct oci_user u;

	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(oci_user_find(root, "root", &u, &err), DAVIT_EINVAL);
}

/* --- programs --- */

static int find(const struct davit_workload *w, const char *program)
{
	return oci_program_find(root, w, program, "/bin:/sbin", "/", &err);
}

static void a_program_is_looked_for_in_the_image(void **state)
{
	struct davit_workload w = {0};

	put("bin/there", "#!", 0755);
	put("bin/plain", "text", 0644);
	link_to("/bin/there", "bin/link");
	assert_int_equal(find(&w, "there"), 0);
	assert_int_equal(find(&w, "/bin/link"), 0);
	assert_int_equal(find(&w, "bin/there"), 0);
	assert_int_equal(find(&w, "plain"), DAVIT_EEXEC);
	assert_int_equal(find(&w, "sh"), DAVIT_EEXEC); /* the host has one */
	assert_string_equal(err.message, "executable 'sh' not found in the PATH of the image");
	assert_int_equal(find(&w, "/usr/bin/env"), DAVIT_EEXEC);
}

static void what_a_mount_may_bring_is_not_refused(void **state)
{
	struct davit_mount m = {.type = DAVIT_MOUNT_VOLUME, .source = (char *)"v", .target = (char *)"/opt"};
	struct davit_workload w = {.mounts = &m, .n_mounts = 1};

	assert_int_equal(find(&w, "/opt/program"), 0);
}

/* --- config.json --- */

static json_t *config(struct davit_workload *w, const struct oci_place *pl, char *const *argv,
		      char *const *env)
{
	struct oci_config c = {
		.place = pl,
		.workload = w,
		.bundle = "/b",
		.root = "/r",
		.argv = argv,
		.env = env,
		.directory = "/work",
		.user = {.uid = 33, .gid = 34, .groups = {4}, .n_groups = 1},
		.hostname = "web",
		.network = "",
	};
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *j;

	oci_config_write(&text, &c);
	assert_false(text.oom);
	j = json_loads(davit_buf_str(&text), 0, NULL);
	assert_non_null(j);
	return j;
}

static struct oci_place place = {
	.run_dir = (char *)"/run/x",
	.volumes = (char *)"/volumes",
	.init = (char *)"/lib/davit-init",
	.capabilities = UINT64_MAX,
	.is_crun = true,
};

static struct davit_workload workload = {.id = "0123456789abcdef", .umask = 027};

static const json_t *mount_at(const json_t *j, const char *target)
{
	size_t i;
	json_t *m;

	json_array_foreach(
		json_object_get(j, "mounts"), i,
		m) if (!strcmp(json_string_value(json_object_get(m, "destination")), target)) return m;
	return NULL;
}

static void the_process_is_the_workload_behind_davit_init(void **state)
{
	char *argv[] = {(char *)"httpd", (char *)"-f", NULL}, *env[] = {(char *)"A=b", NULL};
	json_t *j = config(&workload, &place, argv, env), *p = json_object_get(j, "process");
	const char *const wanted[] = {"/dev/davit/init", "-x", "/dev/davit/exit", "--", "httpd", "-f"};
	json_t *args = json_object_get(p, "args");

	assert_int_equal(json_array_size(args), DAVIT_ARRAY_SIZE(wanted));
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(wanted); i++)
		assert_string_equal(json_string_value(json_array_get(args, i)), wanted[i]);
	assert_string_equal(json_string_value(json_array_get(json_object_get(p, "env"), 0)), "A=b");
	assert_string_equal(json_string_value(json_object_get(p, "cwd")), "/work");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(p, "user"), "umask")), 027);
	assert_null(json_object_get(json_object_get(j, "linux"), "cgroupsPath"));
	json_decref(j);
}

static void bytes_that_json_cannot_carry_are_escaped(void **state)
{
	char *argv[] = {(char *)"a", (char *)"\xff%", NULL}, *env[] = {(char *)"A=\xfe", NULL};
	json_t *j = config(&workload, &place, argv, env), *p = json_object_get(j, "process");
	json_t *args = json_object_get(p, "args");

	assert_string_equal(json_string_value(json_array_get(args, 3)), "-e");
	assert_string_equal(json_string_value(json_array_get(args, 5)), "A=%fe");
	assert_string_equal(json_string_value(json_array_get(args, 8)), "%ff%25");
	assert_int_equal(json_array_size(json_object_get(p, "env")), 0);
	json_decref(j);
}

static void mounts_and_limits_are_written(void **state)
{
	struct davit_mount m[] = {
		{.type = DAVIT_MOUNT_BIND,
		 .source = (char *)"/src",
		 .target = (char *)"/t",
		 .read_only = true},
		{.type = DAVIT_MOUNT_VOLUME, .source = (char *)"data", .target = (char *)"/d"},
		{.type = DAVIT_MOUNT_TMPFS, .target = (char *)"/tmp", .size = 4096},
	};
	struct davit_rlimit l = {.resource = RLIMIT_NOFILE, .soft = 10, .hard = 20};
	struct davit_workload w = workload;
	char *argv[] = {(char *)"a", NULL};
	json_t *j, *limit;

	w.mounts = m;
	w.n_mounts = 3;
	w.rlimits = &l;
	w.n_rlimits = 1;
	w.read_only_root = true;
	j = config(&w, &place, argv, NULL);
	assert_string_equal(json_string_value(json_object_get(mount_at(j, "/t"), "source")), "/src");
	assert_string_equal(json_string_value(json_object_get(mount_at(j, "/d"), "source")),
			    "/volumes/data/data");
	assert_string_equal(json_string_value(json_object_get(mount_at(j, "/tmp"), "type")), "tmpfs");
	assert_true(json_is_true(json_object_get(json_object_get(j, "root"), "readonly")));
	limit = json_array_get(json_object_get(json_object_get(j, "process"), "rlimits"), 0);
	assert_string_equal(json_string_value(json_object_get(limit, "type")), "RLIMIT_NOFILE");
	json_decref(j);
}

static const char *groups_path(const struct davit_workload *w, const struct oci_place *pl, json_t **ret)
{
	static char *argv[] = {(char *)"a", NULL};
	struct davit_workload copy = *w;

	*ret = config(&copy, pl, argv, NULL);
	return json_string_value(json_object_get(json_object_get(*ret, "linux"), "cgroupsPath"));
}

static void a_container_with_limits_is_made_where_they_are(void **state)
{
	struct oci_place v1 = place, v2 = place;
	struct davit_workload limited[] = {workload, workload, workload};
	json_t *j;

	(void)state;
	v1.cgroup = (char *)"davit-1";
	v2.cgroup = (char *)"/box/davit-1";
	v2.cgroup_limits = (char *)"/box/davit-1-limits";
	limited[0].memory = 1 << 20;
	limited[1].cpu_millicores = 100;
	limited[2].pids = 10;
	assert_string_equal(groups_path(&workload, &v2, &j), "/box/davit-1/0123456789abcdef");
	json_decref(j);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(limited); i++) {
		assert_string_equal(groups_path(&limited[i], &v2, &j),
				    "/box/davit-1-limits/0123456789abcdef");
		json_decref(j);
		assert_string_equal(groups_path(&limited[i], &v1, &j), "davit-1/0123456789abcdef");
		json_decref(j);
	}
}

static void groups_are_named_as_runc_makes_them(void **state)
{
	static const struct {
		enum cgroup_layout layout;
		const char *track, *memory, *pids, *name, *limits;
	} cases[] = {
		{CGROUP_V2, "/sys/fs/cgroup/davit-1", NULL, NULL, "/davit-1", NULL},
		{CGROUP_V2, "/sys/fs/cgroup/a/davit-1", "/sys/fs/cgroup/a/davit-1-limits", NULL, "/a/davit-1",
		 "/a/davit-1-limits"},
		{CGROUP_V1, "/sys/fs/cgroup/freezer/davit-1", "/sys/fs/cgroup/memory/a/davit-1", NULL,
		 "davit-1", NULL},
		/* Below the daemon's own groups, and of version 2 below the root. */
		{CGROUP_HYBRID, "/sys/fs/cgroup/unified/davit-1", "/sys/fs/cgroup/memory/a/davit-1", NULL,
		 "davit-1", NULL},
		{CGROUP_HYBRID, "/sys/fs/cgroup/unified/davit-1", "/sys/fs/cgroup/memory/davit-1", NULL,
		 "davit-1", NULL},
		/* In a delegated group. */
		{CGROUP_HYBRID, "/sys/fs/cgroup/unified/a/b/davit-1", "/sys/fs/cgroup/memory/a/b/davit-1",
		 "/sys/fs/cgroup/pids/a/b/davit-1", "/a/b/davit-1", NULL},
		{CGROUP_HYBRID, "/sys/fs/cgroup/unified/a/davit-1", "/sys/fs/cgroup/memory/a/davit-1",
		 "/sys/fs/cgroup/pids/b/davit-1", "davit-1", NULL},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		struct oci_place pl = {0};
		struct cgroups cg = {.layout = cases[i].layout, .track = (char *)cases[i].track};

		cg.limits[CGROUP_MEMORY] = (char *)cases[i].memory;
		cg.limits[CGROUP_PIDS] = (char *)cases[i].pids;
		assert_int_equal(oci_place_groups(&pl, &cg, NULL), 0);
		assert_string_equal(pl.cgroup, cases[i].name);
		if (cases[i].limits)
			assert_string_equal(pl.cgroup_limits, cases[i].limits);
		else
			assert_null(pl.cgroup_limits);
		free(pl.cgroup);
		free(pl.cgroup_limits);
	}
}

/* --- capabilities --- */

static void capabilities_are_dropped_and_then_added(void **state)
{
	char *all[] = {(char *)"ALL", NULL}, *net[] = {(char *)"CAP_NET_ADMIN", NULL};
	uint64_t admin = oci_capability_bit("NET_ADMIN"), ours = oci_capability_bit("ALL");

	assert_int_equal(oci_capability_set(ours, false, net, all), admin);
	assert_int_equal(oci_capability_set(ours, false, NULL, all), 0);
	assert_int_equal(oci_capability_set(ours, false, all, NULL), ours);
	assert_int_equal(oci_capability_set(ours & ~admin, false, net, all), 0);
	assert_int_equal(oci_capability_set(ours, false, NULL, NULL) & oci_capability_bit("MKNOD"), 0);
	/* What is limited in its connections has nothing to go around that with, asked for or not. */
	assert_true(oci_capability_set(ours, false, NULL, NULL) & oci_capability_bit("NET_RAW"));
	assert_int_equal(oci_capability_set(ours, true, all, NULL) & (admin | oci_capability_bit("NET_RAW")),
			 0);
	assert_int_equal(oci_capability_bit("NET_ADMINX"), 0);
}

/* --- copies --- */

static void a_copy_of_a_workload_shares_nothing_with_it(void **state)
{
	char arg[] = "arg", image[] = "bb", source[] = "/s", target[] = "/t";
	char *argv[] = {arg, NULL};
	struct davit_mount m = {.source = source, .target = target};
	struct davit_workload w = {.argv = argv, .image = image, .mounts = &m, .n_mounts = 1, .memory = 7};
	struct davit_workload *copy = local_workload_copy(&w);

	assert_non_null(copy);
	memset(arg, 'x', 3);
	memset(image, 'x', 2);
	memset(source, 'x', 2);
	m.target = NULL;
	assert_string_equal(copy->argv[0], "arg");
	assert_null(copy->argv[1]);
	assert_string_equal(copy->image, "bb");
	assert_string_equal(copy->mounts[0].source, "/s");
	assert_string_equal(copy->mounts[0].target, "/t");
	assert_int_equal(copy->memory, 7);
	assert_null(copy->env);
	free(copy);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* --- addresses --- */

enum { CLIENTS = 8, EACH = 20 };

/* Takes as many addresses as it is told, and tells them. Leaves without giving one back, as a
 * daemon that is killed. */
static void take_addresses(const struct local_nets *at, int client, int out)
{
	for (int i = 0; i < EACH; i++) {
		struct local_net n;
		char id[DAVIT_ID_MAX];

		snprintf(id, sizeof id, "%08d%08d", client, i);
		if (local_net_init(&n, at, id, "shared", true, &err) < 0 ||
		    local_net_choose_subnet(&n, &err) < 0 || local_net_choose_address(&n, "host", &err) < 0 ||
		    write(out, &n.host, sizeof n.host) < 0)
			_exit(1);
		local_net_fini(&n);
	}
	_exit(0);
}

static void no_address_is_given_twice_and_those_of_the_dead_come_back(void **state)
{
	char home[] = "/tmp/davit-oci-XXXXXX", networks[64], bundles[64];
	const struct local_nets at = {.networks = networks, .bundles = bundles};
	bool seen[256] = {false};
	int p[2], host, status, taken = 0;
	struct local_net n;

	assert_non_null(mkdtemp(home));
	snprintf(networks, sizeof networks, "%s/networks", home);
	snprintf(bundles, sizeof bundles, "%s/bundles", home);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	for (int c = 0; c < CLIENTS; c++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			take_addresses(&at, c, p[1]);
	}
	close(p[1]);
	while (read(p[0], &host, sizeof host) == sizeof host) {
		assert_in_range(host, 2, 254);
		assert_false(seen[host]);
		seen[host] = true;
		taken++;
	}
	close(p[0]);
	assert_int_equal(taken, CLIENTS * EACH);
	for (int c = 0; c < CLIENTS; c++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	/* What finds the leftovers gives each back by its id alone. */
	for (int c = 0; c < CLIENTS; c++)
		for (int i = 0; i < EACH; i++) {
			char id[DAVIT_ID_MAX];

			snprintf(id, sizeof id, "%08d%08d", c, i);
			assert_int_equal(local_net_init(&n, &at, id, "shared", true, &err), 0);
			assert_int_equal(local_net_give_back(&n), --taken);
			local_net_fini(&n);
		}
	assert_int_equal(local_net_init(&n, &at, "x", "shared", true, &err), 0);
	assert_int_equal(local_net_choose_address(&n, "host", &err), 0);
	assert_int_equal(n.host, 2);
	local_net_fini(&n);
	assert_int_equal(davit_remove_tree(home, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_name_has_its_ids_and_supplementary_groups),
		TEST(a_number_is_itself_unless_it_is_a_name),
		TEST(unknown_names_are_refused_by_name),
		TEST(an_image_without_users_has_numbers),
		TEST(a_link_of_the_image_does_not_lead_out_of_it),
		TEST(a_fifo_is_no_database),
		TEST(a_program_is_looked_for_in_the_image),
		TEST(what_a_mount_may_bring_is_not_refused),
		TEST(the_process_is_the_workload_behind_davit_init),
		TEST(bytes_that_json_cannot_carry_are_escaped),
		cmocka_unit_test(no_address_is_given_twice_and_those_of_the_dead_come_back),
		TEST(mounts_and_limits_are_written),
		TEST(a_container_with_limits_is_made_where_they_are),
		TEST(groups_are_named_as_runc_makes_them),
		TEST(capabilities_are_dropped_and_then_added),
		TEST(a_copy_of_a_workload_shares_nothing_with_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
