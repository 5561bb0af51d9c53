/* @NAME@: a container for davit. */
#include <davit/container.h>

#include <stdio.h>
#include <string.h>

struct state {
	unsigned requests;
};

/* Makes the state; a restart does it again. */
static int construct(struct davit_context *c)
{
	struct state *s = davit_alloc(c, sizeof *s);

	if (!s)
		return DAVIT_ENOMEM;
	davit_set_data(c, s);
	return 0;
}

/* One message at a time. An error that is returned fails the container. */
static int behave(struct davit_context *c, struct davit_message *m)
{
	struct state *s = davit_data(c);
	char answer[256];

	snprintf(answer, sizeof answer, "%s: request %u was '%.*s'", davit_alias(c), ++s->requests,
		 (int)m->size, (const char *)m->data);
	return davit_reply(c, m, answer, strlen(answer));
}

const struct davit_definition davit_container = {
	.name = "@NAME@",
	.construct = construct,
	.behaviour = behave,
};
