/* SPDX-License-Identifier: MIT
 *
 * Layers of configs, and where each value came from.
 */
#include "workspace/config.h"

#include "base/buf.h"
#include "base/host.h"

#include <string.h>

void davit_workspace_merged_fini(struct davit_workspace_merged *m)
{
	json_decref(m->config);
	json_decref(m->from);
	*m = (struct davit_workspace_merged){0};
}

/* --- where a value is from --- */

/* "parent.child"; 0 or -1. */
static int note(struct davit_workspace_merged *m, const char *parent, const char *child, const char *layer)
{
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;

	davit_buf_addf(&path, "%s%s%s", parent, child ? "." : "", child ? child : "");
	return path.oom ? -1 : json_object_set_new(m->from, davit_buf_str(&path), json_string(layer));
}

/* What names an item of a list, as text: its key `id`, or itself. */
static void item_name(const json_t *item, const char *id, struct davit_buf *out)
{
	const json_t *v = id ? json_object_get(item, id) : item;

	if (json_is_integer(v))
		davit_buf_addf(out, "%lld", (long long)json_integer_value(v));
	else
		davit_buf_adds(out, json_string_value(v));
}

/* --- lists --- */

/* The item of the same name, or NULL; ret_at may be NULL. */
static json_t *find(json_t *list, const json_t *item, const char *id, size_t *ret_at)
{
	json_t *other;
	size_t i;

	json_array_foreach(list, i, other) if (json_equal(id ? json_object_get(item, id) : item,
							  id ? json_object_get(other, id) : other))
	{
		if (ret_at)
			*ret_at = i;
		return other;
	}
	return NULL;
}

/* A mount that is read-only stays so. */
static int merge_mount(struct davit_workspace_merged *m, const json_t *old, json_t *item, const char *path,
		       const char *layer)
{
	bool was_ro = old && json_is_true(json_object_get(old, "ro"));
	int r = note(m, path, "host", layer);

	if (was_ro)
		r |= json_object_set_new(item, "ro", json_true());
	else
		r |= note(m, path, "ro", layer);
	return r;
}

static int merge_list(struct davit_workspace_merged *m, const char *key, const char *id, const json_t *list,
		      const char *layer)
{
	json_t *to = json_object_get(m->config, key), *item;
	size_t i, at = 0;
	int r = 0;

	if (!to) {
		to = json_array();
		if (json_object_set_new(m->config, key, to) < 0)
			return -1;
	}
	json_array_foreach(list, i, item)
	{
		DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;
		json_t *copy = json_deep_copy(item), *old = find(to, item, id, &at);
		davit_buf_addf(&path, "%s.", key);
		item_name(item, id, &path);
		r |= path.oom || !copy ? -1 : 0;
		if (r == 0 && !strcmp(key, "mounts"))
			r = merge_mount(m, old, copy, davit_buf_str(&path), layer);
		else if (r == 0 && (id || !old)) /* a name that was there already is the earlier one's */
			r = note(m, davit_buf_str(&path), NULL, layer);
		if (r == 0)
			r = old ? json_array_set(to, at, copy) : json_array_append(to, copy);
		json_decref(copy);
		if (r < 0)
			return r;
	}
	return r;
}

/* --- the network's policy --- */

static bool denies(const json_t *network)
{
	const char *mode = json_string_value(json_object_get(network, "mode"));

	return mode && !strcmp(mode, "deny");
}

static bool covers(const json_t *a, const json_t *b)
{
	struct davit_host x, y;

	return davit_host_parse(json_string_value(a), &x, NULL) == 0 &&
	       davit_host_parse(json_string_value(b), &y, NULL) == 0 && davit_host_covers(&x, &y);
}

/* The hosts that both layers let through: of two that overlap, the one within the other. */
static json_t *common(const json_t *a, const json_t *b)
{
	json_t *both = json_array(), *x, *y, *within;
	size_t i, k;

	json_array_foreach((json_t *)a, i, x) json_array_foreach((json_t *)b, k, y)
	{
		within = covers(x, y) ? y : covers(y, x) ? x : NULL;
		if (both && within && !find(both, within, NULL, NULL) &&
		    json_array_append(both, within) < 0) {
			json_decref(both);
			return NULL;
		}
	}
	return both;
}

static int merge_network(struct davit_workspace_merged *m, json_t *network, const char *layer)
{
	json_t *old = json_object_get(m->config, "network"), *hosts, *both;

	if (!old || (!denies(old) && denies(network))) {
		if (json_object_set_new(m->config, "network", json_deep_copy(network)) < 0)
			return -1;
		return note(m, "network", "mode", layer) |
		       (denies(network) ? note(m, "network", "hosts", layer) : 0);
	}
	if (!denies(network))
		return 0; /* nothing that is denied is allowed again */
	hosts = json_object_get(old, "hosts");
	both = common(hosts, json_object_get(network, "hosts"));
	if (both && !json_equal(both, hosts) && note(m, "network", "hosts", layer) < 0) {
		json_decref(both);
		return -1;
	}
	return both ? json_object_set_new(old, "hosts", both) : -1;
}

