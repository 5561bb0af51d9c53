/* SPDX-License-Identifier: MIT
 *
 * Monitors and links. Who watches an actor is known to that actor alone; it is asked
 * by a signal, and tells when it ends. One that has ended already is answered for.
 */
#include "actor/actor_impl.h"

#include <stdio.h>

static int add(struct davit_actor *a, struct davit_ref ref, bool link)
{
	struct watch *w = a->watch;

	if (!w && !(w = a->watch = calloc(1, sizeof *w)))
		return DAVIT_ENOMEM;
	for (size_t i = 0; i < w->n_by; i++)
		if (davit_ref_equal(w->by[i].ref, ref) && w->by[i].link == link)
			return 0;
	if (w->n_by == w->cap_by) {
		size_t cap = w->cap_by ? w->cap_by * 2 : 4;
		struct watcher *by = realloc(w->by, cap * sizeof *by);
		if (!by)
			return DAVIT_ENOMEM;
		w->by = by;
		w->cap_by = cap;
	}
	w->by[w->n_by++] = (struct watcher){ref, link};
	return 0;
}

static void forget(struct davit_actor *a, struct davit_ref ref)
{
	struct watch *w = a->watch;

	for (size_t i = 0; w && i < w->n_by; i++)
		if (davit_ref_equal(w->by[i].ref, ref) && !w->by[i].link)
			w->by[i--] = w->by[--w->n_by];
}

static void tell(struct davit_context *c, struct davit_ref to, struct davit_ref gone, bool link, int code,
		 const char *reason)
{
	struct davit_down down = {.ref = gone, .code = code};
	struct davit_message *m;

	snprintf(down.reason, sizeof down.reason, "%s", reason);
	for (int signal = 0; signal <= (link && code); signal++) {
		if (!(m = davit_message_new(c, signal ? SIG_LINKED : DAVIT_TYPE_DOWN, sizeof down)))
			return;
		*(struct davit_down *)body(m) = down;
		m->sender = gone;
		if (signal)
			send_signal(c, to, m);
		else
			send_ours(c, to, m);
	}
}

void watch_signal(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	switch (m->type) {
	case SIG_MONITOR:
	case SIG_LINK:
		if (add(a, m->sender, m->type == SIG_LINK))
			tell(c, m->sender, ref_of(a), false, DAVIT_ENOMEM,
			     "it cannot be watched: out of memory");
		break;
	case SIG_DEMONITOR:
		forget(a, m->sender);
		break;
	case SIG_LINKED:
		a->code = ((struct davit_down *)body(m))->code;
		a->flags |= ACTOR_EXIT;
		break;
	}
}

void watch_late(struct davit_context *c, struct davit_ref gone, struct davit_message *m)
{
	if (m->type == SIG_MONITOR)
		tell(c, m->sender, gone, false, 0, "it had ended before");
	else if (m->type == SIG_LINK)
		tell(c, m->sender, gone, true, DAVIT_ECLOSED, "it had ended before");
}

void watch_end(struct davit_context *c, struct davit_actor *a, struct davit_ref ref, int code,
	       const char *reason)
{
	struct watch *w = a->watch;

	if (LIKELY(!w))
		return;
	a->watch = NULL;
	for (size_t i = 0; i < w->n_by; i++)
		tell(c, w->by[i].ref, ref, w->by[i].link, code, reason);
	free(w->by);
	free(w);
}

static int ask(struct davit_context *c, struct davit_ref ref, uint32_t signal)
{
	struct davit_message *m = davit_message_new(c, signal, 0);

	if (!m)
		return DAVIT_ENOMEM;
	send_signal(c, ref, m); /* if it has ended, that was told */
	return 0;
}

int davit_monitor(struct davit_context *c, struct davit_ref ref)
{
	return ask(c, ref, SIG_MONITOR);
}

void davit_demonitor(struct davit_context *c, struct davit_ref ref)
{
	(void)ask(c, ref, SIG_DEMONITOR);
}

int davit_link(struct davit_context *c, struct davit_ref ref)
{
	int r = add(c->self, ref, true);

	return r ? r : ask(c, ref, SIG_LINK);
}
