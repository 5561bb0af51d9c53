/* SPDX-License-Identifier: MIT
 *
 * Building is buildah's business, as fetching is skopeo's. It gets a storage of its own in
 * the job's directory, with what the Dockerfile names of ours, and what it writes is
 * loaded like any other image. Its steps run as plain processes in a chroot
 * (`--isolation chroot`): no engine and no control groups are needed, and what is left
 * of a build that was killed is the job's directory alone.
 */
#include "image/image_impl.h"

#include "base/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define DOCKERFILE_MAX (1 << 20)
#define NAME "localhost/davit-build" /* in that storage */

struct build {
	const struct davit_image_build *asked;
	struct image_job *job;
	struct image_child child;
	char *dir;     /* of the job */
	char *context; /* a directory */
	char *root, *runroot;
	struct davit_error *err;
};

/* --- the context --- */

static int refuse(struct build *b, struct archive_entry *e, const char *why)
{
	return davit_error_set(b->err, DAVIT_ESOURCE, NULL, "context: '%.200s' %s", archive_entry_pathname(e),
			       why);
}

static int check_entry(struct build *b, struct archive_entry *e, uint64_t *bytes, uint64_t entries)
{
	const struct davit_image_limits *l = &b->asked->load.limits;
	mode_t type = archive_entry_filetype(e);

	if (!archive_entry_pathname(e))
		return davit_error_set(b->err, DAVIT_ESOURCE, NULL, "context: an entry has no name");
	if (archive_entry_size_is_set(e))
		*bytes += (uint64_t)archive_entry_size(e);
	if (*bytes > l->bytes)
		return davit_error_set(b->err, DAVIT_ESOURCE, NULL,
				       "context: it is larger than the limit of %llu bytes (--max-size)",
				       (unsigned long long)l->bytes);
	if (entries > l->entries)
		return davit_error_set(b->err, DAVIT_ESOURCE, NULL, "context: it has more entries than %llu",
				       (unsigned long long)l->entries);
	if (type == S_IFCHR || type == S_IFBLK)
		return refuse(b, e, "is a device");
	return 0;
}

/* By hand: archive_read_extract2 makes a warning of a name that is refused. */
static int copy_entry(struct build *b, struct archive *in, struct archive *out, struct archive_entry *e)
{
	const void *data;
	la_int64_t at;
	size_t n;
	int a;

	if (archive_write_header(out, e) < ARCHIVE_WARN)
		return refuse(b, e, archive_error_string(out) ? archive_error_string(out) : "is refused");
	while ((a = archive_read_data_block(in, &data, &n, &at)) != ARCHIVE_EOF) {
		if (a < ARCHIVE_WARN)
			return refuse(b, e,
				      archive_error_string(in) ? archive_error_string(in) : "is damaged");
		if (archive_write_data_block(out, data, n, at) < ARCHIVE_WARN)
			return refuse(b, e,
				      archive_error_string(out) ? archive_error_string(out)
								: "cannot be written");
	}
	return archive_write_finish_entry(out) < ARCHIVE_WARN ? refuse(b, e, archive_error_string(out)) : 0;
}

/* In the current directory, out of which nothing leads. */
static int unpack(struct build *b, struct archive *in, struct archive *out)
{
	struct archive_entry *e;
	uint64_t bytes = 0, entries = 0;
	int r = 0, a;

	while (!r && (a = archive_read_next_header(in, &e)) != ARCHIVE_EOF) {
		if (a < ARCHIVE_WARN)
			return davit_error_set(b->err, DAVIT_ESOURCE, NULL, "context: %s",
					       archive_error_string(in));
		r = check_entry(b, e, &bytes, ++entries);
		if (!r)
			r = copy_entry(b, in, out, e);
	}
	return r;
}

