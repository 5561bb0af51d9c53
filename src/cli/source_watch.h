/* SPDX-License-Identifier: MIT
 *
 * Changes of a source directory (inotify), for `davit run --watch`.
 */
#ifndef DAVIT_CLI_SOURCE_WATCH_H
#define DAVIT_CLI_SOURCE_WATCH_H

#include "davit/error.h"

#include <stdint.h>

struct davit_source_watch;

/* Watches a directory with all that is below it (but .git and node_modules), or
 * one file. */
int davit_source_watch_open(const char *path, struct davit_source_watch **ret, struct davit_error *err);
/* Blocks until something has changed since the last return (or open) and then
 * nothing for delay_ns. */
int davit_source_watch_wait(struct davit_source_watch *w, int64_t delay_ns, struct davit_error *err);
void davit_source_watch_close(struct davit_source_watch *w);

#endif
