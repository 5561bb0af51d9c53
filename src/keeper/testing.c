/* SPDX-License-Identifier: MIT
 *
 * The client's side of the protocol: messages that are sent, waited for and kept.
 */
#include "keeper/testing.h"

#include "base/buf.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

void client_connect(struct client *c)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct keeper_hello m = {.version = c->version ? c->version : KEEPER_PROTOCOL_VERSION};
	struct packet p;
	uint64_t tag;

	int dir = open(c->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(dir >= 0);
	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/keeper-0.sock", dir);
	c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
	close(dir);
	tag = client_send(c, &m.h, KEEPER_HELLO, "", sizeof m, NULL, 0, NULL, 0);
	assert_true(client_wait(c, KEEPER_WELCOME, tag, NULL, PATIENCE, &p));
	c->welcome = p.u.welcome;
	c->keeper = p.u.welcome.pid;
}

void client_disconnect(struct client *c)
{
	davit_closep(&c->fd);
	c->fd = -1;
	c->n_got = 0;
}

uint64_t client_send(struct client *c, struct keeper_header *h, uint32_t type, const char *id, size_t size,
		     const void *body, size_t body_len, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec iov[2] = {{h, size}, {(void *)(uintptr_t)body, body_len}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

	h->type = type;
	h->size = (uint32_t)size;
	h->total = (uint32_t)(size + body_len);
	h->tag = ++c->tag;
	snprintf(h->id, sizeof h->id, "%s", id);
	if (n_fds) {
		memset(&control, 0, sizeof control);
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *cm = CMSG_FIRSTHDR(&m);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, n_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(c->fd, &m, MSG_NOSIGNAL), (ssize_t)(size + body_len));
	return h->tag;
}

static bool matches(const struct packet *p, uint32_t type, uint64_t tag, const char *id)
{
	return p->u.h.type == type && (!tag || p->u.h.tag == tag) && (!id || !strcmp(p->u.h.id, id));
}

static bool take(struct client *c, uint32_t type, uint64_t tag, const char *id, struct packet *ret)
{
	for (size_t i = 0; i < c->n_got; i++)
		if (matches(&c->got[i], type, tag, id)) {
			*ret = c->got[i];
			memmove(&c->got[i], &c->got[i + 1], (--c->n_got - i) * sizeof *c->got);
			return true;
		}
	return false;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void keep(struct client *c, const struct keeper_header *h, int fd)
{
	struct packet *grown = realloc(c->got, (c->n_got + 1) * sizeof *grown);

	assert_non_null(grown);
	c->got = grown;
	grown += c->n_got++;
	memset(grown, 0, sizeof *grown);
	assert_true(h->total <= sizeof grown->u);
	memcpy(&grown->u, h, h->total);
	grown->len = h->total;
	grown->fd = fd;
}

/* Keeps the messages of one packet. False at the end of the connection. */
static bool receive(struct client *c)
{
	_Alignas(8) char buf[2 * KEEPER_PACK_MAX];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = sizeof buf};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *cm = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	size_t messages = 0;
	int fd = -1;

	if (cm)
		memcpy(&fd, CMSG_DATA(cm), sizeof fd);
	for (ssize_t at = 0; at < n; fd = -1, messages++) {
		const struct keeper_header *h = (const void *)(buf + at);
		assert_true(n - at >= (ssize_t)sizeof *h && h->total >= sizeof *h && h->total <= n - at);
		assert_true(h->total == n - at || h->total % 8 == 0);
		keep(c, h, fd);
		at += h->total;
	}
	c->most = messages > c->most ? messages : c->most;
	return n > 0;
}

bool client_wait(struct client *c, uint32_t type, uint64_t tag, const char *id, int ms, struct packet *ret)
{
	int64_t end = now_ms() + ms;

	while (!take(c, type, tag, id, ret)) {
		int64_t left = end - now_ms();
		struct pollfd pf = {.fd = c->fd, .events = POLLIN};
		if (left < 0 || poll(&pf, 1, (int)left) <= 0 || !receive(c))
			return false;
	}
	return true;
}

static int take_done(struct client *c, const struct packet *p)
{
	snprintf(c->message, sizeof c->message, "%s", p->u.bytes + sizeof p->u.done);
	c->sys_errno = p->u.done.sys_errno;
	return p->u.done.result;
}

int client_done(struct client *c, uint64_t tag)
{
	struct packet p;

	assert_true(client_wait(c, KEEPER_DONE, tag, NULL, PATIENCE, &p));
	return take_done(c, &p);
}

int client_create(struct client *c, const char *id, const struct log_options *o)
{
	static const struct log_options plain = {.max_size = 1 << 20, .max_files = 3};
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct keeper_create m = {0};

	o = o ? o : &plain;
	m.log_max_size = o->max_size;
	m.log_max_files = o->max_files;
	m.log_policy = o->policy;
	m.log_rate = o->rate;
	davit_buf_addf(&body, "label of %s", id);
	davit_buf_addc(&body, '\0');
	davit_buf_addf(&body, "%s/%s", c->log, id);
	davit_buf_addc(&body, '\0');
	if (o->cgroup)
		davit_buf_add(&body, o->cgroup, strlen(o->cgroup) + 1);
	davit_buf_addc(&body, '\0');
	return client_done(c,
			   client_send(c, &m.h, KEEPER_CREATE, id, sizeof m, body.data, body.len, NULL, 0));
}

static void add_command(struct davit_buf *b, struct keeper_spawn *m, const char *const *argv,
			const struct spawn_options *o)
{
	static const char *const no_env[] = {"PATH=/usr/bin:/bin", NULL};
	const char *const *env = o->env ? o->env : no_env;

	m->umask = o->umask_ ? o->umask_ : 022;
	m->n_rlimits = o->n_rlimits;
	m->ready = o->ready;
	m->ready_fd = o->ready_fd;
	m->no_new_privileges = o->no_new_privileges;
	m->set_user = o->set_user;
	m->uid = o->uid;
	m->gid = o->gid;
	davit_buf_add(b, o->rlimits, o->n_rlimits * sizeof *o->rlimits);
	davit_buf_add(b, o->path ? o->path : argv[0], strlen(o->path ? o->path : argv[0]) + 1);
	davit_buf_add(b, o->directory ? o->directory : "", strlen(o->directory ? o->directory : "") + 1);
	for (; argv[m->argc]; m->argc++)
		davit_buf_add(b, argv[m->argc], strlen(argv[m->argc]) + 1);
	for (; env[m->envc]; m->envc++)
		davit_buf_add(b, env[m->envc], strlen(env[m->envc]) + 1);
	davit_buf_addc(b, '\0');
}

/* SPAWNED or DONE, whichever comes. */
int client_spawned(struct client *c, uint64_t tag)
{
	struct packet p;
	int64_t end = now_ms() + PATIENCE;

	while (now_ms() < end) {
		if (client_wait(c, KEEPER_SPAWNED, tag, NULL, 2, &p))
			return p.u.spawned.pid;
		if (take(c, KEEPER_DONE, tag, NULL, &p))
			return take_done(c, &p);
	}
	fail_msg("neither SPAWNED nor DONE");
	return 0;
}

int client_spawn(struct client *c, const char *id, uint32_t run, const char *const *argv,
		 const struct spawn_options *o)
{
	static const struct spawn_options plain = {0};
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct keeper_spawn m = {.run = run};

	add_command(&body, &m, argv, o ? o : &plain);
	return client_spawned(c,
			      client_send(c, &m.h, KEEPER_SPAWN, id, sizeof m, body.data, body.len, NULL, 0));
}

uint64_t client_launch(struct client *c, const char *id, uint32_t run, const char *const *argv, int limit_ms,
		       uint32_t flags)
{
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct keeper_launch m = {.h.flags = flags, .limit_ms = (uint32_t)limit_ms, .spawn.run = run};
	char path[128], variable[160];

	snprintf(path, sizeof path, "%s/%s.pid", c->dir, id);
	snprintf(variable, sizeof variable, "PIDFILE=%s", path);
	const char *const env[] = {"PATH=/usr/bin:/bin", variable, NULL};
	add_command(&body, &m.spawn, argv, &(struct spawn_options){.env = env});
	davit_buf_add(&body, path, strlen(path) + 1);
	return client_send(c, &m.h, KEEPER_LAUNCH, id, sizeof m, body.data, body.len, NULL, 0);
}

int client_shell(struct client *c, const char *id, const char *script)
{
	int pid;

	assert_int_equal(client_create(c, id, NULL), 0);
	pid = client_spawn(c, id, 1, ARGV("/bin/sh", "-c", script), NULL);
	assert_true(pid > 0);
	return pid;
}

int client_exec(struct client *c, const char *id, const char *const *argv, const int fds[3], bool tty,
		uint64_t *ret_tag)
{
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct keeper_exec m = {.tty = tty};

	add_command(&body, &m.spawn, argv, &(struct spawn_options){0});
	*ret_tag = client_send(c, &m.h, KEEPER_EXEC, id, sizeof m, body.data, body.len, fds, 3);
	return client_spawned(c, *ret_tag);
}

static int attached(struct client *c, uint64_t tag, struct packet *ret)
{
	struct packet p;
	int64_t end = now_ms() + PATIENCE;

	while (now_ms() < end) {
		if (client_wait(c, KEEPER_ATTACHED, tag, NULL, 2, &p)) {
			assert_true(p.fd >= 0);
			if (ret)
				*ret = p;
			return p.fd;
		}
		if (take(c, KEEPER_DONE, tag, NULL, &p))
			return take_done(c, &p);
	}
	fail_msg("neither ATTACHED nor DONE");
	return 0;
}

int client_terminal(struct client *c, const char *id, const char *slot, const char *const *argv,
		    struct packet *ret)
{
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct keeper_terminal m = {.rows = 24, .columns = 80};
	const char *const env[] = {"PATH=/usr/bin:/bin", "TERM=dumb", "PS1=$ ", NULL};

	snprintf(m.slot, sizeof m.slot, "%s", slot);
	add_command(&body, &m.spawn, argv, &(struct spawn_options){.env = env});
	davit_buf_add(&body, slot, strlen(slot) + 1);
	davit_buf_add(&body, argv[0], strlen(argv[0]) + 1);
	return attached(c, client_send(c, &m.h, KEEPER_TERMINAL, id, sizeof m, body.data, body.len, NULL, 0),
			ret);
}

int client_attach(struct client *c, const char *id, struct packet *ret)
{
	struct keeper_attach m = {0};

	return attached(c, client_send(c, &m.h, KEEPER_ATTACH, id, sizeof m, NULL, 0, NULL, 0), ret);
}

int client_stop(struct client *c, const char *id, int signo, int grace_ms)
{
	struct keeper_stop m = {.signo = signo, .grace_ns = (int64_t)grace_ms * 1000000};

	return client_done(c, client_send(c, &m.h, KEEPER_STOP, id, sizeof m, NULL, 0, NULL, 0));
}

int client_signal(struct client *c, const char *id, int signo, uint32_t scope, uint64_t exec_tag)
{
	struct keeper_signal m = {.signo = signo, .scope = scope, .exec_tag = exec_tag};

	return client_done(c, client_send(c, &m.h, KEEPER_SIGNAL, id, sizeof m, NULL, 0, NULL, 0));
}

int client_simple(struct client *c, uint32_t type, const char *id)
{
	struct keeper_header h = {0};

	return client_done(c, client_send(c, &h, type, id, sizeof h, NULL, 0, NULL, 0));
}

struct keeper_exit client_exit(struct client *c, const char *id, uint32_t run)
{
	struct packet p;

	assert_true(client_wait(c, KEEPER_EXITED, 0, id, PATIENCE, &p));
	assert_int_equal(p.u.exited.run, run);
	return p.u.exited.exit;
}

bool client_inspect(struct client *c, const char *id, struct packet *ret)
{
	struct keeper_header h = {0};
	uint64_t tag = client_send(c, &h, KEEPER_LIST, "", sizeof h, NULL, 0, NULL, 0);
	struct packet p;
	bool found = false;

	assert_int_equal(client_done(c, tag), 0);
	while (take(c, KEEPER_INSTANCE, tag, NULL, &p))
		if (!strcmp(p.u.h.id, id)) {
			*ret = p;
			found = true;
		}
	return found;
}
