/* SPDX-License-Identifier: MIT
 *
 * Runtimes out of process: any executable that speaks JSON lines on its standard
 * input and output (docs/runtime-protocol.md) as a driver like any other.
 *
 * The program is started by open and ends with close. When it breaks the
 * protocol, dies or falls silent it is started again, with growing pauses; the
 * instances that it then reports are taken up where they were, and what happened
 * meanwhile is told.
 */
#ifndef DAVIT_RUNTIME_EXEC_H
#define DAVIT_RUNTIME_EXEC_H

#include "davit/runtime.h"

/* Executables of this name are found as runtimes: davit-runtime-NAME. */
#define DAVIT_EXEC_PREFIX "davit-runtime-"

/* Makes a driver for the executable at an absolute path (copied). Its name is
 * the file's, without DAVIT_EXEC_PREFIX. Nothing is started before open. Needs
 * the real loop. DAVIT_EINVAL for a name that no driver may have. */
int davit_exec_driver_new(const char *path, const struct davit_runtime_driver **ret, struct davit_error *err);
/* Frees one made above, once no runtime uses it. NULL is fine. */
void davit_exec_driver_free(const struct davit_runtime_driver *driver);

#endif
