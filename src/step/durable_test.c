/* SPDX-License-Identifier: MIT
 *
 * Durable steps: their caller is killed, and another takes them over.
 */
#include "davit/execute.h"

#include "base/file.h"
#include "base/util.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

static char home[] = "/tmp/davit-durable-XXXXXX";

struct seen {
	struct davit_loop *loop;
	struct davit_execution *x;
	enum davit_outcome outcome;
	int exit_status;
	bool started, done;
	char out[256], output[DAVIT_ARTIFACT_ID_MAX], error[448];
};

static void on_started(void *user, struct davit_execution *x)
{
	struct seen *s = user;

	s->started = true;
}

static void on_done(void *user, struct davit_execution *x, const struct davit_result *r)
{
	struct seen *s = user;
	ssize_t n = davit_execution_read(x, DAVIT_STEP_OUT, 0, s->out, sizeof s->out - 1, NULL);

	s->out[n > 0 ? n : 0] = '\0';
	s->outcome = r->outcome;
	s->exit_status = r->exit_status;
	snprintf(s->error, sizeof s->error, "%s", r->error.message);
	if (r->n_outputs)
		snprintf(s->output, sizeof s->output, "%s", r->outputs[0].tree.id);
	s->done = true;
	davit_loop_stop(s->loop);
}

static const struct davit_execution_events on = {.started = on_started, .done = on_done};

