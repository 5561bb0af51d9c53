/* SPDX-License-Identifier: MIT
 *
 * The strings of a slot: label, log directory, cgroups, empty string, status, one
 * behind the other. They stand in the slot, or, when they do not fit there, in the
 * slot's page behind the slots, which costs nothing until it is used.
 *
 * Directories are nearly always BASE/ID with one of few bases. Such a one is a
 * single byte: the number of the base, which is in the file's header. A path
 * that is not of that form is there as it is, and begins with a slash.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static char *text_of(const struct keeper *k, const struct keeper_slot *s)
{
	if (s->flags & KEEPER_EXTRA)
		return k->extra + (size_t)keeper_slot_number(k, s) * KEEPER_EXTRA_SIZE;
	return (char *)(uintptr_t)s->text;
}

/* The number of the base + 1, or 0 when the path stays as it is. */
static char encode(struct keeper *k, const char *id, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	if (n == 0 || n >= KEEPER_BASE_MAX || strcmp(slash + 1, id) != 0)
		return 0;
	for (int i = 0; i < KEEPER_BASES; i++) {
		char *base = k->file->bases[i];
		if (!*base)
			memcpy(base, path, n); /* zeroes stand behind */
		if (!strncmp(base, path, n) && !base[n])
			return (char)(i + 1);
	}
	return 0;
}

static void decode(const struct keeper *k, const struct keeper_slot *s, const char *code,
		   char path[KEEPER_PATH_MAX])
{
	unsigned base = (unsigned char)*code;

	if (base - 1 < KEEPER_BASES) {
		char *end = stpcpy(path, k->file->bases[base - 1]);
		*end = '/';
		strcpy(end + 1, s->id);
	} else {
		snprintf(path, KEEPER_PATH_MAX, "%s", code);
	}
}

static size_t add_path(struct keeper *k, const char *id, char *to, size_t max, const char *path)
{
	char code[2] = {encode(k, id, path), '\0'};
	const char *text = code[0] ? code : path;
	size_t n = strlen(text) + 1;

	if (n > max)
		return 0;
	memcpy(to, text, n);
	return n;
}

int keeper_strings_set(struct keeper *k, struct keeper_slot *s, const char *label, const char *log_dir,
		       const char *cgroups, struct davit_error *err)
{
	char text[KEEPER_EXTRA_SIZE];
	size_t n = strlen(label) + 1, at, log_at;

	if (n > KEEPER_LABEL_MAX)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "the label has %zu bytes, more than %d",
				       n - 1, KEEPER_LABEL_MAX - 1);
	if (log_dir[0] != '/')
		return davit_error_set(err, DAVIT_EINVAL, NULL, "the log directory '%s' is not absolute",
				       log_dir);
	memcpy(text, label, n);
	log_at = n;
	/* Room is left for two empty strings: the cgroups' end and the status. */
	n += at = add_path(k, s->id, text + n, sizeof text - 2 - n, log_dir);
	for (const char *dir = cgroups; at && *dir; dir += strlen(dir) + 1) {
		if (*dir != '/')
			return davit_error_set(err, DAVIT_EINVAL, NULL, "the cgroup '%s' is not absolute",
					       dir);
		n += at = add_path(k, s->id, text + n, sizeof text - 2 - n, dir);
	}
	if (!at)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "label, log directory and cgroups take more than %d bytes",
				       KEEPER_EXTRA_SIZE - 2);
	text[n++] = '\0';
	text[n++] = '\0';
	if (n > sizeof s->text)
		s->flags |= KEEPER_EXTRA;
	memcpy(text_of(k, s), text, n);
	s->log_dir_at = (uint16_t)log_at;
	s->status_at = (uint16_t)(n - 1);
	return 0;
}

const char *keeper_label(const struct keeper *k, const struct keeper_slot *s)
{
	return text_of(k, s);
}

const char *keeper_status(const struct keeper *k, const struct keeper_slot *s)
{
	return text_of(k, s) + s->status_at;
}

bool keeper_status_set(struct keeper *k, struct keeper_slot *s, const char *status)
{
	size_t n = strnlen(status, KEEPER_STATUS_MAX - 1), room;

	if (!strncmp(keeper_status(k, s), status, n) && !keeper_status(k, s)[n])
		return false;
	if (!(s->flags & KEEPER_EXTRA) && s->status_at + n + 1 > sizeof s->text) {
		memcpy(k->extra + (size_t)keeper_slot_number(k, s) * KEEPER_EXTRA_SIZE, s->text,
		       sizeof s->text);
		s->flags |= KEEPER_EXTRA;
	}
	room = (s->flags & KEEPER_EXTRA ? KEEPER_EXTRA_SIZE : sizeof s->text) - s->status_at - 1;
	n = n < room ? n : room;
	memcpy(text_of(k, s) + s->status_at, status, n);
	text_of(k, s)[s->status_at + n] = '\0';
	return true;
}

void keeper_log_dir(const struct keeper *k, const struct keeper_slot *s, char path[KEEPER_PATH_MAX])
{
	decode(k, s, text_of(k, s) + s->log_dir_at, path);
}

static const char *cgroups_of(const struct keeper *k, const struct keeper_slot *s)
{
	const char *log = text_of(k, s) + s->log_dir_at;

	return log + strlen(log) + 1;
}

bool keeper_has_cgroup(const struct keeper *k, const struct keeper_slot *s)
{
	return *cgroups_of(k, s);
}

bool keeper_cgroup(const struct keeper *k, const struct keeper_slot *s, unsigned n,
		   char path[KEEPER_PATH_MAX])
{
	const char *dir = cgroups_of(k, s);

	for (; n > 0 && *dir; n--)
		dir += strlen(dir) + 1;
	if (!*dir)
		return false;
	decode(k, s, dir, path);
	return true;
}

int keeper_cgroup_base(const struct keeper *k, const struct keeper_slot *s)
{
	unsigned base = (unsigned char)*cgroups_of(k, s);

	return base - 1 < KEEPER_BASES ? (int)base - 1 : -1;
}

/* A name below a base, through the base's directory, which stays open. */
static int open_below(struct keeper *k, unsigned base, const char *name, int flags)
{
	int *dir = &k->fd_bases[base], fd = -1;
	bool fresh = *dir <= 0;

	if (!fresh)
		fd = openat(*dir, name, flags | O_CLOEXEC);
	if (fd >= 0 || (!fresh && errno != ENOENT))
		return fd;
	/* It may have been removed and made again since. */
	if (!fresh)
		close(*dir);
	*dir = open(k->file->bases[base], O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *dir < 0 ? -1 : openat(*dir, name, flags | O_CLOEXEC);
}

int keeper_cgroup_open(struct keeper *k, const struct keeper_slot *s, unsigned n, const char *file, int flags)
{
	const char *dir = cgroups_of(k, s);
	char path[KEEPER_PATH_MAX];
	size_t size;

	for (; n > 0 && *dir; n--)
		dir += strlen(dir) + 1;
	if ((unsigned char)*dir - 1u < KEEPER_BASES) {
		stpcpy(stpcpy(stpcpy(path, s->id), *file ? "/" : ""), file);
		return open_below(k, (unsigned char)*dir - 1u, path, flags);
	}
	size = (size_t)snprintf(path, sizeof path, "%s%s%s", dir, *file ? "/" : "", file);
	if (!*dir || size >= sizeof path) {
		errno = *dir ? ENAMETOOLONG : ENOENT;
		return -1;
	}
	return open(path, flags | O_CLOEXEC);
}
