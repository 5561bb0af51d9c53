/* SPDX-License-Identifier: MIT */
#include "base/fault.h"

#include "base/util.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

int davit_fault_armed = -1;

void davit_fault_hit(const char *name)
{
	static const char *target, *list;
	static size_t target_len;
	static long countdown;

	if (davit_fault_armed < 0) {
		const char *colon;
		target = secure_getenv("DAVIT_FAULT");
		list = secure_getenv("DAVIT_FAULT_LIST");
		davit_fault_armed = target || list;
		if (target) {
			colon = strchr(target, ':');
			target_len = colon ? (size_t)(colon - target) : strlen(target);
			countdown = colon ? strtol(colon + 1, NULL, 10) : 1;
		}
	}
	if (list) {
		DAVIT_AUTO_CLOSE int fd = open(list, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		char line[128];
		size_t n = strlen(name) < sizeof line - 1 ? strlen(name) : sizeof line - 1;
		memcpy(line, name, n);
		line[n] = '\n';
		if (fd >= 0)
			davit_write_full(fd, line, n + 1);
	}
	if (target && strlen(name) == target_len && !memcmp(name, target, target_len) && --countdown == 0)
		kill(getpid(), SIGKILL);
}
