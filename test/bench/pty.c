/* SPDX-License-Identifier: MIT
 *
 * The bare loop around a pseudoterminal: runs a command on one and copies between it
 * and standard input and output, which are a terminal. It is what there would be in
 * davit's place: bench-pty COMMAND [ARGUMENT...]
 */
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* False at the end of `from`. */
static bool copy(int from, int to)
{
	static char buf[65536];
	ssize_t n = read(from, buf, sizeof buf), done = 0, w;

	while (done < n) {
		w = write(to, buf + done, (size_t)(n - done));
		if (w < 0 && errno != EINTR)
			return false;
		done += w > 0 ? w : 0;
	}
	return n > 0 || (n < 0 && errno == EINTR);
}

int main(int argc, char **argv)
{
	struct termios old, raw;
	struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};
	int status = 0;
	pid_t pid;

	if (argc < 2 || tcgetattr(STDIN_FILENO, &old) < 0)
		return 2;
	raw = old;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	pid = forkpty(&fds[1].fd, NULL, NULL, NULL);
	if (pid == 0) {
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	while (pid > 0 && (poll(fds, 2, -1) >= 0 || errno == EINTR)) {
		if (fds[0].revents && !copy(STDIN_FILENO, fds[1].fd))
			break;
		if (fds[1].revents && !copy(fds[1].fd, STDOUT_FILENO))
			break;
	}
	close(fds[1].fd);
	waitpid(pid, &status, 0);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &old);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
