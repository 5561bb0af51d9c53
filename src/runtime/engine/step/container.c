/* SPDX-License-Identifier: MIT */
#include "runtime/engine/step/driver.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define FETCH_PATIENCE 3600 /* seconds of silence while an image is fetched */

/* ----------------------------------------------------------------------------- the image */

static bool is_reference(const char *s)
{
	return *s && !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./:_@-")];
}

static int look(struct driver *d, json_t **ret, struct davit_error *err)
{
	char path[600];
	int r;

	snprintf(path, sizeof path, "/images/%s/json", d->step.image);
	r = api_call(&d->api, "GET", path, NULL, ret, err);
	return r == 0 && !*ret
		       ? davit_error_set(err, DAVIT_EPROTO, NULL, "the engine's answer makes no sense")
		       : r;
}

/* The answer tells its progress, an object a line; a failure can be one of them, after a status of success.
 */
static int fetch(struct driver *d, struct davit_error *err)
{
	struct api patient = d->api;
	const char *name = d->step.image, *tag = strrchr(name, ':');
	bool tagged = strchr(name, '@') || (tag && !strchr(tag, '/'));
	DAVIT_AUTO_CLOSE int fd = -1;
	FILE *f;
	char path[700], line[4096];
	int r;

	snprintf(path, sizeof path, "/images/create?fromImage=%s%s", name, tagged ? "" : ":latest");
	patient.patience = FETCH_PATIENCE;
	r = api_begin(&patient, "POST", path, NULL, false, &fd, err);
	if (r == 0)
		r = api_answer(fd, err);
	if (r < 0)
		return r;
	f = fdopen(DAVIT_TAKE_FD(fd), "r");
	while (f && fgets(line, sizeof line, f)) {
		json_t *o = json_loads(line, 0, NULL);
		const char *why = json_string_value(json_object_get(o, "error"));

		if (why && r == 0)
			r = davit_error_set(err, DAVIT_ENOENT, NULL, "%s", why);
		json_decref(o);
	}
	if (f)
		fclose(f);
	return r;
}

static int check_name(const struct driver *d, struct davit_error *err)
{
	const char *name = d->step.image;

	return is_reference(name) && strlen(name) <= 500
		       ? 0
		       : davit_error_set(err, DAVIT_EINVAL, "image", "'%.200s' is not the name of an image",
					 name);
}

static int fetch_and_look(struct driver *d, json_t **ret, struct davit_error *err)
{
	struct davit_error why = {0};

	if (fetch(d, &why) == 0)
		return look(d, ret, err);
	return davit_error_set(err, DAVIT_ENOENT, "image",
			       "image '%.200s' not found locally, and it cannot be fetched: %s",
			       d->step.image, why.message);
}

static int find_image(struct driver *d, json_t **ret, struct davit_error *err)
{
	int r = check_name(d, err);

	if (r == 0)
		r = look(d, ret, err);
	if (r != DAVIT_ENOENT)
		return r;
	step_session_note("fetching the image %s", d->step.image);
	return fetch_and_look(d, ret, err);
}

int container_image(struct driver *d, bool with_fetch, char *ret, size_t size, struct davit_error *err)
{
	json_t *image = NULL;
	const char *id;
	int r = check_name(d, err);

	if (r == 0)
		r = look(d, &image, err);
	if (r == DAVIT_ENOENT && with_fetch)
		r = fetch_and_look(d, &image, err);
	if (r < 0)
		return r;
	id = json_string_value(json_object_get(image, "Id"));
	snprintf(ret, size, "%s", id ? id : "");
	json_decref(image);
	return *ret ? 0 : davit_error_set(err, DAVIT_EPROTO, NULL, "the engine's answer makes no sense");
}

/* ----------------------------------------------------------------------------- the order */

static void add_record(struct driver *d, enum step_tag tag, const char *text)
{
	static const char zeros[8];
	size_t n = strlen(text);
	struct step_record r = {.tag = tag, .length = (uint32_t)n + 1};

	davit_buf_add(&d->order, &r, sizeof r);
	davit_buf_add(&d->order, text, n);
	davit_buf_add(&d->order, zeros, STEP_RECORD_PAD(n + 1) - n);
}

static bool has_env(const struct step *s, const char *entry)
{
	size_t n = strcspn(entry, "=") + 1;

	for (size_t i = 0; i < s->n_env; i++)
		if (!strncmp(s->env[i], entry, n))
			return true;
	return false;
}

static void take_config(struct driver *d, const json_t *image)
{
	const json_t *config = json_object_get(image, "Config");
	const char *user = json_string_value(json_object_get(config, "User"));
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(config, "Env"), i, v)
	{
		const char *entry = json_string_value(v);

		if (entry && strchr(entry, '=') && !has_env(&d->step, entry))
			add_record(d, STEP_ENV, entry);
	}
	if (!d->step.user && user && *user)
		add_record(d, STEP_USER, user);
}

