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
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* What the zygote's child is told: the words of a command, each with its NUL; none: it is
 * to wait for BECOME. */
struct spawn_request {
	uint32_t words;
	char alias[16];
	char text[];
};

/* Data of BECOME: a definition, and the file that has it. */
struct become {
	const struct davit_definition *definition;
	uintptr_t base; /* where the file is loaded, here */
	char file[];	/* "": the program */
};

/* --- in the program --- */

/* What is loaded, the program or a shared object, and has p. dladdr would also look for a
 * symbol there, which takes as long as all else of a restart in the new process. */
struct place {
	const void *p;
	const char *file; /* "": the program. The loader's */
	uintptr_t base;
};

static int place_look(struct dl_phdr_info *i, size_t size, void *arg)
{
	struct place *l = arg;

	for (int n = 0; n < i->dlpi_phnum; n++) {
		const ElfW(Phdr) *h = &i->dlpi_phdr[n];
		if (h->p_type != PT_LOAD || (uintptr_t)l->p - i->dlpi_addr - h->p_vaddr >= h->p_memsz)
			continue;
		l->file = i->dlpi_name ? i->dlpi_name : "";
		l->base = i->dlpi_addr;
		return 1;
	}
	return 0;
}

static bool is_static(const void *p, struct place *ret)
{
	*ret = (struct place){.p = p};
	return dl_iterate_phdr(place_look, ret) == 1;
}

static const struct davit_definition *static_of(const struct davit_definition *d)
{
	return d->original ? d->original : d;
}

