/* SPDX-License-Identifier: MIT */
#include "cli/run_view.h"

#include "base/map.h"
#include "base/units.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define DRAW_EVERY (100 * DAVIT_NSEC_PER_MSEC)

/* A node of the plan. */
struct item {
	char *way; /* "0/2/1" */
	const char *kind;
	char *name, *message;
	struct item *parent, *first, *last, *next;
	char state[12], outcome[12];
	int64_t began, ended; /* unix ns */
	int64_t attempt;
};

/* A line that a step has not finished. */
struct partial {
	char *key;
	char *name;
	struct davit_buf text;
};

struct run_view {
	const struct davit_cli *cli;
	enum run_view_kind kind;
	const char *step;
	struct item *root;
	struct davit_map items;	   /* by way */
	struct davit_map partials; /* by key */
	size_t leaves, widest;
	unsigned drawn; /* lines of the tree on the screen */
	int64_t drawn_at;
	bool changed, ended;
};

/* ---------------------------------------------------------------------------------- items */

static void free_item(struct item *i)
{
	struct item *next;

	for (struct item *c = i ? i->first : NULL; c; c = next) {
		next = c->next;
		free_item(c);
	}
	if (!i)
		return;
	free(i->way);
	free(i->name);
	free(i->message);
	free(i);
}

static struct item *new_item(struct run_view *v, struct item *parent, const char *way, const char *kind,
			     const char *name)
{
	struct item *i = calloc(1, sizeof *i);

	if (!i)
		return NULL;
	i->way = strdup(way);
	i->name = name ? strdup(name) : NULL;
	i->kind = kind;
	i->parent = parent;
	if (!i->way || davit_map_put(&v->items, i->way, i) < 0) {
		free_item(i);
		return NULL;
	}
	if (parent && parent->last)
		parent->last->next = i;
	else if (parent)
		parent->first = i;
	if (parent)
		parent->last = i;
	if (name && *name) {
		v->leaves++;
		v->widest = strlen(name) > v->widest ? strlen(name) : v->widest;
	}
	return i;
}

/* The children of a node of the plan, in the order of the engine: steps; or step, hook; of across none yet.
 */
static struct item *add_plan(struct run_view *v, struct item *parent, const char *way, const json_t *plan);

static bool add_child(struct run_view *v, struct item *i, size_t index, const json_t *plan)
{
	DAVIT_AUTO_FREE char *way = NULL;

	if (asprintf(&way, "%s%s%zu", i->way, *i->way ? "/" : "", index) < 0)
		way = NULL;
	return way && add_plan(v, i, way, plan);
}

static struct item *add_plan(struct run_view *v, struct item *parent, const char *way, const json_t *plan)
{
	const json_t *steps = json_object_get(plan, "steps"), *step = json_object_get(plan, "step"),
		     *hook = json_object_get(plan, "hook"), *c;
	const char *kind = json_string_value(json_object_get(plan, "kind"));
	struct item *i =
		new_item(v, parent, way, kind ? kind : "", json_string_value(json_object_get(plan, "name")));
	bool ok = i != NULL;
	size_t k;

	json_array_foreach(steps, k, c) ok = ok && add_child(v, i, k, c);
	if (step && kind && strcmp(kind, "across") != 0)
		ok = ok && add_child(v, i, 0, step);
	if (hook)
		ok = ok && add_child(v, i, 1, hook);
	return ok ? i : NULL;
}

/* The item of an event; one of across is made when it is first heard of. */
static struct item *item_of(struct run_view *v, const json_t *e)
{
	const char *way = davit_string(e, "node"), *slash = strrchr(way, '/'),
		   *kind = davit_string(e, "kind");
	struct item *i = davit_map_get(&v->items, way), *parent;
	DAVIT_AUTO_FREE char *above = NULL;
	static const char *const kinds[] = {"do",	"in_parallel", "across",     "try",
					    "timeout",	"attempts",    "on_success", "on_failure",
					    "on_error", "on_abort",    "ensure",     "task",
					    "get",	"put",	       "check",	     "load_var"};
	const char *word = "";

