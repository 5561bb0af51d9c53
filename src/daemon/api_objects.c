/* SPDX-License-Identifier: MIT
 *
 * Volumes and networks of a runtime, by name.
 */
#include "daemon/api.h"

struct listing {
	struct davit_buf out;
	struct davit_json json;
};

static void write_object(void *user, const struct davit_object_info *info)
{
	struct davit_json *j = &((struct listing *)user)->json;

	davit_json_open(j);
	davit_json_put_string(j, "name", info->name);
	davit_json_put_string(j, "detail", info->detail);
	davit_json_put_time(j, "created", info->created);
	davit_json_put_bool(j, "ours", info->ours);
	davit_json_close(j);
}

static void listed(struct davit_op *op, int result)
{
	struct api_call *call = op->user;
	struct listing *l = call->state;
	struct davit_buf out;

	davit_json_close_array(&l->json);
	out = l->out;
	free(l);
	if (result < 0)
		api_fail(call, &op->error);
	else
		api_reply(call, &out);
	davit_buf_fini(&out);
}

static void list(struct api_call *call, enum davit_objects kind)
{
	struct listing *l = calloc(1, sizeof *l);
	struct davit_error err = {0};
	int r;

	if (!l) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	l->json = (struct davit_json){.out = &l->out};
	call->state = l;
	davit_json_open_array(&l->json);
	davit_op_init(&call->op, call->daemon->loop, listed, call);
	davit_op_begin(&call->op, 0);
	r = davit_core_objects(call->daemon->core, kind, api_runtime(call), write_object, l, &call->op, &err);
	if (r < 0) {
		davit_buf_fini(&l->out);
		free(l);
		api_fail(call, &err);
	}
}

static void create(struct api_call *call, enum davit_objects kind)
{
	const char *name = json_string_value(json_object_get(call->body, "name"));
	struct davit_error err = {0};

	api_begin(call);
	api_begun(call,
		  davit_core_object_create(call->daemon->core, kind, api_runtime(call), name, call->cause,
					   &call->op, &err),
		  &err);
}

static void drop(struct api_call *call, enum davit_objects kind)
{
	struct davit_error err = {0};

	api_begin(call);
	api_begun(call,
		  davit_core_object_remove(call->daemon->core, kind, api_runtime(call), call->path[1],
					   call->cause, &call->op, &err),
		  &err);
}

void api_volumes_list(struct api_call *call)
{
	list(call, DAVIT_OBJECTS_VOLUMES);
}

void api_volume_create(struct api_call *call)
{
	create(call, DAVIT_OBJECTS_VOLUMES);
}

void api_volume_delete(struct api_call *call)
{
	drop(call, DAVIT_OBJECTS_VOLUMES);
}

void api_networks_list(struct api_call *call)
{
	list(call, DAVIT_OBJECTS_NETWORKS);
}

void api_network_create(struct api_call *call)
{
	create(call, DAVIT_OBJECTS_NETWORKS);
}

void api_network_delete(struct api_call *call)
{
	drop(call, DAVIT_OBJECTS_NETWORKS);
}
