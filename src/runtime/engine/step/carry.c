/* SPDX-License-Identifier: MIT
 *
 * Artifacts into a container before its start, and out of it before its end, as archives: its engine may
 * see another file system than we do. What comes out is as hostile as the step was.
 */
#include "runtime/engine/step/driver.h"

#include "base/file.h"
#include "step/copy.h"
#include "step/place.h"
#include "step/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

struct carrying {
	struct driver *d;
	struct archive *a;
	int fd; /* the request */
	const struct step_mount_order *mount;
	struct davit_error *err;
	bool told; /* err says why writing has failed */
};

static int archive_failed(struct carrying *c)
{
	const char *why = archive_error_string(c->a);

	return c->told ? c->err->code
		       : davit_error_set(c->err, DAVIT_EIO, NULL, "cannot write an archive: %s",
					 why ? why : "?");
}

/* Is `path` the directory `at`, or beneath it? */
static bool within(const char *path, const char *at)
{
	size_t n = strlen(at);

	return !strncmp(path, at, n) && (!path[n] || path[n] == '/');
}

/* ----------------------------------------------------------------------------------- in */

static la_ssize_t send_some(struct archive *a, void *user, const void *data, size_t n)
{
	struct carrying *c = user;

	if (n && api_chunk(c->fd, data, n, c->err) < 0) {
		c->told = true;
		return -1;
	}
	return (la_ssize_t)n;
}

static int add_directory(struct carrying *c, const char *path, mode_t mode)
{
	struct archive_entry *e = archive_entry_new();
	int r;

	if (!e)
		return davit_error_set(c->err, DAVIT_ENOMEM, NULL, "out of memory");
	archive_entry_set_pathname(e, path);
	archive_entry_set_mode(e, S_IFDIR | mode);
	archive_entry_set_mtime(e, time(NULL), 0);
	r = archive_write_header(c->a, e) == ARCHIVE_OK ? 0 : archive_failed(c);
	archive_entry_free(e);
	return r;
}

/* A file that is open, from its beginning. */
static int add_file(struct carrying *c, int fd, const char *path, mode_t mode)
{
	struct archive_entry *e = archive_entry_new();
	char buf[65536];
	struct stat st;
	la_int64_t at = 0;
	ssize_t n;
	int r = 0;

	if (!e || fstat(fd, &st) < 0) {
		archive_entry_free(e);
		return davit_error_errno(c->err, errno, NULL, "cannot read %s", path);
	}
	archive_entry_set_pathname(e, path);
	archive_entry_set_mode(e, S_IFREG | mode);
	archive_entry_set_size(e, st.st_size);
	if (archive_write_header(c->a, e) != ARCHIVE_OK)
		r = archive_failed(c);
	for (; r == 0 && (n = DAVIT_EINTR(pread(fd, buf, sizeof buf, at))) > 0; at += n)
		if (archive_write_data(c->a, buf, (size_t)n) < 0)
			r = archive_failed(c);
	archive_entry_free(e);
	return r;
}

static int add_ours(struct carrying *c)
{
	DAVIT_AUTO_CLOSE int fd = step_session_program(c->err);
	int r;

	if (fd < 0)
		return fd;
	r = add_directory(c, &STEP_INSIDE_DIRECTORY[1], 0755);
	if (r == 0)
		r = add_file(c, fd, &STEP_INSIDE_PROGRAM[1], 0755);
	if (r == 0 && c->d->step.options.input)
		r = add_file(c, STEP_DRIVER_INPUT, &STEP_INSIDE_INPUT[1], 0600);
	return r;
}

/* What another mount covers is not seen on this host either. */
static bool covered(void *user, const char *name)
{
	const struct carrying *c = user;
	const struct step *s = &c->d->step;

	for (size_t i = 0; i < s->n_mounts; i++)
		if (&s->mounts[i] != c->mount && strlen(s->mounts[i].target) > strlen(c->mount->target) &&
		    within(name, s->mounts[i].target + 1) && strcmp(name, s->mounts[i].target + 1) != 0)
			return true;
	return false;
}

/* A mount within another may lead through no link of that, as on this host. */
static int check_way(struct carrying *c, const struct step_mount_order *outer, int fd)
{
	const char *rest = c->mount->target + strlen(outer->target) + 1;
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH};
	DAVIT_AUTO_CLOSE int to = (int)syscall(SYS_openat2, fd, rest, &how, sizeof how);
	struct stat st;

	if (to < 0 && errno == ENOENT)
		return 0;
	if (to < 0 || fstat(to, &st) < 0 || !S_ISDIR(st.st_mode))
		return davit_error_errno(c->err, to < 0 ? errno : ENOTDIR, NULL,
					 "nothing can be mounted at %s", c->mount->target);
	return 0;
}