static int unpack_here(struct build *b)
{
	const char *path = strcmp(b->asked->load.path, "-") ? b->asked->load.path : NULL;
	struct archive *in = archive_read_new(), *out = archive_write_disk_new();
	int r;

	if (!in || !out) {
		r = image_oom(b->err);
	} else {
		archive_read_support_filter_all(in);
		archive_read_support_format_tar(in);
		archive_read_support_format_empty(in);
		archive_write_disk_set_options(out, ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
							    ARCHIVE_EXTRACT_SECURE_NODOTDOT |
							    ARCHIVE_EXTRACT_SECURE_SYMLINKS |
							    ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
		r = archive_read_open_filename(in, path, 1 << 16) == ARCHIVE_OK
			    ? unpack(b, in, out)
			    : davit_error_set(b->err, DAVIT_ESOURCE, NULL, "context: %s",
					      archive_error_string(in));
	}
	archive_read_free(in);
	if (out && archive_write_free(out) != ARCHIVE_OK && !r)
		r = davit_error_set(b->err, DAVIT_EIO, NULL, "context: it cannot be unpacked");
	return r;
}

/* A directory is taken as it is; an archive is unpacked in the job's. */
static int make_context(struct build *b)
{
	DAVIT_AUTO_CLOSE int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	DAVIT_AUTO_CLOSE int archive = -1;
	struct stat st;
	int r;

	if (strcmp(b->asked->load.path, "-") && stat(b->asked->load.path, &st) == 0 && S_ISDIR(st.st_mode)) {
		b->context = realpath(b->asked->load.path, NULL);
		return b->context ? 0 : image_oom(b->err);
	}
	b->context = davit_path_join(b->dir, "context");
	if (!b->context)
		return image_oom(b->err);
	/* A path of the archive is the caller's, from where he stands. */
	archive = strcmp(b->asked->load.path, "-") ? open(b->asked->load.path, O_RDONLY) : -1;
	if (strcmp(b->asked->load.path, "-") && (archive < 0 || dup2(archive, STDIN_FILENO) < 0))
		return davit_error_errno(b->err, errno, NULL, "cannot open '%.200s'", b->asked->load.path);
	if (here < 0 || mkdir(b->context, 0755) < 0 || chdir(b->context) < 0)
		return davit_error_errno(b->err, errno, NULL, "cannot make %s", b->context);
	r = unpack_here(b);
	if (fchdir(here) < 0 && !r)
		r = davit_error_errno(b->err, errno, NULL, "cannot go back");
	return r;
}

/* --- buildah --- */

/* words ends with NULL. */
static int buildah(struct build *b, const char *const *words)
{
	/* Of its drivers the one that mounts nothing. */
	const char *argv[32] = {"buildah",  "--root",		b->root, "--runroot",
				b->runroot, "--storage-driver", "vfs"};
	size_t n = 7;

	for (; *words; words++)
		argv[n++] = *words;
	argv[n] = NULL;
	return image_child_run(b->job, &b->child, (char *const *)(uintptr_t)argv, b->err);
}

/* Takes one of our images along, if there is one of that name. */
static int offer(struct build *b, const char *name)
{
	struct davit_image_store *s = b->job->store;
	DAVIT_AUTO_FREE char *path = davit_path_join(b->dir, "base.tar");
	DAVIT_AUTO_FREE char *source = NULL;
	struct davit_image *i = NULL;
	struct davit_error err;
	int r;

	if (davit_image_resolve(s, name, &i, &err) < 0)
		return err.code == DAVIT_ENOMEM ? davit_error_copy(b->err, &err) : 0; /* another stage's, or a
										      registry's */
	davit_image_free(i);
	if (!path || asprintf(&source, "docker-archive:%s", path) < 0)
		return image_oom(b->err);
	r = davit_image_save(s, name, DAVIT_IMAGE_DOCKER, path, b->err);
	if (r == 0) {
		const char *const words[] = {"pull", "--quiet", source, NULL};

		r = buildah(b, words);
		unlink(path);
	}
	return r;
}

/* The image that a line of a Dockerfile names, cut out of it, or NULL. */
static char *image_of_line(char *line)
{
	bool from;
	char *save, *word = strtok_r(line, " \t\r", &save);

	if (!word || (strcasecmp(word, "FROM") && strcasecmp(word, "COPY")))
		return NULL;
	from = !strcasecmp(word, "FROM");
	while ((word = strtok_r(NULL, " \t\r", &save)) && !strncmp(word, "--", 2))
		if (!from && !strncmp(word, "--from=", 7))
			return word + 7;
	return from ? word : NULL;
}

static int offer_bases(struct build *b, const char *dockerfile)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char *save = NULL;
	int r = davit_read_file(dockerfile, DOCKERFILE_MAX, &text, b->err);

	if (r < 0 || !text.len)
		return r;
	for (char *l = strtok_r(text.data, "\n", &save); l && !r; l = strtok_r(NULL, "\n", &save)) {
		char *name = image_of_line(l);

		if (name && strcmp(name, "scratch"))
			r = offer(b, name);
	}
	return r;
}

