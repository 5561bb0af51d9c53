/* SPDX-License-Identifier: MIT
 *
 * What a seed makes up: its mix of faults, and specs.
 */
#include "sim_impl.h"

#include <string.h>

void sim_choose_mix(struct sim *s)
{
	bool *const all[] = {
		&s->mix.deaths,	      &s->mix.store_faults, &s->mix.store_delays, &s->mix.chances,
		&s->mix.outside,      &s->mix.unreachable,  &s->mix.clock,	  &s->mix.supervisors,
		&s->mix.dependencies, &s->mix.readiness,    &s->mix.updates,	  &s->mix.failing_operations,
		&s->mix.fresh,	      &s->mix.budget,	    &s->mix.health,
	};
	unsigned percent = (unsigned)sim_between(s, 10, 80);

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(all); k++)
		*all[k] = sim_chance(s, percent);
}

static const char *pick(struct sim *s, const char *const *words, size_t n)
{
	return words[sim_random(s) % n];
}
#define PICK(s, ...)                                                                                         \
	pick((s), (const char *const[]){__VA_ARGS__},                                                        \
	     sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* What it does when it runs. */
static void life(struct sim *s, struct davit_buf *b, bool *plain)
{
	switch (sim_random(s) % 10) {
	case 0:
	case 1:
	case 2:
		davit_buf_addf(b, ", run, %dms", (int)sim_between(s, 1, 60000));
		davit_buf_addf(b, ", exit, '%s'", PICK(s, "0", "0", "1", "3", "78"));
		break;
	case 3:
		davit_buf_addf(b, ", exit, '%s'", PICK(s, "0", "1", "3"));
		break;
	case 4:
		davit_buf_adds(b, ", crash-loop");
		break;
	case 5:
		*plain = false;
		davit_buf_addf(b, ", %s, after, %dms",
			       PICK(s, "signal, '9'", "oom", "vanish", "signal, '15'"),
			       (int)sim_between(s, 0, 30000));
		break;
	default:
		davit_buf_adds(b, ", run, 30d");
	}
}

/* How the platform carries it. */
static void manner(struct sim *s, struct davit_buf *b, bool *plain)
{
	static const char *const operations[] = {"create", "start", "stop", "remove"};

	for (size_t k = 0; k < 4; k++)
		if (sim_chance(s, 15))
			davit_buf_addf(b, ", %s-delay, %dms", operations[k], (int)sim_between(s, 1, 3000));
	if (sim_chance(s, 15))
		davit_buf_adds(b, ", ignore-stop");
	if (!s->mix.failing_operations)
		return;
	for (size_t k = 0; k < 4; k++)
		if (sim_chance(s, 12)) {
			*plain = false;
			davit_buf_addf(b, ", fail-%s, '%d'", operations[k], (int)sim_between(s, 1, 3));
		}
	if (sim_chance(s, 8)) {
		*plain = false;
		davit_buf_addf(b, ", %s",
			       PICK(s, "fail-exec", "fail-exec, '2'", "fail-start", "fail-create"));
	}
	if (sim_chance(s, 8)) {
		*plain = false;
		davit_buf_addf(b, ", lie, %dms", (int)sim_between(s, 1, 1500));
	}
}

static void readiness(struct sim *s, struct davit_buf *script, struct davit_buf *b, bool *plain)
{
	if (!s->mix.readiness || sim_chance(s, 50))
		return;
	*plain = false;
	davit_buf_addf(b, "ready: {type: %s, timeout: %dms%s}\n", PICK(s, "notify", "notify", "fd", "log"),
		       (int)sim_between(s, 500, 8000), ", pattern: 'up'");
	if (sim_chance(s, 10))
		davit_buf_adds(script, ", never-ready");
	else
		davit_buf_addf(script, ", ready-after, %dms", (int)sim_between(s, 0, 6000));
}

/* Probes have their own mind (probe.c); commands pass in the end. */
static void health(struct sim *s, bool with_ready, struct davit_buf *b, bool *plain)
{
	int64_t interval = sim_between(s, 200, 4000), retries = sim_between(s, 1, 4);

	if (!s->mix.health || sim_chance(s, 40))
		return;
	*plain = false;
	davit_buf_addf(b,
		       "health: {type: %s, role: %s, interval: %dms, retries: %d, timeout: %dms, "
		       "startPeriod: %dms}\n",
		       PICK(s, "tcp, port: 80", "http, port: 80", "file, file: /up",
			    "command, command: ['true']", "command, command: [sleep, 90ms]"),
		       PICK(s, "liveness", "liveness", "readiness", with_ready ? "readiness" : "startup"),
		       (int)interval, (int)retries, (int)sim_between(s, 100, 3000),
		       (int)sim_between(s, 0, 3000));
}

static void restart(struct sim *s, struct davit_buf *b)
{
	int64_t initial = sim_between(s, 10, 3000);

	davit_buf_addf(b, "restart:\n  policy: %s\n",
		       PICK(s, "on-failure", "on-failure", "always", "never", "unless-stopped"));
	if (sim_chance(s, 60))
		davit_buf_addf(b, "  retries: %d\n", (int)sim_between(s, 0, 6));
	if (sim_chance(s, 15))
		davit_buf_adds(b, "  success: [3]\n");
	if (sim_chance(s, 15))
		davit_buf_adds(b, "  prevent: [78, SIGSEGV]\n");
	davit_buf_addf(b, "  backoff: {initial: %dms, max: %ds, factor: %d, jitter: %s, reset: %ds}\n",
		       (int)initial, (int)sim_between(s, 8, 30), (int)sim_between(s, 2, 4),
		       PICK(s, "0", "0.1", "1"), (int)sim_between(s, 5, 100));
}

char *sim_make_spec(struct sim *s, int service, bool *ret_plain)
{
	struct davit_buf b = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF script = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF ready = DAVIT_BUF_INIT;
	bool plain = true;

	davit_buf_adds(&script, "fake");
	life(s, &script, &plain);
	manner(s, &script, &plain);
	if (s->mix.chances && sim_chance(s, 60)) {
		plain = false;
		davit_buf_adds(&script, ", random");
	}
	readiness(s, &script, &ready, &plain);
	davit_buf_addf(&b, "name: s%d\ncommand: [%s]\n", service, davit_buf_str(&script));
	/* The pattern belongs to readiness by log only. */
	if (ready.len) {
		const char *text = davit_buf_str(&ready);
		if (strstr(text, "type: log"))
			davit_buf_addf(&b, "env: {DAVIT_FAKE: 'log up every %dms count 1'}\n%s",
				       (int)sim_between(s, 1, 4000), text);
		else
			davit_buf_addf(&b, "%.*s}\n", (int)(strstr(text, ", pattern") - text), text);
	}
	health(s, ready.len > 0, &b, &plain);
	davit_buf_addf(&b, "instances: %d\n", (int)(sim_chance(s, 50) ? 1 : sim_between(s, 0, 4)));
	restart(s, &b);
	davit_buf_addf(&b, "stop: {grace: %dms}\n", (int)sim_between(s, 0, 4000));
	if (s->mix.dependencies && service && sim_chance(s, 60)) {
		davit_buf_addf(&b, "dependsOn: [{service: s%d, condition: %s}]\n",
			       (int)(sim_random(s) % (unsigned)service),
			       PICK(s, "started", "ready", "completed"));
		plain = false;
	}
	if (s->mix.supervisors && sim_chance(s, 60)) {
		davit_buf_addf(&b, "supervisor: v%d\n", (int)(sim_random(s) % SIM_SUPERVISORS));
		if (sim_chance(s, 20))
			davit_buf_adds(&b, "significant: true\n");
		plain = false;
	}
	davit_buf_addf(&b, "update: {order: %s, parallel: %d}\n", PICK(s, "start-first", "stop-first"),
		       (int)sim_between(s, 1, 3));
	davit_buf_addf(&b, "metadata: {made: '%d'}\n", (int)sim_between(s, 0, 1000));
	*ret_plain = plain;
	return davit_buf_take(&b);
}

char *sim_make_supervisor(struct sim *s, int n)
{
	struct davit_buf b = DAVIT_BUF_INIT;
	const char *escalation = PICK(s, "isolate", "parent", "restart");

	davit_buf_addf(&b, "kind: Supervisor\nname: v%d\nstrategy: %s\nescalation: %s\n", n,
		       PICK(s, "one-for-one", "one-for-all", "rest-for-one"), escalation);
	if (!strcmp(escalation, "restart"))
		davit_buf_addf(&b, "cooldown: %ds\n", (int)sim_between(s, 1, 20));
	davit_buf_addf(&b, "intensity: {restarts: %d, period: %ds}\n", (int)sim_between(s, -1, 6),
		       (int)sim_between(s, 1, 60));
	if (sim_chance(s, 25))
		davit_buf_adds(&b, "autoShutdown: true\n");
	/* Later ones may stand under earlier ones. */
	if (n && sim_chance(s, 40))
		davit_buf_addf(&b, "supervisor: v%d\n", (int)(sim_random(s) % (unsigned)n));
	return davit_buf_take(&b);
}
