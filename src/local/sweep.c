/* SPDX-License-Identifier: MIT
 *
 * Directories of groups that are to go: a group whose last process has ended
 * can be busy for a moment still, so that removing is tried again.
 */
#include "local/local.h"

#include "base/units.h"

#include <stdio.h>
#include <string.h>

#define PAUSE_MIN (10 * DAVIT_NSEC_PER_MSEC)
#define PAUSE_MAX DAVIT_NSEC_PER_SEC
#define TRIES_MAX 60 /* then the next start of the daemon finds it */

static void on_timer(struct davit_timer *t)
{
	struct local_sweep *s = DAVIT_CONTAINER_OF(t, struct local_sweep, timer);
	struct local_runtime *p = DAVIT_CONTAINER_OF(s, struct local_runtime, sweep);
	size_t kept = 0;

	for (size_t i = 0; i < s->n; i++)
		if (!cgroups_remove(&p->cgroups, s->ids[i]))
			memmove(s->ids[kept++], s->ids[i], DAVIT_ID_MAX);
	s->n = ++s->tries < TRIES_MAX ? kept : 0;
	s->pause = s->pause * 2 > PAUSE_MAX ? PAUSE_MAX : s->pause * 2;
	if (s->n)
		davit_timer_start(&s->timer, s->pause);
}

void local_sweep_init(struct local_runtime *p)
{
	davit_timer_init(&p->sweep.timer, p->rt->loop, on_timer);
}

void local_sweep_fini(struct local_runtime *p)
{
	davit_timer_stop(&p->sweep.timer);
	free(p->sweep.ids);
	p->sweep.ids = NULL;
	p->sweep.n = p->sweep.cap = 0;
}

void local_sweep_add(struct local_runtime *p, const char *id)
{
	struct local_sweep *s = &p->sweep;

	if (cgroups_remove(&p->cgroups, id))
		return;
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		void *v = reallocarray(s->ids, cap, DAVIT_ID_MAX);

		if (!v)
			return; /* an empty directory stays until the next start */
		s->ids = v;
		s->cap = cap;
	}
	snprintf(s->ids[s->n++], DAVIT_ID_MAX, "%s", id);
	s->tries = 0;
	s->pause = PAUSE_MIN;
	davit_timer_start(&s->timer, s->pause);
}

static void on_group(void *user, const char *id)
{
	struct local_runtime *p = user;

	if (local_knows(p, id))
		return;
	cgroups_kill(&p->cgroups, id);
	local_sweep_add(p, id);
}

void local_sweep_leftovers(struct local_runtime *p)
{
	cgroups_each(&p->cgroups, on_group, p);
}
