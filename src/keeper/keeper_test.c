/* SPDX-License-Identifier: MIT
 *
 * What a workload is given, how its end and its readiness are told, and what
 * the keeper refuses.
 */
#include "keeper/testing.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static void exit_codes_and_signals_are_told(void **state)
{
	struct client *c = *state;
	struct keeper_exit e;

	client_shell(c, ID(01), "exit 7");
	e = client_exit(c, ID(01), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_CODE);
	assert_int_equal(e.code, 7);
	assert_true(e.time > 0);
	client_shell(c, ID(02), "kill -USR1 $$");
	e = client_exit(c, ID(02), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_SIGNAL);
	assert_int_equal(e.signal, SIGUSR1);
}

static void what_cannot_be_executed_is_refused_with_the_reason(void **state)
{
	struct client *c = *state;
	struct packet p;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_int_equal(client_spawn(c, ID(01), 1, ARGV("/x/y"), NULL), DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot execute /x/y: No such file or directory");
	assert_int_equal(c->sys_errno, ENOENT);
	assert_int_equal(client_spawn(c, ID(01), 1, ARGV("/etc/passwd"), NULL), DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot execute /etc/passwd: Permission denied");
	assert_int_equal(
		client_spawn(c, ID(01), 1, ARGV("/bin/true"), &(struct spawn_options){.directory = "/no"}),
		DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot change to directory /no: No such file or directory");
	/* The run did not count, and the next one works. */
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_CREATED);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/bin/true"), NULL) > 0);
	assert_int_equal(client_exit(c, ID(01), 1).code, 0);
}

/* The keeper finds them all at once, so that several are under way at a time. */
static void starts_in_a_burst_are_answered_and_logged_each_for_itself(void **state)
{
	static const char good[] = "/bin/sh\0\0sh\0-c\0echo $DAVIT_INSTANCE; exec sleep 1000\0";
	static const char bad[] = "/x/y\0\0y\0";
	struct client *c = *state;
	uint64_t tags[24];
	struct packet p;
	char id[24], want[48];

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(tags); i++) {
		snprintf(id, sizeof id, "%016zx", i);
		assert_int_equal(client_create(c, id, NULL), 0);
	}
	kill(c->keeper, SIGSTOP);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(tags); i++) {
		struct keeper_spawn m = {.run = 1, .argc = i % 3 ? 3 : 1, .umask = 022};
		snprintf(id, sizeof id, "%016zx", i);
		tags[i] = client_send(c, &m.h, KEEPER_SPAWN, id, sizeof m, i % 3 ? good : bad,
				      i % 3 ? sizeof good : sizeof bad, NULL, 0);
	}
	kill(c->keeper, SIGCONT);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(tags); i++) {
		char *log = NULL;

		snprintf(id, sizeof id, "%016zx", i);
		if (i % 3 == 0) {
			assert_int_equal(client_done(c, tags[i]), DAVIT_EEXEC);
			assert_string_equal(c->message, "cannot execute /x/y: No such file or directory");
			continue;
		}
		assert_true(client_wait(c, KEEPER_SPAWNED, tags[i], id, PATIENCE, &p));
		assert_true(alive(p.u.spawned.pid));
		snprintf(want, sizeof want, "stdout %s\n", id);
		WAIT_FOR((free(log), log = client_log(c, id)) && *log);
		assert_string_equal(log, want);
		free(log);
	}
	/* What is asked of one that was just asked to start finds it running. */
	struct keeper_spawn m = {.run = 1, .argc = 3, .umask = 022};
	assert_int_equal(client_create(c, ID(91), NULL), 0);
	client_send(c, &m.h, KEEPER_SPAWN, ID(91), sizeof m, good, sizeof good, NULL, 0);
	client_send(c, &m.h, KEEPER_SPAWN, ID(91), sizeof m, good, sizeof good, NULL, 0);
	assert_int_equal(client_done(c, c->tag), DAVIT_ESTATE);
	assert_int_equal(client_signal(c, ID(91), SIGKILL, 0, 0), 0);
	assert_int_equal(client_exit(c, ID(91), 1).signal, SIGKILL);
}

