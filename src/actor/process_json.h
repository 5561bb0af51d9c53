/* SPDX-License-Identifier: MIT
 *
 * The JSON of the channel's frames (docs/channel.md).
 */
#ifndef DAVIT_ACTOR_PROCESS_JSON_H
#define DAVIT_ACTOR_PROCESS_JSON_H

#include "base/buf.h"
#include "davit/container.h"

struct hello {
	int protocol;
	char alias[64], name[64], parent[64], path[256];
	char *args;		      /* owned */
	int64_t heartbeat, keepalive; /* ns; keepalive -1: never */
	uint32_t window, slots;	      /* slots 0: no rings */
};
void hello_json(struct davit_buf *b, const struct hello *h);
/* 0, DAVIT_EPROTO or DAVIT_ENOMEM. */
int hello_read(const void *json, size_t size, struct hello *ret);

void welcome_json(struct davit_buf *b, int protocol, bool rings);
int welcome_read(const void *json, size_t size, int *ret_protocol, bool *ret_rings);

/* The "alias" of an answer. */
int alias_read(const void *json, size_t size, char ret[64]);

struct operate {
	char what[16];
	bool fresh;
	int code;
	char text[128];
};
/* text NULL: neither code nor message. */
void operate_json(struct davit_buf *b, const char *what, bool fresh, int code, const char *text);
int operate_read(const void *json, size_t size, struct operate *ret);

struct said {
	enum davit_state state;
	uint64_t failure;
	char text[128];
	bool has_options;
};
/* One-for-one, if there is none of that name. */
enum davit_strategy strategy_from_name(const char *name);

/* options NULL: none. */
void state_json(struct davit_buf *b, enum davit_state state, const char *text, uint64_t failure,
		const struct davit_options *options);
/* What the options do not name stays in *options as it was. */
int state_read(const void *json, size_t size, struct said *ret, struct davit_options *options);

#endif
