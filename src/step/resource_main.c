/* SPDX-License-Identifier: MIT
 *
 * davit-resource check|get|put FILE [DIR]: one check, get or put of a resource, without a daemon. What the
 * program of the type logs goes to standard error, its answer to standard output. The exit status: 0, 1 when
 * it failed, 2 when it errored, 3 when it was aborted (SIGINT, SIGTERM).
 */
#include "base/file.h"
#include "base/json.h"
#include "base/units.h"
#include "loop/signals.h"
#include "step/resource.h"
#include "step/resource_file.h"
#include "step/resource_step.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct program {
	struct davit_loop *loop;
	struct davit_resource_run *run; /* or, in an image: */
	struct davit_resource_step *step;
	struct davit_artifacts *store;
	struct davit_resource_file file;
	struct davit_resource_spec spec;
	json_t *version, *params;
	const char *path; /* of the resource's file */
	bool json;
	int status;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int complain(const struct program *p, const struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	if (!p->json && err->line && p->path)
		return fprintf(stderr, "davit: %s:%u:%u: %s\n", p->path, err->line, err->column,
			       err->message);
	if (!p->json)
		return fprintf(stderr, "davit: %s\n", err->message);
	davit_json_open(&j);
	davit_json_put_error(&j, err);
	davit_json_close(&j);
	return puts(davit_buf_str(&out));
}

/* -------------------------------------------------------------------------- result */

static void print_line(const json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT);

	if (text)
		puts(text);
	free(text);
}

static void print(const struct program *p, const struct davit_resource_end *end)
{
	json_t *v, *all;
	size_t i;

	if (p->json) {
		all = end->versions
			      ? json_incref(end->versions)
			      : json_pack("{s:O,s:O}", "version", end->version, "metadata", end->metadata);
		print_line(all);
		json_decref(all);
		return;
	}
	if (end->version)
		print_line(end->version);
	json_array_foreach(end->versions, i, v) print_line(v);
	json_array_foreach(end->metadata, i, v)
		printf("%s: %s\n", json_string_value(json_object_get(v, "name")),
		       json_string_value(json_object_get(v, "value")));
}

static void on_log(void *owner, const char *text, size_t len)
{
	(void)owner;
	fwrite(text, 1, len, stderr);
}

static void on_done(void *owner, const struct davit_resource_end *end)
{
	struct program *p = owner;

	p->status = (int)end->outcome;
	if (end->outcome == DAVIT_PLAN_SUCCEEDED)
		print(p, end);
	else
		complain(p, &end->error);
	davit_loop_stop(p->loop);
}

static void on_signal(void *user, int signo)
{
	struct program *p = user;

	(void)signo;
	if (p->step)
		davit_resource_step_abort(p->step);
	else
		davit_resource_abort(p->run);
}

static int start(struct program *p, struct davit_error *err)
{
	static const struct davit_resource_events events = {.log = on_log, .done = on_done};
	int r;

	if (!p->file.image)
		return davit_resource_start(p->loop, &p->spec, &events, p, &p->run, err);
	r = davit_artifacts_open(NULL, 0, &p->store, err);
	return r < 0 ? r
		     : davit_resource_step_start(p->loop, p->store, &p->spec, p->file.image, p->file.runtime,
						 &events, p, &p->step, err);
}

/* Runs the loop until the resource is done, or a signal has ended it. */
static int run(struct program *p, struct davit_error *err)
{
	static const int list[] = {SIGINT, SIGTERM, 0};
	struct davit_signals signals;
	int r = davit_signals_open(&signals, p->loop, list, on_signal, p, err);

	if (r == 0)
		r = start(p, err);
	if (r == 0)
		davit_loop_run(p->loop);
	davit_signals_close(&signals);
	davit_resource_free(p->run);
	davit_resource_step_free(p->step);
	davit_loop_run(p->loop); /* what is being closed */
	davit_artifacts_close(p->store);
	return r;
}

/* ------------------------------------------------------------------------- options */

/* "KEY=VALUE" into a map: of texts for a version, of what JSON makes of it for params. */
static int add_pair(json_t **map, const char *pair, bool text_only, struct davit_error *err)
{
	const char *eq = strchr(pair, '=');
	json_t *v;

	if (!*map)
		*map = json_object();
	if (!eq || eq == pair)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is not of the form KEY=VALUE", pair);
	v = text_only ? NULL : json_loads(eq + 1, JSON_DECODE_ANY, NULL);
	if (!v)
		v = json_string(eq + 1);
	return json_object_setn_new(*map, pair, (size_t)(eq - pair), v) < 0 ? no_memory(err) : 0;
}

