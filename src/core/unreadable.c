/* SPDX-License-Identifier: MIT
 *
 * Records of the store that cannot be read. They are left as they are, and kept in mind with their revision,
 * so that a command can replace or remove them.
 */
#include "core/core_impl.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

struct unreadable {
	int64_t revision;
	char key[];
};

void unreadable_note(struct davit_core *c, const char *key, int64_t revision)
{
	struct unreadable *u = davit_map_get(&c->unreadable, key);

	if (!u) {
		u = malloc(sizeof *u + strlen(key) + 1);
		if (u)
			strcpy(u->key, key);
		if (!u || davit_map_put(&c->unreadable, u->key, u) < 0) {
			davit_log(DAVIT_LOG_ERROR, "out of memory: the record %s cannot be replaced", key);
			free(u);
			return;
		}
	}
	u->revision = revision;
}

void unreadable_forget(struct davit_core *c, const char *key)
{
	free(davit_map_remove(&c->unreadable, key));
}

int64_t unreadable_revision(const struct davit_core *c, const char *key, int64_t known)
{
	const struct unreadable *u = davit_map_get(&c->unreadable, key);

	return u ? u->revision : known;
}

const char *unreadable_service(const struct davit_core *c, const struct davit_selector *sel,
			       int64_t *ret_revision)
{
	const char *ns = sel->namespace_ && sel->namespace_[0] ? sel->namespace_ : "default", *key,
		   *found = NULL;
	bool any = !sel->version || !sel->version[0];
	DAVIT_AUTO_FREE char *start = NULL;
	size_t pos = 0, n;
	void *v;

	if (!c->unreadable.len || !sel->name ||
	    asprintf(&start, "services/%s/%s/%s", ns, sel->name, any ? "" : sel->version) < 0)
		return NULL;
	n = strlen(start);
	while (davit_map_next(&c->unreadable, &pos, &key, &v)) {
		if (strncmp(key, start, n) != 0 || (!any && key[n]))
			continue;
		if (found)
			return NULL; /* which is meant is not said */
		found = key;
		*ret_revision = ((struct unreadable *)v)->revision;
	}
	return found;
}

void unreadable_free_all(struct davit_core *c)
{
	size_t pos = 0;
	void *v;

	while (davit_map_next(&c->unreadable, &pos, NULL, &v))
		free(v);
	davit_map_fini(&c->unreadable);
}
