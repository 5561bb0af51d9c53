/* SPDX-License-Identifier: MIT
 *
 * Reading workspace.json: from the tree of keys and values with their places, by a
 * table, to the one form that the rest works with.
 */
#include "workspace/config.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/host.h"
#include "base/nearest.h"
#include "base/tree.h"
#include "base/units.h"
#include "workspace/mount.h"

#include <stdio.h>
#include <string.h>

#define KEYS_MAX 16

struct reader {
	const char *file;
	struct davit_error *err;
};

/* A key of an object. `read` gives a new reference. */
struct key {
	const char *name;
	int (*read)(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret);
	bool required;
};

/* Fills the error with the place of t. */
static int bad(struct reader *r, const struct davit_tree *t, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static int bad(struct reader *r, const struct davit_tree *t, const char *path, const char *fmt, ...)
{
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return davit_tree_error(r->err, t->line, t->column, path, "%s%s%s", path, path[0] ? ": " : "", text);
}

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static void under(char buf[128], const char *path, const char *key)
{
	snprintf(buf, 128, "%s%s%s", path, path[0] ? "." : "", key);
}

/* ------------------------------------------------------------------ objects, lists */

static int unknown(struct reader *r, const struct davit_tree *t, const char *path, const struct key *keys,
		   size_t n)
{
	const char *names[KEYS_MAX], *near;

	for (size_t i = 0; i < n; i++)
		names[i] = keys[i].name;
	near = davit_nearest(t->key, names, n);
	return davit_tree_error(r->err, t->key_line, t->key_column, t->key, "%s%sunknown key '%.64s'%s%s%s",
				path, path[0] ? ": " : "", t->key, near ? "; did you mean '" : "",
				near ? near : "", near ? "'?" : "");
}

static int read_object(struct reader *r, const struct davit_tree *t, const char *path, const struct key *keys,
		       size_t n, json_t **ret)
{
	json_t *object = json_object(), *value;
	char inner[128];
	int e = object ? 0 : no_memory(r->err);

	if (t->kind != DAVIT_TREE_MAP)
		e = bad(r, t, path, "must be an object");
	for (const struct davit_tree *c = t->first; c && e == 0; c = c->next) {
		size_t k = 0;
		while (k < n && strcmp(keys[k].name, c->key) != 0)
			k++;
		under(inner, path, c->key);
		if (k == n)
			e = unknown(r, c, path, keys, n);
		else if ((e = keys[k].read(r, c, inner, &value)) == 0 &&
			 json_object_set_new(object, c->key, value) < 0)
			e = no_memory(r->err);
	}
	for (size_t k = 0; k < n && e == 0; k++)
		if (keys[k].required && !json_object_get(object, keys[k].name))
			e = bad(r, t, path, "the key '%s' is missing", keys[k].name);
	if (e == 0)
		*ret = json_incref(object);
	json_decref(object);
	return e;
}

/* A list in which no two items have the same `id` (NULL: the item itself, a text). */
static int read_list(struct reader *r, const struct davit_tree *t, const char *path,
		     int (*read)(struct reader *, const struct davit_tree *, const char *, json_t **),
		     const char *id, json_t **ret)
{
	json_t *list = json_array(), *item, *other;
	char inner[128];
	size_t n = 0, k;
	int e = list ? 0 : no_memory(r->err);

	if (t->kind != DAVIT_TREE_LIST)
		e = bad(r, t, path, "must be a list");
	for (const struct davit_tree *c = t->first; c && e == 0; c = c->next, n++) {
		snprintf(inner, sizeof inner, "%.100s[%zu]", path, n);
		e = read(r, c, inner, &item);
		if (e < 0)
			break;
		json_array_foreach(list, k,
				   other) if (e == 0 && json_equal(id ? json_object_get(item, id) : item,
								   id ? json_object_get(other, id) : other))
			e = bad(r, c, inner, "the same as %.80s[%zu]", path, k);
		if (json_array_append_new(list, item) < 0)
			e = no_memory(r->err);
	}
	if (e == 0)
		*ret = json_incref(list);
	json_decref(list);
	return e;
}

/* ------------------------------------------------------------------------ scalars */

static const char *text_of(struct reader *r, const struct davit_tree *t, const char *path)
{
	if (t->kind == DAVIT_TREE_SCALAR && t->quoted)
		return t->text;
	bad(r, t, path, "must be a text in double quotes");
	return NULL;
}

/* A text of one line that says something. */
static const char *line_of(struct reader *r, const struct davit_tree *t, const char *path)
{
	const char *s = text_of(r, t, path);

	if (s && !*s)
		bad(r, t, path, "must not be empty");
	for (const char *p = s; p && *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f) {
			bad(r, t, path, "'%.64s' has a control character in it", s);
			return NULL;
		}
	return s && *s ? s : NULL;
}

static int give(struct reader *r, const char *s, json_t **ret)
{
	json_t *v;

	if (!s)
		return r->err->code;
	v = json_string(s);
	if (!v)
		return no_memory(r->err);
	*ret = v;
	return 0;
}

static int read_text(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return give(r, text_of(r, t, path), ret);
}

static int read_line(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return give(r, line_of(r, t, path), ret);
}

static int read_bool(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	bool yes = t->kind == DAVIT_TREE_SCALAR && !t->quoted && !strcmp(t->text, "true");

	if (!yes && (t->kind != DAVIT_TREE_SCALAR || t->quoted || strcmp(t->text, "false") != 0))
		return bad(r, t, path, "must be true or false");
	*ret = json_boolean(yes);
	return 0;
}

/* Letters, digits, '.', '_' and '-', beginning with a letter or digit (or '_', for a
 * variable). */
static int read_word(struct reader *r, const struct davit_tree *t, const char *path, bool variable,
		     json_t **ret)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char rest[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	const char *s = line_of(r, t, path);
	bool ok;

	if (!s)
		return r->err->code;
	ok = strchr(letters, *s) || (variable ? *s == '_' : *s >= '0' && *s <= '9');
	if (!ok || s[strspn(s, rest)] || strlen(s) > 63)
		return bad(r, t, path, "'%.64s' is not a name%s", s, variable ? " of a variable" : "");
	return give(r, s, ret);
}

static int read_name(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return read_word(r, t, path, false, ret);
}

static int read_variable(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	if (t->kind == DAVIT_TREE_SCALAR && (!strcmp(t->text, "SOURCES") || !strncmp(t->text, "DAVIT_", 6)))
		return bad(r, t, path, "'%s' is davit's to set", t->text);
	return read_word(r, t, path, true, ret);
}

static int read_number(struct reader *r, const struct davit_tree *t, const char *path, int64_t least,
		       json_t **ret)
{
	int64_t n;

	if (t->kind != DAVIT_TREE_SCALAR || t->quoted || davit_int_parse(t->text, least, 65535, &n, NULL) < 0)
		return bad(r, t, path, "must be a port, a number from %d to 65535", (int)least);
	*ret = json_integer(n);
	return *ret ? 0 : no_memory(r->err);
}

static int read_port_number(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return read_number(r, t, path, 1, ret);
}

/* 0: a free one is chosen. */
static int read_host_port(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return read_number(r, t, path, 0, ret);
}

/* ---------------------------------------------------------------------- the parts */

static int read_command(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	json_t *words, *word = NULL;
	char inner[128];
	int e = 0;
	size_t n = 0;

	if (t->kind != DAVIT_TREE_LIST || !t->first)
		return bad(r, t, path, "must be a list of texts: the program, then its arguments");
	words = json_array();
	if (!words)
		return no_memory(r->err);
	for (const struct davit_tree *c = t->first; c && e == 0; c = c->next, n++) {
		snprintf(inner, sizeof inner, "%.100s[%zu]", path, n);
		e = n ? read_text(r, c, inner, &word) : read_line(r, c, inner, &word);
		if (e == 0 && json_array_append_new(words, word) < 0)
			e = no_memory(r->err);
	}
	if (e < 0)
		json_decref(words);
	else
		*ret = words;
	return e;
}

static int read_variable_item(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	static const struct key keys[] = {
		{"name", read_variable, true}, {"value", read_text}, {"secret", read_name}};
	json_t *v;
	int e = read_object(r, t, path, keys, DAVIT_ARRAY_SIZE(keys), &v);

	if (e < 0)
		return e;
	if (!json_object_get(v, "value") == !json_object_get(v, "secret")) {
		json_decref(v);
		return bad(r, t, path, "needs one of 'value' and 'secret'");
	}
	*ret = v;
	return 0;
}

static int read_environment(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return read_list(r, t, path, read_variable_item, "name", ret);
}

static int read_path(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	const char *s = line_of(r, t, path);
	struct davit_error why;

	if (!s)
		return r->err->code;
	if (davit_workspace_path_check(s, &why) < 0)
		return bad(r, t, path, "%s", why.message);
	return give(r, s, ret);
}

static int read_mount(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	static const struct key keys[] = {
		{"host", read_path, true}, {"target", read_path, true}, {"ro", read_bool}};
	json_t *v;
	int e = read_object(r, t, path, keys, DAVIT_ARRAY_SIZE(keys), &v);

	if (e < 0)
		return e;
	if (!json_object_get(v, "ro") && json_object_set_new(v, "ro", json_false()) < 0) {
		json_decref(v);
		return no_memory(r->err);
	}
	*ret = v;
	return 0;
}

static int read_mounts(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return read_list(r, t, path, read_mount, "target", ret);
}

/* {"container": 80, "host": 8080}, or 80 alone. */
static int read_port(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	static const struct key keys[] = {{"container", read_port_number, true}, {"host", read_host_port}};
	json_t *v = NULL, *port = NULL;
	int e;

	if (t->kind == DAVIT_TREE_MAP) {
		e = read_object(r, t, path, keys, DAVIT_ARRAY_SIZE(keys), &v);
	} else if ((e = read_port_number(r, t, path, &port)) == 0) {
		v = json_pack("{s:o}", "container", port);
		e = v ? 0 : no_memory(r->err);
	}
	if (e < 0)
		return e;
	if (!json_object_get(v, "host") && json_object_set_new(v, "host", json_integer(0)) < 0) {
		json_decref(v);
		return no_memory(r->err);
	}
	*ret = v;
	return 0;
}

static int read_ports(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return read_list(r, t, path, read_port, "container", ret);
}

static int read_names(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return read_list(r, t, path, read_name, NULL, ret);
}

static int read_mode(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	const char *s = text_of(r, t, path);

	if (s && strcmp(s, "allow") != 0 && strcmp(s, "deny") != 0)
		return bad(r, t, path, "'%.64s' is neither allow nor deny", s);
	return give(r, s, ret);
}

static int read_host(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	const char *s = line_of(r, t, path);
	char form[DAVIT_HOST_MAX];
	struct davit_error why;
	struct davit_host h;

	if (!s)
		return r->err->code;
	if (davit_host_parse(s, &h, &why) < 0)
		return bad(r, t, path, "%s", why.message);
	return give(r, davit_host_format(&h, form), ret);
}

static int read_hosts(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return read_list(r, t, path, read_host, NULL, ret);
}

static int read_network(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	static const struct key keys[] = {{"mode", read_mode, true}, {"hosts", read_hosts}};
	json_t *v, *hosts;
	bool deny;
	int e = read_object(r, t, path, keys, DAVIT_ARRAY_SIZE(keys), &v);

	if (e < 0)
		return e;
	hosts = json_object_get(v, "hosts");
	deny = !strcmp(json_string_value(json_object_get(v, "mode")), "deny");
	if (hosts && !deny)
		e = bad(r, t, path, "'hosts' are the exceptions of mode deny");
	else if (!hosts && deny && json_object_set_new(v, "hosts", json_array()) < 0)
		e = no_memory(r->err);
	if (e < 0)
		json_decref(v);
	else
		*ret = v;
	return e;
}

/* Whatever it is, as JSON. */
static int read_any(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	json_t *v = NULL, *inner;
	int e = 0;

	if (t->kind == DAVIT_TREE_SCALAR) {
		v = t->quoted ? json_string(t->text) : json_loads(t->text, JSON_DECODE_ANY, NULL);
		if (!v && !t->quoted)
			return bad(r, t, path, "'%.64s' is out of range", t->text);
	} else {
		v = t->kind == DAVIT_TREE_MAP ? json_object() : json_array();
	}
	for (const struct davit_tree *c = t->first; c && v && e == 0; c = c->next) {
		e = read_any(r, c, path, &inner);
		if (e == 0 && (t->kind == DAVIT_TREE_MAP ? json_object_set_new(v, c->key, inner)
							 : json_array_append_new(v, inner)) < 0)
			e = no_memory(r->err);
	}
	if (!v)
		return no_memory(r->err);
	if (e < 0)
		json_decref(v);
	else
		*ret = v;
	return e;
}

static int read_agent(struct reader *r, const struct davit_tree *t, const char *path, json_t **ret)
{
	return t->kind == DAVIT_TREE_MAP ? read_any(r, t, path, ret) : bad(r, t, path, "must be an object");
}

static const struct key top[] = {
	{"image", read_line},	   {"command", read_command},
	{"shell", read_command},   {"environment", read_environment},
	{"mounts", read_mounts},   {"ports", read_ports},
	{"network", read_network}, {"secrets", read_names},
	{"features", read_names},  {"agent", read_agent},
};

/* ---------------------------------------------------------------------- the whole */

/* JSON alone: the readers of specs would take YAML as well. */
static int read_document(struct reader *r, const char *text, size_t len, struct davit_region *region,
			 json_t **ret)
{
	struct davit_tree_source s;
	struct davit_tree *doc = NULL;
	int e = davit_tree_open(&s, text, len, r->err);

	if (e < 0)
		return e;
	if (!s.is_json || s.json.p == s.json.end || s.json.p[strspn(s.json.p, " \t\r\n")] != '{')
		e = davit_tree_error(r->err, 1, 1, NULL, "not a JSON object: it must begin with '{'");
	else
		e = davit_tree_next(&s, region, &doc, r->err);
	davit_tree_close(&s);
	return e < 0 ? e : read_object(r, doc, "", top, DAVIT_ARRAY_SIZE(top), ret);
}

int davit_workspace_config_parse(const char *text, size_t len, const char *file, json_t **ret,
				 struct davit_error *err)
{
	struct davit_error here;
	struct reader r = {.file = file, .err = &here};
	struct davit_region region = {0};
	int e;

	davit_error_clear(&here);
	e = read_document(&r, text, len, &region, ret);
	davit_region_fini(&region);
	if (e < 0 && file && here.line)
		davit_error_prefix(&here, "%s:%u:%u", file, here.line, here.column);
	return e < 0 ? davit_error_copy(err, &here) : 0;
}

int davit_workspace_config_load(const char *path, json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	int r = davit_read_file(path, DAVIT_WORKSPACE_CONFIG_MAX, &text, err);

	return r < 0 ? r : davit_workspace_config_parse(davit_buf_str(&text), text.len, path, ret, err);
}
