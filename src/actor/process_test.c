/* SPDX-License-Identifier: MIT
 *
 * Containers of type process, with real processes: states, messages through deaths,
 * heartbeats, routes. What is waited for has generous deadlines, as machines are slow.
 */
#include "actor/test_processes.h"

#include <dirent.h>
#include <sys/wait.h>

static const struct davit_solver nothing[] = {{.solution = DAVIT_SOLVE_NOTHING}};
static const struct davit_remedy stay[] = {{0, nothing, 1}, {0}};
static const struct davit_definition plain = {.name = "Plain", .type = DAVIT_PROCESS, .behaviour = answer};
static const struct davit_definition stays = {
	.name = "Stays", .type = DAVIT_PROCESS, .behaviour = answer, .remedies = stay};

/* --- states --- */

static int operate(enum davit_operation op)
{
	struct davit_promise p;

	switch (op) {
	case DAVIT_DO_CREATE:
		return make(NULL, "A", &stays, 0);
	case DAVIT_DO_START:
		davit_container_start(c, "A", &p);
		break;
	case DAVIT_DO_STOP:
		davit_container_stop(c, "A", &p);
		break;
	case DAVIT_DO_FAIL:
		davit_container_fail(c, "A", DAVIT_EIO, "told to", &p);
		break;
	default:
		davit_container_destroy(c, "A", DAVIT_DESTROY_FORCE_SOFT, &p);
		break;
	}
	return finish(p);
}

static void bring(enum davit_state to)
{
	static const enum davit_operation way[DAVIT_STATE_COUNT][3] = {
		[DAVIT_STATE_STARTED] = {DAVIT_DO_START},
		[DAVIT_STATE_STOPPED] = {DAVIT_DO_START, DAVIT_DO_STOP},
		[DAVIT_STATE_FAILED] = {DAVIT_DO_START, DAVIT_DO_FAIL},
	};

	if (to != DAVIT_STATE_DESTROYED)
		assert_int_equal(make(NULL, "A", &stays, 0), 0);
	for (int i = 0; way[to][i]; i++)
		assert_int_equal(operate(way[to][i]), 0);
	assert_int_equal(state("A"), to);
}

static void each_pair_of_state_and_operation_does_what_the_table_says(void **unused)
{
	for (int from = 0; from < DAVIT_STATE_COUNT; from++) {
		for (int op = 0; op < DAVIT_OPERATION_COUNT; op++) {
			struct davit_transition t = davit_state_transition(from, op);
			int r;
			bring(from);
			r = operate(op);
			if (op == DAVIT_DO_CREATE && from != DAVIT_STATE_DESTROYED) {
				assert_int_equal(r, 0);
				assert_int_equal(state("A"), from);
			} else if (t.verdict == DAVIT_VERDICT_ERROR) {
				assert_int_equal(r, DAVIT_ESTATE);
				assert_int_equal(state("A"), from);
			} else {
				assert_int_equal(r, 0);
				assert_int_equal(state("A"), t.next);
			}
			operate(DAVIT_DO_DESTROY);
			assert_false(davit_exists(c, "A"));
		}
	}
}

/* --- callbacks --- */

static char trace[1024];

static void note(const char *what, enum davit_operation op)
{
	size_t n = strlen(trace);

	snprintf(trace + n, sizeof trace - n, "%s%s%s", n ? " " : "", what,
		 op < DAVIT_OPERATION_COUNT ? davit_operation_name(op) : "");
}

static int trace_hook(struct davit_context *k, enum davit_operation op, enum davit_phase phase)
{
	static const char *const phases[] = {"before-", "on-", "after-"};

	note(phases[phase], op);
	return 0;
}

static int trace_config(struct davit_context *k, struct davit_options *o)
{
	note("config", DAVIT_OPERATION_COUNT);
	return 0;
}

static int trace_boot(struct davit_context *k)
{
	note("boot", DAVIT_OPERATION_COUNT);
	return 0;
}

static int trace_construct(struct davit_context *k)
{
	note("construct", DAVIT_OPERATION_COUNT);
	return 0;
}