/* --- objects of any shape --- */

static int merge_any(struct davit_workspace_merged *m, json_t *to, const json_t *object, const char *path,
		     const char *layer)
{
	const char *key;
	json_t *value;
	int r = 0;

	json_object_foreach((json_t *)object, key, value)
	{
		DAVIT_AUTO_BUF inner = DAVIT_BUF_INIT;
		json_t *old = json_object_get(to, key);
		davit_buf_addf(&inner, "%s.%s", path, key);
		if (inner.oom)
			return -1;
		if (json_is_object(value) && !json_is_object(old)) {
			old = json_object();
			json_object_del(m->from, davit_buf_str(&inner)); /* its keys have their own */
			r = json_object_set_new(to, key, old);
		}
		if (r == 0 && json_is_object(value))
			r = merge_any(m, old, value, davit_buf_str(&inner), layer);
		else if (r == 0)
			r = json_object_set_new(to, key, json_deep_copy(value)) |
			    note(m, davit_buf_str(&inner), NULL, layer);
		if (r < 0)
			return r;
	}
	return 0;
}

static int merge_agent(struct davit_workspace_merged *m, const json_t *agent, const char *layer)
{
	json_t *to = json_object_get(m->config, "agent");

	if (!to) {
		to = json_object();
		if (json_object_set_new(m->config, "agent", to) < 0)
			return -1;
	}
	return merge_any(m, to, agent, "agent", layer);
}

/* --- the whole --- */

/* The lists, and what names an item of each. */
static const struct {
	const char *key, *id;
} lists[] = {
	{"environment", "name"}, {"mounts", "target"}, {"ports", "container"},
	{"secrets", NULL},	 {"features", NULL},
};

static const char *const plain[] = {"image", "command", "shell"};

int davit_workspace_merge(struct davit_workspace_merged *m, const json_t *config, const char *layer,
			  struct davit_error *err)
{
	json_t *v;
	int r = 0;

	if (!m->config)
		m->config = json_object();
	if (!m->from)
		m->from = json_object();
	if (!m->config || !m->from)
		r = -1;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(plain) && r == 0; i++)
		if ((v = json_object_get(config, plain[i])))
			r = json_object_set_new(m->config, plain[i], json_deep_copy(v)) |
			    note(m, plain[i], NULL, layer);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(lists) && r == 0; i++)
		if ((v = json_object_get(config, lists[i].key)))
			r = merge_list(m, lists[i].key, lists[i].id, v, layer);
	if (r == 0 && (v = json_object_get(config, "network")))
		r = merge_network(m, v, layer);
	if (r == 0 && (v = json_object_get(config, "agent")))
		r = merge_agent(m, v, layer);
	return r < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

/* --- telling --- */

struct telling {
	const struct davit_workspace_merged *m;
	void (*fn)(void *user, const char *path, const json_t *value, const char *layer);
	void *user;
	bool oom;
};

static void tell(struct telling *t, const char *path, const json_t *v)
{
	const char *layer = json_string_value(json_object_get(t->m->from, path)), *key;
	const char *id = NULL;
	json_t *inner;
	size_t i;

	if (layer) {
		t->fn(t->user, path, v, layer);
		return;
	}
	for (i = 0; i < DAVIT_ARRAY_SIZE(lists); i++)
		if (!strcmp(path, lists[i].key))
			id = lists[i].id;
	json_array_foreach((json_t *)v, i, inner)
	{
		DAVIT_AUTO_BUF at = DAVIT_BUF_INIT;
		davit_buf_addf(&at, "%s.", path);
		item_name(inner, id, &at);
		t->oom |= at.oom;
		tell(t, davit_buf_str(&at), inner);
	}
	json_object_foreach((json_t *)v, key, inner)
	{
		DAVIT_AUTO_BUF at = DAVIT_BUF_INIT;
		davit_buf_addf(&at, "%s%s%s", path, path[0] ? "." : "", key);
		t->oom |= at.oom;
		tell(t, davit_buf_str(&at), inner);
	}
}

int davit_workspace_merged_each(const struct davit_workspace_merged *m,
				void (*fn)(void *user, const char *path, const json_t *value,
					   const char *layer),
				void *user, struct davit_error *err)
{
	struct telling t = {.m = m, .fn = fn, .user = user};

	tell(&t, "", m->config);
	return t.oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}
