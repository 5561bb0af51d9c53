/* SPDX-License-Identifier: MIT
 *
 * An image's configuration, as OCI and docker write it. null counts as not there.
 */
#include "image/image_impl.h"

#include "base/strv.h"
#include "base/units.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

void image_platform(const char **ret_architecture, const char **ret_variant)
{
	static const struct {
		const char *machine, *architecture, *variant;
	} known[] = {
		{"x86_64", "amd64", ""},	{"aarch64", "arm64", "v8"}, {"armv7l", "arm", "v7"},
		{"armv6l", "arm", "v6"},	{"i686", "386", ""},	    {"i386", "386", ""},
		{"riscv64", "riscv64", ""},	{"ppc64le", "ppc64le", ""}, {"s390x", "s390x", ""},
		{"loongarch64", "loong64", ""},
	};
	static struct utsname u;

	*ret_variant = "";
	*ret_architecture = uname(&u) == 0 ? u.machine : "unknown";
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(known); i++) {
		if (!strcmp(*ret_architecture, known[i].machine)) {
			*ret_architecture = known[i].architecture;
			*ret_variant = known[i].variant;
			return;
		}
	}
}

void davit_image_free(struct davit_image *i)
{
	if (!i)
		return;
	for (size_t k = 0; k < i->n_labels; k++) {
		free(i->labels[k].key);
		free(i->labels[k].value);
	}
	free(i->labels);
	char **const vectors[] = {i->layers, i->env,	 i->entrypoint, i->command,
				  i->ports,  i->volumes, i->health_test};
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(vectors); k++)
		davit_strv_free(vectors[k]);
	char *const strings[] = {i->reference, i->os,	i->architecture, i->variant,
				 i->directory, i->user, i->stop_signal,	 i->config};
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(strings); k++)
		free(strings[k]);
	free(i);
}

static int copy_string(const struct image_doc *d, json_t *o, const char *path, const char *key, char **ret)
{
	const char *s = NULL;
	int r = image_doc_string(d, o, path, key, &s);

	if (r == 0 && s && *s) {
		*ret = strdup(s);
		r = *ret ? 0 : image_oom(d->err);
	}
	return r;
}

/* A list of strings. */
static int copy_list(const struct image_doc *d, json_t *o, const char *key, char ***ret)
{
	json_t *list = json_object_get(o, key), *v;
	char field[96];
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	snprintf(field, sizeof field, "config.%s", key);
	if (!json_is_array(list))
		return image_doc_fail(d, field, "must be a list of strings");
	json_array_foreach(list, i, v)
	{
		snprintf(field, sizeof field, "config.%s[%zu]", key, i);
		if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
			return image_doc_fail(d, field, "must be a string without NUL");
		if (davit_strv_add(ret, json_string_value(v)) < 0)
			return image_oom(d->err);
	}
	return 0;
}

/* An object of which only the keys count; one without a slash gets the suffix. */
static int copy_keys(const struct image_doc *d, json_t *o, const char *key, const char *suffix, char ***ret)
{
	json_t *set = json_object_get(o, key);
	char field[96];
	const char *k;

	if (!set || json_is_null(set))
		return 0;
	snprintf(field, sizeof field, "config.%s", key);
	if (!json_is_object(set))
		return image_doc_fail(d, field, "must be an object");
	for (void *at = json_object_iter(set); at; at = json_object_iter_next(set, at)) {
		DAVIT_AUTO_FREE char *full = NULL;
		k = json_object_iter_key(at);
		if (asprintf(&full, "%s%s", k, strchr(k, '/') ? "" : suffix) < 0 ||
		    davit_strv_add(ret, full) < 0)
			return image_oom(d->err);
	}
	return 0;
}

static int copy_labels(const struct image_doc *d, json_t *o, struct davit_image *i)
{
	json_t *set = json_object_get(o, "Labels"), *v;
	const char *k;

	if (!set || json_is_null(set))
		return 0;
	if (!json_is_object(set))
		return image_doc_fail(d, "config.Labels", "must be an object");
	i->labels = calloc(json_object_size(set) + 1, sizeof *i->labels);
	if (!i->labels)
		return image_oom(d->err);
	json_object_foreach(set, k, v)
	{
		struct davit_image_pair *p = &i->labels[i->n_labels];
		if (!json_is_string(v))
			return image_doc_fail(d, "config.Labels", "must have strings as values");
		i->n_labels++;
		p->key = strdup(k);
		p->value = strdup(json_string_value(v));
		if (!p->key || !p->value)
			return image_oom(d->err);
	}
	return 0;
}

