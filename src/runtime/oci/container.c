/* SPDX-License-Identifier: MIT
 *
 * Containers as crun and runc know them. Each start makes one with a name of its own,
 * "ID-N", N counting the starts of the instance: what is still done to a container of an
 * earlier run, by a daemon that was killed meanwhile or by what it left, never meets the
 * present one. The bundle's file `container` has N, in one write of constant length.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#define NUMBER_LENGTH 9 /* eight digits and a newline */

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "oci", "out of memory");
}

/* Opens the file; *ret_number is 0 before the first start. A descriptor or a code. */
static int open_number(const struct oci_place *pl, const char *id, uint32_t *ret_number,
		       struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = local_path(pl->nets.bundles, id, "container");
	DAVIT_AUTO_CLOSE int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
	char text[NUMBER_LENGTH + 1] = "";

	if (!path)
		return out_of_memory(err);
	if (fd < 0 || pread(fd, text, NUMBER_LENGTH, 0) != NUMBER_LENGTH)
		return davit_error_set(err, DAVIT_ESTATE, "oci", "the bundle of instance %s is gone", id);
	*ret_number = (uint32_t)strtoul(text, NULL, 16);
	return DAVIT_TAKE_FD(fd);
}

static void name_it(const char *id, uint32_t number, char ret[OCI_CONTAINER_MAX])
{
	snprintf(ret, OCI_CONTAINER_MAX, "%s-%" PRIu32, id, number);
}

int oci_container_next(const struct oci_place *pl, const char *id, char ret[OCI_CONTAINER_MAX],
		       struct davit_error *err)
{
	uint32_t number = 0;
	DAVIT_AUTO_CLOSE int fd = open_number(pl, id, &number, err);
	char text[NUMBER_LENGTH + 1];

	if (fd < 0)
		return fd;
	snprintf(text, sizeof text, "%08" PRIx32 "\n", ++number);
	if (pwrite(fd, text, NUMBER_LENGTH, 0) != NUMBER_LENGTH)
		return davit_error_errno(err, errno, "oci", "cannot write into the bundle of %s", id);
	name_it(id, number, ret);
	return 0;
}

int oci_container_name(const struct oci_place *pl, const char *id, char ret[OCI_CONTAINER_MAX],
		       struct davit_error *err)
{
	uint32_t number = 0;
	DAVIT_AUTO_CLOSE int fd = open_number(pl, id, &number, err);

	if (fd < 0)
		return fd;
	name_it(id, number, ret);
	return 0;
}

/* --- ending them --- */

/* Where crun makes no groups, its container is the directory of its state and the process that is
 * named there: when that has ended, only the directory is left. */
static bool is_only_state(const struct oci_place *pl, const char *state)
{
	DAVIT_AUTO_FREE char *path = pl->is_crun ? davit_path_join(state, "status") : NULL;
	json_t *status = path ? json_load_file(path, 0, NULL) : NULL;
	json_int_t pid = json_integer_value(json_object_get(status, "pid"));

	json_decref(status);
	return pid > 1 && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

static int delete_one(const struct oci_place *pl, const char *name, int lock, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *state = davit_path_join(pl->engine, name);
	char *argv[] = {pl->program,	   (char *)"--root", pl->engine, (char *)"delete",
			(char *)"--force", (char *)name,     NULL};
	struct davit_error why;

	if (!state)
		return out_of_memory(err);
	if (is_only_state(pl, state))
		return davit_remove_tree(state, err);
	/* A state that was written in part is not understood, and nothing of it runs: the
	 * groups have been killed by then. */
	if (oci_run(lock, argv, &why) < 0)
		return davit_remove_tree(state, err);
	return 0;
}

/* runc's containers of one instance have the same groups. What a daemon that was killed has
 * begun to remove holds the bundle until it is removed. -1 where there is no bundle: then
 * nothing will be started. */
static int wait_for_others(const struct oci_place *pl, const char *id)
{
	DAVIT_AUTO_FREE char *bundle = davit_path_join(pl->nets.bundles, id);
	int fd = bundle ? open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0)
		(void)DAVIT_EINTR(flock(fd, LOCK_EX));
	return fd;
}

int oci_containers_delete(const struct oci_place *pl, const char *id, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int lock = wait_for_others(pl, id);
	DIR *d = opendir(pl->engine);
	struct dirent *e;
	int r = 0;

	while (d && !r && (e = readdir(d)))
		if (!strncmp(e->d_name, id, DAVIT_ID_MAX - 1))
			r = delete_one(pl, e->d_name, lock, err);
	if (d)
		closedir(d);
	return r;
}

/* Those that are empty; the others are removed by whoever made them. */
void oci_groups_remove(const struct oci_place *pl, const char *id)
{
	FILE *f = pl->cgroup ? fopen("/proc/self/cgroup", "re") : NULL;
	char *line = NULL, *hierarchy, *own;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0) { /* 4:cpu,cpuacct:/own, 1:name=systemd:/own, 0::/own */
		DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;

		hierarchy = strchr(line, ':');
		own = hierarchy ? strchr(++hierarchy, ':') : NULL;
		if (!own)
			continue;
		*own++ = '\0';
		own[strcspn(own, "\n")] = '\0';
		if (!strncmp(hierarchy, "name=", 5))
			hierarchy += 5;
		davit_buf_addf(&path, "/sys/fs/cgroup/%s%s/%s/%s", *hierarchy ? hierarchy : "unified",
			       *pl->cgroup != '/' && strcmp(own, "/") ? own : "", pl->cgroup, id);
		if (!path.oom)
			rmdir(davit_buf_str(&path));
	}
	free(line);
	if (f)
		fclose(f);
}