static int check_ways(struct carrying *c)
{
	const struct step *s = &c->d->step;

	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct step_mount_order *outer = &s->mounts[i];
		DAVIT_AUTO_CLOSE int fd = -1;
		int r;

		if (outer == c->mount || strlen(outer->target) >= strlen(c->mount->target) ||
		    !within(c->mount->target, outer->target))
			continue;
		fd = open(outer->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? 0 : check_way(c, outer, fd);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_mount(struct carrying *c)
{
	const struct step_mount_order *m = c->mount;
	DAVIT_AUTO_CLOSE int fd = open(m->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return davit_error_errno(c->err, errno, NULL, "cannot open %s", m->source);
	r = check_ways(c);
	if (r == 0)
		r = add_directory(c, m->target + 1, st.st_mode & 07777);
	return r < 0 ? r : step_pack_tree(c->a, fd, m->target + 1, covered, c, c->err);
}

static int write_archive(struct carrying *c)
{
	const struct step *s = &c->d->step;
	int r = add_ours(c);

	if (r == 0)
		r = add_directory(c, "tmp", 01777);
	if (r == 0)
		r = add_directory(c, "tmp/build", 0755);
	if (r == 0)
		r = add_directory(c, "tmp/home", 0755);
	for (size_t i = 0; r == 0 && i < s->n_mounts; i++) {
		c->mount = &s->mounts[i];
		r = add_mount(c);
	}
	if (archive_write_close(c->a) != ARCHIVE_OK && r == 0)
		r = archive_failed(c);
	return r;
}

int carry_in(struct driver *d, struct davit_error *err)
{
	struct carrying c = {.d = d, .a = archive_write_new(), .fd = -1, .err = err};
	char path[80];
	int r;

	if (!c.a)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	snprintf(path, sizeof path, "/containers/%s/archive?path=/", d->container);
	r = api_begin(&d->api, "PUT", path, "application/x-tar", true, &c.fd, err);
	archive_write_set_format_pax_restricted(c.a);
	archive_write_set_bytes_per_block(c.a, 65536);
	/* Podman's own unpacking ends at the end of the archive: a filler behind it would find nobody. */
	archive_write_set_bytes_in_last_block(c.a, 1);
	if (r == 0 && archive_write_open(c.a, &c, NULL, send_some, NULL) != ARCHIVE_OK)
		r = archive_failed(&c);
	if (r == 0)
		r = write_archive(&c);
	archive_write_free(c.a);
	if (r == 0)
		r = api_chunk(c.fd, "", 0, err);
	if (r == 0)
		r = api_answer(c.fd, err);
	davit_closep(&c.fd);
	return r;
}

/* ---------------------------------------------------------------------------------- out */

/* What was mounted within it is not of it, as on this host. */
static int empty_mounts_within(struct carrying *c, int fd)
{
	const struct step *s = &c->d->step;

	for (size_t i = 0; i < s->n_mounts; i++) {
		DAVIT_AUTO_FREE char *rest = NULL;
		DAVIT_AUTO_CLOSE int at = -1;
		char *slash;
		int e;

		if (&s->mounts[i] == c->mount || strlen(s->mounts[i].target) <= strlen(c->mount->target) ||
		    !within(s->mounts[i].target, c->mount->target))
			continue;
		rest = strdup(s->mounts[i].target + strlen(c->mount->target) + 1);
		if (!rest)
			return davit_error_set(c->err, DAVIT_ENOMEM, NULL, "out of memory");
		slash = strrchr(rest, '/');
		if (slash)
			*slash = '\0';
		at = step_place(fd, slash ? rest : "");
		if (at < 0)
			continue; /* the step has put something else there */
		e = davit_remove_at(at, slash ? slash + 1 : rest);
		if (e || mkdirat(at, slash ? slash + 1 : rest, 0755) < 0)
			return davit_error_errno(c->err, e ? e : errno, NULL, "cannot empty %s",
						 s->mounts[i].target);
	}
	return 0;
}

/* The archive has one directory, of the target's name, which changes places with ours. */
static int put_in_place(struct carrying *c, int work, const char *own)
{
	const char *name = strrchr(c->mount->target, '/') + 1;
	DAVIT_AUTO_CLOSE int fd = openat(work, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return davit_error_errno(c->err, errno, NULL, "the step has left no directory at %s",
					 c->mount->target);
	r = empty_mounts_within(c, fd);
	if (r < 0)
		return r;
	return renameat2(work, name, AT_FDCWD, own, RENAME_EXCHANGE) < 0
		       ? davit_error_errno(c->err, errno, NULL, "cannot keep %s", own)
		       : 0;
}

static void escape(struct davit_buf *b, const char *s)
{
	for (; *s; s++)
		if (strchr("/.-_~", *s) || (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') ||
		    (*s >= 'A' && *s <= 'Z'))
			davit_buf_addc(b, *s);
		else
			davit_buf_addf(b, "%%%02X", (unsigned char)*s);
}

static int fetch(struct carrying *c, int work)
{
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;
	DAVIT_AUTO_CLOSE int fd = -1;
	int r;

	davit_buf_addf(&path, "/containers/%s/archive?path=", c->d->container);
	escape(&path, c->mount->target);
	if (path.oom)
		return davit_error_set(c->err, DAVIT_ENOMEM, NULL, "out of memory");
	r = api_begin(&c->d->api, "GET", path.data, NULL, false, &fd, c->err);
	if (r == 0)
		r = api_answer(fd, c->err);
	return r < 0 ? r : step_unpack(fd, work, UINT64_MAX, c->err);
}

static int take_out(struct carrying *c, const char *own)
{
	char path[4096];
	DAVIT_AUTO_CLOSE int work = -1;
	int r;

	if (snprintf(path, sizeof path, "%s/fetched", c->d->step.directory) >= (int)sizeof path)
		return davit_error_set(c->err, DAVIT_EINVAL, NULL, "the path of the step is too long");
	if (mkdir(path, 0700) == 0)
		work = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (work < 0)
		return davit_error_errno(c->err, errno, NULL, "cannot make %s", path);
	r = fetch(c, work);
	if (r == 0)
		r = put_in_place(c, work, own);
	davit_remove_at(AT_FDCWD, path);
	return r;
}

int carry_out(struct driver *d, struct davit_error *err)
{
	struct carrying c = {.d = d, .err = err};
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->step.n_mounts; i++) {
		c.mount = &d->step.mounts[i];
		if (c.mount->kind != STEP_MOUNT_OVER)
			r = take_out(&c, c.mount->copy ? c.mount->copy : c.mount->source);
	}
	return r;
}
