/* SPDX-License-Identifier: MIT
 *
 * The language of fake workloads: words of argv and of DAVIT_FAKE.
 */
#include "base/strv.h"
#include "base/units.h"
#include "runtime/fake/fake_impl.h"

#include <signal.h>
#include <string.h>

#define MSEC DAVIT_NSEC_PER_MSEC

/* Words still to be read, and where they come from for a message. */
struct words {
	char *const *v;
	size_t i;
	const char *where;
};

static const char *peek(const struct words *w)
{
	return w->v ? w->v[w->i] : NULL;
}

static const char *next(struct words *w)
{
	return peek(w) ? w->v[w->i++] : NULL;
}

/* Takes the next word if it is this one. */
static bool accept(struct words *w, const char *word)
{
	if (!peek(w) || strcmp(peek(w), word))
		return false;
	w->i++;
	return true;
}

static int number(struct words *w, const char *after, int64_t min, int64_t max, int64_t *ret,
		  struct davit_error *err)
{
	const char *word = next(w);

	if (!word)
		return davit_error_set(err, DAVIT_EINVAL, w->where, "a number must follow '%s'", after);
	return davit_int_parse(word, min, max, ret, err);
}

static int duration(struct words *w, const char *after, int64_t *ret, struct davit_error *err)
{
	const char *word = next(w);

	if (!word)
		return davit_error_set(err, DAVIT_EINVAL, w->where, "a duration must follow '%s'", after);
	return davit_duration_parse(word, ret, err);
}

static int after(struct words *w, const char *what, int64_t *ret, struct davit_error *err)
{
	if (!accept(w, "after"))
		return davit_error_set(err, DAVIT_EINVAL, w->where, "'after DURATION' must follow '%s'",
				       what);
	return duration(w, "after", ret, err);
}

/* [N]: how often; always without it. */
static int times(struct words *w, int64_t *ret)
{
	int64_t n;

	*ret = INT64_MAX;
	if (peek(w) && davit_int_parse(peek(w), 0, INT64_MAX, &n, NULL) == 0) {
		w->i++;
		*ret = n;
	}
	return 0;
}

static int text(struct words *w, const char *what, char **ret, struct davit_error *err)
{
	const char *word = next(w);
	char *copy;

	if (!word)
		return davit_error_set(err, DAVIT_EINVAL, w->where, "a text must follow '%s'", what);
	copy = strdup(word);
	if (!copy)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	free(*ret);
	*ret = copy;
	return 0;
}

static void ends(struct fake_script *s, int64_t at, struct davit_exit how)
{
	s->ends = true;
	s->end_after = at;
	s->end = how;
}

static int parse_run(struct fake_script *s, struct words *w, struct davit_error *err)
{
	int64_t at, code = 0;
	int r = duration(w, "run", &at, err);

	if (r == 0 && accept(w, "exit"))
		r = number(w, "exit", 0, 255, &code, err);
	if (r == 0)
		ends(s, at, (struct davit_exit){.kind = DAVIT_EXIT_CODE, .code = (int)code});
	return r;
}

static int parse_exit(struct fake_script *s, struct words *w, struct davit_error *err)
{
	int64_t code;
	int r = number(w, "exit", 0, 255, &code, err);

	if (r == 0)
		ends(s, 0, (struct davit_exit){.kind = DAVIT_EXIT_CODE, .code = (int)code});
	return r;
}

static int parse_signal(struct fake_script *s, struct words *w, struct davit_error *err)
{
	int64_t signo, at;
	int r = number(w, "signal", 1, 64, &signo, err);

	if (r == 0)
		r = after(w, "signal N", &at, err);
	if (r == 0)
		ends(s, at, fake_exit_signal((int)signo, ""));
	return r;
}

static int parse_oom(struct fake_script *s, struct words *w, struct davit_error *err)
{
	int64_t at;
	int r = after(w, "oom", &at, err);

	if (r == 0)
		ends(s, at,
		     (struct davit_exit){
			     .kind = DAVIT_EXIT_OOM, .signal = SIGKILL, .reason = "out of memory"});
	return r;
}

static int parse_crash_loop(struct fake_script *s, struct words *w, struct davit_error *err)
{
	ends(s, 10 * MSEC, (struct davit_exit){.kind = DAVIT_EXIT_CODE, .code = 1});
	return 0;
}

static int parse_vanish(struct fake_script *s, struct words *w, struct davit_error *err)
{
	s->vanishes = true;
	return after(w, "vanish", &s->vanish_after, err);
}

static int parse_never_ready(struct fake_script *s, struct words *w, struct davit_error *err)
{
	s->never_ready = true;
	return 0;
}

static int parse_ready_after(struct fake_script *s, struct words *w, struct davit_error *err)
{
	return duration(w, "ready-after", &s->ready_after, err);
}

static int parse_status(struct fake_script *s, struct words *w, struct davit_error *err)
{
	int r = text(w, "status", &s->status, err);

	if (r == 0 && accept(w, "after"))
		r = duration(w, "after", &s->status_after, err);
	return r;
}

static int parse_ignore_stop(struct fake_script *s, struct words *w, struct davit_error *err)
{
	s->ignore_stop = true;
	return 0;
}

static int parse_lie(struct fake_script *s, struct words *w, struct davit_error *err)
{
	s->lie = DAVIT_NSEC_PER_SEC;
	if (peek(w) && davit_duration_parse(peek(w), &s->lie, NULL) == 0)
		w->i++;
	return 0;
}

