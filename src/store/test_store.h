/* SPDX-License-Identifier: MIT
 *
 * What tests of stores share: a fixture with an open store, and calls that wait.
 * The driver under test is given when this is compiled: TEST_DRIVER, TEST_DURABLE
 * (it needs a file) and TEST_VIRTUAL (on the virtual loop).
 */
#ifndef DAVIT_STORE_TEST_STORE_H
#define DAVIT_STORE_TEST_STORE_H

#include "base/buf.h"
#include "davit/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#define PUT(k, v)                                                                                            \
	{                                                                                                    \
		.verb = DAVIT_STORE_PUT, .key = (k), .value = (v), .len = sizeof(v) - 1                      \
	}
#define DELETE(k)                                                                                            \
	{                                                                                                    \
		.verb = DAVIT_STORE_DELETE, .key = (k)                                                       \
	}
#define RANGE(k, e)                                                                                          \
	{                                                                                                    \
		.verb = DAVIT_STORE_DELETE_RANGE, .key = (k), .key_end = (e)                                 \
	}

struct fixture {
	struct davit_loop *loop;
	struct davit_store *store;
	char dir[64];
	char path[96];		  /* the store's file; empty for memory */
	struct davit_error error; /* of the last commit that failed */
	struct davit_buf text;	  /* behind listed() */
};

/* A transaction to wait for. */
struct waiter {
	struct davit_store_txn txn;
	bool done;
	int result;
};

/* A watch that writes down what it is told: "key=value@revision", "-key@revision". */
struct watcher {
	struct davit_store_watch w;
	struct fixture *f;
	char told[256];
	int broken; /* the code */
	/* What its first callback does. */
	struct watcher *end_on_change;
	struct watcher *also_watch;
	const char *also_put;
	struct waiter waiter;
	char seen[64]; /* a listing made in the callback */
};

struct counted {
	int seen;
	bool sorted;
	char last[DAVIT_STORE_KEY_MAX + 1];
};

int open_fixture(void **state);
int close_fixture(void **state);
/* Opens the fixture's store (again) and asserts that it worked. */
void open_store(struct fixture *f);
/* Lets the loop do what it can do now. */
void pump(struct fixture *f);

void start(struct fixture *f, struct waiter *t, const struct davit_store_change *c, size_t n);
/* The done callback of a waiter's operation; its user is the waiter. */
void waiter_done(struct davit_op *op, int result);
void finish(struct fixture *f, struct waiter *t);
/* The revision, or the error's code (then described in f->error). */
int64_t commit(struct fixture *f, const struct davit_store_change *c, size_t n);
int64_t put(struct fixture *f, const char *key, const char *value);
int64_t delete (struct fixture *f, const char *key);

/* "key=value key=value", valid until the next call. */
const char *listed(struct fixture *f, const char *prefix, const char *from, size_t limit);
const char *listed_back(struct fixture *f, const char *prefix, size_t limit);
int64_t revision(struct fixture *f);
int64_t revision_of(struct fixture *f, const char *key);
bool holds(struct fixture *f, const char *key, const void *value, size_t len);
/* A davit_store_list_fn for a struct counted. */
bool count_sorted(void *user, const struct davit_kv *kv);

void watch(struct fixture *f, struct watcher *w, const char *prefix, int64_t after);
/* The code with which watching fails, at once or through `broken`; else 0. */
int watch_code(struct fixture *f, struct watcher *w, const char *prefix, int64_t after);
void unwatch(struct fixture *f, struct watcher *w);
void expect_told(struct fixture *f, struct watcher *w, const char *told);

#endif
