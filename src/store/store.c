/* SPDX-License-Identifier: MIT */
#include "davit/store.h"

#include "base/util.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The driver's state follows struct davit_store and must be aligned for it. */
_Static_assert(sizeof(struct davit_store) % _Alignof(int64_t) == 0, "driver state would be misaligned");

int davit_store_driver_validate(const struct davit_store_driver *d, struct davit_error *err)
{
	const char *name;

	if (!d)
		return davit_error_set(err, DAVIT_EINVAL, "driver", "there is no store driver");
	if (d->abi != DAVIT_STORE_ABI)
		return davit_error_set(err, DAVIT_ENOTSUP, "abi",
				       "the store driver is made for ABI %" PRIu32 ", this davit has %d",
				       d->abi, DAVIT_STORE_ABI);
	name = d->name ? d->name : "?";
#define MANDATORY(slot)                                                                                      \
	if (!d->slot)                                                                                        \
	return davit_error_set(err, DAVIT_EINVAL, #slot, "the store driver '%s' lacks '" #slot "'", name)
	MANDATORY(name);
	MANDATORY(summary);
	MANDATORY(open);
	MANDATORY(close);
	MANDATORY(commit);
	MANDATORY(list);
	MANDATORY(list_reverse);
	MANDATORY(watch);
	MANDATORY(unwatch);
	MANDATORY(health);
#undef MANDATORY
	return 0;
}

int davit_store_open(const struct davit_store_driver *driver, struct davit_loop *loop, const char *where,
		     struct davit_store **ret, struct davit_error *err)
{
	struct davit_store *s;
	int r = davit_store_driver_validate(driver, err);

	if (r < 0)
		return r;
	s = calloc(1, sizeof *s + driver->store_size);
	if (!s)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	s->driver = driver;
	s->loop = loop;
	r = driver->open(s, where, err);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void davit_store_close(struct davit_store *s)
{
	if (!s)
		return;
	s->driver->close(s);
	free(s);
}

static int check_key(const char *key, struct davit_error *err)
{
	size_t n = key ? strnlen(key, DAVIT_STORE_KEY_MAX + 1) : 0;

	if (!n)
		return davit_error_set(err, DAVIT_EINVAL, "key", "a key must not be empty");
	if (n > DAVIT_STORE_KEY_MAX)
		return davit_error_set(err, DAVIT_EINVAL, "key", "the key '%.60s...' is longer than %d bytes",
				       key, DAVIT_STORE_KEY_MAX);
	return 0;
}

static int check_change(const struct davit_store_change *c, struct davit_error *err)
{
	int r = check_key(c->key, err);

	if (r < 0)
		return r;
	switch (c->verb) {
	case DAVIT_STORE_PUT:
		if (c->len > DAVIT_STORE_VALUE_MAX)
			return davit_error_set(err, DAVIT_EINVAL, "value",
					       "the value of '%s' has %zu bytes, a value has at most %d",
					       c->key, c->len, DAVIT_STORE_VALUE_MAX);
		if (c->len && !c->value)
			return davit_error_set(err, DAVIT_EINVAL, "value", "the value of '%s' is missing",
					       c->key);
		return 0;
	case DAVIT_STORE_DELETE:
		return 0;
	case DAVIT_STORE_DELETE_RANGE:
		return check_key(c->key_end, err);
	}
	return davit_error_set(err, DAVIT_EINVAL, "verb", "no such change: %d", (int)c->verb);
}

void davit_store_commit(struct davit_store *s, const struct davit_store_change *changes, size_t n,
			struct davit_store_txn *txn, int64_t timeout_ns)
{
	struct davit_error err = {0};

	davit_op_begin(&txn->op, timeout_ns);
	txn->driver = NULL;
	for (size_t i = 0; i < n; i++) {
		if (check_change(&changes[i], &err) < 0) {
			davit_op_fail_error(&txn->op, &err);
			return;
		}
	}
	s->driver->commit(s, changes, n, txn);
}
