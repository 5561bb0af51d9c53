/* SPDX-License-Identifier: MIT
 *
 * davit-keeper RUN_DIR INDEX [--fd N]
 *
 * Parent and reaper of local workloads: see docs/keeper.md. Becomes a daemon;
 * the program that was called ends with status 0 once it is ready, or with 1
 * and a message. --fd N: a byte is written there and N closed when it is ready.
 *
 * davit-keeper --layout: writes the versions of the slots file that it reads.
 */
#include "keeper/keeper.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static struct keeper keeper = {
	.epoll = -1,
	.fd_run = -1,
	.fd_listen = -1,
	.fd_lock = -1,
	.fd_slots = -1,
	.fd_null = -1,
	.fd_self = -1,
	.fd_signal = -1,
	.fd_scratch = {-1, -1},
	.conn = -1,
	.reply_fd = -1,
	.list_next = KEEPER_NONE,
	.terms_next = KEEPER_NONE,
};

static int usage(void)
{
	dprintf(STDERR_FILENO, "usage: davit-keeper RUN_DIR INDEX [--fd N] | --layout\n");
	return 2;
}

static bool number(const char *s, long max, long *ret)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	if (errno || end == s || *end || v < 0 || v > max)
		return false;
	*ret = v;
	return true;
}

static void nothing(int signo)
{
	(void)signo;
}

/* Every signal at its default but SIGPIPE, whatever the caller had. It is handled
 * and not ignored: execve makes that the default again without being told. */
static int set_signals(struct keeper *k, struct davit_error *err)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL}, handle = {.sa_handler = nothing};
	sigset_t set;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, i == SIGPIPE ? &handle : &dfl, NULL);
	/* glibc keeps two for itself and gives no access; ignored ones would be so in
	 * every workload. All zero is the default action. */
	for (long i = 32; i < SIGRTMIN; i++)
		syscall(SYS_rt_sigaction, i, (unsigned long[8]){0}, NULL, (size_t)(NSIG / 8));
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return davit_error_errno(err, errno, NULL, "cannot set the signal mask");
	k->fd_signal = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->fd_signal < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a signalfd");
	return 0;
}

enum { LOCK_TRIES = 100 };

