/* SPDX-License-Identifier: MIT
 *
 * Before a step: everything that can be wrong with it is found here, before anything is started.
 */
#include "step/execution.h"

#include "base/file.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>

/* One mount to come. */
struct place {
	char *target; /* absolute, without "." and repeated slashes */
	const struct davit_artifact *input, *output, *cache;
	char *source; /* of the input: its tree */
	char *own;    /* of an output or cache: the directory that the step writes */
};

struct preparing {
	struct davit_execution *x;
	const struct davit_run_spec *spec;
	const struct davit_artifact *artifacts;
	size_t n;
	struct place *places;
	size_t n_places;
	struct davit_error *err;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* --------------------------------------------------------------------------- the order */

static void record(struct davit_execution *x, enum step_tag tag, const void *data, size_t n)
{
	static const char zeros[8];
	struct step_record r = {.tag = tag, .length = (uint32_t)n + 1};

	davit_buf_add(&x->order, &r, sizeof r);
	davit_buf_add(&x->order, data, n);
	davit_buf_add(&x->order, zeros, STEP_RECORD_PAD(n + 1) - n);
}

static void record_text(struct davit_execution *x, enum step_tag tag, const char *s)
{
	record(x, tag, s, strlen(s));
}

void step_record(struct davit_execution *x, enum step_tag tag, const char *text)
{
	record_text(x, tag, text);
}

static void record_mount(struct davit_execution *x, char kind, const char *source, const char *copy,
			 const char *target)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	davit_buf_addc(&b, kind);
	davit_buf_add(&b, source, strlen(source) + 1);
	if (copy)
		davit_buf_add(&b, copy, strlen(copy) + 1);
	davit_buf_adds(&b, target);
	x->order.oom |= b.oom;
	record(x, STEP_MOUNT, davit_buf_str(&b), b.len);
}

/* -------------------------------------------------------------------------------- paths */

/* BASE/path or path, cleaned; a heap string. */
static int absolute(const char *path, const char *what, char **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	if (path[0] != '/')
		davit_buf_adds(&b, DAVIT_STEP_BASE);
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && !strncmp(path, "..", 2))
			return davit_error_set(err, DAVIT_EINVAL, what, "a path may not have '..' in it");
		if (n && !(n == 1 && *path == '.')) {
			davit_buf_addc(&b, '/');
			davit_buf_add(&b, path, n);
		}
		path += n;
		path += *path == '/';
	}
	*ret = davit_buf_take(&b);
	return *ret ? 0 : no_memory(err);
}

static struct place *place_at(struct preparing *p, const char *target)
{
	for (size_t i = 0; i < p->n_places; i++)
		if (!strcmp(p->places[i].target, target))
			return &p->places[i];
	return NULL;
}

static int check_name(const struct davit_artifact *a, struct davit_error *err)
{
	if (a->type == DAVIT_ARTIFACT_IMAGE)
		return davit_error_set(err, DAVIT_EINVAL, a->name,
				       "an image can be the root of a step, and nothing else");
	if (a->use != DAVIT_USE_CACHE && (!a->name || !*a->name || strchr(a->name, '/')))
		return davit_error_set(err, DAVIT_EINVAL, "artifacts",
				       "'%.64s' is not the name of an artifact", a->name ? a->name : "");
	if (a->use == DAVIT_USE_CACHE && (!a->path || !*a->path || !a->location || !*a->location))
		return davit_error_set(err, DAVIT_EINVAL, "artifacts", "a cache needs a path and a location");
	if (a->use == DAVIT_USE_INPUT && a->type == DAVIT_ARTIFACT_EMPTY)
		return davit_error_set(err, DAVIT_EINVAL, a->name, "the input '%.64s' has no content",
				       a->name);
	return 0;
}

