/* SPDX-License-Identifier: MIT
 *
 * What a driver does while a step runs elsewhere: carries what `davit-step inside` says to the monitor, and
 * what the monitor says to that (step/protocol.h).
 */
#ifndef DAVIT_STEP_SESSION_H
#define DAVIT_STEP_SESSION_H

#include "base/buf.h"
#include "davit/error.h"
#include "step/helper.h"
#include "step/protocol.h"

#include <stdbool.h>

enum { STEP_CONTAINER_SIZE = 32 };

struct step_session {
	int stream; /* a socket to the container's first process; -1 before */
	/* There is something to read: it adds packets. Owned by the driver; 0 or a code. */
	int (*hear)(struct step_session *s, struct davit_error *err);
	struct davit_buf packets;
	struct davit_buf
		errors; /* the end of what was said by others than davit-step: whoever runs containers */
	bool over;	/* `end` is its last report, which the monitor has not heard yet */
	bool unwanted;	/* the monitor is gone */
	struct step_report end;
};

void step_session_fini(struct step_session *s);

/* The order of the step, from its descriptor, and as it came: more may be added to that for over there. */
int step_session_read(struct step *ret, struct davit_buf *order, struct davit_error *err);
/* Opens davit-step, to be put into the container. A descriptor, or a code. */
int step_session_program(struct davit_error *err);
/* What the container of the step with that id is called. */
void step_session_container(const char *id, char ret[STEP_CONTAINER_SIZE]);

void step_session_report(const struct step_report *r);
void step_session_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void step_session_fail(const struct davit_error *err, int code);

/* Sends the order, with its length before it. Blocks until it is taken. */
int step_session_order(struct step_session *s, const struct davit_buf *order, struct davit_error *err);
/* Adds what is there on the stream to b: `hear` of a driver begins with it. How many bytes came, 0 for none,
 * or a code; that the stream has ended is one, with what step_session_ended says. */
int step_session_read_stream(struct step_session *s, struct davit_buf *b, struct davit_error *err);
/* Takes what is in `packets`. */
int step_session_take(struct step_session *s, struct davit_error *err);
/* Until it is over or unwanted. */
int step_session_watch(struct step_session *s, struct davit_error *err);
/* More of the errors, and why a container has ended before its step. */
void step_session_say(struct step_session *s, const char *text, size_t n);
int step_session_ended(struct step_session *s, struct davit_error *err);

#endif