static int parse_log(struct fake_script *s, struct words *w, struct davit_error *err)
{
	struct fake_log_plan *logs = realloc(s->logs, (s->n_logs + 1) * sizeof *logs);
	struct fake_log_plan *l;
	int r;

	if (!logs)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	s->logs = logs;
	l = &logs[s->n_logs];
	*l = (struct fake_log_plan){.count = 1, .stream = DAVIT_STDOUT};
	r = text(w, "log", &l->text, err);
	if (r < 0)
		return r;
	s->n_logs++;
	for (;;) {
		if (accept(w, "every"))
			r = duration(w, "every", &l->every, err);
		else if (accept(w, "count"))
			r = number(w, "count", 0, INT64_MAX, &l->count, err);
		else if (accept(w, "stderr"))
			l->stream = DAVIT_STDERR;
		else
			break;
		if (r < 0)
			return r;
	}
	/* Without a pause it would never let the clock go on. */
	if (l->count == 0 && l->every == 0)
		return davit_error_set(err, DAVIT_EINVAL, w->where, "'count 0' needs 'every DURATION'");
	return 0;
}

static int parse_show(struct fake_script *s, struct words *w, struct davit_error *err)
{
	s->show = true;
	s->show_from = strcmp(w->where, "command") ? SIZE_MAX : w->i;
	while (next(w))
		;
	return 0;
}

static int parse_random(struct fake_script *s, struct words *w, struct davit_error *err)
{
	s->random = true;
	return 0;
}

#define DELAY(fn, op, word)                                                                                  \
	static int fn(struct fake_script *s, struct words *w, struct davit_error *err)                       \
	{                                                                                                    \
		return duration(w, word, &s->delay[op], err);                                                \
	}
DELAY(parse_create_delay, FAKE_CREATE, "create-delay")
DELAY(parse_start_delay, FAKE_START, "start-delay")
DELAY(parse_stop_delay, FAKE_STOP, "stop-delay")
DELAY(parse_remove_delay, FAKE_REMOVE, "remove-delay")

#define FAIL(fn, where)                                                                                      \
	static int fn(struct fake_script *s, struct words *w, struct davit_error *err)                       \
	{                                                                                                    \
		return times(w, &s->where);                                                                  \
	}
FAIL(parse_fail_create, failures[FAKE_CREATE])
FAIL(parse_fail_start, failures[FAKE_START])
FAIL(parse_fail_stop, failures[FAKE_STOP])
FAIL(parse_fail_remove, failures[FAKE_REMOVE])
FAIL(parse_fail_exec, exec_failures)

static int parse_refuse(struct fake_script *s, struct words *w, struct davit_error *err)
{
	(void)w;
	(void)err;
	s->refused = true;
	return 0;
}

static const struct {
	const char *word;
	int (*parse)(struct fake_script *s, struct words *w, struct davit_error *err);
} words[] = {
	{"run", parse_run},
	{"exit", parse_exit},
	{"signal", parse_signal},
	{"oom", parse_oom},
	{"vanish", parse_vanish},
	{"crash-loop", parse_crash_loop},
	{"create-delay", parse_create_delay},
	{"start-delay", parse_start_delay},
	{"stop-delay", parse_stop_delay},
	{"remove-delay", parse_remove_delay},
	{"fail-create", parse_fail_create},
	{"fail-start", parse_fail_start},
	{"fail-stop", parse_fail_stop},
	{"fail-remove", parse_fail_remove},
	{"fail-exec", parse_fail_exec},
	{"ready-after", parse_ready_after},
	{"never-ready", parse_never_ready},
	{"status", parse_status},
	{"ignore-stop", parse_ignore_stop},
	{"lie", parse_lie},
	{"log", parse_log},
	{"show", parse_show},
	{"random", parse_random},
	{"refuse", parse_refuse},
};

static int parse(struct fake_script *s, struct words *w, struct davit_error *err)
{
	const char *word;
	size_t i;
	int r = 0;

	while (r == 0 && (word = next(w))) {
		for (i = 0; i < DAVIT_ARRAY_SIZE(words) && strcmp(words[i].word, word); i++)
			;
		if (i == DAVIT_ARRAY_SIZE(words))
			return davit_error_set(err, DAVIT_EINVAL, w->where,
					       "the fake runtime does not know the word '%s'", word);
		r = words[i].parse(s, w, err);
	}
	return r;
}

/* The words of DAVIT_FAKE, separated by blanks: no quotes there. */
static int split(const char *s, char ***ret)
{
	DAVIT_AUTO_FREE char *copy = strdup(s);
	char *save = NULL;
	int r = copy ? 0 : DAVIT_ENOMEM;

	for (char *w = copy ? strtok_r(copy, " \t", &save) : NULL; w && r == 0;
	     w = strtok_r(NULL, " \t", &save))
		r = davit_strv_add(ret, w);
	return r;
}

int fake_script_parse(struct fake_script *s, const struct davit_workload *workload, struct davit_error *err)
{
	DAVIT_AUTO_STRV env_words = NULL;
	struct words w = {workload->argv, 1, "command"};
	const char *more = davit_strv_getenv(workload->env, "DAVIT_FAKE");
	int r = 0;

	*s = (struct fake_script){0};
	if (workload->argv && workload->argv[0] && !strcmp(workload->argv[0], "fake"))
		r = parse(s, &w, err);
	if (r == 0 && more) {
		r = split(more, &env_words);
		if (r < 0)
			r = davit_error_set(err, r, NULL, "out of memory");
		w = (struct words){env_words, 0, "DAVIT_FAKE"};
		if (r == 0)
			r = parse(s, &w, err);
	}
	if (r < 0)
		fake_script_fini(s);
	return r;
}

void fake_script_fini(struct fake_script *s)
{
	for (size_t i = 0; i < s->n_logs; i++)
		free(s->logs[i].text);
	free(s->logs);
	free(s->status);
	*s = (struct fake_script){0};
}
