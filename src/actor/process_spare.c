/* SPDX-License-Identifier: MIT
 *
 * One process to spare: it is there before it is wanted, attached to its channel and warm,
 * and waits for BECOME. A container that starts again takes it, so that what it costs to
 * become a process is paid while nobody waits. It costs a process that sleeps.
 */
#include "actor/process.h"

#include <sys/stat.h>
#include <unistd.h>

/* It has the program's output as that was when it was made. */
static void output_now(struct spare_output ret[2])
{
	struct stat st;

	for (int i = 0; i < 2; i++) {
		ret[i] = (struct spare_output){0, 0};
		if (!fstat(i + 1, &st))
			ret[i] = (struct spare_output){st.st_dev, st.st_ino};
	}
}

static bool same(const struct spare_output a[2], const struct spare_output b[2])
{
	return a[0].device == b[0].device && a[0].inode == b[0].inode && a[1].device == b[1].device &&
	       a[1].inode == b[1].inode;
}

int spare_new(struct davit_context *c, const char *alias, struct link **ret)
{
	int fds[2], r;
	struct link *l;

	if ((r = process_ask(c, alias, NULL, &l)))
		return r;
	if ((r = davit_ring_create(&l->ring, DAVIT_RING_SLOTS, fds))) {
		link_unref(l);
		return r;
	}
	/* A frame that says nothing brings the descriptors. */
	davit_socket_pass(&l->socket, fds[0], fds[1]);
	link_control(l, DAVIT_FRAME_BELL, 0, 0, NULL, 0);
	close(fds[0]);
	close(fds[1]);
	*ret = l;
	return 0;
}

struct link *spare_take(struct davit_system *s, const struct container *k)
{
	struct spare_output now[2];
	struct link *l;
	bool fits;

	if (!atomic_load(&s->spare.link))
		return NULL;
	output_now(now);
	pthread_mutex_lock(&s->lock);
	fits = same(now, s->spare.output);
	/* Under the lock: from when it is spare no more its end is told to its owner. */
	if ((l = atomic_load(&s->spare.link)) && fits)
		process_own(l, k);
	atomic_store(&s->spare.link, NULL);
	pthread_mutex_unlock(&s->lock);
	if (l && !fits) {
		link_kill(l, DAVIT_ECANCELED, "the program has another output now");
		link_unref(l);
		return NULL;
	}
	return l;
}

void spare_refill(struct davit_context *c)
{
	struct davit_system *s = c->system;
	struct link *l;
	bool wanted;

	pthread_mutex_lock(&s->lock);
	wanted = !atomic_load(&s->spare.link) && !s->spare.coming;
	s->spare.coming |= wanted;
	pthread_mutex_unlock(&s->lock);
	if (!wanted)
		return;
	if (spare_new(c, "davit-spare", &l))
		l = NULL; /* the next one tries again */
	pthread_mutex_lock(&s->lock);
	s->spare.coming = false;
	if (l) {
		output_now(s->spare.output);
		atomic_store(&s->spare.link, link_ref(l));
	}
	pthread_mutex_unlock(&s->lock);
	if (l && poll_add(c, l) && spare_gone(s, l))
		link_kill(l, DAVIT_ENOMEM, "out of memory");
	link_unref(l);
}

bool spare_gone(struct davit_system *s, struct link *l)
{
	bool was;

	pthread_mutex_lock(&s->lock);
	if ((was = atomic_load(&s->spare.link) == l))
		atomic_store(&s->spare.link, NULL);
	pthread_mutex_unlock(&s->lock);
	if (was)
		link_unref(l);
	return was;
}