static void a_storm_of_ends_is_told_once_each_and_holds_up_nobody(void **state)
{
	enum { N = 100 };
	struct client *c = *state;
	struct packet p;
	char id[24];
	pid_t pid[N];

	for (int i = 0; i < N; i++) {
		snprintf(id, sizeof id, "%016x", i);
		pid[i] = client_shell(c, id, "exec sleep 1000");
	}
	for (int i = 1; i < N; i++) {
		assert_int_equal(kill(pid[i], SIGKILL), 0);
		nap(1);
		if (i % 10 == 0)
			assert_int_equal(client_signal(c, "0000000000000000", SIGCONT, 0, 0), 0);
	}
	for (int i = 1; i < N; i++) {
		snprintf(id, sizeof id, "%016x", i);
		assert_int_equal(client_exit(c, id, 1).signal, SIGKILL);
	}
	assert_int_equal(client_stop(c, "0000000000000000", SIGTERM, 5000), 0);
	assert_int_equal(client_exit(c, "0000000000000000", 1).signal, SIGTERM);
	assert_false(client_wait(c, KEEPER_EXITED, 0, NULL, 0, &p));
}

static void in_a_storm_of_ends_nothing_of_what_others_print_is_lost_and_stops_end(void **state)
{
	enum { N = 100, LINES = 3000 };
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;
	char id[24], flood[128];
	pid_t pid[N];
	size_t lines = 0;

	for (int i = 0; i < N; i++) {
		snprintf(id, sizeof id, "%016x", i);
		pid[i] = client_shell(c, id, "exec sleep 1000");
	}
	/* Several times what a pipe holds, so that it waits for the keeper. */
	snprintf(flood, sizeof flood, "i=0; while [ $i -lt %d ]; do printf '%%0100d\\n' $i; i=$((i+1)); done",
		 LINES);
	client_shell(c, "00000000000000ff", flood);
	for (int i = 1; i < N; i++) {
		assert_int_equal(kill(pid[i], SIGKILL), 0);
		nap(1);
		if (i == N / 2)
			assert_int_equal(client_stop(c, "0000000000000000", SIGTERM, 5000), 0);
	}
	for (int i = 0; i < N; i++) {
		snprintf(id, sizeof id, "%016x", i);
		assert_int_equal(client_exit(c, id, 1).signal, i ? SIGKILL : SIGTERM);
	}
	assert_int_equal(client_exit(c, "00000000000000ff", 1).code, 0);
	log = client_log(c, "00000000000000ff");
	for (char *p = log, *nl; (nl = strchr(p, '\n')); p = nl + 1, lines++) {
		assert_int_equal(nl - p, strlen("stdout ") + 100);
		assert_int_equal(strtoull(p + strlen("stdout "), NULL, 10), lines);
	}
	assert_int_equal(lines, LINES);
}

static void a_user_that_may_not_be_taken_is_refused_by_number(void **state)
{
	struct client *c = *state;
	struct spawn_options o = {.set_user = true, .uid = 12, .gid = 13};
	DAVIT_AUTO_FREE char *log = NULL;
	int pid;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	pid = client_spawn(c, ID(01), 1,
			   ARGV("/bin/sh", "-c", "id -u; id -g; id -G; echo >/dev/stdout via-path"), &o);
	if (geteuid() != 0) {
		assert_int_equal(pid, DAVIT_EEXEC);
		assert_non_null(strstr(c->message, "Operation not permitted"));
		return;
	}
	assert_true(pid > 0);
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_string_equal(log, "stdout 12\nstdout 13\nstdout 13\nstdout via-path\n");
}

static void arguments_environment_and_directory_arrive_as_they_are(void **state)
{
	static const char *const env[] = {"A=b=c", "EMPTY=", "PATH=/usr/bin:/bin", NULL};
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_true(
		client_spawn(c, ID(01), 1,
			     ARGV("/bin/sh", "-c", "printf '%s|' \"$0\" \"$@\"; echo; env | sort; pwd; umask",
				  "name", "two words", "", "$HOME"),
			     &(struct spawn_options){.env = env, .directory = "/usr", .umask_ = 027}) > 0);
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_string_equal(
		log, "stdout name|two words||$HOME|\nstdout A=b=c\nstdout DAVIT_INSTANCE=" ID(
			     01) "\n"
				 "stdout EMPTY=\nstdout PATH=/usr/bin:/bin\nstdout PWD=/usr\nstdout /usr\n"
				 "stdout 0027\n");
}

static void limits_and_privileges_are_set(void **state)
{
	const struct keeper_rlimit l[] = {{RLIMIT_NOFILE, 0, 77, 99}, {RLIMIT_CORE, 0, 0, 0}};
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_true(client_spawn(c, ID(01), 1,
				 ARGV("/bin/sh", "-c",
				      "ulimit -Sn; ulimit -Hn; grep NoNewPrivs /proc/self/status"),
				 &(struct spawn_options){
					 .rlimits = l, .n_rlimits = 2, .no_new_privileges = true}) > 0);
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_string_equal(log, "stdout 77\nstdout 99\nstdout NoNewPrivs:\t1\n");
}

