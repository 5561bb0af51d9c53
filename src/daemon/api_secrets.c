/* SPDX-License-Identifier: MIT
 *
 * Secrets: written, listed by name and forgotten, never read back.
 */
#include "daemon/api.h"

#include "core/secret.h"

#include <string.h>

static bool write_secret(void *user, const struct davit_secret_info *info)
{
	struct davit_json *j = user;

	davit_json_open(j);
	davit_json_put_string(j, "namespace", info->namespace_);
	davit_json_put_string(j, "name", info->name);
	davit_json_put_time(j, "created", info->created);
	davit_json_put_time(j, "updated", info->updated);
	davit_json_close(j);
	return true;
}

void api_secrets_list(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);
	const char *namespace_ = api_query(call, "namespace");
	struct davit_error err = {0};
	int r;

	if (!namespace_ || !namespace_[0])
		namespace_ = "default";
	davit_json_open_array(&j);
	r = davit_secrets_list(call->daemon->secrets, strcmp(namespace_, "*") ? namespace_ : NULL,
			       write_secret, &j, &err);
	davit_json_close_array(&j);
	if (r < 0)
		api_fail(call, &err);
	else
		api_reply(call, &out);
}

void api_secret_put(struct api_call *call)
{
	const struct davit_buf *value = &call->request->body;
	struct davit_error err = {0};

	api_op(call); /* begun by the secrets themselves */
	api_begun(call,
		  davit_secrets_set(call->daemon->secrets, call->path[0], call->path[1], davit_buf_str(value),
				    value->len, &call->op, &err),
		  &err);
}

void api_secret_delete(struct api_call *call)
{
	struct davit_error err = {0};

	api_op(call); /* begun by the secrets themselves */
	api_begun(call,
		  davit_secrets_remove(call->daemon->secrets, call->path[0], call->path[1], &call->op, &err),
		  &err);
}
