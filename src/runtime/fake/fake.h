/* SPDX-License-Identifier: MIT
 *
 * The fake runtime: an ordinary driver whose instances are scripts under the
 * loop's clock. Nothing is executed; on a virtual loop a day passes in a
 * moment. It carries tests, `davit simulate`, and trying out a spec.
 *
 * A workload whose argv[0] is "fake" is a script, one word after another
 * (docs/runtimes/fake.md has examples); any other runs until it is stopped. The
 * variable DAVIT_FAKE in its environment holds further words for either.
 *
 *   run DURATION [exit N]          ends by itself after that time
 *   exit N                         ends at once; with `run` before it: see there
 *   signal N after DURATION        is killed by signal N
 *   oom after DURATION             is killed for lack of memory
 *   vanish after DURATION          the object itself disappears
 *   crash-loop                     run 10ms exit 1
 *   create-delay D  start-delay D  how long these operations take
 *   stop-delay D    remove-delay D
 *   fail-create [N] fail-start [N] the operation fails (the first N times), with
 *   fail-stop [N]   fail-remove [N]  DAVIT_EUNAVAIL
 *   refuse                         check refuses it
 *   fail-exec [N]                  start fails with DAVIT_EEXEC
 *   ready-after D                  readiness, where the workload asks for it
 *   never-ready                    (otherwise it comes with the start)
 *   status TEXT [after D]          STATUS= changes
 *   ignore-stop                    goes on until it is killed
 *   lie [D]                        after its end it passes for running for D (1s)
 *   log TEXT [every D] [count N] [stderr]   writes lines (count 0: for ever)
 *   show WORD...                   writes each further word, then each variable
 *                                  of the environment, in hexadecimal
 *   random                         takes faults by the world's chances
 *
 * A command of `exec` inside an instance is one of: echo WORD..., complain
 * WORD... (on standard error), cat, sleep DURATION, env NAME, true, false, exit
 * N, say N ("out" on standard output, "err" on standard error, exit code N).
 * Another cannot be executed.
 */
#ifndef DAVIT_RUNTIME_FAKE_H
#define DAVIT_RUNTIME_FAKE_H

#include "davit/runtime.h"

/* The driver with a world of its own for each runtime, which ends with it. It
 * obeys the state machine and refuses what that refuses. */
extern const struct davit_runtime_driver davit_fake_driver;

/* A world in which instances live on while no driver is open, so that a
 * daemon's death and return can be played. One runtime at a time. */
struct davit_fake_world;

enum davit_fake_what {
	DAVIT_FAKE_CREATED,
	DAVIT_FAKE_STARTED,
	DAVIT_FAKE_EXITED,
	DAVIT_FAKE_REMOVED,
	DAVIT_FAKE_VANISHED,
	DAVIT_FAKE_OPENED, /* a runtime opened the world, or closed it; no id */
	DAVIT_FAKE_CLOSED,
};

/* What happened in the world, as against what the driver has told. */
struct davit_fake_event {
	int64_t time; /* monotonic */
	enum davit_fake_what what;
	char id[DAVIT_ID_MAX];
	const char *label; /* borrowed during the call; NULL for opened and closed */
	uint32_t run;
	struct davit_exit exit; /* of an exit */
};

/* "created", "started", ...; never NULL. */
const char *davit_fake_what_name(enum davit_fake_what what);

/* Makes a world on a loop, which is borrowed. It is strict: it aborts with a
 * message and its last events when its user breaks a rule that holds for every
 * runtime - two operations at once on one instance, a start of one that runs,
 * two objects for one id, an exit told twice. 0 or DAVIT_ENOMEM. */
int davit_fake_world_new(struct davit_loop *loop, struct davit_fake_world **ret, struct davit_error *err);
/* Frees it with all instances in it. No runtime may have it open. NULL is fine. */
void davit_fake_world_free(struct davit_fake_world *w);
/* A driver whose runtimes live in this world; borrowed, ends with the world. */
const struct davit_runtime_driver *davit_fake_world_driver(struct davit_fake_world *w);
/* false: a broken rule is refused with DAVIT_ESTATE instead of aborting. */
void davit_fake_world_set_strict(struct davit_fake_world *w, bool strict);

/* Called for each event, from the loop or from within a slot; it must not call
 * the driver. NULL: nobody. */
void davit_fake_world_observe(struct davit_fake_world *w,
			      void (*fn)(void *user, const struct davit_fake_event *event), void *user);
/* Writes the last events to standard error, for a report of a failure. */
void davit_fake_world_dump(const struct davit_fake_world *w);

/* The platform stops answering: operations wait until it is back or they are
 * cancelled, nothing is told, instances go on. Back, it tells what was missed. */
void davit_fake_world_set_reachable(struct davit_fake_world *w, bool reachable);

/* Chances in 1000 for an instance or a run with `random`, and the longest delay.
 * The default is rather hard on its user. */
struct davit_fake_chances {
	uint16_t fail_create, fail_start, fail_exec, fail_stop, fail_remove; /* each operation */
	uint16_t slow;	   /* each operation takes up to max_delay */
	uint16_t ends;	   /* a run ends by itself, within max_life */
	uint16_t vanishes; /* within max_life */
	uint16_t ignores_stop, lies, never_ready;
	int64_t max_delay, max_life; /* ns */
};
void davit_fake_world_set_chances(struct davit_fake_world *w, const struct davit_fake_chances *chances);

/* Counts, of the truth: objects there, and those of them that run. */
size_t davit_fake_world_objects(const struct davit_fake_world *w);
size_t davit_fake_world_running(const struct davit_fake_world *w);
/* Ends a run now, as from outside (`exit` is copied); DAVIT_ENOENT or DAVIT_ESTATE. */
int davit_fake_world_end(struct davit_fake_world *w, const char *id, const struct davit_exit *exit);
/* Deletes an object behind its user's back; DAVIT_ENOENT. */
int davit_fake_world_delete(struct davit_fake_world *w, const char *id);
/* Takes or frees a port of the world's host, as a foreign program would. */
void davit_fake_world_take_port(struct davit_fake_world *w, uint16_t port, bool taken);

#endif