static int give_trace(struct davit_context *k, struct davit_message *m)
{
	if (strcmp((const char *)m->data, "trace"))
		return answer(k, m);
	davit_reply(k, m, trace, strlen(trace));
	trace[0] = 0;
	return 0;
}

static int run_add(struct davit_context *k, struct davit_message *m, const char *parameters)
{
	char text[16];

	snprintf(text, sizeof text, "%d", atoi(parameters) + 1);
	return davit_reply(k, m, text, strlen(text));
}

static const struct davit_command_entry commands[] = {{"add", run_add}, {0}};
static const struct davit_definition traced = {.name = "Traced",
					       .type = DAVIT_PROCESS,
					       .config = trace_config,
					       .boot = trace_boot,
					       .construct = trace_construct,
					       .behaviour = give_trace,
					       .hook = trace_hook,
					       .commands = commands};

static void hooks_run_before_on_and_after_each_transition(void **unused)
{
	assert_int_equal(make(NULL, "A", &traced, DAVIT_CREATE_START), 0);
	assert_string_equal(ask("A", "trace"), "before-create config boot construct on-create after-create "
					       "before-start on-start after-start");
	ask("A", "fail");
	assert_string_equal(ask("A", "trace"), "before-fail on-fail after-fail "
					       "before-start construct on-start after-start");
	operate(DAVIT_DO_STOP);
	operate(DAVIT_DO_START);
	assert_string_equal(ask("A", "trace"),
			    "before-stop on-stop after-stop before-start on-start after-start");
}

static void commands_go_by_their_name(void **unused)
{
	struct davit_outcome *o;
	struct davit_promise p;

	assert_int_equal(make(NULL, "A", &traced, DAVIT_CREATE_START), 0);
	davit_command(c, find("A"), "add", "41", NULL, &p);
	assert_int_equal(davit_await(c, p, 20 * SEC, &o, NULL), 0);
	assert_string_equal(o->data, "42");
	davit_outcome_free(o);
	davit_command(c, find("A"), "subtract", NULL, NULL, &p);
	assert_int_equal(finish(p), DAVIT_ENOENT);
}

static void it_is_a_process_of_its_own_that_knows_who_it_is(void **unused)
{
	start_with(NULL, "A", &plain, "x y");
	assert_string_equal(ask("A", "who"), "A Plain Main/A Main x y 1");
	assert_int_not_equal(pid_of("A"), getpid());
}

static void a_crash_is_a_failure_with_the_signal_as_its_reason(void **unused)
{
	struct davit_container_info i;

	assert_int_equal(make(NULL, "A", &stays, DAVIT_CREATE_START), 0);
	assert_string_equal(ask("A", "crash"), "!the request was not handled: its handler failed");
	become("A", DAVIT_STATE_FAILED);
	davit_container_get(c, "A", &i);
	assert_int_equal(i.code, DAVIT_ECLOSED);
	assert_non_null(strstr(i.message, "SIGABRT"));
	assert_int_equal(operate(DAVIT_DO_START), 0);
	assert_string_equal(ask("A", "exit"), "!the request was not handled: its handler failed");
	become("A", DAVIT_STATE_FAILED);
	davit_container_get(c, "A", &i);
	assert_string_equal(i.message, "it exited with 3");
	balanced();
}

static void it_is_restarted_by_its_parent_in_a_new_process(void **unused)
{
	pid_t before, failed;

	assert_int_equal(make(NULL, "A", &plain, DAVIT_CREATE_START), 0);
	before = pid_of("A");
	ask("A", "fail");
	failed = pid_of("A");
	assert_int_equal(before, failed); /* an error is no reason for another process */
	ask("A", "crash");
	assert_int_not_equal(pid_of("A"), before);
	kill(pid_of("A"), SIGKILL);
	assert_string_equal(ask("A", "hello"), "A: hello");
}

static int bad_boot(struct davit_context *k)
{
	return davit_fail(k, DAVIT_ENOTSUP, "not on this machine");
}

