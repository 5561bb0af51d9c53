/* SPDX-License-Identifier: MIT
 *
 * Crash points. DAVIT_FAULT("name") marks a place where the process may die at
 * the worst moment. Set in the environment:
 *   DAVIT_FAULT_LIST=FILE    each point that is passed appends its name to FILE
 *   DAVIT_FAULT=name[:N]     the process kills itself (SIGKILL) the Nth time
 *                            (default 1) that the point is passed
 * Without either, a point costs one load and a branch.
 */
#ifndef DAVIT_BASE_FAULT_H
#define DAVIT_BASE_FAULT_H

extern int davit_fault_armed; /* 0 unarmed, 1 armed, -1 not looked yet */
void davit_fault_hit(const char *name);

#define DAVIT_FAULT(name)                                                                                    \
	do {                                                                                                 \
		if (__builtin_expect(davit_fault_armed, 0))                                                  \
			davit_fault_hit(name);                                                               \
	} while (0)

#endif
