/* SPDX-License-Identifier: MIT
 *
 * Whether what was just started has come to stay. Without a sign of its own a program counts as
 * ready when it is executed, also one that is about to end. What stays soon waits for something;
 * what ends at once never does. So the main processes are looked at, which costs a server nothing.
 */
#include "cli/follow.h"

#include "base/file.h"
#include "cli/output.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WORKED_MS 50 /* of processor time: it does what it is there for */

/* State and processor time, from /proc/PID/stat; the name in it may have any form. */
static bool look(int pid, char *ret_state, int64_t *ret_ms)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	unsigned long user, system;
	char path[32];
	const char *p;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if (davit_read_file(path, 4096, &text, NULL) < 0)
		return false;
	p = strrchr(davit_buf_str(&text), ')');
	if (!p ||
	    sscanf(p, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", ret_state, &user, &system) != 3)
		return false;
	*ret_ms = (int64_t)(user + system) * 1000 / sysconf(_SC_CLK_TCK);
	return true;
}

static enum davit_settled settled(int pid)
{
	char state;
	int64_t worked;

	if (!look(pid, &state, &worked)) /* it may only be hidden from us */
		return kill(pid, 0) == 0 || errno == EPERM ? DAVIT_SETTLED : DAVIT_SETTLED_NOT;
	if (state == 'Z' || state == 'X')
		return DAVIT_SETTLED_NOT;
	return (state != 'R' && state != 'D') || worked >= WORKED_MS ? DAVIT_SETTLED : DAVIT_SETTLED_YET;
}

enum davit_settled davit_service_settled(const json_t *service)
{
	enum davit_settled worst = DAVIT_SETTLED;
	json_t *i;
	size_t index;

	json_array_foreach(json_object_get(service, "instances"), index, i)
	{
		int pid = (int)davit_integer(i, "pid");
		enum davit_settled s = pid > 0 ? settled(pid) : DAVIT_SETTLED;
		if (s > worst)
			worst = s;
	}
	return worst;
}
