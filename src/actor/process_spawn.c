/* SPDX-License-Identifier: MIT
 *
 * Processes made: a socket, the rings, a request to the zygote, the greeting. Nothing
 * of it is waited for: orders stand in the socket before the process is there.
 */
#include "actor/process.h"
#include "actor/process_json.h"
#include "channel/zygote.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* What the zygote's child is told. Behind it: the file of the definition, or the
 * words of a command, each with its NUL. */
struct spawn_request {
	const struct davit_definition *definition; /* NULL: a command */
	const void *base;			   /* where its file is loaded, here */
	uint32_t words;
	char alias[16];
	char text[];
};

/* --- in the program --- */

static bool is_static(const void *p, Dl_info *ret)
{
	return dladdr(p, ret) && ret->dli_fname && ret->dli_fbase;
}

static const struct davit_definition *static_of(const struct davit_definition *d)
{
	return d->original ? d->original : d;
}

int process_possible(struct davit_system *s, const struct davit_definition *d, const char **ret_why)
{
	Dl_info info;

	*ret_why = "nothing here runs containers of type process";
	if (s->config.no_processes || s->config.manual_clock)
		return DAVIT_ENOTSUP;
	if (!d->command && !is_static(static_of(d), &info)) {
		*ret_why = "the definition of a process must be static data of a program or a shared object";
		return DAVIT_ENOTSUP;
	}
	if (!s->zygote) { /* a process that is a container makes its zygote when it needs one */
		*ret_why = "no processes can be started";
		if (davit_zygote_open(process_main, process_warm, NULL))
			return DAVIT_EUNAVAIL;
		s->zygote = true;
	}
	*ret_why = "out of memory";
	return poll_open(s);
}

static struct spawn_request *request_new(const struct container *k, size_t *ret_size)
{
	const struct davit_definition *d = k->definition;
	struct spawn_request *r;
	size_t n = 0, at = 0;
	Dl_info info = {0};

	if (d->command)
		for (size_t i = 0; d->command[i]; i++)
			n += strlen(d->command[i]) + 1;
	else if (is_static(static_of(d), &info))
		n = strlen(info.dli_fname) + 1;
	if (!n || !(r = calloc(1, sizeof *r + n)))
		return NULL;
	snprintf(r->alias, sizeof r->alias, "%s", k->alias);
	if (!d->command) {
		r->definition = static_of(d);
		r->base = info.dli_fbase;
		memcpy(r->text, info.dli_fname, n);
	} else {
		for (size_t i = 0; d->command[i]; i++, r->words++) {
			memcpy(r->text + at, d->command[i], strlen(d->command[i]) + 1);
			at += strlen(d->command[i]) + 1;
		}
	}
	*ret_size = sizeof *r + n;
	return r;
}

static int greet(struct container *k, struct link *l, const int *fds)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct hello h = {.protocol = DAVIT_CHANNEL_PROTOCOL,
			  .args = k->args,
			  .heartbeat = HEARTBEAT * INT64_C(1000000),
			  .keepalive = l->keepalive,
			  .window = k->process->window,
			  .slots = l->ring.slots};

	snprintf(h.alias, sizeof h.alias, "%s", k->alias);
	snprintf(h.name, sizeof h.name, "%s", k->definition->name);
	snprintf(h.parent, sizeof h.parent, "%s", k->parent->alias);
	snprintf(h.path, sizeof h.path, "%s", k->path);
	hello_json(&b, &h);
	if (b.oom || b.len > DAVIT_FRAME_MAX)
		return b.oom ? DAVIT_ENOMEM : DAVIT_EINVAL; /* its args are too long */
	davit_socket_pass(&l->socket, fds[0], fds[1]);
	link_control(l, DAVIT_FRAME_HELLO, 0, 0, b.data, b.len);
	return 0;
}

/* A link with its rings, to a process that is asked for. */
static int spawn(struct container *k, struct link *l, int other)
{
	struct spawn_request *request;
	int fds[2] = {-1, -1}, r;
	size_t n;

	if (!(request = request_new(k, &n)))
		return DAVIT_ENOMEM;
	r = k->definition->command ? 0 : davit_ring_create(&l->ring, DAVIT_RING_SLOTS, fds);
	k->process->window = l->ring.slots ? l->ring.slots : WINDOW;
	if (!r && !(r = greet(k, l, fds)))
		r = davit_zygote_spawn(other, request, n);
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(request);
	return r;
}

