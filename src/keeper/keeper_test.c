/* SPDX-License-Identifier: MIT */
#include "keeper/testing.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static void exit_codes_and_signals_are_told(void **state)
{
	struct client *c = *state;
	struct keeper_exit e;

	client_shell(c, ID(01), "exit 7");
	e = client_exit(c, ID(01), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_CODE);
	assert_int_equal(e.code, 7);
	assert_true(e.time > 0);
	client_shell(c, ID(02), "kill -USR1 $$");
	e = client_exit(c, ID(02), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_SIGNAL);
	assert_int_equal(e.signal, SIGUSR1);
}

static void what_cannot_be_executed_is_refused_with_the_reason(void **state)
{
	struct client *c = *state;
	struct packet p;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_int_equal(client_spawn(c, ID(01), 1, ARGV("/x/y"), NULL), DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot execute /x/y: No such file or directory");
	assert_int_equal(c->sys_errno, ENOENT);
	assert_int_equal(client_spawn(c, ID(01), 1, ARGV("/etc/passwd"), NULL), DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot execute /etc/passwd: Permission denied");
	assert_int_equal(client_spawn(c, ID(01), 1, ARGV("/bin/true"), &(struct spawn_options){.directory = "/no"}),
			 DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot change to directory /no: No such file or directory");
	/* The run did not count, and the next one works. */
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_CREATED);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/bin/true"), NULL) > 0);
	assert_int_equal(client_exit(c, ID(01), 1).code, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(exit_codes_and_signals_are_told, client_setup, client_teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_executed_is_refused_with_the_reason, client_setup,
						client_teardown),
	};
	return cmocka_run_group_tests_name("keeper", tests, NULL, NULL);
}
