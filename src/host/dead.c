/* SPDX-License-Identifier: MIT
 *
 * The log of a project: failures, what was decided about them, dead letters. Called on
 * any worker.
 */
#include "host/host.h"

#include "base/units.h"

#include <string.h>
#include <time.h>

enum { SHOWN = 10 }; /* dead letters told in full, each second; all are counted */

void host_log_line(void *host, const char *line)
{
	(void)host;
	printf("%s\n", line);
}

/* A message that cannot be delivered is often one of very many. */
void host_dead_letter(void *host, enum davit_dead why, struct davit_ref to, const struct davit_message *m)
{
	struct host *h = host;
	struct timespec now;
	unsigned shown;

	(void)to;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (atomic_exchange(&h->dead_second, now.tv_sec) != now.tv_sec)
		atomic_store(&h->dead_shown, 0);
	shown = atomic_fetch_add(&h->dead_shown, 1);
	if (shown < SHOWN)
		printf("dead letter (%s): type %u, %u bytes\n", davit_dead_name(why), m->type, m->size);
	else if (shown == SHOWN)
		printf("dead letters: more in this second; davit project:status counts them\n");
}