static void a_creation_that_fails_leaves_nothing(void **unused)
{
	static const struct davit_definition bad = {
		.name = "Bad", .type = DAVIT_PROCESS, .behaviour = answer, .boot = bad_boot};
	static const char *const argv[] = {"/nowhere/at-all", NULL};
	static const struct davit_definition none = {.name = "None", .type = DAVIT_PROCESS, .command = argv};
	struct davit_create what = {.alias = "A", .definition = &bad};
	struct davit_error err = {0};
	struct davit_promise p;

	davit_container_create(c, &what, &p);
	assert_int_equal(davit_await(c, p, 20 * SEC, NULL, &err), DAVIT_ENOTSUP);
	assert_string_equal(err.message, "not on this machine");
	assert_false(davit_exists(c, "A"));
	what.definition = &none;
	davit_container_create(c, &what, &p);
	assert_int_equal(davit_await(c, p, 20 * SEC, NULL, &err), DAVIT_EEXEC);
	assert_non_null(strstr(err.message, "/nowhere/at-all"));
	assert_false(davit_exists(c, "A"));
}

static void a_definition_on_the_heap_is_refused(void **unused)
{
	struct davit_definition *d = malloc(sizeof *d);

	*d = plain;
	assert_int_equal(make(NULL, "A", d, 0), DAVIT_ENOTSUP);
	free(d);
}

/* --- messages through deaths --- */

enum { SENDERS = 4, EACH = 100000 };

struct item {
	uint32_t sender, number;
};

static struct {
	_Atomic(uint32_t) next[SENDERS]; /* that comes next */
	_Atomic(uint32_t) got, dead, wrong;
} seen;

/* Sends on what it gets, and dies now and then. */
static int relay(struct davit_context *k, struct davit_message *m)
{
	static int handled;
	struct davit_message *copy;

	if (!m->size)
		return davit_fail(k, DAVIT_EIO, "by a message");
	if (++handled % 60000 == 0)
		abort();
	copy = davit_message_new(k, 7, m->size);
	memcpy(copy->data, m->data, m->size);
	return davit_send_to(k, "Sink", &copy, DAVIT_BUFFER_NONE);
}

static int sink(struct davit_context *k, struct davit_message *m)
{
	const struct item *i = (const void *)m->data;
	uint32_t next = seen.next[i->sender];

	/* One that the relay died at is missing, none comes twice or early. */
	if (i->number < next || m->type != 7)
		seen.wrong++;
	seen.next[i->sender] = i->number + 1;
	seen.got++;
	return 0;
}

static void count_dead(void *arg, enum davit_dead why, struct davit_ref to, const struct davit_message *m)
{
	if (why == DAVIT_DEAD_FAILED)
		seen.dead++;
}

static int produce(struct davit_context *k, struct davit_message *m)
{
	static _Atomic(uint32_t) begun[SENDERS];
	const uint32_t me = (uint32_t)atoi(davit_args(k));
	struct davit_message *next;
	struct davit_ref relay_ref;
	struct item i = {me, 0};

	if (m->type == 1)
		begun[me] = 0;
	if (davit_find(k, "Relay", &relay_ref))
		return DAVIT_ENOENT;
	for (int n = 0; n < 1000 && begun[me] < EACH; n++) {
		i.number = begun[me];
		if (davit_tell(k, relay_ref, 3, &i, sizeof i)) /* full: later */
			break;
		begun[me]++;
	}
	if (begun[me] == EACH)
		return 0;
	next = davit_message_new(k, 2, 0);
	return davit_send(k, davit_self(k), &next);
}

static const struct davit_definition relay_definition = {
	.name = "Relay", .type = DAVIT_PROCESS, .behaviour = relay};
static const struct davit_definition sink_definition = {
	.name = "Sink", .behaviour = sink, .options = {.limit = UINT32_MAX}};
static const struct davit_definition producer = {.name = "Producer", .behaviour = produce};

