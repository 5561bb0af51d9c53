/* SPDX-License-Identifier: MIT
 *
 * The keeper where things are long, few or changed: paths, strings,
 * descriptors, terminals, the program under an upgrade, and its own end.
 */
#include "keeper/testing.h"

#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char self[512];

/* The workload: tells NOTIFY_SOCKET, be it a path or an abstract name. */
static int notify_workload(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	size_t n;

	if (!path || strlen(path) >= sizeof a.sun_path)
		return 3;
	n = strlen(path);
	memcpy(a.sun_path, path, n);
	if (a.sun_path[0] == '@')
		a.sun_path[0] = '\0';
	if (sendto(fd, text, strlen(text), 0, (struct sockaddr *)&a,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		return 4;
	sleep(1000);
	return 0;
}

static const char *status_of(const struct packet *p)
{
	const char *label = p->u.bytes + sizeof p->u.instance;

	return label + strlen(label) + 1;
}

/* ------------------------------------------------------------------ long paths */

static int long_setup(void **state)
{
	return client_setup_in(state, 200);
}

static void a_run_directory_of_200_bytes_serves_all(void **state)
{
	struct client *c = *state;
	struct spawn_options o = {.ready = DAVIT_READY_NOTIFY};
	DAVIT_AUTO_FREE char *log = NULL;
	struct packet p;

	assert_true(strlen(c->run) > 200);
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV(self, "--notify", "READY=1\nSTATUS=far away"), &o) > 0);
	assert_true(client_wait(c, KEEPER_READY, 0, ID(01), PATIENCE, &p));
	assert_true(client_shell(c, ID(02), "echo here") > 0);
	client_exit(c, ID(02), 1);
	log = client_log(c, ID(02));
	assert_string_equal(log, "stdout here\n");
	client_kill_keeper(c);
	client_start_keeper(c);
	client_connect(c);
	assert_int_equal(c->welcome.recovered, 1);
	assert_true(client_inspect(c, ID(01), &p));
	assert_string_equal(status_of(&p), "far away");
	assert_string_equal(p.u.bytes + sizeof p.u.instance, "label of " ID(01));
}

static void strings_that_do_not_fit_a_slot_are_kept_all_the_same(void **state)
{
	struct client *c = *state;
	struct spawn_options o = {.ready = DAVIT_READY_NOTIFY};
	char status[128], text[160], cgroup[300];
	struct log_options log = {.max_size = 1 << 20, .max_files = 3, .cgroup = cgroup};
	struct packet p;

	memset(status, 's', sizeof status - 1);
	status[sizeof status - 1] = '\0';
	snprintf(text, sizeof text, "STATUS=%s\nREADY=1", status);
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV(self, "--notify", text), &o) > 0);
	assert_true(client_wait(c, KEEPER_READY, 0, ID(01), PATIENCE, &p));
	assert_true(client_inspect(c, ID(01), &p));
	assert_string_equal(status_of(&p), status);
	assert_string_equal(p.u.bytes + sizeof p.u.instance, "label of " ID(01));
	/* A cgroup that is not there is refused by its whole name, not by a part. */
	memset(cgroup, 'g', sizeof cgroup - 1);
	cgroup[0] = cgroup[150] = '/';
	cgroup[sizeof cgroup - 1] = '\0';
	assert_int_equal(client_create(c, ID(02), &log), 0);
	assert_true(client_spawn(c, ID(02), 1, ARGV("/bin/true"), NULL) < 0);
	assert_int_equal(c->sys_errno, ENOENT);
	assert_non_null(strstr(c->message, cgroup));
	assert_true(client_inspect(c, ID(02), &p));
	assert_string_equal(p.u.bytes + sizeof p.u.instance, "label of " ID(02));
}

/* -------------------------------------------------------------- the main process */

static void a_main_process_that_names_its_successor_is_followed(void **state)
{
	struct client *c = *state;
	struct spawn_options o = {.ready = DAVIT_READY_NOTIFY};
	char script[900], go[160];
	struct keeper_exit e;
	struct packet p;
	pid_t first;

	/* The first process starts the second, which tells of itself; then the first ends. */
	snprintf(go, sizeof go, "%s/go", c->dir);
	snprintf(script, sizeof script, "'%s' --main & while [ ! -e %s ]; do sleep 0.02; done; exit 9", self,
		 go);
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	first = client_spawn(c, ID(01), 1, ARGV("/bin/sh", "-c", script), &o);
	assert_true(first > 0);
	assert_true(client_wait(c, KEEPER_READY, 0, ID(01), PATIENCE, &p));
	assert_int_equal(mkdir(go, 0700), 0);
	WAIT_FOR(!alive(first));
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_RUNNING);
	assert_true(p.u.instance.pid > 0 && p.u.instance.pid != first);
	assert_int_equal(client_signal(c, ID(01), SIGUSR1, 0, 0), 0);
	e = client_exit(c, ID(01), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_SIGNAL);
	assert_int_equal(e.signal, SIGUSR1);
}