static int take_lock(struct keeper *k, struct davit_error *err)
{
	char path[32];

	snprintf(path, sizeof path, "keeper-%u.lock", k->index);
	k->fd_lock = openat(k->fd_run, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (k->fd_lock < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s/%s", k->run_dir, path);
	/* A predecessor that is just ending still has it for a moment. */
	for (int tries = 0; flock(k->fd_lock, LOCK_EX | LOCK_NB) < 0; tries++) {
		if (errno == EWOULDBLOCK && tries < LOCK_TRIES) {
			nanosleep(&(struct timespec){.tv_nsec = 10 * 1000000}, NULL);
			continue;
		}
		return errno == EWOULDBLOCK
			       ? davit_error_set(err, DAVIT_EINUSE, NULL, "a keeper holds %s/%s already",
						 k->run_dir, path)
			       : davit_error_errno(err, errno, NULL, "cannot lock %s/%s", k->run_dir, path);
	}
	return 0;
}

/* Keeps the numbers that children get their streams by. After an upgrade from a keeper
 * that did not they may be taken: then each start is waited for. */
static void reserve(struct keeper *k)
{
	for (int fd = KEEPER_LOW; fd < KEEPER_LOW_END; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			return;
	for (int fd = KEEPER_LOW; fd < KEEPER_LOW_END; fd++)
		if (dup3(k->fd_null, fd, O_CLOEXEC) < 0)
			return;
	k->overlap = true;
}

/* Out of the way of those. */
static int move_up(int fd)
{
	int up = fd >= 0 && fd < KEEPER_LOW_END ? fcntl(fd, F_DUPFD_CLOEXEC, KEEPER_LOW_END) : -1;

	if (up < 0)
		return fd;
	close(fd);
	return up;
}

/* All the keeper's own descriptors but lock, slots and listener. */
static int open_own(struct keeper *k, struct davit_error *err)
{
	k->fd_null = move_up(open("/dev/null", O_RDWR | O_CLOEXEC));
	if (k->fd_null >= 0)
		reserve(k);
	k->fd_run = open(k->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->fd_run < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", k->run_dir);
	k->fd_self = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->fd_self < 0)
		return davit_error_errno(err, errno, NULL, "cannot open /proc/self/fd");
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (k->fd_null < 0 || k->epoll < 0 || pipe2(k->fd_scratch, O_CLOEXEC | O_NONBLOCK) < 0)
		return davit_error_errno(err, errno, NULL, "cannot open descriptors");
	return set_signals(k, err);
}

static void raise_descriptors(struct keeper *k)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	k->file->nofile = l; /* children get it back */
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
}

static void know_descriptors(struct keeper *k)
{
	struct rlimit l;

	k->descriptors = getrlimit(RLIMIT_NOFILE, &l) < 0 ? 1024 : l.rlim_cur;
}

static int watch_own(struct keeper *k, struct davit_error *err)
{
	if (keeper_watch(k, k->fd_listen, KEEPER_ON_LISTEN, 0, 0, EPOLLIN) < 0 ||
	    keeper_watch(k, k->fd_signal, KEEPER_ON_SIGNAL, 0, 0, EPOLLIN) < 0)
		return davit_error_errno(err, errno, NULL, "cannot watch descriptors");
	return 0;
}

static int start(struct keeper *k, struct davit_error *err)
{
	int r;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return davit_error_errno(err, errno, NULL, "cannot become a subreaper");
	if ((r = open_own(k, err)) || (r = take_lock(k, err)) || (r = keeper_slots_open(k, err)))
		return r;
	raise_descriptors(k);
	know_descriptors(k);
	if ((r = keeper_listen(k, err)) || (r = watch_own(k, err)))
		return r;
	k->file->keeper_pid = getpid();
	k->file->upgrading = 0;
	keeper_recover(k);
	return 0;
}

/* Executed anew by ourselves: lock, socket and slots are open. */
static int start_upgraded(struct keeper *k, int fd_slots, struct davit_error *err)
{
	int r;

	k->fd_slots = fd_slots;
	if ((r = open_own(k, err)) || (r = keeper_slots_open(k, err)))
		return r;
	if (k->file->keeper_pid != getpid() || !k->file->upgrading)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "no keeper has executed this one");
	know_descriptors(k);
	k->fd_lock = k->file->fd_lock;
	k->fd_listen = k->file->fd_listen;
	r = watch_own(k, err);
	if (r == 0)
		keeper_upgraded(k);
	return r;
}

/* DAVIT_KEEPER_LINGER: milliseconds, for tests. */
static int64_t linger(void)
{
	const char *text = getenv("DAVIT_KEEPER_LINGER");
	long ms;

	return text && number(text, 1000000, &ms) ? ms * DAVIT_NSEC_PER_MSEC : 60 * DAVIT_NSEC_PER_SEC;
}

/* Whatever else the caller had open is not the keeper's. */
static void close_foreign(int a, int b)
{
	unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a), from = 3;

	if (a >= 3 && low > from)
		syscall(SYS_close_range, from, low - 1, 0u);
	if (a >= 3)
		from = low + 1;
	if (high > from)
		syscall(SYS_close_range, from, high - 1, 0u);
	syscall(SYS_close_range, high + 1, ~0u, 0u);
}

/* Where each session is a group of the scheduler's (autogroup), ours weighs three
 * times as much as another: on a busy machine those that we keep would else leave
 * us too little to start the next, or to read what they print. They do not inherit
 * it, for each is a session of its own. Not ours to have without root. */
