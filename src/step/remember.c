/* SPDX-License-Identifier: MIT
 *
 * Results of steps, kept under the hash of everything that they depend on.
 */
#include "step/execution.h"

#include "base/buf.h"
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FORMAT "davit step 2" /* to be changed with what a step sees */
#define RECORD_MAX 65536

/* ----------------------------------------------------------------------------- the key */

static void put(crypto_generichash_state *h, const char *s)
{
	uint64_t n = s ? strlen(s) : UINT64_MAX; /* no text is another than an empty one */

	crypto_generichash_update(h, (const uint8_t *)&n, sizeof n);
	if (s)
		crypto_generichash_update(h, (const uint8_t *)s, strlen(s));
}

static void put_number(crypto_generichash_state *h, uint64_t v)
{
	crypto_generichash_update(h, (const uint8_t *)&v, sizeof v);
}

static void put_all(crypto_generichash_state *h, char *const *v)
{
	for (; v && *v; v++)
		put(h, *v);
	put(h, NULL);
}

/* The host's root is too large to be read. What changes with its programs stands for it. */
static void put_host(crypto_generichash_state *h)
{
	static const char *const paths[] = {
		"/usr/bin",
		"/usr/sbin",
		"/usr/lib",
		"/usr/local/bin",
		"/usr/local/sbin",
		"/usr/local/lib",
		"/bin",
		"/sbin",
		"/lib",
		"/etc/os-release",
		"/var/lib/dpkg/status",
		"/var/lib/rpm",
		"/lib/apk/db/installed",
		"/var/lib/pacman/local",
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(paths); i++) {
		struct stat st;

		if (stat(paths[i], &st) < 0)
			st = (struct stat){0};
		put_number(h, st.st_ino);
		put_number(h, (uint64_t)st.st_size);
		put_number(h, (uint64_t)st.st_mtim.tv_sec);
		put_number(h, (uint64_t)st.st_mtim.tv_nsec);
	}
}

/* A tree's id says what is in it; a directory says nothing. */
static int put_artifact(crypto_generichash_state *h, const struct davit_artifact *a,
			struct davit_artifacts *s, struct davit_error *err)
{
	struct davit_artifact_hold hold = DAVIT_ARTIFACT_HOLD_INIT;
	int r;

	put_number(h, a->use);
	put_number(h, a->type);
	put(h, a->name);
	put(h, a->path);
	if (a->type != DAVIT_ARTIFACT_TREE) {
		put(h, a->location);
		return 0;
	}
	if (!a->location)
		return davit_error_set(err, DAVIT_EINVAL, a->name, "it is not said which tree an input is");
	r = davit_artifacts_find(s, a->location, &hold, err);
	put(h, r == 0 ? hold.id : NULL);
	davit_artifact_release(&hold);
	return r;
}

int step_key(struct davit_execution *x, const struct davit_run_spec *spec,
	     const struct davit_artifact *artifacts, size_t n, struct davit_error *err)
{
	const struct davit_artifact image = {.type = spec->image.type};
	bool named = spec->image.type == DAVIT_ARTIFACT_IMAGE;
	uint8_t digest[STEP_DIGEST];
	crypto_generichash_state h;
	int r;

	for (size_t i = 0; i < n; i++)
		if (artifacts[i].use == DAVIT_USE_INPUT && artifacts[i].type == DAVIT_ARTIFACT_DIRECTORY)
			return 0;
	if (spec->image.type == DAVIT_ARTIFACT_DIRECTORY)
		return 0;
	crypto_generichash_init(&h, NULL, 0, sizeof digest);
	put(&h, FORMAT);
	put(&h, step_runtime(spec)->name);
	put(&h, spec->path);
	put_all(&h, spec->args);
	put_all(&h, spec->env);
	put(&h, spec->dir);
	put(&h, spec->user);
	put_number(&h, spec->privileged);
	put_number(&h, spec->hermetic);
	put_number(&h, geteuid());
	r = put_artifact(&h, named ? &image : &spec->image, x->store, err);
	if (spec->image.type == DAVIT_ARTIFACT_EMPTY)
		put_host(&h);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = put_artifact(&h, &artifacts[i], x->store, err);
	crypto_generichash_final(&h, digest, sizeof digest);
	step_hex(digest, sizeof digest, x->key);
	x->remember = r == 0;
	x->unkeyed = named;
	return r;
}

/* A name says nothing: another image can have it tomorrow. */
void step_key_image(struct davit_execution *x, const char *id)
{
	uint8_t digest[STEP_DIGEST];
	crypto_generichash_state h;

	crypto_generichash_init(&h, NULL, 0, sizeof digest);
	put(&h, x->key);
	put(&h, id);
	crypto_generichash_final(&h, digest, sizeof digest);
	step_hex(digest, sizeof digest, x->key);
	x->unkeyed = false;
}

/* ---------------------------------------------------------------------------- remembering */

