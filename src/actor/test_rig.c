/* SPDX-License-Identifier: MIT */
#include "actor/test_rig.h"

static char noted[16384], given[16384], some[16384];

void note(const char *fmt, ...)
{
	size_t n = strlen(noted);
	va_list ap;

	if (n && n + 1 < sizeof noted)
		n += (size_t)snprintf(noted + n, sizeof noted - n, " ");
	va_start(ap, fmt);
	vsnprintf(noted + n, sizeof noted - n, fmt, ap);
	va_end(ap);
}

const char *trace(void)
{
	memcpy(given, noted, sizeof given);
	noted[0] = 0;
	return given;
}

const char *only(const char *text, const char *part)
{
	static char copy[16384];
	size_t n = 0;

	snprintf(copy, sizeof copy, "%s", text);
	some[0] = 0;
	for (char *save, *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		if (strstr(word, part))
			n += (size_t)snprintf(some + n, sizeof some - n, "%s%s", n ? " " : "", word);
	return some;
}

static void take_line(void *arg, const char *line)
{
	struct world *w = arg;

	w->lines++;
	snprintf(w->line, sizeof w->line, "%s", line);
}

struct world *open_world(void)
{
	struct world *w = calloc(1, sizeof *w);
	struct davit_system_config config = {
		.workers = DAVIT_NO_WORKERS, .manual_clock = true, .log = take_line, .arg = w};

	assert_non_null(w);
	assert_int_equal(davit_system_open(&config, &w->system, NULL), 0);
	w->c = davit_system_context(w->system);
	davit_system_run(w->system);
	trace();
	return w;
}

void close_world(struct world *w)
{
	davit_system_close(w->system);
	free(w);
	trace();
}

int finish(struct world *w, struct davit_promise p)
{
	return davit_await(w->c, p, 0, NULL, NULL);
}

int make(struct world *w, const char *alias, const struct davit_definition *d, unsigned flags)
{
	struct davit_create what = {.alias = alias, .definition = d, .flags = flags};
	struct davit_promise p;

	assert_int_equal(davit_container_create(w->c, &what, &p), 0);
	return finish(w, p);
}

void make_under(struct world *w, const char *parent, const char *alias, const struct davit_definition *d)
{
	struct davit_create what = {
		.alias = alias, .definition = d, .parent = parent, .flags = DAVIT_CREATE_START};
	struct davit_promise p;

	assert_int_equal(davit_container_create(w->c, &what, &p), 0);
	assert_int_equal(finish(w, p), 0);
	davit_system_run(w->system);
}

int do_destroy(struct world *w, const char *alias, unsigned flags)
{
	struct davit_promise p;

	assert_int_equal(davit_container_destroy(w->c, alias, flags, &p), 0);
	return finish(w, p);
}

enum davit_state state(struct world *w, const char *alias)
{
	struct davit_container_info info;

	return davit_container_get(w->c, alias, &info) ? DAVIT_STATE_DESTROYED : info.state;
}

void tell(struct world *w, const char *alias, const char *text)
{
	struct davit_ref ref;

	assert_int_equal(davit_find(w->c, alias, &ref), 0);
	davit_tell(w->c, ref, 1, text, strlen(text) + 1);
	davit_system_run(w->system);
}

void pass(struct world *w, int64_t ns)
{
	davit_system_advance(w->system, ns);
	davit_system_run(w->system);
}

void balance(struct world *w)
{
	struct davit_system_stats s;

	davit_system_stats(w->system, &s);
	assert_int_equal(s.sent, s.handled + s.dead);
}