static int main_workload(void)
{
	char text[64];

	snprintf(text, sizeof text, "MAINPID=%d\nREADY=1", (int)getpid());
	return notify_workload(text);
}

/* --------------------------------------------------------------------- terminals */

static int tty_workload(void)
{
	int fd = isatty(0) && isatty(1) && isatty(2) ? open("/dev/tty", O_WRONLY | O_CLOEXEC) : -1;

	if (fd < 0 || write(fd, "own\n", 4) != 4)
		return 3;
	sleep(1000);
	return 0;
}

static void a_command_on_a_terminal_has_it_as_its_own(void **state)
{
	struct client *c = *state;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;
	char buf[256];
	size_t len = 0;
	struct packet p;
	uint64_t tag;

	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(slave >= 0);
	const int fds[3] = {slave, slave, slave};
	client_shell(c, ID(01), "sleep 1000");
	assert_true(client_exec(c, ID(01), ARGV(self, "--tty"), fds, true, &tag) > 0);
	close(slave);
	while (!memchr(buf, '\n', len)) {
		ssize_t n = read(master, buf + len, sizeof buf - len);
		assert_true(n > 0);
		len += (size_t)n;
	}
	assert_memory_equal(buf, "own", 3);
	assert_int_equal(write(master, "\003", 1), 1); /* the key that interrupts */
	assert_true(client_wait(c, KEEPER_EXEC_EXITED, tag, ID(01), PATIENCE, &p));
	assert_int_equal(p.u.exited.exit.signal, SIGINT);
	close(master);
}

/* ------------------------------------------------------------------- descriptors */

static int few_setup(void **state)
{
	return client_setup_few(state, 130);
}

static void without_descriptors_a_start_is_refused_and_works_again_later(void **state)
{
	struct client *c = *state;
	int n = 0, r = 1;
	char id[32];

	for (; n < 60 && r > 0; n++) {
		snprintf(id, sizeof id, "%016d", n);
		assert_int_equal(client_create(c, id, NULL), 0);
		r = client_spawn(c, id, 1, ARGV("/bin/sleep", "1000"), NULL);
	}
	assert_int_equal(r, DAVIT_EQUOTA);
	assert_non_null(strstr(c->message, "130"));
	assert_in_range(n, 3, 50);
	/* Others go on, and what they gave back can be taken. */
	assert_int_equal(client_stop(c, "0000000000000000", SIGTERM, 1000), 0);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, "0000000000000000"), 0);
	assert_true(client_spawn(c, id, 1, ARGV("/bin/sleep", "1000"), NULL) > 0);
}

/* --------------------------------------------------------------------- its program */

/* A keeper whose program is a copy, so that it can be replaced. */
static int copy_setup(void **state)
{
	return client_setup_copy(state);
}

static void replace_program(struct client *c, const char *script)
{
	int fd;

	assert_int_equal(unlink(c->program), 0);
	fd = open(c->program, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	assert_true(fd >= 0);
	assert_int_equal(davit_write_full(fd, script, strlen(script)), 0);
	close(fd);
}

static void an_upgrade_to_another_layout_is_refused_and_changes_nothing(void **state)
{
	struct client *c = *state;
	pid_t pid = client_shell(c, ID(01), "sleep 1000");
	struct packet p;

	replace_program(c, "#!/bin/sh\necho 4711\n");
	assert_int_equal(client_simple(c, KEEPER_UPGRADE, ""), DAVIT_ENOTSUP);
	assert_non_null(strstr(c->message, "4711"));
	replace_program(c, "no program");
	assert_int_equal(client_simple(c, KEEPER_UPGRADE, ""), DAVIT_ENOTSUP);
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.pid, pid);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 1000), 0);
}

/* ---------------------------------------------------------------------- its own end */

