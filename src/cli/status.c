/* SPDX-License-Identifier: MIT
 *
 * davit status, davit get status: what the services are doing.
 */
#include "cli/api.h"
#include "cli/follow.h"
#include "cli/output.h"
#include "cli/resource.h"
#include "net/client.h"
#include "net/url.h"

#include <string.h>
#include <sys/ioctl.h>

/* The first one only where more than one namespace is shown. */
static const char *const columns[] = {"NAMESPACE", "NAME",  "VERSION", "RUNTIME", "SOURCE",
				      "STATUS",	   "BUILD", "UPDATED", "METADATA"};
static const char *const wide_columns[] = {"NAMESPACE", "NAME",	 "VERSION", "RUNTIME",	"SOURCE",
					   "STATUS",	"READY", "HEALTH",  "RESTARTS", "PIDS",
					   "ADDRESS",	"BUILD", "UPDATED", "METADATA", "ERROR"};

static const char *const *columns_for(const struct davit_cli *cli, size_t *ret_n)
{
	bool all = !strcmp(davit_cli_namespace(cli), "*");

	if (cli->format == DAVIT_FORMAT_WIDE) {
		*ret_n = DAVIT_ARRAY_SIZE(wide_columns);
		return wide_columns;
	}
	*ret_n = DAVIT_ARRAY_SIZE(columns) - !all;
	return columns + !all;
}

/* A member as text for a cell: lists and maps joined by commas, an object with
 * a status by that. */
static void cell(const struct davit_cli *cli, const json_t *v, bool time, struct davit_buf *out)
{
	char buf[DAVIT_AGE_MAX + 8];
	const char *key;
	json_t *member;
	size_t i;

	davit_buf_reset(out);
	if (json_is_string(v))
		davit_buf_adds(out,
			       time ? davit_time_text(cli, json_string_value(v), buf) : json_string_value(v));
	else if (json_is_integer(v))
		davit_buf_addf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else if (json_is_object(v) && json_object_get(v, "status"))
		davit_buf_adds(out, davit_string(v, "status"));
	else if (json_is_object(v))
		json_object_foreach((json_t *)v, key, member)
			davit_buf_addf(out, "%s%s=%s", out->len ? "," : "", key,
				       json_is_string(member) ? json_string_value(member) : "");
	else if (json_is_array(v))
		json_array_foreach(v, i, member)
			davit_buf_addf(out, "%s%s", out->len ? "," : "",
				       json_is_string(member) ? json_string_value(member) : "");
}

/* Of the instances that have checks the one that is worst off. */
static const char *health_of(json_t *instances)
{
	static const char *const worst_last[] = {"", "healthy", "starting", "unhealthy"};
	size_t worst = 0, i;
	json_t *inst;

	json_array_foreach(instances, i, inst) for (size_t k = worst + 1; k < DAVIT_ARRAY_SIZE(worst_last);
						    k++) if (!strcmp(davit_string(inst, "health"),
								     worst_last[k])) worst = k;
	return worst_last[worst];
}

/* One row for a status object, for the columns named. */
static int add_service(const struct davit_cli *cli, struct davit_table *t, const char *const *names, size_t n,
		       json_t *s)
{
	struct libscols_line *row = davit_table_row(t, NULL);
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *instances = json_object_get(s, "instances"), *inst;
	size_t index;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		const char *name = names[i];
		char key[16];
		size_t k;

		if (!strcmp(name, "READY")) {
			davit_buf_reset(&text);
			davit_buf_addf(&text, "%zu/%zu", davit_service_ready(s), davit_service_wanted(s));
		} else if (!strcmp(name, "HEALTH")) {
			davit_buf_reset(&text);
			davit_buf_adds(&text, health_of(instances));
		} else if (!strcmp(name, "PIDS")) {
			davit_buf_reset(&text);
			json_array_foreach(instances, index, inst) if (davit_integer(inst, "pid"))
				davit_buf_addf(&text, "%s%d", text.len ? "," : "",
					       (int)davit_integer(inst, "pid"));
		} else if (!strcmp(name, "ADDRESS")) {
			davit_buf_reset(&text);
			davit_service_addresses(s, ",", &text);
		} else {
			for (k = 0; name[k] && k < sizeof key - 1; k++)
				key[k] = (char)(name[k] | 0x20);
			key[k] = '\0';
			cell(cli, json_object_get(s, key), !strcmp(key, "updated"), &text);
		}
		r = davit_table_set(t, row, i, davit_buf_str(&text));
	}
	return r;
}

