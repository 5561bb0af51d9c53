/* SPDX-License-Identifier: MIT
 *
 * The memory store: a skip list (Pugh, 1990) ordered by key, whose nodes are
 * also on a list ordered by (mod_revision, key). The second is what watches
 * read: the past of a watch is its tail, already coalesced per key.
 *
 * commit() allocates everything that a transaction can need; applying it, later
 * from the loop, only links nodes and so cannot fail half-way.
 */
#include "store/memory/memory.h"

#include "base/list.h"
#include "store/changes.h"
#include "store/stores.h"
#include "store/watch.h"

#include <inttypes.h>
#include <string.h>

enum { LEVELS = 12 }; /* at a quarter a level: good for 4^12 records */

struct node {
	struct davit_list by_revision;
	struct davit_list deletion; /* on `deletions` while this is a tombstone */
	struct node *before;	    /* the previous key */
	void *value;
	size_t len;
	int64_t mod_revision;
	bool deleted;
	char *key; /* behind next[] */
	int levels;
	struct node *next[];
};

/* A transaction on its way. */
struct job {
	struct davit_list link;
	struct davit_store_txn *txn;
	struct davit_store_change *changes; /* a copy without values */
	size_t n;
	struct node *nodes[]; /* for each PUT the node that holds its value */
};

struct memory {
	struct node *next[LEVELS]; /* the list's head */
	struct node *last;
	struct davit_list by_revision;
	struct davit_list deletions; /* tombstones, oldest first */
	struct davit_list jobs;
	struct davit_deferred work;
	struct davit_watches watches;
	int64_t revision;
	int64_t compacted; /* the last revision of which a deletion was forgotten */
	uint64_t seed;
};

static struct davit_kv node_kv(const struct node *node)
{
	return (struct davit_kv){
		.key = node->key,
		.value = node->value || node->deleted ? node->value : "",
		.len = node->len,
		.mod_revision = node->mod_revision,
		.deleted = node->deleted,
	};
}

/* --- the skip list --- */

static void node_free(struct node *node)
{
	if (!node)
		return;
	free(node->value);
	free(node);
}

/* The number of levels needs no good randomness but the same one in each run:
 * an xorshift generator (Marsaglia, 2003) of the store's own. */
static int random_levels(struct memory *m)
{
	int levels = 1;

	m->seed ^= m->seed << 13;
	m->seed ^= m->seed >> 7;
	m->seed ^= m->seed << 17;
	for (uint64_t bits = m->seed; levels < LEVELS && (bits & 3) == 0; bits >>= 2)
		levels++;
	return levels;
}

static struct node *node_new(struct memory *m, const struct davit_store_change *c)
{
	int levels = random_levels(m);
	size_t key_size = strlen(c->key) + 1;
	struct node *node = calloc(1, sizeof *node + (size_t)levels * sizeof node->next[0] + key_size);

	if (!node)
		return NULL;
	davit_list_init(&node->by_revision);
	davit_list_init(&node->deletion);
	node->levels = levels;
	node->key = (char *)&node->next[levels];
	memcpy(node->key, c->key, key_size);
	node->len = c->len;
	if (c->len) {
		node->value = malloc(c->len);
		if (!node->value) {
			free(node);
			return NULL;
		}
		memcpy(node->value, c->value, c->len);
	}
	return node;
}

/* The first node with a key >= key, deleted ones too. path (unless NULL) gets,
 * for each level, the array whose entry at that level points there or beyond;
 * *ret_before (unless NULL) the node in front. */
static struct node *find(struct memory *m, const char *key, struct node **path[LEVELS],
			 struct node **ret_before)
{
	struct node **at = m->next;
	struct node *before = NULL;

	for (int level = LEVELS - 1; level >= 0; level--) {
		while (at[level] && strcmp(at[level]->key, key) < 0) {
			before = at[level];
			at = before->next;
		}
		if (path)
			path[level] = at;
	}
	if (ret_before)
		*ret_before = before;
	return at[0];
}

static struct node *find_exact(struct memory *m, const char *key)
{
	struct node *node = find(m, key, NULL, NULL);

