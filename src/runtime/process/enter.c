/* SPDX-License-Identifier: MIT
 *
 * davit-enter: takes a process into its network namespace and makes it another user, in this
 * order, and executes its program. The keeper starts it as root, where the program would be.
 *
 *   davit-enter NETNS UID GID[,GROUP...] PROGRAM WORD...
 *
 * What fails ends it with 126, or with 127 where there is no such program, as a shell does: it is
 * never executed elsewhere, nor as anybody else.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define GROUPS_MAX 1024
#define CAPABILITIES 64 /* more than there are: EINVAL for those that are none */

static _Noreturn void fail(const char *what, const char *which)
{
	fprintf(stderr, "davit-enter: cannot %s %s: %s\n", what, which, strerror(errno));
	exit(126);
}

static _Noreturn void execute(char **argv)
{
	execv(argv[0], argv + 1);
	if (errno != ENOENT)
		fail("execute", argv[0]);
	fprintf(stderr, "davit-enter: cannot execute %s: %s\n", argv[0], strerror(errno));
	exit(127);
}

static unsigned number(const char *text, const char **end)
{
	char *stop;
	unsigned long n = strtoul(text, &stop, 10);

	if (stop == text || (*stop && *stop != ',') || n >= 0xffffffffUL) {
		errno = EINVAL;
		fail("read", text);
	}
	*end = stop;
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	static gid_t groups[GROUPS_MAX];
	const char *end;
	size_t n = 0;
	uid_t uid;
	int fd;

	if (argc < 6) {
		fprintf(stderr, "usage: davit-enter NETNS UID GID[,GROUP...] PROGRAM WORD...\n");
		return 2;
	}
	uid = number(argv[2], &end);
	if (*end || !uid) {
		errno = EPERM; /* root could leave again */
		fail("become user", argv[2]);
	}
	for (end = argv[3];; end++) {
		if (n == GROUPS_MAX) {
			errno = E2BIG;
			fail("have the groups", argv[3]);
		}
		groups[n++] = number(end, &end);
		if (!*end)
			break;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		fail("enter", argv[1]);
	close(fd);
	/* Whatever is executed by whomever from here on has none of them. */
	for (int cap = 0; cap < CAPABILITIES; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EINVAL)
			fail("give up", "capabilities");
	if (setgroups(n - 1, groups + 1) < 0 || setresgid(groups[0], groups[0], groups[0]) < 0)
		fail("have the groups", argv[3]);
	if (setresuid(uid, uid, uid) < 0)
		fail("become user", argv[2]);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail("give up", "new privileges");
	execute(argv + 4);
}
