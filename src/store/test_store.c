/* SPDX-License-Identifier: MIT */
#include "store/test_store.h"

#include "base/file.h"
#include "base/units.h"
#include "base/util.h"
#include "store/faulty.h"
#include "store/stores.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

/* --- the fixture --- */

void open_store(struct fixture *f)
{
	struct davit_error err = {0};

	if (davit_store_open(&TEST_DRIVER, f->loop, f->path, &f->store, &err) < 0)
		fail_msg("cannot open the store: %s", err.message);
}

int open_fixture(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct davit_error err = {0};

	*state = f;
	if (TEST_DURABLE) {
		snprintf(f->dir, sizeof f->dir, "/tmp/davit-store-test-XXXXXX");
		assert_non_null(mkdtemp(f->dir));
		snprintf(f->path, sizeof f->path, "%s/store.db", f->dir);
	}
	if (TEST_VIRTUAL)
		assert_int_equal(davit_loop_open_virtual(1, &f->loop, &err), 0);
	else
		assert_int_equal(davit_loop_open(&f->loop, &err), 0);
	open_store(f);
	return 0;
}

int close_fixture(void **state)
{
	struct fixture *f = *state;

	davit_store_close(f->store);
	pump(f);
	davit_loop_close(f->loop);
	if (*f->dir)
		assert_int_equal(davit_remove_tree(f->dir, NULL), 0);
	davit_buf_fini(&f->text);
	free(f);
	return 0;
}

void pump(struct fixture *f)
{
	if (davit_loop_uv(f->loop))
		uv_run(davit_loop_uv(f->loop), UV_RUN_NOWAIT);
	else
		davit_loop_step(f->loop);
}

static int64_t now(void)
{
	return (int64_t)uv_hrtime();
}