static int table_of(const struct davit_cli *cli, json_t *services, char **ret, struct davit_error *err)
{
	size_t n, i;
	const char *const *names = columns_for(cli, &n);
	DAVIT_AUTO_TABLE *t = NULL;
	json_t *s;
	int r = davit_table_new(cli, names, n, false, &t, err);

	if (r < 0)
		return r;
	json_array_foreach(services, i, s) if (add_service(cli, t, names, n, s) < 0) return davit_error_set(
		err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_table_text(t, ret, err);
}

/* Where a column of that name is among those of an answer; SIZE_MAX: nowhere. */
static size_t column_of(json_t *names, const char *name)
{
	json_t *v;
	size_t i;

	json_array_foreach(names, i,
			   v) if (json_is_string(v) && !strcasecmp(json_string_value(v), name)) return i;
	return SIZE_MAX;
}

/* The answer of view=table: rows that the daemon has made. */
static int print_rows(const struct davit_cli *cli, json_t *answer, struct davit_error *err)
{
	json_t *names = json_object_get(answer, "columns"), *rows = json_object_get(answer, "rows"), *row;
	size_t from[DAVIT_ARRAY_SIZE(columns)], n, i;
	const char *const *shown = columns_for(cli, &n);
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	DAVIT_AUTO_TABLE *t = NULL;
	int r = davit_table_new(cli, shown, n, false, &t, err);

	if (r < 0)
		return r;
	for (size_t k = 0; k < n; k++)
		from[k] = column_of(names, shown[k]);
	json_array_foreach(rows, i, row)
	{
		struct libscols_line *line = davit_table_row(t, NULL);
		for (size_t k = 0; k < n; k++) {
			cell(cli, json_array_get(row, from[k]), !strcmp(shown[k], "UPDATED"), &text);
			if (davit_table_set(t, line, k, davit_buf_str(&text)) < 0)
				return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		}
	}
	return davit_table_print(t, err);
}

/* "/v1/services?..." or "/v1/watch?..." for NAME [VERSION] from argument `at`. */
static void target_of(const struct davit_cli *cli, const char *path, size_t at, struct davit_buf *out)
{
	davit_buf_adds(out, path);
	davit_url_query(out, "namespace", davit_cli_namespace(cli));
	if (davit_cli_arg(cli, at))
		davit_url_query(out, "name", davit_cli_arg(cli, at));
	if (davit_cli_arg(cli, at + 1))
		davit_url_query(out, "version", davit_cli_arg(cli, at + 1));
}

/* A name was given and nothing matches: the daemon says so, with a suggestion. */
static int not_found(struct davit_cli *cli, size_t at, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	int r;

	davit_api_service(cli, at, "", &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, NULL, err);
	return r < 0 ? r
		     : davit_error_set(err, DAVIT_ENOENT, NULL, "service '%s' not found",
				       davit_cli_arg(cli, at));
}

static int print_list(struct davit_cli *cli, json_t *list, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *text = NULL;
	int r;

	if (cli->format == DAVIT_FORMAT_JSON || cli->format == DAVIT_FORMAT_YAML)
		return davit_print_value(cli, list, err);
	r = table_of(cli, list, &text, err);
	if (r == 0)
		fputs(text, stdout);
	return r;
}

static int list_once(struct davit_cli *cli, size_t at, struct davit_error *err)
{
	bool quick = cli->format == DAVIT_FORMAT_TEXT || cli->format == DAVIT_FORMAT_TABLE ||
		     cli->format == DAVIT_FORMAT_NAMES;
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL, *list;
	int r;

	target_of(cli, "/v1/services", at, &target);
	if (quick)
		davit_url_query(&target, "view", "table");
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &answer, err);
	if (r < 0)
		return r;
	list = quick ? json_object_get(answer, "rows") : answer;
	if (!json_array_size(list) && davit_cli_arg(cli, at)) {
		r = not_found(cli, at, err);
	} else if (cli->format == DAVIT_FORMAT_NAMES) {
		size_t column = column_of(json_object_get(answer, "columns"), "name"), i;
		const char *name;
		json_t *row;
		json_array_foreach(list, i, row) if ((name = json_string_value(json_array_get(row, column))))
			puts(name);
	} else if (quick) {
		if (!json_array_size(list) && cli->tty)
			fputs("no services; 'davit run NAME' starts one\n", stderr);
		r = print_rows(cli, answer, err);
	} else {
		r = print_list(cli, list, err);
	}
	json_decref(answer);
	return r;
}

/* Puts the service of a change into the sorted list, or takes it out. */
static void merge(json_t *list, json_t *s, bool gone)
{
	json_t *other;
	size_t i;

	json_array_foreach(list, i, other)
	{
		int order = davit_service_compare(s, other);
		if (order > 0)
			continue;
		if (order == 0 && gone)
			json_array_remove(list, i);
		else if (order == 0)
			json_array_set(list, i, s);
		else if (!gone)
			json_array_insert(list, i, s);
		return;
	}
	if (!gone)
		json_array_append(list, s);
}