static void messages_keep_their_order_and_none_is_lost_or_doubled_however_the_process_ends(void **unused)
{
	const char *aliases[] = {"P0", "P1", "P2", "P3"}, *numbers[] = {"0", "1", "2", "3"};
	struct davit_container_info i;
	int kills = 0;

	close_system(NULL);
	memset(&seen, 0, sizeof seen);
	assert_int_equal(open_with(count_dead), 0);
	assert_int_equal(make(NULL, "Sink", &sink_definition, DAVIT_CREATE_START), 0);
	assert_int_equal(make(NULL, "Relay", &relay_definition, DAVIT_CREATE_START), 0);
	for (int n = 0; n < SENDERS; n++) {
		start_with(NULL, aliases[n], &producer, numbers[n]);
		davit_tell(c, find(aliases[n]), 1, "", 0);
	}
	for (int n = 0; n < 20000 && seen.got + seen.dead < SENDERS * EACH + (uint32_t)kills; n++) {
		nap();
		/* Errors as well as aborts: the message without data is the one that fails. */
		if (n % 16 == 0 && kills < 3 && !davit_tell(c, find("Relay"), 3, "", 0))
			kills++;
	}
	davit_container_get(c, "Relay", &i);
	assert_int_equal(seen.wrong, 0);
	assert_int_equal(seen.got + seen.dead, SENDERS * EACH + kills);
	assert_true(i.restarts >= 6);
	assert_int_equal(seen.dead, i.restarts);
	balanced();
}

/* --- heartbeats --- */

static const struct davit_definition impatient = {.name = "Impatient",
						  .type = DAVIT_PROCESS,
						  .behaviour = answer,
						  .remedies = stay,
						  .options = {.keepalive = 3 * SEC}};

static void wait_line(const char *part)
{
	for (int i = 0; i < 30000 && !logged(part); i++)
		nap();
	assert_true(logged(part));
}

static void one_that_is_silent_is_noticed_and_is_as_before_if_it_comes_back_in_time(void **unused)
{
	pid_t pid;

	assert_int_equal(make(NULL, "A", &impatient, DAVIT_CREATE_START), 0);
	pid = pid_of("A");
	kill(pid, SIGSTOP);
	wait_line("A: does not answer (child-unresponsive)");
	assert_int_equal(state("A"), DAVIT_STATE_STARTED);
	kill(pid, SIGCONT);
	wait_line("A: answers again");
	assert_int_equal(pid_of("A"), pid);
}

static void one_that_is_silent_for_too_long_has_failed(void **unused)
{
	struct davit_container_info i;
	pid_t pid;

	assert_int_equal(make(NULL, "A", &impatient, DAVIT_CREATE_START), 0);
	pid = pid_of("A");
	kill(pid, SIGSTOP);
	become("A", DAVIT_STATE_FAILED);
	davit_container_get(c, "A", &i);
	assert_int_equal(i.code, DAVIT_ETIMEDOUT);
	assert_string_equal(i.message, "child-unresponsive");
	gone(pid); /* it must not come back beside its successor */
	assert_int_equal(operate(DAVIT_DO_START), 0);
	assert_int_not_equal(pid_of("A"), pid);
}

/* --- the end of the parent --- */

/* A program that is killed. */
static int victim(void)
{
	if (open_system(NULL) || make(NULL, "A", &plain, DAVIT_CREATE_START))
		return 1;
	printf("%d\n", (int)pid_of("A"));
	fflush(stdout);
	pause();
	return 0;
}

static void a_process_ends_when_the_program_is_killed(void **unused)
{
	char line[32] = "", path[64];
	int ends[2], n;
	pid_t program;

	assert_int_equal(pipe(ends), 0);
	snprintf(path, sizeof path, "/proc/%d/exe", (int)getpid());
	if (!(program = fork())) {
		dup2(ends[1], 1);
		execl(path, path, "--victim", (char *)NULL);
		_exit(1);
	}
	close(ends[1]);
	n = (int)read(ends[0], line, sizeof line - 1);
	close(ends[0]);
	assert_true(n > 0);
	kill(program, SIGKILL);
	assert_int_equal(waitpid(program, NULL, 0), program);
	gone(atoi(line));
}

/* Children of this program: how many are in that state, if not 0, and have that name, in brackets, if
 * not NULL; one of them. */
