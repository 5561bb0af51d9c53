/* SPDX-License-Identifier: MIT
 *
 * Log lines on the terminal, shared by `davit logs` and attached runs.
 */
#ifndef DAVIT_CLI_LOGS_H
#define DAVIT_CLI_LOGS_H

#include "cli/cli.h"

struct davit_log_printer {
	const struct davit_cli *cli;
	const char *name; /* of the service */
	bool json, timestamps;
	bool split;	    /* lines of standard error go to ours */
	bool prefix;	    /* "name.0 | " before each line */
	int64_t last_index; /* -1: none yet */
	json_t *cursors;    /* instance -> cursor of its last line; NULL before the first */
};

/* Prints a line {instance, index, time, stream, text, cursor} and remembers its
 * cursor. The prefix is switched on when lines of a second instance appear. */
void davit_log_print(struct davit_log_printer *p, json_t *line);
/* Adds to the target of a log request where to resume: behind the last line of
 * each instance, and for the others with what they write after the start of
 * this program. Returns false before the first line. */
bool davit_log_resume(const struct davit_log_printer *p, struct davit_buf *target);
void davit_log_printer_fini(struct davit_log_printer *p);

#endif
