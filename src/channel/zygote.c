/* SPDX-License-Identifier: MIT */
#include "channel/zygote.h"

#include "base/util.h"
#include "channel/frame.h"
#include "channel/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { FDS = 3 }; /* of a request: the channel, standard output, standard error */

/* Of a request, before what the caller says. */
struct request {
	uint64_t stays; /* it executes no other program */
	char data[];
};

static struct {
	pthread_mutex_t lock;
	int users;
	int socket; /* to the zygote */
	davit_zygote_main *run;
	void (*warm)(void);
	pthread_t thread; /* forked it and waits for the end: a death signal is for the end of a thread */
	sem_t forked, over;
	pid_t pid;
	int error;
} zygote = {.lock = PTHREAD_MUTEX_INITIALIZER, .socket = -1};

/* With as many of both descriptors as there are. */
static void send_frame(int channel, const struct davit_frame *f, const char *text, const int fds[2])
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {0};
	size_t size = (fds[0] < 0 ? 0 : fds[1] < 0 ? 1 : 2) * sizeof(int);
	unsigned char header[DAVIT_FRAME_HEADER];
	struct iovec iov[2] = {{header, sizeof header}, {(void *)(uintptr_t)text, f->size}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

	davit_frame_put(header, f);
	if (size) {
		struct cmsghdr *c;
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(size);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(c), fds, size);
	}
	(void)DAVIT_EINTR(sendmsg(channel, &m, MSG_NOSIGNAL));
}

/* The answer of one that could not become what it should. */
static void send_failure(int channel, int code, const char *what, int e)
{
	char text[256];

	/* `what` is ours, and strerror's texts need no escapes. */
	snprintf(text, sizeof text, "{\"state\":\"destroyed\",\"message\":\"%s: %s\"}", what, strerror(e));
	send_frame(channel,
		   &(struct davit_frame){.kind = DAVIT_FRAME_STATE,
					 .size = (uint32_t)strlen(text),
					 .type = (uint32_t)-code},
		   text, (const int[]){-1, -1});
}

/* --- in the zygote, and in what comes from it --- */

static void plain_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP)
			signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The new process. */
static void begin(pid_t parent, const int fds[FDS], const struct request *r, size_t n)
{
	int ends[2]; /* to wait for: of this process, and of its holder */

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	for (int i = 1; i < FDS; i++)
		if (fds[i] != i)
			dup2(fds[i], i);
	setvbuf(stdout, NULL, _IOLBF, 0);
	ends[0] = (int)syscall(SYS_pidfd_open, getpid(), 0);
	ends[1] = r->stays ? davit_holder_start(ends[0]) : -1;
	send_frame(fds[0], &(struct davit_frame){.kind = DAVIT_FRAME_SPAWNED}, "", ends);
	for (int i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
	for (int i = 1; i < FDS; i++)
		close(fds[i]);
	close(zygote.socket);
	/* The program's; this process may have one of its own. Its lock was held at the fork. */
	pthread_mutex_init(&zygote.lock, NULL);
	zygote.users = 0;
	zygote.socket = -1;
	n = (size_t)zygote.run(fds[0], r->data, n);
	fflush(NULL);
	_exit((int)n);
}

/* One request. False: the program has gone. fds[0] is -1 when its descriptors did not
 * come, for want of some; the system has closed the other end's then. */
static bool take(char *buf, size_t size, size_t *ret_n, int fds[FDS])
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS * sizeof(int))];
	struct iovec iov = {buf, size};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	long n = DAVIT_EINTR(recvmsg(zygote.socket, &m, MSG_CMSG_CLOEXEC));
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (n <= 0)
		return false;
	fds[0] = -1;
	if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(FDS * sizeof(int)))
		memcpy(fds, CMSG_DATA(c), FDS * sizeof(int));
	*ret_n = (size_t)n;
	return true;
}

/* One request, one process. */
static void serve(pid_t parent)
{
	static _Alignas(struct request) char buf[sizeof(struct request) + DAVIT_ZYGOTE_REQUEST_MAX];
	int fds[FDS];
	size_t n;
	long pid;

	if (!take(buf, sizeof buf, &n, fds))
		_exit(0);
	if (fds[0] < 0)
		return;
	/* The raw call, since fork() makes no siblings; there is one thread, so all is well. */
	pid = syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0);
	if (!pid)
		begin(parent, fds, (const struct request *)buf, n - sizeof(struct request));
	if (pid < 0)
		send_failure(fds[0], DAVIT_EUNAVAIL, "cannot fork", errno);
	for (int i = 0; i < FDS; i++)
		close(fds[i]);
}

