/* SPDX-License-Identifier: MIT
 *
 * The engine's framing of two streams in one: 8 bytes of header, then the
 * payload. And what a log line of it says. No loop, no calls.
 */
#ifndef DAVIT_ENGINE_FRAME_H
#define DAVIT_ENGINE_FRAME_H

#include "base/buf.h"
#include "davit/runtime.h"

#define FRAME_HEADER 8
#define FRAME_MAX (16 << 20) /* a longer one is no frame */

struct frame {
	enum davit_stream stream;
	const char *data; /* within the buffer */
	size_t n;
};

/* The frame at the front of b, which is not consumed: take FRAME_HEADER + n bytes off
 * after. 1, 0 when it is not complete, or DAVIT_EPROTO. */
int frame_next(const struct davit_buf *b, struct frame *ret);
/* The header alone: how many payload bytes follow. As above. */
int frame_header(const struct davit_buf *b, enum davit_stream *ret_stream, size_t *ret_n);

/* "2026-01-02T03:04:05.678Z text": the time off the front. False: it has none. */
bool frame_stamp(struct frame *f, int64_t *ret_time);

/* "TIME stdout|stderr F|P text", a record of a log's file: f is what is read, and then
 * the text. False: it is none. */
bool frame_record(struct frame *f, int64_t *ret_time, bool *ret_whole);

#endif
