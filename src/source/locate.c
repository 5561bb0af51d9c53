/* SPDX-License-Identifier: MIT
 *
 * From the text of a source to a tree of files.
 */
#include "source/build.h"

#include "base/file.h"
#include "base/util.h"
#include "source/git.h"
#include "source/source.h"
#include "source/unpack.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ARCHIVE_ENTRIES_MAX 200000

struct place {
	const struct davit_build_request *request;
	const char *scratch;
	int64_t deadline;
	struct davit_error *err;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

void davit_located_fini(struct davit_located *l)
{
	free(l->path);
	free(l->revision);
	free(l->scratch);
	*l = (struct davit_located){0};
}

static int set_path(struct davit_located *l, const char *path, struct davit_error *err)
{
	l->path = strdup(path);
	return l->path ? 0 : no_memory(err);
}

/* An archive of one directory, as releases come, means that directory. */
static int enter_single_directory(struct davit_located *l, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *inside = NULL;
	DIR *d = opendir(l->path);
	size_t n = 0;
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (++n > 1)
			break;
		inside = davit_path_join(l->path, e->d_name);
	}
	if (d)
		closedir(d);
	if (n != 1)
		return 0;
	if (!inside)
		return no_memory(err);
	if (lstat(inside, &st) == 0 && S_ISDIR(st.st_mode)) {
		free(l->path);
		l->path = DAVIT_TAKE(inside);
	}
	return 0;
}

static int locate_path(const struct place *p, const char *path, struct davit_located *l)
{
	struct davit_archive_limits limits = {p->request->cache_size, ARCHIVE_ENTRIES_MAX};
	struct stat st;
	int r;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && davit_archive_is(path)) {
		printf("unpacking %s\n", path);
		l->scratch = strdup(p->scratch);
		if (!l->scratch)
			return no_memory(p->err);
		r = davit_archive_unpack(path, p->scratch, &limits, p->err);
		if (r == 0)
			r = set_path(l, p->scratch, p->err);
		return r < 0 ? r : enter_single_directory(l, p->err);
	}
	return set_path(l, path, p->err);
}

static int locate_git(const struct place *p, const struct davit_source *s, struct davit_located *l)
{
	const struct davit_git git = {
		.env = p->request->env,
		.credentials = p->request->credentials,
		.askpass = p->request->self,
		.deadline = p->deadline,
	};
	int r;

	printf("fetching %s of %s\n", s->ref ? s->ref : "the default branch", s->location);
	l->scratch = strdup(p->scratch);
	if (!l->scratch)
		return no_memory(p->err);
	r = davit_git_fetch(&git, s, p->scratch, &l->revision, p->err);
	if (r < 0)
		return r;
	printf("commit %s\n", l->revision);
	return set_path(l, p->scratch, p->err);
}

static int locate(const struct place *p, const struct davit_source *s, struct davit_located *l)
{
	switch (s->kind) {
	case DAVIT_SOURCE_PATH:
		return locate_path(p, s->location, l);
	case DAVIT_SOURCE_GIT:
		return locate_git(p, s, l);
	default:
		return davit_error_set(p->err, DAVIT_ENOTSUP, "source",
				       "image sources need a runtime that carries images: '%.128s'",
				       s->location);
	}
}

/* --- bare names --- */

/* The text that a name means below the default source: DIRECTORY/NAME,
 * DIRECTORY/NAME.git, or BASE/NAME[@REF]; NULL when a directory has neither. */
static int below_default(const struct place *p, const struct davit_source *s, char **ret)
{
	static const char *const suffixes[] = {"", ".git"};
	const char *base = p->request->default_source;
	int n = (int)strlen(base);

	while (n > 1 && base[n - 1] == '/')
		n--;
	*ret = NULL;
	if (*base != '/')
		return asprintf(ret, "%.*s/%s%s%s", n, base, s->location, s->ref ? "@" : "",
				s->ref ? s->ref : "") < 0
			       ? (*ret = NULL, no_memory(p->err))
			       : 0;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(suffixes); i++) {
		DAVIT_AUTO_FREE char *path = NULL;
		if (asprintf(&path, "%.*s/%s%s", n, base, s->location, suffixes[i]) < 0) {
			path = NULL;
			return no_memory(p->err);
		}
		if (access(path, F_OK) < 0)
			continue;
		if (!s->ref) {
			*ret = DAVIT_TAKE(path);
			return 0;
		}
		return asprintf(ret, "%s@%s", path, s->ref) < 0 ? (*ret = NULL, no_memory(p->err)) : 0;
	}
	return 0;
}

static int locate_example(const struct place *p, const struct davit_source *s, struct davit_located *l)
{
	DAVIT_AUTO_FREE char *path = NULL;

	if (s->ref)
		return DAVIT_ENOENT;
	if (asprintf(&path, "%s/examples/%s", p->request->share, s->location) < 0) {
		path = NULL;
		return no_memory(p->err);
	}
	return access(path, F_OK) < 0 ? DAVIT_ENOENT : locate_path(p, path, l);
}

/* What the name means below the default source; DAVIT_ENOENT when there is no
 * such thing there. */
static int locate_below(const struct place *p, const struct davit_source *s, struct davit_located *l)
{
	DAVIT_AUTO_FREE char *text = NULL;
	struct davit_source found;
	int r = below_default(p, s, &text);

	if (r < 0)
		return r;
	if (!text)
		return DAVIT_ENOENT;
	r = davit_source_parse(text, &found, p->err);
	if (r < 0)
		return r;
	if (found.kind == DAVIT_SOURCE_NAME)
		r = davit_error_set(p->err, DAVIT_ESOURCE, "source",
				    "the default source '%.128s' is no directory, git base or image prefix",
				    p->request->default_source);
	else
		r = locate(p, &found, l);
	davit_source_fini(&found);
	return r;
}

/* The default source first, then the examples: the user's own always wins. A
 * server that fails is an error and not a reason to look further; one that says
 * that it has no such repository is. */
static int locate_name(const struct place *p, const struct davit_source *s, struct davit_located *l)
{
	int r = p->request->default_source ? locate_below(p, s, l) : DAVIT_ENOENT;

	if (r != DAVIT_ENOENT)
		return r;
	davit_remove_tree(p->scratch, NULL);
	davit_located_fini(l);
	r = locate_example(p, s, l);
	return r == DAVIT_ENOENT ? davit_source_unknown(s->location, p->request->default_source, p->err) : r;
}

int davit_locate(const struct davit_build_request *request, const char *scratch, int64_t deadline,
		 struct davit_located *ret, struct davit_error *err)
{
	struct place p = {request, scratch, deadline, err};
	struct davit_located l = {0};
	struct davit_source s;
	int r = davit_source_parse(request->source, &s, err);

	if (r < 0)
		return r;
	r = s.kind == DAVIT_SOURCE_NAME ? locate_name(&p, &s, &l) : locate(&p, &s, &l);
	davit_source_fini(&s);
	if (r < 0) {
		davit_remove_tree(scratch, NULL);
		davit_located_fini(&l);
		return r;
	}
	*ret = l;
	return 0;
}
