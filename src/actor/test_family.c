/* SPDX-License-Identifier: MIT */
#include "actor/test_family.h"

int hook(struct davit_context *c, enum davit_operation op, enum davit_phase phase)
{
	if (phase == DAVIT_ON && op == DAVIT_DO_START)
		note("+%s", davit_alias(c));
	if (phase == DAVIT_ON && op == DAVIT_DO_STOP)
		note("-%s", davit_alias(c));
	if (phase == DAVIT_ON && op == DAVIT_DO_FAIL)
		note("!%s", davit_alias(c));
	return 0;
}

int talk(struct davit_context *c, struct davit_message *m)
{
	const char *text = m->size ? (const char *)m->data : "";

	if (!strcmp(text, "die"))
		return davit_fail(c, DAVIT_EIO, "told to die");
	note("%s<%s", davit_alias(c), text);
	return 0;
}

int fails_to_construct;

int construct(struct davit_context *c)
{
	return fails_to_construct && fails_to_construct-- ? davit_fail(c, DAVIT_EIO, "no") : 0;
}

const struct davit_definition plain = {BASE};

struct world *family(const struct davit_definition *parent, const struct davit_definition *child)
{
	struct world *w = open_world();

	make_under(w, NULL, "P", parent);
	make_under(w, "P", "A", child);
	make_under(w, "P", "B", child);
	make_under(w, "P", "C", child);
	trace();
	return w;
}