static int add_place(struct preparing *p, const struct davit_artifact *a)
{
	const char *path = a->path && *a->path ? a->path : a->name;
	DAVIT_AUTO_FREE char *target = NULL;
	struct place *at;
	int r = check_name(a, p->err);

	if (r == 0)
		r = absolute(path, a->name ? a->name : "cache", &target, p->err);
	if (r < 0)
		return r;
	if (!target[0] || !strcmp(target, "/"))
		return davit_error_set(p->err, DAVIT_EINVAL, a->name,
				       "an artifact cannot be the root itself");
	at = place_at(p, target);
	if (!at) {
		at = &p->places[p->n_places++];
		at->target = DAVIT_TAKE(target);
	}
	if ((a->use == DAVIT_USE_INPUT && at->input) || (a->use == DAVIT_USE_OUTPUT && at->output) ||
	    (at->cache || (a->use == DAVIT_USE_CACHE && (at->input || at->output))))
		return davit_error_set(
			p->err, DAVIT_EINVAL, a->name ? a->name : "cache",
			"two artifacts cannot be at %s: only an output and an input share a path",
			at->target);
	if (a->use == DAVIT_USE_INPUT)
		at->input = a;
	else if (a->use == DAVIT_USE_OUTPUT)
		at->output = a;
	else
		at->cache = a;
	return 0;
}

static int by_target(const void *a, const void *b)
{
	return strcmp(((const struct place *)a)->target, ((const struct place *)b)->target);
}

static int check_unique(struct preparing *p)
{
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = 0; k < i; k++)
			if (p->artifacts[i].use != DAVIT_USE_CACHE &&
			    p->artifacts[i].use == p->artifacts[k].use &&
			    !strcmp(p->artifacts[i].name, p->artifacts[k].name))
				return davit_error_set(p->err, DAVIT_EINVAL, p->artifacts[i].name,
						       "two %s are named '%.64s'",
						       p->artifacts[i].use == DAVIT_USE_INPUT ? "inputs"
											      : "outputs",
						       p->artifacts[i].name);
	return 0;
}

/* ------------------------------------------------------------------------ what it takes */

/* Where an input or image lies; a tree is held. */
static int locate(struct preparing *p, const struct davit_artifact *a, const char *what, char **ret)
{
	struct davit_execution *x = p->x;
	struct davit_artifact_hold *h;
	struct stat st;
	int r;

	if (!a->location)
		return davit_error_set(p->err, DAVIT_EINVAL, what, "it is not said where '%.64s' is", what);
	if (a->type == DAVIT_ARTIFACT_TREE) {
		h = &x->holds[x->n_holds];
		*h = (struct davit_artifact_hold)DAVIT_ARTIFACT_HOLD_INIT;
		r = davit_artifacts_find(x->store, a->location, h, p->err);
		if (r < 0)
			return r;
		x->n_holds++;
		*ret = davit_artifacts_path(x->store, h);
		return *ret ? 0 : no_memory(p->err);
	}
	if (a->location[0] != '/')
		return davit_error_set(p->err, DAVIT_EINVAL, what, "'%.200s' is not an absolute path",
				       a->location);
	if (stat(a->location, &st) < 0)
		return davit_error_errno(p->err, errno, what, "'%.64s' is to be %s", what, a->location);
	if (!S_ISDIR(st.st_mode))
		return davit_error_set(p->err, DAVIT_EINVAL, what,
				       "'%.64s' is to be %s, which is not a directory", what, a->location);
	*ret = strdup(a->location);
	return *ret ? 0 : no_memory(p->err);
}

static int make_own(struct davit_execution *x, const char *kind, size_t number, char **ret,
		    struct davit_error *err)
{
	if (asprintf(ret, "%s/%s-%zu", x->directory, kind, number) < 0) {
		*ret = NULL;
		return no_memory(err);
	}
	return mkdir(*ret, 0755) < 0 ? davit_error_errno(err, errno, NULL, "cannot make %s", *ret) : 0;
}

