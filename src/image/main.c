/* SPDX-License-Identifier: MIT
 *
 * davit-image --store DIR COMMAND ...
 *
 * What takes long with images, for the daemon, which runs it as a child.
 */
#include "base/buf.h"
#include "base/json.h"
#include "base/strv.h"
#include "base/units.h"
#include "image/image.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

struct options {
	const char *store, *reference, *select, *directory, *user;
	struct davit_image_limits limits;
	char **env, **entrypoint, **command;
	bool json, force;
	enum davit_image_format format;
	char **args;
	int n_args;
};

struct command {
	const char *name, *arguments;
	const char *options; /* letters of those that it has, beside --store */
	int min, max;
	int (*run)(struct davit_image_store *s, const struct options *o, struct davit_error *err);
	const char *help;
};

/* --- printing --- */

static void put_vector(struct davit_json *j, const char *key, char *const *v)
{
	davit_json_key(j, key);
	davit_json_open_array(j);
	for (; v && *v; v++)
		davit_json_string(j, *v);
	davit_json_close_array(j);
}

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
	const struct options *o = user;
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

static struct davit_image_load load_of(const struct options *o)
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

static int run_load(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	struct davit_image_load l = load_of(o);

	return davit_image_load(s, &l, err);
}

static int run_import(struct davit_image_store *s, const struct options *o, struct davit_error *err)
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

static int run_pull(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	struct davit_image_load l = load_of(o);

	return davit_image_pull(s, &l, err);
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
		davit_time_format(i->created / DAVIT_NSEC_PER_SEC * DAVIT_NSEC_PER_SEC, created);
	printf("%-40s  %.19s  %10s  %6zu  %.20s\n", i->reference, i->digest, davit_size_format(i->size, size),
	       i->n_layers, created);
	return 0;
}

static int run_list(struct davit_image_store *s, const struct options *o, struct davit_error *err)
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
	put_vector(j, "test", i->health_test);
	davit_json_put_int(j, "interval", i->health_interval);
	davit_json_put_int(j, "timeout", i->health_timeout);
	davit_json_put_int(j, "startPeriod", i->health_start_period);
	davit_json_put_int(j, "retries", i->health_retries);
	davit_json_close(j);
}

