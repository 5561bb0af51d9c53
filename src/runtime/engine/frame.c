/* SPDX-License-Identifier: MIT */
#include "runtime/engine/frame.h"

#include "base/units.h"

#include <string.h>

int frame_header(const struct davit_buf *b, enum davit_stream *ret_stream, size_t *ret_n)
{
	const unsigned char *h = (const unsigned char *)b->data;
	size_t n;

	if (b->len < FRAME_HEADER)
		return 0;
	n = (size_t)h[4] << 24 | (size_t)h[5] << 16 | (size_t)h[6] << 8 | h[7];
	/* 0 is standard input's: never sent, and written to the output where it is. */
	if (h[0] > 2 || h[1] || h[2] || h[3] || n > FRAME_MAX)
		return DAVIT_EPROTO;
	*ret_stream = h[0] == 2 ? DAVIT_STDERR : DAVIT_STDOUT;
	*ret_n = n;
	return 1;
}

int frame_next(const struct davit_buf *b, struct frame *ret)
{
	enum davit_stream stream;
	size_t n;
	int r = frame_header(b, &stream, &n);

	if (r <= 0 || b->len - FRAME_HEADER < n)
		return r < 0 ? r : 0;
	*ret = (struct frame){.stream = stream, .data = b->data + FRAME_HEADER, .n = n};
	return 1;
}

bool frame_stamp(struct frame *f, int64_t *ret_time)
{
	const char *space = f->n ? memchr(f->data, ' ', f->n < DAVIT_TIME_MAX ? f->n : DAVIT_TIME_MAX) : NULL;
	char text[DAVIT_TIME_MAX + 1];

	if (!space)
		return false;
	memcpy(text, f->data, (size_t)(space - f->data));
	text[space - f->data] = '\0';
	if (davit_time_parse(text, ret_time, NULL) < 0)
		return false;
	f->n -= (size_t)(space + 1 - f->data);
	f->data = space + 1;
	return true;
}

bool frame_record(struct frame *f, int64_t *ret_time, bool *ret_whole)
{
	if (!frame_stamp(f, ret_time) || f->n < 9 || f->data[6] != ' ' || f->data[8] != ' ')
		return false;
	f->stream = !strncmp(f->data, "stderr", 6) ? DAVIT_STDERR : DAVIT_STDOUT;
	*ret_whole = f->data[7] == 'F';
	f->data += 9;
	f->n -= 9;
	return true;
}
