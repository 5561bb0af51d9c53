/* SPDX-License-Identifier: MIT
 *
 * A keeper for terminals alone, for drivers whose instances live elsewhere.
 */
#include "local/terminal.h"

#include "base/file.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static struct local_terminal_keeper *keeper_of_set(struct local_terminals *ts)
{
	return DAVIT_CONTAINER_OF(ts, struct local_terminal_keeper, set);
}

static void on_up(struct keeper_client *c, const struct keeper_welcome *w)
{
	struct local_terminal_keeper *k = c->user;

	(void)w;
	local_terminals_up(&k->set, c);
}

static void on_down(struct keeper_client *c, const struct davit_error *why)
{
	struct local_terminal_keeper *k = c->user;

	local_terminals_down(&k->set, c, why);
}

static void on_event(struct keeper_client *c, const struct keeper_header *h)
{
	struct local_terminal_keeper *k = c->user;

	local_terminals_event(&k->set, h);
}

static const struct keeper_callbacks callbacks = {.up = on_up, .down = on_down, .event = on_event};

static void start(struct local_terminal_keeper *k)
{
	if (k->started)
		return;
	k->started = true;
	keeper_client_open(&k->client, 0, &k->place, &callbacks, k);
}

static struct keeper_client *nth(struct local_terminals *ts, size_t n)
{
	struct local_terminal_keeper *k = keeper_of_set(ts);

	return n == 0 && k->started ? &k->client : NULL;
}

static struct keeper_client *keeper_of(struct local_terminals *ts, struct davit_instance *inst, bool opens,
				       struct davit_error *err)
{
	struct local_terminal_keeper *k = keeper_of_set(ts);

	(void)inst;
	if (opens)
		start(k);
	if (k->started)
		return &k->client;
	davit_error_set(err, DAVIT_ENOENT, ts->rt->name, "there is no such terminal");
	return NULL;
}

int local_terminal_keeper_open(struct local_terminal_keeper *k, struct davit_runtime *rt,
			       int (*build)(struct local_terminals *ts, const struct davit_terminal *t,
					    struct davit_error *err),
			       struct davit_error *err)
{
	int r = davit_mkdirs(rt->run_dir, 0700, err);

	if (r < 0)
		return r;
	*k = (struct local_terminal_keeper){
		.ops = {.keeper = nth, .keeper_of = keeper_of, .build = build},
		.program = davit_path_join(rt->libexec_dir, "davit-keeper"),
	};
	if (!k->program)
		return davit_error_set(err, DAVIT_ENOMEM, rt->name, "out of memory");
	k->place = (struct keeper_place){
		.loop = rt->loop,
		.run_dir = rt->run_dir,
		.program = k->program,
		.run_fd = open(rt->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	};
	if (k->place.run_fd < 0) {
		r = davit_error_errno(err, errno, rt->name, "cannot open %s", rt->run_dir);
		free(DAVIT_TAKE(k->program));
		return r;
	}
	local_terminals_init(&k->set, rt, &k->ops, &k->packet);
	if (faccessat(k->place.run_fd, "keeper-0.sock", F_OK, 0) == 0)
		start(k);
	return 0;
}

void local_terminal_keeper_close(struct local_terminal_keeper *k)
{
	if (!k->program)
		return;
	local_terminals_fini(&k->set);
	/* Refused while there are terminals. */
	if (k->started && k->client.phase == KEEPER_CLIENT_UP &&
	    keeper_packet(&k->packet, KEEPER_QUIT, sizeof(struct keeper_header), ""))
		keeper_client_send(&k->client, &k->packet, NULL, 0, NULL, NULL);
	if (k->started)
		keeper_client_close(&k->client);
	close(k->place.run_fd);
	davit_buf_fini(&k->packet);
	free(k->program);
	*k = (struct local_terminal_keeper){0};
}

int local_terminal_build(struct davit_buf *packet, const char *path, char *const *argv, char *const *env,
			 const char *directory, struct davit_error *err)
{
	struct keeper_terminal *m = keeper_packet(packet, KEEPER_TERMINAL, sizeof *m, "");
	static char *const none[] = {NULL};

	if (!m)
		return davit_error_set(err, DAVIT_ENOMEM, "terminal", "out of memory");
	env = env ? env : none;
	m->spawn.argc = (uint32_t)davit_strv_len(argv);
	m->spawn.envc = (uint32_t)davit_strv_len(env);
	m->spawn.umask = 022;
	davit_buf_add(packet, path, strlen(path) + 1);
	davit_buf_add(packet, directory, strlen(directory) + 1);
	for (size_t i = 0; argv[i]; i++)
		davit_buf_add(packet, argv[i], strlen(argv[i]) + 1);
	for (size_t i = 0; env[i]; i++)
		davit_buf_add(packet, env[i], strlen(env[i]) + 1);
	davit_buf_add(packet, "", 1);
	return packet->oom ? davit_error_set(err, DAVIT_ENOMEM, "terminal", "out of memory") : 0;
}
