/* SPDX-License-Identifier: MIT
 *
 * The table of commands, in the order in which `davit help` shows them, and the
 * options that they share.
 */
#include "cli/cli.h"

#include <string.h>

/* X(symbol of the entry) */
#define COMMANDS(X)                                                                                          \
	X(run)                                                                                               \
	X(update)                                                                                            \
	X(apply)                                                                                             \
	X(validate)                                                                                          \
	X(scale)                                                                                             \
	X(start)                                                                                             \
	X(stop)                                                                                              \
	X(restart)                                                                                           \
	X(signal)                                                                                            \
	X(pause)                                                                                             \
	X(unpause)                                                                                           \
	X(kill)                                                                                              \
	X(wait)                                                                                              \
	X(exec)                                                                                              \
	X(terminal)                                                                                          \
	X(cp)                                                                                                \
	X(status)                                                                                            \
	X(get)                                                                                               \
	X(ps)                                                                                                \
	X(stats)                                                                                             \
	X(logs)                                                                                              \
	X(events)                                                                                            \
	X(inspect)                                                                                           \
	X(why)                                                                                               \
	X(tree)                                                                                              \
	X(init)                                                                                              \
	X(list)                                                                                              \
	X(info)                                                                                              \
	X(open)                                                                                              \
	X(remove)                                                                                            \
	X(project)                                                                                           \
	X(thread)                                                                                            \
	X(process)                                                                                           \
	X(runtime)                                                                                           \
	X(container)                                                                                         \
	X(arch)                                                                                              \
	X(server)                                                                                            \
	X(send)                                                                                              \
	X(request)                                                                                           \
	X(command)                                                                                           \
	X(console)                                                                                           \
	X(new)                                                                                               \
	X(execute)                                                                                           \
	X(job)                                                                                               \
	X(runs)                                                                                              \
	X(run_log)                                                                                           \
	X(abort)                                                                                             \
	X(intercept)                                                                                         \
	X(artifacts)                                                                                         \
	X(caches)                                                                                            \
	X(check)                                                                                             \
	X(put)                                                                                               \
	X(images)                                                                                            \
	X(image)                                                                                             \
	X(pull)                                                                                              \
	X(load)                                                                                              \
	X(volume)                                                                                            \
	X(network)                                                                                           \
	X(namespace)                                                                                         \
	X(supervisor)                                                                                        \
	X(secret)                                                                                            \
	X(runtimes)                                                                                          \
	X(daemon)                                                                                            \
	X(simulate)                                                                                          \
	X(version)                                                                                           \
	X(completion)                                                                                        \
	X(help)

#define X(name) extern const struct davit_command davit_command_##name;
COMMANDS(X)
#undef X

const struct davit_command *const davit_commands[] = {
#define X(name) &davit_command_##name,
	COMMANDS(X)
#undef X
		NULL,
};

const struct davit_command *davit_command_find(const char *name)
{
	for (size_t i = 0; davit_commands[i]; i++)
		if (!strcmp(davit_commands[i]->name, name))
			return davit_commands[i];
	return NULL;
}

const struct davit_command *davit_command_meant(const char *name, const struct davit_verb **ret_verb)
{
	const char *colon = strchr(name, ':');
	char family[32] = "";
	const struct davit_command *c;

	*ret_verb = NULL;
	if (!colon)
		return davit_command_find(name);
	if ((size_t)(colon - name) < sizeof family)
		memcpy(family, name, (size_t)(colon - name));
	c = davit_command_find(family);
	for (const struct davit_verb *v = c ? c->verbs : NULL; v && v->name; v++)
		if (!strcmp(v->name, colon + 1)) {
			*ret_verb = v;
			return c;
		}
	return NULL;
}

#define HELP                                                                                                 \
	{                                                                                                    \
		"help", 'h', NULL, DAVIT_OPTION_FLAG, .doc = "Show this text"                                \
	}

const struct davit_option davit_options_common[] = {
	HELP,
	{"output", 'o', "FORMAT", DAVIT_OPTION_CHOICE, .choices = "text|json",
	 .doc = "text (default) or json"},
	{0},
};

const struct davit_option davit_options_data[] = {
	HELP,
	{"output", 'o', "FORMAT", DAVIT_OPTION_CHOICE, .choices = "text|json|yaml",
	 .doc = "text (default), json or yaml"},
	{0},
};

const struct davit_option davit_options_names[] = {
	HELP,
	{"output", 'o', "FORMAT", DAVIT_OPTION_CHOICE, .choices = "text|json|yaml|names",
	 .doc = "text (default), json, yaml, or names, one a line"},
	{0},
};

const struct davit_option davit_options_lines[] = {
	HELP,
	{"output", 'o', "FORMAT", DAVIT_OPTION_CHOICE, .choices = "text|json",
	 .doc = "text (default) or json, one object a line"},
	{0},
};

const struct davit_option davit_options_runtime[] = {
	{"runtime", 0, "RUNTIME", DAVIT_OPTION_STRING,
	 .doc = "Of this runtime (default: the daemon's default)"},
	{0},
};

const struct davit_option davit_options_namespace[] = {
	{"namespace", 0, "NAMESPACE", DAVIT_OPTION_STRING, .doc = "The namespace (default: default)"},
	{0},
};
