/* SPDX-License-Identifier: MIT
 *
 * A container in 20 lines: it greets who asks.
 */
#include "davit/container.h"

#include <stdio.h>
#include <string.h>

static int behave(struct davit_context *c, struct davit_message *m)
{
	char text[64];

	snprintf(text, sizeof text, "%s greets %.40s", davit_alias(c), (char *)m->data);
	return davit_reply(c, m, text, strlen(text));
}

static const struct davit_definition hello = {.name = "Hello", .behaviour = behave};

int main(void)
{
	struct davit_create what = {.alias = "H1", .definition = &hello, .flags = DAVIT_CREATE_START};
	struct davit_system *system;
	struct davit_context *c;
	struct davit_outcome *o;
	struct davit_promise p;
	struct davit_ref h1;

	if (davit_system_open(NULL, &system, NULL))
		return 1;
	c = davit_system_context(system);
	if (davit_container_create(c, &what, &p) || davit_await(c, p, -1, NULL, NULL) ||
	    davit_find(c, "Main/H1", &h1) || davit_ask(c, h1, 1, "world", 6, NULL, &p) ||
	    davit_await(c, p, -1, &o, NULL))
		return 1;
	puts(o->data);
	davit_outcome_free(o);
	davit_system_close(system);
	return 0;
}