static int short_setup(void **state)
{
	int r;

	setenv("DAVIT_KEEPER_LINGER", "1000", 1); /* a busy machine needs some of it to connect */
	r = client_setup(state);
	unsetenv("DAVIT_KEEPER_LINGER");
	return r;
}

static void a_keeper_without_slots_and_daemon_ends_by_itself(void **state)
{
	struct client *c = *state;
	char path[512];

	nap(1300);
	assert_true(alive(c->keeper)); /* a daemon is there */
	client_shell(c, ID(01), "sleep 1000");
	client_disconnect(c);
	nap(1300);
	assert_true(alive(c->keeper)); /* an instance is */
	client_connect(c);
	assert_int_equal(client_simple(c, KEEPER_QUIT, ""), DAVIT_ESTATE);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 1000), 0);
	assert_int_equal(client_simple(c, KEEPER_QUIT, ""), DAVIT_ESTATE);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(01)), 0);
	client_disconnect(c);
	WAIT_FOR(!alive(c->keeper));
	snprintf(path, sizeof path, "%s/keeper-0.slots", c->run);
	assert_int_equal(access(path, F_OK), -1);
	client_start_keeper(c); /* for the teardown */
}

/* On a disk that reads ahead a lot, all of its holes would be. */
static void its_file_of_slots_is_in_memory_only_where_it_is_used(void **state)
{
	struct client *c = *state;
	size_t resident = 0, pages;
	unsigned char *in;
	struct stat st;
	char path[512];
	void *map;
	int fd;

	client_shell(c, ID(01), "sleep 1000");
	snprintf(path, sizeof path, "%s/keeper-0.slots", c->run);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	pages = ((size_t)st.st_size + 4095) / 4096;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	in = calloc(pages, 1);
	assert_true(map != MAP_FAILED && in);
	assert_int_equal(mincore(map, (size_t)st.st_size, in), 0);
	for (size_t i = 0; i < pages; i++)
		resident += in[i] & 1;
	assert_in_range(resident, 1, 64);
	free(in);
	munmap(map, (size_t)st.st_size);
	close(fd);
}

/* The directories and the mode of the socket keep others out; should they not, its credentials do. */
static void another_user_is_not_listened_to(void **state)
{
	struct client *c = *state;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct keeper_hello m = {.h = {.size = sizeof m, .total = sizeof m, .type = KEEPER_HELLO},
				 .version = KEEPER_PROTOCOL_VERSION};
	struct packet p;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	assert_true((size_t)snprintf(a.sun_path, sizeof a.sun_path, "%s/keeper-0.sock", c->run) <
		    sizeof a.sun_path);
	assert_int_equal(chmod(c->dir, 0755) | chmod(c->run, 0755) | chmod(a.sun_path, 0666), 0);
	pid = fork();
	if (pid == 0) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		char answer[64];
		if (setuid(65534) < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
			_exit(2);
		/* Closed without a word. */
		(void)!send(fd, &m, sizeof m, MSG_NOSIGNAL);
		_exit(read(fd, answer, sizeof answer) <= 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* And the daemon's own connection stays. */
	client_shell(c, ID(01), "sleep 1000");
	assert_true(client_inspect(c, ID(01), &p));
}

int main(int argc, char **argv)
{
#define T(name, setup) cmocka_unit_test_setup_teardown(name, setup, client_teardown)
	const struct CMUnitTest tests[] = {
		T(a_run_directory_of_200_bytes_serves_all, long_setup),
		T(strings_that_do_not_fit_a_slot_are_kept_all_the_same, client_setup),
		T(its_file_of_slots_is_in_memory_only_where_it_is_used, client_setup),
		T(a_main_process_that_names_its_successor_is_followed, client_setup),
		T(a_command_on_a_terminal_has_it_as_its_own, client_setup),
		T(without_descriptors_a_start_is_refused_and_works_again_later, few_setup),
		T(an_upgrade_to_another_layout_is_refused_and_changes_nothing, copy_setup),
		T(another_user_is_not_listened_to, client_setup),
		T(a_keeper_without_slots_and_daemon_ends_by_itself, short_setup),
	};
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n < 0)
		return 1;
	if (argc == 3 && !strcmp(argv[1], "--notify"))
		return notify_workload(argv[2]);
	if (argc == 2 && !strcmp(argv[1], "--main"))
		return main_workload();
	if (argc == 2 && !strcmp(argv[1], "--tty"))
		return tty_workload();
	return cmocka_run_group_tests_name("keeper-limits", tests, NULL, NULL);
}