/* Draws the table over the one drawn before: the lines are counted, the cursor
 * goes up, and what is left of the old picture is cleared. */
static int redraw(struct davit_cli *cli, json_t *list, unsigned *lines, struct davit_error *err)
{
	struct winsize size = {0};
	DAVIT_AUTO_FREE char *text = NULL;
	unsigned n = 0, max;
	int r = table_of(cli, list, &text, err);

	if (r < 0)
		return r;
	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	max = cli->tty && size.ws_row > 2 ? size.ws_row - 1u : UINT32_MAX;
	if (cli->tty && *lines)
		printf("\033[%uA\033[J", *lines);
	else if (!cli->tty && *lines)
		putchar('\n');
	for (char *p = text; *p && n < max; n++) {
		char *end = strchrnul(p, '\n');
		printf("%.*s\n", (int)(end - p), p);
		p = *end ? end + 1 : end;
	}
	*lines = cli->tty ? n : 1;
	fflush(stdout);
	return 0;
}

/* What is shown, over restarts of the daemon. */
struct watching {
	struct davit_cli *cli;
	json_t *list;	/* as the present daemon has told it */
	json_t *before; /* what the one before had told, until this one has told all */
	bool synced;
	unsigned lines;
};

/* Those that nobody tells of any more: they went while there was no daemon. */
static void print_gone(const struct watching *w)
{
	json_t *was, *is;
	size_t i, k;

	json_array_foreach(w->before, i, was)
	{
		json_t *gone;
		bool there = false;
		json_array_foreach(w->list, k, is) there |= davit_service_compare(was, is) == 0;
		if (there)
			continue;
		gone = json_pack("{s:s, s:{s:s, s:s, s:s}}", "type", "gone", "service", "namespace",
				 davit_string(was, "namespace"), "name", davit_string(was, "name"), "version",
				 davit_string(was, "version"));
		davit_print_line(gone);
		json_decref(gone);
	}
}

static int take_change(struct watching *w, json_t *line, bool more, struct davit_error *err)
{
	const char *type = davit_string(line, "type");
	json_t *s = json_object_get(line, "service");
	bool json = w->cli->format == DAVIT_FORMAT_JSON;

	if (s)
		merge(w->list, s, !strcmp(type, "gone"));
	if (!strcmp(type, "sync")) {
		w->synced = true;
		if (json)
			print_gone(w);
		json_decref(w->before);
		w->before = NULL;
	}
	if (json) {
		davit_print_line(line);
		fflush(stdout);
		return 0;
	}
	return w->synced && !more ? redraw(w->cli, w->list, &w->lines, err) : 0;
}

/* One stream to its end: 0, or the code of what broke it. */
static int watch_once(struct watching *w, struct davit_client *stream, struct davit_error *err)
{
	json_t *line;
	int r;

	if (!w->before)
		w->before = w->list;
	else
		json_decref(w->list);
	w->list = json_array();
	w->synced = false;
	while ((r = davit_api_next(stream, &line, NULL, err)) > 0) {
		r = take_change(w, line, davit_client_line_ready(stream), err);
		json_decref(line);
		if (r < 0 || ferror(stdout))
			break;
	}
	return r;
}

static int watch(struct davit_cli *cli, size_t at, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_api_pause pause = {0};
	struct watching w = {.cli = cli};
	bool opened = false;
	int r;

	target_of(cli, "/v1/watch", at, &target);
	r = davit_api_connect(cli, err);
	davit_api_close(cli);
	while (r == 0) {
		struct davit_client *stream = NULL;
		r = davit_api_stream(cli, davit_buf_str(&target), &stream, err);
		if (r == 0) {
			opened = true;
			pause = (struct davit_api_pause){0};
			davit_api_print_stream(stream);
			r = watch_once(&w, stream, err);
			davit_client_close(stream);
		}
		if (!opened || !davit_api_is_away(r) || ferror(stdout))
			break;
		davit_error_clear(err);
		davit_api_pause(cli, &pause);
		r = 0;
	}
	json_decref(w.list);
	json_decref(w.before);
	return r;
}

static int status_at(struct davit_cli *cli, size_t at, struct davit_error *err)
{
	if (!davit_cli_flag(cli, "watch"))
		return list_once(cli, at, err);
	if (cli->format == DAVIT_FORMAT_YAML || cli->format == DAVIT_FORMAT_NAMES)
		return davit_cli_usage(cli, err, "--watch prints a table, wide or json; not %s",
				       davit_cli_value(cli, "output"));
	return watch(cli, at, err);
}

