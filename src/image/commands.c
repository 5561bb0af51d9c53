/* SPDX-License-Identifier: MIT
 *
 * The commands of davit-image, and what they print.
 */
#include "image/program.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/units.h"

#include <stdio.h>
#include <string.h>

/* --- printing --- */

static void put_platform(struct davit_json *j, const struct davit_image *i)
{
	char platform[256];

	snprintf(platform, sizeof platform, "%s/%s%s%s", i->os, i->architecture, i->variant ? "/" : "",
		 i->variant ? i->variant : "");
	davit_json_put_string(j, "platform", platform);
}

static void put_summary(struct davit_json *j, const struct davit_image *i)
{
	davit_json_put_string(j, "reference", i->reference);
	davit_json_put_string(j, "digest", i->digest);
	davit_json_put_string(j, "id", i->id);
	davit_json_put_int(j, "size", (int64_t)i->size);
	davit_json_put_time(j, "created", i->created);
	davit_json_put_int(j, "layers", (int64_t)i->n_layers);
	put_platform(j, i);
}

static int print(struct davit_buf *b)
{
	davit_buf_addc(b, '\n');
	if (!b->oom)
		fwrite(b->data, 1, b->len, stdout);
	return b->oom ? DAVIT_ENOMEM : 0;
}

static void on_stored(void *user, const struct davit_image *i)
{
	const struct program_options *o = user;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	if (!o->json) {
		printf("%s %s\n", i->reference, i->digest);
		return;
	}
	davit_json_open(&j);
	put_summary(&j, i);
	davit_json_close(&j);
	print(&b);
}

/* --- commands --- */

static struct davit_image_load load_of(const struct program_options *o)
{
	return (struct davit_image_load){
		.path = o->args[0],
		.reference = o->reference,
		.select = o->select,
		.limits = o->limits,
		.stored = on_stored,
		.user = (void *)(uintptr_t)o,
	};
}

static int run_load(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	struct davit_image_load l = load_of(o);

	return davit_image_load(s, &l, err);
}

static int run_import(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	struct davit_image_import i = {
		.load = load_of(o),
		.env = o->env,
		.entrypoint = o->entrypoint,
		.command = o->command,
		.directory = o->directory,
		.user = o->user,
	};

	return davit_image_import(s, &i, err);
}

static int run_pull(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	struct davit_image_load l = load_of(o);

	return davit_image_pull(s, &l, err);
}

/* What is built is told last: what is said before is no answer. */
static void on_said(void *user, const char *line)
{
	const struct program_options *o = user;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	if (!o->json) {
		fprintf(stderr, "%s\n", line);
		return;
	}
	davit_json_open(&j);
	davit_json_put_string(&j, "said", line);
	davit_json_close(&j);
	print(&b);
	fflush(stdout);
}

static int run_build(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	struct davit_image_build b = {.load = load_of(o), .dockerfile = o->dockerfile, .said = on_said};

	return o->reference ? davit_image_build(s, &b, err)
			    : davit_error_set(err, DAVIT_EINVAL, "reference",
					      "build needs a name: --reference NAME");
}

struct listing {
	struct davit_json *j; /* or NULL: lines */
};

static int on_image(void *user, const struct davit_image *i)
{
	struct listing *l = user;
	char size[DAVIT_TIME_MAX], created[DAVIT_TIME_MAX] = "-";

	if (l->j) {
		davit_json_open(l->j);
		put_summary(l->j, i);
		davit_json_close(l->j);
		return 0;
	}
	if (i->created)
		strcpy(davit_time_format(i->created, created) + strlen("2026-01-02T03:04:05"), "Z");
	printf("%-40s  %.19s  %10s  %6zu  %s\n", i->reference, i->digest, davit_size_format(i->size, size),
	       i->n_layers, created);
	return 0;
}

static int run_list(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	struct listing l = {o->json ? &j : NULL};
	int r;

	if (!o->json) {
		printf("%-40s  %-19s  %10s  %6s  %s\n", "REFERENCE", "DIGEST", "SIZE", "LAYERS", "CREATED");
		return davit_image_list(s, on_image, &l, err);
	}
	davit_json_open_array(&j);
	r = davit_image_list(s, on_image, &l, err);
	davit_json_close_array(&j);
	return r == 0 ? print(&b) : r;
}

static void put_health(struct davit_json *j, const struct davit_image *i)
{
	davit_json_key(j, "health");
	if (!i->health_test) {
		davit_json_null(j);
		return;
	}
	davit_json_open(j);
	davit_json_put_strv(j, "test", i->health_test);
	davit_json_put_int(j, "interval", i->health_interval);
	davit_json_put_int(j, "timeout", i->health_timeout);
	davit_json_put_int(j, "startPeriod", i->health_start_period);
	davit_json_put_int(j, "retries", i->health_retries);
	davit_json_close(j);
}

