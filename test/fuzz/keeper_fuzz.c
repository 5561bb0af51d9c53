/* SPDX-License-Identifier: MIT
 *
 * Any bytes as what the daemon sends: two bytes of length and a packet, repeated.
 * The whole keeper but the clone itself, which fails here, and writing to files
 * by name, which is refused. `total`, and a `size` of 0, are put right, so that not
 * every input ends at the first check.
 */
#include "base/file.h"
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_unlink(const char *path);

#define REQUIRE(x)                                                                                           \
	do {                                                                                                 \
		if (!(x)) {                                                                                  \
			fprintf(stderr, "keeper_fuzz: %s\n", #x);                                            \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

static char dir[] = "/tmp/davit-keeper-fuzz-XXXXXX";
static struct keeper keeper;

/* No file that the input names is written to. */
int __wrap_open(const char *path, int flags, ...)
{
	if ((flags & O_ACCMODE) == O_RDONLY)
		return __real_open(path, flags);
	errno = EACCES;
	return -1;
}

/* Nor removed. */
int __wrap_unlink(const char *path)
{
	(void)path;
	errno = ENOENT;
	return -1;
}

int keeper_child_begin(struct keeper_child *c)
{
	size_t n = 0;

	for (char **a = c->command->argv; *a; a++)
		n += strlen(*a);
	for (char **e = c->command->env; *e; e++)
		n += strlen(*e);
	for (uint32_t i = 0; i < c->command->f.n_rlimits; i++)
		n += c->command->rlimits[i].soft != 0;
	for (uint32_t i = 0; i < c->command->f.n_groups; i++)
		n += c->command->groups[i] != 0;
	c->step = n % 2 ? KEEPER_STEP_EXEC : KEEPER_STEP_NONE;
	return EAGAIN;
}

/* Nothing begins, so nothing is waited for. */
int keeper_child_end(struct keeper_child *c)
{
	(void)c;
	abort();
}

static void leave(void)
{
	davit_remove_tree(dir, NULL);
}

static void open_once(struct keeper *k)
{
	sigset_t set;

	REQUIRE(mkdtemp(dir));
	atexit(leave);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	k->fd_run = __real_open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	k->fd_self = __real_open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	k->fd_null = __real_open("/dev/null", O_RDWR | O_CLOEXEC);
	k->fd_signal = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	REQUIRE(k->fd_run >= 0 && k->fd_null >= 0 && k->fd_self >= 0 && k->epoll >= 0);
	REQUIRE(pipe2(k->fd_scratch, O_CLOEXEC | O_NONBLOCK) == 0);
	snprintf(k->run_dir, sizeof k->run_dir, "%s", dir);
	k->descriptors = 1024;
}

/* What must hold of the memory after anything. */
static void check(struct keeper *k)
{
	char path[KEEPER_PATH_MAX];

	/* None starts here, so none may be left. */
	REQUIRE(k->n_terms == 0);
	KEEPER_FOREACH(i, &k->used)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		REQUIRE(s->state == KEEPER_SLOT_CREATED && !s->pid && !s->spawning);
		REQUIRE(!(s->flags & KEEPER_LAUNCHING) && !keeper_set_has(&k->launching, i));
		REQUIRE(keeper_slot_find(k, s->id) == s);
		REQUIRE(strlen(keeper_label(k, s)) < KEEPER_LABEL_MAX);
		REQUIRE(strlen(keeper_status(k, s)) < KEEPER_STATUS_MAX);
		REQUIRE(s->fd_pipe[0] < 0 && s->fd_pipe[1] < 0 && s->fd_notify < 0 && s->fd_ready < 0);
		keeper_log_dir(k, s, path);
		REQUIRE(path[0] == '/');
		KEEPER_FOREACH_CGROUP(path, k, s)
		REQUIRE(path[0] == '/');
	}
}

static void send_packet(int fd, const uint8_t *data, size_t n)
{
	static const uint32_t sizes[] = {
		[KEEPER_HELLO] = sizeof(struct keeper_hello),
		[KEEPER_CREATE] = sizeof(struct keeper_create),
		[KEEPER_SPAWN] = sizeof(struct keeper_spawn),
		[KEEPER_EXEC] = sizeof(struct keeper_exec),
		[KEEPER_SIGNAL] = sizeof(struct keeper_signal),
		[KEEPER_STOP] = sizeof(struct keeper_stop),
		[KEEPER_LAUNCH] = sizeof(struct keeper_launch),
		[KEEPER_TERMINAL] = sizeof(struct keeper_terminal),
		[KEEPER_ATTACH] = sizeof(struct keeper_attach),
		[KEEPER_RESIZE] = sizeof(struct keeper_attach),
		[KEEPER_TERMINAL_SIGNAL] = sizeof(struct keeper_terminal_signal),
	};
	_Alignas(8) char buf[KEEPER_PACKET_MAX];
	struct keeper_header *h = (void *)buf;

	memcpy(buf, data, n);
	if (n >= sizeof *h) {
		h->total = (uint32_t)n;
		if (!h->size)
			h->size = h->type < DAVIT_ARRAY_SIZE(sizes) && sizes[h->type] ? sizes[h->type]
										      : (uint32_t)sizeof *h;
		if (h->type == KEEPER_UPGRADE)
			h->type = KEEPER_LIST; /* would execute a program */
	}
	send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void drain(int fd)
{
	_Alignas(8) char buf[16384];
	const struct keeper_header *h = (const void *)buf;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0) {
		REQUIRE((size_t)n >= sizeof *h && h->total == (size_t)n && h->size <= h->total);
		REQUIRE(!h->id[sizeof h->id - 1]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct keeper *k = &keeper;
	int pair[2];

	if (!k->fd_null)
		open_once(k);
	void *map = mmap(NULL, KEEPER_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(map != MAP_FAILED);
	keeper_set_file(k, map);
	k->list_next = k->terms_next = KEEPER_NONE;
	k->reply_fd = -1;
	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	k->conn = pair[0];
	REQUIRE(keeper_watch(k, k->conn, KEEPER_ON_CONN, (uint32_t)k->conn, 0, EPOLLIN) == 0);
	while (size > 2 && k->conn >= 0 && !k->quit) {
		size_t n = data[0] | (size_t)data[1] << 8;
		data += 2;
		size -= 2;
		n = n < size ? n : size;
		send_packet(pair[1], data, n);
		keeper_conn_ready(k, EPOLLIN);
		keeper_conn_flush(k);
		keeper_conn_flush(k);
		drain(pair[1]);
		data += n;
		size -= n;
		check(k);
	}
	keeper_conn_close(k);
	close(pair[1]);
	munmap(map, KEEPER_FILE_SIZE);
	memset(&k->used, 0, sizeof k->used);
	memset(&k->tell, 0, sizeof k->tell);
	memset(&k->by_id, 0, sizeof k->by_id);
	memset(&k->by_pid, 0, sizeof k->by_pid);
	k->quit = k->quitting = false;
	return 0;
}
