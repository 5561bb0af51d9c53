/* SPDX-License-Identifier: MIT */
#include "cli/pack.h"

#include <dlfcn.h>

int davit_archive_load(const char *libexec, const struct davit_archive **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;
	void *module, *table = NULL;

	davit_buf_addf(&path, "%s/davit-archive.so", libexec);
	module = dlopen(davit_buf_str(&path), RTLD_NOW | RTLD_LOCAL);
	if (module)
		table = dlsym(module, "davit_archive");
	if (!table)
		return davit_error_set(err, DAVIT_ENOTSUP, NULL, "archives cannot be read or written: %s",
				       dlerror());
	*ret = table;
	return 0;
}