static void the_keepers_own_limits_do_not_reach_workloads(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;
	struct rlimit l;
	char want[64];

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
	client_shell(c, ID(01), "ulimit -Sn");
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	snprintf(want, sizeof want, "stdout %llu\n", (unsigned long long)l.rlim_cur);
	assert_string_equal(log, want);
}

static void no_descriptor_signal_or_mask_leaks(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	/* 3 is ls's own, of the directory. */
	assert_true(client_spawn(c, ID(01), 1,
				 ARGV("/bin/sh", "-c",
				      "ls /proc/self/fd; readlink /proc/self/fd/0; "
				      "exec grep -E 'Sig(Blk|Ign)' /proc/self/status"),
				 NULL) > 0);
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_string_equal(log, "stdout 0\nstdout 1\nstdout 2\nstdout 3\nstdout /dev/null\n"
				 "stdout SigBlk:\t0000000000000000\nstdout SigIgn:\t0000000000000000\n");
}

static void a_message_above_a_packet_travels_in_a_memfd(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL, *big = malloc(100001);
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct keeper_spawn m = {.run = 1, .argc = 4, .umask = 022};
	struct packet p;
	int fd;

	assert_non_null(big);
	memset(big, 'y', 100000);
	big[100000] = '\0';
	davit_buf_add(&body, &m, sizeof m);
	davit_buf_add(&body, "/bin/sh\0\0/bin/sh\0-c\0echo ${#0}", 30);
	davit_buf_addc(&body, '\0');
	davit_buf_add(&body, big, 100001);
	davit_buf_addc(&body, '\0');
	struct keeper_header *h = (void *)body.data;
	*h = (struct keeper_header){.type = KEEPER_SPAWN,
				    .size = sizeof m,
				    .total = (uint32_t)body.len,
				    .flags = KEEPER_FLAG_MEMFD,
				    .tag = 9999,
				    .id = ID(01)};
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	for (int sealed = 0; sealed < 2; sealed++) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(sizeof(int))];
		} control = {0};
		struct iovec iov = {h, sizeof *h};
		struct msghdr msg = {.msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = &control,
				     .msg_controllen = sizeof control};
		struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
		fd = memfd_create("message", MFD_ALLOW_SEALING | MFD_CLOEXEC);
		assert_int_equal(write(fd, body.data, body.len), (ssize_t)body.len);
		if (sealed)
			assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW),
					 0);
		*cm = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
		memcpy(CMSG_DATA(cm), &fd, sizeof fd);
		assert_int_equal(sendmsg(c->fd, &msg, 0), sizeof *h);
		close(fd);
		if (!sealed)
			assert_int_equal(client_done(c, 9999), DAVIT_EPROTO);
	}
	assert_true(client_wait(c, KEEPER_SPAWNED, 9999, NULL, PATIENCE, &p));
	client_exit(c, ID(01), 1);
	log = client_log(c, ID(01));
	assert_string_equal(log, "stdout 100000\n");
}

static void malformed_messages_change_nothing(void **state)
{
	struct client *c = *state;
	struct keeper_spawn m = {.run = 1, .argc = 1u << 30, .envc = UINT32_MAX};
	struct keeper_create cr = {0};
	struct packet p;
	uint64_t tag;

	tag = client_send(c, &cr.h, KEEPER_CREATE, ID(01), sizeof cr, "label", 5, NULL, 0);
	assert_int_equal(client_done(c, tag), DAVIT_EPROTO);
	assert_false(client_inspect(c, ID(01), &p));
	tag = client_send(c, &cr.h, KEEPER_CREATE, ID(01), sizeof cr, "l\0relative\0\0", 12, NULL, 0);
	assert_int_equal(client_done(c, tag), DAVIT_EINVAL);
	assert_string_equal(c->message, "the log directory 'relative' is not absolute");
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	tag = client_send(c, &m.h, KEEPER_SPAWN, ID(01), sizeof m, "/bin/sh\0\0", 9, NULL, 0);
	assert_int_equal(client_done(c, tag), DAVIT_EPROTO);
	m.argc = 1;
	m.envc = 0;
	m.n_groups = UINT32_MAX;
	tag = client_send(c, &m.h, KEEPER_SPAWN, ID(01), sizeof m, "/bin/sh\0\0", 9, NULL, 0);
	assert_int_equal(client_done(c, tag), DAVIT_EPROTO);
	assert_int_equal(client_simple(c, 63, ID(01)), DAVIT_ENOTSUP);
	assert_int_equal(client_spawn(c, ID(77), 1, ARGV("/bin/true"), NULL), DAVIT_ENOENT);
	/* What is no message at all ends the connection, not the keeper. */
	assert_int_equal(send(c->fd, "x", 1, 0), 1);
	assert_int_equal(recv(c->fd, &p, 1, 0), 0);
	client_disconnect(c);
	client_connect(c);
	assert_true(client_inspect(c, ID(01), &p));
}

