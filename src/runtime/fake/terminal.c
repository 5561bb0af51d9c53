/* SPDX-License-Identifier: MIT
 *
 * Terminals of the fake runtime: whatever the command, what is typed comes back,
 * and Ctrl-D ends it. They belong to the world, as its objects do: a driver that
 * closes leaves them, and the next one attaches to them.
 */
#include "base/strv.h"
#include "runtime/fake/fake_impl.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
	LAG_MAX = 64 << 10, /* from which the only one that is attached holds the command up */
	END_OF_INPUT = 4,   /* Ctrl-D */
};

struct fake_terminal {
	struct davit_list list; /* the world's */
	struct davit_fake_world *world;
	struct fake_object *object; /* NULL once it has ended */
	char id[DAVIT_ID_MAX], instance[DAVIT_ID_MAX];
	char command[128];
	int64_t started;
	uint16_t rows, columns;
	struct davit_exit exit; /* kind NONE: it runs */
	struct davit_buf ring;	/* what was printed last */
	uint64_t printed;	/* bytes ever: the last is the ring's last */
	struct davit_list views;
};

struct view {			/* behind struct davit_terminal */
	struct davit_list list; /* the terminal's; in no list when not attached */
	struct fake_terminal *terminal;
	uint64_t at; /* of `printed` */
	bool paused, thirsty;
	bool *alive; /* while a callback is being called: what detach must clear */
	struct davit_timer pump;
};

static struct view *view_of(struct davit_terminal *t)
{
	return (struct view *)(t + 1);
}

static struct davit_terminal *terminal_of(struct view *v)
{
	return (struct davit_terminal *)v - 1;
}

static bool attached(const struct view *v)
{
	return v->terminal && !davit_list_empty(&v->list);
}

static void leave(struct view *v)
{
	if (!v->terminal)
		return;
	davit_list_remove(&v->list);
	davit_timer_stop(&v->pump);
	v->terminal = NULL;
	if (v->alive)
		*v->alive = false;
}

static void forget(struct fake_terminal *f)
{
	struct view *v, *tmp;

	DAVIT_LIST_FOREACH_SAFE (v, tmp, &f->views, list)
		leave(v);
	davit_list_remove(&f->list);
	davit_buf_fini(&f->ring);
	free(f);
}

static void wake_all(struct fake_terminal *f)
{
	struct view *v;

	DAVIT_LIST_FOREACH (v, &f->views, list)
		if (!v->paused || v->thirsty)
			davit_timer_start(&v->pump, 0);
}

static void finish(struct fake_terminal *f, struct davit_exit exit)
{
	if (f->exit.kind != DAVIT_EXIT_NONE)
		return;
	f->exit = exit;
	f->exit.time = davit_loop_wall(f->world->loop);
	f->object = NULL;
	wake_all(f);
}

static struct fake_terminal *find(struct davit_fake_world *w, const char *id)
{
	struct fake_terminal *f;

	DAVIT_LIST_FOREACH (f, &w->terminals, list)
		if (!strcmp(f->id, id))
			return f;
	return NULL;
}

/* How much input may come: the only one that is attached and does not read holds
 * the command up. */
static size_t room(const struct fake_terminal *f)
{
	const struct view *v;
	size_t n = 0;
	uint64_t lag = 0;

	DAVIT_LIST_FOREACH (v, &f->views, list) {
		n++;
		lag = f->printed - v->at;
	}
	return n == 1 && lag >= LAG_MAX ? 0 : n == 1 ? LAG_MAX - (size_t)lag : LAG_MAX;
}

