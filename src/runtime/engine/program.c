/* SPDX-License-Identifier: MIT
 *
 * Whether a program is there. Beneath an init the engine starts the init, which
 * then fails to execute the program and ends as if that had run and ended. So it
 * is looked for before the first start; what was found in an image is remembered.
 */
#include "runtime/engine/impl.h"

#include "base/file.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

#define REMEMBERED 256
/* What an engine takes when nobody sets it. */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct search {
	const char *name;
	const char *rest; /* of PATH: the folders that were not tried; NULL: none */
	char *at;	  /* the path that is being tried */
	void (*then)(struct task *t);
};

char *program_search_path(const struct davit_workload *w, const json_t *image)
{
	const char *path = davit_strv_getenv(w->env, "PATH"), *s;
	const json_t *env = json_object_get(json_object_get(image, "Config"), "Env"), *e;
	size_t i;

	if (path)
		return strdup(path);
	json_array_foreach(env, i, e)
	{
		s = json_string_value(e);
		if (s && !strncmp(s, "PATH=", 5))
			return strdup(s + 5);
	}
	return strdup(DEFAULT_PATH);
}

static void search_fini(struct task *t)
{
	struct search *s = t->data;

	free(s->at);
	free(s);
	t->data = NULL;
	t->fini = NULL;
}

static void found(struct task *t)
{
	void (*then)(struct task * t) = ((struct search *)t->data)->then;

	search_fini(t);
	then(t);
}

/* --- what is known of images --- */

static char *key_of(struct task *t)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	davit_buf_addf(&b, "%s %s", engine_instance(t->inst)->image, ((struct search *)t->data)->at);
	return davit_buf_take(&b);
}

void programs_forget(struct engine *e)
{
	size_t pos = 0;
	void *key;

	while (davit_map_next(&e->programs, &pos, NULL, &key)) {
		davit_map_remove(&e->programs, key);
		free(key);
	}
	davit_map_fini(&e->programs);
}

static void remember(struct task *t)
{
	char *key = key_of(t);

	if (t->e->programs.len >= REMEMBERED)
		programs_forget(t->e);
	if (!key || davit_map_get(&t->e->programs, key) || davit_map_put(&t->e->programs, key, key) < 0)
		free(key);
}

static bool is_remembered(struct task *t)
{
	DAVIT_AUTO_FREE char *key = key_of(t);

	return key && davit_map_get(&t->e->programs, key);
}

/* --- looking --- */

/* The mount that covers the path, the innermost; or NULL. */
static const struct davit_mount *mount_of(const struct davit_workload *w, const char *path)
{
	const struct davit_mount *best = NULL;
	size_t n, longest = 0;

	for (size_t i = 0; i < w->n_mounts; i++) {
		n = strlen(w->mounts[i].target);
		if (n >= longest && !strncmp(path, w->mounts[i].target, n) &&
		    (path[n] == '/' || path[n] == '\0')) {
			best = &w->mounts[i];
			longest = n;
		}
	}
	return best;
}

static void try_next(struct task *t);

static void tried(struct task *t, struct http_call *c, const struct davit_error *err)
{
	if (err && err->code == DAVIT_ENOENT) {
		try_next(t);
		return;
	}
	if (!err)
		remember(t);
	found(t); /* or it cannot be known: the start will show */
}

static void try_mounted(struct task *t, const struct davit_mount *m)
{
	struct search *s = t->data;
	DAVIT_AUTO_BUF host = DAVIT_BUF_INIT;

	if (m->type == DAVIT_MOUNT_BIND)
		davit_buf_addf(&host, "%s%s", m->source, s->at + strlen(m->target));
	if (m->type == DAVIT_MOUNT_BIND && access(davit_buf_str(&host), X_OK) < 0)
		try_next(t);
	else
		found(t);
}

static void try_next(struct task *t)
{
	struct search *s = t->data;
	const struct davit_mount *m;
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT, query = DAVIT_BUF_INIT;

	if (!s->rest) {
		task_fail(t, DAVIT_EEXEC, "there is no program '%s' in the container", s->name);
		return;
	}
	if (strchr(s->name, '/')) {
		davit_buf_adds(&path, s->name);
		s->rest = NULL;
	} else {
		size_t n = strcspn(s->rest, ":");
		davit_buf_add(&path, s->rest, n);
		davit_buf_addf(&path, "/%s", s->name);
		s->rest = s->rest[n] ? s->rest + n + 1 : NULL;
	}
	free(s->at);
	s->at = davit_buf_take(&path);
	if (!s->at) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	m = mount_of(t->inst->workload, s->at);
	if (m) {
		try_mounted(t, m);
	} else if (is_remembered(t)) {
		found(t);
	} else {
		http_escape(&query, s->at);
		task_call(t,
			  http_new(&t->e->calls, "HEAD", "/containers/%s/archive?path=%s",
				   engine_instance(t->inst)->container, davit_buf_str(&query)),
			  tried);
	}
}

void program_find(struct task *t, const char *name, void (*then)(struct task *t))
{
	struct engine_instance *ei = engine_instance(t->inst);
	struct search *s;

	/* What begins in a directory that we do not know, or what an earlier davitd
	 * has made, shows by its exit code only. */
	if (strchr(name, '/') ? *name != '/' : !ei->search_path) {
		then(t);
		return;
	}
	s = calloc(1, sizeof *s);
	if (!s) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	s->name = name;
	s->rest = ei->search_path ? ei->search_path : "";
	s->then = then;
	t->data = s;
	t->fini = search_fini;
	try_next(t);
}

void program_check(struct task *t, void (*then)(struct task *t))
{
	const struct davit_workload *w = t->inst->workload;
	char *const *words = w->entrypoint && w->entrypoint[0] ? w->entrypoint : w->argv;

	/* Without an init the engine itself says that it is not there. */
	if (engine_instance(t->inst)->has_init && words && words[0])
		program_find(t, words[0], then);
	else
		then(t);
}
