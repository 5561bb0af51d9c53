/* SPDX-License-Identifier: MIT
 *
 * The directories of runs: made, listed, removed.
 */
#include "run/run.h"

#include "base/file.h"
#include "base/units.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#define LETTERS "0123456789abcdefghjkmnpqrstvwxyz" /* without those that look alike */
#define FILE_MAX ((size_t)64 << 20)

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static char *path_in(const char *base, const char *id)
{
	char *path;

	return asprintf(&path, "%s/runs/%s", base, id) < 0 ? NULL : path;
}

char *davit_run_path(const struct davit_paths *paths, const char *id)
{
	return path_in(paths->state, id);
}

char *davit_run_work_path(const struct davit_paths *paths, const char *id)
{
	return path_in(paths->cache, id);
}

static char *file_of(const struct davit_paths *paths, const char *id, const char *name)
{
	char *path;

	return asprintf(&path, "%s/runs/%s/%s", paths->state, id, name) < 0 ? NULL : path;
}

/* ------------------------------------------------------------------------------- making */

static int write_json(const char *dir, const char *name, const json_t *v, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(dir, name);
	DAVIT_AUTO_FREE char *text = json_dumps(v, JSON_COMPACT);

	return path && text ? davit_write_file(path, text, strlen(text), 0600, err) : no_memory(err);
}

static int new_id(char id[DAVIT_RUN_ID_MAX], struct davit_error *err)
{
	uint8_t bytes[DAVIT_RUN_ID];

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return davit_error_errno(err, errno, NULL, "cannot get random bytes");
	for (int i = 0; i < DAVIT_RUN_ID; i++)
		id[i] = LETTERS[bytes[i] % 32];
	/* Never a number, nor the beginning of one with an exponent: people's tools guess types. */
	id[0] = LETTERS[10 + bytes[0] % 22];
	id[DAVIT_RUN_ID] = '\0';
	return 0;
}

/* A directory of its own under a name that begins with a dot, until all is in it. */
static int make_directory(const struct davit_paths *paths, char id[DAVIT_RUN_ID_MAX], char **ret,
			  struct davit_error *err)
{
	DAVIT_AUTO_FREE char *all = davit_path_join(paths->state, "runs");
	int r = all ? davit_mkdirs(all, 0700, err) : no_memory(err);

	for (int tries = 0; r == 0 && tries < 100; tries++) {
		DAVIT_AUTO_FREE char *path = NULL, *there = NULL;

		r = new_id(id, err);
		if (r < 0)
			return r;
		there = path_in(paths->state, id);
		if (!there || asprintf(&path, "%s/.%s", all, id) < 0)
			return path = NULL, no_memory(err);
		if (access(there, F_OK) == 0 || (mkdir(path, 0700) < 0 && errno == EEXIST))
			continue;
		*ret = DAVIT_TAKE(path);
		return access(*ret, F_OK) == 0 ? 0
					       : davit_error_errno(err, errno, NULL, "cannot make %s", *ret);
	}
	return r < 0 ? r : davit_error_set(err, DAVIT_EEXIST, NULL, "no name for a run is left");
}

static int sync_directory(const char *path, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0
		       ? davit_error_errno(err, errno, NULL, "cannot write %s to the disk", path)
		       : 0;
}

static int write_holds(const char *dir, const json_t *ids, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(dir, "holds");
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	const json_t *v;
	size_t i;

	json_array_foreach(ids, i, v) davit_buf_addf(&b, "%s\n", json_string_value(v));
	return path && !b.oom ? davit_write_file(path, davit_buf_str(&b), b.len, 0600, err) : no_memory(err);
}