	if (i)
		return i;
	above = slash ? strndup(way, (size_t)(slash - way)) : strdup("");
	parent = above ? davit_map_get(&v->items, above) : NULL;
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(kinds); k++)
		if (!strcmp(kinds[k], kind))
			word = kinds[k];
	return parent ? new_item(v, parent, way, word, json_string_value(json_object_get(e, "name"))) : NULL;
}

/* ---------------------------------------------------------------------------------- drawing */

static const char *duration(int64_t ns, char buf[DAVIT_TIME_MAX])
{
	if (ns < 10 * DAVIT_NSEC_PER_SEC)
		snprintf(buf, DAVIT_TIME_MAX, "%.1fs", (double)(ns < 0 ? 0 : ns) / 1e9);
	else
		davit_duration_format(ns / DAVIT_NSEC_PER_SEC * DAVIT_NSEC_PER_SEC, buf);
	return buf;
}

static const char *word_of(const struct item *i)
{
	return !strcmp(i->state, "ended") ? i->outcome : !strcmp(i->state, "active") ? "begins" : i->state;
}

static const char *colour(const struct item *i)
{
	static const char *const colours[][2] = {{"succeeded", "\033[32m"},
						 {"failed", "\033[31m"},
						 {"errored", "\033[35m"},
						 {"aborted", "\033[33m"},
						 {"running", "\033[1m"}};

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(colours); k++)
		if (!strcmp(word_of(i), colours[k][0]))
			return colours[k][1];
	return "\033[2m";
}

static const char *mark(const struct item *i)
{
	const char *w = word_of(i);

	return !strcmp(w, "succeeded")			       ? "+"
	       : !*w					       ? "."
	       : !strcmp(w, "running") || !strcmp(w, "begins") ? ">"
							       : "!";
}

static void item_line(const struct run_view *v, const struct item *i, unsigned depth, struct davit_buf *out)
{
	char buf[DAVIT_TIME_MAX];
	int64_t until = i->ended ? i->ended : davit_now();

	if (v->cli->color)
		davit_buf_adds(out, colour(i));
	davit_buf_addf(out, "%*s%s %s", (int)(2 * depth), "", mark(i), i->kind);
	if (i->name && *i->name)
		davit_buf_addf(out, " %s", i->name);
	if (*i->state)
		davit_buf_addf(out, "  %s", word_of(i));
	if (i->attempt > 1)
		davit_buf_addf(out, ", attempt %lld", (long long)i->attempt);
	if (i->began)
		davit_buf_addf(out, "  %s", duration(until - i->began, buf));
	if (v->cli->color)
		davit_buf_adds(out, "\033[0m");
}

static bool is_over(const struct item *i)
{
	return !strcmp(i->state, "ended");
}

/* A tree of more lines than the screen has shows what is going on. */
static bool is_shown(const struct item *i, bool all)
{
	return all || (*i->state && !is_over(i)) || (is_over(i) && strcmp(i->outcome, "succeeded") != 0) ||
	       !i->parent;
}

static void walk(const struct run_view *v, const struct item *i, unsigned depth, bool all, unsigned max,
		 unsigned *n, struct davit_buf *out)
{
	/* A single `do` within nothing else says nothing. */
	bool skip = !i->parent && !strcmp(i->kind, "do");

	if (!skip && is_shown(i, all)) {
		if (out && *n < max) {
			item_line(v, i, depth, out);
			davit_buf_adds(out, "\033[K\n");
		}
		++*n;
	}
	for (const struct item *c = i->first; c; c = c->next)
		walk(v, c, depth + !skip, all, max, n, out);
}

static void erase(struct run_view *v, struct davit_buf *out)
{
	if (v->drawn)
		davit_buf_addf(out, "\r\033[%uA\033[J", v->drawn);
	v->drawn = 0;
}

static unsigned screen_rows(void)
{
	struct winsize w;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row ? w.ws_row : 24;
}