	return node && !strcmp(node->key, key) ? node : NULL;
}

static void node_insert(struct memory *m, struct node *node)
{
	struct node **path[LEVELS], *before;

	find(m, node->key, path, &before);
	for (int level = 0; level < node->levels; level++) {
		node->next[level] = path[level][level];
		path[level][level] = node;
	}
	node->before = before;
	*(node->next[0] ? &node->next[0]->before : &m->last) = node;
}

static void node_remove(struct memory *m, struct node *node)
{
	struct node **path[LEVELS];

	find(m, node->key, path, NULL);
	for (int level = 0; level < node->levels; level++)
		path[level][level] = node->next[level];
	*(node->next[0] ? &node->next[0]->before : &m->last) = node->before;
	davit_list_remove(&node->by_revision);
	davit_list_remove(&node->deletion);
	node_free(node);
}

/* --- transactions --- */

/* Puts the node where the present transaction's changes are, in key order: at
 * the end, after a few steps back when keys come unsorted. */
static void stamp(struct memory *m, struct node *node, int64_t revision)
{
	struct davit_list *at;

	davit_list_remove(&node->by_revision);
	node->mod_revision = revision;
	for (at = m->by_revision.prev; at != &m->by_revision; at = at->prev) {
		struct node *other = DAVIT_CONTAINER_OF(at, struct node, by_revision);
		if (other->mod_revision < revision || strcmp(other->key, node->key) < 0)
			break;
	}
	davit_list_add_head(at, &node->by_revision);
}

static void put(struct memory *m, struct node *fresh, int64_t revision)
{
	struct node *node = find_exact(m, fresh->key);

	if (!node) {
		node_insert(m, fresh);
		stamp(m, fresh, revision);
		return;
	}
	free(node->value);
	node->value = DAVIT_TAKE(fresh->value);
	node->len = fresh->len;
	node->deleted = false;
	davit_list_remove(&node->deletion);
	stamp(m, node, revision);
	node_free(fresh);
}

static bool delete (struct memory *m, struct node *node, int64_t revision)
{
	if (!node || node->deleted)
		return false;
	free(node->value);
	node->value = NULL;
	node->len = 0;
	node->deleted = true;
	davit_list_add_tail(&m->deletions, &node->deletion);
	stamp(m, node, revision);
	return true;
}

static bool apply_change(struct memory *m, struct job *job, size_t i, int64_t revision)
{
	const struct davit_store_change *c = &job->changes[i];
	bool any = false;

	switch (c->verb) {
	case DAVIT_STORE_PUT:
		put(m, DAVIT_TAKE(job->nodes[i]), revision);
		return true;
	case DAVIT_STORE_DELETE:
		return delete (m, find_exact(m, c->key), revision);
	case DAVIT_STORE_DELETE_RANGE:
		for (struct node *node = find(m, c->key, NULL, NULL);
		     node && strcmp(node->key, c->key_end) < 0; node = node->next[0])
			any |= delete (m, node, revision);
		return any;
	}
	return false;
}

static int check(struct memory *m, const struct job *job, struct davit_error *err)
{
	for (size_t i = 0; i < job->n; i++) {
		const struct davit_store_change *c = &job->changes[i];
		struct node *node = c->check ? find_exact(m, c->key) : NULL;
		int64_t have = node && !node->deleted ? node->mod_revision : 0;

		if (c->check && have != c->expect)
			return davit_error_set(err, DAVIT_ECONFLICT, "store",
					       "'%s' is at revision %" PRId64 ", not at %" PRId64, c->key,
					       have, c->expect);
	}
	return 0;
}

/* Forgets deletions that are too old. */
static void compact(struct memory *m)
{
	for (;;) {
		struct node *node = DAVIT_LIST_FIRST(&m->deletions, struct node, deletion);
		if (!node || node->mod_revision > m->revision - DAVIT_STORE_KEEP_DELETIONS)
			return;
		m->compacted = node->mod_revision;
		node_remove(m, node);
	}
}

