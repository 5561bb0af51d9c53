/* SPDX-License-Identifier: MIT
 *
 * What init, or who is in its place, reports to the monitor.
 */
#include "step/helper.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void step_report(struct step *s, const struct step_report *r)
{
	/* A packet: whole or not at all. The monitor reads all the time; without one nobody wants it. */
	while (send(s->status_fd, r, sizeof *r, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

void step_fail(struct step *s, int code, int sys_errno, const char *fmt, ...)
{
	struct step_report r = {.kind = STEP_FAILED, .code = code, .sys_errno = sys_errno};
	size_t n;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r.text, sizeof r.text, fmt, ap);
	va_end(ap);
	n = strlen(r.text);
	if (sys_errno)
		snprintf(r.text + n, sizeof r.text - n, ": %s", strerror(sys_errno));
	step_report(s, &r);
	_exit(1);
}

void step_note(struct step *s, const char *fmt, ...)
{
	struct step_report r = {.kind = STEP_NOTE};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r.text, sizeof r.text, fmt, ap);
	va_end(ap);
	step_report(s, &r);
}
