/* SPDX-License-Identifier: MIT */
#include "channel/frame.h"

#include "davit/actor.h"

#include <endian.h>
#include <string.h>

void davit_frame_put(unsigned char *to, const struct davit_frame *f)
{
	const struct davit_frame le = {.size = htole32(f->size),
				       .kind = f->kind,
				       .flags = f->flags,
				       .from = f->from,
				       .to = f->to,
				       .id = htole64(f->id),
				       .type = htole32(f->type),
				       .time = htole32(f->time)};

	_Static_assert(sizeof le == DAVIT_FRAME_HEADER, "the header has no holes");
	memcpy(to, &le, sizeof le);
}

void davit_frame_get(const unsigned char *from, struct davit_frame *ret)
{
	memcpy(ret, from, sizeof *ret);
	ret->size = le32toh(ret->size);
	ret->id = le64toh(ret->id);
	ret->type = le32toh(ret->type);
	ret->time = le32toh(ret->time);
}

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
	if (f->size > DAVIT_FRAME_MAX || (uint32_t)f->from + f->to > f->size)
		return DAVIT_EPROTO;
	if (f->flags & DAVIT_FRAME_MORE && !davit_frame_in_parts(f->kind))
		return DAVIT_EPROTO;
	return 0;
}

bool davit_frame_type_ok(uint32_t type, const void *data, size_t size)
{
	const char *p = data, *nul;

	if (type < DAVIT_TYPE_SYSTEM)
		return true;
	if (type != DAVIT_TYPE_COMMAND || !size || !(nul = memchr(p, 0, size)))
		return false;
	return nul != p && (size_t)(nul - p) + 1 < size && !p[size - 1];
}