static void on_pump(struct davit_timer *timer)
{
	struct view *v = DAVIT_CONTAINER_OF(timer, struct view, pump);
	struct davit_terminal *t = terminal_of(v);
	struct fake_terminal *f = v->terminal;
	uint64_t oldest = f->printed - f->ring.len;
	bool alive = true, more;

	v->alive = &alive;
	if (!v->paused && v->at < f->printed) {
		if (v->at < oldest)
			v->at = oldest; /* passed over */
		DAVIT_AUTO_BUF data = DAVIT_BUF_INIT;
		davit_buf_add(&data, f->ring.data + (v->at - oldest), (size_t)(f->printed - v->at));
		if (!data.oom) {
			v->at = f->printed;
			more = t->output(t, data.data, data.len);
			if (!alive)
				return;
			v->paused = !more;
		}
	}
	if (v->thirsty && room(f)) {
		v->thirsty = false;
		t->drained(t);
		if (!alive)
			return;
	}
	v->alive = NULL;
	if (v->paused || v->at < f->printed || f->exit.kind == DAVIT_EXIT_NONE)
		return;
	struct davit_exit exit = f->exit;
	leave(v);
	/* Taken to its end; others that are attached still have theirs to get. */
	if (davit_list_empty(&f->views))
		forget(f);
	t->ended(t, &exit);
}

static void attach(struct davit_terminal *t, struct fake_terminal *f)
{
	struct view *v = view_of(t);

	*v = (struct view){.terminal = f, .at = f->printed - f->ring.len};
	davit_list_init(&v->list);
	davit_list_add_tail(&f->views, &v->list);
	davit_timer_init(&v->pump, f->world->loop, on_pump);
	if (t->rows && t->columns) {
		f->rows = t->rows;
		f->columns = t->columns;
	}
	davit_timer_start(&v->pump, 0);
}

static void terminal_open(struct davit_terminal *t, struct davit_op *op)
{
	struct fake_object *o = fake_object(t->instance);
	struct fake_terminal *f;
	size_t n = 0;

	*view_of(t) = (struct view){0};
	if (!o || o->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, "terminal", "it does not run");
		return;
	}
	if (t->argv[0] && !strcmp(t->argv[0], "nonexistent")) {
		davit_op_fail(op, DAVIT_EEXEC, "terminal", "cannot execute '%s': no such program",
			      t->argv[0]);
		return;
	}
	if (find(o->world, t->id)) {
		davit_op_fail(op, DAVIT_EEXIST, "terminal", "terminal %s is there already", t->id);
		return;
	}
	f = calloc(1, sizeof *f);
	if (!f) {
		davit_op_fail(op, DAVIT_ENOMEM, "terminal", "out of memory");
		return;
	}
	f->world = o->world;
	f->object = o;
	f->started = davit_loop_wall(o->world->loop);
	f->rows = 24;
	f->columns = 80;
	snprintf(f->id, sizeof f->id, "%s", t->id);
	snprintf(f->instance, sizeof f->instance, "%s", o->id);
	for (char *const *a = t->argv; *a && n + 1 < sizeof f->command; a++)
		n += (size_t)snprintf(f->command + n, sizeof f->command - n, "%s%s", n ? " " : "", *a);
	davit_list_init(&f->list);
	davit_list_init(&f->views);
	davit_list_add_tail(&o->world->terminals, &f->list);
	attach(t, f);
	davit_op_complete(op, 0);
}

static void terminal_attach(struct davit_terminal *t, struct davit_op *op)
{
	struct fake_terminal *f = find(fake_world(t->instance->runtime), t->id);

	*view_of(t) = (struct view){0};
	if (!f) {
		davit_op_fail(op, DAVIT_ENOENT, "terminal", "there is no terminal %s", t->id);
		return;
	}
	attach(t, f);
	davit_op_complete(op, 0);
}

static void terminal_list(struct davit_runtime *rt, struct davit_instance *inst,
			  void (*each)(void *user, const struct davit_terminal_info *info), void *user,
			  struct davit_op *op)
{
	const struct fake_object *o = inst ? fake_object(inst) : NULL;
	struct fake_terminal *f;
	struct view *v;

	DAVIT_LIST_FOREACH (f, &fake_world(rt)->terminals, list) {
		struct davit_terminal_info info = {
			.started = f->started, .rows = f->rows, .columns = f->columns, .exit = f->exit};

		if (inst && (!o || strcmp(o->id, f->instance)))
			continue;
		memcpy(info.id, f->id, sizeof info.id);
		memcpy(info.instance, f->instance, sizeof info.instance);
		memcpy(info.command, f->command, sizeof info.command);
		DAVIT_LIST_FOREACH (v, &f->views, list)
			info.attached++;
		each(user, &info);
	}
	davit_op_complete(op, 0);
}

