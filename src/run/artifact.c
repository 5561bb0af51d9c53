/* SPDX-License-Identifier: MIT
 *
 * What the steps of a run hand to each other: names of trees of the store.
 */
#include "run/host.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define FILE_MAX ((size_t)4 << 20)

/* From now on nobody collects the tree while the run lasts. */
static void hold_tree(struct host *h, const char *id)
{
	char line[DAVIT_ARTIFACT_ID_MAX + 1];
	int n = snprintf(line, sizeof line, "%s\n", id);

	/* Where this cannot be written the lock alone holds it, as long as this host lives. */
	if (h->holds >= 0 && davit_write_full(h->holds, line, (size_t)n) < 0)
		errno = 0;
}

static int set(struct host *h, const char *name, struct davit_artifact_hold *hold)
{
	struct artifact *a;

	DAVIT_LIST_FOREACH (a, &h->artifacts, list)
		if (!strcmp(a->name, name)) {
			davit_artifact_release(&a->hold);
			a->hold = *hold;
			hold->fd = -1;
			return 0;
		}
	a = calloc(1, sizeof *a);
	if (a)
		a->name = strdup(name);
	if (!a || !a->name) {
		free(a);
		return DAVIT_ENOMEM;
	}
	a->hold = *hold;
	hold->fd = -1;
	davit_list_init(&a->list);
	davit_list_add_tail(&h->artifacts, &a->list);
	return 0;
}

void host_set_artifact(struct host *h, const char *name, struct davit_artifact_hold *hold)
{
	DAVIT_AUTO_BUF line = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&line);

	hold_tree(h, hold->id);
	davit_json_open(&j);
	davit_json_put_string(&j, "artifact", name);
	davit_json_put_string(&j, "tree", hold->id);
	davit_json_close(&j);
	if (line.oom || set(h, name, hold) < 0)
		host_die(h, "out of memory");
	journal_add(&h->journal, 0, davit_buf_str(&line));
}

int host_restore_artifact(struct host *h, const json_t *line, struct davit_error *err)
{
	struct davit_artifact_hold hold = DAVIT_ARTIFACT_HOLD_INIT;
	const char *name = json_string_value(json_object_get(line, "artifact")),
		   *tree = json_string_value(json_object_get(line, "tree"));
	int r;

	if (!name || !tree)
		return davit_error_set(err, DAVIT_ECORRUPT, NULL, "a record of an artifact has no tree");
	r = davit_artifacts_find(h->store, tree, &hold, err);
	/* Somebody removed it by hand, or the machine went down: who needs it says so. */
	if (r == DAVIT_ENOENT)
		return 0;
	return r < 0			 ? r
	       : set(h, name, &hold) < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory")
					 : 0;
}

const struct davit_artifact_hold *host_artifact(const struct host *h, const char *name)
{
	const struct artifact *a;

	DAVIT_LIST_FOREACH (a, &h->artifacts, list)
		if (!strcmp(a->name, name))
			return &a->hold;
	return NULL;
}

void host_release_artifacts(struct host *h)
{
	struct artifact *a;

	while ((a = DAVIT_LIST_FIRST(&h->artifacts, struct artifact, list))) {
		davit_list_remove(&a->list);
		davit_artifact_release(&a->hold);
		free(a->name);
		free(a);
	}
}

static int read_all(int fd, const char *path, struct davit_buf *out, struct davit_error *err)
{
	ssize_t n;

	do {
		if (davit_buf_reserve(out, 65536) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		n = DAVIT_EINTR(read(fd, out->data + out->len, 65536));
		out->len += n > 0 ? (size_t)n : 0;
	} while (n > 0 && out->len <= FILE_MAX);
	if (n < 0)
		return davit_error_errno(err, errno, NULL, "cannot read %s", path);
	if (out->len > FILE_MAX)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%s is larger than %zu bytes", path,
				       FILE_MAX);
	return davit_buf_reserve(out, 1) < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory")
					     : (out->data[out->len] = '\0', 0);
}

int host_read_file(struct host *h, const char *path, struct davit_buf *out, struct davit_error *err)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	size_t n = strcspn(path, "/");
	DAVIT_AUTO_FREE char *name = strndup(path, n), *tree = NULL;
	const struct davit_artifact_hold *hold = name ? host_artifact(h, name) : NULL;
	DAVIT_AUTO_CLOSE int dir = -1;
	DAVIT_AUTO_CLOSE int fd = -1;

	if (!name)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (!path[n] || !path[n + 1])
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.200s' is not ARTIFACT/PATH", path);
	if (!hold)
		return davit_error_set(err, DAVIT_ENOENT, NULL, "%.200s: there is no artifact '%.64s'", path,
				       name);
	tree = davit_artifacts_path(h->store, hold);
	dir = tree ? open(tree, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	fd = dir < 0 ? -1 : (int)syscall(SYS_openat2, dir, path + n + 1, &how, sizeof how);
	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %.200s", path);
	return read_all(fd, path, out, err);
}
