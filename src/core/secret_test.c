/* SPDX-License-Identifier: MIT */
#include "core/secret.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/util.h"
#include "store/stores.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#include <cmocka.h>

#define PLAIN "correct horse battery staple"

struct fixture {
	struct davit_loop *loop;
	struct davit_store *store;
	struct davit_secrets *secrets;
	char dir[64], db[96], key[96];
	struct davit_error err;
	bool done;
	int result;
};

static void open_all(struct fixture *f)
{
	assert_int_equal(davit_store_open(&davit_sqlite_store, f->loop, f->db, &f->store, &f->err), 0);
	assert_int_equal(davit_secrets_open(f->dir, f->dir, f->store, &f->secrets, &f->err), 0);
}

static void close_all(struct fixture *f)
{
	davit_secrets_close(f->secrets);
	davit_store_close(f->store);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	*state = f;
	snprintf(f->dir, sizeof f->dir, "/tmp/davit-secret-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->db, sizeof f->db, "%s/store.db", f->dir);
	snprintf(f->key, sizeof f->key, "%s/secret.key", f->dir);
	assert_int_equal(davit_loop_open(&f->loop, &f->err), 0);
	open_all(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close_all(f);
	davit_loop_close(f->loop);
	assert_int_equal(davit_remove_tree(f->dir, NULL), 0);
	free(f);
	return 0;
}

static void on_done(struct davit_op *op, int result)
{
	struct fixture *f = op->user;

	f->done = true;
	f->result = result;
}

/* Waits for an op that call has begun; its result. */
static int finish(struct fixture *f, int called)
{
	if (called)
		return called;
	for (int i = 0; i < 100000 && !f->done; i++) {
		uv_run(davit_loop_uv(f->loop), UV_RUN_NOWAIT);
		if (!f->done)
			usleep(100);
	}
	assert_true(f->done);
	return f->result;
}

static int set(struct fixture *f, const char *namespace_, const char *name, const char *value)
{
	struct davit_op op;

	f->done = false;
	davit_op_init(&op, f->loop, on_done, f);
	return finish(f, davit_secrets_set(f->secrets, namespace_, name, value, strlen(value), &op, &f->err));
}

static int unset(struct fixture *f, const char *namespace_, const char *name)
{
	struct davit_op op;

	f->done = false;
	davit_op_init(&op, f->loop, on_done, f);
	return finish(f, davit_secrets_remove(f->secrets, namespace_, name, &op, &f->err));
}

static void assert_value(struct fixture *f, const char *namespace_, const char *name, const char *want)
{
	struct davit_secret v;

	if (davit_secrets_get(f->secrets, namespace_, name, &v, &f->err))
		fail_msg("%s", f->err.message);
	assert_string_equal(v.data, want);
	assert_int_equal(v.len, strlen(want));
	davit_secret_wipe(&v);
	assert_null(v.data);
}

static void assert_refused(struct fixture *f, const char *name, int code, const char *words)
{
	struct davit_secret v = {0};

	assert_int_equal(davit_secrets_get(f->secrets, "default", name, &v, &f->err), code);
	if (!strstr(f->err.message, words))
		fail_msg("'%s' says nothing of '%s'", f->err.message, words);
	assert_null(v.data);
}

/* Does any file in the fixture's directory contain the text? */
static bool on_disk(struct fixture *f, const char *text)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	bool found = false;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(suffixes); i++) {
		DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
		char path[128];

		snprintf(path, sizeof path, "%s%s", f->db, suffixes[i]);
		if (!davit_read_file(path, 64 << 20, &b, NULL))
			found |= b.len && memmem(b.data, b.len, text, strlen(text));
	}
	return found;
}

static void a_secret_comes_back_after_a_restart(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	assert_int_equal(set(f, "default", "token2", "other"), 0);
	assert_int_equal(set(f, "default", "empty", ""), 0);
	close_all(f);
	open_all(f);
	assert_value(f, "default", "token", PLAIN);
	assert_value(f, "default", "token2", "other");
	assert_value(f, "default", "empty", "");
	assert_int_equal(set(f, "default", "token", "new"), 0);
	assert_value(f, "default", "token", "new");
}

static void the_store_never_holds_plain_text(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	close_all(f);
	assert_true(on_disk(f, "secrets/default/token")); /* the test can see what is there */
	assert_false(on_disk(f, PLAIN));
	assert_false(on_disk(f, "battery"));
	open_all(f);
}

