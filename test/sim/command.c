/* SPDX-License-Identifier: MIT
 *
 * What a user does to the system.
 *
 * Of each service is kept what its record must be. A command whose answer never
 * came leaves two possibilities until the store is asked.
 */
#include "sim_impl.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { BATCH = 3 };

struct command {
	struct davit_list list;
	struct davit_op op;
	struct sim *sim;
	char what[96];
	size_t n;
	int service[BATCH];
	char *json[BATCH]; /* what each record becomes; NULL: gone */
	bool plain[BATCH];
	bool fresh[BATCH]; /* it starts everything afresh */
	bool made[BATCH];  /* the script is new */
};

static void command_free(struct command *c)
{
	for (size_t k = 0; k < c->n; k++)
		free(c->json[k]);
	davit_list_remove(&c->list);
	free(c);
}

static struct command *command_new(struct sim *s)
{
	struct command *c = calloc(1, sizeof *c);

	c->sim = s;
	davit_list_init(&c->list);
	return c;
}

static void take(struct sim_service *t, struct command *c, size_t k)
{
	free(t->json);
	t->json = DAVIT_TAKE(c->json[k]);
	if (c->made[k])
		t->plain = c->plain[k];
	t->epoch += c->fresh[k];
}

static void done(struct davit_op *op, int result)
{
	struct command *c = op->user;
	struct sim *s = c->sim;
	bool unknown = result == DAVIT_ETIMEDOUT || result == DAVIT_ECLOSED || result == DAVIT_ECANCELED;

	sim_trace(s, "answer: %s: %s", c->what, result < 0 ? op->error.message : "done");
	s->totals->failed_commands += result < 0;
	for (size_t k = 0; k < c->n; k++) {
		struct sim_service *t = &s->services[c->service[k]];
		t->busy = false;
		if (result == 0) {
			take(t, c, k);
		} else if (unknown) {
			t->unsure = true;
			t->plain = false;
			t->epoch++;
			free(t->maybe);
			t->maybe = DAVIT_TAKE(c->json[k]);
		}
	}
	command_free(c);
}

/* --- what the store says --- */

struct found {
	const char *key;
	char *json;
};

static bool take_record(void *user, const struct davit_kv *kv)
{
	static const char head[] = "{\"spec\":", tail[] = ",\"created\":";
	struct found *f = user;
	const char *value = kv->value, *end;

	if (strcmp(kv->key, f->key))
		return false;
	end = memmem(value, kv->len, tail, sizeof tail - 1);
	if (end && !memcmp(value, head, sizeof head - 1))
		f->json = strndup(value + sizeof head - 1, (size_t)(end - value) - (sizeof head - 1));
	return false;
}

