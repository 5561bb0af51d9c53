/* SPDX-License-Identifier: MIT
 *
 * The keepers of one runtime: each holds a bounded number of instances, so there
 * may be several; all that left a socket or slots in the run directory are taken up.
 */
#include "local/local.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KEEPERS_MAX 256
#define OPEN_ATTEMPTS 5 /* within about 0.3 s */

static bool all_up(const struct local_runtime *p)
{
	for (size_t i = 0; i < p->n_keepers; i++)
		if (p->keepers[i]->client.phase != KEEPER_CLIENT_UP)
			return false;
	return true;
}

static bool all_listed(const struct local_runtime *p)
{
	for (size_t i = 0; i < p->n_keepers; i++)
		if (!p->keepers[i]->listed)
			return false;
	return true;
}

/* What LIST did not name is gone; what waited for the keeper is sent now. */
static void settle(struct local_keeper *k)
{
	struct local_runtime *p = k->runtime;
	size_t pos = 0;
	void *value;

	while (davit_map_next(&p->instances, &pos, NULL, &value)) {
		struct local_instance *pi = value;

		if (pi->keeper != k)
			continue;
		if (pi->round != k->round && pi->state != DAVIT_STATE_DESTROYED)
			local_instance_missing(pi);
		if (pi->op && !pi->request)
			local_instance_issue(pi);
	}
}

static void on_all_listed(struct local_runtime *p)
{
	if (!p->adopted) {
		p->adopted = true;
		local_sweep_leftovers(p);
		if (p->ops->leftovers)
			p->ops->leftovers(p);
	}
	if (p->adopt_op)
		davit_op_complete(DAVIT_TAKE(p->adopt_op), 0);
	if (p->lost) {
		p->lost = false;
		p->rt->events->regained(p->rt);
	}
}

static void on_list(struct keeper_request *q, const struct keeper_header *h, const struct davit_error *why)
{
	struct local_keeper *k = DAVIT_CONTAINER_OF(q, struct local_keeper, list);

	(void)why; /* the client connects anew, and LIST is sent again */
	if (!h)
		return;
	if (h->type == KEEPER_INSTANCE) {
		if (h->size >= sizeof(struct keeper_instance))
			local_instance_listed(k, (const void *)h);
		return;
	}
	k->listed = true;
	settle(k);
	if (all_listed(k->runtime))
		on_all_listed(k->runtime);
}

static void list(struct local_keeper *k)
{
	struct local_runtime *p = k->runtime;

	k->round++;
	k->list.answer = on_list;
	if (!local_packet(p, KEEPER_LIST, sizeof(struct keeper_header), ""))
		p->packet.oom = true;
	/* Out of memory for a header: the next connection tries again. */
	keeper_client_send(&k->client, &p->packet, NULL, 0, &k->list, NULL);
}

/* The keeper counts what it holds; what waits to be created there has its place too. */
static void count_waiting(struct local_keeper *k)
{
	size_t pos = 0;
	void *value;

	while (davit_map_next(&k->runtime->instances, &pos, NULL, &value)) {
		const struct local_instance *pi = value;

		if (pi->keeper == k && pi->action == LOCAL_CREATE)
			k->client.slots_used++;
	}
}

static void on_up(struct keeper_client *c, const struct keeper_welcome *w)
{
	struct local_keeper *k = c->user;
	struct local_runtime *p = k->runtime;

	(void)w;
	local_terminals_up(&p->terminals, c);
	count_waiting(k);
	if (p->open_op) {
		if (all_up(p))
			davit_op_complete(DAVIT_TAKE(p->open_op), 0);
		return;
	}
	if (p->adopted || p->adopt_op)
		list(k);
}

