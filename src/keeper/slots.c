/* SPDX-License-Identifier: MIT
 *
 * The keeper's memory: the mapped file of slots, and how a slot is found.
 */
#include "keeper/keeper.h"

#include "base/fnv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef uint64_t (*key_fn)(const struct keeper_slot *);

uint32_t keeper_set_next(const struct keeper_set *set, uint32_t i)
{
	if (i >= KEEPER_SLOTS_MAX)
		return KEEPER_NONE;
	uint64_t word = set->word[i / 64] >> (i % 64);
	if (word)
		return i + (uint32_t)__builtin_ctzll(word);
	for (uint32_t w = i / 64 + 1; w < KEEPER_SLOTS_MAX / 64; w++)
		if (set->word[w])
			return w * 64 + (uint32_t)__builtin_ctzll(set->word[w]);
	return KEEPER_NONE;
}

static uint32_t cell_of(uint64_t key)
{
	return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) % KEEPER_INDEX_CELLS;
}

/* Two ids of one value only cost a comparison. */
static uint64_t id_key(const char *id)
{
	return davit_fnv_text(DAVIT_FNV_BASIS, id);
}

static uint64_t key_by_id(const struct keeper_slot *s)
{
	return id_key(s->id);
}

static uint64_t key_by_pid(const struct keeper_slot *s)
{
	return (uint64_t)s->pid;
}

static void index_put(struct keeper_index *ix, uint64_t key, uint32_t slot)
{
	uint32_t c = cell_of(key);

	while (ix->cell[c])
		c = (c + 1) % KEEPER_INDEX_CELLS;
	ix->cell[c] = (uint16_t)(slot + 1);
}

/* Removes without tombstones: later cells of the run move up where they may. */
static void index_remove(struct keeper *k, struct keeper_index *ix, key_fn key, uint32_t slot)
{
	uint32_t hole = cell_of(key(keeper_slot(k, slot)));

	while (ix->cell[hole] != slot + 1) {
		if (!ix->cell[hole])
			return;
		hole = (hole + 1) % KEEPER_INDEX_CELLS;
	}
	for (uint32_t c = (hole + 1) % KEEPER_INDEX_CELLS; ix->cell[c]; c = (c + 1) % KEEPER_INDEX_CELLS) {
		uint32_t home = cell_of(key(keeper_slot(k, ix->cell[c] - 1u)));
		if ((c - home) % KEEPER_INDEX_CELLS >= (c - hole) % KEEPER_INDEX_CELLS) {
			ix->cell[hole] = ix->cell[c];
			hole = c;
		}
	}
	ix->cell[hole] = 0;
}

struct keeper_slot *keeper_slot_find(struct keeper *k, const char *id)
{
	for (uint32_t c = cell_of(id_key(id)); k->by_id.cell[c]; c = (c + 1) % KEEPER_INDEX_CELLS) {
		struct keeper_slot *s = keeper_slot(k, k->by_id.cell[c] - 1u);
		if (!strcmp(s->id, id))
			return s;
	}
	return NULL;
}

struct keeper_slot *keeper_slot_of_pid(struct keeper *k, pid_t pid)
{
	for (uint32_t c = cell_of((uint64_t)pid); k->by_pid.cell[c]; c = (c + 1) % KEEPER_INDEX_CELLS) {
		struct keeper_slot *s = keeper_slot(k, k->by_pid.cell[c] - 1u);
		if (s->pid == pid)
			return s;
	}
	return NULL;
}

void keeper_slot_set_pid(struct keeper *k, struct keeper_slot *s, pid_t pid)
{
	uint32_t i = keeper_slot_number(k, s);

	if (s->pid)
		index_remove(k, &k->by_pid, key_by_pid, i);
	s->pid = pid;
	if (pid)
		index_put(&k->by_pid, (uint64_t)pid, i);
}

void keeper_slot_enlist(struct keeper *k, uint32_t i)
{
	struct keeper_slot *s = keeper_slot(k, i);

	keeper_set_add(&k->used, i);
	index_put(&k->by_id, id_key(s->id), i);
	if (s->pid)
		index_put(&k->by_pid, (uint64_t)s->pid, i);
}

