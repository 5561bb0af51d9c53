/* SPDX-License-Identifier: MIT
 *
 * davit-build --request FILE --result FILE
 *
 * The daemon runs this as a workload like any other; what it prints is the log
 * of the build. git runs it too, when it asks for a user's name or password.
 */
#include "base/file.h"
#include "base/json.h"
#include "base/strv.h"
#include "base/units.h"
#include "source/build.h"
#include "source/git.h"
#include "source/run.h"

#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define REQUEST_MAX 65536
#define CACHE_SIZE "5Gi"
#define TIMEOUT "30m"

extern char **environ;

static int setting(const char *name, const char *fallback,
		   int (*read)(const char *, struct davit_build_request *, struct davit_error *),
		   struct davit_build_request *q, struct davit_error *err)
{
	const char *value = getenv(name);
	int r = read(value && *value ? value : fallback, q, err);

	if (r < 0)
		davit_error_prefix(err, "%s", name);
	return r;
}

static int read_cache_size(const char *s, struct davit_build_request *q, struct davit_error *err)
{
	return davit_size_parse(s, &q->cache_size, err);
}

static int read_timeout(const char *s, struct davit_build_request *q, struct davit_error *err)
{
	return davit_duration_parse(s, &q->timeout, err);
}

static const char *text(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && *s ? s : NULL;
}

/* Borrows from o. */
static int read_request(json_t *o, struct davit_build_request *q, struct davit_error *err)
{
	const struct {
		const char *key;
		const char **to;
	} needed[] = {
		{"namespace", &q->namespace_}, {"name", &q->name},     {"version", &q->version},
		{"cache", &q->cache},	       {"config", &q->config}, {"share", &q->share},
		{"program", &q->program},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(needed); i++) {
		*needed[i].to = text(o, needed[i].key);
		if (!*needed[i].to)
			return davit_error_set(err, DAVIT_EINVAL, needed[i].key, "the request has no '%s'",
					       needed[i].key);
	}
	q->source = json_string_value(json_object_get(o, "source"));
	q->type = text(o, "type");
	q->default_source = text(o, "defaultSource");
	q->runtime = text(o, "runtime");
	q->socket = text(o, "socket");
	q->no_images = q->runtime && q->socket ? text(o, "noImages") : "nobody is named who builds images";
	q->in_image = json_is_true(json_object_get(o, "inImage"));
	q->force = json_is_true(json_object_get(o, "force"));
	return 0;
}

/* The environment without davit's own variables, which are not the tools'
 * business and may name secrets. */
static int tool_env(char ***ret, struct davit_error *err)
{
	int r = 0;

	for (char **e = environ; r == 0 && *e; e++)
		if (strncmp(*e, "DAVIT_", 6))
			r = davit_strv_add(ret, *e);
	return r < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

static int build(json_t *o, json_t **ret, struct davit_error *err)
{
	struct davit_build_request q = {0};
	const char *credentials = getenv("DAVIT_GIT_CREDENTIALS_FILE");
	char self[PATH_MAX];
	DAVIT_AUTO_STRV env = NULL;
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	int r = read_request(o, &q, err);

	self[n < 0 ? 0 : n] = '\0';
	if (r == 0)
		r = setting("DAVIT_CACHE_SIZE", CACHE_SIZE, read_cache_size, &q, err);
	if (r == 0)
		r = setting("DAVIT_BUILD_TIMEOUT", TIMEOUT, read_timeout, &q, err);
	if (r == 0)
		r = tool_env(&env, err);
	if (r == 0)
		r = davit_run_init(err);
	if (r == 0 && sodium_init() < 0)
		r = davit_error_set(err, DAVIT_EINTERNAL, NULL, "libsodium does not work here");
	if (r < 0)
		return r;
	q.env = env;
	q.self = self;
	q.credentials = credentials && *credentials ? credentials : NULL;
	return davit_build(&q, ret, err);
}

static int write_result(const char *path, json_t *result, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *s = json_dumps(result, JSON_INDENT(1));

	return s ? davit_write_file(path, s, strlen(s), 0600, err)
		 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* Never fails to say what went wrong: in the log when not in the file. */
static void report(const char *path, const struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	struct davit_error why;

	fprintf(stderr, "davit-build: %s\n", err->message);
	davit_json_open(&j);
	davit_json_put_error(&j, err);
	davit_json_close(&j);
	if (b.oom || davit_write_file(path, b.data, b.len, 0600, &why) < 0)
		fprintf(stderr, "davit-build: %s\n", b.oom ? "out of memory" : why.message);
}

static int run(const char *request, const char *result)
{
	DAVIT_AUTO_BUF in = DAVIT_BUF_INIT;
	json_t *o = NULL, *out = NULL;
	struct davit_error err;
	json_error_t je;
	int r = davit_read_file(request, REQUEST_MAX, &in, &err);

	if (r == 0) {
		o = json_loadb(davit_buf_str(&in), in.len, 0, &je);
		r = o ? build(o, &out, &err)
		      : davit_error_set(&err, DAVIT_EINVAL, NULL, "%s: line %d: %s", request, je.line,
					je.text);
	}
	if (r == 0)
		r = write_result(result, out, &err);
	if (r < 0)
		report(result, &err);
	json_decref(out);
	json_decref(o);
	return r < 0;
}

static int askpass(const char *prompt)
{
	const char *file = getenv("DAVIT_GIT_CREDENTIALS_FILE");
	struct davit_error err;

	if (!file || davit_git_askpass(prompt, file, stdout, &err) == 0)
		return !file;
	fprintf(stderr, "davit-build: %s\n", err.message);
	return 1;
}

int main(int argc, char **argv)
{
	const char *request = NULL, *result = NULL;

	if (getenv("DAVIT_GIT_ASKPASS"))
		return argc == 2 ? askpass(argv[1]) : 1;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--request"))
			request = argv[i + 1];
		else if (!strcmp(argv[i], "--result"))
			result = argv[i + 1];
	}
	if (argc != 5 || !request || !result) {
		fprintf(stderr, "usage: davit-build --request FILE --result FILE\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	return run(request, result);
}
