/* SPDX-License-Identifier: MIT
 *
 * The record of a project: a file of JSON lines, one for each thing that the user did.
 * It is appended to, and written anew without what is over when it is opened.
 *
 *	{"create": {"alias", "parent", "type", "name", "args", "file", "state"}}
 *	{"alias": "T1", "state": "stopped"}
 *	{"destroy": "T1"}
 *	{"end": true}		the host that wrote it ended in order
 */
#include "host/host.h"

#include "base/file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { RECORD_MAX = 256 * 1024 * 1024 };

static void entry_free(struct host_entry *e)
{
	if (!e)
		return;
	free(e->alias);
	free(e->parent);
	free(e->name);
	free(e->args);
	free(e->file);
	free(e);
}

static void drop(struct host *h, struct host_entry *e)
{
	davit_map_remove(&h->by_alias, e->alias);
	davit_list_remove(&e->list);
	entry_free(e);
}

struct host_entry *host_record_find(struct host *h, const char *alias)
{
	return davit_map_get(&h->by_alias, alias);
}

/* Takes the place of an older one of that alias, but stands behind all. */
static int insert(struct host *h, const struct host_entry *from, struct davit_error *err)
{
	struct host_entry *e = calloc(1, sizeof *e), *old = host_record_find(h, from->alias);

	if (!e || !(e->alias = strdup(from->alias)) || !(e->parent = strdup(from->parent)) ||
	    !(e->name = strdup(from->name)) || !(e->args = strdup(from->args)) ||
	    !(e->file = strdup(from->file))) {
		entry_free(e);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	e->type = from->type;
	e->wanted = from->wanted;
	e->ref = from->ref;
	if (old)
		drop(h, old);
	if (davit_map_put(&h->by_alias, e->alias, e) < 0) {
		entry_free(e);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	davit_list_add_tail(&h->entries, &e->list);
	return 0;
}

/* --- writing --- */

static json_t *line_of(const struct host_entry *e)
{
	return json_pack("{s:{s:s, s:s, s:s, s:s, s:s, s:s, s:s}}", "create", "alias", e->alias, "parent",
			 e->parent, "type", host_type_name(e->type), "name", e->name, "args", e->args, "file",
			 e->file, "state", davit_state_name(e->wanted));
}

/* Takes line. */
static int append(struct host *h, json_t *line, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;

	json_decref(line);
	if (!text)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "what is to be recorded is not UTF-8 text");
	if (fprintf(h->record, "%s\n", text) < 0 || fflush(h->record) || fdatasync(fileno(h->record)) < 0)
		return davit_error_errno(err, errno, "record", "cannot write %s", h->record_path);
	return 0;
}

int host_record_add(struct host *h, const struct host_entry *e, struct davit_error *err)
{
	int r = insert(h, e, err);

	return r < 0 ? r : append(h, line_of(e), err);
}

int host_record_want(struct host *h, const char *alias, enum davit_state wanted, struct davit_error *err)
{
	struct host_entry *e = host_record_find(h, alias);

	if (!e || e->wanted == wanted)
		return 0;
	e->wanted = wanted;
	return append(h, json_pack("{s:s, s:s}", "alias", alias, "state", davit_state_name(wanted)), err);
}

int host_record_remove(struct host *h, const char *alias, struct davit_error *err)
{
	struct host_entry *e = host_record_find(h, alias);
	json_t *line = e ? json_pack("{s:s}", "destroy", alias) : NULL;

	if (!e)
		return 0;
	drop(h, e);
	return append(h, line, err);
}

/* --- reading --- */

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* Only what can be wanted. */
static int state_of(const json_t *o, enum davit_state *ret)
{
	int s = davit_state_from_name(text(o, "state"));

	if (s != DAVIT_STATE_CREATED && s != DAVIT_STATE_STARTED && s != DAVIT_STATE_STOPPED)
		return DAVIT_ECORRUPT;
	*ret = (enum davit_state)s;
	return 0;
}

static int take_create(struct host *h, const json_t *o, struct davit_error *err)
{
	struct host_entry e = {
		.alias = (char *)(uintptr_t)text(o, "alias"),
		.parent = (char *)(uintptr_t)text(o, "parent"),
		.name = (char *)(uintptr_t)text(o, "name"),
		.args = (char *)(uintptr_t)text(o, "args"),
		.file = (char *)(uintptr_t)text(o, "file"),
	};

	if (!e.alias[0] || !e.name[0] || !e.file[0] || host_type_parse(text(o, "type"), &e.type, NULL) < 0 ||
	    state_of(o, &e.wanted) < 0)
		return davit_error_set(err, DAVIT_ECORRUPT, NULL, "no creation");
	return insert(h, &e, err);
}

static int take_line(struct host *h, const char *line, struct davit_error *err)
{
	json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	struct host_entry *e;
	int r = 0;

	h->unclean = !json_is_true(json_object_get(o, "end"));
	if (json_object_get(o, "create")) {
		r = take_create(h, json_object_get(o, "create"), err);
	} else if (json_object_get(o, "destroy")) {
		if ((e = host_record_find(h, text(o, "destroy"))))
			drop(h, e);
	} else if (json_object_get(o, "alias")) {
		if ((e = host_record_find(h, text(o, "alias"))))
			r = state_of(o, &e->wanted);
	} else if (h->unclean) {
		r = DAVIT_ECORRUPT;
	}
	json_decref(o);
	return r == DAVIT_ENOMEM ? r
	       : r < 0		 ? davit_error_set(err, DAVIT_ECORRUPT, NULL, "it cannot be understood")
				 : 0;
}

/* A last line without its end was not answered for: the host was killed as it wrote. */
static int take_all(struct host *h, char *text, struct davit_error *err)
{
	unsigned number = 0;
	char *end;

	for (; (end = strchr(text, '\n')); text = end + 1) {
		int r;
		*end = '\0';
		number++;
		r = take_line(h, text, err);
		if (r < 0) {
			davit_error_prefix(err, "%s:%u", h->record_path, number);
			return r;
		}
	}
	return 0;
}

/* --- opening and closing --- */

static int write_anew(struct host *h, struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct host_entry *e;

	DAVIT_LIST_FOREACH (e, &h->entries, list) {
		json_t *line = line_of(e);
		DAVIT_AUTO_FREE char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
		json_decref(line);
		if (!text)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		davit_buf_adds(&out, text);
		davit_buf_addc(&out, '\n');
	}
	if (out.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_write_file(h->record_path, davit_buf_str(&out), out.len, 0600, err);
}

int host_record_open(struct host *h, struct davit_error *err)
{
	DAVIT_AUTO_BUF in = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *text = NULL;
	int r = davit_read_file(h->record_path, RECORD_MAX, &in, err);

	if (r == DAVIT_ENOENT)
		r = 0;
	if (r == 0 && in.len && !(text = davit_buf_take(&in)))
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0 && text)
		r = take_all(h, text, err);
	if (r == 0)
		r = write_anew(h, err);
	if (r < 0)
		return r;
	h->record = fopen(h->record_path, "ae");
	return h->record ? 0 : davit_error_errno(err, errno, "record", "cannot open %s", h->record_path);
}

void host_record_close(struct host *h, bool clean)
{
	struct host_entry *e, *next;
	struct davit_error err;

	if (h->record) {
		if (clean && append(h, json_pack("{s:b}", "end", 1), &err) < 0)
			printf("%s\n", err.message);
		fclose(h->record);
	}
	h->record = NULL;
	DAVIT_LIST_FOREACH_SAFE (e, next, &h->entries, list)
		drop(h, e);
	davit_map_fini(&h->by_alias);
}
