/* SPDX-License-Identifier: MIT
 *
 * The daemon's own log, one line a record on standard error, with a level that
 * journald and syslog understand. Libraries return errors instead of logging.
 */
#ifndef DAVIT_BASE_LOG_H
#define DAVIT_BASE_LOG_H

enum davit_log_level { DAVIT_LOG_ERROR, DAVIT_LOG_WARNING, DAVIT_LOG_INFO, DAVIT_LOG_DEBUG };

void davit_log_set_level(enum davit_log_level level);
/* The level named "error", "warning", "info" or "debug"; -1 for another word. */
int davit_log_level_from_name(const char *name);
/* Gives each record's text to fn instead, with the level that it has; NULL: as
 * usual. For a program that has a report of its own (the simulator). */
void davit_log_divert(void (*fn)(enum davit_log_level level, const char *text));
void davit_log(enum davit_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