static uint32_t lowest_free(const struct keeper *k)
{
	for (uint32_t w = 0; w < KEEPER_SLOTS_MAX / 64; w++)
		if (~k->used.word[w])
			return w * 64 + (uint32_t)__builtin_ctzll(~k->used.word[w]);
	return KEEPER_NONE;
}

struct keeper_slot *keeper_slot_take(struct keeper *k, const char *id)
{
	/* The lowest: so the pages in use stay few. */
	uint32_t i = lowest_free(k), generation;
	struct keeper_slot *s;

	if (i == KEEPER_NONE)
		return NULL;
	s = keeper_slot(k, i);
	generation = s->generation;
	memset(s, 0, sizeof *s);
	s->generation = generation + 1;
	snprintf(s->id, sizeof s->id, "%s", id);
	s->fd_pid = s->fd_pipe[0] = s->fd_pipe[1] = s->fd_ready = s->fd_notify = s->fd_cgroup = -1;
	if (i >= k->file->high)
		k->file->high = i + 1;
	keeper_slot_enlist(k, i);
	return s;
}

void keeper_slot_release(struct keeper *k, struct keeper_slot *s)
{
	uint32_t i = keeper_slot_number(k, s);

	s->state = KEEPER_SLOT_FREE;
	keeper_slot_set_pid(k, s, 0);
	index_remove(k, &k->by_id, key_by_id, i);
	keeper_set_remove(&k->used, i);
	keeper_set_remove(&k->tell, i);
	keeper_set_remove(&k->stopping, i);
	keeper_set_remove(&k->blocked, i);
	keeper_set_remove(&k->dropping, i);
	keeper_set_remove(&k->launching, i);
	memset(s->id, 0, sizeof s->id);
}

static bool usable(const struct keeper_file *f, const char *boot_id)
{
	return !memcmp(f->magic, KEEPER_MAGIC, sizeof f->magic) && f->version >= KEEPER_FILE_OLDEST &&
	       f->version <= KEEPER_FILE_VERSION && f->slot_size == KEEPER_SLOT_SIZE &&
	       !strcmp(f->boot_id, boot_id) && f->high <= KEEPER_SLOTS_MAX;
}

int keeper_slots_open(struct keeper *k, struct davit_error *err)
{
	char path[32], boot_id[64];
	ssize_t n = keeper_read_file("/proc/sys/kernel/random", "boot_id", boot_id, sizeof boot_id);
	struct stat st;
	void *map;

	if (n < 36)
		return davit_error_errno(err, errno, NULL, "cannot read the boot id");
	boot_id[36] = '\0';
	snprintf(path, sizeof path, "keeper-%u.slots", k->index);
	if (k->fd_slots < 0)
		k->fd_slots = openat(k->fd_run, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (k->fd_slots < 0 || fstat(k->fd_slots, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", path);
	/* An older one is shorter: what was added is empty in it. */
	if ((size_t)st.st_size != KEEPER_FILE_SIZE && ftruncate(k->fd_slots, (off_t)KEEPER_FILE_SIZE) < 0)
		return davit_error_errno(err, errno, NULL, "cannot size %s", path);
	map = mmap(NULL, KEEPER_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd_slots, 0);
	if (map == MAP_FAILED)
		return davit_error_errno(err, errno, NULL, "cannot map %s", path);
	/* The file is mostly holes: to read ahead would fill memory with their zeroes, megabytes where a
	 * disk's read-ahead is large, while everybody waits for us. */
	madvise(map, KEEPER_FILE_SIZE, MADV_RANDOM);
	keeper_set_file(k, map);
	if (!usable(k->file, boot_id)) {
		/* Truncating frees the pages; the mapping sees zeroes. */
		if (ftruncate(k->fd_slots, 0) < 0 || ftruncate(k->fd_slots, (off_t)KEEPER_FILE_SIZE) < 0)
			return davit_error_errno(err, errno, NULL, "cannot clear %s", path);
		memcpy(k->file->magic, KEEPER_MAGIC, sizeof k->file->magic);
		k->file->slot_size = KEEPER_SLOT_SIZE;
		snprintf(k->file->boot_id, sizeof k->file->boot_id, "%s", boot_id);
	}
	k->file->version = KEEPER_FILE_VERSION;
	for (uint32_t i = 0; i < k->file->high; i++)
		if (keeper_slot(k, i)->state != KEEPER_SLOT_FREE)
			keeper_slot_enlist(k, i);
	return 0;
}