static void take_share(void)
{
	keeper_write_file("/proc/self", "autogroup", "-5");
}

/* Leaves the caller's session, directory, terminal and descriptors. It returns
 * in the new process; the first one waits for its word and exits. */
static int become_daemon(int keep, int *ret_ready, struct davit_error *err)
{
	int p[2];
	char byte;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	pid = fork();
	if (pid > 0) {
		close(p[1]);
		DAVIT_EINTR(waitpid(pid, NULL, 0));
		_exit(DAVIT_EINTR(read(p[0], &byte, 1)) == 1 ? 0 : 1);
	}
	if (pid < 0 || setsid() < 0)
		return davit_error_errno(err, errno, NULL, "cannot become a daemon");
	pid = fork();
	if (pid > 0)
		_exit(0);
	if (pid < 0)
		return davit_error_errno(err, errno, NULL, "cannot become a daemon");
	take_share();
	close(p[0]);
	close_foreign(keep, p[1]);
	umask(077);
	if (chdir("/") < 0)
		return davit_error_errno(err, errno, NULL, "cannot change to /");
	*ret_ready = move_up(p[1]);
	return 0;
}

/* The streams are kept until now so that a failure could be told. */
static void report_ready(struct keeper *k, int ready, int fd)
{
	for (int i = 0; i < 3; i++)
		dup2(k->fd_null, i);
	if (fd >= 0) {
		DAVIT_EINTR(write(fd, "1", 1));
		close(fd);
	}
	DAVIT_EINTR(write(ready, "1", 1));
	close(ready);
}

static void clean_up(struct keeper *k)
{
	char path[32];

	keeper_conn_flush(k);
	snprintf(path, sizeof path, "keeper-%u.sock", k->index);
	unlinkat(k->fd_run, path, 0);
	snprintf(path, sizeof path, "keeper-%u.slots", k->index);
	unlinkat(k->fd_run, path, 0);
}

int main(int argc, char **argv)
{
	struct keeper *k = &keeper;
	struct davit_error err = {0};
	long index, fd = -1;
	int ready = -1, r;
	bool upgraded = argc == 5 && !strcmp(argv[3], "--upgraded");

	if (argc == 2 && !strcmp(argv[1], "--layout")) {
		for (int v = KEEPER_FILE_OLDEST; v <= KEEPER_FILE_VERSION; v++)
			dprintf(STDOUT_FILENO, "%d%c", v, v < KEEPER_FILE_VERSION ? ' ' : '\n');
		return 0;
	}
	if ((argc != 3 && argc != 5) || !number(argv[2], 9999, &index) || argv[1][0] != '/' ||
	    (argc == 5 && ((!upgraded && strcmp(argv[3], "--fd")) || !number(argv[4], INT_MAX, &fd))))
		return usage();
	k->index = (unsigned)index;
	k->linger = linger();
	if ((size_t)snprintf(k->run_dir, sizeof k->run_dir, "%s", argv[1]) >= sizeof k->run_dir) {
		dprintf(STDERR_FILENO, "davit-keeper: %s is too long\n", argv[1]);
		return 1;
	}
	ssize_t n = readlink("/proc/self/exe", k->program, sizeof k->program - 1);
	if (n <= 0)
		dprintf(STDERR_FILENO, "davit-keeper: cannot read /proc/self/exe: %s\n", strerror(errno));
	r = upgraded ? start_upgraded(k, (int)fd, &err) : become_daemon((int)fd, &ready, &err);
	if (r == 0 && !upgraded) {
		fd = move_up((int)fd);
		r = start(k, &err);
	}
	if (r == 0 && !upgraded)
		report_ready(k, ready, (int)fd);
	if (r == 0)
		r = keeper_loop(k, &err);
	if (r < 0) {
		dprintf(STDERR_FILENO, "davit-keeper: %s\n", err.message);
		return 1;
	}
	clean_up(k);
	return 0;
}
