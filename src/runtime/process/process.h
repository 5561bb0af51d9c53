/* SPDX-License-Identifier: MIT
 *
 * The runtime `process`: workloads are plain processes of this host, kept by
 * davit-keeper, so that they outlive the daemon. See docs/runtimes/process.md.
 */
#ifndef DAVIT_PROCESS_H
#define DAVIT_PROCESS_H

#include "davit/runtime.h"

extern const struct davit_runtime_driver davit_process_driver;

#endif