static void tell_last(struct memory *m)
{
	struct davit_list *at = &m->by_revision;

	if (!m->watches.first)
		return;
	while (at->prev != &m->by_revision &&
	       DAVIT_CONTAINER_OF(at->prev, struct node, by_revision)->mod_revision == m->revision)
		at = at->prev;
	for (; at != &m->by_revision; at = at->next) {
		struct davit_kv kv = node_kv(DAVIT_CONTAINER_OF(at, struct node, by_revision));
		davit_watches_tell(&m->watches, &kv);
	}
	davit_watches_told(&m->watches, m->revision);
}

static void job_free(struct job *job)
{
	if (!job)
		return;
	for (size_t i = 0; i < job->n; i++)
		node_free(job->nodes[i]);
	free(job->changes);
	free(job);
}

static void job_run(struct memory *m, struct job *job, bool tell)
{
	struct davit_store_txn *txn = job->txn;
	struct davit_error err = {0};
	bool changed = false;

	if (check(m, job, &err) < 0) {
		davit_op_fail_error(&txn->op, &err);
		job_free(job);
		return;
	}
	for (size_t i = 0; i < job->n; i++)
		changed |= apply_change(m, job, i, m->revision + 1);
	job_free(job);
	if (changed) {
		m->revision++;
		if (tell)
			tell_last(m);
		compact(m);
	}
	txn->ret_revision = m->revision;
	davit_op_complete(&txn->op, 0);
}

static void on_work(struct davit_deferred *d)
{
	struct memory *m = DAVIT_CONTAINER_OF(d, struct memory, work);
	struct job *job = DAVIT_LIST_FIRST(&m->jobs, struct job, link);

	/* One at a time: a watch that commits must not keep others out. */
	davit_list_remove(&job->link);
	if (!davit_list_empty(&m->jobs))
		davit_defer(&m->work);
	job_run(m, job, true);
}

/* --- the driver --- */

static int memory_catch_up(struct davit_store *s, struct davit_store_watch *w, int64_t *ret_revision,
			   struct davit_error *err)
{
	struct memory *m = davit_store_state(s);
	struct davit_list *at = &m->by_revision;
	int64_t first = w->next_revision;

	if (first <= m->compacted)
		return davit_error_set(err, DAVIT_ECOMPACTED, "store",
				       "deletions up to revision %" PRId64 " are forgotten", m->compacted);
	*ret_revision = m->revision;
	while (at->prev != &m->by_revision &&
	       DAVIT_CONTAINER_OF(at->prev, struct node, by_revision)->mod_revision >= first)
		at = at->prev;
	/* Callbacks cannot change the list: commits are applied from the loop. */
	for (; at != &m->by_revision; at = at->next) {
		struct davit_kv kv = node_kv(DAVIT_CONTAINER_OF(at, struct node, by_revision));
		if (!davit_watch_tell(&m->watches, w, &kv))
			break;
	}
	return 0;
}

static int memory_open(struct davit_store *s, const char *where, struct davit_error *err)
{
	struct memory *m = davit_store_state(s);

	if (where && *where)
		return davit_error_set(err, DAVIT_EINVAL, "where",
				       "the memory store is nowhere: '%s' means nothing to it", where);
	m->seed = UINT64_C(0x2545f4914f6cdd1d);
	davit_list_init(&m->by_revision);
	davit_list_init(&m->deletions);
	davit_list_init(&m->jobs);
	davit_deferred_init(&m->work, s->loop, on_work);
	davit_watches_init(&m->watches, s, memory_catch_up);
	return 0;
}

static void memory_close(struct davit_store *s)
{
	struct memory *m = davit_store_state(s);
	struct node *node = NULL;
	struct job *job;

	davit_watches_fini(&m->watches);
	davit_deferred_cancel(&m->work);
	while ((job = DAVIT_LIST_FIRST(&m->jobs, struct job, link))) {
		davit_list_remove(&job->link);
		job_run(m, job, false);
	}
	while ((node = m->next[0])) {
		m->next[0] = node->next[0];
		node_free(node);
	}
}

