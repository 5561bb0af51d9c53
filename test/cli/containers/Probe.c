/* SPDX-License-Identifier: MIT
 *
 * For the tests of the verbs: does what a request says, tells the log of its life, and
 * stays failed when it has failed.
 */
#include <davit/container.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int construct(struct davit_context *c)
{
	int *count = davit_alloc(c, sizeof *count);

	if (!count)
		return DAVIT_ENOMEM;
	davit_set_data(c, count);
	return 0;
}

static int behave(struct davit_context *c, struct davit_message *m)
{
	const char *text = (const char *)m->data;
	int *count = davit_data(c);
	char answer[64];

	if (!strcmp(text, "fail"))
		return davit_fail(c, DAVIT_EIO, "as it was told");
	if (!strcmp(text, "crash"))
		abort();
	if (!strcmp(text, "bytes"))
		return davit_reply(c, m, "a\0\xff", 3);
	if (!strcmp(text, "args"))
		return davit_reply(c, m, davit_args(c), strlen(davit_args(c)));
	if (!strcmp(text, "silent"))
		return 0;
	if (!strcmp(text, "refuse"))
		return davit_refuse(c, m, DAVIT_EQUOTA, "not today");
	if (!strcmp(text, "go"))
		return davit_container_destroy(c, davit_path(c), DAVIT_DESTROY_FORCE, NULL);
	snprintf(answer, sizeof answer, "%d: %u %.40s", ++*count, m->type, text);
	return davit_reply(c, m, answer, strlen(answer));
}

static int twice(struct davit_context *c, struct davit_message *m, const char *parameters)
{
	char answer[24];

	snprintf(answer, sizeof answer, "%d", 2 * atoi(parameters));
	return davit_reply(c, m, answer, strlen(answer));
}

static int hook(struct davit_context *c, enum davit_operation op, enum davit_phase phase)
{
	if (phase == DAVIT_ON)
		printf("%s: %s\n", davit_alias(c), davit_operation_name(op));
	fflush(stdout);
	return 0;
}

static const struct davit_command_entry commands[] = {{"twice", twice}, {0}};
#ifndef SUPERVISED
static const struct davit_solver nothing[] = {{.solution = DAVIT_SOLVE_NOTHING}};
static const struct davit_remedy remedies[] = {{.solvers = nothing, .n_solvers = 1}, {0}};
#endif

const struct davit_definition davit_container = {
	.name = "Probe",
	.construct = construct,
	.behaviour = behave,
	.hook = hook,
	.commands = commands,
#ifndef SUPERVISED
	.remedies = remedies,
#endif
};
