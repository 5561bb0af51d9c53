/* SPDX-License-Identifier: MIT
 *
 * davit secret: set, list, rm. A value comes from standard input or a file,
 * never from the command line, where everybody could see it.
 */
#include "base/file.h"
#include "cli/api.h"
#include "cli/output.h"
#include "net/url.h"

#include <errno.h>
#include <string.h>
#include <termios.h>

#define SECRET_MAX (64 * 1024)

static void target_of(const struct davit_cli *cli, const char *name, struct davit_buf *out)
{
	davit_buf_adds(out, "/v1/secrets/");
	davit_url_escape(out, davit_cli_namespace(cli));
	davit_buf_addc(out, '/');
	davit_url_escape(out, name);
}

/* One line from the terminal, not shown. */
static int ask(const char *name, struct davit_buf *out, struct davit_error *err)
{
	struct termios old, quiet;
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	if (tcgetattr(STDIN_FILENO, &old) < 0)
		return davit_error_errno(err, errno, NULL, "cannot read from the terminal");
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	fprintf(stderr, "value of %s: ", name);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	n = getline(&line, &size, stdin);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
	fputc('\n', stderr);
	if (n > 0)
		davit_buf_add(out, line, (size_t)n - (line[n - 1] == '\n'));
	if (line)
		explicit_bzero(line, size);
	free(line);
	return n > 0 ? 0 : davit_error_set(err, DAVIT_EINVAL, NULL, "no value was given");
}

static int set(struct davit_cli *cli, const char *name, struct davit_error *err)
{
	const char *file = davit_cli_value(cli, "file");
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF value = DAVIT_BUF_INIT;
	int r;

	if (!file && isatty(STDIN_FILENO))
		r = ask(name, &value, err);
	else
		r = davit_read_file(file && strcmp(file, "-") != 0 ? file : "/dev/stdin", SECRET_MAX, &value,
				    err);
	target_of(cli, name, &target);
	if (r == 0)
		r = davit_api_send(cli, "PUT", davit_buf_str(&target), "application/octet-stream",
				   davit_buf_str(&value), value.len, NULL, err);
	if (value.data)
		explicit_bzero(value.data, value.cap);
	if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
		printf("secret %s: set\n", name);
	return r;
}

static int list(struct davit_cli *cli, struct davit_error *err)
{
	static const char *const columns[] = {"NAMESPACE", "NAME", "CREATED", "UPDATED"};
	static const char *const keys[] = {"namespace", "name", "created", "updated"};
	/* The namespace only where more than one is shown. */
	size_t from = strcmp(davit_cli_namespace(cli), "*") != 0;
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_TABLE *t = NULL;
	char age[DAVIT_AGE_MAX + 8];
	json_t *answer = NULL, *s;
	size_t i;
	int r;

	davit_buf_adds(&target, "/v1/secrets");
	davit_url_query(&target, "namespace", davit_cli_namespace(cli));
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &answer, err);
	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else if (r == 0)
		r = davit_table_new(cli, columns + from, DAVIT_ARRAY_SIZE(columns) - from, false, &t, err);
	if (t) {
		json_array_foreach(answer, i, s)
		{
			struct libscols_line *row = davit_table_row(t, NULL);
			for (size_t k = from; k < DAVIT_ARRAY_SIZE(keys); k++) {
				const char *text = davit_string(s, keys[k]);
				r |= davit_table_set(t, row, k - from,
						     k > 1 ? davit_time_text(cli, text, age) : text);
			}
		}
		r = r ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : davit_table_print(t, err);
	}
	json_decref(answer);
	return r;
}

static int drop(struct davit_cli *cli, const char *name, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	int r;

	target_of(cli, name, &target);
	r = davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, NULL, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
		printf("secret %s: removed\n", name);
	return r;
}

static int run_secret(struct davit_cli *cli, struct davit_error *err)
{
	const char *verb = cli->args[0], *name = davit_cli_arg(cli, 1);

	if (!strcmp(verb, "list") && !name)
		return list(cli, err);
	if (cli->n_args > 2 && !strcmp(verb, "set"))
		return davit_cli_usage(
			cli, err,
			"a secret's value is not given on the command line, where others can see it: "
			"davit secret set %s < FILE",
			name);
	if (!strcmp(verb, "set") && name)
		return set(cli, name, err);
	if (!strcmp(verb, "rm") && name && cli->n_args == 2)
		return drop(cli, name, err);
	return davit_cli_usage(cli, err, "'secret' needs one of: set NAME, list, rm NAME");
}

static const struct davit_option own[] = {
	{"file", 'f', "FILE", DAVIT_OPTION_PATH, .doc = "With set: the value is the content of this file"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, davit_options_data, NULL};
static const char *const examples[] = {"printf %s \"$TOKEN\" | davit secret set token",
				       "from standard input, byte for byte",
				       "davit secret set key -f server.key",
				       "from a file",
				       "davit secret list",
				       "names and times, never values",
				       "davit secret rm token",
				       "remove one",
				       NULL};

const struct davit_command davit_command_secret = {
	.name = "secret",
	.usage = "set NAME | list | rm NAME",
	.group = "System",
	.summary = "Keep secrets for services",
	.details = "A value is read from standard input or a file as it is (at most 64 KiB), or asked for on "
		   "a terminal.",
	.options = options,
	.min_args = 1,
	.max_args = 3,
	.complete = "set|list|rm",
	.run = run_secret,
	.examples = examples,
};