static int note(struct davit_execution *x, struct davit_error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int note(struct davit_execution *x, struct davit_error *err, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return davit_strv_add(&x->notes, text) < 0 ? no_memory(err) : 0;
}

static int new_cache(struct davit_artifacts *s, const char *key, const char *name, int *ret_fd,
		     struct davit_error *err)
{
	struct step_work w = STEP_WORK_INIT;
	struct step_meta m = {0};
	int r = step_work_begin(s, &w, err);

	if (r < 0)
		return r;
	snprintf(m.name, sizeof m.name, "%s", name);
	for (char *c = m.name; *c; c++)
		*c = *c == '\n' ? ' ' : *c;
	if (mkdirat(w.fd, "fs", 0755) < 0 || flock(w.meta, LOCK_EX | LOCK_NB) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make a cache in %s", s->directory);
	if (r == 0)
		r = step_store_lock(s, err);
	if (r == 0) {
		r = step_publish(s, &w, DAVIT_KEPT_CACHE, key, &m, err);
		step_store_unlock(s);
	}
	if (r == 0)
		*ret_fd = DAVIT_TAKE_FD(w.meta);
	step_work_end(s, &w);
	return r;
}

/* The directory of a cache, which this execution alone has from now on. */
static int take_cache(struct preparing *p, const struct davit_artifact *a, char **ret)
{
	struct davit_execution *x = p->x;
	struct step_cache *c = &x->caches[x->n_caches];
	uint8_t digest[STEP_DIGEST];
	int r;

	crypto_generichash(digest, sizeof digest, (const uint8_t *)a->location, strlen(a->location), NULL, 0);
	step_hex(digest, sizeof digest, c->key);
	c->fd = -1;
	x->n_caches++;
	r = step_store_lock(x->store, p->err);
	if (r < 0)
		return r;
	r = step_take(x->store, DAVIT_KEPT_CACHE, c->key, LOCK_EX, &c->fd, p->err);
	step_store_unlock(x->store);
	if (r == DAVIT_ENOENT)
		r = new_cache(x->store, c->key, a->location, &c->fd, p->err);
	if (r == DAVIT_EINUSE) {
		r = note(x, p->err,
			 "the cache of %s is in use by another step: this one begins with an empty one, "
			 "which is not kept",
			 a->path);
		return r < 0 ? r : make_own(x, "cache", x->n_caches, ret, p->err);
	}
	if (r < 0)
		return r;
	return asprintf(ret, "%s/caches/%s/fs", x->store->directory, c->key) < 0
		       ? (*ret = NULL, no_memory(p->err))
		       : 0;
}

static int take_output(struct preparing *p, const struct davit_artifact *a, char **ret)
{
	struct davit_execution *x = p->x;
	struct step_output *o = &x->outputs[x->n_outputs];
	int r = make_own(x, "out", x->n_outputs, &o->directory, p->err);

	x->n_outputs++;
	o->name = strdup(a->name);
	*ret = o->directory && o->name ? strdup(o->directory) : NULL;
	return r < 0 ? r : *ret ? 0 : no_memory(p->err);
}

static int take_place(struct preparing *p, struct place *at)
{
	int r = 0;

	if (at->input)
		r = locate(p, at->input, at->input->name, &at->source);
	if (r == 0 && at->output)
		r = take_output(p, at->output, &at->own);
	if (r == 0 && at->cache)
		r = take_cache(p, at->cache, &at->own);
	if (r < 0)
		return r;
	if (at->source && at->own)
		record_mount(p->x, STEP_MOUNT_COPY, at->source, at->own, at->target);
	else
		record_mount(p->x, at->own ? STEP_MOUNT_BIND : STEP_MOUNT_OVER,
			     at->own ? at->own : at->source, NULL, at->target);
	return 0;
}

static int take_places(struct preparing *p)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n; i++)
		r = add_place(p, &p->artifacts[i]);
	if (r == 0)
		r = check_unique(p);
	if (r == 0 && p->n_places)
		qsort(p->places, p->n_places, sizeof *p->places, by_target);
	for (size_t i = 0; r == 0 && i < p->n_places; i++)
		r = take_place(p, &p->places[i]);
	return r;
}

/* ------------------------------------------------------------------------------- limits */

/* The store must be locked. */
static int make_group(struct preparing *p, struct davit_workload *w)
{
	struct davit_artifacts *s = p->x->store;
	int r;

	if (!s->has_cgroups) {
		r = cgroups_open(&s->cgroups, s->directory, p->err);
		if (r < 0)
			return r;
		s->has_cgroups = true;
	}
	w->pids = p->spec->limits.pids;
	if (!w->pids && s->cgroups.limits[CGROUP_PIDS])
		w->pids = DAVIT_STEP_PIDS_DEFAULT;
	/* Where there is no such group, a user namespace has a limit of its own. */
	if (geteuid() != 0 && !s->cgroups.limits[CGROUP_PIDS])
		w->pids = 0;
	r = cgroups_make(&s->cgroups, w, p->err);
	if (r < 0 && r != DAVIT_ENOTSUP) {
		/* Another process that ended has removed the parents, which were empty. */
		cgroups_fini(&s->cgroups);
		s->has_cgroups = false;
	}
	return r;
}

