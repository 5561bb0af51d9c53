/* SPDX-License-Identifier: MIT
 *
 * Names of signals, as people write them.
 */
#ifndef DAVIT_BASE_SIGNALS_H
#define DAVIT_BASE_SIGNALS_H

#define DAVIT_SIGNAL_MAX 16 /* room for any formatted name */

/* "SIGTERM", "TERM", "term", "15", "SIGRTMIN+3": the signal's number, or -1
 * for what is none. */
int davit_signal_parse(const char *s);
/* "SIGTERM", "SIGRTMIN+3"; for an unknown number its digits. Fills and returns
 * buf. */
char *davit_signal_format(int signo, char buf[DAVIT_SIGNAL_MAX]);

#endif
