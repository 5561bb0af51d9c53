/* SPDX-License-Identifier: MIT
 *
 * davit init: a workspace over a source tree, from up to four levels of
 * configuration.
 */
#include "cli/workspace.h"

#include "base/file.h"
#include "cli/api.h"
#include "cli/output.h"
#include "workspace/config.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_RUNTIME "DAVIT_DEFAULT_RUNTIME"

/* ------------------------------------------------------------------------- the levels */

static int lay(struct davit_workspace_merged *m, const char *path, const char *layer, struct davit_error *err)
{
	json_t *config;
	int r = davit_workspace_config_load(path, &config, err);

	if (r < 0)
		return r;
	r = davit_workspace_merge(m, config, layer, err);
	json_decref(config);
	return r;
}

/* One that may be missing. */
static int lay_if_there(struct davit_workspace_merged *m, const char *path, const char *layer,
			bool *ret_there, struct davit_error *err)
{
	*ret_there = access(path, F_OK) == 0 || errno != ENOENT;
	return *ret_there ? lay(m, path, layer, err) : 0;
}

/* The names are parts of paths. */
static int check_word(struct davit_cli *cli, const char *option, struct davit_error *err)
{
	const char *v = davit_cli_value(cli, option);

	if (v && (!v[0] || v[0] == '.' || strchr(v, '/')))
		return davit_cli_usage(cli, err, "--%s: '%.64s' is not a name", option, v);
	return 0;
}

/* <config>/projects/P/workspace.json, <config>/agents/A/workspace.json. */
static int lay_named(struct davit_cli *cli, struct davit_workspace_merged *m, const char *option,
		     const char *directory, struct davit_error *err)
{
	const char *name = davit_cli_value(cli, option);
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;
	int r;

	if (!name)
		return 0;
	r = check_word(cli, option, err);
	davit_buf_addf(&path, "%s/%s/%s/workspace.json", cli->paths.config, directory, name);
	if (r == 0)
		r = lay(m, davit_buf_str(&path), option, err);
	if (r == DAVIT_ENOENT)
		davit_error_prefix(err, "%s '%s' is not configured", option, name);
	return r;
}

/* workspace < global < project < agent, then what the command line says. ret_path is
 * the file of the first level, or stays empty. */
static int merge(struct davit_cli *cli, const char *source, struct davit_workspace_merged *m,
		 struct davit_buf *ret_path, struct davit_error *err)
{
	const char *given = davit_cli_value(cli, "config"), *image = davit_cli_value(cli, "image");
	DAVIT_AUTO_BUF own = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF global = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *full = given ? realpath(given, NULL) : NULL;
	json_t *nothing = json_object(), *last = image ? json_pack("{s:s}", "image", image) : NULL;
	bool there = given != NULL;
	int r;

	davit_buf_addf(&own, "%s/.davit/workspace.json", source);
	davit_buf_addf(&global, "%s/workspace.json", cli->paths.config);
	r = davit_workspace_merge(m, nothing, "workspace", err);
	if (r == 0)
		r = given ? lay(m, full ? full : given, "workspace", err)
			  : lay_if_there(m, davit_buf_str(&own), "workspace", &there, err);
	if (r == 0 && there)
		davit_buf_adds(ret_path, full ? full : davit_buf_str(&own));
	if (r == 0)
		r = lay_if_there(m, davit_buf_str(&global), "global", &there, err);
	if (r == 0)
		r = lay_named(cli, m, "project", "projects", err);
	if (r == 0)
		r = lay_named(cli, m, "agent", "agents", err);
	if (r == 0 && last)
		r = davit_workspace_merge(m, last, "command line", err);
	json_decref(nothing);
	json_decref(last);
	return r;
}

/* ------------------------------------------------------------------------- --dump-config */

struct dumping {
	struct davit_table *t;
	int r;
};

static void dump_row(void *user, const char *path, const json_t *value, const char *layer)
{
	struct dumping *d = user;
	struct libscols_line *row = davit_table_row(d->t, NULL);
	DAVIT_AUTO_FREE char *text = json_dumps(value, JSON_ENCODE_ANY);

	d->r |= davit_table_set(d->t, row, 0, path);
	d->r |= davit_table_set(d->t, row, 1, text ? text : "");
	d->r |= davit_table_set(d->t, row, 2, layer);
}

static int dump(struct davit_cli *cli, const struct davit_workspace_merged *m, struct davit_error *err)
{
	static const char *const columns[] = {"SETTING", "VALUE", "FROM"};
	DAVIT_AUTO_TABLE *t = NULL;
	struct dumping d = {0};
	int r;

	if (cli->format != DAVIT_FORMAT_TEXT)
		return davit_print_value(cli, m->config, err);
	r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &t, err);
	if (r < 0)
		return r;
	d.t = t;
	r = davit_workspace_merged_each(m, dump_row, &d, err);
	if (r == 0 && d.r)
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return r < 0 ? r : davit_table_print(t, err);
}

/* ------------------------------------------------------------------------- the request */

/* Never found out by looking which runtimes there are: the same command gives the
 * same workspace everywhere. */
