/* SPDX-License-Identifier: MIT
 *
 * Measures the stores: build/bench-store [records]. Prints one line a figure.
 * The sqlite file is made in TMPDIR (or the working directory) and removed.
 */
#include "base/file.h"
#include "base/units.h"
#include "base/util.h"
#include "store/stores.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

enum { VALUE = 500, BATCH = 512 };

struct run {
	struct davit_loop *loop;
	struct davit_store *store;
	int left; /* transactions under way */
	char value[VALUE];
};

static _Noreturn void die(const char *what, const struct davit_error *err)
{
	fprintf(stderr, "bench-store: %s: %s\n", what, err->message);
	exit(1);
}

static double seconds(void)
{
	return (double)uv_hrtime() / 1e9;
}

static void on_done(struct davit_op *op, int result)
{
	struct run *r = op->user;

	if (result < 0)
		die("commit", &op->error);
	r->left--;
}

static void put(struct run *r, struct davit_store_txn *txn, int i)
{
	char key[32];
	struct davit_store_change c = {.verb = DAVIT_STORE_PUT, .key = key, .value = r->value, .len = VALUE};

	snprintf(key, sizeof key, "services/default/%07d", i);
	davit_op_init(&txn->op, r->loop, on_done, r);
	r->left++;
	davit_store_commit(r->store, &c, 1, txn, 0);
}

/* n puts, `batch` under way at a time. Returns the seconds. */
static double puts_in_batches(struct run *r, int first, int n, int batch)
{
	static struct davit_store_txn txns[BATCH];
	double start = seconds();

	for (int i = 0; i < n; i += batch) {
		for (int j = 0; j < batch && i + j < n; j++)
			put(r, &txns[j], first + i + j);
		while (r->left)
			uv_run(davit_loop_uv(r->loop), UV_RUN_ONCE);
	}
	return seconds() - start;
}

static bool count(void *user, const struct davit_kv *kv)
{
	(void)kv;
	++*(int *)user;
	return true;
}

static long rss_kib(void)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	const char *line;

	if (davit_read_file("/proc/self/status", 1 << 16, &b, NULL) < 0)
		return 0;
	line = strstr(davit_buf_str(&b), "VmRSS:");
	return line ? strtol(line + 6, NULL, 10) : 0;
}

static void measure(const struct davit_store_driver *driver, const char *where, int records)
{
	struct run r = {0};
	struct davit_error err;
	long before = rss_kib();
	double t;
	int n = 0;

	memset(r.value, 'v', sizeof r.value);
	if (davit_loop_open(&r.loop, &err) < 0 || davit_store_open(driver, r.loop, where, &r.store, &err) < 0)
		die(driver->name, &err);
	t = puts_in_batches(&r, 0, 1000, 1);
	printf("%-7s put, one at a time      %10.3f ms each\n", driver->name, t);
	t = puts_in_batches(&r, 0, records, BATCH);
	printf("%-7s put, %d under way      %10.0f puts/s\n", driver->name, BATCH, records / t);
	t = seconds();
	if (r.store->driver->list(r.store, "", NULL, 0, count, &n, NULL, &err) < 0)
		die("list", &err);
	printf("%-7s list of %-6d           %10.3f s\n", driver->name, n, seconds() - t);
	printf("%-7s memory                  %10ld KiB\n", driver->name, rss_kib() - before);
	t = seconds();
	davit_store_close(r.store);
	if (where && davit_store_open(driver, r.loop, where, &r.store, &err) < 0)
		die("reopen", &err);
	if (where) {
		printf("%-7s close and open again    %10.3f s\n", driver->name, seconds() - t);
		davit_store_close(r.store);
	}
	davit_loop_close(r.loop);
}

int main(int argc, char **argv)
{
	int64_t records = 100000;
	struct davit_error err;
	const char *tmp = getenv("TMPDIR");
	DAVIT_AUTO_FREE char *dir = davit_path_join(tmp ? tmp : ".", "davit-bench-XXXXXX");
	DAVIT_AUTO_FREE char *path = NULL;

	if (argc > 1 && davit_int_parse(argv[1], 1, 10000000, &records, &err) < 0)
		die(argv[1], &err);
	if (!dir || !mkdtemp(dir) || !(path = davit_path_join(dir, "store.db"))) {
		perror("bench-store");
		return 1;
	}
	measure(&davit_sqlite_store, path, (int)records);
	measure(&davit_memory_store, NULL, (int)records);
	if (davit_remove_tree(dir, &err) < 0)
		die(dir, &err);
	return 0;
}
