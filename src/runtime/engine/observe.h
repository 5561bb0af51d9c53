/* SPDX-License-Identifier: MIT
 *
 * What the engine says of a container, in davit's words. No loop, no calls.
 */
#ifndef DAVIT_ENGINE_OBSERVE_H
#define DAVIT_ENGINE_OBSERVE_H

#include "base/buf.h"
#include "davit/runtime.h"

#include <jansson.h>

struct observation {
	char container[65]; /* the engine's id */
	char id[DAVIT_ID_MAX];
	char home[DAVIT_ID_MAX];
	const char *label; /* borrowed from the JSON */
	enum davit_state state;
	bool paused, init;
	pid_t pid;
	int64_t started; /* unix ns; 0: never */
	struct davit_exit exit;
	char address[46];
	char image[80]; /* the engine's id of its image */
};

/* Reads the answer of /containers/ID/json. DAVIT_EPROTO. *ret borrows from o. */
int observe(const json_t *o, struct observation *ret, struct davit_error *err);

/* An exit from the status that the engine gives: codes above 128 that are a signal
 * are that signal, as in a shell; an engine does not tell them apart. */
void observe_exit(int status, bool oom, int64_t time, struct davit_exit *ret);

/* Whether what an engine says of a start (or exec) that failed means that the
 * program could not be executed. */
bool observe_exec_failure(const char *message);
/* And whether that is because there is no such program. */
bool observe_no_program(const char *message);
/* Is this start's failure one that no later start of the same container can do better at? */
bool observe_broken(const char *message);
/* The port that it says is taken; 0: it says something else. */
unsigned observe_port_in_use(const char *message);

/* One event of a container. */
struct happening {
	char action[32];
	char container[65];
	char id[DAVIT_ID_MAX];
	int64_t time; /* unix ns */
	int exit_code;
};
/* DAVIT_EPROTO. An event of something else has an empty id. */
int observe_event(const char *text, size_t n, struct happening *ret, struct davit_error *err);

/* Docker's answer to /info. */
void observe_info(const json_t *info, struct davit_capabilities *ret, bool *ret_swap);
/* The answer of /containers/ID/stats; memory without what is only a cache. */
void observe_stats(const json_t *o, struct davit_stats *ret);

/* "1.41" as 141 (minor only: 41); 0 when it is none. */
int observe_version(const char *text);

#endif
