/* SPDX-License-Identifier: MIT
 *
 * The simulator: the real core on the fake runtime and a faulty store, under a
 * virtual clock, in one thread. Everything that happens in a run is a function
 * of its seed. See docs/simulation.md.
 */
#ifndef DAVIT_SIM_H
#define DAVIT_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct davit_sim_options {
	uint64_t seed;
	size_t steps; /* commands and faults in the run; 0: as the seed says */
	bool verbose; /* the trace goes to standard error while it happens */
};

/* What a run consisted of: for a reader to see that it did something. */
struct davit_sim_totals {
	uint64_t commands, refused, failed_commands;
	uint64_t faults, deaths;
	uint64_t starts, exits, events, calls;
	int64_t virtual_ns;
};

/* Runs one seed to its end. True if every invariant held; otherwise the seed, the
 * trace and the fake world's last events are on standard error. *totals is added
 * to. Not reentrant: the log and the maps' seed are the process's. */
bool davit_sim_run(const struct davit_sim_options *options, struct davit_sim_totals *totals);

#endif
