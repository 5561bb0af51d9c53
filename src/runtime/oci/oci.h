/* SPDX-License-Identifier: MIT
 *
 * Containers from OCI images without an engine: the OCI runtimes crun and runc are
 * started by davit-keeper, which holds what they start. See docs/runtimes/oci.md.
 *
 * One driver, registered three times: `oci` takes the program that works on this
 * machine ($DAVIT_OCI_RUNTIME, a name or a path, decides otherwise), the other two
 * take theirs.
 */
#ifndef DAVIT_OCI_H
#define DAVIT_OCI_H

#include "davit/runtime.h"

extern const struct davit_runtime_driver davit_oci_driver, davit_crun_driver, davit_runc_driver;

#endif