/* A minute to become true, which no machine is too busy for, then the test fails. */
#define EVENTUALLY(f, condition)                                                                             \
	for (int64_t until_ = now() + 60 * DAVIT_NSEC_PER_SEC; !(condition);) {                              \
		pump(f);                                                                                     \
		if (!(condition))                                                                            \
			usleep(50);                                                                          \
		if (now() > until_)                                                                          \
			fail_msg("still not: %s", #condition);                                               \
	}

/* --- commits --- */

void waiter_done(struct davit_op *op, int result)
{
	struct waiter *t = op->user;

	t->done = true;
	t->result = result;
}

void start(struct fixture *f, struct waiter *t, const struct davit_store_change *c, size_t n)
{
	*t = (struct waiter){0};
	davit_op_init(&t->txn.op, f->loop, waiter_done, t);
	davit_store_commit(f->store, c, n, &t->txn, 0);
	assert_false(t->done);
}

void finish(struct fixture *f, struct waiter *t)
{
	EVENTUALLY(f, t->done);
	if (t->result < 0)
		f->error = t->txn.op.error;
}

int64_t commit(struct fixture *f, const struct davit_store_change *c, size_t n)
{
	struct waiter t;

	start(f, &t, c, n);
	finish(f, &t);
	return t.result < 0 ? t.result : t.txn.ret_revision;
}

int64_t put(struct fixture *f, const char *key, const char *value)
{
	struct davit_store_change c = {
		.verb = DAVIT_STORE_PUT, .key = key, .value = value, .len = strlen(value)};
	int64_t r = commit(f, &c, 1);

	if (r < 0)
		fail_msg("put: %s", f->error.message);
	return r;
}

int64_t delete (struct fixture *f, const char *key)
{
	struct davit_store_change c = DELETE(key);
	int64_t r = commit(f, &c, 1);

	if (r < 0)
		fail_msg("delete: %s", f->error.message);
	return r;
}

/* --- reads --- */

static bool note(void *user, const struct davit_kv *kv)
{
	struct davit_buf *b = user;

	assert_false(kv->deleted);
	assert_true(kv->mod_revision > 0);
	if (b->len)
		davit_buf_addc(b, ' ');
	davit_buf_addf(b, "%s=%.*s", kv->key, (int)kv->len, (const char *)kv->value);
	return true;
}

const char *listed(struct fixture *f, const char *prefix, const char *from, size_t limit)
{
	struct davit_error err = {0};

	davit_buf_reset(&f->text);
	if (f->store->driver->list(f->store, prefix, from, limit, note, &f->text, NULL, &err) < 0)
		fail_msg("list: %s", err.message);
	return davit_buf_str(&f->text);
}

const char *listed_back(struct fixture *f, const char *prefix, size_t limit)
{
	struct davit_error err = {0};

	davit_buf_reset(&f->text);
	if (f->store->driver->list_reverse(f->store, prefix, limit, note, &f->text, NULL, &err) < 0)
		fail_msg("list_reverse: %s", err.message);
	return davit_buf_str(&f->text);
}

static bool ignore(void *user, const struct davit_kv *kv)
{
	(void)user;
	(void)kv;
	return true;
}

int64_t revision(struct fixture *f)
{
	int64_t r = -1, back = -1;

	assert_int_equal(f->store->driver->list(f->store, NULL, NULL, 1, ignore, NULL, &r, NULL), 0);
	assert_int_equal(f->store->driver->list_reverse(f->store, NULL, 1, ignore, NULL, &back, NULL), 0);
	assert_int_equal(r, back);
	return r;
}

static bool note_revision(void *user, const struct davit_kv *kv)
{
	*(int64_t *)user = kv->mod_revision;
	return true;
}

int64_t revision_of(struct fixture *f, const char *key)
{
	int64_t r = -1;

	assert_int_equal(f->store->driver->list(f->store, key, NULL, 1, note_revision, &r, NULL, NULL), 0);
	return r;
}

struct expected {
	const void *value;
	size_t len;
	bool same;
};

static bool compare(void *user, const struct davit_kv *kv)
{
	struct expected *e = user;

	e->same = kv->len == e->len && kv->value && !memcmp(kv->value, e->value, e->len);
	return true;
}

bool holds(struct fixture *f, const char *key, const void *value, size_t len)
{
	struct expected e = {.value = value, .len = len};

	assert_int_equal(f->store->driver->list(f->store, key, NULL, 1, compare, &e, NULL, NULL), 0);
	return e.same;
}

bool count_sorted(void *user, const struct davit_kv *kv)
{
	struct counted *n = user;

	n->sorted = (n->seen == 0 || n->sorted) && strcmp(n->last, kv->key) < 0;
	snprintf(n->last, sizeof n->last, "%s", kv->key);
	n->seen++;
	return true;
}

/* --- watches --- */

static void on_change(struct davit_store_watch *watch_, const struct davit_kv *kv)
{
	struct watcher *w = watch_->user;

	size_t at = strlen(w->told);

	assert_true(!kv->deleted || (!kv->value && !kv->len));
	snprintf(w->told + at, sizeof w->told - at, "%s%s%s%s%.*s@%" PRId64, at ? " " : "",
		 kv->deleted ? "-" : "", kv->key, kv->deleted ? "" : "=", (int)kv->len,
		 kv->deleted ? "" : (const char *)kv->value, kv->mod_revision);
	if (w->end_on_change) {
		struct davit_store_watch *end = &DAVIT_TAKE(w->end_on_change)->w;
		w->f->store->driver->unwatch(w->f->store, end);
	}
	if (w->also_watch)
		watch(w->f, DAVIT_TAKE(w->also_watch), "", 0);
	if (w->also_put) {
		const char *key = DAVIT_TAKE(w->also_put);
		struct davit_store_change c = {.verb = DAVIT_STORE_PUT, .key = key, .value = "1", .len = 1};
		snprintf(w->seen, sizeof w->seen, "%s", listed(w->f, NULL, NULL, 0));
		start(w->f, &w->waiter, &c, 1);
	}
}

static void on_broken(struct davit_store_watch *watch_, int code, const struct davit_error *err)
{
	struct watcher *w = watch_->user;

	assert_int_equal(err->code, code);
	w->broken = code;
}

int watch_code(struct fixture *f, struct watcher *w, const char *prefix, int64_t after)
{
	int r;

	*w = (struct watcher){.f = f, .w = {.user = w, .change = on_change, .broken = on_broken}};
	r = f->store->driver->watch(f->store, prefix, after, &w->w, &f->error);
	if (r < 0)
		return r;
	pump(f);
	return w->broken;
}

void watch(struct fixture *f, struct watcher *w, const char *prefix, int64_t after)
{
	*w = (struct watcher){.f = f, .w = {.user = w, .change = on_change, .broken = on_broken}};
	assert_int_equal(f->store->driver->watch(f->store, prefix, after, &w->w, NULL), 0);
}

void unwatch(struct fixture *f, struct watcher *w)
{
	f->store->driver->unwatch(f->store, &w->w);
}

void expect_told(struct fixture *f, struct watcher *w, const char *told)
{
	for (int i = 0; i < 3; i++)
		pump(f);
	for (int64_t until = now() + 5 * DAVIT_NSEC_PER_SEC; strcmp(w->told, told) != 0 && now() < until;
	     usleep(50))
		pump(f);
	assert_string_equal(w->told, told);
}
