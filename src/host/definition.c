/* SPDX-License-Identifier: MIT
 *
 * Definitions in shared objects: found by type and name through a search pattern, and
 * loaded. A file that has changed since it was loaded is loaded anew beside the old
 * one, which containers still use.
 */
#include "host/host.h"

#include "base/file.h"
#include "base/strv.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct host_file {
	struct host_file *next;
	struct davit_definition definition; /* a copy, by the name and type that was asked for */
	char *name, *path;
	const char *command[2]; /* of a program: path, and the end */
	struct stat as;		/* loaded */
};

static const char *const type_names[HOST_TYPES] = {
	[DAVIT_THREAD] = "thread",
	[DAVIT_PROCESS] = "process",
};

const char *host_type_name(enum davit_container_type type)
{
	return (unsigned)type < HOST_TYPES ? type_names[type] : "unknown";
}

int host_type_parse(const char *name, enum davit_container_type *ret, struct davit_error *err)
{
	for (int i = 0; i < HOST_TYPES; i++)
		if (!strcmp(type_names[i], name)) {
			*ret = (enum davit_container_type)i;
			return 0;
		}
	return davit_error_set(err, DAVIT_EINVAL, "type", "'%.64s' is neither thread nor process", name);
}

/* --- the search --- */

/* It becomes a part of paths. */
static int check_name(const char *name, struct davit_error *err)
{
	if (!name[0] || name[0] == '.' || strchr(name, '/') || strlen(name) > 63)
		return davit_error_set(err, DAVIT_EINVAL, "name", "'%.64s' is no name of a container", name);
	return 0;
}

/* The pattern with <type> and <name> filled in. */
static char *fill_in(const char *pattern, size_t n, const struct host_search *s)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;

	for (const char *p = pattern, *end = pattern + n; p < end; p++)
		if (end - p >= 6 && !strncmp(p, "<type>", 6)) {
			davit_buf_adds(&out, host_type_name(s->type));
			p += 5;
		} else if (end - p >= 6 && !strncmp(p, "<name>", 6)) {
			davit_buf_adds(&out, s->name);
			p += 5;
		} else {
			davit_buf_addc(&out, *p);
		}
	return davit_buf_take(&out);
}

struct hunt {
	const struct host_search *search;
	char *relative; /* of one pattern */
	char *found;
	struct davit_buf files, places; /* what was looked for, and where */
};

static bool said_already(const struct davit_buf *said, const char *text)
{
	size_t n = strlen(text);

	for (const char *at = davit_buf_str(said); (at = strstr(at, text)); at += n)
		if ((at == davit_buf_str(said) || at[-1] == ' ') && (!at[n] || at[n] == ','))
			return true;
	return false;
}

static void say(struct davit_buf *said, const char *text)
{
	if (!said_already(said, text))
		davit_buf_addf(said, "%s%s", said->len ? ", " : "", text);
}

/* True ends the hunt: found, or no memory. */
static bool look_in(struct hunt *hunt, const char *directory)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(directory, hunt->relative);
	struct stat st;

	if (!path)
		return true;
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
		hunt->found = realpath(path, NULL);
		return true;
	}
	say(&hunt->files, hunt->relative);
	if (hunt->relative[0] != '/')
		say(&hunt->places, directory);
	return false;
}

static bool look_in_each(struct hunt *hunt, const struct host *h)
{
	const char *more = h->more ? h->more : "";

	if (hunt->relative[0] == '/')
		return look_in(hunt, "/");
	if (hunt->search->directory && look_in(hunt, hunt->search->directory))
		return true;
	if (h->directory && look_in(hunt, h->directory))
		return true;
	for (size_t n; *more; more += n + (more[n] == ':')) {
		DAVIT_AUTO_FREE char *directory = strndup(more, n = strcspn(more, ":"));
		if (!directory || (n && look_in(hunt, directory)))
			return true;
	}
	return false;
}

