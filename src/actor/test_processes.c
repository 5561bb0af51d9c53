/* SPDX-License-Identifier: MIT */
#include "actor/test_processes.h"

#include <pthread.h>

struct davit_system *sys;
struct davit_context *c;
_Atomic(int) lines;
static char log_text[16384];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

/* Processes have processes of their own, whose parents have threads, or had. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

void take_line(void *arg, const char *line)
{
	size_t n;

	pthread_mutex_lock(&log_lock);
	n = strlen(log_text);
	if (n + strlen(line) + 2 > sizeof log_text)
		n = 0;
	snprintf(log_text + n, sizeof log_text - n, "%s\n", line);
	pthread_mutex_unlock(&log_lock);
	lines++;
}

bool logged(const char *part)
{
	bool there;

	pthread_mutex_lock(&log_lock);
	there = strstr(log_text, part) != NULL;
	pthread_mutex_unlock(&log_lock);
	return there;
}

int open_with(void (*dead)(void *arg, enum davit_dead why, struct davit_ref to,
			   const struct davit_message *m))
{
	struct davit_system_config config = {.workers = 2, .log = take_line, .dead = dead};

	lines = 0;
	log_text[0] = 0;
	if (davit_system_open(&config, &sys, NULL))
		return -1;
	c = davit_system_context(sys);
	return 0;
}

int open_system(void **unused)
{
	return open_with(NULL);
}

int close_system(void **unused)
{
	davit_system_close(sys);
	return 0;
}

void nap(void)
{
	nanosleep(&(struct timespec){0, 2 * MS}, NULL);
}

int finish(struct davit_promise p)
{
	return davit_await(c, p, 60 * SEC, NULL, NULL);
}

int make(const char *parent, const char *alias, const struct davit_definition *d, unsigned flags)
{
	struct davit_create what = {.alias = alias, .definition = d, .parent = parent, .flags = flags};
	struct davit_promise p;

	assert_int_equal(davit_container_create(c, &what, &p), 0);
	return finish(p);
}

void start_with(const char *parent, const char *alias, const struct davit_definition *d, const char *args)
{
	struct davit_create what = {
		.alias = alias, .definition = d, .parent = parent, .args = args, .flags = DAVIT_CREATE_START};
	struct davit_promise p;

	assert_int_equal(davit_container_create(c, &what, &p), 0);
	assert_int_equal(finish(p), 0);
}

struct davit_ref find(const char *address)
{
	struct davit_ref ref;

	assert_int_equal(davit_find(c, address, &ref), 0);
	return ref;
}

enum davit_state state(const char *alias)
{
	struct davit_container_info i;

	return davit_container_get(c, alias, &i) ? DAVIT_STATE_DESTROYED : i.state;
}

void become(const char *alias, enum davit_state want)
{
	struct davit_container_info i = {.state = DAVIT_STATE_DESTROYED};

	/* The failure is told to the tree, which has its text, a moment after the state. */
	for (int n = 0; n < 30000; n++, nap())
		if (!davit_container_get(c, alias, &i) && i.state == want &&
		    (i.state == DAVIT_STATE_FAILED) == (i.failure != 0))
			break;
	assert_int_equal(i.state, want);
}

/* Asks; the answer's text, or "!" and the error's. */
const char *ask_with(const char *alias, const char *text, const struct davit_request_options *o)
{
	struct davit_message *m = davit_message_new(c, 1, strlen(text) + 1);
	struct davit_error err = {0};
	struct davit_outcome *outcome;
	static char answer[256];
	struct davit_promise p;

	memcpy(m->data, text, strlen(text) + 1);
	assert_int_equal(davit_request(c, find(alias), &m, o, &p), 0);
	if (davit_await(c, p, 60 * SEC, &outcome, &err))
		snprintf(answer, sizeof answer, "!%s", err.message);
	else
		snprintf(answer, sizeof answer, "%s", (const char *)outcome->data);
	davit_outcome_free(outcome);
	return answer;
}

const char *ask(const char *alias, const char *text)
{
	return ask_with(alias, text, NULL);
}

pid_t pid_of(const char *alias)
{
	return atoi(ask(alias, "pid"));
}

void balanced(void)
{
	struct davit_system_stats n;

	for (int i = 0; i < 30000; i++) {
		davit_system_stats(sys, &n);
		if (n.sent == n.handled + n.dead)
			break;
		nap();
	}
	assert_int_equal(n.sent, n.handled + n.dead);
}

void gone(pid_t pid)
{
	for (int i = 0; i < 30000 && !kill(pid, 0); i++)
		nap();
	assert_int_equal(kill(pid, 0), -1);
}

int answer(struct davit_context *k, struct davit_message *m)
{
	const char *text = (const char *)m->data;
	char reply[512];

	if (!strcmp(text, "pid"))
		snprintf(reply, sizeof reply, "%d", (int)getpid());
	else if (!strcmp(text, "who"))
		snprintf(reply, sizeof reply, "%s %s %s %s %s %d", davit_alias(k), davit_name(k),
			 davit_path(k), davit_parent(k), davit_args(k), davit_container_type(k));
	else if (!strcmp(text, "fail"))
		return davit_fail(k, DAVIT_EIO, "told to fail");
	else if (!strcmp(text, "crash"))
		abort();
	else if (!strcmp(text, "exit"))
		_exit(3);
	else
		snprintf(reply, sizeof reply, "%s: %s", davit_alias(k), text);
	return davit_reply(k, m, reply, strlen(reply));
}
