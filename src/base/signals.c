/* SPDX-License-Identifier: MIT */
#include "base/signals.h"

#include "base/units.h"
#include "base/util.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define S(name)                                                                                              \
	{                                                                                                    \
#name, SIG##name                                                                             \
	}

static const struct {
	const char *name;
	int signo;
} names[] = {
	S(HUP),	 S(INT),  S(QUIT), S(ILL),  S(TRAP), S(ABRT), S(BUS),	 S(FPE),  S(KILL),  S(USR1),
	S(SEGV), S(USR2), S(PIPE), S(ALRM), S(TERM), S(CHLD), S(CONT),	 S(STOP), S(TSTP),  S(TTIN),
	S(TTOU), S(URG),  S(XCPU), S(XFSZ), S(PROF), S(SYS),  S(VTALRM), S(IO),	  S(WINCH),
};

int davit_signal_parse(const char *s)
{
	int64_t n;

	if (!davit_int_parse(s, 1, SIGRTMAX, &n, NULL))
		return (int)n;
	if (!strncasecmp(s, "SIG", 3))
		s += 3;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++)
		if (!strcasecmp(s, names[i].name))
			return names[i].signo;
	if (!strcasecmp(s, "RTMIN"))
		return SIGRTMIN;
	if (!strcasecmp(s, "RTMAX"))
		return SIGRTMAX;
	if (!strncasecmp(s, "RTMIN+", 6) && !davit_int_parse(s + 6, 1, SIGRTMAX - SIGRTMIN, &n, NULL))
		return SIGRTMIN + (int)n;
	return -1;
}

char *davit_signal_format(int signo, char buf[DAVIT_SIGNAL_MAX])
{
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++)
		if (names[i].signo == signo) {
			snprintf(buf, DAVIT_SIGNAL_MAX, "SIG%s", names[i].name);
			return buf;
		}
	if (signo > SIGRTMIN && signo <= SIGRTMAX)
		snprintf(buf, DAVIT_SIGNAL_MAX, "SIGRTMIN+%d", signo - SIGRTMIN);
	else
		snprintf(buf, DAVIT_SIGNAL_MAX, signo == SIGRTMIN ? "SIGRTMIN" : "%d", signo);
	return buf;
}
