/* SPDX-License-Identifier: MIT
 *
 * The stores and runtimes that this davitd knows. Everything else meets them by
 * their tables only.
 */
#include "daemon/daemon.h"

#include "base/file.h"
#include "base/log.h"
#include "base/util.h"
#include "daemon/module.h"
#include "runtime/engine/flavour.h"
#include "runtime/exec/exec.h"
#include "runtime/fake/fake.h"
#include "runtime/oci/oci.h"
#include "runtime/process/process.h"
#include "store/stores.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

static const struct davit_store_driver *const stores[] = {
	&davit_sqlite_store,
	&davit_memory_store,
};

static const struct davit_runtime_driver *const runtimes[] = {
	&davit_process_driver, &davit_oci_driver, &davit_crun_driver, &davit_runc_driver, &davit_fake_driver,
};

/* In davit-engine.so: it needs libcurl, and that a score of libraries, which a daemon
 * without containers is not to carry. Loaded when there is a socket to speak to. */
static const struct engine {
	const struct engine_flavour *flavour;
	const char *summary, *symbol;
} engines[] = {
	{&engine_docker, "containers of the Docker Engine", "davit_docker_driver"},
	{&engine_podman, "containers of Podman, through its API service", "davit_podman_driver"},
};

enum { EXTERNAL_MAX = 64 };
static const struct davit_runtime_driver *external[EXTERNAL_MAX];
static size_t n_external;

const struct davit_store_driver *daemon_store_at(size_t i)
{
	return i < DAVIT_ARRAY_SIZE(stores) ? stores[i] : NULL;
}

const struct davit_store_driver *daemon_store(const char *name)
{
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(stores); i++)
		if (!strcmp(stores[i]->name, name))
			return stores[i];
	return NULL;
}

struct engine_load {
	struct davit_daemon *daemon;
	const struct engine *engine;
};
static struct engine_load engine_loads[DAVIT_ARRAY_SIZE(engines)];

static int load_engine(void *user, const struct davit_runtime_driver **ret, struct davit_error *err)
{
	const struct engine_load *l = user;
	const struct engine_flavour *f = l->engine->flavour;
	DAVIT_AUTO_FREE char *socket = engine_flavour_socket(f, err);
	DAVIT_AUTO_FREE char *module = NULL;

	if (!socket)
		return err->code;
	if (access(socket, F_OK) < 0) {
		int e = errno;
		davit_error_set(err, DAVIT_EUNAVAIL, f->name, "%s: cannot reach %s: %s", f->name, socket,
				strerror(e));
		return DAVIT_EUNAVAIL;
	}
	module = davit_path_join(l->daemon->paths.libexec, "davit-engine.so");
	if (!module)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return daemon_module_driver(module, l->engine->symbol, ret, err);
}

static int add_engines(struct davit_daemon *d, struct davit_error *err)
{
	int r = 0;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(engines) && r == 0; i++) {
		engine_loads[i] = (struct engine_load){d, &engines[i]};
		r = davit_core_add_loaded_runtime(d->core, engines[i].flavour->name, engines[i].summary,
						  load_engine, &engine_loads[i], err);
	}
	return r;
}

/* A runtime in a shared object of its own. */
static int add_module(struct davit_daemon *d, const char *path, struct davit_error *err)
{
	const struct davit_runtime_driver *driver;
	int r = daemon_module_driver(path, DAVIT_RUNTIME_SYMBOL, &driver, err);

	if (r == 0)
		r = davit_runtime_driver_validate(driver, err);
	return r < 0 ? r : davit_core_add_runtime(d->core, driver->name, driver, err);
}

static bool is_module(const char *file)
{
	size_t n = strlen(file);

	return n > 3 && !strcmp(file + n - 3, ".so");
}

static int add_external(struct davit_daemon *d, const char *dir, const char *file, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(dir, file);
	const struct davit_runtime_driver *driver;
	int r;

	if (!path)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (is_module(file))
		return add_module(d, path, err);
	if (access(path, X_OK) < 0)
		return davit_error_errno(err, errno, NULL, "cannot execute %s", path);
	if (n_external == EXTERNAL_MAX)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "more than %d runtimes in files",
				       EXTERNAL_MAX);
	r = davit_exec_driver_new(path, &driver, err);
	if (r < 0)
		return r;
	r = davit_core_add_runtime(d->core, driver->name, driver, err);
	if (r < 0)
		davit_exec_driver_free(driver);
	else
		external[n_external++] = driver;
	return r;
}

static void add_directory(struct davit_daemon *d, const char *parent)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(parent, "runtimes");
	DIR *dir = path ? opendir(path) : NULL;
	struct dirent *entry;
	struct davit_error err;

	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, DAVIT_EXEC_PREFIX, sizeof DAVIT_EXEC_PREFIX - 1) &&
		    add_external(d, path, entry->d_name, &err) < 0)
			davit_log(DAVIT_LOG_WARNING, "runtime %s is left out: %s", entry->d_name,
				  err.message);
	if (dir)
		closedir(dir);
}

int daemon_add_runtimes(struct davit_daemon *d, struct davit_error *err)
{
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(runtimes); i++) {
		int r = davit_core_add_runtime(d->core, runtimes[i]->name, runtimes[i], err);
		if (r < 0)
			return r;
	}
	if (add_engines(d, err) < 0)
		return err->code;
	add_directory(d, d->paths.config);
	add_directory(d, d->paths.libexec);
	return 0;
}

void daemon_free_runtimes(void)
{
	while (n_external)
		davit_exec_driver_free(external[--n_external]);
}
