/* SPDX-License-Identifier: MIT
 *
 * What can be told of a source before anything is fetched.
 */
#include "source/source.h"

#include "base/util.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int davit_source_unknown(const char *name, const char *base, struct davit_error *err)
{
	return davit_error_set(
		err, DAVIT_ESOURCE, "source",
		"there is no '%.128s'%s%.128s: give a path or a git URL, or set DAVIT_RUNTIME_SOURCE", name,
		base ? " below " : " among the examples", base ? base : "");
}

/* Out of memory counts as there: the build says so. */
static bool exists(const char *directory, const char *between, const char *name, const char *suffix)
{
	DAVIT_AUTO_FREE char *path = NULL;

	if (asprintf(&path, "%s%s%s%s", directory, between, name, suffix) < 0) {
		path = NULL;
		return true;
	}
	return access(path, F_OK) == 0;
}

/* As locate.c looks for it. */
static bool is_known(const struct davit_source *s, const char *base, const char *share)
{
	if (base && *base != '/')
		return true; /* on a server */
	return (base && (exists(base, "/", s->location, "") || exists(base, "/", s->location, ".git"))) ||
	       (!s->ref && exists(share, "/examples/", s->location, ""));
}

int davit_source_check(const char *text, const char *base, const char *share, struct davit_error *err)
{
	struct davit_source s;
	int r = davit_source_parse(text, &s, err);

	if (r < 0)
		return r;
	if (s.kind == DAVIT_SOURCE_NAME && !is_known(&s, base, share))
		r = davit_source_unknown(s.location, base, err);
	davit_source_fini(&s);
	return r;
}
