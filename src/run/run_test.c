/* SPDX-License-Identifier: MIT
 *
 * The directories of runs.
 */
#include "run/run.h"

#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000000)

static char home[] = "/tmp/davit-run-test-XXXXXX";
static struct davit_paths paths;

static void make(int64_t now, char id[DAVIT_RUN_ID_MAX])
{
	json_t *about = json_pack("{s:s,s:[s]}", "name", "n", "holds", "abc"),
	       *plan = json_pack("{s:s}", "kind", "do");

	assert_int_equal(davit_run_create(&paths, about, plan, now, id, NULL), 0);
	json_decref(about);
	json_decref(plan);
}

static void write_in(const char *id, const char *name, const char *text)
{
	DAVIT_AUTO_FREE char *dir = davit_run_path(&paths, id), *path = davit_path_join(dir, name);

	assert_int_equal(davit_write_file(path, text, strlen(text), 0600, NULL), 0);
}

/* Ended at that second of 1970. */
static void end(const char *id, int second)
{
	char text[96];

	snprintf(text, sizeof text, "{\"outcome\":\"failed\",\"ended\":\"1970-01-01T00:00:%02dZ\"}", second);
	write_in(id, "end.json", text);
}

static enum davit_run_state state_of(const char *id)
{
	enum davit_run_state state;
	struct davit_run r;

	assert_int_equal(davit_run_find(&paths, id, &r, NULL), 0);
	state = r.state;
	davit_run_fini(&r);
	return state;
}

static void is_found_by_its_id_and_by_the_beginning_of_it(void **state)
{
	char id[DAVIT_RUN_ID_MAX], other[DAVIT_RUN_ID_MAX];
	struct davit_run r;
	struct davit_error err;
	json_t *plan;

	make(SECOND, id);
	assert_int_equal(strlen(id), DAVIT_RUN_ID);
	assert_int_equal(davit_run_find(&paths, id, &r, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(r.about, "name")), "n");
	assert_string_equal(json_string_value(json_object_get(r.about, "created")),
			    "1970-01-01T00:00:01.000000000Z");
	davit_run_fini(&r);
	assert_int_equal(davit_run_plan(&paths, id, &plan, NULL), 0);
	json_decref(plan);
	snprintf(other, sizeof other, "%.4s", id);
	assert_int_equal(davit_run_find(&paths, other, &r, NULL), 0);
	davit_run_fini(&r);
	assert_int_equal(davit_run_find(&paths, "../../x", &r, &err), DAVIT_ENOENT);
	assert_int_equal(davit_run_find(&paths, "", &r, &err), DAVIT_ENOENT);
	end(id, 1);
	assert_int_equal(davit_run_remove(&paths, id, NULL), 0);
	assert_int_equal(davit_run_find(&paths, id, &r, &err), DAVIT_ENOENT);
}

static void has_a_host_as_long_as_its_lock_is_held(void **state)
{
	struct flock all = {.l_type = F_WRLCK};
	DAVIT_AUTO_FREE char *dir = NULL, *path = NULL;
	char id[DAVIT_RUN_ID_MAX];
	struct davit_run r;
	int fd;

	make(SECOND, id);
	assert_int_equal(state_of(id), DAVIT_RUN_WAITING);
	write_in(id, "lock", "4711\n");
	assert_int_equal(state_of(id), DAVIT_RUN_WAITING);
	dir = davit_run_path(&paths, id);
	path = davit_path_join(dir, "lock");
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &all), 0);
	assert_int_equal(davit_run_find(&paths, id, &r, NULL), 0);
	assert_int_equal(r.state, DAVIT_RUN_RUNNING);
	assert_int_equal(r.host, 4711);
	davit_run_fini(&r);
	close(fd);
	assert_int_equal(state_of(id), DAVIT_RUN_WAITING);
	end(id, 1);
	assert_int_equal(state_of(id), DAVIT_RUN_ENDED);
	assert_int_equal(davit_run_remove(&paths, id, NULL), 0);
}

static void is_told_to_end_until_it_has_and_what_was_forced_stays_so(void **state)
{
	DAVIT_AUTO_FREE char *dir = NULL, *path = NULL;
	DAVIT_AUTO_BUF wish = DAVIT_BUF_INIT;
	char id[DAVIT_RUN_ID_MAX];

	make(SECOND, id);
	dir = davit_run_path(&paths, id);
	path = davit_path_join(dir, "abort");
	assert_int_equal(davit_run_abort(&paths, id, true, NULL), 0);
	assert_int_equal(davit_run_abort(&paths, id, false, NULL), 0);
	assert_int_equal(davit_read_file(path, 64, &wish, NULL), 0);
	assert_string_equal(davit_buf_str(&wish), "forced\n");
	end(id, 1);
	assert_int_equal(davit_run_abort(&paths, id, true, NULL), DAVIT_ESTATE);
	assert_int_equal(davit_run_remove(&paths, id, NULL), 0);
}

static void is_not_removed_before_its_end_nor_while_it_is_read(void **state)
{
	char id[DAVIT_RUN_ID_MAX];
	int fd, hold;

	make(SECOND, id);
	assert_int_equal(davit_run_remove(&paths, id, NULL), DAVIT_ESTATE);
	end(id, 1);
	assert_int_equal(davit_run_open_events(&paths, id, &fd, &hold, NULL), 0);
	assert_int_equal(davit_run_remove(&paths, id, NULL), DAVIT_EINUSE);
	close(fd);
	close(hold);
	assert_int_equal(davit_run_remove(&paths, id, NULL), 0);
}

struct told {
	size_t removed, kept;
};

static void on_collected(void *user, const struct davit_run *r, bool removed, const char *why)
{
	struct told *t = user;

	assert_true(strlen(why) > 0);
	t->removed += removed;
	t->kept += !removed;
}

static void are_collected_by_number_and_by_age(void **state)
{
	struct told t = {0};
	char id[5][DAVIT_RUN_ID_MAX];

	for (int i = 0; i < 5; i++) {
		make((i + 1) * SECOND, id[i]);
		if (i < 4) /* the last one runs */
			end(id[i], 10 + i);
	}
	assert_int_equal(davit_runs_collect(&paths, 3, 60 * SECOND, 20 * SECOND, on_collected, &t, NULL), 0);
	assert_int_equal(t.removed, 1);
	assert_int_equal(t.kept, 4);
	t = (struct told){0};
	/* Those that ended 9 and 8 s ago go, the one of 7 s stays. */
	assert_int_equal(davit_runs_collect(&paths, 3, 7 * SECOND, 20 * SECOND, on_collected, &t, NULL), 0);
	assert_int_equal(t.removed, 2);
	assert_int_equal(state_of(id[3]), DAVIT_RUN_ENDED);
	assert_int_equal(state_of(id[4]), DAVIT_RUN_WAITING);
}

static int set_up(void **state)
{
	return !mkdtemp(home) || setenv("DAVIT_HOME", home, 1) < 0 || davit_paths_init(&paths, NULL) < 0;
}

static int tear_down(void **state)
{
	davit_paths_fini(&paths);
	return davit_remove_tree(home, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_found_by_its_id_and_by_the_beginning_of_it),
		cmocka_unit_test(has_a_host_as_long_as_its_lock_is_held),
		cmocka_unit_test(is_told_to_end_until_it_has_and_what_was_forced_stays_so),
		cmocka_unit_test(is_not_removed_before_its_end_nor_while_it_is_read),
		cmocka_unit_test(are_collected_by_number_and_by_age),
	};

	return cmocka_run_group_tests_name("a run", tests, set_up, tear_down);
}
