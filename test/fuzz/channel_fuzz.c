/* SPDX-License-Identifier: MIT
 *
 * What a child may send to its parent: bytes of its socket, or the whole of its shared
 * memory, indexes and slots. The first byte says which; then it is as hostile as it gets.
 * Nothing may come of it but an error of its channel.
 */
#include "actor/process.h"
#include "actor/remote.h"
#include "davit/container.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOTS = 1024, PAGE = 4096, FRAMES = 64 };

static struct davit_system *sys;
static struct davit_context *c;

static int answer(struct davit_context *k, struct davit_message *m)
{
	return davit_reply(k, m, m->data, m->size);
}

static const struct davit_definition definition = {.name = "D", .behaviour = answer};

static void quiet(void *arg, const char *line)
{
}

static void make(const char *alias)
{
	struct davit_create what = {.alias = alias, .definition = &definition, .flags = DAVIT_CREATE_START};

	if (davit_container_create(c, &what, NULL))
		abort();
	davit_system_run(sys);
}

static void prepare(void)
{
	struct davit_system_config config = {.workers = DAVIT_NO_WORKERS, .manual_clock = true, .log = quiet};

	if (davit_system_open(&config, &sys, NULL))
		abort();
	c = davit_system_context(sys);
	make("A");
	make("B");
}

/* The parent's end of a channel to "A". */
static struct link *channel(int fd)
{
	struct link *l = link_new(sys, fd, DAVIT_END_PARENT);
	struct davit_ref a, root;

	if (!l || davit_find(c, "A", &a) || davit_find(c, "Main", &root))
		abort();
	l->owner = a;
	l->above = root;
	l->keepalive = -1;
	strcpy(l->alias, "A");
	return l;
}

static void by_socket(const uint8_t *data, size_t size)
{
	const unsigned char *body;
	struct davit_frame f;
	struct link *l;
	int ends[2], r = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
		abort();
	l = channel(ends[0]);
	(void)!write(ends[1], data, size);
	while (!r && davit_socket_receive(&l->socket) > 0) {
		while (!r && (r = davit_socket_next(&l->socket, DAVIT_END_PARENT, &f, &body)) > 0)
			r = davit_frame_of_messages(f.kind) ? link_take(c, l, &f, body)
							    : process_said(c, l, &f, body);
		davit_system_run(sys);
	}
	close(ends[1]);
	remote_gone(c, l, NULL, 0, "");
	link_close(l);
	davit_system_run(sys);
	link_unref(l);
}

static void by_memory(const uint8_t *data, size_t size)
{
	size_t indexes = sizeof(struct davit_ring_page), room = (size_t)SLOTS * DAVIT_RING_SLOT;
	int ends[2], fds[2];
	unsigned char *memory;
	struct link *l;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		abort();
	l = channel(ends[0]);
	if (davit_ring_create(&l->ring, SLOTS, fds))
		abort();
	l->rings = l->welcome = true;
	memory = mmap(NULL, PAGE + room, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	if (memory == MAP_FAILED)
		abort();
	memcpy(memory, data, size < indexes ? size : indexes);
	if (size > indexes)
		memcpy(memory + PAGE, data + indexes, size - indexes < room ? size - indexes : room);
	for (int i = 0; i < 8 && link_read_ring(c, l, FRAMES) > 0; i++)
		davit_system_run(sys);
	link_has_room(l, true);
	link_control(l, DAVIT_FRAME_PING, 1, 0, NULL, 0);
	link_send(l, &(struct davit_frame){.kind = DAVIT_FRAME_REPLY, .id = 1}, NULL, NULL, data, size);
	link_catch_up(l);
	davit_ring_waited_for(&l->ring);
	remote_gone(c, l, NULL, 0, "");
	link_close(l);
	davit_system_run(sys);
	link_unref(l);
	munmap(memory, PAGE + room);
	close(ends[1]);
	close(fds[0]);
	close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	prepare();
	if (*data & 1)
		by_memory(data + 1, size - 1);
	else
		by_socket(data + 1, size - 1);
	davit_system_close(sys);
	return 0;
}
