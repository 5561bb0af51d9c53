/* SPDX-License-Identifier: MIT
 *
 * Containers as JSON.
 */
#include "host/host.h"

#include "base/file.h"
#include "base/units.h"

#include <inttypes.h>
#include <string.h>

static json_t *describe(const struct davit_container_info *i, const char *path)
{
	char failure[20];

	snprintf(failure, sizeof failure, "%016" PRIx64, i->failure);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:I, s:I, s:I, s:I, s:I, s:s}",
			 "alias", i->alias, "name", i->name, "type", host_type_name(i->type), "parent",
			 i->parent, "path", path, "state", davit_state_name(i->state), "failure",
			 i->failure ? failure : NULL, "code", i->failure ? davit_error_word(i->code) : NULL,
			 "reason", i->failure ? i->message : NULL, "restarts", (json_int_t)i->restarts,
			 "queued", (json_int_t)i->queued, "dropped", (json_int_t)i->dropped, "refused",
			 (json_int_t)i->refused, "blocked", (json_int_t)i->blocked, "strategy",
			 davit_strategy_name(i->strategy));
}

static json_t *view(struct host *h, const struct davit_container_info *info, const char *path, bool deep);

/* One that has gone meanwhile is left out. */
static int add_child(struct host *h, json_t *list, const char *alias, const char *above)
{
	struct davit_container_info info;
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;

	if (davit_container_get(h->c, alias, &info))
		return 0;
	davit_buf_addf(&path, "%s/%s", above, alias);
	return json_array_append_new(list, view(h, &info, davit_buf_str(&path), true));
}

static int add_children(struct host *h, json_t *node, const struct davit_container_info *info,
			const char *path)
{
	int there = davit_container_children(h->c, info->alias, NULL, 0);
	size_t room = (there > 0 ? (size_t)there : 0) + 8;
	char(*aliases)[64] = calloc(room, sizeof *aliases);
	json_t *list = json_array();
	int n = aliases ? davit_container_children(h->c, info->alias, aliases, room) : 0;
	int r = aliases ? json_object_set_new(node, "children", list) : -1;

	if (!aliases)
		json_decref(list);
	for (int i = 0; r == 0 && i < n && (size_t)i < room; i++)
		r = add_child(h, list, aliases[i], path);
	free(aliases);
	return r;
}

static json_t *view(struct host *h, const struct davit_container_info *info, const char *path, bool deep)
{
	json_t *node = describe(info, path);

	if (node && deep && add_children(h, node, info, path) < 0) {
		json_decref(node);
		node = NULL;
	}
	return node;
}

/* "Main/A/B", from B upwards. */
static char *path_of(struct host *h, const struct davit_container_info *info)
{
	struct davit_container_info above = *info;
	char *path = strdup(info->alias), *longer;

	while (path && above.parent[0] && !davit_container_get(h->c, above.parent, &above)) {
		longer = davit_path_join(above.alias, path);
		free(path);
		path = longer;
	}
	return path;
}

json_t *host_view(struct host *h, const char *address, bool deep, struct davit_error *err)
{
	struct davit_container_info info;
	DAVIT_AUTO_FREE char *path = NULL;
	json_t *v;

	if (davit_container_get(h->c, address, &info)) {
		davit_error_set(err, DAVIT_ENOENT, "alias", "there is no container '%.200s'", address);
		return NULL;
	}
	path = path_of(h, &info);
	v = path ? view(h, &info, path, deep) : NULL;
	if (!v)
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return v;
}

json_t *host_view_self(struct host *h)
{
	struct davit_system_stats s;
	char started[DAVIT_TIME_MAX];
	json_t *dead = json_object(), *v;

	davit_system_stats(h->system, &s);
	for (int i = 0; dead && i < DAVIT_DEAD_COUNT; i++)
		if (s.dead_by[i])
			json_object_set_new(dead, davit_dead_name((enum davit_dead)i),
					    json_integer((json_int_t)s.dead_by[i]));
	v = json_pack("{s:s, s:i, s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:o, s:i, s:i, s:b, s:s, s:s}",
		      "project", h->project, "pid", (int)getpid(), "started",
		      davit_time_format(h->started, started), "directory", h->directory, "workers",
		      (json_int_t)s.workers, "actors", (json_int_t)s.actors, "sent", (json_int_t)s.sent,
		      "handled", (json_int_t)s.handled, "dead", (json_int_t)s.dead, "deadBy", dead,
		      "restored", (int)h->restored, "missing", (int)h->missing, "unclean", (int)h->unclean,
		      "searchThread", h->search[DAVIT_THREAD], "searchProcess", h->search[DAVIT_PROCESS]);
	return v;
}