/* -------------------------------------------------------------------------- the container */

static void put_words(struct davit_json *j, const char *key, const char *word)
{
	davit_json_key(j, key);
	davit_json_open_array(j);
	davit_json_string(j, word);
	davit_json_close_array(j);
}

static void put_ulimit(struct davit_json *j, const char *name, __rlimit_resource_t resource)
{
	struct rlimit own;

	if (getrlimit(resource, &own) < 0)
		return;
	davit_json_open(j);
	davit_json_put_string(j, "Name", name);
	davit_json_put_int(j, "Soft", own.rlim_cur > INT64_MAX ? -1 : (int64_t)own.rlim_cur);
	davit_json_put_int(j, "Hard", own.rlim_max > INT64_MAX ? -1 : (int64_t)own.rlim_max);
	davit_json_close(j);
}

static void put_host(struct driver *d, struct davit_json *j)
{
	const struct step_options *o = &d->step.options;

	davit_json_key(j, "HostConfig");
	davit_json_open(j);
	/* Whoever is killed: when nobody listens to its first process, that ends. */
	davit_json_put_bool(j, "AutoRemove", true);
	davit_json_put_string(j, "NetworkMode", o->hermetic ? "none" : "host");
	davit_json_put_bool(j, "Privileged", o->privileged);
	if (o->memory) {
		davit_json_put_int(j, "Memory", (int64_t)o->memory);
		davit_json_put_int(j, "MemorySwap", (int64_t)o->memory);
	}
	if (o->cpu_millicores)
		davit_json_put_int(j, "NanoCpus", o->cpu_millicores * INT64_C(1000000));
	davit_json_put_int(j, "PidsLimit", o->processes);
	if (d->flavour->limits_always) {
		davit_json_key(j, "Ulimits");
		davit_json_open_array(j);
		put_ulimit(j, "nofile", RLIMIT_NOFILE);
		put_ulimit(j, "nproc", RLIMIT_NPROC);
		davit_json_close_array(j);
	}
	davit_json_key(j, "LogConfig");
	davit_json_open(j);
	davit_json_put_string(j, "Type", "none");
	davit_json_close(j);
	davit_json_close(j);
}

static void write_spec(struct driver *d, struct davit_buf *out)
{
	struct davit_json j = DAVIT_JSON_INIT(out);

	davit_json_open(&j);
	davit_json_put_string(&j, "Image", d->step.image);
	put_words(&j, "Entrypoint", STEP_INSIDE_PROGRAM);
	put_words(&j, "Cmd", "inside");
	davit_json_put_string(&j, "User", "0:0");
	davit_json_put_string(&j, "WorkingDir", "/");
	for (const char *const *s = (const char *const[]){"AttachStdin", "AttachStdout", "AttachStderr",
							  "OpenStdin", "StdinOnce", NULL};
	     *s; s++)
		davit_json_put_bool(&j, *s, true);
	davit_json_key(&j, "Healthcheck");
	davit_json_open(&j);
	put_words(&j, "Test", "NONE");
	davit_json_close(&j);
	davit_json_key(&j, "Labels");
	davit_json_open(&j);
	davit_json_put_string(&j, "davit.step", d->container + strlen("davit-step-"));
	davit_json_close(&j);
	put_host(d, &j);
	davit_json_close(&j);
}

int container_create(struct driver *d, struct davit_error *err)
{
	DAVIT_AUTO_BUF spec = DAVIT_BUF_INIT;
	json_t *image = NULL, *answer = NULL;
	char path[80];
	int r = find_image(d, &image, err);

	if (r < 0)
		return r;
	take_config(d, image);
	json_decref(image);
	write_spec(d, &spec);
	if (spec.oom || d->order.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	snprintf(path, sizeof path, "/containers/create?name=%s", d->container);
	r = api_call(&d->api, "POST", path, &spec, &answer, err);
	json_decref(answer);
	return r;
}

int container_start(struct driver *d, int *ret_fd, struct davit_buf *early, struct davit_error *err)
{
	json_t *answer = NULL;
	char path[120];
	int r;

	snprintf(path, sizeof path, "/containers/%s/attach?stream=1&stdin=1&stdout=1&stderr=1", d->container);
	r = api_stream(&d->api, path, "", ret_fd, early, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof path, "/containers/%s/start", d->container);
	r = api_call(&d->api, "POST", path, NULL, &answer, err);
	json_decref(answer);
	return r;
}

int container_remove(struct driver *d, struct davit_error *err)
{
	json_t *answer = NULL;
	char path[80];
	int r;

	snprintf(path, sizeof path, "/containers/%s?force=1&v=1", d->container);
	r = api_call(&d->api, "DELETE", path, NULL, &answer, err);
	json_decref(answer);
	/* It is gone, or the engine is at it. */
	return r == DAVIT_ENOENT || r == DAVIT_ESTATE ? 0 : r;
}