int davit_run_create(const struct davit_paths *paths, json_t *about, const json_t *plan, int64_t now,
		     char ret_id[DAVIT_RUN_ID_MAX], struct davit_error *err)
{
	DAVIT_AUTO_FREE char *dir = NULL, *to = NULL, *all = davit_path_join(paths->state, "runs");
	char id[DAVIT_RUN_ID_MAX], when[DAVIT_TIME_MAX];
	int r = make_directory(paths, id, &dir, err);

	if (r < 0)
		return r;
	to = path_in(paths->state, id);
	if (!to || !all || json_object_set_new(about, "id", json_string(id)) < 0 ||
	    json_object_set_new(about, "created", json_string(davit_time_format(now, when))) < 0)
		r = no_memory(err);
	if (r == 0)
		r = write_json(dir, "about.json", about, err);
	if (r == 0)
		r = write_json(dir, "plan.json", plan, err);
	if (r == 0)
		r = write_holds(dir, json_object_get(about, "holds"), err);
	if (r == 0 && rename(dir, to) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make %s", to);
	if (r == 0)
		r = sync_directory(all, err);
	if (r < 0) {
		davit_remove_at(AT_FDCWD, dir);
		return r;
	}
	memcpy(ret_id, id, sizeof id);
	return 0;
}

/* ------------------------------------------------------------------------------ reading */

static int read_json(const struct davit_paths *paths, const char *id, const char *name, json_t **ret,
		     struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = file_of(paths, id, name);
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	json_error_t at;
	int r = path ? davit_read_file(path, FILE_MAX, &b, err) : no_memory(err);

	if (r < 0)
		return r;
	*ret = json_loadb(davit_buf_str(&b), b.len, 0, &at);
	return *ret ? 0 : davit_error_set(err, DAVIT_ECORRUPT, NULL, "%s: %s", path, at.text);
}

/* Is somebody its host? */
static bool has_host(const struct davit_paths *paths, const char *id, pid_t *ret)
{
	DAVIT_AUTO_FREE char *path = file_of(paths, id, "lock");
	DAVIT_AUTO_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct flock l = {.l_type = F_WRLCK};
	char text[24] = "";

	/* A question, which is in nobody's way. */
	if (fd < 0 || fcntl(fd, F_OFD_GETLK, &l) < 0 || l.l_type == F_UNLCK)
		return false;
	*ret = read(fd, text, sizeof text - 1) > 0 ? (pid_t)atol(text) : 0;
	return true;
}

static uint64_t size_of(const struct davit_paths *paths, const char *id, const char *name)
{
	DAVIT_AUTO_FREE char *path = file_of(paths, id, name);
	struct stat st;

	return path && stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static int load(const struct davit_paths *paths, const char *id, struct davit_run *ret,
		struct davit_error *err)
{
	struct davit_run r = {.state = DAVIT_RUN_WAITING};
	int e;

	snprintf(r.id, sizeof r.id, "%s", id);
	/* The lock first: who lets go of it has written how the run ended before. */
	if (has_host(paths, id, &r.host))
		r.state = DAVIT_RUN_RUNNING;
	e = read_json(paths, id, "about.json", &r.about, err);
	if (e < 0)
		return e;
	if (read_json(paths, id, "end.json", &r.end, NULL) == 0)
		r.state = DAVIT_RUN_ENDED;
	r.bytes = size_of(paths, id, "events") + size_of(paths, id, "journal");
	*ret = r;
	return 0;
}

void davit_run_fini(struct davit_run *r)
{
	json_decref(r->about);
	json_decref(r->end);
	*r = (struct davit_run){0};
}

static bool is_id(const char *s)
{
	return strspn(s, LETTERS) == strlen(s) && strlen(s) == DAVIT_RUN_ID;
}

static DIR *open_all(const struct davit_paths *paths)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(paths->state, "runs");

	errno = ENOMEM;
	return path ? opendir(path) : NULL;
}

int davit_run_find(const struct davit_paths *paths, const char *id, struct davit_run *ret,
		   struct davit_error *err)
{
	size_t n = strlen(id), found = 0;
	char whole[DAVIT_RUN_ID_MAX] = "";
	struct dirent *d;
	DIR *dir;

	if (!n || strspn(id, LETTERS) != n || n > DAVIT_RUN_ID)
		return davit_error_set(err, DAVIT_ENOENT, "run", "there is no run '%.32s'", id);
	dir = open_all(paths);
	while (dir && (d = readdir(dir)))
		if (is_id(d->d_name) && !strncmp(d->d_name, id, n)) {
			memcpy(whole, d->d_name, sizeof whole);
			found++;
		}
	if (dir)
		closedir(dir);
	if (!found)
		return davit_error_set(err, DAVIT_ENOENT, "run", "there is no run '%s'", id);
	if (found > 1)
		return davit_error_set(err, DAVIT_EINVAL, "run", "more than one run begins with '%s'", id);
	return load(paths, whole, ret, err);
}

int davit_run_plan(const struct davit_paths *paths, const char *id, json_t **ret, struct davit_error *err)
{
	return read_json(paths, id, "plan.json", ret, err);
}

static const char *created(const struct davit_run *r)
{
	const char *s = json_string_value(json_object_get(r->about, "created"));

	return s ? s : "";
}

static int by_time(const void *a, const void *b)
{
	return strcmp(created(a), created(b));
}

static int gather(const struct davit_paths *paths, struct davit_run **ret, size_t *ret_n,
		  struct davit_error *err)
{
	DIR *dir = open_all(paths);
	struct davit_run *all = NULL, *more, r;
	size_t n = 0, cap = 0;
	struct dirent *d;
	int e = 0;

	if (!dir && errno != ENOENT)
		return davit_error_errno(err, errno, NULL, "cannot read %s/runs", paths->state);
	while (e == 0 && dir && (d = readdir(dir))) {
		if (!is_id(d->d_name) || load(paths, d->d_name, &r, NULL) < 0)
			continue;
		if (n == cap) {
			more = reallocarray(all, cap ? 2 * cap : 16, sizeof *all);
			if (!more) {
				davit_run_fini(&r);
				e = no_memory(err);
				break;
			}
			all = more;
			cap = cap ? 2 * cap : 16;
		}
		all[n++] = r;
	}
	if (dir)
		closedir(dir);
	if (n)
		qsort(all, n, sizeof *all, by_time);
	*ret = all;
	*ret_n = n;
	return e;
}

static void free_all(struct davit_run *all, size_t n)
{
	for (size_t i = 0; i < n; i++)
		davit_run_fini(&all[i]);
	free(all);
}

int davit_runs_each(const struct davit_paths *paths, int (*fn)(void *user, const struct davit_run *r),
		    void *user, struct davit_error *err)
{
	struct davit_run *all = NULL;
	size_t n = 0;
	int e = gather(paths, &all, &n, err);

	for (size_t i = 0; e == 0 && i < n; i++)
		e = fn(user, &all[i]);
	free_all(all, n);
	return e;
}

/* ------------------------------------------------------------------------------- wishes */

int davit_run_abort(const struct davit_paths *paths, const char *id, bool force, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = file_of(paths, id, "abort");

	if (!path)
		return no_memory(err);
	if (davit_run_has_ended(paths, id))
		return davit_error_set(err, DAVIT_ESTATE, "run", "the run %s has ended", id);
	/* What was forced stays so. */
	if (!force && access(path, F_OK) == 0)
		return 0;
	return force ? davit_write_file(path, "forced\n", 7, 0600, err)
		     : davit_write_file(path, "aborted\n", 8, 0600, err);
}

int davit_run_open_events(const struct davit_paths *paths, const char *id, int *ret_fd, int *ret_hold,
			  struct davit_error *err)
{
	DAVIT_AUTO_FREE char *events = file_of(paths, id, "events"),
			     *about = file_of(paths, id, "about.json");
	DAVIT_AUTO_CLOSE int hold = about ? open(about, O_RDONLY | O_CLOEXEC) : -1;
	int fd;

	if (!events || !about)
		return no_memory(err);
	if (hold < 0 || flock(hold, LOCK_SH | LOCK_NB) < 0)
		return davit_error_set(err, DAVIT_ENOENT, "run", "there is no run %s", id);
	fd = open(events, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", events);
	*ret_fd = fd;
	*ret_hold = DAVIT_TAKE_FD(hold);
	return 0;
}

bool davit_run_has_ended(const struct davit_paths *paths, const char *id)
{
	DAVIT_AUTO_FREE char *path = file_of(paths, id, "end.json");

	return path && access(path, F_OK) == 0;
}

/* ----------------------------------------------------------------------------- removing */

int davit_run_remove(const struct davit_paths *paths, const char *id, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_run_path(paths, id), *about = file_of(paths, id, "about.json"),
			     *work = davit_run_work_path(paths, id), *gone = NULL;
	DAVIT_AUTO_CLOSE int hold = about ? open(about, O_RDONLY | O_CLOEXEC) : -1;
	int e;

	if (!path || !about || !work || asprintf(&gone, "%s/runs/.gone-%s", paths->state, id) < 0)
		return gone = NULL, no_memory(err);
	if (hold < 0)
		return davit_error_set(err, DAVIT_ENOENT, "run", "there is no run %s", id);
	if (!davit_run_has_ended(paths, id))
		return davit_error_set(err, DAVIT_ESTATE, "run", "the run %s has not ended; abort it first",
				       id);
	if (flock(hold, LOCK_EX | LOCK_NB) < 0)
		return davit_error_set(err, DAVIT_EINUSE, "run", "somebody reads the events of the run %s",
				       id);
	if (rename(path, gone) < 0)
		return davit_error_errno(err, errno, NULL, "cannot remove %s", path);
	davit_remove_at(AT_FDCWD, work);
	e = davit_remove_at(AT_FDCWD, gone);
	return e ? davit_error_errno(err, e, NULL, "cannot remove %s", gone) : 0;
}

static int64_t ended(const struct davit_run *r)
{
	const char *s = json_string_value(json_object_get(r->end, "ended"));
	int64_t at = 0;

	return s && davit_time_parse(s, &at, NULL) == 0 ? at : 0;
}

/* Why it has to go, into buf; NULL: it stays, with the reason in buf. */
static bool must_go(const struct davit_run *r, size_t later, size_t keep, int64_t age, int64_t now, char *buf,
		    size_t size)
{
	char text[DAVIT_TIME_MAX];
	int64_t old = now - ended(r);

	if (r->state != DAVIT_RUN_ENDED) {
		snprintf(buf, size, "it has not ended");
		return false;
	}
	if (later >= keep)
		snprintf(buf, size, "%zu runs have ended after it, and %zu are kept", later, keep);
	else if (old > age)
		snprintf(buf, size, "it ended %s ago",
			 davit_duration_format(old / 1000000000 * 1000000000, text));
	else
		snprintf(buf, size, "it is among the last %zu, and ended %s ago", keep,
			 davit_duration_format(old / 1000000000 * 1000000000, text));
	return later >= keep || old > age;
}

int davit_runs_collect(const struct davit_paths *paths, size_t keep, int64_t age, int64_t now,
		       davit_run_collected_fn *fn, void *user, struct davit_error *err)
{
	struct davit_run *all = NULL;
	size_t n = 0, later = 0;
	char why[160];
	int e = gather(paths, &all, &n, err);

	for (size_t i = n; e == 0 && i-- > 0;) {
		bool go = must_go(&all[i], later, keep, age, now, why, sizeof why);
		struct davit_error failed;

		later += all[i].state == DAVIT_RUN_ENDED;
		if (go && davit_run_remove(paths, all[i].id, &failed) < 0) {
			go = false;
			snprintf(why, sizeof why, "%s", failed.message);
		}
		if (fn)
			fn(user, &all[i], go, why);
	}
	free_all(all, n);
	return e;
}
