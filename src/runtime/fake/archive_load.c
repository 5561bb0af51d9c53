/* SPDX-License-Identifier: MIT */
#include "runtime/fake/archive.h"

#include <dlfcn.h>

int fake_archive_load(const char *libexec, const struct fake_archive **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;
	void *module, *table;

	davit_buf_addf(&path, "%s/davit-fake-archive.so", libexec);
	if (path.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	/* Never unloaded; loading it again is cheap. */
	module = dlopen(davit_buf_str(&path), RTLD_NOW | RTLD_LOCAL);
	table = module ? dlsym(module, "davit_fake_archive") : NULL;
	if (!table)
		return davit_error_set(err, DAVIT_ENOTSUP, "fake", "archives cannot be read or written: %s",
				       dlerror());
	*ret = table;
	return 0;
}
