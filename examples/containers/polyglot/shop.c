/* SPDX-License-Identifier: MIT
 *
 * Four containers in three languages: each a process, but for the supervisor of them all.
 *
 *	Main
 *	└── shop            C, a thread: restarts them
 *	    ├── prices      Python, a process
 *	    ├── taxes       Node.js, a process: asks prices
 *	    └── till        C, a process: asks taxes
 *
 * They know each other by their aliases. Each of the three is killed while the others
 * go on; the next customer is served all the same.
 */
#include "davit/container.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

enum { BUY = 1 };

/* ---------------------------------------------- the till, in its own process */

/* The answer of taxes is the till's answer, to the customer whose request was kept. */
static void on_taxes(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct davit_message *m = arg;

	if (o->state == DAVIT_PROMISE_FULFILLED)
		davit_reply(c, m, o->data, o->size);
	else
		davit_refuse(c, m, o->code, "%s", o->message);
	davit_message_free(c, m);
}

static int till_behave(struct davit_context *c, struct davit_message *m)
{
	struct davit_promise taxes;
	struct davit_ref ref;
	int r;

	if (davit_find(c, "taxes", &ref) || davit_ask(c, ref, BUY, m->data, m->size, NULL, &taxes))
		return davit_refuse(c, m, DAVIT_EUNAVAIL, "the till is out of order");
	m = davit_take(c);
	if ((r = davit_done(c, taxes, on_taxes, m)))
		davit_message_free(c, m);
	return r;
}

static int pid(struct davit_context *c, struct davit_message *m, const char *parameters)
{
	char text[16];

	snprintf(text, sizeof text, "%d", (int)getpid());
	return davit_reply(c, m, text, strlen(text));
}

static const struct davit_command_entry commands[] = {{"pid", pid}, {0}};
static const struct davit_definition till = {
	.name = "Till",
	.type = DAVIT_PROCESS, /* DAVIT_THREAD would do as well */
	.behaviour = till_behave,
	.commands = commands,
};

/* ------------------------------------------------- the others, and the shop */

static const struct davit_definition prices = {
	.name = "Prices",
	.type = DAVIT_PROCESS,
	.command = (const char *const[]){"python3", SHOP "/prices.py", NULL},
};
static const struct davit_definition taxes = {
	.name = "Taxes",
	.type = DAVIT_PROCESS,
	.command = (const char *const[]){"node", SHOP "/taxes.mjs", NULL},
};

static int shop_behave(struct davit_context *c, struct davit_message *m)
{
	return 0;
}

static const struct davit_definition shop = {
	.name = "Shop",
	.behaviour = shop_behave,
	.options = {.strategy = DAVIT_ONE_FOR_ONE, .max_restarts = 5, .period = 10 * SECOND},
};

static int open_shop(struct davit_context *c)
{
	static const struct davit_create staff[] = {
		{.alias = "shop", .definition = &shop, .flags = DAVIT_CREATE_START},
		{.alias = "prices", .definition = &prices, .parent = "shop", .flags = DAVIT_CREATE_START},
		{.alias = "taxes",
		 .definition = &taxes,
		 .args = "0.19",
		 .parent = "shop",
		 .flags = DAVIT_CREATE_START},
		{.alias = "till", .definition = &till, .parent = "shop", .flags = DAVIT_CREATE_START},
	};
	struct davit_error err = {0};
	struct davit_promise open;
	int r = davit_containers_create(c, staff, 4, &open);

	if (!r)
		r = davit_await(c, open, 30 * SECOND, NULL, &err);
	if (r)
		fprintf(stderr, "the shop is closed: %s\n", err.message);
	return r;
}

/* ---------------------------------------------------------------- customers */

static int buy(struct davit_context *c, const char *item)
{
	const struct davit_request_options patient = {.timeout = 30 * SECOND};
	struct davit_error err = {0};
	struct davit_outcome *o = NULL;
	struct davit_promise p;
	struct davit_ref ref;
	int r = davit_find(c, "till", &ref);

	if (!r)
		r = davit_ask(c, ref, BUY, item, strlen(item), &patient, &p);
	if (!r)
		r = davit_await(c, p, -1, &o, &err);
	printf("%s: %s\n", item, r ? err.message : (const char *)o->data);
	davit_outcome_free(o);
	return r;
}

/* kill -9, from outside: the program knows nothing of it beforehand. */
static int kill_it(struct davit_context *c, const char *alias)
{
	struct davit_outcome *o = NULL;
	struct davit_promise p;
	struct davit_ref ref;
	int r = davit_find(c, alias, &ref);

	if (!r)
		r = davit_command(c, ref, "pid", NULL, NULL, &p);
	if (!r)
		r = davit_await(c, p, -1, &o, NULL);
	if (!r)
		r = kill((pid_t)atoi(o->data), SIGKILL);
	printf("%s is %s\n", alias, r ? "still alive" : "killed");
	davit_outcome_free(o);
	return r;
}

int main(void)
{
	static const char *const staff[] = {"prices", "taxes", "till"};
	struct davit_container_info info;
	struct davit_system *system;
	struct davit_context *c;
	int bad;

	if (davit_system_open(NULL, &system, NULL))
		return 1;
	c = davit_system_context(system);
	bad = open_shop(c);
	if (!bad)
		bad = buy(c, "apple") != 0 || buy(c, "grape") != DAVIT_ENOENT;
	for (size_t i = 0; i < 3 && !bad; i++)
		bad = kill_it(c, staff[i]) || buy(c, "pear") || davit_container_get(c, staff[i], &info) ||
		      info.restarts != 1;
	davit_system_close(system);
	return bad;
}
