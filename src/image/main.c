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
#include "image/program.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const struct option long_options[] = {
	{"store", 1, NULL, 's'},
	{"reference", 1, NULL, 'r'},
	{"select", 1, NULL, 'S'},
	{"max-size", 1, NULL, 'm'},
	{"max-entries", 1, NULL, 'n'},
	{"max-ratio", 1, NULL, 'R'},
	{"output", 1, NULL, 'o'},
	{"force", 0, NULL, 'f'},
	{"format", 1, NULL, 'F'},
	{"env", 1, NULL, 'e'},
	{"entrypoint", 1, NULL, 'E'},
	{"command", 1, NULL, 'c'},
	{"directory", 1, NULL, 'd'},
	{"user", 1, NULL, 'u'},
	{"dockerfile", 1, NULL, 'D'},
	{"help", 0, NULL, 'h'},
	{0},
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
	"build:\n"
	"  --reference NAME     needed\n"
	"  --dockerfile FILE    its path in the context (Dockerfile, or else Containerfile)\n"
	"remove:\n"
	"  --force              even if a container uses it; its layers stay until that is gone\n"
	"save:\n"
	"  --format docker|oci  the archive's form (docker)\n";

static void usage(FILE *f)
{
	fprintf(f, "usage: davit-image --store DIR COMMAND [OPTION]... [ARGUMENT]...\n\nCommands:\n");
	for (size_t i = 0; program_commands[i].name; i++) {
		char head[64];
		snprintf(head, sizeof head, "%s %s", program_commands[i].name, program_commands[i].arguments);
		fprintf(f, "  %-28s %s\n", head, program_commands[i].help);
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
static int check_options(const struct program_command *c, const char *given, struct davit_error *err)
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

static int set_option(int c, struct program_options *o, struct davit_error *err)
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
	case 'D':
		o->dockerfile = optarg;
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

static const struct program_command *find_command(const char *name)
{
	for (size_t i = 0; name && program_commands[i].name; i++)
		if (!strcmp(program_commands[i].name, name))
			return &program_commands[i];
	return NULL;
}

static int run(const struct program_command *c, const struct program_options *o, struct davit_error *err)
{
	struct davit_image_store *s = NULL;
	int r = davit_image_store_open(o->store, &s, err);

	if (r == 0)
		r = c->run(s, o, err);
	davit_image_store_close(s);
	return r;
}

static void report(const struct program_options *o, const struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	fprintf(stderr, "davit-image: %s\n", err->message);
	if (!o->json)
		return;
	davit_json_open(&j);
	davit_json_put_error(&j, err);
	davit_json_close(&j);
	puts(davit_buf_str(&b));
}

int main(int argc, char **argv)
{
	struct program_options o = {.limits = DAVIT_IMAGE_LIMITS_DEFAULT};
	struct davit_error err = {0};
	char given[DAVIT_ARRAY_SIZE(long_options)] = "";
	const struct program_command *c;
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