int process_possible(struct davit_system *s, const struct davit_definition *d, const char **ret_why)
{
	struct place place;

	*ret_why = "nothing here runs containers of type process";
	if (s->config.no_processes || s->config.manual_clock)
		return DAVIT_ENOTSUP;
	if (!d->command && !is_static(static_of(d), &place)) {
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

static struct spawn_request *request_new(const char *alias, const char *const *words, size_t *ret_size)
{
	struct spawn_request *r;
	size_t n = 0, at = 0;

	for (size_t i = 0; words && words[i]; i++)
		n += strlen(words[i]) + 1;
	if (!(r = calloc(1, sizeof *r + n)))
		return NULL;
	snprintf(r->alias, sizeof r->alias, "%s", alias);
	for (; words && words[r->words]; r->words++) {
		memcpy(r->text + at, words[r->words], strlen(words[r->words]) + 1);
		at += strlen(words[r->words]) + 1;
	}
	*ret_size = sizeof *r + n;
	return r;
}

int process_ask(struct davit_context *c, const char *alias, const char *const *words, struct link **ret)
{
	struct spawn_request *request;
	struct link *l;
	int ends[2], r;
	size_t n;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return errno == ENOMEM ? DAVIT_ENOMEM : DAVIT_EUNAVAIL;
	if (!(l = link_new(c->system, ends[0], DAVIT_END_PARENT))) {
		close(ends[0]);
		close(ends[1]);
		return DAVIT_ENOMEM;
	}
	request = request_new(alias, words, &n);
	r = request ? davit_zygote_spawn(ends[1], !words, request, n) : DAVIT_ENOMEM;
	free(request);
	close(ends[1]);
	if (r)
		link_unref(l);
	else
		*ret = l;
	return r;
}

void process_own(struct link *l, const struct container *k)
{
	l->owner = k->ref;
	l->above = k->parent->ref;
	l->keepalive = k->options.keepalive ? k->options.keepalive : KEEPALIVE * INT64_C(1000000);
	snprintf(l->alias, sizeof l->alias, "%s", k->alias);
}

/* What the waiting process is to be. */
static int become(struct link *l, const struct davit_definition *d)
{
	struct become *b;
	struct place place;
	size_t n;

	if (!is_static(d, &place))
		return DAVIT_ENOTSUP;
	n = sizeof *b + strlen(place.file) + 1;
	if (n > DAVIT_FRAME_MAX || !(b = calloc(1, n)))
		return DAVIT_ENOMEM;
	b->definition = d;
	b->base = place.base;
	strcpy(b->file, place.file);
	link_say(l, DAVIT_FRAME_BECOME, 0, 0, b, n, true);
	free(b);
	return 0;
}

static int greet(struct container *k, struct link *l)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct hello h = {.protocol = DAVIT_CHANNEL_PROTOCOL,
			  .args = k->args,
			  .heartbeat = HEARTBEAT * INT64_C(1000000),
			  .keepalive = l->keepalive,
			  .window = l->ring.slots ? l->ring.slots : WINDOW,
			  .slots = l->ring.slots};

	snprintf(h.alias, sizeof h.alias, "%s", k->alias);
	snprintf(h.name, sizeof h.name, "%s", k->definition->name);
	snprintf(h.parent, sizeof h.parent, "%s", k->parent->alias);
	snprintf(h.path, sizeof h.path, "%s", k->path);
	hello_json(&b, &h);
	if (b.oom || b.len > DAVIT_FRAME_MAX)
		return b.oom ? DAVIT_ENOMEM : DAVIT_EINVAL; /* its args are too long */
	link_say(l, DAVIT_FRAME_HELLO, 0, 0, b.data, b.len, true);
	atomic_store(&l->greeted, true);
	return 0;
}

/* A process for k, not yet told what it is to be. */
static int get(struct davit_context *c, struct container *k, struct link **ret)
{
	int r;

	if (!k->definition->command && (*ret = spare_take(c->system, k)))
		return 0;
	if (k->definition->command)
		r = process_ask(c, k->alias, k->definition->command, ret);
	else
		r = spare_new(c, k->alias, ret);
	if (r)
		return r;
	process_own(*ret, k);
	if ((r = poll_add(c, *ret)))
		link_unref(*ret);
	return r;
}

int process_spawn(struct davit_context *c, struct container *k)
{
	struct process *p = k->process;
	struct link *l;
	int r = get(c, k, &l);

	if (!r) {
		if (!k->definition->command)
			r = become(l, static_of(k->definition));
		if (!r)
			r = greet(k, l);
		if (r) { /* it ends as one that nobody asks for any more */
			link_kill(l, r, davit_error_doc(r));
			link_unref(l);
		}
	}
	if (r) {
		snprintf(k->text, sizeof k->text, "no process: %s", davit_error_doc(r));
		return r;
	}
	p->link = l;
	p->window = l->ring.slots ? l->ring.slots : WINDOW;
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

const struct davit_definition *process_definition(const void *data, size_t n)
{
	const struct become *b = data;
	struct link_map *map;
	struct place place;
	void *file;

	if (n <= sizeof *b || ((const char *)data)[n - 1])
		return NULL;
	/* Where it was at the zygote's fork it still is; a file that was loaded later is loaded now. */
	if (is_static(b->definition, &place) && place.base == b->base && !strcmp(place.file, b->file))
		return b->definition;
	if (!(file = dlopen(b->file, RTLD_NOW | RTLD_GLOBAL)) || dlinfo(file, RTLD_DI_LINKMAP, &map))
		return NULL;
	return (const void *)(map->l_addr + ((uintptr_t)b->definition - b->base));
}

int process_main(int channel, const void *request, size_t n)
{
	const struct spawn_request *r = request;

	prctl(PR_SET_NAME, r->alias);
	return r->words ? run_command(channel, r, (const char *)request + n) : child_main(channel);
}

static int nothing(struct davit_context *c, struct davit_message *m)
{
	return 0;
}

/* The life of a container, so that its symbols are bound, its code is mapped, and memory
 * is there: the first time takes ten times as long. */
static void rehearse(struct davit_system *s)
{
	static const struct davit_definition d = {.name = "-", .behaviour = nothing};
	const struct davit_create what = {.alias = "-", .definition = &d, .flags = DAVIT_CREATE_START};
	struct davit_context *c = davit_system_context(s);
	struct davit_promise p;
	static void *pin;

	if (!davit_container_create(c, &what, &p))
		(void)davit_await(c, p, -1, NULL, NULL);
	/* What stands at the end of the heap keeps free what is beneath it: malloc would give
	 * that back, to ask for it again when there is no time. */
	if (!pin)
		pin = malloc(1);
}

void process_slim(void)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

void process_warm(void)
{
	static const struct davit_system_config config = {.workers = DAVIT_NO_WORKERS, .no_processes = true};
	static const struct davit_options options;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_system *s;
	struct operate o;
	struct hello h;

	hello_json(&b, &(struct hello){.protocol = DAVIT_CHANNEL_PROTOCOL, .alias = "-", .path = "-"});
	if (!hello_read(b.data, b.len, &h))
		free(h.args);
	davit_buf_reset(&b);
	operate_json(&b, "create", false, 0, NULL);
	(void)operate_read(b.data, b.len, &o);
	state_json(&b, DAVIT_STATE_CREATED, "", 0, &options);
	if (davit_system_open(&config, &s, NULL))
		return;
	rehearse(s);
	davit_system_close(s);
	process_slim();
}
