/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include "base/units.h"
#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const names[] = {
	[DAVIT_LOG_ERROR] = "error",
	[DAVIT_LOG_WARNING] = "warning",
	[DAVIT_LOG_INFO] = "info",
	[DAVIT_LOG_DEBUG] = "debug",
};

static enum davit_log_level threshold = DAVIT_LOG_INFO;

void davit_log_set_level(enum davit_log_level level)
{
	threshold = level;
}

int davit_log_level_from_name(const char *name)
{
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -1;
}

static void (*diverted)(enum davit_log_level, const char *);

void davit_log_divert(void (*fn)(enum davit_log_level level, const char *text))
{
	diverted = fn;
}

void davit_log(enum davit_log_level level, const char *fmt, ...)
{
	char line[1024], when[DAVIT_TIME_MAX];
	struct timespec ts;
	va_list ap;
	int n, m;

	if (level > threshold)
		return;
	if (diverted) {
		va_start(ap, fmt);
		vsnprintf(line, sizeof line, fmt, ap);
		va_end(ap);
		diverted(level, line);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	davit_time_format((int64_t)ts.tv_sec * DAVIT_NSEC_PER_SEC + ts.tv_nsec, when);
	n = snprintf(line, sizeof line, "%s %s: ", when, names[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	va_end(ap);
	n = n + m < (int)sizeof line - 1 ? n + m : (int)sizeof line - 2;
	line[n++] = '\n';
	davit_write_full(STDERR_FILENO, line, (size_t)n);
}
