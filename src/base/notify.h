/* SPDX-License-Identifier: MIT
 *
 * What a program tells whoever started it, by sd_notify's protocol: systemd, or davit.
 */
#ifndef DAVIT_BASE_NOTIFY_H
#define DAVIT_BASE_NOTIFY_H

#include "davit/error.h"

/* Sends a state such as "READY=1" to $NOTIFY_SOCKET; does nothing where there is none. */
int davit_notify(const char *state, struct davit_error *err);

#endif