static int run_status(struct davit_cli *cli, struct davit_error *err)
{
	return status_at(cli, 0, err);
}

/* davit get RESOURCE.yml --version V DIR */
static int get_resource(struct davit_cli *cli, struct davit_error *err)
{
	const char *output = davit_cli_value(cli, "output");

	if (davit_cli_flag(cli, "watch") || davit_cli_value(cli, "namespace"))
		return davit_cli_usage(cli, err, "--watch and --namespace are for 'davit get status'");
	if (output && strcmp(output, "json") != 0)
		return davit_cli_usage(cli, err, "a resource is shown as text, or with -o json");
	if (cli->n_args != 2 || !davit_cli_value(cli, "version"))
		return davit_cli_usage(cli, err, "a resource needs: davit get %.64s --version VERSION DIR",
				       cli->args[0]);
	return davit_cli_resource(cli, err);
}

static int run_get(struct davit_cli *cli, struct davit_error *err)
{
	if (davit_is_resource_file(cli->args[0]))
		return get_resource(cli, err);
	if (davit_cli_value(cli, "version") || davit_cli_value(cli, "param") ||
	    davit_cli_value(cli, "timeout"))
		return davit_cli_usage(
			cli, err,
			"--version, --param and --timeout are for a resource's file, which '%.64s' is not",
			cli->args[0]);
	if (strcmp(cli->args[0], "status") != 0)
		return davit_cli_usage(
			cli, err,
			"'get' knows 'status' and resources in files, not '%.64s': davit get status "
			"[NAME], davit get RESOURCE.yml",
			cli->args[0]);
	return status_at(cli, 1, err);
}

static const struct davit_option resource_options[] = {
	{"version", 0, "VERSION", DAVIT_OPTION_STRING, .repeat = true,
	 .doc = "The version of a resource: KEY=VALUE, which may be repeated, or JSON"},
	{"param", 0, "KEY=VALUE", DAVIT_OPTION_PAIR, .repeat = true,
	 .doc = "A parameter for a resource; a value that is JSON is taken as that"},
	{"timeout", 0, "DURATION", DAVIT_OPTION_DURATION, .doc = "End the get of a resource after this time"},
	{0},
};

static const struct davit_option own[] = {
	{"watch", 'w', NULL, DAVIT_OPTION_FLAG, .doc = "Go on and show each change"},
	{"output", 'o', "FORMAT", DAVIT_OPTION_CHOICE, .choices = "table|wide|json|yaml|names",
	 .doc = "table (default), wide, json, yaml or names"},
	{"help", 'h', NULL, DAVIT_OPTION_FLAG, .doc = "Show this text"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, NULL};
static const struct davit_option *const get_options[] = {own, davit_options_namespace, resource_options,
							 NULL};
static const char *const status_examples[] = {"davit status",
					      "all services of the namespace",
					      "davit status foobar -o json",
					      "one service, for a program",
					      "davit status --watch",
					      "redraw at each change",
					      "davit status -o wide --namespace '*'",
					      "everything, with instances and addresses",
					      NULL};
static const char *const get_examples[] = {"davit get status foobar", "the same as 'davit status foobar'",
					   "davit get repo.yml --version ref=61cbef ./repo",
					   "that version of a resource, into ./repo", NULL};
#define DETAILS                                                                                              \
	"The namespace '*' means all. Ages are shown on a terminal, times in UTC elsewhere. With\n"          \
	"--watch and -o json each change is one line {\"type\": \"update\"|\"gone\"|\"sync\", \"service\": " \
	"...};\nafter a restart of the daemon all are told anew, up to the next sync."

const struct davit_command davit_command_status = {
	.name = "status",
	.usage = "[NAME [VERSION]]",
	.group = "Looking",
	.summary = "Show what the services are doing",
	.details = DETAILS,
	.options = options,
	.max_args = 2,
	.complete = "service",
	.run = run_status,
	.examples = status_examples,
};

const struct davit_command davit_command_get = {
	.name = "get",
	.usage = "status [NAME [VERSION]] | RESOURCE.yml DIR",
	.group = "Looking",
	.summary = "Show the status, or fetch a version of a resource",
	.details = "'davit get status' is 'davit status'. " DETAILS
		   "\nWith the file of a resource, --version fetches that version into the directory and "
		   "prints what\n"
		   "the type tells of it; no daemon is asked, and the exit status is 1 when the program of "
		   "the type\n"
		   "failed, 2 when there was an error, 3 when it was aborted.",
	.options = get_options,
	.min_args = 1,
	.max_args = 3,
	.complete = "status",
	.run = run_get,
	.examples = get_examples,
};
