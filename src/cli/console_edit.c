/* SPDX-License-Identifier: MIT
 *
 * The line editor of davit console, over libedit: a module, so that no other command
 * starts slower for it.
 */
#include "cli/console.h"

#include "base/strv.h"
#include "base/util.h"

#include <errno.h>
#include <histedit.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { HISTORY = 1000 };

struct davit_console {
	EditLine *el;
	History *history;
	char *file, *prompt;
	char **(*complete)(void *user, const char *line);
	void *user;
};

static char *prompt_of(EditLine *el)
{
	struct davit_console *c;

	el_get(el, EL_CLIENTDATA, &c);
	return c->prompt;
}

/* --- completion --- */

static size_t common(char *const *words)
{
	size_t n = words[0] ? strlen(words[0]) : 0;

	for (char *const *w = words; *w; w++) {
		size_t same = 0;
		while (same < n && (*w)[same] == words[0][same])
			same++;
		n = same;
	}
	return n;
}

/* Keeps those that begin with the n bytes at `word`. */
static void keep_fitting(char **words, const char *word, size_t n)
{
	char **to = words;

	for (char **w = words; *w; w++)
		if (!strncmp(*w, word, n))
			*to++ = *w;
		else
			free(*w);
	*to = NULL;
}

static void show(char *const *words)
{
	putchar('\n');
	for (; *words; words++)
		printf("%s%s", *words, words[1] ? "  " : "\n");
}

/* Inserts what all have in common; when that is nothing new, shows them. */
static unsigned char complete_with(EditLine *el, char **words, size_t typed)
{
	size_t same = common(words);
	bool one = words[0] && !words[1];
	char *more;
	int r = 0;

	if (!words[0])
		return CC_ERROR;
	if (same > typed || one) {
		more = strndup(words[0] + typed, same - typed);
		r = more && (!*more || el_insertstr(el, more) == 0) ? 0 : -1;
		free(more);
		if (r == 0 && one)
			r = el_insertstr(el, " ");
		return r == 0 ? CC_REFRESH : CC_ERROR;
	}
	show(words);
	return CC_REDISPLAY;
}

static unsigned char on_tab(EditLine *el, int key)
{
	const LineInfo *info = el_line(el);
	size_t n = (size_t)(info->cursor - info->buffer), at = n;
	DAVIT_AUTO_FREE char *line = strndup(info->buffer, n);
	struct davit_console *c;
	DAVIT_AUTO_STRV words = NULL;

	(void)key;
	el_get(el, EL_CLIENTDATA, &c);
	words = line ? c->complete(c->user, line) : NULL;
	if (!words)
		return CC_ERROR;
	while (at > 0 && line[at - 1] != ' ' && line[at - 1] != '\t')
		at--;
	keep_fitting(words, line + at, n - at);
	return complete_with(el, words, n - at);
}

/* --- lines --- */

static void console_close(struct davit_console *c)
{
	HistEvent event;

	if (!c)
		return;
	if (c->history && c->file) {
		mode_t before = umask(077);
		history(c->history, &event, H_SAVE, c->file);
		umask(before);
	}
	if (c->el)
		el_end(c->el);
	if (c->history)
		history_end(c->history);
	free(c->file);
	free(c->prompt);
	free(c);
}

static int console_open(const char *file, const char *prompt,
			char **(*complete)(void *user, const char *line), void *user,
			struct davit_console **ret, struct davit_error *err)
{
	struct davit_console *c = calloc(1, sizeof *c);
	HistEvent event;

	if (!c || !(c->file = strdup(file)) || !(c->prompt = strdup(prompt)) ||
	    !(c->history = history_init()) || !(c->el = el_init("davit", stdin, stdout, stderr))) {
		console_close(c);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	c->complete = complete;
	c->user = user;
	history(c->history, &event, H_SETSIZE, HISTORY);
	history(c->history, &event, H_SETUNIQUE, 1);
	history(c->history, &event, H_LOAD, file); /* the first time there is none */
	el_set(c->el, EL_CLIENTDATA, c);
	el_set(c->el, EL_PROMPT, prompt_of);
	el_set(c->el, EL_EDITOR, "emacs");
	el_set(c->el, EL_HIST, history, c->history);
	/* libedit never frees the copies that it makes of these two texts. */
	el_set(c->el, EL_ADDFN, "davit-complete", "Complete a command or an alias", on_tab);
	el_set(c->el, EL_BIND, "^I", "davit-complete", NULL);
	el_set(c->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_source(c->el, NULL);
	*ret = c;
	return 0;
}

static volatile sig_atomic_t broken_off;

static void on_interrupt(int signo)
{
	(void)signo;
	broken_off = 1;
}

static char *console_read(struct davit_console *c)
{
	const struct sigaction ours = {.sa_handler = on_interrupt};
	struct sigaction before;
	HistEvent event;
	const char *line;
	int n;

	broken_off = 0;
	sigaction(SIGINT, &ours, &before);
	line = el_gets(c->el, &n);
	sigaction(SIGINT, &before, NULL);
	if (broken_off) {
		el_reset(c->el);
		putchar('\n');
		return strdup("");
	}
	if (!line || n <= 0)
		return NULL;
	if (n > 1)
		history(c->history, &event, H_ENTER, line);
	return strndup(line, (size_t)n - (line[n - 1] == '\n'));
}

extern const struct davit_console_editor davit_console_editor;
__attribute__((visibility("default"))) const struct davit_console_editor davit_console_editor = {
	.open = console_open,
	.read = console_read,
	.close = console_close,
};
