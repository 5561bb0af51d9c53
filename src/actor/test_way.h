/* SPDX-License-Identifier: MIT
 *
 * The way of a container to each of its states, for the tests that ask the table of states and operations.
 */
#ifndef DAVIT_ACTOR_TEST_WAY_H
#define DAVIT_ACTOR_TEST_WAY_H

#include "davit/container.h"

/* The operations on one that was created, in order; ended by 0, which is to create it. */
static const enum davit_operation way_to[DAVIT_STATE_COUNT][3] = {
	[DAVIT_STATE_STARTED] = {DAVIT_DO_START},
	[DAVIT_STATE_STOPPED] = {DAVIT_DO_START, DAVIT_DO_STOP},
	[DAVIT_STATE_FAILED] = {DAVIT_DO_START, DAVIT_DO_FAIL},
};

#endif
