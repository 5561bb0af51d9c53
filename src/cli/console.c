/* SPDX-License-Identifier: MIT
 *
 * davit console: commands without `davit` in front, one a line, from a terminal or from
 * a file. Each runs as a davit of its own, so that what happens to one happens to one.
 */
#include "cli/console.h"

#include "base/file.h"
#include "base/strv.h"
#include "cli/api.h"
#include "cli/containers.h"
#include "cli/output.h"
#include "cli/words.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

struct console {
	struct davit_cli *cli;
	bool interactive;
	bool over;  /* the user has said so */
	int status; /* of the first line that failed */
	unsigned lines;
};

/* --- one line --- */

static int spawn(const struct console *k, char **argv, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t interrupt;
	int e;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	posix_spawn_file_actions_init(&actions);
	/* The lines that follow are not for a command to read. */
	if (!k->interactive)
		posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigdefault(&attr, &interrupt);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	e = posix_spawn(ret, "/proc/self/exe", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return e;
}

/* Ctrl-C is for the command. */
static int execute(const struct console *k, char **argv)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct sigaction before;
	int status = 0, e;
	pid_t pid;

	fflush(stdout);
	sigaction(SIGINT, &ignore, &before);
	e = spawn(k, argv, &pid);
	if (e)
		fprintf(stderr, "davit: cannot run the command: %s\n", strerror(e));
	else
		DAVIT_EINTR(waitpid(pid, &status, 0));
	sigaction(SIGINT, &before, NULL);
	if (!e && k->interactive && WIFSIGNALED(status))
		putchar('\n'); /* behind the ^C that the terminal shows */
	return e ? 1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* "--output=json" behind the command, where it knows that; what the line itself says comes
 * later, and wins. */
static int add_format(const struct console *k, char ***words, size_t at)
{
	static const char *const names[] = {[DAVIT_FORMAT_JSON] = "json", [DAVIT_FORMAT_YAML] = "yaml"};
	const struct davit_verb *verb;
	const struct davit_command *c = davit_command_meant((*words)[at], &verb);
	const struct davit_option *o = c ? davit_option_find(c, "output") : NULL;
	char option[32], *moved;
	size_t n = davit_strv_len(*words);

	if (k->cli->format == DAVIT_FORMAT_TEXT || !o || o->type != DAVIT_OPTION_CHOICE ||
	    !strstr(o->choices, names[k->cli->format]))
		return 0;
	snprintf(option, sizeof option, "--output=%s", names[k->cli->format]);
	if (davit_strv_add(words, option) < 0)
		return DAVIT_ENOMEM;
	moved = (*words)[n];
	memmove(*words + at + 2, *words + at + 1, (n - at - 1) * sizeof **words);
	(*words)[at + 1] = moved;
	return 0;
}

/* Its status. */
static int run_line(struct console *k, const char *line)
{
	DAVIT_AUTO_STRV words = NULL;
	struct davit_error err;
	size_t at = 1; /* of the command */

	if (davit_strv_add(&words, "davit") < 0)
		return 1;
	if (line[strspn(line, " \t")] == '#')
		return 0;
	if (davit_words_split(line, &words, &err) < 0) {
		fprintf(stderr, "davit: %s\n", err.message);
		return 2;
	}
	if (words[1] && !strcmp(words[1], "davit")) /* as in a shell */
		at++;
	if (!words[at])
		return 0;
	if (!strcmp(words[at], "exit") || !strcmp(words[at], "quit")) {
		k->over = true;
		return 0;
	}
	if (!strcmp(words[at], "console")) {
		fputs("davit: this is the console\n", stderr);
		return 2;
	}
	return add_format(k, &words, at) < 0 ? 1 : execute(k, words + at - 1);
}

static void take_line(struct console *k, const char *line)
{
	int status = run_line(k, line);

	k->lines++;
	if (!status || k->status)
		return;
	if (!k->interactive && davit_cli_flag(k->cli, "stop")) {
		fprintf(stderr, "davit: stopped at line %u\n", k->lines);
		k->over = true;
	}
	k->status = status;
}

/* --- completion --- */

static int add_verbs(char ***words)
{
	char called[64];
	int r = 0;

	for (size_t i = 0; davit_commands[i] && r == 0; i++) {
		const struct davit_command *c = davit_commands[i];
		if (!c->verbs)
			r = davit_strv_add(words, c->name);
		for (const struct davit_verb *v = c->verbs; v && v->name && r == 0; v++) {
			snprintf(called, sizeof called, "%s:%s", c->name, v->name);
			r = davit_strv_add(words, called);
		}
	}
	return r == 0 ? davit_strv_add(words, "exit") : r;
}

static int add_aliases(const json_t *container, char ***words)
{
	const json_t *child;
	size_t i;
	int r = davit_strv_add(words, davit_string(container, "alias"));

	json_array_foreach(json_object_get(container, "children"), i, child) if (r == 0) r =
		add_aliases(child, words);
	return r;
}

static int add_named(struct davit_cli *cli, const char *target, const char *key, char ***words)
{
	json_t *all = NULL, *one;
	size_t i;
	int r = davit_api_connect_running(cli, NULL);

	if (r == 0)
		r = davit_api_call(cli, "GET", target, NULL, &all, NULL);
	if (r == 0 && !strcmp(key, "alias"))
		r = add_aliases(json_object_get(all, "root"), words);
	else
		json_array_foreach(all, i, one) if (r == 0) r = davit_strv_add(words, davit_string(one, key));
	json_decref(all);
	return r;
}

static int add_options(const struct davit_command *c, char ***words)
{
	char text[64];
	int r = 0;

	for (size_t i = 0; c->options[i]; i++)
		for (const struct davit_option *o = c->options[i]; o->name && r == 0; o++) {
			snprintf(text, sizeof text, "--%s", o->name);
			r = davit_strv_add(words, text);
		}
	return r;
}

static char **complete(void *user, const char *line)
{
	struct console *k = user;
	const char *start = line + strspn(line, " \t"), *last = strrchr(start, ' ');
	DAVIT_AUTO_FREE char *first = strndup(start, strcspn(start, " \t"));
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	const struct davit_command *c;
	const struct davit_verb *v;
	char **words = NULL;

	if (!last) {
		add_verbs(&words);
		return words;
	}
	c = first ? davit_command_meant(first, &v) : NULL;
	if (!c)
		return NULL;
	davit_container_target(k->cli, NULL, NULL, &target);
	if (last[1] == '-')
		add_options(c, &words);
	else if (c->complete && !strcmp(c->complete, "container"))
		add_named(k->cli, davit_buf_str(&target), "alias", &words);
	else if (c->complete && !strcmp(c->complete, "project"))
		add_named(k->cli, "/v1/projects", "name", &words);
	else if (c->complete && !strncmp(c->complete, "service", strlen("service")))
		add_named(k->cli, "/v1/services", "name", &words);
	return words;
}

/* --- where lines come from --- */

static int from_terminal(struct console *k, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *module = davit_path_join(k->cli->paths.libexec, "davit-console.so");
	DAVIT_AUTO_FREE char *history = davit_path_join(k->cli->paths.state, "console-history");
	const struct davit_console_editor *editor = NULL;
	struct davit_console *c = NULL;
	void *object;
	char *line;
	int r;

	if (!module || !history)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = davit_mkdirs(k->cli->paths.state, 0700, err);
	if (r < 0)
		return r;
	object = dlopen(module, RTLD_NOW | RTLD_LOCAL);
	if (object)
		editor = dlsym(object, "davit_console_editor");
	if (!editor)
		return davit_error_set(err, DAVIT_ENOTSUP, NULL, "there is no line editor: %s", dlerror());
	r = editor->open(history, "davit> ", complete, k, &c, err);
	if (r < 0)
		return r;
	puts("'help' tells the commands, Tab completes them, Ctrl-D or 'exit' leaves.");
	while (!k->over && (line = editor->read(c))) {
		take_line(k, line);
		free(line);
	}
	if (!k->over)
		putchar('\n');
	editor->close(c);
	return 0;
}

static int from_file(struct console *k, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *line = NULL;
	size_t room = 0;
	ssize_t n;

	while (!k->over && (n = getline(&line, &room, stdin)) >= 0) {
		if (strlen(line) != (size_t)n)
			return davit_error_set(err, DAVIT_EINVAL, NULL, "line %u has a NUL in it",
					       k->lines + 1);
		line[strcspn(line, "\n")] = '\0';
		take_line(k, line);
	}
	return ferror(stdin) ? davit_error_errno(err, errno, NULL, "cannot read standard input") : k->status;
}

static int run_console(struct davit_cli *cli, struct davit_error *err)
{
	struct console k = {.cli = cli, .interactive = isatty(STDIN_FILENO) && cli->tty};

	if (davit_cli_value(cli, "project") &&
	    setenv("DAVIT_PROJECT", davit_cli_value(cli, "project"), 1) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return k.interactive ? from_terminal(&k, err) : from_file(&k, err);
}

static const struct davit_option own[] = {
	{"stop", 'e', NULL, DAVIT_OPTION_FLAG, .doc = "Of lines from a file: stop at the first that fails"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_project, davit_options_data, NULL};
static const char *const examples[] = {"davit console", "commands with editing, history and completion",
				       "davit console -e <setup.davit",
				       "from a file, up to the first failure", NULL};

const struct davit_command davit_command_console = {
	.name = "console",
	.usage = "",
	.group = "Containers",
	.summary = "Give commands one after the other, without 'davit' in front",
	.details = "From a terminal, with editing, history and completion; or from standard input, and then "
		   "the exit\n"
		   "status is that of the first line that failed.",
	.options = options,
	.run = run_console,
	.examples = examples,
};
