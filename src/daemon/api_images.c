/* SPDX-License-Identifier: MIT
 *
 * Images of a runtime: listed, brought in, built, removed.
 */
#include "daemon/api.h"

static void write_image(void *user, const struct davit_image_info *info)
{
	struct davit_json *j = user;

	davit_json_open(j);
	davit_json_put_string(j, "id", info->id);
	davit_json_put_strv(j, "references", (char *const *)info->references);
	davit_json_put_int(j, "size", (int64_t)info->size);
	davit_json_put_time(j, "created", info->created);
	davit_json_put_bool(j, "inUse", info->in_use);
	davit_json_close(j);
}

void api_images_list(struct api_call *call)
{
	struct davit_json *j = api_list_begin(call);
	struct davit_error err = {0};

	if (j)
		api_list_begun(call,
			       davit_core_images(call->daemon->core, api_runtime(call), write_image, j,
						 &call->op, &err),
			       &err);
}

/* --- orders --- */

static void told(void *user, const char *text)
{
	api_progress(user, text);
}

static int order(struct api_call *call, enum davit_image_verb verb, const char *reference, int fd,
		 struct davit_error *err)
{
	const struct davit_image_order o = {
		.verb = verb,
		.reference = reference,
		.dockerfile = verb == DAVIT_IMAGE_BUILD ? api_query(call, "dockerfile") : NULL,
		.force = api_query_bool(call, "force"),
		.cause = call->cause,
		.fd = fd,
		.progress = told,
		.user = call,
	};

	return davit_core_image(call->daemon->core, api_runtime(call), &o, &call->op, err);
}

static void ended(struct api_call *call)
{
	api_progress_end(call, NULL);
}

static int load(struct api_call *call, int fd, struct davit_error *err)
{
	return order(call, DAVIT_IMAGE_LOAD, NULL, fd, err);
}

static int import(struct api_call *call, int fd, struct davit_error *err)
{
	return order(call, DAVIT_IMAGE_IMPORT, api_query(call, "reference"), fd, err);
}

static int build(struct api_call *call, int fd, struct davit_error *err)
{
	return order(call, DAVIT_IMAGE_BUILD, api_query(call, "reference"), fd, err);
}

void api_image_load(struct api_call *call)
{
	api_upload(call, load, ended);
}

void api_image_import(struct api_call *call)
{
	api_upload(call, import, ended);
}

void api_image_build(struct api_call *call)
{
	api_upload(call, build, ended);
}

static void pulled(struct davit_op *op, int result)
{
	api_progress_end(op->user, result < 0 ? &op->error : NULL);
}

void api_image_pull(struct api_call *call)
{
	const char *reference = json_string_value(json_object_get(call->body, "reference"));
	struct davit_error err = {0};
	int r;

	davit_op_init(&call->op, call->daemon->loop, pulled, call);
	davit_op_begin(&call->op, 0);
	r = order(call, DAVIT_IMAGE_PULL, reference, -1, &err);
	if (r < 0)
		api_fail(call, &err);
	else
		api_hold(call);
}

void api_image_delete(struct api_call *call)
{
	struct davit_error err = {0};

	api_begin(call);
	api_begun(call, order(call, DAVIT_IMAGE_REMOVE, api_query(call, "reference"), -1, &err), &err);
}
