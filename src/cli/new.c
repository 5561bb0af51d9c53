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

/* The files of templates/container/LANGUAGE, and what each is called; NULL: as the container,
 * with that ending. */
static const struct language {
	const char *name;
	bool thread;	   /* it can be a container of type thread */
	const char *build; /* what is next, before it can be created */
	struct {
		const char *template, *file, *ending;
		mode_t mode;
	} files[4];
} languages[] = {
	{"c",
	 true,
	 "make",
	 {{"container.c", NULL, ".c", 0644},
	  {"test.c", "test.c", NULL, 0644},
	  {"Makefile", "Makefile", NULL, 0644},
	  {"README.md", "README.md", NULL, 0644}}},
	{"python",
	 false,
	 "make test",
	 {{"container.py", NULL, ".py", 0755},
	  {"test.py", "test.py", NULL, 0644},
	  {"Makefile", "Makefile", NULL, 0644},
	  {"README.md", "README.md", NULL, 0644}}},
	{"node",
	 false,
	 "make test",
	 {{"container.js", NULL, ".js", 0755},
	  {"test.js", "test.js", NULL, 0644},
	  {"Makefile", "Makefile", NULL, 0644},
	  {"README.md", "README.md", NULL, 0644}}},
};

struct making {
	const struct language *language;
	const char *templates; /* directory */
	const char *where;     /* the new one */
	const char *name, *type;
	const char *share; /* where davit's data is, and in a tree that was built its headers */
	const char *build; /* where its programs are, and in such a tree its library */
};

/* The text with @NAME@, @TYPE@, @SHARE@ and @BUILD@ filled in. */
static void fill_in(const struct making *m, const char *text, struct davit_buf *out)
{
	const struct {
		const char *word, *value;
	} words[] = {{"@NAME@", m->name}, {"@TYPE@", m->type}, {"@SHARE@", m->share}, {"@BUILD@", m->build}};

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

static int write_one(const struct making *m, size_t i, struct davit_error *err)
{
	const char *file = m->language->files[i].file, *ending = m->language->files[i].ending;
	DAVIT_AUTO_FREE char *from = davit_path_join(m->templates, m->language->files[i].template);
	DAVIT_AUTO_BUF to = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF filled = DAVIT_BUF_INIT;
	int r;

	davit_buf_addf(&to, "%s/%s%s", m->where, file ? file : m->name, ending ? ending : "");
	if (!from || to.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = davit_read_file(from, TEMPLATE_MAX, &text, err);
	if (r < 0)
		return r;
	fill_in(m, davit_buf_str(&text), &filled);
	if (filled.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_write_file(davit_buf_str(&to), davit_buf_str(&filled), filled.len,
				m->language->files[i].mode, err);
}

/* What is there already is somebody's work, and is refused. */
static int write_all(const struct making *m, struct davit_error *err)
{
	int r = davit_mkdirs(m->type, 0777, err);

	if (r == 0 && mkdir(m->where, 0777) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make %s", m->where);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(m->language->files) && r == 0; i++)
		r = write_one(m, i, err);
	return r;
}

/* It becomes file names, and a word in a Makefile. */
static bool is_name(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

	return n && n < 64 && !s[n] && s[0] != '-';
}

static const struct language *language_of(const char *name)
{
	size_t i = 0;

	while (name && i + 1 < DAVIT_ARRAY_SIZE(languages) && strcmp(languages[i].name, name) != 0)
		i++;
	return &languages[i];
}

static int run_new(struct davit_cli *cli, struct davit_error *err)
{
	const char *name = cli->args[1], *type = davit_cli_value(cli, "type");
	const struct language *language = language_of(davit_cli_value(cli, "language"));
	DAVIT_AUTO_BUF templates = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF where = DAVIT_BUF_INIT;
	struct making m = {.language = language,
			   .name = name,
			   .type = type		      ? type
				   : language->thread ? "thread"
						      : "process",
			   .share = cli->paths.share,
			   .build = cli->paths.libexec};
	json_t *answer;
	int r;

	if (strcmp(cli->args[0], "container") != 0)
		return davit_cli_usage(cli, err, "a new container can be made, no '%.64s'", cli->args[0]);
	if (!is_name(name))
		return davit_cli_usage(cli, err, "'%.64s' is no name: letters, digits, _ and -", name);
	if (!language->thread && !strcmp(m.type, "thread"))
		return davit_cli_usage(cli, err, "a container in %s is a process, no thread", language->name);
	davit_buf_addf(&where, "%s/%s", m.type, name);
	davit_buf_addf(&templates, "%s/templates/container/%s", cli->paths.share, language->name);
	m.where = davit_buf_str(&where);
	m.templates = davit_buf_str(&templates);
	r = !templates.oom && !where.oom ? write_all(&m, err)
					 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r < 0)
		return r;
	if (cli->format == DAVIT_FORMAT_TEXT) {
		printf("%s is written; next: make -C %s%s && davit %s:create Main a %s --start\n", m.where,
		       m.where, language->build + strlen("make"), m.type, name);
		return 0;
	}
	answer = json_pack("{s:s}", "directory", m.where);
	r = davit_print_value(cli, answer, err);
	json_decref(answer);
	return r;
}

static const struct davit_option own[] = {
	{"language", 'l', "LANGUAGE", DAVIT_OPTION_CHOICE, .choices = "c|python|node",
	 .doc = "What it is to be written in: c (default), python or node"},
	{"type", 0, "TYPE", DAVIT_OPTION_CHOICE, .choices = "thread|process",
	 .doc = "What it is to run as: thread (default in C) or process"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_common, NULL};
static const char *const examples[] = {
	"davit new container Counter", "thread/Counter: C, its test, a Makefile, a README",
	"davit new container Counter --language python", "process/Counter: a program, its test, ...", NULL};

const struct davit_command davit_command_new = {
	.name = "new",
	.usage = "container NAME",
	.group = "Containers",
	.summary = "Write the beginning of a container, which answers and has a test",
	.details = "'make -C TYPE/NAME test' runs its test, in whatever language. Where davit is not "
		   "installed it is\n"
		   "made for this tree of davit.",
	.options = options,
	.min_args = 2,
	.max_args = 2,
	.complete = "container",
	.run = run_new,
	.examples = examples,
};