static char *recorded(struct sim *s, int service)
{
	char key[64];
	struct found f = {.key = key};
	struct davit_error err;
	int64_t revision;

	snprintf(key, sizeof key, "services/default/s%d/latest", service);
	if (s->store->driver->list(s->store, "services/", key, 1, take_record, &f, &revision, &err) < 0)
		sim_fail(s, "the store cannot be read: %s", err.message);
	return f.json;
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* The record is what the last command made it, or, after one without an answer,
 * what that one would have made it. */
static void settle(struct sim *s, int service)
{
	struct sim_service *t = &s->services[service];
	char *now;

	if (t->busy)
		return;
	now = recorded(s, service);
	if (!same(now, t->json) && !(t->unsure && same(now, t->maybe)))
		sim_fail(s, "the record of %s is\n  %s\nbut the last command made it\n  %s", t->name,
			 now ? now : "not there", t->json ? t->json : "not there");
	free(t->json);
	free(t->maybe);
	t->json = now;
	t->maybe = NULL;
	t->unsure = false;
}

/* --- commands --- */

static int begin(struct command *c, int (*call)(struct command *c, void *arg, struct davit_error *err),
		 void *arg)
{
	struct sim *s = c->sim;
	struct davit_error err = {0};
	int r;

	davit_op_init(&c->op, s->loop, done, c);
	davit_op_begin(&c->op, 0);
	for (size_t k = 0; k < c->n; k++)
		s->services[c->service[k]].busy = true;
	s->totals->commands++;
	davit_list_add_tail(&s->commands, &c->list);
	r = call(c, arg, &err);
	sim_trace(s, "user: %s%s%s", c->what, r < 0 ? ": refused: " : "", r < 0 ? err.message : "");
	if (r == 0)
		return 0;
	if (!err.message[0])
		sim_fail(s, "a refusal without a reason: %s", c->what);
	s->totals->refused++;
	for (size_t k = 0; k < c->n; k++)
		s->services[c->service[k]].busy = false;
	davit_timer_stop(&c->op.deadline);
	command_free(c);
	return r;
}

struct apply {
	struct davit_spec **specs;
	size_t n;
	enum davit_apply_mode mode;
	bool force;
};

static int call_apply(struct command *c, void *arg, struct davit_error *err)
{
	struct apply *a = arg;

	return davit_core_apply(c->sim->core, a->specs, a->n, a->mode, a->force, 0, "sim", &c->op, err);
}

static bool free_to_use(struct sim *s, int service)
{
	if (s->services[service].busy)
		return false;
	settle(s, service);
	return !s->failed;
}

static void apply_text(struct sim *s, struct command *c, const char *text, enum davit_apply_mode mode,
		       bool force)
{
	struct apply a = {.mode = mode, .force = force};
	struct davit_error err;

	if (davit_spec_parse(text, strlen(text), NULL, &a.specs, &a.n, &err) < 0) {
		sim_fail(s, "a spec of ours cannot be read: %s\n%s", err.message, text);
		command_free(c);
		return;
	}
	for (size_t k = 0; k < c->n; k++)
		c->json[k] = davit_spec_json(a.specs[k]);
	begin(c, call_apply, &a);
	davit_spec_free_all(a.specs, a.n);
}

static void do_apply(struct sim *s)
{
	struct command *c = command_new(s);
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	enum davit_apply_mode mode = (enum davit_apply_mode)(sim_random(s) % 3);
	size_t n = sim_chance(s, 25) ? (size_t)sim_between(s, 2, BATCH) : 1;
	int first = (int)(sim_random(s) % SIM_SERVICES);

	for (size_t k = 0; k < n && first + (int)k < SIM_SERVICES; k++) {
		int service = first + (int)k;
		DAVIT_AUTO_FREE char *spec = NULL;
		/* What is there is changed only where the seed has updates. */
		if (!free_to_use(s, service) || (s->services[service].json && !s->mix.updates))
			break;
		spec = sim_make_spec(s, service, &c->plain[k]);
		davit_buf_addf(&text, "%s%s", k ? "---\n" : "", spec);
		c->made[k] = c->fresh[k] = true;
		c->service[k] = service;
		c->n++;
	}
	if (!c->n || s->failed) {
		command_free(c);
		return;
	}
	if (c->n == 1 && !s->services[first].json)
		mode = DAVIT_APPLY_EITHER;
	snprintf(c->what, sizeof c->what, "apply s%d (%zu), mode %d", first, c->n, (int)mode);
	sim_trace(s, "%s", davit_buf_str(&text));
	apply_text(s, c, davit_buf_str(&text), mode, sim_chance(s, 20));
}

/* It waited for a runtime to be opened, and is answered late. */
static void broken_done(struct davit_op *op, int result)
{
	struct command *c = op->user;

	if (result == 0)
		sim_fail(c->sim, "a broken spec was accepted");
	sim_trace(c->sim, "answer: %s: %s", c->what, op->error.message);
	command_free(c);
}

/* What must be refused and change nothing. */
static void do_broken(struct sim *s)
{
	static const char *const tails[] = {
		"resources: {memory: 64Mi}\n", "supervisor: nobody\n",
		"runtime: nowhere\n",	       "secrets: [key]\n",
		"dependsOn: [s0]\n",
	};
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct davit_spec **specs;
	struct davit_error err;
	struct command *c;
	size_t n;

	davit_buf_addf(&text, "name: s0\ncommand: [fake]\n%s",
		       tails[sim_random(s) % DAVIT_ARRAY_SIZE(tails)]);
	if (davit_spec_parse(davit_buf_str(&text), text.len, NULL, &specs, &n, &err) < 0)
		return;
	c = command_new(s);
	snprintf(c->what, sizeof c->what, "a broken spec");
	davit_op_init(&c->op, s->loop, broken_done, c);
	davit_op_begin(&c->op, 0);
	if (davit_core_apply(s->core, specs, n, DAVIT_APPLY_EITHER, false, 0, "sim", &c->op, &err) == 0) {
		sim_trace(s, "user: a broken spec");
	} else {
		sim_trace(s, "user: a broken spec: %s", err.message);
		command_free(c);
	}
	davit_spec_free_all(specs, n);
}

static void do_supervisor(struct sim *s, int n)
{
	struct command *c = command_new(s);
	DAVIT_AUTO_FREE char *text = sim_make_supervisor(s, n);
	struct apply a = {.mode = DAVIT_APPLY_EITHER};
	struct davit_error err;

	snprintf(c->what, sizeof c->what, "apply supervisor v%d", n);
	sim_trace(s, "%s", text);
	if (davit_spec_parse(text, strlen(text), NULL, &a.specs, &a.n, &err) < 0) {
		sim_fail(s, "a supervisor of ours cannot be read: %s\n%s", err.message, text);
		command_free(c);
		return;
	}
	begin(c, call_apply, &a);
	davit_spec_free_all(a.specs, a.n);
}

static void wait_commands(struct sim *s);

void sim_make_supervisors(struct sim *s)
{
	for (int n = 0; n < SIM_SUPERVISORS && !s->failed; n++) {
		do_supervisor(s, n);
		wait_commands(s);
	}
}

struct single {
	struct davit_selector sel;
	int64_t number;
	bool wait;
};

static int call_scale(struct command *c, void *arg, struct davit_error *err)
{
	struct single *x = arg;

	return davit_core_scale(c->sim->core, &x->sel, x->number, "sim", &c->op, err);
}

static int call_control(struct command *c, void *arg, struct davit_error *err)
{
	struct single *x = arg;

	return davit_core_control(c->sim->core, &x->sel, (enum davit_service_verb)x->number, "sim", &c->op,
				  err);
}

static int call_kill(struct command *c, void *arg, struct davit_error *err)
{
	struct single *x = arg;

	return davit_core_kill(c->sim->core, &x->sel, x->wait, "sim", &c->op, err);
}

static int call_signal(struct command *c, void *arg, struct davit_error *err)
{
	struct single *x = arg;

	return davit_core_signal(c->sim->core, &x->sel, NULL, (int)x->number, &c->op, err);
}

static void do_single(struct sim *s, int service, const char *what,
		      int (*call)(struct command *, void *, struct davit_error *), int64_t number)
{
	struct sim_service *t = &s->services[service];
	struct single x = {.sel = {.name = t->name}, .number = number, .wait = sim_chance(s, 50)};
	struct davit_spec *spec = NULL;
	struct davit_error err;
	struct command *c;

	if (!free_to_use(s, service))
		return;
	c = command_new(s);
	c->n = 1;
	c->service[0] = service;
	snprintf(c->what, sizeof c->what, "%s %s %d", what, t->name, (int)number);
	if (t->json && davit_spec_parse_one(t->json, strlen(t->json), NULL, &spec, &err) == 0) {
		if (call == call_scale) {
			spec->instances = number;
			c->fresh[0] = true;
		} else if (call == call_control) {
			spec->stopped = number == DAVIT_SERVICE_STOP;
			c->fresh[0] = true;
		}
		c->json[0] = call == call_kill ? NULL : davit_spec_json(spec);
		davit_spec_free(spec);
	}
	if (call == call_kill)
		c->fresh[0] = true;
	if (call == call_signal)
		c->plain[0] = t->plain = false;
	begin(c, call, &x);
}

static void do_user(struct sim *s)
{
	int service = (int)(sim_random(s) % SIM_SERVICES);

	switch (sim_random(s) % 16) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
	case 5:
		do_apply(s);
		break;
	case 6:
	case 7:
		do_single(s, service, "scale", call_scale, sim_between(s, 0, 4));
		break;
	case 8:
		do_single(s, service, "stop", call_control, DAVIT_SERVICE_STOP);
		break;
	case 9:
	case 10:
		if (s->mix.fresh)
			do_single(s, service, "start", call_control, DAVIT_SERVICE_START);
		break;
	case 11:
		if (s->mix.fresh)
			do_single(s, service, "restart", call_control, DAVIT_SERVICE_RESTART);
		break;
	case 12:
		do_single(s, service, "kill", call_kill, 0);
		break;
	case 13:
		if (s->mix.outside)
			do_single(s, service, "signal", call_signal, sim_chance(s, 50) ? SIGKILL : SIGUSR1);
		break;
	case 14:
		if (s->mix.supervisors)
			do_supervisor(s, (int)(sim_random(s) % SIM_SUPERVISORS));
		break;
	default:
		do_broken(s);
	}
}

