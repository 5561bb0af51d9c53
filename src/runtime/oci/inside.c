/* SPDX-License-Identifier: MIT
 *
 * Files of a container's root, read from outside: an image's links may point
 * anywhere, so every path is resolved as it would be inside.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DATABASE_MAX (1 << 20)
/* As the runtimes have it for a command without one. */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* As a process inside would: no link leads out. A descriptor or -1 with errno. */
static int open_inside(int root, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* A database of lines; one that is not there is empty. */
static int read_database(int root, const char *path, struct davit_buf *out, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open_inside(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char chunk[4096];
	ssize_t n;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return davit_error_errno(err, errno, "user", "cannot open %s of the image", path);
	if (!S_ISREG(st.st_mode))
		return davit_error_set(err, DAVIT_EINVAL, "user", "%s of the image is no file", path);
	while ((n = DAVIT_EINTR(read(fd, chunk, sizeof chunk))) > 0 && out->len < DATABASE_MAX)
		davit_buf_add(out, chunk, (size_t)n);
	if (n < 0)
		return davit_error_errno(err, errno, "user", "cannot read %s of the image", path);
	return out->oom ? davit_error_set(err, DAVIT_ENOMEM, "user", "out of memory") : 0;
}

static bool number(const char *s, unsigned *ret)
{
	int64_t v;

	if (davit_int_parse(s, 0, UINT32_MAX - 1, &v, NULL) < 0)
		return false;
	*ret = (unsigned)v;
	return true;
}

/* Splits a line at colons, in place; missing fields are empty. */
static void split(char *line, char *field[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		field[i] = line;
		line += strcspn(line, i + 1 < n ? ":" : "");
		if (*line)
			*line++ = '\0';
	}
}

/* By name, else by number: a name of digits is a name where there is one. */
static bool find_user(char *database, const char *user, struct oci_user *u, char name[64])
{
	unsigned wanted = 0, uid, gid;
	bool by_number = number(user, &wanted), found = false;
	char *save = NULL;

	for (char *l = strtok_r(database, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *f[7];
		bool same;

		split(l, f, 7);
		if (!number(f[2], &uid) || !number(f[3], &gid))
			continue;
		same = !strcmp(f[0], user);
		if (!same && (found || !by_number || uid != wanted))
			continue;
		u->uid = uid;
		u->gid = gid;
		snprintf(name, 64, "%s", f[0]);
		snprintf(u->home, sizeof u->home, "%s", f[5]);
		found = true;
		if (same)
			break;
	}
	return found;
}

static bool is_member(char *members, const char *name)
{
	char *save = NULL;

	for (char *m = strtok_r(members, ",", &save); m; m = strtok_r(NULL, ",", &save))
		if (!strcmp(m, name))
			return true;
	return false;
}

/* group: to be found, or NULL. name: whose supplementary groups, or "". */
static int find_groups(char *database, const char *group, const char *name, struct oci_user *u,
		       struct davit_error *err)
{
	bool found = !group;
	unsigned gid, wanted = 0;
	char *save = NULL;

	if (group && number(group, &wanted)) {
		u->gid = wanted;
		found = true;
	}
	for (char *l = strtok_r(database, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *f[4];

		split(l, f, 4);
		if (!number(f[2], &gid))
			continue;
		if (group && !strcmp(f[0], group)) {
			u->gid = gid;
			found = true;
		}
		if (*name && u->n_groups < DAVIT_ARRAY_SIZE(u->groups) && is_member(f[3], name))
			u->groups[u->n_groups++] = gid;
	}
	if (!found)
		return davit_error_set(err, DAVIT_ENOENT, "user", "the image has no group '%s'", group);
	return 0;
}

int oci_user_find(int root, const char *user, struct oci_user *ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF passwd = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF groups = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *text = strdup(user);
	struct oci_user u = {.home = "/"};
	char name[64] = "", *group;
	unsigned uid;
	int r;

	if (!text)
		return davit_error_set(err, DAVIT_ENOMEM, "user", "out of memory");
	group = strchr(text, ':');
	if (group)
		*group++ = '\0';
	if (!*text || (group && !*group))
		return davit_error_set(err, DAVIT_EINVAL, "user",
				       "'%s' is not of the form user or user:group", user);
	r = read_database(root, "/etc/passwd", &passwd, err);
	if (!r)
		r = read_database(root, "/etc/group", &groups, err);
	if (r < 0)
		return r;
	davit_buf_addc(&passwd, '\n'); /* there is a string now, and its end */
	davit_buf_addc(&groups, '\n');
	if (passwd.oom || groups.oom)
		return davit_error_set(err, DAVIT_ENOMEM, "user", "out of memory");
	if (!find_user(passwd.data, text, &u, name)) {
		if (!number(text, &uid))
			return davit_error_set(err, DAVIT_ENOENT, "user", "the image has no user '%s'", text);
		u.uid = uid;
	}
	r = find_groups(groups.data, group, name, &u, err);
	if (!r)
		*ret = u;
	return r;
}

/* --- programs --- */

enum verdict { THERE, ABSENT, NO_PROGRAM, UNCERTAIN };

/* Adds the errno to what *err says in words. */
static int refused(enum verdict v, struct davit_error *err)
{
	if (err)
		err->sys_errno = v == NO_PROGRAM ? EACCES : ENOENT;
	return DAVIT_EEXEC;
}

/* A link may lead to where something is mounted: only without any is it certain. */
static bool is_absent_without_links(int root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
	DAVIT_AUTO_CLOSE int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);

	return fd < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* What a mount covers is not seen through the root. */
static enum verdict look(int root, const struct davit_workload *w, const char *path)
{
	const struct davit_mount *over = NULL;
	DAVIT_AUTO_CLOSE int source = -1;
	DAVIT_AUTO_CLOSE int fd = -1;
	size_t longest = 0;
	struct stat st;

	for (size_t i = 0; i < w->n_mounts; i++) {
		size_t n = strlen(w->mounts[i].target);

		if (n > longest && !strncmp(path, w->mounts[i].target, n) &&
		    (path[n] == '/' || path[n] == '\0')) {
			over = &w->mounts[i];
			longest = n;
		}
	}
	if (over) {
		if (over->type != DAVIT_MOUNT_BIND || !path[longest])
			return UNCERTAIN;
		source = open(over->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
		fd = source < 0 ? -1 : open_inside(source, path + longest, O_PATH);
	} else {
		fd = open_inside(root, path, O_PATH);
	}
	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_mode & 0111)
		return THERE;
	if (fd >= 0 && !w->n_mounts)
		return NO_PROGRAM; /* a directory, or a file that nobody may execute */
	if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
		return UNCERTAIN;
	return w->n_mounts && !is_absent_without_links(over ? source : root, over ? path + longest : path)
		       ? UNCERTAIN
		       : ABSENT;
}

int oci_program_find(int root, const struct davit_workload *w, const char *program, const char *path,
		     const char *directory, struct davit_error *err)
{
	enum verdict v, worst = ABSENT;

	if (!*program)
		return davit_error_set(err, DAVIT_EEXEC, "command", "the command is empty");
	if (strchr(program, '/')) {
		DAVIT_AUTO_FREE char *whole = davit_path_join(directory, program);

		if (!whole)
			return davit_error_set(err, DAVIT_ENOMEM, "command", "out of memory");
		v = look(root, w, whole);
		if (v != ABSENT && v != NO_PROGRAM)
			return 0;
		davit_error_set(err, DAVIT_EEXEC, "command", "cannot execute %s: %s", program,
				v == ABSENT ? "the image has no such program" : "it may not be executed");
		return refused(v, err);
	}
	for (const char *p = path && *path ? path : DEFAULT_PATH;;) {
		size_t n = strcspn(p, ":");
		char whole[4096];

		snprintf(whole, sizeof whole, "%.*s/%s", (int)n, p, program);
		v = *p == '/' ? look(root, w, whole) : UNCERTAIN;
		if (v == THERE)
			return 0;
		worst = v > worst ? v : worst;
		p += n;
		if (!*p++)
			break;
	}
	if (worst == UNCERTAIN)
		return 0;
	davit_error_set(err, DAVIT_EEXEC, "command",
			worst == ABSENT ? "executable '%s' not found in the PATH of the image"
					: "'%s' in the PATH of the image may not be executed",
			program);
	return refused(worst, err);
}
