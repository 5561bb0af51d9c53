/* SPDX-License-Identifier: MIT
 *
 * Commands inside fake instances: a few words of a pretended shell.
 */
#include "base/strv.h"
#include "base/units.h"
#include "runtime/fake/fake_impl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { INPUT_MAX = 64 << 10 }; /* what cat takes before it has given back */

struct fake_command {		/* behind struct davit_exec */
	struct davit_list list; /* the world's; in no list once it is over */
	struct fake_object *object;
	struct davit_buf out, err;
	bool reads; /* goes on until its input is closed */
	bool ended; /* exit is known; told after the output */
	bool paused;
	bool *alive; /* while a callback is being called: what close must clear */
	struct davit_exit exit;
	struct davit_timer pump, life;
};

static struct fake_command *state_of(struct davit_exec *x)
{
	return (struct fake_command *)(x + 1);
}

static struct davit_exec *exec_of(struct fake_command *c)
{
	return (struct davit_exec *)c - 1;
}

static void leave(struct fake_command *c)
{
	if (davit_list_empty(&c->list))
		return;
	davit_list_remove(&c->list);
	davit_timer_stop(&c->pump);
	davit_timer_stop(&c->life);
	if (c->object)
		c->object->n_execs--;
	c->object = NULL;
}

static void drop_output(struct fake_command *c)
{
	davit_buf_fini(&c->out);
	davit_buf_fini(&c->err);
}

static void finish(struct fake_command *c, struct davit_exit exit)
{
	if (c->ended)
		return;
	c->ended = true;
	c->exit = exit;
	c->exit.time = davit_loop_wall(c->pump.loop);
	davit_timer_stop(&c->life);
	if (!c->paused)
		davit_timer_start(&c->pump, 0);
}

static void on_life(struct davit_timer *t)
{
	finish(DAVIT_CONTAINER_OF(t, struct fake_command, life),
	       (struct davit_exit){.kind = DAVIT_EXIT_CODE});
}

static void on_pump(struct davit_timer *t)
{
	struct fake_command *c = DAVIT_CONTAINER_OF(t, struct fake_command, pump);
	struct davit_exec *x = exec_of(c);

	if (c->out.len || c->err.len) {
		enum davit_stream stream = c->out.len ? DAVIT_STDOUT : DAVIT_STDERR;
		struct davit_buf *from = c->out.len ? &c->out : &c->err;
		DAVIT_AUTO_BUF data = *from;
		bool alive = true, more;

		*from = (struct davit_buf)DAVIT_BUF_INIT;
		c->alive = &alive;
		more = x->output(x, stream, data.data, data.len);
		if (!alive)
			return;
		c->alive = NULL;
		c->paused = !more;
		if (more)
			davit_timer_start(&c->pump, 0);
		return;
	}
	if (c->paused || !c->ended)
		return;
	struct davit_exit exit = c->exit;
	leave(c);
	x->exited(x, &exit);
}

static void add_words(struct davit_buf *out, char *const *words)
{
	for (size_t i = 0; words[i]; i++) {
		if (i)
			davit_buf_addc(out, ' ');
		davit_buf_adds(out, words[i]);
	}
	davit_buf_addc(out, '\n');
}