static void zygote_loop(int socket, pid_t parent)
{
	int null;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	prctl(PR_SET_NAME, "davit-zygote");
	setsid(); /* what the terminal sends is for the program to decide on */
	plain_signals();
	/* Nothing of the program's but its output: pipes and sockets would not end. */
	zygote.socket = dup2(socket, 3) < 0 ? socket : 3;
	fcntl(zygote.socket, F_SETFD, FD_CLOEXEC);
	if (zygote.socket == 3)
		close_range(4, ~0u, 0);
	if ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0) {
		dup2(null, 0);
		for (int i = 1; i < 3; i++)
			if (fcntl(i, F_GETFD) < 0)
				dup2(null, i);
		if (null > 2)
			close(null);
	}
	/* What the program had not yet written is the program's to write. */
	__fpurge(stdout);
	__fpurge(stderr);
	zygote.warm();
	for (;;)
		serve(parent);
}

int davit_zygote_exec(int channel, char *const *argv)
{
	char number[16];

	fcntl(channel, F_SETFD, 0);
	snprintf(number, sizeof number, "%d", channel);
	setenv("DAVIT_CHANNEL", number, 1);
	plain_signals();
	execvp(argv[0], argv);
	return errno;
}

/* --- in the program --- */

/* Forks the zygote and stays until the last one has closed it. */
static void *thread_main(void *arg)
{
	int ends[2];
	pid_t self = getpid(), pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		zygote.error = errno;
		sem_post(&zygote.forked);
		return NULL;
	}
	pid = fork();
	if (!pid)
		zygote_loop(ends[1], self);
	zygote.error = pid < 0 ? errno : 0;
	close(ends[1]);
	zygote.pid = pid;
	zygote.socket = ends[0];
	sem_post(&zygote.forked);
	if (pid < 0) {
		close(ends[0]);
		return NULL;
	}
	while (sem_wait(&zygote.over) && errno == EINTR)
		;
	close(ends[0]);
	(void)DAVIT_EINTR(waitpid(pid, NULL, 0));
	return NULL;
}

int davit_zygote_open(davit_zygote_main *run, void (*warm)(void), struct davit_error *err)
{
	sigset_t all, old;
	int r = 0;

	pthread_mutex_lock(&zygote.lock);
	if (zygote.users++) {
		pthread_mutex_unlock(&zygote.lock);
		return 0;
	}
	zygote.run = run;
	zygote.warm = warm;
	sem_init(&zygote.forked, 0, 0);
	sem_init(&zygote.over, 0, 0);
	/* Its thread takes none of the program's signals. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&zygote.thread, NULL, thread_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r) {
		while (sem_wait(&zygote.forked) && errno == EINTR)
			;
		if ((r = zygote.error))
			pthread_join(zygote.thread, NULL);
	}
	if (r) {
		zygote.users = 0;
		zygote.socket = -1;
	}
	pthread_mutex_unlock(&zygote.lock);
	return r ? davit_error_errno(err, r, "process", "no processes can be started") : 0;
}

void davit_zygote_close(void)
{
	pthread_mutex_lock(&zygote.lock);
	if (zygote.users && !--zygote.users) {
		sem_post(&zygote.over);
		pthread_join(zygote.thread, NULL);
		sem_destroy(&zygote.forked);
		sem_destroy(&zygote.over);
		zygote.socket = -1;
	}
	pthread_mutex_unlock(&zygote.lock);
}

int davit_zygote_spawn(int channel, bool stays, const void *request, size_t n)
{
	struct request r = {stays};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS * sizeof(int))] = {0};
	int fds[FDS] = {channel, 1, 2}, null = -1;
	struct iovec iov[2] = {{&r, sizeof r}, {(void *)(uintptr_t)request, n}};
	struct msghdr m = {
		.msg_iov = iov, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	long sent;

	if (!n || n > DAVIT_ZYGOTE_REQUEST_MAX)
		return DAVIT_EINVAL;
	for (int i = 1; i < FDS; i++) { /* closed ones cannot be passed */
		if (fcntl(fds[i], F_GETFD) >= 0)
			continue;
		if (null < 0 && (null = open("/dev/null", O_WRONLY | O_CLOEXEC)) < 0)
			return DAVIT_EUNAVAIL;
		fds[i] = null;
	}
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fds);
	memcpy(CMSG_DATA(c), fds, sizeof fds);
	pthread_mutex_lock(&zygote.lock);
	sent = zygote.socket < 0 ? -1 : DAVIT_EINTR(sendmsg(zygote.socket, &m, MSG_NOSIGNAL));
	pthread_mutex_unlock(&zygote.lock);
	if (null >= 0)
		close(null);
	return sent < 0 ? DAVIT_EUNAVAIL : 0;
}
