/* SPDX-License-Identifier: MIT
 *
 * Runtimes in shared objects: those that bring libraries along which davitd can do
 * without until they are of use, and those of others.
 */
#include "daemon/module.h"

#include "base/file.h"
#include "base/util.h"

#include <dlfcn.h>
#include <string.h>

int daemon_module_driver(const char *path, const char *symbol, const struct davit_runtime_driver **ret,
			 struct davit_error *err)
{
	/* Never unloaded: the core borrows the driver for ever. */
	void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct davit_runtime_driver *driver = module ? dlsym(module, symbol) : NULL;

	if (!driver)
		return davit_error_set(err, DAVIT_ENOTSUP, "runtime", "%s", dlerror());
	*ret = driver;
	return 0;
}
