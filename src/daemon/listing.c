/* SPDX-License-Identifier: MIT
 *
 * Answers that are lists of what a runtime tells one by one.
 */
#include "daemon/api.h"

struct listing {
	struct davit_buf out;
	struct davit_json json;
};

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

struct davit_json *api_list_begin(struct api_call *call)
{
	struct listing *l = calloc(1, sizeof *l);

	if (!l) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	l->json = (struct davit_json){.out = &l->out};
	call->state = l;
	davit_json_open_array(&l->json);
	davit_op_init(&call->op, call->daemon->loop, listed, call);
	davit_op_begin(&call->op, 0);
	return &l->json;
}

void api_list_begun(struct api_call *call, int r, const struct davit_error *err)
{
	struct listing *l = call->state;

	if (r >= 0)
		return;
	davit_buf_fini(&l->out);
	free(l);
	api_fail(call, err);
}