static int write_record(struct davit_execution *x, struct step_work *w, struct davit_error *err)
{
	const struct davit_result *r = &x->result;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	DAVIT_AUTO_CLOSE int fd = openat(w->fd, "result", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	davit_buf_addf(&b, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRIu64 "\n", r->started,
		       r->ended, r->cpu_user, r->cpu_system, r->memory_peak);
	davit_buf_addf(&b, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", r->bytes[0], r->dropped[0],
		       r->bytes[1], r->dropped[1]);
	for (size_t i = 0; i < r->n_outputs; i++)
		davit_buf_addf(&b, "%s %s\n", r->outputs[i].tree.id, r->outputs[i].name);
	if (b.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (fd < 0 || davit_write_full(fd, b.data, b.len) < 0)
		return davit_error_errno(err, errno, NULL, "cannot remember the result");
	return 0;
}

/* The streams' files get a second name, which stays when the step's directory goes. */
static int keep_streams(struct davit_execution *x, struct step_work *w, struct davit_error *err)
{
	static const char *const names[] = {"stdout", "stderr"};
	char path[64];

	for (int i = 0; i < DAVIT_STEP_STREAMS; i++) {
		snprintf(path, sizeof path, "runs/%s/%s", x->id, names[i]);
		if (linkat(x->store->fd, path, w->fd, names[i], 0) < 0)
			return davit_error_errno(err, errno, NULL, "cannot remember the output");
	}
	return 0;
}

int step_remember(struct davit_execution *x, struct davit_error *err)
{
	struct step_meta m = {.bytes = x->result.bytes[0] - x->result.dropped[0] + x->result.bytes[1] -
				       x->result.dropped[1],
			      .entries = 3};
	struct step_work w = STEP_WORK_INIT;
	int fd = -1, r = step_work_begin(x->store, &w, err);

	if (r < 0)
		return r;
	r = write_record(x, &w, err);
	if (r == 0)
		r = keep_streams(x, &w, err);
	if (r == 0)
		r = step_store_lock(x->store, err);
	if (r == 0) {
		/* Another was as fast: then that one's counts, for it may have been used. */
		if (step_take(x->store, DAVIT_KEPT_RESULT, x->key, LOCK_SH, &fd, NULL) == 0)
			close(fd);
		else
			r = step_publish(x->store, &w, DAVIT_KEPT_RESULT, x->key, &m, err);
		step_store_unlock(x->store);
	}
	step_work_end(x->store, &w);
	return r;
}

/* ------------------------------------------------------------------------------ recalling */

static bool read_output(struct davit_execution *x, char *line, size_t room)
{
	char *space = strchr(line, ' ');
	struct davit_output *o = &x->result.outputs[x->result.n_outputs];

	if (!space || x->result.n_outputs >= room)
		return false;
	*space = '\0';
	o->tree = (struct davit_artifact_hold)DAVIT_ARTIFACT_HOLD_INIT;
	o->name = strdup(space + 1);
	if (!o->name)
		return false;
	x->result.n_outputs++;
	return davit_artifacts_find(x->store, line, &o->tree, NULL) == 0;
}

/* Fills the result from its record. False when it makes no sense or an output is gone. */
static bool read_record(struct davit_execution *x, char *text)
{
	struct davit_result *r = &x->result;
	char *save = NULL, *line;
	size_t lines = 0;

	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	r->outputs = calloc(lines + 1, sizeof *r->outputs);
	line = strtok_r(text, "\n", &save);
	if (!r->outputs || !line ||
	    sscanf(line, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNu64, &r->started, &r->ended,
		   &r->cpu_user, &r->cpu_system, &r->memory_peak) != 5)
		return false;
	line = strtok_r(NULL, "\n", &save);
	if (!line || sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &r->bytes[0],
			    &r->dropped[0], &r->bytes[1], &r->dropped[1]) != 4)
		return false;
	while ((line = strtok_r(NULL, "\n", &save)))
		if (!read_output(x, line, lines))
			return false;
	return true;
}

static void forget_result(struct davit_execution *x)
{
	for (size_t i = 0; i < x->result.n_outputs; i++) {
		davit_artifact_release(&x->result.outputs[i].tree);
		free((char *)x->result.outputs[i].name);
	}
	free(x->result.outputs);
	x->result = (struct davit_result){0};
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++) {
		if (x->streams[i] >= 0)
			close(x->streams[i]);
		x->streams[i] = -1;
	}
}

static int open_part(struct davit_execution *x, const char *name)
{
	char path[STEP_KEY_MAX + 32];

	snprintf(path, sizeof path, "results/%s/%s", x->key, name);
	return openat(x->store->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static bool recall(struct davit_execution *x)
{
	DAVIT_AUTO_CLOSE int fd = open_part(x, "result");
	DAVIT_AUTO_FREE char *text = malloc(RECORD_MAX);
	ssize_t n = fd >= 0 && text ? read(fd, text, RECORD_MAX - 1) : -1;

	if (n < 0)
		return false;
	text[n] = '\0';
	x->streams[DAVIT_STEP_OUT] = open_part(x, "stdout");
	x->streams[DAVIT_STEP_ERR] = open_part(x, "stderr");
	return read_record(x, text) && x->streams[0] >= 0 && x->streams[1] >= 0;
}

int step_recall(struct davit_execution *x, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int meta = -1;
	int r;

	if (!x->remember)
		return 0;
	r = step_store_lock(x->store, err);
	if (r < 0)
		return r;
	r = step_take(x->store, DAVIT_KEPT_RESULT, x->key, LOCK_SH, &meta, NULL);
	step_store_unlock(x->store);
	if (r < 0)
		return 0;
	if (recall(x)) {
		x->result.cached = true;
		x->result.exited = true;
		return 1;
	}
	/* An output is gone: the record is of no use any more. Without it, it is made again. */
	forget_result(x);
	close(DAVIT_TAKE_FD(meta));
	davit_artifacts_remove(x->store, x->key, NULL);
	return 0;
}
