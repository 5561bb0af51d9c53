/* SPDX-License-Identifier: MIT
 *
 * Files in and out of instances, as tar.
 */
#include "daemon/api.h"

/* The instance may have gone between request and pipe: found again by its id. */
static int with_instance(struct api_call *call, int fd, bool put, struct davit_error *err)
{
	struct davit_core *core = call->daemon->core;
	struct davit_instance *i = davit_core_instance(core, NULL, call->path[0]);
	const char *path = api_query(call, "path");

	if (i)
		return put ? davit_core_copy_put(core, i, path, fd, &call->op, err)
			   : davit_core_copy_get(core, i, path, fd, &call->op, err);
	close(fd);
	return davit_error_set(err, DAVIT_ENOENT, "instance", "instance '%s' not found", call->path[0]);
}

static int put(struct api_call *call, int fd, struct davit_error *err)
{
	return with_instance(call, fd, true, err);
}

static int get(struct api_call *call, int fd, struct davit_error *err)
{
	return with_instance(call, fd, false, err);
}

void api_instance_archive_put(struct api_call *call)
{
	api_upload(call, put, NULL);
}

void api_instance_archive_get(struct api_call *call)
{
	api_download(call, "application/x-tar", get);
}
