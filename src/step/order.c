/* SPDX-License-Identifier: MIT
 *
 * Reading the order of a step. It comes from our own library, but a length that lies must not make us
 * read elsewhere.
 */
#include "step/helper.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Appends to an array whose room grows by doubling; n is a power of two when it is full. */
static bool add(const char ***v, size_t *n, const char *text)
{
	if ((*n & (*n + 1)) == 0) { /* 0, 1, 3, 7 ...: one place is kept for the NULL */
		const char **more = reallocarray(*v, 2 * (*n + 1), sizeof *more);
		if (!more)
			return false;
		*v = more;
	}
	(*v)[(*n)++] = text;
	(*v)[*n] = NULL;
	return true;
}

static bool add_mount(struct step *s, const struct step_record *r)
{
	struct step_mount_order *more = reallocarray(s->mounts, s->n_mounts + 1, sizeof *more), *m;
	const char *end = r->text + r->length, *p = r->text + 1;

	if (!more)
		return false;
	s->mounts = more;
	m = &more[s->n_mounts++];
	*m = (struct step_mount_order){.kind = r->text[0], .source = p};
	p += strlen(p) + 1;
	if (m->kind == STEP_MOUNT_COPY && p < end) {
		m->copy = p;
		p += strlen(p) + 1;
	}
	m->target = p;
	return p < end;
}

static bool take(struct step *s, const struct step_record *r)
{
	switch (r->tag) {
	case STEP_DIRECTORY:
		s->directory = r->text;
		return true;
	case STEP_OPTIONS:
		if (r->length != sizeof s->options + 1)
			return false;
		memcpy(&s->options, r->text, sizeof s->options);
		return true;
	case STEP_ROOT:
		return add(&s->roots, &s->n_roots, r->text);
	case STEP_HIDE:
		return add(&s->hide, &s->n_hide, r->text);
	case STEP_MOUNT:
		return add_mount(s, r);
	case STEP_CGROUP:
		return add(&s->cgroups, &s->n_cgroups, r->text);
	case STEP_PATH:
		s->path = r->text;
		return add(&s->argv, &s->n_argv, r->text);
	case STEP_ARG:
		return add(&s->argv, &s->n_argv, r->text);
	case STEP_ENV:
		return add(&s->env, &s->n_env, r->text);
	case STEP_CHDIR:
		s->chdir = r->text;
		return true;
	case STEP_USER:
		s->user = r->text;
		return true;
	case STEP_DRIVER:
		s->driver = r->text;
		s->runtime = r->text + strlen(r->text) + 1;
		return s->runtime < r->text + r->length;
	case STEP_IMAGE:
		s->image = r->text;
		return true;
	case STEP_RELEASE:
		s->release = r->text;
		return true;
	default:
		return false;
	}
}

bool step_order_read(int fd, struct step *s)
{
	struct stat st;
	const char *p;

	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return false;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	return p != MAP_FAILED && step_order_parse(p, (size_t)st.st_size, s);
}

bool step_order_parse(const char *p, size_t n, struct step *s)
{
	const char *end = p + n;

	while ((size_t)(end - p) >= sizeof(struct step_record)) {
		const struct step_record *r = (const void *)p;
		size_t room = (size_t)(end - p) - sizeof *r;

		if (!r->length || STEP_RECORD_PAD((size_t)r->length) > room || r->text[r->length - 1] ||
		    !take(s, r))
			return false;
		p += sizeof *r + STEP_RECORD_PAD((size_t)r->length);
	}
	return s->directory && s->path && s->chdir;
}
