/* SPDX-License-Identifier: MIT
 *
 * Operations that last: they end with their client, and tell what they do.
 */
#include "daemon/api.h"

/* What a client may leave unread of lines that cannot be made to wait. */
#define UNREAD_MAX (1024 * 1024)

static void on_gone(struct davit_http_request *r)
{
	struct api_call *call = r->user;

	call->gone = true;
	davit_op_cancel(&call->op);
}

static void on_writable(struct davit_http_request *r)
{
	struct api_call *call = r->user;

	call->unread = 0;
}

void api_hold(struct api_call *call)
{
	call->request->closed = on_gone;
	call->request->writable = on_writable;
}

static void line(struct api_call *call, const char *text)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_json_open(&j);
	davit_json_put_string(&j, "progress", text);
	davit_json_close(&j);
	if (!api_stream_line(call, NULL, davit_buf_str(&out), out.len))
		call->unread += out.len;
}

void api_progress(struct api_call *call, const char *text)
{
	char note[64];

	if (call->gone)
		return;
	if (!call->streaming)
		api_stream_begin(call);
	call->streaming = true;
	if (call->unread > UNREAD_MAX) {
		call->left_out++;
		return;
	}
	if (call->left_out) {
		snprintf(note, sizeof note, "(%zu lines left out)", call->left_out);
		call->left_out = 0;
		line(call, note);
	}
	line(call, text);
}

void api_progress_end(struct api_call *call, const struct davit_error *err)
{
	if (call->gone) {
		api_call_free(call);
	} else if (err && !call->streaming) {
		api_fail(call, err);
	} else {
		if (!call->streaming)
			api_stream_begin(call);
		api_stream_end(call, err);
	}
}
