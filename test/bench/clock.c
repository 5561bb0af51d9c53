/* SPDX-License-Identifier: MIT
 *
 * The smallest of services: bench-clock [FILE]. Writes its first reading of the
 * monotonic clock, in nanoseconds, to the file, and waits for a signal.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct timespec ts;
	char text[32];
	int fd, n;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	if (argc > 1) {
		n = snprintf(text, sizeof text, "%lld\n", (long long)ts.tv_sec * 1000000000 + ts.tv_nsec);
		fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || write(fd, text, (size_t)n) != n)
			return 1;
		close(fd);
	}
	for (;;)
		pause();
}
