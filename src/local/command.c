/* SPDX-License-Identifier: MIT
 *
 * Building requests for the keeper. All are built in one buffer of the runtime's:
 * a start costs one packet and no allocation of its own.
 */
#include "local/local.h"

#include "base/file.h"

#include <stdio.h>
#include <string.h>

/* protocol.h names no defaults: they are the driver contract's. */
#define LOG_SIZE_DEFAULT (UINT64_C(10) << 20)
#define LOG_FILES_DEFAULT 3

static void add_string(struct davit_buf *b, const char *s)
{
	davit_buf_add(b, s, strlen(s) + 1);
}

void *keeper_packet(struct davit_buf *b, enum keeper_type type, size_t size, const char *id)
{
	struct keeper_header *h;

	davit_buf_reset(b);
	if (davit_buf_reserve(b, size) < 0)
		return NULL;
	memset(b->data, 0, size + 1);
	b->len = size;
	h = (void *)b->data;
	h->type = type;
	h->size = (uint32_t)size;
	snprintf(h->id, sizeof h->id, "%s", id);
	return h;
}

void *local_packet(struct local_runtime *p, enum keeper_type type, size_t size, const char *id)
{
	return keeper_packet(&p->packet, type, size, id);
}

char *local_log_dir(struct davit_runtime *rt, const char *id)
{
	return davit_path_join(rt->log_dir, id);
}

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "keeper", "out of memory");
}

int local_build_create(struct local_instance *pi, struct davit_error *err)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	const struct davit_workload *w = pi->inst->workload;
	DAVIT_AUTO_FREE char *log = local_log_dir(pi->inst->runtime, pi->id);
	char dirs[CGROUP_DIRS_MAX][CGROUP_PATH_MAX];
	size_t n = cgroups_dirs(&p->cgroups, w, dirs);
	struct keeper_create *c = local_packet(p, KEEPER_CREATE, sizeof *c, pi->id);

	if (!c || !log)
		return out_of_memory(err);
	c->log_max_size = w->log.max_size ? w->log.max_size : LOG_SIZE_DEFAULT;
	c->log_max_files = w->log.max_files ? w->log.max_files : LOG_FILES_DEFAULT;
	c->log_policy = w->log.policy;
	c->log_rate = w->log.rate;
	add_string(&p->packet, w->label ? w->label : "");
	add_string(&p->packet, log);
	for (size_t i = 0; i < n; i++)
		add_string(&p->packet, dirs[i]);
	add_string(&p->packet, "");
	return p->packet.oom ? out_of_memory(err) : 0;
}