static ssize_t terminal_write(struct davit_terminal *t, const void *data, size_t n)
{
	struct view *v = view_of(t);
	struct fake_terminal *f = v->terminal;
	const char *end;
	size_t had;

	if (!attached(v) || f->exit.kind != DAVIT_EXIT_NONE)
		return DAVIT_ECLOSED;
	if (n > room(f)) {
		n = room(f);
		v->thirsty = true;
	}
	end = memchr(data, END_OF_INPUT, n);
	had = f->ring.len;
	davit_buf_add(&f->ring, data, end ? (size_t)(end - (const char *)data) : n);
	if (f->ring.oom) {
		f->ring.oom = false;
		return DAVIT_ENOMEM;
	}
	f->printed += f->ring.len - had;
	if (f->ring.len > DAVIT_SCROLLBACK) {
		size_t over = f->ring.len - DAVIT_SCROLLBACK;

		memmove(f->ring.data, f->ring.data + over, DAVIT_SCROLLBACK);
		f->ring.len = DAVIT_SCROLLBACK;
	}
	wake_all(f);
	if (end)
		finish(f, (struct davit_exit){.kind = DAVIT_EXIT_CODE});
	return (ssize_t)n;
}

static void terminal_resume(struct davit_terminal *t)
{
	struct view *v = view_of(t);

	v->paused = false;
	if (attached(v))
		davit_timer_start(&v->pump, 0);
}

static void terminal_resize(struct davit_terminal *t, uint16_t rows, uint16_t columns)
{
	struct view *v = view_of(t);

	if (!attached(v) || !rows || !columns)
		return;
	v->terminal->rows = rows;
	v->terminal->columns = columns;
}

static int terminal_signal(struct davit_terminal *t, int signo, struct davit_error *err)
{
	struct view *v = view_of(t);

	if (!attached(v) || v->terminal->exit.kind != DAVIT_EXIT_NONE)
		return davit_error_set(err, DAVIT_ESTATE, "terminal", "the command has ended");
	if (signo != SIGWINCH && signo != SIGCONT)
		finish(v->terminal, fake_exit_signal(signo, ""));
	return 0;
}

static void terminal_detach(struct davit_terminal *t)
{
	leave(view_of(t));
}

static void terminal_close(struct davit_runtime *rt, const char *id, struct davit_op *op)
{
	struct fake_terminal *f = find(fake_world(rt), id);
	bool watched = f && !davit_list_empty(&f->views);

	/* Who is attached gets to know, and the last of them makes it go. */
	if (f)
		finish(f, fake_exit_signal(SIGHUP, "it was closed"));
	if (f && !watched)
		forget(f);
	davit_op_complete(op, 0);
}

void fake_terminals_end(struct davit_fake_world *w, const struct fake_object *o)
{
	struct fake_terminal *f;

	DAVIT_LIST_FOREACH (f, &w->terminals, list)
		if (f->object == o)
			finish(f, fake_exit_signal(SIGHUP, "its instance ended"));
}

void fake_terminals_forget(struct davit_fake_world *w, const char *id)
{
	struct fake_terminal *f, *tmp;

	DAVIT_LIST_FOREACH_SAFE (f, tmp, &w->terminals, list)
		if (!id || (!strcmp(f->instance, id) && davit_list_empty(&f->views)))
			forget(f);
}

void fake_terminals_detach(struct davit_fake_world *w)
{
	struct fake_terminal *f;
	struct view *v, *tmp;

	DAVIT_LIST_FOREACH (f, &w->terminals, list)
		DAVIT_LIST_FOREACH_SAFE (v, tmp, &f->views, list)
			leave(v);
}

const struct davit_terminal_facet fake_terminal = {
	.terminal_size = sizeof(struct view),
	.open = terminal_open,
	.attach = terminal_attach,
	.list = terminal_list,
	.write = terminal_write,
	.resume = terminal_resume,
	.resize = terminal_resize,
	.signal = terminal_signal,
	.detach = terminal_detach,
	.close = terminal_close,
};