static int run_inspect(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	struct davit_image *i = NULL;
	int r = davit_image_resolve(s, o->args[0], &i, err);

	if (r < 0)
		return r;
	davit_json_open(&j);
	put_summary(&j, i);
	davit_json_put_strv(&j, "directories", i->layers);
	davit_json_put_bool(&j, "userXattrs", i->user_xattrs);
	davit_json_put_strv(&j, "env", i->env);
	davit_json_put_strv(&j, "entrypoint", i->entrypoint);
	davit_json_put_strv(&j, "command", i->command);
	davit_json_put_string(&j, "directory", i->directory);
	davit_json_put_string(&j, "user", i->user);
	davit_json_put_string(&j, "stopSignal", i->stop_signal);
	davit_json_put_strv(&j, "ports", i->ports);
	davit_json_put_strv(&j, "volumes", i->volumes);
	davit_json_key(&j, "labels");
	davit_json_open(&j);
	for (size_t k = 0; k < i->n_labels; k++)
		davit_json_put_string(&j, i->labels[k].key, i->labels[k].value);
	davit_json_close(&j);
	put_health(&j, i);
	davit_json_key(&j, "config");
	davit_json_raw(&j, i->config);
	davit_json_close(&j);
	davit_image_free(i);
	return print(&b);
}

static int tell_freed(const struct program_options *o, const struct davit_image_freed *f)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	if (!o->json) {
		printf("removed: %llu images, %llu layers, %llu blobs of %llu bytes\n",
		       (unsigned long long)f->images, (unsigned long long)f->layers,
		       (unsigned long long)f->blobs, (unsigned long long)f->bytes);
		return 0;
	}
	davit_json_open(&j);
	davit_json_put_int(&j, "images", (int64_t)f->images);
	davit_json_put_int(&j, "layers", (int64_t)f->layers);
	davit_json_put_int(&j, "blobs", (int64_t)f->blobs);
	davit_json_put_int(&j, "bytes", (int64_t)f->bytes);
	davit_json_close(&j);
	return print(&b);
}

static int run_remove(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	struct davit_image_freed f;
	int r = davit_image_remove(s, o->args[0], o->force, &f, err);

	return r == 0 ? tell_freed(o, &f) : r;
}

static int run_gc(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	struct davit_image_freed f;
	int r = davit_image_gc(s, &f, err);

	return r == 0 ? tell_freed(o, &f) : r;
}

static int run_tag(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	return davit_image_tag(s, o->args[0], o->args[1], err);
}

static int run_save(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	return davit_image_save(s, o->args[0], o->format, o->args[1], err);
}

static int run_flatten(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	return davit_image_flatten(s, o->args[0], o->args[1], err);
}

static int run_hold(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	return davit_image_hold(s, o->args[0], o->args[1], true, NULL, err);
}

static int run_release(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	return davit_image_release(s, o->args[0], err);
}

static int on_hold(void *user, const char *id, const char *reference, const char *digest)
{
	struct listing *l = user;

	if (!l->j) {
		printf("%s  %s  %s\n", id, reference, digest);
		return 0;
	}
	davit_json_open(l->j);
	davit_json_put_string(l->j, "id", id);
	davit_json_put_string(l->j, "reference", reference);
	davit_json_put_string(l->j, "digest", digest);
	davit_json_close(l->j);
	return 0;
}

static int run_holds(struct davit_image_store *s, const struct program_options *o, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	struct listing l = {o->json ? &j : NULL};
	int r;

	davit_json_open_array(&j);
	r = davit_image_holds(s, on_hold, &l, err);
	davit_json_close_array(&j);
	return r == 0 && o->json ? print(&b) : r;
}

const struct program_command program_commands[] = {
	{"load", "FILE|DIR|-", "roSmnR", 1, 1, run_load, "store the images of an archive or a layout"},
	{"import", "TAR|DIR|-", "romnReEcdu", 1, 1, run_import, "make an image of a root file system"},
	{"pull", "REFERENCE", "rSomnR", 1, 1, run_pull, "fetch an image with skopeo"},
	{"build", "DIR|TAR|-", "rDomn", 1, 1, run_build, "build an image with buildah"},
	{"list", "", "o", 0, 0, run_list, "show what is stored"},
	{"inspect", "REFERENCE", "o", 1, 1, run_inspect, "show an image's configuration, as JSON"},
	{"tag", "REFERENCE NEW", "o", 2, 2, run_tag, "give an image a further name"},
	{"remove", "REFERENCE", "of", 1, 1, run_remove, "remove a name, and what nothing needs any more"},
	{"gc", "", "o", 0, 0, run_gc, "remove what nothing needs"},
	{"save", "REFERENCE FILE|-", "oF", 2, 2, run_save, "write an archive that other engines load"},
	{"flatten", "REFERENCE DIR", "o", 2, 2, run_flatten, "copy an image's root tree to a new directory"},
	{"hold", "ID REFERENCE", "o", 2, 2, run_hold, "keep an image for a container"},
	{"release", "ID", "o", 1, 1, run_release, "end a hold"},
	{"holds", "", "o", 0, 0, run_holds, "show the holds"},
	{0},
};
