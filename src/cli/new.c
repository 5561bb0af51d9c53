/* SPDX-License-Identifier: MIT
 *
 * davit new: the beginning of something to write.
 */
#include "base/file.h"
#include "cli/api.h"
#include "cli/output.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* In the texts, @ stands for the name, $ for the type. */
static const char source[] =
	"/* @: a container for davit. */\n"
	"#include <davit/container.h>\n"
	"\n"
	"#include <stdio.h>\n"
	"#include <string.h>\n"
	"\n"
	"struct state {\n"
	"\tunsigned requests;\n"
	"};\n"
	"\n"
	"/* Makes the state; a restart does it again. */\n"
	"static int construct(struct davit_context *c)\n"
	"{\n"
	"\tstruct state *s = davit_alloc(c, sizeof *s);\n"
	"\n"
	"\tif (!s)\n"
	"\t\treturn DAVIT_ENOMEM;\n"
	"\tdavit_set_data(c, s);\n"
	"\treturn 0;\n"
	"}\n"
	"\n"
	"/* One message at a time. An error that is returned fails the container. */\n"
	"static int behave(struct davit_context *c, struct davit_message *m)\n"
	"{\n"
	"\tstruct state *s = davit_data(c);\n"
	"\tchar answer[256];\n"
	"\n"
	"\tsnprintf(answer, sizeof answer, \"%s: request %u was '%.*s'\", davit_alias(c), ++s->requests, (int)m->size,\n"
	"\t\t (const char *)m->data);\n"
	"\treturn davit_reply(c, m, answer, strlen(answer));\n"
	"}\n"
	"\n"
	"const struct davit_definition davit_container = {\n"
	"\t.name = \"@\",\n"
	"\t.construct = construct,\n"
	"\t.behaviour = behave,\n"
	"};\n";

static const char makefile[] = "# Builds @.so here, where davit looks for it.\n"
			       "CFLAGS ?= -O2 -g -Wall -Wextra\n"
			       "CPPFLAGS += $$(shell pkg-config --cflags davit)\n"
			       "\n"
			       "@.so: @.c\n"
			       "\t$$(CC) $$(CPPFLAGS) $$(CFLAGS) -fPIC -shared $$(LDFLAGS) -o $$@@ $$<\n"
			       "\n"
			       "clean:\n"
			       "\trm -f @.so\n"
			       "\n"
			       ".PHONY: clean\n";

static const char readme[] =
	"# @\n"
	"A container of type $. Build it, and from the directory above `$/`:\n"
	"```\n"
	"make -C $/@\n"
	"davit $:create Main a @ --start\n"
	"davit request a hello\n"
	"```\n"
	"After a change, `make` again and `davit $:create Main a @ --start --force`.\n"
	"`include/davit/container.h`, as installed with davit, is the manual.\n";

/* "@" the name, "$" the type; "@@" and "$$" themselves. */
static int write_text(const char *directory, const char *name, const char *file, const char *type,
		      const char *text, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(directory, file);
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;

	for (const char *p = text; *p; p++)
		if ((*p == '@' || *p == '$') && p[1] == *p)
			davit_buf_addc(&out, *p++);
		else if (*p == '@' || *p == '$')
			davit_buf_adds(&out, *p == '@' ? name : type);
		else
			davit_buf_addc(&out, *p);
	if (!path || out.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_write_file(path, davit_buf_str(&out), out.len, 0644, err);
}

/* It becomes file names, and a word in a Makefile. */
static bool is_name(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

	return n && n < 64 && !s[n] && s[0] != '-';
}

static int run_new(struct davit_cli *cli, struct davit_error *err)
{
	const char *name = cli->args[1], *type = davit_cli_value(cli, "type");
	DAVIT_AUTO_BUF directory = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF file = DAVIT_BUF_INIT;
	const char *where;
	json_t *answer;
	int r;

	if (strcmp(cli->args[0], "container") != 0)
		return davit_cli_usage(cli, err, "a new container can be made, no '%.64s'", cli->args[0]);
	if (!is_name(name))
		return davit_cli_usage(cli, err, "'%.64s' is no name: letters, digits, _ and -", name);
	type = type ? type : "thread";
	davit_buf_addf(&directory, "%s/%s", type, name);
	davit_buf_addf(&file, "%s.c", name);
	where = davit_buf_str(&directory);
	r = davit_mkdirs(type, 0777, err);
	/* What is there already is somebody's work. */
	if (r == 0 && mkdir(where, 0777) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make %s", where);
	if (r == 0)
		r = write_text(where, name, davit_buf_str(&file), type, source, err);
	if (r == 0)
		r = write_text(where, name, "Makefile", type, makefile, err);
	if (r == 0)
		r = write_text(where, name, "README.md", type, readme, err);
	if (r < 0)
		return r;
	if (cli->format == DAVIT_FORMAT_TEXT) {
		printf("%s is written; next: make -C %s && davit %s:create Main a %s --start\n", where, where, type,
		       name);
		return 0;
	}
	answer = json_pack("{s:s}", "directory", where);
	r = davit_print_value(cli, answer, err);
	json_decref(answer);
	return r;
}

static const struct davit_option own[] = {
	{"type", 0, "TYPE", DAVIT_OPTION_CHOICE, .choices = "thread|process",
	 .doc = "What it is to run as: thread (default) or process"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_common, NULL};
static const char *const examples[] = {"davit new container Counter", "thread/Counter: C, a Makefile, a README",
				       NULL};

const struct davit_command davit_command_new = {
	.name = "new",
	.usage = "container NAME",
	.group = "Containers",
	.summary = "Write the beginning of a container in C, which builds and answers",
	.options = options,
	.min_args = 2,
	.max_args = 2,
	.offline = true,
	.complete = "container",
	.run = run_new,
	.examples = examples,
};