static int run_inspect(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	struct davit_image *i = NULL;
	int r = davit_image_resolve(s, o->args[0], &i, err);

	if (r < 0)
		return r;
	davit_json_open(&j);
	put_summary(&j, i);
	put_vector(&j, "directories", i->layers);
	davit_json_put_bool(&j, "userXattrs", i->user_xattrs);
	put_vector(&j, "env", i->env);
	put_vector(&j, "entrypoint", i->entrypoint);
	put_vector(&j, "command", i->command);
	davit_json_put_string(&j, "directory", i->directory);
	davit_json_put_string(&j, "user", i->user);
	davit_json_put_string(&j, "stopSignal", i->stop_signal);
	put_vector(&j, "ports", i->ports);
	put_vector(&j, "volumes", i->volumes);
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

static int tell_freed(const struct options *o, const struct davit_image_freed *f)
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

static int run_remove(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	struct davit_image_freed f;
	int r = davit_image_remove(s, o->args[0], o->force, &f, err);

	return r == 0 ? tell_freed(o, &f) : r;
}

static int run_gc(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	struct davit_image_freed f;
	int r = davit_image_gc(s, &f, err);

	return r == 0 ? tell_freed(o, &f) : r;
}

static int run_tag(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	return davit_image_tag(s, o->args[0], o->args[1], err);
}

static int run_save(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	return davit_image_save(s, o->args[0], o->format, o->args[1], err);
}

static int run_flatten(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	return davit_image_flatten(s, o->args[0], o->args[1], err);
}

static int run_hold(struct davit_image_store *s, const struct options *o, struct davit_error *err)
{
	return davit_image_hold(s, o->args[0], o->args[1], NULL, err);
}

static int run_release(struct davit_image_store *s, const struct options *o, struct davit_error *err)
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

static int run_holds(struct davit_image_store *s, const struct options *o, struct davit_error *err)
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

static const struct command commands[] = {
	{"load", "FILE|DIR|-", "roSmnR", 1, 1, run_load, "store the images of an archive or a layout"},
	{"import", "TAR|DIR|-", "romnReEcdu", 1, 1, run_import, "make an image of a root file system"},
	{"pull", "REFERENCE", "rSomnR", 1, 1, run_pull, "fetch an image with skopeo"},
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
};

static const struct option long_options[] = {
	{"store", 1, NULL, 's'},       {"reference", 1, NULL, 'r'},
	{"select", 1, NULL, 'S'},      {"max-size", 1, NULL, 'm'},
	{"max-entries", 1, NULL, 'n'}, {"max-ratio", 1, NULL, 'R'},
	{"output", 1, NULL, 'o'},      {"force", 0, NULL, 'f'},
	{"format", 1, NULL, 'F'},      {"env", 1, NULL, 'e'},
	{"entrypoint", 1, NULL, 'E'},  {"command", 1, NULL, 'c'},
	{"directory", 1, NULL, 'd'},   {"user", 1, NULL, 'u'},
	{"help", 0, NULL, 'h'},	       {0},
};

static const char options_help[] =
	"Options:\n"
	"  --store DIR          the store (needed)\n"
	"  -o, --output json    print JSON; errors as {\"error\": {...}}\n"
	"load, import, pull:\n"
	"  --reference NAME     store it under this name (import: needed)\n"
	"  --select NAME        which of several images: its name in the archive\n"
	"  --max-size SIZE      unpacked bytes of one archive (16Gi)\n"
	"  --max-entries N      entries of one archive (2000000)\n"
	"  --max-ratio N        unpacked to packed bytes of a layer; 0: any (250)\n"
	"import:\n"
	"  --env NAME=VALUE     an environment variable; may be repeated\n"
	"  --entrypoint WORD    a word of the entrypoint; may be repeated\n"
	"  --command WORD       a word of the command; may be repeated\n"
	"  --directory DIR      the working directory\n"
	"  --user USER          the user\n"
	"remove:\n"
	"  --force              even if a container uses it; its layers stay until that is gone\n"
	"save:\n"
	"  --format docker|oci  the archive's form (docker)\n";

static void usage(FILE *f)
{
	fprintf(f, "usage: davit-image --store DIR COMMAND [OPTION]... [ARGUMENT]...\n\nCommands:\n");
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(commands); i++) {
		char head[64];
		snprintf(head, sizeof head, "%s %s", commands[i].name, commands[i].arguments);
		fprintf(f, "  %-28s %s\n", head, commands[i].help);
	}
	fprintf(f, "%s", options_help);
}

static int set_number(const char *s, const char *name, uint64_t *ret, struct davit_error *err)
{
	int64_t v;
	int r = davit_int_parse(s, 0, INT64_MAX, &v, err);

	if (r < 0)
		davit_error_prefix(err, "%s", name);
	else
		*ret = (uint64_t)v;
	return r;
}