int process_spawn(struct davit_context *c, struct container *k)
{
	struct process *p = k->process;
	struct link *l = NULL;
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		snprintf(k->text, sizeof k->text, "no channel: %s", strerror(errno));
		return DAVIT_EUNAVAIL;
	}
	if (!(l = link_new(c->system, ends[0], DAVIT_END_PARENT))) {
		close(ends[0]);
		close(ends[1]);
		snprintf(k->text, sizeof k->text, "out of memory");
		return DAVIT_ENOMEM;
	}
	l->owner = k->ref;
	l->above = k->parent->ref;
	l->keepalive = k->options.keepalive ? k->options.keepalive : KEEPALIVE * INT64_C(1000000);
	snprintf(l->alias, sizeof l->alias, "%s", k->alias);
	if (!(r = spawn(k, l, ends[1])))
		r = poll_add(c, l);
	close(ends[1]);
	if (r) {
		snprintf(k->text, sizeof k->text, "no process: %s", davit_error_doc(r));
		link_unref(l);
		return r;
	}
	p->link = l;
	p->sent = p->done = 0;
	p->credit = 0;
	p->why = 0;
	return 0;
}

/* --- in the new process --- */

/* Why it is not what it should be; the exit status. */
static int excuse(int channel, int code, const char *text)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_socket s;

	state_json(&b, DAVIT_STATE_DESTROYED, text, 0, NULL);
	davit_socket_init(&s, channel);
	davit_socket_send(&s,
			  &(struct davit_frame){.kind = DAVIT_FRAME_STATE,
						.size = (uint32_t)b.len,
						.type = (uint32_t)-code},
			  NULL, NULL, b.data, true);
	davit_socket_fini(&s);
	return 127;
}

static int run_command(int channel, const struct spawn_request *r, const char *end)
{
	char **argv = calloc(r->words + 1, sizeof *argv);
	const char *at = r->text;
	char text[512];
	int e;

	for (uint32_t i = 0; argv && i < r->words && at < end; i++) {
		argv[i] = (char *)(uintptr_t)at;
		at += strlen(at) + 1;
	}
	e = argv ? davit_zygote_exec(channel, argv) : ENOMEM;
	snprintf(text, sizeof text, "cannot execute %s: %s", argv ? argv[0] : "", strerror(e));
	free(argv);
	return excuse(channel, DAVIT_EEXEC, text);
}

/* The definition here: where it was at the zygote's fork it still is; a file that was
 * loaded later is loaded now. */
static const struct davit_definition *definition_here(const struct spawn_request *r)
{
	size_t offset = (size_t)((const char *)r->definition - (const char *)r->base);
	struct link_map *map;
	Dl_info info;
	void *file;

	if (is_static(r->definition, &info) && info.dli_fbase == r->base && !strcmp(info.dli_fname, r->text))
		return r->definition;
	if (!(file = dlopen(r->text, RTLD_NOW | RTLD_GLOBAL)))
		return NULL;
	if (dlinfo(file, RTLD_DI_LINKMAP, &map))
		return NULL;
	return (const void *)((const char *)(uintptr_t)map->l_addr + offset);
}

int process_main(int channel, const void *request, size_t n)
{
	const struct spawn_request *r = request;
	const struct davit_definition *d;

	prctl(PR_SET_NAME, r->alias);
	if (!r->definition)
		return run_command(channel, r, (const char *)request + n);
	if (!(d = definition_here(r)))
		return excuse(channel, DAVIT_EEXEC, dlerror());
	return child_main(channel, d);
}

/* The symbols of a system and of JSON are bound then, and its memory is there. */
void process_warm(void)
{
	static const struct davit_system_config config = {.workers = DAVIT_NO_WORKERS, .no_processes = true};
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_system *s;
	struct hello h;

	hello_json(&b, &(struct hello){.protocol = DAVIT_CHANNEL_PROTOCOL, .alias = "-", .path = "-"});
	if (!hello_read(b.data, b.len, &h))
		free(h.args);
	if (davit_system_open(&config, &s, NULL))
		return;
	davit_system_run(s);
	davit_system_close(s);
}
