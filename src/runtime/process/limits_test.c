/* SPDX-License-Identifier: MIT
 *
 * Limits, the groups that hold them, and what stats count.
 */
#include "runtime/process/testing.h"

#include "base/units.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void a_workload_that_takes_too_much_memory_ends_as_oom(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec tail /dev/zero");

	world_need(w, DAVIT_CAP_OOM_REPORT);
	g->w.memory = 16 << 20;
	guest_run(g);
	WAIT_FOR(w, g->exits == 1);
	assert_int_equal(g->exit.kind, DAVIT_EXIT_OOM);
	assert_int_equal(g->exit.signal, SIGKILL);
}

static void the_pids_limit_holds(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait");
	DAVIT_AUTO_FREE char *log = NULL;

	world_need(w, DAVIT_CAP_PIDS_LIMIT);
	g->w.pids = 4;
	guest_run(g);
	WAIT_FOR(w, (free(log), log = guest_log(g, -1), strstr(log, "fork")));
	/* A shell that cannot fork gives up; either way there were never more. */
	if (!g->exits)
		assert_true(guest_stats(g).processes <= 4);
}

static void the_cpu_limit_is_written_and_holds(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "while :; do :; done");
	const struct cgroups *cg = &local_runtime_of(w->rt)->cgroups;
	char dir[CGROUP_PATH_MAX];
	int64_t began = davit_loop_now(w->loop);

	world_need(w, DAVIT_CAP_CPU_LIMIT);
	g->w.cpu_millicores = 100;
	guest_run(g);
	snprintf(dir, sizeof dir, "%s/%s", cg->limits[CGROUP_CPU], g->w.id);
	if (cg->layout == CGROUP_V2)
		assert_int_equal(cgroup_read(dir, "cpu.max", NULL), 10000);
	else
		assert_int_equal(cgroup_read(dir, "cpu.cfs_quota_us", NULL), 10000);
	turn(w, 600);
	WAIT_FOR(w, guest_stats(g).cpu_ns > 10 * DAVIT_NSEC_PER_MSEC);
	int64_t used = guest_stats(g).cpu_ns;
	assert_true(used < 100 * DAVIT_NSEC_PER_MSEC + (davit_loop_now(w->loop) - began) / 4);
}

static void groups_go_with_their_instance(void **state)
{
	struct world *w = *state;
	struct local_runtime *p = local_runtime_of(w->rt);
	struct guest *g = world_guest(w, "sleep 60 & sleep 60");
	char dirs[CGROUP_DIRS_MAX][CGROUP_PATH_MAX];
	struct stat st;
	size_t n;

	world_need(w, DAVIT_CAP_MEMORY_LIMIT);
	g->w.memory = 64 << 20;
	guest_run(g);
	n = cgroups_dirs(&p->cgroups, &g->w, dirs);
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(stat(dirs[i], &st), 0);
	assert_int_equal(guest_stop(g, 2000), 0);
	assert_int_equal(guest_remove(g), 0);
	WAIT_FOR(w, p->sweep.n == 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(stat(dirs[i], &st), -1);
}

static void groups_that_a_dead_instance_left_are_removed_at_open(void **state)
{
	struct world *w = *state;
	char dir[CGROUP_PATH_MAX];
	struct stat st;

	if (!local_runtime_of(w->rt)->cgroups.track) {
		print_message("skipped: %s\n", local_runtime_of(w->rt)->cgroups.why_no_track);
		skip();
	}
	snprintf(dir, sizeof dir, "%s/00000000deadbeef", local_runtime_of(w->rt)->cgroups.track);
	assert_int_equal(mkdir(dir, 0755), 0);
	world_close(w);
	world_open(w);
	assert_int_equal(stat(dir, &st), -1);
}

static void parents_of_groups_that_went_are_made_again(void **state)
{
	struct world *w = *state;
	struct local_runtime *p = local_runtime_of(w->rt);
	struct guest *g = world_guest(w, "exec sleep 60");

	if (!p->cgroups.track) {
		print_message("skipped: %s\n", p->cgroups.why_no_track);
		skip();
	}
	assert_int_equal(rmdir(p->cgroups.track), 0);
	guest_run(g);
	assert_true(alive(guest_inspect(g).pid));
}

/* ------------------------------------------------------------------------ stats */

static void stats_count_the_whole_tree(void **state)
{
	struct world *w = *state;
	struct guest *g =
		world_guest(w, "sleep 60 & (sleep 60; :) & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; "
			       "echo done; wait");
	struct davit_stats st;

	guest_run(g);
	for (int i = 0; i < 1200; i++) {
		DAVIT_AUTO_FREE char *log = guest_log(g, -1);

		if (strstr(log, "done"))
			break;
		turn(w, 50);
	}
	st = guest_stats(g);
	assert_int_equal(st.processes, 4);
	assert_true(st.memory > 1 << 20);
	assert_true(st.cpu_ns > DAVIT_NSEC_PER_MSEC);
	uint64_t used = st.cpu_ns;

	/* The next run counts from its own start. */
	assert_int_equal(guest_stop(g, 2000), 0);
	g->argv[2] = (char *)(uintptr_t) "exec sleep 60";
	assert_int_equal(guest_start(g), 0);
	turn(w, 50);
	st = guest_stats(g);
	assert_int_equal(st.processes, 1);
	assert_true(st.cpu_ns < used);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_workload_that_takes_too_much_memory_ends_as_oom),
		TEST(the_pids_limit_holds),
		TEST(the_cpu_limit_is_written_and_holds),
		TEST(groups_go_with_their_instance),
		TEST(groups_that_a_dead_instance_left_are_removed_at_open),
		TEST(parents_of_groups_that_went_are_made_again),
		TEST(stats_count_the_whole_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
