/* SPDX-License-Identifier: MIT
 *
 * davit cp: files between here and an instance. Where they come to lie follows the
 * rules of docker cp (docs/objects.md).
 */
#include "cli/api.h"
#include "cli/choose.h"
#include "cli/output.h"
#include "cli/pack.h"
#include "net/client.h"
#include "net/url.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const struct davit_archive *archive; /* while a command runs */

/* One side of a copy. */
struct place {
	const char *name; /* of the service or instance; NULL: here */
	char *path;	  /* without "/." and slashes at its end */
	bool content;	  /* ended in "/.": what is in the directory, not itself */
	bool slash;	  /* ended in "/": must be a directory */
	bool stream;	  /* "-": a tar stream */
	bool there, directory;
	struct davit_buf target; /* of the API */
};

static void free_place(struct place *p)
{
	free(p->path);
	davit_buf_fini(&p->target);
}

/* The last part of a path; "" for "/". */
static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* "NAME:path", "path" or "-". A path here with a colon begins with "./" or "/". */
static int parse(struct davit_cli *cli, char *arg, struct place *p, struct davit_error *err)
{
	char *colon = strchr(arg, ':');
	size_t n;

	if (colon && colon != arg && arg[0] != '/' && arg[0] != '.') {
		*colon = '\0';
		p->name = arg;
		arg = colon + 1;
		if (arg[0] != '/')
			return davit_cli_usage(cli, err, "the path inside must be absolute: %s:/%s", p->name,
					       arg);
	}
	p->stream = !p->name && !strcmp(arg, "-");
	p->path = strdup(arg);
	if (!p->path)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	n = strlen(p->path);
	p->content = !strcmp(p->path, ".") || (n >= 2 && !strcmp(p->path + n - 2, "/."));
	p->slash = n && p->path[n - 1] == '/';
	if (p->content && n >= 2)
		p->path[n -= 2] = '\0';
	while (n > 1 && p->path[n - 1] == '/')
		p->path[--n] = '\0';
	if (!n) {
		free(p->path);
		p->path = strdup(p->name || p->content || p->slash ? "/" : ".");
	}
	return p->path ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int target_of(struct davit_cli *cli, const char *id, const char *path, struct davit_buf *out,
		     struct davit_error *err)
{
	(void)cli;
	davit_buf_reset(out);
	davit_buf_addf(out, "/v1/instances/%s/archive", id);
	davit_url_query(out, "path", path);
	return out->oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

static ssize_t read_client(void *user, void *buf, size_t n, struct davit_error *err)
{
	return davit_client_read(user, buf, n, err);
}

/* --- what is there --- */

static int look_here(struct place *p, struct davit_error *err)
{
	struct stat st;

	p->there = stat(p->path, &st) == 0;
	p->directory = p->there && S_ISDIR(st.st_mode);
	if (!p->there && errno != ENOENT && errno != ENOTDIR)
		return davit_error_errno(err, errno, NULL, "%s", p->path);
	return 0;
}

/* By the head of its archive; the rest is not asked for. */
static int look_there(struct davit_cli *cli, const char *id, struct place *p, const char *path,
		      struct davit_error *err)
{
	struct davit_client *c = NULL;
	int r = target_of(cli, id, path, &p->target, err);

	if (r == 0)
		r = davit_api_stream(cli, davit_buf_str(&p->target), &c, err);
	if (r == DAVIT_ENOENT) {
		davit_error_clear(err);
		p->there = p->directory = false;
		return 0;
	}
	if (r == 0)
		r = archive->is_directory(read_client, c, err);
	davit_client_close(c);
	if (r < 0)
		return r;
	p->there = true;
	p->directory = r == 1;
	return 0;
}

static int not_there(const struct place *p, struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOENT, NULL, "%s%s%s: no such file or directory",
			       p->name ? p->name : "", p->name ? ":" : "", p->path);
}

/* Where src goes: beneath the directory *ret_parent under *ret_name (NULL: its content
 * alone). Both are borrowed from dst, src or `parent`. */
static int arrange(const struct place *src, const struct place *dst, struct davit_buf *parent,
		   const char **ret_name, struct davit_error *err)
{
	const char *base = base_of(src->path);
	size_t n = (size_t)(base_of(dst->path) - dst->path);

	if (dst->there && dst->directory) {
		davit_buf_adds(parent, dst->path);
		*ret_name = src->directory && (src->content || !base[0]) ? NULL : base;
		return 0;
	}
	if (dst->there && src->directory)
		return davit_error_set(err, DAVIT_EEXIST, NULL, "'%s' is a file: a directory cannot go there",
				       dst->path);
	if ((dst->slash || dst->content) && !src->directory)
		return davit_error_set(err, DAVIT_ENOENT, NULL, "'%s' is not a directory", dst->path);
	/* A new name. */
	if (n)
		davit_buf_add(parent, dst->path, n > 1 ? n - 1 : 1);
	else
		davit_buf_adds(parent, ".");
	*ret_name = base_of(dst->path);
	return 0;
}

/* --- in --- */

static ssize_t read_stdin(void *user, void *buf, size_t n, struct davit_error *err)
{
	ssize_t got = DAVIT_EINTR(read(STDIN_FILENO, buf, n));

	(void)user;
	return got < 0 ? davit_error_errno(err, errno, NULL, "cannot read the standard input") : got;
}

static int send_tar(struct davit_cli *cli, const char *target,
		    ssize_t (*produce)(void *, void *, size_t, struct davit_error *), void *user,
		    struct davit_error *err)
{
	const struct davit_client_request q = {
		.method = "PUT",
		.target = target,
		.content_type = "application/x-tar",
		.produce = produce,
		.user = user,
		.cause = "user: davit cp",
	};
	DAVIT_AUTO_BUF answer = DAVIT_BUF_INIT;
	int status = 0, r = davit_api_request(cli, &q, &status, err);

	if (r == 0 && status >= 400)
		return davit_api_refusal(cli, status, err);
	return r < 0 ? r : davit_client_body(cli->client, 65536, &answer, err);
}

static int copy_in(struct davit_cli *cli, struct place *src, struct place *dst, struct davit_error *err)
{
	DAVIT_AUTO_BUF id = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF parent = DAVIT_BUF_INIT;
	struct davit_pack *pack = NULL;
	const char *name = NULL;
	int r = davit_choose_instance(cli, dst->name, NULL, false, &id, err);

	if (r == 0 && src->stream) {
		r = target_of(cli, davit_buf_str(&id), dst->path, &dst->target, err);
		return r < 0 ? r : send_tar(cli, davit_buf_str(&dst->target), read_stdin, NULL, err);
	}
	if (r == 0)
		r = look_here(src, err);
	if (r == 0 && !src->there)
		r = not_there(src, err);
	if (r == 0 && (src->slash || src->content) && !src->directory)
		r = davit_error_set(err, DAVIT_EINVAL, NULL, "'%s' is not a directory", src->path);
	if (r == 0)
		r = look_there(cli, davit_buf_str(&id), dst, dst->path, err);
	if (r == 0)
		r = arrange(src, dst, &parent, &name, err);
	if (r == 0)
		r = archive->pack_open(src->path, name, &pack, err);
	if (r == 0)
		r = target_of(cli, davit_buf_str(&id), davit_buf_str(&parent), &dst->target, err);
	if (r == 0)
		r = send_tar(cli, davit_buf_str(&dst->target), archive->pack_produce, pack, err);
	if (archive)
		archive->pack_close(pack);
	return r;
}

/* --- out --- */

static int to_stdout(struct davit_client *c, struct davit_error *err)
{
	char block[65536];
	ssize_t n;

	while ((n = davit_client_read(c, block, sizeof block, err)) > 0)
		if (davit_write_full(STDOUT_FILENO, block, (size_t)n) < 0)
			return davit_error_errno(err, errno, NULL, "cannot write the archive");
	return n < 0 ? (int)n : 0;
}

static int copy_out(struct davit_cli *cli, struct place *src, struct place *dst, struct davit_error *err)
{
	DAVIT_AUTO_BUF id = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF parent = DAVIT_BUF_INIT;
	struct davit_client *c = NULL;
	const char *name = NULL;
	int r = davit_choose_instance(cli, src->name, NULL, false, &id, err);

	if (r == 0 && !dst->stream)
		r = look_here(dst, err);
	if (r == 0 && !dst->stream)
		r = look_there(cli, davit_buf_str(&id), src, src->path, err);
	if (r == 0 && !dst->stream && !src->there)
		r = not_there(src, err);
	if (r == 0 && !dst->stream)
		r = arrange(src, dst, &parent, &name, err);
	if (r == 0)
		r = target_of(cli, davit_buf_str(&id), src->path, &src->target, err);
	if (r == 0)
		r = davit_api_stream(cli, davit_buf_str(&src->target), &c, err);
	if (r == 0)
		r = dst->stream ? to_stdout(c, err)
				: archive->unpack(read_client, c, davit_buf_str(&parent), base_of(src->path),
						  name ? name : "", err);
	davit_client_close(c);
	return r;
}

static int run_cp(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *from = strdup(cli->args[0]), *to = strdup(cli->args[1]);
	struct place src = {0}, dst = {0};
	int r;

	if (!from || !to)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = parse(cli, from, &src, err);
	if (r == 0)
		r = parse(cli, to, &dst, err);
	if (r == 0 && !src.name == !dst.name)
		r = davit_cli_usage(cli, err, "one side must be here, the other NAME:/path");
	if (r == 0)
		r = davit_archive_load(cli->paths.libexec, &archive, err);
	if (r == 0)
		r = src.name ? copy_out(cli, &src, &dst, err) : copy_in(cli, &src, &dst, err);
	free_place(&src);
	free_place(&dst);
	if (r == 0 && cli->format == DAVIT_FORMAT_JSON && !dst.stream)
		puts("{}");
	return r;
}

static const struct davit_option own[] = {
	{"instance", 0, "ID", DAVIT_OPTION_STRING,
	 .doc = "Of this instance, by id or index (default: the first that runs)"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, davit_options_common,
						     NULL};
static const char *const examples[] = {"davit cp site.conf web:/etc/nginx/conf.d/",
				       "a file into a directory that is there",
				       "davit cp web:/var/log/nginx .",
				       "a directory from there to here",
				       "davit cp ./public/. web:/srv/www",
				       "what is in the directory, not itself",
				       "davit cp web:/etc - | tar t",
				       "as a tar stream",
				       NULL};

const struct davit_command davit_command_cp = {
	.name = "cp",
	.usage = "SRC DST",
	.group = "Services",
	.summary = "Copy files into and out of an instance",
	.details = "One side is NAME:/path, the other a path here, or - for a tar stream. A directory that "
		   "is there\n"
		   "gets the source under its own name; SRC/. is its content; else DST is the new name.",
	.options = options,
	.min_args = 2,
	.max_args = 2,
	.complete = "file",
	.run = run_cp,
	.examples = examples,
};