static void on_down(struct keeper_client *c, const struct davit_error *why)
{
	struct local_keeper *k = c->user;
	struct local_runtime *p = k->runtime;

	k->listed = false;
	local_terminals_down(&p->terminals, c, why);
	if (p->open_op) {
		/* One that was on its way out is met once; the next attempt starts another. */
		p->open_error = *why;
		if (++k->failures >= OPEN_ATTEMPTS)
			davit_defer(&p->open_failed);
		return;
	}
	if (p->adopted && !p->lost) {
		p->lost = true;
		p->rt->events->lost(p->rt, why);
	}
}

static void on_event(struct keeper_client *c, const struct keeper_header *h)
{
	struct local_keeper *k = c->user;

	if (h->type == KEEPER_TERMINAL_EXITED)
		local_terminals_event(&k->runtime->terminals, h);
	else
		local_instance_event(k->runtime, h);
}

static const struct keeper_callbacks callbacks = {.up = on_up, .down = on_down, .event = on_event};

static struct local_keeper *add(struct local_runtime *p)
{
	struct local_keeper **v, *k;

	if (p->n_keepers >= KEEPERS_MAX)
		return NULL;
	v = reallocarray(p->keepers, p->n_keepers + 1, sizeof(struct local_keeper *));
	if (!v)
		return NULL;
	p->keepers = v;
	k = calloc(1, sizeof *k);
	if (!k)
		return NULL;
	k->runtime = p;
	v[p->n_keepers] = k;
	keeper_client_open(&k->client, (unsigned)p->n_keepers, &p->place, &callbacks, k);
	p->n_keepers++;
	return k;
}

/* One past the highest number in the names keeper-N.sock and keeper-N.slots. */
static unsigned count_traces(const char *run_dir)
{
	DIR *d = opendir(run_dir);
	struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d))) {
		unsigned i;
		char end[8];

		if (sscanf(e->d_name, "keeper-%u.%7s", &i, end) == 2 &&
		    (!strcmp(end, "sock") || !strcmp(end, "slots")) && i < KEEPERS_MAX && i + 1 > n)
			n = i + 1;
	}
	if (d)
		closedir(d);
	return n;
}

int local_keepers_open(struct local_runtime *p, struct davit_error *err)
{
	unsigned n = count_traces(p->place.run_dir);

	if (!n && !p->ops->keeper_on_demand)
		n = 1;
	for (unsigned i = 0; i < n; i++)
		if (!add(p))
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return 0;
}

/* A keeper that keeps nothing need not outlive us; one that does refuses. One
 * that cannot be asked now ends by itself when it finds nobody comes. */
static void dismiss(struct local_keeper *k)
{
	if (k->client.phase != KEEPER_CLIENT_UP)
		return;
	local_packet(k->runtime, KEEPER_QUIT, sizeof(struct keeper_header), "");
	keeper_client_send(&k->client, &k->runtime->packet, NULL, 0, NULL, NULL);
}

void local_keepers_close(struct local_runtime *p)
{
	for (size_t i = 0; i < p->n_keepers; i++) {
		dismiss(p->keepers[i]);
		keeper_client_close(&p->keepers[i]->client);
		free(p->keepers[i]);
	}
	free(p->keepers);
	p->keepers = NULL;
	p->n_keepers = 0;
}

struct local_keeper *local_keepers_choose(struct local_runtime *p)
{
	for (size_t i = 0; i < p->n_keepers; i++) {
		struct keeper_client *c = &p->keepers[i]->client;

		/* One that is not up yet takes what it can hold at most; it is new or
		 * comes back, and waiting for it costs less than one more program. */
		if (c->slots_used < (c->slots_max ? c->slots_max : KEEPER_SLOTS_MAX))
			return p->keepers[i];
	}
	return add(p);
}

void local_keepers_adopt(struct local_runtime *p)
{
	if (!p->n_keepers)
		on_all_listed(p);
	for (size_t i = 0; i < p->n_keepers; i++)
		if (p->keepers[i]->client.phase == KEEPER_CLIENT_UP)
			list(p->keepers[i]);
}
