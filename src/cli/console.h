/* SPDX-License-Identifier: MIT
 *
 * davit console: between davit and the line editor that it loads.
 */
#ifndef DAVIT_CLI_CONSOLE_H
#define DAVIT_CLI_CONSOLE_H

#include "davit/error.h"

struct davit_console;

/* The symbol "davit_console_editor" of davit-console.so, which brings libedit along. */
struct davit_console_editor {
	/* `history` is a file, read now and written by close. complete: the words that can
	 * stand where the last word of `line` (cut at the cursor) begins, a vector of heap
	 * strings that the editor frees (base/strv.h), or NULL. */
	int (*open)(const char *history, const char *prompt, char **(*complete)(void *user, const char *line),
		    void *user, struct davit_console **ret, struct davit_error *err);
	/* The next line, without its newline: a heap string; NULL at the end. A line that is
	 * broken off by Ctrl-C is "". */
	char *(*read)(struct davit_console *c);
	void (*close)(struct davit_console *c); /* NULL is fine */
};

#endif
