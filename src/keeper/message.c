/* SPDX-License-Identifier: MIT
 *
 * Reading messages: every length and string is checked before it is used.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

const void *keeper_read_bytes(struct keeper_reader *r, size_t n)
{
	const char *p = r->at;

	if (r->bad || (size_t)(r->end - r->at) < n) {
		r->bad = true;
		return NULL;
	}
	r->at += n;
	return p;
}

const char *keeper_read_string(struct keeper_reader *r)
{
	const char *s = r->at, *nul = r->bad ? NULL : memchr(s, '\0', (size_t)(r->end - s));

	if (!nul) {
		r->bad = true;
		return "";
	}
	r->at = nul + 1;
	return s;
}

/* argv and env as execve takes them: few are in the start's own array. */
static int make_vectors(struct keeper *k, struct keeper_command *c, struct keeper_reader *r,
			struct davit_error *err)
{
	size_t n = (size_t)c->f.argc + c->f.envc + 5;
	char **p = keeper_next_start(k)->pointers;

	/* Each string takes a byte at least, so that a message bounds its count. */
	if (n > (size_t)(r->end - r->at) + 5)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the message is shorter than its arguments");
	if (n > KEEPER_POINTERS) {
		c->mapped_len = n * sizeof *p;
		p = mmap(NULL, c->mapped_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return davit_error_errno(err, errno, NULL, "no memory for %zu arguments", n);
		c->mapped = p;
	}
	c->argv = p;
	for (uint32_t i = 0; i < c->f.argc; i++)
		*p++ = (char *)(uintptr_t)keeper_read_string(r); /* execve does not write to them */
	*p++ = NULL;
	c->env = p;
	for (c->n_env = 0; c->n_env < c->f.envc; c->n_env++)
		*p++ = (char *)(uintptr_t)keeper_read_string(r);
	*p = NULL;
	return 0;
}

int keeper_command_read(struct keeper *k, const struct keeper_spawn *f, struct keeper_reader *r,
			struct keeper_command *ret, struct davit_error *err)
{
	struct keeper_command c = {.f = *f};
	const char *file;
	int code;

	if (f->argc == 0)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the command has no arguments");
	c.rlimits = keeper_read_bytes(r, (size_t)f->n_rlimits * sizeof *c.rlimits);
	c.groups = keeper_read_bytes(r, (size_t)f->n_groups * sizeof *c.groups);
	c.path = keeper_read_string(r);
	c.directory = keeper_read_string(r);
	code = make_vectors(k, &c, r, err);
	if (code < 0)
		return code;
	c.settings = r->at;
	do {
		file = keeper_read_string(r);
		if (*file)
			keeper_read_string(r);
	} while (*file);
	if (r->bad) {
		keeper_command_fini(&c);
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the message ends before its strings");
	}
	if (!*c.directory)
		c.directory = "/";
	*ret = c;
	return 0;
}

void keeper_command_fini(struct keeper_command *c)
{
	if (c->mapped)
		munmap(c->mapped, c->mapped_len);
	c->mapped = NULL;
}