/* What a caller does that is killed as soon as the program runs, or when it has ended. */
static void start_and_die(const char *name, const char *script, bool plain, bool at_end)
{
	const struct davit_artifact out = {.use = DAVIT_USE_OUTPUT, .name = "made"};
	struct davit_run_spec spec = {.path = "sh",
				      .args = (char *[]){(char *)"-c", (char *)(uintptr_t)script, NULL},
				      .dir = plain ? home : NULL,
				      .input = "given\n",
				      .input_len = 6,
				      .plain = plain,
				      .durable = name};
	struct davit_artifacts *store = NULL;
	struct seen s = {0};
	struct davit_error err;

	if (davit_artifacts_open(NULL, 0, &store, &err) < 0 || davit_loop_open(&s.loop, &err) < 0 ||
	    davit_execute(s.loop, store, &spec, &out, plain ? 0 : 1, &on, &s, &s.x, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		_exit(1);
	}
	if (at_end)
		davit_loop_run(s.loop);
	kill(getpid(), SIGKILL);
}

static void leave_behind(const char *name, const char *script, bool plain, bool at_end)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		start_and_die(name, script, plain, at_end);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

/* Takes it over and forgets it. The code of davit_execution_attach. */
static int take_over(const char *name, struct seen *s, bool abort)
{
	struct davit_artifacts *store = NULL;
	struct davit_error err;
	int r;

	assert_int_equal(davit_artifacts_open(NULL, 0, &store, &err), 0);
	assert_int_equal(davit_loop_open(&s->loop, &err), 0);
	r = davit_execution_attach(s->loop, store, name, &on, s, &s->x, &err);
	if (r == 0) {
		if (abort)
			davit_execution_kill(s->x);
		davit_loop_run(s->loop);
		assert_true(s->done);
		davit_execution_free(s->x);
	}
	davit_loop_run(s->loop);
	davit_loop_close(s->loop);
	davit_artifacts_close(store);
	return r;
}

static void test_goes_on_without_its_caller(void **state)
{
	struct seen s = {0};

	leave_behind("aaaaaaaaaaaaaaaa", "sleep 0.2; read x; echo \"$x\" | tee made/x; exit 3", false, false);
	assert_int_equal(take_over("aaaaaaaaaaaaaaaa", &s, false), 0);
	assert_int_equal(s.outcome, DAVIT_OUTCOME_FAILED);
	assert_int_equal(s.exit_status, 3);
	assert_string_equal(s.out, "given\n");
	assert_int_equal(strlen(s.output), DAVIT_ARTIFACT_ID_MAX - 1);
}

static void test_keeps_its_result(void **state)
{
	struct seen s = {0}, again = {0};

	leave_behind("bbbbbbbbbbbbbbbb", "echo done", true, true);
	assert_int_equal(take_over("bbbbbbbbbbbbbbbb", &s, false), 0);
	assert_int_equal(s.outcome, DAVIT_OUTCOME_SUCCEEDED);
	assert_string_equal(s.out, "done\n");
	assert_int_equal(take_over("bbbbbbbbbbbbbbbb", &again, false), DAVIT_ENOENT);
}

static void test_can_be_taken_into_the_store_again(void **state)
{
	struct seen s = {0};

	/* Its caller has taken the output already, and told nobody. */
	leave_behind("cccccccccccccccc", "echo 1 >made/file", false, true);
	assert_int_equal(take_over("cccccccccccccccc", &s, false), 0);
	assert_int_equal(s.outcome, DAVIT_OUTCOME_SUCCEEDED);
	assert_int_equal(strlen(s.output), DAVIT_ARTIFACT_ID_MAX - 1);
}

static void test_is_not_what_is_left_of_a_removal(void **state)
{
	struct seen s = {0}, again = {0};
	char path[128];

	leave_behind("hhhhhhhhhhhhhhhh", "echo 2 >made/file; sleep 0.1", false, false);
	assert_int_equal(take_over("hhhhhhhhhhhhhhhh", &s, false), 0);
	/* The store has such a tree. Its caller was killed while it removed the second one. */
	leave_behind("iiiiiiiiiiiiiiii", "echo 2 >made/file", false, true);
	snprintf(path, sizeof path, "%s/cache/steps/runs/iiiiiiiiiiiiiiii/take-0", home);
	assert_int_equal(mkdir(path, 0700), 0);
	strcat(path, "/fs");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(take_over("iiiiiiiiiiiiiiii", &again, false), 0);
	assert_int_equal(again.outcome, DAVIT_OUTCOME_SUCCEEDED);
	assert_string_equal(again.output, s.output);
}

static void test_keeps_its_outputs(void **state)
{
	struct seen s = {0};
	struct timespec pause = {.tv_nsec = 300000000};

	/* It ends when nobody is there. */
	leave_behind("gggggggggggggggg", "sleep 0.1; echo 1 >made/file", false, false);
	nanosleep(&pause, NULL);
	assert_int_equal(take_over("gggggggggggggggg", &s, false), 0);
	assert_int_equal(s.outcome, DAVIT_OUTCOME_SUCCEEDED);
	assert_int_equal(strlen(s.output), DAVIT_ARTIFACT_ID_MAX - 1);
}

static void test_can_be_aborted_by_who_takes_it_over(void **state)
{
	static const bool plain[] = {false, true};

	for (int i = 0; i < 2; i++) {
		struct seen s = {0};
		const char *name = i ? "dddddddddddddddd" : "eeeeeeeeeeeeeeee";

		leave_behind(name, "sleep 60 & wait", plain[i], false);
		assert_int_equal(take_over(name, &s, true), 0);
		assert_int_equal(s.outcome, DAVIT_OUTCOME_ABORTED);
	}
}

static void test_never_started_is_not_there(void **state)
{
	struct seen s = {0};

	assert_int_equal(take_over("ffffffffffffffff", &s, false), DAVIT_ENOENT);
}

static int set_up(void **state)
{
	return !mkdtemp(home) || setenv("DAVIT_HOME", home, 1);
}

static int tear_down(void **state)
{
	return davit_remove_tree(home, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_goes_on_without_its_caller),
		cmocka_unit_test(test_keeps_its_result),
		cmocka_unit_test(test_keeps_its_outputs),
		cmocka_unit_test(test_can_be_taken_into_the_store_again),
		cmocka_unit_test(test_is_not_what_is_left_of_a_removal),
		cmocka_unit_test(test_can_be_aborted_by_who_takes_it_over),
		cmocka_unit_test(test_never_started_is_not_there),
	};

	return cmocka_run_group_tests_name("durable steps", tests, set_up, tear_down);
}
