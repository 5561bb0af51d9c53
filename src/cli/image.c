/* SPDX-License-Identifier: MIT
 *
 * davit image, and its short forms davit images, davit pull and davit load.
 */
#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"
#include "cli/pack.h"
#include "net/client.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static void target_of(const struct davit_cli *cli, const char *suffix, struct davit_buf *out)
{
	const char *runtime = davit_cli_value(cli, "runtime");

	davit_buf_adds(out, "/v1/runtimes/");
	davit_url_escape(out, runtime && runtime[0] ? runtime : "-");
	davit_buf_addf(out, "/images%s", suffix);
}

/* --- list --- */

static int add_image(struct davit_cli *cli, struct davit_table *t, const json_t *v, const char *reference)
{
	char size[DAVIT_TIME_MAX], when[DAVIT_AGE_MAX + 8], id[16];
	const char *whole = davit_string(v, "id"), *digits = strchr(whole, ':');
	struct libscols_line *row = davit_table_row(t, NULL);

	snprintf(id, sizeof id, "%.12s", digits ? digits + 1 : whole);
	davit_size_format((uint64_t)davit_integer(v, "size"), size);
	const char *const cells[] = {reference, id, size,
				     davit_time_text(cli, davit_string(v, "created"), when),
				     json_is_true(json_object_get(v, "inUse")) ? "yes" : ""};
	int r = row ? 0 : -1;
	for (size_t k = 0; r == 0 && k < DAVIT_ARRAY_SIZE(cells); k++)
		r = davit_table_set(t, row, k, cells[k]);
	return r;
}

static int list(struct davit_cli *cli, struct davit_error *err)
{
	static const char *const columns[] = {"IMAGE", "ID", "SIZE", "CREATED", "IN USE"};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_TABLE *t = NULL;
	json_t *all = NULL, *v, *name;
	size_t i, k;
	int r;

	target_of(cli, "", &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &all, err);
	if (r == 0 && cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, all, err);
	else if (r == 0)
		r = davit_table_new(cli, columns, DAVIT_ARRAY_SIZE(columns), false, &t, err);
	if (t) {
		json_array_foreach(all, i, v)
		{
			json_t *names = json_object_get(v, "references");
			json_array_foreach(names, k, name) r |= add_image(cli, t, v, json_string_value(name));
			if (!json_array_size(names))
				r |= add_image(cli, t, v, "(no name)");
		}
		r = r ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : davit_table_print(t, err);
	}
	json_decref(all);
	return r;
}

/* --- what takes its time --- */

/* Prints progress for people on standard error, with -o json as lines. */
static int follow(struct davit_cli *cli, struct davit_error *err)
{
	const char *text;
	json_t *line;
	int r;

	while ((r = davit_api_next(cli->client, &line, &text, err)) > 0) {
		const char *progress = davit_string(line, "progress");
		if (cli->format == DAVIT_FORMAT_JSON)
			puts(text);
		else if (!strncmp(progress, "loaded ", 7))
			puts(progress);
		else if (cli->progress)
			fprintf(stderr, "%s\n", progress);
		json_decref(line);
		fflush(stdout);
	}
	return r;
}

static int order(struct davit_cli *cli, const struct davit_client_request *q, struct davit_error *err)
{
	int status = 0, r = davit_api_request(cli, q, &status, err);

	if (r == 0 && status >= 400)
		return davit_api_refusal(cli, status, err);
	return r < 0 ? r : follow(cli, err);
}

static ssize_t read_file(void *user, void *buf, size_t n, struct davit_error *err)
{
	ssize_t got = DAVIT_EINTR(read(*(int *)user, buf, n));

	return got < 0 ? davit_error_errno(err, errno, NULL, "cannot read the archive") : got;
}

static int send_file(struct davit_cli *cli, const char *target, const char *file, struct davit_error *err)
{
	bool standard = !strcmp(file, "-");
	int fd = standard ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC), r;
	const struct davit_client_request q = {.method = "POST",
					       .target = target,
					       .content_type = "application/x-tar",
					       .produce = read_file,
					       .user = &fd,
					       .cause = "user: davit image"};

	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open '%s'", file);
	if (standard && isatty(fd))
		return davit_cli_usage(cli, err, "standard input is a terminal, not an archive");
	r = order(cli, &q, err);
	if (!standard)
		close(fd);
	return r;
}

static int load(struct davit_cli *cli, const char *file, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;

	target_of(cli, "/load", &target);
	return send_file(cli, davit_buf_str(&target), file, err);
}