/* --- a step --- */

void sim_act(struct sim *s)
{
	static const int64_t pauses[] = {0, 0, 1, 20, 100, 500, 1000, 3000, 10000, 30000};

	if (s->started && sim_chance(s, 60))
		do_user(s);
	else
		sim_fault(s);
	sim_run_for(s, pauses[sim_random(s) % DAVIT_ARRAY_SIZE(pauses)] * sim_between(s, 0, MSEC));
}

/* --- afterwards --- */

static void wait_commands(struct sim *s)
{
	for (int n = 0; !davit_list_empty(&s->commands) && !s->failed; n++) {
		if (n > 200)
			sim_fail(s, "a command has no answer: %s",
				 DAVIT_LIST_FIRST(&s->commands, struct command, list)->what);
		sim_run_for(s, SEC);
	}
	for (int k = 0; k < SIM_SERVICES && !s->failed; k++)
		settle(s, k);
}

void sim_calm(struct sim *s)
{
	static const struct davit_fake_chances none = {0};

	sim_trace(s, "no more faults");
	sim_set_reachable(s, true);
	davit_faulty_fail_for(s->store, 0, 0);
	davit_faulty_plan(s->store, NULL);
	davit_fake_world_set_chances(s->world, &none);
	s->well = true;
	if (!s->core)
		sim_core_up(s);
	wait_commands(s);
}

void sim_kill_all(struct sim *s)
{
	for (int k = 0; k < SIM_SERVICES && !s->failed; k++)
		if (s->services[k].json)
			do_single(s, k, "kill", call_kill, 0);
	wait_commands(s);
}