static void draw(struct run_view *v)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	unsigned rows = screen_rows(), n = 0, room = rows > 4 ? rows - 2 : 2;
	bool all;

	walk(v, v->root, 0, true, 0, &n, NULL);
	all = n <= room || v->ended;
	erase(v, &out);
	/* No line is longer than the screen is wide: else the way back up would be wrong. */
	davit_buf_adds(&out, "\033[?7l");
	n = 0;
	walk(v, v->root, 0, all, v->ended ? UINT32_MAX : room, &n, &out);
	if (!v->ended && n > room)
		davit_buf_addf(&out, "  and %u more\033[K\n", n - room);
	davit_buf_adds(&out, "\033[?7h");
	v->drawn = v->ended ? 0 : n > room ? room + 1 : n;
	fwrite(davit_buf_str(&out), 1, out.len, stdout);
	fflush(stdout);
	v->changed = false;
	v->drawn_at = davit_now();
}

void run_view_draw(struct run_view *v)
{
	if (v->kind != RUN_VIEW_TREE)
		fflush(stdout);
	else if (davit_now() - v->drawn_at >= DRAW_EVERY)
		draw(v);
}

void run_view_end(struct run_view *v)
{
	v->ended = true;
	if (v->kind == RUN_VIEW_TREE)
		draw(v);
	fflush(stdout);
}

/* Before something else is printed. */
static void make_room(struct run_view *v)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;

	if (v->kind != RUN_VIEW_TREE || !v->drawn)
		return;
	erase(v, &out);
	fwrite(davit_buf_str(&out), 1, out.len, stdout);
	v->drawn_at = 0;
}

void run_view_say(struct run_view *v, const char *text)
{
	make_room(v);
	fflush(stdout);
	fprintf(stderr, "davit: %s\n", text);
}

/* ------------------------------------------------------------------------------------- logs */

static void print_line(struct run_view *v, const char *name, const char *text, size_t n)
{
	make_room(v);
	if (v->leaves > 1)
		printf("%-*s | ", (int)v->widest, name);
	fwrite(text, 1, n, stdout);
	putchar('\n');
}

static struct partial *partial_of(struct run_view *v, const char *key, const char *name)
{
	struct partial *p = davit_map_get(&v->partials, key);

	if (p)
		return p;
	p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->key = strdup(key);
	p->name = strdup(name);
	if (!p->key || !p->name || davit_map_put(&v->partials, p->key, p) < 0) {
		free(p->key);
		free(p->name);
		free(p);
		return NULL;
	}
	return p;
}

static void free_partial(struct partial *p)
{
	davit_buf_fini(&p->text);
	free(p->key);
	free(p->name);
	free(p);
}

static void take_log(struct run_view *v, const json_t *e)
{
	struct partial *p = davit_map_get(&v->partials, davit_string(e, "step"));
	const json_t *value = json_object_get(e, "text");
	const char *text = davit_string(e, "text"), *end = text + json_string_length(value), *newline;

	if (!p) /* not of a step that is to be shown */
		return;
	while ((newline = memchr(text, '\n', (size_t)(end - text)))) {
		davit_buf_add(&p->text, text, (size_t)(newline - text));
		print_line(v, p->name, davit_buf_str(&p->text), p->text.len);
		davit_buf_reset(&p->text);
		text = newline + 1;
	}
	davit_buf_add(&p->text, text, (size_t)(end - text));
	/* A line without end is shown piece by piece. */
	if (p->text.len > 65536) {
		print_line(v, p->name, davit_buf_str(&p->text), p->text.len);
		davit_buf_reset(&p->text);
	}
}

/* The end of a step's log. */
static void end_log(struct run_view *v, const char *key)
{
	struct partial *p = davit_map_remove(&v->partials, key);

	if (!p)
		return;
	if (p->text.len)
		print_line(v, p->name, davit_buf_str(&p->text), p->text.len);
	free_partial(p);
}

/* ----------------------------------------------------------------------------------- events */

static int64_t time_of(const json_t *e)
{
	int64_t at = 0;

	return davit_time_parse(davit_string(e, "time"), &at, NULL) == 0 ? at : davit_now();
}

