/* SPDX-License-Identifier: MIT
 *
 * davit terminal: what its files share.
 */
#ifndef DAVIT_CLI_TERMINAL_H
#define DAVIT_CLI_TERMINAL_H

#include "cli/cli.h"

enum { DAVIT_KEYS_MAX = 16 };

/* The keys that detach, and how far the user has typed them. */
struct davit_keys {
	unsigned char key[DAVIT_KEYS_MAX];
	size_t n;
	size_t typed; /* of them, in order */
};

/* terminal_keys.c: "ctrl-p,ctrl-q" or single characters with commas between; ""
 * is none. 0 or DAVIT_EINVAL. */
int davit_keys_parse(const char *text, struct davit_keys *ret, struct davit_error *err);
/* What of n typed bytes is to be sent goes to `out`: keys that may become the
 * sequence wait for the next one. True when the sequence is whole. */
bool davit_keys_filter(struct davit_keys *k, const char *data, size_t n, struct davit_buf *out);

/* terminal_session.c: where a session begins, and how it ended. */
struct davit_terminal_use {
	const char *target; /* of the API: opens one or attaches to one; without rows and columns */
	struct davit_keys keys;
	char id[17];   /* of the terminal, once it is known */
	bool detached; /* by the user */
};
/* Joins this terminal to that one until the command ends (its exit status) or the user detaches
 * (0). A signal ends the program, and so does the end of this terminal (SIGHUP). A daemon that goes
 * away is waited for, and started again, for 30 s. The terminal here is as it was, after. */
int davit_terminal_use(struct davit_cli *cli, struct davit_terminal_use *use, struct davit_error *err);

#endif