/* An owned path: what was asked for, or the first of the two usual ones. It may be a link, but
 * not one that leads out of the context. */
static int find_dockerfile(struct build *b, char **ret)
{
	const char *const names[] = {b->asked->dockerfile ? b->asked->dockerfile : "Dockerfile",
				     b->asked->dockerfile ? NULL : "Containerfile"};
	size_t n = strlen(b->context);

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(names) && names[k]; k++) {
		DAVIT_AUTO_FREE char *path = davit_path_join(b->context, names[k]);
		DAVIT_AUTO_FREE char *real = path ? realpath(path, NULL) : NULL;

		if (!path)
			return image_oom(b->err);
		if (real && !strncmp(real, b->context, n) && real[n] == '/') {
			*ret = DAVIT_TAKE(real);
			return 0;
		}
	}
	return davit_error_set(b->err, DAVIT_ESOURCE, NULL, "the context has no %s", names[0]);
}

static int run(struct build *b)
{
	DAVIT_AUTO_FREE char *dockerfile = NULL;
	DAVIT_AUTO_FREE char *out = NULL;
	DAVIT_AUTO_FREE char *to = NULL;
	struct davit_image_load load = b->asked->load;
	int r = make_context(b);

	if (!r)
		r = find_dockerfile(b, &dockerfile);
	if (!r)
		r = offer_bases(b, dockerfile);
	if (!r && (asprintf(&out, "%s/built", b->dir) < 0 || asprintf(&to, "oci:%s:built", out) < 0))
		r = image_oom(b->err);
	if (r < 0)
		return r;
	const char *const bud[] = {"bud",      "--isolation", "chroot",	      "--network", "host",
				   "--format", "oci",	      "--pull=false", "--file",	   dockerfile,
				   "--tag",    NAME,	      b->context,     NULL};
	const char *const push[] = {"push", "--quiet", NAME, to, NULL};

	b->child.said = b->asked->said;
	b->child.user = b->asked->load.user;
	r = buildah(b, bud);
	if (r == DAVIT_EUNAVAIL) {
		const char *said = b->child.last;

		r = davit_error_set(b->err, DAVIT_EBUILD, NULL, "%.400s",
				    !strncmp(said, "Error: ", 7) ? said + 7 : said);
	}
	b->child.said = NULL;
	if (!r)
		r = buildah(b, push);
	load.select = NULL;
	return r ? r : image_load_from(b->job, &load, out, true, b->err);
}

int davit_image_build(struct davit_image_store *s, const struct davit_image_build *asked,
		      struct davit_error *err)
{
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	struct build b = {.asked = asked, .job = &j, .err = err};
	char full[DAVIT_REFERENCE_MAX];
	int r = davit_reference_normalise(asked->load.reference, full, err);

	/* What it mounts goes with its last process. */
	if (r == 0 && geteuid() == 0 &&
	    (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0))
		r = davit_error_errno(err, errno, NULL, "cannot have mounts of its own");
	if (r == 0)
		r = image_job_begin(s, &j, err);
	if (r < 0)
		return r;
	/* What buildah puts aside goes with the job's directory, also when both are killed. */
	if (asprintf(&b.dir, "%s/tmp/%s", s->dir, j.name) < 0 || asprintf(&b.root, "%s/root", b.dir) < 0 ||
	    asprintf(&b.runroot, "%s/runroot", b.dir) < 0 || setenv("TMPDIR", b.dir, 1) < 0)
		r = image_oom(err);
	else
		r = run(&b);
	free(b.dir);
	free(b.context);
	free(b.root);
	free(b.runroot);
	return r;
}