/* What the command does at once, and what it leaves for later. 0 or a code. */
static int run(struct fake_command *c, const struct davit_exec *x, struct davit_error *err)
{
	const char *name = x->argv[0];
	const char *arg = name ? x->argv[1] : NULL;
	struct davit_exit exit = {.kind = DAVIT_EXIT_CODE};
	const char *value;
	int64_t n;
	int r;

	if (!name)
		return davit_error_set(err, DAVIT_EINVAL, "exec", "there is no command");
	if (!strcmp(name, "cat")) {
		c->reads = true;
		return 0;
	}
	if (!strcmp(name, "sleep")) {
		r = davit_duration_parse(arg ? arg : "0", &n, err);
		return r < 0 ? r : davit_timer_start(&c->life, n);
	}
	if (!strcmp(name, "echo")) {
		add_words(&c->out, x->argv + 1);
	} else if (!strcmp(name, "complain")) {
		add_words(&c->err, x->argv + 1);
	} else if (!strcmp(name, "env") && arg) {
		value = davit_strv_getenv(x->env, arg);
		if (!value)
			value = davit_strv_getenv(c->object->env, arg);
		exit.code = value ? 0 : 1;
		if (value)
			davit_buf_addf(&c->out, "%s\n", value);
	} else if (!strcmp(name, "exit") || !strcmp(name, "say")) {
		r = davit_int_parse(arg ? arg : "0", 0, 255, &n, err);
		if (r < 0)
			return r;
		exit.code = (int)n;
		if (!strcmp(name, "say")) {
			davit_buf_adds(&c->out, "out\n");
			davit_buf_adds(&c->err, "err\n");
		}
	} else if (!strcmp(name, "false")) {
		exit.code = 1;
	} else if (strcmp(name, "true")) {
		davit_error_set(err, DAVIT_EEXEC, "exec", "cannot execute '%s': no such program", name);
		err->sys_errno = ENOENT;
		return DAVIT_EEXEC;
	}
	if (c->out.oom || c->err.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	finish(c, exit);
	return 0;
}

static void exec_start(struct davit_exec *x, struct davit_op *op)
{
	struct fake_object *o = fake_object(x->instance);
	struct fake_command *c = state_of(x);
	struct davit_error err;
	int r;

	*c = (struct fake_command){0};
	davit_list_init(&c->list);
	if (!o || o->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, "exec", "it does not run");
		return;
	}
	if (x->user || x->directory) {
		davit_op_fail(op, DAVIT_ENOTSUP, "exec", "the fake runtime has no %s",
			      x->user ? "users" : "directories");
		return;
	}
	davit_timer_init(&c->pump, o->world->loop, on_pump);
	davit_timer_init(&c->life, o->world->loop, on_life);
	c->object = o;
	r = run(c, x, &err);
	if (r < 0) {
		drop_output(c);
		davit_timer_stop(&c->pump);
		c->object = NULL;
		davit_op_fail_error(op, &err);
		return;
	}
	o->n_execs++;
	davit_list_add_tail(&o->world->execs, &c->list);
	davit_op_complete(op, 0);
}

static ssize_t exec_write(struct davit_exec *x, const void *data, size_t n)
{
	struct fake_command *c = state_of(x);

	if (c->ended || davit_list_empty(&c->list))
		return DAVIT_ECLOSED;
	if (!c->reads)
		return (ssize_t)n; /* as into a pipe that nobody reads */
	if (c->out.len >= INPUT_MAX)
		return 0;
	if (n > INPUT_MAX - c->out.len)
		n = INPUT_MAX - c->out.len;
	if (davit_buf_reserve(&c->out, n) < 0) {
		c->out.oom = false;
		return DAVIT_ENOMEM;
	}
	davit_buf_add(&c->out, data, n);
	if (!c->paused)
		davit_timer_start(&c->pump, 0);
	return (ssize_t)n;
}

static void exec_close_input(struct davit_exec *x)
{
	struct fake_command *c = state_of(x);

	if (c->reads && !davit_list_empty(&c->list))
		finish(c, (struct davit_exit){.kind = DAVIT_EXIT_CODE});
}

static void exec_resume(struct davit_exec *x)
{
	struct fake_command *c = state_of(x);

	c->paused = false;
	if (!davit_list_empty(&c->list))
		davit_timer_start(&c->pump, 0);
}

static void exec_resize(struct davit_exec *x, uint16_t rows, uint16_t columns)
{
	/* A terminal here has none that its command could see. */
}

static int exec_signal(struct davit_exec *x, int signo, struct davit_error *err)
{
	struct fake_command *c = state_of(x);

	if (c->ended || davit_list_empty(&c->list))
		return davit_error_set(err, DAVIT_ESTATE, "exec", "the command has ended");
	if (signo)
		finish(c, fake_exit_signal(signo, ""));
	return 0;
}

static void exec_close(struct davit_exec *x)
{
	struct fake_command *c = state_of(x);

	leave(c);
	drop_output(c);
	if (c->alive)
		*c->alive = false;
}

void fake_exec_end(struct davit_fake_world *w, struct fake_object *o)
{
	struct fake_command *c, *tmp;

	DAVIT_LIST_FOREACH_SAFE (c, tmp, &w->execs, list) {
		if (!o) { /* the runtime closes */
			leave(c);
			drop_output(c);
			if (c->alive)
				*c->alive = false;
		} else if (c->object == o) {
			finish(c, fake_exit_signal(SIGKILL, "its instance ended"));
			o->n_execs--;
			c->object = NULL;
		}
	}
}

const struct davit_exec_facet fake_exec = {
	.exec_size = sizeof(struct fake_command),
	.start = exec_start,
	.write = exec_write,
	.close_input = exec_close_input,
	.resume = exec_resume,
	.resize = exec_resize,
	.signal = exec_signal,
	.close = exec_close,
};
