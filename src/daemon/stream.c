/* SPDX-License-Identifier: MIT
 *
 * Streams of JSON objects: lines, or server-sent events.
 */
#include "daemon/api.h"

#include <string.h>

bool api_stream_sse(const struct api_call *call)
{
	const char *accept = davit_http_header(call->request, "Accept");

	return accept && strstr(accept, "text/event-stream");
}

void api_stream_begin(struct api_call *call)
{
	davit_http_stream(call->request, 200,
			  api_stream_sse(call) ? "text/event-stream" : "application/jsonl");
}

/* In one write, so that it is one chunk. */
bool api_stream_line(struct api_call *call, const char *id, const char *json, size_t n)
{
	DAVIT_AUTO_BUF line = DAVIT_BUF_INIT;

	if (api_stream_sse(call)) {
		if (id)
			davit_buf_addf(&line, "id: %s\n", id);
		davit_buf_adds(&line, "data: ");
		davit_buf_add(&line, json, n);
		davit_buf_adds(&line, "\n\n");
	} else {
		davit_buf_add(&line, json, n);
		davit_buf_addc(&line, '\n');
	}
	return davit_http_write(call->request, davit_buf_str(&line), line.len);
}

const char *api_stream_after(const struct api_call *call)
{
	const char *after = api_query(call, "after");

	return after ? after : davit_http_header(call->request, "Last-Event-ID");
}

void api_stream_end(struct api_call *call, const struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	if (err && err->code) {
		davit_http_error_json(&text, err);
		api_stream_line(call, NULL, davit_buf_str(&text), text.len);
	}
	davit_http_end(call->request);
	api_call_free(call);
}