static void take_state(struct run_view *v, const json_t *e)
{
	struct item *i = item_of(v, e);
	const char *state = davit_string(e, "state");

	if (!i)
		return;
	if (!strcmp(state, "active") && (!*i->state || is_over(i)))
		i->began = i->ended = 0;
	if (!i->began)
		i->began = time_of(e);
	if (!strcmp(state, "ended") && !is_over(i))
		i->ended = time_of(e);
	snprintf(i->state, sizeof i->state, "%s", state);
	snprintf(i->outcome, sizeof i->outcome, "%s", davit_string(e, "outcome"));
	i->attempt = davit_integer(e, "attempt") ? davit_integer(e, "attempt") : i->attempt;
	v->changed = true;
}

static void tell_finish(struct run_view *v, const json_t *e)
{
	const char *message = davit_string(e, "message"), *outcome = davit_string(e, "outcome");
	char text[512];

	end_log(v, davit_string(e, "step"));
	if (v->kind == RUN_VIEW_LOGS || (v->kind == RUN_VIEW_TREE && !*message))
		return;
	snprintf(text, sizeof text, "%s: %s%s%s", davit_string(e, "name"), outcome, *message ? ": " : "",
		 message);
	run_view_say(v, text);
}

static void tell_version(struct run_view *v, const json_t *e)
{
	const struct partial *p = davit_map_get(&v->partials, davit_string(e, "step"));
	DAVIT_AUTO_FREE char *version = json_dumps(json_object_get(e, "version"), JSON_COMPACT);
	char text[600];

	snprintf(text, sizeof text, "%s: version %s%s", p ? p->name : "", version ? version : "",
		 json_is_true(json_object_get(e, "cached")) ? ", which was here already" : "");
	run_view_say(v, text);
}

static void tell_note(struct run_view *v, const json_t *e)
{
	const struct partial *p = davit_map_get(&v->partials, davit_string(e, "step"));
	char text[600];

	snprintf(text, sizeof text, "%s%s%s", p ? p->name : "", p ? ": " : "", davit_string(e, "text"));
	run_view_say(v, text);
}

void run_view_event(struct run_view *v, const json_t *e)
{
	const char *event = davit_string(e, "event"), *name = davit_string(e, "name");

	if (v->kind == RUN_VIEW_JSON) {
		davit_print_line((json_t *)(uintptr_t)e);
		return;
	}
	if (!strcmp(event, "state")) {
		take_state(v, e);
	} else if (!strcmp(event, "start")) {
		if (!v->step || !strcmp(v->step, name))
			partial_of(v, davit_string(e, "step"), name);
		if (v->kind == RUN_VIEW_LINES && v->leaves > 1) {
			char text[256];
			snprintf(text, sizeof text, "%s: %s begins", name, davit_string(e, "kind"));
			run_view_say(v, text);
		}
	} else if (!strcmp(event, "log")) {
		take_log(v, e);
	} else if (!strcmp(event, "finish")) {
		tell_finish(v, e);
	} else if (v->kind != RUN_VIEW_LOGS && !strcmp(event, "version")) {
		tell_version(v, e);
	} else if (v->kind != RUN_VIEW_LOGS && !strcmp(event, "note")) {
		tell_note(v, e);
	}
}

/* ------------------------------------------------------------------------------ new and free */

int run_view_new(const struct davit_cli *cli, enum run_view_kind kind, const json_t *plan, const char *step,
		 struct run_view **ret, struct davit_error *err)
{
	struct run_view *v = calloc(1, sizeof *v);

	if (!v)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	v->cli = cli;
	v->kind = kind;
	v->step = step;
	v->root = add_plan(v, NULL, "", plan);
	if (!v->root) {
		run_view_free(v);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	*ret = v;
	return 0;
}

void run_view_free(struct run_view *v)
{
	size_t pos = 0;
	const char *key;
	void *p;

	if (!v)
		return;
	while (davit_map_next(&v->partials, &pos, &key, &p)) {
		davit_map_remove(&v->partials, key);
		free_partial(p);
	}
	davit_map_fini(&v->partials);
	davit_map_fini(&v->items);
	free_item(v->root);
	free(v);
}