/* Since Linux 6.14 a pid namespace has a limit of its own; before, it would be set for the whole host. That
 * costs nothing, where to move a process into a cgroup takes longer than all the rest of a step. */
static bool namespaces_limit(void)
{
	int major = 0, minor = 0;
	struct utsname u;

	return uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 14));
}

static bool needs_group(const struct davit_run_spec *spec)
{
	const struct davit_step_limits *l = &spec->limits;

	return l->cpu_millicores || l->memory || l->pids || spec->plain || step_runtime(spec)->driver ||
	       !namespaces_limit();
}

static int limit(struct preparing *p)
{
	struct davit_execution *x = p->x;
	struct davit_workload w = {.cpu_millicores = p->spec->limits.cpu_millicores,
				   .memory = p->spec->limits.memory};
	int r = step_store_lock(x->store, p->err);

	if (r < 0)
		return r;
	memcpy(w.id, x->id, sizeof w.id);
	r = make_group(p, &w);
	for (int tries = 0; r < 0 && r != DAVIT_ENOTSUP && tries < 4; tries++)
		r = make_group(p, &w);
	x->has_group = r == 0;
	x->n_cgroup_dirs = r == 0 ? cgroups_dirs(&x->store->cgroups, &w, x->cgroup_dirs) : 0;
	step_store_unlock(x->store);
	for (size_t i = 0; i < x->n_cgroup_dirs; i++)
		record_text(x, STEP_CGROUP, x->cgroup_dirs[i]);
	return r;
}

/* ------------------------------------------------------------------------------ the rest */

