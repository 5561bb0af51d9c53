/* SPDX-License-Identifier: MIT
 *
 * One suite for every runtime. A subject says how to get the driver and how to
 * make workloads of some kinds for it; the tests are the same for all.
 *
 * A test uses the helpers below, which wait for what must come and end the test
 * with a message when it does not. Nothing needs to be cleaned up in a test:
 * after each, every instance is stopped and removed and the runtime closed.
 */
#ifndef DAVIT_TEST_SUITE_H
#define DAVIT_TEST_SUITE_H

#include "base/strv.h"
#include "base/units.h"
#include "base/util.h"
#include "davit/runtime.h"

#include <string.h>

#define MSEC DAVIT_NSEC_PER_MSEC
#define SEC DAVIT_NSEC_PER_SEC

/* --- subjects --- */

enum behaviour {
	RUNS,		/* until it is stopped */
	EXITS,		/* at once, with code `n` */
	DIES,		/* at once, by signal `n` */
	IGNORES_TERM,	/* until it is killed; prints "ignoring" when it does */
	PRINTS,		/* "line 1" to "line n" on stdout, "done" on stderr, then runs */
	KEEPS_PRINTING, /* "tick" every 20 ms */
	NOTIFIES,	/* STATUS=warming up, then READY=1, then runs */
	READY_BY_FD,	/* a newline on descriptor `n`, then runs */
	FORKS,		/* a daemon (new session, reparented) whose pid it prints, then runs */
	SHOWS, /* prints the words after its own, then its environment, each in hexadecimal, then runs */
	SHOWS_DIRECTORY, /* prints its working directory, then runs */
	CONNECTS,	 /* to port `n` of TEST_DENIED, then of TEST_ALLOWED, then runs */
	MISSING,	 /* no such program */
	/* commands of exec */
	X_SAYS,	      /* "out" on stdout and "err" on stderr, exit code n */
	X_COPIES,     /* standard input to standard output until its end */
	X_SHOWS_NAME, /* the value of the variable NAME */
	X_MISSING,
};

struct subject {
	const char *name;
	bool real; /* programs of this host are run: pids can be looked at */
	/* The driver; called once. NULL with the reason in *why_not when it cannot
	 * run here. */
	const struct davit_runtime_driver *(*get)(struct davit_loop *loop, const char **why_not);
	/* Lets go of what get has made. */
	void (*put)(const struct davit_runtime_driver *driver);
	/* What else its workloads need: an image, the guest mounted into it. NULL:
	 * nothing. With it, the environment has more in it. */
	void (*prepare)(struct davit_workload *w);
	/* Appends the words for a behaviour. False: this subject has no such thing. */
	bool (*words)(enum behaviour what, int n, char ***argv);
	bool engine; /* Docker or Podman: others work on it too, and words are UTF-8 */
};

extern const struct subject *const subjects[]; /* NULL at the end */

/* Addresses that this machine has for a test of egress. */
#define TEST_DENIED "192.0.2.7"
#define TEST_ALLOWED "192.0.2.8"

/* --- tests --- */

struct test {
	const char *name; /* a sentence */
	void (*run)(void);
};
extern const struct test lifecycle_tests[], adopt_tests[], log_tests[], facet_tests[], terminal_tests[],
	container_tests[], model_tests[];

/* --- for tests --- */

/* One instance and all that was told of it. */
struct thing {
	struct thing *next;
	struct davit_workload workload;
	struct davit_instance *inst;
	char **argv, **env;
	uint32_t runs_told; /* exited: how often, and of which run last */
	uint32_t last_run;
	struct davit_exit exit;
	int ready, vanished;
	char status[128];
	bool found;
	struct davit_inspection adopted;
	char label[512];
	struct call *call; /* the last one about it; it is no other's where its `thing` says so */
};

/* An operation and its end: in static memory, since a test that fails leaves its frames while the
 * operation is still under way. */
struct call {
	struct davit_op op;
	struct thing *thing;
	int done; /* how often */
	int result;
	uint32_t runs_told; /* of the thing, when it completed */
};

extern const struct subject *subject;
extern struct davit_runtime *rt;
extern struct davit_loop *loop;
extern int lost, regained; /* how often the runtime of this test was */

_Noreturn void fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define CHECK(cond)                                                                                          \
	do {                                                                                                 \
		if (!(cond))                                                                                 \
			fail(__FILE__, __LINE__, "not so: %s", #cond);                                       \
	} while (0)
#define CHECK_INT(a, b)                                                                                      \
	do {                                                                                                 \
		long long a_ = (a), b_ = (b);                                                                \
		if (a_ != b_)                                                                                \
			fail(__FILE__, __LINE__, "%s is %lld, not %lld", #a, a_, b_);                        \
	} while (0)
#define CHECK_STR(a, b)                                                                                      \
	do {                                                                                                 \
		const char *a_ = (a), *b_ = (b);                                                             \
		if (strcmp(a_, b_))                                                                          \
			fail(__FILE__, __LINE__, "%s is '%.200s', not '%.200s'", #a, a_, b_);                \
	} while (0)

/* Skips the test, with the runtime's reason, where it cannot do that. */
void need(enum davit_capability cap);
void need_real(const char *why);

/* Runs the loop until the condition holds; fails after three minutes, which no machine is too busy for. */
#define WAIT(cond)                                                                                           \
	do {                                                                                                 \
		struct davit_timer t_;                                                                       \
		wait_begin(&t_, 180 * SEC);                                                                  \
		while (!(cond))                                                                              \
			if (!wait_turn(&t_))                                                                 \
				fail(__FILE__, __LINE__, "never became so: %s", #cond);                      \
		davit_timer_stop(&t_);                                                                       \
	} while (0)
void wait_begin(struct davit_timer *t, int64_t ns);
bool wait_turn(struct davit_timer *t);
/* Lets the loop run for a time: for what must not come. */
void pass(int64_t ns);

/* A workload of a kind, not created yet. Skips the test where the subject has
 * none. Change its workload before create. */
struct thing *make(enum behaviour what, int n);
/* Starts an operation / waits for its end / both; timeout 0: none. */
void begin(struct call *c, struct thing *t, int64_t timeout);
void do_create(struct call *c, struct thing *t);
void do_start(struct call *c, struct thing *t);
void do_stop(struct call *c, struct thing *t, int64_t grace, int64_t timeout);
void do_remove(struct call *c, struct thing *t);
int result(struct call *c);
/* Marks the inside of a slot: nothing may be told there. */
void enter(void);
void leave(void);

int create(struct thing *t);
int start(struct thing *t);
int stop(struct thing *t, int64_t grace);
int remove_(struct thing *t);
struct davit_inspection inspect(struct thing *t);
/* make, create and start, which must succeed. */
struct thing *running(enum behaviour what, int n);
/* One that runs and ignores SIGTERM already: until it has said so, the signal would end it. */
struct thing *ignoring(void);

/* Closes the runtime and opens it anew, as a daemon's restart does. Things are
 * answered to `found` unless forget. */
void reopen(bool forget);
/* The two halves of it. */
void close_runtime(void);
void open_runtime(void);
void adopt(bool forget);

/* The log of a thing, once it has n lines: "o:text\n" and "e:text\n". n 0: all that is
 * there now. */
const char *log_text(struct thing *t, size_t n);
/* One line of it, of standard output; freed after the test. */
const char *log_line(struct thing *t, size_t index);
/* Waits until its log has that, which ends in a newline: "o:", or "e:" of its errors, and the line. */
void log_has(struct thing *t, const char *line);

#endif