static int set_version(json_t **version, const char *text, struct davit_error *err)
{
	json_error_t at;

	if (*text != '{')
		return add_pair(version, text, true, err);
	json_decref(*version);
	*version = json_loads(text, JSON_REJECT_DUPLICATES, &at);
	return *version
		       ? 0
		       : davit_error_set(err, DAVIT_EINVAL, "version", "the version is no JSON: %s", at.text);
}

static const struct option long_options[] = {{"version", 1, NULL, 'V'},
					     {"param", 1, NULL, 'p'},
					     {"timeout", 1, NULL, 't'},
					     {"output", 1, NULL, 'o'},
					     {0}};

static int options(struct program *p, int argc, char **argv, struct davit_error *err)
{
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "o:", long_options, NULL)) != -1)
		switch (c) {
		case 'V':
			r = set_version(&p->version, optarg, err);
			break;
		case 'p':
			r = add_pair(&p->params, optarg, false, err);
			break;
		case 't':
			r = davit_duration_parse(optarg, &p->spec.timeout, err);
			break;
		case 'o':
			p->json = !strcmp(optarg, "json");
			break;
		default:
			r = davit_error_set(err, DAVIT_EINVAL, NULL,
					    "davit-resource is started by davit check, get and put");
		}
	return r;
}

/* The directory that a get fills or a put reads; absolute, heap. */
static int directory(const struct davit_resource_spec *spec, const char *given, char **ret,
		     struct davit_error *err)
{
	DAVIT_AUTO_FREE char *cwd = getcwd(NULL, 0);
	struct stat st;

	*ret = cwd ? davit_path_join(cwd, given) : NULL;
	if (!*ret)
		return no_memory(err);
	if (spec->action == DAVIT_RESOURCE_OUT && (stat(*ret, &st) < 0 || !S_ISDIR(st.st_mode)))
		return davit_error_set(err, DAVIT_ENOENT, NULL, "%s is no directory", given);
	return 0;
}

static int command(struct program *p, int argc, char **argv, struct davit_error *err)
{
	static const char *const names[] = {"check", "get", "put"};
	DAVIT_AUTO_FREE char *dir = NULL;
	const char *tmp = getenv("TMPDIR");
	int r = options(p, argc, argv, err), action = -1;

	argv += optind;
	argc -= optind;
	for (int i = 0; r == 0 && argc && i < (int)DAVIT_ARRAY_SIZE(names); i++)
		if (!strcmp(argv[0], names[i]))
			action = i;
	p->spec.action = (enum davit_resource_action)action;
	if (r == 0 && (action < 0 || argc != (action == DAVIT_RESOURCE_CHECK ? 2 : 3)))
		r = davit_error_set(err, DAVIT_EINVAL, NULL,
				    "davit-resource is started by davit check, get and put");
	if (r == 0 && action != DAVIT_RESOURCE_CHECK)
		r = directory(&p->spec, argv[2], &dir, err);
	if (r == 0)
		r = davit_resource_file_read(p->path = argv[1], &p->file, err);
	if (r == 0) {
		p->spec.type = p->file.type;
		p->spec.source = p->file.source;
		p->spec.version = p->version;
		p->spec.params = p->params;
		p->spec.directory = dir;
		p->spec.scratch = tmp && *tmp == '/' ? tmp : "/tmp";
		r = run(p, err);
	}
	davit_resource_file_fini(&p->file);
	return r;
}

int main(int argc, char **argv)
{
	struct program p = {.status = DAVIT_PLAN_ERRORED};
	struct davit_error err = {0};
	int r = davit_loop_open(&p.loop, &err);

	signal(SIGPIPE, SIG_IGN);
	if (r == 0)
		r = command(&p, argc, argv, &err);
	if (r < 0)
		complain(&p, &err);
	json_decref(p.version);
	json_decref(p.params);
	davit_loop_close(p.loop);
	if (fflush(stdout) == EOF && p.status == DAVIT_PLAN_SUCCEEDED)
		p.status = DAVIT_PLAN_ERRORED;
	return p.status;
}