static int make_directory(struct davit_execution *x, struct davit_error *err)
{
	static const char *const files[] = {"stdout", "stderr"};
	int at = -1, r = step_store_lock(x->store, err);

	if (r < 0)
		return r;
	if (mkdir(x->directory, 0700) == 0)
		at = open(x->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at >= 0)
		x->lock = openat(at, "lock", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (x->lock < 0 || flock(x->lock, LOCK_EX | LOCK_NB) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make %s", x->directory);
	x->made = r == 0;
	step_store_unlock(x->store);
	for (int i = 0; r == 0 && i < DAVIT_STEP_STREAMS; i++) {
		x->streams[i] = openat(at, files[i], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (x->streams[i] < 0)
			r = davit_error_errno(err, errno, NULL, "cannot make %s/%s", x->directory, files[i]);
	}
	if (at >= 0)
		close(at);
	return r;
}

static void hide_ours(struct davit_execution *x)
{
	const struct davit_paths *d = &x->store->paths;
	const char *const ours[] = {x->store->directory, d->state, d->run, d->log, d->cache, d->config};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(ours); i++) {
		DAVIT_AUTO_FREE char *real = realpath(ours[i], NULL);
		if (real)
			record_text(x, STEP_HIDE, real);
	}
}

static void record_options(struct preparing *p)
{
	const struct davit_run_spec *spec = p->spec;
	struct step_options o = {
		.timeout = spec->timeout,
		.grace = spec->grace ? spec->grace : DAVIT_GRACE_DEFAULT,
		.log_max = spec->log_max ? spec->log_max : DAVIT_STEP_LOG_DEFAULT,
		.privileged = spec->privileged || spec->plain,
		.hermetic = spec->hermetic,
		.memory = spec->limits.memory,
		.cpu_millicores = spec->limits.cpu_millicores,
		.processes = spec->limits.pids ? spec->limits.pids : DAVIT_STEP_PIDS_DEFAULT,
		.pid_max = needs_group(spec) ? 0 : DAVIT_STEP_PIDS_DEFAULT,
		.durable = spec->durable != NULL,
		.plain = spec->plain,
		.input = p->x->input >= 0,
	};

	record(p->x, STEP_OPTIONS, &o, sizeof o);
}

static int take_input(struct davit_execution *x, const struct davit_run_spec *spec, struct davit_error *err)
{
	if (!spec->input)
		return 0;
	x->input = memfd_create("davit-step-input", MFD_CLOEXEC);
	if (x->input < 0 || davit_write_full(x->input, spec->input, spec->input_len) < 0 ||
	    lseek(x->input, 0, SEEK_SET) < 0)
		return davit_error_errno(err, errno, NULL, "cannot write a step's input");
	return 0;
}

static int record_program(struct preparing *p)
{
	const struct davit_run_spec *spec = p->spec;
	DAVIT_AUTO_FREE char *directory = NULL;
	int r = absolute(spec->dir && *spec->dir ? spec->dir : ".", "dir", &directory, p->err);

	if (r < 0)
		return r;
	record_text(p->x, STEP_CHDIR, *directory ? directory : "/");
	record_text(p->x, STEP_PATH, spec->path);
	for (char *const *a = spec->args; a && *a; a++)
		record_text(p->x, STEP_ARG, *a);
	for (char *const *e = spec->env; e && *e; e++)
		record_text(p->x, STEP_ENV, *e);
	if (spec->user && *spec->user)
		record_text(p->x, STEP_USER, spec->user);
	return 0;
}

static int record_driver(struct preparing *p)
{
	struct davit_execution *x = p->x;
	DAVIT_AUTO_FREE char *program = davit_path_join(x->store->paths.libexec, x->runtime->driver);
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	if (!program)
		return no_memory(p->err);
	davit_buf_add(&b, program, strlen(program) + 1);
	davit_buf_adds(&b, x->runtime->name);
	x->order.oom |= b.oom;
	record(x, STEP_DRIVER, davit_buf_str(&b), b.len);
	record_text(x, STEP_IMAGE, p->spec->image.location);
	return 0;
}

static int prepare(struct preparing *p)
{
	struct davit_execution *x = p->x;
	DAVIT_AUTO_FREE char *root = NULL;
	int r = make_directory(x, p->err);

	if (r == 0)
		r = take_input(x, p->spec, p->err);
	if (r < 0)
		return r;
	record_text(x, STEP_DIRECTORY, x->directory);
	record_options(p);
	x->runtime = step_runtime(p->spec);
	if (x->runtime->driver)
		r = record_driver(p);
	/* An engine knows its images itself, unless it has to be asked before which one it is. */
	if (p->spec->image.type == DAVIT_ARTIFACT_IMAGE && (!x->runtime->engine || x->remember)) {
		x->image = strdup(p->spec->image.location);
		x->has_user = p->spec->user && *p->spec->user;
		if (!x->image)
			return no_memory(p->err);
	} else if (p->spec->image.type != DAVIT_ARTIFACT_IMAGE &&
		   p->spec->image.type != DAVIT_ARTIFACT_EMPTY) {
		r = locate(p, &p->spec->image, "image", &root);
		if (r == 0)
			record_text(x, STEP_ROOT, root);
	}
	if (r == 0)
		r = take_places(p);
	if (r == 0 && !x->runtime->engine && needs_group(p->spec))
		r = limit(p);
	if (r == 0)
		r = record_program(p);
	if (r == 0 && x->durable)
		r = step_keep_order(x, p->err);
	hide_ours(x);
	return r < 0 ? r : x->order.oom ? no_memory(p->err) : 0;
}

int step_prepare(struct davit_execution *x, const struct davit_run_spec *spec,
		 const struct davit_artifact *artifacts, size_t n, struct davit_error *err)
{
	struct preparing p = {.x = x, .spec = spec, .artifacts = artifacts, .n = n, .err = err};
	int r;

	p.places = calloc(n + 1, sizeof *p.places);
	x->holds = calloc(n + 1, sizeof *x->holds);
	x->caches = calloc(n + 1, sizeof *x->caches);
	x->outputs = calloc(n + 1, sizeof *x->outputs);
	if (!p.places || !x->holds || !x->caches || !x->outputs)
		r = no_memory(err);
	else
		r = prepare(&p);
	for (size_t i = 0; i < p.n_places; i++) {
		free(p.places[i].target);
		free(p.places[i].source);
		free(p.places[i].own);
	}
	free(p.places);
	return r;
}