static int add_word(char ***v, const char *word, struct davit_error *err)
{
	return davit_strv_add(v, word) < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

static int choose(const char *name, const char *value, const char *first, const char *second,
		  bool *ret_second, struct davit_error *err)
{
	*ret_second = second && !strcmp(value, second);
	return *ret_second || !strcmp(value, first)
		       ? 0
		       : davit_error_set(err, DAVIT_EINVAL, name, "%s must be %s%s%s, not '%.100s'", name,
					 first, second ? " or " : "", second ? second : "", value);
}

/* Options may stand before the command, which is known only after all of them. */
static int check_options(const struct command *c, const char *given, struct davit_error *err)
{
	for (; *given; given++) {
		const struct option *o = long_options;
		if (strchr(c->options, *given))
			continue;
		while (o->val != *given)
			o++;
		return davit_error_set(err, DAVIT_EINVAL, o->name, "--%s is not for %s", o->name, c->name);
	}
	return 0;
}

static int set_option(int c, struct options *o, struct davit_error *err)
{
	bool second;
	int r = 0;

	switch (c) {
	case 's':
		o->store = optarg;
		break;
	case 'r':
		o->reference = optarg;
		break;
	case 'S':
		o->select = optarg;
		break;
	case 'd':
		o->directory = optarg;
		break;
	case 'u':
		o->user = optarg;
		break;
	case 'f':
		o->force = true;
		break;
	case 'm':
		r = davit_size_parse(optarg, &o->limits.bytes, err);
		break;
	case 'n':
		r = set_number(optarg, "--max-entries", &o->limits.entries, err);
		break;
	case 'R':
		r = set_number(optarg, "--max-ratio", &o->limits.ratio, err);
		break;
	case 'o':
		o->json = true;
		r = choose("--output", optarg, "json", NULL, &second, err);
		break;
	case 'F':
		r = choose("--format", optarg, "docker", "oci", &second, err);
		o->format = second ? DAVIT_IMAGE_OCI : DAVIT_IMAGE_DOCKER;
		break;
	case 'e':
		r = strchr(optarg, '=') && *optarg != '='
			    ? add_word(&o->env, optarg, err)
			    : davit_error_set(err, DAVIT_EINVAL, "--env", "--env must be NAME=VALUE");
		break;
	case 'E':
		r = add_word(&o->entrypoint, optarg, err);
		break;
	case 'c':
		r = add_word(&o->command, optarg, err);
		break;
	}
	return r;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; name && i < DAVIT_ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int run(const struct command *c, const struct options *o, struct davit_error *err)
{
	struct davit_image_store *s = NULL;
	int r = davit_image_store_open(o->store, &s, err);

	if (r == 0)
		r = c->run(s, o, err);
	davit_image_store_close(s);
	return r;
}

static void report(const struct options *o, const struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	fprintf(stderr, "davit-image: %s\n", err->message);
	if (!o->json)
		return;
	davit_json_open(&j);
	davit_json_key(&j, "error");
	davit_json_open(&j);
	davit_json_put_string(&j, "code", davit_error_word(err->code));
	davit_json_put_string(&j, "message", err->message);
	davit_json_close(&j);
	davit_json_close(&j);
	print(&b);
}

int main(int argc, char **argv)
{
	struct options o = {.limits = DAVIT_IMAGE_LIMITS_DEFAULT};
	struct davit_error err = {0};
	char given[DAVIT_ARRAY_SIZE(long_options)] = "";
	const struct command *c;
	int opt, r = 0;

	while (r == 0 && (opt = getopt_long(argc, argv, "o:h", long_options, NULL)) != -1) {
		if (opt == 'h' || opt == '?') {
			usage(opt == 'h' ? stdout : stderr);
			return opt == 'h' ? 0 : 2;
		}
		if (opt != 's' && !strchr(given, opt))
			given[strlen(given)] = (char)opt;
		r = set_option(opt, &o, &err);
	}
	c = optind < argc ? find_command(argv[optind++]) : NULL;
	o.args = argv + optind;
	o.n_args = argc - optind;
	if (r == 0 && (!c || !o.store || o.n_args < c->min || o.n_args > c->max)) {
		usage(stderr);
		return 2;
	}
	if (r == 0)
		r = check_options(c, given, &err);
	if (r == 0)
		r = run(c, &o, &err);
	if (r == 0 && fflush(stdout) != 0)
		r = davit_error_set(&err, DAVIT_EIO, NULL, "cannot write the answer");
	if (r < 0)
		report(&o, &err);
	davit_strv_free(o.env);
	davit_strv_free(o.entrypoint);
	davit_strv_free(o.command);
	return r < 0;
}