static void the_key_is_its_owners_alone(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(stat(f->key, &st), -1); /* not before it is needed */
	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	assert_int_equal(stat(f->key, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 32);
	assert_int_equal(chmod(f->key, 0640), 0);
	close_all(f);
	open_all(f);
	assert_refused(f, "token", DAVIT_EPERM, "0600");
}

static void a_missing_key_is_an_error_and_not_a_new_key(void **state)
{
	struct fixture *f = *state;
	char kept[128];

	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	snprintf(kept, sizeof kept, "%s.kept", f->key);
	assert_int_equal(rename(f->key, kept), 0);
	close_all(f);
	open_all(f);
	assert_refused(f, "token", DAVIT_ECORRUPT, "is missing");
	assert_int_equal(set(f, "default", "another", "x"), DAVIT_ECORRUPT);
	assert_int_equal(access(f->key, F_OK), -1);
	/* and the right file is all that it takes to recover */
	assert_int_equal(rename(kept, f->key), 0);
	assert_value(f, "default", "token", PLAIN);
}

static void a_wrong_key_is_told_from_a_damaged_record(void **state)
{
	struct fixture *f = *state;
	char wrong[32] = "this is not the key it should be";

	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	close_all(f);
	assert_int_equal(davit_write_file(f->key, wrong, sizeof wrong, 0600, NULL), 0);
	open_all(f);
	assert_refused(f, "token", DAVIT_ECORRUPT, "not the key");
	assert_int_equal(set(f, "default", "another", "x"), DAVIT_ECORRUPT);
	close_all(f);
	assert_int_equal(davit_write_file(f->key, wrong, 5, 0600, NULL), 0);
	open_all(f);
	assert_refused(f, "token", DAVIT_ECORRUPT, "is damaged");
}

struct copied {
	char value[512];
	size_t len;
};

static bool copy_value(void *user, const struct davit_kv *kv)
{
	struct copied *c = user;

	c->len = kv->len;
	memcpy(c->value, kv->value, kv->len);
	return false;
}

static void put_raw(struct fixture *f, const char *key, const void *value, size_t len)
{
	struct davit_store_txn txn = {0};

	f->done = false;
	davit_op_init(&txn.op, f->loop, on_done, f);
	davit_store_commit(
		f->store,
		&(struct davit_store_change){.verb = DAVIT_STORE_PUT, .key = key, .value = value, .len = len},
		1, &txn, 0);
	assert_int_equal(finish(f, 0), 0);
}

static void a_record_moved_or_changed_does_not_open(void **state)
{
	struct fixture *f = *state;
	struct copied c = {0};
	int64_t revision;

	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	assert_int_equal(f->store->driver->list(f->store, "secrets/default/token", NULL, 1, copy_value, &c,
						&revision, &f->err),
			 0);
	assert_true(c.len > strlen(PLAIN));
	put_raw(f, "secrets/default/admin", c.value, c.len);
	assert_refused(f, "admin", DAVIT_ECORRUPT, "damaged");
	for (size_t i = 0; i < c.len; i++) { /* every byte counts, times and nonce included */
		struct copied bad = c;
		bad.value[i] ^= 1;
		put_raw(f, "secrets/default/token", bad.value, bad.len);
		assert_refused(f, "token", DAVIT_ECORRUPT, i >= 8 && i < 24 ? "another key" : "damaged");
	}
	put_raw(f, "secrets/default/token", c.value, 10);
	assert_refused(f, "token", DAVIT_ECORRUPT, "damaged");
	put_raw(f, "secrets/default/token", c.value, c.len);
	assert_value(f, "default", "token", PLAIN);
}

static bool note(void *user, const struct davit_secret_info *info)
{
	char *out = user;

	assert_true(info->created > 0 && info->updated >= info->created);
	sprintf(out + strlen(out), "%s/%s ", info->namespace_, info->name);
	return true;
}

static void a_listing_has_names_and_times_of_one_namespace(void **state)
{
	struct fixture *f = *state;
	char seen[256] = "";

	assert_int_equal(set(f, "default", "b", "1"), 0);
	assert_int_equal(set(f, "default", "a", "2"), 0);
	assert_int_equal(set(f, "default2", "c", "3"), 0);
	put_raw(f, "secrets/default/broken", "x", 1);
	assert_int_equal(davit_secrets_list(f->secrets, "default", note, seen, &f->err), 0);
	assert_string_equal(seen, "default/a default/b ");
	*seen = '\0';
	assert_int_equal(davit_secrets_list(f->secrets, NULL, note, seen, &f->err), 0);
	assert_string_equal(seen, "default/a default/b default2/c ");
}

static void a_removed_secret_is_gone(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "default", "token2", "2"), 0);
	assert_int_equal(unset(f, "default", "token"), DAVIT_ENOENT); /* no match by prefix */
	assert_string_equal(f->err.message, "secret 'token' not found in namespace 'default'");
	assert_int_equal(unset(f, "default", "token2"), 0);
	assert_refused(f, "token2", DAVIT_ENOENT, "not found");
}

static void bad_names_and_sizes_are_refused(void **state)
{
	struct fixture *f = *state;
	char *big = calloc(1, DAVIT_SECRET_MAX + 2);

	memset(big, 'x', DAVIT_SECRET_MAX + 1);
	assert_int_equal(set(f, "default", "big", big), DAVIT_EINVAL);
	big[DAVIT_SECRET_MAX] = '\0';
	assert_int_equal(set(f, "default", "big", big), 0);
	assert_value(f, "default", "big", big);
	free(big);
	assert_int_equal(set(f, "default", "../x", "1"), DAVIT_EINVAL);
	assert_int_equal(set(f, "a/b", "x", "1"), DAVIT_EINVAL);
	assert_int_equal(set(f, "default", "", "1"), DAVIT_EINVAL);
}

