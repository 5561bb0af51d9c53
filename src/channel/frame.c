/* SPDX-License-Identifier: MIT */
#include "channel/frame.h"

#include <string.h>

/* Which ends may receive a kind. */
enum { AT_PARENT = 1 << DAVIT_END_PARENT, AT_CHILD = 1 << DAVIT_END_CHILD };
static const struct {
	const char *name;
	int ends;
} kinds[DAVIT_FRAME_KINDS] = {
	[DAVIT_FRAME_HELLO] = {"HELLO", AT_CHILD},
	[DAVIT_FRAME_WELCOME] = {"WELCOME", AT_PARENT},
	[DAVIT_FRAME_OPERATE] = {"OPERATE", AT_CHILD},
	[DAVIT_FRAME_STATE] = {"STATE", AT_PARENT},
	[DAVIT_FRAME_PING] = {"PING", AT_CHILD},
	[DAVIT_FRAME_PONG] = {"PONG", AT_PARENT},
	[DAVIT_FRAME_ACK] = {"ACK", AT_PARENT},
	[DAVIT_FRAME_MESSAGE] = {"MESSAGE", AT_PARENT | AT_CHILD},
	[DAVIT_FRAME_REQUEST] = {"REQUEST", AT_PARENT | AT_CHILD},
	[DAVIT_FRAME_REPLY] = {"REPLY", AT_PARENT | AT_CHILD},
	[DAVIT_FRAME_REFUSE] = {"REFUSE", AT_PARENT | AT_CHILD},
	[DAVIT_FRAME_PROGRESS] = {"PROGRESS", AT_PARENT | AT_CHILD},
	[DAVIT_FRAME_CANCEL] = {"CANCEL", AT_PARENT | AT_CHILD},
	[DAVIT_FRAME_MANAGE] = {"MANAGE", AT_PARENT},
	[DAVIT_FRAME_RESULT] = {"RESULT", AT_CHILD},
	[DAVIT_FRAME_GONE] = {"GONE", AT_CHILD},
	[DAVIT_FRAME_ANNOUNCE] = {"ANNOUNCE", AT_PARENT},
	[DAVIT_FRAME_LOG] = {"LOG", AT_PARENT},
	[DAVIT_FRAME_BELL] = {"BELL", AT_PARENT | AT_CHILD},
	[DAVIT_FRAME_SPAWNED] = {"SPAWNED", AT_PARENT},
	[DAVIT_FRAME_BECOME] = {"BECOME", AT_CHILD},
};

const char *davit_frame_name(unsigned kind)
{
	return kind < DAVIT_FRAME_KINDS && kinds[kind].name ? kinds[kind].name : "?";
}

int davit_frame_check(const struct davit_frame *f, enum davit_channel_end end)
{
	if (f->kind >= DAVIT_FRAME_KINDS || !(kinds[f->kind].ends & 1 << end))
		return DAVIT_EPROTO;
	return davit_frame_lengths_ok(f, DAVIT_FRAME_MAX) ? 0 : DAVIT_EPROTO;
}

bool davit_frame_command_ok(const void *data, size_t size)
{
	const char *p = data, *nul;

	if (!size || !(nul = memchr(p, 0, size)))
		return false;
	return nul != p && (size_t)(nul - p) + 1 < size && !p[size - 1];
}
