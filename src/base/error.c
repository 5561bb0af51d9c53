/* SPDX-License-Identifier: MIT */
#include "davit/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	int code;
	int http;
	const char *word;
	const char *doc;
} errors[] = {
#define X(sym, num, word, http, doc) {DAVIT_##sym, http, word, doc},
	DAVIT_ERROR_LIST(X)
#undef X
};

static const struct {
	int sys;
	int code;
} errno_codes[] = {
	{ENOENT, DAVIT_ENOENT},	      {ENOTDIR, DAVIT_ENOENT},	   {EACCES, DAVIT_EPERM},
	{EPERM, DAVIT_EPERM},	      {EROFS, DAVIT_EPERM},	   {ENOMEM, DAVIT_ENOMEM},
	{ENOSPC, DAVIT_ENOSPC},	      {EDQUOT, DAVIT_ENOSPC},	   {EEXIST, DAVIT_EEXIST},
	{ETIMEDOUT, DAVIT_ETIMEDOUT}, {EADDRINUSE, DAVIT_EINUSE},  {ECONNREFUSED, DAVIT_EUNAVAIL},
	{ECONNRESET, DAVIT_ECLOSED},  {EPIPE, DAVIT_ECLOSED},	   {EINVAL, DAVIT_EINVAL},
	{ENOSYS, DAVIT_ENOTSUP},      {EOPNOTSUPP, DAVIT_ENOTSUP}, {ENOEXEC, DAVIT_EEXEC},
	{ECANCELED, DAVIT_ECANCELED},
};

void davit_error_clear(struct davit_error *err)
{
	if (err)
		memset(err, 0, sizeof *err);
}

static __attribute__((format(printf, 5, 0))) void fill(struct davit_error *err, int code, int sys,
						       const char *where, const char *fmt, va_list ap)
{
	davit_error_clear(err);
	err->code = code;
	err->sys_errno = sys;
	if (where)
		snprintf(err->where, sizeof err->where, "%s", where);
	vsnprintf(err->message, sizeof err->message, fmt, ap);
	if (sys) {
		size_t n = strlen(err->message);
		char buf[96];
		snprintf(err->message + n, sizeof err->message - n, ": %s", strerror_r(sys, buf, sizeof buf));
	}
}

int(davit_error_set)(struct davit_error *err, int code, const char *where, const char *fmt, ...)
{
	if (err) {
		int saved = errno;
		va_list ap;
		va_start(ap, fmt);
		fill(err, code, 0, where, fmt, ap);
		va_end(ap);
		errno = saved;
	}
	return code;
}

int(davit_error_errno)(struct davit_error *err, int sys, const char *where, const char *fmt, ...)
{
	int code = DAVIT_EIO;

	for (size_t i = 0; i < sizeof errno_codes / sizeof *errno_codes; i++)
		if (errno_codes[i].sys == sys)
			code = errno_codes[i].code;
	if (err) {
		int saved = errno;
		va_list ap;
		va_start(ap, fmt);
		fill(err, code, sys, where, fmt, ap);
		va_end(ap);
		errno = saved;
	}
	return code;
}

int davit_error_copy(struct davit_error *dst, const struct davit_error *src)
{
	if (!src)
		return 0;
	if (dst && dst != src)
		*dst = *src;
	return src->code;
}

void davit_error_prefix(struct davit_error *err, const char *fmt, ...)
{
	char text[sizeof err->message];
	va_list ap;
	size_t n;

	if (!err)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	n = strlen(text);
	snprintf(text + n, sizeof text - n, ": %s", err->message);
	memcpy(err->message, text, sizeof text);
}

const char *davit_error_word(int code)
{
	if (!code)
		return "ok";
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].code == code)
			return errors[i].word;
	return "internal";
}

int davit_error_from_word(const char *word)
{
	if (word && !strcmp(word, "ok"))
		return 0;
	for (size_t i = 0; word && i < sizeof errors / sizeof *errors; i++)
		if (!strcmp(errors[i].word, word))
			return errors[i].code;
	return DAVIT_EINTERNAL;
}

int davit_error_http(int code)
{
	if (!code)
		return 200;
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].code == code)
			return errors[i].http;
	return 500;
}

const char *davit_error_doc(int code)
{
	if (!code)
		return "success";
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].code == code)
			return errors[i].doc;
	return "a defect in davit";
}
