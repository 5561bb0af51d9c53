/* SPDX-License-Identifier: MIT
 *
 * Frames of the channel protocol (docs/channel.md): a header of 24 bytes, and what
 * follows it.
 */
#ifndef DAVIT_CHANNEL_FRAME_H
#define DAVIT_CHANNEL_FRAME_H

#include "davit/actor.h"
#include "davit/error.h"

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	DAVIT_FRAME_HEADER = 24,
	DAVIT_FRAME_MAX = 65536,     /* bytes behind the header */
	DAVIT_FRAME_LIMIT = 1 << 26, /* of a message in several frames */
	DAVIT_CHANNEL_PROTOCOL = 1,
};

enum davit_frame_kind {
	DAVIT_FRAME_HELLO = 1,
	DAVIT_FRAME_WELCOME,
	DAVIT_FRAME_OPERATE,
	DAVIT_FRAME_STATE,
	DAVIT_FRAME_PING,
	DAVIT_FRAME_PONG,
	DAVIT_FRAME_ACK,
	DAVIT_FRAME_MESSAGE,
	DAVIT_FRAME_REQUEST,
	DAVIT_FRAME_REPLY,
	DAVIT_FRAME_REFUSE,
	DAVIT_FRAME_PROGRESS,
	DAVIT_FRAME_CANCEL,
	DAVIT_FRAME_MANAGE,
	DAVIT_FRAME_RESULT,
	DAVIT_FRAME_GONE,
	DAVIT_FRAME_ANNOUNCE,
	DAVIT_FRAME_LOG,
	DAVIT_FRAME_BELL,
	DAVIT_FRAME_SPAWNED,
	DAVIT_FRAME_BECOME,
	DAVIT_FRAME_KINDS
};

/* davit_frame.flags */
enum {
	DAVIT_FRAME_MORE = 1,	/* of a large message, and not its last part */
	DAVIT_FRAME_FAILED = 2, /* a request for a failed container */
	DAVIT_FRAME_KEEP = 4,	/* kept while nobody has the alias */
};

/* A header, in the numbers of this machine. */
struct davit_frame {
	uint32_t size; /* of what follows: from + to + the payload */
	uint8_t kind, flags, from, to;
	uint64_t id;
	uint32_t type, time;
};

/* Which end receives it. */
enum davit_channel_end { DAVIT_END_PARENT, DAVIT_END_CHILD };

_Static_assert(sizeof(struct davit_frame) == DAVIT_FRAME_HEADER, "the header has no holes");

/* To and from the 24 bytes. */
static inline void davit_frame_put(unsigned char *to, const struct davit_frame *f)
{
	const uint64_t lengths = (uint64_t)f->from << 48 | (uint64_t)f->to << 56;
	const uint64_t words[] = {
		htole64(f->size | (uint64_t)f->kind << 32 | (uint64_t)f->flags << 40 | lengths),
		htole64(f->id), htole64(f->type | (uint64_t)f->time << 32)};

	memcpy(to, &words[0], 8);
	memcpy(to + 8, &words[1], 8);
	memcpy(to + 16, &words[2], 8);
}

static inline void davit_frame_get(const unsigned char *from, struct davit_frame *ret)
{
	memcpy(ret, from, sizeof *ret);
	ret->size = le32toh(ret->size);
	ret->id = le64toh(ret->id);
	ret->type = le32toh(ret->type);
	ret->time = le32toh(ret->time);
}

/* Is this a header that the end may be sent? Lengths are within each other then, and
 * the kind is one of the protocol. 0, or DAVIT_EPROTO. */
int davit_frame_check(const struct davit_frame *f, enum davit_channel_end end);
/* "HELLO", ...; "?" for another. */
const char *davit_frame_name(unsigned kind);
/* One that goes through the rings, where there are some. */
static inline bool davit_frame_of_messages(unsigned kind)
{
	return kind >= DAVIT_FRAME_MESSAGE && kind <= DAVIT_FRAME_CANCEL;
}
/* One that may come in several parts. */
static inline bool davit_frame_in_parts(unsigned kind)
{
	return kind >= DAVIT_FRAME_MESSAGE && kind <= DAVIT_FRAME_REPLY;
}

/* Is what a header says within itself, and within max bytes? */
static inline bool davit_frame_lengths_ok(const struct davit_frame *f, uint32_t max)
{
	return f->size <= max && (uint32_t)f->from + f->to <= f->size &&
	       (!(f->flags & DAVIT_FRAME_MORE) || davit_frame_in_parts(f->kind));
}

/* Is it a command: text, NUL, text, NUL? */
bool davit_frame_command_ok(const void *data, size_t size);
/* A refusal of types that a peer must not send: those of the system, but for commands. */
static inline bool davit_frame_type_ok(uint32_t type, const void *data, size_t size)
{
	return type < DAVIT_TYPE_SYSTEM || (type == DAVIT_TYPE_COMMAND && davit_frame_command_ok(data, size));
}

#endif