static int import(struct davit_cli *cli, const char *file, const char *reference, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	int r;

	target_of(cli, "/import", &target);
	davit_url_query(&target, "reference", reference);
	r = send_file(cli, davit_buf_str(&target), file, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
		printf("loaded %s\n", reference);
	return r;
}

static int build(struct davit_cli *cli, const char *directory, const char *reference, struct davit_error *err)
{
	const char *dockerfile = davit_cli_value(cli, "dockerfile");
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	const struct davit_archive *archive = NULL;
	struct davit_client_request q = {
		.method = "POST", .content_type = "application/x-tar", .cause = "user: davit image"};
	struct davit_pack *pack;
	int r = davit_archive_load(cli->paths.libexec, &archive, err);

	if (r == 0)
		r = archive->pack_open(directory, NULL, &pack, err);

	if (r < 0)
		return r;
	target_of(cli, "/build", &target);
	davit_url_query(&target, "reference", reference);
	if (dockerfile)
		davit_url_query(&target, "dockerfile", dockerfile);
	q.target = davit_buf_str(&target);
	q.produce = archive->pack_produce;
	q.user = pack;
	r = order(cli, &q, err);
	archive->pack_close(pack);
	if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
		printf("built %s\n", reference);
	return r;
}

static int pull(struct davit_cli *cli, const char *reference, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *body = json_pack("{s:s}", "reference", reference);
	DAVIT_AUTO_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct davit_client_request q = {.method = "POST", .body = text, .cause = "user: davit pull"};
	int r;

	json_decref(body);
	if (!text)
		return davit_cli_usage(cli, err, "the image's name is not UTF-8 text");
	target_of(cli, "/pull", &target);
	q.target = davit_buf_str(&target);
	q.body_len = strlen(text);
	r = order(cli, &q, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
		printf("pulled %s\n", reference);
	return r;
}

static int drop(struct davit_cli *cli, struct davit_error *err)
{
	int r = 0;

	for (size_t i = 1; r == 0 && i < cli->n_args; i++) {
		DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
		target_of(cli, "", &target);
		davit_url_query(&target, "reference", cli->args[i]);
		if (davit_cli_flag(cli, "force"))
			davit_url_query(&target, "force", "true");
		r = davit_api_call(cli, "DELETE", davit_buf_str(&target), NULL, NULL, err);
		if (r == 0 && cli->format == DAVIT_FORMAT_TEXT)
			printf("image %s: removed\n", cli->args[i]);
	}
	if (r == 0 && cli->format == DAVIT_FORMAT_JSON)
		puts("{}");
	return r;
}

static int run_image(struct davit_cli *cli, struct davit_error *err)
{
	const char *verb = cli->args[0], *first = davit_cli_arg(cli, 1), *second = davit_cli_arg(cli, 2);
	bool one = cli->n_args == 2, two = cli->n_args == 3;

	if (!strcmp(verb, "ls") && !first)
		return list(cli, err);
	if (!strcmp(verb, "rm") && first)
		return drop(cli, err);
	if (!strcmp(verb, "load") && one)
		return load(cli, first, err);
	if (!strcmp(verb, "pull") && one)
		return pull(cli, first, err);
	if (!strcmp(verb, "import") && two)
		return import(cli, first, second, err);
	if (!strcmp(verb, "build") && two)
		return build(cli, first, second, err);
	return davit_cli_usage(cli, err,
			       "'image' needs one of: ls, rm IMAGE..., load FILE|-, pull IMAGE, "
			       "import FILE|- IMAGE, build DIR IMAGE");
}

static int run_images(struct davit_cli *cli, struct davit_error *err)
{
	return list(cli, err);
}

static int run_pull(struct davit_cli *cli, struct davit_error *err)
{
	return pull(cli, cli->args[0], err);
}

static int run_load(struct davit_cli *cli, struct davit_error *err)
{
	return load(cli, cli->args[0], err);
}

static const struct davit_option image_own[] = {
	{"force", 'f', NULL, DAVIT_OPTION_FLAG, .doc = "With rm: even where an instance needs it"},
	{"dockerfile", 0, "FILE", DAVIT_OPTION_STRING,
	 .doc = "With build: its path in DIR (default: Dockerfile)"},
	{0},
};
static const struct davit_option *const image_options[] = {image_own, davit_options_runtime,
							   davit_options_data, NULL};
static const struct davit_option *const list_options[] = {davit_options_runtime, davit_options_data, NULL};
static const struct davit_option *const line_options[] = {davit_options_runtime, davit_options_lines, NULL};
static const char *const image_examples[] = {"davit image ls --runtime docker",
					     "what is there",
					     "davit image import rootfs.tar localhost/bb:1",
					     "a root file system becomes an image",
					     "davit image build . localhost/web:1",
					     "where the runtime builds",
					     "davit image rm localhost/bb:1",
					     "remove it",
					     NULL};
static const char *const images_examples[] = {"davit images", "of the default runtime",
					      "davit images --runtime podman -o json",
					      "of podman, for programs", NULL};
static const char *const pull_examples[] = {"davit pull localhost:5000/web:1", "from its registry", NULL};
static const char *const load_examples[] = {"davit load web.tar", "what 'docker save' wrote",
					    "docker save web:1 | davit load - --runtime oci",
					    "from one runtime to another", NULL};

const struct davit_command davit_command_image = {
	.name = "image",
	.usage = "ls | rm IMAGE... | load FILE|- | pull IMAGE | import FILE|- IMAGE | build DIR IMAGE",
	.group = "Images, volumes, networks",
	.summary = "List, load, pull, import, build and remove images",
	.options = image_options,
	.min_args = 1,
	.max_args = 64,
	.complete = "ls|rm|load|pull|import|build",
	.run = run_image,
	.examples = image_examples,
};

const struct davit_command davit_command_images = {
	.name = "images",
	.usage = "",
	.group = "Images, volumes, networks",
	.summary = "List images: short for image ls",
	.options = list_options,
	.run = run_images,
	.examples = images_examples,
};

const struct davit_command davit_command_pull = {
	.name = "pull",
	.usage = "IMAGE",
	.group = "Images, volumes, networks",
	.summary = "Fetch an image from a registry: short for image pull",
	.options = line_options,
	.min_args = 1,
	.max_args = 1,
	.run = run_pull,
	.examples = pull_examples,
};

const struct davit_command davit_command_load = {
	.name = "load",
	.usage = "FILE|-",
	.group = "Images, volumes, networks",
	.summary = "Load the images of an archive: short for image load",
	.options = line_options,
	.min_args = 1,
	.max_args = 1,
	.complete = "file",
	.run = run_load,
	.examples = load_examples,
};
