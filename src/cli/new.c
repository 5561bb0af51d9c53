/* SPDX-License-Identifier: MIT
 *
 * davit new: the beginning of something to write.
 */
#include "base/file.h"
#include "base/util.h"
#include "cli/api.h"
#include "cli/output.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { TEMPLATE_MAX = 65536 };

/* The files of templates/container, and what each is to be called; NULL: as the container, with .c. */
static const struct {
	const char *template, *file;
} files[] = {
	{"container.c", NULL},
	{"Makefile", "Makefile"},
	{"README.md", "README.md"},
};

struct making {
	const char *templates; /* directory */
	const char *where;     /* the new one */
	const char *name, *type;
	const char *share; /* where davit's data is, and in a tree that was built its headers */
};

/* The text with @NAME@, @TYPE@ and @SHARE@ filled in. */
static void fill_in(const struct making *m, const char *text, struct davit_buf *out)
{
	const struct {
		const char *word, *value;
	} words[] = {{"@NAME@", m->name}, {"@TYPE@", m->type}, {"@SHARE@", m->share}};

	for (const char *p = text; *p;) {
		size_t i = 0, n = 0;

		for (; i < DAVIT_ARRAY_SIZE(words); i++) {
			n = strlen(words[i].word);
			if (!strncmp(p, words[i].word, n))
				break;
		}
		if (i < DAVIT_ARRAY_SIZE(words)) {
			davit_buf_adds(out, words[i].value);
			p += n;
		} else {
			davit_buf_addc(out, *p++);
		}
	}
}

static int write_one(const struct making *m, const char *template, const char *file, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *from = davit_path_join(m->templates, template);
	DAVIT_AUTO_BUF to = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF filled = DAVIT_BUF_INIT;
	int r;

	davit_buf_addf(&to, "%s/%s%s", m->where, file ? file : m->name, file ? "" : ".c");
	if (!from || to.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = davit_read_file(from, TEMPLATE_MAX, &text, err);
	if (r < 0)
		return r;
	fill_in(m, davit_buf_str(&text), &filled);
	if (filled.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_write_file(davit_buf_str(&to), davit_buf_str(&filled), filled.len, 0644, err);
}

/* What is there already is somebody's work, and is refused. */
static int write_all(const struct making *m, struct davit_error *err)
{
	int r = davit_mkdirs(m->type, 0777, err);

	if (r == 0 && mkdir(m->where, 0777) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make %s", m->where);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(files) && r == 0; i++)
		r = write_one(m, files[i].template, files[i].file, err);
	return r;
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
	DAVIT_AUTO_FREE char *templates = davit_path_join(cli->paths.share, "templates/container");
	DAVIT_AUTO_BUF where = DAVIT_BUF_INIT;
	struct making m = {templates, NULL, name, type ? type : "thread", cli->paths.share};
	json_t *answer;
	int r;

	if (strcmp(cli->args[0], "container") != 0)
		return davit_cli_usage(cli, err, "a new container can be made, no '%.64s'", cli->args[0]);
	if (!is_name(name))
		return davit_cli_usage(cli, err, "'%.64s' is no name: letters, digits, _ and -", name);
	davit_buf_addf(&where, "%s/%s", m.type, name);
	m.where = davit_buf_str(&where);
	r = templates && !where.oom ? write_all(&m, err)
				    : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r < 0)
		return r;
	if (cli->format == DAVIT_FORMAT_TEXT) {
		printf("%s is written; next: make -C %s && davit %s:create Main a %s --start\n", m.where,
		       m.where, m.type, name);
		return 0;
	}
	answer = json_pack("{s:s}", "directory", m.where);
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
static const char *const examples[] = {"davit new container Counter",
				       "thread/Counter: C, a Makefile, a README", NULL};

const struct davit_command davit_command_new = {
	.name = "new",
	.usage = "container NAME",
	.group = "Containers",
	.summary = "Write the beginning of a container in C, which builds and answers",
	.options = options,
	.min_args = 2,
	.max_args = 2,
	.complete = "container",
	.run = run_new,
	.examples = examples,
};