static int children(const char *name, char state, pid_t *ret)
{
	char path[64], stat[128], is;
	pid_t parent;
	int n = 0;
	struct dirent *e;
	DIR *d = opendir("/proc");
	FILE *f;

	assert_non_null(d);
	while ((e = readdir(d))) {
		snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
		if (!atoi(e->d_name) || !(f = fopen(path, "r")))
			continue;
		if (fgets(stat, sizeof stat, f) && (!name || strstr(stat, name)) &&
		    sscanf(strrchr(stat, ')') + 2, "%c %d", &is, &parent) == 2 && parent == getpid() &&
		    (!state || is == state)) {
			*ret = atoi(e->d_name);
			n++;
		}
		fclose(f);
	}
	closedir(d);
	return n;
}

/* The process that waits to be wanted; 0: there is none. */
static pid_t spare(void)
{
	pid_t pid = 0;

	children("(davit-spare)", 0, &pid);
	return pid;
}

static pid_t wait_spare(void)
{
	pid_t pid = 0;

	for (int i = 0; i < 10000 && !(pid = spare()); i++)
		nap();
	assert_int_not_equal(pid, 0);
	return pid;
}

/* A is started, and there is a process to spare beside it: their pids. */
static void start_beside_spare(pid_t *ret_was, pid_t *ret_waits)
{
	assert_int_equal(make(NULL, "A", &plain, DAVIT_CREATE_START), 0);
	*ret_was = pid_of("A");
	*ret_waits = wait_spare();
}

static void one_that_starts_again_takes_the_process_to_spare(void **unused)
{
	pid_t waits, was;

	start_beside_spare(&was, &waits);
	kill(was, SIGKILL);
	gone(was);
	assert_int_equal(pid_of("A"), waits);
	assert_int_not_equal(wait_spare(), waits);
}

/* Each process has a holder, which ends after it; what has ended was waited for. */
static void nobody_is_left_of_those_that_have_ended(void **unused)
{
	struct davit_promise p;
	pid_t waits, was, pid;
	int left = 1, holders;

	for (int i = 0; i < 3; i++) {
		start_beside_spare(&was, &waits);
		kill(was, SIGKILL);
		gone(was);
		wait_spare();
		davit_container_destroy(c, "A", DAVIT_DESTROY_FORCE_SOFT, &p);
		assert_int_equal(finish(p), 0);
	}
	for (int i = 0; i < 10000 && left; i++, nap()) {
		holders = children("(davit-holder)", 0, &pid);
		/* But that of the process to spare, where there are any (channel/holder.c). */
		left = children(NULL, 'Z', &pid) + holders - (holders > 0);
	}
	assert_int_equal(left, 0);
}

static void the_death_of_the_process_to_spare_costs_nobody_anything(void **unused)
{
	pid_t waits, was;

	start_beside_spare(&was, &waits);
	kill(waits, SIGKILL);
	gone(waits);
	kill(was, SIGKILL);
	gone(was);
	assert_string_equal(ask("A", "hello"), "A: hello");
	/* There is another one by now, which ends with the system. */
	waits = wait_spare();
	davit_system_close(sys);
	assert_int_equal(kill(waits, 0), -1);
	assert_int_equal(open_system(NULL), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(each_pair_of_state_and_operation_does_what_the_table_says),
		T(hooks_run_before_on_and_after_each_transition),
		T(commands_go_by_their_name),
		T(it_is_a_process_of_its_own_that_knows_who_it_is),
		T(a_crash_is_a_failure_with_the_signal_as_its_reason),
		T(it_is_restarted_by_its_parent_in_a_new_process),
		T(a_creation_that_fails_leaves_nothing),
		T(a_definition_on_the_heap_is_refused),
		T(one_that_is_silent_is_noticed_and_is_as_before_if_it_comes_back_in_time),
		T(one_that_is_silent_for_too_long_has_failed),
		T(one_that_starts_again_takes_the_process_to_spare),
		T(nobody_is_left_of_those_that_have_ended),
		T(the_death_of_the_process_to_spare_costs_nobody_anything),
		T(a_process_ends_when_the_program_is_killed),
		T(messages_keep_their_order_and_none_is_lost_or_doubled_however_the_process_ends),
	};

	if (argc > 1 && !strcmp(argv[1], "--victim"))
		return victim();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