static void a_new_connection_replaces_the_old(void **state)
{
	struct client *c = *state;
	int old = c->fd;
	char byte;

	client_connect(c);
	assert_int_equal(recv(old, &byte, 1, 0), 0);
	close(old);
	client_shell(c, ID(01), "exit 0");
	client_exit(c, ID(01), 1);
}

/* The state of a process, as ps shows it. */
static char state_of(pid_t pid)
{
	char path[32], *text, *p, state;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	text = slurp(path);
	assert_non_null(text);
	p = strrchr(text, ')');
	state = p ? p[2] : '?';
	free(text);
	return state;
}

/* Three end while the keeper cannot look. */
static void end_three_at_once(struct client *c)
{
	static const char *const ids[] = {ID(01), ID(02), ID(03)};
	pid_t pids[3];

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(ids); i++) {
		assert_int_equal(client_create(c, ids[i], NULL), 0);
		pids[i] = client_spawn(c, ids[i], 1, ARGV("/bin/sleep", "1000"), NULL);
		assert_true(pids[i] > 0);
	}
	assert_int_equal(kill(c->keeper, SIGSTOP), 0);
	WAIT_FOR(state_of(c->keeper) == 'T');
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(ids); i++)
		assert_int_equal(kill(pids[i], SIGKILL), 0);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(ids); i++)
		WAIT_FOR(state_of(pids[i]) == 'Z');
	c->most = 0;
	assert_int_equal(kill(c->keeper, SIGCONT), 0);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(ids); i++)
		assert_int_equal(client_exit(c, ids[i], 1).signal, SIGKILL);
}

static void ends_that_are_seen_together_are_told_in_one_packet(void **state)
{
	struct client *c = *state;

	end_three_at_once(c);
	assert_int_equal(c->most, 3);
}

static void a_daemon_of_version_1_gets_each_message_alone(void **state)
{
	struct client *c = *state;

	client_disconnect(c);
	c->version = 1;
	client_connect(c);
	end_three_at_once(c);
	assert_int_equal(c->most, 1);
}

static void a_newline_on_the_descriptor_means_ready(void **state)
{
	struct client *c = *state;
	struct spawn_options o = {.ready = DAVIT_READY_FD, .ready_fd = 5};
	struct packet p;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_true(client_spawn(c, ID(01), 1,
				 ARGV("/bin/sh", "-c", "ls /proc/self/fd; echo >&5; sleep 1000"), &o) > 0);
	assert_true(client_wait(c, KEEPER_READY, 0, ID(01), PATIENCE, &p));
	assert_int_equal(p.u.text.run, 1);
	assert_true(client_inspect(c, ID(01), &p));
	assert_true(p.u.instance.ready);
	DAVIT_AUTO_FREE char *log = client_log(c, ID(01));
	assert_string_equal(log, "stdout 0\nstdout 1\nstdout 2\nstdout 3\nstdout 5\n");
}

/* This program as a workload: sends its argument to NOTIFY_SOCKET and sleeps. */
static int notify_workload(const char *text)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	if (!path || fd < 0)
		return 1;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	if (sendto(fd, text, strlen(text), 0, (struct sockaddr *)&a, sizeof a) < 0)
		return 2;
	pause();
	return 0;
}

