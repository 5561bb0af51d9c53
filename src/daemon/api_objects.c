/* SPDX-License-Identifier: MIT
 *
 * Volumes and networks of a runtime, by name.
 */
#include "daemon/api.h"

static void write_object(void *user, const struct davit_object_info *info)
{
	struct davit_json *j = user;

	davit_json_open(j);
	davit_json_put_string(j, "name", info->name);
	davit_json_put_string(j, "detail", info->detail);
	davit_json_put_time(j, "created", info->created);
	davit_json_put_bool(j, "ours", info->ours);
	davit_json_close(j);
}

static void list(struct api_call *call, enum davit_objects kind)
{
	struct davit_json *j = api_list_begin(call);
	struct davit_error err = {0};

	if (j)
		api_list_begun(call,
			       davit_core_objects(call->daemon->core, kind, api_runtime(call), write_object,
						  j, &call->op, &err),
			       &err);
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
