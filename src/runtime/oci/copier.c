/* SPDX-License-Identifier: MIT
 *
 * davit-copy ROOT BUNDLE PID put|get PATH
 *
 * Copies a tar stream from standard input into a container, or from it to standard output.
 * The daemon runs it as a child. A failure is told by a line on standard error, and its code
 * (davit/error.h, without the sign) is the exit status.
 */
#include "runtime/oci/copier.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct davit_error err = {0};
	bool put = argc == 6 && !strcmp(argv[4], "put");
	bool owners = geteuid() == 0; /* asked before we are root of a namespace */
	int root, r;

	if (argc != 6 || (!put && strcmp(argv[4], "get"))) {
		fprintf(stderr, "usage: davit-copy ROOT BUNDLE PID put|get PATH\n");
		return -DAVIT_EINVAL;
	}
	signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error like others */
	umask(0);
	root = copier_root(argv[1], argv[2], atoi(argv[3]), &err);
	if (root < 0)
		r = root;
	else
		r = put ? copier_put(root, argv[5], STDIN_FILENO, owners, &err)
			: copier_get(root, argv[5], STDOUT_FILENO, owners, &err);
	if (r < 0)
		fprintf(stderr, "%s\n", err.message);
	return -r;
}