static int copy_number(const struct image_doc *d, json_t *o, const char *key, int64_t *ret)
{
	json_t *v = json_object_get(o, key);
	char field[96];

	snprintf(field, sizeof field, "config.Healthcheck.%s", key);
	if (v && !json_is_null(v) && (!json_is_integer(v) || json_integer_value(v) < 0))
		return image_doc_fail(d, field, "must be a number, not negative");
	*ret = json_integer_value(v);
	return 0;
}

static int copy_health(const struct image_doc *d, json_t *o, struct davit_image *i)
{
	json_t *h = json_object_get(o, "Healthcheck");
	int r;

	if (!h || json_is_null(h))
		return 0;
	if (!json_is_object(h))
		return image_doc_fail(d, "config.Healthcheck", "must be an object");
	r = copy_list(d, h, "Test", &i->health_test);
	if (r == 0)
		r = copy_number(d, h, "Interval", &i->health_interval);
	if (r == 0)
		r = copy_number(d, h, "Timeout", &i->health_timeout);
	if (r == 0)
		r = copy_number(d, h, "StartPeriod", &i->health_start_period);
	return r == 0 ? copy_number(d, h, "Retries", &i->health_retries) : r;
}

static int copy_run(const struct image_doc *d, json_t *c, struct davit_image *i)
{
	const struct {
		const char *key;
		char ***ret;
	} lists[] = {{"Env", &i->env}, {"Entrypoint", &i->entrypoint}, {"Cmd", &i->command}};
	const struct {
		const char *key;
		char **ret;
	} strings[] = {{"WorkingDir", &i->directory}, {"User", &i->user}, {"StopSignal", &i->stop_signal}};
	int r = 0;

	if (!c || json_is_null(c))
		return 0;
	if (!json_is_object(c))
		return image_doc_fail(d, "config", "must be an object");
	for (size_t k = 0; r == 0 && k < DAVIT_ARRAY_SIZE(lists); k++)
		r = copy_list(d, c, lists[k].key, lists[k].ret);
	for (size_t k = 0; r == 0 && k < DAVIT_ARRAY_SIZE(strings); k++)
		r = copy_string(d, c, "config", strings[k].key, strings[k].ret);
	if (r == 0)
		r = copy_keys(d, c, "ExposedPorts", "/tcp", &i->ports);
	if (r == 0)
		r = copy_keys(d, c, "Volumes", "", &i->volumes);
	if (r == 0)
		r = copy_labels(d, c, i);
	return r == 0 ? copy_health(d, c, i) : r;
}

static int copy_diff_ids(const struct image_doc *d, json_t *o, char (**ret)[IMAGE_HEX], size_t *ret_n)
{
	json_t *rootfs = json_object_get(o, "rootfs"), *list = NULL;
	char(*ids)[IMAGE_HEX];
	char field[64];
	int r;

	if (!json_is_object(rootfs))
		return image_doc_fail(d, "rootfs", rootfs ? "must be an object" : "is missing");
	r = image_doc_array(d, rootfs, "rootfs", "diff_ids", &list);
	if (r < 0)
		return r;
	if (json_array_size(list) > IMAGE_LAYERS_MAX)
		return image_doc_fail(d, "rootfs.diff_ids", "are more than 500");
	ids = calloc(json_array_size(list) + 1, sizeof *ids);
	if (!ids)
		return image_oom(d->err);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));
		if (s && image_digest_parse(s, ids[i]))
			continue;
		free(ids);
		snprintf(field, sizeof field, "rootfs.diff_ids[%zu]", i);
		return image_doc_fail(d, field, "must be sha256: and 64 lower case hexadecimal digits");
	}
	*ret = ids;
	*ret_n = json_array_size(list);
	return 0;
}

int image_doc_config(const struct image_doc *d, json_t *o, struct davit_image *i,
		     char (**ret_diff)[IMAGE_HEX], size_t *ret_n)
{
	const char *created = NULL;
	int r;

	if (!json_is_object(o))
		return image_doc_fail(d, "", "is not a configuration: not a JSON object");
	r = image_doc_string(d, o, "", "created", &created);
	if (r == 0 && created && davit_time_parse(created, &i->created, NULL) < 0)
		i->created = 0; /* "0001-01-01T00:00:00Z" means: not known */
	if (r == 0)
		r = copy_string(d, o, "", "os", &i->os);
	if (r == 0)
		r = copy_string(d, o, "", "architecture", &i->architecture);
	if (r == 0)
		r = copy_string(d, o, "", "variant", &i->variant);
	if (r == 0)
		r = copy_run(d, json_object_get(o, "config"), i);
	if (r == 0 && (!i->os || !i->architecture))
		r = image_doc_fail(d, i->os ? "architecture" : "os", "is missing");
	return r == 0 ? copy_diff_ids(d, o, ret_diff, ret_n) : r;
}
