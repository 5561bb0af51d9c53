/* SPDX-License-Identifier: MIT
 *
 * What the tests of processes share: a system with threads and real processes, and
 * waiting for what is to happen, with generous deadlines.
 */
#ifndef DAVIT_ACTOR_TEST_PROCESSES_H
#define DAVIT_ACTOR_TEST_PROCESSES_H

#include "davit/container.h"

#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SEC (1000 * MS)

extern struct davit_system *sys;
extern struct davit_context *c;
extern _Atomic(int) lines; /* of the log */
/* Was there a line with that? */
bool logged(const char *part);

/* Set-up and tear-down of a test. */
int open_system(void **unused);
int close_system(void **unused);
/* The same, with a hearer of dead letters. */
int open_with(void (*dead)(void *arg, enum davit_dead why, struct davit_ref to,
			   const struct davit_message *m));
void take_line(void *arg, const char *line);
void nap(void);
int finish(struct davit_promise p);
int make(const char *parent, const char *alias, const struct davit_definition *d, unsigned flags);
/* Created and started, with args, or the test fails. */
void start_with(const char *parent, const char *alias, const struct davit_definition *d, const char *args);
struct davit_ref find(const char *address);
enum davit_state state(const char *alias);
/* Waits until it is in that state. */
void become(const char *alias, enum davit_state want);
/* Asks; the answer's text, or "!" and the error's. */
const char *ask_with(const char *address, const char *text, const struct davit_request_options *o);
const char *ask(const char *address, const char *text);
pid_t pid_of(const char *alias);
/* Waits until sent = handled + dead. */
void balanced(void);
/* Until nobody has that pid any more. */
void gone(pid_t pid);
/* Answers "pid" and "who", fails at "fail", "crash" and "exit"; else "ALIAS: TEXT". */
int answer(struct davit_context *k, struct davit_message *m);

#define T(name) cmocka_unit_test_setup_teardown(name, open_system, close_system)

#endif