static int no_runtime(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF names = DAVIT_BUF_INIT;
	json_t *all = NULL, *runtime;
	size_t i;

	if (davit_api_call(cli, "GET", "/v1/runtimes", NULL, &all, NULL) == 0)
		json_array_foreach(all, i, runtime) davit_buf_addf(
			&names, "%s%s", i ? ", " : "; there are: ", davit_string(runtime, "name"));
	json_decref(all);
	return davit_cli_usage(cli, err, "no runtime is named: use --runtime, or set " DEFAULT_RUNTIME "%s",
			       davit_buf_str(&names));
}

static void set(json_t *body, const char *key, const char *value)
{
	if (value && value[0])
		json_object_set_new(body, key, json_string(value));
}

static int post(struct davit_cli *cli, const char *runtime, const char *source, const char *config_path,
		json_t *config, struct davit_error *err)
{
	bool start = davit_cli_flag(cli, "start");
	json_t *body = json_pack("{s:s, s:s, s:O, s:b}", "runtime", runtime, "source", source, "config",
				 config, "start", start);
	json_t *answer = NULL;
	int r;

	if (!body)
		return davit_cli_usage(cli, err, "the source's path or the runtime's name is not UTF-8 text");
	if (davit_cli_flag(cli, "name") && !davit_cli_value(cli, "name")[0]) {
		json_decref(body);
		return davit_cli_usage(cli, err, "--name: must not be empty");
	}
	set(body, "name", davit_cli_value(cli, "name"));
	set(body, "agent", davit_cli_value(cli, "agent"));
	set(body, "project", davit_cli_value(cli, "project"));
	set(body, "configPath", config_path);
	if (start && cli->progress && cli->format == DAVIT_FORMAT_TEXT)
		fputs("starting...\n", stderr);
	r = davit_api_call(cli, "POST", "/v1/workspaces", body, &answer, err);
	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else if (r == 0)
		davit_workspace_print(cli, answer);
	json_decref(body);
	json_decref(answer);
	return r;
}

static int find_source(const char *given, char **ret, struct davit_error *err)
{
	struct stat st;
	char *full = realpath(given, NULL);

	if (!full)
		return davit_error_errno(err, errno, "source", "the source %s", given);
	if (stat(full, &st) < 0 || !S_ISDIR(st.st_mode)) {
		free(full);
		return davit_error_set(err, DAVIT_EINVAL, "source", "the source %s is not a directory",
				       given);
	}
	*ret = full;
	return 0;
}

static int run_init(struct davit_cli *cli, struct davit_error *err)
{
	const char *runtime = davit_cli_value(cli, "runtime");
	struct davit_workspace_merged merged = {0};
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *source = NULL;
	int r = find_source(cli->n_args ? cli->args[0] : ".", &source, err);

	if (!runtime || !runtime[0])
		runtime = getenv(DEFAULT_RUNTIME);
	if (r == 0)
		r = merge(cli, source, &merged, &path, err);
	if (r == 0 && davit_cli_flag(cli, "dump-config"))
		r = dump(cli, &merged, err);
	else if (r == 0 && (!runtime || !runtime[0]))
		r = no_runtime(cli, err);
	else if (r == 0)
		r = post(cli, runtime, source, davit_buf_str(&path), merged.config, err);
	davit_workspace_merged_fini(&merged);
	return r;
}

static const struct davit_option own[] = {
	{"runtime", 0, "RUNTIME", DAVIT_OPTION_STRING,
	 .doc = "Runtime that carries it (default: $" DEFAULT_RUNTIME "; never guessed)"},
	{"name", 0, "NAME", DAVIT_OPTION_STRING, .doc = "What it is called (default: the directory's name)"},
	{"agent", 0, "AGENT", DAVIT_OPTION_STRING,
	 .doc = "Agent that works in it, with a level of configuration"},
	{"project", 0, "PROJECT", DAVIT_OPTION_STRING,
	 .doc = "Project that it belongs to, with a level of configuration"},
	{"image", 0, "IMAGE", DAVIT_OPTION_STRING, .doc = "Image to run, on a runtime that has images"},
	{"config", 0, "FILE", DAVIT_OPTION_PATH, .doc = "Instead of DIR/.davit/workspace.json"},
	{"start", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Start it, too; one that cannot be started leaves no record"},
	{"dump-config", 0, NULL, DAVIT_OPTION_FLAG,
	 .doc = "Print what the levels of configuration come to, with where each value is from, and do "
		"nothing"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_data, NULL};
static const char *const examples[] = {
	"davit init --runtime process --start",
	"the current directory, on this host",
	"davit init ~/src/app --runtime podman --image localhost/dev:1 --name app",
	"in a container; started by 'davit start app' or 'davit terminal app'",
	"davit init --agent reviewer --dump-config",
	"what the levels of configuration come to",
	NULL};

const struct davit_command davit_command_init = {
	.name = "init",
	.usage = "[DIR]",
	.group = "Workspaces",
	.summary = "Make a workspace: a source tree inside a runtime",
	.details =
		"Configuration is merged from DIR/.davit/workspace.json, then workspace.json, "
		"projects/PROJECT\n"
		"and agents/AGENT in davit's directory of configuration. A name that is taken gets a number.",
	.options = options,
	.max_args = 1,
	.complete = "file",
	.run = run_init,
	.examples = examples,
};