/* Each of a pattern's. True: it is found, or there is no memory. */
static bool hunt_through(const struct host *h, struct hunt *hunt, const char *p)
{
	bool over = false;

	for (size_t n; *p && !over; p += n + (p[n] == ':')) {
		DAVIT_AUTO_FREE char *relative = fill_in(p, n = strcspn(p, ":"), hunt->search);
		hunt->relative = relative;
		over = !relative || (*relative && look_in_each(hunt, h));
	}
	hunt->relative = NULL;
	return over;
}

/* Where there is one of the other type, by its own pattern. */
static char *elsewhere(const struct host *h, const struct host_search *s)
{
	struct host_search other = {.type = s->type == DAVIT_THREAD ? DAVIT_PROCESS : DAVIT_THREAD,
				    .name = s->name,
				    .directory = s->directory};
	struct hunt hunt = {.search = &other};

	hunt_through(h, &hunt, h->search[other.type]);
	davit_buf_fini(&hunt.files);
	davit_buf_fini(&hunt.places);
	return hunt.found;
}

static int nowhere(const struct host *h, struct hunt *hunt, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *other = elsewhere(h, hunt->search);

	if (hunt->files.oom || hunt->places.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_error_set(
		err, DAVIT_ENOENT, "name", "there is no %s container '%s'%s%s: looked for %s%s%s",
		host_type_name(hunt->search->type), hunt->search->name, other ? ", but there is " : "",
		other ? other : "", davit_buf_str(&hunt->files), hunt->places.len ? " in " : "",
		davit_buf_str(&hunt->places));
}

static int find(const struct host *h, const struct host_search *s, char **ret, struct davit_error *err)
{
	const char *p = s->pattern && s->pattern[0] ? s->pattern : h->search[s->type];
	struct hunt hunt = {.search = s};
	bool over = hunt_through(h, &hunt, p);
	int r = 0;

	if (!hunt.found)
		r = over ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : nowhere(h, &hunt, err);
	davit_buf_fini(&hunt.files);
	davit_buf_fini(&hunt.places);
	*ret = hunt.found;
	return r;
}

/* --- loading --- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The linker knows a path that it has loaded and would give the old object back; a
 * path through a descriptor, which then stays open, it has never seen. With our number,
 * for a container that is a process loads it from there too. */
static void *load(const char *path, bool again, struct davit_error *err)
{
	char by_fd[48];
	void *object;
	int fd = -1;

	if (again) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			davit_error_errno(err, errno, "name", "cannot open %s", path);
			return NULL;
		}
		snprintf(by_fd, sizeof by_fd, "/proc/%d/fd/%d", (int)getpid(), fd);
	}
	object = dlopen(again ? by_fd : path, RTLD_NOW | RTLD_LOCAL);
	if (!object) {
		davit_error_set(err, DAVIT_ENOTSUP, "name", "cannot load %s: %s", path, dlerror());
		if (fd >= 0)
			close(fd);
	}
	return object;
}

/* Who changes a structure gives davit_container another number. */
_Static_assert(DAVIT_CONTAINER_ABI == 1 && (sizeof(void *) != 8 || sizeof(struct davit_definition) == 216),
	       "the structures of container.h have changed");

static void symbol_of(unsigned abi, char name[32])
{
	snprintf(name, 32, "davit_container_abi%u", abi);
}

static int refuse(void *object, const char *path, struct davit_error *err)
{
	char symbol[32];

	for (unsigned abi = 1; abi < 100; abi++) {
		symbol_of(abi, symbol);
		if (abi != DAVIT_CONTAINER_ABI && dlsym(object, symbol))
			return davit_error_set(
				err, DAVIT_ENOTSUP, "name",
				"%s was compiled with headers of another davit (%u, not %d): build it anew",
				path, abi, DAVIT_CONTAINER_ABI);
	}
	return davit_error_set(err, DAVIT_ENOTSUP, "name",
			       "%s does not export 'davit_container', a const struct davit_definition", path);
}

