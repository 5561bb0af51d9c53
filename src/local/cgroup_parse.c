/* SPDX-License-Identifier: MIT
 *
 * Which control group hierarchies there are, and where in them we are: from the
 * texts of /proc/self/cgroup and /proc/self/mountinfo.
 */
#include "local/cgroup.h"

#include <stdio.h>
#include <string.h>

const char *const cgroup_names[CGROUP_CONTROLLERS] = {
	[CGROUP_MEMORY] = "memory",
	[CGROUP_CPU] = "cpu",
	[CGROUP_PIDS] = "pids",
	[CGROUP_FREEZER] = "freezer",
};

/* The group that `beside` names, seen from ours: "../x" is one next to it, where it is not the root. */
static char *named_group(const char *ours, const char *beside)
{
	DAVIT_AUTO_FREE char *dir = strdup(ours);
	char *found = NULL;

	while (dir && !strncmp(beside, "../", 3)) {
		char *slash = strrchr(dir, '/');

		if (!slash || !slash[1])
			return DAVIT_TAKE(dir);
		*slash = '\0';
		beside += 3;
	}
	return !dir || asprintf(&found, "%s/%s", dir, beside) < 0 ? NULL : found;
}

/* The next line of *text as a heap copy, or NULL at the end (*oom tells why). */
static char *next_line(const char **text, bool *oom)
{
	size_t n = strcspn(*text, "\n");
	char *line;

	if (!**text)
		return NULL;
	line = strndup(*text, n);
	if (!line)
		*oom = true;
	*text += n + ((*text)[n] == '\n');
	return line;
}

/* True if the comma-separated list has the word. */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; p && *p; p = strchr(p, ','), p = p ? p + 1 : NULL)
		if (!strncmp(p, word, n) && (p[n] == ',' || !p[n]))
			return true;
	return false;
}

/* mountinfo writes blanks and backslashes as three octal digits. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*to = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*to = *s;
		}
	}
	*to = '\0';
}

/* What one line of mountinfo says, pointing into the line. */
struct mount {
	char *root, *point, *type, *super;
};

/* "ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAGS...] - TYPE SOURCE SUPER" */
static bool parse_mount(char *line, struct mount *m)
{
	char *sep = strstr(line, " - "), *save = NULL;

	if (!sep)
		return false;
	*sep = '\0';
	strtok_r(line, " ", &save);
	strtok_r(NULL, " ", &save);
	strtok_r(NULL, " ", &save);
	m->root = strtok_r(NULL, " ", &save);
	m->point = strtok_r(NULL, " ", &save);
	m->type = strtok_r(sep + 3, " ", &save);
	strtok_r(NULL, " ", &save);
	m->super = strtok_r(NULL, " ", &save);
	if (!m->root || !m->point || !m->type || !m->super)
		return false;
	unescape(m->root);
	unescape(m->point);
	return true;
}

/* The directory of group `path` in a hierarchy mounted with m: the mount may
 * show only a part of it. A group outside of that part is taken as its root. */
static char *directory_of(const struct mount *m, const char *path)
{
	size_t n = strcmp(m->root, "/") ? strlen(m->root) : 0;
	char *out;

	if (strncmp(path, m->root, n) || (n && path[n] && path[n] != '/') || strstr(path, "/.."))
		path = "";
	else
		path += n;
	if (!strcmp(path, "/"))
		path = "";
	return asprintf(&out, "%s%s", m->point, path) < 0 ? NULL : out;
}

/* The group's path for a v1 controller (or v2: controller NULL) as a heap
 * string, NULL when there is no line for it. */
static char *group_of(const char *cgroup, const char *controller, bool *oom)
{
	char *line, *found = NULL;

	while (!found && (line = next_line(&cgroup, oom))) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;

		if (path) {
			*list++ = *path++ = '\0';
			if (controller ? has_word(list, controller) : (!*list && !strcmp(line, "0"))) {
				found = strdup(path);
				*oom |= !found;
			}
		}
		free(line);
	}
	return found;
}

/* Fills *slot with the directory of our group, or the one beside it, in the mounted hierarchy, once. */
static void take(char **slot, const struct mount *m, const char *cgroup, const char *controller,
		 const char *beside, bool *oom)
{
	DAVIT_AUTO_FREE char *path = NULL;

	if (*slot || *oom)
		return;
	path = group_of(cgroup, controller, oom);
	if (path && beside) {
		char *named = named_group(path, beside);

		free(path);
		path = named;
		*oom |= !path;
	}
	if (!path)
		return;
	*slot = directory_of(m, path);
	*oom |= !*slot;
}

static enum cgroup_layout layout_of(const struct cgroup_self *s)
{
	bool v1 = false;

	for (int i = 0; i < CGROUP_LIMITS; i++)
		v1 |= s->v1_own[i] != NULL;
	if (s->v2_own)
		return v1 ? CGROUP_HYBRID : CGROUP_V2;
	return v1 || s->v1_own[CGROUP_FREEZER] ? CGROUP_V1 : CGROUP_NONE;
}

int cgroup_parse(const char *cgroup, const char *mountinfo, const char *beside, struct cgroup_self *ret)
{
	struct cgroup_self s = {0};
	bool oom = false;
	char *line;

	while (!oom && (line = next_line(&mountinfo, &oom))) {
		struct mount m;

		if (parse_mount(line, &m)) {
			if (!strcmp(m.type, "cgroup2") && !s.v2_mount) {
				take(&s.v2_own, &m, cgroup, NULL, beside, &oom);
				if (s.v2_own) {
					s.v2_mount = strdup(m.point);
					oom |= !s.v2_mount;
				}
			}
			for (int i = 0; i < CGROUP_CONTROLLERS; i++)
				if (!strcmp(m.type, "cgroup") && has_word(m.super, cgroup_names[i]))
					take(&s.v1_own[i], &m, cgroup, cgroup_names[i], beside, &oom);
		}
		free(line);
	}
	if (oom) {
		cgroup_self_fini(&s);
		return DAVIT_ENOMEM;
	}
	s.layout = layout_of(&s);
	*ret = s;
	return 0;
}

char *cgroup_directory(const char *cgroup, const char *mountinfo, const char *controller)
{
	char *dir = NULL, *line;
	bool oom = false;

	while (!dir && !oom && (line = next_line(&mountinfo, &oom))) {
		struct mount m;

		if (strstr(line, " - cgroup") && parse_mount(line, &m) &&
		    (controller ? !strcmp(m.type, "cgroup") && has_word(m.super, controller)
				: !strcmp(m.type, "cgroup2")))
			take(&dir, &m, cgroup, controller, NULL, &oom);
		free(line);
	}
	return dir;
}

void cgroup_self_fini(struct cgroup_self *s)
{
	free(s->v2_mount);
	free(s->v2_own);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		free(s->v1_own[i]);
	*s = (struct cgroup_self){0};
}

const char *cgroup_layout_name(enum cgroup_layout layout)
{
	static const char *const names[] = {
		[CGROUP_NONE] = "none",
		[CGROUP_V1] = "v1",
		[CGROUP_HYBRID] = "hybrid",
		[CGROUP_V2] = "v2",
	};

	return (unsigned)layout < DAVIT_ARRAY_SIZE(names) ? names[layout] : "unknown";
}
