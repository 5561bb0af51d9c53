/* SPDX-License-Identifier: MIT
 *
 * From a source to something that runs. A program or script is run as it is; for
 * anything else davit-build is started as an instance of its own on the process
 * runtime: it resolves, fetches, detects the cell and builds, and leaves a result
 * file. Its log is the build's log, and the daemon may die meanwhile.
 */
#include "core/core_impl.h"

#include "base/file.h"
#include "base/fnv.h"
#include "base/log.h"
#include "base/strv.h"
#include "core/secret.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A secret of this name holds git's credentials, one line a host. */
#define GIT_CREDENTIALS "git-credentials"

static uint64_t mix(uint64_t h, const char *s)
{
	return davit_fnv(davit_fnv_text(h, s ? s : "\x01"), "\xff", 1);
}

static const char *runtime_name(const struct davit_service *s)
{
	return s->spec->runtime ? s->spec->runtime : s->core->config.default_runtime;
}

uint64_t build_source_hash(const struct davit_service *s)
{
	char nonce[24];

	snprintf(nonce, sizeof nonce, "%" PRId64, s->nonce);
	uint64_t h = mix(mix(mix(DAVIT_FNV_BASIS, s->spec->source), s->spec->type), nonce);
	const char *runtime = runtime_name(s);

	/* With an image of its own, or as a program of this host, it is the same for all. */
	return s->spec->image || !strcmp(runtime, BUILD_RUNTIME) ? h : mix(h, runtime);
}

/* A regular file that the kernel can execute: an ELF program or a script. */
static bool is_program(const char *path)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	char magic[4];
	struct stat st;

	if (path[0] != '/' || access(path, X_OK) < 0)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || read(fd, magic, 4) < 2)
		return false;
	return !memcmp(magic, "#!", 2) || !memcmp(magic, "\177ELF", 4);
}

bool build_may_name_image(const struct davit_spec *spec)
{
	return spec->source && !spec->image && (spec->type || !is_program(spec->source));
}

bool build_must_wait(const struct davit_service *s)
{
	const struct core_runtime *r = core_runtime_find(s->core, runtime_name(s));

	return build_may_name_image(s->spec) && r && r->phase != RUNTIME_OPEN && r->phase != RUNTIME_LOST;
}

bool build_needed(const struct davit_service *s)
{
	return s->spec->source != NULL;
}

void build_free(struct built *b)
{
	if (!b)
		return;
	davit_strv_free(b->argv);
	davit_strv_free(b->env);
	free(b->directory);
	free(b->tree);
	free(b->cell);
	free(b->content);
	free(b->port_env);
	free(b->image);
	free(b->reference);
	free(b);
}

/* --- the result --- */

static char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? strdup(s) : NULL;
}

static struct built *built_from_json(const json_t *o)
{
	struct built *b = calloc(1, sizeof *b);
	const char *name;
	json_t *v;
	size_t k;
	int r = 0;

	if (!b)
		return NULL;
	json_array_foreach(json_object_get(o, "argv"), k, v) r |=
		davit_strv_add(&b->argv, json_string_value(v) ? json_string_value(v) : "");
	json_object_foreach(json_object_get(o, "env"), name, v) r |=
		davit_strv_setenv(&b->env, name, json_string_value(v) ? json_string_value(v) : "");
	b->directory = text(o, "directory");
	b->tree = text(o, "tree");
	b->cell = text(o, "cell");
	b->content = text(o, "content");
	b->port_env = text(o, "port");
	b->image = text(o, "runImage");
	b->reference = text(o, "reference");
	b->source_hash = (uint64_t)json_integer_value(json_object_get(o, "sourceHash"));
	if (r < 0 || (!b->argv && !b->image)) {
		build_free(b);
		return NULL;
	}
	return b;
}

void build_load(struct davit_service *s, const char *json, size_t len)
{
	json_error_t je;
	json_t *o = json_loadb(json, len, 0, &je);

	if (o)
		s->built = built_from_json(o);
	json_decref(o);
}

static void save(struct davit_service *s, json_t *o)
{
	DAVIT_AUTO_FREE char *key = NULL;
	char *out;

	json_object_set_new(o, "sourceHash", json_integer((json_int_t)s->built->source_hash));
	out = json_dumps(o, JSON_COMPACT);
	if (out && asprintf(&key, "built/%s", s->key) >= 0)
		davit_journal_write(s->core->journal, key, out);
	free(out);
}

static void set_error(struct davit_service *s, const char *why)
{
	free(s->error);
	if (asprintf(&s->error, "build failed: %s", why) < 0)
		s->error = NULL;
}

