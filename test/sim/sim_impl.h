/* SPDX-License-Identifier: MIT
 *
 * What the files of the simulator share.
 */
#ifndef DAVIT_SIM_IMPL_H
#define DAVIT_SIM_IMPL_H

#include "base/buf.h"
#include "base/map.h"
#include "base/units.h"
#include "core/core_impl.h"
#include "runtime/fake/fake.h"
#include "sim.h"
#include "store/faulty.h"

#include <inttypes.h>

#define SEC DAVIT_NSEC_PER_SEC
#define MSEC DAVIT_NSEC_PER_MSEC

enum { SIM_SERVICES = 6, SIM_SUPERVISORS = 3 };

/* What a seed has in store. Not every seed has everything: a fault that is in
 * every run hides those that need a calm one. */
struct sim_mix {
	bool deaths, store_faults, store_delays, chances, outside, unreachable, clock;
	bool supervisors, dependencies, readiness, updates, failing_operations, fresh;
	bool budget, health;
};

/* An instance as the world shows it. */
struct sim_instance {
	char id[DAVIT_ID_MAX];
	int service;
	uint32_t index;
	uint64_t generation;
	bool there, live;
	int64_t ended; /* monotonic, of the last run */
	uint32_t starts, exits, told;
	uint32_t heard;	  /* ends of which this or an earlier daemon has told */
	uint32_t unheard; /* ends that may have been lost, by no fault of the core */
	unsigned epoch;	  /* fresh starts of the service when it was made */
	unsigned deaths;  /* of the daemon when it was made */
	/* What probes have answered of it. */
	bool probing;
	uint32_t streak;      /* failures in a row, in this run */
	uint32_t passes;      /* in this run */
	int64_t answered;     /* monotonic, of the last answer */
	unsigned seen_deaths; /* of the daemon at the last answer */
};

/* What the user knows of a service. */
struct sim_service {
	char name[8];
	char *json;  /* the spec that the last command led to; NULL: none */
	char *maybe; /* with `unsure`: what a command of unknown outcome leads to */
	bool unsure;
	bool busy;	/* a command is under way */
	bool plain;	/* its script ends by itself only and has no failing operations */
	unsigned epoch; /* fresh starts that the user asked for */
};

struct sim {
	struct davit_sim_options options;
	struct davit_sim_totals *totals;
	struct sim_mix mix;
	uint64_t random;
	struct davit_loop *loop;
	struct davit_store *store;
	struct davit_fake_world *world;
	struct davit_core *core; /* NULL while the daemon is down */
	struct davit_op starting;
	bool started;
	bool reachable;
	int64_t reachable_since;
	struct sim_service services[SIM_SERVICES];
	bool supervisor[SIM_SUPERVISORS];
	struct sim_instance **instances;
	size_t n_instances;
	struct davit_map by_id;
	struct davit_list commands; /* under way */
	bool well;		    /* every probe passes from now on */
	struct davit_list probes;   /* under way */
	struct davit_buf trace;
	struct davit_core_listener listener;
	uint64_t last_told; /* id of the last event that this daemon told of */
	unsigned deaths;
	int64_t window_start;
	uint64_t window_calls, still_calls;
	bool failed;
	char *why_later; /* the violation that is looked at again */
};

/* sim.c */
uint64_t sim_random(struct sim *s);
bool sim_chance(struct sim *s, unsigned percent);
int64_t sim_between(struct sim *s, int64_t min, int64_t max);
void sim_trace(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A violation: the report is written, the run ends. */
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_run_for(struct sim *s, int64_t ns);
void sim_core_up(struct sim *s);
void sim_core_down(struct sim *s);

/* generate.c */
/* A spec as YAML, a heap string. */
char *sim_make_spec(struct sim *s, int service, bool *ret_plain);
char *sim_make_supervisor(struct sim *s, int n);
void sim_choose_mix(struct sim *s);

/* command.c */
void sim_make_supervisors(struct sim *s);
void sim_act(struct sim *s);
void sim_calm(struct sim *s);
void sim_kill_all(struct sim *s);

/* fault.c */
void sim_fault(struct sim *s);
void sim_set_reachable(struct sim *s, bool reachable);

/* probe.c */
extern const struct davit_core_probes sim_probes;
/* What holds between the probes' answers and what the core makes of them. */
void sim_check_health(struct sim *s, const struct instance *i);

/* check.c */
void sim_observe(void *user, const struct davit_fake_event *event);
void sim_hear(struct sim *s, const char *json);
/* What holds at any moment. */
void sim_check_now(struct sim *s);
/* What holds when faults are over and everything had its time. */
void sim_check_quiet(struct sim *s);
void sim_check_gone(struct sim *s);
void sim_check_events(struct sim *s);

#endif
