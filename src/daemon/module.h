/* SPDX-License-Identifier: MIT
 *
 * Runtimes in shared objects.
 */
#ifndef DAVIT_DAEMON_MODULE_H
#define DAVIT_DAEMON_MODULE_H

#include "davit/runtime.h"

/* Loads the file and finds the driver's table in it, which is borrowed for ever.
 * DAVIT_ENOTSUP in the linker's words. Reads files: blocks for a moment. */
int daemon_module_driver(const char *path, const char *symbol, const struct davit_runtime_driver **ret,
			 struct davit_error *err);

#endif