static const struct davit_definition *definition_of(void *object, const char *path, struct davit_error *err)
{
	const struct davit_definition *d;
	char symbol[32];

	symbol_of(DAVIT_CONTAINER_ABI, symbol);
	d = dlsym(object, symbol);
	if (!d) {
		refuse(object, path, err);
	} else if (!d->name || !d->behaviour) {
		davit_error_set(err, DAVIT_ENOTSUP, "name", "%s: its definition has no %s", path,
				d->name ? "behaviour" : "name");
		d = NULL;
	}
	return d;
}

static void file_free(struct host_file *f)
{
	free(f->name);
	free(f->path);
	free(f);
}

/* Any other file is a program, which is to speak the protocol of docs/channel.md. */
static bool is_object(const char *path)
{
	size_t n = strlen(path);

	return n > 3 && !strcmp(path + n - 3, ".so");
}

static int check_program(const struct host_search *s, const char *path, struct davit_error *err)
{
	if (s->type != DAVIT_PROCESS)
		return davit_error_set(err, DAVIT_ENOTSUP, "name",
				       "%s is no shared object: only a process can be that", path);
	if (access(path, X_OK) < 0)
		return davit_error_errno(err, errno, "name", "cannot execute %s", path);
	return 0;
}

/* From what is in the file: d, or NULL for a program. */
static int add(struct host *h, const struct host_search *s, const char *path, const struct stat *as,
	       const struct davit_definition *d, struct host_file **ret, struct davit_error *err)
{
	struct host_file *f = calloc(1, sizeof *f);

	if (!f || !(f->name = strdup(s->name)) || !(f->path = strdup(path))) {
		if (f)
			file_free(f);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (d)
		f->definition = *d;
	else
		f->definition.command = f->command;
	f->command[0] = f->path;
	f->definition.original = d;
	f->definition.name = f->name;
	f->definition.type = s->type;
	f->as = *as;
	f->next = h->files;
	*ret = h->files = f;
	return 0;
}

static int open_file(struct host *h, const struct host_search *s, const char *path, const struct stat *as,
		     bool again, struct host_file **ret, struct davit_error *err)
{
	const struct davit_definition *d = NULL;
	int r = is_object(path) ? 0 : check_program(s, path, err);
	void *object;

	if (r == 0 && is_object(path)) {
		object = load(path, again, err);
		d = object ? definition_of(object, path, err) : NULL;
		r = d ? 0 : err->code;
	}
	return r < 0 ? r : add(h, s, path, as, d, ret, err);
}

int host_definition(struct host *h, const struct host_search *s, const struct davit_definition **ret,
		    const char **ret_file, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = NULL;
	struct host_file *f = NULL;
	struct davit_error why = {0};
	bool again = false;
	struct stat st;
	int r = check_name(s->name, &why);

	if (r == 0 && s->file && !(path = strdup(s->file)))
		r = davit_error_set(&why, DAVIT_ENOMEM, NULL, "out of memory");
	else if (r == 0 && !s->file)
		r = find(h, s, &path, &why);
	if (r == 0 && stat(path, &st) < 0)
		r = davit_error_errno(&why, errno, "name", "%s", path);
	for (f = h->files; r == 0 && f; f = f->next) {
		if (strcmp(f->path, path) != 0)
			continue;
		if (same_file(&f->as, &st) && f->definition.type == s->type && !strcmp(f->name, s->name))
			break;
		again |= !same_file(&f->as, &st);
	}
	if (r == 0 && !f)
		r = open_file(h, s, path, &st, again, &f, &why);
	if (r < 0)
		return davit_error_copy(err, &why);
	*ret = &f->definition;
	*ret_file = f->path;
	return 0;
}

void host_definitions_free(struct host *h)
{
	struct host_file *f;

	while ((f = h->files)) {
		h->files = f->next;
		file_free(f);
	}
}