void build_forget(struct davit_service *s)
{
	/* From here on the cache may drop it. */
	if (s->built && s->built->reference)
		unlink(s->built->reference);
}

/* --- running --- */

static char *work_path(const struct instance *i, const char *what)
{
	char *path;

	if (!i->core->config.paths)
		return NULL;

	return asprintf(&path, "%s/build-%s.%s", i->core->config.paths->cache, i->workload.id, what) < 0
		       ? NULL
		       : path;
}

/* Why the runtime builds no image of the source, and who does: in words; "" where it
 * does. *ret_in_image: what is built runs in an image there. */
static void about_images(const struct davit_service *s, bool *ret_in_image, struct davit_error *why)
{
	const struct core_runtime *r = core_runtime_find(s->core, runtime_name(s));

	*why = (struct davit_error){0};
	*ret_in_image = false;
	if (s->spec->image) {
		davit_error_set(why, DAVIT_ENOTSUP, "image",
				"it is to run in image '%.128s'; leave that out to have one built",
				s->spec->image);
		return;
	}
	*ret_in_image = r && r->driver && r->driver->needs_image;
	facet_builds_images(s->core, runtime_name(s), why);
}

static int write_request(struct instance *i, const char *path, struct davit_error *err)
{
	const struct davit_service *s = i->service;
	const struct davit_core_config *config = &i->core->config;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	struct davit_error no_images;
	bool in_image;

	about_images(s, &in_image, &no_images);
	davit_json_open(&j);
	davit_json_put_string(&j, "source", s->spec->source);
	davit_json_put_string(&j, "type", s->spec->type);
	davit_json_put_string(&j, "namespace", s->spec->namespace_);
	davit_json_put_string(&j, "name", s->spec->name);
	davit_json_put_string(&j, "version", s->spec->version);
	davit_json_put_string(&j, "defaultSource", config->default_source);
	davit_json_put_string(&j, "cache", config->paths->cache);
	davit_json_put_string(&j, "config", config->paths->config);
	davit_json_put_string(&j, "share", config->paths->share);
	davit_json_put_string(&j, "program", config->paths->bin);
	davit_json_put_bool(&j, "force", s->nonce > 0);
	davit_json_put_string(&j, "socket", config->paths->socket);
	davit_json_put_string(&j, "runtime", runtime_name(s));
	davit_json_put_bool(&j, "inImage", in_image);
	if (no_images.code)
		davit_json_put_string(&j, "noImages", no_images.message);
	davit_json_close(&j);
	if (b.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_write_file(path, b.data, b.len, 0600, err);
}

/* The secret of that name in the service's namespace, if there is one, as a file
 * that is there while the build's instance is. */
static int give_credentials(struct instance *i, struct davit_error *err)
{
	struct davit_secrets *secrets = i->core->config.secrets;
	const struct davit_spec *spec = i->service->spec;
	struct davit_secret_ref ref = {.name = (char *)GIT_CREDENTIALS};
	struct davit_workload *w = &i->workload;
	DAVIT_AUTO_FREE char *path = NULL;
	char name[WORKLOAD_FILES_MAX];
	struct davit_secret value;
	int r;

	if (!secrets)
		return 0;
	r = davit_secrets_get(secrets, spec->namespace_, ref.name, &value, err);
	if (r == DAVIT_ENOENT)
		return 0;
	if (r < 0)
		return r;
	davit_secret_wipe(&value);
	r = davit_secrets_materialise(secrets, workload_files_name(i, WORKLOAD_SECRETS, name),
				      spec->namespace_, &ref, 1, (uid_t)-1, (gid_t)-1, &w->secrets_directory,
				      err);
	if (r < 0)
		return r;
	path = davit_path_join(w->secrets_directory, ref.name);
	if (!path || davit_strv_setenv(&w->env, "DAVIT_GIT_CREDENTIALS_FILE", path) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return 0;
}

static int prepare(struct instance *i, struct davit_error *err)
{
	static const char *const passed[] = {"PATH",
					     "HOME",
					     "USER",
					     "LANG",
					     "TZ",
					     "TMPDIR",
					     "http_proxy",
					     "https_proxy",
					     "no_proxy",
					     "HTTPS_PROXY",
					     "NO_PROXY",
					     "GOPROXY",
					     "GOFLAGS",
					     "PIP_INDEX_URL",
					     "npm_config_registry",
					     "CARGO_HOME",
					     "RUSTUP_HOME",
					     "GOSUMDB",
					     "PIP_CONFIG_FILE",
					     "SSL_CERT_FILE",
					     "GONOSUMDB",
					     "GOROOT",
					     "DAVIT_CACHE_SIZE",
					     "DAVIT_BUILD_TIMEOUT"};
	struct davit_workload *w = &i->workload;
	DAVIT_AUTO_FREE char *request = work_path(i, "request");
	DAVIT_AUTO_FREE char *result = work_path(i, "result");
	DAVIT_AUTO_FREE char *program = davit_path_join(i->core->config.paths->libexec, "davit-build");
	int r;

	if (!request || !result || !program)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = write_request(i, request, err);
	if (r < 0)
		return r;
	w->umask = 022;
	if (davit_strv_add(&w->argv, program) < 0 || davit_strv_add(&w->argv, "--request") < 0 ||
	    davit_strv_add(&w->argv, request) < 0 || davit_strv_add(&w->argv, "--result") < 0 ||
	    davit_strv_add(&w->argv, result) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(passed); k++)
		if (getenv(passed[k]) && davit_strv_setenv(&w->env, passed[k], getenv(passed[k])) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return give_credentials(i, err);
}

static void failed(struct davit_service *s, const char *why)
{
	s->build_phase = BUILD_FAILED;
	s->failed_source = build_source_hash(s);
	set_error(s, why);
	core_event(s->core, "build-failed", s, s->build, "%s", why);
	core_service_dirty(s);
	core_service_changed(s);
}

bool build_use_program(struct davit_service *s)
{
	struct built *b;

	if (!is_program(s->spec->source) || s->spec->type)
		return false;
	b = calloc(1, sizeof *b);
	if (!b)
		return false;
	b->source_hash = build_source_hash(s);
	b->cell = strdup("program");
	if (davit_strv_add(&b->argv, s->spec->source) < 0 || !b->cell) {
		build_free(b);
		return false;
	}
	build_free(s->built);
	s->built = b;
	s->build_phase = BUILD_DONE;
	return true;
}

void build_begin(struct davit_service *s)
{
	struct davit_error err;
	struct instance *i;

	if (build_use_program(s))
		return;
	if (s->build)
		instance_set_goal(s->build, GOAL_GONE);
	s->build = NULL;
	if (!s->core->config.paths) {
		davit_error_set(&err, DAVIT_ENOTSUP, "source", "sources cannot be built here");
		failed(s, err.message);
		return;
	}
	i = instance_new(s, 0, true, &err);
	if (!i) {
		failed(s, err.message);
		return;
	}
	s->build = i;
	s->build_phase = BUILD_RUNNING;
	i->generation = build_source_hash(s);
	if (prepare(i, &err) < 0 || workload_build(i, &err) < 0) {
		failed(s, err.message);
		return;
	}
	core_event(s->core, "building", s, i, "from %s", s->spec->source);
	core_service_changed(s);
	instance_set_goal(i, GOAL_RUN);
}

/* The result stays where it is as long as the instance does: a daemon that dies
 * before the record of the build is durable reads it again. */
void build_ended(struct instance *i)
{
	struct davit_service *s = i->service;
	DAVIT_AUTO_FREE char *result = work_path(i, "result");
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_error err;
	struct built *built;
	const char *why;
	json_error_t je;
	json_t *o = NULL;

	if (i->goal == GOAL_GONE || !s || s->build != i)
		return;
	i->goal = GOAL_REST;
	workload_files_wipe(i); /* only its log is kept */
	if (result && davit_read_file(result, 1 << 20, &b, &err) == 0)
		o = json_loadb(b.data, b.len, 0, &je);
	why = json_string_value(json_object_get(json_object_get(o, "error"), "message"));
	built = i->exit.kind == DAVIT_EXIT_CODE && i->exit.code == 0 && o && !why ? built_from_json(o) : NULL;
	if (!built) {
		char text[64];
		snprintf(text, sizeof text, "davit-build ended with %s %d",
			 i->exit.kind == DAVIT_EXIT_CODE ? "code" : "signal",
			 i->exit.kind == DAVIT_EXIT_CODE ? i->exit.code : i->exit.signal);
		failed(s, why ? why : i->exit.reason[0] ? i->exit.reason : text);
	} else {
		built->source_hash = i->generation;
		build_free(s->built);
		s->built = built;
		s->build_phase = BUILD_DONE;
		free(s->error);
		s->error = NULL;
		save(s, o);
		core_event(s->core, "built", s, i, "cell %s, content %s", built->cell ? built->cell : "-",
			   built->content ? built->content : "-");
		core_service_dirty(s);
		core_service_changed(s);
	}
	json_decref(o);
}

void build_discard(struct instance *i)
{
	DAVIT_AUTO_FREE char *result = work_path(i, "result");
	DAVIT_AUTO_FREE char *request = work_path(i, "request");

	if (result)
		unlink(result);
	if (request)
		unlink(request);
}
