/* SPDX-License-Identifier: MIT */
#include "runtime/process/lookup.h"

#include "base/file.h"
#include "base/strv.h"
#include "base/units.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* As login(1) has it, where the environment names no PATH. */
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define ENTRY_MAX 65536
#define GROUPS_MAX 65536

static bool is_number(const char *s, unsigned *ret)
{
	int64_t v;

	if (davit_int_parse(s, 0, UINT32_MAX - 1, &v, NULL) < 0)
		return false;
	*ret = (unsigned)v;
	return true;
}

static int find_user(const char *name, struct passwd *pw, char *buf, size_t size, struct passwd **ret)
{
	unsigned uid;

	if (!getpwnam_r(name, pw, buf, size, ret) && *ret)
		return 0;
	return is_number(name, &uid) ? getpwuid_r(uid, pw, buf, size, ret) : 0;
}

static int find_group(const char *name, gid_t *ret, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *buf = malloc(ENTRY_MAX);
	struct group gr, *found = NULL;

	if (!buf)
		return davit_error_set(err, DAVIT_ENOMEM, "user", "out of memory");
	if (!getgrnam_r(name, &gr, buf, ENTRY_MAX, &found) && found) {
		*ret = gr.gr_gid;
		return 0;
	}
	if (is_number(name, ret))
		return 0;
	return davit_error_set(err, DAVIT_ENOENT, "user", "group '%s' is not known on this host", name);
}

static int supplementary(const char *name, struct process_user *u, struct davit_error *err)
{
	int n = 16;

	for (;;) {
		gid_t *v = reallocarray(u->groups, (size_t)n, sizeof *v);
		int have = n;

		if (!v)
			return davit_error_set(err, DAVIT_ENOMEM, "user", "out of memory");
		u->groups = v;
		if (getgrouplist(name, u->gid, v, &have) >= 0) {
			u->n_groups = have;
			return 0;
		}
		if (n >= GROUPS_MAX)
			return davit_error_set(err, DAVIT_EINVAL, "user", "user '%s' is in too many groups",
					       name);
		n = have > n ? have : n * 2;
	}
}

static int lookup(char *user, char *group, struct process_user *u, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *buf = malloc(ENTRY_MAX);
	struct passwd pw, *found = NULL;
	unsigned uid;
	int r = 0;

	if (!buf)
		return davit_error_set(err, DAVIT_ENOMEM, "user", "out of memory");
	find_user(user, &pw, buf, ENTRY_MAX, &found);
	if (found) {
		u->uid = found->pw_uid;
		u->gid = found->pw_gid;
	} else if (is_number(user, &uid)) {
		u->uid = u->gid = uid;
	} else {
		return davit_error_set(err, DAVIT_ENOENT, "user", "user '%s' is not known on this host",
				       user);
	}
	if (group)
		r = find_group(group, &u->gid, err);
	if (!r && found)
		r = supplementary(found->pw_name, u, err);
	return r;
}

int process_user_lookup(const char *user, struct process_user *ret, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *name = strdup(user);
	struct process_user u = {0};
	char *group;
	int r;

	if (!name)
		return davit_error_set(err, DAVIT_ENOMEM, "user", "out of memory");
	group = strchr(name, ':');
	if (group)
		*group++ = '\0';
	if (!*name || (group && !*group))
		return davit_error_set(err, DAVIT_EINVAL, "user",
				       "'%s' is not of the form user or user:group", user);
	r = lookup(name, group, &u, err);
	if (r < 0) {
		process_user_fini(&u);
		return r;
	}
	*ret = u;
	return 0;
}

void process_user_fini(struct process_user *u)
{
	free(u->groups);
	*u = (struct process_user){0};
}

/* 0, or why not: ENOENT also of what is no file. */
static int executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return ENOENT;
	return access(path, X_OK) < 0 ? errno : 0;
}

int process_program_lookup(const char *argv0, char *const *env, const char *directory, char **ret,
			   struct davit_error *err)
{
	const char *path = davit_strv_getenv(env, "PATH");
	int why = ENOENT, r;
	char *found;

	if (!*argv0)
		return davit_error_set(err, DAVIT_EEXEC, "command", "the command is empty");
	if (strchr(argv0, '/')) {
		found = davit_path_join(directory ? directory : "/", argv0);
		if (!found)
			return davit_error_set(err, DAVIT_ENOMEM, "command", "out of memory");
		*ret = found;
		return 0; /* what is wrong with it, execve says best */
	}
	if (!path)
		path = DEFAULT_PATH;
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, ":");
		DAVIT_AUTO_FREE char *dir = strndup(p, n);
		DAVIT_AUTO_FREE char *base =
			dir ? davit_path_join(directory ? directory : "/", *dir ? dir : ".") : NULL;

		found = base ? davit_path_join(base, argv0) : NULL;
		if (!found)
			return davit_error_set(err, DAVIT_ENOMEM, "command", "out of memory");
		r = executable(found);
		if (r == 0) {
			*ret = found;
			return 0;
		}
		free(found);
		if (r != ENOENT)
			why = r;
		p += n;
		if (!*p)
			break;
	}
	davit_error_set(err, DAVIT_EEXEC, "command",
			why == ENOENT ? "executable '%s' not found in PATH"
				      : "'%s' in PATH may not be executed",
			argv0);
	if (err)
		err->sys_errno = why;
	return DAVIT_EEXEC;
}
