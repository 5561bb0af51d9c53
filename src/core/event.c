/* SPDX-License-Identifier: MIT
 *
 * Events: one for each change, with its cause, in order, through the journal.
 */
#include "core/core_impl.h"
#include "core/event_rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void write_event(struct davit_core *c, const char *type, const char *service, const char *instance,
			const char *cause)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	davit_buf_reserve(&b, 250); /* most need less */
	/* The journal opens the object with the id. */
	j.comma = false;
	davit_json_put_time(&j, "time", davit_loop_wall(c->loop));
	davit_json_put_string(&j, "type", type);
	davit_json_put_string(&j, "service", service);
	davit_json_put_string(&j, "instance", instance);
	davit_json_put_string(&j, "cause", cause);
	davit_json_close(&j);
	if (!b.oom)
		davit_journal_event(c->journal, davit_buf_str(&b));
}

/* NS/NAME/VERSION -> NS/NAME:VERSION */
static void key_name(const char *key, char *buf, size_t size)
{
	size_t n = strnlen(key, size - 1);
	char *slash;

	memcpy(buf, key, n);
	buf[n] = '\0';
	slash = strchr(buf, '/');
	slash = slash ? strchr(slash + 1, '/') : NULL;
	if (slash)
		*slash = ':';
}

void core_event(struct davit_core *c, const char *type, const struct davit_service *s,
		const struct instance *i, const char *cause_fmt, ...)
{
	char name[320] = "", cause[512];
	va_list ap;

	va_start(ap, cause_fmt);
	vsnprintf(cause, sizeof cause, cause_fmt, ap);
	va_end(ap);
	if (s)
		key_name(s->key, name, sizeof name);
	else if (i && i->orphan_of)
		key_name(i->orphan_of, name, sizeof name);
	write_event(c, type, name[0] ? name : NULL, i ? i->workload.id : NULL, cause);
}

void core_event_key(struct davit_core *c, const char *type, const char *key, const char *cause)
{
	char name[320];

	key_name(key, name, sizeof name);
	write_event(c, type, name, NULL, cause);
}

int davit_core_events(struct davit_core *c, uint64_t after, size_t limit,
		      bool (*fn)(void *user, uint64_t id, const char *json), void *user,
		      struct davit_error *err)
{
	return davit_event_rows_list(c->store, after, limit, fn, user, err);
}