static void memory_commit(struct davit_store *s, const struct davit_store_change *changes, size_t n,
			  struct davit_store_txn *txn)
{
	struct memory *m = davit_store_state(s);
	struct job *job = calloc(1, sizeof *job + n * sizeof job->nodes[0]);
	bool ok = job && (job->changes = davit_store_changes_copy(changes, n, false));

	if (job)
		job->n = n;
	for (size_t i = 0; ok && i < n; i++) {
		if (changes[i].verb == DAVIT_STORE_PUT)
			ok = (job->nodes[i] = node_new(m, &changes[i]));
	}
	if (!ok) {
		job_free(job);
		davit_op_fail(&txn->op, DAVIT_ENOMEM, "store", "out of memory");
		return;
	}
	job->txn = txn;
	davit_list_init(&job->link);
	davit_list_add_tail(&m->jobs, &job->link);
	davit_defer(&m->work);
}

static bool list_one(const struct node *node, davit_store_list_fn *fn, void *user)
{
	struct davit_kv kv = node_kv(node);

	return fn(user, &kv);
}

static int memory_list(struct davit_store *s, const char *prefix, const char *from, size_t limit,
		       davit_store_list_fn *fn, void *user, int64_t *ret_revision, struct davit_error *err)
{
	struct memory *m = davit_store_state(s);
	size_t n, told = 0;

	(void)err; /* nothing here can fail */
	prefix = prefix ? prefix : "";
	n = strlen(prefix);
	if (ret_revision)
		*ret_revision = m->revision;
	for (struct node *node = find(m, davit_store_list_start(prefix, from), NULL, NULL);
	     node && !strncmp(node->key, prefix, n); node = node->next[0]) {
		if (node->deleted)
			continue;
		if (!list_one(node, fn, user) || ++told == limit)
			break;
	}
	return 0;
}

static int memory_list_reverse(struct davit_store *s, const char *prefix, size_t limit,
			       davit_store_list_fn *fn, void *user, int64_t *ret_revision,
			       struct davit_error *err)
{
	struct memory *m = davit_store_state(s);
	char end[DAVIT_STORE_KEY_MAX + 1];
	struct node *node = m->last;
	size_t n, told = 0;

	(void)err;
	prefix = prefix ? prefix : "";
	n = strlen(prefix);
	if (ret_revision)
		*ret_revision = m->revision;
	if (davit_store_prefix_end(prefix, end))
		find(m, end, NULL, &node);
	for (; node && !strncmp(node->key, prefix, n); node = node->before) {
		if (node->deleted)
			continue;
		if (!list_one(node, fn, user) || ++told == limit)
			break;
	}
	return 0;
}

static int memory_watch(struct davit_store *s, const char *prefix, int64_t after, struct davit_store_watch *w,
			struct davit_error *err)
{
	struct memory *m = davit_store_state(s);

	if (after < m->compacted)
		return davit_error_set(err, DAVIT_ECOMPACTED, "store",
				       "deletions up to revision %" PRId64 " are forgotten", m->compacted);
	return davit_watches_add(&m->watches, prefix, after, w, err);
}

static void memory_unwatch(struct davit_store *s, struct davit_store_watch *w)
{
	struct memory *m = davit_store_state(s);

	davit_watches_remove(&m->watches, w);
}

static int memory_health(struct davit_store *s, struct davit_error *err)
{
	(void)s;
	(void)err; /* memory does not fail */
	return 0;
}

void davit_memory_break_watches(struct davit_store *s, const struct davit_error *err)
{
	struct memory *m = davit_store_state(s);

	davit_watches_break(&m->watches, err);
}

const struct davit_store_driver davit_memory_store = {
	.abi = DAVIT_STORE_ABI,
	.name = "memory",
	.summary = "everything in memory, gone with the daemon",
	.store_size = sizeof(struct memory),
	.open = memory_open,
	.close = memory_close,
	.commit = memory_commit,
	.list = memory_list,
	.list_reverse = memory_list_reverse,
	.watch = memory_watch,
	.unwatch = memory_unwatch,
	.health = memory_health,
};