static void files_for_a_workload_are_private_and_in_memory(void **state)
{
	struct fixture *f = *state;
	struct davit_secret_ref refs[] = {
		{.name = "token"}, {.name = "asenv", .env = "X"}, {.name = "other"}};
	DAVIT_AUTO_FREE char *dir = NULL;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	char path[256];
	struct stat st;

	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	assert_int_equal(set(f, "default", "asenv", "2"), 0);
	assert_int_equal(davit_secrets_materialise(f->secrets, "0123456789abcdef", "default", refs, 3,
						   (uid_t)-1, (gid_t)-1, &dir, &f->err),
			 DAVIT_ENOENT); /* "other": nothing is left behind */
	assert_null(dir);
	assert_int_equal(set(f, "default", "other", "3"), 0);
	if (davit_secrets_materialise(f->secrets, "0123456789abcdef", "default", refs, 3, (uid_t)-1,
				      (gid_t)-1, &dir, &f->err))
		fail_msg("%s", f->err.message);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	snprintf(path, sizeof path, "%s/token", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(davit_read_file(path, 1000, &b, &f->err), 0);
	assert_string_equal(b.data, PLAIN);
	snprintf(path, sizeof path, "%s/asenv", dir);
	assert_int_equal(access(path, F_OK), -1);
	/* again, with fewer: what is no longer wanted goes */
	free(DAVIT_TAKE(dir));
	assert_int_equal(davit_secrets_materialise(f->secrets, "0123456789abcdef", "default", refs, 1,
						   (uid_t)-1, (gid_t)-1, &dir, &f->err),
			 0);
	snprintf(path, sizeof path, "%s/other", dir);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof path, "%s/token", dir);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(davit_secrets_discard(f->secrets, "0123456789abcdef", &f->err), 0);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(davit_secrets_discard(f->secrets, "0123456789abcdef", &f->err), 0);
	*strrchr(dir, '/') = '\0'; /* of each run directory one, which goes with the last that is in it */
	assert_int_equal(access(dir, F_OK), -1);
}

static void the_directory_of_files_stays_while_one_needs_it(void **state)
{
	struct fixture *f = *state;
	struct davit_secret_ref ref = {.name = "token"};
	DAVIT_AUTO_FREE char *a = NULL, *b = NULL;

	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	for (int i = 0; i < 2; i++) { /* it comes again when it is needed again */
		free(DAVIT_TAKE(a));
		free(DAVIT_TAKE(b));
		assert_int_equal(davit_secrets_materialise(f->secrets, "aa", "default", &ref, 1, (uid_t)-1,
							   (gid_t)-1, &a, &f->err),
				 0);
		assert_int_equal(davit_secrets_directory(f->secrets, "bb", &b, &f->err), 0);
		assert_int_equal(davit_secrets_discard(f->secrets, "aa", &f->err), 0);
		assert_int_equal(access(b, F_OK), 0);
		assert_int_equal(davit_secrets_discard(f->secrets, "bb", &f->err), 0);
		*strrchr(b, '/') = '\0';
		assert_int_equal(access(b, F_OK), -1);
	}
}

static void files_belong_to_the_workloads_user(void **state)
{
	struct fixture *f = *state;
	struct davit_secret_ref ref = {.name = "token"};
	DAVIT_AUTO_FREE char *dir = NULL;
	char path[256];
	struct stat st;

	if (geteuid() != 0)
		skip();
	assert_int_equal(set(f, "default", "token", PLAIN), 0);
	assert_int_equal(
		davit_secrets_materialise(f->secrets, "aa", "default", &ref, 1, 65534, 65534, &dir, &f->err),
		0);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_uid, 0); /* the workload cannot change what is in it */
	assert_int_equal(st.st_mode & 07777, 0711);
	snprintf(path, sizeof path, "%s/token", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 65534);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(davit_secrets_discard(f->secrets, "aa", &f->err), 0);
	*strrchr(dir, '/') = '\0';
	assert_int_equal(access(dir, F_OK), -1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_secret_comes_back_after_a_restart),
		TEST(the_store_never_holds_plain_text),
		TEST(the_key_is_its_owners_alone),
		TEST(a_missing_key_is_an_error_and_not_a_new_key),
		TEST(a_wrong_key_is_told_from_a_damaged_record),
		TEST(a_record_moved_or_changed_does_not_open),
		TEST(a_listing_has_names_and_times_of_one_namespace),
		TEST(a_removed_secret_is_gone),
		TEST(bad_names_and_sizes_are_refused),
		TEST(files_for_a_workload_are_private_and_in_memory),
		TEST(the_directory_of_files_stays_while_one_needs_it),
		TEST(files_belong_to_the_workloads_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