static void sd_notify_is_heard_from_the_instance_only(void **state)
{
	struct client *c = *state;
	struct spawn_options o = {.ready = DAVIT_READY_NOTIFY};
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct packet p;
	char self[512];
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	self[n] = '\0';
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV(self, "--notify", "STATUS=warming up"), &o) > 0);
	assert_true(client_wait(c, KEEPER_STATUS, 0, ID(01), PATIENCE, &p));
	assert_string_equal(p.u.bytes + sizeof p.u.text, "warming up");
	/* A foreign process of the same user. */
	snprintf(a.sun_path, sizeof a.sun_path, "%s/notify/%s", c->run, ID(01));
	assert_int_equal(sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&a, sizeof a), 7);
	close(fd);
	assert_false(client_wait(c, KEEPER_READY, 0, ID(01), 100, &p));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 1000), 0);
	assert_true(client_spawn(c, ID(01), 2, ARGV(self, "--notify", "WATCHDOG=1\nREADY=1\nSTATUS=serving"),
				 &o) > 0);
	assert_true(client_wait(c, KEEPER_READY, 0, ID(01), PATIENCE, &p));
	assert_true(client_inspect(c, ID(01), &p));
	assert_true(p.u.instance.ready);
	assert_string_equal(p.u.bytes + sizeof p.u.instance + strlen("label of " ID(01)) + 1, "serving");
}

static void a_command_runs_beside_the_instance_with_passed_streams(void **state)
{
	struct client *c = *state;
	struct packet p;
	char buf[128];
	uint64_t tag;
	int in[2], out[2];
	ssize_t n;

	client_shell(c, ID(01), "sleep 1000");
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	const int fds[3] = {in[0], out[1], out[1]};
	assert_true(client_exec(c, ID(01), ARGV("/bin/sh", "-c", "read x; echo got $x; exit 3"), fds, false,
				&tag) > 0);
	close(in[0]);
	close(out[1]);
	assert_int_equal(write(in[1], "word\n", 5), 5);
	close(in[1]);
	n = read(out[0], buf, sizeof buf);
	assert_int_equal(n, 9);
	assert_memory_equal(buf, "got word\n", 9);
	assert_int_equal(read(out[0], buf, 1), 0); /* the keeper holds no copy */
	close(out[0]);
	assert_true(client_wait(c, KEEPER_EXEC_EXITED, tag, ID(01), PATIENCE, &p));
	assert_int_equal(p.u.exited.exit.code, 3);
}

static void a_command_ends_by_its_tag_or_with_the_instance(void **state)
{
	struct client *c = *state;
	struct packet p;
	uint64_t first, second;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int fds[3] = {null, null, null};
	pid_t pid;

	client_shell(c, ID(01), "sleep 1000");
	assert_true(client_exec(c, ID(01), ARGV("/bin/sleep", "1000"), fds, false, &first) > 0);
	pid = client_exec(c, ID(01), ARGV("/bin/sleep", "1000"), fds, false, &second);
	assert_true(pid > 0);
	close(null);
	assert_int_equal(client_signal(c, ID(01), SIGTERM, 0, first), 0);
	assert_true(client_wait(c, KEEPER_EXEC_EXITED, first, ID(01), PATIENCE, &p));
	assert_int_equal(p.u.exited.exit.signal, SIGTERM);
	assert_true(alive(pid));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 500), 0);
	assert_false(alive(pid));
	assert_true(client_wait(c, KEEPER_EXEC_EXITED, second, ID(01), PATIENCE, &p));
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, client_setup, client_teardown)
	const struct CMUnitTest tests[] = {
		T(exit_codes_and_signals_are_told),
		T(what_cannot_be_executed_is_refused_with_the_reason),
		T(starts_in_a_burst_are_answered_and_logged_each_for_itself),
		T(a_storm_of_ends_is_told_once_each_and_holds_up_nobody),
		T(in_a_storm_of_ends_nothing_of_what_others_print_is_lost_and_stops_end),
		T(a_user_that_may_not_be_taken_is_refused_by_number),
		T(arguments_environment_and_directory_arrive_as_they_are),
		T(limits_and_privileges_are_set),
		T(the_keepers_own_limits_do_not_reach_workloads),
		T(no_descriptor_signal_or_mask_leaks),
		T(a_message_above_a_packet_travels_in_a_memfd),
		T(malformed_messages_change_nothing),
		T(a_new_connection_replaces_the_old),
		T(ends_that_are_seen_together_are_told_in_one_packet),
		T(a_daemon_of_version_1_gets_each_message_alone),
		T(a_newline_on_the_descriptor_means_ready),
		T(sd_notify_is_heard_from_the_instance_only),
		T(a_command_runs_beside_the_instance_with_passed_streams),
		T(a_command_ends_by_its_tag_or_with_the_instance),
	};
	if (argc == 3 && !strcmp(argv[1], "--notify"))
		return notify_workload(argv[2]);
	return cmocka_run_group_tests_name("keeper", tests, NULL, NULL);
}
